/*
 * A get as a pure state machine (DESIGN P4-P6; docs: "Life of a get"): no I/O, clock or bytes. net/client/session_get.c
 * carries out its actions.
 *
 *   FIND (records, as they come in) -> PLAN -> CELLS -> VERIFY -> EMIT -> DONE
 *
 * The first good record suffices to go on. The object is read in units: a block, or a part of one (a range reads only the
 * cells that it needs). A few units are under way at a time; they are verified and given out in order. Nothing is given out
 * that was not verified; of a whole object the last unit only after the object's own hash matched. If what a record says
 * fails before anything went out for good, the next record is tried (D6), one at a time and as many as there are: whenever the
 * phase is FINDING, the caller gives the next candidate as soon as there is one, and FIND_OVER when there will be none.
 */
#ifndef NET_CLIENT_GET_H
#define NET_CLIENT_GET_H

#include "net/client/fetch.h"
#include "storage/base/deposit.h"

#define STELE_GET_UNITS      3u
#define STELE_GET_SLOW_MAX   32u
#define STELE_GET_SLOW_UNITS 16u /* a node that was late is avoided for so many units */

enum stele_get_phase {
	STELE_GET_FINDING = 0, /* waiting for a record */
	STELE_GET_READING,
	STELE_GET_SWITCHING, /* giving up on a record; then the next */
	STELE_GET_ENDED,
};

struct stele_get_config {
	uint64_t off, len; /* len UINT64_MAX: to the end */
	bool restartable;  /* what went out can be taken back (a temporary file) */
	/* The window of a block of the candidate's pool under the present map. */
	void (*place)(void *ctx, const struct stele_hash *block, struct stele_window *out);
	void *ctx;
};

struct stele_get_candidate {
	const struct stele_record
	    *record; /* good: signature, depositor, form; inline bytes hash to the object */
	const struct stele_code *code; /* of its pool */
};

enum stele_get_unit_state {
	STELE_UNIT_FREE = 0,
	STELE_UNIT_FETCHING,
	STELE_UNIT_READY, /* verified */
	STELE_UNIT_OUT,   /* given out: to be freed */
	STELE_UNIT_AGAIN, /* to be freed, and fetched again under a newer map */
};

struct stele_get_unit {
	enum stele_get_unit_state state;
	uint64_t seq;
	uint32_t piece;
	uint64_t off, len; /* within the block */
	uint32_t maps;     /* how many had been seen when its window was computed */
	bool last;         /* of a whole object */
	struct stele_fetch fetch;
};

struct stele_get {
	struct stele_get_config config;
	enum stele_get_phase phase;
	struct stele_get_candidate candidate; /* the current one, or the last */
	uint32_t tried;                       /* candidates, with it */
	/* the current record's range, as offsets in the object */
	uint64_t pos, end; /* pos: of the next unit */
	uint32_t piece;    /* that pos is in */
	uint64_t piece_start;
	bool whole;
	struct stele_get_unit unit[STELE_GET_UNITS]; /* unit seq lies at seq % STELE_GET_UNITS */
	uint64_t seq_next, seq_verify, seq_emit, seq_free;
	bool verifying, emitting, inline_left, started;
	uint32_t maps;          /* newer ones, so far */
	bool reload, reloading; /* wanted; under way */
	uint64_t out;           /* bytes given out, for good or not */
	struct {
		uint16_t node;
		uint64_t until;
	} slow[STELE_GET_SLOW_MAX];
	uint32_t nslow;
	/* the end */
	bool told;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	uint32_t degraded, bad;
};

enum stele_get_action_kind {
	STELE_GET_DO_START =
	    1, /* the current candidate begins: take back what went out, a fresh object hash */
	STELE_GET_DO_FETCH,  /* unit, fetch: an action of its block (net/client/fetch.h) -> FETCH */
	STELE_GET_DO_VERIFY, /* unit, job; last: then also the object's hash -> VERIFIED */
	STELE_GET_DO_EMIT, /* unit's bytes; unit STELE_GET_UNITS: of the record's inline bytes -> EMITTED */
	STELE_GET_DO_FREE,   /* unit: end its calls (no events), release its memory */
	STELE_GET_DO_RELOAD, /* a newer map, if any node has shown one -> MAP */
	STELE_GET_DO_END,    /* once: err, detail are final; all calls end */
};
struct stele_get_action {
	enum stele_get_action_kind kind;
	uint32_t unit;
	struct stele_fetch_action fetch;
	struct stele_fetch_job job;
	bool last;
};

enum stele_get_event_kind {
	STELE_GET_CANDIDATE = 1, /* candidate; while FINDING */
	STELE_GET_FIND_OVER, /* no more; err, detail: what to answer when none came. While FINDING */
	STELE_GET_FETCH,     /* unit, fetch */
	STELE_GET_VERIFIED,  /* unit, fetch (kind VERIFIED); object_ok, if it was the last */
	STELE_GET_EMITTED,   /* err, detail; len: bytes */
	STELE_GET_MAP,       /* changed */
	STELE_GET_FAIL,      /* err, detail: the caller cancels */
};
struct stele_get_event {
	enum stele_get_event_kind kind;
	struct stele_get_candidate candidate;
	uint32_t unit;
	struct stele_fetch_event fetch;
	bool object_ok;
	enum stele_err err;
	const char *detail;
	uint64_t len;
	bool changed;
};

void stele_get_init(struct stele_get *get, const struct stele_get_config *config);
void stele_get_step(struct stele_get *get, const struct stele_get_event *event);
bool stele_get_next(struct stele_get *get, struct stele_get_action *out);

#endif
