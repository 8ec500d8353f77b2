/*
 * A stand-in for the part of Criterion that our tests use, for builds with ThreadSanitizer only:
 * Criterion maps its test arena at addresses that TSan reserves and aborts before the first test
 * (a known bug upstream). Same macros, same meaning: each test runs in a process of its own.
 * Implemented in ../plain.c.
 */
#ifndef TESTS_PLAIN_CRITERION_H
#define TESTS_PLAIN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct plain_options {
	void (*init)(void);
	void (*fini)(void);
	int signal;
	int exit_code;
	double timeout;
	bool disabled;
	const char *description;
};

struct plain_params {
	void *first;
	size_t size;
	size_t n;
};

struct plain_test {
	const char *suite;
	const char *name;
	void (*run)(void);
	void (*run_with)(void *param);
	struct plain_params (*params)(void);
	const struct plain_options *options; /* the test's, or NULL */
	struct plain_test *next;
};

void plain_add(struct plain_test *test);
void plain_add_suite(const char *suite, const struct plain_options *options);
/* Notes a failed check; does not return when fatal. */
void plain_failed(bool fatal, const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void plain_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void plain_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define PLAIN_REGISTER(s, n, ...)                                                                  \
	__attribute__((constructor)) static void plain_register_##s##_##n(void)                    \
	{                                                                                          \
		static struct plain_test test = {.suite = #s, .name = #n, __VA_ARGS__};            \
		plain_add(&test);                                                                  \
	}

#define Test(s, n, ...)                                                                            \
	static void plain_##s##_##n(void);                                                         \
	static const struct plain_options plain_options_##s##_##n = {.description = NULL,          \
								     ##__VA_ARGS__};               \
	PLAIN_REGISTER(s, n, .run = plain_##s##_##n, .options = &plain_options_##s##_##n)          \
	static void plain_##s##_##n(void)

#define TestSuite(s, ...)                                                                          \
	__attribute__((constructor)) static void plain_suite_##s(void)                             \
	{                                                                                          \
		static const struct plain_options options = {.description = NULL, ##__VA_ARGS__};  \
		plain_add_suite(#s, &options);                                                     \
	}                                                                                          \
	struct plain_semicolon_##s

#define PLAIN_CHECK(fatal, ok, what, ...)                                                          \
	do {                                                                                       \
		if (!(ok))                                                                         \
			plain_failed(fatal, __FILE__, __LINE__, what, " " __VA_ARGS__);             \
	} while (0)

#define cr_assert(c, ...)                 PLAIN_CHECK(true, c, #c, __VA_ARGS__)
#define cr_expect(c, ...)                 PLAIN_CHECK(false, c, #c, __VA_ARGS__)
#define cr_assert_not(c, ...)             PLAIN_CHECK(true, !(c), "not " #c, __VA_ARGS__)
#define cr_expect_not(c, ...)             PLAIN_CHECK(false, !(c), "not " #c, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)           PLAIN_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)           PLAIN_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)          PLAIN_CHECK(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)          PLAIN_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)           PLAIN_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)           PLAIN_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)          PLAIN_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)          PLAIN_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)           PLAIN_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)           PLAIN_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)          PLAIN_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)          PLAIN_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(p, ...)            PLAIN_CHECK(true, (p) == NULL, #p " is NULL", __VA_ARGS__)
#define cr_assert_not_null(p, ...)        PLAIN_CHECK(true, (p) != NULL, #p " is set", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)                                                                \
	PLAIN_CHECK(true, strcmp(a, b) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)                                                                \
	PLAIN_CHECK(false, strcmp(a, b) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...)                                                               \
	PLAIN_CHECK(true, strcmp(a, b) != 0, #a " differs from " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)                                                             \
	PLAIN_CHECK(true, memcmp(a, b, n) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)                                                             \
	PLAIN_CHECK(false, memcmp(a, b, n) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...)                                                            \
	PLAIN_CHECK(true, memcmp(a, b, n) != 0, #a " differs from " #b, __VA_ARGS__)
#define cr_assert_fail(...)               PLAIN_CHECK(true, false, "failed", __VA_ARGS__)
#define cr_fail(...)                      PLAIN_CHECK(false, false, "failed", __VA_ARGS__)
#define cr_skip_test(...)                 plain_skip(" " __VA_ARGS__)
#define cr_skip(...)                      plain_skip(" " __VA_ARGS__)
#define cr_log_info(...)                  plain_log(__VA_ARGS__)
#define cr_log_warn(...)                  plain_log(__VA_ARGS__)
#define cr_log_error(...)                 plain_log(__VA_ARGS__)

#endif
