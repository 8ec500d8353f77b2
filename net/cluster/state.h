/*
 * The state part's body (README.md: its specification): addresses, disks, weights, in and out.
 * Pure. Private to net/cluster.
 */
#ifndef NET_CLUSTER_STATE_H
#define NET_CLUSTER_STATE_H

#include "net/cluster/lines.h"
#include "net/cluster/map.h"

/* Fills the state's fields of a map whose root part is there (nodes are looked up in it),
 * allocating map->disk. CORRUPT; VERSION; DENIED: more is out than a state key may say (M3); NOMEM.
 */
STELE_MUST_USE enum stele_err stele_state_decode(const char *body, size_t len,
                                                 struct stele_map *map);
void stele_state_encode(const struct stele_map *map, struct stele_lines_out *out);

#endif
