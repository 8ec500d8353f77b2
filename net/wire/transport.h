/*
 * What lies between a socket's bytes and frames: TLS 1.3 (transport_tls), or plain bytes with a claimed
 * identity (transport_plain; linked into test targets only). A transport does no I/O: the connection
 * feeds it what it received and drains what it wants to send. One connection, one loop, one thread.
 */
#ifndef NET_WIRE_TRANSPORT_H
#define NET_WIRE_TRANSPORT_H

#include "storage/base/deposit.h" /* keys */

struct stele_transport;

struct stele_transport_ops {
	/* Gives ciphertext that was received. The bytes stay the caller's but must not change until
	 * recv says *got 0; only then may more be fed. PROTOCOL; DENIED: the peer shows another key. */
	enum stele_err (*feed)(struct stele_transport *t, const void *bytes, size_t len);
	/* Ciphertext to send next, in place; *len 0: none. drained() says how much was sent. */
	const void *(*drain)(struct stele_transport *t, size_t *len);
	void (*drained)(struct stele_transport *t, size_t len);
	/* Plaintext out of what was fed: *got 0 when more must be fed. CLOSED at a clean end. */
	enum stele_err (*recv)(struct stele_transport *t, void *into, size_t cap, size_t *got);
	/* Plaintext in, up to a bound of undrained bytes: *took may be less than len, 0 when full. */
	enum stele_err (*send)(struct stele_transport *t, const void *bytes, size_t len,
	                       size_t *took);
	/* True once the handshake is over and the peer's key is known. */
	bool (*ready)(const struct stele_transport *t);
	const struct stele_public_key *(*peer_key)(const struct stele_transport *t);
	void (*destroy)(struct stele_transport *t);
};
struct stele_transport {
	const struct stele_transport_ops *ops;
};

/* Makes transports: holds this side's identity. */
struct stele_transport_factory {
	/* server: the accepting side. expect (client only): the keys of which the peer must show one;
	 * nexpect 0: any, to be judged by the caller from peer_key. */
	enum stele_err (*create)(struct stele_transport_factory *f, bool server,
	                         const struct stele_public_key *expect, uint32_t nexpect,
	                         struct stele_transport **out);
	void (*destroy)(struct stele_transport_factory *f);
};
#define STELE_EXPECT_MAX 2u /* keys of one identity while it rotates (M7) */

/* TLS 1.3 only, mutual, self-signed Ed25519 certificate made from the key; names, dates and chains are
 * ignored, the public key is what counts; no tickets, resumption or early data (M7). */
STELE_MUST_USE enum stele_err stele_tls_factory_create(const struct stele_secret_key *key,
                                                       struct stele_transport_factory **out);
/* Bytes of plaintext after which the sending keys change; 0: 64 GiB. For tests. */
void stele_tls_factory_set_rekey(struct stele_transport_factory *f, uint64_t bytes);
/* Target stele_wire_plain. */
STELE_MUST_USE enum stele_err stele_plain_factory_create(const struct stele_public_key *claim,
                                                         struct stele_transport_factory **out);
void stele_transport_factory_destroy(struct stele_transport_factory *f); /* accepts NULL */

#endif
