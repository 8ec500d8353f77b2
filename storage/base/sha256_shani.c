/*
 * SHA-256 with Intel's SHA extensions (SHA-NI): one to three independent streams interleaved, since
 * one alone waits for the latency of its rounds. Compression only: padding and scheduling are
 * sha256.c's. Built on every x86-64, run only where the CPU has the instructions.
 *
 * SHA256RNDS2 does two rounds on the state held as ABEF and CDGH; its round keys come from xmm0.
 * The message schedule runs four words ahead of the rounds in four registers.
 */
#include "storage/base/sha256_kernel.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define TARGET __attribute__((target("sha,avx")))
#define LANES  3u
#define INLINE TARGET __attribute__((always_inline)) static inline

struct state {
	__m128i abef;
	__m128i cdgh;
};

INLINE struct state load_state(const uint32_t h[8])
{
	__m128i dcba = _mm_loadu_si128((const __m128i *)&h[0]);
	__m128i hgfe = _mm_loadu_si128((const __m128i *)&h[4]);
	__m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
	__m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
	return (struct state){.abef = _mm_alignr_epi8(cdab, efgh, 8),
	                      .cdgh = _mm_blend_epi16(efgh, cdab, 0xf0)};
}

INLINE void store_state(uint32_t h[8], struct state s)
{
	__m128i feba = _mm_shuffle_epi32(s.abef, 0x1b);
	__m128i dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
	_mm_storeu_si128((__m128i *)&h[0], _mm_blend_epi16(feba, dchg, 0xf0));
	_mm_storeu_si128((__m128i *)&h[4], _mm_alignr_epi8(dchg, feba, 8));
}

INLINE void load_words(__m128i w[4], const uint8_t *p)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), big_endian);
}

/* Rounds 4q ... 4q + 3 of one stream, and the words that rounds 4q + 16 ... will use. */
INLINE void four_rounds(struct state *s, __m128i w[4], int q)
{
	__m128i wk =
	    _mm_add_epi32(w[q % 4], _mm_load_si128((const __m128i *)&stele_sha256_k[4 * q]));
	s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
	s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
	if (q < 12) {
		__m128i w7 = _mm_alignr_epi8(w[(q + 3) % 4], w[(q + 2) % 4], 4);
		__m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[q % 4], w[(q + 1) % 4]), w7);
		w[q % 4] = _mm_sha256msg2_epu32(sum, w[(q + 3) % 4]);
	}
}

/* `lanes` is a constant wherever this is inlined, so that every array lives in registers. */
INLINE void run_lanes(const unsigned lanes, uint32_t *const h[], const uint8_t *const p[],
                      size_t blocks)
{
	struct state s[LANES];
#pragma GCC unroll 3
	for (unsigned i = 0; i < lanes; i++)
		s[i] = load_state(h[i]);
	for (size_t b = 0; b < blocks; b++) {
		__m128i w[LANES][4];
		struct state before[LANES];
#pragma GCC unroll 3
		for (unsigned i = 0; i < lanes; i++) {
			before[i] = s[i];
			load_words(w[i], p[i] + b * STELE_SHA256_BLOCK);
		}
#pragma GCC unroll 16
		for (int q = 0; q < 16; q++) {
#pragma GCC unroll 3
			for (unsigned i = 0; i < lanes; i++)
				four_rounds(&s[i], w[i], q);
		}
#pragma GCC unroll 3
		for (unsigned i = 0; i < lanes; i++) {
			s[i].abef = _mm_add_epi32(s[i].abef, before[i].abef);
			s[i].cdgh = _mm_add_epi32(s[i].cdgh, before[i].cdgh);
		}
	}
#pragma GCC unroll 3
	for (unsigned i = 0; i < lanes; i++)
		store_state(h[i], s[i]);
}

TARGET __attribute__((noinline)) static void run_one(uint32_t *const h[], const uint8_t *const p[],
                                                     size_t blocks)
{
	run_lanes(1, h, p, blocks);
}

TARGET __attribute__((noinline)) static void run_two(uint32_t *const h[], const uint8_t *const p[],
                                                     size_t blocks)
{
	run_lanes(2, h, p, blocks);
}

TARGET __attribute__((noinline)) static void run_three(uint32_t *const h[],
                                                       const uint8_t *const p[], size_t blocks)
{
	run_lanes(3, h, p, blocks);
}

static void run(unsigned n, uint32_t *const h[], const uint8_t *const p[], size_t blocks)
{
	if (n == 3)
		run_three(h, p, blocks);
	else if (n == 2)
		run_two(h, p, blocks);
	else if (n == 1)
		run_one(h, p, blocks);
}

static bool usable(void)
{
	/* GCC 12's __builtin_cpu_supports knows no "sha": leaf 7, EBX bit 29 */
	unsigned eax, ebx, ecx, edx;
	return __builtin_cpu_supports("avx") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
	       (ebx >> 29 & 1);
}

const struct stele_sha256_kernel stele_sha256_shani = {
    .name = "shani",
    .lanes = LANES,
    .usable = usable,
    .run = run,
};
#endif
