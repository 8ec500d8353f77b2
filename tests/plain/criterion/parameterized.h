/* The parameterized tests of the stand-in; see criterion.h. */
#ifndef TESTS_PLAIN_PARAMETERIZED_H
#define TESTS_PLAIN_PARAMETERIZED_H

#include "criterion.h"

#define cr_malloc  malloc
#define cr_calloc  calloc
#define cr_realloc realloc
#define cr_free    free

#define cr_make_param_array(type, array, count, ...)                                               \
	((struct plain_params){.first = (array), .size = sizeof(type), .n = (count)})
#define ParameterizedTestParameters(s, n)                                                          \
	static struct plain_params plain_params_##s##_##n(void)
#define ParameterizedTest(param, s, n, ...)                                                        \
	static void plain_##s##_##n(param);                                                        \
	static void plain_any_##s##_##n(void *p)                                                   \
	{                                                                                          \
		plain_##s##_##n(p);                                                                \
	}                                                                                          \
	static const struct plain_options plain_options_##s##_##n = {.description = NULL,          \
								     ##__VA_ARGS__};               \
	PLAIN_REGISTER(s, n, .run_with = plain_any_##s##_##n, .params = plain_params_##s##_##n,    \
		       .options = &plain_options_##s##_##n)                                        \
	static void plain_##s##_##n(param)

#endif
