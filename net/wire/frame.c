/* The frame header's codec, and the head of an error reply. Moves no bytes: that is conn.c. */
#include "net/wire/frame.h"

#include <assert.h>

#define FLAGS_KNOWN                                                                                \
	(STELE_FRAME_REPLY | STELE_FRAME_END | STELE_FRAME_ERR | STELE_FRAME_FIRST |               \
	 STELE_FRAME_ABORT)

void stele_frame_encode(const struct stele_frame *f, uint8_t *out)
{
	struct stele_writer w = stele_writer(out, STELE_FRAME_LEN);
	stele_write_le32(&w, STELE_FRAME_MAGIC);
	stele_write_le16(&w, f->op);
	stele_write_le16(&w, f->flags);
	stele_write_le64(&w, f->req);
	stele_write_le64(&w, f->epoch);
	stele_write_le32(&w, f->head_len);
	stele_write_le32(&w, f->body_left);
	assert(!w.bad && w.p == w.end);
}

static enum stele_err check_flags(const struct stele_frame *f)
{
	bool first = f->flags & STELE_FRAME_FIRST;
	bool end = f->flags & STELE_FRAME_END;
	bool reply = f->flags & STELE_FRAME_REPLY;
	if (f->flags & ~FLAGS_KNOWN)
		return stele_fail(STELE_ERR_PROTOCOL, "frame: unknown flags 0x%x", f->flags);
	if (f->flags & STELE_FRAME_ABORT &&
	    (f->flags != (STELE_FRAME_ABORT | STELE_FRAME_END) || f->head_len || f->body_left))
		return stele_fail(STELE_ERR_PROTOCOL, "frame: an abort with more than itself");
	if (f->flags & STELE_FRAME_ERR && (!reply || !first || !end || f->body_left))
		return stele_fail(STELE_ERR_PROTOCOL, "frame: an error that is not a whole reply");
	if (end != (f->body_left <= STELE_FRAME_BODY_MAX))
		return stele_fail(STELE_ERR_PROTOCOL, "frame: END denies %u bytes of body left",
		                  f->body_left);
	if (!first && f->head_len)
		return stele_fail(STELE_ERR_PROTOCOL, "frame: a head in a later frame");
	if (!first && !f->body_left && !(f->flags & STELE_FRAME_ABORT))
		return stele_fail(STELE_ERR_PROTOCOL, "frame: a later frame without a body");
	if (f->req == STELE_FRAME_REQ_CONN && !(f->flags & STELE_FRAME_ERR))
		return stele_fail(STELE_ERR_PROTOCOL, "frame: request id 0");
	return STELE_OK;
}

enum stele_err stele_frame_decode(const uint8_t *bytes, struct stele_frame *out)
{
	struct stele_reader r = stele_reader(bytes, STELE_FRAME_LEN);
	uint32_t magic = stele_read_le32(&r);
	struct stele_frame f = {.op = stele_read_le16(&r)};
	f.flags = stele_read_le16(&r);
	f.req = stele_read_le64(&r);
	f.epoch = stele_read_le64(&r);
	f.head_len = stele_read_le32(&r);
	f.body_left = stele_read_le32(&r);
	assert(stele_read_done(&r));
	if (magic != STELE_FRAME_MAGIC)
		return stele_fail(STELE_ERR_PROTOCOL, "frame: not Stele's protocol (magic 0x%08x)",
		                  magic);
	if (f.head_len > STELE_FRAME_HEAD_MAX)
		return stele_fail(STELE_ERR_PROTOCOL, "frame: a head of %u bytes", f.head_len);
	if (f.body_left > STELE_WIRE_BODY_MAX)
		return stele_fail(STELE_ERR_PROTOCOL, "frame: a body of %u bytes", f.body_left);
	STELE_TRY(check_flags(&f));
	*out = f;
	return STELE_OK;
}

size_t stele_wire_error_encode(enum stele_err err, const char *detail, uint8_t *out)
{
	size_t len = strlen(detail);
	if (len > STELE_DETAIL_WIRE_MAX)
		len = STELE_DETAIL_WIRE_MAX;
	struct stele_writer w = stele_writer(out, STELE_WIRE_ERROR_MAX);
	stele_write_le16(&w, (uint16_t)err);
	stele_write_le16(&w, (uint16_t)len);
	stele_write_bytes(&w, detail, len);
	assert(!w.bad);
	return stele_written(&w);
}

enum stele_err stele_wire_error_decode(const void *head, size_t len)
{
	char line[STELE_DETAIL_WIRE_MAX + 1];
	struct stele_reader r = stele_reader(head, len);
	enum stele_err err = stele_err_from_wire(stele_read_le16(&r));
	uint16_t text_len = stele_read_le16(&r);
	const uint8_t *text = stele_read_span(&r, text_len);
	if (!stele_read_done(&r) || text_len > STELE_DETAIL_WIRE_MAX || err == STELE_OK)
		return stele_fail(STELE_ERR_PROTOCOL, "a malformed error reply");
	for (uint16_t i = 0; i < text_len; i++)
		line[i] = text[i] >= ' ' && text[i] != 0x7f ? (char)text[i] : '?';
	line[text_len] = '\0';
	return stele_fail(err, "%s", line);
}
