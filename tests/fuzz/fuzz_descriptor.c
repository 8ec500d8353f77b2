/*
 * Descriptors and code names. What decodes is canonical: it encodes to the same bytes, its numbers are
 * within the limits that others allocate by, and its lengths fit each other. A block whose root hashes
 * are garbage is then read and rebuilt from: that ends in an error, not in a crash.
 */
#include <string.h>

#include "erasure/block.h"
#include "storage/base/merkle.h"
#include "tests/fuzz/fuzz.h"

static const char *const codes[] = {"rep-1",      "rep-3",     "rs-1-1",     "rs-4-2",
                                    "rs-10-4",    "rs-32-8",   "lrc-12-2-2", "lrc-12-2-3",
                                    "lrc-20-4-2", "lrc-15-3-3"};
static const uint32_t lengths[] = {1, 64, 65537, 1000000, STELE_BLOCK_LEN_MAX};
#define CODES   (sizeof(codes) / sizeof(codes[0]))
#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	struct stele_descriptor d;
	struct stele_code_id id;
	if (i >= CODES * LENGTHS + CODES)
		return 0;
	if (i >= CODES * LENGTHS) { /* a name */
		const char *name = codes[i - CODES * LENGTHS];
		memcpy(out, name, strlen(name));
		return strlen(name);
	}
	FUZZ_CHECK(stele_code_id_parse(codes[i % CODES], &id) == STELE_OK);
	FUZZ_CHECK(stele_descriptor_init(&d, &id, lengths[i / CODES]) == STELE_OK);
	memset(d.root, (int)i, sizeof(d.root));
	return stele_descriptor_encode(&d, out);
}

static void check_lengths(const struct stele_descriptor *d)
{
	uint32_t cells = stele_descriptor_cells(d);
	FUZZ_CHECK(d->n >= 1 && d->n <= STELE_CODE_N_MAX);
	FUZZ_CHECK(d->code.k >= 1 && d->code.k <= STELE_CODE_K_MAX);
	FUZZ_CHECK(d->length >= 1 && d->length <= STELE_BLOCK_LEN_MAX);
	FUZZ_CHECK(d->S >= 1 && d->S <= STELE_SHARD_LEN_MAX && d->S % STELE_SHARD_ALIGN == 0);
	FUZZ_CHECK(d->S * d->code.k >= d->length);
	FUZZ_CHECK(cells >= 1 && cells <= STELE_SHARD_CELLS_MAX);
	uint64_t bytes = 0;
	for (uint32_t c = 0; c < cells; c++)
		bytes += stele_descriptor_cell_len(d, c);
	FUZZ_CHECK(bytes == d->S);
	struct stele_part part[STELE_CODE_K_MAX];
	uint32_t parts = stele_block_map_range(d, d->length / 3, d->length - d->length / 3, part);
	FUZZ_CHECK(parts >= 1 && parts <= d->code.k);
	FUZZ_CHECK(part[parts - 1].shard < d->code.k);
}

/* Shards of zeros, of which whatever is computed is zero too: good where a root is that of zeros (the
 * fuzzer does find it), bad everywhere else. */
static void check_use(const struct stele_descriptor *d)
{
	static uint8_t shard[STELE_CODE_N_MAX][4096];
	uint8_t *at[STELE_CODE_N_MAX];
	uint64_t all = ((uint64_t)1 << d->n) - 1, bad = 0;
	struct stele_hash zeros;
	const struct stele_code *code;
	if (d->S > sizeof(shard[0]))
		return;
	stele_merkle_leaf(shard[0], d->S, &zeros);
	for (uint32_t i = 0; i < d->n; i++) {
		at[i] = shard[i];
		if (!stele_hash_equal(stele_descriptor_root(d, i), &zeros))
			bad |= (uint64_t)1 << i;
	}
	FUZZ_CHECK(stele_block_find_bad(d, all, (const uint8_t *const *)at) == bad);
	enum stele_err err = stele_block_rebuild(d, all & ~(uint64_t)1, 1, at, NULL);
	if (stele_code_find(&d->code, &code) != STELE_OK)
		FUZZ_CHECK(err == STELE_ERR_INVALID);
	else if (stele_code_t(code) == 0)
		FUZZ_CHECK(err == STELE_ERR_UNAVAILABLE);
	else
		FUZZ_CHECK(err == (bad & 1 ? STELE_ERR_CORRUPT : STELE_OK));
}

static void check_name(const uint8_t *data, size_t size)
{
	char name[STELE_NAME_MAX], again[STELE_NAME_MAX];
	struct stele_code_id id;
	size_t len = size < sizeof(name) - 1 ? size : sizeof(name) - 1;
	memcpy(name, data, len);
	name[len] = '\0';
	if (stele_code_id_parse(name, &id) != STELE_OK)
		return;
	FUZZ_CHECK(stele_code_id_check(&id) == STELE_OK);
	FUZZ_CHECK(strcmp(stele_code_id_name(&id, again), name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stele_descriptor d, whole;
	uint8_t again[STELE_DESCRIPTOR_MAX];
	size_t used;
	if (size)
		check_name(data, size);
	enum stele_err err = stele_descriptor_decode_prefix(data, size, &d, &used);
	enum stele_err exact = stele_descriptor_decode(data, size, &whole);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_CORRUPT);
	FUZZ_CHECK((exact == STELE_OK) == (err == STELE_OK && used == size));
	if (err != STELE_OK)
		return 0;
	FUZZ_CHECK(used <= size && used == stele_descriptor_len(&d));
	FUZZ_CHECK(stele_descriptor_encode(&d, again) == used);
	FUZZ_CHECK(memcmp(again, data, used) == 0);
	check_lengths(&d);
	check_use(&d);
	return 0;
}
