/*
 * Who has the disk when several want it: clients' reads of random cells alone, beside a sweep at full speed, and beside
 * that and repair's reads of whole shards; with the store's turns (storage/fair.h) and without them. Per row: reads per
 * second, and how long one took at the median and at worst but for one in a hundred; what the others read.
 * All rows in every turn, in one process, on one file; medians of the turns.
 *
 *   bench_fair [--turns N] [--ms N] [--mib N] DIR
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/pair.h"
#include "bench/store_rig.h"
#include "storage/base/prng.h"

#define EXTENT_LEN (1ull << 30)
#define CELLS      64u
#define TURNS_MAX  31
#define CLIENTS    32u
#define REPAIRS    8u
#define TIMES_MAX  (1u << 20)

static unsigned turns = 5, ms = 700, mib = 768;

static const struct row {
	const char *name;
	bool sweep, repair, unfair;
} row[] = {
    {"alone", false, false, false},
    {"beside a sweep, without turns", true, false, true},
    {"beside a sweep", true, false, false},
    {"beside a sweep and repair, without turns", true, true, true},
    {"beside a sweep and repair", true, true, false},
};
#define ROWS (sizeof(row) / sizeof(row[0]))
static const unsigned depth[] = {1, 4, 32};
#define DEPTHS (sizeof(depth) / sizeof(depth[0]))

enum figure { PER_S, P50_US, P99_US, SWEEP_MB, REPAIR_MB, FIGURES };

struct bench;

struct reader {
	struct bench *b;
	struct stele_store_read read;
	struct iovec iov[CELLS * STELE_CELL_LEN >> 20];
	void *buf;
	uint64_t began_ns;
};

struct bench {
	struct rig rig;
	uint64_t shards;
	struct stele_prng prng;
	struct reader client[CLIENTS], repair[REPAIRS];
	struct stele_store_scrub scrub;
	bool over;
	uint32_t running;
	uint32_t *us; /* of the clients' reads */
	uint32_t times;
	uint64_t repaired, swept;
	struct stele_op timer;
};

static void ends(struct bench *b)
{
	if (--b->running == 0)
		stele_env_stop(b->rig.env);
}

static void read_next(struct reader *x)
{
	struct bench *b = x->b;
	struct stele_store_read *r = &x->read;
	if (b->over) {
		ends(b);
		return;
	}
	r->key = (struct stele_key){.kind = STELE_ENTRY_SHARD};
	rig_id(stele_prng_below(&b->prng, b->shards), &r->key.id);
	r->first_cell = (uint32_t)stele_prng_below(&b->prng, CELLS - r->cells + 1);
	uint64_t left = (uint64_t)r->cells * STELE_CELL_LEN, part = 1 << 20;
	for (r->ninto = 0; left; left -= part) {
		part = left < part ? left : part;
		x->iov[r->ninto] =
		    (struct iovec){(uint8_t *)x->buf + ((size_t)r->ninto << 20), part};
		r->ninto++;
	}
	x->began_ns = stele_env_now(b->rig.env);
	stele_store_read(b->rig.store, r);
}

static void on_read(struct stele_store_read *r)
{
	struct reader *x = r->ctx;
	struct bench *b = x->b;
	if (r->err) {
		(void)stele_fail(r->err, "%s", r->detail);
		rig_fail("a read");
	}
	if (r->class == STELE_REPAIR)
		b->repaired += r->data_len;
	else if (b->times < TIMES_MAX)
		b->us[b->times++] = (uint32_t)((stele_env_now(b->rig.env) - x->began_ns) / 1000);
	read_next(x);
}

static void on_swept(struct stele_store_scrub *s)
{
	struct bench *b = s->ctx;
	if (s->err && s->err != STELE_ERR_CANCELLED) {
		(void)stele_fail(s->err, "%s", s->detail);
		rig_fail("scrub");
	}
	b->swept += s->bytes_done;
	if (b->over)
		ends(b);
	else
		stele_store_scrub(b->rig.store, s);
}

static void on_time(struct stele_op *op)
{
	struct bench *b = op->ctx;
	b->over = true;
	stele_store_scrub_cancel(b->rig.store);
}

static void start_readers(struct bench *b, struct reader *x, uint32_t n, enum stele_class class,
                          uint32_t cells)
{
	for (uint32_t i = 0; i < n; i++) {
		x[i].b = b;
		if (!x[i].buf)
			x[i].buf = rig_pages((size_t)cells * STELE_CELL_LEN);
		x[i].read = (struct stele_store_read){
		    .class = class, .cells = cells, .into = x[i].iov, .cb = on_read, .ctx = &x[i]};
		b->running++;
		read_next(&x[i]);
	}
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void measure(struct bench *b, const struct row *r, unsigned clients, double out[FIGURES])
{
	b->rig.opts.unfair = r->unfair;
	rig_open(&b->rig);
	b->over = false;
	b->times = 0;
	b->repaired = b->swept = 0;
	start_readers(b, b->client, clients, STELE_CLIENT, 1);
	start_readers(b, b->repair, r->repair ? REPAIRS : 0, STELE_REPAIR, CELLS);
	b->scrub = (struct stele_store_scrub){.cb = on_swept, .ctx = b};
	if (r->sweep) {
		b->running++;
		stele_store_scrub(b->rig.store, &b->scrub);
	}
	uint64_t start = stele_env_now(b->rig.env);
	b->timer = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = start + ms * 1000000ull, .cb = on_time, .ctx = b};
	stele_env_submit(b->rig.env, &b->timer);
	stele_env_run(b->rig.env);
	double s = (double)(stele_env_now(b->rig.env) - start) / 1e9;
	qsort(b->us, b->times, sizeof(b->us[0]), by_value);
	out[PER_S] = b->times / s;
	out[P50_US] = b->times ? b->us[b->times / 2] : 0;
	out[P99_US] = b->times ? b->us[b->times - 1 - b->times / 100] : 0;
	out[SWEEP_MB] = (double)b->swept / 1e6 / s;
	out[REPAIR_MB] = (double)b->repaired / 1e6 / s;
	rig_close(&b->rig);
}

static bool parse(int argc, char **argv, const char **dir)
{
	for (int i = 1; i < argc; i++) {
		unsigned *to = strcmp(argv[i], "--turns") == 0 ? &turns
		               : strcmp(argv[i], "--ms") == 0  ? &ms
		               : strcmp(argv[i], "--mib") == 0 ? &mib
		                                               : NULL;
		if (to && i + 1 < argc)
			*to = (unsigned)atoi(argv[++i]);
		else if (argv[i][0] == '-' || *dir)
			return false;
		else
			*dir = argv[i];
	}
	return *dir && turns > 0 && turns <= TURNS_MAX && ms > 0 && mib >= 64 && mib <= 900;
}

static void fill(struct bench *b)
{
	struct rig_meta meta;
	struct rig_writing w = {.len = CELLS * STELE_CELL_LEN, .depth = 4, .meta = &meta};
	rig_meta_make(&meta, "rs-4-2", w.len);
	w.count = b->shards = ((uint64_t)mib << 20) / w.len;
	rig_open(&b->rig);
	(void)rig_write(&b->rig, &w);
	rig_close(&b->rig);
	free(meta.bytes);
}

int main(int argc, char **argv)
{
	static struct bench b;
	static double got[DEPTHS][ROWS][FIGURES][TURNS_MAX];
	const char *dir = NULL;
	if (!parse(argc, argv, &dir)) {
		fprintf(stderr, "usage: bench_fair [--turns N] [--ms N] [--mib 64..900] DIR\n");
		return 2;
	}
	b.us = rig_pages(TIMES_MAX * sizeof(b.us[0]));
	stele_prng_init(&b.prng, 1);
	rig_start(&b.rig, dir, EXTENT_LEN);
	fill(&b);
	for (unsigned t = 0; t < turns; t++) {
		bench_noise_turn(true);
		for (unsigned d = 0; d < DEPTHS; d++)
			for (unsigned i = 0; i < ROWS; i++) {
				unsigned r = t % 2 ? (unsigned)ROWS - 1 - i : i;
				double out[FIGURES];
				measure(&b, &row[r], depth[d], out);
				for (int f = 0; f < FIGURES; f++)
					got[d][r][f][t] = out[f];
			}
	}
	rig_end(&b.rig);
	printf("%-8s %-42s %8s %8s %8s %10s %11s\n", "clients", "", "reads/s", "p50 us", "p99 us",
	       "sweep MB/s", "repair MB/s");
	for (unsigned d = 0; d < DEPTHS; d++)
		for (unsigned r = 0; r < ROWS; r++) {
			printf("%-8u %-42s", depth[d], row[r].name);
			for (int f = 0; f < FIGURES; f++)
				printf(" %*.0f", f < SWEEP_MB ? 8 : 10 + f - SWEEP_MB,
				       bench_spread_of(got[d][r][f], (int)turns).median);
			printf("\n");
		}
	struct bench_spread noise = bench_noise();
	printf("noise: %.2f %.2f (a fixed loop's time to its least: median, most)\n", noise.median,
	       noise.max);
	return 0;
}
