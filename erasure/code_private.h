/*
 * What a code is inside: shared by generator.c (which fills it), code.c (rank, tolerance, encode)
 * and code_plan.c (decoding plans). Nobody else includes it.
 */
#ifndef ERASURE_CODE_PRIVATE_H
#define ERASURE_CODE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "erasure/code.h"

#define STELE_CODE_MARGIN_SLOTS 1024u
#define STELE_CODE_PLAN_SLOTS   128u

struct stele_plan_slot {
	uint64_t have; /* 0: empty, for nothing can be planned from nothing */
	uint64_t want;
	struct stele_plan plan;
};

struct stele_code {
	struct stele_code_id id;
	uint32_t n, k, m, t;
	/* Any k shards determine the block (MDS): a theorem for Cauchy matrices and for copies. */
	bool uniform;
	uint8_t row[STELE_CODE_N_MAX * STELE_CODE_K_MAX]; /* the generator: n rows of k, packed */
	/* Column i of the parity-check matrix (P | I): lost shards can be computed exactly when
	 * their columns are independent, which takes elimination in m <= 8 dimensions only. */
	uint8_t check[STELE_CODE_N_MAX][STELE_CODE_M_MAX];

	/* Caches. A margin slot holds have << 8 | (margin + 2): one word, so that it needs no lock.
	 */
	_Atomic uint64_t margin[STELE_CODE_MARGIN_SLOTS];
	pthread_mutex_t plan_lock;
	struct stele_plan_slot *plan; /* STELE_CODE_PLAN_SLOTS, made with the first plan */
};

/* Fills id, n, k, m, uniform, row and check. INVALID when no generator is known for the id. */
STELE_MUST_USE enum stele_err stele_generator_fill(struct stele_code *code);

/* True when the columns of the parity-check matrix for the shards in `lost` are independent. */
bool stele_code_independent(const struct stele_code *code, uint64_t lost);

/* The shards of local group g, its parity included; group of a shard, or -1 (globals; other codes).
 */
uint64_t stele_code_group_mask(const struct stele_code *code, uint32_t g);
int stele_code_group_of(const struct stele_code *code, uint32_t shard);

static inline uint64_t stele_code_all(const struct stele_code *code)
{
	return ((uint64_t)1 << code->n) - 1;
}

#endif
