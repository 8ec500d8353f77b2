/*
 * What one placement group needs, judged from what its disks hold (DESIGN R1, R2, R4). Pure: no I/O, no clock. A view is
 * built by the inventory; jobs come out in the order of ids, and the caller sorts them by urgency.
 */
#ifndef NET_REPAIR_PLAN_H
#define NET_REPAIR_PLAN_H

#include "erasure/code.h"
#include "net/cluster/place.h"
#include "net/repair/judge.h"
#include "net/repair/repair.h"
#include "storage/store.h"

struct stele_holding { /* one entry of one disk; arrays are ascending by (id, kind, index or sub) */
	struct stele_hash id;
	struct stele_hash sub; /* REF: 12 bytes of it, the rest zero */
	uint64_t data_len;
	uint8_t kind;
	uint8_t index;
	bool bad;
};

enum stele_disk_view {
	STELE_DISK_DOWN,    /* does not answer */
	STELE_DISK_WAITING, /* does not answer, but not for longer than the grace */
	STELE_DISK_READS,   /* answers, and takes no writes (full) */
	STELE_DISK_LIVE,
};

struct stele_pg_view {
	const struct stele_pool *pool;
	const struct stele_code *code;
	uint32_t pg;
	struct stele_window window;
	enum stele_disk_view disk[STELE_WINDOW_MAX];
	const struct stele_holding *held[STELE_WINDOW_MAX];
	uint32_t nheld[STELE_WINDOW_MAX];
	const struct stele_verdicts *verdicts; /* on deposits; NULL: nothing is known */
};

enum stele_job_kind {
	STELE_JOB_REBUILD, /* shard `index` onto target from helpers */
	STELE_JOB_REFS,    /* all references of the block from source to target */
	STELE_JOB_COPY,    /* one record, mark or refusal (kind, sub) onto target from a helper */
};
struct stele_job {
	enum stele_job_kind kind;
	uint16_t pool;
	uint32_t pg;
	struct stele_hash id;
	struct stele_hash sub;
	uint8_t entry_kind; /* COPY */
	uint8_t index;      /* REBUILD */
	int margin;         /* now: the less, the more urgent */
	uint64_t bytes;
	struct stele_window_disk target, source;
	uint8_t nhelpers; /* COPY: who holds it, to be tried in this order; none for a refusal */
	struct stele_wire_helper helper[STELE_CODE_N_MAX];
};

/* Blocks for which it matters whether their deposits live, and nobody knows: those below full width, and those
 * whose holders' references differ. emit false: stop. */
void stele_plan_doubts(const struct stele_pg_view *view,
                       bool (*emit)(void *ctx, const struct stele_doubt *doubt), void *ctx);
void stele_plan_health(const struct stele_pg_view *view, struct stele_pg_health *out);
/* emit false: stop. Things whose missing parts may lie on WAITING disks are left alone. */
void stele_plan_jobs(const struct stele_pg_view *view,
                     bool (*emit)(void *ctx, const struct stele_job *job), void *ctx);

#endif
