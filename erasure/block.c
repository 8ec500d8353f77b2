/*
 * A block and its shards: split, encode, hash, verify, rebuild. Computation only, with one
 * allocation per encoded block; I/O, placement and threads belong to the callers.
 */
#include "erasure/block.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/merkle.h"

static uint32_t min_u32(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

/* Encoding */

/* How many data shards lie whole inside the block's bytes (and are not copied). */
static uint32_t whole_shards(const struct stele_descriptor *d)
{
	return min_u32(d->length / d->S, d->code.k);
}

/* One allocation: the rows, then the shards that are not the caller's bytes. */
static enum stele_err allocate(struct stele_block *b, const uint8_t *bytes)
{
	const struct stele_descriptor *d = &b->desc;
	uint32_t rows = stele_descriptor_roots(d), whole = whole_shards(d);
	uint32_t own = rows - whole; /* rep-n: its one shard, or none */
	size_t row_bytes = (size_t)b->cells * sizeof(struct stele_hash);
	size_t rows_len = stele_round_up(row_bytes * rows, STELE_SHARD_ALIGN);
	b->memory = aligned_alloc(STELE_SHARD_ALIGN, rows_len + own * d->S);
	if (!b->memory)
		return stele_fail(STELE_ERR_NOMEM, "block: no memory for %u shards of %llu bytes",
		                  own, (unsigned long long)d->S);
	uint8_t *next = (uint8_t *)b->memory + rows_len;
	for (uint32_t i = 0; i < d->n; i++) {
		uint32_t r = i < rows ? i : 0;
		b->row[i] = (struct stele_hash *)b->memory + (size_t)r * b->cells;
		if (i >= rows) {
			b->shard[i] = b->shard[0];
		} else if (i < whole) {
			b->shard[i] = bytes + i * d->S;
		} else {
			b->shard[i] = next;
			next += d->S;
		}
	}
	return STELE_OK;
}

/* Copies the block's tail into the data shards that it only partly fills, padded with zeros. */
static void fill_tail(struct stele_block *b, const uint8_t *bytes)
{
	const struct stele_descriptor *d = &b->desc;
	for (uint32_t i = whole_shards(d); i < d->code.k; i++) {
		uint64_t off = i * d->S;
		size_t len = off < d->length ? min_u32(d->length - off, d->S) : 0;
		uint8_t *shard = (uint8_t *)b->shard[i];
		if (len)
			memcpy(shard, bytes + off, len);
		memset(shard + len, 0, d->S - len);
	}
}

/*
 * Hands out cells column by column (cell c of every shard), so that a column is encoded when its
 * data cells have just been hashed and lie in the cache, and its parity cells are hashed while they
 * do.
 */
struct encoder {
	struct stele_sha256_source base;
	struct stele_block *b;
	const struct stele_code *code;
	uint32_t cell, shard; /* next */
};

static void encode_column(const struct encoder *e)
{
	const uint8_t *data[STELE_CODE_K_MAX];
	uint8_t *parity[STELE_CODE_M_MAX];
	const struct stele_code_id *id = &e->b->desc.code;
	size_t off = (size_t)e->cell * STELE_CELL_LEN;
	for (uint32_t i = 0; i < id->k; i++)
		data[i] = e->b->shard[i] + off;
	for (uint32_t i = 0; i < id->m; i++)
		parity[i] = (uint8_t *)e->b->shard[id->k + i] + off;
	stele_code_encode(e->code, stele_descriptor_cell_len(&e->b->desc, e->cell), data, parity);
}

static bool next_cell(struct stele_sha256_source *source, struct stele_sha256_message *out)
{
	struct encoder *e = (struct encoder *)source;
	if (e->cell == e->b->cells)
		return false;
	if (e->shard == e->b->desc.code.k)
		encode_column(e);
	out->data = e->b->shard[e->shard] + (size_t)e->cell * STELE_CELL_LEN;
	out->len = stele_descriptor_cell_len(&e->b->desc, e->cell);
	out->out = &e->b->row[e->shard][e->cell];
	if (++e->shard == stele_descriptor_roots(&e->b->desc)) {
		e->shard = 0;
		e->cell++;
	}
	return true;
}

enum stele_err stele_block_encode(struct stele_block *b, const struct stele_code *code,
                                  const void *bytes, size_t len, struct stele_sha256_stream *object)
{
	memset(b, 0, sizeof(*b));
	STELE_TRY(stele_descriptor_init(&b->desc, stele_code_id(code), len));
	b->cells = stele_descriptor_cells(&b->desc);
	STELE_TRY(allocate(b, bytes));
	fill_tail(b, bytes);
	struct encoder e = {
	    .base = {.next = next_cell, .bytes = stele_descriptor_roots(&b->desc) * b->desc.S},
	    .b = b,
	    .code = code};
	stele_sha256_leaves_and_stream(&e.base, bytes, len, object);
	for (uint32_t i = 0; i < stele_descriptor_roots(&b->desc); i++)
		stele_merkle_root(b->row[i], b->cells, &b->desc.root[i]);
	stele_descriptor_id(&b->desc, &b->id);
	return STELE_OK;
}

void stele_block_finish(struct stele_block *b)
{
	if (!b)
		return;
	free(b->memory);
	memset(b, 0, sizeof(*b));
}

void stele_block_chunks(const struct stele_block *b, const void *bytes, struct stele_hash *leaf)
{
	const struct stele_descriptor *d = &b->desc;
	uint64_t off = 0;
	/* A chunk is a data cell where both begin at the same place and are full. */
	while (d->length - off >= STELE_CELL_LEN && (off < d->S || d->S % STELE_CELL_LEN == 0) &&
	       off % d->S + STELE_CELL_LEN <= d->S) {
		*leaf++ = b->row[off / d->S][off % d->S / STELE_CELL_LEN];
		off += STELE_CELL_LEN;
	}
	stele_sha256_cells((const uint8_t *)bytes + off, d->length - off, leaf);
}

/* Verifying */

enum stele_err stele_block_verify_rows(const struct stele_descriptor *d,
                                       const struct stele_hash *rows)
{
	uint32_t cells = stele_descriptor_cells(d);
	for (uint32_t i = 0; i < stele_descriptor_roots(d); i++)
		if (!stele_descriptor_row_ok(d, i, rows + (size_t)i * cells))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: its row does not match its root", i);
	return STELE_OK;
}

/* Bytes of a shard that are padding begin here; S where it has none. */
static uint64_t padding_start(const struct stele_descriptor *d, uint32_t idx)
{
	uint32_t i = d->code.family == STELE_CODE_REP ? 0 : idx;
	uint64_t off = i * d->S;
	if (i >= d->code.k || d->length >= off + d->S)
		return d->S;
	return d->length > off ? d->length - off : 0;
}

enum stele_err stele_block_verify_shard(const struct stele_descriptor *d, uint32_t idx,
                                        const struct stele_hash *row, const void *shard)
{
	struct stele_hash leaf[STELE_SHARD_CELLS_MAX];
	uint64_t pad = padding_start(d, idx);
	stele_sha256_cells(shard, d->S, leaf);
	for (uint32_t c = 0; c < stele_descriptor_cells(d); c++)
		if (!stele_hash_equal(&leaf[c], &row[c]))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: cell %u does not match its hash", idx, c);
	if (!stele_all_zero((const uint8_t *)shard + pad, d->S - pad))
		return stele_fail(STELE_ERR_CORRUPT, "shard %u: cell %u: padding is not zero", idx,
		                  (uint32_t)(pad / STELE_CELL_LEN));
	return STELE_OK;
}

/* Reading and rebuilding */

uint32_t stele_block_map_range(const struct stele_descriptor *d, uint64_t off, uint64_t len,
                               struct stele_part *parts)
{
	uint32_t n = 0;
	assert(off <= d->length && len <= d->length - off);
	while (len) {
		struct stele_part *p = &parts[n++];
		p->shard = (uint32_t)(off / d->S);
		p->off = off % d->S;
		p->len = d->S - p->off < len ? d->S - p->off : len;
		p->first_cell = (uint32_t)(p->off / STELE_CELL_LEN);
		p->cells = (uint32_t)((p->off + p->len - 1) / STELE_CELL_LEN) - p->first_cell + 1;
		off += p->len;
		len -= p->len;
	}
	return n;
}

enum stele_err stele_block_rebuild(const struct stele_descriptor *d, uint64_t have, uint64_t want,
                                   uint8_t *const *shard, struct stele_hash *rows_out)
{
	const struct stele_code *code;
	struct stele_plan plan;
	const uint8_t *in[STELE_CODE_K_MAX];
	uint8_t *out[STELE_CODE_N_MAX];
	uint32_t cells = stele_descriptor_cells(d);
	want &= ((uint64_t)1 << d->n) - 1;
	STELE_TRY(stele_code_find(&d->code, &code));
	STELE_TRY(stele_code_plan(code, have, want & ~have, &plan));
	for (uint32_t r = 0; r < plan.nread; r++)
		in[r] = shard[plan.read[r]];
	for (uint32_t w = 0; w < plan.nwant; w++)
		out[w] = shard[plan.want[w]];
	stele_code_apply(&plan, d->S, in, out);
	for (; want; want &= want - 1) {
		uint32_t idx = (uint32_t)__builtin_ctzll(want);
		struct stele_hash row[STELE_SHARD_CELLS_MAX];
		stele_sha256_cells(shard[idx], d->S, row);
		if (!stele_descriptor_row_ok(d, idx, row))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: rebuilt, it does not match its root", idx);
		if (rows_out) {
			memcpy(rows_out, row, cells * sizeof(*row));
			rows_out += cells;
		}
	}
	return STELE_OK;
}

enum stele_err stele_block_rebuild_cells(const struct stele_descriptor *d,
                                         const struct stele_plan *plan, uint32_t first,
                                         uint32_t cells, const uint8_t *const *in,
                                         const struct stele_hash *row, uint8_t *out)
{
	struct stele_hash leaf[STELE_SHARD_CELLS_MAX];
	assert(plan->nwant == 1 && cells > 0 && first + cells <= stele_descriptor_cells(d));
	size_t len =
	    (size_t)(cells - 1) * STELE_CELL_LEN + stele_descriptor_cell_len(d, first + cells - 1);
	stele_code_apply(plan, len, in, &out);
	stele_sha256_cells(out, len, leaf);
	for (uint32_t c = 0; c < cells; c++)
		if (!stele_hash_equal(&leaf[c], &row[first + c]))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: cell %u, computed from others, does not match "
			                  "its hash",
			                  plan->want[0], first + c);
	return STELE_OK;
}

uint64_t stele_block_find_bad(const struct stele_descriptor *d, uint64_t have,
                              const uint8_t *const *shard)
{
	uint64_t bad = 0;
	have &= ((uint64_t)1 << d->n) - 1;
	for (uint64_t left = have; left; left &= left - 1) {
		uint32_t idx = (uint32_t)__builtin_ctzll(left);
		struct stele_hash row[STELE_SHARD_CELLS_MAX];
		stele_sha256_cells(shard[idx], d->S, row);
		if (!stele_descriptor_row_ok(d, idx, row))
			bad |= (uint64_t)1 << idx;
	}
	return bad;
}
