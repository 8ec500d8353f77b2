/* Goal: framed snappy comes back as it went in; a changed byte is refused or changes nothing;
 * lengths are held to their bounds before anything is inflated. */
#include "storage/base/crc.h"
#include "storage/ledger/snappy_frame.h"
#include "tests/unit/ledger_fixture.h"

static void inflate(const struct blob *frame, size_t max, enum stele_err *err, struct blob *out)
{
	size_t len;
	*out = (struct blob){0};
	*err = stele_snappy_frame_length(frame->p, frame->len, max, &len);
	if (*err != STELE_OK)
		return;
	out->p = malloc(len + 1);
	out->len = len;
	*err = stele_snappy_frame_inflate(frame->p, frame->len, out->p, len);
}

static struct blob deflate(const void *p, size_t len)
{
	struct blob b;
	cr_assert_eq(stele_snappy_frame_deflate(p, len, &b.p, &b.len), STELE_OK);
	b.cap = b.len;
	return b;
}

Test(snappy_frame, round_trip)
{
	static const size_t lengths[] = {0, 1, 100, 65535, 65536, 65537, 200000};
	uint64_t random = 5;
	uint8_t *plain = malloc(200000);
	for (int kind = 0; kind < 3; kind++) {
		if (kind == 0)
			memset(plain, 7, 200000);
		else
			guard_fill(&random, plain, kind == 1 ? 200000 : 100000);
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			struct blob frame = deflate(plain, lengths[i]), back;
			enum stele_err err;
			inflate(&frame, 200000, &err, &back);
			cr_assert_eq(err, STELE_OK, "%s", stele_detail());
			cr_assert_eq(back.len, lengths[i]);
			cr_assert_eq(memcmp(back.p, plain, lengths[i]), 0);
			blob_free(&back);
			if (lengths[i]) {
				inflate(&frame, lengths[i] - 1, &err, &back);
				cr_assert_eq(err, STELE_ERR_CORRUPT);
			}
			blob_free(&frame);
		}
	}
	free(plain);
}

Test(snappy_frame, a_changed_bit_is_refused_or_changes_nothing)
{
	uint64_t random = 9;
	uint8_t plain[700];
	guard_fill(&random, plain, sizeof(plain));
	memset(plain + 200, 0, 300);
	struct blob frame = deflate(plain, sizeof(plain));
	size_t same = 0;
	for (size_t bit = 0; bit < 8 * frame.len; bit++) {
		struct blob back;
		enum stele_err err;
		frame.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		inflate(&frame, 100000, &err, &back);
		frame.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert(err == STELE_ERR_CORRUPT ||
		              (back.len == sizeof(plain) && memcmp(back.p, plain, back.len) == 0) ||
		              back.len == 0,
		          "bit %zu", bit);
		same += err == STELE_OK;
		blob_free(&back);
	}
	/* copies from elsewhere in the zeros give the same bytes, and a chunk of a type that is
	 * to be skipped is skipped: such bits exist, and are few */
	cr_assert_lt(same, 40u);
	for (size_t cut = 0; cut < frame.len; cut++) {
		struct blob part = {.p = frame.p, .len = cut}, back;
		enum stele_err err;
		inflate(&part, 100000, &err, &back);
		cr_assert(err == STELE_ERR_CORRUPT || cut == 10, "cut at %zu", cut);
		blob_free(&back);
	}
	blob_free(&frame);
}

Test(snappy_frame, chunk_types)
{
	static const uint8_t id[10] = {0xff, 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'Y'};
	static const struct {
		uint8_t chunk[12];
		size_t len;
		enum stele_err want;
	} cases[] = {
	    {{0xfe, 2, 0, 0, 9, 9}, 6, STELE_OK}, /* padding */
	    {{0x80, 0, 0, 0}, 4, STELE_OK},       /* skippable */
	    {{0xff, 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'Y'}, 10, STELE_OK},
	    {{0xff, 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'y'}, 10, STELE_ERR_CORRUPT},
	    {{0x02, 0, 0, 0}, 4, STELE_ERR_CORRUPT}, /* reserved */
	    {{0x7f, 0, 0, 0}, 4, STELE_ERR_CORRUPT},
	    {{0x01, 3, 0, 0, 0, 0, 0}, 7, STELE_ERR_CORRUPT},         /* no room for a checksum */
	    {{0x01, 9, 0, 0, 0, 0, 0, 0}, 8, STELE_ERR_CORRUPT},      /* cut */
	    {{0x01, 5, 0, 0, 0, 0, 0, 0, 'x'}, 9, STELE_ERR_CORRUPT}, /* a wrong checksum */
	    {{0x00, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 12, STELE_ERR_CORRUPT},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob frame = blob_copy(id, sizeof(id)), back;
		enum stele_err err;
		blob_add(&frame, cases[i].chunk, cases[i].len);
		inflate(&frame, 1000, &err, &back);
		cr_assert_eq(err, cases[i].want, "case %zu: %s", i, stele_detail());
		blob_free(&back);
		blob_free(&frame);
	}
	/* a stored chunk by hand, with the mask of the framing format */
	struct blob frame = blob_copy(id, sizeof(id)), back;
	uint8_t chunk[11] = {0x01, 7, 0, 0};
	memcpy(chunk + 8, "abc", 3);
	uint32_t crc = stele_crc32c("abc", 3, 0);
	stele_put_le32(chunk + 4, (crc >> 15 | crc << 17) + 0xa282ead8u);
	blob_add(&frame, chunk, sizeof(chunk));
	enum stele_err err;
	inflate(&frame, 3, &err, &back);
	cr_assert_eq(err, STELE_OK);
	cr_assert_eq(memcmp(back.p, "abc", 3), 0);
	blob_free(&back);
	blob_free(&frame);
}
