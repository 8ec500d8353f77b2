/*
 * A block and its shards (DESIGN 3). Data shard i is bytes [i*S, (i+1)*S) of the block, padded with
 * zeros: concatenating data shards and cutting at the length *is* decoding (D1). Pure computation:
 * no I/O, no threads; callers run it on a worker above 256 KiB.
 */
#ifndef ERASURE_BLOCK_H
#define ERASURE_BLOCK_H

#include "erasure/code.h"
#include "storage/base/sha256.h"

/* An encoded block. Data shards that lie whole inside the caller's bytes are not copied: their
 * pointers point into it, so the bytes outlive this structure. The rest is one aligned allocation. */
struct stele_block {
	struct stele_descriptor desc;
	struct stele_hash id;
	uint32_t cells;                           /* of one shard */
	const uint8_t *shard[STELE_CODE_N_MAX];   /* S bytes each */
	struct stele_hash *row[STELE_CODE_N_MAX]; /* cells hashes each (rep-n: all the same) */
	void *memory;                             /* tail shards, parity, rows */
};

/* Encodes bytes[0, len), len in 1 ... STELE_BLOCK_LEN_MAX, and hashes every shard's cells. Feeds the
 * bytes to `object` (the object's own SHA-256) in the same lanes when it is not NULL.
 * NOMEM, INVALID. */
STELE_MUST_USE enum stele_err stele_block_encode(struct stele_block *b,
                                                 const struct stele_code *code, const void *bytes,
                                                 size_t len, struct stele_sha256_stream *object);
void stele_block_finish(struct stele_block *b); /* accepts a zeroed one */

/* Leaf hashes of the object's own chunks in this block (DESIGN D3): where S is a multiple of 64 KiB
 * they are the data cells' hashes; else the bytes are hashed again. leaf holds ceil(len/64 KiB). */
void stele_block_chunks(const struct stele_block *b, const void *bytes, struct stele_hash *leaf);

/* Checks a whole shard: rows against the descriptor, cells against row idx, and for a data shard
 * that its padding is zero. rows: all of them in the order of shards (rep-n: one), `cells` each.
 * CORRUPT names the shard and the cell. */
STELE_MUST_USE enum stele_err stele_block_verify_rows(const struct stele_descriptor *d,
                                                      const struct stele_hash *rows);
STELE_MUST_USE enum stele_err stele_block_verify_shard(const struct stele_descriptor *d,
                                                       uint32_t idx, const struct stele_hash *row,
                                                       const void *shard);

/* The part of a shard that a range of the block needs. */
struct stele_part {
	uint32_t shard;      /* a data shard */
	uint32_t first_cell; /* of that shard */
	uint32_t cells;
	uint64_t off; /* of the wanted bytes within the shard */
	uint64_t len;
};
/* Maps bytes [off, off + len) of the block to parts of data shards, in order; parts holds k.
 * Returns the number of parts. off + len <= d->length. */
uint32_t stele_block_map_range(const struct stele_descriptor *d, uint64_t off, uint64_t len,
                               struct stele_part *parts);

/* Rebuilds shards `want` from the shards in `have`. shard[i] for i in have: S bytes to read; for i
 * in want: S bytes to fill. Every result is checked against its root in the descriptor: CORRUPT
 * names a bad result (then some shard in `have` is corrupt: see stele_block_find_bad).
 * rows_out, where not NULL, gets `cells` leaf hashes for each wanted shard, in ascending order. */
STELE_MUST_USE enum stele_err stele_block_rebuild(const struct stele_descriptor *d, uint64_t have,
                                                  uint64_t want, uint8_t *const *shard,
                                                  struct stele_hash *rows_out);

/* Cells [first, first + cells) of shard `idx`, computed from the same cells of others: what a degraded
 * read of a range needs, without the rest of the block. plan: from stele_code_plan, for idx alone.
 * in: for each shard of plan->read those cells' bytes, one after another (the last cell of a shard may
 * be short); out: as many. Each result is checked against row (the row of idx): CORRUPT names it. */
STELE_MUST_USE enum stele_err stele_block_rebuild_cells(const struct stele_descriptor *d,
                                                        const struct stele_plan *plan,
                                                        uint32_t first, uint32_t cells,
                                                        const uint8_t *const *in,
                                                        const struct stele_hash *row, uint8_t *out);

/* Which of the shards in `have` are corrupt: each is hashed against its own root. */
uint64_t stele_block_find_bad(const struct stele_descriptor *d, uint64_t have,
                              const uint8_t *const *shard);

#endif
