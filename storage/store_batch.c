/*
 * Group commit (DESIGN N2): batches, from the first write placed to the last callback.
 *
 *   place, which fixes the LSN -> pump: one O_DIRECT, DSYNC write per batch -> land, in LSN order
 *     -> apply (a worker: the index) -> callbacks
 *
 * A lone writer does not wait: with nothing in flight a batch goes at once. While one is in flight, writes
 * gather until they are a third of all that is under way, or GATHER_BYTES: a few batches of equal size then
 * take turns, whoever writes and however much, and large appends overlap. Cells go to the
 * disk from the caller's memory; only headers and metas, and a shard's last partial page, are copied.
 *
 * The first failed write fences the disk: later batches are not acknowledged even if they landed.
 */
#include "storage/store_writing.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define FLIGHT_MAX     16u         /* batches being written */
#define GATHER_BYTES   (512u << 10) /* a batch of this size does not wait for those in flight */
#define GATHER_PART    3u           /* nor one of this part of what is under way */
#define BATCH_DATA_MAX (4u << 20)   /* nothing is added beyond; one write alone may be larger */
#define BATCH_META_MAX (4u << 20)
#define BATCH_ENTRIES  1024u
#define BATCH_IOVS     1000u /* what the kernel takes in one call */

struct stele_batch {
	struct stele_batch *next;
	struct stele_store *s;
	uint64_t lsn;
	bool head_only; /* not a batch but its extent's header */
	struct stele_wreq *first, **last;
	enum stele_room_use use; /* the least of its writes' */
	uint32_t entries, iovs;
	uint64_t meta_pos, data_len; /* so far; the head is counted */
	struct stele_extent *x;
	uint64_t off;
	uint64_t meta_len;
	uint8_t *pages; /* meta area, then the shards' last pages */
	struct iovec *iov;
	struct stele_op op;
	uint64_t len;
	struct stele_item_at *at; /* for the index */
	bool done;
	int64_t result;
};

static void pump(struct stele_store *s);
static void kick_apply(struct stele_store *s);

void stele_store_write_init(struct stele_store *s)
{
	s->lookup_tail = &s->lookup_head;
	s->formed_tail = &s->formed_head;
	s->flight_tail = &s->flight_head;
	s->apply_tail = &s->apply_head;
	s->lookup.store = s->apply.store = s;
}

/* ---- ends ---- */

static void batch_free(struct stele_batch *b)
{
	free(b->pages);
	free(b->iov);
	free(b->at);
	free(b);
}

/* Ends the batch's writes; err's detail is the thread's. */
static void end_batch(struct stele_batch *b, enum stele_err err)
{
	char why[STELE_DETAIL_MAX];
	stele_detail_copy(why);
	if (b->x)
		b->x->flying--;
	struct stele_wreq *q = b->first;
	uint64_t lsn = b->lsn;
	batch_free(b);
	while (q) {
		struct stele_wreq *next = q->next;
		if (err)
			stele_fail(err, "%s", why);
		stele_write_end(q, err, lsn);
		q = next;
	}
}

/* ---- batches ---- */

static struct stele_batch *batch_create(struct stele_store *s)
{
	struct stele_batch *b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->s = s;
	b->lsn = s->next_lsn++;
	b->last = &b->first;
	b->use = STELE_ROOM_COPY;
	b->meta_pos = STELE_BATCH_HEAD;
	b->iovs = 1;
	*s->formed_tail = b;
	s->formed_tail = &b->next;
	return b;
}

static uint32_t meta_len_of(const struct stele_witem *it)
{
	if (it->in->tomb)
		return STELE_TOMB_META;
	return it->in->meta_len + 4 * stele_item_cells(it->in);
}

/* What a reader must have to serve the entry: it does not straddle a page if it fits one (N3). */
static uint64_t hot_need(const struct stele_witem *it)
{
	if (it->in->key.kind == STELE_ENTRY_SHARD && !it->in->tomb)
		return STELE_ENTRY_HEAD + it->desc_len + 4 * stele_item_cells(it->in);
	return STELE_ENTRY_HEAD + meta_len_of(it);
}

static uint64_t entry_pos(uint64_t pos, uint64_t need)
{
	uint64_t spanned = (pos % STELE_PAGE + need + STELE_PAGE - 1) / STELE_PAGE;
	uint64_t least = (need + STELE_PAGE - 1) / STELE_PAGE;
	return spanned > least ? stele_round_up(pos, STELE_PAGE) : pos;
}

/* Lays the write's items out at the batch's end. */
static void batch_add(struct stele_batch *b, struct stele_wreq *q)
{
	q->next = NULL;
	*b->last = q;
	b->last = &q->next;
	b->use = q->use < b->use ? q->use : b->use;
	for (uint32_t i = 0; i < q->n; i++) {
		struct stele_witem *it = &q->item[i];
		if (it->skip)
			continue;
		it->meta_off = entry_pos(b->meta_pos, hot_need(it));
		b->meta_pos = it->meta_off + stele_entry_len(meta_len_of(it));
		it->data_off = b->data_len;
		if (!it->in->tomb) {
			b->data_len += stele_round_up(it->in->data_len, STELE_PAGE);
			b->iovs += it->in->ndata + (it->in->data_len ? 1 : 0);
		}
		b->entries++;
	}
}

static bool batch_takes(struct stele_store *s, const struct stele_batch *b,
                        const struct stele_wreq *q)
{
	uint64_t data = 0, meta = 0;
	uint32_t iovs = b->iovs, entries = b->entries;
	for (uint32_t i = 0; i < q->n; i++) {
		const struct stele_witem *it = &q->item[i];
		if (it->skip)
			continue;
		/* a batch has no two entries of one key: their order would not be told */
		const struct stele_pend *p = stele_write_pending(s, &it->pend.key);
		if (p && p->lsn == b->lsn)
			return false;
		entries++;
		meta += meta_len_of(it);
		if (!it->in->tomb) {
			data += it->in->data_len;
			iovs += it->in->ndata + 1;
		}
	}
	return b->data_len + data <= BATCH_DATA_MAX && b->meta_pos + meta <= BATCH_META_MAX &&
	       b->data_len + b->meta_pos + data + meta <= s->vol.extent_len / 4 &&
	       entries <= BATCH_ENTRIES && iovs <= BATCH_IOVS;
}

static struct stele_batch *growing(struct stele_store *s)
{
	struct stele_batch *b = s->formed_head;
	while (b && b->next)
		b = b->next;
	return b;
}

enum stele_err stele_batch_place(struct stele_wreq *q)
{
	struct stele_store *s = q->s;
	struct stele_batch *b = growing(s);
	if (!b || !batch_takes(s, b, q))
		b = batch_create(s);
	if (!b)
		return stele_fail(STELE_ERR_NOMEM, "write: out of memory");
	batch_add(b, q);
	q->placed = true;
	for (uint32_t i = 0; i < q->n; i++) {
		struct stele_witem *it = &q->item[i];
		if (it->skip || (it->in->moved && it->in->tomb))
			continue; /* the copy of a tombstone says nothing new of its key */
		it->pends = true;
		it->pend.lsn = b->lsn;
		stele_write_add_pending(s, &it->pend);
	}
	return STELE_OK;
}

/* ---- writing a batch ---- */

static uint32_t put_shard_meta(const struct stele_witem *it, uint8_t *out)
{
	const uint8_t *meta = it->in->meta;
	uint32_t cells = stele_item_cells(it->in);
	memcpy(out, meta, it->desc_len);
	for (uint32_t i = 0; i < cells; i++)
		stele_put_le32(out + it->desc_len + 4 * i, it->crc[i]);
	memcpy(out + it->desc_len + 4 * cells, meta + it->desc_len,
	       it->in->meta_len - it->desc_len);
	return it->desc_len + 4 * cells;
}

/* The entry's header and meta into the batch's pages, and its place into at. */
static void put_entry(struct stele_batch *b, struct stele_witem *it, struct stele_item_at *at)
{
	struct stele_store *s = b->s;
	uint8_t *out = b->pages + it->meta_off, *meta = out + STELE_ENTRY_HEAD;
	struct stele_entry_head h = {
	    .place = {b->x->id, b->x->cycle, b->off + it->meta_off},
	    .key = stele_key_whole(&it->in->key),
	    .birth_lsn = it->in->moved ? it->in->moved->birth_lsn : b->lsn,
	    .meta_len = meta_len_of(it),
	};
	if (it->in->tomb) {
		struct stele_tomb_meta t = {it->in->key.kind, it->in->key.index, it->at.victim_lsn,
		                            it->at.only};
		stele_tomb_meta_encode(&t, meta);
		h.key.kind = STELE_ENTRY_TOMB;
	} else if (it->in->key.kind == STELE_ENTRY_SHARD) {
		h.hot_len = put_shard_meta(it, meta);
		h.hot_crc = stele_crc32c(meta, h.hot_len, 0);
		h.data_len = (uint32_t)it->in->data_len;
		h.data_off = b->off + b->meta_len + it->data_off;
	} else if (h.meta_len) {
		memcpy(meta, it->in->meta, h.meta_len);
	}
	h.meta_crc = stele_crc32c(meta, h.meta_len, 0);
	stele_entry_head_encode(&h, &s->vol.salt, out);
	*at = (struct stele_item_at){
	    .key = stele_key_whole(&it->in->key),
	    .tomb = it->in->tomb,
	    .birth_lsn = h.birth_lsn,
	    .victim_lsn = it->at.victim_lsn,
	    .only = it->at.only,
	    .extent = b->x->id,
	    .off = h.place.off,
	    .data_off = h.data_off,
	    .data_len = h.data_len,
	    .meta_len = h.meta_len,
	    .hot_len = h.hot_len,
	};
}

/* The shard's cells into the iovecs; its last, partial page is copied to `tail` and padded. */
static uint32_t put_cells(const struct stele_witem *it, struct iovec *iov, uint8_t **tail)
{
	uint64_t whole = it->in->data_len / STELE_PAGE * STELE_PAGE;
	uint32_t n = 0, p = 0;
	for (; whole && p < it->in->ndata; p++) {
		uint64_t len = it->in->data[p].iov_len;
		if (len > whole)
			len = whole;
		iov[n++] = (struct iovec){it->in->data[p].iov_base, len};
		whole -= len;
	}
	uint64_t rest = it->in->data_len % STELE_PAGE;
	if (rest) {
		const struct iovec *last = &it->in->data[it->in->ndata - 1];
		memset(*tail, 0, STELE_PAGE);
		memcpy(*tail, (const uint8_t *)last->iov_base + (last->iov_len - rest), rest);
		iov[n++] = (struct iovec){*tail, STELE_PAGE};
		*tail += STELE_PAGE;
	}
	return n;
}

static bool batch_alloc(struct stele_batch *b)
{
	uint64_t tails = 0;
	for (struct stele_wreq *q = b->first; q; q = q->next)
		for (uint32_t i = 0; i < q->n; i++)
			tails += !q->item[i].skip && !q->item[i].in->tomb &&
			         q->item[i].in->data_len % STELE_PAGE;
	b->meta_len = stele_round_up(b->meta_pos, STELE_PAGE);
	b->len = b->meta_len + b->data_len;
	b->pages = stele_pages_alloc(b->meta_len + tails * STELE_PAGE);
	b->iov = calloc(b->iovs, sizeof(b->iov[0]));
	b->at = calloc(b->entries, sizeof(b->at[0]));
	return b->pages && b->iov && b->at;
}

static void batch_build(struct stele_batch *b)
{
	uint8_t *tail = b->pages + b->meta_len;
	uint32_t n = 0, iovs = 1;
	memset(b->pages, 0, b->meta_len);
	for (struct stele_wreq *q = b->first; q; q = q->next) {
		for (uint32_t i = 0; i < q->n; i++) {
			if (q->item[i].skip)
				continue;
			put_entry(b, &q->item[i], &b->at[n++]);
			if (!q->item[i].in->tomb)
				iovs += put_cells(&q->item[i], b->iov + iovs, &tail);
		}
	}
	assert(n == b->entries && iovs <= b->iovs);
	b->iov[0] = (struct iovec){b->pages, b->meta_len};
	b->iovs = iovs;
	struct stele_batch_head h = {
	    .place = {b->x->id, b->x->cycle, b->off},
	    .lsn = b->lsn,
	    .durable_lsn = b->s->durable_lsn,
	    .len = (uint32_t)b->len,
	    .meta_len = (uint32_t)b->meta_len,
	    .entries = b->entries,
	    .meta_crc =
	        stele_crc32c(b->pages + STELE_BATCH_HEAD, b->meta_len - STELE_BATCH_HEAD, 0),
	};
	stele_batch_head_encode(&h, &b->s->vol.salt, b->pages);
}

static void land(struct stele_store *s);

static void batch_written(struct stele_op *op)
{
	struct stele_batch *b = op->ctx;
	struct stele_store *s = b->s;
	b->done = true;
	b->result = op->result;
	s->in_flight--;
	if (op->result < 0 || (uint64_t)op->result != b->len) {
		int e = op->result < 0 ? (int)-op->result : EIO;
		stele_fail_errno(e, "extent %08x: write of %llu bytes at %llu", b->x->id,
		                 (unsigned long long)b->len, (unsigned long long)b->off);
		stele_store_fence(s, "%.400s", stele_detail());
	}
	land(s);
	pump(s);
}

static void batch_submit(struct stele_batch *b)
{
	struct stele_store *s = b->s;
	b->next = NULL;
	*s->flight_tail = b;
	s->flight_tail = &b->next;
	s->in_flight++;
	b->x->flying++;
	b->op = (struct stele_op){.kind = STELE_OP_WRITEV,
	                          .flags = STELE_WRITE_DSYNC,
	                          .fd = b->x->fd,
	                          .iov = b->iov,
	                          .niov = b->iovs,
	                          .off = b->off,
	                          .cb = batch_written,
	                          .ctx = b};
	stele_env_submit(s->env, &b->op);
}

/* The header of an extent that begins here goes ahead like a batch: nothing is acknowledged before it. */
static enum stele_err begin_extent(struct stele_store *s, struct stele_extent *x, uint64_t lsn)
{
	struct stele_batch *b = calloc(1, sizeof(*b));
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	struct iovec *iov = calloc(1, sizeof(*iov));
	if (!b || !page || !iov) {
		free(b);
		free(page);
		free(iov);
		return stele_fail(STELE_ERR_NOMEM, "write: out of memory");
	}
	stele_store_begin(s, x, lsn);
	struct stele_extent_head h = {.extent = x->id,
	                              .cycle = x->cycle,
	                              .disk = s->vol.disk,
	                              .salt = s->vol.salt,
	                              .first_lsn = lsn,
	                              .extent_len = s->vol.extent_len};
	stele_extent_head_encode(&h, page);
	*iov = (struct iovec){page, STELE_PAGE};
	b->s = s;
	b->head_only = true;
	b->lsn = lsn - 1;
	b->x = x;
	b->len = STELE_PAGE;
	b->pages = page;
	b->iov = iov;
	b->iovs = 1;
	batch_submit(b);
	return STELE_OK;
}

static enum stele_err write_batch(struct stele_batch *b)
{
	struct stele_store *s = b->s;
	struct stele_extent *next;
	uint64_t len = stele_round_up(b->meta_pos, STELE_PAGE) + b->data_len;
	enum stele_err err = stele_store_room(s, len, b->entries, b->use, &next);
	if (!err && next)
		err = begin_extent(s, next, b->lsn);
	if (err)
		return err;
	b->x = s->open;
	b->off = b->x->end;
	if (!batch_alloc(b)) {
		b->x = NULL;
		return stele_fail(STELE_ERR_NOMEM, "write: out of memory");
	}
	batch_build(b);
	for (uint32_t i = 0; i < b->entries; i++) {
		err = stele_items_add(&b->x->items, &b->at[i]);
		if (err) {
			b->x->items.n -= i;
			b->x = NULL;
			return err;
		}
	}
	b->x->end += b->len;
	b->x->last_lsn = b->lsn;
	return STELE_OK;
}

/* ---- the pump ---- */

static struct stele_batch *take_formed(struct stele_store *s)
{
	struct stele_batch *b = s->formed_head;
	s->formed_head = b->next;
	if (!s->formed_head)
		s->formed_tail = &s->formed_head;
	return b;
}

void stele_store_set_full(struct stele_store *s)
{
	s->full = true;
	s->full_since_ns = stele_env_now(s->env);
	stele_reclaim_kick(s);
}

/* There is no room: whoever may use less of the reserve than the others is refused, they go on. */
static void refuse_batch(struct stele_batch *b)
{
	struct stele_wreq *q = b->first, *refused = NULL, **refused_tail = &refused;
	b->first = NULL;
	b->last = &b->first;
	b->entries = 0;
	b->iovs = 1;
	b->meta_pos = STELE_BATCH_HEAD;
	b->data_len = 0;
	enum stele_room_use use = b->use;
	b->use = STELE_ROOM_COPY;
	while (q) {
		struct stele_wreq *next = q->next;
		if (q->use > use) {
			batch_add(b, q);
		} else {
			q->next = NULL;
			*refused_tail = q;
			refused_tail = &q->next;
		}
		q = next;
	}
	if (!b->first) /* empty: it takes no room, and is gone */
		batch_free(take_formed(b->s));
	while (refused) {
		struct stele_wreq *next = refused->next;
		stele_write_end(refused, stele_fail(STELE_ERR_FULL, "the disk is full"), 0);
		refused = next;
	}
}

static void fail_formed(struct stele_store *s)
{
	while (s->formed_head) {
		struct stele_batch *b = take_formed(s);
		end_batch(b, stele_write_say_fenced(s));
	}
}

static void pump(struct stele_store *s)
{
	while (s->formed_head && !s->fenced && s->in_flight < FLIGHT_MAX) {
		struct stele_batch *b = s->formed_head;
		uint64_t enough = stele_fair_held(&s->fair, STELE_LANE_WRITE) / GATHER_PART;
		if (enough > GATHER_BYTES)
			enough = GATHER_BYTES;
		if (s->in_flight && !b->next && b->data_len + b->meta_pos < enough)
			return; /* goes on growing until one in flight is through */
		if (s->full && b->use == STELE_ROOM_WRITE) {
			refuse_batch(b);
			continue;
		}
		enum stele_err err = write_batch(b);
		if (err == STELE_ERR_BUSY)
			return; /* an extent is being prepared */
		if (err == STELE_ERR_FULL) {
			if (b->use == STELE_ROOM_WRITE)
				stele_store_set_full(s);
			refuse_batch(b);
			continue;
		}
		take_formed(s);
		if (err)
			end_batch(b, err);
		else
			batch_submit(b);
	}
	if (s->fenced)
		fail_formed(s);
}

void stele_store_pump(struct stele_store *s)
{
	pump(s);
}

/* ---- landing, applying, acknowledging ---- */

static enum stele_err say_failed(const struct stele_store *s, const struct stele_batch *b)
{
	if (b->result == -ECANCELED)
		return stele_fail(STELE_ERR_CANCELLED, "write: cancelled");
	if (b->result < 0)
		return stele_fail_errno((int)-b->result, "%s: write", s->vol.dir);
	return stele_write_say_fenced(s);
}

/* Moves what has landed, in LSN order, towards the index; ends what cannot be acknowledged. */
static void land(struct stele_store *s)
{
	while (s->flight_head && s->flight_head->done) {
		struct stele_batch *b = s->flight_head;
		s->flight_head = b->next;
		if (!s->flight_head)
			s->flight_tail = &s->flight_head;
		b->next = NULL;
		if (s->log_broken || b->result < 0 || (uint64_t)b->result != b->len) {
			s->log_broken = true;
			end_batch(b, say_failed(s, b));
			continue;
		}
		if (b->head_only) {
			end_batch(b, STELE_OK);
			continue;
		}
		*s->apply_tail = b;
		s->apply_tail = &b->next;
	}
	kick_apply(s);
}

static void apply_work(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	struct stele_store *s = job->store;
	pthread_mutex_lock(&s->index_lock);
	s->apply_err = STELE_OK;
	for (struct stele_batch *b = job->list; b && !s->apply_err; b = b->next) {
		s->apply_err = stele_index_apply(&s->index, b->at, b->entries);
		if (!s->apply_err)
			s->applied_lsn = b->lsn;
	}
	s->apply_counts = stele_store_counts(s);
	pthread_mutex_unlock(&s->index_lock);
	if (s->apply_err)
		stele_detail_copy(s->apply_detail);
}

static void apply_done(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	struct stele_store *s = job->store;
	struct stele_batch *b = job->list;
	enum stele_err err = op->result < 0 ? STELE_ERR_CANCELLED : s->apply_err;
	job->list = NULL;
	if (op->result >= 0)
		stele_store_counted(s, &s->apply_counts);
	if (err) { /* durable, but nobody could read it before the next start */
		stele_fail(err, "%s", err == STELE_ERR_CANCELLED ? "cancelled" : s->apply_detail);
		stele_store_index_failed(s, err);
		if (err == STELE_ERR_NOMEM) /* some of it may be in the index, or counted */
			stele_store_fence(s, "%.400s", stele_detail());
		s->log_broken = true;
	}
	bool died = false;
	while (b) {
		struct stele_batch *next = b->next;
		for (uint32_t i = 0; i < b->entries; i++) {
			died = died || b->at[i].tomb;
			if (b->at[i].tomb && b->at[i].key.kind == STELE_ENTRY_SHARD)
				stele_fronts_forget(&s->fronts, &b->at[i].key);
		}
		if (!err) {
			s->durable_lsn = b->lsn;
			b->x->landed = b->off + b->len;
		}
		end_batch(b, err == STELE_ERR_CANCELLED ? stele_fail(err, "write: cancelled")
		             : err                      ? stele_write_say_fenced(s)
		                                        : STELE_OK);
		b = next;
	}
	job->busy = false;
	stele_store_seal_retired(s);
	if (died)
		stele_reclaim_kick(s);
	kick_apply(s);
	if (err)
		pump(s);
}

static void kick_apply(struct stele_store *s)
{
	if (s->apply.busy || !s->apply_head)
		return;
	s->apply.busy = true;
	s->apply.list = s->apply_head;
	s->apply_head = NULL;
	s->apply_tail = &s->apply_head;
	s->apply.op = (struct stele_op){.kind = STELE_OP_WORK,
	                                .flags = STELE_WORK_LONG,
	                                .work = apply_work,
	                                .cb = apply_done,
	                                .ctx = &s->apply};
	stele_env_submit(s->env, &s->apply.op);
}
