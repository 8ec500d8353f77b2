/*
 * RLP (Ethereum yellow paper, appendix B), strict: only the one canonical encoding of each item is
 * accepted. Items point into the caller's bytes. Thread: any. Nothing allocates or recurses.
 */
#ifndef STORAGE_LEDGER_RLP_H
#define STORAGE_LEDGER_RLP_H

#include "storage/base/bytes.h"

struct stele_rlp {
	const uint8_t *raw; /* the item with its header */
	size_t raw_len;
	const uint8_t
	    *data; /* its content: a string's bytes, or a list's items one after another */
	size_t len;
	bool list;
};

/* A header is at most this long, and says how long the item is. */
#define STELE_RLP_HEADER_MAX 9u

/* The next item. False: none is left (r->bad is false), or what follows is no canonical item or
 * overruns (r->bad is true). */
bool stele_rlp_next(struct stele_reader *r, struct stele_rlp *out);
/* Exactly one item fills all len bytes. */
bool stele_rlp_whole(const void *bytes, size_t len, struct stele_rlp *out);
/* The items in a list's content, by a reader. */
struct stele_reader stele_rlp_items(const struct stele_rlp *list);
/* Looks at the first bytes of an item that may not be whole yet. False: not canonical (also when
 * fewer bytes are given than the header takes, see *header). *header: the header's length, known
 * from one byte on. *total: header and content; 0: too few bytes were given to know. */
bool stele_rlp_peek(const uint8_t *bytes, size_t len, size_t *header, uint64_t *total, bool *list);
/* A string of at most 8 bytes without leading zeros. */
bool stele_rlp_u64(const struct stele_rlp *item, uint64_t *out);

/* The header of a string or list whose content has len bytes; returns its length. A string of one
 * byte below 0x80 has none: that is the caller's to know. */
size_t stele_rlp_header(bool list, uint64_t len, uint8_t out[STELE_RLP_HEADER_MAX]);

#endif
