/*
 * What a SHA-256 kernel is: the compression function over several independent streams at once.
 * Private to storage/base/sha256*.c; tests reach kernels by name through sha256.h.
 */
#ifndef STELE_BASE_SHA256_KERNEL_H
#define STELE_BASE_SHA256_KERNEL_H

#include "storage/base/sha256.h"

#define STELE_SHA256_BLOCK     64u
#define STELE_SHA256_LANES_MAX 16u /* of any kernel */

struct stele_sha256_kernel {
	const char *name;
	unsigned lanes; /* streams that it takes at once with profit */
	/* A long stream is faster alone than in a lane: its lanes are many and slow. */
	bool stream_apart;
	/* This CPU, and the system's saving of its registers, can run it. */
	bool (*usable)(void);
	/* Compresses `blocks` blocks of 64 bytes from p[i] into h[i], for each i < n, 1 <= n <=
	 * lanes. Any alignment; reads nothing beyond them. */
	void (*run)(unsigned n, uint32_t *const h[], const uint8_t *const p[], size_t blocks);
};

/* FIPS 180-4, 4.2.2 and 5.3.3 */
extern const uint32_t stele_sha256_k[64];
extern const uint32_t stele_sha256_initial[8];

extern const struct stele_sha256_kernel stele_sha256_openssl;
#if defined(__x86_64__)
extern const struct stele_sha256_kernel stele_sha256_shani;
extern const struct stele_sha256_kernel stele_sha256_avx512;
#endif

/* The kernel in use. */
const struct stele_sha256_kernel *stele_sha256_current(void);

/* Completes a message whose last `held` (< 64) bytes lie in edge[0, held): adds the padding and the
 * total length. edge holds two blocks; returns how many are to be compressed. */
size_t stele_sha256_pad(uint8_t edge[2 * STELE_SHA256_BLOCK], size_t held, uint64_t total);
void stele_sha256_output(const uint32_t h[8], struct stele_hash *out);

#endif
