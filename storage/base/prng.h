/*
 * A small seeded generator for simulation and tests: xoshiro256** 1.0, seeded through splitmix64
 * (D. Blackman, S. Vigna, "Scrambled Linear Pseudorandom Number Generators", 2018). Fast and
 * repeatable, never for secrets: those come from stele_env_random.
 *
 * Plain memory: copy it to fork the sequence. The sequence of a seed is the same on every machine.
 */
#ifndef STELE_BASE_PRNG_H
#define STELE_BASE_PRNG_H

#include "storage/base/bytes.h"

struct stele_prng {
	uint64_t s[4];
};

void stele_prng_init(struct stele_prng *prng, uint64_t seed);
uint64_t stele_prng_u64(struct stele_prng *prng);
/* Uniform in 0 ... bound - 1; bound must not be 0. */
uint64_t stele_prng_below(struct stele_prng *prng, uint64_t bound);
/* True `rate` times in a million. */
bool stele_prng_chance(struct stele_prng *prng, uint32_t rate);
void stele_prng_fill(struct stele_prng *prng, void *out, size_t len);

#endif
