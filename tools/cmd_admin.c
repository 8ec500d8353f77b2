/* status, repair, scrub, disks: what an operator looks at and orders. */
#include "tools/cmd_admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/wire/ops_format.h"
#include "tools/health.h"
#include "tools/json_out.h"
#include "tools/open.h"
#include "tools/progress.h"
#include "tools/tty.h"

#define CALL_NS    (10ull * 1000 * 1000 * 1000)
#define POLL_NS    (200ull * 1000 * 1000)
#define SILENT_MAX 1024u /* more than are named */

/* ---- status ---- */

static json_t *margin_json(int margin)
{
	return margin == STELE_MARGIN_NONE ? json_null() : json_integer(margin);
}

static json_t *health_json(const struct stele_health_report *r)
{
	json_t *pools = json_array();
	for (uint32_t i = 0; i < r->npools; i++) {
		const struct stele_pool_health *p = &r->pool[i];
		json_array_append_new(
		    pools,
		    json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:i, s:i, s:i}", "name", p->name,
		              "tolerance", (int)p->t, "margin", margin_json(p->margin), "things",
		              stele_json_u64(p->things), "degraded", stele_json_u64(p->degraded),
		              "bytes", stele_json_u64(p->bytes), "groups", (int)p->groups,
		              "groups_unseen", (int)p->groups_unseen, "groups_blind",
		              (int)p->groups_blind));
	}
	json_t *nodes = json_array();
	for (uint32_t i = 0; i < r->nnodes; i++) {
		const struct stele_node_answer *a = &r->answer[i];
		json_t *node = json_pack("{s:i, s:s, s:s, s:b}", "node", (int)a->node, "name",
		                         a->name, "addr", a->addr, "up", r->json[i] != NULL);
		if (!r->json[i])
			json_object_set_new(node, "why", stele_json_text(a->detail));
		else
			for (const char *const *k =
			         (const char *const[]){"slots", "repair", "scrub", "collect", NULL};
			     *k; k++)
				json_object_set(node, *k, json_object_get(r->json[i], *k));
		json_array_append_new(nodes, node);
	}
	return json_pack("{s:s, s:o, s:o, s:o, s:i, s:i, s:o, s:o}", "state", stele_health_word(r),
	                 "margin", margin_json(r->margin), "things", stele_json_u64(r->things),
	                 "degraded", stele_json_u64(r->degraded), "nodes_up", (int)r->up,
	                 "nodes_all", (int)r->nnodes, "pools", pools, "nodes", nodes);
}

/* What a node says under that name, "" where it says none. */
static const char *word_of(const json_t *o, const char *key)
{
	const char *word = json_string_value(json_object_get(o, key));
	return word ? word : "";
}

static void print_slot(FILE *out, const json_t *slot, size_t at)
{
	char used[STELE_SIZE_TEXT], cap[STELE_SIZE_TEXT];
	const char *state = word_of(slot, "state"), *note = word_of(slot, "fence");
	size_t len = strlen(state);
	bool good = strcmp(state, "serving") == 0;
	if (!*note)
		note = word_of(slot, "reason");
	fputs(stele_tty_style(out, good ? STELE_TTY_GREEN : STELE_TTY_YELLOW), out);
	stele_cli_print(out, state);
	fprintf(out, "%*s%s", len < 9 ? (int)(9 - len) : 0, "",
	        stele_tty_style(out, STELE_TTY_PLAIN));
	if (strcmp(state, "missing") != 0)
		fprintf(
		    out,
		    "  slot %zu  %s of %s  %" JSON_INTEGER_FORMAT " shards  %" JSON_INTEGER_FORMAT
		    " bad",
		    at,
		    stele_size_text((uint64_t)json_integer_value(json_object_get(slot, "used")),
		                    used),
		    stele_size_text((uint64_t)json_integer_value(json_object_get(slot, "capacity")),
		                    cap),
		    json_integer_value(json_object_get(slot, "shards")),
		    json_integer_value(json_object_get(slot, "bad")));
	fputs(*note ? "  " : "", out);
	stele_cli_print(out, note);
	fputc('\n', out);
}

static void print_node(const struct stele_cli *cli, const struct stele_node_answer *a,
                       const json_t *json)
{
	FILE *out = cli->out;
	if (!json) {
		fprintf(out, "  %-4u %-12s %-22s %sdown%s  ", a->node, a->name, a->addr,
		        stele_tty_style(out, STELE_TTY_RED), stele_tty_style(out, STELE_TTY_PLAIN));
		stele_cli_print(out, a->detail);
		fputc('\n', out);
		return;
	}
	size_t at;
	json_t *slot;
	json_array_foreach(json_object_get(json, "slots"), at, slot)
	{
		fprintf(out, "  %-4u %-12s %-22s ", a->node, at == 0 ? a->name : "",
		        at == 0 ? a->addr : "");
		print_slot(out, slot, at);
	}
}

static void print_margin(FILE *out, int margin)
{
	if (margin == STELE_MARGIN_NONE)
		fprintf(out, "%7s", "-");
	else
		fprintf(out, "%7d", margin);
}

static void print_health(const struct stele_cli *cli, const struct stele_health_report *r)
{
	FILE *out = cli->out;
	fprintf(out, "nodes: %u of %u answer\n", r->up, r->nnodes);
	for (uint32_t i = 0; i < r->nnodes; i++)
		print_node(cli, &r->answer[i], r->json[i]);
	fprintf(out, "pools:        margin  of  blocks  degraded       bytes\n");
	for (uint32_t i = 0; i < r->npools; i++) {
		const struct stele_pool_health *p = &r->pool[i];
		char bytes[STELE_SIZE_TEXT];
		fprintf(out, "  %-10s", p->name);
		print_margin(out, p->margin);
		fprintf(out, "%5u %7" PRIu64 " %9" PRIu64 " %11s%s\n", p->t, p->things, p->degraded,
		        stele_size_text(p->bytes, bytes),
		        p->groups_unseen + p->groups_blind
		            ? "  and what only disks hold that do not answer"
		            : "");
	}
	const char *word = stele_health_word(r);
	bool good = strcmp(word, "ok") == 0 || strcmp(word, "empty") == 0;
	fprintf(out, "state: %s%s%s", stele_tty_style(out, good ? STELE_TTY_GREEN : STELE_TTY_RED),
	        word, stele_tty_style(out, STELE_TTY_PLAIN));
	if (r->margin >= 0 && r->blind > 0)
		fprintf(out, ", so many disks do not answer that there may be more on them");
	else if (r->margin != STELE_MARGIN_NONE)
		fprintf(out, ", margin %d: every block survives the loss of %d more disks",
		        r->margin, r->margin < 0 ? 0 : r->margin);
	if (r->margin < 0)
		fprintf(out, ", some cannot be read until disks come back");
	fprintf(out, "\n");
}

static enum stele_err not_seen(const struct stele_health_report *r)
{
	return stele_fail(STELE_ERR_DEGRADED,
	                  "%u placement groups may hold things on disks alone that do not answer: "
	                  "what they survive is not known until disks come back",
	                  r->blind);
}

static enum stele_err verdict(const struct stele_health_report *r)
{
	if (r->margin < 0)
		return stele_fail(
		    STELE_ERR_UNAVAILABLE,
		    "some blocks cannot be read from the nodes that answer: bring nodes "
		    "back with `stele dev start` or by starting steled");
	if (r->blind > 0)
		return not_seen(r);
	if (r->degraded > 0)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "%" PRIu64 " of %" PRIu64
		                  " blocks and records are below full width: `stele repair --wait` "
		                  "restores it",
		                  r->degraded, r->things);
	return STELE_OK;
}

static enum stele_err run_status(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_health_report r;
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = stele_health_ask(s, &r);
	if (err == STELE_OK) {
		if (cli->json)
			err = stele_json_result(cli, health_json(&r));
		else
			print_health(cli, &r);
		if (err == STELE_OK)
			err = verdict(&r);
		stele_health_finish(&r);
	}
	stele_cli_close(s);
	return err;
}

/* ---- nodes that did not answer while something ran everywhere ---- */

struct silent {
	uint32_t n;
	uint16_t node[SILENT_MAX];
};

static void add_silent(struct silent *s, uint16_t node)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->node[i] == node)
			return;
	if (s->n < SILENT_MAX)
		s->node[s->n++] = node;
}

/* "2, 5"; returns out. */
static char *silent_text(const struct silent *s, char out[STELE_DETAIL_MAX])
{
	size_t at = 0;
	out[0] = '\0';
	for (uint32_t i = 0; i < s->n && at < STELE_DETAIL_MAX / 2; i++)
		at += (size_t)snprintf(out + at, STELE_DETAIL_MAX - at, "%s%u", i ? ", " : "",
		                       s->node[i]);
	return out;
}

static json_t *silent_json(const struct silent *s)
{
	json_t *a = json_array();
	for (uint32_t i = 0; i < s->n; i++)
		json_array_append_new(a, json_integer(s->node[i]));
	return a;
}

/* ---- repair ---- */

struct repair_sum {
	bool running;
	struct silent silent;
	uint64_t shards, copies, failures, bytes, bytes_todo, todo;
	char last_failure[STELE_DETAIL_MAX];
};

static uint64_t sum_field(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static enum stele_err ask_repair(struct stele *s, const char *json, struct repair_sum *sum)
{
	struct stele_node_answer *answer;
	uint32_t n, up = 0;
	*sum = (struct repair_sum){.silent = sum->silent};
	STELE_TRY(stele_ask_nodes(s, STELE_OPCODE_REPAIR, json, CALL_NS, &answer, &n));
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0; i < n; i++) {
		json_t *o = answer[i].err == STELE_OK && answer[i].body
		                ? json_loads(answer[i].body, 0, NULL)
		                : NULL;
		if (answer[i].err == STELE_ERR_DENIED)
			err = stele_fail(answer[i].err, "node %u: %s", answer[i].node,
			                 answer[i].detail);
		if (!o) {
			add_silent(&sum->silent, answer[i].node);
			continue;
		}
		const char *failure = json_string_value(json_object_get(o, "last_failure"));
		up++;
		sum->running |= json_is_true(json_object_get(o, "running"));
		sum->shards += sum_field(o, "shards");
		sum->copies += sum_field(o, "copies");
		sum->failures += sum_field(o, "failures");
		sum->bytes += sum_field(o, "bytes");
		sum->bytes_todo += sum_field(o, "bytes_todo");
		sum->todo += sum_field(o, "todo");
		if (failure && *failure)
			snprintf(sum->last_failure, sizeof(sum->last_failure), "%s", failure);
		json_decref(o);
	}
	stele_answers_free(answer, n);
	if (err == STELE_OK && up == 0)
		err = stele_fail(STELE_ERR_UNAVAILABLE, "none of %u nodes answers", n);
	return err;
}

/* Starts repair everywhere and follows it to its end. */
static enum stele_err repair_and_wait(struct stele_cli *cli, struct stele *s,
                                      struct repair_sum *sum)
{
	struct stele_bar bar;
	STELE_TRY(ask_repair(s, "{\"action\":\"start\"}", sum));
	stele_bar_start(&bar, cli, "repair", STELE_BAR_BYTES);
	enum stele_err err = STELE_OK;
	while (err == STELE_OK && sum->running) {
		stele_pause(s, POLL_NS);
		err = ask_repair(s, "{}", sum);
		stele_bar_step(&bar, sum->bytes, sum->bytes + sum->bytes_todo);
	}
	stele_bar_finish(&bar);
	return err;
}

static enum stele_err report_repair(struct stele_cli *cli, const struct stele_health_report *before,
                                    const struct stele_health_report *after,
                                    const struct repair_sum *sum)
{
	if (cli->json) {
		STELE_TRY(stele_json_result(
		    cli, json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o}",
		                   "margin_before", margin_json(before->margin), "margin_after",
		                   margin_json(after->margin), "state", stele_health_word(after),
		                   "shards", stele_json_u64(sum->shards), "copies",
		                   stele_json_u64(sum->copies), "bytes", stele_json_u64(sum->bytes),
		                   "failures", stele_json_u64(sum->failures), "degraded",
		                   stele_json_u64(after->degraded), "last_failure",
		                   sum->last_failure, "silent", silent_json(&sum->silent))));
	} else {
		char bytes[STELE_SIZE_TEXT], nodes[STELE_DETAIL_MAX];
		fprintf(cli->out,
		        "rebuilt %" PRIu64 " shards (%s), copied %" PRIu64
		        " records, marks and references\n",
		        sum->shards, stele_size_text(sum->bytes, bytes), sum->copies);
		fprintf(cli->out, "margin before:");
		print_margin(cli->out, before->margin);
		fprintf(cli->out, "   degraded %" PRIu64 "\nmargin after: ", before->degraded);
		print_margin(cli->out, after->margin);
		fprintf(cli->out, "   degraded %" PRIu64 "\n", after->degraded);
		if (sum->silent.n)
			fprintf(cli->out, "did not answer, and repaired nothing: nodes %s\n",
			        silent_text(&sum->silent, nodes));
	}
	if (after->margin < 0)
		return stele_fail(STELE_ERR_UNAVAILABLE,
		                  "some blocks have too few shards on the nodes that answer; bring "
		                  "nodes back and run it again%s%.200s",
		                  *sum->last_failure ? "; last failure: " : "", sum->last_failure);
	if (after->blind > 0)
		return not_seen(after);
	if (after->degraded > 0)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "%" PRIu64
		                  " blocks and records are still below full width: too few "
		                  "disks answer, or a repair failed%s%.200s",
		                  after->degraded, *sum->last_failure ? "; last failure: " : "",
		                  sum->last_failure);
	return STELE_OK;
}

static enum stele_err run_repair(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_health_report before = {0}, after = {0};
	struct repair_sum sum = {0};
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err;
	if (!stele_cli_given(cli, "wait")) {
		err = ask_repair(s, "{\"action\":\"start\"}", &sum);
		if (err == STELE_OK && cli->json)
			err = stele_json_result(cli, json_pack("{s:b}", "started", 1));
		else if (err == STELE_OK)
			fprintf(cli->out, "repair runs; `stele status` shows its margin\n");
	} else {
		err = stele_health_ask(s, &before);
		if (err == STELE_OK)
			err = repair_and_wait(cli, s, &sum);
		if (err == STELE_OK)
			err = stele_health_ask(s, &after);
		if (err == STELE_OK)
			err = report_repair(cli, &before, &after, &sum);
		stele_health_finish(&before);
		stele_health_finish(&after);
	}
	stele_cli_close(s);
	return err;
}

/* ---- scrub ---- */

struct scrub_sum {
	bool running;
	uint64_t bytes_done, bytes_total, entries, victims;
	struct silent silent;
	json_t *named; /* each with its node */
	char last_failure[STELE_DETAIL_MAX];
};

static enum stele_err ask_scrub(struct stele *s, const char *json, struct scrub_sum *sum)
{
	struct stele_node_answer *answer;
	uint32_t n, up = 0;
	json_decref(sum->named);
	*sum = (struct scrub_sum){.named = json_array(), .silent = sum->silent};
	STELE_TRY(stele_ask_nodes(s, STELE_OPCODE_SCRUB, json, CALL_NS, &answer, &n));
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0; i < n; i++) {
		json_t *o = answer[i].err == STELE_OK && answer[i].body
		                ? json_loads(answer[i].body, 0, NULL)
		                : NULL;
		if (answer[i].err == STELE_ERR_DENIED || answer[i].err == STELE_ERR_BUSY)
			err = stele_fail(answer[i].err, "node %u: %s", answer[i].node,
			                 answer[i].detail);
		if (!o) {
			if (answer[i].err != STELE_ERR_BUSY)
				add_silent(&sum->silent, answer[i].node);
			continue;
		}
		const char *failure = json_string_value(json_object_get(o, "last_failure"));
		size_t at;
		json_t *v;
		up++;
		sum->running |= json_is_true(json_object_get(o, "running"));
		sum->bytes_done += sum_field(o, "bytes_done");
		sum->bytes_total += sum_field(o, "bytes_total");
		sum->entries += sum_field(o, "entries");
		sum->victims += sum_field(o, "victims");
		json_array_foreach(json_object_get(o, "named"), at, v)
		{
			json_object_set_new(v, "node", json_integer(answer[i].node));
			json_array_append(sum->named, v);
		}
		if (failure && *failure)
			snprintf(sum->last_failure, sizeof(sum->last_failure), "node %u: %.400s",
			         answer[i].node, failure);
		json_decref(o);
	}
	stele_answers_free(answer, n);
	if (err == STELE_OK && up == 0)
		err = stele_fail(STELE_ERR_UNAVAILABLE, "none of %u nodes answers", n);
	return err;
}

static void print_victims(struct stele_cli *cli, const struct scrub_sum *sum)
{
	size_t at;
	json_t *v;
	char bytes[STELE_SIZE_TEXT];
	fprintf(cli->out, "scrubbed %" PRIu64 " entries, %s; %" PRIu64 " damaged\n", sum->entries,
	        stele_size_text(sum->bytes_done, bytes), sum->victims);
	json_array_foreach(sum->named, at, v)
	{
		fprintf(cli->out,
		        "  node %" JSON_INTEGER_FORMAT " slot %" JSON_INTEGER_FORMAT " sha256:",
		        json_integer_value(json_object_get(v, "node")),
		        json_integer_value(json_object_get(v, "slot")));
		stele_cli_print(cli->out, word_of(v, "id"));
		fprintf(cli->out,
		        " kind %" JSON_INTEGER_FORMAT " index %" JSON_INTEGER_FORMAT ": ",
		        json_integer_value(json_object_get(v, "kind")),
		        json_integer_value(json_object_get(v, "index")));
		stele_cli_print(cli->out, word_of(v, "why"));
		fputc('\n', cli->out);
	}
}

static enum stele_err scrub_wait(struct stele_cli *cli, struct stele *s, struct scrub_sum *sum)
{
	struct stele_bar bar;
	enum stele_err err = STELE_OK;
	stele_bar_start(&bar, cli, "scrub", STELE_BAR_BYTES);
	while (err == STELE_OK && sum->running) {
		stele_pause(s, POLL_NS);
		err = ask_scrub(s, "{}", sum);
		stele_bar_step(&bar, sum->bytes_done, sum->bytes_total);
	}
	stele_bar_finish(&bar);
	return err;
}

/* That some nodes did not answer, where it is no worse than err, which it returns otherwise. */
static enum stele_err not_scrubbed(const struct scrub_sum *sum, enum stele_err err)
{
	char nodes[STELE_DETAIL_MAX];
	if (sum->silent.n == 0 || (err != STELE_OK && err != STELE_ERR_DEGRADED))
		return err;
	return stele_fail(STELE_ERR_DEGRADED,
	                  "not scrubbed, because they did not answer: nodes %.400s",
	                  silent_text(&sum->silent, nodes));
}

/* What was damaged is bad to the stores by now: repair replaces it. */
static enum stele_err scrub_report(struct stele_cli *cli, struct stele *s, struct scrub_sum *sum)
{
	struct repair_sum repair = {0};
	struct stele_health_report after = {0};
	enum stele_err err = STELE_OK;
	if (!cli->json)
		print_victims(cli, sum);
	if (sum->victims > 0)
		err = repair_and_wait(cli, s, &repair);
	if (err == STELE_OK)
		err = stele_health_ask(s, &after);
	if (err != STELE_OK)
		return err;
	if (cli->json)
		err = stele_json_result(
		    cli, json_pack("{s:o, s:o, s:o, s:O, s:o, s:o, s:o, s:s, s:o}", "entries",
		                   stele_json_u64(sum->entries), "bytes",
		                   stele_json_u64(sum->bytes_done), "victims",
		                   stele_json_u64(sum->victims), "named", sum->named, "repaired",
		                   stele_json_u64(repair.shards + repair.copies), "margin",
		                   margin_json(after.margin), "degraded",
		                   stele_json_u64(after.degraded), "last_failure",
		                   sum->last_failure, "silent", silent_json(&sum->silent)));
	else if (sum->victims > 0)
		fprintf(cli->out,
		        "repaired: %" PRIu64 " shards, %" PRIu64 " records, marks and references\n",
		        repair.shards, repair.copies);
	if (err == STELE_OK && *sum->last_failure)
		err = stele_fail(STELE_ERR_DEGRADED, "a scrub did not finish: %.300s",
		                 sum->last_failure);
	else if (err == STELE_OK)
		err = not_scrubbed(sum, verdict(&after));
	stele_health_finish(&after);
	return err;
}

/* With `wait`, a scrub that runs already ends first: what comes then covers all that was stored before. */
static enum stele_err scrub_start(struct stele_cli *cli, struct stele *s, bool wait,
                                  struct scrub_sum *sum)
{
	const char *start = stele_cli_given(cli, "deep") ? "{\"action\":\"start\",\"deep\":true}"
	                                                 : "{\"action\":\"start\"}";
	enum stele_err err = ask_scrub(s, start, sum);
	if (err == STELE_ERR_BUSY && wait)
		stele_cli_note(cli, "a scrub is running already; the next one follows it");
	while (err == STELE_ERR_BUSY && wait) {
		err = ask_scrub(s, "{}", sum);
		if (err == STELE_OK)
			err = scrub_wait(cli, s, sum);
		if (err == STELE_OK)
			err = ask_scrub(s, start, sum);
	}
	return err;
}

static enum stele_err run_scrub(struct stele_cli *cli)
{
	struct stele *s;
	struct scrub_sum sum = {0};
	bool wait = stele_cli_given(cli, "wait");
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = scrub_start(cli, s, wait, &sum);
	if (err == STELE_OK && wait)
		err = scrub_wait(cli, s, &sum);
	if (err == STELE_OK && wait)
		err = scrub_report(cli, s, &sum);
	else if (err == STELE_OK && cli->json)
		err = stele_json_result(cli, json_pack("{s:b}", "started", 1));
	else if (err == STELE_OK)
		fprintf(cli->out, "scrub runs; nodes repair what it finds, and `stele scrub --wait` would name it\n");
	if (!wait)
		err = not_scrubbed(&sum, err);
	json_decref(sum.named);
	stele_cli_close(s);
	return err;
}

/* ---- node attach, node detach ---- */

#define DISK_NS (3600ull * 1000 * 1000 * 1000) /* a disk's index may have to be rebuilt */

static enum stele_err node_and_slot(const struct stele_cli *cli, uint64_t *node, uint64_t *slot)
{
	if (!stele_parse_number(cli->arg[0], node) || *node == 0 || *node > UINT16_MAX)
		return stele_cli_usage(cli, "\"%.40s\" is no node's number", cli->arg[0]);
	if (!stele_parse_number(cli->arg[1], slot) || *slot > UINT16_MAX)
		return stele_cli_usage(cli, "\"%.40s\" is no slot's number", cli->arg[1]);
	return STELE_OK;
}

static enum stele_err report_disk(struct stele_cli *cli, uint64_t node, const char *body)
{
	json_t *o = body ? json_loads(body, 0, NULL) : NULL;
	const char *state = json_string_value(json_object_get(o, "state"));
	if (!state) {
		json_decref(o);
		return stele_fail(STELE_ERR_PROTOCOL,
		                  "node %" PRIu64 ": its answer is not understood", node);
	}
	if (cli->json) {
		json_object_set_new(o, "node", stele_json_u64(node));
		return stele_json_result(cli, o);
	}
	fprintf(cli->out, "node %" PRIu64 " slot %" JSON_INTEGER_FORMAT ": ", node,
	        json_integer_value(json_object_get(o, "slot")));
	stele_cli_print(cli->out, state);
	fprintf(cli->out, "\n");
	json_decref(o);
	return STELE_OK;
}

static enum stele_err change_disk(struct stele_cli *cli, const char *action, bool as_new)
{
	struct stele *s;
	struct stele_node_answer *answer;
	uint64_t node, slot;
	char ask[96];
	STELE_TRY(node_and_slot(cli, &node, &slot));
	snprintf(ask, sizeof(ask), "{\"action\":\"%s\",\"slot\":%" PRIu64 ",\"new\":%s}", action,
	         slot, as_new ? "true" : "false");
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err =
	    stele_ask_node(s, (uint16_t)node, STELE_OPCODE_DISK, ask, DISK_NS, &answer);
	if (err == STELE_OK) {
		err = answer->err == STELE_OK
		          ? report_disk(cli, node, answer->body)
		          : stele_fail(answer->err, "node %" PRIu64 ": %s", node, answer->detail);
		stele_answers_free(answer, 1);
	}
	stele_cli_close(s);
	return err;
}

static enum stele_err run_attach(struct stele_cli *cli)
{
	return change_disk(cli, "attach", stele_cli_given(cli, "new"));
}

static enum stele_err run_detach(struct stele_cli *cli)
{
	return change_disk(cli, "detach", false);
}

/* ---- the table ---- */

static const struct stele_opt repair_opts[] = {
    {"wait", 0, STELE_OPT_FLAG, NULL, "follow it to its end; show the margin before and after"},
    {0}};
static const struct stele_opt scrub_opts[] = {
    {"deep", 0, STELE_OPT_FLAG, NULL, "recompute every SHA-256, not the CRCs alone"},
    {"wait", 0, STELE_OPT_FLAG, NULL, "follow it, name what is damaged, and have it repaired"},
    {0}};

static const struct stele_opt attach_opts[] = {
    {"new", 0, STELE_OPT_FLAG, NULL,
     "give up the disk that was there: take in an empty directory on any file system"},
    {0}};

const struct stele_command stele_cmd_admin[] = {
    {.name = "status",
     .args = "",
     .summary = "nodes, disks, and how many more losses every block survives",
     .details = "Judges by what answers now. Exit 0: all at full width; 3: degraded, or so few "
                "disks answer "
                "that others may\nhold things nobody lists (state \"unknown\": the margin is that "
                "of what is "
                "seen); 7: some blocks cannot be\nread at present.",
     .example = "stele status --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .run = run_status},
    {.name = "repair",
     .args = "",
     .summary = "bring every block back to full width, now",
     .details = "What is missing is rebuilt onto disks that answer, without waiting for the grace "
                "period. Nodes do the same by themselves after it.",
     .example = "stele repair --wait --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .opt = repair_opts,
     .run = run_repair},
    {.name = "scrub",
     .args = "",
     .summary = "read everything that is stored and check it",
     .details =
         "Exit 3: some nodes did not answer, and are named, or something is below full width.",
     .example = "stele scrub --deep --wait --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .opt = scrub_opts,
     .run = run_scrub},
    {.name = "node attach",
     .args = "NODE SLOT",
     .summary = "have a running node open the disk of a slot",
     .details =
         "For a slot that is missing, detached or fenced: its directory is the one that the "
         "node's configuration\nfile names now. An empty directory is formatted and refilled "
         "by repair; one on another file system than\nbefore, or another disk, only with "
         "--new, because it may be a disk that is not mounted.",
     .example = "stele node attach 3 1 --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 2,
     .args_max = 2,
     .opt = attach_opts,
     .run = run_attach},
    {.name = "node detach",
     .args = "NODE SLOT",
     .summary = "have a running node close the disk of a slot, to be taken out",
     .details = "Its blocks are degraded until it is attached again, or replaced and refilled.",
     .example = "stele node detach 3 1 --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 2,
     .args_max = 2,
     .run = run_detach},
    {0}};
