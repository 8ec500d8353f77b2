/* Signed notes and checkpoints: writing, strict reading, verifying. Whose keys to trust is the
 * caller's to say; consistency between two checkpoints is the log's (log.h). */
#include "storage/base/note.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "storage/base/sha256.h"
#include "storage/base/text.h"

#define TYPE_ED25519     0x01
#define TYPE_COSIGNATURE 0x04
#define KEY_ID_LEN       4u

static const char dash[] = "\xe2\x80\x94 "; /* an em dash and a blank begin a signature line */
#define DASH_LEN (sizeof(dash) - 1)

/* Base64 (RFC 4648, with padding), one spelling for each string of bytes */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#define BASE64_LEN(n) (((n) + 2) / 3 * 4)

static void base64_write(const uint8_t *in, size_t len, char *out)
{
	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)in[i] << 16;
		v |= have > 1 ? (uint32_t)in[i + 1] << 8 : 0;
		v |= have > 2 ? in[i + 2] : 0;
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = have > 1 ? digits[v >> 6 & 63] : '=';
		*out++ = have > 2 ? digits[v & 63] : '=';
	}
}

/* False unless s is the one spelling of at most cap bytes. */
static bool base64_read(const char *s, size_t len, uint8_t *out, size_t cap, size_t *out_len)
{
	char again[4];
	size_t n = 0;
	if (len == 0 || len % 4 != 0)
		return false;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = 0;
		size_t have = 3;
		uint8_t three[3];
		if (i + 4 == len)
			have -= (s[i + 3] == '=') + (size_t)(s[i + 2] == '=');
		for (size_t k = 0; k < have + 1; k++) {
			const char *d = s[i + k] ? strchr(digits, s[i + k]) : NULL;
			if (!d)
				return false;
			v |= (uint32_t)(d - digits) << (18 - 6 * k);
		}
		three[0] = (uint8_t)(v >> 16);
		three[1] = (uint8_t)(v >> 8);
		three[2] = (uint8_t)v;
		base64_write(three, have, again);
		if (memcmp(again, s + i, 4) != 0 || n + have > cap)
			return false;
		memcpy(out + n, three, have);
		n += have;
	}
	*out_len = n;
	return true;
}

/* Names and keys */

bool stele_origin_ok(const char *origin)
{
	size_t len = strnlen(origin, STELE_LOG_ORIGIN_MAX);
	if (len == 0 || len == STELE_LOG_ORIGIN_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (origin[i] <= ' ' || origin[i] > '~' || origin[i] == '+')
			return false;
	return true;
}

void stele_note_key_id(const char *name, uint8_t type, const struct stele_public_key *key,
                       uint8_t out[4])
{
	struct stele_sha256_stream s;
	struct stele_hash h;
	const uint8_t middle[2] = {'\n', type};
	stele_sha256_init(&s);
	stele_sha256_update(&s, name, strlen(name));
	stele_sha256_update(&s, middle, sizeof(middle));
	stele_sha256_update(&s, key->b, sizeof(key->b));
	stele_sha256_value(&s, &h);
	memcpy(out, h.b, KEY_ID_LEN);
}

/* Writing */

static void write_text(struct stele_writer *w, const char *s)
{
	stele_write_bytes(w, s, strlen(s));
}

static void write_base64(struct stele_writer *w, const uint8_t *bytes, size_t len)
{
	char text[BASE64_LEN(KEY_ID_LEN + STELE_NOTE_SIG_MAX)];
	assert(len <= KEY_ID_LEN + STELE_NOTE_SIG_MAX);
	base64_write(bytes, len, text);
	stele_write_bytes(w, text, BASE64_LEN(len));
}

static void write_sig(struct stele_writer *w, const char *name, const uint8_t key_id[KEY_ID_LEN],
                      const uint8_t *bytes, size_t len)
{
	uint8_t payload[KEY_ID_LEN + STELE_NOTE_SIG_MAX];
	memcpy(payload, key_id, KEY_ID_LEN);
	memcpy(payload + KEY_ID_LEN, bytes, len);
	write_text(w, dash);
	write_text(w, name);
	write_text(w, " ");
	write_base64(w, payload, KEY_ID_LEN + len);
	write_text(w, "\n");
}

enum stele_err stele_note_sign(const struct stele_checkpoint *c, const struct stele_secret_key *key,
                               char *out, size_t *len)
{
	struct stele_writer w = stele_writer(out, STELE_NOTE_MAX);
	struct stele_sig sig;
	uint8_t key_id[KEY_ID_LEN];
	char number[24];
	if (!stele_origin_ok(c->origin))
		return stele_fail(STELE_ERR_INVALID, "checkpoint: its origin cannot be written");
	if (c->size > STELE_LOG_SIZE_MAX)
		return stele_fail(STELE_ERR_INVALID, "checkpoint: size %" PRIu64 " is too large",
		                  c->size);
	snprintf(number, sizeof(number), "\n%" PRIu64 "\n", c->size);
	write_text(&w, c->origin);
	write_text(&w, number);
	write_base64(&w, c->root.b, sizeof(c->root.b));
	write_text(&w, "\n");
	stele_sign(key, out, stele_written(&w), &sig);
	stele_note_key_id(c->origin, TYPE_ED25519, &key->pub, key_id);
	write_text(&w, "\n");
	write_sig(&w, c->origin, key_id, sig.b, sizeof(sig.b));
	assert(!w.bad); /* an origin, a number, 44 and 92 characters */
	*len = stele_written(&w);
	return STELE_OK;
}

/* The text that a cosigner signs; returns its length. out: STELE_NOTE_MAX bytes and 64 more. */
static size_t cosigned_text(const char *text, size_t len, uint64_t time, char *out)
{
	int head = snprintf(out, 64, "cosignature/v1\ntime %" PRIu64 "\n", time);
	memcpy(out + head, text, len);
	return (size_t)head + len;
}

enum stele_err stele_note_cosign(char *note, size_t *len, const char *name,
                                 const struct stele_secret_key *key, uint64_t time)
{
	struct stele_note read;
	char text[STELE_NOTE_MAX + 64];
	uint8_t key_id[KEY_ID_LEN], bytes[STELE_NOTE_SIG_MAX];
	struct stele_sig sig;
	if (!stele_origin_ok(name))
		return stele_fail(STELE_ERR_INVALID, "cosignature: its name cannot be written");
	STELE_TRY(stele_note_read(note, *len, &read));
	if (read.nsigs == STELE_NOTE_SIGS_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "checkpoint: has %u signatures already",
		                  read.nsigs);
	stele_sign(key, text, cosigned_text(read.text, read.text_len, time, text), &sig);
	stele_note_key_id(name, TYPE_COSIGNATURE, &key->pub, key_id);
	stele_put_be64(bytes, time);
	memcpy(bytes + 8, sig.b, sizeof(sig.b));
	struct stele_writer w = stele_writer(note + *len, STELE_NOTE_MAX - *len);
	write_sig(&w, name, key_id, bytes, sizeof(bytes));
	if (w.bad)
		return stele_fail(STELE_ERR_TOO_LARGE, "checkpoint: no room for a cosignature");
	*len += stele_written(&w);
	return STELE_OK;
}

/* Reading */

/* The next line without its LF, or NULL. */
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

static bool read_name(const char *s, size_t len, char out[STELE_LOG_ORIGIN_MAX])
{
	if (len >= STELE_LOG_ORIGIN_MAX || memchr(s, 0, len))
		return false;
	memset(out, 0, STELE_LOG_ORIGIN_MAX);
	memcpy(out, s, len);
	return stele_origin_ok(out);
}

static bool read_sig(const char *s, size_t len, struct stele_note_sig *out)
{
	uint8_t payload[KEY_ID_LEN + STELE_NOTE_SIG_MAX];
	size_t payload_len;
	if (len <= DASH_LEN || memcmp(s, dash, DASH_LEN) != 0)
		return false;
	s += DASH_LEN;
	len -= DASH_LEN;
	const char *blank = memchr(s, ' ', len);
	if (!blank || !read_name(s, (size_t)(blank - s), out->name))
		return false;
	len -= (size_t)(blank + 1 - s);
	if (!base64_read(blank + 1, len, payload, sizeof(payload), &payload_len) ||
	    (payload_len != KEY_ID_LEN + STELE_SIG_LEN &&
	     payload_len != KEY_ID_LEN + STELE_NOTE_SIG_MAX))
		return false;
	memcpy(out->key_id, payload, KEY_ID_LEN);
	out->len = (uint32_t)(payload_len - KEY_ID_LEN);
	memset(out->bytes, 0, sizeof(out->bytes));
	memcpy(out->bytes, payload + KEY_ID_LEN, out->len);
	return true;
}

static enum stele_err read_checkpoint(struct stele_reader *r, struct stele_checkpoint *c)
{
	size_t len, got;
	const char *s = next_line(r, &len);
	if (!s || !read_name(s, len, c->origin))
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: line 1 is no origin");
	s = next_line(r, &len);
	if (!s || !stele_text_u64(s, len, STELE_LOG_SIZE_MAX, &c->size))
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: line 2 is no size");
	s = next_line(r, &len);
	if (!s || !base64_read(s, len, c->root.b, sizeof(c->root.b), &got) ||
	    got != sizeof(c->root.b))
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: line 3 is no root");
	return STELE_OK;
}

enum stele_err stele_note_read(const char *bytes, size_t len, struct stele_note *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	size_t line_len;
	if (len > STELE_NOTE_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: %zu bytes, at most %u", len,
		                  STELE_NOTE_MAX);
	memset(out, 0, sizeof(*out));
	STELE_TRY(read_checkpoint(&r, &out->checkpoint));
	out->text = bytes;
	out->text_len = (size_t)((const char *)r.p - bytes);
	const char *s = next_line(&r, &line_len);
	if (!s || line_len != 0)
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: line 4 is not blank");
	while (stele_read_left(&r) > 0) {
		if (out->nsigs == STELE_NOTE_SIGS_MAX)
			return stele_fail(STELE_ERR_CORRUPT, "checkpoint: more than %u signatures",
			                  STELE_NOTE_SIGS_MAX);
		s = next_line(&r, &line_len);
		if (!s || !read_sig(s, line_len, &out->sig[out->nsigs]))
			return stele_fail(STELE_ERR_CORRUPT, "checkpoint: line %u is no signature",
			                  5 + out->nsigs);
		out->nsigs++;
	}
	if (out->nsigs == 0)
		return stele_fail(STELE_ERR_CORRUPT, "checkpoint: not signed");
	return STELE_OK;
}

/* Verifying */

static const struct stele_note_sig *find_sig(const struct stele_note *note, const char *name,
                                             uint8_t type, const struct stele_public_key *key,
                                             uint32_t len)
{
	uint8_t key_id[KEY_ID_LEN];
	stele_note_key_id(name, type, key, key_id);
	for (uint32_t i = 0; i < note->nsigs; i++) {
		const struct stele_note_sig *s = &note->sig[i];
		if (s->len == len && strcmp(s->name, name) == 0 &&
		    memcmp(s->key_id, key_id, KEY_ID_LEN) == 0)
			return s;
	}
	return NULL;
}

bool stele_note_signed_by(const struct stele_note *note, const struct stele_public_key *key)
{
	struct stele_sig sig;
	const struct stele_note_sig *s =
	    find_sig(note, note->checkpoint.origin, TYPE_ED25519, key, STELE_SIG_LEN);
	if (!s)
		return false;
	memcpy(sig.b, s->bytes, sizeof(sig.b));
	return stele_sig_ok(key, note->text, note->text_len, &sig);
}

bool stele_note_cosigned_by(const struct stele_note *note, const char *name,
                            const struct stele_public_key *key, uint64_t *time)
{
	char text[STELE_NOTE_MAX + 64];
	struct stele_sig sig;
	const struct stele_note_sig *s =
	    find_sig(note, name, TYPE_COSIGNATURE, key, STELE_NOTE_SIG_MAX);
	if (!s)
		return false;
	uint64_t when = stele_be64(s->bytes);
	memcpy(sig.b, s->bytes + 8, sizeof(sig.b));
	if (!stele_sig_ok(key, text, cosigned_text(note->text, note->text_len, when, text), &sig))
		return false;
	*time = when;
	return true;
}
