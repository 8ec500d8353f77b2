/*
 * What a SHA-256 kernel is: the compression function over several independent streams at once.
 * Private to storage/base/sha256*.c; tests reach kernels by name through sha256.h.
 */
#ifndef STELE_BASE_SHA256_KERNEL_H
#define STELE_BASE_SHA256_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STELE_SHA256_BLOCK     64u
#define STELE_SHA256_LANES_MAX 3u /* of any kernel */

struct stele_sha256_kernel {
	const char *name;
	unsigned lanes; /* streams that it takes at once with profit */
	/* This CPU, and the system's saving of its registers, can run it. */
	bool (*usable)(void);
	/* Compresses `blocks` blocks of 64 bytes from p[i] into h[i], for each i < n, n <= lanes.
	 * Any alignment; reads nothing beyond them. */
	void (*run)(unsigned n, uint32_t *const h[], const uint8_t *const p[], size_t blocks);
};

/* FIPS 180-4, 4.2.2 */
extern const uint32_t stele_sha256_k[64];

extern const struct stele_sha256_kernel stele_sha256_openssl;
#if defined(__x86_64__)
extern const struct stele_sha256_kernel stele_sha256_shani;
#endif

#endif
