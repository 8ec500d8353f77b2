/*
 * The append-only log as pure functions: leaf entries, the growing tree, tiles, proofs from tiles
 * (docs/anchoring.md, "The log"). Trees are RFC 9162's; tiles are those of C2SP tlog-tiles: height
 * 8, "tile/<L>/<N>[.p/<W>]" for W 32-byte hashes, "tile/entries/<N>[.p/<W>]" for W entries, each
 * behind its 2-byte big-endian length. Tile (L, N) holds the roots of the complete subtrees of
 * 256^L leaves number 256 N, 256 N + 1, ...
 *
 * Pure: no I/O but through the caller's fetch. Thread: any; a tree belongs to one at a time.
 */
#ifndef STELE_BASE_LOG_H
#define STELE_BASE_LOG_H

#include "storage/base/merkle.h"

#define STELE_LOG_ENTRY_LEN  36u
#define STELE_LOG_WIDTH      256u /* hashes or entries of a full tile */
#define STELE_LOG_LEVELS     7u   /* of tiles; 256^7 leaves is more than there will be */
#define STELE_LOG_SIZE_MAX   (((uint64_t)1 << 53) - 1) /* leaves: a number that JSON keeps exact */
#define STELE_LOG_BUNDLE_LEN (STELE_LOG_WIDTH * (2u + STELE_LOG_ENTRY_LEN))
#define STELE_LOG_TILE_LEN   (STELE_LOG_WIDTH * STELE_HASH_LEN)
#define STELE_LOG_ORIGIN_MAX 128u /* with NUL */

enum stele_leaf_type { /* format: DO NOT CHANGE THESE VALUES */
	               STELE_LEAF_DEPOSIT = 1,
	               STELE_LEAF_MAP,
	               STELE_LEAF_KEY,
	               STELE_LEAF_MARK,
	               STELE_LEAF_AUDIT,
	               STELE_LEAF_SUCCESSION,
};

/* 53 4C 01 tt || SHA-256("stele.dev/leaf/v1\n" || body || signature) */
struct stele_log_entry {
	uint8_t b[STELE_LOG_ENTRY_LEN];
};
/* sig: the signature's bytes; several (a map's) one after the other. */
void stele_log_entry_make(enum stele_leaf_type type, const void *body, size_t len, const void *sig,
                          size_t sig_len, struct stele_log_entry *out);
/* False: not the four bytes that an entry of a known type begins with. */
bool stele_log_entry_ok(const struct stele_log_entry *entry);
/* RFC 9162: SHA-256(0x00 || entry). */
void stele_log_leaf(const struct stele_log_entry *entry, struct stele_hash *out);
/* The log's permanent name: SHA-256("stele.dev/logid/v1\n" || origin || "\n"). */
void stele_log_id(const char *origin, struct stele_hash *out);

/* ---- tiles ---- */

struct stele_log_tile {
	bool entries;   /* then level is 0 */
	uint8_t level;  /* < STELE_LOG_LEVELS */
	uint16_t width; /* 1 ... STELE_LOG_WIDTH */
	uint64_t index;
};
size_t stele_log_tile_len(const struct stele_log_tile *tile);

#define STELE_LOG_PATH_MAX 64u
/* "tile/0/x001/067.p/5"; returns out. */
char *stele_log_tile_path(const struct stele_log_tile *tile, char out[STELE_LOG_PATH_MAX]);
/* Only the one spelling that tile_path writes. INVALID. */
STELE_MUST_USE enum stele_err stele_log_tile_parse(const char *path, struct stele_log_tile *out);

/* ---- the growing tree: the right edge of a log of n leaves ---- */

struct stele_log_tree {
	uint64_t n;
	/* [L]: the last tile of level L, of which the first (n >> 8 L) % 256 hashes are there. */
	struct stele_hash edge[STELE_LOG_LEVELS][STELE_LOG_WIDTH];
	uint8_t bundle[STELE_LOG_BUNDLE_LEN]; /* the last n % 256 entries, as in their tile */
};
/* Hashes (entries) of the last, unfinished tile of a level in a log of n leaves: 0 ... 255. */
static inline uint16_t stele_log_edge_width(uint64_t n, unsigned level)
{
	return (uint16_t)((n >> (8 * level)) % STELE_LOG_WIDTH);
}

void stele_log_tree_init(struct stele_log_tree *tree);
/* Appends a leaf. Fills `full` with the tiles that it completed (entries first, then levels
 * ascending) and returns their number; their bytes lie in the tree until the next add. */
unsigned stele_log_tree_add(struct stele_log_tree *tree, const struct stele_log_entry *entry,
                            struct stele_log_tile full[STELE_LOG_LEVELS + 1]);
/* The unfinished tiles of the right edge, in the same order; returns their number. */
unsigned stele_log_tree_partial(const struct stele_log_tree *tree,
                                struct stele_log_tile partial[STELE_LOG_LEVELS + 1]);
/* A tile's bytes (stele_log_tile_len of them) in the tree: one that add just completed, or a part
 * of the edge of at most the width that is there. */
const uint8_t *stele_log_tree_bytes(const struct stele_log_tree *tree,
                                    const struct stele_log_tile *tile);
void stele_log_tree_root(const struct stele_log_tree *tree, struct stele_hash *out);

/* ---- proofs from tiles ---- */

/* Gives exactly the tile's bytes (a wider tile's first ones are right). */
typedef enum stele_err stele_log_fetch(void *ctx, const struct stele_log_tile *tile, uint8_t *out);

/* What follows asks only for tiles of a log of n leaves, and checks nothing that it fetched:
 * whoever has the root verifies the path against it (storage/base/merkle.h). NOMEM, or fetch's own
 * error. */

/* Inclusion of leaf index < n. */
STELE_MUST_USE enum stele_err stele_log_inclusion(stele_log_fetch *fetch, void *ctx, uint64_t n,
                                                  uint64_t index,
                                                  struct stele_hash path[STELE_MERKLE_PATH_MAX],
                                                  size_t *path_len);
/* Consistency of the first m leaves with n; 0 < m <= n. */
STELE_MUST_USE enum stele_err stele_log_consistency(stele_log_fetch *fetch, void *ctx, uint64_t m,
                                                    uint64_t n,
                                                    struct stele_hash path[STELE_MERKLE_PATH_MAX],
                                                    size_t *path_len);
/* The right edge of a log of n leaves, checked: CORRUPT unless entries and tiles lead to root. */
STELE_MUST_USE enum stele_err stele_log_tree_load(struct stele_log_tree *tree, uint64_t n,
                                                  const struct stele_hash *root,
                                                  stele_log_fetch *fetch, void *ctx);

#endif
