/* The table of operations, and what every handler needs before it may touch a disk. */
#include "net/ops.h"

#include <inttypes.h>
#include <stdlib.h>

#include "net/cluster/place.h"

#define NODE   STELE_ROLE_NODE
#define WRITER STELE_ROLE_WRITER
#define READER STELE_ROLE_READER
#define ADMIN  STELE_ROLE_ADMIN
#define SEQ    STELE_ROLE_SEQUENCER

#define SMALL 4096u
#define HEAD  STELE_FRAME_HEAD_MAX

const struct stele_op_rule stele_ops_table[] = {
    /* op, roles, head_max, body_max, handler */
    {STELE_OPCODE_HELLO, STELE_ROLE_ANY, SMALL, 0, stele_op_hello},
    {STELE_OPCODE_PING, STELE_ROLE_ANY, SMALL, 0, stele_op_ping},
    {STELE_OPCODE_MAP_GET, STELE_ROLE_ANY, SMALL, 0, stele_op_map_get},
    {STELE_OPCODE_MAP_PUT, STELE_ROLE_ANY, SMALL, STELE_MAP_MAX, stele_op_map_put},
    {STELE_OPCODE_HAVE, READER | WRITER | NODE, HEAD, 0, stele_op_have},
    {STELE_OPCODE_SHARD_PUT, WRITER, HEAD, STELE_SHARD_LEN_MAX, stele_op_shard_put},
    {STELE_OPCODE_SHARD_GET, READER | NODE, SMALL, 0, stele_op_shard_get},
    {STELE_OPCODE_REF_ADD, WRITER | NODE, HEAD, 0, stele_op_ref_add},
    {STELE_OPCODE_RECORD_PUT, WRITER | NODE, HEAD, 0, stele_op_record_put},
    {STELE_OPCODE_RECORD_GET, READER | WRITER | NODE, SMALL, 0, stele_op_record_get},
    {STELE_OPCODE_MARK_ADD, WRITER | NODE | SEQ | STELE_ROLE_OFFICER, HEAD, 0, stele_op_mark_add},
    {STELE_OPCODE_REFUSE, NODE, SMALL, 0, stele_op_refuse},
    {STELE_OPCODE_LIST, READER | NODE, SMALL, 0, stele_op_list},
    {STELE_OPCODE_PG_DIGEST, NODE, HEAD, 0, stele_op_pg_digest},
    {STELE_OPCODE_REBUILD, NODE, SMALL, 0, stele_op_rebuild},
    {STELE_OPCODE_KEEP, NODE, SMALL, 0, stele_op_keep},
    {STELE_OPCODE_STATUS, ADMIN | READER, SMALL, SMALL, stele_op_status},
    {STELE_OPCODE_REPAIR, ADMIN, SMALL, SMALL, stele_op_repair},
    {STELE_OPCODE_SCRUB, ADMIN, SMALL, SMALL, stele_op_scrub},
    {STELE_OPCODE_DISK, ADMIN, SMALL, SMALL, stele_op_disk},
    {STELE_OPCODE_REPORT_BAD, READER | NODE, SMALL, 0, stele_op_report_bad},
    {STELE_OPCODE_FEED, SEQ | NODE, SMALL, 0, stele_op_feed},
    {0},
};

enum stele_err stele_ops_disk(struct stele_request *req, uint32_t slot, struct stele_disk **out)
{
	struct stele_slots *slots = stele_node_slots(stele_req_node(req));
	*out = stele_slots_disk(slots, slot);
	if (!*out)
		return stele_fail(STELE_ERR_UNAVAILABLE, "%s", stele_slots_reason(slots, slot));
	return STELE_OK;
}

static bool in_window(struct stele_node *node, const struct stele_pool *pool, uint32_t slot,
                      const struct stele_hash *id)
{
	struct stele_window w;
	uint64_t fence;
	stele_place(stele_node_map(node), pool, stele_pg_of(pool, id),
	            stele_window_width(&pool->code), &w, &fence);
	for (uint32_t i = 0; i < w.n; i++)
		if (w.disk[i].node == stele_node_id(node) && w.disk[i].slot == slot)
			return true;
	return false;
}

enum stele_err stele_ops_may_write(struct stele_request *req, uint32_t slot, uint16_t pool_id,
                                   const struct stele_hash *id, struct stele_disk **out)
{
	struct stele_node *node = stele_req_node(req);
	const struct stele_map *map = stele_node_map(node);
	if (req->epoch != stele_map_epoch(map))
		return stele_fail(STELE_ERR_STALE,
		                  "node %u holds map %" PRIu64 ".%" PRIu64
		                  ", the request came under another",
		                  stele_node_id(node), map->root_epoch, map->state_epoch);
	const struct stele_pool *pool = stele_map_pool(map, pool_id);
	if (!pool)
		return stele_fail(STELE_ERR_NOT_FOUND, "the map has no pool %u", pool_id);
	STELE_TRY(stele_ops_disk(req, slot, out));
	if (!in_window(node, pool, slot, id))
		return stele_fail(STELE_ERR_REFUSED,
		                  "node %u slot %u is not in the window of that id in pool %s",
		                  stele_node_id(node), slot, pool->name);
	return STELE_OK;
}

void stele_ops_fail(struct stele_request *req, enum stele_err err, const char *detail)
{
	stele_reply_error(req, stele_fail(err, "%s", detail));
}

void stele_ops_free(void *ctx)
{
	free(ctx);
}
