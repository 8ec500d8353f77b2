/* Keeps what a step could not take yet, and joins it with what comes. Knows no format. */
#include "storage/ledger/feeder.h"

#include <assert.h>
#include <stdlib.h>

static size_t kept(const struct stele_feeder *f)
{
	return f->end - f->at;
}

/* One step over a view; takes what it used off the view. *took: it made progress. */
static enum stele_err step(struct stele_feeder *f, const uint8_t *view, size_t len, bool final,
                           size_t *used)
{
	size_t need = len + 1;
	*used = 0;
	STELE_TRY(f->step(f->ctx, view, len, final, used, &need));
	assert(*used <= len);
	assert(*used > 0 || (!final && need > len && need <= f->need_max));
	f->need = *used ? 1 : need;
	f->offset += *used;
	return STELE_OK;
}

/* Room for `more` bytes behind buf[end). Moving what is kept to the front costs little by little,
 * as the buffer is made twice as large as what is needed. */
static enum stele_err make_room(struct stele_feeder *f, size_t more)
{
	if (f->cap - f->end >= more)
		return STELE_OK;
	if (f->cap < 2 * (kept(f) + more)) {
		size_t cap = 2 * (kept(f) + more);
		uint8_t *buf = malloc(cap);
		if (!buf)
			return stele_fail(STELE_ERR_NOMEM, "%zu bytes of a chain file", cap);
		if (kept(f))
			memcpy(buf, f->buf + f->at, kept(f));
		free(f->buf);
		f->buf = buf;
		f->cap = cap;
	} else if (kept(f)) {
		memmove(f->buf, f->buf + f->at, kept(f));
	}
	f->end = kept(f);
	f->at = 0;
	return STELE_OK;
}

static enum stele_err keep(struct stele_feeder *f, const uint8_t *p, size_t len)
{
	STELE_TRY(make_room(f, len));
	uint8_t *to = f->buf + f->end;
	if (f->key) {
		uint64_t offset = f->offset + kept(f);
		for (size_t i = 0; i < len; i++)
			to[i] = p[i] ^ f->key[(offset + i) & 7];
	} else {
		memcpy(to, p, len);
	}
	f->end += len;
	return STELE_OK;
}

/* Steps over what is kept while they take something. */
static enum stele_err drain(struct stele_feeder *f, bool final)
{
	while (kept(f) && (final || kept(f) >= f->need)) {
		size_t used;
		STELE_TRY(step(f, f->buf + f->at, kept(f), final, &used));
		f->at += used;
	}
	if (!kept(f))
		f->at = f->end = 0;
	return STELE_OK;
}

enum stele_err stele_feeder_feed(struct stele_feeder *f, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	while (len) {
		if (!kept(f) && !f->key) {
			size_t used;
			STELE_TRY(step(f, p, len, false, &used));
			p += used;
			len -= used;
			if (used)
				continue;
		}
		/* what is kept grows with the bytes that came, whatever length the file claims */
		size_t want = f->need > kept(f) ? f->need - kept(f) : 1;
		size_t take = want < len ? want : len;
		STELE_TRY(keep(f, p, take));
		p += take;
		len -= take;
		STELE_TRY(drain(f, false));
	}
	return STELE_OK;
}

enum stele_err stele_feeder_finish(struct stele_feeder *f)
{
	return drain(f, true);
}

void stele_feeder_reset(struct stele_feeder *f)
{
	free(f->buf);
	f->buf = NULL;
	f->at = f->end = f->cap = 0;
}
