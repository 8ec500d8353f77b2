/* The cluster's health as the nodes report it, merged: what `status` prints and `repair` compares before and after. */
#ifndef TOOLS_HEALTH_H
#define TOOLS_HEALTH_H

#include <jansson.h>

#include "net/client/admin.h"
#include "net/cluster/map.h"

#define STELE_MARGIN_NONE 127 /* nothing is stored */

struct stele_pool_health {
	char name[STELE_NAME_MAX];
	uint32_t t;        /* losses its code survives for certain */
	uint64_t things;   /* blocks; records and marks */
	uint64_t degraded; /* below full width */
	int margin;        /* of the worst; -1: unrecoverable now; STELE_MARGIN_NONE */
	uint64_t bytes;
	uint32_t groups,   /* placement groups */
	    groups_unseen, /* no node that answers has a disk of them */
	    groups_blind;  /* as many of their disks do not answer as hold all of one thing */
};

struct stele_health_report {
	struct stele_node_answer *answer;
	json_t **json; /* of each answer; NULL: none */
	uint32_t nnodes, up;
	struct stele_pool_health *pool;
	uint32_t npools;
	int margin;
	uint64_t things, degraded;
	uint32_t blind; /* groups that may hold things nobody answers for: they count nowhere */
};

/* Asks every node for a fresh inventory. Nodes that do not answer are in the report, not an error. UNAVAILABLE: none
 * answered. */
STELE_MUST_USE enum stele_err stele_health_ask(struct stele *s, struct stele_health_report *out);
void stele_health_finish(struct stele_health_report *r); /* accepts a zeroed one */
/* "ok", "degraded", "unrecoverable", "empty"; "unknown": the margin is only that of what is seen */
const char *stele_health_word(const struct stele_health_report *r);

#endif
