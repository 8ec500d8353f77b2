/*
 * GF(2^8): single elements by ISA-L's tables, long vectors by a kernel over slices that stay in
 * cache. The GFNI kernels are in gf256_gfni.c; ISA-L's, for every other CPU, is here. Knows nothing
 * of codes.
 */
#include "erasure/gf256.h"

#include <assert.h>
#include <isa-l/erasure_code.h>
#include <isa-l/raid.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "erasure/gf256_kernel.h"

#define SLICE (16u << 10) /* bytes of each vector that one pass takes */

uint8_t stele_gf_mul(uint8_t a, uint8_t b)
{
	return gf_mul(a, b);
}

uint8_t stele_gf_inv(uint8_t a)
{
	assert(a != 0);
	return gf_inv(a);
}

/* Kernels */

static bool always(void)
{
	return true;
}

static void prepare_isal(const uint8_t *coef, unsigned rows, unsigned cols, void *tables)
{
	/* ISA-L's prototypes lack the const */
	ec_init_tables((int)cols, (int)rows, (unsigned char *)coef, tables);
}

static void run_isal(const void *tables, unsigned rows, unsigned cols, size_t len,
                     const uint8_t *const *in, uint8_t *const *out)
{
	ec_encode_data((int)len, (int)cols, (int)rows, (unsigned char *)tables,
	               (unsigned char **)in, (unsigned char **)out);
}

/* ISA-L's XOR wants two inputs or more, and every vector at a multiple of 32. */
static bool sum_isal(unsigned cols, size_t len, const uint8_t *const *in, uint8_t *out)
{
	void *vector[STELE_GF_COLS_MAX + 1];
	uintptr_t bits = (uintptr_t)out;
	for (unsigned c = 0; c < cols; c++) {
		vector[c] = (void *)in[c];
		bits |= (uintptr_t)in[c];
	}
	vector[cols] = out;
	return cols >= 2 && bits % 32 == 0 && xor_gen((int)cols + 1, (int)len, vector) == 0;
}

static const struct stele_gf_kernel isal = {
    .name = "isal", .usable = always, .prepare = prepare_isal, .run = run_isal, .sum = sum_isal};

static const struct stele_gf_kernel *const kernels[] = {/* the best first */
#if defined(__x86_64__)
                                                        &stele_gf_avx512, &stele_gf_avx2,
#endif
                                                        &isal};
#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

uint64_t stele_gf_affine[256];

static const char *kernel_names[KERNELS + 1];
static _Atomic(const struct stele_gf_kernel *) chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The matrix of x -> c * x: output bit i is the parity of (row i AND x), and row i is byte 7 - i.
 */
static uint64_t affine(uint8_t c)
{
	uint64_t m = 0;
	for (unsigned j = 0; j < 8; j++) {
		unsigned column = gf_mul(c, (unsigned char)(1u << j));
		for (unsigned i = 0; i < 8; i++)
			m |= (uint64_t)(column >> i & 1) << (8 * (7 - i) + j);
	}
	return m;
}

static const struct stele_gf_kernel *find_kernel(const char *name)
{
	for (size_t i = 0; i < KERNELS; i++)
		if ((!name || strcmp(kernels[i]->name, name) == 0) && kernels[i]->usable())
			return kernels[i];
	return NULL;
}

static void init(void)
{
	for (unsigned c = 0; c < 256; c++)
		stele_gf_affine[c] = affine((uint8_t)c);
	for (size_t i = 0; i < KERNELS; i++)
		kernel_names[i] = kernels[i]->name;
	atomic_store(&chosen, find_kernel(NULL));
}

static const struct stele_gf_kernel *kernel(void)
{
	pthread_once(&once, init);
	return atomic_load_explicit(&chosen, memory_order_relaxed);
}

bool stele_gf_use(const char *name)
{
	pthread_once(&once, init);
	const struct stele_gf_kernel *k = find_kernel(name);
	if (k)
		atomic_store(&chosen, k);
	return k != NULL;
}

const char *stele_gf_kernel(void)
{
	return kernel()->name;
}

const char *const *stele_gf_kernels(void)
{
	pthread_once(&once, init);
	return kernel_names;
}

/* The product */

static bool all_ones(const uint8_t *coef, unsigned cols)
{
	for (unsigned c = 0; c < cols; c++)
		if (coef[c] != 1)
			return false;
	return true;
}

/* Of at most STELE_GF_ROWS_MAX rows: slice by slice, for kernels that need several passes. */
static void product(const struct stele_gf_kernel *kern, const uint8_t *coef, unsigned rows,
                    unsigned cols, size_t len, const uint8_t *const *in, uint8_t *const *out)
{
	_Alignas(64) uint8_t tables[STELE_GF_TABLES_LEN];
	const uint8_t *src[STELE_GF_COLS_MAX];
	uint8_t *dst[STELE_GF_ROWS_MAX];
	kern->prepare(coef, rows, cols, tables);
	for (size_t at = 0; at < len; at += SLICE) {
		for (unsigned c = 0; c < cols; c++)
			src[c] = in[c] + at;
		for (unsigned r = 0; r < rows; r++)
			dst[r] = out[r] + at;
		kern->run(tables, rows, cols, len - at < SLICE ? len - at : SLICE, src, dst);
	}
}

void stele_gf_product(const uint8_t *coef, unsigned rows, unsigned cols, size_t len,
                      const uint8_t *const *in, uint8_t *const *out)
{
	const struct stele_gf_kernel *kern = kernel();
	assert(cols >= 1 && cols <= STELE_GF_COLS_MAX);
	if (rows == 1 && all_ones(coef, cols) && kern->sum(cols, len, in, out[0]))
		return;
	for (unsigned r = 0; r < rows; r += STELE_GF_ROWS_MAX)
		product(kern, coef + (size_t)r * cols,
		        rows - r < STELE_GF_ROWS_MAX ? rows - r : STELE_GF_ROWS_MAX, cols, len, in,
		        out + r);
}
