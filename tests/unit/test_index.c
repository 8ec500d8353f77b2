/*
 * Goal: the index knows of each key where it lies, and whether it can lie anywhere else: so that a tombstone may name the one
 * extent that it is kept for, and goes when that extent is recycled. What is alive in each extent adds up at all times.
 */
#include <criterion/criterion.h>

#include "storage/index.h"
#include "tests/unit/store_kit.h"

static struct stele_kv_world *world;
static struct stele_index ix;

static void init(void)
{
	struct stele_index_state state;
	cr_assert_eq(stele_kv_world_create(&world), STELE_OK);
	cr_assert_eq(stele_index_open(&stele_kv_memory, world, "/index", &ix, &state),
	             STELE_ERR_NOT_FOUND);
}

static void fini(void)
{
	stele_index_close(&ix);
	stele_kv_world_destroy(world);
}
TestSuite(index, .init = init, .fini = fini);

static struct stele_item_at entry(uint64_t id, uint64_t birth, uint32_t extent)
{
	struct stele_hash h = kit_hash(id), sub = kit_hash(1);
	return (struct stele_item_at){.key = kit_key(STELE_ENTRY_RECORD, &h, &sub, 0),
	                              .birth_lsn = birth,
	                              .extent = extent,
	                              .off = STELE_PAGE + 64 * birth,
	                              .meta_len = 100};
}

static struct stele_item_at tomb(uint64_t id, uint64_t birth, uint32_t extent, uint64_t victim,
                                 uint32_t only)
{
	struct stele_item_at it = entry(id, birth, extent);
	it.tomb = true;
	it.victim_lsn = victim;
	it.only = only;
	it.meta_len = STELE_TOMB_META;
	return it;
}

static void apply(struct stele_item_at it)
{
	cr_assert_eq(stele_index_apply(&ix, &it, 1), STELE_OK, "%s", stele_detail());
}

static void forget(struct stele_item_at it)
{
	cr_assert_eq(stele_index_forget(&ix, &it, 1), STELE_OK, "%s", stele_detail());
}

static bool get(enum stele_index_space space, uint64_t id, struct stele_item_at *out)
{
	struct stele_item_at it = entry(id, 0, 0);
	enum stele_err err = stele_index_get(ix.kv, space, &it.key, out);
	cr_assert(err == STELE_OK || err == STELE_ERR_NOT_FOUND);
	return err == STELE_OK;
}

static uint64_t live(uint32_t extent)
{
	return extent < ix.counts.extents ? ix.counts.live[extent] : 0;
}

/* Counting anew comes to the same. */
static void recount(void)
{
	uint64_t was[8], bytes = ix.counts.bytes;
	for (uint32_t i = 0; i < 8; i++)
		was[i] = live(i);
	cr_assert_eq(stele_index_recount(&ix), STELE_OK);
	for (uint32_t i = 0; i < 8; i++)
		cr_assert_eq(live(i), was[i], "extent %u", i);
	cr_assert_eq(ix.counts.bytes, bytes);
}

Test(index, one_that_was_met_once_is_alone)
{
	struct stele_item_at at;
	apply(entry(1, 5, 1));
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at));
	cr_assert(!at.moved && !at.others);
	apply(entry(1, 5, 1)); /* a replay */
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at));
	cr_assert(!at.moved && !at.others);
	cr_assert_eq(live(1), stele_index_weight(&at));
	recount();
}

Test(index, a_copy_has_one_other_until_that_extent_goes)
{
	struct stele_item_at at, first = entry(1, 5, 1);
	apply(first);
	apply(entry(1, 5, 2));
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at));
	cr_assert(at.extent == 2 && at.moved && !at.others);
	cr_assert_eq(live(1), 0u);
	recount();
	forget(first);
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at));
	cr_assert(at.extent == 2 && !at.moved && !at.others);
}

Test(index, a_copy_of_a_copy_and_one_that_replaces_may_have_any)
{
	struct stele_item_at at;
	apply(entry(1, 5, 1));
	apply(entry(1, 5, 2));
	apply(entry(1, 5, 3));
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at) && at.extent == 3 && at.others);
	apply(entry(2, 5, 1));
	apply(entry(2, 6, 1));
	cr_assert(get(STELE_INDEX_ENTRY, 2, &at) && at.birth_lsn == 6 && at.others);
	apply(entry(3, 6, 1));
	apply(entry(3, 5, 2)); /* an older one is met later */
	cr_assert(get(STELE_INDEX_ENTRY, 3, &at) && at.birth_lsn == 6 && at.others);
	apply(tomb(4, 6, 1, 5, 0));
	apply(entry(4, 7, 1));
	cr_assert(get(STELE_INDEX_ENTRY, 4, &at) && at.others);
	recount();
}

Test(index, a_tombstone_goes_with_the_extent_that_it_names)
{
	struct stele_item_at at, victim = entry(1, 5, 1), other = entry(2, 6, 1);
	apply(victim);
	apply(other);
	apply(tomb(1, 8, 2, 5, 1));
	apply(tomb(2, 9, 2, 6, 0));
	cr_assert_eq(live(1), 0u);
	cr_assert_gt(live(2), 0u, "tombstones keep their bytes");
	cr_assert_eq(ix.counts.bytes, 0u, "and are no live entries");
	recount();
	forget(victim);
	forget(other);
	cr_assert(!get(STELE_INDEX_TOMB, 1, &at));
	cr_assert(get(STELE_INDEX_TOMB, 2, &at), "others of its key may lie anywhere");
	cr_assert_eq(live(2), stele_index_weight(&at));
	forget(tomb(2, 9, 2, 6, 0)); /* its own extent goes, and it was not needed */
	cr_assert(!get(STELE_INDEX_TOMB, 2, &at));
	cr_assert_eq(live(2), 0u);
	recount();
}

Test(index, a_tombstone_that_moved_does_not_go_with_its_old_extent)
{
	struct stele_item_at at;
	apply(entry(1, 5, 1));
	apply(tomb(1, 8, 2, 5, 1));
	apply(tomb(1, 8, 3, 5, 1));
	cr_assert_eq(live(2), 0u);
	forget(tomb(1, 8, 2, 5, 1));
	cr_assert(get(STELE_INDEX_TOMB, 1, &at) && at.extent == 3);
	apply(tomb(1, 8, 2, 4, 1)); /* an older victim's: the later counts */
	cr_assert(get(STELE_INDEX_TOMB, 1, &at) && at.extent == 3 && at.victim_lsn == 5);
	recount();
}

Test(index, a_key_that_came_again_outlives_its_old_extent)
{
	struct stele_item_at at, old = entry(1, 5, 1);
	apply(old);
	apply(tomb(1, 8, 2, 5, 1));
	apply(entry(1, 9, 3));
	forget(old);
	cr_assert(get(STELE_INDEX_ENTRY, 1, &at) && at.extent == 3 && at.birth_lsn == 9);
	cr_assert(!get(STELE_INDEX_TOMB, 1, &at));
	recount();
}
