/*
 * EVM blocks and era1 files made for tests: consistent in every hash, with transactions and
 * receipts of both kinds, uncles and (if wanted) withdrawals. Nobody mined them.
 */
#ifndef TESTS_UNIT_EVM_FIXTURE_H
#define TESTS_UNIT_EVM_FIXTURE_H

#include "storage/ledger/era1.h"
#include "storage/ledger/evm_block.h"
#include "storage/ledger/keccak.h"
#include "storage/ledger/snappy_frame.h"
#include "storage/base/sha256.h"
#include "tests/unit/blob.h"
#include "tests/unit/guard.h"

/* ---- RLP ---- */

static inline void rlp_string(struct blob *out, const void *p, size_t len)
{
	uint8_t head[STELE_RLP_HEADER_MAX];
	if (len != 1 || *(const uint8_t *)p >= 0x80)
		blob_add(out, head, stele_rlp_header(false, len, head));
	blob_add(out, p, len);
}

static inline void rlp_number(struct blob *out, uint64_t v)
{
	uint8_t be[8];
	size_t skip = 0;
	stele_put_be64(be, v);
	while (skip < 8 && be[skip] == 0)
		skip++;
	rlp_string(out, be + skip, 8 - skip);
}

static inline void rlp_list(struct blob *out, const struct blob *items)
{
	uint8_t head[STELE_RLP_HEADER_MAX];
	blob_add(out, head, stele_rlp_header(true, items->len, head));
	blob_add(out, items->p, items->len);
}

/* ---- a block ---- */

struct evm_block {
	struct blob header;   /* RLP */
	struct blob body;     /* RLP [transactions, uncles, withdrawals?] */
	struct blob receipts; /* RLP */
	struct stele_hash hash;
	uint8_t difficulty[32];
};

static inline void evm_block_free(struct evm_block *b)
{
	blob_free(&b->header);
	blob_free(&b->body);
	blob_free(&b->receipts);
}

/* Items of a list as a trie holds them. */
static inline void list_root(const struct blob *list, struct stele_hash *root)
{
	struct stele_rlp whole, item;
	static struct stele_span span[4096];
	size_t n = 0;
	bool ok = stele_rlp_whole(list->p, list->len, &whole);
	assert(ok);
	(void)ok;
	struct stele_reader r = stele_rlp_items(&whole);
	while (stele_rlp_next(&r, &item))
		span[n++] = item.list ? (struct stele_span){item.raw, item.raw_len}
		                      : (struct stele_span){item.data, item.len};
	stele_trie_root(span, n, root);
}

/* n items: lists and strings that begin with a type, in turn. */
static inline struct blob typed_list(uint64_t *random, size_t n)
{
	struct blob all = {0}, out = {0};
	for (size_t i = 0; i < n; i++) {
		uint8_t bytes[200];
		size_t len = 30 + guard_random(random) % 150;
		struct blob fields = {0}, list = {0};
		guard_fill(random, bytes, sizeof(bytes));
		rlp_string(&fields, bytes, len);
		rlp_number(&fields, i);
		rlp_list(&list, &fields);
		if (i % 2) {
			struct blob typed = blob_copy("\x02", 1);
			blob_add(&typed, list.p, list.len);
			rlp_string(&all, typed.p, typed.len);
			blob_free(&typed);
		} else {
			blob_add(&all, list.p, list.len);
		}
		blob_free(&fields);
		blob_free(&list);
	}
	rlp_list(&out, &all);
	blob_free(&all);
	return out;
}

struct evm_make {
	uint64_t number;
	struct stele_hash parent;
	size_t txs, uncles;
	uint64_t difficulty;
	bool withdrawals;
	uint64_t seed;
};

static inline void evm_header(struct evm_block *b, const struct evm_make *m,
                              const struct stele_hash *uncles, const struct stele_hash *txs,
                              const struct stele_hash *receipts,
                              const struct stele_hash *withdrawals)
{
	uint8_t zero[256] = {0};
	struct blob f = {0};
	rlp_string(&f, m->parent.b, 32);
	rlp_string(&f, uncles->b, 32);
	rlp_string(&f, zero, 20);
	rlp_string(&f, zero, 32);
	rlp_string(&f, txs->b, 32);
	rlp_string(&f, receipts->b, 32);
	rlp_string(&f, zero, 256);
	rlp_number(&f, m->difficulty);
	rlp_number(&f, m->number);
	rlp_number(&f, 30000000);
	rlp_number(&f, 21000 * m->txs);
	rlp_number(&f, 1438269973 + 15 * m->number);
	rlp_string(&f, "made for tests", 14);
	rlp_string(&f, zero, 32);
	rlp_string(&f, zero, 8);
	if (withdrawals) {
		rlp_number(&f, 7); /* base fee */
		rlp_string(&f, withdrawals->b, 32);
		rlp_string(&f, "a field of a later fork", 23);
	}
	rlp_list(&b->header, &f);
	blob_free(&f);
	stele_keccak256(b->header.p, b->header.len, &b->hash);
	memset(b->difficulty, 0, 32);
	stele_put_le64(b->difficulty, m->difficulty);
}

static inline void evm_block_make(struct evm_block *b, struct evm_make m)
{
	uint64_t random = m.seed | 1;
	struct blob uncles = {0}, uncle_items = {0}, body = {0}, withdrawals = {0};
	struct stele_hash uncles_root, tx_root, receipts_root, withdrawals_root;
	*b = (struct evm_block){0};
	struct blob txs = typed_list(&random, m.txs);
	b->receipts = typed_list(&random, m.txs);
	for (size_t i = 0; i < m.uncles; i++) {
		struct blob fields = {0};
		rlp_number(&fields, guard_random(&random));
		rlp_list(&uncle_items, &fields);
		blob_free(&fields);
	}
	rlp_list(&uncles, &uncle_items);
	stele_keccak256(uncles.p, uncles.len, &uncles_root);
	list_root(&txs, &tx_root);
	list_root(&b->receipts, &receipts_root);
	blob_add(&body, txs.p, txs.len);
	blob_add(&body, uncles.p, uncles.len);
	if (m.withdrawals) {
		struct blob fields = {0}, item = {0};
		rlp_number(&fields, 5);
		rlp_list(&item, &fields);
		rlp_list(&withdrawals, &item);
		list_root(&withdrawals, &withdrawals_root);
		blob_add(&body, withdrawals.p, withdrawals.len);
		blob_free(&fields);
		blob_free(&item);
	}
	rlp_list(&b->body, &body);
	evm_header(b, &m, &uncles_root, &tx_root, &receipts_root,
	           m.withdrawals ? &withdrawals_root : NULL);
	blob_free(&txs);
	blob_free(&uncles);
	blob_free(&uncle_items);
	blob_free(&body);
	blob_free(&withdrawals);
}

/* [header, transactions, uncles, withdrawals?]: what export and get write. */
static inline struct blob evm_block_rlp(const struct evm_block *b)
{
	struct stele_rlp body;
	struct blob items = blob_copy(b->header.p, b->header.len), out = {0};
	bool ok = stele_rlp_whole(b->body.p, b->body.len, &body);
	assert(ok);
	(void)ok;
	blob_add(&items, body.data, body.len);
	rlp_list(&out, &items);
	blob_free(&items);
	return out;
}

/* n blocks from `first` on, each the next's parent; some with transactions and uncles. */
static inline struct evm_block *evm_chain_make(uint64_t first, size_t n, bool withdrawals)
{
	struct evm_block *b = calloc(n, sizeof(*b));
	struct stele_hash parent = {{9}};
	for (size_t i = 0; i < n; i++) {
		evm_block_make(&b[i], (struct evm_make){.number = first + i,
		                                        .parent = parent,
		                                        .txs = i % 4 * 3,
		                                        .uncles = i % 3,
		                                        .difficulty = 17000000000 + i,
		                                        .withdrawals = withdrawals,
		                                        .seed = i + 1});
		parent = b[i].hash;
	}
	return b;
}

static inline void evm_chain_free(struct evm_block *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		evm_block_free(&b[i]);
	free(b);
}

/* ---- era1 ---- */

static inline void e2_record(struct blob *out, unsigned type, const void *p, size_t len)
{
	uint8_t head[8] = {(uint8_t)(type >> 8), (uint8_t)type};
	stele_put_le32(head + 2, (uint32_t)len);
	blob_add(out, head, sizeof(head));
	blob_add(out, p, len);
}

static inline void e2_snappy(struct blob *out, unsigned type, const struct blob *plain)
{
	uint8_t *p = NULL;
	size_t len = 0;
	enum stele_err err = stele_snappy_frame_deflate(plain->p, plain->len, &p, &len);
	assert(err == STELE_OK && len < 1u << 30);
	(void)err;
	e2_record(out, type, p, len);
	free(p);
}

/* What stands at an era1 file's end, for blocks whose first records are at `offset`. */
static inline void era1_end(struct blob *out, uint64_t first, size_t n, const uint64_t *offset,
                            struct stele_hash *leaf)
{
	struct stele_hash root;
	struct blob index = {0};
	uint8_t eight[8];
	stele_era1_accumulator(leaf, n, &root);
	e2_record(out, 0x0700, root.b, 32);
	stele_put_le64(eight, first);
	blob_add(&index, eight, 8);
	for (size_t i = 0; i < n; i++) {
		stele_put_le64(eight, offset[i] - out->len);
		blob_add(&index, eight, 8);
	}
	stele_put_le64(eight, n);
	blob_add(&index, eight, 8);
	e2_record(out, 0x6632, index.p, index.len);
	blob_free(&index);
}

/* The blocks as an era1 file; total difficulty before the first is `before`. */
static inline struct blob era1_make(const struct evm_block *b, uint64_t first, size_t n,
                                    uint64_t before)
{
	struct blob out = {0};
	uint64_t *offset = calloc(n, sizeof(*offset));
	struct stele_hash *leaf = calloc(n, sizeof(*leaf));
	uint8_t total[32] = {0}, both[64];
	stele_put_le64(total, before);
	e2_record(&out, 0x6532, NULL, 0);
	for (size_t i = 0; i < n; i++) {
		offset[i] = out.len;
		bool ok = stele_evm_difficulty_add(total, b[i].difficulty);
		assert(ok);
		(void)ok;
		e2_snappy(&out, 0x0300, &b[i].header);
		e2_snappy(&out, 0x0400, &b[i].body);
		e2_snappy(&out, 0x0500, &b[i].receipts);
		e2_record(&out, 0x0600, total, 32);
		memcpy(both, b[i].hash.b, 32);
		memcpy(both + 32, total, 32);
		stele_sha256(both, 64, &leaf[i]);
	}
	era1_end(&out, first, n, offset, leaf);
	free(offset);
	free(leaf);
	return out;
}

#endif
