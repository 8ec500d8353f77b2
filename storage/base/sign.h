/*
 * Ed25519 (RFC 8032, section 5.1) over a body's exact bytes: the one signature of the archive.
 * Verification is strict, as libsodium does it: a scalar of at least the group's order, a key that
 * is not canonical, and keys or commitments of small order are refused, so that every verifier
 * agrees. Thread: any. Pure.
 */
#ifndef STELE_BASE_SIGN_H
#define STELE_BASE_SIGN_H

#include "storage/base/bytes.h"

#define STELE_SIG_LEN 64u
#define STELE_KEY_LEN 32u /* Ed25519 public key; a secret is its 32-byte seed */

struct stele_public_key {
	uint8_t b[STELE_KEY_LEN];
};
struct stele_secret_key { /* wiped by whoever owns it */
	uint8_t seed[32];
	struct stele_public_key pub; /* always the seed's: made by key_from_seed alone */
};
struct stele_sig {
	uint8_t b[STELE_SIG_LEN];
};

static inline bool stele_public_key_equal(const struct stele_public_key *a,
                                          const struct stele_public_key *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

void stele_key_from_seed(struct stele_secret_key *out, const uint8_t seed[32]);
void stele_sign(const struct stele_secret_key *key, const void *body, size_t len,
                struct stele_sig *out);
bool stele_sig_ok(const struct stele_public_key *pub, const void *body, size_t len,
                  const struct stele_sig *sig);

#endif
