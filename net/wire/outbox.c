/* The queue of outgoing messages as a stream of frames. Moves nothing: it says what comes next. */
#include "net/wire/outbox.h"

#include <assert.h>
#include <stdlib.h>

struct stele_out {
	struct stele_out *next, *prev;
	struct stele_message m;
	uint32_t left; /* body bytes that no frame has announced yet */
	uint32_t at;   /* the part of the body to take from next, and how far into it */
	size_t off;
	bool started;
	bool cut;          /* withdrawn: its next frame is an ABORT */
	struct iovec rest; /* a copy of what a withdrawn message's frame still needs */
	struct iovec iov[];
	/* then the head's bytes */
};

static void append(struct stele_outbox *box, struct stele_out *o)
{
	o->next = NULL;
	o->prev = box->last;
	if (box->last)
		box->last->next = o;
	else
		box->first = o;
	box->last = o;
}

static void unlink_out(struct stele_outbox *box, struct stele_out *o)
{
	if (o->prev)
		o->prev->next = o->next;
	else
		box->first = o->next;
	if (o->next)
		o->next->prev = o->prev;
	else
		box->last = o->prev;
}

static void release(struct stele_outbox *box, struct stele_out *o)
{
	void (*sent)(void *) = o->m.sent;
	void *ctx = o->m.ctx;
	unlink_out(box, o);
	box->queued--;
	free(o->rest.iov_base);
	free(o);
	if (sent)
		sent(ctx);
}

struct stele_out *stele_outbox_add(struct stele_outbox *box, const struct stele_message *m)
{
	uint64_t body = 0;
	for (uint32_t i = 0; i < m->nbody; i++)
		body += m->body[i].iov_len;
	assert(m->head_len <= STELE_FRAME_HEAD_MAX && body <= STELE_WIRE_BODY_MAX);
	size_t iovs = m->nbody * sizeof(struct iovec);
	struct stele_out *o = calloc(1, sizeof(*o) + iovs + m->head_len);
	if (!o)
		return NULL;
	uint8_t *head = (uint8_t *)o->iov + iovs;
	if (iovs)
		memcpy(o->iov, m->body, iovs);
	if (m->head_len)
		memcpy(head, m->head, m->head_len);
	o->m = *m;
	o->m.body = o->iov;
	o->m.head = head;
	o->left = (uint32_t)body;
	append(box, o);
	box->queued++;
	box->unsent += STELE_FRAME_LEN + m->head_len + body;
	return o;
}

/* Writes the header of the first message's next frame; false when the queue is empty. */
static bool begin_frame(struct stele_outbox *box)
{
	struct stele_out *o = box->first;
	if (!o)
		return false;
	struct stele_frame f = {
	    .op = o->m.op, .flags = o->m.flags, .req = o->m.req, .epoch = o->m.epoch};
	if (o->cut) {
		f.flags = STELE_FRAME_ABORT | STELE_FRAME_END;
		o->cut = false;
		o->left = 0;
	} else {
		f.body_left = o->left;
		if (!o->started) {
			f.flags |= STELE_FRAME_FIRST;
			f.head_len = o->m.head_len;
		}
		if (o->left <= STELE_FRAME_BODY_MAX)
			f.flags |= STELE_FRAME_END;
	}
	stele_frame_encode(&f, box->header);
	if (o->started)
		box->unsent += STELE_FRAME_LEN;
	o->started = true;
	o->left -= stele_frame_body(&f);
	box->cur = o;
	box->at = 0;
	box->head_end = STELE_FRAME_LEN + f.head_len;
	box->len = box->head_end + stele_frame_body(&f);
	return true;
}

bool stele_outbox_next(struct stele_outbox *box, const uint8_t **p, size_t *len)
{
	if (!box->cur && !begin_frame(box))
		return false;
	struct stele_out *o = box->cur;
	if (box->at < STELE_FRAME_LEN) {
		*p = box->header + box->at;
		*len = STELE_FRAME_LEN - box->at;
	} else if (box->at < box->head_end) {
		*p = (const uint8_t *)o->m.head + (box->at - STELE_FRAME_LEN);
		*len = box->head_end - box->at;
	} else {
		while (o->off == o->m.body[o->at].iov_len) {
			o->at++;
			o->off = 0;
		}
		const struct iovec *part = &o->m.body[o->at];
		size_t left = box->len - box->at;
		*p = (const uint8_t *)part->iov_base + o->off;
		*len = part->iov_len - o->off < left ? part->iov_len - o->off : left;
	}
	return true;
}

void stele_outbox_take(struct stele_outbox *box, size_t len)
{
	struct stele_out *o = box->cur;
	assert(o && len <= box->len - box->at);
	if (box->at >= box->head_end)
		o->off += len;
	box->unsent -= len;
	box->at += len;
	if (box->at < box->len)
		return;
	box->cur = NULL;
	if (o->left == 0 && !o->cut) {
		release(box, o);
		return;
	}
	unlink_out(box, o); /* the others' turn */
	append(box, o);
}

void stele_outbox_clear(struct stele_outbox *box)
{
	box->cur = NULL;
	box->unsent = 0;
	while (box->first)
		release(box, box->first);
}

bool stele_out_started(const struct stele_out *o)
{
	return o->started;
}

void stele_out_detach(struct stele_out *o)
{
	o->m.sent = NULL;
}

/* The body bytes that the frame under way still needs, copied: the caller's are about to go. */
static bool copy_rest(struct stele_outbox *box, struct stele_out *o)
{
	size_t len = box->len - (box->at > box->head_end ? box->at : box->head_end);
	if (len == 0)
		return true;
	uint8_t *copy = malloc(len);
	if (!copy)
		return false;
	for (size_t done = 0; done < len;) {
		const struct iovec *part = &o->m.body[o->at];
		size_t n = part->iov_len - o->off;
		if (n > len - done)
			n = len - done;
		memcpy(copy + done, (const uint8_t *)part->iov_base + o->off, n);
		done += n;
		o->off = 0;
		o->at++;
	}
	o->rest = (struct iovec){.iov_base = copy, .iov_len = len};
	o->m.body = &o->rest;
	o->at = 0;
	return true;
}

enum stele_out_fate stele_outbox_abort(struct stele_outbox *box, struct stele_out *o)
{
	o->m.sent = NULL;
	if (!o->started) {
		box->unsent -= STELE_FRAME_LEN + o->m.head_len + o->left;
		release(box, o);
		return STELE_OUT_GONE;
	}
	if (o == box->cur && !copy_rest(box, o))
		return STELE_OUT_STUCK;
	if (o->left == 0)
		return STELE_OUT_WHOLE;
	box->unsent -= o->left;
	o->cut = true;
	return STELE_OUT_GONE;
}
