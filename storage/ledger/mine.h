/*
 * Makes Bitcoin regtest blocks that are valid by consensus, for tests and demonstrations: real
 * proof of work at regtest's target, BIP 34 heights, coins spent only when they are mature, legacy
 * and segwit transactions, a witness commitment (BIP 141). The same options give the same bytes.
 *
 * Not part of stele_ledger: no daemon and no command that archives links it (target stele_mine).
 * A miner belongs to one thread at a time.
 */
#ifndef STORAGE_LEDGER_MINE_H
#define STORAGE_LEDGER_MINE_H

#include "storage/ledger/chain.h"

struct stele_miner_opts {
	uint64_t seed;
	/* About how long blocks are once there are coins to spend (from height 101 on; before, a
	 * block is its coinbase). 0 means STELE_MINE_BLOCK_MAX, which is the most. */
	size_t block_len;
	bool legacy; /* no witnesses and no commitments */
	/* From branch_height on, miners whose branch differs make different blocks: forks. */
	uint64_t branch_height;
	uint32_t branch;
};

#define STELE_MINE_BLOCK_MAX 1000000u /* whatever is in it, its weight is then legal */

struct stele_miner;

/* INVALID, NOMEM. */
STELE_MUST_USE enum stele_err stele_miner_create(const struct stele_miner_opts *opts,
                                                 struct stele_miner **out);
void stele_miner_destroy(struct stele_miner *m); /* accepts NULL */
/* The next block, the first being regtest's genesis. The bytes are valid until the next call. */
STELE_MUST_USE enum stele_err stele_miner_next(struct stele_miner *m, const uint8_t **bytes,
                                               size_t *len, struct stele_hash *hash);
/* The frame that stands before a block of len bytes in a blk*.dat. */
#define STELE_MINE_FRAME 8u
void stele_mine_frame(size_t len, uint8_t out[STELE_MINE_FRAME]);

#endif
