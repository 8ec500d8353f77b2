/*
 * A whole cluster in one process: simulated machines that run the real node, and client machines that run the real session,
 * over the plain transport. Everything follows from one seed.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "net/client/session.h"
#include "net/node.h"
#include "storage/base/prng.h"
#include "storage/io/sim.h"

#define WORLD_NODES_MAX 16u
#define WORLD_CLIENTS   3u

struct world_node {
	uint16_t id;
	char machine[16];
	struct stele_secret_key tls;
	struct stele_transport_factory *transport;
	struct stele_env *env;
	struct stele_node *node; /* NULL: down */
	bool closed;
};

struct world_client {
	char machine[16];
	struct stele_secret_key tls, sign;
	struct stele_transport_factory *transport;
	struct stele_env *env;
	struct stele_session *session; /* NULL: down */
	bool closed;
};

struct world {
	struct stele_sim *sim;
	struct stele_kv_world *kv;
	struct stele_prng rng; /* the workload's */
	uint32_t nnodes;
	struct world_node node[WORLD_NODES_MAX];
	char *map_json;
	size_t map_len;
	struct stele_map *map;
	struct world_client client[WORLD_CLIENTS];
	struct stele_session *session; /* the first client's */
	bool verbose;
};

/* Makes the world and starts everything. Any failure here ends the process: it is a bug of the harness. */
void world_create(struct world *w, uint64_t seed, uint32_t nodes, const char *code,
                  uint64_t collect_age_s, bool verbose);
void world_destroy(struct world *w);

/* Runs until done, at most limit seconds of simulated time. */
bool world_run(struct world *w, bool (*done)(void *ctx), void *ctx, uint64_t limit_s);
void world_sleep(struct world *w, uint64_t seconds);

bool world_up(const struct world *w, uint32_t i);
uint32_t world_nup(const struct world *w);
/* Power loss (unsynced writes may go) or kill -9 (they stay). */
void world_stop_node(struct world *w, uint32_t i, bool power_loss);
/* False, and it stays down, when it cannot start: stele_detail() says why. */
bool world_start_node(struct world *w, uint32_t i);
/* The node is down; its disk is emptied; whole: also what the node knows of it, as on a new machine. */
void world_wipe(struct world *w, uint32_t i, bool whole);
/* Flips a bit somewhere in a node's extents; false: none found. */
bool world_flip(struct world *w, uint32_t i);
/* Its requests must have ended. */
void world_stop_client(struct world *w, uint32_t i);
void world_start_client(struct world *w, uint32_t i);

/* Orders repair on every node that is up and waits; false: not finished within the limit. */
bool world_repair(struct world *w, uint64_t limit_s);

void world_say(struct world *w, const char *fmt, ...) STELE_PRINTF(2, 3);

#endif
