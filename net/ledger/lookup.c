/* From a height or hash to a segment, to the parts in its file, to the block's verified bytes. */
#include "net/ledger/lookup.h"

#include <inttypes.h>
#include <stdlib.h>

#include "storage/ledger/extract.h"

#define PART_MAX (64u << 20)

const char *stele_answer_name(enum stele_answer answer)
{
	static const char *const name[] = {"",    "archived", "stale",
	                                   "gap", "not-yet",  "unknown-hash"};
	return name[answer];
}

/* ---- fetching ---- */

struct fetch {
	uint8_t *bytes;
	size_t at, len;
};

static enum stele_err fetch_write(void *ctx, const void *bytes, size_t len)
{
	struct fetch *f = ctx;
	if (len > f->len - f->at)
		return stele_fail(STELE_ERR_CORRUPT, "more bytes than asked for");
	memcpy(f->bytes + f->at, bytes, len);
	f->at += len;
	return STELE_OK;
}

static enum stele_err fetch_part(struct stele *s, const struct stele_hash *object,
                                 const struct stele_part *part, uint8_t **out)
{
	if (part->length > PART_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "a part of %u bytes", part->length);
	struct fetch f = {.bytes = malloc(part->length ? part->length : 1), .len = part->length};
	if (!f.bytes)
		return stele_fail(STELE_ERR_NOMEM, "block: out of memory");
	struct stele_sink sink = {.write = fetch_write, .ctx = &f};
	struct stele_get_opts opts = {.off = part->offset, .len = part->length};
	struct stele_get_result result;
	enum stele_err err = stele_get(s, object, &opts, &sink, &result);
	if (err == STELE_OK && f.at != f.len)
		err = stele_fail(STELE_ERR_CORRUPT, "fewer bytes than asked for");
	if (err != STELE_OK) {
		free(f.bytes);
		return err;
	}
	*out = f.bytes;
	return STELE_OK;
}

static enum stele_err fetch_block(struct stele_catalogue *c, const struct stele_segment *seg,
                                  const struct stele_index_entry *e, struct stele_chain_block *out)
{
	struct stele_stored_part part[STELE_PARTS_MAX];
	uint8_t *bytes[STELE_PARTS_MAX] = {NULL};
	size_t n = 0;
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0; i < e->nparts && err == STELE_OK; i++) {
		struct stele_hash object;
		if (!stele_extract_needs(e->part[i].kind))
			continue;
		stele_index_object(&seg->ix, e->part[i].object, &object);
		err = fetch_part(c->s, &object, &e->part[i], &bytes[n]);
		part[n] = (struct stele_stored_part){.part = e->part[i], .bytes = bytes[n]};
		n++;
	}
	struct stele_extract_opts opts = {
	    .format = seg->ix.head.format,
	    .chain = &c->chain,
	    .xor_key = seg->ix.head.has_xor ? seg->ix.head.xor_key : NULL,
	    .hash = e->hash,
	};
	if (err == STELE_OK)
		err = stele_block_extract(&opts, part, n, &out->bytes, &out->len);
	for (size_t i = 0; i < STELE_PARTS_MAX; i++)
		free(bytes[i]);
	out->answer = e->stale ? STELE_ANSWER_STALE : STELE_ANSWER_ARCHIVED;
	out->level = e->linked ? STELE_LEVEL_LINKED : STELE_LEVEL_BOUND;
	out->height = e->height;
	out->hash = e->hash;
	out->segment = seg->object;
	return err;
}

/* ---- finding ---- */

static void coverage(const struct stele_catalogue *c, struct stele_chain_block *out)
{
	out->first = STELE_HEIGHT_UNKNOWN;
	out->last = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct stele_segment *s = &c->segment[i];
		if (s->first == STELE_HEIGHT_UNKNOWN)
			continue;
		out->first = s->first < out->first ? s->first : out->first;
		out->last = s->last > out->last ? s->last : out->last;
	}
}

enum stele_err stele_ledger_by_height(struct stele_catalogue *c, uint64_t height,
                                      struct stele_chain_block *out)
{
	struct stele_index_entry e;
	bool blind = false;
	memset(out, 0, sizeof(*out));
	coverage(c, out);
	for (uint32_t i = 0; i < c->n; i++) {
		struct stele_segment *seg = &c->segment[i];
		if (seg->first == STELE_HEIGHT_UNKNOWN || height < seg->first || height > seg->last)
			continue;
		STELE_TRY(stele_catalogue_index(c, seg));
		if (seg->open && stele_index_find_height(&seg->ix, height, &e) == STELE_OK)
			return fetch_block(c, seg, &e, out);
		blind = blind || seg->blind;
	}
	if (blind) /* it may be there */
		return stele_fail(c->err, "%s", c->why);
	out->answer = out->first != STELE_HEIGHT_UNKNOWN && height <= out->last
	                  ? STELE_ANSWER_GAP
	                  : STELE_ANSWER_NOT_YET;
	if (out->first == STELE_HEIGHT_UNKNOWN)
		return stele_fail(STELE_ERR_NOT_FOUND, "nothing is archived of %s", c->chain.caip2);
	return stele_fail(
	    STELE_ERR_NOT_FOUND,
	    "height %" PRIu64 " of %s: %s; archived are heights %" PRIu64 " to %" PRIu64, height,
	    c->chain.caip2, stele_answer_name(out->answer), out->first, out->last);
}

enum stele_err stele_ledger_by_hash(struct stele_catalogue *c, const struct stele_hash *hash,
                                    struct stele_chain_block *out)
{
	struct stele_index_entry e;
	char text[STELE_HEX_LEN];
	bool blind = false;
	memset(out, 0, sizeof(*out));
	coverage(c, out);
	for (uint32_t i = 0; i < c->n; i++) {
		struct stele_segment *seg = &c->segment[i];
		STELE_TRY(stele_catalogue_index(c, seg));
		if (seg->open && stele_index_find_hash(&seg->ix, hash, &e) == STELE_OK)
			return fetch_block(c, seg, &e, out);
		blind = blind || seg->blind;
	}
	if (blind)
		return stele_fail(c->err, "%s", c->why);
	out->answer = STELE_ANSWER_UNKNOWN_HASH;
	return stele_fail(STELE_ERR_NOT_FOUND, "block %s of %s is in none of %u archived segments",
	                  stele_chain_hash_text(c->chain.family, hash, text), c->chain.caip2, c->n);
}
