/* Interleaved measurement of two sides: see pair.h. Prints nothing. */
#include "bench/pair.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define TURNS_MAX 1000
#define NOISE_MAX 20000

static double noise[NOISE_MAX];
static int noise_count;

static double read_clock(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double bench_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static double now(const struct bench_options *o)
{
	return read_clock(o->wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

struct bench_spread bench_spread_of(double *values, int n)
{
	assert(n > 0);
	qsort(values, (size_t)n, sizeof(*values), compare);
	double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
	return (struct bench_spread){values[0], median, values[n - 1]};
}

/* How many calls take about `seconds`; also warms caches and page tables. */
static long calls_for(const struct bench_options *o, struct bench_side s)
{
	long calls = 1;
	for (;;) {
		double start = now(o);
		for (long i = 0; i < calls; i++)
			s.work(s.arg);
		double took = now(o) - start;
		if (took >= o->seconds / 4)
			return (long)((double)calls * o->seconds / took) + 1;
		calls *= 2;
	}
}

static double seconds_per_call(const struct bench_options *o, struct bench_side s, long calls)
{
	double start = now(o);
	for (long i = 0; i < calls; i++)
		s.work(s.arg);
	return (now(o) - start) / (double)calls;
}

static void measure_noise(const struct bench_options *o)
{
	uint64_t x = 0;
	double start = now(o);
	for (int i = 0; i < 2000000; i++) {
		x++;
		__asm__ volatile("" : "+r"(x)); /* keeps the loop */
	}
	if (noise_count < NOISE_MAX)
		noise[noise_count++] = now(o) - start;
}

void bench_noise_turn(bool wall)
{
	struct bench_options o = {.wall = wall};
	measure_noise(&o);
}

struct bench_result bench_pair(const struct bench_options *o, struct bench_side a,
                               struct bench_side b)
{
	static double rate_a[TURNS_MAX], rate_b[TURNS_MAX], ratio[TURNS_MAX];
	int turns = o->turns < TURNS_MAX ? o->turns : TURNS_MAX;
	long calls_a = calls_for(o, a), calls_b = calls_for(o, b);
	for (int i = 0; i < turns; i++) {
		measure_noise(o);
		/* Each side goes first as often as the other. */
		double first =
		    i % 2 ? seconds_per_call(o, b, calls_b) : seconds_per_call(o, a, calls_a);
		double second =
		    i % 2 ? seconds_per_call(o, a, calls_a) : seconds_per_call(o, b, calls_b);
		rate_a[i] = a.bytes / (i % 2 ? second : first);
		rate_b[i] = b.bytes / (i % 2 ? first : second);
		ratio[i] = rate_a[i] / rate_b[i];
	}
	return (struct bench_result){.a = bench_spread_of(rate_a, turns),
	                             .b = bench_spread_of(rate_b, turns),
	                             .ratio = bench_spread_of(ratio, turns)};
}

struct bench_spread bench_noise(void)
{
	static double relative[NOISE_MAX];
	struct bench_spread s = {1, 1, 1};
	if (!noise_count)
		return s;
	double least = noise[0];
	for (int i = 0; i < noise_count; i++)
		least = noise[i] < least ? noise[i] : least;
	for (int i = 0; i < noise_count; i++)
		relative[i] = noise[i] / least;
	return bench_spread_of(relative, noise_count);
}
