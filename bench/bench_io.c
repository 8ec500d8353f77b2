/*
 * Speed of the envs beside fio (io_uring engine, one job) on one file, in turns within one run.
 * A line per pattern and env: operations per second of fio and of the env, the ratio's least, median
 * and most, and the env's processor time per operation. Both overwrite, or read, what was written
 * before, with O_DIRECT; durable writes are RWF_DSYNC, which fio calls sync=dsync (O_DSYNC).
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

#define DEPTH_MAX 64
#define TURNS_MAX 99

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

static void bench(const struct pattern *pattern, struct stele_env *env, int fd, struct load *load)
{
	double fio[TURNS_MAX], ours[TURNS_MAX], ratio[TURNS_MAX], cpu[TURNS_MAX];
	load->env = env;
	load->pattern = pattern;
	for (unsigned i = 0; i < turns; i++) {
		fio[i] = run_fio(pattern);
		ours[i] = run_env(load, fd, &cpu[i]);
		ratio[i] = ours[i] / fio[i];
	}
	struct bench_spread r = bench_spread_of(ratio, (int)turns);
	printf("%-38s %-9s %8.0f %8.0f   %5.2f %5.2f %5.2f   %6.1f\n", pattern->name,
	       env->ops->name, bench_spread_of(fio, (int)turns).median,
	       bench_spread_of(ours, (int)turns).median, r.min, r.median, r.max,
	       bench_spread_of(cpu, (int)turns).median * 1e6);
	fflush(stdout);
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
	struct stele_env_opts opts = {.depth = DEPTH_MAX};
	struct stele_env *env[2] = {NULL, NULL};
	if (stele_env_uring_create(&opts, &env[0]) != STELE_OK)
		printf("io_uring: %s\n", stele_detail());
	if (stele_env_threads_create(&opts, &env[1]) != STELE_OK)
		fail("threads");
	snprintf(path, sizeof(path), "%s/bench_io.%d", dir, (int)getpid());
	int fd = -1;
	if (stele_file_open(env[1], path,
	                    STELE_OPEN_WRITE | STELE_OPEN_CREATE | STELE_OPEN_EXCL |
	                        STELE_OPEN_DIRECT,
	                    0600, &fd) != STELE_OK)
		fail("file");
	fill(env[1], fd);
	static struct load load;
	stele_prng_init(&load.prng, 2);
	for (int i = 0; i < DEPTH_MAX; i++)
		load.buf[i] = allocate(1 << 20);
	printf("%-38s %-9s %8s %8s   ratio: min median max   cpu us/op\n", "pattern", "env",
	       "fio/s", "env/s");
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		for (int e = 0; e < 2; e++) {
			if (env[e])
				bench(&patterns[i], env[e], fd, &load);
		}
	}
	stele_file_close(env[1], &fd);
	unlink(path);
	for (int i = 0; i < DEPTH_MAX; i++)
		free(load.buf[i]);
	stele_env_destroy(env[0]);
	stele_env_destroy(env[1]);
	return 0;
}
