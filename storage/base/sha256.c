/*
 * SHA-256: streams, and the scheduling of independent messages over a kernel's lanes. The
 * compression function is in the kernels (sha256_shani.c; OpenSSL's here). Nothing allocates;
 * message bytes are read where they lie, only the edges of a message are copied.
 *
 * A message in a lane is a few runs of blocks: a first block that holds the leaf prefix 0x00 and 63
 * bytes, or the stream's held-back bytes; then the body, straight from the caller's memory; then
 * the padded end.
 */
#include "storage/base/sha256.h"

#include <assert.h>
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

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
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

static const struct stele_sha256_kernel *kernel(void)
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
	return kernel()->name;
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
		kernel()->run(1, &h, &p, blocks);
}

static void value_of(const uint32_t h[8], struct stele_hash *out)
{
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++)
			out->b[4 * i + j] = (uint8_t)(h[i] >> (24 - 8 * j));
}

/* Completes a message whose last `held` (< 64) bytes lie in edge[0, held): adds the padding and the
 * total length. edge holds two blocks; returns how many are to be compressed. */
static size_t pad(uint8_t edge[2 * BLOCK], size_t held, uint64_t total)
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
	memcpy(s->h, initial, sizeof(s->h));
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
	compress(h, edge, pad(edge, held, s->total));
	value_of(h, out);
}

void stele_sha256(const void *data, size_t len, struct stele_hash *out)
{
	struct stele_sha256_stream s;
	stele_sha256_init(&s);
	stele_sha256_update(&s, data, len);
	stele_sha256_value(&s, out);
}

/* Lanes */

/* What a lane works on. `p` and `blocks` are its current run; when it is done, `stage` says what
 * comes next. */
struct lane {
	uint32_t h[8];
	const uint8_t *p;
	size_t blocks;
	enum { IDLE, HEAD, BODY, END } stage;
	const uint8_t *rest; /* not yet in a run */
	size_t left;
	uint64_t total;                     /* of the message, its prefix included */
	struct stele_hash *out;             /* of a message */
	struct stele_sha256_stream *stream; /* or the stream that it feeds */
	uint8_t edge[2 * BLOCK];
};

/* Hands out messages one by one. False: there are no more. */
struct source {
	bool (*next)(struct source *src, struct stele_sha256_message *out);
	bool leaf; /* 0x00 goes before each of them */
};

static void run_body(struct lane *l)
{
	l->stage = BODY;
	l->p = l->rest;
	l->blocks = l->left / BLOCK;
	l->rest += l->blocks * BLOCK;
	l->left %= BLOCK;
}

static void start_stream(struct lane *l, struct stele_sha256_stream *s, const void *data,
                         size_t len)
{
	size_t held = s->total % BLOCK;
	memcpy(l->h, s->h, sizeof(l->h));
	l->stream = s;
	l->out = NULL;
	l->rest = data;
	l->left = len;
	l->total = s->total + len;
	if (held && held + len >= BLOCK) {
		memcpy(l->edge, s->block, held);
		memcpy(l->edge + held, data, BLOCK - held);
		l->stage = HEAD;
		l->p = l->edge;
		l->blocks = 1;
		l->rest += BLOCK - held;
		l->left -= BLOCK - held;
	} else if (held) { /* not even one block: the bytes wait in the stream */
		l->stage = BODY;
		l->p = l->edge;
		l->blocks = 0;
	} else {
		run_body(l);
	}
}

static void start_message(struct lane *l, const struct stele_sha256_message *m, bool leaf)
{
	memcpy(l->h, initial, sizeof(l->h));
	l->stream = NULL;
	l->out = m->out;
	l->rest = m->data;
	l->left = m->len;
	l->total = m->len + leaf;
	if (leaf && m->len >= BLOCK - 1) {
		l->edge[0] = 0x00;
		memcpy(l->edge + 1, m->data, BLOCK - 1);
		l->stage = HEAD;
		l->p = l->edge;
		l->blocks = 1;
		l->rest += BLOCK - 1;
		l->left -= BLOCK - 1;
	} else if (leaf) { /* prefix and all go into the end */
		l->stage = BODY;
		l->p = l->edge;
		l->blocks = 0;
	} else {
		run_body(l);
	}
}

static void start_end(struct lane *l)
{
	size_t held = l->total % BLOCK;
	size_t prefix = held - l->left; /* 1 when a short leaf's prefix was not hashed yet */
	assert(prefix <= 1);
	l->edge[0] = 0x00;
	if (l->left)
		memcpy(l->edge + prefix, l->rest, l->left);
	l->stage = END;
	l->p = l->edge;
	l->blocks = pad(l->edge, held, l->total);
}

static void finish_stream(struct lane *l)
{
	struct stele_sha256_stream *s = l->stream;
	size_t held = l->total % BLOCK;
	memcpy(s->h, l->h, sizeof(s->h));
	if (l->left)
		memcpy(s->block + held - l->left, l->rest, l->left);
	s->total = l->total;
}

/* Moves a lane whose run is over to its next run, or to IDLE when its message is done. */
static void advance(struct lane *l)
{
	while (l->stage != IDLE && l->blocks == 0) {
		if (l->stage == HEAD) {
			run_body(l);
		} else if (l->stage == BODY && l->stream) {
			finish_stream(l);
			l->stage = IDLE;
		} else if (l->stage == BODY) {
			start_end(l);
		} else {
			value_of(l->h, l->out);
			l->stage = IDLE;
		}
	}
}

/* Runs the stream's bytes, if there are any, and all of src's messages over the kernel's lanes. */
static void run_all(struct source *src, struct stele_sha256_stream *object, const void *data,
                    size_t len)
{
	const struct stele_sha256_kernel *kern = kernel();
	struct lane lane[STELE_SHA256_LANES_MAX];
	bool more = true;

	for (unsigned i = 0; i < kern->lanes; i++)
		lane[i].stage = IDLE;
	if (object && len) {
		start_stream(&lane[0], object, data, len);
		advance(&lane[0]);
	}
	for (;;) {
		uint32_t *h[STELE_SHA256_LANES_MAX];
		const uint8_t *p[STELE_SHA256_LANES_MAX];
		unsigned busy[STELE_SHA256_LANES_MAX], n = 0;
		size_t blocks = SIZE_MAX;
		for (unsigned i = 0; i < kern->lanes; i++) {
			struct lane *l = &lane[i];
			struct stele_sha256_message m;
			while (l->stage == IDLE && more) {
				more = src->next(src, &m);
				if (more) {
					start_message(l, &m, src->leaf);
					advance(l);
				}
			}
			if (l->stage == IDLE)
				continue;
			h[n] = l->h;
			p[n] = l->p;
			busy[n++] = i;
			blocks = l->blocks < blocks ? l->blocks : blocks;
		}
		if (!n)
			return;
		kern->run(n, h, p, blocks);
		for (unsigned i = 0; i < n; i++) {
			struct lane *l = &lane[busy[i]];
			l->p += blocks * BLOCK;
			l->blocks -= blocks;
			advance(l);
		}
	}
}

struct cell_source {
	struct source base;
	const uint8_t *p;
	size_t left;
	struct stele_hash *leaf;
};

static bool next_cell(struct source *src, struct stele_sha256_message *out)
{
	struct cell_source *c = (struct cell_source *)src;
	if (!c->left)
		return false;
	out->data = c->p;
	out->len = c->left < STELE_CELL_LEN ? c->left : STELE_CELL_LEN;
	out->out = c->leaf++;
	c->p += out->len;
	c->left -= out->len;
	return true;
}

void stele_sha256_cells_and_stream(const void *data, size_t len, struct stele_hash *leaf,
                                   struct stele_sha256_stream *object)
{
	struct cell_source src = {
	    .base = {.next = next_cell, .leaf = true}, .p = data, .left = len, .leaf = leaf};
	run_all(&src.base, object, data, len);
}

void stele_sha256_cells(const void *data, size_t len, struct stele_hash *leaf)
{
	stele_sha256_cells_and_stream(data, len, leaf, NULL);
}

struct list_source {
	struct source base;
	const struct stele_sha256_message *m;
	size_t left;
};

static bool next_listed(struct source *src, struct stele_sha256_message *out)
{
	struct list_source *l = (struct list_source *)src;
	if (!l->left)
		return false;
	*out = *l->m++;
	l->left--;
	return true;
}

void stele_sha256_many(const struct stele_sha256_message *messages, size_t n)
{
	struct list_source src = {.base = {.next = next_listed}, .m = messages, .left = n};
	run_all(&src.base, NULL, NULL, 0);
}

void stele_sha256_leaves_and_stream(const struct stele_sha256_message *leaves, size_t n,
                                    const void *data, size_t len,
                                    struct stele_sha256_stream *object)
{
	struct list_source src = {
	    .base = {.next = next_listed, .leaf = true}, .m = leaves, .left = n};
	run_all(&src.base, object, data, len);
}
