/* A node's own look at a shard of its own (a report, a promise), and shards rebuilt onto it. */
#include <stdlib.h>

#include "net/ops.h"
#include "net/repair/rebuild.h"

#define CELLS_PER_BUF (STELE_BUF_LEN / STELE_CELL_LEN)
#define REPORT_NS     (10ull * 1000 * 1000 * 1000)

/* ---- REPORT_BAD and KEEP: the node reads its own shard whole before it believes, or promises ----
 */

struct reread {
	struct stele_request *req;
	struct stele_disk *disk;
	struct stele_key key;
	bool keep;
	struct stele_store_read read;
	struct stele_buf *buf[STELE_SHARD_LEN_MAX / STELE_BUF_LEN];
	struct iovec iov[STELE_SHARD_LEN_MAX / STELE_BUF_LEN];
	uint32_t nbuf;
	struct stele_op work;
	enum stele_err err; /* OK, CORRUPT: what was read is the shard, is not; NOMEM */
	struct stele_store_write write;
	struct stele_item item;
};

/* What a look at something on that disk keeps, zeroed; NULL: replied why not. */
static void *create_at(struct stele_request *req, uint32_t slot, size_t size,
                       struct stele_disk **disk)
{
	enum stele_err err = stele_ops_disk(req, slot, disk);
	void *c = err == STELE_OK ? calloc(1, size) : NULL;
	if (err == STELE_OK && !c)
		err = stele_fail(STELE_ERR_NOMEM, "out of memory");
	if (err != STELE_OK)
		stele_reply_error(req, err);
	return c;
}

static void reread_end(struct reread *c, enum stele_err err, const char *detail)
{
	if (err == STELE_OK)
		stele_reply(c->req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(c->req, err, detail);
	for (uint32_t i = 0; i < c->nbuf; i++)
		stele_buf_give(c->buf[i]);
	stele_store_read_finish(&c->read);
	free(c);
}

static void reread_hash(struct stele_op *op) /* on a worker */
{
	struct reread *c = op->ctx;
	struct stele_descriptor d;
	struct stele_hash *rows = NULL;
	c->err = stele_shard_meta_read(c->read.meta, c->read.meta_len, &c->key.id, c->key.index, &d,
	                               &rows);
	if (c->err == STELE_OK &&
	    (c->read.data_len != d.S || !stele_rebuild_matches(&d, rows, c->key.index, c->buf)))
		c->err = STELE_ERR_CORRUPT;
	free(rows);
}

static void keep_written(struct stele_store_write *w)
{
	reread_end(w->ctx, w->err, w->detail);
}

static void reread_hashed(struct stele_op *op)
{
	struct reread *c = op->ctx;
	if (op->result < 0) {
		reread_end(c, STELE_ERR_CANCELLED, "the node is stopping");
		return;
	}
	if (c->err == STELE_ERR_CORRUPT)
		stele_disk_report_bad(c->disk, &c->key);
	if (c->err == STELE_ERR_NOMEM) {
		reread_end(c, c->err, "out of memory");
		return;
	}
	if (!c->keep) {
		reread_end(c, STELE_OK, "");
		return;
	}
	if (c->err != STELE_OK) {
		reread_end(c, STELE_ERR_CORRUPT, "this copy is corrupt");
		return;
	}
	c->item = (struct stele_item){.key = c->key};
	c->item.key.kind = STELE_ENTRY_KEEP;
	c->write =
	    (struct stele_store_write){.item = &c->item, .n = 1, .cb = keep_written, .ctx = c};
	stele_disk_write(c->disk, &c->write);
}

static void reread_read(struct stele_store_read *r)
{
	struct reread *c = r->ctx;
	if (r->err != STELE_OK) { /* CORRUPT: the store has noted it */
		reread_end(c, c->keep ? r->err : STELE_OK, r->detail);
		return;
	}
	c->work = (struct stele_op){
	    .kind = STELE_OP_WORK, .work = reread_hash, .cb = reread_hashed, .ctx = c};
	stele_env_submit(stele_node_env(stele_req_node(c->req)), &c->work);
}

/* How long the shard is, is learnt from its descriptor first. */
static void reread_sized(struct stele_store_read *r)
{
	struct reread *c = r->ctx;
	struct stele_descriptor d;
	size_t used;
	if (r->err != STELE_OK ||
	    stele_descriptor_decode_prefix(r->meta, r->meta_len, &d, &used) != STELE_OK) {
		reread_end(c, c->keep ? STELE_ERR_NOT_FOUND : STELE_OK, "no such shard here");
		return;
	}
	stele_store_read_finish(r);
	uint32_t cells = stele_descriptor_cells(&d);
	uint32_t nbuf = (cells + CELLS_PER_BUF - 1) / CELLS_PER_BUF;
	if (!stele_buf_take(stele_node_bufs(stele_req_node(c->req)), nbuf, c->buf)) {
		reread_end(c, STELE_ERR_BUSY, "every buffer of this node is in use");
		return;
	}
	c->nbuf = nbuf;
	for (uint32_t i = 0; i < nbuf; i++)
		c->iov[i] = (struct iovec){.iov_base = c->buf[i]->data, .iov_len = STELE_BUF_LEN};
	c->read = (struct stele_store_read){
	    .key = c->key,
	    .class = STELE_REPAIR,
	    .want_meta = true,
	    .cells = cells,
	    .into = c->iov,
	    .ninto = nbuf,
	    .cb = reread_read,
	    .ctx = c,
	};
	stele_disk_read(c->disk, &c->read);
}

static void reread_start(struct stele_request *req, uint32_t slot, const struct stele_key *key,
                         bool keep)
{
	struct stele_disk *disk;
	struct reread *c = create_at(req, slot, sizeof(*c), &disk);
	if (!c)
		return;
	c->req = req;
	c->disk = disk;
	c->key = *key;
	c->keep = keep;
	c->read = (struct stele_store_read){
	    .key = c->key, .class = STELE_REPAIR, .want_meta = true, .cb = reread_sized, .ctx = c};
	stele_disk_read(disk, &c->read);
}

/* ---- REPORT_BAD ---- */

struct recheck { /* of a record: does its signature hold? */
	struct stele_request *req;
	struct stele_disk *disk;
	struct stele_key key;
	struct stele_store_list list;
	struct stele_piece piece[STELE_PIECES_MAX];
};

static void recheck_listed(struct stele_store_list *l)
{
	struct recheck *c = l->ctx;
	struct stele_record record;
	for (uint32_t i = 0; l->err == STELE_OK && i < l->n; i++) {
		const struct stele_listed *it = &l->item[i];
		if (stele_hash_equal(&it->key.sub, &c->key.sub) && !it->bad &&
		    (stele_record_decode(it->meta, it->meta_len, true, &record, c->piece) !=
		         STELE_OK ||
		     stele_record_check_sig(&record) != STELE_OK))
			stele_disk_report_bad(c->disk, &c->key);
	}
	if (l->err == STELE_OK)
		stele_reply(c->req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(c->req, l->err, "index");
	stele_store_list_finish(l);
	free(c);
}

static void recheck_start(struct stele_request *req, uint32_t slot, const struct stele_key *key)
{
	struct stele_disk *disk;
	struct recheck *c = create_at(req, slot, sizeof(*c), &disk);
	if (!c)
		return;
	c->req = req;
	c->disk = disk;
	c->key = *key;
	c->list = (struct stele_store_list){.pool = key->pool,
	                                    .first = key->id,
	                                    .last = key->id,
	                                    .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD),
	                                    .want_meta = true,
	                                    .max = 1,
	                                    .cb = recheck_listed,
	                                    .ctx = c};
	struct stele_hash before = key->sub; /* an id may have thousands of records */
	if (stele_hash_back(&before))
		c->list.after = (struct stele_key){
		    .pool = key->pool, .kind = STELE_ENTRY_RECORD, .id = key->id, .sub = before};
	stele_disk_list(disk, &c->list);
}

void stele_op_report_bad(struct stele_request *req)
{
	struct stele_head_report_bad h;
	enum stele_err err = stele_head_report_bad_decode(req->head, req->head_len, &h);
	if (err == STELE_OK && h.key.kind != STELE_ENTRY_SHARD && h.key.kind != STELE_ENTRY_RECORD)
		err = stele_fail(STELE_ERR_INVALID, "only shards and records are reported");
	if (err != STELE_OK)
		stele_reply_error(req, err);
	else if (h.key.kind == STELE_ENTRY_RECORD)
		recheck_start(req, h.slot, &h.key);
	else
		reread_start(req, h.slot, &h.key, false);
}

void stele_op_keep(struct stele_request *req)
{
	struct stele_head_keep h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_keep_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_may_write(req, h.slot, h.pool, &h.block, &disk);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct stele_key key = {
	    .pool = h.pool, .kind = STELE_ENTRY_SHARD, .index = h.index, .id = h.block};
	stele_put_le64(key.sub.b, h.epoch);
	reread_start(req, h.slot, &key, true);
}

/* ---- REBUILD ---- */

struct rebuild {
	struct stele_request *req;
	struct stele_rebuild job;
	/* helpers whose bytes failed are told, one after the other: they count as good otherwise */
	uint32_t next_report;
	struct stele_call report;
	uint8_t head[96];
};

static void report_next(struct rebuild *c);

static void reported(struct stele_call *call)
{
	report_next(call->ctx); /* one that does not hear it is found by a deep scrub */
}

static void report_bad(struct rebuild *c, const struct stele_wire_helper *helper)
{
	struct stele_head_report_bad h = {.slot = helper->slot,
	                                  .key = {.pool = c->job.pool,
	                                          .kind = STELE_ENTRY_SHARD,
	                                          .index = helper->index,
	                                          .id = c->job.block}};
	struct stele_writer w = stele_writer(c->head, sizeof(c->head));
	stele_head_report_bad_encode(&h, &w);
	c->report = (struct stele_call){.op = STELE_OPCODE_REPORT_BAD,
	                                .head = c->head,
	                                .head_len = (uint32_t)stele_written(&w),
	                                .timeout_ns = REPORT_NS,
	                                .cb = reported,
	                                .ctx = c};
	stele_peers_call(c->job.peers, helper->node, &c->report);
}

static void rebuild_reply(struct rebuild *c)
{
	const struct stele_rebuild *job = &c->job;
	uint8_t head[16];
	stele_put_le64(head, job->bytes_read);
	stele_put_le64(head + 8, job->bytes_written);
	if (job->err == STELE_OK)
		stele_reply(c->req, head, sizeof(head), NULL, 0, NULL, NULL);
	else
		stele_ops_fail(c->req, job->err, job->detail);
	free(c);
}

static void report_next(struct rebuild *c)
{
	while (c->next_report < c->job.nhelpers) {
		const struct stele_wire_helper *helper = &c->job.helper[c->next_report++];
		if (c->job.bad >> helper->index & 1) {
			report_bad(c, helper);
			return;
		}
	}
	rebuild_reply(c);
}

static void rebuilt(struct stele_rebuild *job)
{
	report_next(job->ctx);
}

void stele_op_rebuild(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	struct stele_head_rebuild h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_rebuild_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_may_write(req, h.slot, h.pool, &h.block, &disk);
	struct rebuild *c = err == STELE_OK ? calloc(1, sizeof(*c)) : NULL;
	if (err == STELE_OK && !c)
		err = stele_fail(STELE_ERR_NOMEM, "rebuild: out of memory");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	c->req = req;
	c->job = (struct stele_rebuild){
	    .env = stele_node_env(node),
	    .peers = stele_node_peers(node),
	    .bufs = stele_node_bufs(node),
	    .target = disk,
	    .pool = h.pool,
	    .index = h.index,
	    .block = h.block,
	    .nhelpers = h.nhelpers,
	    .cb = rebuilt,
	    .ctx = c,
	};
	memcpy(c->job.helper, h.helper, sizeof(h.helper[0]) * h.nhelpers);
	stele_rebuild_start(&c->job);
}
