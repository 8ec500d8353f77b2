/* What must hold when faults have ended: the cluster becomes whole, leftovers go and nothing else
 * does, and every promise bears what it said. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/cluster/place.h"
#include "tests/sim/life.h"

#define BOUND_S 900u /* of simulated time, for convergence */

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

/* ---- health, as the primaries see it ---- */

struct health_sum {
	struct life *l;
	uint32_t node;
	struct stele_health health;
	uint64_t things, degraded;
	int margin;
	bool over;
};

static void health_add(struct stele_health *h)
{
	struct health_sum *s = h->ctx;
	for (uint32_t i = 0; i < h->n; i++) {
		s->things += h->pg[i].things;
		s->degraded += h->pg[i].degraded;
		if (h->pg[i].margin < s->margin)
			s->margin = h->pg[i].margin;
		if (h->pg[i].degraded > 0)
			world_say(&s->l->w,
			          "n%u: pool %u group %u: %u of %u degraded, margin %d, %u of %u "
			          "disks answered",
			          s->node + 1, h->pg[i].pool, h->pg[i].pg, h->pg[i].degraded,
			          h->pg[i].things, h->pg[i].margin, h->pg[i].answered,
			          h->pg[i].window);
	}
	s->over = true;
}

static struct health_sum health_of_all(struct life *l)
{
	struct health_sum s = {.l = l, .margin = 127};
	for (uint32_t i = 0; i < LIFE_NODES; i++) {
		if (!world_up(&l->w, i))
			continue;
		s.node = i;
		s.health = (struct stele_health){.cb = health_add, .ctx = &s};
		s.over = false;
		stele_repair_health(stele_node_repair(l->w.node[i].node), &s.health);
		if (!world_run(&l->w, is_true, &s.over, 120)) {
			life_broke(l, "an inventory does not end");
			exit(1);
		}
	}
	return s;
}

void life_check_whole(struct life *l)
{
	struct health_sum s = health_of_all(l);
	if (s.degraded > 0 || (s.things > 0 && s.margin < (int)LIFE_T))
		life_broke(l,
		           "%" PRIu64 " of %" PRIu64 " things are degraded after repair, margin %d",
		           s.degraded, s.things, s.margin);
}

/* ---- repair ---- */

static bool scrubs_over(void *ctx)
{
	struct life *l = ctx;
	for (uint32_t i = 0; i < LIFE_NODES; i++) {
		struct stele_scrubs_status st;
		stele_scrubs_status(stele_node_scrubs(l->w.node[i].node), &st);
		if (st.running)
			return false;
	}
	return true;
}

/* What rotted is found by reading it. */
static void scrub_all(struct life *l)
{
	if (!world_run(&l->w, scrubs_over, l, BOUND_S))
		life_broke(l, "a scrub does not end");
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		if (stele_scrubs_start(stele_node_scrubs(l->w.node[i].node), true) != STELE_OK)
			life_broke(l, "a scrub cannot start: %s", stele_detail());
	if (!world_run(&l->w, scrubs_over, l, BOUND_S))
		life_broke(l, "a scrub does not end");
}

void life_repair(struct life *l, bool by_itself)
{
	scrub_all(l);
	if (l->failed)
		return;
	if (!by_itself && !world_repair(&l->w, BOUND_S)) {
		life_broke(l, "repair does not end with every node up");
		return;
	}
	for (uint32_t waited = 0; by_itself && waited < BOUND_S; waited += 15) {
		world_sleep(&l->w, 15);
		struct health_sum s = health_of_all(l);
		if (s.degraded == 0 && waited > 60)
			break;
	}
	life_check_whole(l);
	if (!l->failed)
		life_healed(l);
}

/* ---- what is there: every entry of every disk ---- */

struct entry {
	struct stele_key key;
	uint32_t node;
	bool bad;
	struct stele_hash object; /* of a REF */
};

struct contents {
	struct entry *v;
	uint32_t n, cap;
};

static void keep(struct contents *c, uint32_t node, const struct stele_listed *it)
{
	if (c->n == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 256;
		c->v = realloc(c->v, c->cap * sizeof(*c->v));
		if (!c->v)
			abort();
	}
	struct entry *e = &c->v[c->n++];
	*e = (struct entry){.key = it->key, .node = node, .bad = it->bad};
	if (it->key.kind == STELE_ENTRY_REF && it->meta_len == STELE_HASH_LEN)
		memcpy(e->object.b, it->meta, STELE_HASH_LEN);
}

struct listing {
	struct stele_store_list list;
	bool over;
};

static void listed(struct stele_store_list *list)
{
	((struct listing *)list->ctx)->over = true;
}

static void read_pool(struct life *l, uint32_t node, uint16_t pool, struct contents *out)
{
	struct stele_disk *disk = stele_slots_disk(stele_node_slots(l->w.node[node].node), 0);
	struct stele_key after = {0};
	bool more = disk != NULL;
	while (more) {
		struct listing g = {.list = {.pool = pool,
		                             .kinds = ~0u,
		                             .want_meta = true,
		                             .after = after,
		                             .cb = listed,
		                             .ctx = &g}};
		memset(g.list.last.b, 0xff, STELE_HASH_LEN);
		stele_disk_list(disk, &g.list);
		if (!world_run(&l->w, is_true, &g.over, 60) || g.list.err != STELE_OK) {
			life_broke(l, "a store cannot be listed: %s", g.list.detail);
			exit(1);
		}
		for (uint32_t i = 0; i < g.list.n; i++)
			keep(out, node, &g.list.item[i]);
		more = g.list.more && g.list.n > 0;
		if (more)
			after = g.list.item[g.list.n - 1].key;
		stele_store_list_finish(&g.list);
	}
}

static struct contents read_everything(struct life *l)
{
	struct contents c = {0};
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		for (uint32_t p = 0; p < l->w.map->npools && world_up(&l->w, i); p++)
			read_pool(l, i, l->w.map->pool[p].id, &c);
	return c;
}

static const struct entry *find(const struct contents *c, uint32_t node, uint16_t pool,
                                uint8_t kind, const struct stele_hash *id,
                                const struct stele_hash *sub)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct entry *e = &c->v[i];
		if ((node == LIFE_NODES || e->node == node) && e->key.pool == pool &&
		    e->key.kind == kind && stele_hash_equal(&e->key.id, id) &&
		    (!sub || memcmp(e->key.sub.b, sub->b, 12) == 0))
			return e;
	}
	return NULL;
}

static int entry_cmp(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = (x->key.pool > y->key.pool) - (x->key.pool < y->key.pool);
	if (c == 0)
		c = stele_hash_cmp(&x->key.id, &y->key.id);
	if (c == 0)
		c = (x->key.kind > y->key.kind) - (x->key.kind < y->key.kind);
	if (c == 0)
		c = stele_hash_cmp(&x->key.sub, &y->key.sub);
	if (c == 0)
		c = (x->node > y->node) - (x->node < y->node);
	return c ? c : (x->key.index > y->key.index) - (x->key.index < y->key.index);
}

/* For whoever looks into a failure: an id to a line, with where its entries are. */
void life_dump(struct life *l)
{
	static const char *const kind[] = {"?",    "shards", "ref",    "record", "mark",
	                                   "tomb", "footer", "refuse", "keep"};
	struct contents c = read_everything(l);
	const struct entry *before = NULL;
	qsort(c.v, c.n, sizeof(*c.v), entry_cmp);
	for (uint32_t i = 0; i < c.n; i++) {
		const struct entry *e = &c.v[i];
		char hex[STELE_HEX_LEN], sub[STELE_HEX_LEN];
		bool same = before && before->key.pool == e->key.pool &&
		            stele_hash_equal(&before->key.id, &e->key.id);
		if (!same)
			printf("\n%u %.12s", e->key.pool, stele_hash_hex(&e->key.id, hex));
		if (!same || before->key.kind != e->key.kind ||
		    !stele_hash_equal(&before->key.sub, &e->key.sub))
			printf("  %s %.8s:", kind[e->key.kind], stele_hash_hex(&e->key.sub, sub));
		if (e->key.kind == STELE_ENTRY_SHARD)
			printf(" %u@n%u%s", e->key.index, e->node + 1, e->bad ? "!" : "");
		else
			printf(" n%u%s", e->node + 1, e->bad ? "!" : "");
		before = e;
	}
	printf("\n");
	free(c.v);
}

/* A shard without a reference, or a reference without a record: how many are left. */
static uint32_t leftovers(const struct contents *c, char *what, size_t cap)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct entry *e = &c->v[i];
		char hex[STELE_HEX_LEN];
		bool left = false;
		if (e->key.kind == STELE_ENTRY_SHARD)
			left = !find(c, e->node, e->key.pool, STELE_ENTRY_REF, &e->key.id, NULL);
		else if (e->key.kind == STELE_ENTRY_REF)
			left = !find(c, LIFE_NODES, STELE_POOL_RECORD, STELE_ENTRY_RECORD,
			             &e->object, &e->key.sub);
		if (left)
			snprintf(what, cap, "%s %.12s on n%u",
			         e->key.kind == STELE_ENTRY_SHARD ? "shard" : "reference to",
			         stele_hash_hex(&e->key.id, hex), e->node + 1);
		n += left;
	}
	return n;
}

void life_check_collected(struct life *l)
{
	char what[128] = "";
	uint32_t left = 1;
	for (int k = 0; k < 20 && left > 0 && !l->failed; k++) {
		world_sleep(&l->w, LIFE_COLLECT_AGE_S);
		struct contents c = read_everything(l);
		left = leftovers(&c, what, sizeof(what));
		free(c.v);
	}
	if (left > 0)
		life_broke(l, "%u leftovers are not collected, one is %s", left, what);
}

/* ---- status, against what is there ---- */

/* As many of a block's shards as can be told to lie on a disk of their own each: by Hall's theorem,
 * over all sets of shards. */
static uint32_t apart(const uint32_t on[LIFE_K + LIFE_T])
{
	uint32_t present = 0, most = 0;
	for (uint32_t i = 0; i < LIFE_K + LIFE_T; i++)
		present += on[i] != 0;
	for (uint32_t set = 0; set < 1u << (LIFE_K + LIFE_T); set++) {
		uint32_t disks = 0, shards = 0;
		for (uint32_t i = 0; i < LIFE_K + LIFE_T; i++)
			if (set >> i & 1 && on[i]) {
				disks |= on[i];
				shards++;
			}
		uint32_t n = (uint32_t)__builtin_popcount(disks);
		if (shards > n && shards - n > most)
			most = shards - n;
	}
	return present - most;
}

static void add_thing(struct health_sum *s, int margin, bool degraded)
{
	s->things++;
	s->degraded += degraded;
	if (margin < s->margin)
		s->margin = margin;
}

/* The block, or the record or mark, whose entries are [from, to) of sorted contents. */
static void count_thing(struct health_sum *s, const struct contents *c, uint32_t from, uint32_t to)
{
	uint32_t on[LIFE_K + LIFE_T] = {0}, holders = 0, indexes = 0;
	uint8_t kind = c->v[from].key.kind;
	bool referenced = false;
	for (uint32_t i = from; i < to; i++) {
		const struct entry *e = &c->v[i];
		if (e->bad)
			continue;
		referenced |= e->key.kind == STELE_ENTRY_REF;
		holders++;
		if (e->key.kind == STELE_ENTRY_SHARD)
			on[e->key.index] |= 1u << e->node;
	}
	if (c->v[from].key.pool == STELE_POOL_RECORD) {
		if (kind != STELE_ENTRY_REFUSE && holders > 0)
			add_thing(s, (int)holders - 1, holders < LIFE_T + 1);
		return;
	}
	for (uint32_t i = 0; i < LIFE_K + LIFE_T; i++)
		indexes += on[i] != 0;
	int margin = (int)apart(on) - (int)LIFE_K;
	if (margin < 0)
		margin = indexes >= LIFE_K ? 0 : -1;
	if (referenced)
		add_thing(s, margin, apart(on) < LIFE_K + LIFE_T);
}

static bool same_thing(const struct entry *a, const struct entry *b)
{
	bool entries = a->key.pool == STELE_POOL_RECORD;
	return a->key.pool == b->key.pool && stele_hash_equal(&a->key.id, &b->key.id) &&
	       (!entries ||
	        (a->key.kind == b->key.kind && stele_hash_equal(&a->key.sub, &b->key.sub)));
}

/* Nothing is under way, and every reference's record is there. */
static void check_status(struct life *l)
{
	struct health_sum want = {.margin = 127}, have = health_of_all(l);
	struct contents c = read_everything(l);
	qsort(c.v, c.n, sizeof(*c.v), entry_cmp);
	for (uint32_t from = 0, to; from < c.n; from = to) {
		for (to = from + 1; to < c.n && same_thing(&c.v[from], &c.v[to]);)
			to++;
		count_thing(&want, &c, from, to);
	}
	free(c.v);
	if (have.things != want.things || have.degraded != want.degraded ||
	    have.margin != want.margin)
		life_broke(l,
		           "status says %" PRIu64 " of %" PRIu64
		           " things are degraded, margin %d; there are %" PRIu64 " of %" PRIu64
		           ", margin %d",
		           have.degraded, have.things, have.margin, want.degraded, want.things,
		           want.margin);
}

/* ---- margins, tried ---- */

void life_check_margins(struct life *l)
{
	uint32_t a = (uint32_t)life_random(l, LIFE_NODES);
	uint32_t b = (uint32_t)(a + 1 + life_random(l, LIFE_NODES - 1)) % LIFE_NODES;
	uint32_t gone[] = {a, b};
	for (uint32_t i = 0; i < 2; i++) {
		life_goes_away(l, gone[i]);
		world_stop_node(&l->w, gone[i], life_random(l, 2));
	}
	check_status(l); /* right after a kill */
	life_read_all(l);
	for (uint32_t i = 0; i < 2; i++) {
		if (!world_start_node(&l->w, gone[i]))
			life_broke(l, "%s does not start: %s", l->w.node[gone[i]].machine,
			           stele_detail());
		life_comes_back(l, gone[i]);
	}
	world_sleep(&l->w, 2);
}
