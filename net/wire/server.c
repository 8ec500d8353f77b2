/*
 * Sessions and requests: who is connected, what they may ask, and what is kept until a handler has
 * replied. Knows no opcode but HELLO; moves no bytes (conn.c).
 *
 * A message that is refused (role, size, too many) gets its error at once, and the rest of its
 * frames are dropped: frames that continue a request which is not being assembled are passed over.
 */
#include "net/wire/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/wire/conn.h"

#define CONNS_MAX    1024u
#define SHAKING_MAX  64u                /* connections before HELLO; more wait in the backlog */
#define HELLO_NS     5000000000ull      /* from accept to HELLO's reply */
#define IDLE_NS      900000000000ull    /* without a request: the peer may be gone, unheard */
#define RETRY_NS     100000000ull       /* after accept failed */
#define UNSENT_MAX   (16u << 20)        /* of one connection: more, and no request is read */
#define HEADS_MAX    ((size_t)64 << 20) /* of all requests: more, and the answer is BUSY */
#define REQ_BUFS_MAX (STELE_WIRE_BODY_MAX / STELE_BUF_LEN)

enum session_state {
	SHAKING,  /* before the handshake's end */
	STRANGER, /* identified as nobody: HELLO is answered with DENIED */
	NEW,      /* before HELLO */
	GREETING, /* HELLO's handler has not replied */
	SERVING,
	DEAD, /* the connection is lost or being closed */
};

struct request {
	struct stele_request pub; /* first: handlers hold this */
	struct session *session;
	struct request *next; /* in session->assembling, or server->orphans */
	uint64_t req;
	uint32_t left;           /* body bytes to come */
	struct iovec part;       /* where the frame's body goes */
	void (*sent)(void *ctx); /* an orphan's */
	void *sent_ctx;
	struct stele_buf *buf[];
	/* then the head's bytes */
};

struct session {
	struct stele_server *server;
	struct session *next, *prev;
	struct stele_conn *conn; /* NULL: gone */
	enum session_state state;
	struct stele_who who;
	struct request *assembling;
	struct request *cur; /* whose frame is coming; NULL: it is dropped */
	uint32_t inflight;   /* assembling or not yet replied to */
};

struct stele_server {
	struct stele_server_opts opts;
	char addr[STELE_ADDR_MAX];
	int fd;
	struct stele_op accept, retry, soon, close;
	struct session *sessions;
	uint32_t conns;          /* sessions that have a connection */
	uint32_t shaking;        /* of these, before HELLO's reply */
	size_t heads;            /* bytes of heads of all requests */
	struct request *orphans; /* replied to after the connection was gone: `sent` is due */
	bool closing;
	void (*done)(void *ctx);
	void *done_ctx;
};

static void accept_more(struct stele_server *s);

/* ---- the server's end ---- */

/* Calls done when nothing is left. The server may be gone when this returns. */
static void maybe_done(struct stele_server *s)
{
	if (!s->closing || !s->done || s->sessions || s->orphans || stele_op_pending(&s->accept) ||
	    stele_op_pending(&s->retry) || stele_op_pending(&s->soon) ||
	    stele_op_pending(&s->close))
		return;
	void (*done)(void *) = s->done;
	s->done = NULL;
	done(s->done_ctx);
}

static void on_soon(struct stele_op *op)
{
	struct stele_server *s = op->ctx;
	while (s->orphans) {
		struct request *r = s->orphans;
		s->orphans = r->next;
		void (*sent)(void *) = r->sent;
		void *ctx = r->sent_ctx;
		free(r);
		sent(ctx);
	}
	maybe_done(s);
}

static void kick(struct stele_server *s)
{
	if (stele_op_pending(&s->soon))
		return;
	s->soon = (struct stele_op){.kind = STELE_OP_TIMER, .off = 0, .cb = on_soon, .ctx = s};
	stele_env_submit(s->opts.env, &s->soon);
}

/* ---- sessions ---- */

static void set_state(struct session *n, enum session_state state)
{
	bool was = n->state < SERVING;
	bool is = state < SERVING;
	n->server->shaking += is;
	n->server->shaking -= was;
	n->state = state;
	if (was && !is)
		accept_more(n->server);
}

static void release_session(struct session *n)
{
	if (n->conn || n->inflight > 0)
		return;
	struct stele_server *s = n->server;
	if (n->prev)
		n->prev->next = n->next;
	else
		s->sessions = n->next;
	if (n->next)
		n->next->prev = n->prev;
	free(n);
	if (s->closing)
		kick(s);
}

/* Where nothing is under way, the connection does not stay for ever. */
static void watch_idle(struct session *n)
{
	if (n->state != SERVING)
		return;
	uint64_t at = n->inflight ? 0 : stele_env_now(n->server->opts.env) + IDLE_NS;
	stele_conn_set_deadline(n->conn, at, "idle");
}

/* The request is over: what it held is given back. Its memory stays. */
static void settle(struct request *r)
{
	struct session *n = r->session;
	for (uint32_t i = 0; i < r->pub.nbody; i++)
		stele_buf_give(r->buf[i]);
	r->pub.nbody = 0;
	n->server->heads -= r->pub.head_len;
	n->inflight--;
	watch_idle(n);
	release_session(n);
}

static void drop_assembling(struct session *n)
{
	struct request *r;
	n->cur = NULL;
	while ((r = n->assembling)) {
		n->assembling = r->next;
		settle(r); /* the session stays: its connection is not gone yet */
		free(r);
	}
}

/* Ends a session; requests whose handlers have not replied keep its memory. */
static void end_session(struct session *n)
{
	if (n->state == DEAD)
		return;
	set_state(n, DEAD);
	stele_conn_close(n->conn);
	drop_assembling(n);
}

static uint64_t epoch_of(const struct stele_server *s)
{
	return s->opts.epoch ? s->opts.epoch(s->opts.ctx) : 0;
}

/* Answers with the thread's detail a message of which nothing is kept. */
static enum stele_err refuse(struct session *n, const struct stele_frame *f, enum stele_err err)
{
	uint8_t head[STELE_WIRE_ERROR_MAX];
	struct stele_message m = {
	    .op = f->op,
	    .flags = STELE_FRAME_REPLY | STELE_FRAME_ERR,
	    .req = f->req,
	    .epoch = epoch_of(n->server),
	    .head = head,
	    .head_len = (uint32_t)stele_wire_error_encode(err, stele_detail(), head),
	};
	if (!stele_conn_send(n->conn, &m))
		return stele_fail(STELE_ERR_NOMEM, "reply: out of memory");
	if (n->state < SERVING)
		stele_conn_finish(n->conn);
	return STELE_OK;
}

static void identify(struct session *n)
{
	struct stele_who who = {.tls = *stele_conn_peer_key(n->conn)};
	n->server->opts.identify(n->server->opts.ctx, &who);
	n->who = who;
}

static void up(void *ctx, struct stele_conn *c)
{
	struct session *n = ctx;
	(void)c;
	identify(n);
	set_state(n, n->who.roles ? NEW : STRANGER);
}

/* ---- requests coming in ---- */

static const struct stele_op_rule *rule_of(const struct stele_server *s, uint16_t op)
{
	for (const struct stele_op_rule *r = s->opts.rule; r->op; r++)
		if (r->op == op)
			return r;
	return NULL;
}

/* May this request be taken in at all? */
static enum stele_err judge(const struct session *n, const struct stele_frame *f,
                            const struct stele_op_rule *rule)
{
	const char *name = stele_opcode_name(f->op);
	char key[9];
	if (n->state == STRANGER)
		return stele_fail(STELE_ERR_DENIED, "key %s is not one of this cluster's",
		                  stele_hex(n->who.tls.b, 4, key));
	if (!rule)
		return stele_fail(STELE_ERR_VERSION, "opcode %u (%s) is not served here", f->op,
		                  name);
	if (rule->roles != STELE_ROLE_ANY && !(rule->roles & n->who.roles))
		return stele_fail(STELE_ERR_DENIED, "%s: the role for it is not given to %s", name,
		                  n->who.name);
	if (f->head_len > rule->head_max)
		return stele_fail(STELE_ERR_TOO_LARGE, "%s: a head of %u bytes, at most %u", name,
		                  f->head_len, rule->head_max);
	if (f->body_left > rule->body_max)
		return stele_fail(STELE_ERR_TOO_LARGE, "%s: a body of %u bytes, at most %llu", name,
		                  f->body_left, (unsigned long long)rule->body_max);
	return STELE_OK;
}

/* Takes what the whole request needs, so that two half-filled ones cannot wait for each other. */
static enum stele_err take_in(struct session *n, const struct stele_frame *f, struct request **out)
{
	struct stele_server *s = n->server;
	uint32_t nbuf = (uint32_t)((f->body_left + (uint64_t)STELE_BUF_LEN - 1) / STELE_BUF_LEN);
	size_t bufs = nbuf * sizeof(struct stele_buf *);
	if (n->inflight >= s->opts.inflight_max)
		return stele_fail(STELE_ERR_BUSY, "%u requests of this connection under way",
		                  n->inflight);
	if (f->head_len > HEADS_MAX - s->heads)
		return stele_fail(STELE_ERR_BUSY, "too many requests under way");
	struct request *r = calloc(1, sizeof(*r) + bufs + f->head_len);
	if (!r)
		return stele_fail(STELE_ERR_NOMEM, "request: out of memory");
	if (nbuf && !stele_buf_take(s->opts.bufs, nbuf, r->buf)) {
		free(r);
		return stele_fail(STELE_ERR_BUSY, "no buffer free for %u bytes", f->body_left);
	}
	r->session = n;
	r->req = f->req;
	r->left = f->body_left;
	r->pub = (struct stele_request){
	    .op = f->op,
	    .epoch = f->epoch,
	    .who = &n->who,
	    .head = (uint8_t *)r->buf + bufs,
	    .head_len = f->head_len,
	    .body = r->buf,
	    .nbody = nbuf,
	    .body_len = f->body_left,
	    .node = s->opts.ctx,
	    .server = s,
	};
	s->heads += f->head_len;
	n->inflight++;
	watch_idle(n);
	*out = r;
	return STELE_OK;
}

static struct request **find_assembling(struct session *n, uint64_t req)
{
	struct request **at = &n->assembling;
	while (*at && (*at)->req != req)
		at = &(*at)->next;
	return at;
}

static void unlink_assembling(struct session *n, struct request **at)
{
	*at = (*at)->next;
	if (!n->assembling)
		stele_conn_set_expecting(n->conn, false);
}

/* Points `in` at where the frame's body goes. */
static void place(struct request *r, const struct stele_frame *f, struct stele_conn_in *in)
{
	uint64_t at = r->pub.body_len - f->body_left;
	if (f->body_left) {
		r->part = (struct iovec){.iov_base = r->buf[at / STELE_BUF_LEN]->data,
		                         .iov_len = STELE_BUF_LEN};
		in->body = &r->part;
		in->nbody = 1;
	}
	r->session->cur = r;
}

static enum stele_err begin_request(struct session *n, const struct stele_frame *f,
                                    struct stele_conn_in *in)
{
	if (*find_assembling(n, f->req))
		return stele_fail(STELE_ERR_PROTOCOL, "request %llu begins twice",
		                  (unsigned long long)f->req);
	if (n->state == NEW && f->op != STELE_OPCODE_HELLO)
		return stele_fail(STELE_ERR_PROTOCOL, "%s before HELLO", stele_opcode_name(f->op));
	struct request *r = NULL;
	enum stele_err err = judge(n, f, rule_of(n->server, f->op));
	if (err == STELE_OK)
		err = take_in(n, f, &r);
	if (err != STELE_OK)
		return refuse(n, f, err);
	r->next = n->assembling;
	n->assembling = r;
	stele_conn_set_expecting(n->conn, true);
	in->head = (uint8_t *)r->buf + r->pub.nbody * sizeof(struct stele_buf *);
	place(r, f, in);
	return STELE_OK;
}

static enum stele_err begin(void *ctx, const struct stele_frame *f, struct stele_conn_in *in)
{
	struct session *n = ctx;
	n->cur = NULL;
	if (f->flags & STELE_FRAME_REPLY)
		return stele_fail(STELE_ERR_PROTOCOL, "a reply to the server");
	if (f->flags & STELE_FRAME_FIRST)
		return begin_request(n, f, in);
	struct request **at = find_assembling(n, f->req);
	struct request *r = *at;
	if (!r)
		return STELE_OK; /* refused or aborted before: dropped */
	if (f->flags & STELE_FRAME_ABORT) {
		unlink_assembling(n, at);
		settle(r);
		free(r);
		return STELE_OK;
	}
	if (f->op != r->pub.op || f->body_left != r->left)
		return stele_fail(STELE_ERR_PROTOCOL, "%s: a frame out of order",
		                  stele_opcode_name(f->op));
	place(r, f, in);
	return STELE_OK;
}

static enum stele_err end(void *ctx, const struct stele_frame *f)
{
	struct session *n = ctx;
	struct request *r = n->cur;
	n->cur = NULL;
	if (!r)
		return STELE_OK;
	r->left -= stele_frame_body(f);
	if (!(f->flags & STELE_FRAME_END))
		return STELE_OK;
	unlink_assembling(n, find_assembling(n, r->req));
	r->next = NULL;
	if (n->state == NEW) {
		set_state(n, GREETING);
		stele_conn_set_paused(n->conn, true);
	}
	rule_of(n->server, r->pub.op)->handler(&r->pub);
	return STELE_OK;
}

static void down(void *ctx, struct stele_conn *c, enum stele_err err)
{
	struct session *n = ctx;
	(void)c;
	(void)err;
	set_state(n, DEAD);
	drop_assembling(n);
}

static void gone(void *ctx, struct stele_conn *c)
{
	struct session *n = ctx;
	struct stele_server *s = n->server;
	assert(n->conn == c);
	drop_assembling(n); /* of a session that was finishing */
	set_state(n, DEAD);
	n->conn = NULL;
	s->conns--;
	accept_more(s);
	release_session(n);
}

static const struct stele_conn_user session_user = {
    .up = up,
    .begin = begin,
    .end = end,
    .down = down,
    .gone = gone,
};

/* ---- replies ---- */

/* HELLO's own reply opens the connection or ends it. */
static void greet(struct session *n, bool welcome)
{
	if (n->state != GREETING)
		return;
	if (welcome) {
		set_state(n, SERVING);
		stele_conn_set_paused(n->conn, false);
	} else {
		stele_conn_finish(n->conn);
	}
}

static void answer(struct request *r, const struct stele_message *m)
{
	struct session *n = r->session;
	struct stele_server *s = n->server;
	bool queued = n->conn && stele_conn_send(n->conn, m);
	if (queued)
		greet(n, !(m->flags & STELE_FRAME_ERR));
	else if (n->conn)
		end_session(n); /* no memory: the peer must not wait for ever */
	settle(r);
	if (queued || !m->sent) {
		free(r);
		return;
	}
	r->sent = m->sent;
	r->sent_ctx = m->ctx;
	r->next = s->orphans;
	s->orphans = r;
	kick(s);
}

void stele_reply(struct stele_request *req, const void *head, uint32_t head_len, struct iovec *body,
                 uint32_t nbody, void (*sent)(void *ctx), void *ctx)
{
	struct request *r = (struct request *)req;
	struct stele_message m = {
	    .op = req->op,
	    .flags = STELE_FRAME_REPLY,
	    .req = r->req,
	    .epoch = epoch_of(req->server),
	    .head = head,
	    .head_len = head_len,
	    .body = body,
	    .nbody = nbody,
	    .sent = sent,
	    .ctx = ctx,
	};
	answer(r, &m);
}

void stele_reply_error(struct stele_request *req, enum stele_err err)
{
	struct request *r = (struct request *)req;
	uint8_t head[STELE_WIRE_ERROR_MAX];
	assert(err != STELE_OK);
	struct stele_message m = {
	    .op = req->op,
	    .flags = STELE_FRAME_REPLY | STELE_FRAME_ERR,
	    .req = r->req,
	    .epoch = epoch_of(req->server),
	    .head = head,
	    .head_len = (uint32_t)stele_wire_error_encode(err, stele_detail(), head),
	};
	answer(r, &m);
}

/* ---- accepting ---- */

static enum stele_err open_session(struct stele_server *s, int fd)
{
	struct stele_transport *transport;
	struct session *n = calloc(1, sizeof(*n));
	enum stele_err err = n ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "session: out of memory");
	if (err == STELE_OK)
		err = s->opts.transport->create(s->opts.transport, true, NULL, 0, &transport);
	if (err != STELE_OK) {
		free(n);
		stele_file_close(s->opts.env, &fd);
		return err;
	}
	struct stele_conn_opts opts = {
	    .env = s->opts.env,
	    .user = &session_user,
	    .ctx = n,
	    .unsent_max = UNSENT_MAX,
	    .tell = true,
	};
	err = stele_conn_create(&opts, fd, transport, &n->conn);
	if (err != STELE_OK) {
		free(n);
		return err;
	}
	stele_conn_set_deadline(n->conn, stele_env_now(s->opts.env) + HELLO_NS,
	                        "no HELLO within 5 s");
	n->server = s;
	n->next = s->sessions;
	if (n->next)
		n->next->prev = n;
	s->sessions = n;
	s->conns++;
	s->shaking++;
	return STELE_OK;
}

static void on_retry(struct stele_op *op)
{
	struct stele_server *s = op->ctx;
	accept_more(s);
	maybe_done(s);
}

static void on_accept(struct stele_op *op)
{
	struct stele_server *s = op->ctx;
	bool failed = op->result < 0;
	int fd = (int)op->result;
	if (!failed && s->closing)
		stele_file_close(s->opts.env, &fd);
	else if (!failed)
		failed = open_session(s, fd) != STELE_OK;
	if (!failed) {
		accept_more(s);
	} else if (!s->closing) { /* out of descriptors or memory: not in a tight loop */
		s->retry = (struct stele_op){.kind = STELE_OP_TIMER,
		                             .off = stele_env_now(s->opts.env) + RETRY_NS,
		                             .cb = on_retry,
		                             .ctx = s};
		stele_env_submit(s->opts.env, &s->retry);
	}
	maybe_done(s);
}

static void accept_more(struct stele_server *s)
{
	if (s->closing || stele_op_pending(&s->accept) || stele_op_pending(&s->retry) ||
	    s->conns >= s->opts.conns_max || s->shaking >= SHAKING_MAX)
		return;
	s->accept =
	    (struct stele_op){.kind = STELE_OP_ACCEPT, .fd = s->fd, .cb = on_accept, .ctx = s};
	stele_env_submit(s->opts.env, &s->accept);
}

/* ---- the server ---- */

enum stele_err stele_server_create(const struct stele_server_opts *opts, struct stele_server **out)
{
	assert(opts->rule && opts->identify && opts->listen);
	for (const struct stele_op_rule *r = opts->rule; r->op; r++)
		assert(r->handler && r->head_max <= STELE_FRAME_HEAD_MAX &&
		       r->body_max <= STELE_WIRE_BODY_MAX);
	struct stele_server *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "server: out of memory");
	s->opts = *opts;
	if (s->opts.conns_max == 0)
		s->opts.conns_max = CONNS_MAX;
	if (s->opts.inflight_max == 0)
		s->opts.inflight_max = STELE_WIRE_INFLIGHT;
	struct stele_op listen = {
	    .kind = STELE_OP_LISTEN, .path = opts->listen, .path_buf = s->addr};
	int64_t fd = stele_env_call(opts->env, &listen);
	if (fd < 0) {
		free(s);
		if (fd == -EADDRINUSE)
			return stele_fail(STELE_ERR_UNAVAILABLE,
			                  "listen on %s: another program has this port: end it, or "
			                  "this node if it runs already",
			                  opts->listen);
		return stele_fail_errno((int)-fd, "listen on %s", opts->listen);
	}
	s->fd = (int)fd;
	accept_more(s);
	*out = s;
	return STELE_OK;
}

const char *stele_server_addr(const struct stele_server *s)
{
	return s->addr;
}

void stele_server_recheck(struct stele_server *s)
{
	for (struct session *n = s->sessions, *next; n; n = next) {
		next = n->next;
		if (n->state != NEW && n->state != GREETING && n->state != SERVING)
			continue;
		identify(n);
		if (n->who.roles == 0)
			end_session(n);
	}
}

static void on_closed(struct stele_op *op)
{
	maybe_done(op->ctx);
}

void stele_server_close(struct stele_server *s, void (*done)(void *ctx), void *ctx)
{
	assert(!s->closing);
	s->closing = true;
	s->done = done;
	s->done_ctx = ctx;
	stele_env_cancel(s->opts.env, &s->retry);
	for (struct session *n = s->sessions; n; n = n->next) {
		end_session(n);
		if (n->conn) /* it may have been lingering */
			stele_conn_close(n->conn);
	}
	s->close =
	    (struct stele_op){.kind = STELE_OP_CLOSE, .fd = s->fd, .cb = on_closed, .ctx = s};
	stele_env_submit(s->opts.env, &s->close);
}

void stele_server_destroy(struct stele_server *s)
{
	if (!s)
		return;
	assert(s->closing && !s->done && !s->sessions);
	free(s);
}
