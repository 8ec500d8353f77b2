/*
 * Settles doubts about blocks: reads a block's references where they lie, and looks whether their deposits live. What is
 * found goes into the verdicts. One loop; the caller embeds it.
 */
#ifndef NET_REPAIR_JUDGE_H
#define NET_REPAIR_JUDGE_H

#include "net/repair/look.h"

struct stele_doubt {
	uint16_t pool;
	struct stele_hash block;
	struct stele_window_disk source; /* which holds references that are not judged */
};

#define STELE_JUDGES 8u /* doubts at a time */

struct stele_judge_one;

struct stele_judge {
	/* in */
	struct stele_peers *peers;
	const struct stele_roll *roll;
	struct stele_verdicts *verdicts;
	void (*cb)(struct stele_judge *judge);
	void *ctx;
	/* private */
	struct stele_doubt *doubt;
	uint32_t n, cap, next, busy;
	struct stele_judge_one *one;
};

/* NOMEM: the doubt stays one. */
STELE_MUST_USE enum stele_err stele_judge_add(struct stele_judge *judge,
                                              const struct stele_doubt *doubt);
/* There is at least one doubt. The callback fires once, from the loop; then there are none. NOMEM: it never does. */
STELE_MUST_USE enum stele_err stele_judge_start(struct stele_judge *judge);
void stele_judge_finish(struct stele_judge *judge); /* accepts zeroed; not under way */

#endif
