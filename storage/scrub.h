/*
 * The inside of a scrub, shared by scrub.c (its steps, pauses and progress) and sweep.c (what a step
 * reads and checks). Nothing else includes this.
 *
 * A run belongs to the loop between steps, and to a worker during one.
 */
#ifndef STORAGE_SCRUB_H
#define STORAGE_SCRUB_H

#include "storage/store_private.h"

#define STELE_SWEEP_WINDOW (4u << 20) /* read at a time: fewer bytes cost more of a processor each */
#define STELE_SWEEP_FOUND  64u        /* victims of one step */
#define STELE_SWEEP_CHUNK  64u        /* entries taken from the index at a time */

struct stele_sweep_found {
	struct stele_item_at at;
	bool structure; /* not an entry */
	bool sound;     /* was known to be damaged, and is not */
	char why[120];
};

struct stele_scrub_run {
	struct stele_store *s;
	struct stele_store_scrub *r;
	struct stele_turn turn; /* of a step */
	struct stele_op op;     /* the step's work, or the pause after it */
	bool cancelled, pausing, ending;
	uint64_t step_started_ns;
	uint64_t behind; /* bytes of the extents that are done */
	struct stele_scrub_memo memo[2]; /* the worker's; the store has it after the step */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];

	uint32_t next; /* the extent after this one */
	uint32_t ids;  /* extents that exist, or that the index knows of, have numbers below */

	/* this step */
	uint64_t most;       /* to be read into the window at once */
	uint64_t step_bytes; /* read, or as good as */
	uint64_t checked;    /* entries */
	struct stele_sweep_found found[STELE_SWEEP_FOUND];
	uint32_t nfound;
	bool wait; /* the next read belongs to the next step */

	/* the extent, as it was when its turn came */
	struct stele_extent x;
	bool has_x, has_file, begun;
	bool suspect;  /* something of it is damaged: not everything in it may have been met */
	bool walking;  /* looks in the index for what was not met */
	bool in_gap;
	uint64_t off;  /* of the next batch */
	uint64_t live; /* bytes that the index said were alive in it, at the beginning */
	uint64_t entries; /* in its batches */
	uint64_t met;  /* of these, what was met where the index says */
	uint8_t *met_at; /* a bit for each place where a live entry was met */

	uint8_t *window;
	uint64_t window_off, window_len; /* what it holds of the extent */

	/* the batch: its head, its meta area, and how far it has been gone through */
	struct stele_batch_head batch;
	uint8_t *area; /* NULL: in none; walking: pages of one entry */
	uint64_t area_at;

	/* the entry whose cells are being checked */
	bool in_cells;
	struct stele_entry_head e;
	const uint8_t *meta;          /* in area */
	const struct stele_hash *row; /* deep */
	struct stele_item_at at;      /* as the index knows it */
	uint32_t cell;                /* the next one */

	/* walking */
	struct stele_key after;
	bool walked; /* to the index's end */
	struct stele_item_at chunk[STELE_SWEEP_CHUNK];
	uint32_t chunk_n, chunk_at;
};

/* Worker. How far numbers of extents go; needs c->ids to hold those that exist. */
void stele_sweep_begin(struct stele_scrub_run *c);
/* Worker. Goes on with c->x, by one read at most. When it is through, has_x is false. An error is one
 * of the index, or NOMEM; damage is in found. */
STELE_MUST_USE enum stele_err stele_sweep_step(struct stele_scrub_run *c);
/* Drops the extent. Thread: the one that has the run. */
void stele_sweep_leave(struct stele_scrub_run *c);

#endif
