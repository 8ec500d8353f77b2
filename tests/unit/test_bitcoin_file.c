/* Goal: the facts of real blk*.dat files; the same events from any pieces and through any xor
 * key; gaps, torn frames, zeros and padding reported at their places; every damage to a frame or
 * a block refused, with the block and the offset in one line. */
#include "storage/ledger/chain_link.h"
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts blk = {.format = STELE_FORMAT_BITCOIN_BLK};

static void parse(struct seen *s, const struct blob *file)
{
	seen_parse(s, blk, file->p, file->len, 0, 0);
}

static void expect_ok(struct seen *s)
{
	cr_assert_eq(s->err, STELE_OK, "%s", s->detail);
}

static void refused(const struct blob *file, const char *why)
{
	struct seen s;
	parse(&s, file);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT, "accepted; expected: %s", why);
	cr_assert(strstr(s.detail, why), "\"%s\", expected: %s", s.detail, why);
	cr_assert(strstr(s.detail, "offset ") || strstr(s.detail, "no block"), "%s", s.detail);
	cr_assert_not(strchr(s.detail, '\n'));
	seen_free(&s);
}

/* Levels and links of what was seen, as an import works them out. */
static enum stele_err linked(const struct seen *s, struct stele_link_result *out,
                             enum stele_level *level)
{
	struct stele_link_block *b = calloc(s->blocks + 1, sizeof(*b));
	for (size_t i = 0; i < s->blocks; i++)
		b[i] = (struct stele_link_block){.hash = s->block[i].hash,
		                                 .parent = s->block[i].parent,
		                                 .bits = s->block[i].bits,
		                                 .claimed_height = STELE_HEIGHT_UNKNOWN};
	struct stele_link_opts opts = {.chain = s->facts.chain};
	cr_assert_eq(stele_chain_link(&opts, b, s->blocks, out), STELE_OK);
	free(b);
	return stele_link_judge(&s->facts, out, level);
}

/* Offsets of frames in a file without gaps. */
static size_t frames(const struct blob *file, size_t *at, size_t max)
{
	size_t n = 0;
	for (size_t p = 0; p < file->len && n < max; p += 8 + stele_le32(file->p + p + 4))
		at[n++] = p;
	return n;
}

/* ---- real files ---- */

static const struct fact {
	const char *name;
	size_t blocks;
	const char *first, *last;
} facts[] = {
    {"bitcoin/btcd-blk-0-to-4.dat", 5,
     "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f", "000000002f264d65"},
    {"bitcoin/mainnet-blocks-1-256.dat", 255, "00000000839a8e68", "00000000d0a75c86"},
    {"bitcoin/mainnet-277647.dat", 1, "0000000000000000054a714e", "0000000000000000054a714e"},
};
#define FACTS (sizeof(facts) / sizeof(facts[0]))

Test(bitcoin_file, facts_of_real_files)
{
	for (size_t i = 0; i < FACTS; i++) {
		struct blob file = data_file(facts[i].name);
		struct seen s;
		cr_assert_eq(stele_format_detect(file.p, file.len, NULL, NULL),
		             STELE_FORMAT_BITCOIN_BLK);
		parse(&s, &file);
		expect_ok(&s);
		cr_assert_eq(s.facts.count, facts[i].blocks);
		cr_assert_eq(s.facts.length, file.len);
		cr_assert_str_eq(s.facts.chain->alias, "bitcoin");
		cr_assert_eq(s.facts.level, STELE_LEVEL_BOUND);
		cr_assert(s.facts.sealed && s.facts.gaps == 0 && s.gaps == 0);
		cr_assert(hash_is(STELE_FAMILY_BITCOIN, &s.facts.first_hash, facts[i].first));
		cr_assert(hash_is(STELE_FAMILY_BITCOIN, &s.facts.last_hash, facts[i].last));
		for (size_t k = 1; k < s.blocks; k++)
			cr_assert(stele_hash_equal(&s.block[k].parent, &s.block[k - 1].hash));
		size_t consumed = 0;
		for (size_t k = 0; k < s.blocks; k++) {
			cr_assert_eq(s.block[k].part[0].offset, consumed + 8);
			consumed += 8 + s.block[k].part[0].length;
		}
		cr_assert_eq(consumed, file.len);
		seen_free(&s);
		blob_free(&file);
	}
}

Test(bitcoin_file, suffixes_of_known_hashes)
{
	struct blob a = data_file(facts[0].name), b = data_file(facts[1].name);
	struct seen s;
	char hex[STELE_HEX_LEN];
	parse(&s, &a);
	stele_chain_hash_text(STELE_FAMILY_BITCOIN, &s.facts.last_hash, hex);
	cr_assert_str_eq(hex + 60, "128e");
	seen_free(&s);
	parse(&s, &b);
	cr_assert_eq(b.len, 58731u);
	stele_chain_hash_text(STELE_FAMILY_BITCOIN, &s.facts.first_hash, hex);
	cr_assert_str_eq(hex + 60, "6048");
	stele_chain_hash_text(STELE_FAMILY_BITCOIN, &s.facts.last_hash, hex);
	cr_assert_str_eq(hex + 60, "fe3c");
	seen_free(&s);
	blob_free(&a);
	blob_free(&b);
}

/* ---- damage ---- */

Test(bitcoin_file, every_bit_of_a_real_file_is_bound)
{
	struct blob file = data_file(facts[0].name);
	for (size_t bit = 0; bit < 8 * file.len; bit++) {
		struct seen s;
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse(&s, &file);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu was not noticed", bit);
		cr_assert(strstr(s.detail, "offset "), "%s", s.detail);
		seen_free(&s);
	}
	blob_free(&file);
}

Test(bitcoin_file, thousands_of_flips_and_every_cut)
{
	struct blob file = data_file(facts[1].name);
	size_t at[300], n = frames(&file, at, 300);
	uint64_t random = 1256;
	cr_assert_eq(n, 255u);
	for (int i = 0; i < 6000; i++) {
		struct seen s;
		size_t bit = guard_random(&random) % (8 * file.len);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse(&s, &file);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu was not noticed", bit);
		seen_free(&s);
	}
	size_t next = 1;
	for (size_t cut = 0; cut < file.len; cut++) {
		struct seen s;
		if (cut % 7 && (next == n || cut != at[next]))
			continue;
		seen_parse(&s, blk, file.p, cut, 0, 0);
		if (next < n && cut == at[next]) {
			cr_assert_eq(s.err, STELE_OK, "a shorter file: %s", s.detail);
			cr_assert_eq(s.facts.count, next);
			next++;
		} else {
			cr_assert_eq(s.err, STELE_ERR_CORRUPT, "cut at %zu", cut);
		}
		seen_free(&s);
	}
	blob_free(&file);
}

Test(bitcoin_file, flips_in_a_large_block)
{
	struct blob file = data_file(facts[2].name);
	uint64_t random = 277647;
	for (int i = 0; i < 1500; i++) {
		struct seen s;
		size_t bit = guard_random(&random) % (8 * file.len);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse(&s, &file);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu was not noticed", bit);
		seen_free(&s);
	}
	blob_free(&file);
}

/* On regtest half of all headers have enough work, so a changed header is another good block: then
 * its child has no parent any more. Unbound: the last block's header. */
Test(bitcoin_file, flips_in_a_mined_file_are_refused_or_break_a_link)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 4, .block_len = 3000}, 115);
	size_t at[200], n = frames(&file, at, 200);
	uint64_t random = 115;
	size_t other_blocks = 0;
	for (int i = 0; i < 4000; i++) {
		struct seen s;
		size_t bit = guard_random(&random) % (8 * file.len);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse(&s, &file);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (s.err == STELE_OK) {
			struct stele_link_result r;
			enum stele_level level;
			cr_assert_eq(linked(&s, &r, &level), STELE_OK);
			size_t k = n - 1;
			while (at[k] > bit / 8)
				k--;
			cr_assert_lt(bit / 8 - at[k], 88u, "bit %zu lies in no header", bit);
			if (k + 1 < n || r.unlinked_roots)
				cr_assert_eq(level, STELE_LEVEL_BOUND, "bit %zu", bit);
			other_blocks++;
		}
		seen_free(&s);
	}
	cr_assert_gt(other_blocks, 0u);
	blob_free(&file);
}

Test(bitcoin_file, damaged_frames_are_refused)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 6, .block_len = 3000}, 110);
	size_t at[200], n = frames(&file, at, 200);
	for (size_t k = 0; k < n; k++) {
		for (size_t bit = 0; bit < 64; bit++) {
			struct seen s;
			file.p[at[k] + bit / 8] ^= (uint8_t)(1u << bit % 8);
			parse(&s, &file);
			file.p[at[k] + bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert_eq(s.err, STELE_ERR_CORRUPT, "frame %zu bit %zu", k, bit);
			seen_free(&s);
		}
	}
	struct blob c = blob_copy(file.p, file.len);
	memset(c.p + at[100], 0, 8); /* all of it, too */
	refused(&c, "behind a damaged frame");
	blob_free(&c);
	blob_free(&file);
}

Test(bitcoin_file, hopeless_files)
{
	struct blob none = {0}, zeros = {0}, text = blob_copy("not a block file at all", 23);
	uint8_t zero[4096] = {0};
	blob_add(&zeros, zero, sizeof(zero));
	refused(&none, "holds no block");
	refused(&zeros, "magic 00000000");
	refused(&text, "magic 6e6f7420");
	struct blob cut = blob_copy("\xfa\xbf\xb5", 3);
	refused(&cut, "too short");
	blob_add(&cut, "\xda\xff\xff\xff\xff", 5);
	refused(&cut, "no block of");
	blob_free(&zeros);
	blob_free(&text);
	blob_free(&cut);
}

Test(bitcoin_file, another_chain_is_named)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 1}, 3);
	struct stele_chain mainnet, ethereum;
	struct stele_parser_opts opts = blk;
	struct seen s;
	cr_assert_eq(stele_chain_find("bitcoin", &mainnet), STELE_OK);
	opts.chain = &mainnet;
	seen_parse(&s, opts, file.p, file.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	cr_assert_str_eq(s.detail, "the file is of bitcoin-regtest by its magic, not of bitcoin");
	seen_free(&s);
	cr_assert_eq(stele_chain_find("ethereum", &ethereum), STELE_OK);
	opts.chain = &ethereum;
	seen_parse(&s, opts, file.p, file.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	opts.chain = NULL;
	opts.format = STELE_FORMAT_ERA;
	seen_parse(&s, opts, file.p, file.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_INVALID);
	cr_assert(strstr(s.detail, "consensus layer"), "%s", s.detail);
	blob_free(&file);
}

/* ---- pieces and keys ---- */

Test(bitcoin_file, pieces_and_keys_do_not_matter)
{
	static const uint8_t keys[][8] = {{0},
	                                  {1, 2, 3, 4, 5, 6, 7, 8},
	                                  {0xfa, 0xbf, 0xb5, 0xda, 0xfa, 0xbf, 0xb5, 0xda},
	                                  {0xff, 0, 0xff, 0, 0, 0, 0xff, 0xff}};
	static const size_t pieces[] = {0, 1, 7, 100, 5000, 100000};
	struct blob file = mined_file((struct stele_miner_opts){.seed = 9, .block_len = 9000}, 112);
	uint8_t zero[100000] = {0};
	struct seen whole;
	parse(&whole, &file);
	expect_ok(&whole);
	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		struct blob hidden = blob_copy(file.p, file.len);
		for (size_t i = 0; i < hidden.len; i++)
			hidden.p[i] ^= keys[k][i % 8];
		blob_add(&hidden, zero, sizeof(zero)); /* preallocated, never xored */
		cr_assert_eq(stele_format_detect(hidden.p, hidden.len, NULL, keys[k]),
		             STELE_FORMAT_BITCOIN_BLK);
		for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
			struct stele_parser_opts opts = blk;
			struct seen s;
			opts.xor_key = keys[k];
			seen_parse(&s, opts, hidden.p, hidden.len, pieces[i], k + i);
			expect_ok(&s);
			cr_assert_eq(s.blocks, whole.blocks);
			cr_assert_eq(s.facts.has_xor, k != 0);
			cr_assert_eq(s.facts.padding, sizeof(zero));
			cr_assert_eq(s.facts.gaps, 0u);
			cr_assert_not(s.facts.sealed);
			cr_assert(s.gaps == 1 && s.gap[0].kind == STELE_GAP_PADDING &&
			          s.gap[0].offset == file.len);
			for (size_t n = 0; n < s.blocks; n++) {
				cr_assert(stele_hash_equal(&s.block[n].hash, &whole.block[n].hash));
				cr_assert_eq(s.block[n].part[0].offset,
				             whole.block[n].part[0].offset);
				cr_assert_eq(s.block[n].part[0].encoding,
				             k ? STELE_ENCODING_XOR : STELE_ENCODING_RAW);
			}
			seen_free(&s);
		}
		blob_free(&hidden);
	}
	for (size_t i = 1; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct seen s;
		seen_parse(&s, blk, file.p, file.len, pieces[i], i);
		cr_assert(stele_hash_equal(&s.digest, &whole.digest));
		seen_free(&s);
	}
	seen_free(&whole);
	blob_free(&file);
}

/* ---- gaps ---- */

struct gap_case {
	struct blob file;
	size_t at; /* where the gap was put */
	size_t len;
};

/* A mined file with bytes put in front of block `before`. */
static struct gap_case with_gap(size_t blocks, size_t before, const void *bytes, size_t len)
{
	struct blob file =
	    mined_file((struct stele_miner_opts){.seed = 12, .block_len = 3000}, blocks);
	size_t at[200], n = frames(&file, at, 200);
	struct gap_case c = {.at = before < n ? at[before] : file.len, .len = len};
	blob_add(&c.file, file.p, c.at);
	blob_add(&c.file, bytes, len);
	blob_add(&c.file, file.p + c.at, file.len - c.at);
	blob_free(&file);
	return c;
}

static void expect_gap(const struct gap_case *c, enum stele_gap_kind kind, size_t blocks)
{
	static const size_t pieces[] = {0, 1, 13, 3000};
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct seen s;
		seen_parse(&s, blk, c->file.p, c->file.len, pieces[i], i);
		expect_ok(&s);
		cr_assert_eq(s.blocks, blocks);
		cr_assert_eq(s.gaps, 1u);
		cr_assert_eq(s.gap[0].kind, kind);
		cr_assert_eq(s.gap[0].offset, c->at);
		cr_assert_eq(s.gap[0].length, c->len);
		cr_assert_eq(s.facts.gaps, 1u);
		cr_assert_eq(s.facts.gap_bytes, c->len);
		cr_assert_eq(s.facts.torn, kind == STELE_GAP_TORN ? 1u : 0u);
		struct stele_link_result r;
		enum stele_level level;
		cr_assert_eq(linked(&s, &r, &level), STELE_OK, "%s", stele_detail());
		cr_assert_eq(level, STELE_LEVEL_LINKED);
		seen_free(&s);
	}
}

Test(bitcoin_file, gaps_are_reported_where_they_are)
{
	uint64_t random = 99;
	uint8_t junk[5000], zero[5000] = {0};
	guard_fill(&random, junk, sizeof(junk));
	static const size_t lengths[] = {1, 3, 4, 7, 8, 9, 80, 87, 88, 89, 5000};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct gap_case c = with_gap(105, 103, junk, lengths[i]);
		expect_gap(&c, STELE_GAP_BYTES, 105);
		blob_free(&c.file);
		c = with_gap(105, 103, zero, lengths[i]);
		expect_gap(&c, STELE_GAP_ZERO, 105);
		blob_free(&c.file);
		c = with_gap(105, 105, junk, lengths[i]); /* behind the last block */
		expect_gap(&c, STELE_GAP_BYTES, 105);
		blob_free(&c.file);
	}
	/* bytes that begin like a frame */
	struct gap_case c = with_gap(105, 103, "\xfa\xbf\xb5\xda\xff\xff\xff\xff\xfa\xbf\xb5", 11);
	expect_gap(&c, STELE_GAP_BYTES, 105);
	blob_free(&c.file);
}

Test(bitcoin_file, bytes_then_padding_at_the_end)
{
	struct gap_case c = with_gap(20, 20, "left over", 9);
	uint8_t zero[300] = {0};
	struct seen s;
	blob_add(&c.file, zero, sizeof(zero));
	for (size_t pieces = 0; pieces < 20; pieces += 6) {
		seen_parse(&s, blk, c.file.p, c.file.len, pieces, 3);
		expect_ok(&s);
		cr_assert_eq(s.gaps, 2u);
		cr_assert(s.gap[0].kind == STELE_GAP_BYTES && s.gap[0].length == 9);
		cr_assert(s.gap[1].kind == STELE_GAP_PADDING && s.gap[1].length == 300 &&
		          s.gap[1].offset == c.at + 9);
		seen_free(&s);
	}
	blob_free(&c.file);
}

/* A node that crashed wrote a later, shorter frame over a longer one: first the torn head, then the
 * good frame, then the torn one's tail. */
Test(bitcoin_file, a_frame_written_over_is_torn)
{
	struct blob file =
	    mined_file((struct stele_miner_opts){.seed = 12, .block_len = 3000}, 105);
	size_t at[200];
	frames(&file, at, 200);
	for (size_t head = 8; head < 1500; head += 83) {
		struct gap_case c = {.at = at[101], .len = head};
		/* block 104's frame begins, and blocks 101..104 stand from inside of it on */
		blob_add(&c.file, file.p, at[101]);
		blob_add(&c.file, file.p + at[104], head);
		blob_add(&c.file, file.p + at[101], file.len - at[101]);
		expect_gap(&c, STELE_GAP_TORN, 105);
		blob_free(&c.file);
	}
	blob_free(&file);
}

Test(bitcoin_file, gaps_that_hide_a_block_do_not_close)
{
	struct blob file =
	    mined_file((struct stele_miner_opts){.seed = 12, .block_len = 3000}, 105);
	size_t at[200];
	frames(&file, at, 200);
	/* frame and header of block 50 gone: nothing says a block was there, but 51 lacks its
	 * parent */
	memset(file.p + at[50], 0xee, 100);
	struct seen s;
	struct stele_link_result r;
	enum stele_level level;
	parse(&s, &file);
	expect_ok(&s);
	cr_assert_eq(s.blocks, 104u);
	cr_assert_eq(linked(&s, &r, &level), STELE_OK);
	cr_assert_eq(level,
	             STELE_LEVEL_BOUND); /* one parent is missing: it may be in another file */
	seen_free(&s);
	memset(file.p + at[70], 0xee, 100);
	parse(&s, &file);
	expect_ok(&s);
	cr_assert_eq(linked(&s, &r, &level), STELE_ERR_CORRUPT);
	cr_assert_eq(r.unlinked_roots, 2u);
	cr_assert(strstr(stele_detail(), "lack their parents"), "%s", stele_detail());
	seen_free(&s);
	blob_free(&file);
}

/* Frames without end that hold no block: given up on, not chewed for hours. */
Test(bitcoin_file, hostile_frames_cost_a_bounded_time)
{
	struct blob block = mined_file((struct stele_miner_opts){.seed = 2}, 103), file = {0};
	size_t at[200];
	frames(&block, at, 200);
	/* a long good block with a bad last byte, and inside of it starts of such frames
	 * everywhere */
	blob_add(&file, block.p, at[102]);
	size_t len = stele_le32(block.p + at[102] + 4);
	for (int i = 0; i < 400; i++) {
		blob_add(&file, block.p + at[102], 8 + len);
		file.p[file.len - 1] ^= 1;
		blob_add(&file, block.p, at[1]); /* a good frame inside what the next claims */
		stele_put_le32(file.p + file.len - at[1] - len - 8 + 4, (uint32_t)(len + 200));
	}
	struct seen s;
	parse(&s, &file);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	cr_assert(strstr(s.detail, "gave up") || strstr(s.detail, "block"), "%s", s.detail);
	seen_free(&s);
	blob_free(&block);
	blob_free(&file);
}

static enum stele_err stop_at_three(void *ctx, const struct stele_found_block *b)
{
	(void)b;
	return ++*(int *)ctx == 3 ? stele_fail(STELE_ERR_CANCELLED, "enough") : STELE_OK;
}

Test(bitcoin_file, the_caller_may_stop)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 12}, 10);
	int count = 0;
	struct stele_parser_opts opts = blk;
	struct stele_parser *p;
	opts.on_block = stop_at_three;
	opts.ctx = &count;
	cr_assert_eq(stele_parser_create(&opts, &p), STELE_OK);
	cr_assert_eq(stele_parser_feed(p, file.p, file.len), STELE_ERR_CANCELLED);
	cr_assert_eq(count, 3);
	stele_parser_destroy(p);
	stele_parser_destroy(NULL);
	blob_free(&file);
}
