/*
 * Scrub (DESIGN N9): extent after extent in the order of their numbers, in steps on a worker that read up
 * to 4 MiB each (a piece of that beside clients), each when its turn has come, with a pause after each one that the rate
 * may make longer. What a step checks is in sweep.c.
 *
 * How far a sweep has come is kept in the index after every extent, unsynced as everything there, so that it can
 * be resumed after a restart; a power failure or a lost index costs repetition, no more. Extents that
 * begin to be used, or are used anew, behind its position hold what was written since it began.
 */
#include "storage/scrub.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- what is remembered: 'p' deep1 -> next_extent4 0[4] finished8 ---- */

#define MEMO_KEY   2u
#define MEMO_VALUE 16u

static void memo_key(bool deep, uint8_t out[MEMO_KEY])
{
	out[0] = STELE_INDEX_SCRUB;
	out[1] = deep;
}

enum stele_err stele_scrub_save(struct stele_store *s, bool deep,
                                const struct stele_scrub_memo *m)
{
	uint8_t key[MEMO_KEY], value[MEMO_VALUE] = {0};
	memo_key(deep, key);
	stele_put_le32(value, m->next);
	stele_put_le64(value + 8, (uint64_t)m->finished);
	struct stele_kv_write w = {key, sizeof(key), value, sizeof(value)};
	return stele_kv_write(s->index.kv, &w, 1);
}

void stele_scrub_load(struct stele_store *s)
{
	for (int deep = 0; deep < 2; deep++) {
		uint8_t key[MEMO_KEY], value[MEMO_VALUE];
		size_t len = 0;
		memo_key(deep, key);
		enum stele_err err =
		    stele_kv_get(s->index.kv, key, sizeof(key), value, sizeof(value), &len);
		s->scrubbed[deep] = (struct stele_scrub_memo){0};
		if (err || len != MEMO_VALUE)
			continue; /* none, or it cannot be read: from the beginning */
		s->scrubbed[deep].next = stele_le32(value);
		s->scrubbed[deep].finished = (int64_t)stele_le64(value + 8);
	}
}

void stele_store_scrubbed(const struct stele_store *s, bool deep, struct stele_store_scrubbed *out)
{
	*out = (struct stele_store_scrubbed){.finished = s->scrubbed[deep].finished,
	                                     .under_way = s->scrubbed[deep].next != 0};
}

/* Worker. A deep sweep is one of CRCs too. */
static enum stele_err remember_end(struct stele_scrub_run *c)
{
	for (int deep = 0; deep <= c->r->deep; deep++) {
		c->memo[deep] = (struct stele_scrub_memo){.finished = stele_env_wall(c->s->env)};
		STELE_TRY(stele_scrub_save(c->s, deep, &c->memo[deep]));
	}
	return STELE_OK;
}

static enum stele_err remember_extent(struct stele_scrub_run *c)
{
	if (!c->r->resume)
		return STELE_OK;
	struct stele_scrub_memo *m = &c->memo[c->r->deep];
	m->next = c->next;
	return stele_scrub_save(c->s, c->r->deep, m);
}

/* ---- steps ---- */

static void run(struct stele_scrub_run *c);

static void step_work(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	if (c->ending) {
		c->err = remember_end(c);
	} else if (!c->has_x) {
		stele_sweep_begin(c);
	} else {
		c->err = stele_sweep_step(c);
		if (!c->err && !c->has_x)
			c->err = remember_extent(c);
	}
	if (c->err)
		stele_detail_copy(c->detail);
}

static void end_scrub(struct stele_scrub_run *c, enum stele_err err)
{
	struct stele_store_scrub *r = c->r;
	r->err = err;
	if (err)
		stele_detail_copy(r->detail);
	c->s->scrub = NULL;
	stele_sweep_leave(c);
	free(c->window);
	free(c->met_at);
	free(c);
	r->cb(r);
}

/* Takes the next extent to be looked at, if only to see that the index expects nothing in it. False: none
 * is left. */
static bool next_extent(struct stele_scrub_run *c)
{
	struct stele_store *s = c->s;
	if (c->next >= c->ids)
		return false;
	uint32_t id = c->next++;
	struct stele_extent *x = id < s->extents_n ? s->extents[id] : NULL;
	c->x = x ? *x : (struct stele_extent){.id = id, .fd = -1};
	c->has_x = true;
	c->has_file = x && x->state != STELE_EXTENT_PREPARED;
	c->begun = false;
	c->off = 0;
	return true;
}

/* Recycled since its turn came: what is in it now is new. */
static void leave_recycled(struct stele_scrub_run *c)
{
	struct stele_store *s = c->s;
	if (!c->has_x || !c->has_file || s->extents[c->x.id]->cycle == c->x.cycle)
		return;
	c->behind += c->x.landed;
	stele_sweep_leave(c);
}

static void paused(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	c->pausing = false;
	if (c->cancelled || op->result < 0)
		end_scrub(c, stele_fail(STELE_ERR_CANCELLED, "scrub: cancelled"));
	else
		run(c);
}

/* Hands out what the step found. */
static void report(struct stele_scrub_run *c)
{
	for (uint32_t i = 0; i < c->nfound; i++) {
		struct stele_sweep_found *f = &c->found[i];
		if (!f->structure && f->at.bad == f->sound)
			stele_store_mark(c->s, &f->at, !f->sound);
		if (f->sound)
			continue;
		c->r->victims++;
		if (c->r->victim)
			c->r->victim(c->r, &f->at.key, f->why);
	}
	c->nfound = 0;
}

static void progress(struct stele_scrub_run *c)
{
	struct stele_store_scrub *r = c->r;
	uint64_t in_x = c->has_file ? c->x.landed : 0;
	if (!c->has_x)
		c->behind += in_x;
	r->bytes_done = c->behind + (c->has_x && c->off < in_x ? c->off : 0);
	if (r->bytes_total < r->bytes_done) /* more has come since */
		r->bytes_total = r->bytes_done;
	r->entries += c->checked;
}

/* By the rate. */
static void pause_then_run(struct stele_scrub_run *c)
{
	struct stele_store *s = c->s;
	uint64_t due = c->step_started_ns;
	if (c->r->bytes_per_s)
		due += (uint64_t)((double)c->step_bytes * 1e9 / (double)c->r->bytes_per_s);
	c->pausing = true;
	c->op = (struct stele_op){.kind = STELE_OP_TIMER, .off = due, .cb = paused, .ctx = c};
	stele_env_submit(s->env, &c->op);
}

static void step_done(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	struct stele_store *s = c->s;
	stele_store_turn_over(s, &c->turn, c->step_bytes);
	if (op->result < 0) {
		end_scrub(c, stele_fail(STELE_ERR_CANCELLED, "scrub: cancelled"));
		return;
	}
	if (!c->err)
		memcpy(s->scrubbed, c->memo, sizeof(s->scrubbed));
	report(c);
	progress(c);
	if (c->err) {
		stele_fail(c->err, "%s", c->detail);
		if (c->err == STELE_ERR_CORRUPT || c->err == STELE_ERR_IO)
			stele_store_index_failed(s, c->err);
		end_scrub(c, stele_fail(c->err, "scrub: %s", c->detail));
	} else if (c->ending) {
		end_scrub(c, STELE_OK);
	} else if (c->cancelled) {
		end_scrub(c, stele_fail(STELE_ERR_CANCELLED, "scrub: cancelled"));
	} else {
		pause_then_run(c);
	}
}

static void step_begins(struct stele_turn *t)
{
	struct stele_scrub_run *c = t->ctx;
	c->step_started_ns = stele_env_now(c->s->env);
	c->step_bytes = c->checked = 0;
	c->err = STELE_OK;
	c->op = (struct stele_op){.kind = STELE_OP_WORK,
	                          .flags = STELE_WORK_LONG,
	                          .work = step_work,
	                          .cb = step_done,
	                          .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

/* The turn is held through the checks after the read, so it counts as a piece: more would keep others from a disk that is
 * idle meanwhile. */
static void submit(struct stele_scrub_run *c)
{
	c->most = stele_store_piece(c->s, STELE_BACKGROUND, STELE_SWEEP_WINDOW);
	c->turn = (struct stele_turn){
	    .class = STELE_BACKGROUND, .bytes = STELE_FAIR_PIECE, .begin = step_begins, .ctx = c};
	stele_store_turn(c->s, &c->turn);
}

static void run(struct stele_scrub_run *c)
{
	leave_recycled(c);
	if (!c->has_x)
		c->ending = !next_extent(c);
	submit(c);
}

/* ---- from outside ---- */

static void refuse_later(struct stele_later *later, bool cancelled)
{
	struct stele_store_scrub *r = later->request;
	(void)cancelled;
	r->cb(r);
}

static struct stele_scrub_run *create(struct stele_store *s, struct stele_store_scrub *r)
{
	struct stele_scrub_run *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->s = s;
	c->r = r;
	c->window = stele_large_alloc(STELE_SWEEP_WINDOW);
	c->met_at = calloc(1, s->vol.extent_len / STELE_ENTRY_ALIGN / 8);
	if (!c->window || !c->met_at) {
		free(c->window);
		free(c->met_at);
		free(c);
		return NULL;
	}
	memcpy(c->memo, s->scrubbed, sizeof(c->memo));
	c->next = r->resume && c->memo[r->deep].next ? c->memo[r->deep].next : 1;
	c->ids = s->extents_n;
	for (uint32_t i = c->next; i < s->extents_n; i++)
		if (s->extents[i] && s->extents[i]->state != STELE_EXTENT_PREPARED)
			r->bytes_total += s->extents[i]->landed;
	return c;
}

void stele_store_scrub(struct stele_store *s, struct stele_store_scrub *r)
{
	r->err = STELE_OK;
	r->detail[0] = '\0';
	r->bytes_done = r->bytes_total = r->entries = r->victims = 0;
	struct stele_scrub_run *c = NULL;
	if (s->scrub)
		r->err = stele_fail(STELE_ERR_BUSY, "%s: a scrub is under way", s->vol.dir);
	else if (!(c = create(s, r)))
		r->err = stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	if (r->err) {
		stele_detail_copy(r->detail);
		_Static_assert(sizeof(struct stele_later) <= sizeof(r->priv), "priv holds it");
		stele_store_later(s, (struct stele_later *)r->priv, refuse_later, r);
		return;
	}
	s->scrub = c;
	submit(c); /* begins */
}

void stele_store_scrub_cancel(struct stele_store *s)
{
	if (!s->scrub)
		return;
	s->scrub->cancelled = true;
	if (s->scrub->pausing)
		stele_env_cancel(s->env, &s->scrub->op);
}
