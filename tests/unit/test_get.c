/*
 * Goal: whatever disks do, the get machine gives out exactly the wanted bytes, each verified before, whenever what the
 * disks hold determines them, and refuses otherwise. A model cluster serves it in a seeded order with shards that are
 * missing, moved, corrupt, late, on disks that are down, hung or busy; the model decides on its own what can be read.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/get.h"
#include "tests/unit/guard.h"

#define DISKS      10u
#define BLOCKS_MAX 14u
#define BLOCK_LEN  (1u << 20)
#define RECORDS    40u

enum fault {
	NONE,
	DOWN,
	HUNG,
	SLOW,
	BUSY_ONCE,
	BUSY,
	FENCED,
	LIES_ABOUT_META,
	MISSING_META_FAULTS
};

struct task { /* something under way */
	enum stele_get_action_kind kind;
	uint32_t unit;
	struct stele_fetch_action fetch;
	struct stele_fetch_job job;
	bool last;
	uint32_t gen; /* of the unit */
};

struct model {
	uint64_t seed;
	struct stele_get get;
	const struct stele_code *code,
	    *real_code; /* the pool's, and what blocks were really written with */
	struct stele_record record[RECORDS];
	struct stele_piece piece[RECORDS][BLOCKS_MAX];
	uint32_t offered[RECORDS], noffered; /* records that were found, in that order */
	bool find_over;
	enum stele_err find_err;
	uint32_t bogus; /* of the first records: their bytes do not hash to the object */
	uint32_t nblocks, window;
	uint32_t length[BLOCKS_MAX];
	uint32_t inline_len;
	/* what disks hold, as masks of shards: there; corrupt, and the disk does not know */
	uint64_t holds[DISKS][BLOCKS_MAX], rotten[DISKS][BLOCKS_MAX];
	enum fault fault[DISKS];
	uint32_t rotation; /* of windows; the map moves it on */
	uint32_t new_rotation;
	/* under way */
	struct task task[1024];
	uint32_t ntasks;
	uint32_t gen[STELE_GET_UNITS + 1];
	bool verified[STELE_GET_UNITS];
	bool verifying, emitting;
	/* what came out */
	uint64_t out;
	bool ended;
	uint32_t asks, reports;
	uint64_t cells_asked;
};

static uint32_t content_of(const struct stele_hash *block)
{
	return block->b[0] - 1u;
}

static void place(void *ctx, const struct stele_hash *id, struct stele_window *out)
{
	struct model *m = ctx;
	memset(out, 0, sizeof(*out));
	out->n = m->window;
	for (uint32_t i = 0; i < out->n; i++)
		out->disk[i].node = (uint16_t)(1 + (i + id->b[0] + m->rotation) % DISKS);
}

static void real_descriptor(struct model *m, uint32_t content, struct stele_descriptor *d)
{
	cr_assert_eq(stele_descriptor_init(d, stele_code_id(m->real_code), m->length[content]),
	             STELE_OK);
}

static uint32_t disk_of(const struct stele_get_unit *u, uint32_t at)
{
	return u->fetch.window.disk[at].node - 1u;
}

static bool answers(enum fault f)
{
	return f == NONE || f == SLOW || f == BUSY_ONCE || f == LIES_ABOUT_META;
}

/* ---- serving ---- */

static enum stele_err disk_error(struct model *m, uint32_t disk, bool *answered)
{
	*answered = true;
	switch (m->fault[disk]) {
	case DOWN:
		*answered = false;
		return STELE_ERR_UNAVAILABLE;
	case HUNG:
		*answered = false;
		return STELE_ERR_TIMEOUT;
	case FENCED:
		return STELE_ERR_FENCED;
	case BUSY:
		return STELE_ERR_BUSY;
	case BUSY_ONCE:
		m->fault[disk] = NONE;
		return STELE_ERR_BUSY;
	default:
		return STELE_OK;
	}
}

static void serve_ask(struct model *m, const struct task *t)
{
	struct stele_get_unit *u = &m->get.unit[t->unit];
	const struct stele_fetch_action *a = &t->fetch;
	uint32_t content = content_of(&u->fetch.block), disk = disk_of(u, a->at);
	struct stele_get_event ev = {.kind = STELE_GET_FETCH, .unit = t->unit};
	struct stele_descriptor d;
	real_descriptor(m, content, &d);
	if (a->cells > 0)
		cr_assert_eq(u->fetch.shard[a->shard].state, STELE_SHARD_ASKED,
		             "cells come that nobody waits for");
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_CELLS,
	                                      .shard = a->shard,
	                                      .at = a->at,
	                                      .cells = a->cells,
	                                      .want_meta = a->want_meta};
	ev.fetch.err = disk_error(m, disk, &ev.fetch.answered);
	if (ev.fetch.err == STELE_OK && !(m->holds[disk][content] >> a->shard & 1))
		ev.fetch.err = STELE_ERR_NOT_FOUND;
	if (ev.fetch.err == STELE_OK) {
		uint32_t all = stele_descriptor_cells(&d), last = u->fetch.first_cell + a->cells;
		if (a->cells > 0 && last > all)
			ev.fetch.err = STELE_ERR_INVALID;
		for (uint32_t c = u->fetch.first_cell; c < last && c < all; c++)
			ev.fetch.len += stele_descriptor_cell_len(&d, c);
		if (a->want_meta && m->fault[disk] != LIES_ABOUT_META)
			ev.fetch.desc = &d;
	}
	stele_get_step(&m->get, &ev);
}

static void serve_fetch(struct model *m, const struct task *t)
{
	struct stele_get_unit *u = &m->get.unit[t->unit];
	if (t->fetch.kind == STELE_FETCH_ASK) {
		serve_ask(m, t);
		return;
	}
	struct stele_get_event ev = {.kind = STELE_GET_FETCH, .unit = t->unit};
	uint32_t disk = disk_of(u, t->fetch.at);
	ev.fetch = (struct stele_fetch_event){.kind = STELE_FETCH_LOCATED, .at = t->fetch.at};
	ev.fetch.err = disk_error(m, disk, &ev.fetch.answered);
	/* only the shards that were asked about */
	ev.fetch.has =
	    m->holds[disk][content_of(&u->fetch.block)] & ((1ull << u->fetch.desc.n) - 1);
	stele_get_step(&m->get, &ev);
}

static void serve_verify(struct model *m, const struct task *t)
{
	struct stele_get_unit *u = &m->get.unit[t->unit];
	struct stele_get_event ev = {.kind = STELE_GET_VERIFIED, .unit = t->unit};
	uint32_t content = content_of(&u->fetch.block);
	ev.fetch.kind = STELE_FETCH_VERIFIED;
	ev.fetch.checked = t->job.check;
	ev.fetch.consistent = true;
	cr_assert_eq(t->job.check & ~((1ull << u->fetch.desc.n) - 1), 0u);
	cr_assert(t->last == (u->last && m->get.whole));
	for (uint32_t s = 0; s < u->fetch.desc.n; s++)
		if (t->job.check >> s & 1) {
			cr_assert(u->fetch.shard[s].state >= STELE_SHARD_ARRIVED);
			uint32_t disk = disk_of(u, u->fetch.shard[s].at);
			ev.fetch.bad |= m->rotten[disk][content] & 1ull << s;
		}
	ev.object_ok = m->get.tried > m->bogus;
	m->verified[t->unit] = !ev.fetch.bad;
	m->verifying = false;
	stele_get_step(&m->get, &ev);
}

static void serve_emit(struct model *m, const struct task *t)
{
	struct stele_get_event ev = {.kind = STELE_GET_EMITTED};
	m->emitting = false;
	if (t->unit == STELE_GET_UNITS) {
		ev.len = m->get.end - m->get.config.off;
	} else {
		const struct stele_get_unit *u = &m->get.unit[t->unit];
		cr_assert(m->verified[t->unit], "bytes go out that were not verified");
		uint64_t at = u->off;
		for (uint32_t i = 0; i < u->piece; i++)
			at += m->piece[m->offered[m->get.tried - 1]][i].len;
		cr_assert_eq(at, m->get.config.off + m->out, "out of order");
		ev.len = u->len;
	}
	m->out += ev.len;
	stele_get_step(&m->get, &ev);
}

static void serve(struct model *m, const struct task *t)
{
	if (t->gen != m->gen[t->unit])
		return; /* its unit was freed or reset: the call was ended */
	if (t->kind == STELE_GET_DO_FETCH)
		serve_fetch(m, t);
	else if (t->kind == STELE_GET_DO_VERIFY)
		serve_verify(m, t);
	else
		serve_emit(m, t);
}

/* ---- taking actions ---- */

static void add_task(struct model *m, const struct stele_get_action *a)
{
	cr_assert_lt(m->ntasks, 1024u);
	m->task[m->ntasks++] =
	    (struct task){a->kind, a->unit, a->fetch, a->job, a->last, m->gen[a->unit]};
}

static void take_fetch(struct model *m, const struct stele_get_action *a)
{
	const struct stele_get_unit *u = &m->get.unit[a->unit];
	switch (a->fetch.kind) {
	case STELE_FETCH_ASK:
		for (uint32_t i = 0; i < m->ntasks; i++)
			cr_assert(
			    !(m->task[i].kind == STELE_GET_DO_FETCH &&
			      m->task[i].gen == m->gen[a->unit] && m->task[i].unit == a->unit &&
			      m->task[i].fetch.kind == STELE_FETCH_ASK && a->fetch.cells &&
			      m->task[i].fetch.cells && m->task[i].fetch.shard == a->fetch.shard),
			    "two calls for one buffer");
		m->asks++;
		m->cells_asked += a->fetch.cells;
		add_task(m, a);
		break;
	case STELE_FETCH_LOCATE:
		add_task(m, a);
		break;
	case STELE_FETCH_RESET:
		m->gen[a->unit]++;
		break;
	case STELE_FETCH_REPORT: {
		uint32_t disk = disk_of(u, a->fetch.at), content = content_of(&u->fetch.block);
		m->reports++;
		cr_assert(m->rotten[disk][content] >> a->fetch.shard & 1 ||
		              m->fault[disk] == LIES_ABOUT_META,
		          "an innocent disk is reported");
		break;
	}
	}
}

/* What is decoded has calls no more: they end without an event, and the machine must not wait for them. */
static void end_calls(struct model *m, const struct stele_get_action *a)
{
	for (uint32_t i = 0; i < m->ntasks;) {
		const struct task *t = &m->task[i];
		if (t->kind == STELE_GET_DO_FETCH && t->unit == a->unit &&
		    t->gen == m->gen[a->unit] && t->fetch.kind == STELE_FETCH_ASK &&
		    t->fetch.cells > 0 && a->job.missing >> t->fetch.shard & 1)
			m->task[i] = m->task[--m->ntasks];
		else
			i++;
	}
}

/* The machine wants a record only while it is FINDING. */
static bool give_record(struct model *m)
{
	struct stele_get_event ev = {
	    .kind = STELE_GET_FIND_OVER, .err = m->find_err, .detail = "find"};
	if (m->get.phase != STELE_GET_FINDING || (m->get.tried == m->noffered && !m->find_over))
		return false;
	if (m->get.tried < m->noffered) {
		ev.kind = STELE_GET_CANDIDATE;
		ev.candidate = (struct stele_get_candidate){
		    .record = &m->record[m->offered[m->get.tried]], .code = m->code};
	}
	stele_get_step(&m->get, &ev);
	return true;
}

static void take_actions_there_are(struct model *m)
{
	struct stele_get_action a;
	while (stele_get_next(&m->get, &a)) {
		cr_assert(!m->ended, "an action after the end");
		switch (a.kind) {
		case STELE_GET_DO_START:
			cr_assert(m->out == 0 || m->get.config.restartable,
			          "starts over after bytes went out for good");
			m->out = 0;
			break;
		case STELE_GET_DO_FETCH:
			take_fetch(m, &a);
			break;
		case STELE_GET_DO_VERIFY:
			cr_assert(!m->verifying);
			m->verifying = true;
			m->verified[a.unit] = false;
			end_calls(m, &a);
			add_task(m, &a);
			break;
		case STELE_GET_DO_EMIT:
			cr_assert(!m->emitting);
			m->emitting = true;
			add_task(m, &a);
			break;
		case STELE_GET_DO_FREE:
			m->gen[a.unit]++;
			m->verified[a.unit] = false;
			break;
		case STELE_GET_DO_RELOAD: {
			bool changed = m->rotation != m->new_rotation;
			m->rotation = m->new_rotation;
			stele_get_step(&m->get, &(struct stele_get_event){.kind = STELE_GET_MAP,
			                                                  .changed = changed});
			break;
		}
		case STELE_GET_DO_END:
			m->ended = true;
			break;
		}
	}
}

static void take_actions(struct model *m)
{
	do
		take_actions_there_are(m);
	while (give_record(m));
}

/* The hedge's time is up for a unit: everything asked of a slow or hung disk is late, perhaps more. */
static void some_unit_is_late(struct model *m)
{
	uint32_t unit = (uint32_t)(guard_random(&m->seed) % STELE_GET_UNITS);
	if (m->get.phase == STELE_GET_READING && m->get.unit[unit].state == STELE_UNIT_FETCHING) {
		stele_get_step(&m->get,
		               &(struct stele_get_event){.kind = STELE_GET_FETCH,
		                                         .unit = unit,
		                                         .fetch = {.kind = STELE_FETCH_LATE}});
		take_actions(m);
	}
}

static bool slow_task(struct model *m, const struct task *t)
{
	if (t->kind != STELE_GET_DO_FETCH || t->gen != m->gen[t->unit])
		return false;
	enum fault f = m->fault[disk_of(&m->get.unit[t->unit], t->fetch.at)];
	return f == HUNG || f == SLOW;
}

static void begin(struct model *m, uint64_t off, uint64_t len, bool restartable)
{
	struct stele_get_config config = {
	    .off = off, .len = len, .restartable = restartable, .place = place, .ctx = m};
	stele_get_init(&m->get, &config);
	take_actions(m);
}

static void offer(struct model *m, uint32_t i)
{
	m->offered[m->noffered++] = i;
	take_actions(m);
}

static void find_over(struct model *m, enum stele_err err)
{
	m->find_over = true;
	m->find_err = err;
	take_actions(m);
}

static void run(struct model *m)
{
	for (uint32_t steps = 0; m->ntasks > 0 && !m->ended; steps++) {
		cr_assert_lt(steps, 20000u, "the get does not end");
		uint32_t i = (uint32_t)(guard_random(&m->seed) % m->ntasks);
		/* slow ones come after the hedge, mostly */
		if (slow_task(m, &m->task[i]) && guard_random(&m->seed) % 8) {
			some_unit_is_late(m);
			continue;
		}
		struct task t = m->task[i];
		m->task[i] = m->task[--m->ntasks];
		serve(m, &t);
		take_actions(m);
	}
	cr_assert(m->ended, "the get neither ended nor goes on");
}

/* ---- making models ---- */

static struct model *model_create(uint64_t seed, const char *code, uint32_t nblocks)
{
	struct model *m = calloc(1, sizeof(*m));
	cr_assert(m);
	m->seed = seed * 2654435761u + 1;
	m->nblocks = nblocks;
	m->window = DISKS;
	cr_assert_eq(stele_code_find_name(code, &m->code), STELE_OK);
	m->real_code = m->code;
	for (uint32_t b = 0; b < nblocks; b++)
		m->length[b] = b == nblocks - 1 && seed & 1 ? 300001 : BLOCK_LEN;
	for (uint32_t r = 0; r < RECORDS; r++) {
		m->record[r].deposit.has_layout = nblocks > 0;
		m->record[r].layout.npieces = nblocks;
		m->record[r].layout.piece = m->piece[r];
		for (uint32_t b = 0; b < nblocks; b++) {
			m->piece[r][b].block.b[0] = (uint8_t)(b + 1);
			m->piece[r][b].len = m->length[b];
			m->record[r].deposit.length += m->length[b];
		}
	}
	return m;
}

/* Each shard where placement puts it. */
static void fill(struct model *m)
{
	uint32_t n = stele_code_n(m->real_code);
	for (uint32_t b = 0; b < m->nblocks; b++)
		for (uint32_t s = 0; s < n; s++)
			m->holds[(s + b + 1 + m->new_rotation) % DISKS][b] |= 1ull << s;
}

static uint64_t readable(const struct model *m, uint32_t b)
{
	uint64_t mask = 0;
	for (uint32_t d = 0; d < DISKS; d++)
		if (answers(m->fault[d]))
			mask |= m->holds[d][b] & ~m->rotten[d][b];
	return mask;
}

/* By the model alone: does what answers determine all that the range needs? Whole data shards of the blocks touched. */
static bool determined(const struct model *m, uint64_t off, uint64_t end)
{
	uint64_t at = 0;
	for (uint32_t b = 0; b < m->nblocks; at += m->length[b++]) {
		uint64_t lo = off > at ? off - at : 0,
		         hi = end - at < m->length[b] ? end - at : m->length[b];
		if (end <= at || lo >= m->length[b])
			continue;
		uint64_t S = stele_shard_len(stele_code_id(m->real_code), m->length[b]), want = 0;
		struct stele_plan plan;
		for (uint64_t s = lo / S; s * S < hi; s++)
			want |= 1ull << s;
		if (stele_code_plan(m->real_code, readable(m, b), want, &plan) != STELE_OK)
			return false;
	}
	return true;
}

static void check_end(struct model *m, uint64_t off, uint64_t end, const char *what)
{
	if (determined(m, off, end)) {
		cr_assert_eq(m->get.err, STELE_OK, "%s: %s", what, m->get.detail);
		cr_assert_eq(m->out, end - off, "%s: bytes are missing", what);
	} else {
		cr_assert_eq(m->get.err, STELE_ERR_UNAVAILABLE, "%s: %s %s", what,
		             stele_err_name(m->get.err), m->get.detail);
		cr_assert(strstr(m->get.detail, "missing"), "%s", m->get.detail);
	}
}

/* ---- tests ---- */

Test(get, all_is_well)
{
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct model *m = model_create(seed, "rs-4-2", 5);
		fill(m);
		begin(m, 0, UINT64_MAX, false);
		offer(m, 0);
		run(m);
		check_end(m, 0, m->record[0].deposit.length, "well");
		cr_assert_eq(m->asks, 20u); /* data shards, once each; the meta came along */
		cr_assert_eq(m->get.degraded + m->get.bad, 0u);
		free(m);
	}
}

/* Every pattern of two lost disks, and of three, at three codes. */
Test(get, lost_disks)
{
	static const char *codes[] = {"rs-4-2", "lrc-4-2-2", "rep-3"};
	for (uint32_t c = 0; c < 3; c++)
		for (uint32_t mask = 0; mask < 1u << DISKS; mask++) {
			if (__builtin_popcount(mask) > 4)
				continue;
			struct model *m = model_create(mask, codes[c], 2);
			fill(m);
			for (uint32_t d = 0; d < DISKS; d++)
				if (mask >> d & 1)
					m->fault[d] = (mask + d) % 2 ? DOWN : HUNG;
			begin(m, 0, UINT64_MAX, mask % 2);
			offer(m, 0);
			find_over(m, STELE_OK);
			run(m);
			check_end(m, 0, m->record[0].deposit.length, codes[c]);
			free(m);
		}
}

/* Corrupt shards are found, reported, and made up for. */
Test(get, corrupt_shards)
{
	for (uint32_t mask = 0; mask < 1u << 6; mask++) {
		struct model *m = model_create(mask, "rs-4-2", 1);
		fill(m);
		for (uint32_t s = 0; s < 6; s++)
			if (mask >> s & 1)
				m->rotten[(s + 1) % DISKS][0] |= 1ull << s;
		begin(m, 0, UINT64_MAX, false);
		offer(m, 0);
		find_over(m, STELE_OK);
		run(m);
		check_end(m, 0, m->record[0].deposit.length, "corrupt");
		cr_assert_eq(m->reports, m->get.bad);
		cr_assert_leq(m->get.bad, (uint32_t)__builtin_popcount(mask));
		cr_assert_geq(m->get.bad, (uint32_t)__builtin_popcount(mask & 0xf));
		free(m);
	}
}

/* Substitutes and repairs put shards anywhere in the window: they are found. */
Test(get, moved_shards)
{
	for (uint64_t seed = 0; seed < 500; seed++) {
		struct model *m = model_create(seed, "rs-4-2", 2);
		for (uint32_t b = 0; b < 2; b++)
			for (uint32_t s = 0; s < 6; s++)
				m->holds[guard_random(&m->seed) % DISKS][b] |= 1ull << s;
		m->fault[guard_random(&m->seed) % DISKS] = DOWN;
		begin(m, 0, UINT64_MAX, false);
		offer(m, 0);
		find_over(m, STELE_OK);
		run(m);
		check_end(m, 0, m->record[0].deposit.length, "moved");
		free(m);
	}
}

/* Ranges of all sorts read only what they need. */
Test(get, ranges)
{
	for (uint64_t seed = 0; seed < 2000; seed++) {
		struct model *m = model_create(seed, seed % 3 ? "rs-4-2" : "lrc-4-2-2", 3);
		uint64_t length = m->record[0].deposit.length;
		uint64_t off = guard_random(&m->seed) % length;
		uint64_t len = 1 + guard_random(&m->seed) % (seed % 2 ? 70000 : length - off);
		if (len > length - off)
			len = length - off;
		fill(m);
		for (uint32_t d = 0; d < DISKS; d++)
			if (guard_random(&m->seed) % 6 == 0)
				m->fault[d] = DOWN;
		begin(m, off, len, false);
		offer(m, 0);
		find_over(m, STELE_OK);
		run(m);
		check_end(m, off, off + len, "range");
		if (m->get.err == STELE_OK && m->get.degraded == 0)
			cr_assert_leq(
			    m->cells_asked, len / STELE_CELL_LEN + (len <= 70000 ? 4 : 16),
			    "%u cells for %u bytes", (unsigned)m->cells_asked, (unsigned)len);
		free(m);
	}
	struct model *m = model_create(1, "rs-4-2", 3);
	fill(m);
	begin(m, m->record[0].deposit.length, 1, false);
	offer(m, 0);
	find_over(m, STELE_OK);
	cr_assert(m->ended && m->get.err == STELE_ERR_USAGE);
	free(m);
}

/* The pool's code changed since: the guess is wrong, the descriptor decides. */
Test(get, wrong_guess)
{
	static const char *real[] = {"rs-3-2", "rs-8-2", "rep-3", "lrc-4-2-2"};
	for (uint32_t c = 0; c < 4; c++)
		for (uint64_t seed = 0; seed < 50; seed++) {
			struct model *m = model_create(seed, "rs-4-2", 3);
			uint64_t off = seed % 2 ? guard_random(&m->seed) % BLOCK_LEN : 0;
			cr_assert_eq(stele_code_find_name(real[c], &m->real_code), STELE_OK);
			m->new_rotation = seed % 2 ? 5 : 0;
			fill(m); /* half the time nothing is where placement puts it */
			m->new_rotation = 0;
			m->fault[seed % DISKS] = DOWN;
			begin(m, off, UINT64_MAX, false);
			offer(m, 0);
			find_over(m, STELE_OK);
			run(m);
			check_end(m, off, m->record[0].deposit.length, real[c]);
			free(m);
		}
}

/* A record whose bytes are not the object's: the next is tried, unless bytes went out for good (D6). */
Test(get, lying_records)
{
	for (uint32_t bogus = 0; bogus <= 3; bogus++)
		for (uint32_t nblocks = 1; nblocks <= 5; nblocks += 4)
			for (int restartable = 0; restartable < 2; restartable++) {
				struct model *m = model_create(bogus, "rs-4-2", nblocks);
				fill(m);
				m->bogus = bogus;
				begin(m, 0, UINT64_MAX, restartable);
				for (uint32_t i = 0; i < 3; i++)
					offer(m, i);
				find_over(m, STELE_OK);
				run(m);
				bool good =
				    bogus == 0 || (bogus < 3 && (restartable || nblocks == 1));
				cr_assert_eq(m->get.err, good ? STELE_OK : STELE_ERR_CORRUPT);
				/* The last block stays back. */
				if (!good && nblocks == 1 && !restartable)
					cr_assert_eq(m->out, 0u);
				cr_assert(good == (m->out == m->record[0].deposit.length));
				free(m);
			}
}

/* However many lies come first, the true record is reached. */
Test(get, many_lying_records)
{
	struct model *m = model_create(1, "rs-4-2", 5);
	fill(m);
	m->bogus = RECORDS - 1;
	begin(m, 0, UINT64_MAX, true);
	for (uint32_t i = 0; i < RECORDS; i++)
		offer(m, i);
	find_over(m, STELE_OK);
	run(m);
	check_end(m, 0, m->record[0].deposit.length, "many lies");
	cr_assert_eq(m->get.tried, RECORDS);
	free(m);
}

/* A record whose blocks nobody has: another one, which comes later, is still good. */
Test(get, dangling_record)
{
	struct model *m = model_create(2, "rs-4-2", 2);
	fill(m);
	m->piece[0][0].block.b[0] = BLOCKS_MAX; /* held by nobody */
	m->length[BLOCKS_MAX - 1] = BLOCK_LEN;
	begin(m, 0, UINT64_MAX, false);
	offer(m, 0);
	while (m->ntasks) {
		struct task t = m->task[--m->ntasks];
		serve(m, &t);
		take_actions(m);
	}
	cr_assert(!m->ended); /* waits for the rest of the window */
	offer(m, 1);
	run(m);
	cr_assert_eq(m->get.err, STELE_OK);
	free(m);
}

Test(get, find_decides_when_there_is_no_record)
{
	static const enum stele_err errs[] = {STELE_ERR_NOT_FOUND, STELE_ERR_UNAVAILABLE};
	for (uint32_t i = 0; i < 2; i++) {
		struct model *m = model_create(1, "rs-4-2", 0);
		begin(m, 0, UINT64_MAX, false);
		cr_assert(!m->ended);
		find_over(m, errs[i]);
		cr_assert(m->ended);
		cr_assert_eq(m->get.err, errs[i]);
		cr_assert_str_eq(m->get.detail, "find");
		free(m);
	}
}

Test(get, small_and_empty)
{
	for (uint64_t len = 0; len < 3; len++) {
		struct model *m = model_create(1, "rs-4-2", 0);
		m->record[0].deposit.length = len;
		begin(m, 0, UINT64_MAX, false);
		offer(m, 0);
		if (len)
			run(m);
		cr_assert(m->ended);
		cr_assert_eq(m->get.err, STELE_OK);
		cr_assert_eq(m->out, len);
		free(m);
	}
}

/* The shards lie where a newer map says. */
Test(get, newer_map)
{
	struct model *m = model_create(4, "rs-4-2", 4);
	m->new_rotation = 3;
	fill(m);
	m->window = 6; /* three of each block's are outside the old one */
	begin(m, 0, UINT64_MAX, false);
	offer(m, 0);
	find_over(m, STELE_OK);
	run(m);
	cr_assert_eq(m->rotation, 3u);
	check_end(m, 0, m->record[0].deposit.length, "newer map");
	free(m);
}

/* A hung node is late for the units under way, and asked last afterwards. */
Test(get, late_node_is_avoided)
{
	struct model *m = model_create(2, "rs-4-2", BLOCKS_MAX);
	uint64_t asked = 0; /* units */
	fill(m);
	m->fault[3] = HUNG;
	begin(m, 0, UINT64_MAX, false);
	offer(m, 0);
	for (uint32_t steps = 0; m->ntasks && !m->ended && steps < 5000; steps++) {
		uint32_t i = 0;
		for (uint32_t t = 0; t < m->ntasks; t++)
			if (slow_task(m, &m->task[t]))
				asked |= 1ull << m->get.unit[m->task[t].unit].seq;
		while (i < m->ntasks && slow_task(m, &m->task[i]))
			i++;
		if (i == m->ntasks) { /* only the hung disk is waited for */
			some_unit_is_late(m);
			continue;
		}
		struct task t = m->task[i];
		m->task[i] = m->task[--m->ntasks];
		serve(m, &t);
		take_actions(m);
	}
	cr_assert(m->ended);
	cr_assert_eq(m->get.err, STELE_OK);
	cr_assert(asked != 0 && __builtin_popcountll(asked) <= (int)STELE_GET_UNITS, "%lx", asked);
	free(m);
}

Test(get, seeds)
{
	static const char *codes[] = {"rs-4-2", "lrc-4-2-2", "rep-3", "rs-2-1"};
	uint32_t outcome[2] = {0}, degraded = 0;
	for (uint64_t seed = 0; seed < 8000; seed++) {
		uint64_t r = seed + 1;
		char what[64];
		struct model *m = model_create(seed, codes[guard_random(&r) % 4],
		                               1 + (uint32_t)(guard_random(&r) % 5));
		uint64_t length = m->record[0].deposit.length, off = 0, len = length;
		if (guard_random(&r) & 1) {
			off = guard_random(&r) % length;
			len = 1 + guard_random(&r) % (length - off);
		}
		fill(m);
		for (uint32_t d = 0; d < DISKS; d++) {
			if (guard_random(&r) % 3 == 0)
				m->fault[d] = (enum fault)(guard_random(&r) % MISSING_META_FAULTS);
			for (uint32_t b = 0; b < m->nblocks; b++) {
				uint64_t chance = guard_random(&r);
				if (chance % 8 == 0)
					m->rotten[d][b] = m->holds[d][b];
				if (chance % 8 == 1) {
					m->holds[(d + 3) % DISKS][b] |= m->holds[d][b];
					m->holds[d][b] = 0;
				}
			}
		}
		snprintf(what, sizeof(what), "seed %llu", (unsigned long long)seed);
		begin(m, off, len, guard_random(&r) & 1);
		offer(m, 0);
		find_over(m, STELE_OK);
		run(m);
		/* A liar about meta is no use for it, but its cells are good: the model calls it readable,
		 * unless all who hold the block lie. BUSY for ever counts as not answering. */
		bool liars = false;
		for (uint32_t d = 0; d < DISKS; d++)
			liars |= m->fault[d] == LIES_ABOUT_META;
		if (!liars)
			check_end(m, off, off + len, what);
		else if (m->get.err == STELE_OK)
			cr_assert(determined(m, off, off + len) && m->out == len, "%s", what);
		outcome[m->get.err != STELE_OK]++;
		degraded += m->get.err == STELE_OK && m->get.degraded > 0;
		free(m);
	}
	cr_assert(outcome[0] > 1000 && outcome[1] > 500 && degraded > 500, "%u %u %u", outcome[0],
	          outcome[1], degraded);
}
