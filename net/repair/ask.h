/*
 * One question to every disk of a window, in parallel, answered when all have answered or failed. Used where only unanimity
 * counts (P3). One loop; the caller embeds it.
 */
#ifndef NET_REPAIR_ASK_H
#define NET_REPAIR_ASK_H

#include "net/cluster/peers.h"
#include "net/cluster/place.h"

struct stele_ask;

struct stele_ask_one {
	struct stele_ask *ask;
	uint32_t at; /* position in the window */
	struct stele_call call;
	struct iovec iov;
	uint8_t head[512];
	uint32_t head_len;
};

struct stele_ask {
	/* in */
	struct stele_peers *peers;
	struct stele_window window;
	uint16_t op;
	/* Writes the request's head for one disk. */
	void (*head)(struct stele_ask *ask, uint32_t at, struct stele_writer *w);
	/* Judges one reply (during its callback); false: as if it had not answered. */
	bool (*answer)(struct stele_ask *ask, uint32_t at, const struct stele_call *call);
	void (*cb)(struct stele_ask *ask);
	void *ctx;
	uint8_t *into; /* into_len bytes per disk, or NULL: replies have no bodies */
	uint32_t into_len;
	/* out */
	uint32_t answered; /* of window.n */
	/* private */
	uint32_t waiting;
	struct stele_ask_one one[STELE_WINDOW_MAX];
};

void stele_ask_start(struct stele_ask *ask);

#endif
