/*
 * Goal: disks are pulled and put back while a simulated cluster takes puts, scrubs, repairs and collects: every order ends,
 * nothing acknowledged is lost, an emptied disk is refilled, and a life is replayed exactly from its seed.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/prng.h"
#include "storage/base/sha256.h"
#include "storage/kv/kv.h"
#include "tests/sim/world.h"

#define NODES   8u
#define PUTS    16u
#define PULLED  2u /* at once: what rs-4-2 survives */
#define SEEDS   12u
#define LEN_MAX 400000u

struct put {
	struct stele_put_request req;
	uint64_t seed;
	size_t len, at;
	bool over, kept;
};

struct life {
	struct world w;
	struct stele_prng rng;
	struct stele_slot_change change[NODES];
	bool changing[NODES];
	uint32_t pulled; /* missing, or on the way to it */
	uint32_t done, refused;
	uint64_t next; /* events until something happens again */
	bool quiet;
	uint32_t watched;
	struct put put[PUTS];
	bool *over;
};

static uint8_t byte_of(uint64_t seed, size_t at)
{
	return (uint8_t)((seed * 31 + at) ^ at >> 8 ^ at >> 16);
}

static enum stele_err read_put(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct put *p = ctx;
	size_t n = p->len - p->at < cap ? p->len - p->at : cap;
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = byte_of(p->seed, p->at + i);
	p->at += n;
	*got = n;
	return STELE_OK;
}

static enum stele_err check_put(void *ctx, const void *bytes, size_t len)
{
	struct put *p = ctx;
	for (size_t i = 0; i < len; i++)
		cr_assert(p->at + i < p->len &&
		          ((const uint8_t *)bytes)[i] == byte_of(p->seed, p->at + i));
	p->at += len;
	return STELE_OK;
}

static struct stele_slots *slots(struct life *l, uint32_t node)
{
	return stele_node_slots(l->w.node[node].node);
}

static void changed(struct stele_slot_change *c)
{
	struct life *l = c->ctx;
	uint32_t node = (uint32_t)(c - l->change);
	cr_assert(l->changing[node], "twice");
	cr_assert_eq(c->err, STELE_OK, "%s", c->detail);
	l->changing[node] = false;
	l->done++;
	if (stele_slots_disk(slots(l, node), 0)) {
		stele_node_attached(l->w.node[node].node, 0);
		l->pulled--;
	}
}

static void toggle(struct life *l, uint32_t node)
{
	bool there = stele_slots_disk(slots(l, node), 0) != NULL;
	if (l->changing[node] || (there && l->pulled == PULLED))
		return;
	l->change[node] = (struct stele_slot_change){.cb = changed, .ctx = l};
	l->changing[node] = true;
	enum stele_err err = there ? stele_slots_detach(slots(l, node), &l->change[node])
	                           : stele_node_attach(l->w.node[node].node, &l->change[node]);
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	l->pulled += there;
}

/* Asked after every event of the world: now and then something happens. */
static bool over(void *ctx)
{
	struct life *l = ctx;
	if (!l->quiet && l->next-- == 0) {
		uint32_t node = (uint32_t)stele_prng_below(&l->rng, NODES);
		l->next = stele_prng_below(&l->rng, 300);
		switch (stele_prng_below(&l->rng, 8)) {
		case 0:
			(void)!stele_scrubs_start(stele_node_scrubs(l->w.node[node].node), true);
			break;
		case 1:
			stele_repair_now(stele_node_repair(l->w.node[node].node));
			break;
		default:
			toggle(l, node);
		}
	}
	return *l->over;
}

static void run(struct life *l, bool *flag)
{
	l->over = flag;
	cr_assert(world_run(&l->w, over, l, 3600), "something does not end");
}

static bool settled(void *ctx)
{
	struct life *l = ctx;
	for (uint32_t i = 0; i < NODES; i++)
		if (l->changing[i])
			return false;
	return true;
}

static void put_over(struct stele_put_request *req)
{
	((struct put *)req->ctx)->over = true;
}

static void put_one(struct life *l, struct put *p, uint64_t seed)
{
	*p = (struct put){.seed = seed, .len = 1 + stele_prng_below(&l->rng, LEN_MAX)};
	p->req = (struct stele_put_request){
	    .source = {.read = read_put, .ctx = p, .length = p->len}, .cb = put_over, .ctx = p};
	stele_session_put(l->w.session, &p->req);
	run(l, &p->over);
	p->kept = p->req.err == STELE_OK || p->req.err == STELE_ERR_DEGRADED;
	l->refused += !p->kept;
}

static void get_over(struct stele_get_request *req)
{
	((struct put *)req->ctx)->over = true;
}

static void get_one(struct life *l, struct put *p)
{
	struct put into = {.seed = p->seed, .len = p->len};
	struct stele_get_request req = {.id = p->req.result.object,
	                                .opts = {.len = UINT64_MAX},
	                                .sink = {check_put, &into},
	                                .cb = get_over,
	                                .ctx = &into};
	stele_session_get(l->w.session, &req);
	run(l, &into.over);
	cr_assert_eq(req.err, STELE_OK, "%s", req.detail);
	cr_assert_eq(into.at, p->len);
}

static void all_back(struct life *l)
{
	l->quiet = true;
	cr_assert(world_run(&l->w, settled, l, 600));
	for (uint32_t i = 0; i < NODES; i++)
		if (!stele_slots_disk(slots(l, i), 0))
			toggle(l, i);
	cr_assert(world_run(&l->w, settled, l, 600));
	cr_assert_eq(l->pulled, 0);
}

static bool refilled(void *ctx)
{
	struct life *l = ctx;
	return !stele_slots_refilling(slots(l, l->watched), 0);
}

/* A node's disk is pulled and an empty one is put in its place. */
static void replace(struct life *l, uint32_t node)
{
	char disk[64], index[80];
	toggle(l, node);
	cr_assert(world_run(&l->w, settled, l, 600));
	snprintf(disk, sizeof(disk), "/%s/disk0", l->w.node[node].machine);
	snprintf(index, sizeof(index), "%s/index", disk);
	stele_sim_wipe(l->w.sim, l->w.node[node].machine, disk);
	cr_assert_eq(stele_kv_destroy_dir(&stele_kv_memory, l->w.kv, index), STELE_OK);
	toggle(l, node);
	cr_assert(world_run(&l->w, settled, l, 600));
	cr_assert(stele_slots_refilling(slots(l, node), 0));
	l->watched = node;
	cr_assert(world_run(&l->w, refilled, l, 600), "never refilled");
	cr_assert(world_repair(&l->w, 600));
}

static struct stele_hash live(uint64_t seed, uint32_t *done)
{
	struct life *l = calloc(1, sizeof(*l));
	struct stele_hash log;
	cr_assert_not_null(l);
	world_create(&l->w, seed, NODES, "rs-4-2", 8, false);
	cr_assert(world_repair(&l->w, 600)); /* new disks have a voice after this */
	stele_prng_init(&l->rng, seed);
	for (uint32_t i = 0; i < PUTS; i++)
		put_one(l, &l->put[i], seed * 1000 + i);
	all_back(l);
	cr_assert(world_repair(&l->w, 600));
	replace(l, (uint32_t)(seed % NODES));
	for (uint32_t i = 0; i < PUTS; i++)
		if (l->put[i].kept)
			get_one(l, &l->put[i]);
	cr_assert_lt(l->refused, PUTS / 2, "seed %llu: %u of %u puts were refused",
	             (unsigned long long)seed, l->refused, PUTS);
	*done += l->done;
	stele_sim_log_hash(l->w.sim, &log);
	world_destroy(&l->w);
	free(l);
	return log;
}

Test(pulled, disks_come_and_go_under_everything)
{
	uint32_t done = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		(void)live(seed, &done);
	cr_assert_gt(done, SEEDS * 20, "%u: too little happened", done);
}

Test(pulled, a_life_is_replayed_from_its_seed)
{
	uint32_t done = 0;
	struct stele_hash a = live(77, &done), b = live(77, &done);
	cr_assert(stele_hash_equal(&a, &b));
}
