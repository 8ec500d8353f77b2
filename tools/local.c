/* Opens and reads local files and pipes. Writes none: results appear whole through storage/io's stele_file_save and
 * libstele's stele_get_file. */
#include "tools/local.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/open.h"

#define POLL_MS 100 /* how soon an interruption is noticed while a pipe is silent */

static enum stele_err wrong(const char *path, const char *why)
{
	return stele_fail(STELE_ERR_USAGE, "%.350s: %s", path, why);
}

static enum stele_err interrupted(const char *path)
{
	return stele_fail(STELE_ERR_CANCELLED, "%.350s: interrupted", path);
}

/* ---- reading ---- */

enum stele_err stele_local_open(const char *path, struct stele_local *out)
{
	struct stat st;
	bool is_stdin = strcmp(path, "-") == 0;
	*out = (struct stele_local){.path = path, .length = UINT64_MAX};
	/* A pipe's opening waits for its writer, until a signal comes. */
	out->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (out->fd < 0 && errno == EINTR && stele_cli_interrupted())
		return interrupted(path);
	if (out->fd < 0)
		return wrong(path, strerror(errno));
	enum stele_err err = STELE_OK;
	if (fstat(out->fd, &st) != 0)
		err = wrong(path, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		err = wrong(path, "is a directory: name files");
	if (err != STELE_OK) {
		stele_local_close(out);
		return err;
	}
	out->regular = S_ISREG(st.st_mode);
	/* What the kernel makes up on reading (/proc) says 0. Standard input may begin in the middle. */
	if (out->regular && st.st_size > 0 && !is_stdin)
		out->length = (uint64_t)st.st_size;
	return STELE_OK;
}

enum stele_err stele_local_open_regular(const char *path, struct stele_local *out)
{
	struct stat st;
	/* Before it is opened: that of a pipe would wait. */
	if (strcmp(path, "-") == 0 || (stat(path, &st) == 0 && !S_ISREG(st.st_mode)))
		return wrong(path, "is not a regular file");
	STELE_TRY(stele_local_open(path, out));
	if (out->length == UINT64_MAX)
		out->length = 0;
	return STELE_OK;
}

void stele_local_close(struct stele_local *l)
{
	if (l->fd > STDIN_FILENO)
		close(l->fd);
	l->fd = 0;
}

static enum stele_err wait_readable(struct stele_local *l)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};
	while (!stele_cli_interrupted()) {
		int n = poll(&p, 1, POLL_MS);
		if (n > 0 || (n < 0 && errno != EINTR))
			return STELE_OK; /* read tells */
	}
	return interrupted(l->path);
}

enum stele_err stele_local_read(void *local, void *buf, size_t cap, size_t *got)
{
	struct stele_local *l = local;
	ssize_t n;
	if (!l->regular)
		STELE_TRY(wait_readable(l));
	do {
		n = read(l->fd, buf, cap < SSIZE_MAX ? cap : SSIZE_MAX);
	} while (n < 0 && errno == EINTR && !stele_cli_interrupted());
	if (n < 0 && errno == EINTR)
		return interrupted(l->path);
	if (n < 0)
		return stele_fail_errno(errno, "reading");
	*got = (size_t)n;
	l->at += *got;
	if (l->length != UINT64_MAX && (l->at > l->length || (n == 0 && l->at < l->length)))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "it changed while it was read (%" PRIu64 " bytes, now %s): try "
		                  "again when nobody writes to it",
		                  l->length, n == 0 ? "fewer" : "more");
	return STELE_OK;
}

enum stele_err stele_local_read_at(struct stele_local *l, uint64_t off, void *buf, size_t cap,
                                   size_t *got)
{
	for (*got = 0; *got < cap;) {
		ssize_t n = pread(l->fd, (char *)buf + *got, cap - *got, (off_t)(off + *got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return stele_fail_errno(errno, "reading");
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return STELE_OK;
}

enum stele_err stele_local_usage(enum stele_err err)
{
	bool system = err == STELE_ERR_NOT_FOUND || err == STELE_ERR_DENIED ||
	              err == STELE_ERR_IO || err == STELE_ERR_INVALID;
	return system ? STELE_ERR_USAGE : err;
}

/* ---- writing ---- */

enum stele_err stele_local_target(const char *path, char out[STELE_PATH_MAX])
{
	struct stat st;
	char copy[STELE_PATH_MAX];
	const char *end = path;
	char *real = NULL;
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return wrong(path, "is a directory: name a file in it");
		if (!S_ISREG(st.st_mode))
			return wrong(path,
			             "is not a regular file: without -o the bytes go to standard "
			             "output");
		real = realpath(path, NULL); /* a link stays, what it leads to is replaced */
		end = real ? real : path;
	}
	/* room for a temporary's name */
	int n = snprintf(out, STELE_PATH_MAX - 32, "%s", end);
	free(real);
	if (n <= 0 || n >= (int)STELE_PATH_MAX - 32)
		return wrong(path, n <= 0 ? "an empty name" : "the path is too long");
	if (out[n - 1] == '/')
		return wrong(path, "there is no such directory");
	strcpy(copy, out);
	const char *dir = dirname(copy);
	if (stat(dir, &st) != 0)
		return wrong(path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return wrong(path, strerror(ENOTDIR));
	if (access(dir, W_OK | X_OK) != 0)
		return wrong(path, strerror(errno));
	return STELE_OK;
}
