/*
 * Reading a part of one block as a pure state machine (DESIGN P4, P5): which shards to ask for, where, and what to do about
 * those that are missing, late or corrupt. No I/O, clock or bytes; net/client/session_get.c carries out its actions.
 *
 * It asks the cheapest shards that determine what is wanted: the data shards themselves, each where placement puts it
 * (shard i at disk i of the window), all for the same columns (cells). Whoever fails or is late is made up for by others, a
 * cheapest set again. It asks every disk of the window what it holds before it gives up.
 * The descriptor and the rows (meta) come along with the first shard asked; until then code and length are a guess.
 */
#ifndef NET_CLIENT_FETCH_H
#define NET_CLIENT_FETCH_H

#include "erasure/block.h"
#include "net/cluster/place.h"

enum stele_fetch_phase {
	STELE_FETCH_ASKING = 0,
	STELE_FETCH_VERIFYING,
	STELE_FETCH_GOOD,   /* what is wanted is there and verified */
	STELE_FETCH_FAILED, /* err, detail */
};

enum stele_fetch_shard_state {
	STELE_SHARD_IDLE = 0,
	STELE_SHARD_AGAIN, /* to be asked again at the same disk */
	STELE_SHARD_ASKED,
	STELE_SHARD_ARRIVED, /* its cells are here, unchecked */
	STELE_SHARD_GOOD,
};

struct stele_fetch_shard {
	uint8_t state;
	uint8_t at; /* disk of the window, unless IDLE */
	uint8_t tries;
	uint64_t tried; /* disks where it is not, or is corrupt */
};

struct stele_fetch {
	enum stele_fetch_phase phase;
	struct stele_hash block;
	struct stele_window window;
	uint64_t off, len; /* wanted bytes of the block */
	/* geometry: guessed, or known from the descriptor */
	bool known, guessed;
	struct stele_descriptor desc;
	const struct stele_code *code;
	uint32_t first_cell, cells; /* columns */
	uint64_t wanted;            /* data shards */
	struct stele_fetch_shard shard[STELE_CODE_N_MAX];
	uint64_t late;
	/* meta */
	uint32_t metas; /* asked for, on their way */
	bool meta_late; /* all of them are late */
	uint32_t meta_tries;
	uint64_t meta_tried; /* disks */
	/* disks of the window, as masks */
	uint64_t failed, located, locating, avoid, slow;
	uint64_t has[STELE_WINDOW_MAX]; /* located: the shards there */
	uint8_t err[STELE_WINDOW_MAX];
	uint8_t locate_tries[STELE_WINDOW_MAX];
	uint64_t report; /* shards found corrupt, at: */
	uint8_t report_at[STELE_CODE_N_MAX];
	bool reset;
	uint32_t bad; /* corrupt answers */
	bool degraded;
	enum stele_err fail;
	char detail[STELE_DETAIL_MAX];
};

enum stele_fetch_action_kind {
	STELE_FETCH_ASK =
	    1, /* the shard's columns from `at`, want_meta: meta too; cells 0: meta alone -> CELLS */
	STELE_FETCH_LOCATE, /* which shards of the block does `at` hold? -> LOCATED */
	STELE_FETCH_REPORT, /* tell `at` that its shard is corrupt */
	STELE_FETCH_RESET, /* the columns changed: end all calls of this fetch (no events), drop what came */
};
struct stele_fetch_action {
	enum stele_fetch_action_kind kind;
	uint32_t shard, at;
	uint32_t cells;
	bool want_meta;
	uint64_t delay_ns;
};

enum stele_fetch_event_kind {
	STELE_FETCH_CELLS = 1,
	STELE_FETCH_LOCATED, /* at, err, has: a mask of shards */
	STELE_FETCH_LATE,    /* the hedge's time is up for what is asked now */
	STELE_FETCH_VERIFIED, /* checked: the job's; bad: of them, those whose cells do not hash to their rows;
			       * consistent: the decoded ones do */
};
struct stele_fetch_event {
	enum stele_fetch_event_kind kind;
	uint32_t shard, at;
	uint32_t cells; /* as asked: 0: it was for meta alone */
	bool want_meta;
	enum stele_err err;
	bool answered;
	uint64_t len; /* bytes of cells that came */
	/* with meta: the descriptor, after it hashed to the block's id and all rows to its roots; NULL: they did not */
	const struct stele_descriptor *desc;
	uint64_t has;
	uint64_t checked, bad;
	bool consistent;
};

/* What to verify and decode: the cells of `check` against their rows, `missing` from plan and against theirs. Calls for
 * missing shards that are still on their way end (no events): decoding fills the memory that they would fill. */
struct stele_fetch_job {
	uint64_t check, missing;
	struct stele_plan plan;
};

/* code: of the pool. length: of the block, if it is that code's, else 0. avoid: disks to ask last. off + len <= 16 MiB. */
void stele_fetch_init(struct stele_fetch *f, const struct stele_hash *block,
                      const struct stele_window *window, const struct stele_code *code,
                      uint64_t length, uint64_t off, uint64_t len, uint64_t avoid);
void stele_fetch_step(struct stele_fetch *f, const struct stele_fetch_event *event);
bool stele_fetch_next(struct stele_fetch *f, struct stele_fetch_action *out);
/* Enough is here: begin to verify. */
bool stele_fetch_ready(const struct stele_fetch *f);
/* ready -> VERIFYING. */
void stele_fetch_begin_verify(struct stele_fetch *f, struct stele_fetch_job *out);
/* Bytes of one shard's columns. */
uint64_t stele_fetch_column_len(const struct stele_fetch *f);

#endif
