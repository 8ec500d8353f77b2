/*
 * bitcoind's blk*.dat: frames (magic, length, block) one after another, in the order in which
 * blocks arrived; what crashes left between them; zeros up to the end. One frame or one gap a step.
 *
 * What is damage and what is a gap: bytes that look like a frame (either its magic and length are
 * right, or a block that checks follows where a frame would have it) must be a whole good frame,
 * else the file is corrupt. The exception is a frame over which a later one was written: a good
 * frame starts inside of it. Everything else between frames is a gap, to be judged by the links
 * (chain_link.h).
 */
#include <stdlib.h>

#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/parser.h"

#define FRAME     8u
#define FRAME_MAX (FRAME + STELE_BITCOIN_BLOCK_MAX)
/* Bytes that frames which turned out to be none may cost before the file is given up: hostile bytes
 * could make every eighth of them the start of a long one. */
#define FALSE_BYTES_MAX (64u << 20)

struct blk_file {
	struct stele_bitcoin_scratch scratch;
	bool in_gap;
	uint64_t gap_start;
	uint64_t nonzero_end; /* in the file, behind the gap's last byte that is not a raw zero; 0:
	                         none */
	uint64_t false_bytes;
	uint64_t blocks;
};

static enum stele_err blk_open(struct stele_parser *p)
{
	p->state = calloc(1, sizeof(struct blk_file));
	return p->state ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "a parser");
}

static void blk_destroy(struct stele_parser *p)
{
	struct blk_file *f = p->state;
	if (f)
		stele_bitcoin_scratch_reset(&f->scratch);
	free(f);
}

/* The file's first four bytes say which network it is of. */
static enum stele_err first_magic(struct stele_parser *p, const uint8_t *view)
{
	const struct stele_chain *found = stele_chain_by_magic(view);
	char hex[9];
	if (found)
		return stele_parser_chain(p, found, "magic");
	return stele_fail(STELE_ERR_CORRUPT,
	                  "offset 0: magic %s is no network's that is known (is xor.dat missing?)",
	                  stele_hex(view, 4, hex));
}

static bool has_magic(const struct stele_parser *p, const uint8_t *at)
{
	return memcmp(at, p->facts.chain->magic, 4) == 0;
}

static bool plausible(uint32_t length)
{
	return length >= STELE_BITCOIN_HEADER + 1 + STELE_BITCOIN_TX_MIN &&
	       length <= STELE_BITCOIN_BLOCK_MAX;
}

static enum stele_err check_block(struct stele_parser *p, const uint8_t *bytes, size_t len,
                                  struct stele_bitcoin_block *out)
{
	struct blk_file *f = p->state;
	return stele_bitcoin_block_check(&f->scratch, bytes, len, p->facts.chain, out);
}

static enum stele_err emit(struct stele_parser *p, const struct stele_bitcoin_block *b,
                           uint64_t offset)
{
	struct blk_file *f = p->state;
	f->blocks++;
	struct stele_found_block found = {
	    .height = STELE_HEIGHT_UNKNOWN,
	    .hash = b->hash,
	    .parent = b->parent,
	    .bits = b->bits,
	    .nparts = 1,
	    .part[0] = {.offset = offset,
	                .length = (uint32_t)b->length,
	                .kind = STELE_PART_BLOCK,
	                .encoding = p->facts.has_xor ? STELE_ENCODING_XOR : STELE_ENCODING_RAW},
	    .tx_count = b->tx_count,
	    .tx_ids = p->opts.want_tx_ids ? b->tx_ids : NULL,
	};
	return stele_parser_block(p, &found);
}

static enum stele_err wrap(const struct stele_parser *p, enum stele_err err, uint64_t offset)
{
	const struct blk_file *f = p->state;
	return stele_wrap(err, "block %llu of the file, at offset %llu",
	                  (unsigned long long)f->blocks, (unsigned long long)offset);
}

/* A frame of `length` bytes turned out to be none: CORRUPT when that was too often. */
static enum stele_err charge(struct stele_parser *p, const uint8_t *view, uint32_t length)
{
	struct blk_file *f = p->state;
	struct stele_bitcoin_block b;
	bool cheap = stele_bitcoin_header_check(view + FRAME, p->facts.chain, &b) != STELE_OK;
	f->false_bytes += cheap ? STELE_BITCOIN_HEADER : length;
	if (f->false_bytes <= FALSE_BYTES_MAX)
		return STELE_OK;
	return stele_fail(STELE_ERR_CORRUPT,
	                  "offset %llu: too many frames without a block, gave up",
	                  (unsigned long long)p->feeder.offset);
}

/* A whole frame at view[0..len)? *good: yes, and *b is its block. Otherwise *need says how many
 * bytes it takes to know (0: known not to be). Errors are NOMEM and giving up. */
static enum stele_err try_frame(struct stele_parser *p, const uint8_t *view, size_t len,
                                struct stele_bitcoin_block *b, bool *good, size_t *need)
{
	*good = false;
	*need = 0;
	if (len < FRAME) {
		*need = FRAME;
		return STELE_OK;
	}
	uint32_t length = stele_le32(view + 4);
	if (!has_magic(p, view) || !plausible(length))
		return STELE_OK;
	if (len < FRAME + (size_t)length) {
		*need = FRAME + (size_t)length;
		return STELE_OK;
	}
	enum stele_err err = check_block(p, view + FRAME, length, b);
	if (err == STELE_ERR_NOMEM)
		return err;
	*good = err == STELE_OK && b->length == length;
	if (*good)
		return STELE_OK;
	return charge(p, view, length);
}

/* The next place from `from` on where a frame's magic stands; when there is none, the first place
 * that is too near to len to tell. */
static size_t find_magic(const struct stele_parser *p, const uint8_t *view, size_t from, size_t len)
{
	const uint8_t *magic = p->facts.chain->magic;
	while (from + 4 <= len) {
		const uint8_t *at = memchr(view + from, magic[0], len - 3 - from);
		if (!at)
			return len - 3;
		if (memcmp(at, magic, 4) == 0)
			return (size_t)(at - view);
		from = (size_t)(at - view) + 1;
	}
	return from;
}

/* ---- in a gap ---- */

static bool raw_zero(const struct stele_parser *p, const uint8_t *view, size_t i)
{
	const uint8_t *key = p->opts.xor_key;
	return view[i] == (key ? key[(p->feeder.offset + i) & 7] : 0);
}

/* Takes the first n bytes of the view into the gap. */
static void gap_take(struct stele_parser *p, const uint8_t *view, size_t n)
{
	struct blk_file *f = p->state;
	for (size_t i = n; i-- > 0;) {
		if (!raw_zero(p, view, i)) {
			f->nonzero_end = p->feeder.offset + i + 1;
			break;
		}
	}
}

static enum stele_err gap_end(struct stele_parser *p, uint64_t end, bool last)
{
	struct blk_file *f = p->state;
	uint64_t start = f->gap_start, nonzero = f->nonzero_end ? f->nonzero_end : start;
	f->in_gap = false;
	if (!last)
		return stele_parser_gap(p, nonzero > start ? STELE_GAP_BYTES : STELE_GAP_ZERO,
		                        start, end - start);
	STELE_TRY(stele_parser_gap(p, STELE_GAP_BYTES, start, nonzero - start));
	return stele_parser_gap(p, STELE_GAP_PADDING, nonzero, end - nonzero);
}

static enum stele_err step_gap(struct stele_parser *p, const uint8_t *view, size_t len, bool final,
                               size_t *used, size_t *need)
{
	struct stele_bitcoin_block b;
	uint64_t offset = p->feeder.offset;
	for (size_t at = 0;; at++) {
		at = find_magic(p, view, at, len);
		if (at + 4 > len) { /* no frame in sight: its magic may have begun */
			if (final)
				at = len;
			gap_take(p, view, at);
			*used = at;
			*need = 4;
			return final ? gap_end(p, offset + at, true) : STELE_OK;
		}
		bool good;
		size_t want;
		STELE_TRY(try_frame(p, view + at, len - at, &b, &good, &want));
		if (good) {
			gap_take(p, view, at);
			*used = at + FRAME + b.length;
			STELE_TRY(gap_end(p, offset + at, false));
			return emit(p, &b, offset + at + FRAME);
		}
		if (want && !final) {
			gap_take(p, view, at);
			*used = at;
			*need = want;
			return STELE_OK;
		}
	}
}

/* ---- at a frame's place ---- */

/* A frame that has magic and a plausible length, but no good block: torn when a good frame starts
 * inside of it. *wait: bytes that it takes to know, else 0. */
static enum stele_err step_torn(struct stele_parser *p, const uint8_t *view, size_t len, bool final,
                                size_t *used, size_t *wait)
{
	size_t end = FRAME + (size_t)stele_le32(view + 4);
	if (end > len)
		end = len;
	for (size_t at = 4; (at = find_magic(p, view, at, end)) + 4 <= end; at++) {
		struct stele_bitcoin_block b;
		bool good;
		size_t want;
		STELE_TRY(try_frame(p, view + at, len - at, &b, &good, &want));
		if (good) {
			*used = at;
			return stele_parser_gap(p, STELE_GAP_TORN, p->feeder.offset, at);
		}
		if (want && !final) {
			*wait = at + want;
			return STELE_OK;
		}
	}
	return STELE_OK;
}

/* The bytes at a frame's place have magic and a plausible length. */
static enum stele_err step_frame(struct stele_parser *p, const uint8_t *view, size_t len,
                                 bool final, size_t *used, size_t *need)
{
	struct stele_bitcoin_block b;
	uint32_t length = stele_le32(view + 4);
	size_t whole = FRAME + (size_t)length;
	uint64_t offset = p->feeder.offset;
	enum stele_err err;
	if (len < whole && !final) {
		*need = whole;
		return STELE_OK;
	}
	if (len < whole)
		err = stele_fail(STELE_ERR_CORRUPT, "cut: it has %u bytes, the file ends after %zu",
		                 length, len - FRAME);
	else
		err = check_block(p, view + FRAME, length, &b);
	if (err == STELE_OK && b.length == length) {
		*used = whole;
		return emit(p, &b, offset + FRAME);
	}
	if (err == STELE_OK)
		return wrap(p,
		            stele_fail(STELE_ERR_CORRUPT,
		                       "its frame says %u bytes, the block ends after %zu", length,
		                       b.length),
		            offset);
	if (err != STELE_ERR_CORRUPT)
		return err;
	char why[STELE_DETAIL_MAX];
	stele_detail_copy(why);
	/* when only the length is wrong, a good block is there that is no torn one */
	if (len >= FRAME + STELE_BITCOIN_HEADER &&
	    check_block(p, view + FRAME, len - FRAME, &b) != STELE_OK) {
		size_t wait = 0;
		STELE_TRY(step_torn(p, view, len, final, used, &wait));
		if (*used)
			return charge(p, view, length);
		if (wait) {
			*need = wait;
			return STELE_OK;
		}
	}
	return wrap(p, stele_fail(STELE_ERR_CORRUPT, "%s", why), offset);
}

/* No frame starts here. A good block behind eight wrong bytes is a damaged frame. */
static enum stele_err step_no_frame(struct stele_parser *p, const uint8_t *view, size_t len,
                                    bool final, size_t *used, size_t *need)
{
	struct blk_file *f = p->state;
	struct stele_bitcoin_block b;
	uint64_t offset = p->feeder.offset;
	if (len < FRAME + STELE_BITCOIN_HEADER && !final) {
		*need = FRAME + STELE_BITCOIN_HEADER;
		return STELE_OK;
	}
	if (len >= FRAME + STELE_BITCOIN_HEADER &&
	    stele_bitcoin_header_check(view + FRAME, p->facts.chain, &b) == STELE_OK) {
		enum stele_err err = check_block(p, view + FRAME, len - FRAME, &b);
		if (err == STELE_OK)
			return wrap(p,
			            stele_fail(STELE_ERR_CORRUPT,
			                       "a good block stands behind a damaged frame"),
			            offset);
		if (err != STELE_ERR_CORRUPT)
			return err;
		if (len < FRAME_MAX && !final) {
			*need = FRAME_MAX;
			return STELE_OK;
		}
	}
	f->in_gap = true;
	f->gap_start = offset;
	f->nonzero_end = 0;
	return step_gap(p, view, len, final, used, need);
}

static enum stele_err blk_step(void *ctx, const uint8_t *view, size_t len, bool final, size_t *used,
                               size_t *need)
{
	struct stele_parser *p = ctx;
	const struct blk_file *f = p->state;
	if (f->in_gap)
		return step_gap(p, view, len, final, used, need);
	if (len < FRAME && !final) {
		*need = FRAME;
		return STELE_OK;
	}
	if (p->feeder.offset == 0 && len >= 4)
		STELE_TRY(first_magic(p, view));
	if (!p->facts.chain)
		return stele_fail(STELE_ERR_CORRUPT, "offset 0: too short for a block");
	if (len >= FRAME && has_magic(p, view) && plausible(stele_le32(view + 4)))
		return step_frame(p, view, len, final, used, need);
	if (len < FRAME && memcmp(view, p->facts.chain->magic, len < 4 ? len : 4) == 0)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "cut: the file ends in a frame's head at "
		                  "offset %llu",
		                  (unsigned long long)p->feeder.offset);
	if (p->feeder.offset == 0)
		return stele_fail(STELE_ERR_CORRUPT, "offset 0: no block of %u bytes can be",
		                  len >= FRAME ? stele_le32(view + 4) : 0);
	return step_no_frame(p, view, len, final, used, need);
}

static enum stele_err blk_close(struct stele_parser *p)
{
	p->facts.sealed = p->facts.padding == 0;
	return STELE_OK;
}

const struct stele_parser_ops stele_bitcoin_blk_parser = {
    .need_max = 2 * FRAME_MAX,
    .open = blk_open,
    .step = blk_step,
    .close = blk_close,
    .destroy = blk_destroy,
};
