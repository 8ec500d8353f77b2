/* Goal: the CRC is RFC 3720's CRC-32C, bit for bit, at any length, alignment and cut. */
#include <criterion/criterion.h>

#include "storage/base/crc.h"
#include "tests/unit/guard.h"

/* The definition: reflected polynomial 0x82f63b78, bit by bit. */
static uint32_t model(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffff;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

Test(crc, rfc3720_vectors)
{
	uint8_t b[32];
	cr_assert_eq(stele_crc32c("123456789", 9, 0), 0xe3069283u);
	memset(b, 0, sizeof(b));
	cr_assert_eq(stele_crc32c(b, sizeof(b), 0), 0x8a9136aau);
	memset(b, 0xff, sizeof(b));
	cr_assert_eq(stele_crc32c(b, sizeof(b), 0), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t)i;
	cr_assert_eq(stele_crc32c(b, sizeof(b), 0), 0x46dd794eu);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t)(31 - i);
	cr_assert_eq(stele_crc32c(b, sizeof(b), 0), 0x113fdb5cu);
	cr_assert_eq(stele_crc32c(b, 0, 0), 0u);
}

Test(crc, any_length_alignment_and_cut)
{
	uint64_t seed = 1;
	struct guard g = guard_create(4096);
	guard_fill(&seed, g.begin, g.len);
	for (size_t len = 0; len < 700; len++) {
		const uint8_t *p = guard_end(&g, len);
		size_t cut = len ? guard_random(&seed) % (len + 1) : 0;
		uint32_t want = model(p, len);
		cr_assert_eq(stele_crc32c(p, len, 0), want);
		cr_assert_eq(stele_crc32c(p + cut, len - cut, stele_crc32c(p, cut, 0)), want);
	}
	guard_destroy(&g);
}
