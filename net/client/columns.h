/*
 * The columns of a block that a read fetched: verified against their rows, missing ones decoded and verified too (DESIGN
 * P5). Pure computation, for workers.
 */
#ifndef NET_CLIENT_COLUMNS_H
#define NET_CLIENT_COLUMNS_H

#include "erasure/block.h"
#include "storage/base/sha256.h"

struct stele_columns {
	const struct stele_descriptor *desc;
	const struct stele_hash *rows; /* of all distinct shards (erasure/shard_meta.h) */
	uint32_t first_cell, cells;
	uint64_t len;                     /* bytes of one shard's columns */
	uint8_t *shard[STELE_CODE_N_MAX]; /* their columns, where needed */
	uint64_t check, missing;          /* masks: fetched, unchecked; to be decoded */
	const struct stele_plan *plan;    /* for missing */
	struct stele_sha256_stream
	    *object; /* fed with the block's bytes when all of the block is here, or NULL */
	/* out */
	uint64_t
	    bad; /* of check: their bytes do not hash to their rows (object is as it was then) */
	bool consistent; /* what was decoded hashes to its rows */
};

void stele_columns_verify(struct stele_columns *c);

#endif
