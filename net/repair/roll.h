/*
 * The roll call: pings every node of the map and notes what each disk of the map is. One loop; the caller embeds it.
 */
#ifndef NET_REPAIR_ROLL_H
#define NET_REPAIR_ROLL_H

#include "net/cluster/peers.h"
#include "net/cluster/place.h"
#include "net/slots.h"

struct stele_roll_disk {
	enum stele_slot_state state; /* MISSING too when its node does not answer */
	struct stele_uuid uuid;      /* of the store in it */
};

struct stele_roll_ping;

struct stele_roll {
	/* in */
	struct stele_peers *peers;
	void (*cb)(struct stele_roll *roll);
	void *ctx;
	/* out, until finish: of each disk of the map, in its order */
	struct stele_map *map;
	struct stele_roll_disk *disk;
	/* private */
	struct stele_roll_ping *ping;
	uint32_t waiting;
};

/* Begins; the callback comes later, from the loop. NOMEM: it never comes. */
STELE_MUST_USE enum stele_err stele_roll_start(struct stele_roll *roll);
/* Releases what it holds; accepts one that was never started. */
void stele_roll_finish(struct stele_roll *roll);
/* What the roll says of a disk: NULL when the map has no such disk. */
const struct stele_roll_disk *stele_roll_disk(const struct stele_roll *roll,
                                              struct stele_window_disk disk);
/* The place of a disk in the map, which has it. */
uint32_t stele_roll_index(const struct stele_map *map, struct stele_window_disk disk);
/* It answers and gives out what it holds. */
static inline bool stele_roll_serves(const struct stele_roll_disk *d)
{
	return d && (d->state == STELE_SLOT_SERVING || d->state == STELE_SLOT_FULL ||
	             d->state == STELE_SLOT_REFILLING || d->state == STELE_SLOT_REFILLING_FULL);
}
/* And holds all that it ever held, as far as anybody knows: it may be one of all (P3). */
static inline bool stele_roll_has_voice(const struct stele_roll_disk *d)
{
	return d && (d->state == STELE_SLOT_SERVING || d->state == STELE_SLOT_FULL);
}

#endif
