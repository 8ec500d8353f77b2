/* Goal: what repair does on whole nodes, where the plan alone does not show it. */
#include <criterion/criterion.h>

#include "net/cluster/place.h"
#include "tests/sim/world.h"

#define NODES     8u
#define REFS      2500u /* more than one message takes twice over */
#define PER_WRITE 50u

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

static bool not_ever(void *ctx)
{
	(void)ctx;
	return false;
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

static void read_over(struct stele_store_read *r)
{
	*(bool *)r->ctx = true;
}

static struct stele_disk *disk_of(struct world *w, uint32_t node)
{
	return stele_slots_disk(stele_node_slots(w->node[node].node), 0);
}

struct listing {
	struct stele_store_list list;
	bool over;
};

static void listed(struct stele_store_list *l)
{
	((struct listing *)l->ctx)->over = true;
}

/* How many entries of that kind the user pools have there; `first`: one of them. Their indexes are
 * added to a mask. */
static uint32_t count_indexes(struct world *w, uint32_t node, uint8_t kind, struct stele_key *first,
                              uint32_t *indexes)
{
	uint32_t n = 0;
	for (uint16_t pool = 16; pool < 18; pool++) {
		struct listing g = {.list = {.pool = pool,
		                             .kinds = STELE_KIND_BIT(kind),
		                             .max = 60000,
		                             .cb = listed,
		                             .ctx = &g}};
		memset(g.list.last.b, 0xff, STELE_HASH_LEN);
		stele_disk_list(disk_of(w, node), &g.list);
		run(w, &g.over);
		cr_assert_eq(g.list.err, STELE_OK);
		cr_assert_not(g.list.more);
		n += g.list.n;
		if (g.list.n > 0)
			*first = g.list.item[0].key;
		for (uint32_t i = 0; i < g.list.n; i++)
			*indexes |= 1u << g.list.item[i].key.index;
		stele_store_list_finish(&g.list);
	}
	return n;
}

static uint32_t count(struct world *w, uint32_t node, uint8_t kind, struct stele_key *first)
{
	uint32_t indexes = 0;
	return count_indexes(w, node, kind, first, &indexes);
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
			g.item[i] = (struct stele_item){
			    .key = *shard, .meta = &object, .meta_len = sizeof(object)};
			g.item[i].key.kind = STELE_ENTRY_REF;
			g.item[i].key.index = 0;
			stele_put_le32(g.item[i].key.sub.b, (at + i) * 2654435761u);
		}
		stele_disk_write(disk_of(w, node), &g.write);
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

/* ---- repair that is asked for while something is under way ---- */

static uint32_t primary_of(struct world *w, const struct stele_key *key)
{
	const struct stele_pool *pool = stele_map_pool(w->map, key->pool);
	struct stele_window win;
	uint64_t fence;
	stele_place(w->map, pool, stele_pg_of(pool, &key->id), stele_window_width(&pool->code),
	            &win, &fence);
	for (uint32_t i = 0; i < win.n; i++)
		if (world_up(w, win.disk[i].node - 1u))
			return win.disk[i].node - 1u;
	cr_assert_fail("nobody is up");
	return 0;
}

static uint32_t width(struct world *w)
{
	struct stele_key key = {0};
	uint32_t indexes = 0;
	for (uint32_t i = 0; i < NODES; i++)
		if (world_up(w, i))
			(void)count_indexes(w, i, STELE_ENTRY_SHARD, &key, &indexes);
	return (uint32_t)__builtin_popcount(indexes);
}

struct rounds {
	struct stele_repair *repair;
	uint64_t after;
};

static bool round_over(void *ctx)
{
	struct rounds *r = ctx;
	struct stele_repair_status st;
	stele_repair_status(r->repair, &st);
	return st.round > r->after;
}

static bool not_running(void *ctx)
{
	struct rounds *r = ctx;
	struct stele_repair_status st;
	stele_repair_status(r->repair, &st);
	return !st.running;
}

/* At every moment of a round that nobody asked for, which still waits for the disk that went. */
Test(heal, at_once_means_without_grace_whenever_it_is_asked_for)
{
	static struct world w;
	struct stele_key key = {0};
	world_create(&w, 4, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	for (uint32_t k = 0; k < 40; k++) {
		uint32_t victim = k % NODES;
		while (count(&w, victim, STELE_ENTRY_SHARD, &key) == 0 ||
		       victim == primary_of(&w, &key))
			victim = (victim + 1) % NODES;
		world_stop_node(&w, victim, false);
		uint32_t before = width(&w);
		struct rounds r = {.repair = stele_node_repair(w.node[primary_of(&w, &key)].node)};
		struct stele_repair_status st;
		stele_repair_status(r.repair, &st);
		r.after = st.round + 1;
		cr_assert(world_run(&w, round_over, &r, 100));
		cr_assert_eq(width(&w), before, "it may come back");
		/* the next one begins five seconds after that, and takes some milliseconds */
		(void)stele_sim_run(w.sim, not_ever, NULL, 4999500000ull + k * 200000ull);
		stele_repair_now(r.repair);
		cr_assert(world_run(&w, not_running, &r, 100));
		cr_assert_eq(width(&w), 6u, "asked at moment %u, it was not done", k);
		cr_assert(world_start_node(&w, victim));
		world_sleep(&w, 12);
	}
	world_destroy(&w);
}

/* ---- a helper whose bytes are not what their hashes say ---- */

/* Has a good checksum and wrong bytes, as a node that lies has. */
static void spoil(struct world *w, uint32_t node, const struct stele_key *shard)
{
	struct reading {
		struct stele_store_read read;
		bool over;
	} r = {0};
	size_t len = 128u << 10;
	uint8_t *bytes = aligned_alloc(STELE_PAGE, len);
	struct iovec into = {bytes, len};
	r.read = (struct stele_store_read){.key = *shard,
	                                   .want_meta = true,
	                                   .cells = 2, /* of 75,008 bytes */
	                                   .into = &into,
	                                   .ninto = 1,
	                                   .cb = read_over,
	                                   .ctx = &r.over};
	stele_disk_read(disk_of(w, node), &r.read);
	run(w, &r.over);
	cr_assert_eq(r.read.err, STELE_OK, "%s", r.read.detail);
	struct iovec data = {bytes, r.read.data_len};
	for (int k = 0; k < 2; k++) {
		struct writing g = {.write = {.n = 1, .cb = written, .ctx = &g}};
		g.write.item = g.item;
		g.item[0] = (struct stele_item){.key = *shard, .tomb = k == 0};
		if (k == 1) {
			bytes[1000] ^= 1;
			g.item[0].meta = r.read.meta;
			g.item[0].meta_len = r.read.meta_len;
			g.item[0].data = &data;
			g.item[0].ndata = 1;
			g.item[0].data_len = r.read.data_len;
		}
		stele_disk_write(disk_of(w, node), &g.write);
		run(w, &g.over);
		cr_assert_eq(g.write.err, STELE_OK, "%s", g.write.detail);
	}
	stele_store_read_finish(&r.read);
	free(bytes);
}

static void status_over(struct stele_disk_status *s)
{
	*(bool *)s->ctx = true;
}

static uint64_t victims(struct world *w, uint32_t node)
{
	bool over = false;
	struct stele_disk_status s = {.cb = status_over, .ctx = &over};
	stele_disk_status(disk_of(w, node), &s);
	run(w, &over);
	return s.st.bad;
}

/* It is left out, and told; the copy is made good where it lies. */
Test(heal, a_lying_helper_is_told_and_mended)
{
	static struct world w;
	struct stele_key shard = {0}, liar_shard = {0};
	uint32_t liar = NODES, gone = NODES, told = 0;
	world_create(&w, 5, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	for (uint32_t i = 0; i < NODES; i++) {
		if (count(&w, i, STELE_ENTRY_SHARD, &shard) == 0)
			continue;
		if (shard.index == 1) {
			liar = i;
			liar_shard = shard;
		}
		if (shard.index == 0)
			gone = i;
	}
	cr_assert(liar < NODES && gone < NODES);
	spoil(&w, liar, &liar_shard);
	cr_assert_eq(victims(&w, liar), 0u);
	world_stop_node(&w, gone, false);
	for (uint32_t i = 0; i < NODES; i++)
		if (world_up(&w, i))
			stele_repair_now(stele_node_repair(w.node[i].node));
	for (uint32_t k = 0; k < 100000 && !told && stele_sim_step(w.sim); k++)
		told += victims(&w, liar) > 0;
	cr_assert(told, "nobody told it");
	cr_assert(world_repair(&w, 600));
	cr_assert_eq(victims(&w, liar), 0u);
	cr_assert_eq(width(&w), 6u);
	/* and it is the right one now: a deep scrub finds nothing */
	cr_assert_eq(stele_scrubs_start(stele_node_scrubs(w.node[liar].node), true), STELE_OK);
	world_sleep(&w, 60);
	cr_assert_eq(victims(&w, liar), 0u);
	world_destroy(&w);
}

/* ---- a bad copy that is all its disk has of a group ---- */

static void list_record(struct world *w, uint32_t node, struct listing *g)
{
	*g = (struct listing){.list = {.pool = STELE_POOL_RECORD,
	                               .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD),
	                               .want_meta = true,
	                               .cb = listed,
	                               .ctx = g}};
	memset(g->list.last.b, 0xff, STELE_HASH_LEN);
	stele_disk_list(disk_of(w, node), &g->list);
	run(w, &g->over);
	cr_assert_eq(g->list.err, STELE_OK);
}

/* A disk of the record's window that has none of it gets a copy. Returns which. */
static uint32_t spare_copy(struct world *w, struct stele_key *key)
{
	struct listing g, none;
	struct stele_window win;
	uint64_t fence;
	const struct stele_pool *pool = stele_map_pool(w->map, STELE_POOL_RECORD);
	uint32_t at = 0, spare = NODES;
	for (list_record(w, at, &g); g.list.n == 0; list_record(w, ++at, &g))
		stele_store_list_finish(&g.list);
	*key = g.list.item[0].key;
	stele_place(w->map, pool, stele_pg_of(pool, &key->id), stele_window_width(&pool->code),
	            &win, &fence);
	for (uint32_t i = 0; i < win.n; i++) {
		list_record(w, win.disk[i].node - 1u, &none);
		if (none.list.n == 0)
			spare = win.disk[i].node - 1u;
		stele_store_list_finish(&none.list);
	}
	cr_assert(spare < NODES);
	struct writing wr = {.write = {.n = 1, .cb = written, .ctx = &wr}};
	wr.write.item = wr.item;
	wr.item[0] = (struct stele_item){
	    .key = *key, .meta = g.list.item[0].meta, .meta_len = g.list.item[0].meta_len};
	stele_disk_write(disk_of(w, spare), &wr.write);
	run(w, &wr.over);
	cr_assert_eq(wr.write.err, STELE_OK, "%s", wr.write.detail);
	stele_store_list_finish(&g.list);
	return spare;
}

/* There are enough others; it is made good all the same, else it would be a victim for ever. */
Test(heal, a_bad_copy_is_made_good_though_its_disk_has_nothing_else)
{
	static struct world w;
	struct stele_key key;
	world_create(&w, 6, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	uint32_t spare = spare_copy(&w, &key);
	cr_assert(world_repair(&w, 600)); /* from here on it is known */
	stele_disk_report_bad(disk_of(&w, spare), &key);
	world_sleep(&w, 1);
	cr_assert_eq(victims(&w, spare), 1u);
	cr_assert(world_repair(&w, 600));
	cr_assert_eq(victims(&w, spare), 0u);
	world_destroy(&w);
}

/* ---- a copy whose checksum holds, and whose signature does not ---- */

static void write_entry(struct world *w, uint32_t node, const struct stele_item *item)
{
	struct writing wr = {.write = {.n = 1, .cb = written, .ctx = &wr}};
	wr.write.item = wr.item;
	wr.item[0] = *item;
	stele_disk_write(disk_of(w, node), &wr.write);
	run(w, &wr.over);
	cr_assert_eq(wr.write.err, STELE_OK, "%s", wr.write.detail);
}

static void spoil_record(struct world *w, uint32_t node, const struct stele_key *key)
{
	struct listing g;
	list_record(w, node, &g);
	uint32_t len = g.list.item[0].meta_len;
	uint8_t *meta = malloc(len);
	memcpy(meta, g.list.item[0].meta, len);
	meta[4 + stele_le32(meta) + 9] ^= 1; /* after the deposit: its signature */
	write_entry(w, node, &(struct stele_item){.key = *key, .tomb = true});
	write_entry(w, node, &(struct stele_item){.key = *key, .meta = meta, .meta_len = len});
	stele_store_list_finish(&g.list);
	free(meta);
}

static bool record_holds(struct world *w, uint32_t node)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	struct listing g;
	struct stele_record r;
	list_record(w, node, &g);
	bool holds = g.list.n == 1 &&
	             stele_record_decode(g.list.item[0].meta, g.list.item[0].meta_len, true, &r,
	                                 piece) == STELE_OK &&
	             stele_record_check_sig(&r) == STELE_OK;
	stele_store_list_finish(&g.list);
	return holds;
}

/* The first holder's: others are asked for theirs, and it gets a good one in its place. */
Test(heal, a_copy_whose_signature_does_not_hold_is_passed_by_and_mended)
{
	static struct world w;
	struct stele_key key = {0};
	struct stele_window win;
	struct listing g;
	uint64_t fence;
	uint32_t holder[NODES], n = 0, good = 0;
	world_create(&w, 8, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	cr_assert(world_repair(&w, 600));
	for (uint32_t i = 0; i < NODES; i++) {
		list_record(&w, i, &g);
		if (g.list.n)
			key = g.list.item[0].key;
		stele_store_list_finish(&g.list);
	}
	const struct stele_pool *pool = stele_map_pool(w.map, STELE_POOL_RECORD);
	stele_place(w.map, pool, stele_pg_of(pool, &key.id), stele_window_width(&pool->code), &win,
	            &fence);
	for (uint32_t i = 0; i < win.n; i++)
		if (record_holds(&w, win.disk[i].node - 1u))
			holder[n++] = win.disk[i].node - 1u;
	cr_assert_eq(n, 3u);
	spoil_record(&w, holder[0], &key);
	cr_assert_not(record_holds(&w, holder[0]));
	write_entry(&w, holder[2], &(struct stele_item){.key = key, .tomb = true});
	cr_assert(world_repair(&w, 600));
	for (uint32_t i = 0; i < NODES; i++)
		good += record_holds(&w, i);
	cr_assert_eq(good, 3u);
	cr_assert(record_holds(&w, holder[0]), "it was not told");
	cr_assert_eq(victims(&w, holder[0]), 0u);
	world_destroy(&w);
}

/* ---- a node that stops while one that it gave a job to hangs ---- */

static void node_closed(void *ctx)
{
	*(bool *)ctx = true;
}

Test(heal, a_node_that_stops_waits_for_no_job)
{
	static struct world w;
	struct stele_key key = {0};
	struct stele_repair_status st = {0};
	world_create(&w, 9, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	cr_assert(world_repair(&w, 600));
	uint32_t gone = 0;
	while (count(&w, gone, STELE_ENTRY_SHARD, &key) == 0 || gone == primary_of(&w, &key))
		gone++;
	world_stop_node(&w, gone, false);
	struct world_node *n = &w.node[primary_of(&w, &key)];
	stele_repair_now(stele_node_repair(n->node));
	while (st.todo == 0 && stele_sim_step(w.sim))
		stele_repair_status(stele_node_repair(n->node), &st);
	stele_sim_cut(w.sim, n->machine, NULL, true);
	stele_sim_cut(w.sim, NULL, n->machine, true);
	n->closed = false;
	stele_node_close(n->node, node_closed, &n->closed);
	cr_assert(world_run(&w, is_true, &n->closed, 25), "it waits for a job");
	stele_node_destroy(n->node);
	stele_env_destroy(n->env);
	n->node = NULL;
	n->env = NULL;
	world_destroy(&w);
}

/* ---- a disk that is found to be stale while an inventory is under way ---- */

static bool has_voice(void *ctx)
{
	return !stele_slots_refilling(ctx, 0);
}

static uint32_t records(struct world *w, uint32_t node)
{
	struct listing g;
	list_record(w, node, &g);
	uint32_t n = g.list.n;
	stele_store_list_finish(&g.list);
	return n;
}

/* At every moment of a round: it has its voice again when it has its record again, not before. */
Test(heal, a_stale_disk_has_no_voice_until_it_was_looked_at)
{
	static struct world w;
	struct listing g;
	world_create(&w, 7, NODES, "rs-4-2", 86400, false);
	put_one(&w);
	cr_assert(world_repair(&w, 600));
	uint32_t stale = 0;
	for (uint32_t n = 0;; stale++) { /* holds the record, and is not the first to care for it */
		cr_assert(stale < NODES);
		list_record(&w, stale, &g);
		n = g.list.n;
		struct stele_key key = n ? g.list.item[0].key : (struct stele_key){0};
		stele_store_list_finish(&g.list);
		if (n && primary_of(&w, &key) != stale) {
			g.list.after = key;
			break;
		}
	}
	struct stele_key key = g.list.after;
	for (uint32_t k = 0; k < 40; k++) {
		world_stop_node(&w, stale, false);
		cr_assert(world_start_node(&w, stale));
		struct rounds r = {.repair = stele_node_repair(w.node[stale].node)};
		struct stele_slots *slots = stele_node_slots(w.node[stale].node);
		cr_assert(world_run(&w, round_over, &r, 100));
		cr_assert(records(&w, stale) == 1 && has_voice(slots));
		(void)stele_sim_run(w.sim, not_ever, NULL, 4990000000ull);
		struct writing wr = {.write = {.n = 1, .cb = written, .ctx = &wr}};
		wr.write.item = wr.item;
		wr.item[0] = (struct stele_item){.key = key, .tomb = true};
		stele_disk_write(disk_of(&w, stale), &wr.write);
		(void)stele_sim_run(w.sim, not_ever, NULL, 9500000ull + k * 200000ull);
		stele_slots_stale(slots, 0, "a stale snapshot");
		cr_assert(world_run(&w, has_voice, slots, 100));
		cr_assert(wr.over);
		cr_assert_eq(records(&w, stale), 1u, "stale at moment %u", k);
	}
	world_destroy(&w);
}
