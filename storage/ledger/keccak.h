/*
 * Keccak-256 as Ethereum uses it: the Keccak team's original padding (0x01), not FIPS 202's (0x06),
 * over nettle's public permutation. Thread: any. Nothing allocates.
 */
#ifndef STORAGE_LEDGER_KECCAK_H
#define STORAGE_LEDGER_KECCAK_H

#include <nettle/sha3.h>

#include "storage/base/bytes.h"

#define STELE_KECCAK_RATE 136u /* bytes: (1600 - 2 * 256) / 8 */

struct stele_keccak {
	struct sha3_state state;
	uint8_t block[STELE_KECCAK_RATE];
	size_t have; /* bytes in block, < STELE_KECCAK_RATE */
};

void stele_keccak_init(struct stele_keccak *k);
void stele_keccak_update(struct stele_keccak *k, const void *data, size_t len);
/* Ends the hash: init before using k again. */
void stele_keccak_final(struct stele_keccak *k, struct stele_hash *out);

void stele_keccak256(const void *data, size_t len, struct stele_hash *out);

#endif
