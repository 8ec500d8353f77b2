/*
 * Goal: whatever disks do, the put machine acknowledges only what is durable as stated. A model
 * cluster carries out its actions in a seeded order while disks fail at every step in every way; at
 * the end the model, which counts on its own, must agree with what was acknowledged.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/put.h"
#include "tests/unit/guard.h"

#define DISKS      12u
#define BLOCKS_MAX 8u
#define BLOCK_LEN  (1u << 20)
#define NEVER      UINT32_MAX

enum fault { NONE, DOWN, HUNG, FULL, BUSY, BUSY_ONCE, LOST_CALL, DENIED, BEHIND, MOVED, REFUSES };

struct model {
	uint64_t seed;
	struct stele_put put;
	uint32_t ndisks, window;
	uint32_t rotation; /* of windows: changes with the map */
	/* the object */
	uint32_t npieces; /* of BLOCK_LEN, the last shorter; 0: small */
	uint32_t content[BLOCKS_MAX];
	uint32_t small_len;
	/* faults: disk d is faulty from call number `from` to before `to` */
	enum fault fault[DISKS];
	uint32_t from[DISKS], to[DISKS];
	uint32_t calls;
	/* what is durable */
	bool shard[DISKS][BLOCKS_MAX][STELE_CODE_N_MAX];
	uint32_t ref[DISKS][BLOCKS_MAX]; /* the deposit, counted from 1 */
	uint32_t record[DISKS];
	bool refused[DISKS]; /* deposit 1 */
	/* under way */
	struct stele_put_action queue[4096];
	uint32_t nqueue;
	/* progress */
	uint32_t deposits, read, in_memory;
	bool forgotten[BLOCKS_MAX], ended;
	bool moved;
};

static void block_id(uint32_t content, struct stele_hash *out)
{
	memset(out, 0, sizeof(*out));
	out->b[0] = (uint8_t)(content + 1);
}

static void place(void *ctx, bool record, const struct stele_hash *id, struct stele_window *out)
{
	struct model *m = ctx;
	memset(out, 0, sizeof(*out));
	out->n = record && m->window > 8 ? 8 : m->window;
	for (uint32_t i = 0; i < out->n; i++)
		out->disk[i].node =
		    (uint16_t)(1 + (i + id->b[0] + m->rotation + (record ? 3 : 0)) % m->ndisks);
}

static bool in_window(struct model *m, bool record, const struct stele_hash *id, uint32_t disk)
{
	struct stele_window w;
	place(m, record, id, &w);
	for (uint32_t i = 0; i < w.n; i++)
		if (w.disk[i].node == disk + 1)
			return true;
	return false;
}

/* What a call to the disk comes to; *done: it was carried out all the same. */
static enum stele_err attempt(struct model *m, uint32_t disk, bool record, bool *answered,
                              bool *done)
{
	uint32_t call = m->calls++;
	*answered = true;
	*done = false;
	if (call < m->from[disk] || call >= m->to[disk]) {
		*done = true;
		return STELE_OK;
	}
	switch (m->fault[disk]) {
	case NONE:
		break;
	case DOWN:
		*answered = false;
		return STELE_ERR_UNAVAILABLE;
	case HUNG:
		*answered = false;
		return STELE_ERR_TIMEOUT;
	case FULL:
		return STELE_ERR_FULL;
	case BUSY:
		return STELE_ERR_BUSY;
	case BUSY_ONCE:
		m->fault[disk] = NONE;
		return STELE_ERR_BUSY;
	case LOST_CALL:
		m->fault[disk] = NONE;
		*answered = false;
		*done = guard_random(&m->seed) & 1;
		return STELE_ERR_CLOSED;
	case DENIED:
		return STELE_ERR_DENIED;
	case BEHIND:
		return STELE_ERR_STALE;
	case MOVED:
		m->fault[disk] = NONE;
		m->moved = true;
		return STELE_ERR_STALE;
	case REFUSES:
		if (record && m->deposits == 1) {
			m->refused[disk] = true;
			return STELE_ERR_REFUSED;
		}
		break;
	}
	*done = true;
	return STELE_OK;
}

static void do_shard(struct model *m, const struct stele_put_action *a)
{
	uint32_t disk = a->disk.node - 1u;
	uint32_t content = m->content[a->piece];
	bool answered, done;
	cr_assert(!m->forgotten[a->piece], "shards of a piece that was forgotten");
	enum stele_err err = attempt(m, disk, false, &answered, &done);
	if (done) {
		m->shard[disk][content][a->item] = true;
		if (a->with_ref)
			m->ref[disk][content] = m->deposits;
	}
	stele_put_step(&m->put, &(struct stele_put_event){.kind = STELE_PUT_SHARD,
	                                                  .block = a->block,
	                                                  .item = a->item,
	                                                  .err = err,
	                                                  .node = a->disk.node,
	                                                  .answered = answered});
}

static void do_refs(struct model *m, const struct stele_put_action *a)
{
	uint32_t disk = a->disk.node - 1u, block[STELE_PIECES_MAX];
	uint8_t code[STELE_PIECES_MAX];
	bool answered, done;
	uint32_t n = stele_put_refs(&m->put, a->disk, block);
	enum stele_err err = attempt(m, disk, false, &answered, &done);
	cr_assert(n > 0, "an empty batch of references");
	for (uint32_t i = 0; i < n && done; i++) {
		uint32_t content = m->put.block[block[i]].id.b[0] - 1u;
		bool any = false;
		for (uint32_t s = 0; s < STELE_CODE_N_MAX; s++)
			any |= m->shard[disk][content][s];
		code[i] = any ? STELE_OK : STELE_ERR_NOT_FOUND;
		if (any)
			m->ref[disk][content] = m->deposits;
	}
	stele_put_step(&m->put, &(struct stele_put_event){.kind = STELE_PUT_REFS_DONE,
	                                                  .disk = a->disk,
	                                                  .err = err,
	                                                  .node = a->disk.node,
	                                                  .answered = answered,
	                                                  .code = code,
	                                                  .ncodes = n});
}

static void do_record(struct model *m, const struct stele_put_action *a)
{
	uint32_t disk = a->disk.node - 1u;
	bool answered, done;
	enum stele_err err = attempt(m, disk, true, &answered, &done);
	if (done)
		m->record[disk] = m->deposits;
	stele_put_step(&m->put, &(struct stele_put_event){.kind = STELE_PUT_RECORD_DONE,
	                                                  .item = a->item,
	                                                  .err = err,
	                                                  .node = a->disk.node,
	                                                  .answered = answered});
}

static void do_read(struct model *m, const struct stele_put_action *a)
{
	struct stele_put_event ev = {.kind = STELE_PUT_READ};
	cr_assert_eq(a->piece, m->read);
	m->in_memory++;
	cr_assert_leq(m->in_memory, STELE_PUT_PIECES_IN_MEMORY, "too much in memory");
	if (m->npieces == 0) {
		ev.len = m->small_len;
		ev.eof = true;
	} else if (m->read < m->npieces) {
		/* The last piece ends early, or exactly, in which case the end shows only later. */
		bool last = m->read == m->npieces - 1;
		ev.len = last && m->seed & 1 ? 70000 : BLOCK_LEN;
		ev.eof = ev.len < BLOCK_LEN;
		m->read++;
	} else {
		ev.eof = true;
		m->in_memory--;
	}
	stele_put_step(&m->put, &ev);
}

static void do_code(struct model *m, const struct stele_put_action *a)
{
	struct stele_hash id;
	block_id(m->content[a->piece], &id);
	stele_put_step(&m->put, &(struct stele_put_event){
	                            .kind = STELE_PUT_CODED, .id = &id, .len = BLOCK_LEN});
}

static void carry_out(struct model *m, const struct stele_put_action *a)
{
	struct stele_hash object = {{0x77}};
	switch (a->kind) {
	case STELE_PUT_DO_READ:
		do_read(m, a);
		break;
	case STELE_PUT_DO_CODE:
		do_code(m, a);
		break;
	case STELE_PUT_DO_DEPOSIT:
		m->deposits++;
		stele_put_step(
		    &m->put, &(struct stele_put_event){.kind = STELE_PUT_DEPOSITED, .id = &object});
		break;
	case STELE_PUT_DO_SHARD:
		do_shard(m, a);
		break;
	case STELE_PUT_DO_REFS:
		do_refs(m, a);
		break;
	case STELE_PUT_DO_RECORD:
		do_record(m, a);
		break;
	case STELE_PUT_DO_RELOAD:
		m->rotation += m->moved;
		stele_put_step(
		    &m->put, &(struct stele_put_event){.kind = STELE_PUT_MAP, .changed = m->moved});
		m->moved = false;
		break;
	case STELE_PUT_DO_FORGET:
	case STELE_PUT_DO_END:
		break;
	}
}

static void take_actions(struct model *m)
{
	struct stele_put_action a;
	while (stele_put_next(&m->put, &a)) {
		cr_assert(!m->ended, "an action after the end");
		if (a.kind == STELE_PUT_DO_END) {
			m->ended = true;
		} else if (a.kind == STELE_PUT_DO_FORGET) {
			cr_assert(!m->forgotten[a.piece]);
			m->forgotten[a.piece] = true;
			m->in_memory--;
		} else {
			cr_assert_lt(m->nqueue, 4096u);
			m->queue[m->nqueue++] = a;
		}
	}
}

static uint64_t held(struct model *m, uint32_t content, uint32_t n)
{
	struct stele_hash id;
	uint64_t mask = 0;
	block_id(content, &id);
	for (uint32_t d = 0; d < m->ndisks; d++)
		for (uint32_t s = 0; s < n; s++)
			if (m->shard[d][content][s] && m->ref[d][content] == m->deposits &&
			    in_window(m, false, &id, d))
				mask |= 1ull << s;
	return mask;
}

/* Invariant 1: acknowledged means that much is there. */
static void check_end(struct model *m, const char *what)
{
	const struct stele_put *put = &m->put;
	const struct stele_code *code = put->config.code;
	struct stele_hash object = {{0x77}};
	cr_assert(m->ended, "%s: the put neither ended nor goes on", what);
	if (put->err != STELE_OK && put->err != STELE_ERR_DEGRADED) {
		cr_assert(put->err == STELE_ERR_UNAVAILABLE || put->err == STELE_ERR_DENIED,
		          "%s: %s", what, stele_err_name(put->err));
		cr_assert(put->detail[0] != '\0');
		return;
	}
	uint32_t copies = 0;
	for (uint32_t d = 0; d < m->ndisks; d++)
		copies += m->record[d] == m->deposits && in_window(m, true, &object, d);
	int margin = (int)copies - 1;
	for (uint32_t i = 0; i < m->npieces; i++) {
		int mine = stele_code_margin(code, held(m, m->content[i], stele_code_n(code)));
		margin = mine < margin ? mine : margin;
	}
	cr_assert_geq(margin, put->margin, "%s: %d losses are survived, %d were stated", what,
	              margin, put->margin);
	cr_assert_geq(put->margin, (int)put->config.min_margin, "%s", what);
	/* Full width, which equals the whole margin: the record's copies lose 2, shards the code's
	 * t. */
	int full = m->npieces == 0 || stele_code_t(code) > 2 ? 2 : (int)stele_code_t(code);
	if (put->err == STELE_OK)
		cr_assert_eq(put->margin, full, "%s: OK at margin %d", what, put->margin);
	else if (stele_code_t(code) <= 2)
		cr_assert(put->margin < 2, "%s: degraded at margin %d", what, put->margin);
}

static void run(struct model *m, const char *code_name, const char *what)
{
	struct stele_put_config config = {.min_margin = 1,
	                                  .copies = 3,
	                                  .block_len = BLOCK_LEN,
	                                  .length = UINT64_MAX,
	                                  .place = place,
	                                  .ctx = m};
	cr_assert_eq(stele_code_find_name(code_name, &config.code), STELE_OK);
	cr_assert_eq(stele_put_init(&m->put, &config), STELE_OK);
	take_actions(m);
	for (uint32_t steps = 0; m->nqueue > 0 && !m->ended; steps++) {
		cr_assert_lt(steps, 20000u, "%s: the put does not end", what);
		uint32_t i = (uint32_t)(guard_random(&m->seed) % m->nqueue);
		struct stele_put_action a = m->queue[i];
		m->queue[i] = m->queue[--m->nqueue];
		carry_out(m, &a);
		take_actions(m);
	}
	check_end(m, what);
}

static struct model *model_create(uint64_t seed, uint32_t ndisks, uint32_t window)
{
	struct model *m = calloc(1, sizeof(*m));
	cr_assert(m);
	m->seed = seed * 2654435761u + 1;
	m->ndisks = ndisks;
	m->window = window;
	for (uint32_t i = 0; i < BLOCKS_MAX; i++)
		m->content[i] = i;
	return m;
}

static void model_destroy(struct model *m)
{
	stele_put_finish(&m->put);
	free(m);
}

struct shape {
	const char *name;
	uint32_t npieces, small_len;
	bool repeats; /* the third piece equals the first */
};
static const struct shape shapes[] = {
    {"empty", 0, 0, false},      {"small", 0, 65536, false},  {"one block", 1, 0, false},
    {"two blocks", 2, 0, false}, {"five blocks", 5, 0, true},
};
#define NSHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void set_shape(struct model *m, const struct shape *s)
{
	m->npieces = s->npieces;
	m->small_len = s->small_len;
	if (s->repeats)
		m->content[2] = 0;
}

Test(put, nothing_fails)
{
	for (uint32_t s = 0; s < NSHAPES; s++)
		for (uint64_t seed = 0; seed < 20; seed++) {
			struct model *m = model_create(seed, 10, 10);
			set_shape(m, &shapes[s]);
			run(m, "rs-4-2", shapes[s].name);
			cr_assert_eq(m->put.err, STELE_OK);
			cr_assert_eq(m->deposits, 1u);
			if (shapes[s].npieces == 1) /* shards, then references, then the record */
				cr_assert_eq(m->calls, 6u + 6u + 3u);
			if (shapes[s].npieces == 0)
				cr_assert_eq(m->calls, 3u);
			model_destroy(m);
		}
}

/* Every disk, every fault, from every call on, for good or for a while; with spares it must end at
 * full width. */
Test(put, one_faulty_disk)
{
	for (uint32_t s = 0; s < NSHAPES; s++)
		for (enum fault f = DOWN; f <= REFUSES; f++)
			for (uint32_t disk = 0; disk < 10; disk++)
				for (uint32_t from = 0; from < 48; from++) {
					char what[96];
					snprintf(what, sizeof(what),
					         "%s, fault %d of disk %u from call %u",
					         shapes[s].name, f, disk, from);
					struct model *m = model_create(from * 31 + disk, 10, 10);
					set_shape(m, &shapes[s]);
					m->fault[disk] = f;
					m->from[disk] = from;
					m->to[disk] = from % 3 ? NEVER : from + 2;
					run(m, "rs-4-2", what);
					/* Not full: a holder gone after its block's bytes were
					 * forgotten, or a window that moved then. */
					if (shapes[s].npieces <= 1)
						cr_assert_eq(m->put.err, STELE_OK, "%s: %s", what,
						             m->put.detail);
					model_destroy(m);
				}
}

Test(put, any_two_disks_down_at_the_start)
{
	for (uint32_t s = 0; s < NSHAPES; s++)
		for (uint32_t a = 0; a < 10; a++)
			for (uint32_t b = 0; b < a; b++) {
				struct model *m = model_create(a * 10 + b, 10, 10);
				set_shape(m, &shapes[s]);
				m->fault[a] = DOWN;
				m->fault[b] = HUNG;
				m->to[a] = m->to[b] = NEVER;
				run(m, "rs-4-2", shapes[s].name);
				cr_assert_eq(m->put.err, STELE_OK);
				model_destroy(m);
			}
}

/* Six disks for six shards: one down is a degraded put, two are too many for min_margin 1. */
Test(put, no_spares)
{
	for (uint32_t down = 0; down <= 2; down++) {
		struct model *m = model_create(down, 6, 6);
		m->npieces = 1;
		for (uint32_t d = 0; d < down; d++) {
			m->fault[d] = d ? FULL : DOWN;
			m->to[d] = NEVER;
		}
		run(m, "rs-4-2", "no spares");
		enum stele_err want[] = {STELE_OK, STELE_ERR_DEGRADED, STELE_ERR_UNAVAILABLE};
		cr_assert_eq(m->put.err, want[down], "%u down: %s %s", down,
		             stele_err_name(m->put.err), m->put.detail);
		if (down == 2)
			cr_assert(strstr(m->put.detail, "node 1 disk 0: unavailable"), "%s",
			          m->put.detail);
		model_destroy(m);
	}
}

/* The record alone: three copies wanted, two suffice, one does not. */
Test(put, too_few_disks_for_the_record)
{
	for (uint32_t down = 0; down <= 6; down++) {
		struct model *m = model_create(down, 6, 6);
		m->small_len = 100;
		for (uint32_t d = 0; d < down; d++) {
			m->fault[d] = FULL;
			m->to[d] = NEVER;
		}
		run(m, "rs-4-2", "record");
		cr_assert_eq(m->put.err, down <= 3   ? STELE_OK
					 : down == 4 ? STELE_ERR_DEGRADED
						     : STELE_ERR_UNAVAILABLE);
		model_destroy(m);
	}
}

Test(put, no_role)
{
	struct model *m = model_create(1, 10, 10);
	m->npieces = 3;
	for (uint32_t d = 0; d < 10; d++) {
		m->fault[d] = DENIED;
		m->to[d] = NEVER;
	}
	run(m, "rs-4-2", "no role");
	cr_assert_eq(m->put.err, STELE_ERR_DENIED, "%s %s", stele_err_name(m->put.err),
	             m->put.detail);
	model_destroy(m);
}

/* P3: refused for good; a second deposit stands, and every reference is its. */
Test(put, refused_starts_over)
{
	for (uint32_t s = 0; s < NSHAPES; s++)
		for (uint32_t disk = 0; disk < 10; disk++) {
			struct model *m = model_create(disk, 10, 10);
			set_shape(m, &shapes[s]);
			m->fault[disk] = REFUSES;
			m->to[disk] = NEVER;
			run(m, "rs-4-2", "refused");
			cr_assert_eq(m->put.err, STELE_OK);
			cr_assert_eq(m->deposits, m->refused[disk] ? 2u : 1u);
			model_destroy(m);
		}
}

/* A hung node costs its time limit once; for later blocks it is asked last, with a short limit. */
Test(put, hung_node_is_asked_last)
{
	struct model *m = model_create(3, 10, 10);
	m->npieces = 8;
	m->fault[4] = HUNG;
	m->to[4] = NEVER;
	struct stele_put_config config = {.min_margin = 1,
	                                  .copies = 3,
	                                  .block_len = BLOCK_LEN,
	                                  .length = UINT64_MAX,
	                                  .place = place,
	                                  .ctx = m};
	cr_assert_eq(stele_code_find_name("rs-4-2", &config.code), STELE_OK);
	cr_assert_eq(stele_put_init(&m->put, &config), STELE_OK);
	uint32_t asked = 0;
	take_actions(m);
	while (m->nqueue > 0) {
		struct stele_put_action a = m->queue[0];
		memmove(m->queue, m->queue + 1, --m->nqueue * sizeof(a));
		asked += a.kind == STELE_PUT_DO_SHARD && a.disk.node == 5;
		carry_out(m, &a);
		take_actions(m);
	}
	cr_assert_eq(m->put.err, STELE_OK);
	cr_assert_leq(asked, STELE_PUT_PIECES_IN_MEMORY);
	model_destroy(m);
}

Test(put, too_large_is_said_before_anything_is_sent)
{
	struct stele_put put;
	struct stele_put_config config = {.min_margin = 1,
	                                  .copies = 3,
	                                  .block_len = BLOCK_LEN,
	                                  .length = (uint64_t)BLOCK_LEN * 1024 + 1,
	                                  .place = place};
	cr_assert_eq(stele_code_find_name("rs-4-2", &config.code), STELE_OK);
	cr_assert_eq(stele_put_init(&put, &config), STELE_ERR_TOO_LARGE);
	config.length--;
	cr_assert_eq(stele_put_init(&put, &config), STELE_OK);
	stele_put_finish(&put);
}

Test(put, source_fails)
{
	struct model *m = model_create(1, 10, 10);
	m->npieces = 3;
	struct stele_put_config config = {.min_margin = 1,
	                                  .copies = 3,
	                                  .block_len = BLOCK_LEN,
	                                  .length = UINT64_MAX,
	                                  .place = place,
	                                  .ctx = m};
	cr_assert_eq(stele_code_find_name("rs-4-2", &config.code), STELE_OK);
	cr_assert_eq(stele_put_init(&m->put, &config), STELE_OK);
	take_actions(m);
	stele_put_step(&m->put, &(struct stele_put_event){
	                            .kind = STELE_PUT_FAIL, .err = STELE_ERR_IO, .detail = "disk"});
	take_actions(m);
	cr_assert(m->ended);
	cr_assert_eq(m->put.err, STELE_ERR_IO);
	cr_assert_str_eq(m->put.detail, "disk");
	model_destroy(m);
}

/* Many faults at once, windows with and without spares, several codes. */
Test(put, seeds)
{
	static const char *codes[] = {"rs-4-2", "rep-3", "lrc-4-2-2", "rs-2-1"};
	uint32_t outcome[3] = {0};
	for (uint64_t seed = 0; seed < 12000; seed++) {
		char what[64];
		uint64_t r = seed + 1;
		uint32_t ndisks = 6 + (uint32_t)(guard_random(&r) % 7);
		struct model *m =
		    model_create(seed, ndisks, 6 + (uint32_t)(guard_random(&r) % (ndisks - 5)));
		set_shape(m, &shapes[guard_random(&r) % NSHAPES]);
		for (uint32_t d = 0; d < ndisks; d++) {
			if (guard_random(&r) % 3)
				continue;
			m->fault[d] = 1 + (enum fault)(guard_random(&r) % REFUSES);
			m->from[d] = (uint32_t)(guard_random(&r) % 60);
			m->to[d] = guard_random(&r) & 1
			               ? NEVER
			               : m->from[d] + (uint32_t)(guard_random(&r) % 40);
		}
		snprintf(what, sizeof(what), "seed %llu", (unsigned long long)seed);
		run(m, codes[guard_random(&r) % 4], what);
		outcome[m->put.err == STELE_OK ? 0 : m->put.err == STELE_ERR_DEGRADED ? 1 : 2]++;
		model_destroy(m);
	}
	/* The faults must reach every outcome, or this shows nothing. */
	cr_assert(outcome[0] > 1000 && outcome[1] > 300 && outcome[2] > 300, "%u %u %u", outcome[0],
	          outcome[1], outcome[2]);
}
