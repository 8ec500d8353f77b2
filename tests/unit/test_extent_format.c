/*
 * Goal: what lies on disks stays readable: every structure's bytes are those of tests/golden/disk.txt, decode to
 * the same fields, and any flipped bit, any other place and any other salt is refused.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/extent_format.h"

#define EXTENT_LEN UINT64_C(0x4000000)

static struct stele_salt salt;

static void fill(void *p, size_t len, uint8_t from)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)p)[i] = (uint8_t)(from + i);
}

static struct stele_key key_of(uint8_t kind, uint8_t index)
{
	struct stele_key k = {.pool = 0x0102, .kind = kind, .index = index};
	fill(&k.id, 32, 0x20);
	if (kind != STELE_ENTRY_SHARD)
		fill(&k.sub, 32, 0x60);
	return k;
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

static struct stele_entry_head entry_head(void)
{
	return (struct stele_entry_head){.place = entry_place,
	                                 .key = key_of(STELE_ENTRY_SHARD, 4),
	                                 .birth_lsn = 0x1122334455,
	                                 .meta_len = 1000,
	                                 .meta_crc = 0x01020304,
	                                 .hot_len = 300,
	                                 .hot_crc = 0x05060708,
	                                 .data_len = 70016,
	                                 .data_off = 11 * STELE_PAGE};
}

static struct stele_item_at item(bool tomb)
{
	struct stele_item_at it = {
	    .key = key_of(tomb ? STELE_ENTRY_REF : STELE_ENTRY_SHARD, tomb ? 0 : 4),
	    .tomb = tomb,
	    .birth_lsn = 0x1122334455,
	    .extent = 3,
	    .off = entry_place.off,
	    .meta_len = tomb ? STELE_TOMB_META : 1000,
	    .hot_len = tomb ? 0 : 300};
	if (tomb) {
		it.victim_lsn = 0x1122334400;
		it.only = 0x0a0b0c;
	} else {
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
	size_t len;
	bool checked; /* it has a check8 at its end */
	void (*encode)(uint8_t *out);
	bool (*decode)(const uint8_t *in); /* true: it decodes, to the fields it was made from */
};

#define SAME(a, b) (memcmp(&(a), &(b), sizeof(a)) == 0)

static void superblock_encode(uint8_t *out)
{
	struct stele_superblock s = superblock();
	stele_superblock_encode(&s, out);
}
static bool superblock_decode(const uint8_t *in)
{
	struct stele_superblock s = superblock(), got;
	memset(&got, 0, sizeof(got));
	return stele_superblock_decode(in, &got) == STELE_OK && got.version == s.version &&
	       SAME(got.disk, s.disk) && SAME(got.cluster, s.cluster) && SAME(got.salt, s.salt) &&
	       got.incarnation == s.incarnation && got.extent_len == s.extent_len &&
	       got.lsn_floor == s.lsn_floor;
}
static void extent_encode(uint8_t *out)
{
	struct stele_extent_head h = extent_head();
	stele_extent_head_encode(&h, out);
}
static bool extent_decode(const uint8_t *in)
{
	struct stele_extent_head h = extent_head(), got;
	return stele_extent_head_decode(in, &salt, &got) && got.extent == 3 && got.cycle == 5 &&
	       SAME(got.disk, h.disk) && SAME(got.salt, salt) && got.first_lsn == 77 &&
	       got.extent_len == EXTENT_LEN;
}
static void batch_encode(uint8_t *out)
{
	stele_batch_head_encode(&batch_head, &salt, out);
}
static bool batch_decode(const uint8_t *in)
{
	struct stele_batch_head g;
	return stele_batch_head_decode(in, &salt, &batch_place, EXTENT_LEN, &g) &&
	       g.lsn == batch_head.lsn && g.durable_lsn == batch_head.durable_lsn &&
	       g.len == batch_head.len && g.meta_len == batch_head.meta_len &&
	       g.entries == batch_head.entries && g.meta_crc == batch_head.meta_crc;
}
static void entry_encode(uint8_t *out)
{
	struct stele_entry_head h = entry_head();
	stele_entry_head_encode(&h, &salt, out);
}
static bool entry_decode(const uint8_t *in)
{
	struct stele_entry_head h = entry_head(), g;
	return stele_entry_head_decode(in, &salt, &entry_place, EXTENT_LEN, &g) &&
	       SAME(g.key.id, h.key.id) && SAME(g.key.sub, h.key.sub) && g.key.kind == h.key.kind &&
	       g.key.pool == h.key.pool && g.key.index == h.key.index &&
	       g.birth_lsn == h.birth_lsn && g.meta_len == h.meta_len && g.meta_crc == h.meta_crc &&
	       g.hot_len == h.hot_len && g.hot_crc == h.hot_crc && g.data_len == h.data_len &&
	       g.data_off == h.data_off;
}
static void tomb_encode(uint8_t *out)
{
	struct stele_tomb_meta t = {STELE_ENTRY_SHARD, 4, 0x1122334400, 0x0a0b0c};
	stele_tomb_meta_encode(&t, out);
}
static bool tomb_decode(const uint8_t *in)
{
	struct stele_tomb_meta t;
	return stele_tomb_meta_decode(in, STELE_TOMB_META, &t) && t.kind == STELE_ENTRY_SHARD &&
	       t.index == 4 && t.victim_lsn == 0x1122334400 && t.only == 0x0a0b0c;
}
static bool same_item(const struct stele_item_at *a, const struct stele_item_at *b)
{
	return SAME(a->key.id, b->key.id) && SAME(a->key.sub, b->key.sub) &&
	       a->key.kind == b->key.kind && a->key.pool == b->key.pool &&
	       a->key.index == b->key.index && a->tomb == b->tomb && a->birth_lsn == b->birth_lsn &&
	       a->victim_lsn == b->victim_lsn && a->only == b->only && a->extent == b->extent && a->off == b->off &&
	       a->data_off == b->data_off && a->data_len == b->data_len &&
	       a->meta_len == b->meta_len && a->hot_len == b->hot_len;
}
static void item_encode(uint8_t *out)
{
	struct stele_item_at it = item(false);
	stele_footer_item_encode(&it, out);
}
static void tomb_item_encode(uint8_t *out)
{
	struct stele_item_at it = item(true);
	stele_footer_item_encode(&it, out);
}
static bool item_decode(const uint8_t *in)
{
	struct stele_item_at it = item(false), got;
	return stele_footer_item_decode(in, 3, EXTENT_LEN, &got) && same_item(&it, &got);
}
static bool tomb_item_decode(const uint8_t *in)
{
	struct stele_item_at it = item(true), got;
	return stele_footer_item_decode(in, 3, EXTENT_LEN, &got) && same_item(&it, &got);
}
static void footer_encode(uint8_t *out)
{
	stele_footer_head_encode(&footer_head, &salt, out);
}
static bool footer_decode(const uint8_t *in)
{
	struct stele_footer_head g;
	return stele_footer_head_decode(in, &salt, &footer_head.place, EXTENT_LEN, &g) &&
	       g.chunk == 1 && g.n == 17 && g.len == STELE_PAGE && g.crc == 0xcafe0001;
}
static void trailer_encode(uint8_t *out)
{
	stele_trailer_encode(&trailer, &salt, out);
}
static bool trailer_decode(const uint8_t *in)
{
	struct stele_trailer g;
	return stele_trailer_decode(in, &salt, 3, 5, EXTENT_LEN, &g) && g.first_lsn == 77 &&
	       g.last_lsn == 99 && g.end == trailer.end && g.footer_off == trailer.footer_off &&
	       g.chunks == 2 && g.items == 699;
}

static const struct structure structures[] = {
    {"superblock", STELE_PAGE, true, superblock_encode, superblock_decode},
    {"extent", STELE_PAGE, true, extent_encode, extent_decode},
    {"batch", STELE_BATCH_HEAD, true, batch_encode, batch_decode},
    {"entry", STELE_ENTRY_HEAD, true, entry_encode, entry_decode},
    {"tombstone", STELE_TOMB_META, false, tomb_encode, tomb_decode},
    {"footer", STELE_FOOTER_HEAD, true, footer_encode, footer_decode},
    {"item", STELE_FOOTER_ITEM, false, item_encode, item_decode},
    {"tombstone-item", STELE_FOOTER_ITEM, false, tomb_item_encode, tomb_item_decode},
    {"trailer", STELE_PAGE, true, trailer_encode, trailer_decode},
};
#define N (sizeof(structures) / sizeof(structures[0]))

/* "name length hex": zeros in runs of 16 and more as "(n)". */
static void as_text(const struct structure *s, const uint8_t *b, char *out)
{
	out += sprintf(out, "%s %zu ", s->name, s->len);
	for (size_t i = 0; i < s->len;) {
		size_t zeros = 0;
		while (i + zeros < s->len && b[i + zeros] == 0)
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

Test(extent_format, bytes_are_the_golden_ones, .init = init)
{
	FILE *f = fopen(STELE_GOLDEN "/disk.txt", "r");
	cr_assert_not_null(f, "%s", STELE_GOLDEN "/disk.txt");
	for (size_t i = 0; i < N; i++) {
		uint8_t bytes[STELE_PAGE];
		char text[3 * STELE_PAGE], golden[3 * STELE_PAGE];
		memset(bytes, 0xee, sizeof(bytes));
		structures[i].encode(bytes);
		as_text(&structures[i], bytes, text);
		do {
			cr_assert_not_null(fgets(golden, sizeof(golden), f), "missing:\n%s", text);
		} while (golden[0] == '#');
		cr_assert_str_eq(text, golden);
		cr_assert(structures[i].decode(bytes), "%s", structures[i].name);
	}
	fclose(f);
}

Test(extent_format, a_flipped_bit_never_decodes_to_the_same, .init = init)
{
	for (size_t i = 0; i < N; i++) {
		uint8_t bytes[STELE_PAGE];
		structures[i].encode(bytes);
		for (size_t bit = 0; bit < 8 * structures[i].len; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (structures[i].checked)
				cr_assert_not(structures[i].decode(bytes), "%s: bit %zu",
				              structures[i].name, bit);
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
	batch_encode(batch);
	entry_encode(entry);
	extent_encode(page);
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

Test(extent_format, a_newer_disk_is_refused_by_its_version, .init = init)
{
	struct stele_superblock s = superblock(), got;
	uint8_t page[STELE_PAGE];
	s.version++;
	stele_superblock_encode(&s, page);
	cr_assert_eq(stele_superblock_decode(page, &got), STELE_ERR_VERSION);
	cr_assert(strstr(stele_detail(), "newer"));
	s.version--;
	s.features = 1u << 31;
	stele_superblock_encode(&s, page);
	cr_assert_eq(stele_superblock_decode(page, &got), STELE_ERR_VERSION);
	uint32_t version;
	extent_encode(page);
	cr_assert_not(stele_extent_head_newer(page, &version));
	page[4]++; /* and its check does not hold: damaged, not newer */
	cr_assert_not(stele_extent_head_newer(page, &version));
}

Test(extent_format, index_keys_order_and_come_back, .init = init)
{
	static const uint8_t kinds[] = {STELE_ENTRY_SHARD, STELE_ENTRY_REF,    STELE_ENTRY_RECORD,
	                                STELE_ENTRY_MARK,  STELE_ENTRY_REFUSE, STELE_ENTRY_KEEP};
	uint8_t last[STELE_INDEX_KEY_MAX] = {0}, k[STELE_INDEX_KEY_MAX];
	size_t last_len = 1;
	for (uint32_t i = 0; i < 2 * 2 * sizeof(kinds); i++) {
		struct stele_key key = key_of(kinds[i % 6], 0), got;
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
	struct stele_item_at it = item(false), got = {.key = it.key};
	uint8_t v[STELE_INDEX_VALUE];
	for (int i = 0; i < 2; i++) {
		it = item(i);
		got.key = it.key;
		it.bad = !i;
		stele_index_value_encode(&it, v);
		cr_assert(stele_index_value_decode(v, sizeof(v), &got));
		cr_assert(same_item(&it, &got) && got.bad == it.bad);
	}
}
