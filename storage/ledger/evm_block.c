/* Holds an EVM block's lists against its header. Does not know files or other blocks. */
#include "storage/ledger/evm_block.h"

#include <stdlib.h>

#include "storage/ledger/keccak.h"

/* ---- header ---- */

/* Header items up to receiptsRoot's neighbours, in order; those of fixed length have one. */
enum {
	ITEM_PARENT = 0,
	ITEM_UNCLES = 1,
	ITEM_TXS = 4,
	ITEM_RECEIPTS = 5,
	ITEM_DIFFICULTY = 7,
	ITEM_NUMBER = 8,
	ITEMS_MIN = 15,
	ITEM_WITHDRAWALS = 16,
};

static const struct {
	const char *name;
	size_t len; /* 0: an integer of up to `most` bytes, or with most 0 any string */
	size_t most;
} items[ITEM_WITHDRAWALS + 1] = {
    {"parentHash", 32, 0},    {"sha3Uncles", 32, 0},       {"miner", 20, 0},
    {"stateRoot", 32, 0},     {"transactionsRoot", 32, 0}, {"receiptsRoot", 32, 0},
    {"logsBloom", 256, 0},    {"difficulty", 0, 32},       {"number", 0, 8},
    {"gasLimit", 0, 8},       {"gasUsed", 0, 8},           {"timestamp", 0, 8},
    {"extraData", 0, 0},      {"mixHash", 32, 0},          {"nonce", 8, 0},
    {"baseFeePerGas", 0, 32}, {"withdrawalsRoot", 32, 0},
};

static bool item_fits(size_t i, const struct stele_rlp *item)
{
	if (item->list)
		return false;
	if (items[i].len)
		return item->len == items[i].len;
	if (items[i].most)
		return item->len <= items[i].most && (item->len == 0 || item->data[0] != 0);
	return true;
}

static void take_item(size_t i, const struct stele_rlp *item, struct stele_evm_header *out)
{
	switch (i) {
	case ITEM_PARENT:
		memcpy(out->parent.b, item->data, 32);
		break;
	case ITEM_UNCLES:
		memcpy(out->uncles_root.b, item->data, 32);
		break;
	case ITEM_TXS:
		memcpy(out->tx_root.b, item->data, 32);
		break;
	case ITEM_RECEIPTS:
		memcpy(out->receipts_root.b, item->data, 32);
		break;
	case ITEM_DIFFICULTY:
		for (size_t b = 0; b < item->len; b++)
			out->difficulty[b] = item->data[item->len - 1 - b];
		break;
	case ITEM_NUMBER:
		(void)stele_rlp_u64(item, &out->number); /* item_fits holds it to 8 bytes */
		break;
	case ITEM_WITHDRAWALS:
		memcpy(out->withdrawals_root.b, item->data, 32);
		out->has_withdrawals = true;
		break;
	}
}

enum stele_err stele_evm_header_decode(const void *bytes, size_t len, struct stele_evm_header *out)
{
	*out = (struct stele_evm_header){0};
	struct stele_rlp list, item;
	if (!stele_rlp_whole(bytes, len, &list) || !list.list)
		return stele_fail(STELE_ERR_CORRUPT, "header is not one RLP list");
	struct stele_reader r = stele_rlp_items(&list);
	size_t n = 0;
	for (; stele_rlp_next(&r, &item); n++) {
		if (n > ITEM_WITHDRAWALS)
			continue;
		if (!item_fits(n, &item))
			return stele_fail(STELE_ERR_CORRUPT, "header's %s has a wrong form",
			                  items[n].name);
		take_item(n, &item, out);
	}
	if (r.bad || n < ITEMS_MIN)
		return stele_fail(STELE_ERR_CORRUPT, "header is cut behind item %zu", n);
	stele_keccak256(bytes, len, &out->hash);
	return STELE_OK;
}

bool stele_evm_difficulty_add(uint8_t sum[32], const uint8_t v[32])
{
	unsigned carry = 0;
	for (size_t i = 0; i < 32; i++) {
		carry += (unsigned)sum[i] + v[i];
		sum[i] = (uint8_t)carry;
		carry >>= 8;
	}
	return carry == 0;
}

/* ---- lists ---- */

void stele_evm_scratch_reset(struct stele_evm_scratch *s)
{
	free(s->span);
	free(s->hash);
	memset(s, 0, sizeof(*s));
}

static enum stele_err scratch_grow(struct stele_evm_scratch *s, size_t n)
{
	if (n <= s->cap)
		return STELE_OK;
	size_t cap = n < 1024 ? 1024 : 2 * n;
	stele_evm_scratch_reset(s);
	s->span = malloc(cap * sizeof(*s->span));
	s->hash = malloc(cap * sizeof(*s->hash));
	if (!s->span || !s->hash) {
		stele_evm_scratch_reset(s);
		return stele_fail(STELE_ERR_NOMEM, "a list of %zu items", n);
	}
	s->cap = cap;
	return STELE_OK;
}

/* Values of the trie over a list. A typed transaction or receipt (EIP-2718) is a string whose
 * content is the value, a legacy one a list that is the value itself. */
static enum stele_err list_values(struct stele_evm_scratch *s, const struct stele_rlp *list,
                                  bool typed, const char *what, size_t *count)
{
	struct stele_reader r = stele_rlp_items(list);
	struct stele_rlp item;
	size_t n = 0;
	while (stele_rlp_next(&r, &item))
		n++;
	if (r.bad)
		return stele_fail(STELE_ERR_CORRUPT, "%s %zu is no canonical RLP", what, n);
	if (n > STELE_EVM_TXS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "%zu %ss, at most %u", n, what,
		                  STELE_EVM_TXS_MAX);
	STELE_TRY(scratch_grow(s, n));
	r = stele_rlp_items(list);
	for (size_t i = 0; stele_rlp_next(&r, &item); i++) {
		if (item.list)
			s->span[i] = (struct stele_span){item.raw, item.raw_len};
		else if (typed && item.len >= 2 && item.data[0] < 0x80)
			s->span[i] = (struct stele_span){item.data, item.len};
		else
			return stele_fail(STELE_ERR_CORRUPT, "%s %zu has a wrong form", what, i);
	}
	*count = n;
	return STELE_OK;
}

static enum stele_err check_root(const struct stele_evm_scratch *s, size_t n,
                                 const struct stele_hash *root, const char *name)
{
	struct stele_hash got;
	stele_trie_root(s->span, n, &got);
	if (stele_hash_equal(&got, root))
		return STELE_OK;
	return stele_fail(STELE_ERR_CORRUPT, "%s does not match the header's", name);
}

enum stele_err stele_evm_body_decode(struct stele_reader *r, struct stele_evm_body *out)
{
	*out = (struct stele_evm_body){0};
	if (!stele_rlp_next(r, &out->txs) || !out->txs.list)
		return stele_fail(STELE_ERR_CORRUPT, "body has no list of transactions");
	if (!stele_rlp_next(r, &out->uncles) || !out->uncles.list)
		return stele_fail(STELE_ERR_CORRUPT, "body has no list of uncles");
	out->has_withdrawals = stele_rlp_next(r, &out->withdrawals);
	if (r->bad || (out->has_withdrawals && !out->withdrawals.list) || !stele_read_done(r))
		return stele_fail(STELE_ERR_CORRUPT, "body is not two or three lists");
	return STELE_OK;
}

enum stele_err stele_evm_split(const struct stele_rlp *block, struct stele_evm_header *header,
                               struct stele_evm_body *body)
{
	struct stele_reader r = stele_rlp_items(block);
	struct stele_rlp item;
	if (!block->list || !stele_rlp_next(&r, &item))
		return stele_fail(STELE_ERR_CORRUPT, "a block without a header");
	STELE_TRY(stele_evm_header_decode(item.raw, item.raw_len, header));
	return stele_evm_body_decode(&r, body);
}

enum stele_err stele_evm_follows(const struct stele_evm_header *before,
                                 const struct stele_evm_header *header)
{
	if (!stele_hash_equal(&header->parent, &before->hash))
		return stele_fail(STELE_ERR_CORRUPT, "its parent is not the block before it");
	if (header->number != before->number + 1)
		return stele_fail(STELE_ERR_CORRUPT, "number %llu follows %llu",
		                  (unsigned long long)header->number,
		                  (unsigned long long)before->number);
	return STELE_OK;
}

enum stele_err stele_evm_body_check(struct stele_evm_scratch *s,
                                    const struct stele_evm_header *header,
                                    const struct stele_evm_body *body, uint32_t *tx_count,
                                    const struct stele_hash **ids)
{
	struct stele_hash got;
	size_t n;
	stele_keccak256(body->uncles.raw, body->uncles.raw_len, &got);
	if (!stele_hash_equal(&got, &header->uncles_root))
		return stele_fail(STELE_ERR_CORRUPT, "sha3Uncles does not match the header's");
	if (body->has_withdrawals != header->has_withdrawals)
		return stele_fail(STELE_ERR_CORRUPT, header->has_withdrawals
		                                         ? "withdrawals are missing"
		                                         : "withdrawals that no header commits to");
	if (body->has_withdrawals) {
		STELE_TRY(list_values(s, &body->withdrawals, false, "withdrawal", &n));
		STELE_TRY(check_root(s, n, &header->withdrawals_root, "withdrawalsRoot"));
	}
	STELE_TRY(list_values(s, &body->txs, true, "transaction", &n));
	STELE_TRY(check_root(s, n, &header->tx_root, "transactionsRoot"));
	*tx_count = (uint32_t)n;
	if (!ids)
		return STELE_OK;
	for (size_t i = 0; i < n; i++)
		stele_keccak256(s->span[i].p, s->span[i].len, &s->hash[i]);
	*ids = s->hash;
	return STELE_OK;
}

enum stele_err stele_evm_receipts_check(struct stele_evm_scratch *s,
                                        const struct stele_evm_header *header, const void *bytes,
                                        size_t len, uint32_t tx_count)
{
	struct stele_rlp list;
	size_t n;
	if (!stele_rlp_whole(bytes, len, &list) || !list.list)
		return stele_fail(STELE_ERR_CORRUPT, "receipts are not one RLP list");
	STELE_TRY(list_values(s, &list, true, "receipt", &n));
	if (n != tx_count)
		return stele_fail(STELE_ERR_CORRUPT, "%zu receipts for %u transactions", n,
		                  tx_count);
	return check_root(s, n, &header->receipts_root, "receiptsRoot");
}
