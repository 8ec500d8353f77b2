/*
 * Goal: every kernel multiplies matrices by vectors exactly as ISA-L's base code does, at random
 * and edge sizes, at any alignment, and touches nothing outside the vectors that it was given.
 */
#include <criterion/criterion.h>
#include <isa-l/erasure_code.h>
#include <string.h>

#include "erasure/gf256.h"
#include "tests/unit/guard.h"

#define ROWS_MAX 17
#define LEN_MAX  40000

static uint64_t seed = 1;

static void with_each_kernel(void (*test)(void))
{
	int ran = 0;
	for (const char *const *k = stele_gf_kernels(); *k; k++)
		if (stele_gf_use(*k)) {
			cr_assert_str_eq(stele_gf_kernel(), *k);
			seed = 1;
			test();
			ran++;
		}
	cr_assert_geq(ran, 1);
	cr_assert(stele_gf_use(NULL));
}

Test(gf256, elements)
{
	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++) {
			unsigned want = 0; /* the definition: multiply, then reduce by 0x11d */
			for (unsigned i = 0; i < 8; i++)
				want ^= (b >> i & 1) ? a << i : 0;
			for (unsigned i = 15; i >= 8; i--)
				want ^= (want >> i & 1) ? 0x11du << (i - 8) : 0;
			cr_assert_eq(stele_gf_mul((uint8_t)a, (uint8_t)b), want);
		}
	for (unsigned a = 1; a < 256; a++)
		cr_assert_eq(stele_gf_mul((uint8_t)a, stele_gf_inv((uint8_t)a)), 1);
}

/* Vectors that end at forbidden pages, or begin just behind one at an odd address. */
static struct guard in_guard[STELE_GF_COLS_MAX], out_guard[ROWS_MAX];
static uint8_t *in[STELE_GF_COLS_MAX], *out[ROWS_MAX];
static unsigned char *want[ROWS_MAX];

static void make_vectors(void)
{
	for (unsigned c = 0; c < STELE_GF_COLS_MAX; c++) {
		in_guard[c] = guard_create(LEN_MAX);
		guard_fill(&seed, in_guard[c].begin, in_guard[c].len);
	}
	for (unsigned r = 0; r < ROWS_MAX; r++) {
		out_guard[r] = guard_create(LEN_MAX);
		want[r] = malloc(LEN_MAX);
		cr_assert_not_null(want[r]);
	}
}

static bool untouched(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0xa5 && memcmp(p, p + 1, len - 1) == 0);
}

static void free_vectors(void)
{
	for (unsigned c = 0; c < STELE_GF_COLS_MAX; c++)
		guard_destroy(&in_guard[c]);
	for (unsigned r = 0; r < ROWS_MAX; r++) {
		guard_destroy(&out_guard[r]);
		free(want[r]);
	}
}

static void check(unsigned rows, unsigned cols, size_t len, bool at_end)
{
	unsigned char tables[32 * ROWS_MAX * STELE_GF_COLS_MAX];
	uint8_t coef[ROWS_MAX * STELE_GF_COLS_MAX];
	guard_fill(&seed, coef, sizeof(coef));
	for (unsigned i = 0; i < rows * cols; i++)
		if (guard_random(&seed) % 4 == 0) /* zeros and ones may be treated apart */
			coef[i] &= 1;
	if (rows == 1 && guard_random(&seed) % 2) /* a plain sum as well */
		memset(coef, 1, sizeof(coef));
	for (unsigned c = 0; c < cols; c++)
		in[c] = at_end ? guard_end(&in_guard[c], len)
		               : in_guard[c].begin + guard_random(&seed) % 64;
	for (unsigned r = 0; r < rows; r++) {
		memset(out_guard[r].begin, 0xa5, out_guard[r].len);
		out[r] = at_end ? guard_end(&out_guard[r], len)
		                : out_guard[r].begin + guard_random(&seed) % 64;
	}
	ec_init_tables((int)cols, (int)rows, coef, tables);
	if (len)
		ec_encode_data_base((int)len, (int)cols, (int)rows, tables, in, want);
	stele_gf_product(coef, rows, cols, len, (const uint8_t *const *)in, out);
	for (unsigned r = 0; r < rows; r++) {
		cr_assert(memcmp(out[r], want[r], len) == 0, "%s: %u x %u, %zu bytes, row %u",
		          stele_gf_kernel(), rows, cols, len, r);
		cr_assert(untouched(out_guard[r].begin, (size_t)(out[r] - out_guard[r].begin)));
		uint8_t *behind = out[r] + len;
		cr_assert(
		    untouched(behind, (size_t)(out_guard[r].begin + out_guard[r].len - behind)));
	}
}

static void edge_lengths(void)
{
	make_vectors();
	for (size_t len = 0; len <= 300; len++)
		for (unsigned rows = 1; rows <= 9; rows++)
			check(rows, 1 + (unsigned)(guard_random(&seed) % 8), len, rows % 2);
	free_vectors();
}

Test(gf256, edge_lengths)
{
	with_each_kernel(edge_lengths);
}

static void every_shape(void)
{
	make_vectors();
	for (unsigned rows = 1; rows <= ROWS_MAX; rows++)
		for (unsigned cols = 1; cols <= STELE_GF_COLS_MAX; cols++)
			check(rows, cols, 64 + guard_random(&seed) % 400, cols % 2);
	free_vectors();
}

Test(gf256, every_shape)
{
	with_each_kernel(every_shape);
}

static void random_lengths(void)
{
	make_vectors();
	for (int round = 0; round < 60; round++) {
		unsigned rows = 1 + (unsigned)(guard_random(&seed) % 8);
		unsigned cols = 1 + (unsigned)(guard_random(&seed) % STELE_GF_COLS_MAX);
		check(rows, cols, guard_random(&seed) % (LEN_MAX - 64), round % 2);
	}
	free_vectors();
}

Test(gf256, random_lengths_across_slices)
{
	with_each_kernel(random_lengths);
}

Test(gf256, unknown_kernel_is_refused)
{
	const char *before = stele_gf_kernel();
	cr_assert(!stele_gf_use("none such"));
	cr_assert_str_eq(stele_gf_kernel(), before);
	cr_assert(stele_gf_use("isal"));
}
