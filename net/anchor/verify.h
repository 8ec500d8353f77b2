/*
 * Judging a proof by a policy: four verdicts (docs/anchoring.md, "The proof"). What is missing is
 * "not established", never assumed; what is there and wrong fails the whole proof, whatever was
 * asked. Pure, but for the file's bytes, which come through a callback. Thread: any.
 */
#ifndef NET_ANCHOR_VERIFY_H
#define NET_ANCHOR_VERIFY_H

#include "net/anchor/proof.h"

/* The file whose bytes are judged: the whole object, or exactly the range's bytes. Gives the next
 * bytes, *got = 0 at the end. */
struct stele_proof_file {
	enum stele_err (*read)(void *ctx, void *buf, size_t cap, size_t *got);
	void *ctx;
};

enum stele_verdict_state {
	STELE_NOT_ESTABLISHED = 0, /* something that it takes is missing */
	STELE_ESTABLISHED,
	STELE_FAILED, /* something is there and is wrong */
};
struct stele_verdict {
	enum stele_verdict_state state;
	char text[320]; /* one line for people: what is established, or why not */
};
struct stele_proof_result {
	struct stele_verdict verdict[STELE_VERDICTS];
	bool policy_met;
};

/* Judges. file: NULL when there is none; policy: NULL when there is none (what needs it is then not
 * established, and nothing is required). OK: everything that the policy requires is established and
 * nothing failed. CORRUPT: something failed. REFUSED: something required is not established.
 * NOMEM, or the file's own error: *out says nothing then. */
STELE_MUST_USE enum stele_err stele_proof_verify(const struct stele_proof *p,
                                                 const struct stele_policy *policy,
                                                 const struct stele_proof_file *file,
                                                 struct stele_proof_result *out);

#endif
