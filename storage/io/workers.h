/*
 * A queue of operations served by a few threads. An env has one queue for short work (hashing,
 * encoding), one for long work (LevelDB, scrub), so that a stall of the one does not hold up the
 * other, and where disks are driven by threads, one for disk operations.
 *
 * Threads are started when work waits and none is idle, up to the queue's maximum.
 */
#ifndef STORAGE_IO_WORKERS_H
#define STORAGE_IO_WORKERS_H

#include "storage/io/env.h"

struct stele_workers;

/* run(ctx, op) is called on a worker thread and hands the op on: the queue forgets it before.
 * NOMEM, IO. */
STELE_MUST_USE enum stele_err stele_workers_create(uint32_t threads_max,
                                                   void (*run)(void *ctx, struct stele_op *op),
                                                   void *ctx, struct stele_workers **out);
/* Joins the threads; the queue must be empty (assert). Accepts NULL. */
void stele_workers_destroy(struct stele_workers *workers);
/* Thread: any. Uses priv.next, priv.prev and priv.heap of the op until run. */
void stele_workers_add(struct stele_workers *workers, struct stele_op *op);
/* Takes back an op that no worker has begun; false when one has. The op must have been added and
 * not yet have come back to its loop. */
bool stele_workers_remove(struct stele_workers *workers, struct stele_op *op);

#endif
