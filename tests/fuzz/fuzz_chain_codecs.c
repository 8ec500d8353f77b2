/*
 * The codecs inside chain files, where a file's checksums would keep a fuzzer out: RLP, framed
 * snappy, an EVM block's lists, one block of Bitcoin, FISCO BCOS or Fabric, a segment's index, the
 * text of names. What is accepted is canonical or harmless, and nothing outside the input is read.
 *
 * Input: which1, then its bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/segment_index.h"
#include "tests/fuzz/fuzz.h"
#include "storage/ledger/format.h"
#include "tests/unit/evm_fixture.h"
#include "tests/unit/fabric_fixture.h"
#include "tests/unit/fisco_fixture.h"
#include "tests/unit/mined.h"

#define KINDS 9u

static size_t seed(uint8_t *out, unsigned kind, struct blob *b)
{
	FUZZ_CHECK(1 + b->len <= FUZZ_INPUT_MAX);
	out[0] = (uint8_t)kind;
	memcpy(out + 1, b->p, b->len);
	size_t len = 1 + b->len;
	blob_free(b);
	return len;
}

/* header_len2 body_len2 header body receipts */
static struct blob made_block(unsigned i)
{
	struct evm_block b;
	evm_block_make(&b, (struct evm_make){.number = i,
	                                     .txs = i % 5,
	                                     .uncles = i % 2,
	                                     .seed = i,
	                                     .difficulty = 1,
	                                     .withdrawals = i % 3 == 0});
	uint8_t lens[4];
	stele_put_le16(lens, (uint16_t)b.header.len);
	stele_put_le16(lens + 2, (uint16_t)b.body.len);
	struct blob out = blob_copy(lens, 4);
	blob_add(&out, b.header.p, b.header.len);
	blob_add(&out, b.body.p, b.body.len);
	blob_add(&out, b.receipts.p, b.receipts.len);
	evm_block_free(&b);
	return out;
}

static struct blob made_index(unsigned n)
{
	struct stele_index_entry e[8] = {0};
	struct stele_index_head head = {.family = STELE_FAMILY_EVM,
	                                .format = STELE_FORMAT_ERA1,
	                                .caip2 = "eip155:1",
	                                .nobjects = 1};
	struct stele_hash object = {{7}};
	struct blob out = {0};
	for (unsigned i = 0; i < n; i++) {
		e[i].hash.b[0] = (uint8_t)(i + 1);
		e[i].parent.b[0] = (uint8_t)i;
		e[i].height = i / 2;
		e[i].stale = i % 2;
		e[i].nparts = (uint8_t)(1 + i % 3);
	}
	FUZZ_CHECK(stele_index_encode(&head, &object, e, n, &out.p, &out.len) == STELE_OK);
	return out;
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	struct blob b = {0}, c;
	unsigned kind = i % KINDS, round = i / KINDS;
	if (round >= 4)
		return 0;
	switch (kind) {
	case 0:
		b = made_block(round + 1);
		break;
	case 1:
		c = made_block(round + 1);
		FUZZ_CHECK(stele_snappy_frame_deflate(c.p, c.len, &b.p, &b.len) == STELE_OK);
		blob_free(&c);
		break;
	case 2:
		b = made_block(round + 1);
		break;
	case 3:
		c = mined_file((struct stele_miner_opts){.seed = round,
		                                         .block_len = 1500,
		                                         .legacy = round == 1},
		               102);
		for (size_t at = 0, n = 0; at < c.len; n++) {
			size_t len = stele_le32(c.p + at + 4);
			if (n == 101)
				blob_add(&b, c.p + at + 8, len);
			at += 8 + len;
		}
		blob_free(&c);
		break;
	case 4:
		b = made_index(2 * round + 1);
		break;
	case 6:
	case 7: {
		struct stele_hash hash;
		b = fisco_block(
		    (struct fisco_make){.number = round, .txs = round, .sm3 = round == 2}, &hash);
		if (kind == 6)
			break;
		c = b;
		b = fisco_payload(round, &hash, &c, (enum fisco_bits)(round % 3));
		blob_free(&c);
		break;
	}
	case 8: {
		struct stele_hash parent = {{1}};
		struct blob e[3] = {fabric_envelope("a", 1), fabric_envelope("a", 2),
		                    fabric_envelope("a", 3)};
		b = fabric_block_of(round, &parent, e, 1 + round % 3);
		for (size_t k = 0; k < 3; k++)
			blob_free(&e[k]);
		break;
	}
	default:
		blob_add(&b, round % 2 ? "mainnet-00000-5ec1ffb8.era1" : "eip155:11155111",
		         round % 2 ? 27 : 15);
	}
	return seed(out, kind, &b);
}

static void try_rlp(const uint8_t *p, size_t len)
{
	struct stele_reader r = stele_reader(p, len);
	struct stele_rlp item;
	uint8_t head[STELE_RLP_HEADER_MAX];
	uint64_t v;
	while (stele_rlp_next(&r, &item)) {
		size_t head_len = item.raw_len - item.len;
		FUZZ_CHECK(item.raw >= p && item.raw + item.raw_len <= p + len);
		if (head_len)
			FUZZ_CHECK(stele_rlp_header(item.list, item.len, head) == head_len &&
			           memcmp(head, item.raw, head_len) == 0);
		(void)stele_rlp_u64(&item, &v);
	}
}

static void try_snappy(const uint8_t *p, size_t len)
{
	size_t plain;
	if (stele_snappy_frame_length(p, len, 1 << 20, &plain) != STELE_OK)
		return;
	uint8_t *out = malloc(plain + 1);
	FUZZ_CHECK(out);
	if (stele_snappy_frame_inflate(p, len, out, plain) == STELE_OK) {
		uint8_t *again;
		size_t again_len;
		FUZZ_CHECK(stele_snappy_frame_deflate(out, plain, &again, &again_len) == STELE_OK);
		free(again);
	}
	free(out);
}

static void try_evm(const uint8_t *p, size_t len)
{
	static struct stele_evm_scratch scratch;
	struct stele_evm_header h;
	struct stele_evm_body body;
	struct stele_rlp list;
	uint32_t txs = 0;
	const struct stele_hash *ids;
	if (len < 4)
		return;
	size_t a = stele_le16(p), b = stele_le16(p + 2);
	p += 4;
	len -= 4;
	if (a > len || b > len - a || stele_evm_header_decode(p, a, &h) != STELE_OK ||
	    !stele_rlp_whole(p + a, b, &list))
		return;
	struct stele_reader r = stele_rlp_items(&list);
	if (stele_evm_body_decode(&r, &body) == STELE_OK) {
		(void)!stele_evm_body_check(&scratch, &h, &body, &txs, &ids);
		(void)!stele_evm_receipts_check(&scratch, &h, p + a + b, len - a - b, txs);
	}
}

static void try_bitcoin(const uint8_t *p, size_t len)
{
	static struct stele_bitcoin_scratch scratch;
	struct stele_bitcoin_block out;
	if (stele_bitcoin_block_check(&scratch, p, len, NULL, &out) == STELE_OK)
		FUZZ_CHECK(out.length <= len && out.tx_count >= 1);
}

static void try_index(const uint8_t *p, size_t len)
{
	struct stele_index ix;
	struct stele_index_entry e, found;
	struct stele_hash object;
	if (stele_index_open(p, len, &ix) != STELE_OK)
		return;
	stele_index_object(&ix, 0, &object);
	for (uint32_t i = 0; i < ix.count; i++) {
		stele_index_entry(&ix, i, &e);
		FUZZ_CHECK(stele_index_find_hash(&ix, &e.hash, &found) == STELE_OK);
		FUZZ_CHECK(stele_hash_equal(&e.parent, &found.parent));
		if (stele_index_find_height(&ix, e.height, &found) == STELE_OK)
			FUZZ_CHECK(found.height == e.height && !found.stale);
	}
}

static void try_names(const uint8_t *p, size_t len)
{
	char text[200];
	struct stele_chain chain;
	const struct stele_chain *era;
	struct stele_hash h;
	uint64_t epoch;
	uint8_t root[4];
	len = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
	memcpy(text, p, len);
	text[len] = '\0';
	if (stele_chain_find(text, &chain) == STELE_OK)
		FUZZ_CHECK(strcmp(text, chain.caip2) == 0 || strcmp(text, chain.alias) == 0);
	(void)stele_era1_name_parse(text, &era, &epoch, root);
	(void)!stele_chain_hash_parse(STELE_FAMILY_BITCOIN, text, &h);
}

static void try_fisco_block(const uint8_t *p, size_t len)
{
	static struct stele_fisco_scratch scratch;
	struct stele_fisco_block b;
	if (stele_fisco_block_check(&scratch, p, len, &b) == STELE_OK)
		FUZZ_CHECK(b.signatures_len <= len);
}

static enum stele_err on_block(void *ctx, const struct stele_found_block *b)
{
	size_t *len = ctx;
	FUZZ_CHECK(b->part[0].offset + b->part[0].length <= *len);
	return STELE_OK;
}

/* Under a CRC that holds. */
static void try_fisco_payload(const uint8_t *p, size_t len)
{
	struct blob payload = blob_copy(p, len), file = blob_copy("\0\0\0\1", 4);
	struct stele_parser_opts opts = {
	    .format = STELE_FORMAT_FISCO, .on_block = on_block, .ctx = &file.len};
	struct stele_parser *parser;
	struct stele_file_facts facts;
	fisco_record(&file, &payload);
	FUZZ_CHECK(stele_parser_create(&opts, &parser) == STELE_OK);
	if (stele_parser_feed(parser, file.p, file.len) == STELE_OK)
		(void)!stele_parser_finish(parser, &facts);
	stele_parser_destroy(parser);
	blob_free(&payload);
	blob_free(&file);
}

static void try_fabric(const uint8_t *p, size_t len)
{
	struct stele_fabric_block b;
	uint8_t *out;
	size_t out_len;
	if (stele_fabric_block_check(p, len, &b, NULL) != STELE_OK)
		return;
	FUZZ_CHECK(b.length <= len);
	FUZZ_CHECK(stele_fabric_block_proto(p, &b, &out, &out_len) == STELE_OK);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[KINDS])(const uint8_t *, size_t) = {
	    try_rlp,   try_snappy,      try_evm,           try_bitcoin, try_index,
	    try_names, try_fisco_block, try_fisco_payload, try_fabric};
	if (size > 0)
		tries[data[0] % KINDS](data + 1, size - 1);
	return 0;
}
