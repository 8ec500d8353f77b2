/* The index's figures: see store_index.h. */
#include "bench/store_index.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/pair.h"
#include "bench/store_rig.h"
#include "storage/base/prng.h"

#define EXTENT_LEN (1ull << 30)
#define ITEMS      400u /* of one write */
#define WRITERS    4u
#define LOOKUPS    200000u
#define KEYS       500u /* of one look-up request */
#define SHARD_LEN  64u

struct figures { /* handed from the children to the parent */
	double open_s, rebuild_s, lookups_per_s, build_s;
	double rss, rss_anon, rebuild_rss_max; /* bytes */
	double disk;
};

static double status_bytes(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	double kib = 0;
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			kib = atof(line + strlen(field) + 1);
	if (f)
		fclose(f);
	return kib * 1024;
}

/* Sums the index's files; with `drop`, asks the kernel to forget their pages. */
static double index_bytes(const char *dir, bool drop)
{
	char path[4096];
	snprintf(path, sizeof(path), "%.3500s/index", dir);
	DIR *d = opendir(path);
	double sum = 0;
	struct dirent *e;
	while (d && (e = readdir(d))) {
		struct stat st;
		if (fstatat(dirfd(d), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
			continue;
		sum += (double)st.st_size;
		int fd = drop ? openat(dirfd(d), e->d_name, O_RDONLY) : -1;
		if (fd >= 0) {
			(void)!fdatasync(fd);
			(void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			close(fd);
		}
	}
	if (d)
		closedir(d);
	return sum;
}

/* ---- building ---- */

struct builder {
	struct rig *r;
	struct stele_store_write write;
	struct stele_item item[ITEMS];
	struct iovec iov[ITEMS];
	uint32_t crc;
};

static uint64_t next_number, numbers;
static uint32_t building;
static struct rig_meta tiny;
static uint8_t *tiny_data;

static void build_next(struct builder *b)
{
	uint32_t n = 0;
	for (; n < ITEMS && next_number < numbers; n++) {
		struct stele_item *it = &b->item[n];
		b->iov[n] = (struct iovec){tiny_data, SHARD_LEN};
		*it = (struct stele_item){.key = {.kind = STELE_ENTRY_SHARD},
		                          .meta = tiny.bytes,
		                          .meta_len = tiny.len,
		                          .data = &b->iov[n],
		                          .ndata = 1,
		                          .data_len = SHARD_LEN};
		rig_id(next_number++, &it->key.id);
	}
	b->write.n = n;
	if (n)
		stele_store_write(b->r->store, &b->write);
	else if (--building == 0)
		stele_env_stop(b->r->env);
}

static void on_built(struct stele_store_write *write)
{
	if (write->err) {
		(void)stele_fail(write->err, "%s", write->detail);
		rig_fail("a write");
	}
	build_next(write->ctx);
}

static void build(struct rig *r, struct figures *f)
{
	rig_open(r);
	rig_meta_make(&tiny, "rep-3", SHARD_LEN);
	tiny_data = rig_pages(STELE_PAGE);
	struct builder *b = calloc(WRITERS, sizeof(*b));
	double start = bench_now();
	building = WRITERS;
	for (uint32_t i = 0; b && i < WRITERS; i++) {
		b[i].r = r;
		b[i].write =
		    (struct stele_store_write){.item = b[i].item, .cb = on_built, .ctx = &b[i]};
		build_next(&b[i]);
	}
	stele_env_run(r->env);
	rig_close(r);
	f->build_s = bench_now() - start;
	free(b);
}

/* ---- opening, asking ---- */

struct asker {
	struct rig *r;
	struct stele_store_have have;
	struct stele_key key[KEYS];
	bool out[KEYS];
	struct stele_prng prng;
	uint64_t left;
};

static void ask_next(struct asker *a)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		a->key[i] = (struct stele_key){.kind = STELE_ENTRY_SHARD};
		rig_id(stele_prng_below(&a->prng, numbers), &a->key[i].id);
	}
	stele_store_have(a->r->store, &a->have);
}

static void on_answer(struct stele_store_have *have)
{
	struct asker *a = have->ctx;
	for (uint32_t i = 0; i < KEYS; i++) {
		if (have->err || !a->out[i]) {
			(void)stele_fail(STELE_ERR_CORRUPT, "a shard is missing");
			rig_fail("the index");
		}
	}
	a->left -= KEYS;
	if (a->left)
		ask_next(a);
	else
		stele_env_stop(a->r->env);
}

static void open_and_ask(struct rig *r, struct figures *f)
{
	f->disk = index_bytes(r->dir, true);
	double before = status_bytes("VmRSS:"), anon = status_bytes("RssAnon:");
	double start = bench_now();
	rig_open(r);
	f->open_s = bench_now() - start;
	struct asker *a = calloc(1, sizeof(*a));
	if (!a)
		exit(1);
	a->r = r;
	a->left = LOOKUPS;
	a->have = (struct stele_store_have){
	    .key = a->key, .n = KEYS, .out = a->out, .cb = on_answer, .ctx = a};
	stele_prng_init(&a->prng, 3);
	start = bench_now();
	ask_next(a);
	stele_env_run(r->env);
	f->lookups_per_s = LOOKUPS / (bench_now() - start);
	f->rss = status_bytes("VmRSS:") - before;
	f->rss_anon = status_bytes("RssAnon:") - anon;
	free(a);
	rig_close(r);
}

static void rebuild(struct rig *r, struct figures *f)
{
	rig_remove_index(r);
	double start = bench_now();
	rig_open(r);
	f->rebuild_s = bench_now() - start;
	f->rebuild_rss_max = status_bytes("VmHWM:");
	struct stele_store_status st;
	stele_store_status(r->store, &st);
	if (st.shards != numbers) {
		(void)stele_fail(STELE_ERR_CORRUPT, "%llu shards after a rebuild",
		                 (unsigned long long)st.shards);
		rig_fail("the index");
	}
	rig_close(r);
}

/* ---- one after another, each in a process of its own, whose memory is its own ---- */

static bool in_child(struct rig *r, void (*step)(struct rig *r, struct figures *f),
                     struct figures *f)
{
	int pipes[2];
	if (pipe(pipes) != 0)
		return false;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		if (stele_env_create(NULL, &r->env) != STELE_OK)
			rig_fail("event loop");
		r->opts.env = r->env;
		step(r, f);
		stele_env_destroy(r->env);
		ssize_t n = write(pipes[1], f, sizeof(*f));
		_exit(n == sizeof(*f) ? 0 : 1);
	}
	close(pipes[1]);
	bool ok = pid > 0 && read(pipes[0], f, sizeof(*f)) == sizeof(*f);
	close(pipes[0]);
	int status;
	return pid > 0 && waitpid(pid, &status, 0) == pid && ok && status == 0;
}

static void print_line(const char *name, double figure, const char *unit, double goal, bool least)
{
	printf("%-44s %12.2f %-10s", name, figure, unit);
	if (goal > 0)
		printf(" %s %.0f: %s", least ? ">=" : "<=", goal,
		       (least ? figure >= goal : figure <= goal) ? "met" : "NOT met");
	printf("\n");
}

int bench_index(const char *where, unsigned shards)
{
	struct rig r;
	struct figures f = {0};
	double n = shards;
	numbers = shards;
	rig_start(&r, where, EXTENT_LEN);
	stele_env_destroy(r.env); /* threads do not survive a fork: each child makes its own */
	bool ok =
	    in_child(&r, build, &f) && in_child(&r, open_and_ask, &f) && in_child(&r, rebuild, &f);
	double disk_rebuilt = index_bytes(r.dir, false);
	r.env = NULL;
	if (ok) {
		printf("index of %u shards\n", shards);
		print_line("writing them, tiny", n / f.build_s, "shards/s", 0, true);
		print_line("index on disk, per shard", f.disk / n, "B", 100, false);
		print_line("the same after a rebuild", disk_rebuilt / n, "B", 100, false);
		print_line("RSS after open and 200,000 look-ups, per shard", f.rss / n, "B", 20,
		           false);
		print_line("  of it anonymous (the rest are mapped files)", f.rss_anon / n, "B", 0,
		           false);
		print_line("open, clean watermark, index not cached", f.open_s, "s", 2, false);
		print_line("random look-ups then", f.lookups_per_s, "/s", 0, true);
		print_line("rebuild from footers", n / f.rebuild_s, "shards/s", 500000, true);
		print_line("  its most RSS", f.rebuild_rss_max / 1048576, "MiB", 0, false);
	}
	rig_end(&r);
	return ok ? 0 : 1;
}
