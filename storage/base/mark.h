/*
 * A mark: a signed, append-only later fact about one deposit (DESIGN 2, P7, D11;
 * docs/anchoring.md).
 *
 *   stele.dev/mark/v1
 *   cluster <32 bytes>
 *   kind delete|hold|release|layout|logged|pruned|catalogue
 *   object sha256:<hex>
 *   deposit <its hash, or - for a catalogue>
 *   author <public key>
 *   time <unix seconds>
 *   nonce <32 bytes>
 * then the kind's own lines:
 *   hold, release  reason <UTF-8 to the line's end, at most 63 bytes>
 *   layout         layout <the new layout's 48 bytes as hex: generation >= 1, one piece>
 *   logged         logid <hash> · index <leaf>
 *   pruned         node <name> · chain <caip2> · height <h>
 *   catalogue      chain <caip2> · first <h> · last <h> · first-parent <hash> · last-hash <hash> ·
 *                  count <n> · segment sha256:<hex> · index sha256:<hex> · level bound|linked
 *
 * Text of the form that storage/base/text.h describes. A mark's id is the SHA-256 of its text. Who
 * may sign which kind is not judged here. Pure; nothing allocates. Thread: any.
 */
#ifndef STELE_BASE_MARK_H
#define STELE_BASE_MARK_H

#include "storage/base/layout.h"
#include "storage/base/sign.h"
#include "storage/base/text.h" /* STELE_CAIP2_MAX */

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
	bool has_deposit; /* exactly when the kind is not catalogue */
	struct stele_hash deposit;
	struct stele_public_key author;
	uint64_t time;
	struct stele_hash nonce;
	union {
		struct { /* hold, release: what for */
			char reason[STELE_NAME_MAX];
		} hold;
		struct stele_mark_layout { /* generation >= 1, one piece */
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
		struct { /* one archived segment of a chain (D11); the mark's object is the chain's
			  * catalogue id */
			char caip2[STELE_CAIP2_MAX];
			uint64_t first, last, count;
			struct stele_hash first_parent, last_hash;
			struct stele_hash segment; /* object id of the file */
			struct stele_hash index;   /* object id of its index */
			bool linked;               /* else bound */
		} catalogue;
	} u;
};

/* Writes the text to out (STELE_MARK_MAX bytes; not NUL-terminated); *len its length. INVALID names
 * the line that has no text, or the fields that contradict each other. */
STELE_MUST_USE enum stele_err stele_mark_encode(const struct stele_mark *m, char *out, size_t *len);
/* CORRUPT names the line. */
STELE_MUST_USE enum stele_err stele_mark_decode(const char *text, size_t len,
                                                struct stele_mark *out);
void stele_mark_hash(const char *text, size_t len, struct stele_hash *out);
/* "delete"; "?" for a number that is no kind. */
const char *stele_mark_kind_name(enum stele_mark_kind kind);

/* What a node keeps and RECORD_GET returns: len4 text sig64. */
#define STELE_MARK_PACKED_MAX (4u + STELE_MARK_MAX + STELE_SIG_LEN)
/* out: STELE_MARK_PACKED_MAX bytes. INVALID: a text of no or too many bytes. */
STELE_MUST_USE enum stele_err stele_mark_pack(const char *text, size_t len,
                                              const struct stele_sig *sig, uint8_t *out,
                                              size_t *out_len);
/* text points into bytes; its form and signature are the caller's to check. CORRUPT. */
STELE_MUST_USE enum stele_err stele_mark_unpack(const void *bytes, size_t len, const char **text,
                                                size_t *text_len, struct stele_sig *sig);

/* The id under which a chain's catalogue marks lie (D11):
 * SHA-256("stele.dev/catalogue/v1\n" || caip2). */
void stele_catalogue_id(const char *caip2, struct stele_hash *out);

#endif
