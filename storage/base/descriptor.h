/*
 * The descriptor: the canonical bytes that define a block (code, length, S, the shard roots).
 * Block id = SHA-256(descriptor). One block has one encoding: a decoder refuses any whose n, S or
 * reserved bytes differ from what the code and the length imply (DESIGN D2).
 *
 * Layout, little-endian, 32 bytes + 32 per root (rep-n: one root, all shards being equal):
 *   "SBD1" family1 k1 m1 l1 n1 cell_log2_1 0[2] length8 S8 0[4] root32...
 * m counts all parity shards, l the local groups among them. Shards are ordered: k data, then l
 * locals, then globals.
 */
#ifndef STELE_BASE_DESCRIPTOR_H
#define STELE_BASE_DESCRIPTOR_H

#include "storage/base/bytes.h"

enum stele_code_family { /* format: DO NOT CHANGE THESE VALUES */
	                 STELE_CODE_REP = 1,
	                 STELE_CODE_RS = 2,
	                 STELE_CODE_LRC = 3,
};

/* What names a code: rep-n is {REP, k 1, m n-1}, rs-k-m {RS, k, m}, lrc-k-l-g {LRC, k, m l+g, l}. */
struct stele_code_id {
	uint8_t family;
	uint8_t k;
	uint8_t m;
	uint8_t l;
};

struct stele_descriptor {
	struct stele_code_id code;
	uint8_t n;       /* k + m */
	uint64_t length; /* bytes of the object in this block: 1 ... STELE_BLOCK_LEN_MAX */
	uint64_t S;      /* bytes of a shard */
	struct stele_hash root[STELE_CODE_N_MAX];
};

#define STELE_DESCRIPTOR_MAX (32u + STELE_HASH_LEN * STELE_CODE_N_MAX)

/* "rs-4-2", "rep-3", "lrc-12-2-3": parses and range-checks. INVALID names what is wrong. */
STELE_MUST_USE enum stele_err stele_code_id_parse(const char *name, struct stele_code_id *out);
/* The inverse; out holds STELE_NAME_MAX. */
const char *stele_code_id_name(const struct stele_code_id *code, char out[STELE_NAME_MAX]);
STELE_MUST_USE enum stele_err stele_code_id_check(const struct stele_code_id *code);
static inline bool stele_code_id_equal(struct stele_code_id a, struct stele_code_id b)
{
	return a.family == b.family && a.k == b.k && a.m == b.m && a.l == b.l;
}

/* S = ceil(length / k) rounded up to 64 (DESIGN D1). */
uint64_t stele_shard_len(const struct stele_code_id *code, uint64_t length);
/* The default block: the largest multiple of k * 64 KiB up to 16 MiB. */
uint64_t stele_block_len(const struct stele_code_id *code);

/* Fills everything but the roots. INVALID when the length is 0 or over the limit. */
STELE_MUST_USE enum stele_err stele_descriptor_init(struct stele_descriptor *d,
                                                    const struct stele_code_id *code,
                                                    uint64_t length);
/* Number of distinct roots and rows in it: n, or 1 for rep-n. */
uint32_t stele_descriptor_roots(const struct stele_descriptor *d);
/* The root of shard idx (rep-n: always root 0). */
const struct stele_hash *stele_descriptor_root(const struct stele_descriptor *d, uint32_t idx);
size_t stele_descriptor_len(const struct stele_descriptor *d);
/* Cells of one shard: ceil(S / 64 KiB); and the bytes of one of them (the last may be short). */
uint32_t stele_descriptor_cells(const struct stele_descriptor *d);
uint32_t stele_descriptor_cell_len(const struct stele_descriptor *d, uint32_t cell);

/* out holds STELE_DESCRIPTOR_MAX; returns the length written. */
size_t stele_descriptor_encode(const struct stele_descriptor *d, uint8_t *out);
/* Decodes exactly len bytes. CORRUPT (with the field's name) on anything that is not canonical;
 * nothing is allocated. */
STELE_MUST_USE enum stele_err stele_descriptor_decode(const void *bytes, size_t len,
                                                      struct stele_descriptor *out);
/* Decodes a descriptor at the front of a longer span; *used is its length. */
STELE_MUST_USE enum stele_err stele_descriptor_decode_prefix(const void *bytes, size_t len,
                                                             struct stele_descriptor *out,
                                                             size_t *used);
void stele_descriptor_id(const struct stele_descriptor *d, struct stele_hash *out);

/* A row is the leaf hashes of one shard's cells. True when its Merkle root is shard idx's root. */
bool stele_descriptor_row_ok(const struct stele_descriptor *d, uint32_t idx,
                             const struct stele_hash *row);
/* CORRUPT unless the cell's bytes hash to row[cell]. */
STELE_MUST_USE enum stele_err stele_descriptor_check_cell(const struct stele_descriptor *d,
                                                          uint32_t cell,
                                                          const struct stele_hash *row,
                                                          const void *bytes, size_t len);

#endif
