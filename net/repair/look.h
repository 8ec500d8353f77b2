/*
 * Looks whether one deposit lives: asks the disks of its record's window one after another, until one has the record.
 * Most deposits live and their record lies on the first disk, so this is one question. Changes nothing. One loop;
 * the caller embeds it.
 */
#ifndef NET_REPAIR_LOOK_H
#define NET_REPAIR_LOOK_H

#include "net/cluster/place.h"
#include "net/repair/roll.h"
#include "net/repair/verdicts.h"

struct stele_look {
	/* in */
	struct stele_peers *peers;
	const struct stele_roll *roll; /* its map places the record; silent disks are not asked */
	struct stele_hash deposit, object;
	void (*cb)(struct stele_look *look); /* from the loop, never inside the call */
	void *ctx;
	/* out */
	enum stele_verdict verdict;
	struct stele_tally tally;
	/* private */
	struct stele_window window;
	uint32_t at;
	struct stele_call call;
	uint8_t head[128];
};
void stele_look_start(struct stele_look *look);

#endif
