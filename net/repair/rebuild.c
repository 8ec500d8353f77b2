/* One shard rebuilt at its target: have -> meta -> refs -> pull -> decode (worker) -> append. Which
 * shard goes where is the primary's decision, not this file's. */
#include "net/repair/rebuild.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "erasure/shard_meta.h"
#include "storage/base/crc.h"
#include "storage/base/sha256.h"

#define CELLS_PER_BUF (STELE_BUF_LEN / STELE_CELL_LEN)
#define BUFS_MAX      (STELE_SHARD_LEN_MAX / STELE_BUF_LEN)
#define REFS_WITH                                                                                  \
	256u /* references that travel in the shard's own write; repair brings any others later */
#define RESERVE                                                                                    \
	16u /* buffers left for whoever reads here: two nodes that rebuild from each other must not starve */
#define TRIES_MAX    100u
#define PAUSE_NS     (20ull * 1000 * 1000) /* and up to four times that, by chance */
#define REF_LIST_LEN (REFS_WITH * 160u)    /* bytes of a reply that lists so many */
#define CALL_NS      (30ull * 1000 * 1000 * 1000)

struct ref {
	struct stele_hash deposit, object;
};

struct pull { /* a call to one helper */
	struct job *job;
	uint32_t helper;
	struct stele_call call;
	uint8_t head[256];
	struct iovec iov[BUFS_MAX];
};

struct job {
	struct stele_rebuild *r;
	struct stele_map *map;
	uint64_t alive; /* helpers (by number) not yet found wanting */
	uint32_t next_meta;
	uint32_t waiting;
	const struct stele_code *code;
	struct stele_descriptor desc;
	uint32_t cells, nbuf; /* of one shard */
	struct stele_hash *rows;
	uint8_t *meta; /* descriptor, own row, others: as the store wants it */
	uint32_t meta_len;
	struct ref *ref;
	uint32_t nref;
	struct stele_plan plan;
	uint32_t from[STELE_CODE_K_MAX]; /* helper of each shard that the plan reads */
	struct stele_buf *in[STELE_CODE_K_MAX][BUFS_MAX];
	struct stele_buf *out[BUFS_MAX];
	struct iovec out_iov[BUFS_MAX];
	uint32_t *crc;
	uint64_t bad; /* helpers whose bytes failed */
	struct stele_op work;
	struct stele_op timer;
	uint32_t tries; /* pauses because somebody was busy */
	bool busy;
	struct stele_store_have have;
	struct stele_key key;
	bool present;
	struct stele_store_write write;
	struct stele_item *item;
	struct pull pull[STELE_CODE_N_MAX];
	uint8_t *ref_lists; /* a list reply from each helper */
};

static void give_bufs(struct job *j)
{
	for (uint32_t i = 0; i < STELE_CODE_K_MAX; i++)
		for (uint32_t b = 0; b < BUFS_MAX; b++) {
			stele_buf_give(j->in[i][b]);
			j->in[i][b] = NULL;
		}
	for (uint32_t b = 0; b < BUFS_MAX; b++) {
		stele_buf_give(j->out[b]);
		j->out[b] = NULL;
	}
}

static void end(struct job *j, enum stele_err err, const char *detail)
{
	struct stele_rebuild *r = j->r;
	r->err = err;
	snprintf(r->detail, sizeof(r->detail), "%s", detail);
	r->bad = 0;
	for (uint32_t i = 0; i < r->nhelpers; i++)
		if (j->bad >> i & 1)
			r->bad |= 1ull << r->helper[i].index;
	give_bufs(j);
	stele_map_unref(j->map);
	free(j->rows);
	free(j->meta);
	free(j->ref);
	free(j->ref_lists);
	free(j->crc);
	free(j->item);
	free(j);
	r->cb(r);
}

static void call_helper(struct pull *p, uint16_t op, size_t head_len,
                        void (*cb)(struct stele_call *call))
{
	p->call.op = op;
	p->call.head = p->head;
	p->call.head_len = (uint32_t)head_len;
	p->call.timeout_ns = CALL_NS;
	p->call.cb = cb;
	p->call.ctx = p;
	stele_peers_call(p->job->r->peers, p->job->r->helper[p->helper].node, &p->call);
}

/* ---- meta: the descriptor and all rows, from the first helper whose bytes fit the block's id ----
 */

static void ask_meta(struct job *j);
static void ask_refs(struct job *j);

static enum stele_err take_meta(struct job *j, uint32_t index, const uint8_t *bytes, uint32_t len)
{
	struct stele_hash *row[STELE_CODE_N_MAX];
	STELE_TRY(stele_shard_meta_read(bytes, len, &j->r->block, index, &j->desc, &j->rows));
	j->cells = stele_descriptor_cells(&j->desc);
	j->nbuf = (j->cells + CELLS_PER_BUF - 1) / CELLS_PER_BUF;
	if (j->r->index >= j->desc.n)
		return stele_fail(STELE_ERR_CORRUPT, "the block has no shard %u", j->r->index);
	STELE_TRY(stele_code_find(&j->desc.code, &j->code));
	j->meta = malloc(len);
	j->crc = calloc(j->cells, sizeof(*j->crc));
	if (!j->meta || !j->crc)
		return stele_fail(STELE_ERR_NOMEM, "rebuild: out of memory");
	for (uint32_t i = 0; i < stele_descriptor_roots(&j->desc); i++)
		row[i] = j->rows + (size_t)i * j->cells;
	struct stele_writer w = stele_writer(j->meta, len);
	stele_shard_meta_write(&w, &j->desc, j->r->index, row);
	j->meta_len = (uint32_t)stele_written(&w);
	return STELE_OK;
}

static void got_meta(struct stele_call *call)
{
	struct pull *p = call->ctx;
	struct job *j = p->job;
	enum stele_err err = call->err;
	if (err == STELE_OK)
		err = take_meta(j, j->r->helper[p->helper].index, call->reply_head,
		                call->reply_head_len);
	if (err == STELE_OK) {
		ask_refs(j);
		return;
	}
	free(j->rows);
	free(j->meta);
	free(j->crc);
	j->rows = NULL;
	j->meta = NULL;
	j->crc = NULL;
	if (err == STELE_ERR_CORRUPT)
		j->bad |= 1ull << p->helper;
	j->alive &= ~(1ull << p->helper);
	ask_meta(j);
}

static void ask_meta(struct job *j)
{
	while (j->next_meta < j->r->nhelpers && !(j->alive >> j->next_meta & 1))
		j->next_meta++;
	if (j->next_meta == j->r->nhelpers) {
		end(j, STELE_ERR_UNAVAILABLE, "no helper gave the block's descriptor");
		return;
	}
	struct pull *p = &j->pull[j->next_meta++];
	const struct stele_wire_helper *h = &j->r->helper[p->helper];
	struct stele_head_shard_get get = {.slot = h->slot,
	                                   .pool = j->r->pool,
	                                   .index = h->index,
	                                   .want_meta = true,
	                                   .block = j->r->block};
	struct stele_writer w = stele_writer(p->head, sizeof(p->head));
	stele_head_shard_get_encode(&get, &w);
	p->call = (struct stele_call){0};
	call_helper(p, STELE_OPCODE_SHARD_GET, stele_written(&w), got_meta);
}

/* ---- refs: the union over the helpers, so that the new shard knows what needs it ---- */

static void pull_shards(struct job *j);

static void add_ref(struct job *j, const struct stele_listed *it)
{
	if (it->meta_len != STELE_HASH_LEN || j->nref == REFS_WITH)
		return;
	for (uint32_t i = 0; i < j->nref; i++)
		if (stele_hash_equal(&j->ref[i].deposit, &it->key.sub))
			return;
	j->ref[j->nref].deposit = it->key.sub;
	memcpy(j->ref[j->nref].object.b, it->meta, STELE_HASH_LEN);
	j->nref++;
}

static void got_refs(struct stele_call *call)
{
	struct pull *p = call->ctx;
	struct job *j = p->job;
	struct stele_head_listed head;
	if (call->err == STELE_OK &&
	    stele_head_listed_decode(call->reply_head, call->reply_head_len, &head) == STELE_OK) {
		struct stele_reader r = stele_reader(
		    j->ref_lists + (size_t)p->helper * REF_LIST_LEN, call->reply_body_len);
		for (uint32_t i = 0; i < head.n; i++) {
			struct stele_listed it;
			stele_read_listed(&r, &it);
			if (r.bad)
				break;
			add_ref(j, &it);
		}
	}
	if (--j->waiting == 0)
		pull_shards(j);
}

static void ask_refs(struct job *j)
{
	j->ref = calloc(REFS_WITH, sizeof(*j->ref));
	j->ref_lists = malloc((size_t)j->r->nhelpers * REF_LIST_LEN);
	if (!j->ref || !j->ref_lists) {
		end(j, STELE_ERR_NOMEM, "rebuild: out of memory");
		return;
	}
	j->waiting = 1;
	for (uint32_t i = 0; i < j->r->nhelpers; i++) {
		struct pull *p = &j->pull[i];
		if (!(j->alive >> i & 1))
			continue;
		struct stele_head_list list = {
		    .slot = j->r->helper[i].slot,
		    .pool = j->r->pool,
		    .first = j->r->block,
		    .last = j->r->block,
		    .kinds = STELE_KIND_BIT(STELE_ENTRY_REF),
		    .want_meta = true,
		    .max = REFS_WITH,
		};
		struct stele_writer w = stele_writer(p->head, sizeof(p->head));
		stele_head_list_encode(&list, &w);
		p->iov[0] = (struct iovec){.iov_base = j->ref_lists + (size_t)i * REF_LIST_LEN,
		                           .iov_len = REF_LIST_LEN};
		p->call = (struct stele_call){.into = p->iov, .ninto = 1};
		j->waiting++;
		call_helper(p, STELE_OPCODE_LIST, stele_written(&w), got_refs);
	}
	if (--j->waiting == 0)
		pull_shards(j);
}

/* ---- pull ---- */

static void decode(struct job *j);
static void pause_and_pull(struct job *j);

static void got_shard(struct stele_call *call)
{
	struct pull *p = call->ctx;
	struct job *j = p->job;
	if (call->err == STELE_ERR_BUSY)
		j->busy = true;
	else if (call->err != STELE_OK || call->reply_body_len != j->desc.S)
		j->alive &= ~(1ull << p->helper);
	else
		j->r->bytes_read += call->reply_body_len;
	if (--j->waiting > 0)
		return;
	if (j->busy) {
		j->busy = false;
		pause_and_pull(j);
		return;
	}
	for (uint32_t i = 0; i < j->plan.nread; i++)
		if (!(j->alive >> j->from[i] & 1)) {
			pull_shards(j); /* plan again without it */
			return;
		}
	decode(j);
}

static uint32_t helper_of(const struct job *j, uint32_t index)
{
	for (uint32_t i = 0; i < j->r->nhelpers; i++)
		if (j->r->helper[i].index == index && (j->alive >> i & 1))
			return i;
	assert(!"the plan reads a shard that no helper has");
	return 0;
}

static void paused(struct stele_op *op)
{
	struct job *j = op->ctx;
	if (op->result < 0)
		end(j, STELE_ERR_CANCELLED, "the node is stopping");
	else
		pull_shards(j);
}

/* Busy is not broken: everything is given back, and asked for again a little later. */
static void pause_and_pull(struct job *j)
{
	give_bufs(j);
	if (j->tries++ == TRIES_MAX) {
		end(j, STELE_ERR_BUSY, "the helpers or this node have no buffers to spare");
		return;
	}
	struct stele_env *env = j->r->env;
	uint64_t pause = PAUSE_NS + stele_env_random_u64(env) % (3 * PAUSE_NS);
	j->timer = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(env) + pause, .cb = paused, .ctx = j};
	stele_env_submit(env, &j->timer);
}

static bool take_bufs(struct job *j)
{
	give_bufs(j);
	/* All at once (see buf.h): one flat array, dealt out. */
	struct stele_buf *all[(STELE_CODE_K_MAX + 1) * BUFS_MAX];
	uint32_t n = (j->plan.nread + 1) * j->nbuf, at = 0;
	if (stele_buf_pool_free(j->r->bufs) < n + RESERVE || !stele_buf_take(j->r->bufs, n, all))
		return false;
	for (uint32_t i = 0; i < j->plan.nread; i++)
		for (uint32_t b = 0; b < j->nbuf; b++)
			j->in[i][b] = all[at++];
	for (uint32_t b = 0; b < j->nbuf; b++)
		j->out[b] = all[at++];
	return true;
}

static void pull_shards(struct job *j)
{
	uint64_t have = 0;
	for (uint32_t i = 0; i < j->r->nhelpers; i++)
		if (j->alive >> i & 1)
			have |= 1ull << j->r->helper[i].index;
	if (stele_code_plan(j->code, have, 1ull << j->r->index, &j->plan) != STELE_OK) {
		char detail[STELE_DETAIL_MAX];
		snprintf(detail, sizeof(detail),
		         "too few good shards: %d of the %u that were offered, %u are needed",
		         __builtin_popcountll(have), j->r->nhelpers, stele_code_k(j->code));
		end(j, STELE_ERR_UNAVAILABLE, detail);
		return;
	}
	if (!take_bufs(j)) {
		pause_and_pull(j);
		return;
	}
	j->waiting = j->plan.nread;
	for (uint32_t i = 0; i < j->plan.nread; i++)
		j->from[i] = helper_of(j, j->plan.read[i]);
	for (uint32_t i = 0; i < j->plan.nread; i++) {
		struct pull *p = &j->pull[j->from[i]];
		struct stele_head_shard_get get = {.slot = j->r->helper[p->helper].slot,
		                                   .pool = j->r->pool,
		                                   .index = j->plan.read[i],
		                                   .block = j->r->block,
		                                   .cells = j->cells};
		struct stele_writer w = stele_writer(p->head, sizeof(p->head));
		stele_head_shard_get_encode(&get, &w);
		for (uint32_t b = 0; b < j->nbuf; b++)
			p->iov[b] =
			    (struct iovec){.iov_base = j->in[i][b]->data, .iov_len = STELE_BUF_LEN};
		p->call = (struct stele_call){.into = p->iov, .ninto = j->nbuf};
		call_helper(p, STELE_OPCODE_SHARD_GET, stele_written(&w), got_shard);
	}
}

/* ---- decode, check, append ---- */

static uint64_t buf_part(const struct job *j, uint32_t b)
{
	uint64_t at = (uint64_t)b * STELE_BUF_LEN;
	return j->desc.S - at < STELE_BUF_LEN ? j->desc.S - at : STELE_BUF_LEN;
}

bool stele_rebuild_matches(const struct stele_descriptor *d, const struct stele_hash *rows,
                           uint32_t index, struct stele_buf *const *buf)
{
	struct stele_hash leaf[CELLS_PER_BUF];
	const struct stele_hash *row = stele_shard_meta_row(d, rows, index);
	for (uint64_t at = 0; at < d->S; at += STELE_BUF_LEN, row += CELLS_PER_BUF, buf++) {
		uint64_t len = d->S - at < STELE_BUF_LEN ? d->S - at : STELE_BUF_LEN;
		uint64_t n = (len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
		stele_sha256_cells((*buf)->data, len, leaf);
		if (memcmp(leaf, row, n * sizeof(leaf[0])) != 0)
			return false;
	}
	return true;
}

static void decode_work(struct stele_op *op) /* on a worker */
{
	struct job *j = op->ctx;
	for (uint32_t b = 0; b < j->nbuf; b++) {
		const uint8_t *in[STELE_CODE_K_MAX];
		uint8_t *out[1] = {j->out[b]->data};
		uint64_t len = buf_part(j, b);
		for (uint32_t i = 0; i < j->plan.nread; i++)
			in[i] = j->in[i][b]->data;
		stele_code_apply(&j->plan, len, in, out);
		memset(out[0] + len, 0, stele_round_up(len, STELE_PAGE) - len);
		for (uint64_t at = 0; at < len; at += STELE_CELL_LEN)
			j->crc[(b * STELE_BUF_LEN + at) / STELE_CELL_LEN] = stele_crc32c(
			    out[0] + at, len - at < STELE_CELL_LEN ? len - at : STELE_CELL_LEN, 0);
	}
	j->present = stele_rebuild_matches(&j->desc, j->rows, j->r->index, j->out);
	if (j->present)
		return;
	for (uint32_t i = 0; i < j->plan.nread; i++)
		if (!stele_rebuild_matches(&j->desc, j->rows, j->plan.read[i], j->in[i]))
			j->bad |= 1ull << j->from[i];
}

static void appended(struct stele_store_write *w)
{
	struct job *j = w->ctx;
	if (w->err == STELE_OK)
		j->r->bytes_written += j->desc.S;
	end(j, w->err, w->detail);
}

static void append(struct job *j)
{
	j->item = calloc(1 + j->nref, sizeof(*j->item));
	if (!j->item) {
		end(j, STELE_ERR_NOMEM, "rebuild: out of memory");
		return;
	}
	for (uint32_t b = 0; b < j->nbuf; b++)
		j->out_iov[b] =
		    (struct iovec){.iov_base = j->out[b]->data, .iov_len = buf_part(j, b)};
	j->item[0] = (struct stele_item){
	    .key = j->key,
	    .meta = j->meta,
	    .meta_len = j->meta_len,
	    .data = j->out_iov,
	    .ndata = j->nbuf,
	    .data_len = j->desc.S,
	    .crc = j->crc,
	};
	for (uint32_t i = 0; i < j->nref; i++)
		j->item[1 + i] = (struct stele_item){
		    .key = {.pool = j->r->pool,
		            .kind = STELE_ENTRY_REF,
		            .id = j->r->block,
		            .sub = j->ref[i].deposit},
		    .meta = j->ref[i].object.b,
		    .meta_len = STELE_HASH_LEN,
		};
	j->write = (struct stele_store_write){
	    .item = j->item, .n = 1 + j->nref, .class = STELE_REPAIR, .cb = appended, .ctx = j};
	stele_disk_write(j->r->target, &j->write);
}

static void decoded(struct stele_op *op)
{
	struct job *j = op->ctx;
	if (op->result < 0) {
		end(j, STELE_ERR_CANCELLED, "the node is stopping");
	} else if (j->present) {
		append(j);
	} else if (!(j->bad & j->alive)) {
		/* Every input held its hashes and the result did not: rows and code disagree. */
		end(j, STELE_ERR_CORRUPT,
		    "good shards do not decode to the root in the descriptor");
	} else {
		j->alive &= ~j->bad;
		pull_shards(j);
	}
}

static void decode(struct job *j)
{
	j->work =
	    (struct stele_op){.kind = STELE_OP_WORK, .work = decode_work, .cb = decoded, .ctx = j};
	stele_env_submit(j->r->env, &j->work);
}

static void looked(struct stele_store_have *h)
{
	struct job *j = h->ctx;
	if (h->err != STELE_OK)
		end(j, h->err, "index");
	else if (j->present)
		end(j, STELE_OK, "");
	else
		ask_meta(j);
}

void stele_rebuild_start(struct stele_rebuild *r)
{
	assert(r->nhelpers <= STELE_CODE_N_MAX);
	struct job *j = calloc(1, sizeof(*j));
	r->bytes_read = r->bytes_written = 0;
	r->bad = 0;
	if (!j) {
		r->err = STELE_ERR_NOMEM;
		snprintf(r->detail, sizeof(r->detail), "rebuild: out of memory");
		r->cb(r);
		return;
	}
	j->r = r;
	j->map = stele_map_ref(stele_peers_map(r->peers));
	j->alive = r->nhelpers == 64 ? ~0ull : (1ull << r->nhelpers) - 1;
	for (uint32_t i = 0; i < r->nhelpers; i++) {
		j->pull[i].job = j;
		j->pull[i].helper = i;
	}
	j->key = (struct stele_key){
	    .pool = r->pool, .kind = STELE_ENTRY_SHARD, .index = r->index, .id = r->block};
	j->have = (struct stele_store_have){
	    .key = &j->key, .n = 1, .out = &j->present, .cb = looked, .ctx = j};
	stele_disk_have(r->target, &j->have);
}
