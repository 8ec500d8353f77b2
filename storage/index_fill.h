/*
 * Filling an empty index with everything that a disk's footers say. LevelDB takes keys in their order four
 * times as fast as at random, so the items come in passes, each over a range of ids; what a pass
 * has gathered is sorted and written. A key that occurs once in its pass, and is no tombstone, needs no
 * look-up: nothing of it can be in the index. All others are applied one after another, as ever, so
 * that the outcome is that of stele_index_apply over all items in the order in which they were added.
 *
 *   create -> for each pass: add every item of the disk (those of other passes are passed over), end -> destroy
 *
 * Memory: 150 bytes for each item of a run, as long as it lives. A pass that holds more than was expected goes on with
 * look-ups. Blocks; one thread.
 */
#ifndef STORAGE_INDEX_FILL_H
#define STORAGE_INDEX_FILL_H

#include "storage/index.h"

struct stele_index_fill;

#define STELE_INDEX_RUN (1u << 20)

/* items: how many will be added in each pass, about; run: how many are held at most, 2 at least. NOMEM. */
STELE_MUST_USE enum stele_err stele_index_fill_create(struct stele_index *ix, uint64_t items,
                                                      uint32_t run, struct stele_index_fill **out);
void stele_index_fill_destroy(struct stele_index_fill *fill); /* accepts NULL */
uint32_t stele_index_fill_passes(const struct stele_index_fill *fill);
STELE_MUST_USE enum stele_err stele_index_fill_add(struct stele_index_fill *fill,
                                                   const struct stele_item_at *it);
/* The pass is over: what it gathered is in the index, and the next may begin. */
STELE_MUST_USE enum stele_err stele_index_fill_end(struct stele_index_fill *fill);

#endif
