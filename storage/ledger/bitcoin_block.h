/*
 * One serialised Bitcoin block: everything that its hash can bind is checked (ledgers.md 1): proof
 * of work against its own nBits and the network's easiest target, the Merkle root over txids
 * without a duplicated tail (CVE-2012-2459), a coinbase first, the witness commitment (BIP 141),
 * minimal compact sizes. Scripts, amounts and the retarget rule are not: `bound` is not `valid`.
 *
 * Source: Bitcoin developer reference, BIP 34, 141, 144. Thread: one at a time for a scratch.
 */
#ifndef STORAGE_LEDGER_BITCOIN_BLOCK_H
#define STORAGE_LEDGER_BITCOIN_BLOCK_H

#include "storage/ledger/chain.h"

#define STELE_BITCOIN_HEADER    80u
#define STELE_BITCOIN_BLOCK_MAX 4000000u /* bytes, with witness */
#define STELE_BITCOIN_TX_MIN    60u

struct stele_bitcoin_block {
	struct stele_hash hash, parent;
	uint32_t bits;
	uint32_t tx_count;
	size_t length;                   /* bytes that the block takes */
	bool witness;                    /* at least one transaction has one */
	const struct stele_hash *tx_ids; /* in the scratch, until its next use */
};

/* Memory that grows to the largest block seen: at most about 16 MB. Zeroed to begin with. */
struct stele_bitcoin_scratch {
	struct stele_hash *hashes; /* three arrays of `txs` */
	struct stele_bitcoin_tx *tx;
	struct stele_sha256_message *message;
	size_t txs;
	uint8_t *stripped;
	size_t stripped_cap;
};
void stele_bitcoin_scratch_reset(struct stele_bitcoin_scratch *s);

/* The header alone: hash, parent, bits, work. bytes: 80. chain NULL: any target. CORRUPT. */
STELE_MUST_USE enum stele_err stele_bitcoin_header_check(const uint8_t *bytes,
                                                         const struct stele_chain *chain,
                                                         struct stele_bitcoin_block *out);
/* The block at the start of bytes; out->length says where it ends: the caller decides whether more
 * may follow. CORRUPT names what failed. NOMEM. */
STELE_MUST_USE enum stele_err stele_bitcoin_block_check(struct stele_bitcoin_scratch *s,
                                                        const uint8_t *bytes, size_t len,
                                                        const struct stele_chain *chain,
                                                        struct stele_bitcoin_block *out);

/* SHA-256 of SHA-256. */
void stele_bitcoin_hash(const void *data, size_t len, struct stele_hash *out);
/* Merkle root of n >= 1 hashes; ids is overwritten, other holds n more. False: two equal
 * neighbours, so that the same root has a second list. */
bool stele_bitcoin_merkle(struct stele_hash *ids, struct stele_hash *other, size_t n,
                          struct stele_hash *root);
/* The target that nBits stands for, as a 256-bit little-endian number. False: negative, zero or
 * more than 256 bits. */
bool stele_bitcoin_target(uint32_t bits, uint8_t out[32]);
/* About 2^256 / target, the hashes that a block took, at most 2^104; 0 for bits without a target.
 */
unsigned __int128 stele_bitcoin_work(uint32_t bits);

#endif
