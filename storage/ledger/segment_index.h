/*
 * A segment's index object: chain heights and hashes to places in the segment's file (ledgers.md
 * 3).
 *
 * Format, little-endian, reserved bytes zero; read in place, nothing is copied or allocated:
 *   header     128: "STELEIX1" family1 format1 level1 columns1 (1..5: parts of an entry) objects2
 *                   flags2 (1: xor key present) count4 outside4 xor_key8 first_height8 last_height8
 *                   (best branch; all ones: none) chain48 (CAIP-2 name, zero-padded) 0[32]
 *   objects     32 each: object ids of the segment's files, the first being the segment itself
 *   entries     48 + 16 x columns each, by (height, stale last, hash), unknown heights last:
 *                   hash32 height8 (all ones: unknown) parent4 flags1 (1 stale, 2 linked) parts1
 *                   0[2], then `columns` parts: offset8 length4 object2 kind1 encoding1 (unused: zeros)
 *   by hash      4 each: entry numbers in the order of their hashes, which are all different
 *   outside     32 each: hashes of parents that are no entries here, ascending, all different
 *
 * `parent` is an entry's number, or count + the number of an outside parent: so the links of a segment
 * that is only `bound` can be closed later without reading its file again.
 *
 * Thread: any. A view is valid as long as the caller keeps the bytes.
 */
#ifndef STORAGE_LEDGER_SEGMENT_INDEX_H
#define STORAGE_LEDGER_SEGMENT_INDEX_H

#include "storage/base/text.h"
#include "storage/ledger/chain_link.h"

#define STELE_INDEX_OBJECTS_MAX 64u
#define STELE_INDEX_BLOCKS_MAX  (1u << 20)
#define STELE_INDEX_HEADER      128u

struct stele_index_entry {
	struct stele_hash hash;
	struct stele_hash parent;
	uint64_t height; /* STELE_HEIGHT_UNKNOWN */
	bool linked, stale;
	uint8_t nparts;
	struct stele_part part[STELE_PARTS_MAX];
};

struct stele_index_head {
	enum stele_chain_family family;
	enum stele_format format;
	enum stele_level level;
	char caip2[STELE_CAIP2_MAX];
	uint64_t first_height, last_height; /* of the best branch here; UNKNOWN: none */
	bool has_xor;
	uint8_t xor_key[STELE_XOR_KEY_LEN];
	uint16_t nobjects;
};

/* Takes entries in any order (duplicates of a hash: the first is kept) and makes the object.
 * *out is the caller's, to be freed with free(). INVALID: a bound above exceeded, a name too long.
 */
STELE_MUST_USE enum stele_err stele_index_encode(const struct stele_index_head *head,
                                                 const struct stele_hash *objects,
                                                 const struct stele_index_entry *entries, size_t n,
                                                 uint8_t **out, size_t *out_len);

struct stele_index {
	struct stele_index_head head;
	uint32_t count;
	uint32_t outside;
	uint8_t columns;
	const uint8_t *objects, *entries, *by_hash, *outside_parents; /* in the caller's bytes */
};

/* Checks everything once, so that what follows cannot fail. VERSION: a newer format. CORRUPT names
 * what. */
STELE_MUST_USE enum stele_err stele_index_open(const void *bytes, size_t len,
                                               struct stele_index *out);
void stele_index_object(const struct stele_index *ix, uint16_t i, struct stele_hash *out);
void stele_index_entry(const struct stele_index *ix, uint32_t i, struct stele_index_entry *out);
/* The block of the best branch at a height. NOT_FOUND (no detail is left: callers ask many). */
STELE_MUST_USE enum stele_err stele_index_find_height(const struct stele_index *ix, uint64_t height,
                                                      struct stele_index_entry *out);
STELE_MUST_USE enum stele_err stele_index_find_hash(const struct stele_index *ix,
                                                    const struct stele_hash *hash,
                                                    struct stele_index_entry *out);

#endif
