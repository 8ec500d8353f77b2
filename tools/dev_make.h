/*
 * What `stele dev up` lays out for a new local cluster (docs/layouts.md):
 *   DIR/{cluster.json, client.key, reader.key, root.key, state.key, log.key, node<N>/{steled.ini, node.key, disk0/, ...}}
 * client.key has every role, reader.key that of a reader alone.
 * A file dev.unfinished is there while it is being made, so that an interrupted run is told from
 * things that are somebody else's; cluster.json comes last.
 */
#ifndef TOOLS_DEV_MAKE_H
#define TOOLS_DEV_MAKE_H

#include "net/slots.h"
#include "storage/base/descriptor.h"
#include "storage/io/env.h"

#define STELE_DEV_NODES_MAX 64u

struct stele_dev_plan {
	const char *dir; /* exists; absolute */
	uint32_t nodes;  /* 1 ... STELE_DEV_NODES_MAX */
	uint32_t disks;  /* of each node, 1 ... STELE_SLOTS_MAX */
	struct stele_code_id code;
	uint64_t collect_age_s; /* of every pool: leftovers younger than this stay; 0: a day */
	uint64_t heal_s;        /* between rounds of self-healing; 0: the node's default */
	uint64_t capacity; /* bytes of each disk that may be used; 0: what there is */
};

/* Extents of dev are 64 MiB: fewer than two are no store. */
#define STELE_DEV_CAPACITY_MIN (2ull * STELE_EXTENT_LEN_DEV)

/* Makes keys, map and configurations; chooses a free loopback port for each node. USAGE: too few nodes for the
 * code. EXISTS: something is in the way that no unfinished run left. */
STELE_MUST_USE enum stele_err stele_dev_make(struct stele_env *env,
                                             const struct stele_dev_plan *plan);
/* True: a run of make was interrupted here; nothing has been stored yet, and make begins anew. */
bool stele_dev_unfinished(const char *dir);
/* Removes all that make and the daemons put into DIR, and nothing else. Nothing may run there. */
STELE_MUST_USE enum stele_err stele_dev_remove(const char *dir);
/* The numbers of the nodes that DIR has, ascending: directories node<N> with a steled.ini. */
STELE_MUST_USE enum stele_err stele_dev_nodes(const char *dir, uint32_t out[STELE_DEV_NODES_MAX],
                                              uint32_t *n);

#endif
