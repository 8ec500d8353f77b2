/*
 * The root of the Merkle-Patricia trie (yellow paper, appendix D) that maps RLP(0), RLP(1), ... to
 * values in order: what transactionsRoot, receiptsRoot and withdrawalsRoot are. The trie is never
 * built: keys come in a known order, so each node is hashed as soon as its span of keys is known.
 *
 * Thread: any. Nothing allocates; recursion is bounded by a key's 8 nibbles.
 */
#ifndef STORAGE_LEDGER_TRIE_H
#define STORAGE_LEDGER_TRIE_H

#include "storage/base/bytes.h"

struct stele_span {
	const uint8_t *p;
	size_t len; /* > 0: a trie holds no empty values */
};

#define STELE_TRIE_VALUES_MAX (1u << 24)

void stele_trie_root(const struct stele_span *values, size_t n, struct stele_hash *root);

#endif
