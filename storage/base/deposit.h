/*
 * Deposits, marks, layouts and records: the signed statements of the archive, and what nodes keep
 * (DESIGN 2, D6; formats: the comments below are the specification, golden files hold the bytes).
 *
 * Every signed body is text: "stele.dev/<kind>/v1\n", "cluster <hex>\n", then one "name value\n" line
 * each, in a fixed order; integers decimal, hashes lower-case hex, "-" for none. Encoding is
 * canonical: a decoder refuses anything that would not encode to the same bytes. Signatures are
 * Ed25519 (RFC 8032) over exactly these bytes. Pure; no allocation except where said.
 */
#ifndef STELE_BASE_DEPOSIT_H
#define STELE_BASE_DEPOSIT_H

#include "storage/base/bytes.h"

#define STELE_SIG_LEN  64u
#define STELE_KEY_LEN  32u  /* Ed25519 public key; a secret is its 32-byte seed */
#define STELE_CAIP2_MAX 48u /* "bip122:000000000019d6689c085ae165831e93" with NUL */

struct stele_public_key {
	uint8_t b[STELE_KEY_LEN];
};
struct stele_secret_key { /* wiped by whoever owns it */
	uint8_t seed[32];
	struct stele_public_key pub;
};
struct stele_sig {
	uint8_t b[STELE_SIG_LEN];
};

void stele_key_from_seed(struct stele_secret_key *out, const uint8_t seed[32]);
void stele_sign(const struct stele_secret_key *key, const void *body, size_t len,
		struct stele_sig *out);
bool stele_sig_ok(const struct stele_public_key *pub, const void *body, size_t len,
		  const struct stele_sig *sig);

/* ---- layout: where an object's bytes lie ----
 * generation4 (first: 0) npieces4 { block32 off4 len4 }[npieces]; its SHA-256 is in the deposit. */
struct stele_piece {
	struct stele_hash block;
	uint32_t off; /* in the block */
	uint32_t len;
};
#define STELE_PIECE_LEN 40u
struct stele_layout {
	uint32_t generation;
	uint32_t npieces;
	struct stele_piece *piece; /* the caller's array of up to STELE_PIECES_MAX */
};
size_t stele_layout_len(uint32_t npieces);
size_t stele_layout_encode(const struct stele_layout *l, uint8_t *out); /* out: layout_len */
/* piece: an array of cap. CORRUPT; TOO_LARGE. *used is the bytes consumed. */
STELE_MUST_USE enum stele_err stele_layout_decode(const void *bytes, size_t len,
						  struct stele_layout *out,
						  struct stele_piece *piece, uint32_t cap,
						  size_t *used);
void stele_layout_hash(const struct stele_layout *l, struct stele_hash *out);

/* ---- deposit ----
 * stele.dev/deposit/v1 · cluster · type evidence|ledger|index|system · object sha256:<hex> · length ·
 * tree · layout <hex>|- · pool · depositor · time · after <caip2> <height> <hash>|- ·
 * chain <caip2> <first> <last> <first hash> <last hash>|- · meta|- · plain|- · sm3|- · nonce */
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

/* Writes the text to out (STELE_DEPOSIT_MAX bytes; not NUL-terminated); *len its length. INVALID:
 * a field that has no text (a name with a blank, an unset type). */
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
/* Checks the form: deposit, layout hash against the deposit, lengths that add up, inline bytes only when
 * the layout is empty. With check_inline also that inline bytes hash to the object. Signatures
 * are the caller's to check. piece: array of STELE_PIECES_MAX. CORRUPT names what. */
STELE_MUST_USE enum stele_err stele_record_decode(const void *bytes, size_t len, bool check_inline,
						  struct stele_record *out,
						  struct stele_piece *piece);
/* CORRUPT unless the depositor's signature over the text holds. */
STELE_MUST_USE enum stele_err stele_record_check_sig(const struct stele_record *r);

/* ---- mark: a signed, append-only later fact ----
 * stele.dev/mark/v1 · cluster · kind · object sha256:<hex> · deposit <hex>|- · author · time · nonce ·
 * then the kind's own lines (see deposit.c's table), then nothing. Its id is SHA-256(text). */
enum stele_mark_kind {
	STELE_MARK_DELETE = 1,
	STELE_MARK_HOLD,
	STELE_MARK_RELEASE,
	STELE_MARK_LAYOUT,
	STELE_MARK_LOGGED,
	STELE_MARK_PRUNED,
	STELE_MARK_CATALOGUE,
};
struct stele_mark {
	struct stele_hash cluster;
	enum stele_mark_kind kind;
	struct stele_hash object;
	bool has_deposit;
	struct stele_hash deposit;
	struct stele_public_key author;
	uint64_t time;
	struct stele_hash nonce;
	union {
		struct { /* hold, release: what for */
			char reason[STELE_NAME_MAX];
		} hold;
		struct { /* the new layout's bytes as hex: generation >= 1, one piece */
			struct stele_piece piece;
			uint32_t generation;
		} layout;
		struct { /* leaf index in the log named by logid */
			struct stele_hash logid;
			uint64_t index;
		} logged;
		struct {
			char node[STELE_NAME_MAX];
			char caip2[STELE_CAIP2_MAX];
			uint64_t height;
		} pruned;
		struct { /* one archived segment of a chain (D11) */
			char caip2[STELE_CAIP2_MAX];
			uint64_t first, last, count;
			struct stele_hash first_parent, last_hash;
			struct stele_hash segment; /* object id of the file */
			struct stele_hash index;   /* object id of its index */
			bool linked;               /* else bound */
		} catalogue;
	} u;
};
STELE_MUST_USE enum stele_err stele_mark_encode(const struct stele_mark *m, char *out, size_t *len);
STELE_MUST_USE enum stele_err stele_mark_decode(const char *text, size_t len,
						struct stele_mark *out);
/* What a node keeps and RECORD_GET returns: len4 text sig64. */
STELE_MUST_USE enum stele_err stele_mark_pack(const char *text, size_t len,
					      const struct stele_sig *sig, uint8_t *out,
					      size_t *out_len);
STELE_MUST_USE enum stele_err stele_mark_unpack(const void *bytes, size_t len, const char **text,
						size_t *text_len, struct stele_sig *sig);
/* The id under which a chain's catalogue marks lie (D11). */
void stele_catalogue_id(const char *caip2, struct stele_hash *out);

/* ---- ids as people write them (D10): sha256:<hex>, bare hex, CIDv1 raw sha2-256 (base32),
 * ni:///sha-256;<base64url>. USAGE says what was wrong. Printed as "sha256:<hex>". ---- */
#define STELE_ID_TEXT 72u
STELE_MUST_USE enum stele_err stele_id_parse(const char *text, struct stele_hash *out);
char *stele_id_text(const struct stele_hash *id, char out[STELE_ID_TEXT]);

#endif
