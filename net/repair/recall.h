/*
 * What a node remembers of the disks of its peers, and what they have said of its own (DESIGN N1): the highest
 * incarnation and LSN of each disk. A disk that is lower than somebody remembers was put back to an earlier state
 * (a stale snapshot): its holder takes it for one that is being refilled, which removes and refuses nothing,
 * until it has all that it should have. Every roll call tells each node what is remembered of its disks, and remembers what it answers.
 *
 * Kept in the node's directory in the text file "peers": "node <n> slot <s> disk <uuid> incarnation <i> lsn <l>";
 * the lines of the node itself are what it was told and has taken in. A file that is lost or unreadable means that
 * less is remembered. One loop; saving blocks, and happens when a disk appears or is opened anew, else once a minute.
 */
#ifndef NET_REPAIR_RECALL_H
#define NET_REPAIR_RECALL_H

#include "net/slots.h"
#include "net/wire/ops_format.h"
#include "storage/io/env.h"

struct stele_recall;

/* node_dir is copied. A peers file that does not read is said to log, and begun anew. NOMEM, IO, USAGE (path too long). */
STELE_MUST_USE enum stele_err stele_recall_create(struct stele_env *env, const char *node_dir,
						  uint16_t node,
						  void (*log)(void *ctx, const char *line),
						  void *log_ctx, struct stele_recall **out);
void stele_recall_destroy(struct stele_recall *r); /* saves; accepts NULL */

/* What to tell a node when it is pinged: the request's head; returns its length. */
uint32_t stele_recall_tell(const struct stele_recall *r, uint16_t node,
			   uint8_t head[STELE_PING_TOLD_MAX]);
/* What the node answered. */
void stele_recall_heard(struct stele_recall *r, uint16_t node, const struct stele_head_ping *h);

/* A peer remembers `told` of one of this node's disks. True: the disk is a stale snapshot, and that was not known
 * yet; the caller marks it, then calls took. */
bool stele_recall_stale(const struct stele_recall *r, const struct stele_store_identity *disk,
			const struct stele_ping_told *told);
void stele_recall_took(struct stele_recall *r, const struct stele_ping_told *told);

#endif
