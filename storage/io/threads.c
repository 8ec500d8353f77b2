/*
 * env_threads: disk operations on worker threads, sockets by epoll. A first-class path for systems
 * that refuse io_uring. Does no io_uring, and no disk I/O on the loop's thread.
 *
 * A socket operation is tried at once when nothing is queued before it; where it would block, it
 * waits in its descriptor's queue (readers: RECV, ACCEPT; writers: SEND, CONNECT) for epoll.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/io/loop.h"
#include "storage/io/net.h"
#include "storage/io/sys.h"

#define DISK_THREADS_MAX 8u
#define EVENTS_PER_WAIT  64

/* What is under way on one descriptor. */
struct desc {
	struct stele_op_list readers;
	struct stele_op_list writers;
	uint32_t on_disk;        /* operations that disk threads have */
	struct stele_op *closer; /* a CLOSE that waits for them */
};

struct threads {
	struct stele_loop loop;
	struct stele_workers *disk;
	int epoll_fd;
	struct desc *descs; /* by descriptor */
	size_t descs_n;
};

static struct threads *threads_of(struct stele_env *env)
{
	return (struct threads *)env;
}

/* The record of a descriptor; NULL when there is no memory. Valid until the next call. */
static struct desc *desc_of(struct threads *t, int fd)
{
	assert(fd >= 0);
	size_t at = (size_t)fd;
	if (at >= t->descs_n) {
		size_t n = t->descs_n ? t->descs_n : 64;
		while (n <= at)
			n *= 2;
		struct desc *more = realloc(t->descs, n * sizeof(more[0]));
		if (!more)
			return NULL;
		memset(more + t->descs_n, 0, (n - t->descs_n) * sizeof(more[0]));
		t->descs = more;
		t->descs_n = n;
	}
	return &t->descs[at];
}

/* Asks epoll for one event that the waiting operations need. */
static int arm(struct threads *t, int fd, const struct desc *d)
{
	struct epoll_event event = {.events = EPOLLONESHOT, .data.fd = fd};
	if (d->readers.head)
		event.events |= EPOLLIN | EPOLLRDHUP;
	if (d->writers.head)
		event.events |= EPOLLOUT;
	if (epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* One attempt at a socket operation: -EAGAIN, or its result. */

static int64_t try_recv(struct stele_op *op)
{
	struct msghdr msg = {.msg_iov = op->iov, .msg_iovlen = stele_sys_niov(op)};
	ssize_t n;
	do {
		n = recvmsg(op->fd, &msg, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int64_t try_send(struct stele_op *op)
{
	for (;;) {
		struct msghdr msg = {.msg_iov = op->iov, .msg_iovlen = stele_sys_niov(op)};
		ssize_t n = sendmsg(op->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!stele_sys_advance(op, n))
			return op->result;
	}
}

static int64_t try_accept(struct stele_op *op)
{
	int fd;
	do {
		fd = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return -errno;
	stele_accepted(op, fd);
	return fd;
}

static int64_t attempt(struct stele_op *op)
{
	if (op->kind == STELE_OP_RECV)
		return try_recv(op);
	if (op->kind == STELE_OP_SEND)
		return try_send(op);
	return try_accept(op);
}

/* A CONNECT: tries addresses until one is on its way or none is left. */
static void connect_next(struct threads *t, struct stele_op *op)
{
	struct stele_connect *state = op->priv.slot;
	int64_t last = 0;
	for (;;) {
		int fd = state->cancelled ? -ECANCELED : stele_connect_socket(state, SOCK_NONBLOCK);
		if (fd < 0) {
			/* what the last address said tells more than "none is left" */
			last = fd == -ECONNREFUSED && last < 0 ? last : fd;
			break;
		}
		const struct stele_addr *addr = stele_connect_addr(state);
		int r = connect(fd, (const struct sockaddr *)&addr->sa, addr->len);
		last = r == 0 || errno == EINPROGRESS ? 0 : -errno;
		struct desc *d = last == 0 ? desc_of(t, fd) : NULL;
		if (last == 0 && !d)
			last = -ENOMEM;
		if (last == 0) {
			op->fd = fd;
			stele_op_list_push(&d->writers, op);
			last = arm(t, fd, d);
			if (last == 0)
				return;
			stele_op_list_remove(&d->writers, op);
		}
		close(fd);
	}
	free(state);
	stele_loop_ready(&t->loop, op, last);
}

/* An event on the socket of a CONNECT: it stands, it failed, or the event was not meant for it. */
static void connect_event(struct threads *t, struct stele_op *op)
{
	struct stele_connect *state = op->priv.slot;
	struct pollfd poll_fd = {.fd = op->fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);
	if (poll(&poll_fd, 1, 0) == 0)
		error = -arm(t, op->fd, &t->descs[op->fd]);
	else if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (poll_fd.revents == 0 && error == 0)
		return;
	stele_op_list_remove(&t->descs[op->fd].writers, op);
	if (error == 0) {
		free(state);
		stele_loop_ready(&t->loop, op, op->fd);
		return;
	}
	close(op->fd);
	if (state->next < state->n) {
		connect_next(t, op);
		return;
	}
	free(state);
	stele_loop_ready(&t->loop, op, -error);
}

static void submit_connect(struct threads *t, struct stele_op *op)
{
	struct stele_connect *state = stele_connect_create(op);
	if (!state) {
		stele_loop_ready(&t->loop, op, -ENOMEM);
		return;
	}
	op->priv.slot = state;
	if (state->n == 0)
		stele_loop_resolve(&t->loop, op);
	else
		connect_next(t, op);
}

static void submit_socket(struct threads *t, struct stele_op *op)
{
	struct desc *d = desc_of(t, op->fd);
	if (!d) {
		stele_loop_ready(&t->loop, op, -ENOMEM);
		return;
	}
	if (op->kind == STELE_OP_ACCEPT) /* LISTEN is by call, which leaves sockets blocking */
		(void)fcntl(op->fd, F_SETFL, fcntl(op->fd, F_GETFL) | O_NONBLOCK);
	struct stele_op_list *queue = op->kind == STELE_OP_SEND ? &d->writers : &d->readers;
	if (!queue->head) {
		int64_t r = attempt(op);
		if (r != -EAGAIN) {
			stele_loop_ready(&t->loop, op, r);
			return;
		}
	}
	stele_op_list_push(queue, op);
	int r = arm(t, op->fd, d);
	if (r < 0) {
		stele_op_list_remove(queue, op);
		stele_loop_ready(&t->loop, op, r);
	}
}

static void drain(struct threads *t, struct stele_op_list *queue)
{
	while (queue->head) {
		struct stele_op *op = queue->head;
		int64_t r = attempt(op);
		if (r == -EAGAIN)
			return;
		stele_op_list_remove(queue, op);
		stele_loop_ready(&t->loop, op, r);
	}
}

static void socket_event(struct threads *t, int fd)
{
	struct desc *d = desc_of(t, fd);
	if (!d) /* the table had room when the descriptor was armed */
		return;
	if (d->writers.head && d->writers.head->kind == STELE_OP_CONNECT) {
		connect_event(t, d->writers.head);
		return; /* may have moved the table; nothing else is on this socket */
	}
	drain(t, &d->readers);
	drain(t, &d->writers);
	if (!d->readers.head && !d->writers.head)
		return;
	int r = arm(t, fd, d);
	if (r == 0)
		return;
	struct stele_op *op;
	while ((op = stele_op_list_pop(&d->readers)) || (op = stele_op_list_pop(&d->writers)))
		stele_loop_ready(&t->loop, op, r);
}

/* Disk operations */

static void run_on_disk_thread(void *ctx, struct stele_op *op)
{
	struct threads *t = ctx;
	(void)stele_sys_call(op);
	stele_loop_done(&t->loop, op);
}

static void finish_close(struct threads *t, struct stele_op *op)
{
	stele_loop_ready(&t->loop, op, stele_sys_call(op));
}

/* A disk operation is over or was taken back: a CLOSE may have waited for it. */
static void left_disk(struct threads *t, struct stele_op *op, int64_t result)
{
	struct desc *d = &t->descs[op->fd];
	stele_loop_ready(&t->loop, op, result);
	assert(d->on_disk > 0);
	if (--d->on_disk == 0 && d->closer) {
		struct stele_op *closer = d->closer;
		d->closer = NULL;
		finish_close(t, closer);
	}
}

static void returned(struct stele_loop *loop, struct stele_op *op)
{
	struct threads *t = (struct threads *)loop;
	if (op->kind == STELE_OP_CONNECT)
		connect_next(t, op);
	else
		left_disk(t, op, op->result);
}

static void submit_close(struct threads *t, struct stele_op *op)
{
	struct desc *d = desc_of(t, op->fd);
	if (!d) {
		stele_loop_ready(&t->loop, op, -ENOMEM);
		return;
	}
	struct stele_op *pending;
	while ((pending = stele_op_list_pop(&d->readers)) ||
	       (pending = stele_op_list_pop(&d->writers)))
		stele_loop_ready(&t->loop, pending, -ECANCELED);
	if (d->on_disk > 0) {
		assert(!d->closer);
		d->closer = op;
		return;
	}
	finish_close(t, op);
}

static void submit(struct stele_env *env, struct stele_op *op)
{
	struct threads *t = threads_of(env);
	if (stele_loop_begin(&t->loop, op))
		return;
	if (op->fd < 0 && op->kind != STELE_OP_CONNECT) {
		stele_loop_ready(&t->loop, op, -EBADF);
		return;
	}
	struct desc *d;
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
	case STELE_OP_SYNC:
		d = desc_of(t, op->fd);
		if (!d) {
			stele_loop_ready(&t->loop, op, -ENOMEM);
			break;
		}
		d->on_disk++;
		stele_workers_add(t->disk, op);
		break;
	case STELE_OP_CLOSE:
		submit_close(t, op);
		break;
	case STELE_OP_CONNECT:
		submit_connect(t, op);
		break;
	default:
		submit_socket(t, op);
	}
}

static void cancel_connect(struct threads *t, struct stele_op *op)
{
	struct stele_connect *state = op->priv.slot;
	state->cancelled = true;
	if (state->next == 0 && !stele_loop_resolve_remove(&t->loop, op))
		return; /* being looked up: connect_next comes */
	if (state->next > 0) {
		stele_op_list_remove(&t->descs[op->fd].writers, op);
		close(op->fd);
	}
	free(state);
	stele_loop_ready(&t->loop, op, -ECANCELED);
}

static void cancel(struct stele_env *env, struct stele_op *op)
{
	struct threads *t = threads_of(env);
	if (op->priv.state == STELE_OP_READY)
		return; /* its result came first */
	switch (op->kind) {
	case STELE_OP_TIMER:
	case STELE_OP_WORK:
		stele_loop_cancel(&t->loop, op);
		break;
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
	case STELE_OP_SYNC:
		if (stele_workers_remove(t->disk, op))
			left_disk(t, op, -ECANCELED);
		break;
	case STELE_OP_CONNECT:
		cancel_connect(t, op);
		break;
	case STELE_OP_CLOSE:
		break; /* it comes when the operations before it are over */
	default: {
		struct desc *d = &t->descs[op->fd];
		stele_op_list_remove(op->kind == STELE_OP_SEND ? &d->writers : &d->readers, op);
		stele_loop_ready(&t->loop, op, -ECANCELED);
	}
	}
}

static void wait_events(struct threads *t, uint64_t wait_ns)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int wait_ms = -1;
	if (wait_ns != UINT64_MAX) { /* rounded up: a timer never fires early */
		uint64_t ms = wait_ns / 1000000u + (wait_ns % 1000000u != 0);
		wait_ms = ms < INT32_MAX ? (int)ms : INT32_MAX;
	}
	int n = epoll_wait(t->epoll_fd, events, EVENTS_PER_WAIT, wait_ms);
	assert(n >= 0 || errno == EINTR);
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == t->loop.wake_fd)
			stele_loop_woken(&t->loop);
		else
			socket_event(t, events[i].data.fd);
	}
}

static void run(struct stele_env *env)
{
	struct threads *t = threads_of(env);
	while (!stele_loop_stopped(&t->loop))
		wait_events(t, stele_loop_turn(&t->loop));
}

static void destroy(struct stele_env *env)
{
	struct threads *t = threads_of(env);
	stele_workers_destroy(t->disk);
	stele_loop_finish(&t->loop);
	close(t->epoll_fd);
	free(t->descs);
	free(t);
}

static const struct stele_env_ops threads_ops = {
    .name = "threads",
    .submit = submit,
    .cancel = cancel,
    .call = stele_loop_call,
    .post = stele_loop_post,
    .now = stele_loop_now,
    .wall = stele_loop_wall,
    .random = stele_loop_random,
    .run = run,
    .stop = stele_loop_stop,
    .destroy = destroy,
};

enum stele_err stele_env_threads_create(const struct stele_env_opts *opts, struct stele_env **out)
{
	struct threads *t = calloc(1, sizeof(*t));
	if (!t)
		return stele_fail(STELE_ERR_NOMEM, "event loop: out of memory");
	enum stele_err err = stele_loop_init(&t->loop, &threads_ops, opts, returned);
	if (err != STELE_OK)
		goto err_alloc;
	err = stele_workers_create(DISK_THREADS_MAX, run_on_disk_thread, t, &t->disk);
	if (err != STELE_OK)
		goto err_loop;
	t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (t->epoll_fd < 0) {
		err = stele_fail_errno(errno, "event loop: epoll");
		goto err_disk;
	}
	struct epoll_event event = {.events = EPOLLIN, .data.fd = t->loop.wake_fd};
	if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->loop.wake_fd, &event) < 0) {
		err = stele_fail_errno(errno, "event loop: epoll");
		goto err_epoll;
	}
	*out = &t->loop.env;
	return STELE_OK;
err_epoll:
	close(t->epoll_fd);
err_disk:
	stele_workers_destroy(t->disk);
err_loop:
	stele_loop_finish(&t->loop);
err_alloc:
	free(t);
	return err;
}
