/*
 * The files that a ring holds (env.h), for ring.c and uring.c alone. The kernel is told of them ahead (a
 * registered file), so that an operation need not look its descriptor up. A file's number in the kernel's
 * table is its descriptor, so there is nothing to look up here either, and an entry for the ring becomes a
 * plain one by losing a flag. What has a higher descriptor, or what the kernel refuses, stays unregistered:
 * nothing here fails.
 *
 * All functions: the ring's thread, or before it runs, as the kernel demands; but stele_held_has.
 */
#ifndef STORAGE_IO_HELD_H
#define STORAGE_IO_HELD_H

#include <liburing.h>
#include <stdatomic.h>

#include "storage/io/env.h"

/* Descriptors below it are registered. The kernel takes 8 to 16 bytes for each. */
#define STELE_HELD_MAX 4096

struct stele_held {
	struct io_uring *ring;
	bool registers; /* until the kernel refuses the table */
	uint32_t slots; /* of the kernel's table; 0: no file was held yet, or it refuses */
	uint32_t all_n; /* held, registered or not */
	uint32_t registered_n;
	/* By descriptor, of all that are held: misuse shows whether they are registered or not. */
	atomic_uchar state[STELE_HELD_MAX];
};

/* registers: false, to register nothing. */
void stele_held_init(struct stele_held *h, struct io_uring *ring, bool registers);
void stele_held_add(struct stele_held *h, int fd);
void stele_held_remove(struct stele_held *h, int fd);
/* Is it held? Of a descriptor from STELE_HELD_MAX on: false. Thread: any. */
bool stele_held_has(const struct stele_held *h, int fd);
/* Is it in the kernel's table, by its descriptor? */
bool stele_held_is_registered(const struct stele_held *h, int fd);
/* "12 files", "no files", "12 of 14 files". */
void stele_held_describe(const struct stele_held *h, char *out, size_t size);

#endif
