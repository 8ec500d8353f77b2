/*
 * Goal: a key file comes back as it was saved, is refused when others may read it or a byte of it
 * is wrong, never shows its secret in a message, and leaves nothing behind when wiped.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/cluster/keys.h"

static struct stele_env *env;
static char dir[64], path[80];

static void setup(void)
{
	cr_assert_eq(stele_env_threads_create(&(struct stele_env_opts){0}, &env), STELE_OK, "%s",
	             stele_detail());
	strcpy(dir, "/tmp/stele-keys-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a.key", dir);
}

static void teardown(void)
{
	unlink(path);
	rmdir(dir);
	stele_env_destroy(env);
}

static void write_text(const char *text, size_t len)
{
	unlink(path);
	FILE *file = fopen(path, "w");
	cr_assert_not_null(file);
	cr_assert_eq(fwrite(text, 1, len, file), len);
	cr_assert_eq(fclose(file), 0);
	cr_assert_eq(chmod(path, 0600), 0);
}

/* Loading must fail; out must stay as it was. */
static enum stele_err load_bad(void)
{
	struct stele_keys keys, same;
	memset(&keys, 0x5a, sizeof(keys));
	memcpy(&same, &keys, sizeof(same));
	enum stele_err err = stele_keys_load(env, path, &keys);
	if (err)
		cr_assert_eq(memcmp(&keys, &same, sizeof(keys)), 0);
	return err;
}

Test(keys, come_back, .init = setup, .fini = teardown)
{
	for (int kind = 1; kind < 4; kind++) {
		struct stele_keys keys, back;
		stele_keys_generate(env, kind & 1, kind & 2, &keys);
		cr_assert_eq(keys.has_tls, (bool)(kind & 1));
		cr_assert_eq(keys.has_sign, (bool)(kind & 2));
		cr_assert_eq(stele_all_zero(keys.tls.seed, 32), !keys.has_tls);
		cr_assert_eq(stele_all_zero(keys.sign.seed, 32), !keys.has_sign);
		cr_assert_neq(memcmp(keys.tls.seed, keys.sign.seed, 32), 0);
		cr_assert_eq(stele_keys_save(env, path, &keys), STELE_OK, "%s", stele_detail());
		struct stat st;
		cr_assert_eq(stat(path, &st), 0);
		cr_assert_eq(st.st_mode & 0777, 0600u);
		cr_assert_eq(stele_keys_load(env, path, &back), STELE_OK, "%s", stele_detail());
		cr_assert_eq(back.has_tls, keys.has_tls);
		cr_assert_eq(back.has_sign, keys.has_sign);
		cr_assert_eq(memcmp(&back.tls, &keys.tls, sizeof(keys.tls)), 0);
		cr_assert_eq(memcmp(&back.sign, &keys.sign, sizeof(keys.sign)), 0);
		struct stele_sig sig; /* it signs as itself */
		stele_sign(kind & 1 ? &back.tls : &back.sign, "x", 1, &sig);
		cr_assert(stele_sig_ok(kind & 1 ? &keys.tls.pub : &keys.sign.pub, "x", 1, &sig));
		stele_keys_wipe(&keys);
		cr_assert(stele_all_zero(&keys, sizeof(keys)));
	}
}

Test(keys, two_are_never_alike, .init = setup, .fini = teardown)
{
	struct stele_keys a, b;
	stele_keys_generate(env, true, true, &a);
	stele_keys_generate(env, true, true, &b);
	cr_assert_neq(memcmp(a.tls.seed, b.tls.seed, 32), 0);
	cr_assert_neq(memcmp(a.sign.seed, b.sign.seed, 32), 0);
}

Test(keys, others_may_not_read, .init = setup, .fini = teardown)
{
	struct stele_keys keys;
	stele_keys_generate(env, true, true, &keys);
	cr_assert_eq(stele_keys_save(env, path, &keys), STELE_OK);
	for (unsigned bit = 0; bit < 6; bit++) {
		cr_assert_eq(chmod(path, 0600 | 1u << bit), 0);
		cr_assert_eq(load_bad(), STELE_ERR_DENIED);
		cr_assert_not_null(strstr(stele_detail(), "chmod 600"), "%s", stele_detail());
	}
	cr_assert_eq(chmod(path, 0400), 0);
	cr_assert_eq(stele_keys_load(env, path, &keys), STELE_OK);
	cr_assert_eq(chmod(path, 0644), 0);
	/* saving again makes it private again */
	cr_assert_eq(stele_keys_save(env, path, &keys), STELE_OK);
	cr_assert_eq(stele_keys_load(env, path, &keys), STELE_OK);
}

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

Test(keys, bad_files, .init = setup, .fini = teardown)
{
	static const struct {
		const char *text, *detail;
		enum stele_err err;
	} bad[] = {
	    {"", "line 1", STELE_ERR_CORRUPT},
	    {"stele-key v1", "line 1", STELE_ERR_CORRUPT},
	    {"stele-key v1\n", "no key", STELE_ERR_CORRUPT},
	    {"stele-key v2\ntls " HEX "\n", "upgrade", STELE_ERR_VERSION},
	    {"ssh-rsa AAAA\ntls " HEX "\n", "line 1", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX, "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls  " HEX "\n", "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls 0" HEX "\n", "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX "0\n", "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX " \n", "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\nsign G" HEX "\n", "line 2", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX "\nsign " HEX, "line 3", STELE_ERR_CORRUPT},
	    {"stele-key v1\nsign " HEX "\ntls " HEX "\n", "line 3", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX "\nsign " HEX "\n\n", "line 4", STELE_ERR_CORRUPT},
	    {"stele-key v1\ntls " HEX "\ntls " HEX "\n", "line 3", STELE_ERR_CORRUPT},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_text(bad[i].text, strlen(bad[i].text));
		cr_assert_eq(load_bad(), bad[i].err, "%zu: %s", i, stele_detail());
		cr_assert_not_null(strstr(stele_detail(), bad[i].detail), "%zu: %s", i,
		                   stele_detail());
		cr_assert_not_null(strstr(stele_detail(), path));
		cr_assert_null(
		    strstr(stele_detail(), "0011223344")); /* a message is no place for it */
	}
	char big[2000];
	memset(big, 'a', sizeof(big));
	write_text(big, sizeof(big));
	cr_assert_eq(load_bad(), STELE_ERR_CORRUPT);
	unlink(path);
	cr_assert_eq(load_bad(), STELE_ERR_NOT_FOUND);
	cr_assert_not_null(strstr(stele_detail(), path));
}

/* Every byte changed in turn: refused, or it was a digit of the secret and the key is another. */
Test(keys, every_byte_changed, .init = setup, .fini = teardown)
{
	static const char good[] = "stele-key v1\ntls " HEX "\nsign " HEX "\n";
	struct stele_keys keys, other;
	write_text(good, sizeof(good) - 1);
	cr_assert_eq(stele_keys_load(env, path, &keys), STELE_OK, "%s", stele_detail());
	for (size_t i = 0; i < sizeof(good) - 1; i++)
		for (int flip = 1; flip < 256; flip <<= 1) {
			char text[sizeof(good)];
			memcpy(text, good, sizeof(good));
			text[i] = (char)(text[i] ^ flip);
			write_text(text, sizeof(good) - 1);
			if (stele_keys_load(env, path, &other) == STELE_OK)
				cr_assert_neq(memcmp(&keys, &other, sizeof(keys)), 0);
			else
				cr_assert(i < 13 || strchr("0123456789abcdef", text[i]) == NULL ||
				          strchr("0123456789abcdef", good[i]) == NULL);
		}
}
