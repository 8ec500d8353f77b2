/*
 * era1: an epoch of Ethereum before the merge, as e2store records: version, then header, body,
 * receipts and total difficulty for each block, then the accumulator's root and the block index.
 * One record a step; its order, every root, every sum and every offset is checked, and nothing may
 * follow.
 *
 * Source: e2store and era1 specifications (ethereum/go-ethereum, internal/era;
 * status-im/nimbus-eth2), portal network's historical accumulator. The file's ending "accumulator"
 * is SSZ's hash_tree_root of up to 8,192 (block hash, total difficulty).
 */
#include <stdlib.h>

#include "storage/base/sha256.h"
#include "storage/ledger/era1.h"
#include "storage/ledger/evm_block.h"
#include "storage/ledger/parser.h"
#include "storage/ledger/snappy_frame.h"

#define RECORD_HEADER   8u
#define RECORD_MAX      (STELE_EVM_BODY_MAX + (STELE_EVM_BODY_MAX >> 3)) /* compressed */
#define INDEX_LENGTH(n) (16u + 8u * (n))

/* A record's type as it stands in the file, big-endian. */
enum record {
	RECORD_VERSION = 0x6532,
	RECORD_HEAD = 0x0300,
	RECORD_BODY = 0x0400,
	RECORD_RECEIPTS = 0x0500,
	RECORD_DIFFICULTY = 0x0600,
	RECORD_ACCUMULATOR = 0x0700,
	RECORD_INDEX = 0x6632,
};

struct era1 {
	enum record expect;
	uint8_t *plain; /* the inflated record */
	size_t plain_cap;
	struct stele_evm_scratch scratch;
	struct stele_evm_header header; /* of the block under way */
	struct stele_found_block found;
	struct stele_hash *tx_ids; /* kept from the body's check to the block's end */
	size_t tx_ids_cap;
	bool has_difficulty;
	uint8_t difficulty[32]; /* the last block's total */
	size_t count;           /* whole blocks */
	struct stele_hash leaf[STELE_ERA1_BLOCKS_MAX];
	uint64_t offset[STELE_ERA1_BLOCKS_MAX]; /* of their first records */
	bool named;                             /* the file's name carries an epoch and a root */
	uint64_t name_epoch;
	uint8_t name_root[4];
};

/* ---- names ---- */

bool stele_era1_name_parse(const char *name, const struct stele_chain **chain, uint64_t *epoch,
                           uint8_t root[4])
{
	/* <network>-<epoch %05d>-<8 hex>.era1 */
	const char *end = name + strlen(name);
	if (end - name < 20 || strcmp(end - 5, ".era1") != 0 || end[-14] != '-' || end[-20] != '-')
		return false;
	uint64_t n = 0;
	for (const char *p = end - 19; p < end - 14; p++) {
		if (*p < '0' || *p > '9')
			return false;
		n = 10 * n + (uint64_t)(*p - '0');
	}
	if (!stele_unhex(end - 13, 8, root, 4, true))
		return false;
	*epoch = n;
	*chain = stele_chain_by_era_name(name, (size_t)(end - 20 - name));
	return true;
}

void stele_era1_accumulator(struct stele_hash *leaf, size_t n, struct stele_hash *root)
{
	struct stele_hash zero = {{0}}, pair[2]; /* zero: the root of an empty subtree */
	size_t count = n;
	for (size_t width = STELE_ERA1_BLOCKS_MAX; width > 1; width /= 2) {
		for (size_t i = 0; i < (n + 1) / 2; i++) {
			pair[0] = leaf[2 * i];
			pair[1] = 2 * i + 1 < n ? leaf[2 * i + 1] : zero;
			stele_sha256(pair, sizeof(pair), &leaf[i]);
		}
		n = (n + 1) / 2;
		pair[0] = pair[1] = zero;
		stele_sha256(pair, sizeof(pair), &zero);
	}
	pair[0] = n ? leaf[0] : zero;
	memset(&pair[1], 0, sizeof(pair[1]));
	stele_put_le64(pair[1].b, count); /* mix_in_length */
	stele_sha256(pair, sizeof(pair), root);
}

/* ---- the parser ---- */

static enum stele_err era1_open(struct stele_parser *p)
{
	struct era1 *e = calloc(1, sizeof(*e));
	if (!e)
		return stele_fail(STELE_ERR_NOMEM, "a parser");
	p->state = e;
	e->expect = RECORD_VERSION;
	const struct stele_chain *chain = NULL;
	e->named = p->opts.name &&
	           stele_era1_name_parse(p->opts.name, &chain, &e->name_epoch, e->name_root);
	return chain ? stele_parser_chain(p, chain, "name") : STELE_OK;
}

static void era1_destroy(struct stele_parser *p)
{
	struct era1 *e = p->state;
	if (!e)
		return;
	stele_evm_scratch_reset(&e->scratch);
	free(e->plain);
	free(e->tx_ids);
	free(e);
}

static enum stele_err inflate_record(struct era1 *e, const uint8_t *data, size_t len, size_t max,
                                     size_t *out_len)
{
	STELE_TRY(stele_snappy_frame_length(data, len, max, out_len));
	if (!e->plain || *out_len > e->plain_cap) {
		free(e->plain);
		e->plain_cap = *out_len + 1; /* never nothing: a record may inflate to no byte */
		e->plain = malloc(e->plain_cap);
		if (!e->plain) {
			e->plain_cap = 0;
			return stele_fail(STELE_ERR_NOMEM, "a record of %zu bytes", *out_len);
		}
	}
	return stele_snappy_frame_inflate(data, len, e->plain, *out_len);
}

static void add_part(struct stele_found_block *b, enum stele_part_kind kind,
                     enum stele_encoding encoding, uint64_t offset, size_t len)
{
	b->part[b->nparts++] = (struct stele_part){
	    .offset = offset, .length = (uint32_t)len, .kind = kind, .encoding = encoding};
}

static enum stele_err take_head(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	struct stele_evm_header before = e->header;
	size_t n;
	if (e->count == STELE_ERA1_BLOCKS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "more than %u blocks", STELE_ERA1_BLOCKS_MAX);
	STELE_TRY(inflate_record(e, data, len, STELE_EVM_HEADER_MAX, &n));
	STELE_TRY(stele_evm_header_decode(e->plain, n, &e->header));
	if (e->count)
		STELE_TRY(stele_evm_follows(&before, &e->header));
	if (stele_all_zero(e->header.difficulty, sizeof(e->header.difficulty)))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "difficulty 0: era1 holds blocks before the merge only");
	e->offset[e->count] = p->feeder.offset;
	e->found = (struct stele_found_block){
	    .height = e->header.number, .hash = e->header.hash, .parent = e->header.parent};
	add_part(&e->found, STELE_PART_HEADER, STELE_ENCODING_SNAPPY_FRAMED,
	         p->feeder.offset + RECORD_HEADER, len);
	return STELE_OK;
}

static enum stele_err keep_tx_ids(struct era1 *e, const struct stele_hash *ids)
{
	size_t n = e->found.tx_count;
	if (n > e->tx_ids_cap) {
		free(e->tx_ids);
		e->tx_ids_cap = 2 * n;
		e->tx_ids = malloc(e->tx_ids_cap * sizeof(*e->tx_ids));
		if (!e->tx_ids) {
			e->tx_ids_cap = 0;
			return stele_fail(STELE_ERR_NOMEM, "%zu transaction ids", n);
		}
	}
	if (n)
		memcpy(e->tx_ids, ids, n * sizeof(*ids));
	e->found.tx_ids = e->tx_ids;
	return STELE_OK;
}

static enum stele_err take_body(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	struct stele_evm_body body;
	struct stele_rlp list;
	const struct stele_hash *ids = NULL;
	size_t n;
	STELE_TRY(inflate_record(e, data, len, STELE_EVM_BODY_MAX, &n));
	if (!stele_rlp_whole(e->plain, n, &list) || !list.list)
		return stele_fail(STELE_ERR_CORRUPT, "body is not one RLP list");
	struct stele_reader r = stele_rlp_items(&list);
	STELE_TRY(stele_evm_body_decode(&r, &body));
	STELE_TRY(stele_evm_body_check(&e->scratch, &e->header, &body, &e->found.tx_count,
	                               p->opts.want_tx_ids ? &ids : NULL));
	add_part(&e->found, STELE_PART_BODY, STELE_ENCODING_SNAPPY_FRAMED,
	         p->feeder.offset + RECORD_HEADER, len);
	return ids ? keep_tx_ids(e, ids) : STELE_OK;
}

static enum stele_err take_receipts(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	size_t n;
	STELE_TRY(inflate_record(e, data, len, STELE_EVM_BODY_MAX, &n));
	STELE_TRY(
	    stele_evm_receipts_check(&e->scratch, &e->header, e->plain, n, e->found.tx_count));
	add_part(&e->found, STELE_PART_RECEIPTS, STELE_ENCODING_SNAPPY_FRAMED,
	         p->feeder.offset + RECORD_HEADER, len);
	return STELE_OK;
}

/* total = before + difficulty; for the file's first block, before = total - difficulty. */
static enum stele_err check_difficulty(struct stele_parser *p, const uint8_t *total)
{
	struct era1 *e = p->state;
	uint8_t *before = p->facts.difficulty_before;
	if (e->count == 0) {
		unsigned borrow = 0;
		for (size_t i = 0; i < 32; i++) {
			unsigned take = e->header.difficulty[i] + borrow;
			borrow = total[i] < take;
			before[i] = (uint8_t)(total[i] - take);
		}
		if (borrow || (e->header.number == 0 && !stele_all_zero(before, 32)))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "total difficulty does not fit its own");
	} else if (!stele_evm_difficulty_add(e->difficulty, e->header.difficulty) ||
	           memcmp(e->difficulty, total, 32) != 0) {
		return stele_fail(STELE_ERR_CORRUPT, "total difficulty does not add up");
	}
	memcpy(e->difficulty, total, 32);
	memcpy(p->facts.difficulty_last, total, 32);
	return STELE_OK;
}

static enum stele_err take_difficulty(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	if (len != 32)
		return stele_fail(STELE_ERR_CORRUPT, "total difficulty has %zu bytes, not 32", len);
	STELE_TRY(check_difficulty(p, data));
	uint8_t both[2 * STELE_HASH_LEN];
	memcpy(both, e->header.hash.b, STELE_HASH_LEN);
	memcpy(both + STELE_HASH_LEN, data, 32);
	stele_sha256(both, sizeof(both), &e->leaf[e->count]);
	add_part(&e->found, STELE_PART_DIFFICULTY, STELE_ENCODING_RAW,
	         p->feeder.offset + RECORD_HEADER, len);
	if (e->count == 0 && e->header.number == 0) {
		const struct stele_chain *chain =
		    stele_chain_by_genesis(STELE_FAMILY_EVM, &e->header.hash);
		if (chain)
			STELE_TRY(stele_parser_chain(p, chain, "block 0"));
	}
	e->count++;
	return stele_parser_block(p, &e->found);
}

static enum stele_err take_accumulator(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	struct stele_hash root;
	if (len != STELE_HASH_LEN)
		return stele_fail(STELE_ERR_CORRUPT, "accumulator has %zu bytes, not 32", len);
	stele_era1_accumulator(e->leaf, e->count, &root);
	if (memcmp(root.b, data, len) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "accumulator root does not match its blocks");
	if (e->named && memcmp(root.b, e->name_root, 4) != 0)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "accumulator root does not match the file's name");
	p->facts.has_accumulator = true;
	p->facts.accumulator = root;
	return STELE_OK;
}

static enum stele_err take_index(struct stele_parser *p, const uint8_t *data, size_t len)
{
	struct era1 *e = p->state;
	if (len != INDEX_LENGTH(e->count) || stele_le64(data + len - 8) != e->count)
		return stele_fail(STELE_ERR_CORRUPT, "block index is not for %zu blocks", e->count);
	uint64_t first = p->facts.first_height;
	if (stele_le64(data) != first)
		return stele_fail(STELE_ERR_CORRUPT, "block index starts at %llu, not %llu",
		                  (unsigned long long)stele_le64(data), (unsigned long long)first);
	if (e->named && e->name_epoch != first / STELE_ERA1_BLOCKS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "block %llu is not of the name's epoch %llu",
		                  (unsigned long long)first, (unsigned long long)e->name_epoch);
	for (size_t i = 0; i < e->count; i++) {
		uint64_t points = p->feeder.offset + stele_le64(data + 8 + 8 * i);
		if (points != e->offset[i])
			return stele_fail(STELE_ERR_CORRUPT, "block index points beside block %llu",
			                  (unsigned long long)(first + i));
	}
	return STELE_OK;
}

/* What a record of each type may hold at most, what takes it, and what comes after it. */
static const struct rule {
	enum record type;
	size_t max;
	enum stele_err (*take)(struct stele_parser *p, const uint8_t *data, size_t len);
	enum record next;
	const char *name;
} rules[] = {
    {RECORD_VERSION, 0, NULL, RECORD_HEAD, "version"},
    {RECORD_HEAD, STELE_EVM_HEADER_MAX, take_head, RECORD_BODY, "header"},
    {RECORD_BODY, RECORD_MAX, take_body, RECORD_RECEIPTS, "body"},
    {RECORD_RECEIPTS, RECORD_MAX, take_receipts, RECORD_DIFFICULTY, "receipts"},
    {RECORD_DIFFICULTY, 32, take_difficulty, RECORD_HEAD, "total difficulty"},
    {RECORD_ACCUMULATOR, 32, take_accumulator, RECORD_INDEX, "accumulator"},
    {RECORD_INDEX, INDEX_LENGTH(STELE_ERA1_BLOCKS_MAX), take_index, 0, "block index"},
};

static const struct rule *rule_of(unsigned type)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (rules[i].type == type)
			return &rules[i];
	}
	return NULL;
}

static enum stele_err fail_at(const struct stele_parser *p, enum stele_err err, const char *record)
{
	const struct era1 *e = p->state;
	unsigned long long at = p->feeder.offset;
	if (p->facts.first_height == STELE_HEIGHT_UNKNOWN)
		return stele_wrap(err, "%s of the first block, at offset %llu", record, at);
	return stele_wrap(err, "%s of block %llu, at offset %llu", record,
	                  (unsigned long long)(p->facts.first_height + e->count), at);
}

/* Type and length of the record at view, which has 8 bytes. *rule NULL: skip it. */
static enum stele_err record_rule(const struct stele_parser *p, const uint8_t *view,
                                  const struct rule **rule)
{
	const struct era1 *e = p->state;
	unsigned type = (unsigned)view[0] << 8 | view[1];
	uint32_t length = stele_le32(view + 2);
	unsigned long long at = p->feeder.offset;
	if (e->expect == 0)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: bytes behind the block index",
		                  at);
	if (stele_le16(view + 6) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: reserved bytes are not zero",
		                  at);
	*rule = rule_of(type);
	bool ends = type == RECORD_ACCUMULATOR && e->expect == RECORD_HEAD && e->count;
	if (!*rule && e->expect == RECORD_VERSION)
		return stele_fail(STELE_ERR_CORRUPT, "offset 0: not an e2store file");
	if (*rule && type != e->expect && !ends)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: %s record where %s belongs", at,
		                  (*rule)->name, rule_of(e->expect)->name);
	if (*rule && length > (*rule)->max)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: a %s record of %u bytes", at,
		                  (*rule)->name, length);
	if (!*rule && length > RECORD_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: a record of %u bytes", at,
		                  length);
	return STELE_OK;
}

static enum stele_err era1_step(void *ctx, const uint8_t *view, size_t len, bool final,
                                size_t *used, size_t *need)
{
	struct stele_parser *p = ctx;
	struct era1 *e = p->state;
	const struct rule *rule = NULL;
	size_t whole = RECORD_HEADER;
	if (len >= RECORD_HEADER) {
		STELE_TRY(record_rule(p, view, &rule));
		whole += stele_le32(view + 2);
	}
	if (len < whole) {
		*need = whole;
		return final ? stele_fail(STELE_ERR_CORRUPT, "offset %llu: the file is cut",
		                          (unsigned long long)p->feeder.offset)
		             : STELE_OK;
	}
	*used = whole;
	if (!rule)
		return stele_parser_gap(p, STELE_GAP_SKIPPED, p->feeder.offset, whole);
	if (rule->take) {
		enum stele_err err = rule->take(p, view + RECORD_HEADER, whole - RECORD_HEADER);
		if (err != STELE_OK)
			return err == STELE_ERR_CORRUPT ? fail_at(p, err, rule->name) : err;
	}
	e->expect = rule->next;
	return STELE_OK;
}

static enum stele_err era1_close(struct stele_parser *p)
{
	const struct era1 *e = p->state;
	if (e->expect != 0)
		return stele_fail(STELE_ERR_CORRUPT, "the file is cut: %s is missing",
		                  rule_of(e->expect)->name);
	p->facts.sealed = true;
	return STELE_OK;
}

const struct stele_parser_ops stele_era1_parser = {
    .need_max = RECORD_HEADER + RECORD_MAX,
    .open = era1_open,
    .step = era1_step,
    .close = era1_close,
    .destroy = era1_destroy,
};
