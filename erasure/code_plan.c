/*
 * Decoding plans: which shards to read, and with which coefficients, to compute others. By
 * elimination over the generator's rows; a bounded cache by pattern. No bytes are touched here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "erasure/code_private.h"
#include "erasure/gf256.h"

/* The rows of the shards that were chosen to be read: row[i] reduced against those before it, and
 * the combination of read shards that it is. */
struct span {
	unsigned k, count;
	uint8_t shard[STELE_CODE_K_MAX];
	uint8_t pivot[STELE_CODE_K_MAX];
	uint8_t row[STELE_CODE_K_MAX][STELE_CODE_K_MAX];
	uint8_t sum[STELE_CODE_K_MAX][STELE_CODE_K_MAX];
};

/* to += f * from */
static void add_scaled(unsigned k, uint8_t *to, uint8_t f, const uint8_t *from)
{
	for (unsigned j = 0; j < k; j++)
		to[j] ^= stele_gf_mul(f, from[j]);
}

/* Takes from `row` what the span spans; `sum` gets the combination taken. True: all of it. */
static bool span_reduce(const struct span *s, uint8_t *row, uint8_t *sum)
{
	for (unsigned i = 0; i < s->count; i++) {
		uint8_t f = row[s->pivot[i]];
		if (f) {
			add_scaled(s->k, row, f, s->row[i]);
			add_scaled(s->k, sum, f, s->sum[i]);
		}
	}
	for (unsigned j = 0; j < s->k; j++)
		if (row[j])
			return false;
	return true;
}

/* Adds a shard to those that are read, unless those determine it already. */
static void span_add(struct span *s, const struct stele_code *code, uint32_t shard)
{
	uint8_t row[STELE_CODE_K_MAX] = {0}, sum[STELE_CODE_K_MAX] = {0};
	memcpy(row, stele_code_row(code, shard), s->k);
	if (s->count == s->k || span_reduce(s, row, sum))
		return;
	unsigned at = s->count++, pivot = 0;
	while (!row[pivot])
		pivot++;
	uint8_t inverse = stele_gf_inv(row[pivot]);
	sum[at] = 1; /* row = shard + sum: both sides scaled */
	for (unsigned j = 0; j < s->k; j++) {
		s->row[at][j] = stele_gf_mul(inverse, row[j]);
		s->sum[at][j] = stele_gf_mul(inverse, sum[j]);
	}
	s->pivot[at] = (uint8_t)pivot;
	s->shard[at] = (uint8_t)shard;
}

static void span_add_all(struct span *s, const struct stele_code *code, uint64_t shards)
{
	for (; shards; shards &= shards - 1)
		span_add(s, code, (uint32_t)__builtin_ctzll(shards));
}

/*
 * Chooses what to read. A lost shard whose local group is otherwise whole costs that group;
 * anything else costs k shards whatever they are (in a maximally recoverable code, a set that
 * determines a shard outside a whole group determines the block), which then pays for the local
 * ones as well.
 */
static void choose(struct span *s, const struct stele_code *code, uint64_t have, uint64_t want)
{
	uint64_t data = ((uint64_t)1 << code->k) - 1, lost = want & ~have;
	uint64_t locals = (((uint64_t)1 << code->id.l) - 1) << code->k;
	bool global = false;
	span_add_all(s, code, want & have);
	for (uint64_t left = lost; left; left &= left - 1) {
		int g = stele_code_group_of(code, (uint32_t)__builtin_ctzll(left));
		uint64_t group = g < 0 ? 0 : stele_code_group_mask(code, (uint32_t)g);
		if (group && (group & ~have) == (left & -left))
			span_add_all(s, code, group & have);
		else
			global = true;
	}
	if (global) {
		span_add_all(s, code, have & data);
		span_add_all(s, code, have & locals);
		span_add_all(s, code, have & ~data & ~locals);
	}
}

static enum stele_err unavailable(const struct stele_code *code, uint64_t have, uint32_t shard)
{
	char name[STELE_NAME_MAX];
	return stele_fail(STELE_ERR_UNAVAILABLE,
	                  "%s: shard %u cannot be computed from the %d shards at hand (of %u)",
	                  stele_code_id_name(&code->id, name), shard, __builtin_popcountll(have),
	                  code->n);
}

static enum stele_err make(const struct stele_code *code, uint64_t have, uint64_t want,
                           struct stele_plan *out)
{
	struct span s = {.k = code->k};
	uint8_t sum[STELE_CODE_N_MAX][STELE_CODE_K_MAX] = {{0}};
	uint64_t used = 0; /* bit i: the i-th shard of the span is needed */
	memset(out, 0, sizeof(*out));
	choose(&s, code, have, want);
	for (uint64_t left = want; left; left &= left - 1) {
		uint32_t shard = (uint32_t)__builtin_ctzll(left), w = out->nwant++;
		uint8_t row[STELE_CODE_K_MAX] = {0};
		memcpy(row, stele_code_row(code, shard), code->k);
		if (!span_reduce(&s, row, sum[w]))
			return unavailable(code, have, shard);
		out->want[w] = (uint8_t)shard;
		for (unsigned i = 0; i < s.count; i++)
			used |= (uint64_t)(sum[w][i] != 0) << i;
	}
	/* Reads in the order of shards, without those that nothing needs. */
	unsigned order[STELE_CODE_K_MAX];
	for (uint32_t shard = 0; shard < code->n; shard++)
		for (unsigned i = 0; i < s.count; i++)
			if (s.shard[i] == shard && (used >> i & 1)) {
				order[out->nread] = i;
				out->read[out->nread++] = (uint8_t)shard;
			}
	for (uint32_t w = 0; w < out->nwant; w++)
		for (uint32_t r = 0; r < out->nread; r++)
			out->coef[w * out->nread + r] = sum[w][order[r]];
	return STELE_OK;
}

enum stele_err stele_code_plan(const struct stele_code *code, uint64_t have, uint64_t want,
                               struct stele_plan *out)
{
	/* The caches are the one thing in a code that changes after it was built. */
	struct stele_code *cached = (struct stele_code *)code;
	have &= stele_code_all(code);
	want &= stele_code_all(code);
	uint64_t mix = (have * 0x9e3779b97f4a7c15u) ^ (want * 0xc2b2ae3d27d4eb4fu);
	unsigned slot = (mix ^ mix >> 32) * 0x9e3779b97f4a7c15u >> 57;
	_Static_assert(STELE_CODE_PLAN_SLOTS == 1u << (64 - 57),
	               "the hash's top bits are the slot");
	bool hit = false;

	pthread_mutex_lock(&cached->plan_lock);
	if (!cached->plan)
		cached->plan = calloc(STELE_CODE_PLAN_SLOTS, sizeof(*cached->plan));
	if (cached->plan && have && cached->plan[slot].have == have &&
	    cached->plan[slot].want == want) {
		*out = cached->plan[slot].plan;
		hit = true;
	}
	pthread_mutex_unlock(&cached->plan_lock);
	if (hit)
		return STELE_OK;

	STELE_TRY(make(code, have, want, out));
	pthread_mutex_lock(&cached->plan_lock);
	if (cached->plan) { /* without memory for a cache, plans are made each time */
		cached->plan[slot].have = have;
		cached->plan[slot].want = want;
		cached->plan[slot].plan = *out;
	}
	pthread_mutex_unlock(&cached->plan_lock);
	return STELE_OK;
}
