/*
 * Room to write: which extent batches go to, the preparation of the next one ahead of its use, what
 * full means, and the sealing of extents that are done. Knows batches only by their size.
 */
#include "storage/store_private.h"

#include <stdio.h>

#define DISK_MARGIN (64u << 20) /* left to the index, where no capacity is set */

static uint32_t in_use(const struct stele_store *s)
{
	return s->files - s->prepared;
}

static bool fits(const struct stele_store *s, const struct stele_extent *x, uint64_t len,
                 uint64_t entries)
{
	return x->end + len + stele_footer_room(x->items.n + entries) <= s->vol.extent_len;
}

/* ---- preparing ---- */

static void prepare_work(struct stele_store *s, struct stele_store_job *job)
{
	bool reserve = false;
	if (!s->capacity) {
		struct stele_stat st;
		job->err = stele_file_stat(s->env, s->vol.dir, &st);
		if (job->err)
			return;
		uint64_t keep = job->use == STELE_ROOM_WRITE ? s->vol.extent_len : 0; /* N8 */
		if (st.disk_free < s->vol.extent_len + keep + DISK_MARGIN) {
			job->err = stele_fail(STELE_ERR_FULL, "%s: %llu bytes are free", s->vol.dir,
			                      (unsigned long long)st.disk_free);
			return;
		}
		reserve = st.disk_free < 2 * s->vol.extent_len + DISK_MARGIN;
	}
	job->err = stele_extent_create(&s->vol, job->at.extent, &job->extent);
	job->extent.reserve = !job->err && reserve;
}

static void prepare_done(struct stele_store *s, struct stele_store_job *job, bool ran)
{
	s->preparing = false;
	if (!ran) {
		stele_store_fence(s, "closing down");
	} else if (job->err == STELE_ERR_FULL && job->ahead) {
		s->ahead_failed_ns = stele_env_now(s->env); /* nobody waits for it */
	} else if (job->err == STELE_ERR_FULL) {
		s->reserve_spent = job->use != STELE_ROOM_WRITE;
		stele_store_set_full(s);
	} else if (job->err == STELE_ERR_NOMEM) {
		s->prepare_nomem = !job->ahead;
	} else if (job->err) {
		stele_store_fence(s, "%.*s", (int)(STELE_DETAIL_MAX - 1), job->detail);
	} else {
		stele_store_fill_slot(s, job->slot, &job->extent);
		if (!job->extent.reserve)
			s->spare = job->slot;
		job->slot = NULL;
		job->extent.fd = -1;
	}
	stele_store_pump(s);
	stele_reclaim_kick(s); /* it fills it */
}

/* Numbers of files that have gone, and of which the index had entries at the open, stay theirs. */
static uint32_t free_number(const struct stele_store *s)
{
	uint32_t id = s->gone_last + 1;
	while (id < s->extents_n && s->extents[id])
		id++;
	return id;
}

static enum stele_err prepare(struct stele_store *s, enum stele_room_use use, bool ahead)
{
	if (s->preparing)
		return STELE_OK;
	bool nomem = s->prepare_nomem;
	struct stele_store_job *job = nomem ? NULL : stele_store_job_create(s);
	s->prepare_nomem = false;
	if (!job)
		return stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	uint32_t id = free_number(s);
	enum stele_err err = stele_store_make_slot(s, id, &job->slot);
	if (err) {
		stele_store_job_drop(job);
		return err;
	}
	job->at.extent = id;
	job->use = use;
	job->ahead = ahead;
	job->work = prepare_work;
	job->done = prepare_done;
	s->preparing = true;
	stele_store_job_start(job);
	return STELE_OK;
}

/* ---- the next extent ---- */

static struct stele_extent *find_prepared(const struct stele_store *s, bool reserve)
{
	for (uint32_t i = 0; s->prepared && i < s->extents_n; i++) {
		struct stele_extent *x = s->extents[i];
		if (x && x->state == STELE_EXTENT_PREPARED && (reserve || !x->reserve))
			return x;
	}
	return NULL;
}

/* The reserve is the last extent of the capacity; without one, what was made after the disk was full. */
static bool reserve_is_open(const struct stele_store *s)
{
	return s->capacity ? in_use(s) > stele_store_extents_max(s, false) : s->open->reserve;
}

static bool may_fill(const struct stele_store *s, enum stele_room_use use, uint64_t len)
{
	if (!reserve_is_open(s) || use == STELE_ROOM_COPY)
		return true;
	return use == STELE_ROOM_TOMB && s->open->end + len <= s->vol.extent_len / 2;
}

static enum stele_err say_full(const struct stele_store *s)
{
	return stele_fail(STELE_ERR_FULL, "%s: the disk is full: %u extents of %llu bytes",
	                  s->vol.dir, s->files, (unsigned long long)s->vol.extent_len);
}

void stele_store_begin(struct stele_store *s, struct stele_extent *x, uint64_t lsn)
{
	if (s->open) {
		s->open->retired = true;
		s->retired++;
	}
	x->state = STELE_EXTENT_OPEN;
	x->first_lsn = lsn;
	x->last_lsn = 0;
	x->end = x->landed = STELE_PAGE;
	s->prepared--;
	s->open = x;
	if (s->spare == x)
		s->spare = find_prepared(s, false);
}

/* Half full: the next one is made ready while nobody waits for it; if not now, then when it is needed. */
static void prepare_ahead(struct stele_store *s)
{
	if (s->spare || s->preparing || s->full || s->open->end <= s->vol.extent_len / 2 ||
	    s->files >= stele_store_extents_max(s, false) ||
	    (s->ahead_failed_ns &&
	     stele_env_now(s->env) - s->ahead_failed_ns < STELE_FULL_RETRY_NS))
		return;
	(void)!prepare(s, STELE_ROOM_WRITE, true);
}

enum stele_err stele_store_room(struct stele_store *s, uint64_t len, uint64_t entries,
                                enum stele_room_use use, struct stele_extent **next)
{
	*next = NULL;
	if (s->open && may_fill(s, use, len) && fits(s, s->open, len, entries)) {
		prepare_ahead(s);
		return STELE_OK;
	}
	if ((s->open && use == STELE_ROOM_TOMB && reserve_is_open(s)) ||
	    in_use(s) >= stele_store_extents_max(s, use != STELE_ROOM_WRITE))
		return say_full(s);
	struct stele_extent *x = s->spare;
	if (!x && use != STELE_ROOM_WRITE)
		x = find_prepared(s, true);
	if (!x) {
		bool asked = s->full && (s->reserve_spent || use == STELE_ROOM_WRITE);
		if (asked && stele_env_now(s->env) - s->full_since_ns < STELE_FULL_RETRY_NS)
			return say_full(s);
		STELE_TRY(prepare(s, use, false));
		return STELE_ERR_BUSY;
	}
	if (x == s->filling)
		return STELE_ERR_BUSY;
	*next = x;
	return STELE_OK;
}

/* What was recycled was written before. */
struct stele_extent *stele_store_unfilled(const struct stele_store *s)
{
	struct stele_extent *x = s->spare;
	return x && x->cycle == 1 && x->filled < s->vol.extent_len ? x : NULL;
}

void stele_store_recycled(struct stele_store *s, struct stele_extent *x, uint32_t cycle)
{
	pthread_mutex_lock(&s->extents_lock);
	x->cycle = cycle;
	pthread_mutex_unlock(&s->extents_lock);
	x->state = STELE_EXTENT_PREPARED;
	x->first_lsn = x->last_lsn = 0;
	x->end = x->landed = STELE_PAGE;
	x->spared_until_ns = 0;
	s->prepared++;
	/* of a full file system the first that comes free is the reserve again */
	x->reserve = !s->capacity && s->full && s->prepared == 1;
	if (!s->spare && !x->reserve)
		s->spare = x;
	s->full = s->full && !s->spare;
	s->reserve_spent = false;
	stele_store_pump(s);
}

enum stele_err stele_store_room_recovered(struct stele_store *s)
{
	if (s->capacity)
		return STELE_OK; /* by their number */
	struct stele_stat st;
	STELE_TRY(stele_file_stat(s->env, s->vol.dir, &st));
	if (s->prepared > 1 || st.disk_free >= s->vol.extent_len + DISK_MARGIN)
		return STELE_OK;
	struct stele_extent *x = s->spare ? s->spare : s->open;
	if (x)
		x->reserve = true;
	s->spare = NULL;
	return STELE_OK;
}

uint32_t stele_store_free_extents(const struct stele_store *s)
{
	uint32_t max = stele_store_extents_max(s, false), used = in_use(s);
	if (s->capacity)
		return max > used ? max - used : 0;
	return s->full ? s->prepared : UINT32_MAX;
}

/* ---- sealing ---- */

static void checkpoint_work(struct stele_store *s, struct stele_store_job *job)
{
	job->err = stele_store_checkpoint(s, false);
}

static void checkpoint_done(struct stele_store *s, struct stele_store_job *job, bool ran)
{
	s->checkpointing = false;
	if (ran && job->err) {
		stele_fail(job->err, "%.*s", (int)(STELE_DETAIL_MAX - 1), job->detail);
		stele_store_index_failed(s, job->err);
		stele_store_pump(s);
	}
}

static void checkpoint(struct stele_store *s)
{
	struct stele_store_job *job = s->checkpointing ? NULL : stele_store_job_create(s);
	if (!job)
		return; /* the next seal makes up for it */
	job->work = checkpoint_work;
	job->done = checkpoint_done;
	s->checkpointing = true;
	stele_store_job_start(job);
}

static void seal_work(struct stele_store *s, struct stele_store_job *job)
{
	job->err = stele_extent_seal(&s->vol, &job->extent);
}

static void seal_done(struct stele_store *s, struct stele_store_job *job, bool ran)
{
	s->sealing = false;
	struct stele_extent *x = job->target;
	x->items = job->extent.items;
	x->trailer = job->extent.trailer;
	x->state = job->extent.state;
	if (!ran || job->err == STELE_ERR_NOMEM)
		return; /* the next batch that is through asks again */
	if (job->err) {
		stele_store_fence(s, "%.*s", (int)(STELE_DETAIL_MAX - 1), job->detail);
		stele_store_pump(s);
		return;
	}
	x->retired = false;
	s->retired--;
	checkpoint(s);
	stele_store_seal_retired(s);
	stele_reclaim_kick(s);
}

void stele_store_seal_retired(struct stele_store *s)
{
	if (!s->retired || s->sealing || s->fenced)
		return;
	struct stele_extent *x = NULL;
	for (uint32_t i = 0; i < s->extents_n && !x; i++)
		if (s->extents[i] && s->extents[i]->retired && s->extents[i]->flying == 0)
			x = s->extents[i];
	struct stele_store_job *job = x ? stele_store_job_create(s) : NULL;
	if (!job)
		return; /* the next batch that is through asks again */
	job->target = x;
	job->extent = *x; /* the items go with it, and come back */
	x->items = (struct stele_items){0};
	job->work = seal_work;
	job->done = seal_done;
	s->sealing = true;
	stele_store_job_start(job);
}
