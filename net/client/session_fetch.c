/*
 * Carries out what a get's machine wants to know of shards: asks for their cells and metas, for who holds them, reports
 * corrupt ones. Which, and where, is net/client/fetch.c's decision.
 */
#include <stdlib.h>

#include "net/client/get_job.h"
#include "erasure/shard_meta.h"

static struct stele_get_job *job_of(struct stele_job *job)
{
	return ((struct stele_get_request *)job)->priv;
}

static void late(struct stele_job_timer *t)
{
	struct stele_get_unit_memory *u =
	    (struct stele_get_unit_memory *)((char *)t -
	                                     offsetof(struct stele_get_unit_memory, hedge));
	struct stele_get_job *g = u->get;
	uint32_t i = (uint32_t)(u - g->unit);
	if (g->get.unit[i].state == STELE_UNIT_FETCHING)
		stele_get_step(&g->get,
		               &(struct stele_get_event){.kind = STELE_GET_FETCH,
		                                         .unit = i,
		                                         .fetch = {.kind = STELE_FETCH_LATE}});
	stele_get_pump(g);
}

enum call_tag { OF_NO_UNIT = 0, FOR_CELLS, FOR_KNOWLEDGE }; /* struct stele_job_call's tag */

static void drop_calls(struct stele_get_job *g, uint32_t unit)
{
	for (struct stele_job_call *c = g->req->job.calls, *next; c; c = next) {
		next = c->next;
		if (c->tag != OF_NO_UNIT && c->unit == unit)
			stele_job_call_drop(c);
	}
}

void stele_get_drop_cells(struct stele_get_job *g, uint32_t unit, uint64_t shards)
{
	for (struct stele_job_call *c = g->req->job.calls, *next; c; c = next) {
		next = c->next;
		if (c->tag == FOR_CELLS && c->unit == unit && shards >> c->item & 1)
			stele_job_call_drop(c);
	}
}

void stele_get_clear_unit(struct stele_get_job *g, uint32_t i)
{
	struct stele_get_unit_memory *u = &g->unit[i];
	drop_calls(g, i);
	if (stele_op_pending(&u->hedge.op))
		stele_job_timer_set(&u->hedge, &g->req->job, 0, late);
	for (uint32_t s = 0; s < STELE_CODE_N_MAX; s++) {
		free(u->parity[s]);
		u->parity[s] = NULL;
	}
}

uint8_t *stele_get_columns(struct stele_get_unit_memory *u, const struct stele_fetch *f,
                           uint32_t shard)
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
	struct stele_get_job *g = job_of(c->job);
	struct stele_get_unit *gu = &g->get.unit[c->unit];
	struct stele_get_unit_memory *u = &g->unit[c->unit];
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
	stele_get_pump(g);
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

static bool do_ask(struct stele_get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct stele_get_unit_memory *u = &g->unit[unit];
	struct stele_window_disk disk = f->window.disk[a->at];
	uint8_t *into = a->cells ? stele_get_columns(u, f, a->shard) : NULL;
	struct stele_job_call *c =
	    into || !a->cells
	        ? stele_job_call_new(&g->req->job, disk.node, STELE_OPCODE_SHARD_GET, 128, 0)
	        : NULL;
	if (!c)
		return false;
	struct stele_head_shard_get head = {.slot = disk.slot,
	                                    .pool = g->record.pool,
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
	struct stele_get_job *g = job_of(c->job);
	struct stele_get_event ev = {.kind = STELE_GET_FETCH, .unit = c->unit};
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_LOCATED,
	                                      .at = c->at,
	                                      .err = c->call.err,
	                                      .answered = stele_job_call_answered(c)};
	for (uint32_t i = 0; i < c->call.reply_head_len && i < STELE_CODE_N_MAX; i++)
		ev.fetch.has |= (uint64_t)(c->call.reply_head[i] != 0) << i;
	stele_get_step(&g->get, &ev);
	stele_get_pump(g);
}

static bool do_locate(struct stele_get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct stele_window_disk disk = f->window.disk[a->at];
	struct stele_job_call *c =
	    stele_have_call(&g->req->job, disk, g->record.pool, &f->block, f->desc.n);
	if (!c)
		return false;
	send(c, unit, a, located);
	return true;
}

static void reported(struct stele_job_call *c)
{
	(void)c; /* the node looks for itself; nothing here depends on it */
}

static bool do_report(struct stele_get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	const struct stele_fetch *f = &g->get.unit[unit].fetch;
	struct stele_window_disk disk = f->window.disk[a->at];
	struct stele_job_call *c =
	    stele_job_call_new(&g->req->job, disk.node, STELE_OPCODE_REPORT_BAD, 128, 0);
	if (!c)
		return false;
	struct stele_head_report_bad head = {.slot = disk.slot,
	                                     .key = {.pool = g->record.pool,
	                                             .kind = STELE_ENTRY_SHARD,
	                                             .index = (uint8_t)a->shard,
	                                             .id = f->block}};
	stele_head_report_bad_encode(&head, &c->head);
	c->keep = true;
	stele_job_call_send(c, STELE_PROBE_NS, 0, reported);
	return true;
}

bool stele_get_do_fetch(struct stele_get_job *g, uint32_t unit, const struct stele_fetch_action *a)
{
	switch (a->kind) {
	case STELE_FETCH_ASK:
		return do_ask(g, unit, a);
	case STELE_FETCH_LOCATE:
		return do_locate(g, unit, a);
	case STELE_FETCH_REPORT:
		return do_report(g, unit, a);
	case STELE_FETCH_RESET:
		stele_get_clear_unit(g, unit);
		return true;
	}
	return true;
}
