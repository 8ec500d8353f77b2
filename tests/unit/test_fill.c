/*
 * Goal: the next extent is filled with zeros while nobody writes, and only then; and never under what somebody does
 * write, whenever the burst comes that needs it. On a simulated disk and clock.
 */
#include "storage/io/sim.h"
#include "tests/unit/store_kit.h"

#define SHARD_LEN (600u << 10)
#define FULL      6u  /* fill an extent */
#define BLOCKS    16u
#define FIRST     5u  /* with these more than half of it is full when the last is written */
#define MS        1000000u

static struct kit_block block[BLOCKS];

static bool turn(struct kit *k)
{
	while (k->waiting)
		if (!stele_sim_step(k->sim))
			return false;
	return true;
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

static void pass(struct kit *k, uint64_t ns)
{
	(void)stele_sim_run(k->sim, never, NULL, ns);
}

static void put_some(struct kit *k, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		cr_assert_eq(kit_put(k, &block[i], 0, NULL), STELE_OK, "%u: %s", i, stele_detail());
}

static void check_some(struct kit *k, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		cr_assert_eq(kit_same(k, &block[i], 0), STELE_OK, "%u: %s", i, stele_detail());
}

static uint64_t filled(struct kit *k)
{
	struct stele_store_status st;
	stele_store_status(k->store, &st);
	return st.filled;
}

static void reclaimed(struct stele_store_reclaim *r)
{
	cr_assert_eq(r->err, STELE_ERR_CANCELLED, "%s", r->detail);
}

/* A store whose first extent is more than half full, so that the next one has been made. */
static void begin(struct kit *k, uint64_t seed, struct stele_store_reclaim *r)
{
	struct stele_sim *sim;
	memset(k, 0, sizeof(*k));
	cr_assert_eq(stele_sim_create(seed, &sim), STELE_OK);
	k->sim = sim;
	k->turn = turn;
	cr_assert_eq(stele_sim_env(sim, "disk", &k->env), STELE_OK);
	snprintf(k->dir, sizeof(k->dir), "/disk0");
	kit_opts(k, false);
	cr_assert_eq(stele_file_mkdirs(k->env, k->dir, 0700), STELE_OK);
	cr_assert_eq(stele_store_format(&k->opts, NULL), STELE_OK, "%s", stele_detail());
	kit_open(k);
	for (uint32_t i = 0; i < BLOCKS; i++)
		if (!block[i].d.n)
			kit_block_make(&block[i], "rep-2", SHARD_LEN, 7 + i);
	*r = (struct stele_store_reclaim){.cb = reclaimed};
	stele_store_reclaim(k->store, r);
	pass(k, 5 * MS); /* its first look, long before the next */
	put_some(k, 0, FIRST);
	kit_settle(k);
	cr_assert_eq(filled(k), STELE_PAGE, "made ahead, and not written yet");
}

static void finish(struct kit *k, struct stele_store_reclaim *r)
{
	stele_store_reclaim_cancel(k->store);
	while (!r->err)
		kit_pause(k);
	kit_close(k);
	stele_env_destroy(k->env);
	stele_sim_destroy(k->sim);
	stele_kv_world_destroy(k->world);
}

static void forget_blocks(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_free(&block[i]);
}

Test(fill, while_nobody_writes)
{
	struct kit k;
	struct stele_store_reclaim r;
	begin(&k, 1, &r);
	pass(&k, 1000 * MS);
	cr_assert_eq(filled(&k), k.opts.extent_len);
	put_some(&k, FIRST, BLOCKS);
	check_some(&k, 0, BLOCKS);
	finish(&k, &r);
	forget_blocks();
}

Test(fill, not_while_somebody_writes)
{
	struct kit k;
	struct stele_store_reclaim r;
	begin(&k, 2, &r);
	for (uint64_t i = 0; i < 100; i++) {
		struct stele_hash id = kit_hash(i);
		cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_MARK, &id, &id, "m", 1), STELE_OK, "%s",
		             stele_detail());
		pass(&k, 10 * MS);
		cr_assert_eq(filled(&k), STELE_PAGE, "after write %u", (unsigned)i);
	}
	pass(&k, 1000 * MS);
	cr_assert_eq(filled(&k), k.opts.extent_len);
	finish(&k, &r);
	forget_blocks();
}

static void put_cb(struct stele_store_write *w)
{
	cr_assert_eq(w->err, STELE_OK, "%s", w->detail);
	((struct kit *)w->ctx)->waiting--;
}

/* ---- an env that holds back what a worker is to do ---- */

static struct {
	struct stele_env env; /* first */
	struct stele_env_ops ops;
	struct stele_env *real;
	bool hold;
	struct stele_op *held;
} holding;

static void submit(struct stele_env *env, struct stele_op *op)
{
	(void)env;
	if (holding.hold && op->kind == STELE_OP_WORK && !holding.held)
		holding.held = op;
	else
		stele_env_submit(holding.real, op);
}

static void cancel(struct stele_env *env, struct stele_op *op)
{
	(void)env;
	stele_env_cancel(holding.real, op);
}

static int64_t call(struct stele_env *env, struct stele_op *op)
{
	(void)env;
	return stele_env_call(holding.real, op);
}

static uint64_t now(struct stele_env *env)
{
	(void)env;
	return stele_env_now(holding.real);
}

static int64_t wall(struct stele_env *env)
{
	(void)env;
	return stele_env_wall(holding.real);
}

static void fill_random(struct stele_env *env, void *out, size_t len)
{
	(void)env;
	stele_env_random(holding.real, out, len);
}

static void post(struct stele_env *env, struct stele_msg *msg)
{
	(void)env;
	stele_env_post(holding.real, msg);
}

/* The store again, with reclaim, up to where zeros are on their way to its next extent and are held back. */
static void hold_zeros(struct kit *k, struct stele_store_reclaim *r)
{
	stele_store_reclaim_cancel(k->store);
	while (!r->err)
		kit_pause(k);
	kit_close(k);
	memset(&holding, 0, sizeof(holding));
	holding.real = k->env;
	holding.ops = (struct stele_env_ops){.name = "holding",
	                                     .submit = submit,
	                                     .cancel = cancel,
	                                     .call = call,
	                                     .post = post,
	                                     .now = now,
	                                     .wall = wall,
	                                     .random = fill_random};
	holding.env.ops = &holding.ops;
	k->opts.env = &holding.env;
	kit_open(k);
	*r = (struct stele_store_reclaim){.cb = reclaimed};
	stele_store_reclaim(k->store, r);
	pass(k, 5 * MS); /* its first look */
	holding.hold = true;
	pass(k, 40 * MS);
	cr_assert(holding.held, "zeros are on their way");
}

/* The burst comes while zeros are on their way to the extent that it needs. */
Test(fill, never_under_what_is_written)
{
	struct kit k;
	struct stele_store_reclaim r;
	begin(&k, 3, &r);
	hold_zeros(&k, &r);

	struct stele_store_write w[BLOCKS];
	struct stele_item item[BLOCKS];
	struct iovec iov[BLOCKS];
	for (uint32_t i = FIRST; i < BLOCKS; i++) {
		const struct kit_block *b = &block[i];
		item[i] = (struct stele_item){.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 0),
		                              .data = &iov[i],
		                              .ndata = 1,
		                              .data_len = b->d.S};
		item[i].meta = kit_meta(b, 0, &item[i].meta_len);
		iov[i] = (struct iovec){b->shard[0], b->d.S};
		w[i] =
		    (struct stele_store_write){.item = &item[i], .n = 1, .cb = put_cb, .ctx = &k};
		k.waiting++;
		stele_store_write(k.store, &w[i]);
	}
	pass(&k, 1000 * MS);
	cr_assert_gt(k.waiting, 0u, "what needs that extent waits");
	stele_env_submit(holding.real, holding.held);
	pass(&k, 1000 * MS);
	cr_assert_eq(k.waiting, 0u, "and goes on");
	for (uint32_t i = FIRST; i < BLOCKS; i++)
		free((void *)(uintptr_t)item[i].meta);
	check_some(&k, 0, BLOCKS);
	finish(&k, &r);
	forget_blocks();
}

/* What dies while zeros are written makes room as soon as they are. */
Test(fill, what_dies_meanwhile_is_seen)
{
	struct kit k;
	struct stele_store_reclaim r;
	begin(&k, 4, &r);
	put_some(&k, FIRST, FULL + FIRST); /* the next extent is as full as the first was */
	hold_zeros(&k, &r);
	for (uint32_t i = 0; i < FULL; i++) {
		struct stele_key key = kit_key(STELE_ENTRY_SHARD, &block[i].id, NULL, 0);
		cr_assert_eq(kit_tomb(&k, &key), STELE_OK, "%s", stele_detail());
	}
	cr_assert_eq(r.extents, 0u);
	stele_env_submit(holding.real, holding.held);
	pass(&k, 500 * MS);
	cr_assert_eq(r.extents, 1u, "all of the first is dead");
	check_some(&k, FULL, FULL + FIRST);
	finish(&k, &r);
	forget_blocks();
}
