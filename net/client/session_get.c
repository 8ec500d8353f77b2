/*
 * Carries out a get: finds the records, asks for shards, has them verified and written out on workers. What is asked when is
 * net/client/get.c's and fetch.c's decision.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/get_job.h"

static struct stele_get_job *job_of(struct stele_job *job)
{
	return ((struct stele_get_request *)job)->priv;
}

static void fail(struct stele_get_job *g, enum stele_err err, const char *detail)
{
	stele_get_step(&g->get, &(struct stele_get_event){
	                            .kind = STELE_GET_FAIL, .err = err, .detail = detail});
}

/* ---- records ---- */

static void offer(struct stele_get_job *g, const struct stele_found_record *found)
{
	struct stele_map *map = stele_session_map(g->session);
	struct stele_get_record_memory *c = &g->record;
	struct stele_get_event ev = {.kind = STELE_GET_CANDIDATE};
	if (!found->sig_ok || !found->depositor_known)
		return;
	/* The form and the inline bytes held when it was found. */
	enum stele_err err =
	    stele_record_decode(found->bytes, found->len, false, &c->record, c->piece);
	assert(err == STELE_OK);
	const struct stele_pool *pool = stele_map_pool_named(map, c->record.deposit.pool);
	if (!pool || stele_code_find(&pool->code, &ev.candidate.code) != STELE_OK)
		return;
	c->pool = pool->id;
	ev.candidate.record = &c->record;
	stele_get_step(&g->get, &ev);
}

/* What to say when no record came that could be used. */
static enum stele_err find_verdict(struct stele_find_request *find)
{
	if (find->err != STELE_OK)
		return find->err;
	if (find->found.answered < find->found.asked)
		return STELE_ERR_UNAVAILABLE;
	if (find->found.nrecords == 0) { /* marks alone */
		snprintf(find->detail, sizeof(find->detail), "not found: every disk that could know of it was asked");
		return STELE_ERR_NOT_FOUND;
	}
	snprintf(find->detail, sizeof(find->detail),
	         "its records are not signed by a depositor that this cluster knows, or name an "
	         "unknown pool");
	return STELE_ERR_CORRUPT;
}

/* Gives the machine the next record that was found, or tells it that there is none. False: neither, for now. */
static bool next_record(struct stele_get_job *g)
{
	if (g->get.phase != STELE_GET_FINDING)
		return false;
	if (g->looked_at < g->find.found.nrecords) {
		offer(g, &g->find.found.record[g->looked_at++]);
		return true;
	}
	if (g->finding)
		return false;
	enum stele_err err = find_verdict(&g->find);
	stele_get_step(&g->get, &(struct stele_get_event){.kind = STELE_GET_FIND_OVER,
	                                                  .err = err,
	                                                  .detail = g->find.detail});
	return true;
}

static void find_progress(struct stele_find_request *find)
{
	stele_get_pump(find->ctx);
}

static void find_done(struct stele_find_request *find)
{
	struct stele_get_job *g = find->ctx;
	g->finding = false;
	stele_get_pump(g);
	stele_job_unhold(&g->req->job);
}

/* ---- VERIFY ---- */

static void verify_run(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	struct stele_hash value;
	stele_columns_verify(&g->columns);
	if (!g->verify_last || g->columns.bad || !g->columns.consistent)
		return;
	stele_sha256_value(&g->object, &value);
	g->object_ok = stele_hash_equal(&value, &g->req->id);
}

static void verify_done(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	struct stele_get_event ev = {
	    .kind = STELE_GET_VERIFIED, .unit = g->verify_unit, .object_ok = g->object_ok};
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_VERIFIED,
	                                      .checked = g->fetch_job.check,
	                                      .bad = g->columns.bad,
	                                      .consistent = g->columns.consistent};
	if (w->err != STELE_OK)
		fail(g, w->err, w->detail);
	else
		stele_get_step(&g->get, &ev);
	stele_get_pump(g);
}

static bool do_verify(struct stele_get_job *g, const struct stele_get_action *a)
{
	const struct stele_get_unit *gu = &g->get.unit[a->unit];
	struct stele_get_unit_memory *u = &g->unit[a->unit];
	const struct stele_fetch *f = &gu->fetch;
	g->fetch_job = a->job;
	stele_get_drop_cells(g, a->unit,
	                     a->job.missing); /* they are decoded into the same memory */
	g->verify_unit = a->unit;
	g->verify_last = a->last;
	g->object_ok = false;
	g->columns = (struct stele_columns){.desc = &f->desc,
	                                    .rows = u->rows,
	                                    .first_cell = f->first_cell,
	                                    .cells = f->cells,
	                                    .len = stele_fetch_column_len(f),
	                                    .check = a->job.check,
	                                    .missing = a->job.missing,
	                                    .plan = &g->fetch_job.plan,
	                                    .object = g->get.whole ? &g->object : NULL};
	for (uint32_t i = 0; i < f->desc.n; i++) {
		bool needed = (a->job.check | a->job.missing) >> i & 1;
		g->columns.shard[i] = needed ? stele_get_columns(u, f, i) : NULL;
		if (needed && !g->columns.shard[i])
			return false;
	}
	stele_job_work(&g->verify, &g->req->job, false, verify_run, verify_done);
	return true;
}

/* ---- EMIT ---- */

static enum stele_err emit_unit(struct stele_get_job *g, uint32_t unit)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	const struct stele_sink *sink = &g->req->sink;
	struct stele_part part[STELE_CODE_K_MAX];
	uint32_t n = stele_block_map_range(&f->desc, f->off, f->len, part);
	uint64_t column = stele_fetch_column_len(f);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = part[i].off - (uint64_t)f->first_cell * STELE_CELL_LEN;
		STELE_TRY(sink->write(sink->ctx, g->unit[unit].data + part[i].shard * column + at,
		                      part[i].len));
	}
	return STELE_OK;
}

static void emit_run(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	const struct stele_sink *sink = &g->req->sink;
	const struct stele_record *r = &g->record.record;
	if (!sink->write)
		return;
	if (g->emit_unit == STELE_GET_UNITS)
		w->err = sink->write(sink->ctx, r->inline_bytes + g->get.config.off, g->emit_len);
	else
		w->err = emit_unit(g, g->emit_unit);
}

static void emit_done(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	const struct stele_progress *p = &g->req->opts.progress;
	if (w->err == STELE_OK)
		g->emitted += g->emit_len;
	stele_get_step(&g->get, &(struct stele_get_event){.kind = STELE_GET_EMITTED,
	                                                  .err = w->err,
	                                                  .detail = w->detail,
	                                                  .len = g->emit_len});
	if (p->step && !p->step(p->ctx, g->emitted, g->get.end - g->get.config.off))
		fail(g, STELE_ERR_CANCELLED, "cancelled");
	stele_get_pump(g);
}

static void emit_now(struct stele_get_job *g)
{
	g->emit_wanted = false;
	stele_job_work(&g->emit, &g->req->job, true, emit_run, emit_done);
}

static void do_emit(struct stele_get_job *g, uint32_t unit)
{
	g->emit_unit = unit;
	g->emit_len =
	    unit == STELE_GET_UNITS ? g->get.end - g->get.config.off : g->get.unit[unit].len;
	g->emit_wanted = true;
	if (!stele_op_pending(&g->start.op))
		emit_now(g);
}

/* ---- START: whatever an earlier record gave out is taken back ---- */

static void start_run(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	w->err = g->req->restart(g->req->sink.ctx);
}

static void start_done(struct stele_job_work *w)
{
	struct stele_get_job *g = job_of(w->job);
	if (w->err != STELE_OK)
		fail(g, w->err, w->detail);
	else if (g->emit_wanted)
		emit_now(g);
	stele_get_pump(g);
}

static void do_start(struct stele_get_job *g)
{
	stele_sha256_init(&g->object);
	if (g->emitted > 0 && g->req->restart)
		stele_job_work(&g->start, &g->req->job, true, start_run, start_done);
	g->emitted = 0;
}

/* ---- the end ---- */

static void finish(struct stele_get_job *g)
{
	struct stele_get_request *req = g->req;
	STELE_REQUEST_END(req, g->get.err, g->get.detail);
	req->result = (struct stele_get_result){
	    .bytes = g->emitted, .blocks_degraded = g->get.degraded, .shards_bad = g->get.bad};
	if (g->get.tried > 0)
		req->result.length = g->record.record.deposit.length;
	req->result.whole_hash_checked = req->err == STELE_OK && g->get.whole;
	stele_job_over(&req->job);
	if (g->finding)
		stele_request_cancel(&g->find.job);
}

static void release(struct stele_job *job)
{
	struct stele_get_request *req = (struct stele_get_request *)job;
	struct stele_get_job *g = req->priv;
	req->priv = NULL;
	if (g) {
		for (uint32_t i = 0; i < STELE_GET_UNITS; i++) {
			stele_get_clear_unit(g, i);
			free(g->unit[i].rows);
			free(g->unit[i].data);
		}
		stele_found_finish(&g->find.found);
		free(g);
	}
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	struct stele_get_job *g = job_of(job);
	fail(g, STELE_ERR_CANCELLED, "cancelled");
	stele_get_pump(g);
}

static void reloaded(struct stele_job *job, bool changed)
{
	struct stele_get_job *g = job_of(job);
	stele_get_step(&g->get,
	               &(struct stele_get_event){.kind = STELE_GET_MAP, .changed = changed});
	stele_get_pump(g);
}

static void act(struct stele_get_job *g, const struct stele_get_action *a)
{
	bool ok = true;
	switch (a->kind) {
	case STELE_GET_DO_START:
		do_start(g);
		break;
	case STELE_GET_DO_FETCH:
		ok = stele_get_do_fetch(g, a->unit, &a->fetch);
		break;
	case STELE_GET_DO_VERIFY:
		ok = do_verify(g, a);
		break;
	case STELE_GET_DO_EMIT:
		do_emit(g, a->unit);
		break;
	case STELE_GET_DO_FREE:
		stele_get_clear_unit(g, a->unit);
		free(g->unit[a->unit].rows);
		g->unit[a->unit].rows = NULL;
		break;
	case STELE_GET_DO_RELOAD:
		stele_job_reload(&g->req->job, 0, reloaded);
		break;
	case STELE_GET_DO_END:
		finish(g);
		break;
	}
	if (!ok)
		fail(g, STELE_ERR_NOMEM, "get: out of memory");
}

void stele_get_pump(struct stele_get_job *g)
{
	struct stele_get_action *a = &g->action;
	do {
		while (stele_get_next(&g->get, a))
			act(g, a);
	} while (next_record(g));
}

static void place(void *ctx, const struct stele_hash *block, struct stele_window *out)
{
	struct stele_get_job *g = ctx;
	const struct stele_pool *pool =
	    stele_map_pool(stele_session_map(g->session), g->record.pool);
	if (pool)
		stele_session_window(g->session, pool, block, out);
	else
		out->n = 0; /* a newer map has no such pool */
}

void stele_session_get(struct stele_session *s, struct stele_get_request *req)
{
	struct stele_get_job *g = calloc(1, sizeof(*g));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = g;
	req->result = (struct stele_get_result){0};
	if (!g) {
		STELE_REQUEST_END(req, STELE_ERR_NOMEM, "get: out of memory");
		stele_job_over(&req->job);
		return;
	}
	g->req = req;
	g->session = s;
	for (uint32_t i = 0; i < STELE_GET_UNITS; i++)
		g->unit[i].get = g;
	struct stele_get_config config = {.off = req->opts.off,
	                                  .len = req->opts.len,
	                                  .restartable = req->restart != NULL || !req->sink.write,
	                                  .place = place,
	                                  .ctx = g};
	stele_get_init(&g->get, &config);
	g->find = (struct stele_find_request){
	    .id = req->id, .progress = find_progress, .cb = find_done, .ctx = g};
	g->finding = true;
	stele_job_hold(&req->job);
	stele_session_find(s, &g->find);
}
