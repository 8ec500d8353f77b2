/*
 * Runs the tests of a program one after the other, each in a process of its own, and prints a
 * synthesis. What it does not do: theories, redirection, parallel jobs.
 * Usage: TEST [--filter SUITE/NAME], with shell patterns; other arguments are ignored.
 */
#include <criterion/criterion.h>

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SUITES_MAX 64
#define EXIT_SKIP  77

/* Debian's LevelDB is not built for the sanitizer, so the atomics by which it orders its own threads are not seen: what it, or
 * the C++ library that only it uses, copies and compares is not reported. Its locks stay visible ("called_from_lib" would hide
 * them too, and with them what orders our own threads). */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:leveldb\nrace:libstdc++\n";
}

static struct plain_test *tests;
static struct {
	const char *name;
	const struct plain_options *options;
} suites[SUITES_MAX];
static int suites_n;
static bool failed; /* in a test's process */

void plain_add(struct plain_test *test)
{
	struct plain_test **at = &tests;
	while (*at)
		at = &(*at)->next;
	*at = test;
}

void plain_add_suite(const char *suite, const struct plain_options *options)
{
	if (suites_n == SUITES_MAX)
		abort();
	suites[suites_n].name = suite;
	suites[suites_n++].options = options;
}

void plain_failed(bool fatal, const char *file, int line, const char *what, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "[----] %s:%d: %s;", file, line, what);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	failed = true;
	if (fatal)
		_exit(1);
}

void plain_skip(const char *fmt, ...)
{
	va_list ap;
	fputs("[SKIP]", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_SKIP);
}

void plain_log(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static const struct plain_options *suite_options(const char *name)
{
	static const struct plain_options none;
	for (int i = 0; i < suites_n; i++) {
		if (strcmp(suites[i].name, name) == 0)
			return suites[i].options;
	}
	return &none;
}

/* In the test's own process. */
static void run_here(const struct plain_test *test, void *param)
{
	const struct plain_options *suite = suite_options(test->suite);
	void (*init)(void) = test->options->init ? test->options->init : suite->init;
	void (*fini)(void) = test->options->fini ? test->options->fini : suite->fini;
	if (init)
		init();
	if (test->run_with)
		test->run_with(param);
	else
		test->run();
	if (fini)
		fini();
	exit(failed ? 1 : 0); /* the sanitizer has its say at exit */
}

enum verdict { PASSED, FAILED, SKIPPED };

static enum verdict run_one(const struct plain_test *test, void *param, size_t i)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0)
		run_here(test, param);
	int status;
	if (waitpid(pid, &status, 0) != pid)
		abort();
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		return SKIPPED;
	bool good = test->options->signal
	                ? WIFSIGNALED(status) && WTERMSIG(status) == test->options->signal
	                : WIFEXITED(status) && WEXITSTATUS(status) == test->options->exit_code;
	if (good)
		return PASSED;
	fprintf(stderr, "[FAIL] %s::%s (%zu): status %x\n", test->suite, test->name, i,
	        (unsigned)status);
	return FAILED;
}

static bool chosen(const struct plain_test *test, const char *filter)
{
	char name[256];
	snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
	return !test->options->disabled && (!filter || fnmatch(filter, name, 0) == 0);
}

int main(int argc, char **argv)
{
	const char *filter = NULL;
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "--filter") == 0)
			filter = argv[i + 1];
	}
	int count[3] = {0};
	for (struct plain_test *test = tests; test; test = test->next) {
		if (!chosen(test, filter))
			continue;
		struct plain_params params = {.n = 1};
		if (test->params)
			params = test->params();
		for (size_t i = 0; i < params.n; i++)
			count[run_one(test, (char *)params.first + i * params.size, i)]++;
	}
	fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Skipped: %d\n",
	        count[PASSED] + count[FAILED], count[PASSED], count[FAILED], count[SKIPPED]);
	return count[FAILED] ? 1 : 0;
}
