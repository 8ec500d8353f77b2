/* Announcing anchor lines in the catalogue, and finding the newest. It reads and writes no mark
 * itself. */
#include "net/anchor/announce.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "net/anchor/canon.h" /* STELE_CANON_NUMBER_MAX: the largest number of a line */

#define LOG_DIGITS 14

char *stele_announce_chain(const struct stele_hash *log_id, uint64_t number,
                           char out[STELE_CAIP2_MAX])
{
	char hex[LOG_DIGITS + 1];
	assert(number <= STELE_CANON_NUMBER_MAX);
	/* CAIP-2 has 32 characters behind the colon: 14, a dash, and at most 16 */
	snprintf(out, STELE_CAIP2_MAX, "stele:%s-%" PRIu64,
	         stele_hex(log_id->b, LOG_DIGITS / 2, hex), number);
	return out;
}

void stele_announce_mark(const struct stele_hash *cluster, const struct stele_anchor_line *line,
                         const struct stele_hash *line_id, struct stele_mark *out)
{
	struct stele_hash log_id;
	assert(line->checkpoint.size > 0);
	memset(out, 0, sizeof(*out));
	stele_log_id(line->checkpoint.origin, &log_id);
	out->cluster = *cluster;
	out->kind = STELE_MARK_CATALOGUE;
	stele_announce_chain(&log_id, line->number, out->u.catalogue.caip2);
	stele_catalogue_id(out->u.catalogue.caip2, &out->object);
	out->u.catalogue.first = 0;
	out->u.catalogue.last = line->checkpoint.size - 1;
	out->u.catalogue.count = line->checkpoint.size;
	out->u.catalogue.first_parent = line->previous;
	out->u.catalogue.last_hash = line->checkpoint.root;
	out->u.catalogue.segment = line->manifest;
	out->u.catalogue.index = *line_id;
	out->u.catalogue.linked = true;
}

enum stele_err stele_announce_check(const struct stele_mark *mark, const struct stele_hash *log_id,
                                    uint64_t number)
{
	char chain[STELE_CAIP2_MAX];
	if (mark->kind != STELE_MARK_CATALOGUE ||
	    strcmp(mark->u.catalogue.caip2, stele_announce_chain(log_id, number, chain)) != 0)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "not the announcement of anchor %" PRIu64 " of this log", number);
	return STELE_OK;
}

enum stele_err stele_announce_newest(stele_announce_lookup *lookup, void *ctx, uint64_t *number)
{
	uint64_t there = 0, beyond = 1;
	bool found;
	STELE_TRY(lookup(ctx, 0, &found));
	if (!found)
		return stele_fail(STELE_ERR_NOT_FOUND, "the log has no announced anchor yet");
	/* double until one is missing, then halve */
	for (;;) {
		STELE_TRY(lookup(ctx, beyond, &found));
		if (!found)
			break;
		there = beyond;
		beyond = 2 * beyond + 1;
		if (beyond > STELE_CANON_NUMBER_MAX / 2)
			return stele_fail(STELE_ERR_CORRUPT, "anchors are announced without end");
	}
	while (beyond - there > 1) {
		uint64_t middle = there + (beyond - there) / 2;
		STELE_TRY(lookup(ctx, middle, &found));
		if (found)
			there = middle;
		else
			beyond = middle;
	}
	*number = there;
	return STELE_OK;
}
