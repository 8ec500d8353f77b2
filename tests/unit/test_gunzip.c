/* Goal: a gzip stream inflates to the same bytes whatever its pieces and members; a cut or
 * changed stream is refused, but for the header fields that say nothing about the content. */
#include "storage/ledger/gunzip.h"
#include "tests/unit/ledger_fixture.h"

static enum stele_err collect(void *ctx, const void *bytes, size_t len)
{
	cr_assert(len > 0 && len <= STELE_GUNZIP_PIECE);
	blob_add(ctx, bytes, len);
	return STELE_OK;
}

static enum stele_err full(void *ctx, const void *bytes, size_t len)
{
	(void)ctx;
	(void)bytes;
	(void)len;
	return stele_fail(STELE_ERR_FULL, "no more");
}

/* One member, made by zlib itself. */
static void add_member(struct blob *out, const void *plain, size_t len)
{
	z_stream z = {0};
	uint8_t *buf = malloc(len + 1000);
	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (uint8_t *)plain;
	z.avail_in = (unsigned)len;
	z.next_out = buf;
	z.avail_out = (unsigned)(len + 1000);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	blob_add(out, buf, len + 1000 - z.avail_out);
	deflateEnd(&z);
	free(buf);
}

static enum stele_err gunzip(const struct blob *in, size_t piece, struct blob *out)
{
	struct stele_gunzip g;
	cr_assert_eq(stele_gunzip_init(&g, collect, out), STELE_OK);
	enum stele_err err = STELE_OK;
	for (size_t at = 0; at < in->len && err == STELE_OK; at += piece)
		err =
		    stele_gunzip_feed(&g, in->p + at, in->len - at < piece ? in->len - at : piece);
	if (err == STELE_OK)
		err = stele_gunzip_finish(&g);
	stele_gunzip_reset(&g);
	return err;
}

Test(gunzip, pieces_and_members)
{
	uint64_t random = 4;
	uint8_t *plain = calloc(1, 500000);
	guard_fill(&random, plain, 150000);
	struct blob in = {0};
	add_member(&in, plain, 300000);
	add_member(&in, plain + 300000, 0);
	add_member(&in, plain + 300000, 200000);
	static const size_t pieces[] = {1, 17, 4096, 1000000};
	for (size_t i = 0; i < 4; i++) {
		struct blob out = {0};
		cr_assert_eq(gunzip(&in, pieces[i], &out), STELE_OK, "%s", stele_detail());
		cr_assert(out.len == 500000 && memcmp(out.p, plain, out.len) == 0);
		blob_free(&out);
	}
	uint8_t front[100];
	cr_assert_eq(stele_gunzip_peek(in.p, 200, front, sizeof(front)), 100u);
	cr_assert_eq(memcmp(front, plain, 100), 0);
	cr_assert_eq(stele_gunzip_peek("no gzip", 7, front, sizeof(front)), 0u);
	struct stele_gunzip g;
	cr_assert_eq(stele_gunzip_init(&g, full, NULL), STELE_OK);
	cr_assert_eq(stele_gunzip_feed(&g, in.p, in.len), STELE_ERR_FULL);
	stele_gunzip_reset(&g);
	stele_gunzip_reset(&g);
	free(plain);
	blob_free(&in);
}

Test(gunzip, cut_or_changed)
{
	struct blob in = {0};
	uint8_t plain[300];
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * i);
	add_member(&in, plain, sizeof(plain));
	for (size_t cut = 1; cut < in.len; cut++) {
		struct blob part = {.p = in.p, .len = cut}, out = {0};
		cr_assert_eq(gunzip(&part, 7, &out), STELE_ERR_CORRUPT, "cut at %zu", cut);
		blob_free(&out);
	}
	for (size_t bit = 0; bit < 8 * in.len; bit++) {
		struct blob out = {0};
		in.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		enum stele_err err = gunzip(&in, 50, &out);
		/* text flag, time, extra flags, operating system; bits behind the last code */
		if (err == STELE_OK)
			cr_assert(bit == 24 || (bit >= 32 && bit < 80) || bit / 8 == in.len - 9,
			          "bit %zu", bit);
		else
			cr_assert_eq(err, STELE_ERR_CORRUPT);
		in.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		blob_free(&out);
	}
	blob_add(&in, "\0\0", 2);
	struct blob out = {0};
	cr_assert_eq(gunzip(&in, 50, &out), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "gzip: "), "%s", stele_detail());
	blob_free(&out);
	blob_free(&in);
}
