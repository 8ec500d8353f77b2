/*
 * Runs the slots' scrubs: on a timer, or because somebody asked. What a scrub reads and checks is the store's,
 * which also remembers when the last one ended and how far one has come that was cut off: a node that is
 * restarted every day completes its weekly sweep all the same. The wall clock says when one is due, and nothing else.
 */
#include "net/scrubs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000000000ull
#define HOUR   (3600 * SECOND)
#define LOOK   (60 * SECOND) /* between looks at what is due */
#define RATE   (8u << 20)    /* bytes per second, at least */

/* By the wall clock, seconds. */
#define DAY_S   (24 * 3600)
#define WEEK_S  (7 * DAY_S)
#define MONTH_S (30 * DAY_S)

struct sweep { /* of one slot */
	struct stele_scrubs *all;
	uint16_t slot;
	struct stele_store_scrub scrub;
	bool running;
	bool again;          /* start a full-speed one when the one under way has ended */
	uint64_t first;      /* when nothing is known of an earlier one; uptime */
	uint64_t not_before; /* after a failure; uptime */
	int64_t early_s;     /* how long before the period is over one is due */
};

struct stele_scrubs {
	struct stele_env *env;
	struct stele_slots *slots;
	uint64_t bytes_per_s;
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
	struct sweep sweep[STELE_SLOTS_MAX];
	bool asked; /* until every slot has ended */
	bool deep;
	uint64_t passes, entries, bytes, victims;
	char last_failure[STELE_DETAIL_MAX];
	struct stele_victim victim[STELE_VICTIMS_MAX];
	uint32_t nvictims;
	struct stele_op timer;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void victim_found(struct stele_store_scrub *scrub, const struct stele_key *key,
                         const char *why)
{
	struct sweep *w = scrub->ctx;
	struct stele_scrubs *s = w->all;
	char line[STELE_DETAIL_MAX], hex[STELE_HEX_LEN];
	s->victims++;
	if (s->nvictims < STELE_VICTIMS_MAX) {
		struct stele_victim *v = &s->victim[s->nvictims++];
		v->slot = w->slot;
		v->key = *key;
		snprintf(v->why, sizeof(v->why), "%s", why);
	}
	snprintf(line, sizeof(line), "scrub: slot %u: pool %u id %s kind %u index %u: %s", w->slot,
	         key->pool, stele_hash_hex(&key->id, hex), key->kind, key->index, why);
	if (s->log)
		s->log(s->log_ctx, line);
}

static void sweep_start(struct sweep *w, bool deep, bool background);

static bool any_running(const struct stele_scrubs *s)
{
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++)
		if (s->sweep[i].running)
			return true;
	return false;
}

static void maybe_closed(struct stele_scrubs *s)
{
	if (s->closing && !any_running(s) && !stele_op_pending(&s->timer) && s->closed) {
		void (*closed)(void *) = s->closed;
		s->closed = NULL;
		closed(s->closed_ctx);
	}
}

static void swept(struct stele_store_scrub *scrub)
{
	struct sweep *w = scrub->ctx;
	struct stele_scrubs *s = w->all;
	w->running = false;
	s->passes++;
	s->entries += scrub->entries;
	s->bytes += scrub->bytes_done;
	if (scrub->err != STELE_OK && scrub->err != STELE_ERR_CANCELLED) {
		snprintf(s->last_failure, sizeof(s->last_failure), "slot %u: %s", w->slot,
		         scrub->detail);
		w->not_before = stele_env_now(s->env) + HOUR;
	}
	if (w->again && !s->closing) {
		w->again = false;
		sweep_start(w, s->deep, false);
	}
	if (!any_running(s))
		s->asked = false;
	maybe_closed(s);
}

/* As it was set; else so that a large disk too is through in half of the period. */
static uint64_t rate(const struct stele_scrubs *s, const struct stele_disk *disk, bool deep)
{
	if (s->bytes_per_s)
		return s->bytes_per_s;
	uint64_t needed = stele_disk_used(disk) / (uint64_t)((deep ? MONTH_S : WEEK_S) / 2);
	return needed > RATE ? needed : RATE;
}

static void sweep_start(struct sweep *w, bool deep, bool background)
{
	struct stele_disk *disk = stele_slots_disk(w->all->slots, w->slot);
	if (!disk)
		return; /* detached meanwhile */
	w->running = true;
	w->scrub = (struct stele_store_scrub){
	    .deep = deep,
	    .resume = background,
	    .bytes_per_s = background ? rate(w->all, disk, deep) : 0,
	    .victim = victim_found,
	    .cb = swept,
	    .ctx = w,
	};
	stele_disk_scrub(disk, &w->scrub);
}

enum stele_err stele_scrubs_start(struct stele_scrubs *s, bool deep)
{
	if (s->asked)
		return stele_fail(STELE_ERR_BUSY, "a scrub is running already");
	s->asked = true;
	s->deep = deep;
	s->nvictims = 0;
	s->victims = s->entries = s->bytes = 0;
	s->last_failure[0] = '\0';
	for (uint32_t i = 0; i < stele_slots_n(s->slots); i++) {
		struct sweep *w = &s->sweep[i];
		struct stele_disk *disk = stele_slots_disk(s->slots, i);
		if (!disk)
			continue;
		if (w->running) { /* perhaps of a disk that is gone: its scrub has been told to end */
			w->again = true;
			stele_disk_scrub_cancel(disk);
		} else {
			sweep_start(w, deep, false);
		}
	}
	s->asked = any_running(s);
	return STELE_OK;
}

/* One that was cut off goes on at once. A wall clock that has gone back by more than a day is not believed. */
static bool is_due(const struct sweep *w, const struct stele_disk *disk, bool deep)
{
	struct stele_store_scrubbed last;
	stele_disk_scrubbed(disk, deep, &last);
	if (last.under_way)
		return true;
	if (!last.finished)
		return stele_env_now(w->all->env) >= w->first;
	int64_t age = stele_env_wall(w->all->env) - last.finished;
	return age < -DAY_S || age + w->early_s >= (deep ? MONTH_S : WEEK_S);
}

static void look(struct sweep *w)
{
	const struct stele_disk *disk = stele_slots_disk(w->all->slots, w->slot);
	if (!disk || w->running || stele_env_now(w->all->env) < w->not_before)
		return;
	if (is_due(w, disk, true)) /* that is both */
		sweep_start(w, true, true);
	else if (is_due(w, disk, false))
		sweep_start(w, false, true);
}

static void tick(struct stele_op *op)
{
	struct stele_scrubs *s = op->ctx;
	if (s->closing) {
		maybe_closed(s);
		return;
	}
	for (uint32_t i = 0; i < stele_slots_n(s->slots); i++)
		look(&s->sweep[i]);
	s->timer.off = stele_env_now(s->env) + LOOK;
	stele_env_submit(s->env, &s->timer);
}

enum stele_err stele_scrubs_create(struct stele_env *env, struct stele_slots *slots,
                                   uint64_t bytes_per_s, void (*log)(void *ctx, const char *line),
                                   void *log_ctx, struct stele_scrubs **out)
{
	struct stele_scrubs *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "scrubs: out of memory");
	s->env = env;
	s->slots = slots;
	s->bytes_per_s = bytes_per_s;
	s->log = log;
	s->log_ctx = log_ctx;
	uint64_t now = stele_env_now(env);
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++) {
		s->sweep[i].all = s;
		s->sweep[i].slot = (uint16_t)i;
		/* Spread, so that a node's restart does not line its disks up, nor a site's first day. */
		s->sweep[i].first = now + stele_env_random_u64(env) % HOUR;
		s->sweep[i].early_s = (int64_t)(stele_env_random_u64(env) % DAY_S);
	}
	*out = s;
	return STELE_OK;
}

void stele_scrubs_begin(struct stele_scrubs *s)
{
	s->timer = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(s->env) + LOOK, .cb = tick, .ctx = s};
	stele_env_submit(s->env, &s->timer);
}

void stele_scrubs_status(const struct stele_scrubs *s, struct stele_scrubs_status *out)
{
	*out = (struct stele_scrubs_status){
	    .running = s->asked,
	    .deep = s->deep,
	    .passes = s->passes,
	    .bytes_done = s->bytes,
	    .bytes_total = s->bytes,
	    .entries = s->entries,
	    .victims = s->victims,
	    .victim = s->victim,
	    .nvictims = s->nvictims,
	};
	snprintf(out->last_failure, sizeof(out->last_failure), "%s", s->last_failure);
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++) {
		if (!s->sweep[i].running)
			continue;
		out->bytes_done += s->sweep[i].scrub.bytes_done;
		out->bytes_total += s->sweep[i].scrub.bytes_total;
		out->entries += s->sweep[i].scrub.entries;
	}
}

void stele_scrubs_close(struct stele_scrubs *s, void (*done)(void *ctx), void *ctx)
{
	s->closing = true;
	s->closed = done;
	s->closed_ctx = ctx;
	for (uint32_t i = 0; i < stele_slots_n(s->slots); i++)
		if (s->sweep[i].running && stele_slots_disk(s->slots, i))
			stele_disk_scrub_cancel(stele_slots_disk(s->slots, i));
	if (stele_op_pending(&s->timer))
		stele_env_cancel(s->env, &s->timer);
	else
		maybe_closed(s);
}

void stele_scrubs_destroy(struct stele_scrubs *s)
{
	free(s);
}
