/* Goal: errors keep their names, wire codes and exit codes; details wrap outward and stay bounded. */
#include <criterion/criterion.h>
#include <errno.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

Test(err, fail_sets_and_wrap_prefixes)
{
	cr_assert_eq(stele_fail(STELE_ERR_CORRUPT, "cell %d", 7), STELE_ERR_CORRUPT);
	cr_assert_str_eq(stele_detail(), "cell 7");
	cr_assert_eq(stele_wrap(STELE_ERR_CORRUPT, "shard %d", 3), STELE_ERR_CORRUPT);
	cr_assert_str_eq(stele_detail(), "shard 3: cell 7");
	/* a detail may be an argument of its own replacement */
	(void)stele_fail(STELE_ERR_IO, "again: %s", stele_detail());
	cr_assert_str_eq(stele_detail(), "again: shard 3: cell 7");
}

Test(err, detail_is_bounded)
{
	for (int i = 0; i < 200; i++)
		(void)stele_wrap(STELE_ERR_IO, "level %d of many", i);
	cr_assert_lt(strlen(stele_detail()), (size_t)STELE_DETAIL_MAX);
	cr_assert_eq(strncmp(stele_detail(), "level 199 of many: level 198", 28), 0);
}

Test(err, errno_is_classified)
{
	cr_assert_eq(stele_fail_errno(ENOSPC, "write %s", "x"), STELE_ERR_FULL);
	cr_assert_str_eq(stele_detail(), "write x: No space left on device");
	cr_assert_eq(stele_fail_errno(EIO, "x"), STELE_ERR_IO);
	cr_assert_eq(stele_fail_errno(ECANCELED, "x"), STELE_ERR_CANCELLED);
}

Test(err, wire_codes_round_trip)
{
	for (unsigned i = 0; i <= STELE_ERR_FENCED; i++) {
		cr_assert_eq((unsigned)stele_err_from_wire(i), i);
		cr_assert_str_neq(stele_err_name((enum stele_err)i), "UNKNOWN");
	}
	cr_assert_eq(stele_err_from_wire(9999), STELE_ERR_PROTOCOL);
	cr_assert_eq(stele_err_exit_code(STELE_ERR_CORRUPT), 5);
	cr_assert_eq(stele_err_exit_code(STELE_ERR_UNAVAILABLE), 7);
}

Test(bytes, cursor_stops_at_the_end)
{
	uint8_t raw[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	struct stele_reader r = stele_reader(raw, sizeof(raw));
	cr_assert_eq(stele_read_le64(&r), 0x0807060504030201ull);
	cr_assert_eq(stele_read_le32(&r), 0u);
	cr_assert(r.bad);
	cr_assert_eq(stele_read_u8(&r), 0); /* bad for good */
	uint8_t out[4];
	struct stele_writer w = stele_writer(out, sizeof(out));
	stele_write_le16(&w, 0x1234);
	stele_write_le32(&w, 1);
	cr_assert(w.bad);
	cr_assert_eq(stele_written(&w), 2u);
}

Test(bytes, hex)
{
	uint8_t b[2];
	char text[5];
	cr_assert(stele_unhex("0aFf", 4, b, 2, false));
	cr_assert(!stele_unhex("0aFf", 4, b, 2, true));
	cr_assert(!stele_unhex("0aF", 3, b, 2, false));
	cr_assert_str_eq(stele_hex(b, 2, text), "0aff");
}
