/* Shards: taking one in (checked against everything its descriptor says, D2, D5), and giving cells
 * out. Policy of who should hold what is placement's and repair's. */
#include <assert.h>
#include <stdlib.h>

#include "erasure/shard_meta.h"
#include "net/ops.h"
#include "storage/base/crc.h"
#include "storage/base/sha256.h"

#define CELLS_PER_BUF (STELE_BUF_LEN / STELE_CELL_LEN)

/* ---- SHARD_PUT: decode -> have it already? -> verify (worker) -> write -> reply ---- */

struct shard_put {
	struct stele_op work;
	struct stele_request *req;
	struct stele_disk *disk;
	struct stele_head_shard_put head;
	struct stele_descriptor desc;
	struct stele_hash *rows; /* once verified: of all shards */
	uint32_t cells;
	struct stele_key key;
	struct stele_store_have have;
	bool present;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	struct stele_store_write write;
	struct stele_item item[2];
	struct iovec iov[STELE_SHARD_LEN_MAX / STELE_BUF_LEN];
	uint32_t *crc;
};

static void put_free(struct shard_put *p)
{
	free(p->rows);
	free(p->crc);
	free(p);
}

static void put_written(struct stele_store_write *w)
{
	struct shard_put *p = w->ctx;
	if (w->err == STELE_OK)
		stele_reply(p->req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(p->req, w->err, w->detail);
	put_free(p);
}

static void put_write(struct shard_put *p)
{
	uint32_t n = 0;
	if (!p->present) {
		uint64_t left = p->desc.S;
		for (uint32_t i = 0; i < p->req->nbody; i++) {
			uint64_t len = left < STELE_BUF_LEN ? left : STELE_BUF_LEN;
			p->iov[i] =
			    (struct iovec){.iov_base = p->req->body[i]->data, .iov_len = len};
			left -= len;
		}
		p->item[n++] = (struct stele_item){
		    .key = p->key,
		    .meta = p->head.meta,
		    .meta_len = p->head.meta_len,
		    .data = p->iov,
		    .ndata = p->req->nbody,
		    .data_len = p->desc.S,
		    .crc = p->crc,
		};
	}
	if (p->head.has_ref)
		p->item[n++] = (struct stele_item){
		    .key = {.pool = p->head.pool,
		            .kind = STELE_ENTRY_REF,
		            .id = p->key.id,
		            .sub = p->head.deposit},
		    .meta = p->head.object.b,
		    .meta_len = STELE_HASH_LEN,
		};
	if (n == 0) { /* durable here already (D8) */
		stele_reply(p->req, NULL, 0, NULL, 0, NULL, NULL);
		put_free(p);
		return;
	}
	p->write = (struct stele_store_write){
	    .item = p->item, .n = n, .class = stele_ops_class(p->req), .cb = put_written, .ctx = p};
	stele_disk_write(p->disk, &p->write);
}

/* The bytes of one buffer against the shard's own row; CRCs on the way. */
static enum stele_err verify_buf(struct shard_put *p, uint32_t buf, uint64_t len)
{
	struct stele_hash leaf[CELLS_PER_BUF];
	uint8_t *data = p->req->body[buf]->data;
	uint32_t first = buf * CELLS_PER_BUF;
	const struct stele_hash *row = stele_shard_meta_row(&p->desc, p->rows, p->key.index);
	stele_sha256_cells(data, len, leaf);
	for (uint32_t c = 0; (uint64_t)c * STELE_CELL_LEN < len; c++) {
		uint64_t at = (uint64_t)c * STELE_CELL_LEN;
		uint64_t cell = len - at < STELE_CELL_LEN ? len - at : STELE_CELL_LEN;
		if (!stele_hash_equal(&leaf[c], &row[first + c]))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "shard %u: cell %u does not hash to its row",
			                  p->key.index, first + c);
		p->crc[first + c] = stele_crc32c(data + at, cell, 0);
	}
	memset(data + len, 0, stele_round_up(len, STELE_PAGE) - len);
	return STELE_OK;
}

/* A data shard's bytes beyond the block's length are zero (D2). */
static enum stele_err verify_padding(const struct shard_put *p)
{
	uint64_t start = (uint64_t)p->key.index * p->desc.S;
	if (p->desc.code.k == 1)
		start = 0;
	else if (p->key.index >= p->desc.code.k)
		return STELE_OK;
	uint64_t from = p->desc.length > start ? p->desc.length - start : 0;
	for (uint64_t at = from; at < p->desc.S;) {
		uint64_t in = at % STELE_BUF_LEN;
		uint64_t len =
		    STELE_BUF_LEN - in < p->desc.S - at ? STELE_BUF_LEN - in : p->desc.S - at;
		if (!stele_all_zero(p->req->body[at / STELE_BUF_LEN]->data + in, len))
			return stele_fail(STELE_ERR_CORRUPT, "shard %u: padding is not zero",
			                  p->key.index);
		at += len;
	}
	return STELE_OK;
}

static void put_verify(struct stele_op *op) /* on a worker */
{
	struct shard_put *p = op->ctx;
	enum stele_err err = stele_shard_meta_read(p->head.meta, p->head.meta_len, &p->key.id,
	                                           p->key.index, &p->desc, &p->rows);
	uint64_t left = p->desc.S;
	for (uint32_t i = 0; i < p->req->nbody && err == STELE_OK; i++) {
		uint64_t len = left < STELE_BUF_LEN ? left : STELE_BUF_LEN;
		err = verify_buf(p, i, len);
		left -= len;
	}
	if (err == STELE_OK)
		err = verify_padding(p);
	p->err = err;
	if (err != STELE_OK)
		stele_detail_copy(p->detail);
}

static void put_verified(struct stele_op *op)
{
	struct shard_put *p = op->ctx;
	if (op->result < 0) {
		stele_ops_fail(p->req, STELE_ERR_CANCELLED, "the node is stopping");
		put_free(p);
	} else if (p->err != STELE_OK) {
		stele_ops_fail(p->req, p->err, p->detail);
		put_free(p);
	} else {
		put_write(p);
	}
}

static void put_had(struct stele_store_have *h)
{
	struct shard_put *p = h->ctx;
	if (h->err != STELE_OK) {
		stele_ops_fail(p->req, h->err, "index");
		put_free(p);
		return;
	}
	if (p->present) {
		stele_collect_touch(stele_node_collect(stele_req_node(p->req)), p->head.slot,
		                    &p->key);
		put_write(p);
		return;
	}
	p->work = (struct stele_op){
	    .kind = STELE_OP_WORK, .work = put_verify, .cb = put_verified, .ctx = p};
	stele_env_submit(stele_node_env(stele_req_node(p->req)), &p->work);
}

static enum stele_err put_decode(struct shard_put *p)
{
	struct stele_request *req = p->req;
	struct stele_head_shard_put *h = &p->head;
	size_t used;
	STELE_TRY(stele_head_shard_put_decode(req->head, req->head_len, h));
	STELE_TRY(stele_descriptor_decode_prefix(h->meta, h->meta_len, &p->desc, &used));
	p->cells = stele_descriptor_cells(&p->desc);
	if (h->meta_len != stele_shard_meta_len(&p->desc) || h->index >= p->desc.n ||
	    req->body_len != p->desc.S)
		return stele_fail(STELE_ERR_INVALID,
		                  "shard: index, rows or body do not fit the descriptor");
	p->key = (struct stele_key){.pool = h->pool, .kind = STELE_ENTRY_SHARD, .index = h->index};
	stele_descriptor_id(&p->desc, &p->key.id);
	STELE_TRY(stele_ops_may_write(req, h->slot, h->pool, &p->key.id, &p->disk));
	const struct stele_pool *pool =
	    stele_map_pool(stele_node_map(stele_req_node(req)), h->pool);
	if (!stele_code_id_equal(pool->code, p->desc.code))
		return stele_fail(STELE_ERR_REFUSED, "pool %s keeps blocks of another code",
		                  pool->name);
	p->crc = calloc(p->cells, sizeof(*p->crc));
	if (!p->crc)
		return stele_fail(STELE_ERR_NOMEM, "shard: out of memory");
	return STELE_OK;
}

void stele_op_shard_put(struct stele_request *req)
{
	struct shard_put *p = calloc(1, sizeof(*p));
	if (!p) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "shard: out of memory"));
		return;
	}
	p->req = req;
	enum stele_err err = put_decode(p);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		put_free(p);
		return;
	}
	p->have = (struct stele_store_have){
	    .key = &p->key, .n = 1, .out = &p->present, .cb = put_had, .ctx = p};
	stele_disk_have(p->disk, &p->have);
}

/* ---- SHARD_GET ---- */

struct shard_get {
	struct stele_request *req;
	struct stele_store_read read;
	struct stele_buf *buf[STELE_SHARD_LEN_MAX / STELE_BUF_LEN];
	struct iovec iov[STELE_SHARD_LEN_MAX / STELE_BUF_LEN];
	uint32_t nbuf;
};

static void get_sent(void *ctx)
{
	struct shard_get *g = ctx;
	for (uint32_t i = 0; i < g->nbuf; i++)
		stele_buf_give(g->buf[i]);
	stele_store_read_finish(&g->read);
	free(g);
}

static void get_done(struct stele_store_read *r)
{
	struct shard_get *g = r->ctx;
	if (r->err != STELE_OK) {
		stele_ops_fail(g->req, r->err, r->detail);
		get_sent(g);
		return;
	}
	uint64_t left = r->data_len;
	uint32_t n = 0;
	for (; n < g->nbuf && left > 0; n++) {
		g->iov[n].iov_base = g->buf[n]->data;
		g->iov[n].iov_len = left < STELE_BUF_LEN ? left : STELE_BUF_LEN;
		left -= g->iov[n].iov_len;
	}
	stele_reply(g->req, r->want_meta ? r->meta : NULL, r->want_meta ? r->meta_len : 0, g->iov,
	            n, get_sent, g);
}

void stele_op_shard_get(struct stele_request *req)
{
	struct stele_head_shard_get h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_shard_get_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_disk(req, h.slot, &disk);
	struct shard_get *g = err == STELE_OK ? calloc(1, sizeof(*g)) : NULL;
	if (err == STELE_OK && !g)
		err = stele_fail(STELE_ERR_NOMEM, "out of memory");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	uint32_t nbuf = (h.cells + CELLS_PER_BUF - 1) / CELLS_PER_BUF;
	if (!stele_buf_take(stele_node_bufs(stele_req_node(req)), nbuf, g->buf)) {
		free(g);
		stele_ops_fail(req, STELE_ERR_BUSY, "every buffer of this node is in use");
		return;
	}
	g->req = req;
	g->nbuf = nbuf;
	for (uint32_t i = 0; i < nbuf; i++)
		g->iov[i] = (struct iovec){.iov_base = g->buf[i]->data, .iov_len = STELE_BUF_LEN};
	g->read = (struct stele_store_read){
	    .key = {.pool = h.pool, .kind = STELE_ENTRY_SHARD, .index = h.index, .id = h.block},
	    .class = stele_ops_class(req),
	    .want_meta = h.want_meta,
	    .first_cell = h.first_cell,
	    .cells = h.cells,
	    .into = g->iov,
	    .ninto = nbuf,
	    .cb = get_done,
	    .ctx = g,
	};
	stele_disk_read(disk, &g->read);
}
