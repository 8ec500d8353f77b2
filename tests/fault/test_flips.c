/*
 * Goal: bit rot is never passed on and never overlooked. 100,000 bits are flipped in what counts on a simulated
 * disk, many at a time but each in an entry (or an extent's frame) of its own: every one is found by scrub and
 * put down to that entry or extent and to no other, and a read gives the right bytes or says CORRUPT.
 *
 * An entry's bytes are its header, its meta, its cells and the padding behind them. The frame is the rest: the
 * extent's header, heads of batches, padding between entries, tombstones, footer and trailer.
 *
 * A head of a batch may rot while the disk is closed, too, and be met by recovery; and any sector may become one that
 * cannot be read.
 * STELE_FLIPS sets how many (100000); STELE_SEED replays one run.
 */
#include <unistd.h>

#include "storage/extent.h"
#include "storage/io/sim.h"
#include "tests/unit/store_kit.h"

#define THINGS  1024u
#define BLOCKS  (THINGS / 4)
#define EXTENTS 32u
#define SPOTS   4096u

struct spot { /* bytes of an extent */
	uint32_t extent, len;
	uint64_t off;
};

struct thing { /* an entry that is alive */
	struct stele_key key;
	uint8_t meta[700];
	uint32_t meta_len;
	const struct kit_block *block; /* SHARD */
	struct spot part[5];           /* header, meta, cells, and from `bytes` on padding */
	uint32_t bytes, parts;
	uint64_t batch; /* offset of the one that it lies in */
	bool hit, hit_padding, named;
};

struct flip {
	struct spot at; /* one byte */
	uint8_t was;
	uint32_t bit;
};

struct world {
	struct kit k;
	struct stele_sim *sim;
	struct stele_volume vol;
	uint64_t rnd, seed;
	struct thing thing[THINGS];
	uint32_t things;
	int fd[EXTENTS + 1]; /* by number; 0: none */
	struct spot frame[SPOTS];
	uint32_t frames;
	struct flip flip[THINGS + EXTENTS];
	uint32_t flips;
	bool extent_hit[EXTENTS + 1], extent_named[EXTENTS + 1], filler_named;
};

static struct world w;
static struct kit_block blocks[BLOCKS];

static uint64_t rnd(uint64_t below)
{
	w.rnd = kit_mix(w.rnd);
	return (w.rnd >> 8) % below;
}

static bool turn(struct kit *k)
{
	while (k->waiting)
		if (!stele_sim_step(w.sim))
			return false;
	return true;
}

/* ---- what is stored ---- */

static struct stele_item thing_item(struct thing *t, uint8_t kind, uint64_t n)
{
	struct stele_hash id = kit_hash(n), sub = kit_hash(n + 1000000);
	uint32_t len = kind == STELE_ENTRY_REF      ? STELE_HASH_LEN
	               : kind == STELE_ENTRY_REFUSE ? 0
	                                            : 40 + (uint32_t)(kit_mix(n) % 600);
	*t = (struct thing){.meta_len = len};
	for (uint32_t i = 0; i < len; i++)
		t->meta[i] = (uint8_t)(kit_mix(n) >> i % 50);
	if (kind == STELE_ENTRY_RECORD || kind == STELE_ENTRY_MARK) { /* named by its text */
		stele_put_le32(t->meta, len - 20);
		stele_sha256(t->meta + 4, len - 20, &sub);
	}
	t->key = kit_key(kind, &id, &sub, kind == STELE_ENTRY_KEEP ? n % 5 : 0);
	return (struct stele_item){.key = t->key, .meta = t->meta, .meta_len = len};
}

/* A shard and its reference in one write. */
static void put_shard(uint32_t n)
{
	struct thing *shard = &w.thing[w.things++], *ref = &w.thing[w.things++];
	struct kit_block *b = &blocks[n];
	uint8_t index = (uint8_t)(n % b->d.n);
	uint32_t len;
	uint8_t *meta = kit_meta(b, index, &len);
	struct iovec iov = {b->shard[index], b->d.S};
	struct stele_item item[2] = {
	    {.meta = meta, .meta_len = len, .data = &iov, .ndata = 1, .data_len = b->d.S}};
	*shard = (struct thing){.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, index), .block = b};
	item[0].key = shard->key;
	item[1] = thing_item(ref, STELE_ENTRY_REF, n);
	ref->key.id = item[1].key.id = b->id;
	cr_assert_eq(kit_write(&w.k, item, 2, NULL), STELE_OK, "%s", stele_detail());
	free(meta);
}

/* One of each other kind in one write, and a record that is removed again. */
static void put_others(uint64_t n)
{
	static const uint8_t kinds[] = {STELE_ENTRY_RECORD, STELE_ENTRY_MARK, STELE_ENTRY_REFUSE,
	                                STELE_ENTRY_KEEP};
	struct stele_item item[4];
	for (uint32_t i = 0; i < 4; i++)
		item[i] = thing_item(&w.thing[w.things++], kinds[i], n * 8 + i);
	cr_assert_eq(kit_write(&w.k, item, 4, NULL), STELE_OK, "%s", stele_detail());
	if (n % 8 == 0) {
		struct thing gone;
		struct stele_item it = thing_item(&gone, STELE_ENTRY_RECORD, n * 8 + 4);
		cr_assert_eq(kit_write(&w.k, &it, 1, NULL), STELE_OK);
		cr_assert_eq(kit_tomb(&w.k, &it.key), STELE_OK);
	}
}

/* The index is forgotten and made anew: nothing is known to be damaged. */
static void forget(void)
{
	kit_close(&w.k);
	char dir[200];
	snprintf(dir, sizeof(dir), "%s/index", w.k.dir);
	cr_assert_eq(stele_kv_destroy_dir(w.k.kv, w.k.world, dir), STELE_OK);
	kit_open(&w.k);
}

/* Things in so many extents; the last is open still unless `sealed`. */
static void start(uint32_t things, uint32_t extents, bool sealed)
{
	uint64_t seed = w.seed, random = w.rnd;
	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.rnd = random;
	w.k.turn = turn;
	cr_assert_eq(stele_sim_create(w.rnd, &w.sim), STELE_OK);
	cr_assert_eq(stele_sim_env(w.sim, "disk", &w.k.env), STELE_OK);
	snprintf(w.k.dir, sizeof(w.k.dir), "/disk0");
	kit_opts(&w.k, false);
	cr_assert_eq(stele_file_mkdirs(w.k.env, w.k.dir, 0700), STELE_OK);
	cr_assert_eq(stele_store_format(&w.k.opts, NULL), STELE_OK, "%s", stele_detail());
	kit_open(&w.k);
	uint32_t each = things / extents / 8;
	for (uint32_t x = 0, n = 0; x < extents; x++) {
		for (uint32_t i = 0; i < each; i++, n++) {
			put_shard(2 * n);
			put_shard(2 * n + 1);
			put_others(n);
		}
		if (sealed || x + 1 < extents) {
			kit_seal(&w.k);
			forget();
		}
	}
}

static void unmap(void)
{
	for (uint32_t i = 1; i <= EXTENTS; i++)
		if (w.fd[i])
			stele_file_close(w.k.env, &w.fd[i]);
	memset(w.fd, 0, sizeof(w.fd));
	w.frames = 0;
}

static void end(void)
{
	unmap();
	kit_close(&w.k);
	while (stele_sim_step(w.sim))
		;
	stele_env_destroy(w.k.env);
	stele_sim_destroy(w.sim);
	stele_kv_world_destroy(w.k.world);
}

/* ---- where it lies ---- */

static void add_frame(uint32_t extent, uint64_t off, uint64_t len)
{
	if (!len)
		return;
	cr_assert_lt(w.frames, SPOTS);
	w.frame[w.frames++] = (struct spot){extent, (uint32_t)len, off};
}

static struct thing *find_thing(const struct stele_key *key)
{
	for (uint32_t i = 0; i < w.things; i++) {
		const struct stele_key *k = &w.thing[i].key;
		if (k->kind == key->kind && k->index == key->index &&
		    stele_hash_equal(&k->id, &key->id) &&
		    memcmp(k->sub.b, key->sub.b, STELE_REF_SUB) == 0)
			return &w.thing[i];
	}
	return NULL;
}

static void add_part(struct thing *t, uint32_t extent, uint64_t off, uint32_t len)
{
	if (len)
		t->part[t->parts++] = (struct spot){extent, len, off};
}

static void map_thing(struct thing *t, const struct stele_entry_head *h)
{
	uint32_t x = h->place.extent, used = STELE_ENTRY_HEAD + h->meta_len;
	t->parts = 0;
	add_part(t, x, h->place.off, STELE_ENTRY_HEAD);
	add_part(t, x, h->place.off + STELE_ENTRY_HEAD, h->meta_len);
	add_part(t, x, h->data_off, h->data_len);
	t->bytes = t->parts;
	add_part(t, x, h->place.off + used, stele_entry_len(h->meta_len) - used);
	add_part(t, x, h->data_off + h->data_len, -h->data_len % STELE_PAGE);
}

static void map_batch(const struct stele_extent *x, const struct stele_batch_head *head)
{
	uint8_t *area;
	struct stele_entry e;
	uint64_t pos = STELE_BATCH_HEAD, before = pos, base = head->place.off;
	add_frame(x->id, base, STELE_BATCH_HEAD);
	cr_assert_eq(stele_batch_load(&w.vol, x, head, &area), STELE_OK);
	for (; stele_batch_next(&w.vol, head, area, &pos, &e); before = pos) {
		struct thing *t = find_thing(&e.head.key);
		uint64_t off = e.head.place.off;
		add_frame(x->id, base + before, off - base - before);
		if (t) {
			map_thing(t, &e.head);
			t->batch = base;
		} else if (e.head.key.kind == STELE_ENTRY_TOMB)
			add_frame(x->id, off, base + pos - off);
	}
	add_frame(x->id, base + before, head->meta_len - before);
	free(area);
}

static void map_extent(uint32_t id)
{
	struct stele_extent x;
	struct stele_scan_found_list list = {0};
	char path[STELE_PATH_MAX];
	cr_assert_eq(stele_extent_open(&w.vol, id, &x), STELE_OK, "%s", stele_detail());
	if (x.state == STELE_EXTENT_OPEN || x.state == STELE_EXTENT_SEALED) {
		cr_assert_leq(id, EXTENTS);
		cr_assert_eq(stele_file_open(w.k.env, stele_extent_path(&w.vol, id, path),
		                             STELE_OPEN_READ, 0, &w.fd[id]),
		             STELE_OK);
		add_frame(id, 0, STELE_PAGE);
		cr_assert_eq(stele_extent_find(&w.vol, &x, 0, &list), STELE_OK);
		for (size_t b = 0; b < list.n; b++)
			map_batch(&x, &list.at[b].head);
	}
	if (x.state == STELE_EXTENT_SEALED) {
		add_frame(id, x.trailer.footer_off,
		          stele_footer_room(x.trailer.items) - STELE_PAGE);
		add_frame(id, w.vol.extent_len - STELE_PAGE, STELE_PAGE);
	}
	stele_scan_found_finish(&list);
	stele_extent_close(&w.vol, &x);
}

static void map(void)
{
	char path[200], *page;
	size_t len;
	struct stele_superblock sb;
	struct stele_list names = {0};
	unmap();
	snprintf(path, sizeof(path), "%s/superblock", w.k.dir);
	cr_assert_eq(stele_file_load(w.k.env, path, STELE_PAGE, &page, &len), STELE_OK);
	cr_assert_eq(stele_superblock_decode((const uint8_t *)page, &sb), STELE_OK);
	free(page);
	w.vol = (struct stele_volume){
	    .env = w.k.env, .disk = sb.disk, .salt = sb.salt, .extent_len = sb.extent_len};
	snprintf(w.vol.dir, sizeof(w.vol.dir), "%s", w.k.dir);
	cr_assert_eq(stele_file_list(w.k.env, w.k.dir, &names), STELE_OK);
	uint32_t id;
	for (size_t i = 0; i < names.n; i++)
		if (stele_extent_name(names.name[i], &id))
			map_extent(id);
	stele_list_finish(&names);
	for (uint32_t i = 0; i < w.things; i++)
		cr_assert_gt(w.thing[i].parts, 0, "entry %u is not on the disk", i);
}

/* ---- flips ---- */

static void flip_byte(const struct flip *f)
{
	char path[STELE_PATH_MAX];
	cr_assert(stele_sim_flip(w.sim, "disk", stele_extent_path(&w.vol, f->at.extent, path),
	                         f->at.off, f->bit));
}

static uint8_t byte_at(const struct spot *at)
{
	uint8_t b;
	cr_assert_eq(stele_file_pread(w.k.env, w.fd[at->extent], &b, 1, at->off), STELE_OK);
	return b;
}

static void flip_in(const struct spot *s)
{
	struct flip *f = &w.flip[w.flips++];
	f->at = (struct spot){s->extent, 1, s->off + rnd(s->len)};
	f->bit = (uint32_t)rnd(8);
	f->was = byte_at(&f->at);
	flip_byte(f);
}

static void undo(void)
{
	for (uint32_t i = 0; i < w.flips; i++)
		if (byte_at(&w.flip[i].at) != w.flip[i].was)
			flip_byte(&w.flip[i]);
	w.flips = 0;
	for (uint32_t i = 0; i < w.things; i++)
		w.thing[i].hit = w.thing[i].named = false;
	memset(w.extent_hit, 0, sizeof(w.extent_hit));
	memset(w.extent_named, 0, sizeof(w.extent_named));
}

/* ---- what comes of them ---- */

static void victim(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	(void)s;
	unsigned extent;
	if (key->kind != STELE_ENTRY_FOOTER) {
		struct thing *t = find_thing(key);
		cr_assert_not_null(t, "a victim that was never stored: %s", why);
		t->named = true;
		return;
	}
	cr_assert(sscanf(why, "extent %8x", &extent) == 1 && extent >= 1 && extent <= EXTENTS,
	          "names no extent: %s", why);
	w.extent_named[extent] = true;
}

static void scrub(uint64_t victims_min)
{
	struct stele_store_scrub s = {.victim = victim, .deep = rnd(4) == 0};
	cr_assert_eq(kit_scrub(&w.k, &s), STELE_OK, "%s", s.detail);
	cr_assert_geq(s.victims, victims_min);
	cr_assert(victims_min || s.victims == 0, "seed %llu: all was put right, and is accused",
	          (unsigned long long)w.seed);
	kit_settle(&w.k);
}

/* The store's answer for a meta: it is right, or there is none. */
static bool meta_served(const struct thing *t)
{
	struct stele_store_list l = {.pool = 1,
	                             .first = t->key.id,
	                             .last = t->key.id,
	                             .kinds = STELE_KIND_BIT(t->key.kind),
	                             .want_meta = true};
	cr_assert_eq(kit_list(&w.k, &l), STELE_OK, "%s", l.detail);
	bool served = false;
	for (uint32_t i = 0; i < l.n; i++) {
		cr_assert(stele_hash_equal(&l.item[i].key.sub, &t->key.sub));
		if (l.item[i].bad || !l.item[i].meta)
			continue;
		cr_assert(l.item[i].meta_len == t->meta_len &&
		              memcmp(l.item[i].meta, t->meta, t->meta_len) == 0,
		          "other bytes");
		served = true;
	}
	stele_store_list_finish(&l);
	return served;
}

static bool has_bytes(const struct thing *t)
{
	return t->key.kind != STELE_ENTRY_REFUSE && t->key.kind != STELE_ENTRY_KEEP;
}

static bool served(const struct thing *t)
{
	if (t->block) {
		enum stele_err err = kit_same(&w.k, t->block, t->key.index);
		cr_assert(err == STELE_OK || err == STELE_ERR_CORRUPT, "%s", stele_detail());
		return err == STELE_OK;
	}
	return has_bytes(t) ? meta_served(t) : kit_have(&w.k, &t->key);
}

/* Before scrub has come by: what a read looks at it also checks. */
static void read_unwarned(void)
{
	for (uint32_t i = 0; i < w.things; i++) {
		const struct thing *t = &w.thing[i];
		if (t->hit && has_bytes(t)) {
			bool there = served(t);
			cr_assert(!there || t->hit_padding,
			          "seed %llu: entry %u of kind %u was served with a flipped bit",
			          (unsigned long long)w.seed, i, t->key.kind);
		}
	}
	kit_settle(&w.k);
}

static void judge_entries(void)
{
	for (uint32_t i = 0; i < w.things; i++) {
		const struct thing *t = &w.thing[i];
		cr_assert_eq(t->named, t->hit, "seed %llu: entry %u of kind %u %s",
		             (unsigned long long)w.seed, i, t->key.kind,
		             t->hit ? "was flipped and not found" : "is sound and accused");
		if (t->hit || rnd(16) == 0)
			cr_assert_eq(served(t), !t->hit, "entry %u of kind %u", i, t->key.kind);
	}
}

/* A bit in every entry. */
static uint32_t pass_entries(void)
{
	map();
	for (uint32_t i = 0; i < w.things; i++) {
		struct thing *t = &w.thing[i];
		uint32_t part = (uint32_t)rnd(t->parts);
		t->hit = rnd(16) != 0; /* the others stay as they are, and must not be accused */
		t->hit_padding = part >= t->bytes;
		if (t->hit)
			flip_in(&t->part[part]);
	}
	uint32_t flips = w.flips;
	if (rnd(2))
		read_unwarned();
	scrub(flips);
	judge_entries();
	undo();
	return flips;
}

/* A bit in the frame of every extent. */
static uint32_t pass_frames(void)
{
	for (uint32_t x = 1; x <= EXTENTS; x++) {
		uint32_t n = 0, end_of = w.frames;
		for (uint32_t i = 0; i < w.frames; i++) {
			n += w.frame[i].extent == x;
			end_of = w.frame[i].extent == x ? i : end_of;
		}
		if (!n || rnd(16) == 0)
			continue;
		/* a spot of one extent follows the other; footer, trailer and header are few among many batches */
		uint32_t first = end_of + 1 - n;
		uint32_t spot = rnd(2) ? first + (uint32_t)rnd(n)
		                       : (uint32_t[]){first, end_of, end_of - 1}[rnd(3)];
		flip_in(&w.frame[spot]);
		w.extent_hit[x] = true;
	}
	uint32_t flips = w.flips;
	scrub(flips);
	for (uint32_t x = 1; x <= EXTENTS; x++)
		cr_assert_eq(w.extent_named[x], w.extent_hit[x], "seed %llu: extent %u %s",
		             (unsigned long long)w.seed, x,
		             w.extent_hit[x] ? "was flipped and not found"
		                             : "is sound and accused");
	for (uint32_t i = 0; i < w.things; i++) {
		cr_assert_not(w.thing[i].named, "entry %u is sound and accused", i);
		if (rnd(64) == 0)
			cr_assert(served(&w.thing[i]), "entry %u: %s", i, stele_detail());
	}
	undo();
	return flips;
}

/* ---- the tests ---- */

static uint32_t begin(uint32_t share)
{
	const char *many = getenv("STELE_FLIPS"), *seed = getenv("STELE_SEED");
	w.seed = w.rnd = seed ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * 7919;
	fprintf(stderr, "seed %llu\n", (unsigned long long)w.seed);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint64_t len = i % 32 == 0 ? 300000 : i % 8 == 0 ? 90000 : 6000;
		kit_block_make(&blocks[i], i % 3 ? "rs-4-2" : "rep-2", 1 + kit_mix(i) % len, i);
	}
	return (uint32_t)((many ? strtoull(many, NULL, 10) : 100000) * share / 100);
}

Test(flips, in_entries_of_sealed_extents)
{
	uint32_t want = begin(70), done = 0;
	start(THINGS, 1, true);
	while (done < want) {
		done += pass_entries();
		forget();
		scrub(0);
	}
	end();
}

Test(flips, in_entries_while_the_extent_is_open)
{
	uint32_t want = begin(15), done = 0;
	while (done < want) {
		start(256, 1, false);
		done += pass_entries();
		end();
	}
}

Test(flips, in_frames)
{
	uint32_t want = begin(15), done = 0;
	start(THINGS, 24, true);
	map();
	while (done < want) {
		done += pass_frames();
		if (rnd(32) == 0)
			scrub(0);
	}
	end();
}

/* Frames that are heads of batches are taken to the front. */
static uint32_t find_heads(void)
{
	uint32_t heads = 0;
	for (uint32_t i = 0; i < w.frames; i++) {
		struct spot spot = w.frame[i];
		char magic[4];
		cr_assert_eq(stele_file_pread(w.k.env, w.fd[spot.extent], magic, 4, spot.off),
		             STELE_OK);
		if (spot.off % STELE_PAGE == 0 && memcmp(magic, "STLB", 4) == 0) {
			w.frame[i] = w.frame[heads];
			w.frame[heads++] = spot;
		}
	}
	return heads;
}

/* With the index everything is served still. Without it, what the batch held is not known, and the extent is named. */
Test(flips, in_a_head_before_a_restart)
{
	uint32_t want = begin(1) / 5;
	for (uint32_t done = 0; done < want; done++) {
		bool lose = rnd(4) == 0;
		start(16u << rnd(3), 1, false);
		map();
		uint32_t heads = find_heads();
		flip_in(&w.frame[rnd(2) ? heads - 1 : rnd(heads)]);
		kit_reopen(&w.k);
		if (lose)
			forget();
		for (uint32_t life = 0; life < 2; life++) {
			uint32_t absent = 0;
			for (uint32_t i = 0; i < w.things; i++) {
				const struct thing *t = &w.thing[i];
				absent += !kit_have(&w.k, &t->key);
				if (!lose)
					cr_assert(served(t), "seed %llu: entry %u of kind %u: %s",
					          (unsigned long long)w.seed, i, t->key.kind,
					          stele_detail());
			}
			cr_assert(lose || !absent);
			scrub(1);
			for (uint32_t i = 0; i < w.things; i++)
				cr_assert_not(w.thing[i].named,
				              "seed %llu: entry %u of kind %u is accused",
				              (unsigned long long)w.seed, i, w.thing[i].key.kind);
			cr_assert(w.extent_named[1], "seed %llu: %u entries are lost, unnamed",
			          (unsigned long long)w.seed, absent);
			w.extent_named[1] = false;
			put_others(10000 + life); /* the log goes on, over nothing */
			kit_reopen(&w.k);
		}
		end();
	}
}

/* ---- sectors that cannot be read ---- */

static struct spot bad[2]; /* pages; neighbours if there are two */
static uint32_t nbad;

static bool in_page(const struct spot *s, const struct spot *page)
{
	return s->extent == page->extent && s->off < page->off + STELE_PAGE &&
	       page->off < s->off + s->len;
}

static bool is_bad(const struct spot *s)
{
	bool yes = false;
	for (uint32_t i = 0; i < nbad; i++)
		yes = yes || in_page(s, &bad[i]);
	return yes;
}

static bool touched(const struct thing *t)
{
	bool yes = false;
	for (uint32_t i = 0; i < t->parts; i++)
		yes = yes || is_bad(&t->part[i]);
	return yes;
}

/* Of a batch whose head is in one of them only the index knows, if it does. */
static bool headless(const struct thing *t)
{
	const struct spot head = {t->part[0].extent, STELE_BATCH_HEAD, t->batch};
	return is_bad(&head);
}

/* Some of what is stored lies in the page. */
static bool counts(const struct spot *page)
{
	bool yes = false;
	for (uint32_t i = 0; i < w.frames; i++)
		yes = yes || in_page(&w.frame[i], page);
	for (uint32_t i = 0; i < w.things; i++)
		for (uint32_t k = 0; k < w.thing[i].parts; k++)
			yes = yes || in_page(&w.thing[i].part[k], page);
	return yes;
}

static void pick_pages(void)
{
	struct spot *page = bad;
	nbad = 1 + (rnd(4) == 0);
	do {
		const struct thing *t = &w.thing[rnd(w.things)];
		*page = rnd(2) ? w.frame[rnd(w.frames)] : t->part[rnd(t->parts)];
		page->off = (page->off + rnd(page->len)) / STELE_PAGE * STELE_PAGE;
		if (rnd(4) == 0) /* header, footer or trailer, which are few among many batches */
			page->off = rnd(2) ? 0 : w.vol.extent_len - STELE_PAGE * (1 + rnd(2));
	} while (!counts(page));
	page->len = STELE_PAGE;
	bad[1] = bad[0];
	bad[1].off += page->off + STELE_PAGE < w.vol.extent_len ? STELE_PAGE : 0;
}

static void spoil(bool yes)
{
	char path[STELE_PATH_MAX];
	for (uint32_t i = 0; i < nbad; i++)
		cr_assert(stele_sim_spoil(w.sim, "disk",
		                          stele_extent_path(&w.vol, bad[i].extent, path),
		                          bad[i].off, yes));
}

static bool can_be_read(const struct spot *page)
{
	int fd;
	uint8_t b;
	char path[STELE_PATH_MAX];
	cr_assert_eq(stele_file_open(w.k.env, stele_extent_path(&w.vol, page->extent, path),
	                             STELE_OPEN_READ, 0, &fd),
	             STELE_OK);
	enum stele_err err = stele_file_pread(w.k.env, fd, &b, 1, page->off);
	stele_file_close(w.k.env, &fd);
	return err == STELE_OK;
}

static void put_cb(struct stele_store_write *write)
{
	cr_assert_eq(write->err, STELE_OK, "%s", write->detail);
	kit_woken(write->ctx);
}

/* Shards and records at the same moment: they share batches, and no batch knows that another is durable. */
static void put_at_once(void)
{
	enum { SHARDS = 4, N = 24 };
	static struct stele_store_write write[N];
	static struct stele_item item[N];
	static struct iovec iov[SHARDS];
	uint8_t *meta[SHARDS];
	for (uint32_t i = 0; i < N; i++) {
		struct thing *t = &w.thing[w.things++];
		item[i] = thing_item(t, STELE_ENTRY_RECORD, 50000 + i);
		if (i % 6 == 0) {
			struct kit_block *b = &blocks[BLOCKS - 1 - i / 6];
			uint32_t len;
			uint8_t *m = meta[i / 6] = kit_meta(b, 0, &len);
			iov[i / 6] = (struct iovec){b->shard[0], b->d.S};
			*t = (struct thing){.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 0),
			                    .block = b};
			item[i] = (struct stele_item){.key = t->key,
			                              .meta = m,
			                              .meta_len = len,
			                              .data = &iov[i / 6],
			                              .ndata = 1,
			                              .data_len = b->d.S};
		}
		write[i] =
		    (struct stele_store_write){.item = &item[i], .n = 1, .cb = put_cb, .ctx = &w.k};
		w.k.waiting++;
		stele_store_write(w.k.store, &write[i]);
	}
	kit_run(&w.k);
	for (uint32_t i = 0; i < SHARDS; i++)
		free(meta[i]);
}

/* kill -9: what was written is there, and the index is what was last flushed. */
static void kill_disk(void)
{
	unmap();
	stele_sim_kill(w.sim, "disk");
	stele_store_close(w.k.store);
	while (stele_sim_step(w.sim))
		;
	stele_env_destroy(w.k.env);
	stele_kv_world_crash(w.k.world, w.k.dir, rnd(1000), 12);
	cr_assert_eq(stele_sim_env(w.sim, "disk", &w.k.env), STELE_OK);
	w.k.opts.env = w.vol.env = w.k.env;
}

/* What fills an extent up before it is sealed may lie in the page as well. */
static void victim_or_filler(struct stele_store_scrub *s, const struct stele_key *key,
                             const char *why)
{
	if (key->kind == STELE_ENTRY_RECORD && !find_thing(key))
		w.filler_named = true;
	else
		victim(s, key, why);
}

/* knows: the index had everything. */
static void judge_sectors(bool knows, uint32_t life)
{
	unsigned long long seed = w.seed;
	uint32_t x = bad[0].extent;
	bool whole = can_be_read(&bad[0]) && can_be_read(&bad[nbad - 1]);
	struct stele_store_scrub s = {.victim = victim_or_filler, .deep = rnd(4) == 0};
	cr_assert_eq(kit_scrub(&w.k, &s), STELE_OK, "%s", s.detail);
	kit_settle(&w.k);
	bool accused = w.extent_named[x] || w.filler_named;
	for (uint32_t i = 0; i < w.things; i++) {
		const struct thing *t = &w.thing[i];
		bool there = kit_have(&w.k, &t->key) && served(t);
		accused = accused || t->named;
		if (!touched(t) && (knows || !headless(t))) {
			cr_assert(there, "seed %llu: life %u: entry %u of kind %u: %s", seed, life,
			          i, t->key.kind, stele_detail());
			cr_assert_not(t->named,
			              "seed %llu: life %u: entry %u of kind %u is accused", seed,
			              life, i, t->key.kind);
		}
		cr_assert(there || t->named || w.extent_named[x],
		          "seed %llu: life %u: entry %u of kind %u is lost, unnamed", seed, life, i,
		          t->key.kind);
		w.thing[i].named = false;
	}
	cr_assert(whole || accused, "seed %llu: life %u: a sector that cannot be read, unnamed",
	          seed, life);
	memset(w.extent_named, 0, sizeof(w.extent_named));
	w.filler_named = false;
}

/* False: what the extent was cannot be told, for two of its pages. Nothing has been done to it. */
static bool open_or_refuse(void)
{
	if (stele_store_open(&w.k.opts, &w.k.store) == STELE_OK)
		return true;
	cr_assert(nbad == 2 && bad[0].off == 0, "seed %llu: %s", (unsigned long long)w.seed,
	          stele_detail());
	spoil(false);
	kit_open(&w.k);
	for (uint32_t i = 0; i < w.things; i++)
		cr_assert(served(&w.thing[i]), "seed %llu: entry %u: %s",
		          (unsigned long long)w.seed, i, stele_detail());
	return false;
}

static void lose_index(void)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/index", w.k.dir);
	cr_assert_eq(stele_kv_destroy_dir(w.k.kv, w.k.world, path), STELE_OK);
}

/* Whatever lies in it, the disk opens, and what lies elsewhere is served; so it is when the sector can be read again. */
Test(flips, in_a_sector_that_cannot_be_read_any_more)
{
	uint32_t want = begin(1) / 5, refused = 0;
	for (uint32_t done = 0; done < want; done++) {
		bool lose = rnd(4) == 0, dies = rnd(2) == 0;
		start(16u << rnd(3), 1 + (uint32_t)rnd(2), rnd(4) == 0);
		put_at_once();
		map();
		pick_pages();
		if (dies)
			kill_disk();
		else
			kit_close(&w.k);
		if (lose)
			lose_index();
		spoil(true);
		uint64_t heals = rnd(6); /* never; in this life, or between two */
		bool opens = open_or_refuse();
		refused += !opens;
		for (uint32_t life = 0; opens && life < 3; life++) {
			if (life)
				kit_open(&w.k);
			judge_sectors(!lose && !dies, life);
			if (heals == life) {
				spoil(false);
				judge_sectors(!lose && !dies, life);
			}
			put_others(10000 + life);
			w.things -= 4;
			kit_close(&w.k);
			if (heals == 3 + life)
				spoil(false);
		}
		if (opens)
			kit_open(&w.k);
		end();
	}
	cr_assert_lt(refused, 1 + want / 10, "%u of %u", refused, want);
}

static void set_bad(uint64_t first, uint64_t second)
{
	nbad = 2;
	bad[0] = (struct spot){1, STELE_PAGE, first};
	bad[1] = (struct spot){1, STELE_PAGE, second};
	spoil(true);
}

static void expect_all(bool yes)
{
	for (uint32_t i = 0; i < w.things; i++)
		cr_assert_eq(kit_have(&w.k, &w.thing[i].key), yes, "entry %u", i);
}

static void expect_refused(void)
{
	cr_assert_eq(stele_store_open(&w.k.opts, &w.k.store), STELE_ERR_IO);
	cr_assert(strstr(stele_detail(), "extent 00000001: its header does not check"), "%s",
	          stele_detail());
	spoil(false);
}

/* An extent with one batch, of which neither header nor head can be read, is not taken for one that was being made. */
Test(flips, an_extent_is_not_thrown_away_because_it_cannot_be_read)
{
	begin(1);
	start(0, 1, false);
	put_others(1);
	map();
	kit_close(&w.k);
	set_bad(0, STELE_PAGE);
	expect_refused();
	kit_open(&w.k);
	expect_all(true);
	end();
}

/* What an extent held before it was begun anew does not come back because header and copy cannot be read. */
Test(flips, left_overs_do_not_come_back_because_a_header_cannot_be_read)
{
	begin(1);
	start(0, 1, false);
	put_others(1);
	kit_seal(&w.k);
	map();
	kit_close(&w.k);
	struct stele_extent x;
	cr_assert_eq(stele_extent_open(&w.vol, 1, &x), STELE_OK);
	cr_assert_eq(stele_extent_recycle(&w.vol, &x), STELE_OK);
	stele_extent_close(&w.vol, &x);
	lose_index();
	set_bad(0, w.vol.extent_len - STELE_PAGE);
	expect_refused();
	kit_open(&w.k);
	expect_all(false);
	end();
}

/* The log does not go on in an extent that may be sealed: what it says of itself would hide the rest. */
Test(flips, an_extent_of_which_the_trailer_cannot_be_read_is_not_written_on)
{
	begin(1);
	start(0, 1, false);
	for (uint32_t i = 1; i < 4; i++)
		put_others(i);
	map();
	kit_close(&w.k);
	set_bad(2 * STELE_PAGE, 2 * STELE_PAGE); /* a head: it is sealed with room left */
	kit_open(&w.k);
	kit_close(&w.k);
	spoil(false);
	set_bad(w.vol.extent_len - STELE_PAGE, w.vol.extent_len - STELE_PAGE);
	kit_open(&w.k);
	for (uint32_t i = 4; i < 8; i++)
		put_others(i);
	kit_close(&w.k);
	spoil(false);
	lose_index();
	kit_open(&w.k);
	for (uint32_t i = 12; i < w.things; i++)
		cr_assert(kit_have(&w.k, &w.thing[i].key), "entry %u", i);
	end();
}
