/*
 * The proof: one file that says, by itself and offline, that bytes were deposited, by whom, and in
 * which append-only log (docs/anchoring.md, "The proof"). Canonical JSON (RFC 8785 restricted to
 * objects, arrays, strings and whole numbers up to 2^53 - 1: sorted keys, no blanks, lower hex): a
 * file is refused unless writing it again gives the same bytes.
 *
 *   {"anchors":[{"kind":"local","manifest":<hex>,"number":n,"previous":<hex>,"signature":<hex>,
 *                "time":t}],
 *    "checkpoint":<signed note, verbatim: the log's signature alone>,
 *    "deposit":<the deposit's text>,
 *    "format":"stele.dev/proof/v1",
 *    "leaf":{"index":i,"path":[<hex> ...]},
 *    "range":{"count":c,"first":f,"path":[<hex> ...]},       optional: a proof of chunks f ... f +
 * c - 1 "signature":<the deposit's, hex>}
 *
 * Every field is checked by the verifier, or absent: there is nothing in a proof that may be
 * changed without its being refused. Other kinds of anchor, the map leaf that names the depositor's
 * role, and renewal (RFC 4998) will be fields of their own; a verifier refuses fields it does not
 * know. Pure over bytes, but for the file's, which come through a callback. Thread: any.
 */
#ifndef NET_ANCHOR_PROOF_H
#define NET_ANCHOR_PROOF_H

#include "net/anchor/line.h"
#include "net/anchor/policy.h"
#include "storage/base/deposit.h"

#define STELE_PROOF_MAX         (256u << 10) /* bytes of a proof file */
#define STELE_PROOF_ANCHORS_MAX 4u
#define STELE_PROOF_FORMAT      "stele.dev/proof/v1"

struct stele_proof { /* about 70 KiB: the heap's */
	char deposit_text[STELE_DEPOSIT_MAX];
	size_t deposit_len;
	struct stele_deposit deposit; /* decoded */
	struct stele_sig sig;
	char note[STELE_NOTE_MAX]; /* the checkpoint verbatim */
	size_t note_len;
	struct stele_note checkpoint; /* decoded; points into note: copy a proof by encoding it */
	uint64_t leaf_index;
	struct stele_hash leaf_path[STELE_MERKLE_PATH_MAX];
	size_t leaf_path_len;
	uint32_t nanchors;
	struct stele_proof_anchor {
		enum stele_anchor_kind kind;
		struct { /* net/anchor/local.h: what an anchors.local line adds to the checkpoint */
			uint64_t number;
			struct stele_hash previous, manifest;
			uint64_t time;
			struct stele_sig sig;
		} local;
	} anchor[STELE_PROOF_ANCHORS_MAX];
	bool has_range;
	struct {
		uint64_t first, count; /* chunks of 64 KiB */
		struct stele_hash path[2u * STELE_MERKLE_PATH_MAX];
		size_t path_len;
	} range;
};

/* Builds a proof of leaf `index` under the checkpoint of an anchored line; fetch gives the log's
 * tiles. CORRUPT: the deposit is no deposit, or the tiles do not lead from it to the checkpoint:
 * nothing that was built here fails to verify against the same trust. INVALID: the line does not
 * cover the leaf. */
STELE_MUST_USE enum stele_err stele_proof_build(const char *deposit_text, size_t deposit_len,
                                                const struct stele_sig *sig, uint64_t index,
                                                const struct stele_anchor_line *line,
                                                stele_log_fetch *fetch, void *fetch_ctx,
                                                struct stele_proof *out);
/* Makes it a proof of chunks [first, first + count) alone. leaf: the hashes of all n chunks of the
 * object (RFC 9162 leaves). INVALID: outside the object. CORRUPT: they do not lead to the deposit's
 * tree. */
STELE_MUST_USE enum stele_err stele_proof_set_range(struct stele_proof *p, uint64_t first,
                                                    uint64_t count, const struct stele_hash *leaf,
                                                    size_t n);

/* *json is malloc'ed, with a NUL after its last byte. No line feed at its end. NOMEM. */
STELE_MUST_USE enum stele_err stele_proof_encode(const struct stele_proof *p, char **json,
                                                 size_t *len);
/* Form only: canonical, every field there and well formed, the deposit and checkpoint decoded.
 * CORRUPT says what; VERSION: a proof of another format. NOMEM. */
STELE_MUST_USE enum stele_err stele_proof_decode(const char *json, size_t len,
                                                 struct stele_proof *out);

#endif
