/* Goal: a deposit has one text, byte for byte the documented one, and every other text is refused
 * with its line named. */
#include "tests/unit/statements.h"

/* clang-format off */
static const char golden_full[] =
	"stele.dev/deposit/v1\n"
	"cluster "
	"1111111111111111111111111111111111111111111111111111111111111111\n"
	"type ledger\n"
	"object sha256:"
	"2222222222222222222222222222222222222222222222222222222222222222\n"
	"length 134217728\n"
	"tree "
	"3333333333333333333333333333333333333333333333333333333333333333\n"
	"layout "
	"4444444444444444444444444444444444444444444444444444444444444444\n"
	"pool ledger\n"
	"depositor "
	"5555555555555555555555555555555555555555555555555555555555555555\n"
	"time 1759680000\n"
	"after eip155:1 23200000 "
	"6666666666666666666666666666666666666666666666666666666666666666\n"
	"chain bip122:000000000019d6689c085ae165831e93 0 119964 "
	"7777777777777777777777777777777777777777777777777777777777777777 "
	"8888888888888888888888888888888888888888888888888888888888888888\n"
	"meta "
	"9999999999999999999999999999999999999999999999999999999999999999\n"
	"plain "
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
	"sm3 "
	"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
	"nonce "
	"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\n";

static const char golden_small[] =
	"stele.dev/deposit/v1\n"
	"cluster "
	"1111111111111111111111111111111111111111111111111111111111111111\n"
	"type evidence\n"
	"object sha256:"
	"2222222222222222222222222222222222222222222222222222222222222222\n"
	"length 0\n"
	"tree "
	"3333333333333333333333333333333333333333333333333333333333333333\n"
	"layout -\n"
	"pool evidence\n"
	"depositor "
	"5555555555555555555555555555555555555555555555555555555555555555\n"
	"time 0\n"
	"after -\n"
	"chain -\n"
	"meta -\n"
	"plain -\n"
	"sm3 -\n"
	"nonce "
	"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\n";
/* clang-format on */

static struct stele_hash fill(uint8_t v)
{
	struct stele_hash h;
	memset(h.b, v, sizeof(h.b));
	return h;
}

static struct stele_deposit small_fields(void)
{
	struct stele_deposit d = {
	    .cluster = fill(0x11),
	    .type = STELE_DEPOSIT_EVIDENCE,
	    .object = fill(0x22),
	    .tree = fill(0x33),
	    .pool = "evidence",
	    .nonce = fill(0xcc),
	};
	memset(d.depositor.b, 0x55, sizeof(d.depositor.b));
	return d;
}

static struct stele_deposit full_fields(void)
{
	struct stele_deposit d = small_fields();
	d.type = STELE_DEPOSIT_LEDGER;
	d.length = 134217728;
	d.has_layout = true;
	d.layout = fill(0x44);
	strcpy(d.pool, "ledger");
	d.time = 1759680000;
	d.has_after = true;
	strcpy(d.after.caip2, "eip155:1");
	d.after.height = 23200000;
	d.after.hash = fill(0x66);
	d.has_chain = true;
	strcpy(d.chain.caip2, "bip122:000000000019d6689c085ae165831e93");
	d.chain.last = 119964;
	d.chain.first_hash = fill(0x77);
	d.chain.last_hash = fill(0x88);
	d.has_meta = d.has_plain = d.has_sm3 = true;
	d.meta = fill(0x99);
	d.plain = fill(0xaa);
	d.sm3 = fill(0xbb);
	return d;
}

static enum stele_err again(const char *text, size_t len, char *out, size_t *out_len)
{
	struct stele_deposit d;
	STELE_TRY(stele_deposit_decode(text, len, &d));
	cr_assert_eq(stele_deposit_encode(&d, out, out_len), STELE_OK, "%s", stele_detail());
	return STELE_OK;
}

Test(deposit, golden_texts)
{
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	struct stele_deposit d = full_fields(), back;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK, "%s", stele_detail());
	cr_assert_eq(len, strlen(golden_full));
	cr_assert_arr_eq(text, golden_full, len);
	cr_assert_eq(stele_deposit_decode(text, len, &back), STELE_OK, "%s", stele_detail());
	cr_assert(statement_deposit_same(&back, &d));

	d = small_fields();
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK, "%s", stele_detail());
	cr_assert_eq(len, strlen(golden_small));
	cr_assert_arr_eq(text, golden_small, len);
	struct stele_hash hash;
	char hex[STELE_HEX_LEN];
	stele_deposit_hash(text, len, &hash);
	cr_assert_str_eq(
	    stele_hash_hex(&hash, hex),
	    "7459e17e3bc0ac6003ab28c1cae607255d04b5cbdd479033f15bdf6a2c2d5aed"); /* sha256sum's */
}

Test(deposit, round_trip)
{
	uint64_t seed = 1;
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	for (int i = 0; i < 5000; i++) {
		struct stele_deposit d, back;
		memset(&back, 0xee, sizeof(back));
		statement_deposit(&seed, &d);
		cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK, "%s", stele_detail());
		cr_assert_eq(stele_deposit_decode(text, len, &back), STELE_OK, "%s",
		             stele_detail());
		cr_assert(statement_deposit_same(&d, &back));
	}
}

Test(deposit, every_mutation_is_refused_or_canonical)
{
	/* digits of hashes and numbers may change into others: that is what signatures are for */
	cr_assert_gt(statement_mutate(golden_full, strlen(golden_full), again), 10000u);
	statement_mutate(golden_small, strlen(golden_small), again);
}

static void refused(const char *from, const char *to, const char *line)
{
	char text[2 * STELE_DEPOSIT_MAX];
	struct stele_deposit d;
	const char *at = strstr(golden_full, from);
	cr_assert_not_null(at, "%s", from);
	int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - golden_full), golden_full, to,
	                   at + strlen(from));
	cr_assert_eq(stele_deposit_decode(text, (size_t)len, &d), STELE_ERR_CORRUPT, "%s", to);
	cr_assert_not_null(strstr(stele_detail(), line), "\"%s\" does not name %s", stele_detail(),
	                   line);
}

Test(deposit, refusals_name_their_line)
{
	refused("deposit/v1", "deposit/v2", "line 1 ");
	refused("stele.dev", "\xef\xbb\xbfstele.dev", "line 1 ");
	refused("cluster", "Cluster", "line 2 (cluster)");
	refused("type ledger", "type legder", "line 3 (type)");
	refused("sha256:", "SHA256:", "line 4 (object)");
	refused("length 1", "length 01", "line 5 (length)");
	refused("length 134217728", "length 18446744073709551616", "line 5 (length)");
	refused("length 134217728", "length +134217728", "line 5 (length)");
	refused("length 134217728", "length  134217728", "line 5 (length)");
	refused("length 134217728", "length 134217728 ", "line 5 (length)");
	refused("length 134217728\n", "length 134217728\r\n", "line 5 (length)");
	refused("length 134217728", "length -", "line 5 (length)");
	refused("length 134217728", "length 0", "layout");
	refused("tree 3", "tree A", "line 6 (tree)");
	refused("pool ledger", "pool -", "line 8 (pool)");
	refused("pool ledger", "pool led ger", "line 8 (pool)");
	refused("pool ledger",
	        "pool 0123456789012345678901234567890123456789012345678901234567890123",
	        "line 8 (pool)");
	refused("after eip155:1 2", "after eip155 2", "line 11 (after)");
	refused("after eip155:1 2", "after - 2", "line 11 (after)");
	refused(" 0 119964 ", " 119964 ", "line 12 (chain)");
	refused(" 0 119964 ", " 119965 119964 ", "chain");
	refused("meta 9", "meta9", "line 13 (meta)");
	refused("nonce ", "more -\nnonce ", "line 16 (nonce)");
	refused("cccc\n", "cccc", "line 16 (nonce)");
	refused("cccc\n", "cccc\n\n", "line 17");
}

Test(deposit, length_bounds)
{
	struct stele_deposit d = small_fields();
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	d.length = STELE_INLINE_MAX;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK);
	d.length++;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	d.has_layout = true;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK);
	char *big = calloc(1, STELE_DEPOSIT_MAX + 1);
	cr_assert_not_null(big);
	memcpy(big, text, len);
	cr_assert_eq(stele_deposit_decode(big, STELE_DEPOSIT_MAX + 1, &d), STELE_ERR_CORRUPT);
	free(big);
}

Test(deposit, fields_without_text_are_invalid)
{
	struct stele_deposit d = full_fields();
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	d.type = 0;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	d.type = 5;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	d = full_fields();
	strcpy(d.pool, "a b");
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	cr_assert_not_null(strstr(stele_detail(), "pool"));
	memset(d.pool, 'x', sizeof(d.pool)); /* no NUL */
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	d = full_fields();
	strcpy(d.after.caip2, "Eip155:1");
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	d = full_fields();
	d.chain.first = d.chain.last + 1;
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_ERR_INVALID);
	/* the longest of everything fits STELE_DEPOSIT_MAX (an overrun would be an assert) */
	d = full_fields();
	d.length = d.time = d.after.height = d.chain.first = d.chain.last = UINT64_MAX;
	memset(d.pool, 'x', sizeof(d.pool) - 1);
	strcpy(d.after.caip2, "abcdefgh:ABCDEFGHIJ_LMNOPQRSTUVWXYZ-12345");
	strcpy(d.chain.caip2, d.after.caip2);
	cr_assert_eq(stele_deposit_encode(&d, text, &len), STELE_OK);
}
