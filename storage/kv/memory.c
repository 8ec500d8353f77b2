/*
 * The index in memory: a persistent treap, so that a snapshot is a reference to a root. Iterators
 * hold one, and so does the history since the last flush, from which a simulated crash picks the
 * state that is found again. Deterministic: a node's priority is a hash of its key.
 *
 * One lock per world guards every tree's reference counts; nodes themselves never change, so an
 * iterator walks its snapshot without it. Recursion goes as deep as the tree, which is logarithmic
 * for keys that nobody chooses with this hash in mind: this implementation serves tests and the
 * simulator, not a daemon.
 */
#include "storage/kv/kv.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define HISTORY_MAX 64u

struct node {
	struct node *left, *right;
	uint64_t prio;
	uint32_t refs;
	uint16_t key_len, value_len;
	uint8_t bytes[]; /* key, then value */
};

struct mem_dir { /* one directory's contents, which outlive its handles */
	struct mem_dir *next;
	char *name;
	struct node *root;
	struct node
	    *history[HISTORY_MAX]; /* [0] is what was flushed; later ones may survive a crash */
	uint32_t history_n;
	uint64_t life; /* handles of an earlier one are dead */
	bool corrupt;
};

struct stele_kv_world {
	pthread_mutex_t lock;
	struct mem_dir *dirs;
};

struct mem_kv {
	struct stele_kv kv;
	struct stele_kv_world *world;
	struct mem_dir *dir;
	uint64_t life;
};

struct mem_iter {
	struct stele_kv_iter it;
	struct stele_kv_world *world;
	struct node *root, *at;
};

static int cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return c ? c : (a_len > b_len) - (a_len < b_len);
}

static struct node *hold(struct node *n)
{
	if (n)
		n->refs++;
	return n;
}

static void drop(struct node *n)
{
	if (!n || --n->refs > 0)
		return;
	drop(n->left);
	drop(n->right);
	free(n);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t priority(const uint8_t *key, size_t len)
{
	uint64_t h = 0x9e3779b97f4a7c15u;
	for (size_t i = 0; i < len; i++)
		h = mix(h ^ key[i]);
	return h;
}

static struct node *make(const void *key, size_t key_len, const void *value, size_t value_len)
{
	struct node *n = malloc(sizeof(*n) + key_len + value_len);
	if (!n)
		return NULL;
	*n = (struct node){.prio = priority(key, key_len),
	                   .refs = 1,
	                   .key_len = (uint16_t)key_len,
	                   .value_len = (uint16_t)value_len};
	memcpy(n->bytes, key, key_len);
	if (value_len)
		memcpy(n->bytes + key_len, value, value_len);
	return n;
}

/* A copy of n with other children, whose references it takes over; NULL (and both dropped) when
 * there is no memory. */
static struct node *with(const struct node *n, struct node *left, struct node *right)
{
	struct node *c = make(n->bytes, n->key_len, n->bytes + n->key_len, n->value_len);
	if (!c) {
		drop(left);
		drop(right);
		return NULL;
	}
	c->left = left;
	c->right = right;
	return c;
}

/* Functions below build new trees and leave the old ones alone. They return a new reference and say
 * by *ok = false that memory ran out. */

/* Keys below `key` to *left, above to *right; one equal to it is left out. */
static void split(struct node *n, const void *key, size_t key_len, struct node **left,
                  struct node **right, bool *ok)
{
	if (!n) {
		*left = *right = NULL;
		return;
	}
	int c = cmp(n->bytes, n->key_len, key, key_len);
	if (c == 0) {
		*left = hold(n->left);
		*right = hold(n->right);
		return;
	}
	struct node *inner = NULL;
	if (c < 0) {
		split(n->right, key, key_len, &inner, right, ok);
		*left = with(n, hold(n->left), inner);
		*ok = *ok && *left;
	} else {
		split(n->left, key, key_len, left, &inner, ok);
		*right = with(n, inner, hold(n->right));
		*ok = *ok && *right;
	}
}

/* All keys of a below all of b; takes both references over. */
static struct node *merge(struct node *a, struct node *b, bool *ok)
{
	if (!a || !b)
		return a ? a : b;
	struct node *n;
	if (a->prio >= b->prio) {
		n = with(a, hold(a->left), merge(hold(a->right), hold(b), ok));
	} else {
		n = with(b, merge(hold(a), hold(b->left), ok), hold(b->right));
	}
	*ok = *ok && n;
	drop(a);
	drop(b);
	return n;
}

static struct node *change(struct node *root, const struct stele_kv_write *w, bool *ok)
{
	struct node *left, *right;
	split(root, w->key, w->key_len, &left, &right, ok);
	if (w->value) {
		struct node *n = make(w->key, w->key_len, w->value, w->value_len);
		*ok = *ok && n;
		left = merge(left, n, ok);
	}
	return merge(left, right, ok);
}

static struct node *find(struct node *n, const void *key, size_t key_len)
{
	while (n) {
		int c = cmp(key, key_len, n->bytes, n->key_len);
		if (c == 0)
			return n;
		n = c < 0 ? n->left : n->right;
	}
	return NULL;
}

/* The least key at (or, strictly, after) `key`. */
static struct node *find_from(struct node *n, const void *key, size_t key_len, bool strictly)
{
	struct node *best = NULL;
	while (n) {
		int c = cmp(n->bytes, n->key_len, key, key_len);
		if (c > 0 || (c == 0 && !strictly)) {
			best = n;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

/* Under the world's lock. */
static void forget_history(struct mem_dir *d)
{
	for (uint32_t i = 0; i < d->history_n; i++)
		drop(d->history[i]);
	d->history_n = 0;
}

/* Under the world's lock. What may be found after a crash: beyond the limit, every other state. */
static void remember(struct mem_dir *d)
{
	if (d->history_n == HISTORY_MAX) {
		uint32_t n = 1;
		for (uint32_t i = 1; i < HISTORY_MAX; i++) {
			if (i % 2)
				drop(d->history[i]);
			else
				d->history[n++] = d->history[i];
		}
		d->history_n = n;
	}
	d->history[d->history_n++] = hold(d->root);
}

static struct mem_dir *find_dir(struct stele_kv_world *world, const char *name)
{
	struct mem_dir *d = world->dirs;
	while (d && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

static struct mem_dir *make_dir(struct stele_kv_world *world, const char *name)
{
	struct mem_dir *d = calloc(1, sizeof(*d));
	char *copy = strdup(name);
	if (!d || !copy) {
		free(d);
		free(copy);
		return NULL;
	}
	d->name = copy;
	d->history_n = 1; /* an empty tree is durable from the start */
	d->next = world->dirs;
	world->dirs = d;
	return d;
}

static enum stele_err open_mem(void *world, const char *name, struct stele_kv **out)
{
	struct stele_kv_world *w = world;
	assert(w);
	struct mem_kv *m = calloc(1, sizeof(*m));
	if (!m)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	pthread_mutex_lock(&w->lock);
	struct mem_dir *d = find_dir(w, name);
	if (!d)
		d = make_dir(w, name);
	bool corrupt = d && d->corrupt;
	if (d)
		*m = (struct mem_kv){
		    .kv.ops = &stele_kv_memory, .world = w, .dir = d, .life = d->life};
	pthread_mutex_unlock(&w->lock);
	if (d && !corrupt) {
		*out = &m->kv;
		return STELE_OK;
	}
	free(m);
	if (corrupt)
		return stele_fail(STELE_ERR_CORRUPT, "index: %s: corrupt after a crash", name);
	return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
}

static void close_mem(struct stele_kv *kv)
{
	free(kv);
}

static enum stele_err destroy_mem_dir(void *world, const char *name)
{
	struct stele_kv_world *w = world;
	pthread_mutex_lock(&w->lock);
	struct mem_dir *d = find_dir(w, name);
	if (d) {
		forget_history(d);
		drop(d->root);
		d->root = NULL;
		d->history[d->history_n++] = NULL;
		d->life++;
		d->corrupt = false;
	}
	pthread_mutex_unlock(&w->lock);
	return STELE_OK;
}

/* Under the lock. */
static enum stele_err alive(const struct mem_kv *m)
{
	if (m->life != m->dir->life)
		return stele_fail(STELE_ERR_IO, "index: %s: crashed under this handle",
		                  m->dir->name);
	return STELE_OK;
}

static enum stele_err get_mem(struct stele_kv *kv, const void *key, size_t key_len, void *value,
                              size_t cap, size_t *value_len)
{
	struct mem_kv *m = (struct mem_kv *)kv;
	pthread_mutex_lock(&m->world->lock);
	enum stele_err err = alive(m);
	struct node *n = err ? NULL : find(m->dir->root, key, key_len);
	if (n) {
		if (value_len)
			*value_len = n->value_len;
		if (n->value_len > cap)
			err = stele_fail(STELE_ERR_TOO_LARGE, "index: a value of %u bytes",
			                 n->value_len);
		else
			memcpy(value, n->bytes + n->key_len, n->value_len);
	} else if (!err) {
		err = stele_fail(STELE_ERR_NOT_FOUND, "index: no such key");
	}
	pthread_mutex_unlock(&m->world->lock);
	return err;
}

static enum stele_err write_mem(struct stele_kv *kv, const struct stele_kv_write *w, size_t n)
{
	struct mem_kv *m = (struct mem_kv *)kv;
	pthread_mutex_lock(&m->world->lock);
	enum stele_err err = alive(m);
	bool ok = true;
	struct node *root = err ? NULL : hold(m->dir->root);
	for (size_t i = 0; !err && ok && i < n; i++) {
		struct node *next = change(root, &w[i], &ok);
		drop(root);
		root = next;
	}
	if (!err && ok) {
		drop(m->dir->root);
		m->dir->root = root;
		remember(m->dir);
	} else {
		drop(root);
	}
	pthread_mutex_unlock(&m->world->lock);
	return ok ? err : stele_fail(STELE_ERR_NOMEM, "index: out of memory");
}

static enum stele_err flush_mem(struct stele_kv *kv)
{
	struct mem_kv *m = (struct mem_kv *)kv;
	pthread_mutex_lock(&m->world->lock);
	enum stele_err err = alive(m);
	if (!err) {
		forget_history(m->dir);
		m->dir->history[m->dir->history_n++] = hold(m->dir->root);
	}
	pthread_mutex_unlock(&m->world->lock);
	return err;
}

/* Iterators */

static void iter_seek(struct stele_kv_iter *it, const void *key, size_t key_len)
{
	struct mem_iter *i = (struct mem_iter *)it;
	i->at = find_from(i->root, key, key_len, false);
}

static bool iter_valid(struct stele_kv_iter *it)
{
	return ((struct mem_iter *)it)->at != NULL;
}

static void iter_next(struct stele_kv_iter *it)
{
	struct mem_iter *i = (struct mem_iter *)it;
	i->at = find_from(i->root, i->at->bytes, i->at->key_len, true);
}

static const void *iter_key(struct stele_kv_iter *it, size_t *len)
{
	struct node *n = ((struct mem_iter *)it)->at;
	*len = n->key_len;
	return n->bytes;
}

static const void *iter_value(struct stele_kv_iter *it, size_t *len)
{
	struct node *n = ((struct mem_iter *)it)->at;
	*len = n->value_len;
	return n->bytes + n->key_len;
}

static enum stele_err iter_status(struct stele_kv_iter *it)
{
	(void)it;
	return STELE_OK;
}

static void iter_destroy(struct stele_kv_iter *it)
{
	struct mem_iter *i = (struct mem_iter *)it;
	pthread_mutex_lock(&i->world->lock);
	drop(i->root);
	pthread_mutex_unlock(&i->world->lock);
	free(i);
}

static enum stele_err iter_create_mem(struct stele_kv *kv, struct stele_kv_iter **out)
{
	struct mem_kv *m = (struct mem_kv *)kv;
	struct mem_iter *i = calloc(1, sizeof(*i));
	if (!i)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	i->it = (struct stele_kv_iter){.seek = iter_seek,
	                               .valid = iter_valid,
	                               .next = iter_next,
	                               .key = iter_key,
	                               .value = iter_value,
	                               .status = iter_status,
	                               .destroy = iter_destroy};
	i->world = m->world;
	pthread_mutex_lock(&m->world->lock);
	enum stele_err err = alive(m);
	if (!err)
		i->root = hold(m->dir->root);
	pthread_mutex_unlock(&m->world->lock);
	if (err)
		free(i);
	else
		*out = &i->it;
	return err;
}

const struct stele_kv_ops stele_kv_memory = {
    .name = "memory",
    .open = open_mem,
    .close = close_mem,
    .destroy_dir = destroy_mem_dir,
    .get = get_mem,
    .write = write_mem,
    .flush = flush_mem,
    .iter_create = iter_create_mem,
};

/* The world */

enum stele_err stele_kv_world_create(struct stele_kv_world **out)
{
	struct stele_kv_world *w = calloc(1, sizeof(*w));
	if (!w)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	pthread_mutex_init(&w->lock, NULL);
	*out = w;
	return STELE_OK;
}

void stele_kv_world_destroy(struct stele_kv_world *world)
{
	if (!world)
		return;
	while (world->dirs) {
		struct mem_dir *d = world->dirs;
		world->dirs = d->next;
		forget_history(d);
		drop(d->root);
		free(d->name);
		free(d);
	}
	pthread_mutex_destroy(&world->lock);
	free(world);
}

void stele_kv_world_crash(struct stele_kv_world *world, const char *dir_prefix, uint64_t seed,
                          uint32_t corrupt)
{
	pthread_mutex_lock(&world->lock);
	for (struct mem_dir *d = world->dirs; d; d = d->next) {
		if (strncmp(d->name, dir_prefix, strlen(dir_prefix)) != 0)
			continue;
		seed = mix(seed + 0x9e3779b97f4a7c15u);
		struct node *found = hold(d->history[seed % d->history_n]);
		drop(d->root);
		d->root = found;
		forget_history(d);
		d->history[d->history_n++] = hold(found);
		d->life++;
		d->corrupt = corrupt && mix(seed) % corrupt == 0;
	}
	pthread_mutex_unlock(&world->lock);
}
