/* Goal: a group's health and jobs follow from what its disks hold: exact margins, jobs that restore
 * full width on disks that may take it, nothing for what no reference needs or only dead deposits'
 * references do, patience with disks that may come back. Random groups with losses, spare copies
 * and two shards on a disk are repaired by applying their jobs, and must become whole. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/repair/plan.h"
#include "storage/base/prng.h"

#define W 8u

static struct stele_pool pool = {.id = 16, .name = "p", .code = {STELE_CODE_RS, 4, 2, 0}};
static struct stele_pool records = {
    .id = STELE_POOL_RECORD, .name = "record", .code = {STELE_CODE_REP, 1, 2, 0}};

struct disks {
	struct stele_holding held[W][160];
	struct stele_pg_view view;
};

static void init(struct disks *d, const struct stele_pool *p)
{
	memset(d, 0, sizeof(*d));
	d->view.pool = p;
	cr_assert_eq(stele_code_find(&p->code, &d->view.code), STELE_OK);
	d->view.window.n = W;
	for (uint32_t w = 0; w < W; w++) {
		d->view.window.disk[w] = (struct stele_window_disk){.node = (uint16_t)(w + 1)};
		d->view.disk[w] = STELE_DISK_LIVE;
		d->view.held[w] = d->held[w];
	}
}

static int holding_cmp(const void *a, const void *b)
{
	const struct stele_holding *x = a, *y = b;
	int c = stele_hash_cmp(&x->id, &y->id);
	if (c == 0)
		c = (x->kind > y->kind) - (x->kind < y->kind);
	if (c == 0)
		c = (x->index > y->index) - (x->index < y->index);
	return c ? c : stele_hash_cmp(&x->sub, &y->sub);
}

static struct stele_holding *hold(struct disks *d, uint32_t w, uint8_t id, uint8_t kind,
                                  uint8_t index, uint8_t sub)
{
	struct stele_holding *h = &d->held[w][d->view.nheld[w]++];
	*h = (struct stele_holding){
	    .id = {{id}}, .kind = kind, .index = index, .sub = {{sub}}, .data_len = 100};
	qsort(d->held[w], d->view.nheld[w], sizeof(*h), holding_cmp);
	return h;
}

static void hold_block(struct disks *d, uint8_t id, uint32_t refs)
{
	for (uint8_t i = 0; i < 6; i++) {
		hold(d, i, id, STELE_ENTRY_SHARD, i, 0);
		for (uint32_t r = 0; r < refs; r++)
			hold(d, i, id, STELE_ENTRY_REF, 0, (uint8_t)(r + 1));
	}
}

struct jobs {
	struct stele_job job[64];
	uint32_t n;
};

static bool take(void *ctx, const struct stele_job *job)
{
	struct jobs *j = ctx;
	cr_assert_lt(j->n, 64u);
	j->job[j->n++] = *job;
	return true;
}

static struct stele_hash hash_of(uint8_t first)
{
	return (struct stele_hash){{first}};
}

static struct stele_verdicts *verdicts_on(struct disks *d)
{
	struct stele_verdicts *v;
	cr_assert_eq(stele_verdicts_create(&v), STELE_OK);
	d->view.verdicts = v;
	return v;
}

static void learn(struct stele_verdicts *v, uint8_t deposit, enum stele_verdict verdict)
{
	struct stele_hash h = hash_of(deposit);
	stele_verdicts_learn(v, &h, verdict);
}

struct doubts {
	struct stele_doubt doubt[64];
	uint32_t n;
};

static bool take_doubt(void *ctx, const struct stele_doubt *doubt)
{
	struct doubts *q = ctx;
	cr_assert_lt(q->n, 64u);
	q->doubt[q->n++] = *doubt;
	return true;
}

static struct doubts doubts(const struct disks *d)
{
	struct doubts q = {0};
	stele_plan_doubts(&d->view, take_doubt, &q);
	return q;
}

static struct jobs plan(const struct disks *d)
{
	struct jobs j = {0};
	stele_plan_jobs(&d->view, take, &j);
	return j;
}

Test(plan, whole_group_needs_nothing)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	hold_block(&d, 7, 2);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 1u);
	cr_assert_eq(h.margin, 2);
	cr_assert_eq(h.degraded, 0u);
	cr_assert_eq(h.bytes, 600u);
	cr_assert_eq(plan(&d).n, 0u);
}

Test(plan, two_down_means_margin_zero_and_two_rebuilds_onto_the_next_disks)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	hold_block(&d, 7, 1);
	d.view.disk[0] = d.view.disk[4] = STELE_DISK_DOWN;
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.margin, 0);
	cr_assert_eq(h.degraded, 1u);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 2u);
	cr_assert_eq(j.job[0].kind, STELE_JOB_REBUILD);
	cr_assert_eq(j.job[0].index, 0);
	cr_assert_eq(j.job[0].target.node, 7); /* window position 6 */
	cr_assert_eq(j.job[1].index, 4);
	cr_assert_eq(j.job[1].target.node, 8);
	cr_assert_eq(j.job[0].nhelpers, 4);
	cr_assert_eq(j.job[0].margin, 0);
	/* within the grace they may come back: wait */
	d.view.disk[0] = d.view.disk[4] = STELE_DISK_WAITING;
	cr_assert_eq(plan(&d).n, 0u);
	/* one waits, but two are missing: begin */
	d.view.disk[4] = STELE_DISK_DOWN;
	cr_assert_eq(plan(&d).n, 2u);
}

Test(plan, beyond_tolerance_is_said_and_left)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	hold_block(&d, 7, 1);
	d.view.disk[0] = d.view.disk[1] = d.view.disk[2] = STELE_DISK_DOWN;
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.margin, -1);
	cr_assert_eq(plan(&d).n, 0u);
}

Test(plan, bad_and_full)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	hold_block(&d, 7, 1);
	for (uint32_t i = 0; i < d.view.nheld[2]; i++)
		if (d.held[2][i].kind == STELE_ENTRY_SHARD)
			d.held[2][i].bad = true;
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.margin, 1);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].index, 2);
	cr_assert_eq(j.job[0].target.node, 3, "a disk with a bad shard may take the good one");
	d.view.disk[2] = STELE_DISK_READS; /* full */
	j = plan(&d);
	cr_assert_eq(j.job[0].target.node, 7);
}

/* A victim stays one until a good copy replaces it, even when the shard is elsewhere meanwhile. */
Test(plan, bad_copies_are_made_good_where_they_are)
{
	struct disks d;
	init(&d, &pool);
	hold_block(&d, 7, 1);
	hold(&d, 7, 7, STELE_ENTRY_SHARD, 2, 0)->bad = true;
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].index, 2);
	cr_assert_eq(j.job[0].target.node, 8);
	init(&d, &records);
	for (uint32_t w = 0; w < 4; w++)
		hold(&d, w, 7, STELE_ENTRY_RECORD, 0, 1)->bad = w == 2;
	j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].target.node, 3);
	cr_assert_eq(j.job[0].nhelpers, 3u, "who has a good one");
	cr_assert_eq(j.job[0].helper[0].node, 1);
	cr_assert_eq(j.job[0].helper[2].node, 4);
}

Test(plan, leftovers_are_neither_counted_nor_repaired)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	hold_block(&d, 7, 0);
	d.view.disk[0] = STELE_DISK_DOWN;
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 0u);
	cr_assert_eq(plan(&d).n, 0u);
}

Test(plan, references_are_made_equal)
{
	struct disks d;
	init(&d, &pool);
	hold_block(&d, 7, 1);
	hold(&d, 3, 7, STELE_ENTRY_REF, 0, 9);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 5u);
	for (uint32_t i = 0; i < j.n; i++) {
		cr_assert_eq(j.job[i].kind, STELE_JOB_REFS);
		cr_assert_eq(j.job[i].source.node, 4);
		cr_assert_neq(j.job[i].target.node, 4);
	}
}

/* However many there are: as many as the others have is not the same ones. */
Test(plan, many_references_are_compared_one_by_one)
{
	struct disks d;
	init(&d, &pool);
	struct stele_verdicts *v = verdicts_on(&d);
	hold_block(&d, 7, 100);
	cr_assert_eq(plan(&d).n, 0u);
	for (uint32_t i = 0; i < d.view.nheld[3]; i++)
		if (d.held[3][i].kind == STELE_ENTRY_REF && d.held[3][i].sub.b[0] == 100)
			d.held[3][i].sub.b[0] = 200; /* the order stays */
	struct doubts q = doubts(&d);
	cr_assert_eq(q.n, 2u);
	cr_assert_eq(q.doubt[0].source.node, 1);
	cr_assert_eq(q.doubt[1].source.node, 4, "it alone knows of one");
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 6u);
	for (uint32_t i = 0; i < j.n; i++)
		cr_assert_eq(j.job[i].source.node, j.job[i].target.node == 4 ? 1 : 4);
	stele_verdicts_destroy(v);
}

Test(plan, dead_references_are_none_and_open_ones_do_not_count)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	struct stele_verdicts *v = verdicts_on(&d);
	hold_block(&d, 7, 1);
	hold(&d, 3, 7, STELE_ENTRY_REF, 0, 9);
	learn(v, 9, STELE_VERDICT_DEAD);
	cr_assert_eq(plan(&d).n, 0u, "a dead reference is not healed");
	d.view.disk[0] = STELE_DISK_DOWN;
	learn(v, 1, STELE_VERDICT_OPEN);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 0u, "nobody was promised anything yet");
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u, "but its record may come");
	cr_assert_eq(j.job[0].kind, STELE_JOB_REBUILD);
	learn(v, 1, STELE_VERDICT_LIVE);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 1u);
	cr_assert_eq(h.margin, 1);
	learn(v, 1, STELE_VERDICT_DEAD);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 0u);
	cr_assert_eq(plan(&d).n, 0u);
	stele_verdicts_destroy(v);
}

Test(plan, doubts)
{
	struct disks d;
	init(&d, &pool);
	struct stele_verdicts *v = verdicts_on(&d);
	hold_block(&d, 7, 1);
	cr_assert_eq(doubts(&d).n, 0u, "whole and agreed: it does not matter");
	d.view.disk[0] = STELE_DISK_DOWN;
	struct doubts q = doubts(&d);
	cr_assert_eq(q.n, 1u);
	cr_assert_eq(q.doubt[0].source.node, 2, "the first that answers and knows");
	cr_assert_eq(q.doubt[0].block.b[0], 7);
	learn(v, 1, STELE_VERDICT_LIVE);
	cr_assert_eq(doubts(&d).n, 0u);
	hold(&d, 3, 7, STELE_ENTRY_REF, 0, 9);
	q = doubts(&d);
	cr_assert_eq(q.n, 1u, "one reference that others lack");
	cr_assert_eq(q.doubt[0].source.node, 4);
	learn(v, 9, STELE_VERDICT_OPEN);
	cr_assert_eq(doubts(&d).n, 0u);
	stele_verdicts_destroy(v);
}

Test(plan, two_shards_on_one_disk_count_once)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &pool);
	for (uint8_t i = 0; i < 6; i++) {
		hold(&d, i == 5 ? 4 : i, 7, STELE_ENTRY_SHARD, i, 0);
		hold(&d, i, 7, STELE_ENTRY_REF, 0, 1);
	}
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.margin, 1);
	cr_assert_eq(h.degraded, 1u);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].kind, STELE_JOB_REBUILD);
	cr_assert_eq(j.job[0].nhelpers, 6, "a copy beside another is good to read");
	cr_assert_eq(j.job[0].target.node, 7, "the first disk with nothing of the block");
	/* all but one on one disk: readable, and bears no loss */
	init(&d, &pool);
	for (uint8_t i = 0; i < 5; i++)
		hold(&d, i / 4, 7, STELE_ENTRY_SHARD, i, 0);
	hold(&d, 0, 7, STELE_ENTRY_REF, 0, 1);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.margin, 0);
	cr_assert_geq(plan(&d).n, 4u);
}

/* Spare copies must not stand in the way of a missing shard. */
Test(plan, a_disk_with_only_spare_copies_takes_a_missing_shard)
{
	struct disks d;
	static const uint8_t at[][2] = {{0, 3}, {0, 5}, {1, 0}, {2, 3}, {3, 5},
	                                {4, 3}, {5, 2}, {6, 1}, {7, 1}};
	init(&d, &pool);
	for (uint32_t i = 0; i < 9; i++)
		hold(&d, at[i][0], 7, STELE_ENTRY_SHARD, at[i][1], 0);
	for (uint32_t w = 0; w < W; w++)
		hold(&d, w, 7, STELE_ENTRY_REF, 0, 1);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].index, 4);
}

/* All refusals together are a decision, so each is kept on every disk, unless there is a record. */
Test(plan, refusals_are_healed_onto_every_disk)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &records);
	for (uint32_t w = 0; w < W; w++)
		if (w != 2 && w != 5)
			hold(&d, w, 7, STELE_ENTRY_REFUSE, 0, 1);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 2u);
	cr_assert_eq(j.job[0].entry_kind, STELE_ENTRY_REFUSE);
	cr_assert_eq(j.job[0].target.node, 3);
	cr_assert_eq(j.job[1].target.node, 6);
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 0u);
	hold(&d, 2, 7, STELE_ENTRY_RECORD, 0, 1);
	j = plan(&d);
	cr_assert_eq(j.n, 2u, "the record's own copies");
	cr_assert_eq(j.job[0].entry_kind, STELE_ENTRY_RECORD);
}

Test(plan, records_and_marks)
{
	struct disks d;
	struct stele_pg_health h;
	init(&d, &records);
	for (uint32_t w = 0; w < 3; w++) {
		hold(&d, w, 7, STELE_ENTRY_RECORD, 0, 1);
		if (w < 2)
			hold(&d, w, 7, STELE_ENTRY_MARK, 0, 2);
	}
	stele_plan_health(&d.view, &h);
	cr_assert_eq(h.things, 2u);
	cr_assert_eq(h.degraded, 1u);
	cr_assert_eq(h.margin, 1);
	struct jobs j = plan(&d);
	cr_assert_eq(j.n, 1u);
	cr_assert_eq(j.job[0].kind, STELE_JOB_COPY);
	cr_assert_eq(j.job[0].entry_kind, STELE_ENTRY_MARK);
	cr_assert_eq(j.job[0].nhelpers, 2u);
	cr_assert_eq(j.job[0].helper[0].node, 1);
	cr_assert_eq(j.job[0].helper[1].node, 2);
	cr_assert_eq(j.job[0].target.node, 3);
	d.view.disk[0] = d.view.disk[1] = STELE_DISK_DOWN;
	j = plan(&d);
	cr_assert_eq(j.n, 2u, "the record twice; the mark is nowhere to be had");
	cr_assert_eq(j.job[0].target.node, 4);
	cr_assert_eq(j.job[1].target.node, 5);
}

/* Does every block lie on disks of their own, in a way that any two may go? By brute force. */
static bool any_two_may_go(const struct disks *d, uint8_t id)
{
	for (uint32_t x = 0; x < W; x++)
		for (uint32_t y = 0; y < W; y++) {
			uint64_t have = 0;
			for (uint32_t w = 0; w < W; w++)
				for (uint32_t i = 0; i < d->view.nheld[w]; i++) {
					const struct stele_holding *h = &d->held[w][i];
					if (w != x && w != y &&
					    d->view.disk[w] == STELE_DISK_LIVE &&
					    h->kind == STELE_ENTRY_SHARD && h->id.b[0] == id)
						have |= 1ull << h->index;
				}
			if (stele_code_margin(d->view.code, have) < 0)
				return false;
		}
	return true;
}

static void apply(struct disks *d, const struct jobs *j)
{
	for (uint32_t i = 0; i < j->n; i++) {
		const struct stele_job *job = &j->job[i];
		uint32_t w = job->target.node - 1u;
		cr_assert_eq(d->view.disk[w], STELE_DISK_LIVE);
		if (job->kind == STELE_JOB_REFS) {
			hold(d, w, job->id.b[0], STELE_ENTRY_REF, 0, 1);
			continue;
		}
		cr_assert_eq(job->kind, STELE_JOB_REBUILD);
		for (uint32_t k = 0; k < d->view.nheld[w]; k++)
			cr_assert_not(d->held[w][k].kind == STELE_ENTRY_SHARD &&
			              d->held[w][k].index == job->index &&
			              stele_hash_equal(&d->held[w][k].id, &job->id));
		hold(d, w, job->id.b[0], STELE_ENTRY_SHARD, job->index, 0);
		hold(d, w, job->id.b[0], STELE_ENTRY_REF, 0, 1);
	}
}

/* Random losses within tolerance, and random spare copies anywhere, repaired by doing what the jobs
 * say: one round must do. */
Test(plan, repaired_groups_are_whole)
{
	struct stele_prng rng;
	stele_prng_init(&rng, 42);
	for (int round = 0; round < 2000; round++) {
		struct disks d;
		struct stele_pg_health h;
		init(&d, &pool);
		for (uint8_t id = 1; id <= 3; id++)
			hold_block(&d, id, 1 + (uint32_t)(stele_prng_u64(&rng) % 2));
		for (int k = 0; k < round % 5; k++) {
			uint32_t w = (uint32_t)(stele_prng_u64(&rng) % W);
			hold(&d, w, (uint8_t)(1 + stele_prng_u64(&rng) % 3), STELE_ENTRY_SHARD,
			     (uint8_t)(stele_prng_u64(&rng) % 6), 0);
		}
		for (int k = 0; k < 2; k++)
			d.view.disk[stele_prng_u64(&rng) % W] = STELE_DISK_DOWN;
		stele_plan_health(&d.view, &h);
		cr_assert_geq(h.margin, 0);
		struct jobs j = plan(&d);
		apply(&d, &j);
		stele_plan_health(&d.view, &h);
		cr_assert_eq(h.margin, 2);
		cr_assert_eq(h.degraded, 0u);
		cr_assert_eq(h.things, 3u);
		for (uint8_t id = 1; id <= 3; id++)
			cr_assert(any_two_may_go(&d, id));
	}
}
