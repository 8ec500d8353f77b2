/* Hashes an ordered list as a Merkle-Patricia trie, without keeping the trie. */
#include "storage/ledger/trie.h"

#include <assert.h>

#include "storage/ledger/keccak.h"
#include "storage/ledger/rlp.h"

#define NIBBLES_MAX 8u /* RLP of an index below 2^24 has at most 4 bytes */
/* A node as its parent holds it: its RLP when that is shorter than 32 bytes, else a hash. */
#define REF_MAX (1u + STELE_HASH_LEN)

struct ref {
	uint8_t bytes[REF_MAX];
	size_t len;
};

/* Index of the value whose key is the i-th in the order of keys: RLP(0) is 0x80, after 0x01..0x7f.
 */
static size_t nth_index(size_t i, size_t n)
{
	size_t small = n - 1 < 0x7f ? n - 1 : 0x7f; /* keys 0x01..0x7f */
	if (i < small)
		return i + 1;
	return i == small ? 0 : i;
}

static size_t key_nibbles(size_t index, uint8_t out[NIBBLES_MAX])
{
	uint8_t key[4];
	size_t len = 0;
	if (index == 0) {
		key[len++] = 0x80;
	} else if (index < 0x80) {
		key[len++] = (uint8_t)index;
	} else {
		size_t bytes = index < 0x100 ? 1 : index < 0x10000 ? 2 : 3;
		key[len++] = (uint8_t)(0x80 + bytes);
		for (size_t b = bytes; b-- > 0;)
			key[len++] = (uint8_t)(index >> (8 * b));
	}
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = key[i] >> 4;
		out[2 * i + 1] = key[i] & 15;
	}
	return 2 * len;
}

/* Hex-prefix encoding of a path. */
static size_t hex_prefix(const uint8_t *nibble, size_t n, bool leaf, uint8_t out[NIBBLES_MAX])
{
	size_t len = 0;
	size_t i = n % 2;
	out[len++] = (uint8_t)((leaf ? 0x20 : 0) | (i ? 0x10 | nibble[0] : 0));
	for (; i < n; i += 2)
		out[len++] = (uint8_t)(nibble[i] << 4 | nibble[i + 1]);
	return len;
}

/* Header (and nothing, for one small byte) of a string; the content follows it. */
static size_t string_header(const uint8_t *p, size_t len, uint8_t out[STELE_RLP_HEADER_MAX])
{
	return len == 1 && p[0] < 0x80 ? 0 : stele_rlp_header(false, len, out);
}

/* A list of a path and something already encoded in two parts (header and content). */
static void node_pair(const uint8_t *path, size_t path_len, struct stele_span head,
                      struct stele_span content, bool root, struct ref *out)
{
	uint8_t ph[STELE_RLP_HEADER_MAX], lh[STELE_RLP_HEADER_MAX];
	size_t ph_len = string_header(path, path_len, ph);
	size_t inside = ph_len + path_len + head.len + content.len;
	size_t lh_len = stele_rlp_header(true, inside, lh);
	if (!root && lh_len + inside < STELE_HASH_LEN) {
		struct stele_writer w = stele_writer(out->bytes, sizeof(out->bytes));
		stele_write_bytes(&w, lh, lh_len);
		stele_write_bytes(&w, ph, ph_len);
		stele_write_bytes(&w, path, path_len);
		stele_write_bytes(&w, head.p, head.len);
		stele_write_bytes(&w, content.p, content.len);
		out->len = stele_written(&w);
		return;
	}
	struct stele_keccak k;
	struct stele_hash h;
	stele_keccak_init(&k);
	stele_keccak_update(&k, lh, lh_len);
	stele_keccak_update(&k, ph, ph_len);
	stele_keccak_update(&k, path, path_len);
	stele_keccak_update(&k, head.p, head.len);
	stele_keccak_update(&k, content.p, content.len);
	stele_keccak_final(&k, &h);
	out->bytes[0] = 0xa0;
	memcpy(out->bytes + 1, h.b, sizeof(h.b));
	out->len = REF_MAX;
}

static void node_branch(const struct ref child[16], bool root, struct ref *out)
{
	uint8_t node[STELE_RLP_HEADER_MAX + 16 * REF_MAX + 1];
	size_t inside = 1; /* the branch's own value: always empty, no key is a prefix of another */
	for (size_t i = 0; i < 16; i++)
		inside += child[i].len;
	struct stele_writer w = stele_writer(node, sizeof(node));
	uint8_t lh[STELE_RLP_HEADER_MAX];
	stele_write_bytes(&w, lh, stele_rlp_header(true, inside, lh));
	for (size_t i = 0; i < 16; i++)
		stele_write_bytes(&w, child[i].bytes, child[i].len);
	stele_write_u8(&w, 0x80);
	assert(!w.bad);
	if (!root && stele_written(&w) < STELE_HASH_LEN) {
		memcpy(out->bytes, node, stele_written(&w));
		out->len = stele_written(&w);
		return;
	}
	struct stele_hash h;
	stele_keccak256(node, stele_written(&w), &h);
	out->bytes[0] = 0xa0;
	memcpy(out->bytes + 1, h.b, sizeof(h.b));
	out->len = REF_MAX;
}

struct walk {
	const struct stele_span *values;
	size_t n;
};

static void node_leaf(const struct walk *walk, size_t i, size_t depth, bool root, struct ref *out)
{
	uint8_t nibble[NIBBLES_MAX], path[NIBBLES_MAX], head[STELE_RLP_HEADER_MAX];
	size_t index = nth_index(i, walk->n);
	size_t count = key_nibbles(index, nibble);
	size_t path_len = hex_prefix(nibble + depth, count - depth, true, path);
	struct stele_span value = walk->values[index];
	size_t head_len = string_header(value.p, value.len, head);
	node_pair(path, path_len, (struct stele_span){head, head_len}, value, root, out);
}

/* The node over keys [from, to) in key order, which agree in their first `depth` nibbles. */
static void node(const struct walk *walk, size_t from, size_t to, size_t depth, struct ref *out)
{
	bool root = depth == 0;
	assert(from < to && depth <= NIBBLES_MAX);
	if (to - from == 1) {
		node_leaf(walk, from, depth, root, out);
		return;
	}
	uint8_t first[NIBBLES_MAX], last[NIBBLES_MAX];
	size_t first_len = key_nibbles(nth_index(from, walk->n), first);
	size_t last_len = key_nibbles(nth_index(to - 1, walk->n), last);
	size_t common = depth;
	while (common < first_len && common < last_len && first[common] == last[common])
		common++;

	struct ref child[16];
	for (size_t i = 0; i < 16; i++)
		child[i] = (struct ref){{0x80}, 1};
	for (size_t at = from; at < to;) {
		uint8_t key[NIBBLES_MAX];
		key_nibbles(nth_index(at, walk->n), key);
		uint8_t slot = key[common];
		/* keys ascend: the end of this slot's run, by halving */
		size_t low = at + 1, high = to;
		while (low < high) {
			size_t mid = low + (high - low) / 2;
			key_nibbles(nth_index(mid, walk->n), key);
			if (key[common] == slot)
				low = mid + 1;
			else
				high = mid;
		}
		node(walk, at, low, common + 1, &child[slot]);
		at = low;
	}
	if (common == depth) {
		node_branch(child, root, out);
		return;
	}
	struct ref branch;
	uint8_t path[NIBBLES_MAX];
	node_branch(child, false, &branch);
	size_t path_len = hex_prefix(first + depth, common - depth, false, path);
	node_pair(path, path_len, (struct stele_span){0},
	          (struct stele_span){branch.bytes, branch.len}, root, out);
}

void stele_trie_root(const struct stele_span *values, size_t n, struct stele_hash *root)
{
	assert(n <= STELE_TRIE_VALUES_MAX);
	if (n == 0) {
		stele_keccak256("\x80", 1, root);
		return;
	}
	struct walk walk = {.values = values, .n = n};
	struct ref out;
	node(&walk, 0, n, 0, &out);
	memcpy(root->b, out.bytes + 1, sizeof(root->b));
}
