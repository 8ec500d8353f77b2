/*
 * A session and the parts of its jobs: calls, work, timers, the map. What the jobs do is in session_*.c.
 */
#include "net/client/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/session_private.h"

#define RELOAD_NS (5ull * 1000 * 1000 * 1000)

/* ---- life ---- */

enum stele_err stele_session_create(const struct stele_session_opts *opts,
                                    struct stele_session **out)
{
	struct stele_session *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "session: out of memory");
	s->env = opts->env;
	s->may_sign = opts->sign != NULL;
	if (opts->sign)
		s->sign = *opts->sign;
	enum stele_err err = stele_peers_create(opts->env, opts->transport, opts->map, &s->peers);
	if (err != STELE_OK) {
		free(s);
		return err;
	}
	*out = s;
	return STELE_OK;
}

void stele_session_close(struct stele_session *s, void (*done)(void *ctx), void *ctx)
{
	assert(s->jobs == 0);
	stele_peers_close(s->peers, done, ctx);
}

void stele_session_destroy(struct stele_session *s)
{
	if (!s)
		return;
	stele_peers_destroy(s->peers);
	explicit_bzero(&s->sign, sizeof(s->sign));
	free(s);
}

struct stele_env *stele_session_env(struct stele_session *s)
{
	return s->env;
}

struct stele_map *stele_session_map(struct stele_session *s)
{
	return stele_peers_map(s->peers);
}

struct stele_peers *stele_session_peers(struct stele_session *s)
{
	return s->peers;
}

void stele_session_window(struct stele_session *s, const struct stele_pool *pool,
                          const struct stele_hash *id, struct stele_window *out)
{
	uint64_t fence;
	stele_place(stele_session_map(s), pool, stele_pg_of(pool, id),
	            stele_window_width(&pool->code), out, &fence);
}

/* ---- jobs ---- */

static void on_release(struct stele_op *op)
{
	struct stele_job *job = op->ctx;
	job->session->jobs--;
	job->release(job); /* the job may be gone now */
}

static void maybe_release(struct stele_job *job)
{
	if (!job->over || job->pending > 0 || stele_op_pending(&job->soon))
		return;
	job->soon = (struct stele_op){.kind = STELE_OP_TIMER, .cb = on_release, .ctx = job};
	stele_env_submit(job->session->env, &job->soon);
}

static void ended(struct stele_job *job)
{
	assert(job->pending > 0);
	job->pending--;
	maybe_release(job);
}

void stele_job_start(struct stele_job *job, struct stele_session *session,
                     void (*cancel)(struct stele_job *job), void (*release)(struct stele_job *job))
{
	*job = (struct stele_job){
	    .session = session, .started = true, .cancel = cancel, .release = release};
	job->epoch = stele_map_epoch(stele_session_map(session));
	session->jobs++;
}

void stele_job_over(struct stele_job *job)
{
	if (!job->over) {
		job->over = true;
		for (struct stele_job_call *c = job->calls, *next; c; c = next) {
			next = c->next;
			if (!c->keep)
				stele_job_call_drop(c);
		}
		for (struct stele_job_timer *t = job->timers; t; t = t->next)
			stele_env_cancel(job->session->env, &t->op);
	}
	maybe_release(job);
}

void stele_job_hold(struct stele_job *job)
{
	job->pending++;
}

void stele_job_unhold(struct stele_job *job)
{
	ended(job);
}

void stele_request_cancel(struct stele_job *job)
{
	if (job->started && !job->over)
		job->cancel(job);
}

/* ---- calls ---- */

struct stele_job_call *stele_job_call_new(struct stele_job *job, uint16_t node, uint16_t op,
                                          size_t head_cap, size_t reply_cap)
{
	struct stele_job_call *c = calloc(1, sizeof(*c));
	uint8_t *head = malloc(head_cap ? head_cap : 1);
	uint8_t *reply = reply_cap ? malloc(reply_cap) : NULL;
	if (!c || !head || (reply_cap && !reply)) {
		free(c);
		free(head);
		free(reply);
		return NULL;
	}
	c->job = job;
	c->node = node;
	c->head = stele_writer(head, head_cap);
	c->reply = reply;
	c->into = (struct iovec){.iov_base = reply, .iov_len = reply_cap};
	c->call.op = op;
	c->next = job->calls;
	if (c->next)
		c->next->prev = c;
	job->calls = c;
	return c;
}

static void call_free(struct stele_job_call *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->job->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	free(c->head.start);
	free(c->reply);
	free(c);
}

static void call_ended(struct stele_call *call)
{
	struct stele_job_call *c = call->ctx;
	struct stele_job *job = c->job;
	struct stele_session *s = job->session;
	if (call->reply_epoch > stele_map_epoch(stele_session_map(s))) {
		s->newer_epoch = call->reply_epoch;
		s->newer_node = c->node;
	}
	if (!c->dropped && !job->over)
		c->done(c);
	call_free(c);
	ended(job);
}

static void call_now(struct stele_job_call *c)
{
	c->sent = true;
	stele_peers_call(c->job->session->peers, c->node, &c->call);
}

static void call_due(struct stele_op *op)
{
	struct stele_job_call *c = op->ctx;
	struct stele_job *job = c->job;
	if (!c->dropped) {
		call_now(c);
		return;
	}
	call_free(c);
	ended(job);
}

void stele_job_call_send(struct stele_job_call *c, uint64_t timeout_ns, uint64_t delay_ns,
                         void (*done)(struct stele_job_call *c))
{
	assert(!c->head.bad && !c->job->over);
	c->done = done;
	c->call.head = c->head.start;
	c->call.head_len = (uint32_t)stele_written(&c->head);
	c->call.body = &c->body;
	c->call.nbody = c->body.iov_len > 0;
	c->call.into = &c->into;
	c->call.ninto = c->into.iov_len > 0;
	c->call.timeout_ns = timeout_ns;
	c->call.cb = call_ended;
	c->call.ctx = c;
	c->job->pending++;
	if (delay_ns == 0) {
		call_now(c);
		return;
	}
	c->timer = (struct stele_op){.kind = STELE_OP_TIMER,
	                             .off = stele_env_now(c->job->session->env) + delay_ns,
	                             .cb = call_due,
	                             .ctx = c};
	stele_env_submit(c->job->session->env, &c->timer);
}

void stele_job_call_drop(struct stele_job_call *c)
{
	if (c->dropped)
		return;
	c->dropped = true;
	if (c->sent)
		stele_peers_cancel(c->job->session->peers, c->node, &c->call);
	else
		stele_env_cancel(c->job->session->env, &c->timer);
}

struct stele_job_call *stele_have_call(struct stele_job *job, struct stele_window_disk disk,
                                       uint16_t pool, const struct stele_hash *block, uint32_t n)
{
	struct stele_job_call *c = stele_job_call_new(job, disk.node, STELE_OPCODE_HAVE,
	                                              4 + (size_t)n * STELE_WIRE_KEY_LEN, 0);
	if (!c)
		return NULL;
	stele_write_le16(&c->head, disk.slot);
	stele_write_le16(&c->head, (uint16_t)n);
	for (uint32_t i = 0; i < n; i++)
		stele_write_key(&c->head, &(struct stele_key){.pool = pool,
		                                              .kind = STELE_ENTRY_SHARD,
		                                              .index = (uint8_t)i,
		                                              .id = *block});
	return c;
}

/* ---- work ---- */

static void work_run(struct stele_op *op)
{
	struct stele_job_work *w = op->ctx;
	w->err = STELE_OK;
	w->run(w);
	if (w->err != STELE_OK)
		stele_detail_copy(w->detail);
}

static void work_done(struct stele_op *op)
{
	struct stele_job_work *w = op->ctx;
	struct stele_job *job = w->job;
	if (op->result < 0) {
		w->err = STELE_ERR_CANCELLED;
		snprintf(w->detail, sizeof(w->detail), "cancelled");
	}
	if (!job->over)
		w->done(w);
	ended(job);
}

void stele_job_work(struct stele_job_work *w, struct stele_job *job, bool slow,
                    void (*run)(struct stele_job_work *w), void (*done)(struct stele_job_work *w))
{
	assert(!job->over && !stele_op_pending(&w->op));
	w->job = job;
	w->run = run;
	w->done = done;
	w->detail[0] = '\0';
	w->op = (struct stele_op){.kind = STELE_OP_WORK,
	                          .flags = slow ? STELE_WORK_LONG : 0,
	                          .work = work_run,
	                          .cb = work_done,
	                          .ctx = w};
	job->pending++;
	stele_env_submit(job->session->env, &w->op);
}

/* ---- timers ---- */

static void timer_submit(struct stele_job_timer *t);

static void timer_due(struct stele_op *op)
{
	struct stele_job_timer *t = op->ctx;
	struct stele_job *job = t->job;
	if (t->prev)
		t->prev->next = t->next;
	else
		job->timers = t->next;
	if (t->next)
		t->next->prev = t->prev;
	if (!job->over && t->at != 0) {
		if (stele_env_now(job->session->env) < t->at) {
			timer_submit(t);
		} else {
			t->at = 0;
			t->fired(t);
		}
	}
	ended(job);
}

static void timer_submit(struct stele_job_timer *t)
{
	t->op = (struct stele_op){.kind = STELE_OP_TIMER, .off = t->at, .cb = timer_due, .ctx = t};
	t->prev = NULL;
	t->next = t->job->timers;
	if (t->next)
		t->next->prev = t;
	t->job->timers = t;
	t->job->pending++;
	stele_env_submit(t->job->session->env, &t->op);
}

void stele_job_timer_set(struct stele_job_timer *t, struct stele_job *job, uint64_t at,
                         void (*fired)(struct stele_job_timer *t))
{
	t->job = job;
	t->at = at;
	t->fired = fired;
	if (stele_op_pending(&t->op)) {
		if (at == 0 || at < t->op.off)
			stele_env_cancel(job->session->env, &t->op); /* timer_due looks again */
	} else if (at != 0) {
		timer_submit(t);
	}
}

/* ---- the map ---- */

static void tell_reloaded(struct stele_job *job)
{
	uint64_t epoch = stele_map_epoch(stele_session_map(job->session));
	bool changed = epoch != job->epoch;
	job->epoch = epoch;
	job->reloaded(job, changed);
}

static void map_came(struct stele_job_call *c)
{
	struct stele_session *s = c->job->session;
	struct stele_map *map, *held = stele_session_map(s);
	if (c->call.err == STELE_OK &&
	    stele_map_parse((const char *)c->reply, c->call.reply_body_len, held, &map) ==
	        STELE_OK) {
		if (stele_map_epoch(map) > stele_map_epoch(held))
			stele_peers_set_map(s->peers, map);
		stele_map_unref(map);
	}
	s->newer_epoch = 0; /* whoever showed it has given it, or cannot */
	tell_reloaded(c->job);
}

static void nothing_newer(struct stele_job_timer *t)
{
	tell_reloaded(t->job);
}

void stele_job_reload(struct stele_job *job, uint16_t node,
                      void (*done)(struct stele_job *job, bool changed))
{
	struct stele_session *s = job->session;
	struct stele_job_call *c = NULL;
	job->reloaded = done;
	if (node == 0 && s->newer_epoch > stele_map_epoch(stele_session_map(s)))
		node = s->newer_node;
	if (node != 0)
		c = stele_job_call_new(job, node, STELE_OPCODE_MAP_GET, 0, STELE_MAP_MAX);
	if (c)
		stele_job_call_send(c, RELOAD_NS, 0, map_came);
	else
		stele_job_timer_set(&job->reload, job, stele_env_now(s->env), nothing_newer);
}
