/*
 * What uring.c needs of liburing besides submitting and reaping: a ring with the best flags that this
 * kernel knows, what is registered with it, and an operation written down as an entry for it.
 *
 * All functions: the ring's thread, or before it runs.
 */
#ifndef STORAGE_IO_RING_H
#define STORAGE_IO_RING_H

#include <sys/socket.h>

#include "storage/io/held.h"
#include "storage/io/lent.h"

struct stele_ring {
	struct io_uring io;
	bool registers;
	struct stele_lent lent;
	struct stele_held held;
};

/* 0 or a negative errno. registers: false, to register neither memory nor files. */
int stele_ring_init(struct stele_ring *ring, uint32_t depth, bool registers);
/* The ring was created disabled, so that it belongs to the thread that runs it and not to the one that made
 * it: this is that thread. */
void stele_ring_enable(struct stele_ring *ring);
void stele_ring_finish(struct stele_ring *ring);

/* Is it a READV, WRITEV or SYNC? */
bool stele_ring_is_disk(const struct stele_op *op);
/* Writes the operation (a READV, WRITEV, SYNC, ACCEPT, CONNECT, RECV or SEND), or what is left of it, into an
 * entry, but for user_data. msg: room for what the entry may point to, until its completion. */
void stele_ring_fill(const struct stele_ring *ring, struct io_uring_sqe *sqe, struct stele_op *op,
                     struct msghdr *msg);
/* As stele_env_describe. */
void stele_ring_describe(const struct stele_ring *ring, const char *name, char out[STELE_ENV_TEXT]);

#endif
