/* FUZZ_CHECK's end, for both kinds of builds. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

void fuzz_failed(const char *file, int line, const char *expr)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, expr);
	abort();
}
