/* Goal: a pool never exceeds its bound, hands out all or nothing, and its buffers are page-aligned
 * and distinct, the lowest first: these are the lent ones. */
#include <criterion/criterion.h>

#include "storage/io/buf.h"

Test(buf, all_or_nothing)
{
	struct stele_buf_pool *pool;
	struct stele_buf *a[3], *b[2];
	cr_assert_eq(stele_buf_pool_create(4, &pool), STELE_OK);
	cr_assert_eq(stele_buf_pool_free(pool), 4u);
	cr_assert(stele_buf_take(pool, 3, a));
	cr_assert_eq(stele_buf_pool_free(pool), 1u);
	cr_assert(!stele_buf_take(pool, 2, b));
	cr_assert_eq(stele_buf_pool_free(pool), 1u);
	stele_buf_give(a[1]);
	cr_assert(stele_buf_take(pool, 2, b));
	cr_assert(!stele_buf_take(pool, 1, &a[1]));
	cr_assert(stele_buf_take(pool, 0, NULL));
	stele_buf_give(a[0]);
	stele_buf_give(a[2]);
	stele_buf_give(b[0]);
	stele_buf_give(b[1]);
	stele_buf_give(NULL);
	cr_assert_eq(stele_buf_pool_free(pool), 4u);
	stele_buf_pool_destroy(pool);
	stele_buf_pool_destroy(NULL);
}

Test(buf, aligned_and_distinct)
{
	struct stele_buf_pool *pool;
	struct stele_buf *bufs[8];
	cr_assert_eq(stele_buf_pool_create(8, &pool), STELE_OK);
	cr_assert(stele_buf_take(pool, 8, bufs));
	for (int i = 0; i < 8; i++) {
		cr_assert_eq((uintptr_t)bufs[i]->data % STELE_PAGE, 0u);
		cr_assert_eq(bufs[i]->pool, pool);
		memset(bufs[i]->data, i + 1, STELE_BUF_LEN);
	}
	for (int i = 0; i < 8; i++) {
		for (size_t j = 0; j < STELE_BUF_LEN; j += 511)
			cr_assert_eq(bufs[i]->data[j], i + 1);
		cr_assert_eq(bufs[i]->data[STELE_BUF_LEN - 1], i + 1);
		stele_buf_give(bufs[i]);
	}
	stele_buf_pool_destroy(pool);
}

Test(buf, the_lowest_first)
{
	struct stele_buf_pool *pool;
	struct stele_buf *bufs[5], *again[3];
	cr_assert_eq(stele_buf_pool_create(6, &pool), STELE_OK);
	cr_assert(stele_buf_take(pool, 5, bufs));
	for (int i = 1; i < 5; i++)
		cr_assert_eq(bufs[i]->data, bufs[0]->data + i * STELE_BUF_LEN);
	stele_buf_give(bufs[1]);
	stele_buf_give(bufs[4]);
	stele_buf_give(bufs[0]);
	cr_assert(stele_buf_take(pool, 3, again));
	cr_assert_eq(again[0], bufs[0]);
	cr_assert_eq(again[1], bufs[1]);
	cr_assert_eq(again[2], bufs[4]);
	stele_buf_give(bufs[2]);
	stele_buf_give(bufs[3]);
	for (int i = 0; i < 3; i++)
		stele_buf_give(again[i]);
	stele_buf_pool_destroy(pool);
}

/* What it lends is what it hands out first, and it is whole again afterwards. */
Test(buf, lent)
{
	struct stele_buf_pool *pool;
	struct stele_env *env;
	char text[STELE_ENV_TEXT];
	if (stele_env_uring_create(NULL, &env) != STELE_OK)
		cr_skip_test("io_uring is refused here: %s", stele_detail());
	cr_assert_eq(stele_buf_pool_create(40, &pool), STELE_OK); /* more than it lends */
	stele_buf_pool_lend(pool, env);
	stele_env_describe(env, text);
	cr_assert(strstr(text, "KiB of buffers"), "%s", text);
	cr_assert(strstr(text, "RLIMIT_MEMLOCK") || strstr(text, " 32768 KiB"), "%s", text);
	stele_buf_pool_take_back(pool, env);
	stele_env_describe(env, text);
	cr_assert(strstr(text, "no buffers"), "%s", text);
	stele_env_destroy(env);
	stele_buf_pool_destroy(pool);
}
