/*
 * Key files: making, saving, loading, wiping. Knows nothing of what a key is for: that is the
 * map's.
 */
#include "net/cluster/keys.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define KEY_FILE_MAX 512u
#define HEX_LEN      (2u * STELE_KEY_LEN)

static const char head[] = "stele-key v1\n";

static void generate(struct stele_env *env, struct stele_secret_key *key)
{
	uint8_t seed[STELE_KEY_LEN];
	stele_env_random(env, seed, sizeof(seed));
	stele_key_from_seed(key, seed);
	sodium_memzero(seed, sizeof(seed));
}

void stele_keys_generate(struct stele_env *env, bool tls, bool sign, struct stele_keys *out)
{
	memset(out, 0, sizeof(*out));
	out->has_tls = tls;
	out->has_sign = sign;
	if (tls)
		generate(env, &out->tls);
	if (sign)
		generate(env, &out->sign);
}

void stele_keys_wipe(struct stele_keys *keys)
{
	sodium_memzero(keys, sizeof(*keys));
}

static void write_line(struct stele_writer *w, const char *name, const struct stele_secret_key *key)
{
	char hex[HEX_LEN + 1];
	stele_hex(key->seed, sizeof(key->seed), hex);
	stele_write_bytes(w, name, strlen(name));
	stele_write_bytes(w, " ", 1);
	stele_write_bytes(w, hex, HEX_LEN);
	stele_write_bytes(w, "\n", 1);
	sodium_memzero(hex, sizeof(hex));
}

enum stele_err stele_keys_save(struct stele_env *env, const char *path,
                               const struct stele_keys *keys)
{
	uint8_t text[KEY_FILE_MAX];
	struct stele_writer w = stele_writer(text, sizeof(text));
	stele_write_bytes(&w, head, sizeof(head) - 1);
	if (keys->has_tls)
		write_line(&w, "tls", &keys->tls);
	if (keys->has_sign)
		write_line(&w, "sign", &keys->sign);
	enum stele_err err = stele_file_save(env, path, text, stele_written(&w), 0600);
	sodium_memzero(text, sizeof(text));
	return err;
}

/* Others' permissions on the file itself. The env has no notion of them, and a simulated machine's
 * files have none: what is not in the process's own file system is not judged here. */
static enum stele_err check_mode(const char *path)
{
	struct stat st;
	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		return stele_fail(STELE_ERR_DENIED,
		                  "%s: others may read or write this key (mode %03o): chmod 600 %s",
		                  path, (unsigned)(st.st_mode & 0777), path);
	return STELE_OK;
}

/* "name <hex>\n" at the front of r, if it is there. False: there, but not well-formed. */
static bool read_line(struct stele_reader *r, const char *name, bool *has,
                      struct stele_secret_key *key)
{
	size_t n = strlen(name);
	uint8_t seed[STELE_KEY_LEN];
	*has = stele_read_left(r) > n && memcmp(r->p, name, n) == 0 && r->p[n] == ' ';
	if (!*has)
		return true;
	stele_read_span(r, n + 1);
	const uint8_t *hex = stele_read_span(r, HEX_LEN + 1);
	if (!hex || hex[HEX_LEN] != '\n' ||
	    !stele_unhex((const char *)hex, HEX_LEN, seed, sizeof(seed), true))
		return false;
	stele_key_from_seed(key, seed);
	sodium_memzero(seed, sizeof(seed));
	return true;
}

/* Says which line, never what is in it. */
static enum stele_err parse(const char *path, const char *text, size_t len, struct stele_keys *keys)
{
	struct stele_reader r = stele_reader(text, len);
	const uint8_t *first = stele_read_span(&r, sizeof(head) - 1);
	if (!first || memcmp(first, head, sizeof(head) - 1) != 0) {
		bool newer = first && memcmp(first, head, sizeof("stele-key v") - 1) == 0;
		return stele_fail(newer ? STELE_ERR_VERSION : STELE_ERR_CORRUPT,
		                  "%s: line 1 is not \"stele-key v1\": %s", path,
		                  newer ? "upgrade this program" : "is it a key file?");
	}
	if (!read_line(&r, "tls", &keys->has_tls, &keys->tls))
		return stele_fail(STELE_ERR_CORRUPT, "%s: line 2 is not \"tls\" and 64 hex digits",
		                  path);
	if (!read_line(&r, "sign", &keys->has_sign, &keys->sign))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "%s: line %d is not \"sign\" and 64 hex digits", path,
		                  keys->has_tls ? 3 : 2);
	if (!keys->has_tls && !keys->has_sign)
		return stele_fail(STELE_ERR_CORRUPT, "%s: line 2: there is no key in this file",
		                  path);
	if (!stele_read_done(&r))
		return stele_fail(STELE_ERR_CORRUPT, "%s: line %d is not expected", path,
		                  2 + keys->has_tls + keys->has_sign);
	return STELE_OK;
}

enum stele_err stele_keys_load(struct stele_env *env, const char *path, struct stele_keys *out)
{
	struct stele_keys keys = {0};
	char *text;
	size_t len;
	STELE_TRY(check_mode(path));
	enum stele_err err = stele_file_load(env, path, KEY_FILE_MAX, &text, &len);
	if (err == STELE_ERR_TOO_LARGE)
		return stele_fail(STELE_ERR_CORRUPT, "%s: is too long for a key file", path);
	STELE_TRY(err);
	err = parse(path, text, len, &keys);
	sodium_memzero(text, len);
	free(text);
	if (!err)
		*out = keys;
	stele_keys_wipe(&keys);
	return err;
}
