/*
 * Buffers that end (or begin) at a page nobody may touch, so that one byte read or written outside
 * them is a crash, and a small seeded generator: what tests of kernels share.
 */
#ifndef TESTS_UNIT_GUARD_H
#define TESTS_UNIT_GUARD_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GUARD_PAGE 4096u

struct guard {
	uint8_t *map;
	size_t map_len;
	uint8_t *begin; /* the usable pages */
	size_t len;
};

/* At least `len` usable bytes between two forbidden pages. */
static inline struct guard guard_create(size_t len)
{
	struct guard g;
	g.len = (len + GUARD_PAGE - 1) / GUARD_PAGE * GUARD_PAGE;
	g.map_len = g.len + 2 * GUARD_PAGE;
	g.map = mmap(NULL, g.map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(g.map != MAP_FAILED);
	g.begin = g.map + GUARD_PAGE;
	int failed = g.len ? mprotect(g.begin, g.len, PROT_READ | PROT_WRITE) : 0;
	assert(!failed);
	(void)failed;
	return g;
}

/* The last `len` bytes: the byte after them is forbidden. */
static inline uint8_t *guard_end(const struct guard *g, size_t len)
{
	assert(len <= g->len);
	return g->begin + g->len - len;
}

static inline void guard_destroy(struct guard *g)
{
	munmap(g->map, g->map_len);
}

/* xorshift64*: the seed is the test's, so that every run is the same. */
static inline uint64_t guard_random(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

static inline void guard_fill(uint64_t *state, void *p, size_t len)
{
	uint8_t *b = p;
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(guard_random(state) >> 33);
}

#endif
