/*
 * A log's whole world in memory: deposits that wait, objects, head, anchored lines, marks. Every
 * callback counts, and one of them may crash: before it did anything, or after it did all. What
 * tests of the sequencer, manifests and proofs share.
 */
#ifndef TESTS_UNIT_LOG_WORLD_H
#define TESTS_UNIT_LOG_WORLD_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/anchor/proof.h"
#include "net/anchor/sequencer.h"
#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

#define WORLD_DEPOSITS_MAX 2200u
#define WORLD_OBJECTS_MAX  8192u
#define WORLD_LINES_MAX    2200u
#define WORLD_ORIGIN       "log.example.org/00112233445566778899aabbccddeeff"

struct world_deposit {
	char text[1536];
	size_t len;
	struct stele_sig sig;
	struct stele_hash hash;
	bool bad; /* to be rejected */
	bool rejected;
	unsigned marks;
	uint64_t index; /* lowest marked */
};

struct world {
	struct stele_hash cluster;
	struct stele_secret_key log_key, depositor;
	struct stele_anchor_trust trust;
	uint64_t seed;

	struct world_deposit *deposit;
	uint32_t ndeposits;
	struct {
		struct stele_hash id;
		uint8_t *bytes;
		size_t len;
	} object[WORLD_OBJECTS_MAX];
	uint32_t nobjects;
	struct stele_log_head head;
	bool has_head;
	struct stele_anchor_line *line;
	uint32_t nlines;
	struct stele_hash last_line_hash;
	uint64_t announced; /* lines 0 ... announced - 1 */
	uint64_t published; /* size of the newest checkpoint that nodes hold */

	unsigned calls;     /* of callbacks, so far */
	unsigned crash_at;  /* this one fails; 0: none */
	bool crash_late;    /* after its effect */
	bool publish_fails; /* nodes cannot be reached */
	unsigned gets;
};

static inline struct stele_secret_key world_key(uint8_t first)
{
	struct stele_secret_key key;
	uint8_t seed[32] = {first, 0x77};
	stele_key_from_seed(&key, seed);
	return key;
}

static inline struct world *world_create(void)
{
	struct world *w = calloc(1, sizeof(*w));
	cr_assert_not_null(w);
	w->deposit = calloc(WORLD_DEPOSITS_MAX, sizeof(*w->deposit));
	w->line = calloc(WORLD_LINES_MAX, sizeof(*w->line));
	cr_assert(w->deposit && w->line);
	memset(w->cluster.b, 0xc1, sizeof(w->cluster.b));
	w->log_key = world_key(1);
	w->depositor = world_key(2);
	w->seed = 99;
	w->trust.cluster = w->cluster;
	strcpy(w->trust.origin, WORLD_ORIGIN);
	w->trust.key[0] = w->log_key.pub;
	w->trust.nkeys = 1;
	return w;
}

static inline void world_destroy(struct world *w)
{
	for (uint32_t i = 0; i < w->nobjects; i++)
		free(w->object[i].bytes);
	free(w->deposit);
	free(w->line);
	free(w);
}

/* A deposit of `bytes` (a whole object of len bytes), signed; it waits from now on. */
static inline struct world_deposit *world_put(struct world *w, const void *bytes, size_t len)
{
	cr_assert_lt(w->ndeposits, WORLD_DEPOSITS_MAX);
	struct world_deposit *d = &w->deposit[w->ndeposits++];
	struct stele_deposit f = {.cluster = w->cluster,
	                          .type = STELE_DEPOSIT_EVIDENCE,
	                          .length = len,
	                          .has_layout = len > STELE_INLINE_MAX,
	                          .pool = "evidence",
	                          .depositor = w->depositor.pub,
	                          .time = 1759680000};
	char text[STELE_DEPOSIT_MAX];
	size_t chunks = (len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	struct stele_hash *leaf = calloc(chunks + 1, sizeof(*leaf));
	cr_assert_not_null(leaf);
	stele_sha256(bytes, len, &f.object);
	stele_sha256_cells(bytes, len, leaf);
	stele_merkle_root(leaf, chunks, &f.tree);
	free(leaf);
	guard_fill(&w->seed, f.nonce.b, sizeof(f.nonce.b));
	cr_assert_eq(stele_deposit_encode(&f, text, &d->len), STELE_OK, "%s", stele_detail());
	cr_assert_leq(d->len, sizeof(d->text));
	memcpy(d->text, text, d->len);
	stele_sign(&w->depositor, d->text, d->len, &d->sig);
	stele_deposit_hash(d->text, d->len, &d->hash);
	d->index = UINT64_MAX;
	return d;
}

static inline void world_put_some(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		world_put(w, &i, sizeof(i));
}

/* True: this call crashes now; `late` says at which of its ends this is asked. */
static inline bool world_crash(struct world *w, bool late)
{
	if (!late)
		w->calls++;
	return w->calls == w->crash_at && late == w->crash_late;
}
#define WORLD_ENTER(w)                                                                             \
	do {                                                                                       \
		if (world_crash(w, false))                                                         \
			return stele_fail(STELE_ERR_CANCELLED, "crash");                           \
	} while (0)
#define WORLD_LEAVE(w)                                                                             \
	return world_crash(w, true) ? stele_fail(STELE_ERR_CANCELLED, "crash") : STELE_OK

static inline enum stele_err world_next(void *ctx, struct stele_log_item *item, uint32_t max,
                                        uint32_t *n)
{
	struct world *w = ctx;
	WORLD_ENTER(w);
	*n = 0;
	for (uint32_t i = 0; i < w->ndeposits && *n < max; i++) {
		struct world_deposit *d = &w->deposit[i];
		if (d->marks || d->rejected)
			continue;
		item[(*n)++] = (struct stele_log_item){.type = STELE_LEAF_DEPOSIT,
		                                       .body = d->text,
		                                       .len = d->len,
		                                       .sig = d->sig.b,
		                                       .sig_len = sizeof(d->sig.b),
		                                       .hash = d->hash,
		                                       .tag = d};
	}
	WORLD_LEAVE(w);
}

static inline void world_reject(void *ctx, const struct stele_log_item *item, const char *why)
{
	struct world_deposit *d = item->tag;
	(void)ctx;
	cr_assert(d->bad, "%s", why);
	d->rejected = true;
}

static inline enum stele_err world_put_object(void *ctx, const struct stele_hash *id,
                                              const void *bytes, size_t len)
{
	struct world *w = ctx;
	struct stele_hash hash;
	WORLD_ENTER(w);
	stele_sha256(bytes, len, &hash);
	cr_assert(stele_hash_equal(&hash, id));
	for (uint32_t i = 0; i < w->nobjects; i++)
		if (stele_hash_equal(&w->object[i].id, id))
			WORLD_LEAVE(w);
	cr_assert_lt(w->nobjects, WORLD_OBJECTS_MAX);
	w->object[w->nobjects].id = *id;
	w->object[w->nobjects].bytes = malloc(len);
	cr_assert_not_null(w->object[w->nobjects].bytes);
	memcpy(w->object[w->nobjects].bytes, bytes, len);
	w->object[w->nobjects++].len = len;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_get_object(void *ctx, const struct stele_hash *id, uint8_t *out,
                                              size_t cap, size_t *len)
{
	struct world *w = ctx;
	WORLD_ENTER(w);
	w->gets++;
	for (uint32_t i = 0; i < w->nobjects; i++) {
		if (!stele_hash_equal(&w->object[i].id, id))
			continue;
		cr_assert_leq(w->object[i].len, cap);
		memcpy(out, w->object[i].bytes, w->object[i].len);
		*len = w->object[i].len;
		WORLD_LEAVE(w);
	}
	return stele_fail(STELE_ERR_NOT_FOUND, "no such object");
}

static inline enum stele_err world_head_load(void *ctx, struct stele_log_head *out)
{
	struct world *w = ctx;
	WORLD_ENTER(w);
	if (!w->has_head)
		return stele_fail(STELE_ERR_NOT_FOUND, "no head");
	*out = w->head;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_head_move(void *ctx, const struct stele_log_head *from,
                                             const struct stele_log_head *to)
{
	struct world *w = ctx;
	WORLD_ENTER(w);
	if (w->head.size != from->size || !stele_hash_equal(&w->head.root, &from->root))
		return stele_fail(STELE_ERR_STALE, "another moved the head");
	cr_assert_gt(to->size, from->size);
	w->head = *to;
	w->has_head = true;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_publish(void *ctx, const char *note, size_t len)
{
	struct world *w = ctx;
	struct stele_note read;
	WORLD_ENTER(w);
	cr_assert_eq(stele_note_read(note, len, &read), STELE_OK);
	cr_assert(stele_note_signed_by(&read, &w->log_key.pub));
	/* never published before the head is there, durably */
	cr_assert_eq(read.checkpoint.size, w->head.size);
	if (w->publish_fails)
		return stele_fail(STELE_ERR_UNAVAILABLE, "no node answers");
	w->published = read.checkpoint.size;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_anchored(void *ctx, struct stele_anchor_line *out)
{
	struct world *w = ctx;
	WORLD_ENTER(w);
	if (w->nlines == 0)
		return stele_fail(STELE_ERR_NOT_FOUND, "nothing anchored");
	*out = w->line[w->nlines - 1];
	WORLD_LEAVE(w);
}

static inline enum stele_err world_anchor(void *ctx, const char *note, size_t len,
                                          const struct stele_hash *manifest,
                                          struct stele_anchor_line *out)
{
	struct world *w = ctx;
	struct stele_note read;
	char bytes[STELE_ANCHOR_LINE_MAX], body[STELE_DEPOSIT_MAX];
	size_t n;
	WORLD_ENTER(w);
	cr_assert_eq(stele_note_read(note, len, &read), STELE_OK);
	if (w->nlines && w->line[w->nlines - 1].checkpoint.size == read.checkpoint.size) {
		*out = w->line[w->nlines - 1];
		WORLD_LEAVE(w);
	}
	cr_assert_lt(w->nlines, WORLD_LINES_MAX);
	struct stele_anchor_line *l = &w->line[w->nlines];
	l->number = w->nlines++;
	l->previous = w->last_line_hash;
	memcpy(l->note, note, len);
	l->note_len = len;
	l->checkpoint = read.checkpoint;
	l->manifest = *manifest;
	l->time = 1759680001;
	stele_anchor_line_body(l, &w->cluster, body, &n);
	stele_sign(&w->log_key, body, n, &l->sig);
	cr_assert_eq(stele_anchor_line_encode(l, bytes, &n), STELE_OK);
	stele_sha256(bytes, n, &w->last_line_hash);
	*out = *l;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_announce(void *ctx, const struct stele_mark *mark)
{
	struct world *w = ctx;
	struct stele_hash log_id;
	WORLD_ENTER(w);
	cr_assert_gt(w->nlines, 0u);
	stele_log_id(WORLD_ORIGIN, &log_id);
	cr_assert_eq(stele_announce_check(mark, &log_id, w->nlines - 1), STELE_OK, "%s",
	             stele_detail());
	cr_assert_geq(w->announced + 1, w->nlines, "a line was skipped");
	w->announced = w->nlines;
	WORLD_LEAVE(w);
}

static inline enum stele_err world_mark(void *ctx, const struct stele_log_item *item,
                                        uint64_t index)
{
	struct world *w = ctx;
	struct world_deposit *d = item->tag;
	WORLD_ENTER(w);
	cr_assert(w->nlines && index < w->line[w->nlines - 1].checkpoint.size,
	          "marked before it was anchored");
	d->marks++;
	if (index < d->index)
		d->index = index;
	WORLD_LEAVE(w);
}

static const struct stele_sequencer_ops world_ops = {
    .next = world_next,
    .reject = world_reject,
    .put = world_put_object,
    .get = world_get_object,
    .head_load = world_head_load,
    .head_move = world_head_move,
    .publish = world_publish,
    .anchored = world_anchored,
    .anchor = world_anchor,
    .announce = world_announce,
    .mark = world_mark,
};

/* A sequencer's process from start to end: an error is a crash. */
static inline enum stele_err world_sequence(struct world *w, uint32_t batch_max,
                                            struct stele_sequencer_result *out)
{
	struct stele_sequencer_config config = {.cluster = w->cluster,
	                                        .origin = WORLD_ORIGIN,
	                                        .key = &w->log_key,
	                                        .batch_max = batch_max};
	struct stele_sequencer *s;
	STELE_TRY(stele_sequencer_create(&world_ops, w, &config, &s));
	enum stele_err err = stele_sequencer_run(s, out);
	stele_sequencer_destroy(s);
	return err;
}

/* The newest anchored manifest. */
static inline void world_manifest(struct world *w, struct stele_manifest *m)
{
	const struct stele_anchor_line *l = &w->line[w->nlines - 1];
	struct stele_hash log_id;
	uint8_t *bytes = malloc(STELE_MANIFEST_MAX);
	size_t len;
	cr_assert_not_null(bytes);
	stele_log_id(WORLD_ORIGIN, &log_id);
	cr_assert_eq(world_get_object(w, &l->manifest, bytes, STELE_MANIFEST_MAX, &len), STELE_OK);
	cr_assert_eq(
	    stele_manifest_decode(bytes, len, &log_id, &l->checkpoint.size, &l->checkpoint.root, m),
	    STELE_OK, "%s", stele_detail());
	free(bytes);
}

#endif
