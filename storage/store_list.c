/*
 * What is there: lists by id, the feed of records, have, digests. All of it is a walk over the index on a
 * worker, each in one piece: what it answers was true at one moment. Metas are read there too, by
 * blocking calls. Decides nothing.
 */
#include "storage/store_private.h"

#include <stdlib.h>

#include "storage/base/sha256.h"

#define LIST_ITEMS     1024u
#define LIST_ITEMS_MAX 65536u
#define LIST_BYTES     (1u << 20)
#define DAMAGED_MAX    64u /* victims that one list remembers; the next finds the others */

enum question { LIST, FEED, HAVE, DIGEST };

struct query { /* a request on its way through a worker */
	struct stele_op op;
	struct stele_store *s;
	enum question question;
	union {
		struct stele_store_list *list;
		struct stele_store_have *have;
		struct stele_store_digest *digest;
	} u;
	uint64_t after_lsn; /* of FEED */
	enum stele_err err;
	char why[STELE_DETAIL_MAX];
	bool index_failed;
	/* lists */
	struct stele_listed *item;
	uint32_t n, cap, max;
	size_t bytes, bytes_max;
	bool more;
	struct stele_item_at damaged[DAMAGED_MAX];
	uint32_t ndamaged;
	struct digest_state *digest;
};

static void end_list(struct query *q, enum stele_err err)
{
	struct stele_store_list *l = q->u.list;
	l->err = err;
	if (err) {
		stele_detail_copy(l->detail);
		for (uint32_t i = 0; i < q->n; i++)
			free((void *)(uintptr_t)q->item[i].meta);
		free(q->item);
	} else {
		l->item = q->item;
		l->n = q->n;
		l->more = q->more;
		l->memory = q->item;
	}
}

static void ended(struct stele_op *op)
{
	struct query *q = op->ctx;
	struct stele_store *s = q->s;
	s->reads--;
	for (uint32_t i = 0; i < q->ndamaged; i++)
		stele_store_mark(s, &q->damaged[i], true);
	enum stele_err err = q->err;
	if (op->result < 0)
		err = stele_fail(STELE_ERR_CANCELLED, "cancelled");
	else if (err)
		stele_fail(err, "%s", q->why);
	if (q->index_failed)
		stele_store_index_failed(s, err);
	switch (q->question) {
	case LIST:
	case FEED: {
		struct stele_store_list *l = q->u.list;
		end_list(q, err);
		free(q);
		l->cb(l);
		return;
	}
	case HAVE: {
		struct stele_store_have *h = q->u.have;
		h->err = err;
		free(q);
		h->cb(h);
		return;
	}
	case DIGEST: {
		struct stele_store_digest *d = q->u.digest;
		d->err = err;
		free(q);
		d->cb(d);
		return;
	}
	}
}

static void work(struct stele_op *op);

/* False: no memory. */
static bool start(struct stele_store *s, const struct query *what)
{
	struct query *q = malloc(sizeof(*q));
	if (!q)
		return false;
	*q = *what;
	q->s = s;
	q->op = (struct stele_op){
	    .kind = STELE_OP_WORK, .flags = STELE_WORK_LONG, .work = work, .cb = ended, .ctx = q};
	s->reads++;
	stele_env_submit(s->env, &q->op);
	return true;
}

/* ---- walking ---- */

/* Any failure of the index but a lack of memory makes it suspect. */
static enum stele_err failed(struct query *q, enum stele_err err)
{
	if (err == STELE_ERR_CORRUPT || err == STELE_ERR_IO)
		q->index_failed = true;
	return err;
}

/* Calls visit for each entry from `from` on, while it says true and ids are at most `last`. */
static enum stele_err
walk(struct query *q, uint16_t pool, const struct stele_hash *first, const struct stele_hash *last,
     const struct stele_key *after, uint32_t kinds,
     enum stele_err (*visit)(struct query *q, const struct stele_item_at *it, bool *go_on))
{
	uint8_t from[STELE_INDEX_KEY_MAX];
	size_t from_len = stele_index_prefix(STELE_INDEX_ENTRY, pool, first, from);
	if (after && after->kind) {
		struct stele_key k = stele_key_short(after);
		uint8_t later[STELE_INDEX_KEY_MAX];
		size_t len = stele_index_key(STELE_INDEX_ENTRY, &k, later);
		later[len++] = 0; /* strictly after it */
		if (memcmp(later, from, from_len) >= 0) {
			memcpy(from, later, len);
			from_len = len;
		}
	}
	struct stele_kv_iter *it;
	STELE_TRY(failed(q, stele_kv_iter_create(q->s->index.kv, &it)));
	enum stele_err err = STELE_OK;
	bool go_on = true;
	for (it->seek(it, from, from_len); !err && go_on && it->valid(it); it->next(it)) {
		size_t key_len, value_len;
		const uint8_t *key = it->key(it, &key_len);
		const void *value = it->value(it, &value_len);
		struct stele_item_at at;
		if (key[0] != STELE_INDEX_ENTRY)
			break;
		if (!stele_index_key_decode(key, key_len, &at.key) ||
		    !stele_index_value_decode(value, value_len, &at))
			err = failed(
			    q, stele_fail(STELE_ERR_CORRUPT, "index: an entry does not decode"));
		else if (at.key.pool != pool || stele_hash_cmp(&at.key.id, last) > 0)
			break;
		else if (kinds & STELE_KIND_BIT(at.key.kind))
			err = visit(q, &at, &go_on);
	}
	if (!err)
		err = failed(q, it->status(it));
	stele_kv_iter_destroy(it);
	return err;
}

/* ---- lists ---- */

static enum stele_err grow(struct query *q)
{
	if (q->n < q->cap)
		return STELE_OK;
	uint32_t cap = q->cap ? 2 * q->cap : 64;
	struct stele_listed *more = realloc(q->item, cap * sizeof(more[0]));
	if (!more)
		return stele_fail(STELE_ERR_NOMEM, "list: out of memory");
	q->item = more;
	q->cap = cap;
	return STELE_OK;
}

/* The entry's meta and whole key into the last item. False: it is damaged or gone, leave it out. */
static enum stele_err load_meta(struct query *q, const struct stele_item_at *at,
                                struct stele_listed *out, bool *usable)
{
	uint8_t *buf, *copy;
	struct stele_entry_head head;
	const uint8_t *meta;
	*usable = false;
	enum stele_err err = stele_store_load_entry(q->s, at, &buf, &head, &meta);
	if (err == STELE_ERR_NOT_FOUND || err == STELE_ERR_BUSY)
		return STELE_OK;
	if (err == STELE_ERR_CORRUPT || err == STELE_ERR_IO) {
		if (q->ndamaged < DAMAGED_MAX)
			q->damaged[q->ndamaged++] = *at;
		return STELE_OK;
	}
	if (err)
		return err;
	copy = malloc(head.meta_len ? head.meta_len : 1);
	if (copy)
		memcpy(copy, meta, head.meta_len);
	free(buf);
	if (!copy)
		return stele_fail(STELE_ERR_NOMEM, "list: out of memory");
	out->key = head.key;
	out->meta = copy;
	out->meta_len = head.meta_len;
	*usable = true;
	return STELE_OK;
}

static enum stele_err list_one(struct query *q, const struct stele_item_at *at, bool *go_on)
{
	STELE_TRY(grow(q));
	struct stele_listed *out = &q->item[q->n];
	*out = (struct stele_listed){
	    .key = at->key, .lsn = at->birth_lsn, .data_len = at->data_len, .bad = at->bad};
	if (q->n == q->max || q->bytes >= q->bytes_max) {
		q->more = true;
		*go_on = false;
		return STELE_OK;
	}
	if (q->u.list->want_meta && at->key.kind != STELE_ENTRY_SHARD && !at->bad) {
		bool usable;
		STELE_TRY(load_meta(q, at, out, &usable));
		if (!usable)
			return STELE_OK;
		q->bytes += out->meta_len;
	} else if (q->u.list->want_meta && at->key.kind != STELE_ENTRY_SHARD) {
		return STELE_OK; /* known to be damaged */
	}
	q->n++;
	return STELE_OK;
}

static enum stele_err list_work(struct query *q)
{
	const struct stele_store_list *l = q->u.list;
	return walk(q, l->pool, &l->first, &l->last, &l->after, l->kinds, list_one);
}

static enum stele_err feed_one(struct query *q, struct stele_kv_iter *it, uint64_t *lsn,
                               bool *go_on)
{
	size_t len;
	const uint8_t *key = it->key(it, &len);
	uint64_t birth;
	struct stele_item_at at;
	struct stele_key record;
	if (key[0] != STELE_INDEX_FEED) {
		*go_on = false;
		return STELE_OK;
	}
	if (!stele_index_feed_decode(key, len, &birth, &record))
		return failed(q, stele_fail(STELE_ERR_CORRUPT, "index: the feed does not decode"));
	/* Records of one batch have one LSN: they go together, or the cursor would lose some. */
	if (birth != *lsn && (q->n >= q->max || q->bytes >= q->bytes_max)) {
		q->more = true;
		*go_on = false;
		return STELE_OK;
	}
	*lsn = birth;
	enum stele_err err = stele_index_get(q->s->index.kv, STELE_INDEX_ENTRY, &record, &at);
	if (err == STELE_ERR_NOT_FOUND || (!err && at.birth_lsn != birth))
		return STELE_OK; /* removed meanwhile */
	if (err)
		return failed(q, err);
	uint32_t max = q->max;
	q->max = UINT32_MAX; /* the bounds were asked above */
	size_t bytes_max = q->bytes_max;
	q->bytes_max = SIZE_MAX;
	err = list_one(q, &at, go_on);
	q->max = max;
	q->bytes_max = bytes_max;
	return err;
}

static enum stele_err feed_work(struct query *q)
{
	if (q->after_lsn == UINT64_MAX)
		return STELE_OK;
	uint8_t from[9] = {STELE_INDEX_FEED};
	stele_put_be64(from + 1, q->after_lsn + 1);
	struct stele_kv_iter *it;
	STELE_TRY(failed(q, stele_kv_iter_create(q->s->index.kv, &it)));
	enum stele_err err = STELE_OK;
	bool go_on = true;
	uint64_t lsn = 0;
	for (it->seek(it, from, sizeof(from)); !err && it->valid(it); it->next(it)) {
		err = feed_one(q, it, &lsn, &go_on);
		if (!go_on)
			break;
	}
	if (!err)
		err = failed(q, it->status(it));
	stele_kv_iter_destroy(it);
	return err;
}

static void refuse_list(struct stele_later *later, bool cancelled)
{
	struct stele_store_list *l = later->request;
	(void)cancelled;
	l->cb(l);
}

static void ask_list(struct stele_store *s, struct stele_store_list *l, enum question question,
                     uint64_t after_lsn)
{
	l->err = STELE_OK;
	l->detail[0] = '\0';
	l->item = NULL;
	l->n = 0;
	l->more = false;
	l->memory = NULL;
	struct query q = {.question = question, .u.list = l, .after_lsn = after_lsn};
	q.max = l->max ? l->max : LIST_ITEMS;
	if (q.max > LIST_ITEMS_MAX)
		q.max = LIST_ITEMS_MAX;
	q.bytes_max = l->max_bytes ? l->max_bytes : LIST_BYTES;
	if (start(s, &q))
		return;
	l->err = stele_fail(STELE_ERR_NOMEM, "list: out of memory");
	stele_detail_copy(l->detail);
	_Static_assert(sizeof(struct stele_later) <= sizeof(l->priv), "priv holds it");
	stele_store_later(s, (struct stele_later *)l->priv, refuse_list, l);
}

void stele_store_list(struct stele_store *s, struct stele_store_list *l)
{
	ask_list(s, l, LIST, 0);
}

void stele_store_feed(struct stele_store *s, struct stele_store_list *l, uint64_t after_lsn)
{
	ask_list(s, l, FEED, after_lsn);
}

void stele_store_list_finish(struct stele_store_list *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		free((void *)(uintptr_t)l->item[i].meta);
	free(l->memory);
	l->memory = NULL;
	l->item = NULL;
	l->n = 0;
}

/* ---- have ---- */

static enum stele_err have_work(struct query *q)
{
	struct stele_store_have *h = q->u.have;
	for (uint32_t i = 0; i < h->n; i++) {
		struct stele_item_at at;
		struct stele_key key = stele_key_short(&h->key[i]);
		h->out[i] = false;
		if (key.kind < STELE_ENTRY_SHARD || key.kind > STELE_ENTRY_KEEP)
			continue;
		enum stele_err err = stele_index_get(q->s->index.kv, STELE_INDEX_ENTRY, &key, &at);
		if (err && err != STELE_ERR_NOT_FOUND)
			return failed(q, err);
		h->out[i] = !err && !at.bad;
	}
	return STELE_OK;
}

static void refuse_have(struct stele_later *later, bool cancelled)
{
	struct stele_store_have *h = later->request;
	(void)cancelled;
	h->cb(h);
}

void stele_store_have(struct stele_store *s, struct stele_store_have *h)
{
	h->err = STELE_OK;
	struct query q = {.question = HAVE, .u.have = h};
	if (start(s, &q))
		return;
	h->err = STELE_ERR_NOMEM;
	stele_store_later(s, (struct stele_later *)h->priv, refuse_have, h);
}

/* ---- digest ---- */

struct digest_state {
	struct stele_sha256_stream hash;
	uint8_t last[STELE_INDEX_KEY_MAX];
	size_t last_len;
};

static enum stele_err digest_one(struct query *q, const struct stele_item_at *at, bool *go_on)
{
	(void)go_on;
	struct stele_store_digest *d = q->u.digest;
	struct digest_state *st = q->digest;
	if (at->bad)
		return STELE_OK;
	d->bytes += at->data_len;
	struct stele_key k = at->key;
	uint8_t bytes[STELE_INDEX_KEY_MAX];
	if (k.kind == STELE_ENTRY_SHARD)
		k.index = 0; /* two shards of one block are one key */
	size_t len = stele_index_key(STELE_INDEX_ENTRY, &k, bytes);
	if (len == st->last_len && memcmp(bytes, st->last, len) == 0)
		return STELE_OK;
	memcpy(st->last, bytes, len);
	st->last_len = len;
	stele_sha256_update(&st->hash, bytes, len);
	d->keys++;
	return STELE_OK;
}

static enum stele_err digest_work(struct query *q)
{
	struct stele_store_digest *d = q->u.digest;
	struct digest_state st = {.last_len = 0};
	stele_sha256_init(&st.hash);
	d->keys = d->bytes = 0;
	q->digest = &st;
	enum stele_err err = walk(q, d->pool, &d->first, &d->last, NULL, d->kinds, digest_one);
	stele_sha256_value(&st.hash, &d->digest);
	return err;
}

static void refuse_digest(struct stele_later *later, bool cancelled)
{
	struct stele_store_digest *d = later->request;
	(void)cancelled;
	d->cb(d);
}

void stele_store_digest(struct stele_store *s, struct stele_store_digest *d)
{
	d->err = STELE_OK;
	struct query q = {.question = DIGEST, .u.digest = d};
	if (start(s, &q))
		return;
	d->err = STELE_ERR_NOMEM;
	stele_store_later(s, (struct stele_later *)d->priv, refuse_digest, d);
}

static void work(struct stele_op *op)
{
	struct query *q = op->ctx;
	switch (q->question) {
	case LIST:
		q->err = list_work(q);
		break;
	case FEED:
		q->err = feed_work(q);
		break;
	case HAVE:
		q->err = have_work(q);
		break;
	case DIGEST:
		q->err = digest_work(q);
		break;
	}
	if (q->err)
		stele_detail_copy(q->why);
}
