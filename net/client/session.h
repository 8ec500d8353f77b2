/*
 * The asynchronous client: what libstele's blocking calls run, and what the simulator drives. One session belongs to one
 * loop; any number of requests may be under way.
 *
 * A request is embedded by the caller, who fills its "in" fields (zeroing the rest) and starts it. It belongs to the session
 * until its callback, which fires once, on the loop, never inside the start or a cancel. Sources, sinks and progress
 * callbacks: see net/client/stele.h; sources and sinks are called on worker threads, never two at a time for a request.
 */
#ifndef NET_CLIENT_SESSION_H
#define NET_CLIENT_SESSION_H

#include "net/client/job.h"
#include "net/client/stele.h"
#include "net/cluster/peers.h"
#include "net/cluster/place.h"

struct stele_session_opts {
	struct stele_env *env;
	struct stele_transport_factory *transport; /* the caller's, outlives the session */
	struct stele_map *map; /* a reference is taken; newer ones are fetched as needed */
	const struct stele_secret_key *sign; /* copied; NULL: reads only */
};
STELE_MUST_USE enum stele_err stele_session_create(const struct stele_session_opts *opts,
                                                   struct stele_session **out);
/* No request may be under way. done fires once its connections are closed. */
void stele_session_close(struct stele_session *s, void (*done)(void *ctx), void *ctx);
void stele_session_destroy(struct stele_session *s); /* after done */

struct stele_env *stele_session_env(struct stele_session *s);
struct stele_map *stele_session_map(struct stele_session *s); /* borrowed, until the loop runs */
struct stele_peers *stele_session_peers(struct stele_session *s); /* borrowed */
/* The window of an id in a pool, under the present map. */
void stele_session_window(struct stele_session *s, const struct stele_pool *pool,
                          const struct stele_hash *id, struct stele_window *out);

/* What every request begins with. */
#define STELE_REQUEST(type)                                                                        \
	struct stele_job job;                                                                      \
	void (*cb)(struct type * req);                                                             \
	void *ctx;                                                                                 \
	/* out */                                                                                  \
	enum stele_err err;                                                                        \
	char detail[STELE_DETAIL_MAX]

struct stele_put_request {
	STELE_REQUEST(stele_put_request);
	struct stele_source source;
	struct stele_put_opts opts;
	struct stele_put_result result; /* out, with OK and DEGRADED */
	void *priv;
};
void stele_session_put(struct stele_session *s, struct stele_put_request *req);

struct stele_get_request {
	STELE_REQUEST(stele_get_request);
	struct stele_hash id;
	struct stele_get_opts opts; /* len UINT64_MAX: to the end */
	struct stele_sink sink;     /* write NULL: the bytes are only checked */
	/* Takes back all that was written, on a worker; NULL: what was written cannot be taken back. */
	enum stele_err (*restart)(void *sink_ctx);
	struct stele_get_result result; /* out */
	void *priv;
};
void stele_session_get(struct stele_session *s, struct stele_get_request *req);

/* All records and marks of an id: the whole window is asked. */
struct stele_find_request {
	STELE_REQUEST(stele_find_request);
	struct stele_hash id;
	void (*progress)(struct stele_find_request *req); /* after answers; may be NULL */
	struct stele_found
	    found; /* out, also with errors: stele_found_finish. Records' and marks' bytes stay where they
				   * are until then */
	void *priv;
};
void stele_session_find(struct stele_session *s, struct stele_find_request *req);

/* A mark, on the disks of its id's record window. */
struct stele_mark_request {
	STELE_REQUEST(stele_mark_request);
	struct stele_mark mark;    /* author, cluster, time, nonce are filled */
	struct stele_hash mark_id; /* out */
	void *priv;
};
void stele_session_mark(struct stele_session *s, struct stele_mark_request *req);

/* Which shards of blocks are there; deep: each is read and verified. */
struct stele_survey_block {
	struct stele_hash block; /* in */
	uint64_t there, bad;     /* out: masks of shards; bad: read and not what it should be */
	uint64_t bytes;          /* deep: read */
	uint64_t silent;         /* disks of its window that did not answer, by their places */
};
struct stele_survey_request {
	STELE_REQUEST(stele_survey_request);
	uint16_t pool;
	struct stele_survey_block *block;
	uint32_t nblocks;
	bool deep;
	struct stele_progress progress; /* in bytes read, deep */
	void *priv;
};
void stele_session_survey(struct stele_session *s, struct stele_survey_request *req);

/* Every record of the cluster, ascending by object. */
struct stele_list_request {
	STELE_REQUEST(stele_list_request);
	/* bytes: of the record (storage/base/deposit.h). False: stop. On the loop. */
	bool (*each)(void *each_ctx, const struct stele_hash *object,
	             const struct stele_hash *deposit, const uint8_t *bytes, uint32_t len);
	void *each_ctx;
	bool partial; /* out: some disks did not answer */
	void *priv;
};
void stele_session_list(struct stele_session *s, struct stele_list_request *req);

/* Ends a request early with CANCELLED, unless it is over. */
void stele_request_cancel(struct stele_job *job);

#endif
