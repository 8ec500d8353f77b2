/* libstele's files: put from one, get into one that appears only when it is whole. */
#include <inttypes.h>
#include <stdio.h>

#include "net/client/facade_private.h"

/* ---- put ---- */

struct file_source {
	struct stele_env *env;
	const char *path;
	int fd;
	uint64_t at;
};

static enum stele_err read_file(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct file_source *f = ctx;
	struct iovec iov = {.iov_base = buf, .iov_len = cap};
	struct stele_op op = {
	    .kind = STELE_OP_READV, .fd = f->fd, .iov = &iov, .niov = 1, .off = f->at};
	int64_t n = stele_env_call(f->env, &op);
	if (n < 0)
		return stele_fail_errno((int)-n, "%s", f->path);
	*got = (size_t)n;
	f->at += (uint64_t)n;
	return STELE_OK;
}

enum stele_err stele_put_file(struct stele *s, const char *path, const struct stele_put_opts *opts,
                              struct stele_put_result *out)
{
	struct file_source f = {.env = s->env, .path = path, .fd = -1};
	struct stele_stat st;
	STELE_TRY(stele_file_stat(s->env, path, &st));
	if (st.is_dir)
		return stele_fail(STELE_ERR_USAGE, "%s is a directory: name files", path);
	STELE_TRY(stele_file_open(s->env, path, STELE_OPEN_READ, 0, &f.fd));
	struct stele_source src = {.read = read_file, .ctx = &f, .length = st.size};
	enum stele_err err = stele_put(s, &src, opts, out);
	stele_file_close(s->env, &f.fd);
	return err == STELE_OK ? err : stele_wrap(err, "%s", path);
}

/* ---- get ---- */

struct file_sink {
	struct stele_env *env;
	const char *path;
	char temp[STELE_PATH_MAX]; /* beside it, until the whole hash matched */
	int fd;
	uint64_t at;
};

static enum stele_err write_file(void *ctx, const void *bytes, size_t len)
{
	struct file_sink *f = ctx;
	STELE_TRY(stele_file_pwrite(f->env, f->fd, bytes, len, f->at, 0));
	f->at += len;
	return STELE_OK;
}

static enum stele_err restart_file(void *ctx)
{
	struct file_sink *f = ctx;
	struct stele_op op = {.kind = STELE_OP_TRUNCATE, .fd = f->fd};
	int64_t n = stele_env_call(f->env, &op);
	f->at = 0;
	return n < 0 ? stele_fail_errno((int)-n, "%s", f->temp) : STELE_OK;
}

static enum stele_err open_temp(struct file_sink *f)
{
	uint64_t tag = stele_env_random_u64(f->env);
	int n = snprintf(f->temp, sizeof(f->temp), "%s.stele-%016" PRIx64, f->path, tag);
	if (n >= (int)sizeof(f->temp))
		return stele_fail(STELE_ERR_USAGE, "a path is too long");
	return stele_file_open(
	    f->env, f->temp, STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL, 0644, &f->fd);
}

/* The whole hash matched: now it may appear. */
static enum stele_err publish(struct file_sink *f)
{
	char dir[STELE_PATH_MAX];
	const char *slash = strrchr(f->path, '/');
	struct stele_op sync = {.kind = STELE_OP_SYNC, .fd = f->fd};
	struct stele_op rename = {.kind = STELE_OP_RENAME, .path = f->temp, .path2 = f->path};
	int64_t n = stele_env_call(f->env, &sync);
	if (n >= 0)
		n = stele_env_call(f->env, &rename);
	if (n < 0)
		return stele_fail_errno((int)-n, "%s", f->path);
	f->temp[0] = '\0';
	if (!slash)
		snprintf(dir, sizeof(dir), ".");
	else
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash == f->path ? 1 : slash - f->path),
		         f->path);
	return stele_file_sync_dir(f->env, dir);
}

STELE_STOP(get_done, stele_get_request)

enum stele_err stele_get_file(struct stele *s, const struct stele_hash *id, const char *path,
                              const struct stele_get_opts *opts, struct stele_get_result *out)
{
	struct file_sink f = {.env = s->env, .path = path, .fd = -1};
	struct stele_get_request req = {.id = *id,
	                                .opts = {.len = UINT64_MAX},
	                                .sink = {write_file, &f},
	                                .restart = restart_file,
	                                .cb = get_done,
	                                .ctx = s};
	struct stele_stat st;
	if (opts)
		req.opts = *opts;
	if (stele_file_stat(s->env, path, &st) == STELE_OK && st.is_dir)
		return stele_fail(STELE_ERR_USAGE, "%s is a directory: name a file in it", path);
	STELE_TRY(open_temp(&f));
	stele_session_get(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	if (err == STELE_OK)
		err = publish(&f);
	*out = req.result;
	char detail[STELE_DETAIL_MAX];
	stele_detail_copy(detail);
	stele_file_close(s->env, &f.fd);
	if (f.temp[0] && stele_file_unlink(s->env, f.temp) != STELE_OK)
		return stele_fail(err, "%s (and %s is left behind)", detail, f.temp);
	return err == STELE_OK ? err : stele_fail(err, "%s", detail);
}
