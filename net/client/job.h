/*
 * What requests of a session are made of: a job with calls, work on worker threads, and timers under way. A job that is over
 * cancels what it can, waits for the rest, and then has its release called, from the loop. Internal to net/client.
 */
#ifndef NET_CLIENT_JOB_H
#define NET_CLIENT_JOB_H

#include "net/wire/peer.h"
#include "storage/io/env.h"

struct stele_session;
struct stele_job;
struct stele_job_call;

struct stele_job_timer {
	struct stele_op op;
	struct stele_job *job;
	struct stele_job_timer *next, *prev;      /* of the job's that are under way */
	uint64_t at;                              /* 0: off */
	void (*fired)(struct stele_job_timer *t); /* not called when the job is over */
};

struct stele_job {
	struct stele_session *session;
	struct stele_job_call *calls;
	struct stele_job_timer *timers;
	uint32_t pending; /* calls, works, timers whose callback has not run */
	bool started, over;
	uint64_t epoch; /* of the map that the job's windows were computed under */
	struct stele_op soon;
	struct stele_job_timer reload;
	void (*reloaded)(struct stele_job *job, bool changed);
	void (*cancel)(struct stele_job *job); /* somebody wants it to end early */
	void (*release)(
	    struct stele_job *job); /* nothing is under way any more: the request's end */
};

void stele_job_start(struct stele_job *job, struct stele_session *session,
                     void (*cancel)(struct stele_job *job), void (*release)(struct stele_job *job));
/* The outcome stands. Calls end without their done; release follows later. May be repeated. */
void stele_job_over(struct stele_job *job);

/* Something else of the job's is under way, until unhold. */
void stele_job_hold(struct stele_job *job);
void stele_job_unhold(struct stele_job *job);

/* ---- calls ---- */

struct stele_job_call {
	struct stele_call call; /* err, detail, reply: see net/wire/peer.h */
	struct stele_job *job;
	struct stele_job_call *next, *prev;
	uint16_t node;
	bool sent, dropped;
	bool keep; /* goes on when the job is over, which waits for it */
	struct stele_op timer;
	struct stele_writer head; /* to be written before it is sent */
	struct iovec body, into;
	uint8_t *reply; /* the call's own buffer for a reply's body; freed with it */
	void (*done)(struct stele_job_call *c); /* the call is freed afterwards */
	/* the user's */
	uint32_t unit, item, at;
	uint64_t tag;
	void *ctx;
};

/* NULL: no memory. head_cap: room for the head. reply_cap: room for a reply's body, or 0. */
struct stele_job_call *stele_job_call_new(struct stele_job *job, uint16_t node, uint16_t op,
                                          size_t head_cap, size_t reply_cap);
/* Sends it after delay_ns. done is called once, unless the call is dropped or the job over. */
void stele_job_call_send(struct stele_job_call *c, uint64_t timeout_ns, uint64_t delay_ns,
                         void (*done)(struct stele_job_call *c));
/* Its result is of no interest, its buffers are not touched any more. */
void stele_job_call_drop(struct stele_job_call *c);
/* The node itself replied, with whatever result. */
static inline bool stele_job_call_answered(const struct stele_job_call *c)
{
	return c->call.err == STELE_OK || c->call.reply_epoch != 0;
}

/* ---- work ---- */

struct stele_job_work {
	struct stele_op op;
	struct stele_job *job;
	void (*run)(struct stele_job_work *w);  /* on a worker */
	void (*done)(struct stele_job_work *w); /* on the loop; not called when the job is over */
	enum stele_err err;                     /* for run's use; CANCELLED: it did not run */
	char detail[STELE_DETAIL_MAX];
};
/* slow: may block (files, pipes), and must not hold up hashing. */
void stele_job_work(struct stele_job_work *w, struct stele_job *job, bool slow,
                    void (*run)(struct stele_job_work *w), void (*done)(struct stele_job_work *w));

/* ---- timers ---- */

/* Fires once at that time, instead of at an earlier setting; at 0: not at all. */
void stele_job_timer_set(struct stele_job_timer *t, struct stele_job *job, uint64_t at,
                         void (*fired)(struct stele_job_timer *t));

/* ---- the map ---- */

/* Fetches a newer map if some node has shown one (or, node not 0, whatever that node has). done(changed): the session's map
 * is not the one of job->epoch any more, which is brought up to date. Never called from within. */
void stele_job_reload(struct stele_job *job, uint16_t node,
                      void (*done)(struct stele_job *job, bool changed));

#endif
