/*
 * Goal: one block has one encoding (DESIGN D2): golden bytes, every code name and back, and every
 * byte that is not canonical refused by the name of its field; hostile descriptors (k = 0, n = 255,
 * lengths that overflow) too. Rows and cells are checked against the roots.
 */
#include <criterion/criterion.h>

#include "storage/base/descriptor.h"
#include "storage/base/merkle.h"
#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

static struct stele_descriptor make(const char *code, uint64_t length)
{
	struct stele_code_id id;
	struct stele_descriptor d;
	cr_assert_eq(stele_code_id_parse(code, &id), STELE_OK, "%s", stele_detail());
	cr_assert_eq(stele_descriptor_init(&d, &id, length), STELE_OK);
	for (uint32_t i = 0; i < stele_descriptor_roots(&d); i++)
		memset(d.root[i].b, (int)(0x10 + i), STELE_HASH_LEN);
	return d;
}

Test(descriptor, golden_bytes)
{
	static const char fixed[] = "53424431"         /* SBD1 */
	                            "02040200"         /* rs, k 4, m 2, l 0 */
	                            "06100000"         /* n 6, cells of 2^16 */
	                            "40e2010000000000" /* length 123456 */
	                            "c078000000000000" /* S 30912 */
	                            "00000000";
	struct stele_descriptor d = make("rs-4-2", 123456), back;
	uint8_t bytes[STELE_DESCRIPTOR_MAX];
	char hex[2 * STELE_DESCRIPTOR_MAX + 1];
	size_t len = stele_descriptor_encode(&d, bytes);
	cr_assert_eq(len, 32u + 6 * 32);
	cr_assert_eq(len, stele_descriptor_len(&d));
	stele_hex(bytes, 32, hex);
	cr_assert_str_eq(hex, fixed);
	for (size_t i = 0; i < 6 * 32; i++)
		cr_assert_eq(bytes[32 + i], 0x10 + i / 32);
	cr_assert_eq(stele_descriptor_decode(bytes, len, &back), STELE_OK);
	cr_assert(memcmp(&d, &back, sizeof(d)) == 0);
	struct stele_hash id, want;
	stele_descriptor_id(&d, &id);
	stele_sha256(bytes, len, &want);
	cr_assert(stele_hash_equal(&id, &want));
	/* DO NOT CHANGE: ids of blocks that exist */
	stele_hash_hex(&id, hex);
	cr_assert_str_eq(hex, "481afeda5fe34644433079abb607349e0eb5937e8f699dac233c1dc6b8bf4fae");
}

Test(descriptor, names_of_codes)
{
	static const struct {
		const char *name;
		struct stele_code_id id;
	} good[] = {
	    {"rep-1", {STELE_CODE_REP, 1, 0, 0}},       {"rep-3", {STELE_CODE_REP, 1, 2, 0}},
	    {"rep-9", {STELE_CODE_REP, 1, 8, 0}},       {"rs-1-1", {STELE_CODE_RS, 1, 1, 0}},
	    {"rs-4-2", {STELE_CODE_RS, 4, 2, 0}},       {"rs-32-8", {STELE_CODE_RS, 32, 8, 0}},
	    {"lrc-12-2-3", {STELE_CODE_LRC, 12, 5, 2}}, {"lrc-20-4-2", {STELE_CODE_LRC, 20, 6, 4}},
	};
	static const char *const bad[] = {
	    "",           "rs",           "rs-",          "rs-4",
	    "rs-4-",      "rs-4-2-",      "rs-4-2 ",      " rs-4-2",
	    "rs-04-2",    "rs-4-+2",      "rs-0-2",       "rs-4-0",
	    "rs-33-2",    "rs-4-9",       "rs-999-2",     "rs-4-256",
	    "rs-260-2",   "rs-4-1000",    "rep-0",        "rep-10",
	    "rep-",       "rep-257",      "rep--1",       "rep-3-1",
	    "lrc-12-2",   "lrc-12-5-2",   "lrc-12-0-3",   "lrc-12-2-0",
	    "lrc-12-2-7", "lrc-12-256-3", "lrc-12-2-255", "xor-4-1",
	    "RS-4-2",     "rs-4-2\n"};
	char name[STELE_NAME_MAX];
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct stele_code_id id;
		cr_assert_eq(stele_code_id_parse(good[i].name, &id), STELE_OK, "%s",
		             stele_detail());
		cr_assert(stele_code_id_equal(id, good[i].id));
		cr_assert_str_eq(stele_code_id_name(&id, name), good[i].name);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stele_code_id id = {9, 9, 9, 9}, same = id;
		cr_assert_eq(stele_code_id_parse(bad[i], &id), STELE_ERR_INVALID, "%s", bad[i]);
		cr_assert(stele_code_id_equal(id, same));
		cr_assert_not_null(strstr(stele_detail(), "code"));
	}
}

/* Exactly the ids that the rules allow, over all families and small numbers and beyond the limits.
 */
Test(descriptor, names_of_all_ids_come_back)
{
	char name[STELE_NAME_MAX];
	for (unsigned family = 0; family < 5; family++)
		for (unsigned k = 0; k < 36; k++)
			for (unsigned m = 0; m < 12; m++)
				for (unsigned l = 0; l < 12; l++) {
					struct stele_code_id id = {(uint8_t)family, (uint8_t)k,
					                           (uint8_t)m, (uint8_t)l},
					                     back;
					bool want = k >= 1 && k <= 32 && m <= 8;
					if (family == STELE_CODE_REP)
						want &= k == 1 && l == 0;
					else if (family == STELE_CODE_RS)
						want &= m >= 1 && l == 0;
					else if (family == STELE_CODE_LRC)
						want &= l >= 1 && m > l && k % (l ? l : 1) == 0;
					else
						want = false;
					cr_assert_eq(stele_code_id_check(&id) == STELE_OK, want);
					if (!want)
						continue;
					stele_code_id_name(&id, name);
					cr_assert_eq(stele_code_id_parse(name, &back), STELE_OK);
					cr_assert(stele_code_id_equal(id, back));
				}
}

Test(descriptor, lengths)
{
	struct stele_descriptor d = make("rs-4-2", 1);
	cr_assert_eq(d.S, 64u);
	cr_assert_eq(stele_descriptor_cells(&d), 1u);
	cr_assert_eq(stele_descriptor_cell_len(&d, 0), 64u);
	d = make("rs-4-2", STELE_BLOCK_LEN_MAX);
	cr_assert_eq(d.S, 4u << 20);
	cr_assert_eq(stele_descriptor_cells(&d), 64u);
	d = make("rs-4-2", 4 * 65536 + 1);
	cr_assert_eq(d.S, 65600u);
	cr_assert_eq(stele_descriptor_cells(&d), 2u);
	cr_assert_eq(stele_descriptor_cell_len(&d, 0), 65536u);
	cr_assert_eq(stele_descriptor_cell_len(&d, 1), 64u);
	d = make("rep-3", 1000);
	cr_assert_eq(d.n, 3);
	cr_assert_eq(d.S, 1024u);
	cr_assert_eq(stele_descriptor_roots(&d), 1u);
	cr_assert_eq(stele_descriptor_root(&d, 2), &d.root[0]);
	/* Default blocks keep cells whole: S is a multiple of 64 KiB at any k. */
	for (unsigned k = 1; k <= STELE_CODE_K_MAX; k++) {
		struct stele_code_id id = {STELE_CODE_RS, (uint8_t)k, 1, 0};
		uint64_t block = stele_block_len(&id);
		cr_assert_eq(block % (k * STELE_CELL_LEN), 0u);
		cr_assert_leq(block, STELE_BLOCK_LEN_MAX);
		cr_assert_gt(block + k * STELE_CELL_LEN, STELE_BLOCK_LEN_MAX);
		cr_assert_eq(stele_shard_len(&id, block) % STELE_CELL_LEN, 0u);
	}
	struct stele_code_id id = {STELE_CODE_RS, 4, 2, 0};
	cr_assert_eq(stele_descriptor_init(&d, &id, 0), STELE_ERR_INVALID);
	cr_assert_eq(stele_descriptor_init(&d, &id, STELE_BLOCK_LEN_MAX + 1), STELE_ERR_INVALID);
	cr_assert_eq(stele_descriptor_init(&d, &id, UINT64_MAX), STELE_ERR_INVALID);
}

/* Decodes from memory that ends exactly at len, so that one byte too many read is a crash. */
static enum stele_err decode_guarded(const uint8_t *bytes, size_t len)
{
	struct stele_descriptor d;
	struct guard g = guard_create(STELE_DESCRIPTOR_MAX);
	uint8_t *p = guard_end(&g, len);
	memcpy(p, bytes, len);
	enum stele_err err = stele_descriptor_decode(p, len, &d);
	guard_destroy(&g);
	return err;
}

Test(descriptor, hostile_ones_are_refused_by_name)
{
	static const struct {
		size_t off;
		const char *bytes;
		const char *name;
	} bad[] = {
	    {0, "53424432", "magic"},
	    {4, "00", "family"},
	    {4, "04", "family"},
	    {5, "00", "k is 0"},
	    {5, "21", "k is 33"},
	    {5, "ff", "k is 255"},
	    {6, "00", "parity"},
	    {6, "ff", "parity"},
	    {7, "01", "l is 1"},
	    {8, "ff", "n is 255"},
	    {8, "05", "n is 5"},
	    {9, "0c", "cell_log2"},
	    {9, "ff", "cell_log2"},
	    {10, "01", "reserved"},
	    {11, "80", "reserved"},
	    {12, "0000000000000000", "length 0"},
	    {12, "ffffffffffffffff", "length 18446744073709551615"},
	    {12, "0100000100000000", "length 16777217"},
	    {20, "ffffffffffffffff", "S is"},
	    {20, "0000000000000000", "S is 0"},
	    {20, "8078000000000000", "S is"},
	    {28, "01000000", "reserved"},
	    {28, "00000080", "reserved"},
	};
	struct stele_descriptor d = make("rs-4-2", 123456);
	uint8_t good[STELE_DESCRIPTOR_MAX], bytes[STELE_DESCRIPTOR_MAX];
	size_t len = stele_descriptor_encode(&d, good);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t n = strlen(bad[i].bytes) / 2;
		memcpy(bytes, good, len);
		cr_assert(stele_unhex(bad[i].bytes, 2 * n, bytes + bad[i].off, n, true));
		cr_assert_eq(decode_guarded(bytes, len), STELE_ERR_CORRUPT, "%s", bad[i].name);
		cr_assert_not_null(strstr(stele_detail(), bad[i].name), "%s says %s", bad[i].name,
		                   stele_detail());
	}
}

Test(descriptor, every_length_but_its_own_is_refused)
{
	struct stele_descriptor d = make("lrc-12-2-3", 1000000), back;
	uint8_t bytes[STELE_DESCRIPTOR_MAX + 1] = {0};
	size_t len = stele_descriptor_encode(&d, bytes), used;
	for (size_t n = 0; n < len; n++) {
		cr_assert_eq(decode_guarded(bytes, n), STELE_ERR_CORRUPT);
		cr_assert_eq(stele_descriptor_decode_prefix(bytes, n, &back, &used),
		             STELE_ERR_CORRUPT);
	}
	cr_assert_eq(stele_descriptor_decode(bytes, len + 1, &back), STELE_ERR_CORRUPT);
	cr_assert_eq(stele_descriptor_decode_prefix(bytes, len + 1, &back, &used), STELE_OK);
	cr_assert_eq(used, len);
	cr_assert(memcmp(&d, &back, sizeof(d)) == 0);
}

/* A decoder accepts only what the encoder writes: whatever survives mutation encodes to itself. */
Test(descriptor, what_decodes_encodes_to_the_same_bytes)
{
	static const char *const codes[] = {"rep-3", "rs-4-2", "rs-32-8", "lrc-12-2-2"};
	uint64_t seed = 11;
	unsigned accepted = 0;
	for (int round = 0; round < 200000; round++) {
		uint8_t bytes[STELE_DESCRIPTOR_MAX], again[STELE_DESCRIPTOR_MAX];
		struct stele_descriptor d = make(codes[round % 4], 1 + guard_random(&seed) % 9999);
		size_t len = stele_descriptor_encode(&d, bytes);
		for (int flips = (int)(guard_random(&seed) % 3); flips >= 0; flips--)
			bytes[guard_random(&seed) % 32] = (uint8_t)guard_random(&seed);
		if (stele_descriptor_decode(bytes, len, &d) != STELE_OK)
			continue;
		accepted++;
		cr_assert_eq(stele_descriptor_encode(&d, again), len);
		cr_assert(memcmp(bytes, again, len) == 0);
	}
	cr_assert_gt(accepted, 100u);
}

Test(descriptor, rows_and_cells_are_checked)
{
	struct stele_descriptor d = make("rs-2-1", 2 * (3 * 65536 + 640));
	static uint8_t shard[3 * 65536 + 640];
	struct stele_hash row[4];
	uint64_t seed = 5;
	guard_fill(&seed, shard, sizeof(shard));
	cr_assert_eq(d.S, sizeof(shard));
	stele_sha256_cells(shard, sizeof(shard), row);
	stele_merkle_root(row, 4, &d.root[1]);
	cr_assert(stele_descriptor_row_ok(&d, 1, row));
	cr_assert(!stele_descriptor_row_ok(&d, 0, row));
	for (uint32_t c = 0; c < 4; c++) {
		uint8_t *cell = shard + c * 65536;
		size_t len = c < 3 ? 65536 : 640;
		cr_assert_eq(stele_descriptor_check_cell(&d, c, row, cell, len), STELE_OK);
		cr_assert_eq(stele_descriptor_check_cell(&d, c, row, cell, len - 1),
		             STELE_ERR_CORRUPT);
		cell[len - 1] ^= 1;
		cr_assert_eq(stele_descriptor_check_cell(&d, c, row, cell, len), STELE_ERR_CORRUPT);
		cell[len - 1] ^= 1;
		row[c].b[0] ^= 1;
		cr_assert(!stele_descriptor_row_ok(&d, 1, row));
		row[c].b[0] ^= 1;
	}
	cr_assert_eq(stele_descriptor_check_cell(&d, 4, row, shard, 0), STELE_ERR_CORRUPT);
}
