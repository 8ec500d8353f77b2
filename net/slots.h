/*
 * A node's slots: directories that hold, or should hold, a store each (DESIGN N1). Opening judges what is found:
 * a store of ours, an empty directory (formatted, to be refilled, but only on the file system that the
 * slot was last seen on), a missing or foreign one (reported, left out). What is known of each slot is kept in the
 * node's directory in the text file "slots": "slot <n> disk <uuid> fs <dev> incarnation <i> refilling <0|1>".
 */
#ifndef NET_SLOTS_H
#define NET_SLOTS_H

#include "storage/store.h"

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
/* Blocks. Fails only when nothing could serve at all, or the slots file cannot be kept. */
STELE_MUST_USE enum stele_err stele_slots_open(const struct stele_slots_opts *opts,
					       struct stele_slots **out);
void stele_slots_close(struct stele_slots *s); /* accepts NULL; no request may be under way */
uint32_t stele_slots_n(const struct stele_slots *s);
/* NULL: missing. */
struct stele_store *stele_slots_store(const struct stele_slots *s, uint32_t slot);
enum stele_slot_state stele_slots_state(const struct stele_slots *s, uint32_t slot);
/* It may lack what it once held: it has no voice (P3). */
bool stele_slots_refilling(const struct stele_slots *s, uint32_t slot);
/* Why a slot is missing, or refilled as a stale snapshot; "" otherwise. */
const char *stele_slots_reason(const struct stele_slots *s, uint32_t slot);
/* The slot's disk was found to be older than it was once: it counts as being refilled from now on. reason is kept. */
void stele_slots_stale(struct stele_slots *s, uint32_t slot, const char *reason);
/* The slot holds all it should again: it may refuse deposits from now on (P3). */
void stele_slots_refilled(struct stele_slots *s, uint32_t slot);

#endif
