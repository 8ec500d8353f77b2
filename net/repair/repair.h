/*
 * A node's part in keeping the cluster whole (DESIGN 7). The first live disk of a placement group's window is its
 * primary (R1): the node that owns it takes inventory of the group, computes margins by rank, and has
 * missing shards rebuilt, missing records, marks and references copied. No global leader; two primaries at once waste
 * work and harm nothing. One repair per node, on the node's loop; everything is asynchronous.
 */
#ifndef NET_REPAIR_REPAIR_H
#define NET_REPAIR_REPAIR_H

#include "net/cluster/peers.h"
#include "net/cluster/place.h"
#include "net/slots.h"
#include "storage/io/buf.h"

struct stele_repair;

struct stele_repair_opts {
	struct stele_env *env;
	struct stele_buf_pool *bufs;
	struct stele_peers *peers; /* whose map is the map */
	struct stele_slots *slots;
	uint16_t node;    /* this node's id */
	uint64_t heal_ns; /* between rounds that nobody asked for */
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
};

STELE_MUST_USE enum stele_err stele_repair_create(const struct stele_repair_opts *opts,
                                                  struct stele_repair **out);
/* Begins the rounds of self-healing. */
void stele_repair_start(struct stele_repair *r);
void stele_repair_close(struct stele_repair *r, void (*done)(void *ctx), void *ctx);
void stele_repair_destroy(struct stele_repair *r); /* after done; accepts NULL */

/* What one placement group looks like to its primary, now, over the disks that answered. */
struct stele_pg_health {
	uint16_t pool;
	uint32_t pg;
	uint32_t things;   /* blocks; for the record pool: records and marks */
	uint32_t degraded; /* of them, below full width */
	int margin; /* of the worst; -1: unrecoverable over what answers; 127 when it holds nothing */
	uint32_t window; /* disks in its window */
	uint32_t answered;
	uint64_t bytes; /* of shards that are there */
};

/* A fresh inventory of this node's groups. The callback fires once, from the loop; health is valid during it. */
struct stele_health {
	void (*cb)(struct stele_health *h);
	void *ctx;
	enum stele_err err;
	const struct stele_pg_health *pg;
	uint32_t n;
	void *priv[4];
};
void stele_repair_health(struct stele_repair *r, struct stele_health *h);

/* Repairs at once, without grace, round after round until a round finds nothing to do (or nothing it can do). */
void stele_repair_now(struct stele_repair *r);
/* A disk has come: the next round of self-healing begins in a few seconds. */
void stele_repair_soon(struct stele_repair *r);
void stele_repair_stop(struct stele_repair *r);

struct stele_repair_status {
	bool running;                      /* of stele_repair_now */
	uint64_t round;                    /* rounds finished since start */
	bool clean;                        /* the last round found nothing left to do */
	uint64_t todo;                     /* jobs of this round not done yet */
	uint64_t shards, copies, failures; /* done since the last stele_repair_now */
	uint64_t bytes;                    /* of shards rebuilt */
	uint64_t bytes_todo;
	char last_failure[STELE_DETAIL_MAX];
};
void stele_repair_status(const struct stele_repair *r, struct stele_repair_status *out);

#endif
