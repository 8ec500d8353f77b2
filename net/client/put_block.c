/*
 * The book-keeping of one block of a put. When to send, and whether what is held suffices, is
 * put.c's to decide.
 */
#include "net/client/put_block.h"

#include <stdio.h>

bool stele_put_block_full(const struct stele_put_block *b)
{
	return stele_spread_held(&b->spread) == (1ull << b->spread.n) - 1;
}

int stele_put_block_margin(const struct stele_put_block *b, const struct stele_code *code)
{
	return stele_code_margin(code, stele_spread_held(&b->spread));
}

bool stele_put_block_at(const struct stele_put_block *b, uint32_t item,
                        struct stele_window_disk disk)
{
	const struct stele_window_disk *at = &b->spread.window.disk[b->spread.item[item].at];
	return at->node == disk.node && at->slot == disk.slot;
}

uint64_t stele_put_block_ref_missing(const struct stele_put_block *b)
{
	return stele_spread_held(&b->spread) & ~(b->ref_held | b->ref_sent | b->ref_stale);
}

void stele_put_block_ref_result(struct stele_put_block *b, uint32_t item, enum stele_err err)
{
	uint64_t bit = 1ull << item;
	uint8_t *tries = &b->spread.item[item].tries;
	b->ref_sent &= ~bit;
	if (err == STELE_OK) {
		b->ref_held |= bit;
		*tries = 0;
	} else if (err == STELE_ERR_STALE) {
		b->ref_stale |= bit;
	} else if (stele_spread_may_retry(err, *tries)) {
		(*tries)++;
	} else {
		/* NOT_FOUND: the shard was lost meanwhile; its disk may have it again. */
		stele_spread_lose(&b->spread, item, err, b->in_memory, err == STELE_ERR_NOT_FOUND);
	}
}

void stele_put_block_map(struct stele_put_block *b, const struct stele_window *window)
{
	uint64_t stale = b->ref_stale;
	b->ref_stale = 0;
	if (window) {
		stele_spread_replace(&b->spread, window, b->in_memory);
		b->ref_held &= stele_spread_held(&b->spread);
		return;
	}
	stele_spread_unstale(&b->spread);
	for (uint32_t item = 0; stale >> item && item < b->spread.n; item++) {
		uint8_t *tries = &b->spread.item[item].tries;
		if (!(stale >> item & 1))
			continue;
		if (stele_spread_may_retry(STELE_ERR_STALE, *tries))
			(*tries)++;
		else
			stele_spread_lose(&b->spread, item, STELE_ERR_STALE, b->in_memory, false);
	}
}

enum stele_err stele_put_block_describe(const struct stele_put_block *b, uint32_t number, char *out,
                                        size_t cap)
{
	char why[STELE_DETAIL_MAX / 2];
	stele_spread_describe(&b->spread, why, sizeof(why));
	if (why[0] == '\0')
		snprintf(why, sizeof(why), "the cluster has %u disks for it", b->spread.window.n);
	snprintf(out, cap, "block %u: %d of %u shards could be stored, too few for the pool (%s)",
	         number, __builtin_popcountll(stele_spread_held(&b->spread)), b->spread.n, why);
	return stele_spread_denied(&b->spread) ? STELE_ERR_DENIED : STELE_ERR_UNAVAILABLE;
}
