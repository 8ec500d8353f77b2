/* Gathers what the disks of this node's groups hold: roll call -> digests -> lists of what changed
 * -> whether doubtful blocks' deposits live. What a group needs is plan.c's to say. */
#include "net/repair/inventory_private.h"

#include <assert.h>
#include <stdlib.h>

/* ---- memory ---- */

static void group_finish(struct stele_inv_group *g)
{
	for (uint32_t w = 0; g->cached && w < g->view.window.n; w++)
		free(g->cached[w].held);
	free(g->cached);
}

static void drop_groups(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < inv->ngroups; i++)
		group_finish(&inv->group[i]);
	free(inv->group);
	for (uint32_t p = 0; p < STELE_POOLS_MAX; p++) {
		free(inv->group_at[p]);
		inv->group_at[p] = NULL;
	}
	inv->group = NULL;
	inv->ngroups = inv->groups_cap = 0;
}

enum stele_err stele_inventory_create(struct stele_env *env, struct stele_peers *peers,
                                      struct stele_slots *slots, uint16_t node,
                                      struct stele_inventory **out)
{
	struct stele_inventory *inv = calloc(1, sizeof(*inv));
	if (!inv)
		return stele_fail(STELE_ERR_NOMEM, "inventory: out of memory");
	*inv = (struct stele_inventory){.env = env, .peers = peers, .slots = slots, .node = node};
	enum stele_err err = stele_verdicts_create(&inv->verdicts);
	if (err != STELE_OK) {
		free(inv);
		return err;
	}
	for (uint32_t i = 0; i < STELE_INV_TASKS; i++) {
		struct stele_inv_task *t = &inv->task[i];
		t->inv = inv;
		t->head = malloc(STELE_INV_HEAD);
		t->into = malloc(STELE_INV_INTO);
		t->group = calloc(STELE_DIGEST_PGS_MAX, sizeof(*t->group));
		t->pgs = calloc(STELE_DIGEST_PGS_MAX, 4);
		if (!t->head || !t->into || !t->group || !t->pgs) {
			stele_inventory_destroy(inv);
			return stele_fail(STELE_ERR_NOMEM, "inventory: out of memory");
		}
	}
	*out = inv;
	return STELE_OK;
}

void stele_inventory_destroy(struct stele_inventory *inv)
{
	if (!inv)
		return;
	assert(!inv->run);
	drop_groups(inv);
	for (uint32_t i = 0; i < STELE_INV_TASKS; i++) {
		free(inv->task[i].head);
		free(inv->task[i].into);
		free(inv->task[i].group);
		free(inv->task[i].pgs);
	}
	stele_judge_finish(&inv->judge);
	stele_verdicts_destroy(inv->verdicts);
	free(inv->seen);
	stele_map_unref(inv->map);
	free(inv);
}

bool stele_inventory_running(const struct stele_inventory *inv)
{
	return inv->run != NULL;
}

static void finish(struct stele_inventory *inv, enum stele_err err)
{
	struct stele_inventory_run *run = inv->run;
	stele_roll_finish(&inv->roll);
	inv->run = NULL;
	run->err = inv->cancelled ? STELE_ERR_CANCELLED : err;
	run->cb(run);
}

/* ---- doubts, and the end ---- */

static bool take_doubt(void *ctx, const struct stele_doubt *doubt)
{
	struct stele_inventory *inv = ctx;
	return stele_judge_add(&inv->judge, doubt) == STELE_OK;
}

static void judged(struct stele_judge *judge)
{
	finish(judge->ctx, STELE_OK);
}

void stele_inventory_asked(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < inv->ngroups; i++) {
		struct stele_inv_group *g = &inv->group[i];
		for (uint32_t w = 0; w < g->view.window.n; w++) {
			g->view.held[w] = g->cached[w].held;
			g->view.nheld[w] = g->cached[w].known ? g->cached[w].n : 0;
		}
		if (g->primary && !inv->cancelled)
			stele_plan_doubts(&g->view, take_doubt, inv);
	}
	inv->judge.peers = inv->peers;
	inv->judge.roll = &inv->roll;
	inv->judge.verdicts = inv->verdicts;
	inv->judge.cb = judged;
	inv->judge.ctx = inv;
	if (inv->judge.n == 0 || stele_judge_start(&inv->judge) != STELE_OK)
		finish(inv, STELE_OK); /* unjudged: taken for live */
}

/* ---- which groups are ours ---- */

static bool refilling_member(const struct stele_inventory *inv, const struct stele_pool *pool,
                             const struct stele_window *w)
{
	if (pool->id != STELE_POOL_RECORD)
		return false;
	for (uint32_t i = 0; i < w->n; i++)
		if (w->disk[i].node == inv->node &&
		    stele_slots_refilling(inv->slots, w->disk[i].slot))
			return true;
	return false;
}

static struct stele_inv_group *add_group(struct stele_inventory *inv)
{
	if (inv->ngroups == inv->groups_cap) {
		uint32_t cap = inv->groups_cap ? 2 * inv->groups_cap : 64;
		struct stele_inv_group *group = realloc(inv->group, cap * sizeof(*group));
		if (!group)
			return NULL;
		inv->group = group;
		inv->groups_cap = cap;
	}
	struct stele_inv_group *g = &inv->group[inv->ngroups];
	memset(g, 0, sizeof(*g));
	return g;
}

static enum stele_disk_view judge(const struct stele_inventory *inv, const struct stele_inv_seen *s,
                                  uint64_t now)
{
	if (s->answers)
		return s->full ? STELE_DISK_READS : STELE_DISK_LIVE;
	bool fresh = inv->run->grace_ns && now - s->down_since < inv->run->grace_ns;
	return fresh ? STELE_DISK_WAITING : STELE_DISK_DOWN;
}

/* Is the group ours now, and how do its disks look? Groups stay in the array (with their caches)
 * while the map does. */
static enum stele_err consider(struct stele_inventory *inv, uint32_t pool_at, uint32_t pg)
{
	const struct stele_pool *pool = &inv->map->pool[pool_at];
	struct stele_window win;
	uint64_t fence, now = stele_env_now(inv->env);
	stele_place(inv->map, pool, pg, stele_window_width(&pool->code), &win, &fence);
	bool primary = false;
	for (uint32_t i = 0; i < win.n; i++)
		if (inv->seen[stele_roll_index(inv->map, win.disk[i])].answers) {
			primary = win.disk[i].node == inv->node;
			break;
		}
	if (!primary && !refilling_member(inv, pool, &win))
		return STELE_OK;
	uint32_t *at = &inv->group_at[pool_at][pg];
	struct stele_inv_group *g = *at ? &inv->group[*at - 1] : NULL;
	if (!g) {
		g = add_group(inv);
		if (!g)
			return STELE_ERR_NOMEM;
		g->pool_at = (uint16_t)pool_at;
		g->view = (struct stele_pg_view){
		    .pool = pool, .pg = pg, .window = win, .verdicts = inv->verdicts};
		g->cached = calloc(win.n ? win.n : 1, sizeof(*g->cached));
		if (!g->cached || stele_code_find(&pool->code, &g->view.code) != STELE_OK) {
			free(g->cached);
			return STELE_ERR_NOMEM;
		}
		*at = ++inv->ngroups;
		for (uint32_t i = 0; i < win.n; i++)
			g->disk_at[i] = stele_roll_index(inv->map, win.disk[i]);
	}
	g->active = true;
	g->primary = primary;
	for (uint32_t i = 0; i < win.n; i++)
		g->view.disk[i] = judge(inv, &inv->seen[g->disk_at[i]], now);
	return STELE_OK;
}

static void select_groups(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < inv->ngroups; i++)
		inv->group[i].active = inv->group[i].primary = false;
	for (uint32_t p = 0; p < inv->map->npools; p++)
		for (uint32_t pg = 0; pg < 1u << inv->map->pool[p].pgs_log2; pg++)
			if (consider(inv, p, pg) != STELE_OK) {
				finish(inv, STELE_ERR_NOMEM);
				return;
			}
	stele_inventory_ask(inv);
}

/* ---- who answers ---- */

static void called(struct stele_roll *roll)
{
	struct stele_inventory *inv = roll->ctx;
	uint64_t now = stele_env_now(inv->env);
	for (uint32_t i = 0; i < inv->map->ndisks; i++) {
		const struct stele_roll_disk *d = &roll->disk[i];
		struct stele_inv_seen *s = &inv->seen[i];
		s->answers = stele_roll_serves(d);
		s->full = d->state == STELE_SLOT_FULL || d->state == STELE_SLOT_REFILLING_FULL;
		if (!s->answers) {
			if (s->down_since == 0)
				s->down_since = now;
			continue;
		}
		s->down_since = 0;
		if (!stele_uuid_equal(&s->uuid,
		                      &d->uuid)) /* the only record may have gone with it */
			stele_verdicts_forget(inv->verdicts);
		s->uuid = d->uuid;
	}
	select_groups(inv);
}

/* The map may have changed: groups and what was seen of disks belong to one map. */
static bool take_map(struct stele_inventory *inv)
{
	struct stele_map *map = stele_peers_map(inv->peers);
	if (inv->map == map)
		return true;
	struct stele_inv_seen *seen = calloc(map->ndisks ? map->ndisks : 1, sizeof(*seen));
	if (!seen)
		return false;
	drop_groups(inv);
	free(inv->seen);
	stele_map_unref(inv->map);
	inv->map = NULL;
	inv->seen = seen;
	inv->map = stele_map_ref(map);
	for (uint32_t p = 0; p < map->npools; p++) {
		inv->group_at[p] = calloc((size_t)1 << map->pool[p].pgs_log2, sizeof(uint32_t));
		if (!inv->group_at[p]) {
			stele_map_unref(inv->map);
			inv->map = NULL; /* begin anew next time */
			return false;
		}
	}
	return true;
}

void stele_inventory_start(struct stele_inventory *inv, struct stele_inventory_run *run)
{
	assert(!inv->run);
	inv->run = run;
	inv->cancelled = false;
	stele_verdicts_forget_open(inv->verdicts);
	inv->roll = (struct stele_roll){.peers = inv->peers, .cb = called, .ctx = inv};
	if (!take_map(inv) || stele_roll_start(&inv->roll) != STELE_OK)
		finish(inv, STELE_ERR_NOMEM);
}

void stele_inventory_cancel(struct stele_inventory *inv)
{
	inv->cancelled = inv->run != NULL;
	inv->judge.n = inv->judge.next;
}

/* ---- results ---- */

void stele_inventory_each(const struct stele_inventory *inv,
                          bool (*each)(void *ctx, const struct stele_pg_view *view), void *ctx)
{
	for (uint32_t i = 0; i < inv->ngroups; i++)
		if (inv->group[i].primary && !each(ctx, &inv->group[i].view))
			return;
}

void stele_inventory_forget(struct stele_inventory *inv, uint16_t pool, uint32_t pg)
{
	for (uint32_t i = 0; i < inv->ngroups; i++) {
		struct stele_inv_group *g = &inv->group[i];
		if (g->view.pool->id != pool || g->view.pg != pg)
			continue;
		for (uint32_t w = 0; w < g->view.window.n; w++)
			g->cached[w].stale = true;
	}
}

const struct stele_verdicts *stele_inventory_verdicts(const struct stele_inventory *inv)
{
	return inv->verdicts;
}

struct slot_of {
	struct stele_window_disk disk;
	bool lacks;
};

static bool look_for_slot(void *ctx, const struct stele_job *job)
{
	struct slot_of *s = ctx;
	s->lacks = job->target.node == s->disk.node && job->target.slot == s->disk.slot;
	return !s->lacks;
}

bool stele_inventory_slot_whole(const struct stele_inventory *inv, uint16_t slot)
{
	for (uint32_t i = 0; i < inv->ngroups; i++) {
		const struct stele_pg_view *v = &inv->group[i].view;
		struct stele_pg_health health;
		uint32_t at = 0;
		while (at < v->window.n &&
		       (v->window.disk[at].node != inv->node || v->window.disk[at].slot != slot))
			at++;
		if (at == v->window.n || v->pool->id != STELE_POOL_RECORD)
			continue;
		/* on a disk that takes no writes nothing is planned, whatever it lacks */
		if (!inv->group[i].active || v->disk[at] != STELE_DISK_LIVE)
			return false;
		stele_plan_health(v, &health);
		struct slot_of s = {.disk = {inv->node, slot}};
		stele_plan_jobs(v, look_for_slot, &s);
		if (health.answered < health.window || health.degraded > 0 || s.lacks)
			return false;
	}
	return true;
}
