/*
 * One seeded life of a simulated cluster: what clients were promised, what has happened to the disks since, and what is
 * under way. A promise is an acknowledged put or mark: it bears as many losses of disks as its acknowledgement said, of
 * those disks that were there at some time since the put began. Faults are chosen so that no promise is broken by
 * them alone; what is readable now follows from the disks that are away or have lost something.
 */
#ifndef TESTS_SIM_LIFE_H
#define TESTS_SIM_LIFE_H

#include "tests/sim/world.h"

#define LIFE_NODES         8u
#define LIFE_K             4u /* of rs-4-2 */
#define LIFE_T             2u
#define LIFE_OBJECTS       64u
#define LIFE_PROMISES      64u
#define LIFE_OPS           6u
#define LIFE_COLLECT_AGE_S 20u
#define LIFE_SECOND        1000000000ull

struct life_object {
	struct stele_hash id;
	uint64_t seed; /* its bytes follow from it */
	size_t len;
	uint32_t pools; /* a mask: to which it was put */
	bool is_mark;   /* nothing to read: `mark` lies under id */
	struct stele_hash mark;
};

struct life_promise {
	uint32_t object;
	uint64_t since; /* its put began */
	int margin;     /* losses that it bears */
};

struct life_disk {
	uint64_t away_since; /* does not answer, or not reliably; 0: it does */
	uint64_t back_at;    /* clients try it again a moment later */
	uint64_t lost_at;    /* last lost something that no repair has restored yet; 0: nothing */
	bool sick;           /* has faults set */
	bool lies;           /* loses things while they are set */
	bool stopped;        /* SIGSTOP */
	bool cut;
};

enum life_op_kind { LIFE_IDLE = 0, LIFE_PUT, LIFE_GET, LIFE_MARK };

struct life;
struct life_op {
	struct life *l;
	enum life_op_kind kind;
	uint32_t client, object;
	uint64_t since;
	uint64_t hit;   /* disks that were away, or lost something, at any time since then */
	uint64_t lost;  /* those that lost something */
	bool fault;     /* something happened that may slow it down or fail it */
	bool disturbed; /* its own client had an accident */
	bool over;
	bool promised;  /* get: there was a promise when it began, */
	int margin;     /* and it bore this many of `hit` */
	uint8_t *bytes; /* put: what is sent; get: what came */
	size_t len, at, off;
	union {
		struct stele_put_request put;
		struct stele_get_request get;
		struct stele_mark_request mark;
	} * req;
};

struct life {
	struct world w;
	uint64_t seed;
	bool failed;
	bool harsh; /* more disks than t may be away at a time */
	uint32_t nobjects, npromises;
	struct life_object object[LIFE_OBJECTS];
	struct life_promise promise[LIFE_PROMISES];
	struct life_disk disk[LIFE_NODES];
	struct life_op op[LIFE_OPS];
	struct stele_sim_faults well;   /* none */
	uint64_t asleep[WORLD_CLIENTS]; /* stopped until then; 0: running */
	uint64_t woke_at[WORLD_CLIENTS];
	uint32_t acked, refused, unread; /* how much was shown */
};

/* Something that must hold did not. */
void life_broke(struct life *l, const char *fmt, ...) STELE_PRINTF(2, 3);
uint64_t life_now(const struct life *l);
uint64_t life_random(struct life *l, uint64_t below);

/* ---- promises (life.c) ---- */

/* Disks that are away or have lost something, of those that were there at some time since. */
uint64_t life_losses(const struct life *l, uint64_t since);
/* Is the disk away now, or nearly so? */
bool life_away(const struct life *l, uint32_t i);
uint32_t life_unwell(const struct life *l);
/* May the disk lose what it holds without any promise being broken by that? */
bool life_may_lose(const struct life *l, uint32_t i);
void life_goes_away(struct life *l, uint32_t i);
void life_comes_back(struct life *l, uint32_t i);
void life_loses(struct life *l, uint32_t i);
/* Everything was repaired with every disk there. */
void life_healed(struct life *l);
void life_promise(struct life *l, const struct life_op *op, int margin);
/* The best promise of an object; NULL: none that could be kept. */
const struct life_promise *life_promise_of(const struct life *l, uint32_t object);

/* ---- what clients do (ops.c) ---- */

bool life_idle(const struct life *l, uint32_t client); /* it is up, awake, and may take one more */
void life_put(struct life *l, uint32_t client);
void life_get(struct life *l, uint32_t client, uint32_t object, bool whole);
void life_mark(struct life *l, uint32_t client);
/* Runs until everything of that client (WORLD_CLIENTS: of all that are awake) is over. */
void life_finish_ops(struct life *l, uint32_t client);
/* Its process dies, and another one begins. */
void life_kill_client(struct life *l, uint32_t client);
/* Until they end, or a random short time has passed. */
void life_drift(struct life *l);
/* All objects are read, whole. */
void life_read_all(struct life *l);

/* ---- faults (faults.c) ---- */

void life_fault(struct life *l);
void life_wake(struct life *l, bool all); /* sleepers whose time has come */
/* Faults end: all disks there, all networks whole. */
void life_calm(struct life *l);

/* ---- what must hold (checks.c) ---- */

/* Scrub and repair, with every node up; by itself: only waits. */
void life_repair(struct life *l, bool by_itself);
void life_check_whole(struct life *l);
/* Leftovers are gone, and nothing else. */
void life_check_collected(struct life *l);
/* Prints every entry of every disk whose node is up. */
void life_dump(struct life *l);
/* Everything promised is readable without any two disks. */
void life_check_margins(struct life *l);

#endif
