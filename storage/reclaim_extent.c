/* What reclaim does with an extent: its steps, and its new beginning (the order is told in reclaim.c). */
#include "storage/reclaim.h"

#include <stdlib.h>

#include "storage/base/crc.h"

#define STEP_BYTES (4u << 20)
#define PASSES_MAX 8u
#define BUSY_NS    UINT64_C(20000000)

static void step(struct stele_reclaim_run *c);

static void moving_finish(struct stele_moving *m)
{
	free(m->pages);
	free(m->meta);
	free(m->cells);
	free(m->crc);
	memset(m, 0, sizeof(*m));
}

void stele_reclaim_free_step(struct stele_reclaim_run *c)
{
	while (c->n)
		moving_finish(&c->moving[--c->n]);
}

/* ---- a step: reading what is alive ---- */

static enum stele_err read_cells(struct stele_reclaim_run *c, struct stele_moving *m,
                                 const struct stele_entry_head *h, const uint8_t *hot)
{
	uint64_t padded = stele_round_up(h->data_len, STELE_PAGE);
	uint32_t cells = (h->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	m->cells = stele_pages_alloc(padded);
	m->crc = malloc(cells * sizeof(m->crc[0]));
	if (!m->cells || !m->crc)
		return stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory");
	for (uint32_t i = 0; i < cells; i++) {
		uint64_t off = (uint64_t)i * STELE_CELL_LEN, n = h->data_len - off;
		uint64_t piece = padded - off < STELE_FAIR_PIECE ? padded - off : STELE_FAIR_PIECE;
		if (off % STELE_FAIR_PIECE == 0)
			STELE_TRY(stele_file_pread(c->s->env, c->x.fd, m->cells + off, piece,
			                           h->data_off + off));
		m->crc[i] = stele_hot_crc(h, hot, i);
		if (stele_crc32c(m->cells + off, n < STELE_CELL_LEN ? n : STELE_CELL_LEN, 0) !=
		    m->crc[i])
			return stele_fail(STELE_ERR_CORRUPT, "cell %u fails its CRC", i);
	}
	return STELE_OK;
}

/* Reads an entry that is alive, and fills the item with which it is written again. NOT_FOUND: it is alive no
 * more, or not here. */
static enum stele_err read_entry(struct stele_reclaim_run *c, struct stele_moving *m,
                                 struct stele_item *item)
{
	struct stele_entry_head h;
	const uint8_t *meta;
	STELE_TRY(stele_store_load_entry(c->s, &m->at, &m->pages, &h, &meta));
	*item = (struct stele_item){.key = m->at.key, .moved = &m->at};
	if (h.place.extent != c->x.id || h.place.off != m->at.off)
		return stele_fail(STELE_ERR_NOT_FOUND, "it has moved");
	if (h.key.kind != STELE_ENTRY_SHARD) {
		item->meta = meta;
		item->meta_len = h.meta_len;
		return STELE_OK;
	}
	if (stele_crc32c(meta, h.hot_len, 0) != h.hot_crc)
		return stele_fail(STELE_ERR_CORRUPT, "the front of its meta does not check");
	STELE_TRY(stele_shard_meta(&h, meta, &m->meta, &item->meta_len));
	item->meta = m->meta;
	STELE_TRY(read_cells(c, m, &h, meta));
	m->iov = (struct iovec){m->cells, h.data_len};
	item->data = &m->iov;
	item->ndata = 1;
	item->data_len = h.data_len;
	item->crc = m->crc;
	return STELE_OK;
}

/* Does the index say that it lies here? Fails where the index does. */
static enum stele_err is_alive(struct stele_reclaim_run *c, const struct stele_item_at *it,
                               bool *alive, bool *bad)
{
	struct stele_item_at now;
	struct stele_key key = stele_key_short(&it->key);
	enum stele_err err = stele_index_get(
	    c->s->index.kv, it->tomb ? STELE_INDEX_TOMB : STELE_INDEX_ENTRY, &key, &now);
	*alive = !err && now.extent == it->extent && now.off == it->off;
	*bad = *alive && now.bad;
	return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
}

/* One that is alive. What cannot be read stays. NOMEM. */
static enum stele_err take_item(struct stele_reclaim_run *c, const struct stele_item_at *it)
{
	struct stele_moving *m = &c->moving[c->n];
	struct stele_item *item = &c->item[c->n];
	m->at = *it;
	*item = (struct stele_item){.key = it->key, .tomb = true, .moved = &m->at};
	enum stele_err err = it->tomb ? STELE_OK : read_entry(c, m, item);
	if (err) {
		moving_finish(m);
		if (err == STELE_ERR_CORRUPT || err == STELE_ERR_IO)
			c->rotten[c->nrotten++] = *it;
		c->stuck = c->stuck || err != STELE_ERR_NOT_FOUND;
		return err == STELE_ERR_NOMEM ? err : STELE_OK;
	}
	c->n++;
	c->step_bytes += stele_index_weight(it);
	return STELE_OK;
}

static void step_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	uint64_t most = c->s->vol.extent_len / 4; /* as of any batch */
	enum stele_err err = STELE_OK;
	if (most > STEP_BYTES)
		most = STEP_BYTES;
	bool alive, bad;
	while (!err && c->next < c->items.n && c->n < STELE_RECLAIM_ITEMS &&
	       c->nrotten < STELE_RECLAIM_ITEMS && c->step_bytes < most) {
		struct stele_item_at it;
		const uint8_t *b = c->items.bytes + c->next * STELE_FOOTER_ITEM;
		bool good = stele_footer_item_decode(b, c->x.id, c->s->vol.extent_len, &it);
		if (good && c->n && c->step_bytes + stele_index_weight(&it) > most)
			break; /* what does not fit behind the others leaves a gap at an extent's end */
		c->next++;
		if (!good)
			continue; /* what it stood for stays alive, and the extent */
		err = is_alive(c, &it, &alive, &bad);
		c->stuck = c->stuck || bad;
		if (alive && !bad)
			err = take_item(c, &it);
	}
	stele_reclaim_note(c, err);
}

/* ---- a step: writing it ---- */

/* Is there anything left that the tombstone kills? Its own extent goes, with what lies in it. */
static bool is_needed(const struct stele_store *s, const struct stele_item_at *tomb)
{
	for (uint32_t i = 0; i < s->extents_n; i++) {
		const struct stele_extent *x = s->extents[i];
		if (x && i != tomb->extent && (!tomb->only || tomb->only == i) &&
		    x->state != STELE_EXTENT_PREPARED && x->first_lsn <= tomb->birth_lsn)
			return true;
	}
	return false;
}

/* Sorts out the tombstones that are not needed. */
static void drop_tombs(struct stele_reclaim_run *c)
{
	uint32_t kept = 0;
	c->ndropped = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		struct stele_moving *m = &c->moving[i];
		if (m->at.tomb && !is_needed(c->s, &m->at)) {
			c->dropped[c->ndropped++] = m->at;
			continue;
		}
		if (kept != i) {
			c->moving[kept] = *m;
			c->item[kept] = c->item[i];
			c->item[kept].moved = &c->moving[kept].at;
			if (c->item[kept].data)
				c->item[kept].data = &c->moving[kept].iov;
			memset(m, 0, sizeof(*m));
		}
		kept++;
	}
	c->n = kept;
}

static void paused(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	c->pausing = false;
	if (!stele_reclaim_ended(c, op))
		step(c);
}

static void pause_until(struct stele_reclaim_run *c, uint64_t due)
{
	c->pausing = true;
	stele_reclaim_timer(c, due, paused);
}

static void end_step(struct stele_reclaim_run *c)
{
	stele_reclaim_free_step(c);
	uint64_t due = c->step_started_ns;
	if (c->r->bytes_per_s && !c->urgent)
		due += c->step_bytes * UINT64_C(1000000000) / c->r->bytes_per_s;
	pause_until(c, due);
}

static void drop_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	pthread_mutex_lock(&s->index_lock);
	stele_reclaim_note(c, stele_index_forget(&s->index, c->dropped, c->ndropped));
	s->drops++;
	pthread_mutex_unlock(&s->index_lock);
}

static bool index_failed(struct stele_reclaim_run *c)
{
	if (!c->err || c->err == STELE_ERR_NOMEM)
		return false;
	stele_fail(c->err, "%.*s", (int)(STELE_DETAIL_MAX - 1), c->detail);
	stele_store_index_failed(c->s, c->err);
	stele_store_pump(c->s);
	return true;
}

static void dropped(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	if (op->result >= 0)
		index_failed(c);
	if (!stele_reclaim_ended(c, op))
		end_step(c);
}

static void after_write(struct stele_reclaim_run *c)
{
	if (c->ndropped)
		stele_reclaim_submit(c, drop_work, dropped);
	else
		end_step(c);
}

static void written(struct stele_store_write *w)
{
	struct stele_reclaim_run *c = w->ctx;
	if (w->err == STELE_ERR_CANCELLED || c->cancelled) {
		stele_reclaim_end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	} else if (c->s->fenced) {
		stele_reclaim_end(c, stele_fail(STELE_ERR_FENCED, "reclaim: the disk is fenced"));
	} else if (w->err == STELE_ERR_BUSY) {
		stele_reclaim_free_step(c);
		c->next = c->first;
		pause_until(c, stele_env_now(c->s->env) + BUSY_NS);
	} else if (w->err) { /* no room after all */
		stele_reclaim_spare(c);
	} else {
		c->moved += c->n;
		c->r->bytes += c->step_bytes;
		after_write(c);
	}
}

static void stepped(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	stele_store_turn_over(c->s, &c->turn, c->step_bytes);
	if (op->result >= 0)
		index_failed(c);
	if (stele_reclaim_ended(c, op))
		return;
	for (uint32_t i = 0; i < c->nrotten; i++)
		stele_store_mark(c->s, &c->rotten[i], true);
	drop_tombs(c);
	if (!c->n) {
		after_write(c);
		return;
	}
	c->w = (struct stele_store_write){
	    .item = c->item, .n = c->n, .class = STELE_BACKGROUND, .cb = written, .ctx = c};
	stele_store_write(c->s, &c->w);
}

/* ---- the end of an extent ---- */

static enum stele_err decode_items(struct stele_reclaim_run *c, uint64_t from,
                                   struct stele_item_at *out, uint32_t *n)
{
	for (*n = 0; from + *n < c->items.n && *n < STELE_RECLAIM_ITEMS; ++*n)
		if (!stele_footer_item_decode(c->items.bytes + (from + *n) * STELE_FOOTER_ITEM,
		                              c->x.id, c->s->vol.extent_len, &out[*n]))
			return stele_fail(STELE_ERR_CORRUPT, "extent %08x: a bad item", c->x.id);
	return STELE_OK;
}

static enum stele_err forget_extent(struct stele_reclaim_run *c)
{
	struct stele_store *s = c->s;
	uint32_t n = 0;
	for (uint64_t i = 0; i < c->items.n; i += n) {
		STELE_TRY(decode_items(c, i, c->dropped, &n));
		pthread_mutex_lock(&s->index_lock);
		enum stele_err err = stele_index_forget(&s->index, c->dropped, n);
		pthread_mutex_unlock(&s->index_lock);
		STELE_TRY(err);
	}
	return STELE_OK;
}

/* The counter says that nothing in it is alive: does the index say so of every item? */
static enum stele_err check_dead(struct stele_reclaim_run *c)
{
	uint32_t n = 0;
	bool alive, bad;
	for (uint64_t i = 0; i < c->items.n; i += n) {
		STELE_TRY(decode_items(c, i, c->dropped, &n));
		for (uint32_t k = 0; k < n; k++) {
			STELE_TRY(is_alive(c, &c->dropped[k], &alive, &bad));
			if (alive)
				return stele_fail(STELE_ERR_CORRUPT,
				                  "index: an entry of extent %08x is not counted",
				                  c->x.id);
		}
	}
	return STELE_OK;
}

static void recycle_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	pthread_mutex_lock(&s->index_lock);
	const struct stele_index_counts *counts = &s->index.counts;
	c->emptied = c->x.id >= counts->extents || counts->live[c->x.id] == 0;
	pthread_mutex_unlock(&s->index_lock);
	if (!c->emptied)
		return;
	enum stele_err err = check_dead(c);
	c->emptied = !err;
	/* else a power failure could take the index back to before what this extent says, and nothing would say it again:
	 * an entry that a tombstone in here removed would be there, with nothing in its place; or a tombstone that was
	 * dropped, which would be counted in this extent for ever */
	if (!err)
		err = stele_store_flush_index(s, c->x.last_lsn);
	if (!err)
		err = stele_extent_recycle(&s->vol, &c->x);
	if (!err)
		err = forget_extent(c);
	stele_reclaim_note(c, err);
}

static void recycled(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	struct stele_extent *x = s->extents[c->x.id];
	if (op->result >= 0 && !c->emptied)
		index_failed(c);
	else if (op->result >= 0 && c->err &&
	         c->err != STELE_ERR_NOMEM) { /* a failed write, or the index */
		stele_store_fence(s, "reclaim: %.*s", (int)(STELE_DETAIL_MAX - 16), c->detail);
		stele_store_pump(s);
	}
	if (op->result >= 0 && c->emptied && !s->fenced && c->err != STELE_ERR_NOMEM) {
		stele_store_recycled(s, x, c->x.cycle);
		c->r->extents++;
	}
	if (stele_reclaim_ended(c, op))
		return;
	if (c->emptied) {
		stele_reclaim_next(c);
	} else if (c->stuck || !c->moved || ++c->pass == PASSES_MAX) {
		stele_reclaim_spare(c);
	} else { /* what was touched meanwhile */
		c->next = c->moved = 0;
		step(c);
	}
}

static void step_begins(struct stele_turn *t)
{
	struct stele_reclaim_run *c = t->ctx;
	stele_reclaim_submit(c, step_work, stepped);
}

static void step(struct stele_reclaim_run *c)
{
	c->step_started_ns = stele_env_now(c->s->env);
	c->step_bytes = 0;
	c->ndropped = c->nrotten = 0;
	c->first = c->next;
	c->turn = (struct stele_turn){.class = STELE_BACKGROUND,
	                              .bytes = STELE_FAIR_PIECE, /* it reads no more at once */
	                              .begin = step_begins,
	                              .ctx = c};
	if (c->next < c->items.n)
		stele_store_turn(c->s, &c->turn);
	else
		stele_reclaim_submit(c, recycle_work, recycled);
}

void stele_reclaim_extent(struct stele_reclaim_run *c)
{
	c->pass = 0;
	c->next = c->moved = 0;
	c->stuck = false;
	step(c);
}
