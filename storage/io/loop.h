/*
 * What both real envs share: the queue of operations whose callbacks are due, timers, worker
 * threads, and the inbox through which other threads reach the loop. An implementation embeds
 * struct stele_loop as its first member, waits for its own events, and calls stele_loop_turn.
 *
 * All functions: the loop's thread, unless said otherwise.
 */
#ifndef STORAGE_IO_LOOP_H
#define STORAGE_IO_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "storage/io/op_list.h"
#include "storage/io/workers.h"

enum stele_op_state { /* of priv.state */
	              STELE_OP_IDLE = 0,
	              STELE_OP_UNDER_WAY,
	              STELE_OP_READY, /* its result is known; the callback is due */
};

struct stele_loop {
	struct stele_env env;
	uint64_t under_way; /* operations submitted whose callback has not run */
	struct stele_op_list ready;
	struct stele_op **timers; /* a binary heap by (off, seq) */
	uint32_t timers_n;
	uint32_t timers_cap;
	uint64_t seq;
	struct stele_workers *brief;
	struct stele_workers *lengthy;
	/* Called for an op other than WORK that a worker handed back with stele_loop_done. */
	void (*returned)(struct stele_loop *loop, struct stele_op *op);

	pthread_mutex_t lock; /* over the three fields below */
	struct stele_op_list done;
	struct stele_msg *msg_head, **msg_tail;
	bool woken;
	int wake_fd; /* an eventfd, readable when stele_loop_woken has something to do */
	atomic_bool stop;
};

/* NOMEM, IO. */
STELE_MUST_USE enum stele_err
stele_loop_init(struct stele_loop *loop, const struct stele_env_ops *ops,
                const struct stele_env_opts *opts,
                void (*returned)(struct stele_loop *loop, struct stele_op *op));
void stele_loop_finish(struct stele_loop *loop);

/* Begins a submitted op: true when it was a TIMER or WORK, which are the loop's own. */
bool stele_loop_begin(struct stele_loop *loop, struct stele_op *op);
/* Cancels a TIMER or WORK. */
void stele_loop_cancel(struct stele_loop *loop, struct stele_op *op);
/* Has a worker look up the host of a CONNECT (net.h); the op comes back through `returned`. */
void stele_loop_resolve(struct stele_loop *loop, struct stele_op *op);
/* Takes it back; false when a worker has begun. */
bool stele_loop_resolve_remove(struct stele_loop *loop, struct stele_op *op);
/* The op is over: its callback runs in the next turn. It is in no list any more. */
void stele_loop_ready(struct stele_loop *loop, struct stele_op *op, int64_t result);
/* Takes what other threads left; call it when wake_fd is readable. */
void stele_loop_woken(struct stele_loop *loop);
/* Fires timers and runs the callbacks due by now. Returns how long to wait for events, in
 * nanoseconds: 0 not at all, UINT64_MAX until one comes. */
uint64_t stele_loop_turn(struct stele_loop *loop);
/* True once after each stop. */
bool stele_loop_stopped(struct stele_loop *loop);

/* Thread: any. A worker is through with op. */
void stele_loop_done(struct stele_loop *loop, struct stele_op *op);

/* Entries for struct stele_env_ops. */
void stele_loop_post(struct stele_env *env, struct stele_msg *msg);
void stele_loop_stop(struct stele_env *env);
uint64_t stele_loop_now(struct stele_env *env);
int64_t stele_loop_wall(struct stele_env *env);
void stele_loop_random(struct stele_env *env, void *out, size_t len);
int64_t stele_loop_call(struct stele_env *env, struct stele_op *op);

#endif
