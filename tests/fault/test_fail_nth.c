/*
 * Goal: fail the Nth I/O, the Nth call of the index's engine, the Nth allocation, for N = 1, 2, ... until the
 * workload gets through, once and for good: every failure ends in an error that says so, never in a crash, a
 * hang or a leak, and afterwards a store without faults has everything that was acknowledged.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

/* what the linker calls the allocators that do not fail */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t a, size_t n);
#define kit_malloc        __real_malloc
#define kit_calloc        __real_calloc
#define kit_aligned_alloc __real_aligned_alloc

#include "tests/unit/store_kit.h"

enum what { IO, KV, ALLOC };

static struct {
	atomic_int countdown[3]; /* 0: off; the operation that takes it to 0 fails */
	atomic_bool sticky, tripped;
	atomic_bool on;
} plan;

static bool fails(enum what what)
{
	if (!plan.on)
		return false;
	if (plan.tripped && plan.sticky && plan.countdown[what] < 0)
		return true;
	if (plan.countdown[what] <= 0)
		return false;
	if (--plan.countdown[what] > 0)
		return false;
	plan.countdown[what] = -1;
	plan.tripped = true;
	return true;
}

/* ---- an env whose operations may fail ---- */

struct fail_env {
	struct stele_env env;
	struct stele_env *real;
	bool slow_heads; /* extents' headers are on their way for a while */
};
#define SLOW_NS 20000000u

struct failed_op {
	struct stele_op timer;
	struct stele_op *op;
	struct stele_env *real; /* of one that is only late */
};

static void late_cb(struct stele_op *timer)
{
	struct failed_op *f = timer->ctx;
	f->real->ops->submit(f->real, f->op);
	free(f);
}

static void failed_cb(struct stele_op *timer)
{
	struct failed_op *f = timer->ctx;
	struct stele_op *op = f->op;
	free(f);
	op->result = -EIO;
	op->cb(op);
}

static bool counts(const struct stele_op *op)
{
	switch (op->kind) {
	case STELE_OP_TIMER:
	case STELE_OP_WORK:
	case STELE_OP_CLOSE:
	case STELE_OP_STAT: /* says whether a store is there: an error is taken for "yes" */
	case STELE_OP_LOCK:
		return false;
	default:
		return true;
	}
}

static void fail_submit(struct stele_env *env, struct stele_op *op)
{
	struct stele_env *real = ((struct fail_env *)env)->real;
	bool fail = counts(op) && fails(IO);
	bool late = ((struct fail_env *)env)->slow_heads && op->kind == STELE_OP_WRITEV && op->off == 0;
	if (!fail && !late) {
		real->ops->submit(real, op);
		return;
	}
	struct failed_op *f = __real_calloc(1, sizeof(*f));
	f->op = op;
	f->real = real;
	if (!fail) {
		f->timer = (struct stele_op){.kind = STELE_OP_TIMER,
		                             .off = stele_env_now(real) + SLOW_NS,
		                             .cb = late_cb,
		                             .ctx = f};
		real->ops->submit(real, &f->timer);
		return;
	}
	f->timer = (struct stele_op){.kind = STELE_OP_TIMER, .cb = failed_cb, .ctx = f};
	real->ops->submit(real, &f->timer);
}

static int64_t fail_call(struct stele_env *env, struct stele_op *op)
{
	struct stele_env *real = ((struct fail_env *)env)->real;
	if (counts(op) && fails(IO))
		return op->result = -EIO;
	return real->ops->call(real, op);
}

#define REAL(env) (((struct fail_env *)(env))->real)
static void fail_cancel(struct stele_env *env, struct stele_op *op)
{
	stele_env_cancel(REAL(env), op);
}
static void fail_post(struct stele_env *env, struct stele_msg *msg)
{
	stele_env_post(REAL(env), msg);
}
static uint64_t fail_now(struct stele_env *env)
{
	return stele_env_now(REAL(env));
}
static int64_t fail_wall(struct stele_env *env)
{
	return stele_env_wall(REAL(env));
}
static void fail_random(struct stele_env *env, void *out, size_t len)
{
	stele_env_random(REAL(env), out, len);
}
static void fail_run(struct stele_env *env)
{
	stele_env_run(REAL(env));
}
static void fail_stop(struct stele_env *env)
{
	stele_env_stop(REAL(env));
}
static void fail_destroy(struct stele_env *env)
{
	stele_env_destroy(REAL(env));
}

static const struct stele_env_ops fail_ops = {
    .submit = fail_submit,
    .cancel = fail_cancel,
    .call = fail_call,
    .post = fail_post,
    .now = fail_now,
    .wall = fail_wall,
    .random = fail_random,
    .run = fail_run,
    .stop = fail_stop,
    .destroy = fail_destroy,
};

/* ---- an index engine whose calls may fail ---- */

extern const struct stele_kv_ops fail_kv;

static enum stele_err kv_fail(void)
{
	return stele_fail(STELE_ERR_IO, "index: made to fail");
}
static enum stele_err kv_open(void *world, const char *dir, struct stele_kv **out)
{
	if (fails(KV))
		return kv_fail();
	STELE_TRY(stele_kv_memory.open(world, dir, out));
	(*out)->ops = &fail_kv;
	return STELE_OK;
}
static enum stele_err kv_destroy_dir(void *world, const char *dir)
{
	return fails(KV) ? kv_fail() : stele_kv_memory.destroy_dir(world, dir);
}
static enum stele_err kv_get(struct stele_kv *kv, const void *key, size_t key_len, void *value,
                             size_t cap, size_t *value_len)
{
	return fails(KV) ? kv_fail() : stele_kv_memory.get(kv, key, key_len, value, cap, value_len);
}
static enum stele_err kv_write(struct stele_kv *kv, const struct stele_kv_write *w, size_t n)
{
	return fails(KV) ? kv_fail() : stele_kv_memory.write(kv, w, n);
}
static enum stele_err kv_flush(struct stele_kv *kv)
{
	return fails(KV) ? kv_fail() : stele_kv_memory.flush(kv);
}
static enum stele_err kv_iter(struct stele_kv *kv, struct stele_kv_iter **out)
{
	return fails(KV) ? kv_fail() : stele_kv_memory.iter_create(kv, out);
}
static void kv_close(struct stele_kv *kv)
{
	stele_kv_memory.close(kv);
}
const struct stele_kv_ops fail_kv = {
    .name = "memory that fails",
    .open = kv_open,
    .close = kv_close,
    .destroy_dir = kv_destroy_dir,
    .get = kv_get,
    .write = kv_write,
    .flush = kv_flush,
    .iter_create = kv_iter,
};

/* ---- allocations that may fail (the linker sends ours here) ---- */

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t a, size_t n);

void *__wrap_malloc(size_t n)
{
	return fails(ALLOC) ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t m)
{
	return fails(ALLOC) ? NULL : __real_calloc(n, m);
}
void *__wrap_realloc(void *p, size_t n)
{
	return fails(ALLOC) ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t a, size_t n)
{
	return fails(ALLOC) ? NULL : __real_aligned_alloc(a, n);
}

/* ---- the workload ---- */

#define BLOCKS  6u
#define RECORDS 12u

struct world {
	struct kit k;
	struct fail_env env;
	struct kit_block b[BLOCKS];
	bool has_block[BLOCKS], has_record[RECORDS]; /* acknowledged */
	bool maybe_block[BLOCKS];                    /* a tombstone was asked for */
	uint8_t record[1 << 16];
	bool went_on; /* three records more were acknowledged */
	int n, sticky;
};

static struct stele_key record_key(uint64_t i)
{
	struct stele_hash id = kit_hash(i), sub;
	stele_sha256("text", 4, &sub);
	return kit_key(STELE_ENTRY_RECORD, &id, &sub, 0);
}

/* Writes as much as it can; true when nothing failed. Fills more than one extent. */
static bool work(struct world *w)
{
	struct kit *k = &w->k;
	bool all = true;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		struct stele_hash deposit = kit_hash(i);
		w->has_block[i] = kit_put(k, &w->b[i], 0, &deposit) == STELE_OK;
		all = all && w->has_block[i];
	}
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct stele_item item = {
		    .key = record_key(i), .meta = w->record, .meta_len = sizeof(w->record)};
		w->has_record[i] = kit_write(k, &item, 1, NULL) == STELE_OK;
		all = all && w->has_record[i];
	}
	for (uint32_t i = 1; i < BLOCKS - 1; i++) {
		struct stele_key gone = kit_key(STELE_ENTRY_SHARD, &w->b[i].id, NULL, 0);
		w->maybe_block[i] = true;
		all = kit_tomb(k, &gone) == STELE_OK && all;
	}
	struct stele_store_reclaim r = kit_reclaim(k);
	all = all && r.err == STELE_ERR_CANCELLED && r.extents > 0;
	enum stele_err err = kit_same(k, &w->b[0], 0);
	all = all && err == STELE_OK;
	struct stele_store_scrub s = {.deep = true};
	err = kit_scrub(k, &s);
	all = all && err == STELE_OK && s.victims == 0;
	return all;
}

static void arm(enum what what, int n, bool sticky)
{
	for (int i = 0; i < 3; i++)
		plan.countdown[i] = 0;
	plan.countdown[what] = n;
	plan.sticky = sticky;
	plan.tripped = false;
	plan.on = true;
}

static void disarm(void)
{
	plan.on = false;
}

static void check(struct world *w)
{
	struct kit *k = &w->k;
	cr_assert_eq(stele_store_open(&k->opts, &k->store), STELE_OK, "%s", stele_detail());
	/* what could not be read once and can be now is found to be sound */
	struct stele_store_scrub s = {.deep = true};
	cr_assert_eq(kit_scrub(k, &s), STELE_OK, "%s", s.detail);
	cr_assert_eq(s.victims, 0, "%u victims", (unsigned)s.victims);
	kit_settle(k);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		enum stele_err err = kit_same(k, &w->b[i], 0);
		if (w->has_block[i] && !w->maybe_block[i])
			cr_assert_eq(err, STELE_OK, "block %u: %s", i, stele_detail());
		else
			cr_assert(err == STELE_OK || err == STELE_ERR_NOT_FOUND, "block %u: %s", i,
			          stele_detail());
	}
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct stele_key key = record_key(i);
		bool there = kit_have(k, &key);
		cr_assert(there || !w->has_record[i], "fault %d (%d): record %u is lost", w->n,
		          w->sticky, i);
	}
	for (uint32_t i = RECORDS; w->went_on && i < RECORDS + 3; i++) {
		struct stele_key key = record_key(i);
		cr_assert(kit_have(k, &key), "allocation %d: record %u is lost", w->n, i);
	}
	kit_close(k);
}

/* A lack of memory that is over leaves the disk as it was: it takes writes. Only where the index was being
 * written it is fenced. */
static void go_on(struct world *w)
{
	struct kit *k = &w->k;
	bool fenced = stele_store_fenced(k->store);
	cr_assert(!fenced || strstr(stele_store_fence_reason(k->store), "index: out of memory"),
	          "allocation %d: %s", w->n, stele_store_fence_reason(k->store));
	for (uint32_t i = 0; !fenced && i < 3; i++) {
		struct stele_key key = record_key(RECORDS + i);
		struct stele_item item = {
		    .key = key, .meta = w->record, .meta_len = sizeof(w->record)};
		cr_assert_eq(kit_write(k, &item, 1, NULL), STELE_OK, "allocation %d: write %u: %s",
		             w->n, i, stele_detail());
	}
	w->went_on = !fenced;
}

/* One run in which the Nth fails; true when nothing did. */
static bool run(struct world *w, enum what what, int n, bool sticky)
{
	struct kit *k = &w->k;
	w->n = n;
	w->sticky = sticky;
	memset(w->has_block, 0, sizeof(w->has_block));
	memset(w->has_record, 0, sizeof(w->has_record));
	memset(w->maybe_block, 0, sizeof(w->maybe_block));
	w->went_on = false;
	kit_dir_in(k, "/dev/shm"); /* nothing here rests on a disk */
	kit_opts(k, false);
	k->opts.kv = &fail_kv;
	k->opts.env = k->env = &w->env.env;
	cr_assert_eq(stele_store_format(&k->opts, NULL), STELE_OK);
	arm(what, n, sticky);
	bool all = false;
	if (stele_store_open(&k->opts, &k->store) == STELE_OK) {
		all = work(w);
		if (what == ALLOC && !sticky) {
			disarm();
			go_on(w);
		}
		kit_close(k);
	} else {
		k->store = NULL;
		cr_assert(plan.tripped, "%s", stele_detail());
	}
	disarm();
	bool hit = plan.tripped;
	cr_assert(all || hit, "something failed without a fault: %s", stele_detail());
	check(w);
	cr_assert_eq(stele_kv_memory.destroy_dir(k->world, k->dir), STELE_OK);
	kit_rm(k->dir);
	return !hit;
}

static void fail_all(enum what what, int sticky_step)
{
	static struct world w;
	memset(&w, 0, sizeof(w));
	cr_assert_eq(stele_env_threads_create(NULL, &w.env.real), STELE_OK);
	w.env.env.ops = &fail_ops;
	memcpy(w.record, "\4\0\0\0text", 8);
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_make(&w.b[i], "rep-2", 1 + 300000 * i, i);
	for (int sticky = 0; sticky < 2; sticky++) {
		int n = 1;
		while (!run(&w, what, n, sticky))
			n += sticky ? sticky_step : 1;
		cr_assert_gt(n, 20, "the workload is too small to mean anything");
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_free(&w.b[i]);
	stele_kv_world_destroy(w.k.world);
	stele_env_destroy(w.env.real);
}

/* A write fails while the header of the extent that it began is on its way, and the store is closed at once. */
Test(fail_nth, a_header_under_way_at_the_end)
{
	struct fail_env env = {.slow_heads = true, .env = {.ops = &fail_ops}};
	struct kit k = {0};
	bool through = false;
	cr_assert_eq(stele_env_threads_create(NULL, &env.real), STELE_OK);
	for (int n = 1; !through; n++) {
		kit_dir_in(&k, "/dev/shm");
		kit_opts(&k, false);
		k.opts.env = k.env = &env.env;
		cr_assert_eq(stele_store_format(&k.opts, NULL), STELE_OK);
		kit_open(&k);
		struct stele_key key = record_key(0);
		uint8_t text[] = "\4\0\0\0text";
		struct stele_item item = {.key = key, .meta = text, .meta_len = 8};
		arm(ALLOC, n, false);
		through = kit_write(&k, &item, 1, NULL) == STELE_OK && !plan.tripped;
		disarm();
		kit_close(&k);
		for (int i = 0; i < 30; i++) /* what would still come comes now */
			kit_pause(&k);
		cr_assert_eq(stele_kv_memory.destroy_dir(k.world, k.dir), STELE_OK);
		kit_rm(k.dir);
	}
	stele_kv_world_destroy(k.world);
	stele_env_destroy(env.real);
}

Test(fail_nth, io)
{
	fail_all(IO, 1);
}

Test(fail_nth, index)
{
	fail_all(KV, 7);
}

Test(fail_nth, allocation)
{
	fail_all(ALLOC, 7);
}
