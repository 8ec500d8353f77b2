/*
 * Comparing two pieces of work on a machine that is never quite quiet: they run in turns, in one
 * process, and what counts is the ratio within each turn: its median, with the least and the most seen.
 * Time is the thread's own processor time (or, for work that waits, the clock's), so that what others
 * run takes cache and memory bandwidth from a measurement, but no time.
 * A fixed loop of integer additions runs in every turn too: how much its time varies is how noisy the
 * machine was.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include <stdbool.h>

typedef void (*bench_work)(void *arg);

struct bench_side {
	bench_work work;
	void *arg;
	double bytes; /* that one call of `work` stands for */
};

struct bench_spread {
	double min, median, max;
};

struct bench_result {
	struct bench_spread a, b;  /* bytes per second */
	struct bench_spread ratio; /* a's rate over b's, turn by turn */
};

struct bench_options {
	int turns;
	double seconds; /* of each side in each turn, about */
	bool wall;      /* by the clock: for work that waits */
};

double bench_now(void); /* seconds by the clock */
/* Sorts values. */
struct bench_spread bench_spread_of(double *values, int n);
struct bench_result bench_pair(const struct bench_options *o, struct bench_side a,
                               struct bench_side b);
/* Runs the fixed loop once: for those who pair by themselves. */
void bench_noise_turn(bool wall);
/* Time of the fixed loop over all turns so far, relative to its least: 1.00 is a quiet machine. */
struct bench_spread bench_noise(void);

#endif
