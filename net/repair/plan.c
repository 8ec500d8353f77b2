/* Merges what a group's disks hold, thing by thing, and derives health and jobs from it. Shards
 * that no reference needs are neither counted nor repaired; references of dead deposits are none;
 * those of open ones are kept, and do not count (P3, verdicts.h). */
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

struct block {
	uint64_t have;  /* good shards on answering disks */
	uint64_t apart; /* of them, as many as can be told to lie on a disk of their own each */
	uint8_t holder[STELE_CODE_N_MAX]; /* window position of each; for `apart`, its own */
	bool occupied[STELE_WINDOW_MAX];  /* holds a good shard of it */
	bool needed[STELE_WINDOW_MAX];    /* holds one that is told apart there */
	bool referenced;                  /* by a deposit that is not dead */
	bool counted;                     /* by one that is not open either */
	uint64_t bytes, S;
	uint64_t on[STELE_CODE_N_MAX]; /* window positions that hold each shard */
};

_Static_assert(STELE_WINDOW_MAX <= 64 && STELE_CODE_N_MAX <= 64, "masks hold them");

/* A path of Kuhn's bipartite matching: shard i finds a disk, moving others where it must. Each
 * level marks a disk as seen, so it is at most a window deep. */
static bool find_own_disk(struct block *b, uint32_t i, int8_t *shard_of, uint64_t *seen)
{
	for (uint64_t left = b->on[i] & ~*seen; left; left = b->on[i] & ~*seen) {
		uint32_t w = (uint32_t)__builtin_ctzll(left);
		*seen |= 1ull << w;
		if (shard_of[w] < 0 || find_own_disk(b, (uint32_t)shard_of[w], shard_of, seen)) {
			shard_of[w] = (int8_t)i;
			b->holder[i] = (uint8_t)w;
			return true;
		}
	}
	return false;
}

/* Two shards of a block on one disk are lost together: only one of them counts. */
static void tell_apart(struct block *b, uint32_t n)
{
	int8_t shard_of[STELE_WINDOW_MAX];
	memset(shard_of, -1, sizeof(shard_of));
	for (uint32_t i = 0; i < n; i++) {
		uint64_t seen = 0;
		if (b->on[i] && find_own_disk(b, i, shard_of, &seen))
			b->apart |= 1ull << i;
		else if (b->on[i])
			b->holder[i] = (uint8_t)__builtin_ctzll(b->on[i]);
	}
	for (uint32_t w = 0; w < STELE_WINDOW_MAX; w++)
		b->needed[w] = shard_of[w] >= 0;
}

static void read_holding(struct block *b, const struct stele_pg_view *v, uint32_t w,
                         const struct stele_holding *h)
{
	if (h->bad)
		return;
	if (h->kind == STELE_ENTRY_SHARD && h->index < stele_code_n(v->code)) {
		b->bytes += h->data_len;
		b->S = h->data_len;
		b->occupied[w] = true;
		b->have |= 1ull << h->index;
		b->on[h->index] |= 1ull << w;
	} else if (h->kind == STELE_ENTRY_REF) {
		enum stele_verdict verdict = stele_verdicts_get(v->verdicts, &h->sub);
		if (verdict == STELE_VERDICT_DEAD)
			return;
		b->referenced = true;
		b->counted |= verdict != STELE_VERDICT_OPEN;
	}
}

static struct block read_block(const struct thing *t)
{
	struct block b = {0};
	for (uint32_t w = 0; w < t->view->window.n; w++) {
		for (uint32_t i = t->from[w]; i < t->to[w]; i++)
			read_holding(&b, t->view, w, &t->view->held[w][i]);
	}
	tell_apart(&b, stele_code_n(t->view->code));
	return b;
}

/* What it can lose. What only shards beside others give is readable, but bears no loss. */
static int block_margin(const struct stele_pg_view *v, const struct block *b)
{
	int margin = stele_code_margin(v->code, b->apart);
	return margin < 0 && stele_code_margin(v->code, b->have) >= 0 ? 0 : margin;
}

static uint32_t missing(const struct stele_pg_view *v, const struct block *b)
{
	return stele_code_n(v->code) - (uint32_t)__builtin_popcountll(b->apart);
}

static bool counts(const struct stele_pg_view *v, const struct stele_holding *h)
{
	return h->kind == STELE_ENTRY_REF && !h->bad &&
	       stele_verdicts_get(v->verdicts, &h->sub) != STELE_VERDICT_DEAD;
}

/* Blocks that many deposits share have thousands: by halves. */
static bool has_ref(const struct thing *t, uint32_t w, const struct stele_hash *sub)
{
	const struct stele_holding *held = t->view->held[w];
	uint32_t lo = t->from[w], hi = t->to[w];
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		bool before = held[mid].kind != STELE_ENTRY_REF
		                  ? held[mid].kind < STELE_ENTRY_REF
		                  : stele_hash_cmp(&held[mid].sub, sub) < 0;
		if (before)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < t->to[w] && held[lo].kind == STELE_ENTRY_REF && !held[lo].bad &&
	       stele_hash_equal(&held[lo].sub, sub);
}

/* A disk that holds a reference which w lacks; -1: w has them all. */
static int richer_in_refs(const struct thing *t, uint32_t w)
{
	const struct stele_pg_view *v = t->view;
	for (uint32_t from = 0; from < v->window.n; from++)
		for (uint32_t i = t->from[from]; from != w && i < t->to[from]; i++) {
			const struct stele_holding *h = &v->held[from][i];
			if (counts(v, h) && !has_ref(t, w, &h->sub))
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
		int from = richer_in_refs(t, w);
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

static bool has_bad(const struct thing *t, uint32_t w, uint32_t index)
{
	for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
		const struct stele_holding *h = &t->view->held[w][i];
		if (h->kind == STELE_ENTRY_SHARD && h->bad && h->index == index)
			return true;
	}
	return false;
}

static bool is_missing(const struct block *b, uint32_t index)
{
	return !(b->apart >> index & 1);
}

static bool has_any(const struct thing *t, uint32_t w, uint32_t index)
{
	(void)index;
	return t->from[w] < t->to[w];
}

static bool has_none(const struct thing *t, uint32_t w, uint32_t index)
{
	return !has_any(t, w, index);
}

/* The disk for each missing shard: first one whose own copy went bad, which the good one replaces;
 * then one that has nothing of the block; then one whose copies are all spare. `none`: no disk is
 * left. */
static void choose_targets(const struct thing *t, const struct block *b, uint32_t n, uint32_t none,
                           uint32_t target[STELE_CODE_N_MAX])
{
	static bool (*const fits[])(const struct thing *, uint32_t, uint32_t) = {has_bad, has_none,
	                                                                         has_any};
	const struct stele_pg_view *v = t->view;
	bool taken[STELE_WINDOW_MAX];
	for (uint32_t w = 0; w < v->window.n; w++)
		taken[w] = b->needed[w] || v->disk[w] != STELE_DISK_LIVE;
	for (uint32_t i = 0; i < n; i++)
		target[i] = none;
	for (uint32_t k = 0; k < 3; k++)
		for (uint32_t i = 0; i < n; i++)
			for (uint32_t w = 0; w < v->window.n && target[i] == none; w++)
				if (is_missing(b, i) && !taken[w] && fits[k](t, w, i)) {
					target[i] = w;
					taken[w] = true;
				}
}

static void set_helpers(const struct stele_pg_view *v, const struct block *b,
                        struct stele_job *base)
{
	for (uint32_t i = 0; i < stele_code_n(v->code); i++)
		if (b->have >> i & 1) {
			struct stele_window_disk d = v->window.disk[b->holder[i]];
			base->helper[base->nhelpers++] = (struct stele_wire_helper){
			    .node = d.node, .slot = d.slot, .index = (uint8_t)i};
		}
}

static bool rebuild_jobs(const struct thing *t, const struct block *b, const struct stele_job *base,
                         bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	uint32_t n = stele_code_n(v->code), target[STELE_CODE_N_MAX], none = STELE_WINDOW_MAX;
	struct stele_job job = *base;
	choose_targets(t, b, n, none, target);
	for (uint32_t i = 0; i < n; i++) {
		if (!is_missing(b, i) || target[i] == none)
			continue; /* none: as many shards as there are disks for them */
		job.index = (uint8_t)i;
		job.target = v->window.disk[target[i]];
		if (!emit(ctx, &job))
			return false;
	}
	return true;
}

/* A copy that went bad is made good where it lies, though the shard may be elsewhere by now: it
 * counts as a victim until then. */
static bool bad_jobs(const struct thing *t, const struct block *b, const struct stele_job *base,
                     bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	struct stele_job job = *base;
	for (uint32_t w = 0; w < v->window.n; w++) {
		for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
			const struct stele_holding *h = &v->held[w][i];
			if (h->kind != STELE_ENTRY_SHARD || !h->bad ||
			    v->disk[w] != STELE_DISK_LIVE || h->index >= stele_code_n(v->code) ||
			    is_missing(b, h->index))
				continue; /* missing: it was chosen for it */
			job.index = h->index;
			job.target = v->window.disk[w];
			if (!emit(ctx, &job))
				return false;
		}
	}
	return true;
}

static bool block_jobs(const struct thing *t, uint32_t waiting,
                       bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	struct block b = read_block(t);
	struct stele_job base = {
	    .pool = v->pool->id, .pg = v->pg, .id = t->id, .margin = block_margin(v, &b)};
	if (!b.referenced || base.margin < 0)
		return true;
	if (!ref_jobs(t, &b, &base, emit, ctx))
		return false;
	base.kind = STELE_JOB_REBUILD;
	base.bytes = b.S;
	set_helpers(v, &b, &base);
	if (!bad_jobs(t, &b, &base, emit, ctx))
		return false;
	if (missing(v, &b) <= waiting)
		return true;
	return rebuild_jobs(t, &b, &base, emit, ctx);
}

/* ---- doubts ---- */

static bool unknown(const struct stele_pg_view *v, const struct stele_holding *h)
{
	return counts(v, h) && stele_verdicts_get(v->verdicts, &h->sub) == STELE_VERDICT_UNKNOWN;
}

static bool has_live(const struct thing *t)
{
	const struct stele_pg_view *v = t->view;
	for (uint32_t w = 0; w < v->window.n; w++)
		for (uint32_t i = t->from[w]; i < t->to[w]; i++)
			if (counts(v, &v->held[w][i]) &&
			    stele_verdicts_get(v->verdicts, &v->held[w][i].sub) ==
			        STELE_VERDICT_LIVE)
				return true;
	return false;
}

static bool refs_differ(const struct thing *t, const struct block *b)
{
	for (uint32_t w = 0; w < t->view->window.n; w++)
		if (b->occupied[w] && richer_in_refs(t, w) >= 0)
			return true;
	return false;
}

/* Does w hold a reference that is not judged, and that no disk before it holds? */
static bool news_of(const struct thing *t, uint32_t w)
{
	for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
		const struct stele_holding *h = &t->view->held[w][i];
		bool before = !unknown(t->view, h);
		for (uint32_t k = 0; k < w && !before; k++)
			before = has_ref(t, k, &h->sub);
		if (!before)
			return true;
	}
	return false;
}

static bool block_doubts(const struct thing *t,
                         bool (*emit)(void *ctx, const struct stele_doubt *doubt), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	struct block b = read_block(t);
	if (!b.referenced || !((missing(v, &b) > 0 && !has_live(t)) || refs_differ(t, &b)))
		return true;
	for (uint32_t w = 0; w < v->window.n; w++) {
		if (!news_of(t, w))
			continue;
		struct stele_doubt doubt = {
		    .pool = v->pool->id, .block = t->id, .source = v->window.disk[w]};
		if (!emit(ctx, &doubt))
			return false;
	}
	return true;
}

/* ---- records and marks: each entry on as many disks as the record pool's code has shards;
 * refusals on every disk, since only all of them together are a decision ---- */

struct entry {
	const struct stele_holding *h;
	uint32_t holders;
	bool held[STELE_WINDOW_MAX];
	bool bad[STELE_WINDOW_MAX]; /* held, but spoilt */
};

static int entry_cmp(const struct stele_holding *a, const struct stele_holding *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return stele_hash_cmp(&a->sub, &b->sub);
}

static bool is_entry(const struct stele_holding *h)
{
	return h->kind == STELE_ENTRY_RECORD || h->kind == STELE_ENTRY_MARK ||
	       h->kind == STELE_ENTRY_REFUSE;
}

/* Where a record is, refusals of it decide nothing any more. */
static bool has_record(const struct thing *t, const struct stele_hash *deposit)
{
	for (uint32_t w = 0; w < t->view->window.n; w++)
		for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
			const struct stele_holding *h = &t->view->held[w][i];
			if (h->kind == STELE_ENTRY_RECORD && stele_hash_equal(&h->sub, deposit))
				return true;
		}
	return false;
}

/* The smallest entry of the id that is greater than `after` (NULL: the first). */
static bool next_entry(const struct thing *t, const struct stele_holding *after, struct entry *e)
{
	const struct stele_pg_view *v = t->view;
	e->h = NULL;
	for (uint32_t w = 0; w < v->window.n; w++)
		for (uint32_t i = t->from[w]; i < t->to[w]; i++) {
			const struct stele_holding *h = &v->held[w][i];
			if (is_entry(h) && !h->bad && (!after || entry_cmp(h, after) > 0) &&
			    (!e->h || entry_cmp(h, e->h) < 0))
				e->h = h;
		}
	if (!e->h)
		return false;
	e->holders = 0;
	for (uint32_t w = 0; w < v->window.n; w++) {
		e->held[w] = e->bad[w] = false;
		for (uint32_t i = t->from[w]; i < t->to[w]; i++)
			if (is_entry(&v->held[w][i]) && entry_cmp(&v->held[w][i], e->h) == 0)
				*(v->held[w][i].bad ? &e->bad[w] : &e->held[w]) = true;
		e->holders += e->held[w];
	}
	return true;
}

static struct stele_job copy_job(const struct thing *t, const struct entry *e, uint32_t w)
{
	const struct stele_pg_view *v = t->view;
	bool refusal = e->h->kind == STELE_ENTRY_REFUSE;
	struct stele_job job = {.kind = STELE_JOB_COPY,
	                        .pool = v->pool->id,
	                        .pg = v->pg,
	                        .id = t->id,
	                        .sub = e->h->sub,
	                        .entry_kind = e->h->kind,
	                        .margin = refusal ? (int)STELE_CODE_N_MAX : (int)e->holders - 1,
	                        .target = v->window.disk[w]};
	for (uint32_t i = 0; i < v->window.n && !refusal && job.nhelpers < STELE_CODE_N_MAX; i++)
		if (e->held[i])
			job.helper[job.nhelpers++] = (struct stele_wire_helper){
			    .node = v->window.disk[i].node, .slot = v->window.disk[i].slot};
	return job;
}

/* Bad copies are made good where they are; then others are made, until there are enough. */
static bool entry_jobs(const struct thing *t, uint32_t waiting,
                       bool (*emit)(void *ctx, const struct stele_job *job), void *ctx)
{
	const struct stele_pg_view *v = t->view;
	struct entry e;
	for (const struct stele_holding *at = NULL; next_entry(t, at, &e); at = e.h) {
		bool refusal = e.h->kind == STELE_ENTRY_REFUSE;
		uint32_t want = refusal ? v->window.n : stele_code_n(v->code);
		if (refusal && has_record(t, &e.h->sub))
			continue;
		for (uint32_t pass = 0; pass < 2; pass++) {
			bool wait = !refusal && e.holders + waiting >= want;
			for (uint32_t w = 0; w < v->window.n; w++) {
				if (e.held[w] || v->disk[w] != STELE_DISK_LIVE ||
				    e.bad[w] != (pass == 0) ||
				    (pass == 1 && (wait || e.holders >= want)))
					continue;
				struct stele_job job = copy_job(t, &e, w);
				if (!emit(ctx, &job))
					return false;
				e.holders++;
			}
		}
	}
	return true;
}

/* ---- the questions ---- */

static void add_health(struct stele_pg_health *out, int margin, bool degraded)
{
	out->things++;
	out->degraded += degraded;
	if (margin < out->margin)
		out->margin = margin;
}

void stele_plan_doubts(const struct stele_pg_view *v,
                       bool (*emit)(void *ctx, const struct stele_doubt *doubt), void *ctx)
{
	struct thing t = {.view = v};
	while (v->pool->id != STELE_POOL_RECORD && next_thing(&t))
		if (!block_doubts(&t, emit, ctx))
			return;
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
				if (e.h->kind != STELE_ENTRY_REFUSE)
					add_health(out, (int)e.holders - 1, e.holders < n);
			continue;
		}
		struct block b = read_block(&t);
		if (!b.counted)
			continue;
		out->bytes += b.bytes;
		add_health(out, block_margin(v, &b), missing(v, &b) > 0);
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
