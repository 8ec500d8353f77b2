/* Goal: each list of an EVM block is held against its own root in the header, in both item
 * forms; a header's fields have their forms, and fields of forks to come are let pass; the
 * blocks of a client's test chain hold. */
#include "tests/unit/evm_fixture.h"
#include "tests/unit/ledger_fixture.h"

static struct stele_evm_scratch scratch;

static enum stele_err check(const struct blob *header, const struct blob *body,
                            const struct blob *receipts, uint32_t *txs)
{
	struct stele_evm_header h;
	struct stele_evm_body lists;
	struct stele_rlp list;
	const struct stele_hash *ids;
	STELE_TRY(stele_evm_header_decode(header->p, header->len, &h));
	if (!stele_rlp_whole(body->p, body->len, &list) || !list.list)
		return stele_fail(STELE_ERR_CORRUPT, "body is not one RLP list");
	struct stele_reader r = stele_rlp_items(&list);
	STELE_TRY(stele_evm_body_decode(&r, &lists));
	STELE_TRY(stele_evm_body_check(&scratch, &h, &lists, txs, &ids));
	return stele_evm_receipts_check(&scratch, &h, receipts->p, receipts->len, *txs);
}

static void refused(const struct evm_block *a, const struct evm_block *body,
                    const struct evm_block *receipts, const char *why)
{
	uint32_t txs;
	cr_assert_eq(check(&a->header, &body->body, &receipts->receipts, &txs), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), why), "\"%s\", expected: %s", stele_detail(), why);
}

Test(evm_block, lists_belong_to_their_header)
{
	struct evm_make m = {.number = 5, .txs = 7, .uncles = 2, .difficulty = 3, .seed = 1};
	struct evm_block a, b;
	uint32_t txs;
	evm_block_make(&a, m);
	cr_assert_eq(check(&a.header, &a.body, &a.receipts, &txs), STELE_OK, "%s", stele_detail());
	cr_assert_eq(txs, 7u);
	m.seed = 2;
	evm_block_make(&b, m);
	refused(&a, &b, &a, "sha3Uncles");
	refused(&a, &a, &b, "receiptsRoot");
	evm_block_free(&b);
	m.uncles = 0;
	evm_block_free(&a);
	evm_block_make(&a, m);
	m.seed = 4;
	evm_block_make(&b, m);
	refused(&a, &b, &a, "transactionsRoot");
	evm_block_free(&b);
	m.txs = 8;
	evm_block_make(&b, m);
	refused(&a, &a, &b, "8 receipts for 7 transactions");
	evm_block_free(&a);
	evm_block_free(&b);
}

Test(evm_block, withdrawals_stand_and_fall_with_the_header)
{
	struct evm_make m = {.number = 5, .txs = 2, .seed = 1}, w = m;
	struct evm_block without, with;
	uint32_t txs;
	w.withdrawals = true;
	evm_block_make(&without, m);
	evm_block_make(&with, w);
	cr_assert_eq(check(&with.header, &with.body, &with.receipts, &txs), STELE_OK, "%s",
	             stele_detail());
	refused(&with, &without, &with, "withdrawals are missing");
	refused(&without, &with, &with, "no header commits to");
	with.body.p[with.body.len - 1] ^= 1; /* the withdrawal's number */
	refused(&with, &with, &with, "withdrawalsRoot");
	evm_block_free(&without);
	evm_block_free(&with);
}

Test(evm_block, every_bit_of_the_lists_is_bound)
{
	struct evm_make m = {.number = 5, .txs = 4, .uncles = 1, .difficulty = 9, .seed = 6};
	struct evm_block b;
	evm_block_make(&b, m);
	struct blob *parts[2] = {&b.body, &b.receipts};
	uint32_t txs;
	for (size_t k = 0; k < 2; k++) {
		for (size_t bit = 0; bit < 8 * parts[k]->len; bit++) {
			parts[k]->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert_eq(check(&b.header, &b.body, &b.receipts, &txs),
			             STELE_ERR_CORRUPT, "part %zu bit %zu", k, bit);
			parts[k]->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		for (size_t cut = 0; cut < parts[k]->len; cut++) {
			size_t len = parts[k]->len;
			parts[k]->len = cut;
			cr_assert_eq(check(&b.header, &b.body, &b.receipts, &txs),
			             STELE_ERR_CORRUPT);
			parts[k]->len = len;
		}
	}
	evm_block_free(&b);
}

Test(evm_block, header_fields_have_their_forms)
{
	struct evm_block b;
	struct stele_evm_header h, good;
	evm_block_make(&b, (struct evm_make){.number = 0x1234, .difficulty = 0x0102, .seed = 1});
	cr_assert_eq(stele_evm_header_decode(b.header.p, b.header.len, &good), STELE_OK);
	cr_assert(good.number == 0x1234 && good.difficulty[0] == 2 && good.difficulty[1] == 1);
	cr_assert(stele_hash_equal(&good.hash, &b.hash));
	/* any other bytes are another header or none */
	for (size_t bit = 0; bit < 8 * b.header.len; bit++) {
		b.header.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		enum stele_err err = stele_evm_header_decode(b.header.p, b.header.len, &h);
		cr_assert(err == STELE_ERR_CORRUPT || !stele_hash_equal(&h.hash, &good.hash));
		b.header.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < b.header.len; cut++)
		cr_assert_eq(stele_evm_header_decode(b.header.p, cut, &h), STELE_ERR_CORRUPT);
	/* fields in wrong forms: a parent of 31 bytes, a number with a leading zero, a list */
	static const struct {
		size_t field;
		const char *bytes;
		size_t len;
		const char *why;
	} wrong[] = {
	    {0, "\x82xy", 3, "parentHash"}, {8, "\x82\x00\x01", 3, "number"},
	    {7, "\xc0", 1, "difficulty"},   {8, "\x89yyyyyyyyy", 10, "number"},
	    {6, "\x80", 1, "logsBloom"},    {14, "\x80", 1, "nonce"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct stele_rlp list, item;
		struct blob fields = {0}, out = {0};
		cr_assert(stele_rlp_whole(b.header.p, b.header.len, &list));
		struct stele_reader r = stele_rlp_items(&list);
		for (size_t k = 0; stele_rlp_next(&r, &item); k++) {
			if (k == wrong[i].field)
				blob_add(&fields, wrong[i].bytes, wrong[i].len);
			else
				blob_add(&fields, item.raw, item.raw_len);
		}
		rlp_list(&out, &fields);
		cr_assert_eq(stele_evm_header_decode(out.p, out.len, &h), STELE_ERR_CORRUPT);
		cr_assert(strstr(stele_detail(), wrong[i].why), "%s", stele_detail());
		blob_free(&fields);
		blob_free(&out);
	}
	evm_block_free(&b);
}

/* 3,000 blocks of a test chain of clients' own test suites, after all forks, made by geth. */
Test(evm_block, blocks_of_a_test_chain)
{
	struct blob file = data_file("ethereum/hive-sync-chain.rlp");
	struct stele_reader r = stele_reader(file.p, file.len);
	struct stele_rlp block;
	struct stele_hash parent = {{0}};
	size_t n = 0, txs_all = 0, withdrawals = 0;
	while (stele_rlp_next(&r, &block)) {
		struct stele_reader items = stele_rlp_items(&block);
		struct stele_rlp header;
		struct stele_evm_header h;
		struct stele_evm_body body;
		uint32_t txs;
		cr_assert(stele_rlp_next(&items, &header));
		cr_assert_eq(stele_evm_header_decode(header.raw, header.raw_len, &h), STELE_OK);
		cr_assert_eq(stele_evm_body_decode(&items, &body), STELE_OK);
		cr_assert_eq(stele_evm_body_check(&scratch, &h, &body, &txs, NULL), STELE_OK,
		             "block %zu: %s", n, stele_detail());
		cr_assert(n == 0 || stele_hash_equal(&h.parent, &parent));
		parent = h.hash;
		txs_all += txs;
		withdrawals += h.has_withdrawals;
		n++;
	}
	cr_assert(stele_read_done(&r));
	cr_assert_eq(n, 3000u);
	cr_assert(txs_all == 546 && withdrawals == 3000, "%zu %zu", txs_all, withdrawals);
	blob_free(&file);
}

Test(evm_block, difficulties_add_up_and_overflow)
{
	uint8_t a[32], b[32] = {1};
	memset(a, 0xff, sizeof(a));
	cr_assert_not(stele_evm_difficulty_add(a, b));
	memset(a, 0, sizeof(a));
	a[0] = 0xff;
	cr_assert(stele_evm_difficulty_add(a, b));
	cr_assert(a[0] == 0 && a[1] == 1);
}
