/*
 * Goal: every env keeps the contract of env.h. One suite, run on threads, on io_uring and, where no
 * second thread or system call is part of the test, on the simulated env: each callback fires
 * exactly once, on the loop's thread, never inside submit or cancel; transfers are whole; closing
 * and cancelling end what is under way; only post and stop cross threads.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/io/env.h"
#include "storage/io/sim.h"

#define MS 1000000ull

enum { THREADS, IO_URING, SIMULATED, UNREGISTERED };
static int real[] = {THREADS, IO_URING};
static int all[] = {THREADS, IO_URING, SIMULATED};
static int lenders[] = {THREADS, IO_URING, SIMULATED, UNREGISTERED};
static int rings[] = {IO_URING, UNREGISTERED};
static int on_the_system[] = {THREADS, IO_URING, UNREGISTERED};

#define ENV_TEST(name, kinds)                                                                      \
	ParameterizedTestParameters(env, name)                                                     \
	{                                                                                          \
		return cr_make_param_array(int, kinds, sizeof(kinds) / sizeof(kinds[0]));          \
	}                                                                                          \
	ParameterizedTest(int *which, env, name)

/* One test's world: an env, a directory, and the count of callbacks still to come. */
static struct stele_env *env;
static struct stele_sim *sim;
static pthread_t loop_thread;
static int waiting;
static bool inside; /* a submit or cancel: no callback may run */
static char dir[64];

static void set_up(int which, uint32_t depth)
{
	struct stele_env_opts opts = {.depth = depth, .unregistered = which == UNREGISTERED};
	enum stele_err err = STELE_OK;
	if (which == THREADS)
		err = stele_env_threads_create(&opts, &env);
	else if (which == IO_URING || which == UNREGISTERED)
		err = stele_env_uring_create(&opts, &env);
	else if (stele_sim_create(depth, &sim) == STELE_OK)
		err = stele_sim_env(sim, "127.0.0.1", &env);
	if (err != STELE_OK && which != THREADS && which != SIMULATED)
		cr_skip_test("io_uring is refused here: %s", stele_detail());
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	loop_thread = pthread_self();
	waiting = 0;
	const char *base = getenv("TMPDIR");
	snprintf(dir, sizeof(dir), "%.40s/stele-env-XXXXXX", base ? base : "/tmp");
	if (which == SIMULATED)
		cr_assert_eq(stele_file_mkdirs(env, dir, 0), STELE_OK);
	else
		cr_assert(mkdtemp(dir));
}

static void tear_down(void)
{
	struct stele_list list = {0};
	cr_assert_eq(stele_file_list(env, dir, &list), STELE_OK);
	for (size_t i = 0; i < list.n && !sim; i++) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", dir, list.name[i]);
		cr_assert_eq(remove(path), 0);
	}
	stele_list_finish(&list);
	if (!sim)
		rmdir(dir);
	stele_env_destroy(env);
	stele_sim_destroy(sim);
}

static void close_now(int fd)
{
	stele_file_close(env, &fd);
}

static const char *in_dir(const char *name)
{
	static char path[4][512];
	static int turn;
	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

/* An operation under test: counts its callbacks. */
struct probe {
	struct stele_op op;
	struct iovec iov[4];
	int fired;
	int order;
};
static int order_next;

static void probe_cb(struct stele_op *op)
{
	struct probe *p = op->ctx;
	cr_assert(!inside, "a callback inside submit or cancel");
	cr_assert(pthread_equal(pthread_self(), loop_thread));
	cr_assert(!stele_op_pending(op));
	p->fired++;
	p->order = order_next++;
	if (--waiting == 0)
		stele_env_stop(env);
}

static void submit(struct probe *p)
{
	p->op.cb = probe_cb;
	p->op.ctx = p;
	if (p->op.niov && p->op.iov == NULL)
		p->op.iov = p->iov;
	waiting++;
	inside = true;
	stele_env_submit(env, &p->op);
	inside = false;
	cr_assert(stele_op_pending(&p->op));
}

static void cancel(struct probe *p)
{
	inside = true;
	stele_env_cancel(env, &p->op);
	inside = false;
}

static void run_all(void)
{
	if (waiting > 0)
		stele_env_run(env);
	cr_assert_eq(waiting, 0);
}

static int64_t run_one(struct probe *p)
{
	int before = p->fired;
	submit(p);
	run_all();
	cr_assert_eq(p->fired, before + 1);
	return p->op.result;
}

static struct probe transfer(enum stele_op_kind kind, int fd, void *buf, size_t len, uint64_t off)
{
	return (struct probe){.op = {.kind = kind, .fd = fd, .niov = 1, .off = off},
	                      .iov = {{.iov_base = buf, .iov_len = len}}};
}

static int64_t close_async(int fd)
{
	struct probe p = {.op = {.kind = STELE_OP_CLOSE, .fd = fd}};
	return run_one(&p);
}

static int open_file(const char *name, uint32_t flags)
{
	int fd = -1;
	cr_assert_eq(stele_file_open(env, in_dir(name), flags, 0, &fd), STELE_OK, "%s",
	             stele_detail());
	return fd;
}

static int listen_any(char addr[STELE_ADDR_MAX])
{
	struct stele_op op = {.kind = STELE_OP_LISTEN, .path = "127.0.0.1:0", .path_buf = addr};
	int64_t fd = stele_env_call(env, &op);
	cr_assert_geq(fd, 0);
	return (int)fd;
}

/* A connected pair of sockets. */
static void connect_pair(int fd[2])
{
	char addr[STELE_ADDR_MAX], peer[STELE_ADDR_MAX];
	int listener = listen_any(addr);
	struct probe accept = {.op = {.kind = STELE_OP_ACCEPT, .fd = listener, .path_buf = peer}};
	struct probe connect = {.op = {.kind = STELE_OP_CONNECT, .path = addr}};
	submit(&accept);
	submit(&connect);
	run_all();
	cr_assert_geq(accept.op.result, 0);
	cr_assert_geq(connect.op.result, 0);
	cr_assert_eq(strncmp(peer, "127.0.0.1:", 10), 0);
	fd[0] = (int)accept.op.result;
	fd[1] = (int)connect.op.result;
	cr_assert_eq(close_async(listener), 0);
}

/* Files */

ENV_TEST(write_and_read, all)
{
	set_up(*which, 0);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	char out[] = "hello, extent", in[64] = {0};
	struct probe w = {.op = {.kind = STELE_OP_WRITEV,
	                         .fd = fd,
	                         .niov = 3,
	                         .off = 5,
	                         .flags = STELE_WRITE_DSYNC},
	                  .iov = {{out, 5}, {out + 5, 1}, {out + 6, 7}}};
	cr_assert_eq(run_one(&w), 13);
	struct probe r = transfer(STELE_OP_READV, fd, in, 13, 5);
	cr_assert_eq(run_one(&r), 13);
	cr_assert_str_eq(in, out);
	r = transfer(STELE_OP_READV, fd, in, sizeof(in), 10);
	cr_assert_eq(run_one(&r), 8, "up to the end of the file");
	r = transfer(STELE_OP_READV, fd, in, sizeof(in), 18);
	cr_assert_eq(run_one(&r), 0);
	r = transfer(STELE_OP_READV, fd, in, 0, 0);
	cr_assert_eq(run_one(&r), 0);
	struct probe s = {.op = {.kind = STELE_OP_SYNC, .fd = fd}};
	cr_assert_eq(run_one(&s), 0);
	cr_assert_eq(close_async(fd), 0);
	int d = -1;
	cr_assert_eq(stele_file_open(env, dir, STELE_OPEN_DIR, 0, &d), STELE_OK);
	s.op.fd = d;
	cr_assert_eq(run_one(&s), 0, "a directory");
	cr_assert_eq(close_async(d), 0);
	tear_down();
}

ENV_TEST(errors_are_results, all)
{
	set_up(*which, 0);
	char byte = 'x';
	close_now(open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE));
	int fd = open_file("f", STELE_OPEN_READ);
	struct probe p = transfer(STELE_OP_WRITEV, fd, &byte, 1, 0);
	cr_assert_eq(run_one(&p), -EBADF);
	close_now(fd);
	p = transfer(STELE_OP_READV, 1000, &byte, 1, 0);
	cr_assert_eq(run_one(&p), -EBADF);
	p = (struct probe){.op = {.kind = STELE_OP_SYNC, .fd = 1000}};
	cr_assert_eq(run_one(&p), -EBADF);
	cr_assert_eq(close_async(1000), -EBADF);
	cr_assert_eq(close_async(-1), -EBADF);
	p = transfer(STELE_OP_READV, -1, &byte, 1, 0);
	cr_assert_eq(run_one(&p), -EBADF);
	p = transfer(STELE_OP_RECV, -1, &byte, 1, 0);
	cr_assert_eq(run_one(&p), -EBADF);
	p = (struct probe){.op = {.kind = STELE_OP_CONNECT, .path = "no port"}};
	cr_assert_eq(run_one(&p), -EINVAL);
	p = (struct probe){.op = {.kind = STELE_OP_CONNECT, .path = "127.0.0.1:65536"}};
	cr_assert_eq(run_one(&p), -EINVAL);
	tear_down();
}

ENV_TEST(direct_io_reads_to_an_odd_end, all)
{
	set_up(*which, 0);
	enum { LEN = 3 * STELE_PAGE };
	uint8_t *buf = NULL;
	cr_assert_eq(posix_memalign((void **)&buf, STELE_PAGE, 2 * LEN), 0);
	for (int i = 0; i < LEN; i++)
		buf[i] = (uint8_t)(i * 7 + i / 256);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_DIRECT);
	struct probe p = transfer(STELE_OP_WRITEV, fd, buf, LEN, 0);
	p.op.flags = STELE_WRITE_DSYNC;
	cr_assert_eq(run_one(&p), LEN);
	static const int sizes[] = {LEN, LEN - 1, LEN - STELE_PAGE + 5, 100, 0};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct stele_op cut = {.kind = STELE_OP_TRUNCATE, .fd = fd, .len = sizes[i]};
		cr_assert_eq(stele_env_call(env, &cut), 0);
		memset(buf + LEN, 0xee, LEN);
		p = transfer(STELE_OP_READV, fd, buf + LEN, LEN, 0);
		cr_assert_eq(run_one(&p), sizes[i]);
		cr_assert_eq(memcmp(buf, buf + LEN, sizes[i]), 0);
		/* and by call */
		p = transfer(STELE_OP_READV, fd, buf + LEN, LEN, 0);
		p.op.iov = p.iov;
		cr_assert_eq(stele_env_call(env, &p.op), sizes[i]);
	}
	close_async(fd);
	free(buf);
	tear_down();
}

ENV_TEST(more_iovecs_than_one_call_takes, all)
{
	set_up(*which, 0);
	enum { N = 2500 };
	uint8_t *bytes = malloc(2 * N * 3);
	struct iovec *iov = malloc(N * sizeof(*iov));
	for (int i = 0; i < N * 3; i++)
		bytes[i] = (uint8_t)(i * 31);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (int reads = 0; reads < 2; reads++) {
		for (int i = 0; i < N; i++)
			iov[i] = (struct iovec){bytes + (reads ? N * 3 : 0) + i * 3, 3};
		struct probe p = {.op = {.kind = reads ? STELE_OP_READV : STELE_OP_WRITEV,
		                         .fd = fd,
		                         .iov = iov,
		                         .niov = N,
		                         .off = 1}};
		cr_assert_eq(run_one(&p), N * 3);
	}
	cr_assert_eq(memcmp(bytes, bytes + N * 3, N * 3), 0);
	close_async(fd);
	free(iov);
	free(bytes);
	tear_down();
}

/* Random overlapping-free writes and reads, far more than fit the kernel's queue, against a plain
 * array. */
ENV_TEST(many_at_once_against_a_model, all)
{
	set_up(*which, 8);
	enum { SLOTS = 600, LEN = 512 };
	static uint8_t model[SLOTS][LEN], seen[SLOTS][LEN];
	static struct probe p[SLOTS];
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	srand(7);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < SLOTS; i++) {
			if (round > 0 && rand() % 2) {
				memset(seen[i], 0xee, LEN);
				p[i] =
				    transfer(STELE_OP_READV, fd, seen[i], LEN, (uint64_t)i * LEN);
			} else {
				memset(model[i], rand(), LEN);
				p[i] =
				    transfer(STELE_OP_WRITEV, fd, model[i], LEN, (uint64_t)i * LEN);
			}
			submit(&p[i]);
		}
		run_all();
		for (int i = 0; i < SLOTS; i++) {
			cr_assert_eq(p[i].fired, 1);
			cr_assert_eq(p[i].op.result, LEN);
			if (p[i].op.kind == STELE_OP_READV)
				cr_assert_eq(memcmp(seen[i], model[i], LEN), 0);
		}
	}
	close_async(fd);
	tear_down();
}

ENV_TEST(close_waits_for_the_file, all)
{
	set_up(*which, 4);
	enum { N = 40 };
	static struct probe w[N];
	static uint8_t bytes[65536];
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (int i = 0; i < N; i++) {
		w[i] = transfer(STELE_OP_WRITEV, fd, bytes, sizeof(bytes), i * sizeof(bytes));
		submit(&w[i]);
	}
	struct probe c = {.op = {.kind = STELE_OP_CLOSE, .fd = fd}};
	submit(&c);
	run_all();
	cr_assert_eq(c.op.result, 0);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(w[i].op.result, sizeof(bytes));
		cr_assert_lt(w[i].order, c.order);
	}
	struct probe late = {.op = {.kind = STELE_OP_SYNC, .fd = fd}};
	cr_assert_eq(run_one(&late), -EBADF, "closed in fact");
	tear_down();
}

/* Timers */

ENV_TEST(timers_fire_in_order, all)
{
	set_up(*which, 0);
	enum { N = 300 };
	static struct probe t[N];
	srand(3);
	uint64_t start = stele_env_now(env);
	for (int i = 0; i < N; i++) {
		t[i] = (struct probe){
		    .op = {.kind = STELE_OP_TIMER, .off = start + (uint64_t)(rand() % 30) * MS}};
		submit(&t[i]);
	}
	for (int i = 0; i < N; i += 3)
		cancel(&t[i]);
	run_all();
	for (int i = 0; i < N; i++) {
		cr_assert_eq(t[i].fired, 1);
		cr_assert_eq(t[i].op.result, i % 3 == 0 ? -ECANCELED : 0);
		for (int j = 0; j < i; j++) {
			if (i % 3 == 0 || j % 3 == 0 || t[i].op.off == t[j].op.off)
				continue;
			cr_assert_eq(t[i].op.off < t[j].op.off, t[i].order < t[j].order);
		}
	}
	cr_assert_geq(stele_env_now(env), start);
	tear_down();
}

ENV_TEST(a_timer_is_never_early, all)
{
	set_up(*which, 0);
	for (int i = 0; i < 5; i++) {
		uint64_t at = stele_env_now(env) + 3 * MS + 12345;
		struct probe t = {.op = {.kind = STELE_OP_TIMER, .off = at}};
		cr_assert_eq(run_one(&t), 0);
		cr_assert_geq(stele_env_now(env), at);
	}
	struct probe past = {.op = {.kind = STELE_OP_TIMER, .off = 0}};
	cr_assert_eq(run_one(&past), 0);
	/* one that never comes does not keep the others from coming */
	struct probe never = {.op = {.kind = STELE_OP_TIMER, .off = UINT64_MAX}};
	struct probe soon = {.op = {.kind = STELE_OP_TIMER, .off = stele_env_now(env) + MS}};
	submit(&never);
	waiting = 0;
	cr_assert_eq(run_one(&soon), 0);
	waiting = 1;
	cancel(&never);
	run_all();
	cr_assert_eq(never.op.result, -ECANCELED);
	tear_down();
}

/* Workers */

static sem_t gate;

static void work_wait(struct stele_op *op)
{
	cr_assert(sim || !pthread_equal(pthread_self(), loop_thread));
	sem_wait(&gate);
	op->result = 42;
}

static void work_open(struct stele_op *op)
{
	(void)op;
	sem_post(&gate);
	sem_post(&gate);
	sem_post(&gate);
}

ENV_TEST(long_work_does_not_hold_up_short_work, real)
{
	set_up(*which, 0);
	sem_init(&gate, 0, 0);
	struct probe slow[3] = {0}, quick = {.op = {.kind = STELE_OP_WORK, .work = work_open}};
	for (int i = 0; i < 3; i++) { /* more than there are threads */
		slow[i].op = (struct stele_op){
		    .kind = STELE_OP_WORK, .work = work_wait, .flags = STELE_WORK_LONG};
		submit(&slow[i]);
	}
	submit(&quick);
	run_all(); /* would hang if one queue served both */
	cr_assert_eq(quick.op.result, 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(slow[i].op.result, 42);
	tear_down();
}

ENV_TEST(queued_work_can_be_cancelled, real)
{
	set_up(*which, 0);
	sem_init(&gate, 0, 0);
	enum { N = 12 };
	static struct probe w[N];
	for (int i = 0; i < N; i++) {
		w[i] = (struct probe){.op = {.kind = STELE_OP_WORK, .work = work_wait}};
		submit(&w[i]);
	}
	for (int i = 0; i < N; i++)
		cancel(&w[i]);
	for (int i = 0; i < N; i++)
		sem_post(&gate);
	run_all();
	int cancelled = 0;
	for (int i = 0; i < N; i++) {
		cr_assert_eq(w[i].fired, 1);
		cancelled += w[i].op.result == -ECANCELED;
		cr_assert(w[i].op.result == -ECANCELED || w[i].op.result == 42);
	}
	cr_assert_geq(cancelled, N - 2, "only what a worker had begun runs");
	tear_down();
}

/* Workers may call. */
static void work_call(struct stele_op *op)
{
	struct probe *p = op->ctx;
	struct iovec iov = {.iov_base = p, .iov_len = 8};
	struct stele_op w = {.kind = STELE_OP_WRITEV,
	                     .fd = (int)op->off,
	                     .iov = &iov,
	                     .niov = 1,
	                     .off = op->len * 8,
	                     .flags = STELE_WRITE_DSYNC};
	op->result = stele_env_call(env, &w);
}

ENV_TEST(workers_may_call, real)
{
	set_up(*which, 0);
	enum { N = 32 };
	static struct probe w[N];
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (int i = 0; i < N; i++) {
		w[i] = (struct probe){.op = {.kind = STELE_OP_WORK,
		                             .work = work_call,
		                             .flags = i % 2 ? STELE_WORK_LONG : 0,
		                             .off = (uint64_t)fd,
		                             .len = (uint64_t)i}};
		submit(&w[i]);
	}
	run_all();
	for (int i = 0; i < N; i++)
		cr_assert_eq(w[i].op.result, 8);
	close_async(fd);
	tear_down();
}

/* post and stop */

enum { POSTERS = 4, POSTS = 500 };
struct posted {
	struct stele_msg msg;
	int poster;
	int seq;
};
static struct posted posted[POSTERS][POSTS];
static int posted_n;
static int posted_next[POSTERS];

static void posted_run(struct stele_msg *msg)
{
	struct posted *p = (struct posted *)msg;
	cr_assert(pthread_equal(pthread_self(), loop_thread));
	cr_assert_eq(p->seq, posted_next[p->poster]++, "in order for each thread");
	if (++posted_n == POSTERS * POSTS)
		stele_env_stop(env);
}

static void *poster(void *arg)
{
	struct posted *p = arg;
	for (int i = 0; i < POSTS; i++)
		stele_env_post(env, &p[i].msg);
	return NULL;
}

ENV_TEST(post_from_many_threads, real)
{
	set_up(*which, 0);
	pthread_t thread[POSTERS];
	for (int i = 0; i < POSTERS; i++) {
		for (int j = 0; j < POSTS; j++)
			posted[i][j] =
			    (struct posted){.msg = {.run = posted_run}, .poster = i, .seq = j};
		pthread_create(&thread[i], NULL, poster, posted[i]);
	}
	stele_env_run(env);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(posted_n, POSTERS * POSTS);
	tear_down();
}

static void on_alarm(int signal)
{
	(void)signal;
	stele_env_stop(env);
}

ENV_TEST(stop_from_a_signal_handler, real)
{
	set_up(*which, 0);
	stele_env_stop(env); /* before run: it returns at once */
	stele_env_run(env);
	signal(SIGALRM, on_alarm);
	for (int i = 0; i < 3; i++) {
		struct itimerval in_5ms = {.it_value = {.tv_usec = 5000}};
		setitimer(ITIMER_REAL, &in_5ms, NULL);
		stele_env_run(env); /* waits for nothing but the signal */
	}
	tear_down();
}

static void *run_elsewhere(void *arg)
{
	loop_thread = pthread_self();
	stele_env_run(arg);
	return NULL;
}

ENV_TEST(a_loop_on_another_thread, real)
{
	set_up(*which, 0);
	char byte = 'x';
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	struct probe w = transfer(STELE_OP_WRITEV, fd, &byte, 1, 0);
	submit(&w); /* before the loop runs: from the thread that made the env */
	pthread_t thread;
	pthread_create(&thread, NULL, run_elsewhere, env);
	pthread_join(thread, NULL);
	cr_assert_eq(w.op.result, 1);
	close_now(fd);
	tear_down();
}

/* Sockets */

ENV_TEST(a_stream_arrives_whole, all)
{
	set_up(*which, 0);
	enum { LEN = 5000001 };
	uint8_t *out = malloc(LEN), *in = malloc(LEN);
	for (int i = 0; i < LEN; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	int fd[2];
	connect_pair(fd);
	struct probe send = {.op = {.kind = STELE_OP_SEND, .fd = fd[0], .niov = 3},
	                     .iov = {{out, 1}, {out + 1, 3000000}, {out + 3000001, 2000000}}};
	submit(&send);
	srand(5);
	size_t got = 0;
	while (got < LEN) {
		size_t want = 1 + (size_t)rand() % 300000;
		size_t half = want / 2;
		struct probe recv = {.op = {.kind = STELE_OP_RECV, .fd = fd[1], .niov = 2}};
		if (want > LEN - got)
			want = LEN - got, half = 0;
		recv.iov[0] = (struct iovec){in + got, want - half};
		recv.iov[1] = (struct iovec){in + got + want - half, half};
		waiting = 0; /* run until this one is in */
		submit(&recv);
		stele_env_run(env);
		if (!recv.fired) { /* the SEND ended first */
			cr_assert_eq(send.fired, 1);
			waiting = 1;
			stele_env_run(env);
		}
		cr_assert_eq(recv.fired, 1);
		cr_assert_gt(recv.op.result, 0);
		cr_assert_leq((size_t)recv.op.result, want);
		got += (size_t)recv.op.result;
	}
	if (!send.fired) {
		waiting = 1;
		run_all();
	}
	cr_assert_eq(send.op.result, LEN);
	cr_assert_eq(memcmp(in, out, LEN), 0);
	close_async(fd[0]);
	struct probe end = transfer(STELE_OP_RECV, fd[1], in, 1, 0);
	cr_assert_eq(run_one(&end), 0, "the end of the stream");
	close_async(fd[1]);
	free(out);
	free(in);
	tear_down();
}

ENV_TEST(names_are_looked_up, real)
{
	set_up(*which, 0);
	char addr[STELE_ADDR_MAX], name[STELE_ADDR_MAX + 16];
	int listener = listen_any(addr);
	snprintf(name, sizeof(name), "localhost%s", strrchr(addr, ':'));
	struct probe c = {.op = {.kind = STELE_OP_CONNECT, .path = name}};
	int64_t fd = run_one(&c);
	cr_assert_geq(fd, 0);
	close_async((int)fd);
	c.op.path = name;
	submit(&c);
	cancel(&c); /* while it is being looked up, or just after */
	run_all();
	cr_assert(c.op.result == -ECANCELED || c.op.result >= 0);
	if (c.op.result >= 0)
		close_async((int)c.op.result);
	close_async(listener);
	tear_down();
}

ENV_TEST(nobody_listens, all)
{
	set_up(*which, 0);
	char addr[STELE_ADDR_MAX];
	int listener = listen_any(addr);
	struct stele_op twice = {.kind = STELE_OP_LISTEN, .path = addr};
	cr_assert_eq(stele_env_call(env, &twice), -EADDRINUSE);
	close_async(listener);
	struct probe c = {.op = {.kind = STELE_OP_CONNECT, .path = addr}};
	cr_assert_eq(run_one(&c), -ECONNREFUSED);
	tear_down();
}

ENV_TEST(a_gone_peer_is_an_error_and_no_signal, real)
{
	set_up(*which, 0);
	signal(SIGPIPE, SIG_DFL);
	int fd[2];
	connect_pair(fd);
	struct linger hard = {.l_onoff = 1};
	setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close_async(fd[0]); /* a reset */
	static uint8_t bytes[65536];
	struct probe r = transfer(STELE_OP_RECV, fd[1], bytes, 1, 0);
	cr_assert_eq(run_one(&r), -ECONNRESET);
	for (int i = 0; i < 2; i++) {
		struct probe s = transfer(STELE_OP_SEND, fd[1], bytes, sizeof(bytes), 0);
		cr_assert_eq(run_one(&s), -EPIPE);
	}
	close_async(fd[1]);
	tear_down();
}

ENV_TEST(closing_a_socket_ends_what_is_pending_on_it, all)
{
	set_up(*which, 0);
	char addr[STELE_ADDR_MAX];
	int listener = listen_any(addr);
	struct probe accept = {.op = {.kind = STELE_OP_ACCEPT, .fd = listener}};
	submit(&accept);
	int fd[2];
	waiting = 0;
	connect_pair(fd);
	uint8_t byte;
	static uint8_t big[8 << 20];
	struct probe recv = transfer(STELE_OP_RECV, fd[0], &byte, 1, 0);
	struct probe send = transfer(STELE_OP_SEND, fd[0], big, sizeof(big), 0);
	struct probe close[2] = {{.op = {.kind = STELE_OP_CLOSE, .fd = fd[0]}},
	                         {.op = {.kind = STELE_OP_CLOSE, .fd = listener}}};
	submit(&recv);
	submit(&send);
	/* let them reach the kernel, and the SEND fill the pipe */
	struct probe t = {.op = {.kind = STELE_OP_TIMER, .off = stele_env_now(env) + 20 * MS}};
	waiting = 0;
	run_one(&t);
	cr_assert_eq(accept.fired + recv.fired + send.fired, 0);
	waiting = 3;
	submit(&close[0]);
	submit(&close[1]);
	run_all();
	cr_assert_eq(accept.op.result, -ECANCELED);
	cr_assert_eq(recv.op.result, -ECANCELED);
	cr_assert_eq(send.op.result, -ECANCELED);
	cr_assert_eq(close[0].op.result, 0);
	cr_assert_eq(close[1].op.result, 0);
	cr_assert_lt(recv.order, close[0].order);
	cr_assert_lt(send.order, close[0].order);
	cr_assert_lt(accept.order, close[1].order);
	close_async(fd[1]);
	tear_down();
}

static int late_close[2];
static struct probe closing;

/* Bytes arrive, and before the loop looks again, the socket is closed. */
static void send_and_close(struct stele_op *op)
{
	cr_assert_eq(write(late_close[1], "x", 1), 1);
	closing = (struct probe){.op = {.kind = STELE_OP_CLOSE, .fd = late_close[0]}};
	submit(&closing);
	probe_cb(op);
}

ENV_TEST(closing_comes_before_bytes_that_just_arrived, real)
{
	set_up(*which, 0);
	connect_pair(late_close);
	char byte;
	struct probe recv = transfer(STELE_OP_RECV, late_close[0], &byte, 1, 0);
	submit(&recv);
	struct probe t = {.op = {.kind = STELE_OP_TIMER,
	                         .off = stele_env_now(env) + 5 * MS,
	                         .cb = send_and_close,
	                         .ctx = &t}};
	waiting++;
	stele_env_submit(env, &t.op);
	run_all();
	cr_assert_eq(recv.op.result, -ECANCELED);
	cr_assert_eq(closing.op.result, 0);
	close_async(late_close[1]);
	tear_down();
}

ENV_TEST(cancelling_on_sockets, all)
{
	set_up(*which, 0);
	char addr[STELE_ADDR_MAX];
	int listener = listen_any(addr);
	int fd[2];
	connect_pair(fd);
	uint8_t byte;
	for (int late = 0; late < 2; late++) {
		struct probe accept = {.op = {.kind = STELE_OP_ACCEPT, .fd = listener}};
		struct probe recv = transfer(STELE_OP_RECV, fd[0], &byte, 1, 0);
		submit(&accept);
		submit(&recv);
		if (late) { /* in the kernel by now */
			struct probe t = {
			    .op = {.kind = STELE_OP_TIMER, .off = stele_env_now(env) + 5 * MS}};
			waiting = 0;
			run_one(&t);
			waiting = 2;
		}
		cancel(&recv);
		cancel(&accept);
		cancel(&accept); /* twice does no harm */
		run_all();
		cr_assert_eq(recv.op.result, -ECANCELED);
		cr_assert_eq(accept.op.result, -ECANCELED);
		cr_assert_eq(recv.fired, 1);
		cr_assert_eq(accept.fired, 1);
		cancel(&recv); /* not under way: nothing */
	}
	/* the socket still works */
	uint8_t x = 'x';
	struct probe send = transfer(STELE_OP_SEND, fd[1], &x, 1, 0);
	struct probe recv = transfer(STELE_OP_RECV, fd[0], &byte, 1, 0);
	submit(&send);
	submit(&recv);
	run_all();
	cr_assert_eq(recv.op.result, 1);
	cr_assert_eq(byte, 'x');
	close_async(fd[0]);
	close_async(fd[1]);
	close_async(listener);
	tear_down();
}

/* Sockets that sleep must not keep disk operations out of the kernel. */
ENV_TEST(idle_receivers_do_not_block_the_disk, all)
{
	set_up(*which, 4);
	enum { N = 24 };
	static struct probe recv[N];
	static uint8_t byte[N];
	int fd[N][2];
	for (int i = 0; i < N; i++) {
		connect_pair(fd[i]);
		recv[i] = transfer(STELE_OP_RECV, fd[i][0], &byte[i], 1, 0);
	}
	for (int i = 0; i < N; i++)
		submit(&recv[i]);
	int file = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	uint8_t x = 'x';
	struct probe w = transfer(STELE_OP_WRITEV, file, &x, 1, 0);
	waiting = 0;
	cr_assert_eq(run_one(&w), 1);
	close_now(file);
	waiting = N;
	for (int i = 0; i < N; i++)
		cancel(&recv[i]);
	run_all();
	for (int i = 0; i < N; i++) {
		cr_assert_eq(recv[i].op.result, -ECANCELED);
		close_async(fd[i][0]);
		close_async(fd[i][1]);
	}
	tear_down();
}

/* Random operations and random cancels: every callback comes exactly once, with a lawful result. */
ENV_TEST(a_storm_of_cancels, all)
{
	set_up(*which, 8);
	enum { N = 400 };
	static struct probe p[N];
	static uint8_t bytes[4096];
	int file = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	int fd[2];
	connect_pair(fd);
	char addr[STELE_ADDR_MAX];
	int listener = listen_any(addr);
	sem_init(&gate, 0, N * 4);
	srand(11);
	for (int round = 0; round < 4; round++) {
		int recv_at = rand() % N, accept_at = rand() % N;
		for (int i = 0; i < N; i++) {
			int kind = rand() % 5;
			if (i == recv_at)
				p[i] = transfer(STELE_OP_RECV, fd[0], bytes, 1, 0);
			else if (i == accept_at)
				p[i] =
				    (struct probe){.op = {.kind = STELE_OP_ACCEPT, .fd = listener}};
			else if (kind == 0)
				p[i] = (struct probe){.op = {.kind = STELE_OP_TIMER,
				                             .off = stele_env_now(env) +
				                                    (uint64_t)(rand() % 5) * MS}};
			else if (kind == 1)
				p[i] = (struct probe){
				    .op = {.kind = STELE_OP_WORK, .work = work_wait}};
			else if (kind == 2)
				p[i] = (struct probe){.op = {.kind = STELE_OP_SYNC, .fd = file}};
			else
				p[i] = transfer(STELE_OP_WRITEV, file, bytes, sizeof(bytes),
				                (uint64_t)(rand() % 64) * sizeof(bytes));
			submit(&p[i]);
			if (rand() % 3 == 0)
				cancel(&p[rand() % (i + 1)]);
		}
		cancel(&p[recv_at]);
		cancel(&p[accept_at]);
		run_all();
		for (int i = 0; i < N; i++) {
			cr_assert_eq(p[i].fired, 1);
			int64_t r = p[i].op.result;
			cr_assert(r >= 0 || r == -ECANCELED, "%lld", (long long)r);
		}
	}
	close_async(file);
	close_async(fd[0]);
	close_async(fd[1]);
	close_async(listener);
	tear_down();
}

/* By call */

ENV_TEST(calls, all)
{
	set_up(*which, 0);
	struct stele_op op = {.kind = STELE_OP_MKDIR, .path = in_dir("d"), .len = 0700};
	cr_assert_eq(stele_env_call(env, &op), 0);
	cr_assert_eq(stele_env_call(env, &op), -EEXIST);
	int fd = open_file("b", STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL);
	op = (struct stele_op){.kind = STELE_OP_OPEN,
	                       .path = in_dir("b"),
	                       .flags = STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL};
	cr_assert_eq(stele_env_call(env, &op), -EEXIST);
	op = (struct stele_op){.kind = STELE_OP_OPEN, .path = in_dir("none")};
	cr_assert_eq(stele_env_call(env, &op), -ENOENT);
	op = (struct stele_op){.kind = STELE_OP_FALLOC, .fd = fd, .off = 4096, .len = 8192};
	cr_assert_eq(stele_env_call(env, &op), 0);
	struct stele_stat st;
	cr_assert_eq(stele_file_stat(env, in_dir("b"), &st), STELE_OK);
	cr_assert_eq(st.size, 12288u);
	cr_assert(!st.is_dir);
	cr_assert_geq(st.disk_total, st.disk_free);
	op = (struct stele_op){.kind = STELE_OP_TRUNCATE, .fd = fd, .len = 5};
	cr_assert_eq(stele_env_call(env, &op), 0);
	op = (struct stele_op){.kind = STELE_OP_LOCK, .fd = fd};
	cr_assert_eq(stele_env_call(env, &op), 0);
	int other = open_file("b", STELE_OPEN_READ);
	op.fd = other;
	cr_assert_eq(stele_env_call(env, &op), -EWOULDBLOCK);
	stele_file_close(env, &fd);
	cr_assert_eq(fd, -1);
	cr_assert_eq(stele_env_call(env, &op), 0, "free after close");
	stele_file_close(env, &other);
	stele_file_close(env, &other);
	op = (struct stele_op){.kind = STELE_OP_RENAME, .path = in_dir("b"), .path2 = in_dir("a")};
	cr_assert_eq(stele_env_call(env, &op), 0);
	cr_assert_eq(stele_file_stat(env, in_dir("b"), &st), STELE_ERR_NOT_FOUND);
	struct stele_list list = {0};
	cr_assert(stele_list_add(&list, "zz"));
	cr_assert_eq(stele_file_list(env, dir, &list), STELE_OK);
	cr_assert_eq(list.n, 3u);
	cr_assert_str_eq(list.name[0], "zz");
	cr_assert_str_eq(list.name[1], "a");
	cr_assert_str_eq(list.name[2], "d");
	stele_list_finish(&list);
	cr_assert_eq(stele_file_stat(env, in_dir("d"), &st), STELE_OK);
	cr_assert(st.is_dir);
	tear_down();
}

ENV_TEST(whole_files, all)
{
	set_up(*which, 0);
	char *bytes;
	size_t len;
	cr_assert_eq(stele_file_load(env, in_dir("f"), 100, &bytes, &len), STELE_ERR_NOT_FOUND);
	cr_assert(strstr(stele_detail(), "/f"));
	cr_assert_eq(stele_file_save(env, in_dir("f"), "one", 3, 0600), STELE_OK);
	cr_assert_eq(stele_file_save(env, in_dir("f"), "seven", 5, 0600), STELE_OK);
	cr_assert_eq(stele_file_load(env, in_dir("f"), 5, &bytes, &len), STELE_OK);
	cr_assert_eq(len, 5u);
	cr_assert_str_eq(bytes, "seven");
	free(bytes);
	cr_assert_eq(stele_file_load(env, in_dir("f"), 4, &bytes, &len), STELE_ERR_TOO_LARGE);
	struct stat st;
	if (!sim) {
		cr_assert_eq(stat(in_dir("f"), &st), 0);
		cr_assert_eq(st.st_mode & 0777, 0600u);
	}
	static char big[100001];
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i % 251);
	cr_assert_eq(stele_file_save(env, in_dir("big"), big, sizeof(big), 0), STELE_OK);
	cr_assert_eq(stele_file_load(env, in_dir("big"), 1 << 20, &bytes, &len), STELE_OK);
	cr_assert_eq(len, sizeof(big));
	cr_assert_eq(memcmp(bytes, big, len), 0);
	free(bytes);
	int fd = open_file("big", STELE_OPEN_READ);
	char some[10];
	cr_assert_eq(stele_file_pread(env, fd, some, 10, 100000), STELE_ERR_CORRUPT);
	cr_assert_eq(stele_file_pread(env, fd, some, 1, 100000), STELE_OK);
	stele_file_close(env, &fd);
	struct stele_list list = {0};
	cr_assert_eq(stele_file_list(env, dir, &list), STELE_OK);
	cr_assert_eq(list.n, 2u, "no temporaries are left");
	stele_list_finish(&list);
	cr_assert_eq(stele_file_save(env, in_dir("none/f"), "x", 1, 0), STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_file_unlink(env, in_dir("big")), STELE_OK);
	cr_assert_eq(stele_file_unlink(env, in_dir("big")), STELE_ERR_NOT_FOUND);
	tear_down();
}

ENV_TEST(directories, real)
{
	set_up(*which, 0);
	cr_assert_eq(stele_file_mkdirs(env, in_dir("x/y//z"), 0), STELE_OK);
	cr_assert_eq(stele_file_mkdirs(env, in_dir("x/y/z/"), 0), STELE_OK);
	struct stele_stat st;
	cr_assert_eq(stele_file_stat(env, in_dir("x/y/z"), &st), STELE_OK);
	cr_assert(st.is_dir);
	cr_assert_eq(stele_file_save(env, in_dir("x/file"), "", 0, 0), STELE_OK);
	cr_assert_neq(stele_file_mkdirs(env, in_dir("x/file"), 0), STELE_OK);
	cr_assert_neq(stele_file_mkdirs(env, in_dir("x/file/below"), 0), STELE_OK);
	cr_assert_eq(remove(in_dir("x/file")), 0);
	cr_assert_eq(remove(in_dir("x/y/z")), 0);
	cr_assert_eq(remove(in_dir("x/y")), 0);
	tear_down();
}

ENV_TEST(randomness, all)
{
	set_up(*which, 0);
	uint64_t a = stele_env_random_u64(env), b = stele_env_random_u64(env);
	cr_assert_neq(a, b);
	cr_assert_gt(stele_env_wall(env), 1600000000);
	tear_down();
}

/* Lent memory */

#define LENT (256 << 10)

static uint8_t *map_at(void *at, size_t len)
{
	void *p = mmap(at, len, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
	cr_assert_neq(p, MAP_FAILED);
	return p;
}

/* Byte i of a file that tells its places apart. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

static bool has_pattern(const uint8_t *p, size_t len, size_t off)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != pattern(off + i))
			return false;
	return true;
}

/* Reads len bytes of the file at off to `at`, among bytes that must stay as they are. */
static void read_among(int fd, uint8_t *at, size_t len, size_t off)
{
	memset(at - 8, 0xee, len + 16);
	struct probe r = transfer(STELE_OP_READV, fd, at, len, off);
	cr_assert_eq(run_one(&r), (int64_t)len);
	cr_assert(has_pattern(at, len, off), "%zu bytes at %zu", len, off);
	for (size_t i = 1; i <= 8; i++)
		cr_assert(at[-(long)i] == 0xee && at[len + i - 1] == 0xee);
}

/* Everything is read and written as ever, within lent memory, at its edges and outside. */
ENV_TEST(lent_memory, lenders)
{
	set_up(*which, 0);
	uint8_t *p = map_at(NULL, 3 * LENT), *mid = p + LENT;
	stele_env_lend(env, mid, LENT);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (size_t i = 0; i < LENT; i++)
		mid[i] = pattern(i);
	struct probe w = transfer(STELE_OP_WRITEV, fd, mid, LENT, 0);
	w.op.flags = STELE_WRITE_DSYNC;
	cr_assert_eq(run_one(&w), LENT);
	read_among(fd, p + 8, LENT - 16, 3);          /* outside */
	read_among(fd, mid + 8, 5000, 77);            /* within */
	read_among(fd, mid + LENT - 5000, 4992, 1);   /* up to near its end */
	read_among(fd, mid + LENT - 5000, 5000, 123); /* up to its end */
	read_among(fd, mid + LENT - 5000, 5001, 99);  /* over its end */
	read_among(fd, mid - 1, 2, 1000);             /* over its beginning */
	read_among(fd, mid + LENT, 4096, 31);         /* behind it */
	struct probe v = {.op = {.kind = STELE_OP_READV, .fd = fd, .niov = 2, .off = 10},
	                  .iov = {{mid + 100, 50}, {mid + 300, 70}}};
	cr_assert_eq(run_one(&v), 120);
	cr_assert(has_pattern(mid + 100, 50, 10) && has_pattern(mid + 300, 70, 60));
	struct probe end = transfer(STELE_OP_READV, fd, mid, LENT, LENT - 10);
	cr_assert_eq(run_one(&end), 10); /* the file ends */
	cr_assert(has_pattern(mid, 10, LENT - 10));
	stele_env_take_back(env, mid);
	read_among(fd, mid + 8, 5000, 200);
	close_now(fd);
	munmap(p, 3 * LENT);
	tear_down();
}

/* Registered pages are pinned: the kernel reaches them whatever the process may. */
ENV_TEST(lent_memory_is_registered, rings)
{
	set_up(*which, 0);
	bool registered = *which == IO_URING;
	char text[STELE_ENV_TEXT];
	uint8_t *p = map_at(NULL, 2 * LENT);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (size_t i = 0; i < LENT; i++)
		p[i] = pattern(i);
	cr_assert_eq(stele_file_pwrite(env, fd, p, LENT, 0, 0), STELE_OK);
	stele_env_describe(env, text);
	cr_assert_str_eq(text, registered ? "io_uring, no buffers (none lent) and no files registered"
	                                  : "io_uring, nothing registered (as asked)");
	stele_env_lend(env, p, LENT);
	stele_env_lend(env, p, LENT);
	stele_env_take_back(env, p); /* the first one still lends it */
	stele_env_describe(env, text);
	cr_assert_str_eq(text, registered ? "io_uring, 256 KiB of buffers and no files registered"
	                                  : "io_uring, nothing registered (as asked)");
	cr_assert_eq(mprotect(p, 2 * LENT, PROT_NONE), 0);
	struct probe in = transfer(STELE_OP_READV, fd, p + 4096, LENT - 4096, 9);
	struct probe over = transfer(STELE_OP_READV, fd, p + LENT - 4096, 8192, 0);
	struct probe out = transfer(STELE_OP_WRITEV, fd, p, 4096, LENT);
	cr_assert_eq(run_one(&in), registered ? LENT - 4096 : -EFAULT);
	cr_assert_eq(run_one(&over), -EFAULT);
	cr_assert_eq(run_one(&out), registered ? 4096 : -EFAULT);
	struct probe two = {.op = {.kind = STELE_OP_READV, .fd = fd, .niov = 2},
	                    .iov = {{p, 4096}, {p + 8192, 4096}}};
	cr_assert_eq(run_one(&two), -EFAULT);
	stele_env_take_back(env, p);
	cr_assert_eq(run_one(&in), -EFAULT);
	cr_assert_eq(mprotect(p, 2 * LENT, PROT_READ | PROT_WRITE), 0);
	cr_assert(!registered || has_pattern(p + 4096, LENT - 4096 - 9, 9));
	close_now(fd);
	munmap(p, 2 * LENT);
	tear_down();
}

/* Other pages at an address that was lent once are these pages, and may be lent in turn. */
ENV_TEST(memory_that_was_lent_is_used_anew, lenders)
{
	set_up(*which, 0);
	uint8_t *p = map_at(NULL, LENT);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	for (size_t i = 0; i < LENT; i++)
		p[i] = pattern(i);
	cr_assert_eq(stele_file_pwrite(env, fd, p, LENT, 0, 0), STELE_OK);
	for (int turn = 0; turn < 40; turn++) { /* more often than there are places for it */
		if (turn % 2)
			stele_env_lend(env, p, LENT);
		read_among(fd, p + 8, 10000, (size_t)turn);
		stele_env_take_back(env, p);
		munmap(p, LENT);
		p = map_at(p, LENT);
	}
	for (uint8_t *q = p; q < p + 20 * 4096; q += 4096)
		stele_env_lend(env, q, 4096); /* too small and too many */
	read_among(fd, p + 8, 100000, 5);
	close_now(fd);
	munmap(p, LENT);
	tear_down();
}

/* A file that begins with that byte; its descriptor. */
static int file_of(const char *name, char byte)
{
	int fd = open_file(name, STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	struct probe w = transfer(STELE_OP_WRITEV, fd, &byte, 1, 0);
	cr_assert_eq(run_one(&w), 1);
	return fd;
}

static char first_byte(int fd)
{
	char byte = '?';
	struct probe r = transfer(STELE_OP_READV, fd, &byte, 1, 0);
	cr_assert_eq(run_one(&r), 1);
	return byte;
}

static void describes(const char *expected)
{
	char text[STELE_ENV_TEXT];
	stele_env_describe(env, text);
	cr_assert_str_eq(text, expected);
}

/* Everything as ever, and when a descriptor is used again, it means the file that has it now. */
ENV_TEST(held_files, lenders)
{
	set_up(*which, 0);
	uint8_t *p = map_at(NULL, LENT);
	for (size_t i = 0; i < LENT; i++)
		p[i] = pattern(i);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE), before = fd;
	stele_env_hold(env, fd);
	for (int lent = 0; lent < 2; lent++) { /* buffers registered or not, alone and vectored */
		if (lent)
			stele_env_lend(env, p, LENT);
		struct probe w = transfer(STELE_OP_WRITEV, fd, p, LENT, 0);
		w.op.flags = STELE_WRITE_DSYNC;
		cr_assert_eq(run_one(&w), LENT);
		struct probe v = {.op = {.kind = STELE_OP_READV, .fd = fd, .niov = 2, .off = 10},
		                  .iov = {{p + 100, 50}, {p + 300, 70}}};
		cr_assert_eq(run_one(&v), 120);
		cr_assert(has_pattern(p + 100, 50, 10) && has_pattern(p + 300, 70, 60));
		read_among(fd, p + 8, LENT - 16, 3);
		struct probe s = {.op = {.kind = STELE_OP_SYNC, .fd = fd}};
		cr_assert_eq(run_one(&s), 0);
		for (size_t i = 0; i < LENT; i++)
			p[i] = pattern(i);
	}
	stele_env_take_back(env, p);
	for (int turn = 0; turn < 4; turn++) { /* it is the next one's; held or not */
		if (turn % 2 == 0)
			stele_env_release(env, fd);
		if (turn / 2 == 0)
			close_now(fd);
		else
			cr_assert_eq(close_async(fd), 0);
		char name[] = {(char)('0' + turn), 0};
		fd = file_of(name, (char)('a' + turn));
		cr_assert(fd == before || *which == SIMULATED);
		if (turn % 2)
			stele_env_hold(env, fd);
		cr_assert_eq(first_byte(fd), 'a' + turn);
	}
	struct probe sync = {.op = {.kind = STELE_OP_SYNC}};
	cr_assert_eq(stele_file_open(env, dir, STELE_OPEN_DIR, 0, &sync.op.fd), STELE_OK);
	stele_env_hold(env, sync.op.fd);
	cr_assert_eq(run_one(&sync), 0, "a directory");
	stele_env_release(env, sync.op.fd);
	close_now(sync.op.fd);
	stele_env_release(env, fd);
	close_now(fd);
	munmap(p, LENT);
	tear_down();
}

/* A registered file is reached whoever has its descriptor. */
ENV_TEST(held_files_are_registered, rings)
{
	set_up(*which, 0);
	bool registered = *which == IO_URING;
	int fd = file_of("f", 'f'), other = file_of("g", 'g');
	stele_env_hold(env, fd);
	describes(registered ? "io_uring, no buffers (none lent) and 1 file registered"
	                     : "io_uring, nothing registered (as asked)");
	int kept = dup(fd);
	cr_assert_eq(dup2(other, fd), fd);
	cr_assert_eq(first_byte(fd), registered ? 'f' : 'g');
	cr_assert_eq(dup2(kept, fd), fd);
	close(kept);
	stele_env_release(env, fd);
	describes(registered ? "io_uring, no buffers (none lent) and no files registered"
	                     : "io_uring, nothing registered (as asked)");
	cr_assert_eq(dup2(other, fd), fd);
	cr_assert_eq(first_byte(fd), 'g');
	close_now(fd);
	close_now(other);
	tear_down();
}

static void descriptors_below(rlim_t n)
{
	struct rlimit limit;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* There are as many places as descriptors were allowed when the first file was held; the others go without,
 * and so do all where there is no table. */
ENV_TEST(more_files_than_places, on_the_system)
{
	for (int places = 0; places <= 64; places += 64) {
		set_up(*which, 0);
		struct rlimit limit;
		cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
		int fd = file_of("f", 'f'), more[6];
		cr_assert(limit.rlim_cur >= 80 && fd < 58);
		descriptors_below((rlim_t)places);
		stele_env_hold(env, fd);
		descriptors_below(limit.rlim_cur);
		for (int i = 0; i < 6; i++) {
			char name[] = {(char)('0' + i), 0};
			int at = file_of(name, (char)('0' + i));
			more[i] = dup2(at, i < 5 ? 61 + i : 4096);
			close_now(at);
			if (more[i] >= 0)
				stele_env_hold(env, more[i]);
		}
		if (*which == IO_URING && more[5] >= 0)
			describes(places ? "io_uring, no buffers (none lent) and 4 of 7 files registered"
			                 : "io_uring, no buffers (none lent) and 0 of 7 files registered");
		cr_assert_eq(first_byte(fd), 'f');
		stele_env_release(env, fd);
		close_now(fd);
		for (int i = 0; i < 6 && more[i] >= 0; i++) {
			cr_assert_eq(first_byte(more[i]), '0' + i);
			stele_env_release(env, more[i]);
			cr_assert_eq(first_byte(more[i]), '0' + i);
			close_now(more[i]);
		}
		tear_down();
	}
}

static void run_for(uint64_t ns)
{
	struct probe t = {.op = {.kind = STELE_OP_TIMER, .off = stele_env_now(env) + ns}};
	int others = waiting;
	waiting = 0; /* the timer's end stops it */
	submit(&t);
	stele_env_run(env);
	cr_assert_eq(t.fired, 1);
	waiting = others;
}

/* What is under way when a file is released goes on, and the kernel keeps nothing of it afterwards. */
ENV_TEST(released_under_way, rings)
{
	set_up(*which, 0);
	int fd[2];
	char byte = '?';
	cr_assert_eq(pipe(fd), 0);
	stele_env_hold(env, fd[0]);
	stele_env_hold(env, fd[1]);
	struct probe r = transfer(STELE_OP_READV, fd[0], &byte, 1, 0);
	submit(&r);
	run_for(MS); /* it is in the kernel, and waits */
	cr_assert_eq(r.fired, 0);
	stele_env_release(env, fd[0]);
	stele_env_release(env, fd[1]);
	run_for(MS);
	cr_assert_eq(r.fired, 0);
	cr_assert_eq(write(fd[1], "x", 1), 1);
	run_all();
	cr_assert_eq(r.op.result, 1);
	cr_assert_eq(byte, 'x');
	close_now(fd[1]);
	struct pollfd end = {.fd = fd[0], .events = POLLIN};
	cr_assert_eq(poll(&end, 1, 5000), 1, "somebody still has the other end");
	cr_assert_eq(end.revents, POLLHUP);
	close_now(fd[0]);
	tear_down();
}

/* io_uring_enter fails for one or two new entries, as it may for any when the kernel is short of memory. */
static void refuse_few_entries(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 4),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0),
	    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 2, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBUSY),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = 7, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		cr_skip_test("no seccomp here: %s", strerror(errno));
}

/* An operation that the kernel has not even taken when its file is released finds its file. */
ENV_TEST(released_before_it_is_taken, rings)
{
	set_up(*which, 0);
	int fd = file_of("f", 'f'), other = file_of("g", 'g');
	stele_env_hold(env, fd);
	cr_assert_eq(first_byte(fd), 'f');
	char byte[4] = {0};
	struct probe r[4];
	for (int i = 0; i < 4; i++)
		r[i] = transfer(STELE_OP_READV, i ? other : fd, &byte[i], 1, 0);
	refuse_few_entries();
	submit(&r[0]);
	run_for(5 * MS);
	cr_assert_eq(r[0].fired, 0);
	stele_env_release(env, fd);
	for (int i = 1; i < 4; i++)
		submit(&r[i]);
	run_all();
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(r[i].op.result, 1, "%d: %lld", i, (long long)r[i].op.result);
		cr_assert_eq(byte[i], i ? 'g' : 'f');
	}
	close_now(fd);
	close_now(other);
	tear_down();
}

static void close_held(int by_call)
{
	set_up(IO_URING, 0);
	int fd = open_file("f", STELE_OPEN_WRITE | STELE_OPEN_CREATE);
	stele_env_hold(env, fd);
	unlink(in_dir("f"));
	rmdir(dir);
	if (by_call)
		close_now(fd);
	else
		close_async(fd);
}

/* A file is released before it is closed. */
static void bug(int by_call)
{
	set_up(IO_URING, 0); /* is there a ring at all? */
	tear_down();
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		fclose(stderr);
		close_held(by_call);
		_exit(0);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x",
	          (unsigned)status);
}

Test(env, a_held_file_is_not_closed)
{
#ifdef __SANITIZE_THREAD__
	cr_skip_test("ThreadSanitizer allows a forked process no threads");
#endif
	bug(0);
	bug(1);
}

/* Runs body in a process of a user without privileges or other processes, under that RLIMIT_MEMLOCK. */
static void as_user(size_t memlock, int (*body)(void))
{
	struct rlimit limit = {memlock, memlock};
	pid_t pid = fork();
	if (pid == 0) {
		if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
		    (geteuid() == 0 && setuid(100000 + (uid_t)getpid()) != 0))
			_exit(99);
		_exit(body());
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "line %d", WEXITSTATUS(status));
}

/* So that a child can say where it stopped. */
#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what))                                                                       \
			return __LINE__ % 250 + 1;                                                 \
	} while (0)

static void end_of_one(struct stele_op *op)
{
	stele_env_stop(op->ctx);
}

/* A file is written and read through e, in memory that was lent as far as it goes. */
static int lend_and_use(struct stele_env *e, const char *expected)
{
	char name[] = "/tmp/stele-env-XXXXXX", text[STELE_ENV_TEXT];
	uint8_t *p =
	    mmap(NULL, 16 * LENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = mkstemp(name);
	CHECK(p != MAP_FAILED && fd >= 0 && unlink(name) == 0);
	stele_env_lend(e, p, 16 * LENT);
	stele_env_describe(e, text);
	CHECK(!expected || strcmp(text, expected) == 0);
	for (size_t i = 0; i < 16 * LENT; i++)
		p[i] = pattern(i);
	for (int turn = 0; turn < 2; turn++) {
		struct iovec iov = {p, 16 * LENT};
		struct stele_op op = {.kind = turn ? STELE_OP_READV : STELE_OP_WRITEV,
		                      .fd = fd,
		                      .iov = &iov,
		                      .niov = 1,
		                      .cb = end_of_one,
		                      .ctx = e};
		stele_env_submit(e, &op);
		stele_env_run(e);
		CHECK(op.result == 16 * LENT);
		for (size_t at = 0; at < 16 * LENT; at += LENT / 2) {
			iov = (struct iovec){p + at, LENT / 2};
			op.off = at;
			op.iov = &iov;
			op.niov = 1;
			stele_env_submit(e, &op);
			stele_env_run(e);
			CHECK(op.result == LENT / 2);
		}
		CHECK(has_pattern(p, 16 * LENT, 0));
		if (turn == 0)
			memset(p, 0, 16 * LENT);
	}
	stele_env_take_back(e, p);
	close(fd);
	munmap(p, 16 * LENT);
	return 0;
}

/* Nothing may be locked: kernels that count rings give none, and it works on threads. */
static int without_any(void)
{
	struct stele_env *e;
	unsetenv("STELE_ENV");
	CHECK(stele_env_create(NULL, &e) == STELE_OK);
	int r = lend_and_use(e, strcmp(e->ops->name, "threads") == 0
	                            ? "threads"
	                            : "io_uring, no buffers (RLIMIT_MEMLOCK) and no files registered");
	stele_env_destroy(e);
	return r;
}

static int with_little(void)
{
	struct stele_env *e;
	CHECK(stele_env_uring_create(NULL, &e) == STELE_OK);
	int r = lend_and_use(e, "io_uring, no buffers (RLIMIT_MEMLOCK) and no files registered");
	stele_env_destroy(e);
	return r;
}

/* A sixteenth of the limit is this process's, whichever of its rings asks for it. */
static int with_some(void)
{
	struct stele_env *e, *other;
	CHECK(stele_env_uring_create(NULL, &e) == STELE_OK);
	CHECK(stele_env_uring_create(NULL, &other) == STELE_OK);
	void *p = mmap(NULL, LENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	stele_env_lend(other, p, LENT);
	int r = lend_and_use(e, "io_uring, 256 KiB of buffers (RLIMIT_MEMLOCK) and no files registered");
	stele_env_destroy(other);
	return r ? r : lend_and_use(e, "io_uring, 512 KiB of buffers (RLIMIT_MEMLOCK) and no files registered");
}

/* A ring of somebody else's that holds that much; -1: the limit does not allow it. */
static int hold(size_t len)
{
	struct io_uring_params params = {0};
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov = {p, len};
	int ring = (int)syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0 || p == MAP_FAILED ||
	    syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1) != 0)
		return -1;
	return ring;
}

/* Others have taken the rest: what is left is less than our share and more than a half of it. */
static int beside_others(void)
{
	struct stele_env *e;
	CHECK(stele_env_uring_create(NULL, &e) == STELE_OK);
	int ring = hold(192u << 10);
	CHECK(ring >= 0);
	while (hold(16u << 10) >= 0) {
	}
	CHECK(syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
	return lend_and_use(e, "io_uring, 128 KiB of buffers (RLIMIT_MEMLOCK) and no files registered");
}

Test(env, a_limit_on_locked_memory)
{
#ifdef __SANITIZE_THREAD__
	cr_skip_test("ThreadSanitizer allows a forked process no threads");
#endif
	set_up(IO_URING, 0); /* is there a ring at all? */
	tear_down();         /* a thread that allocates during a fork would leave the child a lock for ever */
	as_user(0, without_any);
	as_user(256u << 10, with_little);
	as_user(8u << 20, with_some);
	as_user(4u << 20, beside_others);
}

/* As a container's default profile does it. */
static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = 4, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		cr_skip_test("no seccomp here: %s", strerror(errno));
}

Test(env, threads_where_io_uring_is_refused)
{
	struct stele_env *e;
	unsetenv("STELE_ENV");
	forbid_io_uring();
	cr_assert_eq(stele_env_uring_create(NULL, &e), STELE_ERR_IO);
	cr_assert(strstr(stele_detail(), "refused"));
	cr_assert_eq(stele_env_create(NULL, &e), STELE_OK);
	cr_assert_str_eq(e->ops->name, "threads");
	stele_env_destroy(e);
	setenv("STELE_ENV", "io_uring", 1);
	cr_assert_eq(stele_env_create(NULL, &e), STELE_ERR_IO);
}

Test(env, the_environment_chooses)
{
	struct stele_env *e;
	setenv("STELE_ENV", "threads", 1);
	cr_assert_eq(stele_env_create(NULL, &e), STELE_OK);
	cr_assert_str_eq(e->ops->name, "threads");
	stele_env_destroy(e);
	setenv("STELE_ENV", "io_uring,unregistered", 1);
	if (stele_env_create(NULL, &e) == STELE_OK) {
		char text[STELE_ENV_TEXT];
		stele_env_describe(e, text);
		cr_assert_str_eq(text, "io_uring, nothing registered (as asked)");
		stele_env_destroy(e);
	}
	setenv("STELE_ENV", "smoke signals", 1);
	cr_assert_eq(stele_env_create(NULL, &e), STELE_ERR_USAGE);
	unsetenv("STELE_ENV");
	cr_assert_eq(stele_env_create(NULL, &e), STELE_OK);
	stele_env_destroy(e);
	stele_env_destroy(NULL);
}
