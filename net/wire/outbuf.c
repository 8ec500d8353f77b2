/* The pair of send buffers. Knows nothing of what it carries. */
#include "net/wire/outbuf.h"

#include <assert.h>
#include <stdlib.h>

enum stele_err stele_outbuf_init(struct stele_outbuf *o, size_t cap)
{
	*o = (struct stele_outbuf){.cap = cap};
	for (int i = 0; i < 2; i++) {
		o->buf[i] = aligned_alloc(STELE_PAGE, cap);
		if (!o->buf[i]) {
			stele_outbuf_finish(o);
			return stele_fail(STELE_ERR_NOMEM, "connection: no memory to send from");
		}
	}
	return STELE_OK;
}

void stele_outbuf_finish(struct stele_outbuf *o)
{
	free(o->buf[0]);
	free(o->buf[1]);
	*o = (struct stele_outbuf){0};
}

void stele_outbuf_add(struct stele_outbuf *o, const void *bytes, size_t len)
{
	assert(len <= stele_outbuf_room(o));
	memcpy(o->buf[o->fill] + o->fill_len, bytes, len);
	o->fill_len += len;
}

const void *stele_outbuf_drain(struct stele_outbuf *o, size_t *len)
{
	if (o->out_at == o->out_len) {
		o->fill = !o->fill;
		o->out_at = 0;
		o->out_len = o->fill_len;
		o->fill_len = 0;
	}
	*len = o->out_len - o->out_at;
	return o->buf[!o->fill] + o->out_at;
}

void stele_outbuf_drained(struct stele_outbuf *o, size_t len)
{
	assert(len <= o->out_len - o->out_at);
	o->out_at += len;
}
