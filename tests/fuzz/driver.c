/*
 * Runs a fuzz target over mutated seeds without libFuzzer: every run is a function of its number, so
 * that ctest sees the same inputs each time and a failure is replayed by its number. Inputs end at a
 * page that nobody may touch. No coverage guidance: that is libFuzzer's part.
 *
 *   fuzz_x [--runs N]     runs 0 ... N - 1 (50000; a million with STELE_TEST_FULL=1)
 *   fuzz_x --only N       that run alone, printing its input
 *   fuzz_x --seeds DIR    writes the seeds as files: a corpus for libFuzzer
 *   fuzz_x FILE...        those inputs
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define PAGE          4096u
#define MUTATIONS_MAX 6u

static uint8_t *area;          /* FUZZ_INPUT_MAX bytes before a forbidden page */
static volatile long run = -1; /* for the report of a crash */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t n)
{
	return n ? next_random(state) % n : 0;
}

static void report(int sig)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "signal %d in run %ld: replay with --only %ld\n", sig,
	                 (long)run, (long)run);
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static uint8_t odd_byte(uint64_t *state)
{
	static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '\n', ' ', '-', '0', '9'};
	return next_random(state) & 1 ? odd[below(state, sizeof(odd))]
	                              : (uint8_t)next_random(state);
}

/* Changes buf in one way; returns its new length. */
static size_t mutate(uint8_t *buf, size_t len, uint64_t *state, const uint8_t *other,
                     size_t other_len)
{
	size_t at = below(state, len), n = 1 + below(state, 16);
	n = n < len - at ? n : len - at;
	switch (next_random(state) % 9) {
	case 0: /* a bit */
		if (len)
			buf[at] ^= (uint8_t)(1u << below(state, 8));
		return len;
	case 1: /* some bytes */
		for (size_t i = 0; i < n; i++)
			buf[at + i] = odd_byte(state);
		return len;
	case 2: /* a number grown or shrunk by one */
		if (len)
			buf[at] = (uint8_t)(buf[at] + (next_random(state) & 1 ? 1 : -1));
		return len;
	case 3: /* all ones or zeros */
		if (len)
			memset(buf + at, next_random(state) & 1 ? 0xff : 0, n);
		return len;
	case 4: /* cut out */
		memmove(buf + at, buf + at + n, len - at - n);
		return len - n;
	case 5: /* cut off */
		return at;
	case 6: /* put in */
		if (len + n > FUZZ_INPUT_MAX)
			return len;
		memmove(buf + at + n, buf + at, len - at);
		for (size_t i = 0; i < n; i++)
			buf[at + i] = odd_byte(state);
		return len + n;
	case 7: /* a piece of itself elsewhere */
		if (len)
			memmove(buf + below(state, len - n + 1), buf + at, n);
		return len;
	default: { /* the end of another seed */
		size_t from = below(state, other_len);
		size_t take =
		    other_len - from < FUZZ_INPUT_MAX - at ? other_len - from : FUZZ_INPUT_MAX - at;
		memcpy(buf + at, other + from, take);
		return at + take;
	}
	}
}

static void one(const uint8_t *input, size_t len)
{
	uint8_t *exact = area + FUZZ_INPUT_MAX - len;
	if (len)
		memcpy(exact, input, len);
	LLVMFuzzerTestOneInput(exact, len);
}

/* Run n's input. */
static size_t make_input(long n, unsigned seeds, uint8_t *buf)
{
	static uint8_t other[FUZZ_INPUT_MAX];
	uint64_t state = (uint64_t)n;
	size_t len = fuzz_seed((unsigned)below(&state, seeds), buf);
	size_t other_len = fuzz_seed((unsigned)below(&state, seeds), other);
	/* The first runs are the seeds themselves. */
	if (n < (long)seeds)
		return fuzz_seed((unsigned)n, buf);
	for (size_t i = below(&state, MUTATIONS_MAX) + 1; i > 0; i--)
		len = mutate(buf, len, &state, other, other_len);
	return len;
}

static int write_seeds(const char *dir, unsigned seeds, uint8_t *buf)
{
	for (unsigned i = 0; i < seeds; i++) {
		char path[4096];
		size_t len = fuzz_seed(i, buf);
		snprintf(path, sizeof(path), "%s/seed-%u", dir, i);
		FILE *f = fopen(path, "wb");
		if (!f || fwrite(buf, 1, len, f) != len || fclose(f) != 0) {
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
			return 1;
		}
	}
	return 0;
}

static int run_files(char **path, uint8_t *buf)
{
	for (; *path; path++) {
		FILE *f = fopen(*path, "rb");
		if (!f) {
			fprintf(stderr, "%s: %s\n", *path, strerror(errno));
			return 1;
		}
		size_t len = fread(buf, 1, FUZZ_INPUT_MAX, f);
		fclose(f);
		one(buf, len);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static uint8_t buf[FUZZ_INPUT_MAX];
	const char *full = getenv("STELE_TEST_FULL");
	long runs = full && full[0] == '1' ? 1000000 : 50000, first = 0;
	unsigned seeds = 0;

	area = mmap(NULL, FUZZ_INPUT_MAX + PAGE, PROT_READ | PROT_WRITE,
	            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || mprotect(area + FUZZ_INPUT_MAX, PAGE, PROT_NONE) != 0) {
		perror("mmap");
		return 1;
	}
	while (fuzz_seed(seeds, buf))
		seeds++;
	if (!seeds) {
		fprintf(stderr, "the target has no seeds\n");
		return 1;
	}
	signal(SIGSEGV, report);
	signal(SIGABRT, report);
	signal(SIGALRM, report);
	if (argc == 3 && strcmp(argv[1], "--runs") == 0) {
		runs = atol(argv[2]);
	} else if (argc == 3 && strcmp(argv[1], "--only") == 0) {
		first = atol(argv[2]);
		runs = first + 1;
		size_t len = make_input(first, seeds, buf);
		for (size_t i = 0; i < len; i++)
			printf("%02x%s", buf[i], i % 32 == 31 || i + 1 == len ? "\n" : "");
		fflush(stdout);
	} else if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
		return write_seeds(argv[2], seeds, buf);
	} else if (argc > 1 && argv[1][0] != '-') {
		return run_files(argv + 1, buf);
	} else if (argc > 1) {
		fprintf(stderr, "usage: %s [--runs N | --only N | --seeds DIR | FILE...]\n",
		        argv[0]);
		return 2;
	}
	for (long n = first; n < runs; n++) {
		run = n;
		alarm(10); /* an input that takes this long is a defect too */
		size_t len = make_input(n, seeds, buf);
		one(buf, len);
	}
	printf("%ld inputs from %u seeds\n", runs - first, seeds);
	return 0;
}
