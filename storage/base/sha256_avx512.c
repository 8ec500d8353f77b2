/*
 * SHA-256 of sixteen independent streams with AVX-512, a 32-bit lane of each register for each
 * stream: for CPUs that have AVX-512 and no SHA-NI (Skylake-SP, Cascade Lake). Compression only. A
 * few streams, which would leave most lanes empty, go to OpenSSL one by one. Built on every x86-64,
 * run only where the CPU has the instructions.
 */
#include "storage/base/sha256_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES    16u
#define FEW      3u /* from here on sixteen lanes, most of them idle, beat one stream after another */
#define TARGET   __attribute__((target("avx512f,avx512bw")))
#define INLINE   TARGET __attribute__((always_inline)) static inline
#define XOR3     0x96 /* truth tables of vpternlog */
#define CHOOSE   0xca
#define MAJORITY 0xe8

/* Turns 16 rows of 16 words into 16 columns. */
INLINE void transpose(__m512i r[16])
{
	__m512i t[16];
#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	/* r[4g + w]: in its 128-bit part q, word 4q + w of rows 4g ... 4g + 3 */
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 4
	for (int w = 0; w < 4; w++) {
		__m512i even_lo = _mm512_shuffle_i32x4(r[w], r[4 + w], 0x88);
		__m512i odd_lo = _mm512_shuffle_i32x4(r[w], r[4 + w], 0xdd);
		__m512i even_hi = _mm512_shuffle_i32x4(r[8 + w], r[12 + w], 0x88);
		__m512i odd_hi = _mm512_shuffle_i32x4(r[8 + w], r[12 + w], 0xdd);
		t[w] = _mm512_shuffle_i32x4(even_lo, even_hi, 0x88);
		t[4 + w] = _mm512_shuffle_i32x4(odd_lo, odd_hi, 0x88);
		t[8 + w] = _mm512_shuffle_i32x4(even_lo, even_hi, 0xdd);
		t[12 + w] = _mm512_shuffle_i32x4(odd_lo, odd_hi, 0xdd);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		r[i] = t[i];
}

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi32(a, b, c, XOR3);
}

/* s: a ... h */
INLINE void one_round(__m512i s[8], __m512i wk)
{
	__m512i sum1 =
	    xor3(_mm512_ror_epi32(s[4], 6), _mm512_ror_epi32(s[4], 11), _mm512_ror_epi32(s[4], 25));
	__m512i sum0 =
	    xor3(_mm512_ror_epi32(s[0], 2), _mm512_ror_epi32(s[0], 13), _mm512_ror_epi32(s[0], 22));
	__m512i ch = _mm512_ternarylogic_epi32(s[4], s[5], s[6], CHOOSE);
	__m512i maj = _mm512_ternarylogic_epi32(s[0], s[1], s[2], MAJORITY);
	__m512i t1 = _mm512_add_epi32(_mm512_add_epi32(s[7], wk), _mm512_add_epi32(sum1, ch));
	__m512i t2 = _mm512_add_epi32(sum0, maj);
	s[7] = s[6];
	s[6] = s[5];
	s[5] = s[4];
	s[4] = _mm512_add_epi32(s[3], t1);
	s[3] = s[2];
	s[2] = s[1];
	s[1] = s[0];
	s[0] = _mm512_add_epi32(t1, t2);
}

/* The word sixteen rounds after w[i]. */
INLINE __m512i next_word(const __m512i w[16], int i)
{
	__m512i x = w[(i + 1) % 16], y = w[(i + 14) % 16];
	__m512i s0 = xor3(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18), _mm512_srli_epi32(x, 3));
	__m512i s1 =
	    xor3(_mm512_ror_epi32(y, 17), _mm512_ror_epi32(y, 19), _mm512_srli_epi32(y, 10));
	return _mm512_add_epi32(_mm512_add_epi32(w[i], s0), _mm512_add_epi32(w[(i + 9) % 16], s1));
}

INLINE void one_block(__m512i s[8], const uint8_t *const p[LANES], size_t at)
{
	const __m512i big_endian =
	    _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
	__m512i w[16], before[8];
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(p[i] + at), big_endian);
	transpose(w);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		before[i] = s[i];
	for (int t = 0; t < 64; t += 16) {
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m512i k = _mm512_set1_epi32((int)stele_sha256_k[t + i]);
			one_round(s, _mm512_add_epi32(w[i], k));
			if (t < 48)
				w[i] = next_word(w, i);
		}
	}
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		s[i] = _mm512_add_epi32(s[i], before[i]);
}

TARGET static void run_sixteen(unsigned n, uint32_t *const h[], const uint8_t *const p[],
                               size_t blocks)
{
	uint32_t state[8][LANES]; /* word by word */
	const uint8_t *src[LANES];
	__m512i s[8];
	for (unsigned l = 0; l < LANES; l++) {
		unsigned from = l < n ? l : 0; /* idle lanes repeat the first one */
		src[l] = p[from];
		for (unsigned i = 0; i < 8; i++)
			state[i][l] = h[from][i];
	}
	for (unsigned i = 0; i < 8; i++)
		s[i] = _mm512_loadu_si512(state[i]);
	for (size_t b = 0; b < blocks; b++)
		one_block(s, src, b * STELE_SHA256_BLOCK);
	for (unsigned i = 0; i < 8; i++)
		_mm512_storeu_si512(state[i], s[i]);
	for (unsigned l = 0; l < n; l++)
		for (unsigned i = 0; i < 8; i++)
			h[l][i] = state[i][l];
}

static void run(unsigned n, uint32_t *const h[], const uint8_t *const p[], size_t blocks)
{
	if (n >= FEW)
		run_sixteen(n, h, p, blocks);
	else
		for (unsigned i = 0; i < n; i++)
			stele_sha256_openssl.run(1, &h[i], &p[i], blocks);
}

static bool usable(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

const struct stele_sha256_kernel stele_sha256_avx512 = {
    .name = "avx512",
    .lanes = LANES,
    .stream_apart = true,
    .usable = usable,
    .run = run,
};
#endif
