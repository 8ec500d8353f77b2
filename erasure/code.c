/*
 * Codes: finding them, what they survive (by rank), encoding. Generators are in generator.c,
 * decoding plans in code_plan.c, arithmetic on bytes in gf256.c.
 */
#include "erasure/code.h"

#include <assert.h>
#include <stdlib.h>

#include "erasure/code_private.h"
#include "erasure/gf256.h"

/* Finding */

/* Codes are never freed: a slot for every parity count and k of each family. */
#define FAMILIES 3u
static struct stele_code
    *found[FAMILIES][STELE_CODE_K_MAX + 1][STELE_CODE_M_MAX + 1][STELE_CODE_M_MAX + 1];
static pthread_mutex_t found_lock = PTHREAD_MUTEX_INITIALIZER;

_Static_assert(STELE_CODE_REP == 1 && STELE_CODE_LRC == FAMILIES, "families are slots");
_Static_assert(STELE_CODE_N_MAX < 56, "a mask and a margin share 64 bits");

static enum stele_err build(const struct stele_code_id *id, struct stele_code **out)
{
	struct stele_code *code = calloc(1, sizeof(*code));
	if (!code)
		return stele_fail(STELE_ERR_NOMEM, "code: out of memory");
	code->id = *id;
	enum stele_err err = stele_generator_fill(code);
	if (err) {
		free(code);
		return err;
	}
	pthread_mutex_init(&code->plan_lock, NULL);
	code->t = (uint32_t)stele_code_margin(code, stele_code_all(code));
	*out = code;
	return STELE_OK;
}

enum stele_err stele_code_find(const struct stele_code_id *id, const struct stele_code **out)
{
	STELE_TRY(stele_code_id_check(id));
	enum stele_err err = STELE_OK;
	pthread_mutex_lock(&found_lock);
	struct stele_code **slot = &found[id->family - 1][id->k][id->m][id->l];
	if (!*slot)
		err = build(id, slot);
	if (!err)
		*out = *slot;
	pthread_mutex_unlock(&found_lock);
	return err;
}

enum stele_err stele_code_find_name(const char *name, const struct stele_code **out)
{
	struct stele_code_id id;
	STELE_TRY(stele_code_id_parse(name, &id));
	return stele_code_find(&id, out);
}

const struct stele_code_id *stele_code_id(const struct stele_code *code)
{
	return &code->id;
}

uint32_t stele_code_n(const struct stele_code *code)
{
	return code->n;
}

uint32_t stele_code_k(const struct stele_code *code)
{
	return code->k;
}

uint32_t stele_code_t(const struct stele_code *code)
{
	return code->t;
}

const uint8_t *stele_code_row(const struct stele_code *code, uint32_t shard)
{
	assert(shard < code->n);
	return &code->row[shard * code->k];
}

int stele_code_group_of(const struct stele_code *code, uint32_t shard)
{
	if (code->id.family != STELE_CODE_LRC || shard >= code->k + code->id.l)
		return -1;
	if (shard >= code->k)
		return (int)(shard - code->k);
	return (int)(shard / (code->k / code->id.l));
}

uint64_t stele_code_group_mask(const struct stele_code *code, uint32_t g)
{
	uint32_t size = code->k / code->id.l;
	return (((uint64_t)1 << size) - 1) << (g * size) | (uint64_t)1 << (code->k + g);
}

/* Rank */

/* Independent vectors, reduced against those before them. */
struct basis {
	unsigned count;
	uint8_t pivot[STELE_CODE_M_MAX];
	uint8_t v[STELE_CODE_M_MAX][STELE_CODE_M_MAX]; /* 1 at its pivot */
};

/* Takes from v whatever the basis spans. True: something is left, at *pivot first. */
static bool basis_reduce(const struct basis *b, unsigned m, uint8_t v[STELE_CODE_M_MAX],
                         unsigned *pivot)
{
	for (unsigned i = 0; i < b->count; i++) {
		uint8_t f = v[b->pivot[i]];
		if (f)
			for (unsigned j = 0; j < m; j++)
				v[j] ^= stele_gf_mul(f, b->v[i][j]);
	}
	for (unsigned j = 0; j < m; j++)
		if (v[j]) {
			*pivot = j;
			return true;
		}
	return false;
}

/* False: the basis spans v already. */
static bool basis_add(struct basis *b, unsigned m, const uint8_t v[STELE_CODE_M_MAX])
{
	uint8_t *slot = b->v[b->count], left[STELE_CODE_M_MAX];
	unsigned pivot;
	memcpy(left, v, sizeof(left));
	if (!basis_reduce(b, m, left, &pivot))
		return false;
	uint8_t inverse = stele_gf_inv(left[pivot]);
	for (unsigned j = 0; j < m; j++)
		slot[j] = stele_gf_mul(inverse, left[j]);
	b->pivot[b->count++] = (uint8_t)pivot;
	return true;
}

/* A basis of the columns of `lost`. False: they are dependent. */
static bool basis_of_lost(const struct stele_code *code, uint64_t lost, struct basis *b)
{
	b->count = 0;
	if ((unsigned)__builtin_popcountll(lost) > code->m)
		return false;
	for (; lost; lost &= lost - 1)
		if (!basis_add(b, code->m, code->check[__builtin_ctzll(lost)]))
			return false;
	return true;
}

bool stele_code_independent(const struct stele_code *code, uint64_t lost)
{
	struct basis b;
	return basis_of_lost(code, lost, &b);
}

bool stele_code_decodable(const struct stele_code *code, uint64_t have)
{
	uint64_t all = stele_code_all(code);
	if (code->uniform)
		return (unsigned)__builtin_popcountll(have & all) >= code->k;
	return stele_code_independent(code, all & ~have);
}

/* True when some `more` of the columns of `from` are dependent together with the basis. Depth is at
 * most m + 1: beyond it every set is. */
static bool some_dependent(const struct stele_code *code, const struct basis *b, uint64_t from,
                           unsigned more)
{
	for (; from; from &= from - 1) {
		struct basis next = *b;
		if (!basis_add(&next, code->m, code->check[__builtin_ctzll(from)]))
			return true;
		if (more > 1 && some_dependent(code, &next, from & (from - 1), more - 1))
			return true;
	}
	return false;
}

static int margin_by_rank(const struct stele_code *code, uint64_t have)
{
	struct basis b;
	if (!basis_of_lost(code, stele_code_all(code) & ~have, &b))
		return -1;
	int r = 0;
	while (!some_dependent(code, &b, have, (unsigned)r + 1))
		r++;
	return r;
}

int stele_code_margin(const struct stele_code *code, uint64_t have)
{
	have &= stele_code_all(code);
	if (code->uniform) {
		int more = __builtin_popcountll(have) - (int)code->k;
		return more < 0 ? -1 : more;
	}
	/* The caches are the one thing in a code that changes after it was built. */
	struct stele_code *cached = (struct stele_code *)code;
	_Atomic uint64_t *slot =
	    &cached->margin[(have * 0x9e3779b97f4a7c15u >> 40) % STELE_CODE_MARGIN_SLOTS];
	uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
	if (word && word >> 8 == have)
		return (int)(word & 0xff) - 2;
	int margin = margin_by_rank(code, have);
	atomic_store_explicit(slot, have << 8 | (uint64_t)(margin + 2), memory_order_relaxed);
	return margin;
}

/* Encoding */

#define SLICE                                                                                      \
	(16u << 10) /* of each shard: what the locals have read is in the cache for the globals */

/* Locals are sums of their groups only, which a kernel does faster than products with zeros. */
static void encode_slice(const struct stele_code *code, size_t at, size_t len,
                         const uint8_t *const *data, uint8_t *const *parity)
{
	const uint8_t *in[STELE_CODE_K_MAX];
	uint8_t *out[STELE_CODE_M_MAX];
	uint32_t k = code->k, l = code->id.l, size = k / l;
	for (uint32_t i = 0; i < k; i++)
		in[i] = data[i] + at;
	for (uint32_t p = 0; p < code->m; p++)
		out[p] = parity[p] + at;
	for (uint32_t g = 0; g < l; g++)
		stele_gf_product(&code->row[(k + g) * k + g * size], 1, size, len, in + g * size,
		                 &out[g]);
	stele_gf_product(&code->row[(k + l) * k], code->m - l, k, len, in, out + l);
}

void stele_code_encode(const struct stele_code *code, size_t S, const uint8_t *const *data,
                       uint8_t *const *parity)
{
	if (!code->id.l) {
		stele_gf_product(&code->row[code->k * code->k], code->m, code->k, S, data, parity);
		return;
	}
	for (size_t at = 0; at < S; at += SLICE)
		encode_slice(code, at, S - at < SLICE ? S - at : SLICE, data, parity);
}

void stele_code_apply(const struct stele_plan *plan, size_t len, const uint8_t *const *in,
                      uint8_t *const *out)
{
	if (plan->nwant)
		stele_gf_product(plan->coef, plan->nwant, plan->nread, len, in, out);
}
