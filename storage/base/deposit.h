/*
 * Deposits, and records: the signed statement of who stored which object, and what nodes keep for
 * it (DESIGN 2, D6; the comments below are the formats' specification, golden files hold the
 * bytes). Marks, layouts, signatures and ids have headers of their own, which this one includes.
 *
 * Every signed body is text: "stele.dev/<kind>/v1\n", "cluster <hex>\n", then one "name value\n"
 * line each, in a fixed order; integers decimal, hashes lower-case hex, "-" for none. Encoding is
 * canonical: a decoder refuses anything that would not encode to the same bytes. Signatures are
 * Ed25519 (RFC 8032) over exactly these bytes. Pure; no allocation except where said.
 */
#ifndef STELE_BASE_DEPOSIT_H
#define STELE_BASE_DEPOSIT_H

#include "storage/base/id.h"
#include "storage/base/layout.h"
#include "storage/base/mark.h"
#include "storage/base/sign.h"

/*
 * ---- deposit ----
 *
 *   stele.dev/deposit/v1
 *   cluster <32 bytes>
 *   type evidence|ledger|index|system
 *   object sha256:<hex>
 *   length <bytes>
 *   tree <RFC 9162 root over the object's own 64 KiB chunks>
 *   layout <SHA-256 of the first layout, or - for an inline or empty object>
 *   pool <name>
 *   depositor <public key>
 *   time <unix seconds: a claim>
 *   after <caip2> <height> <hash> | -
 *   chain <caip2> <first> <last> <first hash> <last hash> | -
 *   meta <SHA-256("stele.dev/meta/v1\n" || salt32 || metadata)> | -
 *   plain <SHA-256("stele.dev/plain/v1\n" || salt32 || SHA-256(plaintext))> | -
 *   sm3 <SM3 of the object> | -
 *   nonce <32 bytes>
 *
 * layout is - only up to STELE_INLINE_MAX bytes, and always for an empty object; first <= last.
 */
enum stele_deposit_type {
	STELE_DEPOSIT_EVIDENCE = 1,
	STELE_DEPOSIT_LEDGER,
	STELE_DEPOSIT_INDEX,
	STELE_DEPOSIT_SYSTEM,
};

struct stele_deposit {
	struct stele_hash cluster;
	enum stele_deposit_type type;
	struct stele_hash object;
	uint64_t length;
	struct stele_hash tree;
	bool has_layout; /* false: inline, or empty */
	struct stele_hash layout;
	char pool[STELE_NAME_MAX];
	struct stele_public_key depositor;
	uint64_t time;
	bool has_after;
	struct {
		char caip2[STELE_CAIP2_MAX];
		uint64_t height;
		struct stele_hash hash;
	} after;
	bool has_chain;
	struct {
		char caip2[STELE_CAIP2_MAX];
		uint64_t first, last;
		struct stele_hash first_hash, last_hash;
	} chain;
	bool has_meta, has_plain, has_sm3;
	struct stele_hash meta, plain, sm3;
	struct stele_hash nonce;
};

/* Writes the text to out (STELE_DEPOSIT_MAX bytes; not NUL-terminated); *len its length. INVALID
 * names the line that has no text (a name with a blank, an unset type), or contradicts another. */
STELE_MUST_USE enum stele_err stele_deposit_encode(const struct stele_deposit *d, char *out,
                                                   size_t *len);
/* CORRUPT names the line. */
STELE_MUST_USE enum stele_err stele_deposit_decode(const char *text, size_t len,
                                                   struct stele_deposit *out);
/* The deposit hash: SHA-256 of the text. */
void stele_deposit_hash(const char *text, size_t len, struct stele_hash *out);

/* ---- record: what nodes keep for a deposit ----
 * deposit_len4 deposit sig64 layout inline_len4 inline */
struct stele_record {
	const char *text; /* the deposit's exact bytes, in the buffer decoded from */
	uint32_t text_len;
	struct stele_deposit deposit; /* decoded */
	struct stele_hash deposit_hash;
	struct stele_sig sig;
	struct stele_layout layout;
	const uint8_t *inline_bytes;
	uint32_t inline_len;
};
/* out: STELE_META_MAX bytes. */
STELE_MUST_USE enum stele_err stele_record_encode(const struct stele_record *r, uint8_t *out,
                                                  size_t *len);
/* Checks the form: deposit, layout hash against the deposit, lengths that add up, inline bytes only
 * when the layout is empty. With check_inline also that they hash to object and tree. Signatures
 * are the caller's to check. piece: array of STELE_PIECES_MAX. CORRUPT names what. */
STELE_MUST_USE enum stele_err stele_record_decode(const void *bytes, size_t len, bool check_inline,
                                                  struct stele_record *out,
                                                  struct stele_piece *piece);
/* CORRUPT unless the depositor's signature over the text holds. */
STELE_MUST_USE enum stele_err stele_record_check_sig(const struct stele_record *r);

#endif
