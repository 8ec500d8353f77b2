/*
 * Everything that lies on a disk, in one place: FORMAT.md is the specification, tests/golden the
 * bytes. Integers are little-endian (index keys: big-endian where order matters), reserved bytes
 * zero. DO NOT CHANGE THESE VALUES: they are embedded in what users stored.
 *
 * Codecs are pure. A decoder returns false for anything whose check or fields do not hold; checks are
 * SipHash-2-4 keyed with the disk's salt, so that no payload can pass for a structure (DESIGN N4).
 */
#ifndef STORAGE_EXTENT_FORMAT_H
#define STORAGE_EXTENT_FORMAT_H

#include "storage/store.h"

#define STELE_DISK_VERSION 1u
#define STELE_SALT_LEN     16u
#define STELE_BATCH_HEAD   64u
#define STELE_ENTRY_HEAD   128u
#define STELE_FOOTER_HEAD  64u
#define STELE_FOOTER_ITEM  96u
#define STELE_FOOTER_CHUNK 65536u /* at most; a multiple of a page */
#define STELE_TOMB_META    16u
#define STELE_REF_SUB      12u /* bytes of a REF's sub in the index */
#define STELE_FOOTER_ITEMS ((STELE_FOOTER_CHUNK - STELE_FOOTER_HEAD) / STELE_FOOTER_ITEM)
#define STELE_EXTENTS_MAX  (1u << 22) /* numbers of extents stay below */
/* Features that a reader must know to read the disk at all (superblock). None so far. */
#define STELE_FEATURES_KNOWN 0u

struct stele_salt {
	uint8_t b[STELE_SALT_LEN];
};

struct stele_superblock { /* the file "superblock", one page */
	uint32_t version;
	uint32_t features;
	struct stele_uuid disk;
	struct stele_hash cluster;
	struct stele_salt salt;
	uint64_t incarnation;
	uint64_t extent_len;
	uint64_t lsn_floor; /* when it was last opened, LSNs had come this far */
};
void stele_superblock_encode(const struct stele_superblock *s, uint8_t page[STELE_PAGE]);
/* CORRUPT; VERSION when it is genuine and newer. */
STELE_MUST_USE enum stele_err stele_superblock_decode(const uint8_t page[STELE_PAGE],
                                                      struct stele_superblock *out);

struct stele_extent_head { /* the first page of an extent */
	uint32_t extent;
	uint32_t cycle; /* +1 each time the extent is used anew */
	struct stele_uuid disk;
	struct stele_salt salt;
	uint64_t first_lsn; /* of its first batch; 0: prepared, holds nothing */
	uint64_t extent_len;
};
void stele_extent_head_encode(const struct stele_extent_head *h, uint8_t page[STELE_PAGE]);
/* salt NULL: takes the page's own (for readers that have no superblock). */
bool stele_extent_head_decode(const uint8_t page[STELE_PAGE], const struct stele_salt *salt,
                              struct stele_extent_head *out);

/* True, and its version: a genuine header that only a newer program understands. */
bool stele_extent_head_newer(const uint8_t page[STELE_PAGE], uint32_t *version);

/* Where a structure lies: part of every check, so that a stale or misplaced one never passes. */
struct stele_place {
	uint32_t extent;
	uint32_t cycle;
	uint64_t off; /* bytes from the extent's start */
};

struct stele_batch_head {
	struct stele_place place; /* off: a multiple of a page */
	uint64_t lsn;
	uint64_t durable_lsn; /* every batch up to this one was durable when this one was written */
	uint32_t len;         /* of the whole batch; multiple of a page */
	uint32_t meta_len;    /* head, entries, zero padding; multiple of a page; cells follow */
	uint32_t entries;
	uint32_t meta_crc; /* CRC-32C of bytes [64, meta_len) */
};
void stele_batch_head_encode(const struct stele_batch_head *h, const struct stele_salt *salt,
                             uint8_t out[STELE_BATCH_HEAD]);
/* place: where the bytes were read. extent_len bounds len. */
bool stele_batch_head_decode(const uint8_t in[STELE_BATCH_HEAD], const struct stele_salt *salt,
                             const struct stele_place *place, uint64_t extent_len,
                             struct stele_batch_head *out);

/* Did a page that holds no batch's head of this place (it does not decode) hold one, of which bits have changed? One of an
 * earlier cycle that is whole is only a left-over. */
bool stele_batch_head_resembles(const uint8_t in[STELE_BATCH_HEAD], const struct stele_salt *salt,
                                const struct stele_place *place, uint64_t extent_len);

struct stele_entry_head {
	struct stele_place place; /* off: a multiple of 64 */
	struct stele_key key;     /* a TOMB's: its victim's id, sub and index; kind is TOMB */
	uint64_t birth_lsn;
	uint32_t meta_len;
	uint32_t meta_crc;
	uint32_t hot_len; /* of SHARD: descriptor and cell CRCs, the front of the meta */
	uint32_t hot_crc;
	uint32_t data_len; /* bytes of cells, 0: none */
	uint64_t data_off; /* bytes from the extent's start, a multiple of a page */
};
void stele_entry_head_encode(const struct stele_entry_head *h, const struct stele_salt *salt,
                             uint8_t out[STELE_ENTRY_HEAD]);
bool stele_entry_head_decode(const uint8_t in[STELE_ENTRY_HEAD], const struct stele_salt *salt,
                             const struct stele_place *place, uint64_t extent_len,
                             struct stele_entry_head *out);
/* Bytes of an entry in its batch's meta area: header and meta, rounded up to 64. */
static inline uint32_t stele_entry_len(uint32_t meta_len)
{
	return (uint32_t)stele_round_up(STELE_ENTRY_HEAD + (uint64_t)meta_len, STELE_ENTRY_ALIGN);
}

struct stele_tomb_meta {
	uint8_t kind, index; /* of the victim */
	uint64_t victim_lsn; /* kills every entry with this key born up to here */
	uint32_t only;       /* the one extent in which such entries lie; 0: any */
};
void stele_tomb_meta_encode(const struct stele_tomb_meta *t, uint8_t out[STELE_TOMB_META]);
bool stele_tomb_meta_decode(const uint8_t *in, uint32_t len, struct stele_tomb_meta *out);

/* What an entry comes to in a footer and in the index. */
struct stele_item_at {
	struct stele_key key; /* a tombstone's: its victim's, with the victim's kind */
	bool tomb;
	uint64_t birth_lsn;
	uint64_t victim_lsn; /* of a tombstone */
	uint32_t only;       /* of a tombstone: the one extent in which its victims lie; 0: any */
	uint32_t extent;
	uint64_t off;      /* of the entry */
	uint64_t data_off; /* of its cells */
	uint32_t data_len;
	uint32_t meta_len;
	uint32_t hot_len;
	/* index only */
	bool bad;    /* known not to be readable */
	bool moved;  /* a copy made by reclaim; one more may lie in the extent it came from */
	bool others; /* more entries of this key may lie anywhere: a tombstone of it cannot name one extent */
};
void stele_footer_item_encode(const struct stele_item_at *it, uint8_t out[STELE_FOOTER_ITEM]);
/* False when a field is out of range. extent is not in the bytes: the caller's. */
bool stele_footer_item_decode(const uint8_t in[STELE_FOOTER_ITEM], uint32_t extent,
                              uint64_t extent_len, struct stele_item_at *out);

struct stele_footer_head { /* a chunk: this, n items, zeros to len */
	struct stele_place place;
	uint32_t chunk; /* 0, 1, ... */
	uint32_t n;
	uint32_t len; /* multiple of a page */
	uint32_t crc; /* of bytes [64, len) */
};
void stele_footer_head_encode(const struct stele_footer_head *h, const struct stele_salt *salt,
                              uint8_t out[STELE_FOOTER_HEAD]);
bool stele_footer_head_decode(const uint8_t in[STELE_FOOTER_HEAD], const struct stele_salt *salt,
                              const struct stele_place *place, uint64_t extent_len,
                              struct stele_footer_head *out);

struct stele_trailer { /* the last page of a sealed extent */
	uint32_t extent;
	uint32_t cycle;
	uint64_t first_lsn, last_lsn; /* of its batches; last 0: none */
	uint64_t end;                 /* of the batches, from the extent's start */
	uint64_t footer_off;          /* of the first chunk; the others follow */
	uint32_t chunks;
	uint64_t items;
};
void stele_trailer_encode(const struct stele_trailer *t, const struct stele_salt *salt,
                          uint8_t page[STELE_PAGE]);
bool stele_trailer_decode(const uint8_t page[STELE_PAGE], const struct stele_salt *salt,
                          uint32_t extent, uint32_t cycle, uint64_t extent_len,
                          struct stele_trailer *out);

/* Bytes that a footer of n items takes, with its trailer. */
uint64_t stele_footer_room(uint64_t n);

/* ---- keys ---- */

static inline bool stele_key_equal(const struct stele_key *a, const struct stele_key *b)
{
	return a->kind == b->kind && a->pool == b->pool && a->index == b->index &&
	       stele_hash_equal(&a->id, &b->id) && stele_hash_equal(&a->sub, &b->sub);
}
/* With the fields zeroed that its kind does not have. */
static inline struct stele_key stele_key_whole(const struct stele_key *key)
{
	struct stele_key k = *key;
	if (k.kind == STELE_ENTRY_SHARD)
		memset(&k.sub, 0, sizeof(k.sub));
	else if (k.kind != STELE_ENTRY_KEEP)
		k.index = 0;
	return k;
}
/* As the index keeps it: 12 bytes of a REF's sub. */
static inline struct stele_key stele_key_short(const struct stele_key *key)
{
	struct stele_key k = stele_key_whole(key);
	if (k.kind == STELE_ENTRY_REF)
		memset(k.sub.b + STELE_REF_SUB, 0, STELE_HASH_LEN - STELE_REF_SUB);
	return k;
}

/* ---- the index (a cache: may change with its version, is rebuilt then) ---- */

#define STELE_INDEX_VERSION 2u
#define STELE_INDEX_KEY_MAX 80u
#define STELE_INDEX_VALUE   32u
enum stele_index_space { /* the first byte of a key */
	                 STELE_INDEX_ENTRY = 'e',
	                 STELE_INDEX_TOMB = 't',
	                 STELE_INDEX_FEED = 'f',
	                 STELE_INDEX_STATE = 's',
	                 STELE_INDEX_COUNT = 'c',
	                 STELE_INDEX_SCRUB = 'p',
};

/* out: STELE_INDEX_KEY_MAX bytes; returns the length. Ascending bytes = ascending (pool, id, kind,
 * index, sub). */
size_t stele_index_key(enum stele_index_space space, const struct stele_key *key, uint8_t *out);
bool stele_index_key_decode(const void *bytes, size_t len, struct stele_key *out);
/* space pool2 id32: the prefix of all keys of an id. Returns its length, 35. */
size_t stele_index_prefix(enum stele_index_space space, uint16_t pool, const struct stele_hash *id,
                          uint8_t *out);
void stele_index_value_encode(const struct stele_item_at *it, uint8_t out[STELE_INDEX_VALUE]);
/* Fills all but key. */
bool stele_index_value_decode(const void *bytes, size_t len, struct stele_item_at *out);
size_t stele_index_feed_key(uint64_t birth_lsn, const struct stele_key *record, uint8_t *out);
bool stele_index_feed_decode(const void *bytes, size_t len, uint64_t *birth_lsn,
                             struct stele_key *record);

#endif
