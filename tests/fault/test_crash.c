/*
 * Goal: whatever a crash leaves of unsynced writes (kept, dropped, torn, in any order), and whenever it comes,
 * also in the middle of a recovery, the store comes back with everything that was acknowledged, without
 * anything that was removed, with nothing half written, and serves no byte that does not check
 * (DESIGN 11, 1 to 3). A crash here is a power loss of the simulated disk at its Nth operation, and the
 * index goes back to some state since its last flush, or is corrupt. Half of the disks have so little room that
 * extents are reclaimed and written again all the time, while the writes go on. STELE_CRASHES sets how many (10000);
 * STELE_SEED replays one run.
 */
#include <errno.h>

#include "storage/io/sim.h"
#include "tests/unit/store_kit.h"

#define KEYS  40u
#define DEPTH 6u
#define LIVES 6u /* crashes of one store before a fresh one */
#define CAPACITY (5 * STELE_EXTENT_LEN_MIN)

enum state { ABSENT, PRESENT, EITHER };

static struct kit_block blocks[KEYS / 2]; /* even keys are shards, odd ones records */

struct slot {
	struct stele_store_write w;
	struct stele_item item[2];
	struct iovec iov;
	uint8_t *meta;
	uint32_t n; /* its key */
	bool busy;
};

struct world {
	struct stele_env env; /* stands before the simulated one and counts */
	struct stele_env *real;
	struct stele_sim *sim;
	struct kit k;
	uint64_t seed, rnd;
	int64_t countdown; /* operations until the power goes */
	bool crashed, stepping;
	enum state state[KEYS];
	struct slot slot[DEPTH];
	uint32_t in_flight;
	uint64_t acked, writes;
	struct stele_store_reclaim reclaim;
	bool reclaiming;
	uint64_t emptied; /* extents, in all lives */
};

static uint64_t rnd(struct world *w, uint64_t below)
{
	w->rnd = kit_mix(w->rnd);
	return w->rnd % below;
}

/* ---- the env that counts ---- */

static void count(struct world *w, const struct stele_op *op)
{
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_TIMER:
	case STELE_OP_WORK:
	case STELE_OP_STAT:
	case STELE_OP_LIST:
	case STELE_OP_CLOSE:
		return;
	default:
		break;
	}
	if (!w->crashed && --w->countdown == 0) {
		w->crashed = true;
		if (!w->stepping)
			stele_sim_crash(w->sim, "disk");
	}
}

/* The simulator crashes between events: what a worker still calls within this one has no effect. */
static bool step(struct world *w)
{
	bool was = w->crashed;
	w->stepping = true;
	bool more = stele_sim_step(w->sim);
	w->stepping = false;
	if (w->crashed && !was)
		stele_sim_crash(w->sim, "disk");
	return more;
}

#define REAL(env) (((struct world *)(env))->real)
static void c_submit(struct stele_env *env, struct stele_op *op)
{
	struct world *w = (struct world *)env;
	bool after = w->rnd >> 40 & 1; /* the operation is under way, or never began */
	if (after)
		w->real->ops->submit(w->real, op);
	count(w, op);
	if (!after)
		w->real->ops->submit(w->real, op);
}
static int64_t c_call(struct stele_env *env, struct stele_op *op)
{
	struct world *w = (struct world *)env;
	count(w, op);
	if (w->crashed && w->stepping)
		return op->result = -ECANCELED;
	return REAL(env)->ops->call(REAL(env), op);
}
static void c_cancel(struct stele_env *env, struct stele_op *op)
{
	stele_env_cancel(REAL(env), op);
}
static void c_post(struct stele_env *env, struct stele_msg *msg)
{
	stele_env_post(REAL(env), msg);
}
static uint64_t c_now(struct stele_env *env)
{
	return stele_env_now(REAL(env));
}
static int64_t c_wall(struct stele_env *env)
{
	return stele_env_wall(REAL(env));
}
static void c_random(struct stele_env *env, void *out, size_t len)
{
	stele_env_random(REAL(env), out, len);
}
static const struct stele_env_ops counting = {
    .submit = c_submit,
    .cancel = c_cancel,
    .call = c_call,
    .post = c_post,
    .now = c_now,
    .wall = c_wall,
    .random = c_random,
};

static bool turn(struct kit *k)
{
	struct world *w = k->sim;
	while (k->waiting)
		if (!step(w))
			return false;
	return true;
}

/* ---- the workload ---- */

static struct stele_key key_of(uint32_t n)
{
	if (n % 2 == 0)
		return kit_key(STELE_ENTRY_SHARD, &blocks[n / 2].id, NULL, 0);
	struct stele_hash id = kit_hash(n), sub;
	stele_sha256(&n, sizeof(n), &sub);
	return kit_key(STELE_ENTRY_RECORD, &id, &sub, 0);
}

/* Named by the hash of its text, as a deep scrub wants it. */
static uint32_t record_bytes(uint32_t n, uint8_t *out)
{
	uint32_t len = 8 + (uint32_t)(kit_mix(n) % 20000);
	memset(out, (int)n, len);
	stele_put_le32(out, sizeof(n));
	memcpy(out + 4, &n, sizeof(n));
	return len;
}

/* A REF goes with a shard, in the same write: both are there afterwards, or none. */
static struct stele_key ref_of(uint32_t n)
{
	struct stele_hash deposit = kit_hash(n + 1000);
	return kit_key(STELE_ENTRY_REF, &blocks[n / 2].id, &deposit, 0);
}

static bool key_busy(const struct world *w, uint32_t n)
{
	for (uint32_t i = 0; i < DEPTH; i++)
		if (w->slot[i].busy && w->slot[i].n == n)
			return true;
	return false;
}

static void written(struct stele_store_write *op)
{
	struct slot *s = (struct slot *)((uint8_t *)op - offsetof(struct slot, w));
	struct world *w = op->ctx;
	s->busy = false;
	w->in_flight--;
	free(s->meta);
	if (op->err == STELE_ERR_FULL && w->k.opts.capacity)
		return; /* refused: as if it had not been asked for */
	if (op->err) {
		cr_assert(w->crashed, "seed %llu: %s", (unsigned long long)w->seed, op->detail);
		w->state[s->n] = EITHER;
		return;
	}
	w->acked++;
	w->state[s->n] = s->item[0].tomb ? ABSENT : PRESENT;
}

static void start_write(struct world *w, struct slot *s)
{
	static const struct stele_hash object = {{1}};
	do {
		s->n = (uint32_t)rnd(w, KEYS);
	} while (key_busy(w, s->n));
	bool tomb = w->state[s->n] == PRESENT;
	uint32_t n = 1;
	memset(s->item, 0, sizeof(s->item));
	s->meta = NULL;
	s->item[0] = (struct stele_item){.key = key_of(s->n), .tomb = tomb};
	if (s->n % 2 == 0) {
		n = 2;
		s->item[1] = (struct stele_item){.key = ref_of(s->n), .tomb = tomb};
	}
	if (!tomb && s->n % 2 == 0) {
		struct kit_block *b = &blocks[s->n / 2];
		s->meta = kit_meta(b, 0, &s->item[0].meta_len);
		s->iov = (struct iovec){b->shard[0], b->d.S};
		s->item[0].data = &s->iov;
		s->item[0].ndata = 1;
		s->item[0].data_len = b->d.S;
		s->item[1].meta = &object;
		s->item[1].meta_len = sizeof(object);
	} else if (!tomb) {
		s->meta = malloc(20008);
		s->item[0].meta_len = record_bytes(s->n, s->meta);
	}
	s->item[0].meta = s->meta;
	s->busy = true;
	w->in_flight++;
	w->writes++;
	s->w = (struct stele_store_write){.item = s->item, .n = n, .cb = written, .ctx = w};
	stele_store_write(w->k.store, &s->w);
}

static void reclaimed(struct stele_store_reclaim *r)
{
	struct world *w = r->ctx;
	w->reclaiming = false;
	w->emptied += r->extents;
	cr_assert(r->err == STELE_ERR_CANCELLED || (w->crashed && r->err == STELE_ERR_FENCED),
	          "seed %llu: reclaim: %s", (unsigned long long)w->seed, r->detail);
}

static void start_reclaim(struct world *w)
{
	w->reclaim = (struct stele_store_reclaim){.cb = reclaimed, .ctx = w};
	w->reclaiming = true;
	stele_store_reclaim(w->k.store, &w->reclaim);
}

static void stop_reclaim(struct world *w)
{
	if (w->k.store)
		stele_store_reclaim_cancel(w->k.store);
	while (w->reclaiming)
		cr_assert(step(w), "reclaim does not end");
}

/* Writes until the power goes, or so many times. Afterwards every callback has fired. */
static void live(struct world *w, uint64_t writes)
{
	if (w->k.opts.capacity || rnd(w, 2))
		start_reclaim(w);
	for (uint64_t end = w->writes + writes; !w->crashed && w->writes < end;) {
		struct slot *s = &w->slot[rnd(w, DEPTH)];
		if (!s->busy)
			start_write(w, s);
		for (uint64_t steps = rnd(w, 6); steps && !w->crashed; steps--)
			step(w);
	}
	while (w->in_flight)
		cr_assert(step(w), "a callback is missing");
	stop_reclaim(w);
}

/* ---- comparing ---- */

static bool record_there(struct world *w, uint32_t n)
{
	struct stele_key key = key_of(n);
	struct stele_store_list l = {.pool = 1,
	                             .first = key.id,
	                             .last = key.id,
	                             .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD),
	                             .want_meta = true};
	cr_assert_eq(kit_list(&w->k, &l), STELE_OK, "%s", l.detail);
	bool there = l.n == 1;
	if (there) {
		uint8_t want[20008];
		uint32_t len = record_bytes(n, want);
		cr_assert(l.item[0].meta_len == len && memcmp(l.item[0].meta, want, len) == 0);
	}
	stele_store_list_finish(&l);
	return there;
}

static bool shard_there(struct world *w, uint32_t n)
{
	enum stele_err err = kit_same(&w->k, &blocks[n / 2], 0);
	cr_assert(err == STELE_OK || err == STELE_ERR_NOT_FOUND, "seed %llu: key %u: %s",
	          (unsigned long long)w->seed, n, stele_detail());
	struct stele_key ref = ref_of(n);
	cr_assert_eq(kit_have(&w->k, &ref), err == STELE_OK, "seed %llu: key %u: half a write",
	             (unsigned long long)w->seed, n);
	return err == STELE_OK;
}

static void compare(struct world *w)
{
	for (uint32_t n = 0; n < KEYS; n++) {
		bool there = n % 2 ? record_there(w, n) : shard_there(w, n);
		if (w->state[n] == EITHER)
			w->state[n] = there ? PRESENT : ABSENT;
		cr_assert_eq(there, w->state[n] == PRESENT, "seed %llu: key %u is %s",
		             (unsigned long long)w->seed, n, there ? "back" : "lost");
	}
	if (rnd(w, 8) == 0) {
		struct stele_store_scrub s = {.deep = true};
		cr_assert_eq(kit_scrub(&w->k, &s), STELE_OK, "%s", s.detail);
		cr_assert_eq(s.victims, 0, "seed %llu: %u victims", (unsigned long long)w->seed,
		             (unsigned)s.victims);
	}
}

/* ---- lives ---- */

static void begin(struct world *w, int64_t countdown)
{
	cr_assert_eq(stele_sim_env(w->sim, "disk", &w->real), STELE_OK);
	w->crashed = false;
	w->countdown = countdown;
	w->k.env = w->k.opts.env = &w->env;
}

static void end(struct world *w)
{
	while (w->k.store && stele_store_busy(w->k.store) && step(w))
		;
	stele_store_close(w->k.store);
	w->k.store = NULL;
	while (step(w))
		;
	stele_env_destroy(w->real);
	if (w->crashed)
		stele_kv_world_crash(w->k.world, w->k.dir, rnd(w, UINT64_MAX), 12);
}

/* The index is gone and every trailer rots: all that is left of the extents are their batches. */
static void lose_index(struct world *w)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/index", w->k.dir);
	cr_assert_eq(stele_kv_destroy_dir(w->k.kv, w->k.world, path), STELE_OK);
	for (uint32_t id = 1; id < 64; id++) {
		snprintf(path, sizeof(path), "%s/extent-%08x", w->k.dir, id);
		if (!stele_sim_flip(w->sim, "disk", path,
		                    STELE_EXTENT_LEN_MIN - STELE_PAGE + rnd(w, STELE_PAGE),
		                    (uint32_t)rnd(w, 8)))
			return;
	}
}

/* Opens; the power may go while it does. */
static bool try_open(struct world *w)
{
	enum stele_err err = stele_store_open(&w->k.opts, &w->k.store);
	if (err) {
		cr_assert(w->crashed, "seed %llu: %s", (unsigned long long)w->seed, stele_detail());
		w->k.store = NULL;
	}
	return err == STELE_OK;
}

static uint64_t emptied;

static uint32_t run(uint64_t seed)
{
	static struct world w;
	uint32_t crashes = 0;
	memset(&w, 0, sizeof(w));
	w.seed = w.rnd = seed;
	w.env.ops = &counting;
	w.k.turn = turn;
	w.k.sim = &w;
	cr_assert_eq(stele_sim_create(seed, &w.sim), STELE_OK);
	snprintf(w.k.dir, sizeof(w.k.dir), "/disk0");
	begin(&w, INT64_MAX);
	kit_opts(&w.k, false);
	w.k.opts.capacity = seed % 2 ? 0 : CAPACITY;
	cr_assert_eq(stele_file_mkdirs(&w.env, w.k.dir, 0700), STELE_OK);
	cr_assert_eq(stele_file_sync_dir(&w.env, "/"), STELE_OK);
	cr_assert_eq(stele_store_format(&w.k.opts, NULL), STELE_OK, "%s", stele_detail());
	for (uint32_t life = 0; life < LIVES; life++) {
		/* a third of the lives end while the store is being opened, or soon after */
		w.countdown = 1 + (int64_t)rnd(&w, rnd(&w, 3) == 0 ? 12 : w.k.opts.capacity ? 200 : 60);
		if (try_open(&w)) {
			if (!w.crashed)
				compare(&w);
			live(&w, UINT64_MAX - w.writes);
		}
		crashes++;
		end(&w);
		begin(&w, INT64_MAX);
		cr_assert(try_open(&w));
		compare(&w);
		if (rnd(&w, 3) == 0) { /* a clean restart in between */
			live(&w, rnd(&w, 12));
			end(&w);
			if (rnd(&w, 2) == 0)
				lose_index(&w);
			begin(&w, INT64_MAX);
			cr_assert(try_open(&w));
			compare(&w);
		}
		end(&w);
		begin(&w, INT64_MAX);
	}
	emptied += w.emptied;
	stele_env_destroy(w.real);
	stele_sim_destroy(w.sim);
	stele_kv_world_destroy(w.k.world);
	return crashes;
}

Test(crash, everything_acknowledged_comes_back)
{
	const char *seed = getenv("STELE_SEED"), *many = getenv("STELE_CRASHES");
	uint32_t want = many ? (uint32_t)atoi(many) : 10000, done = 0;
	for (uint32_t i = 0; i < KEYS / 2; i++)
		kit_block_make(&blocks[i], "rep-2", 1 + kit_mix(i) % 500000, i);
	if (seed) {
		run(strtoull(seed, NULL, 10));
		return;
	}
	for (uint64_t s = 1; done < want; s++)
		done += run(s);
	cr_assert_gt(emptied, want / 10, "hardly anything was reclaimed: %llu",
	             (unsigned long long)emptied);
	cr_log_info("%u crashes, %llu extents reclaimed", done, (unsigned long long)emptied);
}
