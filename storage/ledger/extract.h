/*
 * From the stored parts of a chain block to what `ledger get` prints, every byte of which is hashed
 * again and bound to the block's hash: Bitcoin's serialised block (`getblock 0`), an EVM block's
 * RLP [header, transactions, uncles, withdrawals?].
 *
 * Pure. Thread: any.
 */
#ifndef STORAGE_LEDGER_EXTRACT_H
#define STORAGE_LEDGER_EXTRACT_H

#include "storage/ledger/format.h"

struct stele_stored_part {
	struct stele_part part; /* as found in the index */
	const void *bytes; /* part.length bytes of the object from part.offset; GZIP: inflated */
};

struct stele_extract_opts {
	enum stele_format format;
	/* NULL: checks that need the network's rules (Bitcoin: the easiest target) are left out. */
	const struct stele_chain *chain;
	const uint8_t *xor_key; /* for parts encoded XOR */
	struct stele_hash hash; /* of the block that was asked for */
};

/* Parts that the output needs; the caller fetches these and may leave out others. */
bool stele_extract_needs(enum stele_part_kind kind);

/* *out is the caller's, to be freed with free(). CORRUPT: the parts are not that block's, named.
 * INVALID: a format or encoding that this build does not know; NOMEM. */
STELE_MUST_USE enum stele_err stele_block_extract(const struct stele_extract_opts *opts,
                                                  const struct stele_stored_part *parts,
                                                  size_t nparts, uint8_t **out, size_t *out_len);

#endif
