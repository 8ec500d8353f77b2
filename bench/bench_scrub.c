/*
 * What a sweep costs: processor time of the whole process per byte, as % of a core at 1 GB/s, beside
 * that of its parts in the same turn: the CRC of as many bytes (in cache, and from memory), and reading the same
 * file with nothing but 1 MiB reads and a CRC over each. Time by the clock is the disk's and the other load's;
 * processor time is what a sweep takes from the node.
 *
 *   bench_scrub [--turns N] [--mib N] [--cells N] DIR
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/pair.h"
#include "bench/store_rig.h"
#include "storage/base/crc.h"
#include "storage/base/merkle.h"
#include "storage/base/sha256.h"

#define TURNS_MAX  99
#define EXTENT_LEN (1ull << 30)
#define CHUNK      (1u << 20)
#define CELLS_MAX  256u
#define GOAL       1.82         /* 6 % of a core per GB/s where the CRC alone takes 3.3 */
#define MEMORY     (256u << 20) /* beyond any cache */

static unsigned turns = 7, mib = 768, cells = 64;

enum side { CRC_CACHE, CRC_MEMORY, SHA, READ, READ_CRC, SWEEP, DEEP, SIDES };

static const char *const name[SIDES] = {"CRC-32C alone, 64 KiB in cache",
                                        "CRC-32C alone, from memory",
                                        "SHA-256 alone, cells in cache",
                                        "1 MiB reads alone",
                                        "1 MiB reads, a CRC over each",
                                        "CRC sweep",
                                        "deep sweep"};

struct bench {
	struct rig rig;
	char extent[4096];
	uint8_t *memory, *chunk;
	bool swept;
	uint32_t sink;
};

static void on_victim(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	(void)s;
	(void)key;
	(void)stele_fail(STELE_ERR_CORRUPT, "%s", why);
	rig_fail("a victim");
}

static void on_swept(struct stele_store_scrub *s)
{
	struct bench *b = s->ctx;
	b->swept = true;
	stele_env_stop(b->rig.env);
}

static uint64_t sweep(struct bench *b, bool deep)
{
	struct stele_store_scrub s = {.deep = deep, .victim = on_victim, .cb = on_swept, .ctx = b};
	b->swept = false;
	stele_store_scrub(b->rig.store, &s);
	while (!b->swept)
		stele_env_run(b->rig.env);
	if (s.err) {
		(void)stele_fail(s.err, "%s", s.detail);
		rig_fail("scrub");
	}
	return s.bytes_total;
}

static uint64_t read_file(struct bench *b, bool crc)
{
	int fd = -1;
	if (stele_file_open(b->rig.env, b->extent, STELE_OPEN_DIRECT, 0, &fd) != STELE_OK)
		rig_fail(b->extent);
	uint64_t len = (uint64_t)mib << 20;
	for (uint64_t at = 0; at < len; at += CHUNK) {
		if (stele_file_pread(b->rig.env, fd, b->chunk, CHUNK, at) != STELE_OK)
			rig_fail(b->extent);
		for (uint32_t i = 0; crc && i < CHUNK; i += STELE_CELL_LEN)
			b->sink ^= stele_crc32c(b->chunk + i, STELE_CELL_LEN, 0);
	}
	stele_file_close(b->rig.env, &fd);
	return len;
}

static uint64_t crc_memory(struct bench *b)
{
	for (uint32_t i = 0; i < MEMORY; i += STELE_CELL_LEN)
		b->sink ^= stele_crc32c(b->memory + i, STELE_CELL_LEN, 0);
	return MEMORY;
}

static uint64_t crc_cache(struct bench *b)
{
	for (uint32_t i = 0; i < 16384; i++)
		b->sink ^= stele_crc32c(b->chunk, STELE_CELL_LEN, 0);
	return 16384ull * STELE_CELL_LEN;
}

static uint64_t sha(struct bench *b)
{
	struct stele_hash leaf[CHUNK / STELE_CELL_LEN];
	for (uint32_t i = 0; i < 128; i++)
		stele_sha256_cells(b->chunk, CHUNK, leaf);
	b->sink ^= leaf[0].b[0];
	return 128ull * CHUNK;
}

static uint64_t run_side(struct bench *b, enum side side)
{
	switch (side) {
	case CRC_CACHE:
		return crc_cache(b);
	case CRC_MEMORY:
		return crc_memory(b);
	case SHA:
		return sha(b);
	case READ:
	case READ_CRC:
		return read_file(b, side == READ_CRC);
	default:
		return sweep(b, side == DEEP);
	}
}

/* % of a core for 1 GB/s, and GB/s by the clock. */
static void measure(struct bench *b, enum side side, double *cpu, double *rate)
{
	double cpu_start = rig_cpu_seconds(), start = bench_now();
	double gb = (double)run_side(b, side) / 1e9;
	*cpu = 100 * (rig_cpu_seconds() - cpu_start) / gb;
	*rate = gb / (bench_now() - start);
}

static void on_written(struct stele_store_write *w)
{
	struct bench *b = w->ctx;
	if (w->err) {
		(void)stele_fail(w->err, "%s", w->detail);
		rig_fail("a write");
	}
	stele_env_stop(b->rig.env);
}

/* Genuine shards, as a deep sweep wants them. All are of the same bytes; blocks that differ by their length
 * alone have different ids, and shards of the same size. */
static void write_shard(struct bench *b, uint32_t n, uint8_t *bytes, uint8_t *meta)
{
	uint64_t len = (uint64_t)cells * STELE_CELL_LEN;
	struct stele_code_id code;
	struct stele_descriptor d;
	struct stele_hash row[CELLS_MAX];
	if (stele_code_id_parse("rs-4-2", &code) != STELE_OK ||
	    stele_descriptor_init(&d, &code, code.k * len - n) != STELE_OK || d.S != len)
		rig_fail("a descriptor");
	stele_sha256_cells(bytes, len, row);
	for (uint32_t i = 0; i < d.n; i++)
		stele_merkle_root(row, cells, &d.root[i]);
	size_t meta_len = stele_descriptor_encode(&d, meta);
	for (uint32_t i = 0; i < d.n; i++, meta_len += cells * STELE_HASH_LEN)
		memcpy(meta + meta_len, row, cells * STELE_HASH_LEN);
	struct iovec iov = {bytes, len};
	struct stele_item item = {.key = {.kind = STELE_ENTRY_SHARD, .index = n % 6},
	                          .meta = meta,
	                          .meta_len = (uint32_t)meta_len,
	                          .data = &iov,
	                          .ndata = 1,
	                          .data_len = len};
	stele_descriptor_id(&d, &item.key.id);
	struct stele_store_write w = {.item = &item, .n = 1, .cb = on_written, .ctx = b};
	stele_store_write(b->rig.store, &w);
	stele_env_run(b->rig.env);
}

static void fill(struct bench *b)
{
	uint64_t len = (uint64_t)cells * STELE_CELL_LEN;
	uint8_t *bytes = rig_pages(len);
	uint8_t *meta = rig_pages(STELE_DESCRIPTOR_MAX + 6 * CELLS_MAX * STELE_HASH_LEN);
	for (uint32_t n = 0; n < ((uint64_t)mib << 20) / len; n++)
		write_shard(b, n, bytes, meta);
	free(meta);
	free(bytes);
}

static bool parse(int argc, char **argv, const char **dir)
{
	for (int i = 1; i < argc; i++) {
		unsigned *to = strcmp(argv[i], "--turns") == 0   ? &turns
		               : strcmp(argv[i], "--mib") == 0   ? &mib
		               : strcmp(argv[i], "--cells") == 0 ? &cells
		                                                 : NULL;
		if (to && i + 1 < argc)
			*to = (unsigned)atoi(argv[++i]);
		else if (argv[i][0] == '-' || *dir)
			return false;
		else
			*dir = argv[i];
	}
	return *dir && turns > 0 && turns <= TURNS_MAX && mib >= 64 && mib <= 900 && cells > 0 &&
	       cells <= CELLS_MAX && mib * 16 / cells < 256; /* lengths to tell them apart */
}

int main(int argc, char **argv)
{
	static struct bench b;
	static double cpu[SIDES][TURNS_MAX], rate[SIDES][TURNS_MAX], ratio[TURNS_MAX];
	const char *dir = NULL;
	if (!parse(argc, argv, &dir)) {
		fprintf(stderr, "usage: bench_scrub [--turns N] [--mib 64..900] [--cells 1..256] "
		                "DIR\n");
		return 2;
	}
	b.memory = rig_pages(MEMORY);
	b.chunk = rig_pages(CHUNK);
	rig_start(&b.rig, dir, EXTENT_LEN);
	rig_open(&b.rig);
	fill(&b);
	rig_close(&b.rig);
	rig_open(&b.rig);
	snprintf(b.extent, sizeof(b.extent), "%.3500s/extent-00000001", b.rig.dir);
	for (unsigned t = 0; t < turns; t++) {
		bench_noise_turn(false);
		for (int i = 0; i < SIDES; i++) {
			enum side side = (enum side)(t % 2 ? SIDES - 1 - i : i);
			measure(&b, side, &cpu[side][t], &rate[side][t]);
		}
	}
	rig_end(&b.rig);
	for (unsigned t = 0; t < turns; t++)
		ratio[t] = cpu[SWEEP][t] / cpu[CRC_MEMORY][t];
	struct bench_spread r = bench_spread_of(ratio, (int)turns);
	printf("%-36s %% of a core per GB/s: min median max   GB/s by the clock\n", "");
	for (int i = 0; i < SIDES; i++) {
		struct bench_spread c = bench_spread_of(cpu[i], (int)turns);
		printf("%-36s %24.1f %6.1f %5.1f %12.1f\n", name[i], c.min, c.median, c.max,
		       bench_spread_of(rate[i], (int)turns).median);
	}
	printf("sweep to the CRC from memory: %.2f (%.2f - %.2f); goal %.2f: %s\n", r.median, r.min,
	       r.max, GOAL, r.median <= GOAL ? "met" : "NOT met");
	struct bench_spread noise = bench_noise();
	printf("noise: %.2f %.2f (a fixed loop's time to its least: median, most)\n", noise.median,
	       noise.max);
	return (int)(b.sink & 0);
}
