/* Goal: Keccak-256 with the original padding, at every seam of its 136-byte rate and in any
 * pieces. The vectors come from an implementation written apart from this one, from the Keccak
 * reference. */
#include "storage/ledger/keccak.h"
#include "tests/unit/ledger_fixture.h"

static void expect(const void *data, size_t len, const char *hex)
{
	struct stele_hash h;
	char got[STELE_HEX_LEN];
	stele_keccak256(data, len, &h);
	cr_assert_str_eq(stele_hash_hex(&h, got), hex, "%zu bytes", len);
}

Test(keccak, known_values)
{
	static const struct {
		size_t len;
		const char *hex;
	} counting[] = {
	    {0, "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"},
	    {1, "bc36789e7a1e281436464229828f817d6612f7b477d66591ff96a9e064bcc98a"},
	    {134, "861e165162f806cd361c4421a48f205820ddf4deb02db9f041f48e179ddada97"},
	    {135, "cbdfd9dee5faad3818d6b06f95a219fd290b0e1706f6a82e5a595b9ce9faca62"},
	    {136, "7ce759f1ab7f9ce437719970c26b0a66ff11fe3e38e17df89cf5d29c7d7f807e"},
	    {137, "ac73d4fae68b8453f764007c1a20ce95994187861f0c3227a3a8e99a73a3b1db"},
	    {271, "7c974895b2a88303ff2dc6b58f438ceb0b298cac91099ac0539cc0f477506191"},
	    {272, "fdf2ec49e749960d3c8521a0219af8d03e30e2b3bf19bd16150ee0eaf133d66e"},
	    {273, "4f707289a9c3ccd0c4a51f2f17339f5dd171d371c04ff7783b735b5b22682eaf"},
	    {1000, "aca79e4146e30eb1c733f6d6060d72471c36ea4e01ebf45d7f4916249c2bbd82"},
	};
	uint8_t bytes[1000];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(counting) / sizeof(counting[0]); i++)
		expect(bytes, counting[i].len, counting[i].hex);
	expect("abc", 3, "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
}

Test(keccak, pieces_do_not_matter)
{
	uint64_t random = 7;
	uint8_t bytes[700];
	guard_fill(&random, bytes, sizeof(bytes));
	for (int round = 0; round < 2000; round++) {
		size_t len = guard_random(&random) % sizeof(bytes), at = 0;
		struct stele_hash whole, parts;
		struct stele_keccak k;
		stele_keccak256(bytes, len, &whole);
		stele_keccak_init(&k);
		while (at < len) {
			size_t n = guard_random(&random) % 200;
			n = n < len - at ? n : len - at;
			stele_keccak_update(&k, bytes + at, n);
			at += n;
		}
		stele_keccak_final(&k, &parts);
		cr_assert(stele_hash_equal(&whole, &parts));
	}
}
