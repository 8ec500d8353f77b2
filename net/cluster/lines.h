/*
 * Lines of the map's signed bodies: "name value value...\n", one blank between values. A reader
 * over bytes that somebody else owns, and a growing writer. Strict: a blank too many, a leading
 * zero or a missing LF is an error, so that a body that is accepted has exactly one spelling.
 *
 * The reader's error is sticky: after the first failure every call yields zeros and empty strings,
 * and `err` with the thread's detail ("root part, line 7 (pool): ...") stays as it was, so that a
 * decoder checks once per loop. Private to net/cluster. Thread: any.
 */
#ifndef NET_CLUSTER_LINES_H
#define NET_CLUSTER_LINES_H

#include "storage/base/bytes.h"

struct stele_lines {
	const char *part; /* "root part", for errors */
	const char *p;    /* behind the current line */
	const char *end;
	const char *value; /* what is left of the current line; NULL between lines */
	const char *value_end;
	const char *name; /* the current line's */
	uint32_t number;  /* of the current line, from 1 */
	enum stele_err err;
};

struct stele_lines stele_lines_read(const char *part, const char *body, size_t len);
/* The first line, which says what the body is: "stele.dev/<kind>/v1". VERSION for a later one. */
void stele_lines_kind(struct stele_lines *l, const char *kind);
/* True, and steps onto it, when the next line is one of that name. */
bool stele_lines_take(struct stele_lines *l, const char *name);
/* The same where the line must be there. */
void stele_lines_need(struct stele_lines *l, const char *name);
/* The next value of the current line, NUL-terminated in out; `what` names it in errors. */
void stele_lines_word(struct stele_lines *l, const char *what, char *out, size_t cap);
uint64_t stele_lines_u64(struct stele_lines *l, const char *what, uint64_t min, uint64_t max);
void stele_lines_hex(struct stele_lines *l, const char *what, void *out, size_t len);
/* Printable, without blanks: stele_name_ok. */
void stele_lines_name(struct stele_lines *l, const char *what, char out[STELE_NAME_MAX]);
/* One of n words: its index. */
uint32_t stele_lines_choice(struct stele_lines *l, const char *what, const char *const *words,
                            uint32_t n);
/* The current line must be over. */
void stele_lines_done(struct stele_lines *l);
/* Fails at the current line with CORRUPT, unless it failed before. */
void stele_lines_fail(struct stele_lines *l, const char *fmt, ...) STELE_PRINTF(2, 3);
/* The body must be over; returns the reader's error. */
STELE_MUST_USE enum stele_err stele_lines_finish(struct stele_lines *l);
/* Lines of that name in a body: what to allocate for, after a check against a limit. */
uint32_t stele_lines_count(const char *body, size_t len, const char *name);

struct stele_lines_out {
	char *text; /* malloc'ed; the caller frees it, also after a failure */
	size_t len, cap;
	enum stele_err err; /* sticky: NOMEM, TOO_LARGE, INVALID */
};

void stele_lines_add(struct stele_lines_out *o, const char *fmt, ...) STELE_PRINTF(2, 3);
/* " name"; INVALID for one that could not be read back. */
void stele_lines_add_name(struct stele_lines_out *o, const char *what, const char *name);
/* sep and then the bytes as hex; sep may be "". */
void stele_lines_add_hex(struct stele_lines_out *o, const char *sep, const void *p, size_t len);

#endif
