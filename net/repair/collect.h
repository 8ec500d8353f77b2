/*
 * Collection of leftovers (DESIGN P3): shards that no deposit needs, after a put that died. Each node judges its own
 * disks; nothing else is ever removed here, and every step errs on the side of keeping:
 *  - a reference goes when *every* disk of its record's window has durably refused the deposit; they are asked to when
 *    none has the record and the reference is older than the pool's collect_age of this node's uptime;
 *  - a shard goes when it has no reference, nothing touched it for collect_age, and every disk of the block's window,
 *    asked, knows no reference; one found whose deposit lives is copied here and cancels;
 *  - a reference that cannot be read is none to its shard; it goes when it is as old and every disk, asked, has no readable
 *    copy of it, or when no shard lies beside it.
 * An answer that is missing postpones; so does a disk of the window that is being refilled. The store itself refuses to
 * remove a shard beside which a reference has appeared in the meantime. One per node, on the node's loop.
 */
#ifndef NET_REPAIR_COLLECT_H
#define NET_REPAIR_COLLECT_H

#include "net/cluster/peers.h"
#include "net/slots.h"

struct stele_collect;

struct stele_collect_status {
	uint64_t passes;
	uint64_t shards, refs; /* removed since start */
	uint64_t bytes;        /* of those shards */
	uint64_t waiting;      /* leftovers known, not old enough or not judged yet */
};

STELE_MUST_USE enum stele_err stele_collect_create(struct stele_env *env, struct stele_peers *peers,
                                                   struct stele_slots *slots,
                                                   void (*log)(void *ctx, const char *line),
                                                   void *log_ctx, struct stele_collect **out);
void stele_collect_start(struct stele_collect *c);
void stele_collect_close(struct stele_collect *c, void (*done)(void *ctx), void *ctx);
void stele_collect_destroy(struct stele_collect *c); /* after done; accepts NULL */
/* Somebody relies on the shard of this key from now on, and may bring its reference later. */
void stele_collect_touch(struct stele_collect *c, uint16_t slot, const struct stele_key *key);
/* Another disk is in the slot: what is found on it has not been there for any time yet. */
void stele_collect_renew(struct stele_collect *c, uint16_t slot);
void stele_collect_status(const struct stele_collect *c, struct stele_collect_status *out);

#endif
