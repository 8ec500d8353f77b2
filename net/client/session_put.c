/*
 * Carries out a put: reads the source and codes its pieces on workers, sends shards, references and the record, writes and
 * signs the deposit. What is done when is net/client/put.c's decision.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/put.h"
#include "net/client/session_private.h"
#include "erasure/shard_meta.h"
#include "storage/base/merkle.h"

#define ALIGN STELE_PAGE

/* The bytes of a piece while they are needed. */
struct piece_memory {
	bool used;
	uint32_t piece;
	uint8_t *bytes;
	size_t cap, len;
	bool eof;
	struct stele_block block;
};

struct put_job {
	struct stele_put_request *req;
	struct stele_session *session;
	struct stele_put put;
	uint16_t pool;
	const struct stele_code *code;
	uint32_t block_len;
	struct piece_memory memory[STELE_PUT_PIECES_IN_MEMORY];
	struct stele_job_work read, coding;
	struct piece_memory *reading, *being_coded;
	bool coding_small;
	/* over the whole object, in order */
	struct stele_sha256_stream object;
	struct stele_merkle_frontier tree;
	struct stele_hash *leaf;
	/* the deposit of the moment */
	struct stele_hash object_id, deposit_id;
	uint8_t *record; /* STELE_META_MAX */
	size_t record_len;
	uint64_t sent, acked, length_known;
};

static void pump(struct put_job *p);

static struct put_job *job_of(struct stele_job *job)
{
	return ((struct stele_put_request *)job)->priv;
}

static void fail(struct put_job *p, enum stele_err err, const char *detail)
{
	stele_put_step(&p->put, &(struct stele_put_event){
	                            .kind = STELE_PUT_FAIL, .err = err, .detail = detail});
}

static struct piece_memory *memory_of(struct put_job *p, uint32_t piece)
{
	for (uint32_t i = 0; i < STELE_PUT_PIECES_IN_MEMORY; i++)
		if (p->memory[i].used && p->memory[i].piece == piece)
			return &p->memory[i];
	assert(!"a piece that is needed is in memory");
	return NULL;
}

static void forget(struct piece_memory *m)
{
	stele_block_finish(&m->block);
	m->block = (struct stele_block){0};
	m->used = false; /* bytes are kept for the next piece */
}

/* ---- READ ---- */

static bool reserve(struct piece_memory *m, size_t cap)
{
	void *bytes;
	if (m->cap >= cap)
		return true;
	if (posix_memalign(&bytes, ALIGN, cap) != 0)
		return false;
	if (m->len > 0)
		memcpy(bytes, m->bytes, m->len);
	free(m->bytes);
	m->bytes = bytes;
	m->cap = cap;
	return true;
}

static void read_run(struct stele_job_work *w)
{
	struct put_job *p = job_of(w->job);
	struct piece_memory *m = p->reading;
	const struct stele_source *src = &p->req->source;
	while (!m->eof && m->len < p->block_len) {
		size_t got = 0;
		if (m->len == m->cap && !reserve(m, p->block_len)) { /* longer than was said */
			w->err = stele_fail(STELE_ERR_NOMEM, "put: out of memory");
			return;
		}
		size_t room = (m->cap < p->block_len ? m->cap : p->block_len) - m->len;
		w->err = src->read(src->ctx, m->bytes + m->len, room, &got);
		if (w->err != STELE_OK)
			return;
		m->len += got;
		m->eof = got == 0;
	}
}

static void read_done(struct stele_job_work *w)
{
	struct put_job *p = job_of(w->job);
	struct piece_memory *m = p->reading;
	p->reading = NULL;
	if (w->err != STELE_OK) {
		fail(p, w->err, w->detail);
	} else {
		if (m->len == 0 && m->piece > 0)
			forget(m);
		stele_put_step(&p->put, &(struct stele_put_event){.kind = STELE_PUT_READ,
		                                                  .len = (uint32_t)m->len,
		                                                  .eof = m->eof});
	}
	pump(p);
}

static void do_read(struct put_job *p, uint32_t piece)
{
	struct piece_memory *m = p->memory;
	while (m->used)
		m++;
	assert(m < p->memory + STELE_PUT_PIECES_IN_MEMORY);
	size_t cap = p->block_len;
	uint64_t before = (uint64_t)piece * p->block_len;
	if (p->length_known != UINT64_MAX && p->length_known >= before &&
	    p->length_known - before < cap)
		cap = (size_t)(p->length_known - before) + 1; /* the end shows at once */
	m->len = 0;
	if (!reserve(m, cap)) {
		fail(p, STELE_ERR_NOMEM, "put: out of memory");
		return;
	}
	m->used = true;
	m->piece = piece;
	m->eof = false;
	p->reading = m;
	stele_job_work(&p->read, &p->req->job, true, read_run, read_done);
}

/* ---- CODE ---- */

static void code_run(struct stele_job_work *w)
{
	struct put_job *p = job_of(w->job);
	struct piece_memory *m = p->being_coded;
	if (p->coding_small) {
		stele_sha256_cells_and_stream(m->bytes, m->len, p->leaf, &p->object);
	} else {
		w->err = stele_block_encode(&m->block, p->code, m->bytes, m->len, &p->object);
		if (w->err != STELE_OK)
			return;
		stele_block_chunks(&m->block, m->bytes, p->leaf);
	}
	for (size_t i = 0; i * STELE_CELL_LEN < m->len; i++)
		stele_merkle_frontier_add(&p->tree, &p->leaf[i]);
}

static void progress(struct put_job *p)
{
	const struct stele_progress *g = &p->req->opts.progress;
	uint64_t n = stele_code_n(p->code),
	         total = p->length_known == UINT64_MAX ? 0 : p->length_known;
	if (g->step && !g->step(g->ctx, p->acked / n, total))
		fail(p, STELE_ERR_CANCELLED, "cancelled");
}

static void code_done(struct stele_job_work *w)
{
	struct put_job *p = job_of(w->job);
	struct piece_memory *m = p->being_coded;
	uint32_t blocks = p->put.nblocks;
	p->being_coded = NULL;
	if (w->err != STELE_OK)
		fail(p, w->err, w->detail);
	else
		stele_put_step(&p->put, &(struct stele_put_event){.kind = STELE_PUT_CODED,
		                                                  .id = &m->block.id,
		                                                  .len = (uint32_t)m->len});
	if (p->put.nblocks == blocks) { /* it is an earlier block once more: nothing is sent */
		p->acked += (uint64_t)m->len * stele_code_n(p->code);
		progress(p);
	}
	pump(p);
}

static void do_code(struct put_job *p, uint32_t piece)
{
	p->being_coded = memory_of(p, piece);
	p->coding_small = p->put.small;
	stele_job_work(&p->coding, &p->req->job, false, code_run, code_done);
}

/* ---- DEPOSIT ---- */

static void fill_deposit(struct put_job *p, struct stele_deposit *d,
                         const struct stele_layout *layout)
{
	struct stele_session *s = p->session;
	const struct stele_put_opts *o = &p->req->opts;
	*d = (struct stele_deposit){.cluster = stele_session_map(s)->cluster,
	                            .type = o->type ? o->type : STELE_DEPOSIT_EVIDENCE,
	                            .object = p->object_id,
	                            .length = p->put.length,
	                            .depositor = s->sign.pub,
	                            .time = (uint64_t)stele_env_wall(s->env),
	                            .has_layout = layout->npieces > 0};
	if (d->has_layout)
		stele_layout_hash(layout, &d->layout);
	stele_merkle_frontier_root(&p->tree, &d->tree);
	snprintf(d->pool, sizeof(d->pool), "%s", o->pool);
	stele_env_random(s->env, d->nonce.b, sizeof(d->nonce.b));
	if (o->template_) {
		d->has_chain = o->template_->has_chain;
		d->chain = o->template_->chain;
		d->has_meta = o->template_->has_meta;
		d->meta = o->template_->meta;
	}
}

static enum stele_err make_record(struct put_job *p, struct stele_piece *piece)
{
	char text[STELE_DEPOSIT_MAX];
	size_t text_len;
	struct stele_record r = {.text = text, .layout = {.piece = piece}};
	const struct stele_hash *expect = p->req->opts.expect;
	stele_sha256_value(&p->object, &p->object_id);
	if (expect && !stele_hash_equal(&p->object_id, expect))
		return stele_fail(STELE_ERR_CORRUPT, "it changed while it was read: put it when "
		                                     "nothing writes to it any more");
	if (p->put.small) {
		r.inline_bytes = p->memory[0].bytes;
		r.inline_len = (uint32_t)p->put.length;
	} else {
		r.layout.npieces = p->put.nread;
		for (uint32_t i = 0; i < p->put.nread; i++)
			piece[i] =
			    (struct stele_piece){.block = p->put.block[p->put.piece[i].block].id,
			                         .len = p->put.piece[i].len};
	}
	fill_deposit(p, &r.deposit, &r.layout);
	STELE_TRY(stele_deposit_encode(&r.deposit, text, &text_len));
	r.text_len = (uint32_t)text_len;
	stele_sign(&p->session->sign, text, text_len, &r.sig);
	stele_deposit_hash(text, text_len, &p->deposit_id);
	return stele_record_encode(&r, p->record, &p->record_len);
}

static void do_deposit(struct put_job *p)
{
	struct stele_piece *piece = calloc(p->put.nread, sizeof(*piece));
	if (!p->record)
		p->record = malloc(STELE_META_MAX);
	enum stele_err err = piece && p->record ? make_record(p, piece)
	                                        : stele_fail(STELE_ERR_NOMEM, "put: out of memory");
	free(piece);
	if (err != STELE_OK)
		fail(p, err, stele_detail());
	else
		stele_put_step(&p->put, &(struct stele_put_event){.kind = STELE_PUT_DEPOSITED,
		                                                  .id = &p->object_id});
}

/* ---- sending ---- */

static void send(struct put_job *p, struct stele_job_call *c, const struct stele_put_action *a,
                 void (*done)(struct stele_job_call *c))
{
	c->unit = a->block;
	c->item = a->item;
	c->at = a->disk.slot;
	p->sent += stele_written(&c->head) + c->body.iov_len;
	stele_job_call_send(c, a->probe ? STELE_PROBE_NS : STELE_CALL_NS, a->delay_ns, done);
}

static struct stele_put_event event_of(const struct stele_job_call *c,
                                       enum stele_put_event_kind kind)
{
	return (struct stele_put_event){.kind = kind,
	                                .block = c->unit,
	                                .item = c->item,
	                                .err = c->call.err,
	                                .node = c->node,
	                                .answered = stele_job_call_answered(c),
	                                .disk = {c->node, (uint16_t)c->at}};
}

static void shard_done(struct stele_job_call *c)
{
	struct put_job *p = job_of(c->job);
	struct stele_put_event ev = event_of(c, STELE_PUT_SHARD);
	if (ev.err == STELE_OK)
		p->acked += p->put.block[c->unit].length;
	stele_put_step(&p->put, &ev);
	progress(p);
	pump(p);
}

static bool send_shard(struct put_job *p, const struct stele_put_action *a)
{
	const struct stele_block *b = &memory_of(p, a->piece)->block;
	size_t meta_len = stele_shard_meta_len(&b->desc);
	uint8_t *meta = malloc(meta_len);
	struct stele_job_call *c =
	    meta ? stele_job_call_new(&p->req->job, a->disk.node, STELE_OPCODE_SHARD_PUT,
	                              meta_len + 128, 0)
	         : NULL;
	if (!c) {
		free(meta);
		return false;
	}
	struct stele_writer w = stele_writer(meta, meta_len);
	stele_shard_meta_write(&w, &b->desc, a->item, b->row);
	struct stele_head_shard_put head = {.slot = a->disk.slot,
	                                    .pool = p->pool,
	                                    .index = (uint8_t)a->item,
	                                    .has_ref = a->with_ref,
	                                    .deposit = p->deposit_id,
	                                    .object = p->object_id,
	                                    .meta = meta,
	                                    .meta_len = (uint32_t)meta_len};
	stele_head_shard_put_encode(&head, &c->head);
	free(meta);
	c->body = (struct iovec){.iov_base = (void *)b->shard[a->item], .iov_len = b->desc.S};
	send(p, c, a, shard_done);
	return true;
}

static void refs_done(struct stele_job_call *c)
{
	struct put_job *p = job_of(c->job);
	struct stele_put_event ev = event_of(c, STELE_PUT_REFS_DONE);
	ev.code = c->call.reply_head;
	ev.ncodes = c->call.reply_head_len;
	stele_put_step(&p->put, &ev);
	pump(p);
}

static bool send_refs(struct put_job *p, const struct stele_put_action *a)
{
	uint32_t block[STELE_PIECES_MAX], n = stele_put_refs(&p->put, a->disk, block);
	const size_t ref_len = 3 * STELE_HASH_LEN;
	uint8_t *refs = malloc(n * ref_len);
	struct stele_job_call *c =
	    refs ? stele_job_call_new(&p->req->job, a->disk.node, STELE_OPCODE_REF_ADD,
	                              64 + n * ref_len, 0)
	         : NULL;
	if (!c) {
		free(refs);
		return false;
	}
	struct stele_writer w = stele_writer(refs, n * ref_len);
	for (uint32_t i = 0; i < n; i++) {
		stele_write_hash(&w, &p->put.block[block[i]].id);
		stele_write_hash(&w, &p->deposit_id);
		stele_write_hash(&w, &p->object_id);
	}
	struct stele_head_ref_add head = {
	    .slot = a->disk.slot, .pool = p->pool, .n = (uint16_t)n, .refs = refs};
	stele_head_ref_add_encode(&head, &c->head);
	free(refs);
	send(p, c, a, refs_done);
	return true;
}

static void record_done(struct stele_job_call *c)
{
	struct put_job *p = job_of(c->job);
	struct stele_put_event ev = event_of(c, STELE_PUT_RECORD_DONE);
	stele_put_step(&p->put, &ev);
	pump(p);
}

static bool send_record(struct put_job *p, const struct stele_put_action *a)
{
	struct stele_job_call *c = stele_job_call_new(
	    &p->req->job, a->disk.node, STELE_OPCODE_RECORD_PUT, p->record_len + 64, 0);
	if (!c)
		return false;
	struct stele_head_record_put head = {
	    .slot = a->disk.slot, .record = p->record, .record_len = (uint32_t)p->record_len};
	stele_head_record_put_encode(&head, &c->head);
	send(p, c, a, record_done);
	return true;
}

static void reloaded(struct stele_job *job, bool changed)
{
	struct put_job *p = job_of(job);
	const struct stele_pool *pool = stele_map_pool(stele_session_map(p->session), p->pool);
	if (!pool || !stele_code_id_equal(pool->code, *stele_code_id(p->code)))
		fail(p, STELE_ERR_STALE, "the pool changed during the put: try again");
	else
		stele_put_step(
		    &p->put, &(struct stele_put_event){.kind = STELE_PUT_MAP, .changed = changed});
	pump(p);
}

/* ---- the end ---- */

static void finish(struct put_job *p)
{
	struct stele_put_request *req = p->req;
	STELE_REQUEST_END(req, p->put.err, p->put.detail);
	req->result = (struct stele_put_result){.object = p->object_id,
	                                        .deposit = p->deposit_id,
	                                        .length = p->put.length,
	                                        .blocks = p->put.nblocks,
	                                        .margin = p->put.margin,
	                                        .bytes_sent = p->sent};
	stele_job_over(&req->job);
}

static void release(struct stele_job *job)
{
	struct stele_put_request *req = (struct stele_put_request *)job;
	struct put_job *p = req->priv;
	req->priv = NULL;
	if (p) {
		for (uint32_t i = 0; i < STELE_PUT_PIECES_IN_MEMORY; i++) {
			forget(&p->memory[i]);
			free(p->memory[i].bytes);
		}
		stele_put_finish(&p->put);
		free(p->leaf);
		free(p->record);
		free(p);
	}
	req->cb(req);
}

static void cancel(struct stele_job *job)
{
	struct put_job *p = job_of(job);
	fail(p, STELE_ERR_CANCELLED, "cancelled");
	pump(p);
}

static void act(struct put_job *p, const struct stele_put_action *a)
{
	bool ok = true;
	switch (a->kind) {
	case STELE_PUT_DO_READ:
		do_read(p, a->piece);
		break;
	case STELE_PUT_DO_CODE:
		do_code(p, a->piece);
		break;
	case STELE_PUT_DO_DEPOSIT:
		do_deposit(p);
		break;
	case STELE_PUT_DO_SHARD:
		ok = send_shard(p, a);
		break;
	case STELE_PUT_DO_REFS:
		ok = send_refs(p, a);
		break;
	case STELE_PUT_DO_RECORD:
		ok = send_record(p, a);
		break;
	case STELE_PUT_DO_RELOAD:
		stele_job_reload(&p->req->job, a->node, reloaded);
		break;
	case STELE_PUT_DO_FORGET:
		forget(memory_of(p, a->piece));
		break;
	case STELE_PUT_DO_END:
		finish(p);
		break;
	}
	if (!ok)
		fail(p, STELE_ERR_NOMEM, "put: out of memory");
}

static void pump(struct put_job *p)
{
	struct stele_put_action a;
	while (stele_put_next(&p->put, &a))
		act(p, &a);
}

/* ---- the beginning ---- */

static void place(void *ctx, bool record, const struct stele_hash *id, struct stele_window *out)
{
	struct put_job *p = ctx;
	uint16_t pool = record ? STELE_POOL_RECORD : p->pool;
	stele_session_window(p->session, stele_map_pool(stele_session_map(p->session), pool), id,
	                     out);
}

static enum stele_err no_pool(const struct stele_map *map, const char *name)
{
	char names[STELE_DETAIL_MAX / 2];
	size_t at = 0;
	names[0] = '\0';
	for (uint32_t i = 0; i < map->npools && at < sizeof(names); i++)
		if (map->pool[i].id > STELE_POOL_LOG)
			at += (size_t)snprintf(names + at, sizeof(names) - at, " %s",
			                       map->pool[i].name);
	return stele_fail(STELE_ERR_USAGE, "no pool is called \"%s\"; the cluster has:%s", name,
	                  names);
}

static enum stele_err begin(struct put_job *p)
{
	struct stele_session *s = p->session;
	struct stele_map *map = stele_session_map(s);
	struct stele_put_opts *o = &p->req->opts;
	if (!o->pool)
		o->pool = "evidence";
	const struct stele_pool *pool = stele_map_pool_named(map, o->pool);
	const struct stele_pool *records = stele_map_pool(map, STELE_POOL_RECORD);
	if (!pool || pool == records)
		return no_pool(map, o->pool);
	if (!records)
		return stele_fail(STELE_ERR_CORRUPT, "the cluster map has no record pool");
	if (!s->may_sign)
		return stele_fail(STELE_ERR_DENIED,
		                  "the key file holds no signing key: deposits need one");
	p->pool = pool->id;
	STELE_TRY(stele_code_find(&pool->code, &p->code));
	p->block_len = (uint32_t)stele_block_len(&pool->code);
	p->leaf = calloc(p->block_len / STELE_CELL_LEN + 1, sizeof(*p->leaf));
	if (!p->leaf)
		return stele_fail(STELE_ERR_NOMEM, "put: out of memory");
	stele_sha256_init(&p->object);
	stele_merkle_frontier_init(&p->tree);
	struct stele_put_config config = {.code = p->code,
	                                  .min_margin = pool->min_margin,
	                                  .copies = (uint32_t)records->code.k + records->code.m,
	                                  .block_len = p->block_len,
	                                  .length = p->length_known,
	                                  .place = place,
	                                  .ctx = p};
	return stele_put_init(&p->put, &config);
}

void stele_session_put(struct stele_session *s, struct stele_put_request *req)
{
	struct put_job *p = calloc(1, sizeof(*p));
	stele_job_start(&req->job, s, cancel, release);
	req->priv = p;
	req->result = (struct stele_put_result){0};
	enum stele_err err = STELE_OK;
	if (p) {
		p->req = req;
		p->session = s;
		p->length_known = req->source.length;
		err = begin(p);
	} else {
		err = stele_fail(STELE_ERR_NOMEM, "put: out of memory");
	}
	if (err == STELE_OK) {
		pump(p);
		return;
	}
	STELE_REQUEST_END(req, err, stele_detail());
	stele_job_over(&req->job);
}
