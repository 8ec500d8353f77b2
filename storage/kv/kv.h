/*
 * The index: an ordered map from small keys to small values (DESIGN N7). It is a cache of what the
 * extents say: writes are unsynced, a watermark says up to which LSN they are durable, and on any
 * doubt the caller throws it away and rebuilds it. Two implementations under one conformance suite:
 * LevelDB, and memory (with a simulated crash).
 *
 * Calls block; on a loop they run on a worker. Thread: any, several at once; iterators are used by
 * one thread at a time and see the state at their creation.
 * Errors: CORRUPT and IO both mean "rebuild it": stele_kv_destroy_dir, open again, replay.
 */
#ifndef STORAGE_KV_KV_H
#define STORAGE_KV_KV_H

#include "storage/base/bytes.h"

#define STELE_KV_KEY_MAX   128u
#define STELE_KV_VALUE_MAX 128u

struct stele_kv;
struct stele_kv_iter;

struct stele_kv_write { /* value NULL: delete */
	const void *key;
	size_t key_len;
	const void *value;
	size_t value_len;
};

struct stele_kv_ops {
	const char *name; /* "leveldb", "memory" */
	/* `world` is the implementation's own: NULL for LevelDB; for memory, where its contents
	 * live across a simulated restart. */
	enum stele_err (*open)(void *world, const char *dir, struct stele_kv **out);
	void (*close)(struct stele_kv *kv);
	enum stele_err (*destroy_dir)(void *world, const char *dir);
	enum stele_err (*get)(struct stele_kv *kv, const void *key, size_t key_len, void *value,
			      size_t cap, size_t *value_len);
	enum stele_err (*write)(struct stele_kv *kv, const struct stele_kv_write *w, size_t n);
	enum stele_err (*flush)(struct stele_kv *kv);
	enum stele_err (*iter_create)(struct stele_kv *kv, struct stele_kv_iter **out);
};

struct stele_kv {
	const struct stele_kv_ops *ops;
};

extern const struct stele_kv_ops stele_kv_leveldb;
extern const struct stele_kv_ops stele_kv_memory;

STELE_MUST_USE enum stele_err stele_kv_open(const struct stele_kv_ops *ops, void *world,
					    const char *dir, struct stele_kv **out);
void stele_kv_close(struct stele_kv *kv); /* accepts NULL */
STELE_MUST_USE enum stele_err stele_kv_destroy_dir(const struct stele_kv_ops *ops, void *world,
						   const char *dir);
/* NOT_FOUND; TOO_LARGE when the value exceeds cap. */
STELE_MUST_USE enum stele_err stele_kv_get(struct stele_kv *kv, const void *key, size_t key_len,
					   void *value, size_t cap, size_t *value_len);
/* All or nothing, unsynced. */
STELE_MUST_USE enum stele_err stele_kv_write(struct stele_kv *kv, const struct stele_kv_write *w,
					     size_t n);
/* Everything written so far is durable when this returns (a memtable flush, not a synced write:
 * a later synced write does not cover earlier unsynced ones). */
STELE_MUST_USE enum stele_err stele_kv_flush(struct stele_kv *kv);

/* Ascending order of bytes. */
struct stele_kv_iter {
	void (*seek)(struct stele_kv_iter *it, const void *key, size_t key_len);
	bool (*valid)(struct stele_kv_iter *it);
	void (*next)(struct stele_kv_iter *it);
	const void *(*key)(struct stele_kv_iter *it, size_t *len);   /* valid until next or seek */
	const void *(*value)(struct stele_kv_iter *it, size_t *len);
	enum stele_err (*status)(struct stele_kv_iter *it); /* ask after the loop: OK or CORRUPT/IO */
	void (*destroy)(struct stele_kv_iter *it);
};
STELE_MUST_USE enum stele_err stele_kv_iter_create(struct stele_kv *kv, struct stele_kv_iter **out);
void stele_kv_iter_destroy(struct stele_kv_iter *it); /* accepts NULL */

/* The memory implementation's disk: what was flushed survives stele_kv_world_crash. */
struct stele_kv_world;
STELE_MUST_USE enum stele_err stele_kv_world_create(struct stele_kv_world **out);
void stele_kv_world_destroy(struct stele_kv_world *world);
/* Each directory goes back to a point, chosen by seed, at or after its last flush; with `corrupt`
 * one in that many opens afterwards says CORRUPT (0: none). Open handles are dead. */
void stele_kv_world_crash(struct stele_kv_world *world, const char *dir_prefix, uint64_t seed,
			  uint32_t corrupt);

#endif
