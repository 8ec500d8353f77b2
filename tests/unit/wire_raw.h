/* A raw connection to a rig's server, that says whatever a test wants it to say. Plain bytes. */
#ifndef TESTS_UNIT_WIRE_RAW_H
#define TESTS_UNIT_WIRE_RAW_H

#include "tests/unit/wire_rig.h"

struct raw {
	struct rig *rig;
	int fd;
	struct stele_op op, recv, close;
	struct iovec iov, recv_iov;
	bool busy, over;
	uint8_t got[65536];
	size_t got_len;
};

static struct raw *raw_now;

static void raw_done(struct stele_op *op)
{
	((struct raw *)op->ctx)->busy = false;
}

static bool raw_idle(struct rig *r)
{
	(void)r;
	return !raw_now->busy;
}

static bool raw_is_over(struct rig *r)
{
	(void)r;
	return raw_now->over;
}

static void raw_recv(struct raw *w);

static void raw_received(struct stele_op *op)
{
	struct raw *w = op->ctx;
	if (op->result <= 0) {
		w->over = true;
		return;
	}
	w->got_len += (size_t)op->result;
	raw_recv(w);
}

static void raw_recv(struct raw *w)
{
	if (w->got_len == sizeof(w->got)) {
		w->over = true;
		return;
	}
	w->recv_iov = (struct iovec){w->got + w->got_len, sizeof(w->got) - w->got_len};
	w->recv = (struct stele_op){.kind = STELE_OP_RECV,
	                            .fd = w->fd,
	                            .iov = &w->recv_iov,
	                            .niov = 1,
	                            .cb = raw_received,
	                            .ctx = w};
	stele_env_submit(w->rig->cenv, &w->recv);
}

static int64_t raw_do(struct raw *w, struct stele_op op)
{
	w->op = op;
	w->op.cb = raw_done;
	w->op.ctx = w;
	w->busy = true;
	raw_now = w;
	stele_env_submit(w->rig->cenv, &w->op);
	cr_assert(rig_run(w->rig, raw_idle, 5000));
	return w->op.result;
}

/* listen: reads what comes. */
static struct raw *raw_open(struct rig *r, bool listen)
{
	struct raw *w = calloc(1, sizeof(*w));
	w->rig = r;
	w->fd = (int)raw_do(w, (struct stele_op){.kind = STELE_OP_CONNECT, .path = r->addr});
	cr_assert_geq(w->fd, 0);
	if (listen)
		raw_recv(w);
	return w;
}

static int64_t raw_send(struct raw *w, const void *bytes, size_t len)
{
	w->iov = (struct iovec){(void *)(uintptr_t)bytes, len};
	return raw_do(
	    w, (struct stele_op){.kind = STELE_OP_SEND, .fd = w->fd, .iov = &w->iov, .niov = 1});
}

/* True when the server ends the connection in time. */
static bool raw_ends(struct raw *w, uint64_t ms)
{
	raw_now = w;
	return rig_run(w->rig, raw_is_over, ms);
}

static bool raw_is_quiet(struct rig *r)
{
	(void)r;
	return !stele_op_pending(&raw_now->close) && !stele_op_pending(&raw_now->op) &&
	       !stele_op_pending(&raw_now->recv);
}

/* A SEND may still be under way. */
static void raw_close(struct raw *w)
{
	w->close = (struct stele_op){.kind = STELE_OP_CLOSE, .fd = w->fd, .cb = raw_done, .ctx = w};
	raw_now = w;
	stele_env_submit(w->rig->cenv, &w->close);
	cr_assert(rig_run(w->rig, raw_is_quiet, 5000));
	free(w);
}

/* The plain transport's claim and a HELLO. */
static size_t raw_hello(struct rig *r, uint8_t *out)
{
	struct stele_head_hello h = {.version = STELE_PROTOCOL_VERSION, .cluster = r->cluster};
	struct stele_writer w = stele_writer(out + 36 + STELE_FRAME_LEN, 64);
	memcpy(out, "SPL1", 4);
	memcpy(out + 4, r->ckey.pub.b, 32);
	stele_head_hello_encode(&h, false, &w);
	struct stele_frame f = {.op = STELE_OPCODE_HELLO,
	                        .flags = STELE_FRAME_FIRST | STELE_FRAME_END,
	                        .req = 1,
	                        .head_len = (uint32_t)stele_written(&w)};
	stele_frame_encode(&f, out + 36);
	return 36 + STELE_FRAME_LEN + stele_written(&w);
}

#endif
