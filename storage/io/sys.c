/*
 * System calls made in place by whichever thread asks. No loop, no callbacks; nothing here knows
 * which env it serves.
 */
#include "storage/io/sys.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "storage/io/addr.h"

#define IOV_PER_CALL   1024u
#define SECTOR         512u /* the smallest logical block: a write resumes at its multiples */
#define LISTEN_BACKLOG 1024
#define LISTEN_ADDRS   8

uint64_t stele_sys_left(const struct stele_op *op)
{
	uint64_t left = 0;
	for (uint32_t i = 0; i < op->niov; i++)
		left += op->iov[i].iov_len;
	return left;
}

unsigned stele_sys_niov(const struct stele_op *op)
{
	return op->niov < IOV_PER_CALL ? op->niov : IOV_PER_CALL;
}

static bool page_aligned(const struct stele_op *op)
{
	uint64_t bits = op->off + op->priv.done;
	for (uint32_t i = 0; i < op->niov; i++)
		bits |= (uintptr_t)op->iov[i].iov_base | op->iov[i].iov_len;
	return bits % STELE_PAGE == 0;
}

static void skip(struct stele_op *op, uint64_t n)
{
	op->priv.done += n;
	while (n > 0) {
		uint64_t here = op->iov->iov_len < n ? op->iov->iov_len : n;
		op->iov->iov_base = (uint8_t *)op->iov->iov_base + here;
		op->iov->iov_len -= here;
		n -= here;
		if (op->iov->iov_len == 0) {
			op->iov++;
			op->niov--;
		}
	}
}

bool stele_sys_advance(struct stele_op *op, int64_t res)
{
	if (res < 0) {
		op->result = res;
		return false;
	}
	uint64_t got = (uint64_t)res;
	uint64_t left = stele_sys_left(op);
	assert(got <= left);
	if (got == left) {
		op->result = (int64_t)(op->priv.done + got);
		return false;
	}
	bool reads = op->kind == STELE_OP_READV;
	uint64_t step = got;
	if (op->kind != STELE_OP_SEND && page_aligned(op))
		step -= step % (reads ? STELE_PAGE : SECTOR);
	if (step == 0) { /* nothing more comes: the end of the file, or a device that takes none */
		op->result = reads ? (int64_t)(op->priv.done + got) : -EIO;
		return false;
	}
	skip(op, step);
	return true;
}

uint64_t stele_sys_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t stele_sys_wall(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

void stele_sys_random(void *out, size_t len)
{
	uint8_t *p = out;
	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);
		if (n < 0) {
			assert(errno == EINTR); /* nothing else can happen to a good buffer */
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
}

static int64_t transfer(struct stele_op *op)
{
	if (stele_sys_left(op) == 0)
		return op->result = 0;
	ssize_t n;
	do {
		off_t off = (off_t)(op->off + op->priv.done);
		int count = (int)stele_sys_niov(op);
		do {
			if (op->kind == STELE_OP_READV)
				n = preadv(op->fd, op->iov, count, off);
			else
				n = pwritev2(op->fd, op->iov, count, off,
				             op->flags & STELE_WRITE_DSYNC ? RWF_DSYNC : 0);
		} while (n < 0 && errno == EINTR);
	} while (stele_sys_advance(op, n < 0 ? -errno : n));
	return op->result;
}

static int64_t sync_fd(const struct stele_op *op)
{
	struct stat st;
	if (fstat(op->fd, &st) < 0)
		return -errno;
	int r = S_ISDIR(st.st_mode) ? fsync(op->fd) : fdatasync(op->fd);
	return r < 0 ? -errno : 0;
}

static int64_t open_path(const struct stele_op *op)
{
	int flags = O_CLOEXEC | (op->flags & STELE_OPEN_WRITE ? O_RDWR : O_RDONLY);
	if (op->flags & STELE_OPEN_CREATE)
		flags |= O_CREAT;
	if (op->flags & STELE_OPEN_EXCL)
		flags |= O_EXCL;
	if (op->flags & STELE_OPEN_DIR)
		flags |= O_DIRECTORY;
	mode_t mode = op->len ? (mode_t)op->len : 0644;
	int fd = -1;
	if (op->flags & STELE_OPEN_DIRECT) {
		fd = open(op->path, flags | O_DIRECT, mode);
		if (fd >= 0 || errno != EINVAL)
			return fd < 0 ? -errno : fd;
		/* The file system has none. Some have created the file by now all the same. */
		flags &= ~O_EXCL;
	}
	fd = open(op->path, flags, mode);
	return fd < 0 ? -errno : fd;
}

static int64_t allocate(const struct stele_op *op)
{
	int r;
	do {
		r = fallocate(op->fd, 0, (off_t)op->off, (off_t)op->len);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	/* No such call on this file system: extend. A later write may still find the disk full. */
	struct stat st;
	if (fstat(op->fd, &st) < 0)
		return -errno;
	uint64_t end = op->off + op->len;
	if ((uint64_t)st.st_size < end && ftruncate(op->fd, (off_t)end) < 0)
		return -errno;
	return 0;
}

static int64_t list_dir(const struct stele_op *op)
{
	DIR *dir = opendir(op->path);
	if (!dir)
		return -errno;
	size_t first = op->list->n;
	int64_t result = 0;
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (!entry) {
			result = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (!stele_list_add(op->list, entry->d_name)) {
			result = -ENOMEM;
			break;
		}
	}
	closedir(dir);
	stele_list_sort(op->list, first);
	return result;
}

static int64_t stat_path(const struct stele_op *op)
{
	struct stat st;
	struct statvfs fs;
	if (stat(op->path, &st) < 0 || statvfs(op->path, &fs) < 0)
		return -errno;
	*op->st = (struct stele_stat){
	    .size = (uint64_t)st.st_size,
	    .ino = st.st_ino,
	    .dev = st.st_dev,
	    .disk_free = (uint64_t)fs.f_bavail * fs.f_frsize,
	    .disk_total = (uint64_t)fs.f_blocks * fs.f_frsize,
	    .is_dir = S_ISDIR(st.st_mode),
	};
	return 0;
}

static int listen_on(const struct stele_addr *addr)
{
	int fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0) {
		int e = errno;
		close(fd);
		return -e;
	}
	return fd;
}

static int64_t listen_at(const struct stele_op *op)
{
	struct stele_addr addr[LISTEN_ADDRS];
	int n = stele_addr_resolve(op->path, addr, LISTEN_ADDRS);
	if (n < 0)
		return n;
	int fd = -EINVAL;
	for (int i = 0; i < n && fd < 0; i++)
		fd = listen_on(&addr[i]);
	if (fd >= 0 && op->path_buf) {
		struct stele_addr self = {.len = sizeof(self.sa)};
		getsockname(fd, (struct sockaddr *)&self.sa, &self.len);
		stele_addr_format(&self, op->path_buf);
	}
	return fd;
}

static int64_t perform(struct stele_op *op)
{
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
		return transfer(op);
	case STELE_OP_SYNC:
		return sync_fd(op);
	case STELE_OP_CLOSE:
		return close(op->fd) < 0 && errno != EINTR ? -errno : 0;
	case STELE_OP_OPEN:
		return open_path(op);
	case STELE_OP_FALLOC:
		return allocate(op);
	case STELE_OP_TRUNCATE:
		return ftruncate(op->fd, (off_t)op->len) < 0 ? -errno : 0;
	case STELE_OP_UNLINK:
		return unlink(op->path) < 0 ? -errno : 0;
	case STELE_OP_RENAME:
		return rename(op->path, op->path2) < 0 ? -errno : 0;
	case STELE_OP_MKDIR:
		return mkdir(op->path, op->len ? (mode_t)op->len : 0755) < 0 ? -errno : 0;
	case STELE_OP_LIST:
		return list_dir(op);
	case STELE_OP_STAT:
		return stat_path(op);
	case STELE_OP_LOCK:
		return flock(op->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	case STELE_OP_LISTEN:
		return listen_at(op);
	default:
		assert(!"an operation that cannot be called");
		return -EINVAL;
	}
}

int64_t stele_sys_call(struct stele_op *op)
{
	op->priv.done = 0;
	return op->result = perform(op);
}
