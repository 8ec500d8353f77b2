/*
 * The matrix-times-vectors product with GFNI, at 512 and at 256 bits. GF2P8AFFINEQB multiplies 64 (or
 * 32) bytes by one constant, given as a matrix of bits, in any field of 256 elements. Built on every
 * x86-64, run only where the CPU has the instructions.
 *
 * All rows are computed in one pass, their sums in registers: each input is loaded once. Functions
 * with a `const unsigned rows` are inlined with a constant, so that the sums are registers at all.
 */
#include "erasure/gf256_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

/* The rows' matrices for one input lie side by side. */
static void prepare(const uint8_t *coef, unsigned rows, unsigned cols, void *tables)
{
	uint64_t *matrix = tables;
	for (unsigned c = 0; c < cols; c++)
		for (unsigned r = 0; r < rows; r++)
			*matrix++ = stele_gf_affine[coef[r * cols + c]];
}

#define ROWS_CASES(f) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8)
_Static_assert(STELE_GF_ROWS_MAX == 8, "a case for each number of rows");

/* 512 bits: the last bytes under a mask, so that nothing else is touched. */

#define TARGET_512 __attribute__((target("avx512f,avx512bw,gfni")))
#define INLINE_512 TARGET_512 __attribute__((always_inline)) static inline
#define XOR3       0x96 /* truth table of vpternlog */

INLINE_512 __m512i times_512(__m512i v, uint64_t matrix)
{
	return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64((long long)matrix), 0);
}

/* One step: `width` registers of each vector from byte `at`. Inputs are taken in pairs, so that one
 * three-way XOR adds two products. */
INLINE_512 void step_512(const unsigned rows, const unsigned width, const uint64_t *matrix,
                         unsigned cols, size_t at, const uint8_t *const *in, uint8_t *const *out)
{
	__m512i sum[STELE_GF_ROWS_MAX][4], a[4], b[4];
	unsigned c = 0;
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (unsigned i = 0; i < width; i++)
			sum[r][i] = _mm512_setzero_si512();
	for (; c + 2 <= cols; c += 2, matrix += 2 * rows) {
#pragma GCC unroll 4
		for (unsigned i = 0; i < width; i++) {
			a[i] = _mm512_loadu_si512(in[c] + at + 64 * i);
			b[i] = _mm512_loadu_si512(in[c + 1] + at + 64 * i);
		}
#pragma GCC unroll 8
		for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 4
			for (unsigned i = 0; i < width; i++)
				sum[r][i] = _mm512_ternarylogic_epi64(
				    sum[r][i], times_512(a[i], matrix[r]),
				    times_512(b[i], matrix[rows + r]), XOR3);
	}
	if (c < cols) {
#pragma GCC unroll 4
		for (unsigned i = 0; i < width; i++)
			a[i] = _mm512_loadu_si512(in[c] + at + 64 * i);
#pragma GCC unroll 8
		for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 4
			for (unsigned i = 0; i < width; i++)
				sum[r][i] = _mm512_xor_si512(sum[r][i], times_512(a[i], matrix[r]));
	}
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (unsigned i = 0; i < width; i++)
			_mm512_storeu_si512(out[r] + at + 64 * i, sum[r][i]);
}

/* Up to 64 bytes from `at`. */
INLINE_512 void tail_512(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t at,
                         size_t len, const uint8_t *const *in, uint8_t *const *out)
{
	__mmask64 some = ~(__mmask64)0 >> (64 - len);
	__m512i sum[STELE_GF_ROWS_MAX];
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
		sum[r] = _mm512_setzero_si512();
	for (unsigned c = 0; c < cols; c++, matrix += rows) {
		__m512i a = _mm512_maskz_loadu_epi8(some, in[c] + at);
#pragma GCC unroll 8
		for (unsigned r = 0; r < rows; r++)
			sum[r] = _mm512_xor_si512(sum[r], times_512(a, matrix[r]));
	}
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
		_mm512_mask_storeu_epi8(out[r] + at, some, sum[r]);
}

INLINE_512 void product_512(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t len,
                            const uint8_t *const *in, uint8_t *const *out)
{
	const unsigned width = rows <= 4 ? 4 : 2; /* as many as 32 registers allow */
	size_t at = 0;
	for (; at + 64 * width <= len; at += 64 * width)
		step_512(rows, width, matrix, cols, at, in, out);
	for (; at < len; at += 64)
		tail_512(rows, matrix, cols, at, len - at < 64 ? len - at : 64, in, out);
}

#define PRODUCT_512(n)                                                                             \
	TARGET_512 static void product_512_##n(const uint64_t *matrix, unsigned cols, size_t len,  \
	                                       const uint8_t *const *in, uint8_t *const *out)      \
	{                                                                                          \
		product_512(n, matrix, cols, len, in, out);                                        \
	}
ROWS_CASES(PRODUCT_512)

static void run_512(const void *tables, unsigned rows, unsigned cols, size_t len,
                    const uint8_t *const *in, uint8_t *const *out)
{
	switch (rows) {
#define CASE_512(n)                                                                                \
	case n:                                                                                    \
		product_512_##n(tables, cols, len, in, out);                                       \
		break;
		ROWS_CASES(CASE_512)
	}
}

TARGET_512 static bool sum_512(unsigned cols, size_t len, const uint8_t *const *in, uint8_t *out)
{
	size_t at = 0;
	for (; at + 256 <= len; at += 256) {
		__m512i sum[4];
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++)
			sum[i] = _mm512_loadu_si512(in[0] + at + 64 * i);
		for (unsigned c = 1; c < cols; c++)
#pragma GCC unroll 4
			for (unsigned i = 0; i < 4; i++)
				sum[i] = _mm512_xor_si512(sum[i],
				                          _mm512_loadu_si512(in[c] + at + 64 * i));
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++)
			_mm512_storeu_si512(out + at + 64 * i, sum[i]);
	}
	for (; at < len; at += 64) {
		__mmask64 some = ~(__mmask64)0 >> (len - at < 64 ? 64 - (len - at) : 0);
		__m512i sum = _mm512_setzero_si512();
		for (unsigned c = 0; c < cols; c++)
			sum = _mm512_xor_si512(sum, _mm512_maskz_loadu_epi8(some, in[c] + at));
		_mm512_mask_storeu_epi8(out + at, some, sum);
	}
	return true;
}

static bool usable_512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("gfni");
}

const struct stele_gf_kernel stele_gf_avx512 = {
    .name = "avx512-gfni",
    .usable = usable_512,
    .prepare = prepare,
    .run = run_512,
    .sum = sum_512,
};

/* 256 bits: the last bytes through a register's worth of memory, for there are no masks for bytes. */

#define TARGET_256 __attribute__((target("avx2,gfni")))
#define INLINE_256 TARGET_256 __attribute__((always_inline)) static inline

INLINE_256 __m256i load_256(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

INLINE_256 __m256i times_256(__m256i v, uint64_t matrix)
{
	return _mm256_gf2p8affine_epi64_epi8(v, _mm256_set1_epi64x((long long)matrix), 0);
}

INLINE_256 void step_256(const unsigned rows, const unsigned width, const uint64_t *matrix,
                         unsigned cols, size_t at, const uint8_t *const *in, uint8_t *const *out)
{
	__m256i sum[STELE_GF_ROWS_MAX][3];
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 3
		for (unsigned i = 0; i < width; i++)
			sum[r][i] = _mm256_setzero_si256();
	for (unsigned c = 0; c < cols; c++, matrix += rows) {
		__m256i a[3];
#pragma GCC unroll 3
		for (unsigned i = 0; i < width; i++)
			a[i] = load_256(in[c] + at + 32 * i);
#pragma GCC unroll 8
		for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 3
			for (unsigned i = 0; i < width; i++)
				sum[r][i] = _mm256_xor_si256(sum[r][i], times_256(a[i], matrix[r]));
	}
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
#pragma GCC unroll 3
		for (unsigned i = 0; i < width; i++)
			_mm256_storeu_si256((__m256i *)(out[r] + at + 32 * i), sum[r][i]);
}

/* Fewer than 32 bytes from `at`. */
INLINE_256 void tail_256(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t at,
                         size_t len, const uint8_t *const *in, uint8_t *const *out)
{
	__m256i sum[STELE_GF_ROWS_MAX];
#pragma GCC unroll 8
	for (unsigned r = 0; r < rows; r++)
		sum[r] = _mm256_setzero_si256();
	for (unsigned c = 0; c < cols; c++, matrix += rows) {
		__m256i a = _mm256_setzero_si256();
		memcpy(&a, in[c] + at, len);
#pragma GCC unroll 8
		for (unsigned r = 0; r < rows; r++)
			sum[r] = _mm256_xor_si256(sum[r], times_256(a, matrix[r]));
	}
	for (unsigned r = 0; r < rows; r++)
		memcpy(out[r] + at, &sum[r], len);
}

INLINE_256 void product_256(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t len,
                            const uint8_t *const *in, uint8_t *const *out)
{
	/* as many as 16 registers allow */
	const unsigned width = rows <= 3 ? 3 : rows <= 5 ? 2 : 1;
	size_t at = 0;
	for (; at + 32 * width <= len; at += 32 * width)
		step_256(rows, width, matrix, cols, at, in, out);
	for (; at + 32 <= len; at += 32)
		step_256(rows, 1, matrix, cols, at, in, out);
	if (at < len)
		tail_256(rows, matrix, cols, at, len - at, in, out);
}

#define PRODUCT_256(n)                                                                             \
	TARGET_256 static void product_256_##n(const uint64_t *matrix, unsigned cols, size_t len,  \
	                                       const uint8_t *const *in, uint8_t *const *out)      \
	{                                                                                          \
		product_256(n, matrix, cols, len, in, out);                                        \
	}
ROWS_CASES(PRODUCT_256)

static void run_256(const void *tables, unsigned rows, unsigned cols, size_t len,
                    const uint8_t *const *in, uint8_t *const *out)
{
	switch (rows) {
#define CASE_256(n)                                                                                \
	case n:                                                                                    \
		product_256_##n(tables, cols, len, in, out);                                       \
		break;
		ROWS_CASES(CASE_256)
	}
}

TARGET_256 static bool sum_256(unsigned cols, size_t len, const uint8_t *const *in, uint8_t *out)
{
	size_t at = 0;
	for (; at + 128 <= len; at += 128) {
		__m256i sum[4];
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++)
			sum[i] = load_256(in[0] + at + 32 * i);
		for (unsigned c = 1; c < cols; c++)
#pragma GCC unroll 4
			for (unsigned i = 0; i < 4; i++)
				sum[i] = _mm256_xor_si256(sum[i], load_256(in[c] + at + 32 * i));
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++)
			_mm256_storeu_si256((__m256i *)(out + at + 32 * i), sum[i]);
	}
	for (; at < len; at++) {
		uint8_t sum = 0;
		for (unsigned c = 0; c < cols; c++)
			sum ^= in[c][at];
		out[at] = sum;
	}
	return true;
}

static bool usable_256(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("gfni");
}

const struct stele_gf_kernel stele_gf_avx2 = {
    .name = "avx2-gfni",
    .usable = usable_256,
    .prepare = prepare,
    .run = run_256,
    .sum = sum_256,
};
#endif
