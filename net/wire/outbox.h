/*
 * Messages on their way out: a queue that is read as one stream of bytes, in which the messages'
 * frames take turns, so that a long message does not hold up a short one. Bodies are not copied:
 * the stream points into them. Pure but for memory. One connection, one loop.
 */
#ifndef NET_WIRE_OUTBOX_H
#define NET_WIRE_OUTBOX_H

#include <sys/uio.h>

#include "net/wire/frame.h"

struct stele_out; /* a queued message */

struct stele_message {
	uint16_t op;
	uint16_t flags; /* REPLY, ERR; the others are set by the outbox */
	uint64_t req, epoch;
	const void *head; /* copied */
	uint32_t head_len;
	const struct iovec *body; /* the array is copied; the bytes are the caller's until sent */
	uint32_t nbody;
	void (*sent)(void *ctx); /* may be NULL */
	void *ctx;
};

struct stele_outbox { /* zeroed: empty */
	struct stele_out *first, *last;
	struct stele_out *cur; /* whose frame is being read */
	uint8_t header[STELE_FRAME_LEN];
	size_t at;       /* bytes of that frame that were taken, header included */
	size_t len;      /* of the whole frame */
	size_t head_end; /* where its body begins */
	size_t unsent;   /* bytes not yet taken, but for headers of later frames */
	uint32_t queued; /* messages */
};

/* NULL: no memory. The message is valid until `sent`, abort or clear. */
struct stele_out *stele_outbox_add(struct stele_outbox *box, const struct stele_message *m);
/* The next bytes that lie together; false: there are none. */
bool stele_outbox_next(struct stele_outbox *box, const uint8_t **p, size_t *len);
/* len bytes of these were taken. Calls `sent` when they were the message's last. */
void stele_outbox_take(struct stele_outbox *box, size_t len);
/* Drops every message, calling each `sent`. */
void stele_outbox_clear(struct stele_outbox *box);

/* True once bytes of it may have been taken. */
bool stele_out_started(const struct stele_out *o);
/* `sent` will not be called any more. */
void stele_out_detach(struct stele_out *o);
enum stele_out_fate {
	STELE_OUT_GONE,  /* the other side gets none of it, or an ABORT */
	STELE_OUT_WHOLE, /* the other side gets all of it: its last frame is under way */
	STELE_OUT_STUCK, /* no memory to complete the frame under way: the stream is of no use any
	                    more */
};
/* Withdraws a message: from now on its body is not touched, and `sent` is not called. What the
 * frame under way still needs is copied. */
enum stele_out_fate stele_outbox_abort(struct stele_outbox *box, struct stele_out *o);

#endif
