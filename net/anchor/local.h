/*
 * The `local` anchor backend: a signed, hash-chained file (anchors.local) kept beside the log's
 * key. State `recorded`, never `final`: it lets whoever holds an older line or checkpoint see a
 * rewrite, and proves no time; what it says is the operator's word.
 *
 * A line is canonical JSON (net/anchor/json.h) and a line feed:
 *   {"checkpoint":<signed note>,"manifest":<object id hex>,"number":<0, 1, ...>,
 *    "previous":<SHA-256 of the line before, with its line feed; zeros in line 0>,
 *    "signature":<hex>,"time":<unix seconds>}
 * and the log's key signs, as every body of ours:
 *   stele.dev/anchor/v1
 *   cluster <32 bytes>
 *   logid <hash>
 *   number <n>
 *   previous <hash>
 *   checkpoint <SHA-256 of the note's bytes>
 *   manifest sha256:<hex>
 *   time <unix seconds>
 * Sizes strictly grow. `sed -n 3p anchors.local | sha256sum` is what line 3 (from 0) names as
 * previous.
 *
 * A line is appended with one durable write. A last line without its line feed, or with a zero byte
 * (a page that never reached the disk), was torn by a crash before anybody was told: it is ignored,
 * and cut off by the next append. Every other defect is CORRUPT.
 */
#ifndef NET_ANCHOR_LOCAL_H
#define NET_ANCHOR_LOCAL_H

#include "storage/base/note.h"
#include "storage/io/env.h"

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

struct stele_anchor_local;

/* Reads and verifies the whole chain. write: the file is made if it is missing, and locked until
 * closed, which makes its holder the only sequencer (EXISTS: another process has it). Without
 * write: NOT_FOUND. CORRUPT names the line. Blocks; thread: the caller's, one at a time. */
STELE_MUST_USE enum stele_err stele_anchor_local_open(struct stele_env *env, const char *path,
                                                      const struct stele_anchor_trust *trust,
                                                      bool write, struct stele_anchor_local **out);
void stele_anchor_local_close(struct stele_anchor_local *l); /* accepts NULL */
uint64_t stele_anchor_local_count(const struct stele_anchor_local *l);
/* True: a torn last line was ignored. */
bool stele_anchor_local_torn(const struct stele_anchor_local *l);
/* Line `number`, read again from the file. NOT_FOUND beyond the last. */
STELE_MUST_USE enum stele_err stele_anchor_local_line(struct stele_anchor_local *l, uint64_t number,
                                                      struct stele_anchor_line *out);
/* The first line whose checkpoint covers leaf `index`. NOT_FOUND: not anchored yet. */
STELE_MUST_USE enum stele_err stele_anchor_local_covering(struct stele_anchor_local *l,
                                                          uint64_t index,
                                                          struct stele_anchor_line *out);
/* Signs and appends a line for a checkpoint signed already; durable when it returns OK, and *out is
 * the line. The newest line's own checkpoint again: success, *out is that line. REFUSED: a
 * checkpoint that is not larger. After IO or FULL the file must be closed and opened again. */
STELE_MUST_USE enum stele_err
stele_anchor_local_append(struct stele_anchor_local *l, const struct stele_secret_key *key,
                          const char *note, size_t note_len, const struct stele_hash *manifest,
                          uint64_t time, struct stele_anchor_line *out);

#endif
