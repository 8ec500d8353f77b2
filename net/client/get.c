/*
 * The order of a get: records, units, verification, output, the end. What happens within a block is fetch.c's.
 */
#include "net/client/get.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define NO_UNIT STELE_GET_UNITS

STELE_PRINTF(3, 4)
static void end(struct stele_get *get, enum stele_err err, const char *fmt, ...)
{
	if (get->phase == STELE_GET_ENDED)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(get->detail, sizeof(get->detail), fmt, ap);
	va_end(ap);
	get->err = err;
	get->phase = STELE_GET_ENDED;
}

static const struct stele_record *record_of(const struct stele_get *get)
{
	return get->candidate.record;
}

static struct stele_get_unit *unit_at(struct stele_get *get, uint64_t seq)
{
	return &get->unit[seq % STELE_GET_UNITS];
}

/* ---- candidates ---- */

/* Nothing further can come of the present record. */
STELE_PRINTF(3, 4)
static void give_up_record(struct stele_get *get, enum stele_err err, const char *fmt, ...)
{
	char why[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if ((get->out > 0 || get->emitting) && !get->config.restartable) {
		end(get, err, "%s", why);
		return;
	}
	/* What may come back outweighs what is wrong for good. */
	if (get->err != STELE_ERR_UNAVAILABLE) {
		get->err = err;
		memcpy(get->detail, why, sizeof(why));
	}
	get->phase = STELE_GET_SWITCHING;
}

static void begin_record(struct stele_get *get)
{
	const struct stele_record *r = record_of(get);
	uint64_t length = r->deposit.length, off = get->config.off, len = get->config.len;
	get->started = false;
	get->phase = STELE_GET_READING;
	if (off > length || (len != UINT64_MAX && len > length - off)) {
		give_up_record(get, STELE_ERR_USAGE,
		               "the range is outside the object, which has %" PRIu64 " bytes",
		               length);
		return;
	}
	get->pos = off;
	get->end = len == UINT64_MAX ? length : off + len;
	get->whole = get->pos == 0 && get->end == length;
	get->inline_left = !r->deposit.has_layout && get->end > get->pos;
	get->piece = 0;
	get->piece_start = 0;
	get->out = 0;
	if (get->inline_left)
		get->pos = get->end;
}

static void on_candidate(struct stele_get *get, const struct stele_get_candidate *c)
{
	assert(get->phase == STELE_GET_FINDING);
	get->candidate = *c;
	get->tried++;
	begin_record(get);
}

static void on_find_over(struct stele_get *get, const struct stele_get_event *ev)
{
	char why[STELE_DETAIL_MAX];
	assert(get->phase == STELE_GET_FINDING);
	memcpy(why, get->detail, sizeof(why));
	if (get->tried > 0)
		end(get, get->err, "%s", why);
	else
		end(get, ev->err, "%s", ev->detail);
}

/* ---- slow nodes ---- */

static void note_slow(struct stele_get *get, const struct stele_get_unit *u)
{
	for (uint32_t i = 0; i < u->fetch.window.n; i++) {
		uint16_t node = u->fetch.window.disk[i].node;
		uint32_t s = 0;
		if (!(u->fetch.slow >> i & 1))
			continue;
		while (s < get->nslow && get->slow[s].node != node)
			s++;
		if (s == STELE_GET_SLOW_MAX)
			continue;
		get->nslow += s == get->nslow;
		get->slow[s].node = node;
		get->slow[s].until = u->seq + STELE_GET_SLOW_UNITS;
	}
}

static uint64_t avoid(const struct stele_get *get, const struct stele_window *w)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < w->n; i++)
		for (uint32_t s = 0; s < get->nslow; s++)
			if (get->slow[s].node == w->disk[i].node &&
			    get->slow[s].until > get->seq_next)
				mask |= 1ull << i;
	return mask;
}

/* ---- units ---- */

static void start_fetch(struct stele_get *get, struct stele_get_unit *u)
{
	const struct stele_piece *piece = &record_of(get)->layout.piece[u->piece];
	struct stele_window w;
	get->config.place(get->config.ctx, &piece->block, &w);
	stele_fetch_init(&u->fetch, &piece->block, &w, get->candidate.code,
	                 piece->off == 0 ? piece->len : 0, u->off, u->len, avoid(get, &w));
	u->maps = get->maps;
	u->state = STELE_UNIT_FETCHING;
}

/* A part of a piece is cut where shards end, so that each unit's shards are read in the same columns and a range that
 * straddles two shards does not read them whole. */
static uint64_t cut(const struct stele_get *get, const struct stele_piece *piece, uint64_t off,
                    uint64_t len)
{
	if (piece->off != 0 || len == piece->len)
		return len;
	uint64_t S = stele_shard_len(stele_code_id(get->candidate.code), piece->len);
	uint64_t to_end = S - off % S;
	if (len <= to_end)
		return len;
	return off % S != 0 ? to_end : len / S * S;
}

static bool add_unit(struct stele_get *get)
{
	const struct stele_layout *layout = &record_of(get)->layout;
	if (get->phase != STELE_GET_READING || !get->started || get->pos == get->end ||
	    get->seq_next - get->seq_free == STELE_GET_UNITS)
		return false;
	while (get->pos - get->piece_start >= layout->piece[get->piece].len) {
		get->piece_start += layout->piece[get->piece].len;
		get->piece++;
		assert(get->piece < layout->npieces); /* the pieces add up to the length */
	}
	const struct stele_piece *piece = &layout->piece[get->piece];
	uint64_t in = get->pos - get->piece_start, left = piece->len - in;
	if (left > get->end - get->pos)
		left = get->end - get->pos;
	struct stele_get_unit *u = unit_at(get, get->seq_next);
	assert(u->state == STELE_UNIT_FREE);
	u->seq = get->seq_next;
	u->piece = get->piece;
	u->off = piece->off + in;
	u->len = cut(get, piece, u->off, left);
	get->pos += u->len;
	u->last = get->whole && get->pos == get->end;
	start_fetch(get, u);
	get->seq_next++;
	return true;
}

static void unit_over(struct stele_get *get, struct stele_get_unit *u)
{
	note_slow(get, u);
	get->bad += u->fetch.bad;
	u->fetch.bad = 0;
}

/* ---- events ---- */

static void after_fetch_step(struct stele_get *get, struct stele_get_unit *u)
{
	if (u->fetch.phase != STELE_FETCH_FAILED || get->phase != STELE_GET_READING)
		return;
	if (u->fetch.fail == STELE_ERR_UNAVAILABLE) {
		get->reload = true; /* its shards may have moved: look for a newer map first */
		return;
	}
	unit_over(get, u);
	give_up_record(get, u->fetch.fail, "%s", u->fetch.detail);
}

static void on_map(struct stele_get *get, bool changed)
{
	get->reloading = false;
	get->maps += changed;
	for (uint64_t seq = get->seq_free; seq < get->seq_next; seq++) {
		struct stele_get_unit *u = unit_at(get, seq);
		if (get->phase != STELE_GET_READING || u->state != STELE_UNIT_FETCHING ||
		    u->fetch.phase != STELE_FETCH_FAILED)
			continue;
		unit_over(get, u);
		if (u->maps != get->maps)
			u->state = STELE_UNIT_AGAIN;
		else
			give_up_record(get, u->fetch.fail, "%s", u->fetch.detail);
	}
}

static void on_verified(struct stele_get *get, const struct stele_get_event *ev)
{
	struct stele_get_unit *u = &get->unit[ev->unit];
	get->verifying = false;
	stele_fetch_step(&u->fetch, &ev->fetch);
	if (u->fetch.phase != STELE_FETCH_GOOD) {
		after_fetch_step(get, u);
		return;
	}
	unit_over(get, u);
	if (u->last && !ev->object_ok) {
		give_up_record(get, STELE_ERR_CORRUPT,
		               "the bytes do not hash to the object's id, though every block holds "
		               "what its deposit says");
		return;
	}
	get->degraded += u->fetch.degraded;
	u->state = STELE_UNIT_READY;
	get->seq_verify++;
}

static void on_emitted(struct stele_get *get, const struct stele_get_event *ev)
{
	get->emitting = false;
	if (ev->err != STELE_OK) {
		end(get, ev->err, "%s", ev->detail);
		return;
	}
	get->out += ev->len;
	if (get->inline_left) {
		get->inline_left = false;
		return;
	}
	unit_at(get, get->seq_emit)->state = STELE_UNIT_OUT;
	get->seq_emit++;
}

void stele_get_step(struct stele_get *get, const struct stele_get_event *ev)
{
	if (get->phase == STELE_GET_ENDED)
		return;
	switch (ev->kind) {
	case STELE_GET_CANDIDATE:
		on_candidate(get, &ev->candidate);
		break;
	case STELE_GET_FIND_OVER:
		on_find_over(get, ev);
		break;
	case STELE_GET_FETCH:
		stele_fetch_step(&get->unit[ev->unit].fetch, &ev->fetch);
		after_fetch_step(get, &get->unit[ev->unit]);
		break;
	case STELE_GET_VERIFIED:
		on_verified(get, ev);
		break;
	case STELE_GET_EMITTED:
		on_emitted(get, ev);
		break;
	case STELE_GET_MAP:
		on_map(get, ev->changed);
		break;
	case STELE_GET_FAIL:
		end(get, ev->err, "%s", ev->detail);
		break;
	}
}

void stele_get_init(struct stele_get *get, const struct stele_get_config *config)
{
	*get = (struct stele_get){.config = *config};
}

/* ---- actions ---- */

static bool act(struct stele_get_action *out, enum stele_get_action_kind kind, uint32_t unit)
{
	*out = (struct stele_get_action){.kind = kind, .unit = unit};
	return true;
}

/* Frees the units of a record that is given up, once no worker uses them. */
static bool next_switch(struct stele_get *get, struct stele_get_action *out)
{
	if (get->verifying || get->emitting)
		return false;
	for (uint32_t i = 0; i < STELE_GET_UNITS; i++)
		if (get->unit[i].state != STELE_UNIT_FREE) {
			get->unit[i].state = STELE_UNIT_FREE;
			return act(out, STELE_GET_DO_FREE, i);
		}
	get->seq_free = get->seq_emit = get->seq_verify = get->seq_next;
	get->phase = STELE_GET_FINDING;
	return false;
}

static bool next_fetch(struct stele_get *get, struct stele_get_action *out)
{
	for (uint64_t seq = get->seq_free; seq < get->seq_next; seq++) {
		struct stele_get_unit *u = unit_at(get, seq);
		uint32_t i = (uint32_t)(u - get->unit);
		if (u->state == STELE_UNIT_AGAIN) {
			start_fetch(get, u);
			after_fetch_step(get, u);
			return act(out, STELE_GET_DO_FREE, i);
		}
		if (u->state == STELE_UNIT_FETCHING && stele_fetch_next(&u->fetch, &out->fetch)) {
			struct stele_fetch_action fetch = out->fetch;
			act(out, STELE_GET_DO_FETCH, i);
			out->fetch = fetch;
			return true;
		}
	}
	return false;
}

static bool next_verify(struct stele_get *get, struct stele_get_action *out)
{
	struct stele_get_unit *u = unit_at(get, get->seq_verify);
	if (get->verifying || get->seq_verify == get->seq_next || u->state != STELE_UNIT_FETCHING ||
	    !stele_fetch_ready(&u->fetch))
		return false;
	get->verifying = true;
	act(out, STELE_GET_DO_VERIFY, (uint32_t)(u - get->unit));
	stele_fetch_begin_verify(&u->fetch, &out->job);
	out->last = u->last;
	return true;
}

static bool next_output(struct stele_get *get, struct stele_get_action *out)
{
	struct stele_get_unit *u = unit_at(get, get->seq_free);
	if (get->seq_free < get->seq_emit && u->state == STELE_UNIT_OUT) {
		u->state = STELE_UNIT_FREE;
		get->seq_free++;
		return act(out, STELE_GET_DO_FREE, (uint32_t)(u - get->unit));
	}
	if (get->emitting)
		return false;
	u = unit_at(get, get->seq_emit);
	bool ready = get->seq_emit < get->seq_verify && u->state == STELE_UNIT_READY;
	if (!ready && !get->inline_left)
		return false;
	get->emitting = true;
	return act(out, STELE_GET_DO_EMIT, get->inline_left ? NO_UNIT : (uint32_t)(u - get->unit));
}

bool stele_get_next(struct stele_get *get, struct stele_get_action *out)
{
	if (get->phase == STELE_GET_SWITCHING && next_switch(get, out))
		return true;
	if (get->phase == STELE_GET_READING) {
		if (!get->started) {
			get->started = true;
			return act(out, STELE_GET_DO_START, NO_UNIT);
		}
		while (add_unit(get))
			after_fetch_step(get, unit_at(get, get->seq_next - 1));
		if (get->reload && !get->reloading) {
			get->reload = false;
			get->reloading = true;
			return act(out, STELE_GET_DO_RELOAD, NO_UNIT);
		}
		if (next_output(get, out) || next_verify(get, out) || next_fetch(get, out))
			return true;
		if (get->pos == get->end && !get->inline_left && get->seq_free == get->seq_next)
			end(get, STELE_OK, "%s", "");
	}
	if (get->phase != STELE_GET_ENDED || get->told)
		return false;
	get->told = true;
	return act(out, STELE_GET_DO_END, NO_UNIT);
}
