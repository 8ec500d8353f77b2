/* Sorted runs of items into an empty index: see index_fill.h. */
#include "storage/index_fill.h"

#include <assert.h>
#include <stdlib.h>

#define SLACK 16u  /* a pass is planned to fill all but 1/SLACK of a run */
#define BATCH 512u /* items handed on at a time */

struct place_in_order {
	uint64_t prefix; /* pool and the front of the id, as the index orders them */
	const struct stele_item_at *it;
};

struct stele_index_fill {
	struct stele_index *ix;
	uint32_t passes, pass;
	bool look; /* this pass had more than one run: look-ups are needed */
	uint32_t n, cap;
	struct stele_item_at *item;
	struct place_in_order *order;
	uint32_t batched;
	struct stele_item_at batch[BATCH];
};

enum stele_err stele_index_fill_create(struct stele_index *ix, uint64_t items, uint32_t run,
                                       struct stele_index_fill **out)
{
	struct stele_index_fill *f = calloc(1, sizeof(*f));
	if (!f)
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	f->ix = ix;
	assert(run >= 2);
	f->cap = items < run ? (uint32_t)items + 1 : run;
	f->passes = items < run ? 1 : (uint32_t)(items / (run - run / SLACK)) + 1;
	f->item = malloc(f->cap * sizeof(f->item[0]));
	f->order = malloc(f->cap * sizeof(f->order[0]));
	if (!f->item || !f->order) {
		stele_index_fill_destroy(f);
		return stele_fail(STELE_ERR_NOMEM, "index: out of memory");
	}
	*out = f;
	return STELE_OK;
}

void stele_index_fill_destroy(struct stele_index_fill *f)
{
	if (!f)
		return;
	free(f->item);
	free(f->order);
	free(f);
}

uint32_t stele_index_fill_passes(const struct stele_index_fill *f)
{
	return f->passes;
}

/* ---- a run ---- */

/* By index key; equal keys in the order in which they were added. */
static int by_key(const void *a, const void *b)
{
	const struct place_in_order *x = a, *y = b;
	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	uint8_t kx[STELE_INDEX_KEY_MAX], ky[STELE_INDEX_KEY_MAX];
	size_t nx = stele_index_key(STELE_INDEX_ENTRY, &x->it->key, kx);
	size_t ny = stele_index_key(STELE_INDEX_ENTRY, &y->it->key, ky);
	int c = memcmp(kx, ky, nx < ny ? nx : ny);
	if (c == 0 && nx != ny)
		c = nx < ny ? -1 : 1;
	return c ? c : (x->it > y->it) - (x->it < y->it);
}

static bool one_key(const struct place_in_order *x, const struct place_in_order *y)
{
	if (x->prefix != y->prefix)
		return false;
	uint8_t kx[STELE_INDEX_KEY_MAX], ky[STELE_INDEX_KEY_MAX];
	size_t nx = stele_index_key(STELE_INDEX_ENTRY, &x->it->key, kx);
	size_t ny = stele_index_key(STELE_INDEX_ENTRY, &y->it->key, ky);
	return nx == ny && memcmp(kx, ky, nx) == 0;
}

static enum stele_err write_batch(struct stele_index_fill *f)
{
	uint32_t n = f->batched;
	f->batched = 0;
	return stele_index_apply_new(f->ix, f->batch, n);
}

/* Items of one key. */
static enum stele_err apply_key(struct stele_index_fill *f, const struct place_in_order *p,
                                uint32_t n)
{
	if (n == 1 && !f->look && !p->it->tomb) {
		f->batch[f->batched++] = *p->it;
		return f->batched == BATCH ? write_batch(f) : STELE_OK;
	}
	for (uint32_t i = 0; i < n; i++)
		STELE_TRY(stele_index_apply(f->ix, p[i].it, 1));
	return STELE_OK;
}

static enum stele_err write_run(struct stele_index_fill *f)
{
	for (uint32_t i = 0; i < f->n; i++) {
		const struct stele_key *k = &f->item[i].key;
		f->order[i] = (struct place_in_order){
		    (uint64_t)k->pool << 48 | stele_be64(k->id.b) >> 16, &f->item[i]};
	}
	qsort(f->order, f->n, sizeof(f->order[0]), by_key);
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0, end; !err && i < f->n; i = end) {
		for (end = i + 1; end < f->n && one_key(&f->order[i], &f->order[end]);)
			end++;
		err = apply_key(f, &f->order[i], end - i);
	}
	f->n = 0;
	return err ? err : write_batch(f);
}

/* ---- passes ---- */

enum stele_err stele_index_fill_add(struct stele_index_fill *f, const struct stele_item_at *it)
{
	uint64_t high = stele_be32(it->key.id.b);
	if (high * f->passes >> 32 != f->pass)
		return STELE_OK;
	if (f->n == f->cap) {
		STELE_TRY(write_run(f));
		f->look = true;
	}
	f->item[f->n++] = *it;
	return STELE_OK;
}

enum stele_err stele_index_fill_end(struct stele_index_fill *f)
{
	assert(f->pass < f->passes);
	STELE_TRY(write_run(f));
	f->look = false;
	f->pass++;
	return STELE_OK;
}
