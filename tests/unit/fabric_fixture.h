/* Fabric block files made for tests and fuzz targets: consistent in every hash, signed by
 * nobody. */
#ifndef TESTS_UNIT_FABRIC_FIXTURE_H
#define TESTS_UNIT_FABRIC_FIXTURE_H

#include <stdio.h>

#include "storage/base/sha256.h"
#include "storage/ledger/fabric.h"
#include "tests/unit/blob.h"

static inline void fabric_number(struct blob *out, uint64_t v)
{
	uint8_t bytes[10];
	blob_add(out, bytes, stele_uvarint_write(v, bytes));
}

static inline void fabric_bytes(struct blob *out, const void *p, size_t len)
{
	fabric_number(out, len);
	blob_add(out, p, len);
}

/* A protobuf field of bytes. */
static inline void fabric_field(struct blob *out, unsigned number, const void *p, size_t len)
{
	fabric_number(out, number << 3 | 2);
	fabric_bytes(out, p, len);
}

/* Envelope { payload { header { channel_header { channel_id, tx_id } }, data }, signature }. */
static inline struct blob fabric_envelope(const char *channel, uint64_t n)
{
	struct blob channel_header = {0}, header = {0}, payload = {0}, out = {0};
	char id[65];
	struct stele_hash h;
	stele_sha256(&n, sizeof(n), &h);
	stele_hash_hex(&h, id);
	blob_add(&channel_header, "\x08\x03", 2); /* type: a transaction */
	fabric_field(&channel_header, 4, channel, strlen(channel));
	fabric_field(&channel_header, 5, id, 64);
	fabric_field(&header, 1, channel_header.p, channel_header.len);
	fabric_field(&payload, 1, header.p, header.len);
	fabric_field(&payload, 2, id, 1 + n % 60);
	fabric_field(&out, 1, payload.p, payload.len);
	fabric_field(&out, 2, "signature", 9);
	blob_free(&channel_header);
	blob_free(&header);
	blob_free(&payload);
	return out;
}

/* A block of n envelopes, each of them whatever bytes, without the length in front. */
static inline struct blob fabric_block_of(uint64_t number, const struct stele_hash *parent,
                                          const struct blob *envelopes, size_t n)
{
	struct blob out = {0};
	struct stele_sha256_stream data;
	struct stele_hash data_hash;
	stele_sha256_init(&data);
	for (size_t i = 0; i < n; i++)
		stele_sha256_update(&data, envelopes[i].p, envelopes[i].len);
	stele_sha256_value(&data, &data_hash);
	fabric_number(&out, number);
	fabric_bytes(&out, data_hash.b, 32);
	fabric_bytes(&out, parent->b, number ? 32 : 0);
	fabric_number(&out, n);
	for (size_t i = 0; i < n; i++)
		fabric_bytes(&out, envelopes[i].p, envelopes[i].len);
	fabric_number(&out, 3);
	fabric_bytes(&out, "orderers' signatures", 20);
	fabric_bytes(&out, "", 0);
	fabric_bytes(&out, "\x00", 1);
	return out;
}

/* n blocks from `first` on, one to three envelopes each, as a file. */
static inline struct blob fabric_file(const char *channel, uint64_t first, size_t n)
{
	struct blob out = {0};
	struct stele_hash parent = {{5}};
	for (size_t i = 0; i < n; i++) {
		struct blob envelope[3];
		size_t count = 1 + i % 3;
		struct stele_fabric_block b;
		for (size_t k = 0; k < count; k++)
			envelope[k] = fabric_envelope(channel, 10 * i + k);
		struct blob block = fabric_block_of(first + i, &parent, envelope, count);
		fabric_bytes(&out, block.p, block.len);
		enum stele_err err = stele_fabric_block_check(block.p, block.len, &b, NULL);
		assert(err == STELE_OK);
		(void)err;
		parent = b.hash;
		for (size_t k = 0; k < count; k++)
			blob_free(&envelope[k]);
		blob_free(&block);
	}
	return out;
}

#endif
