/*
 * The search for leftovers (DESIGN P3) on this node's disks: every slot and pool is read page by page. Shards without a
 * reference, references that cannot be read, and references whose deposits are not known to live become suspects.
 * One search at a time; on the node's loop; collection embeds it.
 */
#ifndef NET_REPAIR_SEARCH_H
#define NET_REPAIR_SEARCH_H

#include "net/repair/look.h"
#include "net/repair/suspects.h"
#include "net/slots.h"

#define STELE_SEARCH_BESIDE 4u /* shards of one block on one disk that are seen in a search */

struct stele_block_seen { /* the block whose entries are being read, of one slot and pool */
	struct stele_hash id;
	struct stele_key shard[STELE_SEARCH_BESIDE];
	uint64_t shard_bytes;
	uint32_t nshards;
	bool referenced;
};

struct stele_search {
	/* in */
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_slots *slots;
	struct stele_verdicts *verdicts; /* learns what is asked on the way */
	struct stele_suspects *suspects; /* those not seen any more are forgotten at the end */
	const struct stele_roll *roll;
	uint64_t pass; /* its number: of what is seen */
	bool stop;     /* set while it is under way: it ends soon */
	void (*cb)(struct stele_search *search);
	void *ctx;
	/* private, for good */
	uint64_t
	    settled[STELE_SLOTS_MAX]; /* references born up to this LSN live, or are suspects */
	/* private, of one search */
	uint64_t lsn[STELE_SLOTS_MAX]; /* when it began */
	bool complete[STELE_SLOTS_MAX];
	bool overflow; /* not every suspect found room */
	uint32_t slot, pool_at;
	struct stele_store_list list;
	uint32_t item; /* of the page */
	struct stele_block_seen block;
	struct stele_look look;
};

/* The callback fires once, from the loop, and may do so inside the call when there is nothing to read. */
void stele_search_start(struct stele_search *search);
/* After a search that was not stopped: what it has read needs no look again. */
void stele_search_settle(struct stele_search *search);
/* Another disk is in the slot: what is on it needs a look. */
void stele_search_renew(struct stele_search *search, uint16_t slot);
/* Everything needs one again: a deposit that lived may live no more. */
void stele_search_forget(struct stele_search *search);

#endif
