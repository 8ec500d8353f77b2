/* Goal: the facts of real era1 files and their link; any changed, missing or moved byte is
 * refused with its block and offset, or changes nothing that comes out (the compressed form is
 * not bound); files made here cover what those epochs lack: transactions, receipts, uncles. */
#include "tests/unit/evm_fixture.h"
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts era1 = {.format = STELE_FORMAT_ERA1};

static const char file0[] = "mainnet-00000-5ec1ffb8.era1", file1[] = "mainnet-00001-a5364e9a.era1";

static struct blob load(const char *name)
{
	char path[100];
	snprintf(path, sizeof(path), "ethereum/%s", name);
	return data_file(path);
}

static void parse_named(struct seen *s, const struct blob *file, const char *name)
{
	struct stele_parser_opts opts = era1;
	opts.name = name;
	seen_parse(s, opts, file->p, file->len, 0, 0);
}

static void refused(const struct blob *file, const char *name, const char *why)
{
	struct seen s;
	parse_named(&s, file, name);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT, "accepted; expected: %s", why);
	cr_assert(strstr(s.detail, why), "\"%s\", expected: %s", s.detail, why);
	cr_assert_not(strchr(s.detail, '\n'));
	seen_free(&s);
}

/* ---- real files ---- */

Test(era1, facts_of_real_files_and_their_link)
{
	struct blob a = load(file0), b = load(file1);
	struct seen x, y;
	cr_assert_eq(stele_format_detect(a.p, STELE_DETECT_LEN, NULL, NULL), STELE_FORMAT_ERA1);
	parse_named(&x, &a, file0);
	parse_named(&y, &b, file1);
	cr_assert_eq(x.err, STELE_OK, "%s", x.detail);
	cr_assert_eq(y.err, STELE_OK, "%s", y.detail);
	cr_assert(x.facts.count == 8192 && y.facts.count == 8192);
	cr_assert(x.facts.first_height == 0 && x.facts.last_height == 8191);
	cr_assert(y.facts.first_height == 8192 && y.facts.last_height == 16383);
	cr_assert(hash_is(STELE_FAMILY_EVM, &x.facts.accumulator, "5ec1ffb8"));
	cr_assert(hash_is(STELE_FAMILY_EVM, &y.facts.accumulator, "a5364e9a"));
	cr_assert_str_eq(x.facts.chain->alias, "ethereum");
	cr_assert_str_eq(y.facts.chain->alias, "ethereum"); /* by its name */
	cr_assert(hash_is(STELE_FAMILY_EVM, &x.facts.first_hash, x.facts.chain->genesis));
	cr_assert(stele_hash_equal(&y.facts.first_parent, &x.facts.last_hash));
	cr_assert_eq(memcmp(x.facts.difficulty_last, y.facts.difficulty_before, 32), 0);
	cr_assert(stele_all_zero(x.facts.difficulty_before, 32));
	struct stele_hash sum;
	stele_sha256(a.p, a.len, &sum);
	cr_assert_eq(sum.b[0], 0x9c);
	cr_assert(sum.b[30] == 0xeb && sum.b[31] == 0x9b);
	stele_sha256(b.p, b.len, &sum);
	cr_assert(sum.b[0] == 0x8a && sum.b[31] == 0x27);
	/* without a name, only the genesis block tells the chain */
	seen_free(&x);
	seen_free(&y);
	parse_named(&x, &a, NULL);
	parse_named(&y, &b, NULL);
	cr_assert_str_eq(x.facts.chain->alias, "ethereum");
	cr_assert_null(y.facts.chain);
	seen_free(&x);
	seen_free(&y);
	blob_free(&a);
	blob_free(&b);
}

Test(era1, pieces_do_not_matter)
{
	struct blob a = load(file1);
	struct seen whole;
	parse_named(&whole, &a, file1);
	static const size_t pieces[] = {97, 4096, 1000000};
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct seen s;
		seen_parse(&s, era1, a.p, a.len, pieces[i], i + 1);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(stele_hash_equal(&s.digest, &whole.digest));
		seen_free(&s);
	}
	seen_free(&whole);
	blob_free(&a);
}

Test(era1, flips_and_cuts_over_a_whole_real_file)
{
	struct blob a = load(file0);
	uint64_t random = 5;
	for (int i = 0; i < 24; i++) {
		struct seen s;
		size_t bit = guard_random(&random) % (8 * a.len);
		a.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse_named(&s, &a, file0);
		a.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu", bit);
		cr_assert(strstr(s.detail, "offset ") || strstr(s.detail, "cut"), "%s", s.detail);
		seen_free(&s);
		size_t cut = guard_random(&random) % a.len;
		seen_parse(&s, era1, a.p, cut, 0, 0);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "cut %zu", cut);
		seen_free(&s);
	}
	blob_free(&a);
}

/* ---- every bit of short files ---- */

/* The real file's first n blocks, with an ending of their own. */
static struct blob shortened(const struct blob *file, size_t n)
{
	struct blob out = {0};
	uint64_t offset[64];
	struct stele_hash leaf[64];
	uint64_t first = 0;
	size_t at = 8;
	blob_add(&out, file->p, 8);
	for (size_t i = 0; i < n; i++) {
		offset[i] = out.len;
		uint8_t both[64];
		for (int k = 0; k < 4; k++) {
			size_t len = stele_le32(file->p + at + 2);
			if (k == 0) {
				size_t plain;
				uint8_t header[2000];
				struct stele_evm_header h;
				cr_assert_eq(
				    stele_snappy_frame_length(file->p + at + 8, len, 2000, &plain),
				    STELE_OK);
				cr_assert_eq(stele_snappy_frame_inflate(file->p + at + 8, len,
				                                        header, plain),
				             STELE_OK);
				cr_assert_eq(stele_evm_header_decode(header, plain, &h), STELE_OK);
				memcpy(both, h.hash.b, 32);
				first = i == 0 ? h.number : first;
			}
			if (k == 3)
				memcpy(both + 32, file->p + at + 8, 32);
			blob_add(&out, file->p + at, 8 + len);
			at += 8 + len;
		}
		stele_sha256(both, 64, &leaf[i]);
	}
	era1_end(&out, first, n, offset, leaf);
	return out;
}

/* Where a byte is part of the compressed form of a record, which no hash binds. */
static bool in_snappy(const struct blob *file, size_t byte)
{
	for (size_t at = 0; at < file->len;) {
		size_t len = stele_le32(file->p + at + 2);
		if (byte < at + 8)
			return false;
		if (byte < at + 8 + len)
			return file->p[at] >= 3 && file->p[at] <= 5;
		at += 8 + len;
	}
	return false;
}

static void same_facts(const struct seen *a, const struct seen *b)
{
	cr_assert_eq(a->blocks, b->blocks);
	for (size_t i = 0; i < a->blocks; i++) {
		cr_assert(stele_hash_equal(&a->block[i].hash, &b->block[i].hash));
		cr_assert_eq(a->block[i].tx_count, b->block[i].tx_count);
	}
	cr_assert(stele_hash_equal(&a->facts.accumulator, &b->facts.accumulator));
	cr_assert_eq(memcmp(a->facts.difficulty_last, b->facts.difficulty_last, 32), 0);
}

static size_t flip_all(struct blob *file, size_t step)
{
	struct seen good;
	size_t unbound = 0;
	parse_named(&good, file, NULL);
	cr_assert_eq(good.err, STELE_OK, "%s", good.detail);
	for (size_t bit = 0; bit < 8 * file->len; bit += step) {
		struct seen s;
		file->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse_named(&s, file, NULL);
		file->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (s.err == STELE_OK) {
			cr_assert(in_snappy(file, bit / 8), "bit %zu was not noticed", bit);
			same_facts(&s, &good);
			unbound++;
		} else {
			cr_assert_eq(s.err, STELE_ERR_CORRUPT);
		}
		seen_free(&s);
	}
	for (size_t cut = 0; cut < file->len; cut++) {
		struct seen s;
		seen_parse(&s, era1, file->p, cut, 0, 0);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "cut at %zu", cut);
		seen_free(&s);
	}
	seen_free(&good);
	return unbound;
}

Test(era1, every_bit_of_real_blocks)
{
	struct blob whole = load(file1), file = shortened(&whole, 8);
	size_t unbound = flip_all(&file, 1);
	/* copies from other places with the same bytes: few */
	cr_assert_lt(unbound, file.len * 8 / 50, "%zu of %zu", unbound, 8 * file.len);
	blob_free(&whole);
	blob_free(&file);
}

Test(era1, bits_of_blocks_with_transactions)
{
	struct evm_block *b = evm_chain_make(8192, 6, false);
	struct blob file = era1_make(b, 8192, 6, 1000);
	flip_all(&file, 3);
	blob_free(&file);
	evm_chain_free(b, 6);
}

/* ---- files that are wrong in one way ---- */

struct rig {
	struct evm_block *b;
	size_t n;
	struct blob file;
};

static struct rig rig_make(size_t n)
{
	struct rig r = {.b = evm_chain_make(0, n, false), .n = n};
	r.file = era1_make(r.b, 0, n, 0);
	return r;
}

static void rig_free(struct rig *r)
{
	blob_free(&r->file);
	evm_chain_free(r->b, r->n);
}

/* Offset of the k-th record, the version record being 0. */
static size_t record_at(const struct blob *file, size_t k)
{
	size_t at = 0;
	while (k--)
		at += 8 + stele_le32(file->p + at + 2);
	return at;
}

Test(era1, a_made_file_holds)
{
	struct rig r = rig_make(9);
	struct seen s;
	parse_named(&s, &r.file, NULL);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert_eq(s.blocks, 9u);
	cr_assert_null(s.facts.chain);
	for (size_t i = 0; i < 9; i++) {
		cr_assert(stele_hash_equal(&s.block[i].hash, &r.b[i].hash));
		cr_assert_eq(s.block[i].height, i);
		cr_assert_eq(s.block[i].tx_count, i % 4 * 3);
		cr_assert_eq(s.block[i].nparts, 4);
		static const uint8_t kinds[4] = {STELE_PART_HEADER, STELE_PART_BODY,
		                                 STELE_PART_RECEIPTS, STELE_PART_DIFFICULTY};
		for (size_t k = 0; k < 4; k++) {
			const struct stele_part *part = &s.block[i].part[k];
			cr_assert_eq(part->kind, kinds[k]);
			cr_assert_eq(part->offset, record_at(&r.file, 1 + 4 * i + k) + 8);
			cr_assert_eq(part->length, stele_le32(r.file.p + part->offset - 6));
		}
	}
	seen_free(&s);
	rig_free(&r);
}

/* blocks/xor.dat is bitcoind's: an importer may hold it for other files, too. */
Test(era1, a_key_does_not_matter)
{
	struct rig r = rig_make(3);
	struct stele_parser_opts opts = era1;
	struct seen s;
	opts.xor_key = (const uint8_t *)"12345678";
	seen_parse(&s, opts, r.file.p, r.file.len, 0, 0);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert_not(s.facts.has_xor);
	seen_free(&s);
	rig_free(&r);
}

Test(era1, records_out_of_order_or_of_wrong_size)
{
	struct rig r = rig_make(3);
	struct blob c;
	size_t body = record_at(&r.file, 2), accumulator = record_at(&r.file, 13);
	/* a body twice, a header left out, an end in the middle, bytes behind the end */
	c = blob_copy(r.file.p, body);
	blob_add(&c, r.file.p + body, record_at(&r.file, 3) - body);
	blob_add(&c, r.file.p + body, r.file.len - body);
	refused(&c, NULL, "body record where receipts belongs");
	blob_free(&c);
	c = blob_copy(r.file.p, 8);
	blob_add(&c, r.file.p + body, r.file.len - body);
	refused(&c, NULL, "body record where header belongs");
	blob_free(&c);
	c = blob_copy(r.file.p, record_at(&r.file, 8));
	blob_add(&c, r.file.p + accumulator, r.file.len - accumulator);
	refused(&c, NULL, "accumulator record where total difficulty belongs");
	blob_free(&c);
	c = blob_copy(r.file.p, record_at(&r.file, 9));
	blob_add(&c, r.file.p + accumulator, r.file.len - accumulator);
	refused(&c, NULL, "accumulator root does not match its blocks");
	blob_free(&c);
	c = blob_copy(r.file.p, r.file.len);
	blob_add(&c, "\x65\x32\0\0\0\0\0\0", 8);
	refused(&c, NULL, "bytes behind the block index");
	c.len = r.file.len;
	blob_add(&c, "x", 1);
	refused(&c, NULL, "the file is cut"); /* a ninth of a record's head */
	c.len = r.file.len;
	c.p[6] = 1;
	refused(&c, NULL, "reserved bytes are not zero");
	c.p[6] = 0;
	stele_put_le32(c.p + 8 + 2, 0xffffffff); /* a header of 4 GiB: nothing is waited for */
	refused(&c, NULL, "a header record of 4294967295 bytes");
	blob_free(&c);
	/* no block at all */
	struct stele_hash leaf[1];
	c = blob_copy(r.file.p, 8);
	era1_end(&c, 0, 0, NULL, leaf);
	refused(&c, NULL, "accumulator record where header belongs");
	blob_free(&c);
	c = blob_copy("\x65\x33\0\0\0\0\0\0", 8);
	refused(&c, NULL, "not an e2store file");
	blob_free(&c);
	rig_free(&r);
}

Test(era1, records_of_unknown_types_are_skipped_and_reported)
{
	struct rig r = rig_make(3);
	size_t at = record_at(&r.file, 13); /* in front of the accumulator: no offset moves */
	struct blob c = blob_copy(r.file.p, at);
	struct seen s;
	e2_record(&c, 0x7777, "whatever", 8);
	uint64_t offset[3];
	struct stele_hash leaf[3];
	uint8_t both[64];
	for (size_t i = 0; i < 3; i++) {
		offset[i] = record_at(&r.file, 1 + 4 * i);
		memcpy(both, r.b[i].hash.b, 32);
		memcpy(both + 32, r.file.p + record_at(&r.file, 4 + 4 * i) + 8, 32);
		stele_sha256(both, 64, &leaf[i]);
	}
	era1_end(&c, 0, 3, offset, leaf);
	parse_named(&s, &c, NULL);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert(s.gaps == 1 && s.gap[0].kind == STELE_GAP_SKIPPED && s.gap[0].offset == at &&
	          s.gap[0].length == 16 && s.facts.gaps == 0);
	seen_free(&s);
	blob_free(&c);
	rig_free(&r);
}

/* Records that are whole by their checksums, but another block's. */
Test(era1, bodies_and_receipts_of_another_block)
{
	struct evm_block *b = evm_chain_make(0, 8, false);
	struct blob file, t = b[3].receipts;
	b[3].receipts = b[7].receipts; /* as many */
	file = era1_make(b, 0, 8, 0);
	refused(&file, NULL, "receipts of block 3");
	refused(&file, NULL, "receiptsRoot does not match");
	blob_free(&file);
	b[3].receipts = b[2].receipts;
	file = era1_make(b, 0, 8, 0);
	refused(&file, NULL, "6 receipts for 9 transactions");
	blob_free(&file);
	b[3].receipts = t;
	t = b[3].body;
	b[3].body = b[6].body; /* other transactions, as many uncles */
	file = era1_make(b, 0, 8, 0);
	refused(&file, NULL, "body of block 3");
	blob_free(&file);
	b[3].body = b[3].header;
	file = era1_make(b, 0, 8, 0);
	refused(&file, NULL, "body has no list of transactions");
	blob_free(&file);
	b[3].body = t;
	evm_chain_free(b, 8);
}

Test(era1, records_that_inflate_to_nothing)
{
	struct blob none = {0}, c = blob_copy("\x65\x32\0\0\0\0\0\0", 8);
	e2_snappy(&c, 0x0300, &none);
	refused(&c, NULL, "header is not one RLP list");
	/* the same as a chunk that says so */
	static const uint8_t chunk[] = {0xff, 6, 0, 0, 's',  'N',  'a',  'P',  'p', 'Y',
	                                0,    5, 0, 0, 0xd8, 0xea, 0x82, 0xa2, 0};
	c.len = 8;
	e2_record(&c, 0x0300, chunk, sizeof(chunk));
	refused(&c, NULL, "header is not one RLP list");
	blob_free(&c);
}

Test(era1, blocks_that_do_not_follow_each_other)
{
	struct evm_block b[2];
	struct evm_make m = {.number = 7, .difficulty = 5, .seed = 1};
	struct blob file;
	evm_block_make(&b[0], m);
	m.number = 9;
	m.parent = b[0].hash;
	evm_block_make(&b[1], m);
	file = era1_make(b, 7, 2, 100);
	refused(&file, NULL, "number 9 follows 7");
	blob_free(&file);
	evm_block_free(&b[1]);
	m.number = 8;
	m.parent.b[0] ^= 1;
	evm_block_make(&b[1], m);
	file = era1_make(b, 7, 2, 100);
	refused(&file, NULL, "header of block 8");
	refused(&file, NULL, "its parent is not the block before it");
	blob_free(&file);
	evm_block_free(&b[1]);
	m.parent = b[0].hash;
	m.difficulty = 0;
	evm_block_make(&b[1], m);
	file = era1_make(b, 7, 2, 100);
	refused(&file, NULL, "before the merge only");
	blob_free(&file);
	evm_block_free(&b[1]);
	evm_block_free(&b[0]);
}

Test(era1, total_difficulty_adds_up)
{
	struct rig r = rig_make(4);
	/* wrong, and the accumulator is made to fit: the sum alone tells */
	for (size_t i = 0; i < 4; i++) {
		struct blob c = blob_copy(r.file.p, record_at(&r.file, 17));
		uint64_t offset[4];
		struct stele_hash leaf[4];
		uint8_t both[64];
		c.p[record_at(&r.file, 4 + 4 * i) + 8] ^= 1;
		for (size_t k = 0; k < 4; k++) {
			offset[k] = record_at(&r.file, 1 + 4 * k);
			memcpy(both, r.b[k].hash.b, 32);
			memcpy(both + 32, c.p + record_at(&r.file, 4 + 4 * k) + 8, 32);
			stele_sha256(both, 64, &leaf[k]);
		}
		era1_end(&c, 0, 4, offset, leaf);
		refused(&c, NULL,
		        i ? "total difficulty does not add up"
		          : "total difficulty does not fit its own");
		blob_free(&c);
	}
	rig_free(&r);
}

Test(era1, names)
{
	const struct stele_chain *chain;
	uint64_t epoch;
	uint8_t root[4];
	cr_assert(stele_era1_name_parse(file1, &chain, &epoch, root));
	cr_assert(epoch == 1 && root[0] == 0xa5 && root[3] == 0x9a);
	cr_assert_str_eq(chain->alias, "ethereum");
	cr_assert(stele_era1_name_parse("sepolia-00021-643a00f7.era1", &chain, &epoch, root));
	cr_assert_str_eq(chain->alias, "sepolia");
	cr_assert(stele_era1_name_parse("my-net-00021-643a00f7.era1", &chain, &epoch, root));
	cr_assert_null(chain);
	static const char *const bad[] = {"",
	                                  ".era1",
	                                  "mainnet.era1",
	                                  "mainnet-00001-a5364e9a.era",
	                                  "mainnet-0001-a5364e9a.era1",
	                                  "mainnet-00001-a5364e9.era1",
	                                  "mainnet-0000x-a5364e9a.era1",
	                                  "mainnet-00001-A5364E9A.era1"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(stele_era1_name_parse(bad[i], &chain, &epoch, root), "%s", bad[i]);

	struct blob a = load(file0);
	refused(&a, "mainnet-00000-5ec1ffb9.era1", "does not match the file's name");
	refused(&a, "mainnet-00001-5ec1ffb8.era1", "not of the name's epoch 1");
	struct seen s;
	parse_named(&s, &a, "sepolia-00000-5ec1ffb8.era1");
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	cr_assert(strstr(s.detail, "the file is of ethereum by its block 0"), "%s", s.detail);
	seen_free(&s);
	struct stele_parser_opts opts = era1;
	struct stele_chain sepolia;
	cr_assert_eq(stele_chain_find("sepolia", &sepolia), STELE_OK);
	opts.chain = &sepolia;
	opts.name = file0;
	seen_parse(&s, opts, a.p, a.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	cr_assert_str_eq(s.detail, "the file is of ethereum by its name, not of sepolia");
	seen_free(&s);
	blob_free(&a);
}

Test(era1, kinds_of_e2store_files_are_told_apart)
{
	struct rig r = rig_make(2);
	struct blob b = blob_copy("\x65\x32\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 16);
	cr_assert_eq(stele_format_detect(r.file.p, r.file.len, NULL, NULL), STELE_FORMAT_ERA1);
	cr_assert_eq(stele_format_detect(r.file.p, r.file.len, "x.ere", NULL), STELE_FORMAT_ERE);
	cr_assert_eq(stele_format_detect(r.file.p, r.file.len, "x.erae", NULL), STELE_FORMAT_ERE);
	cr_assert_eq(stele_format_detect(r.file.p, r.file.len, "x.era1", NULL), STELE_FORMAT_ERA1);
	cr_assert_eq(stele_format_detect(b.p, b.len, NULL, NULL), STELE_FORMAT_ERA);
	cr_assert_eq(stele_format_detect("not a chain file", 16, "x.era1", NULL),
	             STELE_FORMAT_UNKNOWN);
	cr_assert_eq(stele_format_detect("", 0, NULL, NULL), STELE_FORMAT_UNKNOWN);
	blob_free(&b);
	rig_free(&r);
}
