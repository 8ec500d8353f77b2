/* Goal: the facts of a real FISCO BCOS binlog; each block's lists held against its header, under
 * both hash suites and in all forms that entries had; anything else changed fails the CRC-32 or
 * the links. */
#include "storage/ledger/extract.h"
#include "tests/unit/fisco_fixture.h"
#include "tests/unit/ledger_fixture.h"

static const struct stele_parser_opts fisco = {.format = STELE_FORMAT_FISCO};
static struct stele_fisco_scratch scratch;

static void parse(struct seen *s, const struct blob *file)
{
	seen_parse(s, fisco, file->p, file->len, 0, 0);
}

static void refused(const struct blob *file, const char *why)
{
	struct seen s;
	parse(&s, file);
	cr_assert_eq(s.err, STELE_ERR_CORRUPT, "accepted; expected: %s", why);
	cr_assert(strstr(s.detail, why), "\"%s\", expected: %s", s.detail, why);
	seen_free(&s);
}

Test(fisco, facts_of_a_real_file)
{
	struct blob file = data_file("fisco/data-stash-0.binlog");
	static const size_t pieces[] = {0, 1, 777};
	struct stele_hash digest = {{0}};
	cr_assert_eq(stele_format_detect(file.p, STELE_DETECT_LEN, NULL, NULL), STELE_FORMAT_FISCO);
	for (size_t i = 0; i < 3; i++) {
		struct seen s;
		seen_parse(&s, fisco, file.p, file.len, pieces[i], i);
		cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
		cr_assert(s.facts.count == 22 && s.facts.first_height == 0 &&
		          s.facts.last_height == 21);
		cr_assert(hash_is(STELE_FAMILY_FISCO, &s.facts.first_hash, "3271e7c9"));
		for (size_t k = 1; k < s.blocks; k++) {
			cr_assert(stele_hash_equal(&s.block[k].parent, &s.block[k - 1].hash));
			cr_assert_eq(s.block[k].tx_count, 1u);
		}
		cr_assert(i == 0 || stele_hash_equal(&digest, &s.digest));
		digest = s.digest;
		seen_free(&s);
	}
	/* flips and cuts */
	uint64_t random = 22;
	for (int i = 0; i < 1500; i++) {
		struct seen s;
		size_t bit = guard_random(&random) % (8 * file.len);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		parse(&s, &file);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT, "bit %zu", bit);
		seen_free(&s);
		seen_parse(&s, fisco, file.p, guard_random(&random) % file.len, 0, 0);
		cr_assert_eq(s.err, STELE_ERR_CORRUPT);
		seen_free(&s);
	}
	blob_free(&file);
}

Test(fisco, all_forms)
{
	for (int bits = 0; bits < 3; bits++) {
		for (int sm3 = 0; sm3 < 2; sm3++) {
			struct blob file = fisco_file(0, 6, sm3, (enum fisco_bits)bits);
			struct seen s;
			cr_assert_eq(stele_format_detect(file.p, file.len, NULL, NULL),
			             STELE_FORMAT_FISCO);
			parse(&s, &file);
			cr_assert_eq(s.err, STELE_OK, "%d %d: %s", bits, sm3, s.detail);
			cr_assert_eq(s.blocks, 6u);
			for (size_t i = 0; i < 6; i++) {
				const struct stele_part *part = &s.block[i].part[0];
				struct stele_stored_part stored = {*part, file.p + part->offset};
				struct stele_extract_opts opts = {.format = STELE_FORMAT_FISCO,
				                                  .hash = s.block[i].hash};
				uint8_t *out;
				size_t len;
				cr_assert_eq(stele_block_extract(&opts, &stored, 1, &out, &len),
				             STELE_OK);
				cr_assert(len == part->length &&
				          memcmp(out, stored.bytes, len) == 0);
				free(out);
				opts.hash.b[5] ^= 1;
				cr_assert_eq(stele_block_extract(&opts, &stored, 1, &out, &len),
				             STELE_ERR_CORRUPT);
			}
			seen_free(&s);
			blob_free(&file);
		}
	}
}

/* The block alone, where no CRC stands guard. Unbound: the signatures. */
Test(fisco, every_bit_of_a_block_but_signatures)
{
	for (int sm3 = 0; sm3 < 2; sm3++) {
		struct stele_hash hash;
		struct fisco_make m = {.number = 9, .txs = 3, .sm3 = sm3};
		struct blob b = fisco_block(m, &hash);
		struct stele_fisco_block good, out;
		cr_assert_eq(stele_fisco_block_check(&scratch, b.p, b.len, &good), STELE_OK, "%s",
		             stele_detail());
		cr_assert(stele_hash_equal(&good.hash, &hash) && good.tx_count == 3 &&
		          good.number == 9 && good.sm3 == sm3 && good.signatures_len == 4);
		size_t unbound = 0;
		for (size_t bit = 0; bit < 8 * b.len; bit++) {
			b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (stele_fisco_block_check(&scratch, b.p, b.len, &out) == STELE_OK) {
				cr_assert(stele_hash_equal(&out.hash, &good.hash));
				unbound++;
			}
			b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		cr_assert_leq(unbound, 32u);
		for (size_t cut = 0; cut < b.len; cut++)
			cr_assert_eq(stele_fisco_block_check(&scratch, b.p, cut, &out),
			             STELE_ERR_CORRUPT);
		blob_free(&b);
	}
}

Test(fisco, as_many_receipts_as_transactions)
{
	struct stele_hash hash;
	struct stele_fisco_block out;
	struct blob b =
	    fisco_block((struct fisco_make){.number = 1, .txs = 3, .receipts_less = 1}, &hash);
	cr_assert_eq(stele_fisco_block_check(&scratch, b.p, b.len, &out), STELE_ERR_CORRUPT);
	cr_assert_str_eq(stele_detail(), "2 receipts for 3 transactions");
	blob_free(&b);
}

Test(fisco, roots_of_any_length)
{
	static const size_t lengths[] = {0,   1,   2,   15,  16,  17,  31,   32,   33,   127,
	                                 128, 129, 255, 256, 257, 272, 4095, 4096, 4097, 70000};
	struct stele_hash *ids = malloc(70000 * 32), *level = malloc(5000 * 32);
	uint64_t random = 16;
	guard_fill(&random, ids, 70000 * 32);
	for (int sm3 = 0; sm3 < 2; sm3++) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			struct stele_hash got, want;
			stele_fisco_root(ids, lengths[i], sm3, level, &got);
			fisco_model_root(ids, lengths[i], sm3, &want);
			cr_assert(stele_hash_equal(&got, &want), "%zu", lengths[i]);
		}
	}
	free(ids);
	free(level);
}

Test(fisco, sm3_is_sm3)
{
	struct stele_hash h;
	stele_fisco_hash(true, "abc", 3, &h); /* GB/T 32905-2016, A.1 */
	cr_assert(hash_is(STELE_FAMILY_FISCO, &h,
	                  "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"));
}

/* A payload that is wrong in one way, under a CRC that holds. */
static void refused_payload(const struct blob *payload, const char *why)
{
	struct blob file = fisco_file(0, 2, false, FISCO_USER_BITS);
	fisco_record(&file, payload);
	refused(&file, why);
	blob_free(&file);
}

Test(fisco, records_that_are_wrong_in_one_way)
{
	struct seen s;
	struct blob file = fisco_file(0, 2, false, FISCO_USER_BITS), block, payload;
	struct stele_hash hash, other = {{3}};
	parse(&s, &file);
	struct fisco_make m = {.number = 2, .parent = s.facts.last_hash, .txs = 2};
	seen_free(&s);
	block = fisco_block(m, &hash);

	payload = fisco_payload(2, &hash, &block, FISCO_USER_BITS);
	struct blob good = blob_copy(file.p, file.len);
	fisco_record(&good, &payload);
	parse(&s, &good);
	cr_assert(s.err == STELE_OK && s.blocks == 3, "%s", s.detail);
	seen_free(&s);
	blob_add(&payload, "x", 1);
	refused_payload(&payload, "record 2, at offset ");
	refused_payload(&payload, "its tables do not come out even");
	blob_free(&payload);
	payload = fisco_payload(2, &other, &block, FISCO_USER_BITS);
	refused_payload(&payload, "it is filed under another hash");
	blob_free(&payload);
	payload = fisco_payload(3, &hash, &block, FISCO_USER_BITS);
	refused_payload(&payload, "it is number 2, filed under 3");
	blob_free(&payload);
	payload = blob_copy("\0\0\0\0\0\0\0\2\0\0\0\0", 12);
	refused_payload(&payload, "it holds 0 blocks");
	blob_free(&payload);
	blob_free(&block);

	m.number = 3;
	block = fisco_block(m, &hash);
	payload = fisco_payload(3, &hash, &block, FISCO_USER_BITS);
	refused_payload(&payload, "number 3 follows 1");
	blob_free(&payload);
	blob_free(&block);
	m.number = 2;
	m.parent = other;
	block = fisco_block(m, &hash);
	payload = fisco_payload(2, &hash, &block, FISCO_USER_BITS);
	refused_payload(&payload, "its parent is not the block before it");
	blob_free(&payload);
	blob_free(&block);

	good.p[3] = 2;
	refused(&good, "not a binlog of version 1");
	good.p[3] = 1;
	good.p[4] = 0xff;
	refused(&good, "no block of ");
	good.p[4] = 0;
	good.p[good.len - 1] ^= 1;
	refused(&good, "it fails its CRC-32");
	blob_free(&good);
	good = blob_copy("\0\0\0\1", 4);
	refused(&good, "holds no block");
	blob_free(&good);
	blob_free(&file);
}
