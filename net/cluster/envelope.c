/*
 * Reads and makes the cluster file's JSON and its signatures. Does not know what the bodies say.
 */
#include "net/cluster/envelope.h"

#include <stdio.h>

#define DEPTH_MAX  4u    /* {"root":{"signatures":[{"key": */
#define VALUES_MAX 1024u /* far more than two bodies and their signatures need */

/* Bounds what the JSON parser may build (and how deep it goes) before it sees the text. */
static enum stele_err check_shape(const char *text, size_t len)
{
	uint32_t depth = 0, values = 0;
	bool in_string = false;
	if (len > STELE_MAP_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "cluster file: %zu bytes, at most %u", len,
		                  STELE_MAP_MAX);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
			continue;
		}
		in_string = c == '"';
		values += c == ',' || c == ':' || c == '{' || c == '[';
		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
		if (depth > DEPTH_MAX || values > VALUES_MAX)
			return stele_fail(STELE_ERR_CORRUPT,
			                  "cluster file: more structure than a map has");
	}
	return STELE_OK;
}

/* A string member of an object that has exactly n members. */
static const char *member(const json_t *object, size_t n, const char *name, size_t *len)
{
	const json_t *v = json_object_get(object, name);
	if (json_object_size(object) != n || !json_is_string(v))
		return NULL;
	*len = json_string_length(v);
	return json_string_value(v);
}

static enum stele_err parse_signature(const json_t *s, const char *name, struct stele_envelope *e)
{
	struct stele_public_key *key = &e->key[e->nsigs];
	struct stele_sig sig;
	size_t key_len, sig_len;
	const char *key_hex = member(s, 2, "key", &key_len);
	const char *sig_hex = member(s, 2, "sig", &sig_len);
	if (!key_hex || !sig_hex || !stele_unhex(key_hex, key_len, key->b, STELE_KEY_LEN, true) ||
	    !stele_unhex(sig_hex, sig_len, sig.b, STELE_SIG_LEN, true))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "cluster file: %s: signature %u is not {\"key\":hex,\"sig\":hex}",
		                  name, e->nsigs + 1);
	for (uint32_t i = 0; i < e->nsigs; i++)
		if (stele_public_key_equal(&e->key[i], key))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "cluster file: %s: key %.16s... signed twice", name,
			                  key_hex);
	if (!stele_sig_ok(key, e->body, e->len, &sig))
		return stele_fail(STELE_ERR_DENIED,
		                  "cluster file: %s: the signature of key %.16s... does not hold",
		                  name, key_hex);
	e->nsigs++;
	return STELE_OK;
}

static enum stele_err parse_envelope(const json_t *file, const char *name, struct stele_envelope *e)
{
	e->json = json_object_get(file, name);
	e->body = member(e->json, 2, "body", &e->len);
	const json_t *sigs = json_object_get(e->json, "signatures");
	if (!e->body || !json_is_array(sigs))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "cluster file: \"%s\" is not {\"body\":...,\"signatures\":[...]}",
		                  name);
	if (json_array_size(sigs) > STELE_ENVELOPE_SIGS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "cluster file: %s: more than %u signatures",
		                  name, STELE_ENVELOPE_SIGS_MAX);
	for (size_t i = 0; i < json_array_size(sigs); i++)
		STELE_TRY(parse_signature(json_array_get(sigs, i), name, e));
	return STELE_OK;
}

enum stele_err stele_envelopes_parse(const char *text, size_t len, struct stele_envelopes *out)
{
	json_error_t why;
	memset(out, 0, sizeof(*out));
	STELE_TRY(check_shape(text, len));
	out->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!out->json)
		return stele_fail(STELE_ERR_CORRUPT, "cluster file: line %d: %s", why.line,
		                  why.text);
	if (json_object_size(out->json) != 2)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "cluster file: not {\"root\":...,\"state\":...}");
	STELE_TRY(parse_envelope(out->json, "root", &out->root));
	return parse_envelope(out->json, "state", &out->state);
}

void stele_envelopes_finish(struct stele_envelopes *e)
{
	json_decref(e->json);
	memset(e, 0, sizeof(*e));
}

enum stele_err stele_envelope_signed_by(const struct stele_envelope *e,
                                        const struct stele_public_key *key, uint32_t n,
                                        uint32_t threshold, const char *whose)
{
	uint32_t good = 0;
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < e->nsigs; k++)
			good += stele_public_key_equal(&key[i], &e->key[k]);
	if (good < threshold)
		return stele_fail(STELE_ERR_DENIED, "cluster file: %s: %u signed, %u must", whose,
		                  good, threshold);
	return STELE_OK;
}

json_t *stele_envelope_sign(const char *body, size_t len, const struct stele_secret_key *key,
                            uint32_t n)
{
	json_t *sigs = json_array();
	for (uint32_t i = 0; i < n; i++) {
		char key_hex[2 * STELE_KEY_LEN + 1], sig_hex[2 * STELE_SIG_LEN + 1];
		struct stele_sig sig;
		stele_sign(&key[i], body, len, &sig);
		json_t *one =
		    json_pack("{s:s,s:s}", "key", stele_hex(key[i].pub.b, STELE_KEY_LEN, key_hex),
		              "sig", stele_hex(sig.b, STELE_SIG_LEN, sig_hex));
		if (json_array_append_new(sigs, one) != 0) {
			json_decref(sigs);
			return NULL;
		}
	}
	json_t *text = json_stringn(body, len);
	json_t *envelope = json_object();
	int bad = json_object_set_new(envelope, "body", text);
	bad |= json_object_set_new(envelope, "signatures", sigs);
	if (bad) {
		json_decref(envelope);
		return NULL;
	}
	return envelope;
}
