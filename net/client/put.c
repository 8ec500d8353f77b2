/*
 * The decisions of a put: what is read, coded, sent, sent elsewhere, referenced, recorded,
 * acknowledged or given up. Bytes, nodes and time are session_put.c's.
 */
#include "net/client/put.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REFUSALS_MAX 3u

/* ---- the end ---- */

STELE_PRINTF(3, 4)
static void end(struct stele_put *put, enum stele_err err, const char *fmt, ...)
{
	if (put->phase == STELE_PUT_ENDED)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(put->detail, sizeof(put->detail), fmt, ap);
	va_end(ap);
	put->err = err;
	put->phase = STELE_PUT_ENDED;
}

/* Full width suffices whatever the pool asks; less must leave the pool's least margin (P2). */
static bool block_enough(const struct stele_put *put, const struct stele_put_block *b)
{
	return stele_put_block_full(b) ||
	       stele_put_block_margin(b, put->config.code) >= (int)put->config.min_margin;
}

/* ---- suspects: nodes that did not answer ---- */

static uint64_t suspects_of(const struct stele_put *put, const struct stele_window *w)
{
	uint64_t mask = 0;
	for (uint32_t i = 0; i < w->n; i++)
		for (uint32_t s = 0; s < put->nsuspects; s++)
			if (put->suspect[s] == w->disk[i].node)
				mask |= 1ull << i;
	return mask;
}

static void judge_node(struct stele_put *put, const struct stele_put_event *ev)
{
	uint32_t i = 0;
	while (i < put->nsuspects && put->suspect[i] != ev->node)
		i++;
	if (ev->answered || ev->err == STELE_OK) {
		if (i < put->nsuspects)
			put->suspect[i] = put->suspect[--put->nsuspects];
	} else if (i == put->nsuspects && i < STELE_PUT_SUSPECTS_MAX) {
		put->suspect[put->nsuspects++] = ev->node;
	}
	if (ev->err == STELE_ERR_STALE) {
		put->stale = true;
		put->stale_node = ev->node;
	}
}

/* ---- pieces and blocks ---- */

static bool grow(void **array, uint32_t *cap, uint32_t need, size_t size)
{
	if (need <= *cap)
		return true;
	uint32_t n = *cap ? *cap * 2 : 4;
	void *grown = realloc(*array, n * size);
	if (!grown)
		return false;
	*array = grown;
	*cap = n;
	return true;
}

/* A lone block's bytes are kept to the end: a holder that goes is replaced even then. */
static bool single(const struct stele_put *put)
{
	return put->eof && !put->small && put->nread == 1;
}

static void on_read(struct stele_put *put, const struct stele_put_event *ev)
{
	put->reading = false;
	put->eof = ev->eof;
	put->length += ev->len;
	put->small = ev->eof && put->nread == 0 && ev->len <= STELE_INLINE_MAX;
	if (ev->len == 0 && !put->small) {
		put->in_memory--;
		return;
	}
	if (put->nread == STELE_PIECES_MAX) {
		end(put, STELE_ERR_TOO_LARGE, "the object is longer than %u blocks of %u bytes",
		    STELE_PIECES_MAX, put->config.block_len);
		return;
	}
	if (!grow((void **)&put->piece, &put->pieces_cap, put->nread + 1, sizeof(*put->piece))) {
		end(put, STELE_ERR_NOMEM, "put: out of memory");
		return;
	}
	put->piece[put->nread++].len = ev->len;
}

static void on_coded(struct stele_put *put, const struct stele_put_event *ev)
{
	uint32_t piece = put->ncoded++, b = 0;
	put->coding = false;
	if (put->small)
		return;
	while (b < put->nblocks && !stele_hash_equal(&put->block[b].id, ev->id))
		b++;
	put->piece[piece].block = b;
	if (b < put->nblocks) {
		put->forget = true;
		put->forget_piece = piece;
		return;
	}
	if (!grow((void **)&put->block, &put->blocks_cap, b + 1, sizeof(*put->block))) {
		end(put, STELE_ERR_NOMEM, "put: out of memory");
		return;
	}
	put->block[put->nblocks++] = (struct stele_put_block){
	    .id = *ev->id, .length = ev->len, .piece = piece, .in_memory = true};
}

/* The first block waits until it is known whether it is a lone one. */
static void place_blocks(struct stele_put *put)
{
	bool known = put->nread > 1 || put->eof;
	for (uint32_t i = 0; i < put->nblocks && known; i++) {
		struct stele_put_block *b = &put->block[i];
		struct stele_window w;
		if (b->placed)
			continue;
		put->config.place(put->config.ctx, false, &b->id, &w);
		stele_spread_init(&b->spread, &w, stele_code_n(put->config.code),
		                  suspects_of(put, &w));
		b->placed = true;
	}
}

static void on_shard(struct stele_put *put, const struct stele_put_event *ev)
{
	struct stele_put_block *b = &put->block[ev->block];
	stele_spread_result(&b->spread, ev->item, ev->err);
	if (ev->err == STELE_OK && put->deposit_made)
		b->ref_held |= 1ull << ev->item; /* it came along */
}

/* ---- references ---- */

/* The shards whose references are under way to the disk, in order. each() may change the block. */
static uint32_t each_ref(struct stele_put *put, struct stele_window_disk disk,
                         void (*each)(struct stele_put *put, struct stele_put_block *b,
                                      uint32_t item, uint32_t i, const void *ctx),
                         const void *ctx)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < put->nblocks; i++) {
		struct stele_put_block *b = &put->block[i];
		for (uint32_t item = 0; b->ref_sent && item < b->spread.n; item++)
			if (b->ref_sent >> item & 1 && stele_put_block_at(b, item, disk)) {
				each(put, b, item, n++, ctx);
				break; /* a disk holds one shard of a block */
			}
	}
	return n;
}

static void ref_done(struct stele_put *put, struct stele_put_block *b, uint32_t item, uint32_t i,
                     const void *ctx)
{
	const struct stele_put_event *ev = ctx;
	enum stele_err err = ev->err;
	if (err == STELE_OK)
		err = i < ev->ncodes ? (enum stele_err)ev->code[i] : STELE_ERR_PROTOCOL;
	if (err == STELE_ERR_STALE) {
		put->stale = true;
		put->stale_node = ev->node;
	}
	stele_put_block_ref_result(b, item, err);
}

static void ref_list(struct stele_put *put, struct stele_put_block *b, uint32_t item, uint32_t i,
                     const void *ctx)
{
	(void)item;
	uint32_t *const *out = ctx;
	(*out)[i] = (uint32_t)(b - put->block);
}

uint32_t stele_put_refs(const struct stele_put *put, struct stele_window_disk disk, uint32_t *block)
{
	return each_ref((struct stele_put *)put, disk, ref_list, &block);
}

/* ---- the map ---- */

static void on_map(struct stele_put *put, bool changed)
{
	struct stele_window w;
	put->reloading = put->stale = false;
	for (uint32_t i = 0; i < put->nblocks; i++) {
		struct stele_put_block *b = &put->block[i];
		if (changed)
			put->config.place(put->config.ctx, false, &b->id, &w);
		if (b->placed)
			stele_put_block_map(b, changed ? &w : NULL);
	}
	if (put->record_placed && changed) {
		put->config.place(put->config.ctx, true, &put->object, &w);
		stele_spread_replace(&put->record, &w, true);
		put->phase = STELE_PUT_REFS; /* blocks may have lost holders */
	} else if (put->record_placed) {
		stele_spread_unstale(&put->record);
	}
}

/* ---- the record ---- */

static bool record_refused(const struct stele_put *put)
{
	for (uint32_t i = 0; i < put->record.window.n; i++)
		if (put->record.err[i] == STELE_ERR_REFUSED)
			return true;
	return false;
}

/* P3: a disk has refused this deposit for good, because somebody found its shards without a record.
 * A new deposit is another one: its references and record are made anew. */
static void start_over(struct stele_put *put)
{
	if (++put->refusals > REFUSALS_MAX) {
		end(put, STELE_ERR_UNAVAILABLE, "the record was refused %u times", put->refusals);
		return;
	}
	put->deposit_asked = put->deposit_made = put->record_placed = false;
	for (uint32_t i = 0; i < put->nblocks; i++)
		put->block[i].ref_held = 0;
	put->phase = STELE_PUT_REFS;
}

static void place_record(struct stele_put *put)
{
	struct stele_window w;
	if (put->record_placed)
		return;
	put->config.place(put->config.ctx, true, &put->object, &w);
	stele_spread_init(&put->record, &w, put->config.copies, suspects_of(put, &w));
	put->record_placed = true;
}

static bool record_over(const struct stele_put *put)
{
	return stele_spread_settled(&put->record) ||
	       (record_refused(put) && !stele_spread_sending(&put->record));
}

static void finish_record(struct stele_put *put)
{
	uint32_t copies = (uint32_t)__builtin_popcountll(stele_spread_held(&put->record));
	if (record_refused(put)) {
		start_over(put);
		return;
	}
	if (copies < put->config.copies && copies < put->config.min_margin + 1) {
		char why[STELE_DETAIL_MAX / 2];
		stele_spread_describe(&put->record, why, sizeof(why));
		end(put,
		    stele_spread_denied(&put->record) ? STELE_ERR_DENIED : STELE_ERR_UNAVAILABLE,
		    "the record could be stored on %u disks, %u are needed (%s)", copies,
		    put->config.min_margin + 1, why);
		return;
	}
	bool full = copies == put->config.copies;
	put->margin = (int)copies - 1;
	for (uint32_t i = 0; i < put->nblocks; i++) {
		int margin = stele_put_block_margin(&put->block[i], put->config.code);
		full = full && stele_put_block_full(&put->block[i]);
		put->margin = margin < put->margin ? margin : put->margin;
	}
	if (full)
		end(put, STELE_OK, "%s", "");
	else
		end(put, STELE_ERR_DEGRADED, "stored, but it survives only %d more losses for now",
		    put->margin);
}

/* ---- phases ---- */

static bool blocks_ok(struct stele_put *put, bool refs)
{
	for (uint32_t i = 0; i < put->nblocks; i++) {
		struct stele_put_block *b = &put->block[i];
		if (!b->placed || !stele_spread_settled(&b->spread))
			return false;
		if (!block_enough(put, b)) {
			char why[STELE_DETAIL_MAX];
			enum stele_err err = stele_put_block_describe(b, i, why, sizeof(why));
			end(put, err, "%s", why);
			return false;
		}
		if (refs && stele_spread_held(&b->spread) & ~b->ref_held)
			return false;
	}
	return true;
}

static void advance(struct stele_put *put)
{
	place_blocks(put);
	bool coded = put->eof && put->ncoded == put->nread && !put->coding;
	if (put->phase == STELE_PUT_STREAM && blocks_ok(put, false) && coded)
		put->phase = STELE_PUT_REFS;
	if (put->phase == STELE_PUT_REFS && put->deposit_made && blocks_ok(put, true)) {
		put->phase = STELE_PUT_RECORD;
		place_record(put);
	}
	if (put->phase == STELE_PUT_RECORD && record_over(put))
		finish_record(put);
}

static void apply(struct stele_put *put, const struct stele_put_event *ev)
{
	switch (ev->kind) {
	case STELE_PUT_READ:
		on_read(put, ev);
		break;
	case STELE_PUT_CODED:
		on_coded(put, ev);
		break;
	case STELE_PUT_DEPOSITED:
		put->deposit_made = true;
		put->object = *ev->id;
		break;
	case STELE_PUT_SHARD:
		put->sending--;
		judge_node(put, ev);
		on_shard(put, ev);
		break;
	case STELE_PUT_REFS_DONE:
		put->sending--;
		judge_node(put, ev);
		each_ref(put, ev->disk, ref_done, ev);
		break;
	case STELE_PUT_RECORD_DONE:
		put->sending--;
		judge_node(put, ev);
		stele_spread_result(&put->record, ev->item, ev->err);
		break;
	case STELE_PUT_MAP:
		on_map(put, ev->changed);
		break;
	case STELE_PUT_FAIL:
		end(put, ev->err, "%s", ev->detail);
		break;
	}
}

void stele_put_step(struct stele_put *put, const struct stele_put_event *event)
{
	if (put->phase == STELE_PUT_ENDED)
		return;
	apply(put, event);
	if (put->phase != STELE_PUT_ENDED)
		advance(put);
}

/* ---- actions ---- */

static bool next_local(struct stele_put *put, struct stele_put_action *out)
{
	if (put->forget) {
		put->forget = false;
		put->in_memory--;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_FORGET,
		                                 .piece = put->forget_piece};
		return true;
	}
	for (uint32_t i = 0; i < put->nblocks && !single(put); i++) {
		struct stele_put_block *b = &put->block[i];
		if (!b->in_memory || !b->placed || !stele_spread_settled(&b->spread))
			continue;
		b->in_memory = false;
		put->in_memory--;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_FORGET, .piece = b->piece};
		return true;
	}
	if (put->ncoded < put->nread && !put->coding && (put->eof || !put->small)) {
		put->coding = true;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_CODE, .piece = put->ncoded};
		return true;
	}
	if (!put->eof && !put->reading && put->in_memory < STELE_PUT_PIECES_IN_MEMORY) {
		put->reading = true;
		put->in_memory++;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_READ, .piece = put->nread};
		return true;
	}
	/* A reference makes a block count (P3), so it follows the shards even of a lone block: a put that
	 * ends halfway leaves none whose margin would alarm somebody. */
	bool small = put->small && put->ncoded == 1;
	if (!put->deposit_asked && (small || put->phase == STELE_PUT_REFS)) {
		put->deposit_asked = true;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_DEPOSIT};
		return true;
	}
	return false;
}

static bool next_shard(struct stele_put *put, struct stele_put_action *out)
{
	struct stele_spread_send send;
	for (uint32_t i = 0; i < put->nblocks; i++) {
		if (!put->block[i].placed || !stele_spread_next(&put->block[i].spread, &send))
			continue;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_SHARD,
		                                 .piece = put->block[i].piece,
		                                 .block = i,
		                                 .item = send.item,
		                                 .disk = send.disk,
		                                 .with_ref = put->deposit_made,
		                                 .probe = send.probe,
		                                 .delay_ns = send.delay_ns};
		return true;
	}
	return false;
}

static bool next_refs(struct stele_put *put, struct stele_put_action *out)
{
	bool found = false;
	for (uint32_t i = 0; i < put->nblocks; i++) {
		struct stele_put_block *b = &put->block[i];
		uint64_t missing = stele_put_block_ref_missing(b);
		for (uint32_t item = 0; missing >> item && item < b->spread.n; item++) {
			const struct stele_spread_item *it = &b->spread.item[item];
			if (!(missing >> item & 1) ||
			    (found && !stele_put_block_at(b, item, out->disk)))
				continue;
			if (!found)
				*out = (struct stele_put_action){
				    .kind = STELE_PUT_DO_REFS,
				    .disk = b->spread.window.disk[it->at],
				    .delay_ns = stele_spread_delay_ns(it->tries)};
			found = true;
			b->ref_sent |= 1ull << item;
		}
	}
	return found;
}

static bool next_record(struct stele_put *put, struct stele_put_action *out)
{
	struct stele_spread_send send;
	/* After a refusal nothing more is sent under this deposit. */
	if (record_refused(put) || !stele_spread_next(&put->record, &send))
		return false;
	*out = (struct stele_put_action){.kind = STELE_PUT_DO_RECORD,
	                                 .item = send.item,
	                                 .disk = send.disk,
	                                 .probe = send.probe,
	                                 .delay_ns = send.delay_ns};
	return true;
}

bool stele_put_next(struct stele_put *put, struct stele_put_action *out)
{
	if (put->phase == STELE_PUT_ENDED) {
		if (put->told)
			return false;
		put->told = true;
		*out = (struct stele_put_action){.kind = STELE_PUT_DO_END};
		return true;
	}
	if (next_local(put, out))
		return true;
	if (put->stale) {
		/* Everything comes back first, so that windows change between calls. */
		if (put->sending > 0 || put->reloading)
			return false;
		put->reloading = true;
		*out =
		    (struct stele_put_action){.kind = STELE_PUT_DO_RELOAD, .node = put->stale_node};
		return true;
	}
	bool any = next_shard(put, out) ||
	           (put->phase == STELE_PUT_REFS && put->deposit_made && next_refs(put, out)) ||
	           (put->phase == STELE_PUT_RECORD && next_record(put, out));
	put->sending += any;
	return any;
}

/* ---- life ---- */

enum stele_err stele_put_init(struct stele_put *put, const struct stele_put_config *config)
{
	assert(config->block_len > STELE_INLINE_MAX && config->copies >= 1);
	*put = (struct stele_put){.config = *config};
	if (config->length != UINT64_MAX &&
	    config->length > (uint64_t)config->block_len * STELE_PIECES_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE,
		                  "%llu bytes are more than %u blocks of %u bytes: split the file",
		                  (unsigned long long)config->length, STELE_PIECES_MAX,
		                  config->block_len);
	return STELE_OK;
}

void stele_put_finish(struct stele_put *put)
{
	free(put->piece);
	free(put->block);
	*put = (struct stele_put){0};
}
