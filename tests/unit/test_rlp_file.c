/* Goal: the facts of a real export, plain and gzipped; every bit of a short one bound to its
 * block's hash, and that hash to the next block; blocks that do not follow are refused. */
#include <zlib.h>

#include "storage/ledger/extract.h"
#include "tests/unit/evm_fixture.h"
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts rlp = {.format = STELE_FORMAT_RLP};

static struct blob export_of(const struct evm_block *b, size_t n)
{
	struct blob out = {0};
	for (size_t i = 0; i < n; i++) {
		struct blob one = evm_block_rlp(&b[i]);
		blob_add(&out, one.p, one.len);
		blob_free(&one);
	}
	return out;
}

static void refused(const struct blob *file, const char *why)
{
	struct seen s;
	seen_parse(&s, rlp, file->p, file->len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT, "accepted; expected: %s", why);
	cr_assert(strstr(s.detail, why), "\"%s\", expected: %s", s.detail, why);
	seen_free(&s);
}

Test(rlp_file, facts_of_a_real_export)
{
	struct blob file = data_file("ethereum/hive-sync-chain.rlp");
	struct seen s;
	cr_assert_eq(stele_format_detect(file.p, STELE_DETECT_LEN, NULL, NULL), STELE_FORMAT_RLP);
	static const size_t pieces[] = {0, 100, 5000};
	struct stele_hash digest = {{0}};
	for (size_t i = 0; i < 3; i++) {
		seen_parse(&s, rlp, file.p, file.len, pieces[i], i);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(s.facts.count == 3000 && s.facts.length == file.len);
		cr_assert(s.facts.first_height == 1 && s.facts.last_height == 3000);
		cr_assert(i == 0 || stele_hash_equal(&digest, &s.digest));
		digest = s.digest;
		size_t end = 0;
		for (size_t k = 0; k < s.blocks; k++) { /* consumed exactly */
			cr_assert_eq(s.block[k].part[0].offset, end);
			end += s.block[k].part[0].length;
		}
		cr_assert_eq(end, file.len);
		seen_free(&s);
	}
	blob_free(&file);
}

Test(rlp_file, gzipped_is_the_same)
{
	struct evm_block *b = evm_chain_make(0, 30, true);
	struct blob file = export_of(b, 30), zipped = {.p = malloc(100000)};
	z_stream z = {0};
	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = file.p;
	z.avail_in = (unsigned)file.len;
	z.next_out = zipped.p;
	z.avail_out = 100000;
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	zipped.len = 100000 - z.avail_out;
	deflateEnd(&z);
	cr_assert_eq(stele_format_detect(zipped.p, zipped.len, NULL, NULL), STELE_FORMAT_RLP_GZIP);
	struct stele_parser_opts opts = {.format = STELE_FORMAT_RLP_GZIP};
	for (size_t piece = 0; piece < 1000; piece = 3 * piece + 1) {
		struct seen s;
		seen_parse(&s, opts, zipped.p, zipped.len, piece, 1);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(s.blocks == 30 && s.facts.length == zipped.len);
		for (size_t i = 0; i < 30; i++) {
			const struct stele_part *part = &s.block[i].part[0];
			uint8_t *out;
			size_t len;
			cr_assert_eq(part->encoding, STELE_ENCODING_GZIP);
			struct stele_stored_part stored = {*part, file.p + part->offset};
			struct stele_extract_opts x = {.format = STELE_FORMAT_RLP_GZIP,
			                               .hash = b[i].hash};
			cr_assert_eq(stele_block_extract(&x, &stored, 1, &out, &len), STELE_OK);
			cr_assert(len == part->length && memcmp(out, stored.bytes, len) == 0);
			free(out);
		}
		seen_free(&s);
	}
	struct seen s;
	seen_parse(&s, opts, zipped.p, zipped.len - 1, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	cr_assert_str_eq(s.detail, "the gzip stream is cut");
	seen_free(&s);
	/* gzip of something else is nobody's ledger */
	zipped.p[20] ^= 0xff;
	cr_assert_eq(stele_format_detect(zipped.p, 40, NULL, NULL), STELE_FORMAT_UNKNOWN);
	blob_free(&file);
	blob_free(&zipped);
	evm_chain_free(b, 30);
}

/* Unbound: the last block's header, whose hash nothing in the file names. */
Test(rlp_file, every_bit_of_an_export)
{
	struct evm_block *b = evm_chain_make(7, 5, true);
	struct blob file = export_of(b, 5);
	struct seen good, s;
	seen_parse(&good, rlp, file.p, file.len, 0, 0);
	cr_assert_eq(good.err, STELE_OK, "%s", good.detail);
	size_t last = good.block[4].part[0].offset, other = 0;
	for (size_t bit = 0; bit < 8 * file.len; bit++) {
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		seen_parse(&s, rlp, file.p, file.len, 0, 0);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (s.err == STELE_OK) {
			cr_assert(bit / 8 > last && bit / 8 < last + 8 + b[4].header.len, "bit %zu",
			          bit);
			cr_assert_not(stele_hash_equal(&s.facts.last_hash, &good.facts.last_hash));
			other++;
		} else {
			cr_assert_eq(s.err, STELE_ERR_CORRUPT);
			cr_assert(strstr(s.detail, "offset "), "%s", s.detail);
		}
		seen_free(&s);
	}
	cr_assert_gt(other, 0u);
	for (size_t cut = 0; cut < file.len; cut++) {
		size_t whole = 0;
		while (whole < 5 && good.block[whole].part[0].offset < cut)
			whole++;
		bool between = whole == 0 ? false
		                          : cut == good.block[whole - 1].part[0].offset +
		                                       good.block[whole - 1].part[0].length;
		seen_parse(&s, rlp, file.p, cut, 0, 0);
		cr_assert_eq(s.err, between ? STELE_OK : STELE_ERR_CORRUPT, "cut at %zu", cut);
		seen_free(&s);
	}
	seen_free(&good);
	blob_free(&file);
	evm_chain_free(b, 5);
}

Test(rlp_file, blocks_follow_each_other)
{
	struct evm_block *b = evm_chain_make(7, 4, false), t;
	struct blob file, one = evm_block_rlp(&b[0]);
	t = b[1];
	b[1] = b[2];
	b[2] = t;
	file = export_of(b, 4);
	refused(&file, "block 1 of the file, at offset ");
	refused(&file, "its parent is not the block before it");
	blob_free(&file);
	file = blob_copy(one.p, one.len);
	blob_add(&file, one.p, one.len);
	refused(&file, "its parent is not the block before it");
	blob_free(&file);
	file = blob_copy(one.p, one.len);
	blob_add(&file, "\x80", 1);
	refused(&file, "not an RLP list");
	file.len--;
	blob_add(&file, "\xfb\xff\xff\xff\xff", 5);
	refused(&file, "at most ");
	blob_free(&file);
	blob_free(&one);
	evm_chain_free(b, 4);
}

Test(rlp_file, detection)
{
	struct evm_block *b = evm_chain_make(7, 1, false);
	struct blob file = export_of(b, 1);
	cr_assert_eq(stele_format_detect(file.p, file.len, NULL, NULL), STELE_FORMAT_RLP);
	for (size_t len = 0; len < 60; len++)
		cr_assert_eq(stele_format_detect(file.p, len, NULL, NULL), STELE_FORMAT_UNKNOWN);
	/* the two lists, and the header's first three strings */
	static const uint8_t heads[] = {0, 3, 6, 39, 72};
	for (size_t i = 0; i < sizeof(heads); i++) {
		file.p[heads[i]] ^= 0x10;
		cr_assert_eq(stele_format_detect(file.p, file.len, NULL, NULL),
		             STELE_FORMAT_UNKNOWN, "%zu", i);
		file.p[heads[i]] ^= 0x10;
	}
	blob_free(&file);
	evm_chain_free(b, 1);
}
