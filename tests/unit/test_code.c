/*
 * Goal: a code decodes exactly what its rank allows. For every pattern of lost shards of every
 * shipped code of up to 17 shards, and of larger codes up to one loss beyond their tolerance,
 * decodable, margin and plan agree with elimination over the generator itself and, for LRCs, with
 * what information theory allows; plans are checked as equations over the generator and read no
 * more than needed.
 */
#include <criterion/criterion.h>

#include "erasure/code.h"
#include "erasure/gf256.h"
#include "tests/unit/guard.h"

static const struct stele_code *find(const char *name)
{
	const struct stele_code *code = NULL;
	cr_assert_eq(stele_code_find_name(name, &code), STELE_OK, "%s", stele_detail());
	return code;
}

static uint64_t all_of(const struct stele_code *code)
{
	return ((uint64_t)1 << stele_code_n(code)) - 1;
}

/* The model: rank of the generator's rows in `have`, by plain elimination in k dimensions. */
static unsigned model_rank(const struct stele_code *code, uint64_t have)
{
	uint8_t m[STELE_CODE_N_MAX][STELE_CODE_K_MAX];
	unsigned k = stele_code_k(code), rows = 0, rank = 0;
	for (uint32_t i = 0; i < stele_code_n(code); i++)
		if (have >> i & 1)
			memcpy(m[rows++], stele_code_row(code, i), k);
	for (unsigned c = 0; c < k; c++) {
		unsigned p = rank;
		while (p < rows && !m[p][c])
			p++;
		if (p == rows)
			continue;
		uint8_t t[STELE_CODE_K_MAX];
		memcpy(t, m[p], k);
		memcpy(m[p], m[rank], k);
		uint8_t inv = stele_gf_inv(t[c]);
		for (unsigned j = 0; j < k; j++)
			m[rank][j] = stele_gf_mul(inv, t[j]);
		for (unsigned i = rank + 1; i < rows; i++) {
			uint8_t f = m[i][c];
			for (unsigned j = c; f && j < k; j++)
				m[i][j] ^= stele_gf_mul(f, m[rank][j]);
		}
		rank++;
	}
	return rank;
}

/* What information theory allows with these groups: each group's parity makes good one loss in it,
 * each global one more anywhere. */
static bool lrc_possible(const struct stele_code *code, uint64_t lost)
{
	const struct stele_code_id *id = stele_code_id(code);
	unsigned size = id->k / id->l, need = 0;
	for (unsigned g = 0; g < id->l; g++) {
		uint64_t group = (((uint64_t)1 << size) - 1) << (g * size) | (uint64_t)1
		                                                                 << (id->k + g);
		unsigned hit = (unsigned)__builtin_popcountll(lost & group);
		need += hit > 1 ? hit - 1 : 0;
	}
	need += (unsigned)__builtin_popcountll(lost >> (id->k + id->l));
	return need <= (unsigned)id->m - id->l;
}

/* The plan as equations: each wanted row is the planned sum of rows that are read. */
static void check_plan(const struct stele_code *code, uint64_t have, uint64_t want,
                       const struct stele_plan *plan)
{
	unsigned k = stele_code_k(code);
	uint64_t wanted = 0;
	cr_assert_leq(plan->nread, k);
	for (uint32_t r = 0; r < plan->nread; r++) {
		cr_assert(have >> plan->read[r] & 1);
		if (r)
			cr_assert_gt(plan->read[r], plan->read[r - 1]);
	}
	for (uint32_t w = 0; w < plan->nwant; w++) {
		uint8_t sum[STELE_CODE_K_MAX] = {0};
		wanted |= (uint64_t)1 << plan->want[w];
		for (uint32_t r = 0; r < plan->nread; r++) {
			uint8_t f = plan->coef[w * plan->nread + r];
			const uint8_t *row = stele_code_row(code, plan->read[r]);
			for (unsigned j = 0; f && j < k; j++)
				sum[j] ^= stele_gf_mul(f, row[j]);
		}
		cr_assert(memcmp(sum, stele_code_row(code, plan->want[w]), k) == 0);
	}
	cr_assert_eq(wanted, want);
}

/* All that can be said of one pattern, except the margin. Returns whether it decodes. */
static bool check_pattern(const struct stele_code *code, uint64_t lost)
{
	struct stele_plan plan;
	uint64_t have = all_of(code) & ~lost;
	bool want = model_rank(code, have) == stele_code_k(code);
	cr_assert_eq(stele_code_decodable(code, have), want);
	if (stele_code_id(code)->family == STELE_CODE_LRC)
		cr_assert_eq(want, lrc_possible(code, lost), "lost %llx", (unsigned long long)lost);
	else
		cr_assert_eq(want, __builtin_popcountll(have) >= (int)stele_code_k(code));
	if (want) {
		cr_assert_eq(stele_code_plan(code, have, lost, &plan), STELE_OK);
		check_plan(code, have, lost, &plan);
	} else if (lost) {
		uint64_t data = ((uint64_t)1 << stele_code_k(code)) - 1;
		cr_assert_eq(stele_code_plan(code, have, data, &plan), STELE_ERR_UNAVAILABLE);
	}
	return want;
}

/* Every pattern of a code: decodable, plan; and the margin from the table of all the others. */
static void check_all_patterns(const char *name)
{
	const struct stele_code *code = find(name);
	unsigned n = stele_code_n(code);
	uint64_t patterns = (uint64_t)1 << n;
	int8_t *margin = malloc(patterns);
	cr_assert_not_null(margin);
	cr_assert_leq(n, 17u);
	/* In ascending order every subset of `have` comes before it. */
	for (uint64_t have = 0; have < patterns; have++) {
		if (!check_pattern(code, (patterns - 1) & ~have)) {
			margin[have] = -1;
		} else {
			int worst = INT8_MAX;
			for (uint64_t left = have; left; left &= left - 1) {
				int m = margin[have & ~(left & -left)];
				worst = m < worst ? m : worst;
			}
			margin[have] = (int8_t)(worst + 1);
		}
		cr_assert_eq(stele_code_margin(code, have), margin[have], "%s have %llx", name,
		             (unsigned long long)have);
	}
	cr_assert_eq(stele_code_t(code), (uint32_t)margin[patterns - 1]);
	free(margin);
}

Test(code, every_pattern_of_small_codes)
{
	static const char *const names[] = {
	    "rep-1",     "rep-2",     "rep-3",     "rep-9",      "rs-1-1",    "rs-2-1",
	    "rs-4-2",    "rs-6-3",    "rs-8-3",    "rs-10-4",    "rs-8-8",    "rs-12-4",
	    "lrc-4-2-1", "lrc-6-2-2", "lrc-8-4-2", "lrc-10-1-4", "lrc-12-3-1"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check_all_patterns(names[i]);
}

Test(code, every_pattern_of_lrc_12_2_2)
{
	check_all_patterns("lrc-12-2-2");
	cr_assert_eq(stele_code_t(find("lrc-12-2-2")), 3u);
}

Test(code, every_pattern_of_lrc_12_2_3)
{
	check_all_patterns("lrc-12-2-3");
	cr_assert_eq(stele_code_t(find("lrc-12-2-3")), 4u);
}

/* Every pattern of up to `most` losses. */
static void check_losses(const char *name, unsigned most)
{
	const struct stele_code *code = find(name);
	uint64_t limit = (uint64_t)1 << stele_code_n(code);
	check_pattern(code, 0);
	for (unsigned e = 1; e <= most; e++) {
		uint64_t lost = ((uint64_t)1 << e) - 1;
		while (lost < limit) {
			check_pattern(code, lost);
			uint64_t low = lost & -lost, ripple = lost + low;
			lost = ripple | ((lost ^ ripple) >> 2) / low;
		}
	}
}

Test(code, larger_codes_to_one_loss_beyond_their_tolerance)
{
	check_losses("rs-16-2", 3);
	check_losses("rs-16-4", 5);
	check_losses("rs-20-4", 5);
	check_losses("rs-32-2", 3);
	check_losses("lrc-16-2-2", 4);
	check_losses("lrc-30-2-2", 4);
	check_losses("lrc-24-6-2", 4);
	check_losses("lrc-28-7-1", 3);
	const char *full = getenv("STELE_TEST_FULL");
	if (full && full[0] == '1') { /* a few minutes */
		check_losses("rs-20-5", 6);
		check_losses("rs-32-4", 5);
		check_losses("lrc-30-6-2", 4);
	}
}

Test(code, lrc_20_4_2_to_all_that_it_can_ever_survive)
{
	cr_assert_eq(stele_code_t(find("lrc-20-4-2")), 3u);
	check_losses("lrc-20-4-2", 5);
}

/* Margins of a larger code: every pattern of up to three losses against the rank of all those with
 * more. */
static int model_margin(const struct stele_code *code, uint64_t have)
{
	if (model_rank(code, have) < stele_code_k(code))
		return -1;
	int worst = INT8_MAX;
	for (uint64_t left = have; left && worst > -1; left &= left - 1) {
		int m = model_margin(code, have & ~(left & -left));
		worst = m < worst ? m : worst;
	}
	return worst + 1;
}

Test(code, margins_of_lrc_20_4_2)
{
	const struct stele_code *code = find("lrc-20-4-2");
	uint64_t seed = 3;
	for (int round = 0; round < 12; round++) {
		uint64_t lost = 0;
		while (__builtin_popcountll(lost) < 3 + round % 3)
			lost |= (uint64_t)1 << guard_random(&seed) % 26;
		uint64_t have = all_of(code) & ~lost;
		int want = model_margin(code, have);
		cr_assert_eq(stele_code_margin(code, have), want, "lost %llx",
		             (unsigned long long)lost);
		cr_assert_eq(stele_code_margin(code, have), want); /* and again, from the cache */
	}
}

/* All of rs-k-m: the matrix is Cauchy (1 / (x + y), all x and y different), hence MDS; and random
 * patterns of the largest agree with elimination. */
Test(code, every_rs_code_is_cauchy)
{
	for (unsigned k = 1; k <= STELE_CODE_K_MAX; k++)
		for (unsigned m = 1; m <= STELE_CODE_M_MAX; m++) {
			struct stele_code_id id = {STELE_CODE_RS, (uint8_t)k, (uint8_t)m, 0};
			const struct stele_code *code;
			cr_assert_eq(stele_code_find(&id, &code), STELE_OK);
			cr_assert_eq(stele_code_t(code), m);
			cr_assert_eq(stele_code_margin(code, all_of(code)), (int)m);
			for (unsigned i = 0; i < k + m; i++)
				for (unsigned j = 0; j < k; j++) {
					uint8_t c = stele_code_row(code, i)[j];
					if (i < k)
						cr_assert_eq(c, i == j);
					else
						cr_assert_eq(stele_gf_mul(c, (uint8_t)(i ^ j)), 1);
				}
		}
}

Test(code, random_patterns_of_the_largest_codes)
{
	static const char *const names[] = {"rs-32-8",    "rs-32-7",    "rs-31-8",
	                                    "lrc-32-1-7", "lrc-28-7-1", "lrc-30-6-2"};
	uint64_t seed = 4;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct stele_code *code = find(names[i]);
		for (int round = 0; round < 1500; round++) {
			uint64_t lost = 0;
			unsigned e = (unsigned)(guard_random(&seed) % 10);
			for (unsigned j = 0; j < e; j++)
				lost |= (uint64_t)1 << guard_random(&seed) % stele_code_n(code);
			check_pattern(code, lost);
		}
	}
}

/* The rows of `set` span all rows of `want`. */
static bool spans(const struct stele_code *code, uint64_t set, uint64_t want)
{
	return model_rank(code, set) == model_rank(code, set | want);
}

/* No subset of `have` with one shard less than the plan reads determines `want`. Sets of one size
 * are enough, since a smaller one is part of one of these. */
static void check_cheapest(const struct stele_code *code, uint64_t want)
{
	struct stele_plan plan;
	uint64_t have = all_of(code) & ~want, limit = (uint64_t)1 << stele_code_n(code);
	cr_assert_eq(stele_code_plan(code, have, want, &plan), STELE_OK);
	uint64_t set = ((uint64_t)1 << (plan.nread - 1)) - 1;
	while (set && set < limit) {
		if (!(set & want))
			cr_assert(!spans(code, set, want), "%u reads for %llx are too many",
			          plan.nread, (unsigned long long)want);
		uint64_t low = set & -set, ripple = set + low;
		set = ripple | ((set ^ ripple) >> 2) / low;
	}
}

Test(code, plans_read_no_more_than_needed)
{
	static const char *const names[] = {"rep-3",     "rs-4-2",     "rs-6-3",    "lrc-4-2-1",
	                                    "lrc-6-2-2", "lrc-12-2-2", "lrc-12-2-3"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct stele_code *code = find(names[i]);
		unsigned n = stele_code_n(code);
		for (unsigned a = 0; a < n; a++)
			for (unsigned b = a; b < n; b++)
				if (a == b || (n < 17 && stele_code_t(code) > 1))
					check_cheapest(code, (uint64_t)1 << a | (uint64_t)1 << b);
	}
}

Test(code, an_lrc_repairs_within_its_group)
{
	static const struct {
		const char *name;
		uint32_t reads;
	} v[] = {{"lrc-12-2-2", 6}, {"lrc-12-2-3", 6}, {"lrc-20-4-2", 5}, {"rs-10-4", 10}};
	struct stele_plan plan;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		const struct stele_code *code = find(v[i].name);
		unsigned in_groups = stele_code_k(code) + stele_code_id(code)->l;
		for (unsigned shard = 0; shard < in_groups; shard++) {
			uint64_t want = (uint64_t)1 << shard;
			cr_assert_eq(stele_code_plan(code, all_of(code) & ~want, want, &plan),
			             STELE_OK);
			cr_assert_eq(plan.nread, v[i].reads);
		}
	}
	/* even where the block is lost, a whole group still gives what is missing in it */
	const struct stele_code *code = find("lrc-12-2-3");
	uint64_t have = 0x103e; /* group 0 without shard 0, with its local; nothing else */
	cr_assert(!stele_code_decodable(code, have));
	cr_assert_eq(stele_code_plan(code, have, 1, &plan), STELE_OK);
	check_plan(code, have, 1, &plan);
	cr_assert_eq(stele_code_plan(code, have, 0x40, &plan), STELE_ERR_UNAVAILABLE);
	cr_assert_not_null(strstr(stele_detail(), "lrc-12-2-3: shard 6"));
}

Test(code, shards_at_hand_are_planned_as_copies)
{
	const struct stele_code *code = find("rs-4-2");
	struct stele_plan plan;
	cr_assert_eq(stele_code_plan(code, 0x3f, 0x09, &plan), STELE_OK);
	cr_assert_eq(plan.nread, 2u);
	check_plan(code, 0x3f, 0x09, &plan);
	/* all of them, one lost: no more than k are read */
	cr_assert_eq(stele_code_plan(code, 0x3e, 0x3f, &plan), STELE_OK);
	check_plan(code, 0x3e, 0x3f, &plan);
	cr_assert_eq(stele_code_plan(code, 0x3f, 0, &plan), STELE_OK);
	cr_assert_eq(plan.nread + plan.nwant, 0u);
	/* bits beyond n mean nothing */
	cr_assert_eq(stele_code_plan(code, ~(uint64_t)0x10, 0x10, &plan), STELE_OK);
	check_plan(code, 0x2f, 0x10, &plan);
	cr_assert_eq(stele_code_margin(code, UINT64_MAX), 2);
}

/* A copy that is wanted beside a lost shard does not make the lost one dearer. */
Test(code, a_copy_beside_a_local_repair)
{
	const struct stele_code *code = find("lrc-12-2-3");
	struct stele_plan plan;
	for (unsigned global = 14; global < 17; global++) {
		uint64_t want = 1 | (uint64_t)1 << global, have = all_of(code) & ~(uint64_t)1;
		cr_assert_eq(stele_code_plan(code, have, want, &plan), STELE_OK);
		cr_assert_eq(plan.nread, 7u);
		check_plan(code, have, want, &plan);
	}
}

/* Far more wants for one set of shards than the cache has slots; each twice. */
Test(code, plans_of_one_pattern_do_not_mix)
{
	const struct stele_code *code = find("lrc-12-2-3");
	uint64_t have = all_of(code) & ~(uint64_t)0x10041;
	struct stele_plan plan;
	for (int again = 0; again < 2; again++)
		for (unsigned abc = 0; abc < 17 * 17 * 17; abc++) {
			uint64_t want = (uint64_t)1 << abc % 17 | (uint64_t)1 << abc / 17 % 17 |
			                (uint64_t)1 << abc / 289;
			cr_assert_eq(stele_code_plan(code, have, want, &plan), STELE_OK);
			check_plan(code, have, want, &plan);
		}
	/* and the same shard from many sets */
	uint64_t seed = 6;
	for (int round = 0; round < 5000; round++) {
		have = all_of(code) & ~((uint64_t)1 << guard_random(&seed) % 17 |
		                        (uint64_t)1 << guard_random(&seed) % 17 | 1);
		cr_assert_eq(stele_code_plan(code, have, 1, &plan), STELE_OK);
		check_plan(code, have, 1, &plan);
	}
}

/* DO NOT CHANGE: the globals that blocks on disk were made with. */
Test(code, golden_coefficients)
{
	static const struct {
		const char *name;
		unsigned shard;
		const char *row;
	} v[] = {
	    {"lrc-12-2-3", 12, "010101010101000000000000"},
	    {"lrc-12-2-3", 13, "000000000000010101010101"},
	    {"lrc-12-2-3", 14, "26ac2d84b5486d316753fcf7"},
	    {"lrc-12-2-3", 15, "ec37de03988d083a457d36be"},
	    {"lrc-12-2-3", 16, "463a50d743fcfd30a46fd329"},
	    {"lrc-12-2-2", 14, "010203040506102030405060"},
	    {"lrc-12-2-2", 15, "0104051011141d7469cdd0b9"},
	    {"rs-4-2", 4, "47a77aba"},
	    {"rs-4-2", 5, "a747ba7a"},
	    {"rep-3", 2, "01"},
	    {"lrc-20-4-2", 20, "0101010101000000000000000000000000000000"},
	    {"lrc-20-4-2", 24, "01984e0a99022d9c142f045a25285e08b44a50bc"},
	    {"lrc-20-4-2", 25, "014e99444f04255e0d211094653484406a89d02a"},
	};
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		char hex[2 * STELE_CODE_K_MAX + 1];
		const struct stele_code *code = find(v[i].name);
		stele_hex(stele_code_row(code, v[i].shard), stele_code_k(code), hex);
		cr_assert_str_eq(hex, v[i].row, "%s row %u is %s", v[i].name, v[i].shard, hex);
	}
}

Test(code, codes_that_do_not_exist)
{
	const struct stele_code *code = NULL;
	cr_assert_eq(stele_code_find_name("lrc-15-3-3", &code), STELE_ERR_INVALID);
	cr_assert_not_null(strstr(stele_detail(), "lrc-15-3-3: no generator"));
	cr_assert_eq(stele_code_find_name("lrc-32-2-2", &code), STELE_ERR_INVALID);
	cr_assert_eq(stele_code_find_name("rs-0-1", &code), STELE_ERR_INVALID);
	struct stele_code_id hostile = {STELE_CODE_RS, 255, 255, 255};
	cr_assert_eq(stele_code_find(&hostile, &code), STELE_ERR_INVALID);
	cr_assert_null(code);
	cr_assert_eq(find("rs-4-2"), find("rs-4-2"));
}

/* decode(encode(x) minus any tolerable loss) = x, on bytes, for sizes on both sides of slices. */
static void round_trip(const char *name, size_t len, uint64_t *seed, int rounds)
{
	const struct stele_code *code = find(name);
	unsigned n = stele_code_n(code), k = stele_code_k(code);
	uint8_t *shard[STELE_CODE_N_MAX], *got[STELE_CODE_N_MAX];
	for (unsigned i = 0; i < n; i++) {
		shard[i] = malloc(len + 1);
		got[i] = malloc(len + 1);
		cr_assert(shard[i] && got[i]);
		if (i < k)
			guard_fill(seed, shard[i], len);
	}
	stele_code_encode(code, len, (const uint8_t *const *)shard, &shard[k]);
	for (int round = 0; round < rounds; round++) {
		struct stele_plan plan;
		uint64_t lost = 0;
		unsigned e = 1 + (unsigned)(guard_random(seed) % (stele_code_t(code) + 2));
		for (unsigned j = 0; j < e; j++)
			lost |= (uint64_t)1 << guard_random(seed) % n;
		uint64_t have = all_of(code) & ~lost;
		if (!stele_code_decodable(code, have))
			continue;
		const uint8_t *in[STELE_CODE_K_MAX];
		cr_assert_eq(stele_code_plan(code, have, lost, &plan), STELE_OK);
		for (uint32_t r = 0; r < plan.nread; r++)
			in[r] = shard[plan.read[r]];
		stele_code_apply(&plan, len, in, got);
		for (uint32_t w = 0; w < plan.nwant; w++)
			cr_assert(memcmp(got[w], shard[plan.want[w]], len) == 0,
			          "%s, %zu bytes, lost %llx", name, len, (unsigned long long)lost);
	}
	for (unsigned i = 0; i < n; i++) {
		free(shard[i]);
		free(got[i]);
	}
}

Test(code, lost_shards_come_back)
{
	static const char *const names[] = {"rep-3",      "rs-4-2",     "rs-10-4",    "rs-32-8",
	                                    "lrc-12-2-2", "lrc-12-2-3", "lrc-20-4-2", "lrc-10-1-4"};
	uint64_t seed = 5;
	for (const char *const *k = stele_gf_kernels(); *k; k++) {
		if (!stele_gf_use(*k))
			continue;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			round_trip(names[i], 1 + guard_random(&seed) % 100, &seed, 40);
			round_trip(names[i], 64 + guard_random(&seed) % 9000, &seed, 20);
			round_trip(names[i], 65536 + guard_random(&seed) % 9000, &seed, 4);
		}
	}
	stele_gf_use(NULL);
}
