/*
 * The accepting side: listens, identifies peers by their keys, assembles requests from frames,
 * checks role and size against the op's rule before a byte of the body is kept, and dispatches.
 * Handlers reply once, now or later, in any order. One server belongs to one loop. Bounds:
 * connections, requests in flight per connection, buffers (a full pool answers BUSY), handshakes
 * under way and their time, idle time before HELLO.
 *
 * A connection's first request must be HELLO. Its handler is in the table like any other and judges
 * version and cluster; until it has replied nothing else is read, and when it replies an error the
 * connection ends.
 */
#ifndef NET_WIRE_SERVER_H
#define NET_WIRE_SERVER_H

#include "net/wire/ops_format.h"
#include "net/wire/transport.h"
#include "storage/io/buf.h"

struct stele_server;

/* Who a peer is, as the map says. */
struct stele_who {
	struct stele_public_key tls;
	struct stele_public_key depositor; /* a client's: the key its deposits are signed with */
	uint32_t roles;                    /* enum stele_role bits; 0: nobody, refused at once */
	uint32_t node;                     /* its node id, or 0 */
	char name[STELE_NAME_MAX];
};

struct stele_request {
	uint16_t op;
	uint64_t epoch; /* what the peer believes */
	const struct stele_who *who;
	const uint8_t *head; /* valid until the reply */
	uint32_t head_len;
	struct stele_buf **body; /* 1 MiB each but the last; the request's until the reply */
	uint32_t nbody;
	uint64_t body_len;
	void *node; /* opts.ctx */
	void *ctx;  /* the handler's */
	struct stele_server *server;
};

struct stele_op_rule {
	uint16_t op;
	uint32_t roles; /* any of these may; STELE_ROLE_ANY: every identified peer */
	uint32_t head_max;
	uint64_t body_max;
	void (*handler)(struct stele_request *req); /* must end in exactly one reply */
};

struct stele_server_opts {
	struct stele_env *env;
	struct stele_buf_pool *bufs;
	struct stele_transport_factory *transport;
	const char *listen;               /* "host:port" */
	const struct stele_op_rule *rule; /* terminated by op 0 */
	/* Fills who from who->tls; roles 0 refuses. Called at the handshake's end, and again for
	 * every open connection by stele_server_recheck (a new epoch closes revoked ones). */
	void (*identify)(void *ctx, struct stele_who *who);
	uint64_t (*epoch)(void *ctx); /* put into every reply's frame */
	void *ctx;
	uint32_t conns_max;    /* 0: 1024 */
	uint32_t inflight_max; /* per connection; 0: 256 */
};

/* UNAVAILABLE: the port is in use, named; IO. The address in fact: stele_server_addr. */
STELE_MUST_USE enum stele_err stele_server_create(const struct stele_server_opts *opts,
                                                  struct stele_server **out);
const char *stele_server_addr(const struct stele_server *s);
void stele_server_recheck(struct stele_server *s);
/* Stops accepting, cancels, and calls done once no callback of the server is outstanding; requests
 * whose handlers have not replied yet are waited for. */
void stele_server_close(struct stele_server *s, void (*done)(void *ctx), void *ctx);
void stele_server_destroy(struct stele_server *s); /* after done */

/* The reply. head and the array body are copied. The bytes of body stay the caller's until
 * sent(ctx), which always fires once, later, also when the connection is gone. body and sent may be
 * NULL. The request and its buffers are gone when this returns. */
void stele_reply(struct stele_request *req, const void *head, uint32_t head_len, struct iovec *body,
                 uint32_t nbody, void (*sent)(void *ctx), void *ctx);
/* Replies an error with the thread's detail (stele_detail()). */
void stele_reply_error(struct stele_request *req, enum stele_err err);

#endif
