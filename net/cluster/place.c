/*
 * Placement: pure integer arithmetic over the map, so that every machine computes the same windows.
 * Knows nothing of who is up (that is for those who use a window), nor of what lies where.
 *
 * The draw of a disk for a placement group is u = max(h, 1) / 2^64, h = mix(mix(pool, pg) ^
 * mix(node, slot)); its score is weight / -log2 u; the window is the disks in descending order of
 * score, one of each failure domain. All of this is part of the protocol (README.md): golden
 * windows hold it.
 */
#include "net/cluster/place.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* Sebastiano Vigna's splitmix64 step: a bijection on 64 bits whose output bits each depend on all
 * input bits (constants: David Stafford's "Mix13"). */
static uint64_t mix(uint64_t v)
{
	v += 0x9e3779b97f4a7c15ull;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ull;
	v = (v ^ v >> 27) * 0x94d049bb133111ebull;
	return v ^ v >> 31;
}

#define LOG_BITS 40

struct mantissa { /* max(h, 1) = m / 2^63 * 2^e, 2^63 <= m */
	uint64_t m;
	uint32_t e;
};

static struct mantissa normalise(uint64_t h)
{
	uint64_t x = h ? h : 1;
	uint32_t e = 63 - (uint32_t)__builtin_clzll(x);
	return (struct mantissa){x << (63 - e), e};
}

/*
 * -log2(max(h, 1) / 2^64) in units of 2^-40: 1 ... 2^46. Each squaring of the mantissa yields one
 * more bit of the logarithm. Rounding in the i-th squaring changes the logarithm by less than 2^-61
 * / 2^i, and cutting after 40 bits by less than 2^-40: the result is never below the true value and
 * exceeds it by less than 2^-40 + 2^-61, a 10^-8th of what the best of 16,384 disks draws on
 * average.
 */
static uint64_t minus_log2(struct mantissa x)
{
	uint64_t log = (uint64_t)x.e << LOG_BITS;
	uint64_t m = x.m;
	for (int bit = LOG_BITS - 1; bit >= 0; bit--) {
		unsigned __int128 square = (unsigned __int128)m * m >> 63; /* 2^63 ... 2^65 */
		uint64_t over = (uint64_t)(square >> 64);
		m = (uint64_t)(square >> over);
		log |= over << bit;
	}
	return ((uint64_t)64 << LOG_BITS) - log;
}

/* A lower bound of minus_log2 without its loop: log2(1 + f) <= f + 0.08608 on [0, 1]. */
static uint64_t minus_log2_min(struct mantissa x)
{
	uint64_t above = (x.m - (1ull << 63)) >> (63 - LOG_BITS);
	uint64_t log = ((uint64_t)x.e << LOG_BITS) + above + (1ull << LOG_BITS) / 11;
	uint64_t all = (uint64_t)64 << LOG_BITS;
	return log < all ? all - log : 0;
}

struct candidate {
	const struct stele_disk_entry *disk;
	const struct stele_node_entry *node;
	uint64_t log; /* minus_log2 of its draw */
};

/* a comes before b: a.weight / a.log > b.weight / b.log; on a tie the lower (node, slot). */
static bool before(const struct candidate *a, const struct candidate *b)
{
	unsigned __int128 x = (unsigned __int128)a->disk->weight_milli * b->log;
	unsigned __int128 y = (unsigned __int128)b->disk->weight_milli * a->log;
	if (x != y)
		return x > y;
	if (a->disk->node != b->disk->node)
		return a->disk->node < b->disk->node;
	return a->disk->slot < b->disk->slot;
}

static bool same_domain(enum stele_domain domain, const struct candidate *a,
                        const struct candidate *b)
{
	switch (domain) {
	case STELE_DOMAIN_DISK:
		return false;
	case STELE_DOMAIN_HOST:
		return a->node == b->node || strcmp(a->node->host, b->node->host) == 0;
	case STELE_DOMAIN_RACK:
		return a->node == b->node || strcmp(a->node->rack, b->node->rack) == 0;
	}
	assert(!"a domain that the map does not know");
	return false;
}

/* The best `width` candidates so far, in order, no two of one domain. */
struct ranking {
	enum stele_domain domain;
	uint32_t width, n;
	struct candidate best[STELE_WINDOW_MAX];
};

static void insert(struct ranking *r, const struct candidate *c)
{
	uint32_t at = 0, gone = 0;
	while (gone < r->n && !same_domain(r->domain, &r->best[gone], c))
		gone++;
	if (gone < r->n && before(&r->best[gone], c))
		return; /* its domain has a better disk */
	if (gone == r->n && r->n < r->width)
		r->n++;
	else if (gone == r->n)
		gone--; /* no place for the last one any more */
	while (at < gone && before(&r->best[at], c))
		at++;
	memmove(&r->best[at + 1], &r->best[at], (gone - at) * sizeof(r->best[0]));
	r->best[at] = *c;
}

static void consider(struct ranking *r, const struct stele_map *map,
                     const struct stele_disk_entry *d, uint64_t h)
{
	struct mantissa x = normalise(h);
	struct candidate c = {.disk = d, .log = minus_log2_min(x)};
	/* Most disks of a large cluster end here: even at best they would not come in. */
	if (r->n == r->width && before(&r->best[r->n - 1], &c))
		return;
	c.log = minus_log2(x);
	if (r->n == r->width && before(&r->best[r->n - 1], &c))
		return;
	c.node = stele_map_node(map, d->node);
	assert(c.node);
	insert(r, &c);
}

void stele_place(const struct stele_map *map, const struct stele_pool *pool, uint32_t pg,
                 uint32_t width, struct stele_window *out, uint64_t *fence_epoch)
{
	assert(pg >> pool->pgs_log2 == 0 && width >= 1 && width <= STELE_WINDOW_MAX);
	struct ranking r = {.domain = pool->domain, .width = width};
	uint64_t group = mix((uint64_t)pool->id << 32 | pg);
	for (uint32_t i = 0; i < map->ndisks; i++) {
		const struct stele_disk_entry *d = &map->disk[i];
		if (!d->out && d->weight_milli > 0)
			consider(&r, map, d, mix(group ^ mix((uint64_t)d->node << 16 | d->slot)));
	}
	out->n = r.n;
	for (uint32_t i = 0; i < r.n; i++)
		out->disk[i] =
		    (struct stele_window_disk){r.best[i].disk->node, r.best[i].disk->slot};
	/* Any epoch may have changed any window, as long as the map has no overrides (M2). */
	*fence_epoch = stele_map_epoch(map);
}

uint32_t stele_pg_of(const struct stele_pool *pool, const struct stele_hash *id)
{
	/* in 64 bits: a shift by 32 is meant when there is one group */
	return (uint32_t)((uint64_t)stele_be32(id->b) >> (32 - pool->pgs_log2));
}

void stele_pg_range(const struct stele_pool *pool, uint32_t pg, struct stele_hash *first,
                    struct stele_hash *last)
{
	assert(pg >> pool->pgs_log2 == 0);
	uint32_t low = (uint32_t)((uint64_t)pg << (32 - pool->pgs_log2));
	uint32_t high = low | (uint32_t)(UINT32_MAX >> pool->pgs_log2);
	memset(first->b, 0, STELE_HASH_LEN);
	memset(last->b, 0xff, STELE_HASH_LEN);
	for (int i = 0; i < 4; i++) {
		first->b[i] = (uint8_t)(low >> (24 - 8 * i));
		last->b[i] = (uint8_t)(high >> (24 - 8 * i));
	}
}

uint32_t stele_code_id_t(const struct stele_code_id *code)
{
	return code->family == STELE_CODE_LRC ? code->m - code->l + 1u : code->m;
}

uint32_t stele_window_width(const struct stele_code_id *code)
{
	return (uint32_t)code->k + code->m + stele_code_id_t(code) + 2;
}

/* ---- what a change of the map would move ---- */

STELE_PRINTF(2, 3)
static enum stele_err moves(const struct stele_map *next, const char *fmt, ...)
{
	char what[STELE_DETAIL_MAX / 2];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return stele_fail(
	    STELE_ERR_REFUSED,
	    "the map of epoch %llu.%llu would move data, which this version cannot "
	    "do: %s; sign a map that leaves pools, disks, weights and hosts as they are",
	    (unsigned long long)next->root_epoch, (unsigned long long)next->state_epoch, what);
}

/* All that windows follow from, but for a pool's own settings. */
static bool same_disks(const struct stele_map *a, const struct stele_map *b)
{
	bool same = a->ndisks == b->ndisks && a->nnodes == b->nnodes;
	for (uint32_t i = 0; same && i < a->ndisks; i++) {
		const struct stele_disk_entry *x = &a->disk[i], *y = &b->disk[i];
		same = x->node == y->node && x->slot == y->slot && x->out == y->out &&
		       x->weight_milli == y->weight_milli;
	}
	for (uint32_t i = 0; same && i < a->nnodes; i++) {
		const struct stele_node_entry *x = &a->node[i], *y = &b->node[i];
		same = x->id == y->id && strcmp(x->host, y->host) == 0 &&
		       strcmp(x->rack, y->rack) == 0;
	}
	return same;
}

static bool same_code(const struct stele_code_id *a, const struct stele_code_id *b)
{
	return a->family == b->family && a->k == b->k && a->m == b->m && a->l == b->l;
}

static bool same_disk(struct stele_window_disk a, struct stele_window_disk b)
{
	return a.node == b.node && a.slot == b.slot;
}

/* The first disk of a that b has not; NULL: b has them all. */
static const struct stele_window_disk *not_in(const struct stele_window *a,
                                              const struct stele_window *b)
{
	for (uint32_t i = 0; i < a->n; i++) {
		uint32_t k = 0;
		while (k < b->n && !same_disk(a->disk[i], b->disk[k]))
			k++;
		if (k == b->n)
			return &a->disk[i];
	}
	return NULL;
}

static enum stele_err same_windows(const struct stele_map *held, const struct stele_pool *was,
                                   const struct stele_map *next, const struct stele_pool *is)
{
	uint32_t width = stele_window_width(&was->code);
	for (uint32_t pg = 0; pg < 1u << was->pgs_log2; pg++) {
		struct stele_window a = {0}, b = {0};
		uint64_t fence;
		stele_place(held, was, pg, width, &a, &fence);
		stele_place(next, is, pg, width, &b, &fence);
		const struct stele_window_disk *gone = not_in(&a, &b), *come = not_in(&b, &a);
		if (gone || come)
			return moves(next, "group %u of pool %s would %s node %u slot %u", pg,
			             was->name, gone ? "leave" : "come to",
			             gone ? gone->node : come->node,
			             gone ? gone->slot : come->slot);
		for (uint32_t i = 0; i < a.n; i++)
			if (!same_disk(a.disk[i], b.disk[i]))
				return moves(next, "group %u of pool %s would be in another order",
				             pg, was->name);
	}
	return STELE_OK;
}

enum stele_err stele_place_unmoved(const struct stele_map *held, const struct stele_map *next)
{
	bool disks = same_disks(held, next);
	for (uint32_t p = 0; p < held->npools; p++) {
		const struct stele_pool *was = &held->pool[p], *is = stele_map_pool(next, was->id);
		if (!is)
			return moves(next, "pool %s is not in it", was->name);
		if (!same_code(&was->code, &is->code))
			return moves(next, "pool %s has another code", was->name);
		if (was->pgs_log2 != is->pgs_log2)
			return moves(next, "pool %s has another number of groups", was->name);
		if (!disks || was->domain != is->domain)
			STELE_TRY(same_windows(held, was, next, is));
	}
	return STELE_OK;
}
