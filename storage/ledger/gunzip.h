/*
 * Inflates a gzip stream (RFC 1952, one member or several) as it comes, in pieces of bounded size.
 * What the format leaves open (time, operating system, name) is not looked at.
 *
 * Thread: one at a time.
 */
#ifndef STORAGE_LEDGER_GUNZIP_H
#define STORAGE_LEDGER_GUNZIP_H

#include <zlib.h>

#include "storage/base/bytes.h"

#define STELE_GUNZIP_PIECE (64u << 10)

struct stele_gunzip {
	z_stream z;
	bool open;
	bool inside; /* a member has begun and not ended */
	uint8_t *piece;
	enum stele_err (*sink)(void *ctx, const void *bytes, size_t len);
	void *ctx;
};

/* NOMEM. */
STELE_MUST_USE enum stele_err
stele_gunzip_init(struct stele_gunzip *g,
                  enum stele_err (*sink)(void *ctx, const void *bytes, size_t len), void *ctx);
/* CORRUPT: no gzip, or a checksum that fails; NOMEM; or what sink returned. */
STELE_MUST_USE enum stele_err stele_gunzip_feed(struct stele_gunzip *g, const void *bytes,
                                                size_t len);
/* CORRUPT: the stream is cut. */
STELE_MUST_USE enum stele_err stele_gunzip_finish(const struct stele_gunzip *g);
void stele_gunzip_reset(struct stele_gunzip *g); /* accepts a zeroed one */

/* The first bytes of what a gzip stream that begins so inflates to: at most cap; how many. */
size_t stele_gunzip_peek(const void *bytes, size_t len, uint8_t *out, size_t cap);

#endif
