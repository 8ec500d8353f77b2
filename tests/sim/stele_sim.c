/*
 * stele-sim: seeded lives of a whole cluster.
 *   stele-sim --seed N [--count K] [--steps S] [--verbose]
 * Several clients put, get and mark, while nodes are killed, freeze, lose power, disks or networks, disks fail, lie or
 * rot, clients die or sleep, nodes repair and scrub and collect. What must hold (DESIGN 11):
 *   1 what was acknowledged is readable, bit for bit, while no more is lost than its acknowledgement said;
 *   2 no wrong byte is ever given out; what is beyond tolerance is refused;
 *   3 nothing referenced is ever collected, and leftovers are, in time;
 *   4 degraded becomes full width again, in half of the lives by itself;
 *   6 holds stay (they are marks);
 *   8 when faults stop, the cluster is whole within a bound;
 *   9 the same seed gives the same events (run with --count 1 twice: the hash is printed).
 * Exit 0: all held. On a failure it prints the seed and what broke, and exits 1.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/life.h"

static void step(struct life *l)
{
	uint32_t client = (uint32_t)life_random(l, WORLD_CLIENTS);
	uint64_t what = life_random(l, 20);
	life_wake(l, false);
	if (what < 12 && !life_idle(l, client)) {
		life_drift(l);
		return;
	}
	if (what < 6 || (l->nobjects == 0 && what < 12))
		life_put(l, client);
	else if (what < 11)
		life_get(l, client, (uint32_t)life_random(l, l->nobjects), life_random(l, 2));
	else if (what < 12)
		life_mark(l, client);
	else if (what < 18)
		life_fault(l);
	else if (what < 19)
		world_sleep(&l->w, 1 + life_random(l, 30));
	else if (life_random(l, 4) == 0) {
		life_calm(l);
		life_finish_ops(l, WORLD_CLIENTS);
		if (!l->failed)
			life_repair(l, false);
	}
	life_drift(l);
}

/* Faults are over. */
static void end(struct life *l)
{
	life_wake(l, true);
	life_calm(l);
	life_finish_ops(l, WORLD_CLIENTS);
	if (!l->failed)
		life_repair(l, l->seed % 2 == 0);
	if (!l->failed)
		life_check_collected(l);
	if (!l->failed)
		life_check_whole(l);
	if (!l->failed)
		life_check_margins(l);
	if (!l->failed)
		life_read_all(l);
}

static bool live(uint64_t seed, uint64_t steps, bool verbose, struct stele_hash *log)
{
	struct life *l = calloc(1, sizeof(*l));
	if (!l)
		abort();
	l->seed = seed;
	l->harsh = seed % 10 == 3;
	l->well = (struct stele_sim_faults){.disk_ns = 100000, .net_ns = 200000};
	world_create(&l->w, seed, LIFE_NODES, "rs-4-2", LIFE_COLLECT_AGE_S, verbose);
	world_sleep(&l->w, 1); /* at 0 nothing may happen: in the book it means never */
	for (uint64_t s = 0; s < steps && !l->failed; s++)
		step(l);
	if (!l->failed)
		end(l);
	stele_sim_log_hash(l->w.sim, log);
	bool ok = !l->failed;
	if (verbose && !ok)
		life_dump(l);
	if (verbose)
		printf("%u acknowledged, %u refused, %u not read\n", l->acked, l->refused,
		       l->unread);
	life_wake(l, true);
	for (uint32_t i = 0; i < WORLD_CLIENTS; i++)
		life_kill_client(l, i);
	world_destroy(&l->w);
	free(l);
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 1, steps = 100;
	bool verbose = false;
	for (int i = 1; i < argc; i++) {
		char *end_of = NULL;
		uint64_t *number = strcmp(argv[i], "--seed") == 0    ? &seed
		                   : strcmp(argv[i], "--count") == 0 ? &count
		                   : strcmp(argv[i], "--steps") == 0 ? &steps
		                                                     : NULL;
		if (number && i + 1 < argc) {
			*number = strtoull(argv[++i], &end_of, 10);
			if (*end_of == '\0')
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
		bool ok = live(seed + i, steps, verbose, &log);
		failed += !ok;
		if (count == 1 || !ok)
			printf("seed %" PRIu64 ": %s, event log %s\n", seed + i,
			       ok ? "held" : "BROKE", stele_hash_hex(&log, hex));
		if (!ok)
			fprintf(stderr,
			        "  replay: stele-sim --seed %" PRIu64 " --steps %" PRIu64
			        " --verbose\n",
			        seed + i, steps);
	}
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", count - failed, failed);
	return failed ? 1 : 0;
}
