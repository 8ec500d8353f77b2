/*
 * A peer's books: which calls wait in which list, and which request id on the connection belongs to
 * which call. Private to peer.c. Pure but for memory.
 */
#ifndef NET_WIRE_CALL_TABLE_H
#define NET_WIRE_CALL_TABLE_H

#include "net/wire/outbox.h"
#include "net/wire/peer.h"

enum stele_call_state { /* of priv.state */
	                STELE_CALL_IDLE = 0,
	                STELE_CALL_WAITING,  /* for a connection and a slot */
	                STELE_CALL_ACTIVE,   /* in a slot: for its reply */
	                STELE_CALL_FINISHED, /* for its callback to run */
};

struct stele_call_list { /* zeroed: empty */
	struct stele_call *first, *last;
};
void stele_call_append(struct stele_call_list *l, struct stele_call *call,
                       enum stele_call_state state);
void stele_call_remove(struct stele_call_list *l, struct stele_call *call); /* state: IDLE */

#define STELE_CALL_SLOT_BITS 8u
_Static_assert(STELE_WIRE_INFLIGHT == 1u << STELE_CALL_SLOT_BITS,
               "the low bits of a request id are its slot");

/* A request on the connection. */
struct stele_call_slot {
	uint32_t index;
	struct stele_call_slot *next_free;
	uint64_t req; /* 0: free */
	struct stele_call
	    *call;             /* NULL: withdrawn; the slot stays taken until the reply has come */
	struct stele_out *out; /* NULL: all of it is sent */
	uint16_t op;
	/* of the reply: */
	bool begun;
	bool error;
	uint8_t *head;
	uint32_t head_len;
	uint32_t left; /* body bytes to come */
	uint64_t body_len;
};

struct stele_call_table { /* zeroed: empty */
	struct stele_call_slot *slot[STELE_WIRE_INFLIGHT];
	uint32_t n; /* allocated, free ones included */
	struct stele_call_slot *free;
	uint64_t count; /* of requests, ever */
};

/* A slot with a request id that was never used before. NULL: all are taken, or no memory. */
struct stele_call_slot *stele_call_slot_take(struct stele_call_table *t);
/* Its message must be off the connection's hands (out is NULL). */
void stele_call_slot_free(struct stele_call_table *t, struct stele_call_slot *s);
struct stele_call_slot *stele_call_slot_find(const struct stele_call_table *t, uint64_t req);
void stele_call_table_finish(struct stele_call_table *t); /* every slot is free */

#endif
