/*
 * The index in LevelDB 1.23, through its C API: the only file that knows LevelDB.
 *
 * What its users learned the hard way, and where it shows here:
 *  - the bloom filter is not remembered by the database: it is passed at every open;
 *  - a later synced write does not cover earlier unsynced ones (a memtable switch closes the old
 * log without a sync), so flush forces the memtable into a table, which is synced with its
 * manifest;
 *  - leveldb_compact_range reports no error, but a failed flush leaves a background error behind
 *    which every later write returns: flush ends with an empty write to ask for it;
 *  - leveldb_repair_db may bring deleted keys back: it is not called anywhere. Callers rebuild;
 *  - it maps up to a thousand tables, so that a page the disk cannot read ends the whole process with
 *    SIGBUS, and what look-ups touched counts as the process's memory. It reads them instead, once told
 *    to by the switch its own tests have, which the C interface lacks and only the static library shows.
 */
#include "storage/kv/kv.h"

#include <leveldb/c.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_BYTES        (8u << 20)
#define WRITE_BUFFER_BYTES (4u << 20)
#define OPEN_FILES         1000 /* 2 MiB and 27,000 shards each; open, it has its filter and block index in memory, 55 kB */
#define BLOOM_BITS         10

/* leveldb::EnvPosixTestHelper::SetReadOnlyMMapLimit: how many tables may be mapped; before anything else. */
void leveldb_set_mmap_limit(int limit) __asm__("_ZN7leveldb18EnvPosixTestHelper20SetReadOnlyMMapLimitEi");

static pthread_once_t set_up = PTHREAD_ONCE_INIT;

static void read_tables(void)
{
	leveldb_set_mmap_limit(0);
}

struct ldb {
	struct stele_kv kv;
	leveldb_t *db;
	leveldb_options_t *options;
	leveldb_cache_t *cache;
	leveldb_filterpolicy_t *bloom;
	leveldb_readoptions_t *read;
	leveldb_readoptions_t *scan; /* does not push everything else out of the cache */
	leveldb_writeoptions_t *write;
};

struct ldb_iter {
	struct stele_kv_iter it;
	leveldb_iterator_t *li;
};

/* LevelDB's errors are texts: this is the one place that tells them apart. Takes the text over. */
static enum stele_err classify(char *text, const char *what)
{
	enum stele_err err = STELE_ERR_IO;
	if (strncmp(text, "Corruption", 10) == 0)
		err = STELE_ERR_CORRUPT;
	err = stele_fail(err, "index: %s: %s", what, text);
	leveldb_free(text);
	return err;
}

static void close_ldb(struct stele_kv *kv)
{
	struct ldb *l = (struct ldb *)kv;
	if (l->db)
		leveldb_close(l->db);
	if (l->read)
		leveldb_readoptions_destroy(l->read);
	if (l->scan)
		leveldb_readoptions_destroy(l->scan);
	if (l->write)
		leveldb_writeoptions_destroy(l->write);
	if (l->options)
		leveldb_options_destroy(l->options);
	if (l->bloom)
		leveldb_filterpolicy_destroy(l->bloom);
	if (l->cache)
		leveldb_cache_destroy(l->cache);
	free(l);
}

static enum stele_err open_ldb(void *world, const char *dir, struct stele_kv **out)
{
	(void)world;
	pthread_once(&set_up, read_tables);
	struct ldb *l = calloc(1, sizeof(*l));
	if (!l)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	l->kv.ops = &stele_kv_leveldb;
	l->cache = leveldb_cache_create_lru(CACHE_BYTES);
	l->bloom = leveldb_filterpolicy_create_bloom(BLOOM_BITS);
	l->options = leveldb_options_create();
	leveldb_options_set_create_if_missing(l->options, 1);
	leveldb_options_set_paranoid_checks(l->options, 1);
	leveldb_options_set_cache(l->options, l->cache);
	leveldb_options_set_filter_policy(l->options, l->bloom);
	leveldb_options_set_write_buffer_size(l->options, WRITE_BUFFER_BYTES);
	leveldb_options_set_max_open_files(l->options, OPEN_FILES);
	leveldb_options_set_compression(l->options, leveldb_no_compression); /* keys are hashes */
	l->read = leveldb_readoptions_create();
	leveldb_readoptions_set_verify_checksums(l->read, 1);
	l->scan = leveldb_readoptions_create();
	leveldb_readoptions_set_verify_checksums(l->scan, 1);
	leveldb_readoptions_set_fill_cache(l->scan, 0);
	l->write = leveldb_writeoptions_create();
	char *text = NULL;
	l->db = leveldb_open(l->options, dir, &text);
	if (text) {
		l->db = NULL;
		close_ldb(&l->kv);
		return classify(text, "open");
	}
	*out = &l->kv;
	return STELE_OK;
}

static enum stele_err destroy_ldb_dir(void *world, const char *dir)
{
	(void)world;
	pthread_once(&set_up, read_tables);
	leveldb_options_t *options = leveldb_options_create();
	char *text = NULL;
	leveldb_destroy_db(options, dir, &text);
	leveldb_options_destroy(options);
	return text ? classify(text, "destroy") : STELE_OK;
}

static enum stele_err get_ldb(struct stele_kv *kv, const void *key, size_t key_len, void *value,
                              size_t cap, size_t *value_len)
{
	struct ldb *l = (struct ldb *)kv;
	char *text = NULL;
	size_t len = 0;
	char *found = leveldb_get(l->db, l->read, key, key_len, &len, &text);
	if (text) {
		leveldb_free(found);
		return classify(text, "get");
	}
	if (!found)
		return stele_fail(STELE_ERR_NOT_FOUND, "index: no such key");
	enum stele_err err = STELE_OK;
	if (len > cap)
		err = stele_fail(STELE_ERR_TOO_LARGE, "index: a value of %zu bytes", len);
	else
		memcpy(value, found, len);
	if (value_len)
		*value_len = len;
	leveldb_free(found);
	return err;
}

static enum stele_err write_ldb(struct stele_kv *kv, const struct stele_kv_write *w, size_t n)
{
	struct ldb *l = (struct ldb *)kv;
	leveldb_writebatch_t *batch = leveldb_writebatch_create();
	for (size_t i = 0; i < n; i++) {
		if (w[i].value)
			leveldb_writebatch_put(batch, w[i].key, w[i].key_len, w[i].value,
			                       w[i].value_len);
		else
			leveldb_writebatch_delete(batch, w[i].key, w[i].key_len);
	}
	char *text = NULL;
	leveldb_write(l->db, l->write, batch, &text);
	leveldb_writebatch_destroy(batch);
	return text ? classify(text, "write") : STELE_OK;
}

static enum stele_err flush_ldb(struct stele_kv *kv)
{
	struct ldb *l = (struct ldb *)kv;
	/* A range that holds no key: nothing is compacted but the memtable. */
	leveldb_compact_range(l->db, "", 0, "\0", 1);
	return write_ldb(kv, NULL, 0);
}

/* Iterators */

static void iter_seek(struct stele_kv_iter *it, const void *key, size_t key_len)
{
	leveldb_iter_seek(((struct ldb_iter *)it)->li, key, key_len);
}

static bool iter_valid(struct stele_kv_iter *it)
{
	return leveldb_iter_valid(((struct ldb_iter *)it)->li);
}

static void iter_next(struct stele_kv_iter *it)
{
	leveldb_iter_next(((struct ldb_iter *)it)->li);
}

static const void *iter_key(struct stele_kv_iter *it, size_t *len)
{
	return leveldb_iter_key(((struct ldb_iter *)it)->li, len);
}

static const void *iter_value(struct stele_kv_iter *it, size_t *len)
{
	return leveldb_iter_value(((struct ldb_iter *)it)->li, len);
}

static enum stele_err iter_status(struct stele_kv_iter *it)
{
	char *text = NULL;
	leveldb_iter_get_error(((struct ldb_iter *)it)->li, &text);
	return text ? classify(text, "scan") : STELE_OK;
}

static void iter_destroy(struct stele_kv_iter *it)
{
	leveldb_iter_destroy(((struct ldb_iter *)it)->li);
	free(it);
}

static enum stele_err iter_create_ldb(struct stele_kv *kv, struct stele_kv_iter **out)
{
	struct ldb *l = (struct ldb *)kv;
	struct ldb_iter *it = calloc(1, sizeof(*it));
	if (!it)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	it->it = (struct stele_kv_iter){.seek = iter_seek,
	                                .valid = iter_valid,
	                                .next = iter_next,
	                                .key = iter_key,
	                                .value = iter_value,
	                                .status = iter_status,
	                                .destroy = iter_destroy};
	it->li = leveldb_create_iterator(l->db, l->scan);
	*out = &it->it;
	return STELE_OK;
}

const struct stele_kv_ops stele_kv_leveldb = {
    .name = "leveldb",
    .open = open_ldb,
    .close = close_ldb,
    .destroy_dir = destroy_ldb_dir,
    .get = get_ldb,
    .write = write_ldb,
    .flush = flush_ldb,
    .iter_create = iter_create_ldb,
};
