/*
 * What the benchmarks of a store share: an env, a store in a directory of its own, shards made from a
 * number, requests that submit themselves again until they have done enough, and fio's figure for the
 * same pattern. Everything ends the program on an error, with one line.
 */
#ifndef BENCH_STORE_RIG_H
#define BENCH_STORE_RIG_H

#include "storage/io/buf.h"
#include "storage/store.h"

#define RIG_DEPTH_MAX 64u

struct rig {
	struct stele_env *env;
	struct stele_buf_pool *bufs; /* what readers read into, lent to env as a node does it */
	struct stele_store *store;
	struct stele_store_opts opts;
	char dir[3072];
	struct stele_store_reclaim reclaim;
	bool reclaiming;
};

_Noreturn void rig_fail(const char *what); /* with the thread's detail; removes the directory */

/* An env and an empty store in a new directory in `where`. The store is not open. */
void rig_start(struct rig *r, const char *where, uint64_t extent_len);
void rig_open(struct rig *r);
void rig_settle(struct rig *r); /* until the store does nothing of its own */
void rig_close(struct rig *r);
void rig_remove_index(struct rig *r);
/* Closes, and removes the directory. */
void rig_end(struct rig *r);

void *rig_pages(size_t len); /* page-aligned, random bytes; free */
/* The id of block `number`: what SHA-256 says of it, so that ids are spread as in the field. */
void rig_id(uint64_t number, struct stele_hash *out);
double rig_cpu_seconds(void); /* of the whole process, so far */

/* A shard's descriptor and rows as a store takes them. The bytes are what they would be but for the
 * hashes: a store does not compare them with its caller's. */
struct rig_meta {
	uint8_t *bytes;
	uint32_t len;
};
void rig_meta_make(struct rig_meta *m, const char *code, uint64_t shard_len);
/* Bytes of a batch that go along with one such shard when it is alone in it. */
uint64_t rig_overhead(const struct rig_meta *m, uint64_t shard_len);

/* `depth` writers of equal entries, each with one under way. */
struct rig_writing {
	uint64_t len; /* of a shard's cells; with `record`: of a record */
	uint32_t depth;
	bool record; /* a RECORD of `len` bytes, as a small object is kept, instead of a shard */
	const struct rig_meta *meta;
	uint64_t first; /* number of the first block */
	uint64_t count; /* to write; 0: by time */
	uint64_t ns;
};
struct rig_result {
	double per_s;
	double cpu; /* seconds per entry, the whole process */
	uint64_t count;
};
struct rig_result rig_write(struct rig *r, const struct rig_writing *w);

/* `depth` readers of one random cell each of the shards 0 ... shards-1. */
/* Writes 4 MiB shards into a new store until its second extent has begun, which was made ahead, and filled
 * in a pause. Reclaim runs from then on. */
void rig_to_next_extent(struct rig *r);

struct rig_reading {
	uint64_t shards;
	uint32_t cells; /* of a shard */
	uint32_t depth;
	uint64_t ns;
	uint64_t seed;
};
struct rig_result rig_read(struct rig *r, const struct rig_reading *p);

/* fio's operations per second: `args` says all but the file. Ends the program if fio is missing. */
double rig_fio(const char *file, bool writes, const char *args);

#endif
