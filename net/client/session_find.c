/*
 * Finds the records and marks of an id: asks every disk of its record window, page by page, keeps what has the right form,
 * says what holds of it (signature, depositor). Which record to believe is the reader's decision.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/session_private.h"

#define FIND_NS     (5ull * 1000 * 1000 * 1000)
#define TRIES_MAX   4u
#define RECORDS_MAX 1024u /* of one depositor, so that nobody can hide another's */
#define MARKS_MAX   65536u

struct chunk { /* memory of what was found */
	struct chunk *next;
	uint8_t bytes[];
};

struct disk {
	bool answered, over;
	uint32_t tries;
	enum stele_err err;
	char detail[160];
	struct stele_key after;
};

struct find_job {
	struct stele_find_request *req;
	struct stele_window window;
	struct disk disk[STELE_WINDOW_MAX];
	uint32_t waiting; /* disks that are not over */
	bool reloaded;
	struct stele_piece piece[STELE_PIECES_MAX];
};

static struct find_job *job_of(struct stele_job *job)
{
	return ((struct stele_find_request *)job)->priv;
}

/* ---- what was found ---- */

static uint8_t *keep(struct find_job *j, const void *bytes, size_t len)
{
	struct stele_found *f = &j->req->found;
	struct chunk *c = malloc(sizeof(*c) + len);
	if (!c)
		return NULL;
	c->next = f->memory;
	f->memory = c;
	memcpy(c->bytes, bytes, len);
	return c->bytes;
}

/* An array that doubles: grown at powers of two. */
static void *grown(void *array, uint32_t n, size_t size)
{
	if (n & (n - 1))
		return array;
	return realloc(array, (n ? 2 * (size_t)n : 1) * size);
}

/* Records that count for nobody, by their signature or their depositor, are counted together. */
static bool is_full(const struct stele_found *f, const struct stele_found_record *r)
{
	uint32_t n = 0;
	bool counts = r->sig_ok && r->depositor_known;
	for (uint32_t i = 0; i < f->nrecords && n < RECORDS_MAX; i++) {
		const struct stele_found_record *o = &f->record[i];
		bool same = stele_public_key_equal(&o->depositor, &r->depositor);
		n += counts == (o->sig_ok && o->depositor_known) && (same || !counts);
	}
	return n == RECORDS_MAX;
}

static bool add_record(struct find_job *j, const uint8_t *bytes, uint32_t len)
{
	struct stele_found *f = &j->req->found;
	struct stele_map *map = stele_session_map(j->req->job.session);
	struct stele_record r;
	for (uint32_t i = 0; i < f->nrecords; i++)
		if (f->record[i].len == len && memcmp(f->record[i].bytes, bytes, len) == 0) {
			f->record[i].holders++;
			return true;
		}
	if (stele_record_decode(bytes, len, true, &r, j->piece) != STELE_OK ||
	    !stele_hash_equal(&r.deposit.object, &j->req->id) ||
	    !stele_hash_equal(&r.deposit.cluster, &map->cluster))
		return true; /* not a record of this id: as if it were not there */
	const struct stele_client_entry *who = stele_map_depositor(map, &r.deposit.depositor);
	/* Revoked or not: what a writer deposited stays readable (P5). */
	bool may = who && who->roles & (STELE_ROLE_WRITER | STELE_ROLE_SEQUENCER);
	struct stele_found_record found = {
	    .len = len,
	    .deposit = r.deposit_hash,
	    .depositor = r.deposit.depositor,
	    .holders = 1,
	    .sig_ok = stele_record_check_sig(&r) == STELE_OK,
	    .depositor_known = may || stele_public_key_equal(&map->log_key, &r.deposit.depositor),
	    .depositor_revoked = who && who->revoked,
	};
	if (is_full(f, &found)) {
		f->cut = true;
		return true;
	}
	void *array = grown(f->record, f->nrecords, sizeof(*f->record));
	if (!array)
		return false;
	f->record = array;
	found.bytes = keep(j, bytes, len);
	f->record[f->nrecords] = found;
	f->nrecords += found.bytes != NULL;
	return found.bytes != NULL;
}

static bool add_mark(struct find_job *j, const uint8_t *bytes, uint32_t len)
{
	struct stele_found *f = &j->req->found;
	struct stele_found_mark found = {0};
	struct stele_mark mark;
	size_t text_len;
	if (f->nmarks == MARKS_MAX ||
	    stele_mark_unpack(bytes, len, &found.text, &text_len, &found.sig) != STELE_OK ||
	    stele_mark_decode(found.text, text_len, &mark) != STELE_OK ||
	    !stele_hash_equal(&mark.object, &j->req->id))
		return true;
	stele_mark_hash(found.text, text_len, &found.id);
	for (uint32_t i = 0; i < f->nmarks; i++)
		if (stele_hash_equal(&f->mark[i].id, &found.id) && f->mark[i].sig_ok)
			return true;
	void *array = grown(f->mark, f->nmarks, sizeof(*f->mark));
	if (!array)
		return false;
	f->mark = array;
	found.sig_ok = stele_sig_ok(&mark.author, found.text, text_len, &found.sig);
	found.len = (uint32_t)text_len;
	found.text = (const char *)keep(j, found.text, text_len);
	f->mark[f->nmarks] = found;
	f->nmarks += found.text != NULL;
	return found.text != NULL;
}

void stele_found_finish(struct stele_found *f)
{
	for (struct chunk *c = f->memory, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(f->record);
	free(f->mark);
	*f = (struct stele_found){0};
}

const struct stele_found_record *stele_found_deposit(const struct stele_found *f,
                                                     const struct stele_hash *deposit)
{
	const struct stele_found_record *found = NULL;
	for (uint32_t i = 0; i < f->nrecords; i++)
		if (stele_hash_equal(&f->record[i].deposit, deposit) &&
		    (!found || f->record[i].sig_ok))
			found = &f->record[i];
	return found;
}

/* ---- asking ---- */

static void begin(struct find_job *j);

static void finish(struct find_job *j)
{
	struct stele_find_request *req = j->req;
	struct stele_found *f = &req->found;
	char why[STELE_DETAIL_MAX] = "";
	size_t at = 0;
	f->silent = 0;
	for (uint32_t i = 0; i < j->window.n; i++) {
		f->answered += j->disk[i].answered;
		f->silent |= (uint64_t)!j->disk[i].answered << i;
	}
	for (uint32_t i = 0; i < j->window.n && at < sizeof(why); i++)
		if (!j->disk[i].answered)
			at += (size_t)snprintf(why + at, sizeof(why) - at, "%snode %u disk %u (%s)",
			                       at ? ", " : "", j->window.disk[i].node,
			                       j->window.disk[i].slot,
			                       stele_err_text(j->disk[i].err));
	enum stele_err err = STELE_OK;
	if (f->nrecords + f->nmarks == 0)
		err = f->answered == f->asked ? STELE_ERR_NOT_FOUND : STELE_ERR_UNAVAILABLE;
	if (f->answered < f->asked)
		snprintf(req->detail, sizeof(req->detail),
		         "not found so far, but %u of the %u disks that may know of it did not "
		         "answer, start them: %s",
		         f->asked - f->answered, f->asked, why);
	else
		snprintf(req->detail, sizeof(req->detail),
		         "not found: every disk that could know of it was asked");
	bool denied = f->asked > 0;
	for (uint32_t i = 0; i < j->window.n; i++)
		denied = denied && j->disk[i].err == STELE_ERR_DENIED;
	if (denied) {
		err = STELE_ERR_DENIED;
		snprintf(req->detail, sizeof(req->detail), "%s", j->disk[0].detail);
	}
	req->err = err;
	stele_job_over(&req->job);
}

static void reloaded(struct stele_job *job, bool changed)
{
	struct find_job *j = job_of(job);
	if (changed)
		begin(j); /* what was found stays */
	else
		finish(j);
}

static void disk_over(struct find_job *j, struct disk *d)
{
	d->over = true;
	if (--j->waiting > 0)
		return;
	bool none = j->req->found.nrecords + j->req->found.nmarks == 0;
	if (none && !j->reloaded) {
		j->reloaded = true; /* it may lie where a newer map says */
		stele_job_reload(&j->req->job, 0, reloaded);
	} else {
		finish(j);
	}
}

/* A list goes forward, or it would not end. */
static bool after(const struct stele_key *a, const struct stele_key *b)
{
	return a->kind != b->kind ? a->kind > b->kind : stele_hash_cmp(&a->sub, &b->sub) > 0;
}

/* Sets *more when there is more, after d->after. PROTOCOL, NOMEM. */
static enum stele_err take_page(struct find_job *j, struct disk *d, const struct stele_job_call *c,
                                bool *more)
{
	struct stele_head_listed head;
	struct stele_listed it;
	STELE_TRY(stele_head_listed_decode(c->call.reply_head, c->call.reply_head_len, &head));
	struct stele_reader r = stele_reader(c->reply, c->call.reply_body_len);
	*more = head.more && head.n > 0;
	for (uint32_t i = 0; i < head.n; i++) {
		bool ok = true;
		stele_read_listed(&r, &it);
		if (r.bad || !after(&it.key, &d->after))
			return stele_fail(STELE_ERR_PROTOCOL,
			                  "a list that ends early or goes back");
		d->after = it.key;
		if (it.bad || !stele_hash_equal(&it.key.id, &j->req->id))
			continue;
		if (it.key.kind == STELE_ENTRY_RECORD)
			ok = add_record(j, it.meta, it.meta_len);
		else if (it.key.kind == STELE_ENTRY_MARK)
			ok = add_mark(j, it.meta, it.meta_len);
		if (!ok)
			return stele_fail(STELE_ERR_NOMEM, "records: out of memory");
	}
	return STELE_OK;
}

static void ask(struct find_job *j, uint32_t i);

static void answered(struct stele_job_call *c)
{
	struct find_job *j = job_of(c->job);
	struct disk *d = &j->disk[c->at];
	bool more = false;
	enum stele_err err = c->call.err;
	if (err == STELE_OK) {
		err = take_page(j, d, c, &more);
		snprintf(d->detail, sizeof(d->detail), "%s", err ? stele_detail() : "");
	} else {
		snprintf(d->detail, sizeof(d->detail), "%s", c->call.detail);
	}
	bool again =
	    (err == STELE_ERR_BUSY || err == STELE_ERR_CLOSED || err == STELE_ERR_CANCELLED) &&
	    d->tries < TRIES_MAX;
	d->tries += again;
	d->err = err;
	d->answered = err == STELE_OK && !more;
	if (again || more)
		ask(j, c->at);
	else
		disk_over(j, d);
	if (j->req->progress && !j->req->job.over)
		j->req->progress(j->req);
}

static void ask(struct find_job *j, uint32_t i)
{
	struct stele_window_disk disk = j->window.disk[i];
	struct disk *d = &j->disk[i];
	struct stele_job_call *c = stele_job_call_new(
	    &j->req->job, disk.node, STELE_OPCODE_RECORD_GET, 256, STELE_FRAME_BODY_MAX);
	if (!c) {
		d->err = STELE_ERR_NOMEM;
		disk_over(j, d);
		return;
	}
	struct stele_head_record_get head = {
	    .slot = disk.slot, .id = j->req->id, .after = d->after};
	stele_head_record_get_encode(&head, &c->head);
	c->at = i;
	stele_job_call_send(c, FIND_NS, d->tries ? 5000000ull << (2 * d->tries) : 0, answered);
}

static void begin(struct find_job *j)
{
	struct stele_session *s = j->req->job.session;
	const struct stele_pool *pool = stele_map_pool(stele_session_map(s), STELE_POOL_RECORD);
	memset(j->disk, 0, sizeof(j->disk));
	j->window.n = 0;
	if (pool)
		stele_session_window(s, pool, &j->req->id, &j->window);
	j->req->found.asked = j->window.n;
	j->req->found.answered = 0;
	j->waiting = j->window.n + 1; /* one for this loop */
	for (uint32_t i = 0; i < j->window.n; i++)
		ask(j, i);
	struct disk none = {0};
	disk_over(j, &none);
}

static void release(struct stele_job *job)
{
	struct stele_find_request *req = (struct stele_find_request *)job;
	free(req->priv);
	req->priv = NULL;
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	struct stele_find_request *req = (struct stele_find_request *)job;
	STELE_REQUEST_END(req, STELE_ERR_CANCELLED, "cancelled");
	stele_job_over(job);
}

void stele_session_find(struct stele_session *s, struct stele_find_request *req)
{
	struct find_job *j = calloc(1, sizeof(*j));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = j;
	req->found = (struct stele_found){0};
	if (!j) {
		STELE_REQUEST_END(req, STELE_ERR_NOMEM, "records: out of memory");
		stele_job_over(&req->job);
		return;
	}
	j->req = req;
	begin(j);
}
