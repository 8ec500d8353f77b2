/* Starts, watches and stops steled processes. Knows nothing of what they serve. */
#include "tools/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS      (20u * 1000 * 1000)
#define LOG_TAIL_LEN 2048

uint64_t stele_daemon_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void nap(void)
{
	struct timespec t = {.tv_nsec = POLL_NS};
	nanosleep(&t, NULL);
}

/* DIR/name; asserts nothing: a path that is too long is cut, and then does not exist. */
static const char *path_in(const struct stele_daemon *d, const char *name, char out[STELE_PATH_MAX])
{
	snprintf(out, STELE_PATH_MAX, "%s/%s", d->dir, name);
	return out;
}

/* Up to cap - 1 bytes of a small file, NUL-terminated; -1: it cannot be read. */
static ssize_t read_small(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = -1;
	if (fd < 0)
		return -1;
	while (len < cap - 1 && (n = read(fd, out + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	out[len] = '\0';
	return n < 0 ? -1 : (ssize_t)len;
}

enum stele_err stele_daemon_program(char out[STELE_PATH_MAX])
{
	const char *env = getenv("STELE_STELED");
	if (env && *env) {
		snprintf(out, STELE_PATH_MAX, "%s", env);
	} else {
		ssize_t n = readlink("/proc/self/exe", out, STELE_PATH_MAX - 1);
		if (n < 0)
			return stele_fail_errno(errno, "/proc/self/exe");
		out[n] = '\0';
		char *slash = strrchr(out, '/');
		size_t dir = slash ? (size_t)(slash - out) + 1 : 0;
		if (dir + sizeof("steled") > STELE_PATH_MAX)
			return stele_fail(STELE_ERR_USAGE, "steled: the path is too long");
		strcpy(out + dir, "steled");
	}
	if (access(out, X_OK) != 0)
		return stele_fail(STELE_ERR_USAGE,
		                  "%s: %s: steled must be built beside this program", out,
		                  strerror(errno));
	return STELE_OK;
}

/* ---- is it ours ---- */

/* True when the process's command line is "...steled --config <this node's steled.ini>". A process that
 * ended and was not reaped has none. */
static bool is_ours(const struct stele_daemon *d, pid_t pid)
{
	char path[64], ini[STELE_PATH_MAX], line[2 * STELE_PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
	ssize_t len = pid > 0 ? read_small(path, line, sizeof(line)) : -1;
	path_in(d, "steled.ini", ini);
	bool program = false, option = false;
	for (const char *arg = line; len > 0 && arg < line + len; arg += strlen(arg) + 1) {
		if (option && strcmp(arg, ini) == 0)
			return true;
		const char *slash = strrchr(arg, '/');
		option = program && strcmp(arg, "--config") == 0;
		program = strcmp(slash ? slash + 1 : arg, "steled") == 0;
	}
	return false;
}

/* "pid\n" or "pid address\n" */
static pid_t read_pid(const struct stele_daemon *d, const char *name, char addr[80])
{
	char path[STELE_PATH_MAX], text[128];
	long pid = 0;
	addr[0] = '\0';
	if (read_small(path_in(d, name, path), text, sizeof(text)) <= 0 ||
	    sscanf(text, "%ld %79s", &pid, addr) < 1 || pid <= 0 || pid > INT32_MAX)
		return 0;
	return (pid_t)pid;
}

void stele_daemon_look(struct stele_daemon *d)
{
	char addr[80], none[80];
	pid_t ready = read_pid(d, "ready", addr), pid = read_pid(d, "pid", none);
	d->pid = is_ours(d, pid) ? pid : is_ours(d, ready) ? ready : 0;
	d->addr[0] = '\0';
	if (d->pid && d->pid == ready)
		strcpy(d->addr, addr);
}

static void forget(struct stele_daemon *d)
{
	char path[STELE_PATH_MAX];
	unlink(path_in(d, "pid", path));
	unlink(path_in(d, "ready", path));
	d->pid = 0;
	d->addr[0] = '\0';
}

/* ---- starting ---- */

static enum stele_err write_pid(const struct stele_daemon *d)
{
	char path[STELE_PATH_MAX];
	FILE *f = fopen(path_in(d, "pid", path), "we");
	if (!f)
		return stele_fail_errno(errno, "%s", path);
	fprintf(f, "%ld\n", (long)d->pid);
	if (fclose(f) != 0)
		return stele_fail_errno(errno, "%s", path);
	return STELE_OK;
}

static int spawn(struct stele_daemon *d, const char *program, char *ini, const char *log)
{
	extern char **environ;
	char *argv[] = {(char *)program, "--config", ini, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int err = posix_spawn_file_actions_init(&files);
	if (err)
		return err;
	err = posix_spawnattr_init(&attr);
	if (err) {
		posix_spawn_file_actions_destroy(&files);
		return err;
	}
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
	                                    POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	if (!err)
		err = posix_spawn_file_actions_addopen(&files, 1, log,
		                                       O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&files, 1, 2);
	if (!err)
		err = posix_spawn(&d->pid, program, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return err;
}

enum stele_err stele_daemon_start(struct stele_daemon *d, const char *program)
{
	char ini[STELE_PATH_MAX], log[STELE_PATH_MAX];
	stele_daemon_look(d);
	if (d->pid)
		return STELE_OK;
	forget(d); /* what a killed one left */
	path_in(d, "steled.ini", ini);
	if (access(ini, R_OK) != 0)
		return stele_fail(STELE_ERR_USAGE, "%.400s: %s", ini, strerror(errno));
	int err = spawn(d, program, ini, path_in(d, "log", log));
	if (err) {
		d->pid = 0;
		return stele_fail_errno(err, "node %u: %s", d->node, program);
	}
	return write_pid(d);
}

/* The last line of the log, for a message. */
static void last_line(const struct stele_daemon *d, char out[STELE_DETAIL_MAX / 2])
{
	char path[STELE_PATH_MAX], tail[LOG_TAIL_LEN + 1];
	size_t len = 0;
	out[0] = '\0';
	int fd = open(path_in(d, "log", path), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	off_t end = lseek(fd, 0, SEEK_END);
	ssize_t n = pread(fd, tail, LOG_TAIL_LEN, end > LOG_TAIL_LEN ? end - LOG_TAIL_LEN : 0);
	close(fd);
	while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == '\r'))
		n--;
	while (n > 0 && len < (size_t)n && tail[(size_t)n - len - 1] != '\n')
		len++;
	if (n > 0)
		snprintf(out, STELE_DETAIL_MAX / 2, "%.*s", (int)len, tail + n - len);
}

static enum stele_err ended(struct stele_daemon *d)
{
	char line[STELE_DETAIL_MAX / 2];
	last_line(d, line);
	forget(d);
	return stele_fail(STELE_ERR_UNAVAILABLE, "node %u ended before it served: %s (%.120s/log)",
	                  d->node, *line ? line : "it logged nothing", d->dir);
}

enum stele_err stele_daemon_wait_ready(struct stele_daemon *d, uint64_t deadline_ns)
{
	for (;;) {
		/* A child of this process is judged by wait, which reaps it as well: right after its
		 * start it has no command line yet. One of an earlier run is no child. */
		pid_t pid = d->pid, waited = waitpid(pid, NULL, WNOHANG);
		if (waited == pid)
			return ended(d);
		stele_daemon_look(d);
		if (waited == 0)
			d->pid = pid;
		else if (!d->pid)
			return ended(d);
		if (d->addr[0])
			return STELE_OK;
		if (stele_daemon_now() >= deadline_ns)
			return stele_fail(STELE_ERR_UNAVAILABLE,
			                  "node %u runs but does not serve yet: see %.300s/log",
			                  d->node, d->dir);
		nap();
	}
}

/* ---- stopping ---- */

bool stele_daemon_signal(struct stele_daemon *d, int sig)
{
	stele_daemon_look(d);
	return d->pid && kill(d->pid, sig) == 0;
}

bool stele_daemon_wait_gone(struct stele_daemon *d, uint64_t deadline_ns)
{
	for (;;) {
		if (d->pid > 0)
			waitpid(d->pid, NULL, WNOHANG);
		stele_daemon_look(d);
		if (!d->pid) {
			forget(d);
			return true;
		}
		if (stele_daemon_now() >= deadline_ns)
			return false;
		nap();
	}
}
