/*
 * The index's door: checks arguments and hands on to an implementation. Keeps nothing, knows no
 * implementation by name.
 */
#include "storage/kv/kv.h"

#include <assert.h>

enum stele_err stele_kv_open(const struct stele_kv_ops *ops, void *world, const char *dir,
                             struct stele_kv **out)
{
	struct stele_kv *kv = NULL;
	STELE_TRY(ops->open(world, dir, &kv));
	assert(kv && kv->ops == ops);
	*out = kv;
	return STELE_OK;
}

void stele_kv_close(struct stele_kv *kv)
{
	if (kv)
		kv->ops->close(kv);
}

enum stele_err stele_kv_destroy_dir(const struct stele_kv_ops *ops, void *world, const char *dir)
{
	return ops->destroy_dir(world, dir);
}

enum stele_err stele_kv_get(struct stele_kv *kv, const void *key, size_t key_len, void *value,
                            size_t cap, size_t *value_len)
{
	assert(key_len > 0 && key_len <= STELE_KV_KEY_MAX);
	return kv->ops->get(kv, key, key_len, value, cap, value_len);
}

enum stele_err stele_kv_write(struct stele_kv *kv, const struct stele_kv_write *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert(w[i].key_len > 0 && w[i].key_len <= STELE_KV_KEY_MAX);
		assert(!w[i].value || w[i].value_len <= STELE_KV_VALUE_MAX);
	}
	return n ? kv->ops->write(kv, w, n) : STELE_OK;
}

enum stele_err stele_kv_flush(struct stele_kv *kv)
{
	return kv->ops->flush(kv);
}

enum stele_err stele_kv_iter_create(struct stele_kv *kv, struct stele_kv_iter **out)
{
	return kv->ops->iter_create(kv, out);
}

void stele_kv_iter_destroy(struct stele_kv_iter *it)
{
	if (it)
		it->destroy(it);
}
