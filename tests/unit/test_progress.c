/*
 * Goal: a bar says how much, how fast and how long still, fits its width, shows nothing of what takes
 * less than a second, draws no more than ten times a second, and is silent where it must be.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/progress.h"

#define SECOND 1000000000ull
#define MIB    (1ull << 20)

static struct stele_bar bar;
static char *text;
static size_t text_len;
static FILE *out;

static void setup(void)
{
	out = open_memstream(&text, &text_len);
	stele_bar_start_at(&bar, out, "put a", STELE_BAR_BYTES, 100 * SECOND);
}

static void teardown(void)
{
	fclose(out);
	free(text);
}

static const char *line(uint64_t now_ns, unsigned width)
{
	static char buf[STELE_BAR_WIDTH_MAX + 1];
	return stele_bar_line(&bar, now_ns, width, buf);
}

Test(progress, lines, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 30 * MIB, 120 * MIB, 103 * SECOND);
	cr_assert_str_eq(
	    line(103 * SECOND, 79),
	    "put a  [####              ]   25%  30.0 MiB of 120.0 MiB  10.0 MiB/s  0:09 left");
}

Test(progress, without_a_total, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 30 * MIB, 0, 110 * SECOND);
	cr_assert_str_eq(line(110 * SECOND, 79), "put a  30.0 MiB  3.0 MiB/s  0:10");
}

Test(progress, items, .init = setup, .fini = teardown)
{
	stele_bar_start_at(&bar, out, "repair", STELE_BAR_ITEMS, 100 * SECOND);
	stele_bar_step_at(&bar, 7, 7000, 102 * SECOND);
	cr_assert_not_null(strstr(line(102 * SECOND, 79), "0%  7 of 7000  3.5/s  33:18 left"), "%s",
	                   line(102 * SECOND, 79));
	stele_bar_step_at(&bar, 8, 70000000, 200 * SECOND);
	cr_assert_not_null(strstr(line(200 * SECOND, 79), "99:59:59 left"), "%s",
	                   line(200 * SECOND, 79));
}

Test(progress, standing_still, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 0, 10 * MIB, 105 * SECOND);
	cr_assert_not_null(strstr(line(105 * SECOND, 79), "0 B/s  -:-- left"));
	stele_bar_step_at(&bar, 11 * MIB, 10 * MIB, 106 * SECOND); /* more than was said */
	cr_assert_not_null(strstr(line(106 * SECOND, 79), "100%"));
	stele_bar_step_at(&bar, 0, 0, 106 * SECOND); /* and back */
	cr_assert_not_null(strstr(line(106 * SECOND, 79), "0 B/s"));
}

/* What a narrow terminal has no room for is left out, not cut. */
Test(progress, narrow, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 30 * MIB, 120 * MIB, 103 * SECOND);
	cr_assert_str_eq(line(103 * SECOND, 57), "put a   25%  30.0 MiB of 120.0 MiB  10.0 MiB/s  0:09 left");
	cr_assert_str_eq(line(103 * SECOND, 56), "put a   25%  30.0 MiB of 120.0 MiB  0:09 left");
	cr_assert_str_eq(line(103 * SECOND, 39), "put a  [###          ]   25%  0:09 left");
	cr_assert_str_eq(line(103 * SECOND, 20), "put a   25%");
	stele_bar_step_at(&bar, 30 * MIB, 0, 110 * SECOND);
	cr_assert_str_eq(line(110 * SECOND, 24), "put a  30.0 MiB  0:10");
}

/* At every width, from a column to more than any terminal has. */
Test(progress, fits, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 30 * MIB, 120 * MIB, 103 * SECOND);
	for (unsigned width = 0; width < 300; width++) {
		const char *got = line(103 * SECOND, width);
		cr_assert_leq(strlen(got),
		              width < STELE_BAR_WIDTH_MAX ? width : STELE_BAR_WIDTH_MAX);
		cr_assert_null(strpbrk(got, "\r\n\033"));
	}
}

/* The rate is that of the last seconds, not of the whole. */
Test(progress, follows_a_change_of_speed, .init = setup, .fini = teardown)
{
	uint64_t done = 0, now = 100 * SECOND;
	for (int i = 0; i < 100; i++, now += SECOND / 10)
		stele_bar_step_at(&bar, done += 10 * MIB, 10000 * MIB, now); /* 100 MiB/s */
	for (int i = 0; i < 50; i++, now += SECOND / 10)
		stele_bar_step_at(&bar, done += MIB, 10000 * MIB, now); /* 10 MiB/s */
	cr_assert_not_null(strstr(line(now - SECOND / 10, 79), " 10.0 MiB/s"), "%s",
	                   line(now - SECOND / 10, 79));
}

/* Exactly: from the oldest of the last 32 drawings until now. */
Test(progress, rate_of_the_window, .init = setup, .fini = teardown)
{
	uint64_t done[200], at[200], total = 1000000 * MIB, sum = 0, now = 101 * SECOND;
	for (int i = 0; i < 200; i++, now += SECOND / 10) {
		sum += (uint64_t)(1 + i * i % 97) * MIB;
		done[i] = sum;
		at[i] = now;
		stele_bar_step_at(&bar, sum, total, now);
		if (i < 40)
			continue;
		char want[32], size[STELE_SIZE_TEXT];
		int oldest = i - 31; /* this drawing is the window's newest */
		double rate =
		    (double)(done[i] - done[oldest]) / ((double)(at[i] - at[oldest]) / 1e9);
		snprintf(want, sizeof(want), " %s/s", stele_size_text((uint64_t)rate, size));
		cr_assert_not_null(strstr(line(now, 120), want), "%d: %s lacks %s", i,
		                   line(now, 120), want);
	}
}

static int count(const char *what)
{
	int n = 0;
	fflush(out);
	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

Test(progress, draws_seldom, .init = setup, .fini = teardown)
{
	for (uint64_t ms = 0; ms < 1000; ms++)
		stele_bar_step_at(&bar, ms, 5000, 100 * SECOND + ms * 1000000);
	cr_assert_eq(count("put a"), 0); /* might be over within the second */
	for (uint64_t ms = 1000; ms < 3000; ms++)
		stele_bar_step_at(&bar, ms, 5000, 100 * SECOND + ms * 1000000);
	cr_assert_eq(count("put a"), 20);
	cr_assert_eq(count("\r\033[K"), 20);
	cr_assert_eq(count("\n"), 0);
	stele_bar_finish(&bar);
	cr_assert_eq(count("\r\033[K"), 21);
	cr_assert_eq(strcmp(text + strlen(text) - 4, "\r\033[K"), 0); /* nothing is left */
	stele_bar_step_at(&bar, 1, 2, 200 * SECOND);
	stele_bar_finish(&bar);
	cr_assert_eq(count("\r\033[K"), 21);
}

Test(progress, short_work_leaves_no_trace, .init = setup, .fini = teardown)
{
	stele_bar_step_at(&bar, 1, 2, 100 * SECOND + SECOND / 2);
	stele_bar_finish(&bar);
	fflush(out);
	cr_assert_eq(text_len, 0u);
}

/* The label comes from a file's name. */
Test(progress, labels, .init = setup, .fini = teardown)
{
	static const char *const cases[][2] = {
	    {"put", "put"},
	    {"/a/long/path/blk00000.dat", "blk00000.dat"},
	    {"dir/", "dir/"},
	    {"", ""},
	    {"a\nb\x1b[2J\x7f", "a?b?[2J?"},
	    {"\xc2\x9b"
	     "31m\xc2\xa0",
	     "\xc2?31m\xc2\xa0"},
	    {"0123456789012345678901234567890", "0123456789012345678901234567890"},
	    {"01234567890123456789012345678901", "0123456789012345678901234567..."},
	    {"012345678901234567890123456\xc3\xa9\xc3\xa9\xc3\xa9",
	     "012345678901234567890123456..."},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		stele_bar_start_at(&bar, out, cases[i][0], STELE_BAR_BYTES, SECOND);
		cr_assert_str_eq(bar.label, cases[i][1], "%zu: %s", i, bar.label);
	}
}

Test(progress, silent_where_nobody_watches, .init = setup, .fini = teardown)
{
	struct stele_cli cli = {.program = "stele", .out = out, .err = out};
	stele_bar_start(&bar, &cli, "x", STELE_BAR_BYTES); /* a file, no terminal */
	cr_assert_null(bar.out);
	cr_assert(stele_bar_step(&bar, 1, 2));
	stele_bar_finish(&bar);
	fflush(out);
	cr_assert_eq(text_len, 0u);
}
