/*
 * libstele: the archive as a library. Opaque handles, blocking calls, one thread per handle; the command line is
 * built on exactly this. Everything returned is checked: no unverified byte leaves (DESIGN P5).
 * Errors are enum stele_err with one line in stele_detail().
 */
#ifndef NET_CLIENT_STELE_H
#define NET_CLIENT_STELE_H

#include "storage/base/deposit.h"

struct stele;
struct stele_env;
struct stele_map;
struct stele_session; /* net/client/session.h: the asynchronous layer below, which the simulator drives */

/* The cluster file: given, unless it is NULL, else $STELE_CLUSTER, unless that is empty, else /etc/stele/cluster.json.
 * *named (may be NULL): somebody named it, it is not the last. */
const char *stele_cluster_file(const char *given, bool *named);

struct stele_open_opts {
	const char *cluster; /* NULL: as stele_cluster_file says */
	const char *key;     /* key file; NULL: $STELE_KEY, else client.key beside the cluster file */
};
/* USAGE (no such file, unreadable), DENIED (key permissions), CORRUPT (a file that does not verify). No connection is made. */
STELE_MUST_USE enum stele_err stele_open(const struct stele_open_opts *opts, struct stele **out);
void stele_close(struct stele *s); /* accepts NULL */
/* The call under way on the handle ends soon, and those that follow at once, with CANCELLED; close it then. Any thread, also
 * from a signal handler. A source or sink that blocks is the caller's to wake. */
void stele_interrupt(struct stele *s);
struct stele_session *stele_session_of(struct stele *s);
struct stele_map *stele_map_of(struct stele *s); /* borrowed; valid until the next call */

struct stele_progress {
	/* Called now and then with bytes done and total (0: unknown); returning false cancels (CANCELLED). */
	bool (*step)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/* ---- put ---- */
struct stele_source {
	/* Fills buf with up to cap bytes; *got 0 at the end. On a worker thread, while the call it belongs to blocks; never two
	 * at a time. */
	enum stele_err (*read)(void *ctx, void *buf, size_t cap, size_t *got);
	void *ctx;
	uint64_t length; /* a hint for progress; UINT64_MAX: unknown */
};
struct stele_put_opts {
	const char *pool;             /* NULL: "evidence" */
	enum stele_deposit_type type; /* 0: evidence */
	/* The object's id, where it is known: nothing is deposited of other bytes (CORRUPT). NULL: any. */
	const struct stele_hash *expect;
	/* ledger facts for the deposit, or NULL */
	const struct stele_deposit *template_; /* its has_chain, chain, has_meta, meta are taken */
	struct stele_progress progress;
};
struct stele_put_result {
	struct stele_hash object, deposit;
	uint64_t length;
	uint32_t blocks;
	int margin;          /* losses every block and the record still survive; < the code's t: degraded */
	uint64_t bytes_sent; /* over the wire, shards and all */
};
/* OK, or DEGRADED (done; exit 3), UNAVAILABLE (not done: too few disks), DENIED, TOO_LARGE, CORRUPT (not what was expected), ... */
STELE_MUST_USE enum stele_err stele_put(struct stele *s, const struct stele_source *src,
					const struct stele_put_opts *opts,
					struct stele_put_result *out);
STELE_MUST_USE enum stele_err stele_put_file(struct stele *s, const char *path,
					     const struct stele_put_opts *opts,
					     struct stele_put_result *out);
STELE_MUST_USE enum stele_err stele_put_bytes(struct stele *s, const void *bytes, size_t len,
					      const struct stele_put_opts *opts,
					      struct stele_put_result *out);

/* ---- get ---- */
struct stele_sink {
	/* In order; on a worker thread, never two at a time. */
	enum stele_err (*write)(void *ctx, const void *bytes, size_t len);
	void *ctx;
};
struct stele_get_opts {
	uint64_t off;
	uint64_t len;    /* UINT64_MAX: to the end. A range: bytes verified up to the deposit's layout */
	struct stele_progress progress;
};
struct stele_get_result {
	uint64_t length;          /* of the object */
	uint64_t bytes;           /* given to the sink */
	uint32_t blocks_degraded; /* decoded because a data shard was missing, late or corrupt */
	uint32_t shards_bad;      /* corrupt answers, reported for repair */
	bool whole_hash_checked;
};
/* OK · NOT_FOUND (every disk of the window said so) · UNAVAILABLE (lists what is missing, or who did not answer) ·
 * CORRUPT (whole to a sink: the object's hash at the end) · USAGE (range outside the object) */
STELE_MUST_USE enum stele_err stele_get(struct stele *s, const struct stele_hash *id,
					const struct stele_get_opts *opts,
					const struct stele_sink *sink,
					struct stele_get_result *out);
/* Whole object: `path` appears, replacing an older one, only after the whole hash matched. */
STELE_MUST_USE enum stele_err stele_get_file(struct stele *s, const struct stele_hash *id,
					     const char *path, const struct stele_get_opts *opts,
					     struct stele_get_result *out);
/* malloc'ed; TOO_LARGE when longer than max. */
STELE_MUST_USE enum stele_err stele_get_bytes(struct stele *s, const struct stele_hash *id,
					      size_t max, uint8_t **bytes, size_t *len);

/* ---- records and marks of an id ---- */
struct stele_found_record {
	const uint8_t *bytes; /* storage/base/deposit.h: stele_record_decode */
	uint32_t len;
	struct stele_hash deposit;
	struct stele_public_key depositor;
	uint32_t holders;     /* disks that answered with it */
	bool sig_ok;
	bool depositor_known; /* the map knows the key as a writer, or knew it */
	bool depositor_revoked;
};
struct stele_found_mark {
	const char *text;
	uint32_t len;
	struct stele_sig sig;
	struct stele_hash id;
	bool sig_ok;
};
struct stele_found {
	struct stele_found_record *record;
	struct stele_found_mark *mark;
	uint32_t nrecords, nmarks;
	uint32_t asked, answered; /* disks of the window */
	bool cut; /* there are more: no more than 1,024 records of one depositor are kept */
	uint64_t silent;          /* those that did not, by their places in it */
	void *memory;
};
/* NOT_FOUND, UNAVAILABLE as get. */
STELE_MUST_USE enum stele_err stele_find(struct stele *s, const struct stele_hash *id,
					 struct stele_found *out);
void stele_found_finish(struct stele_found *f);
/* A copy of that deposit's record: one whose signature holds, if there is any. NULL: none was found. */
const struct stele_found_record *stele_found_deposit(const struct stele_found *f,
						     const struct stele_hash *deposit);
/* Signs with the client's key and stores a mark on the id's record window. Fills cluster, author, time, nonce.
 * OK on min_margin + 1 disks at least; id may be NULL. */
STELE_MUST_USE enum stele_err stele_mark_add(struct stele *s, struct stele_mark *mark,
					     struct stele_hash *id);

/* ---- stat, ls, verify ---- */
struct stele_block_health {
	struct stele_hash block;
	uint32_t shards, n;
	int margin; /* -1: unrecoverable now */
};
struct stele_stat_result {
	struct stele_record record; /* piece and text point into memory */
	uint32_t record_holders;
	int record_margin;
	struct stele_block_health *block;
	uint32_t nblocks;
	int margin; /* the worst of all */
	char silent[STELE_DETAIL_MAX]; /* disks that did not answer, and may hold more of it */
	void *memory;
};
STELE_MUST_USE enum stele_err stele_stat(struct stele *s, const struct stele_hash *id,
					 struct stele_stat_result *out);
void stele_stat_finish(struct stele_stat_result *r);

struct stele_ls_item {
	struct stele_hash object, deposit;
	uint64_t length, time;
	enum stele_deposit_type type;
	char pool[STELE_NAME_MAX];
	char depositor[STELE_NAME_MAX]; /* the client's name in the map, or hex */
};
/* Each deposit once, ascending by object id. each() false: stop. partial: some disks did not answer (exit 3). */
STELE_MUST_USE enum stele_err stele_ls(struct stele *s,
				       bool (*each)(void *ctx, const struct stele_ls_item *item),
				       void *ctx, bool *partial);

struct stele_verify_result {
	uint64_t shards_ok, shards_missing, shards_bad;
	uint32_t copies_ok, copies_missing; /* of the record */
	uint64_t bytes;
	int margin;
	bool object_ok; /* read whole, its hash matched */
};
/* Reads every shard of every block and every copy of the record, checks them all, and reads the object whole. OK: all is
 * there and good. DEGRADED: whole, shards or copies are missing. CORRUPT: bad shards (object_ok says whether it is whole all the
 * same). What get returns, where it cannot be read. out is filled as far as it went. */
STELE_MUST_USE enum stele_err stele_verify(struct stele *s, const struct stele_hash *id,
					   const struct stele_progress *progress,
					   struct stele_verify_result *out);

#endif
