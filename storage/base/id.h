/*
 * Object ids as people write them (D10): sha256:<hex>, bare hex, CIDv1 (raw, sha2-256, base32:
 * "bafkrei..."), ni:///sha-256;<base64url> (RFC 6920). Printed as sha256:<hex>. Pure. Thread: any.
 */
#ifndef STELE_BASE_ID_H
#define STELE_BASE_ID_H

#include "storage/base/bytes.h"

#define STELE_ID_TEXT 72u /* "sha256:" and 64 digits, NUL */

/* Hex may be upper case, as people paste it. USAGE says what was wrong; out is untouched then. */
STELE_MUST_USE enum stele_err stele_id_parse(const char *text, struct stele_hash *out);
/* Returns out. */
char *stele_id_text(const struct stele_hash *id, char out[STELE_ID_TEXT]);

#endif
