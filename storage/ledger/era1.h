/* era1 beside its parser (format.h): what its file names say, and its accumulator. Thread: any. */
#ifndef STORAGE_LEDGER_ERA1_H
#define STORAGE_LEDGER_ERA1_H

#include "storage/ledger/chain.h"

#define STELE_ERA1_BLOCKS_MAX 8192u

/* "<network>-<epoch, 5 digits>-<first 4 bytes of the accumulator's root>.era1". *chain NULL: a
 * network that is not known. False: no such name. */
bool stele_era1_name_parse(const char *name, const struct stele_chain **chain, uint64_t *epoch,
                           uint8_t root[4]);

/* SSZ's hash_tree_root of List[(hash, total difficulty), 8192] from the n leaves SHA-256(hash ||
 * difficulty as 32 bytes little-endian). leaf is overwritten. */
void stele_era1_accumulator(struct stele_hash *leaf, size_t n, struct stele_hash *root);

#endif
