/* Goal: every kind of mark has one text, byte for byte the documented one; every other text is
 * refused with its line named; what nodes keep of it unpacks to the same. */
#include "storage/base/sha256.h"
#include "tests/unit/statements.h"

/* clang-format off */
#define HEAD(kind, object, deposit)                                                                \
	"stele.dev/mark/v1\n"                                                                      \
	"cluster 1111111111111111111111111111111111111111111111111111111111111111\n"               \
	"kind " kind "\n"                                                                          \
	"object sha256:" object "\n"                                                               \
	"deposit " deposit "\n"                                                                    \
	"author 4444444444444444444444444444444444444444444444444444444444444444\n"               \
	"time 1759680000\n"                                                                        \
	"nonce 5555555555555555555555555555555555555555555555555555555555555555\n"
#define OBJECT    "2222222222222222222222222222222222222222222222222222222222222222"
#define DEPOSIT   "3333333333333333333333333333333333333333333333333333333333333333"
/* printf 'stele.dev/catalogue/v1\nbip122:000000000019d6689c085ae165831e93' | sha256sum */
#define CATALOGUE "00acbe330e2ae5a07c227c9719f69f400dfeccf09377cf6e1b48c04e818d40c2"

static const char *const golden[] = {
	[STELE_MARK_DELETE] = HEAD("delete", OBJECT, DEPOSIT),
	[STELE_MARK_HOLD] = HEAD("hold", OBJECT, DEPOSIT)
	"reason case 17, \u7b2c\u4e00\u5ba1\n",
	[STELE_MARK_RELEASE] = HEAD("release", OBJECT, DEPOSIT)
	"reason settled\n",
	[STELE_MARK_LAYOUT] = HEAD("layout", OBJECT, DEPOSIT)
	"layout 0100000001000000"
	"666666666666666666666666666666666666666666666666666666666666666600000100e8030000\n",
	[STELE_MARK_LOGGED] = HEAD("logged", OBJECT, DEPOSIT)
	"logid 7777777777777777777777777777777777777777777777777777777777777777\n"
	"index 18446744073709551615\n",
	[STELE_MARK_PRUNED] = HEAD("pruned", OBJECT, DEPOSIT)
	"node geth-3\n"
	"chain eip155:1\n"
	"height 15537393\n",
	[STELE_MARK_CATALOGUE] = HEAD("catalogue", CATALOGUE, "-")
	"chain bip122:000000000019d6689c085ae165831e93\n"
	"first 0\n"
	"last 119964\n"
	"first-parent 0000000000000000000000000000000000000000000000000000000000000000\n"
	"last-hash 8888888888888888888888888888888888888888888888888888888888888888\n"
	"count 119965\n"
	"segment sha256:9999999999999999999999999999999999999999999999999999999999999999\n"
	"index sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
	"level linked\n",
};
/* clang-format on */
#define KINDS (sizeof(golden) / sizeof(golden[0]))

static struct stele_hash fill(uint8_t v)
{
	struct stele_hash h;
	memset(h.b, v, sizeof(h.b));
	return h;
}

static struct stele_mark golden_fields(enum stele_mark_kind kind)
{
	struct stele_mark m = {
	    .cluster = fill(0x11),
	    .kind = kind,
	    .object = fill(0x22),
	    .has_deposit = true,
	    .deposit = fill(0x33),
	    .time = 1759680000,
	    .nonce = fill(0x55),
	};
	memset(m.author.b, 0x44, sizeof(m.author.b));
	switch (kind) {
	case STELE_MARK_DELETE:
		break;
	case STELE_MARK_HOLD:
		strcpy(m.u.hold.reason, "case 17, \u7b2c\u4e00\u5ba1");
		break;
	case STELE_MARK_RELEASE:
		strcpy(m.u.hold.reason, "settled");
		break;
	case STELE_MARK_LAYOUT:
		m.u.layout.generation = 1;
		m.u.layout.piece = (struct stele_piece){fill(0x66), 65536, 1000};
		break;
	case STELE_MARK_LOGGED:
		m.u.logged.logid = fill(0x77);
		m.u.logged.index = UINT64_MAX;
		break;
	case STELE_MARK_PRUNED:
		strcpy(m.u.pruned.node, "geth-3");
		strcpy(m.u.pruned.caip2, "eip155:1");
		m.u.pruned.height = 15537393;
		break;
	case STELE_MARK_CATALOGUE:
		m.has_deposit = false;
		memset(&m.deposit, 0, sizeof(m.deposit));
		strcpy(m.u.catalogue.caip2, "bip122:000000000019d6689c085ae165831e93");
		stele_catalogue_id(m.u.catalogue.caip2, &m.object);
		m.u.catalogue.last = 119964;
		m.u.catalogue.count = 119965;
		m.u.catalogue.last_hash = fill(0x88);
		m.u.catalogue.segment = fill(0x99);
		m.u.catalogue.index = fill(0xaa);
		m.u.catalogue.linked = true;
		break;
	}
	return m;
}

static enum stele_err again(const char *text, size_t len, char *out, size_t *out_len)
{
	struct stele_mark m;
	STELE_TRY(stele_mark_decode(text, len, &m));
	cr_assert_eq(stele_mark_encode(&m, out, out_len), STELE_OK, "%s", stele_detail());
	return STELE_OK;
}

Test(mark, golden_texts)
{
	char text[STELE_MARK_MAX];
	size_t len;
	for (unsigned k = 1; k < KINDS; k++) {
		struct stele_mark m = golden_fields(k), back;
		cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_OK, "%s", stele_detail());
		cr_assert_eq(len, strlen(golden[k]), "kind %u:\n%.*s", k, (int)len, text);
		cr_assert_arr_eq(text, golden[k], len);
		cr_assert_eq(stele_mark_decode(text, len, &back), STELE_OK, "%s", stele_detail());
		cr_assert(statement_mark_same(&back, &m));
	}
	cr_assert_str_eq(stele_mark_kind_name(STELE_MARK_LOGGED), "logged");
	cr_assert_str_eq(stele_mark_kind_name(KINDS), "?");
	cr_assert_str_eq(stele_mark_kind_name(0), "?");
}

Test(mark, round_trip)
{
	uint64_t seed = 2;
	char text[STELE_MARK_MAX];
	size_t len;
	for (int i = 0; i < 7000; i++) {
		struct stele_mark m, back;
		statement_mark(&seed, 1 + i % (KINDS - 1), &m);
		cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_OK, "%s", stele_detail());
		cr_assert_eq(stele_mark_decode(text, len, &back), STELE_OK, "%s", stele_detail());
		cr_assert(statement_mark_same(&m, &back));
	}
}

Test(mark, every_mutation_is_refused_or_canonical)
{
	for (unsigned k = 1; k < KINDS; k++)
		cr_assert_gt(statement_mutate(golden[k], strlen(golden[k]), again), 1000u);
}

static void refused(enum stele_mark_kind kind, const char *from, const char *to, const char *line)
{
	char text[2 * STELE_MARK_MAX];
	struct stele_mark m;
	const char *at = strstr(golden[kind], from);
	cr_assert_not_null(at, "%s", from);
	int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - golden[kind]), golden[kind],
	                   to, at + strlen(from));
	cr_assert_eq(stele_mark_decode(text, (size_t)len, &m), STELE_ERR_CORRUPT, "%s", to);
	cr_assert_not_null(strstr(stele_detail(), line), "\"%s\" does not name %s", stele_detail(),
	                   line);
}

Test(mark, refusals_name_their_line)
{
	refused(STELE_MARK_DELETE, "mark/v1", "deposit/v1", "line 1 ");
	refused(STELE_MARK_DELETE, "kind delete", "kind remove", "line 3 (kind)");
	refused(STELE_MARK_DELETE, "deposit " DEPOSIT, "deposit -", "deposit");
	refused(STELE_MARK_DELETE, "5555\n", "5555\nreason x\n", "line 9");
	refused(STELE_MARK_HOLD, "reason case", "reason  case", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "reason case", "reason \xff", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "reason case", "reason \xc0\xaf", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "reason case", "reason \xed\xa0\x80", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "reason case", "reason \xc2\x85", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "reason case", "reason a\tb", "line 9 (reason)");
	refused(STELE_MARK_HOLD, "kind hold", "kind delete", "line 9");
	refused(STELE_MARK_RELEASE, "settled", "-", "line 9 (reason)");
	refused(STELE_MARK_LAYOUT, "layout 01", "layout 00", "layout");
	refused(STELE_MARK_LAYOUT, "layout 0100000001", "layout 0100000000", "line 9 (layout)");
	refused(STELE_MARK_LAYOUT, "layout 0100000001", "layout 0100000002", "line 9 (layout)");
	refused(STELE_MARK_LAYOUT, "e8030000", "00000000", "line 9 (layout)");
	refused(STELE_MARK_LAYOUT, "e8030000", "e80300ff", "line 9 (layout)");
	refused(STELE_MARK_LOGGED, "index 18446744073709551615", "index 18446744073709551616",
	        "line 10 (index)");
	refused(STELE_MARK_PRUNED, "eip155:1", "eip155:", "line 10 (chain)");
	refused(STELE_MARK_CATALOGUE, "deposit -", "deposit " DEPOSIT, "deposit");
	refused(STELE_MARK_CATALOGUE, "first 0", "first 119965", "last");
	refused(STELE_MARK_CATALOGUE, CATALOGUE, OBJECT, "object");
	refused(STELE_MARK_CATALOGUE, "level linked", "level true", "line 17 (level)");
}

Test(mark, fields_without_text_are_invalid)
{
	char text[STELE_MARK_MAX];
	size_t len;
	struct stele_mark m = golden_fields(STELE_MARK_DELETE);
	m.kind = 0;
	cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_ERR_INVALID);
	m.kind = KINDS;
	cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_ERR_INVALID);
	m = golden_fields(STELE_MARK_DELETE);
	m.has_deposit = false;
	cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_ERR_INVALID);
	m = golden_fields(STELE_MARK_LAYOUT);
	m.u.layout.generation = 0;
	cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_ERR_INVALID);
	m = golden_fields(STELE_MARK_HOLD);
	strcpy(m.u.hold.reason, "two\nlines");
	cr_assert_eq(stele_mark_encode(&m, text, &len), STELE_ERR_INVALID);
}

Test(mark, pack)
{
	uint8_t packed[STELE_MARK_PACKED_MAX];
	struct stele_sig sig, back;
	const char *text;
	size_t len, text_len;
	memset(sig.b, 0x77, sizeof(sig.b));
	cr_assert_eq(stele_mark_pack("abc", 3, &sig, packed, &len), STELE_OK);
	cr_assert_eq(len, 4u + 3u + 64u);
	cr_assert_arr_eq(packed, "\3\0\0\0abc\x77", 8);
	cr_assert_eq(stele_mark_unpack(packed, len, &text, &text_len, &back), STELE_OK);
	cr_assert_eq(text_len, 3u);
	cr_assert_arr_eq(text, "abc", 3);
	cr_assert_arr_eq(&back, &sig, sizeof(sig));
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(stele_mark_unpack(packed, cut, &text, &text_len, &back),
		             STELE_ERR_CORRUPT);
	cr_assert_eq(stele_mark_unpack(packed, len + 1, &text, &text_len, &back),
	             STELE_ERR_CORRUPT);
	packed[3] = 0xff; /* a length that would overflow */
	cr_assert_eq(stele_mark_unpack(packed, len, &text, &text_len, &back), STELE_ERR_CORRUPT);
	cr_assert_eq(stele_mark_pack("", 0, &sig, packed, &len), STELE_ERR_INVALID);
	cr_assert_eq(stele_mark_pack((char *)packed, STELE_MARK_MAX + 1, &sig, packed, &len),
	             STELE_ERR_INVALID);
}
