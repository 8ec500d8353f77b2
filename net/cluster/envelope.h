/*
 * The cluster file: JSON that holds the two signed bodies and their signatures (map.h), as a DSSE
 * envelope holds its payload: several signatures over the same exact bytes. Every signature present
 * must verify; whose count is the caller's to say. Private to net/cluster.
 */
#ifndef NET_CLUSTER_ENVELOPE_H
#define NET_CLUSTER_ENVELOPE_H

#include <jansson.h>

#include "storage/base/sign.h"

#define STELE_ENVELOPE_SIGS_MAX 16u /* eight old and eight new root keys */

struct stele_envelope {
	const char *body;
	size_t len;
	uint32_t nsigs;
	struct stele_public_key key[STELE_ENVELOPE_SIGS_MAX]; /* who signed; no two alike */
	json_t *json;                                         /* borrowed from the file's */
};

struct stele_envelopes {
	json_t *json; /* owns everything */
	struct stele_envelope root, state;
};

/* Parses the file and verifies every signature in it. CORRUPT; DENIED: a signature that does not
 * hold; TOO_LARGE. Release with stele_envelopes_finish, also after a failure. */
STELE_MUST_USE enum stele_err stele_envelopes_parse(const char *text, size_t len,
                                                    struct stele_envelopes *out);
void stele_envelopes_finish(struct stele_envelopes *e);

/* DENIED unless at least `threshold` of the n keys signed. whose: "root part: its own root keys".
 */
STELE_MUST_USE enum stele_err stele_envelope_signed_by(const struct stele_envelope *e,
                                                       const struct stele_public_key *key,
                                                       uint32_t n, uint32_t threshold,
                                                       const char *whose);
/* A new envelope over a body, signed by n keys; NULL: out of memory. The caller owns it. */
json_t *stele_envelope_sign(const char *body, size_t len, const struct stele_secret_key *key,
                            uint32_t n);

#endif
