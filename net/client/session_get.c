/*
 * Carries out a get: finds the records, asks for shards, has them verified and written out on workers. What is asked when is
 * net/client/get.c's and fetch.c's decision.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/columns.h"
#include "net/client/get.h"
#include "net/client/session_private.h"
#include "net/client/shard_meta.h"

/* What lies behind a unit of the machine. */
struct unit {
	struct get_job *get;
	uint8_t *data; /* the columns of the data shards, one after the other */
	size_t data_cap;
	uint8_t *parity[STELE_CODE_N_MAX]; /* of the others, as they are asked for */
	struct stele_hash *rows;
	struct stele_job_timer hedge;
};

struct candidate {
	struct stele_record record;
	struct stele_piece piece[STELE_PIECES_MAX];
	uint16_t pool;
};

struct get_job {
	struct stele_get_request *req;
	struct stele_session *session;
	struct stele_get get;
	struct stele_find_request find;
	bool finding;
	uint32_t looked_at; /* records of find */
	struct candidate *candidate[STELE_GET_RECORDS_MAX];
	uint32_t ncandidates;
	struct unit unit[STELE_GET_UNITS];
	struct stele_sha256_stream object;
	struct stele_job_work start, verify, emit;
	struct stele_columns columns;
	struct stele_fetch_job fetch_job;
	uint32_t verify_unit, emit_unit;
	bool verify_last, object_ok;
	bool emit_wanted;
	uint64_t emitted, emit_len;
	struct stele_get_action action;
};

static void pump(struct get_job *g);

static struct get_job *job_of(struct stele_job *job)
{
	return ((struct stele_get_request *)job)->priv;
}

static void fail(struct get_job *g, enum stele_err err, const char *detail)
{
	stele_get_step(&g->get, &(struct stele_get_event){
	                            .kind = STELE_GET_FAIL, .err = err, .detail = detail});
}

/* ---- records ---- */

static void offer(struct get_job *g, const struct stele_found_record *found)
{
	struct stele_map *map = stele_session_map(g->session);
	struct stele_get_event ev = {.kind = STELE_GET_CANDIDATE};
	if (!found->sig_ok || !found->depositor_known || g->ncandidates == STELE_GET_RECORDS_MAX)
		return;
	struct candidate *c = malloc(sizeof(*c));
	if (!c) {
		fail(g, STELE_ERR_NOMEM, "get: out of memory");
		return;
	}
	/* The form and the inline bytes held when it was found. */
	enum stele_err err =
	    stele_record_decode(found->bytes, found->len, false, &c->record, c->piece);
	assert(err == STELE_OK);
	const struct stele_pool *pool = stele_map_pool_named(map, c->record.deposit.pool);
	if (!pool || stele_code_find(&pool->code, &ev.candidate.code) != STELE_OK) {
		free(c);
		return;
	}
	c->pool = pool->id;
	g->candidate[g->ncandidates++] = c;
	ev.candidate.record = &c->record;
	stele_get_step(&g->get, &ev);
}

static void find_progress(struct stele_find_request *find)
{
	struct get_job *g = find->ctx;
	if (g->req->job.over)
		return;
	while (g->looked_at < find->found.nrecords)
		offer(g, &find->found.record[g->looked_at++]);
	pump(g);
}

/* What to say when no record came that could be used. */
static enum stele_err find_verdict(struct stele_find_request *find)
{
	if (find->err != STELE_OK)
		return find->err;
	if (find->found.answered < find->found.asked)
		return STELE_ERR_UNAVAILABLE;
	if (find->found.nrecords == 0) { /* marks alone */
		snprintf(find->detail, sizeof(find->detail), "no such object");
		return STELE_ERR_NOT_FOUND;
	}
	snprintf(find->detail, sizeof(find->detail),
	         "its records are not signed by a depositor that this cluster knows, or name an "
	         "unknown pool");
	return STELE_ERR_CORRUPT;
}

static void find_done(struct stele_find_request *find)
{
	struct get_job *g = find->ctx;
	g->finding = false;
	if (!g->req->job.over) {
		/* The last disk's answer ends the search: its records were not shown by progress. */
		while (g->looked_at < find->found.nrecords)
			offer(g, &find->found.record[g->looked_at++]);
		enum stele_err err = find_verdict(find);
		stele_get_step(&g->get, &(struct stele_get_event){.kind = STELE_GET_FIND_OVER,
		                                                  .err = err,
		                                                  .detail = find->detail});
		pump(g);
	}
	stele_job_unhold(&g->req->job);
}

/* ---- FETCH ---- */

static void late(struct stele_job_timer *t)
{
	struct unit *u = (struct unit *)((char *)t - offsetof(struct unit, hedge));
	struct get_job *g = u->get;
	uint32_t i = (uint32_t)(u - g->unit);
	if (g->get.unit[i].state == STELE_UNIT_FETCHING)
		stele_get_step(&g->get,
		               &(struct stele_get_event){.kind = STELE_GET_FETCH,
		                                         .unit = i,
		                                         .fetch = {.kind = STELE_FETCH_LATE}});
	pump(g);
}

enum call_tag { OF_NO_UNIT = 0, FOR_CELLS, FOR_KNOWLEDGE }; /* struct stele_job_call's tag */

static void drop_calls(struct get_job *g, uint32_t unit)
{
	for (struct stele_job_call *c = g->req->job.calls, *next; c; c = next) {
		next = c->next;
		if (c->tag != OF_NO_UNIT && c->unit == unit)
			stele_job_call_drop(c);
	}
}

/* From now on nothing comes into the memory of these shards. */
static void drop_cells(struct get_job *g, uint32_t unit, uint64_t shards)
{
	for (struct stele_job_call *c = g->req->job.calls, *next; c; c = next) {
		next = c->next;
		if (c->tag == FOR_CELLS && c->unit == unit && shards >> c->item & 1)
			stele_job_call_drop(c);
	}
}

/* Ends a unit's calls and drops what came; its rows stay good for as long as the block is the same. */
static void clear_unit(struct get_job *g, uint32_t i)
{
	struct unit *u = &g->unit[i];
	drop_calls(g, i);
	if (stele_op_pending(&u->hedge.op))
		stele_job_timer_set(&u->hedge, &g->req->job, 0, late);
	for (uint32_t s = 0; s < STELE_CODE_N_MAX; s++) {
		free(u->parity[s]);
		u->parity[s] = NULL;
	}
}

/* Where the columns of a shard go. NULL: no memory. */
static uint8_t *columns_of(struct unit *u, const struct stele_fetch *f, uint32_t shard)
{
	size_t len = stele_fetch_column_len(f), k = f->desc.code.k;
	if (shard >= k) {
		if (!u->parity[shard])
			u->parity[shard] = malloc(len);
		return u->parity[shard];
	}
	if (u->data_cap < k * len) {
		void *data;
		if (posix_memalign(&data, STELE_PAGE, k * len) != 0)
			return NULL;
		free(u->data);
		u->data = data;
		u->data_cap = k * len;
	}
	return u->data + shard * len;
}

static void cells_done(struct stele_job_call *c)
{
	struct get_job *g = job_of(c->job);
	struct stele_get_unit *gu = &g->get.unit[c->unit];
	struct unit *u = &g->unit[c->unit];
	struct stele_descriptor d;
	struct stele_hash *rows = NULL;
	bool want_meta = c->ctx != NULL;
	struct stele_get_event ev = {.kind = STELE_GET_FETCH, .unit = c->unit};
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_CELLS,
	                                      .shard = c->item,
	                                      .at = c->at,
	                                      .cells = c->into.iov_len > 0,
	                                      .want_meta = want_meta,
	                                      .err = c->call.err,
	                                      .answered = stele_job_call_answered(c),
	                                      .len = c->call.reply_body_len};
	if (want_meta && c->call.err == STELE_OK &&
	    stele_shard_meta_read(c->call.reply_head, c->call.reply_head_len, &gu->fetch.block,
	                          c->item, &d, &rows) == STELE_OK)
		ev.fetch.desc = &d;
	if (rows && !u->rows)
		u->rows = rows;
	else
		free(rows);
	stele_get_step(&g->get, &ev);
	pump(g);
}

static void send(struct stele_job_call *c, uint32_t unit, const struct stele_fetch_action *a,
                 void (*done)(struct stele_job_call *c))
{
	c->unit = unit;
	c->item = a->shard;
	c->at = a->at;
	c->tag = c->into.iov_len > 0 ? FOR_CELLS : FOR_KNOWLEDGE;
	stele_job_call_send(c, STELE_CALL_NS, a->delay_ns, done);
}

static bool do_ask(struct get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct unit *u = &g->unit[unit];
	struct stele_window_disk disk = f->window.disk[a->at];
	uint8_t *into = a->cells ? columns_of(u, f, a->shard) : NULL;
	struct stele_job_call *c =
	    into || !a->cells
	        ? stele_job_call_new(&g->req->job, disk.node, STELE_OPCODE_SHARD_GET, 128, 0)
	        : NULL;
	if (!c)
		return false;
	struct stele_head_shard_get head = {.slot = disk.slot,
	                                    .pool = g->candidate[g->get.current]->pool,
	                                    .index = (uint8_t)a->shard,
	                                    .want_meta = a->want_meta,
	                                    .block = f->block,
	                                    .first_cell = a->cells ? f->first_cell : 0,
	                                    .cells = a->cells};
	stele_head_shard_get_encode(&head, &c->head);
	c->into =
	    (struct iovec){.iov_base = into, .iov_len = a->cells ? stele_fetch_column_len(f) : 0};
	c->ctx = a->want_meta ? u : NULL;
	send(c, unit, a, cells_done);
	stele_job_timer_set(&u->hedge, &g->req->job,
	                    stele_env_now(g->session->env) + a->delay_ns + STELE_HEDGE_NS, late);
	return true;
}

static void located(struct stele_job_call *c)
{
	struct get_job *g = job_of(c->job);
	struct stele_get_event ev = {.kind = STELE_GET_FETCH, .unit = c->unit};
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_LOCATED,
	                                      .at = c->at,
	                                      .err = c->call.err,
	                                      .answered = stele_job_call_answered(c)};
	for (uint32_t i = 0; i < c->call.reply_head_len && i < STELE_CODE_N_MAX; i++)
		ev.fetch.has |= (uint64_t)(c->call.reply_head[i] != 0) << i;
	stele_get_step(&g->get, &ev);
	pump(g);
}

static bool do_locate(struct get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct stele_window_disk disk = f->window.disk[a->at];
	struct stele_job_call *c = stele_have_call(
	    &g->req->job, disk, g->candidate[g->get.current]->pool, &f->block, f->desc.n);
	if (!c)
		return false;
	send(c, unit, a, located);
	return true;
}

static void reported(struct stele_job_call *c)
{
	(void)c; /* the node looks for itself; nothing here depends on it */
}

static bool do_report(struct get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct stele_window_disk disk = f->window.disk[a->at];
	struct stele_job_call *c =
	    stele_job_call_new(&g->req->job, disk.node, STELE_OPCODE_REPORT_BAD, 128, 0);
	if (!c)
		return false;
	struct stele_head_report_bad head = {.slot = disk.slot,
	                                     .key = {.pool = g->candidate[g->get.current]->pool,
	                                             .kind = STELE_ENTRY_SHARD,
	                                             .index = (uint8_t)a->shard,
	                                             .id = f->block}};
	stele_head_report_bad_encode(&head, &c->head);
	c->keep = true;
	stele_job_call_send(c, STELE_PROBE_NS, 0, reported);
	return true;
}

static bool do_fetch(struct get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	switch (a->kind) {
	case STELE_FETCH_ASK:
		return do_ask(g, unit, a);
	case STELE_FETCH_LOCATE:
		return do_locate(g, unit, a);
	case STELE_FETCH_REPORT:
		return do_report(g, unit, a);
	case STELE_FETCH_RESET:
		clear_unit(g, unit);
		return true;
	}
	return true;
}

/* ---- VERIFY ---- */

static void verify_run(struct stele_job_work *w)
{
	struct get_job *g = job_of(w->job);
	struct stele_hash value;
	stele_columns_verify(&g->columns);
	if (!g->verify_last || g->columns.bad || !g->columns.consistent)
		return;
	stele_sha256_value(&g->object, &value);
	g->object_ok = stele_hash_equal(&value, &g->req->id);
}

static void verify_done(struct stele_job_work *w)
{
	struct get_job *g = job_of(w->job);
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
	pump(g);
}

static bool do_verify(struct get_job *g, const struct stele_get_action *a)
{
	const struct stele_get_unit *gu = &g->get.unit[a->unit];
	struct unit *u = &g->unit[a->unit];
	const struct stele_fetch *f = &gu->fetch;
	g->fetch_job = a->job;
	drop_cells(g, a->unit, a->job.missing); /* they are decoded into the same memory */
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
		g->columns.shard[i] = needed ? columns_of(u, f, i) : NULL;
		if (needed && !g->columns.shard[i])
			return false;
	}
	stele_job_work(&g->verify, &g->req->job, false, verify_run, verify_done);
	return true;
}

/* ---- EMIT ---- */

static enum stele_err emit_unit(struct get_job *g, uint32_t unit)
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
	struct get_job *g = job_of(w->job);
	const struct stele_sink *sink = &g->req->sink;
	const struct stele_record *r = &g->candidate[g->get.current]->record;
	if (!sink->write)
		return;
	if (g->emit_unit == STELE_GET_UNITS)
		w->err = sink->write(sink->ctx, r->inline_bytes + g->get.config.off, g->emit_len);
	else
		w->err = emit_unit(g, g->emit_unit);
}

static void emit_done(struct stele_job_work *w)
{
	struct get_job *g = job_of(w->job);
	const struct stele_progress *p = &g->req->opts.progress;
	if (w->err == STELE_OK)
		g->emitted += g->emit_len;
	stele_get_step(&g->get, &(struct stele_get_event){.kind = STELE_GET_EMITTED,
	                                                  .err = w->err,
	                                                  .detail = w->detail,
	                                                  .len = g->emit_len});
	if (p->step && !p->step(p->ctx, g->emitted, g->get.end - g->get.config.off))
		fail(g, STELE_ERR_CANCELLED, "cancelled");
	pump(g);
}

static void emit_now(struct get_job *g)
{
	g->emit_wanted = false;
	stele_job_work(&g->emit, &g->req->job, true, emit_run, emit_done);
}

static void do_emit(struct get_job *g, uint32_t unit)
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
	struct get_job *g = job_of(w->job);
	w->err = g->req->restart(g->req->sink.ctx);
}

static void start_done(struct stele_job_work *w)
{
	struct get_job *g = job_of(w->job);
	if (w->err != STELE_OK)
		fail(g, w->err, w->detail);
	else if (g->emit_wanted)
		emit_now(g);
	pump(g);
}

static void do_start(struct get_job *g)
{
	stele_sha256_init(&g->object);
	if (g->emitted > 0 && g->req->restart)
		stele_job_work(&g->start, &g->req->job, true, start_run, start_done);
	g->emitted = 0;
}

/* ---- the end ---- */

static void finish(struct get_job *g)
{
	struct stele_get_request *req = g->req;
	STELE_REQUEST_END(req, g->get.err, g->get.detail);
	req->result = (struct stele_get_result){
	    .bytes = g->emitted, .blocks_degraded = g->get.degraded, .shards_bad = g->get.bad};
	if (g->ncandidates > 0)
		req->result.length = g->candidate[g->get.current]->record.deposit.length;
	req->result.whole_hash_checked = req->err == STELE_OK && g->get.whole;
	stele_job_over(&req->job);
	if (g->finding)
		stele_request_cancel(&g->find.job);
}

static void release(struct stele_job *job)
{
	struct stele_get_request *req = (struct stele_get_request *)job;
	struct get_job *g = req->priv;
	req->priv = NULL;
	if (g) {
		for (uint32_t i = 0; i < STELE_GET_UNITS; i++) {
			clear_unit(g, i);
			free(g->unit[i].rows);
			free(g->unit[i].data);
		}
		for (uint32_t i = 0; i < g->ncandidates; i++)
			free(g->candidate[i]);
		stele_found_finish(&g->find.found);
		free(g);
	}
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	struct get_job *g = job_of(job);
	fail(g, STELE_ERR_CANCELLED, "cancelled");
	pump(g);
}

static void reloaded(struct stele_job *job, bool changed)
{
	struct get_job *g = job_of(job);
	stele_get_step(&g->get,
	               &(struct stele_get_event){.kind = STELE_GET_MAP, .changed = changed});
	pump(g);
}

static void act(struct get_job *g, const struct stele_get_action *a)
{
	bool ok = true;
	switch (a->kind) {
	case STELE_GET_DO_START:
		do_start(g);
		break;
	case STELE_GET_DO_FETCH:
		ok = do_fetch(g, a->unit, &a->fetch);
		break;
	case STELE_GET_DO_VERIFY:
		ok = do_verify(g, a);
		break;
	case STELE_GET_DO_EMIT:
		do_emit(g, a->unit);
		break;
	case STELE_GET_DO_FREE:
		clear_unit(g, a->unit);
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

static void pump(struct get_job *g)
{
	struct stele_get_action *a = &g->action;
	while (stele_get_next(&g->get, a))
		act(g, a);
}

static void place(void *ctx, uint32_t candidate, const struct stele_hash *block,
                  struct stele_window *out)
{
	struct get_job *g = ctx;
	const struct stele_pool *pool =
	    stele_map_pool(stele_session_map(g->session), g->candidate[candidate]->pool);
	if (pool)
		stele_session_window(g->session, pool, block, out);
	else
		out->n = 0; /* a newer map has no such pool */
}

void stele_session_get(struct stele_session *s, struct stele_get_request *req)
{
	struct get_job *g = calloc(1, sizeof(*g));
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
