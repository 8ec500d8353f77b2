/*
 * What is known of shards that were read lately (DESIGN N3's small page cache): where they lie and the
 * CRCs of their cells. A cell of a known shard takes one read of the disk and no worker.
 *
 * It must never say what the index would not: what a tombstone removes or a mark calls bad is forgotten
 * on the loop before anybody is told of it, and a read that was looked up before then may not bring it
 * back (`era`). A copy that supersedes an entry need not be told: the old place says the same until its
 * extent is recycled, and then the extent's cycle differs.
 *
 * A bounded table of STELE_FRONTS shards (2.3 MiB), each set of which drops what was asked for least of late;
 * memory is taken with the first shard, and without memory nothing is kept. One thread: the loop's.
 */
#ifndef STORAGE_STORE_FRONTS_H
#define STORAGE_STORE_FRONTS_H

#include "storage/extent_format.h"

#define STELE_FRONTS 2048u

struct stele_fronts { /* zeroed: empty */
	struct stele_front *slot;
	uint32_t tick;
	uint64_t era; /* grows whenever something is forgotten */
};

void stele_fronts_finish(struct stele_fronts *f);
/* Keeps an entry that the index knew in `era`, not bad, and its CRCs (as they lie in the meta). A shard of
 * one cell is not kept: there are too many of them for that to help. */
void stele_fronts_put(struct stele_fronts *f, uint64_t era, const struct stele_item_at *at,
                      uint32_t cycle, const uint8_t *crcs);
/* Where a SHARD lies, the cycle of its extent then, and its CRCs, one for each cell (valid until the
 * next call). NULL: not known. */
const uint32_t *stele_fronts_get(struct stele_fronts *f, const struct stele_key *key,
                                 struct stele_item_at *at, uint32_t *cycle);
void stele_fronts_forget(struct stele_fronts *f, const struct stele_key *key);

#endif
