/*
 * Items over a window's disks: where each goes next. Knows nothing of what the items are, of
 * tolerance, or of sending.
 */
#include "net/client/spread.h"

#include <assert.h>
#include <stdio.h>

#define MS           1000000ull
#define TRIES_BUSY   4u
#define TRIES_CLOSED 1u

static bool has(uint64_t mask, uint32_t bit)
{
	return mask >> bit & 1;
}

static void take(struct stele_spread *s, uint32_t item, uint32_t at, bool probe)
{
	s->item[item] = (struct stele_spread_item){STELE_ITEM_WANT, (uint8_t)at, 0, probe};
	s->used |= 1ull << at;
}

/* Unsuspected disks first: spares before those where other items begin (they are unused only when
 * suspected, or when their own item went elsewhere after a change of map), then the suspected. */
static void place_item(struct stele_spread *s, uint32_t item)
{
	for (int probe = 0; probe < 2; probe++) {
		for (uint32_t i = 0; i < s->window.n; i++) {
			uint32_t at = (s->n + i) % s->window.n;
			if (!has(s->used, at) && has(s->suspects, at) == (probe == 1)) {
				take(s, item, at, probe == 1);
				return;
			}
		}
	}
	s->item[item].state = STELE_ITEM_LOST;
}

/* Items whose own disk is free get it; then the others choose. */
static void place_all(struct stele_spread *s, uint64_t items)
{
	for (uint32_t i = 0; i < s->n && i < s->window.n; i++)
		if (has(items, i) && !has(s->used, i) && !has(s->suspects, i)) {
			take(s, i, i, false);
			items &= ~(1ull << i);
		}
	for (uint32_t i = 0; i < s->n; i++)
		if (has(items, i))
			place_item(s, i);
}

void stele_spread_init(struct stele_spread *s, const struct stele_window *window, uint32_t n,
                       uint64_t suspects)
{
	assert(n <= STELE_CODE_N_MAX);
	*s = (struct stele_spread){.window = *window, .n = n, .suspects = suspects};
	place_all(s, n < 64 ? (1ull << n) - 1 : ~0ull);
}

uint64_t stele_spread_delay_ns(uint32_t tries)
{
	return tries == 0 ? 0 : 5 * MS << (2 * tries); /* 20, 80, 320, 1280 ms */
}

bool stele_spread_may_retry(enum stele_err err, uint32_t tries)
{
	switch (err) {
	case STELE_ERR_BUSY:
	case STELE_ERR_STALE:
		return tries < TRIES_BUSY;
	case STELE_ERR_CLOSED: /* the connection was lost, or replaced with the map */
	case STELE_ERR_CANCELLED:
		return tries < TRIES_CLOSED;
	default:
		return false;
	}
}

bool stele_spread_next(struct stele_spread *s, struct stele_spread_send *out)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct stele_spread_item *it = &s->item[i];
		if (it->state != STELE_ITEM_WANT)
			continue;
		it->state = STELE_ITEM_SENT;
		*out = (struct stele_spread_send){i, s->window.disk[it->at], it->probe,
		                                  stele_spread_delay_ns(it->tries)};
		return true;
	}
	return false;
}

static bool try_again(struct stele_spread_item *it, enum stele_err err)
{
	if (!stele_spread_may_retry(err, it->tries))
		return false;
	it->tries++;
	it->state = STELE_ITEM_WANT;
	return true;
}

void stele_spread_result(struct stele_spread *s, uint32_t item, enum stele_err err)
{
	struct stele_spread_item *it = &s->item[item];
	assert(item < s->n && it->state == STELE_ITEM_SENT);
	if (err == STELE_OK) {
		it->state = STELE_ITEM_HELD;
		it->tries = 0;
		s->err[it->at] = STELE_OK;
	} else if (err == STELE_ERR_STALE) {
		it->state = STELE_ITEM_STALE;
	} else if (!try_again(it, err)) {
		s->err[it->at] = (uint8_t)err;
		place_item(s, item);
	}
}

void stele_spread_lose(struct stele_spread *s, uint32_t item, enum stele_err err, bool again,
                       bool back_there)
{
	struct stele_spread_item *it = &s->item[item];
	assert(item < s->n && it->state == STELE_ITEM_HELD);
	if (again && back_there) {
		take(s, item, it->at, false);
		return;
	}
	s->err[it->at] = (uint8_t)err;
	if (again)
		place_item(s, item);
	else
		it->state = STELE_ITEM_LOST;
}

static uint32_t find_disk(const struct stele_window *w, struct stele_window_disk d)
{
	uint32_t i = 0;
	while (i < w->n && (w->disk[i].node != d.node || w->disk[i].slot != d.slot))
		i++;
	return i;
}

void stele_spread_replace(struct stele_spread *s, const struct stele_window *window, bool again)
{
	struct stele_spread old = *s;
	uint64_t homeless = 0;
	s->window = *window;
	s->used = s->suspects = 0;
	memset(s->err, 0, sizeof(s->err));
	for (uint32_t i = 0; i < old.window.n; i++) {
		uint32_t at = find_disk(window, old.window.disk[i]);
		if (at < window->n) {
			s->err[at] = old.err[i];
			s->used |= (uint64_t)(old.err[i] != STELE_OK) << at;
			s->suspects |= (uint64_t)has(old.suspects, i) << at;
		}
	}
	for (uint32_t i = 0; i < s->n; i++) {
		struct stele_spread_item *it = &s->item[i];
		assert(it->state != STELE_ITEM_SENT);
		uint32_t at = it->state == STELE_ITEM_HELD
		                  ? find_disk(window, old.window.disk[it->at])
		                  : window->n;
		if (at < window->n) {
			it->at = (uint8_t)at;
			s->used |= 1ull << at;
		} else {
			it->state = STELE_ITEM_LOST;
			homeless |= 1ull << i;
		}
	}
	if (again)
		place_all(s, homeless);
}

void stele_spread_unstale(struct stele_spread *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->item[i].state == STELE_ITEM_STALE &&
		    !try_again(&s->item[i], STELE_ERR_STALE)) {
			s->err[s->item[i].at] = STELE_ERR_STALE;
			place_item(s, i);
		}
}

static uint64_t in_state(const struct stele_spread *s, enum stele_item_state state)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < s->n; i++)
		mask |= (uint64_t)(s->item[i].state == state) << i;
	return mask;
}

uint64_t stele_spread_held(const struct stele_spread *s)
{
	return in_state(s, STELE_ITEM_HELD);
}

bool stele_spread_sending(const struct stele_spread *s)
{
	return in_state(s, STELE_ITEM_SENT) != 0;
}

bool stele_spread_stale(const struct stele_spread *s)
{
	return in_state(s, STELE_ITEM_STALE) != 0;
}

bool stele_spread_settled(const struct stele_spread *s)
{
	return (in_state(s, STELE_ITEM_WANT) | in_state(s, STELE_ITEM_SENT) |
	        in_state(s, STELE_ITEM_STALE)) == 0;
}

/* Every disk that failed said this, and some did. */
static bool all_said(const struct stele_spread *s, enum stele_err err)
{
	bool any = false;
	for (uint32_t i = 0; i < s->window.n; i++) {
		if (s->err[i] != STELE_OK && s->err[i] != err)
			return false;
		any |= s->err[i] == err;
	}
	return any;
}

bool stele_spread_denied(const struct stele_spread *s)
{
	return all_said(s, STELE_ERR_DENIED);
}

void stele_spread_describe(const struct stele_spread *s, char *out, size_t cap)
{
	size_t at = 0;
	const char *sep = all_said(s, STELE_ERR_FULL)     ? "add disks or make room: "
	                  : all_said(s, STELE_ERR_DENIED) ? "this client's key is no writer's there: "
	                                                  : "";
	out[0] = '\0';
	for (uint32_t i = 0; i < s->window.n && at < cap; i++) {
		if (s->err[i] == STELE_OK)
			continue;
		int n = snprintf(out + at, cap - at, "%snode %u disk %u: %s", sep,
		                 s->window.disk[i].node, s->window.disk[i].slot,
		                 stele_err_text(s->err[i]));
		at += n > 0 ? (size_t)n : 0;
		sep = "; ";
	}
}
