/*
 * Goal: scrub finds every flipped bit in anything that counts (headers, metas, cells, padding, footers),
 * names the victim, and until then and after no flipped byte is ever served; what is sound is not accused; what the
 * index knows and the extents lack is named too; and a sweep goes on where it was after a restart.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/extent_format.h"
#include "tests/unit/store_kit.h"

#define BLOCKS  3u
#define RECORDS 4u

struct found {
	uint32_t entries, structure;
	struct stele_key last;
	char why[200];
};

struct pair {
	struct kit *k;
	struct found *f;
};

static void victim_cb(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	struct found *f = ((struct pair *)s->ctx)->f;
	if (key->kind == STELE_ENTRY_FOOTER)
		f->structure++;
	else
		f->entries++;
	f->last = *key;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

static void scrub_cb(struct stele_store_scrub *s)
{
	kit_woken(((struct pair *)s->ctx)->k);
}

static void scrub(struct kit *k, bool deep, struct found *f)
{
	struct pair p = {k, f};
	struct stele_store_scrub s = {.deep = deep, .victim = victim_cb, .cb = scrub_cb, .ctx = &p};
	memset(f, 0, sizeof(*f));
	k->waiting++;
	stele_store_scrub(k->store, &s);
	kit_run(k);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert_eq(s.victims, f->entries + f->structure);
	kit_settle(k);
}

struct small { /* a store of a few blocks and records, all in one extent */
	struct kit k;
	struct kit_block b[BLOCKS];
	int fd;
	uint64_t end;
};

/* A record's form as far as the store looks: its text's length and text, named by its hash. */
static uint32_t text_meta(uint64_t n, uint8_t *out, struct stele_hash *sub)
{
	uint32_t len = 30 + 100 * (uint32_t)n;
	stele_put_le32(out, len);
	memset(out + 4, 'a' + (int)n, len + 50);
	stele_sha256(out + 4, len, sub);
	return 4 + len + 50;
}

static void small_start(struct small *s)
{
	kit_start(&s->k, true, false);
	static const uint64_t lengths[BLOCKS] = {100, 70000, 4 * 3000};
	static const char *const codes[BLOCKS] = {"rep-2", "rep-2", "rs-4-2"};
	for (uint32_t i = 0; i < BLOCKS; i++) {
		struct stele_hash deposit = kit_hash(i);
		kit_block_make(&s->b[i], codes[i], lengths[i], i);
		cr_assert_eq(kit_put(&s->k, &s->b[i], 1, &deposit), STELE_OK);
	}
	for (uint64_t i = 0; i < RECORDS; i++) {
		uint8_t meta[1000];
		struct stele_hash id = kit_hash(50 + i), sub;
		uint32_t len = text_meta(i, meta, &sub);
		cr_assert_eq(kit_put_meta(&s->k, i % 2 ? STELE_ENTRY_MARK : STELE_ENTRY_RECORD, &id,
		                          &sub, meta, len),
		             STELE_OK);
	}
	struct stele_store_status st;
	stele_store_status(s->k.store, &st);
	s->end = st.used;
	char path[200];
	snprintf(path, sizeof(path), "%s/extent-00000001", s->k.dir);
	s->fd = open(path, O_RDWR);
	cr_assert_geq(s->fd, 0);
}

static void small_end(struct small *s)
{
	close(s->fd);
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_free(&s->b[i]);
	kit_end(&s->k);
}

/* The index is forgotten, and made anew from what lies in the extents. */
static void forget(struct small *s)
{
	kit_close(&s->k);
	char dir[200];
	snprintf(dir, sizeof(dir), "%s/index", s->k.dir);
	cr_assert_eq(stele_kv_destroy_dir(s->k.kv, s->k.world, dir), STELE_OK);
	kit_open(&s->k);
}

static void flip(struct small *s, uint64_t off, uint32_t bit)
{
	uint8_t b;
	cr_assert_eq(pread(s->fd, &b, 1, (off_t)off), 1);
	b ^= (uint8_t)(1 << bit);
	cr_assert_eq(pwrite(s->fd, &b, 1, (off_t)off), 1);
}

/* No flipped byte comes out: kit_same compares what does. */
static void read_all(struct small *s)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		enum stele_err err = kit_same(&s->k, &s->b[i], 1);
		cr_assert(err == STELE_OK || err == STELE_ERR_CORRUPT, "%s", stele_detail());
	}
	kit_settle(&s->k);
}

static void try_flip(struct small *s, uint64_t off, uint32_t bit, bool read_first)
{
	struct found f;
	flip(s, off, bit);
	if (read_first)
		read_all(s);
	scrub(&s->k, false, &f);
	cr_assert_gt(f.entries + f.structure, 0, "bit %u at %llu was not found", bit,
	             (unsigned long long)off);
	read_all(s);
	flip(s, off, bit);
	if (f.entries)
		forget(s);
}

Test(scrub, a_sound_store_has_no_victims)
{
	struct small s;
	small_start(&s);
	struct found f;
	for (int life = 0; life < 3; life++) {
		for (int deep = 0; deep < 2; deep++) {
			scrub(&s.k, deep, &f);
			cr_assert(f.entries == 0 && f.structure == 0, "%s", f.why);
		}
		life ? kit_reopen(&s.k) : forget(&s);
	}
	small_end(&s);
}

Test(scrub, finds_any_bit_while_the_extent_is_open)
{
	struct small s;
	small_start(&s);
	srand(1);
	for (uint64_t off = 0; off < 2 * STELE_PAGE; off += 41)
		try_flip(&s, off, (uint32_t)rand() % 8, rand() % 2);
	small_end(&s);
}

Test(scrub, finds_any_bit_of_a_sealed_extent)
{
	struct small s;
	small_start(&s);
	kit_seal(&s.k);
	uint8_t page[STELE_PAGE] __attribute__((aligned(STELE_PAGE)));
	struct stele_extent_head head;
	struct stele_trailer trailer;
	cr_assert_eq(pread(s.fd, page, STELE_PAGE, 0), STELE_PAGE);
	cr_assert(stele_extent_head_decode(page, NULL, &head));
	cr_assert_eq(pread(s.fd, page, STELE_PAGE, STELE_EXTENT_LEN_MIN - STELE_PAGE), STELE_PAGE);
	cr_assert(stele_trailer_decode(page, &head.salt, 1, head.cycle, STELE_EXTENT_LEN_MIN, &trailer));
	srand(2);
	for (uint64_t off = 0; off < STELE_PAGE; off += 97)
		try_flip(&s, off, (uint32_t)rand() % 8, false);
	for (int i = 0; i < 500; i++) /* batches, cells, padding */
		try_flip(&s, STELE_PAGE + (uint64_t)rand() % (s.end - STELE_PAGE),
		         (uint32_t)rand() % 8, rand() % 2);
	for (int i = 0; i < 200; i++)
		try_flip(&s,
		         trailer.footer_off + (uint64_t)rand() % (stele_footer_room(trailer.items) - STELE_PAGE),
		         (uint32_t)rand() % 8, false);
	for (uint64_t off = 0; off < STELE_PAGE; off += 97) /* trailer */
		try_flip(&s, STELE_EXTENT_LEN_MIN - STELE_PAGE + off, (uint32_t)rand() % 8, false);
	small_end(&s);
}

Test(scrub, names_the_victim_which_is_then_listed_and_can_be_put_again)
{
	struct small s;
	small_start(&s);
	/* the second block's cells: look for its first bytes */
	uint8_t *all = malloc(s.end);
	cr_assert_eq(pread(s.fd, all, s.end, 0), (ssize_t)s.end);
	uint8_t *at = memmem(all, s.end, s.b[1].shard[1], 64);
	cr_assert_not_null(at);
	flip(&s, (uint64_t)(at - all) + 66000, 3); /* its second cell */
	free(all);
	uint8_t *buf = aligned_alloc(STELE_PAGE, STELE_CELL_LEN);
	struct iovec iov = {buf, STELE_CELL_LEN};
	struct stele_store_read r = {.key = kit_key(STELE_ENTRY_SHARD, &s.b[1].id, NULL, 1),
	                             .cells = 1,
	                             .into = &iov,
	                             .ninto = 1};
	cr_assert_eq(kit_read(&s.k, &r), STELE_OK, "the first cell is sound");
	free(buf);
	struct found f;
	scrub(&s.k, false, &f);
	cr_assert_eq(f.entries, 1);
	cr_assert(f.last.kind == STELE_ENTRY_SHARD && f.last.index == 1 &&
	          stele_hash_equal(&f.last.id, &s.b[1].id));
	cr_assert(strstr(f.why, "cell 1"), "%s", f.why);
	cr_assert_not(kit_have(&s.k, &f.last));
	cr_assert_eq(kit_same(&s.k, &s.b[1], 1), STELE_ERR_CORRUPT);
	struct stele_store_list l = {.pool = 1,
	                             .first = s.b[1].id,
	                             .last = s.b[1].id,
	                             .kinds = STELE_KIND_BIT(STELE_ENTRY_SHARD)};
	cr_assert_eq(kit_list(&s.k, &l), STELE_OK);
	cr_assert(l.n == 1 && l.item[0].bad);
	stele_store_list_finish(&l);
	kit_reopen(&s.k); /* the flag is kept over a clean restart */
	struct stele_store_status st;
	stele_store_status(s.k.store, &st);
	cr_assert_eq(st.bad, 1);
	cr_assert_eq(kit_put(&s.k, &s.b[1], 1, NULL), STELE_OK);
	cr_assert_eq(kit_same(&s.k, &s.b[1], 1), STELE_OK);
	stele_store_status(s.k.store, &st);
	cr_assert_eq(st.bad, 0);
	small_end(&s);
}

Test(scrub, deep_finds_what_was_wrong_before_it_was_written)
{
	struct small s;
	small_start(&s);
	struct kit_block b;
	kit_block_make(&b, "rs-4-2", 300000, 77);
	b.shard[2][5] ^= 1; /* the store takes what it is given: CRCs hold, hashes do not */
	cr_assert_eq(kit_put(&s.k, &b, 2, NULL), STELE_OK);
	struct stele_hash id = kit_hash(8), sub = kit_hash(9);
	cr_assert_eq(kit_put_meta(&s.k, STELE_ENTRY_RECORD, &id, &sub, "\2\0\0\0ab", 6), STELE_OK);
	struct found f;
	scrub(&s.k, false, &f);
	cr_assert_eq(f.entries, 0);
	scrub(&s.k, true, &f);
	cr_assert_eq(f.entries, 2);
	kit_block_free(&b);
	small_end(&s);
}

struct cancel {
	struct kit *k;
	struct stele_op op;
};

static void cancel_cb(struct stele_op *op)
{
	struct cancel *c = op->ctx;
	stele_store_scrub_cancel(c->k->store);
	kit_woken(c->k);
}

Test(scrub, one_at_a_time_throttled_and_cancelled)
{
	struct small s;
	small_start(&s);
	struct stele_store_scrub first = {.bytes_per_s = 1, .cb = kit_scrub_cb, .ctx = &s.k};
	struct stele_store_scrub second = {.cb = kit_scrub_cb, .ctx = &s.k};
	s.k.waiting = 3;
	stele_store_scrub(s.k.store, &first);
	stele_store_scrub(s.k.store, &second);
	struct cancel c = {.k = &s.k};
	c.op = (struct stele_op){.kind = STELE_OP_TIMER,
	                         .off = stele_env_now(s.k.env) + 20000000,
	                         .cb = cancel_cb,
	                         .ctx = &c};
	stele_env_submit(s.k.env, &c.op);
	kit_run(&s.k);
	cr_assert_eq(first.err, STELE_ERR_CANCELLED);
	cr_assert_eq(second.err, STELE_ERR_BUSY);
	small_end(&s);
}

/* Longer than what is read at a time. */
Test(scrub, finds_any_cell_of_a_long_shard)
{
	struct small s = {0};
	struct kit *k = &s.k;
	kit_env(k, true);
	kit_dir(k);
	kit_opts(k, false);
	k->opts.extent_len = 16u << 20;
	cr_assert_eq(stele_store_format(&k->opts, NULL), STELE_OK, "%s", stele_detail());
	kit_open(k);
	struct kit_block b;
	struct found f;
	kit_block_make(&b, "rep-2", 9000000, 5);
	cr_assert_eq(kit_put(k, &b, 1, NULL), STELE_OK);
	char path[200];
	snprintf(path, sizeof(path), "%s/extent-00000001", k->dir);
	s.fd = open(path, O_RDWR);
	uint64_t len = 10u << 20;
	uint8_t *all = malloc(len);
	cr_assert_eq(pread(s.fd, all, len, 0), (ssize_t)len);
	uint64_t first = (uint64_t)((uint8_t *)memmem(all, len, b.shard[1], 64) - all);
	free(all);
	for (uint32_t cell = 0; cell < b.cells; cell++) {
		uint64_t off = first + (uint64_t)cell * STELE_CELL_LEN + kit_mix(cell) % 20000;
		char name[32];
		snprintf(name, sizeof(name), "cell %u fails", cell);
		flip(&s, off, cell % 8);
		scrub(k, cell % 2, &f);
		cr_assert(f.entries == 1 && f.structure == 0 && strstr(f.why, name), "%s: %s", name,
		          f.why);
		flip(&s, off, cell % 8);
	}
	scrub(k, true, &f);
	cr_assert(f.entries == 0 && f.structure == 0, "%s", f.why);
	close(s.fd);
	kit_block_free(&b);
	kit_end(k);
}

/* ---- what the index knows and the extents lack ---- */

Test(scrub, entries_of_a_batch_whose_head_is_gone_are_checked_to_the_last_cell)
{
	struct small s;
	small_start(&s);
	uint8_t *all = malloc(s.end);
	cr_assert_eq(pread(s.fd, all, s.end, 0), (ssize_t)s.end);
	uint64_t cells = (uint64_t)((uint8_t *)memmem(all, s.end, s.b[1].shard[1], 64) - all);
	uint64_t head = cells / STELE_PAGE * STELE_PAGE;
	while (memcmp(all + head, "STLB", 4) != 0)
		head -= STELE_PAGE;
	free(all);
	struct found f;
	flip(&s, head + 9, 1);
	scrub(&s.k, false, &f);
	cr_assert(f.structure == 1 && f.entries == 0, "they can still be read: %s", f.why);
	flip(&s, cells + 66000, 3);
	scrub(&s.k, false, &f);
	cr_assert(f.structure == 1 && f.entries == 1 && f.last.kind == STELE_ENTRY_SHARD, "%s",
	          f.why);
	small_end(&s);
}

static void flip_in(const struct kit *k, uint32_t extent, uint64_t off)
{
	char path[200];
	uint8_t b;
	snprintf(path, sizeof(path), "%s/extent-%08x", k->dir, extent);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0 && pread(fd, &b, 1, (off_t)off) == 1, "%s", path);
	b ^= 2;
	cr_assert_eq(pwrite(fd, &b, 1, (off_t)off), 1);
	close(fd);
}

/* While the disk is closed a bit flips in the head of the log's last batch. That was acknowledged: what it holds is
 * served, and what it removed stays away, as the index says; the extent is named. Without the index that is all that
 * can be said. Nothing is written over it, and the log goes on. */
static void rot_last_batch(bool alone, bool removal, bool lose, uint32_t closes)
{
	struct kit k;
	struct kit_block b[6];
	struct stele_store_status st;
	struct found f;
	char dir[200];
	kit_start(&k, true, false);
	for (uint32_t i = 0; i < 6; i++)
		kit_block_make(&b[i], "rep-2", 60000 + 5000 * i, i);
	if (!alone)
		cr_assert_eq(kit_put(&k, &b[0], 0, NULL), STELE_OK);
	stele_store_status(k.store, &st);
	struct stele_key first = kit_key(STELE_ENTRY_SHARD, &b[0].id, NULL, 0);
	cr_assert_eq(removal ? kit_tomb(&k, &first) : kit_put(&k, &b[1], 0, NULL), STELE_OK);
	for (uint32_t i = 0; i < closes; i++)
		kit_reopen(&k); /* the superblock knows how far the log had come */
	kit_close(&k);
	flip_in(&k, 1, (alone ? STELE_PAGE : st.used) + 9);
	snprintf(dir, sizeof(dir), "%s/index", k.dir);
	if (lose)
		cr_assert_eq(stele_kv_destroy_dir(k.kv, k.world, dir), STELE_OK);
	kit_open(&k);
	for (uint32_t life = 2; life < 6; life++) {
		cr_assert_eq(kit_put(&k, &b[life], 0, NULL), STELE_OK);
		enum stele_err last = kit_same(&k, &b[removal ? 0 : 1], 0);
		if (lose)
			cr_assert_eq(last, removal ? STELE_OK : STELE_ERR_NOT_FOUND);
		else
			cr_assert_eq(last, removal ? STELE_ERR_NOT_FOUND : STELE_OK, "%s",
			             stele_detail());
		for (uint32_t i = 2; i <= life; i++)
			cr_assert_eq(kit_same(&k, &b[i], 0), STELE_OK, "%u: %s", i, stele_detail());
		scrub(&k, true, &f);
		cr_assert(f.structure == 1 && f.entries == 0, "%u, %u: %s", f.structure, f.entries,
		          f.why);
		kit_reopen(&k);
	}
	for (uint32_t i = 0; i < 6; i++)
		kit_block_free(&b[i]);
	kit_end(&k);
}

Test(scrub, the_last_batch_of_which_the_head_rots_is_served_and_named)
{
	rot_last_batch(false, false, false, 0);
	rot_last_batch(false, false, false, 1);
}

Test(scrub, a_removal_in_the_last_batch_of_which_the_head_rots_stays)
{
	rot_last_batch(false, true, false, 0);
	rot_last_batch(false, true, false, 1);
}

Test(scrub, the_only_batch_of_an_extent_of_which_the_head_rots_is_served_and_named)
{
	rot_last_batch(true, false, false, 0);
	rot_last_batch(true, false, false, 1);
}

Test(scrub, a_last_batch_of_which_the_head_rots_is_named_without_the_index_too)
{
	rot_last_batch(false, false, true, 0);
	rot_last_batch(true, false, true, 0);
	rot_last_batch(false, true, true, 0);
}

/* Moves a block's shard in the index to where another entry lies, and says whether it was there. */
static bool misplace(struct small *s, const struct kit_block *b)
{
	char dir[200];
	uint8_t k[STELE_INDEX_KEY_MAX], v[STELE_INDEX_VALUE];
	size_t len;
	struct stele_kv *kv;
	struct stele_item_at at = {.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 1)};
	snprintf(dir, sizeof(dir), "%s/index", s->k.dir);
	cr_assert_eq(stele_kv_open(s->k.kv, s->k.world, dir, &kv), STELE_OK);
	struct stele_kv_write w = {k, stele_index_key(STELE_INDEX_ENTRY, &at.key, k), v, sizeof(v)};
	bool there = stele_kv_get(kv, k, w.key_len, v, sizeof(v), &len) == STELE_OK &&
	             stele_index_value_decode(v, len, &at);
	at.off += STELE_PAGE;
	stele_index_value_encode(&at, v);
	cr_assert_eq(stele_kv_write(kv, &w, 1), STELE_OK);
	stele_kv_close(kv);
	return there;
}

Test(scrub, names_an_entry_that_is_not_where_the_index_says)
{
	struct small s;
	small_start(&s);
	kit_seal(&s.k); /* what is open is applied again at every start */
	kit_close(&s.k);
	cr_assert(misplace(&s, &s.b[2]));
	kit_open(&s.k);
	struct found f;
	scrub(&s.k, false, &f);
	cr_assert(f.structure == 0 && f.entries == 1, "%s", f.why);
	cr_assert(f.last.kind == STELE_ENTRY_SHARD && stele_hash_equal(&f.last.id, &s.b[2].id));
	small_end(&s);
}

/* ---- going on ---- */

#define MANY 8u

struct large { /* a store of several extents, two or three shards in each */
	struct kit k;
	struct kit_block b[MANY];
};

static void large_start(struct large *l)
{
	kit_start(&l->k, true, false);
	for (uint32_t i = 0; i < MANY; i++) {
		kit_block_make(&l->b[i], "rep-2", 1400000, 100 + i);
		cr_assert_eq(kit_put(&l->k, &l->b[i], 0, NULL), STELE_OK);
	}
	kit_settle(&l->k);
}

static void large_end(struct large *l)
{
	for (uint32_t i = 0; i < MANY; i++)
		kit_block_free(&l->b[i]);
	kit_end(&l->k);
}

/* In the middle of a block's first cell, wherever that is. */
static void rot(struct large *l, uint32_t block)
{
	uint8_t *all = malloc(STELE_EXTENT_LEN_MIN);
	for (uint32_t id = 1;; id++) {
		char path[200];
		snprintf(path, sizeof(path), "%s/extent-%08x", l->k.dir, id);
		int fd = open(path, O_RDWR);
		cr_assert_geq(fd, 0, "%s: the block is nowhere", path);
		cr_assert_gt(pread(fd, all, STELE_EXTENT_LEN_MIN, 0), 0);
		uint8_t *at = memmem(all, STELE_EXTENT_LEN_MIN, l->b[block].shard[0], 64);
		uint8_t changed = at ? (uint8_t)(at[30000] ^ 4) : 0;
		if (at)
			cr_assert_eq(pwrite(fd, &changed, 1, at - all + 30000), 1);
		close(fd);
		if (at)
			break;
	}
	free(all);
}

struct poll {
	struct kit *k;
	struct stele_op op;
	const struct stele_store_scrub *s;
};

static void poll_cb(struct stele_op *op)
{
	struct poll *p = op->ctx;
	if (p->s->bytes_done == 0) {
		op->off += 1000000;
		stele_env_submit(p->k->env, op);
		return;
	}
	stele_store_scrub_cancel(p->k->store);
	kit_woken(p->k);
}

/* Sweeps the first extent, which is one step, as the clients that wrote it have gone; is then so slow that it is
 * cancelled. */
static void sweep_a_little(struct large *l, bool deep, bool resume)
{
	for (uint64_t start = stele_env_now(l->k.env); stele_env_now(l->k.env) - start < 20000000;)
		kit_pause(&l->k);
	struct stele_store_scrub s = {
	    .deep = deep, .resume = resume, .bytes_per_s = 1, .cb = kit_scrub_cb, .ctx = &l->k};
	struct poll p = {.k = &l->k, .s = &s};
	p.op = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(l->k.env), .cb = poll_cb, .ctx = &p};
	l->k.waiting += 2;
	stele_store_scrub(l->k.store, &s);
	stele_env_submit(l->k.env, &p.op);
	kit_run(&l->k);
	cr_assert_eq(s.err, STELE_ERR_CANCELLED);
	cr_assert(s.bytes_done > 0 && s.bytes_done < s.bytes_total);
}

static struct stele_store_scrub sweep(struct large *l, bool deep, bool resume)
{
	struct stele_store_scrub s = {.deep = deep, .resume = resume};
	cr_assert_eq(kit_scrub(&l->k, &s), STELE_OK, "%s", s.detail);
	kit_settle(&l->k);
	return s;
}

static struct stele_store_scrubbed scrubbed(struct large *l, bool deep)
{
	struct stele_store_scrubbed done;
	stele_store_scrubbed(l->k.store, deep, &done);
	return done;
}

static void goes_on(bool deep)
{
	struct large l;
	large_start(&l);
	uint64_t all = sweep(&l, deep, false).bytes_total;
	sweep_a_little(&l, deep, true);
	cr_assert(scrubbed(&l, deep).under_way && !scrubbed(&l, !deep).under_way);
	kit_close(&l.k);
	rot(&l, 0);
	rot(&l, MANY - 1);
	kit_open(&l.k);
	cr_assert(scrubbed(&l, deep).under_way, "it outlives a restart");
	struct stele_store_scrub s = sweep(&l, deep, true);
	cr_assert_eq(s.victims, 1, "the last block, and not what was swept before: %u",
	             (unsigned)s.victims);
	cr_assert(s.bytes_done < all && s.bytes_done == s.bytes_total && s.entries < MANY);
	cr_assert_not(scrubbed(&l, deep).under_way);
	s = sweep(&l, deep, true);
	cr_assert(s.victims == 2 && s.bytes_done == all && s.entries == MANY,
	          "the next one begins at the beginning");
	large_end(&l);
}

Test(scrub, names_everything_of_an_extent_that_is_gone)
{
	struct large l;
	large_start(&l);
	kit_close(&l.k);
	char path[200];
	snprintf(path, sizeof(path), "%s/extent-00000001", l.k.dir);
	cr_assert_eq(unlink(path), 0);
	kit_open(&l.k);
	struct stele_store_status st;
	stele_store_status(l.k.store, &st);
	cr_assert(st.bad == 2 && st.extents_gone == 1,
	          "before anybody has looked: %u of %u extents", (unsigned)st.bad, st.extents_gone);
	cr_assert_eq(kit_same(&l.k, &l.b[0], 0), STELE_ERR_CORRUPT);
	struct stele_store_scrub s = sweep(&l, false, false);
	cr_assert(s.victims == 2 && s.entries == MANY, "%u of %u", (unsigned)s.victims,
	          (unsigned)s.entries);
	stele_store_status(l.k.store, &st);
	cr_assert_eq(st.bad, 2);
	for (uint32_t i = 0; i < 2; i++) { /* as repair does */
		cr_assert_eq(kit_put(&l.k, &l.b[i], 0, NULL), STELE_OK, "%s", stele_detail());
		cr_assert_eq(kit_same(&l.k, &l.b[i], 0), STELE_OK, "%s", stele_detail());
	}
	kit_reopen(&l.k);
	stele_store_status(l.k.store, &st);
	cr_assert(st.bad == 0 && st.extents_gone == 0);
	large_end(&l);
}

Test(scrub, goes_on_after_a_restart)
{
	goes_on(false);
}

Test(scrub, goes_on_after_a_restart_when_deep)
{
	goes_on(true);
}

Test(scrub, begins_again_without_its_index)
{
	struct large l;
	char dir[200];
	large_start(&l);
	sweep_a_little(&l, false, true);
	kit_close(&l.k);
	rot(&l, 0);
	snprintf(dir, sizeof(dir), "%s/index", l.k.dir);
	cr_assert_eq(stele_kv_destroy_dir(l.k.kv, l.k.world, dir), STELE_OK);
	kit_open(&l.k);
	cr_assert_not(scrubbed(&l, false).under_way);
	cr_assert_eq(sweep(&l, false, true).victims, 1);
	large_end(&l);
}

Test(scrub, one_that_is_asked_for_begins_at_the_beginning_and_leaves_the_other_alone)
{
	struct large l;
	large_start(&l);
	sweep_a_little(&l, false, false);
	cr_assert_not(scrubbed(&l, false).under_way, "nobody is to go on with it");
	sweep_a_little(&l, false, true);
	rot(&l, 0);
	sweep_a_little(&l, false, false);
	cr_assert(scrubbed(&l, false).under_way, "it was cancelled: the other goes on");
	cr_assert_eq(sweep(&l, false, false).victims, 1);
	cr_assert_not(scrubbed(&l, false).under_way, "it has seen everything");
	large_end(&l);
}

Test(scrub, when_the_last_one_ended_is_known_after_a_restart)
{
	struct large l;
	large_start(&l);
	cr_assert(scrubbed(&l, false).finished == 0 && scrubbed(&l, true).finished == 0);
	int64_t before = stele_env_wall(l.k.env);
	(void)sweep(&l, false, false);
	cr_assert(scrubbed(&l, false).finished >= before && scrubbed(&l, true).finished == 0);
	(void)sweep(&l, true, true);
	int64_t then = scrubbed(&l, true).finished;
	cr_assert(then >= before && scrubbed(&l, false).finished == then, "deep is both");
	kit_reopen(&l.k);
	cr_assert(scrubbed(&l, true).finished == then && scrubbed(&l, false).finished == then);
	large_end(&l);
}
