/*
 * Scrubs of a node's slots (DESIGN N9): on by default in the background (CRC sweep weekly, deep monthly; one that a
 * restart cuts off goes on afterwards; a disk of which nothing is known is swept deep within the hour), and at once,
 * from the beginning, when asked. Victims are kept by name until the next scrub of their slot; the store lists them as
 * bad, so the next round of repair replaces them. One loop.
 */
#ifndef NET_SCRUBS_H
#define NET_SCRUBS_H

#include "net/slots.h"

#define STELE_VICTIMS_MAX 256u /* named; more are counted */

struct stele_scrubs;

struct stele_victim {
	uint16_t slot;
	struct stele_key key;
	char why[80];
};

struct stele_scrubs_status {
	bool running;
	bool deep;
	uint64_t passes; /* finished since start, over all slots */
	uint64_t bytes_done, bytes_total, entries, victims;
	char last_failure[STELE_DETAIL_MAX];
	const struct stele_victim *victim; /* valid until the next call */
	uint32_t nvictims;
};

/* bytes_per_s: of the background scrubs, per slot; 0: 8 MiB, or what it takes to be through in half of the time. */
STELE_MUST_USE enum stele_err stele_scrubs_create(struct stele_env *env, struct stele_slots *slots,
						  uint64_t bytes_per_s,
						  void (*log)(void *ctx, const char *line),
						  void *log_ctx, struct stele_scrubs **out);
/* Begins the background scrubs. */
void stele_scrubs_begin(struct stele_scrubs *s);
/* Scrubs every slot at full speed, now; one under way in the background gives way. BUSY: one that was asked for
 * is running. */
STELE_MUST_USE enum stele_err stele_scrubs_start(struct stele_scrubs *s, bool deep);
void stele_scrubs_status(const struct stele_scrubs *s, struct stele_scrubs_status *out);
void stele_scrubs_close(struct stele_scrubs *s, void (*done)(void *ctx), void *ctx);
void stele_scrubs_destroy(struct stele_scrubs *s); /* after done; accepts NULL */

#endif
