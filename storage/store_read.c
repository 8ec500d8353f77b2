/*
 * Reading cells and metas of shards (DESIGN N3), and asking what is there.
 *
 *   stele_store_read -> lookup (a worker; what has queued meanwhile goes along) -> the entry's front and the
 *     cells, in parallel, each when its turn has come (fair.h) -> check -> callback
 *
 * Cells of a shard that is known from before (store_fronts.h) are read at once: no lookup, no front. The
 * front is read together with the cells where these lie next to it, as in a batch of one shard of one
 * cell.
 *
 * There are no locks against reclaim: an entry that is not where the index said, or cells that do not
 * match it, are looked up again. Only if the index still says the same is the entry corrupt; then
 * it is remembered as bad.
 */
#include "storage/store_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define READS_MAX 4096u
#define TRIES_MAX 4u
#define IOVS_MAX  64u
#define KNOWN_MAX 16u /* cells of a read that can do without lookup and front: 1 MiB */

struct stele_rreq {
	struct stele_rreq *next;
	struct stele_store *s;
	struct stele_store_read *r;
	enum stele_err found;
	char why[STELE_DETAIL_MAX];
	struct stele_item_at at;
	struct stele_item_at tried; /* where it did not check */
	uint32_t tries;
	uint64_t era;     /* of the fronts, before the lookup */
	uint32_t pending; /* parts that are not over */
	bool cancelled;
	int io_error; /* errno */
	struct stele_place place;
	uint64_t front_off, front_len; /* pages of the header and what of the meta is needed */
	uint8_t *front;                /* NULL: the cells' CRCs are known: crc */
	uint32_t crc[KNOWN_MAX];
	uint64_t cells_len;             /* exact bytes of the cells asked for */
	struct iovec iov[1 + IOVS_MAX]; /* the front, the cells */
	struct stele_part {             /* an operation at a time, each with a turn of its own */
		struct stele_rreq *q;
		struct stele_turn turn;
		struct stele_op op;
		struct iovec *iov;  /* what is still to be read */
		struct iovec piece; /* what is being read, if it is less than that */
		uint32_t niov;
		uint64_t off;
	} part[2];
	struct stele_op check_op;
	enum stele_err checked;
};

static bool read_known(struct stele_rreq *q);
static void kick_reads(struct stele_store *s);

void stele_store_read_init(struct stele_store *s)
{
	s->read_tail = &s->read_head;
	for (uint32_t i = 0; i < STELE_READ_JOBS; i++)
		s->read[i].store = s;
}

static void refuse_later(struct stele_later *later, bool cancelled)
{
	struct stele_store_read *r = later->request;
	(void)cancelled;
	r->cb(r);
}

static void end_read(struct stele_rreq *q, enum stele_err err)
{
	struct stele_store *s = q->s;
	struct stele_store_read *r = q->r;
	r->err = err;
	if (err) {
		stele_detail_copy(r->detail);
		free(r->meta);
		r->meta = NULL;
		r->meta_len = 0;
		r->data_len = 0;
	}
	s->reads--;
	free(q->front);
	free(q);
	r->cb(r);
}

static void enqueue(struct stele_rreq *q)
{
	struct stele_store *s = q->s;
	q->era = s->fronts.era;
	q->next = NULL;
	*s->read_tail = q;
	s->read_tail = &q->next;
	kick_reads(s);
}

void stele_store_read(struct stele_store *s, struct stele_store_read *r)
{
	r->err = STELE_OK;
	r->detail[0] = '\0';
	r->data_len = 0;
	r->meta = NULL;
	r->meta_len = 0;
	struct stele_rreq *q = NULL;
	if (r->key.kind != STELE_ENTRY_SHARD || r->ninto > IOVS_MAX)
		r->err = stele_fail(STELE_ERR_INVALID, "read: not a shard, or too many parts");
	else if (s->reads >= READS_MAX)
		r->err = stele_fail(STELE_ERR_BUSY, "%s: too many reads wait", s->vol.dir);
	else if (!(q = calloc(1, sizeof(*q))))
		r->err = stele_fail(STELE_ERR_NOMEM, "read: out of memory");
	if (r->err) {
		stele_detail_copy(r->detail);
		_Static_assert(sizeof(struct stele_later) <= sizeof(r->priv), "priv holds it");
		stele_store_later(s, (struct stele_later *)r->priv, refuse_later, r);
		return;
	}
	s->reads++;
	q->s = s;
	q->r = r;
	if (!read_known(q))
		enqueue(q);
}

void stele_store_read_finish(struct stele_store_read *r)
{
	free(r->meta);
	r->meta = NULL;
}

/* ---- lookup ---- */

static void read_cells(struct stele_rreq *q);

static void lookup_work(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	for (struct stele_rreq *q = job->list; q; q = q->next) {
		struct stele_key key = stele_key_whole(&q->r->key);
		q->found = stele_index_get(job->store->index.kv, STELE_INDEX_ENTRY, &key, &q->at);
		if (q->found)
			stele_detail_copy(q->why);
	}
}

static bool same_place(const struct stele_item_at *a, const struct stele_item_at *b)
{
	return a->extent == b->extent && a->off == b->off && a->birth_lsn == b->birth_lsn;
}

static void looked_up(struct stele_rreq *q)
{
	struct stele_store *s = q->s;
	if (q->found == STELE_ERR_NOT_FOUND) {
		end_read(q, stele_fail(STELE_ERR_NOT_FOUND, "no such shard here"));
	} else if (q->found) {
		stele_fail(q->found, "%s", q->why);
		stele_store_index_failed(s, q->found);
		enum stele_err err = q->found == STELE_ERR_NOMEM ? STELE_ERR_NOMEM : STELE_ERR_IO;
		end_read(q, stele_fail(err, "%s", q->why));
	} else if (q->at.bad) {
		end_read(q, stele_fail(STELE_ERR_CORRUPT, "known to be damaged"));
	} else if (q->tries && same_place(&q->at, &q->tried)) {
		stele_store_mark(s, &q->at, true);
		enum stele_err err = q->io_error ? STELE_ERR_IO : STELE_ERR_CORRUPT;
		end_read(q, stele_fail(err, "%s", q->why));
	} else if (q->tries == TRIES_MAX) {
		end_read(q, stele_fail(STELE_ERR_BUSY, "moved again and again"));
	} else {
		read_cells(q);
	}
}

static void lookup_done(struct stele_op *op)
{
	struct stele_lookup_job *job = op->ctx;
	struct stele_store *s = job->store;
	struct stele_rreq *q = job->list;
	job->list = NULL;
	job->busy = false;
	while (q) {
		struct stele_rreq *next = q->next;
		if (op->result < 0)
			end_read(q, stele_fail(STELE_ERR_CANCELLED, "read: cancelled"));
		else
			looked_up(q);
		q = next;
	}
	kick_reads(s);
}

static void kick_reads(struct stele_store *s)
{
	for (uint32_t i = 0; s->read_head && i < STELE_READ_JOBS; i++) {
		struct stele_lookup_job *job = &s->read[i];
		if (job->busy)
			continue;
		job->busy = true;
		job->list = s->read_head;
		s->read_head = NULL;
		s->read_tail = &s->read_head;
		job->op = (struct stele_op){.kind = STELE_OP_WORK,
		                            .flags = STELE_WORK_LONG,
		                            .work = lookup_work,
		                            .cb = lookup_done,
		                            .ctx = job};
		stele_env_submit(s->env, &job->op);
	}
}

/* ---- reading and checking ---- */

/* It was not as the index says: is it still what the index says? */
static void look_again(struct stele_rreq *q)
{
	if (q->front) {
		q->tried = q->at;
		q->tries++;
	} /* what was known from before is not evidence */
	free(q->front);
	q->front = NULL;
	free(q->r->meta);
	q->r->meta = NULL;
	enqueue(q);
}

static enum stele_err check_front(struct stele_rreq *q, struct stele_entry_head *head,
                                  const uint8_t **meta)
{
	const uint8_t *p = q->front + (q->at.off - q->front_off);
	if (!stele_entry_head_decode(p, &q->s->vol.salt, &q->place, q->s->vol.extent_len, head) ||
	    !stele_key_equal(&head->key, &q->at.key) || head->birth_lsn != q->at.birth_lsn ||
	    head->meta_len != q->at.meta_len || head->hot_len != q->at.hot_len ||
	    head->data_off != q->at.data_off || head->data_len != q->at.data_len)
		return stele_fail(STELE_ERR_CORRUPT, "the shard's header does not check");
	*meta = p + STELE_ENTRY_HEAD;
	uint32_t cells = (head->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	if (4 * cells > head->hot_len ||
	    (q->r->want_meta ? stele_crc32c(*meta, head->meta_len, 0) != head->meta_crc
	                     : stele_crc32c(*meta, head->hot_len, 0) != head->hot_crc))
		return stele_fail(STELE_ERR_CORRUPT, "the shard's meta does not check");
	return STELE_OK;
}

static enum stele_err check_read(struct stele_rreq *q)
{
	struct stele_store_read *r = q->r;
	struct stele_entry_head head;
	const uint8_t *meta = NULL;
	if (q->front)
		STELE_TRY(check_front(q, &head, &meta));
	uint32_t cell = r->first_cell;
	uint64_t left = q->cells_len;
	for (uint32_t p = 0; left; p++) {
		const uint8_t *b = r->into[p].iov_base;
		uint64_t part = r->into[p].iov_len < left ? r->into[p].iov_len : left;
		left -= part;
		while (part) {
			uint64_t n = part < STELE_CELL_LEN ? part : STELE_CELL_LEN;
			uint32_t crc =
			    meta ? stele_hot_crc(&head, meta, cell) : q->crc[cell - r->first_cell];
			if (stele_crc32c(b, n, 0) != crc)
				return stele_fail(STELE_ERR_CORRUPT, "cell %u fails its CRC", cell);
			cell++;
			b += n;
			part -= n;
		}
	}
	if (!r->want_meta)
		return STELE_OK;
	return stele_shard_meta(&head, meta, &r->meta, &r->meta_len);
}

/* What was read and checked is known from now on. */
static void remember(struct stele_rreq *q)
{
	uint32_t cells = (q->at.data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	const uint8_t *hot = q->front + (q->at.off - q->front_off) + STELE_ENTRY_HEAD;
	stele_fronts_put(&q->s->fronts, q->era, &q->at, q->place.cycle,
	                 hot + q->at.hot_len - 4 * cells);
}

static void checked(struct stele_rreq *q)
{
	if (q->checked == STELE_ERR_CORRUPT) {
		look_again(q);
		return;
	}
	if (!q->checked)
		q->r->data_len = q->cells_len;
	if (!q->checked && q->front)
		remember(q);
	end_read(q, q->checked ? stele_fail(q->checked, "%s", q->why) : STELE_OK);
}

static void check(struct stele_rreq *q)
{
	q->checked = check_read(q);
	if (q->checked)
		stele_detail_copy(q->why);
}

static void check_work(struct stele_op *op)
{
	check(op->ctx);
}

static void check_done(struct stele_op *op)
{
	struct stele_rreq *q = op->ctx;
	if (op->result < 0)
		end_read(q, stele_fail(STELE_ERR_CANCELLED, "read: cancelled"));
	else
		checked(q);
}

static void all_read(struct stele_rreq *q)
{
	if (q->cancelled) {
		end_read(q, stele_fail(STELE_ERR_CANCELLED, "read: cancelled"));
		return;
	}
	if (q->io_error) {
		stele_fail_errno(q->io_error, "extent %08x: read", q->at.extent);
		stele_detail_copy(q->why);
		look_again(q);
		return;
	}
	if (q->cells_len <= STELE_WORK_BYTES) {
		check(q);
		checked(q);
		return;
	}
	q->check_op = (struct stele_op){
	    .kind = STELE_OP_WORK, .work = check_work, .cb = check_done, .ctx = q};
	stele_env_submit(q->s->env, &q->check_op);
}

static void next_piece(struct stele_part *p);

static void part_read(struct stele_op *op)
{
	struct stele_part *p = op->ctx;
	struct stele_rreq *q = p->q;
	if (op->result == -ECANCELED)
		q->cancelled = true;
	else if (op->result < 0)
		q->io_error = (int)-op->result;
	else if ((uint64_t)op->result != p->turn.bytes)
		q->io_error = EIO; /* the file is shorter than its extent */
	stele_store_turn_over(q->s, &p->turn, p->turn.bytes);
	if (p->niov && !q->cancelled && !q->io_error)
		next_piece(p);
	else if (--q->pending == 0)
		all_read(q);
}

static void part_begins(struct stele_turn *t)
{
	struct stele_part *p = t->ctx;
	stele_env_submit(p->q->s->env, &p->op);
}

/* Of the part: all of it, or where clients are to be let in between, a piece. */
static void next_piece(struct stele_part *p)
{
	struct stele_rreq *q = p->q;
	uint64_t all = 0;
	for (uint32_t i = 0; i < p->niov; i++)
		all += p->iov[i].iov_len;
	uint64_t len = stele_store_piece(q->s, q->r->class, all);
	p->op.iov = p->iov;
	p->op.niov = p->niov;
	if (len == all) {
		p->niov = 0;
	} else {
		if (len > p->iov->iov_len)
			len = p->iov->iov_len;
		p->piece = (struct iovec){p->iov->iov_base, len};
		p->op.iov = &p->piece;
		p->op.niov = 1;
		p->iov->iov_base = (uint8_t *)p->iov->iov_base + len;
		p->iov->iov_len -= len;
		if (!p->iov->iov_len) {
			p->iov++;
			p->niov--;
		}
	}
	p->op.off = p->off;
	p->off += len;
	p->turn.bytes = len;
	stele_store_turn(q->s, &p->turn);
}

/* The cells' exact bytes and the iovecs for them, to whole pages. */
static enum stele_err plan_cells(struct stele_rreq *q, uint32_t *niov)
{
	struct stele_store_read *r = q->r;
	uint32_t cells = (q->at.data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	*niov = 0;
	q->cells_len = 0;
	if (!r->cells)
		return STELE_OK;
	if (r->first_cell >= cells || r->cells > cells - r->first_cell)
		return stele_fail(STELE_ERR_INVALID, "read: cells %u + %u of %u", r->first_cell,
		                  r->cells, cells);
	uint64_t from = (uint64_t)r->first_cell * STELE_CELL_LEN;
	uint64_t to = from + (uint64_t)r->cells * STELE_CELL_LEN;
	q->cells_len = (to < q->at.data_len ? to : q->at.data_len) - from;
	uint64_t left = stele_round_up(q->cells_len, STELE_PAGE);
	for (uint32_t p = 0; left && p < r->ninto; p++) {
		uint64_t n = r->into[p].iov_len < left ? r->into[p].iov_len : left;
		if ((uintptr_t)r->into[p].iov_base % STELE_PAGE || n % STELE_PAGE ||
		    (left > n && n % STELE_CELL_LEN))
			return stele_fail(STELE_ERR_INVALID, "read: parts are not aligned");
		q->iov[1 + (*niov)++] = (struct iovec){r->into[p].iov_base, n};
		left -= n;
	}
	return left ? stele_fail(STELE_ERR_INVALID, "read: the buffers are too small") : STELE_OK;
}

static enum stele_err plan(struct stele_rreq *q, int *fd, uint32_t *niov)
{
	STELE_TRY(plan_cells(q, niov));
	q->place = (struct stele_place){q->at.extent, 0, q->at.off};
	if (!stele_store_extent_fd(q->s, q->at.extent, fd, &q->place.cycle))
		return stele_fail(STELE_ERR_CORRUPT, "the index names extent %08x: there is none",
		                  q->at.extent);
	uint64_t need = STELE_ENTRY_HEAD + (q->r->want_meta ? q->at.meta_len : q->at.hot_len);
	q->front_off = q->at.off / STELE_PAGE * STELE_PAGE;
	q->front_len = stele_round_up(q->at.off + need, STELE_PAGE) - q->front_off;
	q->front = stele_pages_alloc(q->front_len);
	if (!q->front)
		return stele_fail(STELE_ERR_NOMEM, "read: out of memory");
	q->iov[0] = (struct iovec){q->front, q->front_len};
	return STELE_OK;
}

static void start_part(struct stele_rreq *q, int fd, struct iovec *iov, uint32_t niov, uint64_t off)
{
	struct stele_part *p = &q->part[q->pending++];
	*p = (struct stele_part){.q = q, .iov = iov, .niov = niov, .off = off};
	p->turn = (struct stele_turn){.class = q->r->class, .begin = part_begins, .ctx = p};
	p->op = (struct stele_op){.kind = STELE_OP_READV, .fd = fd, .cb = part_read, .ctx = p};
	next_piece(p);
}

/* Begins to read cells of a shard that is known. False: look it up. */
static bool read_known(struct stele_rreq *q)
{
	const struct stele_store_read *r = q->r;
	struct stele_key key = stele_key_whole(&r->key);
	uint32_t cycle, niov, cells = r->cells;
	int fd;
	if (r->want_meta || cells == 0 || cells > KNOWN_MAX)
		return false;
	const uint32_t *crc = stele_fronts_get(&q->s->fronts, &key, &q->at, &cycle);
	if (!crc || plan_cells(q, &niov) != STELE_OK ||
	    !stele_store_extent_fd(q->s, q->at.extent, &fd, &q->place.cycle) ||
	    cycle != q->place.cycle)
		return false;
	memcpy(q->crc, crc + r->first_cell, cells * sizeof(q->crc[0]));
	start_part(q, fd, q->iov + 1, niov,
	           q->at.data_off + (uint64_t)r->first_cell * STELE_CELL_LEN);
	return true;
}

static void read_cells(struct stele_rreq *q)
{
	int fd;
	uint32_t niov;
	enum stele_err err = plan(q, &fd, &niov);
	if (err) {
		end_read(q, err);
		return;
	}
	uint64_t off = q->at.data_off + (uint64_t)q->r->first_cell * STELE_CELL_LEN;
	q->io_error = 0;
	q->pending = 0;
	if (q->front && niov && q->front_off + q->front_len == off) {
		start_part(q, fd, q->iov, 1 + niov, q->front_off);
		return;
	}
	if (q->front)
		start_part(q, fd, q->iov, 1, q->front_off);
	if (niov)
		start_part(q, fd, q->iov + 1, niov, off);
}

/* ---- one entry, blocking ---- */

static enum stele_err load_once(struct stele_store *s, const struct stele_item_at *at, uint8_t *buf,
                                uint64_t first, uint64_t len, struct stele_entry_head *head,
                                const uint8_t **meta)
{
	struct stele_place place = {at->extent, 0, at->off};
	int fd;
	if (!stele_store_extent_fd(s, at->extent, &fd, &place.cycle))
		return stele_fail(STELE_ERR_CORRUPT, "extent %08x: there is none", at->extent);
	STELE_TRY(stele_file_pread(s->env, fd, buf, len, first));
	const uint8_t *p = buf + (at->off - first);
	struct stele_key k;
	if (!stele_entry_head_decode(p, &s->vol.salt, &place, s->vol.extent_len, head))
		return stele_fail(STELE_ERR_CORRUPT, "the entry's header does not check");
	k = stele_key_short(&head->key);
	struct stele_key want = stele_key_short(&at->key);
	if (!stele_key_equal(&k, &want) || head->birth_lsn != at->birth_lsn ||
	    head->meta_len != at->meta_len)
		return stele_fail(STELE_ERR_CORRUPT, "the entry is not what the index says");
	*meta = p + STELE_ENTRY_HEAD;
	if (stele_crc32c(*meta, head->meta_len, 0) != head->meta_crc)
		return stele_fail(STELE_ERR_CORRUPT, "the entry's meta does not check");
	if (!stele_all_zero(*meta + head->meta_len,
	                    stele_entry_len(head->meta_len) - STELE_ENTRY_HEAD - head->meta_len))
		return stele_fail(STELE_ERR_CORRUPT, "the entry's padding is not zero");
	return STELE_OK;
}

enum stele_err stele_store_load_entry(struct stele_store *s, const struct stele_item_at *at,
                                      uint8_t **buf, struct stele_entry_head *head,
                                      const uint8_t **meta)
{
	struct stele_item_at now = *at;
	enum stele_err err = STELE_OK;
	for (uint32_t tries = 0; tries < TRIES_MAX; tries++) {
		uint64_t first = now.off / STELE_PAGE * STELE_PAGE;
		uint64_t end = stele_round_up(now.off + stele_entry_len(now.meta_len), STELE_PAGE);
		*buf = stele_pages_alloc(end - first);
		if (!*buf)
			return stele_fail(STELE_ERR_NOMEM, "read: out of memory");
		err = load_once(s, &now, *buf, first, end - first, head, meta);
		if (!err)
			return STELE_OK;
		char why[STELE_DETAIL_MAX];
		stele_detail_copy(why);
		free(*buf);
		*buf = NULL;
		struct stele_item_at again;
		STELE_TRY(stele_index_get(s->index.kv, STELE_INDEX_ENTRY, &now.key, &again));
		if (same_place(&again, &now))
			return stele_fail(err, "%s", why);
		now = again;
	}
	return stele_fail(STELE_ERR_BUSY, "moved again and again");
}
