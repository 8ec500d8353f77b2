/*
 * Goal: what a store knows of shards that were read lately saves trips and never shows: cells come without
 * lookup and front, and yet what was removed, called bad, damaged or asked for wrongly is answered as
 * if nothing were known.
 */
#include <fcntl.h>
#include <unistd.h>

#include "storage/store_fronts.h"
#include "tests/unit/store_kit.h"

/* ---- the table ---- */

static struct stele_item_at place(uint64_t n, uint32_t cells)
{
	struct stele_hash id = kit_hash(n);
	return (struct stele_item_at){.key = kit_key(STELE_ENTRY_SHARD, &id, NULL, 3),
	                              .birth_lsn = 10 + n,
	                              .extent = 7,
	                              .off = 4096 + 64 * n,
	                              .data_len = cells * STELE_CELL_LEN - 64};
}

static void put(struct stele_fronts *f, uint64_t n, uint32_t cells)
{
	uint8_t crcs[4 * STELE_SHARD_CELLS_MAX];
	struct stele_item_at at = place(n, cells);
	for (uint32_t i = 0; i < cells; i++)
		stele_put_le32(crcs + 4 * i, (uint32_t)(1000 * n + i));
	stele_fronts_put(f, f->era, &at, 5, crcs);
}

static bool known(struct stele_fronts *f, uint64_t n, uint32_t cells)
{
	struct stele_item_at want = place(n, cells), at;
	uint32_t cycle;
	const uint32_t *crc = stele_fronts_get(f, &want.key, &at, &cycle);
	if (!crc)
		return false;
	cr_assert(at.off == want.off && at.birth_lsn == want.birth_lsn && cycle == 5);
	for (uint32_t i = 0; i < cells; i++)
		cr_assert_eq(crc[i], 1000 * n + i);
	return true;
}

Test(store_fronts, gives_back_what_was_put_under_its_whole_key)
{
	struct stele_fronts f = {0};
	cr_assert(!known(&f, 1, 4), "nothing is known at first");
	put(&f, 1, 4);
	put(&f, 2, STELE_SHARD_CELLS_MAX);
	put(&f, 3, 1);
	cr_assert(known(&f, 1, 4) && known(&f, 2, STELE_SHARD_CELLS_MAX));
	cr_assert(!known(&f, 3, 1), "a shard of one cell is not kept");
	struct stele_item_at at, other = place(1, 4);
	uint32_t cycle;
	other.key.index = 4;
	cr_assert_null(stele_fronts_get(&f, &other.key, &at, &cycle));
	other = place(1, 4);
	other.key.pool++;
	cr_assert_null(stele_fronts_get(&f, &other.key, &at, &cycle));
	stele_fronts_finish(&f);
}

Test(store_fronts, a_lookup_from_before_something_was_forgotten_keeps_nothing)
{
	struct stele_fronts f = {0};
	struct stele_item_at one = place(1, 4), two = place(2, 4);
	uint8_t crcs[16] = {0};
	uint64_t era = f.era;
	stele_fronts_forget(&f, &one.key); /* not known, and yet */
	stele_fronts_put(&f, era, &one, 5, crcs);
	cr_assert(!known(&f, 1, 4));
	put(&f, 1, 4);
	put(&f, 2, 4);
	stele_fronts_forget(&f, &one.key);
	cr_assert(!known(&f, 1, 4) && known(&f, 2, 4));
	stele_fronts_put(&f, f.era - 1, &two, 6, crcs);
	cr_assert(known(&f, 2, 4), "what is known stays");
	stele_fronts_finish(&f);
}

Test(store_fronts, is_bounded_and_keeps_what_is_asked_for)
{
	struct stele_fronts f = {0};
	put(&f, 0, 2);
	for (uint64_t n = 1; n < 4 * STELE_FRONTS; n++) {
		put(&f, n, 2);
		cr_assert(known(&f, n, 2));
		cr_assert(known(&f, 0, 2), "after %llu others", (unsigned long long)n);
	}
	uint32_t kept = 0;
	for (uint64_t n = 0; n < 4 * STELE_FRONTS; n++)
		kept += known(&f, n, 2);
	cr_assert(kept <= STELE_FRONTS && kept > STELE_FRONTS / 2, "%u", kept);
	stele_fronts_finish(&f);
}

/* ---- the store ---- */

#define CELLS     4u
#define ENTRY_OFF (STELE_PAGE + STELE_BATCH_HEAD) /* of the first entry on a disk */

static void damage(struct kit *k, off_t at)
{
	char path[200];
	uint8_t b;
	snprintf(path, sizeof(path), "%s/extent-00000001", k->dir);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0 && pread(fd, &b, 1, at) == 1);
	b ^= 0x10;
	cr_assert(pwrite(fd, &b, 1, at) == 1 && fsync(fd) == 0);
	close(fd);
}

static enum stele_err read_cell(struct kit *k, const struct kit_block *b, uint32_t cell)
{
	uint8_t *buf = kit_aligned_alloc(STELE_PAGE, STELE_CELL_LEN);
	struct iovec iov = {buf, STELE_CELL_LEN};
	struct stele_store_read r = {.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 2),
	                             .first_cell = cell,
	                             .cells = 1,
	                             .into = &iov,
	                             .ninto = 1};
	enum stele_err err = kit_read(k, &r);
	if (!err)
		cr_assert(r.data_len == STELE_CELL_LEN &&
		              memcmp(buf, b->shard[2] + cell * STELE_CELL_LEN, STELE_CELL_LEN) == 0,
		          "cell %u: other bytes", cell);
	free(buf);
	return err;
}

/* A store with one shard of CELLS cells, of which one has been read. */
static void start(struct kit *k, struct kit_block *b)
{
	kit_start(k, true, false);
	kit_block_make(b, "rs-4-2", 4 * CELLS * STELE_CELL_LEN, 1);
	cr_assert_eq(kit_put(k, b, 2, NULL), STELE_OK);
	cr_assert_eq(read_cell(k, b, 0), STELE_OK);
}

static void end(struct kit *k, struct kit_block *b)
{
	kit_block_free(b);
	kit_end(k);
}

Test(store_fronts, a_known_shards_front_is_not_read_again)
{
	struct kit k;
	struct kit_block b;
	start(&k, &b);
	damage(&k, ENTRY_OFF + 8);
	for (uint32_t i = 0; i < CELLS; i++)
		cr_assert_eq(read_cell(&k, &b, i), STELE_OK, "%s", stele_detail());
	kit_reopen(&k);
	cr_assert_eq(read_cell(&k, &b, 0), STELE_ERR_CORRUPT, "but the next life sees it");
	end(&k, &b);
}

Test(store_fronts, what_was_removed_is_gone_and_may_come_again)
{
	struct kit k;
	struct kit_block b;
	start(&k, &b);
	struct stele_key key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 2);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(kit_tomb(&k, &key), STELE_OK);
		cr_assert_eq(read_cell(&k, &b, 1), STELE_ERR_NOT_FOUND);
		cr_assert_eq(kit_put(&k, &b, 2, NULL), STELE_OK);
		cr_assert_eq(read_cell(&k, &b, 1), STELE_OK);
	}
	end(&k, &b);
}

Test(store_fronts, what_is_called_bad_is_bad)
{
	struct kit k;
	struct kit_block b;
	start(&k, &b);
	struct stele_key key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 2);
	stele_store_report_bad(k.store, &key);
	kit_settle(&k);
	cr_assert_eq(read_cell(&k, &b, 1), STELE_ERR_CORRUPT);
	cr_assert_eq(kit_put(&k, &b, 2, NULL), STELE_OK, "a good copy in its place");
	cr_assert_eq(read_cell(&k, &b, 1), STELE_OK);
	end(&k, &b);
}

Test(store_fronts, a_damaged_cell_of_a_known_shard_is_found_and_remembered)
{
	struct kit k;
	struct kit_block b;
	struct stele_store_status st;
	start(&k, &b);
	/* its batch is of it alone: the cells lie behind one page of meta */
	damage(&k, 2 * STELE_PAGE + 2 * STELE_CELL_LEN + 77);
	cr_assert_eq(read_cell(&k, &b, 1), STELE_OK);
	cr_assert_eq(read_cell(&k, &b, 2), STELE_ERR_CORRUPT);
	kit_settle(&k);
	stele_store_status(k.store, &st);
	cr_assert_eq(st.bad, 1u);
	cr_assert_eq(read_cell(&k, &b, 1), STELE_ERR_CORRUPT, "the shard is known to be damaged");
	end(&k, &b);
}

Test(store_fronts, a_wrong_range_is_refused_after_the_call)
{
	struct kit k;
	struct kit_block b;
	start(&k, &b);
	cr_assert_eq(read_cell(&k, &b, CELLS), STELE_ERR_INVALID);
	cr_assert_eq(read_cell(&k, &b, CELLS - 1), STELE_OK);
	end(&k, &b);
}

/* A shard of one cell comes with its front in one read: both are checked. */
Test(store_fronts, a_lone_cell_and_its_front_are_checked)
{
	for (int where = 0; where < 3; where++) {
		struct kit k;
		struct kit_block b;
		kit_start(&k, true, false);
		kit_block_make(&b, "rs-4-2", 4 * STELE_CELL_LEN, 1);
		cr_assert_eq(kit_put(&k, &b, 2, NULL), STELE_OK);
		cr_assert_eq(read_cell(&k, &b, 0), STELE_OK);
		if (where > 0)
			damage(&k, where == 1 ? ENTRY_OFF + 8 : 2 * STELE_PAGE + 5);
		cr_assert_eq(read_cell(&k, &b, 0), where ? STELE_ERR_CORRUPT : STELE_OK);
		kit_block_free(&b);
		kit_end(&k);
	}
}
