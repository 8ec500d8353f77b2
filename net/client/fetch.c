/*
 * Which shards of a block to ask for, and where. Verifying, decoding and the order of blocks are others'.
 */
#include "net/client/fetch.h"

#include <assert.h>
#include <stdio.h>

#include "net/client/spread.h" /* retries */

static bool has(uint64_t mask, uint32_t bit)
{
	return mask >> bit & 1;
}

static void fail(struct stele_fetch *f, enum stele_err err)
{
	f->phase = STELE_FETCH_FAILED;
	f->fail = err;
}

/* ---- geometry ---- */

static void set_geometry(struct stele_fetch *f)
{
	struct stele_part part[STELE_CODE_K_MAX];
	uint32_t n = stele_block_map_range(&f->desc, f->off, f->len, part);
	uint32_t first = UINT32_MAX, end = 0;
	f->wanted = 0;
	for (uint32_t i = 0; i < n; i++) {
		f->wanted |= 1ull << part[i].shard;
		first = part[i].first_cell < first ? part[i].first_cell : first;
		if (part[i].first_cell + part[i].cells > end)
			end = part[i].first_cell + part[i].cells;
	}
	f->first_cell = first;
	f->cells = end - first;
}

uint64_t stele_fetch_column_len(const struct stele_fetch *f)
{
	uint64_t from = (uint64_t)f->first_cell * STELE_CELL_LEN;
	uint64_t to = from + (uint64_t)f->cells * STELE_CELL_LEN;
	return (to < f->desc.S ? to : f->desc.S) - from;
}

/* Everything asked or received was for other columns. */
static void reset(struct stele_fetch *f)
{
	for (uint32_t i = 0; i < STELE_CODE_N_MAX; i++)
		f->shard[i].state = STELE_SHARD_IDLE;
	f->late = 0;
	f->locating = 0;
	f->metas = 0;
	f->meta_late = false;
	f->reset = true;
}

static void drop_guess(struct stele_fetch *f)
{
	f->guessed = false;
	f->meta_tried = 0; /* some of these questions end unanswered now */
	reset(f);
}

/* The descriptor is known now. True: the guess was right, and what is on its way is of use. */
static bool learn(struct stele_fetch *f, const struct stele_descriptor *d)
{
	bool same =
	    f->guessed && f->desc.length == d->length && stele_code_id_equal(f->desc.code, d->code);
	f->known = true;
	if (f->off + f->len > d->length || stele_code_find(&d->code, &f->code) != STELE_OK) {
		snprintf(f->detail, sizeof(f->detail),
		         "a piece reaches beyond its block, or its code is unknown");
		fail(f, STELE_ERR_CORRUPT);
		return false;
	}
	if (!same && d->n != f->desc.n)
		f->located = 0; /* that look was for another number of shards */
	f->desc = *d;
	if (same)
		return true;
	set_geometry(f);
	reset(f);
	return false;
}

/* ---- where shards are ---- */

#define NOWHERE STELE_WINDOW_MAX

/* A disk that has the shard, or might: its own in the order of the window, until disks were asked what they hold. */
static uint32_t place_of(const struct stele_fetch *f, uint32_t shard)
{
	for (uint32_t i = 0; i < f->window.n; i++) {
		uint32_t at = (shard + i) % f->window.n;
		if (has(f->failed | f->shard[shard].tried, at))
			continue;
		if (has(f->located, at) ? has(f->has[at], shard) : at == shard)
			return at;
	}
	return NOWHERE;
}

static uint64_t in_state(const struct stele_fetch *f, enum stele_fetch_shard_state state)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < f->desc.n; i++)
		mask |= (uint64_t)(f->shard[i].state == state) << i;
	return mask;
}

static uint64_t here(const struct stele_fetch *f)
{
	return in_state(f, STELE_SHARD_ARRIVED) | in_state(f, STELE_SHARD_GOOD);
}

static uint64_t coming(const struct stele_fetch *f)
{
	return in_state(f, STELE_SHARD_ASKED) | in_state(f, STELE_SHARD_AGAIN);
}

/* Do these shards determine what is wanted? *use: those of them that it takes, a cheapest set. */
static bool enough(const struct stele_fetch *f, uint64_t shards, uint64_t *use)
{
	struct stele_plan plan = {0};
	uint64_t missing = f->wanted & ~shards;
	*use = f->wanted & shards;
	if (missing && stele_code_plan(f->code, shards, missing, &plan) != STELE_OK)
		return false;
	for (uint32_t i = 0; i < plan.nread; i++)
		*use |= 1ull << plan.read[i];
	return true;
}

/* Shards to ask in addition to what is here and on its way; 0: none (*none_left: no others are to be had). The wanted
 * themselves come before others, disks to be avoided last. */
static uint64_t choose(const struct stele_fetch *f, bool *none_left)
{
	uint64_t live = here(f) | (coming(f) & ~f->late), set = live, use;
	*none_left = false;
	if (enough(f, set, &use))
		return 0;
	for (uint32_t pass = 0; pass < 4; pass++) {
		uint64_t add = 0;
		for (uint32_t i = 0; i < f->desc.n; i++) {
			uint32_t at =
			    f->shard[i].state == STELE_SHARD_IDLE ? place_of(f, i) : NOWHERE;
			if (at == NOWHERE || has(f->avoid, at) != (pass >= 2) ||
			    has(f->wanted, i) != (pass % 2 == 0))
				continue;
			add |= 1ull << i;
			if (pass % 2 == 1 && enough(f, set | add, &use))
				return use & ~live;
		}
		set |= add;
		if (add && enough(f, set, &use))
			return use & ~live;
	}
	*none_left = true;
	return 0;
}

/* ---- events ---- */

static void found_bad(struct stele_fetch *f, uint32_t shard, bool report)
{
	struct stele_fetch_shard *s = &f->shard[shard];
	f->bad++;
	s->state = STELE_SHARD_IDLE;
	s->tried |= 1ull << s->at;
	if (!report)
		return; /* the node said so itself */
	f->report |= 1ull << shard;
	f->report_at[shard] = s->at;
}

/* An answer that concerns the whole disk, or none at all. */
static void note_error(struct stele_fetch *f, uint32_t at, enum stele_err err, bool answered)
{
	f->err[at] = (uint8_t)err;
	if (err == STELE_ERR_NOT_FOUND || err == STELE_ERR_CORRUPT)
		return;
	f->failed |= 1ull << at;
	if (!answered)
		f->slow |= 1ull << at;
}

static void on_meta_alone(struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	f->metas--;
	if (f->known)
		return;
	if (ev->err == STELE_OK && ev->desc) {
		learn(f, ev->desc);
		return;
	}
	if (stele_spread_may_retry(ev->err, f->meta_tries)) {
		f->meta_tries++;
		f->meta_tried &= ~(1ull << ev->at);
	} else if (ev->err == STELE_OK) {
		f->bad++;
	} else {
		note_error(f, ev->at, ev->err, ev->answered);
	}
}

static bool guess_refused(const struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	if (f->known)
		return false;
	if (ev->err == STELE_OK)
		return ev->len != stele_fetch_column_len(f) && !(ev->want_meta && ev->desc);
	return ev->err == STELE_ERR_INVALID || ev->err == STELE_ERR_TOO_LARGE;
}

static void on_cells(struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	struct stele_fetch_shard *s = &f->shard[ev->shard];
	if (s->state != STELE_SHARD_ASKED)
		return;
	f->late &= ~(1ull << ev->shard);
	if (ev->want_meta)
		f->metas--;
	if (guess_refused(f, ev)) {
		drop_guess(f);
		return;
	}
	if (ev->err != STELE_OK) {
		if (stele_spread_may_retry(ev->err, s->tries)) {
			s->tries++;
			s->state = STELE_SHARD_AGAIN;
			return;
		}
		if (ev->err == STELE_ERR_CORRUPT)
			found_bad(f, ev->shard, false);
		s->state = STELE_SHARD_IDLE;
		s->tried |= 1ull << ev->at;
		note_error(f, ev->at, ev->err, ev->answered);
		return;
	}
	if (ev->want_meta && !f->known) {
		f->meta_tried |= 1ull << ev->at;
		if (!ev->desc) {
			found_bad(f, ev->shard, true);
			return;
		}
		if (!learn(f, ev->desc))
			return;
	}
	if (ev->len != stele_fetch_column_len(f))
		found_bad(f, ev->shard, true);
	else
		s->state = STELE_SHARD_ARRIVED;
}

static void on_located(struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	f->locating &= ~(1ull << ev->at);
	if (stele_spread_may_retry(ev->err, f->locate_tries[ev->at])) {
		f->locate_tries[ev->at]++;
		return;
	}
	if (ev->err != STELE_OK) {
		note_error(f, ev->at, ev->err, ev->answered);
		f->failed |= 1ull << ev->at;
		return;
	}
	f->located |= 1ull << ev->at;
	f->has[ev->at] = ev->has;
}

static void on_late(struct stele_fetch *f)
{
	f->late = coming(f);
	f->meta_late = f->metas > 0;
	for (uint32_t i = 0; i < f->desc.n; i++)
		if (has(f->late, i))
			f->slow |= 1ull << f->shard[i].at;
}

static void on_verified(struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	f->phase = STELE_FETCH_ASKING;
	for (uint32_t i = 0; i < f->desc.n; i++)
		if (has(ev->bad, i))
			found_bad(f, i, true);
		else if (f->shard[i].state == STELE_SHARD_ARRIVED && has(ev->checked, i))
			f->shard[i].state = STELE_SHARD_GOOD;
	if (ev->bad)
		return;
	if (ev->consistent) {
		f->phase = STELE_FETCH_GOOD;
		return;
	}
	snprintf(
	    f->detail, sizeof(f->detail),
	    "good shards do not decode to what the block's descriptor says: its writer's fault");
	fail(f, STELE_ERR_CORRUPT);
}

/* ---- giving up ---- */

static void describe(struct stele_fetch *f)
{
	char hex[STELE_HEX_LEN];
	size_t cap = sizeof(f->detail), at;
	uint32_t missing = f->desc.n - (uint32_t)__builtin_popcountll(here(f));
	at = (size_t)snprintf(f->detail, cap, "block %.16s: %u of %u shards are missing:",
	                      stele_hash_hex(&f->block, hex), missing, f->desc.n);
	for (uint32_t i = 0; i < f->desc.n && at < cap; i++)
		if (!has(here(f), i))
			at += (size_t)snprintf(f->detail + at, cap - at, " %u", i);
	const char *sep = "; no answer: ";
	for (uint32_t i = 0; i < f->window.n && at < cap; i++) {
		if (!has(f->failed, i))
			continue;
		at += (size_t)snprintf(f->detail + at, cap - at, "%snode %u disk %u (%s)", sep,
		                       f->window.disk[i].node, f->window.disk[i].slot,
		                       stele_err_text(f->err[i]));
		sep = ", ";
	}
}

static bool all_denied(const struct stele_fetch *f)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < f->window.n; i++)
		n += f->err[i] == STELE_ERR_DENIED;
	return n > 0 && n == f->window.n;
}

static uint64_t not_located(const struct stele_fetch *f)
{
	uint64_t all = f->window.n < 64 ? (1ull << f->window.n) - 1 : ~0ull;
	return all & ~(f->failed | f->located | f->locating);
}

/* ---- meta ---- */

/* A shard at a disk to ask for meta alone: one whose cells came from there, else any. */
static bool meta_place(const struct stele_fetch *f, uint32_t *shard, uint32_t *at)
{
	for (int pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < f->desc.n; i++) {
			bool came = has(here(f), i);
			*shard = i;
			*at = came ? f->shard[i].at : place_of(f, i);
			if (came == (pass == 0) && *at != NOWHERE && !has(f->meta_tried, *at))
				return true;
		}
	return false;
}

static bool geometry(const struct stele_fetch *f)
{
	return f->known || f->guessed;
}

/* Nobody who could still be asked has the meta. */
static bool meta_hopeless(const struct stele_fetch *f)
{
	uint32_t shard, at;
	return !f->known && f->metas == 0 && !meta_place(f, &shard, &at);
}

static bool hopeless(const struct stele_fetch *f)
{
	bool data = false;
	if (geometry(f))
		choose(f, &data);
	return data || meta_hopeless(f);
}

/* When nothing is left to ask: wait for what is on its way, or refuse (P4). */
static void judge(struct stele_fetch *f)
{
	if (f->phase != STELE_FETCH_ASKING || !hopeless(f))
		return;
	if (not_located(f) || f->locating || coming(f) || (f->metas && !f->known))
		return;
	if (!f->known && f->guessed) {
		drop_guess(f); /* it may be that which is wrong */
		judge(f);
		return;
	}
	describe(f);
	fail(f, all_denied(f) ? STELE_ERR_DENIED : STELE_ERR_UNAVAILABLE);
}

void stele_fetch_init(struct stele_fetch *f, const struct stele_hash *block,
                      const struct stele_window *window, const struct stele_code *code,
                      uint64_t length, uint64_t off, uint64_t len, uint64_t avoid)
{
	assert(len > 0);
	*f = (struct stele_fetch){.block = *block,
	                          .window = *window,
	                          .off = off,
	                          .len = len,
	                          .code = code,
	                          .avoid = avoid};
	if (length == 0 ||
	    stele_descriptor_init(&f->desc, stele_code_id(code), length) != STELE_OK ||
	    off + len > length) {
		f->desc.n = (uint8_t)stele_code_n(code);
	} else {
		f->guessed = true;
		set_geometry(f);
	}
	judge(f);
}

void stele_fetch_step(struct stele_fetch *f, const struct stele_fetch_event *ev)
{
	switch (ev->kind) {
	case STELE_FETCH_CELLS:
		if (ev->cells == 0)
			on_meta_alone(f, ev);
		else
			on_cells(f, ev);
		break;
	case STELE_FETCH_LOCATED:
		on_located(f, ev);
		break;
	case STELE_FETCH_LATE:
		on_late(f);
		break;
	case STELE_FETCH_VERIFIED:
		on_verified(f, ev);
		break;
	}
	judge(f);
}

/* ---- actions ---- */

static bool next_report(struct stele_fetch *f, struct stele_fetch_action *out)
{
	if (!f->report)
		return false;
	uint32_t shard = (uint32_t)__builtin_ctzll(f->report);
	f->report &= f->report - 1;
	*out = (struct stele_fetch_action){
	    .kind = STELE_FETCH_REPORT, .shard = shard, .at = f->report_at[shard]};
	return true;
}

static bool want_meta(const struct stele_fetch *f)
{
	return !f->known && (f->metas == 0 || f->meta_late);
}

static void ask(struct stele_fetch *f, uint32_t shard, uint32_t at, struct stele_fetch_action *out)
{
	struct stele_fetch_shard *s = &f->shard[shard];
	s->state = STELE_SHARD_ASKED;
	s->at = (uint8_t)at;
	*out = (struct stele_fetch_action){.kind = STELE_FETCH_ASK,
	                                   .shard = shard,
	                                   .at = at,
	                                   .cells = f->cells,
	                                   .want_meta = want_meta(f),
	                                   .delay_ns = stele_spread_delay_ns(s->tries)};
	if (out->want_meta) {
		f->metas++;
		f->meta_late = false;
	}
}

static bool next_ask(struct stele_fetch *f, struct stele_fetch_action *out)
{
	bool none_left;
	uint64_t again = in_state(f, STELE_SHARD_AGAIN);
	uint64_t shards = again ? again : choose(f, &none_left);
	if (!shards)
		return false;
	uint32_t shard = (uint32_t)__builtin_ctzll(shards);
	if (!again)
		f->shard[shard].tries = 0;
	ask(f, shard, again ? f->shard[shard].at : place_of(f, shard), out);
	return true;
}

static bool next_meta(struct stele_fetch *f, struct stele_fetch_action *out)
{
	uint32_t shard, at;
	if (!want_meta(f) || !meta_place(f, &shard, &at))
		return false;
	f->metas++;
	f->meta_late = false;
	f->meta_tried |= 1ull << at;
	*out = (struct stele_fetch_action){.kind = STELE_FETCH_ASK,
	                                   .shard = shard,
	                                   .at = at,
	                                   .want_meta = true,
	                                   .delay_ns = stele_spread_delay_ns(f->meta_tries)};
	return true;
}

static bool next_locate(struct stele_fetch *f, struct stele_fetch_action *out)
{
	uint64_t disks = not_located(f);
	if (!disks)
		return false;
	uint32_t at = (uint32_t)__builtin_ctzll(disks);
	f->locating |= 1ull << at;
	*out = (struct stele_fetch_action){.kind = STELE_FETCH_LOCATE,
	                                   .at = at,
	                                   .delay_ns = stele_spread_delay_ns(f->locate_tries[at])};
	return true;
}

bool stele_fetch_next(struct stele_fetch *f, struct stele_fetch_action *out)
{
	if (next_report(f, out))
		return true;
	if (f->reset) {
		f->reset = false;
		*out = (struct stele_fetch_action){.kind = STELE_FETCH_RESET};
		return true;
	}
	if (f->phase != STELE_FETCH_ASKING)
		return false;
	if (geometry(f) && next_ask(f, out))
		return true;
	if (next_meta(f, out))
		return true;
	return hopeless(f) && next_locate(f, out);
}

/* ---- verifying ---- */

bool stele_fetch_ready(const struct stele_fetch *f)
{
	uint64_t use;
	return f->phase == STELE_FETCH_ASKING && f->known && !f->reset && enough(f, here(f), &use);
}

void stele_fetch_begin_verify(struct stele_fetch *f, struct stele_fetch_job *out)
{
	bool ok = enough(f, here(f), &out->check);
	assert(ok && f->phase == STELE_FETCH_ASKING);
	out->missing = f->wanted & ~here(f);
	out->plan = (struct stele_plan){0};
	if (out->missing)
		ok = stele_code_plan(f->code, here(f), out->missing, &out->plan) == STELE_OK;
	assert(ok);
	for (uint32_t i = 0; i < f->desc.n; i++)
		if (has(out->missing, i))
			f->shard[i].state = STELE_SHARD_IDLE;
	f->late &= ~out->missing;
	f->degraded = f->degraded || out->missing != 0;
	f->phase = STELE_FETCH_VERIFYING;
}
