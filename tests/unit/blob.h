/* Bytes that grow: what tests and fuzz targets put files together in. Without memory they stop. */
#ifndef TESTS_UNIT_BLOB_H
#define TESTS_UNIT_BLOB_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct blob {
	uint8_t *p;
	size_t len, cap;
};

static inline void blob_add(struct blob *b, const void *p, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len);
		b->p = realloc(b->p, b->cap);
		assert(b->p);
	}
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
}

static inline struct blob blob_copy(const void *p, size_t len)
{
	struct blob b = {0};
	blob_add(&b, p, len);
	return b;
}

static inline void blob_free(struct blob *b)
{
	free(b->p);
	*b = (struct blob){0};
}

#endif
