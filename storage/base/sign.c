/* Ed25519 through libsodium. Keeps no key: callers own seeds and wipe them. */
#include "storage/base/sign.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>

_Static_assert(crypto_sign_SECRETKEYBYTES == 32 + STELE_KEY_LEN,
               "libsodium's secret: seed, public");
_Static_assert(crypto_sign_BYTES == STELE_SIG_LEN, "a signature");

static void init_sodium(void)
{
	int ok = sodium_init();
	assert(ok >= 0);
	(void)ok;
}

static void init_once(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_sodium);
}

void stele_key_from_seed(struct stele_secret_key *out, const uint8_t seed[32])
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES];
	struct stele_secret_key key;
	init_once();
	memcpy(key.seed, seed, sizeof(key.seed));
	crypto_sign_seed_keypair(key.pub.b, secret, key.seed);
	*out = key;
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(&key, sizeof(key));
}

void stele_sign(const struct stele_secret_key *key, const void *body, size_t len,
                struct stele_sig *out)
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES];
	init_once();
	memcpy(secret, key->seed, sizeof(key->seed));
	memcpy(secret + sizeof(key->seed), key->pub.b, sizeof(key->pub.b));
	int failed = crypto_sign_detached(out->b, NULL, body, len, secret);
	assert(!failed);
	(void)failed;
	sodium_memzero(secret, sizeof(secret));
}

bool stele_sig_ok(const struct stele_public_key *pub, const void *body, size_t len,
                  const struct stele_sig *sig)
{
	init_once();
	return crypto_sign_verify_detached(sig->b, body, len, pub->b) == 0;
}
