/*
 * Questions and orders to every node of the map at once, or to one, as JSON (net/PROTOCOL.md: STATUS, REPAIR, SCRUB, DISK). Blocking, over a
 * libstele handle, one thread.
 */
#ifndef NET_CLIENT_ADMIN_H
#define NET_CLIENT_ADMIN_H

#include "net/client/stele.h"

struct stele_node_answer {
	uint16_t node;
	char name[STELE_NAME_MAX];
	char addr[80];
	enum stele_err err; /* OK: body is the node's JSON text */
	char detail[STELE_DETAIL_MAX];
	char *body; /* NUL-terminated; NULL without one */
};

/* Sends the same request to every node of the map and waits for all answers, each for timeout_ns, connecting included.
 * *answers (stele_answers_free) holds one per node of the map, in its order. NOMEM, CANCELLED. */
STELE_MUST_USE enum stele_err stele_ask_nodes(struct stele *s, uint16_t op, const char *json,
                                              uint64_t timeout_ns,
                                              struct stele_node_answer **answers, uint32_t *n);
/* The same of one node, with *answer as an array of one. USAGE: the map has no such node. */
STELE_MUST_USE enum stele_err stele_ask_node(struct stele *s, uint16_t node, uint16_t op,
                                             const char *json, uint64_t timeout_ns,
                                             struct stele_node_answer **answer);
void stele_answers_free(struct stele_node_answer *answers, uint32_t n);
/* Lets time pass while the connections live on. */
void stele_pause(struct stele *s, uint64_t ns);

#endif
