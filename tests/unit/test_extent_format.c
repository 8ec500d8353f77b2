/*
 * Goal: what lies on disks stays readable: every structure's bytes are those of tests/golden/disk.txt, decode to
 * the same fields, and any flipped bit, any other place and any other salt is refused.
 */
#include <criterion/criterion.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/deposit.h"
#include "storage/base/sha256.h"
#include "storage/store_private.h"

#define EXTENT_LEN UINT64_C(0x4000000)

static struct stele_salt salt;

static void fill(void *p, size_t len, uint8_t from)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)p)[i] = (uint8_t)(from + i);
}

/* A TOMB's: its victim, a SHARD. */
static struct stele_key key_of(uint8_t kind)
{
	bool shard = kind == STELE_ENTRY_SHARD || kind == STELE_ENTRY_TOMB;
	struct stele_key k = {.pool = 0x0102, .kind = kind};
	fill(&k.id, 32, 0x20);
	if (!shard)
		fill(&k.sub, 32, 0x60);
	if (shard || kind == STELE_ENTRY_KEEP)
		k.index = 4;
	return k;
}

static uint32_t meta_len_of(uint8_t kind)
{
	static const uint32_t len[] = {
	    [STELE_ENTRY_SHARD] = 1000,           [STELE_ENTRY_REF] = 32,
	    [STELE_ENTRY_RECORD] = 700,           [STELE_ENTRY_MARK] = 500,
	    [STELE_ENTRY_TOMB] = STELE_TOMB_META, [STELE_ENTRY_KEEP] = 8};
	return len[kind];
}

static const struct stele_place batch_place = {3, 5, 7 * STELE_PAGE};
static const struct stele_place entry_place = {3, 5, 7 * STELE_PAGE + 64};

static struct stele_superblock superblock(void)
{
	struct stele_superblock s = {.version = STELE_DISK_VERSION,
	                             .salt = salt,
	                             .incarnation = 9,
	                             .extent_len = EXTENT_LEN,
	                             .lsn_floor = 1234};
	fill(&s.disk, 16, 0xa0);
	fill(&s.cluster, 32, 0xc0);
	return s;
}

static struct stele_extent_head extent_head(void)
{
	struct stele_extent_head h = {
	    .extent = 3, .cycle = 5, .salt = salt, .first_lsn = 77, .extent_len = EXTENT_LEN};
	fill(&h.disk, 16, 0xa0);
	return h;
}

static const struct stele_batch_head batch_head = {.place = {3, 5, 7 * STELE_PAGE},
                                                   .lsn = 0x1122334455,
                                                   .durable_lsn = 0x1122334450,
                                                   .len = 0x16000,
                                                   .meta_len = 0x4000,
                                                   .entries = 2,
                                                   .meta_crc = 0xdeadbeef};

static struct stele_entry_head entry_head(uint8_t kind)
{
	struct stele_entry_head h = {.place = entry_place,
	                             .key = key_of(kind),
	                             .birth_lsn = 0x1122334455,
	                             .meta_len = meta_len_of(kind),
	                             .meta_crc = 0x01020304};
	if (kind == STELE_ENTRY_SHARD) {
		h.hot_len = 300;
		h.hot_crc = 0x05060708;
		h.data_len = 70016;
		h.data_off = 11 * STELE_PAGE;
	}
	return h;
}

/* How a structure is made, where its kind alone does not say it. */
#define TOMB 0x80u /* the item of a tombstone of the kind */
#define ANY  0x40u /* whose victim may lie in any extent */

static struct stele_item_at item(uint8_t as)
{
	uint8_t kind = as & 0x0f;
	struct stele_item_at it = {.key = key_of(kind),
	                           .tomb = as & TOMB,
	                           .birth_lsn = 0x1122334455,
	                           .extent = 3,
	                           .off = entry_place.off,
	                           .meta_len = meta_len_of(kind)};
	if (it.tomb) {
		it.victim_lsn = 0x1122334400;
		it.only = as & ANY ? 0 : 0x0a0b0c;
		it.meta_len = STELE_TOMB_META;
	} else if (kind == STELE_ENTRY_SHARD) {
		it.hot_len = 300;
		it.data_off = 11 * STELE_PAGE;
		it.data_len = 70016;
	}
	return it;
}

static const struct stele_footer_head footer_head = {
    .place = {3, 5, 9 * STELE_PAGE}, .chunk = 1, .n = 17, .len = STELE_PAGE, .crc = 0xcafe0001};

static const struct stele_trailer trailer = {.extent = 3,
                                             .cycle = 5,
                                             .first_lsn = 77,
                                             .last_lsn = 99,
                                             .end = 8 * STELE_PAGE,
                                             .footer_off = 8 * STELE_PAGE,
                                             .chunks = 2,
                                             .items = 699};

static void init(void)
{
	fill(&salt, sizeof(salt), 1);
}

struct structure {
	const char *name;
	size_t check; /* where its check8 lies, which is its end; 0: it has none */
	uint8_t as;   /* an entry's kind, or whatever else tells structures of one codec apart */
	size_t (*encode)(uint8_t as, uint8_t *out); /* into a page of rubbish; its length */
	bool (*decode)(uint8_t as, const uint8_t *in,
	               size_t len); /* to the fields it was made from? */
};

#define SAME(a, b) (memcmp(&(a), &(b), sizeof(a)) == 0)

static bool same_key(const struct stele_key *a, const struct stele_key *b)
{
	return stele_key_equal(a, b); /* kind, pool, index, id and sub */
}

/* ---- the frame of a disk ---- */

static size_t superblock_encode(uint8_t as, uint8_t *out)
{
	struct stele_superblock s = superblock();
	(void)as;
	stele_superblock_encode(&s, out);
	return STELE_PAGE;
}
static bool superblock_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_superblock s = superblock(), got;
	(void)as;
	memset(&got, 0, sizeof(got));
	return len == STELE_PAGE && stele_superblock_decode(in, &got) == STELE_OK &&
	       got.version == s.version && got.features == 0 && SAME(got.disk, s.disk) &&
	       SAME(got.cluster, s.cluster) && SAME(got.salt, s.salt) &&
	       got.incarnation == s.incarnation && got.extent_len == s.extent_len &&
	       got.lsn_floor == s.lsn_floor;
}
/* as 0: of an extent that is prepared. */
static size_t extent_encode(uint8_t as, uint8_t *out)
{
	struct stele_extent_head h = extent_head();
	h.first_lsn = as ? h.first_lsn : 0;
	stele_extent_head_encode(&h, out);
	return STELE_PAGE;
}
static bool extent_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_extent_head h = extent_head(), got;
	return len == STELE_PAGE && stele_extent_head_decode(in, &salt, &got) && got.extent == 3 &&
	       got.cycle == 5 && SAME(got.disk, h.disk) && SAME(got.salt, salt) &&
	       got.first_lsn == (as ? 77 : 0) && got.extent_len == EXTENT_LEN;
}
static size_t batch_encode(uint8_t as, uint8_t *out)
{
	(void)as;
	stele_batch_head_encode(&batch_head, &salt, out);
	return STELE_BATCH_HEAD;
}
static bool batch_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_batch_head g;
	(void)as;
	return len == STELE_BATCH_HEAD &&
	       stele_batch_head_decode(in, &salt, &batch_place, EXTENT_LEN, &g) &&
	       g.lsn == batch_head.lsn && g.durable_lsn == batch_head.durable_lsn &&
	       g.len == batch_head.len && g.meta_len == batch_head.meta_len &&
	       g.entries == batch_head.entries && g.meta_crc == batch_head.meta_crc;
}
static size_t entry_encode(uint8_t as, uint8_t *out)
{
	struct stele_entry_head h = entry_head(as);
	stele_entry_head_encode(&h, &salt, out);
	return STELE_ENTRY_HEAD;
}
static bool entry_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_entry_head h = entry_head(as), g;
	return len == STELE_ENTRY_HEAD &&
	       stele_entry_head_decode(in, &salt, &entry_place, EXTENT_LEN, &g) &&
	       same_key(&g.key, &h.key) && g.birth_lsn == h.birth_lsn && g.meta_len == h.meta_len &&
	       g.meta_crc == h.meta_crc && g.hot_len == h.hot_len && g.hot_crc == h.hot_crc &&
	       g.data_len == h.data_len && g.data_off == h.data_off;
}
static size_t footer_encode(uint8_t as, uint8_t *out)
{
	(void)as;
	stele_footer_head_encode(&footer_head, &salt, out);
	return STELE_FOOTER_HEAD;
}
static bool footer_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_footer_head g;
	(void)as;
	return len == STELE_FOOTER_HEAD &&
	       stele_footer_head_decode(in, &salt, &footer_head.place, EXTENT_LEN, &g) &&
	       g.chunk == 1 && g.n == 17 && g.len == STELE_PAGE && g.crc == 0xcafe0001;
}
static bool same_item(const struct stele_item_at *a, const struct stele_item_at *b)
{
	return same_key(&a->key, &b->key) && a->tomb == b->tomb && a->birth_lsn == b->birth_lsn &&
	       a->victim_lsn == b->victim_lsn && a->only == b->only && a->extent == b->extent &&
	       a->off == b->off && a->data_off == b->data_off && a->data_len == b->data_len &&
	       a->meta_len == b->meta_len && a->hot_len == b->hot_len && a->bad == b->bad &&
	       a->moved == b->moved && a->others == b->others;
}
static size_t item_encode(uint8_t as, uint8_t *out)
{
	struct stele_item_at it = item(as);
	stele_footer_item_encode(&it, out);
	return STELE_FOOTER_ITEM;
}
static bool item_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_item_at it = item(as), got;
	return len == STELE_FOOTER_ITEM && stele_footer_item_decode(in, 3, EXTENT_LEN, &got) &&
	       same_item(&it, &got);
}
static size_t trailer_encode(uint8_t as, uint8_t *out)
{
	(void)as;
	stele_trailer_encode(&trailer, &salt, out);
	return STELE_PAGE;
}
static bool trailer_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_trailer g;
	(void)as;
	return len == STELE_PAGE && stele_trailer_decode(in, &salt, 3, 5, EXTENT_LEN, &g) &&
	       g.first_lsn == 77 && g.last_lsn == 99 && g.end == trailer.end &&
	       g.footer_off == trailer.footer_off && g.chunks == 2 && g.items == 699;
}

/* ---- metas of entries ---- */

static size_t tomb_encode(uint8_t as, uint8_t *out)
{
	struct stele_tomb_meta t = {STELE_ENTRY_SHARD, 4, 0x1122334400, as & ANY ? 0 : 0x0a0b0c};
	stele_tomb_meta_encode(&t, out);
	return STELE_TOMB_META;
}
static bool tomb_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_tomb_meta t;
	return stele_tomb_meta_decode(in, (uint32_t)len, &t) && t.kind == STELE_ENTRY_SHARD &&
	       t.index == 4 && t.victim_lsn == 0x1122334400 && t.only == (as & ANY ? 0 : 0x0a0b0c);
}

static struct stele_descriptor descriptor(uint8_t family)
{
	static const struct stele_code_id code[] = {[STELE_CODE_REP] = {STELE_CODE_REP, 1, 2, 0},
	                                            [STELE_CODE_RS] = {STELE_CODE_RS, 4, 2, 0},
	                                            [STELE_CODE_LRC] = {STELE_CODE_LRC, 4, 3, 2}};
	struct stele_descriptor d;
	cr_assert_eq(stele_descriptor_init(&d, &code[family], 123456), STELE_OK);
	for (uint32_t i = 0; i < stele_descriptor_roots(&d); i++)
		fill(&d.root[i], 32, (uint8_t)(0x10 * i));
	return d;
}
static size_t descriptor_encode(uint8_t as, uint8_t *out)
{
	struct stele_descriptor d = descriptor(as);
	return stele_descriptor_encode(&d, out);
}
static bool descriptor_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_descriptor d = descriptor(as), got;
	return stele_descriptor_decode(in, len, &got) == STELE_OK && SAME(got, d);
}

static struct stele_layout layout(struct stele_piece piece[2])
{
	for (uint8_t i = 0; i < 2; i++) {
		piece[i] = (struct stele_piece){.off = 0x010203u * i, .len = 0x0a0b0c + i};
		fill(&piece[i].block, 32, (uint8_t)(0x20 + 0x20 * i));
	}
	return (struct stele_layout){.generation = 0, .npieces = 2, .piece = piece};
}
static bool same_layout(const struct stele_layout *a, const struct stele_layout *b)
{
	bool same = a->generation == b->generation && a->npieces == b->npieces;
	for (uint32_t i = 0; same && i < a->npieces; i++)
		same = stele_hash_equal(&a->piece[i].block, &b->piece[i].block) &&
		       a->piece[i].off == b->piece[i].off && a->piece[i].len == b->piece[i].len;
	return same;
}
static size_t layout_encode(uint8_t as, uint8_t *out)
{
	struct stele_piece piece[2];
	struct stele_layout l = layout(piece);
	l.generation = as;
	return stele_layout_encode(&l, out);
}
static bool layout_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_piece piece[2], got_piece[2];
	struct stele_layout l = layout(piece), got;
	size_t used;
	l.generation = as;
	return stele_layout_decode(in, len, &got, got_piece, 2, &used) == STELE_OK && used == len &&
	       same_layout(&got, &l);
}

static struct stele_secret_key depositor(void)
{
	struct stele_secret_key key;
	uint8_t seed[32];
	fill(seed, 32, 0x80);
	stele_key_from_seed(&key, seed);
	return key;
}

/* as 0: a small object, in the record itself; else one of two pieces. */
static size_t record_encode(uint8_t as, uint8_t *out)
{
	struct stele_piece piece[2];
	struct stele_secret_key key = depositor();
	struct stele_record r = {.inline_bytes = (const uint8_t *)"abc", .inline_len = 3};
	struct stele_deposit d = {.type = STELE_DEPOSIT_EVIDENCE,
	                          .length = 3,
	                          .pool = "evidence",
	                          .depositor = key.pub,
	                          .time = 1759680000};
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	fill(&d.cluster, 32, 0xc0);
	fill(&d.nonce, 32, 0x40);
	stele_sha256("abc", 3, &d.object);
	stele_sha256_cells("abc", 3, &d.tree);
	if (as) {
		r.inline_len = 0;
		r.layout = layout(piece);
		d.length = stele_layout_total(&r.layout);
		d.has_layout = true;
		stele_layout_hash(&r.layout, &d.layout);
	}
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK, "%s", stele_detail());
	r.text = text;
	r.text_len = (uint32_t)len;
	stele_sign(&key, text, len, &r.sig);
	cr_assert_eq(stele_record_encode(&r, out, &len), STELE_OK, "%s", stele_detail());
	return len;
}
static bool record_decode(uint8_t as, const uint8_t *in, size_t len)
{
	static struct stele_piece got_piece[STELE_PIECES_MAX];
	struct stele_piece piece[2];
	struct stele_layout l = layout(piece);
	struct stele_secret_key key = depositor();
	struct stele_record r;
	if (stele_record_decode(in, len, true, &r, got_piece) || stele_record_check_sig(&r))
		return false;
	const struct stele_deposit *d = &r.deposit;
	bool same = d->type == STELE_DEPOSIT_EVIDENCE && SAME(d->depositor, key.pub) &&
	            d->time == 1759680000 && strcmp(d->pool, "evidence") == 0 &&
	            d->cluster.b[0] == 0xc0 && d->nonce.b[31] == 0x5f && d->has_layout == (as != 0);
	if (as)
		return same && same_layout(&r.layout, &l) && r.inline_len == 0;
	return same && r.layout.npieces == 0 && r.inline_len == 3 &&
	       memcmp(r.inline_bytes, "abc", 3) == 0;
}

static const char mark_text[] =
    "stele.dev/mark/v1\n"; /* what the text says is test_mark's affair */
static size_t mark_encode(uint8_t as, uint8_t *out)
{
	struct stele_sig sig;
	size_t len;
	(void)as;
	fill(&sig, sizeof(sig), 0x80);
	cr_assert_eq(stele_mark_pack(mark_text, strlen(mark_text), &sig, out, &len), STELE_OK);
	return len;
}
static bool mark_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_sig want, sig;
	const char *text;
	size_t text_len;
	(void)as;
	fill(&want, sizeof(want), 0x80);
	return stele_mark_unpack(in, len, &text, &text_len, &sig) == STELE_OK && SAME(sig, want) &&
	       text_len == strlen(mark_text) && memcmp(text, mark_text, text_len) == 0;
}

/* ---- the index ---- */

static struct stele_key index_key_of(uint8_t kind)
{
	struct stele_key k = key_of(kind);
	return stele_key_short(&k);
}
static size_t index_key_encode(uint8_t as, uint8_t *out)
{
	struct stele_key k = key_of(as);
	return stele_index_key(STELE_INDEX_ENTRY, &k, out);
}
static bool index_key_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_key k = index_key_of(as), got;
	return stele_index_key_decode(in, len, &got) && same_key(&got, &k);
}

/* A tombstone's, or a SHARD's with one more of the flags. */
static struct stele_item_at index_item(uint8_t as)
{
	struct stele_item_at it = item(as & TOMB ? as : STELE_ENTRY_SHARD);
	it.bad = as == 1;
	it.moved = as == 2;
	it.others = as == 3;
	return it;
}
static size_t index_value_encode(uint8_t as, uint8_t *out)
{
	struct stele_item_at it = index_item(as);
	stele_index_value_encode(&it, out);
	return STELE_INDEX_VALUE;
}
static bool index_value_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_item_at it = index_item(as), got = {.key = it.key};
	return stele_index_value_decode(in, len, &got) && same_item(&it, &got);
}

static size_t index_feed_encode(uint8_t as, uint8_t *out)
{
	struct stele_key k = key_of(as);
	return stele_index_feed_key(0x1122334455, &k, out);
}
static bool index_feed_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_key k = key_of(as), got;
	uint64_t birth;
	return stele_index_feed_decode(in, len, &birth, &got) && birth == 0x1122334455 &&
	       same_key(&got, &k);
}

/* What has no codec of its own: a key and its value behind it, as the kv has them. */
static struct stele_kv_world *world;
static struct stele_store store; /* only its index */

static enum stele_err index_begin(struct stele_index_state *state)
{
	cr_assert_eq(stele_kv_world_create(&world), STELE_OK);
	return stele_index_open(&stele_kv_memory, world, "/index", &store.index, state);
}
static void index_end(void)
{
	stele_index_close(&store.index);
	stele_kv_world_destroy(world);
}
static size_t index_take(const uint8_t *key, size_t key_len, uint8_t *out)
{
	size_t len;
	memcpy(out, key, key_len);
	cr_assert_eq(stele_kv_get(store.index.kv, key, key_len, out + key_len, 128, &len),
	             STELE_OK);
	index_end();
	return key_len + len;
}
/* An index of nothing but this. */
static enum stele_err index_of(const uint8_t *in, size_t len, size_t key_len,
                               struct stele_index_state *state)
{
	struct stele_index_state none;
	struct stele_kv_write w = {in, key_len, in + key_len, len - key_len};
	cr_assert_eq(index_begin(&none), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_kv_write(store.index.kv, &w, 1), STELE_OK);
	stele_index_close(&store.index);
	return stele_index_open(&stele_kv_memory, world, "/index", &store.index, state);
}

static size_t index_state_encode(uint8_t as, uint8_t *out)
{
	uint8_t bytes[STELE_INDEX_STATE_LEN];
	struct stele_index_state st,
	    put = {
	        .watermark = 0x1122334455, .closed_in = 9, .open_extent = 3, .open_end = 0x160000};
	(void)as;
	fill(&put.disk, 16, 0xa0);
	cr_assert_eq(index_begin(&st), STELE_ERR_NOT_FOUND);
	store.index.counts = (struct stele_index_counts){
	    .shards = 1, .refs = 2, .records = 3, .marks = 4, .bad = 5, .bytes = 0x0102030405};
	cr_assert_eq(stele_index_checkpoint_begin(&store.index, &put, bytes), STELE_OK);
	cr_assert_eq(stele_index_checkpoint_end(&store.index, bytes), STELE_OK);
	return index_take((const uint8_t *)"s", 1, out);
}
static bool index_state_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_index_state st;
	struct stele_uuid disk;
	(void)as;
	fill(&disk, 16, 0xa0);
	cr_assert_eq(index_of(in, len, 1, &st), STELE_OK, "%s", stele_detail());
	const struct stele_index_counts *c = &store.index.counts;
	bool same = SAME(st.disk, disk) && st.watermark == 0x1122334455 && st.closed_in == 9 &&
	            st.open_extent == 3 && st.open_end == 0x160000 && c->shards == 1 &&
	            c->refs == 2 && c->records == 3 && c->marks == 4 && c->bad == 5 &&
	            c->bytes == 0x0102030405;
	index_end();
	return same;
}

static size_t index_count_encode(uint8_t as, uint8_t *out)
{
	uint8_t bytes[STELE_INDEX_STATE_LEN];
	struct stele_index_state st, put = {0};
	(void)as;
	cr_assert_eq(index_begin(&st), STELE_ERR_NOT_FOUND);
	uint64_t *live = calloc(0x0203, sizeof(live[0]));
	cr_assert_not_null(live);
	live[0x0202] = 0x1122334455;
	store.index.counts = (struct stele_index_counts){.live = live, .extents = 0x0203};
	cr_assert_eq(stele_index_checkpoint_begin(&store.index, &put, bytes), STELE_OK);
	return index_take((const uint8_t[]){'c', 0, 0, 2, 2}, 5, out);
}
static bool index_count_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_index_state st;
	(void)as;
	cr_assert_eq(index_of(in, len, 5, &st), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_index_load_counts(&store.index), STELE_OK, "%s", stele_detail());
	const struct stele_index_counts *c = &store.index.counts;
	bool same = c->extents > 0x0202 && c->live[0x0202] == 0x1122334455;
	index_end();
	return same;
}

static size_t index_scrub_encode(uint8_t as, uint8_t *out)
{
	struct stele_index_state st;
	struct stele_scrub_memo memo = {.next = 0x0a0b0c, .finished = 1759680000};
	cr_assert_eq(index_begin(&st), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_scrub_save(&store, as, &memo), STELE_OK);
	return index_take((const uint8_t[]){'p', as}, 2, out);
}
static bool index_scrub_decode(uint8_t as, const uint8_t *in, size_t len)
{
	struct stele_index_state st;
	cr_assert_eq(index_of(in, len, 2, &st), STELE_ERR_NOT_FOUND);
	stele_scrub_load(&store);
	bool same = store.scrubbed[as].next == 0x0a0b0c &&
	            store.scrubbed[as].finished == 1759680000 && !store.scrubbed[!as].next;
	index_end();
	return same;
}

#define FRAME(name, check, codec)                                                                  \
	{                                                                                          \
		name, check, 1, codec##_encode, codec##_decode                                     \
	}
#define PART(name, as, codec)                                                                      \
	{                                                                                          \
		name, 0, as, codec##_encode, codec##_decode                                        \
	}
#define ENTRY(name, kind)                                                                          \
	{                                                                                          \
		name, STELE_ENTRY_HEAD - 8, kind, entry_encode, entry_decode                       \
	}
static const struct structure structures[] = {
    FRAME("superblock", STELE_PAGE - 8, superblock),
    FRAME("extent", STELE_PAGE - 8, extent),
    {"extent-prepared", STELE_PAGE - 8, 0, extent_encode, extent_decode},
    FRAME("batch", STELE_BATCH_HEAD - 8, batch),
    ENTRY("entry", STELE_ENTRY_SHARD),
    ENTRY("entry-ref", STELE_ENTRY_REF),
    ENTRY("entry-record", STELE_ENTRY_RECORD),
    ENTRY("entry-mark", STELE_ENTRY_MARK),
    ENTRY("entry-tombstone", STELE_ENTRY_TOMB),
    ENTRY("entry-refuse", STELE_ENTRY_REFUSE),
    ENTRY("entry-keep", STELE_ENTRY_KEEP),
    PART("tombstone", 0, tomb),
    PART("tombstone-any", ANY, tomb),
    PART("descriptor-rep", STELE_CODE_REP, descriptor),
    PART("descriptor-rs", STELE_CODE_RS, descriptor),
    PART("descriptor-lrc", STELE_CODE_LRC, descriptor),
    PART("layout", 0, layout),
    PART("layout-later", 7, layout),
    PART("record-inline", 0, record),
    PART("record-pieces", 1, record),
    PART("mark", 0, mark),
    FRAME("footer", STELE_FOOTER_HEAD - 8, footer),
    PART("item", STELE_ENTRY_SHARD, item),
    PART("item-ref", STELE_ENTRY_REF, item),
    PART("item-record", STELE_ENTRY_RECORD, item),
    PART("item-mark", STELE_ENTRY_MARK, item),
    PART("item-refuse", STELE_ENTRY_REFUSE, item),
    PART("item-keep", STELE_ENTRY_KEEP, item),
    PART("tombstone-item", STELE_ENTRY_REF | TOMB, item),
    PART("tombstone-item-any", STELE_ENTRY_SHARD | TOMB | ANY, item),
    FRAME("trailer", STELE_PAGE - 8, trailer),
    PART("index-key", STELE_ENTRY_SHARD, index_key),
    PART("index-key-ref", STELE_ENTRY_REF, index_key),
    PART("index-key-record", STELE_ENTRY_RECORD, index_key),
    PART("index-key-mark", STELE_ENTRY_MARK, index_key),
    PART("index-key-refuse", STELE_ENTRY_REFUSE, index_key),
    PART("index-key-keep", STELE_ENTRY_KEEP, index_key),
    PART("index-value", 0, index_value),
    PART("index-value-bad", 1, index_value),
    PART("index-value-moved", 2, index_value),
    PART("index-value-others", 3, index_value),
    PART("index-value-tombstone", STELE_ENTRY_REF | TOMB, index_value),
    PART("index-value-tombstone-any", STELE_ENTRY_REF | TOMB | ANY, index_value),
    PART("index-feed", STELE_ENTRY_RECORD, index_feed),
    PART("index-state", 0, index_state),
    PART("index-count", 0, index_count),
    PART("index-scrub", 0, index_scrub),
    PART("index-scrub-deep", 1, index_scrub),
};
#define N (sizeof(structures) / sizeof(structures[0]))

static size_t encode(const struct structure *s, uint8_t bytes[STELE_PAGE])
{
	memset(bytes, 0xee, STELE_PAGE);
	return s->encode(s->as, bytes);
}

/* "name length hex": zeros in runs of 16 and more as "(n)". */
static void as_text(const char *name, const uint8_t *b, size_t len, char *out)
{
	out += sprintf(out, "%s %zu ", name, len);
	for (size_t i = 0; i < len;) {
		size_t zeros = 0;
		while (i + zeros < len && b[i + zeros] == 0)
			zeros++;
		if (zeros >= 16) {
			out += sprintf(out, "(%zu)", zeros);
			i += zeros;
		} else {
			out += sprintf(out, "%02x", b[i++]);
		}
	}
	strcpy(out, "\n");
}

/* The bytes of a line. */
static size_t from_text(const char *line, uint8_t out[STELE_PAGE])
{
	const char *hex = strchr(strchr(line, ' ') + 1, ' ') + 1;
	size_t len = 0;
	unsigned v;
	int used;
	while (sscanf(hex, "(%u)%n", &v, &used) == 1 || sscanf(hex, "%2x%n", &v, &used) == 1) {
		size_t n = *hex == '(' ? v : 1;
		cr_assert_leq(len + n, STELE_PAGE);
		memset(out + len, *hex == '(' ? 0 : (int)v, n);
		len += n;
		hex += used;
	}
	return len;
}

Test(extent_format, bytes_are_the_golden_ones, .init = init)
{
	FILE *f = fopen(STELE_GOLDEN "/disk.txt", "r");
	cr_assert_not_null(f, "%s", STELE_GOLDEN "/disk.txt");
	char golden[3 * STELE_PAGE], text[3 * STELE_PAGE];
	for (size_t i = 0; i < N; i++) {
		const struct structure *s = &structures[i];
		uint8_t bytes[STELE_PAGE];
		as_text(s->name, bytes, encode(s, bytes), text);
		cr_assert_not_null(fgets(golden, sizeof(golden), f), "missing:\n%s", text);
		cr_assert_str_eq(text, golden);
		memset(bytes, 0xee, sizeof(bytes));
		size_t len = from_text(golden, bytes);
		cr_assert(s->decode(s->as, bytes, len), "%s", s->name);
	}
	cr_assert_null(fgets(golden, sizeof(golden), f), "of no structure:\n%s", golden);
	fclose(f);
}

Test(extent_format, a_flipped_bit_never_decodes_to_the_same, .init = init)
{
	for (size_t i = 0; i < N; i++) {
		const struct structure *s = &structures[i];
		uint8_t bytes[STELE_PAGE];
		size_t len = encode(s, bytes);
		for (size_t bit = 0; s->check && bit < 8 * len; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_assert_not(s->decode(s->as, bytes, len), "%s: bit %zu", s->name, bit);
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

Test(extent_format, another_place_or_salt_is_refused, .init = init)
{
	uint8_t batch[STELE_BATCH_HEAD], entry[STELE_ENTRY_HEAD], page[STELE_PAGE];
	struct stele_batch_head b;
	struct stele_entry_head e;
	struct stele_extent_head x;
	batch_encode(0, batch);
	entry_encode(STELE_ENTRY_SHARD, entry);
	extent_encode(1, page);
	const struct stele_place wrong[3] = {{4, 0, 0}, {3, 6, 0}, {3, 5, STELE_PAGE}};
	for (int i = 0; i < 3; i++) {
		struct stele_place p = wrong[i];
		p.off += batch_place.off;
		cr_assert_not(stele_batch_head_decode(batch, &salt, &p, EXTENT_LEN, &b));
		p.off += 64;
		cr_assert_not(stele_entry_head_decode(entry, &salt, &p, EXTENT_LEN, &e));
	}
	struct stele_salt other = salt;
	other.b[15] ^= 1;
	cr_assert_not(stele_batch_head_decode(batch, &other, &batch_place, EXTENT_LEN, &b));
	cr_assert_not(stele_entry_head_decode(entry, &other, &entry_place, EXTENT_LEN, &e));
	cr_assert_not(stele_extent_head_decode(page, &other, &x));
	cr_assert(stele_extent_head_decode(page, NULL, &x), "by its own salt");
	cr_assert_not(stele_batch_head_decode(batch, &salt, &batch_place, batch_place.off, &b));
}

/* Whoever has an entry's header takes the cells' CRCs from the front of its meta. */
Test(extent_format, a_front_too_short_for_its_cells_is_refused, .init = init)
{
	uint8_t bytes[STELE_ENTRY_HEAD];
	struct stele_entry_head h = entry_head(STELE_ENTRY_SHARD), e;
	const uint32_t least = 4 * 2; /* two cells */
	for (h.hot_len = 0; h.hot_len < 2 * least; h.hot_len++) {
		stele_entry_head_encode(&h, &salt, bytes);
		cr_assert_eq(stele_entry_head_decode(bytes, &salt, &entry_place, EXTENT_LEN, &e),
		             h.hot_len >= least, "%u", h.hot_len);
	}
}

/* ---- newer formats ---- */

static const struct structure *structure(const char *name)
{
	size_t i = 0;
	while (i < N && strcmp(structures[i].name, name) != 0)
		i++;
	cr_assert_lt(i, N, "%s", name);
	return &structures[i];
}

/* The structure as a program of the next version would write it: with a check that holds. */
static size_t of_next_version(const char *name, size_t version_at, uint8_t bytes[STELE_PAGE])
{
	const struct structure *s = structure(name);
	size_t len = encode(s, bytes);
	cr_assert_eq(bytes[version_at], STELE_DISK_VERSION);
	bytes[version_at]++;
	if (s->check)
		crypto_shorthash(bytes + s->check, bytes, s->check, salt.b);
	return len;
}

static void refused_by_its_version(enum stele_err err, const char *says)
{
	cr_assert_eq(err, STELE_ERR_VERSION);
	cr_assert(strstr(stele_detail(), says), "%s", stele_detail());
}

Test(extent_format, a_newer_superblock_is_refused_by_its_version, .init = init)
{
	struct stele_superblock s = superblock(), got;
	uint8_t page[STELE_PAGE];
	of_next_version("superblock", 8, page);
	refused_by_its_version(stele_superblock_decode(page, &got),
	                       "disk format 2 (features 0) is newer than this program's 1");
	s.features = 1u << 31;
	stele_superblock_encode(&s, page);
	refused_by_its_version(stele_superblock_decode(page, &got), "features 0x80000000");
	uint32_t version;
	extent_encode(1, page);
	cr_assert_not(stele_extent_head_newer(page, &version));
	page[4]++; /* and its check does not hold: damaged, not newer */
	cr_assert_not(stele_extent_head_newer(page, &version));
}

Test(extent_format, a_newer_extent_is_refused_by_its_version, .init = init)
{
	struct stele_volume v = {.salt = salt, .extent_len = EXTENT_LEN};
	struct stele_extent x;
	uint8_t page[STELE_PAGE];
	char path[STELE_PATH_MAX], cmd[STELE_PATH_MAX + 16];
	strcpy(v.dir, "/tmp/stele-newer-XXXXXX");
	cr_assert_not_null(mkdtemp(v.dir));
	cr_assert_eq(stele_env_threads_create(NULL, &v.env), STELE_OK, "%s", stele_detail());
	fill(&v.disk, 16, 0xa0);
	of_next_version("extent", 4, page);
	FILE *f = fopen(stele_extent_path(&v, 3, path), "w");
	cr_assert(f && fwrite(page, STELE_PAGE, 1, f) == 1 && fclose(f) == 0);
	refused_by_its_version(stele_extent_open(&v, 3, &x),
	                       "extent 00000003: disk format 2 is newer than this program's 1");
	encode(structure("extent"), page); /* of this version it is opened */
	f = fopen(path, "w");
	cr_assert(f && fwrite(page, STELE_PAGE, 1, f) == 1 && fclose(f) == 0);
	cr_assert_eq(stele_extent_open(&v, 3, &x), STELE_OK, "%s", stele_detail());
	stele_extent_close(&v, &x);
	stele_env_destroy(v.env);
	snprintf(cmd, sizeof(cmd), "rm -r '%s'", v.dir);
	cr_assert_eq(system(cmd), 0);
}

/* They lie in an extent whose header has told the version: none of them is taken for one of this version. */
Test(extent_format, newer_structures_of_an_extent_never_count, .init = init)
{
	static const struct {
		const char *name;
		size_t version_at;
	} all[] = {{"batch", 4}, {"footer", 4}, {"trailer", 4}};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct structure *s = structure(all[i].name);
		uint8_t bytes[STELE_PAGE];
		size_t len = of_next_version(all[i].name, all[i].version_at, bytes);
		cr_assert_not(s->decode(s->as, bytes, len), "%s", s->name);
		bytes[all[i].version_at]--;
		crypto_shorthash(bytes + s->check, bytes, s->check, salt.b);
		cr_assert(s->decode(s->as, bytes, len), "%s: not for its version", s->name);
	}
}

Test(extent_format, a_newer_descriptor_or_deposit_is_refused_by_its_version, .init = init)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	struct stele_descriptor d;
	struct stele_record r;
	uint8_t bytes[STELE_PAGE];
	size_t len = encode(structure("descriptor-rs"), bytes);
	cr_assert_eq(bytes[3], '1');
	bytes[3]++;
	cr_assert_eq(stele_descriptor_decode(bytes, len, &d), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "magic is not SBD1"), "%s", stele_detail());
	len = encode(structure("record-inline"), bytes);
	char *v = strstr((char *)bytes + 4, "deposit/v1");
	cr_assert_not_null(v);
	v[9]++;
	cr_assert_eq(stele_record_decode(bytes, len, true, &r, piece), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "stele.dev/deposit/v1"), "%s", stele_detail());
}

Test(extent_format, a_newer_index_is_refused_by_its_version, .init = init)
{
	struct stele_index_state st;
	uint8_t bytes[STELE_PAGE];
	size_t len = encode(structure("index-state"), bytes);
	cr_assert_eq(bytes[1], STELE_INDEX_VERSION);
	bytes[1]++;
	refused_by_its_version(index_of(bytes, len, 1, &st), "index: version 3");
	stele_kv_world_destroy(world);
}

Test(extent_format, index_keys_order_and_come_back, .init = init)
{
	static const uint8_t kinds[] = {STELE_ENTRY_SHARD, STELE_ENTRY_REF,    STELE_ENTRY_RECORD,
	                                STELE_ENTRY_MARK,  STELE_ENTRY_REFUSE, STELE_ENTRY_KEEP};
	uint8_t last[STELE_INDEX_KEY_MAX] = {0}, k[STELE_INDEX_KEY_MAX];
	size_t last_len = 1;
	for (uint32_t i = 0; i < 2 * 2 * sizeof(kinds); i++) {
		struct stele_key key = key_of(kinds[i % 6]), got;
		key.index = 0;
		key.pool = (uint16_t)(i / 12 ? 0x0100 : 0x00ff);
		key.id.b[31] = (uint8_t)(i / 6 % 2);
		if (key.kind == STELE_ENTRY_REF)
			memset(key.sub.b + STELE_REF_SUB, 0, 20);
		size_t len = stele_index_key(STELE_INDEX_ENTRY, &key, k);
		int c = memcmp(k, last, len < last_len ? len : last_len);
		cr_assert(c > 0 || (c == 0 && len > last_len), "%u", i);
		cr_assert(stele_index_key_decode(k, len, &got));
		cr_assert(SAME(got.id, key.id) && SAME(got.sub, key.sub) && got.kind == key.kind &&
		          got.pool == key.pool && got.index == key.index);
		for (size_t cut = 0; cut < len; cut++)
			cr_assert_not(stele_index_key_decode(k, cut, &got));
		memcpy(last, k, len);
		last_len = len;
	}
}
