/*
 * SHA-256: the choice of a kernel, and single streams. The compression function is in the kernels
 * (sha256_shani.c, sha256_avx512.c; OpenSSL's here); many streams at once are in sha256_lanes.c.
 */
#include "storage/base/sha256.h"

#include <openssl/configuration.h>
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Update: EVP has no way to set a state */
#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>

#include "storage/base/sha256_kernel.h"

#define BLOCK STELE_SHA256_BLOCK

const uint32_t stele_sha256_k[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

const uint32_t stele_sha256_initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Kernels */

static bool always(void)
{
	return true;
}

static void run_openssl(unsigned n, uint32_t *const h[], const uint8_t *const p[], size_t blocks)
{
	for (unsigned i = 0; i < n; i++) {
		SHA256_CTX c = {.md_len = SHA256_DIGEST_LENGTH};
		memcpy(c.h, h[i], sizeof(c.h));
		SHA256_Update(&c, p[i], blocks * BLOCK); /* whole blocks: only compresses */
		memcpy(h[i], c.h, sizeof(c.h));
	}
}

const struct stele_sha256_kernel stele_sha256_openssl = {
    .name = "openssl",
    .lanes = 1,
    .usable = always,
    .run = run_openssl,
};

static const struct stele_sha256_kernel *const kernels[] = {/* the best first */
#if defined(__x86_64__)
                                                            &stele_sha256_shani,
                                                            &stele_sha256_avx512,
#endif
                                                            &stele_sha256_openssl};
#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

static const char *kernel_names[KERNELS + 1];
static _Atomic(const struct stele_sha256_kernel *) chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose_best(void)
{
	for (size_t i = 0; i < KERNELS; i++)
		kernel_names[i] = kernels[i]->name;
	for (size_t i = 0; i < KERNELS; i++)
		if (kernels[i]->usable()) {
			atomic_store(&chosen, kernels[i]);
			return;
		}
}

const struct stele_sha256_kernel *stele_sha256_current(void)
{
	pthread_once(&once, choose_best);
	return atomic_load_explicit(&chosen, memory_order_relaxed);
}

bool stele_sha256_use(const char *name)
{
	pthread_once(&once, choose_best);
	for (size_t i = 0; i < KERNELS; i++)
		if ((!name || strcmp(kernels[i]->name, name) == 0) && kernels[i]->usable()) {
			atomic_store(&chosen, kernels[i]);
			return true;
		}
	return false;
}

const char *stele_sha256_kernel(void)
{
	return stele_sha256_current()->name;
}

const char *const *stele_sha256_kernels(void)
{
	pthread_once(&once, choose_best);
	return kernel_names;
}

/* One stream */

static void compress(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	if (blocks)
		stele_sha256_current()->run(1, &h, &p, blocks);
}

void stele_sha256_output(const uint32_t h[8], struct stele_hash *out)
{
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++)
			out->b[4 * i + j] = (uint8_t)(h[i] >> (24 - 8 * j));
}

size_t stele_sha256_pad(uint8_t edge[2 * BLOCK], size_t held, uint64_t total)
{
	size_t blocks = held < BLOCK - 8 ? 1 : 2;
	edge[held] = 0x80;
	memset(edge + held + 1, 0, blocks * BLOCK - 8 - held - 1);
	stele_put_be64(edge + blocks * BLOCK - 8, total * 8);
	return blocks;
}

void stele_sha256_init(struct stele_sha256_stream *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->h, stele_sha256_initial, sizeof(s->h));
}

void stele_sha256_update(struct stele_sha256_stream *s, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t held = s->total % BLOCK;
	if (!len)
		return;
	s->total += len;
	if (held) {
		size_t take = len < BLOCK - held ? len : BLOCK - held;
		memcpy(s->block + held, p, take);
		if (held + take < BLOCK)
			return;
		compress(s->h, s->block, 1);
		p += take;
		len -= take;
	}
	compress(s->h, p, len / BLOCK);
	memcpy(s->block, p + len / BLOCK * BLOCK, len % BLOCK);
}

void stele_sha256_value(const struct stele_sha256_stream *s, struct stele_hash *out)
{
	uint8_t edge[2 * BLOCK];
	uint32_t h[8];
	size_t held = s->total % BLOCK;
	memcpy(h, s->h, sizeof(h));
	memcpy(edge, s->block, held);
	compress(h, edge, stele_sha256_pad(edge, held, s->total));
	stele_sha256_output(h, out);
}

void stele_sha256(const void *data, size_t len, struct stele_hash *out)
{
	struct stele_sha256_stream s;
	stele_sha256_init(&s);
	stele_sha256_update(&s, data, len);
	stele_sha256_value(&s, out);
}
