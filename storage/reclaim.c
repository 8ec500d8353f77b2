/*
 * Reclaim (DESIGN N6, N8): one extent at a time.
 *
 *   choose (a worker: what is alive of each) -> its items, from the footer -> steps: what of the next items is alive is
 *     read and checked (a worker), and written again like anything else (group commit), with its birth -> when
 *     the index says that nothing of the extent is alive: the index becomes durable -> the extent's header says the next
 *     cycle, durably -> the index forgets it, and it can be written again
 *
 * Nothing is locked meanwhile. A copy is left out when its key was touched after it was looked up (store_write.c);
 * passes over the items are made until nothing is alive. Readers find what moved by looking it up again.
 *
 * A tombstone moves too while it is needed: until the one extent in which its victim lay was begun anew, or,
 * where that is not known, until every extent was that is as old as the tombstone.
 *
 * An extent is begun anew only when its counter says that nothing in it is alive, and then the index of every item.
 *
 * With nothing to empty, and while nobody writes, it fills the next extent with zeros, in small parts, so that a burst of
 * writes finds space that was written before. While somebody writes that would only take the disk from them.
 *
 * What does not check is not copied: rot would be given a fresh CRC. The extent is left alone for a while, until
 * repair has put a good copy elsewhere. So is one whose items do not account for all that is alive in it.
 */
#include "storage/store_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define STEP_ITEMS     384u /* small ones are packed; with two parts for each, what one write may have */
#define STEP_BYTES     (4u << 20)
#define PASSES_MAX     8u
#define FEW_ALIVE      0.25 /* worth copying at any time */
#define GAIN_MIN       16u  /* an extent's length over this: what must be had by it, else extents would be copied
                              * for ever with little room */
#define SPARE_NS       UINT64_C(30000000000) /* an extent that could not be emptied is left alone */
#define LOOK_AGAIN_NS  UINT64_C(10000000000)
#define BUSY_NS        UINT64_C(20000000)
#define QUIET_NS       UINT64_C(20000000) /* without a write, until the next extent is filled */
#define FILL_BYTES     (8u << 20) /* at a time: a write that comes meanwhile waits for no more */

struct candidate {
	uint32_t id;
	uint64_t last_lsn;
	uint64_t end; /* of its batches */
};

struct moving { /* one entry on its way */
	struct stele_item_at at;
	uint8_t *pages;  /* its header and meta */
	uint8_t *meta;   /* a shard's, as it was given */
	uint8_t *cells;
	uint32_t *crc;
	struct iovec iov;
};

struct stele_reclaim_run {
	struct stele_store *s;
	struct stele_store_reclaim *r;
	struct stele_op op;
	bool cancelled;
	bool idle, kicked; /* the timer runs; somebody asked for another look since the last one */
	uint64_t look_ns;  /* when the next look is due */
	uint64_t seen_lsn; /* next_lsn when the timer was set */
	bool pausing;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	/* choosing */
	struct candidate *candidate;
	uint32_t candidates;
	bool urgent;
	uint64_t room, next_lsn;
	/* the extent, as it was when it was chosen: it is sealed, and changes no more */
	struct stele_extent x; /* id 0: none */
	struct stele_items items;
	uint64_t next;       /* item */
	uint32_t pass;
	uint64_t moved;      /* in this pass */
	bool stuck, emptied;
	/* a step */
	struct stele_turn turn;
	struct moving moving[STEP_ITEMS];
	uint32_t n;
	struct stele_item_at dropped[STEP_ITEMS]; /* tombstones that are not needed */
	uint32_t ndropped;
	struct stele_item_at rotten[STEP_ITEMS]; /* met damaged */
	uint32_t nrotten;
	uint64_t first; /* item of the step */
	struct stele_item item[STEP_ITEMS];
	struct stele_store_write w;
	uint64_t step_started_ns, step_bytes;
};

static void choose(struct stele_reclaim_run *c);
static void wait_for_more(struct stele_reclaim_run *c);
static void step(struct stele_reclaim_run *c);

static void submit_work(struct stele_reclaim_run *c, void (*work)(struct stele_op *op),
                        stele_op_cb *done)
{
	c->err = STELE_OK;
	c->op = (struct stele_op){
	    .kind = STELE_OP_WORK, .flags = STELE_WORK_LONG, .work = work, .cb = done, .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

static void submit_timer(struct stele_reclaim_run *c, uint64_t at, stele_op_cb *done)
{
	c->op = (struct stele_op){.kind = STELE_OP_TIMER, .off = at, .cb = done, .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

static void note(struct stele_reclaim_run *c, enum stele_err err)
{
	c->err = err;
	if (err)
		stele_detail_copy(c->detail);
}

/* ---- ends ---- */

static void moving_finish(struct moving *m)
{
	free(m->pages);
	free(m->meta);
	free(m->cells);
	free(m->crc);
	memset(m, 0, sizeof(*m));
}

static void free_step(struct stele_reclaim_run *c)
{
	while (c->n)
		moving_finish(&c->moving[--c->n]);
}

static void leave_extent(struct stele_reclaim_run *c)
{
	free_step(c);
	stele_items_finish(&c->items);
	c->x = (struct stele_extent){.fd = -1};
}

/* err's detail is the thread's. */
static void end(struct stele_reclaim_run *c, enum stele_err err)
{
	struct stele_store_reclaim *r = c->r;
	r->err = err;
	stele_detail_copy(r->detail);
	leave_extent(c);
	free(c->candidate);
	c->s->reclaim = NULL;
	free(c);
	r->cb(r);
}

/* True: it has ended. */
static bool ended(struct stele_reclaim_run *c, const struct stele_op *op)
{
	if (op->result < 0 || c->cancelled)
		end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	else if (c->s->fenced)
		end(c, stele_fail(STELE_ERR_FENCED, "reclaim: the disk is fenced"));
	else if (c->err == STELE_ERR_NOMEM)
		end(c, stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory"));
	else
		return false;
	return true;
}

/* ---- nothing to empty ---- */

static void fill_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	note(c, stele_extent_fill(&c->s->vol, &c->x, FILL_BYTES));
}

static void filled(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	s->filling->filled = c->x.filled;
	s->filling = NULL;
	leave_extent(c);
	if (op->result >= 0 && c->err && c->err != STELE_ERR_NOMEM)
		stele_store_fence(s, "%.*s", (int)(STELE_DETAIL_MAX - 1), c->detail);
	stele_store_pump(s);
	if (!ended(c, op))
		wait_for_more(c);
}

static void woken(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	struct stele_extent *x = stele_store_unfilled(s);
	bool kicked = c->kicked, quiet = s->writes == 0 && s->next_lsn == c->seen_lsn;
	c->idle = c->r->idle = false;
	if (c->cancelled || (op->result < 0 && !kicked)) {
		end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	} else if (kicked || s->fenced || stele_env_now(s->env) >= c->look_ns) {
		choose(c);
	} else if (x && quiet) {
		s->filling = x;
		c->x = *x;
		submit_work(c, fill_work, filled);
	} else {
		wait_for_more(c);
	}
}

/* Until the next look, or until nobody has written for a moment. */
static void wait_for_more(struct stele_reclaim_run *c)
{
	if (c->kicked) { /* while it was at work */
		choose(c);
		return;
	}
	uint64_t now = stele_env_now(c->s->env), at = c->look_ns;
	if (stele_store_unfilled(c->s) && now + QUIET_NS < at)
		at = now + QUIET_NS;
	c->seen_lsn = c->s->next_lsn;
	c->idle = c->r->idle = true;
	submit_timer(c, at, woken);
}

void stele_reclaim_kick(struct stele_store *s)
{
	struct stele_reclaim_run *c = s->reclaim;
	if (!c || c->kicked)
		return;
	c->kicked = true;
	if (c->idle)
		stele_env_cancel(s->env, &c->op);
}

/* It cannot be emptied now. */
static void spare_extent(struct stele_reclaim_run *c)
{
	struct stele_extent *x = c->s->extents[c->x.id];
	x->spared_until_ns = stele_env_now(c->s->env) + SPARE_NS;
	leave_extent(c);
	choose(c);
}

/* ---- choosing ---- */

static double benefit(const struct stele_reclaim_run *c, const struct candidate *k, double u)
{
	double age = (double)(c->next_lsn - k->last_lsn);
	return (1 - u) * age / (1 + u);
}

/* What is dead in it, and what was left unused because a crash sealed it: not what the next batch, up to a
 * quarter of an extent, did not fit into. That would be left over again. */
static uint64_t gained(const struct stele_reclaim_run *c, const struct candidate *k, uint64_t live)
{
	uint64_t len = c->s->vol.extent_len, tail = len - k->end;
	return (k->end > live ? k->end - live : 0) + (tail > len / 4 ? tail - len / 4 : 0);
}

static bool eligible(const struct stele_reclaim_run *c, const struct candidate *k, uint64_t live,
                     double u)
{
	if (live == 0)
		return true;
	/* copies take a little more, at the ends of pages and batches */
	if (live + live / 8 + (256u << 10) > c->room)
		return false;
	return (c->urgent || u <= FEW_ALIVE) &&
	       gained(c, k, live) >= c->s->vol.extent_len / GAIN_MIN;
}

static void choose_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	struct stele_store *s = c->s;
	const struct candidate *best = NULL;
	double best_gain = 0;
	pthread_mutex_lock(&s->index_lock);
	const struct stele_index_counts *counts = &s->index.counts;
	for (uint32_t i = 0; i < c->candidates; i++) {
		const struct candidate *k = &c->candidate[i];
		uint64_t live = k->id < counts->extents ? counts->live[k->id] : 0;
		double u = (double)live / (double)s->vol.extent_len;
		double g = live ? benefit(c, k, u) : 1e300; /* for nothing */
		if (eligible(c, k, live, u) && g > best_gain) {
			best = k;
			best_gain = g;
		}
	}
	pthread_mutex_unlock(&s->index_lock);
	c->x.id = best ? best->id : 0;
}

static void load_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	note(c, stele_extent_load_items(&c->s->vol, &c->x, &c->items));
}

static void loaded(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	if (ended(c, op))
		return;
	if (c->err) {
		spare_extent(c);
		return;
	}
	c->pass = 0;
	c->next = c->moved = 0;
	c->stuck = false;
	step(c);
}

static void chosen(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	if (ended(c, op))
		return;
	if (!c->x.id) {
		c->look_ns = stele_env_now(c->s->env) + LOOK_AGAIN_NS;
		wait_for_more(c);
		return;
	}
	c->x = *c->s->extents[c->x.id];
	submit_work(c, load_work, loaded);
}

/* What may be copied into: what is left of the open extent, and extents that can be begun, the reserve too. */
static uint64_t room_for_copies(const struct stele_store *s)
{
	uint64_t room = s->open ? s->vol.extent_len - s->open->end : 0;
	uint32_t more = s->full ? s->prepared : UINT32_MAX;
	if (more == 0 && !s->reserve_spent && !(s->open && s->open->reserve))
		more = 1; /* the reserve is made on demand */
	if (s->capacity) {
		uint32_t max = stele_store_extents_max(s, true), used = s->files - s->prepared;
		more = max > used ? max - used : 0;
	}
	return room + more * s->vol.extent_len;
}

static void choose(struct stele_reclaim_run *c)
{
	struct stele_store *s = c->s;
	uint64_t now = stele_env_now(s->env);
	c->kicked = false;
	struct candidate *list = realloc(c->candidate, (s->extents_n + 1) * sizeof(list[0]));
	if (!list) {
		end(c, stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory"));
		return;
	}
	c->candidate = list;
	c->candidates = 0;
	for (uint32_t i = 0; i < s->extents_n; i++) {
		const struct stele_extent *x = s->extents[i];
		if (x && x->state == STELE_EXTENT_SEALED && x->spared_until_ns <= now)
			list[c->candidates++] = (struct candidate){i, x->last_lsn, x->end};
	}
	c->urgent = s->full ||
	            stele_store_free_extents(s) <= 1 + stele_store_extents_max(s, false) / 20;
	c->room = room_for_copies(s);
	c->next_lsn = s->next_lsn;
	c->x = (struct stele_extent){.fd = -1};
	submit_work(c, choose_work, chosen);
}

/* ---- a step: reading what is alive ---- */

static enum stele_err read_cells(struct stele_reclaim_run *c, struct moving *m,
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
static enum stele_err read_entry(struct stele_reclaim_run *c, struct moving *m,
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
	struct moving *m = &c->moving[c->n];
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
	while (!err && c->next < c->items.n && c->n < STEP_ITEMS && c->nrotten < STEP_ITEMS &&
	       c->step_bytes < most) {
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
	note(c, err);
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
		struct moving *m = &c->moving[i];
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
	if (!ended(c, op))
		step(c);
}

static void pause_until(struct stele_reclaim_run *c, uint64_t due)
{
	c->pausing = true;
	submit_timer(c, due, paused);
}

static void end_step(struct stele_reclaim_run *c)
{
	free_step(c);
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
	note(c, stele_index_forget(&s->index, c->dropped, c->ndropped));
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
	if (!ended(c, op))
		end_step(c);
}

static void after_write(struct stele_reclaim_run *c)
{
	if (c->ndropped)
		submit_work(c, drop_work, dropped);
	else
		end_step(c);
}

static void written(struct stele_store_write *w)
{
	struct stele_reclaim_run *c = w->ctx;
	if (w->err == STELE_ERR_CANCELLED || c->cancelled) {
		end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	} else if (c->s->fenced) {
		end(c, stele_fail(STELE_ERR_FENCED, "reclaim: the disk is fenced"));
	} else if (w->err == STELE_ERR_BUSY) {
		free_step(c);
		c->next = c->first;
		pause_until(c, stele_env_now(c->s->env) + BUSY_NS);
	} else if (w->err) { /* no room after all */
		spare_extent(c);
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
	if (ended(c, op))
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
	for (*n = 0; from + *n < c->items.n && *n < STEP_ITEMS; ++*n)
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
	note(c, err);
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
	if (ended(c, op))
		return;
	if (c->emptied) {
		leave_extent(c);
		choose(c);
	} else if (c->stuck || !c->moved || ++c->pass == PASSES_MAX) {
		spare_extent(c);
	} else { /* what was touched meanwhile */
		c->next = c->moved = 0;
		step(c);
	}
}

static void step_begins(struct stele_turn *t)
{
	struct stele_reclaim_run *c = t->ctx;
	submit_work(c, step_work, stepped);
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
		submit_work(c, recycle_work, recycled);
}

/* ---- from outside ---- */

static void refuse_later(struct stele_later *later, bool cancelled)
{
	struct stele_store_reclaim *r = later->request;
	(void)cancelled;
	r->cb(r);
}

void stele_store_reclaim(struct stele_store *s, struct stele_store_reclaim *r)
{
	r->err = STELE_OK;
	r->detail[0] = '\0';
	r->extents = r->bytes = 0;
	r->idle = false;
	struct stele_reclaim_run *c = NULL;
	if (s->reclaim)
		r->err = stele_fail(STELE_ERR_BUSY, "%s: reclaim is under way", s->vol.dir);
	else if (!(c = calloc(1, sizeof(*c))))
		r->err = stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory");
	if (r->err) {
		stele_detail_copy(r->detail);
		_Static_assert(sizeof(struct stele_later) <= sizeof(r->priv), "priv holds it");
		stele_store_later(s, (struct stele_later *)r->priv, refuse_later, r);
		return;
	}
	c->s = s;
	c->r = r;
	s->reclaim = c;
	c->kicked = true; /* a first look, but not inside the call */
	submit_timer(c, stele_env_now(s->env), woken);
}

void stele_store_reclaim_cancel(struct stele_store *s)
{
	struct stele_reclaim_run *c = s->reclaim;
	if (!c)
		return;
	c->cancelled = true;
	if (c->idle || c->pausing)
		stele_env_cancel(s->env, &c->op);
}
