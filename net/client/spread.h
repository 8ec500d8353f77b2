/*
 * Items spread over a window's disks, one item to a disk: a block's shards, or the copies of a
 * record or mark. Item i begins at disk i of the window; where that disk is down, full, fenced or
 * refuses, the next unused one takes it (DESIGN P1). Pure: it says what to send where and is told
 * what came of it.
 *
 * Disks of nodes that are suspected (they just failed elsewhere in the same put) are used last,
 * with a short time limit
 * ("probe"), so that one hung node costs its time limit once and not once per block.
 */
#ifndef NET_CLIENT_SPREAD_H
#define NET_CLIENT_SPREAD_H

#include "net/cluster/place.h"

enum stele_item_state {
	STELE_ITEM_WANT = 0, /* has a disk, is to be sent */
	STELE_ITEM_SENT,
	STELE_ITEM_HELD,  /* durable there */
	STELE_ITEM_STALE, /* refused for the epoch: waits for stele_spread_replace */
	STELE_ITEM_LOST,  /* no disk left to try */
};

struct stele_spread_item {
	uint8_t state;
	uint8_t at;    /* disk of the window, while WANT, SENT, HELD or STALE */
	uint8_t tries; /* sent again to the same disk, so far */
	bool probe;
};

struct stele_spread {
	struct stele_window window;
	uint32_t n;
	uint64_t used;                 /* disks that have an item, or failed with one */
	uint64_t suspects;             /* disks */
	uint8_t err[STELE_WINDOW_MAX]; /* enum stele_err of disks that failed; 0: none */
	struct stele_spread_item item[STELE_CODE_N_MAX];
};

struct stele_spread_send {
	uint32_t item;
	struct stele_window_disk disk;
	bool probe;
	uint64_t delay_ns; /* wait this long first: the disk was busy */
};

_Static_assert(STELE_WINDOW_MAX <= 64, "a window's disks fit a mask");

/* n <= STELE_CODE_N_MAX items. suspects: a mask of the window's disks. */
void stele_spread_init(struct stele_spread *s, const struct stele_window *window, uint32_t n,
                       uint64_t suspects);
/* The next item to send, which counts as sent from now on. False: none at present. */
bool stele_spread_next(struct stele_spread *s, struct stele_spread_send *out);
/* What came of a sent item. */
void stele_spread_result(struct stele_spread *s, uint32_t item, enum stele_err err);
/* A held item is gone from its disk (or can no longer be relied on there). again: its bytes are
 * still at hand; back_there: and may be sent to the same disk. Otherwise it is lost. */
void stele_spread_lose(struct stele_spread *s, uint32_t item, enum stele_err err, bool again,
                       bool back_there);
/* The map moved on: items held on disks of the new window stay held, the others are placed again
 * (again: the bytes are still at hand) or lost. Nothing may be sent (assert). */
void stele_spread_replace(struct stele_spread *s, const struct stele_window *window, bool again);
/* The map did not move on: those who called it stale are behind. They get a few more chances, then
 * count as failed. */
void stele_spread_unstale(struct stele_spread *s);

uint64_t stele_spread_held(const struct stele_spread *s); /* a mask of items */
bool stele_spread_sending(const struct stele_spread *s);  /* some item is SENT */
bool stele_spread_stale(const struct stele_spread *s);    /* some item is STALE */
/* Every item is held or lost. */
bool stele_spread_settled(const struct stele_spread *s);
/* Every disk that failed said DENIED, and some did. */
bool stele_spread_denied(const struct stele_spread *s);
/* How long to wait before the next attempt of an item that was tried again so many times. */
uint64_t stele_spread_delay_ns(uint32_t tries);
/* May an item be tried once more at the same disk after this error? */
bool stele_spread_may_retry(enum stele_err err, uint32_t tries);
/* "node 3 disk 0: unavailable; ..." of the disks that failed; out is always terminated. */
void stele_spread_describe(const struct stele_spread *s, char *out, size_t cap);

#endif
