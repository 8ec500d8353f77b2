/*
 * Reads and writes the lines of the map's signed bodies. Knows their spelling, nothing of what they
 * say: that is root.c and state.c.
 */
#include "net/cluster/lines.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/sign.h"
#include "storage/base/text.h"

#define OUT_MAX STELE_MAP_MAX

struct stele_lines stele_lines_read(const char *part, const char *body, size_t len)
{
	return (struct stele_lines){.part = part, .p = body, .end = body + len, .name = "start"};
}

void stele_lines_fail(struct stele_lines *l, const char *fmt, ...)
{
	if (l->err)
		return;
	char what[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	l->err = stele_fail(STELE_ERR_CORRUPT, "%s, line %u (%s): %s", l->part, l->number, l->name,
	                    what);
}

/* Puts the next line into value...value_end; false (and failed) when there is no whole one. */
static bool next_line(struct stele_lines *l, const char *name)
{
	if (l->err)
		return false;
	l->name = name;
	l->number++;
	const char *lf = memchr(l->p, '\n', (size_t)(l->end - l->p));
	if (!lf) {
		stele_lines_fail(l, l->p == l->end ? "missing" : "cut short");
		return false;
	}
	l->value = l->p;
	l->value_end = lf;
	l->p = lf + 1;
	return true;
}

/* The next line starts with the name and a blank. */
static bool is_next(const struct stele_lines *l, const char *name)
{
	size_t n = strlen(name);
	return (size_t)(l->end - l->p) > n && memcmp(l->p, name, n) == 0 && l->p[n] == ' ';
}

void stele_lines_kind(struct stele_lines *l, const char *kind)
{
	char want[64];
	int n = snprintf(want, sizeof(want), "stele.dev/%s/v", kind);
	if (!next_line(l, "version"))
		return;
	size_t len = (size_t)(l->value_end - l->value);
	if (len <= (size_t)n || memcmp(l->value, want, (size_t)n) != 0)
		stele_lines_fail(l, "expected %s1", want);
	else if (len != (size_t)n + 1 || l->value[n] != '1')
		l->err = stele_fail(STELE_ERR_VERSION,
		                    "%s is of version %.*s, this program reads version 1: upgrade "
		                    "it",
		                    l->part, len - (size_t)n > 20 ? 20 : (int)(len - (size_t)n),
		                    l->value + n);
	l->value = NULL;
}

bool stele_lines_take(struct stele_lines *l, const char *name)
{
	if (l->err || !is_next(l, name) || !next_line(l, name))
		return false;
	l->value += strlen(name);
	return true;
}

void stele_lines_need(struct stele_lines *l, const char *name)
{
	if (stele_lines_take(l, name) || l->err)
		return;
	l->name = name;
	l->number++;
	stele_lines_fail(l, "missing here");
}

/* The next value: a blank, then bytes up to the next blank or the line's end. False: failed. */
static bool next_value(struct stele_lines *l, const char *what, const char **at, size_t *len)
{
	if (l->err)
		return false;
	if (l->value == l->value_end || *l->value != ' ') {
		stele_lines_fail(l, "%s is missing", what);
		return false;
	}
	const char *start = l->value + 1, *stop = start;
	while (stop < l->value_end && *stop != ' ')
		stop++;
	if (stop == start) {
		stele_lines_fail(l, "%s is empty", what);
		return false;
	}
	*at = start;
	*len = (size_t)(stop - start);
	l->value = stop;
	return true;
}

void stele_lines_word(struct stele_lines *l, const char *what, char *out, size_t cap)
{
	const char *at;
	size_t len;
	out[0] = '\0';
	if (!next_value(l, what, &at, &len))
		return;
	for (size_t i = 0; i < len; i++)
		if (at[i] < '!' || at[i] > '~') {
			stele_lines_fail(l, "%s has a byte that is not printable", what);
			return;
		}
	if (len >= cap) {
		stele_lines_fail(l, "%s is %zu bytes long, more than %zu", what, len, cap - 1);
		return;
	}
	memcpy(out, at, len);
	out[len] = '\0';
}

uint64_t stele_lines_u64(struct stele_lines *l, const char *what, uint64_t min, uint64_t max)
{
	const char *at;
	size_t len;
	uint64_t v = 0;
	if (!next_value(l, what, &at, &len))
		return 0;
	if (!stele_text_u64(at, len, UINT64_MAX, &v))
		stele_lines_fail(l, "%s is not a number", what);
	else if (v < min || v > max)
		stele_lines_fail(l, "%s is %llu, not %llu to %llu", what, (unsigned long long)v,
		                 (unsigned long long)min, (unsigned long long)max);
	return l->err ? 0 : v;
}

void stele_lines_hex(struct stele_lines *l, const char *what, void *out, size_t len)
{
	const char *at;
	size_t n;
	memset(out, 0, len);
	if (next_value(l, what, &at, &n) && !stele_unhex(at, n, out, len, true))
		stele_lines_fail(l, "%s is not %zu lower-case hex digits", what, 2 * len);
}

void stele_lines_name(struct stele_lines *l, const char *what, char out[STELE_NAME_MAX])
{
	stele_lines_word(l, what, out, STELE_NAME_MAX);
	if (!l->err && !stele_name_ok(out, strlen(out))) {
		stele_lines_fail(l, "%s \"%s\" is no name", what, out);
		out[0] = '\0';
	}
}

uint32_t stele_lines_choice(struct stele_lines *l, const char *what, const char *const *words,
                            uint32_t n)
{
	char word[32];
	stele_lines_word(l, what, word, sizeof(word));
	for (uint32_t i = 0; i < n && !l->err; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	stele_lines_fail(l, "%s \"%s\" is not known", what, word);
	return 0;
}

void stele_lines_done(struct stele_lines *l)
{
	if (!l->err && l->value != l->value_end)
		stele_lines_fail(l, "more than expected at its end");
	l->value = NULL;
}

enum stele_err stele_lines_finish(struct stele_lines *l)
{
	if (!l->err && l->p != l->end) {
		l->number++;
		l->name = "end";
		stele_lines_fail(l, "a line that is not expected here");
	}
	return l->err;
}

uint32_t stele_lines_count(const char *body, size_t len, const char *name)
{
	struct stele_lines l = stele_lines_read("", body, len);
	uint32_t n = 0;
	while (l.p < l.end) {
		n += is_next(&l, name);
		const char *lf = memchr(l.p, '\n', (size_t)(l.end - l.p));
		l.p = lf ? lf + 1 : l.end;
	}
	return n;
}

void stele_lines_add(struct stele_lines_out *o, const char *fmt, ...)
{
	char line[512];
	if (o->err)
		return;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line) || o->len + (size_t)n > OUT_MAX) {
		o->err = stele_fail(STELE_ERR_TOO_LARGE, "cluster map: a part exceeds %u bytes",
		                    OUT_MAX);
		return;
	}
	if (o->len + (size_t)n > o->cap) {
		size_t cap = o->cap ? 2 * o->cap : 4096;
		char *text = realloc(o->text, cap);
		if (!text) {
			o->err = stele_fail(STELE_ERR_NOMEM, "cluster map: out of memory");
			return;
		}
		o->text = text;
		o->cap = cap;
	}
	memcpy(o->text + o->len, line, (size_t)n);
	o->len += (size_t)n;
}

void stele_lines_add_name(struct stele_lines_out *o, const char *what, const char *name)
{
	if (!o->err && !stele_name_ok(name, strnlen(name, STELE_NAME_MAX)))
		o->err = stele_fail(STELE_ERR_INVALID,
		                    "%s \"%.64s\" is no name: printable, without blanks, 1 to %u "
		                    "characters",
		                    what, name, STELE_NAME_MAX - 1);
	stele_lines_add(o, " %s", name);
}

void stele_lines_add_hex(struct stele_lines_out *o, const char *sep, const void *p, size_t len)
{
	char hex[2 * STELE_SIG_LEN + 1];
	assert(len <= STELE_SIG_LEN);
	stele_lines_add(o, "%s%s", sep, stele_hex(p, len, hex));
}
