/*
 * Frames: what a connection's bytes are made of, once the transport has delivered them
 * (net/PROTOCOL.md). Little-endian; DO NOT CHANGE THESE VALUES: they go over the wire.
 *
 *   frame 32: magic4 op2 flags2 req8 epoch8 head_len4 body_left4, then head, then body
 *
 * A message (a request or a reply) is one frame or several. The first one carries the head.
 * body_left counts the message's body bytes from this frame on, so that the whole length is known
 * before anything is kept; the frame itself carries min(body_left, STELE_FRAME_BODY_MAX) of them.
 * Every frame but the last is thus full, and the last one has the flag END. Frames of different
 * messages may alternate. Pure. Thread: any.
 */
#ifndef NET_WIRE_FRAME_H
#define NET_WIRE_FRAME_H

#include "storage/base/bytes.h"

#define STELE_FRAME_LEN      32u
#define STELE_FRAME_MAGIC    0x31465453u /* "STF1" */
#define STELE_WIRE_BODY_MAX  (64u << 20) /* of one message */
#define STELE_WIRE_INFLIGHT  256u        /* requests of one connection that wait for replies */
#define STELE_WIRE_ERROR_MAX (4u + STELE_DETAIL_WIRE_MAX)

_Static_assert(STELE_WIRE_BODY_MAX >= STELE_SHARD_LEN_MAX, "a shard is one message");
_Static_assert(STELE_WIRE_BODY_MAX >= STELE_MAP_MAX, "so is a cluster file");
_Static_assert(STELE_DETAIL_WIRE_MAX < STELE_DETAIL_MAX, "a detail from the wire fits ours");

enum stele_frame_flags {
	STELE_FRAME_REPLY = 1 << 0,
	STELE_FRAME_END = 1 << 1,   /* the message's last frame */
	STELE_FRAME_ERR = 1 << 2,   /* the head is an error; with REPLY only */
	STELE_FRAME_FIRST = 1 << 3, /* the message's first frame */
	STELE_FRAME_ABORT =
	    1 << 4, /* the rest of this request will not come: no reply. With END, nothing else */
};

/* The request id of an error that concerns the connection as a whole; no request has it. */
#define STELE_FRAME_REQ_CONN 0u

struct stele_frame {
	uint16_t op;
	uint16_t flags;
	uint64_t req;
	uint64_t epoch;
	uint32_t head_len;
	uint32_t body_left;
};

/* Body bytes that this very frame carries. */
static inline uint32_t stele_frame_body(const struct stele_frame *f)
{
	return f->body_left < STELE_FRAME_BODY_MAX ? f->body_left : STELE_FRAME_BODY_MAX;
}

/* out: STELE_FRAME_LEN bytes. */
void stele_frame_encode(const struct stele_frame *f, uint8_t *out);
/* PROTOCOL names what is wrong: the magic, unknown or contradicting flags, a length beyond its
 * bound, a head in a later frame, END that body_left denies. bytes: STELE_FRAME_LEN of them. */
STELE_MUST_USE enum stele_err stele_frame_decode(const uint8_t *bytes, struct stele_frame *out);

/* The head of an error reply: err2 detail_len2 detail. out: STELE_WIRE_ERROR_MAX bytes; a longer
 * detail is cut. Returns the length. */
size_t stele_wire_error_encode(enum stele_err err, const char *detail, uint8_t *out);
/* Gives the error that the peer named and sets the thread's detail to its line, with what does not
 * print replaced by '?'. A head that is malformed, or says OK, is itself PROTOCOL. */
STELE_MUST_USE enum stele_err stele_wire_error_decode(const void *head, size_t len);

#endif
