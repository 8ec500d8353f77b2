/*
 * The root part's body (README.md: its specification): keys, pools, nodes, clients. Pure. Private
 * to net/cluster; others see struct stele_map.
 */
#ifndef NET_CLUSTER_ROOT_H
#define NET_CLUSTER_ROOT_H

#include "net/cluster/lines.h"
#include "net/cluster/map.h"

/* Fills the root's fields of an empty map, allocating its arrays (the map's owner releases them,
 * also after a failure). Checks ranges, references, and that no key stands for two things. CORRUPT,
 * VERSION, NOMEM. */
STELE_MUST_USE enum stele_err stele_root_decode(const char *body, size_t len,
                                                struct stele_map *map);
/* Errors in out->err. */
void stele_root_encode(const struct stele_map *map, struct stele_lines_out *out);

#endif
