/*
 * Lists every record of the cluster: placement group after group in the order of ids, in each a merge of what the disks of
 * its window list, page by page, so that memory stays bounded whatever the archive holds.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/session_private.h"
#include "net/client/spread.h" /* retries */

enum disk_state { ASKED, READY, DONE };

struct disk {
	enum disk_state state;
	uint32_t tries;
	struct stele_key after;
	bool more;
	/* the page */
	uint8_t *page;
	struct stele_reader in;
	uint32_t left;
	struct stele_listed head; /* its next item, READY */
};

struct list_job {
	struct stele_list_request *req;
	struct stele_map *map;
	const struct stele_pool *pool;
	uint32_t pg;
	struct stele_window window;
	struct stele_hash first, last;
	bool answered; /* some disk did, some time */
	enum stele_err why;
	char detail[STELE_DETAIL_MAX]; /* of one that did not */
	struct disk disk[STELE_WINDOW_MAX];
};

static void merge(struct list_job *j);

static struct list_job *job_of(struct stele_job *job)
{
	return ((struct stele_list_request *)job)->priv;
}

static void end(struct list_job *j, enum stele_err err, const char *detail)
{
	STELE_REQUEST_END(j->req, err, detail);
	stele_job_over(&j->req->job);
}

static int key_cmp(const struct stele_key *a, const struct stele_key *b)
{
	int c = stele_hash_cmp(&a->id, &b->id);
	return c ? c : stele_hash_cmp(&a->sub, &b->sub);
}

static void finish(struct list_job *j)
{
	char why[STELE_DETAIL_MAX];
	if (j->answered || !j->req->partial) {
		end(j, STELE_OK, "");
		return;
	}
	snprintf(why, sizeof(why), "no node answered, one because: %s", j->detail);
	end(j, j->why == STELE_ERR_DENIED ? j->why : STELE_ERR_UNAVAILABLE, why);
}

static void give_up(struct list_job *j, struct disk *d)
{
	d->state = DONE;
	j->req->partial = true;
}

/* Records of this group, in order: otherwise the list would not end, or hide what others list. */
static bool as_asked(const struct list_job *j, const struct stele_listed *it,
                     const struct stele_key *before)
{
	return it->key.kind == STELE_ENTRY_RECORD && stele_hash_cmp(&it->key.id, &j->first) >= 0 &&
	       stele_hash_cmp(&it->key.id, &j->last) <= 0 &&
	       (before->kind == 0 || key_cmp(&it->key, before) > 0);
}

static void ask(struct list_job *j, uint32_t i);

/* Steps to the disk's next item, or asks for its next page. */
static void advance(struct list_job *j, uint32_t i)
{
	struct disk *d = &j->disk[i];
	if (d->left > 0) {
		struct stele_key before = d->after;
		d->left--;
		stele_read_listed(&d->in, &d->head);
		d->after = d->head.key;
		d->state = READY;
		if (d->in.bad || !as_asked(j, &d->head, &before))
			give_up(j, d);
	} else if (d->more) {
		ask(j, i);
	} else {
		d->state = DONE;
	}
}

static void page_came(struct stele_job_call *c)
{
	struct list_job *j = job_of(c->job);
	struct disk *d = &j->disk[c->at];
	struct stele_head_listed head;
	if (stele_spread_may_retry(c->call.err, d->tries)) {
		d->tries++;
		ask(j, c->at);
		return;
	}
	if (c->call.err != STELE_OK) {
		j->why = c->call.err;
		snprintf(j->detail, sizeof(j->detail), "%s", c->call.detail);
	}
	j->answered = j->answered || c->call.err == STELE_OK;
	if (c->call.err != STELE_OK ||
	    stele_head_listed_decode(c->call.reply_head, c->call.reply_head_len, &head) !=
	        STELE_OK) {
		give_up(j, d);
	} else {
		d->tries = 0;
		free(d->page);
		d->page = c->reply;
		c->reply = NULL; /* ours now */
		d->in = stele_reader(d->page, c->call.reply_body_len);
		d->left = head.n;
		d->more = head.more && head.n > 0;
		advance(j, c->at);
	}
	merge(j);
}

static void ask(struct list_job *j, uint32_t i)
{
	struct disk *d = &j->disk[i];
	struct stele_job_call *c = stele_job_call_new(&j->req->job, j->window.disk[i].node,
	                                              STELE_OPCODE_LIST, 512, STELE_FRAME_BODY_MAX);
	if (!c) {
		give_up(j, d);
		return;
	}
	struct stele_head_list head = {.slot = j->window.disk[i].slot,
	                               .pool = j->pool->id,
	                               .first = j->first,
	                               .last = j->last,
	                               .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD),
	                               .want_meta = true,
	                               .after = d->after};
	stele_head_list_encode(&head, &c->head);
	c->at = i;
	d->state = ASKED;
	stele_job_call_send(c, STELE_CALL_NS, stele_spread_delay_ns(d->tries), page_came);
}

static void forget_pages(struct list_job *j)
{
	for (uint32_t i = 0; i < STELE_WINDOW_MAX; i++)
		free(j->disk[i].page);
	memset(j->disk, 0, sizeof(j->disk));
}

static void start_group(struct list_job *j)
{
	uint64_t fence;
	forget_pages(j);
	stele_pg_range(j->pool, j->pg, &j->first, &j->last);
	stele_place(j->map, j->pool, j->pg, stele_window_width(&j->pool->code), &j->window, &fence);
	for (uint32_t i = 0; i < j->window.n; i++)
		ask(j, i);
}

/* The least item of all disks. False: some disk is still asked, or (none) nothing is left. */
static bool least(struct list_job *j, const struct stele_listed **out, bool *none)
{
	*out = NULL;
	*none = false;
	for (uint32_t i = 0; i < j->window.n; i++) {
		struct disk *d = &j->disk[i];
		if (d->state == ASKED)
			return false;
		int c = d->state == READY && *out ? key_cmp(&d->head.key, &(*out)->key) : -1;
		/* of equal ones, one that is not known to be bad */
		if (d->state == READY && (c < 0 || (c == 0 && (*out)->bad)))
			*out = &d->head;
	}
	*none = *out == NULL;
	return *out != NULL;
}

static bool tell(struct list_job *j, const struct stele_listed *it)
{
	struct stele_list_request *req = j->req;
	if (it->bad)
		return true; /* another disk's copy may be good */
	return req->each(req->each_ctx, &it->key.id, &it->key.sub, it->meta, it->meta_len);
}

static void merge(struct list_job *j)
{
	const struct stele_listed *it;
	bool none;
	while (!j->req->job.over) {
		if (least(j, &it, &none)) {
			struct stele_key key = it->key;
			if (!tell(j, it)) {
				end(j, STELE_OK, "");
				return;
			}
			for (uint32_t i = 0; i < j->window.n; i++)
				if (j->disk[i].state == READY &&
				    key_cmp(&j->disk[i].head.key, &key) == 0)
					advance(j, i);
		} else if (!none) {
			return; /* a page is on its way */
		} else if (++j->pg >> j->pool->pgs_log2) {
			finish(j);
		} else {
			start_group(j);
		}
	}
}

static void release(struct stele_job *job)
{
	struct stele_list_request *req = (struct stele_list_request *)job;
	struct list_job *j = req->priv;
	req->priv = NULL;
	if (j) {
		forget_pages(j);
		stele_map_unref(j->map);
		free(j);
	}
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	end(job_of(job), STELE_ERR_CANCELLED, "cancelled");
}

void stele_session_list(struct stele_session *s, struct stele_list_request *req)
{
	struct list_job *j = calloc(1, sizeof(*j));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = j;
	req->partial = false;
	if (!j) {
		STELE_REQUEST_END(req, STELE_ERR_NOMEM, "out of memory");
		stele_job_over(&req->job);
		return;
	}
	j->req = req;
	j->map = stele_map_ref(stele_session_map(s));
	j->pool = stele_map_pool(j->map, STELE_POOL_RECORD);
	if (!j->pool) {
		end(j, STELE_ERR_CORRUPT, "the cluster map has no record pool");
		return;
	}
	start_group(j);
	merge(j);
}
