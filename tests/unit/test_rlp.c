/* Goal: every canonical item is read, and nothing else: each value has one encoding (checked
 * against a small encoder of the yellow paper's definition), and no read leaves the bytes given. */
#include "storage/ledger/rlp.h"
#include "tests/unit/ledger_fixture.h"

/* Appendix B, word for word: R_b for strings, R_l around encoded items. */
static void model(struct blob *out, const uint8_t *content, size_t len, bool list)
{
	unsigned base = list ? 192 : 128;
	if (!list && len == 1 && content[0] < 128) {
		blob_add(out, content, 1);
		return;
	}
	uint8_t head[9];
	size_t n = 0;
	if (len < 56) {
		head[n++] = (uint8_t)(base + len);
	} else {
		size_t bytes = 0;
		for (size_t v = len; v; v >>= 8)
			bytes++;
		head[n++] = (uint8_t)(base + 55 + bytes);
		for (size_t i = bytes; i-- > 0;)
			head[n++] = (uint8_t)(len >> (8 * i));
	}
	blob_add(out, head, n);
	blob_add(out, content, len);
}

Test(rlp, reads_what_the_model_writes)
{
	static const size_t lengths[] = {0,   1,   2,   54,    55,    56,   57,
	                                 255, 256, 257, 65535, 65536, 70000};
	uint64_t random = 3;
	uint8_t *content = malloc(70000);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		for (int kind = 0; kind < 3; kind++) {
			size_t len = lengths[i];
			struct blob b = {0};
			struct stele_rlp item;
			uint8_t head[STELE_RLP_HEADER_MAX];
			guard_fill(&random, content, len);
			if (len == 1 && kind == 1)
				content[0] = 0x7f;
			model(&b, content, len, kind == 2);
			cr_assert(stele_rlp_whole(b.p, b.len, &item));
			cr_assert_eq(item.list, kind == 2);
			cr_assert_eq(item.len, len);
			cr_assert_eq(memcmp(item.data, content, len), 0);
			cr_assert_eq(item.raw_len, b.len);
			if (b.len > len) {
				cr_assert_eq(stele_rlp_header(kind == 2, len, head), b.len - len);
				cr_assert_eq(memcmp(head, b.p, b.len - len), 0);
			}
			for (size_t cut = 0; cut < b.len && cut < 300; cut++)
				cr_assert_not(stele_rlp_whole(b.p, cut, &item));
			blob_add(&b, "x", 1);
			cr_assert_not(stele_rlp_whole(b.p, b.len, &item));
			blob_free(&b);
		}
	}
	free(content);
}

Test(rlp, refuses_second_encodings)
{
	static const struct {
		uint8_t bytes[12];
		size_t len;
	} bad[] = {
	    {{0x81, 0x00}, 2}, /* a small byte with a header */
	    {{0x81, 0x7f}, 2},
	    {{0xb8, 0x01, 0x80}, 3}, /* a short length in the long form */
	    {{0xb8, 0x00}, 2},
	    {{0xb9, 0x00, 0x38}, 3}, /* a leading zero in a length */
	    {{0xf8, 0x00}, 2},
	    {{0xf8, 0x01, 0x01}, 3},
	    {{0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, /* a length that wraps */
	    {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9},
	    {{0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, 9},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stele_rlp item;
		cr_assert_not(stele_rlp_whole(bad[i].bytes, bad[i].len, &item), "%zu", i);
	}
}

/* Random bytes: what is accepted encodes back to itself, and no byte outside is touched. */
Test(rlp, accepted_bytes_are_canonical)
{
	uint64_t random = 11;
	struct guard g = guard_create(4096);
	size_t accepted = 0;
	for (int round = 0; round < 200000; round++) {
		size_t len = guard_random(&random) % 80;
		uint8_t *p = guard_end(&g, len);
		guard_fill(&random, p, len);
		if (len > 1 && round % 2)
			p[0] = (uint8_t)(0xb8 + guard_random(&random) % 2 * 0x40 +
			                 guard_random(&random) % 2);
		if (len > 1 && round % 3)
			p[1] = (uint8_t)(guard_random(&random) % 90);
		struct stele_reader r = stele_reader(p, len);
		struct stele_rlp item;
		while (stele_rlp_next(&r, &item)) {
			struct blob b = {0};
			model(&b, item.data, item.len, item.list);
			cr_assert_eq(b.len, item.raw_len);
			cr_assert_eq(memcmp(b.p, item.raw, b.len), 0);
			blob_free(&b);
			accepted++;
		}
	}
	cr_assert_gt(accepted, 1000u);
	guard_destroy(&g);
}

Test(rlp, numbers)
{
	struct stele_rlp item;
	uint64_t v = 0;
	cr_assert(stele_rlp_whole("\x80", 1, &item) && stele_rlp_u64(&item, &v) && v == 0);
	cr_assert(stele_rlp_whole("\x7f", 1, &item) && stele_rlp_u64(&item, &v) && v == 127);
	cr_assert(stele_rlp_whole("\x82\x01\x00", 3, &item) && stele_rlp_u64(&item, &v) &&
	          v == 256);
	cr_assert(stele_rlp_whole("\x88\xff\xff\xff\xff\xff\xff\xff\xff", 9, &item) &&
	          stele_rlp_u64(&item, &v) && v == UINT64_MAX);
	cr_assert(stele_rlp_whole("\x89\x01\x00\x00\x00\x00\x00\x00\x00\x00", 10, &item));
	cr_assert_not(stele_rlp_u64(&item, &v));
	cr_assert(stele_rlp_whole("\x82\x00\x01", 3, &item));
	cr_assert_not(stele_rlp_u64(&item, &v)); /* a leading zero */
	cr_assert(stele_rlp_whole("\x00", 1, &item));
	cr_assert_not(stele_rlp_u64(&item, &v));
	cr_assert(stele_rlp_whole("\xc0", 1, &item));
	cr_assert_not(stele_rlp_u64(&item, &v));
}

Test(rlp, peek_tells_how_much_to_wait_for)
{
	struct blob b = {0};
	uint8_t content[300] = {0xff};
	model(&b, content, sizeof(content), true);
	size_t header = 0;
	uint64_t total = 1;
	bool list = false;
	cr_assert(stele_rlp_peek(b.p, 0, &header, &total, &list));
	cr_assert(header == 1 && total == 0);
	cr_assert(stele_rlp_peek(b.p, 1, &header, &total, &list));
	cr_assert(header == 3 && total == 0);
	cr_assert(stele_rlp_peek(b.p, 3, &header, &total, &list));
	cr_assert(header == 3 && total == 303 && list);
	blob_free(&b);
}
