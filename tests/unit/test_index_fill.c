/*
 * Goal: an index that is filled in sorted passes holds byte for byte what it would hold had every item been
 * applied in its order, whatever the items, and however few fit into a run.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "storage/base/prng.h"
#include "storage/index_fill.h"

#define ITEMS 3000u

static struct stele_item_at item[ITEMS];

static struct stele_hash hash(struct stele_prng *p, uint32_t values)
{
	struct stele_prng of;
	struct stele_hash h;
	stele_prng_init(&of, stele_prng_below(p, values));
	stele_prng_fill(&of, h.b, sizeof(h.b));
	return h;
}

/* Items as a disk's extents have them: births ascend, but for copies; tombstones kill what came before. Few
 * ids: many items of one key. */
static void make_items(uint64_t seed, uint32_t ids)
{
	static const uint8_t kinds[] = {STELE_ENTRY_SHARD,  STELE_ENTRY_SHARD, STELE_ENTRY_REF,
	                                STELE_ENTRY_RECORD, STELE_ENTRY_MARK,  STELE_ENTRY_REFUSE,
	                                STELE_ENTRY_KEEP};
	struct stele_prng p;
	stele_prng_init(&p, seed);
	for (uint32_t i = 0; i < ITEMS; i++) {
		struct stele_item_at *it = &item[i];
		*it = (struct stele_item_at){.birth_lsn = 1 + i,
		                             .extent = 1 + i / 500,
		                             .off = 4096 + 64 * (uint64_t)(i % 500),
		                             .meta_len = 100};
		it->key.kind = kinds[stele_prng_below(&p, sizeof(kinds))];
		it->key.pool = (uint16_t)stele_prng_below(&p, 2);
		it->key.id = hash(&p, ids);
		if (it->key.kind == STELE_ENTRY_SHARD || it->key.kind == STELE_ENTRY_KEEP)
			it->key.index = (uint8_t)stele_prng_below(&p, 3);
		if (it->key.kind != STELE_ENTRY_SHARD)
			it->key.sub = hash(&p, 3);
		if (it->key.kind == STELE_ENTRY_SHARD) {
			it->data_off = 8192;
			it->data_len = 64;
			it->hot_len = 50;
		}
		uint64_t which = i ? stele_prng_below(&p, 8) : 7;
		uint32_t before = i ? (uint32_t)stele_prng_below(&p, i) : 0;
		if (which == 0) { /* a tombstone of something earlier */
			it->key = item[before].key;
			it->tomb = true;
			it->victim_lsn = item[before].birth_lsn;
			it->data_off = it->data_len = it->hot_len = 0;
		} else if (which == 1 && !item[before].tomb) { /* a copy, elsewhere */
			struct stele_item_at copy = item[before];
			copy.extent = it->extent;
			copy.off = it->off;
			*it = copy;
		}
	}
}

struct world {
	struct stele_kv_world *kv;
	struct stele_index ix;
};

static void start(struct world *w)
{
	struct stele_index_state state;
	cr_assert_eq(stele_kv_world_create(&w->kv), STELE_OK);
	cr_assert_eq(stele_index_open(&stele_kv_memory, w->kv, "index", &w->ix, &state),
	             STELE_ERR_NOT_FOUND);
}

static void end(struct world *w)
{
	stele_index_close(&w->ix);
	stele_kv_world_destroy(w->kv);
}

static void same_counts(const struct stele_index_counts *a, const struct stele_index_counts *b)
{
	cr_assert(a->shards == b->shards && a->refs == b->refs && a->records == b->records &&
	              a->marks == b->marks && a->bytes == b->bytes && a->bad == b->bad,
	          "shards %llu %llu, bytes %llu %llu", (unsigned long long)a->shards,
	          (unsigned long long)b->shards, (unsigned long long)a->bytes,
	          (unsigned long long)b->bytes);
	for (uint32_t i = 0; i < a->extents || i < b->extents; i++)
		cr_assert_eq(i < a->extents ? a->live[i] : 0, i < b->extents ? b->live[i] : 0,
		             "extent %u", i);
}

static uint32_t same_contents(struct world *a, struct world *b)
{
	struct stele_kv_iter *x, *y;
	uint32_t n = 0;
	cr_assert_eq(stele_kv_iter_create(a->ix.kv, &x), STELE_OK);
	cr_assert_eq(stele_kv_iter_create(b->ix.kv, &y), STELE_OK);
	for (x->seek(x, "", 1), y->seek(y, "", 1); x->valid(x) && y->valid(y);
	     x->next(x), y->next(y), n++) {
		size_t lx, ly;
		const void *kx = x->key(x, &lx), *ky = y->key(y, &ly);
		cr_assert(lx == ly && memcmp(kx, ky, lx) == 0, "key %u differs", n);
		kx = x->value(x, &lx);
		ky = y->value(y, &ly);
		cr_assert(lx == ly && memcmp(kx, ky, lx) == 0, "value %u differs", n);
	}
	cr_assert(!x->valid(x) && !y->valid(y), "one has more than %u", n);
	stele_kv_iter_destroy(x);
	stele_kv_iter_destroy(y);
	return n;
}

static uint32_t compare(uint64_t expected, uint32_t run)
{
	struct world a, b;
	struct stele_index_fill *fill;
	start(&a);
	start(&b);
	cr_assert_eq(stele_index_apply(&a.ix, item, ITEMS), STELE_OK, "%s", stele_detail());
	cr_assert_eq(stele_index_fill_create(&b.ix, expected, run, &fill), STELE_OK);
	uint32_t passes = stele_index_fill_passes(fill);
	for (uint32_t p = 0; p < passes; p++) {
		for (uint32_t i = 0; i < ITEMS; i++)
			cr_assert_eq(stele_index_fill_add(fill, &item[i]), STELE_OK, "%s",
			             stele_detail());
		cr_assert_eq(stele_index_fill_end(fill), STELE_OK);
	}
	stele_index_fill_destroy(fill);
	same_counts(&a.ix.counts, &b.ix.counts);
	cr_assert(same_contents(&a, &b) > 10);
	end(&a);
	end(&b);
	return passes;
}

Test(index_fill, holds_what_it_would_hold_had_all_been_applied_in_order)
{
	static const uint32_t ids[] = {2, 40, 1000, 100000};
	for (uint64_t seed = 0; seed < 12; seed++) {
		make_items(seed, ids[seed % 4]);
		cr_assert_eq(compare(ITEMS, STELE_INDEX_RUN), 1u, "all in one run");
		cr_assert(compare(ITEMS, 500) >= 6, "a pass for each part of them");
		compare(ITEMS, 2);
		compare(ITEMS / 10, STELE_INDEX_RUN); /* more than was expected */
		compare(0, 500);
	}
}
