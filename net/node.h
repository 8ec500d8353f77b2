/*
 * A storage node: disks, map, server, connections to other nodes, repair. Everything a steled process is, but for
 * its configuration file and its signals; the simulator runs several in one process. Connections, handlers and repair live on
 * one loop, the node's; each disk on a loop of its own, or on the node's too (net/disk.h).
 */
#ifndef NET_NODE_H
#define NET_NODE_H

#include "net/cluster/map.h"
#include "net/cluster/peers.h"
#include "net/repair/collect.h"
#include "net/repair/recall.h"
#include "net/repair/repair.h"
#include "net/scrubs.h"
#include "net/slots.h"
#include "storage/io/buf.h"

struct stele_node;

struct stele_node_opts {
	struct stele_env *env;
	bool own_loops;          /* a loop (thread, ring, workers) for each disk where there are several; false: all on env */
	uint32_t workers;        /* of each such loop; 0: its default */
	const struct stele_kv_ops *kv;
	void *kv_world;
	struct stele_transport_factory *transport; /* the caller's, outlives the node */
	uint16_t id;
	const char *dir;         /* the node's own directory: newest map, what it knows of its slots */
	const char *map_json;    /* the map to start from; a newer one found in dir wins */
	size_t map_len;
	const char *listen;      /* NULL: the address that the map gives this node */
	const char *disk[STELE_SLOTS_MAX]; /* directory of each slot; NULL: none */
	uint32_t ndisks;
	uint64_t extent_len;     /* for disks that must be formatted; 0: STELE_EXTENT_LEN */
	uint64_t capacity;       /* per disk; 0: what the file system has */
	uint32_t bufs;           /* 1 MiB buffers; 0: 128 */
	uint64_t heal_ns;        /* between rounds of self-healing; 0: 30 s */
	uint64_t scrub_bytes_per_s; /* of a scrub that nobody asked for; 0: 8 MiB/s, or what a large disk takes */
	/* Where a slot's disk is configured to lie now, when one is attached: OK with dir[0] 0 for a slot that has none. NULL: as `disk`
	 * says. */
	enum stele_err (*find_disk)(void *ctx, uint32_t slot, char dir[STELE_PATH_MAX]);
	void *find_ctx;
	void (*log)(void *ctx, const char *line); /* one line per event worth an operator's eye */
	void *log_ctx;
};

/* Blocks: opens (or formats) the disks and listens. A disk that cannot be opened is reported and left out; USAGE,
 * DENIED, UNAVAILABLE (port in use), when the node as a whole cannot serve. */
STELE_MUST_USE enum stele_err stele_node_create(const struct stele_node_opts *opts,
						struct stele_node **out);
const char *stele_node_addr(const struct stele_node *node);
/* Stops serving; done fires on the loop when nothing is under way any more. */
void stele_node_close(struct stele_node *node, void (*done)(void *ctx), void *ctx);
void stele_node_destroy(struct stele_node *node); /* after done; accepts NULL */

/* ---- for the handlers in net/ops*.c ---- */
struct stele_env *stele_node_env(struct stele_node *node);
struct stele_map *stele_node_map(struct stele_node *node); /* borrowed */
struct stele_buf_pool *stele_node_bufs(struct stele_node *node);
struct stele_slots *stele_node_slots(struct stele_node *node);
struct stele_repair *stele_node_repair(struct stele_node *node);
struct stele_peers *stele_node_peers(struct stele_node *node);
struct stele_recall *stele_node_recall(struct stele_node *node);
struct stele_scrubs *stele_node_scrubs(struct stele_node *node);
struct stele_collect *stele_node_collect(struct stele_node *node);
/* Attaches c->slot's disk, wherever the configuration says that it lies now: see stele_slots_attach. Errors also of reading the
 * configuration. Its callback, where it went well, calls stele_node_attached: repair begins soon. */
STELE_MUST_USE enum stele_err stele_node_attach(struct stele_node *node, struct stele_slot_change *c);
void stele_node_attached(struct stele_node *node, uint32_t slot);
uint16_t stele_node_id(const struct stele_node *node);
/* Verifies and takes a newer map (MAP_PUT, or one found at a peer); keeps it on disk first. STALE: not newer. */
STELE_MUST_USE enum stele_err stele_node_take_map(struct stele_node *node, const char *json,
						  size_t len);

#endif
