/*
 * Things on this node's disks that looked like leftovers, and since when: a memory of collection (DESIGN P3). A restart
 * forgets it, which only delays. One loop.
 */
#ifndef NET_REPAIR_SUSPECTS_H
#define NET_REPAIR_SUSPECTS_H

#include "storage/store.h"

#define STELE_SUSPECTS_MAX 65536u /* remembered at a time; others wait until these are gone */

struct stele_suspect {
	struct stele_key key; /* SHARD, REF; as the index has it: 12 bytes of a REF's deposit */
	uint16_t slot;
	bool bad;                          /* a REF that cannot be read: whose, nobody can say */
	struct stele_hash deposit, object; /* of a good REF, whole */
	uint64_t bytes;
	uint64_t since; /* nothing touched it since then, of the env's clock */
	uint64_t seen;  /* the pass in which it was seen last */
	uint32_t next;  /* in its bucket */
};

struct stele_suspects {
	struct stele_suspect *v;
	uint32_t n, cap;
	uint32_t *bucket; /* 1 + place in v; 0: none */
	bool full;        /* since the last sweep something found no room */
};

STELE_MUST_USE enum stele_err stele_suspects_init(struct stele_suspects *s);
void stele_suspects_finish(struct stele_suspects *s); /* accepts zeroed */
/* NULL: it is none. Pointers hold until the next add or sweep. */
struct stele_suspect *stele_suspects_find(const struct stele_suspects *s, uint16_t slot,
                                          const struct stele_key *key);
/* Adds it, or notes that it was seen again (since stays). NULL: no room. */
struct stele_suspect *stele_suspects_see(struct stele_suspects *s,
                                         const struct stele_suspect *what);
/* Forgets those that were not seen in this pass. */
void stele_suspects_sweep(struct stele_suspects *s, uint64_t pass);

#endif
