/*
 * Goal: what a store promises over its interface, on both real envs: what was acknowledged is read back
 * bit for bit, also after a restart and without an index; what is refused is refused by the right
 * error; lists, feed, have and digests say what is there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/store_kit.h"

static void rm_index(struct kit *k)
{
	char cmd[200];
	snprintf(cmd, sizeof(cmd), "rm -rf '%s/index'", k->dir);
	cr_assert_eq(system(cmd), 0);
}

/* Blocks of the lengths that have edges. */
static const struct {
	const char *code;
	uint64_t length;
} shapes[] = {
    {"rep-3", 1},      {"rep-3", 65536},   {"rs-4-2", 4 * 65536},      {"rs-4-2", 4 * 65536 + 1},
    {"rs-4-2", 100},   {"rs-2-1", 300000}, {"lrc-12-2-3", 12 * 65536}, {"rep-2", 1500000},
    {"rs-4-2", 64 * 5}};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void round_trip(bool threads, bool leveldb)
{
	struct kit k;
	kit_start(&k, threads, leveldb);
	struct kit_block b[SHAPES];
	struct stele_hash deposit = kit_hash(1);
	for (size_t i = 0; i < SHAPES; i++) {
		kit_block_make(&b[i], shapes[i].code, shapes[i].length, i);
		cr_assert_eq(kit_put(&k, &b[i], i % b[i].d.n, &deposit), STELE_OK, "%s",
		             stele_detail());
	}
	for (int life = 0; life < 4; life++) {
		for (size_t i = 0; i < SHAPES; i++) {
			cr_assert_eq(kit_same(&k, &b[i], i % b[i].d.n), STELE_OK,
			             "life %d: %zu: %s", life, i, stele_detail());
			cr_assert_eq(kit_same(&k, &b[i], (i + 1) % b[i].d.n), STELE_ERR_NOT_FOUND);
			struct stele_key ref = kit_key(STELE_ENTRY_REF, &b[i].id, &deposit, 0);
			cr_assert(kit_have(&k, &ref));
		}
		struct stele_store_status st;
		stele_store_status(k.store, &st);
		cr_assert(st.shards == SHAPES && st.refs == SHAPES && st.bad == 0);
		kit_close(&k);
		if (life == 1)
			leveldb ? rm_index(&k) : (void)0;
		kit_open(&k);
	}
	for (size_t i = 0; i < SHAPES; i++)
		kit_block_free(&b[i]);
	kit_end(&k);
}

static void holds(struct kit *k, uint32_t n)
{
	char text[STELE_ENV_TEXT], end[32] = " and no files registered";
	if (n)
		snprintf(end, sizeof(end), " and %u file%s registered", n, n == 1 ? "" : "s");
	stele_env_describe(k->env, text);
	cr_assert(strstr(text, end), "%s, not%s", text, end);
}

/* From the moment when they are opened or made until the store closes: the env that reads them holds them. */
Test(store, extents_are_held)
{
	struct kit k;
	struct kit_block b;
	struct stele_hash deposit = kit_hash(1);
	kit_start(&k, false, false);
	holds(&k, 0);
	for (uint32_t i = 0; i < 3; i++) { /* of 4 MiB */
		kit_block_make(&b, "rep-2", 2500000, i);
		cr_assert_eq(kit_put(&k, &b, 0, &deposit), STELE_OK, "%s", stele_detail());
		kit_block_free(&b);
	}
	for (int life = 0; life < 2; life++) {
		kit_settle(&k);
		struct stele_store_status st;
		stele_store_status(k.store, &st);
		cr_assert_geq(st.extents, 3);
		holds(&k, st.extents + st.extents_free);
		kit_close(&k);
		holds(&k, 0);
		kit_open(&k);
	}
	kit_end(&k);
}

Test(store, round_trip_uring_leveldb)
{
	round_trip(false, true);
}

Test(store, round_trip_threads_leveldb)
{
	round_trip(true, true);
}

Test(store, round_trip_threads_memory)
{
	round_trip(true, false);
}

Test(store, reads_any_run_of_cells)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	kit_block_make(&b, "rep-2", 5 * 65536 + 4711, 3);
	cr_assert_eq(kit_put(&k, &b, 1, NULL), STELE_OK);
	uint8_t *buf = aligned_alloc(STELE_PAGE, 6 * STELE_CELL_LEN);
	for (uint32_t first = 0; first < 6; first++) {
		for (uint32_t n = 1; first + n <= 6; n++) {
			struct iovec iov[2] = {{buf, STELE_CELL_LEN},
			                       {buf + STELE_CELL_LEN, 5 * STELE_CELL_LEN}};
			struct stele_store_read r = {.key =
			                                 kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 1),
			                             .first_cell = first,
			                             .cells = n,
			                             .into = iov,
			                             .ninto = 2};
			cr_assert_eq(kit_read(&k, &r), STELE_OK, "%s", stele_detail());
			uint64_t from = (uint64_t)first * STELE_CELL_LEN;
			uint64_t to = from + (uint64_t)n * STELE_CELL_LEN;
			if (to > b.d.S)
				to = b.d.S;
			cr_assert_eq(r.data_len, to - from);
			cr_assert_eq(memcmp(buf, b.shard[1] + from, to - from), 0);
			cr_assert_null(r.meta);
		}
	}
	struct iovec small = {buf, STELE_PAGE};
	struct stele_store_read r = {.key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 1),
	                             .first_cell = 5,
	                             .cells = 2,
	                             .into = &small,
	                             .ninto = 1};
	cr_assert_eq(kit_read(&k, &r), STELE_ERR_INVALID);
	r.first_cell = 0;
	r.cells = 1;
	cr_assert_eq(kit_read(&k, &r), STELE_ERR_INVALID);
	r.cells = 0;
	r.want_meta = true; /* the meta alone */
	cr_assert_eq(kit_read(&k, &r), STELE_OK);
	cr_assert(r.meta_len > 0 && r.data_len == 0);
	stele_store_read_finish(&r);
	free(buf);
	kit_block_free(&b);
	kit_end(&k);
}

Test(store, a_tombstone_removes_one_entry_and_it_can_come_again)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	struct stele_hash deposit = kit_hash(5);
	kit_block_make(&b, "rs-4-2", 40000, 9);
	cr_assert_eq(kit_put(&k, &b, 0, &deposit), STELE_OK);
	cr_assert_eq(kit_put(&k, &b, 1, NULL), STELE_OK);
	struct stele_key shard = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0);
	for (int life = 0; life < 3; life++) {
		cr_assert_eq(kit_tomb(&k, &shard), STELE_OK);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_ERR_NOT_FOUND);
		cr_assert_eq(kit_same(&k, &b, 1), STELE_OK);
		kit_close(&k);
		rm_index(&k); /* the extents alone say that it is gone */
		kit_open(&k);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_ERR_NOT_FOUND);
		cr_assert_eq(kit_same(&k, &b, 1), STELE_OK);
		cr_assert_eq(kit_tomb(&k, &shard), STELE_OK, "a second time: nothing to do");
		cr_assert_eq(kit_put(&k, &b, 0, NULL), STELE_OK);
		kit_close(&k);
		rm_index(&k);
		kit_open(&k);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_OK);
	}
	struct stele_key ref = kit_key(STELE_ENTRY_REF, &b.id, &deposit, 0);
	cr_assert_eq(kit_tomb(&k, &ref), STELE_OK);
	cr_assert_not(kit_have(&k, &ref));
	kit_block_free(&b);
	kit_end(&k);
}

Test(store, what_is_there_is_not_written_again)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	kit_block_make(&b, "rep-2", 100000, 2);
	cr_assert_eq(kit_put(&k, &b, 0, NULL), STELE_OK);
	struct stele_store_identity before, after;
	stele_store_identity(k.store, &before);
	cr_assert_eq(kit_put(&k, &b, 0, NULL), STELE_OK);
	stele_store_identity(k.store, &after);
	cr_assert_eq(before.lsn, after.lsn);
	kit_block_free(&b);
	kit_end(&k);
}

Test(store, a_refused_deposit_stays_refused)
{
	struct kit k;
	kit_start(&k, false, true);
	struct stele_hash object = kit_hash(1), d1 = kit_hash(2), d2 = kit_hash(3);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_REFUSE, &object, &d1, NULL, 0), STELE_OK);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_RECORD, &object, &d1, "r", 1), STELE_ERR_REFUSED);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_RECORD, &object, &d2, "r", 1), STELE_OK);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_REFUSE, &object, &d2, NULL, 0), STELE_ERR_EXISTS);
	kit_reopen(&k);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_RECORD, &object, &d1, "r", 1), STELE_ERR_REFUSED);
	struct stele_key key = kit_key(STELE_ENTRY_REFUSE, &object, &d1, 0);
	cr_assert(kit_have(&k, &key));
	kit_end(&k);
}

struct race {
	struct kit *k;
	struct stele_store_write w;
	struct stele_item item;
};

Test(store, a_shard_is_not_removed_from_beside_a_reference)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	struct stele_hash d1 = kit_hash(1), d2 = kit_hash(2), object = kit_hash(3);
	kit_block_make(&b, "rs-4-2", 1000, 2);
	struct stele_item tomb = {.key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 3),
	                          .tomb = true,
	                          .unless_referenced = true};
	cr_assert_eq(kit_put(&k, &b, 3, &d1), STELE_OK);
	cr_assert_eq(kit_write(&k, &tomb, 1, NULL), STELE_ERR_REFUSED, "one in the index");
	struct stele_key ref = kit_key(STELE_ENTRY_REF, &b.id, &d1, 0);
	cr_assert_eq(kit_tomb(&k, &ref), STELE_OK);
	cr_assert_eq(kit_write(&k, &tomb, 1, NULL), STELE_OK);
	cr_assert_not(kit_have(&k, &tomb.key));
	/* at the same moment: whichever is second meets the first */
	for (int round = 0; round < 20; round++) {
		cr_assert_eq(kit_put(&k, &b, 3, NULL), STELE_OK);
		struct stele_item item[2] = {{.key = kit_key(STELE_ENTRY_REF, &b.id, &d2, 0),
		                              .meta = &object,
		                              .meta_len = sizeof(object)},
		                             tomb};
		struct stele_store_write w[2] = {
		    {.item = &item[round % 2], .n = 1, .cb = kit_write_cb, .ctx = &k},
		    {.item = &item[1 - round % 2], .n = 1, .cb = kit_write_cb, .ctx = &k}};
		k.waiting = 2;
		stele_store_write(k.store, &w[0]);
		stele_store_write(k.store, &w[1]);
		kit_run(&k);
		cr_assert_eq(w[0].err, STELE_OK);
		cr_assert_eq(w[1].err, round % 2 ? STELE_ERR_NOT_FOUND : STELE_ERR_REFUSED);
		cr_assert_eq(kit_have(&k, &tomb.key), round % 2 == 0);
		cr_assert_eq(kit_have(&k, &item[round % 2 == 0 ? 0 : 1].key), round % 2 == 0);
		cr_assert_eq(kit_tomb(&k, &item[round % 2].key), STELE_OK);
	}
	kit_block_free(&b);
	kit_end(&k);
}

/* What removes a victim stops before what was made good meanwhile, in the index or on its way. */
Test(store, a_reference_that_was_made_good_is_not_removed_as_a_victim)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	struct stele_hash d = kit_hash(1), object = kit_hash(2);
	kit_block_make(&b, "rs-4-2", 1000, 2);
	cr_assert_eq(kit_put(&k, &b, 3, &d), STELE_OK);
	struct stele_item ref = {.key = kit_key(STELE_ENTRY_REF, &b.id, &d, 0),
	                         .meta = &object,
	                         .meta_len = sizeof(object)};
	struct stele_item tomb = {.key = ref.key, .tomb = true, .only_bad = true};
	/* as collection names one that it cannot read: by what the index has of it */
	memset(tomb.key.sub.b + 12, 0, STELE_HASH_LEN - 12);
	cr_assert_eq(kit_write(&k, &tomb, 1, NULL), STELE_OK);
	cr_assert(kit_have(&k, &ref.key), "it is good");
	for (int k_th = 0; k_th < 2; k_th++) {
		stele_store_report_bad(k.store, &ref.key);
		kit_settle(&k);
		cr_assert_not(kit_have(&k, &ref.key));
		struct stele_store_write w[2] = {
		    {.item = k_th ? &tomb : &ref, .n = 1, .cb = kit_write_cb, .ctx = &k},
		    {.item = &tomb, .n = 1, .cb = kit_write_cb, .ctx = &k}};
		k.waiting = 2;
		stele_store_write(k.store, &w[0]);
		stele_store_write(k.store, &w[1]);
		kit_run(&k);
		cr_assert_eq(w[0].err, STELE_OK);
		cr_assert_eq(w[1].err, STELE_OK);
		kit_reopen(&k);
		cr_assert_eq(kit_have(&k, &ref.key), k_th == 0);
	}
	struct stele_item shard = {.key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 3),
	                           .tomb = true,
	                           .unless_referenced = true};
	cr_assert_eq(kit_write(&k, &shard, 1, NULL), STELE_OK, "nothing lies beside it");
	kit_block_free(&b);
	kit_end(&k);
}

Test(store, a_record_and_its_refusal_at_the_same_moment_never_both_stand)
{
	struct kit k;
	kit_start(&k, false, true);
	for (uint64_t round = 0; round < 50; round++) {
		struct stele_hash object = kit_hash(round), deposit = kit_hash(round + 1000);
		struct stele_item item[2] = {
		    {.key = kit_key(STELE_ENTRY_RECORD, &object, &deposit, 0),
		     .meta = "r",
		     .meta_len = 1},
		    {.key = kit_key(STELE_ENTRY_REFUSE, &object, &deposit, 0)}};
		struct stele_store_write w[2] = {
		    {.item = &item[round % 2], .n = 1, .cb = kit_write_cb, .ctx = &k},
		    {.item = &item[1 - round % 2], .n = 1, .cb = kit_write_cb, .ctx = &k}};
		k.waiting = 2;
		stele_store_write(k.store, &w[0]);
		stele_store_write(k.store, &w[1]);
		kit_run(&k);
		cr_assert_eq(w[0].err, STELE_OK);
		cr_assert_eq(w[1].err, round % 2 ? STELE_ERR_REFUSED : STELE_ERR_EXISTS);
		cr_assert(kit_have(&k, &item[round % 2].key));
		cr_assert_not(kit_have(&k, &item[1 - round % 2].key));
	}
	kit_end(&k);
}

Test(store, a_reference_needs_its_shard)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	struct stele_hash deposit = kit_hash(1), object = kit_hash(2);
	kit_block_make(&b, "rs-4-2", 1000, 2);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_REF, &b.id, &deposit, &object, 32),
	             STELE_ERR_NOT_FOUND);
	cr_assert_eq(kit_put(&k, &b, 3, NULL), STELE_OK);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_REF, &b.id, &deposit, &object, 32), STELE_OK);
	struct stele_key shard = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 3);
	cr_assert_eq(kit_tomb(&k, &shard), STELE_OK);
	struct stele_hash other = kit_hash(9);
	cr_assert_eq(kit_put_meta(&k, STELE_ENTRY_REF, &b.id, &other, &object, 32),
	             STELE_ERR_NOT_FOUND);
	kit_block_free(&b);
	kit_end(&k);
}

Test(store, lists_in_order_by_kind_range_and_cursor)
{
	struct kit k;
	kit_start(&k, true, true);
	char meta[3000];
	memset(meta, 'm', sizeof(meta));
	for (uint64_t i = 0; i < 40; i++) {
		struct stele_hash id = kit_hash(i / 4), sub = kit_hash(i + 100);
		uint8_t kind = i % 2 ? STELE_ENTRY_MARK : STELE_ENTRY_RECORD;
		cr_assert_eq(kit_put_meta(&k, kind, &id, &sub, meta, (uint32_t)(100 * i / 2 + 1)),
		             STELE_OK);
	}
	struct stele_store_list l = {.pool = 1,
	                             .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD) |
	                                      STELE_KIND_BIT(STELE_ENTRY_MARK),
	                             .want_meta = true,
	                             .max = 7};
	kit_whole_range(&l.first, &l.last);
	uint32_t seen = 0;
	struct stele_key last = {0};
	do {
		cr_assert_eq(kit_list(&k, &l), STELE_OK);
		cr_assert_leq(l.n, 7);
		for (uint32_t i = 0; i < l.n; i++) {
			const struct stele_listed *it = &l.item[i];
			cr_assert(it->meta_len >= 1 && it->meta[0] == 'm' && !it->bad);
			int c = memcmp(it->key.id.b, last.id.b, 32);
			if (c == 0)
				c = it->key.kind - last.kind;
			if (c == 0)
				c = memcmp(it->key.sub.b, last.sub.b, 32);
			cr_assert_gt(c, 0);
			last = it->key;
		}
		seen += l.n;
		l.after = last;
		cr_assert(l.more == (seen < 40));
		bool more = l.more;
		stele_store_list_finish(&l);
		if (!more)
			break;
	} while (true);
	cr_assert_eq(seen, 40);
	/* one id, one kind */
	l = (struct stele_store_list){.pool = 1,
	                              .first = kit_hash(3),
	                              .last = kit_hash(3),
	                              .kinds = STELE_KIND_BIT(STELE_ENTRY_MARK)};
	cr_assert_eq(kit_list(&k, &l), STELE_OK);
	cr_assert_eq(l.n, 2);
	cr_assert_null(l.item[0].meta);
	stele_store_list_finish(&l);
	l.pool = 2;
	cr_assert_eq(kit_list(&k, &l), STELE_OK);
	cr_assert_eq(l.n, 0);
	stele_store_list_finish(&l);
	kit_end(&k);
}

Test(store, the_feed_gives_every_record_once_also_of_one_batch)
{
	struct kit k;
	kit_start(&k, false, true);
	struct stele_item item[10];
	struct stele_hash id[10], sub[10];
	for (uint64_t round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < 10; i++) {
			id[i] = kit_hash(round * 10 + i);
			sub[i] = kit_hash(1000 + round * 10 + i);
			item[i] = (struct stele_item){
			    .key = kit_key(STELE_ENTRY_RECORD, &id[i], &sub[i], 0),
			    .meta = "abc",
			    .meta_len = 3};
		}
		cr_assert_eq(kit_write(&k, item, 10, NULL), STELE_OK);
	}
	cr_assert_eq(kit_tomb(&k, &item[4].key), STELE_OK);
	for (int life = 0; life < 2; life++) {
		uint64_t after = 0;
		uint32_t seen = 0;
		bool more = true;
		while (more) {
			struct stele_store_list l = {.max = 3, .want_meta = true};
			cr_assert_eq(kit_feed(&k, &l, after), STELE_OK);
			for (uint32_t i = 0; i < l.n; i++) {
				cr_assert_gt(l.item[i].lsn, after);
				cr_assert_eq(l.item[i].meta_len, 3);
			}
			cr_assert(l.n == 10 || l.n == 9);
			seen += l.n;
			after = l.item[l.n - 1].lsn;
			more = l.more;
			stele_store_list_finish(&l);
		}
		cr_assert_eq(seen, 39);
		kit_close(&k);
		rm_index(&k);
		kit_open(&k);
	}
	kit_end(&k);
}

Test(store, digests_agree_whatever_the_order_and_the_shard)
{
	struct kit k[2];
	struct stele_store_digest d[2] = {0};
	for (int side = 0; side < 2; side++) {
		kit_start(&k[side], side, true);
		for (uint64_t i = 0; i < 10; i++) {
			struct kit_block b;
			uint64_t n = side ? 9 - i : i;
			struct stele_hash deposit = kit_hash(n);
			kit_block_make(&b, "rs-4-2", 5000, n);
			cr_assert_eq(kit_put(&k[side], &b, (uint32_t)side * 2, &deposit), STELE_OK);
			if (side == 0) /* two shards of one block are one key */
				cr_assert_eq(kit_put(&k[side], &b, 5, NULL), STELE_OK);
			kit_block_free(&b);
		}
		d[side].pool = 1;
		d[side].kinds = STELE_KIND_BIT(STELE_ENTRY_SHARD) | STELE_KIND_BIT(STELE_ENTRY_REF);
		kit_whole_range(&d[side].first, &d[side].last);
		kit_digest(&k[side], &d[side]);
		cr_assert_eq(d[side].keys, 20);
	}
	cr_assert(stele_hash_equal(&d[0].digest, &d[1].digest));
	struct stele_hash deposit = kit_hash(3), block;
	struct kit_block b;
	kit_block_make(&b, "rs-4-2", 5000, 3);
	block = b.id;
	kit_block_free(&b);
	struct stele_key ref = kit_key(STELE_ENTRY_REF, &block, &deposit, 0);
	cr_assert_eq(kit_tomb(&k[1], &ref), STELE_OK);
	kit_digest(&k[1], &d[1]);
	cr_assert_not(stele_hash_equal(&d[0].digest, &d[1].digest));
	kit_end(&k[0]);
	kit_end(&k[1]);
}

/* ---- opening ---- */

Test(store, opening_says_what_is_wrong)
{
	struct kit k;
	memset(&k, 0, sizeof(k));
	kit_env(&k, true);
	kit_dir(&k);
	kit_opts(&k, true);
	struct stele_store *other = NULL;
	cr_assert_eq(stele_store_open(&k.opts, &other), STELE_ERR_NOT_FOUND);
	struct stele_uuid disk;
	cr_assert_eq(stele_store_format(&k.opts, &disk), STELE_OK);
	cr_assert_eq(stele_store_format(&k.opts, NULL), STELE_ERR_EXISTS);
	kit_open(&k);
	cr_assert_eq(stele_store_open(&k.opts, &other), STELE_ERR_EXISTS, "a second opener");
	struct stele_store_identity id;
	stele_store_identity(k.store, &id);
	cr_assert(stele_uuid_equal(&id.disk, &disk));
	cr_assert_eq(id.incarnation, 1);
	kit_reopen(&k);
	stele_store_identity(k.store, &id);
	cr_assert_eq(id.incarnation, 2);
	kit_close(&k);
	struct stele_store_opts foreign = k.opts;
	foreign.cluster.b[0] ^= 1;
	cr_assert_eq(stele_store_open(&foreign, &other), STELE_ERR_DENIED);
	kit_open(&k);
	kit_end(&k);
}

static void poke(struct kit *k, const char *name, off_t at, uint8_t bits)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/%s", k->dir, name);
	int fd = open(path, O_RDWR);
	uint8_t b;
	cr_assert(fd >= 0 && pread(fd, &b, 1, at) == 1, "%s", path);
	b ^= bits;
	cr_assert_eq(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

Test(store, a_flipped_superblock_is_refused_by_name)
{
	struct kit k;
	kit_start(&k, true, true);
	kit_close(&k);
	struct stele_store *s;
	for (off_t at = 0; at < STELE_PAGE; at += 7) {
		poke(&k, "superblock", at, 0x10);
		cr_assert_eq(stele_store_open(&k.opts, &s), STELE_ERR_CORRUPT, "byte %d", (int)at);
		cr_assert(strstr(stele_detail(), "superblock"));
		poke(&k, "superblock", at, 0x10);
	}
	kit_open(&k);
	kit_end(&k);
}

/* Flips a byte in every table of the index; how many there are. */
static int poke_tables(struct kit *k, off_t at)
{
	char path[200], name[300];
	struct dirent *e;
	int n = 0;
	snprintf(path, sizeof(path), "%s/index", k->dir);
	DIR *d = opendir(path);
	cr_assert(d);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		if (len < 4 || strcmp(e->d_name + len - 4, ".ldb") != 0)
			continue;
		snprintf(name, sizeof(name), "index/%.200s", e->d_name);
		poke(k, name, at, 0x10);
		n++;
	}
	closedir(d);
	return n;
}

/* An index that opens, and turns out to be damaged while recovery reads it, is made anew like one that does not open. */
Test(store, an_index_that_breaks_during_recovery_is_made_anew)
{
	char path[200];
	for (int clean = 0; clean < 2; clean++) {
		struct kit k;
		struct kit_block b;
		struct stele_hash deposit = kit_hash(1);
		struct stele_store_status before, after;
		kit_start(&k, true, true);
		kit_block_make(&b, "rep-2", 100000, 5);
		cr_assert_eq(kit_put(&k, &b, 0, &deposit), STELE_OK);
		kit_seal(&k);
		stele_store_status(k.store, &before);
		snprintf(path, sizeof(path), "%s/lock", k.dir);
		if (!clean) {
			cr_assert_eq(unlink(path), 0);
			stele_store_check_place(k.store);
		}
		kit_close(&k);
		cr_assert_geq(poke_tables(&k, 50), 1, "%d", clean);
		kit_open(&k);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_OK, "%s", stele_detail());
		stele_store_status(k.store, &after);
		cr_assert(after.records == before.records && after.shards == 1 && after.refs == 1);
		kit_reopen(&k);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_OK, "%s", stele_detail());
		stele_store_status(k.store, &after);
		cr_assert(after.records == before.records && after.bad == 0);
		kit_block_free(&b);
		kit_end(&k);
	}
}

/* What the index knows of it is not taken for what lies in another file. */
Test(store, the_number_of_a_file_that_has_gone_is_not_given_again)
{
	struct kit k;
	kit_start(&k, false, true);
	struct kit_block b;
	char path[200];
	kit_block_make(&b, "rs-4-2", 100000, 3);
	cr_assert_eq(kit_put(&k, &b, 0, NULL), STELE_OK);
	kit_seal(&k);
	cr_assert_eq(kit_put(&k, &b, 1, NULL), STELE_OK);
	kit_close(&k);
	snprintf(path, sizeof(path), "%s/extent-00000001", k.dir);
	cr_assert_eq(unlink(path), 0);
	for (int life = 0; life < 2; life++) {
		kit_open(&k);
		kit_seal(&k);
		kit_seal(&k);
		cr_assert_neq(access(path, F_OK), 0);
		cr_assert_eq(kit_same(&k, &b, 0), STELE_ERR_CORRUPT);
		cr_assert_eq(kit_same(&k, &b, 1), STELE_OK);
		kit_close(&k);
	}
	kit_block_free(&b);
	kit_open(&k);
	kit_end(&k);
}

Test(store, every_write_of_a_crowd_is_kept)
{
	enum { N = 500 };
	struct kit k;
	kit_start(&k, false, true);
	struct stele_store_write *w = calloc(N, sizeof(*w));
	struct stele_item *item = calloc(N, sizeof(*item));
	struct stele_hash *id = calloc(N, sizeof(*id));
	uint64_t lsns = 0;
	for (uint64_t i = 0; i < N; i++) {
		id[i] = kit_hash(i);
		item[i] = (struct stele_item){.key = kit_key(STELE_ENTRY_RECORD, &id[i], &id[i], 0),
		                              .meta = &id[i],
		                              .meta_len = 32};
		w[i] = (struct stele_store_write){
		    .item = &item[i], .n = 1, .cb = kit_write_cb, .ctx = &k};
		k.waiting++;
		stele_store_write(k.store, &w[i]);
	}
	kit_run(&k);
	for (uint64_t i = 0; i < N; i++) {
		cr_assert_eq(w[i].err, STELE_OK);
		lsns = w[i].lsn > lsns ? w[i].lsn : lsns;
	}
	cr_assert_lt(lsns, N / 4, "writes that come together share batches");
	kit_close(&k);
	rm_index(&k);
	kit_open(&k);
	for (uint64_t i = 0; i < N; i++)
		cr_assert(kit_have(&k, &item[i].key));
	free(w);
	free(item);
	free(id);
	kit_end(&k);
}

Test(store, a_full_disk_refuses_writes_reads_on_and_takes_tombstones)
{
	struct kit k;
	memset(&k, 0, sizeof(k));
	kit_env(&k, false);
	kit_dir(&k);
	kit_opts(&k, true);
	k.opts.capacity = 4 * STELE_EXTENT_LEN_MIN;
	cr_assert_eq(stele_store_format(&k.opts, NULL), STELE_OK);
	kit_open(&k);
	uint64_t n = 0;
	enum stele_err err = STELE_OK;
	struct kit_block b;
	for (; !err; n++) {
		kit_block_make(&b, "rep-2", 700000, n);
		err = kit_put(&k, &b, 0, NULL);
		kit_block_free(&b);
	}
	cr_assert_eq(err, STELE_ERR_FULL, "%s", stele_detail());
	cr_assert(n > 10 && n < 20, "%d", (int)n);
	struct stele_store_status st;
	stele_store_status(k.store, &st);
	cr_assert(st.full && !st.fenced);
	for (int life = 0; life < 2; life++) {
		for (uint64_t i = 0; i + 1 < n; i++) {
			kit_block_make(&b, "rep-2", 700000, i);
			cr_assert_eq(kit_same(&k, &b, 0), STELE_OK);
			kit_block_free(&b);
		}
		kit_block_make(&b, "rep-2", 700000, 1000);
		cr_assert_eq(kit_put(&k, &b, 0, NULL), STELE_ERR_FULL);
		kit_block_free(&b);
		kit_reopen(&k);
	}
	for (uint64_t i = 0; i + 1 < n; i++) {
		kit_block_make(&b, "rep-2", 700000, i);
		struct stele_key key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0);
		cr_assert_eq(kit_tomb(&k, &key), STELE_OK, "%s", stele_detail());
		cr_assert_not(kit_have(&k, &key));
		kit_block_free(&b);
	}
	kit_end(&k);
}
