/*
 * Goal: one frame header has one encoding; whatever contradicts itself or exceeds a bound is refused
 * before anything is kept. The head of an error reply survives the way, and a hostile one is harmless.
 */
#include <criterion/criterion.h>

#include "net/wire/frame.h"

static const struct stele_frame sample = {
    .op = 11,
    .flags = STELE_FRAME_FIRST,
    .req = 0x0102030405060708,
    .epoch = 42,
    .head_len = 0x3000,
    .body_left = 0x160000,
};

static enum stele_err decode(const struct stele_frame *f, struct stele_frame *out)
{
	uint8_t bytes[STELE_FRAME_LEN];
	stele_frame_encode(f, bytes);
	return stele_frame_decode(bytes, out);
}

Test(frame, golden_bytes)
{
	uint8_t bytes[STELE_FRAME_LEN];
	char hex[2 * STELE_FRAME_LEN + 1];
	stele_frame_encode(&sample, bytes);
	cr_assert_str_eq(stele_hex(bytes, sizeof(bytes), hex), "53544631"         /* STF1 */
	                                                       "0b00"             /* SHARD_PUT */
	                                                       "0800"             /* FIRST */
	                                                       "0807060504030201" /* request */
	                                                       "2a00000000000000" /* epoch */
	                                                       "00300000"
	                                                       "00001600");
}

Test(frame, comes_back_as_it_was)
{
	struct stele_frame out;
	cr_assert_eq(decode(&sample, &out), STELE_OK);
	cr_assert_eq(out.op, sample.op);
	cr_assert_eq(out.flags, sample.flags);
	cr_assert_eq(out.req, sample.req);
	cr_assert_eq(out.epoch, sample.epoch);
	cr_assert_eq(out.head_len, sample.head_len);
	cr_assert_eq(out.body_left, sample.body_left);
	cr_assert_eq(stele_frame_body(&out), STELE_FRAME_BODY_MAX);
}

Test(frame, every_other_magic_is_refused)
{
	uint8_t bytes[STELE_FRAME_LEN];
	struct stele_frame out;
	stele_frame_encode(&sample, bytes);
	for (int bit = 0; bit < 32; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(stele_frame_decode(bytes, &out), STELE_ERR_PROTOCOL, "bit %d", bit);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* The rules of net/PROTOCOL.md, written once more and differently. */
static bool lawful(const struct stele_frame *f)
{
	bool reply = f->flags & 1, end = f->flags & 2, err = f->flags & 4, first = f->flags & 8,
	     abort = f->flags & 16;
	if (f->flags > 31 || f->head_len > 262144 || f->body_left > 67108864)
		return false;
	if (abort)
		return f->flags == 18 && !f->head_len && !f->body_left && f->req;
	if (err)
		return reply && end && first && !f->body_left;
	if (!f->req || end != (f->body_left <= 1048576))
		return false;
	return first || (!f->head_len && f->body_left);
}

Test(frame, exactly_the_lawful_ones_pass)
{
	static const uint32_t heads[] = {0, 1, 262144, 262145, UINT32_MAX};
	static const uint32_t bodies[] = {0,       1,        1048575,  1048576,
	                                  1048577, 67108864, 67108865, UINT32_MAX};
	unsigned passed = 0;
	for (unsigned flags = 0; flags < 65536; flags++)
		for (size_t h = 0; h < 5; h++)
			for (size_t b = 0; b < 8; b++)
				for (uint64_t req = 0; req < 2; req++) {
					struct stele_frame f = {.op = 1,
					                        .flags = (uint16_t)flags,
					                        .req = req,
					                        .head_len = heads[h],
					                        .body_left = bodies[b]};
					struct stele_frame out;
					bool ok = decode(&f, &out) == STELE_OK;
					cr_assert_eq(ok, lawful(&f),
					             "flags %u head %u body %u req %u", flags,
					             heads[h], bodies[b], (unsigned)req);
					passed += ok;
				}
	cr_assert_gt(passed, 20);
}

Test(frame, error_heads)
{
	uint8_t head[STELE_WIRE_ERROR_MAX];
	size_t len = stele_wire_error_encode(STELE_ERR_BUSY, "slot 3: busy", head);
	cr_assert_eq(len, 4u + 12);
	cr_assert_eq(stele_wire_error_decode(head, len), STELE_ERR_BUSY);
	cr_assert_str_eq(stele_detail(), "slot 3: busy");
	cr_assert_eq(stele_wire_error_encode(STELE_ERR_IO, "", head), 4u);
	cr_assert_eq(stele_wire_error_decode(head, 4), STELE_ERR_IO);
}

Test(frame, a_long_detail_is_cut)
{
	uint8_t head[STELE_WIRE_ERROR_MAX];
	char detail[STELE_DETAIL_MAX];
	memset(detail, 'x', sizeof(detail));
	detail[sizeof(detail) - 1] = '\0';
	size_t len = stele_wire_error_encode(STELE_ERR_IO, detail, head);
	cr_assert_eq(len, STELE_WIRE_ERROR_MAX);
	cr_assert_eq(stele_wire_error_decode(head, len), STELE_ERR_IO);
	cr_assert_eq(strlen(stele_detail()), STELE_DETAIL_WIRE_MAX);
}

Test(frame, hostile_error_heads)
{
	uint8_t head[STELE_WIRE_ERROR_MAX + 1];
	size_t len = stele_wire_error_encode(STELE_ERR_BUSY, "busy", head);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(stele_wire_error_decode(head, cut), STELE_ERR_PROTOCOL);
	cr_assert_eq(stele_wire_error_decode(head, len + 1), STELE_ERR_PROTOCOL, "trailing byte");
	head[0] = 0; /* success is no error */
	cr_assert_eq(stele_wire_error_decode(head, len), STELE_ERR_PROTOCOL);
	head[0] = 200; /* a code from the future */
	cr_assert_eq(stele_wire_error_decode(head, len), STELE_ERR_PROTOCOL);
	len = stele_wire_error_encode(STELE_ERR_BUSY, "a\033[2Jb\nc", head);
	cr_assert_eq(stele_wire_error_decode(head, len), STELE_ERR_BUSY);
	cr_assert_str_eq(stele_detail(), "a?[2Jb?c", "terminals are not for peers to control");
}
