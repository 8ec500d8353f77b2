/* Goal: what is mined is what bitcoind would accept, as far as a file can show it: subsidies,
 * mature coins spent once, heights in coinbases, legal weight, and the same bytes from the same
 * seed. */
#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/chain_link.h"
#include "tests/unit/ledger_fixture.h"

Test(mine, same_options_same_bytes)
{
	struct stele_miner_opts opts = {.seed = 1, .block_len = 5000};
	struct blob a = mined_file(opts, 130), b = mined_file(opts, 130), c;
	cr_assert_eq(a.len, b.len);
	cr_assert_eq(memcmp(a.p, b.p, a.len), 0);
	opts.seed = 2;
	c = mined_file(opts, 130);
	cr_assert(c.len != a.len || memcmp(a.p, c.p, a.len) != 0);
	blob_free(&a);
	blob_free(&b);
	blob_free(&c);
}

Test(mine, blocks_are_bound_and_linked_from_the_known_genesis)
{
	struct blob file =
	    mined_file((struct stele_miner_opts){.seed = 3, .block_len = 60000}, 140);
	struct seen s;
	seen_parse(&s, (struct stele_parser_opts){.format = STELE_FORMAT_BITCOIN_BLK}, file.p,
	           file.len, 0, 0);
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert_eq(s.blocks, 140u);
	cr_assert_str_eq(s.facts.chain->alias, "bitcoin-regtest");
	cr_assert(hash_is(STELE_FAMILY_BITCOIN, &s.block[0].hash, s.facts.chain->genesis));
	for (size_t i = 1; i < s.blocks; i++) {
		cr_assert(stele_hash_equal(&s.block[i].parent, &s.block[i - 1].hash));
		cr_assert(i <= 100 ? s.block[i].tx_count == 1 : s.block[i].tx_count > 100);
		cr_assert_leq(s.block[i].part[0].length, 60000u);
	}
	seen_free(&s);
	blob_free(&file);
}

/* ---- a small validator: coins as (txid, 0) with a value and the height that made them ---- */

struct coin {
	struct stele_hash txid;
	uint64_t value, height;
	bool coinbase;
	uint8_t script[40];
	size_t script_len;
};

static uint64_t number(struct stele_reader *r)
{
	uint8_t first = stele_read_u8(r);
	return first < 0xfd ? first : first == 0xfd ? stele_read_le16(r) : stele_read_le32(r);
}

struct spent {
	const uint8_t *outpoint, *script;
	size_t script_len;
};

/* Reads one transaction; the first output's value and script, the sum of all, the input. */
static void read_tx(struct stele_reader *r, struct spent *in, struct coin *out, uint64_t *sum,
                    struct blob *witness)
{
	stele_read_le32(r);
	bool segwit = r->p[0] == 0;
	stele_read_span(r, segwit ? 2 : 0);
	cr_assert_eq(number(r), 1u);
	in->outpoint = stele_read_span(r, 36);
	in->script_len = number(r);
	in->script = stele_read_span(r, in->script_len);
	stele_read_le32(r);
	*sum = 0;
	uint64_t n = number(r);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t value = stele_read_le64(r);
		size_t len = number(r);
		const uint8_t *script = stele_read_span(r, len);
		*sum += value;
		if (i == 0) {
			out->value = value;
			out->script_len = len;
			cr_assert_leq(len, sizeof(out->script));
			memcpy(out->script, script, len);
		}
	}
	witness->len = 0;
	if (segwit) {
		cr_assert_eq(number(r), 1u);
		size_t len = number(r);
		blob_add(witness, stele_read_span(r, len), len);
	}
	stele_read_le32(r);
	cr_assert_not(r->bad);
}

static void check_spend(const struct coin *coin, const struct spent *in, const struct blob *witness)
{
	cr_assert_eq(in->script_len, 0u);
	if (coin->script_len == 1) { /* OP_TRUE */
		cr_assert(coin->script[0] == 0x51 && witness->len == 0);
		return;
	}
	struct stele_hash h;
	cr_assert(coin->script_len == 34 && coin->script[0] == 0 && coin->script[1] == 32);
	stele_sha256(witness->p, witness->len, &h);
	cr_assert_eq(memcmp(h.b, coin->script + 2, 32), 0);
	/* OP_PUSHDATA1 n data OP_DROP OP_TRUE: at most 520 bytes pushed, one true left */
	cr_assert(witness->p[0] == 0x4c && witness->len == 4u + witness->p[1]);
	cr_assert(witness->p[witness->len - 2] == 0x75 && witness->p[witness->len - 1] == 0x51);
}

Test(mine, coins_subsidies_and_heights_are_legal)
{
	struct stele_miner_opts opts = {.seed = 17, .block_len = 30000};
	struct stele_miner *m;
	static struct coin reward[400];
	struct stele_bitcoin_scratch scratch = {0};
	struct blob witness = {0};
	cr_assert_eq(stele_miner_create(&opts, &m), STELE_OK);
	for (uint64_t height = 0; height < 310; height++) {
		const uint8_t *bytes;
		size_t len;
		struct stele_hash hash;
		struct stele_bitcoin_block b;
		cr_assert_eq(stele_miner_next(m, &bytes, &len, &hash), STELE_OK);
		cr_assert_eq(stele_bitcoin_block_check(&scratch, bytes, len, NULL, &b), STELE_OK);
		cr_assert(b.length == len && stele_hash_equal(&b.hash, &hash));
		if (height == 0)
			continue;
		struct stele_reader r = stele_reader(bytes + 80, len - 80);
		uint64_t n = number(&r), sum;
		struct coin chain = {0};
		for (uint64_t i = 0; i < n; i++) {
			struct spent in;
			struct coin out = {.txid = b.tx_ids[i], .height = height};
			read_tx(&r, &in, &out, &sum, &witness);
			if (i == 0) {
				/* BIP 34, and the subsidy with regtest's halvings */
				struct stele_reader s = stele_reader(in.script, in.script_len);
				uint8_t push = stele_read_u8(&s);
				uint64_t said = push >= 0x51 && push <= 0x60 ? push - 0x50u
				                : push == 1                  ? stele_read_u8(&s)
				                                             : stele_read_le16(&s);
				cr_assert_eq(said, height);
				cr_assert(in.script_len >= 2 && in.script_len <= 100);
				cr_assert_leq(sum, 5000000000ull >> (height / 150));
				out.coinbase = true;
				reward[height] = out;
				continue;
			}
			/* the first spends a coinbase 100 blocks deep, each next the one before
			 * it */
			const struct coin *from = i == 1 ? &reward[height - 100] : &chain;
			cr_assert_eq(memcmp(in.outpoint, from->txid.b, 32), 0);
			cr_assert_eq(stele_le32(in.outpoint + 32), 0u);
			cr_assert_leq(sum, from->value);
			check_spend(from, &in, &witness);
			chain = out;
		}
		cr_assert_eq(stele_read_left(&r), 0u);
	}
	stele_bitcoin_scratch_reset(&scratch);
	stele_miner_destroy(m);
	blob_free(&witness);
}

Test(mine, branches_part_at_their_height)
{
	struct stele_miner_opts opts = {.seed = 4, .block_len = 4000, .branch_height = 104};
	struct blob a = mined_file(opts, 108), b;
	struct seen x, y;
	opts.branch = 1;
	b = mined_file(opts, 108);
	struct stele_parser_opts blk = {.format = STELE_FORMAT_BITCOIN_BLK};
	seen_parse(&x, blk, a.p, a.len, 0, 0);
	seen_parse(&y, blk, b.p, b.len, 0, 0);
	for (size_t i = 0; i < 108; i++)
		cr_assert_eq(stele_hash_equal(&x.block[i].hash, &y.block[i].hash), i < 104, "%zu",
		             i);
	seen_free(&x);
	seen_free(&y);
	blob_free(&a);
	blob_free(&b);
}

Test(mine, impossible_options)
{
	struct stele_miner *m;
	struct stele_miner_opts opts = {.block_len = STELE_MINE_BLOCK_MAX + 1};
	cr_assert_eq(stele_miner_create(&opts, &m), STELE_ERR_INVALID);
	opts.block_len = 1; /* coinbases only */
	struct blob b = mined_file(opts, 105);
	struct seen s;
	seen_parse(&s, (struct stele_parser_opts){.format = STELE_FORMAT_BITCOIN_BLK}, b.p, b.len,
	           0, 0);
	cr_assert_eq(s.err, STELE_OK);
	cr_assert_eq(s.block[104].tx_count, 1u);
	seen_free(&s);
	blob_free(&b);
}
