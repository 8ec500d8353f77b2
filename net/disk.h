/*
 * A disk of a node, as the node's own loop sees it: one store, on a loop (thread, ring, workers) of its own or on the
 * node's. This is the only place in net where loops are crossed (DESIGN N10): a request is posted to the store's loop, its
 * callback is posted back. Callers see the interface of storage/store.h, on their loop; where both loops are the same one
 * (the simulator) nothing is posted. Bytes that a request points to are touched by the store's loop until the callback.
 *
 * All functions: the home loop. Requests are embedded by the caller and belong to the disk from the call to the callback,
 * which fires once, on the home loop, never inside the call. After stele_disk_close a disk ends what is under way and answers
 * anything new with UNAVAILABLE: it may be called until it is destroyed, so that whoever kept it over an await needs no care.
 */
#ifndef NET_DISK_H
#define NET_DISK_H

#include "storage/io/buf.h"
#include "storage/store.h"

struct stele_disk;

struct stele_disk_opts {
	struct stele_env *env; /* the home loop */
	bool own_loop;
	uint32_t workers;      /* of a loop of its own; 0: its default */
	struct stele_buf_pool *bufs; /* lent to the store's loop, for reads into them; may be NULL */
	void (*fenced)(void *ctx, const char *reason); /* on the home loop, once, before close's cb; may be NULL */
	void *ctx;
};

/* NOMEM, IO: no thread, no ring. It has no store yet. */
STELE_MUST_USE enum stele_err stele_disk_create(const struct stele_disk_opts *opts, struct stele_disk **out);

/* Gives the disk its store. Embedded by the caller, untouched until it is over. */
struct stele_disk_open {
	/* On the store's loop, and may block: opens a store with that env. NULL: there is none, `ctx` knows why. */
	struct stele_store *(*open)(struct stele_disk_open *o, struct stele_env *env);
	void (*cb)(struct stele_disk_open *o); /* NULL: for stele_disk_await_open */
	void *ctx;
	struct stele_msg msg; /* the disk's own, with what follows */
	struct stele_disk *disk;
	bool over;
};
void stele_disk_open(struct stele_disk *d, struct stele_disk_open *o);
/* Blocks until o, which has no cb, is over: for a node's start, whose loop does not run yet. */
void stele_disk_await_open(struct stele_disk *d, struct stele_disk_open *o);
/* From now on the store reclaims, and every other second: stele_store_check_place. Once, after an open that gave a store. */
void stele_disk_watch(struct stele_disk *d);

/* Takes the store away: what is under way ends (a scrub is cancelled), the store is closed on its loop, its thread ends; then
 * cb. Not while it opens; once. */
void stele_disk_close(struct stele_disk *d, void (*cb)(void *ctx), void *ctx);
/* After close's cb. Before any watch (a node that did not start) without a close, too: then it blocks. Accepts NULL. */
void stele_disk_destroy(struct stele_disk *d);

/* ---- as storage/store.h has it ---- */

void stele_disk_write(struct stele_disk *d, struct stele_store_write *w);
void stele_disk_read(struct stele_disk *d, struct stele_store_read *r);
void stele_disk_list(struct stele_disk *d, struct stele_store_list *l);
void stele_disk_feed(struct stele_disk *d, struct stele_store_list *l, uint64_t after_lsn);
void stele_disk_have(struct stele_disk *d, struct stele_store_have *h);
void stele_disk_digest(struct stele_disk *d, struct stele_store_digest *g);
void stele_disk_scrub(struct stele_disk *d, struct stele_store_scrub *s);
void stele_disk_scrub_cancel(struct stele_disk *d);
void stele_disk_report_bad(struct stele_disk *d, const struct stele_key *key);

/* ---- what is known here without asking the store's loop ---- */

/* lsn: of the last write whose callback is under way to the home loop, or was called. */
void stele_disk_identity(const struct stele_disk *d, struct stele_store_identity *out);
bool stele_disk_full(const struct stele_disk *d);
bool stele_disk_is_fenced(const struct stele_disk *d);
const char *stele_disk_fence_reason(const struct stele_disk *d); /* "" */

/* As it was at most two seconds ago, or when the last scrub ended. */
void stele_disk_scrubbed(const struct stele_disk *d, bool deep, struct stele_store_scrubbed *out);
uint64_t stele_disk_used(const struct stele_disk *d); /* bytes in extents */

/* A store's status as it is when its loop comes to it. cb may fire inside the call. */
struct stele_disk_status {
	struct stele_store_status st; /* out; zeroes when the disk was closed meanwhile */
	void (*cb)(struct stele_disk_status *s);
	void *ctx;
	struct stele_store_trip trip;
};
void stele_disk_status(struct stele_disk *d, struct stele_disk_status *s);

#endif
