/*
 * The simulated network: byte streams between addresses, with latency, random segments, resets and
 * one-way cuts. A connection has two directions; each has at most one event under way, which
 * delivers what is next in it: the opening, bytes, the end, or a reset.
 *
 * A cut holds a direction's traffic back; what was sent arrives once it heals, as TCP's
 * retransmissions would have it. Until then nobody is told: time-outs belong to the layers above.
 * Addresses are compared as text: nothing is known of names or wildcards.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"
#include "storage/io/sim_world.h"
#include "storage/io/sys.h"

#define WINDOW      (256u << 10) /* bytes sent and not yet received */
#define SEGMENT_MAX (64u << 10)
#define BACKLOG_MAX 1024u
#define FIRST_PORT  20000u

struct fifo {
	uint8_t *bytes;
	size_t from;
	size_t len;
	size_t cap;
};

struct sim_end { /* of a connection */
	struct sim_conn *conn;
	struct sim_env *env; /* who has it; NULL: nobody any more, or not accepted yet */
	bool open;           /* false: closed, or not there yet */
	struct fifo rx;
	bool rx_fin;
	int error; /* an errno after a reset */
	struct stele_op *recv;
	struct stele_op *send;
};

struct direction { /* from end[i] to end[1 - i] */
	struct sim_conn *conn;
	struct sim_machine *from;
	struct sim_machine *to; /* NULL: no machine there */
	struct fifo tx;
	bool syn;
	bool fin;
	int reset; /* an errno, when one is on its way */
	struct sim_event *event;
};

struct sim_conn {
	struct sim_net *net;
	struct sim_end end[2]; /* 0: who connects, 1: who accepts */
	struct direction dir[2];
	struct stele_op *connect; /* while it waits */
	struct sim_env *client;
	char to[STELE_ADDR_MAX];
	char from[STELE_ADDR_MAX];
	struct sim_conn *backlog_next;
	struct sim_conn *next;
	struct sim_conn *prev;
};

struct sim_listener {
	struct sim_machine *machine;
	struct sim_env *env; /* NULL: nobody listens here any more */
	char addr[STELE_ADDR_MAX];
	struct stele_op *accept;
	struct sim_conn *backlog;
	uint32_t backlog_n;
	struct sim_listener *next;
};

struct rule { /* of the cuts; the last one that matches decides */
	char from[STELE_NAME_MAX];
	char to[STELE_NAME_MAX]; /* "": every machine */
	bool cut;
	struct rule *next;
};

struct sim_net {
	struct stele_sim *sim;
	struct sim_conn *conns;
	struct sim_listener *listeners;
	struct rule *rules;
};

/* Bytes on their way */

static void fifo_clear(struct fifo *f)
{
	free(f->bytes);
	*f = (struct fifo){0};
}

static void fifo_push(struct fifo *f, const void *bytes, size_t len)
{
	if (f->from + f->len + len > f->cap) {
		size_t cap = f->cap ? f->cap : 1024;
		while (cap < f->len + len)
			cap *= 2;
		uint8_t *more = stele_sim_alloc(cap);
		if (f->len)
			memcpy(more, f->bytes + f->from, f->len);
		free(f->bytes);
		f->bytes = more;
		f->from = 0;
		f->cap = cap;
	}
	memcpy(f->bytes + f->from + f->len, bytes, len);
	f->len += len;
}

static void fifo_pop(struct fifo *f, size_t len)
{
	assert(len <= f->len);
	f->from += len;
	f->len -= len;
	if (f->len == 0)
		f->from = 0;
}

/* Cuts */

static bool is_cut(const struct sim_net *net, const struct sim_machine *from,
                   const struct sim_machine *to)
{
	if (!from || !to || from == to)
		return false;
	bool cut = false;
	for (const struct rule *rule = net->rules; rule; rule = rule->next) {
		if ((!rule->from[0] || strcmp(rule->from, from->name) == 0) &&
		    (!rule->to[0] || strcmp(rule->to, to->name) == 0))
			cut = rule->cut;
	}
	return cut;
}

static void kick(struct sim_conn *conn, int i);

void stele_sim_net_cut(struct sim_net *net, const char *from, const char *to, bool cut)
{
	struct rule *rule = stele_sim_alloc(sizeof(*rule));
	snprintf(rule->from, sizeof(rule->from), "%s", from ? from : "");
	snprintf(rule->to, sizeof(rule->to), "%s", to ? to : "");
	rule->cut = cut;
	struct rule **at = &net->rules;
	while (*at) { /* what this one overrides is forgotten */
		struct rule *old = *at;
		bool same = strcmp(old->from, rule->from) == 0 && strcmp(old->to, rule->to) == 0;
		if (same || (!rule->from[0] && !rule->to[0])) {
			*at = old->next;
			free(old);
		} else {
			at = &old->next;
		}
	}
	*at = rule;
	for (struct sim_conn *conn = net->conns; conn; conn = conn->next) {
		kick(conn, 0); /* looked at again when it is delivered */
		kick(conn, 1);
	}
}

/* Connections */

static struct sim_listener *find_listener(const struct sim_net *net, const char *addr)
{
	struct sim_listener *listener = net->listeners;
	while (listener && strcmp(listener->addr, addr) != 0)
		listener = listener->next;
	return listener;
}

/* Frees a connection that nobody has any more. */
static void drop_if_gone(struct sim_conn *conn)
{
	if (conn->end[0].open || conn->end[1].open || conn->connect)
		return;
	struct sim_net *net = conn->net;
	for (int i = 0; i < 2; i++) {
		if (conn->dir[i].event)
			stele_sim_unschedule(net->sim, conn->dir[i].event);
		fifo_clear(&conn->dir[i].tx);
		fifo_clear(&conn->end[i].rx);
	}
	if (conn->prev)
		conn->prev->next = conn->next;
	else
		net->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	free(conn);
}

static void try_recv(struct sim_end *end)
{
	struct stele_op *op = end->recv;
	if (!op || (end->rx.len == 0 && !end->rx_fin && !end->error))
		return;
	int64_t got = 0;
	for (uint32_t i = 0; i < op->niov && end->rx.len > 0; i++) {
		size_t n = op->iov[i].iov_len < end->rx.len ? op->iov[i].iov_len : end->rx.len;
		if (n > 0)
			memcpy(op->iov[i].iov_base, end->rx.bytes + end->rx.from, n);
		fifo_pop(&end->rx, n);
		got += (int64_t)n;
	}
	if (got == 0 && end->error)
		got = -end->error;
	end->recv = NULL;
	stele_sim_end(end->env, op, got);
}

/* Moves what a SEND has into its direction, as far as the window goes. */
static void try_send(struct sim_conn *conn, int i)
{
	struct sim_end *end = &conn->end[i];
	struct stele_op *op = end->send;
	if (!op)
		return;
	if (end->error) {
		end->send = NULL;
		stele_sim_end(end->env, op, -EPIPE);
		return;
	}
	struct fifo *tx = &conn->dir[i].tx;
	bool more = true;
	while (more) {
		size_t used = tx->len + conn->end[1 - i].rx.len;
		size_t room = used < WINDOW ? WINDOW - used : 0;
		size_t left = op->niov ? op->iov->iov_len : 0;
		size_t n = left < room ? left : room;
		if (n == 0 && left > 0)
			break;
		if (n > 0)
			fifo_push(tx, op->iov->iov_base, n);
		if (n == 0 && op->niov > 1) { /* an empty one among others */
			op->iov++;
			op->niov--;
		} else {
			more = stele_sys_advance(op, (int64_t)n);
		}
	}
	if (!more) {
		end->send = NULL;
		stele_sim_end(end->env, op, op->result);
	}
	kick(conn, i);
}

/* An end hears of a reset, or of a refusal. */
static void end_reset(struct sim_end *end, int error)
{
	struct sim_conn *conn = end->conn;
	if (end == &conn->end[0] && conn->connect) {
		struct stele_op *op = conn->connect;
		conn->connect = NULL;
		stele_sim_end(conn->client, op, -error);
	}
	end->error = error;
	if (!end->open)
		return;
	try_recv(end);
	if (end->send) {
		struct stele_op *op = end->send;
		end->send = NULL;
		stele_sim_end(end->env, op, -error);
	}
}

/* In place of everything that direction i still had to deliver. */
static void reset_peer(struct sim_conn *conn, int i, int error)
{
	fifo_clear(&conn->dir[i].tx);
	conn->dir[i].syn = conn->dir[i].fin = false;
	conn->dir[i].reset = error;
	kick(conn, i);
}

static void end_close(struct sim_end *end, bool hard)
{
	struct sim_conn *conn = end->conn;
	int i = end == &conn->end[0] ? 0 : 1;
	bool unread = end->rx.len > 0;
	end->open = false;
	end->env = NULL;
	fifo_clear(&end->rx);
	if (hard || unread) {
		reset_peer(conn, i, ECONNRESET);
	} else {
		conn->dir[i].fin = true;
		kick(conn, i);
	}
	drop_if_gone(conn);
}

static int add_socket(struct sim_env *env, struct sim_end *end)
{
	struct sim_handle *handle = stele_sim_handle_add(env, SIM_SOCKET);
	handle->end = end;
	end->env = env;
	return handle->fd;
}

static void try_accept(struct sim_listener *listener)
{
	struct sim_conn *conn = listener->backlog;
	struct stele_op *op = listener->accept;
	if (!conn || !op)
		return;
	listener->backlog = conn->backlog_next;
	listener->backlog_n--;
	listener->accept = NULL;
	if (op->path_buf)
		memcpy(op->path_buf, conn->from, STELE_ADDR_MAX);
	stele_sim_end(listener->env, op, add_socket(listener->env, &conn->end[1]));
}

/* Deliveries */

static void deliver_syn(struct sim_conn *conn, int i)
{
	conn->dir[i].syn = false;
	if (i == 1) { /* the answer: it stands */
		struct stele_op *op = conn->connect;
		if (!op)
			return;
		conn->connect = NULL;
		conn->end[0].open = true;
		stele_sim_end(conn->client, op, add_socket(conn->client, &conn->end[0]));
		return;
	}
	struct sim_listener *listener = find_listener(conn->net, conn->to);
	if (!listener || !listener->env || listener->backlog_n >= BACKLOG_MAX) {
		reset_peer(conn, 1, ECONNREFUSED);
		return;
	}
	conn->end[1].open = true;
	conn->dir[1].syn = true;
	kick(conn, 1);
	struct sim_conn **at = &listener->backlog;
	while (*at)
		at = &(*at)->backlog_next;
	*at = conn;
	listener->backlog_n++;
	try_accept(listener);
}

static void deliver_bytes(struct sim_conn *conn, int i)
{
	struct stele_sim *sim = conn->net->sim;
	struct fifo *tx = &conn->dir[i].tx;
	struct sim_end *to = &conn->end[1 - i];
	size_t max = stele_prng_below(&sim->prng, 8) == 0 ? 100 : SEGMENT_MAX;
	size_t n = 1 + (size_t)stele_prng_below(&sim->prng, tx->len < max ? tx->len : max);
	if (!to->open) { /* closed meanwhile: the sender hears of it after what was sent to it */
		fifo_clear(tx);
		conn->dir[1 - i].reset = ECONNRESET;
		kick(conn, 1 - i);
		return;
	}
	stele_sim_note(sim, conn->dir[i].to, SIM_NOTE_NET, n,
	               stele_crc32c(tx->bytes + tx->from, n, 0));
	fifo_push(&to->rx, tx->bytes + tx->from, n);
	fifo_pop(tx, n);
	try_recv(to);
	try_send(conn, i);
}

static void deliver(struct stele_sim *sim, struct sim_event *event)
{
	struct direction *dir = event->owner;
	struct sim_conn *conn = dir->conn;
	int i = dir == &conn->dir[0] ? 0 : 1;
	dir->event = NULL;
	if (is_cut(conn->net, dir->from, dir->to))
		return;
	if (dir->from && stele_prng_chance(&sim->prng, dir->from->faults.net_drop)) {
		end_reset(&conn->end[0], ECONNRESET);
		end_reset(&conn->end[1], ECONNRESET);
		fifo_clear(&conn->dir[0].tx);
		fifo_clear(&conn->dir[1].tx);
	} else if (dir->syn) {
		deliver_syn(conn, i);
	} else if (dir->tx.len > 0) {
		deliver_bytes(conn, i);
	} else if (dir->fin) {
		dir->fin = false;
		conn->end[1 - i].rx_fin = true;
		try_recv(&conn->end[1 - i]);
	} else {
		int error = dir->reset;
		dir->reset = 0;
		end_reset(&conn->end[1 - i], error);
	}
	stele_sim_note(sim, dir->to, SIM_NOTE_NET, (uint64_t)i, 0);
	kick(conn, i);
	drop_if_gone(conn);
}

/* Sends direction i on its way, if it has something and is not on it. */
static void kick(struct sim_conn *conn, int i)
{
	struct direction *dir = &conn->dir[i];
	if (dir->event || !(dir->reset || dir->syn || dir->tx.len || dir->fin))
		return;
	struct stele_sim *sim = conn->net->sim;
	const struct sim_machine *machine = dir->from ? dir->from : dir->to;
	uint64_t ns = machine->faults.net_ns;
	dir->event = stele_sim_schedule(sim, stele_sim_around(sim, ns), deliver, dir);
}

/* Operations */

/* "host:port" whose port is a number up to 65535, with room for one to be put in. */
static bool address_ok(const char *text)
{
	const char *colon = strrchr(text, ':');
	if (!colon || strlen(text) > STELE_ADDR_MAX - 8)
		return false;
	size_t digits = strspn(colon + 1, "0123456789");
	return digits > 0 && digits <= 5 && colon[1 + digits] == '\0' && atoi(colon + 1) <= 65535;
}

int64_t stele_sim_net_listen(struct sim_env *env, const struct stele_op *op)
{
	struct sim_net *net = env->sim->net;
	char addr[STELE_ADDR_MAX];
	if (!address_ok(op->path))
		return -EINVAL;
	size_t len = strlen(op->path);
	memcpy(addr, op->path, len + 1);
	if (strcmp(strrchr(addr, ':'), ":0") == 0)
		snprintf(addr + len - 1, sizeof(addr) - len + 1, "%u",
		         FIRST_PORT + env->machine->ports++);
	struct sim_listener *listener = find_listener(net, addr);
	if (listener && listener->env)
		return -EADDRINUSE;
	if (!listener) {
		listener = stele_sim_alloc(sizeof(*listener));
		memcpy(listener->addr, addr, sizeof(addr));
		listener->next = net->listeners;
		net->listeners = listener;
	}
	listener->machine = env->machine;
	listener->env = env;
	if (op->path_buf)
		memcpy(op->path_buf, addr, sizeof(addr));
	struct sim_handle *handle = stele_sim_handle_add(env, SIM_LISTENER);
	handle->listener = listener;
	return handle->fd;
}

static void submit_connect(struct sim_env *env, struct stele_op *op)
{
	struct stele_sim *sim = env->sim;
	if (!address_ok(op->path)) {
		stele_sim_end(env, op, -EINVAL);
		return;
	}
	if (stele_prng_chance(&sim->prng, env->machine->faults.connect_fail)) {
		bool refused = stele_prng_below(&sim->prng, 2) == 0;
		stele_sim_end(env, op, refused ? -ECONNREFUSED : -ETIMEDOUT);
		return;
	}
	struct sim_conn *conn = stele_sim_alloc(sizeof(*conn));
	struct sim_listener *listener = find_listener(sim->net, op->path);
	conn->net = sim->net;
	conn->connect = op;
	conn->client = env;
	conn->end[0].conn = conn->end[1].conn = conn;
	conn->dir[0].conn = conn->dir[1].conn = conn;
	conn->dir[0].from = conn->dir[1].to = env->machine;
	conn->dir[0].to = conn->dir[1].from = listener ? listener->machine : NULL;
	snprintf(conn->to, sizeof(conn->to), "%s", op->path);
	snprintf(conn->from, sizeof(conn->from), "%s:%u", env->machine->name,
	         FIRST_PORT + env->machine->ports++);
	conn->next = sim->net->conns;
	if (conn->next)
		conn->next->prev = conn;
	sim->net->conns = conn;
	conn->dir[0].syn = true;
	kick(conn, 0);
}

void stele_sim_net_submit(struct sim_env *env, struct stele_op *op)
{
	if (op->kind == STELE_OP_CONNECT) {
		submit_connect(env, op);
		return;
	}
	bool accepts = op->kind == STELE_OP_ACCEPT;
	struct sim_handle *handle =
	    stele_sim_handle(env, op->fd, accepts ? SIM_LISTENER : SIM_SOCKET);
	if (!handle) {
		stele_sim_end(env, op, -EBADF);
		return;
	}
	if (accepts) {
		assert(!handle->listener->accept); /* one at a time */
		handle->listener->accept = op;
		try_accept(handle->listener);
		return;
	}
	struct sim_end *end = handle->end;
	struct sim_conn *conn = end->conn;
	int i = end == &conn->end[0] ? 0 : 1;
	if (op->kind == STELE_OP_RECV) {
		assert(!end->recv);
		end->recv = op;
		try_recv(end);
		try_send(conn, 1 - i); /* there is room again */
	} else {
		assert(!end->send);
		end->send = op;
		try_send(conn, i);
	}
}

static void forget_connect(struct sim_net *net, const struct stele_op *op)
{
	struct sim_conn *conn = net->conns;
	while (conn && conn->connect != op)
		conn = conn->next;
	assert(conn);
	conn->connect = NULL;
	reset_peer(conn, 0, ECONNRESET); /* who may have accepted it */
	drop_if_gone(conn);
}

void stele_sim_net_forget(struct sim_env *env, struct stele_op *op)
{
	if (op->kind == STELE_OP_CONNECT) {
		forget_connect(env->sim->net, op);
		return;
	}
	bool accepts = op->kind == STELE_OP_ACCEPT;
	struct sim_handle *handle =
	    stele_sim_handle(env, op->fd, accepts ? SIM_LISTENER : SIM_SOCKET);
	assert(handle);
	if (accepts)
		handle->listener->accept = NULL;
	else if (op->kind == STELE_OP_RECV)
		handle->end->recv = NULL;
	else
		handle->end->send = NULL;
}

static void listener_close(struct sim_listener *listener)
{
	listener->env = NULL;
	while (listener->backlog) {
		struct sim_conn *conn = listener->backlog;
		listener->backlog = conn->backlog_next;
		end_close(&conn->end[1], true);
	}
	listener->backlog_n = 0;
}

static void cancel_op(struct sim_env *env, struct stele_op **at)
{
	struct stele_op *op = *at;
	*at = NULL;
	if (op)
		stele_sim_end(env, op, -ECANCELED);
}

void stele_sim_net_close(struct sim_env *env, struct sim_handle *handle)
{
	if (handle->kind == SIM_LISTENER) {
		cancel_op(env, &handle->listener->accept);
		listener_close(handle->listener);
		return;
	}
	cancel_op(env, &handle->end->recv);
	cancel_op(env, &handle->end->send);
	end_close(handle->end, false);
}

void stele_sim_net_crash(struct sim_env *env)
{
	struct sim_net *net = env->sim->net;
	for (struct sim_listener *listener = net->listeners; listener; listener = listener->next) {
		if (listener->env == env)
			listener_close(listener);
	}
	for (struct sim_conn *conn = net->conns, *next; conn; conn = next) {
		next = conn->next;
		bool first = conn->end[0].env == env, second = conn->end[1].env == env;
		if (second)
			end_close(&conn->end[1], true);
		if (first) /* still there: the other end alone does not free it */
			end_close(&conn->end[0], true);
	}
}

struct sim_net *stele_sim_net_create(struct stele_sim *sim)
{
	struct sim_net *net = stele_sim_alloc(sizeof(*net));
	net->sim = sim;
	return net;
}

void stele_sim_net_destroy(struct sim_net *net)
{
	while (net->conns) {
		struct sim_conn *conn = net->conns;
		assert(!conn->connect && !conn->end[0].env && !conn->end[1].env);
		conn->end[0].open = conn->end[1].open = false;
		drop_if_gone(conn);
	}
	while (net->listeners) {
		struct sim_listener *listener = net->listeners;
		net->listeners = listener->next;
		free(listener);
	}
	while (net->rules) {
		struct rule *rule = net->rules;
		net->rules = rule->next;
		free(rule);
	}
	free(net);
}
