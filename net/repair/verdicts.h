/*
 * What is known of deposits (DESIGN P3): a deposit lives when its record is somewhere, is dead when every disk of its
 * record's window has durably refused it, and is open in between: a put that is under way, or one that died. Open
 * deposits' references are kept and healed like live ones (the record may yet come), but their blocks are not
 * counted: nobody was promised anything. A memory only: forgetting costs a question. One loop.
 */
#ifndef NET_REPAIR_VERDICTS_H
#define NET_REPAIR_VERDICTS_H

#include "storage/base/bytes.h"

enum stele_verdict {
	STELE_VERDICT_UNKNOWN = 0, /* not asked, or too few answered: treated as live */
	STELE_VERDICT_OPEN,
	STELE_VERDICT_LIVE,
	STELE_VERDICT_DEAD,
};

/* What the disks of a record's window said of one deposit. */
struct stele_tally {
	uint32_t n; /* disks of the window */
	uint32_t answered, records, refusals;
};
/* tolerance: copies of a record less one. With no more disks silent than that, a record that was acknowledged
 * in full would have shown. */
enum stele_verdict stele_tally_verdict(const struct stele_tally *t, uint32_t tolerance);

struct stele_verdicts;
STELE_MUST_USE enum stele_err stele_verdicts_create(struct stele_verdicts **out);
void stele_verdicts_destroy(struct stele_verdicts *v); /* accepts NULL */
/* By the first 12 bytes of the deposit's hash, which is what inventories know of it. v NULL: UNKNOWN. */
enum stele_verdict stele_verdicts_get(const struct stele_verdicts *v,
                                      const struct stele_hash *deposit);
void stele_verdicts_learn(struct stele_verdicts *v, const struct stele_hash *deposit,
                          enum stele_verdict verdict);
/* Open deposits are asked after again. */
void stele_verdicts_forget_open(struct stele_verdicts *v);
/* Everything but deaths, which are for good: a disk that lost its contents may have held the only record. */
void stele_verdicts_forget(struct stele_verdicts *v);

#endif
