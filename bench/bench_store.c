/*
 * A store beside fio, on files of the same file system in turns of one run: what group commit, the
 * index, CRCs and the two reads of a cell leave of the disk. A line per row: operations per second of
 * fio and of the store, the ratio's least, median and most, the goal, and the store's processor time
 * per operation (the whole process, workers included).
 *
 * A turn of writing has a store of its own, and all it writes lies within one extent, the second, which the store has made
 * ahead and filled in a pause; on "new space" it writes on and on into what nobody has written before. fio overwrites a file that
 * was written before, in order, or reads the very extents that the store reads.
 *
 *   bench_store [--turns N] [--ms N] [--mib N] [--row PART] DIR
 *   bench_store --index N DIR      a store of N tiny shards: what its index costs
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/pair.h"
#include "bench/store_index.h"
#include "bench/store_rig.h"

#define TURNS_MAX  99
#define EXTENT_LEN (512ull << 20)
#define WARM       32u /* entries written before the clock starts */

static unsigned turns = 5, turn_ms = 700, mib = 384;
static const char *only;
static char fio_path[4096];

enum row_kind { ROW_WRITE, ROW_READ };

struct row {
	const char *name;
	enum row_kind kind;
	const char *code; /* NULL: a RECORD */
	uint64_t len;     /* of a shard, or the record */
	uint32_t depth;
	const char *fio;  /* its half of the row */
	double goal;      /* least ratio; 0: stated, no goal */
	uint64_t shards;  /* ROW_READ: of so many; 0: as many as fit --mib */
	bool fresh;       /* ROW_WRITE: new space */
};

static const struct row rows[] = {
    {"append 1 MiB shards, 16 in flight", ROW_WRITE, "rs-4-2", 1 << 20, 16,
     "--rw=write --bs=1m --sync=dsync --ioengine=io_uring --iodepth=16", 0.90},
    {"append 64 KiB shards, 16 in flight", ROW_WRITE, "rs-4-2", 64 << 10, 16,
     "--rw=write --bs=64k --sync=dsync --ioengine=io_uring --iodepth=16", 0.90},
    {"append 64 KiB shards, 4 in flight", ROW_WRITE, "rs-4-2", 64 << 10, 4,
     "--rw=write --bs=64k --sync=dsync --ioengine=io_uring --iodepth=4", 0},
    {"append 1 MiB shards, 16 in flight, new space", ROW_WRITE, "rs-4-2", 1 << 20, 16,
     "--rw=write --bs=1m --sync=dsync --ioengine=io_uring --iodepth=16", .fresh = true},
    {"append 64 KiB shards, 16 in flight, new space", ROW_WRITE, "rs-4-2", 64 << 10, 16,
     "--rw=write --bs=64k --sync=dsync --ioengine=io_uring --iodepth=16", .fresh = true},
    {"append 4 KiB shards, 64 writers", ROW_WRITE, "rep-3", 4 << 10, 64,
     "--rw=write --bs=4k --fdatasync=1 --ioengine=psync", 5.0},
    {"append 4 KiB records, 64 writers", ROW_WRITE, NULL, 4 << 10, 64,
     "--rw=write --bs=4k --fdatasync=1 --ioengine=psync", 5.0},
    {"append 4 KiB shards, a lone writer", ROW_WRITE, "rep-3", 4 << 10, 1,
     "--rw=write --bs=4k --fdatasync=1 --ioengine=psync", 0},
    {"read a cell of 64, 32 in flight", ROW_READ, "rs-4-2", 4 << 20, 32,
     "--rw=randread --norandommap --bs=64k --ioengine=io_uring --iodepth=32", 0.90},
    {"read a cell of 16 of 4,096 shards, 32 in flight", ROW_READ, "rs-4-2", 1 << 20, 32,
     "--rw=randread --norandommap --bs=64k --ioengine=io_uring --iodepth=32", 0.90, 4096},
    {"read a shard of one cell, 32 in flight", ROW_READ, "rs-4-2", 64 << 10, 32,
     "--rw=randread --norandommap --bs=64k --ioengine=io_uring --iodepth=32", 0},
};

/* What it reads was all written: space that was not is read without the disk. */
static double fio(const struct row *row, const char *files)
{
	char args[512], size[64];
	snprintf(size, sizeof(size), "%s --size=%um",
	         row->kind == ROW_WRITE ? "--overwrite=1" : "--readonly", mib);
	if (row->shards)
		snprintf(size, sizeof(size), "--readonly");
	snprintf(args, sizeof(args), "%s --time_based --runtime=%ums %s", row->fio, turn_ms, size);
	return rig_fio(files, row->kind == ROW_WRITE, args);
}

/* ---- writing ---- */

static void make_fio_file(struct rig *r)
{
	int fd = -1;
	uint8_t *chunk = rig_pages(1 << 20);
	if (stele_file_open(r->env, fio_path,
	                    STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_DIRECT, 0600,
	                    &fd) != STELE_OK)
		rig_fail(fio_path);
	for (unsigned i = 0; i < mib; i++)
		if (stele_file_pwrite(r->env, fd, chunk, 1 << 20, (uint64_t)i << 20,
		                      STELE_WRITE_DSYNC) != STELE_OK)
			rig_fail(fio_path);
	stele_file_close(r->env, &fd);
	free(chunk);
}

/* A new store, written until its second extent has begun, and then the clock. */
static struct rig_result write_turn(const struct row *row, const char *where)
{
	struct rig r;
	struct rig_meta meta = {0};
	if (row->code)
		rig_meta_make(&meta, row->code, row->len);
	rig_start(&r, where, EXTENT_LEN);
	rig_open(&r);
	if (!row->fresh)
		rig_to_next_extent(&r);
	struct rig_writing w = {
	    .len = row->len, .depth = row->depth, .record = !row->code, .meta = &meta};
	w.count = WARM;
	(void)rig_write(&r, &w);
	rig_settle(&r);
	w.first = WARM;
	w.count = 0;
	w.ns = turn_ms * 1000000ull;
	if (row->len >= STELE_CELL_LEN && !row->fresh)
		w.count = ((uint64_t)mib << 20) / row->len;
	struct rig_result result = rig_write(&r, &w);
	rig_end(&r);
	free(meta.bytes);
	return result;
}

/* ---- reading ---- */

/* Writes the shards; files: the extents they lie in, for fio. */
static uint64_t fill(struct rig *r, const struct row *row, const char *where, char *files,
                     size_t room)
{
	struct rig_meta meta;
	rig_meta_make(&meta, row->code, row->len);
	rig_start(r, where, EXTENT_LEN);
	rig_open(r);
	struct rig_writing w = {.len = row->len, .depth = 8, .meta = &meta};
	w.count = row->shards ? row->shards : ((uint64_t)mib << 20) / row->len;
	(void)rig_write(r, &w);
	rig_close(r); /* what was written is read by the next life, from its index's tables */
	rig_open(r);
	uint64_t last = row->shards ? w.count * row->len / EXTENT_LEN : 1; /* that are full */
	for (uint64_t i = 1, at = 0; i <= last; i++)
		at += (uint64_t)snprintf(files + at, room - at, "%s%.200s/extent-%08llx",
		                         i > 1 ? ":" : "", r->dir, (unsigned long long)i);
	free(meta.bytes);
	return w.count;
}

/* ---- rows ---- */

struct turn {
	double fio, ours, ratio, cpu;
};

static void print_row(const struct row *row, struct turn *turn)
{
	double f[TURNS_MAX], o[TURNS_MAX], r[TURNS_MAX], c[TURNS_MAX];
	for (unsigned i = 0; i < turns; i++) {
		f[i] = turn[i].fio;
		o[i] = turn[i].ours;
		r[i] = turn[i].ours / turn[i].fio;
		c[i] = turn[i].cpu * 1e6;
	}
	struct bench_spread ratio = bench_spread_of(r, (int)turns);
	printf("%-48s %8.0f %8.0f   %6.2f %6.2f %6.2f   ", row->name,
	       bench_spread_of(f, (int)turns).median, bench_spread_of(o, (int)turns).median,
	       ratio.min, ratio.median, ratio.max);
	if (row->goal > 0)
		printf("%5.2f %-7s", row->goal, ratio.median >= row->goal ? "met" : "NOT met");
	else
		printf("%5s %-7s", "-", "");
	printf(" %7.1f\n", bench_spread_of(c, (int)turns).median);
	fflush(stdout);
}

static void bench(const struct row *row, const char *where)
{
	struct turn turn[TURNS_MAX];
	struct rig r;
	static char files[8192];
	struct rig_reading p = {.depth = row->depth, .ns = turn_ms * 1000000ull};
	p.cells = (uint32_t)(row->len / STELE_CELL_LEN);
	if (row->kind == ROW_READ)
		p.shards = fill(&r, row, where, files, sizeof(files));
	const char *file = row->kind == ROW_READ ? files : fio_path;
	for (unsigned i = 0; i < turns; i++) {
		bench_noise_turn(true);
		double theirs = i % 2 ? 0 : fio(row, file);
		p.seed = i;
		struct rig_result ours =
		    row->kind == ROW_READ ? rig_read(&r, &p) : write_turn(row, where);
		if (i % 2)
			theirs = fio(row, file);
		turn[i] = (struct turn){.fio = theirs, .ours = ours.per_s, .cpu = ours.cpu};
	}
	if (row->kind == ROW_READ)
		rig_end(&r);
	print_row(row, turn);
}

/* After a first write, so that there is an extent to be registered. */
static void print_env(struct rig *r)
{
	char text[STELE_ENV_TEXT];
	struct rig_meta meta;
	rig_open(r);
	rig_meta_make(&meta, "rs-4-2", STELE_CELL_LEN);
	(void)rig_write(r, &(struct rig_writing){.len = STELE_CELL_LEN, .depth = 1, .count = 1, .meta = &meta});
	free(meta.bytes);
	stele_env_describe(r->env, text);
	printf("env %s\n", text);
}

static void print_head(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig_meta meta;
		if (!rows[i].code || rows[i].kind != ROW_WRITE)
			continue;
		rig_meta_make(&meta, rows[i].code, rows[i].len);
		printf("%s: %u bytes of descriptor and rows go along (%s); a batch of one: %llu "
		       "bytes more\n",
		       rows[i].name, meta.len, rows[i].code,
		       (unsigned long long)rig_overhead(&meta, rows[i].len));
		free(meta.bytes);
	}
	printf("%-48s %8s %8s   ratio: min median   max    goal          cpu us/op\n", "row",
	       "fio/s", "store/s");
}

static bool parse(int argc, char **argv, const char **dir, unsigned *index)
{
	for (int i = 1; i < argc; i++) {
		unsigned *to = strcmp(argv[i], "--turns") == 0   ? &turns
		               : strcmp(argv[i], "--ms") == 0    ? &turn_ms
		               : strcmp(argv[i], "--mib") == 0   ? &mib
		               : strcmp(argv[i], "--index") == 0 ? index
		                                                 : NULL;
		if (to && i + 1 < argc)
			*to = (unsigned)atoi(argv[++i]);
		else if (strcmp(argv[i], "--row") == 0 && i + 1 < argc)
			only = argv[++i];
		else if (argv[i][0] == '-' || *dir)
			return false;
		else
			*dir = argv[i];
	}
	/* within half an extent: beyond it the store makes the next one ready */
	return *dir && turns > 0 && turns <= TURNS_MAX && turn_ms > 0 && mib >= 8 && mib <= 448;
}

int main(int argc, char **argv)
{
	const char *dir = NULL;
	unsigned index = 0;
	if (!parse(argc, argv, &dir, &index)) {
		fprintf(stderr, "usage: bench_store [--turns N] [--ms N] [--mib 8..448] "
		                "[--row PART] DIR\n       bench_store --index N DIR\n");
		return 2;
	}
	if (index)
		return bench_index(dir, index);
	struct rig r;
	snprintf(fio_path, sizeof(fio_path), "%.3900s/bench_store_fio.%d", dir, (int)getpid());
	rig_start(&r, dir, EXTENT_LEN);
	make_fio_file(&r);
	print_env(&r);
	print_head();
	rig_end(&r);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!only || strstr(rows[i].name, only))
			bench(&rows[i], dir);
	unlink(fio_path);
	struct bench_spread noise = bench_noise();
	printf("noise: %.2f %.2f (a fixed loop's time to its least: median, most)\n", noise.median,
	       noise.max);
	return 0;
}
