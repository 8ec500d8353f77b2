/* Goal: the root of an ordered list equals the yellow paper's definition, checked against a
 * plain trie over (key, value) pairs for every list length around the places where keys change
 * their form. */
#include "storage/ledger/keccak.h"
#include "storage/ledger/rlp.h"
#include "storage/ledger/trie.h"
#include "tests/unit/ledger_fixture.h"

/* ---- the model: appendix D's c(J, i) over pairs, written without regard to speed ---- */

struct pair {
	uint8_t nibble[8];
	size_t n;
	struct stele_span value;
};

static void add_string(struct blob *out, const void *p, size_t len)
{
	uint8_t head[STELE_RLP_HEADER_MAX];
	if (len != 1 || *(const uint8_t *)p >= 0x80)
		blob_add(out, head, stele_rlp_header(false, len, head));
	blob_add(out, p, len);
}

static struct blob as_list(const struct blob *items)
{
	struct blob out = {0};
	uint8_t head[STELE_RLP_HEADER_MAX];
	blob_add(&out, head, stele_rlp_header(true, items->len, head));
	blob_add(&out, items->p, items->len);
	return out;
}

static void add_path(struct blob *out, const uint8_t *nibble, size_t n, bool leaf)
{
	uint8_t hp[8] = {0};
	size_t len = 0;
	unsigned flag = (leaf ? 2 : 0) + n % 2;
	uint8_t all[10] = {(uint8_t)flag};
	size_t count = 1;
	if (n % 2 == 0)
		all[count++] = 0;
	for (size_t i = 0; i < n; i++)
		all[count++] = nibble[i];
	for (size_t i = 0; i < count; i += 2)
		hp[len++] = (uint8_t)(all[i] << 4 | all[i + 1]);
	add_string(out, hp, len);
}

static struct blob model_node(const struct pair *pair, size_t n, size_t depth);

/* n(J, i): the node itself when short, else its hash; an empty string for no pairs. */
static void add_child(struct blob *out, const struct pair *pair, size_t n, size_t depth)
{
	if (n == 0) {
		add_string(out, "", 0);
		return;
	}
	struct blob node = model_node(pair, n, depth);
	if (node.len < 32) {
		blob_add(out, node.p, node.len);
	} else {
		struct stele_hash h;
		stele_keccak256(node.p, node.len, &h);
		add_string(out, h.b, 32);
	}
	blob_free(&node);
}

static struct blob model_node(const struct pair *pair, size_t n, size_t depth)
{
	struct blob items = {0};
	size_t common = depth;
	if (n == 1) {
		add_path(&items, pair[0].nibble + depth, pair[0].n - depth, true);
		add_string(&items, pair[0].value.p, pair[0].value.len);
	} else {
		for (;; common++) {
			bool same = true;
			for (size_t i = 0; i < n; i++)
				same = same && common < pair[i].n &&
				       pair[i].nibble[common] == pair[0].nibble[common];
			if (!same)
				break;
		}
		if (common > depth) {
			add_path(&items, pair[0].nibble + depth, common - depth, false);
			add_child(&items, pair, n, common);
		} else {
			struct pair *of = malloc(n * sizeof(*of));
			for (unsigned slot = 0; slot < 16; slot++) {
				size_t m = 0;
				for (size_t i = 0; i < n; i++) {
					if (pair[i].nibble[depth] == slot)
						of[m++] = pair[i];
				}
				add_child(&items, of, m, depth + 1);
			}
			add_string(&items, "", 0);
			free(of);
		}
	}
	struct blob out = as_list(&items);
	blob_free(&items);
	return out;
}

static void model_root(const struct stele_span *values, size_t n, struct stele_hash *root)
{
	struct pair *pair = calloc(n + 1, sizeof(*pair));
	for (size_t i = 0; i < n; i++) {
		struct blob key = {0};
		uint8_t be[8];
		size_t skip = 0;
		stele_put_be64(be, i);
		while (skip < 8 && be[skip] == 0)
			skip++;
		add_string(&key, be + skip, 8 - skip);
		for (size_t k = 0; k < key.len; k++) {
			pair[i].nibble[pair[i].n++] = key.p[k] >> 4;
			pair[i].nibble[pair[i].n++] = key.p[k] & 15;
		}
		pair[i].value = values[i];
		blob_free(&key);
	}
	struct blob node = {0};
	if (n == 0)
		add_string(&node, "", 0);
	else
		node = model_node(pair, n, 0);
	stele_keccak256(node.p, node.len, root);
	blob_free(&node);
	free(pair);
}

static void compare(size_t n, size_t value_max, uint64_t seed)
{
	uint64_t random = seed;
	struct stele_span *values = calloc(n + 1, sizeof(*values));
	uint8_t *bytes = malloc(value_max * 64 + 64);
	guard_fill(&random, bytes, value_max * 64 + 64);
	for (size_t i = 0; i < n; i++) {
		size_t len = 1 + guard_random(&random) % value_max;
		values[i] =
		    (struct stele_span){bytes + guard_random(&random) % (value_max * 63), len};
	}
	struct stele_hash got, want;
	stele_trie_root(values, n, &got);
	model_root(values, n, &want);
	cr_assert(stele_hash_equal(&got, &want), "%zu values of up to %zu bytes", n, value_max);
	free(values);
	free(bytes);
}

Test(trie, equals_the_definition)
{
	for (size_t n = 0; n <= 300; n++) {
		compare(n, 1, n + 1); /* nodes that lie in their parents */
		compare(n, 12, n + 2);
		compare(n, 40, n + 3);
	}
	compare(1000, 2, 5);
	compare(5000, 300, 6);
}

Test(trie, equals_the_definition_where_keys_grow)
{
	static const size_t lengths[] = {65535, 65536, 65537, 66000};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		compare(lengths[i], 9, i + 1);
}

Test(trie, empty_root_is_the_known_one)
{
	struct stele_hash root;
	stele_trie_root(NULL, 0, &root);
	cr_assert(hash_is(STELE_FAMILY_EVM, &root,
	                  "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"));
}
