/*
 * Calls to one peer: which wait for a connection, which for their reply, when each gives up. Moves
 * no bytes (conn.c) and knows no opcode but HELLO.
 *
 * A call waits in `waiting` until the connection stands and a slot is free; then its slot's number
 * and a count are its request id. A withdrawn call leaves its slot taken until the reply, which is
 * dropped, has come: the other side still counts that request. `finished` calls only wait for their
 * callback.
 */
#include "net/wire/peer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/wire/call_table.h"
#include "net/wire/conn.h"

#define CONNECT_NS       1000000000ull
#define CALL_NS          30000000000ull
#define BACKOFF_FIRST_NS 10000000ull
#define BACKOFF_MAX_NS   200000000ull
#define SILENT_NS        5000000000ull /* a connection this silent when a call times out is given up */
#define NEVER            UINT64_MAX

enum peer_state {
	OFF, /* no connection; the next call makes one, unless it is too early */
	CONNECTING,
	SHAKING,  /* the transport's handshake */
	GREETING, /* HELLO is on its way, calls right behind it */
	ON,
};

struct stele_peer {
	struct stele_peer_opts opts;
	char *addr;
	enum peer_state state;
	struct stele_conn *conn;
	uint32_t ending; /* former connections that still have something under way */
	struct stele_call_list waiting, finished;
	struct stele_call_table table;
	struct stele_call_slot *cur; /* whose frame is coming */
	struct stele_call hello;
	uint8_t hello_head[64];

	struct stele_op connect, timer, soon;
	uint64_t armed_at;
	uint64_t connect_deadline;
	bool connect_late;
	uint64_t backoff, retry_at;
	enum stele_err last_err; /* why there is no connection */
	char last_detail[STELE_DETAIL_MAX];
	uint8_t last_words[STELE_WIRE_ERROR_MAX]; /* an error about the connection, as it comes */
	uint64_t sent, received;                  /* of former connections */

	bool closing;
	void (*done)(void *ctx);
	void *done_ctx;
};

static void connect_now(struct stele_peer *p);
static void lost(struct stele_peer *p, enum stele_err err, bool refused);

/* ---- the end of calls ---- */

static void maybe_done(struct stele_peer *p)
{
	if (!p->done || p->conn || p->ending || p->finished.first ||
	    stele_op_pending(&p->connect) || stele_op_pending(&p->timer) ||
	    stele_op_pending(&p->soon))
		return;
	void (*done)(void *) = p->done;
	p->done = NULL;
	done(p->done_ctx);
}

static void on_soon(struct stele_op *op)
{
	struct stele_peer *p = op->ctx;
	struct stele_call *call;
	while ((call = p->finished.first)) {
		stele_call_remove(&p->finished, call);
		call->cb(call);
	}
	maybe_done(p);
}

static void kick(struct stele_peer *p)
{
	if (stele_op_pending(&p->soon))
		return;
	p->soon = (struct stele_op){.kind = STELE_OP_TIMER, .off = 0, .cb = on_soon, .ctx = p};
	stele_env_submit(p->opts.env, &p->soon);
}

/* The call is over, in no list and no slot: its callback comes soon. The detail says why. */
static void finish(struct stele_peer *p, struct stele_call *call, enum stele_err err)
{
	call->err = err;
	stele_detail_copy(call->detail);
	stele_call_append(&p->finished, call, STELE_CALL_FINISHED);
	kick(p);
}

static void on_sent(void *ctx)
{
	struct stele_call_slot *s = ctx;
	s->out = NULL;
}

/* Withdraws a call from its slot: its buffers are not touched any more. */
static void abandon(struct stele_peer *p, struct stele_call_slot *s)
{
	bool whole = true;
	s->call->priv.slot = NULL;
	s->call = NULL;
	stele_conn_drop_body(p->conn, s->req);
	if (s->out) {
		whole = stele_conn_abort(p->conn, s->out);
		s->out = NULL;
	}
	if (!whole && !s->begun)
		stele_call_slot_free(&p->table, s); /* no reply will come, or one for nobody */
}

/* ---- timers ---- */

static void on_timer(struct stele_op *op);

static void arm(struct stele_peer *p, uint64_t at)
{
	if (at == NEVER || p->closing)
		return;
	if (stele_op_pending(&p->timer)) {
		if (p->armed_at > at)
			stele_env_cancel(p->opts.env, &p->timer); /* on_timer arms it again */
		return;
	}
	p->armed_at = at;
	p->timer = (struct stele_op){.kind = STELE_OP_TIMER, .off = at, .cb = on_timer, .ctx = p};
	stele_env_submit(p->opts.env, &p->timer);
}

/* Ends the call with TIMEOUT. */
static void expire(struct stele_peer *p, struct stele_call *call)
{
	enum stele_err err = stele_fail(STELE_ERR_TIMEOUT, "%s: no reply to %s within %llu ms",
	                                p->addr, stele_opcode_name(call->op),
	                                (unsigned long long)(call->timeout_ns / 1000000));
	if (call->priv.state == STELE_CALL_WAITING)
		stele_call_remove(&p->waiting, call);
	else
		abandon(p, call->priv.slot);
	finish(p, call, err);
}

/* Ends what is due by now; returns when the next is. */
static uint64_t expire_due(struct stele_peer *p, uint64_t now)
{
	uint64_t next = NEVER;
	bool silent = false;
	struct stele_call *after;
	for (struct stele_call *call = p->waiting.first; call; call = after) {
		after = call->priv.next;
		if (call->priv.deadline <= now)
			expire(p, call);
		else if (call->priv.deadline < next)
			next = call->priv.deadline;
	}
	for (uint32_t i = 0; i < p->table.n; i++) {
		struct stele_call *call = p->table.slot[i]->call;
		if (!call || call == &p->hello)
			continue;
		if (call->priv.deadline <= now) {
			silent = now - stele_conn_last_heard(p->conn) >= SILENT_NS;
			expire(p, call);
		} else if (call->priv.deadline < next) {
			next = call->priv.deadline;
		}
	}
	if (silent) {
		(void)stele_fail(STELE_ERR_CLOSED, "%s: silent", p->addr);
		stele_conn_close(p->conn);
		lost(p, STELE_ERR_CLOSED, false);
	}
	if (p->state == CONNECTING && p->connect_deadline <= now) {
		p->connect_late = true;
		stele_env_cancel(p->opts.env, &p->connect);
	} else if (p->state == CONNECTING && p->connect_deadline < next) {
		next = p->connect_deadline;
	}
	return next;
}

static void on_timer(struct stele_op *op)
{
	struct stele_peer *p = op->ctx;
	if (!p->closing)
		arm(p, expire_due(p, stele_env_now(p->opts.env)));
	maybe_done(p);
}

/* ---- sending ---- */

/* Puts a call on the connection, in a slot that was taken for it. */
static enum stele_err activate(struct stele_peer *p, struct stele_call_slot *s,
                               struct stele_call *call)
{
	struct stele_message m = {
	    .op = call->op,
	    .req = s->req,
	    .epoch = call->epoch,
	    .head = call->head,
	    .head_len = call->head_len,
	    .body = call->body,
	    .nbody = call->nbody,
	    .sent = on_sent,
	    .ctx = s,
	};
	s->out = stele_conn_send(p->conn, &m);
	if (!s->out) {
		stele_call_slot_free(&p->table, s);
		return stele_fail(STELE_ERR_NOMEM, "%s: out of memory", p->addr);
	}
	s->op = call->op;
	s->call = call;
	call->priv.slot = s;
	call->priv.state = STELE_CALL_ACTIVE;
	return STELE_OK;
}

/* Puts calls that wait on the connection while there are slots for them. */
static void activate_waiting(struct stele_peer *p)
{
	while (p->state >= GREETING && p->waiting.first) {
		struct stele_call *call = p->waiting.first;
		struct stele_call_slot *s = stele_call_slot_take(&p->table);
		if (!s)
			break; /* the next reply makes room */
		stele_call_remove(&p->waiting, call);
		enum stele_err err = activate(p, s, call);
		if (err != STELE_OK)
			finish(p, call, err);
	}
}

static void on_hello(struct stele_call *call)
{
	struct stele_peer *p = call->ctx;
	struct stele_head_hello hello;
	enum stele_err err = call->err;
	bool refused = err != STELE_OK;
	if (refused)
		(void)stele_fail(err, "%s", call->detail);
	else
		err = stele_head_hello_decode(call->reply_head, call->reply_head_len, true, &hello);
	if (err == STELE_OK && hello.version != STELE_PROTOCOL_VERSION)
		err = stele_fail(STELE_ERR_VERSION, "%s: speaks version %u of the protocol",
		                 p->addr, hello.version);
	if (err == STELE_OK) {
		p->state = ON;
		p->backoff = 0;
		stele_conn_set_deadline(p->conn, 0, NULL);
		return;
	}
	stele_conn_close(p->conn);
	lost(p, err, refused);
}

static void up(void *ctx, struct stele_conn *c)
{
	struct stele_peer *p = ctx;
	struct stele_head_hello hello = {.version = STELE_PROTOCOL_VERSION,
	                                 .cluster = p->opts.cluster};
	struct stele_writer w = stele_writer(p->hello_head, sizeof(p->hello_head));
	stele_head_hello_encode(&hello, false, &w);
	assert(!w.bad);
	p->hello = (struct stele_call){.op = STELE_OPCODE_HELLO,
	                               .head = p->hello_head,
	                               .head_len = (uint32_t)stele_written(&w),
	                               .cb = on_hello,
	                               .ctx = p};
	p->state = GREETING;
	struct stele_call_slot *s = stele_call_slot_take(&p->table);
	enum stele_err err = s ? activate(p, s, &p->hello)
	                       : stele_fail(STELE_ERR_NOMEM, "%s: out of memory", p->addr);
	if (err == STELE_OK) {
		activate_waiting(p);
	} else {
		stele_conn_close(c);
		lost(p, err, false);
	}
}

/* ---- replies coming in ---- */

static uint64_t room_of(const struct stele_call *call)
{
	uint64_t room = 0;
	for (uint32_t i = 0; i < call->ninto; i++)
		room += call->into[i].iov_len;
	return room;
}

static enum stele_err begin_reply(struct stele_peer *p, struct stele_call_slot *s,
                                  const struct stele_frame *f)
{
	if (s->begun || f->op != s->op || (s->call == &p->hello && f->body_left))
		return stele_fail(STELE_ERR_PROTOCOL, "a reply out of order");
	s->head = malloc(f->head_len ? f->head_len : 1);
	if (!s->head)
		return stele_fail(STELE_ERR_NOMEM, "reply: out of memory");
	s->begun = true;
	s->error = f->flags & STELE_FRAME_ERR;
	s->head_len = f->head_len;
	s->left = f->body_left;
	s->body_len = f->body_left;
	struct stele_call *call = s->call;
	if (call && f->body_left > room_of(call)) {
		enum stele_err err = stele_fail(STELE_ERR_PROTOCOL,
		                                "%s: %s replied %u bytes, more than were asked for",
		                                p->addr, stele_opcode_name(f->op), f->body_left);
		abandon(p, s);
		finish(p, call, err);
	}
	return STELE_OK;
}

static enum stele_err begin(void *ctx, const struct stele_frame *f, struct stele_conn_in *in)
{
	struct stele_peer *p = ctx;
	p->cur = NULL;
	if (!(f->flags & STELE_FRAME_REPLY))
		return stele_fail(STELE_ERR_PROTOCOL, "a request to the calling side");
	if (f->req == STELE_FRAME_REQ_CONN) {
		if (f->head_len > sizeof(p->last_words))
			return stele_fail(STELE_ERR_PROTOCOL, "an error of %u bytes", f->head_len);
		in->head = p->last_words;
		return STELE_OK;
	}
	struct stele_call_slot *s = stele_call_slot_find(&p->table, f->req);
	if (!s)
		return STELE_OK; /* to a call that was withdrawn: dropped */
	if (f->flags & STELE_FRAME_FIRST)
		STELE_TRY(begin_reply(p, s, f));
	else if (!s->begun || f->body_left != s->left || f->op != s->op)
		return stele_fail(STELE_ERR_PROTOCOL, "a frame out of order");
	p->cur = s;
	in->head = s->head;
	if (s->call && s->left) {
		in->body = s->call->into;
		in->nbody = s->call->ninto;
		in->skip = s->body_len - s->left;
	}
	return STELE_OK;
}

/* The reply is complete. */
static void complete(struct stele_peer *p, struct stele_call_slot *s, uint64_t epoch)
{
	struct stele_call *call = s->call;
	uint8_t *head = s->head;
	if (!call) {
		stele_call_slot_free(&p->table, s);
		activate_waiting(p);
		return;
	}
	call->reply_epoch = epoch;
	if (s->error) {
		call->err = stele_wire_error_decode(head, s->head_len);
		call->err = stele_wrap(call->err, "%s", p->addr);
		stele_detail_copy(call->detail);
	} else {
		call->err = STELE_OK;
		call->reply_head = head;
		call->reply_head_len = s->head_len;
		call->reply_body_len = s->body_len;
	}
	if (s->out) { /* answered before all of it was sent: the rest is not wanted */
		(void)stele_conn_abort(p->conn, s->out);
		s->out = NULL;
	}
	s->head = NULL;
	stele_call_slot_free(&p->table, s);
	call->priv.slot = NULL;
	call->priv.state = STELE_CALL_IDLE;
	activate_waiting(p);
	call->cb(call);
	free(head);
}

static enum stele_err end(void *ctx, const struct stele_frame *f)
{
	struct stele_peer *p = ctx;
	struct stele_call_slot *s = p->cur;
	p->cur = NULL;
	if (f->req == STELE_FRAME_REQ_CONN)
		return stele_wire_error_decode(p->last_words, f->head_len);
	if (!s)
		return STELE_OK;
	s->left -= stele_frame_body(f);
	if (f->flags & STELE_FRAME_END)
		complete(p, s, f->epoch);
	return STELE_OK;
}

/* ---- the connection's beginning and end ---- */

/* What calls are told when no connection came about: a peer that says no, or is not who it should
 * be, is named; everything else is UNAVAILABLE. */
static enum stele_err verdict(enum stele_err err)
{
	return err == STELE_ERR_DENIED || err == STELE_ERR_VERSION || err == STELE_ERR_PROTOCOL
	           ? err
	           : STELE_ERR_UNAVAILABLE;
}

/* No connection came about; the detail says why. Everything that waits for one fails, and so do
 * calls until it is time to try again. */
static void give_up(struct stele_peer *p, enum stele_err err)
{
	struct stele_call *call;
	p->backoff = p->backoff ? 2 * p->backoff : BACKOFF_FIRST_NS;
	if (p->backoff > BACKOFF_MAX_NS)
		p->backoff = BACKOFF_MAX_NS;
	p->retry_at = stele_env_now(p->opts.env) + p->backoff;
	p->last_err = verdict(err);
	stele_detail_copy(p->last_detail);
	while ((call = p->waiting.first)) {
		stele_call_remove(&p->waiting, call);
		finish(p, call, p->last_err);
	}
}

/* The connection is no more (its object may still be ending); the detail says why. refused: HELLO
 * was, so that nothing behind it was done. */
static void lost(struct stele_peer *p, enum stele_err err, bool refused)
{
	bool cut_off = p->state == ON && err == STELE_ERR_CLOSED; /* it may well be there again */
	p->conn = NULL;
	p->ending++;
	p->state = OFF;
	p->cur = NULL;
	for (uint32_t i = 0; i < p->table.n; i++) {
		struct stele_call_slot *s = p->table.slot[i];
		struct stele_call *call = s->call;
		bool unsent = s->out && !stele_out_started(s->out);
		if (!s->req)
			continue;
		if (s->out)
			stele_out_detach(s->out);
		s->out = NULL;
		stele_call_slot_free(&p->table, s);
		if (!call || call == &p->hello)
			continue;
		call->priv.slot = NULL;
		if (p->closing)
			finish(p, call, STELE_ERR_CANCELLED);
		else if (unsent && cut_off)
			stele_call_append(&p->waiting, call, STELE_CALL_WAITING);
		else if (unsent || refused)
			finish(p, call, verdict(err));
		else
			finish(p, call, STELE_ERR_CLOSED);
	}
	if (p->closing)
		return;
	if (!cut_off)
		give_up(p, err);
	else if (p->waiting.first)
		connect_now(p);
}

static void down(void *ctx, struct stele_conn *c, enum stele_err err)
{
	struct stele_peer *p = ctx;
	assert(c == p->conn);
	lost(p, stele_wrap(err, "%s", p->addr), false);
}

static void gone(void *ctx, struct stele_conn *c)
{
	struct stele_peer *p = ctx;
	uint64_t sent, received;
	stele_conn_traffic(c, &sent, &received);
	p->sent += sent;
	p->received += received;
	p->ending--;
	if (p->done)
		kick(p);
}

static const struct stele_conn_user peer_user = {
    .up = up,
    .begin = begin,
    .end = end,
    .down = down,
    .gone = gone,
};

static enum stele_err open_conn(struct stele_peer *p, int fd)
{
	struct stele_transport *transport;
	enum stele_err err = p->opts.transport->create(p->opts.transport, false, p->opts.expect,
	                                               p->opts.nexpect, &transport);
	if (err != STELE_OK) {
		stele_file_close(p->opts.env, &fd);
		return err;
	}
	struct stele_conn_opts opts = {.env = p->opts.env, .user = &peer_user, .ctx = p};
	STELE_TRY(stele_conn_create(&opts, fd, transport, &p->conn));
	stele_conn_set_deadline(p->conn, p->connect_deadline, "no answer in time");
	p->state = SHAKING;
	return STELE_OK;
}

/* UNAVAILABLE, whatever the system calls it. */
static enum stele_err not_connected(const struct stele_peer *p, int errnum)
{
	if (p->connect_late)
		(void)stele_fail(STELE_ERR_UNAVAILABLE, "%s: no answer in time", p->addr);
	else
		(void)stele_fail_errno(errnum, "%s", p->addr);
	return STELE_ERR_UNAVAILABLE;
}

static void on_connect(struct stele_op *op)
{
	struct stele_peer *p = op->ctx;
	int fd = (int)op->result;
	enum stele_err err = STELE_OK;
	if (fd >= 0 && p->closing)
		stele_file_close(p->opts.env, &fd);
	else if (fd >= 0)
		err = open_conn(p, fd);
	else
		err = not_connected(p, -fd);
	if (!p->closing && err != STELE_OK) {
		p->state = OFF;
		give_up(p, err);
	}
	maybe_done(p);
}

static void connect_now(struct stele_peer *p)
{
	p->state = CONNECTING;
	p->connect_late = false;
	p->connect_deadline = stele_env_now(p->opts.env) + p->opts.connect_timeout_ns;
	p->connect = (struct stele_op){
	    .kind = STELE_OP_CONNECT, .path = p->addr, .cb = on_connect, .ctx = p};
	stele_env_submit(p->opts.env, &p->connect);
	arm(p, p->connect_deadline);
}

/* ---- the user's calls ---- */

enum stele_err stele_peer_create(const struct stele_peer_opts *opts, struct stele_peer **out)
{
	assert(opts->nexpect <= sizeof(opts->expect) / sizeof(opts->expect[0]));
	struct stele_peer *p = calloc(1, sizeof(*p));
	char *addr = strdup(opts->addr);
	if (!p || !addr) {
		free(p);
		free(addr);
		return stele_fail(STELE_ERR_NOMEM, "peer: out of memory");
	}
	p->opts = *opts;
	p->opts.addr = p->addr = addr;
	if (p->opts.connect_timeout_ns == 0)
		p->opts.connect_timeout_ns = CONNECT_NS;
	*out = p;
	return STELE_OK;
}

void stele_peer_call(struct stele_peer *p, struct stele_call *call)
{
	assert(call->cb && call->op);
	uint64_t now = stele_env_now(p->opts.env);
	if (call->timeout_ns == 0)
		call->timeout_ns = CALL_NS;
	call->err = STELE_OK;
	call->detail[0] = '\0';
	call->reply_head = NULL;
	call->reply_head_len = 0;
	call->reply_body_len = 0;
	call->reply_epoch = 0;
	memset(&call->priv, 0, sizeof(call->priv));
	call->priv.deadline = call->timeout_ns < NEVER - now ? now + call->timeout_ns : NEVER;
	if (p->closing) {
		finish(p, call, stele_fail(STELE_ERR_CANCELLED, "%s: closing", p->addr));
	} else if (p->state == OFF && now < p->retry_at) {
		finish(p, call, stele_fail(p->last_err, "%s", p->last_detail));
	} else {
		stele_call_append(&p->waiting, call, STELE_CALL_WAITING);
		arm(p, call->priv.deadline);
		if (p->state == OFF)
			connect_now(p);
		else
			activate_waiting(p);
	}
}

void stele_peer_cancel(struct stele_peer *p, struct stele_call *call)
{
	if (call->priv.state == STELE_CALL_WAITING)
		stele_call_remove(&p->waiting, call);
	else if (call->priv.state == STELE_CALL_ACTIVE)
		abandon(p, call->priv.slot);
	else
		return; /* its callback has run, or is due with what came first */
	finish(p, call, stele_fail(STELE_ERR_CANCELLED, "%s: cancelled", p->addr));
}

void stele_peer_close(struct stele_peer *p, void (*done)(void *ctx), void *ctx)
{
	struct stele_call *call;
	assert(!p->closing && done);
	p->closing = true;
	p->done = done;
	p->done_ctx = ctx;
	(void)stele_fail(STELE_ERR_CANCELLED, "%s: closed", p->addr);
	while ((call = p->waiting.first)) {
		stele_call_remove(&p->waiting, call);
		finish(p, call, STELE_ERR_CANCELLED);
	}
	if (p->conn) {
		stele_conn_close(p->conn);
		lost(p, STELE_ERR_CANCELLED, false);
	}
	stele_env_cancel(p->opts.env, &p->connect);
	stele_env_cancel(p->opts.env, &p->timer);
	kick(p);
}

void stele_peer_destroy(struct stele_peer *p)
{
	if (!p)
		return;
	assert(!p->done && !p->conn && !p->ending && !p->waiting.first && !p->finished.first);
	assert(!stele_op_pending(&p->connect) && !stele_op_pending(&p->timer) &&
	       !stele_op_pending(&p->soon));
	stele_call_table_finish(&p->table);
	free(p->addr);
	free(p);
}

void stele_peer_traffic(const struct stele_peer *p, uint64_t *sent, uint64_t *received)
{
	*sent = p->sent;
	*received = p->received;
	if (p->conn) {
		uint64_t s, r;
		stele_conn_traffic(p->conn, &s, &r);
		*sent += s;
		*received += r;
	}
}
