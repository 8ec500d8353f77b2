/*
 * The text form of every signed body, driven by tables: lines "name value...\n" in a fixed order,
 * integers decimal, hashes lower-case hex, one blank between values, "-" alone for a line that may
 * be absent and is. Canonical: what the reader accepts, the writer writes to the same bytes.
 *
 * A table is an array of lines, and a line an array of parts, each naming a field of the struct by
 * its offset. Both ends of the table are marked by zeros. Pure; nothing allocates. Thread: any.
 */
#ifndef STELE_BASE_TEXT_H
#define STELE_BASE_TEXT_H

#include "storage/base/bytes.h"

enum stele_text_kind {
	STELE_TEXT_END = 0,
	STELE_TEXT_HEX32,  /* 32 bytes: a hash or a key */
	STELE_TEXT_OBJECT, /* the same, after "sha256:" */
	STELE_TEXT_U32,
	STELE_TEXT_U64,
	STELE_TEXT_NAME,  /* char[STELE_NAME_MAX]: printable ASCII without blanks, not "-" */
	STELE_TEXT_CAIP2, /* char[STELE_CAIP2_MAX]: a chain as CAIP-2 writes it */
	STELE_TEXT_LINE,  /* char[STELE_NAME_MAX]: UTF-8 to the line's end, no control characters */
	STELE_TEXT_WORD,  /* int32: one of `words`, its number is the index; words[0] may be NULL */
	STELE_TEXT_FLAG,  /* bool: words[0] or words[1] */
	STELE_TEXT_OWN,   /* `own` writes and reads it: hex of up to STELE_TEXT_OWN_MAX bytes */
};

#define STELE_CAIP2_MAX    48u /* "bip122:000000000019d6689c085ae165831e93" with NUL */
#define STELE_TEXT_OWN_MAX 64u

struct stele_text_part {
	enum stele_text_kind kind;
	size_t at; /* offset of the field */
	const char *const *words;
	const struct stele_text_own *own;
};

struct stele_text_own {
	size_t len; /* bytes, <= STELE_TEXT_OWN_MAX */
	void (*write)(const void *field, uint8_t *bytes);
	bool (*read)(const uint8_t *bytes,
	             void *field); /* false: not what write could have written */
};

#define STELE_TEXT_PARTS_MAX 5u
struct stele_text_line {
	const char *name;
	bool optional;
	size_t has; /* optional: offset of its bool */
	struct stele_text_part part[STELE_TEXT_PARTS_MAX + 1];
};

/* Writes the lines' text. INVALID names a line whose field has no text form. Overrun shows in w. */
STELE_MUST_USE enum stele_err stele_text_write(const struct stele_text_line *table,
                                               const void *from, struct stele_writer *w);
/* Reads exactly the table's lines; r goes on behind them. CORRUPT names the line by number (counted
 * from *line, which it advances) and name. Fields of absent optional lines are not touched. */
STELE_MUST_USE enum stele_err stele_text_read(const struct stele_text_line *table,
                                              struct stele_reader *r, unsigned *line, void *into);
/* Reads the fixed line `text` (without its LF). CORRUPT. */
STELE_MUST_USE enum stele_err stele_text_expect(struct stele_reader *r, unsigned *line,
                                                const char *text);
/* CORRUPT unless nothing is left. */
STELE_MUST_USE enum stele_err stele_text_end(const struct stele_reader *r, unsigned line);

/* One value as these bodies write it: a canonical decimal of at most max. False: it is none. */
bool stele_text_u64(const char *s, size_t len, uint64_t max, uint64_t *out);
/* namespace [-a-z0-9]{3,8} ":" reference [-_a-zA-Z0-9]{1,32} (CAIP-2). */
bool stele_caip2_ok(const char *s, size_t len);
bool stele_name_ok(const char *s, size_t len);

/* Any text (a path, an error's detail) as UTF-8: bytes that are none become U+FFFD, and what out cannot hold is cut off
 * between two characters. Three times the text's length, and one, always suffice. Returns out. */
char *stele_text_utf8(const char *text, char *out, size_t cap);

#endif
