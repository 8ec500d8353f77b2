/* A set-associative table of shards: see store_fronts.h. */
#include "storage/store_fronts.h"

#include <assert.h>
#include <stdlib.h>

#define WAYS 4u
#define SETS (STELE_FRONTS / WAYS)
_Static_assert(STELE_FRONTS % WAYS == 0, "whole sets");

struct stele_front {
	struct stele_item_at at; /* birth_lsn 0: free */
	uint32_t cycle;
	uint32_t tick; /* when it was last asked for */
	uint32_t crc[STELE_SHARD_CELLS_MAX];
};

static uint32_t cells_of(const struct stele_item_at *at)
{
	return (at->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
}

static struct stele_front *find(struct stele_fronts *f, const struct stele_key *key,
                                struct stele_front **set)
{
	*set = &f->slot[(stele_le64(key->id.b) ^ key->pool) % SETS * WAYS];
	for (struct stele_front *s = *set; s < *set + WAYS; s++) {
		const struct stele_key *k = &s->at.key;
		if (s->at.birth_lsn && k->pool == key->pool && k->index == key->index &&
		    stele_hash_equal(&k->id, &key->id))
			return s;
	}
	return NULL;
}

void stele_fronts_finish(struct stele_fronts *f)
{
	free(f->slot);
	*f = (struct stele_fronts){0};
}

void stele_fronts_put(struct stele_fronts *f, uint64_t era, const struct stele_item_at *at,
                      uint32_t cycle, const uint8_t *crcs)
{
	uint32_t cells = cells_of(at);
	assert(at->key.kind == STELE_ENTRY_SHARD && at->birth_lsn && !at->bad && !at->tomb);
	assert(cells <= STELE_SHARD_CELLS_MAX);
	if (cells < 2 || era != f->era)
		return;
	if (!f->slot)
		f->slot = calloc(STELE_FRONTS, sizeof(f->slot[0]));
	if (!f->slot)
		return;
	struct stele_front *set, *to = find(f, &at->key, &set);
	if (!to) {
		to = set;
		for (uint32_t i = 1; i < WAYS; i++)
			if (f->tick - set[i].tick > f->tick - to->tick)
				to = &set[i];
	}
	to->at = *at;
	to->cycle = cycle;
	to->tick = ++f->tick;
	for (uint32_t i = 0; i < cells; i++)
		to->crc[i] = stele_le32(crcs + 4 * i);
}

const uint32_t *stele_fronts_get(struct stele_fronts *f, const struct stele_key *key,
                                 struct stele_item_at *at, uint32_t *cycle)
{
	struct stele_front *set, *s = f->slot ? find(f, key, &set) : NULL;
	if (!s)
		return NULL;
	s->tick = ++f->tick;
	*at = s->at;
	*cycle = s->cycle;
	return s->crc;
}

void stele_fronts_forget(struct stele_fronts *f, const struct stele_key *key)
{
	struct stele_front *set, *s = f->slot ? find(f, key, &set) : NULL;
	f->era++;
	if (s)
		*s = (struct stele_front){0};
}
