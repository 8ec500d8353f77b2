/*
 * Parsers of chain files, whole: whatever the bytes, a parse ends in blocks or in one line that
 * says what is wrong; the pieces it is given in and a key over it change nothing; what it reports
 * lies in the file, in order, and comes back out as the block that was reported.
 *
 * Input: format1 key1 piece1, then the file.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "storage/base/sha256.h"
#include "storage/ledger/extract.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/evm_fixture.h"
#include "tests/unit/fabric_fixture.h"
#include "tests/unit/fisco_fixture.h"
#include "tests/unit/mined.h"

#define HEAD       3u
#define BLOCKS_MAX 64u /* kept for extraction */

/* ---- seeds ---- */

static size_t seed(uint8_t *out, enum stele_format format, unsigned key, unsigned piece,
                   struct blob *file)
{
	size_t len = HEAD + file->len;
	FUZZ_CHECK(len <= FUZZ_INPUT_MAX);
	out[0] = (uint8_t)format;
	out[1] = (uint8_t)key;
	out[2] = (uint8_t)piece;
	memcpy(out + HEAD, file->p, file->len);
	blob_free(file);
	return len;
}

/* The genesis and the last `keep` of n blocks: parsers of files do not mind the hole. */
static struct blob mined_ends(struct stele_miner_opts opts, size_t n, size_t keep)
{
	struct blob all = mined_file(opts, n), out = {0};
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		size_t len = 8 + (size_t)stele_le32(all.p + at + 4);
		if (i == 0 || i >= n - keep)
			blob_add(&out, all.p + at, len);
		at += len;
	}
	blob_free(&all);
	return out;
}

static struct blob made_era1(size_t n)
{
	struct evm_block *b = evm_chain_make(0, n, false);
	struct blob file = era1_make(b, 0, n, 0);
	evm_chain_free(b, n);
	return file;
}

static struct blob made_rlp(size_t n, bool withdrawals)
{
	struct evm_block *b = evm_chain_make(0, n, withdrawals);
	struct blob file = {0};
	for (size_t i = 0; i < n; i++) {
		struct blob one = evm_block_rlp(&b[i]);
		blob_add(&file, one.p, one.len);
		blob_free(&one);
	}
	evm_chain_free(b, n);
	return file;
}

/* gzip without compression (deflate's stored blocks), so that mutations reach the blocks. */
static struct blob stored_gzip(struct blob *plain)
{
	uint8_t head[15] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1}, tail[8];
	FUZZ_CHECK(plain->len < 65536);
	stele_put_le16(head + 11, (uint16_t)plain->len);
	stele_put_le16(head + 13, (uint16_t)~plain->len);
	stele_put_le32(tail, (uint32_t)crc32(0, plain->p, (unsigned)plain->len));
	stele_put_le32(tail + 4, (uint32_t)plain->len);
	struct blob out = blob_copy(head, sizeof(head));
	blob_add(&out, plain->p, plain->len);
	blob_add(&out, tail, sizeof(tail));
	blob_free(plain);
	return out;
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	uint8_t zero[200] = {0};
	struct stele_miner_opts opts = {.seed = i, .block_len = 1800, .legacy = i == 1};
	struct blob file = {0}, again;
	switch (i) {
	case 0:
	case 1:
		file = mined_ends(opts, 103, 2);
		return seed(out, STELE_FORMAT_BITCOIN_BLK, 0, 1, &file);
	case 2: /* through a key, with padding */
		file = mined_ends(opts, 20, 5);
		blob_add(&file, zero, sizeof(zero));
		return seed(out, STELE_FORMAT_BITCOIN_BLK, 77, 9, &file);
	case 3: /* a gap and a torn frame */
		file = mined_ends(opts, 6, 4);
		blob_add(&file, "left by a crash", 15);
		again = blob_copy(file.p, 400);
		blob_add(&file, again.p, 200);
		blob_add(&file, again.p, 400);
		blob_free(&again);
		return seed(out, STELE_FORMAT_BITCOIN_BLK, 0, 30, &file);
	case 4:
		file = made_era1(5);
		return seed(out, STELE_FORMAT_ERA1, 0, 50, &file);
	case 5:
		file = made_era1(1);
		return seed(out, STELE_FORMAT_ERA1, 0, 1, &file);
	case 6:
		file = made_rlp(5, false);
		return seed(out, STELE_FORMAT_RLP, 0, 3, &file);
	case 7:
		file = made_rlp(3, true);
		file = stored_gzip(&file);
		return seed(out, STELE_FORMAT_RLP_GZIP, 0, 5, &file);
	case 8:
		file = fabric_file("mychannel", 0, 5);
		return seed(out, STELE_FORMAT_FABRIC, 0, 4, &file);
	case 9:
	case 10:
	case 11:
		file = fisco_file(0, 4, i == 10, (enum fisco_bits)(i - 9));
		return seed(out, STELE_FORMAT_FISCO, 0, 6, &file);
	case 12:
		file = mined_ends(opts, 103, 1);
		file.len -= 285 + 16; /* only the last block, without its frame */
		memmove(file.p, file.p + 285 + 16, file.len);
		return seed(out, STELE_FORMAT_BITCOIN_RAW, 0, 8, &file);
	default:
		return 0;
	}
}

/* ---- one parse ---- */

struct parse {
	const struct blob *file;
	const uint8_t *key;
	enum stele_format format;
	const struct stele_chain *chain;
	struct stele_found_block block[BLOCKS_MAX];
	size_t blocks;
	uint64_t end; /* of what was reported last */
	struct stele_sha256_stream events;
};

static void put(struct parse *p, uint64_t v)
{
	stele_sha256_update(&p->events, &v, sizeof(v));
}

static enum stele_err on_block(void *ctx, const struct stele_found_block *b)
{
	struct parse *p = ctx;
	FUZZ_CHECK(b->nparts >= 1 && b->nparts <= STELE_PARTS_MAX);
	for (size_t i = 0; i < b->nparts; i++) {
		FUZZ_CHECK(b->part[i].encoding == STELE_ENCODING_GZIP ||
		           (b->part[i].offset >= p->end &&
		            b->part[i].offset + b->part[i].length <= p->file->len));
		p->end = b->part[i].offset + b->part[i].length;
		put(p, b->part[i].offset);
		put(p, b->part[i].length);
	}
	stele_sha256_update(&p->events, b->hash.b, sizeof(b->hash.b));
	stele_sha256_update(&p->events, b->parent.b, sizeof(b->parent.b));
	stele_sha256_update(&p->events, b->tx_ids, b->tx_count * sizeof(b->tx_ids[0]));
	put(p, b->height);
	if (p->blocks < BLOCKS_MAX)
		p->block[p->blocks++] = *b;
	return STELE_OK;
}

static enum stele_err on_gap(void *ctx, const struct stele_gap *g)
{
	struct parse *p = ctx;
	FUZZ_CHECK(g->length > 0 && g->offset >= p->end && g->offset + g->length <= p->file->len);
	p->end = g->offset + g->length;
	put(p, g->kind);
	put(p, g->offset);
	put(p, g->length);
	return STELE_OK;
}

static enum stele_err run(struct parse *p, size_t piece)
{
	struct stele_parser_opts opts = {.format = p->format,
	                                 .xor_key = p->key,
	                                 .want_tx_ids = true,
	                                 .on_block = on_block,
	                                 .on_gap = on_gap,
	                                 .ctx = p};
	struct stele_parser *parser;
	struct stele_file_facts facts = {0};
	stele_sha256_init(&p->events);
	enum stele_err err = stele_parser_create(&opts, &parser);
	FUZZ_CHECK(err == STELE_OK);
	for (size_t at = 0; at < p->file->len && err == STELE_OK; at += piece) {
		size_t n = p->file->len - at < piece ? p->file->len - at : piece;
		err = stele_parser_feed(parser, p->file->p + at, n);
	}
	if (err == STELE_OK)
		err = stele_parser_finish(parser, &facts);
	stele_parser_destroy(parser);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_CORRUPT);
	FUZZ_CHECK(err == STELE_OK || (stele_detail()[0] && !strchr(stele_detail(), '\n')));
	FUZZ_CHECK(err != STELE_OK || (facts.count && facts.length == p->file->len));
	p->chain = facts.chain;
	return err;
}

static void extract_all(const struct parse *p)
{
	for (size_t i = 0; i < p->blocks; i++) {
		const struct stele_found_block *b = &p->block[i];
		struct stele_stored_part part[STELE_PARTS_MAX];
		struct stele_extract_opts opts = {
		    .format = p->format, .chain = p->chain, .xor_key = p->key, .hash = b->hash};
		uint8_t *out;
		size_t len;
		for (size_t k = 0; k < b->nparts; k++) {
			if (b->part[k].encoding == STELE_ENCODING_GZIP)
				return;
			part[k] =
			    (struct stele_stored_part){b->part[k], p->file->p + b->part[k].offset};
		}
		FUZZ_CHECK(stele_block_extract(&opts, part, b->nparts, &out, &len) == STELE_OK);
		free(out);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct parse whole, pieces;
	uint8_t key[8];
	if (size < HEAD || !stele_format_supported(data[0]))
		return 0;
	struct blob file = blob_copy(data + HEAD, size - HEAD);
	bool hidden = data[1] && data[0] == STELE_FORMAT_BITCOIN_BLK;
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = hidden ? (uint8_t)(data[1] * (i + 1)) : 0;
	for (size_t i = 0; i < file.len; i++)
		file.p[i] ^= key[i % 8];
	(void)stele_format_detect(data + HEAD, size - HEAD, NULL, NULL);
	(void)stele_format_detect(file.p, file.len, NULL, key);
	whole = pieces = (struct parse){.file = &file, .key = key, .format = data[0]};
	enum stele_err a = run(&whole, file.len ? file.len : 1);
	enum stele_err b = run(&pieces, 1 + (size_t)data[2] * data[2]);
	struct stele_hash x, y;
	stele_sha256_value(&whole.events, &x);
	stele_sha256_value(&pieces.events, &y);
	FUZZ_CHECK(a == b && stele_hash_equal(&x, &y));
	if (a == STELE_OK)
		extract_all(&whole);
	blob_free(&file);
	return 0;
}
