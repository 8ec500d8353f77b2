/* Chunks of framed snappy: identifier, compressed, stored, skippable. The compression itself is
 * libsnappy's. */
#include "storage/ledger/snappy_frame.h"

#include <snappy-c.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define CHUNK_COMPRESSED 0x00u
#define CHUNK_STORED     0x01u
#define CHUNK_SKIP_MIN   0x80u /* 0x80..0xfd, and padding 0xfe */
#define CHUNK_SKIP_MAX   0xfeu
#define CHUNK_IDENTIFIER 0xffu
#define CHUNK_DATA_MAX   65536u /* bytes before compression */
#define CHUNK_HEADER     4u

static const uint8_t identifier[10] = {0xff, 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'Y'};

static uint32_t mask(uint32_t crc)
{
	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

struct chunk {
	uint8_t type;
	const uint8_t *data; /* compressed or stored bytes, behind the CRC */
	size_t len;
	size_t plain; /* bytes it inflates to; 0 for those that are skipped */
	uint32_t crc;
};

/* The next chunk, its lengths checked. */
static enum stele_err next_chunk(struct stele_reader *r, size_t number, struct chunk *out)
{
	uint32_t head = stele_read_le32(r);
	*out = (struct chunk){.type = (uint8_t)head};
	size_t len = head >> 8;
	const uint8_t *body = stele_read_span(r, len);
	if (r->bad)
		return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu is cut", number);
	if (out->type == CHUNK_IDENTIFIER) {
		if (len != 6 || memcmp(body, identifier + CHUNK_HEADER, 6) != 0)
			return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu: a bad identifier",
			                  number);
		return STELE_OK;
	}
	if (out->type >= CHUNK_SKIP_MIN && out->type <= CHUNK_SKIP_MAX)
		return STELE_OK;
	if (out->type != CHUNK_COMPRESSED && out->type != CHUNK_STORED)
		return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu: type 0x%02x is reserved",
		                  number, out->type);
	if (len < 4)
		return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu has no checksum", number);
	out->crc = stele_le32(body);
	out->data = body + 4;
	out->len = len - 4;
	out->plain = out->len;
	if (out->type == CHUNK_COMPRESSED &&
	    snappy_uncompressed_length((const char *)out->data, out->len, &out->plain) != SNAPPY_OK)
		return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu: no length", number);
	if (out->plain > CHUNK_DATA_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu holds %zu bytes, at most %u",
		                  number, out->plain, CHUNK_DATA_MAX);
	return STELE_OK;
}

static enum stele_err start(const void *bytes, size_t len, struct stele_reader *r)
{
	*r = stele_reader(bytes, len);
	if (len < sizeof(identifier) || memcmp(bytes, identifier, sizeof(identifier)) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "not framed snappy (no stream identifier)");
	return STELE_OK;
}

enum stele_err stele_snappy_frame_length(const void *bytes, size_t len, size_t max, size_t *out)
{
	struct stele_reader r;
	STELE_TRY(start(bytes, len, &r));
	size_t total = 0;
	for (size_t number = 0; stele_read_left(&r); number++) {
		struct chunk c;
		STELE_TRY(next_chunk(&r, number, &c));
		total += c.plain;
		if (total > max)
			return stele_fail(STELE_ERR_CORRUPT, "inflates to more than %zu bytes",
			                  max);
	}
	*out = total;
	return STELE_OK;
}

enum stele_err stele_snappy_frame_inflate(const void *bytes, size_t len, uint8_t *out,
                                          size_t out_len)
{
	struct stele_reader r;
	STELE_TRY(start(bytes, len, &r));
	size_t at = 0;
	for (size_t number = 0; stele_read_left(&r); number++) {
		struct chunk c;
		STELE_TRY(next_chunk(&r, number, &c));
		if (c.type >= CHUNK_SKIP_MIN)
			continue;
		if (c.plain > out_len - at)
			return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu overruns", number);
		size_t got = c.plain;
		if (c.type == CHUNK_STORED)
			memcpy(out + at, c.data, c.plain);
		else if (snappy_uncompress((const char *)c.data, c.len, (char *)out + at, &got) !=
		             SNAPPY_OK ||
		         got != c.plain)
			return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu does not inflate",
			                  number);
		if (mask(stele_crc32c(out + at, got, 0)) != c.crc)
			return stele_fail(STELE_ERR_CORRUPT, "snappy chunk %zu fails its CRC-32C",
			                  number);
		at += got;
	}
	if (at != out_len)
		return stele_fail(STELE_ERR_CORRUPT, "inflates to %zu bytes, not %zu", at, out_len);
	return STELE_OK;
}

enum stele_err stele_snappy_frame_deflate(const void *bytes, size_t len, uint8_t **out,
                                          size_t *out_len)
{
	size_t chunks = (len + CHUNK_DATA_MAX - 1) / CHUNK_DATA_MAX;
	size_t room = CHUNK_HEADER + 4 + snappy_max_compressed_length(CHUNK_DATA_MAX);
	uint8_t *buf = malloc(sizeof(identifier) + chunks * room);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "framed snappy of %zu bytes", len);
	memcpy(buf, identifier, sizeof(identifier));
	size_t at = sizeof(identifier);
	const uint8_t *p = bytes;
	for (size_t left = len; left;) {
		size_t take = left < CHUNK_DATA_MAX ? left : CHUNK_DATA_MAX;
		size_t got = room - CHUNK_HEADER - 4;
		uint8_t type = CHUNK_COMPRESSED;
		if (snappy_compress((const char *)p, take, (char *)buf + at + 8, &got) !=
		        SNAPPY_OK ||
		    got >= take) {
			type = CHUNK_STORED;
			memcpy(buf + at + 8, p, take);
			got = take;
		}
		stele_put_le32(buf + at, (uint32_t)(got + 4) << 8 | type);
		stele_put_le32(buf + at + 4, mask(stele_crc32c(p, take, 0)));
		at += 8 + got;
		p += take;
		left -= take;
	}
	*out = buf;
	*out_len = at;
	return STELE_OK;
}
