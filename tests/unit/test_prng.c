/* Goal: the generator is the published one, so that a seed means the same run everywhere; bounded
 * draws stay in bounds and favour nothing. */
#include <criterion/criterion.h>

#include "storage/base/prng.h"

Test(prng, published_sequence)
{
	/* first outputs of xoshiro256** from the state 1, 2, 3, 4 */
	static const uint64_t expected[] = {
	    11520, 0, 1509978240, 1215971899390074240u, 1216172134540287360u,
	};
	struct stele_prng prng = {.s = {1, 2, 3, 4}};
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		cr_assert_eq(stele_prng_u64(&prng), expected[i]);
	/* the seeding: splitmix64 of 1234567 */
	stele_prng_init(&prng, 1234567);
	cr_assert_eq(prng.s[0], 6457827717110365317u);
	cr_assert_eq(prng.s[1], 3203168211198807973u);
	cr_assert_eq(prng.s[2], 9817491932198370423u);
	cr_assert_eq(prng.s[3], 4593380528125082431u);
}

Test(prng, bounds)
{
	struct stele_prng prng;
	stele_prng_init(&prng, 1);
	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(stele_prng_below(&prng, 1), 0u);
		cr_assert_lt(stele_prng_below(&prng, UINT64_MAX), UINT64_MAX);
		cr_assert_lt(stele_prng_below(&prng, (1ull << 63) + 1), (1ull << 63) + 1);
		cr_assert(!stele_prng_chance(&prng, 0));
		cr_assert(stele_prng_chance(&prng, 1000000));
	}
	int count[7] = {0}, lucky = 0;
	for (int i = 0; i < 70000; i++) {
		count[stele_prng_below(&prng, 7)]++;
		lucky += stele_prng_chance(&prng, 100000);
	}
	for (int i = 0; i < 7; i++) {
		cr_assert_gt(count[i], 9500);
		cr_assert_lt(count[i], 10500);
	}
	cr_assert_gt(lucky, 6600);
	cr_assert_lt(lucky, 7400);
}

Test(prng, fill)
{
	struct stele_prng a, b;
	stele_prng_init(&a, 9);
	b = a;
	uint8_t bytes[21], again[21];
	memset(bytes, 0, sizeof(bytes));
	stele_prng_fill(&a, bytes, 20);
	cr_assert_eq(bytes[20], 0);
	stele_prng_fill(&b, again, 20);
	cr_assert_arr_eq(bytes, again, 20);
	uint64_t first;
	stele_prng_init(&b, 9);
	first = stele_prng_u64(&b);
	cr_assert_eq(stele_le64(bytes), first);
}
