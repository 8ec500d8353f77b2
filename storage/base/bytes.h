/*
 * Bytes: little- and big-endian loads and stores, bounded cursors for codecs, hex.
 *
 * A cursor never reads or writes outside its span. After the first overrun it is `bad` for good:
 * reads give zero, writes do nothing; a codec checks once, at its end.
 */
#ifndef STELE_BASE_BYTES_H
#define STELE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "storage/base/err.h"
#include "storage/base/limits.h"

/* A 32-byte SHA-256: an object, block, shard root, deposit, mark or node of a tree. */
struct stele_hash {
	uint8_t b[STELE_HASH_LEN];
};

/* A disk's uuid. */
struct stele_uuid {
	uint8_t b[16];
};

static inline bool stele_hash_equal(const struct stele_hash *a, const struct stele_hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}
static inline int stele_hash_cmp(const struct stele_hash *a, const struct stele_hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}
/* To the one just before it, for cursors that stand before a key; false, and unchanged: it is the first. */
static inline bool stele_hash_back(struct stele_hash *h)
{
	static const struct stele_hash first;
	if (stele_hash_cmp(h, &first) == 0)
		return false;
	for (int i = STELE_HASH_LEN - 1; h->b[i]-- == 0; i--)
		;
	return true;
}
static inline bool stele_uuid_equal(const struct stele_uuid *a, const struct stele_uuid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static inline uint16_t stele_le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t stele_le32(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t stele_le64(const void *p)
{
	const uint8_t *b = p;
	return (uint64_t)stele_le32(b) | (uint64_t)stele_le32(b + 4) << 32;
}
static inline uint32_t stele_be32(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)b[3] | (uint32_t)b[2] << 8 | (uint32_t)b[1] << 16 | (uint32_t)b[0] << 24;
}
static inline uint64_t stele_be64(const void *p)
{
	const uint8_t *b = p;
	return (uint64_t)stele_be32(b) << 32 | stele_be32(b + 4);
}
static inline void stele_put_le16(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}
static inline void stele_put_le32(void *p, uint32_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t)(v >> (8 * i));
}
static inline void stele_put_le64(void *p, uint64_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t)(v >> (8 * i));
}
static inline void stele_put_be64(void *p, uint64_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t)(v >> (56 - 8 * i));
}

static inline uint64_t stele_round_up(uint64_t v, uint64_t unit) /* unit: a power of two */
{
	return (v + unit - 1) & ~(unit - 1);
}

/* Reading cursor over bytes that somebody else owns. */
struct stele_reader {
	const uint8_t *p;
	const uint8_t *end;
	bool bad;
};

static inline struct stele_reader stele_reader(const void *p, size_t len)
{
	return (struct stele_reader){.p = p, .end = (const uint8_t *)p + len};
}
static inline size_t stele_read_left(const struct stele_reader *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}
/* len bytes in place, or NULL (and bad) when fewer are left. */
const uint8_t *stele_read_span(struct stele_reader *r, size_t len);
uint8_t stele_read_u8(struct stele_reader *r);
uint16_t stele_read_le16(struct stele_reader *r);
uint32_t stele_read_le32(struct stele_reader *r);
uint64_t stele_read_le64(struct stele_reader *r);
void stele_read_hash(struct stele_reader *r, struct stele_hash *out);
void stele_read_uuid(struct stele_reader *r, struct stele_uuid *out);
/* True when nothing overran and nothing is left. */
bool stele_read_done(const struct stele_reader *r);

/* Writing cursor over a buffer that somebody else owns. */
struct stele_writer {
	uint8_t *start;
	uint8_t *p;
	uint8_t *end;
	bool bad;
};

static inline struct stele_writer stele_writer(void *p, size_t cap)
{
	return (struct stele_writer){.start = p, .p = p, .end = (uint8_t *)p + cap};
}
static inline size_t stele_written(const struct stele_writer *w)
{
	return (size_t)(w->p - w->start);
}
void stele_write_bytes(struct stele_writer *w, const void *p, size_t len);
void stele_write_zero(struct stele_writer *w, size_t len);
void stele_write_u8(struct stele_writer *w, uint8_t v);
void stele_write_le16(struct stele_writer *w, uint16_t v);
void stele_write_le32(struct stele_writer *w, uint32_t v);
void stele_write_le64(struct stele_writer *w, uint64_t v);
void stele_write_hash(struct stele_writer *w, const struct stele_hash *h);
void stele_write_uuid(struct stele_writer *w, const struct stele_uuid *u);

/* Lower-case hex with a terminating NUL: out holds 2 * len + 1 bytes. Returns out. */
char *stele_hex(const void *p, size_t len, char *out);
#define STELE_HEX_LEN (2u * STELE_HASH_LEN + 1u)
static inline char *stele_hash_hex(const struct stele_hash *h, char out[STELE_HEX_LEN])
{
	return stele_hex(h->b, sizeof(h->b), out);
}
/* Exactly 2 * len hex digits (lower case only when strict). False: out is untouched. */
bool stele_unhex(const char *hex, size_t hex_len, void *out, size_t len, bool strict);
/* True when every byte is zero. */
bool stele_all_zero(const void *p, size_t len);

#endif
