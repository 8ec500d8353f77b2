/* Records, marks and refusals of deposits. A record's signature is checked here only when the
 * sender is not the depositor that the map binds to the connection's key: readers always check it.
 */
#include <stdlib.h>

#include "net/ops.h"
#include "storage/base/deposit.h"

/* One small durable write with its reply. */
struct write_one {
	struct stele_request *req;
	struct stele_store_write write;
	struct stele_item item;
};

static void written(struct stele_store_write *w)
{
	struct write_one *c = w->ctx;
	if (w->err == STELE_OK)
		stele_reply(c->req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(c->req, w->err, w->detail);
	free(c);
}

static void write_item(struct stele_request *req, struct stele_store *store,
                       const struct stele_item *item)
{
	struct write_one *c = calloc(1, sizeof(*c));
	if (!c) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "out of memory"));
		return;
	}
	c->req = req;
	c->item = *item;
	c->write = (struct stele_store_write){.item = &c->item, .n = 1, .cb = written, .ctx = c};
	stele_store_write(store, &c->write);
}

static bool is_key(const struct stele_public_key *a, const struct stele_public_key *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* ---- RECORD_PUT ---- */

static enum stele_err judge_record(struct stele_request *req, const struct stele_record *r)
{
	const struct stele_map *map = stele_node_map(stele_req_node(req));
	if (!stele_hash_equal(&r->deposit.cluster, &map->cluster))
		return stele_fail(STELE_ERR_DENIED, "the deposit is another cluster's");
	const struct stele_client_entry *who = stele_map_depositor(map, &r->deposit.depositor);
	if (!who || (who->revoked && !(req->who->roles & STELE_ROLE_NODE)))
		return stele_fail(STELE_ERR_DENIED, "the map knows no such depositor as a writer");
	if (is_key(&req->who->depositor, &r->deposit.depositor))
		return STELE_OK;
	if (!(req->who->roles & (STELE_ROLE_NODE | STELE_ROLE_ADMIN)))
		return stele_fail(STELE_ERR_DENIED,
		                  "the deposit is signed by another client's key");
	return stele_record_check_sig(r);
}

void stele_op_record_put(struct stele_request *req)
{
	struct stele_head_record_put h;
	struct stele_record r;
	struct stele_store *store;
	struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
	enum stele_err err = piece ? stele_head_record_put_decode(req->head, req->head_len, &h)
	                           : stele_fail(STELE_ERR_NOMEM, "record: out of memory");
	if (err == STELE_OK)
		err = stele_record_decode(h.record, h.record_len, true, &r, piece);
	if (err == STELE_OK)
		err =
		    stele_ops_may_write(req, h.slot, STELE_POOL_RECORD, &r.deposit.object, &store);
	if (err == STELE_OK)
		err = judge_record(req, &r);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
	} else {
		struct stele_item item = {
		    .key = {.pool = STELE_POOL_RECORD,
		            .kind = STELE_ENTRY_RECORD,
		            .id = r.deposit.object,
		            .sub = r.deposit_hash},
		    .meta = h.record,
		    .meta_len = h.record_len,
		};
		write_item(req, store, &item);
	}
	free(piece);
}

/* ---- MARK_ADD ---- */

/* Who may sign which mark (anchoring.md, "Marks"). A node passing one on needs the signature alone.
 */
static enum stele_err judge_mark(struct stele_request *req, const struct stele_mark *m)
{
	const struct stele_map *map = stele_node_map(stele_req_node(req));
	if (!stele_hash_equal(&m->cluster, &map->cluster))
		return stele_fail(STELE_ERR_DENIED, "the mark is another cluster's");
	const struct stele_client_entry *author = stele_map_depositor(map, &m->author);
	uint32_t roles = author && !author->revoked ? author->roles : 0;
	bool is_log = is_key(&m->author, &map->log_key);
	uint32_t need = STELE_ROLE_WRITER;
	switch (m->kind) {
	case STELE_MARK_HOLD:
	case STELE_MARK_RELEASE:
		need = STELE_ROLE_OFFICER;
		break;
	case STELE_MARK_LOGGED:
		if (is_log)
			return STELE_OK;
		need = STELE_ROLE_SEQUENCER;
		break;
	case STELE_MARK_CATALOGUE:
		if (is_log) /* the log's own manifest */
			return STELE_OK;
		break;
	default:
		break;
	}
	if (req->who->roles & STELE_ROLE_NODE)
		return author || is_log ? STELE_OK
		                        : stele_fail(STELE_ERR_DENIED, "unknown author of a mark");
	if (!(roles & need))
		return stele_fail(STELE_ERR_DENIED, "its author may not sign this mark");
	return STELE_OK;
}

void stele_op_mark_add(struct stele_request *req)
{
	struct stele_head_mark_add h;
	struct stele_mark m;
	struct stele_sig sig;
	struct stele_store *store;
	const char *text;
	size_t len;
	enum stele_err err = stele_head_mark_add_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_mark_unpack(h.mark, h.mark_len, &text, &len, &sig);
	if (err == STELE_OK)
		err = stele_mark_decode(text, len, &m);
	if (err == STELE_OK && !stele_sig_ok(&m.author, text, len, &sig))
		err = stele_fail(STELE_ERR_DENIED, "the mark's signature does not hold");
	if (err == STELE_OK)
		err = stele_ops_may_write(req, h.slot, STELE_POOL_RECORD, &m.object, &store);
	if (err == STELE_OK)
		err = judge_mark(req, &m);
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct stele_item item = {
	    .key = {.pool = STELE_POOL_RECORD, .kind = STELE_ENTRY_MARK, .id = m.object},
	    .meta = h.mark,
	    .meta_len = h.mark_len,
	};
	stele_deposit_hash(text, len, &item.key.sub); /* a mark's id: SHA-256 of its text */
	write_item(req, store, &item);
}

/* ---- REFUSE (P3): has the record, or refuses the deposit for good ---- */

struct refuse {
	struct stele_request *req;
	struct stele_store *store;
	struct stele_key key;
	bool present;
	struct stele_store_have have;
	struct stele_store_write write;
	struct stele_item item;
};

static void refuse_reply(struct refuse *c, uint8_t state)
{
	stele_reply(c->req, &state, 1, NULL, 0, NULL, NULL);
	free(c);
}

static void refused(struct stele_store_write *w)
{
	struct refuse *c = w->ctx;
	if (w->err == STELE_OK || w->err == STELE_ERR_EXISTS) { /* EXISTS: a record came in first */
		refuse_reply(c, w->err == STELE_ERR_EXISTS);
		return;
	}
	stele_ops_fail(c->req, w->err, w->detail);
	free(c);
}

static void refuse_looked(struct stele_store_have *h)
{
	struct refuse *c = h->ctx;
	if (h->err != STELE_OK) {
		stele_ops_fail(c->req, h->err, "index");
		free(c);
		return;
	}
	if (c->present) {
		refuse_reply(c, 1);
		return;
	}
	/* Between this look and the write a record may come in: the store orders the two, and
	 * whichever is second meets the first. */
	c->item = (struct stele_item){.key = c->key};
	c->item.key.kind = STELE_ENTRY_REFUSE;
	c->write = (struct stele_store_write){.item = &c->item, .n = 1, .cb = refused, .ctx = c};
	stele_store_write(c->store, &c->write);
}

void stele_op_refuse(struct stele_request *req)
{
	struct stele_head_refuse h;
	struct stele_store *store;
	enum stele_err err = stele_head_refuse_decode(req->head, req->head_len, &h);
	if (err == STELE_OK)
		err = stele_ops_may_write(req, h.slot, STELE_POOL_RECORD, &h.object, &store);
	if (err == STELE_OK && stele_slots_state(stele_node_slots(stele_req_node(req)), h.slot) ==
	                           STELE_SLOT_REFILLING)
		err = stele_fail(STELE_ERR_BUSY, "a disk that is being refilled cannot refuse");
	struct refuse *c = err == STELE_OK ? calloc(1, sizeof(*c)) : NULL;
	if (err == STELE_OK && !c)
		err = stele_fail(STELE_ERR_NOMEM, "out of memory");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	c->req = req;
	c->store = store;
	c->key = (struct stele_key){.pool = STELE_POOL_RECORD,
	                            .kind = STELE_ENTRY_RECORD,
	                            .id = h.object,
	                            .sub = h.deposit};
	c->have = (struct stele_store_have){
	    .key = &c->key, .n = 1, .out = &c->present, .cb = refuse_looked, .ctx = c};
	stele_store_have(store, &c->have);
}
