/*
 * EVM blocks: header fields, and the roots that bind transactions, uncles, withdrawals and receipts
 * to the header's hash (ledgers.md 1). Source: Ethereum yellow paper 4.3, EIP-2718, 4895, 7685.
 *
 * Items of a header behind those this build knows are allowed: they are hashed like all others.
 * Proof of work or stake is not checked.
 *
 * Thread: one at a time for a scratch.
 */
#ifndef STORAGE_LEDGER_EVM_BLOCK_H
#define STORAGE_LEDGER_EVM_BLOCK_H

#include "storage/ledger/chain.h"
#include "storage/ledger/rlp.h"
#include "storage/ledger/trie.h"

#define STELE_EVM_HEADER_MAX (64u << 10) /* bytes of RLP; real ones have some 600 */
#define STELE_EVM_BODY_MAX   (32u << 20) /* EIP-7934 allows 10 MiB */
#define STELE_EVM_TXS_MAX    (1u << 17)

struct stele_evm_header {
	struct stele_hash hash, parent;
	struct stele_hash uncles_root, tx_root, receipts_root, withdrawals_root;
	bool has_withdrawals;
	uint64_t number;
	uint8_t difficulty[32]; /* little-endian */
};

/* bytes: exactly one RLP header. CORRUPT names the field. */
STELE_MUST_USE enum stele_err stele_evm_header_decode(const void *bytes, size_t len,
                                                      struct stele_evm_header *out);

/* Memory for the lists of one block; at most about 6 MB. Zeroed to begin with. */
struct stele_evm_scratch {
	struct stele_span *span;
	struct stele_hash *hash;
	size_t cap;
};
void stele_evm_scratch_reset(struct stele_evm_scratch *s);

/* The three lists behind a header: transactions, uncles, withdrawals (may be NULL: absent). *ids:
 * of the transactions, in the scratch until its next use; NULL: not wanted. CORRUPT names the root.
 */
struct stele_evm_body {
	struct stele_rlp txs, uncles, withdrawals;
	bool has_withdrawals;
};
/* Reads [transactions, uncles, withdrawals?] from r to its end. */
STELE_MUST_USE enum stele_err stele_evm_body_decode(struct stele_reader *r,
                                                    struct stele_evm_body *out);
STELE_MUST_USE enum stele_err stele_evm_body_check(struct stele_evm_scratch *s,
                                                   const struct stele_evm_header *header,
                                                   const struct stele_evm_body *body,
                                                   uint32_t *tx_count,
                                                   const struct stele_hash **ids);
/* A block as one RLP list [header, transactions, uncles, withdrawals?] into its header and
 * lists. */
STELE_MUST_USE enum stele_err stele_evm_split(const struct stele_rlp *block,
                                              struct stele_evm_header *header,
                                              struct stele_evm_body *body);
/* CORRUPT unless `before` is the parent of `header`, one number below it. */
STELE_MUST_USE enum stele_err stele_evm_follows(const struct stele_evm_header *before,
                                                const struct stele_evm_header *header);
/* bytes: exactly one RLP list of receipts in consensus form. */
STELE_MUST_USE enum stele_err stele_evm_receipts_check(struct stele_evm_scratch *s,
                                                       const struct stele_evm_header *header,
                                                       const void *bytes, size_t len,
                                                       uint32_t tx_count);

/* sum += v; false: overflow. 256-bit little-endian. */
bool stele_evm_difficulty_add(uint8_t sum[32], const uint8_t v[32]);

#endif
