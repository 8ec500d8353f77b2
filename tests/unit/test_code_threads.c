/*
 * Goal: threads that find codes, ask for margins and make plans at once, through caches far smaller than
 * the patterns, get the right answers; under TSan, without a race.
 */
#include <criterion/criterion.h>
#include <pthread.h>

#include "erasure/code.h"
#include "erasure/gf256.h"
#include "tests/unit/guard.h"

/* Every wanted row is the planned sum of rows that are read. */
static bool plan_holds(const struct stele_code *code, const struct stele_plan *plan)
{
	unsigned k = stele_code_k(code);
	for (uint32_t w = 0; w < plan->nwant; w++)
		for (unsigned j = 0; j < k; j++) {
			uint8_t sum = stele_code_row(code, plan->want[w])[j];
			for (uint32_t r = 0; r < plan->nread; r++)
				sum ^= stele_gf_mul(plan->coef[w * plan->nread + r],
				                    stele_code_row(code, plan->read[r])[j]);
			if (sum)
				return false;
		}
	return true;
}

/* Returns how many answers were wrong. */
static void *plan_randomly(void *arg)
{
	static const char *const names[] = {"rs-9-3", "lrc-12-2-3", "lrc-20-4-2"};
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	uintptr_t wrong = 0;
	for (int round = 0; round < 1500; round++) {
		const struct stele_code *code;
		struct stele_plan plan;
		wrong += stele_code_find_name(names[round % 3], &code) != STELE_OK;
		uint64_t all = ((uint64_t)1 << stele_code_n(code)) - 1;
		uint64_t lost = all & guard_random(&seed) & guard_random(&seed) &
		                guard_random(&seed) & guard_random(&seed);
		bool ok = stele_code_decodable(code, all & ~lost);
		wrong += (stele_code_margin(code, all & ~lost) >= 0) != ok;
		enum stele_err err = stele_code_plan(code, all & ~lost, lost, &plan);
		if (ok)
			wrong += err != STELE_OK || !plan_holds(code, &plan);
	}
	return (void *)wrong;
}

Test(code_threads, codes_and_caches_are_shared)
{
	pthread_t thread[4];
	for (uintptr_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, plan_randomly, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++) {
		void *wrong = NULL;
		pthread_join(thread[i], &wrong);
		cr_assert_eq((uintptr_t)wrong, 0u);
	}
}
