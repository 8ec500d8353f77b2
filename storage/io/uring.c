/*
 * env_uring: one ring per env, the only user of liburing. Files and sockets go through the ring;
 * timers are one heap in user space (loop.c) and the timeout of the wait; workers and posts wake
 * the ring through an eventfd that it polls.
 *
 * Every operation meant for the kernel has a slot from submit to its end. A completion names its
 * slot and the slot's generation, so that it cannot be taken for another operation's. Operations
 * wait in two queues until the submission queue has room: those on sockets may sleep in the kernel
 * for long, so only those on disks count against the depth. Completions are all reaped first;
 * callbacks run afterwards, in stele_loop_turn. What is registered with the ring, and how an operation
 * becomes an entry for it: ring.h.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/io/loop.h"
#include "storage/io/net.h"
#include "storage/io/ring.h"
#include "storage/io/sys.h"

#define DEPTH_DEFAULT 256u
#define DEPTH_MAX     4096u
#define REFUSED_NS    1000000u /* until the next try when the kernel takes no submission */

/* user_data of what has no slot */
#define TAG_WAKE   UINT64_MAX
#define TAG_CANCEL (UINT64_MAX - 1)

enum phase {
	PHASE_FREE,
	PHASE_QUEUED,    /* in todo_disk or todo_net */
	PHASE_KERNEL,    /* until its completion is reaped, the kernel may use what it points to */
	PHASE_RESOLVING, /* a CONNECT whose host a worker looks up */
};

struct slot {
	struct stele_op *op;
	uint32_t index;
	uint32_t gen;
	enum phase phase;
	bool cancelled;    /* asked for; a result that came first still counts */
	bool closed;       /* its socket is being closed: it ends with -ECANCELED whatever came */
	bool wants_cancel; /* the kernel has not been told yet */
	struct stele_op *closer; /* a CLOSE that waits for this operation */
	struct slot *next_free;
	struct msghdr msg;
};

struct uring {
	struct stele_loop loop;
	struct stele_ring ring;
	bool started; /* enabled, by the thread that runs it */
	bool wake_armed;
	bool woken;
	pthread_t thread;
	uint32_t depth;
	uint32_t disk_n; /* disk operations in the kernel */
	struct stele_op_list todo_disk;
	struct stele_op_list todo_net;
	uint32_t wants_cancel_n;
	struct slot **slots;
	uint32_t slots_n;
	uint32_t slots_cap;
	struct slot *free_slots;
};

static struct uring *uring_of(struct stele_env *env)
{
	return (struct uring *)env;
}

/* Slots: priv.gen of an op is its user_data, whose lower half is the slot's index. */

static uint64_t user_data(const struct slot *slot)
{
	return (uint64_t)slot->gen << 32 | slot->index;
}

static struct slot *slot_of(struct uring *u, const struct stele_op *op)
{
	struct slot *slot = u->slots[(uint32_t)op->priv.gen];
	assert(slot->op == op && user_data(slot) == op->priv.gen);
	return slot;
}

static bool add_slot(struct uring *u)
{
	if (u->slots_n == u->slots_cap) {
		uint32_t cap = u->slots_cap ? 2 * u->slots_cap : 256;
		struct slot **more = realloc(u->slots, cap * sizeof(more[0]));
		if (!more)
			return false;
		u->slots = more;
		u->slots_cap = cap;
	}
	struct slot *slot = calloc(1, sizeof(*slot));
	if (!slot)
		return false;
	slot->index = u->slots_n;
	slot->next_free = u->free_slots;
	u->free_slots = slot;
	u->slots[u->slots_n++] = slot;
	return true;
}

static struct slot *take_slot(struct uring *u, struct stele_op *op)
{
	if (!u->free_slots && !add_slot(u))
		return NULL;
	struct slot *slot = u->free_slots;
	u->free_slots = slot->next_free;
	*slot = (struct slot){.op = op, .index = slot->index, .gen = slot->gen + 1};
	op->priv.gen = user_data(slot);
	return slot;
}

static struct stele_op_list *queue_of(struct uring *u, const struct stele_op *op)
{
	return stele_ring_is_disk(op) ? &u->todo_disk : &u->todo_net;
}

static void enqueue(struct uring *u, struct slot *slot)
{
	slot->phase = PHASE_QUEUED;
	stele_op_list_push(queue_of(u, slot->op), slot->op);
}

static void finish_close(struct uring *u, struct stele_op *op)
{
	stele_loop_ready(&u->loop, op, stele_sys_call(op));
}

/* The operation is in no queue and not in the kernel: it ends. */
static void over(struct uring *u, struct slot *slot, int64_t result)
{
	struct stele_op *op = slot->op;
	struct stele_op *closer = slot->closer;
	if (slot->wants_cancel)
		u->wants_cancel_n--;
	if (op->kind == STELE_OP_CONNECT)
		free(op->priv.slot);
	slot->op = NULL;
	slot->phase = PHASE_FREE;
	slot->wants_cancel = false;
	slot->next_free = u->free_slots;
	u->free_slots = slot;
	stele_loop_ready(&u->loop, op, slot->closed ? -ECANCELED : result);
	if (closer && --closer->priv.done == 0)
		finish_close(u, closer);
}

/* From an operation to its submission */

/* A free submission entry; NULL when the kernel takes none at the moment. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring.io);
	if (!sqe && io_uring_submit(&u->ring.io) > 0)
		sqe = io_uring_get_sqe(&u->ring.io);
	return sqe;
}

static bool flush_queue(struct uring *u, struct stele_op_list *queue, bool disk)
{
	while (queue->head && !(disk && u->disk_n >= u->depth)) {
		struct io_uring_sqe *sqe = get_sqe(u);
		if (!sqe)
			return false;
		struct slot *slot = slot_of(u, stele_op_list_pop(queue));
		slot->phase = PHASE_KERNEL;
		if (disk)
			u->disk_n++;
		stele_ring_fill(&u->ring, sqe, slot->op, &slot->msg);
		io_uring_sqe_set_data64(sqe, user_data(slot));
	}
	return true;
}

static bool flush_cancels(struct uring *u)
{
	for (uint32_t i = 0; i < u->slots_n && u->wants_cancel_n > 0; i++) {
		struct slot *slot = u->slots[i];
		if (!slot->wants_cancel)
			continue;
		struct io_uring_sqe *sqe = get_sqe(u);
		if (!sqe)
			return false;
		io_uring_prep_cancel64(sqe, user_data(slot), 0);
		io_uring_sqe_set_data64(sqe, TAG_CANCEL);
		slot->wants_cancel = false;
		u->wants_cancel_n--;
	}
	return true;
}

/* Moves what waits into the submission queue; false when the kernel refused some of it. */
static bool flush(struct uring *u)
{
	if (!u->wake_armed) {
		struct io_uring_sqe *sqe = get_sqe(u);
		if (!sqe)
			return false;
		io_uring_prep_poll_add(sqe, u->loop.wake_fd, POLLIN);
		io_uring_sqe_set_data64(sqe, TAG_WAKE);
		u->wake_armed = true;
	}
	return flush_cancels(u) && flush_queue(u, &u->todo_net, false) &&
	       flush_queue(u, &u->todo_disk, true);
}

/* A CONNECT: a socket for its next address, or its end. `last` is what the address before said. */
static void connect_next(struct uring *u, struct slot *slot, int64_t last)
{
	struct stele_op *op = slot->op;
	struct stele_connect *state = op->priv.slot;
	if (slot->cancelled) {
		over(u, slot, -ECANCELED);
		return;
	}
	int fd = stele_connect_socket(state, 0);
	if (fd < 0) {
		over(u, slot, fd == -ECONNREFUSED && last < 0 ? last : fd);
		return;
	}
	op->fd = fd;
	enqueue(u, slot);
}

static void submit_connect(struct uring *u, struct slot *slot)
{
	struct stele_op *op = slot->op;
	struct stele_connect *state = stele_connect_create(op);
	op->priv.slot = state;
	if (!state) {
		over(u, slot, -ENOMEM);
	} else if (state->n == 0) {
		slot->phase = PHASE_RESOLVING;
		stele_loop_resolve(&u->loop, op);
	} else {
		connect_next(u, slot, 0);
	}
}

static void returned(struct stele_loop *loop, struct stele_op *op)
{
	struct uring *u = (struct uring *)loop;
	connect_next(u, slot_of(u, op), 0);
}

/* Completions */

static void complete_connect(struct uring *u, struct slot *slot, int64_t res)
{
	struct stele_op *op = slot->op;
	if (res == 0) {
		over(u, slot, op->fd);
		return;
	}
	close(op->fd);
	connect_next(u, slot, res);
}

static void complete_accept(struct uring *u, struct slot *slot, int64_t res)
{
	if (res == -ECONNABORTED && !slot->cancelled) {
		enqueue(u, slot); /* it went before we took it: wait for another */
		return;
	}
	if (res >= 0 && slot->closed)
		close((int)res);
	else if (res >= 0)
		stele_accepted(slot->op, (int)res);
	over(u, slot, res);
}

static void complete_transfer(struct uring *u, struct slot *slot, int64_t res)
{
	struct stele_op *op = slot->op;
	if (!stele_sys_advance(op, res))
		over(u, slot, op->result);
	else if (slot->cancelled)
		over(u, slot, -ECANCELED);
	else
		enqueue(u, slot);
}

static void complete(struct uring *u, uint64_t tag, int64_t res)
{
	uint32_t index = (uint32_t)tag;
	assert(index < u->slots_n);
	struct slot *slot = u->slots[index];
	assert(slot->phase == PHASE_KERNEL && user_data(slot) == tag);
	struct stele_op *op = slot->op;
	if (stele_ring_is_disk(op))
		u->disk_n--;
	if (res == -EINTR && !slot->cancelled) {
		enqueue(u, slot);
		return;
	}
	if (res == -EINTR)
		res = -ECANCELED;
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
	case STELE_OP_SEND:
		complete_transfer(u, slot, res);
		break;
	case STELE_OP_ACCEPT:
		complete_accept(u, slot, res);
		break;
	case STELE_OP_CONNECT:
		complete_connect(u, slot, res);
		break;
	default:
		over(u, slot, res);
	}
}

static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head;
	unsigned n = 0;
	io_uring_for_each_cqe(&u->ring.io, head, cqe)
	{
		n++;
		if (cqe->user_data == TAG_WAKE) {
			u->wake_armed = false;
			u->woken = true;
		} else if (cqe->user_data != TAG_CANCEL) {
			complete(u, cqe->user_data, cqe->res);
		}
	}
	io_uring_cq_advance(&u->ring.io, n);
	if (u->woken) {
		u->woken = false;
		stele_loop_woken(&u->loop);
	}
}

/* The operations of the table */

static void ask_cancel(struct uring *u, struct slot *slot)
{
	if (slot->cancelled)
		return;
	slot->cancelled = true;
	if (slot->phase == PHASE_KERNEL) {
		slot->wants_cancel = true;
		u->wants_cancel_n++;
	}
}

/* An operation that is still queued ends at once; for the others the kernel or a worker is asked.
 */
static void cancel_slot(struct uring *u, struct slot *slot)
{
	struct stele_op *op = slot->op;
	if (slot->phase == PHASE_QUEUED) {
		stele_op_list_remove(queue_of(u, op), op);
		if (op->kind == STELE_OP_CONNECT)
			close(op->fd);
		over(u, slot, -ECANCELED);
	} else if (slot->phase == PHASE_RESOLVING && stele_loop_resolve_remove(&u->loop, op)) {
		over(u, slot, -ECANCELED);
	} else {
		ask_cancel(u, slot);
	}
}

static void submit_close(struct uring *u, struct stele_op *op)
{
	assert(!stele_held_has(&u->ring.held, op->fd));
	for (uint32_t i = 0; i < u->slots_n; i++) {
		struct slot *slot = u->slots[i];
		if (slot->op && slot->op->kind != STELE_OP_CONNECT && slot->op->fd == op->fd) {
			assert(!slot->closer);
			slot->closer = op;
			op->priv.done++;
		}
	}
	if (op->priv.done == 0) {
		finish_close(u, op);
		return;
	}
	for (uint32_t i = 0; i < u->slots_n; i++) {
		struct slot *slot = u->slots[i];
		if (slot->op && slot->closer == op && !stele_ring_is_disk(slot->op)) {
			slot->closed = true;
			cancel_slot(u, slot);
		}
	}
}

static void submit(struct stele_env *env, struct stele_op *op)
{
	struct uring *u = uring_of(env);
	if (stele_loop_begin(&u->loop, op))
		return;
	if (op->kind == STELE_OP_CLOSE) {
		submit_close(u, op);
		return;
	}
	bool moves = op->kind == STELE_OP_READV || op->kind == STELE_OP_WRITEV;
	if (moves && stele_sys_left(op) == 0) {
		stele_loop_ready(&u->loop, op, 0);
		return;
	}
	struct slot *slot = take_slot(u, op);
	if (!slot)
		stele_loop_ready(&u->loop, op, -ENOMEM);
	else if (op->kind == STELE_OP_CONNECT)
		submit_connect(u, slot);
	else
		enqueue(u, slot);
}

static void cancel(struct stele_env *env, struct stele_op *op)
{
	struct uring *u = uring_of(env);
	if (op->priv.state == STELE_OP_READY || op->kind == STELE_OP_CLOSE)
		return; /* its result came first, or comes when those before it are over */
	if (op->kind == STELE_OP_TIMER || op->kind == STELE_OP_WORK)
		stele_loop_cancel(&u->loop, op);
	else
		cancel_slot(u, slot_of(u, op));
}

static void wait_events(struct uring *u, uint64_t wait_ns)
{
	if (!flush(u) && wait_ns > REFUSED_NS)
		wait_ns = REFUSED_NS;
#ifdef __SANITIZE_THREAD__
	/* ThreadSanitizer defers signal handlers to the next call it knows, and io_uring's are not
	 * among them: look into the inbox now and then. */
	if (wait_ns > REFUSED_NS)
		wait_ns = REFUSED_NS;
#endif
	/* Failures (EINTR, EBUSY, ETIME) all mean: look at what there is and come back. */
	if (wait_ns == 0) {
		(void)io_uring_submit_and_get_events(&u->ring.io);
	} else {
		struct io_uring_cqe *cqe;
		struct __kernel_timespec ts = {
		    .tv_sec = (int64_t)(wait_ns / 1000000000u),
		    .tv_nsec = (int64_t)(wait_ns % 1000000000u),
		};
		(void)io_uring_submit_and_wait_timeout(&u->ring.io, &cqe, 1,
		                                       wait_ns == UINT64_MAX ? NULL : &ts, NULL);
	}
#ifdef __SANITIZE_THREAD__
	u->woken = true;
#endif
	reap(u);
}

static void run(struct stele_env *env)
{
	struct uring *u = uring_of(env);
	if (!u->started) {
		stele_ring_enable(&u->ring);
		u->thread = pthread_self();
		u->started = true;
	}
	assert(pthread_equal(u->thread, pthread_self()));
	while (!stele_loop_stopped(&u->loop))
		wait_events(u, stele_loop_turn(&u->loop));
}

static bool on_thread(const struct uring *u)
{
	return !u->started || pthread_equal(u->thread, pthread_self());
}

static void lend(struct stele_env *env, void *base, size_t len)
{
	struct uring *u = uring_of(env);
	assert(on_thread(u));
	stele_lent_add(&u->ring.lent, base, len);
}

static void take_back(struct stele_env *env, const void *base)
{
	struct uring *u = uring_of(env);
	assert(on_thread(u));
	stele_lent_remove(&u->ring.lent, base);
}

static void hold(struct stele_env *env, int fd)
{
	struct uring *u = uring_of(env);
	assert(on_thread(u));
	stele_held_add(&u->ring.held, fd);
}

static void release(struct stele_env *env, int fd)
{
	struct uring *u = uring_of(env);
	assert(on_thread(u));
	stele_held_remove(&u->ring.held, fd);
}

static void describe(struct stele_env *env, char out[STELE_ENV_TEXT])
{
	stele_ring_describe(&uring_of(env)->ring, env->ops->name, out);
}

/* On any thread. */
static int64_t call(struct stele_env *env, struct stele_op *op)
{
	assert(op->kind != STELE_OP_CLOSE || !stele_held_has(&uring_of(env)->ring.held, op->fd));
	return stele_loop_call(env, op);
}

static void destroy(struct stele_env *env)
{
	struct uring *u = uring_of(env);
	stele_ring_finish(&u->ring);
	stele_loop_finish(&u->loop);
	for (uint32_t i = 0; i < u->slots_n; i++)
		free(u->slots[i]);
	free(u->slots);
	free(u);
}

static const struct stele_env_ops uring_ops = {
    .name = "io_uring",
    .submit = submit,
    .cancel = cancel,
    .call = call,
    .post = stele_loop_post,
    .now = stele_loop_now,
    .wall = stele_loop_wall,
    .random = stele_loop_random,
    .run = run,
    .stop = stele_loop_stop,
    .destroy = destroy,
    .lend = lend,
    .take_back = take_back,
    .hold = hold,
    .release = release,
    .describe = describe,
};

enum stele_err stele_env_uring_create(const struct stele_env_opts *opts, struct stele_env **out)
{
	struct uring *u = calloc(1, sizeof(*u));
	if (!u)
		return stele_fail(STELE_ERR_NOMEM, "event loop: out of memory");
	u->depth = opts && opts->depth ? opts->depth : DEPTH_DEFAULT;
	if (u->depth > DEPTH_MAX)
		u->depth = DEPTH_MAX;
	enum stele_err err;
	int r = stele_ring_init(&u->ring, u->depth, !(opts && opts->unregistered));
	if (r < 0) {
		/* whatever the errno, it is the system that does not give us one */
		err = stele_fail(r == -ENOMEM ? STELE_ERR_NOMEM : STELE_ERR_IO,
		                 "io_uring is refused here (STELE_ENV=threads does without): %s",
		                 strerror(-r));
		goto err_alloc;
	}
	err = stele_loop_init(&u->loop, &uring_ops, opts, returned);
	if (err != STELE_OK)
		goto err_ring;
	*out = &u->loop.env;
	return STELE_OK;
err_ring:
	stele_ring_finish(&u->ring);
err_alloc:
	free(u);
	return err;
}
