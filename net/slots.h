/*
 * A node's slots: directories that hold, or should hold, a store each (DESIGN N1). Opening judges what is found:
 * a store of ours, an empty directory (formatted, to be refilled, but only on the file system that the
 * slot was last seen on), a missing or foreign one (reported, left out). Slots come and go while the node runs: a disk is
 * detached, and one that was missing, detached or fenced is attached, judged as at the start. What is known of each slot is
 * kept in the node's directory in the text file "slots": "slot <n> disk <uuid> fs <dev> incarnation <i> refilling <0|1>".
 */
#ifndef NET_SLOTS_H
#define NET_SLOTS_H

#include "net/disk.h"

#define STELE_SLOTS_MAX 16u

enum stele_slot_state { /* wire: PING's disk states */
	STELE_SLOT_MISSING = 0,
	STELE_SLOT_SERVING = 1,
	STELE_SLOT_FULL = 2,
	STELE_SLOT_FENCED = 3,
	STELE_SLOT_REFILLING = 4,
	STELE_SLOT_REFILLING_FULL = 5,
};

struct stele_slots;
struct stele_slots_opts {
	struct stele_env *env;
	/* Each disk's store on a loop of its own; false: all on env. The only disk of a node stays on env all the same: it has
	 * nobody to be kept from, and a small write costs a tenth to a third more processor time when it changes loops. */
	bool own_loops;
	uint32_t workers; /* of each such loop */
	struct stele_buf_pool *bufs; /* as in disk.h */
	const struct stele_kv_ops *kv;
	void *kv_world;
	struct stele_hash cluster;
	const char *node_dir;
	const char *const *disk; /* by slot */
	uint32_t ndisks;
	uint64_t extent_len, capacity;
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
};
/* Blocks; disks with loops of their own are opened all at once. Fails only when nothing could serve at all, or the slots
 * file cannot be kept. */
STELE_MUST_USE enum stele_err stele_slots_open(const struct stele_slots_opts *opts,
					       struct stele_slots **out);
/* The loop is about to run: begins to watch the disks. */
void stele_slots_begin(struct stele_slots *s);
/* Closes every disk; done fires on the loop. No attach or detach may be under way. */
void stele_slots_close(struct stele_slots *s, void (*done)(void *ctx), void *ctx);
/* After close's done, or when begin was never called. Accepts NULL. */
void stele_slots_destroy(struct stele_slots *s);
uint32_t stele_slots_n(const struct stele_slots *s);
/* NULL: missing. Stays valid until the slots are destroyed, also when the disk is detached. */
struct stele_disk *stele_slots_disk(const struct stele_slots *s, uint32_t slot);
enum stele_slot_state stele_slots_state(const struct stele_slots *s, uint32_t slot);
/* It may lack what it once held: it has no voice (P3). */
bool stele_slots_refilling(const struct stele_slots *s, uint32_t slot);
/* Why a slot is missing, fenced, or refilled as a stale snapshot; "" otherwise. */
const char *stele_slots_reason(const struct stele_slots *s, uint32_t slot);
/* The slot's disk was found to be older than it was once: it counts as being refilled from now on. reason is kept. */
void stele_slots_stale(struct stele_slots *s, uint32_t slot, const char *reason);
/* The slot holds all it should again: it may refuse deposits from now on (P3). */
void stele_slots_refilled(struct stele_slots *s, uint32_t slot);
/* Changes whenever a disk comes, goes or is found stale: what was learnt of slots under another number may be about
 * another disk, or not all that a disk without a voice needs to get it back. */
uint64_t stele_slots_changes(const struct stele_slots *s);

/* ---- while the node runs ---- */

struct stele_slot_change {
	uint32_t slot;
	const char *dir; /* attach: its directory now, copied */
	bool as_new;     /* attach: the disk that was here is given up: an empty directory is formatted on whatever file system,
	                  * another disk of the cluster is taken in */
	void (*cb)(struct stele_slot_change *c);
	void *ctx;
	enum stele_err err; /* out: OK · UNAVAILABLE: what keeps the disk from being used */
	char detail[STELE_DETAIL_MAX];
};
/* Opens a slot's disk; a fenced one is closed first. cb fires on the loop, later, when OK was returned; otherwise never. EXISTS:
 * the slot serves. BUSY: it is being attached or detached. USAGE: no such slot. */
STELE_MUST_USE enum stele_err stele_slots_attach(struct stele_slots *s, struct stele_slot_change *c);
/* From the return on the slot is missing; requests under way end, then the store is closed and its directory may be unmounted: cb.
 * NOT_FOUND: there is no disk in it. BUSY, USAGE: as above. */
STELE_MUST_USE enum stele_err stele_slots_detach(struct stele_slots *s, struct stele_slot_change *c);

#endif
