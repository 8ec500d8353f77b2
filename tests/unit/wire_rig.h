/*
 * A server with handlers made for tests, and peers that call it, on any env. Included by tests of
 * net/wire.
 */
#ifndef TESTS_UNIT_WIRE_RIG_H
#define TESTS_UNIT_WIRE_RIG_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/wire/frame.h"
#include "net/wire/peer.h"
#include "net/wire/server.h"
#include "storage/io/sim.h"

#define MS 1000000ull

/* What the handlers do, by opcode. */
#define OP_PING  STELE_OPCODE_PING       /* any role: an empty reply */
#define OP_ECHO  STELE_OPCODE_SHARD_PUT  /* writer: the same head and body back */
#define OP_MAKE  STELE_OPCODE_SHARD_GET  /* reader: len4 in the head: so many bytes back */
#define OP_HOLD  STELE_OPCODE_LIST       /* reader: no reply until rig_answer_held */
#define OP_FAIL  STELE_OPCODE_RECORD_PUT /* any: replies the error whose code is in the head */
#define OP_ADMIN STELE_OPCODE_STATUS     /* admin: an empty reply */

#define RIG_HELD_MAX 512

struct rig {
	struct stele_env *env;  /* of the server */
	struct stele_env *cenv; /* of the peers: the same, but in a simulation */
	struct stele_sim *sim;  /* NULL: a real env */
	struct stele_transport_factory *sf, *cf;
	struct stele_secret_key skey, ckey;
	struct stele_hash cluster;
	struct stele_buf_pool *bufs;
	struct stele_server *server;
	char addr[STELE_ADDR_MAX];
	bool closed; /* the server's close is done */
	uint32_t roles;
	uint64_t epoch;
	uint32_t inflight_max, conns_max;
	bool slow_hello; /* HELLO is not answered by itself */
	struct stele_request *hello;
	struct stele_request *held[RIG_HELD_MAX];
	unsigned nheld;
	unsigned handled, made, sent; /* requests seen; replies with a body; their `sent` */
	bool (*until)(struct rig *);
	struct stele_op poll;
	uint64_t limit;
	bool late;
};

/* ---- the loop ---- */

static void rig_poll(struct stele_op *op);

static void rig_poll_again(struct rig *r)
{
	r->poll = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(r->env) + MS, .cb = rig_poll, .ctx = r};
	stele_env_submit(r->env, &r->poll);
}

static void rig_poll(struct stele_op *op)
{
	struct rig *r = op->ctx;
	r->late = stele_env_now(r->env) >= r->limit;
	if (r->late || (r->until && r->until(r)))
		stele_env_stop(r->env);
	else
		rig_poll_again(r);
}

static bool rig_sim_until(void *ctx)
{
	struct rig *r = ctx;
	return r->until && r->until(r);
}

/* Runs until the condition holds; false after so many milliseconds. */
static bool rig_run(struct rig *r, bool (*until)(struct rig *), uint64_t ms)
{
	r->until = until;
	if (r->sim)
		return stele_sim_run(r->sim, rig_sim_until, r, ms * MS);
	r->limit = stele_env_now(r->env) + ms * MS;
	rig_poll_again(r);
	stele_env_run(r->env);
	return !r->late;
}

/* ---- the server ---- */

struct rig_body {
	struct rig *rig;
	struct iovec iov[3];
	uint8_t bytes[];
};

static void rig_body_sent(void *ctx)
{
	struct rig_body *b = ctx;
	b->rig->sent++;
	free(b);
}

static struct rig_body *rig_body(struct rig *r, size_t len)
{
	struct rig_body *b = malloc(sizeof(*b) + len + 1);
	cr_assert_not_null(b);
	b->rig = r;
	size_t third = len / 3; /* parts of odd lengths */
	b->iov[0] = (struct iovec){b->bytes, third};
	b->iov[1] = (struct iovec){b->bytes + third, 0};
	b->iov[2] = (struct iovec){b->bytes + third, len - third};
	r->made++;
	return b;
}

static void rig_answer_hello(struct rig *r, struct stele_request *req)
{
	struct stele_head_hello h;
	uint8_t head[64];
	struct stele_writer w = stele_writer(head, sizeof(head));
	enum stele_err err = stele_head_hello_decode(req->head, req->head_len, false, &h);
	if (err == STELE_OK && h.version != STELE_PROTOCOL_VERSION)
		err = stele_fail(STELE_ERR_VERSION, "version %u is not spoken here", h.version);
	if (err == STELE_OK && !stele_hash_equal(&h.cluster, &r->cluster))
		err = stele_fail(STELE_ERR_DENIED, "another cluster's node");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	h = (struct stele_head_hello){.version = STELE_PROTOCOL_VERSION, .node = 7};
	stele_head_hello_encode(&h, true, &w);
	stele_reply(req, head, (uint32_t)stele_written(&w), NULL, 0, NULL, NULL);
}

static void rig_hello(struct stele_request *req)
{
	struct rig *r = req->node;
	if (r->slow_hello)
		r->hello = req;
	else
		rig_answer_hello(r, req);
}

static void rig_ping(struct stele_request *req)
{
	((struct rig *)req->node)->handled++;
	stele_reply(req, NULL, 0, NULL, 0, NULL, NULL);
}

static void rig_echo(struct stele_request *req)
{
	struct rig *r = req->node;
	r->handled++;
	struct rig_body *b = rig_body(r, req->body_len);
	for (uint32_t i = 0; i < req->nbody; i++) {
		size_t at = (size_t)i * STELE_BUF_LEN;
		size_t len =
		    req->body_len - at < STELE_BUF_LEN ? req->body_len - at : STELE_BUF_LEN;
		memcpy(b->bytes + at, req->body[i]->data, len);
	}
	stele_reply(req, req->head, req->head_len, b->iov, 3, rig_body_sent, b);
}

static void rig_make(struct stele_request *req)
{
	struct rig *r = req->node;
	uint32_t len = req->head_len == 4 ? stele_le32(req->head) : 0;
	r->handled++;
	struct rig_body *b = rig_body(r, len);
	for (uint32_t i = 0; i < len; i++)
		b->bytes[i] = (uint8_t)(i * 13 + (i >> 10));
	stele_reply(req, NULL, 0, b->iov, 3, rig_body_sent, b);
}

static void rig_hold(struct stele_request *req)
{
	struct rig *r = req->node;
	cr_assert_lt(r->nheld, RIG_HELD_MAX);
	r->handled++;
	r->held[r->nheld++] = req;
}

static void rig_answer_held(struct rig *r)
{
	while (r->nheld) {
		struct stele_request *req = r->held[--r->nheld];
		struct rig_body *b = rig_body(r, req->head_len);
		memcpy(b->bytes, req->head, req->head_len);
		stele_reply(req, "held", 4, b->iov, 3, rig_body_sent, b);
	}
}

static void rig_fail(struct stele_request *req)
{
	enum stele_err err = req->head_len ? stele_err_from_wire(req->head[0]) : STELE_OK;
	err = err == STELE_OK ? STELE_ERR_INVALID : err;
	stele_reply_error(req, stele_fail(err, "as was asked by %s", req->who->name));
}

static const struct stele_op_rule rig_rules[] = {
    {STELE_OPCODE_HELLO, STELE_ROLE_ANY, 64, 0, rig_hello},
    {OP_PING, STELE_ROLE_ANY, 0, 0, rig_ping},
    {OP_ECHO, STELE_ROLE_WRITER, STELE_FRAME_HEAD_MAX, STELE_SHARD_LEN_MAX, rig_echo},
    {OP_MAKE, STELE_ROLE_READER, 4, 0, rig_make},
    {OP_HOLD, STELE_ROLE_READER | STELE_ROLE_NODE, 4096, 5u << 20, rig_hold},
    {OP_FAIL, STELE_ROLE_ANY, 1, 0, rig_fail},
    {OP_ADMIN, STELE_ROLE_ADMIN, 0, 1000, rig_ping},
    {0},
};

static void rig_identify(void *ctx, struct stele_who *who)
{
	struct rig *r = ctx;
	if (!stele_public_key_equal(&who->tls, &r->ckey.pub))
		return;
	who->roles = r->roles;
	snprintf(who->name, sizeof(who->name), "alice");
}

static uint64_t rig_epoch(void *ctx)
{
	return ((struct rig *)ctx)->epoch;
}

static void rig_listen(struct rig *r, const char *addr)
{
	struct stele_server_opts opts = {
	    .env = r->env,
	    .bufs = r->bufs,
	    .transport = r->sf,
	    .listen = addr,
	    .rule = rig_rules,
	    .identify = rig_identify,
	    .epoch = rig_epoch,
	    .ctx = r,
	    .conns_max = r->conns_max,
	    .inflight_max = r->inflight_max,
	};
	cr_assert_eq(stele_server_create(&opts, &r->server), STELE_OK, "%s", stele_detail());
	snprintf(r->addr, sizeof(r->addr), "%s", stele_server_addr(r->server));
}

static void rig_key(struct stele_secret_key *k, uint8_t fill)
{
	uint8_t seed[32];
	memset(seed, fill, sizeof(seed));
	stele_key_from_seed(k, seed);
}

/* Everything but env and the transports' factories must be zero or set. */
static void rig_up(struct rig *r, bool tls, uint32_t bufs)
{
	rig_key(&r->skey, 1);
	rig_key(&r->ckey, 2);
	memset(r->cluster.b, 0xc1, sizeof(r->cluster.b));
	r->roles = r->roles ? r->roles : STELE_ROLE_WRITER | STELE_ROLE_READER;
	r->epoch = 77;
	if (!r->cenv)
		r->cenv = r->env;
	cr_assert_eq(stele_buf_pool_create(bufs, &r->bufs), STELE_OK);
	cr_assert_eq(tls ? stele_tls_factory_create(&r->skey, &r->sf)
	                 : stele_plain_factory_create(&r->skey.pub, &r->sf),
	             STELE_OK);
	cr_assert_eq(tls ? stele_tls_factory_create(&r->ckey, &r->cf)
	                 : stele_plain_factory_create(&r->ckey.pub, &r->cf),
	             STELE_OK);
	rig_listen(r, r->sim ? "node:7000" : "127.0.0.1:0");
}

static void rig_closed(void *ctx)
{
	((struct rig *)ctx)->closed = true;
}

static bool rig_is_closed(struct rig *r)
{
	return r->closed;
}

static void rig_close_server(struct rig *r)
{
	r->closed = false;
	stele_server_close(r->server, rig_closed, r);
	cr_assert(!r->closed, "never inside the call");
}

static void rig_server_gone(struct rig *r)
{
	cr_assert(rig_run(r, rig_is_closed, 5000), "the server does not come to an end");
	stele_server_destroy(r->server);
	r->server = NULL;
}

static void rig_down(struct rig *r)
{
	if (r->server) {
		rig_answer_held(r);
		rig_close_server(r);
		rig_server_gone(r);
	}
	cr_assert_eq(r->sent, r->made, "each reply's `sent` came once");
	stele_buf_pool_destroy(r->bufs); /* asserts that every buffer is back */
	stele_transport_factory_destroy(r->sf);
	stele_transport_factory_destroy(r->cf);
}

/* ---- peers and calls ---- */

static struct stele_peer *rig_peer(struct rig *r)
{
	struct stele_peer_opts opts = {
	    .env = r->cenv,
	    .transport = r->cf,
	    .addr = r->addr,
	    .expect = {r->skey.pub},
	    .nexpect = 1,
	    /* by the clock a test may take its time to make calls before the loop runs */
	    .connect_timeout_ns = r->sim ? 0 : UINT64_C(30000000000),
	    .cluster = r->cluster,
	};
	struct stele_peer *p;
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	return p;
}

struct rig_call {
	struct stele_call call;
	struct iovec body[4], into[4];
	uint8_t *out, *in;
	size_t out_len, in_cap;
	unsigned done;
	bool inside;
	uint8_t head[64];
	uint8_t reply_head[64];
	unsigned *order; /* counts completions */
	unsigned place;
};

static void rig_called(struct stele_call *call)
{
	struct rig_call *c = call->ctx;
	cr_assert(!c->inside, "a callback inside the call");
	c->done++;
	if (c->order)
		c->place = ++*c->order;
	if (call->err == STELE_OK && call->reply_head_len <= sizeof(c->reply_head) &&
	    call->reply_head_len)
		memcpy(c->reply_head, call->reply_head, call->reply_head_len);
	call->reply_head = NULL;
}

static struct rig_call *rig_call(uint16_t op, size_t body_len, size_t into_len)
{
	struct rig_call *c = calloc(1, sizeof(*c));
	c->out = malloc(body_len + 1);
	c->in = malloc(into_len + 1);
	c->out_len = body_len;
	c->in_cap = into_len;
	for (size_t i = 0; i < body_len; i++)
		c->out[i] = (uint8_t)(i * 11 + (i >> 11) + body_len);
	memset(c->in, 0x99, into_len + 1);
	size_t a = body_len / 5, b = into_len / 7;
	c->body[0] = (struct iovec){c->out, a};
	c->body[1] = (struct iovec){c->out + a, 0};
	c->body[2] = (struct iovec){c->out + a, body_len - a};
	c->into[0] = (struct iovec){c->in, b};
	c->into[1] = (struct iovec){c->in + b, 0};
	c->into[2] = (struct iovec){c->in + b, into_len - b};
	c->call.op = op;
	c->call.epoch = 3;
	c->call.head = c->head;
	c->call.body = c->body;
	c->call.nbody = 3;
	c->call.into = c->into;
	c->call.ninto = 3;
	c->call.cb = rig_called;
	c->call.ctx = c;
	return c;
}

static void rig_start(struct stele_peer *p, struct rig_call *c)
{
	c->inside = true;
	stele_peer_call(p, &c->call);
	c->inside = false;
}

static void rig_cancel(struct stele_peer *p, struct rig_call *c)
{
	c->inside = true;
	stele_peer_cancel(p, &c->call);
	c->inside = false;
}

static void rig_call_free(struct rig_call *c)
{
	cr_assert_eq(c->done, 1, "%u callbacks", c->done);
	free(c->out);
	free(c->in);
	free(c);
}

static struct rig_call **rig_waited;
static size_t rig_waited_n;

static bool rig_all_done(struct rig *r)
{
	(void)r;
	for (size_t i = 0; i < rig_waited_n; i++)
		if (!rig_waited[i]->done)
			return false;
	return true;
}

static void rig_wait(struct rig *r, struct rig_call **c, size_t n)
{
	rig_waited = c;
	rig_waited_n = n;
	cr_assert(rig_run(r, rig_all_done, 20000), "calls do not end");
}

/* Calls, waits, and gives the error. */
static enum stele_err rig_do(struct rig *r, struct stele_peer *p, struct rig_call *c)
{
	rig_start(p, c);
	rig_wait(r, &c, 1);
	return c->call.err;
}

static enum stele_err rig_do_op(struct rig *r, struct stele_peer *p, uint16_t op)
{
	struct rig_call *c = rig_call(op, 0, 0);
	enum stele_err err = rig_do(r, p, c);
	stele_fail(err, "%s", c->call.detail);
	rig_call_free(c);
	return err;
}

static bool rig_peer_is_closed;

static void rig_peer_closed(void *ctx)
{
	(void)ctx;
	rig_peer_is_closed = true;
}

static bool rig_peer_gone(struct rig *r)
{
	(void)r;
	return rig_peer_is_closed;
}

static void rig_peer_end(struct rig *r, struct stele_peer *p)
{
	rig_peer_is_closed = false;
	stele_peer_close(p, rig_peer_closed, NULL);
	cr_assert(!rig_peer_is_closed, "never inside the call");
	cr_assert(rig_run(r, rig_peer_gone, 5000), "the peer does not come to an end");
	stele_peer_destroy(p);
}

#endif
