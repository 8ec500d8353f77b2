/*
 * Goal: trees, paths, consistency proofs, ranges and frontiers are RFC 9162's: the published test
 * vectors of Certificate Transparency, and the RFC's own recursive definitions as a model for every
 * tree of up to 70 leaves; a proof that was altered in any way is refused.
 */
#include <criterion/criterion.h>

#include "storage/base/merkle.h"
#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

#define N_MAX 70

static struct stele_hash leaf[N_MAX];

/* The definitions of RFC 9162, 2.1, word for word. */
static size_t model_split(size_t n)
{
	size_t k = 1;
	while (2 * k < n)
		k *= 2;
	return k;
}

static struct stele_hash model_root(size_t first, size_t n)
{
	struct stele_hash l, r, out;
	if (n == 0) {
		stele_sha256("", 0, &out);
		return out;
	}
	if (n == 1)
		return leaf[first];
	size_t k = model_split(n);
	l = model_root(first, k);
	r = model_root(first + k, n - k);
	uint8_t bytes[65] = {1};
	memcpy(bytes + 1, l.b, 32);
	memcpy(bytes + 33, r.b, 32);
	stele_sha256(bytes, sizeof(bytes), &out);
	return out;
}

static size_t model_path(size_t m, size_t first, size_t n, struct stele_hash *out)
{
	if (n == 1)
		return 0;
	size_t k = model_split(n), len;
	if (m < k) {
		len = model_path(m, first, k, out);
		out[len] = model_root(first + k, n - k);
	} else {
		len = model_path(m - k, first + k, n - k, out);
		out[len] = model_root(first, k);
	}
	return len + 1;
}

static size_t model_subproof(size_t m, size_t first, size_t n, bool known, struct stele_hash *out)
{
	if (m == n) {
		if (known)
			return 0;
		out[0] = model_root(first, n);
		return 1;
	}
	size_t k = model_split(n), len;
	if (m <= k) {
		len = model_subproof(m, first, k, known, out);
		out[len] = model_root(first + k, n - k);
	} else {
		len = model_subproof(m - k, first + k, n - k, false, out);
		out[len] = model_root(first, k);
	}
	return len + 1;
}

static void random_leaves(void)
{
	uint64_t seed = 9;
	guard_fill(&seed, leaf, sizeof(leaf));
}

static void assert_hex(const struct stele_hash *got, const char *want)
{
	char hex[STELE_HEX_LEN];
	cr_assert_str_eq(stele_hash_hex(got, hex), want);
}

/* The eight leaves of Certificate Transparency's reference tests, and their roots for 0 to 8. */
static void published_leaves(void)
{
	static const char *const input[8] = {"",
	                                     "00",
	                                     "10",
	                                     "2021",
	                                     "3031",
	                                     "40414243",
	                                     "5051525354555657",
	                                     "606162636465666768696a6b6c6d6e6f"};
	for (int i = 0; i < 8; i++) {
		uint8_t bytes[16];
		size_t len = strlen(input[i]) / 2;
		cr_assert(stele_unhex(input[i], 2 * len, bytes, len, true));
		stele_merkle_leaf(bytes, len, &leaf[i]);
	}
}

Test(merkle, published_roots)
{
	static const char *const root[9] = {
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
	published_leaves();
	for (size_t n = 0; n <= 8; n++) {
		struct stele_hash h;
		stele_merkle_root(leaf, n, &h);
		assert_hex(&h, root[n]);
	}
}

Test(merkle, published_proofs)
{
	struct stele_hash path[STELE_MERKLE_PATH_MAX];
	published_leaves();
	/* inclusion of leaf 5 in 8, and consistency of 6 with 8 */
	cr_assert_eq(stele_merkle_path(leaf, 8, 5, path), 3u);
	assert_hex(&path[0], "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b");
	assert_hex(&path[1], "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
	assert_hex(&path[2], "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7");
	cr_assert_eq(stele_merkle_consistency(leaf, 6, 8, path), 3u);
	assert_hex(&path[0], "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a");
	assert_hex(&path[1], "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
	assert_hex(&path[2], "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7");
}

Test(merkle, roots_and_frontiers_match_the_model)
{
	struct stele_merkle_frontier f;
	struct stele_hash got;
	random_leaves();
	stele_merkle_frontier_init(&f);
	for (size_t n = 0; n <= N_MAX; n++) {
		struct stele_hash want = model_root(0, n);
		stele_merkle_root(leaf, n, &got);
		cr_assert(stele_hash_equal(&got, &want));
		stele_merkle_frontier_root(&f, &got);
		cr_assert(stele_hash_equal(&got, &want));
		cr_assert_eq(f.n, n);
		if (n < N_MAX)
			stele_merkle_frontier_add(&f, &leaf[n]);
	}
}

Test(merkle, paths_match_the_model_and_altered_ones_are_refused)
{
	struct stele_hash path[STELE_MERKLE_PATH_MAX + 1], want[STELE_MERKLE_PATH_MAX];
	random_leaves();
	for (size_t n = 1; n <= N_MAX; n++) {
		struct stele_hash root = model_root(0, n), other = root;
		other.b[31] ^= 1;
		for (size_t i = 0; i < n; i++) {
			size_t len = stele_merkle_path(leaf, n, i, path);
			cr_assert_eq(len, model_path(i, 0, n, want));
			cr_assert(memcmp(path, want, len * sizeof(*path)) == 0);
			cr_assert(stele_merkle_path_ok(&leaf[i], i, n, path, len, &root));
			cr_assert(!stele_merkle_path_ok(&leaf[i], i, n, path, len, &other));
			cr_assert(!stele_merkle_path_ok(&leaf[i], n, n, path, len, &root));
			cr_assert(!stele_merkle_path_ok(&leaf[i], i, n, path, len + 1, &root));
			if (len)
				cr_assert(
				    !stele_merkle_path_ok(&leaf[i], i, n, path, len - 1, &root));
			for (size_t j = 0; j < n; j++)
				if (j != i)
					cr_assert(!stele_merkle_path_ok(&leaf[i], j, n, path, len,
					                                &root));
			for (size_t j = 0; j < len; j++) {
				path[j].b[0] ^= 1;
				cr_assert(!stele_merkle_path_ok(&leaf[i], i, n, path, len, &root));
				path[j].b[0] ^= 1;
			}
		}
	}
}

Test(merkle, consistency_matches_the_model_and_altered_ones_are_refused)
{
	struct stele_hash path[STELE_MERKLE_PATH_MAX + 1], want[STELE_MERKLE_PATH_MAX];
	memset(path, 0, sizeof(path));
	random_leaves();
	for (size_t n = 1; n <= N_MAX; n++) {
		struct stele_hash root_n = model_root(0, n);
		for (size_t m = 1; m <= n; m++) {
			struct stele_hash root_m = model_root(0, m), other = root_m;
			size_t len = stele_merkle_consistency(leaf, m, n, path);
			cr_assert_eq(len, model_subproof(m, 0, n, true, want));
			cr_assert(memcmp(path, want, len * sizeof(*path)) == 0);
			cr_assert(stele_merkle_consistency_ok(m, n, path, len, &root_m, &root_n));
			cr_assert(
			    !stele_merkle_consistency_ok(m, n, path, len + 1, &root_m, &root_n));
			other.b[5] ^= 0x80;
			cr_assert(!stele_merkle_consistency_ok(m, n, path, len, &other, &root_n));
			other = root_n;
			other.b[5] ^= 0x80;
			cr_assert(!stele_merkle_consistency_ok(m, n, path, len, &root_m, &other));
			for (size_t j = 0; j < len; j++) {
				path[j].b[31] ^= 1;
				cr_assert(!stele_merkle_consistency_ok(m, n, path, len, &root_m,
				                                       &root_n));
				path[j].b[31] ^= 1;
			}
			if (len)
				cr_assert(!stele_merkle_consistency_ok(m, n, path, len - 1, &root_m,
				                                       &root_n));
		}
		cr_assert(!stele_merkle_consistency_ok(0, n, path, 0, &root_n, &root_n));
		cr_assert(!stele_merkle_consistency_ok(n + 1, n, path, 0, &root_n, &root_n));
	}
}

/* The definition: outside is one hash, inside nothing, otherwise left then right. */
static size_t model_range(size_t first, size_t n, size_t from, size_t to, struct stele_hash *out)
{
	if (to <= first || first + n <= from) {
		out[0] = model_root(first, n);
		return 1;
	}
	if (from <= first && first + n <= to)
		return 0;
	size_t k = model_split(n);
	size_t len = model_range(first, k, from, to, out);
	return len + model_range(first + k, n - k, from, to, out + len);
}

Test(merkle, ranges_match_the_model_and_altered_ones_are_refused)
{
	struct stele_hash path[2 * STELE_MERKLE_PATH_MAX + 1], want[2 * STELE_MERKLE_PATH_MAX];
	memset(path, 0, sizeof(path));
	random_leaves();
	for (size_t n = 1; n <= N_MAX; n++) {
		struct stele_hash root = model_root(0, n), other = root;
		other.b[9] ^= 4;
		for (size_t first = 0; first < n; first++)
			for (size_t count = 1; count <= n - first; count++) {
				size_t len = stele_merkle_range_path(leaf, n, first, count, path);
				struct stele_hash *r = &leaf[first];
				cr_assert_eq(len, model_range(0, n, first, first + count, want));
				cr_assert(memcmp(path, want, len * sizeof(*path)) == 0);
				cr_assert(
				    stele_merkle_range_ok(r, first, count, n, path, len, &root));
				cr_assert(
				    !stele_merkle_range_ok(r, first, count, n, path, len, &other));
				cr_assert(!stele_merkle_range_ok(r, first, count, n, path, len + 1,
				                                 &root));
				if (len) {
					size_t j = (first + count) % len;
					cr_assert(!stele_merkle_range_ok(r, first, count, n, path,
					                                 len - 1, &root));
					path[j].b[0] ^= 1;
					cr_assert(!stele_merkle_range_ok(r, first, count, n, path,
					                                 len, &root));
					path[j].b[0] ^= 1;
				}
				size_t victim = first + n % count;
				leaf[victim].b[0] ^= 1;
				cr_assert(
				    !stele_merkle_range_ok(r, first, count, n, path, len, &root));
				leaf[victim].b[0] ^= 1;
			}
	}
}

Test(merkle, absurd_sizes_are_refused)
{
	struct stele_hash h[4];
	memset(h, 0, sizeof(h));
	cr_assert(!stele_merkle_range_ok(h, 0, 0, 4, h, 2, h));
	cr_assert(!stele_merkle_range_ok(h, 2, UINT64_MAX, 4, h, 2, h));
	cr_assert(!stele_merkle_range_ok(h, UINT64_MAX, 2, 4, h, 2, h));
	cr_assert(!stele_merkle_range_ok(h, 0, 1, UINT64_MAX, h, 2, h));
	cr_assert(!stele_merkle_range_ok(h, 1ull << 62, 1, 1ull << 63, h, 4, h));
	cr_assert(!stele_merkle_path_ok(h, UINT64_MAX - 1, UINT64_MAX, h, 4, h));
	cr_assert(!stele_merkle_consistency_ok(3, UINT64_MAX, h, 4, h, h));
}
