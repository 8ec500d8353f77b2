/*
 * Arithmetic in GF(2^8), polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d), generator 2: the field of
 * ISA-L, and the product of a small matrix with long vectors, which is all of encoding and
 * decoding.
 *
 * The kernel for long vectors is chosen once, by CPU: AVX-512 with GFNI, AVX2 with GFNI, ISA-L for
 * everything else; tests may choose another. All give the same bytes. Thread: any; nothing
 * allocates.
 */
#ifndef ERASURE_GF256_H
#define ERASURE_GF256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STELE_GF_COLS_MAX 32u /* inputs of one product: k */

uint8_t stele_gf_mul(uint8_t a, uint8_t b);
uint8_t stele_gf_inv(uint8_t a); /* a != 0 */

/* out[r] = sum over c of coef[r * cols + c] * in[c], for each r < rows, over len bytes each.
 * cols is 1 ... STELE_GF_COLS_MAX, rows any. Any length, any alignment; nothing outside the vectors
 * is touched. No output may overlap an input or another output. */
void stele_gf_product(const uint8_t *coef, unsigned rows, unsigned cols, size_t len,
                      const uint8_t *const *in, uint8_t *const *out);

/* Kernels, for tests and benchmarks. NULL chooses the best for this CPU. False: not on this CPU. */
bool stele_gf_use(const char *kernel);
const char *stele_gf_kernel(void);
/* Names of all kernels built in, NULL-terminated; each may or may not run here. */
const char *const *stele_gf_kernels(void);

#endif
