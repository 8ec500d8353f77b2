/* Builds blocks: coins, transactions, coinbase, header, nonce. Writes no file. */
#include "storage/ledger/mine.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/sha256.h"
#include "storage/ledger/bitcoin_block.h"

#define REGTEST_BITS      0x207fffffu
#define REGTEST_TIME      1296688602u
#define REGTEST_NONCE     2u
#define REGTEST_HALVING   150u
#define SUBSIDY           5000000000ull
#define COINBASE_MATURITY 100u
#define BLOCK_SECONDS     600u
#define BLOCK_VERSION     0x20000000u
#define TX_MAX            1024u /* bytes of one made here */
#define COINBASE_MAX      256u
#define SCRIPT_MAX        300u

static const uint8_t op_true[1] = {0x51};

/* An output that anyone may spend: OP_TRUE itself, or the hash of a script (P2WSH) that drops some
 * bytes and is true, which the witness must show. */
struct coin {
	struct stele_hash txid;
	uint64_t value;
	bool segwit;
	uint8_t script[SCRIPT_MAX];
	size_t script_len;
};

struct stele_miner {
	struct stele_miner_opts opts;
	uint64_t random;
	uint64_t height; /* of the next block */
	struct stele_hash tip;
	struct coin mature[COINBASE_MATURITY]; /* coinbases, by height modulo the maturity */
	uint8_t *block;
	size_t block_cap;
	struct stele_hash *ids; /* txids, wtxids, and room to hash them: txs_max each */
	size_t txs_max;
};

/* ---- randomness: splitmix64 ---- */

static uint64_t next_random(struct stele_miner *m)
{
	uint64_t z = m->random += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void random_bytes(struct stele_miner *m, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint8_t eight[8];
		stele_put_le64(eight, next_random(m));
		memcpy(out + i, eight, len - i < 8 ? len - i : 8);
	}
}

/* ---- writing transactions ---- */

static void write_compact(struct stele_writer *w, uint64_t v)
{
	if (v < 0xfd) {
		stele_write_u8(w, (uint8_t)v);
	} else if (v <= 0xffff) {
		stele_write_u8(w, 0xfd);
		stele_write_le16(w, (uint16_t)v);
	} else {
		stele_write_u8(w, 0xfe);
		stele_write_le32(w, (uint32_t)v);
	}
}

static void write_script(struct stele_writer *w, const void *script, size_t len)
{
	write_compact(w, len);
	stele_write_bytes(w, script, len);
}

/* A coin to be made: half of them take a witness to spend. */
static void new_coin(struct stele_miner *m, struct coin *c, uint64_t value)
{
	*c = (struct coin){.value = value};
	uint64_t r = next_random(m);
	if (m->opts.legacy || r % 2 == 0)
		return;
	size_t data = 76 + (r >> 8) % 180; /* OP_PUSHDATA1 data OP_DROP OP_TRUE */
	c->segwit = true;
	c->script[0] = 0x4c;
	c->script[1] = (uint8_t)data;
	random_bytes(m, c->script + 2, data);
	c->script[2 + data] = 0x75;
	c->script[3 + data] = op_true[0];
	c->script_len = data + 4;
}

static void write_coin(struct stele_writer *w, const struct coin *c)
{
	stele_write_le64(w, c->value);
	if (!c->segwit) {
		write_script(w, op_true, sizeof(op_true));
		return;
	}
	struct stele_hash h;
	uint8_t program[34] = {0x00, 0x20};
	stele_sha256(c->script, c->script_len, &h);
	memcpy(program + 2, h.b, sizeof(h.b));
	write_script(w, program, sizeof(program));
}

/* Spends a coin into a new one and a small payment to a key that nobody has. With `witness` as the
 * network sends it, without as a txid is hashed. */
static void write_spend(struct stele_writer *w, const struct coin *from, const struct coin *to,
                        const uint8_t payment[20], bool witness)
{
	uint8_t program[22] = {0x00, 0x14};
	memcpy(program + 2, payment, 20);
	stele_write_le32(w, 2);
	if (witness)
		stele_write_le16(w, 0x0100);
	write_compact(w, 1);
	stele_write_hash(w, &from->txid);
	stele_write_le32(w, 0);
	write_script(w, NULL, 0);
	stele_write_le32(w, UINT32_MAX);
	write_compact(w, 2);
	write_coin(w, to);
	stele_write_le64(w, from->value - to->value);
	write_script(w, program, sizeof(program));
	if (witness) {
		write_compact(w, 1);
		write_script(w, from->script, from->script_len);
	}
	stele_write_le32(w, 0);
}

/* Writes one transaction that spends *coin, and leaves the coin it makes there. */
static void spend(struct stele_miner *m, struct stele_writer *w, struct coin *coin,
                  struct stele_hash *txid, struct stele_hash *wtxid)
{
	struct coin to;
	uint8_t payment[24], bare[TX_MAX];
	random_bytes(m, payment, sizeof(payment));
	new_coin(m, &to, coin->value - 1 - payment[20] % 100);
	struct stele_writer b = stele_writer(bare, sizeof(bare));
	write_spend(&b, coin, &to, payment, false);
	stele_bitcoin_hash(bare, stele_written(&b), txid);
	const uint8_t *start = w->p;
	write_spend(w, coin, &to, payment, coin->segwit);
	stele_bitcoin_hash(start, (size_t)(w->p - start), wtxid);
	*coin = to;
	coin->txid = *txid;
}

/* ---- the coinbase ---- */

/* As a script pushes a number: little-endian, signed, no longer than needed. */
static size_t push_height(uint64_t height, uint8_t out[6])
{
	if (height <= 16) {
		out[0] = (uint8_t)(height ? 0x50 + height : 0);
		return 1;
	}
	size_t n = 0;
	for (uint64_t v = height; v; v >>= 8)
		out[1 + n++] = (uint8_t)v;
	if (out[n] & 0x80)
		out[1 + n++] = 0;
	out[0] = (uint8_t)n;
	return 1 + n;
}

static void write_coinbase(const struct stele_miner *m, struct stele_writer *w,
                           const struct coin *coin, const struct stele_hash *commitment,
                           bool witness)
{
	static const uint8_t prefix[6] = {0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed};
	uint8_t script[32];
	struct stele_writer s = stele_writer(script, sizeof(script));
	uint8_t push[6];
	stele_write_bytes(&s, push, push_height(m->height, push));
	stele_write_u8(&s, 12);
	stele_write_le64(&s, m->opts.seed);
	stele_write_le32(&s, m->height >= m->opts.branch_height ? m->opts.branch : 0);

	stele_write_le32(w, 2);
	if (witness)
		stele_write_le16(w, 0x0100);
	write_compact(w, 1);
	stele_write_zero(w, 32);
	stele_write_le32(w, UINT32_MAX);
	write_script(w, script, stele_written(&s));
	stele_write_le32(w, UINT32_MAX);
	write_compact(w, commitment ? 2 : 1);
	write_coin(w, coin);
	if (commitment) {
		stele_write_le64(w, 0);
		write_compact(w, sizeof(prefix) + sizeof(commitment->b));
		stele_write_bytes(w, prefix, sizeof(prefix));
		stele_write_hash(w, commitment);
	}
	if (witness) {
		write_compact(w, 1);
		write_compact(w, 32);
		stele_write_zero(w, 32); /* the nonce that the commitment was hashed with */
	}
	stele_write_le32(w, 0);
}

/* ---- blocks ---- */

/* Finds a nonce and puts the header in front of a block whose transactions hash to root. */
static void write_header(const struct stele_miner *m, uint8_t *header, uint32_t version,
                         const struct stele_hash *root, uint32_t nonce, struct stele_hash *hash)
{
	struct stele_bitcoin_block block;
	struct stele_writer w = stele_writer(header, STELE_BITCOIN_HEADER);
	stele_write_le32(&w, version);
	stele_write_hash(&w, &m->tip);
	stele_write_hash(&w, root);
	stele_write_le32(&w, REGTEST_TIME + (uint32_t)m->height * BLOCK_SECONDS);
	stele_write_le32(&w, REGTEST_BITS);
	stele_write_le32(&w, nonce);
	while (stele_bitcoin_header_check(header, NULL, &block) != STELE_OK)
		stele_put_le32(header + 76, ++nonce);
	*hash = block.hash;
}

/* Block 0, the same for everybody: one coinbase with a headline. */
static size_t make_genesis(struct stele_miner *m, struct stele_hash *hash)
{
	static const char headline[] =
	    "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks";
	static const char key[] = "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61de"
	                          "b649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d"
	                          "5f";
	uint8_t in[8 + sizeof(headline)] = {4, 0xff, 0xff, 0x00, 0x1d, 1, 4, sizeof(headline) - 1};
	uint8_t out[67] = {65};
	memcpy(in + 8, headline, sizeof(headline) - 1);
	bool ok = stele_unhex(key, sizeof(key) - 1, out + 1, 65, true);
	assert(ok);
	(void)ok;
	out[66] = 0xac;
	struct stele_writer w = stele_writer(m->block, m->block_cap);
	stele_write_zero(&w, STELE_BITCOIN_HEADER);
	write_compact(&w, 1);
	const uint8_t *tx = w.p;
	stele_write_le32(&w, 1);
	write_compact(&w, 1);
	stele_write_zero(&w, 32);
	stele_write_le32(&w, UINT32_MAX);
	write_script(&w, in, 8 + sizeof(headline) - 1);
	stele_write_le32(&w, UINT32_MAX);
	write_compact(&w, 1);
	stele_write_le64(&w, SUBSIDY);
	write_script(&w, out, sizeof(out));
	stele_write_le32(&w, 0);
	assert(!w.bad);
	struct stele_hash root;
	stele_bitcoin_hash(tx, (size_t)(w.p - tx), &root);
	write_header(m, m->block, 1, &root, REGTEST_NONCE, hash);
	return stele_written(&w);
}

/* Transactions behind where header, count and coinbase will stand; how many there are. */
static size_t fill(struct stele_miner *m, struct stele_writer *w, struct stele_hash *txid,
                   struct stele_hash *wtxid)
{
	if (m->height <= COINBASE_MATURITY)
		return 0;
	struct coin coin = m->mature[m->height % COINBASE_MATURITY];
	size_t n = 0;
	while (stele_written(w) + TX_MAX < m->opts.block_len && 1 + n < m->txs_max &&
	       coin.value > 100) {
		spend(m, w, &coin, &txid[1 + n], &wtxid[1 + n]);
		n++;
	}
	return n;
}

static size_t make_block(struct stele_miner *m, struct stele_hash *hash)
{
	struct stele_hash *txid = m->ids, *wtxid = m->ids + m->txs_max;
	struct stele_hash *other = m->ids + 2 * m->txs_max;
	const size_t front = STELE_BITCOIN_HEADER + 3 + COINBASE_MAX;
	struct stele_writer w = stele_writer(m->block, m->block_cap);
	stele_write_zero(&w, front);
	size_t n = 1 + fill(m, &w, txid, wtxid);
	assert(!w.bad);

	struct stele_hash both[2] = {0}, commitment, root;
	memset(&wtxid[0], 0, sizeof(wtxid[0]));
	stele_bitcoin_merkle(wtxid, other, n, &both[0]);
	stele_bitcoin_hash(both, sizeof(both), &commitment);

	struct coin reward;
	uint8_t coinbase[COINBASE_MAX];
	new_coin(m, &reward,
	         m->height / REGTEST_HALVING < 64 ? SUBSIDY >> (m->height / REGTEST_HALVING) : 0);
	const struct stele_hash *committed = m->opts.legacy ? NULL : &commitment;
	struct stele_writer c = stele_writer(coinbase, sizeof(coinbase));
	write_coinbase(m, &c, &reward, committed, false);
	stele_bitcoin_hash(coinbase, stele_written(&c), &txid[0]);
	reward.txid = txid[0];
	m->mature[m->height % COINBASE_MATURITY] = reward;

	/* header, count and coinbase end where the other transactions begin */
	c = stele_writer(coinbase, sizeof(coinbase));
	write_coinbase(m, &c, &reward, committed, committed != NULL);
	uint8_t count[9];
	struct stele_writer k = stele_writer(count, sizeof(count));
	write_compact(&k, n);
	size_t head = STELE_BITCOIN_HEADER + stele_written(&k) + stele_written(&c);
	size_t rest = stele_written(&w) - front;
	memmove(m->block + head, m->block + front, rest);
	memcpy(m->block + STELE_BITCOIN_HEADER, count, stele_written(&k));
	memcpy(m->block + STELE_BITCOIN_HEADER + stele_written(&k), coinbase, stele_written(&c));

	stele_bitcoin_merkle(txid, other, n, &root);
	write_header(m, m->block, BLOCK_VERSION, &root, 0, hash);
	return head + rest;
}

enum stele_err stele_miner_create(const struct stele_miner_opts *opts, struct stele_miner **out)
{
	if (opts->block_len > STELE_MINE_BLOCK_MAX)
		return stele_fail(STELE_ERR_INVALID, "blocks of %zu bytes (at most %u)",
		                  opts->block_len, STELE_MINE_BLOCK_MAX);
	struct stele_miner *m = calloc(1, sizeof(*m));
	if (!m)
		return stele_fail(STELE_ERR_NOMEM, "a miner");
	m->opts = *opts;
	m->opts.block_len = opts->block_len ? opts->block_len : STELE_MINE_BLOCK_MAX;
	m->random = opts->seed;
	m->block_cap = m->opts.block_len + 4096;
	m->txs_max = m->block_cap / STELE_BITCOIN_TX_MIN;
	m->block = malloc(m->block_cap);
	m->ids = malloc(3 * m->txs_max * sizeof(*m->ids));
	if (!m->block || !m->ids) {
		enum stele_err err =
		    stele_fail(STELE_ERR_NOMEM, "a block of %zu bytes", m->block_cap);
		stele_miner_destroy(m);
		return err;
	}
	*out = m;
	return STELE_OK;
}

void stele_miner_destroy(struct stele_miner *m)
{
	if (!m)
		return;
	free(m->block);
	free(m->ids);
	free(m);
}

enum stele_err stele_miner_next(struct stele_miner *m, const uint8_t **bytes, size_t *len,
                                struct stele_hash *hash)
{
	if (m->height > 100000)
		return stele_fail(STELE_ERR_INVALID, "too many blocks mined");
	*len = m->height == 0 ? make_genesis(m, &m->tip) : make_block(m, &m->tip);
	*bytes = m->block;
	*hash = m->tip;
	m->height++;
	return STELE_OK;
}

void stele_mine_frame(size_t len, uint8_t out[STELE_MINE_FRAME])
{
	struct stele_chain chain;
	enum stele_err err = stele_chain_find("bitcoin-regtest", &chain);
	assert(err == STELE_OK);
	(void)err;
	memcpy(out, chain.magic, 4);
	stele_put_le32(out + 4, (uint32_t)len);
}
