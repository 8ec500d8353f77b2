/*
 * Speed of codes and hashes beside ISA-L and OpenSSL, in one run, in turns (pair.h). Prints a line per
 * row: both rates, the ratio's least, median and most, and the goal that it is held against.
 *
 *   bench_codes [--turns N] [--ms N] [ROW]     ROW: only rows whose name contains it
 */
#include <isa-l/erasure_code.h>
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pair.h"
#include "erasure/block.h"
#include "erasure/gf256.h"

#define CELL   STELE_CELL_LEN
#define SHARDS STELE_CODE_N_MAX

static struct bench_options options = {.turns = 15, .seconds = 0.03};
static const char *only = "";

static void *allocate(size_t len)
{
	void *p = aligned_alloc(4096, stele_round_up(len, 4096));
	if (!p) {
		fprintf(stderr, "bench_codes: no memory for %zu bytes\n", len);
		exit(1);
	}
	uint64_t x = 88172645463325252u;
	for (size_t i = 0; i + 8 <= len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy((uint8_t *)p + i, &x, 8);
	}
	return p;
}

static const struct stele_code *find(const char *name)
{
	const struct stele_code *code;
	if (stele_code_find_name(name, &code) != STELE_OK) {
		fprintf(stderr, "bench_codes: %s\n", stele_detail());
		exit(1);
	}
	return code;
}

static bool wanted(const char *row)
{
	return strstr(row, only) != NULL;
}

static void print_row(const char *row, struct bench_result r, const char *goal)
{
	printf("%-46s %7.2f %7.2f   %5.2f  %5.2f  %5.2f   %s\n", row, r.a.median / 1e9,
	       r.b.median / 1e9, r.ratio.min, r.ratio.median, r.ratio.max, goal);
	fflush(stdout);
}

static void row(const char *name, struct bench_side ours, struct bench_side theirs,
                const char *goal)
{
	if (wanted(name))
		print_row(name, bench_pair(&options, ours, theirs), goal);
}

/* Codes: work on n shards of `len` bytes each, `window` of them at a time (the whole: in cache). */
struct code_work {
	const struct stele_code *code;
	const struct stele_plan *plan; /* decode, where set */
	const unsigned char *tables;   /* ISA-L's, where set */
	uint8_t *shard[SHARDS];
	size_t len, window, at;
};

static struct code_work make_work(const char *name, size_t len, size_t window)
{
	struct code_work w = {.code = find(name), .len = len, .window = window};
	for (uint32_t i = 0; i < stele_code_n(w.code); i++)
		w.shard[i] = allocate(len);
	return w;
}

static void free_work(struct code_work *w)
{
	for (uint32_t i = 0; i < stele_code_n(w->code); i++)
		free(w->shard[i]);
}

static void next_window(struct code_work *w, uint8_t *at[SHARDS])
{
	for (uint32_t i = 0; i < stele_code_n(w->code); i++)
		at[i] = w->shard[i] + w->at;
	w->at = w->at + 2 * w->window <= w->len ? w->at + w->window : 0;
}

static void encode(void *arg)
{
	struct code_work *w = arg;
	uint8_t *at[SHARDS];
	next_window(w, at);
	stele_code_encode(w->code, w->window, (const uint8_t *const *)at,
	                  at + stele_code_k(w->code));
}

static void encode_isal(void *arg)
{
	struct code_work *w = arg;
	uint32_t k = stele_code_k(w->code);
	uint8_t *at[SHARDS];
	next_window(w, at);
	ec_encode_data((int)w->window, (int)k, (int)(stele_code_n(w->code) - k),
	               (unsigned char *)w->tables, at, at + k);
}

static void decode(void *arg)
{
	struct code_work *w = arg;
	const uint8_t *in[STELE_CODE_K_MAX];
	uint8_t *at[SHARDS], *out[SHARDS];
	next_window(w, at);
	for (uint32_t r = 0; r < w->plan->nread; r++)
		in[r] = at[w->plan->read[r]];
	for (uint32_t o = 0; o < w->plan->nwant; o++)
		out[o] = at[w->plan->want[o]];
	stele_code_apply(w->plan, w->window, in, out);
}

static const unsigned char *isal_tables(const struct stele_code *code)
{
	static unsigned char tables[32 * STELE_CODE_K_MAX * STELE_CODE_M_MAX];
	int k = (int)stele_code_k(code), m = (int)stele_code_n(code) - k;
	ec_init_tables(k, m, (unsigned char *)stele_code_row(code, (uint32_t)k), tables);
	return tables;
}

static void bench_encode(void)
{
	struct code_work hot = make_work("rs-10-4", CELL, CELL), isal = hot;
	isal.tables = isal_tables(hot.code);
	struct bench_side theirs = {encode_isal, &isal, 10.0 * CELL};
	for (const char *const *kernel = stele_gf_kernels(); *kernel; kernel++) {
		char name[80];
		if (!stele_gf_use(*kernel))
			continue;
		snprintf(name, sizeof(name), "encode rs-10-4, in cache, %s", *kernel);
		row(name, (struct bench_side){encode, &hot, 10.0 * CELL}, theirs,
		    strcmp(*kernel, "isal") ? "2.80" : "0.98");
	}
	stele_gf_use(NULL);

	struct code_work lrc = make_work("lrc-12-2-3", CELL, CELL);
	row("encode lrc-12-2-3, per user byte, to rs-10-4",
	    (struct bench_side){encode, &lrc, 12.0 * CELL}, theirs, "1.00");
	stele_gf_use("isal");
	row("encode lrc-12-2-3 without GFNI, to rs-10-4",
	    (struct bench_side){encode, &lrc, 12.0 * CELL}, theirs, "1.00");
	stele_gf_use(NULL);
	free_work(&lrc);
	free_work(&hot);

	struct code_work cold = make_work("rs-10-4", 128 * CELL, CELL), cold_isal = cold;
	cold_isal.tables = isal_tables(cold.code);
	row("encode rs-10-4, from memory (112 MiB)",
	    (struct bench_side){encode, &cold, 10.0 * CELL},
	    (struct bench_side){encode_isal, &cold_isal, 10.0 * CELL}, "-");
	free_work(&cold);
}

/* Rates are per byte produced. */
static void bench_decode(void)
{
	static struct stele_plan one, four, local;
	struct code_work rs = make_work("rs-10-4", CELL, CELL), rs_one = rs, rs_four = rs;
	struct code_work thin = make_work("rs-10-1", CELL, CELL);
	struct code_work six = make_work("rs-6-1", CELL, CELL);
	struct code_work lrc = make_work("lrc-12-2-3", CELL, CELL);
	if (stele_code_plan(rs.code, 0x3ffe, 0x0001, &one) ||
	    stele_code_plan(rs.code, 0x3f5a, 0x00a5, &four) ||
	    stele_code_plan(lrc.code, 0x1fffe, 0x00001, &local)) {
		fprintf(stderr, "bench_codes: %s\n", stele_detail());
		exit(1);
	}
	rs_one.plan = &one;
	rs_four.plan = &four;
	lrc.plan = &local;
	struct bench_side enc = {encode, &rs, 4.0 * CELL}, enc_one = {encode, &thin, CELL};
	struct bench_side dec_one = {decode, &rs_one, CELL}, rebuild = {decode, &lrc, CELL};
	struct bench_side enc_six = {encode, &six, CELL};
	row("decode rs-10-4, 4 losses, to encode of 10+4",
	    (struct bench_side){decode, &rs_four, 4.0 * CELL}, enc, "0.90");
	row("decode rs-10-4, 1 loss, to encode of 10+1", dec_one, enc_one, "0.90");
	row("decode rs-10-4, 1 loss, to encode of 10+4", dec_one, enc, "(0.90)");
	row("rebuild lrc-12-2-3, 1 shard, to encode of 6+1", rebuild, enc_six, "0.90");
	row("rebuild lrc-12-2-3, 1 shard, to encode of 10+4", rebuild, enc, "(0.90)");
	free_work(&rs);
	free_work(&thin);
	free_work(&six);
	free_work(&lrc);
}

/* Hashes */

#define HASH_LEN (16u << 20)

struct hash_work {
	uint8_t *data;
	size_t len;
	struct stele_hash leaf[HASH_LEN / CELL];
	struct stele_sha256_stream stream;
	unsigned char digest[STELE_HASH_LEN];
};

static void hash_cells(void *arg)
{
	struct hash_work *w = arg;
	stele_sha256_cells(w->data, w->len, w->leaf);
}

static void hash_both(void *arg)
{
	struct hash_work *w = arg;
	stele_sha256_cells_and_stream(w->data, w->len, w->leaf, &w->stream);
}

static void hash_openssl(void *arg)
{
	struct hash_work *w = arg;
	SHA256(w->data, w->len, w->digest);
}

static void bench_hash(void)
{
	static struct hash_work w;
	char name[80];
	w.data = allocate(HASH_LEN);
	w.len = HASH_LEN;
	stele_sha256_init(&w.stream);
	struct bench_side theirs = {hash_openssl, &w, HASH_LEN};
	for (const char *const *kernel = stele_sha256_kernels(); *kernel; kernel++) {
		if (!stele_sha256_use(*kernel))
			continue;
		snprintf(name, sizeof(name), "sha256 cells of 16 MiB, %s", *kernel);
		row(name, (struct bench_side){hash_cells, &w, HASH_LEN}, theirs,
		    strcmp(*kernel, "shani") ? "-" : "1.75");
	}
	stele_sha256_use(NULL);
	row("sha256 cells and stream, per byte hashed",
	    (struct bench_side){hash_both, &w, 2.0 * HASH_LEN}, theirs, "-");
	static struct hash_work few;
	few.data = w.data;
	for (unsigned cells = 1; cells <= 4; cells++) {
		few.len = cells * CELL;
		snprintf(name, sizeof(name), "sha256 of %u cell%s only", cells,
		         cells == 1 ? "" : "s");
		row(name, (struct bench_side){hash_cells, &few, (double)few.len}, theirs, "-");
	}
	free(w.data);
}

/* The whole computation of a put, and its primitives one after another. */
struct put_work {
	const struct stele_code *code;
	uint8_t *data, *parity;
	size_t len;
	struct stele_hash leaf[2 * HASH_LEN / CELL];
};

static void put(void *arg)
{
	struct put_work *w = arg;
	struct stele_sha256_stream object;
	struct stele_block b;
	stele_sha256_init(&object);
	if (stele_block_encode(&b, w->code, w->data, w->len, &object) != STELE_OK) {
		fprintf(stderr, "bench_codes: %s\n", stele_detail());
		exit(1);
	}
	stele_block_finish(&b);
}

static void put_primitives(void *arg)
{
	struct put_work *w = arg;
	const uint8_t *data[STELE_CODE_K_MAX];
	uint8_t *parity[STELE_CODE_M_MAX];
	uint32_t k = stele_code_k(w->code), m = stele_code_n(w->code) - k;
	size_t S = w->len / k;
	for (uint32_t i = 0; i < k; i++)
		data[i] = w->data + i * S;
	for (uint32_t i = 0; i < m; i++)
		parity[i] = w->parity + i * S;
	stele_code_encode(w->code, S, data, parity);
	stele_sha256_cells(w->data, w->len, w->leaf);  /* data cells */
	stele_sha256_cells(w->parity, m * S, w->leaf); /* parity cells */
	stele_sha256_cells(w->data, w->len, w->leaf);  /* the object's bytes, as fast as cells */
}

static void bench_put(const char *code)
{
	static struct put_work w;
	char name[80];
	w.code = find(code);
	w.len = stele_block_len(stele_code_id(w.code));
	w.data = allocate(w.len);
	w.parity = allocate((size_t)(stele_code_n(w.code) - stele_code_k(w.code)) * w.len /
	                    stele_code_k(w.code));
	snprintf(name, sizeof(name), "put %s: object, cells, encode", code);
	row(name, (struct bench_side){put, &w, (double)w.len},
	    (struct bench_side){put_primitives, &w, (double)w.len},
	    strcmp(code, "rs-4-2") ? "-" : "0.90");
	free(w.data);
	free(w.parity);
}

/* What the repair of one lost data shard reads, in bytes. */
static void print_repair_reads(const char *name)
{
	const struct stele_code *code = find(name);
	struct stele_plan plan;
	uint64_t block = stele_block_len(stele_code_id(code));
	uint64_t S = stele_shard_len(stele_code_id(code), block);
	if (stele_code_plan(code, ~(uint64_t)1, 1, &plan) != STELE_OK)
		return;
	printf("repair %-11s block %8llu B, shard %7llu B: reads %2u shards, %9llu B, %.2f x the "
	       "block\n",
	       name, (unsigned long long)block, (unsigned long long)S, plan.nread,
	       (unsigned long long)(plan.nread * S), (double)(plan.nread * S) / (double)block);
}

static void usage(void)
{
	fprintf(stderr, "usage: bench_codes [--turns N] [--ms N] [ROW]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--turns") == 0 && i + 1 < argc)
			options.turns = atoi(argv[++i]);
		else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
			options.seconds = atoi(argv[++i]) / 1e3;
		else if (argv[i][0] != '-')
			only = argv[i];
		else
			usage();
	}
	if (options.turns < 1 || options.seconds <= 0)
		usage();
	printf("kernels: %s, %s; %d turns of 2 x %.0f ms; GB/s are medians\n", stele_gf_kernel(),
	       stele_sha256_kernel(), options.turns, options.seconds * 1e3);
	printf("%-46s %7s %7s   %5s  %5s  %5s   %s\n", "", "ours", "theirs", "min", "ratio", "max",
	       "goal");
	bench_encode();
	bench_decode();
	bench_hash();
	bench_put("rs-4-2");
	bench_put("rs-10-4");
	bench_put("lrc-12-2-3");
	print_repair_reads("rs-10-4");
	print_repair_reads("lrc-12-2-3");
	struct bench_spread noise = bench_noise();
	printf("noise: a fixed loop took %.2f, median %.2f, at most %.2f times its least\n",
	       noise.min, noise.median, noise.max);
	return 0;
}
