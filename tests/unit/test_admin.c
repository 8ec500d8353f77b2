/*
 * Goal: whatever a node answers to `stele status` and `stele scrub`, they end in order, and none of its words is an order to
 * the terminal. The nodes are strings here: this file stands in for the archive's handle and its questions.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/admin.h"
#include "net/cluster/map.h"
#include "net/wire/ops_format.h"
#include "tools/cmd_admin.h"
#include "tools/open.h"

static struct stele_map map; /* without pools: what nodes say of themselves is enough here */
static const char *status_body, *scrub_body, *down;
static char *out_text, *err_text;

enum stele_err stele_cli_open(const struct stele_cli *cli, struct stele **out)
{
	(void)cli;
	*out = NULL;
	return STELE_OK;
}

void stele_cli_close(struct stele *s)
{
	(void)s;
}

struct stele_map *stele_map_of(struct stele *s)
{
	(void)s;
	return &map;
}

void stele_pause(struct stele *s, uint64_t ns)
{
	(void)s;
	(void)ns;
}

/* Node 1 answers; node 2 does not, and `down` says why. */
enum stele_err stele_ask_nodes(struct stele *s, uint16_t op, const char *json, uint64_t timeout_ns,
                               struct stele_node_answer **answers, uint32_t *n)
{
	struct stele_node_answer *a = calloc(2, sizeof(*a));
	(void)s;
	(void)json;
	(void)timeout_ns;
	for (uint16_t i = 0; i < 2; i++) {
		a[i].node = (uint16_t)(i + 1);
		snprintf(a[i].name, sizeof(a[i].name), "node%d", i + 1);
		snprintf(a[i].addr, sizeof(a[i].addr), "127.0.0.1:%d", i + 1);
	}
	a[0].body = strdup(op == STELE_OPCODE_STATUS ? status_body : scrub_body);
	a[1].err = STELE_ERR_UNAVAILABLE;
	snprintf(a[1].detail, sizeof(a[1].detail), "%s", down);
	*answers = a;
	*n = 2;
	return STELE_OK;
}

enum stele_err stele_ask_node(struct stele *s, uint16_t node, uint16_t op, const char *json,
                              uint64_t timeout_ns, struct stele_node_answer **answer)
{
	uint32_t n;
	(void)node;
	return stele_ask_nodes(s, op, json, timeout_ns, answer, &n);
}

void stele_answers_free(struct stele_node_answer *answers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free(answers[i].body);
	free(answers);
}

/* Runs "stele <line>"; nothing that it prints moves a cursor. */
static int stele(const char *line)
{
	static const struct stele_command *const tables[] = {stele_cmd_admin, NULL};
	char copy[64], *argv[8] = {"stele"}, *save = NULL;
	int argc = 1;
	size_t n;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	free(out_text);
	free(err_text);
	FILE *out = open_memstream(&out_text, &n), *err = open_memstream(&err_text, &n);
	int code = stele_cli_main("stele", "", tables, argc, argv, out, err);
	fclose(out);
	fclose(err);
	for (const char *p = out_text; *p; p++) {
		cr_assert(*p == '\n' || ((unsigned char)*p >= ' ' && *p != 0x7f), "%s", out_text);
		cr_assert(p[0] != '\xc2' || (unsigned char)p[1] >= 0xa0, "%s", out_text);
	}
	return code;
}

static void setup(void)
{
	status_body = scrub_body = "{}";
	down = "no answer";
}

static void teardown(void)
{
	free(out_text);
	free(err_text);
}

#define ADMIN(name) Test(admin, name, .init = setup, .fini = teardown)

ADMIN(a_node_may_answer_anything)
{
	static const char *const bodies[] = {
	    "{\"slots\":[{}]}",
	    "{\"slots\":[1,null,\"x\",[]]}",
	    "{\"slots\":{\"state\":\"serving\"}}",
	    "{\"slots\":[{\"state\":7,\"reason\":{},\"fence\":[],\"used\":-1,\"shards\":\"x\"}]}",
	    "{\"slots\":[{\"state\":\"missing\"}]}",
	    "{\"health\":[1,[],[0,0,0]]}",
	    "[]",
	    "",
	};
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		status_body = bodies[i];
		int code = stele("status");
		cr_assert(code == 0 || code == 3 || code == 7, "%s: %d", bodies[i], code);
		cr_assert_eq(stele("status --json"), code, "%s", bodies[i]);
		scrub_body = "{\"named\":[{},7,{\"id\":7,\"why\":null}]}";
		code = stele("scrub --wait");
		cr_assert(code == 0 || code == 3 || code == 7, "%s: %d", bodies[i], code);
	}
}

ADMIN(words_of_nodes_are_no_orders)
{
	status_body = "{\"slots\":[{\"state\":\"\\u001b[32mserving\",\"fence\":\"a\\nb\\u009b2J\"},"
	              "{\"state\":\"missing\",\"reason\":\"\\u001b]0;x\\u0007\"}]}";
	scrub_body = "{\"named\":[{\"id\":\"\\u001b[2J\",\"why\":\"\\r\\u007f\"}]}";
	down = "\x1b[31mgone\n";
	stele("status");
	cr_assert_not_null(strstr(out_text, "?[32mserving"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "a?b?2J\n"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "missing    ?]0;x?\n"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "down  ?[31mgone?\n"), "%s", out_text);
	stele("scrub --wait");
	cr_assert_not_null(strstr(out_text, "sha256:?[2J kind 0 index 0: ??\n"), "%s", out_text);
}

ADMIN(a_reason_that_is_no_text_is_told_in_json_all_the_same)
{
	down = "/disk\xff";
	stele("status --json");
	cr_assert_not_null(strstr(out_text, "\"why\": \"/disk\xef\xbf\xbd\""), "%s", out_text);
}
