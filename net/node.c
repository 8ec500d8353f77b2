/* Puts a storage node together and takes it apart: disks, map, server, connections, repair.
 * Requests are handled in ops*.c; this file knows none of them. */
#include "net/node.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/cluster/place.h"
#include "net/ops.h"

#define BUFS_DEFAULT  128u
#define HEAL_DEFAULT  (30ull * 1000 * 1000 * 1000)

struct stele_node {
	struct stele_node_opts opts;
	char dir[STELE_PATH_MAX];
	char map_file[STELE_PATH_MAX];
	struct stele_map *map;
	struct stele_buf_pool *bufs;
	struct stele_slots *slots;
	struct stele_peers *peers;
	struct stele_recall *recall;
	struct stele_repair *repair;
	struct stele_scrubs *scrubs;
	struct stele_collect *collect;
	struct stele_server *server;
	char disk[STELE_SLOTS_MAX][STELE_PATH_MAX]; /* as configured */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

STELE_PRINTF(2, 3) static void say(struct stele_node *node, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (node->opts.log)
		node->opts.log(node->opts.log_ctx, line);
}

/* ---- the map ---- */

/* The map that was given, or a newer one that this node has kept. */
static enum stele_err load_map(struct stele_node *node)
{
	struct stele_map *given, *kept;
	char *json;
	size_t len;
	STELE_TRY(stele_map_parse(node->opts.map_json, node->opts.map_len, NULL, &given));
	node->map = given;
	enum stele_err err =
	    stele_file_load(node->opts.env, node->map_file, STELE_MAP_MAX, &json, &len);
	if (err == STELE_ERR_NOT_FOUND)
		return STELE_OK;
	if (err != STELE_OK)
		return err;
	err = stele_map_parse(json, len, given, &kept);
	if (err == STELE_ERR_STALE) { /* the given one is newer */
		err = stele_map_parse(json, len, NULL, &kept);
		if (err == STELE_OK) {
			err = stele_place_unmoved(kept, given);
			stele_map_unref(kept);
		} else {
			err = stele_wrap(err, "%s", node->map_file);
		}
		free(json);
		return err;
	}
	free(json);
	if (err != STELE_OK)
		return stele_wrap(err, "%s", node->map_file);
	stele_map_unref(given);
	node->map = kept;
	return STELE_OK;
}

enum stele_err stele_node_take_map(struct stele_node *node, const char *json, size_t len)
{
	struct stele_map *map;
	STELE_TRY(stele_map_parse(json, len, node->map, &map));
	if (stele_map_epoch(map) <= stele_map_epoch(node->map)) {
		bool same = stele_map_epoch(map) == stele_map_epoch(node->map);
		stele_map_unref(map);
		return same ? STELE_OK
		            : stele_fail(STELE_ERR_STALE, "the map is older than this node's");
	}
	size_t kept_len;
	const char *kept = stele_map_json(map, &kept_len);
	enum stele_err err = stele_place_unmoved(node->map, map);
	if (err == STELE_OK)
		err = stele_file_save(node->opts.env, node->map_file, kept, kept_len, 0644);
	if (err != STELE_OK) {
		stele_map_unref(map);
		return err;
	}
	stele_map_unref(node->map);
	node->map = map;
	stele_peers_set_map(node->peers, map);
	stele_server_recheck(node->server);
	say(node, "map: epoch %" PRIu64 ".%" PRIu64, map->root_epoch, map->state_epoch);
	return STELE_OK;
}

static void identify(void *ctx, struct stele_who *who)
{
	struct stele_node *node = ctx;
	stele_map_identify(node->map, who);
}

static uint64_t epoch(void *ctx)
{
	struct stele_node *node = ctx;
	return stele_map_epoch(node->map);
}

/* ---- life ---- */

static enum stele_err open_parts(struct stele_node *node)
{
	struct stele_node_opts *o = &node->opts;
	STELE_TRY(load_map(node));
	const struct stele_node_entry *me = stele_map_node(node->map, o->id);
	if (!me)
		return stele_fail(STELE_ERR_USAGE, "the cluster map has no node %u", o->id);
	STELE_TRY(stele_buf_pool_create(o->bufs ? o->bufs : BUFS_DEFAULT, &node->bufs));
	struct stele_slots_opts slots = {
	    .env = o->env,
	    .own_loops = o->own_loops,
	    .workers = o->workers,
	    .bufs = node->bufs,
	    .kv = o->kv,
	    .kv_world = o->kv_world,
	    .cluster = node->map->cluster,
	    .node_dir = node->dir,
	    .disk = o->disk,
	    .ndisks = o->ndisks,
	    .extent_len = o->extent_len,
	    .capacity = o->capacity,
	    .log = o->log,
	    .log_ctx = o->log_ctx,
	};
	STELE_TRY(stele_slots_open(&slots, &node->slots));
	STELE_TRY(stele_peers_create(o->env, o->transport, node->map, &node->peers));
	STELE_TRY(stele_recall_create(o->env, node->dir, o->id, o->log, o->log_ctx, &node->recall));
	stele_peers_set_recall(node->peers, node->recall);
	struct stele_repair_opts repair = {
	    .env = o->env,
	    .bufs = node->bufs,
	    .peers = node->peers,
	    .slots = node->slots,
	    .node = o->id,
	    .heal_ns = o->heal_ns ? o->heal_ns : HEAL_DEFAULT,
	    .log = o->log,
	    .log_ctx = o->log_ctx,
	};
	STELE_TRY(stele_repair_create(&repair, &node->repair));
	STELE_TRY(stele_scrubs_create(o->env, node->slots, o->scrub_bytes_per_s, o->log, o->log_ctx,
	                              &node->scrubs));
	STELE_TRY(stele_collect_create(o->env, node->peers, node->slots, o->log, o->log_ctx,
	                               &node->collect));
	struct stele_server_opts server = {
	    .env = o->env,
	    .bufs = node->bufs,
	    .transport = o->transport,
	    .listen = o->listen ? o->listen : me->addr,
	    .rule = stele_ops_table,
	    .identify = identify,
	    .epoch = epoch,
	    .ctx = node,
	};
	return stele_server_create(&server, &node->server);
}

enum stele_err stele_node_create(const struct stele_node_opts *opts, struct stele_node **out)
{
	struct stele_node *node = calloc(1, sizeof(*node));
	if (!node)
		return stele_fail(STELE_ERR_NOMEM, "node: out of memory");
	node->opts = *opts;
	snprintf(node->dir, sizeof(node->dir), "%s", opts->dir);
	for (uint32_t i = 0; i < opts->ndisks && i < STELE_SLOTS_MAX; i++)
		snprintf(node->disk[i], sizeof(node->disk[i]), "%s",
		         opts->disk[i] ? opts->disk[i] : "");
	int n = snprintf(node->map_file, sizeof(node->map_file), "%s/map.json", opts->dir);
	enum stele_err err = n > 0 && (size_t)n < sizeof(node->map_file)
	                         ? open_parts(node)
	                         : stele_fail(STELE_ERR_USAGE, "node directory: path too long");
	if (err != STELE_OK) {
		char detail[STELE_DETAIL_MAX];
		stele_detail_copy(detail);
		stele_node_destroy(node);
		return stele_fail(err, "%s", detail);
	}
	stele_slots_begin(node->slots);
	stele_repair_start(node->repair);
	stele_scrubs_begin(node->scrubs);
	stele_collect_start(node->collect);
	*out = node;
	return STELE_OK;
}

static void slots_closed(void *ctx)
{
	struct stele_node *node = ctx;
	node->closed(node->closed_ctx);
}

static void peers_closed(void *ctx)
{
	struct stele_node *node = ctx;
	stele_slots_close(node->slots, slots_closed, node);
}

static void collect_closed(void *ctx)
{
	struct stele_node *node = ctx;
	stele_peers_close(node->peers, peers_closed, node);
}

static void scrubs_closed(void *ctx)
{
	struct stele_node *node = ctx;
	stele_collect_close(node->collect, collect_closed, node);
}

static void repair_closed(void *ctx)
{
	struct stele_node *node = ctx;
	stele_scrubs_close(node->scrubs, scrubs_closed, node);
}

static void server_closed(void *ctx)
{
	struct stele_node *node = ctx;
	stele_repair_close(node->repair, repair_closed, node);
}

void stele_node_close(struct stele_node *node, void (*done)(void *ctx), void *ctx)
{
	assert(!node->closed);
	node->closed = done;
	node->closed_ctx = ctx;
	/* Handlers may wait for other nodes: their calls have deadlines, so this ends. */
	stele_server_close(node->server, server_closed, node);
}

void stele_node_destroy(struct stele_node *node)
{
	if (!node)
		return;
	if (node->server)
		stele_server_destroy(node->server);
	stele_repair_destroy(node->repair);
	stele_scrubs_destroy(node->scrubs);
	stele_collect_destroy(node->collect);
	if (node->peers)
		stele_peers_destroy(node->peers);
	stele_recall_destroy(node->recall);
	stele_slots_destroy(node->slots);
	stele_buf_pool_destroy(node->bufs);
	stele_map_unref(node->map);
	free(node);
}

/* ---- disks that come while it runs ---- */

void stele_node_attached(struct stele_node *node, uint32_t slot)
{
	stele_collect_renew(node->collect, (uint16_t)slot);
	stele_repair_soon(node->repair);
}

enum stele_err stele_node_attach(struct stele_node *node, struct stele_slot_change *c)
{
	char dir[STELE_PATH_MAX] = "";
	if (c->slot < STELE_SLOTS_MAX && node->opts.find_disk)
		STELE_TRY(node->opts.find_disk(node->opts.find_ctx, c->slot, dir));
	else if (c->slot < STELE_SLOTS_MAX)
		memcpy(dir, node->disk[c->slot], sizeof(dir));
	c->dir = dir; /* copied there */
	enum stele_err err = stele_slots_attach(node->slots, c);
	c->dir = NULL;
	return err;
}

const char *stele_node_addr(const struct stele_node *node)
{
	return stele_server_addr(node->server);
}

struct stele_env *stele_node_env(struct stele_node *node)
{
	return node->opts.env;
}

struct stele_map *stele_node_map(struct stele_node *node)
{
	return node->map;
}

struct stele_buf_pool *stele_node_bufs(struct stele_node *node)
{
	return node->bufs;
}

struct stele_slots *stele_node_slots(struct stele_node *node)
{
	return node->slots;
}

struct stele_repair *stele_node_repair(struct stele_node *node)
{
	return node->repair;
}

struct stele_collect *stele_node_collect(struct stele_node *node)
{
	return node->collect;
}

struct stele_recall *stele_node_recall(struct stele_node *node)
{
	return node->recall;
}

struct stele_scrubs *stele_node_scrubs(struct stele_node *node)
{
	return node->scrubs;
}

struct stele_peers *stele_node_peers(struct stele_node *node)
{
	return node->peers;
}

uint16_t stele_node_id(const struct stele_node *node)
{
	return node->opts.id;
}
