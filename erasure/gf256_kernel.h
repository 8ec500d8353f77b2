/*
 * What a kernel of the matrix-times-vectors product is. Private to erasure/gf256*.c; tests reach
 * kernels by name through gf256.h.
 */
#ifndef ERASURE_GF256_KERNEL_H
#define ERASURE_GF256_KERNEL_H

#include "erasure/gf256.h"

#define STELE_GF_ROWS_MAX 4u /* outputs of one pass over the inputs */

struct stele_gf_kernel {
	const char *name;
	bool (*usable)(void);
	/* The product of 1 ... STELE_GF_ROWS_MAX rows over vectors short enough for the cache. */
	void (*run)(const uint8_t *coef, unsigned rows, unsigned cols, size_t len,
	            const uint8_t *const *in, uint8_t *const *out);
};

/* Multiplication by each constant as an 8 x 8 matrix of bits, in GF2P8AFFINEQB's order. */
extern uint64_t stele_gf_affine[256];

#if defined(__x86_64__)
extern const struct stele_gf_kernel stele_gf_avx512;
extern const struct stele_gf_kernel stele_gf_avx2;
#endif

#endif
