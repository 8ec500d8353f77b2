/*
 * Generator matrices: the coefficients that define every code. They are format: a block that exists
 * is decoded by the same numbers for ever, so nothing here may change, only be added to.
 *
 * rs-k-m     ISA-L's Cauchy matrix, 1 / (i + j) for parity row i >= k and data column j < k: every
 *            square submatrix of it is regular, so any k shards decode. (ISA-L's other matrix,
 *            gf_gen_rs_matrix, is not MDS.)
 * lrc-k-l-g  l locals, each the XOR of its k / l data shards, and g globals such that the code is
 *            maximally recoverable: it decodes every pattern that any code with these groups could
 *            (Gopalan, Huang, Jenkins, Yekhanin: "Explicit maximally recoverable codes with
 * locality"). l = 1         Cauchy again, its columns scaled so that the first row is the XOR. g =
 * 1         j + 1 for the j-th shard of its group: different and not zero. g = 2         a and a^2.
 * Two losses i, j of a group leave a_i + a_j (a local lost: a_i) once the XOR is taken away, so the
 * sums of different groups must differ: each group draws its a from a subspace of its own that
 * meets the others in 0 only. For two groups these are the nibbles; for more, the cosets 2^g *
 * GF(16). lrc-12-2-3    found by search. Each LRC is checked when it is first built; the tests
 * check every pattern.
 */
#include "erasure/code_private.h"
#include "erasure/gf256.h"

#define NIBBLE_MAX 15u /* elements, 0 apart, of a subspace of 4 dimensions */

/* Globals of lrc-12-2-3. */
static const uint8_t lrc_12_2_3[3][12] = {
    {0x26, 0xac, 0x2d, 0x84, 0xb5, 0x48, 0x6d, 0x31, 0x67, 0x53, 0xfc, 0xf7},
    {0xec, 0x37, 0xde, 0x03, 0x98, 0x8d, 0x08, 0x3a, 0x45, 0x7d, 0x36, 0xbe},
    {0x46, 0x3a, 0x50, 0xd7, 0x43, 0xfc, 0xfd, 0x30, 0xa4, 0x6f, 0xd3, 0x29},
};

static uint8_t cauchy(unsigned k, unsigned parity, unsigned column)
{
	return stele_gf_inv((uint8_t)((k + parity) ^ column));
}

static uint8_t power_of_two(unsigned e)
{
	uint8_t x = 1;
	while (e--)
		x = stele_gf_mul(x, 2);
	return x;
}

/* `a` of the j-th shard in group g: see the top. */
static uint8_t pair_element(unsigned l, unsigned g, unsigned j)
{
	if (l == 2)
		return (uint8_t)(g == 0 ? j + 1 : (j + 1) << 4);
	return power_of_two(g + 17 * j); /* 2^17 generates GF(16) without 0 */
}

/* Coefficient of data shard i in global t. False: no generator is known. */
static bool global_coefficient(const struct stele_code *code, unsigned t, unsigned i, uint8_t *out)
{
	unsigned l = code->id.l, g = code->m - l, size = code->k / l;
	if (l == 1) {
		*out = stele_gf_mul(cauchy(code->k, 1 + t, i), stele_gf_inv(cauchy(code->k, 0, i)));
	} else if (g == 1) {
		*out = (uint8_t)(i % size + 1);
	} else if (g == 2 && size <= NIBBLE_MAX) {
		uint8_t a = pair_element(l, i / size, i % size);
		*out = t == 0 ? a : stele_gf_mul(a, a);
	} else if (g == 3 && l == 2 && code->k == 12) {
		*out = lrc_12_2_3[t][i];
	} else {
		return false;
	}
	return true;
}

/* Parity row p, coefficient of data shard i. */
static bool coefficient(const struct stele_code *code, unsigned p, unsigned i, uint8_t *out)
{
	switch (code->id.family) {
	case STELE_CODE_REP:
		*out = 1;
		return true;
	case STELE_CODE_RS:
		*out = cauchy(code->k, p, i);
		return true;
	default:
		if (p < code->id.l) {
			*out = i / (code->k / code->id.l) == p;
			return true;
		}
		return global_coefficient(code, p - code->id.l, i, out);
	}
}

/* The next larger mask with as many bits; 0 after the last one below `limit`. */
static uint64_t next_subset(uint64_t mask, uint64_t limit)
{
	uint64_t low = mask & -mask, ripple = mask + low;
	uint64_t next = ripple | ((mask ^ ripple) >> 2) / low;
	return next < limit ? next : 0;
}

/*
 * Maximal recoverability. A group with a single loss is computed from the rest of it and constrains
 * nothing else, so the patterns to check are those where every group that is hit is hit at least
 * twice, and where losses beyond the first of each group, plus lost globals, are exactly g (fewer
 * are part of such a pattern). Walks groups from `group` on, the globals last; depth is at most l
 * + 1.
 */
static bool recoverable_from(const struct stele_code *code, unsigned group, unsigned spare,
                             uint64_t lost)
{
	unsigned l = code->id.l, g = code->m - l;
	if (group == l) {
		if (spare > g)
			return false;
		if (spare == 0)
			return stele_code_independent(code, lost);
		uint64_t limit = (uint64_t)1 << g;
		for (uint64_t s = ((uint64_t)1 << spare) - 1; s; s = next_subset(s, limit))
			if (!stele_code_independent(code, lost | s << (code->k + l)))
				return false;
		return true;
	}
	if (!recoverable_from(code, group + 1, spare, lost))
		return false;
	uint32_t member[STELE_CODE_K_MAX + 1], size = 0;
	for (uint32_t i = 0; i < code->n; i++)
		if (stele_code_group_of(code, i) == (int)group)
			member[size++] = i;
	for (unsigned hit = 2; hit <= spare + 1 && hit <= size; hit++) {
		uint64_t limit = (uint64_t)1 << size;
		for (uint64_t s = ((uint64_t)1 << hit) - 1; s; s = next_subset(s, limit)) {
			uint64_t more = 0;
			for (uint32_t i = 0; i < size; i++)
				more |= (s >> i & 1) << member[i];
			if (!recoverable_from(code, group + 1, spare - (hit - 1), lost | more))
				return false;
		}
	}
	return true;
}

enum stele_err stele_generator_fill(struct stele_code *code)
{
	char name[STELE_NAME_MAX];
	code->k = code->id.k;
	code->m = code->id.m;
	code->n = code->k + code->m;
	code->uniform = code->id.family != STELE_CODE_LRC || code->id.l == 1;
	for (unsigned i = 0; i < code->k; i++)
		code->row[i * code->k + i] = 1;
	for (unsigned p = 0; p < code->m; p++) {
		for (unsigned i = 0; i < code->k; i++) {
			uint8_t c;
			if (!coefficient(code, p, i, &c))
				return stele_fail(STELE_ERR_INVALID,
				                  "code %s: no generator is known for it",
				                  stele_code_id_name(&code->id, name));
			code->row[(code->k + p) * code->k + i] = c;
			code->check[i][p] = c;
		}
		code->check[code->k + p][p] = 1;
	}
	if (!code->uniform && !recoverable_from(code, 0, code->m - code->id.l, 0))
		return stele_fail(STELE_ERR_INVALID,
		                  "code %s: its generator is not maximally recoverable",
		                  stele_code_id_name(&code->id, name));
	return STELE_OK;
}
