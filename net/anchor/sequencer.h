/*
 * The sequencer: takes deposits (and other signed bodies) that no `logged` mark names, enters them
 * into the log, and anchors it. Straight-line and blocking; everything it touches comes through
 * callbacks, so that it runs the same on a cluster, in the simulator and in a test's memory.
 *
 * One batch, in this order (docs/anchoring.md), each step durable before the next begins:
 *   1 finished tiles and the new manifest are stored        (objects of pool `log`)
 *   2 the head moves from (old size, old root)              (compare and set)
 *   3 the log's key signs the checkpoint, which is published
 *   4 it is anchored, and the anchor's line stored and announced
 *   5 each item is marked `logged`
 * A crash anywhere is harmless: what 1 stored and 2 did not name is found or stored again; after 2
 * the next run takes up at 3; an item whose mark was not written is entered twice, and its lowest
 * index counts.
 */
#ifndef NET_ANCHOR_SEQUENCER_H
#define NET_ANCHOR_SEQUENCER_H

#include "net/anchor/announce.h"
#include "net/anchor/head.h"
#include "net/anchor/local.h"
#include "net/anchor/manifest.h"
#include "storage/base/deposit.h"

/* A signed body that waits to be entered. */
struct stele_log_item {
	enum stele_leaf_type type; /* DEPOSIT: body and signature are checked by the sequencer */
	const char *body;          /* the caller's, until the next call of `next` */
	size_t len;
	const uint8_t *sig; /* the signature's bytes; several one after the other */
	size_t sig_len;
	struct stele_hash hash; /* SHA-256 of body: the deposit hash, or the mark's */
	void *tag;              /* the caller's */
};

struct stele_sequencer_ops {
	/* Up to max items that no `logged` mark names; system deposits and `logged` marks never.
	 * Fewer than max: no more wait now. An item that was marked or rejected does not come again
	 * while this sequencer lives. An item that comes twice all the same is entered twice:
	 * harmless. */
	enum stele_err (*next)(void *ctx, struct stele_log_item *item, uint32_t max, uint32_t *n);
	/* An item that the log does not take: its signature does not hold, its form is bad. */
	void (*reject)(void *ctx, const struct stele_log_item *item, const char *why);
	stele_object_put
	    *put; /* under a deposit of type system, signed by the sequencer, pool `log` */
	stele_object_get *get;
	/* NOT_FOUND: no head yet. */
	enum stele_err (*head_load)(void *ctx, struct stele_log_head *out);
	/* From (from->size, from->root) to `to`, durably and atomically. STALE: the head is
	 * another. */
	enum stele_err (*head_move)(void *ctx, const struct stele_log_head *from,
	                            const struct stele_log_head *to);
	/* To every node that can be reached (they keep the newest). An error is reported, not
	 * fatal. May be NULL. */
	enum stele_err (*publish)(void *ctx, const char *note, size_t len);
	/* The newest anchored line, NOT_FOUND if there is none. */
	enum stele_err (*anchored)(void *ctx, struct stele_anchor_line *out);
	/* Anchors a checkpoint; idempotent by root. */
	enum stele_err (*anchor)(void *ctx, const char *note, size_t len,
	                         const struct stele_hash *manifest, struct stele_anchor_line *out);
	/* Signs (author, time, nonce) and writes the mark that announces a line
	 * (net/anchor/announce.h), unless there is one for that line. May be NULL. */
	enum stele_err (*announce)(void *ctx, const struct stele_mark *mark);
	/* Writes the mark `logged` beside the item. */
	enum stele_err (*mark)(void *ctx, const struct stele_log_item *item, uint64_t index);
};

struct stele_sequencer_config {
	struct stele_hash cluster;
	char origin[STELE_LOG_ORIGIN_MAX];
	const struct stele_secret_key *key; /* the log's; outlives the sequencer */
	uint32_t batch_max;                 /* items of a batch; 0: 4096 */
};

struct stele_sequencer;

/* Reads head and manifest, checks that the head extends the newest anchor, and finishes what an
 * earlier run left after its step 2. REFUSED: the head is behind the newest anchor (restored from
 * the past), or does not extend it: nothing is written, an operator must look. CORRUPT, and the
 * callbacks' errors. */
STELE_MUST_USE enum stele_err stele_sequencer_create(const struct stele_sequencer_ops *ops,
                                                     void *ctx,
                                                     const struct stele_sequencer_config *config,
                                                     struct stele_sequencer **out);
void stele_sequencer_destroy(struct stele_sequencer *s); /* accepts NULL */

struct stele_sequencer_result {
	uint64_t entered; /* leaves, in this run */
	uint64_t rejected;
	uint64_t unpublished; /* checkpoints that `publish` failed on; the last reason is below */
	char publish_error[STELE_DETAIL_MAX];
	struct stele_log_head head;
	bool anchored; /* false: the log is empty */
	struct stele_anchor_line
	    line; /* the newest: covers every item that waited when run began */
};
/* Batches until what waits is entered (the first batch that is not full is the last). After an
 * error the sequencer must be destroyed; create takes up again. */
STELE_MUST_USE enum stele_err stele_sequencer_run(struct stele_sequencer *s,
                                                  struct stele_sequencer_result *out);

#endif
