/*
 * `geth export`: blocks as RLP [header, transactions, uncles, withdrawals?], one after another and
 * each the next one's parent. One block a step. Without receipts: receiptsRoot stays unchecked.
 */
#include <stdlib.h>

#include "storage/ledger/evm_block.h"
#include "storage/ledger/parser.h"

#define BLOCK_MAX (STELE_EVM_HEADER_MAX + STELE_EVM_BODY_MAX)

struct rlp_file {
	struct stele_evm_scratch scratch;
	struct stele_evm_header before; /* the last block's */
};

static enum stele_err rlp_open(struct stele_parser *p)
{
	p->state = calloc(1, sizeof(struct rlp_file));
	return p->state ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "a parser");
}

static void rlp_destroy(struct stele_parser *p)
{
	struct rlp_file *f = p->state;
	if (f)
		stele_evm_scratch_reset(&f->scratch);
	free(f);
}

static enum stele_err take_block(struct stele_parser *p, const struct stele_rlp *block)
{
	struct rlp_file *f = p->state;
	struct stele_evm_header header;
	struct stele_evm_body body;
	const struct stele_hash *ids = NULL;
	struct stele_found_block found = {.nparts = 1};
	STELE_TRY(stele_evm_split(block, &header, &body));
	if (p->facts.count)
		STELE_TRY(stele_evm_follows(&f->before, &header));
	STELE_TRY(stele_evm_body_check(&f->scratch, &header, &body, &found.tx_count,
	                               p->opts.want_tx_ids ? &ids : NULL));
	if (header.number == 0 && p->facts.count == 0)
		STELE_TRY(stele_parser_chain(
		    p, stele_chain_by_genesis(STELE_FAMILY_EVM, &header.hash), "block 0"));
	found.height = header.number;
	found.hash = header.hash;
	found.parent = header.parent;
	found.tx_ids = ids;
	found.part[0] = (struct stele_part){.offset = p->feeder.offset,
	                                    .length = (uint32_t)block->raw_len,
	                                    .kind = STELE_PART_BLOCK,
	                                    .encoding = p->gunzip.open ? STELE_ENCODING_GZIP
	                                                               : STELE_ENCODING_RAW};
	f->before = header;
	return stele_parser_block(p, &found);
}

static enum stele_err rlp_step(void *ctx, const uint8_t *view, size_t len, bool final, size_t *used,
                               size_t *need)
{
	struct stele_parser *p = ctx;
	unsigned long long at = p->feeder.offset, number = p->facts.count;
	size_t header;
	uint64_t total;
	bool list = false;
	if (!stele_rlp_peek(view, len, &header, &total, &list) || !list)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "block %llu of the file, at offset %llu: not an RLP list", number,
		                  at);
	if (total > BLOCK_MAX)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "block %llu of the file, at offset %llu: %llu bytes, at most %u",
		                  number, at, (unsigned long long)total, BLOCK_MAX);
	size_t want = total ? (size_t)total : header;
	if (len < want) {
		*need = want;
		return final ? stele_fail(STELE_ERR_CORRUPT,
		                          "block %llu of the file, at offset %llu, is cut", number,
		                          at)
		             : STELE_OK;
	}
	*used = want;
	struct stele_rlp block;
	struct stele_reader r = stele_reader(view, want);
	enum stele_err err = STELE_ERR_CORRUPT;
	if (stele_rlp_next(&r, &block))
		err = take_block(p, &block);
	if (err != STELE_ERR_CORRUPT)
		return err;
	return stele_wrap(err, "block %llu of the file, at offset %llu", number, at);
}

static enum stele_err rlp_close(struct stele_parser *p)
{
	p->facts.sealed = true;
	return STELE_OK;
}

const struct stele_parser_ops stele_rlp_parser = {
    .need_max = BLOCK_MAX,
    .open = rlp_open,
    .step = rlp_step,
    .close = rlp_close,
    .destroy = rlp_destroy,
};

const struct stele_parser_ops stele_rlp_gzip_parser = {
    .need_max = BLOCK_MAX,
    .gzip = true,
    .open = rlp_open,
    .step = rlp_step,
    .close = rlp_close,
    .destroy = rlp_destroy,
};
