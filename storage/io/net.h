/*
 * Sockets as both real envs make them: TCP_NODELAY, close-on-exec, and the addresses of a CONNECT
 * whose host had to be looked up.
 */
#ifndef STORAGE_IO_NET_H
#define STORAGE_IO_NET_H

#include "storage/io/addr.h"

#define STELE_CONNECT_ADDRS 8

/* The state of one CONNECT, in op->priv.slot; its socket so far is op->fd. */
struct stele_connect {
	int n;    /* addresses, or a negative errno of the look-up */
	int next; /* the one to try next */
	bool cancelled;
	struct stele_addr addr[STELE_CONNECT_ADDRS];
};

/* Allocates the state and parses op->path: n is 0 when a worker must call stele_connect_resolve.
 * NULL: no memory. Free it with free. */
struct stele_connect *stele_connect_create(const struct stele_op *op);
void stele_connect_resolve(struct stele_op *op); /* thread: any; blocks */
/* A socket for the next address (flags: SOCK_NONBLOCK or 0), or a negative errno: the look-up's, or
 * -ECONNREFUSED when none is left. */
int stele_connect_socket(struct stele_connect *connect, int flags);
/* The address that the last socket was made for. */
const struct stele_addr *stele_connect_addr(const struct stele_connect *connect);

/* Prepares an accepted socket and writes its peer's address to op->path_buf if set. */
void stele_accepted(const struct stele_op *op, int fd);

#endif
