/*
 * One chain block back out of the archive, by height or by hash. What is returned was hashed again
 * and is the block that was asked for, byte for byte (P5; ledgers: extract.h). Over libstele:
 * blocking, one thread.
 */
#ifndef NET_LEDGER_LOOKUP_H
#define NET_LEDGER_LOOKUP_H

#include "net/ledger/catalogue.h"

enum stele_answer {
	STELE_ANSWER_ARCHIVED = 1,
	STELE_ANSWER_STALE,        /* off the best branch: by hash only */
	STELE_ANSWER_GAP,          /* below the highest archived height, in no segment */
	STELE_ANSWER_NOT_YET,      /* above it */
	STELE_ANSWER_UNKNOWN_HASH, /* in no segment */
};
const char *stele_answer_name(enum stele_answer answer);

struct stele_chain_block {
	enum stele_answer answer;
	enum stele_level level;
	uint64_t height; /* STELE_HEIGHT_UNKNOWN */
	struct stele_hash hash;
	struct stele_hash segment;
	uint8_t *bytes; /* free() */
	size_t len;
	uint64_t first, last; /* what is archived of the chain, when the answer is not a block */
};

/* OK with a block; NOT_FOUND with out->answer saying why; UNAVAILABLE, CORRUPT: also when no segment has it, but one that
 * might is blind. */
STELE_MUST_USE enum stele_err stele_ledger_by_height(struct stele_catalogue *c, uint64_t height,
                                                     struct stele_chain_block *out);
STELE_MUST_USE enum stele_err stele_ledger_by_hash(struct stele_catalogue *c,
                                                   const struct stele_hash *hash,
                                                   struct stele_chain_block *out);

#endif
