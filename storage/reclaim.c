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
#include "storage/reclaim.h"

#include <stdlib.h>

#define FEW_ALIVE 0.25 /* worth copying at any time */
/* An extent's length over this must be had by emptying it, else extents would be copied for ever with little room. */
#define GAIN_MIN      16u
#define SPARE_NS      UINT64_C(30000000000) /* an extent that could not be emptied is left alone */
#define LOOK_AGAIN_NS UINT64_C(10000000000)
#define QUIET_NS      UINT64_C(20000000) /* without a write, until the next extent is filled */
#define FILL_BYTES    (8u << 20) /* at a time: a write that comes meanwhile waits for no more */

static void choose(struct stele_reclaim_run *c);
static void wait_for_more(struct stele_reclaim_run *c);

void stele_reclaim_submit(struct stele_reclaim_run *c, void (*work)(struct stele_op *op),
                          stele_op_cb *done)
{
	c->err = STELE_OK;
	c->op = (struct stele_op){
	    .kind = STELE_OP_WORK, .flags = STELE_WORK_LONG, .work = work, .cb = done, .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

void stele_reclaim_timer(struct stele_reclaim_run *c, uint64_t at, stele_op_cb *done)
{
	c->op = (struct stele_op){.kind = STELE_OP_TIMER, .off = at, .cb = done, .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

void stele_reclaim_note(struct stele_reclaim_run *c, enum stele_err err)
{
	c->err = err;
	if (err)
		stele_detail_copy(c->detail);
}

/* ---- ends ---- */

static void leave_extent(struct stele_reclaim_run *c)
{
	stele_reclaim_free_step(c);
	stele_items_finish(&c->items);
	c->x = (struct stele_extent){.fd = -1};
}

void stele_reclaim_end(struct stele_reclaim_run *c, enum stele_err err)
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

bool stele_reclaim_ended(struct stele_reclaim_run *c, const struct stele_op *op)
{
	if (op->result < 0 || c->cancelled)
		stele_reclaim_end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	else if (c->s->fenced)
		stele_reclaim_end(c, stele_fail(STELE_ERR_FENCED, "reclaim: the disk is fenced"));
	else if (c->err == STELE_ERR_NOMEM)
		stele_reclaim_end(c, stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory"));
	else
		return false;
	return true;
}

/* ---- nothing to empty ---- */

static void fill_work(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	stele_reclaim_note(c, stele_extent_fill(&c->s->vol, &c->x, FILL_BYTES));
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
	if (!stele_reclaim_ended(c, op))
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
		stele_reclaim_end(c, stele_fail(STELE_ERR_CANCELLED, "reclaim: cancelled"));
	} else if (kicked || s->fenced || stele_env_now(s->env) >= c->look_ns) {
		choose(c);
	} else if (x && quiet) {
		s->filling = x;
		c->x = *x;
		stele_reclaim_submit(c, fill_work, filled);
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
	stele_reclaim_timer(c, at, woken);
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

void stele_reclaim_next(struct stele_reclaim_run *c)
{
	leave_extent(c);
	choose(c);
}

void stele_reclaim_spare(struct stele_reclaim_run *c)
{
	struct stele_extent *x = c->s->extents[c->x.id];
	x->spared_until_ns = stele_env_now(c->s->env) + SPARE_NS;
	stele_reclaim_next(c);
}

/* ---- choosing ---- */

static double benefit(const struct stele_reclaim_run *c, const struct stele_candidate *k, double u)
{
	double age = (double)(c->next_lsn - k->last_lsn);
	return (1 - u) * age / (1 + u);
}

/* What is dead in it, and what was left unused because a crash sealed it: not what the next batch, up to a
 * quarter of an extent, did not fit into. That would be left over again. */
static uint64_t gained(const struct stele_reclaim_run *c, const struct stele_candidate *k,
                       uint64_t live)
{
	uint64_t len = c->s->vol.extent_len, tail = len - k->end;
	return (k->end > live ? k->end - live : 0) + (tail > len / 4 ? tail - len / 4 : 0);
}

static bool eligible(const struct stele_reclaim_run *c, const struct stele_candidate *k,
                     uint64_t live, double u)
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
	const struct stele_candidate *best = NULL;
	double best_gain = 0;
	pthread_mutex_lock(&s->index_lock);
	const struct stele_index_counts *counts = &s->index.counts;
	for (uint32_t i = 0; i < c->candidates; i++) {
		const struct stele_candidate *k = &c->candidate[i];
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
	stele_reclaim_note(c, stele_extent_load_items(&c->s->vol, &c->x, &c->items));
}

static void loaded(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	if (stele_reclaim_ended(c, op))
		return;
	if (c->err) {
		stele_reclaim_spare(c);
		return;
	}
	stele_reclaim_extent(c);
}

static void chosen(struct stele_op *op)
{
	struct stele_reclaim_run *c = op->ctx;
	if (stele_reclaim_ended(c, op))
		return;
	if (!c->x.id) {
		c->look_ns = stele_env_now(c->s->env) + LOOK_AGAIN_NS;
		wait_for_more(c);
		return;
	}
	c->x = *c->s->extents[c->x.id];
	stele_reclaim_submit(c, load_work, loaded);
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
	stele_store_seal_retired(s); /* what could not be, for lack of memory */
	struct stele_candidate *list = realloc(c->candidate, (s->extents_n + 1) * sizeof(list[0]));
	if (!list) {
		stele_reclaim_end(c, stele_fail(STELE_ERR_NOMEM, "reclaim: out of memory"));
		return;
	}
	c->candidate = list;
	c->candidates = 0;
	for (uint32_t i = 0; i < s->extents_n; i++) {
		const struct stele_extent *x = s->extents[i];
		if (x && x->state == STELE_EXTENT_SEALED && x->spared_until_ns <= now)
			list[c->candidates++] = (struct stele_candidate){i, x->last_lsn, x->end};
	}
	c->urgent =
	    s->full || stele_store_free_extents(s) <= 1 + stele_store_extents_max(s, false) / 20;
	c->room = room_for_copies(s);
	c->next_lsn = s->next_lsn;
	c->x = (struct stele_extent){.fd = -1};
	stele_reclaim_submit(c, choose_work, chosen);
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
	stele_reclaim_timer(c, stele_env_now(s->env), woken);
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
