/*
 * Goal: both implementations of the index behave alike (one conformance suite, checked against a
 * sorted array), survive what they promise to survive, and fail in the ways that callers act on.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/kv/kv.h"

struct side { /* one implementation under test */
	const struct stele_kv_ops *ops;
	struct stele_kv_world *world;
	char dir[64];
};

static void side_open(struct side *s, bool leveldb)
{
	memset(s, 0, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), "/tmp/stele-kv-XXXXXX");
	cr_assert(mkdtemp(s->dir));
	s->ops = leveldb ? &stele_kv_leveldb : &stele_kv_memory;
	if (!leveldb)
		cr_assert_eq(stele_kv_world_create(&s->world), STELE_OK);
}

static void side_close(struct side *s)
{
	cr_assert_eq(stele_kv_destroy_dir(s->ops, s->world, s->dir), STELE_OK);
	stele_kv_world_destroy(s->world);
	rmdir(s->dir);
}

static struct stele_kv *kv_open(struct side *s)
{
	struct stele_kv *kv = NULL;
	cr_assert_eq(stele_kv_open(s->ops, s->world, s->dir, &kv), STELE_OK, "%s", stele_detail());
	return kv;
}

static void put(struct stele_kv *kv, const void *k, size_t kl, const void *v, size_t vl)
{
	struct stele_kv_write w = {k, kl, v, vl};
	cr_assert_eq(stele_kv_write(kv, &w, 1), STELE_OK);
}

/* The model: a sorted array. */

#define KEYS 400u

struct pair {
	uint8_t key[6];
	size_t key_len;
	uint8_t value[40];
	size_t value_len;
};
struct model {
	struct pair p[KEYS];
	size_t n;
};

static int pair_cmp(const struct pair *a, const void *key, size_t len)
{
	int c = memcmp(a->key, key, a->key_len < len ? a->key_len : len);
	return c ? c : (a->key_len > len) - (a->key_len < len);
}

static size_t model_at(const struct model *m, const void *key, size_t len)
{
	size_t i = 0;
	while (i < m->n && pair_cmp(&m->p[i], key, len) < 0)
		i++;
	return i;
}

static void model_write(struct model *m, const struct stele_kv_write *w)
{
	size_t i = model_at(m, w->key, w->key_len);
	bool there = i < m->n && pair_cmp(&m->p[i], w->key, w->key_len) == 0;
	if (!w->value) {
		if (there)
			memmove(&m->p[i], &m->p[i + 1], (--m->n - i) * sizeof(m->p[0]));
		return;
	}
	if (!there) {
		cr_assert_lt(m->n, KEYS);
		memmove(&m->p[i + 1], &m->p[i], (m->n++ - i) * sizeof(m->p[0]));
	}
	memcpy(m->p[i].key, w->key, w->key_len);
	m->p[i].key_len = w->key_len;
	memcpy(m->p[i].value, w->value, w->value_len);
	m->p[i].value_len = w->value_len;
}

static void same(struct stele_kv_iter *it, const struct model *m, const void *from, size_t from_len)
{
	size_t i = model_at(m, from, from_len);
	for (it->seek(it, from, from_len); it->valid(it); it->next(it), i++) {
		size_t kl, vl;
		const void *k = it->key(it, &kl), *v = it->value(it, &vl);
		cr_assert_lt(i, m->n);
		cr_assert(kl == m->p[i].key_len && memcmp(k, m->p[i].key, kl) == 0);
		cr_assert(vl == m->p[i].value_len && memcmp(v, m->p[i].value, vl) == 0);
	}
	cr_assert_eq(i, m->n);
	cr_assert_eq(it->status(it), STELE_OK);
}

static size_t random_key(uint8_t *out)
{
	size_t len = 1 + (size_t)rand() % 3;
	for (size_t i = 0; i < len; i++) /* few letters, both ends of the byte range */
		out[i] = (const uint8_t[]){0, 1, 'k', 0x7f, 0x80, 0xff}[rand() % 6];
	return len;
}

static void random_writes(struct stele_kv *kv, struct model *m)
{
	uint8_t key[8][6], value[8][40];
	struct stele_kv_write w[8];
	size_t n = 1 + (size_t)rand() % 8;
	for (size_t i = 0; i < n; i++) {
		w[i] = (struct stele_kv_write){key[i], random_key(key[i]), NULL, 0};
		if (rand() % 3 == 0)
			continue;
		w[i].value = value[i];
		w[i].value_len = (size_t)rand() % sizeof(value[i]);
		memset(value[i], rand(), sizeof(value[i]));
	}
	cr_assert_eq(stele_kv_write(kv, w, n), STELE_OK);
	for (size_t i = 0; i < n; i++)
		model_write(m, &w[i]);
}

static void conforms(bool leveldb)
{
	struct side s;
	side_open(&s, leveldb);
	struct stele_kv *kv = kv_open(&s);
	struct model m = {0}, then;
	srand(7);
	for (int round = 0; round < 600; round++) {
		random_writes(kv, &m);
		uint8_t key[6], got[40];
		size_t kl = random_key(key), vl = 0;
		size_t i = model_at(&m, key, kl);
		enum stele_err err = stele_kv_get(kv, key, kl, got, sizeof(got), &vl);
		if (i < m.n && pair_cmp(&m.p[i], key, kl) == 0) {
			cr_assert_eq(err, STELE_OK);
			cr_assert(vl == m.p[i].value_len && memcmp(got, m.p[i].value, vl) == 0);
		} else {
			cr_assert_eq(err, STELE_ERR_NOT_FOUND);
		}
		if (round % 40 ==
		    0) { /* an iterator keeps seeing what was there when it was made */
			struct stele_kv_iter *it;
			cr_assert_eq(stele_kv_iter_create(kv, &it), STELE_OK);
			then = m;
			random_writes(kv, &m);
			same(it, &then, "", 0);
			same(it, &then, key, kl);
			stele_kv_iter_destroy(it);
		}
		if (round % 150 == 75)
			cr_assert_eq(stele_kv_flush(kv), STELE_OK);
		if (round % 150 == 149) { /* closing loses nothing */
			stele_kv_close(kv);
			kv = kv_open(&s);
		}
	}
	stele_kv_close(kv);
	side_close(&s);
}

Test(kv, memory_conforms)
{
	conforms(false);
}

Test(kv, leveldb_conforms)
{
	conforms(true);
}

static void edges(bool leveldb)
{
	struct side s;
	side_open(&s, leveldb);
	struct stele_kv *kv = kv_open(&s);
	uint8_t big_key[STELE_KV_KEY_MAX], big[STELE_KV_VALUE_MAX], got[STELE_KV_VALUE_MAX];
	memset(big_key, 0xff, sizeof(big_key));
	memset(big, 0x5a, sizeof(big));
	put(kv, big_key, sizeof(big_key), big, sizeof(big));
	put(kv, "e", 1, "", 0);
	size_t len = 99;
	cr_assert_eq(stele_kv_get(kv, "e", 1, got, sizeof(got), &len), STELE_OK);
	cr_assert_eq(len, 0);
	cr_assert_eq(stele_kv_get(kv, big_key, sizeof(big_key), got, 10, &len),
	             STELE_ERR_TOO_LARGE);
	cr_assert_eq(stele_kv_get(kv, big_key, sizeof(big_key), got, sizeof(got), &len), STELE_OK);
	cr_assert(len == sizeof(big) && memcmp(got, big, len) == 0);
	struct stele_kv_write w[] = {
	    {"a", 1, "1", 1}, {"a", 1, NULL, 0}, {"b", 1, NULL, 0}, {"b", 1, "2", 1}};
	cr_assert_eq(stele_kv_write(kv, w, 4), STELE_OK); /* within a batch the later one counts */
	cr_assert_eq(stele_kv_get(kv, "a", 1, got, 1, &len), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_kv_get(kv, "b", 1, got, 1, &len), STELE_OK);
	cr_assert_eq(stele_kv_write(kv, NULL, 0), STELE_OK);
	stele_kv_close(kv);
	cr_assert_eq(stele_kv_destroy_dir(s.ops, s.world, s.dir), STELE_OK);
	kv = kv_open(&s); /* destroyed: empty again */
	cr_assert_eq(stele_kv_get(kv, "b", 1, got, 1, &len), STELE_ERR_NOT_FOUND);
	stele_kv_close(kv);
	stele_kv_close(NULL);
	stele_kv_iter_destroy(NULL);
	side_close(&s);
}

Test(kv, memory_edges)
{
	edges(false);
}

Test(kv, leveldb_edges)
{
	edges(true);
}

Test(kv, memory_crash_goes_back_to_a_written_state_not_before_the_flush)
{
	struct side s;
	side_open(&s, false);
	bool seen[8] = {false};
	for (uint64_t seed = 0; seed < 64; seed++) {
		cr_assert_eq(stele_kv_destroy_dir(s.ops, s.world, s.dir), STELE_OK);
		struct stele_kv *kv = kv_open(&s);
		uint8_t v = 0, got = 0;
		size_t len;
		for (; v < 3; v++)
			put(kv, "k", 1, &v, 1);
		cr_assert_eq(stele_kv_flush(kv), STELE_OK);
		for (; v < 6; v++)
			put(kv, "k", 1, &v, 1);
		stele_kv_world_crash(s.world, "/tmp/stele-kv", seed, 0);
		cr_assert_eq(stele_kv_get(kv, "k", 1, &got, 1, &len), STELE_ERR_IO);
		cr_assert_eq(stele_kv_flush(kv), STELE_ERR_IO);
		stele_kv_close(kv);
		kv = kv_open(&s);
		cr_assert_eq(stele_kv_get(kv, "k", 1, &got, 1, &len), STELE_OK);
		cr_assert(got >= 2 && got <= 5, "%u", got);
		seen[got] = true;
		stele_kv_close(kv);
	}
	cr_assert(seen[2] && seen[3] && seen[4] && seen[5]);
	side_close(&s);
}

Test(kv, memory_opens_corrupt_when_asked_until_destroyed)
{
	struct side s;
	side_open(&s, false);
	stele_kv_close(kv_open(&s));
	stele_kv_world_crash(s.world, s.dir, 1, 1);
	struct stele_kv *kv = NULL;
	cr_assert_eq(stele_kv_open(s.ops, s.world, s.dir, &kv), STELE_ERR_CORRUPT);
	cr_assert_eq(stele_kv_destroy_dir(s.ops, s.world, s.dir), STELE_OK);
	stele_kv_close(kv_open(&s));
	side_close(&s);
}

/* Damages every table and log file of the directory in the middle. */
static void damage(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	while ((e = readdir(d))) {
		char path[400];
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		struct stat st;
		if (!strstr(e->d_name, ".ldb") || stat(path, &st) || st.st_size < 100)
			continue;
		FILE *f = fopen(path, "r+");
		fseek(f, st.st_size / 2, SEEK_SET);
		fwrite("damage!", 1, 7, f);
		fclose(f);
	}
	closedir(d);
}

Test(kv, leveldb_says_corrupt_for_a_damaged_table_and_can_be_destroyed)
{
	struct side s;
	side_open(&s, true);
	struct stele_kv *kv = kv_open(&s);
	for (uint32_t i = 0; i < 2000; i++)
		put(kv, &i, sizeof(i), "value", 5);
	cr_assert_eq(stele_kv_flush(kv), STELE_OK);
	stele_kv_close(kv);
	damage(s.dir);
	kv = NULL;
	enum stele_err err = stele_kv_open(s.ops, s.world, s.dir, &kv);
	for (uint32_t i = 0; err == STELE_OK && i < 2000; i++) {
		char got[8];
		size_t len;
		err = stele_kv_get(kv, &i, sizeof(i), got, sizeof(got), &len);
	}
	cr_assert_eq(err, STELE_ERR_CORRUPT, "%s", stele_detail());
	stele_kv_close(kv);
	side_close(&s);
}

/* What a disk can no longer read ends in an error, not in the end of the process: no table is mapped. */
Test(kv, leveldb_fails_where_a_table_vanishes_under_it)
{
	struct side s;
	side_open(&s, true);
	struct stele_kv *kv = kv_open(&s);
	for (uint32_t i = 0; i < 20000; i++)
		put(kv, &i, sizeof(i), "value", 5);
	cr_assert_eq(stele_kv_flush(kv), STELE_OK);
	stele_kv_close(kv);
	kv = kv_open(&s);
	char got[8];
	size_t len;
	uint32_t first = 0;
	cr_assert_eq(stele_kv_get(kv, &first, sizeof(first), got, sizeof(got), &len), STELE_OK);
	DIR *d = opendir(s.dir);
	for (struct dirent *e; (e = readdir(d));) {
		char path[400];
		snprintf(path, sizeof(path), "%s/%s", s.dir, e->d_name);
		if (strstr(e->d_name, ".ldb"))
			cr_assert_eq(truncate(path, 0), 0);
	}
	closedir(d);
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0; err == STELE_OK && i < 20000; i++)
		err = stele_kv_get(kv, &i, sizeof(i), got, sizeof(got), &len);
	cr_assert_eq(err, STELE_ERR_CORRUPT, "%s", stele_detail());
	stele_kv_close(kv);
	side_close(&s);
}

Test(kv, leveldb_refuses_a_missing_current_file_or_a_second_opener)
{
	struct side s;
	side_open(&s, true);
	struct stele_kv *kv = kv_open(&s), *second = NULL;
	cr_assert_eq(stele_kv_open(s.ops, s.world, s.dir, &second), STELE_ERR_IO);
	put(kv, "k", 1, "v", 1);
	stele_kv_close(kv);
	char path[100];
	snprintf(path, sizeof(path), "%s/CURRENT", s.dir);
	FILE *f = fopen(path, "w");
	fclose(f);
	enum stele_err err = stele_kv_open(s.ops, s.world, s.dir, &second);
	cr_assert(err == STELE_ERR_CORRUPT || err == STELE_ERR_IO);
	cr_assert_eq(stele_kv_destroy_dir(s.ops, s.world, s.dir), STELE_OK);
	stele_kv_close(kv_open(&s));
	side_close(&s);
}
