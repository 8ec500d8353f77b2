/* What the disks of an inventory's groups hold: digests first, then lists where they changed. Which
 * groups there are, and what comes of it, is inventory.c's. */
#include <stdlib.h>

#include "net/repair/inventory_private.h"

#define SECOND  1000000000ull
#define CALL_NS (20 * SECOND)

#define KINDS_BLOCK (STELE_KIND_BIT(STELE_ENTRY_SHARD) | STELE_KIND_BIT(STELE_ENTRY_REF))
#define KINDS_RECORD                                                                               \
	(STELE_KIND_BIT(STELE_ENTRY_RECORD) | STELE_KIND_BIT(STELE_ENTRY_MARK) |                   \
	 STELE_KIND_BIT(STELE_ENTRY_REFUSE))

/* A disk that does not say what it holds might as well be down; so does the grace think of it. */
static enum stele_disk_view silent(const struct stele_inventory *inv)
{
	return inv->run->grace_ns ? STELE_DISK_WAITING : STELE_DISK_DOWN;
}

/* ---- tasks: at most STELE_INV_TASKS calls at a time, one kind after the other ---- */

static void pump(struct stele_inventory *inv);

static void task_end(struct stele_inv_task *t)
{
	t->busy = false;
	t->inv->busy--;
	pump(t->inv);
}

static void call_disk(struct stele_inv_task *t, uint32_t disk_at, uint16_t op, size_t head_len,
                      void (*cb)(struct stele_call *call))
{
	t->busy = true;
	t->inv->busy++;
	t->iov = (struct iovec){.iov_base = t->into, .iov_len = STELE_INV_INTO};
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

static bool hold(struct stele_inv_cached *c, const struct stele_listed *it)
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

static void list_group(struct stele_inv_task *t);

static void listed(struct stele_call *call)
{
	struct stele_inv_task *t = call->ctx;
	struct stele_inv_group *g = &t->inv->group[t->g];
	struct stele_inv_cached *c = &g->cached[t->w];
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

static void list_group(struct stele_inv_task *t)
{
	struct stele_inv_group *g = &t->inv->group[t->g];
	const struct stele_disk_entry *disk = &t->inv->map->disk[g->disk_at[t->w]];
	struct stele_head_list list = {
	    .slot = disk->slot,
	    .pool = g->view.pool->id,
	    .kinds = g->view.pool->id == STELE_POOL_RECORD ? KINDS_RECORD : KINDS_BLOCK,
	    .after = t->after,
	    .max = STELE_INV_ITEMS,
	};
	stele_pg_range(g->view.pool, g->view.pg, &list.first, &list.last);
	struct stele_writer w = stele_writer(t->head, STELE_INV_HEAD);
	stele_head_list_encode(&list, &w);
	call_disk(t, g->disk_at[t->w], STELE_OPCODE_LIST, stele_written(&w), listed);
}

static bool next_list(struct stele_inventory *inv, struct stele_inv_task *t)
{
	for (; inv->next_group < inv->ngroups; inv->next_group++, inv->next_pos = 0) {
		struct stele_inv_group *g = &inv->group[inv->next_group];
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

static uint32_t position(const struct stele_inv_group *g, uint32_t disk_at)
{
	for (uint32_t w = 0; w < g->view.window.n; w++)
		if (g->disk_at[w] == disk_at)
			return w;
	return STELE_WINDOW_MAX;
}

static void digested(struct stele_call *call)
{
	struct stele_inv_task *t = call->ctx;
	bool ok =
	    call->err == STELE_OK && call->reply_head_len == t->ngroups * (size_t)STELE_DIGEST_LEN;
	struct stele_reader r = stele_reader(call->reply_head, ok ? call->reply_head_len : 0);
	for (uint32_t i = 0; i < t->ngroups; i++) {
		struct stele_inv_group *g = &t->inv->group[t->group[i]];
		uint32_t w = position(g, t->disk_at);
		struct stele_inv_cached *c = &g->cached[w];
		struct stele_wire_digest d = {0};
		if (!ok) {
			g->view.disk[w] = silent(t->inv);
			continue;
		}
		stele_read_digest(&r, &d);
		if (d.keys == 0 && c->n == 0) {
			c->known = true; /* nor anything bad, which no digest counts */
		} else if (!c->known || c->stale || c->bytes != d.bytes ||
		           !stele_hash_equal(&c->digest, &d.digest)) {
			c->relist = true;
		}
		c->digest = d.digest;
		c->bytes = d.bytes;
	}
	task_end(t);
}

static int by_pg(const void *a, const void *b, void *ctx)
{
	const struct stele_inv_group *group = ctx;
	uint32_t x = group[*(const uint32_t *)a].view.pg, y = group[*(const uint32_t *)b].view.pg;
	return (x > y) - (x < y);
}

static bool digest_disk(struct stele_inventory *inv, struct stele_inv_task *t, uint32_t disk_at,
                        uint32_t pool_at)
{
	t->disk_at = disk_at;
	t->pool_at = pool_at;
	t->ngroups = 0;
	for (; inv->next_group < inv->ngroups && t->ngroups < STELE_DIGEST_PGS_MAX;
	     inv->next_group++) {
		struct stele_inv_group *g = &inv->group[inv->next_group];
		uint32_t w = position(g, disk_at);
		if (!g->active || g->pool_at != pool_at || w == STELE_WINDOW_MAX)
			continue;
		t->group[t->ngroups++] = inv->next_group;
	}
	if (t->ngroups == 0)
		return false;
	qsort_r(t->group, t->ngroups, sizeof(*t->group), by_pg, inv->group);
	for (uint32_t i = 0; i < t->ngroups; i++)
		stele_put_le32(t->pgs + 4 * i, inv->group[t->group[i]].view.pg);
	const struct stele_pool *pool = &inv->map->pool[pool_at];
	struct stele_head_pg_digest head = {
	    .slot = inv->map->disk[disk_at].slot,
	    .pool = pool->id,
	    .kinds = pool->id == STELE_POOL_RECORD ? KINDS_RECORD : KINDS_BLOCK,
	    .n = (uint16_t)t->ngroups,
	    .pgs = t->pgs,
	};
	struct stele_writer w = stele_writer(t->head, STELE_INV_HEAD);
	stele_head_pg_digest_encode(&head, &w);
	call_disk(t, disk_at, STELE_OPCODE_PG_DIGEST, stele_written(&w), digested);
	return true;
}

static bool next_digest(struct stele_inventory *inv, struct stele_inv_task *t)
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

/* ---- one after the other ---- */

static void pump(struct stele_inventory *inv)
{
	for (uint32_t i = 0; i < STELE_INV_TASKS && !inv->cancelled; i++) {
		struct stele_inv_task *t = &inv->task[i];
		if (t->busy)
			continue;
		if (!(inv->listing ? next_list(inv, t) : next_digest(inv, t)))
			break;
	}
	if (inv->busy > 0)
		return;
	if (inv->listing || inv->cancelled) {
		stele_inventory_asked(inv);
		return;
	}
	inv->listing = true;
	inv->next_group = inv->next_pos = 0;
	pump(inv);
}

void stele_inventory_ask(struct stele_inventory *inv)
{
	inv->listing = false;
	inv->next_disk = inv->next_pool = inv->next_group = 0;
	pump(inv);
}
