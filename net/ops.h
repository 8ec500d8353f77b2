/*
 * Opcode -> handler: start reading the storage node here. The table says who may call what, and how large; handlers
 * live in ops_shard.c (shards), ops_ref.c (references), ops_record.c (records, marks, refusals), ops_list.c (what is
 * there), ops_rebuild.c (rebuilding, promises, reports), ops_admin.c (status, repair, scrub, disks, map). All run on the node's
 * loop; req->node is the struct stele_node.
 */
#ifndef NET_OPS_H
#define NET_OPS_H

#include "net/node.h"
#include "net/wire/server.h"

extern const struct stele_op_rule stele_ops_table[]; /* ends with op 0 */

/* ---- shared by the handlers ---- */

static inline struct stele_node *stele_req_node(const struct stele_request *req)
{
	return req->node;
}
/* The slot's disk. UNAVAILABLE with the reason when it is missing. */
STELE_MUST_USE enum stele_err stele_ops_disk(struct stele_request *req, uint32_t slot,
					      struct stele_disk **out);
/* May this request write (pool, id) into the slot? STALE when it was sent under another epoch; REFUSED when the slot is
 * not in the id's window; NOT_FOUND for an unknown pool; UNAVAILABLE for a missing slot. */
STELE_MUST_USE enum stele_err stele_ops_may_write(struct stele_request *req, uint32_t slot,
						  uint16_t pool, const struct stele_hash *id,
						  struct stele_disk **out);
/* Replies err with the detail given (a request's own line from another layer). */
void stele_ops_fail(struct stele_request *req, enum stele_err err, const char *detail);
/* On whose behalf a request reads or writes shards: another node does so for repair. */
static inline enum stele_class stele_ops_class(const struct stele_request *req)
{
	return req->who->roles & STELE_ROLE_NODE ? STELE_REPAIR : STELE_CLIENT;
}
/* Frees ctx when the reply was sent: for stele_reply's `sent`. */
void stele_ops_free(void *ctx);

void stele_op_hello(struct stele_request *req);
void stele_op_ping(struct stele_request *req);
void stele_op_map_get(struct stele_request *req);
void stele_op_map_put(struct stele_request *req);
void stele_op_have(struct stele_request *req);
void stele_op_shard_put(struct stele_request *req);
void stele_op_shard_get(struct stele_request *req);
void stele_op_ref_add(struct stele_request *req);
void stele_op_keep(struct stele_request *req);
void stele_op_report_bad(struct stele_request *req);
void stele_op_rebuild(struct stele_request *req);
void stele_op_record_put(struct stele_request *req);
void stele_op_record_get(struct stele_request *req);
void stele_op_mark_add(struct stele_request *req);
void stele_op_refuse(struct stele_request *req);
void stele_op_list(struct stele_request *req);
void stele_op_feed(struct stele_request *req);
void stele_op_pg_digest(struct stele_request *req);
void stele_op_status(struct stele_request *req);
void stele_op_repair(struct stele_request *req);
void stele_op_scrub(struct stele_request *req);
void stele_op_disk(struct stele_request *req);

#endif
