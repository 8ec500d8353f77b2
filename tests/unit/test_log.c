/* Goal: tiles hold what RFC 9162 says of the leaves, proofs from tiles are those of the plain tree,
 * and a tree loaded from tiles goes on as if it had never stopped. The model is
 * storage/base/merkle.c over the whole array of leaves. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "storage/base/log.h"
#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

#define LEAVES 66600u /* beyond 65,536: three levels of tiles */

/* Tiles as they were written, the widest of each kept. */
struct shelf {
	struct {
		uint16_t width;
		uint8_t bytes[STELE_LOG_BUNDLE_LEN];
	} tile[2][STELE_LOG_LEVELS][LEAVES / 256 + 1];
	uint64_t n; /* size that a fetch may ask for */
	unsigned fetches;
};

static struct stele_log_entry entry[LEAVES];
static struct stele_hash leaf[LEAVES];

static void make_leaves(void)
{
	for (uint32_t i = 0; i < LEAVES; i++) {
		stele_log_entry_make(1 + i % 6, &i, sizeof(i), "sig", 3, &entry[i]);
		stele_log_leaf(&entry[i], &leaf[i]);
	}
}

static struct shelf *shelf_create(void)
{
	struct shelf *s = calloc(1, sizeof(*s));
	cr_assert_not_null(s);
	return s;
}

static void shelve(struct shelf *s, const struct stele_log_tree *t,
                   const struct stele_log_tile *tile, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t *width = &s->tile[tile[i].entries][tile[i].level][tile[i].index].width;
		cr_assert_leq(*width, tile[i].width);
		*width = tile[i].width;
		memcpy(s->tile[tile[i].entries][tile[i].level][tile[i].index].bytes,
		       stele_log_tree_bytes(t, &tile[i]), stele_log_tile_len(&tile[i]));
	}
}

static enum stele_err fetch(void *ctx, const struct stele_log_tile *tile, uint8_t *out)
{
	struct shelf *s = ctx;
	uint64_t there = s->n >> (8 * tile->level);
	cr_assert_leq(tile->index * 256 + tile->width, there, "asked beyond size");
	cr_assert(tile->width == 256 || tile->index * 256 + tile->width == there);
	if (s->tile[tile->entries][tile->level][tile->index].width < tile->width)
		return stele_fail(STELE_ERR_NOT_FOUND, "not written");
	memcpy(out, s->tile[tile->entries][tile->level][tile->index].bytes,
	       stele_log_tile_len(tile));
	s->fetches++;
	return STELE_OK;
}

static void grow(struct shelf *s, struct stele_log_tree *t, uint64_t to)
{
	struct stele_log_tile tile[STELE_LOG_LEVELS + 1];
	while (t->n < to)
		shelve(s, t, tile, stele_log_tree_add(t, &entry[t->n], tile));
	shelve(s, t, tile, stele_log_tree_partial(t, tile));
	s->n = t->n;
}

static void check_root(const struct stele_log_tree *t)
{
	struct stele_hash got, want;
	stele_log_tree_root(t, &got);
	stele_merkle_root(leaf, t->n, &want);
	cr_assert(stele_hash_equal(&got, &want), "root of %zu leaves", (size_t)t->n);
}

static void check_inclusion(struct shelf *s, uint64_t index)
{
	struct stele_hash path[STELE_MERKLE_PATH_MAX], want[STELE_MERKLE_PATH_MAX];
	size_t len;
	cr_assert_eq(stele_log_inclusion(fetch, s, s->n, index, path, &len), STELE_OK, "%s",
	             stele_detail());
	cr_assert_eq(len, stele_merkle_path(leaf, s->n, index, want));
	cr_assert_eq(memcmp(path, want, len * sizeof(path[0])), 0, "leaf %zu of %zu", (size_t)index,
	             (size_t)s->n);
}

static void check_consistency(struct shelf *s, uint64_t m)
{
	struct stele_hash path[STELE_MERKLE_PATH_MAX], want[STELE_MERKLE_PATH_MAX];
	size_t len;
	cr_assert_eq(stele_log_consistency(fetch, s, m, s->n, path, &len), STELE_OK, "%s",
	             stele_detail());
	cr_assert_eq(len, stele_merkle_consistency(leaf, m, s->n, want));
	cr_assert_eq(memcmp(path, want, len * sizeof(path[0])), 0, "%zu in %zu", (size_t)m,
	             (size_t)s->n);
}

Test(log, golden_entry_and_id)
{
	struct stele_log_entry e;
	struct stele_hash id;
	char hex[80];
	stele_log_entry_make(STELE_LEAF_DEPOSIT, "body", 4, "signature", 9, &e);
	/* printf 'stele.dev/leaf/v1\nbodysignature' | sha256sum */
	cr_assert_str_eq(
	    stele_hex(e.b, sizeof(e.b), hex),
	    "534c0101bac46cdc94e67eefcfc3c976689b95a96c4a2e109a801a4dcae36a717489895e");
	cr_assert(stele_log_entry_ok(&e));
	e.b[3] = 7;
	cr_assert(!stele_log_entry_ok(&e));
	e.b[3] = 0;
	cr_assert(!stele_log_entry_ok(&e));
	e.b[3] = 6;
	cr_assert(stele_log_entry_ok(&e));
	e.b[2] = 2;
	cr_assert(!stele_log_entry_ok(&e));
	/* printf 'stele.dev/logid/v1\nexample.org/0123\n' | sha256sum */
	stele_log_id("example.org/0123", &id);
	cr_assert_str_eq(stele_hash_hex(&id, hex),
	                 "c4d9c7141202662242486e8d85fd12c9e4dfde2c429f52a8b82d025c0e6b7388");
}

Test(log, tile_paths)
{
	static const struct {
		struct stele_log_tile t;
		const char *path;
	} known[] = {
	    {{.width = 256}, "tile/0/000"},
	    {{.width = 256, .index = 5}, "tile/0/005"},
	    {{.width = 5, .index = 999, .level = 1}, "tile/1/999.p/5"},
	    {{.width = 255, .index = 1000, .level = 2}, "tile/2/x001/000.p/255"},
	    {{.width = 256, .index = 1234067}, "tile/0/x001/x234/067"}, /* C2SP's own example */
	    {{.width = 1, .index = 70000, .entries = true}, "tile/entries/x070/000.p/1"},
	    {{.width = 256, .index = STELE_LOG_SIZE_MAX / 256, .entries = true},
	     "tile/entries/x035/x184/x372/x088/831"},
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		char path[STELE_LOG_PATH_MAX];
		struct stele_log_tile back;
		cr_assert_str_eq(stele_log_tile_path(&known[i].t, path), known[i].path);
		cr_assert_eq(stele_log_tile_parse(path, &back), STELE_OK, "%s", path);
		cr_assert_eq(back.entries, known[i].t.entries);
		cr_assert_eq(back.level, known[i].t.level);
		cr_assert_eq(back.index, known[i].t.index);
		cr_assert_eq(back.width, known[i].t.width);
	}
	static const char *const bad[] = {"",
	                                  "tile",
	                                  "tile/",
	                                  "tile/0",
	                                  "tile/0/",
	                                  "tile/0/00",
	                                  "tile/0/0000",
	                                  "tile/7/000",
	                                  "tile/-1/000",
	                                  "tile/00/000",
	                                  "tile/0/x000/001",
	                                  "tile/0/x01/001",
	                                  "tile/0/001/002",
	                                  "tile/0/001.p/0",
	                                  "tile/0/001.p/256",
	                                  "tile/0/001.p/05",
	                                  "tile/0/001.p/",
	                                  "tile/0/001.p",
	                                  "tile/0/001/",
	                                  "tile/entries",
	                                  "tile/entries/0/000",
	                                  "tile/data/000",
	                                  "/tile/0/000",
	                                  "tile/0/x999/x999/x999/x999/x999/x999/999",
	                                  "tile/0/xx01/000"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stele_log_tile back;
		cr_assert_eq(stele_log_tile_parse(bad[i], &back), STELE_ERR_INVALID, "%s", bad[i]);
	}
}

Test(log, every_small_size_and_place)
{
	struct stele_log_tree *t = malloc(sizeof(*t));
	struct shelf *s = shelf_create();
	make_leaves();
	stele_log_tree_init(t);
	check_root(t);
	for (uint64_t n = 1; n <= 60; n++) {
		grow(s, t, n);
		check_root(t);
		for (uint64_t i = 0; i < n; i++) {
			check_inclusion(s, i);
			check_consistency(s, i + 1);
		}
	}
	free(t);
	free(s);
}

Test(log, sizes_around_full_tiles)
{
	static const uint64_t sizes[] = {255,   256,   257,   511,   512,   513,   65279, 65280,
	                                 65281, 65535, 65536, 65537, 65791, 65792, 66049, 66600};
	struct stele_log_tree *t = malloc(sizeof(*t));
	struct shelf *s = shelf_create();
	uint64_t seed = 5;
	make_leaves();
	stele_log_tree_init(t);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		uint64_t n = sizes[k];
		grow(s, t, n);
		check_root(t);
		uint64_t at[] = {0,
		                 1,
		                 254,
		                 255,
		                 n / 2,
		                 n - 1,
		                 n - 2,
		                 guard_random(&seed) % n,
		                 n > 256 ? 256 : 0,
		                 n / 256 * 256 - (n % 256 == 0)};
		for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
			if (at[i] >= n)
				continue;
			check_inclusion(s, at[i]);
			check_consistency(s, at[i] + 1);
		}
	}
	/* a proof reads each level's two tiles at most once or twice, not one per sibling */
	s->fetches = 0;
	check_inclusion(s, 300);
	cr_assert_leq(s->fetches, 6u);
	free(t);
	free(s);
}

Test(log, tiles_are_what_c2sp_says)
{
	struct stele_log_tree *t = malloc(sizeof(*t));
	struct shelf *s = shelf_create();
	struct stele_hash h;
	make_leaves();
	stele_log_tree_init(t);
	grow(s, t, 66000);
	for (uint64_t i = 0; i < 66000; i++) {
		const uint8_t *bundled = s->tile[1][0][i / 256].bytes + 38 * (i % 256);
		cr_assert_arr_eq(bundled, "\x00\x24", 2);
		cr_assert_eq(memcmp(bundled + 2, entry[i].b, 36), 0);
		cr_assert_eq(memcmp(s->tile[0][0][i / 256].bytes + 32 * (i % 256), leaf[i].b, 32),
		             0);
	}
	for (uint64_t i = 0; i < 66000 / 256; i++) {
		stele_merkle_root(leaf + 256 * i, 256, &h);
		cr_assert_eq(memcmp(s->tile[0][1][i / 256].bytes + 32 * (i % 256), h.b, 32), 0);
	}
	stele_merkle_root(leaf, 65536, &h);
	cr_assert_eq(memcmp(s->tile[0][2][0].bytes, h.b, 32), 0);
	cr_assert_eq(s->tile[0][2][0].width, 1);
	cr_assert_eq(s->tile[0][0][257].width, 66000 % 256);
	free(t);
	free(s);
}

Test(log, loaded_tree_goes_on)
{
	struct stele_log_tree *t = malloc(sizeof(*t)), *u = malloc(sizeof(*u));
	struct shelf *s = shelf_create();
	static const uint64_t sizes[] = {0, 1, 255, 256, 257, 700, 65535, 65536, 65800};
	make_leaves();
	stele_log_tree_init(t);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct stele_hash root;
		grow(s, t, sizes[k]);
		stele_log_tree_root(t, &root);
		memset(u, 0xee, sizeof(*u));
		cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s), STELE_OK, "%s",
		             stele_detail());
		check_root(u);
		struct stele_log_tile a[STELE_LOG_LEVELS + 1];
		for (unsigned i = 0; i < 300; i++)
			stele_log_tree_add(u, &entry[u->n], a);
		check_root(u);
		root.b[7] ^= 1;
		cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s), STELE_ERR_CORRUPT);
	}
	free(t);
	free(u);
	free(s);
}

Test(log, every_changed_bit_of_the_edge_is_found)
{
	struct stele_log_tree *t = malloc(sizeof(*t)), *u = malloc(sizeof(*u));
	struct shelf *s = shelf_create();
	struct stele_hash root;
	make_leaves();
	stele_log_tree_init(t);
	grow(s, t, 256 + 3);
	stele_log_tree_root(t, &root);
	for (unsigned e = 0; e < 2; e++)
		for (size_t bit = 0; bit < 8u * 3u * (e ? 38u : 32u); bit++) {
			s->tile[e][0][1].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s),
			             STELE_ERR_CORRUPT, "bit %zu", bit);
			s->tile[e][0][1].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	s->tile[0][1][0].bytes[31] ^= 1;
	cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s), STELE_ERR_CORRUPT);
	s->tile[0][1][0].width = 0;
	cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s), STELE_ERR_NOT_FOUND);
	cr_assert_not_null(strstr(stele_detail(), "tile/1/000.p/1"));
	free(t);
	free(u);
	free(s);
}

Test(log, entries_of_unknown_types_are_refused)
{
	struct stele_log_tree *t = malloc(sizeof(*t)), *u = malloc(sizeof(*u));
	struct shelf *s = shelf_create();
	struct stele_hash root;
	make_leaves();
	entry[2].b[3] = 99;
	stele_log_leaf(&entry[2], &leaf[2]);
	stele_log_tree_init(t);
	grow(s, t, 5);
	check_root(t);
	stele_log_tree_root(t, &root);
	cr_assert_eq(stele_log_tree_load(u, s->n, &root, fetch, s), STELE_ERR_CORRUPT);
	cr_assert_not_null(strstr(stele_detail(), "entry 2"));
	free(t);
	free(u);
	free(s);
}
