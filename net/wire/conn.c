/*
 * One connection's socket, timers and both directions of frames. Judges no request and keeps no
 * bodies: those are the user's.
 *
 * Everything happens in turns: an event of the env (bytes came, bytes went, a timer) or a message
 * queued meanwhile leads to turn(), which reads what it may, writes what it can, and submits what
 * is needed next. So no user callback fires inside a call of conn.h, and many small messages share
 * a record and a system call.
 */
#include "net/wire/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define RECV_LEN   (256u << 10)
#define STAGE_LEN  16384u /* a TLS record */
#define STAGE_SPAN 4096u  /* shorter pieces are gathered, longer ones go straight */
#define QUEUED_MAX 1024u  /* messages, where unsent_max is set */
#define LINGER_NS  1000000000ull
#define NEVER      UINT64_MAX

enum conn_state {
	OPEN,
	FINISHING, /* flushes, drops what comes */
	CLOSED,    /* waits for its operations to come back */
};

struct stele_conn {
	struct stele_conn_opts opts;
	struct stele_transport *transport;
	int fd;
	enum conn_state state;
	bool up;
	bool paused;
	bool expecting;
	bool in_turn; /* a turn is on its way to the end, which sees everything that is queued */
	bool mute;    /* the transport failed: only what it holds may still go */
	enum stele_err doomed; /* a call could not do its part: fail in the next turn */

	struct stele_op recv, send, close, timer, soon;
	struct iovec recv_iov, send_iov;
	uint8_t *recv_buf;
	bool fed; /* the transport still reads from recv_buf */
	uint64_t armed_at;
	uint64_t deadline;
	const char *deadline_why;
	uint64_t heard, moved; /* when bytes came; when bytes came or went */
	uint64_t sent_bytes, received_bytes;

	/* in */
	uint8_t in_header[STELE_FRAME_LEN];
	size_t in_at; /* bytes of the frame so far, header included */
	struct stele_frame in_frame;
	struct stele_conn_in in;
	uint8_t scrap[STAGE_LEN]; /* dropped bytes go here */

	/* out */
	struct stele_outbox out;
	uint8_t stage[STAGE_LEN];
	size_t stage_at, stage_len;
};

static void turn(struct stele_conn *c);

/* ---- the end ---- */

static void release(struct stele_conn *c)
{
	stele_outbox_clear(&c->out);
	c->opts.user->gone(c->opts.ctx, c);
	c->transport->ops->destroy(c->transport);
	free(c->recv_buf);
	free(c);
}

/* The end of every callback of the env: c may be gone when this returns. */
static void leave(struct stele_conn *c)
{
	if (c->state == CLOSED && !stele_op_pending(&c->recv) && !stele_op_pending(&c->send) &&
	    !stele_op_pending(&c->close) && !stele_op_pending(&c->timer) &&
	    !stele_op_pending(&c->soon))
		release(c);
}

static void on_over(struct stele_op *op)
{
	leave(op->ctx);
}

static void shut(struct stele_conn *c)
{
	if (c->state == CLOSED)
		return;
	c->state = CLOSED;
	stele_env_cancel(c->opts.env, &c->timer);
	stele_env_cancel(c->opts.env, &c->soon);
	c->close = (struct stele_op){
	    .kind = STELE_OP_CLOSE, .fd = c->fd, .cb = on_over, .ctx = c}; /* ends recv and send */
	stele_env_submit(c->opts.env, &c->close);
}

/* The connection is lost; the reason is in the thread's detail. polite: the other side may be told.
 */
static void fail(struct stele_conn *c, enum stele_err err, bool polite)
{
	if (c->state != OPEN) {
		shut(c);
		return;
	}
	if (polite && c->opts.tell) {
		uint8_t head[STELE_WIRE_ERROR_MAX];
		struct stele_message m = {
		    .flags = STELE_FRAME_REPLY | STELE_FRAME_ERR,
		    .req = STELE_FRAME_REQ_CONN,
		    .head = head,
		    .head_len = (uint32_t)stele_wire_error_encode(err, stele_detail(), head),
		};
		if (!c->mute)
			(void)stele_conn_send(c, &m); /* without memory it is not told */
		stele_conn_finish(c);
	} else {
		shut(c);
	}
	c->opts.user->down(c->opts.ctx, c, err);
}

/* ---- timers ---- */

static uint64_t due(const struct stele_conn *c)
{
	uint64_t at = c->deadline ? c->deadline : NEVER;
	if (c->expecting || stele_op_pending(&c->send)) {
		uint64_t stall = c->moved + STELE_CONN_STALL_NS;
		at = stall < at ? stall : at;
	}
	return at;
}

static void on_timer(struct stele_op *op);

/* Sees to it that the timer fires no later than needed; too early is no harm. */
static void arm(struct stele_conn *c)
{
	uint64_t at = due(c);
	if (c->state == CLOSED || at == NEVER)
		return;
	if (stele_op_pending(&c->timer)) {
		if (c->armed_at > at)
			stele_env_cancel(c->opts.env, &c->timer); /* on_timer arms it again */
		return;
	}
	c->armed_at = at;
	c->timer = (struct stele_op){.kind = STELE_OP_TIMER, .off = at, .cb = on_timer, .ctx = c};
	stele_env_submit(c->opts.env, &c->timer);
}

static void on_timer(struct stele_op *op)
{
	struct stele_conn *c = op->ctx;
	uint64_t now = stele_env_now(c->opts.env);
	if (c->state != CLOSED && due(c) <= now) {
		bool late = c->deadline && c->deadline <= now;
		if (late)
			(void)stele_fail(STELE_ERR_TIMEOUT, "%s", c->deadline_why);
		else
			(void)stele_fail(STELE_ERR_CLOSED, "the connection stalled");
		fail(c, late ? STELE_ERR_TIMEOUT : STELE_ERR_CLOSED, false);
	}
	arm(c);
	leave(c);
}

static void on_soon(struct stele_op *op)
{
	turn(op->ctx);
	leave(op->ctx);
}

/* A turn is needed, and this is not one. */
static void kick(struct stele_conn *c)
{
	if (c->in_turn || c->state == CLOSED || stele_op_pending(&c->soon))
		return;
	c->soon = (struct stele_op){.kind = STELE_OP_TIMER, .off = 0, .cb = on_soon, .ctx = c};
	stele_env_submit(c->opts.env, &c->soon);
}

/* ---- out ---- */

/* Gives the stage to the transport; *empty false: it takes no more for now. */
static enum stele_err flush_stage(struct stele_conn *c, bool *empty)
{
	size_t took;
	STELE_TRY(c->transport->ops->send(c->transport, c->stage + c->stage_at,
	                                  c->stage_len - c->stage_at, &took));
	c->stage_at += took;
	*empty = c->stage_at == c->stage_len;
	if (*empty)
		c->stage_at = c->stage_len = 0;
	return STELE_OK;
}

/* Moves queued messages into the transport until it is full or they are all in it. */
static enum stele_err fill(struct stele_conn *c)
{
	const uint8_t *p;
	size_t len, took;
	while (c->state != CLOSED) { /* `sent` may close */
		bool more = stele_outbox_next(&c->out, &p, &len);
		if (more && len < STAGE_SPAN && c->stage_len + len <= STAGE_LEN) {
			memcpy(c->stage + c->stage_len, p, len);
			c->stage_len += len;
			stele_outbox_take(&c->out, len);
			continue;
		}
		if (c->stage_len) {
			bool empty;
			STELE_TRY(flush_stage(c, &empty));
			if (!empty)
				break;
			continue;
		}
		if (!more)
			break;
		STELE_TRY(c->transport->ops->send(c->transport, p, len, &took));
		stele_outbox_take(&c->out, took);
		if (took < len)
			break;
	}
	return STELE_OK;
}

static void on_send(struct stele_op *op)
{
	struct stele_conn *c = op->ctx;
	if (op->result > 0) {
		c->moved = stele_env_now(c->opts.env);
		c->sent_bytes += (uint64_t)op->result;
		c->transport->ops->drained(c->transport, (size_t)op->result);
		turn(c);
	} else if (c->state != CLOSED) {
		fail(
		    c,
		    stele_fail(STELE_ERR_CLOSED, "connection lost: %s", strerror((int)-op->result)),
		    false);
	}
	leave(c);
}

/* Keeps one SEND under way while there is anything to send. */
static void write_out(struct stele_conn *c)
{
	for (;;) {
		if (c->up && !c->mute) {
			enum stele_err err = fill(c);
			if (err != STELE_OK) {
				c->mute = true;
				fail(c, err, true);
			}
		}
		if (c->state == CLOSED || stele_op_pending(&c->send))
			return;
		size_t len;
		const void *bytes = c->transport->ops->drain(c->transport, &len);
		if (len == 0)
			return;
		c->send_iov = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
		c->send = (struct stele_op){.kind = STELE_OP_SEND,
		                            .fd = c->fd,
		                            .iov = &c->send_iov,
		                            .niov = 1,
		                            .cb = on_send,
		                            .ctx = c};
		c->moved = stele_env_now(c->opts.env);
		stele_env_submit(c->opts.env, &c->send);
	}
}

/* ---- in ---- */

/* Where the next bytes of the frame go; *len 0: the frame is complete. */
static uint8_t *in_place(struct stele_conn *c, size_t *len)
{
	if (c->in_at < STELE_FRAME_LEN) {
		*len = STELE_FRAME_LEN - c->in_at;
		return c->in_header + c->in_at;
	}
	size_t at = c->in_at - STELE_FRAME_LEN;
	uint8_t *place = NULL;
	if (at < c->in_frame.head_len) {
		*len = c->in_frame.head_len - at;
		place = c->in.head ? c->in.head + at : NULL;
	} else {
		*len = c->in_frame.head_len + stele_frame_body(&c->in_frame) - at;
		if (*len && c->in.body) {
			while (c->in.skip >= c->in.body->iov_len) {
				assert(c->in.nbody > 1); /* the user gave room for the frame */
				c->in.skip -= c->in.body->iov_len;
				c->in.body++;
				c->in.nbody--;
			}
			place = (uint8_t *)c->in.body->iov_base + c->in.skip;
			if (c->in.body->iov_len - c->in.skip < *len)
				*len = c->in.body->iov_len - c->in.skip;
		}
	}
	if (place)
		return place;
	if (*len > sizeof(c->scrap))
		*len = sizeof(c->scrap);
	return c->scrap;
}

/* got bytes are in place: moves on, and tells the user where a header or a frame is complete. */
static enum stele_err in_advance(struct stele_conn *c, size_t got)
{
	bool header = c->in_at < STELE_FRAME_LEN;
	if (!header && c->in_at >= STELE_FRAME_LEN + c->in_frame.head_len && c->in.body)
		c->in.skip += got;
	c->in_at += got;
	if (header && c->in_at == STELE_FRAME_LEN) {
		c->in = (struct stele_conn_in){0};
		STELE_TRY(stele_frame_decode(c->in_header, &c->in_frame));
		STELE_TRY(c->opts.user->begin(c->opts.ctx, &c->in_frame, &c->in));
	}
	if (c->in_at >= STELE_FRAME_LEN &&
	    c->in_at == STELE_FRAME_LEN + c->in_frame.head_len + stele_frame_body(&c->in_frame)) {
		c->in_at = 0;
		if (c->state == OPEN)
			return c->opts.user->end(c->opts.ctx, &c->in_frame);
	}
	return STELE_OK;
}

static bool may_read(const struct stele_conn *c)
{
	return c->state == OPEN && c->up && !c->paused &&
	       (c->opts.unsent_max == 0 ||
	        (c->out.unsent <= c->opts.unsent_max && c->out.queued <= QUEUED_MAX));
}

/* Takes frames out of what was received, as long as they are wanted. */
static void read_in(struct stele_conn *c)
{
	while (c->fed && may_read(c)) {
		size_t len, got;
		uint8_t *place = in_place(c, &len);
		enum stele_err err = c->transport->ops->recv(c->transport, place, len, &got);
		if (err != STELE_OK) {
			c->mute = true;
			fail(c, err, err == STELE_ERR_PROTOCOL);
			return;
		}
		if (got == 0) {
			c->fed = false;
			return;
		}
		err = in_advance(c, got);
		if (err != STELE_OK) {
			fail(c, err, true);
			return;
		}
	}
}

static void on_bytes(struct stele_conn *c, size_t len)
{
	c->heard = c->moved = stele_env_now(c->opts.env);
	c->received_bytes += len;
	if (c->state != OPEN)
		return; /* finishing: dropped */
	c->fed = true;
	enum stele_err err = c->transport->ops->feed(c->transport, c->recv_buf, len);
	if (err != STELE_OK) {
		c->mute = true;
		fail(c, err, true);
	} else if (!c->up && c->transport->ops->ready(c->transport)) {
		c->up = true;
		c->opts.user->up(c->opts.ctx, c);
	} else if (!c->up) {
		c->fed = false; /* the handshake took all of it */
	}
}

static void on_recv(struct stele_op *op)
{
	struct stele_conn *c = op->ctx;
	if (c->state != CLOSED && op->result > 0) {
		c->in_turn = true;
		on_bytes(c, (size_t)op->result);
		c->in_turn = false;
	} else if (c->state != CLOSED) {
		if (op->result == 0)
			(void)stele_fail(STELE_ERR_CLOSED, "closed by the other side");
		else
			(void)stele_fail(STELE_ERR_CLOSED, "connection lost: %s",
			                 strerror((int)-op->result));
		fail(c, STELE_ERR_CLOSED, false);
	}
	turn(c);
	leave(c);
}

static void receive_more(struct stele_conn *c)
{
	if (c->state == CLOSED || stele_op_pending(&c->recv) || (c->state == OPEN && c->fed))
		return;
	c->recv_iov = (struct iovec){.iov_base = c->recv_buf, .iov_len = RECV_LEN};
	c->recv = (struct stele_op){.kind = STELE_OP_RECV,
	                            .fd = c->fd,
	                            .iov = &c->recv_iov,
	                            .niov = 1,
	                            .cb = on_recv,
	                            .ctx = c};
	stele_env_submit(c->opts.env, &c->recv);
}

static void turn(struct stele_conn *c)
{
	c->in_turn = true;
	if (c->doomed != STELE_OK && c->state == OPEN)
		fail(c, stele_fail(c->doomed, "connection: out of memory"), false);
	do {
		read_in(c);
		write_out(c); /* makes room: more may be read */
	} while (c->fed && may_read(c));
	receive_more(c);
	arm(c);
	c->in_turn = false;
}

/* ---- the user's calls ---- */

enum stele_err stele_conn_create(const struct stele_conn_opts *opts, int fd,
                                 struct stele_transport *transport, struct stele_conn **out)
{
	struct stele_conn *c = calloc(1, sizeof(*c));
	uint8_t *buf = aligned_alloc(STELE_PAGE, RECV_LEN);
	if (!c || !buf) {
		free(c);
		free(buf);
		transport->ops->destroy(transport);
		stele_file_close(opts->env, &fd);
		return stele_fail(STELE_ERR_NOMEM, "connection: out of memory");
	}
	c->opts = *opts;
	c->fd = fd;
	c->transport = transport;
	c->recv_buf = buf;
	c->heard = c->moved = stele_env_now(opts->env);
	kick(c);
	*out = c;
	return STELE_OK;
}

void stele_conn_close(struct stele_conn *c)
{
	shut(c);
}

void stele_conn_finish(struct stele_conn *c)
{
	if (c->state != OPEN)
		return;
	c->state = FINISHING;
	stele_conn_set_deadline(c, stele_env_now(c->opts.env) + LINGER_NS, "closed");
	kick(c);
}

void stele_conn_set_deadline(struct stele_conn *c, uint64_t at, const char *why)
{
	c->deadline = at;
	c->deadline_why = why;
	arm(c);
}

void stele_conn_set_expecting(struct stele_conn *c, bool expecting)
{
	if (expecting && !c->expecting)
		c->moved = stele_env_now(c->opts.env);
	c->expecting = expecting;
	arm(c);
}

void stele_conn_set_paused(struct stele_conn *c, bool paused)
{
	c->paused = paused;
	if (!paused)
		kick(c);
}

const struct stele_public_key *stele_conn_peer_key(const struct stele_conn *c)
{
	return c->transport->ops->peer_key(c->transport);
}

void stele_conn_traffic(const struct stele_conn *c, uint64_t *sent, uint64_t *received)
{
	*sent = c->sent_bytes;
	*received = c->received_bytes;
}

uint64_t stele_conn_last_heard(const struct stele_conn *c)
{
	return c->heard;
}

struct stele_out *stele_conn_send(struct stele_conn *c, const struct stele_message *m)
{
	struct stele_out *o = stele_outbox_add(&c->out, m);
	if (o)
		kick(c);
	return o;
}

bool stele_conn_abort(struct stele_conn *c, struct stele_out *o)
{
	enum stele_out_fate fate = stele_outbox_abort(&c->out, o);
	if (fate == STELE_OUT_STUCK) {
		c->doomed = STELE_ERR_NOMEM;
		c->mute = true;
	}
	kick(c);
	return fate == STELE_OUT_WHOLE;
}

void stele_conn_drop_body(struct stele_conn *c, uint64_t req)
{
	if (c->in_at >= STELE_FRAME_LEN && c->in_frame.req == req)
		c->in.body = NULL;
}
