/* The canonical writer, and taking fields out of parsed JSON. It does not judge what fields mean.
 */
#include "net/anchor/canon.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Writing */

void stele_canon_finish(struct stele_canon *j)
{
	free(j->text);
	*j = (struct stele_canon){0};
}

static void put(struct stele_canon *j, const char *s, size_t len)
{
	if (j->failed)
		return;
	if (j->cap - j->len <= len) { /* room for a NUL, too */
		size_t cap = 2 * (j->cap + len) + 256;
		char *text = realloc(j->text, cap);
		if (!text) {
			j->failed = true;
			return;
		}
		j->text = text;
		j->cap = cap;
	}
	memcpy(j->text + j->len, s, len);
	j->len += len;
	j->text[j->len] = '\0';
}

static void put_escaped(struct stele_canon *j, const char *s, size_t len)
{
	static const char names[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
	put(j, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		char out[8];
		assert(s[i] != '\0');
		const char *name = strchr(names, s[i]);
		if (name) {
			out[0] = '\\';
			out[1] = letters[name - names];
			put(j, out, 2);
		} else if ((uint8_t)s[i] < 0x20) {
			put(j, out, (size_t)snprintf(out, sizeof(out), "\\u%04x", s[i]));
		} else {
			put(j, &s[i], 1);
		}
	}
	put(j, "\"", 1);
}

/* What comes before a value: a comma, its name. */
static void begin(struct stele_canon *j, const char *key)
{
	if (j->more[j->depth])
		put(j, ",", 1);
	if (key) {
		const char *last = j->last_key[j->depth];
		assert(!last || strcmp(last, key) < 0);
		j->last_key[j->depth] = key;
		put_escaped(j, key, strlen(key));
		put(j, ":", 1);
	}
	j->more[j->depth] = true;
}

static void open_bracket(struct stele_canon *j, const char *key, const char *bracket)
{
	begin(j, key);
	put(j, bracket, 1);
	j->depth++;
	assert(j->depth < STELE_CANON_DEPTH_MAX);
	j->more[j->depth] = false;
	j->last_key[j->depth] = NULL;
}

void stele_canon_object(struct stele_canon *j, const char *key)
{
	open_bracket(j, key, "{");
}

void stele_canon_array(struct stele_canon *j, const char *key)
{
	open_bracket(j, key, "[");
}

void stele_canon_close(struct stele_canon *j, char bracket)
{
	assert(j->depth > 0);
	j->depth--;
	put(j, &bracket, 1);
}

void stele_canon_string(struct stele_canon *j, const char *key, const char *s, size_t len)
{
	begin(j, key);
	put_escaped(j, s, len);
}

void stele_canon_hex(struct stele_canon *j, const char *key, const void *bytes, size_t len)
{
	begin(j, key);
	put(j, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		char two[3];
		put(j, stele_hex((const uint8_t *)bytes + i, 1, two), 2);
	}
	put(j, "\"", 1);
}

void stele_canon_number(struct stele_canon *j, const char *key, uint64_t v)
{
	char number[24];
	assert(v <= STELE_CANON_NUMBER_MAX);
	begin(j, key);
	put(j, number, (size_t)snprintf(number, sizeof(number), "%" PRIu64, v));
}

bool stele_canon_is(const struct stele_canon *j, const char *bytes, size_t len)
{
	return !j->failed && j->depth == 0 && j->len == len && memcmp(j->text, bytes, len) == 0;
}

/* Reading */

enum stele_err stele_canon_parse(const char *bytes, size_t len, json_t **out)
{
	json_error_t e;
	json_t *root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &e);
	if (!root && json_error_code(&e) == json_error_out_of_memory)
		return stele_fail(STELE_ERR_NOMEM, "JSON: out of memory");
	if (!root)
		return stele_fail(STELE_ERR_CORRUPT, "not JSON: byte %d: %s", e.position, e.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return stele_fail(STELE_ERR_CORRUPT, "not a JSON object");
	}
	*out = root;
	return STELE_OK;
}

bool stele_canon_get_number(const json_t *object, const char *key, uint64_t max, uint64_t *out)
{
	const json_t *v = json_object_get(object, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    (uint64_t)json_integer_value(v) > max)
		return false;
	*out = (uint64_t)json_integer_value(v);
	return true;
}

bool stele_canon_get_hex(const json_t *object, const char *key, void *out, size_t len)
{
	const json_t *v = json_object_get(object, key);
	return json_is_string(v) &&
	       stele_unhex(json_string_value(v), json_string_length(v), out, len, true);
}

bool stele_canon_get_string(const json_t *object, const char *key, char *out, size_t cap,
                            size_t *len)
{
	const json_t *v = json_object_get(object, key);
	if (!json_is_string(v) || json_string_length(v) >= cap)
		return false;
	*len = json_string_length(v);
	memset(out, 0, cap);
	memcpy(out, json_string_value(v), *len);
	return true;
}

bool stele_canon_get_hashes(const json_t *object, const char *key, struct stele_hash *out,
                            size_t cap, size_t *n)
{
	const json_t *v = json_object_get(object, key);
	if (!json_is_array(v) || json_array_size(v) > cap)
		return false;
	*n = json_array_size(v);
	for (size_t i = 0; i < *n; i++) {
		const json_t *h = json_array_get(v, i);
		if (!json_is_string(h) || !stele_unhex(json_string_value(h), json_string_length(h),
		                                       out[i].b, sizeof(out[i].b), true))
			return false;
	}
	return true;
}

bool stele_canon_only(const json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;
	if (!json_is_object(object))
		return false;
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		const char *const *k = keys;
		while (*k && strcmp(*k, key) != 0)
			k++;
		if (!*k)
			return false;
	}
	return true;
}
