/*
 * A store: one disk's directory of extents, its index, its superblock (DESIGN 5). It keeps shards,
 * references, records, marks, refusals and tombstones; it knows nothing of codes, pools' policies,
 * windows or deposits' signatures: whoever calls has judged the bytes. What it promises:
 *  - a write's callback with STELE_OK means durable: it survives power loss (N2);
 *  - a read gives bytes whose CRC-32C held, or says CORRUPT and remembers the victim;
 *  - the index may vanish: the extents say everything (N4, N7).
 *
 * A store belongs to one loop (its env's). All functions are called on that loop's thread, requests
 * are embedded by the caller and belong to the store from the call to the callback, which fires once,
 * on the loop, never inside the call. open, format and close block (start-up and shutdown).
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "storage/base/descriptor.h"
#include "storage/fair.h"
#include "storage/io/buf.h"
#include "storage/io/env.h"
#include "storage/kv/kv.h"

struct stele_store;
struct stele_item_at;

/* Room in every request for whoever takes it to the store's loop from another (net/disk.h) and back; the
 * store leaves it alone. */
struct stele_store_trip {
	struct stele_msg msg; /* first: a message on its way is its trip */
	void *disk;
	void *request;
	void (*begin)(struct stele_store *store, struct stele_store_trip *t);
	void (*end)(struct stele_store_trip *t, enum stele_err err);
	void (*cb)(void); /* the request's own */
	uint64_t arg;
};

enum stele_entry_kind { /* format: DO NOT CHANGE THESE VALUES */
	STELE_ENTRY_SHARD = 1,  /* id block, index;          meta: see FORMAT.md, data: cells */
	STELE_ENTRY_REF = 2,    /* id block, sub deposit;    meta: object id */
	STELE_ENTRY_RECORD = 3, /* id object, sub deposit;   meta: the record */
	STELE_ENTRY_MARK = 4,   /* id object, sub mark hash; meta: the mark's bytes */
	STELE_ENTRY_TOMB = 5,   /* id and sub of its victim */
	STELE_ENTRY_FOOTER = 6, /* an extent's own; never seen through this interface */
	STELE_ENTRY_REFUSE = 7, /* id object, sub deposit: this disk refused that deposit (P3) */
	STELE_ENTRY_KEEP = 8,   /* id block, index, sub: promise to hold that shard (R3) */
};
#define STELE_KIND_BIT(kind) (1u << (kind))

struct stele_key {
	uint16_t pool;
	uint8_t kind;
	uint8_t index;          /* SHARD, KEEP */
	struct stele_hash id;
	struct stele_hash sub;  /* REF (12 bytes of it are kept in the index), RECORD, MARK, REFUSE */
};

struct stele_store_opts {
	struct stele_env *env;
	const struct stele_kv_ops *kv;
	void *kv_world;
	const char *dir;
	struct stele_hash cluster; /* format: written; open: must match, else DENIED */
	uint64_t extent_len;       /* format only; 0: STELE_EXTENT_LEN */
	uint64_t capacity;         /* bytes the store may use; 0: what the file system has */
	uint64_t collect_age_ns;   /* not the store's to judge: kept for status */
	bool unfair;               /* no turns: for benchmarks that show the difference */
};

struct stele_store_identity {
	struct stele_uuid disk;  /* made at format: a wiped directory gets a new one */
	uint64_t incarnation;    /* +1 at every open */
	uint64_t lsn;            /* highest durable */
};

/* Makes an empty store in dir, which exists and holds nothing of a store. EXISTS, IO, FULL. */
STELE_MUST_USE enum stele_err stele_store_format(const struct stele_store_opts *opts,
						 struct stele_uuid *disk);
/* NOT_FOUND: dir holds no store (empty or missing: the caller decides what that means). EXISTS: another
 * process has it open. DENIED: another cluster's. VERSION: a newer format. CORRUPT: named. Replays
 * what the index lacks, or rebuilds it (an index that is missing, corrupt or ahead loses nothing). */
STELE_MUST_USE enum stele_err stele_store_open(const struct stele_store_opts *opts,
					       struct stele_store **out);
/* No request may be under way except ones the dead env has cancelled. Accepts NULL. */
void stele_store_close(struct stele_store *store);
/* True while the store does something of its own: on a worker (seals an extent, notes a victim), in spite of
 * which it may be closed; but before its env is destroyed, the loop has to run until the store is idle, or to
 * run on for a moment after close. Or the header of an extent is being written although the write that began
 * it has failed: then it may not be closed. */
bool stele_store_busy(const struct stele_store *store);
void stele_store_identity(const struct stele_store *store, struct stele_store_identity *out);

/* ---- writing ---- */

struct stele_item {
	struct stele_key key;
	/* SHARD: the descriptor's bytes, then the rows of all distinct shards, *own row first, others
	 * ascending*: the store adds the cells' CRCs. RECORD, MARK, REF: the meta bytes themselves.
	 * TOMB: `key` names the victim (its kind is the victim's), `tomb` is set, no meta. */
	const void *meta;
	uint32_t meta_len;
	bool tomb;
	bool unless_referenced; /* a tomb of a SHARD: REFUSED when a REF lies beside it by then (P3) */
	bool only_bad; /* a tomb: of a victim of scrub, and of nothing that was made good meanwhile */
	/* The store's own; callers leave it NULL: a copy of the entry or tombstone that lies there. It keeps
	 * its birth, and is left out when it lies there no longer. */
	const struct stele_item_at *moved;
	/* SHARD: S bytes in page-aligned memory whose parts are multiples of 64 KiB (but the last),
	 * readable up to the next page boundary. */
	struct iovec *data;
	uint32_t ndata;
	uint64_t data_len;
	const uint32_t *crc; /* of each cell; NULL: the store computes them on a worker */
};

/* One atomic write: after a crash all of its items are there, or none. An item whose key is there already
 * (durable and not bad) is not written again: keys name their bytes. KEEPs are always written. The
 * same key twice in a write is INVALID. */
struct stele_store_write {
	struct stele_item *item;
	uint32_t n;
	enum stele_class class; /* on behalf of whom: who goes first */
	void (*cb)(struct stele_store_write *w);
	void *ctx;
	/* out: OK · FULL (refused, reads go on) · FENCED or IO (the disk is out) · BUSY · REFUSED (a RECORD
	 * whose deposit this disk has refused; a REFUSE whose record is here; a tomb that unless_referenced stops) · NOT_FOUND (a REF whose block has no shard here) · CANCELLED */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	uint64_t lsn;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_write(struct stele_store *store, struct stele_store_write *w);

/* ---- reading ---- */

struct stele_store_read {
	struct stele_key key;  /* SHARD */
	enum stele_class class; /* on behalf of whom: who goes first */
	bool want_meta;
	uint32_t first_cell;   /* cells = 0: meta alone */
	uint32_t cells;
	struct iovec *into;    /* page-aligned parts, multiples of 64 KiB (but the last, rounded to pages) */
	uint32_t ninto;
	void (*cb)(struct stele_store_read *r);
	void *ctx;
	/* out: OK · NOT_FOUND · CORRUPT (the victim is remembered) · IO, FENCED · BUSY · CANCELLED */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	uint64_t data_len;     /* bytes of cells placed in into */
	uint8_t *meta;         /* descriptor and rows as they were written; free with read_finish */
	uint32_t meta_len;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_read(struct stele_store *store, struct stele_store_read *r);
void stele_store_read_finish(struct stele_store_read *r);

/* Ascending by (pool, id, kind, sub). A victim of scrub (bad) is listed with bad set. */
struct stele_listed {
	struct stele_key key;  /* REF: sub holds 12 bytes, the rest zero, unless metas were asked for */
	uint64_t lsn;          /* birth */
	uint64_t data_len;     /* SHARD: S */
	bool bad;
	const uint8_t *meta;   /* with want_meta; in the list's memory */
	uint32_t meta_len;
};
struct stele_store_list {
	uint16_t pool;
	struct stele_hash first;  /* ids in [first, last] */
	struct stele_hash last;
	uint32_t kinds;           /* STELE_KIND_BIT(...) | ... */
	bool want_meta;           /* RECORD, MARK, REF: loaded and checked; a corrupt one is left out and remembered */
	struct stele_key after;   /* cursor: strictly after this key; kind 0: from the start */
	uint32_t max;             /* items; 0: 1024 */
	size_t max_bytes;         /* of metas; 0: 1 MiB */
	void (*cb)(struct stele_store_list *l);
	void *ctx;
	/* out */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	struct stele_listed *item; /* free with list_finish */
	uint32_t n;
	bool more;                 /* go on with after = item[n - 1].key */
	void *memory;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_list(struct stele_store *store, struct stele_store_list *l);
void stele_store_list_finish(struct stele_store_list *l);

/* RECORDs by birth LSN, for the sequencer. Fills a list whose item[].lsn > after_lsn. */
void stele_store_feed(struct stele_store *store, struct stele_store_list *l, uint64_t after_lsn);

/* Present, durable and not bad? One answer per key (SHARD, REF, RECORD, MARK, REFUSE, KEEP). */
struct stele_store_have {
	const struct stele_key *key;
	uint32_t n;
	bool *out;
	void (*cb)(struct stele_store_have *h);
	void *ctx;
	enum stele_err err;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_have(struct stele_store *store, struct stele_store_have *h);

/* A digest over the keys (not bad) in an id range, equal on two disks that hold the same set:
 * SHARDs are taken without their index, so that holders of different shards of a block agree. */
struct stele_store_digest {
	uint16_t pool;
	struct stele_hash first, last;
	uint32_t kinds;
	void (*cb)(struct stele_store_digest *d);
	void *ctx;
	enum stele_err err;
	struct stele_hash digest;
	uint64_t keys;
	uint64_t bytes;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_digest(struct stele_store *store, struct stele_store_digest *d);

/* ---- upkeep ---- */

/* One scrub pass (N9): every live entry's CRCs and padding, in the order in which they lie on the disk; deep:
 * every cell's SHA-256 against its row, rows against the descriptor, the texts of records and marks too.
 * Throttled to bytes_per_s (0: none); beside reads and writes it has its share (fair.h) in any case.
 * Only one at a time: BUSY. Progress may be read at any time from the request, on any thread: of the
 * bytes and entries gone through by this pass. A victim whose kind is STELE_ENTRY_FOOTER is damage outside any live entry,
 * named in why: nothing is lost by it.
 * resume: goes on where the last one of this kind (deep or not) with `resume` was when it was cancelled or the
 * store closed, or begins; victims from before are listed as bad. Without it: from the beginning. */
struct stele_store_scrub {
	bool deep;
	bool resume;
	uint64_t bytes_per_s;
	void (*victim)(struct stele_store_scrub *s, const struct stele_key *key, const char *why);
	void (*cb)(struct stele_store_scrub *s);
	void *ctx;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	_Atomic uint64_t bytes_done, bytes_total, entries, victims;
	void *priv[8];
	struct stele_store_trip trip;
};
void stele_store_scrub(struct stele_store *store, struct stele_store_scrub *s);
void stele_store_scrub_cancel(struct stele_store *store);

/* What is known of earlier scrubs; it outlives restarts, but not a lost index. A deep one counts as both. */
struct stele_store_scrubbed {
	int64_t finished; /* unix seconds, by the wall clock then; 0: never, or not known */
	bool under_way;   /* one has begun that resume would go on with */
};
void stele_store_scrubbed(const struct stele_store *store, bool deep,
			  struct stele_store_scrubbed *out);

/* Reclaim (N8): empties extents of which little is alive, copying that, and makes them ready to be written again. Which:
 * the one with the most to gain for what it costs, (1 - u) * age / (1 + u) for the share u that is alive (Rosenblum and
 * Ousterhout, 1992), as soon as room is short or little of it is alive; one of which nothing is alive at once.
 * What it meets damaged it leaves where it is, until that is repaired. Runs until it is cancelled, or
 * the disk is fenced. Only one at a time: BUSY.
 * With nothing to empty it fills the next extent with zeros while nobody writes (status.filled). Progress may be read at
 * any time from the request. */
struct stele_store_reclaim {
	uint64_t bytes_per_s; /* of copies while there is room enough; 0: no limit */
	void (*cb)(struct stele_store_reclaim *r);
	void *ctx;
	enum stele_err err; /* CANCELLED, FENCED, NOMEM, BUSY */
	char detail[STELE_DETAIL_MAX];
	uint64_t extents;     /* emptied */
	uint64_t bytes;       /* copied */
	bool idle;            /* there is nothing to do, now */
	void *priv[8];
};
void stele_store_reclaim(struct stele_store *store, struct stele_store_reclaim *r);
void stele_store_reclaim_cancel(struct stele_store *store);

/* Marks a shard bad from outside (a reader's verified report was confirmed). */
void stele_store_report_bad(struct stele_store *store, const struct stele_key *key);

struct stele_store_status {
	struct stele_store_identity identity;
	uint64_t capacity, used, live; /* bytes: of the disk, in extents, of live entries */
	uint64_t shards, refs, records, marks;
	uint64_t bad;                  /* known victims still there */
	uint64_t extents, extents_free;
	uint64_t filled;               /* bytes of the next extent that were written ahead; 0: there is none yet */
	uint32_t extents_gone; /* their files were missing at open: what lay in them is bad */
	bool full;
	bool fenced;
	char fence_reason[STELE_DETAIL_MAX];
	uint64_t uptime_ns;            /* since open: P3's clock */
};
void stele_store_status(struct stele_store *store, struct stele_store_status *out);
/* Of the status, what costs nothing to know. */
bool stele_store_full(const struct stele_store *store);
bool stele_store_fenced(const struct stele_store *store);
const char *stele_store_fence_reason(const struct stele_store *store); /* "" while it is not fenced */

/* Looks whether the directory is still the one that was opened. Where it has gone (unmounted, removed,
 * replaced), what is written would be lost with it: the store is fenced. Blocks for a stat. */
void stele_store_check_place(struct stele_store *store);

#endif
