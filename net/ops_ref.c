/* References beside shards, and the question whether things are here. */
#include <stdlib.h>

#include "net/ops.h"

/* ---- REF_ADD: each reference a write of its own; group commit gathers them ---- */

struct ref_add {
	struct stele_request *req;
	uint32_t n;
	uint32_t waiting;
	uint8_t *code; /* a wire error per reference */
	struct ref_one {
		struct ref_add *all;
		struct stele_store_write write;
		struct stele_item item;
		struct stele_wire_ref ref;
	} one[];
};

static void refs_reply(struct ref_add *a)
{
	stele_reply(a->req, a->code, a->n, NULL, 0, NULL, NULL);
	free(a->code);
	free(a);
}

static void ref_written(struct stele_store_write *w)
{
	struct ref_one *one = w->ctx;
	struct ref_add *a = one->all;
	a->code[one - a->one] = (uint8_t)w->err;
	if (--a->waiting == 0)
		refs_reply(a);
}

static void refs_start(struct ref_add *a, const struct stele_head_ref_add *h)
{
	struct stele_disk *disk;
	a->waiting = a->n + 1; /* one for this loop */
	for (uint32_t i = 0; i < a->n; i++) {
		struct ref_one *one = &a->one[i];
		one->all = a;
		stele_wire_ref_at(h, i, &one->ref);
		enum stele_err err =
		    stele_ops_may_write(a->req, h->slot, h->pool, &one->ref.block, &disk);
		if (err != STELE_OK) {
			a->code[i] = (uint8_t)err;
			a->waiting--;
			continue;
		}
		one->item = (struct stele_item){
		    .key = {.pool = h->pool,
		            .kind = STELE_ENTRY_REF,
		            .id = one->ref.block,
		            .sub = one->ref.deposit},
		    .meta = one->ref.object.b,
		    .meta_len = STELE_HASH_LEN,
		};
		one->write = (struct stele_store_write){
		    .item = &one->item, .n = 1, .cb = ref_written, .ctx = one};
		stele_disk_write(disk, &one->write);
	}
	if (--a->waiting == 0)
		refs_reply(a);
}

void stele_op_ref_add(struct stele_request *req)
{
	struct stele_head_ref_add h;
	enum stele_err err = stele_head_ref_add_decode(req->head, req->head_len, &h);
	if (err == STELE_OK && req->epoch != stele_map_epoch(stele_node_map(stele_req_node(req))))
		err = stele_fail(STELE_ERR_STALE, "references sent under another map epoch");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	struct ref_add *a = calloc(1, sizeof(*a) + h.n * sizeof(a->one[0]));
	uint8_t *code = calloc(h.n ? h.n : 1, 1);
	if (!a || !code) {
		free(a);
		free(code);
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "references: out of memory"));
		return;
	}
	a->req = req;
	a->n = h.n;
	a->code = code;
	refs_start(a, &h);
}

/* ---- HAVE ---- */

struct have {
	struct stele_request *req;
	struct stele_store_have have;
	struct stele_key key[STELE_HAVE_MAX];
	bool out[STELE_HAVE_MAX];
	uint8_t answer[STELE_HAVE_MAX];
};

static void have_done(struct stele_store_have *h)
{
	struct have *ctx = h->ctx;
	for (uint32_t i = 0; i < h->n; i++)
		ctx->answer[i] = h->out[i];
	if (h->err == STELE_OK)
		stele_reply(ctx->req, ctx->answer, h->n, NULL, 0, NULL, NULL);
	else
		stele_ops_fail(ctx->req, h->err, "index");
	free(ctx);
}

void stele_op_have(struct stele_request *req)
{
	struct stele_reader r = stele_reader(req->head, req->head_len);
	uint16_t slot = stele_read_le16(&r), n = stele_read_le16(&r);
	struct have *ctx = n <= STELE_HAVE_MAX ? calloc(1, sizeof(*ctx)) : NULL;
	for (uint32_t i = 0; ctx && i < n; i++)
		stele_read_key(&r, &ctx->key[i]);
	struct stele_disk *disk;
	enum stele_err err = STELE_OK;
	if (n > STELE_HAVE_MAX || !stele_read_done(&r))
		err = stele_fail(STELE_ERR_INVALID, "HAVE: head is not slot, count, keys");
	else if (!ctx)
		err = stele_fail(STELE_ERR_NOMEM, "HAVE: out of memory");
	else
		err = stele_ops_disk(req, slot, &disk);
	if (err != STELE_OK) {
		free(ctx);
		stele_reply_error(req, err);
		return;
	}
	ctx->req = req;
	ctx->have = (struct stele_store_have){
	    .key = ctx->key, .n = n, .out = ctx->out, .cb = have_done, .ctx = ctx};
	stele_disk_have(disk, &ctx->have);
}
