/*
 * Codes and decoding plans for any masks: a plan is a true equation over the generator, exists whenever
 * the shards at hand determine the block, and stays within its bounds.
 *
 * Input: a code's name up to a NUL, then have8 and want8.
 */
#include <string.h>

#include "erasure/code.h"
#include "erasure/gf256.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"rep-3",      "rs-4-2",     "rs-10-4",    "rs-32-8",
                                    "lrc-12-2-2", "lrc-12-2-3", "lrc-20-4-2", "lrc-28-7-1"};
#define NAMES (sizeof(names) / sizeof(names[0]))

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	if (i >= 4 * NAMES)
		return 0;
	size_t len = strlen(names[i % NAMES]) + 1;
	uint64_t lost = i / NAMES ? 0x0111111111111111u << i / NAMES : 1;
	memcpy(out, names[i % NAMES], len);
	stele_put_le64(out + len, ~lost);
	stele_put_le64(out + len + 8, lost);
	return len + 16;
}

static void check_plan(const struct stele_code *code, uint64_t have, uint64_t want,
                       const struct stele_plan *plan)
{
	uint32_t k = stele_code_k(code);
	FUZZ_CHECK(plan->nread <= k && plan->nwant <= stele_code_n(code));
	FUZZ_CHECK(plan->nwant == (uint32_t)__builtin_popcountll(want));
	for (uint32_t r = 0; r < plan->nread; r++)
		FUZZ_CHECK(plan->read[r] < stele_code_n(code) && (have >> plan->read[r] & 1));
	for (uint32_t w = 0; w < plan->nwant; w++) {
		uint8_t sum[STELE_CODE_K_MAX];
		FUZZ_CHECK(want >> plan->want[w] & 1);
		memcpy(sum, stele_code_row(code, plan->want[w]), k);
		for (uint32_t r = 0; r < plan->nread; r++)
			for (uint32_t j = 0; j < k; j++)
				sum[j] ^= stele_gf_mul(plan->coef[w * plan->nread + r],
				                       stele_code_row(code, plan->read[r])[j]);
		FUZZ_CHECK(stele_all_zero(sum, k));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct stele_code *code;
	struct stele_plan plan;
	const uint8_t *end = memchr(data, 0, size < STELE_NAME_MAX ? size : STELE_NAME_MAX);
	if (!end || (size_t)(data + size - (end + 1)) < 16)
		return 0;
	if (stele_code_find_name((const char *)data, &code) != STELE_OK)
		return 0;
	uint64_t all = ((uint64_t)1 << stele_code_n(code)) - 1;
	uint64_t have = stele_le64(end + 1), want = stele_le64(end + 9);
	int margin = stele_code_margin(code, have);
	bool decodable = stele_code_decodable(code, have);
	FUZZ_CHECK((margin >= 0) == decodable);
	FUZZ_CHECK(margin <= (int)stele_code_n(code) - (int)stele_code_k(code));
	FUZZ_CHECK(stele_code_margin(code, have) == margin); /* from the cache */
	enum stele_err err = stele_code_plan(code, have, want, &plan);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_UNAVAILABLE);
	FUZZ_CHECK(err == STELE_OK || !decodable);
	if (err == STELE_OK)
		check_plan(code, have & all, want & all, &plan);
	return 0;
}
