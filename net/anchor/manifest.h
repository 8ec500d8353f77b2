/*
 * Where a log's tiles are found again. A finished tile is an object (C2SP's bytes, pool `log`), so
 * its id must be written down; the manifest does that with O(1) objects per checkpoint:
 *
 *  - every finished tile has a companion object: of level 0 the tile of its 256 entries; of level L
 * >= 1 the *index*: 256 x (object id of tile (L - 1, 256 N + i), object id of its companion), 16
 * KiB;
 *  - the manifest of a checkpoint is one object: the log's right edge, unfinished tiles and all.
 *
 *   manifest: "SLM1" logid32 size8(little-endian) root32
 *             size % 256 entries, as in their C2SP tile
 *             for L = 1, 2 ... while size >> 8 L > 0, with w = (size >> 8 L) % 256:
 *                 w hashes of tile (L, ...), then w x { tile32 companion32 } of the level below
 *
 * Everything but the ids leads to the root and is checked against it when read; what the ids lead
 * to is checked by the proofs made from it. Up to 2^32 leaves a manifest fits a record (64 KiB).
 * The next append needs nothing else: it is the sequencer's whole state.
 */
#ifndef NET_ANCHOR_MANIFEST_H
#define NET_ANCHOR_MANIFEST_H

#include "storage/base/log.h"

struct stele_manifest_slot {
	struct stele_hash tile, companion; /* object ids */
};

struct stele_manifest { /* 180 KiB: the heap's */
	struct stele_hash log_id;
	struct stele_log_tree tree;
	/* [L]: of the tiles below each hash of tree.edge[L]; [0] is unused */
	struct stele_manifest_slot slot[STELE_LOG_LEVELS][STELE_LOG_WIDTH];
};

#define STELE_MANIFEST_INDEX_LEN (STELE_LOG_WIDTH * 2u * STELE_HASH_LEN)
#define STELE_MANIFEST_HEAD_LEN  (4u + STELE_HASH_LEN + 8u + STELE_HASH_LEN)
#define STELE_MANIFEST_MAX                                                                         \
	(STELE_MANIFEST_HEAD_LEN + STELE_LOG_BUNDLE_LEN +                                          \
	 (STELE_LOG_LEVELS - 1u) * (STELE_LOG_TILE_LEN + STELE_MANIFEST_INDEX_LEN))

/* Stores bytes as an object and returns when it is durable. The id is the bytes' SHA-256 (known to
 * the caller already); storing an object that is there already is success. */
typedef enum stele_err stele_object_put(void *ctx, const struct stele_hash *id, const void *bytes,
                                        size_t len);
/* Exactly the object's len bytes, which hash to id. NOT_FOUND, UNAVAILABLE, CORRUPT ... */
typedef enum stele_err stele_object_get(void *ctx, const struct stele_hash *id, uint8_t *out,
                                        size_t cap, size_t *len);

void stele_manifest_init(struct stele_manifest *m, const struct stele_hash *log_id);
/* Appends a leaf and stores the tiles that it finishes. After an error m is of no use any more:
 * read the last manifest again. */
STELE_MUST_USE enum stele_err stele_manifest_add(struct stele_manifest *m,
                                                 const struct stele_log_entry *entry,
                                                 stele_object_put *put, void *ctx);
/* out: STELE_MANIFEST_MAX bytes. */
void stele_manifest_encode(const struct stele_manifest *m, uint8_t *out, size_t *len);
/* CORRUPT: another log's, a length that is not the size's, entries or hashes that do not lead to
 * the root. root, size: what it must be; NULL: what it says. */
STELE_MUST_USE enum stele_err stele_manifest_decode(const void *bytes, size_t len,
                                                    const struct stele_hash *log_id,
                                                    const uint64_t *size,
                                                    const struct stele_hash *root,
                                                    struct stele_manifest *out);

/* A source of tiles for storage/base/log.h: any tile of the log up to m's size. */
struct stele_manifest_source {
	const struct stele_manifest *m;
	stele_object_get *get;
	void *ctx;
};
/* stele_log_fetch with ctx a struct stele_manifest_source. CORRUPT: an object of another length. */
enum stele_err stele_manifest_fetch(void *source, const struct stele_log_tile *tile, uint8_t *out);

#endif
