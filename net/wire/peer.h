/*
 * The calling side: one connection per peer with many requests in flight. A peer connects at its
 * first call, reconnects after a failure with a growing delay, and fails calls at once
 * (UNAVAILABLE) while the address refuses. Every call has a deadline and ends in exactly one
 * callback. One loop.
 */
#ifndef NET_WIRE_PEER_H
#define NET_WIRE_PEER_H

#include "net/wire/ops_format.h"
#include "net/wire/transport.h"
#include "storage/io/env.h"

struct stele_peer;

struct stele_peer_opts {
	struct stele_env *env;
	struct stele_transport_factory *transport;
	const char *addr;                  /* "host:port", copied */
	struct stele_public_key expect[2]; /* pinned: either key (M7: two while rotating) */
	uint32_t nexpect;                  /* 0: any key, for tools that ask who is there */
	struct stele_hash cluster;         /* for HELLO */
	uint64_t connect_timeout_ns;       /* 0: 1 s */
};

struct stele_call {
	uint16_t op;
	uint64_t epoch;
	const void *head; /* the caller's until the callback; body too */
	uint32_t head_len;
	struct iovec *body; /* any lengths; framed in 1 MiB pieces */
	uint32_t nbody;
	struct iovec *into; /* where the reply's body goes; a longer one is PROTOCOL */
	uint32_t ninto;
	uint64_t timeout_ns; /* from now, connecting included; 0: 30 s */
	void (*cb)(struct stele_call *call);
	void *ctx;
	/* out: OK, or what the peer replied, or UNAVAILABLE (no connection; nothing was sent),
	 * CLOSED (lost on the way: it may have been done), TIMEOUT, CANCELLED, PROTOCOL, DENIED
	 * (key) */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	const uint8_t *reply_head; /* valid during the callback */
	uint32_t reply_head_len;
	uint64_t reply_body_len;
	uint64_t reply_epoch; /* the peer's, also with errors it replied; 0: none */
	struct {              /* the peer's own */
		struct stele_call *next, *prev;
		void *slot;
		uint64_t deadline;
		uint32_t state; /* 0: not under way */
	} priv;
};

STELE_MUST_USE enum stele_err stele_peer_create(const struct stele_peer_opts *opts,
                                                struct stele_peer **out);
void stele_peer_call(struct stele_peer *p, struct stele_call *call);
/* The callback fires (later, from the loop) with CANCELLED unless the reply came first. From the
 * return on the buffers in body and into are not touched any more. */
void stele_peer_cancel(struct stele_peer *p, struct stele_call *call);
/* Ends calls with CANCELLED; done fires once nothing is outstanding. */
void stele_peer_close(struct stele_peer *p, void (*done)(void *ctx), void *ctx);
void stele_peer_destroy(struct stele_peer *p);
/* Bytes sent and received since creation, for status and benchmarks. */
void stele_peer_traffic(const struct stele_peer *p, uint64_t *sent, uint64_t *received);

#endif
