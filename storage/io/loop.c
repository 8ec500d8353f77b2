/* The part of an event loop that does not depend on how the kernel is asked. */
#include "storage/io/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/io/net.h"
#include "storage/io/sys.h"

#define WORKERS_DEFAULT 2u
#define WAIT_MAX_NS     3600000000000u /* the kernel adds it to its clock */

/* Timers: a binary heap; priv.heap is an op's place in it. */

static bool timer_before(const struct stele_op *a, const struct stele_op *b)
{
	return a->off != b->off ? a->off < b->off : a->priv.seq < b->priv.seq;
}

static void timer_put(struct stele_loop *loop, uint32_t i, struct stele_op *op)
{
	loop->timers[i] = op;
	op->priv.heap = i;
}

static void timer_up(struct stele_loop *loop, uint32_t i)
{
	struct stele_op *op = loop->timers[i];
	while (i > 0 && timer_before(op, loop->timers[(i - 1) / 2])) {
		timer_put(loop, i, loop->timers[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	timer_put(loop, i, op);
}

static void timer_down(struct stele_loop *loop, uint32_t i)
{
	struct stele_op *op = loop->timers[i];
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= loop->timers_n)
			break;
		if (child + 1 < loop->timers_n &&
		    timer_before(loop->timers[child + 1], loop->timers[child]))
			child++;
		if (!timer_before(loop->timers[child], op))
			break;
		timer_put(loop, i, loop->timers[child]);
		i = child;
	}
	timer_put(loop, i, op);
}

static bool timer_add(struct stele_loop *loop, struct stele_op *op)
{
	if (loop->timers_n == loop->timers_cap) {
		uint32_t cap = loop->timers_cap ? 2 * loop->timers_cap : 64;
		struct stele_op **more = realloc(loop->timers, cap * sizeof(more[0]));
		if (!more)
			return false;
		loop->timers = more;
		loop->timers_cap = cap;
	}
	op->priv.seq = loop->seq++;
	timer_put(loop, loop->timers_n++, op);
	timer_up(loop, op->priv.heap);
	return true;
}

static void timer_remove(struct stele_loop *loop, struct stele_op *op)
{
	uint32_t i = op->priv.heap;
	struct stele_op *last = loop->timers[--loop->timers_n];
	if (last == op)
		return;
	timer_put(loop, i, last);
	timer_up(loop, i);
	timer_down(loop, last->priv.heap);
}

/* Workers */

static void run_work(void *ctx, struct stele_op *op)
{
	if (op->kind == STELE_OP_CONNECT) {
		stele_connect_resolve(op);
	} else {
		op->result = 0;
		op->work(op);
	}
	stele_loop_done(ctx, op);
}

static struct stele_workers *workers_of(struct stele_loop *loop, const struct stele_op *op)
{
	assert(op->kind == STELE_OP_WORK);
	return op->flags & STELE_WORK_LONG ? loop->lengthy : loop->brief;
}

enum stele_err stele_loop_init(struct stele_loop *loop, const struct stele_env_ops *ops,
                               const struct stele_env_opts *opts,
                               void (*returned)(struct stele_loop *loop, struct stele_op *op))
{
	memset(loop, 0, sizeof(*loop));
	loop->env.ops = ops;
	loop->returned = returned;
	loop->msg_tail = &loop->msg_head;
	atomic_init(&loop->stop, false);
	uint32_t workers = opts && opts->workers ? opts->workers : WORKERS_DEFAULT;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return stele_fail_errno(errno, "event loop: eventfd");
	pthread_mutex_init(&loop->lock, NULL);
	enum stele_err err = stele_workers_create(workers, run_work, loop, &loop->brief);
	if (err == STELE_OK)
		err = stele_workers_create(workers, run_work, loop, &loop->lengthy);
	if (err != STELE_OK)
		stele_loop_finish(loop);
	return err;
}

void stele_loop_finish(struct stele_loop *loop)
{
	assert(loop->under_way == 0);
	stele_workers_destroy(loop->brief);
	stele_workers_destroy(loop->lengthy);
	pthread_mutex_destroy(&loop->lock);
	close(loop->wake_fd);
	free(loop->timers);
}

bool stele_loop_begin(struct stele_loop *loop, struct stele_op *op)
{
	loop->under_way++;
	op->priv.state = STELE_OP_UNDER_WAY;
	op->priv.next = op->priv.prev = NULL;
	op->priv.slot = NULL;
	op->priv.done = 0;
	op->result = 0;
	if (op->kind == STELE_OP_TIMER) {
		if (!timer_add(loop, op))
			stele_loop_ready(loop, op, -ENOMEM);
		return true;
	}
	if (op->kind == STELE_OP_WORK) {
		stele_workers_add(workers_of(loop, op), op);
		return true;
	}
	return false;
}

void stele_loop_cancel(struct stele_loop *loop, struct stele_op *op)
{
	if (op->kind == STELE_OP_TIMER)
		timer_remove(loop, op);
	else if (!stele_workers_remove(workers_of(loop, op), op))
		return; /* a worker has it: its result comes */
	stele_loop_ready(loop, op, -ECANCELED);
}

void stele_loop_resolve(struct stele_loop *loop, struct stele_op *op)
{
	stele_workers_add(loop->lengthy, op);
}

bool stele_loop_resolve_remove(struct stele_loop *loop, struct stele_op *op)
{
	return stele_workers_remove(loop->lengthy, op);
}

void stele_loop_ready(struct stele_loop *loop, struct stele_op *op, int64_t result)
{
	assert(op->priv.state == STELE_OP_UNDER_WAY);
	op->priv.state = STELE_OP_READY;
	op->result = result;
	stele_op_list_push(&loop->ready, op);
}

static void wake(struct stele_loop *loop)
{
	uint64_t one = 1;
	ssize_t n = write(loop->wake_fd, &one, sizeof(one));
	assert(n == sizeof(one)); /* the counter cannot be full */
	(void)n;
}

void stele_loop_done(struct stele_loop *loop, struct stele_op *op)
{
	pthread_mutex_lock(&loop->lock);
	stele_op_list_push(&loop->done, op);
	bool asleep = !loop->woken;
	loop->woken = true;
	pthread_mutex_unlock(&loop->lock);
	if (asleep) /* without the lock, which the loop wants next; workers end before the loop does */
		wake(loop);
}

void stele_loop_post(struct stele_env *env, struct stele_msg *msg)
{
	struct stele_loop *loop = (struct stele_loop *)env;
	pthread_mutex_lock(&loop->lock);
	msg->next = NULL;
	*loop->msg_tail = msg;
	loop->msg_tail = &msg->next;
	if (!loop->woken) /* under the lock: whoever posts may outlive the loop */
		wake(loop);
	loop->woken = true;
	pthread_mutex_unlock(&loop->lock);
}

void stele_loop_woken(struct stele_loop *loop)
{
	uint64_t count;
	ssize_t n = read(loop->wake_fd, &count, sizeof(count));
	(void)n; /* nothing to read is no harm */
	pthread_mutex_lock(&loop->lock);
	loop->woken = false;
	struct stele_op_list done = loop->done;
	struct stele_msg *msg = loop->msg_head;
	loop->done = (struct stele_op_list){0};
	loop->msg_head = NULL;
	loop->msg_tail = &loop->msg_head;
	pthread_mutex_unlock(&loop->lock);
	struct stele_op *op;
	while ((op = stele_op_list_pop(&done))) {
		if (op->kind == STELE_OP_WORK)
			stele_loop_ready(loop, op, op->result);
		else
			loop->returned(loop, op);
	}
	while (msg) {
		struct stele_msg *next = msg->next; /* the message may be gone when run returns */
		msg->run(msg);
		msg = next;
	}
}

uint64_t stele_loop_turn(struct stele_loop *loop)
{
	uint64_t now = loop->timers_n ? stele_sys_now() : 0;
	while (loop->timers_n && loop->timers[0]->off <= now) {
		struct stele_op *op = loop->timers[0];
		timer_remove(loop, op);
		stele_loop_ready(loop, op, 0);
	}
	/* Only what is due by now: operations that callbacks submit wait for the next turn, so that
	 * none can keep the loop from its events. */
	struct stele_op_list batch = loop->ready;
	loop->ready = (struct stele_op_list){0};
	struct stele_op *op;
	while ((op = stele_op_list_pop(&batch))) {
		op->priv.state = STELE_OP_IDLE;
		loop->under_way--;
		op->cb(op);
	}
	if (loop->ready.head)
		return 0;
	if (loop->timers_n == 0)
		return UINT64_MAX;
	now = stele_sys_now();
	uint64_t at = loop->timers[0]->off;
	uint64_t wait = at > now ? at - now : 0;
	return wait < WAIT_MAX_NS ? wait : WAIT_MAX_NS;
}

bool stele_loop_stopped(struct stele_loop *loop)
{
	return atomic_exchange(&loop->stop, false);
}

void stele_loop_stop(struct stele_env *env)
{
	struct stele_loop *loop = (struct stele_loop *)env;
	int saved = errno; /* we may be in a signal handler */
	uint64_t one = 1;
	atomic_store(&loop->stop, true);
	ssize_t n = write(loop->wake_fd, &one, sizeof(one));
	(void)n; /* a full counter is readable already */
	errno = saved;
}

uint64_t stele_loop_now(struct stele_env *env)
{
	(void)env;
	return stele_sys_now();
}

int64_t stele_loop_wall(struct stele_env *env)
{
	(void)env;
	return stele_sys_wall();
}

void stele_loop_random(struct stele_env *env, void *out, size_t len)
{
	(void)env;
	stele_sys_random(out, len);
}

int64_t stele_loop_call(struct stele_env *env, struct stele_op *op)
{
	(void)env;
	return stele_sys_call(op);
}
