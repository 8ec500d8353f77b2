/*
 * The memory that a ring has been lent (env.h), for ring.c and uring.c alone. The kernel is told of it ahead (a
 * registered buffer), so that an operation there need not find and pin its pages. What the kernel, or
 * RLIMIT_MEMLOCK, does not allow stays unregistered: nothing here fails.
 *
 * All functions: the ring's thread, or before it runs, as the kernel demands.
 */
#ifndef STORAGE_IO_LENT_H
#define STORAGE_IO_LENT_H

#include <liburing.h>

#include "storage/io/env.h"

#define STELE_LENT_MAX 8u

struct stele_lent {
	struct io_uring *ring;
	const char *why_not; /* something is not registered as it was lent; NULL: all is */
	struct {
		uint8_t *base; /* NULL: the place is free */
		size_t len;    /* as much of it as is registered */
		uint32_t uses;
	} region[STELE_LENT_MAX]; /* by the kernel's number */
};

/* registers: false, to register nothing. */
void stele_lent_init(struct stele_lent *l, struct io_uring *ring, bool registers);
/* The ring is about to go. */
void stele_lent_finish(struct stele_lent *l);
void stele_lent_add(struct stele_lent *l, void *base, size_t len);
void stele_lent_remove(struct stele_lent *l, const void *base);
/* The kernel's number of the region in which all of these bytes lie; -1: there is none. */
int stele_lent_find(const struct stele_lent *l, const void *base, size_t len);
/* "32768 KiB of buffers", "no buffers (none lent)"; why it is less than was lent. */
void stele_lent_describe(const struct stele_lent *l, char *out, size_t size);

#endif
