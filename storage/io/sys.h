/*
 * The plain system calls behind stele_env_call, shared by both real envs, and the arithmetic of
 * transfers that came back short.
 */
#ifndef STORAGE_IO_SYS_H
#define STORAGE_IO_SYS_H

#include "storage/io/env.h"

/* Performs a call operation and returns its result, >= 0 or a negative errno. Sets op->result.
 * Thread: any. Sockets it makes block. */
int64_t stele_sys_call(struct stele_op *op);

/* Bytes that the op's iovecs still ask for. */
uint64_t stele_sys_left(const struct stele_op *op);
/* As many iovecs as one system call takes. */
unsigned stele_sys_niov(const struct stele_op *op);
/*
 * Takes note that a READV, WRITEV or SEND moved `res` bytes (or failed with a negative errno).
 * True: it is short; the iovecs and priv.done were advanced, go on from off + priv.done. False: it
 * is over and op->result is set.
 * Where everything was page-aligned, as O_DIRECT wants it, the advance is rounded down so that it
 * stays aligned: some bytes are moved twice.
 */
bool stele_sys_advance(struct stele_op *op, int64_t res);

uint64_t stele_sys_now(void);
int64_t stele_sys_wall(void);
void stele_sys_random(void *out, size_t len);

#endif
