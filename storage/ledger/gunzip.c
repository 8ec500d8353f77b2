/* gzip through zlib, piece by piece. */
#include "storage/ledger/gunzip.h"

#include <stdlib.h>

#define WINDOW_GZIP (15 + 16)  /* zlib's: the largest window, and gzip's header and trailer */
#define INPUT_MAX   (1u << 30) /* zlib counts in unsigned int */

enum stele_err stele_gunzip_init(struct stele_gunzip *g,
                                 enum stele_err (*sink)(void *ctx, const void *bytes, size_t len),
                                 void *ctx)
{
	memset(g, 0, sizeof(*g));
	g->sink = sink;
	g->ctx = ctx;
	g->piece = malloc(STELE_GUNZIP_PIECE);
	g->open = g->piece && inflateInit2(&g->z, WINDOW_GZIP) == Z_OK;
	if (g->open)
		return STELE_OK;
	stele_gunzip_reset(g);
	return stele_fail(STELE_ERR_NOMEM, "a gzip stream");
}

static enum stele_err failed(const struct stele_gunzip *g, int code)
{
	if (code == Z_MEM_ERROR)
		return stele_fail(STELE_ERR_NOMEM, "a gzip stream");
	return stele_fail(STELE_ERR_CORRUPT, "offset %llu: gzip: %s",
	                  (unsigned long long)g->z.total_in, g->z.msg ? g->z.msg : "bad stream");
}

static enum stele_err feed_some(struct stele_gunzip *g, const uint8_t *bytes, unsigned len)
{
	g->z.next_in = (uint8_t *)bytes;
	g->z.avail_in = len;
	do {
		g->z.next_out = g->piece;
		g->z.avail_out = STELE_GUNZIP_PIECE;
		if (g->z.avail_in)
			g->inside = true;
		int code = inflate(&g->z, Z_NO_FLUSH);
		/* what came before an error goes out first: pieces of any size give the same
		 * bytes */
		size_t got = STELE_GUNZIP_PIECE - g->z.avail_out;
		if (got)
			STELE_TRY(g->sink(g->ctx, g->piece, got));
		if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
			return failed(g, code);
		if (code == Z_STREAM_END) {
			g->inside = false;
			if (inflateReset(&g->z) != Z_OK)
				return failed(g, Z_STREAM_ERROR);
		}
	} while (g->z.avail_in || g->z.avail_out == 0);
	return STELE_OK;
}

enum stele_err stele_gunzip_feed(struct stele_gunzip *g, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	while (len) {
		size_t take = len < INPUT_MAX ? len : INPUT_MAX;
		STELE_TRY(feed_some(g, p, (unsigned)take));
		p += take;
		len -= take;
	}
	return STELE_OK;
}

enum stele_err stele_gunzip_finish(const struct stele_gunzip *g)
{
	return g->inside ? stele_fail(STELE_ERR_CORRUPT, "the gzip stream is cut") : STELE_OK;
}

void stele_gunzip_reset(struct stele_gunzip *g)
{
	if (g->open)
		inflateEnd(&g->z);
	free(g->piece);
	memset(g, 0, sizeof(*g));
}

size_t stele_gunzip_peek(const void *bytes, size_t len, uint8_t *out, size_t cap)
{
	z_stream z = {0};
	if (inflateInit2(&z, WINDOW_GZIP) != Z_OK)
		return 0;
	z.next_in = (uint8_t *)bytes;
	z.avail_in = (unsigned)(len < INPUT_MAX ? len : INPUT_MAX);
	z.next_out = out;
	z.avail_out = (unsigned)cap;
	(void)!inflate(&z, Z_NO_FLUSH);
	inflateEnd(&z);
	return cap - z.avail_out;
}
