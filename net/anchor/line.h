/*
 * A line of the `local` anchor (net/anchor/local.h): the log's checkpoint, chained to the line
 * before and signed by the log's key. It is canonical JSON (net/anchor/canon.h) and a line feed:
 *   {"checkpoint":<signed note>,"manifest":<object id hex>,"number":<0, 1, ...>,
 *    "previous":<SHA-256 of the line before, with its line feed; zeros in line 0>,
 *    "signature":<hex>,"time":<unix seconds>}
 * What the key signs is text, as every body of ours:
 *   stele.dev/anchor/v1
 *   cluster <32 bytes>
 *   logid <hash>
 *   number <n>
 *   previous <hash>
 *   checkpoint <SHA-256 of the note's bytes>
 *   manifest sha256:<hex>
 *   time <unix seconds>
 * The note bears the log's signature alone: cosignatures come later and are kept elsewhere.
 * Pure. Thread: any.
 */
#ifndef NET_ANCHOR_LINE_H
#define NET_ANCHOR_LINE_H

#include "storage/base/note.h"

struct stele_anchor_line {
	uint64_t number;
	struct stele_hash previous;
	char note[STELE_NOTE_MAX]; /* the checkpoint verbatim */
	size_t note_len;
	struct stele_checkpoint checkpoint; /* decoded */
	struct stele_hash manifest;         /* object id (net/anchor/manifest.h) */
	uint64_t time;
	struct stele_sig sig;
};
#define STELE_ANCHOR_LINE_MAX (2u * STELE_NOTE_MAX + 1024u) /* bytes, with the line feed */
#define STELE_LOG_KEYS_MAX    4u

/* What lines are checked against. */
struct stele_anchor_trust {
	struct stele_hash cluster;
	char origin[STELE_LOG_ORIGIN_MAX];
	struct stele_public_key key[STELE_LOG_KEYS_MAX]; /* of the log; one suffices */
	uint32_t nkeys;
};

/* The text that the log's key signs. out: STELE_DEPOSIT_MAX bytes. */
void stele_anchor_line_body(const struct stele_anchor_line *line, const struct stele_hash *cluster,
                            char *out, size_t *len);
/* CORRUPT: the note's signature, its origin, or the line's own signature does not hold. */
STELE_MUST_USE enum stele_err stele_anchor_line_check(const struct stele_anchor_line *line,
                                                      const struct stele_anchor_trust *trust);
/* out: STELE_ANCHOR_LINE_MAX; with the line feed. */
STELE_MUST_USE enum stele_err stele_anchor_line_encode(const struct stele_anchor_line *line,
                                                       char *out, size_t *len);
/* Form only (bytes with the line feed). CORRUPT. */
STELE_MUST_USE enum stele_err stele_anchor_line_decode(const char *bytes, size_t len,
                                                       struct stele_anchor_line *out);

#endif
