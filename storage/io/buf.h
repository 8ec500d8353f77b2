/*
 * Page-aligned buffers from a bounded pool (DESIGN N10): 1 MiB each, the unit in which bodies travel
 * from a socket to a disk without being copied. A pool belongs to one loop; its buffers are taken
 * and given back on that loop's thread only (a worker may read and fill one in between). An
 * exhausted pool gives NULL, and the caller answers BUSY.
 */
#ifndef STORAGE_IO_BUF_H
#define STORAGE_IO_BUF_H

#include "storage/io/env.h"

#define STELE_BUF_LEN (1u << 20)
_Static_assert(STELE_BUF_LEN == STELE_FRAME_BODY_MAX, "a frame's body fits a buffer");

struct stele_buf_pool;

struct stele_buf {
	uint8_t *data; /* STELE_BUF_LEN bytes, page-aligned */
	struct stele_buf_pool *pool;
};

/* `max` buffers; each one's memory is taken when it is first used, and kept. NOMEM. */
STELE_MUST_USE enum stele_err stele_buf_pool_create(uint32_t max, struct stele_buf_pool **out);
/* Every buffer must be back (assert). Accepts NULL. */
void stele_buf_pool_destroy(struct stele_buf_pool *pool);
/* All n, or none (false): a request takes all it will need at once, so that two half-filled
 * requests cannot wait for each other. */
bool stele_buf_take(struct stele_buf_pool *pool, uint32_t n, struct stele_buf **out);
void stele_buf_give(struct stele_buf *buf); /* accepts NULL */
uint32_t stele_buf_pool_free(const struct stele_buf_pool *pool);
/* Lends (env.h) the buffers that are handed out first, on env's thread; this may be another than the
 * pool's. Take them back as stele_env_take_back says, or have the env go before the pool. */
void stele_buf_pool_lend(struct stele_buf_pool *pool, struct stele_env *env);
void stele_buf_pool_take_back(struct stele_buf_pool *pool, struct stele_env *env);

/* Memory for large reads into one place: on huge pages where the system has them (O_DIRECT pins them one by
 * one, and with pages of 4 KiB that costs as much as a CRC). NULL when there is none; release with free.
 * Thread: any. */
void *stele_large_alloc(size_t len);

#endif
