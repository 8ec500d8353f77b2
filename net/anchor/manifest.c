/* The manifest: the log's right edge as one object, and the way from it down to every finished
 * tile. It hashes what it stores and checks what it reads; keeping the bytes is its callbacks'
 * work. */
#include "net/anchor/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

static const char magic[4] = {'S', 'L', 'M', '1'};

_Static_assert(sizeof(struct stele_manifest_slot) == 2 * STELE_HASH_LEN,
               "slots are an index's bytes");

void stele_manifest_init(struct stele_manifest *m, const struct stele_hash *log_id)
{
	memset(m, 0, sizeof(*m));
	m->log_id = *log_id;
	stele_log_tree_init(&m->tree);
}

static enum stele_err store(stele_object_put *put, void *ctx, const void *bytes, size_t len,
                            struct stele_hash *id)
{
	stele_sha256(bytes, len, id);
	return put(ctx, id, bytes, len);
}

enum stele_err stele_manifest_add(struct stele_manifest *m, const struct stele_log_entry *entry,
                                  stele_object_put *put, void *ctx)
{
	struct stele_log_tile full[STELE_LOG_LEVELS + 1];
	struct stele_manifest_slot slot = {0};
	unsigned n = stele_log_tree_add(&m->tree, entry, full);
	/* ascending, so that an index is whole before it is stored: its last slot was just set */
	for (unsigned i = 0; i < n; i++) {
		const struct stele_log_tile *t = &full[i];
		const uint8_t *bytes = stele_log_tree_bytes(&m->tree, t);
		if (t->entries) {
			STELE_TRY(store(put, ctx, bytes, stele_log_tile_len(t), &slot.companion));
			continue;
		}
		STELE_TRY(store(put, ctx, bytes, stele_log_tile_len(t), &slot.tile));
		if (t->level > 0)
			STELE_TRY(store(put, ctx, m->slot[t->level], STELE_MANIFEST_INDEX_LEN,
			                &slot.companion));
		assert(t->level + 1u < STELE_LOG_LEVELS);
		m->slot[t->level + 1][t->index % STELE_LOG_WIDTH] = slot;
	}
	return STELE_OK;
}

void stele_manifest_encode(const struct stele_manifest *m, uint8_t *out, size_t *len)
{
	struct stele_writer w = stele_writer(out, STELE_MANIFEST_MAX);
	struct stele_hash root;
	uint64_t n = m->tree.n;
	stele_log_tree_root(&m->tree, &root);
	stele_write_bytes(&w, magic, sizeof(magic));
	stele_write_hash(&w, &m->log_id);
	stele_write_le64(&w, n);
	stele_write_hash(&w, &root);
	stele_write_bytes(&w, m->tree.bundle,
	                  STELE_LOG_BUNDLE_LEN / STELE_LOG_WIDTH * stele_log_edge_width(n, 0));
	for (unsigned level = 1; level < STELE_LOG_LEVELS; level++) {
		size_t width = stele_log_edge_width(n, level);
		stele_write_bytes(&w, m->tree.edge[level], width * STELE_HASH_LEN);
		stele_write_bytes(&w, m->slot[level], width * sizeof(m->slot[level][0]));
	}
	assert(!w.bad);
	*len = stele_written(&w);
}

/* The tree's tiles as they lie in the manifest, for stele_log_tree_load. */
struct parts {
	const uint8_t *bundle;
	const uint8_t *edge[STELE_LOG_LEVELS];
};

static enum stele_err fetch_part(void *ctx, const struct stele_log_tile *tile, uint8_t *out)
{
	const struct parts *p = ctx;
	if (tile->entries) {
		memcpy(out, p->bundle, stele_log_tile_len(tile));
	} else if (tile->level > 0) {
		memcpy(out, p->edge[tile->level], stele_log_tile_len(tile));
	} else { /* not kept: it follows from the entries */
		const size_t each = STELE_LOG_BUNDLE_LEN / STELE_LOG_WIDTH;
		for (size_t i = 0; i < tile->width; i++) {
			struct stele_hash leaf;
			stele_merkle_leaf(p->bundle + each * i + 2, STELE_LOG_ENTRY_LEN, &leaf);
			memcpy(out + STELE_HASH_LEN * i, leaf.b, sizeof(leaf.b));
		}
	}
	return STELE_OK;
}

enum stele_err stele_manifest_decode(const void *bytes, size_t len, const struct stele_hash *log_id,
                                     const uint64_t *size, const struct stele_hash *root,
                                     struct stele_manifest *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	struct parts parts = {0};
	struct stele_hash id, its_root;
	const uint8_t *head = stele_read_span(&r, sizeof(magic));
	stele_read_hash(&r, &id);
	uint64_t n = stele_read_le64(&r);
	stele_read_hash(&r, &its_root);
	if (r.bad || memcmp(head, magic, sizeof(magic)) != 0 || n > STELE_LOG_SIZE_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "manifest: not one (%zu bytes)", len);
	if (!stele_hash_equal(&id, log_id))
		return stele_fail(STELE_ERR_CORRUPT, "manifest: of another log");
	if ((size && n != *size) || (root && !stele_hash_equal(&its_root, root)))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "manifest: of another size or root (%" PRIu64 " leaves)", n);
	stele_manifest_init(out, log_id);
	parts.bundle = stele_read_span(&r, STELE_LOG_BUNDLE_LEN / STELE_LOG_WIDTH *
	                                       stele_log_edge_width(n, 0));
	for (unsigned level = 1; level < STELE_LOG_LEVELS; level++) {
		size_t width = stele_log_edge_width(n, level);
		parts.edge[level] = stele_read_span(&r, width * STELE_HASH_LEN);
		const uint8_t *slots = stele_read_span(&r, width * sizeof(out->slot[0][0]));
		if (slots)
			memcpy(out->slot[level], slots, width * sizeof(out->slot[0][0]));
	}
	if (!stele_read_done(&r))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "manifest: %zu bytes are not those of %" PRIu64 " leaves", len,
		                  n);
	enum stele_err err = stele_log_tree_load(&out->tree, n, &its_root, fetch_part, &parts);
	return err ? stele_wrap(err, "manifest") : STELE_OK;
}

/* Finding tiles */

static enum stele_err get_object(const struct stele_manifest_source *s, const struct stele_hash *id,
                                 uint8_t *out, size_t len)
{
	size_t got;
	STELE_TRY(s->get(s->ctx, id, out, len, &got));
	if (got != len)
		return stele_fail(STELE_ERR_CORRUPT, "an object of %zu bytes, not %zu", got, len);
	return STELE_OK;
}

/*
 * The slot of hash number `at` of a level: in the manifest, when that tile is the unfinished one of
 * its level, else in the index beside the tile, which the slot one level above it names. The walk
 * goes up to the right edge, then down through one index a level.
 */
static enum stele_err find_slot(const struct stele_manifest_source *s, unsigned level, uint64_t at,
                                struct stele_manifest_slot *out)
{
	unsigned top = level;
	while (at >> (8 * (top - level + 1)) != s->m->tree.n >> (8 * (top + 1)))
		top++; /* ends: above the highest level both are 0 */
	assert(top < STELE_LOG_LEVELS);
	struct stele_manifest_slot slot =
	    s->m->slot[top][(at >> (8 * (top - level))) % STELE_LOG_WIDTH];
	struct stele_manifest_slot *index = NULL;
	enum stele_err err = STELE_OK;
	if (top > level) {
		index = malloc(STELE_MANIFEST_INDEX_LEN);
		if (!index)
			return stele_fail(STELE_ERR_NOMEM, "log: no memory for an index");
	}
	for (; top > level && !err; top--) {
		err = get_object(s, &slot.companion, (uint8_t *)index, STELE_MANIFEST_INDEX_LEN);
		if (!err)
			slot = index[(at >> (8 * (top - 1 - level))) % STELE_LOG_WIDTH];
	}
	free(index);
	if (!err)
		*out = slot;
	return err;
}

enum stele_err stele_manifest_fetch(void *source, const struct stele_log_tile *tile, uint8_t *out)
{
	const struct stele_manifest_source *s = source;
	struct stele_manifest_slot slot;
	struct stele_log_tile whole = *tile;
	size_t want = stele_log_tile_len(tile);
	uint64_t n = s->m->tree.n >> (8 * tile->level);
	if (tile->index > n / STELE_LOG_WIDTH ||
	    (tile->index == n / STELE_LOG_WIDTH && tile->width > n % STELE_LOG_WIDTH))
		return stele_fail(STELE_ERR_NOT_FOUND, "the log ends before that tile");
	if (tile->index == n / STELE_LOG_WIDTH) { /* unfinished: in the manifest itself */
		memcpy(out, stele_log_tree_bytes(&s->m->tree, tile), want);
		return STELE_OK;
	}
	STELE_TRY(find_slot(s, tile->level + 1u, tile->index, &slot));
	whole.width = STELE_LOG_WIDTH;
	const struct stele_hash *id = tile->entries ? &slot.companion : &slot.tile;
	if (whole.width == tile->width)
		return get_object(s, id, out, want);
	uint8_t *bytes = malloc(stele_log_tile_len(&whole));
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "log: no memory for a tile");
	enum stele_err err = get_object(s, id, bytes, stele_log_tile_len(&whole));
	if (!err)
		memcpy(out, bytes, want);
	free(bytes);
	return err;
}
