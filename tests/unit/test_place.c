/*
 * Goal: windows are the same on every machine and for ever, follow the weights, keep failure
 * domains apart, and change only where a change of the map makes them.
 */
#include <criterion/criterion.h>
#include <math.h>

#include "tests/unit/map_fixture.h"

static struct stele_window place(const struct stele_map *map, const struct stele_pool *pool,
                                 uint32_t pg, uint32_t width)
{
	struct stele_window w;
	uint64_t fence = 0;
	memset(&w, 0xee, sizeof(w));
	stele_place(map, pool, pg, width, &w, &fence);
	cr_assert_eq(fence, stele_map_epoch(map));
	return w;
}

static bool same_disk(struct stele_window_disk a, struct stele_window_disk b)
{
	return a.node == b.node && a.slot == b.slot;
}

static bool same_window(const struct stele_window *a, const struct stele_window *b)
{
	bool same = a->n == b->n;
	for (uint32_t i = 0; same && i < a->n; i++)
		same = same_disk(a->disk[i], b->disk[i]);
	return same;
}

/* ---- the model: the definition, in floating point, sorted whole ---- */

struct drawn {
	struct stele_window_disk disk;
	const char *domain;
	long double score;
};

static uint64_t model_mix(uint64_t z)
{
	z = z + 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static int by_score(const void *a, const void *b)
{
	long double x = ((const struct drawn *)a)->score, y = ((const struct drawn *)b)->score;
	return x < y ? 1 : x > y ? -1 : 0;
}

static struct stele_window model(const struct stele_map *map, const struct stele_pool *pool,
                                 uint32_t pg, uint32_t width)
{
	struct drawn *d = calloc(map->ndisks + 1, sizeof(*d));
	struct stele_window w = {0};
	const char *used[STELE_WINDOW_MAX];
	char own[64][16];
	uint32_t n = 0;
	for (uint32_t i = 0; i < map->ndisks; i++) {
		const struct stele_disk_entry *e = &map->disk[i];
		const struct stele_node_entry *node = stele_map_node(map, e->node);
		if (e->out || e->weight_milli == 0)
			continue;
		uint64_t h = model_mix(model_mix((uint64_t)pool->id << 32 | pg) ^
		                       model_mix((uint64_t)e->node << 16 | e->slot));
		d[n].disk = (struct stele_window_disk){e->node, e->slot};
		d[n].domain = pool->domain == STELE_DOMAIN_HOST   ? node->host
		              : pool->domain == STELE_DOMAIN_RACK ? node->rack
		                                                  : NULL;
		d[n++].score = e->weight_milli / -(log2l((long double)h) - 64);
	}
	qsort(d, n, sizeof(*d), by_score);
	for (uint32_t i = 0; i < n && w.n < width; i++) {
		bool taken = false;
		for (uint32_t k = 0; k < w.n && d[i].domain; k++)
			taken |= strcmp(used[k], d[i].domain) == 0;
		if (taken)
			continue;
		snprintf(own[w.n], sizeof(own[0]), "%u:%u", d[i].disk.node, d[i].disk.slot);
		used[w.n] = d[i].domain ? d[i].domain : own[w.n];
		w.disk[w.n++] = d[i].disk;
	}
	free(d);
	return w;
}

Test(place, is_the_definition)
{
	struct fixture *f = fixture_create("rs-4-2", 12, 3);
	for (uint32_t i = 0; i < f->map.ndisks; i++)
		f->disk[i].weight_milli = 1 + i * i * 37 % 4000;
	f->disk[7].weight_milli = 0;
	f->disk[8].weight_milli = 1000000000;
	f->disk[9].weight_milli = 1;
	f->disk[30].out = true;
	strcpy(f->node[5].host, "host5"); /* two nodes of one host */
	struct stele_map *map = fixture_map(f);
	for (int domain = STELE_DOMAIN_DISK; domain <= STELE_DOMAIN_RACK; domain++)
		for (uint32_t pg = 0; pg < 512; pg++) {
			struct stele_pool pool = map->pool[3];
			pool.domain = (enum stele_domain)domain;
			pool.pgs_log2 = 9;
			uint32_t width = 1 + pg % STELE_WINDOW_MAX;
			struct stele_window got = place(map, &pool, pg, width);
			struct stele_window want = model(map, &pool, pg, width);
			cr_assert(same_window(&got, &want), "domain %d pg %u", domain, pg);
		}
	stele_map_unref(map);
	free(f);
}

Test(place, golden_windows)
{
	/* Computed apart, with 50 decimal digits. DO NOT CHANGE: shards of clusters that exist lie
	 * there */
	static const struct {
		uint16_t pool;
		uint32_t pg;
		uint16_t node[8];
	} golden[] = {
	    {16, 0, {1, 7, 3, 6, 2, 5, 4, 8}},   {16, 1, {3, 5, 8, 6, 4, 7, 2, 1}},
	    {16, 255, {6, 4, 3, 2, 7, 1, 5, 8}}, {17, 0, {2, 3, 6, 1, 4, 5, 7, 8}},
	    {17, 128, {3, 2, 4, 5, 6, 1, 8, 7}}, {1, 0, {6, 5, 2, 7, 8, 3, 1}},
	    {1, 511, {5, 4, 6, 8, 3, 2, 7}},
	};
	struct fixture *f = fixture_create("rs-4-2", 8, 1);
	f->disk[2].weight_milli = 3000;
	struct stele_map *map = fixture_map(f);
	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		const struct stele_pool *pool = stele_map_pool(map, golden[i].pool);
		struct stele_window w =
		    place(map, pool, golden[i].pg, stele_window_width(&pool->code));
		cr_assert_eq(w.n, golden[i].node[7] ? 8u : 7u);
		for (uint32_t k = 0; k < w.n; k++)
			cr_assert_eq(w.disk[k].node, golden[i].node[k], "pool %u, group %u",
			             golden[i].pool, golden[i].pg);
	}
	stele_map_unref(map);
	free(f);
}

/* The first place falls to a disk in proportion to its weight, to within five standard deviations.
 */
Test(place, follows_the_weights)
{
	enum { DISKS = 40, PGS = 65536 };
	static uint32_t first[DISKS + 1];
	struct fixture *f = fixture_create("rs-4-2", DISKS, 1);
	double sum = 0;
	for (uint32_t i = 0; i < DISKS; i++)
		sum += f->disk[i].weight_milli = 500 + 250 * (i % 8);
	struct stele_map *map = fixture_map(f);
	struct stele_pool pool = map->pool[3];
	pool.pgs_log2 = 16;
	for (uint32_t pg = 0; pg < PGS; pg++)
		first[place(map, &pool, pg, 1).disk[0].node]++;
	for (uint32_t i = 0; i < DISKS; i++) {
		double p = map->disk[i].weight_milli / sum, want = PGS * p;
		cr_assert_lt(fabs(first[i + 1] - want), 5 * sqrt(want * (1 - p)),
		             "disk %u: %u, not %.0f", i + 1, first[i + 1], want);
	}
	stele_map_unref(map);
	free(f);
}

/* Equal disks get equal shares of whole windows, and of every pair of places. */
Test(place, spreads_evenly)
{
	enum { DISKS = 16, PGS = 16384, WIDTH = 6 };
	static uint32_t in[DISKS + 1], pair[DISKS + 1][DISKS + 1];
	struct fixture *f = fixture_create("rs-4-2", DISKS, 1);
	struct stele_map *map = fixture_map(f);
	struct stele_pool pool = map->pool[3];
	pool.pgs_log2 = 14;
	for (uint32_t pg = 0; pg < PGS; pg++) {
		struct stele_window w = place(map, &pool, pg, WIDTH);
		for (uint32_t i = 0; i < WIDTH; i++) {
			in[w.disk[i].node]++;
			for (uint32_t k = 0; k < i; k++)
				pair[w.disk[i].node][w.disk[k].node]++;
		}
	}
	for (uint32_t a = 1; a <= DISKS; a++) {
		double p = (double)WIDTH / DISKS, want = PGS * p;
		cr_assert_lt(fabs(in[a] - want), 5 * sqrt(want * (1 - p)));
		for (uint32_t b = 1; b < a; b++) {
			double q = (double)WIDTH * (WIDTH - 1) / DISKS / (DISKS - 1);
			cr_assert_lt(fabs(pair[a][b] + pair[b][a] - PGS * q),
			             5 * sqrt(PGS * q * (1 - q)));
		}
	}
	stele_map_unref(map);
	free(f);
}

/* a is b without the disk, but for what then comes in at b's end. */
static bool is_without(const struct stele_window *a, const struct stele_window *b,
                       struct stele_window_disk gone)
{
	uint32_t i = 0;
	for (uint32_t k = 0; k < b->n; k++) {
		if (same_disk(b->disk[k], gone))
			continue;
		if (!same_disk(a->disk[i++], b->disk[k]))
			return false;
	}
	return i == a->n || i + 1 == a->n;
}

/* A disk that comes takes its share from all others, and nothing else moves; and back when it goes.
 */
Test(place, moves_no_more_than_it_must)
{
	enum { PGS = 4096, WIDTH = 10 };
	struct fixture *f = fixture_create("rs-4-2", 20, 1);
	struct stele_map *many = fixture_map(f);
	f->map.nnodes--;
	f->map.ndisks--;
	struct stele_map *few = fixture_map(f);
	f->map.nnodes++;
	f->map.ndisks++;
	f->disk[19].out = true;
	struct stele_map *out = fixture_map(f);
	f->disk[19].out = false;
	f->disk[19].weight_milli = 0;
	struct stele_map *drained = fixture_map(f);
	struct stele_pool pool = many->pool[3];
	pool.pgs_log2 = 12;
	const struct stele_window_disk last = {20, 0};
	uint32_t moved = 0;
	for (uint32_t pg = 0; pg < PGS; pg++) {
		struct stele_window a = place(few, &pool, pg, WIDTH);
		struct stele_window b = place(many, &pool, pg, WIDTH);
		struct stele_window c = place(out, &pool, pg, WIDTH);
		struct stele_window d = place(drained, &pool, pg, WIDTH);
		cr_assert(is_without(&a, &b, last), "pg %u", pg);
		cr_assert(same_window(&a, &c));
		cr_assert(same_window(&a, &d));
		moved += !same_window(&a, &b);
	}
	double p = (double)WIDTH / 20, want = PGS * p;
	cr_assert_lt(fabs(moved - want), 5 * sqrt(want * (1 - p)), "%u, not %.0f", moved, want);
	stele_map_unref(many);
	stele_map_unref(few);
	stele_map_unref(out);
	stele_map_unref(drained);
	free(f);
}

/* A heavier disk comes earlier in some windows; the others keep their order among themselves. */
Test(place, weight_moves_one_disk)
{
	enum { PGS = 2048 };
	struct fixture *f = fixture_create("rs-4-2", 12, 1);
	struct stele_map *was = fixture_map(f);
	f->disk[4].weight_milli = 3000;
	struct stele_map *is = fixture_map(f);
	struct stele_pool pool = was->pool[3];
	pool.pgs_log2 = 11;
	uint32_t earlier = 0;
	for (uint32_t pg = 0; pg < PGS; pg++) {
		struct stele_window a = place(was, &pool, pg, 12), b = place(is, &pool, pg, 12);
		uint32_t ia = 0, ib = 0;
		while (a.disk[ia].node != 5)
			ia++;
		while (b.disk[ib].node != 5)
			ib++;
		cr_assert_leq(ib, ia);
		earlier += ib < ia;
		memmove(&a.disk[ia], &a.disk[ia + 1], (11 - ia) * sizeof(a.disk[0]));
		memmove(&b.disk[ib], &b.disk[ib + 1], (11 - ib) * sizeof(b.disk[0]));
		a.n = b.n = 11;
		cr_assert(same_window(&a, &b));
	}
	cr_assert_gt(earlier, PGS / 4);
	stele_map_unref(was);
	stele_map_unref(is);
	free(f);
}

Test(place, domains_are_apart)
{
	struct fixture *f = fixture_create("rs-4-2", 9, 4); /* 36 disks, 9 hosts, 5 racks */
	struct stele_map *map = fixture_map(f);
	static const uint32_t domains[] = {0, 36, 9, 5};
	for (int level = STELE_DOMAIN_DISK; level <= STELE_DOMAIN_RACK; level++)
		for (uint32_t pg = 0; pg < 128; pg++) {
			struct stele_pool pool = map->pool[3];
			pool.domain = (enum stele_domain)level;
			struct stele_window w = place(map, &pool, pg, STELE_WINDOW_MAX);
			cr_assert_eq(w.n, domains[level]);
			for (uint32_t i = 0; i < w.n; i++)
				for (uint32_t k = 0; k < i; k++) {
					const struct stele_window_disk a = w.disk[i], b = w.disk[k];
					cr_assert(!same_disk(a, b));
					if (level == STELE_DOMAIN_HOST)
						cr_assert_neq(a.node, b.node);
					if (level == STELE_DOMAIN_RACK)
						cr_assert_neq((a.node - 1) / 2, (b.node - 1) / 2);
				}
		}
	stele_map_unref(map);
	free(f);
}

Test(place, no_disks_no_window)
{
	struct fixture *f = fixture_create("rs-4-2", 2, 1);
	f->disk[0].weight_milli = 0;
	f->disk[1].out = true;
	struct stele_map *map = fixture_map(f);
	cr_assert_eq(place(map, &map->pool[3], 0, 10).n, 0u);
	stele_map_unref(map);
	free(f);
}

/* The same group of another pool lies elsewhere. */
Test(place, pools_differ)
{
	struct fixture *f = fixture_create("rs-4-2", 10, 1);
	struct stele_map *map = fixture_map(f);
	uint32_t same = 0;
	for (uint32_t pg = 0; pg < 64; pg++) {
		struct stele_window a = place(map, &map->pool[2], pg, 10);
		struct stele_window b = place(map, &map->pool[3], pg, 10);
		same += same_window(&a, &b);
	}
	cr_assert_eq(same, 0u);
	stele_map_unref(map);
	free(f);
}

Test(place, groups_split_the_ids)
{
	for (uint8_t log2 = 0; log2 <= 16; log2++) {
		struct stele_pool pool = {.pgs_log2 = log2};
		struct stele_hash first, last, next = {0};
		for (uint32_t pg = 0; pg < 1u << log2; pg++) {
			stele_pg_range(&pool, pg, &first, &last);
			cr_assert(stele_hash_equal(&first, &next)); /* where the one before ended */
			cr_assert_eq(stele_pg_of(&pool, &first), pg);
			cr_assert_eq(stele_pg_of(&pool, &last), pg);
			next = last;
			for (int i = STELE_HASH_LEN - 1; i >= 0 && ++next.b[i] == 0; i--)
				;
			if (log2 < 16) { /* one more bit splits a group in two */
				struct stele_pool finer = {.pgs_log2 = (uint8_t)(log2 + 1)};
				cr_assert_eq(stele_pg_of(&finer, &first), 2 * pg);
				cr_assert_eq(stele_pg_of(&finer, &last), 2 * pg + 1);
			}
		}
		cr_assert(stele_all_zero(next.b, sizeof(next.b))); /* all ids were covered */
	}
}

Test(place, widths)
{
	static const struct {
		const char *code;
		uint32_t t, width;
	} cases[] = {{"rep-1", 0, 3},    {"rep-3", 2, 7},       {"rs-4-2", 2, 10},
	             {"rs-10-4", 4, 20}, {"lrc-12-2-2", 3, 21}, {"lrc-12-2-3", 4, 23},
	             {"rs-32-8", 8, 50}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stele_code_id code;
		cr_assert_eq(stele_code_id_parse(cases[i].code, &code), STELE_OK);
		cr_assert_eq(stele_code_id_t(&code), cases[i].t);
		cr_assert_eq(stele_window_width(&code), cases[i].width);
		cr_assert_leq(cases[i].width, STELE_WINDOW_MAX);
	}
}

/* ---- may a map follow another while nothing can move? ---- */

enum { SAME, MOVES };

/* The map as f is now, after held; puts f's fields back by the caller's doing. */
static void follows(const struct stele_map *held, const struct fixture *f, int want,
                    const char *what)
{
	struct stele_map *next = fixture_map(f);
	enum stele_err err = stele_place_unmoved(held, next);
	cr_assert_eq(err, want == MOVES ? STELE_ERR_REFUSED : STELE_OK, "%s: %s", what,
	             err ? stele_detail() : "taken");
	if (want == MOVES)
		cr_assert(strstr(stele_detail(), what), "%s", stele_detail());
	stele_map_unref(next);
}

Test(place, a_map_that_would_move_data_is_told_from_one_that_would_not)
{
	struct fixture *f = fixture_create("rs-4-2", 10, 2);
	struct stele_map *held = fixture_map(f);
	struct fixture was = *f;
	follows(held, f, SAME, "itself");
	strcpy(f->node[3].addr, "127.0.0.1:7999");
	strcpy(f->node[3].rack, "elsewhere"); /* pools are placed by hosts */
	f->pool[3].collect_age_s++;
	f->map.grace_s++;
	f->client[0].revoked = true;
	follows(held, f, SAME, "what places nothing");
	f->pool[4] = f->pool[3];
	f->pool[4].id = 18;
	strcpy(f->pool[4].name, "more");
	f->map.npools = 5;
	follows(held, f, SAME, "a new pool");
	*f = was;
	f->disk[20] = (struct stele_disk_entry){10, 2, 0, false};
	f->map.ndisks++;
	follows(held, f, SAME, "a disk that weighs nothing");
	f->disk[20].weight_milli = 1000;
	follows(held, f, MOVES, "of pool record would");
	*f = was;
	f->disk[7].out = true;
	follows(held, f, MOVES, "would leave node 4 slot 1");
	*f = was;
	f->disk[7].weight_milli = 2000;
	follows(held, f, MOVES, "of pool record would");
	*f = was;
	strcpy(f->node[3].host, f->node[2].host);
	follows(held, f, MOVES, "of pool record would");
	*f = was;
	f->pool[3].domain = STELE_DOMAIN_RACK;
	follows(held, f, MOVES, "of pool evidence would");
	*f = was;
	f->pool[3].pgs_log2++;
	follows(held, f, MOVES, "pool evidence has another number of groups");
	*f = was;
	f->pool[2].code.k--; /* windows would be one disk shorter, and blocks of another kind */
	follows(held, f, MOVES, "pool ledger has another code");
	*f = was;
	f->map.npools = 3;
	follows(held, f, MOVES, "pool evidence is not in it");
	/* fewer disks than a window wants: one more makes it longer, and moves nothing else */
	*f = was;
	f->map.ndisks = 8;
	struct stele_map *small = fixture_map(f);
	f->map.ndisks = 10;
	follows(small, f, MOVES, "would come to node 5 slot");
	stele_map_unref(small);
	stele_map_unref(held);
	free(f);
}
