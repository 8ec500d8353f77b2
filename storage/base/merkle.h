/*
 * Merkle trees of RFC 9162 (2.1): leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || l || r),
 * split at the largest power of two smaller than n; the tree of no leaves is SHA-256("").
 * Used for a shard's cells, an object's 64 KiB chunks, and the log. Pure; nothing allocates
 * except where an `out` array is the caller's.
 */
#ifndef STELE_BASE_MERKLE_H
#define STELE_BASE_MERKLE_H

#include "storage/base/bytes.h"

#define STELE_MERKLE_PATH_MAX 64u /* hashes of a path in a tree of up to 2^63 leaves */

void stele_merkle_leaf(const void *data, size_t len, struct stele_hash *out);
void stele_merkle_node(const struct stele_hash *l, const struct stele_hash *r,
                       struct stele_hash *out);
void stele_merkle_root(const struct stele_hash *leaf, size_t n, struct stele_hash *out);

/* Inclusion (RFC 9162 2.1.3). path holds STELE_MERKLE_PATH_MAX; returns its length. index < n. */
size_t stele_merkle_path(const struct stele_hash *leaf, size_t n, size_t index,
                         struct stele_hash *path);
bool stele_merkle_path_ok(const struct stele_hash *leaf, uint64_t index, uint64_t n,
                          const struct stele_hash *path, size_t path_len,
                          const struct stele_hash *root);

/* Consistency (RFC 9162 2.1.4) from the first m of n leaves to n; 0 < m <= n (m == n: empty). */
size_t stele_merkle_consistency(const struct stele_hash *leaf, size_t m, size_t n,
                                struct stele_hash *path);
bool stele_merkle_consistency_ok(uint64_t m, uint64_t n, const struct stele_hash *path,
                                 size_t path_len, const struct stele_hash *root_m,
                                 const struct stele_hash *root_n);

/* A range [first, first + count) of n leaves, 0 < count. The path is the roots of the largest subtrees
 * that lie wholly outside it, from left to right. path holds 2 * STELE_MERKLE_PATH_MAX; returns its
 * length. The verifier walks the tree from the left: n and the range say what comes next. */
size_t stele_merkle_range_path(const struct stele_hash *leaf, size_t n, size_t first, size_t count,
                               struct stele_hash *path);
bool stele_merkle_range_ok(const struct stele_hash *range, uint64_t first, uint64_t count,
                           uint64_t n, const struct stele_hash *path, size_t path_len,
                           const struct stele_hash *root);

/* A growing tree: the roots of its complete subtrees, largest first. */
struct stele_merkle_frontier {
	uint64_t n;
	uint32_t nroots;
	struct stele_hash root[STELE_MERKLE_PATH_MAX];
};
void stele_merkle_frontier_init(struct stele_merkle_frontier *f);
void stele_merkle_frontier_add(struct stele_merkle_frontier *f, const struct stele_hash *leaf);
void stele_merkle_frontier_root(const struct stele_merkle_frontier *f, struct stele_hash *out);

#endif
