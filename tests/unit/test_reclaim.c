/*
 * Goal: space comes back. Reclaim empties extents of which little is alive and they are written again; what was alive is
 * read as before, also after a restart and after the index was lost; what was removed never comes back, also when its
 * tombstone moved or went; what is damaged is not copied; a full disk takes deletes, and then writes again.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "storage/store_private.h"
#include "tests/unit/store_kit.h"

#define BLOCKS 24u
static struct kit_block block[BLOCKS]; /* of one shard of 900 KiB: four fill an extent */

static void make_blocks(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_make(&block[i], "rep-2", 900 << 10, 77 + i);
}

static void begin(struct kit *k, uint64_t capacity)
{
	make_blocks();
	memset(k, 0, sizeof(*k));
	kit_env(k, true);
	kit_dir(k);
	kit_opts(k, false);
	k->opts.capacity = capacity * STELE_EXTENT_LEN_MIN;
	cr_assert_eq(stele_store_format(&k->opts, NULL), STELE_OK, "%s", stele_detail());
	kit_open(k);
}

static void put_some(struct kit *k, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		struct stele_hash deposit = kit_hash(i);
		cr_assert_eq(kit_put(k, &block[i], 0, &deposit), STELE_OK, "%u: %s", i, stele_detail());
	}
}

static enum stele_err remove_one(struct kit *k, uint32_t i)
{
	struct stele_hash deposit = kit_hash(i);
	struct stele_item item[2] = {
	    {.key = kit_key(STELE_ENTRY_SHARD, &block[i].id, NULL, 0), .tomb = true},
	    {.key = kit_key(STELE_ENTRY_REF, &block[i].id, &deposit, 0), .tomb = true}};
	return kit_write(k, item, 2, NULL);
}

static void remove_some(struct kit *k, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		cr_assert_eq(remove_one(k, i), STELE_OK, "%u: %s", i, stele_detail());
}

static void check_some(struct kit *k, uint32_t from, uint32_t to, bool there)
{
	for (uint32_t i = from; i < to; i++) {
		cr_assert_eq(kit_same(k, &block[i], 0), there ? STELE_OK : STELE_ERR_NOT_FOUND, "%u: %s",
		             i, stele_detail());
		struct stele_hash deposit = kit_hash(i);
		struct stele_key ref = kit_key(STELE_ENTRY_REF, &block[i].id, &deposit, 0);
		cr_assert_eq(kit_have(k, &ref), there, "%u: its reference", i);
	}
}

static struct stele_store_status status(struct kit *k)
{
	struct stele_store_status st;
	stele_store_status(k->store, &st);
	return st;
}

static struct stele_store_reclaim reclaim(struct kit *k)
{
	kit_settle(k);
	struct stele_store_reclaim r = kit_reclaim(k);
	cr_assert_eq(r.err, STELE_ERR_CANCELLED, "%s", r.detail);
	return r;
}

static void lose_index(struct kit *k)
{
	char path[200];
	kit_close(k);
	snprintf(path, sizeof(path), "%s/index", k->dir);
	cr_assert_eq(stele_kv_destroy_dir(k->kv, k->world, path), STELE_OK);
	kit_open(k);
}

/* The same bytes are wanted again and again, in different lives of the disk. */
static void check_everywhere(struct kit *k, uint32_t from, uint32_t to, uint32_t end)
{
	for (int life = 0; life < 3; life++) {
		check_some(k, 0, from, false);
		check_some(k, from, to, true);
		check_some(k, to, end, false);
		if (life == 0)
			kit_reopen(k);
		else if (life == 1)
			lose_index(k);
	}
}

static void finish_with(struct kit *k, uint64_t victims)
{
	struct stele_store_scrub scrub = {.deep = true};
	cr_assert_eq(kit_scrub(k, &scrub), STELE_OK, "%s", scrub.detail);
	cr_assert_eq(scrub.victims, victims);
	kit_end(k);
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_free(&block[i]);
}

static void finish(struct kit *k)
{
	finish_with(k, 0);
}

Test(reclaim, what_holds_nothing_is_used_again)
{
	struct kit k;
	uint64_t emptied;
	begin(&k, 0);
	put_some(&k, 0, 12);
	uint64_t before = status(&k).extents;
	remove_some(&k, 0, 8);
	emptied = reclaim(&k).extents;
	cr_assert_eq(emptied, 2u);
	cr_assert_geq(status(&k).extents_free, 2u);
	put_some(&k, 12, 19);
	cr_assert_leq(status(&k).extents, before, "old files are written again");
	check_everywhere(&k, 8, 19, BLOCKS);
	finish(&k);
}

Test(reclaim, what_is_alive_is_copied_out)
{
	struct kit k;
	uint64_t emptied;
	begin(&k, 8);
	put_some(&k, 0, 20);
	for (uint32_t i = 0; i < 20; i++)
		if (i % 4 != 1)
			remove_some(&k, i, i + 1);
	emptied = reclaim(&k).extents;
	cr_assert_geq(emptied, 4u);
	for (int life = 0; life < 3; life++) {
		for (uint32_t i = 0; i < 20; i++)
			check_some(&k, i, i + 1, i % 4 == 1);
		if (life == 0)
			kit_reopen(&k);
		else if (life == 1)
			lose_index(&k);
	}
	finish(&k);
}

/* The tombstone's extent goes before its victim's: it must move, or the victim would be back. */
Test(reclaim, a_tombstone_moves_while_its_victim_lies_anywhere)
{
	struct kit k;
	uint64_t emptied = 0;
	begin(&k, 0);
	put_some(&k, 0, 4); /* an extent that stays: three quarters of it are alive */
	put_some(&k, 4, 7);
	remove_some(&k, 0, 1); /* its tombstone lies in the second */
	put_some(&k, 7, 12);
	remove_some(&k, 4, 8);
	emptied = reclaim(&k).extents;
	cr_assert_geq(emptied, 1u);
	lose_index(&k);
	check_some(&k, 0, 1, false);
	check_some(&k, 1, 4, true);
	check_some(&k, 4, 8, false);
	check_some(&k, 8, 12, true);
	/* and comes again */
	put_some(&k, 0, 1);
	lose_index(&k);
	check_some(&k, 0, 1, true);
	remove_some(&k, 0, 1);
	lose_index(&k);
	check_some(&k, 0, 1, false);
	finish(&k);
}

/* What came again lies in the extent of the tombstone that killed it before: both move, in one write. */
Test(reclaim, an_entry_moves_with_an_older_tombstone_of_its_key)
{
	struct kit k;
	begin(&k, 0);
	put_some(&k, 0, 4); /* three quarters stay alive: what the tombstone kills stays */
	put_some(&k, 4, 6);
	remove_some(&k, 0, 1);
	put_some(&k, 0, 1);
	put_some(&k, 6, 9); /* the second extent is sealed */
	remove_some(&k, 4, 7);
	cr_assert_eq(reclaim(&k).extents, 1u);
	lose_index(&k);
	check_some(&k, 0, 4, true);
	check_some(&k, 4, 7, false);
	check_some(&k, 7, 9, true);
	remove_some(&k, 0, 1);
	lose_index(&k);
	check_some(&k, 0, 1, false);
	finish(&k);
}

/* Tombstones do not pile up: with their victims they go, also those of keys that came and went again and again, which
 * cannot name one extent. */
Test(reclaim, tombstones_end)
{
	struct kit k;
	begin(&k, 6);
	for (uint32_t round = 0; round < 30; round++) {
		put_some(&k, 0, 4);
		put_some(&k, 4 + round % 16, 5 + round % 16);
		remove_some(&k, 0, 4);
		reclaim(&k);
		if (round >= 8)
			remove_some(&k, 4 + (round - 8) % 16, 5 + (round - 8) % 16);
	}
	for (uint32_t i = 4; i < 20; i++)
		(void)!remove_one(&k, i);
	uint64_t copied = 0;
	for (int life = 0; life < 3; life++) { /* an extent of blocks, and the one before is sealed */
		put_some(&k, 20, 24);
		remove_some(&k, 20, 24);
		reclaim(&k);
		lose_index(&k);
		copied = reclaim(&k).bytes;
	}
	cr_assert_eq(copied, 0u, "tombstones without victims are kept: %llu bytes",
	             (unsigned long long)copied);
	check_some(&k, 0, BLOCKS, false);
	cr_assert_eq(status(&k).shards, 0u);
	cr_assert_leq(status(&k).extents, 2u);
	finish(&k);
}

/* One that cannot name an extent is kept while an older one is there: in the oldest it is not. */
Test(reclaim, a_tombstone_of_the_oldest_extent_is_not_copied)
{
	struct kit k;
	begin(&k, 0);
	put_some(&k, 0, 1);
	remove_some(&k, 0, 1);
	put_some(&k, 0, 1); /* an older tombstone of its key is known: others may lie anywhere */
	remove_some(&k, 0, 1);
	put_some(&k, 1, 4); /* the last begins the second extent */
	remove_some(&k, 1, 3);
	struct stele_store_reclaim r = reclaim(&k);
	cr_assert_eq(r.extents, 1u);
	cr_assert_eq(r.bytes, 0u, "%llu bytes of tombstones were copied", (unsigned long long)r.bytes);
	lose_index(&k);
	check_some(&k, 0, 3, false);
	check_some(&k, 3, 4, true);
	finish(&k);
}

Test(reclaim, a_full_disk_takes_deletes_and_then_writes)
{
	struct kit k;
	begin(&k, 4);
	uint32_t n = 0;
	struct stele_hash deposit;
	for (; n < BLOCKS; n++) {
		deposit = kit_hash(n);
		enum stele_err err = kit_put(&k, &block[n], 0, &deposit);
		if (err) {
			cr_assert_eq(err, STELE_ERR_FULL, "%s", stele_detail());
			break;
		}
	}
	cr_assert_eq(n, 12u, "three of four extents: one is the reserve");
	reclaim(&k);
	check_some(&k, 0, n, true);
	remove_some(&k, 0, 1); /* one of each: none is empty, copies must go to the reserve */
	remove_some(&k, 4, 5);
	remove_some(&k, 8, 9);
	reclaim(&k);
	uint32_t again = 0;
	for (; again < 3; again++) {
		deposit = kit_hash(12 + again);
		if (kit_put(&k, &block[12 + again], 0, &deposit))
			break;
	}
	cr_assert_geq(again, 1u, "what was deleted made room: %s", stele_detail());
	for (int life = 0; life < 3; life++) {
		for (uint32_t i = 0; i < n; i++)
			check_some(&k, i, i + 1, i % 4 != 0);
		check_some(&k, 12, 12 + again, true);
		if (life == 0)
			kit_reopen(&k);
		else if (life == 1)
			lose_index(&k);
	}
	finish(&k);
}

static void flip(struct kit *k, uint32_t extent, off_t at)
{
	char path[200];
	uint8_t b;
	snprintf(path, sizeof(path), "%s/extent-%08x", k->dir, extent);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0 && pread(fd, &b, 1, at) == 1);
	b ^= 4;
	cr_assert(pwrite(fd, &b, 1, at) == 1);
	close(fd);
}

/* A crash, and a flipped bit in the head of the last batch: the log does not go on over it, nor does the footer lie on
 * it. The index knows what is in it, and it is served as before; the head is named. */
Test(reclaim, a_rotten_head_at_the_end_of_the_log_is_not_overwritten)
{
	struct kit k;
	char path[200];
	begin(&k, 0);
	put_some(&k, 0, 1);
	kit_reopen(&k);
	uint64_t end = status(&k).used;
	put_some(&k, 1, 2);
	kit_settle(&k);
	snprintf(path, sizeof(path), "%s/lock", k.dir);
	cr_assert_eq(unlink(path), 0);
	stele_store_check_place(k.store); /* fenced: it does not close cleanly */
	kit_close(&k);
	flip(&k, 1, (off_t)end + 16);
	kit_open(&k);
	put_some(&k, 2, 8);
	for (int life = 0; life < 2; life++) {
		cr_assert_eq(kit_same(&k, &block[0], 0), STELE_OK, "%s", stele_detail());
		cr_assert_eq(kit_same(&k, &block[1], 0), STELE_OK, "%s", stele_detail());
		check_some(&k, 2, 8, true);
		kit_reopen(&k);
	}
	finish_with(&k, 1);
}

/* An index of which the next flush hangs. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct stele_kv_ops ops;
	bool hang, hangs;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static enum stele_err slow_flush(struct stele_kv *kv)
{
	pthread_mutex_lock(&slow.lock);
	bool mine = slow.hang && !slow.hangs;
	slow.hangs = slow.hangs || mine;
	while (mine && slow.hang)
		pthread_cond_wait(&slow.changed, &slow.lock);
	pthread_mutex_unlock(&slow.lock);
	return stele_kv_memory.flush(kv);
}

static bool no_gets; /* atomic */

static enum stele_err fail_get(struct stele_kv *kv, const void *key, size_t key_len, void *value,
                               size_t cap, size_t *value_len)
{
	if (__atomic_load_n(&no_gets, __ATOMIC_RELAXED))
		return stele_fail(STELE_ERR_IO, "index: it cannot be read");
	return stele_kv_memory.get(kv, key, key_len, value, cap, value_len);
}

static enum stele_err slow_open(void *world, const char *dir, struct stele_kv **out)
{
	STELE_TRY(stele_kv_memory.open(world, dir, out));
	(*out)->ops = &slow.ops;
	return STELE_OK;
}

static void hang(bool yes)
{
	pthread_mutex_lock(&slow.lock);
	slow.hang = yes;
	slow.hangs = false;
	pthread_cond_broadcast(&slow.changed);
	pthread_mutex_unlock(&slow.lock);
}

static bool hangs(void)
{
	pthread_mutex_lock(&slow.lock);
	bool yes = slow.hangs;
	pthread_mutex_unlock(&slow.lock);
	return yes;
}

/* An index that cannot be read is not an extent that cannot be emptied. */
Test(reclaim, a_failing_index_is_said)
{
	struct kit k;
	slow.ops = stele_kv_memory;
	slow.ops.open = slow_open;
	slow.ops.get = fail_get;
	begin(&k, 0);
	kit_close(&k);
	k.opts.kv = &slow.ops;
	kit_open(&k);
	put_some(&k, 0, 5);
	remove_some(&k, 0, 3);
	kit_settle(&k);
	__atomic_store_n(&no_gets, true, __ATOMIC_RELAXED);
	struct stele_store_reclaim r = kit_reclaim(&k);
	__atomic_store_n(&no_gets, false, __ATOMIC_RELAXED);
	cr_assert(r.extents == 0 && stele_store_fenced(k.store));
	cr_assert(strstr(stele_store_fence_reason(k.store), "index: it cannot be read"), "%s",
	          stele_store_fence_reason(k.store));
	kit_reopen(&k);
	check_everywhere(&k, 3, 5, BLOCKS);
	finish(&k);
}

/* Extents are recycled while the checkpoint that follows their seal is still under way; then the power fails. */
Test(reclaim, the_index_does_not_fall_behind_what_was_recycled)
{
	char path[200];
	slow.ops = stele_kv_memory;
	slow.ops.open = slow_open;
	slow.ops.flush = slow_flush;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct kit k;
		begin(&k, 0);
		kit_close(&k);
		k.opts.kv = &slow.ops;
		kit_open(&k);
		put_some(&k, 0, 5); /* the first extent is sealed, and the index flushed */
		kit_settle(&k);
		hang(true);
		remove_some(&k, 0, 4);
		put_some(&k, 5, 9); /* the tombstones' extent is sealed too */
		while (!hangs())
			kit_pause(&k);
		remove_some(&k, 4, 8);
		struct stele_store_reclaim r = kit_reclaim(&k);
		cr_assert_eq(r.extents, 2u);
		snprintf(path, sizeof(path), "%s/lock", k.dir);
		cr_assert_eq(unlink(path), 0);
		stele_store_check_place(k.store); /* fenced: it does not close cleanly */
		stele_kv_world_crash(k.world, k.dir, seed, 0);
		hang(false);
		kit_close(&k);
		kit_open(&k);
		check_some(&k, 0, 8, false);
		check_some(&k, 8, 9, true);
		finish(&k);
	}
}

/* Tombstones that were not needed left the index, and their extent was begun anew; then the power fails. If the index were
 * back at its last flush it would count them in that extent, which never came free again. */
Test(reclaim, what_was_dropped_stays_dropped_when_the_power_fails)
{
	char path[200];
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct kit k;
		begin(&k, 0);
		put_some(&k, 0, 2);
		remove_some(&k, 0, 2); /* tombstones beside their victims */
		put_some(&k, 2, 5);    /* the last begins the second extent */
		kit_settle(&k);
		remove_some(&k, 2, 4);
		cr_assert_eq(reclaim(&k).extents, 1u);
		snprintf(path, sizeof(path), "%s/lock", k.dir);
		cr_assert_eq(unlink(path), 0);
		stele_store_check_place(k.store); /* fenced: it does not close cleanly */
		stele_kv_world_crash(k.world, k.dir, seed, 0);
		kit_close(&k);
		kit_open(&k);
		cr_assert_eq(k.store->extents[1]->state, STELE_EXTENT_PREPARED);
		cr_assert(k.store->index.counts.extents <= 1 || k.store->index.counts.live[1] == 0,
		          "%llu bytes of an extent that holds nothing are alive",
		          (unsigned long long)k.store->index.counts.live[1]);
		check_some(&k, 0, 4, false);
		check_some(&k, 4, 5, true);
		finish(&k);
	}
}

/* Rot is not given a fresh CRC: the extent stays until the entry is made good. */
Test(reclaim, what_is_damaged_is_not_copied)
{
	struct kit k;
	uint64_t emptied;
	begin(&k, 0);
	put_some(&k, 0, 5);
	remove_some(&k, 0, 3); /* of the first extent the fourth is alive */
	kit_settle(&k);
	kit_close(&k);
	flip(&k, 1, 3 * (900 << 10) + (200 << 10));
	kit_open(&k);
	emptied = reclaim(&k).extents;
	cr_assert_eq(emptied, 0u);
	kit_settle(&k);
	cr_assert_eq(status(&k).bad, 1u, "it is remembered");
	cr_assert_eq(kit_same(&k, &block[3], 0), STELE_ERR_CORRUPT);
	put_some(&k, 3, 4); /* as repair does */
	kit_reopen(&k);     /* nobody waits for the extent's turn to come again */
	emptied = reclaim(&k).extents;
	cr_assert_eq(emptied, 1u);
	check_everywhere(&k, 3, 5, BLOCKS);
	finish(&k);
}

/* The counter of an extent is wrong by an entry that cannot be copied: the index has it all the same, and the extent stays.
 * The index, in which one of the two is wrong, is made anew. */
Test(reclaim, a_counter_alone_does_not_give_an_extent_up)
{
	struct kit k;
	struct stele_item_at at;
	begin(&k, 0);
	put_some(&k, 0, 5);
	remove_some(&k, 0, 3);
	kit_settle(&k);
	kit_close(&k);
	flip(&k, 1, 3 * (900 << 10) + (200 << 10));
	kit_open(&k);
	struct stele_index *ix = &k.store->index;
	struct stele_key key = kit_key(STELE_ENTRY_SHARD, &block[3].id, NULL, 0);
	cr_assert_eq(stele_index_get(ix->kv, STELE_INDEX_ENTRY, &key, &at), STELE_OK);
	cr_assert(at.extent == 1 && ix->counts.live[1] > stele_index_weight(&at));
	ix->counts.live[1] -= stele_index_weight(&at);
	struct stele_store_reclaim r = kit_reclaim(&k);
	cr_assert_eq(r.extents, 0u);
	cr_assert(stele_store_fenced(k.store) &&
	              strstr(stele_store_fence_reason(k.store),
	                     "index: an entry of extent 00000001 is not counted"),
	          "%s", stele_store_fence_reason(k.store));
	kit_close(&k);
	flip(&k, 1, 3 * (900 << 10) + (200 << 10)); /* it can be read after all */
	kit_open(&k);
	check_everywhere(&k, 3, 5, BLOCKS);
	cr_assert_eq(reclaim(&k).extents, 1u);
	check_everywhere(&k, 3, 5, BLOCKS);
	finish(&k);
}

/* A copy was made and its extent stayed, because something else in it is damaged: two entries of one birth. A tombstone
 * must outlive both. */
Test(reclaim, a_tombstone_kills_what_was_copied_and_its_copy)
{
	struct kit k;
	begin(&k, 4);
	put_some(&k, 0, 5);
	remove_some(&k, 0, 2);
	kit_settle(&k);
	kit_close(&k);
	flip(&k, 1, 3 * (900 << 10) + (200 << 10));
	kit_open(&k);
	put_some(&k, 5, 6); /* room is short now */
	cr_assert_eq(reclaim(&k).extents, 0u);
	kit_settle(&k);
	cr_assert_eq(status(&k).bad, 1u);
	remove_some(&k, 2, 3);
	put_some(&k, 6, 8); /* the last goes to an extent of its own */
	remove_some(&k, 4, 7);
	cr_assert_geq(reclaim(&k).extents, 1u, "the copy's extent is used again");
	put_some(&k, 8, 9);
	lose_index(&k);
	check_some(&k, 2, 3, false);
	check_some(&k, 4, 7, false);
	check_some(&k, 7, 9, true);
	struct stele_store_scrub scrub = {0}; /* what was known to be damaged went with the index */
	cr_assert_eq(kit_scrub(&k, &scrub), STELE_OK);
	cr_assert_eq(scrub.victims, 1u);
	kit_settle(&k);
	put_some(&k, 3, 4);
	finish(&k);
}

static uint64_t birth_of(struct kit *k, const struct stele_key *key)
{
	struct stele_store_list l = {
	    .pool = 1, .first = key->id, .last = key->id, .kinds = STELE_KIND_BIT(key->kind)};
	cr_assert_eq(kit_list(k, &l), STELE_OK);
	cr_assert_eq(l.n, 1u);
	uint64_t lsn = l.item[0].lsn;
	stele_store_list_finish(&l);
	return lsn;
}

static struct stele_key put_record(struct kit *k, uint64_t n)
{
	uint8_t meta[64] = {4, 0, 0, 0, 't', 'e', 'x', 't'};
	struct stele_hash id = kit_hash(n + 5000), sub;
	stele_sha256("text", 4, &sub);
	cr_assert_eq(kit_put_meta(k, STELE_ENTRY_RECORD, &id, &sub, meta, sizeof(meta)), STELE_OK, "%s",
	             stele_detail());
	return kit_key(STELE_ENTRY_RECORD, &id, &sub, 0);
}

/* Who follows the feed is not shown a record twice because it moved. */
Test(reclaim, a_copy_keeps_its_birth)
{
	struct kit k;
	begin(&k, 0);
	struct stele_key key = put_record(&k, 1);
	uint64_t birth = birth_of(&k, &key);
	put_some(&k, 0, 8);
	remove_some(&k, 0, 4);
	cr_assert_geq(reclaim(&k).extents, 1u);
	cr_assert_eq(birth_of(&k, &key), birth);
	struct stele_store_list l = {0};
	cr_assert_eq(kit_feed(&k, &l, birth), STELE_OK);
	cr_assert_eq(l.n, 0u);
	stele_store_list_finish(&l);
	lose_index(&k);
	cr_assert_eq(birth_of(&k, &key), birth);
	check_some(&k, 4, 8, true);
	finish(&k);
}

/* Deletes that fill the reserve would leave none for the copies that make room. */
Test(reclaim, deletes_leave_half_of_the_reserve)
{
	struct kit k;
	struct stele_key key[700];
	begin(&k, 4);
	for (uint32_t i = 0; i < 700; i++)
		key[i] = put_record(&k, i);
	uint32_t n = 0;
	struct stele_hash deposit = kit_hash(0);
	while (kit_put(&k, &block[n], 0, &deposit) == STELE_OK)
		deposit = kit_hash(++n);
	uint32_t gone = 0;
	while (gone < 700 && kit_tomb(&k, &key[gone]) == STELE_OK)
		gone++;
	cr_assert(gone > 400 && gone < 700, "%u deletes went in", gone);
	cr_assert_geq(reclaim(&k).extents, 1u);
	for (; gone < 700; gone++)
		cr_assert_eq(kit_tomb(&k, &key[gone]), STELE_OK, "%u: %s", gone, stele_detail());
	lose_index(&k);
	cr_assert_eq(status(&k).records, 0u);
	check_some(&k, 0, n, true);
	finish(&k);
}

/* The header of an extent that was begun did not last, two batches in it did: nobody was told of them. The extent is begun again,
 * and the second batch lies behind what is written now. */
Test(reclaim, what_outlived_its_header_never_counts)
{
	struct kit k;
	char path[200];
	uint8_t *page = aligned_alloc(STELE_PAGE, STELE_PAGE);
	begin(&k, 0);
	put_some(&k, 0, 2);
	kit_settle(&k);
	snprintf(path, sizeof(path), "%s/extent-00000001", k.dir);
	kit_close(&k);
	int fd = open(path, O_RDWR);
	struct stele_extent_head h;
	cr_assert(fd >= 0 && pread(fd, page, STELE_PAGE, 0) == STELE_PAGE);
	cr_assert(stele_extent_head_decode(page, NULL, &h) && h.first_lsn);
	h.first_lsn = 0;
	stele_extent_head_encode(&h, page);
	cr_assert(pwrite(fd, page, STELE_PAGE, 0) == STELE_PAGE);
	close(fd);
	free(page);
	kit_open(&k);
	lose_index(&k);
	check_some(&k, 0, 2, false);
	put_record(&k, 1);
	lose_index(&k);
	check_some(&k, 0, 2, false);
	cr_assert_eq(status(&k).records, 1u);
	finish(&k);
}

/* A recycled extent's header rots before it is used again: what it held in its last cycle stays gone. */
Test(reclaim, a_header_that_rots_brings_nothing_back)
{
	struct kit k;
	uint64_t emptied;
	begin(&k, 0);
	put_some(&k, 0, 5);
	remove_some(&k, 0, 4);
	emptied = reclaim(&k).extents;
	cr_assert_eq(emptied, 1u);
	kit_close(&k);
	flip(&k, 1, 50);
	lose_index(&k);
	check_some(&k, 0, 4, false);
	check_some(&k, 4, 5, true);
	cr_assert_eq(status(&k).extents_free, 1u);
	finish(&k);
}

/* Whole lives: puts, removals and restarts at random, with little room; a model of a bit per block. */
Test(reclaim, a_model_agrees)
{
	struct kit k;
	bool there[BLOCKS] = {false};
	uint64_t x = 1, recycled = 0;
	begin(&k, 7);
	for (uint32_t turn = 0; turn < 400; turn++) {
		x = kit_mix(x);
		uint32_t i = (uint32_t)(x % (BLOCKS / 2));
		struct stele_hash deposit = kit_hash(i);
		enum stele_err err = there[i] ? remove_one(&k, i) : kit_put(&k, &block[i], 0, &deposit);
		if (err != STELE_ERR_FULL) {
			cr_assert_eq(err, STELE_OK, "%s", stele_detail());
			there[i] = !there[i];
		}
		uint64_t n = 0;
		if (x >> 32 & 1) {
			n = reclaim(&k).extents;
		}
		recycled += n;
		if (x % 37 == 0)
			kit_reopen(&k);
		if (x % 41 == 0)
			lose_index(&k);
		if (turn % 10 == 0)
			for (uint32_t j = 0; j < BLOCKS / 2; j++)
				check_some(&k, j, j + 1, there[j]);
	}
	cr_assert_geq(recycled, 20u);
	finish(&k);
}
