/*
 * The command line: a table of commands, their options, --help made from it, one-line errors, exit
 * codes (DESIGN 12). Every command takes --help and --json; those marked CLUSTER take --cluster and
 * --key as well. Options may stand anywhere after the command, as "--name value" or "--name=value";
 * "--" ends them.
 *
 * Results go to stdout, everything else to stderr. A command that fails prints one line,
 * "stele put: what, where: what to do", and with --json the same as an object on stdout.
 *
 * A group of commands is a file cmd_<group>.c that exports an array ended by a NULL name; stele.c
 * lists the arrays.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <stdio.h>

#include "storage/base/bytes.h"

enum stele_opt_kind {
	STELE_OPT_FLAG = 0,
	STELE_OPT_TEXT,
	STELE_OPT_NUMBER, /* decimal */
	STELE_OPT_SIZE,   /* bytes: decimal, or with KiB, MiB, GiB, TiB */
};

struct stele_opt {
	const char *name; /* "pool", without dashes */
	char letter;      /* 'o' for -o, or 0 */
	enum stele_opt_kind kind;
	const char *value; /* how the help calls it: "FILE"; NULL for a flag */
	const char *help;  /* one line */
};

#define STELE_CMD_CLUSTER 1u /* takes --cluster and --key */

struct stele_cli;

struct stele_command {
	const char *name;    /* "put", "ledger import" */
	const char *args;    /* "FILE..."; "" for none */
	const char *summary; /* one line, for the list */
	const char *details; /* more, for --help; may be NULL */
	const char *example; /* a whole line to type */
	uint32_t flags;
	uint32_t args_min, args_max; /* max UINT32_MAX: any number */
	const struct stele_opt *opt; /* ended by a NULL name; may be NULL */
	/* Prints its result; the error's detail (stele_detail) is printed by the caller. DEGRADED
	 * is "done, but": exit 3. */
	enum stele_err (*run)(struct stele_cli *cli);
};

#define STELE_CLI_OPTS_MAX 24u /* of one command, the general ones included */

struct stele_cli {
	const char *program; /* "stele" */
	const struct stele_command *command;
	bool json;
	const char *cluster, *key; /* NULL: not given */
	uint32_t nargs;
	char **arg; /* what is no option, in order */
	/* private */
	const struct stele_opt *opt[STELE_CLI_OPTS_MAX];
	const char *text[STELE_CLI_OPTS_MAX]; /* the value given, "" for a flag, NULL: not given */
	uint64_t number[STELE_CLI_OPTS_MAX];
	uint32_t nopts;
	bool json_written; /* the result, whole */
	bool json_lines;   /* items of a list */
	bool reader_gone;  /* of stdout: nothing is said of it */
	FILE *out, *err; /* stdout and stderr, but in tests */
};

/* Runs a program: finds the command in the tables (a NULL ends the list), parses, runs, prints the
 * error if there was one. Returns the exit code. `about` is the first line of the overview. */
int stele_cli_main(const char *program, const char *about,
                   const struct stele_command *const *tables, int argc, char **argv, FILE *out,
                   FILE *err);

/* Values of the command's own options. Asking for one that its table lacks is a bug. */
bool stele_cli_given(const struct stele_cli *cli, const char *name);
const char *stele_cli_text(const struct stele_cli *cli, const char *name); /* NULL: not given */
uint64_t stele_cli_number(const struct stele_cli *cli, const char *name, uint64_t otherwise);

/* A wrong use of this command: sets the detail, "...; see stele put --help", returns USAGE. */
enum stele_err stele_cli_usage(const struct stele_cli *cli, const char *fmt, ...)
    STELE_PRINTF(2, 3);
/* A line on stderr that is neither result nor error: "stele put: node 3 is down". */
void stele_cli_note(const struct stele_cli *cli, const char *fmt, ...) STELE_PRINTF(2, 3);

/* After a write to cli->out failed: IO, with the detail. Whoever closes a pipe early knows it: that error is not printed.
 * Thread: any, one at a time. */
enum stele_err stele_cli_out_failed(struct stele_cli *cli);
/* Text that came from outside (a file's name, a node's words), on one line and without orders to the terminal. */
void stele_cli_print(FILE *f, const char *text);

/* "4096", "64KiB", "64 MiB", "1GiB". False: it is none, or exceeds 64 bits. */
bool stele_parse_size(const char *text, uint64_t *out);
/* A decimal, whole. */
bool stele_parse_number(const char *text, uint64_t *out);
/* "1.5 MiB", "312 B"; out holds STELE_SIZE_TEXT. Returns out. */
#define STELE_SIZE_TEXT 24u
char *stele_size_text(uint64_t bytes, char out[STELE_SIZE_TEXT]);

#endif
