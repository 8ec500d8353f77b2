/*
 * What a fuzz target is: libFuzzer's entry point, and seeds to start from, made by code so that they
 * are always valid for the format of today. Each fuzz_<noun>.c defines both functions.
 *
 * Built in two ways (CMakeLists.txt): with libFuzzer (-DSTELE_FUZZ=ON, clang), and in every build with
 * driver.c, which runs a fixed set of mutated seeds under ctest.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX (256u << 10)

/* One input. A property that does not hold is an abort (FUZZ_CHECK). Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes seed i to out (FUZZ_INPUT_MAX bytes) and returns its length; 0: there are only i seeds. */
size_t fuzz_seed(unsigned i, uint8_t *out);

/* Also with NDEBUG, and with the place. */
#define FUZZ_CHECK(expr) ((expr) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #expr))
_Noreturn void fuzz_failed(const char *file, int line, const char *expr);

#endif
