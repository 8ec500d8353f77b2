/*
 * The index (DESIGN N7): where each live entry lies, over a kv. It is a cache of the extents: what is
 * written here is derived, unsynced, and thrown away on any doubt. Also here: the counters that follow
 * from it, and the checkpoint, which says up to which LSN it is durable.
 *
 * A tombstone is needed while an entry that it kills lies anywhere (N6): kept under its key with the one extent in
 * which such entries can be, where that is known: an entry whose key was met only once and that was not copied has
 * no other. When that extent is recycled, the tombstone goes (stele_index_forget).
 *
 * Order does not matter to it: an entry counts when no tombstone of its key killed its birth LSN and no
 * entry with a later birth is there; of two places of the same birth the one applied last. So
 * a replay may start anywhere at or before the watermark, and footers may be read in any order that
 * keeps extents ascending.
 *
 * apply, forget, mark and checkpoint_begin change it: by one thread at a time ("the mutator"). Look-ups: any
 * thread, any time. All block.
 */
#ifndef STORAGE_INDEX_H
#define STORAGE_INDEX_H

#include "storage/extent_format.h"

struct stele_index_counts {
	uint64_t shards, refs, records, marks;
	uint64_t bad;
	uint64_t bytes;   /* of live entries and their cells */
	uint64_t *live;   /* the same per extent, by its number, and of tombstones that are needed */
	uint32_t extents; /* entries in live */
	uint64_t order;   /* of a copy: those taken later have more */
};

struct stele_index {
	struct stele_kv *kv;
	struct stele_index_counts counts; /* the mutator's */
};

struct stele_index_state { /* the checkpoint */
	struct stele_uuid disk;
	uint64_t watermark; /* every batch up to this one is in the index, durably */
	uint64_t
	    closed_in; /* the incarnation that then closed cleanly; 0: none. It counts only if it is
	                       * the last incarnation that the superblock knows */
	uint32_t open_extent; /* then: where the log goes on */
	uint64_t open_end;
};

/* Opens the kv and reads its checkpoint. NOT_FOUND: there is none (new: rebuild). VERSION, CORRUPT, IO:
 * rebuild. `out` is open only on OK and NOT_FOUND. */
STELE_MUST_USE enum stele_err stele_index_open(const struct stele_kv_ops *ops, void *world,
                                               const char *dir, struct stele_index *out,
                                               struct stele_index_state *state);
void stele_index_close(struct stele_index *ix); /* accepts zeroed */

/* Bytes that an entry and its cells keep alive in their extent. */
uint64_t stele_index_weight(const struct stele_item_at *it);

/* Applies entries (and tombstones) in this order. */
STELE_MUST_USE enum stele_err stele_index_apply(struct stele_index *ix,
                                                const struct stele_item_at *it, size_t n);
/* The same for entries of keys of which nothing is in the index, each once: nothing is looked up. */
STELE_MUST_USE enum stele_err stele_index_apply_new(struct stele_index *ix,
                                                    const struct stele_item_at *it, size_t n);
/* NOT_FOUND. Fills everything, the key included. */
STELE_MUST_USE enum stele_err stele_index_get(struct stele_kv *kv, enum stele_index_space space,
                                              const struct stele_key *key,
                                              struct stele_item_at *out);
/* A bit for each shard index of a block that is here; bad ones not counted when `good`. Uses `it`. */
STELE_MUST_USE enum stele_err stele_index_shards(struct stele_kv_iter *it, uint16_t pool,
                                                 const struct stele_hash *block, bool good,
                                                 uint64_t *bits);
/* Does any reference lie beside the block's shards? Uses `it`. */
STELE_MUST_USE enum stele_err stele_index_referenced(struct stele_kv_iter *it, uint16_t pool,
                                                     const struct stele_hash *block, bool *yes);
/* Flags an entry as not readable, or as readable again, if it is still the one that lies at at. */
STELE_MUST_USE enum stele_err stele_index_mark(struct stele_index *ix,
                                               const struct stele_item_at *at, bool bad);

/* Flags every entry that lies in an extent of which is_gone says so. Walks all of the index. */
STELE_MUST_USE enum stele_err stele_index_mark_gone(struct stele_index *ix,
                                                    bool (*is_gone)(void *ctx, uint32_t extent),
                                                    void *ctx);

/* The extent that these are items of was recycled, durably: what is left of it in the index goes. All of
 * its items, in any order; or tombstones in it that are not needed any more. */
STELE_MUST_USE enum stele_err stele_index_forget(struct stele_index *ix,
                                                 const struct stele_item_at *items, size_t n);

/* A checkpoint in two steps. begin takes down counters and state (which must agree: the mutator calls
 * it); end makes everything applied until then durable, then the state: it may run while more is
 * applied. A state that is lost by a crash costs a longer replay, no more. */
#define STELE_INDEX_STATE_LEN 96u
STELE_MUST_USE enum stele_err stele_index_checkpoint_begin(struct stele_index *ix,
                                                           const struct stele_index_state *s,
                                                           uint8_t out[STELE_INDEX_STATE_LEN]);
STELE_MUST_USE enum stele_err
stele_index_checkpoint_end(struct stele_index *ix, const uint8_t state[STELE_INDEX_STATE_LEN]);
/* Loads the counters of the checkpoint; or counts everything anew. */
STELE_MUST_USE enum stele_err stele_index_load_counts(struct stele_index *ix);
STELE_MUST_USE enum stele_err stele_index_recount(struct stele_index *ix);

#endif
