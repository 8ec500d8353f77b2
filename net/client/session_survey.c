/*
 * Which shards of blocks are there: every disk of a block's window is asked what it holds; deep, each shard found is read
 * whole and verified. A few blocks at a time, deep one.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/session_private.h"
#include "erasure/shard_meta.h"
#include "net/client/spread.h" /* retries */

#define SLOTS_SHALLOW 8u
#define READERS_MAX   6u /* shards being read at a time */

struct slot;

/* One shard that is read and verified. */
struct reader {
	struct slot *slot;
	bool busy;
	uint32_t at, shard, tries;
	bool have_meta;
	struct stele_descriptor desc;
	struct stele_hash *rows;
	uint8_t *bytes;
	struct stele_job_work work;
	bool good;
};

struct slot { /* a block being looked at */
	struct survey_job *job;
	struct stele_survey_block *block; /* NULL: free */
	struct stele_window window;
	uint64_t has[STELE_WINDOW_MAX]; /* shards yet to be read */
	uint32_t waiting;
};

struct survey_job {
	struct stele_survey_request *req;
	const struct stele_pool *pool; /* of the map at the beginning, which is held */
	struct stele_map *map;
	uint32_t n; /* shards of a block */
	uint32_t next;
	uint64_t bytes;
	struct slot slot[SLOTS_SHALLOW];
	struct reader reader[READERS_MAX];
};

static void pump(struct survey_job *j);

static struct survey_job *job_of(struct stele_job *job)
{
	return ((struct stele_survey_request *)job)->priv;
}

static void end(struct survey_job *j, enum stele_err err, const char *detail)
{
	if (j->req->job.over)
		return;
	STELE_REQUEST_END(j->req, err, detail);
	stele_job_over(&j->req->job);
}

/* ---- deep: one shard ---- */

static void ask_shard(struct reader *r);

static void reader_over(struct reader *r, bool bad)
{
	struct survey_job *j = r->slot->job;
	const struct stele_progress *p = &j->req->progress;
	if (r->good) {
		r->slot->block->bytes += r->desc.S;
		j->bytes += r->desc.S;
	}
	if (r->good || bad)
		r->slot->block->there |= 1ull << r->shard;
	if (bad)
		r->slot->block->bad |= 1ull << r->shard;
	free(r->rows);
	free(r->bytes);
	r->rows = NULL;
	r->bytes = NULL;
	r->busy = false;
	r->slot->waiting--;
	if (p->step && !p->step(p->ctx, j->bytes, 0))
		end(j, STELE_ERR_CANCELLED, "cancelled");
	pump(j);
}

static void check_run(struct stele_job_work *w)
{
	struct reader *r = (struct reader *)((char *)w - offsetof(struct reader, work));
	r->good = stele_block_verify_shard(&r->desc, r->shard,
	                                   stele_shard_meta_row(&r->desc, r->rows, r->shard),
	                                   r->bytes) == STELE_OK;
}

static void check_done(struct stele_job_work *w)
{
	struct reader *r = (struct reader *)((char *)w - offsetof(struct reader, work));
	reader_over(r, !r->good);
}

static void shard_came(struct stele_job_call *c)
{
	struct reader *r = c->ctx;
	struct survey_job *j = r->slot->job;
	enum stele_err err = c->call.err;
	if (stele_spread_may_retry(err, r->tries)) {
		r->tries++;
		ask_shard(r);
	} else if (err != STELE_OK) {
		reader_over(r, err == STELE_ERR_CORRUPT);
	} else if (!r->have_meta) {
		r->have_meta = stele_shard_meta_read(c->call.reply_head, c->call.reply_head_len,
		                                     &r->slot->block->block, r->shard, &r->desc,
		                                     &r->rows) == STELE_OK;
		if (r->have_meta)
			ask_shard(r);
		else
			reader_over(r, true);
	} else if (c->call.reply_body_len != r->desc.S) {
		reader_over(r, true);
	} else {
		stele_job_work(&r->work, &j->req->job, false, check_run, check_done);
	}
}

static void ask_shard(struct reader *r)
{
	struct survey_job *j = r->slot->job;
	struct stele_window_disk disk = r->slot->window.disk[r->at];
	if (r->have_meta && !r->bytes)
		r->bytes = malloc(r->desc.S);
	struct stele_job_call *c =
	    r->bytes || !r->have_meta
	        ? stele_job_call_new(&j->req->job, disk.node, STELE_OPCODE_SHARD_GET, 128, 0)
	        : NULL;
	if (!c) {
		end(j, STELE_ERR_NOMEM, "out of memory");
		return;
	}
	struct stele_head_shard_get head = {.slot = disk.slot,
	                                    .pool = j->pool->id,
	                                    .index = (uint8_t)r->shard,
	                                    .want_meta = !r->have_meta,
	                                    .block = r->slot->block->block};
	if (r->have_meta) {
		head.cells = stele_descriptor_cells(&r->desc);
		c->into = (struct iovec){.iov_base = r->bytes, .iov_len = r->desc.S};
	}
	stele_head_shard_get_encode(&head, &c->head);
	c->ctx = r;
	stele_job_call_send(c, STELE_CALL_NS, stele_spread_delay_ns(r->tries), shard_came);
}

/* Gives the slot's shards that are yet to be read to idle readers. */
static void start_readers(struct slot *s)
{
	struct survey_job *j = s->job;
	uint32_t at = 0;
	for (uint32_t i = 0; i < READERS_MAX && !j->req->job.over; i++) {
		struct reader *r = &j->reader[i];
		if (r->busy)
			continue;
		while (at < s->window.n && !s->has[at])
			at++;
		if (at == s->window.n)
			return;
		uint32_t shard = (uint32_t)__builtin_ctzll(s->has[at]);
		s->has[at] &= s->has[at] - 1;
		s->waiting++;
		*r = (struct reader){.slot = s, .busy = true, .at = at, .shard = shard};
		ask_shard(r);
	}
}

/* ---- a block ---- */

static void disk_answered(struct stele_job_call *c)
{
	struct slot *s = c->ctx;
	uint64_t mask = 0;
	for (uint32_t i = 0; i < c->call.reply_head_len && i < s->job->n; i++)
		mask |= (uint64_t)(c->call.reply_head[i] != 0) << i;
	if (c->call.err != STELE_OK)
		s->block->silent |= 1ull << c->at;
	else if (s->job->req->deep)
		s->has[c->at] = mask;
	else
		s->block->there |= mask;
	s->waiting--;
	pump(s->job);
}

static void start_slot(struct slot *s, struct stele_survey_block *block)
{
	struct survey_job *j = s->job;
	s->block = block;
	s->waiting = 0;
	memset(s->has, 0, sizeof(s->has));
	block->there = block->bad = block->bytes = block->silent = 0;
	stele_session_window(j->req->job.session, j->pool, &block->block, &s->window);
	for (uint32_t i = 0; i < s->window.n; i++) {
		struct stele_job_call *c = stele_have_call(&j->req->job, s->window.disk[i],
		                                           j->pool->id, &block->block, j->n);
		if (!c) {
			end(j, STELE_ERR_NOMEM, "out of memory");
			return;
		}
		c->ctx = s;
		c->at = i;
		s->waiting++;
		stele_job_call_send(c, STELE_CALL_NS, 0, disk_answered);
	}
}

static void pump(struct survey_job *j)
{
	uint32_t slots = j->req->deep ? 1 : SLOTS_SHALLOW, busy = 0;
	for (uint32_t i = 0; i < slots && !j->req->job.over; i++) {
		struct slot *s = &j->slot[i];
		if (s->block)
			start_readers(s);
		if (s->block && s->waiting == 0)
			s->block = NULL;
		while (!s->block && j->next < j->req->nblocks && !j->req->job.over) {
			start_slot(s, &j->req->block[j->next++]);
			if (s->waiting == 0)
				s->block = NULL; /* its window is empty */
		}
		busy += s->block != NULL;
	}
	if (busy == 0)
		end(j, STELE_OK, "");
}

/* ---- life ---- */

static void release(struct stele_job *job)
{
	struct stele_survey_request *req = (struct stele_survey_request *)job;
	struct survey_job *j = req->priv;
	req->priv = NULL;
	if (j) {
		for (uint32_t i = 0; i < READERS_MAX; i++) {
			free(j->reader[i].rows);
			free(j->reader[i].bytes);
		}
		stele_map_unref(j->map);
		free(j);
	}
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	end(job_of(job), STELE_ERR_CANCELLED, "cancelled");
}

void stele_session_survey(struct stele_session *s, struct stele_survey_request *req)
{
	struct survey_job *j = calloc(1, sizeof(*j));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = j;
	if (!j) {
		STELE_REQUEST_END(req, STELE_ERR_NOMEM, "out of memory");
		stele_job_over(&req->job);
		return;
	}
	j->req = req;
	j->map = stele_map_ref(stele_session_map(s));
	j->pool = stele_map_pool(j->map, req->pool);
	for (uint32_t i = 0; i < SLOTS_SHALLOW; i++)
		j->slot[i].job = j;
	if (!j->pool) {
		end(j, STELE_ERR_NOT_FOUND, "the cluster map has no such pool");
		return;
	}
	j->n = (uint32_t)j->pool->code.k + j->pool->code.m;
	pump(j);
}
