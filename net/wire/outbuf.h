/*
 * What a transport wants sent: two page-aligned buffers, of which one is filled while the other is
 * on its way to the kernel. Memory is taken at init and touched as it is used. One connection, one
 * loop.
 */
#ifndef NET_WIRE_OUTBUF_H
#define NET_WIRE_OUTBUF_H

#include "storage/base/bytes.h"

struct stele_outbuf {
	uint8_t *buf[2];
	size_t cap;    /* of each */
	unsigned fill; /* which one is being filled; the other one drains */
	size_t fill_len;
	size_t out_at; /* drained so far */
	size_t out_len;
};

/* cap: a multiple of the page. NOMEM. */
STELE_MUST_USE enum stele_err stele_outbuf_init(struct stele_outbuf *o, size_t cap);
void stele_outbuf_finish(struct stele_outbuf *o); /* accepts a zeroed one */

static inline size_t stele_outbuf_room(const struct stele_outbuf *o)
{
	return o->cap - o->fill_len;
}
/* len must fit the room (assert). */
void stele_outbuf_add(struct stele_outbuf *o, const void *bytes, size_t len);
/* What to send next, in place until drained says that it went; *len 0: nothing. */
const void *stele_outbuf_drain(struct stele_outbuf *o, size_t *len);
void stele_outbuf_drained(struct stele_outbuf *o, size_t len);

#endif
