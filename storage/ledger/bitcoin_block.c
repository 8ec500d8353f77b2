/* Parses and hashes one Bitcoin block. Does not know files, heights or other blocks. */
#include "storage/ledger/bitcoin_block.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

#define COMMITMENT_LEN 38u /* OP_RETURN, push 36, aa21a9ed, hash */
#define MERKLE_LANES   256u

struct stele_bitcoin_tx {
	const uint8_t *raw;
	uint32_t len;
	uint32_t witness_at; /* offset of the witnesses, 0: none */
	uint32_t witness_len;
};

/* ---- numbers ---- */

bool stele_bitcoin_target(uint32_t bits, uint8_t out[32])
{
	uint32_t size = bits >> 24, mantissa = bits & 0x7fffff;
	memset(out, 0, 32);
	if (mantissa == 0 || (bits & 0x800000))
		return false;
	if (size < 3) {
		mantissa >>= 8 * (3 - size);
		size = 3;
	}
	for (unsigned i = 0; i < 3; i++) {
		uint8_t b = (uint8_t)(mantissa >> (8 * i));
		uint32_t at = size - 3 + i;
		if (b && at >= 32)
			return false;
		if (at < 32)
			out[at] = b;
	}
	return mantissa != 0;
}

unsigned __int128 stele_bitcoin_work(uint32_t bits)
{
	uint8_t target[32];
	if (!stele_bitcoin_target(bits, target))
		return 0;
	uint32_t size = bits >> 24, mantissa = bits & 0x7fffff;
	/* target = mantissa * 256^(size - 3); 2^256 / target in 128 bits: no network comes near */
	unsigned shift = size >= 3 ? 256 - 8 * (size - 3) : 256;
	const unsigned __int128 one = 1, most = one << 104; /* 2^24 of them can be added up */
	unsigned __int128 work = shift < 127 ? (one << shift) / mantissa : most;
	return work < most ? work : most;
}

/* -1, 0, 1: little-endian 256-bit numbers. */
static int compare_le(const uint8_t a[32], const uint8_t b[32])
{
	for (size_t i = 32; i-- > 0;) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

static bool read_compact(struct stele_reader *r, uint64_t *out)
{
	uint8_t first = stele_read_u8(r);
	uint64_t v = first, least = 0;
	if (first == 0xfd) {
		v = stele_read_le16(r);
		least = 0xfd;
	} else if (first == 0xfe) {
		v = stele_read_le32(r);
		least = 0x10000;
	} else if (first == 0xff) {
		v = stele_read_le64(r);
		least = 0x100000000;
	}
	if (v < least)
		r->bad = true;
	*out = v;
	return !r->bad;
}

/* A compact size and that many bytes. */
static const uint8_t *read_bytes(struct stele_reader *r, uint64_t *len)
{
	if (!read_compact(r, len) || *len > stele_read_left(r)) {
		r->bad = true;
		return NULL;
	}
	return stele_read_span(r, (size_t)*len);
}

/* ---- hashes ---- */

void stele_bitcoin_hash(const void *data, size_t len, struct stele_hash *out)
{
	struct stele_hash once;
	stele_sha256(data, len, &once);
	stele_sha256(once.b, sizeof(once.b), out);
}

/* out[i] = SHA-256 of the i-th `unit` bytes of in, which must not overlap out. */
static void hash_units(const void *in, size_t unit, size_t n, struct stele_hash *out)
{
	struct stele_sha256_message message[MERKLE_LANES];
	const uint8_t *p = in;
	while (n) {
		size_t take = n < MERKLE_LANES ? n : MERKLE_LANES;
		for (size_t i = 0; i < take; i++)
			message[i] = (struct stele_sha256_message){p + i * unit, unit, out + i};
		stele_sha256_many(message, take);
		p += take * unit;
		out += take;
		n -= take;
	}
}

bool stele_bitcoin_merkle(struct stele_hash *ids, struct stele_hash *other, size_t n,
                          struct stele_hash *root)
{
	bool unique = true;
	while (n > 1) {
		for (size_t i = 0; i + 1 < n; i += 2)
			unique = unique && !stele_hash_equal(&ids[i], &ids[i + 1]);
		size_t pairs = n / 2;
		hash_units(ids, 2 * STELE_HASH_LEN, pairs, other);
		if (n % 2) {
			struct stele_hash twice[2] = {ids[n - 1], ids[n - 1]};
			stele_sha256(twice, sizeof(twice), &other[pairs]);
			pairs++;
		}
		hash_units(other, STELE_HASH_LEN, pairs, ids);
		n = pairs;
	}
	*root = ids[0];
	return unique;
}

/* ---- transactions ---- */

/* What of the coinbase binds the block's witnesses and tells its height. */
struct coinbase {
	const uint8_t *script;
	size_t script_len;
	const uint8_t *commitment; /* 32 bytes; NULL: none */
	const uint8_t *nonce;      /* 32 bytes; NULL: none, or not one item of 32 bytes */
};

static bool read_inputs(struct stele_reader *r, uint64_t *n, struct coinbase *cb)
{
	if (!read_compact(r, n) || *n == 0 || *n > stele_read_left(r) / 41)
		return false;
	for (uint64_t i = 0; i < *n; i++) {
		const uint8_t *outpoint = stele_read_span(r, 36);
		uint64_t len;
		const uint8_t *script = read_bytes(r, &len);
		stele_read_span(r, 4);
		if (r->bad)
			return false;
		if (cb) {
			bool null =
			    stele_all_zero(outpoint, 32) && stele_le32(outpoint + 32) == UINT32_MAX;
			if (!null || *n != 1)
				return false;
			cb->script = script;
			cb->script_len = (size_t)len;
		}
	}
	return true;
}

static bool read_outputs(struct stele_reader *r, struct coinbase *cb)
{
	static const uint8_t prefix[6] = {0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed};
	uint64_t n;
	if (!read_compact(r, &n) || n == 0 || n > stele_read_left(r) / 9)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		stele_read_span(r, 8);
		uint64_t len;
		const uint8_t *script = read_bytes(r, &len);
		if (r->bad)
			return false;
		if (cb && len >= COMMITMENT_LEN && memcmp(script, prefix, sizeof(prefix)) == 0)
			cb->commitment = script + sizeof(prefix);
	}
	return true;
}

static bool read_witnesses(struct stele_reader *r, uint64_t inputs, struct coinbase *cb)
{
	bool any = false;
	for (uint64_t i = 0; i < inputs; i++) {
		uint64_t items;
		if (!read_compact(r, &items) || items > stele_read_left(r))
			return false;
		any = any || items;
		for (uint64_t k = 0; k < items; k++) {
			uint64_t len;
			const uint8_t *item = read_bytes(r, &len);
			if (r->bad)
				return false;
			if (cb)
				cb->nonce = items == 1 && len == STELE_HASH_LEN ? item : NULL;
		}
	}
	return any; /* a witness section with nothing in it has a shorter form */
}

/* NULL: read; else what is wrong. cb: for the first transaction. */
static const char *read_tx(struct stele_reader *r, struct stele_bitcoin_tx *tx, struct coinbase *cb)
{
	const uint8_t *start = r->p;
	*tx = (struct stele_bitcoin_tx){.raw = start};
	stele_read_span(r, 4);
	bool witness = stele_read_left(r) >= 2 && r->p[0] == 0;
	if (witness) {
		if (r->p[1] != 1)
			return "an unknown flag or no input";
		stele_read_span(r, 2);
	}
	uint64_t inputs = 0;
	if (!read_inputs(r, &inputs, cb))
		return r->bad ? "its inputs are cut or not minimal"
		              : (cb ? "is no coinbase" : "has impossible inputs");
	if (!read_outputs(r, cb))
		return r->bad ? "its outputs are cut or not minimal" : "has impossible outputs";
	if (witness) {
		tx->witness_at = (uint32_t)(r->p - start);
		if (!read_witnesses(r, inputs, cb))
			return r->bad ? "its witness is cut or not minimal"
			              : "has an empty or impossible witness";
		tx->witness_len = (uint32_t)(r->p - start) - tx->witness_at;
	}
	stele_read_span(r, 4);
	tx->len = (uint32_t)(r->p - start);
	return r->bad ? "is cut" : NULL;
}

/* ---- scratch ---- */

void stele_bitcoin_scratch_reset(struct stele_bitcoin_scratch *s)
{
	free(s->hashes);
	free(s->tx);
	free(s->message);
	free(s->stripped);
	memset(s, 0, sizeof(*s));
}

static enum stele_err scratch_grow(struct stele_bitcoin_scratch *s, size_t txs, size_t stripped)
{
	if (txs > s->txs) {
		stele_bitcoin_scratch_reset(s);
		txs = (txs + 1023) / 1024 * 1024;
		s->hashes = malloc(3 * txs * sizeof(*s->hashes));
		s->tx = malloc(txs * sizeof(*s->tx));
		s->message = malloc(txs * sizeof(*s->message));
		s->txs = txs;
	}
	if (stripped > s->stripped_cap) {
		free(s->stripped);
		s->stripped = malloc(stripped);
		s->stripped_cap = stripped;
	}
	if (!s->hashes || !s->tx || !s->message || (stripped && !s->stripped)) {
		stele_bitcoin_scratch_reset(s);
		return stele_fail(STELE_ERR_NOMEM, "a block of %zu transactions", txs);
	}
	return STELE_OK;
}

/* ---- the block ---- */

enum stele_err stele_bitcoin_header_check(const uint8_t *bytes, const struct stele_chain *chain,
                                          struct stele_bitcoin_block *out)
{
	*out = (struct stele_bitcoin_block){.bits = stele_le32(bytes + 72)};
	stele_bitcoin_hash(bytes, STELE_BITCOIN_HEADER, &out->hash);
	memcpy(out->parent.b, bytes + 4, sizeof(out->parent.b));
	uint8_t target[32], limit[32];
	if (!stele_bitcoin_target(out->bits, target))
		return stele_fail(STELE_ERR_CORRUPT, "nBits %08x is no target", out->bits);
	if (chain && stele_bitcoin_target(chain->pow_limit_bits, limit) &&
	    compare_le(target, limit) > 0)
		return stele_fail(STELE_ERR_CORRUPT, "nBits %08x is easier than %s allows",
		                  out->bits, chain->alias);
	if (compare_le(out->hash.b, target) > 0) {
		char hex[STELE_HEX_LEN];
		return stele_fail(
		    STELE_ERR_CORRUPT, "header fails its proof of work (hash %s, nBits %08x)",
		    stele_chain_hash_text(STELE_FAMILY_BITCOIN, &out->hash, hex), out->bits);
	}
	return STELE_OK;
}

/* The stripped form of transactions that have a witness goes to s->stripped, and all txids to
 * hashes[0..n). */
static void hash_txids(struct stele_bitcoin_scratch *s, size_t n)
{
	uint8_t *to = s->stripped;
	struct stele_hash *once = s->hashes + n;
	for (size_t i = 0; i < n; i++) {
		const struct stele_bitcoin_tx *tx = &s->tx[i];
		s->message[i] = (struct stele_sha256_message){tx->raw, tx->len, once + i};
		if (!tx->witness_at)
			continue;
		const uint8_t *lock = tx->raw + tx->len - 4;
		s->message[i].data = to;
		s->message[i].len = tx->len - 2 - tx->witness_len;
		memcpy(to, tx->raw, 4);
		memcpy(to + 4, tx->raw + 6, tx->witness_at - 6);
		memcpy(to + tx->witness_at - 2, lock, 4);
		to += s->message[i].len;
	}
	stele_sha256_many(s->message, n);
	hash_units(once, STELE_HASH_LEN, n, s->hashes);
}

/* The root over wtxids, the coinbase's being zero (BIP 141). Uses hashes[n..3n). */
static void witness_root(struct stele_bitcoin_scratch *s, size_t n, struct stele_hash *root)
{
	struct stele_hash *ids = s->hashes + n, *once = s->hashes + 2 * n;
	size_t m = 0;
	memcpy(ids, s->hashes, n * sizeof(*ids));
	memset(&ids[0], 0, sizeof(ids[0]));
	for (size_t i = 1; i < n; i++) {
		if (s->tx[i].witness_at)
			s->message[m++] =
			    (struct stele_sha256_message){s->tx[i].raw, s->tx[i].len, once + i};
	}
	stele_sha256_many(s->message, m);
	for (size_t k = 0; k < m; k++) {
		struct stele_hash *from = s->message[k].out;
		stele_sha256(from->b, sizeof(from->b), ids + (from - once));
	}
	stele_bitcoin_merkle(ids, once, n, root);
}

/* BIP 34: the height that a coinbase script starts with; UINT32_MAX: none. */
static uint32_t coinbase_height(const struct coinbase *cb)
{
	if (cb->script_len == 0)
		return UINT32_MAX;
	uint8_t n = cb->script[0];
	if (n >= 0x51 && n <= 0x60)
		return n - 0x50u;
	if (n == 0 || n > 4 || cb->script_len < 1u + n || (cb->script[n] & 0x80))
		return UINT32_MAX;
	uint32_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v |= (uint32_t)cb->script[1 + i] << (8 * i);
	return v;
}

static enum stele_err check_witness(struct stele_bitcoin_scratch *s, const uint8_t *header,
                                    size_t n, const struct coinbase *cb,
                                    const struct stele_chain *chain, bool witness)
{
	if (!witness) {
		uint32_t height = stele_le32(header) >= 2 ? coinbase_height(cb) : UINT32_MAX;
		if (chain && cb->commitment && height != UINT32_MAX &&
		    height >= chain->segwit_height)
			return stele_fail(
			    STELE_ERR_CORRUPT,
			    "its coinbase commits to witnesses, which were taken out");
		return STELE_OK;
	}
	if (!cb->commitment)
		return stele_fail(STELE_ERR_CORRUPT, "has witnesses without a commitment");
	if (!cb->nonce)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "its coinbase's witness is not one item of 32 bytes");
	struct stele_hash both[2], got;
	witness_root(s, n, &both[0]);
	memcpy(both[1].b, cb->nonce, sizeof(both[1].b));
	stele_bitcoin_hash(both, sizeof(both), &got);
	if (memcmp(got.b, cb->commitment, sizeof(got.b)) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "witness commitment does not match");
	return STELE_OK;
}

enum stele_err stele_bitcoin_block_check(struct stele_bitcoin_scratch *s, const uint8_t *bytes,
                                         size_t len, const struct stele_chain *chain,
                                         struct stele_bitcoin_block *out)
{
	if (len < STELE_BITCOIN_HEADER)
		return stele_fail(STELE_ERR_CORRUPT, "header is cut");
	STELE_TRY(stele_bitcoin_header_check(bytes, chain, out));
	if (len > STELE_BITCOIN_BLOCK_MAX)
		len = STELE_BITCOIN_BLOCK_MAX;
	struct stele_reader r =
	    stele_reader(bytes + STELE_BITCOIN_HEADER, len - STELE_BITCOIN_HEADER);
	uint64_t n;
	if (!read_compact(&r, &n) || n == 0 || n > stele_read_left(&r) / STELE_BITCOIN_TX_MIN)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "transaction count is cut, not minimal or impossible");
	STELE_TRY(scratch_grow(s, (size_t)n, 0));
	struct coinbase cb = {0};
	size_t stripped = 0;
	for (size_t i = 0; i < n; i++) {
		const char *wrong = read_tx(&r, &s->tx[i], i == 0 ? &cb : NULL);
		if (wrong)
			return stele_fail(STELE_ERR_CORRUPT, "transaction %zu %s", i, wrong);
		stripped += s->tx[i].witness_at ? s->tx[i].len : 0;
	}
	out->tx_count = (uint32_t)n;
	out->witness = stripped > 0;
	out->length = (size_t)(r.p - bytes);
	STELE_TRY(scratch_grow(s, (size_t)n, stripped));

	hash_txids(s, (size_t)n);
	struct stele_hash root, *work = s->hashes + n;
	memcpy(work, s->hashes, n * sizeof(*work));
	bool unique = stele_bitcoin_merkle(work, s->hashes + 2 * n, (size_t)n, &root);
	if (memcmp(root.b, bytes + 36, sizeof(root.b)) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "Merkle root does not match its transactions");
	if (!unique)
		return stele_fail(
		    STELE_ERR_CORRUPT,
		    "its Merkle tree has equal neighbours: transactions were doubled");
	STELE_TRY(check_witness(s, bytes, (size_t)n, &cb, chain, out->witness));
	out->tx_ids = s->hashes;
	return STELE_OK;
}
