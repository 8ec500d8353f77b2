/*
 * Takes inventory of the placement groups whose primary this node is (R1): asks every node whether it answers, compares
 * digests, lists what changed since the last time, and offers each group as a view to plan.h. One run at a time; on
 * the node's loop. What is kept between runs is a cache: a disk's list is asked again when its digest differs.
 */
#ifndef NET_REPAIR_INVENTORY_H
#define NET_REPAIR_INVENTORY_H

#include "net/repair/plan.h"

struct stele_inventory;

STELE_MUST_USE enum stele_err stele_inventory_create(struct stele_env *env,
                                                     struct stele_peers *peers,
                                                     struct stele_slots *slots, uint16_t node,
                                                     struct stele_inventory **out);
/* No run may be under way. Accepts NULL. */
void stele_inventory_destroy(struct stele_inventory *inv);

struct stele_inventory_run {
	uint64_t grace_ns; /* disks that stopped answering less long ago are WAITING; 0: none are */
	void (*cb)(struct stele_inventory_run *run);
	void *ctx;
	enum stele_err err; /* OK, NOMEM, CANCELLED; nodes that do not answer are no error */
};
void stele_inventory_start(struct stele_inventory *inv, struct stele_inventory_run *run);
bool stele_inventory_running(const struct stele_inventory *inv);
/* The run under way, if any, ends soon, CANCELLED. */
void stele_inventory_cancel(struct stele_inventory *inv);

/* After a run, until the next: every group of ours. */
void stele_inventory_each(const struct stele_inventory *inv,
                          bool (*each)(void *ctx, const struct stele_pg_view *view), void *ctx);
/* Forgets what is cached of a group: something was done there. */
void stele_inventory_forget(struct stele_inventory *inv, uint16_t pool, uint32_t pg);
/* What the runs so far learnt of deposits. */
const struct stele_verdicts *stele_inventory_verdicts(const struct stele_inventory *inv);
/* Does the slot of this node hold all it should? True when every disk of every record window that it is part of answered
 * in the last run, no record or mark lacked a copy, and no refusal was missing on it (P3: only then may it refuse). */
bool stele_inventory_slot_whole(const struct stele_inventory *inv, uint16_t slot);

#endif
