/*
 * Canonical JSON (RFC 8785, restricted to objects, arrays, strings, true and false, and whole
 * numbers up to 2^53 - 1): a writer of our own, and a strict way to take fields out of what jansson
 * parsed. Whoever reads a canonical file writes it again and compares: that is the whole check of
 * its form. Thread: a writer belongs to one at a time.
 */
#ifndef NET_ANCHOR_CANON_H
#define NET_ANCHOR_CANON_H

#include <jansson.h>

#include "storage/base/bytes.h"

#define STELE_CANON_DEPTH_MAX  8u
#define STELE_CANON_NUMBER_MAX (((uint64_t)1 << 53) - 1)

struct stele_canon { /* zeroed: empty */
	char *text;  /* owned; NUL-terminated once there is any */
	size_t len, cap;
	bool failed; /* out of memory: what follows does nothing */
	unsigned depth;
	bool more[STELE_CANON_DEPTH_MAX];
	const char *last_key[STELE_CANON_DEPTH_MAX]; /* keys must ascend: asserted */
};

void stele_canon_finish(struct stele_canon *j);
/* Keys are literals (they are kept until the object is closed); NULL inside an array. */
void stele_canon_object(struct stele_canon *j, const char *key);
void stele_canon_array(struct stele_canon *j, const char *key);
void stele_canon_close(struct stele_canon *j, char bracket); /* '}' or ']' */
/* Well-formed UTF-8 without NUL. */
void stele_canon_string(struct stele_canon *j, const char *key, const char *s, size_t len);
void stele_canon_hex(struct stele_canon *j, const char *key, const void *bytes, size_t len);
void stele_canon_number(struct stele_canon *j, const char *key, uint64_t v); /* <= NUMBER_MAX */

/* True when nothing failed, everything is closed, and the text is these bytes. */
bool stele_canon_is(const struct stele_canon *j, const char *bytes, size_t len);

/* Parses one object; duplicate names and NUL are refused. CORRUPT says where. NOMEM. Release with
 * json_decref. */
STELE_MUST_USE enum stele_err stele_canon_parse(const char *bytes, size_t len, json_t **out);

/* Fields of a parsed object; false: missing, of another type, or out of bounds. */
bool stele_canon_get_number(const json_t *object, const char *key, uint64_t max, uint64_t *out);
bool stele_canon_get_hex(const json_t *object, const char *key, void *out, size_t len);
/* At most cap - 1 bytes; a NUL is put behind them. */
bool stele_canon_get_string(const json_t *object, const char *key, char *out, size_t cap,
                            size_t *len);
/* An array of 32-byte hashes in hex, at most cap. */
bool stele_canon_get_hashes(const json_t *object, const char *key, struct stele_hash *out,
                            size_t cap, size_t *n);
/* Every key of the object is one of these (NULL-terminated): fields nobody knows are refused. */
bool stele_canon_only(const json_t *object, const char *const *keys);

#endif
