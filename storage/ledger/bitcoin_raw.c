/* A file that is one Bitcoin block, as `getblock 0` gives it (in bytes, not hex). One step. */
#include <stdlib.h>

#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/parser.h"

static enum stele_err raw_open(struct stele_parser *p)
{
	p->state = calloc(1, sizeof(struct stele_bitcoin_scratch));
	return p->state ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "a parser");
}

static void raw_destroy(struct stele_parser *p)
{
	if (p->state)
		stele_bitcoin_scratch_reset(p->state);
	free(p->state);
}

static enum stele_err raw_step(void *ctx, const uint8_t *view, size_t len, bool final, size_t *used,
                               size_t *need)
{
	struct stele_parser *p = ctx;
	struct stele_bitcoin_block b;
	if (p->feeder.offset > 0 || len > STELE_BITCOIN_BLOCK_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "offset %llu: more than one block",
		                  (unsigned long long)p->feeder.offset + len - 1);
	if (!final) {
		*need = len + 1;
		return STELE_OK;
	}
	STELE_TRY(stele_bitcoin_block_check(p->state, view, len, p->facts.chain, &b));
	if (b.length != len)
		return stele_fail(STELE_ERR_CORRUPT, "%zu bytes behind the block", len - b.length);
	STELE_TRY(
	    stele_parser_chain(p, stele_chain_by_genesis(STELE_FAMILY_BITCOIN, &b.hash), "hash"));
	*used = len;
	struct stele_found_block found = {
	    .height = STELE_HEIGHT_UNKNOWN,
	    .hash = b.hash,
	    .parent = b.parent,
	    .bits = b.bits,
	    .nparts = 1,
	    .part[0] = {.length = (uint32_t)len, .kind = STELE_PART_BLOCK},
	    .tx_count = b.tx_count,
	    .tx_ids = p->opts.want_tx_ids ? b.tx_ids : NULL,
	};
	return stele_parser_block(p, &found);
}

static enum stele_err raw_close(struct stele_parser *p)
{
	p->facts.sealed = true;
	return STELE_OK;
}

const struct stele_parser_ops stele_bitcoin_raw_parser = {
    .need_max = STELE_BITCOIN_BLOCK_MAX + 1,
    .open = raw_open,
    .step = raw_step,
    .close = raw_close,
    .destroy = raw_destroy,
};
