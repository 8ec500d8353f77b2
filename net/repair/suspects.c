/* A growing array with a chained index over it. Judges nothing. */
#include "net/repair/suspects.h"

#include <stdlib.h>

#define BUCKETS 16384u

static uint32_t *bucket_of(const struct stele_suspects *s, uint16_t slot,
                           const struct stele_key *key)
{
	uint32_t h = stele_le32(key->id.b) ^ stele_le32(key->sub.b) * 31u ^ key->index * 7u ^
	             slot * 131u ^ key->kind;
	return &s->bucket[h % BUCKETS];
}

static bool same(const struct stele_suspect *x, uint16_t slot, const struct stele_key *key)
{
	return x->slot == slot && x->key.kind == key->kind && x->key.pool == key->pool &&
	       stele_hash_equal(&x->key.id, &key->id) &&
	       (key->kind == STELE_ENTRY_SHARD ? x->key.index == key->index
	                                       : memcmp(x->key.sub.b, key->sub.b, 12) == 0);
}

enum stele_err stele_suspects_init(struct stele_suspects *s)
{
	*s = (struct stele_suspects){.bucket = calloc(BUCKETS, sizeof(*s->bucket))};
	return s->bucket ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "suspects: out of memory");
}

void stele_suspects_finish(struct stele_suspects *s)
{
	free(s->v);
	free(s->bucket);
	*s = (struct stele_suspects){0};
}

struct stele_suspect *stele_suspects_find(const struct stele_suspects *s, uint16_t slot,
                                          const struct stele_key *key)
{
	uint32_t at = *bucket_of(s, slot, key);
	while (at && !same(&s->v[at - 1], slot, key))
		at = s->v[at - 1].next;
	return at ? &s->v[at - 1] : NULL;
}

static bool grow(struct stele_suspects *s)
{
	uint32_t cap = s->cap ? 2 * s->cap : 64;
	struct stele_suspect *v =
	    cap <= STELE_SUSPECTS_MAX ? realloc(s->v, cap * sizeof(*v)) : NULL;
	s->full |= !v;
	if (!v)
		return false;
	s->v = v;
	s->cap = cap;
	return true;
}

struct stele_suspect *stele_suspects_see(struct stele_suspects *s, const struct stele_suspect *what)
{
	struct stele_suspect *x = stele_suspects_find(s, what->slot, &what->key);
	if (x) {
		x->seen = what->seen;
		return x;
	}
	if (s->n == s->cap && !grow(s))
		return NULL;
	uint32_t *bucket = bucket_of(s, what->slot, &what->key);
	x = &s->v[s->n++];
	*x = *what;
	x->next = *bucket;
	*bucket = s->n;
	return x;
}

void stele_suspects_sweep(struct stele_suspects *s, uint64_t pass)
{
	uint32_t n = s->n;
	memset(s->bucket, 0, BUCKETS * sizeof(*s->bucket));
	s->n = 0;
	s->full = false;
	for (uint32_t i = 0; i < n; i++) {
		if (s->v[i].seen != pass)
			continue;
		struct stele_suspect *x = &s->v[s->n];
		uint32_t *bucket = bucket_of(s, s->v[i].slot, &s->v[i].key);
		*x = s->v[i];
		x->next = *bucket;
		*bucket = ++s->n;
	}
}
