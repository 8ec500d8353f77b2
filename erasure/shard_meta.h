/*
 * A shard's meta as it travels (net/PROTOCOL.md: SHARD_PUT, SHARD_GET): descriptor, the shard's own row, the other rows in
 * ascending order (rep-n: the one row). Pure. Thread: any.
 */
#ifndef ERASURE_SHARD_META_H
#define ERASURE_SHARD_META_H

#include "erasure/block.h"

size_t stele_shard_meta_len(const struct stele_descriptor *d);
void stele_shard_meta_write(struct stele_writer *w, const struct stele_descriptor *d,
                            uint32_t index, struct stele_hash *const *row);
/* Checks all of it: the descriptor against the block's id, every row against its root. *rows: of all distinct shards in
 * ascending order, malloc'ed. CORRUPT, NOMEM. */
STELE_MUST_USE enum stele_err stele_shard_meta_read(const void *bytes, size_t len,
                                                    const struct stele_hash *block, uint32_t index,
                                                    struct stele_descriptor *d,
                                                    struct stele_hash **rows);
/* The row of a shard in rows. */
const struct stele_hash *stele_shard_meta_row(const struct stele_descriptor *d,
                                              const struct stele_hash *rows, uint32_t shard);

#endif
