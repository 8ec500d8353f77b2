/*
 * Codes over GF(2^8), polynomial 0x11d: generator matrices, decoding plans, exact tolerance.
 *   rep-n      k = 1, every shard is the block.
 *   rs-k-m     systematic Cauchy (ISA-L's gf_gen_cauchy1_matrix: MDS at every size).
 *   lrc-k-l-g  l local XOR parities over k/l data shards each, then g globals chosen to be
 *              maximally recoverable (Gopalan et al., "On the locality of codeword symbols").
 * A set of shards is a bit mask: bit i is shard i. Tolerance is computed by rank, never by counting.
 * A code is immutable once found and lives as long as the process; thread: any.
 */
#ifndef ERASURE_CODE_H
#define ERASURE_CODE_H

#include "storage/base/descriptor.h"

struct stele_code; /* opaque; owned by the module */

/* Finds (building it on first use, checked) the code. INVALID: not one of ours. */
STELE_MUST_USE enum stele_err stele_code_find(const struct stele_code_id *id,
                                              const struct stele_code **out);
STELE_MUST_USE enum stele_err stele_code_find_name(const char *name, const struct stele_code **out);
const struct stele_code_id *stele_code_id(const struct stele_code *code);
uint32_t stele_code_n(const struct stele_code *code);
uint32_t stele_code_k(const struct stele_code *code);
/* t: the number of losses, of any shards, that it survives for certain. */
uint32_t stele_code_t(const struct stele_code *code);
/* Row i of the generator matrix: k coefficients. */
const uint8_t *stele_code_row(const struct stele_code *code, uint32_t shard);

/* True when the shards in `have` determine the block. */
bool stele_code_decodable(const struct stele_code *code, uint64_t have);
/* The margin of `have`: the largest r such that losing any r more still leaves it decodable;
 * -1 when it is not decodable now. Exact; cached. */
int stele_code_margin(const struct stele_code *code, uint64_t have);

/* A plan computes shards `want` from shards `read`, a cheapest subset of `have`: fewest shards,
 * local groups first. want may hold several shards. */
struct stele_plan {
	uint32_t nread;
	uint32_t nwant;
	uint8_t read[STELE_CODE_K_MAX];
	uint8_t want[STELE_CODE_N_MAX];
	/* want[w] = sum over r of coef[w * nread + r] * read[r] */
	uint8_t coef[STELE_CODE_N_MAX * STELE_CODE_K_MAX];
};
/* UNAVAILABLE when `have` cannot determine `want`. Shards of want that are also in have are planned
 * as copies. Plans are cached by (have, want). */
STELE_MUST_USE enum stele_err stele_code_plan(const struct stele_code *code, uint64_t have,
                                              uint64_t want, struct stele_plan *out);

/* data: k pointers to S bytes each; parity: n - k pointers that receive S bytes each. Any alignment,
 * any S; works in slices that stay in cache. */
void stele_code_encode(const struct stele_code *code, size_t S, const uint8_t *const *data,
                       uint8_t *const *parity);
/* in: plan->nread pointers in the order of plan->read; out: plan->nwant pointers. */
void stele_code_apply(const struct stele_plan *plan, size_t len, const uint8_t *const *in,
                      uint8_t *const *out);

#endif
