/* Takes requests to a store's loop and their callbacks back, counts them, and ends a store only when none is under way.
 * What lies on a disk, and whether it is the right one, is slots.c's to judge. */
#include "net/disk.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/io/loop_thread.h"

#define WATCH_NS 2000000000ull
#define IDLE_NS  1000000ull /* between looks whether the store's own work has ended */
#define RECLAIM_BYTES_PER_S (32u << 20) /* while there is room: readers and writers come first */

struct stele_disk {
	/* set once */
	struct stele_disk_opts opts;
	struct stele_loop_thread *thread; /* NULL: the store lives on the home loop */
	struct stele_env *env;            /* the store's */
	bool lent;                        /* the buffers, to it */

	/* the home loop's */
	uint32_t under_way;
	bool opening, open, detached, shutting, closed;
	struct stele_store_identity identity; /* but for its lsn */
	void (*closed_cb)(void *ctx);
	void *closed_ctx;
	bool scrubbing;

	/* messages: each is under way at most once */
	struct stele_msg watch_msg, shut_msg, closed_msg, fenced_msg, cancel_msg;
	bool cancel_due, cancel_again; /* the home loop's */

	/* the store's loop's, while it has a store */
	struct stele_store *store;
	struct stele_op timer; /* first watches, then waits for the store to be idle */
	bool ending;
	struct stele_store_reclaim reclaim; /* runs as long as the store is watched */
	bool reclaiming;
	void (*victim)(struct stele_store_scrub *s, const struct stele_key *key, const char *why);

	/* written by the store's loop, read by the home loop */
	_Atomic uint64_t lsn;
	atomic_bool full, fenced;
	_Atomic uint64_t used;
	_Atomic int64_t scrubbed[2];         /* by deep: when the last one finished */
	atomic_bool unscrubbed[2];           /* one has begun and can go on */
	char fence_reason[STELE_DETAIL_MAX]; /* written once, before fenced */

	pthread_mutex_t
	    lock; /* over `over` of an open, and `ended`, where somebody blocks for them */
	pthread_cond_t over;
	bool ended;
};

static struct stele_disk *disk_of(struct stele_msg *msg, size_t offset)
{
	return (struct stele_disk *)((char *)msg - offset);
}
#define DISK_OF(msg, member) disk_of(msg, offsetof(struct stele_disk, member))

static bool is_far(const struct stele_disk *d)
{
	return d->thread != NULL;
}

static void try_shut(struct stele_disk *d);

/* ---- what the home loop may know without asking ---- */

static void say_fenced(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, fenced_msg);
	if (d->opts.fenced)
		d->opts.fenced(d->opts.ctx, d->fence_reason);
}

/* On the store's loop, before a callback that may be due to this goes home. */
static void publish(struct stele_disk *d)
{
	struct stele_store_identity id;
	stele_store_identity(d->store, &id);
	atomic_store_explicit(&d->lsn, id.lsn, memory_order_relaxed);
	atomic_store_explicit(&d->full, stele_store_full(d->store), memory_order_relaxed);
	if (!stele_store_fenced(d->store) || atomic_load(&d->fenced))
		return;
	snprintf(d->fence_reason, sizeof(d->fence_reason), "%s",
	         stele_store_fence_reason(d->store));
	atomic_store(&d->fenced, true);
	d->fenced_msg.run = say_fenced;
	stele_env_post(d->opts.env, &d->fenced_msg);
}

/* What changes slowly, or takes long to find out. */
static void publish_slow(struct stele_disk *d)
{
	struct stele_store_status st;
	stele_store_status(d->store, &st);
	atomic_store_explicit(&d->used, st.used, memory_order_relaxed);
	for (int deep = 0; deep < 2; deep++) {
		struct stele_store_scrubbed last;
		stele_store_scrubbed(d->store, deep, &last);
		atomic_store_explicit(&d->scrubbed[deep], last.finished, memory_order_relaxed);
		atomic_store_explicit(&d->unscrubbed[deep], last.under_way, memory_order_relaxed);
	}
}

/* ---- there and back ---- */

static void go_home(struct stele_msg *msg)
{
	struct stele_store_trip *t = (struct stele_store_trip *)msg;
	struct stele_disk *d = t->disk;
	d->under_way--;
	t->end(t, STELE_OK); /* t may be gone */
	try_shut(d);
}

/* On the store's loop: the request is over. */
static void arrive(struct stele_store_trip *t)
{
	struct stele_disk *d = t->disk;
	publish(d);
	t->msg.run = go_home;
	if (is_far(d))
		stele_env_post(d->opts.env, &t->msg);
	else
		go_home(&t->msg);
}

static void begin(struct stele_msg *msg)
{
	struct stele_store_trip *t = (struct stele_store_trip *)msg;
	struct stele_disk *d = t->disk;
	t->begin(d->store, t);
}

static void refuse(struct stele_msg *msg)
{
	struct stele_store_trip *t = (struct stele_store_trip *)msg;
	struct stele_disk *d = t->disk;
	d->under_way--;
	t->end(t, STELE_ERR_UNAVAILABLE);
	try_shut(d);
}

static void depart(struct stele_disk *d, struct stele_store_trip *t)
{
	t->disk = d;
	d->under_way++;
	assert(d->under_way != 0);
	if (d->detached || !d->open) {
		t->msg.run = refuse;
		stele_env_post(d->opts.env, &t->msg);
	} else if (is_far(d)) {
		t->msg.run = begin;
		stele_env_post(d->env, &t->msg);
	} else {
		t->begin(d->store, t);
	}
}

static void say_refused(char *detail)
{
	snprintf(detail, STELE_DETAIL_MAX, "the disk was detached from its node");
}

/* Each kind of request: the way in, the callback that the store calls, and the caller's own at the end. `detail`: where the
 * reason of a refusal goes; NULL where requests have none. */
#define ROUND_TRIP(noun, detail)                                                                   \
	static void noun##_begin(struct stele_store *store, struct stele_store_trip *t)            \
	{                                                                                          \
		stele_store_##noun(store, t->request);                                             \
	}                                                                                          \
	static void noun##_over(struct stele_store_##noun *r)                                      \
	{                                                                                          \
		arrive(&r->trip);                                                                  \
	}                                                                                          \
	static void noun##_end(struct stele_store_trip *t, enum stele_err err)                     \
	{                                                                                          \
		struct stele_store_##noun *r = t->request;                                         \
		r->cb = (void (*)(struct stele_store_##noun *))t->cb;                              \
		if (err != STELE_OK) {                                                             \
			char *say = detail;                                                        \
			r->err = err;                                                              \
			if (say)                                                                   \
				say_refused(say);                                                  \
		}                                                                                  \
		r->cb(r);                                                                          \
	}                                                                                          \
	static void noun##_pack(struct stele_store_##noun *r)                                      \
	{                                                                                          \
		r->trip = (struct stele_store_trip){.begin = noun##_begin,                         \
		                                    .end = noun##_end,                             \
		                                    .request = r,                                  \
		                                    .cb = (void (*)(void))r->cb};                  \
		r->cb = noun##_over;                                                               \
	}

ROUND_TRIP(write, r->detail)
ROUND_TRIP(read, r->detail)
ROUND_TRIP(list, r->detail)
ROUND_TRIP(have, NULL)
ROUND_TRIP(digest, NULL)

void stele_disk_write(struct stele_disk *d, struct stele_store_write *w)
{
	write_pack(w);
	depart(d, &w->trip);
}

void stele_disk_read(struct stele_disk *d, struct stele_store_read *r)
{
	read_pack(r);
	depart(d, &r->trip);
}

void stele_disk_list(struct stele_disk *d, struct stele_store_list *l)
{
	list_pack(l);
	depart(d, &l->trip);
}

static void feed_begin(struct stele_store *store, struct stele_store_trip *t)
{
	stele_store_feed(store, t->request, t->arg);
}

void stele_disk_feed(struct stele_disk *d, struct stele_store_list *l, uint64_t after_lsn)
{
	list_pack(l);
	l->trip.begin = feed_begin;
	l->trip.arg = after_lsn;
	depart(d, &l->trip);
}

void stele_disk_have(struct stele_disk *d, struct stele_store_have *h)
{
	have_pack(h);
	depart(d, &h->trip);
}

void stele_disk_digest(struct stele_disk *d, struct stele_store_digest *g)
{
	digest_pack(g);
	depart(d, &g->trip);
}

/* ---- status ---- */

static void status_begin(struct stele_store *store, struct stele_store_trip *t)
{
	struct stele_disk_status *s = t->request;
	stele_store_status(store, &s->st);
	arrive(t);
}

static void status_end(struct stele_store_trip *t, enum stele_err err)
{
	struct stele_disk_status *s = t->request;
	(void)err; /* closed: zeroes */
	s->cb(s);
}

void stele_disk_status(struct stele_disk *d, struct stele_disk_status *s)
{
	s->st = (struct stele_store_status){0};
	s->trip = (struct stele_store_trip){.begin = status_begin, .end = status_end, .request = s};
	depart(d, &s->trip);
}

/* ---- scrub ---- */

struct found { /* a victim on its way home */
	struct stele_msg msg;
	struct stele_store_scrub *scrub;
	void (*victim)(struct stele_store_scrub *s, const struct stele_key *key, const char *why);
	struct stele_key key;
	char why[STELE_DETAIL_MAX];
};

static void tell_victim(struct stele_msg *msg)
{
	struct found *f = (struct found *)msg;
	f->victim(f->scrub, &f->key, f->why);
	free(f);
}

static void victim_over(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	struct stele_disk *d = s->trip.disk;
	if (!is_far(d)) {
		d->victim(s, key, why);
		return;
	}
	struct found *f = malloc(sizeof(*f));
	if (!f)
		return; /* counted by the store, and listed as bad: only its name is lost here */
	*f = (struct found){.msg.run = tell_victim, .scrub = s, .victim = d->victim, .key = *key};
	snprintf(f->why, sizeof(f->why), "%s", why);
	stele_env_post(d->opts.env, &f->msg); /* before the scrub's own end, which follows it */
}

static void scrub_begin(struct stele_store *store, struct stele_store_trip *t)
{
	struct stele_store_scrub *s = t->request;
	struct stele_disk *d = t->disk;
	d->victim = s->victim;
	if (s->victim)
		s->victim = victim_over;
	stele_store_scrub(store, s);
}

static void scrub_over(struct stele_store_scrub *s)
{
	struct stele_disk *d = s->trip.disk;
	if (s->victim)
		s->victim = d->victim;
	publish_slow(d);
	arrive(&s->trip);
}

static void scrub_end(struct stele_store_trip *t, enum stele_err err)
{
	struct stele_store_scrub *s = t->request;
	struct stele_disk *d = t->disk;
	d->scrubbing = false;
	s->cb = (void (*)(struct stele_store_scrub *))t->cb;
	if (err != STELE_OK) {
		s->err = err;
		say_refused(s->detail);
	}
	s->cb(s);
}

static void scrub_busy(struct stele_store_trip *t, enum stele_err err)
{
	struct stele_store_scrub *s = t->request;
	(void)err;
	s->cb = (void (*)(struct stele_store_scrub *))t->cb;
	s->err = STELE_ERR_BUSY;
	snprintf(s->detail, sizeof(s->detail), "a scrub of this disk is under way");
	s->cb(s);
}

void stele_disk_scrub(struct stele_disk *d, struct stele_store_scrub *s)
{
	s->trip = (struct stele_store_trip){
	    .begin = scrub_begin, .end = scrub_end, .request = s, .cb = (void (*)(void))s->cb};
	s->cb = scrub_over;
	if (d->scrubbing) {
		s->trip.end = scrub_busy;
		s->trip.disk = d;
		s->trip.msg.run = refuse;
		d->under_way++;
		stele_env_post(d->opts.env, &s->trip.msg);
		return;
	}
	d->scrubbing = true;
	depart(d, &s->trip);
}

static void cancel_home(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, cancel_msg);
	d->cancel_due = false;
	if (d->cancel_again)
		stele_disk_scrub_cancel(d);
}

static void cancel_there(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, cancel_msg);
	stele_store_scrub_cancel(d->store);
	d->cancel_msg.run = cancel_home;
	stele_env_post(d->opts.env, &d->cancel_msg);
}

void stele_disk_scrub_cancel(struct stele_disk *d)
{
	d->cancel_again = false;
	if (!d->scrubbing || !d->open)
		return;
	if (!is_far(d)) {
		stele_store_scrub_cancel(d->store);
		return;
	}
	if (d->cancel_due) { /* on its way, perhaps to a scrub before this one */
		d->cancel_again = true;
		return;
	}
	d->cancel_due = true;
	d->cancel_msg.run = cancel_there;
	stele_env_post(d->env, &d->cancel_msg);
}

/* ---- reports ---- */

struct report {
	struct stele_msg msg;
	struct stele_disk *disk;
	struct stele_key key;
};

static void report_there(struct stele_msg *msg)
{
	struct report *r = (struct report *)msg;
	stele_store_report_bad(r->disk->store, &r->key);
	free(r);
}

void stele_disk_report_bad(struct stele_disk *d, const struct stele_key *key)
{
	if (d->detached || !d->open)
		return;
	if (!is_far(d)) {
		stele_store_report_bad(d->store, key);
		return;
	}
	struct report *r = malloc(sizeof(*r));
	if (!r)
		return; /* the next reader or scrub finds it again */
	*r = (struct report){.msg.run = report_there, .disk = d, .key = *key};
	stele_env_post(d->env, &r->msg); /* comes there before the message that closes the store */
}

/* ---- opening ---- */

static void open_home(struct stele_msg *msg)
{
	struct stele_disk_open *o =
	    (struct stele_disk_open *)((char *)msg - offsetof(struct stele_disk_open, msg));
	struct stele_disk *d = o->disk;
	d->opening = false;
	d->open = d->store != NULL;
	o->over = true;
	if (o->cb)
		o->cb(o);
}

static void open_there(struct stele_msg *msg)
{
	struct stele_disk_open *o =
	    (struct stele_disk_open *)((char *)msg - offsetof(struct stele_disk_open, msg));
	struct stele_disk *d = o->disk;
	if (d->opts.bufs && !d->lent)
		stele_buf_pool_lend(d->opts.bufs, d->env);
	d->lent = d->opts.bufs != NULL;
	d->store = o->open(o, d->env);
	if (d->store) {
		stele_store_identity(d->store, &d->identity);
		publish(d);
		publish_slow(d);
	}
	if (o->cb) {
		o->msg.run = open_home;
		stele_env_post(d->opts.env, &o->msg);
		return;
	}
	pthread_mutex_lock(&d->lock);
	o->over = true;
	pthread_cond_signal(&d->over);
	pthread_mutex_unlock(&d->lock);
}

void stele_disk_open(struct stele_disk *d, struct stele_disk_open *o)
{
	assert(!d->open && !d->opening && !d->detached);
	d->opening = true;
	o->disk = d;
	o->over = false;
	o->msg.run = open_there;
	if (is_far(d))
		stele_env_post(d->env, &o->msg);
	else
		open_there(&o->msg);
}

void stele_disk_await_open(struct stele_disk *d, struct stele_disk_open *o)
{
	assert(!o->cb);
	pthread_mutex_lock(&d->lock);
	while (!o->over)
		pthread_cond_wait(&d->over, &d->lock);
	pthread_mutex_unlock(&d->lock);
	open_home(&o->msg);
}

/* ---- watching, and the end ---- */

static void end_store(struct stele_disk *d);

static void arm(struct stele_disk *d, uint64_t after_ns)
{
	d->timer.off = stele_env_now(d->env) + after_ns;
	stele_env_submit(d->env, &d->timer);
}

static void reclaimed(struct stele_store_reclaim *r)
{
	struct stele_disk *d = r->ctx;
	d->reclaiming = false;
}

static void start_reclaim(struct stele_disk *d)
{
	if (d->reclaiming || stele_store_fenced(d->store))
		return;
	d->reclaiming = true;
	d->reclaim = (struct stele_store_reclaim){
	    .bytes_per_s = RECLAIM_BYTES_PER_S, .cb = reclaimed, .ctx = d};
	stele_store_reclaim(d->store, &d->reclaim);
}

static void on_timer(struct stele_op *op)
{
	struct stele_disk *d = op->ctx;
	if (d->ending) {
		end_store(d);
		return;
	}
	if (op->result < 0)
		return; /* the env is dead (simulation) */
	stele_store_check_place(d->store);
	start_reclaim(d); /* it ran out of memory */
	publish(d);
	publish_slow(d);
	arm(d, WATCH_NS);
}

static void watch_there(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, watch_msg);
	start_reclaim(d);
	arm(d, WATCH_NS);
}

void stele_disk_watch(struct stele_disk *d)
{
	assert(d->open);
	d->watch_msg.run = watch_there;
	if (is_far(d))
		stele_env_post(d->env, &d->watch_msg);
	else
		watch_there(&d->watch_msg);
}

static void closed_home(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, closed_msg);
	stele_loop_thread_stop(d->thread);
	d->thread = NULL;
	d->closed = true;
	d->closed_cb(d->closed_ctx);
}

/* The store may have work of its own on a worker: its env outlives that. */
static void end_store(struct stele_disk *d)
{
	if (d->reclaiming)
		stele_store_reclaim_cancel(d->store);
	if (d->store && (d->reclaiming || stele_store_busy(d->store))) {
		arm(d, IDLE_NS);
		return;
	}
	stele_store_close(d->store);
	d->store = NULL;
	if (d->closed_cb) {
		d->closed_msg.run = closed_home;
		stele_env_post(d->opts.env, &d->closed_msg);
		return;
	}
	pthread_mutex_lock(&d->lock);
	d->ended = true;
	pthread_cond_signal(&d->over);
	pthread_mutex_unlock(&d->lock);
}

static void shut_there(struct stele_msg *msg)
{
	struct stele_disk *d = DISK_OF(msg, shut_msg);
	d->ending = true;
	if (stele_op_pending(&d->timer))
		stele_env_cancel(d->env, &d->timer);
	else
		end_store(d);
}

static void shut(struct stele_disk *d)
{
	d->shutting = true;
	d->open = false;
	d->shut_msg.run = shut_there;
	if (is_far(d) || d->closed_cb) /* not inside the last callback: the store goes on after it */
		stele_env_post(d->env, &d->shut_msg);
	else
		shut_there(&d->shut_msg);
}

static void try_shut(struct stele_disk *d)
{
	if (d->detached && !d->shutting && d->under_way == 0)
		shut(d);
}

void stele_disk_close(struct stele_disk *d, void (*cb)(void *ctx), void *ctx)
{
	assert(!d->detached && !d->opening);
	stele_disk_scrub_cancel(d);
	d->detached = true;
	d->closed_cb = cb;
	d->closed_ctx = ctx;
	try_shut(d);
}

/* ---- life ---- */

enum stele_err stele_disk_create(const struct stele_disk_opts *opts, struct stele_disk **out)
{
	struct stele_disk *d = calloc(1, sizeof(*d));
	if (!d)
		return stele_fail(STELE_ERR_NOMEM, "disk: out of memory");
	d->opts = *opts;
	d->env = opts->env;
	d->timer = (struct stele_op){.kind = STELE_OP_TIMER, .cb = on_timer, .ctx = d};
	if (opts->own_loop) {
		struct stele_env_opts env = {.workers = opts->workers};
		enum stele_err err = stele_loop_thread_start(&env, &d->thread);
		if (err != STELE_OK) {
			free(d);
			return err;
		}
		d->env = stele_loop_thread_env(d->thread);
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->over, NULL);
	*out = d;
	return STELE_OK;
}

void stele_disk_destroy(struct stele_disk *d)
{
	if (!d)
		return;
	if (!d->closed) { /* nobody has run the home loop */
		assert(!d->opening && d->under_way == 0 && !d->detached);
		if (is_far(d)) {
			shut(d);
			pthread_mutex_lock(&d->lock);
			while (!d->ended)
				pthread_cond_wait(&d->over, &d->lock);
			pthread_mutex_unlock(&d->lock);
			stele_loop_thread_stop(d->thread);
		} else {
			stele_store_close(d->store);
		}
	}
	if (d->lent && !d->opts.own_loop) /* a loop of its own is gone */
		stele_buf_pool_take_back(d->opts.bufs, d->env);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->over);
	free(d);
}

void stele_disk_identity(const struct stele_disk *d, struct stele_store_identity *out)
{
	*out = d->identity;
	out->lsn = atomic_load_explicit(&d->lsn, memory_order_relaxed);
}

bool stele_disk_full(const struct stele_disk *d)
{
	return atomic_load_explicit(&d->full, memory_order_relaxed);
}

bool stele_disk_is_fenced(const struct stele_disk *d)
{
	return atomic_load(&d->fenced);
}

const char *stele_disk_fence_reason(const struct stele_disk *d)
{
	return atomic_load(&d->fenced) ? d->fence_reason : "";
}

void stele_disk_scrubbed(const struct stele_disk *d, bool deep, struct stele_store_scrubbed *out)
{
	*out = (struct stele_store_scrubbed){
	    .finished = atomic_load_explicit(&d->scrubbed[deep], memory_order_relaxed),
	    .under_way = atomic_load_explicit(&d->unscrubbed[deep], memory_order_relaxed)};
}

uint64_t stele_disk_used(const struct stele_disk *d)
{
	return atomic_load_explicit(&d->used, memory_order_relaxed);
}
