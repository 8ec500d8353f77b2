/* Merges what a group's disks hold, thing by thing, and derives health and jobs from it. Shards
 * that no reference needs are neither counted nor repaired (P3). */
#include "net/repair/plan.h"

#include <assert.h>
#include <string.h>

/* The holdings of one id on every disk of the window: [from[w], to[w]). */
struct thing {
	const struct stele_pg_view *view;
	struct stele_hash id;
	uint32_t from[STELE_WINDOW_MAX];
	uint32_t to[STELE_WINDOW_MAX];
};

static bool answers(const struct stele_pg_view *v, uint32_t w)
{
	return v->disk[w] == STELE_DISK_LIVE || v->disk[w] == STELE_DISK_READS;
}

static uint32_t count(const struct stele_pg_view *v, enum stele_disk_view state)
{
	uint32_t n = 0;
	for (uint32_t w = 0; w < v->window.n; w++)
		n += v->disk[w] == state;
	return n;
}

/* Moves to the next id that any answering disk holds. */
static bool next_thing(struct thing *t)
{
	const struct stele_pg_view *v = t->view;
	bool found = false;
	for (uint32_t w = 0; w < v->window.n; w++) {
		t->from[w] = t->to[w];
		if (!answers(v, w) || t->from[w] == v->nheld[w])
			continue;
		const struct stele_hash *id = &v->held[w][t->from[w]].id;
		if (!found || stele_hash_cmp(id, &t->id) < 0)
			t->id = *id;
		found = true;
	}
	for (uint32_t w = 0; found && w < v->window.n; w++) {
		if (!answers(v, w))
			continue;
		while (t->to[w] < v->nheld[w] && stele_hash_equal(&v->held[w][t->to[w]].id, &t->id))
			t->to[w]++;
	}
	return found;
}

/* ---- blocks ---- */

#define REFS_COMPARED 64u /* references compared one by one; above, by number alone */

struct block {
	uint64_t have;                    /* good shards on answering disks */
	uint8_t holder[STELE_CODE_N_MAX]; /* window position of each */
	bool occupied[STELE_WINDOW_MAX];  /* holds a good shard of it */
	uint32_t refs[STELE_WINDOW_MAX];
	uint32_t most_refs; /* window position with the most references */
	bool referenced;
	uint64_t bytes, S;
};

static struct block read_block(const struct thing *t)
{
	struct block b = {0};
	const struct stele_pg_view *v = t->view;
	for (uint32_t w = 0; w < v->window.n; w++) {
		for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
			const struct stele_holding *h = &v->held[w][i];
			if (h->kind == STELE_ENTRY_REF && !h->bad)
				b.refs[w]++;
			if (h->kind != STELE_ENTRY_SHARD || h->bad ||
			    h->index >= stele_code_n(v->code))
				continue;
			b.bytes += h->data_len;
			b.S = h->data_len;
			b.occupied[w] = true;
			if (!(b.have >> h->index & 1)) {
				b.have |= 1ull << h->index;
				b.holder[h->index] = (uint8_t)w;
			}
		}
		b.referenced |= b.refs[w] > 0;
		if (b.refs[w] > b.refs[b.most_refs])
			b.most_refs = w;
	}
	return b;
}

static bool has_ref(const struct thing *t, uint32_t w, const struct stele_hash *sub)
{
	for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
		const struct stele_holding *h = &t->view->held[w][i];
		if (h->kind == STELE_ENTRY_REF && !h->bad && stele_hash_equal(&h->sub, sub))
			return true;
	}
	return false;
}

/* A disk that holds a reference which w lacks; -1: w has them all. */
static int richer_in_refs(const struct thing *t, const struct block *b, uint32_t w)
{
	const struct stele_pg_view *v = t->view;
	if (b->refs[b->most_refs] > REFS_COMPARED)
		return b->refs[w] < b->refs[b->most_refs] ? (int)b->most_refs : -1;
	for (uint32_t from = 0; from < v->window.n; from++)
		for (uint32_t i = t->from[from]; from != w && i < t->to[from]; i++) {
			const struct stele_holding *h = &v->held[from][i];
			if (h->kind == STELE_ENTRY_REF && !h->bad && !has_ref(t, w, &h->sub))
				return (int)from;
		}
	return -1;
}

static bool ref_jobs(const struct thing *t, const struct block *b, const struct stele_job *base,
                     bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	for (uint32_t w = 0; w < v->window.n; w++) {
		if (!b->occupied[w] || v->disk[w] != STELE_DISK_LIVE)
			continue;
		int from = richer_in_refs(t, b, w);
		if (from < 0)
			continue;
		struct stele_job job = *base;
		job.kind = STELE_JOB_REFS;
		job.bytes = 0;
		job.target = v->window.disk[w];
		job.source = v->window.disk[from];
		if (!emit(ctx, &job))
			return false;
	}
	return true;
}

static bool rebuild_jobs(const struct thing *t, const struct block *b, struct stele_job *base,
                         bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	uint32_t n = stele_code_n(v->code), target = 0;
	base->kind = STELE_JOB_REBUILD;
	base->bytes = b->S;
	for (uint32_t i = 0; i < n; i++)
		if (b->have >> i & 1) {
			struct stele_window_disk d = v->window.disk[b->holder[i]];
			base->helper[base->nhelpers++] = (struct stele_wire_helper){
			    .node = d.node, .slot = d.slot, .index = (uint8_t)i};
		}
	for (uint32_t i = 0; i < n; i++) {
		if (b->have >> i & 1)
			continue;
		while (target < v->window.n &&
		       (b->occupied[target] || v->disk[target] != STELE_DISK_LIVE))
			target++;
		if (target == v->window.n)
			return true; /* as many shards as there are disks for them */
		base->index = (uint8_t)i;
		base->target = v->window.disk[target++];
		if (!emit(ctx, base))
			return false;
	}
	return true;
}

static bool block_jobs(const struct thing *t, uint32_t waiting,
                       bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	struct block b = read_block(t);
	uint32_t missing = stele_code_n(v->code) - (uint32_t)__builtin_popcountll(b.have);
	struct stele_job base = {.pool = v->pool->id,
	                         .pg = v->pg,
	                         .id = t->id,
	                         .margin = stele_code_margin(v->code, b.have)};
	if (!b.referenced || base.margin < 0)
		return true;
	if (!ref_jobs(t, &b, &base, emit, ctx))
		return false;
	if (missing == 0 || missing <= waiting)
		return true;
	return rebuild_jobs(t, &b, &base, emit, ctx);
}

/* ---- records and marks: each entry on as many disks as the record pool's code has shards ---- */

struct entry {
	const struct stele_holding *h;
	uint32_t holders;
	uint32_t source;
	bool held[STELE_WINDOW_MAX];
};

static int entry_cmp(const struct stele_holding *a, const struct stele_holding *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return stele_hash_cmp(&a->sub, &b->sub);
}

static bool is_entry(const struct stele_holding *h)
{
	return !h->bad && (h->kind == STELE_ENTRY_RECORD || h->kind == STELE_ENTRY_MARK);
}

/* The smallest entry of the id that is greater than `after` (NULL: the first). */
static bool next_entry(const struct thing *t, const struct stele_holding *after, struct entry *e)
{
	const struct stele_pg_view *v = t->view;
	e->h = NULL;
	for (uint32_t w = 0; w < v->window.n; w++)
		for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
			const struct stele_holding *h = &v->held[w][i];
			if (is_entry(h) && (!after || entry_cmp(h, after) > 0) &&
			    (!e->h || entry_cmp(h, e->h) < 0))
				e->h = h;
		}
	if (!e->h)
		return false;
	e->holders = 0;
	for (uint32_t w = 0; w < v->window.n; w++) {
		e->held[w] = false;
		for (uint32_t i = t->from[w]; i < t->to[w]; i++)
			if (is_entry(&v->held[w][i]) && entry_cmp(&v->held[w][i], e->h) == 0)
				e->held[w] = true;
		if (e->held[w] && e->holders++ == 0)
			e->source = w;
	}
	return true;
}

static bool entry_jobs(const struct thing *t, uint32_t waiting,
                       bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	uint32_t want = stele_code_n(v->code);
	struct entry e;
	for (const struct stele_holding *at = NULL; next_entry(t, at, &e); at = e.h) {
		if (e.holders >= want || want - e.holders <= waiting)
			continue;
		for (uint32_t w = 0; w < v->window.n && e.holders < want; w++) {
			if (e.held[w] || v->disk[w] != STELE_DISK_LIVE)
				continue;
			struct stele_job job = {.kind = STELE_JOB_COPY,
			                        .pool = v->pool->id,
			                        .pg = v->pg,
			                        .id = t->id,
			                        .sub = e.h->sub,
			                        .entry_kind = e.h->kind,
			                        .margin = (int)e.holders - 1,
			                        .target = v->window.disk[w],
			                        .source = v->window.disk[e.source]};
			if (!emit(ctx, &job))
				return false;
			e.holders++;
		}
	}
	return true;
}

/* ---- the two questions ---- */

static void add_health(struct stele_pg_health *out, int margin, bool degraded)
{
	out->things++;
	out->degraded += degraded;
	if (margin < out->margin)
		out->margin = margin;
}

void stele_plan_health(const struct stele_pg_view *v, struct stele_pg_health *out)
{
	struct thing t = {.view = v};
	*out = (struct stele_pg_health){.pool = v->pool->id,
	                                .pg = v->pg,
	                                .margin = 127,
	                                .window = v->window.n,
	                                .answered =
	                                    count(v, STELE_DISK_LIVE) + count(v, STELE_DISK_READS)};
	uint32_t n = stele_code_n(v->code);
	while (next_thing(&t)) {
		if (v->pool->id == STELE_POOL_RECORD) {
			struct entry e;
			for (const struct stele_holding *at = NULL; next_entry(&t, at, &e);
			     at = e.h)
				add_health(out, (int)e.holders - 1, e.holders < n);
			continue;
		}
		struct block b = read_block(&t);
		if (!b.referenced)
			continue;
		out->bytes += b.bytes;
		add_health(out, stele_code_margin(v->code, b.have),
		           (uint32_t)__builtin_popcountll(b.have) < n);
	}
}

void stele_plan_jobs(const struct stele_pg_view *v,
                     bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	struct thing t = {.view = v};
	uint32_t waiting = count(v, STELE_DISK_WAITING);
	while (next_thing(&t)) {
		bool go = v->pool->id == STELE_POOL_RECORD ? entry_jobs(&t, waiting, emit, ctx)
		                                           : block_jobs(&t, waiting, emit, ctx);
		if (!go)
			return;
	}
}
