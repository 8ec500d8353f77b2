/* Goal: the facts of a real Fabric file, and the two faults of the one that was spoilt on
 * purpose; all but metadata is bound; envelopes that hash alike but are cut apart otherwise are
 * refused; a cut tail is dropped and reported; get's protobuf form is Fabric's own. */
#include "storage/ledger/chain_link.h"
#include "storage/ledger/extract.h"
#include "tests/unit/fabric_fixture.h"
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts fabric = {.format = STELE_FORMAT_FABRIC};
static const char good_file[] = "fabric/sample_prod-blockfile_000000";
static const char bad_file[] = "fabric/sample_bad_ledger-blockfile_000000";

static void parse(struct seen *s, const struct blob *file)
{
	seen_parse(s, fabric, file->p, file->len, 0, 0);
}

static void refused(const struct blob *file, const char *why)
{
	struct seen s;
	parse(&s, file);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT, "accepted; expected: %s", why);
	cr_assert(strstr(s.detail, why), "\"%s\", expected: %s", s.detail, why);
	cr_assert(strstr(s.detail, "offset ") || strstr(s.detail, "no block"), "%s", s.detail);
	seen_free(&s);
}

/* Records of a file: where each block begins, behind its length, and how long it is. */
static size_t records(const struct blob *file, size_t *at, size_t *len, size_t max)
{
	struct stele_reader r = stele_reader(file->p, file->len);
	size_t n = 0;
	while (n < max && stele_read_left(&r)) {
		uint64_t v;
		cr_assert(stele_uvarint_read(&r, &v));
		at[n] = (size_t)(r.p - file->p);
		len[n++] = (size_t)v;
		cr_assert(stele_read_span(&r, (size_t)v));
	}
	return n;
}

Test(fabric, facts_of_a_real_file)
{
	struct blob file = data_file(good_file);
	static const size_t pieces[] = {0, 1, 333, 20000};
	struct stele_hash digest = {{0}};
	cr_assert_eq(stele_format_detect(file.p, STELE_DETECT_LEN, NULL, NULL),
	             STELE_FORMAT_FABRIC);
	for (size_t i = 0; i < 4; i++) {
		struct seen s;
		seen_parse(&s, fabric, file.p, file.len, pieces[i], i);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(s.facts.count == 8 && s.facts.first_height == 0 &&
		          s.facts.last_height == 7);
		cr_assert_str_eq(s.facts.caip2, "fabric:mychannel");
		cr_assert(s.facts.sealed && !s.facts.cut && s.facts.gaps == 0);
		/* metadata is some 15 % of this file */
		cr_assert(s.facts.unbound * 100 / file.len >= 10 &&
		          s.facts.unbound * 100 / file.len <= 20);
		cr_assert(stele_all_zero(s.facts.first_parent.b, 32));
		for (size_t k = 1; k < 8; k++)
			cr_assert(stele_hash_equal(&s.block[k].parent, &s.block[k - 1].hash));
		cr_assert(i == 0 || stele_hash_equal(&digest, &s.digest));
		digest = s.digest;
		seen_free(&s);
	}
	blob_free(&file);
}

Test(fabric, transaction_ids)
{
	struct blob file = data_file(good_file);
	size_t at[10], len[10];
	static struct stele_hash ids[STELE_FABRIC_TXS_MAX];
	struct stele_fabric_block b;
	cr_assert_eq(records(&file, at, len, 10), 8u);
	cr_assert_eq(stele_fabric_block_check(file.p + at[0], len[0], &b, ids), STELE_OK);
	cr_assert(stele_all_zero(ids[0].b, 32)); /* a configuration has none */
	cr_assert_eq(stele_fabric_block_check(file.p + at[1], len[1], &b, ids), STELE_OK);
	cr_assert(hash_is(STELE_FAMILY_FABRIC, &ids[0],
	                  "8d4dbd2d73f6d78a0716ae72baabe97521642931ae3483b2e78e477b0298a642"));
	blob_free(&file);
}

Test(fabric, the_spoilt_file_is_refused_for_both_faults)
{
	struct blob file = data_file(bad_file);
	size_t at[20], len[20];
	struct stele_fabric_block zero, one;
	refused(&file, "block 0 of the file, at offset 0: DataHash does not match its envelopes");
	cr_assert_eq(records(&file, at, len, 20), 10u);
	cr_assert_eq(stele_fabric_block_check(file.p + at[0], len[0], &zero, NULL),
	             STELE_ERR_CORRUPT);
	cr_assert_eq(stele_fabric_block_check(file.p + at[1], len[1], &one, NULL), STELE_OK);
	cr_assert(zero.number == 0 && one.number == 1);
	cr_assert_not(stele_hash_equal(&one.parent, &zero.hash));
	blob_free(&file);
}

/* ---- damage ---- */

static bool in_metadata(const struct blob *file, size_t byte)
{
	size_t at[64], len[64], n = records(file, at, len, 64);
	for (size_t i = 0; i < n; i++) {
		struct stele_fabric_block b;
		cr_assert_eq(stele_fabric_block_check(file->p + at[i], len[i], &b, NULL), STELE_OK);
		if (byte >= at[i] + b.metadata_at && byte < at[i] + b.length)
			return true;
	}
	return false;
}

static void flip(struct blob *file, size_t bit, size_t blocks)
{
	struct seen s;
	file->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	parse(&s, file);
	file->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	if (s.err == STELE_OK)
		cr_assert(in_metadata(file, bit / 8) && s.blocks == blocks && !s.facts.cut,
		          "bit %zu was not noticed", bit);
	else
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu: %s", bit, s.detail);
	seen_free(&s);
}

Test(fabric, every_bit_but_metadata_is_bound)
{
	struct blob made = fabric_file("ch", 0, 4), real = data_file(good_file);
	uint64_t random = 3;
	for (size_t bit = 0; bit < 8 * made.len; bit++)
		flip(&made, bit, 4);
	for (int i = 0; i < 1500; i++)
		flip(&real, guard_random(&random) % (8 * real.len), 8);
	blob_free(&made);
	blob_free(&real);
}

Test(fabric, a_cut_tail_is_dropped_and_reported)
{
	struct blob file = fabric_file("ch", 0, 4);
	size_t at[4], len[4];
	records(&file, at, len, 4);
	for (size_t cut = 0; cut < file.len; cut++) {
		struct seen s;
		size_t whole = 0;
		while (whole < 4 && at[whole] + len[whole] <= cut)
			whole++;
		size_t end = whole ? at[whole - 1] + len[whole - 1] : 0;
		seen_parse(&s, fabric, file.p, cut, cut % 5 * 7, cut);
		if (whole == 0) {
			cr_assert_eq(s.err, STELE_ERR_CORRUPT);
		} else {
			cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
			cr_assert(s.blocks == whole && s.facts.cut == (cut > end) &&
			          s.facts.sealed == (cut == end));
			cr_assert(s.gaps == (cut > end) && (!s.gaps || s.gap[0].offset == end));
		}
		seen_free(&s);
	}
	blob_free(&file);
}

/* {a, b} and {ab}, or an envelope cut between payload and signature: the same DataHash. */
Test(fabric, envelopes_cut_apart_otherwise_are_refused)
{
	struct stele_hash none = {{0}};
	struct blob e[3] = {fabric_envelope("ch", 1), fabric_envelope("ch", 2)}, block;
	struct stele_fabric_block good, b;
	block = fabric_block_of(0, &none, e, 2);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &good, NULL), STELE_OK);
	blob_free(&block);

	struct blob joined = blob_copy(e[0].p, e[0].len);
	blob_add(&joined, e[1].p, e[1].len);
	block = fabric_block_of(0, &none, &joined, 1);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_ERR_CORRUPT);
	cr_assert(stele_hash_equal(&b.data_hash, &good.data_hash));
	cr_assert(strstr(stele_detail(), "envelope 0 is not in its one spelling"));
	blob_free(&block);

	size_t payload = e[1].len - 11;
	struct blob apart[3] = {
	    e[0], {.p = e[1].p, .len = payload}, {.p = e[1].p + payload, .len = 11}};
	block = fabric_block_of(0, &none, apart, 3);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_ERR_CORRUPT);
	cr_assert(stele_hash_equal(&b.data_hash, &good.data_hash));
	cr_assert(strstr(stele_detail(), "envelope 2 is not in its one spelling"));
	blob_free(&block);
	blob_free(&joined);
	blob_free(&e[0]);
	blob_free(&e[1]);
}

Test(fabric, second_spellings_of_envelopes)
{
	struct stele_hash none = {{0}};
	struct blob e = fabric_envelope("ch", 1), block, bad;
	struct stele_fabric_block b;
	static const struct {
		const char *bytes;
		size_t len;
	} behind[] = {{"\x12\x00", 2}, {"\x1a\x01x", 3}, {"\x08\x01", 2}, {"\x12\x01x", 3}};
	for (size_t i = 0; i < 4; i++) { /* more fields behind a whole envelope */
		bad = blob_copy(e.p, e.len);
		blob_add(&bad, behind[i].bytes, behind[i].len);
		block = fabric_block_of(0, &none, &bad, 1);
		cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL),
		             STELE_ERR_CORRUPT, "%zu", i);
		blob_free(&block);
		blob_free(&bad);
	}
	/* a length that is not minimal, and an envelope without a channel */
	bad = blob_copy("\x0a\x83\x00xyz", 6);
	block = fabric_block_of(0, &none, &bad, 1);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "one spelling"));
	blob_free(&block);
	blob_free(&bad);
	bad = blob_copy("\x0a\x03\x0a\x01x", 5);
	block = fabric_block_of(0, &none, &bad, 1);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "names no channel"));
	blob_free(&block);
	blob_free(&bad);
	/* behind a payload alone: an empty signature, another field */
	static const char *const instead[] = {"\x12\x00", "\x1a\x01", "\x0a\x01"};
	for (size_t i = 0; i < 3; i++) {
		bad = blob_copy(e.p, e.len - 11);
		blob_add(&bad, instead[i], 2);
		blob_add(&bad, "x", i ? 1 : 0);
		block = fabric_block_of(0, &none, &bad, 1);
		cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL),
		             STELE_ERR_CORRUPT, "%zu", i);
		cr_assert(strstr(stele_detail(), "one spelling"));
		blob_free(&block);
		blob_free(&bad);
	}
	/* without a signature it is whole: a configuration may have none */
	struct blob bare = {.p = e.p, .len = e.len - 11};
	block = fabric_block_of(0, &none, &bare, 1);
	cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_OK);
	blob_free(&block);
	blob_free(&e);
}

/* The block's hash against DER by hand: a number's sign bit takes a byte of its own. */
Test(fabric, header_hashes)
{
	static const struct {
		uint64_t number;
		const char *der;
		size_t len;
	} cases[] = {{1, "\x01", 1},
	             {127, "\x7f", 1},
	             {128, "\x00\x80", 2},
	             {255, "\x00\xff", 2},
	             {256, "\x01\x00", 2},
	             {32767, "\x7f\xff", 2},
	             {32768, "\x00\x80\x00", 3},
	             {(uint64_t)1 << 63, "\x00\x80\0\0\0\0\0\0\0", 9}};
	struct stele_hash parent = {{4}}, want;
	struct blob e = fabric_envelope("ch", 1);
	struct stele_fabric_block b;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob block = fabric_block_of(cases[i].number, &parent, &e, 1), der = {0};
		uint8_t head[4] = {0x30, (uint8_t)(2 + cases[i].len + 34 + 34), 0x02,
		                   (uint8_t)cases[i].len};
		cr_assert_eq(stele_fabric_block_check(block.p, block.len, &b, NULL), STELE_OK);
		blob_add(&der, head, 4);
		blob_add(&der, cases[i].der, cases[i].len);
		blob_add(&der, "\x04\x20", 2);
		blob_add(&der, parent.b, 32);
		blob_add(&der, "\x04\x20", 2);
		blob_add(&der, b.data_hash.b, 32);
		stele_sha256(der.p, der.len, &want);
		cr_assert(stele_hash_equal(&b.hash, &want), "%llu",
		          (unsigned long long)cases[i].number);
		blob_free(&block);
		blob_free(&der);
	}
	/* block 0 has no parent, every other has one */
	struct blob zero = fabric_block_of(0, &parent, &e, 1),
	            one = fabric_block_of(1, &parent, &e, 1);
	zero.p[0] = 1;
	cr_assert_eq(stele_fabric_block_check(zero.p, zero.len, &b, NULL), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "32 and 0 bytes"), "%s", stele_detail());
	one.p[0] = 0;
	cr_assert_eq(stele_fabric_block_check(one.p, one.len, &b, NULL), STELE_ERR_CORRUPT);
	blob_free(&zero);
	blob_free(&one);
	blob_free(&e);
}

Test(fabric, blocks_follow_each_other_on_one_channel)
{
	struct blob a = fabric_file("one", 0, 3), b = fabric_file("two", 0, 3),
	            c = fabric_file("one", 9, 3);
	size_t at[3], len[3];
	struct blob mixed;
	struct seen s;
	/* a first block that is not 0 is legal: the peer joined from a snapshot */
	parse(&s, &c);
	cr_assert(s.err == STELE_OK && s.facts.first_height == 9, "%s", s.detail);
	seen_free(&s);
	records(&a, at, len, 3);
	mixed = blob_copy(a.p, at[0] + len[0]);
	blob_add(&mixed, b.p + at[0] + len[0], b.len - at[0] - len[0]);
	refused(&mixed, "channel two follows one");
	blob_free(&mixed);
	mixed = blob_copy(a.p, at[0] + len[0]);
	blob_add(&mixed, a.p + at[1] + len[1], a.len - at[1] - len[1]);
	refused(&mixed, "number 2 follows 0");
	blob_free(&mixed);

	struct stele_parser_opts opts = fabric;
	struct stele_chain chain;
	cr_assert_eq(stele_chain_find("fabric:two", &chain), STELE_OK);
	opts.chain = &chain;
	seen_parse(&s, opts, a.p, a.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	cr_assert_str_eq(s.detail, "the file is of channel one, not of fabric:two");
	seen_free(&s);
	seen_parse(&s, opts, b.p, b.len, 0, 0);
	cr_assert_eq(s.err, STELE_OK);
	/* and block 0 links it, whose hash no build can know */
	struct stele_link_block l[3];
	struct stele_link_result r;
	struct stele_link_opts link = {.chain = &chain};
	for (size_t i = 0; i < 3; i++)
		l[i] = (struct stele_link_block){.hash = s.block[i].hash,
		                                 .parent = s.block[i].parent,
		                                 .claimed_height = s.block[i].height};
	cr_assert_eq(stele_chain_link(&link, l, 3, &r), STELE_OK);
	cr_assert(r.linked == 3 && r.last_height == 2);
	seen_free(&s);
	blob_free(&a);
	blob_free(&b);
	blob_free(&c);
}

Test(fabric, impossible_lengths)
{
	struct blob file = fabric_file("ch", 0, 2), c;
	c = blob_copy(file.p, file.len);
	blob_add(&c, "\x00", 1);
	refused(&c, "its length is impossible");
	c.len = file.len;
	blob_add(&c, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
	refused(&c, "its length is impossible");
	c.len = file.len;
	blob_add(&c, "\x80\x00",
	         2); /* not minimal, and never whole: a cut tail, as far as one can tell */
	struct seen s;
	parse(&s, &c);
	cr_assert(s.err == STELE_OK && s.facts.cut);
	seen_free(&s);
	blob_free(&c);
	blob_free(&file);
}

/* ---- get ---- */

/* Block { header { number, previous_hash, data_hash }, data, metadata }, read back field by
 * field. */
Test(fabric, extracted_blocks_are_common_blocks)
{
	struct blob file = fabric_file("ch", 0, 4);
	struct seen s;
	parse(&s, &file);
	for (size_t i = 0; i < 4; i++) {
		const struct stele_part *part = &s.block[i].part[0];
		struct stele_stored_part stored = {*part, file.p + part->offset};
		struct stele_extract_opts opts = {.format = STELE_FORMAT_FABRIC,
		                                  .hash = s.block[i].hash};
		struct stele_fabric_block b;
		uint8_t *out;
		size_t len;
		cr_assert_eq(stele_block_extract(&opts, &stored, 1, &out, &len), STELE_OK, "%s",
		             stele_detail());
		cr_assert_eq(stele_fabric_block_check(stored.bytes, part->length, &b, NULL),
		             STELE_OK);
		struct blob header = {0}, data = {0}, metadata = {0}, want = {0};
		if (i) {
			uint8_t number[2] = {1 << 3, (uint8_t)i};
			blob_add(&header, number, 2);
			fabric_field(&header, 2, b.parent.b, 32);
		}
		fabric_field(&header, 3, b.data_hash.b, 32);
		for (size_t k = 0; k < 1 + i % 3; k++) {
			struct blob e = fabric_envelope("ch", 10 * i + k);
			fabric_field(&data, 1, e.p, e.len);
			blob_free(&e);
		}
		fabric_field(&metadata, 1, "orderers' signatures", 20);
		fabric_field(&metadata, 1, "", 0);
		fabric_field(&metadata, 1, "\x00", 1);
		fabric_field(&want, 1, header.p, header.len);
		fabric_field(&want, 2, data.p, data.len);
		fabric_field(&want, 3, metadata.p, metadata.len);
		cr_assert(len == want.len && memcmp(out, want.p, len) == 0);
		free(out);
		opts.hash.b[0] ^= 1;
		cr_assert_eq(stele_block_extract(&opts, &stored, 1, &out, &len), STELE_ERR_CORRUPT);
		blob_free(&header);
		blob_free(&data);
		blob_free(&metadata);
		blob_free(&want);
	}
	seen_free(&s);
	blob_free(&file);
}

Test(fabric, varints)
{
	uint8_t bytes[10];
	static const uint64_t values[] = {
	    0, 1, 127, 128, 300, 16383, 16384, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		size_t n = stele_uvarint_write(values[i], bytes);
		struct stele_reader r = stele_reader(bytes, n);
		uint64_t v;
		cr_assert(stele_uvarint_read(&r, &v) && v == values[i] && stele_read_done(&r));
		r = stele_reader(bytes, n - 1);
		cr_assert_not(stele_uvarint_read(&r, &v));
	}
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {{"\x80\x00", 2},
	           {"\xff\x80\x00", 3},
	           {"", 0},
	           {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10},
	           {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}};
	for (size_t i = 0; i < 5; i++) {
		struct stele_reader r = stele_reader(bad[i].bytes, bad[i].len);
		uint64_t v;
		cr_assert_not(stele_uvarint_read(&r, &v), "%zu", i);
	}
}
