/* What inventory.c (which groups are ours, and what comes of them) and inventory_ask.c (what their disks hold) share. */
#ifndef NET_REPAIR_INVENTORY_PRIVATE_H
#define NET_REPAIR_INVENTORY_PRIVATE_H

#include "net/repair/inventory.h"

#define STELE_INV_TASKS 8u
#define STELE_INV_ITEMS 1024u /* of a list, at a time */
#define STELE_INV_INTO  (STELE_INV_ITEMS * 128u)
#define STELE_INV_HEAD  (16u + 4u * STELE_DIGEST_PGS_MAX)

struct stele_inv_seen { /* of a disk in the map, same order */
	bool answers, full;
	struct stele_uuid uuid;
	uint64_t down_since; /* 0: it answered last time */
};

struct stele_inv_cached { /* one disk of one group */
	bool known;
	struct stele_hash digest; /* which tells no indexes of shards: */
	uint64_t bytes;           /* a second shard of a block shows here */
	struct stele_holding *held;
	uint32_t n, cap;
	bool relist;
	bool stale; /* something was done there since it was listed */
};

struct stele_inv_group {
	uint16_t pool_at; /* in map->pool */
	bool active;      /* of this run: we are its primary, or ... */
	bool primary;     /* ... a refilling slot of ours is part of it (record groups) */
	struct stele_pg_view view;
	struct stele_inv_cached *cached;              /* per position of the window */
	uint32_t disk_at[STELE_WINDOW_MAX]; /* in map->disk */
};

struct stele_inv_task {
	struct stele_inventory *inv;
	bool busy;
	struct stele_call call;
	struct iovec iov;
	uint8_t *head; /* STELE_INV_HEAD */
	uint8_t *into; /* STELE_INV_INTO */
	/* digest: groups of one pool on one disk, from cursor values on */
	uint32_t disk_at, pool_at;
	uint32_t *group; /* indexes into groups */
	uint32_t ngroups;
	uint8_t *pgs; /* 4 bytes of each, as they travel */
	/* list: one group, one position */
	uint32_t g, w;
	struct stele_key after;
};

struct stele_inventory {
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_slots *slots;
	uint16_t node;
	struct stele_map *map; /* the groups below belong to it */
	struct stele_inv_seen *seen;
	struct stele_inv_group *group;
	uint32_t ngroups, groups_cap;
	uint32_t *group_at[STELE_POOLS_MAX]; /* per pool and pg: 1 + place in group, 0: none */
	struct stele_inventory_run *run;
	struct stele_roll roll;
	struct stele_judge judge;
	struct stele_verdicts *verdicts;
	bool listing;   /* else digests */
	bool cancelled; /* what is under way ends; nothing more is begun */
	uint32_t next_disk, next_pool, next_group, next_pos;
	uint32_t busy;
	struct stele_inv_task task[STELE_INV_TASKS];
};

/* Asks the active groups' disks for digests, then for lists of what changed; at the end stele_inventory_asked. */
void stele_inventory_ask(struct stele_inventory *inv);
void stele_inventory_asked(struct stele_inventory *inv);

#endif
