/*
 * The log on a real cluster: the sequencer's callbacks over libstele, and the way from an object's id to its proof. Blocking,
 * one thread. The handle of whoever runs the sequencer is a client's with the roles writer, reader and sequencer, whose key
 * signs manifests' deposits and `logged` marks; the log's own key signs checkpoints and anchors, nothing else.
 */
#ifndef NET_ANCHOR_ARCHIVE_H
#define NET_ANCHOR_ARCHIVE_H

#include "net/anchor/local.h"
#include "net/anchor/proof.h"
#include "net/anchor/sequencer.h"
#include "net/client/stele.h"

struct stele_log_paths {
	const char *head;    /* log.head: the one head (net/anchor/head.h) */
	const char *anchors; /* anchors.local */
};

/* Enters every deposit that no `logged` mark names, anchors, marks: when it returns OK, out->line covers every put that was
 * acknowledged before it was called. DEGRADED: done, but an object has more deposits of one depositor than stele_find keeps, and
 * those left out are not entered. EXISTS: another sequencer runs. progress: deposits entered, of those that waited. */
STELE_MUST_USE enum stele_err stele_anchor_now(struct stele *s, struct stele_env *env,
                                               const struct stele_secret_key *log_key,
                                               const struct stele_log_paths *paths,
                                               const struct stele_progress *progress,
                                               struct stele_sequencer_result *out);

/* What the map says of its log, to check lines against. */
void stele_anchor_trust_of(const struct stele_map *map, struct stele_anchor_trust *out);
/* The map as a verifier's policy: bytes, log and depositor are required. NOMEM. Release with stele_policy_finish. */
STELE_MUST_USE enum stele_err stele_anchor_policy_of(const struct stele_map *map,
                                                     struct stele_policy *out);

struct stele_deposit_state {
	struct stele_hash deposit;
	bool logged;
	uint64_t index; /* lowest leaf index that a `logged` mark names */
};
/* The deposits of an id, and where they are in the log. *state is free()d by the caller. NOT_FOUND, UNAVAILABLE. */
STELE_MUST_USE enum stele_err stele_anchor_deposits(struct stele *s, const struct stele_hash *id,
                                                    struct stele_deposit_state **state,
                                                    uint32_t *n);

/* The proof of an object's first anchored deposit (or of `deposit`, when not NULL), under the first line that covers it.
 * NOT_FOUND: no such deposit; REFUSED: not anchored yet, `stele anchor now` does it. */
STELE_MUST_USE enum stele_err stele_anchor_proof(struct stele *s, struct stele_env *env,
                                                 const char *anchors, const struct stele_hash *id,
                                                 const struct stele_hash *deposit,
                                                 struct stele_proof *out);

#endif
