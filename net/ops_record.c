/* Records, marks and refusals of deposits. Whoever brings a record, its signature is checked before
 * it is kept: a copy that does not hold counts for nobody, and would only be repaired for ever.
 *
 * A disk gives each deposit one vote: its record, or a refusal, whichever comes first (P3). All
 * refusals together are the decision that the deposit is dead, so a disk that lost its votes (it is
 * being refilled) must not vote as if it never had: it has no voice in refusing, and takes a record
 * from a client only after as many others as may have lost theirs too said that they do not refuse.
 */
#include <stdlib.h>

#include "net/ops.h"
#include "net/repair/ask.h"
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

static void write_item(struct stele_request *req, struct stele_disk *disk,
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
	stele_disk_write(disk, &c->write);
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
	bool node = req->who->roles & STELE_ROLE_NODE; /* what was a writer's once stays (P5) */
	bool writes = who && !who->revoked &&
	              (who->roles & (STELE_ROLE_WRITER | STELE_ROLE_SEQUENCER));
	if (!who || (!writes && !node))
		return stele_fail(STELE_ERR_DENIED, "the map knows no such depositor as a writer");
	if (!is_key(&req->who->depositor, &r->deposit.depositor) &&
	    !(req->who->roles & (STELE_ROLE_NODE | STELE_ROLE_ADMIN)))
		return stele_fail(STELE_ERR_DENIED,
		                  "the deposit is signed by another client's key");
	return stele_record_check_sig(r);
}

struct record_put {
	struct stele_request *req;
	struct stele_disk *disk;
	struct stele_head_record_put head;
	struct stele_key key;
	struct stele_store_write write;
	struct stele_item item;
	bool passed_on; /* by a node: the record is on another disk already */
	/* of a disk that is being refilled */
	struct stele_ask *ask;
	uint32_t need, refusals;
};

static void put_end(struct record_put *p, enum stele_err err, const char *detail)
{
	if (err == STELE_OK)
		stele_reply(p->req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(p->req, err, detail);
	free(p->ask);
	free(p);
}

static void put_write(struct record_put *p);

static void refusal_undone(struct stele_store_write *w)
{
	struct record_put *p = w->ctx;
	if (w->err == STELE_OK)
		put_write(p);
	else
		put_end(p, w->err, w->detail);
}

/* Somewhere the record came first, so this disk's refusal can never be one of all, and would only
 * keep the record from its full width. */
static void undo_refusal(struct record_put *p)
{
	p->passed_on = false; /* once */
	p->item = (struct stele_item){.key = p->key, .tomb = true};
	p->item.key.kind = STELE_ENTRY_REFUSE;
	p->write =
	    (struct stele_store_write){.item = &p->item, .n = 1, .cb = refusal_undone, .ctx = p};
	stele_disk_write(p->disk, &p->write);
}

static void put_written(struct stele_store_write *w)
{
	struct record_put *p = w->ctx;
	if (w->err == STELE_ERR_REFUSED && p->passed_on)
		undo_refusal(p);
	else
		put_end(p, w->err, w->detail);
}

static void put_write(struct record_put *p)
{
	p->item = (struct stele_item){
	    .key = p->key, .meta = p->head.record, .meta_len = p->head.record_len};
	p->write =
	    (struct stele_store_write){.item = &p->item, .n = 1, .cb = put_written, .ctx = p};
	stele_disk_write(p->disk, &p->write);
}

static void look_head(struct stele_ask *ask, uint32_t at, struct stele_writer *w)
{
	const struct record_put *p = ask->ctx;
	struct stele_head_refuse h = {.slot = ask->window.disk[at].slot,
	                              .object = p->key.id,
	                              .deposit = p->key.sub,
	                              .look = true};
	stele_head_refuse_encode(&h, w);
}

static bool look_answer(struct stele_ask *ask, uint32_t at, const struct stele_call *call)
{
	struct record_put *p = ask->ctx;
	(void)at;
	if (call->reply_head_len != 1)
		return false;
	p->refusals += call->reply_head[0] == STELE_REFUSAL_MADE ||
	               call->reply_head[0] == STELE_REFUSAL_NO_VOICE;
	return true;
}

static void looked_around(struct stele_ask *ask)
{
	struct record_put *p = ask->ctx;
	if (p->refusals > 0)
		put_end(p, STELE_ERR_REFUSED, "a disk of the window has refused that deposit");
	else if (ask->answered < p->need)
		put_end(p, STELE_ERR_UNAVAILABLE,
		        "a disk that is being refilled takes no record while it cannot ask others");
	else
		put_write(p);
}

static void look_around(struct record_put *p)
{
	struct stele_node *node = stele_req_node(p->req);
	const struct stele_map *map = stele_node_map(node);
	const struct stele_pool *pool = stele_map_pool(map, STELE_POOL_RECORD);
	struct stele_window window;
	uint64_t fence;
	p->ask = calloc(1, sizeof(*p->ask));
	if (!p->ask) {
		put_end(p, STELE_ERR_NOMEM, "record: out of memory");
		return;
	}
	*p->ask = (struct stele_ask){.peers = stele_node_peers(node),
	                             .op = STELE_OPCODE_REFUSE,
	                             .head = look_head,
	                             .answer = look_answer,
	                             .cb = looked_around,
	                             .ctx = p};
	stele_place(map, pool, stele_pg_of(pool, &p->key.id), stele_window_width(&pool->code),
	            &window, &fence);
	for (uint32_t i = 0; i < window.n; i++)
		if (window.disk[i].node != stele_node_id(node) ||
		    window.disk[i].slot != p->head.slot)
			p->ask->window.disk[p->ask->window.n++] = window.disk[i];
	uint32_t t = stele_code_id_t(&pool->code);
	p->need = t < p->ask->window.n ? t : p->ask->window.n;
	stele_ask_start(p->ask);
}

static enum stele_err put_begin(struct stele_request *req, struct record_put *p)
{
	struct stele_record r;
	struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
	enum stele_err err = piece
	                         ? stele_head_record_put_decode(req->head, req->head_len, &p->head)
	                         : stele_fail(STELE_ERR_NOMEM, "record: out of memory");
	if (err == STELE_OK)
		err = stele_record_decode(p->head.record, p->head.record_len, true, &r, piece);
	if (err == STELE_OK)
		err = stele_ops_may_write(req, p->head.slot, STELE_POOL_RECORD, &r.deposit.object,
		                          &p->disk);
	if (err == STELE_OK)
		err = judge_record(req, &r);
	if (err == STELE_OK)
		p->key = (struct stele_key){.pool = STELE_POOL_RECORD,
		                            .kind = STELE_ENTRY_RECORD,
		                            .id = r.deposit.object,
		                            .sub = r.deposit_hash};
	free(piece);
	return err;
}

void stele_op_record_put(struct stele_request *req)
{
	struct record_put *p = calloc(1, sizeof(*p));
	enum stele_err err =
	    p ? put_begin(req, p) : stele_fail(STELE_ERR_NOMEM, "record: out of memory");
	if (err != STELE_OK) {
		free(p);
		stele_reply_error(req, err);
		return;
	}
	p->req = req;
	p->passed_on = req->who->roles & STELE_ROLE_NODE;
	if (!p->passed_on &&
	    stele_slots_refilling(stele_node_slots(stele_req_node(req)), p->head.slot))
		look_around(p);
	else
		put_write(p);
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
	struct stele_disk *disk;
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
		err = stele_ops_may_write(req, h.slot, STELE_POOL_RECORD, &m.object, &disk);
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
	write_item(req, disk, &item);
}

/* ---- REFUSE (P3): has the record, or refuses the deposit for good ---- */

struct refuse {
	struct stele_request *req;
	struct stele_disk *disk;
	struct stele_head_refuse head;
	struct stele_key key[2]; /* the record, the refusal */
	bool present[2];
	struct stele_store_have have;
	struct stele_store_write write;
	struct stele_item item;
};

static void refuse_reply(struct refuse *c, enum stele_refusal what)
{
	struct stele_slots *slots = stele_node_slots(stele_req_node(c->req));
	if (what == STELE_REFUSAL_MADE && stele_slots_refilling(slots, c->head.slot))
		what = STELE_REFUSAL_NO_VOICE;
	uint8_t state = (uint8_t)what;
	stele_reply(c->req, &state, 1, NULL, 0, NULL, NULL);
	free(c);
}

static void refuse_fail(struct refuse *c, enum stele_err err, const char *detail)
{
	stele_ops_fail(c->req, err, detail);
	free(c);
}

static void refused(struct stele_store_write *w)
{
	struct refuse *c = w->ctx;
	if (w->err == STELE_OK)
		refuse_reply(c, STELE_REFUSAL_MADE);
	else if (w->err == STELE_ERR_EXISTS) /* a record came in first */
		refuse_reply(c, STELE_REFUSAL_RECORD);
	else
		refuse_fail(c, w->err, w->detail);
}

static void refuse_looked(struct stele_store_have *h)
{
	struct refuse *c = h->ctx;
	if (h->err != STELE_OK) {
		refuse_fail(c, h->err, "index");
	} else if (c->present[0]) {
		refuse_reply(c, STELE_REFUSAL_RECORD);
	} else if (c->present[1]) {
		refuse_reply(c, STELE_REFUSAL_MADE);
	} else if (c->head.look) {
		refuse_reply(c, STELE_REFUSAL_NONE);
	} else {
		/* Between this look and the write a record may come in: the store orders the two,
		 * and whichever is second meets the first. */
		c->item = (struct stele_item){.key = c->key[1]};
		c->write =
		    (struct stele_store_write){.item = &c->item, .n = 1, .cb = refused, .ctx = c};
		stele_disk_write(c->disk, &c->write);
	}
}

static enum stele_err refuse_begin(struct stele_request *req, struct refuse *c)
{
	struct stele_head_refuse *h = &c->head;
	STELE_TRY(stele_head_refuse_decode(req->head, req->head_len, h));
	STELE_TRY(stele_ops_may_write(req, h->slot, STELE_POOL_RECORD, &h->object, &c->disk));
	c->req = req;
	c->key[0] = (struct stele_key){.pool = STELE_POOL_RECORD,
	                               .kind = STELE_ENTRY_RECORD,
	                               .id = h->object,
	                               .sub = h->deposit};
	c->key[1] = c->key[0];
	c->key[1].kind = STELE_ENTRY_REFUSE;
	return STELE_OK;
}

void stele_op_refuse(struct stele_request *req)
{
	struct refuse *c = calloc(1, sizeof(*c));
	enum stele_err err =
	    c ? refuse_begin(req, c) : stele_fail(STELE_ERR_NOMEM, "refuse: out of memory");
	if (err != STELE_OK) {
		free(c);
		stele_reply_error(req, err);
		return;
	}
	c->have = (struct stele_store_have){
	    .key = c->key, .n = 2, .out = c->present, .cb = refuse_looked, .ctx = c};
	stele_disk_have(c->disk, &c->have);
}
