/*
 * What a kernel of the matrix-times-vectors product is. Private to erasure/gf256*.c; tests reach
 * kernels by name through gf256.h.
 */
#ifndef ERASURE_GF256_KERNEL_H
#define ERASURE_GF256_KERNEL_H

#include "erasure/gf256.h"

#define STELE_GF_ROWS_MAX 8u /* outputs of one pass over the inputs */
/* Bytes of a prepared matrix: ISA-L's tables are the largest. */
#define STELE_GF_TABLES_LEN (32u * STELE_GF_ROWS_MAX * STELE_GF_COLS_MAX)

struct stele_gf_kernel {
	const char *name;
	bool (*usable)(void);
	/* Expands rows x cols coefficients into what `run` multiplies by; 1 <= rows <= ROWS_MAX. tables
	 * holds STELE_GF_TABLES_LEN bytes, aligned to 64. */
	void (*prepare)(const uint8_t *coef, unsigned rows, unsigned cols, void *tables);
	/* The product over len bytes of each vector. */
	void (*run)(const void *tables, unsigned rows, unsigned cols, size_t len,
	            const uint8_t *const *in, uint8_t *const *out);
	/* out = the sum of all inputs. False: not with these vectors; nothing was done. */
	bool (*sum)(unsigned cols, size_t len, const uint8_t *const *in, uint8_t *out);
};

/* Multiplication by each constant as an 8 x 8 matrix of bits, in GF2P8AFFINEQB's order. */
extern uint64_t stele_gf_affine[256];

#if defined(__x86_64__)
extern const struct stele_gf_kernel stele_gf_avx512;
extern const struct stele_gf_kernel stele_gf_avx2;
#endif

#endif
