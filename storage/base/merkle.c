/*
 * Merkle trees of RFC 9162, from arrays of leaf hashes and as growing frontiers. No leaf data is
 * kept and nothing is cached: a root costs n - 1 nodes, a path about as much.
 *
 * A subtree is named by its first leaf and its size; every walk goes down at most 64 levels.
 */
#include "storage/base/merkle.h"

#include <assert.h>

#include "storage/base/sha256.h"

#define LEAVES_MAX ((uint64_t)1 << 63)

void stele_merkle_leaf(const void *data, size_t len, struct stele_hash *out)
{
	struct stele_sha256_stream s;
	stele_sha256_init(&s);
	stele_sha256_update(&s, "\x00", 1);
	stele_sha256_update(&s, data, len);
	stele_sha256_value(&s, out);
}

void stele_merkle_node(const struct stele_hash *l, const struct stele_hash *r,
                       struct stele_hash *out)
{
	uint8_t bytes[1 + 2 * STELE_HASH_LEN];
	bytes[0] = 0x01;
	memcpy(bytes + 1, l->b, sizeof(l->b));
	memcpy(bytes + 1 + sizeof(l->b), r->b, sizeof(r->b));
	stele_sha256(bytes, sizeof(bytes), out);
}

/* The largest power of two smaller than n; n >= 2. */
static uint64_t split(uint64_t n)
{
	return (uint64_t)1 << (63 - __builtin_clzll(n - 1));
}

void stele_merkle_frontier_init(struct stele_merkle_frontier *f)
{
	f->n = 0;
	f->nroots = 0;
}

void stele_merkle_frontier_add(struct stele_merkle_frontier *f, const struct stele_hash *leaf)
{
	struct stele_hash h = *leaf;
	assert(f->n < LEAVES_MAX);
	/* Each trailing one bit of n is a complete subtree as large as what we hold. */
	for (uint64_t n = f->n; n & 1; n >>= 1) {
		f->nroots--;
		stele_merkle_node(&f->root[f->nroots], &h, &h);
	}
	f->root[f->nroots++] = h;
	f->n++;
}

void stele_merkle_frontier_root(const struct stele_merkle_frontier *f, struct stele_hash *out)
{
	if (f->nroots == 0) {
		stele_sha256("", 0, out);
		return;
	}
	struct stele_hash h = f->root[f->nroots - 1];
	for (uint32_t i = f->nroots - 1; i-- > 0;)
		stele_merkle_node(&f->root[i], &h, &h);
	*out = h;
}

void stele_merkle_root(const struct stele_hash *leaf, size_t n, struct stele_hash *out)
{
	struct stele_merkle_frontier f;
	stele_merkle_frontier_init(&f);
	for (size_t i = 0; i < n; i++)
		stele_merkle_frontier_add(&f, &leaf[i]);
	stele_merkle_frontier_root(&f, out);
}

size_t stele_merkle_path(const struct stele_hash *leaf, size_t n, size_t index,
                         struct stele_hash *path)
{
	struct {
		size_t first, n;
	} sibling[STELE_MERKLE_PATH_MAX];
	size_t depth = 0, first = 0;
	assert(index < n);
	while (n > 1) {
		size_t k = split(n);
		bool right = index - first >= k;
		sibling[depth].first = right ? first : first + k;
		sibling[depth++].n = right ? k : n - k;
		first += right ? k : 0;
		n = right ? n - k : k;
	}
	for (size_t i = 0; i < depth; i++) /* a path goes from the leaf up */
		stele_merkle_root(leaf + sibling[depth - 1 - i].first, sibling[depth - 1 - i].n,
		                  &path[i]);
	return depth;
}

bool stele_merkle_path_ok(const struct stele_hash *leaf, uint64_t index, uint64_t n,
                          const struct stele_hash *path, size_t path_len,
                          const struct stele_hash *root)
{
	struct stele_hash h = *leaf;
	if (index >= n)
		return false;
	uint64_t fn = index, sn = n - 1;
	for (size_t i = 0; i < path_len; i++) {
		if (sn == 0)
			return false;
		if ((fn & 1) || fn == sn) {
			stele_merkle_node(&path[i], &h, &h);
			while (fn && !(fn & 1)) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			stele_merkle_node(&h, &path[i], &h);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0 && stele_hash_equal(&h, root);
}

size_t stele_merkle_consistency(const struct stele_hash *leaf, size_t m, size_t n,
                                struct stele_hash *path)
{
	struct {
		size_t first, n;
	} subtree[STELE_MERKLE_PATH_MAX + 1];
	size_t depth = 0, first = 0;
	bool known =
	    true; /* the subtree in hand is the old tree itself: the verifier has its root */
	assert(0 < m && m <= n);
	while (m != n) {
		size_t k = split(n);
		bool right = m > k;
		subtree[depth].first = right ? first : first + k;
		subtree[depth++].n = right ? k : n - k;
		first += right ? k : 0;
		n = right ? n - k : k;
		m -= right ? k : 0;
		known = known && !right;
	}
	if (!known) {
		subtree[depth].first = first;
		subtree[depth++].n = n;
	}
	for (size_t i = 0; i < depth; i++)
		stele_merkle_root(leaf + subtree[depth - 1 - i].first, subtree[depth - 1 - i].n,
		                  &path[i]);
	return depth;
}

bool stele_merkle_consistency_ok(uint64_t m, uint64_t n, const struct stele_hash *path,
                                 size_t path_len, const struct stele_hash *root_m,
                                 const struct stele_hash *root_n)
{
	if (m == 0 || m > n)
		return false;
	if (m == n)
		return path_len == 0 && stele_hash_equal(root_m, root_n);
	uint64_t fn = m - 1, sn = n - 1;
	while (fn & 1) {
		fn >>= 1;
		sn >>= 1;
	}
	/* A power of two: the old root itself starts the path and is not repeated in it. */
	const struct stele_hash *start = root_m;
	size_t i = 0;
	if ((m & (m - 1)) != 0) {
		if (path_len == 0)
			return false;
		start = &path[i++];
	}
	struct stele_hash fr = *start, sr = *start;
	for (; i < path_len; i++) {
		if (sn == 0)
			return false;
		if ((fn & 1) || fn == sn) {
			stele_merkle_node(&path[i], &fr, &fr);
			stele_merkle_node(&path[i], &sr, &sr);
			while (fn && !(fn & 1)) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			stele_merkle_node(&sr, &path[i], &sr);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0 && stele_hash_equal(&fr, root_m) && stele_hash_equal(&sr, root_n);
}

/*
 * Ranges. Both sides walk the tree from the left; a subtree outside the range is one hash of the
 * path, one inside it is computed from the range, others are split. Depth is at most 64.
 */
struct range_walk {
	uint64_t first, end; /* the range */
	const struct stele_hash *leaf;
	struct stele_hash *out;        /* prover: receives the path */
	const struct stele_hash *path; /* verifier */
	size_t path_len;
	size_t used;
	bool bad;
};

static void prove_range(struct range_walk *w, uint64_t first, uint64_t n)
{
	if (w->end <= first || first + n <= w->first) {
		stele_merkle_root(w->leaf + first, n, &w->out[w->used++]);
	} else if (first < w->first || w->end < first + n) {
		uint64_t k = split(n);
		prove_range(w, first, k);
		prove_range(w, first + k, n - k);
	}
}

size_t stele_merkle_range_path(const struct stele_hash *leaf, size_t n, size_t first, size_t count,
                               struct stele_hash *path)
{
	struct range_walk w = {.first = first, .end = first + count, .leaf = leaf, .out = path};
	assert(count > 0 && count <= n && first <= n - count);
	prove_range(&w, 0, n);
	return w.used;
}

static void check_range(struct range_walk *w, uint64_t first, uint64_t n, struct stele_hash *out)
{
	if (w->end <= first || first + n <= w->first) {
		w->bad |= w->used >= w->path_len;
		if (!w->bad)
			*out = w->path[w->used++];
	} else if (w->first <= first && first + n <= w->end) {
		stele_merkle_root(w->leaf + (first - w->first), n, out);
	} else {
		struct stele_hash l, r;
		uint64_t k = split(n);
		check_range(w, first, k, &l);
		if (!w->bad)
			check_range(w, first + k, n - k, &r);
		if (!w->bad)
			stele_merkle_node(&l, &r, out);
	}
}

bool stele_merkle_range_ok(const struct stele_hash *range, uint64_t first, uint64_t count,
                           uint64_t n, const struct stele_hash *path, size_t path_len,
                           const struct stele_hash *root)
{
	struct stele_hash h;
	if (n > LEAVES_MAX || count == 0 || count > n || first > n - count)
		return false;
	struct range_walk w = {.first = first,
	                       .end = first + count,
	                       .leaf = range,
	                       .path = path,
	                       .path_len = path_len};
	check_range(&w, 0, n, &h);
	return !w.bad && w.used == path_len && stele_hash_equal(&h, root);
}
