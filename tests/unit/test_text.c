/* Goal: any bytes become UTF-8 that a strict reader takes, good characters are kept, and a cut splits none. */
#include <criterion/criterion.h>

#include "storage/base/text.h"

#define NONE "\xef\xbf\xbd"

static void becomes(const char *text, size_t cap, const char *want)
{
	char out[64];
	memset(out, 'x', sizeof(out));
	cr_assert_str_eq(stele_text_utf8(text, out, cap), want);
	for (size_t i = cap; i < sizeof(out); i++)
		cr_assert_eq(out[i], 'x', "%zu bytes were given, byte %zu was written", cap, i);
}

Test(text, any_bytes_become_utf8)
{
	becomes("", 1, "");
	becomes("a\nb", 4, "a\nb");
	becomes("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 64,
	        "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	becomes("/disk\xff/x", 64, "/disk" NONE "/x");
	becomes("\xc3", 64, NONE);
	becomes("\xe2\x82", 64, NONE NONE);
	becomes("\xc0\xaf", 64, NONE NONE);          /* longer than it needs to be */
	becomes("\xed\xa0\x80", 64, NONE NONE NONE); /* half a surrogate pair */
	becomes("\xf4\x90\x80\x80", 64, NONE NONE NONE NONE);
}

Test(text, a_cut_splits_no_character)
{
	becomes("abc", 1, "");
	becomes("abc", 3, "ab");
	becomes("a\xc3\xa9", 3, "a");
	becomes("a\xc3\xa9", 4, "a\xc3\xa9");
	becomes("\xff\xff", 6, NONE);
	becomes("\xff\xff", 7, NONE NONE);
}
