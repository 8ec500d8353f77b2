/*
 * Fabric's blockfile_%06d: blocks behind their uvarint lengths. One block a step. A peer that was
 * killed leaves its last block cut, and drops it when it starts again: so does this, and reports
 * it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "storage/ledger/fabric.h"
#include "storage/ledger/parser.h"

struct fabric_file {
	struct stele_fabric_block before; /* the last block */
	struct stele_hash *ids;
};

static enum stele_err fabric_open(struct stele_parser *p)
{
	struct fabric_file *f = calloc(1, sizeof(*f));
	p->state = f;
	if (f && p->opts.want_tx_ids)
		f->ids = malloc(STELE_FABRIC_TXS_MAX * sizeof(*f->ids));
	return f && (f->ids || !p->opts.want_tx_ids) ? STELE_OK
	                                             : stele_fail(STELE_ERR_NOMEM, "a parser");
}

static void fabric_destroy(struct stele_parser *p)
{
	struct fabric_file *f = p->state;
	if (f)
		free(f->ids);
	free(f);
}

static enum stele_err check_place(struct stele_parser *p, const struct stele_fabric_block *b)
{
	const struct fabric_file *f = p->state;
	const char *chain = p->facts.chain ? strchr(p->facts.chain->caip2, ':') : NULL;
	if (chain && strcmp(chain + 1, b->channel) != 0)
		return stele_fail(STELE_ERR_INVALID, "the file is of channel %s, not of %s",
		                  b->channel, p->facts.chain->caip2);
	if (p->facts.count == 0)
		return STELE_OK;
	if (strcmp(f->before.channel, b->channel) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "channel %s follows %s", b->channel,
		                  f->before.channel);
	if (b->number != f->before.number + 1)
		return stele_fail(STELE_ERR_CORRUPT, "number %llu follows %llu",
		                  (unsigned long long)b->number,
		                  (unsigned long long)f->before.number);
	if (!stele_hash_equal(&b->parent, &f->before.hash))
		return stele_fail(STELE_ERR_CORRUPT, "its parent is not the block before it");
	return STELE_OK;
}

static enum stele_err take_block(struct stele_parser *p, const uint8_t *bytes, size_t len,
                                 size_t at)
{
	struct fabric_file *f = p->state;
	struct stele_fabric_block b;
	STELE_TRY(stele_fabric_block_check(bytes, len, &b, f->ids));
	if (b.length != len)
		return stele_fail(STELE_ERR_CORRUPT, "its length says %zu bytes, it has %zu", len,
		                  b.length);
	STELE_TRY(check_place(p, &b));
	if (p->facts.count == 0)
		stele_parser_named(p, "fabric:", b.channel);
	p->facts.unbound += b.length - b.metadata_at;
	f->before = b;
	struct stele_found_block found = {
	    .height = b.number,
	    .hash = b.hash,
	    .parent = b.parent,
	    .nparts = 1,
	    .part[0] = {.offset = p->feeder.offset + at,
	                .length = (uint32_t)len,
	                .kind = STELE_PART_BLOCK},
	    .tx_count = b.tx_count,
	    .tx_ids = f->ids,
	};
	return stele_parser_block(p, &found);
}

/* The file ends inside a block. Where a whole one stands behind any length, that length is
 * wrong. */
static enum stele_err take_tail(struct stele_parser *p, const uint8_t *view, size_t len,
                                size_t *used)
{
	struct stele_fabric_block b;
	for (size_t head = 1; head <= 10 && head < len; head++) {
		if (stele_fabric_block_check(view + head, len - head, &b, NULL) == STELE_OK)
			return stele_fail(STELE_ERR_CORRUPT,
			                  "a whole block stands behind a length that is too large");
	}
	*used = len;
	p->facts.cut = true;
	return stele_parser_gap(p, STELE_GAP_BYTES, p->feeder.offset, len);
}

static enum stele_err fabric_step(void *ctx, const uint8_t *view, size_t len, bool final,
                                  size_t *used, size_t *need)
{
	struct stele_parser *p = ctx;
	struct stele_reader r = stele_reader(view, len < 10 ? len : 10);
	unsigned long long at = p->feeder.offset, number = p->facts.count;
	uint64_t total = 0;
	size_t head = 0;
	enum stele_err err = STELE_OK;
	if (stele_uvarint_read(&r, &total))
		head = (size_t)(r.p - view);
	if ((!head && len >= 10) || total > STELE_FABRIC_BLOCK_MAX || (head && total == 0))
		err = stele_fail(STELE_ERR_CORRUPT, "its length is impossible");
	else if (!head || len - head < total) {
		*need = head ? head + (size_t)total : len + 1;
		if (final)
			err = take_tail(p, view, len, used);
	} else {
		*used = head + (size_t)total;
		err = take_block(p, view + head, (size_t)total, head);
	}
	if (err != STELE_ERR_CORRUPT)
		return err;
	return stele_wrap(err, "block %llu of the file, at offset %llu", number, at);
}

static enum stele_err fabric_close(struct stele_parser *p)
{
	p->facts.sealed = !p->facts.cut;
	return STELE_OK;
}

const struct stele_parser_ops stele_fabric_parser = {
    .need_max = STELE_FABRIC_BLOCK_MAX + 10,
    .open = fabric_open,
    .step = fabric_step,
    .close = fabric_close,
    .destroy = fabric_destroy,
};
