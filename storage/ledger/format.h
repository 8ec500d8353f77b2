/*
 * Chain files: what format one has, and one streaming parser for all of them (docs: README.md
 * here).
 *
 * A parser takes the bytes of one file, in order, in pieces of any size, and reports each chain
 * block that it found and checked. It holds at most STELE_PARSER_MEMORY_MAX bytes whatever the file
 * says. A block is reported only after everything that its format can bind to its hash was checked
 * (level `bound`); the caller keeps nothing of a file whose parser returned an error.
 *
 * Pure: no I/O, clock or randomness. A parser belongs to one thread at a time.
 */
#ifndef STORAGE_LEDGER_FORMAT_H
#define STORAGE_LEDGER_FORMAT_H

#include "storage/ledger/chain.h"

/* format (a segment's index): DO NOT CHANGE THESE VALUES */
enum stele_format {
	STELE_FORMAT_UNKNOWN = 0,
	STELE_FORMAT_BITCOIN_BLK = 1, /* bitcoind's blk*.dat */
	STELE_FORMAT_BITCOIN_RAW = 2, /* one block, as `getblock 0` gives it */
	STELE_FORMAT_ERA1 = 3,
	STELE_FORMAT_ERE = 4,
	STELE_FORMAT_RLP = 5, /* geth export */
	STELE_FORMAT_RLP_GZIP = 6,
	STELE_FORMAT_GETH_FREEZER = 7,
	STELE_FORMAT_FABRIC = 8,
	STELE_FORMAT_FISCO = 9,
	STELE_FORMAT_CHAINMAKER = 10,
	STELE_FORMAT_ERA = 11, /* the consensus layer's: recognised, refused by name */
};

#define STELE_XOR_KEY_LEN 8u

/* "bitcoin blk*.dat", "era1"; never NULL. */
const char *stele_format_name(enum stele_format format);
/* True when this build parses it. */
bool stele_format_supported(enum stele_format format);
enum stele_chain_family stele_format_family(enum stele_format format);

/* Enough of a file's front for stele_format_detect to decide. */
#define STELE_DETECT_LEN 4096u

/* What a file is, by its first bytes (all of them when it is shorter) and, where those leave a
 * choice, its name (without directories; NULL: not known). xor_key: the bytes of blocks/xor.dat,
 * NULL when there is none. UNKNOWN: nothing that Stele knows, so evidence. */
enum stele_format stele_format_detect(const void *front, size_t len, const char *name,
                                      const uint8_t xor_key[STELE_XOR_KEY_LEN]);

/* ---- what a parser reports ---- */

/* format (a segment's index): DO NOT CHANGE THESE VALUES */
enum stele_part_kind {
	STELE_PART_BLOCK = 1, /* the whole block */
	STELE_PART_HEADER = 2,
	STELE_PART_BODY = 3,
	STELE_PART_RECEIPTS = 4,
	STELE_PART_DIFFICULTY = 5, /* total difficulty, 32 bytes little-endian */
	STELE_PART_PROOF = 6,
};

/* format (a segment's index): DO NOT CHANGE THESE VALUES */
enum stele_encoding {
	STELE_ENCODING_RAW = 0,
	STELE_ENCODING_XOR = 1, /* with the segment's 8-byte key, by offset in the object */
	STELE_ENCODING_SNAPPY_FRAMED = 2,
	STELE_ENCODING_SNAPPY = 3,
	STELE_ENCODING_GZIP = 4, /* offset and length count the inflated object's bytes */
};

/* A place in a segment's file. */
struct stele_part {
	uint64_t offset;
	uint32_t length;
	uint16_t object; /* which of the segment's objects; 0 where there is one file */
	uint8_t kind;    /* enum stele_part_kind */
	uint8_t encoding;
};

#define STELE_PARTS_MAX 5u

struct stele_found_block {
	uint64_t
	    height; /* STELE_HEIGHT_UNKNOWN where the format does not say (Bitcoin: chain_link.h) */
	struct stele_hash hash;
	struct stele_hash parent;
	uint32_t bits; /* Bitcoin: nBits, the block's claimed work; else 0 */
	uint8_t nparts;
	struct stele_part part[STELE_PARTS_MAX];
	/* In the block's order; the array is valid during the callback. */
	uint32_t tx_count;
	const struct stele_hash *tx_ids; /* NULL unless opts.want_tx_ids */
};

/* Bytes of a file that belong to no block. Never an error by themselves (see stele_link_judge). */
enum stele_gap_kind {
	STELE_GAP_BYTES = 1,   /* between records: what a crashed node left */
	STELE_GAP_TORN = 2,    /* a record that a later one was written over */
	STELE_GAP_ZERO = 3,    /* zeros between records */
	STELE_GAP_PADDING = 4, /* zeros up to the end of the file: preallocated */
	STELE_GAP_SKIPPED = 5, /* a record of a type that the format says to skip */
};
struct stele_gap {
	enum stele_gap_kind kind;
	uint64_t offset;
	uint64_t length;
};

/* Levels (README.md): each includes the ones before it. A parser reaches BOUND; chain_link.h
 * LINKED. */
enum stele_level {
	STELE_LEVEL_FRAMED = 1,
	STELE_LEVEL_BOUND = 2,
	STELE_LEVEL_LINKED = 3,
	STELE_LEVEL_TRUSTED = 4,
};
const char *stele_level_name(enum stele_level level);

struct stele_file_facts {
	enum stele_format format;
	const struct stele_chain
	    *chain; /* the caller's, else inferred from the file; NULL: not known */
	enum stele_level level;
	uint64_t length; /* bytes fed */
	uint64_t count;  /* blocks; a block that occurs twice counts twice */
	/* First and last in file order; heights STELE_HEIGHT_UNKNOWN for Bitcoin. */
	uint64_t first_height, last_height;
	struct stele_hash first_hash, last_hash, first_parent;
	uint64_t gaps; /* BYTES, TORN and ZERO */
	uint64_t gap_bytes;
	uint64_t torn;    /* TORN alone */
	uint64_t padding; /* bytes of zeros at the end */
	bool sealed; /* nothing says that the file is still being written (no padding, no cut) */
	bool cut;    /* Fabric: it ends inside a block, which is a gap */
	uint64_t unbound; /* bytes of blocks that no hash binds (Fabric: metadata) */
	/* The chain's CAIP-2 name: `chain`'s, or what the file says of one that no build can know
	 * ("fabric:mychannel"); "" when it says nothing, or nothing that is a CAIP-2 name. */
	char caip2[STELE_CAIP2_MAX];
	bool has_xor; /* the file was read through xor_key */
	uint8_t xor_key[STELE_XOR_KEY_LEN];
	/* era1 only */
	bool has_accumulator;
	struct stele_hash accumulator;
	/* Total difficulty before the first block and at the last, little-endian: a file and its
	 * successor must agree. */
	uint8_t difficulty_before[32], difficulty_last[32];
};

struct stele_parser_opts {
	enum stele_format format; /* one that stele_format_supported */
	const struct stele_chain
	    *chain;             /* NULL: inferred where the file says it, see facts.chain */
	const char *name;       /* the file's, without directories; NULL: not known */
	const uint8_t *xor_key; /* STELE_XOR_KEY_LEN bytes, copied; NULL: none. For blk*.dat only */
	bool want_tx_ids;
	/* Called inside feed and finish, in file order. A return other than STELE_OK ends the parse
	 * with that error. on_gap may be NULL. The pointers are valid during the call. */
	enum stele_err (*on_block)(void *ctx, const struct stele_found_block *block);
	enum stele_err (*on_gap)(void *ctx, const struct stele_gap *gap);
	void *ctx;
};

struct stele_parser;

#define STELE_PARSER_MEMORY_MAX (160u << 20)

/* INVALID: a format that this build does not parse (named). NOMEM. */
STELE_MUST_USE enum stele_err stele_parser_create(const struct stele_parser_opts *opts,
                                                  struct stele_parser **out);
/* The next len bytes of the file. CORRUPT: "block 12 at offset 4711: what failed"; INVALID: a file
 * of another chain than opts.chain; NOMEM; or what a callback returned. After an error only
 * destroy. */
STELE_MUST_USE enum stele_err stele_parser_feed(struct stele_parser *p, const void *bytes,
                                                size_t len);
/* The file ends here. CORRUPT as above, also for a file that is cut or holds no block. */
STELE_MUST_USE enum stele_err stele_parser_finish(struct stele_parser *p,
                                                  struct stele_file_facts *facts);
/* Accepts NULL. */
void stele_parser_destroy(struct stele_parser *p);

#endif
