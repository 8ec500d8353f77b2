/* One Fabric block: its parts, its hashes, its other form. Does not know files or other blocks. */
#include "storage/ledger/fabric.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

/* ---- varints and byte strings ---- */

bool stele_uvarint_read(struct stele_reader *r, uint64_t *out)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t b = stele_read_u8(r);
		if (shift == 63 && b > 1)
			break;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (b & 0x80)
			continue;
		if (b == 0 && shift > 0) /* a shorter form exists */
			break;
		*out = v;
		return !r->bad;
	}
	r->bad = true;
	return false;
}

size_t stele_uvarint_write(uint64_t v, uint8_t out[10])
{
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

struct bytes {
	const uint8_t *p;
	size_t len;
};

static bool read_bytes(struct stele_reader *r, struct bytes *out)
{
	uint64_t n;
	if (!stele_uvarint_read(r, &n) || n > stele_read_left(r)) {
		r->bad = true;
		return false;
	}
	out->len = (size_t)n;
	out->p = stele_read_span(r, out->len);
	return true;
}

/* The next field of a protobuf message, when it is a byte string. False: the end, another kind
 * (bad). */
static bool read_field(struct stele_reader *r, uint64_t *number, struct bytes *out)
{
	uint64_t tag;
	if (stele_read_left(r) == 0)
		return false;
	if (!stele_uvarint_read(r, &tag) || (tag & 7) != 2) {
		r->bad = true;
		return false;
	}
	*number = tag >> 3;
	return read_bytes(r, out);
}

/* The byte string in a message's field, skipping others of any kind. False: none, or no message. */
static bool find_field(struct bytes message, uint64_t want, struct bytes *out)
{
	struct stele_reader r = stele_reader(message.p, message.len);
	bool found = false;
	while (stele_read_left(&r)) {
		uint64_t tag, v;
		struct bytes b = {0};
		if (!stele_uvarint_read(&r, &tag))
			return false;
		if ((tag & 7) == 2) {
			if (!read_bytes(&r, &b))
				return false;
			if (tag >> 3 == want) {
				*out = b;
				found = true;
			}
		} else if ((tag & 7) != 0 || !stele_uvarint_read(&r, &v)) {
			return false;
		}
	}
	return found;
}

/* ---- envelopes ---- */

/* Envelope { payload = 1, signature = 2 } in its one spelling. */
static bool envelope_payload(struct bytes envelope, struct bytes *payload)
{
	struct stele_reader r = stele_reader(envelope.p, envelope.len);
	struct bytes signature;
	uint64_t number;
	if (!read_field(&r, &number, payload) || number != 1 || payload->len == 0)
		return false;
	if (read_field(&r, &number, &signature) && (number != 2 || signature.len == 0))
		return false;
	return stele_read_done(&r);
}

/* Payload.header.channel_header: channel_id is field 4, tx_id field 5. */
static bool envelope_ids(struct bytes payload, struct bytes *channel, struct bytes *tx)
{
	struct bytes header, channel_header;
	*tx = (struct bytes){0};
	if (!find_field(payload, 1, &header) || !find_field(header, 1, &channel_header) ||
	    !find_field(channel_header, 4, channel))
		return false;
	find_field(channel_header, 5, tx);
	return channel->len > 0 && channel->len < STELE_FABRIC_CHANNEL_MAX &&
	       !memchr(channel->p, 0, channel->len);
}

static enum stele_err check_envelope(struct bytes envelope, uint32_t i,
                                     struct stele_fabric_block *out, struct stele_hash *id)
{
	struct bytes payload, channel, tx;
	if (!envelope_payload(envelope, &payload))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "envelope %u is not in its one spelling (payload, signature)", i);
	if (!envelope_ids(payload, &channel, &tx))
		return stele_fail(STELE_ERR_CORRUPT, "envelope %u names no channel", i);
	if (i == 0) {
		memcpy(out->channel, channel.p, channel.len);
		out->channel[channel.len] = '\0';
	} else if (strlen(out->channel) != channel.len ||
	           memcmp(out->channel, channel.p, channel.len) != 0) {
		return stele_fail(STELE_ERR_CORRUPT, "envelope %u is of another channel", i);
	}
	if (id && !stele_unhex((const char *)tx.p, tx.len, id->b, sizeof(id->b), true))
		memset(id, 0, sizeof(*id));
	return STELE_OK;
}

static enum stele_err check_envelopes(struct stele_reader *r, struct stele_fabric_block *out,
                                      struct stele_hash *ids)
{
	uint64_t n;
	struct stele_sha256_stream data;
	struct stele_hash got;
	if (!stele_uvarint_read(r, &n) || n == 0 || n > STELE_FABRIC_TXS_MAX)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "its number of envelopes is cut or impossible");
	stele_sha256_init(&data);
	for (uint32_t i = 0; i < n; i++) {
		struct bytes envelope;
		if (!read_bytes(r, &envelope))
			return stele_fail(STELE_ERR_CORRUPT, "envelope %u is cut", i);
		stele_sha256_update(&data, envelope.p, envelope.len);
		STELE_TRY(check_envelope(envelope, i, out, ids ? &ids[i] : NULL));
	}
	stele_sha256_value(&data, &got);
	if (!stele_hash_equal(&got, &out->data_hash))
		return stele_fail(STELE_ERR_CORRUPT, "DataHash does not match its envelopes");
	out->tx_count = (uint32_t)n;
	return STELE_OK;
}

/* ---- the block ---- */

/* SHA-256 of DER SEQUENCE { INTEGER number, OCTET STRING previous, OCTET STRING data hash }. */
static void header_hash(struct stele_fabric_block *b)
{
	uint8_t der[128], be[9] = {0};
	struct stele_writer w = stele_writer(der, sizeof(der));
	size_t skip = 0;
	stele_put_be64(be + 1, b->number);
	while (skip < 8 && be[skip] == 0 && !(be[skip + 1] & 0x80))
		skip++;
	size_t number = 9 - skip, previous = b->has_parent ? STELE_HASH_LEN : 0;
	stele_write_u8(&w, 0x30);
	stele_write_u8(&w, (uint8_t)(2 + number + 2 + previous + 2 + STELE_HASH_LEN));
	stele_write_u8(&w, 0x02);
	stele_write_u8(&w, (uint8_t)number);
	stele_write_bytes(&w, be + skip, number);
	stele_write_u8(&w, 0x04);
	stele_write_u8(&w, (uint8_t)previous);
	stele_write_bytes(&w, b->parent.b, previous);
	stele_write_u8(&w, 0x04);
	stele_write_u8(&w, STELE_HASH_LEN);
	stele_write_hash(&w, &b->data_hash);
	assert(!w.bad);
	stele_sha256(der, stele_written(&w), &b->hash);
}

static enum stele_err read_header(struct stele_reader *r, struct stele_fabric_block *out)
{
	struct bytes data, previous;
	if (!stele_uvarint_read(r, &out->number) || !read_bytes(r, &data) ||
	    !read_bytes(r, &previous))
		return stele_fail(STELE_ERR_CORRUPT, "its header is cut");
	out->has_parent = previous.len > 0;
	if (data.len != STELE_HASH_LEN || (previous.len != 0 && previous.len != STELE_HASH_LEN) ||
	    out->has_parent != (out->number != 0))
		return stele_fail(STELE_ERR_CORRUPT, "its header's hashes have %zu and %zu bytes",
		                  data.len, previous.len);
	memcpy(out->data_hash.b, data.p, STELE_HASH_LEN);
	if (out->has_parent)
		memcpy(out->parent.b, previous.p, STELE_HASH_LEN);
	header_hash(out);
	return STELE_OK;
}

static enum stele_err read_metadata(struct stele_reader *r)
{
	uint64_t n;
	struct bytes one;
	if (!stele_uvarint_read(r, &n))
		return stele_fail(STELE_ERR_CORRUPT, "its metadata is cut");
	for (uint64_t i = 0; i < n; i++) {
		if (!read_bytes(r, &one))
			return stele_fail(STELE_ERR_CORRUPT, "its metadata is cut");
	}
	return STELE_OK;
}

enum stele_err stele_fabric_block_check(const uint8_t *bytes, size_t len,
                                        struct stele_fabric_block *out, struct stele_hash *ids)
{
	struct stele_reader r = stele_reader(bytes, len);
	*out = (struct stele_fabric_block){0};
	STELE_TRY(read_header(&r, out));
	out->envelopes_at = (size_t)(r.p - bytes);
	STELE_TRY(check_envelopes(&r, out, ids));
	out->metadata_at = (size_t)(r.p - bytes);
	STELE_TRY(read_metadata(&r));
	out->length = (size_t)(r.p - bytes);
	return STELE_OK;
}

/* ---- as protobuf ---- */

static void put_field(struct stele_writer *w, unsigned number, const void *p, size_t len)
{
	uint8_t head[10];
	stele_write_u8(w, (uint8_t)(number << 3 | 2));
	stele_write_bytes(w, head, stele_uvarint_write(len, head));
	stele_write_bytes(w, p, len);
}

/* A counted list of byte strings as the message { repeated bytes = 1 }; returns its length. With
 * to NULL it is only measured. */
static size_t put_list(const uint8_t *from, size_t from_len, struct stele_writer *to)
{
	struct stele_reader r = stele_reader(from, from_len);
	struct bytes one;
	uint64_t n;
	size_t total = 0;
	if (!stele_uvarint_read(&r, &n))
		return 0;
	for (uint64_t i = 0; i < n && read_bytes(&r, &one); i++) {
		uint8_t head[10];
		total += 1 + stele_uvarint_write(one.len, head) + one.len;
		if (to)
			put_field(to, 1, one.p, one.len);
	}
	return total;
}

static void put_list_field(struct stele_writer *w, unsigned number, const uint8_t *from, size_t len)
{
	uint8_t head[10];
	stele_write_u8(w, (uint8_t)(number << 3 | 2));
	stele_write_bytes(w, head, stele_uvarint_write(put_list(from, len, NULL), head));
	put_list(from, len, w);
}

enum stele_err stele_fabric_block_proto(const uint8_t *bytes, const struct stele_fabric_block *b,
                                        uint8_t **out, size_t *out_len)
{
	/* each length prefix stays, each item gains a tag, and three messages gain theirs */
	size_t envelopes = b->metadata_at - b->envelopes_at, metadata = b->length - b->metadata_at;
	size_t cap = 2 * envelopes + 2 * metadata + 256;
	uint8_t *buf = malloc(cap), header[128], number[10];
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "a block of %zu bytes", cap);
	struct stele_writer h = stele_writer(header, sizeof(header));
	if (b->number) {
		stele_write_u8(&h, 1 << 3);
		stele_write_bytes(&h, number, stele_uvarint_write(b->number, number));
	}
	if (b->has_parent)
		put_field(&h, 2, b->parent.b, STELE_HASH_LEN);
	put_field(&h, 3, b->data_hash.b, STELE_HASH_LEN);
	struct stele_writer w = stele_writer(buf, cap);
	put_field(&w, 1, header, stele_written(&h));
	put_list_field(&w, 2, bytes + b->envelopes_at, envelopes);
	put_list_field(&w, 3, bytes + b->metadata_at, metadata);
	assert(!w.bad);
	*out = buf;
	*out_len = stele_written(&w);
	return STELE_OK;
}
