/*
 * The `local` anchor backend: a signed, hash-chained file (anchors.local) kept beside the log's
 * key. State `recorded`, never `final`: it lets whoever holds an older line or checkpoint see a
 * rewrite, and proves no time; what it says is the operator's word.
 *
 * Lines are net/anchor/line.h's. Sizes strictly grow. The hash that a line names as previous is
 * what `sed -n Np anchors.local | sha256sum` prints of the line before it.
 *
 * A line is appended with one durable write. A last line without its line feed, or with a zero byte
 * (a page that never reached the disk), was torn by a crash before anybody was told: it is ignored,
 * and cut off by the next append. Every other defect is CORRUPT.
 */
#ifndef NET_ANCHOR_LOCAL_H
#define NET_ANCHOR_LOCAL_H

#include "net/anchor/line.h"
#include "storage/io/env.h"

struct stele_anchor_local;

/* Reads and verifies the whole chain. write: the file is made if it is missing, and locked until
 * closed, which makes its holder the only sequencer (EXISTS: another process has it). Without
 * write: NOT_FOUND. CORRUPT names the line. Blocks; thread: the caller's, one at a time. */
STELE_MUST_USE enum stele_err stele_anchor_local_open(struct stele_env *env, const char *path,
                                                      const struct stele_anchor_trust *trust,
                                                      bool write, struct stele_anchor_local **out);
void stele_anchor_local_close(struct stele_anchor_local *l); /* accepts NULL */
uint64_t stele_anchor_local_count(const struct stele_anchor_local *l);
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
