/* What the files of a session share. */
#ifndef NET_CLIENT_SESSION_PRIVATE_H
#define NET_CLIENT_SESSION_PRIVATE_H

#include "net/client/session.h"

#define STELE_CALL_NS  (10ull * 1000 * 1000 * 1000) /* a call's time limit */
#define STELE_PROBE_NS (1ull * 1000 * 1000 * 1000)  /* one to a node that is suspected */
#define STELE_HEDGE_NS (200ull * 1000 * 1000) /* a read this late is asked of somebody else, too */

struct stele_session {
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_secret_key sign;
	bool may_sign;
	uint32_t jobs;
	uint64_t
	    newer_epoch; /* a node showed this epoch, which is newer than the map's; 0: none did */
	uint16_t newer_node;
};

/* A call, yet to be sent, that asks which of a block's n shards a disk holds: a byte each. NULL: no memory. */
struct stele_job_call *stele_have_call(struct stele_job *job, struct stele_window_disk disk,
                                       uint16_t pool, const struct stele_hash *block, uint32_t n);

/* Keeps the outcome of a request: err, and the detail given. */
#define STELE_REQUEST_END(req, error, text)                                                        \
	do {                                                                                       \
		(req)->err = (error);                                                              \
		snprintf((req)->detail, sizeof((req)->detail), "%s", (text));                      \
	} while (0)

#endif
