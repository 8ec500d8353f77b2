/* What is here: lists by id range, records and marks of an id, the feed, digests of placement
 * groups. */
#include <stdlib.h>

#include "net/cluster/place.h"
#include "net/ops.h"

/* ---- LIST, RECORD_GET, FEED: one reply form ---- */

struct list {
	struct stele_request *req;
	struct stele_store_list list;
	struct stele_buf *buf;
	struct iovec iov;
};

static void list_sent(void *ctx)
{
	struct list *c = ctx;
	stele_buf_give(c->buf);
	stele_store_list_finish(&c->list);
	free(c);
}

static void listed(struct stele_store_list *l)
{
	struct list *c = l->ctx;
	if (l->err != STELE_OK) {
		stele_ops_fail(c->req, l->err, l->detail);
		list_sent(c);
		return;
	}
	struct stele_writer w = stele_writer(c->buf->data, STELE_BUF_LEN);
	struct stele_head_listed reply = {.more = l->more};
	for (; reply.n < l->n; reply.n++) {
		if (stele_written(&w) + stele_listed_len(&l->item[reply.n]) > STELE_BUF_LEN) {
			reply.more = true;
			break;
		}
		stele_write_listed(&w, &l->item[reply.n]);
	}
	uint8_t head[16];
	struct stele_writer hw = stele_writer(head, sizeof(head));
	stele_head_listed_encode(&reply, &hw);
	c->iov = (struct iovec){.iov_base = c->buf->data, .iov_len = stele_written(&w)};
	stele_reply(c->req, head, (uint32_t)stele_written(&hw), &c->iov, c->iov.iov_len ? 1 : 0,
	            list_sent, c);
}

/* Takes the one buffer that the reply lies in; NULL: replied already. */
static struct list *list_begin(struct stele_request *req)
{
	struct list *c = calloc(1, sizeof(*c));
	if (!c) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "list: out of memory"));
		return NULL;
	}
	if (!stele_buf_take(stele_node_bufs(stele_req_node(req)), 1, &c->buf)) {
		free(c);
		stele_ops_fail(req, STELE_ERR_BUSY, "every buffer of this node is in use");
		return NULL;
	}
	c->req = req;
	c->list = (struct stele_store_list){
	    .cb = listed, .ctx = c, .max_bytes = STELE_BUF_LEN - STELE_META_MAX - 4096};
	return c;
}

void stele_op_list(struct stele_request *req)
{
	struct stele_head_list h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_list_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_disk(req, h.slot, &disk);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct list *c = list_begin(req);
	if (!c)
		return;
	c->list.pool = h.pool;
	c->list.first = h.first;
	c->list.last = h.last;
	c->list.kinds = h.kinds;
	c->list.want_meta = h.want_meta;
	c->list.after = h.after;
	c->list.max = h.max < 8192 ? h.max : 8192;
	stele_disk_list(disk, &c->list);
}

void stele_op_record_get(struct stele_request *req)
{
	struct stele_head_record_get h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_record_get_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_disk(req, h.slot, &disk);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct list *c = list_begin(req);
	if (!c)
		return;
	c->list.pool = STELE_POOL_RECORD;
	c->list.first = c->list.last = h.id;
	c->list.kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD) | STELE_KIND_BIT(STELE_ENTRY_MARK);
	c->list.want_meta = true;
	c->list.after = h.after;
	stele_disk_list(disk, &c->list);
}

void stele_op_feed(struct stele_request *req)
{
	struct stele_head_feed h;
	struct stele_disk *disk;
	enum stele_err err = stele_head_feed_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_disk(req, h.slot, &disk);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct list *c = list_begin(req);
	if (!c)
		return;
	c->list.pool = STELE_POOL_RECORD;
	c->list.kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD);
	c->list.want_meta = h.want_meta;
	c->list.max = h.max < 8192 ? h.max : 8192;
	stele_disk_feed(disk, &c->list, h.after_lsn);
}

/* ---- PG_DIGEST: group after group ---- */

struct digests {
	struct stele_request *req;
	struct stele_disk *disk;
	const struct stele_pool *pool; /* of the map below */
	struct stele_map *map;
	struct stele_head_pg_digest head;
	uint32_t at;
	struct stele_store_digest digest;
	uint8_t *reply;
};

static void digests_end(struct digests *c)
{
	stele_map_unref(c->map);
	free(c->reply);
	free(c);
}

static void digest_next(struct digests *c)
{
	if (c->at == c->head.n) {
		stele_reply(c->req, c->reply, c->head.n * STELE_DIGEST_LEN, NULL, 0, NULL, NULL);
		digests_end(c);
		return;
	}
	uint32_t pg = stele_le32(c->head.pgs + 4 * c->at);
	stele_pg_range(c->pool, pg, &c->digest.first, &c->digest.last);
	stele_disk_digest(c->disk, &c->digest);
}

static void digested(struct stele_store_digest *d)
{
	struct digests *c = d->ctx;
	if (d->err != STELE_OK) {
		stele_ops_fail(c->req, d->err, "digest");
		digests_end(c);
		return;
	}
	struct stele_wire_digest out = {.digest = d->digest, .keys = d->keys, .bytes = d->bytes};
	struct stele_writer w =
	    stele_writer(c->reply + (size_t)c->at * STELE_DIGEST_LEN, STELE_DIGEST_LEN);
	stele_write_digest(&w, &out);
	c->at++;
	digest_next(c);
}

static enum stele_err digests_check(struct digests *c)
{
	struct stele_request *req = c->req;
	STELE_TRY(stele_head_pg_digest_decode(req->head, req->head_len, &c->head));
	STELE_TRY(stele_ops_disk(req, c->head.slot, &c->disk));
	c->map = stele_map_ref(stele_node_map(stele_req_node(req)));
	c->pool = stele_map_pool(c->map, c->head.pool);
	if (!c->pool)
		return stele_fail(STELE_ERR_NOT_FOUND, "the map has no pool %u", c->head.pool);
	for (uint32_t i = 0; i < c->head.n; i++)
		if (stele_le32(c->head.pgs + 4 * i) >> c->pool->pgs_log2)
			return stele_fail(STELE_ERR_STALE, "pool %s has fewer groups",
			                  c->pool->name);
	c->reply = calloc(c->head.n ? c->head.n : 1, STELE_DIGEST_LEN);
	if (!c->reply)
		return stele_fail(STELE_ERR_NOMEM, "digests: out of memory");
	return STELE_OK;
}

void stele_op_pg_digest(struct stele_request *req)
{
	struct digests *c = calloc(1, sizeof(*c));
	if (!c) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "digests: out of memory"));
		return;
	}
	c->req = req;
	enum stele_err err = digests_check(c);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		digests_end(c);
		return;
	}
	c->digest = (struct stele_store_digest){
	    .pool = c->head.pool, .kinds = c->head.kinds, .cb = digested, .ctx = c};
	digest_next(c);
}
