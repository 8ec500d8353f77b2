/*
 * Goal: whatever is queued, withdrawn and taken in pieces of any size, the stream is made of lawful
 * frames, every message arrives whole and once or ends in an ABORT, `sent` comes exactly once when it
 * is due, short messages pass long ones, and a withdrawn body is not read again.
 * The model: a receiver that assembles messages by their request id and compares bytes.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/wire/outbox.h"

#define MESSAGES 24
#define PARTS    5

struct message {
	uint8_t *body; /* the sender's; freed when it is no longer the outbox's */
	uint8_t *copy; /* what must arrive */
	size_t body_len, head_len;
	uint8_t head[64];
	struct iovec part[PARTS];
	struct stele_out *out; /* NULL: done with */
	unsigned sent;
	bool withdrawn;
	/* the receiver's */
	bool first, ended, aborted;
	size_t got;
};

struct world {
	struct stele_outbox box;
	struct message m[MESSAGES];
	/* the receiver */
	uint8_t header[STELE_FRAME_LEN];
	struct stele_frame f;
	size_t at;
	unsigned frames;
};

static uint64_t state;

static uint64_t rnd(uint64_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % below;
}

static void on_sent(void *ctx)
{
	struct message *m = ctx;
	m->sent++;
	m->out = NULL;
	free(m->body); /* ASan sees any later read */
	m->body = NULL;
}

static size_t random_length(void)
{
	static const size_t edges[] = {0, 1, 1048575, 1048576, 1048577, 2097152, 2097153};
	return rnd(3) ? rnd(300000) : edges[rnd(7)];
}

static void queue(struct world *w, uint64_t req, size_t head_len, size_t body_len)
{
	struct message *m = &w->m[req - 1];
	m->head_len = head_len;
	m->body_len = body_len;
	m->body = malloc(body_len + 1);
	m->copy = malloc(body_len + 1);
	for (size_t i = 0; i < head_len; i++)
		m->head[i] = (uint8_t)rnd(256);
	for (size_t i = 0; i < body_len; i++)
		m->body[i] = (uint8_t)(i * 31 + req + (i >> 12));
	memcpy(m->copy, m->body, body_len);
	size_t at = 0;
	for (int i = 0; i < PARTS; i++) { /* parts of any length, empty ones too */
		size_t len = i == PARTS - 1 ? body_len - at : rnd(body_len - at + 1);
		m->part[i] = (struct iovec){.iov_base = m->body + at, .iov_len = len};
		at += len;
	}
	struct stele_message msg = {.op = 11,
	                            .req = req,
	                            .epoch = req * 7,
	                            .head = m->head,
	                            .head_len = (uint32_t)head_len,
	                            .body = m->part,
	                            .nbody = PARTS,
	                            .sent = on_sent,
	                            .ctx = m};
	m->out = stele_outbox_add(&w->box, &msg);
	cr_assert_not_null(m->out);
	memset(m->part, 0xee, sizeof(m->part)); /* the array was copied */
}

static void withdraw(struct world *w, uint64_t req)
{
	struct message *m = &w->m[req - 1];
	bool started = stele_out_started(m->out);
	enum stele_out_fate fate = stele_outbox_abort(&w->box, m->out);
	cr_assert_neq(fate, STELE_OUT_STUCK);
	cr_assert(started || fate == STELE_OUT_GONE);
	m->withdrawn = fate == STELE_OUT_GONE;
	m->out = NULL;
	free(m->body);
	m->body = NULL;
}

static void receive_frame(struct world *w)
{
	cr_assert_eq(stele_frame_decode(w->header, &w->f), STELE_OK, "%s", stele_detail());
	cr_assert(w->f.req >= 1 && w->f.req <= MESSAGES);
	struct message *m = &w->m[w->f.req - 1];
	cr_assert(!m->ended && !m->aborted, "a frame after the message's end");
	w->frames++;
	if (w->f.flags & STELE_FRAME_ABORT) {
		cr_assert(m->first && m->withdrawn);
		m->aborted = true;
		return;
	}
	cr_assert_eq(m->first, !(w->f.flags & STELE_FRAME_FIRST));
	cr_assert_eq(w->f.op, 11);
	cr_assert_eq(w->f.epoch, w->f.req * 7);
	cr_assert_eq(w->f.head_len, m->first ? 0 : m->head_len);
	cr_assert_eq(w->f.body_left, m->body_len - m->got);
	m->first = true;
	m->ended = w->f.flags & STELE_FRAME_END;
}

static void receive_bytes(struct world *w, const uint8_t *p, size_t len)
{
	while (len) {
		size_t n, off = w->at - STELE_FRAME_LEN;
		if (w->at < STELE_FRAME_LEN) {
			n = STELE_FRAME_LEN - w->at < len ? STELE_FRAME_LEN - w->at : len;
			memcpy(w->header + w->at, p, n);
			w->at += n;
			if (w->at == STELE_FRAME_LEN)
				receive_frame(w);
		} else if (off < w->f.head_len) {
			n = w->f.head_len - off < len ? w->f.head_len - off : len;
			cr_assert_eq(memcmp(w->m[w->f.req - 1].head + off, p, n), 0);
			w->at += n;
		} else {
			struct message *m = &w->m[w->f.req - 1];
			size_t left = w->f.head_len + stele_frame_body(&w->f) - off;
			n = left < len ? left : len;
			cr_assert_eq(memcmp(m->copy + m->got, p, n), 0, "request %u at %zu",
			             (unsigned)w->f.req, m->got);
			m->got += n;
			w->at += n;
		}
		p += n;
		len -= n;
		if (w->at >= STELE_FRAME_LEN &&
		    w->at == STELE_FRAME_LEN + w->f.head_len + stele_frame_body(&w->f))
			w->at = 0;
	}
}

static bool take_some(struct world *w)
{
	const uint8_t *p;
	size_t len;
	if (!stele_outbox_next(&w->box, &p, &len))
		return false;
	cr_assert_gt(len, 0);
	if (rnd(2))
		len = 1 + rnd(len);
	receive_bytes(w, p, len);
	stele_outbox_take(&w->box, len);
	return true;
}

static void run(uint64_t seed, bool withdrawals)
{
	struct world *w = calloc(1, sizeof(*w));
	uint64_t next = 1;
	state = seed;
	while (next <= MESSAGES || w->box.first) {
		unsigned what = (unsigned)rnd(10);
		if (what == 0 && next <= MESSAGES) {
			queue(w, next++, rnd(64), random_length());
		} else if (what == 1 && withdrawals) {
			struct message *m = &w->m[rnd(MESSAGES)];
			if (m->out)
				withdraw(w, (uint64_t)(m - w->m) + 1);
		} else {
			for (int i = 0; i < 6; i++)
				take_some(w);
		}
	}
	cr_assert_eq(w->at, 0);
	cr_assert_eq(w->box.unsent, 0);
	cr_assert_eq(w->box.queued, 0);
	for (int i = 0; i < MESSAGES; i++) {
		struct message *m = &w->m[i];
		cr_assert(m->withdrawn || m->ended);
		cr_assert(!m->withdrawn || m->aborted || !m->first);
		cr_assert_eq(m->aborted, m->withdrawn && m->first);
		cr_assert(m->withdrawn || m->got == m->body_len);
		cr_assert(m->sent == 1 || (withdrawals && m->sent == 0));
		free(m->copy);
	}
	free(w);
}

Test(outbox, every_message_arrives_once)
{
	for (uint64_t seed = 1; seed <= 30; seed++)
		run(seed, false);
}

Test(outbox, withdrawn_ones_end_in_an_abort_or_are_whole)
{
	for (uint64_t seed = 1; seed <= 60; seed++)
		run(seed, true);
}

Test(outbox, a_short_message_waits_for_one_frame_only)
{
	struct world *w = calloc(1, sizeof(*w));
	state = 7;
	queue(w, 1, 10, 16u << 20);
	while (w->m[0].got < 100) /* in the middle of the first frame */
		take_some(w);
	queue(w, 2, 10, 0);
	while (!w->m[1].ended)
		take_some(w);
	cr_assert_leq(w->frames, 3);
	cr_assert_eq(w->m[0].got, STELE_FRAME_BODY_MAX);
	stele_outbox_clear(&w->box);
	cr_assert_eq(w->m[0].sent, 1, "dropped, and said so");
	free(w->m[0].copy);
	free(w->m[1].copy);
	free(w);
}

Test(outbox, a_detached_message_is_silent)
{
	struct world *w = calloc(1, sizeof(*w));
	queue(w, 1, 0, 10);
	stele_out_detach(w->m[0].out);
	stele_outbox_clear(&w->box);
	cr_assert_eq(w->m[0].sent, 0);
	free(w->m[0].body);
	free(w->m[0].copy);
	free(w);
}
