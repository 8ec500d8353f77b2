/*
 * Goal: whoever wants a disk gets it in fair shares: in any mixture of classes and sizes each that always wants has its share
 * within a few percent, none ever starves, nothing stands idle, within a class the order is kept, and beside a client
 * with one read at a time the others hold one small turn, not the device. A store keeps to it: on a simulated disk that is
 * too slow for what is asked of it, and that serves everything at once it is given, only turns decide who reads and writes.
 */
#include "storage/base/prng.h"
#include "storage/fair.h"
#include "storage/io/sim.h"
#include "tests/unit/store_kit.h"

#define MIB    (UINT64_C(1) << 20)
#define KIB    UINT64_C(1024)
#define SECOND UINT64_C(1000000000)
#define TURNS  256u

static const double weight[STELE_CLASSES] = {8, 3, 1};

/* A disk that serves what it was given in that order, at 1 byte per ns. */
struct world {
	struct stele_fair f;
	struct stele_prng prng;
	uint64_t now;
	struct stele_turn *queue[4 * TURNS]; /* in the device; a ring */
	uint32_t first, n;
	uint64_t done[STELE_CLASSES], most[STELE_CLASSES]; /* bytes; the longest wait */
	struct source {
		enum stele_class class;
		uint64_t least, most; /* of a turn */
		struct stele_turn t;
		uint64_t added, number;
	} source[TURNS];
	uint32_t sources;
	uint64_t number, last[STELE_CLASSES]; /* the order in which they came, and began */
};

static void want(struct world *w, struct source *s)
{
	s->t = (struct stele_turn){.class = s->class,
	                           .bytes = s->least +
	                                    stele_prng_below(&w->prng, s->most - s->least + 1),
	                           .ctx = s};
	s->number = ++w->number;
	s->added = w->now;
	stele_fair_add(&w->f, &s->t, w->now);
}

static void go(struct world *w)
{
	struct stele_turn *t;
	while ((t = stele_fair_next(&w->f, w->now))) {
		struct source *s = t->ctx;
		cr_assert_gt(s->number, w->last[t->class], "out of order within its class");
		w->last[t->class] = s->number;
		w->queue[(w->first + w->n++) % (4 * TURNS)] = t;
		cr_assert_leq(w->n, TURNS);
	}
}

/* The device ends the one in front. False: there is none. */
static bool serve(struct world *w)
{
	if (!w->n)
		return false;
	struct stele_turn *t = w->queue[w->first++ % (4 * TURNS)];
	w->n--;
	w->now += t->bytes;
	w->done[t->class] += t->bytes;
	struct source *s = t->ctx;
	if (w->now - s->added > w->most[t->class])
		w->most[t->class] = w->now - s->added;
	stele_fair_end(&w->f, t, t->bytes, w->now);
	return true;
}

static void add_sources(struct world *w, enum stele_class class, uint32_t n, uint64_t least,
                        uint64_t most)
{
	for (uint32_t i = 0; i < n; i++)
		w->source[w->sources++] =
		    (struct source){.class = class, .least = least, .most = most};
	cr_assert_leq(w->sources, TURNS);
}

static void start(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	stele_prng_init(&w->prng, seed);
	stele_fair_init(&w->f);
}

/* Each source wants again as soon as it was served. */
static void run(struct world *w, uint64_t bytes)
{
	for (uint32_t i = 0; i < w->sources; i++)
		want(w, &w->source[i]);
	go(w);
	uint64_t end = w->now + bytes;
	while (w->now < end) {
		struct stele_turn *t = w->queue[w->first % (4 * TURNS)];
		cr_assert(serve(w), "the disk stands idle");
		want(w, t->ctx);
		go(w);
	}
}

/* Of those that always want, each has its weight's share of the bytes. */
static void check_shares(struct world *w, double off)
{
	double all = 0, bytes = 0;
	bool is_there[STELE_CLASSES] = {false};
	for (uint32_t i = 0; i < w->sources; i++)
		is_there[w->source[i].class] = true;
	for (int c = 0; c < STELE_CLASSES; c++) {
		all += is_there[c] ? weight[c] : 0;
		bytes += (double)w->done[c];
	}
	for (int c = 0; c < STELE_CLASSES; c++) {
		double share = (double)w->done[c] / bytes, due = is_there[c] ? weight[c] / all : 0;
		cr_assert(share > due - off && share < due + off, "class %d: %.3f, not %.3f", c,
		          share, due);
	}
}

Test(fair, shares)
{
	struct world *w = malloc(sizeof(*w));
	/* more of each than may be held: only tags decide */
	start(w, 1);
	add_sources(w, STELE_CLIENT, 80, 64 * KIB, 64 * KIB);
	add_sources(w, STELE_REPAIR, 80, 64 * KIB, 64 * KIB);
	add_sources(w, STELE_BACKGROUND, 80, 64 * KIB, 64 * KIB);
	run(w, 1024 * MIB);
	check_shares(w, 0.01);
	/* a background that wants one piece at a time, as a sweep does */
	start(w, 2);
	add_sources(w, STELE_CLIENT, 100, 64 * KIB, 64 * KIB);
	add_sources(w, STELE_BACKGROUND, 1, STELE_FAIR_PIECE, STELE_FAIR_PIECE);
	run(w, 1024 * MIB);
	check_shares(w, 0.04);
	start(w, 3);
	add_sources(w, STELE_REPAIR, 20, MIB, MIB);
	add_sources(w, STELE_BACKGROUND, 20, 4 * MIB, 4 * MIB);
	run(w, 4096 * MIB);
	check_shares(w, 0.02);
	free(w);
}

/* Any sizes; of each class more is wanted at once than may be held. */
Test(fair, shares_in_any_mixture)
{
	struct world *w = malloc(sizeof(*w));
	for (uint64_t seed = 0; seed < 60; seed++) {
		start(w, seed);
		uint32_t there = 1 + (uint32_t)stele_prng_below(&w->prng, 7); /* a bit for each */
		for (int c = 0; c < STELE_CLASSES; c++) {
			uint64_t least = 64 * KIB << stele_prng_below(&w->prng, 3);
			uint64_t most = least << stele_prng_below(&w->prng, 3);
			add_sources(w, (enum stele_class)c, there >> c & 1 ? 80 : 0, least, most);
		}
		run(w, 1024 * MIB);
		check_shares(w, 0.03);
	}
	free(w);
}

/* Whatever the others do, nobody waits longer than it takes to serve what its own class has, at its share, and what may be
 * held meanwhile. */
Test(fair, nobody_starves)
{
	struct world *w = malloc(sizeof(*w));
	for (uint64_t seed = 0; seed < 60; seed++) {
		uint64_t wanted[STELE_CLASSES], largest = 0;
		start(w, seed);
		for (int c = 0; c < STELE_CLASSES; c++) {
			uint64_t least = 4 * KIB << stele_prng_below(&w->prng, 7);
			uint64_t most = least << stele_prng_below(&w->prng, 5);
			uint32_t n = 1 + (uint32_t)stele_prng_below(&w->prng, 80);
			add_sources(w, (enum stele_class)c, n, least, most);
			wanted[c] = n * most;
			largest = most > largest ? most : largest;
		}
		run(w, 1024 * MIB);
		for (int c = 0; c < STELE_CLASSES; c++) {
			double due =
			    12 / weight[c] * (double)wanted[c] + 2 * 3 * MIB + 12 * (double)largest;
			cr_assert_lt((double)w->most[c], due,
			             "seed %u class %d: %.1f MiB, not %.1f", (unsigned)seed, c,
			             (double)w->most[c] / MIB, due / MIB);
			cr_assert_gt(w->done[c], 0);
		}
	}
	free(w);
}

Test(fair, a_class_alone_has_all_of_it)
{
	struct world *w = malloc(sizeof(*w));
	for (int c = 0; c < STELE_CLASSES; c++) {
		start(w, 5);
		add_sources(w, (enum stele_class)c, 40, 64 * KIB, 64 * KIB);
		for (uint32_t i = 0; i < w->sources; i++)
			want(w, &w->source[i]);
		go(w);
		cr_assert_eq(w->n, 40, "%u of 40 at once", w->n);
		cr_assert(stele_fair_whole(&w->f, (enum stele_class)c, 0));
	}
	/* and is held back by nothing that it did alone: others that come are served at their shares from then on */
	start(w, 6);
	add_sources(w, STELE_BACKGROUND, 80, 64 * KIB, 64 * KIB);
	run(w, 1024 * MIB);
	add_sources(w, STELE_CLIENT, 80, 64 * KIB, 64 * KIB);
	for (uint32_t i = 80; i < 160; i++)
		want(w, &w->source[i]);
	go(w);
	memset(w->done, 0, sizeof(w->done));
	for (uint64_t end = w->now + 512 * MIB; w->now < end;) {
		struct stele_turn *t = w->queue[w->first % (4 * TURNS)];
		cr_assert(serve(w));
		want(w, t->ctx);
		go(w);
	}
	check_shares(w, 0.01);
	free(w);
}

/* A client that reads one cell after another, and thinks between two. */
static uint64_t lone_client(struct world *w, uint64_t think_ns, uint64_t *rounds)
{
	struct source *client = &w->source[0];
	uint64_t worst = 0;
	for (uint32_t i = 1; i < w->sources; i++)
		want(w, &w->source[i]);
	*rounds = 0;
	for (uint64_t end = w->now + SECOND, next = w->now; w->now < end;) {
		bool asks = w->now >= next;
		if (asks)
			want(w, client);
		go(w);
		for (bool over = false; !over && w->now < (asks ? end : next);) {
			struct stele_turn *t = w->queue[w->first % (4 * TURNS)];
			over = serve(w) && t == &client->t;
			if (over)
				break;
			want(w, t->ctx);
			go(w);
		}
		if (!asks)
			continue;
		if (++*rounds > 1 && w->now - client->added > worst)
			worst = w->now - client->added;
		next = w->now + think_ns;
		go(w);
	}
	return worst;
}

Test(fair, a_lone_client_waits_for_two_pieces_at_most)
{
	struct world *w = malloc(sizeof(*w));
	static const uint64_t think[] = {1, 300000, 5000000};
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t rounds;
		start(w, 7 + i);
		add_sources(w, STELE_CLIENT, 1, 64 * KIB, 64 * KIB);
		add_sources(w, STELE_REPAIR, 20, STELE_FAIR_PIECE, STELE_FAIR_PIECE);
		add_sources(w, STELE_BACKGROUND, 1, STELE_FAIR_PIECE, STELE_FAIR_PIECE);
		uint64_t worst = lone_client(w, think[i], &rounds);
		cr_assert_leq(worst, 64 * KIB + 2 * STELE_FAIR_PIECE, "think %u: %u KiB", i,
		              (unsigned)(worst / KIB));
		cr_assert_gt(rounds, i < 2 ? 1000 : 150);
		/* nothing stood idle, and of what the client left each has its part */
		cr_assert_gt(w->done[STELE_BACKGROUND] * 5, w->done[STELE_REPAIR]);
		cr_assert_lt(w->done[STELE_BACKGROUND] * 2, w->done[STELE_REPAIR]);
		cr_assert_gt(w->done[STELE_REPAIR], SECOND / 4);
	}
	free(w);
}

/* Nothing large begins between two requests of a client, and anything may when it has gone. */
Test(fair, pieces_while_clients_are_there)
{
	struct stele_fair f;
	struct stele_turn t = {.class = STELE_CLIENT, .bytes = 1};
	stele_fair_init(&f);
	cr_assert(stele_fair_whole(&f, STELE_REPAIR, 0));
	stele_fair_add(&f, &t, 0);
	cr_assert(!stele_fair_whole(&f, STELE_REPAIR, SECOND), "one waits");
	cr_assert(stele_fair_whole(&f, STELE_CLIENT, SECOND), "clients' own are never cut");
	cr_assert_eq(stele_fair_next(&f, 0), &t);
	cr_assert(!stele_fair_whole(&f, STELE_BACKGROUND, SECOND), "one is served");
	stele_fair_end(&f, &t, 1, SECOND);
	cr_assert(!stele_fair_whole(&f, STELE_BACKGROUND, SECOND + 1000000),
	          "it was here just now");
	cr_assert(stele_fair_whole(&f, STELE_BACKGROUND, 2 * SECOND), "it has gone");
}

/* What others began while they were alone does not keep a client from the disk, in either lane; and reads not writes. */
Test(fair, a_client_is_not_held_back_by_turns_of_others)
{
	for (int lane = 0; lane < STELE_LANES; lane++) {
		struct stele_fair f;
		struct stele_turn other[3],
		    client = {.lane = (enum stele_lane)lane, .bytes = 64 * KIB};
		stele_fair_init(&f);
		for (int i = 0; i < 3; i++) {
			other[i] = (struct stele_turn){.class = STELE_REPAIR,
			                               .lane = (enum stele_lane)lane,
			                               .bytes = 16 * MIB};
			stele_fair_add(&f, &other[i], 0);
		}
		cr_assert_eq(stele_fair_next(&f, 0), &other[0]);
		cr_assert_null(stele_fair_next(&f, 0), "the next one waits: enough is held");
		stele_fair_add(&f, &client, 0);
		cr_assert_eq(stele_fair_next(&f, 0), &client);
		cr_assert_null(stele_fair_next(&f, 0));
		struct stele_turn apart = other[2];
		apart.lane = (enum stele_lane) !lane;
		stele_fair_add(&f, &apart, 0);
		cr_assert_eq(stele_fair_next(&f, 0), &apart);
		stele_fair_end(&f, &other[0], 16 * MIB, 0);
		cr_assert_eq(stele_fair_next(&f, 0), &other[1], "even while the client is served");
	}
}

/* A turn that took less than it asked for is charged what it took. */
Test(fair, charged_what_it_took)
{
	struct world *w = malloc(sizeof(*w));
	start(w, 9);
	struct stele_turn a = {.class = STELE_REPAIR, .bytes = 8 * MIB},
	                  b = {.class = STELE_BACKGROUND, .bytes = 4 * MIB}, a2 = a, b2 = b;
	stele_fair_add(&w->f, &a, 0);
	stele_fair_add(&w->f, &b, 0);
	stele_fair_add(&w->f, &a2, 0);
	stele_fair_add(&w->f, &b2, 0);
	cr_assert_eq(stele_fair_next(&w->f, 0), &a);
	stele_fair_end(&w->f, &a, 8 * MIB, 0);
	cr_assert_eq(stele_fair_next(&w->f, 0), &b);
	stele_fair_end(&w->f, &b, 4 * KIB, 0); /* 4 KiB at weight 1 is less than 8 MiB at 3 */
	cr_assert_eq(stele_fair_next(&w->f, 0), &b2);
	free(w);
}

/* ---- a store ---- */

#define BLOCKS  3u
#define CELLS   14u
#define READERS 80u

struct reader;

struct store_world {
	struct kit k;
	struct stele_sim *sim;
	struct kit_block block[BLOCKS];
	uint64_t done[STELE_CLASSES]; /* bytes */
	uint64_t slowest;             /* of a client's reads */
	bool over;
	uint32_t sweeps;
	struct stele_store_scrub scrub;
	struct reader {
		struct store_world *w;
		struct stele_store_read read;
		struct iovec iov;
		uint64_t began;
		void *buf;
	} reader[2 * READERS];
	uint32_t readers;
};

static bool sim_turn(struct kit *k)
{
	while (k->waiting)
		if (!stele_sim_step(k->sim))
			return false;
	return true;
}

static void store_start(struct store_world *w)
{
	memset(w, 0, sizeof(*w));
	cr_assert_eq(stele_sim_create(11, &w->sim), STELE_OK);
	cr_assert_eq(stele_sim_env(w->sim, "disk", &w->k.env), STELE_OK);
	w->k.turn = sim_turn;
	w->k.sim = w->sim;
	snprintf(w->k.dir, sizeof(w->k.dir), "/disk0");
	cr_assert_eq(stele_file_mkdirs(w->k.env, w->k.dir, 0700), STELE_OK);
	kit_opts(&w->k, false);
	cr_assert_eq(stele_store_format(&w->k.opts, NULL), STELE_OK);
	kit_open(&w->k);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		kit_block_make(&w->block[i], "rep-2", CELLS * STELE_CELL_LEN, i);
		cr_assert_eq(kit_put(&w->k, &w->block[i], 0, NULL), STELE_OK);
	}
	struct stele_sim_faults slow = {.disk_ns = 10000000};
	stele_sim_set_faults(w->sim, "disk", &slow);
}

static void store_end(struct store_world *w)
{
	w->over = true;
	stele_store_scrub_cancel(w->k.store);
	kit_run(&w->k);
	for (uint32_t i = 0; i < w->readers; i++)
		free(w->reader[i].buf);
	for (uint32_t i = 0; i < BLOCKS; i++)
		kit_block_free(&w->block[i]);
	kit_close(&w->k);
	stele_env_destroy(w->k.env);
	stele_sim_destroy(w->sim);
	stele_kv_world_destroy(w->k.world);
}

static void read_more(struct reader *r)
{
	struct store_world *w = r->w;
	if (w->over) {
		w->k.waiting--;
		return;
	}
	uint64_t n = stele_sim_random(w->sim);
	r->read.key = kit_key(STELE_ENTRY_SHARD, &w->block[n % BLOCKS].id, NULL, 0);
	r->read.first_cell = (uint32_t)(n / BLOCKS % (CELLS - r->read.cells + 1));
	r->began = stele_sim_now(w->sim);
	stele_store_read(w->k.store, &r->read);
}

static void on_read(struct stele_store_read *read)
{
	struct reader *r = read->ctx;
	struct store_world *w = r->w;
	cr_assert_eq(read->err, STELE_OK, "%s", read->detail);
	w->done[read->class] += read->data_len;
	uint64_t took = stele_sim_now(w->sim) - r->began;
	if (read->class == STELE_CLIENT && took > w->slowest)
		w->slowest = took;
	read_more(r);
}

static void add_readers(struct store_world *w, enum stele_class class, uint32_t n, uint32_t cells)
{
	for (uint32_t i = 0; i < n; i++) {
		struct reader *r = &w->reader[w->readers++];
		r->w = w;
		r->buf = aligned_alloc(STELE_PAGE, cells * STELE_CELL_LEN);
		r->iov = (struct iovec){r->buf, cells * STELE_CELL_LEN};
		r->read = (struct stele_store_read){.class = class,
		                                    .cells = cells,
		                                    .into = &r->iov,
		                                    .ninto = 1,
		                                    .cb = on_read,
		                                    .ctx = r};
		w->k.waiting++;
		read_more(r);
	}
}

static void on_swept(struct stele_store_scrub *s)
{
	struct store_world *w = s->ctx;
	cr_assert(s->err == STELE_OK || w->over, "%s", s->detail);
	w->sweeps += s->err == STELE_OK;
	w->done[STELE_BACKGROUND] += s->bytes_done;
	if (w->over)
		w->k.waiting--;
	else
		stele_store_scrub(w->k.store, s);
}

static void add_sweeps(struct store_world *w)
{
	w->scrub = (struct stele_store_scrub){.cb = on_swept, .ctx = w};
	w->k.waiting++;
	stele_store_scrub(w->k.store, &w->scrub);
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

static void store_run(struct store_world *w, uint64_t ns)
{
	memset(w->done, 0, sizeof(w->done));
	(void)stele_sim_run(w->sim, never, NULL, ns);
}

/* More is wanted than the disk may be given at once: clients and repair have their shares, and the sweep goes on. */
Test(fair, a_store_shares_its_disk)
{
	struct store_world *w = malloc(sizeof(*w));
	store_start(w);
	add_readers(w, STELE_CLIENT, READERS, 1);
	store_run(w, SECOND / 2);
	double alone = (double)w->done[STELE_CLIENT];
	add_readers(w, STELE_REPAIR, READERS, 1);
	store_run(w, SECOND / 2);
	double two = (double)w->done[STELE_CLIENT] / (double)w->done[STELE_REPAIR];
	cr_assert(two > 2.5 && two < 2.85, "clients to repair %.2f, not 8 to 3", two);
	add_sweeps(w);
	store_run(w, SECOND);
	double three = (double)w->done[STELE_CLIENT] / (double)w->done[STELE_REPAIR];
	cr_assert(three > 2.5 && three < 2.85, "clients to repair %.2f, not 8 to 3", three);
	cr_assert_gt((double)w->done[STELE_CLIENT] / 2, alone * 0.6, "most of it is the clients'");
	cr_assert_gt(w->sweeps, 5, "%u sweeps", w->sweeps);
	store_end(w);
	free(w);
}

/* A lone client beside repair and a sweep: these get on all the while, a piece at a time. */
Test(fair, a_store_lets_clients_in)
{
	struct store_world *w = malloc(sizeof(*w));
	store_start(w);
	add_readers(w, STELE_CLIENT, 1, 1);
	add_readers(w, STELE_REPAIR, 8, CELLS);
	add_sweeps(w);
	store_run(w, 2 * SECOND);
	/* at 10 ms a read, on average */
	cr_assert_gt(w->done[STELE_CLIENT], 150 * STELE_CELL_LEN);
	cr_assert_lt(w->slowest, 5 * SECOND / 100, "a lookup, a front, a cell: %.1f ms",
	             (double)w->slowest / 1e6);
	cr_assert_gt(w->done[STELE_REPAIR], 20 * MIB);
	cr_assert_lt(w->done[STELE_REPAIR], 100 * MIB, "one piece at a time");
	cr_assert_gt(w->sweeps, 1);
	store_end(w);
	free(w);
}

struct writer {
	struct store_world *w;
	struct stele_store_write write;
	struct stele_item item;
	uint8_t meta[60000];
};

static void write_more(struct writer *x)
{
	struct store_world *w = x->w;
	static uint64_t number;
	if (w->over) {
		w->k.waiting--;
		return;
	}
	struct stele_hash id = kit_hash(1000 + ++number);
	x->item = (struct stele_item){.key = kit_key(STELE_ENTRY_RECORD, &id, &id, 0),
	                              .meta = x->meta,
	                              .meta_len = sizeof(x->meta)};
	stele_store_write(w->k.store, &x->write);
}

static void on_write(struct stele_store_write *write)
{
	struct writer *x = write->ctx;
	cr_assert_eq(write->err, STELE_OK, "%s", write->detail);
	x->w->done[write->class] += sizeof(x->meta);
	write_more(x);
}

/* Writes too: what repair writes waits while clients write, and goes on. */
Test(fair, a_store_shares_its_log)
{
	struct store_world *w = malloc(sizeof(*w));
	static struct writer writer[40];
	store_start(w);
	for (uint32_t i = 0; i < 40; i++) {
		writer[i].w = w;
		writer[i].write =
		    (struct stele_store_write){.item = &writer[i].item,
		                               .n = 1,
		                               .class = i < 4 ? STELE_CLIENT : STELE_REPAIR,
		                               .cb = on_write,
		                               .ctx = &writer[i]};
		w->k.waiting++;
		write_more(&writer[i]);
	}
	store_run(w, SECOND);
	double share = (double)w->done[STELE_CLIENT] / (double)w->done[STELE_REPAIR];
	cr_assert_gt(share, 1.5, "four writers to 36 of repair: %.2f", share);
	cr_assert_lt(share, 8.0, "%.2f", share);
	store_end(w);
	free(w);
}
