/* Gathers what the disks of this node's groups hold: roll call -> digests -> lists of what changed
 * -> whether doubtful blocks' deposits live. What a group needs is plan.c's to say. */
#include "net/repair/inventory.h"

#include <assert.h>
#include <stdlib.h>

#define SECOND     1000000000ull
#define CALL_NS    (20 * SECOND)
#define TASKS_MAX  8u
#define LIST_ITEMS 1024u
#define LIST_BYTES (LIST_ITEMS * 128u)

#define KINDS_BLOCK (STELE_KIND_BIT(STELE_ENTRY_SHARD) | STELE_KIND_BIT(STELE_ENTRY_REF))
#define KINDS_RECORD                                                                               \
	(STELE_KIND_BIT(STELE_ENTRY_RECORD) | STELE_KIND_BIT(STELE_ENTRY_MARK) |                   \
	 STELE_KIND_BIT(STELE_ENTRY_REFUSE))

struct seen { /* of a disk in the map, same order */
	bool answers, full;
	struct stele_uuid uuid;
	uint64_t down_since; /* 0: it answered last time */
};

struct cached { /* one disk of one group */
	bool known;
	struct stele_hash digest;
	struct stele_holding *held;
	uint32_t n, cap;
	bool relist;
	bool stale; /* something was done there since it was listed */
};

struct group {
	uint16_t pool_at; /* in map->pool */
	bool active;      /* of this run: we are its primary, or ... */
	bool primary;     /* ... a refilling slot of ours is part of it (record groups) */
	struct stele_pg_view view;
	struct cached *cached;              /* per position of the window */
	uint32_t disk_at[STELE_WINDOW_MAX]; /* in map->disk */
};

struct task {
	struct stele_inventory *inv;
	bool busy;
	struct stele_call call;
	struct iovec iov;
	uint8_t *head; /* STELE_FRAME_HEAD_MAX would do; as long as the largest of ours */
	uint8_t *into; /* LIST_BYTES */
	/* digest: groups of one pool on one disk, from cursor values on */
	uint32_t disk_at, pool_at;
	uint32_t *group; /* indexes into groups */
	uint32_t ngroups;
	/* list: one group, one position */
	uint32_t g, w;
	struct stele_key after;
};

#define TASK_HEAD (16u + 4u * STELE_DIGEST_PGS_MAX)

struct stele_inventory {
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_slots *slots;
	uint16_t node;
	struct stele_map *map; /* the groups below belong to it */
	struct seen *seen;
	struct group *group;
	uint32_t ngroups, groups_cap;
	uint32_t *group_at[STELE_POOLS_MAX]; /* per pool and pg: 1 + place in group, 0: none */
	struct stele_inventory_run *run;
	struct stele_roll roll;
	struct stele_judge judge;
	struct stele_verdicts *verdicts;
	bool listing;   /* else digests */
	bool cancelled; /* what is under way ends; nothing more is begun */
	uint32_t next_disk, next_pool, next_group, next_pos;
	uint32_t busy;
	struct task task[TASKS_MAX];
};

/* ---- memory ---- */

static void group_finish(struct group *g)
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
	for (uint32_t i = 0; i < TASKS_MAX; i++) {
		struct task *t = &inv->task[i];
		t->inv = inv;
		t->head = malloc(TASK_HEAD);
		t->into = malloc(LIST_BYTES);
		t->group = calloc(STELE_DIGEST_PGS_MAX, sizeof(*t->group));
		if (!t->head || !t->into || !t->group) {
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
	for (uint32_t i = 0; i < TASKS_MAX; i++) {
		free(inv->task[i].head);
		free(inv->task[i].into);
		free(inv->task[i].group);
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

/* A disk that does not say what it holds might as well be down; so does the grace think of it. */
static enum stele_disk_view silent(const struct stele_inventory *inv)
{
	return inv->run->grace_ns ? STELE_DISK_WAITING : STELE_DISK_DOWN;
}

/* ---- tasks: at most TASKS_MAX calls at a time, one kind after the other ---- */

static void pump(struct stele_inventory *inv);

static void task_end(struct task *t)
{
	t->busy = false;
	t->inv->busy--;
	pump(t->inv);
}

static void call_disk(struct task *t, uint32_t disk_at, uint16_t op, size_t head_len,
                      void (*cb)(struct stele_call *call))
{
	t->busy = true;
	t->inv->busy++;
	t->iov = (struct iovec){.iov_base = t->into, .iov_len = LIST_BYTES};
	t->call = (struct stele_call){
	    .op = op,
	    .head = t->head,
	    .head_len = (uint32_t)head_len,
	    .into = &t->iov,
	    .ninto = 1,
	    .timeout_ns = CALL_NS,
	    .cb = cb,
	    .ctx = t,
	};
	stele_peers_call(t->inv->peers, t->inv->map->disk[disk_at].node, &t->call);
}

/* ---- lists ---- */

static bool hold(struct cached *c, const struct stele_listed *it)
{
	if (c->n == c->cap) {
		uint32_t cap = c->cap ? 2 * c->cap : 16;
		struct stele_holding *held = realloc(c->held, cap * sizeof(*held));
		if (!held)
			return false;
		c->held = held;
		c->cap = cap;
	}
	struct stele_holding *h = &c->held[c->n++];
	*h = (struct stele_holding){
	    .id = it->key.id,
	    .data_len = it->data_len,
	    .kind = it->key.kind,
	    .index = it->key.index,
	    .bad = it->bad,
	};
	memcpy(h->sub.b, it->key.sub.b, it->key.kind == STELE_ENTRY_REF ? 12 : STELE_HASH_LEN);
	return true;
}

static void list_group(struct task *t);

static void listed(struct stele_call *call)
{
	struct task *t = call->ctx;
	struct group *g = &t->inv->group[t->g];
	struct cached *c = &g->cached[t->w];
	struct stele_head_listed head;
	bool ok =
	    call->err == STELE_OK &&
	    stele_head_listed_decode(call->reply_head, call->reply_head_len, &head) == STELE_OK;
	struct stele_reader r = stele_reader(t->into, ok ? call->reply_body_len : 0);
	for (uint32_t i = 0; ok && i < head.n; i++) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		ok = !r.bad && hold(c, &it);
		t->after = it.key;
	}
	if (ok && head.more && head.n > 0) {
		t->inv->busy--;
		list_group(t);
		return;
	}
	c->known = ok;
	c->relist = false;
	if (!ok)
		g->view.disk[t->w] = silent(t->inv);
	task_end(t);
}

static void list_group(struct task *t)
{
	struct group *g = &t->inv->group[t->g];
	const struct stele_disk_entry *disk = &t->inv->map->disk[g->disk_at[t->w]];
	struct stele_head_list list = {
	    .slot = disk->slot,
	    .pool = g->view.pool->id,
	    .kinds = g->view.pool->id == STELE_POOL_RECORD ? KINDS_RECORD : KINDS_BLOCK,
	    .after = t->after,
	    .max = LIST_ITEMS,
	};
	stele_pg_range(g->view.pool, g->view.pg, &list.first, &list.last);
	struct stele_writer w = stele_writer(t->head, TASK_HEAD);
	stele_head_list_encode(&list, &w);
	call_disk(t, g->disk_at[t->w], STELE_OPCODE_LIST, stele_written(&w), listed);
}

static bool next_list(struct stele_inventory *inv, struct task *t)
{
	for (; inv->next_group < inv->ngroups; inv->next_group++, inv->next_pos = 0) {
		struct group *g = &inv->group[inv->next_group];
		for (; inv->next_pos < g->view.window.n; inv->next_pos++) {
			uint32_t w = inv->next_pos;
			if (!g->cached[w].relist)
				continue;
			t->g = inv->next_group;
			t->w = w;
			t->after = (struct stele_key){0};
			g->cached[w].n = 0;
			g->cached[w].stale = false;
			inv->next_pos++;
			list_group(t);
			return true;
		}
	}
	return false;
}

/* ---- digests ---- */

static uint32_t position(const struct group *g, uint32_t disk_at)
{
	for (uint32_t w = 0; w < g->view.window.n; w++)
		if (g->disk_at[w] == disk_at)
			return w;
	return STELE_WINDOW_MAX;
}

static void digested(struct stele_call *call)
{
	struct task *t = call->ctx;
	bool ok =
	    call->err == STELE_OK && call->reply_head_len == t->ngroups * (size_t)STELE_DIGEST_LEN;
	struct stele_reader r = stele_reader(call->reply_head, ok ? call->reply_head_len : 0);
	for (uint32_t i = 0; i < t->ngroups; i++) {
		struct group *g = &t->inv->group[t->group[i]];
		uint32_t w = position(g, t->disk_at);
		struct cached *c = &g->cached[w];
		struct stele_wire_digest d = {0};
		if (!ok) {
			g->view.disk[w] = silent(t->inv);
			continue;
		}
		stele_read_digest(&r, &d);
		if (d.keys == 0) {
			c->n = 0;
			c->known = true;
		} else if (!c->known || c->stale || !stele_hash_equal(&c->digest, &d.digest)) {
			c->relist = true;
		}
		c->digest = d.digest;
	}
	task_end(t);
}

static int by_pg(const void *a, const void *b, void *ctx)
{
	const struct group *group = ctx;
	uint32_t x = group[*(const uint32_t *)a].view.pg, y = group[*(const uint32_t *)b].view.pg;
	return (x > y) - (x < y);
}

static bool digest_disk(struct stele_inventory *inv, struct task *t, uint32_t disk_at,
                        uint32_t pool_at)
{
	t->disk_at = disk_at;
	t->pool_at = pool_at;
	t->ngroups = 0;
	for (; inv->next_group < inv->ngroups && t->ngroups < STELE_DIGEST_PGS_MAX;
	     inv->next_group++) {
		struct group *g = &inv->group[inv->next_group];
		uint32_t w = position(g, disk_at);
		if (!g->active || g->pool_at != pool_at || w == STELE_WINDOW_MAX)
			continue;
		t->group[t->ngroups++] = inv->next_group;
	}
	if (t->ngroups == 0)
		return false;
	qsort_r(t->group, t->ngroups, sizeof(*t->group), by_pg, inv->group);
	uint8_t *list = malloc(4 * (size_t)t->ngroups);
	if (!list)
		return false;
	for (uint32_t i = 0; i < t->ngroups; i++)
		stele_put_le32(list + 4 * i, inv->group[t->group[i]].view.pg);
	const struct stele_pool *pool = &inv->map->pool[pool_at];
	struct stele_head_pg_digest head = {
	    .slot = inv->map->disk[disk_at].slot,
	    .pool = pool->id,
	    .kinds = pool->id == STELE_POOL_RECORD ? KINDS_RECORD : KINDS_BLOCK,
	    .n = (uint16_t)t->ngroups,
	    .pgs = list,
	};
	struct stele_writer w = stele_writer(t->head, TASK_HEAD);
	stele_head_pg_digest_encode(&head, &w);
	free(list);
	call_disk(t, disk_at, STELE_OPCODE_PG_DIGEST, stele_written(&w), digested);
	return true;
}

static bool next_digest(struct stele_inventory *inv, struct task *t)
{
	for (; inv->next_disk < inv->map->ndisks; inv->next_disk++, inv->next_pool = 0) {
		if (!inv->seen[inv->next_disk].answers)
			continue;
		while (inv->next_pool < inv->map->npools) {
			if (inv->next_group >= inv->ngroups) {
				inv->next_group = 0;
				inv->next_pool++;
				continue;
			}
			if (digest_disk(inv, t, inv->next_disk, inv->next_pool))
				return true;
		}
		inv->next_group = 0;
	}
	return false;
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

static void publish(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < inv->ngroups; i++) {
		struct group *g = &inv->group[i];
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

static void pump(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < TASKS_MAX && !inv->cancelled; i++) {
		struct task *t = &inv->task[i];
		if (t->busy)
			continue;
		if (!(inv->listing ? next_list(inv, t) : next_digest(inv, t)))
			break;
	}
	if (inv->busy > 0)
		return;
	if (inv->listing || inv->cancelled) {
		publish(inv);
		return;
	}
	inv->listing = true;
	inv->next_group = inv->next_pos = 0;
	pump(inv);
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

static struct group *add_group(struct stele_inventory *inv)
{
	if (inv->ngroups == inv->groups_cap) {
		uint32_t cap = inv->groups_cap ? 2 * inv->groups_cap : 64;
		struct group *group = realloc(inv->group, cap * sizeof(*group));
		if (!group)
			return NULL;
		inv->group = group;
		inv->groups_cap = cap;
	}
	struct group *g = &inv->group[inv->ngroups];
	memset(g, 0, sizeof(*g));
	return g;
}

static enum stele_disk_view judge(const struct stele_inventory *inv, const struct seen *s,
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
	struct group *g = *at ? &inv->group[*at - 1] : NULL;
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
	inv->listing = false;
	inv->next_disk = inv->next_pool = inv->next_group = 0;
	pump(inv);
}

/* ---- who answers ---- */

static void called(struct stele_roll *roll)
{
	struct stele_inventory *inv = roll->ctx;
	uint64_t now = stele_env_now(inv->env);
	for (uint32_t i = 0; i < inv->map->ndisks; i++) {
		const struct stele_roll_disk *d = &roll->disk[i];
		struct seen *s = &inv->seen[i];
		s->answers = stele_roll_serves(d);
		s->full =
		    d->state == STELE_SLOT_FULL || d->state == STELE_SLOT_REFILLING_FULL;
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
	struct seen *seen = calloc(map->ndisks ? map->ndisks : 1, sizeof(*seen));
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
		struct group *g = &inv->group[i];
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
		while (at < v->window.n && (v->window.disk[at].node != inv->node ||
		                            v->window.disk[at].slot != slot))
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
