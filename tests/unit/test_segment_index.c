/* Goal: what goes into an index comes out by number, height and hash, whatever the order it was
 * given in; bytes are as documented (a golden head); any changed byte is refused, or changes a
 * value that get checks again. */
#include "storage/ledger/segment_index.h"
#include "tests/unit/ledger_fixture.h"

static struct stele_hash name_hash(uint64_t n)
{
	struct stele_hash h;
	stele_sha256(&n, sizeof(n), &h);
	return h;
}

static struct stele_index_head head(void)
{
	return (struct stele_index_head){.family = STELE_FAMILY_BITCOIN,
	                                 .format = STELE_FORMAT_BITCOIN_BLK,
	                                 .level = STELE_LEVEL_LINKED,
	                                 .caip2 = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328",
	                                 .has_xor = true,
	                                 .xor_key = {1, 2, 3, 4, 5, 6, 7, 8},
	                                 .nobjects = 1};
}

static struct stele_index_entry entry(uint64_t n, uint64_t parent, uint64_t height, bool stale)
{
	return (struct stele_index_entry){
	    .hash = name_hash(n),
	    .parent = name_hash(parent),
	    .height = height,
	    .linked = height != STELE_HEIGHT_UNKNOWN,
	    .stale = stale,
	    .nparts = 1,
	    .part[0] = {.offset = 1000 * n,
	                .length = (uint32_t)n,
	                .kind = STELE_PART_BLOCK,
	                .encoding = STELE_ENCODING_XOR},
	};
}

static struct blob encode(const struct stele_index_head *h, const struct stele_hash *objects,
                          const struct stele_index_entry *e, size_t n)
{
	struct blob b = {0};
	cr_assert_eq(stele_index_encode(h, objects, e, n, &b.p, &b.len), STELE_OK, "%s",
	             stele_detail());
	return b;
}

/* Entries 1..n, a chain, with stale ones at every tenth height, and some unlinked, in random
 * order. */
static size_t sample(struct stele_index_entry *e, size_t n, uint64_t seed)
{
	size_t count = 0;
	for (size_t i = 1; i <= n; i++) {
		e[count++] = entry(i, i - 1, 500 + i, false);
		if (i % 10 == 0)
			e[count++] = entry(100000 + i, i - 1, 500 + i, true);
		if (i % 17 == 0)
			e[count++] = entry(200000 + i, 300000 + i, STELE_HEIGHT_UNKNOWN, false);
	}
	for (size_t i = count; i-- > 1;) {
		size_t k = (size_t)(guard_random(&seed) >> 20) % (i + 1);
		struct stele_index_entry t = e[i];
		e[i] = e[k];
		e[k] = t;
	}
	return count;
}

static void same(const struct stele_index_entry *a, const struct stele_index_entry *b)
{
	cr_assert(stele_hash_equal(&a->hash, &b->hash));
	cr_assert(stele_hash_equal(&a->parent, &b->parent));
	cr_assert(a->height == b->height && a->stale == b->stale && a->linked == b->linked);
	cr_assert_eq(a->nparts, b->nparts);
	cr_assert_eq(memcmp(a->part, b->part, a->nparts * sizeof(a->part[0])), 0);
}

Test(segment_index, finds_all_that_was_put_in)
{
	static struct stele_index_entry e[2000];
	for (size_t n = 1; n <= 1000; n = n * 3 + 1) {
		size_t count = sample(e, n, n + 5);
		struct stele_index_head h = head();
		struct stele_hash object = name_hash(77), got;
		struct blob b = encode(&h, &object, e, count);
		struct stele_index ix;
		struct stele_index_entry out;
		cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_OK, "%s", stele_detail());
		cr_assert_eq(ix.count, count);
		cr_assert(ix.head.first_height == 501 && ix.head.last_height == 500 + n);
		cr_assert_str_eq(ix.head.caip2, h.caip2);
		cr_assert(ix.head.has_xor && memcmp(ix.head.xor_key, h.xor_key, 8) == 0);
		stele_index_object(&ix, 0, &got);
		cr_assert(stele_hash_equal(&got, &object));
		for (size_t i = 0; i < count; i++) {
			cr_assert_eq(stele_index_find_hash(&ix, &e[i].hash, &out), STELE_OK);
			same(&out, &e[i]);
			if (e[i].height == STELE_HEIGHT_UNKNOWN)
				continue;
			cr_assert_eq(stele_index_find_height(&ix, e[i].height, &out), STELE_OK);
			cr_assert(out.height == e[i].height && !out.stale);
		}
		struct stele_hash no = name_hash(999999);
		cr_assert_eq(stele_index_find_hash(&ix, &no, &out), STELE_ERR_NOT_FOUND);
		cr_assert_eq(stele_index_find_height(&ix, 500, &out), STELE_ERR_NOT_FOUND);
		cr_assert_eq(stele_index_find_height(&ix, 501 + n, &out), STELE_ERR_NOT_FOUND);
		cr_assert_eq(stele_index_find_height(&ix, STELE_HEIGHT_UNKNOWN, &out),
		             STELE_ERR_NOT_FOUND);
		for (uint32_t i = 1; i < ix.count; i++) {
			struct stele_index_entry before;
			stele_index_entry(&ix, i - 1, &before);
			stele_index_entry(&ix, i, &out);
			cr_assert(before.height <= out.height);
		}
		free(b.p);
	}
}

Test(segment_index, order_given_does_not_matter_and_duplicates_are_dropped)
{
	static struct stele_index_entry e[600], f[601];
	size_t n = sample(e, 200, 1), m = sample(f, 200, 2);
	struct stele_index_head h = head();
	struct stele_hash object = name_hash(77);
	f[m++] = f[3];
	struct blob a = encode(&h, &object, e, n), b = encode(&h, &object, f, m);
	cr_assert_eq(a.len, b.len);
	cr_assert_eq(memcmp(a.p, b.p, a.len), 0);
	free(a.p);
	free(b.p);
}

Test(segment_index, stale_blocks_are_found_by_hash_only)
{
	struct stele_index_entry e[1] = {entry(1, 0, 7, true)}, out;
	struct stele_index_head h = head();
	struct stele_hash object = name_hash(77);
	struct blob b = encode(&h, &object, e, 1);
	struct stele_index ix;
	cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_OK);
	cr_assert_eq(stele_index_find_height(&ix, 7, &out), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_index_find_hash(&ix, &e[0].hash, &out), STELE_OK);
	cr_assert(out.stale);
	cr_assert_eq(ix.head.first_height, STELE_HEIGHT_UNKNOWN);
	free(b.p);
}

Test(segment_index, many_parts_and_objects)
{
	struct stele_index_entry e[2] = {entry(1, 0, 0, false), entry(2, 1, 1, false)}, out;
	struct stele_index_head h = head();
	struct stele_hash objects[3] = {name_hash(1), name_hash(2), name_hash(3)};
	h.nobjects = 3;
	h.has_xor = false;
	e[1].nparts = STELE_PARTS_MAX;
	for (unsigned k = 0; k < STELE_PARTS_MAX; k++)
		e[1].part[k] = (struct stele_part){.offset = UINT64_MAX - k,
		                                   .length = UINT32_MAX,
		                                   .object = k % 3,
		                                   .kind = (uint8_t)k,
		                                   .encoding = (uint8_t)(200 + k)};
	struct blob b = encode(&h, objects, e, 2);
	struct stele_index ix;
	cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_OK);
	cr_assert_eq(ix.columns, STELE_PARTS_MAX);
	stele_index_entry(&ix, 1, &out);
	same(&out, &e[1]);
	stele_index_entry(&ix, 0, &out);
	same(&out, &e[0]);
	free(b.p);
	e[1].part[4].object = 3;
	cr_assert_eq(stele_index_encode(&h, objects, e, 2, &b.p, &b.len), STELE_ERR_INVALID);
	e[1].nparts = 0;
	cr_assert_eq(stele_index_encode(&h, objects, e, 2, &b.p, &b.len), STELE_ERR_INVALID);
	cr_assert_eq(stele_index_encode(&h, objects, e, 0, &b.p, &b.len), STELE_ERR_INVALID);
}

Test(segment_index, bytes_are_as_documented)
{
	struct stele_index_entry e[1] = {entry(1, 0, 0x1122, false)};
	struct stele_index_head h = head();
	struct stele_hash object = name_hash(77);
	struct blob b = encode(&h, &object, e, 1);
	char hex[2 * 16 + 1];
	cr_assert_eq(b.len, 128u + 32u + 64u + 4u + 32u);
	cr_assert_str_eq(stele_hex(b.p, 16, hex), "5354454c454958310101030101000100");
	cr_assert_str_eq(stele_hex(b.p + 16, 16, hex), "01000000010000000102030405060708");
	cr_assert_str_eq(stele_hex(b.p + 32, 16, hex), "22110000000000002211000000000000");
	cr_assert_eq(memcmp(b.p + 48, h.caip2, strlen(h.caip2) + 1), 0);
	cr_assert(stele_all_zero(b.p + 96, 32));
	cr_assert_eq(memcmp(b.p + 128, object.b, 32), 0);
	cr_assert_eq(memcmp(b.p + 160, e[0].hash.b, 32), 0);
	cr_assert_str_eq(stele_hex(b.p + 192, 16, hex), "22110000000000000100000002010000");
	cr_assert_str_eq(stele_hex(b.p + 208, 16, hex), "e8030000000000000100000000000101");
	cr_assert_eq(stele_le32(b.p + 224), 0u);
	cr_assert_eq(memcmp(b.p + 228, e[0].parent.b, 32), 0);
	free(b.p);
}

static void swap(uint8_t *a, uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t t = a[i];
		a[i] = b[i];
		b[i] = t;
	}
}

/* Halving finds what is there only in tables that are in order. */
Test(segment_index, tables_out_of_order_are_refused)
{
	static struct stele_index_entry e[100];
	size_t n = sample(e, 30, 3);
	struct stele_index_head h = head();
	struct stele_hash object = name_hash(77);
	struct blob b = encode(&h, &object, e, n);
	struct stele_index ix;
	struct {
		size_t at, unit, count;
		const char *why;
	} tables[] = {{160, 64, n, "index entry"}, {160 + 64 * n, 4, n, "index by hash"}, {0}};
	tables[2].at = 160 + 68 * n;
	tables[2].unit = 32;
	tables[2].count = (b.len - tables[2].at) / 32;
	tables[2].why = "outside parent";
	cr_assert_gt(tables[2].count, 1u);
	for (size_t t = 0; t < 3; t++) {
		for (size_t i = 1; i < tables[t].count; i++) {
			uint8_t *p = b.p + tables[t].at + i * tables[t].unit;
			swap(p, p - tables[t].unit, tables[t].unit);
			cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_ERR_CORRUPT);
			cr_assert(strstr(stele_detail(), tables[t].why), "%s", stele_detail());
			cr_assert(strstr(stele_detail(), "out of order"), "%s", stele_detail());
			swap(p, p - tables[t].unit, tables[t].unit);
		}
	}
	cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_OK);
	free(b.p);
}

/* Hostile bytes: refused, or a view all of whose answers stay inside the bytes. */
Test(segment_index, changed_bytes)
{
	static struct stele_index_entry e[100];
	size_t n = sample(e, 30, 3);
	struct stele_index_head h = head();
	struct stele_hash object = name_hash(77);
	struct blob b = encode(&h, &object, e, n);
	struct guard g = guard_create(b.len);
	uint8_t *p = guard_end(&g, b.len);
	size_t refused = 0;
	memcpy(p, b.p, b.len);
	for (size_t bit = 0; bit < 8 * b.len; bit++) {
		struct stele_index ix;
		struct stele_index_entry out;
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		enum stele_err err = stele_index_open(p, b.len, &ix);
		cr_assert(err == STELE_OK || err == STELE_ERR_CORRUPT || err == STELE_ERR_VERSION);
		refused += err != STELE_OK;
		for (uint32_t i = 0; err == STELE_OK && i < ix.count; i++) {
			stele_index_entry(&ix, i, &out);
			cr_assert_eq(stele_index_find_hash(&ix, &out.hash, &out), STELE_OK);
		}
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	cr_assert_gt(refused, 8u * 128u);
	for (size_t cut = 0; cut < b.len; cut++) {
		struct stele_index ix;
		uint8_t *q = guard_end(&g, cut);
		memmove(q, b.p, cut);
		cr_assert_eq(stele_index_open(q, cut, &ix), STELE_ERR_CORRUPT);
	}
	guard_destroy(&g);
	b.p[7] = '2';
	struct stele_index ix;
	cr_assert_eq(stele_index_open(b.p, b.len, &ix), STELE_ERR_VERSION);
	free(b.p);
}
