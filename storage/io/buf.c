/* Pooled page-aligned buffers, in one piece of memory. */
#include "storage/io/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define LENT      32u /* buffers: as many reads as a disk is likely to have under way */

struct stele_buf_pool {
	uint32_t max;
	uint32_t idle_n;
	uint8_t *memory;
	bool *idle; /* by number */
	struct stele_buf bufs[];
};

enum stele_err stele_buf_pool_create(uint32_t max, struct stele_buf_pool **out)
{
	assert(max > 0);
	size_t len =
	    sizeof(struct stele_buf_pool) + max * (sizeof(struct stele_buf) + sizeof(bool));
	struct stele_buf_pool *pool = calloc(1, len);
	void *memory = mmap(NULL, (size_t)max * STELE_BUF_LEN, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!pool || memory == MAP_FAILED) {
		if (memory != MAP_FAILED)
			munmap(memory, (size_t)max * STELE_BUF_LEN);
		free(pool);
		return stele_fail(STELE_ERR_NOMEM, "buffer pool: out of memory");
	}
	pool->max = pool->idle_n = max;
	pool->memory = memory;
	pool->idle = (bool *)&pool->bufs[max];
	for (uint32_t i = 0; i < max; i++) {
		pool->bufs[i] = (struct stele_buf){pool->memory + (size_t)i * STELE_BUF_LEN, pool};
		pool->idle[i] = true;
	}
	*out = pool;
	return STELE_OK;
}

void stele_buf_pool_destroy(struct stele_buf_pool *pool)
{
	if (!pool)
		return;
	assert(pool->idle_n == pool->max);
	munmap(pool->memory, (size_t)pool->max * STELE_BUF_LEN);
	free(pool);
}

/* The lowest ones first: they are lent, and the others' memory is perhaps never used. */
bool stele_buf_take(struct stele_buf_pool *pool, uint32_t n, struct stele_buf **out)
{
	if (n > pool->idle_n)
		return false;
	const bool *at = pool->idle;
	for (uint32_t i = 0; i < n; i++) {
		at = memchr(at, true, (size_t)(pool->idle + pool->max - at));
		pool->idle[at - pool->idle] = false;
		out[i] = &pool->bufs[at - pool->idle];
	}
	pool->idle_n -= n;
	return true;
}

void stele_buf_give(struct stele_buf *buf)
{
	if (!buf)
		return;
	struct stele_buf_pool *pool = buf->pool;
	assert(!pool->idle[buf - pool->bufs]);
	pool->idle[buf - pool->bufs] = true;
	pool->idle_n++;
}

uint32_t stele_buf_pool_free(const struct stele_buf_pool *pool)
{
	return pool->idle_n;
}

void stele_buf_pool_lend(struct stele_buf_pool *pool, struct stele_env *env)
{
	uint32_t n = pool->max < LENT ? pool->max : LENT;
	stele_env_lend(env, pool->memory, (size_t)n * STELE_BUF_LEN);
}

void stele_buf_pool_take_back(struct stele_buf_pool *pool, struct stele_env *env)
{
	stele_env_take_back(env, pool->memory);
}

void *stele_large_alloc(size_t len)
{
	size_t whole = stele_round_up(len, HUGE_PAGE);
	void *p = aligned_alloc(HUGE_PAGE, whole);
	if (p)
		(void)madvise(p, whole, MADV_HUGEPAGE); /* refused: it is slower, no more */
	return p;
}
