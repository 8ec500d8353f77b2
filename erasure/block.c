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

/* Hashing */

/*
 * The cells of several shards for the lanes, column by column (cell c of every shard). Where some of
 * the shards are computed from others, a column of them is computed when the first of its cells is
 * due: its inputs were just hashed, or it is hashed at once, so it lies in the cache.
 */
struct sheet {
	struct stele_sha256_source base;
	const struct stele_descriptor *d;
	uint32_t cells;                           /* of one shard */
	uint32_t n;                               /* shards to hash, in this order: */
	const uint8_t *shard[STELE_CODE_N_MAX];   /* S bytes each */
	struct stele_hash *row[STELE_CODE_N_MAX]; /* gets their cells' hashes */
	uint32_t cell, at;                        /* next */
	/* The column is computed when cell `compute_at` of it is due; NULL: nothing is. */
	uint32_t compute_at;
	void (*compute)(const struct sheet *sheet, size_t off, size_t len);
	const void *how;
};

static bool next_cell(struct stele_sha256_source *source, struct stele_sha256_message *out)
{
	struct sheet *s = (struct sheet *)source;
	if (s->cell == s->cells || s->n == 0)
		return false;
	size_t off = (size_t)s->cell * STELE_CELL_LEN;
	size_t len = stele_descriptor_cell_len(s->d, s->cell);
	if (s->compute && s->at == s->compute_at)
		s->compute(s, off, len);
	out->data = s->shard[s->at] + off;
	out->len = len;
	out->out = &s->row[s->at][s->cell];
	if (++s->at == s->n) {
		s->at = 0;
		s->cell++;
	}
	return true;
}

static struct sheet make_sheet(const struct stele_descriptor *d)
{
	return (struct sheet){
	    .base = {.next = next_cell}, .d = d, .cells = stele_descriptor_cells(d)};
}

static void sheet_add(struct sheet *s, const uint8_t *shard, struct stele_hash *row)
{
	s->shard[s->n] = shard;
	s->row[s->n++] = row;
	s->base.bytes += s->d->S;
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

static void encode_column(const struct sheet *s, size_t off, size_t len)
{
	const struct stele_code *code = s->how;
	const uint8_t *data[STELE_CODE_K_MAX];
	uint8_t *parity[STELE_CODE_M_MAX];
	uint32_t k = stele_code_k(code);
	for (uint32_t i = 0; i < k; i++)
		data[i] = s->shard[i] + off;
	for (uint32_t i = k; i < s->n; i++)
		parity[i - k] = (uint8_t *)s->shard[i] + off; /* this block's own memory */
	stele_code_encode(code, len, data, parity);
}

enum stele_err stele_block_encode(struct stele_block *b, const struct stele_code *code,
                                  const void *bytes, size_t len, struct stele_sha256_stream *object)
{
	memset(b, 0, sizeof(*b));
	STELE_TRY(stele_descriptor_init(&b->desc, stele_code_id(code), len));
	b->cells = stele_descriptor_cells(&b->desc);
	STELE_TRY(allocate(b, bytes));
	fill_tail(b, bytes);
	struct sheet sheet = make_sheet(&b->desc);
	for (uint32_t i = 0; i < stele_descriptor_roots(&b->desc); i++)
		sheet_add(&sheet, b->shard[i], b->row[i]);
	if (b->desc.code.family != STELE_CODE_REP) {
		sheet.compute_at = b->desc.code.k; /* the first parity shard */
		sheet.compute = encode_column;
		sheet.how = code;
	}
	stele_sha256_leaves_and_stream(&sheet.base, bytes, len, object);
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
	/* Chunks are data cells as long as none crosses from one shard into the next. */
	while (d->length - off >= STELE_CELL_LEN && off % d->S + STELE_CELL_LEN <= d->S) {
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

/* Cells of all shards: most with k = 1, where every parity shard is as long as the block. */
#define BLOCK_CELLS_MAX ((1u + STELE_CODE_M_MAX) * STELE_SHARD_CELLS_MAX)

struct recipe {
	const struct stele_plan *plan;
	uint8_t *const *shard;
};

static void rebuild_column(const struct sheet *s, size_t off, size_t len)
{
	const struct recipe *r = s->how;
	const uint8_t *in[STELE_CODE_K_MAX];
	uint8_t *out[STELE_CODE_N_MAX];
	for (uint32_t i = 0; i < r->plan->nread; i++)
		in[i] = r->shard[r->plan->read[i]] + off;
	for (uint32_t i = 0; i < r->plan->nwant; i++)
		out[i] = r->shard[r->plan->want[i]] + off;
	stele_code_apply(r->plan, len, in, out);
}

enum stele_err stele_block_rebuild(const struct stele_descriptor *d, uint64_t have, uint64_t want,
                                   uint8_t *const *shard, struct stele_hash *rows_out)
{
	struct stele_hash rows[BLOCK_CELLS_MAX], *row = rows_out ? rows_out : rows;
	const struct stele_code *code;
	struct stele_plan plan;
	struct recipe recipe = {.plan = &plan, .shard = shard};
	struct sheet sheet = make_sheet(d);
	want &= ((uint64_t)1 << d->n) - 1;
	STELE_TRY(stele_code_find(&d->code, &code));
	STELE_TRY(stele_code_plan(code, have, want & ~have, &plan));
	for (uint64_t left = want; left; left &= left - 1)
		sheet_add(&sheet, shard[__builtin_ctzll(left)], row + sheet.n * sheet.cells);
	assert(sheet.n * sheet.cells <= BLOCK_CELLS_MAX);
	if (plan.nwant) {
		sheet.compute = rebuild_column;
		sheet.how = &recipe;
	}
	stele_sha256_leaves_and_stream(&sheet.base, NULL, 0, NULL);
	for (uint32_t i = 0; want; i++, want &= want - 1) {
		uint32_t idx = (uint32_t)__builtin_ctzll(want);
		if (!stele_descriptor_row_ok(d, idx, sheet.row[i]))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: rebuilt, it does not match its root", idx);
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
	struct stele_hash rows[BLOCK_CELLS_MAX];
	struct sheet sheet = make_sheet(d);
	uint64_t bad = 0;
	have &= ((uint64_t)1 << d->n) - 1;
	for (uint64_t left = have; left; left &= left - 1)
		sheet_add(&sheet, shard[__builtin_ctzll(left)], rows + sheet.n * sheet.cells);
	assert(sheet.n * sheet.cells <= BLOCK_CELLS_MAX);
	stele_sha256_leaves_and_stream(&sheet.base, NULL, 0, NULL);
	for (uint32_t i = 0; have; i++, have &= have - 1)
		if (!stele_descriptor_row_ok(d, (uint32_t)__builtin_ctzll(have), sheet.row[i]))
			bad |= have & -have;
	return bad;
}
