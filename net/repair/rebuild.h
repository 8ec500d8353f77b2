/*
 * Rebuilds one shard at its target (R4): reads the block's meta from a helper, pulls the cheapest set of shards, decodes,
 * checks the result against the root that the descriptor states, and appends it together with the union of all
 * helpers' references, in one durable write. A helper that fails or lies is left out and the plan is made again. One loop.
 */
#ifndef NET_REPAIR_REBUILD_H
#define NET_REPAIR_REBUILD_H

#include "erasure/shard_meta.h"
#include "net/cluster/peers.h"
#include "net/slots.h"
#include "storage/io/buf.h"

struct stele_rebuild {
	/* in */
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_buf_pool *bufs;
	struct stele_disk *target;
	uint16_t pool;
	uint8_t index;
	struct stele_hash block;
	uint32_t nhelpers;
	struct stele_wire_helper helper[STELE_CODE_N_MAX];
	void (*cb)(struct stele_rebuild *r);
	void *ctx;
	/* out: OK · EXISTS as OK (it is there already) · UNAVAILABLE (too few good helpers, named) · BUSY · FULL · ... */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	uint64_t bytes_read, bytes_written;
	uint64_t bad; /* helpers' indexes whose bytes failed their hashes: reported to them */
	void *job;
};
void stele_rebuild_start(struct stele_rebuild *r);
/* Whether a whole shard, in as many buffers as it takes, hashes to its row. rows: stele_shard_meta_read's. On a worker. */
bool stele_rebuild_matches(const struct stele_descriptor *d, const struct stele_hash *rows,
                           uint32_t index, struct stele_buf *const *buf);

#endif
