/* The index over a kv. Derived state only: what it may lose, and how it comes back, is in index.h. */
#include "storage/index.h"

#include <assert.h>
#include <stdlib.h>

#define GROUP           64u /* items applied in one kv write, at most */
#define WRITES_PER_ITEM 4u

_Static_assert(STELE_INDEX_KEY_MAX <= STELE_KV_KEY_MAX, "keys fit");

/* ---- counters ---- */

uint64_t stele_index_weight(const struct stele_item_at *it)
{
	return stele_entry_len(it->meta_len) + stele_round_up(it->data_len, STELE_PAGE);
}

static enum stele_err make_room(struct stele_index_counts *c, uint32_t extent)
{
	if (extent < c->extents)
		return STELE_OK;
	if (extent > STELE_EXTENTS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "index: extent %08x cannot be", extent);
	uint32_t n = extent + 64;
	uint64_t *more = realloc(c->live, n * sizeof(more[0]));
	if (!more)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	memset(more + c->extents, 0, (n - c->extents) * sizeof(more[0]));
	c->live = more;
	c->extents = n;
	return STELE_OK;
}

static uint64_t *counter_of(struct stele_index_counts *c, uint8_t kind)
{
	switch (kind) {
	case STELE_ENTRY_SHARD:
		return &c->shards;
	case STELE_ENTRY_REF:
		return &c->refs;
	case STELE_ENTRY_RECORD:
		return &c->records;
	case STELE_ENTRY_MARK:
		return &c->marks;
	default:
		return NULL;
	}
}

/* sign: +1 comes to life, -1 dies. The extent's counter exists. */
static void count(struct stele_index_counts *c, const struct stele_item_at *it, int sign)
{
	uint64_t w = stele_index_weight(it), one = 1;
	if (sign < 0) {
		w = -w;
		one = -one;
	}
	c->bytes += w;
	c->live[it->extent] += w;
	uint64_t *kind = counter_of(c, it->key.kind);
	if (kind)
		*kind += one;
	if (it->bad && (sign > 0 || c->bad > 0))
		c->bad += one;
}

/* ---- reading ---- */

static enum stele_err get(struct stele_kv *kv, const uint8_t *k, size_t k_len,
                          struct stele_item_at *out)
{
	uint8_t v[STELE_INDEX_VALUE];
	size_t len;
	STELE_TRY(stele_kv_get(kv, k, k_len, v, sizeof(v), &len));
	if (!stele_index_value_decode(v, len, out))
		return stele_fail(STELE_ERR_CORRUPT, "index: a value does not decode");
	return STELE_OK;
}

enum stele_err stele_index_get(struct stele_kv *kv, enum stele_index_space space,
                               const struct stele_key *key, struct stele_item_at *out)
{
	uint8_t k[STELE_INDEX_KEY_MAX];
	out->key = *key;
	return get(kv, k, stele_index_key(space, key, k), out);
}

enum stele_err stele_index_shards(struct stele_kv_iter *it, uint16_t pool,
                                  const struct stele_hash *block, bool good, uint64_t *bits)
{
	uint8_t k[STELE_INDEX_KEY_MAX];
	size_t n = stele_index_prefix(STELE_INDEX_ENTRY, pool, block, k);
	k[n++] = STELE_ENTRY_SHARD;
	*bits = 0;
	for (it->seek(it, k, n); it->valid(it); it->next(it)) {
		size_t key_len, value_len;
		const uint8_t *key = it->key(it, &key_len);
		const void *value = it->value(it, &value_len);
		struct stele_item_at at;
		if (key_len != n + 1 || memcmp(key, k, n) != 0)
			break;
		if (!stele_index_value_decode(value, value_len, &at) || key[n] >= 64)
			return stele_fail(STELE_ERR_CORRUPT, "index: a value does not decode");
		if (!good || !at.bad)
			*bits |= UINT64_C(1) << key[n];
	}
	return it->status(it);
}

enum stele_err stele_index_referenced(struct stele_kv_iter *it, uint16_t pool,
                                      const struct stele_hash *block, bool *yes)
{
	uint8_t k[STELE_INDEX_KEY_MAX];
	size_t n = stele_index_prefix(STELE_INDEX_ENTRY, pool, block, k), key_len = 0;
	k[n++] = STELE_ENTRY_REF;
	it->seek(it, k, n);
	const uint8_t *key = it->valid(it) ? it->key(it, &key_len) : NULL;
	*yes = key && key_len > n && memcmp(key, k, n) == 0;
	return it->status(it);
}

/* ---- applying ---- */

struct group { /* a kv write that is being put together */
	struct stele_kv_write w[GROUP * WRITES_PER_ITEM];
	uint8_t key[GROUP * WRITES_PER_ITEM][STELE_INDEX_KEY_MAX];
	uint8_t value[GROUP * WRITES_PER_ITEM][STELE_INDEX_VALUE];
	size_t n;
	struct stele_key items[GROUP]; /* whose keys it touches: reads see only what was written */
	size_t nitems;
	bool all_new; /* nothing of any key is there: no reads */
};

static uint8_t *group_key(struct group *g)
{
	assert(g->n < GROUP * WRITES_PER_ITEM);
	return g->key[g->n];
}

static void group_put(struct group *g, size_t key_len, const struct stele_item_at *value)
{
	stele_index_value_encode(value, g->value[g->n]);
	g->w[g->n] =
	    (struct stele_kv_write){g->key[g->n], key_len, g->value[g->n], STELE_INDEX_VALUE};
	g->n++;
}

static void group_put_empty(struct group *g, size_t key_len)
{
	g->w[g->n] = (struct stele_kv_write){g->key[g->n], key_len, "", 0};
	g->n++;
}

static void group_delete(struct group *g, size_t key_len)
{
	g->w[g->n] = (struct stele_kv_write){g->key[g->n], key_len, NULL, 0};
	g->n++;
}

/* A tombstone keeps its bytes in its extent alive, and is no live entry. */
static enum stele_err count_tomb(struct stele_index_counts *c, const struct stele_item_at *it,
                                 int sign)
{
	STELE_TRY(make_room(c, it->extent));
	uint64_t w = stele_index_weight(it);
	c->live[it->extent] += sign < 0 ? -w : w;
	return STELE_OK;
}

static void entry_dies(struct stele_index *ix, struct group *g, const struct stele_item_at *old)
{
	count(&ix->counts, old, -1);
	if (old->key.kind == STELE_ENTRY_RECORD)
		group_delete(g, stele_index_feed_key(old->birth_lsn, &old->key, group_key(g)));
}

static bool same_place(const struct stele_item_at *a, const struct stele_item_at *b)
{
	return a->extent == b->extent && a->off == b->off;
}

/* Of two tombstones of a key the one with the later victim counts; of one and its copy, the copy. */
static enum stele_err apply_tomb(struct stele_index *ix, struct group *g,
                                 const struct stele_item_at *it)
{
	struct stele_item_at old;
	enum stele_err err = stele_index_get(ix->kv, STELE_INDEX_TOMB, &it->key, &old);
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	if (err || (old.victim_lsn <= it->victim_lsn && !same_place(&old, it))) {
		if (!err)
			STELE_TRY(count_tomb(&ix->counts, &old, -1));
		STELE_TRY(count_tomb(&ix->counts, it, 1));
		group_put(g, stele_index_key(STELE_INDEX_TOMB, &it->key, group_key(g)), it);
	}
	err = stele_index_get(ix->kv, STELE_INDEX_ENTRY, &it->key, &old);
	if (err == STELE_ERR_NOT_FOUND || (!err && old.birth_lsn > it->victim_lsn))
		return STELE_OK;
	if (err)
		return err;
	STELE_TRY(make_room(&ix->counts, old.extent));
	entry_dies(ix, g, &old);
	group_delete(g, stele_index_key(STELE_INDEX_ENTRY, &it->key, group_key(g)));
	return STELE_OK;
}

static enum stele_err look(struct stele_index *ix, const struct group *g,
                           enum stele_index_space space, const struct stele_key *key,
                           struct stele_item_at *out)
{
	return g->all_new ? STELE_ERR_NOT_FOUND : stele_index_get(ix->kv, space, key, out);
}

/* The one that is there stays; there is another of its key. */
static void note_others(struct group *g, struct stele_item_at *old)
{
	if (old->others)
		return;
	old->others = true;
	group_put(g, stele_index_key(STELE_INDEX_ENTRY, &old->key, group_key(g)), old);
}

static enum stele_err apply_entry(struct stele_index *ix, struct group *g,
                                  const struct stele_item_at *in)
{
	struct stele_item_at old, it = *in;
	enum stele_err err = look(ix, g, STELE_INDEX_TOMB, &it.key, &old);
	if (!err && old.victim_lsn >= it.birth_lsn)
		return STELE_OK; /* killed */
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	it.others = !err;
	err = look(ix, g, STELE_INDEX_ENTRY, &it.key, &old);
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	STELE_TRY(make_room(&ix->counts, it.extent));
	if (!err) {
		if (same_place(&old, &it) && old.birth_lsn == it.birth_lsn)
			return STELE_OK; /* here already, perhaps marked bad */
		if (old.birth_lsn > it.birth_lsn) {
			note_others(g, &old);
			return STELE_OK;
		}
		STELE_TRY(make_room(&ix->counts, old.extent));
		it.moved = old.birth_lsn == it.birth_lsn && !old.moved && !old.others;
		it.others = it.others || !it.moved;
		entry_dies(ix, g, &old);
	}
	count(&ix->counts, &it, 1);
	group_put(g, stele_index_key(STELE_INDEX_ENTRY, &it.key, group_key(g)), &it);
	if (it.key.kind == STELE_ENTRY_RECORD)
		group_put_empty(g, stele_index_feed_key(it.birth_lsn, &it.key, group_key(g)));
	return STELE_OK;
}

static bool touches(const struct group *g, const struct stele_key *key)
{
	for (size_t i = 0; i < g->nitems; i++)
		if (stele_key_equal(&g->items[i], key))
			return true;
	return false;
}

static enum stele_err group_write(struct stele_index *ix, struct group *g)
{
	enum stele_err err = stele_kv_write(ix->kv, g->w, g->n);
	g->n = g->nitems = 0;
	return err;
}

typedef enum stele_err item_fn(struct stele_index *ix, struct group *g,
                               const struct stele_item_at *it);

static enum stele_err each(struct stele_index *ix, const struct stele_item_at *items, size_t n,
                           item_fn *fn, bool all_new)
{
	struct group *g = malloc(sizeof(*g));
	if (!g)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	g->n = g->nitems = 0;
	g->all_new = all_new;
	enum stele_err err = STELE_OK;
	for (size_t i = 0; !err && i < n; i++) {
		struct stele_item_at it = items[i];
		it.key = stele_key_short(&it.key);
		assert(!all_new || !it.tomb);
		if (g->nitems == GROUP || (!all_new && touches(g, &it.key)))
			err = group_write(ix, g);
		if (!err)
			err = fn(ix, g, &it);
		g->items[g->nitems++] = it.key;
	}
	if (!err)
		err = group_write(ix, g);
	free(g);
	return err;
}

static enum stele_err apply(struct stele_index *ix, struct group *g, const struct stele_item_at *it)
{
	return it->tomb ? apply_tomb(ix, g, it) : apply_entry(ix, g, it);
}

enum stele_err stele_index_apply(struct stele_index *ix, const struct stele_item_at *items,
                                 size_t n)
{
	return each(ix, items, n, apply, false);
}

enum stele_err stele_index_apply_new(struct stele_index *ix, const struct stele_item_at *items,
                                     size_t n)
{
	return each(ix, items, n, apply, true);
}

enum stele_err stele_index_mark(struct stele_index *ix, const struct stele_item_at *at, bool bad)
{
	uint8_t k[STELE_INDEX_KEY_MAX], v[STELE_INDEX_VALUE];
	struct stele_item_at now;
	enum stele_err err = stele_index_get(ix->kv, STELE_INDEX_ENTRY, &at->key, &now);
	if (err == STELE_ERR_NOT_FOUND ||
	    (!err && (now.bad == bad || now.extent != at->extent || now.off != at->off)))
		return STELE_OK;
	if (err)
		return err;
	now.bad = bad;
	stele_index_value_encode(&now, v);
	struct stele_kv_write w = {k, stele_index_key(STELE_INDEX_ENTRY, &at->key, k), v,
	                           sizeof(v)};
	STELE_TRY(stele_kv_write(ix->kv, &w, 1));
	if (bad)
		ix->counts.bad++;
	else if (ix->counts.bad)
		ix->counts.bad--;
	return STELE_OK;
}

/* The entry or tombstone at which the iterator stands. */
static enum stele_err decode_at(struct stele_kv_iter *it, struct stele_item_at *at)
{
	size_t key_len, value_len;
	const void *key = it->key(it, &key_len), *value = it->value(it, &value_len);
	if (!stele_index_key_decode(key, key_len, &at->key) ||
	    !stele_index_value_decode(value, value_len, at))
		return stele_fail(STELE_ERR_CORRUPT, "index: an entry does not decode");
	return STELE_OK;
}

static enum stele_err mark_one_gone(struct stele_index *ix, struct stele_kv_iter *it,
                                    bool (*is_gone)(void *ctx, uint32_t extent), void *ctx)
{
	struct stele_item_at at;
	STELE_TRY(decode_at(it, &at));
	return is_gone(ctx, at.extent) ? stele_index_mark(ix, &at, true) : STELE_OK;
}

enum stele_err stele_index_mark_gone(struct stele_index *ix,
                                     bool (*is_gone)(void *ctx, uint32_t extent), void *ctx)
{
	static const uint8_t first[1] = {STELE_INDEX_ENTRY};
	struct stele_kv_iter *it;
	STELE_TRY(stele_kv_iter_create(ix->kv, &it));
	enum stele_err err = STELE_OK;
	size_t len;
	for (it->seek(it, first, 1); !err && it->valid(it); it->next(it)) {
		if (*(const uint8_t *)it->key(it, &len) != STELE_INDEX_ENTRY)
			break;
		err = mark_one_gone(ix, it, is_gone, ctx);
	}
	if (!err)
		err = it->status(it);
	stele_kv_iter_destroy(it);
	return err;
}

/* ---- an extent that was recycled ---- */

/* What an item of that extent leaves behind: a tombstone that is no longer needed, or that of its victim, or a
 * copy that is the only one now. */
static enum stele_err forget(struct stele_index *ix, struct group *g, const struct stele_item_at *it)
{
	struct stele_item_at at;
	enum stele_err err = stele_index_get(ix->kv, STELE_INDEX_TOMB, &it->key, &at);
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	if (!err && (it->tomb ? same_place(&at, it)
	                      : at.only == it->extent && at.victim_lsn >= it->birth_lsn)) {
		STELE_TRY(count_tomb(&ix->counts, &at, -1));
		group_delete(g, stele_index_key(STELE_INDEX_TOMB, &it->key, group_key(g)));
	}
	err = it->tomb ? STELE_ERR_NOT_FOUND
	               : stele_index_get(ix->kv, STELE_INDEX_ENTRY, &it->key, &at);
	if (err)
		return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
	if (at.moved && at.birth_lsn == it->birth_lsn) {
		at.moved = false;
		group_put(g, stele_index_key(STELE_INDEX_ENTRY, &it->key, group_key(g)), &at);
	}
	return STELE_OK;
}

enum stele_err stele_index_forget(struct stele_index *ix, const struct stele_item_at *items,
                                  size_t n)
{
	return each(ix, items, n, forget, false);
}

/* ---- checkpoint ----
 * state key "s" -> version4 open_extent4 disk16 watermark8 closed_in8 open_end8 shards8 refs8 records8
 * marks8 bad8 bytes8; count key "c" extent4(be) -> live8. */

static const uint8_t state_key[1] = {STELE_INDEX_STATE};

static void count_key(uint32_t extent, uint8_t out[5])
{
	out[0] = STELE_INDEX_COUNT;
	for (int i = 0; i < 4; i++)
		out[1 + i] = (uint8_t)(extent >> (24 - 8 * i));
}

static enum stele_err write_live(struct stele_index *ix, uint32_t from, uint32_t n)
{
	struct stele_kv_write w[64];
	uint8_t key[64][5], value[64][8];
	for (uint32_t i = 0; i < n; i++) {
		count_key(from + i, key[i]);
		stele_put_le64(value[i], ix->counts.live[from + i]);
		w[i] = (struct stele_kv_write){key[i], 5,
		                               ix->counts.live[from + i] ? value[i] : NULL, 8};
	}
	return stele_kv_write(ix->kv, w, n);
}

enum stele_err stele_index_checkpoint_begin(struct stele_index *ix,
                                            const struct stele_index_state *s,
                                            uint8_t out[STELE_INDEX_STATE_LEN])
{
	for (uint32_t i = 0; i < ix->counts.extents; i += 64) {
		uint32_t n = ix->counts.extents - i;
		STELE_TRY(write_live(ix, i, n < 64 ? n : 64));
	}
	struct stele_writer w = stele_writer(out, STELE_INDEX_STATE_LEN);
	stele_write_le32(&w, STELE_INDEX_VERSION);
	stele_write_le32(&w, s->open_extent);
	stele_write_uuid(&w, &s->disk);
	stele_write_le64(&w, s->watermark);
	stele_write_le64(&w, s->closed_in);
	stele_write_le64(&w, s->open_end);
	stele_write_le64(&w, ix->counts.shards);
	stele_write_le64(&w, ix->counts.refs);
	stele_write_le64(&w, ix->counts.records);
	stele_write_le64(&w, ix->counts.marks);
	stele_write_le64(&w, ix->counts.bad);
	stele_write_le64(&w, ix->counts.bytes);
	assert(!w.bad && stele_written(&w) == STELE_INDEX_STATE_LEN);
	return STELE_OK;
}

enum stele_err stele_index_checkpoint_end(struct stele_index *ix,
                                          const uint8_t state[STELE_INDEX_STATE_LEN])
{
	STELE_TRY(stele_kv_flush(ix->kv)); /* before the watermark, never after it */
	struct stele_kv_write put = {state_key, sizeof(state_key), state, STELE_INDEX_STATE_LEN};
	return stele_kv_write(ix->kv, &put, 1);
}

static enum stele_err read_state(struct stele_index *ix, struct stele_index_state *s)
{
	uint8_t v[STELE_INDEX_STATE_LEN];
	size_t len;
	STELE_TRY(stele_kv_get(ix->kv, state_key, sizeof(state_key), v, sizeof(v), &len));
	struct stele_reader r = stele_reader(v, len);
	uint32_t version = stele_read_le32(&r);
	if (version != STELE_INDEX_VERSION)
		return stele_fail(STELE_ERR_VERSION, "index: version %u", version);
	s->open_extent = stele_read_le32(&r);
	stele_read_uuid(&r, &s->disk);
	s->watermark = stele_read_le64(&r);
	s->closed_in = stele_read_le64(&r);
	s->open_end = stele_read_le64(&r);
	ix->counts.shards = stele_read_le64(&r);
	ix->counts.refs = stele_read_le64(&r);
	ix->counts.records = stele_read_le64(&r);
	ix->counts.marks = stele_read_le64(&r);
	ix->counts.bad = stele_read_le64(&r);
	ix->counts.bytes = stele_read_le64(&r);
	if (!stele_read_done(&r))
		return stele_fail(STELE_ERR_CORRUPT, "index: its state does not decode");
	return STELE_OK;
}

enum stele_err stele_index_open(const struct stele_kv_ops *ops, void *world, const char *dir,
                                struct stele_index *out, struct stele_index_state *state)
{
	struct stele_index ix = {0};
	memset(state, 0, sizeof(*state));
	STELE_TRY(stele_kv_open(ops, world, dir, &ix.kv));
	enum stele_err err = read_state(&ix, state);
	if (err && err != STELE_ERR_NOT_FOUND) {
		stele_index_close(&ix);
		return err;
	}
	*out = ix;
	return err;
}

void stele_index_close(struct stele_index *ix)
{
	stele_kv_close(ix->kv);
	free(ix->counts.live);
	*ix = (struct stele_index){0};
}

enum stele_err stele_index_load_counts(struct stele_index *ix)
{
	struct stele_kv_iter *it;
	STELE_TRY(stele_kv_iter_create(ix->kv, &it));
	enum stele_err err = STELE_OK;
	uint8_t first[5];
	count_key(0, first);
	for (it->seek(it, first, 5); !err && it->valid(it); it->next(it)) {
		size_t key_len, value_len;
		const uint8_t *key = it->key(it, &key_len);
		const uint8_t *value = it->value(it, &value_len);
		if (key_len != 5 || key[0] != STELE_INDEX_COUNT)
			break;
		uint32_t extent = stele_be32(key + 1);
		if (value_len != 8)
			err = stele_fail(STELE_ERR_CORRUPT, "index: a counter does not decode");
		else
			err = make_room(&ix->counts, extent);
		if (!err)
			ix->counts.live[extent] = stele_le64(value);
	}
	if (!err)
		err = it->status(it);
	stele_kv_iter_destroy(it);
	return err;
}

static enum stele_err recount_one(struct stele_index *ix, struct stele_kv_iter *it, bool tomb)
{
	struct stele_item_at at;
	STELE_TRY(decode_at(it, &at));
	if (tomb)
		return count_tomb(&ix->counts, &at, 1);
	STELE_TRY(make_room(&ix->counts, at.extent));
	count(&ix->counts, &at, 1);
	return STELE_OK;
}

static enum stele_err recount_space(struct stele_index *ix, struct stele_kv_iter *it,
                                    enum stele_index_space space)
{
	const uint8_t first[1] = {(uint8_t)space};
	for (it->seek(it, first, 1); it->valid(it); it->next(it)) {
		size_t len;
		const uint8_t *key = it->key(it, &len);
		if (key[0] != space)
			break;
		STELE_TRY(recount_one(ix, it, space == STELE_INDEX_TOMB));
	}
	return it->status(it);
}

enum stele_err stele_index_recount(struct stele_index *ix)
{
	free(ix->counts.live);
	ix->counts = (struct stele_index_counts){0};
	struct stele_kv_iter *it;
	STELE_TRY(stele_kv_iter_create(ix->kv, &it));
	enum stele_err err = recount_space(ix, it, STELE_INDEX_ENTRY);
	if (!err)
		err = recount_space(ix, it, STELE_INDEX_TOMB);
	stele_kv_iter_destroy(it);
	return err;
}
