/* Goal: the canonical writer gives RFC 8785's bytes for everything that it can write, and taking
 * fields apart accepts nothing that is out of bounds. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/anchor/canon.h"

Test(canon, golden)
{
	static const char all[] = "\x01\x07\b\t\n\v\f\r\x1f \"\\/\x7f\u00e9\u2014";
	static const char want[] =
	    "{\"a\":\"\\u0001\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\x7f\u00e9\u2014\","
	    "\"b\":[],\"c\":{},\"d\":[0,9007199254740991,{\"x\":\"00ff\"}],\"e\":\"\"}";
	struct stele_canon j = {0};
	stele_canon_object(&j, NULL);
	stele_canon_string(&j, "a", all, strlen(all));
	stele_canon_array(&j, "b");
	stele_canon_close(&j, ']');
	stele_canon_object(&j, "c");
	stele_canon_close(&j, '}');
	stele_canon_array(&j, "d");
	stele_canon_number(&j, NULL, 0);
	stele_canon_number(&j, NULL, STELE_CANON_NUMBER_MAX);
	stele_canon_object(&j, NULL);
	stele_canon_hex(&j, "x", "\x00\xff", 2);
	stele_canon_close(&j, '}');
	stele_canon_close(&j, ']');
	stele_canon_string(&j, "e", "", 0);
	cr_assert(!stele_canon_is(&j, want, strlen(want) - 1)); /* still open */
	stele_canon_close(&j, '}');
	cr_assert_str_eq(j.text, want);
	cr_assert(stele_canon_is(&j, want, strlen(want)));
	cr_assert(!stele_canon_is(&j, want, strlen(want) - 1));
	/* and it parses back to the same strings */
	json_t *o;
	char text[64];
	size_t len;
	cr_assert_eq(stele_canon_parse(want, strlen(want), &o), STELE_OK, "%s", stele_detail());
	cr_assert(stele_canon_get_string(o, "a", text, sizeof(text), &len));
	cr_assert_eq(len, strlen(all));
	cr_assert_arr_eq(text, all, len);
	json_decref(o);
	stele_canon_finish(&j);
}

Test(canon, grows_to_any_length)
{
	struct stele_canon j = {0};
	stele_canon_array(&j, NULL);
	for (uint64_t i = 0; i < 20000; i++)
		stele_canon_number(&j, NULL, i % 10);
	stele_canon_close(&j, ']');
	cr_assert(!j.failed);
	cr_assert_eq(j.len, 2u * 20000 + 1);
	cr_assert_eq(j.text[j.len], '\0');
	stele_canon_finish(&j);
}

Test(canon, parsing_refuses)
{
	static const char *const bad[] = {"",
	                                  "[]",
	                                  "1",
	                                  "{",
	                                  "{}x",
	                                  "{\"a\":1,\"a\":1}",
	                                  "{\"a\":\"\\u0000\"}",
	                                  "{\"a\":\"\xff\"}",
	                                  "{\"a\":1e999}",
	                                  "nul"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *o;
		cr_assert_eq(stele_canon_parse(bad[i], strlen(bad[i]), &o), STELE_ERR_CORRUPT, "%s",
		             bad[i]);
	}
}

Test(canon, fields_have_bounds)
{
	static const char text[] =
	    "{\"n\":5,\"neg\":-1,\"real\":5.0,\"big\":9223372036854775807,\"s\":\"abc\","
	    "\"hex\":\"0aff\",\"HEX\":\"0AFF\",\"list\":[\"0aff\"],\"t\":true}";
	static const char *const keys[] = {"n",   "neg", "real", "big", "s",
	                                   "hex", "HEX", "list", "t",   NULL};
	json_t *o;
	uint64_t n = 7;
	uint8_t two[2];
	char s[4];
	size_t len;
	struct stele_hash h[1];
	cr_assert_eq(stele_canon_parse(text, strlen(text), &o), STELE_OK);
	cr_assert(stele_canon_get_number(o, "n", 5, &n));
	cr_assert(!stele_canon_get_number(o, "n", 4, &n));
	cr_assert(!stele_canon_get_number(o, "neg", UINT64_MAX, &n));
	cr_assert(!stele_canon_get_number(o, "real", UINT64_MAX, &n));
	cr_assert(!stele_canon_get_number(o, "big", STELE_CANON_NUMBER_MAX, &n));
	cr_assert(!stele_canon_get_number(o, "t", 5, &n));
	cr_assert(!stele_canon_get_number(o, "none", 5, &n));
	cr_assert(stele_canon_get_hex(o, "hex", two, 2));
	cr_assert(!stele_canon_get_hex(o, "hex", two, 1));
	cr_assert(!stele_canon_get_hex(o, "HEX", two, 2));
	cr_assert(!stele_canon_get_hex(o, "n", two, 2));
	cr_assert(stele_canon_get_string(o, "s", s, 4, &len));
	cr_assert(!stele_canon_get_string(o, "s", s, 3, &len));
	cr_assert(!stele_canon_get_string(o, "n", s, 4, &len));
	cr_assert(!stele_canon_get_hashes(o, "list", h, 1, &len)); /* too short for one */
	cr_assert(!stele_canon_get_hashes(o, "list", h, 0, &len));
	cr_assert(!stele_canon_get_hashes(o, "s", h, 1, &len));
	cr_assert(stele_canon_only(o, keys));
	cr_assert(!stele_canon_only(o, keys + 1));
	cr_assert(!stele_canon_only(json_object_get(o, "list"), keys));
	cr_assert(!stele_canon_only(NULL, keys));
	json_decref(o);
}
