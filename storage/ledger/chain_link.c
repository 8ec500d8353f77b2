/* Heights from parents. Knows neither files nor formats, and takes hashes as they come. */
#include "storage/ledger/chain_link.h"

#include <stdlib.h>

#include "storage/ledger/bitcoin_block.h"

typedef unsigned __int128 work_t;

#define NONE UINT32_MAX

/* What is worked out about each block; numbers are places in the caller's array. */
struct node {
	uint32_t parent; /* NONE: not among the blocks */
	work_t work;     /* of the whole branch, see root_work; valid when linked */
	uint32_t first;  /* where a duplicate stands first */
	bool done, judged, has_child;
};

struct link {
	const struct stele_link_opts *opts;
	struct stele_link_block *block;
	size_t n;
	struct node *node;
	uint32_t *order; /* places, by hash */
	uint32_t *slot;  /* hash table by height: places + 1, 0 is empty */
	size_t slots;    /* a power of two */
	uint32_t *path;  /* blocks waiting for their parents */
	uint32_t *tips;
	work_t heaviest;
	struct stele_link_result *out;
};

/* ---- by hash ---- */

static int by_hash_then_place(const void *a, const void *b, void *ctx)
{
	const struct stele_link_block *block = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = stele_hash_cmp(&block[x].hash, &block[y].hash);
	return c ? c : (x < y ? -1 : x > y);
}

/* The first place of a block by its hash, or NONE. */
static uint32_t place_of(const struct link *l, const struct stele_hash *hash)
{
	size_t low = 0, high = l->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (stele_hash_cmp(&l->block[l->order[mid]].hash, hash) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == l->n || !stele_hash_equal(&l->block[l->order[low]].hash, hash))
		return NONE;
	return l->order[low];
}

static void enter_all(struct link *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		l->order[i] = i;
	qsort_r(l->order, l->n, sizeof(*l->order), by_hash_then_place, l->block);
	for (uint32_t i = 0; i < l->n; i++) {
		struct stele_link_block *b = &l->block[i];
		struct node *node = &l->node[i];
		node->first = place_of(l, &b->hash);
		node->parent = place_of(l, &b->parent);
		if (node->parent != NONE)
			l->node[node->parent].has_child = true;
		b->duplicate = node->first != i;
		b->linked = b->stale = false;
		b->height = STELE_HEIGHT_UNKNOWN;
		l->out->duplicate += b->duplicate;
	}
}

/* ---- heights ---- */

static work_t own_work(const struct stele_link_block *b)
{
	work_t work = stele_bitcoin_work(b->bits);
	return work ? work : 1;
}

static enum stele_err set_height(struct link *l, struct stele_link_block *b, uint64_t height)
{
	if (b->claimed_height != STELE_HEIGHT_UNKNOWN && b->claimed_height != height) {
		char hex[STELE_HEX_LEN];
		return stele_fail(STELE_ERR_CORRUPT, "block %s says height %llu, its parents %llu",
		                  stele_chain_hash_text(l->opts->chain->family, &b->hash, hex),
		                  (unsigned long long)b->claimed_height,
		                  (unsigned long long)height);
	}
	b->height = height;
	b->linked = true;
	return STELE_OK;
}

/* A block whose parent is not among the blocks: block 0, on an archived one, or not linked. */
static enum stele_err settle_root(struct link *l, uint32_t i)
{
	struct stele_link_block *b = &l->block[i];
	struct stele_hash genesis;
	uint64_t height = 0;
	bool known = stele_chain_genesis(l->opts->chain, &genesis);
	bool zero = known ? stele_hash_equal(&b->hash, &genesis)
	                  : b->claimed_height == 0 && stele_all_zero(b->parent.b, STELE_HASH_LEN);
	enum stele_err err = STELE_ERR_NOT_FOUND;
	if (!zero && l->opts->find)
		err = l->opts->find(l->opts->ctx, &b->parent, &height);
	if (!zero && err != STELE_OK && err != STELE_ERR_NOT_FOUND)
		return err;
	l->node[i].done = true;
	if (!zero && err == STELE_ERR_NOT_FOUND) {
		b->height = b->claimed_height;
		if (l->out->unlinked_roots++ == 0)
			l->out->unlinked_parent = b->parent;
		return STELE_OK;
	}
	if (!zero && height == STELE_HEIGHT_UNKNOWN - 1)
		return stele_fail(STELE_ERR_CORRUPT, "an archived block's height is impossible");
	STELE_TRY(set_height(l, b, zero ? 0 : height + 1));
	/* what is archived below counts as the heaviest block given, so that branches compare */
	l->node[i].work = (work_t)(b->height & UINT32_MAX) * l->heaviest + own_work(b);
	return STELE_OK;
}

static enum stele_err settle_child(struct link *l, uint32_t i)
{
	struct stele_link_block *b = &l->block[i];
	const struct stele_link_block *parent = &l->block[l->node[i].parent];
	l->node[i].done = true;
	if (!parent->linked) {
		b->height = b->claimed_height;
		return STELE_OK;
	}
	l->node[i].work = l->node[l->node[i].parent].work + own_work(b);
	return set_height(l, b, parent->height + 1);
}

/* Settles block i after its parents. A path longer than there are blocks is a cycle, which hashes
 * that were checked cannot form. */
static enum stele_err settle(struct link *l, uint32_t i)
{
	size_t depth = 0;
	while (!l->node[i].done) {
		if (depth == l->n)
			return stele_fail(STELE_ERR_CORRUPT, "blocks are each other's parents");
		l->path[depth++] = i;
		if (l->node[i].parent == NONE)
			break;
		i = l->node[i].parent;
	}
	while (depth) {
		i = l->path[--depth];
		if (l->node[i].parent == NONE)
			STELE_TRY(settle_root(l, i));
		else
			STELE_TRY(settle_child(l, i));
	}
	return STELE_OK;
}

/* ---- best and stale ---- */

static uint32_t *slot_of_height(const struct link *l, uint64_t height)
{
	size_t i = (size_t)height & (l->slots - 1);
	while (l->slot[i] && l->block[l->slot[i] - 1].height != height)
		i = (i + 1) & (l->slots - 1);
	return &l->slot[i];
}

/* From a branch's lowest block that is not judged yet upwards: on the best branch as long as nobody
 * took its height, stale from there on. */
static void judge_branch(struct link *l, uint32_t tip)
{
	size_t depth = 0;
	uint32_t i = tip;
	for (; i != NONE && !l->node[i].judged; i = l->node[i].parent)
		l->path[depth++] = i;
	bool stale = i != NONE && l->block[i].stale;
	while (depth) {
		i = l->path[--depth];
		struct stele_link_block *b = &l->block[i];
		uint32_t *slot = slot_of_height(l, b->height);
		stale = stale || *slot;
		b->stale = stale;
		l->node[i].judged = true;
		if (!stale)
			*slot = i + 1;
	}
}

static int heavier_first(const void *a, const void *b, void *ctx)
{
	const struct link *l = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	if (l->node[x].work != l->node[y].work)
		return l->node[x].work > l->node[y].work ? -1 : 1;
	return x < y ? -1 : x > y; /* the first seen, as the network has it */
}

static void judge_all(struct link *l)
{
	uint32_t *tips = l->tips;
	size_t n = 0;
	for (uint32_t i = 0; i < l->n; i++) {
		if (l->block[i].linked && !l->node[i].has_child && !l->block[i].duplicate)
			tips[n++] = i;
	}
	qsort_r(tips, n, sizeof(*tips), heavier_first, l);
	for (size_t i = 0; i < n; i++)
		judge_branch(l, tips[i]);
}

/* ---- the result ---- */

static enum stele_err count(struct link *l)
{
	struct stele_link_result *out = l->out;
	uint64_t best = 0;
	out->first_height = out->last_height = STELE_HEIGHT_UNKNOWN;
	for (uint32_t i = 0; i < l->n; i++) {
		struct stele_link_block *b = &l->block[i];
		if (b->duplicate) {
			const struct stele_link_block *first = &l->block[l->node[i].first];
			b->height = first->height;
			b->linked = first->linked;
			b->stale = first->stale;
			continue;
		}
		out->linked += b->linked;
		out->stale += b->stale;
		if (!b->linked || b->stale)
			continue;
		STELE_TRY(stele_chain_check(l->opts->chain, b->height, &b->hash));
		if (best == 0 || b->height < out->first_height) {
			out->first_height = b->height;
			out->first_parent = b->parent;
		}
		if (best == 0 || b->height > out->last_height) {
			out->last_height = b->height;
			out->last_hash = b->hash;
		}
		best++;
	}
	out->contiguous = best > 0 && out->last_height - out->first_height + 1 == best;
	return STELE_OK;
}

static enum stele_err run(struct link *l)
{
	enter_all(l);
	for (uint32_t i = 0; i < l->n; i++) {
		if (own_work(&l->block[i]) > l->heaviest)
			l->heaviest = own_work(&l->block[i]);
	}
	for (uint32_t i = 0; i < l->n; i++) {
		if (!l->block[i].duplicate)
			STELE_TRY(settle(l, i));
	}
	judge_all(l);
	return count(l);
}

enum stele_err stele_chain_link(const struct stele_link_opts *opts, struct stele_link_block *blocks,
                                size_t n, struct stele_link_result *out)
{
	*out = (struct stele_link_result){0};
	if (n >= NONE / 4)
		return stele_fail(STELE_ERR_TOO_LARGE, "%zu blocks at once", n);
	struct link l = {.opts = opts, .block = blocks, .n = n, .slots = 16, .out = out};
	while (l.slots < 2 * n)
		l.slots *= 2;
	l.slot = calloc(l.slots, sizeof(*l.slot));
	l.node = calloc(n + 1, sizeof(*l.node));
	l.order = malloc((n + 1) * sizeof(*l.order));
	l.path = malloc((n + 1) * sizeof(*l.path));
	l.tips = malloc((n + 1) * sizeof(*l.tips));
	enum stele_err err = stele_fail(STELE_ERR_NOMEM, "links of %zu blocks", n);
	if (l.slot && l.node && l.order && l.path && l.tips)
		err = run(&l);
	free(l.slot);
	free(l.node);
	free(l.order);
	free(l.path);
	free(l.tips);
	return err;
}

enum stele_err stele_link_judge(const struct stele_file_facts *facts,
                                const struct stele_link_result *result, enum stele_level *level)
{
	*level = result->unlinked_roots ? STELE_LEVEL_BOUND : STELE_LEVEL_LINKED;
	if (facts->gaps && result->unlinked_roots > 1) {
		char hex[STELE_HEX_LEN];
		return stele_fail(
		    STELE_ERR_CORRUPT,
		    "%llu bytes between its blocks are none, and %llu blocks lack their parents "
		    "(the first: %s): import what comes before, or restore the file",
		    (unsigned long long)facts->gap_bytes,
		    (unsigned long long)result->unlinked_roots,
		    stele_chain_hash_text(stele_format_family(facts->format),
		                          &result->unlinked_parent, hex));
	}
	return STELE_OK;
}
