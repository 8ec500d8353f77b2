/* Goal: a group's health and jobs follow from what its disks hold: exact margins, jobs that restore
 * full width on disks that may take it, nothing for what no reference needs, patience with disks
 * that may come back. A small random cluster is repaired by applying its jobs, and must become
 * whole. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/repair/plan.h"
#include "storage/base/prng.h"

#define W 8u

static struct stele_pool pool = {.id = 16, .name = "p", .code = {STELE_CODE_RS, 4, 2, 0}};
static struct stele_pool records = {
    .id = STELE_POOL_RECORD, .name = "record", .code = {STELE_CODE_REP, 1, 2, 0}};

struct disks {
	struct stele_holding held[W][64];
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
	cr_assert_eq(j.job[0].source.node, 1);
	cr_assert_eq(j.job[0].target.node, 3);
	d.view.disk[0] = d.view.disk[1] = STELE_DISK_DOWN;
	j = plan(&d);
	cr_assert_eq(j.n, 2u, "the record twice; the mark is nowhere to be had");
	cr_assert_eq(j.job[0].target.node, 4);
	cr_assert_eq(j.job[1].target.node, 5);
}

/* Random losses within tolerance, repaired by doing what the jobs say. */
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
		for (int k = 0; k < 2; k++)
			d.view.disk[stele_prng_u64(&rng) % W] = STELE_DISK_DOWN;
		stele_plan_health(&d.view, &h);
		cr_assert_geq(h.margin, 0);
		struct jobs j = plan(&d);
		for (uint32_t i = 0; i < j.n; i++) {
			const struct stele_job *job = &j.job[i];
			uint32_t w = job->target.node - 1u;
			cr_assert_eq(job->kind, STELE_JOB_REBUILD);
			cr_assert_eq(d.view.disk[w], STELE_DISK_LIVE);
			for (uint32_t k = 0; k < d.view.nheld[w]; k++)
				cr_assert_not(d.held[w][k].kind == STELE_ENTRY_SHARD &&
				                  stele_hash_equal(&d.held[w][k].id, &job->id),
				              "one shard of a block per disk");
			hold(&d, w, job->id.b[0], STELE_ENTRY_SHARD, job->index, 0);
			hold(&d, w, job->id.b[0], STELE_ENTRY_REF, 0, 1);
		}
		stele_plan_health(&d.view, &h);
		cr_assert_eq(h.margin, 2);
		cr_assert_eq(h.degraded, 0u);
		cr_assert_eq(h.things, 3u);
	}
}
