/*
 * stele-sim: a seeded life of a whole cluster, judged after every step.
 *   stele-sim --seed N [--count K] [--steps S] [--verbose]
 * Puts, gets and ranges of random objects, while nodes are killed, lose power, come back, lose their disks or some bits, and
 * clients die in the middle. At most t losses at a time are unrepaired. What must hold (DESIGN 11):
 *   1 what was acknowledged is readable, bit for bit, while no more is lost than its put said;
 *   2 no wrong byte is ever given out; what is beyond tolerance is refused;
 *   3 nothing referenced is ever collected, and leftovers are, in time;
 *   4 degraded becomes full width again;
 *   8 when faults stop, the cluster is whole within a bound;
 *   9 the same seed gives the same events (run with --count 1 twice: the hash is printed).
 * Exit 0: all held. On a failure it prints the seed and what broke, and exits 1.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/sha256.h"
#include "tests/sim/world.h"

#define OBJECTS_MAX 64u
#define T           2u /* of rs-4-2 */
#define NODES       8u

struct object {
	struct stele_hash id;
	uint64_t seed; /* its bytes follow from it */
	size_t len;
	bool acked; /* else: may be there or not */
};

struct life {
	struct world w;
	uint64_t seed;
	struct object object[OBJECTS_MAX];
	uint32_t n;
	uint32_t lost; /* nodes whose disks lost something since the last full repair */
	bool lossy[NODES];
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void broke(struct life *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "seed %" PRIu64 " at %.6f s: ", l->seed,
	        (double)stele_sim_now(l->w.sim) / 1e9);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n  replay: stele-sim --seed %" PRIu64 " --verbose\n", l->seed);
	va_end(ap);
	l->failed = true;
}

/* ---- objects ---- */

static void fill(const struct object *o, uint8_t *out)
{
	struct stele_prng rng;
	stele_prng_init(&rng, o->seed);
	stele_prng_fill(&rng, out, o->len);
}

struct mem {
	uint8_t *bytes;
	size_t len, at;
};

static enum stele_err mem_read(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct mem *m = ctx;
	*got = m->len - m->at < cap ? m->len - m->at : cap;
	memcpy(buf, m->bytes + m->at, *got);
	m->at += *got;
	return STELE_OK;
}

static enum stele_err mem_write(void *ctx, const void *bytes, size_t len)
{
	struct mem *m = ctx;
	if (len > m->len - m->at)
		return stele_fail(STELE_ERR_TOO_LARGE, "more bytes than the object has");
	memcpy(m->bytes + m->at, bytes, len);
	m->at += len;
	return STELE_OK;
}

static bool put_done;
static void put_cb(struct stele_put_request *req)
{
	(void)req;
	put_done = true;
}

static bool get_done;
static void get_cb(struct stele_get_request *req)
{
	(void)req;
	get_done = true;
}

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

static size_t random_len(struct stele_prng *rng)
{
	switch (stele_prng_below(rng, 8)) {
	case 0:
		return stele_prng_below(rng, 3);
	case 1:
		return 65535 + stele_prng_below(rng, 3);
	case 2:
	case 3:
		return stele_prng_below(rng, 65536);
	case 4:
		return 1 + stele_prng_below(rng, 3u << 20);
	default:
		return 65537 + stele_prng_below(rng, 600000);
	}
}

/* A put; with `die` the client is killed somewhere in the middle of it. */
static void do_put(struct life *l, bool die)
{
	struct world *w = &l->w;
	struct object o = {.seed = stele_prng_u64(&w->rng), .len = random_len(&w->rng)};
	if (l->n == OBJECTS_MAX)
		return;
	uint8_t *bytes = malloc(o.len ? o.len : 1);
	fill(&o, bytes);
	stele_sha256(bytes, o.len, &o.id);
	struct mem mem = {.bytes = bytes, .len = o.len};
	struct stele_put_request *req = calloc(1, sizeof(*req));
	req->cb = put_cb;
	req->source = (struct stele_source){.read = mem_read, .ctx = &mem, .length = o.len};
	put_done = false;
	stele_session_put(w->session, req);
	if (die) {
		uint64_t until = stele_sim_now(w->sim) + stele_prng_below(&w->rng, 60000000);
		while (!put_done && stele_sim_now(w->sim) < until && stele_sim_step(w->sim))
			;
		world_say(w, "the client dies in a put of %zu bytes%s", o.len,
		          put_done ? " (it was over)" : "");
		stele_sim_kill(w->sim, "client");
	}
	if (!world_run(w, is_true, &put_done, 600)) {
		broke(l, "a put of %zu bytes does not end", o.len);
		exit(1);
	}
	char hex[STELE_HEX_LEN];
	if (req->err == STELE_OK || req->err == STELE_ERR_DEGRADED) {
		o.acked = true;
		world_say(w, "put %.12s, %zu bytes: %s, margin %d", stele_hash_hex(&o.id, hex),
		          o.len, stele_err_name(req->err), req->result.margin);
		if (!stele_hash_equal(&o.id, &req->result.object))
			broke(l, "a put returned another id");
		if (req->err == STELE_OK && req->result.margin < (int)T)
			broke(l, "a put was acknowledged in full with margin %d",
			      req->result.margin);
	} else {
		world_say(w, "put of %zu bytes: %s: %s", o.len, stele_err_name(req->err),
		          req->detail);
		if (!die && world_nup(w) == NODES)
			broke(l, "a put failed with every node up: %s: %s",
			      stele_err_name(req->err), req->detail);
	}
	l->object[l->n++] = o;
	free(req);
	free(bytes);
	if (die) {
		world_stop_client(w);
		world_start_client(w);
	}
}

/* must: it has to succeed. */
static void do_get(struct life *l, struct object *o, bool whole, bool must)
{
	struct world *w = &l->w;
	uint8_t *want = malloc(o->len ? o->len : 1), *have = malloc(o->len ? o->len : 1);
	size_t off = whole || o->len == 0 ? 0 : stele_prng_below(&w->rng, o->len);
	size_t len = whole || o->len == 0 ? o->len : 1 + stele_prng_below(&w->rng, o->len - off);
	fill(o, want);
	struct mem mem = {.bytes = have, .len = len};
	struct stele_get_request *req = calloc(1, sizeof(*req));
	req->cb = get_cb;
	req->id = o->id;
	req->opts = (struct stele_get_opts){.off = off, .len = whole ? UINT64_MAX : len};
	req->sink = (struct stele_sink){.write = mem_write, .ctx = &mem};
	get_done = false;
	stele_session_get(w->session, req);
	if (!world_run(w, is_true, &get_done, 600)) {
		broke(l, "a get does not end");
		exit(1);
	}
	char hex[STELE_HEX_LEN];
	stele_hash_hex(&o->id, hex);
	world_say(w, "get %.12s [%zu, +%zu]: %s %s", hex, off, len, stele_err_name(req->err),
	          req->detail);
	if (memcmp(have, want + off, mem.at) != 0)
		broke(l, "wrong bytes were given out of %s", hex);
	if (req->err == STELE_OK && mem.at != len)
		broke(l, "a get of %s succeeded short", hex);
	if (req->err == STELE_ERR_NOT_FOUND && o->acked)
		broke(l, "%s was acknowledged and is said not to exist: %s", hex, req->detail);
	if (must && o->acked && req->err != STELE_OK)
		broke(l, "%s was acknowledged and cannot be read: %s: %s", hex,
		      stele_err_name(req->err), req->detail);
	free(req);
	free(want);
	free(have);
}

/* ---- faults: at most T disks hold less than they should, or are away, at a time ---- */

static uint32_t unwell(const struct life *l)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < NODES; i++)
		n += !world_up(&l->w, i) || l->lossy[i];
	return n;
}

static void full_repair(struct life *l)
{
	struct world *w = &l->w;
	for (uint32_t i = 0; i < NODES; i++)
		world_start_node(w, i);
	/* Scrub first: what rotted is found by reading it. */
	for (uint32_t i = 0; i < NODES; i++)
		if (stele_scrubs_start(stele_node_scrubs(w->node[i].node), true) != STELE_OK)
			broke(l, "a scrub cannot start: %s", stele_detail());
	for (uint32_t i = 0; i < NODES; i++) {
		struct stele_scrubs_status st;
		for (int k = 0; k < 600; k++) {
			stele_scrubs_status(stele_node_scrubs(w->node[i].node), &st);
			if (!st.running)
				break;
			world_sleep(w, 1);
		}
		if (st.running)
			broke(l, "a scrub does not end");
	}
	if (!world_repair(w, 900)) {
		broke(l, "repair does not end with every node up");
		return;
	}
	memset(l->lossy, 0, sizeof(l->lossy));
}

static void do_fault(struct life *l)
{
	struct world *w = &l->w;
	uint32_t i = (uint32_t)stele_prng_below(&w->rng, NODES);
	bool may = unwell(l) < T || !world_up(w, i) || l->lossy[i];
	switch (stele_prng_below(&w->rng, 5)) {
	case 0:
	case 1:
		if (world_up(w, i) && may)
			world_stop_node(w, i, stele_prng_below(&w->rng, 2) == 0);
		else
			world_start_node(w, i);
		break;
	case 2:
		if (may) {
			world_stop_node(w, i, stele_prng_below(&w->rng, 2) == 0);
			world_wipe(w, i);
			l->lossy[i] = true;
			world_start_node(w, i);
		}
		break;
	case 3:
		if (may && world_up(w, i) && world_flip(w, i))
			l->lossy[i] = true;
		break;
	default:
		full_repair(l);
		break;
	}
}

/* ---- the end: faults stop, and everything must be whole ---- */

static bool health_done;
static void health_cb(struct stele_health *h)
{
	(void)h;
	health_done = true;
}

struct health_sum {
	struct stele_health health;
	uint64_t things, degraded;
	int margin;
};

static void health_sum(struct stele_health *h)
{
	struct health_sum *s = h->ctx;
	for (uint32_t i = 0; i < h->n; i++) {
		s->things += h->pg[i].things;
		s->degraded += h->pg[i].degraded;
		if (h->pg[i].margin < s->margin)
			s->margin = h->pg[i].margin;
	}
	health_cb(h);
}

static void check_whole(struct life *l)
{
	struct world *w = &l->w;
	struct health_sum s = {.margin = 127};
	for (uint32_t i = 0; i < NODES; i++) {
		s.health = (struct stele_health){.cb = health_sum, .ctx = &s};
		health_done = false;
		stele_repair_health(stele_node_repair(w->node[i].node), &s.health);
		if (!world_run(w, is_true, &health_done, 120))
			broke(l, "an inventory does not end");
	}
	if (s.degraded > 0 || (s.things > 0 && s.margin < (int)T))
		broke(l, "%" PRIu64 " of %" PRIu64 " things are degraded after repair, margin %d",
		      s.degraded, s.things, s.margin);
}

/* Every node's shards are beside a reference once leftovers have been collected. */
static void check_collected(struct life *l, uint64_t collect_age_s)
{
	struct world *w = &l->w;
	uint64_t waiting = 0;
	for (int k = 0; k < 20; k++) {
		world_sleep(w, collect_age_s);
		waiting = 0;
		for (uint32_t i = 0; i < NODES; i++) {
			struct stele_collect_status st;
			stele_collect_status(stele_node_collect(w->node[i].node), &st);
			waiting += st.waiting;
		}
		if (k > 3 && waiting == 0)
			return;
	}
	broke(l, "%" PRIu64 " leftovers are not collected", waiting);
}

static bool live(uint64_t seed, uint32_t steps, bool verbose, struct stele_hash *log)
{
	static const uint64_t collect_age_s = 20;
	struct life *l = calloc(1, sizeof(*l));
	struct world *w = &l->w;
	l->seed = seed;
	world_create(w, seed, NODES, "rs-4-2", collect_age_s, verbose);
	for (uint32_t s = 0; s < steps && !l->failed; s++) {
		uint64_t what = stele_prng_below(&w->rng, 10);
		if (what < 3 || l->n == 0)
			do_put(l, false);
		else if (what == 3)
			do_put(l, true);
		else if (what < 7)
			do_get(l, &l->object[stele_prng_below(&w->rng, l->n)],
			       stele_prng_below(&w->rng, 2), false);
		else if (what < 9)
			do_fault(l);
		else
			world_sleep(w, 1 + stele_prng_below(&w->rng, 30));
	}
	if (!l->failed)
		full_repair(l);
	if (!l->failed)
		check_whole(l);
	if (!l->failed)
		check_collected(l, collect_age_s);
	for (uint32_t i = 0; i < l->n && !l->failed; i++)
		do_get(l, &l->object[i], true, true);
	stele_sim_log_hash(w->sim, log);
	bool ok = !l->failed;
	world_destroy(w);
	free(l);
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 1, steps = 40;
	bool verbose = false;
	for (int i = 1; i < argc; i++) {
		char *end = NULL;
		uint64_t *number = strcmp(argv[i], "--seed") == 0    ? &seed
		                   : strcmp(argv[i], "--count") == 0 ? &count
		                   : strcmp(argv[i], "--steps") == 0 ? &steps
		                                                     : NULL;
		if (number && i + 1 < argc) {
			*number = strtoull(argv[++i], &end, 10);
			if (*end == '\0')
				continue;
		} else if (strcmp(argv[i], "--verbose") == 0) {
			verbose = true;
			continue;
		}
		fprintf(stderr, "usage: stele-sim --seed N [--count K] [--steps S] [--verbose]\n");
		return 2;
	}
	uint64_t failed = 0;
	for (uint64_t i = 0; i < count; i++) {
		struct stele_hash log;
		char hex[STELE_HEX_LEN];
		bool ok = live(seed + i, (uint32_t)steps, verbose, &log);
		failed += !ok;
		if (count == 1 || !ok)
			printf("seed %" PRIu64 ": %s, event log %s\n", seed + i,
			       ok ? "held" : "BROKE", stele_hash_hex(&log, hex));
	}
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", count - failed, failed);
	return failed ? 1 : 0;
}
