/*
 * The table-driven reader and writer of canonical text bodies. It checks each value's form and
 * nothing that relates two of them: that is the body's own codec.
 */
#include "storage/base/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static const char object_prefix[] = "sha256:";
#define OBJECT_PREFIX_LEN (sizeof(object_prefix) - 1)
#define HEX32_DIGITS      (2u * STELE_HASH_LEN)

bool stele_text_u64(const char *s, size_t len, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;
	if (len == 0 || (len > 1 && s[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(s[i] - '0');
		if (v > (max - digit) / 10 || digit > max)
			return false;
		v = v * 10 + digit;
	}
	*out = v;
	return true;
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool stele_caip2_ok(const char *s, size_t len)
{
	size_t i = 0;
	while (i < len && (is_lower(s[i]) || is_digit(s[i]) || s[i] == '-'))
		i++;
	if (i < 3 || i > 8 || i == len || s[i] != ':' || len - i - 1 < 1 || len - i - 1 > 32)
		return false;
	for (i++; i < len; i++)
		if (!is_lower(s[i]) && !is_digit(s[i]) && !(s[i] >= 'A' && s[i] <= 'Z') &&
		    s[i] != '-' && s[i] != '_')
			return false;
	return true;
}
_Static_assert(8 + 1 + 32 < STELE_CAIP2_MAX, "every CAIP-2 name fits");

bool stele_name_ok(const char *s, size_t len)
{
	if (len == 0 || len >= STELE_NAME_MAX || (len == 1 && s[0] == '-'))
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return true;
}

/* Length of the well-formed UTF-8 sequence (RFC 3629) at s, 0 if there is none. */
static size_t utf8_step(const uint8_t *s, size_t len)
{
	uint8_t c = s[0];
	size_t n = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : 0;
	if (c >= 0xf0 && c <= 0xf4)
		n = 4;
	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) ||
	    (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

char *stele_text_utf8(const char *text, char *out, size_t cap)
{
	static const char none[] = "\xef\xbf\xbd";
	size_t left = strlen(text), at = 0;
	assert(cap > 0);
	while (left > 0) {
		size_t step = utf8_step((const uint8_t *)text, left);
		size_t len = step ? step : sizeof(none) - 1;
		if (len >= cap - at)
			break;
		memcpy(out + at, step ? text : none, len);
		at += len;
		text += step ? step : 1;
		left -= step ? step : 1;
	}
	out[at] = '\0';
	return out;
}

static bool line_ok(const char *s, size_t len)
{
	if (len == 0 || len >= STELE_NAME_MAX || (len == 1 && s[0] == '-') || s[0] == ' ' ||
	    s[len - 1] == ' ')
		return false;
	for (size_t i = 0, n; i < len; i += n) {
		uint8_t c = (uint8_t)s[i];
		n = utf8_step((const uint8_t *)s + i, len - i);
		if (n == 0 || c < 0x20 || c == 0x7f ||
		    (c == 0xc2 && (uint8_t)s[i + 1] < 0xa0)) /* C1 controls */
			return false;
	}
	return true;
}

/* Writing */

static void write_text(struct stele_writer *w, const char *s)
{
	stele_write_bytes(w, s, strlen(s));
}

static void write_hex(struct stele_writer *w, const void *bytes, size_t len)
{
	char hex[2 * STELE_TEXT_OWN_MAX + 1];
	assert(len <= STELE_TEXT_OWN_MAX);
	write_text(w, stele_hex(bytes, len, hex));
}
_Static_assert(STELE_HASH_LEN <= STELE_TEXT_OWN_MAX, "write_hex holds a hash");

static bool write_chars(struct stele_writer *w, const char *s, size_t cap,
                        bool (*ok)(const char *, size_t))
{
	size_t len = strnlen(s, cap);
	if (len == cap || !ok(s, len))
		return false;
	stele_write_bytes(w, s, len);
	return true;
}

static bool write_part(struct stele_writer *w, const struct stele_text_part *p, const void *field)
{
	char digits[24];
	uint8_t own[STELE_TEXT_OWN_MAX];
	switch (p->kind) {
	case STELE_TEXT_OBJECT:
		write_text(w, object_prefix);
		/* fall through */
	case STELE_TEXT_HEX32:
		write_hex(w, field, STELE_HASH_LEN);
		return true;
	case STELE_TEXT_U32:
		snprintf(digits, sizeof(digits), "%" PRIu32, *(const uint32_t *)field);
		write_text(w, digits);
		return true;
	case STELE_TEXT_U64:
		snprintf(digits, sizeof(digits), "%" PRIu64, *(const uint64_t *)field);
		write_text(w, digits);
		return true;
	case STELE_TEXT_NAME:
		return write_chars(w, field, STELE_NAME_MAX, stele_name_ok);
	case STELE_TEXT_CAIP2:
		return write_chars(w, field, STELE_CAIP2_MAX, stele_caip2_ok);
	case STELE_TEXT_LINE:
		return write_chars(w, field, STELE_NAME_MAX, line_ok);
	case STELE_TEXT_WORD: {
		int32_t v = *(const int32_t *)field;
		for (int32_t i = 0; i == 0 || p->words[i]; i++)
			if (i == v && p->words[i]) {
				write_text(w, p->words[i]);
				return true;
			}
		return false;
	}
	case STELE_TEXT_FLAG:
		write_text(w, p->words[*(const bool *)field]);
		return true;
	case STELE_TEXT_OWN:
		p->own->write(field, own);
		write_hex(w, own, p->own->len);
		return true;
	case STELE_TEXT_END:
		break;
	}
	assert(!"a text table with an unknown kind");
	return false;
}

enum stele_err stele_text_write(const struct stele_text_line *table, const void *from,
                                struct stele_writer *w)
{
	const uint8_t *base = from;
	for (const struct stele_text_line *l = table; l->name; l++) {
		write_text(w, l->name);
		if (l->optional && !*(const bool *)(base + l->has)) {
			write_text(w, " -\n");
			continue;
		}
		for (const struct stele_text_part *p = l->part; p->kind; p++) {
			write_text(w, " ");
			if (!write_part(w, p, base + p->at))
				return stele_fail(STELE_ERR_INVALID,
				                  "%s: this value cannot be written as text",
				                  l->name);
		}
		write_text(w, "\n");
	}
	return STELE_OK;
}

/* Reading */

/* The next line without its LF; NULL: there is no whole line. */
static const char *next_line(struct stele_reader *r, size_t *len)
{
	size_t left = stele_read_left(r);
	const uint8_t *lf = left ? memchr(r->p, '\n', left) : NULL;
	if (!lf)
		return NULL;
	const char *s = (const char *)r->p;
	*len = (size_t)(lf - r->p);
	r->p = lf + 1;
	return s;
}

static bool read_chars(const char *s, size_t len, char *out, size_t cap,
                       bool (*ok)(const char *, size_t))
{
	if (len >= cap || !ok(s, len))
		return false;
	memcpy(out, s, len);
	memset(out + len, 0, cap - len);
	return true;
}

static bool word_is(const char *word, const char *s, size_t len)
{
	return strlen(word) == len && memcmp(word, s, len) == 0;
}

static bool read_part(const struct stele_text_part *p, const char *s, size_t len, void *field)
{
	uint8_t own[STELE_TEXT_OWN_MAX];
	uint64_t v;
	switch (p->kind) {
	case STELE_TEXT_OBJECT:
		return len == OBJECT_PREFIX_LEN + HEX32_DIGITS &&
		       memcmp(s, object_prefix, OBJECT_PREFIX_LEN) == 0 &&
		       stele_unhex(s + OBJECT_PREFIX_LEN, HEX32_DIGITS, field, STELE_HASH_LEN,
		                   true);
	case STELE_TEXT_HEX32:
		return stele_unhex(s, len, field, STELE_HASH_LEN, true);
	case STELE_TEXT_U32:
		if (!stele_text_u64(s, len, UINT32_MAX, &v))
			return false;
		*(uint32_t *)field = (uint32_t)v;
		return true;
	case STELE_TEXT_U64:
		return stele_text_u64(s, len, UINT64_MAX, field);
	case STELE_TEXT_NAME:
		return read_chars(s, len, field, STELE_NAME_MAX, stele_name_ok);
	case STELE_TEXT_CAIP2:
		return read_chars(s, len, field, STELE_CAIP2_MAX, stele_caip2_ok);
	case STELE_TEXT_LINE:
		return read_chars(s, len, field, STELE_NAME_MAX, line_ok);
	case STELE_TEXT_WORD:
		for (int32_t i = 0; i == 0 || p->words[i]; i++)
			if (p->words[i] && word_is(p->words[i], s, len)) {
				*(int32_t *)field = i;
				return true;
			}
		return false;
	case STELE_TEXT_FLAG:
		for (int i = 0; i < 2; i++)
			if (word_is(p->words[i], s, len)) {
				*(bool *)field = i;
				return true;
			}
		return false;
	case STELE_TEXT_OWN:
		return stele_unhex(s, len, own, p->own->len, true) && p->own->read(own, field);
	case STELE_TEXT_END:
		break;
	}
	assert(!"a text table with an unknown kind");
	return false;
}

static enum stele_err bad_line(unsigned line, const char *name, const char *why)
{
	return stele_fail(STELE_ERR_CORRUPT, "line %u (%s): %s", line, name, why);
}

static enum stele_err read_line(const struct stele_text_line *l, const char *s, size_t len,
                                unsigned line, uint8_t *base)
{
	size_t name_len = strlen(l->name);
	if (len <= name_len || memcmp(s, l->name, name_len) != 0 || s[name_len] != ' ')
		return bad_line(line, l->name, "expected this name and a blank");
	s += name_len + 1;
	len -= name_len + 1;
	if (l->optional) {
		*(bool *)(base + l->has) = !(len == 1 && s[0] == '-');
		if (!*(bool *)(base + l->has))
			return STELE_OK;
	}
	for (const struct stele_text_part *p = l->part; p->kind; p++) {
		bool last = p[1].kind == STELE_TEXT_END;
		const char *blank = last ? s + len : memchr(s, ' ', len);
		if (!blank)
			return bad_line(line, l->name, "a value is missing");
		if (!read_part(p, s, (size_t)(blank - s), base + p->at))
			return bad_line(line, l->name, "not a value of the canonical form");
		if (!last) {
			len -= (size_t)(blank - s) + 1;
			s = blank + 1;
		}
	}
	return STELE_OK;
}

enum stele_err stele_text_read(const struct stele_text_line *table, struct stele_reader *r,
                               unsigned *line, void *into)
{
	for (const struct stele_text_line *l = table; l->name; l++) {
		size_t len;
		const char *s = next_line(r, &len);
		++*line;
		if (!s)
			return bad_line(*line, l->name, "missing, or not ended by a line feed");
		STELE_TRY(read_line(l, s, len, *line, into));
	}
	return STELE_OK;
}

enum stele_err stele_text_expect(struct stele_reader *r, unsigned *line, const char *text)
{
	size_t len;
	const char *s = next_line(r, &len);
	++*line;
	if (!s || len != strlen(text) || memcmp(s, text, len) != 0)
		return bad_line(*line, text, "expected exactly this line");
	return STELE_OK;
}

enum stele_err stele_text_end(const struct stele_reader *r, unsigned line)
{
	if (stele_read_left(r) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "line %u: %zu bytes after the last line",
		                  line + 1, stele_read_left(r));
	return STELE_OK;
}
