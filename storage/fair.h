/*
 * Who may use a disk next (DESIGN N9, N10): clients, repair, or the store's own background work. Pure: no clock, no disk.
 *
 * Whoever wants the disk waits for a turn, in order within its class, and holds it until what it does has ended. So few
 * turns are held at a time that the queue is here and not in the device, and enough to keep that busy.
 *
 * Start-time fair queueing (Goyal, Vin, Cheng, 1996): every class has a tag, which a turn moves by its bytes over the
 * class's weight; the least tag goes first. A class that did not want anything keeps no credit for that.
 *
 * That alone would fill with repair's reads whatever the clients leave free, and a client's next read would wait for all
 * of them in the device. So while clients are there, the others go beyond their share with one turn at a time, and
 * with pieces, not megabytes. Clients are there while they wait or hold a turn, and for a moment after: between two
 * reads of one client nothing large begins.
 *
 * Nobody starves: the least tag goes even if it is not a client's, and with one turn at a time even ahead of its share.
 * Nothing stands idle: without clients the others have all of it, and a client is never held back by turns of others.
 */
#ifndef STORAGE_FAIR_H
#define STORAGE_FAIR_H

#include "storage/base/bytes.h"

/* On behalf of whom. */
enum stele_class {
	STELE_CLIENT, /* what nobody said of anything else */
	STELE_REPAIR,
	STELE_BACKGROUND, /* scrub, reclaim */
	STELE_CLASSES,
};

/* What they do: each has its own shares and bounds. */
enum stele_lane {
	STELE_LANE_READ,
	STELE_LANE_WRITE, /* from admission to the callback */
	STELE_LANES,
};

/* What others than clients take at a time while these are there. */
#define STELE_FAIR_PIECE (256u << 10)

struct stele_turn { /* embedded by whoever wants one; belongs to the scheduler until it is over */
	struct stele_turn *next;
	enum stele_class class;
	enum stele_lane lane;
	uint64_t bytes;
	void (*begin)(struct stele_turn *t); /* for who runs the scheduler: it does not call it */
	void *ctx;
};

struct stele_fair_lane {
	uint64_t now; /* virtual: the tag of the last turn that began */
	struct {
		uint64_t tag;
		struct stele_turn *head, **tail; /* that wait */
		uint64_t bytes;                  /* of turns held */
		uint32_t held;
	} of[STELE_CLASSES];
};

struct stele_fair {
	bool off; /* whoever wants goes at once: for benchmarks that show the difference */
	bool client_seen;
	uint64_t client_ns; /* when a client last wanted or ended something */
	struct stele_fair_lane lane[STELE_LANES];
};

void stele_fair_init(struct stele_fair *f);
/* t waits. now_ns: the time, of any clock that does not go backwards. */
void stele_fair_add(struct stele_fair *f, struct stele_turn *t, uint64_t now_ns);
/* A turn that begins now, and is held from now on; NULL: none may. Ask until NULL after every add and end. */
struct stele_turn *stele_fair_next(struct stele_fair *f, uint64_t now_ns);
/* A turn that was held is over; it took `bytes` in fact. */
void stele_fair_end(struct stele_fair *f, struct stele_turn *t, uint64_t bytes, uint64_t now_ns);
/* Bytes of the turns that are held. */
uint64_t stele_fair_held(const struct stele_fair *f, enum stele_lane lane);
/* May this class ask for more than a piece at once? */
bool stele_fair_whole(const struct stele_fair *f, enum stele_class class, uint64_t now_ns);

#endif
