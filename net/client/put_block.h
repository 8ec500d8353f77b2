/*
 * One distinct block of an object that is being put: where its shards are, and the references
 * beside them. Part of the pure machine of net/client/put.h.
 */
#ifndef NET_CLIENT_PUT_BLOCK_H
#define NET_CLIENT_PUT_BLOCK_H

#include "erasure/code.h"
#include "net/client/spread.h"

struct stele_put_block {
	struct stele_hash id;
	uint32_t length;
	uint32_t piece; /* whose bytes these are */
	bool in_memory; /* they can still be sent */
	bool placed;    /* its shards are on their way, or further */
	/* references, as masks of the shards beside which they lie; held: durable, within the
	 * shards held */
	uint64_t ref_sent;
	uint64_t ref_held;
	uint64_t ref_stale; /* refused for the epoch */
	struct stele_spread spread;
};

bool stele_put_block_full(const struct stele_put_block *b);
int stele_put_block_margin(const struct stele_put_block *b, const struct stele_code *code);
bool stele_put_block_at(const struct stele_put_block *b, uint32_t item,
                        struct stele_window_disk disk);
/* Shards held whose reference is neither there nor on its way. */
uint64_t stele_put_block_ref_missing(const struct stele_put_block *b);
/* What came of a reference on its way: tried again, or the shard beside it does not count any more.
 */
void stele_put_block_ref_result(struct stele_put_block *b, uint32_t item, enum stele_err err);
/* After a fetch of the map: window: the block's under the newer map; NULL: there was none newer. */
void stele_put_block_map(struct stele_put_block *b, const struct stele_window *window);
/* "block 2: 3 of 6 shards could be stored ... (node 1 disk 0: unavailable)". Returns DENIED or
 * UNAVAILABLE. */
enum stele_err stele_put_block_describe(const struct stele_put_block *b, uint32_t number, char *out,
                                        size_t cap);

#endif
