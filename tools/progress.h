/*
 * Progress bars on stderr: only on a terminal, only for what takes longer than a second, never with
 * --json. The rate is that of the last seconds, the time left follows from it. One thread.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include "tools/cli.h"

enum stele_bar_unit {
	STELE_BAR_BYTES = 0,
	STELE_BAR_ITEMS,
};

#define STELE_BAR_SAMPLES   32u
#define STELE_BAR_WIDTH_MAX 200u /* columns */
#define STELE_BAR_LABEL     32u

struct stele_bar {
	FILE *out; /* NULL: silent */
	char label[STELE_BAR_LABEL];
	enum stele_bar_unit unit;
	uint64_t start_ns, drawn_ns;
	bool visible;
	uint64_t done, total;
	struct {
		uint64_t ns, done;
	} sample[STELE_BAR_SAMPLES]; /* a ring, one for each drawing */
	uint32_t nsamples;
};

/* label: what it is about. Of a path the last part is shown, of long ones the beginning. */
void stele_bar_start(struct stele_bar *bar, const struct stele_cli *cli, const char *label,
                     enum stele_bar_unit unit);
/* Has the signature of libstele's progress steps (ctx: the bar); returns true. total 0: unknown. */
bool stele_bar_step(void *bar, uint64_t done, uint64_t total);
/* Takes the line away. Must be called before anything else is printed. */
void stele_bar_finish(struct stele_bar *bar);

/* The same with a clock of the caller's, for tests. */
void stele_bar_start_at(struct stele_bar *bar, FILE *out, const char *label,
                        enum stele_bar_unit unit, uint64_t now_ns);
void stele_bar_step_at(struct stele_bar *bar, uint64_t done, uint64_t total, uint64_t now_ns);
/* The line for a width in columns, without control characters; returns out. */
char *stele_bar_line(const struct stele_bar *bar, uint64_t now_ns, unsigned width,
                     char out[STELE_BAR_WIDTH_MAX + 1]);

#endif
