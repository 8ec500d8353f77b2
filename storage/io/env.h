/*
 * The one door to the system (DESIGN N11). Nothing above storage/io calls the kernel: files, sockets,
 * timers, workers, clock and randomness all come through an env, which has three implementations:
 * io_uring (env_uring), threads with pread/pwrite and poll (env_threads), simulated (env_sim).
 *
 * An env is also one event loop (N10). Everything that belongs to a loop (connections, disks,
 * buffers) is touched only by the thread that runs it; only stele_env_post crosses loops, and
 * stele_env_call may be used by workers.
 *
 * Operations. The caller embeds a struct stele_op, fills it, and submits it. From then on the op,
 * its iovecs and the bytes they point to belong to the env until the callback, which fires exactly
 * once, on the loop's thread, never inside submit or cancel. Cancelling or closing does not give
 * them back: the callback does. op->result is >= 0, or a negative errno.
 */
#ifndef STORAGE_IO_ENV_H
#define STORAGE_IO_ENV_H

#include <sys/uio.h>

#include "storage/base/bytes.h"

struct stele_env;
struct stele_op;

enum stele_op_kind {
	/* asynchronous or by call */
	STELE_OP_READV = 1, /* fd, iov, niov, off. Reads until full or end of file; result: bytes */
	STELE_OP_WRITEV,    /* fd, iov, niov, off, flags DSYNC. Writes everything or fails */
	STELE_OP_SYNC,      /* fd: fdatasync; of a directory: fsync. Never retried after an error */
	STELE_OP_CLOSE,     /* fd. Submitted on a socket: pending ops on it end with -ECANCELED; on a
	                     * file: those pending are performed first. Its callback comes last.
	                     * By call: nothing may be pending on fd */
	/* asynchronous only */
	STELE_OP_ACCEPT,    /* fd of LISTEN; result: a socket; path_buf (if set): the peer's address */
	STELE_OP_CONNECT,   /* path "host:port"; result: a socket */
	/* At most one RECV or ACCEPT and one SEND are under way on a socket. */
	STELE_OP_RECV,      /* fd, iov, niov: result 1... bytes as they come, 0 at the end */
	STELE_OP_SEND,      /* fd, iov, niov: sends everything or fails; result: bytes */
	STELE_OP_TIMER,     /* off: absolute time of stele_env_now; result 0, or -ECANCELED */
	STELE_OP_WORK,      /* work(op) runs on a worker thread, then the callback on the loop */
	/* by call only */
	STELE_OP_OPEN,      /* path, flags; len: mode bits or 0 for 0644; result: a handle */
	STELE_OP_FALLOC,    /* fd, off, len: allocates and extends */
	STELE_OP_TRUNCATE,  /* fd, len */
	STELE_OP_UNLINK,    /* path */
	STELE_OP_RENAME,    /* path -> path2, replacing */
	STELE_OP_MKDIR,     /* path; len: mode bits or 0 for 0755; an existing one is -EEXIST */
	STELE_OP_LIST,      /* path; list: names are appended (no "." and "..") in ascending order */
	STELE_OP_STAT,      /* path; fills st; -ENOENT when there is nothing */
	STELE_OP_LOCK,      /* fd: exclusive advisory lock held until close; -EWOULDBLOCK if taken */
	STELE_OP_LISTEN,    /* path "host:port" (port 0: any); result: a listening socket;
	                     * path_buf (if set): the address in fact */
};

enum stele_op_flags {
	STELE_OPEN_READ = 0,
	STELE_OPEN_WRITE = 1 << 0,  /* read and write */
	STELE_OPEN_CREATE = 1 << 1,
	STELE_OPEN_EXCL = 1 << 2,
	STELE_OPEN_DIRECT = 1 << 3, /* O_DIRECT: offsets, lengths, addresses in STELE_PAGE units;
	                             * falls back to buffered I/O where the file system has none */
	STELE_OPEN_DIR = 1 << 4,
	STELE_WRITE_DSYNC = 1 << 8, /* durable at the callback (RWF_DSYNC) */
	STELE_WORK_LONG = 1 << 9,   /* may take over a millisecond (LevelDB, scrub): another queue */
};

#define STELE_ADDR_MAX 80u /* "host:port" with NUL */
#define STELE_ENV_TEXT 96u /* of stele_env_describe, with NUL */

struct stele_stat {
	uint64_t size;
	uint64_t ino;
	uint64_t dev;        /* identifies the file system */
	uint64_t disk_free;  /* bytes available on its file system */
	uint64_t disk_total;
	bool is_dir;
};

struct stele_list { /* owned by the caller; release with stele_list_finish */
	char **name;
	size_t n;
	size_t cap;
};

typedef void stele_op_cb(struct stele_op *op);

struct stele_op {
	enum stele_op_kind kind;
	uint32_t flags;
	int fd;
	uint32_t niov;
	struct iovec *iov; /* READV/WRITEV/RECV/SEND may advance them; set them again before reuse */
	uint64_t off;
	uint64_t len;
	const char *path;
	const char *path2;
	char *path_buf; /* STELE_ADDR_MAX */
	struct stele_list *list;
	struct stele_stat *st;
	void (*work)(struct stele_op *op);
	stele_op_cb *cb;
	void *ctx; /* the caller's */
	int64_t result;
	/* The env's own, valid while the operation is under way. */
	struct {
		struct stele_op *next;
		struct stele_op *prev;
		uint64_t gen;
		uint64_t done; /* bytes moved by earlier short transfers */
		void *slot;
		uint32_t state; /* 0: idle */
		uint32_t heap;
		uint64_t seq;
	} priv;
};

/* A message to a loop from any thread; run(msg) is called once on that loop's thread. */
struct stele_msg {
	void (*run)(struct stele_msg *msg);
	struct stele_msg *next;
};

struct stele_env_ops {
	const char *name; /* "io_uring", "threads", "simulated" */
	void (*submit)(struct stele_env *env, struct stele_op *op);
	void (*cancel)(struct stele_env *env, struct stele_op *op);
	int64_t (*call)(struct stele_env *env, struct stele_op *op);
	void (*post)(struct stele_env *env, struct stele_msg *msg);
	uint64_t (*now)(struct stele_env *env);
	int64_t (*wall)(struct stele_env *env);
	void (*random)(struct stele_env *env, void *out, size_t len);
	void (*run)(struct stele_env *env);
	void (*stop)(struct stele_env *env);
	void (*destroy)(struct stele_env *env);
	/* NULL: lending and holding change nothing, and the name says all */
	void (*lend)(struct stele_env *env, void *base, size_t len);
	void (*take_back)(struct stele_env *env, const void *base);
	void (*hold)(struct stele_env *env, int fd);
	void (*release)(struct stele_env *env, int fd);
	void (*describe)(struct stele_env *env, char out[STELE_ENV_TEXT]);
};

struct stele_env { /* the first member of each implementation's own structure */
	const struct stele_env_ops *ops;
};

struct stele_env_opts {
	uint32_t workers; /* worker threads; 0: 2 */
	uint32_t depth;   /* operations in flight in the kernel; 0: 256 */
	bool unregistered; /* neither lent memory nor held files are registered with the kernel */
};

/* Creates an env of the best kind that works here: io_uring, or threads where it is refused
 * (STELE_ENV=threads or =io_uring in the process's environment forces one; =io_uring,unregistered
 * sets that option as well). NOMEM, IO. */
STELE_MUST_USE enum stele_err stele_env_create(const struct stele_env_opts *opts,
					       struct stele_env **out);
STELE_MUST_USE enum stele_err stele_env_uring_create(const struct stele_env_opts *opts,
						     struct stele_env **out);
STELE_MUST_USE enum stele_err stele_env_threads_create(const struct stele_env_opts *opts,
						       struct stele_env **out);
/* No operation may be under way. Accepts NULL. */
void stele_env_destroy(struct stele_env *env);

/* Loop's thread. Operations submitted with a bad kind or a NULL callback are bugs (assert). */
void stele_env_submit(struct stele_env *env, struct stele_op *op);
/* Asks an operation under way to end early: its callback still fires once, with -ECANCELED or with
 * its result if that came first. A no-op for one that is not under way. */
void stele_env_cancel(struct stele_env *env, struct stele_op *op);
/* Performs the op before returning and returns op->result; cb is not called. For start-up, tools
 * and workers: it blocks. Thread: any (op and buffers are the caller's own). */
int64_t stele_env_call(struct stele_env *env, struct stele_op *op);
/* Thread: any. The message belongs to the loop until it runs. */
void stele_env_post(struct stele_env *env, struct stele_msg *msg);
uint64_t stele_env_now(struct stele_env *env);  /* monotonic nanoseconds; thread: any */
int64_t stele_env_wall(struct stele_env *env);  /* unix seconds: a claim, never a reason to remove */
void stele_env_random(struct stele_env *env, void *out, size_t len);
uint64_t stele_env_random_u64(struct stele_env *env);
/*
 * Lends memory that many reads and writes of files will use: the env may tell the system of it ahead,
 * and a transfer of one iovec that lies in it costs less processor time. It takes as much, from base on,
 * as the system allows (RLIMIT_MEMLOCK), which may be nothing; nothing else changes. What is lent twice
 * is taken back twice, or not at all before the env goes. Loop's thread, or before it runs.
 */
void stele_env_lend(struct stele_env *env, void *base, size_t len);
/* Before the memory goes. No operation in it is under way. */
void stele_env_take_back(struct stele_env *env, const void *base);
/*
 * Holds a file, or a directory, that stays open for long: the env may tell the system of it ahead, and an
 * operation submitted on it costs a little less processor time; nothing else changes. Whoever opened the file
 * holds it, once, on the env that uses it, and releases it there before it is closed, so that a descriptor
 * that is used again never means the file before (assert). Operations may be under way meanwhile. Loop's
 * thread, or before it runs.
 */
void stele_env_hold(struct stele_env *env, int fd);
void stele_env_release(struct stele_env *env, int fd);
/* For logs and benchmarks: "threads"; "io_uring, 32768 KiB of buffers and 12 files registered"; "io_uring,
 * no buffers (RLIMIT_MEMLOCK) and 12 of 14 files registered". Loop's thread, or before it runs. */
void stele_env_describe(struct stele_env *env, char out[STELE_ENV_TEXT]);
/* Runs the loop until stele_env_stop. stop: thread any; also from a signal handler. */
void stele_env_run(struct stele_env *env);
void stele_env_stop(struct stele_env *env);

/* True from submit until the callback is about to run. */
static inline bool stele_op_pending(const struct stele_op *op)
{
	return op->priv.state != 0;
}

/* Small blocking helpers over stele_env_call; errors carry the path in the detail. */
STELE_MUST_USE enum stele_err stele_file_open(struct stele_env *env, const char *path,
					      uint32_t flags, uint32_t mode, int *fd);
void stele_file_close(struct stele_env *env, int *fd); /* accepts -1; sets -1 */
/* Exactly len bytes, CORRUPT ("ends early") if the file is shorter. */
STELE_MUST_USE enum stele_err stele_file_pread(struct stele_env *env, int fd, void *buf, size_t len,
					       uint64_t off);
STELE_MUST_USE enum stele_err stele_file_pwrite(struct stele_env *env, int fd, const void *buf,
						size_t len, uint64_t off, uint32_t flags);
/* A whole file of at most max bytes, malloc'ed with a NUL after its last byte. TOO_LARGE. */
STELE_MUST_USE enum stele_err stele_file_load(struct stele_env *env, const char *path, size_t max,
					      char **out, size_t *len);
/* Replaces a file atomically and durably: a temporary beside it, sync, rename, directory sync. */
STELE_MUST_USE enum stele_err stele_file_save(struct stele_env *env, const char *path,
					      const void *bytes, size_t len, uint32_t mode);
STELE_MUST_USE enum stele_err stele_file_sync_dir(struct stele_env *env, const char *dir);
STELE_MUST_USE enum stele_err stele_file_stat(struct stele_env *env, const char *path,
					      struct stele_stat *st);
STELE_MUST_USE enum stele_err stele_file_unlink(struct stele_env *env, const char *path);
STELE_MUST_USE enum stele_err stele_file_list(struct stele_env *env, const char *dir,
					      struct stele_list *list);
/* Creates dir and its parents where missing. */
STELE_MUST_USE enum stele_err stele_file_mkdirs(struct stele_env *env, const char *dir,
						uint32_t mode);
void stele_list_finish(struct stele_list *list);
/* For implementations: appends a copy of name, false when there is no memory; puts the names from
 * `first` on in ascending order of bytes. */
bool stele_list_add(struct stele_list *list, const char *name);
void stele_list_sort(struct stele_list *list, size_t first);

#endif
