/* Bounded cursors and hex. No allocation, no formats: those belong to the codecs. */
#include "storage/base/bytes.h"

const uint8_t *stele_read_span(struct stele_reader *r, size_t len)
{
	if (r->bad || len > (size_t)(r->end - r->p)) {
		r->bad = true;
		return NULL;
	}
	const uint8_t *at = r->p;
	r->p += len;
	return at;
}

uint8_t stele_read_u8(struct stele_reader *r)
{
	const uint8_t *p = stele_read_span(r, 1);
	return p ? *p : 0;
}

uint16_t stele_read_le16(struct stele_reader *r)
{
	const uint8_t *p = stele_read_span(r, 2);
	return p ? stele_le16(p) : 0;
}

uint32_t stele_read_le32(struct stele_reader *r)
{
	const uint8_t *p = stele_read_span(r, 4);
	return p ? stele_le32(p) : 0;
}

uint64_t stele_read_le64(struct stele_reader *r)
{
	const uint8_t *p = stele_read_span(r, 8);
	return p ? stele_le64(p) : 0;
}

void stele_read_hash(struct stele_reader *r, struct stele_hash *out)
{
	const uint8_t *p = stele_read_span(r, sizeof(out->b));
	if (p)
		memcpy(out->b, p, sizeof(out->b));
	else
		memset(out, 0, sizeof(*out));
}

void stele_read_uuid(struct stele_reader *r, struct stele_uuid *out)
{
	const uint8_t *p = stele_read_span(r, sizeof(out->b));
	if (p)
		memcpy(out->b, p, sizeof(out->b));
	else
		memset(out, 0, sizeof(*out));
}

bool stele_read_done(const struct stele_reader *r)
{
	return !r->bad && r->p == r->end;
}

static uint8_t *reserve(struct stele_writer *w, size_t len)
{
	if (w->bad || len > (size_t)(w->end - w->p)) {
		w->bad = true;
		return NULL;
	}
	uint8_t *at = w->p;
	w->p += len;
	return at;
}

void stele_write_bytes(struct stele_writer *w, const void *p, size_t len)
{
	uint8_t *at = reserve(w, len);
	if (at && len)
		memcpy(at, p, len);
}

void stele_write_zero(struct stele_writer *w, size_t len)
{
	uint8_t *at = reserve(w, len);
	if (at && len)
		memset(at, 0, len);
}

void stele_write_u8(struct stele_writer *w, uint8_t v)
{
	stele_write_bytes(w, &v, 1);
}

void stele_write_le16(struct stele_writer *w, uint16_t v)
{
	uint8_t *at = reserve(w, 2);
	if (at)
		stele_put_le16(at, v);
}

void stele_write_le32(struct stele_writer *w, uint32_t v)
{
	uint8_t *at = reserve(w, 4);
	if (at)
		stele_put_le32(at, v);
}

void stele_write_le64(struct stele_writer *w, uint64_t v)
{
	uint8_t *at = reserve(w, 8);
	if (at)
		stele_put_le64(at, v);
}

void stele_write_hash(struct stele_writer *w, const struct stele_hash *h)
{
	stele_write_bytes(w, h->b, sizeof(h->b));
}

void stele_write_uuid(struct stele_writer *w, const struct stele_uuid *u)
{
	stele_write_bytes(w, u->b, sizeof(u->b));
}

char *stele_hex(const void *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

static int hex_digit(char c, bool strict)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (!strict && c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool stele_unhex(const char *hex, size_t hex_len, void *out, size_t len, bool strict)
{
	if (hex_len != 2 * len)
		return false;
	for (size_t i = 0; i < hex_len; i++)
		if (hex_digit(hex[i], strict) < 0)
			return false;
	uint8_t *b = out;
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(hex_digit(hex[2 * i], strict) << 4 |
				 hex_digit(hex[2 * i + 1], strict));
	return true;
}

bool stele_all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;
	uint8_t any = 0;
	for (size_t i = 0; i < len; i++)
		any |= b[i];
	return any == 0;
}
