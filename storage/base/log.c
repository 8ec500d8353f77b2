/*
 * The log's entries, tiles and tree, and proofs read from tiles. It stores nothing and signs
 * nothing: the sequencer does, through net/anchor.
 */
#include "storage/base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/sha256.h"
#include "storage/base/text.h"

#define BUNDLED_LEN (2u + STELE_LOG_ENTRY_LEN) /* an entry in its tile */

_Static_assert(sizeof(struct stele_hash) == STELE_HASH_LEN, "an edge is a tile's bytes");
_Static_assert(sizeof(struct stele_log_entry) == STELE_LOG_ENTRY_LEN, "an entry is its bytes");
_Static_assert(STELE_LOG_SIZE_MAX >> (8 * STELE_LOG_LEVELS) == 0, "the top level is never full");

/* Entries */

static const uint8_t entry_head[3] = {0x53, 0x4c, 0x01};

void stele_log_entry_make(enum stele_leaf_type type, const void *body, size_t len, const void *sig,
                          size_t sig_len, struct stele_log_entry *out)
{
	static const char domain[] = "stele.dev/leaf/v1\n";
	struct stele_sha256_stream s;
	struct stele_hash hash;
	stele_sha256_init(&s);
	stele_sha256_update(&s, domain, strlen(domain));
	stele_sha256_update(&s, body, len);
	stele_sha256_update(&s, sig, sig_len);
	stele_sha256_value(&s, &hash);
	memcpy(out->b, entry_head, sizeof(entry_head));
	out->b[sizeof(entry_head)] = (uint8_t)type;
	memcpy(out->b + sizeof(entry_head) + 1, hash.b, sizeof(hash.b));
}

bool stele_log_entry_ok(const struct stele_log_entry *entry)
{
	uint8_t type = entry->b[sizeof(entry_head)];
	return memcmp(entry->b, entry_head, sizeof(entry_head)) == 0 &&
	       type >= STELE_LEAF_DEPOSIT && type <= STELE_LEAF_SUCCESSION;
}

void stele_log_leaf(const struct stele_log_entry *entry, struct stele_hash *out)
{
	stele_merkle_leaf(entry->b, sizeof(entry->b), out);
}

void stele_log_id(const char *origin, struct stele_hash *out)
{
	static const char domain[] = "stele.dev/logid/v1\n";
	struct stele_sha256_stream s;
	stele_sha256_init(&s);
	stele_sha256_update(&s, domain, strlen(domain));
	stele_sha256_update(&s, origin, strlen(origin));
	stele_sha256_update(&s, "\n", 1);
	stele_sha256_value(&s, out);
}

/* Tiles and their paths */

size_t stele_log_tile_len(const struct stele_log_tile *tile)
{
	return (size_t)tile->width * (tile->entries ? BUNDLED_LEN : STELE_HASH_LEN);
}

char *stele_log_tile_path(const struct stele_log_tile *tile, char out[STELE_LOG_PATH_MAX])
{
	unsigned group[8], groups = 0;
	uint64_t rest = tile->index;
	int at;
	assert(tile->width >= 1 && tile->width <= STELE_LOG_WIDTH);
	assert(tile->level < STELE_LOG_LEVELS && (!tile->entries || tile->level == 0));
	do {
		assert(groups < sizeof(group) / sizeof(group[0]));
		group[groups++] = (unsigned)(rest % 1000);
		rest /= 1000;
	} while (rest);
	if (tile->entries)
		at = snprintf(out, STELE_LOG_PATH_MAX, "tile/entries");
	else
		at = snprintf(out, STELE_LOG_PATH_MAX, "tile/%u", tile->level);
	while (groups > 0) {
		groups--;
		at += snprintf(out + at, STELE_LOG_PATH_MAX - (size_t)at,
		               groups ? "/x%03u" : "/%03u", group[groups]);
	}
	if (tile->width < STELE_LOG_WIDTH)
		snprintf(out + at, STELE_LOG_PATH_MAX - (size_t)at, ".p/%u", tile->width);
	return out;
}

/* Steps over "ddd"; false: there are no three digits. */
static bool read_group(const char **p, uint64_t *index)
{
	uint64_t v = 0;
	for (int i = 0; i < 3; i++, ++*p) {
		if (**p < '0' || **p > '9')
			return false;
		v = v * 10 + (uint64_t)(**p - '0');
	}
	if (*index > STELE_LOG_SIZE_MAX / 1000)
		return false;
	*index = *index * 1000 + v;
	return *index <= STELE_LOG_SIZE_MAX;
}

static bool read_path(const char *p, struct stele_log_tile *t)
{
	uint64_t width = STELE_LOG_WIDTH;
	if (strncmp(p, "tile/", 5) != 0)
		return false;
	p += 5;
	if (strncmp(p, "entries/", 8) == 0) {
		t->entries = true;
		p += 8;
	} else {
		if (p[0] < '0' || p[0] >= (char)('0' + STELE_LOG_LEVELS) || p[1] != '/')
			return false;
		t->level = (uint8_t)(p[0] - '0');
		p += 2;
	}
	while (*p == 'x') {
		p++;
		if (!read_group(&p, &t->index) || *p++ != '/')
			return false;
	}
	if (!read_group(&p, &t->index))
		return false;
	if (strncmp(p, ".p/", 3) == 0) {
		p += 3;
		if (!stele_text_u64(p, strlen(p), STELE_LOG_WIDTH - 1, &width) || width == 0)
			return false;
		p += strlen(p);
	}
	t->width = (uint16_t)width;
	return *p == '\0';
}

enum stele_err stele_log_tile_parse(const char *path, struct stele_log_tile *out)
{
	struct stele_log_tile t = {0};
	char again[STELE_LOG_PATH_MAX];
	if (!read_path(path, &t) || strcmp(stele_log_tile_path(&t, again), path) != 0)
		return stele_fail(STELE_ERR_INVALID, "\"%.80s\" is no tile's path", path);
	*out = t;
	return STELE_OK;
}

/* The growing tree */

void stele_log_tree_init(struct stele_log_tree *tree)
{
	memset(tree, 0, sizeof(*tree));
}

unsigned stele_log_tree_add(struct stele_log_tree *tree, const struct stele_log_entry *entry,
                            struct stele_log_tile full[STELE_LOG_LEVELS + 1])
{
	unsigned nfull = 0;
	uint64_t count = tree->n; /* complete subtrees of this level before the new one */
	struct stele_hash hash;
	assert(tree->n < STELE_LOG_SIZE_MAX);
	uint8_t *at = tree->bundle + BUNDLED_LEN * stele_log_edge_width(tree->n, 0);
	at[0] = 0;
	at[1] = STELE_LOG_ENTRY_LEN;
	memcpy(at + 2, entry->b, sizeof(entry->b));
	stele_log_leaf(entry, &hash);
	for (unsigned level = 0; level < STELE_LOG_LEVELS; level++) {
		tree->edge[level][count % STELE_LOG_WIDTH] = hash;
		if ((count + 1) % STELE_LOG_WIDTH != 0)
			break;
		struct stele_log_tile tile = {.level = (uint8_t)level,
		                              .width = STELE_LOG_WIDTH,
		                              .index = count / STELE_LOG_WIDTH};
		if (level == 0) {
			full[nfull] = tile;
			full[nfull++].entries = true;
		}
		full[nfull++] = tile;
		stele_merkle_root(tree->edge[level], STELE_LOG_WIDTH, &hash);
		count /= STELE_LOG_WIDTH;
	}
	tree->n++;
	return nfull;
}

unsigned stele_log_tree_partial(const struct stele_log_tree *tree,
                                struct stele_log_tile partial[STELE_LOG_LEVELS + 1])
{
	unsigned n = 0;
	for (unsigned level = 0; level < STELE_LOG_LEVELS; level++) {
		struct stele_log_tile tile = {.level = (uint8_t)level,
		                              .width = stele_log_edge_width(tree->n, level),
		                              .index = tree->n >> (8 * (level + 1))};
		if (tile.width == 0)
			continue;
		if (level == 0) {
			partial[n] = tile;
			partial[n++].entries = true;
		}
		partial[n++] = tile;
	}
	return n;
}

const uint8_t *stele_log_tree_bytes(const struct stele_log_tree *tree,
                                    const struct stele_log_tile *tile)
{
	uint64_t edge = tree->n >> (8 * (tile->level + 1u)); /* index of the unfinished tile */
	if (tile->index == edge)
		assert(tile->width <= stele_log_edge_width(tree->n, tile->level));
	else /* the one that the last add completed */
		assert(tile->index + 1 == edge &&
		       tree->n % ((uint64_t)1 << (8 * (tile->level + 1u))) == 0);
	return tile->entries ? tree->bundle : (const uint8_t *)tree->edge[tile->level];
}

/*
 * At each level, the hashes of the edge and then, as the last and smaller one, what the levels
 * below it come to: RFC 9162 splits at powers of two, so complete subtrees of one size are its
 * leaves.
 */
void stele_log_tree_root(const struct stele_log_tree *tree, struct stele_hash *out)
{
	struct stele_hash below;
	bool have = false;
	for (unsigned level = 0; level < STELE_LOG_LEVELS; level++) {
		uint16_t width = stele_log_edge_width(tree->n, level);
		struct stele_merkle_frontier f;
		if (width == 0)
			continue;
		stele_merkle_frontier_init(&f);
		for (uint16_t i = 0; i < width; i++)
			stele_merkle_frontier_add(&f, &tree->edge[level][i]);
		if (have)
			stele_merkle_frontier_add(&f, &below);
		stele_merkle_frontier_root(&f, &below);
		have = true;
	}
	if (!have)
		stele_merkle_root(NULL, 0, &below);
	*out = below;
}

/* Reading tiles */

struct tiles {
	stele_log_fetch *fetch;
	void *ctx;
	uint64_t n;
	/* of each level, the tile at the right edge and the last other one: a proof needs no more
	 */
	struct {
		bool there;
		uint64_t index;
		struct stele_hash hash[STELE_LOG_WIDTH];
	} kept[STELE_LOG_LEVELS][2];
};

static enum stele_err tiles_open(stele_log_fetch *fetch, void *ctx, uint64_t n, struct tiles **out)
{
	struct tiles *t = calloc(1, sizeof(*t));
	if (!t)
		return stele_fail(STELE_ERR_NOMEM, "log: no memory for tiles");
	t->fetch = fetch;
	t->ctx = ctx;
	t->n = n;
	*out = t;
	return STELE_OK;
}

static enum stele_err fetch_tile(stele_log_fetch *fetch, void *ctx,
                                 const struct stele_log_tile *tile, uint8_t *out)
{
	char path[STELE_LOG_PATH_MAX];
	enum stele_err err = fetch(ctx, tile, out);
	return err ? stele_wrap(err, "%s", stele_log_tile_path(tile, path)) : STELE_OK;
}

/* Root of the complete subtree number `index` of 2^height leaves, which lies within n. */
static enum stele_err subtree(struct tiles *t, unsigned height, uint64_t index,
                              struct stele_hash *out)
{
	struct stele_log_tile tile = {.level = (uint8_t)(height / 8)};
	uint64_t first = index << (height % 8); /* its hashes at that level */
	uint64_t there = t->n >> (8 * tile.level), left;
	tile.index = first / STELE_LOG_WIDTH;
	left = there - tile.index * STELE_LOG_WIDTH;
	tile.width = left < STELE_LOG_WIDTH ? (uint16_t)left : STELE_LOG_WIDTH;
	unsigned which = tile.index == there / STELE_LOG_WIDTH;
	assert(tile.level < STELE_LOG_LEVELS && (index + 1) << height <= t->n);
	if (!t->kept[tile.level][which].there || t->kept[tile.level][which].index != tile.index) {
		t->kept[tile.level][which].there = false;
		STELE_TRY(fetch_tile(t->fetch, t->ctx, &tile,
		                     (uint8_t *)t->kept[tile.level][which].hash));
		t->kept[tile.level][which].there = true;
		t->kept[tile.level][which].index = tile.index;
	}
	stele_merkle_root(t->kept[tile.level][which].hash + first % STELE_LOG_WIDTH,
	                  (size_t)1 << (height % 8), out);
	return STELE_OK;
}

/* Root over leaves [first, first + count): complete subtrees, the smallest at the right. */
static enum stele_err range_root(struct tiles *t, uint64_t first, uint64_t count,
                                 struct stele_hash *out)
{
	uint64_t at = first + count;
	bool have = false;
	for (unsigned height = 0; height < 64 && count >> height; height++) {
		struct stele_hash h;
		if (!(count >> height & 1))
			continue;
		at -= (uint64_t)1 << height;
		STELE_TRY(subtree(t, height, at >> height, &h));
		if (have)
			stele_merkle_node(&h, out, out);
		else
			*out = h;
		have = true;
	}
	return STELE_OK;
}

/* Subtrees of a proof, outermost first, as they are met going down. */
struct walk {
	struct {
		uint64_t first, count;
	} part[STELE_MERKLE_PATH_MAX + 1];
	size_t n;
};

static void walk_add(struct walk *w, uint64_t first, uint64_t count)
{
	assert(w->n < sizeof(w->part) / sizeof(w->part[0]));
	w->part[w->n].first = first;
	w->part[w->n++].count = count;
}

static enum stele_err walk_roots(const struct walk *w, stele_log_fetch *fetch, void *ctx,
                                 uint64_t n, struct stele_hash *path, size_t *path_len)
{
	struct tiles *t = NULL;
	enum stele_err err = tiles_open(fetch, ctx, n, &t);
	if (err)
		return err;
	for (size_t i = 0; i < w->n && !err; i++)
		err = range_root(t, w->part[w->n - 1 - i].first, w->part[w->n - 1 - i].count,
		                 &path[i]);
	free(t);
	if (!err)
		*path_len = w->n;
	return err;
}

/* The largest power of two smaller than n; n >= 2. */
static uint64_t split(uint64_t n)
{
	return (uint64_t)1 << (63 - __builtin_clzll(n - 1));
}

enum stele_err stele_log_inclusion(stele_log_fetch *fetch, void *ctx, uint64_t n, uint64_t index,
                                   struct stele_hash path[STELE_MERKLE_PATH_MAX], size_t *path_len)
{
	struct walk w = {.n = 0};
	uint64_t first = 0, left = n;
	assert(index < n && n <= STELE_LOG_SIZE_MAX);
	while (left > 1) {
		uint64_t k = split(left);
		if (index - first < k) {
			walk_add(&w, first + k, left - k);
			left = k;
		} else {
			walk_add(&w, first, k);
			first += k;
			left -= k;
		}
	}
	return walk_roots(&w, fetch, ctx, n, path, path_len);
}

enum stele_err stele_log_consistency(stele_log_fetch *fetch, void *ctx, uint64_t m, uint64_t n,
                                     struct stele_hash path[STELE_MERKLE_PATH_MAX],
                                     size_t *path_len)
{
	struct walk w = {.n = 0};
	uint64_t first = 0, old = m, left = n;
	bool known = true; /* the subtree in hand is the whole old tree: its root is not repeated */
	assert(0 < m && m <= n && n <= STELE_LOG_SIZE_MAX);
	while (old != left) {
		uint64_t k = split(left);
		if (old <= k) {
			walk_add(&w, first + k, left - k);
			left = k;
		} else {
			walk_add(&w, first, k);
			first += k;
			left -= k;
			old -= k;
			known = false;
		}
	}
	if (!known)
		walk_add(&w, first, left);
	return walk_roots(&w, fetch, ctx, n, path, path_len);
}

static enum stele_err check_bundle(const struct stele_log_tree *tree)
{
	uint16_t width = stele_log_edge_width(tree->n, 0);
	for (uint16_t i = 0; i < width; i++) {
		const uint8_t *at = tree->bundle + (size_t)BUNDLED_LEN * i;
		struct stele_log_entry entry;
		struct stele_hash leaf;
		memcpy(entry.b, at + 2, sizeof(entry.b));
		stele_log_leaf(&entry, &leaf);
		if (at[0] != 0 || at[1] != STELE_LOG_ENTRY_LEN || !stele_log_entry_ok(&entry) ||
		    !stele_hash_equal(&leaf, &tree->edge[0][i]))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "log: entry %" PRIu64 " is not its leaf in the tile",
			                  tree->n - width + i);
	}
	return STELE_OK;
}

enum stele_err stele_log_tree_load(struct stele_log_tree *tree, uint64_t n,
                                   const struct stele_hash *root, stele_log_fetch *fetch, void *ctx)
{
	struct stele_log_tile part[STELE_LOG_LEVELS + 1];
	struct stele_hash got;
	assert(n <= STELE_LOG_SIZE_MAX);
	stele_log_tree_init(tree);
	tree->n = n;
	unsigned parts = stele_log_tree_partial(tree, part);
	for (unsigned i = 0; i < parts; i++)
		STELE_TRY(fetch_tile(fetch, ctx, &part[i],
		                     part[i].entries ? tree->bundle
		                                     : (uint8_t *)tree->edge[part[i].level]));
	STELE_TRY(check_bundle(tree));
	stele_log_tree_root(tree, &got);
	if (!stele_hash_equal(&got, root))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "log: the tiles of size %" PRIu64 " do not lead to its root", n);
	return STELE_OK;
}
