/* Goal: a file that is one block is read as that block, in any pieces; anything before, behind
 * or wrong in it is refused; only headers with work pass for one. */
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts raw = {.format = STELE_FORMAT_BITCOIN_RAW};

Test(bitcoin_raw, one_block)
{
	struct blob file = data_file("bitcoin/mainnet-277647.dat");
	struct blob b = blob_copy(file.p + 8, file.len - 8);
	static const size_t pieces[] = {0, 1, 4000};
	struct seen s;
	cr_assert_eq(stele_format_detect(b.p, STELE_DETECT_LEN, NULL, NULL),
	             STELE_FORMAT_BITCOIN_RAW);
	for (size_t i = 0; i < 3; i++) {
		seen_parse(&s, raw, b.p, b.len, pieces[i], i);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(s.blocks == 1 && s.block[0].tx_count == 213);
		cr_assert(s.block[0].part[0].offset == 0 && s.block[0].part[0].length == b.len);
		cr_assert(
		    hash_is(STELE_FAMILY_BITCOIN, &s.facts.first_hash, "0000000000000000054a714e"));
		cr_assert_null(s.facts.chain);
		seen_free(&s);
	}
	seen_parse(&s, raw, b.p, b.len - 1, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	seen_free(&s);
	blob_add(&b, "x", 1);
	seen_parse(&s, raw, b.p, b.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	cr_assert_str_eq(s.detail, "1 bytes behind the block");
	seen_free(&s);
	seen_parse(&s, raw, b.p, 0, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	seen_free(&s);
	b.p[40] ^= 1;
	cr_assert_eq(stele_format_detect(b.p, STELE_DETECT_LEN, NULL, NULL), STELE_FORMAT_UNKNOWN);
	blob_free(&b);
	blob_free(&file);
}

Test(bitcoin_raw, a_genesis_block_names_its_chain)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 1}, 1);
	struct seen s;
	struct stele_chain mainnet;
	cr_assert_eq(stele_format_detect(file.p + 8, file.len - 8, NULL, NULL),
	             STELE_FORMAT_BITCOIN_RAW);
	seen_parse(&s, raw, file.p + 8, file.len - 8, 0, 0);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert_str_eq(s.facts.chain->alias, "bitcoin-regtest");
	seen_free(&s);
	cr_assert_eq(stele_chain_find("bitcoin", &mainnet), STELE_OK);
	struct stele_parser_opts opts = raw;
	opts.chain = &mainnet;
	seen_parse(&s, opts, file.p + 8, file.len - 8, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT); /* easier than mainnet allows */
	seen_free(&s);
	blob_free(&file);
}

Test(bitcoin_raw, too_much)
{
	struct blob big = {.p = calloc(1, 4000002), .len = 4000001};
	struct seen s;
	seen_parse(&s, raw, big.p, big.len, 0, 0);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	cr_assert(strstr(s.detail, "more than one block"), "%s", s.detail);
	seen_free(&s);
	seen_parse(&s, raw, big.p, big.len, 1000000, 1);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT);
	seen_free(&s);
	blob_free(&big);
}
