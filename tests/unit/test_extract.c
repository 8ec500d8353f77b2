/* Goal: for every block of every file at hand, its parts give back the block, bound to its hash;
 * parts of another block, changed bytes, a wrong key or a missing part are refused. */
#include "storage/ledger/extract.h"
#include "tests/unit/evm_fixture.h"
#include "tests/unit/ledger_fixture.h"

struct got {
	uint8_t *p;
	size_t len;
};

static enum stele_err extract(const struct seen *s, const struct blob *file,
                              const struct stele_found_block *b, const uint8_t *key,
                              struct got *out)
{
	struct stele_stored_part parts[STELE_PARTS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < b->nparts; i++) {
		if (stele_extract_needs(b->part[i].kind))
			parts[n++] = (struct stele_stored_part){
			    .part = b->part[i], .bytes = file->p + b->part[i].offset};
	}
	struct stele_extract_opts opts = {
	    .format = s->facts.format, .chain = s->facts.chain, .xor_key = key, .hash = b->hash};
	*out = (struct got){0};
	return stele_block_extract(&opts, parts, n, &out->p, &out->len);
}

static void parse(struct seen *s, const struct blob *file, enum stele_format format,
                  const uint8_t *key)
{
	struct stele_parser_opts opts = {.format = format, .xor_key = key};
	seen_parse(s, opts, file->p, file->len, 0, 0);
	cr_assert_eq(s->err, STELE_OK, "%s", s->detail);
}

Test(extract, bitcoin_blocks_plain_and_through_a_key)
{
	static const uint8_t key[8] = {9, 8, 7, 6, 5, 4, 3, 2}, wrong[8] = {9, 8, 7, 6, 5, 4, 3, 1};
	struct blob file = mined_file((struct stele_miner_opts){.seed = 3, .block_len = 5000}, 115);
	struct blob hidden = blob_copy(file.p, file.len);
	for (size_t i = 0; i < hidden.len; i++)
		hidden.p[i] ^= key[i % 8];
	struct seen s, h;
	struct got g;
	parse(&s, &file, STELE_FORMAT_BITCOIN_BLK, NULL);
	parse(&h, &hidden, STELE_FORMAT_BITCOIN_BLK, key);
	for (size_t i = 0; i < s.blocks; i++) {
		const uint8_t *want = file.p + s.block[i].part[0].offset;
		cr_assert_eq(extract(&s, &file, &s.block[i], NULL, &g), STELE_OK);
		cr_assert(g.len == s.block[i].part[0].length && memcmp(g.p, want, g.len) == 0);
		free(g.p);
		cr_assert_eq(extract(&h, &hidden, &h.block[i], key, &g), STELE_OK);
		cr_assert(g.len == s.block[i].part[0].length && memcmp(g.p, want, g.len) == 0);
		free(g.p);
		cr_assert_eq(extract(&h, &hidden, &h.block[i], wrong, &g), STELE_ERR_CORRUPT);
	}
	cr_assert_eq(extract(&h, &hidden, &h.block[0], NULL, &g), STELE_ERR_INVALID);
	seen_free(&s);
	seen_free(&h);
	blob_free(&file);
	blob_free(&hidden);
}

Test(extract, bitcoin_damage)
{
	struct blob file = mined_file((struct stele_miner_opts){.seed = 3, .block_len = 4000}, 112);
	struct seen s;
	struct got g;
	uint64_t random = 8;
	parse(&s, &file, STELE_FORMAT_BITCOIN_BLK, NULL);
	struct stele_found_block b = s.block[110];
	for (int i = 0; i < 5000; i++) {
		size_t bit = 8 * b.part[0].offset + guard_random(&random) % (8 * b.part[0].length);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT, "bit %zu", bit);
		file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	b.part[0] = s.block[109].part[0];
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "the stored block is "), "%s", stele_detail());
	b = s.block[110];
	b.part[0].length++;
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT);
	b.part[0].length = 79;
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT);
	b.part[0].length = 0;
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT);
	b = s.block[110];
	b.part[0].encoding = 99;
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_INVALID);
	b.nparts = 0;
	cr_assert_eq(extract(&s, &file, &b, NULL, &g), STELE_ERR_CORRUPT);
	s.facts.format = STELE_FORMAT_ERA;
	cr_assert_eq(extract(&s, &file, &s.block[0], NULL, &g), STELE_ERR_INVALID);
	seen_free(&s);
	blob_free(&file);
}

Test(extract, era1_blocks_made)
{
	struct evm_block *b = evm_chain_make(0, 20, false);
	struct blob file = era1_make(b, 0, 20, 0);
	struct seen s;
	struct got g;
	uint64_t random = 6;
	parse(&s, &file, STELE_FORMAT_ERA1, NULL);
	for (size_t i = 0; i < s.blocks; i++) {
		struct blob want = evm_block_rlp(&b[i]);
		cr_assert_eq(extract(&s, &file, &s.block[i], NULL, &g), STELE_OK, "%s",
		             stele_detail());
		cr_assert(g.len == want.len && memcmp(g.p, want.p, g.len) == 0);
		free(g.p);
		/* damage: refused, or only in the compressed form */
		for (int k = 0; k < 200; k++) {
			const struct stele_part *p = &s.block[i].part[k % 2];
			size_t bit = 8 * p->offset + guard_random(&random) % (8 * p->length);
			file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (extract(&s, &file, &s.block[i], NULL, &g) == STELE_OK) {
				cr_assert(g.len == want.len && memcmp(g.p, want.p, g.len) == 0);
				free(g.p);
			}
			file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		blob_free(&want);
	}
	/* one block's header with another's body */
	struct stele_found_block mixed = s.block[3];
	mixed.part[1] = s.block[7].part[1];
	cr_assert_eq(extract(&s, &file, &mixed, NULL, &g), STELE_ERR_CORRUPT);
	mixed = s.block[3];
	mixed.hash = s.block[4].hash;
	cr_assert_eq(extract(&s, &file, &mixed, NULL, &g), STELE_ERR_CORRUPT);
	mixed = s.block[3];
	mixed.nparts = 1;
	cr_assert_eq(extract(&s, &file, &mixed, NULL, &g), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "no header or no body"));
	seen_free(&s);
	blob_free(&file);
	evm_chain_free(b, 20);
}

Test(extract, era1_blocks_of_mainnet)
{
	struct blob file = data_file("ethereum/mainnet-00000-5ec1ffb8.era1");
	struct seen s;
	struct got g;
	parse(&s, &file, STELE_FORMAT_ERA1, NULL);
	for (size_t i = 0; i < s.blocks; i += 61) {
		struct stele_rlp block, item;
		struct stele_hash h;
		cr_assert_eq(extract(&s, &file, &s.block[i], NULL, &g), STELE_OK, "%s",
		             stele_detail());
		cr_assert(stele_rlp_whole(g.p, g.len, &block) && block.list);
		struct stele_reader r = stele_rlp_items(&block);
		cr_assert(stele_rlp_next(&r, &item));
		stele_keccak256(item.raw, item.raw_len, &h);
		cr_assert(stele_hash_equal(&h, &s.block[i].hash));
		cr_assert(stele_rlp_next(&r, &item) && item.list && item.len == 0);
		cr_assert(stele_rlp_next(&r, &item) && item.list && stele_read_done(&r));
		free(g.p);
	}
	seen_free(&s);
	blob_free(&file);
}
