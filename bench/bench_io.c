/*
 * Speed of the envs beside fio (io_uring engine, one job) on one file, in turns within one run: io_uring
 * with nothing registered, with its buffers, with buffers and file, and threads. A line per pattern and
 * env: operations per second of fio and of the env, the ratio's least, median and most, the env's processor
 * time per operation, and by how much that is more than of the env in the line above in the same turn:
 * least, median and most. All overwrite, or read, what was written before, with O_DIRECT; durable writes
 * are RWF_DSYNC, which fio calls sync=dsync (O_DSYNC).
 *
 *   bench_io [--turns N] [--ms N] [--mib N] DIR      a file of N MiB (256) is made in DIR and removed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/pair.h"
#include "storage/base/prng.h"
#include "storage/io/env.h"

#define DEPTH_MAX 32
#define TURNS_MAX 99

enum { UNREGISTERED, BUFFERS, REGISTERED, THREADS, ENVS };
static const char *const env_names[ENVS] = {"unregistered", "buffers", "registered", "threads"};

struct pattern {
	const char *name;
	bool writes;
	uint32_t len;
	uint32_t depth;
};

static const struct pattern patterns[] = {
    {"durable overwrite, 64 KiB, depth 16", true, 64 << 10, 16},
    {"durable overwrite, 1 MiB, depth 16", true, 1 << 20, 16},
    {"random read, 64 KiB, depth 32", false, 64 << 10, 32},
    {"random read, 4 KiB, depth 32", false, 4 << 10, 32},
};

static char path[4096];
static unsigned turns = 5, turn_ms = 500, file_mib = 256;

static void fail(const char *what)
{
	fprintf(stderr, "bench_io: %s: %s\n", what, stele_detail());
	unlink(path);
	exit(1);
}

static void *allocate(size_t len)
{
	void *p = aligned_alloc(STELE_PAGE, len);
	if (!p) {
		fprintf(stderr, "bench_io: out of memory\n");
		exit(1);
	}
	memset(p, 0x5a, len);
	return p;
}

/* One env at work: `depth` operations that submit themselves again until the time is over. */

struct load {
	struct stele_env *env;
	const struct pattern *pattern;
	struct stele_prng prng;
	uint64_t end;
	uint64_t done;
	uint32_t running;
	struct stele_op op[DEPTH_MAX];
	struct iovec iov[DEPTH_MAX];
	void *buf[DEPTH_MAX];
};

static void next(struct load *load, struct stele_op *op);

static void on_done(struct stele_op *op)
{
	struct load *load = op->ctx;
	if (op->result != (int64_t)load->pattern->len) {
		(void)stele_fail(STELE_ERR_IO, "result %lld", (long long)op->result);
		fail("an operation");
	}
	load->done++;
	if (stele_env_now(load->env) < load->end)
		next(load, op);
	else if (--load->running == 0)
		stele_env_stop(load->env);
}

static void next(struct load *load, struct stele_op *op)
{
	size_t i = (size_t)(op - load->op);
	uint64_t places = ((uint64_t)file_mib << 20) / load->pattern->len;
	load->iov[i] = (struct iovec){load->buf[i], load->pattern->len};
	op->iov = &load->iov[i];
	op->niov = 1;
	op->off = stele_prng_below(&load->prng, places) * load->pattern->len;
	stele_env_submit(load->env, op);
}

static double cpu_seconds(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* Operations per second; *cpu: seconds of processor time per operation. */
static double run_env(struct load *load, int fd, double *cpu)
{
	double cpu_before = cpu_seconds();
	uint64_t start = stele_env_now(load->env);
	load->end = start + turn_ms * 1000000ull;
	load->done = 0;
	load->running = load->pattern->depth;
	for (uint32_t i = 0; i < load->pattern->depth; i++) {
		load->op[i] = (struct stele_op){
		    .kind = load->pattern->writes ? STELE_OP_WRITEV : STELE_OP_READV,
		    .flags = load->pattern->writes ? STELE_WRITE_DSYNC : 0,
		    .fd = fd,
		    .cb = on_done,
		    .ctx = load};
		next(load, &load->op[i]);
	}
	stele_env_run(load->env);
	*cpu = (cpu_seconds() - cpu_before) / (double)load->done;
	return (double)load->done / ((double)(stele_env_now(load->env) - start) / 1e9);
}

/* fio's own figure, from its terse output: field 8 is IOPS of reads, 49 of writes. */
static double run_fio(const struct pattern *p)
{
	char command[8192], line[8192];
	snprintf(command, sizeof(command),
	         "fio --name=bench --filename='%s' --size=%um --bs=%u --rw=%s --direct=1 %s "
	         "--ioengine=io_uring --iodepth=%u --time_based --runtime=%ums --randrepeat=0 "
	         "--norandommap --output-format=terse --terse-version=3 2>/dev/null",
	         path, file_mib, p->len, p->writes ? "randwrite" : "randread",
	         p->writes ? "--sync=dsync --overwrite=1" : "", p->depth, turn_ms);
	FILE *out = popen(command, "r");
	bool got = out && fgets(line, sizeof(line), out);
	if (out)
		pclose(out);
	char *at = line;
	for (int field = 1; got && at && field < (p->writes ? 49 : 8); field++) {
		at = strchr(at, ';');
		at = at ? at + 1 : NULL;
	}
	if (!got || !at || atof(at) <= 0) {
		(void)stele_fail(STELE_ERR_IO, "is it installed?");
		fail("fio");
	}
	return atof(at);
}

struct turn {
	double fio, ours, cpu;
};

static void print_row(const char *pattern, int e, struct turn turn[][ENVS])
{
	double fio[TURNS_MAX], ours[TURNS_MAX], ratio[TURNS_MAX], cpu[TURNS_MAX], more[TURNS_MAX];
	for (unsigned i = 0; i < turns; i++) {
		fio[i] = turn[i][e].fio;
		ours[i] = turn[i][e].ours;
		ratio[i] = ours[i] / fio[i];
		cpu[i] = turn[i][e].cpu * 1e6;
		more[i] = (turn[i][e].cpu - turn[i][e ? e - 1 : 0].cpu) * 1e6;
	}
	struct bench_spread r = bench_spread_of(ratio, (int)turns);
	struct bench_spread m = bench_spread_of(more, (int)turns);
	printf("%-38s %-12s %8.0f %8.0f   %5.2f %5.2f %5.2f   %6.1f   %+6.1f %+6.1f %+6.1f\n",
	       pattern, env_names[e], bench_spread_of(fio, (int)turns).median,
	       bench_spread_of(ours, (int)turns).median, r.min, r.median, r.max,
	       bench_spread_of(cpu, (int)turns).median, m.min, m.median, m.max);
	fflush(stdout);
}

static void bench(const struct pattern *pattern, struct stele_env **env, int fd, struct load *load)
{
	static struct turn turn[TURNS_MAX][ENVS];
	load->pattern = pattern;
	for (unsigned i = 0; i < turns; i++) {
		double fio = run_fio(pattern);
		for (unsigned k = 0; k < ENVS; k++) {
			unsigned e = (i + k) % ENVS; /* each one first in its turn */
			struct turn *t = &turn[i][e];
			t->fio = fio;
			load->env = env[e];
			t->ours = run_env(load, fd, &t->cpu);
		}
	}
	for (int e = 0; e < ENVS; e++)
		print_row(pattern->name, e, turn);
}

static void fill(struct stele_env *env, int fd)
{
	uint8_t *chunk = allocate(1 << 20);
	struct stele_prng prng;
	stele_prng_init(&prng, 1);
	stele_prng_fill(&prng, chunk, 1 << 20);
	for (unsigned i = 0; i < file_mib; i++) {
		if (stele_file_pwrite(env, fd, chunk, 1 << 20, (uint64_t)i << 20,
		                      STELE_WRITE_DSYNC) != STELE_OK)
			fail(path);
	}
	free(chunk);
}

static bool parse(int argc, char **argv, const char **dir)
{
	for (int i = 1; i < argc; i++) {
		unsigned *to = strcmp(argv[i], "--turns") == 0 ? &turns
		               : strcmp(argv[i], "--ms") == 0  ? &turn_ms
		               : strcmp(argv[i], "--mib") == 0 ? &file_mib
		                                               : NULL;
		if (to && i + 1 < argc)
			*to = (unsigned)atoi(argv[++i]);
		else if (argv[i][0] == '-' || *dir)
			return false;
		else
			*dir = argv[i];
	}
	return *dir && turns > 0 && turns <= TURNS_MAX && turn_ms > 0 && file_mib > 1;
}

int main(int argc, char **argv)
{
	const char *dir = NULL;
	if (!parse(argc, argv, &dir)) {
		fprintf(stderr, "usage: bench_io [--turns N] [--ms N] [--mib N] DIR\n");
		return 2;
	}
	struct stele_env *env[ENVS];
	uint8_t *arena = allocate((size_t)DEPTH_MAX << 20);
	for (int e = 0; e < ENVS; e++) {
		struct stele_env_opts opts = {.depth = DEPTH_MAX,
		                              .unregistered = e == UNREGISTERED};
		if ((e == THREADS ? stele_env_threads_create(&opts, &env[e])
		                  : stele_env_uring_create(&opts, &env[e])) != STELE_OK)
			fail(env_names[e]);
		stele_env_lend(env[e], arena, (size_t)DEPTH_MAX << 20);
	}
	snprintf(path, sizeof(path), "%s/bench_io.%d", dir, (int)getpid());
	int fd = -1;
	if (stele_file_open(env[THREADS], path,
	                    STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL |
	                        STELE_OPEN_DIRECT,
	                    0600, &fd) != STELE_OK)
		fail("file");
	stele_env_hold(env[REGISTERED], fd);
	for (int e = 0; e < ENVS; e++) {
		char text[STELE_ENV_TEXT];
		stele_env_describe(env[e], text);
		printf("%s: %s\n", env_names[e], text);
	}
	fill(env[THREADS], fd);
	static struct load load;
	stele_prng_init(&load.prng, 2);
	for (size_t i = 0; i < DEPTH_MAX; i++)
		load.buf[i] = arena + (i << 20);
	printf("%-38s %-12s %8s %8s   ratio: min median max   cpu us   to the line above\n",
	       "pattern", "env", "fio/s", "env/s");
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		bench(&patterns[i], env, fd, &load);
	stele_env_release(env[REGISTERED], fd);
	stele_file_close(env[THREADS], &fd);
	unlink(path);
	for (int e = 0; e < ENVS; e++)
		stele_env_destroy(env[e]);
	free(arena);
	return 0;
}
