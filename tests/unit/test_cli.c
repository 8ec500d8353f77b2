/*
 * Goal: every command is found, parsed and helped by its table alone; whatever a person types wrong
 * gives one line that says what to do, and the exit code that DESIGN 12 names.
 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/cli.h"
#include "tools/json_out.h"

/* What the fake commands saw. */
static struct {
	int runs;
	char pool[32], output[32], cluster[32], arg[4][32];
	uint64_t number, size;
	uint32_t nargs;
	bool wait;
	enum stele_err result;
	const char *detail;
} seen;

static enum stele_err run_put(struct stele_cli *cli)
{
	const char *pool = stele_cli_text(cli, "pool"), *output = stele_cli_text(cli, "output");
	seen.runs++;
	snprintf(seen.pool, sizeof(seen.pool), "%s", pool ? pool : "none");
	snprintf(seen.output, sizeof(seen.output), "%s", output ? output : "none");
	snprintf(seen.cluster, sizeof(seen.cluster), "%s", cli->cluster ? cli->cluster : "none");
	seen.number = stele_cli_number(cli, "count", 77);
	seen.size = stele_cli_number(cli, "size", 88);
	seen.wait = stele_cli_given(cli, "wait");
	seen.nargs = cli->nargs;
	for (uint32_t i = 0; i < cli->nargs && i < 4; i++)
		snprintf(seen.arg[i], sizeof(seen.arg[i]), "%s", cli->arg[i]);
	if (seen.result)
		return seen.detail ? stele_fail(seen.result, "%s", seen.detail) : seen.result;
	if (cli->json)
		return stele_json_result(cli, json_pack("{s:i}", "files", (int)cli->nargs));
	fprintf(cli->out, "stored\n");
	return STELE_OK;
}

static enum stele_err run_items(struct stele_cli *cli)
{
	for (int i = 0; i < 3; i++)
		STELE_TRY(stele_json_item(cli, json_pack("{s:i}", "item", i)));
	return STELE_OK;
}

static enum stele_err run_degraded(struct stele_cli *cli)
{
	STELE_TRY(stele_json_result(cli, json_pack("{s:i}", "margin", 1)));
	return stele_fail(STELE_ERR_DEGRADED, "one copy short");
}

static const struct stele_opt put_opts[] = {{"pool", 0, STELE_OPT_TEXT, "P", "where to"},
                                            {"output", 'o', STELE_OPT_TEXT, "FILE", "what for"},
                                            {"count", 'n', STELE_OPT_NUMBER, "N", "how many"},
                                            {"size", 0, STELE_OPT_SIZE, "BYTES", "how large"},
                                            {"wait", 'w', STELE_OPT_FLAG, NULL, "until done"},
                                            {0}};
static const struct stele_command table_a[] = {{"put", "FILE...", "Stores files.", "More words.",
                                                "stele put a.pdf", STELE_CMD_CLUSTER, 1, 3,
                                                put_opts, run_put},
                                               {"ledger", "", "Never reached by a longer name.",
                                                NULL, "stele ledger", 0, 0, 0, put_opts, run_put},
                                               {0}};
static const struct stele_command table_b[] = {
    {"ledger import", "FILE", "Imports.", NULL, "stele ledger import x", 0, 1, 1, put_opts,
     run_put},
    {"dev up", "", "Starts.", NULL, "stele dev up", 0, 0, 0, put_opts, run_put},
    {"dev upper", "", "Another.", NULL, "stele dev upper", 0, 0, UINT32_MAX, put_opts, run_put},
    {"items", "", "A list.", NULL, "stele items", 0, 0, 0, NULL, run_items},
    {"short", "", "Done, but.", NULL, "stele short", 0, 0, 0, NULL, run_degraded},
    {0}};
static const struct stele_command *const tables[] = {table_a, table_b, NULL};

static char *out_text, *err_text;

/* Runs "stele <line>", words split at blanks ("_" is an empty word). */
static int stele(const char *line)
{
	char copy[512], *argv[32] = {"stele"}, *save = NULL;
	int argc = 1;
	size_t n;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(w, "_") == 0 ? "" : w;
	free(out_text);
	free(err_text);
	FILE *out = open_memstream(&out_text, &n), *err = open_memstream(&err_text, &n);
	int code = stele_cli_main("stele", "About stele.", tables, argc, argv, out, err);
	fclose(out);
	fclose(err);
	return code;
}

static void assert_one_line(const char *want)
{
	cr_assert_not_null(strstr(err_text, want), "\"%s\" lacks \"%s\"", err_text, want);
	cr_assert_eq(strchr(err_text, '\n'), err_text + strlen(err_text) - 1, "%s", err_text);
}

Test(cli, options_and_arguments)
{
	cr_assert_eq(stele("put a b --pool p1 -o out --count 12 --size=64KiB -w c"), 0);
	cr_assert_str_eq(out_text, "stored\n");
	cr_assert_str_eq(err_text, "");
	cr_assert_eq(seen.nargs, 3u);
	cr_assert_str_eq(seen.arg[0], "a");
	cr_assert_str_eq(seen.arg[2], "c");
	cr_assert_str_eq(seen.pool, "p1");
	cr_assert_str_eq(seen.output, "out");
	cr_assert_eq(seen.number, 12u);
	cr_assert_eq(seen.size, 65536u);
	cr_assert(seen.wait);
	cr_assert_str_eq(seen.cluster, "none");
	/* none given */
	cr_assert_eq(stele("put a"), 0);
	cr_assert_str_eq(seen.pool, "none");
	cr_assert_eq(seen.number, 77u);
	cr_assert_eq(seen.size, 88u);
	cr_assert(!seen.wait);
	/* forms */
	cr_assert_eq(stele("put --pool=x=y --cluster c.json -n 0 - -- --wait -o"), 0);
	cr_assert_str_eq(seen.pool, "x=y");
	cr_assert_str_eq(seen.cluster, "c.json");
	cr_assert_eq(seen.number, 0u);
	cr_assert_eq(seen.nargs, 3u);
	cr_assert_str_eq(seen.arg[0], "-");
	cr_assert_str_eq(seen.arg[1], "--wait");
	cr_assert_str_eq(seen.arg[2], "-o");
	cr_assert(!seen.wait);
	cr_assert_eq(stele("put a --pool --wait"), 0); /* a value may look like an option */
	cr_assert_str_eq(seen.pool, "--wait");
	cr_assert_eq(stele("put a --pool="), 0);
	cr_assert_str_eq(seen.pool, "");
}

Test(cli, the_longest_name_is_the_command)
{
	cr_assert_eq(stele("ledger import f"), 0);
	cr_assert_eq(seen.nargs, 1u);
	cr_assert_eq(stele("ledger"), 0);
	cr_assert_eq(seen.nargs, 0u);
	cr_assert_eq(stele("dev upper up"), 0);
	cr_assert_eq(seen.nargs, 1u);
	cr_assert_eq(stele("dev up"), 0);
	cr_assert_eq(seen.nargs, 0u);
}

Test(cli, wrong_use)
{
	static const struct {
		const char *line, *message;
	} bad[] = {
	    {"putt a", "stele: there is no command \"putt\"; see stele --help"},
	    {"pu a", "there is no command \"pu\""},
	    {"_", "there is no command \"\""},
	    {"dev", ""},
	    {"dev down", "stele: there is no command \"dev down\"; see stele dev --help"},
	    {"dev _", "there is no command \"dev \""},
	    {"--wait put a", "options follow the command"},
	    {"put", "stele put: needs FILE...; see stele put --help"},
	    {"put a b c d", "stele put: \"d\" is one argument too many"},
	    {"ledger import", "stele ledger import: needs FILE; see stele ledger import --help"},
	    {"put a --nope", "stele put: there is no option --nope"},
	    {"put a --poo x", "there is no option --poo"},
	    {"put a --pools x", "there is no option --pools"},
	    {"put a --=x", "there is no option --=x"},
	    {"put a -x", "there is no option -x"},
	    {"put a -wo", "there is no option -wo"},
	    {"put a --pool", "--pool needs P"},
	    {"put a -o", "--output needs FILE"},
	    {"put a --wait=yes", "--wait takes no value"},
	    {"put a --pool x --pool y", "--pool is given twice"},
	    {"put a -w -w", "--wait is given twice"},
	    {"put a -n x", "--count: \"x\" is not a number"},
	    {"put a -n -1", "--count: \"-1\" is not a number"},
	    {"put a -n 18446744073709551616", "is not a number"},
	    {"put a --size 5k", "--size: \"5k\" is no size"},
	    {"dev up --cluster x", "there is no option --cluster"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		seen.runs = 0;
		cr_assert_eq(stele(bad[i].line), 2, "%s", bad[i].line);
		cr_assert_eq(seen.runs, 0, "%s", bad[i].line);
		cr_assert_str_eq(out_text, "", "%s", bad[i].line);
		if (*bad[i].message)
			assert_one_line(bad[i].message);
	}
	/* Without a command at all, or with half of one, the list of what there is. */
	cr_assert_eq(stele(""), 2);
	cr_assert_not_null(strstr(err_text, "ledger import FILE"));
	cr_assert_eq(stele("dev"), 2);
	cr_assert_not_null(strstr(err_text, "dev upper"));
	cr_assert_null(strstr(err_text, "put FILE"));
}

Test(cli, exit_codes)
{
	static const struct {
		enum stele_err err;
		int code;
	} cases[] = {{STELE_ERR_IO, 1},       {STELE_ERR_INVALID, 1},    {STELE_ERR_USAGE, 2},
	             {STELE_ERR_DEGRADED, 3}, {STELE_ERR_NOT_FOUND, 4},  {STELE_ERR_CORRUPT, 5},
	             {STELE_ERR_DENIED, 6},   {STELE_ERR_UNAVAILABLE, 7}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		seen.result = cases[i].err;
		seen.detail = "a.pdf: it did not work:\n\033[2Jtry again";
		cr_assert_eq(stele("put a"), cases[i].code);
		/* what a peer or a file says cannot move the cursor or add lines */
		assert_one_line("stele put: a.pdf: it did not work:??[2Jtry again");
		cr_assert_str_eq(out_text, "");
		seen.detail = NULL; /* nobody said more: the kind of error at least */
		cr_assert_eq(stele("put a"), cases[i].code);
		assert_one_line(stele_err_text(cases[i].err));
	}
	seen.result = STELE_OK;
}

Test(cli, json)
{
	cr_assert_eq(stele("put a b --json"), 0);
	json_t *v = json_loads(out_text, 0, NULL);
	cr_assert_eq(json_integer_value(json_object_get(v, "files")), 2);
	json_decref(v);
	seen.result = STELE_ERR_NOT_FOUND;
	seen.detail = "sha256:00: nobody has it";
	cr_assert_eq(stele("put a --json"), 4);
	assert_one_line("stele put: sha256:00: nobody has it");
	v = json_loads(out_text, 0, NULL);
	const json_t *e = json_object_get(v, "error");
	cr_assert_str_eq(json_string_value(json_object_get(e, "code")), "NOT_FOUND");
	cr_assert_eq(json_integer_value(json_object_get(e, "exit")), 4);
	cr_assert_str_eq(json_string_value(json_object_get(e, "message")), seen.detail);
	json_decref(v);
	seen.detail = "caf\xc3\xa9, not utf-8: \xff\xc3(\xed\xa0\x80";
	cr_assert_eq(stele("put a --json"), 4);
	v = json_loads(out_text, 0, NULL);
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(v, "error"), "message")),
	                 "caf\xc3\xa9, not utf-8: \xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf"
	                 "\xbd\xef\xbf\xbd");
	json_decref(v);
	/* usage errors too, wherever --json stands, and only one value ever */
	static const char *const wrong[] = {"put --json", "putt --json", "put a --nope --json",
	                                    "--json put a", "dev down --json"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(stele(wrong[i]), 2);
		v = json_loads(out_text, 0, NULL);
		cr_assert_not_null(json_object_get(v, "error"), "%s", wrong[i]);
		json_decref(v);
	}
	cr_assert_eq(stele("put a -- --json"), 4); /* a file of that name */
	cr_assert_str_eq(out_text, "");
	cr_assert_eq(stele("put a --pool --json"), 4); /* and a pool */
	cr_assert_str_eq(out_text, "");
	cr_assert_eq(stele("short --json"), 3); /* a result, and then a reservation */
	cr_assert_str_eq(out_text, "{\n  \"margin\": 1\n}\n");
	assert_one_line("stele short: one copy short");
	cr_assert_eq(stele("items --json"), 0);
	cr_assert_str_eq(out_text, "{\"item\":0}\n{\"item\":1}\n{\"item\":2}\n");
	seen.result = STELE_OK;
	struct stele_hash id;
	memset(id.b, 0xab, sizeof(id.b));
	v = stele_json_id(&id);
	cr_assert_eq(strncmp(json_string_value(v), "sha256:abababab", 15), 0);
	json_decref(v);
	v = stele_json_u64(INT64_MAX);
	cr_assert_eq(json_integer_value(v), INT64_MAX);
	json_decref(v);
	v = stele_json_u64(UINT64_MAX);
	cr_assert_str_eq(json_string_value(v), "18446744073709551615");
	json_decref(v);
}

Test(cli, help)
{
	cr_assert_eq(stele("--help"), 0);
	cr_assert_not_null(strstr(out_text, "About stele."));
	cr_assert_not_null(strstr(out_text, "put FILE..."));
	cr_assert_not_null(strstr(out_text, "dev up"));
	cr_assert_str_eq(err_text, "");
	cr_assert_eq(stele("dev --help"), 0);
	cr_assert_not_null(strstr(out_text, "dev up"));
	cr_assert_null(strstr(out_text, "put FILE..."));
	seen.runs = 0;
	cr_assert_eq(stele("put --help"), 0); /* though FILE is missing */
	cr_assert_eq(stele("put a -h"), 0);
	cr_assert_eq(seen.runs, 0);
	static const char *const parts[] = {
	    "stele put FILE... [options]", "Stores files.",  "More words.",
	    "-o, --output FILE",           "--cluster FILE", "--json",
	    "Example:\n  stele put a.pdf", "Exit: 0 done"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		cr_assert_not_null(strstr(out_text, parts[i]), "%s", parts[i]);
	cr_assert_eq(stele("dev up --help"), 0);
	cr_assert_null(strstr(out_text, "--cluster"));
	cr_assert_eq(stele("--version"), 0);
	cr_assert_eq(strncmp(out_text, "stele ", 6), 0);
}

Test(cli, a_full_disk_is_no_success)
{
	char *argv[] = {"stele", "put", "a"};
	char *err_buf;
	size_t n;
	FILE *full = fopen("/dev/full", "w"), *err = open_memstream(&err_buf, &n);
	cr_assert_not_null(full);
	cr_assert_eq(stele_cli_main("stele", "", tables, 3, argv, full, err), 1);
	fclose(err);
	cr_assert_not_null(strstr(err_buf, "standard output"));
	fclose(full);
	free(err_buf);
}

Test(cli, sizes)
{
	static const struct {
		const char *text;
		uint64_t v;
	} good[] = {{"0", 0},
	            {"1", 1},
	            {"4096", 4096},
	            {"1KiB", 1024},
	            {"64 MiB", 64 << 20},
	            {"3GiB", 3ull << 30},
	            {"2TiB", 2ull << 40},
	            {"18446744073709551615", UINT64_MAX},
	            {"16777215TiB", 16777215ull << 40}};
	static const char *const bad[] = {"",     "KiB",    "-1",          "1K",
	                                  "1kib", "1 KiB ", " 1",          "1.5GiB",
	                                  "01",   "0x10",   "16777216TiB", "18446744073709551616"};
	char text[STELE_SIZE_TEXT];
	uint64_t v;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert(stele_parse_size(good[i].text, &v), "%s", good[i].text);
		cr_assert_eq(v, good[i].v);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!stele_parse_size(bad[i], &v), "%s", bad[i]);
	cr_assert_str_eq(stele_size_text(0, text), "0 B");
	cr_assert_str_eq(stele_size_text(1023, text), "1023 B");
	cr_assert_str_eq(stele_size_text(1024, text), "1.0 KiB");
	cr_assert_str_eq(stele_size_text(1536, text), "1.5 KiB");
	cr_assert_str_eq(stele_size_text((1 << 20) - 1, text), "1.0 MiB");
	cr_assert_str_eq(stele_size_text(UINT64_MAX, text), "16.0 EiB");
}
