/*
 * The inside of reclaim, shared by reclaim.c (which extent, and when) and reclaim_extent.c (what is done with it).
 * Nothing else includes this.
 *
 * A run belongs to the loop between operations, and to a worker during one.
 */
#ifndef STORAGE_RECLAIM_H
#define STORAGE_RECLAIM_H

#include "storage/store_private.h"

#define STELE_RECLAIM_ITEMS 384u /* of a step; small ones are packed; with two parts for each, what one write may have */

struct stele_candidate {
	uint32_t id;
	uint64_t last_lsn;
	uint64_t end; /* of its batches */
};

struct stele_moving { /* one entry on its way */
	struct stele_item_at at;
	uint8_t *pages;  /* its header and meta */
	uint8_t *meta;   /* a shard's, as it was given */
	uint8_t *cells;
	uint32_t *crc;
	struct iovec iov;
};

struct stele_reclaim_run {
	struct stele_store *s;
	struct stele_store_reclaim *r;
	struct stele_op op;
	bool cancelled;
	bool idle, kicked; /* the timer runs; somebody asked for another look since the last one */
	uint64_t look_ns;  /* when the next look is due */
	uint64_t seen_lsn; /* next_lsn when the timer was set */
	bool pausing;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	/* choosing */
	struct stele_candidate *candidate;
	uint32_t candidates;
	bool urgent;
	uint64_t room, next_lsn;
	/* the extent, as it was when it was chosen: it is sealed, and changes no more */
	struct stele_extent x; /* id 0: none */
	struct stele_items items;
	uint64_t next;       /* item */
	uint32_t pass;
	uint64_t moved;      /* in this pass */
	bool stuck, emptied;
	/* a step */
	struct stele_turn turn;
	struct stele_moving moving[STELE_RECLAIM_ITEMS];
	uint32_t n;
	struct stele_item_at dropped[STELE_RECLAIM_ITEMS]; /* tombstones that are not needed */
	uint32_t ndropped;
	struct stele_item_at rotten[STELE_RECLAIM_ITEMS]; /* met damaged */
	uint32_t nrotten;
	uint64_t first; /* item of the step */
	struct stele_item item[STELE_RECLAIM_ITEMS];
	struct stele_store_write w;
	uint64_t step_started_ns, step_bytes;
};

/* ---- reclaim.c ---- */

/* Runs `work` on a worker, then `done` on the loop; with err and detail empty. */
void stele_reclaim_submit(struct stele_reclaim_run *c, void (*work)(struct stele_op *op),
                          stele_op_cb *done);
void stele_reclaim_timer(struct stele_reclaim_run *c, uint64_t at, stele_op_cb *done);
/* Keeps an error, and the thread's detail. */
void stele_reclaim_note(struct stele_reclaim_run *c, enum stele_err err);
/* Ends the run, which is gone then; the detail is the thread's. */
void stele_reclaim_end(struct stele_reclaim_run *c, enum stele_err err);
/* After an operation: true: that had to be the end of the run. */
bool stele_reclaim_ended(struct stele_reclaim_run *c, const struct stele_op *op);
/* The extent is done; or it cannot be emptied now. Either way the next one is looked for. */
void stele_reclaim_next(struct stele_reclaim_run *c);
void stele_reclaim_spare(struct stele_reclaim_run *c);

/* ---- reclaim_extent.c ---- */

/* x and items are set: empties the extent, begins it anew, and says next or spare. */
void stele_reclaim_extent(struct stele_reclaim_run *c);
void stele_reclaim_free_step(struct stele_reclaim_run *c);

#endif
