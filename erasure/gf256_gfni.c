/*
 * The matrix-times-vectors product with GFNI, at 512 and at 256 bits. GF2P8AFFINEQB multiplies 64
 * (or 32) bytes by one constant, given as a matrix of bits, in any field of 256 elements. Built on
 * every x86-64, run only where the CPU has the instructions.
 */
#include "erasure/gf256_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

static void expand(const uint8_t *coef, unsigned n, uint64_t *matrix)
{
	for (unsigned i = 0; i < n; i++)
		matrix[i] = stele_gf_affine[coef[i]];
}

/* 512 bits: two vectors at a time; the last bytes under a mask, so that nothing else is touched. */

#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512vl,gfni")))
#define INLINE_512 TARGET_512 __attribute__((always_inline)) static inline

/* `rows` is a constant wherever this is inlined, so that the sums live in registers. */
INLINE_512 void product_512(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t len,
                            const uint8_t *const *in, uint8_t *const *out)
{
	size_t at = 0;
	for (; at + 128 <= len; at += 128) {
		__m512i lo[STELE_GF_ROWS_MAX], hi[STELE_GF_ROWS_MAX];
		for (unsigned r = 0; r < rows; r++)
			lo[r] = hi[r] = _mm512_setzero_si512();
		for (unsigned c = 0; c < cols; c++) {
			__m512i a = _mm512_loadu_si512(in[c] + at);
			__m512i b = _mm512_loadu_si512(in[c] + at + 64);
			for (unsigned r = 0; r < rows; r++) {
				__m512i m = _mm512_set1_epi64((long long)matrix[r * cols + c]);
				lo[r] =
				    _mm512_xor_si512(lo[r], _mm512_gf2p8affine_epi64_epi8(a, m, 0));
				hi[r] =
				    _mm512_xor_si512(hi[r], _mm512_gf2p8affine_epi64_epi8(b, m, 0));
			}
		}
		for (unsigned r = 0; r < rows; r++) {
			_mm512_storeu_si512(out[r] + at, lo[r]);
			_mm512_storeu_si512(out[r] + at + 64, hi[r]);
		}
	}
	for (; at < len; at += 64) {
		size_t left = len - at;
		__mmask64 some = left < 64 ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
		__m512i sum[STELE_GF_ROWS_MAX];
		for (unsigned r = 0; r < rows; r++)
			sum[r] = _mm512_setzero_si512();
		for (unsigned c = 0; c < cols; c++) {
			__m512i a = _mm512_maskz_loadu_epi8(some, in[c] + at);
			for (unsigned r = 0; r < rows; r++) {
				__m512i m = _mm512_set1_epi64((long long)matrix[r * cols + c]);
				sum[r] = _mm512_xor_si512(sum[r],
				                          _mm512_gf2p8affine_epi64_epi8(a, m, 0));
			}
		}
		for (unsigned r = 0; r < rows; r++)
			_mm512_mask_storeu_epi8(out[r] + at, some, sum[r]);
	}
}

TARGET_512 static void run_512(const uint8_t *coef, unsigned rows, unsigned cols, size_t len,
                               const uint8_t *const *in, uint8_t *const *out)
{
	uint64_t matrix[STELE_GF_ROWS_MAX * STELE_GF_COLS_MAX];
	expand(coef, rows * cols, matrix);
	switch (rows) {
	case 1:
		product_512(1, matrix, cols, len, in, out);
		break;
	case 2:
		product_512(2, matrix, cols, len, in, out);
		break;
	case 3:
		product_512(3, matrix, cols, len, in, out);
		break;
	case 4:
		product_512(4, matrix, cols, len, in, out);
		break;
	}
}

static bool usable_512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("gfni");
}

const struct stele_gf_kernel stele_gf_avx512 = {
    .name = "avx512-gfni", .usable = usable_512, .run = run_512};

/* 256 bits: the last bytes through a small copy, since AVX2 has no masks for bytes. */

#define TARGET_256 __attribute__((target("avx2,gfni")))
#define INLINE_256 TARGET_256 __attribute__((always_inline)) static inline

INLINE_256 __m256i load_256(const uint8_t *p, size_t len)
{
	__m256i v = _mm256_setzero_si256();
	if (len >= 32)
		return _mm256_loadu_si256((const __m256i *)p);
	memcpy(&v, p, len);
	return v;
}

INLINE_256 void store_256(uint8_t *p, __m256i v, size_t len)
{
	if (len >= 32)
		_mm256_storeu_si256((__m256i *)p, v);
	else
		memcpy(p, &v, len);
}

INLINE_256 void step_256(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t at,
                         size_t len, const uint8_t *const *in, uint8_t *const *out)
{
	__m256i sum[STELE_GF_ROWS_MAX];
	for (unsigned r = 0; r < rows; r++)
		sum[r] = _mm256_setzero_si256();
	for (unsigned c = 0; c < cols; c++) {
		__m256i a = load_256(in[c] + at, len);
		for (unsigned r = 0; r < rows; r++) {
			__m256i m = _mm256_set1_epi64x((long long)matrix[r * cols + c]);
			sum[r] = _mm256_xor_si256(sum[r], _mm256_gf2p8affine_epi64_epi8(a, m, 0));
		}
	}
	for (unsigned r = 0; r < rows; r++)
		store_256(out[r] + at, sum[r], len);
}

INLINE_256 void product_256(const unsigned rows, const uint64_t *matrix, unsigned cols, size_t len,
                            const uint8_t *const *in, uint8_t *const *out)
{
	size_t at = 0;
	for (; at + 32 <= len; at += 32)
		step_256(rows, matrix, cols, at, 32, in, out);
	if (at < len)
		step_256(rows, matrix, cols, at, len - at, in, out);
}

TARGET_256 static void run_256(const uint8_t *coef, unsigned rows, unsigned cols, size_t len,
                               const uint8_t *const *in, uint8_t *const *out)
{
	uint64_t matrix[STELE_GF_ROWS_MAX * STELE_GF_COLS_MAX];
	expand(coef, rows * cols, matrix);
	switch (rows) {
	case 1:
		product_256(1, matrix, cols, len, in, out);
		break;
	case 2:
		product_256(2, matrix, cols, len, in, out);
		break;
	case 3:
		product_256(3, matrix, cols, len, in, out);
		break;
	case 4:
		product_256(4, matrix, cols, len, in, out);
		break;
	}
}

static bool usable_256(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("gfni");
}

const struct stele_gf_kernel stele_gf_avx2 = {
    .name = "avx2-gfni", .usable = usable_256, .run = run_256};
#endif
