/*
 * Goal: every kernel is SHA-256: NIST's vectors, every length around the block edges at every
 * alignment, random messages in any mix of lanes against OpenSSL, nothing read outside the input;
 * a stream is the same however it is cut, and whether it rides with cells or alone.
 * STELE_TEST_FULL=1 hashes ten times as many random messages.
 */
#include <criterion/criterion.h>
#include <openssl/evp.h>

#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

static void reference(const void *data, size_t len, struct stele_hash *out)
{
	cr_assert(EVP_Digest(data, len, out->b, NULL, EVP_sha256(), NULL));
}

static void reference_leaf(const void *data, size_t len, struct stele_hash *out)
{
	static uint8_t prefixed[1 + STELE_CELL_LEN];
	prefixed[0] = 0;
	memcpy(prefixed + 1, data, len);
	reference(prefixed, len + 1, out);
}

static void assert_hash(const struct stele_hash *got, const struct stele_hash *want)
{
	cr_assert_arr_eq(got->b, want->b, STELE_HASH_LEN);
}

static void assert_hex(const struct stele_hash *got, const char *want)
{
	char hex[STELE_HEX_LEN];
	cr_assert_str_eq(stele_hash_hex(got, hex), want);
}

/* Calls `test` once for each kernel that this CPU runs. */
static void with_each_kernel(void (*test)(void))
{
	int ran = 0;
	for (const char *const *k = stele_sha256_kernels(); *k; k++)
		if (stele_sha256_use(*k)) {
			cr_assert_str_eq(stele_sha256_kernel(), *k);
			test();
			ran++;
		}
	cr_assert_geq(ran, 1);
	cr_assert(stele_sha256_use(NULL));
}

/* FIPS 180-4 and NIST's CAVP: the examples, and messages of 0, 8, 16, 32, 512 and 1,000,000 bytes
 */
static void nist(void)
{
	static const struct {
		const char *text;
		const char *hash;
	} v[] = {
	    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmno"
	     "pqr"
	     "lmnopqrsmnopqrstnopqrstu",
	     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	    {"\xd3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"},
	    {"\x11\xaf", "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98"},
	    {"\x74\xba\x25\x21",
	     "b16aa56be3880d18cd41e68384cf1ec8c17680c45a02b1575dc1518923ae8b0e"},
	};
	struct stele_hash h;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		stele_sha256(v[i].text, strlen(v[i].text), &h);
		assert_hex(&h, v[i].hash);
	}
	char *a = malloc(1000000);
	cr_assert_not_null(a);
	memset(a, 'a', 1000000);
	stele_sha256(a, 1000000, &h);
	assert_hex(&h, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(a);
}

Test(sha256, nist_vectors)
{
	with_each_kernel(nist);
}

static void every_length(void)
{
	uint64_t seed = 1;
	struct guard g = guard_create(1024);
	guard_fill(&seed, g.begin, g.len);
	for (size_t len = 0; len <= 400; len++) {
		struct stele_hash got, want;
		const uint8_t *p = guard_end(&g, len); /* every alignment, and nothing behind */
		reference(p, len, &want);
		stele_sha256(p, len, &got);
		assert_hash(&got, &want);
		reference_leaf(p, len, &want);
		if (len) {
			stele_sha256_cells(p, len, &got);
			assert_hash(&got, &want);
		}
	}
	guard_destroy(&g);
}

Test(sha256, every_length_and_alignment)
{
	with_each_kernel(every_length);
}

static void any_cut(void)
{
	uint64_t seed = 2;
	uint8_t data[700];
	struct stele_hash got, want;
	guard_fill(&seed, data, sizeof(data));
	for (int round = 0; round < 3000; round++) {
		size_t len = guard_random(&seed) % sizeof(data), at = 0;
		struct stele_sha256_stream s;
		stele_sha256_init(&s);
		while (at < len) {
			size_t take = guard_random(&seed) % 150;
			take = take < len - at ? take : len - at;
			stele_sha256_update(&s, data + at, take);
			at += take;
			reference(data, at, &want);
			stele_sha256_value(&s, &got); /* leaves the stream as it is */
			assert_hash(&got, &want);
		}
	}
}

Test(sha256, stream_is_the_same_however_it_is_cut)
{
	with_each_kernel(any_cut);
}

/* Random messages in batches, through the lanes. */
static void random_messages(void)
{
	enum { BATCH = 64, BYTES = 512 };
	static struct stele_hash got[BATCH];
	static struct stele_sha256_message m[BATCH];
	uint64_t seed = 3;
	struct guard g = guard_create(GUARD_PAGE);
	const char *longer = getenv("STELE_TEST_FULL");
	int batches = longer && longer[0] == '1' ? 400000 : 40000;
	for (int b = 0; b < batches; b++) {
		for (int i = 0; i < 64; i++)
			stele_put_le64(g.begin + guard_random(&seed) % (g.len - 8),
			               guard_random(&seed));
		for (int i = 0; i < BATCH; i++) {
			uint64_t r = guard_random(&seed);
			m[i].len = (r & 3) ? r >> 8 & 127 : (r >> 8) % BYTES;
			size_t off = (r >> 32) % (g.len - m[i].len + 1);
			m[i].data = (r & 4) ? guard_end(&g, m[i].len) : g.begin + off;
			m[i].out = &got[i];
		}
		size_t n = guard_random(&seed) % (BATCH + 1);
		memset(got, 0xee, sizeof(got));
		stele_sha256_many(m, n);
		for (size_t i = 0; i < n; i++) {
			struct stele_hash want;
			reference(m[i].data, m[i].len, &want);
			assert_hash(&got[i], &want);
		}
	}
	guard_destroy(&g);
}

Test(sha256, random_messages_against_openssl)
{
	with_each_kernel(random_messages);
}

/* Cells with and without an object's stream, from any length and any state of the stream. */
static void cells(void)
{
	uint64_t seed = 4;
	const size_t max = 20 * STELE_CELL_LEN + 77;
	static struct stele_hash leaf[21], plain[21];
	struct guard g = guard_create(max);
	guard_fill(&seed, g.begin, g.len);
	for (int round = 0; round < 60; round++) {
		static const size_t lens[] = {0,
		                              1,
		                              62,
		                              63,
		                              64,
		                              65535,
		                              65536,
		                              65537,
		                              3 * 65536,
		                              5 * 65536 + 62,
		                              20 * 65536 + 77};
		size_t len = round < 11 ? lens[round] : guard_random(&seed) % max;
		size_t n = (len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
		const uint8_t *p = guard_end(&g, len);
		struct stele_sha256_stream object, alone;
		struct stele_hash got, want;
		stele_sha256_init(&object);
		stele_sha256_update(&object, g.begin, guard_random(&seed) % 130);
		alone = object;
		stele_sha256_update(&alone, p, len);
		stele_sha256_value(&alone, &want);
		stele_sha256_cells_and_stream(p, len, leaf, &object);
		stele_sha256_value(&object, &got);
		assert_hash(&got, &want);
		/* and it goes on from there */
		stele_sha256_update(&object, "more", 4);
		stele_sha256_update(&alone, "more", 4);
		stele_sha256_value(&object, &got);
		stele_sha256_value(&alone, &want);
		assert_hash(&got, &want);
		stele_sha256_cells(p, len, plain);
		for (size_t i = 0; i < n; i++) {
			size_t off = i * STELE_CELL_LEN;
			size_t cell = len - off < STELE_CELL_LEN ? len - off : STELE_CELL_LEN;
			reference_leaf(p + off, cell, &want);
			assert_hash(&leaf[i], &want);
			assert_hash(&plain[i], &want);
		}
	}
	guard_destroy(&g);
}

Test(sha256, cells_and_the_stream_beside_them)
{
	with_each_kernel(cells);
}

Test(sha256, unknown_kernel_is_refused)
{
	const char *before = stele_sha256_kernel();
	cr_assert(!stele_sha256_use("none such"));
	cr_assert_str_eq(stele_sha256_kernel(), before);
	cr_assert(stele_sha256_use("openssl"));
}
