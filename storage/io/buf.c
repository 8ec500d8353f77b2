/* Pooled page-aligned buffers. Memory, once taken, is kept until the pool goes. */
#include "storage/io/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

struct stele_buf_pool {
	uint32_t max;
	uint32_t made;
	uint32_t idle_n;
	struct stele_buf *idle;
	struct stele_buf bufs[];
};

enum stele_err stele_buf_pool_create(uint32_t max, struct stele_buf_pool **out)
{
	assert(max > 0);
	struct stele_buf_pool *pool = calloc(1, sizeof(*pool) + max * sizeof(pool->bufs[0]));
	if (!pool)
		return stele_fail(STELE_ERR_NOMEM, "buffer pool: out of memory");
	pool->max = max;
	*out = pool;
	return STELE_OK;
}

void stele_buf_pool_destroy(struct stele_buf_pool *pool)
{
	if (!pool)
		return;
	assert(pool->idle_n == pool->made);
	for (uint32_t i = 0; i < pool->made; i++)
		munmap(pool->bufs[i].data, STELE_BUF_LEN);
	free(pool);
}

/* One more idle buffer; false when there is no memory. */
static bool grow(struct stele_buf_pool *pool)
{
	void *data =
	    mmap(NULL, STELE_BUF_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return false;
	struct stele_buf *buf = &pool->bufs[pool->made++];
	buf->data = data;
	buf->pool = pool;
	buf->next = pool->idle;
	pool->idle = buf;
	pool->idle_n++;
	return true;
}

bool stele_buf_take(struct stele_buf_pool *pool, uint32_t n, struct stele_buf **out)
{
	if (n > stele_buf_pool_free(pool))
		return false;
	while (pool->idle_n < n) {
		if (!grow(pool))
			return false;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct stele_buf *buf = pool->idle;
		pool->idle = buf->next;
		pool->idle_n--;
		buf->next = NULL;
		out[i] = buf;
	}
	return true;
}

void stele_buf_give(struct stele_buf *buf)
{
	if (!buf)
		return;
	struct stele_buf_pool *pool = buf->pool;
	assert(pool->idle_n < pool->made);
	buf->next = pool->idle;
	pool->idle = buf;
	pool->idle_n++;
}

uint32_t stele_buf_pool_free(const struct stele_buf_pool *pool)
{
	return pool->max - pool->made + pool->idle_n;
}

void *stele_large_alloc(size_t len)
{
	size_t whole = stele_round_up(len, HUGE_PAGE);
	void *p = aligned_alloc(HUGE_PAGE, whole);
	if (p)
		(void)madvise(p, whole, MADV_HUGEPAGE); /* refused: it is slower, no more */
	return p;
}
