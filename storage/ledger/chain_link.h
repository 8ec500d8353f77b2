/*
 * Links blocks to their chain: from (hash, parent) pairs in any order and what is archived already
 * it derives heights, tells the best branch from stale ones, and says what is still missing. This
 * is how Bitcoin's files, which are neither in height order nor free of stale blocks, get heights,
 * and how any segment reaches level `linked`.
 *
 * A block is stale when a branch with more work has another block at its height, or when its parent
 * is stale. Where branches start at different archived heights, the blocks between those count as
 * the heaviest block given; blocks without work (nBits 0) count one each. Only the blocks given are
 * judged: where two segments each have a block at one height, the links from above decide. `linked`
 * promises parents, not that the best branch is the network's: that is a trust anchor's to say.
 *
 * Pure. Thread: any. Allocates about 64 bytes a block while it works.
 */
#ifndef STORAGE_LEDGER_CHAIN_LINK_H
#define STORAGE_LEDGER_CHAIN_LINK_H

#include "storage/ledger/format.h"

struct stele_link_block {
	/* given */
	struct stele_hash hash;
	struct stele_hash parent;
	uint32_t bits;           /* 0: none */
	uint64_t claimed_height; /* what the format said; STELE_HEIGHT_UNKNOWN: nothing */
	/* found */
	uint64_t height; /* STELE_HEIGHT_UNKNOWN: not linked, and nothing claimed */
	bool linked;     /* its parents reach block 0 or an archived block */
	bool stale;      /* linked, but off the best branch */
	bool duplicate;  /* the same block stands earlier in the array */
};

struct stele_link_opts {
	const struct stele_chain *chain; /* not NULL */
	/* The height of an archived block that is linked itself: STELE_OK; NOT_FOUND; any other
	 * error ends the linking. Called once for each parent that is not among the blocks.
	 * NULL: nothing is archived. */
	enum stele_err (*find)(void *ctx, const struct stele_hash *hash, uint64_t *height);
	void *ctx;
};

struct stele_link_result {
	uint64_t linked, stale, duplicate; /* blocks */
	uint64_t unlinked_roots;           /* blocks whose parent is nowhere */
	struct stele_hash unlinked_parent; /* of the first of those: what must be imported before */
	uint64_t first_height, last_height; /* not stale; UNKNOWN: nothing is linked */
	struct stele_hash first_parent;     /* of the block at first_height */
	struct stele_hash last_hash;        /* of the block at last_height */
	bool contiguous;                    /* every height from first to last is here */
};

/* Fills the "found" fields of all n blocks. CORRUPT: a parent cycle, a claimed height that is not
 * the parent's + 1, a best branch that holds another chain's block (stele_chain_check). NOMEM;
 * errors of find. */
STELE_MUST_USE enum stele_err stele_chain_link(const struct stele_link_opts *opts,
                                               struct stele_link_block *blocks, size_t n,
                                               struct stele_link_result *out);

/* What a file's segment may be kept as: LINKED when all of its blocks are; BOUND when a parent is
 * not archived yet. CORRUPT: the file has gaps, and its links do not close over them (more than one
 * block whose parent is nowhere): blocks are missing from it. */
STELE_MUST_USE enum stele_err stele_link_judge(const struct stele_file_facts *facts,
                                               const struct stele_link_result *result,
                                               enum stele_level *level);

#endif
