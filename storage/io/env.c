/*
 * Dispatch to an env's implementation with the checks that all share, the choice of an
 * implementation, and blocking helpers for whole files. Makes no system call of its own.
 */
#include "storage/io/env.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum stele_err stele_env_create(const struct stele_env_opts *opts, struct stele_env **out)
{
	const char *forced = getenv("STELE_ENV");
	struct stele_env_opts own = opts ? *opts : (struct stele_env_opts){0};
	if (forced && strcmp(forced, "threads") == 0)
		return stele_env_threads_create(&own, out);
	bool must = forced && forced[0] != '\0';
	if (must && strcmp(forced, "io_uring,unregistered") == 0)
		own.unregistered = true;
	else if (must && strcmp(forced, "io_uring") != 0)
		return stele_fail(STELE_ERR_USAGE,
		                  "STELE_ENV is \"%s\": use io_uring, threads, or "
		                  "io_uring,unregistered",
		                  forced);
	enum stele_err err = stele_env_uring_create(&own, out);
	return err == STELE_OK || must ? err : stele_env_threads_create(&own, out);
}

void stele_env_destroy(struct stele_env *env)
{
	if (env)
		env->ops->destroy(env);
}

void stele_env_submit(struct stele_env *env, struct stele_op *op)
{
	assert(op->kind >= STELE_OP_READV && op->kind <= STELE_OP_WORK);
	assert(op->cb && op->priv.state == 0);
	assert(op->kind != STELE_OP_WORK || op->work);
	env->ops->submit(env, op);
}

void stele_env_cancel(struct stele_env *env, struct stele_op *op)
{
	if (stele_op_pending(op))
		env->ops->cancel(env, op);
}

int64_t stele_env_call(struct stele_env *env, struct stele_op *op)
{
	assert((op->kind >= STELE_OP_READV && op->kind <= STELE_OP_CLOSE) ||
	       (op->kind >= STELE_OP_OPEN && op->kind <= STELE_OP_LISTEN));
	assert(op->priv.state == 0);
	return env->ops->call(env, op);
}

void stele_env_post(struct stele_env *env, struct stele_msg *msg)
{
	env->ops->post(env, msg);
}

uint64_t stele_env_now(struct stele_env *env)
{
	return env->ops->now(env);
}

int64_t stele_env_wall(struct stele_env *env)
{
	return env->ops->wall(env);
}

void stele_env_random(struct stele_env *env, void *out, size_t len)
{
	env->ops->random(env, out, len);
}

uint64_t stele_env_random_u64(struct stele_env *env)
{
	uint64_t v;
	env->ops->random(env, &v, sizeof(v));
	return v;
}

void stele_env_lend(struct stele_env *env, void *base, size_t len)
{
	if (env->ops->lend)
		env->ops->lend(env, base, len);
}

void stele_env_take_back(struct stele_env *env, const void *base)
{
	if (env->ops->take_back)
		env->ops->take_back(env, base);
}

void stele_env_hold(struct stele_env *env, int fd)
{
	if (env->ops->hold)
		env->ops->hold(env, fd);
}

void stele_env_release(struct stele_env *env, int fd)
{
	if (env->ops->release)
		env->ops->release(env, fd);
}

void stele_env_describe(struct stele_env *env, char out[STELE_ENV_TEXT])
{
	if (env->ops->describe)
		env->ops->describe(env, out);
	else
		snprintf(out, STELE_ENV_TEXT, "%s", env->ops->name);
}

void stele_env_run(struct stele_env *env)
{
	env->ops->run(env);
}

void stele_env_stop(struct stele_env *env)
{
	env->ops->stop(env);
}

/* Lists of names */

bool stele_list_add(struct stele_list *list, const char *name)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 16;
		char **more = realloc(list->name, cap * sizeof(more[0]));
		if (!more)
			return false;
		list->name = more;
		list->cap = cap;
	}
	char *copy = strdup(name);
	if (!copy)
		return false;
	list->name[list->n++] = copy;
	return true;
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void stele_list_sort(struct stele_list *list, size_t first)
{
	if (list->n > first)
		qsort(list->name + first, list->n - first, sizeof(list->name[0]), name_cmp);
}

void stele_list_finish(struct stele_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->name[i]);
	free(list->name);
	memset(list, 0, sizeof(*list));
}

/* Files, blocking */

enum stele_err stele_file_open(struct stele_env *env, const char *path, uint32_t flags,
                               uint32_t mode, int *fd)
{
	struct stele_op op = {.kind = STELE_OP_OPEN, .path = path, .flags = flags, .len = mode};
	int64_t r = stele_env_call(env, &op);
	if (r < 0)
		return stele_fail_errno((int)-r, "open %s", path);
	*fd = (int)r;
	return STELE_OK;
}

void stele_file_close(struct stele_env *env, int *fd)
{
	if (*fd < 0)
		return;
	struct stele_op op = {.kind = STELE_OP_CLOSE, .fd = *fd};
	(void)stele_env_call(env, &op);
	*fd = -1;
}

enum stele_err stele_file_pread(struct stele_env *env, int fd, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct stele_op op = {.kind = STELE_OP_READV, .fd = fd, .iov = &iov, .niov = 1, .off = off};
	int64_t r = stele_env_call(env, &op);
	if (r < 0)
		return stele_fail_errno((int)-r, "read %zu bytes at %llu", len,
		                        (unsigned long long)off);
	if ((uint64_t)r < len)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "the file ends early: read %lld of %zu bytes at %llu",
		                  (long long)r, len, (unsigned long long)off);
	return STELE_OK;
}

enum stele_err stele_file_pwrite(struct stele_env *env, int fd, const void *buf, size_t len,
                                 uint64_t off, uint32_t flags)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct stele_op op = {
	    .kind = STELE_OP_WRITEV, .fd = fd, .iov = &iov, .niov = 1, .off = off, .flags = flags};
	int64_t r = stele_env_call(env, &op);
	if (r < 0)
		return stele_fail_errno((int)-r, "write %zu bytes at %llu", len,
		                        (unsigned long long)off);
	return STELE_OK;
}

/* Reads an open file to its end, into a buffer that grows up to max + 1 bytes. */
static enum stele_err load_fd(struct stele_env *env, int fd, size_t max, char **out, size_t *len)
{
	char *bytes = NULL;
	size_t n = 0;
	for (size_t cap = 4096;; cap *= 2) {
		if (cap > max)
			cap = max + 1; /* one more than allowed, to see whether there is more */
		char *more = realloc(bytes, cap + 1);
		if (!more) {
			free(bytes);
			return stele_fail(STELE_ERR_NOMEM, "out of memory");
		}
		bytes = more;
		struct iovec iov = {.iov_base = bytes + n, .iov_len = cap - n};
		struct stele_op op = {
		    .kind = STELE_OP_READV, .fd = fd, .iov = &iov, .niov = 1, .off = n};
		int64_t r = stele_env_call(env, &op);
		if (r < 0) {
			free(bytes);
			return stele_fail_errno((int)-r, "read");
		}
		n += (size_t)r;
		if (n > max) {
			free(bytes);
			return stele_fail(STELE_ERR_TOO_LARGE, "longer than %zu bytes", max);
		}
		if (n < cap)
			break;
	}
	bytes[n] = '\0';
	*out = bytes;
	*len = n;
	return STELE_OK;
}

enum stele_err stele_file_load(struct stele_env *env, const char *path, size_t max, char **out,
                               size_t *len)
{
	assert(max < SIZE_MAX / 4);
	int fd = -1;
	STELE_TRY(stele_file_open(env, path, STELE_OPEN_READ, 0, &fd));
	enum stele_err err = load_fd(env, fd, max, out, len);
	stele_file_close(env, &fd);
	return err == STELE_OK ? STELE_OK : stele_wrap(err, "%s", path);
}

/* The directory that holds path: out has STELE_PATH_MAX bytes. */
static enum stele_err parent_of(const char *path, char *out)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 1;
	if (len >= STELE_PATH_MAX)
		return stele_fail(STELE_ERR_INVALID, "%.64s...: the path is too long", path);
	memcpy(out, slash ? path : ".", len);
	if (slash && len == 0)
		out[len++] = '/';
	out[len] = '\0';
	return STELE_OK;
}

static enum stele_err write_new(struct stele_env *env, const char *path, const void *bytes,
                                size_t len, uint32_t mode)
{
	int fd = -1;
	STELE_TRY(stele_file_open(env, path, STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL,
	                          mode, &fd));
	enum stele_err err = stele_file_pwrite(env, fd, bytes, len, 0, 0);
	if (err == STELE_OK) {
		struct stele_op op = {.kind = STELE_OP_SYNC, .fd = fd};
		int64_t r = stele_env_call(env, &op);
		if (r < 0)
			err = stele_fail_errno((int)-r, "sync");
	}
	stele_file_close(env, &fd);
	return err == STELE_OK ? STELE_OK : stele_wrap(err, "%s", path);
}

enum stele_err stele_file_save(struct stele_env *env, const char *path, const void *bytes,
                               size_t len, uint32_t mode)
{
	char dir[STELE_PATH_MAX];
	char temp[STELE_PATH_MAX];
	STELE_TRY(parent_of(path, dir));
	int n = snprintf(temp, sizeof(temp), "%s.%016llx.tmp", path,
	                 (unsigned long long)stele_env_random_u64(env));
	if (n < 0 || (size_t)n >= sizeof(temp))
		return stele_fail(STELE_ERR_INVALID, "%.64s...: the path is too long", path);
	enum stele_err err = write_new(env, temp, bytes, len, mode);
	if (err == STELE_OK) {
		struct stele_op op = {.kind = STELE_OP_RENAME, .path = temp, .path2 = path};
		int64_t r = stele_env_call(env, &op);
		if (r < 0)
			err = stele_fail_errno((int)-r, "rename %s to %s", temp, path);
	}
	if (err == STELE_OK)
		return stele_file_sync_dir(env, dir);
	if (err != STELE_ERR_EXISTS) { /* then it is not ours */
		struct stele_op op = {.kind = STELE_OP_UNLINK, .path = temp};
		(void)stele_env_call(env, &op);
	}
	return err;
}

enum stele_err stele_file_sync_dir(struct stele_env *env, const char *dir)
{
	int fd = -1;
	STELE_TRY(stele_file_open(env, dir, STELE_OPEN_DIR, 0, &fd));
	struct stele_op op = {.kind = STELE_OP_SYNC, .fd = fd};
	int64_t r = stele_env_call(env, &op);
	stele_file_close(env, &fd);
	return r < 0 ? stele_fail_errno((int)-r, "sync directory %s", dir) : STELE_OK;
}

enum stele_err stele_file_stat(struct stele_env *env, const char *path, struct stele_stat *st)
{
	struct stele_op op = {.kind = STELE_OP_STAT, .path = path, .st = st};
	int64_t r = stele_env_call(env, &op);
	return r < 0 ? stele_fail_errno((int)-r, "stat %s", path) : STELE_OK;
}

enum stele_err stele_file_unlink(struct stele_env *env, const char *path)
{
	struct stele_op op = {.kind = STELE_OP_UNLINK, .path = path};
	int64_t r = stele_env_call(env, &op);
	return r < 0 ? stele_fail_errno((int)-r, "unlink %s", path) : STELE_OK;
}

enum stele_err stele_file_list(struct stele_env *env, const char *dir, struct stele_list *list)
{
	struct stele_op op = {.kind = STELE_OP_LIST, .path = dir, .list = list};
	int64_t r = stele_env_call(env, &op);
	return r < 0 ? stele_fail_errno((int)-r, "list %s", dir) : STELE_OK;
}

enum stele_err stele_file_mkdirs(struct stele_env *env, const char *dir, uint32_t mode)
{
	char path[STELE_PATH_MAX];
	size_t len = strlen(dir);
	if (len == 0 || len >= sizeof(path))
		return stele_fail(STELE_ERR_INVALID, "mkdir: the path is empty or too long");
	memcpy(path, dir, len + 1);
	int64_t r = 0;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		path[i] = '\0';
		struct stele_op op = {.kind = STELE_OP_MKDIR, .path = path, .len = mode};
		r = stele_env_call(env, &op);
		path[i] = i < len ? '/' : '\0';
		/* A parent may refuse (a read-only root, say) and exist: the last one decides. */
	}
	if (r == 0)
		return STELE_OK;
	struct stele_stat st;
	enum stele_err err = stele_file_stat(env, dir, &st);
	if (err == STELE_OK && st.is_dir)
		return STELE_OK;
	return stele_fail_errno(err == STELE_OK ? ENOTDIR : (int)-r, "mkdir %s", dir);
}
