/* FISCO BCOS binlogs made for tests and fuzz targets: consistent in every hash, sealed by
 * nobody. */
#ifndef TESTS_UNIT_FISCO_FIXTURE_H
#define TESTS_UNIT_FISCO_FIXTURE_H

#include <stdio.h>
#include <zlib.h>

#include "storage/ledger/fisco.h"
#include "tests/unit/evm_fixture.h"

enum fisco_bits { FISCO_USER_BITS, FISCO_ALL_BITS, FISCO_NO_BITS };

struct fisco_make {
	uint64_t number;
	struct stele_hash parent;
	size_t txs, receipts_less; /* as many receipts as transactions, less these */
	bool sm3;
	enum fisco_bits bits;
};

static inline void put_be32(struct blob *out, uint32_t v)
{
	uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	blob_add(out, b, 4);
}

static inline void put_string(struct blob *out, const void *p, size_t len)
{
	put_be32(out, (uint32_t)len);
	blob_add(out, p, len);
}

/* The tree by its definition: groups of 16 of what is below, hashed until one is left, and that
 * hashed. */
static inline void fisco_model_root(const struct stele_hash *ids, size_t n, bool sm3,
                                    struct stele_hash *root)
{
	struct blob *level = calloc(n + 1, sizeof(*level));
	for (size_t i = 0; i < n; i++) {
		rlp_number(&level[i], i);
		blob_add(&level[i], ids[i].b, 32);
	}
	while (n > 1) {
		size_t up = 0;
		for (size_t i = 0; i < n; i += 16) {
			struct blob all = {0};
			struct stele_hash h;
			for (size_t k = i; k < n && k < i + 16; k++) {
				blob_add(&all, level[k].p, level[k].len);
				blob_free(&level[k]);
			}
			stele_fisco_hash(sm3, all.p, all.len, &h);
			level[up++] = blob_copy(h.b, 32);
			blob_free(&all);
		}
		n = up;
	}
	stele_fisco_hash(sm3, level[0].p, level[0].len, root);
	blob_free(&level[0]);
	free(level);
}

/* The block's RLP. */
static inline struct blob fisco_block(struct fisco_make m, struct stele_hash *hash)
{
	struct blob bytes = {0}, offsets = {0}, txs = {0}, receipts = {0}, list = {0}, out = {0};
	struct blob header = {0}, items = {0};
	struct stele_hash *tx = calloc(m.txs + 1, 32), *receipt = calloc(m.txs + 1, 32);
	struct stele_hash tx_root = {{0}}, receipts_root = {{0}};
	uint8_t four[4], zero[256] = {0};
	stele_put_le32(four, (uint32_t)m.txs);
	blob_add(&offsets, four, 4);
	for (size_t i = 0; i <= m.txs; i++) {
		stele_put_le32(four, (uint32_t)bytes.len);
		blob_add(&offsets, four, 4);
		if (i == m.txs)
			break;
		char text[40];
		int n = snprintf(text, sizeof(text), "transaction %zu of block %u", i,
		                 (unsigned)m.number);
		blob_add(&bytes, text, (size_t)n);
		stele_fisco_hash(m.sm3, text, (size_t)n, &tx[i]);
		struct blob fields = {0}, one = {0};
		if (i + m.receipts_less >= m.txs)
			continue;
		rlp_string(&fields, text, (size_t)n);
		rlp_number(&fields, i);
		rlp_list(&one, &fields);
		stele_fisco_hash(m.sm3, one.p, one.len, &receipt[i]);
		blob_add(&receipts, one.p, one.len);
		blob_free(&fields);
		blob_free(&one);
	}
	if (m.txs) {
		fisco_model_root(tx, m.txs, m.sm3, &tx_root);
		fisco_model_root(receipt, m.txs - m.receipts_less, m.sm3, &receipts_root);
		blob_add(&txs, offsets.p, offsets.len);
		blob_add(&txs, bytes.p, bytes.len);
	}
	rlp_string(&header, m.parent.b, 32);
	rlp_string(&header, zero, 32);
	rlp_string(&header, tx_root.b, 32);
	rlp_string(&header, receipts_root.b, 32);
	rlp_string(&header, zero, 32);
	rlp_string(&header, zero, 256);
	rlp_number(&header, m.number);
	rlp_number(&header, 0);
	rlp_number(&header, 0);
	rlp_number(&header, 1600000000000 + m.number);
	rlp_list(&list, &header);
	stele_fisco_hash(m.sm3, list.p, list.len, hash);
	blob_add(&items, list.p, list.len);
	rlp_string(&items, txs.p, txs.len);
	rlp_string(&items, hash->b, 32);
	blob_add(&items, "\xc3\x01\x02\x03", 4); /* signatures */
	list.len = 0;
	rlp_list(&list, &receipts);
	blob_add(&items, list.p, list.len);
	rlp_list(&out, &items);
	struct blob *all[] = {&bytes, &offsets, &txs, &receipts, &list, &header, &items};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		blob_free(all[i]);
	free(tx);
	free(receipt);
	return out;
}

/* One table with one new entry of two fields. */
static inline void fisco_table(struct blob *out, const char *name, const char *key_name,
                               const void *key, size_t key_len, const void *value, size_t value_len,
                               enum fisco_bits bits)
{
	char fields[80];
	uint8_t n = (uint8_t)strlen(name);
	int len =
	    snprintf(fields, sizeof(fields), "%s,value,f3,f4,f5,f6,_status_,_num_,_id_", key_name);
	blob_add(out, &n, 1);
	blob_add(out, name, n);
	put_string(out, fields, (size_t)len);
	put_be32(out, 0);
	put_be32(out, 1);
	blob_add(out, "\0\0\0\0\0\0\0\7\0", 9);
	blob_add(out, "\xc0\0", bits == FISCO_USER_BITS ? 1 : bits == FISCO_ALL_BITS ? 2 : 0);
	put_string(out, key, key_len);
	put_string(out, value, value_len);
	for (int i = 0; i < 4 && bits == FISCO_NO_BITS; i++)
		put_be32(out, 0);
}

static inline void fisco_record(struct blob *out, const struct blob *payload)
{
	put_be32(out, (uint32_t)payload->len + 4);
	blob_add(out, payload->p, payload->len);
	put_be32(out, (uint32_t)crc32(0, payload->p, (unsigned)payload->len));
}

/* The record's payload for a block filed under `hash`. */
static inline struct blob fisco_payload(uint64_t number, const struct stele_hash *hash,
                                        const struct blob *block, enum fisco_bits bits)
{
	struct blob payload = {0};
	char hex[STELE_HEX_LEN];
	uint8_t be[8];
	stele_put_be64(be, number);
	blob_add(&payload, be, 8);
	put_be32(&payload, 2);
	fisco_table(&payload, "_sys_hash_2_block_", "hash", stele_hash_hex(hash, hex), 64, block->p,
	            block->len, bits);
	fisco_table(&payload, "t_another", "name", "someone", 7, "something", 9, bits);
	return payload;
}

/* n blocks from `first` on. */
static inline struct blob fisco_file(uint64_t first, size_t n, bool sm3, enum fisco_bits bits)
{
	struct blob out = blob_copy("\0\0\0\1", 4);
	struct stele_hash parent = {{0}};
	for (size_t i = 0; i < n; i++) {
		struct stele_hash hash;
		struct fisco_make m = {
		    .number = first + i, .parent = parent, .sm3 = sm3, .bits = bits};
		m.txs = m.number ? 1 + i % 3 : 0;
		struct blob block = fisco_block(m, &hash);
		struct blob payload = fisco_payload(first + i, &hash, &block, bits);
		fisco_record(&out, &payload);
		parent = hash;
		blob_free(&block);
		blob_free(&payload);
	}
	return out;
}

#endif
