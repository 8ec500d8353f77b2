/*
 * What the store's tests share: a real env or a simulated one, a store in a directory of its own, blocks
 * made from a number, and every request as a call that runs the loop until its callback.
 */
#ifndef TESTS_STORE_KIT_H
#define TESTS_STORE_KIT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/merkle.h"
#include "storage/base/sha256.h"
#include "storage/store.h"

/* A test that makes allocations fail keeps these out of it. */
#ifndef kit_malloc
#define kit_malloc        malloc
#define kit_calloc        calloc
#define kit_aligned_alloc aligned_alloc
#endif

struct kit {
	struct stele_env *env;
	struct stele_kv_world *world;
	const struct stele_kv_ops *kv;
	struct stele_store *store;
	struct stele_store_opts opts;
	char dir[128];
	uint32_t waiting;
	bool (*turn)(struct kit *k); /* simulated: runs until waiting is 0; NULL: the real loop */
	void *sim;
};

static inline void kit_env(struct kit *k, bool threads)
{
	enum stele_err err = threads ? stele_env_threads_create(NULL, &k->env)
	                             : stele_env_uring_create(NULL, &k->env);
	if (err && !threads)
		cr_skip_test("io_uring is refused here");
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
}

static inline void kit_dir_in(struct kit *k, const char *where)
{
	snprintf(k->dir, sizeof(k->dir), "%s/stele-store-XXXXXX", where);
	cr_assert(mkdtemp(k->dir), "%s", k->dir);
}

static inline void kit_dir(struct kit *k)
{
	kit_dir_in(k, "/tmp");
}

static inline void kit_opts(struct kit *k, bool leveldb)
{
	if (!leveldb && !k->world)
		cr_assert_eq(stele_kv_world_create(&k->world), STELE_OK);
	k->kv = leveldb ? &stele_kv_leveldb : &stele_kv_memory;
	k->opts = (struct stele_store_opts){.env = k->env,
	                                    .kv = k->kv,
	                                    .kv_world = k->world,
	                                    .dir = k->dir,
	                                    .extent_len = STELE_EXTENT_LEN_MIN};
	memset(k->opts.cluster.b, 7, sizeof(k->opts.cluster.b));
}

static inline void kit_open(struct kit *k)
{
	cr_assert_eq(stele_store_open(&k->opts, &k->store), STELE_OK, "%s", stele_detail());
}

static inline void kit_run(struct kit *k)
{
	if (k->turn) {
		cr_assert(k->turn(k), "the simulated loop ran dry");
		return;
	}
	while (k->waiting)
		stele_env_run(k->env);
}

static inline void kit_woken(struct kit *k)
{
	k->waiting--;
	if (!k->turn && !k->waiting)
		stele_env_stop(k->env);
}

static inline void kit_pause_cb(struct stele_op *op)
{
	kit_woken(op->ctx);
}

static inline void kit_pause(struct kit *k)
{
	struct stele_op op = {.kind = STELE_OP_TIMER,
	                      .off = stele_env_now(k->env) + 1000000,
	                      .cb = kit_pause_cb,
	                      .ctx = k};
	k->waiting++;
	stele_env_submit(k->env, &op);
	kit_run(k);
}

/* Lets the store's own work end. */
static inline void kit_settle(struct kit *k)
{
	while (k->store && stele_store_busy(k->store))
		kit_pause(k);
}

static inline void kit_close(struct kit *k)
{
	kit_settle(k);
	stele_store_close(k->store);
	k->store = NULL;
}

static inline void kit_reopen(struct kit *k)
{
	kit_close(k);
	kit_open(k);
}

static inline void kit_start(struct kit *k, bool threads, bool leveldb)
{
	memset(k, 0, sizeof(*k));
	kit_env(k, threads);
	kit_dir(k);
	kit_opts(k, leveldb);
	cr_assert_eq(stele_store_format(&k->opts, NULL), STELE_OK, "%s", stele_detail());
	kit_open(k);
}

static inline void kit_rm(const char *dir)
{
	char cmd[200];
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	cr_assert_eq(system(cmd), 0);
}

static inline void kit_end(struct kit *k)
{
	kit_close(k);
	stele_env_destroy(k->env);
	stele_kv_world_destroy(k->world);
	kit_rm(k->dir);
}

/* ---- blocks: everything about one follows from its number ---- */

static inline uint64_t kit_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

struct kit_block {
	struct stele_descriptor d;
	struct stele_hash id;
	uint32_t cells;
	struct stele_hash *row; /* roots * cells */
	uint8_t **shard;        /* n shards, page-aligned and padded with rubbish to a page */
};

/* Shards are made of random bytes: the store knows no codes. */
static inline void kit_block_make(struct kit_block *b, const char *code, uint64_t length,
                                  uint64_t seed)
{
	struct stele_code_id c;
	cr_assert_eq(stele_code_id_parse(code, &c), STELE_OK);
	cr_assert_eq(stele_descriptor_init(&b->d, &c, length), STELE_OK);
	b->cells = stele_descriptor_cells(&b->d);
	uint32_t roots = stele_descriptor_roots(&b->d);
	b->row = kit_calloc(roots * b->cells, sizeof(b->row[0]));
	b->shard = kit_calloc(b->d.n, sizeof(b->shard[0]));
	uint64_t padded = stele_round_up(b->d.S, STELE_PAGE);
	for (uint32_t i = 0; i < b->d.n; i++) {
		b->shard[i] = kit_aligned_alloc(STELE_PAGE, padded);
		uint64_t x = kit_mix(seed * 64 + (roots == 1 ? 0 : i));
		for (uint64_t at = 0; at < padded; at += 8)
			memcpy(b->shard[i] + at, &(uint64_t){x = x * 6364136223846793005u + 1}, 8);
		if (i < roots) {
			stele_sha256_cells(b->shard[i], b->d.S, b->row + i * b->cells);
			stele_merkle_root(b->row + i * b->cells, b->cells, &b->d.root[i]);
		}
	}
	stele_descriptor_id(&b->d, &b->id);
}

static inline void kit_block_free(struct kit_block *b)
{
	for (uint32_t i = 0; i < b->d.n; i++)
		free(b->shard[i]);
	free(b->shard);
	free(b->row);
}

/* Descriptor, own row, others; *len its length. free it. */
static inline uint8_t *kit_meta(const struct kit_block *b, uint32_t index, uint32_t *len)
{
	uint32_t roots = stele_descriptor_roots(&b->d);
	uint8_t *m = kit_malloc(STELE_DESCRIPTOR_MAX + roots * b->cells * STELE_HASH_LEN);
	size_t n = stele_descriptor_encode(&b->d, m), row = b->cells * STELE_HASH_LEN;
	uint32_t own = roots == 1 ? 0 : index;
	memcpy(m + n, b->row + own * b->cells, row);
	n += row;
	for (uint32_t i = 0; i < roots; i++) {
		if (i == own)
			continue;
		memcpy(m + n, b->row + i * b->cells, row);
		n += row;
	}
	*len = (uint32_t)n;
	return m;
}

static inline struct stele_hash kit_hash(uint64_t n)
{
	struct stele_hash h;
	stele_sha256(&n, sizeof(n), &h);
	return h;
}

static inline struct stele_key kit_key(uint8_t kind, const struct stele_hash *id,
                                       const struct stele_hash *sub, uint8_t index)
{
	struct stele_key k = {.pool = 1, .kind = kind, .index = index, .id = *id};
	if (sub)
		k.sub = *sub;
	return k;
}

/* ---- requests as calls ---- */

static inline void kit_write_cb(struct stele_store_write *w)
{
	kit_woken(w->ctx);
}

static inline enum stele_err kit_write(struct kit *k, struct stele_item *item, uint32_t n,
                                       uint64_t *lsn)
{
	struct stele_store_write w = {.item = item, .n = n, .cb = kit_write_cb, .ctx = k};
	k->waiting++;
	stele_store_write(k->store, &w);
	kit_run(k);
	if (lsn)
		*lsn = w.lsn;
	if (w.err)
		stele_fail(w.err, "%s", w.detail);
	return w.err;
}

/* One shard, with a REF beside it when deposit is given. */
static inline enum stele_err kit_put(struct kit *k, const struct kit_block *b, uint32_t index,
                                     const struct stele_hash *deposit)
{
	uint32_t len;
	uint8_t *meta = kit_meta(b, index, &len);
	struct iovec iov = {b->shard[index], b->d.S};
	struct stele_item item[2] = {
	    {.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, (uint8_t)index),
	     .meta = meta,
	     .meta_len = len,
	     .data = &iov,
	     .ndata = 1,
	     .data_len = b->d.S},
	};
	struct stele_hash object = kit_hash(4711);
	if (deposit)
		item[1] = (struct stele_item){.key = kit_key(STELE_ENTRY_REF, &b->id, deposit, 0),
		                              .meta = &object,
		                              .meta_len = sizeof(object)};
	enum stele_err err = kit_write(k, item, deposit ? 2 : 1, NULL);
	free(meta);
	return err;
}

static inline enum stele_err kit_put_meta(struct kit *k, uint8_t kind, const struct stele_hash *id,
                                          const struct stele_hash *sub, const void *meta,
                                          uint32_t len)
{
	struct stele_item item = {.key = kit_key(kind, id, sub, 0), .meta = meta, .meta_len = len};
	return kit_write(k, &item, 1, NULL);
}

static inline enum stele_err kit_tomb(struct kit *k, const struct stele_key *key)
{
	struct stele_item item = {.key = *key, .tomb = true};
	return kit_write(k, &item, 1, NULL);
}

/* Fills up the extent that is open, with records that nobody wants, until it is sealed. */
static inline void kit_seal(struct kit *k)
{
	static uint64_t n = 1u << 20;
	struct stele_store_status st;
	stele_store_status(k->store, &st);
	uint64_t before = st.extents;
	uint8_t *meta = kit_calloc(1, 60000);
	for (; st.extents == before; n++) {
		struct stele_hash id = kit_hash(n), sub;
		stele_put_le32(meta, 60000 - 4);
		memcpy(meta + 4, &n, sizeof(n));
		stele_sha256(meta + 4, 60000 - 4, &sub);
		cr_assert_eq(kit_put_meta(k, STELE_ENTRY_RECORD, &id, &sub, meta, 60000), STELE_OK,
		             "%s", stele_detail());
		stele_store_status(k->store, &st);
	}
	free(meta);
	kit_settle(k);
}

static inline void kit_read_cb(struct stele_store_read *r)
{
	kit_woken(r->ctx);
}

/* r->into etc. are the caller's; finish it. */
static inline enum stele_err kit_read(struct kit *k, struct stele_store_read *r)
{
	r->cb = kit_read_cb;
	r->ctx = k;
	k->waiting++;
	stele_store_read(k->store, r);
	kit_run(k);
	if (r->err)
		stele_fail(r->err, "%s", r->detail);
	return r->err;
}

/* Reads the whole shard with its meta and compares. */
static inline enum stele_err kit_same(struct kit *k, const struct kit_block *b, uint32_t index)
{
	uint64_t padded = stele_round_up(b->d.S, STELE_PAGE);
	uint8_t *buf = kit_aligned_alloc(STELE_PAGE, padded);
	struct iovec iov = {buf, padded};
	struct stele_store_read r = {.key =
	                                 kit_key(STELE_ENTRY_SHARD, &b->id, NULL, (uint8_t)index),
	                             .want_meta = true,
	                             .cells = b->cells,
	                             .into = &iov,
	                             .ninto = 1};
	enum stele_err err = kit_read(k, &r);
	if (!err) {
		uint32_t len;
		uint8_t *meta = kit_meta(b, index, &len);
		cr_assert_eq(r.data_len, b->d.S);
		cr_assert_eq(memcmp(buf, b->shard[index], b->d.S), 0, "other bytes");
		cr_assert(r.meta_len == len && memcmp(r.meta, meta, len) == 0, "another meta");
		free(meta);
	}
	stele_store_read_finish(&r);
	free(buf);
	return err;
}

static inline void kit_list_cb(struct stele_store_list *l)
{
	kit_woken(l->ctx);
}

static inline enum stele_err kit_list(struct kit *k, struct stele_store_list *l)
{
	l->cb = kit_list_cb;
	l->ctx = k;
	k->waiting++;
	stele_store_list(k->store, l);
	kit_run(k);
	return l->err;
}

static inline enum stele_err kit_feed(struct kit *k, struct stele_store_list *l, uint64_t after)
{
	l->cb = kit_list_cb;
	l->ctx = k;
	k->waiting++;
	stele_store_feed(k->store, l, after);
	kit_run(k);
	return l->err;
}

static inline void kit_have_cb(struct stele_store_have *h)
{
	kit_woken(h->ctx);
}

static inline bool kit_have(struct kit *k, const struct stele_key *key)
{
	bool out = false;
	struct stele_store_have h = {.key = key, .n = 1, .out = &out, .cb = kit_have_cb, .ctx = k};
	k->waiting++;
	stele_store_have(k->store, &h);
	kit_run(k);
	cr_assert_eq(h.err, STELE_OK);
	return out;
}

static inline void kit_digest_cb(struct stele_store_digest *d)
{
	kit_woken(d->ctx);
}

static inline void kit_digest(struct kit *k, struct stele_store_digest *d)
{
	d->cb = kit_digest_cb;
	d->ctx = k;
	k->waiting++;
	stele_store_digest(k->store, d);
	kit_run(k);
	cr_assert_eq(d->err, STELE_OK);
}

static inline void kit_scrub_cb(struct stele_store_scrub *s)
{
	kit_woken(s->ctx);
}

static inline enum stele_err kit_scrub(struct kit *k, struct stele_store_scrub *s)
{
	s->cb = kit_scrub_cb;
	s->ctx = k;
	k->waiting++;
	stele_store_scrub(k->store, s);
	kit_run(k);
	if (s->err)
		stele_fail(s->err, "%s", s->detail);
	return s->err;
}

static inline void kit_reclaim_cb(struct stele_store_reclaim *r)
{
	cr_assert_neq(r->err, STELE_OK);
}

/* Reclaims until there is nothing to do, or it fails (else err is CANCELLED). */
static inline struct stele_store_reclaim kit_reclaim(struct kit *k)
{
	struct stele_store_reclaim r = {.cb = kit_reclaim_cb, .ctx = k};
	stele_store_reclaim(k->store, &r);
	do
		kit_pause(k);
	while (!r.idle && !r.err);
	stele_store_reclaim_cancel(k->store);
	while (!r.err)
		kit_pause(k);
	return r;
}

static inline void kit_whole_range(struct stele_hash *first, struct stele_hash *last)
{
	memset(first->b, 0, sizeof(first->b));
	memset(last->b, 0xff, sizeof(last->b));
}

#endif
