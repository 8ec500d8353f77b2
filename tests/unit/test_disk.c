/*
 * Goal: a disk on a loop of its own behaves as one on the caller's loop: every callback comes once, on the caller's
 * thread, never inside the call; closing ends what is under way and nothing else, and what comes after is UNAVAILABLE.
 * Runs under TSan too.
 */
#include <pthread.h>
#include <unistd.h>

#include "net/disk.h"
#include "tests/unit/store_kit.h"

struct rig {
	struct kit k; /* its env is the home loop; its store stays NULL */
	struct stele_disk *disk;
	struct stele_disk_open open;
	pthread_t home;
	bool inside; /* a call of a disk's function is on the stack */
	uint32_t victims;
	struct stele_key victim;
	bool fenced, closed;
	char reason[STELE_DETAIL_MAX];
};

static void on_fenced(void *ctx, const char *reason)
{
	struct rig *r = ctx;
	cr_assert(pthread_equal(r->home, pthread_self()) && !r->fenced && !r->closed);
	r->fenced = true;
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	if (r->k.waiting)
		kit_woken(&r->k);
}

static struct stele_store *open_it(struct stele_disk_open *o, struct stele_env *env)
{
	struct rig *r = o->ctx;
	struct stele_store_opts opts = r->k.opts;
	struct stele_store *store;
	opts.env = env;
	return stele_store_open(&opts, &store) == STELE_OK ? store : NULL;
}

static void rig_attach(struct rig *r, bool own_loop)
{
	struct stele_disk_opts opts = {
	    .env = r->k.env, .own_loop = own_loop, .fenced = on_fenced, .ctx = r};
	cr_assert_eq(stele_disk_create(&opts, &r->disk), STELE_OK, "%s", stele_detail());
	r->open = (struct stele_disk_open){.open = open_it, .ctx = r};
	r->fenced = r->closed = false;
	stele_disk_open(r->disk, &r->open);
	stele_disk_await_open(r->disk, &r->open);
}

static void rig_start(struct rig *r, bool own_loop)
{
	memset(r, 0, sizeof(*r));
	kit_env(&r->k, true);
	kit_dir(&r->k);
	kit_opts(&r->k, true);
	cr_assert_eq(stele_store_format(&r->k.opts, NULL), STELE_OK);
	r->home = pthread_self();
	rig_attach(r, own_loop);
}

static void on_closed(void *ctx)
{
	struct rig *r = ctx;
	cr_assert(pthread_equal(r->home, pthread_self()) && !r->closed && !r->inside);
	r->closed = true;
	kit_woken(&r->k);
}

static void rig_close(struct rig *r)
{
	r->k.waiting++;
	r->inside = true;
	stele_disk_close(r->disk, on_closed, r);
	r->inside = false;
}

static void rig_end(struct rig *r)
{
	if (!r->closed) {
		rig_close(r);
		kit_run(&r->k);
	}
	stele_disk_destroy(r->disk);
	kit_end(&r->k);
}

/* Every callback of a request comes by here. */
static void came(struct rig *r, bool *over)
{
	cr_assert(pthread_equal(r->home, pthread_self()), "on another thread");
	cr_assert(!r->inside, "inside the call");
	cr_assert(!*over, "twice");
	cr_assert(!r->closed, "after the close");
	*over = true;
	kit_woken(&r->k);
}

struct mark { /* one write of one RECORD */
	struct rig *r;
	bool over;
	struct stele_item item;
	struct stele_store_write w;
};

static void mark_over(struct stele_store_write *w)
{
	struct mark *m = w->ctx;
	came(m->r, &m->over);
}

static void mark_go(struct rig *r, struct mark *m, uint64_t n)
{
	static const char meta[200];
	struct stele_hash id = kit_hash(n), sub = kit_hash(n + 1000000);
	*m = (struct mark){.r = r,
	                   .item = {.key = kit_key(STELE_ENTRY_RECORD, &id, &sub, 0),
	                            .meta = meta,
	                            .meta_len = sizeof(meta)}};
	m->w = (struct stele_store_write){.item = &m->item, .n = 1, .cb = mark_over, .ctx = m};
	r->k.waiting++;
	r->inside = true;
	stele_disk_write(r->disk, &m->w);
	r->inside = false;
}

struct look {
	struct rig *r;
	bool over;
	struct stele_store_list l;
	struct stele_store_digest d;
	struct stele_store_have h;
	bool had;
};

static void list_over(struct stele_store_list *l)
{
	struct look *k = l->ctx;
	came(k->r, &k->over);
}

static void digest_over(struct stele_store_digest *d)
{
	struct look *k = d->ctx;
	came(k->r, &k->over);
}

static void have_over(struct stele_store_have *h)
{
	struct look *k = h->ctx;
	came(k->r, &k->over);
}

static void list_go(struct rig *r, struct look *k, bool feed)
{
	*k = (struct look){.r = r,
	                   .l = {.pool = 1, .kinds = ~0u, .max = 4096, .cb = list_over, .ctx = k}};
	memset(&k->l.last, 0xff, sizeof(k->l.last));
	r->k.waiting++;
	r->inside = true;
	if (feed)
		stele_disk_feed(r->disk, &k->l, 0);
	else
		stele_disk_list(r->disk, &k->l);
	r->inside = false;
}

static void digest_go(struct rig *r, struct look *k)
{
	*k = (struct look){.r = r, .d = {.pool = 1, .kinds = ~0u, .cb = digest_over, .ctx = k}};
	memset(&k->d.last, 0xff, sizeof(k->d.last));
	r->k.waiting++;
	r->inside = true;
	stele_disk_digest(r->disk, &k->d);
	r->inside = false;
}

static void have_go(struct rig *r, struct look *k, const struct stele_key *key)
{
	*k = (struct look){.r = r,
	                   .h = {.key = key, .n = 1, .out = &k->had, .cb = have_over, .ctx = k}};
	r->k.waiting++;
	r->inside = true;
	stele_disk_have(r->disk, &k->h);
	r->inside = false;
}

#define CROWD 500u

static void crowd(bool own_loop)
{
	static struct rig r;
	static struct mark m[CROWD];
	struct look k;
	struct stele_store_identity id;
	rig_start(&r, own_loop);
	for (uint32_t i = 0; i < CROWD; i++)
		mark_go(&r, &m[i], i);
	kit_run(&r.k);
	uint64_t lsn = 0;
	for (uint32_t i = 0; i < CROWD; i++) {
		cr_assert_eq(m[i].w.err, STELE_OK, "%s", m[i].w.detail);
		lsn = m[i].w.lsn > lsn ? m[i].w.lsn : lsn;
	}
	stele_disk_identity(r.disk, &id);
	cr_assert_eq(id.lsn, lsn);
	cr_assert_eq(id.incarnation, 1);
	list_go(&r, &k, false);
	kit_run(&r.k);
	cr_assert_eq(k.l.err, STELE_OK);
	cr_assert_eq(k.l.n, CROWD);
	stele_store_list_finish(&k.l);
	list_go(&r, &k, true);
	kit_run(&r.k);
	cr_assert_eq(k.l.err, STELE_OK);
	cr_assert_eq(k.l.n, CROWD);
	stele_store_list_finish(&k.l);
	digest_go(&r, &k);
	kit_run(&r.k);
	cr_assert_eq(k.d.err, STELE_OK);
	cr_assert_eq(k.d.keys, CROWD);
	have_go(&r, &k, &m[7].item.key);
	kit_run(&r.k);
	cr_assert(k.h.err == STELE_OK && k.had);
	rig_end(&r);
}

Test(disk, a_crowd_of_requests_from_another_loop)
{
	crowd(true);
}

Test(disk, the_same_on_one_loop)
{
	crowd(false);
}

static void status_over(struct stele_disk_status *s)
{
	struct rig *r = s->ctx;
	cr_assert(pthread_equal(r->home, pthread_self()));
	kit_woken(&r->k);
}

static void closing(bool own_loop)
{
	static struct rig r;
	static struct mark m[CROWD], late;
	static struct look k;
	rig_start(&r, own_loop);
	for (uint32_t i = 0; i < CROWD; i++)
		mark_go(&r, &m[i], i);
	digest_go(&r, &k);
	rig_close(&r); /* came() asserts that it is the last to be called back */
	stele_disk_report_bad(r.disk, &m[0].item.key);
	stele_disk_scrub_cancel(r.disk);
	mark_go(&r, &late, CROWD);
	kit_run(&r.k);
	cr_assert(r.closed);
	for (uint32_t i = 0; i < CROWD; i++)
		cr_assert(m[i].over && m[i].w.err == STELE_OK);
	cr_assert(k.over && k.d.err == STELE_OK);
	cr_assert(late.over && late.w.err == STELE_ERR_UNAVAILABLE && late.w.detail[0]);

	/* Whoever kept the disk may go on calling it. */
	r.closed = false; /* for came() */
	mark_go(&r, &late, CROWD + 1);
	have_go(&r, &k, &m[0].item.key);
	struct stele_disk_status st = {.cb = status_over, .ctx = &r};
	r.k.waiting++;
	stele_disk_status(r.disk, &st);
	kit_run(&r.k);
	r.closed = true;
	cr_assert(late.over && late.w.err == STELE_ERR_UNAVAILABLE);
	cr_assert(k.over && k.h.err == STELE_ERR_UNAVAILABLE);
	cr_assert_eq(st.st.records, 0);

	/* The store is closed in earnest: it opens again, and holds what was acknowledged. */
	struct stele_disk *old = r.disk;
	rig_attach(&r, own_loop);
	cr_assert(r.open.over);
	st = (struct stele_disk_status){.cb = status_over, .ctx = &r};
	r.k.waiting++;
	stele_disk_status(r.disk, &st);
	if (r.k.waiting)
		kit_run(&r.k);
	cr_assert_eq(st.st.records, CROWD);
	cr_assert_eq(st.st.identity.incarnation, 2);
	stele_disk_destroy(old);
	rig_end(&r);
}

Test(disk, closing_ends_what_is_under_way_and_refuses_the_rest)
{
	closing(true);
}

Test(disk, closing_on_one_loop)
{
	closing(false);
}

static void on_victim(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	struct rig *r = s->ctx;
	cr_assert(pthread_equal(r->home, pthread_self()) && why[0]);
	r->victims++;
	r->victim = *key;
}

static void scrub_over(struct stele_store_scrub *s)
{
	struct rig *r = s->ctx;
	bool over = false;
	came(r, &over);
}

static void scrub_go(struct rig *r, struct stele_store_scrub *s, uint64_t rate)
{
	*s = (struct stele_store_scrub){
	    .bytes_per_s = rate, .victim = on_victim, .cb = scrub_over, .ctx = r};
	r->k.waiting++;
	r->inside = true;
	stele_disk_scrub(r->disk, s);
	r->inside = false;
}

static void put_shard(struct rig *r, const struct kit_block *b)
{
	uint32_t len;
	uint8_t *meta = kit_meta(b, 0, &len);
	struct iovec iov = {b->shard[0], b->d.S};
	struct mark m = {.r = r,
	                 .item = {.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 0),
	                          .meta = meta,
	                          .meta_len = len,
	                          .data = &iov,
	                          .ndata = 1,
	                          .data_len = b->d.S}};
	m.w = (struct stele_store_write){.item = &m.item, .n = 1, .cb = mark_over, .ctx = &m};
	r->k.waiting++;
	stele_disk_write(r->disk, &m.w);
	kit_run(&r->k);
	cr_assert_eq(m.w.err, STELE_OK, "%s", m.w.detail);
	free(meta);
}

/* Flips a bit in the middle of the shard's bytes, which are found in the extents by their first 64. */
static void flip_in_extent(struct rig *r, const struct kit_block *b)
{
	char cmd[512];
	FILE *f;
	snprintf(cmd, sizeof(cmd), "%s/first", r->k.dir);
	cr_assert((f = fopen(cmd, "wb")) && fwrite(b->shard[0], 64, 1, f) == 1 && fclose(f) == 0);
	snprintf(cmd, sizeof(cmd),
	         "cd %s && python3 -c \"import glob\nfor n in glob.glob('ext*/*')+glob.glob('*'):\n"
	         " import os\n if not os.path.isfile(n) or n=='first': continue\n"
	         " d=open(n,'rb').read(); i=d.find(open('first','rb').read())\n"
	         " if i>=0:\n  f=open(n,'r+b'); f.seek(i+30000); c=f.read(1); f.seek(i+30000);"
	         " f.write(bytes([c[0]^4])); f.close(); print('flipped')\" | grep -q flipped",
	         r->k.dir);
	cr_assert_eq(system(cmd), 0, "the shard was not found in an extent");
}

Test(disk, a_scrub_on_another_loop_names_its_victims_here)
{
	static struct rig r;
	struct kit_block b;
	struct stele_store_scrub s, second;
	struct look k;
	rig_start(&r, true);
	kit_block_make(&b, "rs-4-2", 1000000, 1);
	put_shard(&r, &b);
	flip_in_extent(&r, &b);
	scrub_go(&r, &s, 0);
	scrub_go(&r, &second, 0);
	kit_run(&r.k);
	cr_assert_eq(second.err, STELE_ERR_BUSY, "one at a time");
	cr_assert_eq(s.err, STELE_OK, "%s", s.detail);
	cr_assert(r.victims == 1 && s.victims == 1);
	cr_assert(stele_hash_equal(&r.victim.id, &b.id));
	struct stele_key key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0);
	do { /* the store notes it on a worker */
		have_go(&r, &k, &key);
		kit_run(&r.k);
	} while (k.had);

	/* Slowly, for weeks; but closing does not wait for it. */
	scrub_go(&r, &s, 1);
	stele_disk_scrub_cancel(r.disk);
	stele_disk_scrub_cancel(r.disk);
	kit_run(&r.k);
	cr_assert_eq(s.err, STELE_ERR_CANCELLED);
	scrub_go(&r, &s, 1);
	rig_close(&r);
	kit_run(&r.k);
	cr_assert(r.closed && s.err == STELE_ERR_CANCELLED);
	kit_block_free(&b);
	rig_end(&r);
}

Test(disk, a_report_from_another_loop_is_believed)
{
	static struct rig r;
	struct kit_block b;
	struct look k;
	rig_start(&r, true);
	kit_block_make(&b, "rs-4-2", 1000, 1);
	put_shard(&r, &b);
	struct stele_key key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0);
	have_go(&r, &k, &key);
	kit_run(&r.k);
	cr_assert(k.had);
	stele_disk_report_bad(r.disk, &key);
	do {
		have_go(&r, &k, &key);
		kit_run(&r.k);
	} while (k.had);
	kit_block_free(&b);
	rig_end(&r);
}

static void vanishing(bool own_loop)
{
	static struct rig r;
	static struct mark m;
	char away[200];
	rig_start(&r, own_loop);
	stele_disk_watch(r.disk);
	mark_go(&r, &m, 1);
	kit_run(&r.k);
	cr_assert_eq(m.w.err, STELE_OK);
	snprintf(away, sizeof(away), "%s-away", r.k.dir);
	cr_assert_eq(rename(r.k.dir, away), 0);
	r.k.waiting++; /* for on_fenced */
	kit_run(&r.k);
	cr_assert(r.fenced && strstr(r.reason, r.k.dir), "%s", r.reason);
	cr_assert(stele_disk_is_fenced(r.disk));
	cr_assert_str_eq(stele_disk_fence_reason(r.disk), r.reason);
	mark_go(&r, &m, 2);
	kit_run(&r.k);
	cr_assert_eq(m.w.err, STELE_ERR_FENCED, "%s", m.w.detail);
	cr_assert_eq(rename(away, r.k.dir), 0);
	rig_end(&r);
}

Test(disk, one_whose_directory_has_gone_is_fenced)
{
	vanishing(true);
}

Test(disk, one_whose_directory_has_gone_on_one_loop)
{
	vanishing(false);
}

Test(disk, one_that_found_no_store_says_so_and_goes)
{
	static struct rig r;
	static struct mark m;
	rig_start(&r, true);
	struct stele_disk *first = r.disk;
	rig_attach(&r, true); /* the lock is taken: no store */
	mark_go(&r, &m, 1);
	kit_run(&r.k);
	cr_assert_eq(m.w.err, STELE_ERR_UNAVAILABLE);
	stele_disk_destroy(r.disk); /* never closed: as when a node does not start */
	r.disk = first;
	rig_end(&r);
}
