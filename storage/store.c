/*
 * A store's life: format, open, close, fence, status; and the store's own jobs. What it does with
 * writes, reads, lists, recovery and scrub lies in the files named in store_private.h.
 */
#include "storage/store_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SUPERBLOCK "superblock"
#define LOCK_FILE  "lock"

static void path_in(const char *dir, const char *name, char out[STELE_PATH_MAX])
{
	snprintf(out, STELE_PATH_MAX, "%.*s/%s", (int)(STELE_PATH_MAX - 32), dir, name);
}

static enum stele_err superblock_save(struct stele_env *env, const char *dir,
                                      const struct stele_superblock *sb)
{
	uint8_t page[STELE_PAGE];
	char path[STELE_PATH_MAX];
	path_in(dir, SUPERBLOCK, path);
	stele_superblock_encode(sb, page);
	return stele_file_save(env, path, page, sizeof(page), 0600);
}

static enum stele_err superblock_load(struct stele_env *env, const char *dir,
                                      struct stele_superblock *sb)
{
	char path[STELE_PATH_MAX];
	char *bytes;
	size_t len;
	path_in(dir, SUPERBLOCK, path);
	STELE_TRY(stele_file_load(env, path, STELE_PAGE, &bytes, &len));
	enum stele_err err = len == STELE_PAGE
	                         ? stele_superblock_decode((const uint8_t *)bytes, sb)
	                         : stele_fail(STELE_ERR_CORRUPT, "superblock: %zu bytes", len);
	free(bytes);
	return err ? stele_wrap(err, "%s", dir) : STELE_OK;
}

static bool has_store(struct stele_env *env, const char *dir)
{
	char path[STELE_PATH_MAX];
	struct stele_stat st;
	path_in(dir, SUPERBLOCK, path);
	struct stele_op op = {.kind = STELE_OP_STAT, .path = path, .st = &st};
	return stele_env_call(env, &op) != -ENOENT;
}

enum stele_err stele_store_format(const struct stele_store_opts *opts, struct stele_uuid *disk)
{
	if (has_store(opts->env, opts->dir))
		return stele_fail(STELE_ERR_EXISTS, "%s: there is a store already", opts->dir);
	struct stele_superblock sb = {
	    .version = STELE_DISK_VERSION,
	    .cluster = opts->cluster,
	    .extent_len = opts->extent_len ? opts->extent_len : STELE_EXTENT_LEN,
	};
	if (sb.extent_len < STELE_EXTENT_LEN_MIN || sb.extent_len % STELE_PAGE ||
	    sb.extent_len > UINT32_MAX)
		return stele_fail(STELE_ERR_INVALID,
		                  "store: extents of %llu bytes: 4 MiB to 4 GiB, in pages",
		                  (unsigned long long)sb.extent_len);
	struct stele_list names = {0};
	STELE_TRY(stele_file_list(opts->env, opts->dir, &names));
	bool taken = false;
	uint32_t id;
	for (size_t i = 0; i < names.n; i++)
		taken = taken || stele_extent_name(names.name[i], &id);
	stele_list_finish(&names);
	if (taken)
		return stele_fail(STELE_ERR_EXISTS,
		                  "%s: there are extents and no superblock: this is a damaged "
		                  "store, not an empty directory",
		                  opts->dir);
	stele_env_random(opts->env, sb.disk.b, sizeof(sb.disk.b));
	stele_env_random(opts->env, sb.salt.b, sizeof(sb.salt.b));
	STELE_TRY(superblock_save(opts->env, opts->dir, &sb));
	if (disk)
		*disk = sb.disk;
	return STELE_OK;
}

/* ---- open and close ---- */

static enum stele_err take_lock(struct stele_store *s)
{
	char path[STELE_PATH_MAX];
	path_in(s->vol.dir, LOCK_FILE, path);
	STELE_TRY(
	    stele_file_open(s->env, path, STELE_OPEN_WRITE | STELE_OPEN_CREATE, 0600, &s->lock_fd));
	struct stele_op op = {.kind = STELE_OP_LOCK, .fd = s->lock_fd};
	int64_t r = stele_env_call(s->env, &op);
	if (r == -EWOULDBLOCK)
		return stele_fail(STELE_ERR_EXISTS, "%s: another process has this store open",
		                  s->vol.dir);
	if (r < 0)
		return stele_fail_errno((int)-r, "%s: lock", s->vol.dir);
	struct stele_stat st;
	STELE_TRY(stele_file_stat(s->env, path, &st));
	s->lock_dev = st.dev;
	s->lock_ino = st.ino;
	return STELE_OK;
}

static enum stele_err open_all(struct stele_store *s, const struct stele_store_opts *opts)
{
	if (!has_store(s->env, s->vol.dir))
		return stele_fail(STELE_ERR_NOT_FOUND, "%s: there is no store", s->vol.dir);
	STELE_TRY(take_lock(s));
	STELE_TRY(superblock_load(s->env, s->vol.dir, &s->sb));
	if (!stele_hash_equal(&s->sb.cluster, &opts->cluster))
		return stele_fail(STELE_ERR_DENIED, "%s: this disk belongs to another cluster",
		                  s->vol.dir);
	s->vol.disk = s->sb.disk;
	s->vol.salt = s->sb.salt;
	s->vol.extent_len = s->sb.extent_len;
	STELE_TRY(stele_store_recover(s));
	stele_scrub_load(s);
	s->sb.lsn_floor = s->durable_lsn;
	s->sb.incarnation++; /* durable before anybody is served */
	return superblock_save(s->env, s->vol.dir, &s->sb);
}

void stele_store_forget(struct stele_store *s)
{
	stele_index_close(&s->index);
	for (uint32_t i = 0; i < s->extents_n; i++) {
		if (s->extents[i]) {
			stele_env_release(s->env, s->extents[i]->fd);
			stele_extent_close(&s->vol, s->extents[i]);
		}
		free(s->extents[i]);
	}
	free(s->extents);
	s->extents = NULL;
	s->open = s->spare = NULL;
	s->extents_n = s->files = s->prepared = s->gone = s->gone_last = 0;
}

static void destroy(struct stele_store *s)
{
	stele_store_forget(s);
	stele_fronts_finish(&s->fronts);
	stele_file_close(s->env, &s->lock_fd);
	pthread_mutex_destroy(&s->index_lock);
	pthread_mutex_destroy(&s->extents_lock);
	free(s);
}

enum stele_err stele_store_open(const struct stele_store_opts *opts, struct stele_store **out)
{
	if (strlen(opts->dir) > STELE_PATH_MAX - 64)
		return stele_fail(STELE_ERR_INVALID, "store: the directory's name is too long");
	struct stele_store *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	pthread_mutex_init(&s->index_lock, NULL);
	pthread_mutex_init(&s->extents_lock, NULL);
	s->env = s->vol.env = opts->env;
	s->capacity = opts->capacity;
	s->kv_ops = opts->kv;
	s->kv_world = opts->kv_world;
	s->lock_fd = -1;
	snprintf(s->vol.dir, sizeof(s->vol.dir), "%s", opts->dir);
	path_in(opts->dir, "index", s->index_dir);
	s->later_tail = &s->later_head;
	s->opened_ns = stele_env_now(s->env);
	stele_fair_init(&s->fair);
	s->fair.off = opts->unfair;
	stele_store_write_init(s);
	stele_store_read_init(s);
	enum stele_err err = open_all(s, opts);
	if (err) {
		char why[STELE_DETAIL_MAX];
		stele_detail_copy(why);
		destroy(s);
		return stele_fail(err, "%s", why);
	}
	*out = s;
	return STELE_OK;
}

/* Parts the jobs from the store; those that a worker runs are waited for. */
static void end_jobs(struct stele_store *s)
{
	while (s->jobs) {
		struct stele_store_job *job = s->jobs;
		s->jobs = job->next;
		pthread_mutex_lock(&job->lock);
		while (job->running)
			pthread_cond_wait(&job->idle, &job->lock);
		job->store = NULL;
		pthread_mutex_unlock(&job->lock);
		if (job->target) { /* sealed, or not yet: either way its items come back */
			job->target->items = job->extent.items;
			job->target->trailer = job->extent.trailer;
			job->target->state = job->extent.state;
		} else if (job->extent.fd >= 0) {
			stele_extent_close(&s->vol, &job->extent); /* prepared, not taken over */
		}
	}
}

static void close_cleanly(struct stele_store *s)
{
	struct stele_stat st;
	struct stele_op op = {.kind = STELE_OP_STAT, .path = s->vol.dir, .st = &st};
	if (s->fenced || stele_env_call(s->env, &op) < 0)
		return; /* the next start finds out by itself */
	for (uint32_t i = 0; s->retired && i < s->extents_n; i++) {
		struct stele_extent *x = s->extents[i];
		if (x && x != s->open && x->state == STELE_EXTENT_OPEN &&
		    stele_extent_seal(&s->vol, x) != STELE_OK)
			return;
	}
	(void)!stele_store_checkpoint(s, true); /* lost, it costs a replay */
}

void stele_store_close(struct stele_store *s)
{
	if (!s)
		return;
	assert(s->writes == 0 && s->in_flight == 0 && s->reads == 0 && !s->later_due && !s->scrub &&
	       !s->reclaim);
	end_jobs(s);
	close_cleanly(s);
	destroy(s);
}

bool stele_store_busy(const struct stele_store *s)
{
	return s->jobs != NULL || s->in_flight > 0;
}

void stele_store_identity(const struct stele_store *s, struct stele_store_identity *out)
{
	*out = (struct stele_store_identity){
	    .disk = s->sb.disk, .incarnation = s->sb.incarnation, .lsn = s->durable_lsn};
}

/* ---- fence ---- */

void stele_store_fence(struct stele_store *s, const char *fmt, ...)
{
	if (s->fenced)
		return;
	s->fenced = true;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(s->fence_reason, sizeof(s->fence_reason), fmt, ap);
	va_end(ap);
}

void stele_store_check_place(struct stele_store *s)
{
	char path[STELE_PATH_MAX];
	struct stele_stat st;
	path_in(s->vol.dir, LOCK_FILE, path);
	struct stele_op op = {.kind = STELE_OP_STAT, .path = path, .st = &st};
	int64_t r = stele_env_call(s->env, &op);
	if (r == -ENOENT || r == -ENOTDIR ||
	    (r == 0 && (st.dev != s->lock_dev || st.ino != s->lock_ino)))
		stele_store_fence(s, "%s has gone, or another is in its place: unmounted, removed?",
		                  s->vol.dir);
}

bool stele_store_full(const struct stele_store *s)
{
	return s->full;
}

bool stele_store_fenced(const struct stele_store *s)
{
	return s->fenced;
}

const char *stele_store_fence_reason(const struct stele_store *s)
{
	return s->fence_reason;
}

/* ---- callbacks that must not fire inside the call ---- */

static void run_later(struct stele_op *op)
{
	struct stele_store *s = op->ctx;
	struct stele_later *l = s->later_head;
	s->later_head = NULL;
	s->later_tail = &s->later_head;
	s->later_due = false;
	bool cancelled = op->result < 0;
	while (l) {
		struct stele_later *next = l->next; /* the request may be gone when run returns */
		l->run(l, cancelled);
		l = next;
	}
}

void stele_store_later(struct stele_store *s, struct stele_later *later,
                       void (*run)(struct stele_later *later, bool cancelled), void *request)
{
	*later = (struct stele_later){.run = run, .request = request};
	*s->later_tail = later;
	s->later_tail = &later->next;
	if (s->later_due)
		return;
	s->later_due = true;
	s->later_op = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(s->env), .cb = run_later, .ctx = s};
	stele_env_submit(s->env, &s->later_op);
}

/* ---- turns ---- */

static void begin_turns(struct stele_store *s, uint64_t now)
{
	struct stele_turn *t;
	while ((t = stele_fair_next(&s->fair, now)))
		t->begin(t);
}

void stele_store_turn(struct stele_store *s, struct stele_turn *t)
{
	uint64_t now = stele_env_now(s->env);
	stele_fair_add(&s->fair, t, now);
	begin_turns(s, now);
}

void stele_store_turn_over(struct stele_store *s, struct stele_turn *t, uint64_t bytes)
{
	uint64_t now = stele_env_now(s->env);
	stele_fair_end(&s->fair, t, bytes, now);
	begin_turns(s, now);
}

uint64_t stele_store_piece(const struct stele_store *s, enum stele_class class, uint64_t len)
{
	bool whole =
	    len <= STELE_FAIR_PIECE || stele_fair_whole(&s->fair, class, stele_env_now(s->env));
	return whole ? len : STELE_FAIR_PIECE;
}

/* ---- jobs ---- */

void stele_store_job_drop(struct stele_store_job *job)
{
	pthread_mutex_destroy(&job->lock);
	pthread_cond_destroy(&job->idle);
	free(job->slot);
	free(job);
}

static void job_work(struct stele_op *op)
{
	struct stele_store_job *job = op->ctx;
	pthread_mutex_lock(&job->lock);
	struct stele_store *s = job->store;
	job->running = s != NULL;
	pthread_mutex_unlock(&job->lock);
	if (!s)
		return;
	job->work(s, job);
	if (job->err)
		stele_detail_copy(job->detail);
	pthread_mutex_lock(&job->lock);
	job->running = false;
	pthread_cond_signal(&job->idle);
	pthread_mutex_unlock(&job->lock);
}

static void job_done(struct stele_op *op)
{
	struct stele_store_job *job = op->ctx;
	pthread_mutex_lock(&job->lock);
	struct stele_store *s = job->store;
	pthread_mutex_unlock(&job->lock);
	if (s) {
		if (job->prev)
			job->prev->next = job->next;
		else
			s->jobs = job->next;
		if (job->next)
			job->next->prev = job->prev;
		job->done(s, job, op->result >= 0);
	}
	stele_store_job_drop(job);
}

struct stele_store_job *stele_store_job_create(struct stele_store *s)
{
	struct stele_store_job *job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	pthread_mutex_init(&job->lock, NULL);
	pthread_cond_init(&job->idle, NULL);
	job->store = s;
	job->extent.fd = -1;
	return job;
}

void stele_store_job_start(struct stele_store_job *job)
{
	struct stele_store *s = job->store;
	job->next = s->jobs;
	if (s->jobs)
		s->jobs->prev = job;
	s->jobs = job;
	job->op = (struct stele_op){.kind = STELE_OP_WORK,
	                            .flags = STELE_WORK_LONG,
	                            .work = job_work,
	                            .cb = job_done,
	                            .ctx = job};
	stele_env_submit(s->env, &job->op);
}

static void mark_work(struct stele_store *s, struct stele_store_job *job)
{
	pthread_mutex_lock(&s->index_lock);
	job->err = stele_index_mark(&s->index, &job->at, job->at.bad);
	job->counts = stele_store_counts(s);
	pthread_mutex_unlock(&s->index_lock);
}

static void mark_done(struct stele_store *s, struct stele_store_job *job, bool ran)
{
	stele_fronts_forget(&s->fronts, &job->at.key);
	if (ran && !job->err)
		stele_store_counted(s, &job->counts);
}

void stele_store_mark(struct stele_store *s, const struct stele_item_at *at, bool bad)
{
	struct stele_store_job *job = stele_store_job_create(s);
	if (!job)
		return; /* the next reader or scrub finds it again */
	job->at = *at;
	job->at.bad = bad;
	job->work = mark_work;
	job->done = mark_done;
	stele_store_job_start(job);
}

static void report_work(struct stele_store *s, struct stele_store_job *job)
{
	job->err = stele_index_get(s->index.kv, STELE_INDEX_ENTRY, &job->at.key, &job->at);
	job->at.bad = true;
	if (!job->err)
		mark_work(s, job);
}

void stele_store_report_bad(struct stele_store *s, const struct stele_key *key)
{
	struct stele_store_job *job = stele_store_job_create(s);
	if (!job)
		return;
	job->at.key = stele_key_short(key);
	job->work = report_work;
	job->done = mark_done;
	stele_store_job_start(job);
}

/* ---- extents ---- */

enum stele_err stele_store_make_slot(struct stele_store *s, uint32_t id, struct stele_extent **slot)
{
	if (id >= s->extents_n) {
		uint32_t n = id + 1;
		pthread_mutex_lock(&s->extents_lock);
		struct stele_extent **more = realloc(s->extents, n * sizeof(more[0]));
		if (more) {
			memset(more + s->extents_n, 0, (n - s->extents_n) * sizeof(more[0]));
			s->extents = more;
			s->extents_n = n;
		}
		pthread_mutex_unlock(&s->extents_lock);
		if (!more)
			return stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	}
	*slot = malloc(sizeof(**slot));
	return *slot ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "store: out of memory");
}

void stele_store_fill_slot(struct stele_store *s, struct stele_extent *slot,
                           const struct stele_extent *x)
{
	*slot = *x;
	pthread_mutex_lock(&s->extents_lock);
	s->extents[x->id] = slot;
	pthread_mutex_unlock(&s->extents_lock);
	s->files++;
	s->prepared += slot->state == STELE_EXTENT_PREPARED;
	stele_env_hold(s->env, slot->fd); /* until the store closes */
}

bool stele_store_extent_fd(struct stele_store *s, uint32_t id, int *fd, uint32_t *cycle)
{
	pthread_mutex_lock(&s->extents_lock);
	struct stele_extent *x = id < s->extents_n ? s->extents[id] : NULL;
	if (x) {
		*fd = x->fd;
		*cycle = x->cycle;
	}
	pthread_mutex_unlock(&s->extents_lock);
	return x != NULL;
}

uint32_t stele_store_extents_max(const struct stele_store *s, bool reserve)
{
	if (!s->capacity)
		return STELE_EXTENTS_MAX - 1;
	uint64_t n = s->capacity / s->vol.extent_len;
	if (!reserve && n)
		n--; /* the last one is for tombstones and reclaim (N8) */
	return n < STELE_EXTENTS_MAX ? (uint32_t)n : STELE_EXTENTS_MAX - 1;
}

struct stele_index_counts stele_store_counts(struct stele_store *s)
{
	s->index.counts.order++;
	struct stele_index_counts c = s->index.counts;
	c.live = NULL;
	c.extents = 0;
	return c;
}

void stele_store_counted(struct stele_store *s, const struct stele_index_counts *c)
{
	if (c->order > s->counts.order)
		s->counts = *c;
}

void stele_store_status(struct stele_store *s, struct stele_store_status *out)
{
	*out = (struct stele_store_status){
	    .capacity = s->capacity,
	    .live = s->counts.bytes,
	    .shards = s->counts.shards,
	    .refs = s->counts.refs,
	    .records = s->counts.records,
	    .marks = s->counts.marks,
	    .bad = s->counts.bad,
	    .filled = !s->spare                 ? 0
	              : stele_store_unfilled(s) ? s->spare->filled
	                                        : s->vol.extent_len,
	    .extents_gone = s->gone,
	    .full = s->full,
	    .fenced = s->fenced,
	    .uptime_ns = stele_env_now(s->env) - s->opened_ns,
	};
	stele_store_identity(s, &out->identity);
	snprintf(out->fence_reason, sizeof(out->fence_reason), "%s", s->fence_reason);
	for (uint32_t i = 0; i < s->extents_n; i++) {
		const struct stele_extent *x = s->extents[i];
		if (!x)
			continue;
		if (x->state == STELE_EXTENT_PREPARED) {
			out->extents_free++;
			continue;
		}
		out->extents++;
		out->used += x == s->open ? x->end : s->vol.extent_len;
	}
	if (!out->capacity) {
		struct stele_stat st = {0};
		struct stele_op op = {.kind = STELE_OP_STAT, .path = s->vol.dir, .st = &st};
		if (stele_env_call(s->env, &op) == 0)
			out->capacity = st.disk_total;
	}
}
