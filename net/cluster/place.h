/*
 * Placement (DESIGN M1): (pool, id) -> placement group -> window, a pure function of the map. Weighted
 * rendezvous hashing (Thaler & Ravishankar 1998; weights: w / -ln u), with ln in fixed point so that
 * every machine computes the same order; one disk per failure domain. Thread: any.
 */
#ifndef NET_CLUSTER_PLACE_H
#define NET_CLUSTER_PLACE_H

#include "net/cluster/map.h"

struct stele_window_disk {
	uint16_t node;
	uint16_t slot;
};
struct stele_window {
	uint32_t n; /* up to the code's n + t + 2 disks, in order; fewer when the cluster has fewer domains */
	struct stele_window_disk disk[STELE_WINDOW_MAX];
};

/* The placement group of an id: its first bits. */
uint32_t stele_pg_of(const struct stele_pool *pool, const struct stele_hash *id);
/* The ids of a group: [first, last]. */
void stele_pg_range(const struct stele_pool *pool, uint32_t pg, struct stele_hash *first,
		    struct stele_hash *last);
/* width: how many disks the pool's code wants (n + t + 2); t from the code (the caller knows it: placement does not
 * include erasure). fence_epoch: the map epoch below which a disk refuses writes to this window. */
void stele_place(const struct stele_map *map, const struct stele_pool *pool, uint32_t pg,
		 uint32_t width, struct stele_window *out, uint64_t *fence_epoch);
/* n + t + 2 for the code's family: rep n-1, rs m, lrc globals + 1. */
uint32_t stele_window_width(const struct stele_code_id *code);
uint32_t stele_code_id_t(const struct stele_code_id *code);
/* May next follow held while nothing can move (the map has no overrides yet, M2)? Every pool of held must be in next
 * with the same code, the same groups and the same windows. REFUSED: the detail names the first that differs. */
STELE_MUST_USE enum stele_err stele_place_unmoved(const struct stele_map *held,
						  const struct stele_map *next);

#endif
