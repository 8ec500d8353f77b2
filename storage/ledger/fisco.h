/*
 * FISCO BCOS 2.x blocks as the ledger's table keeps them: RLP [header, transactions, header hash,
 * signatures, receipts]. Transactions are one string: u32 count, u32 offsets (little-endian, count
 * + 1 of them), their bytes. Both roots are 16-ary trees over RLP(i) || hash(item), as since
 * release 2.2; chains that began before it are refused. The hash is Keccak-256, or SM3 on chains
 * that use the Chinese suite.
 *
 * The sealers' signatures are not in the hash: they are counted, and bound by nothing here.
 *
 * Source: FISCO-BCOS 2.x, libethcore/Block.cpp, libstorage/BinLogHandler.cpp; confirmed on a real
 * file. Pure. Thread: one at a time for a scratch.
 */
#ifndef STORAGE_LEDGER_FISCO_H
#define STORAGE_LEDGER_FISCO_H

#include "storage/ledger/chain.h"

#define STELE_FISCO_BLOCK_MAX (64u << 20)
#define STELE_FISCO_TXS_MAX   (1u << 17)

struct stele_fisco_block {
	uint64_t number;
	struct stele_hash hash, parent;
	bool sm3; /* else Keccak-256 */
	uint32_t tx_count;
	size_t signatures_len;           /* bytes that no hash binds */
	const struct stele_hash *tx_ids; /* in the scratch, until its next use */
};

/* At most about 10 MB. Zeroed to begin with. */
struct stele_fisco_scratch {
	struct stele_hash *ids, *level;
	size_t cap;
};
void stele_fisco_scratch_reset(struct stele_fisco_scratch *s);

/* bytes: exactly one block. CORRUPT names what failed. NOMEM. */
STELE_MUST_USE enum stele_err stele_fisco_block_check(struct stele_fisco_scratch *s,
                                                      const uint8_t *bytes, size_t len,
                                                      struct stele_fisco_block *out);

/* The root of a 16-ary tree over RLP(i) || ids[i]; level holds (n + 15) / 16 more. */
void stele_fisco_root(const struct stele_hash *ids, size_t n, bool sm3, struct stele_hash *level,
                      struct stele_hash *root);
void stele_fisco_hash(bool sm3, const void *data, size_t len, struct stele_hash *out);

#endif
