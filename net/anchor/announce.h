/*
 * How clients find the log without the sequencer's files: the log is a chain of its own in the
 * catalogue (D11). Anchor line number i is announced by a `catalogue` mark, signed by the
 * sequencer, under the chain "stele:<first 14 hex digits of the logId>-<i>", one mark per id, so
 * that the newest line is found with O(log i) look-ups however many there are. Its fields:
 *   first, last, count   the leaves that the checkpoint covers: 0, size - 1, size
 *   first-parent         the hash of the previous line, as the line says
 *   last-hash            the checkpoint's root
 *   segment              the manifest's object id (net/anchor/manifest.h)
 *   index                the object id of the line's own bytes (net/anchor/line.h)
 *   level                linked
 * A mark is a pointer, not a proof: the line that it leads to is checked by the log's keys.
 * Pure, but for the caller's look-ups. Thread: any.
 */
#ifndef NET_ANCHOR_ANNOUNCE_H
#define NET_ANCHOR_ANNOUNCE_H

#include "net/anchor/line.h"
#include "storage/base/mark.h"

/* The chain's name for a line; stele_catalogue_id of it is where the mark lies. Returns out. */
char *stele_announce_chain(const struct stele_hash *log_id, uint64_t number,
                           char out[STELE_CAIP2_MAX]);
/* Fills a mark but for author, time and nonce, which its signer adds. */
void stele_announce_mark(const struct stele_hash *cluster, const struct stele_anchor_line *line,
                         const struct stele_hash *line_id, struct stele_mark *out);
/* CORRUPT: not the announcement of line `number` of this log. */
STELE_MUST_USE enum stele_err stele_announce_check(const struct stele_mark *mark,
                                                   const struct stele_hash *log_id,
                                                   uint64_t number);

/* Looks up whether line `number` is announced; an error ends the search. */
typedef enum stele_err stele_announce_lookup(void *ctx, uint64_t number, bool *found);
/* The newest announced line, in about 2 log2(number) look-ups. NOT_FOUND: none is. */
STELE_MUST_USE enum stele_err stele_announce_newest(stele_announce_lookup *lookup, void *ctx,
                                                    uint64_t *number);

#endif
