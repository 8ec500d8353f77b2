/*
 * Writing, up to the batch: admission, the cells' CRCs, and what the write meets.
 *
 *   stele_store_write -> its turn (fair.h) -> cells' CRCs (a worker above 256 KiB) -> look-up (a worker: what the index has, for all
 *     writes that wait together) -> resolve -> store_batch.c
 *
 * The index is updated after a write is durable and before its callback, so that every reader sees what was
 * acknowledged with no second structure to ask. What has been placed and is not in the index yet is
 * the overlay (`pend`): only new writes look there. A look-up that began before an apply ended may have
 * missed what was applied, so overlay entries stay (`limbo`) until the look-up then under way has ended.
 */
#include "storage/store_writing.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define WRITES_MAX      8192u        /* admitted at a time: beyond, BUSY */
#define WRITE_BYTES_MAX (256u << 20) /* the same in bytes */
#define ITEMS_MAX       1024u        /* of one write */

static void kick_lookup(struct stele_store *s);

/* ---- the overlay ---- */

static struct stele_pend **bucket(struct stele_store *s, uint16_t pool, uint8_t kind,
                                  const struct stele_hash *id)
{
	uint64_t h = stele_le64(id->b) ^ ((uint64_t)pool << 8 | kind) * 0x9e3779b97f4a7c15u;
	return &s->pend[(h ^ h >> 32) % STELE_PEND_BUCKETS];
}

struct stele_pend *stele_write_pending(struct stele_store *s, const struct stele_key *key)
{
	struct stele_pend *p = *bucket(s, key->pool, key->kind, &key->id);
	while (p && !stele_key_equal(&p->key, key))
		p = p->next;
	return p;
}

void stele_write_add_pending(struct stele_store *s, struct stele_pend *p)
{
	struct stele_pend **b = bucket(s, p->key.pool, p->key.kind, &p->key.id);
	p->next = *b;
	*b = p;
}

static void remove_pend(struct stele_store *s, struct stele_pend *p)
{
	struct stele_pend **b = bucket(s, p->key.pool, p->key.kind, &p->key.id);
	while (*b != p)
		b = &(*b)->next;
	*b = p->next;
}

static void wreq_free(struct stele_wreq *q)
{
	for (uint32_t i = 0; i < q->n; i++)
		if (q->item[i].pends)
			remove_pend(q->s, &q->item[i].pend);
	for (uint32_t i = 0; i < q->n; i++)
		if (!q->item[i].crc_given)
			free(q->item[i].crc);
	free(q);
}

static void clear_limbo(struct stele_store *s)
{
	while (s->limbo) {
		struct stele_wreq *q = s->limbo;
		s->limbo = q->next;
		wreq_free(q);
	}
}

/* ---- ends ---- */

/* The thread's detail goes along with an error. */
void stele_write_end(struct stele_wreq *q, enum stele_err err, uint64_t lsn)
{
	struct stele_store *s = q->s;
	struct stele_store_write *w = q->w;
	s->writes--;
	s->write_bytes -= q->bytes;
	stele_store_turn_over(s, &q->turn, q->bytes);
	w->err = err;
	w->lsn = lsn;
	w->detail[0] = '\0';
	if (err)
		stele_detail_copy(w->detail);
	if (q->placed && s->lookup.busy) {
		q->next = s->limbo;
		s->limbo = q;
	} else {
		wreq_free(q);
	}
	w->cb(w);
}

enum stele_err stele_write_say_fenced(const struct stele_store *s)
{
	return stele_fail(STELE_ERR_FENCED, "%s: the disk is fenced: %.300s", s->vol.dir,
	                  s->fence_reason);
}

static void refuse_later(struct stele_later *later, bool cancelled)
{
	struct stele_store_write *w = later->request;
	(void)cancelled;
	w->cb(w);
}

static void marker_work(struct stele_store *s, struct stele_store_job *job)
{
	char path[STELE_PATH_MAX];
	snprintf(path, sizeof(path), "%.*s/%s", (int)(STELE_PATH_MAX - 32), s->vol.dir,
	         STELE_REBUILD_MARKER);
	job->err = stele_file_save(s->env, path, "", 0, 0600);
}

static void marker_done(struct stele_store *s, struct stele_store_job *job, bool ran)
{
	(void)s;
	(void)job;
	(void)ran;
}

void stele_store_index_failed(struct stele_store *s, enum stele_err err)
{
	if (s->fenced || err == STELE_ERR_NOMEM)
		return;
	stele_store_fence(s, "%.400s: the next start rebuilds the index", stele_detail());
	struct stele_store_job *job = err == STELE_ERR_CANCELLED ? NULL : stele_store_job_create(s);
	if (!job)
		return;
	job->work = marker_work;
	job->done = marker_done;
	stele_store_job_start(job);
}

/* ---- admission ---- */

static enum stele_err check_data(const struct stele_item *it)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < it->ndata; i++) {
		sum += it->data[i].iov_len;
		if ((uintptr_t)it->data[i].iov_base % STELE_PAGE ||
		    (i + 1 < it->ndata && it->data[i].iov_len % STELE_CELL_LEN))
			return stele_fail(STELE_ERR_INVALID, "write: cells are not aligned");
	}
	if (sum != it->data_len)
		return stele_fail(STELE_ERR_INVALID, "write: %llu bytes of cells, not %llu",
		                  (unsigned long long)sum, (unsigned long long)it->data_len);
	return STELE_OK;
}

static enum stele_err check_shard(const struct stele_item *it, uint32_t *desc_len)
{
	struct stele_descriptor d;
	size_t used;
	STELE_TRY(stele_descriptor_decode_prefix(it->meta, it->meta_len, &d, &used));
	uint64_t cells = stele_descriptor_cells(&d);
	uint64_t rows = stele_descriptor_roots(&d) * cells * STELE_HASH_LEN;
	if (it->key.index >= d.n || d.S != it->data_len || it->meta_len != used + rows)
		return stele_fail(STELE_ERR_INVALID,
		                  "write: a shard whose descriptor, index or rows do not fit");
	if (it->meta_len + 4 * cells > STELE_META_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "write: %u bytes of rows", it->meta_len);
	*desc_len = (uint32_t)used;
	return check_data(it);
}

static enum stele_err check_item(const struct stele_item *it, uint32_t *desc_len)
{
	*desc_len = 0;
	if (it->key.kind < STELE_ENTRY_SHARD || it->key.kind > STELE_ENTRY_KEEP ||
	    it->key.kind == STELE_ENTRY_TOMB || it->key.kind == STELE_ENTRY_FOOTER)
		return stele_fail(STELE_ERR_INVALID, "write: kind %u", it->key.kind);
	if (it->key.index >= STELE_CODE_N_MAX)
		return stele_fail(STELE_ERR_INVALID, "write: index %u", it->key.index);
	if (it->tomb)
		return STELE_OK;
	if (it->key.kind == STELE_ENTRY_SHARD)
		return check_shard(it, desc_len);
	if (it->ndata || it->data_len)
		return stele_fail(STELE_ERR_INVALID, "write: only shards have cells");
	if (it->meta_len > STELE_META_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "write: a meta of %u bytes", it->meta_len);
	if (it->key.kind == STELE_ENTRY_REF && it->meta_len != STELE_HASH_LEN)
		return stele_fail(STELE_ERR_INVALID, "write: a reference names an object");
	return STELE_OK;
}

static enum stele_err prepare_items(struct stele_wreq *q)
{
	q->use = STELE_ROOM_COPY;
	for (uint32_t i = 0; i < q->n; i++) {
		struct stele_witem *it = &q->item[i];
		it->in = &q->w->item[i];
		it->crc_given = true;
		STELE_TRY(check_item(it->in, &it->desc_len));
		enum stele_room_use use = it->in->moved  ? STELE_ROOM_COPY
		                          : it->in->tomb ? STELE_ROOM_TOMB
		                                         : STELE_ROOM_WRITE;
		q->use = use < q->use ? use : q->use;
		if (it->in->tomb) {
			q->bytes += STELE_ENTRY_HEAD + STELE_TOMB_META;
			q->most += 2 * stele_entry_len(STELE_TOMB_META);
			continue;
		}
		q->bytes += stele_entry_len(it->in->meta_len) + it->in->data_len;
		uint64_t meta = stele_entry_len(it->in->meta_len + 4 * stele_item_cells(it->in));
		q->most += meta + (meta < STELE_PAGE ? meta : STELE_PAGE) +
		           stele_round_up(it->in->data_len, STELE_PAGE);
		it->crc = (uint32_t *)(uintptr_t)it->in->crc;
		if (it->crc || !it->in->data_len)
			continue;
		it->crc = malloc(stele_item_cells(it->in) * sizeof(it->crc[0]));
		if (!it->crc)
			return stele_fail(STELE_ERR_NOMEM, "write: out of memory");
		it->crc_given = false;
		q->crc_bytes += it->in->data_len;
	}
	return STELE_OK;
}

static void compute_crcs(struct stele_wreq *q)
{
	for (uint32_t i = 0; i < q->n; i++) {
		struct stele_witem *it = &q->item[i];
		uint32_t cell = 0;
		for (uint32_t p = 0; !it->crc_given && p < it->in->ndata; p++) {
			const uint8_t *b = it->in->data[p].iov_base;
			size_t left = it->in->data[p].iov_len;
			while (left) {
				size_t n = left < STELE_CELL_LEN ? left : STELE_CELL_LEN;
				it->crc[cell++] = stele_crc32c(b, n, 0);
				b += n;
				left -= n;
			}
		}
	}
}

static void enqueue_lookup(struct stele_wreq *q)
{
	struct stele_store *s = q->s;
	q->next = NULL;
	*s->lookup_tail = q;
	s->lookup_tail = &q->next;
	kick_lookup(s);
}

static void crc_work(struct stele_op *op)
{
	compute_crcs(op->ctx);
}

static void crc_done(struct stele_op *op)
{
	struct stele_wreq *q = op->ctx;
	if (op->result < 0)
		stele_write_end(q, stele_fail(STELE_ERR_CANCELLED, "write: cancelled"), 0);
	else
		enqueue_lookup(q);
}

static enum stele_err admit(struct stele_store *s, struct stele_store_write *w,
                            struct stele_wreq **out)
{
	if (s->fenced)
		return stele_write_say_fenced(s);
	if (w->n == 0 || w->n > ITEMS_MAX)
		return stele_fail(STELE_ERR_INVALID, "write: %u items, not 1 to %u", w->n,
		                  ITEMS_MAX);
	if (s->writes >= WRITES_MAX || s->write_bytes >= WRITE_BYTES_MAX)
		return stele_fail(STELE_ERR_BUSY, "%s: too many writes wait", s->vol.dir);
	struct stele_wreq *q = calloc(1, sizeof(*q) + w->n * sizeof(q->item[0]));
	if (!q)
		return stele_fail(STELE_ERR_NOMEM, "write: out of memory");
	q->s = s;
	q->w = w;
	q->n = w->n;
	enum stele_err err = prepare_items(q);
	/* with the batch's head, the extent's header and the footer */
	if (!err && q->most + 3 * STELE_PAGE + stele_footer_room(q->n) > s->vol.extent_len)
		err = stele_fail(STELE_ERR_TOO_LARGE, "write: %llu bytes do not fit an extent",
		                 (unsigned long long)q->bytes);
	if (!err && s->full && q->use == STELE_ROOM_WRITE) {
		uint64_t now = stele_env_now(s->env);
		if (now - s->full_since_ns < STELE_FULL_RETRY_NS)
			err = stele_fail(STELE_ERR_FULL, "%s: the disk is full", s->vol.dir);
		else
			s->full = false; /* let this one find out whether it still is */
	}
	if (err)
		wreq_free(q);
	else
		*out = q;
	return err;
}

/* Its turn has come, and is over with its callback. */
static void write_begins(struct stele_turn *t)
{
	struct stele_wreq *q = t->ctx;
	if (q->crc_bytes > STELE_WORK_BYTES) {
		q->op = (struct stele_op){
		    .kind = STELE_OP_WORK, .work = crc_work, .cb = crc_done, .ctx = q};
		stele_env_submit(q->s->env, &q->op);
	} else {
		compute_crcs(q);
		enqueue_lookup(q);
	}
}

void stele_store_write(struct stele_store *s, struct stele_store_write *w)
{
	struct stele_wreq *q = NULL;
	w->lsn = 0;
	w->detail[0] = '\0';
	w->err = admit(s, w, &q);
	if (w->err) {
		stele_detail_copy(w->detail);
		_Static_assert(sizeof(struct stele_later) <= sizeof(w->priv), "priv holds it");
		stele_store_later(s, (struct stele_later *)w->priv, refuse_later, w);
		return;
	}
	s->writes++;
	s->write_bytes += q->bytes;
	q->turn = (struct stele_turn){.class = w->class,
	                              .lane = STELE_LANE_WRITE,
	                              .bytes = q->bytes,
	                              .begin = write_begins,
	                              .ctx = q};
	stele_store_turn(s, &q->turn);
}

/* ---- lookup ---- */

static enum stele_err look_up_item(struct stele_store *s, struct stele_wreq *q,
                                   struct stele_witem *it, struct stele_kv_iter **iter)
{
	struct stele_key key = stele_key_short(&it->in->key);
	it->pend = (struct stele_pend){.key = key, .tomb = it->in->tomb};
	enum stele_index_space space =
	    it->in->moved && it->in->tomb ? STELE_INDEX_TOMB : STELE_INDEX_ENTRY;
	it->found = stele_index_get(s->index.kv, space, &key, &it->old);
	if (it->found && it->found != STELE_ERR_NOT_FOUND)
		return it->found;
	if (it->in->moved)
		return STELE_OK;
	if (it->in->tomb && it->in->unless_referenced && key.kind == STELE_ENTRY_SHARD) {
		if (!*iter)
			STELE_TRY(stele_kv_iter_create(s->index.kv, iter));
		return stele_index_referenced(*iter, key.pool, &key.id, &it->opposite);
	}
	if (it->in->tomb)
		return STELE_OK;
	if (key.kind == STELE_ENTRY_RECORD || key.kind == STELE_ENTRY_REFUSE) {
		struct stele_item_at other;
		struct stele_key k = key;
		k.kind = key.kind == STELE_ENTRY_RECORD ? STELE_ENTRY_REFUSE : STELE_ENTRY_RECORD;
		enum stele_err err = stele_index_get(s->index.kv, STELE_INDEX_ENTRY, &k, &other);
		it->opposite = err == STELE_OK;
		return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
	}
	if (key.kind != STELE_ENTRY_REF)
		return STELE_OK;
	for (uint32_t i = 0; i < q->n; i++) { /* a shard that comes along will do */
		const struct stele_item *o = q->item[i].in;
		if (o->key.kind == STELE_ENTRY_SHARD && !o->tomb && o->key.pool == key.pool &&
		    stele_hash_equal(&o->key.id, &key.id)) {
			it->shards = ~UINT64_C(0);
			return STELE_OK;
		}
	}
	if (!*iter)
		STELE_TRY(stele_kv_iter_create(s->index.kv, iter));
	return stele_index_shards(*iter, key.pool, &key.id, false, &it->shards);
}

/* Copies of an entry and of a tombstone of its key: both are alive, so it kills others, and their order is all one. */
static bool entry_and_older_tomb(const struct stele_item *a, const struct stele_item *b)
{
	return a->moved && b->moved && a->tomb != b->tomb;
}

static enum stele_err look_up(struct stele_store *s, struct stele_wreq *q,
                              struct stele_kv_iter **iter)
{
	for (uint32_t i = 0; i < q->n; i++) {
		STELE_TRY(look_up_item(s, q, &q->item[i], iter));
		for (uint32_t o = 0; o < i; o++)
			if (stele_key_equal(&q->item[o].pend.key, &q->item[i].pend.key) &&
			    !entry_and_older_tomb(q->item[o].in, q->item[i].in))
				q->twice = true;
	}
	return STELE_OK;
}

static void lookup_work(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	struct stele_kv_iter *iter = NULL;
	for (struct stele_wreq *q = job->list; q; q = q->next) {
		enum stele_err err = look_up(job->store, q, &iter);
		if (err) {
			/* the first item carries the news */
			q->item[0].found = err;
			stele_detail_copy(q->w->detail);
		}
	}
	stele_kv_iter_destroy(iter);
}

static void resolve(struct stele_wreq *q);

static void lookup_done(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	struct stele_store *s = job->store;
	struct stele_wreq *q = job->list;
	while (q) {
		struct stele_wreq *next = q->next;
		if (op->result < 0)
			stele_write_end(q, stele_fail(STELE_ERR_CANCELLED, "write: cancelled"), 0);
		else
			resolve(q);
		q = next;
	}
	job->busy = false;
	clear_limbo(s);
	kick_lookup(s);
	stele_store_pump(s);
}

static void kick_lookup(struct stele_store *s)
{
	if (s->lookup.busy || !s->lookup_head)
		return;
	s->lookup.busy = true;
	s->lookup.list = s->lookup_head;
	s->lookup_head = NULL;
	s->lookup_tail = &s->lookup_head;
	s->lookup.op = (struct stele_op){.kind = STELE_OP_WORK,
	                                 .flags = STELE_WORK_LONG,
	                                 .work = lookup_work,
	                                 .cb = lookup_done,
	                                 .ctx = &s->lookup};
	stele_env_submit(s->env, &s->lookup.op);
}

/* ---- resolve ---- */

/* Is there a live entry of this key, counting what is on its way? */
static bool is_there(struct stele_store *s, const struct stele_key *key, bool in_index)
{
	const struct stele_pend *p = stele_write_pending(s, key);
	return p ? !p->tomb : in_index;
}

static bool has_shard(struct stele_store *s, const struct stele_witem *it)
{
	uint64_t bits = it->shards, seen = 0;
	const struct stele_key *k = &it->pend.key;
	for (const struct stele_pend *p = *bucket(s, k->pool, STELE_ENTRY_SHARD, &k->id); p;
	     p = p->next) {
		if (p->key.kind != STELE_ENTRY_SHARD || p->key.pool != k->pool ||
		    !stele_hash_equal(&p->key.id, &k->id))
			continue;
		uint64_t bit = UINT64_C(1) << p->key.index;
		if (!(seen & bit)) /* the newest counts */
			bits = p->tomb ? bits & ~bit : bits | bit;
		seen |= bit;
	}
	return bits != 0;
}

/* Counting what is on its way. A tombstone that is on its way to a reference has not removed it yet. */
static bool is_referenced(struct stele_store *s, const struct stele_witem *it)
{
	const struct stele_key *k = &it->pend.key;
	const struct stele_pend *p = *bucket(s, k->pool, STELE_ENTRY_REF, &k->id);
	while (p && (p->tomb || p->key.kind != STELE_ENTRY_REF || p->key.pool != k->pool ||
	             !stele_hash_equal(&p->key.id, &k->id)))
		p = p->next;
	return p || it->opposite;
}

static enum stele_err resolve_tomb(struct stele_store *s, struct stele_witem *it)
{
	const struct stele_pend *p = stele_write_pending(s, &it->pend.key);
	if (it->in->unless_referenced && it->pend.key.kind == STELE_ENTRY_SHARD &&
	    is_referenced(s, it))
		return stele_fail(STELE_ERR_REFUSED, "a reference lies beside that shard");
	it->at.tomb = true;
	if (it->in->only_bad && (p || it->found || !it->old.bad)) {
		it->skip = true;
	} else if (p) {
		it->at.victim_lsn = p->lsn;
	} else if (!it->found) {
		it->at.victim_lsn = it->old.birth_lsn;
		it->at.only = it->old.others || it->old.moved ? 0 : it->old.extent;
	} else {
		it->skip = true; /* there is nothing to remove */
	}
	return STELE_OK;
}

/* A copy goes out only if nothing happened to the key meanwhile; what did is looked at again. */
static void resolve_moved(struct stele_store *s, struct stele_witem *it)
{
	const struct stele_item_at *from = it->in->moved;
	it->skip = it->found || it->old.extent != from->extent || it->old.off != from->off ||
	           it->old.bad || stele_write_pending(s, &it->pend.key);
	it->at = *from;
}

static enum stele_err resolve_item(struct stele_store *s, struct stele_witem *it)
{
	if (it->in->moved) {
		resolve_moved(s, it);
		return STELE_OK;
	}
	if (it->in->tomb)
		return resolve_tomb(s, it);
	struct stele_key other = it->pend.key;
	switch (it->in->key.kind) {
	case STELE_ENTRY_RECORD:
		other.kind = STELE_ENTRY_REFUSE;
		if (is_there(s, &other, it->opposite))
			return stele_fail(STELE_ERR_REFUSED, "this disk has refused that deposit");
		break;
	case STELE_ENTRY_REFUSE:
		other.kind = STELE_ENTRY_RECORD;
		if (is_there(s, &other, it->opposite))
			return stele_fail(STELE_ERR_EXISTS, "this disk has that deposit");
		break;
	case STELE_ENTRY_REF:
		if (!has_shard(s, it))
			return stele_fail(STELE_ERR_NOT_FOUND,
			                  "a reference to a block that has no shard here");
		break;
	default:
		break;
	}
	/* Equal keys mean equal bytes, except of a promise. One that is on its way is written again: it
	 * may yet fail. */
	it->skip = it->in->key.kind != STELE_ENTRY_KEEP && !it->found && !it->old.bad &&
	           !stele_write_pending(s, &it->pend.key);
	return STELE_OK;
}

static enum stele_err resolve_all(struct stele_wreq *q, bool *nothing)
{
	struct stele_store *s = q->s;
	if (s->fenced)
		return stele_write_say_fenced(s);
	if (q->twice)
		return stele_fail(STELE_ERR_INVALID, "write: one key twice");
	*nothing = true;
	for (uint32_t i = 0; i < q->n; i++) {
		STELE_TRY(resolve_item(s, &q->item[i]));
		*nothing = *nothing && q->item[i].skip;
	}
	return *nothing ? STELE_OK : stele_batch_place(q);
}

static void resolve(struct stele_wreq *q)
{
	struct stele_store *s = q->s;
	enum stele_err err = q->item[0].found;
	if (err && err != STELE_ERR_NOT_FOUND) {
		stele_fail(err, "%s", q->w->detail);
		stele_store_index_failed(s, err);
		stele_write_end(q, s->fenced ? stele_write_say_fenced(s) : err, 0);
		return;
	}
	bool nothing = false;
	err = resolve_all(q, &nothing);
	if (err || nothing)
		stele_write_end(q, err, err ? 0 : s->durable_lsn);
}
