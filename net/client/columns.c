/*
 * One pass: what is missing is decoded first, from bytes that are not checked yet, because then every data shard goes
 * through the hash lanes once, its cells and the object's own stream together. A bad source shows all the same: it is
 * named, and whatever was computed from it is thrown away.
 */
#include "net/client/columns.h"

#include "erasure/shard_meta.h"

static void decode(const struct stele_columns *c)
{
	const uint8_t *in[STELE_CODE_K_MAX];
	uint8_t *out[STELE_CODE_N_MAX];
	for (uint32_t i = 0; i < c->plan->nread; i++)
		in[i] = c->shard[c->plan->read[i]];
	for (uint32_t i = 0; i < c->plan->nwant; i++)
		out[i] = c->shard[c->plan->want[i]];
	stele_code_apply(c->plan, c->len, in, out);
}

/* Hashes a shard's columns; its first `fed` bytes go into the object's hash as well. */
static bool shard_ok(const struct stele_columns *c, uint32_t shard, uint64_t fed)
{
	struct stele_hash leaf[STELE_SHARD_CELLS_MAX];
	const struct stele_hash *row = stele_shard_meta_row(c->desc, c->rows, shard);
	if (fed == c->len) {
		stele_sha256_cells_and_stream(c->shard[shard], c->len, leaf, c->object);
	} else {
		stele_sha256_cells(c->shard[shard], c->len, leaf);
		if (fed > 0)
			stele_sha256_update(c->object, c->shard[shard], fed);
	}
	return memcmp(leaf, row + c->first_cell, c->cells * sizeof(leaf[0])) == 0;
}

/* Bytes of a data shard that are the block's: the rest is padding. */
static uint64_t filled(const struct stele_columns *c, uint32_t shard)
{
	uint64_t start = (uint64_t)shard * c->desc->S;
	uint64_t left = c->desc->length > start ? c->desc->length - start : 0;
	return left < c->len ? left : c->len;
}

void stele_columns_verify(struct stele_columns *c)
{
	struct stele_sha256_stream before = {0};
	c->bad = 0;
	c->consistent = true;
	if (c->object)
		before = *c->object;
	if (c->missing)
		decode(c);
	for (uint32_t i = 0; i < c->desc->n; i++) {
		bool checked = c->check >> i & 1, decoded = c->missing >> i & 1;
		bool data = i < c->desc->code.k;
		uint64_t fed = c->object && data ? filled(c, i) : 0;
		if (!checked && !decoded && fed == 0)
			continue;
		if (shard_ok(c, i, fed))
			continue;
		if (decoded)
			c->consistent = false;
		else
			c->bad |= 1ull << i;
	}
	if (c->object && (c->bad || !c->consistent))
		*c->object = before;
}
