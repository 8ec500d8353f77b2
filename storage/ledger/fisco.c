/* One FISCO BCOS block: its lists against its header. Does not know files or other blocks. */
#include "storage/ledger/fisco.h"

#include <nettle/sm3.h>
#include <stdlib.h>

#include "storage/ledger/keccak.h"
#include "storage/ledger/rlp.h"

#define FANOUT   16u
#define LEAF_MAX (4u + STELE_HASH_LEN) /* RLP of a number below 2^24, and a hash */

/* Header items. */
enum {
	ITEM_PARENT = 0,
	ITEM_TXS = 2,
	ITEM_RECEIPTS = 3,
	ITEM_NUMBER = 6,
	ITEMS_MIN = 10,
};

void stele_fisco_hash(bool sm3, const void *data, size_t len, struct stele_hash *out)
{
	if (!sm3) {
		stele_keccak256(data, len, out);
		return;
	}
	struct sm3_ctx ctx;
	sm3_init(&ctx);
	sm3_update(&ctx, len, data);
	sm3_digest(&ctx, sizeof(out->b), out->b);
}

static size_t leaf(size_t i, const struct stele_hash *id, uint8_t out[LEAF_MAX])
{
	size_t n = 0;
	if (i == 0) {
		out[n++] = 0x80;
	} else if (i < 0x80) {
		out[n++] = (uint8_t)i;
	} else {
		size_t bytes = i < 0x100 ? 1 : i < 0x10000 ? 2 : 3;
		out[n++] = (uint8_t)(0x80 + bytes);
		for (size_t b = bytes; b-- > 0;)
			out[n++] = (uint8_t)(i >> (8 * b));
	}
	memcpy(out + n, id->b, sizeof(id->b));
	return n + sizeof(id->b);
}

void stele_fisco_root(const struct stele_hash *ids, size_t n, bool sm3, struct stele_hash *level,
                      struct stele_hash *root)
{
	uint8_t group[FANOUT * LEAF_MAX];
	if (n == 0) {
		stele_fisco_hash(sm3, NULL, 0, root);
		return;
	}
	if (n == 1) {
		stele_fisco_hash(sm3, group, leaf(0, ids, group), root);
		return;
	}
	size_t groups = (n + FANOUT - 1) / FANOUT;
	for (size_t g = 0; g < groups; g++) {
		size_t len = 0;
		for (size_t i = g * FANOUT; i < n && i < (g + 1) * FANOUT; i++)
			len += leaf(i, &ids[i], group + len);
		stele_fisco_hash(sm3, group, len, &level[g]);
	}
	for (; groups > 1; groups = (groups + FANOUT - 1) / FANOUT) {
		for (size_t g = 0; g < groups; g += FANOUT) {
			size_t take = groups - g < FANOUT ? groups - g : FANOUT;
			struct stele_hash h;
			stele_fisco_hash(sm3, &level[g], take * sizeof(*level), &h);
			level[g / FANOUT] = h;
		}
	}
	stele_fisco_hash(sm3, level, sizeof(*level), root);
}

void stele_fisco_scratch_reset(struct stele_fisco_scratch *s)
{
	free(s->ids);
	free(s->level);
	memset(s, 0, sizeof(*s));
}

static enum stele_err scratch_grow(struct stele_fisco_scratch *s, size_t n)
{
	if (n > STELE_FISCO_TXS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "%zu items in a list, at most %u", n,
		                  STELE_FISCO_TXS_MAX);
	if (n < s->cap)
		return STELE_OK;
	size_t cap = 2 * n + 1024;
	stele_fisco_scratch_reset(s);
	s->ids = malloc(cap * sizeof(*s->ids));
	s->level = malloc((cap / FANOUT + 1) * sizeof(*s->level));
	if (!s->ids || !s->level) {
		stele_fisco_scratch_reset(s);
		return stele_fail(STELE_ERR_NOMEM, "a list of %zu items", n);
	}
	s->cap = cap;
	return STELE_OK;
}

/* ---- lists ---- */

static enum stele_err check_root(struct stele_fisco_scratch *s, size_t n, bool sm3,
                                 const uint8_t *root, const char *name)
{
	struct stele_hash got;
	stele_fisco_root(s->ids, n, sm3, s->level, &got);
	if (memcmp(got.b, root, sizeof(got.b)) == 0)
		return STELE_OK;
	if (n == 0 && stele_all_zero(root, STELE_HASH_LEN)) /* as block 0 has it */
		return STELE_OK;
	return stele_fail(STELE_ERR_CORRUPT,
	                  "%s does not match the header's (a chain begun before 2.2 is not read)",
	                  name);
}

static enum stele_err hash_receipts(struct stele_fisco_scratch *s, const struct stele_rlp *list,
                                    bool sm3, size_t *count)
{
	struct stele_reader r = stele_rlp_items(list);
	struct stele_rlp item;
	size_t n = 0;
	while (stele_rlp_next(&r, &item))
		n++;
	if (!list->list || r.bad)
		return stele_fail(STELE_ERR_CORRUPT, "receipts are not one RLP list");
	STELE_TRY(scratch_grow(s, n));
	r = stele_rlp_items(list);
	for (size_t i = 0; stele_rlp_next(&r, &item); i++)
		stele_fisco_hash(sm3, item.raw, item.raw_len, &s->ids[i]);
	*count = n;
	return STELE_OK;
}

static enum stele_err hash_txs(struct stele_fisco_scratch *s, const struct stele_rlp *item,
                               bool sm3, size_t *count)
{
	struct stele_reader r = stele_reader(item->data, item->len);
	*count = 0;
	if (item->list)
		return stele_fail(STELE_ERR_CORRUPT, "transactions are not one string");
	if (item->len == 0)
		return STELE_OK;
	size_t n = stele_read_le32(&r);
	if (n >= stele_read_left(&r) / 4)
		return stele_fail(STELE_ERR_CORRUPT, "%zu transactions do not fit", n);
	STELE_TRY(scratch_grow(s, n));
	const uint8_t *offset = stele_read_span(&r, 4 * (n + 1));
	size_t left = stele_read_left(&r);
	if (stele_le32(offset) != 0 || stele_le32(offset + 4 * n) != left)
		return stele_fail(STELE_ERR_CORRUPT, "offsets of transactions do not fit");
	for (size_t i = 0; i < n; i++) {
		size_t from = stele_le32(offset + 4 * i), to = stele_le32(offset + 4 * (i + 1));
		if (from >= to || to > left)
			return stele_fail(STELE_ERR_CORRUPT, "transaction %zu has no place", i);
		stele_fisco_hash(sm3, r.p + from, to - from, &s->ids[i]);
	}
	*count = n;
	return STELE_OK;
}

/* ---- the block ---- */

struct header {
	struct stele_rlp item[ITEMS_MIN];
};

static enum stele_err read_header(const struct stele_rlp *list, struct header *h,
                                  struct stele_fisco_block *out)
{
	struct stele_reader r = stele_rlp_items(list);
	for (size_t i = 0; i < ITEMS_MIN; i++) {
		if (!list->list || !stele_rlp_next(&r, &h->item[i]))
			return stele_fail(STELE_ERR_CORRUPT, "header is cut behind item %zu", i);
	}
	static const uint8_t hashes[] = {ITEM_PARENT, ITEM_TXS, ITEM_RECEIPTS};
	for (size_t i = 0; i < sizeof(hashes); i++) {
		const struct stele_rlp *item = &h->item[hashes[i]];
		if (item->list || item->len != STELE_HASH_LEN)
			return stele_fail(STELE_ERR_CORRUPT, "header's item %u is no hash",
			                  hashes[i]);
	}
	if (!stele_rlp_u64(&h->item[ITEM_NUMBER], &out->number))
		return stele_fail(STELE_ERR_CORRUPT, "header has no number");
	memcpy(out->parent.b, h->item[ITEM_PARENT].data, STELE_HASH_LEN);
	return STELE_OK;
}

enum stele_err stele_fisco_block_check(struct stele_fisco_scratch *s, const uint8_t *bytes,
                                       size_t len, struct stele_fisco_block *out)
{
	struct stele_rlp block, item[5];
	struct header header;
	size_t txs = 0, receipts = 0;
	*out = (struct stele_fisco_block){0};
	if (!stele_rlp_whole(bytes, len, &block) || !block.list)
		return stele_fail(STELE_ERR_CORRUPT, "block is not one RLP list");
	struct stele_reader r = stele_rlp_items(&block);
	for (size_t i = 0; i < 5; i++) {
		if (!stele_rlp_next(&r, &item[i]))
			return stele_fail(STELE_ERR_CORRUPT, "block is cut behind item %zu", i);
	}
	if (!stele_read_done(&r) || item[2].list || item[2].len != STELE_HASH_LEN)
		return stele_fail(STELE_ERR_CORRUPT, "block is not five items, the third its hash");
	STELE_TRY(read_header(&item[0], &header, out));
	stele_fisco_hash(false, item[0].raw, item[0].raw_len, &out->hash);
	if (memcmp(out->hash.b, item[2].data, STELE_HASH_LEN) != 0) {
		out->sm3 = true;
		stele_fisco_hash(true, item[0].raw, item[0].raw_len, &out->hash);
	}
	if (memcmp(out->hash.b, item[2].data, STELE_HASH_LEN) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "header does not hash to the block's hash");
	STELE_TRY(hash_receipts(s, &item[4], out->sm3, &receipts));
	STELE_TRY(
	    check_root(s, receipts, out->sm3, header.item[ITEM_RECEIPTS].data, "receiptsRoot"));
	STELE_TRY(hash_txs(s, &item[1], out->sm3, &txs));
	STELE_TRY(check_root(s, txs, out->sm3, header.item[ITEM_TXS].data, "transactionsRoot"));
	if (txs != receipts)
		return stele_fail(STELE_ERR_CORRUPT, "%zu receipts for %zu transactions", receipts,
		                  txs);
	out->tx_count = (uint32_t)txs;
	out->tx_ids = s->ids;
	out->signatures_len = item[3].raw_len;
	return STELE_OK;
}
