/*
 * A layout: where an object's bytes lie, as a list of pieces of blocks (DESIGN 2, D6).
 * Bytes, little-endian: generation4 (first: 0) npieces4 { block32 off4 len4 }[npieces]. Its SHA-256
 * is what a deposit signs. Pure; nothing allocates. Thread: any.
 */
#ifndef STELE_BASE_LAYOUT_H
#define STELE_BASE_LAYOUT_H

#include "storage/base/bytes.h"

struct stele_piece {
	struct stele_hash block;
	uint32_t off; /* in the block */
	uint32_t len;
};
#define STELE_PIECE_LEN       40u
#define STELE_LAYOUT_HEAD_LEN 8u
#define STELE_LAYOUT_MAX      (STELE_LAYOUT_HEAD_LEN + STELE_PIECE_LEN * STELE_PIECES_MAX)

struct stele_layout {
	uint32_t generation;
	uint32_t npieces;
	struct stele_piece *piece; /* the caller's array of up to STELE_PIECES_MAX */
};

size_t stele_layout_len(uint32_t npieces);
/* out: stele_layout_len(l->npieces) bytes, which it returns. npieces <= STELE_PIECES_MAX. */
size_t stele_layout_encode(const struct stele_layout *l, uint8_t *out);
/* piece: an array of cap. TOO_LARGE: more pieces than cap. CORRUPT: cut short, a piece of no bytes,
 * or one that reaches beyond the largest block. *used is the bytes consumed; the rest is not looked
 * at. */
STELE_MUST_USE enum stele_err stele_layout_decode(const void *bytes, size_t len,
                                                  struct stele_layout *out,
                                                  struct stele_piece *piece, uint32_t cap,
                                                  size_t *used);
/* The sum of the pieces' lengths: the object's length. */
uint64_t stele_layout_total(const struct stele_layout *l);
void stele_layout_hash(const struct stele_layout *l, struct stele_hash *out);

#endif
