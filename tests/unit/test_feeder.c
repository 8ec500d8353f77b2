/* Goal: whatever the pieces, a step sees the same units at the same offsets, plain or through a
 * key; what is kept stays in proportion to what a step asks for; errors and the end reach the
 * caller. */
#include "storage/ledger/feeder.h"
#include "tests/unit/ledger_fixture.h"

/* Units of a length byte and as many bytes; 255 means an error. */
struct reader {
	struct stele_feeder *f;
	struct blob got;
	uint64_t offset;
	bool wrong;
};

static enum stele_err step(void *ctx, const uint8_t *view, size_t len, bool final, size_t *used,
                           size_t *need)
{
	struct reader *r = ctx;
	r->wrong = r->wrong || r->f->offset != r->offset;
	if (view[0] == 255)
		return STELE_ERR_CORRUPT;
	size_t whole = 1 + (size_t)view[0];
	if (len < whole) {
		*need = whole;
		return final ? STELE_ERR_INVALID : STELE_OK;
	}
	*used = whole;
	r->offset += whole;
	blob_add(&r->got, view, whole);
	return STELE_OK;
}

static enum stele_err feed(const struct blob *file, const uint8_t *key, size_t pieces,
                           uint64_t seed, struct blob *got, size_t *kept)
{
	struct reader r = {0};
	struct stele_feeder f = {.step = step, .ctx = &r, .need_max = 256, .key = key};
	r.f = &f;
	enum stele_err err = STELE_OK;
	uint64_t random = seed;
	*kept = 0;
	for (size_t at = 0; at < file->len && err == STELE_OK;) {
		size_t n = 1 + guard_random(&random) % pieces;
		n = n < file->len - at ? n : file->len - at;
		err = stele_feeder_feed(&f, file->p + at, n);
		at += n;
		*kept = f.cap > *kept ? f.cap : *kept;
	}
	if (err == STELE_OK)
		err = stele_feeder_finish(&f);
	cr_assert_not(r.wrong);
	stele_feeder_reset(&f);
	*got = r.got;
	return err;
}

Test(feeder, pieces_do_not_matter)
{
	static const uint8_t key[8] = {1, 2, 3, 4, 250, 6, 7, 8};
	struct blob file = {0}, hidden;
	uint64_t random = 21;
	for (int i = 0; i < 3000; i++) {
		uint8_t unit[255];
		guard_fill(&random, unit, sizeof(unit));
		unit[0] = (uint8_t)(unit[0] % 254);
		blob_add(&file, unit, 1 + (size_t)unit[0]);
	}
	hidden = blob_copy(file.p, file.len);
	for (size_t i = 0; i < hidden.len; i++)
		hidden.p[i] ^= key[i % 8];
	static const size_t pieces[] = {1, 2, 3, 7, 100, 300, 5000, 1000000};
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		for (int xored = 0; xored < 2; xored++) {
			struct blob got;
			size_t kept;
			cr_assert_eq(feed(xored ? &hidden : &file, xored ? key : NULL, pieces[i],
			                  i + 1, &got, &kept),
			             STELE_OK);
			cr_assert_eq(got.len, file.len);
			cr_assert_eq(memcmp(got.p, file.p, got.len), 0);
			cr_assert_leq(kept, 4u * 256u);
			blob_free(&got);
		}
	}
	blob_free(&file);
	blob_free(&hidden);
}

Test(feeder, errors_and_the_end_reach_the_caller)
{
	struct blob got;
	size_t kept;
	struct blob cut = blob_copy("\x02xx\x05xx", 6);
	cr_assert_eq(feed(&cut, NULL, 1, 1, &got, &kept), STELE_ERR_INVALID);
	cr_assert_eq(got.len, 3u);
	blob_free(&got);
	cut.p[3] = 255;
	cr_assert_eq(feed(&cut, NULL, 9, 1, &got, &kept), STELE_ERR_CORRUPT);
	blob_free(&got);
	blob_free(&cut);
	struct blob none = {0};
	cr_assert_eq(feed(&none, NULL, 9, 1, &got, &kept), STELE_OK);
	blob_free(&got);
}
