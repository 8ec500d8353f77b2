/*
 * A connection: a socket, a transport, and frames in and out. Both sides use it: the server to take
 * requests, the peer to make them; it knows of neither. One loop.
 *
 * Out: messages are queued and sent frame by frame in turn, so that a long one does not hold up a
 * short one. In: each frame is announced by its header; the user says where its bytes go, and they
 * are decrypted right into that place.
 */
#ifndef NET_WIRE_CONN_H
#define NET_WIRE_CONN_H

#include "net/wire/outbox.h"
#include "net/wire/transport.h"
#include "storage/io/env.h"

struct stele_conn;

/* Where the bytes of the frame that is coming go. */
struct stele_conn_in {
	uint8_t *head;      /* NULL: dropped */
	struct iovec *body; /* NULL: dropped; must hold the frame's body after skip */
	uint32_t nbody;
	size_t skip; /* bytes of body to leave out at its start */
};

/* What a connection tells its user; all from the loop, never inside a call of this header. */
struct stele_conn_user {
	/* The handshake is over: messages flow from now on. */
	void (*up)(void *ctx, struct stele_conn *c);
	/* A frame's header has come. Any error ends the connection. */
	enum stele_err (*begin)(void *ctx, const struct stele_frame *f, struct stele_conn_in *in);
	/* All of its bytes are in place. */
	enum stele_err (*end)(void *ctx, const struct stele_frame *f);
	/* Lost: once, and not after stele_conn_close; the reason is in the thread's detail. Nothing
	 * else comes afterwards but gone. */
	void (*down)(void *ctx, struct stele_conn *c, enum stele_err err);
	/* Once, in any case: nothing of it is under way, `sent` has fired for every message. The
	 * connection is freed when this returns. */
	void (*gone)(void *ctx, struct stele_conn *c);
};

struct stele_conn_opts {
	struct stele_env *env;
	const struct stele_conn_user *user;
	void *ctx;
	/* Stop reading while more than this many bytes wait to be sent; 0: read on. */
	size_t unsent_max;
	/* Tell the other side why, when it broke the rules, before closing. */
	bool tell;
};

/* Takes over fd and transport, also when it fails (NOMEM: both are released). */
STELE_MUST_USE enum stele_err stele_conn_create(const struct stele_conn_opts *opts, int fd,
                                                struct stele_transport *transport,
                                                struct stele_conn **out);
/* At once; down does not come any more, gone does. */
void stele_conn_close(struct stele_conn *c);
/* Sends what is queued, reads and drops what still comes, and closes when the other side does, or
 * after a second. No further begin or end. */
void stele_conn_finish(struct stele_conn *c);
/* Fails with TIMEOUT and this text (static) at that time unless set again; 0: never. */
void stele_conn_set_deadline(struct stele_conn *c, uint64_t at, const char *why);
/* While set, a silence of STELE_CONN_STALL_NS ends the connection. */
void stele_conn_set_expecting(struct stele_conn *c, bool expecting);
#define STELE_CONN_STALL_NS (30ull * 1000000000ull)
/* No begin or end while paused. */
void stele_conn_set_paused(struct stele_conn *c, bool paused);
/* Only after up. */
const struct stele_public_key *stele_conn_peer_key(const struct stele_conn *c);
void stele_conn_traffic(const struct stele_conn *c, uint64_t *sent, uint64_t *received);
uint64_t stele_conn_last_heard(const struct stele_conn *c); /* stele_env_now of the last byte in */

/* Queues a message; its `sent` never fires inside a call of this header. NULL: no memory. */
struct stele_out *stele_conn_send(struct stele_conn *c, const struct stele_message *m);
/* Withdraws one (stele_outbox_abort). True: the other side gets all of it nevertheless. */
bool stele_conn_abort(struct stele_conn *c, struct stele_out *o);
/* If the frame that is coming belongs to this request: what is left of its body is dropped. */
void stele_conn_drop_body(struct stele_conn *c, uint64_t req);

#endif
