/* Goal: everything that a Bitcoin block's hash binds is checked, on real blocks and on mined
 * ones with witnesses: any changed bit, doubled transactions (CVE-2012-2459), witnesses taken
 * out or in, second encodings of numbers, work that is too easy. */
#include "storage/ledger/bitcoin_block.h"
#include "tests/unit/ledger_fixture.h"

static struct stele_bitcoin_scratch scratch;

static enum stele_err check(const uint8_t *p, size_t len, const char *chain_name,
                            struct stele_bitcoin_block *out)
{
	struct stele_chain chain;
	cr_assert_eq(stele_chain_find(chain_name, &chain), STELE_OK);
	return stele_bitcoin_block_check(&scratch, p, len, &chain, out);
}

static void refused(const struct blob *b, const char *chain, const char *why)
{
	struct stele_bitcoin_block out;
	cr_assert_eq(check(b->p, b->len, chain, &out), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), why), "\"%s\", expected: %s", stele_detail(), why);
}

/* Block number n of a mined chain, without its frame. */
static struct blob mined_block(struct stele_miner_opts opts, size_t n)
{
	struct blob file = mined_file(opts, n + 1);
	size_t at = 0;
	for (size_t i = 0; i < n; i++)
		at += 8 + stele_le32(file.p + at + 4);
	struct blob b = blob_copy(file.p + at + 8, stele_le32(file.p + at + 4));
	blob_free(&file);
	return b;
}

/* ---- a second, plainer reader of transactions: where each lies, and its witness ---- */

struct tx_place {
	size_t at, len, witness_at, witness_len;
};

static uint64_t compact(const uint8_t *p, size_t *at)
{
	uint8_t first = p[(*at)++];
	uint64_t v = first;
	if (first == 0xfd) {
		v = stele_le16(p + *at);
		*at += 2;
	} else if (first == 0xfe) {
		v = stele_le32(p + *at);
		*at += 4;
	}
	return v;
}

static void skip_bytes(const uint8_t *p, size_t *at)
{
	uint64_t n = compact(p, at);
	*at += n;
}

static size_t read_places(const struct blob *b, struct tx_place *out)
{
	size_t at = 80;
	uint64_t n = compact(b->p, &at);
	for (uint64_t i = 0; i < n; i++) {
		struct tx_place *t = &out[i];
		*t = (struct tx_place){.at = at};
		at += 4;
		bool witness = b->p[at] == 0;
		at += witness ? 2 : 0;
		uint64_t inputs = compact(b->p, &at);
		for (uint64_t k = 0; k < inputs; k++) {
			at += 36;
			skip_bytes(b->p, &at);
			at += 4;
		}
		for (uint64_t outputs = compact(b->p, &at); outputs; outputs--) {
			at += 8;
			skip_bytes(b->p, &at);
		}
		t->witness_at = at;
		for (uint64_t k = 0; witness && k < inputs; k++) {
			for (uint64_t items = compact(b->p, &at); items; items--)
				skip_bytes(b->p, &at);
		}
		t->witness_len = at - t->witness_at;
		at += 4;
		t->len = at - t->at;
	}
	cr_assert_eq(at, b->len);
	return n;
}

/* The block with the transactions chosen stripped of their witnesses. */
static struct blob stripped(const struct blob *b, bool first, bool others)
{
	static struct tx_place place[70000];
	size_t n = read_places(b, place);
	struct blob out = blob_copy(b->p, place[0].at);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = b->p + place[i].at;
		size_t to = place[i].witness_at - place[i].at;
		if (place[i].witness_len == 0 || !(i == 0 ? first : others)) {
			blob_add(&out, p, place[i].len);
			continue;
		}
		blob_add(&out, p, 4);
		blob_add(&out, p + 6, to - 6);
		blob_add(&out, p + place[i].len - 4, 4);
	}
	return out;
}

/* ---- real blocks ---- */

/* The Merkle root by the definition, from the plainer reader. */
static void plain_root(const struct blob *b, struct stele_hash *root)
{
	static struct tx_place place[70000];
	static struct stele_hash level[70001];
	size_t n = read_places(b, place);
	for (size_t i = 0; i < n; i++)
		stele_bitcoin_hash(b->p + place[i].at, place[i].len, &level[i]);
	for (; n > 1; n = (n + 1) / 2) {
		level[n] = level[n - 1];
		for (size_t i = 0; i < n; i += 2)
			stele_bitcoin_hash(&level[i], 64, &level[i / 2]);
	}
	*root = level[0];
}

/* A megabyte, 1,557 transactions. The copy at hand when this was written is damaged behind its
 * header (its transactions do not hash to its Merkle root): then that must be what it is refused
 * for. */
Test(bitcoin_block, raw_mainnet_block)
{
	struct blob b = data_file("bitcoin/mainnet-413567.raw");
	struct stele_bitcoin_block out;
	struct stele_hash root;
	cr_assert_eq(b.len, 999887u);
	cr_assert_eq(stele_bitcoin_header_check(b.p, NULL, &out), STELE_OK);
	cr_assert(hash_is(STELE_FAMILY_BITCOIN, &out.hash,
	                  "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069"));
	plain_root(&b, &root);
	if (memcmp(root.b, b.p + 36, 32) != 0) {
		refused(&b, "bitcoin", "Merkle root does not match");
	} else {
		cr_assert_eq(check(b.p, b.len, "bitcoin", &out), STELE_OK, "%s", stele_detail());
		cr_assert(out.length == b.len && out.tx_count == 1557);
	}
	blob_free(&b);
}

/* What follows a block is the caller's to judge; what is in it is not. */
Test(bitcoin_block, large_mainnet_block)
{
	struct blob b = data_file("bitcoin/mainnet-277647.dat");
	struct stele_bitcoin_block out;
	uint64_t random = 277647;
	cr_assert_eq(check(b.p + 8, b.len - 8, "bitcoin", &out), STELE_OK, "%s", stele_detail());
	cr_assert_eq(out.length, b.len - 8);
	blob_add(&b, "x", 1);
	cr_assert_eq(check(b.p + 8, b.len - 8, "bitcoin", &out), STELE_OK);
	cr_assert_eq(out.length, b.len - 9);
	for (int i = 0; i < 1000; i++) {
		size_t bit = 64 + guard_random(&random) % (8 * (b.len - 9));
		b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(check(b.p + 8, b.len - 9, "bitcoin", &out), STELE_ERR_CORRUPT);
		b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		size_t cut = guard_random(&random) % (b.len - 9);
		cr_assert_eq(check(b.p + 8, cut, "bitcoin", &out), STELE_ERR_CORRUPT);
	}
	blob_free(&b);
}

Test(bitcoin_block, doubled_transactions_are_refused)
{
	struct blob file = data_file("bitcoin/mainnet-277647.dat");
	struct blob b = blob_copy(file.p + 8, file.len - 8);
	static struct tx_place place[1000];
	struct stele_bitcoin_block out;
	size_t n = read_places(&b, place);
	cr_assert_eq(n, 213u);
	cr_assert_eq(check(b.p, b.len, "bitcoin", &out), STELE_OK);
	cr_assert_eq(out.tx_count, 213u);
	/* 213 = 1 + 4 * 53: doubling the last one, or the last 1 + 4 (rounded up) at a higher
	 * level, keeps the root: CVE-2012-2459 */
	struct blob twice = blob_copy(b.p, b.len);
	blob_add(&twice, b.p + place[n - 1].at, place[n - 1].len);
	twice.p[80] = (uint8_t)(n + 1);
	refused(&twice, "bitcoin", "equal neighbours");
	for (size_t k = 0; k < 2; k++)
		blob_add(&twice, b.p + place[n - 1].at, place[n - 1].len);
	twice.p[80] = (uint8_t)(n + 3);
	refused(&twice, "bitcoin", "equal neighbours");
	blob_free(&twice);
	blob_free(&b);
	blob_free(&file);
}

/* ---- mined blocks ---- */

/* A bit changed anywhere is refused, but for the header's on a chain where every other header has
 * enough work: that is another block, which the links do not know. */
static void flip_all(struct blob *b, size_t step)
{
	struct stele_bitcoin_block good, out;
	cr_assert_eq(check(b->p, b->len, "bitcoin-regtest", &good), STELE_OK, "%s", stele_detail());
	cr_assert_eq(good.length, b->len);
	for (size_t bit = 0; bit < 8 * b->len; bit += step) {
		b->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		enum stele_err err = check(b->p, b->len, "bitcoin-regtest", &out);
		if (err == STELE_OK && out.length == b->len) {
			bool root = bit / 8 >= 36 && bit / 8 < 68;
			cr_assert(bit < 640 && !root, "bit %zu", bit);
			cr_assert_not(stele_hash_equal(&out.hash, &good.hash));
		} else {
			cr_assert(err == STELE_ERR_CORRUPT || out.length != b->len);
		}
		b->p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < b->len; cut += step)
		cr_assert_eq(check(b->p, cut, "bitcoin-regtest", &out), STELE_ERR_CORRUPT);
}

Test(bitcoin_block, every_bit_of_mined_blocks)
{
	for (int legacy = 0; legacy < 2; legacy++) {
		struct stele_miner_opts opts = {.seed = 8, .block_len = 4000, .legacy = legacy};
		struct blob b = mined_block(opts, 120);
		cr_assert_gt(b.len, 2500u);
		flip_all(&b, 1);
		blob_free(&b);
	}
}

Test(bitcoin_block, witnesses)
{
	struct stele_miner_opts opts = {.seed = 5, .block_len = 20000};
	struct stele_miner_opts bare = {.seed = 5, .block_len = 20000, .legacy = true};
	struct blob b = mined_block(opts, 110), plain = mined_block(bare, 110), c;
	struct stele_bitcoin_block out;
	static struct tx_place place[1000];

	cr_assert_eq(check(b.p, b.len, "bitcoin-regtest", &out), STELE_OK, "%s", stele_detail());
	cr_assert(out.witness);
	cr_assert_eq(check(plain.p, plain.len, "bitcoin-regtest", &out), STELE_OK);
	cr_assert_not(out.witness);

	c = stripped(&b, true, true);
	refused(&c, "bitcoin-regtest", "taken out");
	/* the txids are right all the same: a reader that looks at them alone would not notice */
	cr_assert_eq(stele_bitcoin_block_check(&scratch, c.p, c.len, NULL, &out), STELE_OK);
	blob_free(&c);
	c = stripped(&b, true, false);
	refused(&c, "bitcoin-regtest", "not one item of 32 bytes");
	blob_free(&c);
	c = stripped(&b, false, true);
	refused(&c, "bitcoin-regtest", "commitment does not match");
	blob_free(&c);

	/* a witness put where nothing commits to one */
	read_places(&plain, place);
	size_t at = place[1].at;
	c = blob_copy(plain.p, at + 4);
	blob_add(&c, "\x00\x01", 2);
	blob_add(&c, plain.p + at + 4, place[1].len - 8);
	blob_add(&c, "\x01\x01\x51", 3);
	blob_add(&c, plain.p + at + place[1].len - 4, plain.len - at - place[1].len + 4);
	refused(&c, "bitcoin-regtest", "without a commitment");
	blob_free(&c);
	/* the same with an empty one: a second encoding of the same transaction */
	c = blob_copy(plain.p, at + 4);
	blob_add(&c, "\x00\x01", 2);
	blob_add(&c, plain.p + at + 4, place[1].len - 8);
	blob_add(&c, "\x00", 1);
	blob_add(&c, plain.p + at + place[1].len - 4, plain.len - at - place[1].len + 4);
	refused(&c, "bitcoin-regtest", "empty or impossible witness");
	blob_free(&c);
	blob_free(&b);
	blob_free(&plain);
}

Test(bitcoin_block, second_encodings_and_impossible_ones)
{
	struct blob g = mined_block((struct stele_miner_opts){0}, 0), c;
	struct stele_bitcoin_block out;
	cr_assert_eq(check(g.p, g.len, "bitcoin-regtest", &out), STELE_OK);
	cr_assert(hash_is(STELE_FAMILY_BITCOIN, &out.hash, "0f9188f13cb7b2c71f2a335e3a4fc328"));

	c = blob_copy(g.p, 80);
	blob_add(&c, "\xfd\x01\x00", 3);
	blob_add(&c, g.p + 81, g.len - 81);
	refused(&c, "bitcoin-regtest", "not minimal");
	blob_free(&c);
	c = blob_copy(g.p, 80);
	blob_add(&c, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
	refused(&c, "bitcoin-regtest", "impossible");
	blob_free(&c);
	c = blob_copy(g.p, 80);
	blob_add(&c, "\x00", 1);
	refused(&c, "bitcoin-regtest", "impossible");
	blob_free(&c);
	c = blob_copy(g.p, g.len);
	c.p[81 + 4 + 1] = 1; /* an input that spends something */
	refused(&c, "bitcoin-regtest", "no coinbase");
	blob_free(&c);
	/* regtest's work is not mainnet's */
	refused(&g, "bitcoin", "easier than bitcoin allows");
	blob_free(&g);
}

/* ---- numbers ---- */

Test(bitcoin_block, targets_and_work)
{
	static const struct {
		uint32_t bits;
		bool ok;
	} cases[] = {
	    {0x1d00ffff, true}, {0x207fffff, true},  {0x00000000, false}, {0x01003456, false},
	    {0x01123456, true}, {0x04923456, false}, {0x04123456, true},  {0x05009234, true},
	    {0x20123456, true}, {0x21123456, false}, {0x2200ff00, false}, {0x220000ff, true},
	    {0x21000100, true}, {0x23000001, false}, {0xff123456, false}, {0x02800056, false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t target[32];
		cr_assert_eq(stele_bitcoin_target(cases[i].bits, target), cases[i].ok, "%08x",
		             cases[i].bits);
	}
	uint8_t target[32], want[32] = {0};
	cr_assert(stele_bitcoin_target(0x04123456, target));
	want[1] = 0x56, want[2] = 0x34, want[3] = 0x12;
	cr_assert_eq(memcmp(target, want, 32), 0);
	cr_assert(stele_bitcoin_target(0x01123456, target));
	memset(want, 0, 32);
	want[0] = 0x12;
	cr_assert_eq(memcmp(target, want, 32), 0);

	cr_assert(stele_bitcoin_work(0x1d00ffff) == 4295032833u);
	cr_assert(stele_bitcoin_work(0x207fffff) == 2);
	cr_assert(stele_bitcoin_work(0) == 0);
	cr_assert(stele_bitcoin_work(0x01010000) == (unsigned __int128)1 << 104); /* the most */
	/* a harder target is more work */
	cr_assert(stele_bitcoin_work(0x1b0404cb) > stele_bitcoin_work(0x1b0504cb));
	cr_assert(stele_bitcoin_work(0x17034219) > stele_bitcoin_work(0x1b0404cb));
}

Test(bitcoin_block, merkle_roots_against_the_definition)
{
	uint64_t random = 77;
	for (size_t n = 1; n <= 70; n++) {
		struct stele_hash a[70], b[70], level[72], root;
		guard_fill(&random, a, n * sizeof(a[0]));
		memcpy(level, a, sizeof(a));
		for (size_t m = n; m > 1; m = (m + 1) / 2) {
			if (m % 2)
				level[m] = level[m - 1];
			for (size_t i = 0; i < m; i += 2)
				stele_bitcoin_hash(&level[i], 64, &level[i / 2]);
		}
		cr_assert(stele_bitcoin_merkle(a, b, n, &root));
		cr_assert(stele_hash_equal(&root, &level[0]), "%zu", n);
	}
}
