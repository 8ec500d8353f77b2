/*
 * Verifiers of Merkle proofs, fed with numbers and hashes from outside: they end, read nothing beyond
 * what they were given, and accept no altered proof of a tree that this file grew itself.
 *
 * Input: kind1 leaves1 a1 b1, then two 8-byte numbers that are added to the proof's, then bytes that are
 * XORed over the path.
 */
#include <string.h>

#include "storage/base/merkle.h"
#include "storage/base/sha256.h"
#include "tests/fuzz/fuzz.h"

#define LEAVES 48u
#define HEAD   20u

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	if (i >= 60)
		return 0;
	memset(out, 0, HEAD + 96);
	out[0] = (uint8_t)(i % 3);
	out[1] = (uint8_t)(i * 7);
	out[2] = (uint8_t)(i * 3);
	out[3] = (uint8_t)(i * 5);
	return HEAD + 32 * (i % 4);
}

static struct stele_hash leaf[LEAVES];

static void make_leaves(void)
{
	for (uint32_t i = 0; i < LEAVES; i++)
		stele_sha256(&i, sizeof(i), &leaf[i]);
}

/* XORs the input's rest over the path, which it may also shorten or lengthen. True: it is another. */
static bool alter(const uint8_t *data, size_t size, struct stele_hash *path, size_t *len)
{
	struct stele_hash before[2 * STELE_MERKLE_PATH_MAX];
	size_t n = *len;
	memcpy(before, path, sizeof(before));
	size -= HEAD;
	size = size < sizeof(before) ? size : sizeof(before);
	for (size_t i = 0; i < size; i++)
		path[i / STELE_HASH_LEN].b[i % STELE_HASH_LEN] ^= data[HEAD + i];
	if (size > n * STELE_HASH_LEN + 3 * STELE_HASH_LEN)
		*len = size / STELE_HASH_LEN;
	return *len != n || memcmp(before, path, n * sizeof(*path)) != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stele_hash path[2 * STELE_MERKLE_PATH_MAX], root, root_m;
	if (size < HEAD)
		return 0;
	if (leaf[0].b[0] == 0)
		make_leaves();
	memset(path, 0, sizeof(path));
	size_t n = 1 + data[1] % LEAVES, len;
	uint64_t more_a = stele_le64(data + 4), more_b = stele_le64(data + 12);
	stele_merkle_root(leaf, n, &root);
	bool ok, same;
	if (data[0] % 3 == 0) {
		size_t at = data[2] % n;
		len = stele_merkle_path(leaf, n, at, path);
		same = !alter(data, size, path, &len) && !more_a && !more_b;
		ok = stele_merkle_path_ok(&leaf[at], at + more_a, n + more_b, path, len, &root);
		/* Trees of other sizes may have the same path shape: then the size is not proven. */
		FUZZ_CHECK(!same || ok);
		FUZZ_CHECK(!ok || more_b || same);
	} else if (data[0] % 3 == 1) {
		size_t m = 1 + data[2] % n;
		len = stele_merkle_consistency(leaf, m, n, path);
		stele_merkle_root(leaf, m, &root_m);
		same = !alter(data, size, path, &len) && !more_a && !more_b;
		ok = stele_merkle_consistency_ok(m + more_a, n + more_b, path, len, &root_m, &root);
		FUZZ_CHECK(!same || ok);
		FUZZ_CHECK(!ok || more_a || more_b || same);
	} else {
		size_t first = data[2] % n, count = 1 + data[3] % (n - first);
		len = stele_merkle_range_path(leaf, n, first, count, path);
		same = !alter(data, size, path, &len) && !more_a && !more_b;
		/* count stays: the verifier may read that many leaves */
		ok = stele_merkle_range_ok(&leaf[first], first + more_a, count, n + more_b, path,
		                           len, &root);
		FUZZ_CHECK(!same || ok);
		FUZZ_CHECK(!ok || more_a || more_b || same);
	}
	return 0;
}
