/* The error table and the thread's line of detail. Knows nothing of who prints it. */
#include "storage/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[STELE_DETAIL_MAX];

const char *stele_err_name(enum stele_err err)
{
	switch (err) {
#define X(name, code, text)                                                                        \
	case STELE_ERR_##name:                                                                     \
		return #name;
		STELE_ERR_MAP(X)
#undef X
	}
	return "UNKNOWN";
}

const char *stele_err_text(enum stele_err err)
{
	switch (err) {
#define X(name, code, text)                                                                        \
	case STELE_ERR_##name:                                                                     \
		return text;
		STELE_ERR_MAP(X)
#undef X
	}
	return "unknown error";
}

enum stele_err stele_err_from_wire(unsigned code)
{
	switch (code) {
#define X(name, number, text)                                                                      \
	case number:                                                                               \
		return STELE_ERR_##name;
		STELE_ERR_MAP(X)
#undef X
	}
	return STELE_ERR_PROTOCOL;
}

enum stele_err stele_fail(enum stele_err err, const char *fmt, ...)
{
	/* Formatted aside first: the arguments may point into the detail itself. */
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	memcpy(detail, line, sizeof(line));
	return err;
}

enum stele_err stele_wrap(enum stele_err err, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(line))
		snprintf(line + n, sizeof(line) - (size_t)n, ": %s", detail);
	memcpy(detail, line, sizeof(line));
	return err;
}

static enum stele_err classify(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
		return STELE_ERR_FULL;
	case ENOMEM:
		return STELE_ERR_NOMEM;
	case ENOENT:
	case ENOTDIR:
		return STELE_ERR_NOT_FOUND;
	case EEXIST:
		return STELE_ERR_EXISTS;
	case EACCES:
	case EPERM:
		return STELE_ERR_DENIED;
	case ECANCELED:
		return STELE_ERR_CANCELLED;
	case ETIMEDOUT:
		return STELE_ERR_TIMEOUT;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return STELE_ERR_UNAVAILABLE;
	case ECONNRESET:
	case EPIPE:
		return STELE_ERR_CLOSED;
	default:
		return STELE_ERR_IO;
	}
}

enum stele_err stele_fail_errno(int errnum, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	return stele_fail(classify(errnum), "%s: %s", line, strerror(errnum));
}

const char *stele_detail(void)
{
	return detail;
}

void stele_detail_copy(char out[STELE_DETAIL_MAX])
{
	memcpy(out, detail, STELE_DETAIL_MAX);
}

void stele_detail_clear(void)
{
	detail[0] = '\0';
}

int stele_err_exit_code(enum stele_err err)
{
	switch (err) {
	case STELE_OK:
		return 0;
	case STELE_ERR_USAGE:
		return 2;
	case STELE_ERR_DEGRADED:
		return 3;
	case STELE_ERR_NOT_FOUND:
		return 4;
	case STELE_ERR_CORRUPT:
		return 5;
	case STELE_ERR_DENIED:
		return 6;
	case STELE_ERR_UNAVAILABLE:
	case STELE_ERR_TIMEOUT:
	case STELE_ERR_CLOSED:
	case STELE_ERR_BUSY:
		return 7;
	default:
		return 1;
	}
}
