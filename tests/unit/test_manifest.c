/* Goal: from a manifest alone every tile of the log is found again, at O(1) objects a checkpoint; a
 * manifest read goes on where it was written; a spoilt one is refused. */
#include "tests/unit/log_world.h"

#define LEAVES 66000u

/* Objects in a table: a log of three levels has too many for a list. */
#define SLOTS 4096u
static struct {
	struct stele_hash id;
	uint8_t *bytes;
	size_t len;
} slot[SLOTS];
static unsigned objects, gets;

static unsigned find(const struct stele_hash *id)
{
	unsigned i = stele_le32(id->b) % SLOTS;
	while (slot[i].bytes && !stele_hash_equal(&slot[i].id, id))
		i = (i + 1) % SLOTS;
	return i;
}

static enum stele_err put(void *ctx, const struct stele_hash *id, const void *bytes, size_t len)
{
	unsigned i = find(id);
	cr_assert_null(ctx);
	cr_assert_null(slot[i].bytes, "stored twice");
	slot[i].id = *id;
	slot[i].bytes = malloc(len);
	cr_assert_not_null(slot[i].bytes);
	memcpy(slot[i].bytes, bytes, len);
	slot[i].len = len;
	objects++;
	return STELE_OK;
}

static enum stele_err get(void *ctx, const struct stele_hash *id, uint8_t *out, size_t cap,
                          size_t *len)
{
	unsigned i = find(id);
	cr_assert_null(ctx);
	gets++;
	if (!slot[i].bytes)
		return stele_fail(STELE_ERR_NOT_FOUND, "no such object");
	cr_assert_leq(slot[i].len, cap);
	memcpy(out, slot[i].bytes, slot[i].len);
	*len = slot[i].len;
	return STELE_OK;
}

static struct stele_hash leaf[LEAVES];
static const struct stele_hash log_id = {{0x10, 0x6d}};

static void add(struct stele_manifest *m)
{
	struct stele_log_entry e;
	uint64_t n = m->tree.n;
	stele_log_entry_make(STELE_LEAF_DEPOSIT, &n, sizeof(n), "s", 1, &e);
	stele_log_leaf(&e, &leaf[n]);
	cr_assert_eq(stele_manifest_add(m, &e, put, NULL), STELE_OK);
}

static void check_tiles(const struct stele_manifest *m, uint64_t n)
{
	struct stele_manifest_source source = {m, get, NULL};
	struct stele_hash root;
	uint64_t seed = n;
	stele_merkle_root(leaf, n, &root);
	for (unsigned k = 0; k < 40; k++) {
		struct stele_hash path[STELE_MERKLE_PATH_MAX];
		size_t len;
		uint64_t i = k == 0 ? 0 : k == 1 ? n - 1 : guard_random(&seed) % n;
		cr_assert_eq(stele_log_inclusion(stele_manifest_fetch, &source, n, i, path, &len),
		             STELE_OK, "leaf %zu of %zu: %s", (size_t)i, (size_t)n, stele_detail());
		cr_assert(stele_merkle_path_ok(&leaf[i], i, n, path, len, &root));
	}
}

Test(manifest, every_tile_is_found_at_any_size, .timeout = 60)
{
	static const uint64_t sizes[] = {1,     2,     255,   256,   257,   512,   600,
	                                 65279, 65280, 65535, 65536, 65537, 65792, 66000};
	struct stele_manifest *m = malloc(sizeof(*m)), *back = malloc(sizeof(*back));
	uint8_t *bytes = malloc(STELE_MANIFEST_MAX), *again = malloc(STELE_MANIFEST_MAX);
	size_t len, again_len;
	cr_assert(m && back && bytes && again);
	stele_manifest_init(m, &log_id);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stele_hash root;
		while (m->tree.n < sizes[k])
			add(m);
		stele_manifest_encode(m, bytes, &len);
		cr_assert_leq(len, STELE_INLINE_MAX); /* a record holds it */
		stele_merkle_root(leaf, sizes[k], &root);
		memset(back, 0xee, sizeof(*back));
		cr_assert_eq(stele_manifest_decode(bytes, len, &log_id, &sizes[k], &root, back),
		             STELE_OK, "%s", stele_detail());
		stele_manifest_encode(back, again, &again_len);
		cr_assert_eq(again_len, len);
		cr_assert_eq(memcmp(again, bytes, len), 0);
		check_tiles(back, sizes[k]);
		/* older checkpoints are proven from the newest manifest, too */
		for (size_t old = 0; old < k; old++)
			check_tiles(back, sizes[old]);
		/* what was read goes on as what was written: its objects are known already */
		struct stele_manifest *t = m;
		m = back;
		back = t;
	}
	/* two objects for 256 leaves, two for 65,536; no more */
	cr_assert_eq(objects, 2 * (LEAVES / 256) + 2 * (LEAVES / 65536));
	free(m);
	free(back);
	free(bytes);
	free(again);
}

Test(manifest, a_proof_asks_for_few_objects)
{
	struct stele_manifest *m = malloc(sizeof(*m));
	struct stele_hash path[STELE_MERKLE_PATH_MAX];
	size_t len;
	stele_manifest_init(m, &log_id);
	while (m->tree.n < LEAVES)
		add(m);
	struct stele_manifest_source source = {m, get, NULL};
	gets = 0;
	cr_assert_eq(stele_log_inclusion(stele_manifest_fetch, &source, LEAVES, 300, path, &len),
	             STELE_OK);
	cr_assert_leq(gets, 4u); /* two tiles, and an index to find one */
	free(m);
}

Test(manifest, the_end_of_the_log_is_known)
{
	struct stele_manifest *m = malloc(sizeof(*m));
	uint8_t out[STELE_LOG_BUNDLE_LEN];
	stele_manifest_init(m, &log_id);
	for (int i = 0; i < 300; i++)
		add(m);
	struct stele_manifest_source source = {m, get, NULL};
	struct stele_log_tile tile = {.width = 45, .index = 1};
	cr_assert_eq(stele_manifest_fetch(&source, &tile, out), STELE_ERR_NOT_FOUND);
	tile.width = 44;
	cr_assert_eq(stele_manifest_fetch(&source, &tile, out), STELE_OK);
	cr_assert_arr_eq(out + 43 * 32, leaf[299].b, 32);
	tile = (struct stele_log_tile){.width = 7, .index = 0}; /* a part of a full one */
	cr_assert_eq(stele_manifest_fetch(&source, &tile, out), STELE_OK);
	cr_assert_arr_eq(out + 6 * 32, leaf[6].b, 32);
	tile = (struct stele_log_tile){.width = 256, .index = 0, .entries = true};
	cr_assert_eq(stele_manifest_fetch(&source, &tile, out), STELE_OK);
	cr_assert_arr_eq(out + 255 * 38, "\x00\x24\x53\x4c\x01\x01", 6);
	tile.index = 2;
	tile.width = 1;
	cr_assert_eq(stele_manifest_fetch(&source, &tile, out), STELE_ERR_NOT_FOUND);
	free(m);
}

/* Every byte but the ids leads to the root, and so no change of it passes. */
Test(manifest, changed_bytes_are_refused)
{
	struct stele_manifest *m = malloc(sizeof(*m)), *back = malloc(sizeof(*back));
	uint8_t *bytes = malloc(STELE_MANIFEST_MAX);
	size_t len, ids = 0;
	stele_manifest_init(m, &log_id);
	for (int i = 0; i < 256 + 3; i++)
		add(m);
	stele_manifest_encode(m, bytes, &len);
	cr_assert_eq(len, 76u + 3u * 38u + 32u + 64u);
	cr_assert_arr_eq(bytes, "SLM1\x10\x6d", 6);
	for (size_t i = 0; i < len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1u << bit);
			if (stele_manifest_decode(bytes, len, &log_id, NULL, NULL, back) ==
			    STELE_OK) {
				cr_assert_geq(i, len - 64, "byte %zu", i);
				ids++;
			}
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	cr_assert_eq(ids, 64u * 8u);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(stele_manifest_decode(bytes, cut, &log_id, NULL, NULL, back),
		             STELE_ERR_CORRUPT);
	uint64_t size = 258;
	cr_assert_eq(stele_manifest_decode(bytes, len, &log_id, &size, NULL, back),
	             STELE_ERR_CORRUPT);
	free(m);
	free(back);
	free(bytes);
}
