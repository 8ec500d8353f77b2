/*
 * Adds a mark: fills, signs and packs it, then spreads copies over its id's record window like a put does with records.
 * Delete, hold and release go to every disk of the window, because each of them decides (DESIGN P7).
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/client/session_private.h"
#include "net/client/spread.h"

struct mark_job {
	struct stele_mark_request *req;
	struct stele_spread spread;
	uint32_t enough;
	uint16_t stale_node;
	bool reloading;
	uint8_t packed[STELE_MARK_PACKED_MAX];
	size_t packed_len;
};

static void pump(struct mark_job *j);

static struct mark_job *job_of(struct stele_job *job)
{
	return ((struct stele_mark_request *)job)->priv;
}

static uint32_t held(const struct mark_job *j)
{
	return (uint32_t)__builtin_popcountll(stele_spread_held(&j->spread));
}

static void end(struct mark_job *j, enum stele_err err, const char *detail)
{
	STELE_REQUEST_END(j->req, err, detail);
	stele_job_over(&j->req->job);
}

static void finish(struct mark_job *j)
{
	char why[STELE_DETAIL_MAX / 2], detail[STELE_DETAIL_MAX];
	if (held(j) >= j->enough) {
		end(j, STELE_OK, "");
		return;
	}
	stele_spread_describe(&j->spread, why, sizeof(why));
	snprintf(detail, sizeof(detail), "the mark could be stored on %u disks, %u are needed (%s)",
	         held(j), j->enough, why);
	end(j, stele_spread_denied(&j->spread) ? STELE_ERR_DENIED : STELE_ERR_UNAVAILABLE, detail);
}

static void marked(struct stele_job_call *c)
{
	struct mark_job *j = job_of(c->job);
	stele_spread_result(&j->spread, c->item, c->call.err);
	if (c->call.err == STELE_ERR_STALE)
		j->stale_node = c->node;
	pump(j);
}

static void send(struct mark_job *j, const struct stele_spread_send *send)
{
	struct stele_job_call *c = stele_job_call_new(&j->req->job, send->disk.node,
	                                              STELE_OPCODE_MARK_ADD, j->packed_len + 64, 0);
	if (!c) {
		end(j, STELE_ERR_NOMEM, "mark: out of memory");
		return;
	}
	struct stele_head_mark_add head = {
	    .slot = send->disk.slot, .mark = j->packed, .mark_len = (uint32_t)j->packed_len};
	stele_head_mark_add_encode(&head, &c->head);
	c->item = send->item;
	stele_job_call_send(c, STELE_CALL_NS, send->delay_ns, marked);
}

static const struct stele_pool *records(struct mark_job *j)
{
	return stele_map_pool(stele_session_map(j->req->job.session), STELE_POOL_RECORD);
}

static void reloaded(struct stele_job *job, bool changed)
{
	struct mark_job *j = job_of(job);
	struct stele_window w;
	j->reloading = false;
	if (changed && records(j)) {
		stele_session_window(job->session, records(j), &j->req->mark.object, &w);
		stele_spread_replace(&j->spread, &w, true);
	} else {
		stele_spread_unstale(&j->spread);
	}
	pump(j);
}

static void pump(struct mark_job *j)
{
	struct stele_spread_send next;
	if (stele_spread_stale(&j->spread)) {
		if (stele_spread_sending(&j->spread) || j->reloading)
			return;
		j->reloading = true;
		stele_job_reload(&j->req->job, j->stale_node, reloaded);
		return;
	}
	while (!j->req->job.over && stele_spread_next(&j->spread, &next))
		send(j, &next);
	if (!j->req->job.over && stele_spread_settled(&j->spread))
		finish(j);
}

static enum stele_err pack(struct mark_job *j)
{
	struct stele_session *s = j->req->job.session;
	struct stele_mark *m = &j->req->mark;
	struct stele_sig sig;
	char text[STELE_MARK_MAX];
	size_t len;
	if (!s->may_sign)
		return stele_fail(STELE_ERR_DENIED,
		                  "the key file holds no signing key: marks need one");
	m->cluster = stele_session_map(s)->cluster;
	m->author = s->sign.pub;
	m->time = (uint64_t)stele_env_wall(s->env);
	stele_env_random(s->env, m->nonce.b, sizeof(m->nonce.b));
	STELE_TRY(stele_mark_encode(m, text, &len));
	stele_sign(&s->sign, text, len, &sig);
	stele_mark_hash(text, len, &j->req->mark_id);
	return stele_mark_pack(text, len, &sig, j->packed, &j->packed_len);
}

static enum stele_err begin(struct mark_job *j)
{
	const struct stele_pool *pool = records(j);
	enum stele_mark_kind kind = j->req->mark.kind;
	struct stele_window w;
	if (!pool)
		return stele_fail(STELE_ERR_CORRUPT, "the cluster map has no record pool");
	STELE_TRY(pack(j));
	stele_session_window(j->req->job.session, pool, &j->req->mark.object, &w);
	bool all =
	    kind == STELE_MARK_DELETE || kind == STELE_MARK_HOLD || kind == STELE_MARK_RELEASE;
	uint32_t copies = all ? w.n : (uint32_t)pool->code.k + pool->code.m;
	j->enough = copies < pool->min_margin + 1u ? copies : pool->min_margin + 1u;
	if (j->enough == 0)
		return stele_fail(STELE_ERR_UNAVAILABLE, "the cluster map has no disk for it");
	stele_spread_init(&j->spread, &w, copies < STELE_CODE_N_MAX ? copies : STELE_CODE_N_MAX, 0);
	return STELE_OK;
}

static void release(struct stele_job *job)
{
	struct stele_mark_request *req = (struct stele_mark_request *)job;
	free(req->priv);
	req->priv = NULL;
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	end(job_of(job), STELE_ERR_CANCELLED, "cancelled");
}

void stele_session_mark(struct stele_session *s, struct stele_mark_request *req)
{
	struct mark_job *j = calloc(1, sizeof(*j));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = j;
	enum stele_err err = STELE_OK;
	if (j) {
		j->req = req;
		err = begin(j);
	} else {
		err = stele_fail(STELE_ERR_NOMEM, "mark: out of memory");
	}
	if (err == STELE_OK) {
		pump(j);
		return;
	}
	STELE_REQUEST_END(req, err, stele_detail());
	stele_job_over(&req->job);
}
