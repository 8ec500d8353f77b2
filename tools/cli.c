/*
 * Finds the command, parses its options, prints helps and errors. Knows no command by name: they
 * come in tables.
 */
#include "tools/cli.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "storage/base/text.h"
#include "tools/json_out.h"
#include "tools/tty.h"

static const struct stele_opt general_opts[] = {
    {"json", 0, STELE_OPT_FLAG, NULL, "print the result as JSON"},
    {"help", 'h', STELE_OPT_FLAG, NULL, "print this"},
    {0}};
static const struct stele_opt cluster_opts[] = {
    {"cluster", 0, STELE_OPT_TEXT, "FILE",
     "the cluster's file; else $STELE_CLUSTER, else /etc/stele/cluster.json"},
    {"key", 0, STELE_OPT_TEXT, "FILE",
     "the client's key; else $STELE_KEY, else client.key beside the cluster's file"},
    {0}};

/* ---- values as people write them ---- */

bool stele_parse_number(const char *text, uint64_t *out)
{
	return stele_text_u64(text, strlen(text), UINT64_MAX, out);
}

bool stele_parse_size(const char *text, uint64_t *out)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
	size_t digits = strspn(text, "0123456789");
	uint64_t v;
	if (!stele_text_u64(text, digits, UINT64_MAX, &v))
		return false;
	const char *unit = text + digits + strspn(text + digits, " ");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(unit, units[i].unit) == 0 && v <= UINT64_MAX >> units[i].shift) {
			*out = v << units[i].shift;
			return true;
		}
	return false;
}

char *stele_size_text(uint64_t bytes, char out[STELE_SIZE_TEXT])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	double v = (double)bytes;
	/* 1023.95 would be printed as 1024.0 */
	while (v >= (unit ? 1023.95 : 1024) && unit < 6) {
		v /= 1024;
		unit++;
	}
	snprintf(out, STELE_SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
	return out;
}

/* ---- messages ---- */

/* Control characters of ASCII, and those that UTF-8 writes as C2 80 ... C2 9F. */
void stele_cli_print(FILE *f, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
		fputc(*p < ' ' || *p == 0x7f || c1 ? '?' : *p, f);
		p += c1;
	}
}

static void put_line(FILE *f, const char *text)
{
	stele_cli_print(f, text);
	fputc('\n', f);
}

static void put_name(const struct stele_cli *cli, FILE *f)
{
	fprintf(f, "%s%s%s: ", cli->program, cli->command ? " " : "",
	        cli->command ? cli->command->name : "");
}

void stele_cli_note(const struct stele_cli *cli, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	put_name(cli, cli->err);
	put_line(cli->err, line);
}

enum stele_err stele_cli_usage(const struct stele_cli *cli, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	return stele_fail(STELE_ERR_USAGE, "%s; see %s%s%s --help", line, cli->program,
	                  cli->command ? " " : "", cli->command ? cli->command->name : "");
}

/* Prints the failure and returns the exit code. */
static int report(struct stele_cli *cli, enum stele_err err)
{
	char detail[STELE_DETAIL_MAX];
	stele_detail_copy(detail);
	const char *message = *detail ? detail : stele_err_text(err);
	bool mild = err == STELE_ERR_DEGRADED;
	if (cli->reader_gone)
		return stele_err_exit_code(err);
	fprintf(cli->err, "%s", stele_tty_style(cli->err, mild ? STELE_TTY_YELLOW : STELE_TTY_RED));
	put_name(cli, cli->err);
	fprintf(cli->err, "%s", stele_tty_style(cli->err, STELE_TTY_PLAIN));
	put_line(cli->err, message);
	if (cli->json && !cli->json_written)
		stele_json_error(cli, err, message);
	return stele_err_exit_code(err);
}

/* ---- help ---- */

static void help_opts(FILE *f, const struct stele_opt *opt)
{
	for (; opt && opt->name; opt++) {
		char left[64], letter[6] = "";
		if (opt->letter)
			snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, opt->name, opt->value ? " " : "",
		         opt->value ? opt->value : "");
		fprintf(f, "  %-22s %s\n", left, opt->help);
	}
}

static void help_command(const struct stele_cli *cli)
{
	const struct stele_command *c = cli->command;
	FILE *f = cli->out;
	const char *bold = stele_tty_style(f, STELE_TTY_BOLD);
	const char *plain = stele_tty_style(f, STELE_TTY_PLAIN);
	fprintf(f, "%s%s %s%s%s%s%s\n\n%s\n", bold, cli->program, c->name, plain,
	        *c->args ? " " : "", c->args, c->opt && c->opt->name ? " [options]" : "",
	        c->summary);
	if (c->details)
		fprintf(f, "\n%s\n", c->details);
	fprintf(f, "\nOptions:\n");
	help_opts(f, c->opt);
	if (c->flags & STELE_CMD_CLUSTER)
		help_opts(f, cluster_opts);
	help_opts(f, general_opts);
	fprintf(f,
	        "\nExample:\n  %s\n\nExit: 0 done, 1 failed, 2 usage, 3 partial or degraded, 4 not "
	        "found, 5 integrity,\n      6 not authorised, 7 unavailable\n",
	        c->example);
}

/* Lists the commands; group: only those of one ("ledger"), or NULL for all. */
static void help_list(FILE *f, const char *program, const char *about,
                      const struct stele_command *const *tables, const char *group)
{
	size_t len = group ? strlen(group) : 0;
	fprintf(f, "%s\n\nUsage: %s COMMAND [options]\n", about, program);
	for (; *tables; tables++) {
		const char *gap = "\n";
		for (const struct stele_command *c = *tables; c->name; c++) {
			if (group && !(strncmp(c->name, group, len) == 0 && c->name[len] == ' '))
				continue;
			char left[80];
			snprintf(left, sizeof(left), "%s%s%s", c->name, *c->args ? " " : "",
			         c->args);
			fprintf(f, "%s  %-30s %s%s\n", gap, left,
			        strlen(left) > 30 ? "\n                                 " : "",
			        c->summary);
			gap = "";
		}
	}
	fprintf(f, "\n%s COMMAND --help tells more. Every command takes --json.\n", program);
}

/* ---- parsing ---- */

static void add_opts(struct stele_cli *cli, const struct stele_opt *opt)
{
	for (; opt && opt->name; opt++) {
		assert(cli->nopts < STELE_CLI_OPTS_MAX);
		cli->opt[cli->nopts++] = opt;
	}
}

/* The option that "--name", "--name=value" or "-o" means; *value what stands behind "=", or NULL.
 */
static enum stele_err find_opt(const struct stele_cli *cli, const char *arg, uint32_t *at,
                               const char **value)
{
	bool is_long = arg[1] == '-';
	const char *name = arg + 2, *equals = is_long ? strchr(arg, '=') : NULL;
	size_t len = equals ? (size_t)(equals - name) : strlen(arg) - (is_long ? 2 : 1);
	*value = equals ? equals + 1 : NULL;
	for (uint32_t i = 0; i < cli->nopts; i++) {
		const struct stele_opt *o = cli->opt[i];
		if (is_long ? strlen(o->name) == len && memcmp(o->name, name, len) == 0
		            : len == 1 && o->letter == arg[1]) {
			*at = i;
			return STELE_OK;
		}
	}
	return stele_cli_usage(cli, "there is no option %.60s", arg);
}

static enum stele_err set_opt(struct stele_cli *cli, uint32_t at, const char *value)
{
	const struct stele_opt *o = cli->opt[at];
	if (cli->text[at])
		return stele_cli_usage(cli, "--%s is given twice", o->name);
	if (o->kind == STELE_OPT_NUMBER && !stele_parse_number(value, &cli->number[at]))
		return stele_cli_usage(cli, "--%s: \"%.60s\" is not a number", o->name, value);
	if (o->kind == STELE_OPT_SIZE && !stele_parse_size(value, &cli->number[at]))
		return stele_cli_usage(cli, "--%s: \"%.60s\" is no size such as 4096 or 64MiB",
		                       o->name, value);
	cli->text[at] = value;
	return STELE_OK;
}

/* argv: what follows the command's name. Positional arguments are moved to its front. */
static enum stele_err parse(struct stele_cli *cli, int argc, char **argv)
{
	bool ended = false;
	cli->arg = argv;
	for (int i = 0; i < argc; i++) {
		char *arg = argv[i];
		if (ended || arg[0] != '-' || arg[1] == '\0') {
			cli->arg[cli->nargs++] = arg;
			continue;
		}
		if (strcmp(arg, "--") == 0) {
			ended = true;
			continue;
		}
		uint32_t at = 0;
		const char *value = NULL;
		STELE_TRY(find_opt(cli, arg, &at, &value));
		const struct stele_opt *o = cli->opt[at];
		if (o->kind == STELE_OPT_FLAG && value)
			return stele_cli_usage(cli, "--%s takes no value", o->name);
		if (o->kind == STELE_OPT_FLAG)
			value = "";
		else if (!value && i + 1 < argc)
			value = argv[++i];
		else if (!value)
			return stele_cli_usage(cli, "--%s needs %s", o->name, o->value);
		STELE_TRY(set_opt(cli, at, value));
	}
	return STELE_OK;
}

static enum stele_err check_args(const struct stele_cli *cli)
{
	const struct stele_command *c = cli->command;
	if (cli->nargs < c->args_min)
		return stele_cli_usage(cli, "needs %s", c->args);
	if (cli->nargs > c->args_max)
		return stele_cli_usage(cli, "\"%.60s\" is one argument too many",
		                       cli->arg[c->args_max]);
	return STELE_OK;
}

static int opt_at(const struct stele_cli *cli, const char *name)
{
	for (uint32_t i = 0; i < cli->nopts; i++)
		if (strcmp(cli->opt[i]->name, name) == 0)
			return (int)i;
	return -1;
}

bool stele_cli_given(const struct stele_cli *cli, const char *name)
{
	return stele_cli_text(cli, name) != NULL;
}

const char *stele_cli_text(const struct stele_cli *cli, const char *name)
{
	int at = opt_at(cli, name);
	assert(at >= 0);
	return cli->text[at];
}

uint64_t stele_cli_number(const struct stele_cli *cli, const char *name, uint64_t otherwise)
{
	int at = opt_at(cli, name);
	assert(at >= 0 && cli->opt[at]->kind >= STELE_OPT_NUMBER);
	return cli->text[at] ? cli->number[at] : otherwise;
}

/* ---- running ---- */

/* How many words of argv are the command's name; 0: they are not. */
static int words_of(const char *name, int argc, char **argv)
{
	int words = 0;
	while (words < argc) {
		size_t len = strlen(argv[words]);
		if (len == 0 || strncmp(name, argv[words], len) != 0)
			return 0;
		words++;
		if (name[len] == '\0')
			return words;
		if (name[len] != ' ')
			return 0;
		name += len + 1;
	}
	return 0;
}

/* The command whose name has the most words of argv; *words of them. NULL: none. */
static const struct stele_command *find(const struct stele_command *const *tables, int argc,
                                        char **argv, int *words)
{
	const struct stele_command *found = NULL;
	*words = 0;
	for (; *tables; tables++)
		for (const struct stele_command *c = *tables; c->name; c++) {
			int n = words_of(c->name, argc, argv);
			if (n > *words) {
				*words = n;
				found = c;
			}
		}
	return found;
}

static bool is_group(const struct stele_command *const *tables, const char *word)
{
	size_t len = strlen(word);
	for (; *tables; tables++)
		for (const struct stele_command *c = *tables; c->name; c++)
			if (len && strncmp(c->name, word, len) == 0 && c->name[len] == ' ')
				return true;
	return false;
}

/* Looked for before anything is parsed: what is wrong with the rest is told as JSON, too. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

enum stele_err stele_cli_out_failed(struct stele_cli *cli)
{
	cli->reader_gone |= errno == EPIPE;
	return stele_fail(STELE_ERR_IO, "standard output: %s",
	                  errno ? strerror(errno) : "cannot be written");
}

static enum stele_err flush(struct stele_cli *cli)
{
	errno = 0; /* that of an earlier write is gone; stdio keeps only that it failed */
	return fflush(cli->out) != 0 || ferror(cli->out) ? stele_cli_out_failed(cli) : STELE_OK;
}

static int flushed(struct stele_cli *cli)
{
	enum stele_err err = flush(cli);
	return err == STELE_OK ? 0 : report(cli, err);
}

/* No command was found: a help that was asked for, or what is wrong. */
static int without_command(struct stele_cli *cli, const char *about,
                           const struct stele_command *const *tables, int argc, char **argv)
{
	const char *word = argc > 0 ? argv[0] : "";
	bool help = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
	bool group = is_group(tables, word);
	if (group && argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		help = true;
	if (help) {
		help_list(cli->out, cli->program, about, tables, group ? word : NULL);
		return flushed(cli);
	}
	if (strcmp(word, "--version") == 0) {
		fprintf(cli->out, "%s %s\n", cli->program, STELE_VERSION);
		return flushed(cli);
	}
	if (argc == 0 || (group && argc == 1)) {
		help_list(cli->err, cli->program, about, tables, group ? word : NULL);
		return stele_err_exit_code(STELE_ERR_USAGE);
	}
	if (word[0] == '-')
		return report(cli, stele_fail(STELE_ERR_USAGE,
		                              "options follow the command; see %s --help",
		                              cli->program));
	return report(cli, stele_fail(STELE_ERR_USAGE,
	                              "there is no command \"%.40s%s%.40s\"; see %s%s%s --help",
	                              word, group ? " " : "", group ? argv[1] : "", cli->program,
	                              group ? " " : "", group ? word : ""));
}

static enum stele_err run(struct stele_cli *cli)
{
	STELE_TRY(check_args(cli));
	stele_detail_clear();
	enum stele_err err = cli->command->run(cli);
	/* A result that could not be written is no result. */
	if (err == STELE_OK || err == STELE_ERR_DEGRADED) {
		enum stele_err out = flush(cli);
		err = out == STELE_OK ? err : out;
	}
	return err;
}

int stele_cli_main(const char *program, const char *about,
                   const struct stele_command *const *tables, int argc, char **argv, FILE *out,
                   FILE *err)
{
	struct stele_cli cli = {.program = program, .out = out, .err = err};
	int words;
	argc--;
	argv++;
	const struct stele_command *command = find(tables, argc, argv, &words);
	if (!command) {
		cli.json = wants_json(argc, argv);
		return without_command(&cli, about, tables, argc, argv);
	}
	cli.command = command;
	add_opts(&cli, command->opt);
	if (command->flags & STELE_CMD_CLUSTER)
		add_opts(&cli, cluster_opts);
	add_opts(&cli, general_opts);
	cli.json = wants_json(argc - words, argv + words);
	enum stele_err failed = parse(&cli, argc - words, argv + words);
	if (!failed)
		cli.json = stele_cli_given(&cli, "json"); /* it may have been an option's value */
	if (!failed && stele_cli_given(&cli, "help")) {
		help_command(&cli);
		return flushed(&cli);
	}
	if (command->flags & STELE_CMD_CLUSTER) {
		cli.cluster = stele_cli_text(&cli, "cluster");
		cli.key = stele_cli_text(&cli, "key");
	}
	if (!failed)
		failed = run(&cli);
	return failed ? report(&cli, failed) : 0;
}
