/* The seeded generator of simulation and tests. Keeps no state of its own. */
#include "storage/base/prng.h"

#include <assert.h>

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = *x += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void stele_prng_init(struct stele_prng *prng, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		prng->s[i] = splitmix64(&seed);
}

static uint64_t rotate(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

uint64_t stele_prng_u64(struct stele_prng *prng)
{
	uint64_t *s = prng->s;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

uint64_t stele_prng_below(struct stele_prng *prng, uint64_t bound)
{
	assert(bound > 0);
	/* Draws from the incomplete last round of bounds are thrown away, so none is favoured. */
	uint64_t limit = -bound % bound;
	uint64_t v;
	do {
		v = stele_prng_u64(prng);
	} while (v < limit);
	return v % bound;
}

bool stele_prng_chance(struct stele_prng *prng, uint32_t rate)
{
	return rate > 0 && stele_prng_below(prng, 1000000) < rate;
}

void stele_prng_fill(struct stele_prng *prng, void *out, size_t len)
{
	uint8_t *p = out;
	uint8_t word[8];
	while (len > 0) {
		size_t n = len < sizeof(word) ? len : sizeof(word);
		stele_put_le64(word, stele_prng_u64(prng));
		memcpy(p, word, n);
		p += n;
		len -= n;
	}
}
