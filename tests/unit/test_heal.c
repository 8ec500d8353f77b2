/* Goal: what repair does on whole nodes, where the plan alone does not show it. */
#include <criterion/criterion.h>

#include "tests/sim/world.h"

#define NODES     8u
#define REFS      2500u /* more than one message takes twice over */
#define PER_WRITE 50u

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

static void run(struct world *w, bool *over)
{
	cr_assert(world_run(w, is_true, over, 600));
}

/* ---- one object of one block ---- */

struct put {
	struct stele_put_request req;
	size_t left;
	bool over;
};

static enum stele_err read_zeros(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct put *p = ctx;
	*got = p->left < cap ? p->left : cap;
	memset(buf, 0, *got);
	p->left -= *got;
	return STELE_OK;
}

static void put_over(struct stele_put_request *req)
{
	((struct put *)req->ctx)->over = true;
}

static void put_one(struct world *w)
{
	struct put p = {.left = 300000};
	p.req = (struct stele_put_request){
	    .source = {.read = read_zeros, .ctx = &p, .length = p.left}, .cb = put_over, .ctx = &p};
	stele_session_put(w->session, &p.req);
	run(w, &p.over);
	cr_assert_eq(p.req.err, STELE_OK, "%s", p.req.detail);
}

/* ---- what the stores have ---- */

static struct stele_store *store_of(struct world *w, uint32_t node)
{
	return stele_slots_store(stele_node_slots(w->node[node].node), 0);
}

struct listing {
	struct stele_store_list list;
	bool over;
};

static void listed(struct stele_store_list *l)
{
	((struct listing *)l->ctx)->over = true;
}

/* How many entries of that kind the user pools have there; `first`: one of them. */
static uint32_t count(struct world *w, uint32_t node, uint8_t kind, struct stele_key *first)
{
	uint32_t n = 0;
	for (uint16_t pool = 16; pool < 18; pool++) {
		struct listing g = {.list = {.pool = pool,
		                             .kinds = STELE_KIND_BIT(kind),
		                             .max = 60000,
		                             .cb = listed,
		                             .ctx = &g}};
		memset(g.list.last.b, 0xff, STELE_HASH_LEN);
		stele_store_list(store_of(w, node), &g.list);
		run(w, &g.over);
		cr_assert_eq(g.list.err, STELE_OK);
		cr_assert_not(g.list.more);
		n += g.list.n;
		if (g.list.n > 0)
			*first = g.list.item[0].key;
		stele_store_list_finish(&g.list);
	}
	return n;
}

struct writing {
	struct stele_store_write write;
	struct stele_item item[PER_WRITE];
	bool over;
};

static void written(struct stele_store_write *wr)
{
	((struct writing *)wr->ctx)->over = true;
}

static void add_refs(struct world *w, uint32_t node, const struct stele_key *shard)
{
	static const struct stele_hash object = {{1}};
	for (uint32_t at = 0; at < REFS; at += PER_WRITE) {
		struct writing g = {.write = {.n = PER_WRITE, .cb = written, .ctx = &g}};
		g.write.item = g.item;
		for (uint32_t i = 0; i < PER_WRITE; i++) {
			g.item[i] = (struct stele_item){.key = *shard,
			                                .meta = &object,
			                                .meta_len = sizeof(object)};
			g.item[i].key.kind = STELE_ENTRY_REF;
			g.item[i].key.index = 0;
			stele_put_le32(g.item[i].key.sub.b, (at + i) * 2654435761u);
		}
		stele_store_write(store_of(w, node), &g.write);
		run(w, &g.over);
		cr_assert_eq(g.write.err, STELE_OK, "%s", g.write.detail);
	}
}

/* A block that thousands of deposits share: one of its disks has none of their references. */
Test(heal, as_many_references_as_there_are)
{
	static struct world w;
	struct stele_key shard, key;
	uint32_t holders = 0, poor = NODES;
	world_create(&w, 3, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	for (uint32_t i = 0; i < NODES; i++) {
		if (count(&w, i, STELE_ENTRY_SHARD, &shard) == 0)
			continue;
		if (holders++ == 0)
			poor = i;
		else
			add_refs(&w, i, &shard);
	}
	cr_assert_eq(holders, 6u);
	cr_assert_eq(count(&w, poor, STELE_ENTRY_REF, &key), 1u);
	cr_assert(world_repair(&w, 600));
	cr_assert_eq(count(&w, poor, STELE_ENTRY_REF, &key), REFS + 1);
	/* and nothing is left to be done */
	for (uint32_t i = 0; i < NODES; i++) {
		struct stele_repair_status st;
		stele_repair_status(stele_node_repair(w.node[i].node), &st);
		cr_assert(st.clean, "node %u: %s", i + 1, st.last_failure);
	}
	world_destroy(&w);
}
