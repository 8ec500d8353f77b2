/*
 * The simulated world: one seeded scheduler, a clock, a network and one disk image per node, behind
 * struct stele_env (DESIGN N11). The same node and client code runs on it, deterministically: the
 * same seed gives the same sequence of events, whose hash is stele_sim_log_hash.
 *
 * Each simulated machine has its own env; all belong to one world, and everything runs on the
 * caller's thread. WORK runs as a delayed event. call() performs its operation at once, with faults.
 *
 * Crash: stele_sim_crash kills a machine. From then on its env is dead: every operation under way
 * or submitted later ends with -ECANCELED and has no effect, so that the machine's objects can be
 * destroyed in the ordinary way. Unsynced writes are then kept, dropped or torn page by page as
 * the seed decides, and a new env for the same machine sees what is left.
 */
#ifndef STORAGE_IO_SIM_H
#define STORAGE_IO_SIM_H

#include "storage/io/env.h"

struct stele_sim;

/* Rates are in millionths per operation; 0 never. */
struct stele_sim_faults {
	uint32_t read_error;     /* -EIO of a read */
	uint32_t write_error;    /* -EIO of a write or a sync */
	uint32_t no_space;       /* -ENOSPC of an allocation or an extending write */
	uint32_t bit_rot;        /* one flipped bit under a read, for good */
	uint32_t lost_write;     /* acknowledged, never stored: not a crash fault, a lying disk */
	uint32_t misdirected;    /* stored elsewhere in the same file */
	uint32_t stall;          /* an operation takes seconds */
	uint32_t net_drop;       /* a connection is reset */
	uint32_t connect_fail;
	uint64_t disk_ns;        /* mean time of a disk operation; 100 us where nothing was set */
	uint64_t net_ns;         /* mean time of a message; 200 us where nothing was set */
};

STELE_MUST_USE enum stele_err stele_sim_create(uint64_t seed, struct stele_sim **out);
/* Every env must have been destroyed before. Accepts NULL. */
void stele_sim_destroy(struct stele_sim *sim);
/* Faults for one machine (by name), or for all when name is NULL. */
void stele_sim_set_faults(struct stele_sim *sim, const char *machine,
			  const struct stele_sim_faults *faults);

/* A new process on a machine, which is created with an empty disk at its first use. Several may
 * live at once; after a crash the next one is a new life. */
STELE_MUST_USE enum stele_err stele_sim_env(struct stele_sim *sim, const char *machine,
					    struct stele_env **out);
/* The power goes: see above. The dead env stays valid until stele_env_destroy. */
void stele_sim_crash(struct stele_sim *sim, const char *machine);
/* kill -9: the process dies, what it wrote reaches the disk. */
void stele_sim_kill(struct stele_sim *sim, const char *machine);
/* SIGSTOP and SIGCONT: a stopped machine's processes do nothing, the network goes on, time passes; then they find what has
 * happened meanwhile, in its order: what arrived before a timer was due comes before it. A stopped one can be killed. */
void stele_sim_stop(struct stele_sim *sim, const char *machine, bool stopped);
/* Cuts and heals the network between two machines (one way); NULL: every machine. What is sent
 * over a cut arrives when it heals; until then nobody is told. */
void stele_sim_cut(struct stele_sim *sim, const char *from, const char *to, bool cut);
/* Removes everything below dir on the machine's disk. */
void stele_sim_wipe(struct stele_sim *sim, const char *machine, const char *dir);
/* Flips one bit of a file; false when there is no such byte. */
bool stele_sim_flip(struct stele_sim *sim, const char *machine, const char *path, uint64_t off,
		    uint32_t bit);
/* A bad sector: reads of the page at off end with -EIO until it is written again, or not `bad` any more; false when there is
 * no such byte. */
bool stele_sim_spoil(struct stele_sim *sim, const char *machine, const char *path, uint64_t off,
                     bool bad);

/* Runs the next event; false when none is left. */
bool stele_sim_step(struct stele_sim *sim);
/* Runs until done(ctx), or until `limit_ns` of simulated time from now has passed: then false. */
bool stele_sim_run(struct stele_sim *sim, bool (*done)(void *ctx), void *ctx, uint64_t limit_ns);
uint64_t stele_sim_now(const struct stele_sim *sim);
uint64_t stele_sim_random(struct stele_sim *sim);
uint64_t stele_sim_seed(const struct stele_sim *sim);
/* A hash over every event so far (kind, machine, time, bytes): equal for equal seeds. */
void stele_sim_log_hash(const struct stele_sim *sim, struct stele_hash *out);

#endif
