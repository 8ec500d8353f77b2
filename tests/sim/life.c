/* The book of promises and losses of a life. Does nothing to the cluster. */
#include "tests/sim/life.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define BACKOFF LIFE_SECOND /* how long a client may think a node down that is up */

void life_broke(struct life *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "seed %" PRIu64 " at %.6f s: ", l->seed, (double)life_now(l) / 1e9);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	l->failed = true;
}

uint64_t life_now(const struct life *l)
{
	return stele_sim_now(l->w.sim);
}

uint64_t life_random(struct life *l, uint64_t below)
{
	return stele_prng_below(&l->w.rng, below);
}

bool life_away(const struct life *l, uint32_t i)
{
	const struct life_disk *d = &l->disk[i];
	return d->away_since && (!d->back_at || life_now(l) - d->back_at < BACKOFF);
}

static uint64_t lost_at(const struct life *l, uint32_t i)
{
	return l->disk[i].lies ? life_now(l) : l->disk[i].lost_at;
}

/* A disk that was away all the time holds nothing of what was put meanwhile; a sick one may. */
uint64_t life_losses(const struct life *l, uint64_t since)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < LIFE_NODES; i++) {
		const struct life_disk *d = &l->disk[i];
		bool away = life_away(l, i) && (d->away_since >= since || d->back_at || d->sick);
		bool lost = lost_at(l, i) && lost_at(l, i) >= since;
		mask |= (uint64_t)(away || lost) << i;
	}
	return mask;
}

uint32_t life_unwell(const struct life *l)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		n += life_away(l, i) || lost_at(l, i);
	return n;
}

static uint64_t lost_since(const struct life *l, uint64_t since)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		mask |= (uint64_t)(lost_at(l, i) && lost_at(l, i) >= since) << i;
	return mask;
}

bool life_may_lose(const struct life *l, uint32_t i)
{
	for (uint32_t p = 0; p < l->npromises; p++)
		if (__builtin_popcountll(lost_since(l, l->promise[p].since) | 1ull << i) >
		    l->promise[p].margin)
			return false;
	for (uint32_t o = 0; o < LIFE_OPS; o++) /* what comes of it is not known yet */
		if (l->op[o].kind != LIFE_IDLE && l->op[o].kind != LIFE_GET &&
		    (l->op[o].lost | 1ull << i) != 1ull << i)
			return false;
	return true;
}

static void happened(struct life *l, uint32_t i, bool lost)
{
	for (uint32_t o = 0; o < LIFE_OPS; o++) {
		l->op[o].hit |= 1ull << i;
		l->op[o].lost |= (uint64_t)lost << i;
		l->op[o].fault = true;
	}
}

void life_goes_away(struct life *l, uint32_t i)
{
	struct life_disk *d = &l->disk[i];
	if (!d->away_since || d->back_at)
		d->away_since = life_now(l);
	d->back_at = 0;
	happened(l, i, false);
}

void life_comes_back(struct life *l, uint32_t i)
{
	struct life_disk *d = &l->disk[i];
	if (d->away_since && !d->back_at)
		d->back_at = life_now(l);
	happened(l, i, d->lies);
}

void life_loses(struct life *l, uint32_t i)
{
	l->disk[i].lost_at = life_now(l);
	happened(l, i, true);
}

void life_healed(struct life *l)
{
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		l->disk[i].lost_at = 0;
	for (uint32_t p = 0; p < l->npromises; p++)
		l->promise[p].margin = LIFE_T;
}

void life_promise(struct life *l, const struct life_op *op, int margin)
{
	/* what was lost meanwhile and is repaired already may have been counted by the client, before
	 * the repair could know of it */
	uint64_t lost = lost_since(l, op->since);
	margin -= __builtin_popcountll(op->lost & ~lost);
	if (l->npromises == LIFE_PROMISES || __builtin_popcountll(lost) > margin)
		return;
	l->promise[l->npromises++] =
	    (struct life_promise){.object = op->object, .since = op->since, .margin = margin};
}

const struct life_promise *life_promise_of(const struct life *l, uint32_t object)
{
	const struct life_promise *best = NULL;
	int most = -1;
	for (uint32_t p = 0; p < l->npromises; p++) {
		const struct life_promise *x = &l->promise[p];
		int left = x->margin - __builtin_popcountll(life_losses(l, x->since));
		if (x->object == object && (!best || left > most)) {
			best = x;
			most = left;
		}
	}
	return best;
}
