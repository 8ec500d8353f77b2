/* A store under load, for benchmarks: see store_rig.h. Decides nothing about what is measured. */
#include "bench/store_rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "storage/base/prng.h"
#include "storage/base/sha256.h"

#define SETTLE_NS 2000000u

static struct rig *running; /* whose directory goes when the program fails */

/* ---- life ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

_Noreturn void rig_fail(const char *what)
{
	fprintf(stderr, "bench_store: %s: %s\n", what, stele_detail());
	if (running)
		remove_tree(running->dir);
	exit(1);
}

void rig_start(struct rig *r, const char *where, uint64_t extent_len)
{
	memset(r, 0, sizeof(*r));
	snprintf(r->dir, sizeof(r->dir), "%.3000s/bench_store.XXXXXX", where);
	if (!mkdtemp(r->dir)) {
		(void)stele_fail(STELE_ERR_IO, "cannot make a directory there");
		rig_fail(where);
	}
	running = r;
	if (stele_env_create(NULL, &r->env) != STELE_OK)
		rig_fail("event loop");
	if (stele_buf_pool_create(RIG_DEPTH_MAX, &r->bufs) != STELE_OK)
		rig_fail("buffers");
	stele_buf_pool_lend(r->bufs, r->env);
	r->opts = (struct stele_store_opts){
	    .env = r->env, .kv = &stele_kv_leveldb, .dir = r->dir, .extent_len = extent_len};
	if (stele_store_format(&r->opts, NULL) != STELE_OK)
		rig_fail("format");
}

void rig_open(struct rig *r)
{
	if (stele_store_open(&r->opts, &r->store) != STELE_OK)
		rig_fail("open");
}

static void on_pause(struct stele_op *op)
{
	stele_env_stop(((struct rig *)op->ctx)->env);
}

static void wait_a_moment(struct rig *r)
{
	struct stele_op op = {.kind = STELE_OP_TIMER,
	                      .off = stele_env_now(r->env) + SETTLE_NS,
	                      .cb = on_pause,
	                      .ctx = r};
	stele_env_submit(r->env, &op);
	stele_env_run(r->env);
}

void rig_settle(struct rig *r)
{
	while (r->store && stele_store_busy(r->store))
		wait_a_moment(r);
}

/* Its housekeeping, as a node has it: it fills the next extent. */
static void on_reclaimed(struct stele_store_reclaim *reclaim)
{
	struct rig *r = reclaim->ctx;
	if (reclaim->err != STELE_ERR_CANCELLED)
		rig_fail("reclaim");
	r->reclaiming = false;
}

static void start_reclaim(struct rig *r)
{
	r->reclaim = (struct stele_store_reclaim){.cb = on_reclaimed, .ctx = r};
	r->reclaiming = true;
	stele_store_reclaim(r->store, &r->reclaim);
}

void rig_close(struct rig *r)
{
	if (r->reclaiming)
		stele_store_reclaim_cancel(r->store);
	while (r->reclaiming)
		wait_a_moment(r);
	rig_settle(r);
	stele_store_close(r->store);
	r->store = NULL;
}

void rig_remove_index(struct rig *r)
{
	char path[sizeof(r->dir) + 16];
	snprintf(path, sizeof(path), "%s/index", r->dir);
	remove_tree(path);
}

void rig_end(struct rig *r)
{
	rig_close(r);
	stele_env_destroy(r->env);
	stele_buf_pool_destroy(r->bufs);
	remove_tree(r->dir);
	running = NULL;
}

/* ---- material ---- */

void *rig_pages(size_t len)
{
	void *p = aligned_alloc(STELE_PAGE, (len + STELE_PAGE - 1) / STELE_PAGE * STELE_PAGE);
	if (!p) {
		(void)stele_fail(STELE_ERR_NOMEM, "out of memory");
		rig_fail("buffers");
	}
	struct stele_prng prng;
	stele_prng_init(&prng, len);
	stele_prng_fill(&prng, p, len);
	return p;
}

void rig_id(uint64_t number, struct stele_hash *out)
{
	stele_sha256(&number, sizeof(number), out);
}

double rig_cpu_seconds(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

void rig_meta_make(struct rig_meta *m, const char *code, uint64_t shard_len)
{
	struct stele_code_id id;
	struct stele_descriptor d;
	if (stele_code_id_parse(code, &id) != STELE_OK ||
	    stele_descriptor_init(&d, &id, shard_len * id.k) != STELE_OK)
		rig_fail(code);
	memset(d.root, 0x5a, sizeof(d.root));
	size_t rows =
	    stele_descriptor_roots(&d) * (size_t)stele_descriptor_cells(&d) * STELE_HASH_LEN;
	m->bytes = rig_pages(STELE_DESCRIPTOR_MAX + rows);
	m->len = (uint32_t)(stele_descriptor_encode(&d, m->bytes) + rows);
}

uint64_t rig_overhead(const struct rig_meta *m, uint64_t shard_len)
{
	const uint64_t heads = 64 + 128; /* the batch's and the entry's, FORMAT.md */
	uint64_t cells = (shard_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	return (heads + m->len + 4 * cells + STELE_PAGE - 1) / STELE_PAGE * STELE_PAGE;
}

/* ---- load ---- */

struct load { /* what writers and readers have in common */
	struct rig *r;
	uint64_t submitted, count; /* count 0: by time */
	uint64_t end_ns;
	uint64_t done;
	uint32_t running;
	uint64_t start_ns;
	double cpu_start;
};

static void load_start(struct load *l, struct rig *r, uint64_t count, uint64_t ns)
{
	*l = (struct load){.r = r, .count = count};
	l->cpu_start = rig_cpu_seconds();
	l->start_ns = stele_env_now(r->env);
	l->end_ns = l->start_ns + ns;
}

/* One more? */
static bool load_goes_on(struct load *l)
{
	bool more = l->count ? l->submitted < l->count : stele_env_now(l->r->env) < l->end_ns;
	l->submitted += more;
	return more;
}

static void load_stops(struct load *l)
{
	if (--l->running == 0)
		stele_env_stop(l->r->env);
}

static struct rig_result load_result(const struct load *l)
{
	double seconds = (double)(stele_env_now(l->r->env) - l->start_ns) / 1e9;
	double done = l->done ? (double)l->done : 1;
	return (struct rig_result){.per_s = (double)l->done / seconds,
	                           .cpu = (rig_cpu_seconds() - l->cpu_start) / done,
	                           .count = l->done};
}

struct writer {
	struct load *load;
	const struct rig_writing *w;
	struct stele_store_write write;
	struct stele_item item;
	struct iovec iov;
	void *buf;
};

static void write_next(struct writer *x)
{
	struct load *l = x->load;
	struct stele_key key = {.kind = x->w->record ? STELE_ENTRY_RECORD : STELE_ENTRY_SHARD};
	rig_id(x->w->first + l->submitted - 1, &key.id);
	key.sub = x->w->record ? key.id : key.sub;
	x->iov = (struct iovec){x->buf, x->w->len};
	x->item = (struct stele_item){.key = key};
	if (x->w->record) {
		x->item.meta = x->buf;
		x->item.meta_len = (uint32_t)x->w->len;
	} else {
		x->item.meta = x->w->meta->bytes;
		x->item.meta_len = x->w->meta->len;
		x->item.data = &x->iov;
		x->item.ndata = 1;
		x->item.data_len = x->w->len;
	}
	stele_store_write(l->r->store, &x->write);
}

static void on_written(struct stele_store_write *write)
{
	struct writer *x = write->ctx;
	if (write->err) {
		(void)stele_fail(write->err, "%s", write->detail);
		rig_fail("a write");
	}
	x->load->done++;
	if (load_goes_on(x->load))
		write_next(x);
	else
		load_stops(x->load);
}

struct rig_result rig_write(struct rig *r, const struct rig_writing *w)
{
	static struct writer writer[RIG_DEPTH_MAX];
	struct load load;
	for (uint32_t i = 0; i < w->depth; i++) {
		writer[i] = (struct writer){.load = &load, .w = w, .buf = rig_pages(w->len)};
		writer[i].write = (struct stele_store_write){
		    .item = &writer[i].item, .n = 1, .cb = on_written, .ctx = &writer[i]};
	}
	load_start(&load, r, w->count, w->ns);
	for (uint32_t i = 0; i < w->depth && load_goes_on(&load); i++) {
		load.running++;
		write_next(&writer[i]);
	}
	stele_env_run(r->env);
	struct rig_result result = load_result(&load);
	for (uint32_t i = 0; i < w->depth; i++)
		free(writer[i].buf);
	return result;
}

struct reader {
	struct load *load;
	const struct rig_reading *p;
	struct stele_prng *prng;
	struct stele_store_read read;
	struct iovec iov;
	struct stele_buf *buf;
};

static void read_next(struct reader *x)
{
	struct stele_store_read *read = &x->read;
	read->key = (struct stele_key){.kind = STELE_ENTRY_SHARD};
	rig_id(stele_prng_below(x->prng, x->p->shards), &read->key.id);
	read->first_cell = (uint32_t)stele_prng_below(x->prng, x->p->cells);
	x->iov = (struct iovec){x->buf->data, STELE_CELL_LEN};
	stele_store_read(x->load->r->store, read);
}

static void on_read(struct stele_store_read *read)
{
	struct reader *x = read->ctx;
	if (read->err || read->data_len != STELE_CELL_LEN) {
		(void)stele_fail(read->err, "%s", read->detail);
		rig_fail("a read");
	}
	x->load->done++;
	if (load_goes_on(x->load))
		read_next(x);
	else
		load_stops(x->load);
}

struct rig_result rig_read(struct rig *r, const struct rig_reading *p)
{
	static struct reader reader[RIG_DEPTH_MAX];
	struct load load;
	struct stele_prng prng;
	stele_prng_init(&prng, p->seed);
	for (uint32_t i = 0; i < p->depth; i++) {
		struct reader *x = &reader[i];
		*x = (struct reader){.load = &load, .p = p, .prng = &prng};
		if (!stele_buf_take(r->bufs, 1, &x->buf))
			rig_fail("buffers");
		x->read = (struct stele_store_read){
		    .cells = 1, .into = &x->iov, .ninto = 1, .cb = on_read, .ctx = x};
	}
	load_start(&load, r, 0, p->ns);
	for (uint32_t i = 0; i < p->depth && load_goes_on(&load); i++) {
		load.running++;
		read_next(&reader[i]);
	}
	stele_env_run(r->env);
	struct rig_result result = load_result(&load);
	for (uint32_t i = 0; i < p->depth; i++)
		stele_buf_give(reader[i].buf);
	return result;
}

void rig_to_next_extent(struct rig *r)
{
	struct rig_meta meta;
	struct stele_store_status st;
	struct rig_writing w = {.len = 4 << 20, .depth = 4, .count = 4, .meta = &meta};
	rig_meta_make(&meta, "rs-4-2", w.len);
	w.first = 1ull << 40;
	start_reclaim(r);
	do {
		stele_store_status(r->store, &st);
		if (st.filled > 0 && st.filled < r->opts.extent_len) {
			wait_a_moment(r);
			continue;
		}
		(void)rig_write(r, &w);
		w.first += w.count;
	} while (st.extents < 2);
	rig_settle(r);
	free(meta.bytes);
}

/* ---- fio ---- */

/* From its terse output: field 8 is IOPS of reads, 49 of writes. */
double rig_fio(const char *file, bool writes, const char *args)
{
	char command[8192], line[8192];
	snprintf(command, sizeof(command),
	         "fio --name=bench --filename='%s' --direct=1 --randrepeat=0 --output-format=terse "
	         "--terse-version=3 %s 2>/dev/null",
	         file, args);
	FILE *out = popen(command, "r");
	bool got = out && fgets(line, sizeof(line), out);
	if (out)
		pclose(out);
	char *at = line;
	for (int field = 1; got && at && field < (writes ? 49 : 8); field++) {
		at = strchr(at, ';');
		at = at ? at + 1 : NULL;
	}
	if (!got || !at || atof(at) <= 0) {
		(void)stele_fail(STELE_ERR_IO, "no figure from it: apt-get install fio");
		rig_fail("fio");
	}
	return atof(at);
}
