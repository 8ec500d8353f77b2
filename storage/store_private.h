/*
 * The inside of a store, shared by store.c (its life), store_recover.c, store_write.c, store_read.c,
 * store_list.c, scrub.c and sweep.c. Nothing outside includes this.
 *
 * Threads. Everything here belongs to the loop, except: `vol` never changes; `extents` is guarded by
 * extents_lock where a worker looks a file up; `index` is changed under index_lock, and read by
 * anybody. Work that belongs to a request lies in that request. Work that the store does for itself is
 * a job, which close can part from the store.
 */
#ifndef STORAGE_STORE_PRIVATE_H
#define STORAGE_STORE_PRIVATE_H

#include <pthread.h>

#include "storage/extent.h"
#include "storage/index.h"
#include "storage/store_fronts.h"

#define STELE_WORK_BYTES (256u << 10) /* hash and check more than this on a worker (N10) */

/* A full disk is asked again whether it still is, no more often than this. */
#define STELE_FULL_RETRY_NS UINT64_C(1000000000)

/* A callback that is due but must not fire inside the call; lies in a request's priv. */
struct stele_later {
	struct stele_later *next;
	void (*run)(struct stele_later *later, bool cancelled);
	void *request;
};

enum stele_room_use { /* who asks for room; a batch asks as the first of its writes in this order */
	STELE_ROOM_WRITE,
	STELE_ROOM_TOMB, /* may use half of the reserve */
	STELE_ROOM_COPY, /* reclaim: all of it */
};

/* Work of the store's own on a worker. When the store closes first, it waits until work is not running,
 * and done is never called. */
struct stele_store_job {
	struct stele_op op;
	struct stele_store_job *next, *prev;
	struct stele_store *store; /* NULL: closed meanwhile; under lock */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool running;
	void (*work)(struct stele_store *store, struct stele_store_job *job); /* on a worker */
	void (*done)(struct stele_store *store, struct stele_store_job *job,
	             bool ran); /* on the loop */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	struct stele_extent extent; /* of prepare and seal */
	enum stele_room_use use;    /* of prepare */
	bool ahead; /* nobody waits for it */
	struct stele_extent *slot;
	struct stele_extent *target;
	struct stele_item_at at; /* of mark bad */
	struct stele_index_counts counts;
};

struct stele_batch;
struct stele_wreq;
struct stele_rreq;
struct stele_pend;
struct stele_scrub_run;
struct stele_reclaim_run;

struct stele_scrub_memo { /* kept in the index */
	uint32_t next;    /* the extent with which a sweep that has not ended goes on; 0: there is none */
	int64_t finished; /* when the last one ended: wall clock, 0: not known */
};

#define STELE_PEND_BUCKETS 1024u
#define STELE_READ_JOBS    8u

struct stele_lookup_job {
	struct stele_op op;
	struct stele_store *store;
	bool busy;
	void *list;
};

struct stele_store {
	struct stele_volume vol;
	struct stele_env *env;
	struct stele_superblock sb;
	int lock_fd;
	uint64_t lock_dev, lock_ino; /* of the lock file when it was opened */
	uint64_t capacity;
	uint64_t opened_ns;
	char index_dir[STELE_PATH_MAX];
	const struct stele_kv_ops *kv_ops;
	void *kv_world;

	pthread_mutex_t index_lock;
	struct stele_index index;
	uint64_t applied_lsn;             /* under index_lock */
	uint64_t flushed_lsn;             /* the index holds this much durably; under index_lock */
	uint64_t drops, flushed_drops;    /* what reclaim took out of it, which no LSN tells; under index_lock */
	struct stele_index_counts counts; /* the loop's copy; live is not copied */

	pthread_mutex_t extents_lock;  /* over the table; a struct itself is the loop's */
	struct stele_extent **extents; /* by number; NULL: none */
	uint32_t extents_n;            /* one more than the highest */
	uint32_t files, prepared;   /* of all; of those that hold nothing */
	uint32_t gone; /* at the open: the index had entries in them, and there was no file */
	uint32_t gone_last;         /* the highest number of these; 0: there are none */
	struct stele_extent *open;  /* where batches go; NULL: none yet */
	struct stele_extent *spare; /* prepared, and not the reserve; NULL: none */
	struct stele_extent *filling; /* reclaim writes zeros to it: it cannot be begun */
	bool preparing;
	bool prepare_nomem; /* it could not be: whoever asks next is told */
	bool full;          /* refuses all but what uses the reserve */
	bool reserve_spent; /* and that too */
	uint64_t full_since_ns;
	uint64_t ahead_failed_ns; /* an extent could not be made ahead of its use; 0: never */

	bool fenced;
	bool log_broken; /* a batch failed: later ones are not acknowledged */
	char fence_reason[STELE_DETAIL_MAX];

	uint64_t next_lsn;
	uint64_t durable_lsn; /* the last acknowledged */

	struct stele_fair fair; /* who may use the disk next */

	/* writing: see store_write.c */
	uint32_t writes;      /* admitted and not yet ended */
	uint64_t write_bytes; /* of these */
	struct stele_pend *pend[STELE_PEND_BUCKETS];
	struct stele_wreq *lookup_head, **lookup_tail;
	struct stele_wreq *limbo;
	struct stele_lookup_job lookup;
	struct stele_batch *formed_head,
	    **formed_tail; /* waiting to be written, the last still growing */
	struct stele_batch *flight_head, **flight_tail; /* being written, in LSN order */
	uint32_t in_flight;
	struct stele_batch *apply_head, **apply_tail; /* durable, not in the index yet */
	struct stele_lookup_job apply;
	enum stele_err apply_err;
	char apply_detail[STELE_DETAIL_MAX];
	struct stele_index_counts apply_counts;
	uint32_t retired; /* extents that wait for their seal */
	bool sealing, checkpointing;

	/* reading */
	struct stele_rreq *read_head, **read_tail;
	struct stele_lookup_job read[STELE_READ_JOBS];
	uint32_t reads;
	struct stele_fronts fronts;

	struct stele_later *later_head, **later_tail;
	struct stele_op later_op;
	bool later_due;

	struct stele_scrub_run *scrub;
	struct stele_scrub_memo scrubbed[2]; /* by deep */
	struct stele_reclaim_run *reclaim;
	struct stele_store_job *jobs;
};

/* ---- store.c ---- */

void stele_store_fence(struct stele_store *s, const char *fmt, ...) STELE_PRINTF(2, 3);
void stele_store_later(struct stele_store *s, struct stele_later *later,
                       void (*run)(struct stele_later *later, bool cancelled), void *request);
/* t waits for its turn; t->begin is called, perhaps inside this call and perhaps inside another's, so it calls nobody
 * outside the store. */
void stele_store_turn(struct stele_store *s, struct stele_turn *t);
/* It is over, and took so many bytes. */
void stele_store_turn_over(struct stele_store *s, struct stele_turn *t, uint64_t bytes);
/* What may be asked for at once, of len bytes. */
uint64_t stele_store_piece(const struct stele_store *s, enum stele_class class, uint64_t len);
/* NULL: out of memory. Fill work and done, then start it. */
struct stele_store_job *stele_store_job_create(struct stele_store *s);
void stele_store_job_start(struct stele_store_job *job);
void stele_store_job_drop(struct stele_store_job *job); /* instead */
/* A file comes into the table in two steps, of which only the first may fail: NOMEM. The slot is free'd if it is not used. */
STELE_MUST_USE enum stele_err stele_store_make_slot(struct stele_store *s, uint32_t id,
                                                    struct stele_extent **slot);
/* Copies *x, takes the slot over, and has the env hold the file until the store closes. */
void stele_store_fill_slot(struct stele_store *s, struct stele_extent *slot,
                           const struct stele_extent *x);
/* Closes extents and index: as before recovery. */
void stele_store_forget(struct stele_store *s);
/* Thread: any. False: there is no such extent. */
bool stele_store_extent_fd(struct stele_store *s, uint32_t id, int *fd, uint32_t *cycle);
/* The counters as the mutator has them, without the per-extent ones. Under index_lock. */
struct stele_index_counts stele_store_counts(struct stele_store *s);
/* The loop's copy becomes this one, unless it is later: workers end in any order. */
void stele_store_counted(struct stele_store *s, const struct stele_index_counts *c);
/* Remembers that an entry cannot be read, or that it can after all (unless it has moved meanwhile). */
void stele_store_mark(struct stele_store *s, const struct stele_item_at *at, bool bad);
/* How many extents may exist: for all, or for tombstones and reclaim too. */
uint32_t stele_store_extents_max(const struct stele_store *s, bool reserve);

/* ---- store_recover.c ---- */

/* Finds what the extents hold, brings the index up to it, and seals what was open. Fills extents,
 * open, spare, index, LSNs, counts. */
STELE_MUST_USE enum stele_err stele_store_recover(struct stele_store *s);
/* Everything applied becomes durable in the index; closing: as the last thing before the store closes.
 * Blocks; thread: the loop at open and close, a worker otherwise. */
STELE_MUST_USE enum stele_err stele_store_checkpoint(struct stele_store *s, bool closing);
/* Every batch up to lsn, which is applied, becomes durable in the index, and what was dropped from it: before the extent
 * that holds them may go. Blocks. */
STELE_MUST_USE enum stele_err stele_store_flush_index(struct stele_store *s, uint64_t lsn);
#define STELE_REBUILD_MARKER "index.rebuild"

/* ---- store_write.c ---- */

void stele_store_write_init(struct stele_store *s);
/* The index failed: fences the disk and sees to it that the next start rebuilds it. Copies the detail. NOMEM says nothing
 * of the index: nothing happens. */
void stele_store_index_failed(struct stele_store *s, enum stele_err err);

/* ---- store_room.c: which extent is written ---- */

/* Does a batch of this size fit into `open`, with `entries` more in its footer? OK; BUSY:
 * one is being prepared, stele_store_pump is called then; FULL. NOMEM. Where another has to be begun for it, *next is that. */
STELE_MUST_USE enum stele_err stele_store_room(struct stele_store *s, uint64_t len,
                                               uint64_t entries, enum stele_room_use use,
                                               struct stele_extent **next);
/* From now on x is the open one; its header must be written with `lsn` before anything in it is acknowledged. */
void stele_store_begin(struct stele_store *s, struct stele_extent *x, uint64_t lsn);
/* The next extent, while it holds space that was never written; NULL: it does not. */
struct stele_extent *stele_store_unfilled(const struct stele_store *s);
/* An extent's file holds nothing now: it may be written again. cycle: its new one. */
void stele_store_recycled(struct stele_store *s, struct stele_extent *x, uint32_t cycle);
/* After recovery: of a file system that is full the reserve is what is left. Blocks. */
STELE_MUST_USE enum stele_err stele_store_room_recovered(struct stele_store *s);
/* How many extents could be begun for writes, as far as is known without asking the file system. */
uint32_t stele_store_free_extents(const struct stele_store *s);
/* Seals what has been retired, one after another, and records a checkpoint after each. */
void stele_store_seal_retired(struct stele_store *s);
/* Called when room may have come about, or never will. */
void stele_store_pump(struct stele_store *s);
void stele_store_set_full(struct stele_store *s);

/* ---- reclaim.c ---- */

/* Something died, or an extent was sealed: there may be something to reclaim. */
void stele_reclaim_kick(struct stele_store *s);

/* ---- store_read.c ---- */

void stele_store_read_init(struct stele_store *s);
/* Reads an entry's header and meta at `at` (its key included) and checks them. *buf (free) holds the pages,
 * *head and *meta what lies in them. Blocks; thread: any. CORRUPT: not what the index says;
 * NOT_FOUND: the index no longer says so. */
STELE_MUST_USE enum stele_err stele_store_load_entry(struct stele_store *s,
                                                     const struct stele_item_at *at, uint8_t **buf,
                                                     struct stele_entry_head *head,
                                                     const uint8_t **meta);

/* ---- scrub.c ---- */

/* What the index remembers of scrubs. Blocks: load at open, save on a worker. */
void stele_scrub_load(struct stele_store *s);
STELE_MUST_USE enum stele_err stele_scrub_save(struct stele_store *s, bool deep,
                                               const struct stele_scrub_memo *m);

#endif
