/*
 * Inside the simulator: the world, its machines and processes, and the queue of events. Only the
 * sim*.c files include it. Everything runs on one thread; whoever draws from the prng does so in the
 * order of events, so that a seed decides everything.
 */
#ifndef STORAGE_IO_SIM_WORLD_H
#define STORAGE_IO_SIM_WORLD_H

#include "storage/base/prng.h"
#include "storage/base/sha256.h"
#include "storage/io/op_list.h"
#include "storage/io/sim.h"

struct sim_disk;
struct sim_inode;
struct sim_net;
struct sim_end;
struct sim_listener;

/* An entry of the queue, ordered by (at, seq). Freed after it fired. */
struct sim_event {
	uint64_t at;
	uint64_t seq;
	uint32_t heap; /* its place in the queue */
	void (*fire)(struct stele_sim *sim, struct sim_event *event);
	void *owner; /* what it is about */
	struct sim_env *env; /* whose, for operations and posts */
	int64_t result;      /* of an operation whose end is known */
	bool held;           /* its machine is stopped */
};

struct sim_machine {
	char name[STELE_NAME_MAX];
	uint32_t id; /* by order of creation, from 1 */
	struct stele_sim_faults faults;
	struct sim_disk *disk;
	uint32_t ports; /* given to sockets so far */
	bool stopped;   /* its events are held back */
	struct sim_machine *next;
};

enum sim_handle_kind { SIM_FILE, SIM_SOCKET, SIM_LISTENER };

struct sim_handle {
	enum sim_handle_kind kind;
	int fd;
	uint32_t flags;          /* of OPEN */
	struct sim_inode *inode; /* SIM_FILE: a reference */
	struct sim_end *end;
	struct sim_listener *listener;
	uint32_t pending;        /* disk operations under way */
	struct stele_op *closer; /* a CLOSE that waits for them */
};

struct sim_env {
	struct stele_env env;
	struct stele_sim *sim;
	struct sim_machine *machine;
	bool dead;
	bool stop;
	struct stele_op_list ops; /* under way; priv.slot is an op's event, if it has one */
	struct sim_handle **handles;
	size_t handles_n; /* descriptors are never used twice: a stale one is noticed */
	size_t handles_cap;
	struct sim_env *next;
};

struct stele_sim {
	uint64_t seed;
	struct stele_prng prng;
	uint64_t now;
	uint64_t seq;
	struct sim_event **events; /* a binary heap */
	uint32_t events_n;
	uint32_t events_cap;
	struct sim_machine *machines;
	struct sim_env *envs; /* in the order of creation */
	struct stele_sim_faults faults; /* of machines to come */
	struct sim_net *net;
	struct stele_sha256_stream log;
};

/* What an event of the log is about. */
enum sim_note {
	SIM_NOTE_OP = 1, /* an operation ended: kind, result */
	SIM_NOTE_CALL,   /* kind, result */
	SIM_NOTE_POST,
	SIM_NOTE_NET,    /* something arrived: bytes, their CRC */
	SIM_NOTE_CRASH,
	SIM_NOTE_KILL,
	SIM_NOTE_CUT,
	SIM_NOTE_BYTES,  /* read or written: how many, their CRC */
	SIM_NOTE_STOP,
};

/* Zeroed memory; aborts when there is none: a simulation cannot go on, and nothing is lost. */
void *stele_sim_alloc(size_t len);
void stele_sim_note(struct stele_sim *sim, const struct sim_machine *machine, enum sim_note note,
		    uint64_t a, uint64_t b);
/* A duration around `mean`: 0.1 to 1.9 of it. */
uint64_t stele_sim_around(struct stele_sim *sim, uint64_t mean);

struct sim_event *stele_sim_schedule(struct stele_sim *sim, uint64_t delay_ns,
				     void (*fire)(struct stele_sim *sim, struct sim_event *event),
				     void *owner);
/* Takes the next one out of the queue; NULL when there is none. */
struct sim_event *stele_sim_pop(struct stele_sim *sim);
void stele_sim_unschedule(struct stele_sim *sim, struct sim_event *event); /* frees it */
/* Puts an event that was taken out back, to the end of time; and brings those of a machine back from there. */
void stele_sim_hold(struct stele_sim *sim, struct sim_event *event);
void stele_sim_release(struct stele_sim *sim, const struct sim_machine *machine);

/* The op, which has no event, ends with result: its callback comes as an event of its own. */
void stele_sim_end(struct sim_env *env, struct stele_op *op, int64_t result);

struct sim_handle *stele_sim_handle_add(struct sim_env *env, enum sim_handle_kind kind);
/* NULL: there is none, or not of this kind. */
struct sim_handle *stele_sim_handle(struct sim_env *env, int fd, enum sim_handle_kind kind);

/* Disk operations with the machine's faults (sim_file.c). */
int64_t stele_sim_perform(struct sim_env *env, struct sim_handle *handle, struct stele_op *op);
/* Stores the first `len` bytes of a write at off, unsynced. */
void stele_sim_store(struct sim_handle *handle, const struct stele_op *op, uint64_t off,
		     uint64_t len);

/* The network (sim_net.c). Socket operations: their priv.slot is NULL while they wait. */
struct sim_net *stele_sim_net_create(struct stele_sim *sim);
void stele_sim_net_destroy(struct sim_net *net);
int64_t stele_sim_net_listen(struct sim_env *env, const struct stele_op *op);
void stele_sim_net_submit(struct sim_env *env, struct stele_op *op);
/* A waiting op leaves its socket. */
void stele_sim_net_forget(struct sim_env *env, struct stele_op *op);
/* Pending operations end with -ECANCELED; the peer sees the end of the stream, or a reset. */
void stele_sim_net_close(struct sim_env *env, struct sim_handle *handle);
/* The machine lost power: its peers are reset. */
void stele_sim_net_crash(struct sim_env *env);
void stele_sim_net_cut(struct sim_net *net, const char *from, const char *to, bool cut);

#endif
