/*
 * What peers send: frame headers, error heads, and the head of every opcode. Whatever a decoder accepts, its
 * encoder writes back byte for byte, and every count and length in it is within its bound.
 *
 * Input: a byte for the kind, then the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "net/wire/frame.h"
#include "net/wire/ops_format.h"
#include "tests/fuzz/fuzz.h"

static uint8_t again[FUZZ_INPUT_MAX];

/* ---- heads: one function each to seed and to try ---- */

#define HEADS(X)                                                                                   \
	X(shard_put)                                                                               \
	X(shard_get)                                                                               \
	X(ref_add) X(record_put) X(record_get) X(mark_add) X(refuse) X(list) X(listed) X(feed)     \
	    X(pg_digest) X(rebuild) X(keep) X(report_bad) X(ping) X(ping_told)

enum kind {
	KIND_FRAME,
	KIND_ERROR,
	KIND_ITEMS,
	KIND_HELLO,
	KIND_HELLO_REPLY,
#define X(name) KIND_##name,
	HEADS(X)
#undef X
	    KINDS
};

/* Fills a head with what passes for any of them: pointers to bytes that last, small counts. */
static uint8_t filler[4096];

static void seed_shard_put(struct stele_head_shard_put *h, unsigned n)
{
	h->has_ref = n & 1;
	h->meta = filler;
	h->meta_len = 100 * n;
}
static void seed_shard_get(struct stele_head_shard_get *h, unsigned n)
{
	h->want_meta = n & 1;
	h->cells = n;
}
static void seed_ref_add(struct stele_head_ref_add *h, unsigned n)
{
	h->refs = filler;
	h->n = (uint16_t)n;
}
static void seed_record_put(struct stele_head_record_put *h, unsigned n)
{
	h->record = filler;
	h->record_len = 300 * n;
}
static void seed_record_get(struct stele_head_record_get *h, unsigned n)
{
	h->after.kind = (uint8_t)n;
}
static void seed_mark_add(struct stele_head_mark_add *h, unsigned n)
{
	h->mark = filler;
	h->mark_len = 50 * n;
}
static void seed_refuse(struct stele_head_refuse *h, unsigned n)
{
	h->slot = (uint16_t)n;
	h->look = n & 1;
}
static void seed_list(struct stele_head_list *h, unsigned n)
{
	h->want_meta = n & 1;
	h->max = n;
}
static void seed_listed(struct stele_head_listed *h, unsigned n)
{
	h->n = n;
	h->more = n & 1;
}
static void seed_feed(struct stele_head_feed *h, unsigned n)
{
	h->want_meta = n & 1;
	h->after_lsn = n;
}
static void seed_pg_digest(struct stele_head_pg_digest *h, unsigned n)
{
	static uint8_t pgs[16 * 4];
	for (unsigned i = 0; i < 16; i++)
		stele_put_le32(pgs + 4 * i, 3 * i);
	h->pgs = pgs;
	h->n = (uint16_t)n;
}
static void seed_rebuild(struct stele_head_rebuild *h, unsigned n)
{
	h->nhelpers = (uint8_t)n;
}
static void seed_keep(struct stele_head_keep *h, unsigned n)
{
	h->epoch = n;
}
static void seed_report_bad(struct stele_head_report_bad *h, unsigned n)
{
	h->key.index = (uint8_t)n;
}
static void seed_ping(struct stele_head_ping *h, unsigned n)
{
	h->ndisks = (uint16_t)n;
}
static void seed_ping_told(struct stele_head_ping_told *h, unsigned n)
{
	h->n = (uint16_t)n;
}

static void same(const uint8_t *p, size_t size, const struct stele_writer *w)
{
	FUZZ_CHECK(!w->bad && stele_written(w) == size && memcmp(p, again, size) == 0);
}

#define X(name)                                                                                    \
	static void try_##name(const uint8_t *p, size_t size)                                      \
	{                                                                                          \
		static struct stele_head_##name h;                                                 \
		struct stele_writer w = stele_writer(again, sizeof(again));                        \
		if (stele_head_##name##_decode(p, size, &h) != STELE_OK)                           \
			return;                                                                    \
		stele_head_##name##_encode(&h, &w);                                                \
		same(p, size, &w);                                                                 \
	}
HEADS(X)
#undef X

static void try_frame(const uint8_t *p, size_t size)
{
	struct stele_frame f;
	if (size < STELE_FRAME_LEN || stele_frame_decode(p, &f) != STELE_OK)
		return;
	FUZZ_CHECK(f.head_len <= STELE_FRAME_HEAD_MAX && f.body_left <= STELE_WIRE_BODY_MAX);
	FUZZ_CHECK(stele_frame_body(&f) <= STELE_FRAME_BODY_MAX);
	stele_frame_encode(&f, again);
	FUZZ_CHECK(memcmp(p, again, STELE_FRAME_LEN) == 0);
}

static void try_error(const uint8_t *p, size_t size)
{
	FUZZ_CHECK(stele_wire_error_decode(p, size) != STELE_OK);
	for (const char *c = stele_detail(); *c; c++)
		FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
}

static void try_items(const uint8_t *p, size_t size)
{
	struct stele_reader r = stele_reader(p, size);
	struct stele_writer w = stele_writer(again, sizeof(again));
	while (stele_read_left(&r)) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		if (r.bad)
			return;
		FUZZ_CHECK(it.meta_len <= STELE_META_MAX && it.meta + it.meta_len <= p + size);
		stele_write_listed(&w, &it);
	}
	same(p, size, &w);
}

static void try_hello(const uint8_t *p, size_t size, bool reply)
{
	struct stele_head_hello h;
	struct stele_writer w = stele_writer(again, sizeof(again));
	if (stele_head_hello_decode(p, size, reply, &h) != STELE_OK)
		return;
	stele_head_hello_encode(&h, reply, &w);
	same(p, size, &w);
}

/* ---- entry points ---- */

#define SEEDS_PER_KIND 6u

static void seed_special(unsigned kind, unsigned n, struct stele_writer *w)
{
	struct stele_frame f = {.op = (uint16_t)(n + 1),
	                        .flags = n & 1 ? 8 : 10,
	                        .req = n + 1,
	                        .head_len = n,
	                        .body_left = n & 1 ? 3u << 20 : 3};
	struct stele_listed it = {.lsn = n, .bad = n & 1, .meta = filler, .meta_len = 30 * n};
	struct stele_head_hello h = {.version = 1};
	uint8_t head[STELE_WIRE_ERROR_MAX];
	switch (kind) {
	case KIND_FRAME:
		stele_frame_encode(&f, head);
		stele_write_bytes(w, head, STELE_FRAME_LEN);
		break;
	case KIND_ERROR:
		stele_write_bytes(w, head,
		                  stele_wire_error_encode((enum stele_err)(n + 1), "detail", head));
		break;
	case KIND_ITEMS:
		for (unsigned i = 0; i < n; i++)
			stele_write_listed(w, &it);
		break;
	default:
		stele_head_hello_encode(&h, kind == KIND_HELLO_REPLY, w);
	}
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	unsigned kind = i % KINDS, n = i / KINDS;
	struct stele_writer w = stele_writer(out, FUZZ_INPUT_MAX);
	if (n >= SEEDS_PER_KIND)
		return 0;
	stele_write_u8(&w, (uint8_t)kind);
	switch (kind) {
#define X(name)                                                                                    \
	case KIND_##name: {                                                                        \
		struct stele_head_##name *h = calloc(1, sizeof(*h));                               \
		FUZZ_CHECK(h);                                                                     \
		seed_##name(h, n);                                                                 \
		stele_head_##name##_encode(h, &w);                                                 \
		free(h);                                                                           \
		break;                                                                             \
	}
		HEADS(X)
#undef X
	default:
		seed_special(kind, n, &w);
	}
	FUZZ_CHECK(!w.bad);
	return stele_written(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	const uint8_t *p = data + 1;
	size--;
	switch (*data % KINDS) {
#define X(name)                                                                                    \
	case KIND_##name:                                                                          \
		try_##name(p, size);                                                               \
		break;
		HEADS(X)
#undef X
	case KIND_FRAME:
		try_frame(p, size);
		break;
	case KIND_ERROR:
		try_error(p, size);
		break;
	case KIND_ITEMS:
		try_items(p, size);
		break;
	default:
		try_hello(p, size, *data % KINDS == KIND_HELLO_REPLY);
	}
	return 0;
}
