/*
 * Goal: a block is its data shards (DESIGN D1), every shard verifies against the descriptor, any
 * tolerable loss is rebuilt bit for bit, corrupt shards are found by hash in every combination up
 * to the tolerance, ranges map to the right bytes, and no byte outside the caller's is read.
 */
#include <criterion/criterion.h>

#include "erasure/block.h"
#include "erasure/gf256.h"
#include "storage/base/merkle.h"
#include "tests/unit/guard.h"

static uint64_t seed = 7;

static const struct stele_code *find(const char *name)
{
	const struct stele_code *code = NULL;
	cr_assert_eq(stele_code_find_name(name, &code), STELE_OK, "%s", stele_detail());
	return code;
}

/* Bytes that end at a forbidden page. */
static uint8_t *random_bytes(struct guard *g, size_t len)
{
	*g = guard_create(len);
	uint8_t *p = guard_end(g, len);
	guard_fill(&seed, p, len);
	return p;
}

/* A length that is one of the awkward ones, or random around a few cells. */
static size_t some_length(unsigned k, int round)
{
	size_t cell = STELE_CELL_LEN;
	const size_t edges[] = {
	    1,           63,           64,           65,           64 * k - 1,
	    64 * k,      64 * k + 1,   cell - 1,     cell,         cell + 1,
	    k * cell,    k * cell + 1, k * cell - 1, 2 * k * cell, 2 * k * cell - 65,
	    3 * cell + 7};
	unsigned n = sizeof(edges) / sizeof(edges[0]);
	return (unsigned)round < n ? edges[round] : 1 + guard_random(&seed) % (3 * k * cell);
}

static void check_shards(const struct stele_block *b, const uint8_t *bytes, size_t len)
{
	const struct stele_descriptor *d = &b->desc;
	uint32_t rows = stele_descriptor_roots(d);
	struct stele_hash *all = malloc(rows * b->cells * sizeof(*all));
	cr_assert_not_null(all);
	cr_assert_eq(b->cells, stele_descriptor_cells(d));
	for (uint32_t i = 0; i < d->n; i++) {
		if (i < rows)
			memcpy(all + i * b->cells, b->row[i], b->cells * sizeof(*all));
		cr_assert_eq(stele_block_verify_shard(d, i, b->row[i], b->shard[i]), STELE_OK);
		uint32_t at = d->code.family == STELE_CODE_REP ? 0 : i;
		for (uint64_t j = 0; at < d->code.k && j < d->S; j++) {
			uint64_t pos = at * d->S + j;
			uint8_t want = pos < len ? bytes[pos] : 0;
			if (b->shard[i][j] != want)
				cr_assert_eq(b->shard[i][j], want, "shard %u byte %llu", i,
				             (unsigned long long)j);
		}
		/* whole data shards are the caller's own bytes */
		if (at < d->code.k && (at + 1) * d->S <= len)
			cr_assert_eq(b->shard[i], bytes + at * d->S);
	}
	cr_assert_eq(stele_block_verify_rows(d, all), STELE_OK);
	all[rows * b->cells - 1].b[31] ^= 1;
	cr_assert_eq(stele_block_verify_rows(d, all), STELE_ERR_CORRUPT);
	free(all);
}

static void check_chunks(const struct stele_block *b, const uint8_t *bytes, size_t len)
{
	size_t n = (len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	struct stele_hash *got = calloc(n, sizeof(*got)), *want = calloc(n, sizeof(*want));
	cr_assert(got && want);
	stele_block_chunks(b, bytes, got);
	stele_sha256_cells(bytes, len, want);
	cr_assert(memcmp(got, want, n * sizeof(*got)) == 0, "chunks of %zu bytes", len);
	free(got);
	free(want);
}

Test(block, shards_are_the_block)
{
	static const char *const names[] = {"rep-1",  "rep-3",   "rs-1-2",     "rs-3-2",
	                                    "rs-4-2", "rs-10-4", "lrc-12-2-3", "rs-32-8"};
	for (size_t c = 0; c < sizeof(names) / sizeof(names[0]); c++) {
		const struct stele_code *code = find(names[c]);
		for (int round = 0; round < 20; round++) {
			size_t len = some_length(stele_code_k(code), round);
			struct guard g;
			uint8_t *bytes = random_bytes(&g, len);
			struct stele_sha256_stream object;
			struct stele_hash got, want;
			struct stele_block b;
			stele_sha256_init(&object);
			stele_sha256_update(&object, "before", 6 * (round & 1));
			cr_assert_eq(stele_block_encode(&b, code, bytes, len, &object), STELE_OK);
			stele_sha256_value(&object, &got);
			stele_sha256_init(&object);
			stele_sha256_update(&object, "before", 6 * (round & 1));
			stele_sha256_update(&object, bytes, len);
			stele_sha256_value(&object, &want);
			cr_assert(stele_hash_equal(&got, &want));
			stele_descriptor_id(&b.desc, &want);
			cr_assert(stele_hash_equal(&b.id, &want));
			check_shards(&b, bytes, len);
			check_chunks(&b, bytes, len);
			stele_block_finish(&b);
			guard_destroy(&g);
		}
	}
}

/* DO NOT CHANGE: the ids of blocks that exist; on every kernel. */
Test(block, golden_ids)
{
	static const struct {
		const char *code;
		const char *id;
	} v[] = {
	    {"rep-3", "ba0e3d45a5e909984db85efb5f65c5cc4cc25feae22af8303958821583bf4240"},
	    {"rs-4-2", "6bba7d15a20e515315cae39d7497549d718f750c5896bc7bb3fba13e5cc87af5"},
	    {"lrc-12-2-3", "debb97e6712d6ea59f734949cf126ffda8b1be7c3191b182ca57d620f08531ed"}};
	static uint8_t bytes[300000];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 9));
	for (const char *const *gf = stele_gf_kernels(); *gf; gf++)
		for (const char *const *sha = stele_sha256_kernels(); *sha; sha++) {
			if (!stele_gf_use(*gf) || !stele_sha256_use(*sha))
				continue;
			for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
				char hex[STELE_HEX_LEN];
				struct stele_block b;
				cr_assert_eq(stele_block_encode(&b, find(v[i].code), bytes,
				                                sizeof(bytes), NULL),
				             STELE_OK);
				stele_hash_hex(&b.id, hex);
				cr_assert_str_eq(hex, v[i].id, "%s: %s", v[i].code, hex);
				stele_block_finish(&b);
			}
		}
	stele_gf_use(NULL);
	stele_sha256_use(NULL);
}

Test(block, lengths_out_of_bounds_are_refused)
{
	struct stele_block b;
	uint8_t one = 1;
	cr_assert_eq(stele_block_encode(&b, find("rs-4-2"), &one, 0, NULL), STELE_ERR_INVALID);
	stele_block_finish(&b);
	cr_assert_eq(stele_block_encode(&b, find("rs-4-2"), &one, STELE_BLOCK_LEN_MAX + 1, NULL),
	             STELE_ERR_INVALID);
	stele_block_finish(&b);
	stele_block_finish(NULL);
}

/* Copies of all shards that a test may spoil. */
struct copies {
	uint8_t *shard[STELE_CODE_N_MAX];
};

static struct copies copy_shards(const struct stele_block *b)
{
	struct copies c;
	for (uint32_t i = 0; i < b->desc.n; i++) {
		c.shard[i] = malloc(b->desc.S);
		cr_assert_not_null(c.shard[i]);
		memcpy(c.shard[i], b->shard[i], b->desc.S);
	}
	return c;
}

static void free_copies(const struct stele_block *b, struct copies *c)
{
	for (uint32_t i = 0; i < b->desc.n; i++)
		free(c->shard[i]);
}

Test(block, any_loss_is_rebuilt)
{
	static const char *const names[] = {"rep-3", "rs-4-2", "rs-10-4", "lrc-12-2-3", "rs-20-8"};
	for (size_t c = 0; c < sizeof(names) / sizeof(names[0]); c++) {
		const struct stele_code *code = find(names[c]);
		unsigned n = stele_code_n(code);
		for (int round = 0; round < 24; round++) {
			size_t len = some_length(stele_code_k(code), round);
			struct guard g;
			uint8_t *bytes = random_bytes(&g, len);
			struct stele_block b;
			cr_assert_eq(stele_block_encode(&b, code, bytes, len, NULL), STELE_OK);
			struct copies copy = copy_shards(&b);
			struct stele_hash *rows = malloc((size_t)n * b.cells * sizeof(*rows)),
			                  *row = rows;
			cr_assert_not_null(rows);
			uint64_t lost = 0, all = ((uint64_t)1 << n) - 1;
			unsigned e = 1 + (unsigned)round % stele_code_t(code);
			while ((unsigned)__builtin_popcountll(lost) < e)
				lost |= (uint64_t)1 << guard_random(&seed) % n;
			for (unsigned i = 0; i < n; i++)
				if (lost >> i & 1)
					memset(copy.shard[i], 0xdb, b.desc.S);
			/* one that is there may be wanted as well: it is only checked */
			uint64_t want = lost | (uint64_t)1 << guard_random(&seed) % n;
			cr_assert_eq(
			    stele_block_rebuild(&b.desc, all & ~lost, want, copy.shard, rows),
			    STELE_OK, "%s", stele_detail());
			for (unsigned i = 0; i < n; i++)
				cr_assert(memcmp(copy.shard[i], b.shard[i], b.desc.S) == 0);
			for (unsigned i = 0; i < n; i++)
				if (want >> i & 1) {
					cr_assert(memcmp(row, b.row[i], b.cells * sizeof(*row)) ==
					          0);
					row += b.cells;
				}
			free(rows);
			free_copies(&b, &copy);
			stele_block_finish(&b);
			guard_destroy(&g);
		}
	}
}

Test(block, too_many_losses_are_refused)
{
	uint8_t bytes[1000] = {1};
	struct stele_block b;
	cr_assert_eq(stele_block_encode(&b, find("rs-4-2"), bytes, sizeof(bytes), NULL), STELE_OK);
	struct copies copy = copy_shards(&b);
	cr_assert_eq(stele_block_rebuild(&b.desc, 0x07, 0x38, copy.shard, NULL),
	             STELE_ERR_UNAVAILABLE);
	free_copies(&b, &copy);
	stele_block_finish(&b);
}

/* Every combination of up to `most` corrupt shards: found by hash, a rebuild that uses one is
 * refused, and a rebuild from the good ones gives the block back. */
static void find_all_combinations(const char *name, size_t len, unsigned most)
{
	const struct stele_code *code = find(name);
	unsigned n = stele_code_n(code);
	struct guard g;
	uint8_t *bytes = random_bytes(&g, len);
	struct stele_block b;
	cr_assert_eq(stele_block_encode(&b, code, bytes, len, NULL), STELE_OK);
	struct copies copy = copy_shards(&b);
	uint64_t all = ((uint64_t)1 << n) - 1;
	for (uint64_t bad = 0; bad <= all; bad++) {
		if ((unsigned)__builtin_popcountll(bad) > most)
			continue;
		for (unsigned i = 0; i < n; i++)
			if (bad >> i & 1)
				copy.shard[i][guard_random(&seed) % b.desc.S] ^=
				    (uint8_t)(1u << guard_random(&seed) % 8);
		cr_assert_eq(stele_block_find_bad(&b.desc, all, (const uint8_t *const *)copy.shard),
		             bad);
		for (unsigned i = 0; i < n; i++)
			cr_assert_eq(stele_block_verify_shard(&b.desc, i, b.row[i], copy.shard[i]),
			             bad >> i & 1 ? STELE_ERR_CORRUPT : STELE_OK);
		if (bad) {
			cr_assert_eq(
			    stele_block_rebuild(&b.desc, all & ~bad, bad, copy.shard, NULL),
			    STELE_OK);
			for (unsigned i = 0; i < n; i++)
				cr_assert(memcmp(copy.shard[i], b.shard[i], b.desc.S) == 0);
		}
	}
	free_copies(&b, &copy);
	stele_block_finish(&b);
	guard_destroy(&g);
}

Test(block, corrupt_shards_are_found_in_every_combination)
{
	find_all_combinations("rep-3", 100, 2);
	find_all_combinations("rs-4-2", 70000 * 4, 2);
	find_all_combinations("rs-4-2", 1000, 2);
	find_all_combinations("rs-10-4", 640, 4);
	find_all_combinations("lrc-12-2-2", 700, 3);
	find_all_combinations("lrc-12-2-3", 700, 4);
}

Test(block, a_corrupt_helper_is_noticed)
{
	static uint8_t bytes[400000];
	struct stele_block b;
	guard_fill(&seed, bytes, sizeof(bytes));
	cr_assert_eq(stele_block_encode(&b, find("rs-4-2"), bytes, sizeof(bytes), NULL), STELE_OK);
	struct copies copy = copy_shards(&b);
	copy.shard[5][b.desc.S - 1] ^= 0x10;
	cr_assert_eq(stele_block_rebuild(&b.desc, 0x3c, 0x02, copy.shard, NULL), STELE_ERR_CORRUPT);
	cr_assert_not_null(strstr(stele_detail(), "shard 1"));
	cr_assert_eq(stele_block_find_bad(&b.desc, 0x3c, (const uint8_t *const *)copy.shard),
	             0x20u);
	free_copies(&b, &copy);
	stele_block_finish(&b);
}

/* A data shard whose padding is not zero is refused even where its own hashes match (DESIGN D2). */
Test(block, padding_must_be_zero)
{
	static const char *const names[] = {"rs-4-2", "rep-2"};
	uint8_t bytes[1001];
	guard_fill(&seed, bytes, sizeof(bytes));
	for (int i = 0; i < 2; i++) {
		struct stele_block b;
		cr_assert_eq(stele_block_encode(&b, find(names[i]), bytes, sizeof(bytes), NULL),
		             STELE_OK);
		uint32_t last = b.desc.code.k - 1;
		uint8_t shard[2048];
		struct stele_hash row;
		memcpy(shard, b.shard[last], b.desc.S);
		shard[b.desc.S - 1] = 1;
		stele_sha256_cells(shard, b.desc.S, &row);
		cr_assert_eq(stele_block_verify_shard(&b.desc, last, &row, shard),
		             STELE_ERR_CORRUPT);
		cr_assert_not_null(strstr(stele_detail(), "padding"));
		stele_block_finish(&b);
	}
	/* shards that lie wholly beyond the length are padding only */
	struct stele_block b;
	uint8_t shard[64] = {0};
	struct stele_hash row;
	cr_assert_eq(stele_block_encode(&b, find("rs-4-2"), bytes, 65, NULL), STELE_OK);
	cr_assert_eq(stele_block_verify_shard(&b.desc, 3, b.row[3], b.shard[3]), STELE_OK);
	shard[0] = 9;
	stele_sha256_cells(shard, 64, &row);
	cr_assert_eq(stele_block_verify_shard(&b.desc, 3, &row, shard), STELE_ERR_CORRUPT);
	stele_block_finish(&b);
}

/* Ranges: the parts name exactly the wanted bytes, and the cells that hold them. */
Test(block, ranges_map_to_parts)
{
	const struct stele_code *code = find("rs-4-2");
	for (int round = 0; round < 3000; round++) {
		size_t len = some_length(4, round % 40);
		struct stele_descriptor d;
		cr_assert_eq(stele_descriptor_init(&d, stele_code_id(code), len), STELE_OK);
		uint64_t off = guard_random(&seed) % (len + 1);
		uint64_t want = guard_random(&seed) % (len - off + 1), at = off;
		struct stele_part part[4];
		uint32_t n = stele_block_map_range(&d, off, want, part);
		for (uint32_t i = 0; i < n; i++) {
			cr_assert_lt(part[i].shard, 4u);
			cr_assert_gt(part[i].len, 0u);
			cr_assert_eq(part[i].shard * d.S + part[i].off, at);
			cr_assert_leq(part[i].off + part[i].len, d.S);
			cr_assert_eq(part[i].first_cell, part[i].off / STELE_CELL_LEN);
			cr_assert_eq(part[i].first_cell + part[i].cells - 1,
			             (part[i].off + part[i].len - 1) / STELE_CELL_LEN);
			at += part[i].len;
		}
		cr_assert_eq(at, off + want);
	}
}

/* A range of a lost shard is computed from the same cells of others, and checked. */
Test(block, cells_of_a_lost_shard)
{
	const struct stele_code *code = find("lrc-12-2-3");
	size_t len = 12 * 5 * STELE_CELL_LEN - 12 * 1000;
	struct guard g;
	uint8_t *bytes = random_bytes(&g, len), *out = malloc(5 * STELE_CELL_LEN);
	struct stele_block b;
	cr_assert_not_null(out);
	cr_assert_eq(stele_block_encode(&b, code, bytes, len, NULL), STELE_OK);
	cr_assert_eq(b.cells, 5u);
	for (uint32_t lost = 0; lost < 17; lost++)
		for (uint32_t first = 0; first < 5; first++) {
			uint32_t cells = 1 + (uint32_t)(guard_random(&seed) % (5 - first));
			const uint8_t *in[STELE_CODE_K_MAX];
			struct stele_plan plan;
			size_t off = (size_t)first * STELE_CELL_LEN;
			size_t want = first + cells == 5 ? b.desc.S - off : cells * STELE_CELL_LEN;
			cr_assert_eq(stele_code_plan(code, ~((uint64_t)1 << lost),
			                             (uint64_t)1 << lost, &plan),
			             STELE_OK);
			for (uint32_t r = 0; r < plan.nread; r++)
				in[r] = b.shard[plan.read[r]] + off;
			cr_assert_eq(stele_block_rebuild_cells(&b.desc, &plan, first, cells, in,
			                                       b.row[lost], out),
			             STELE_OK);
			cr_assert(memcmp(out, b.shard[lost] + off, want) == 0);
			b.row[lost][first].b[0] ^= 1;
			cr_assert_eq(stele_block_rebuild_cells(&b.desc, &plan, first, cells, in,
			                                       b.row[lost], out),
			             STELE_ERR_CORRUPT);
			b.row[lost][first].b[0] ^= 1;
		}
	free(out);
	stele_block_finish(&b);
	guard_destroy(&g);
}
