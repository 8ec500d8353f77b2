/*
 * Scrub (DESIGN N9): reads everything that counts and checks it, in steps on a worker that read about
 * 1 MiB each, with a pause after each one.
 *
 * First the structure, extent by extent: header, every batch's head and the CRC over its meta area (so
 * every entry's header and meta and the padding between them), footer, trailer. Then every live entry, as
 * the index names them, sorted by place a few hundred at a time: its header is the one the index means,
 * its meta, its cells, its padding. An entry that the index knows and that is not there any more is a
 * victim like one with a flipped bit. Damage outside live entries is named too (kind FOOTER): nothing
 * is lost by it.
 *
 * What it finds in an entry is looked up once more before it is called damaged: reclaim may have moved it.
 */
#include "storage/store_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"
#include "storage/base/merkle.h"
#include "storage/base/sha256.h"

#define STEP_BYTES (1u << 20)
#define CHUNK      256u /* entries sorted by place at a time */
#define FOUND_MAX  64u  /* victims of one step */

struct victim {
	struct stele_item_at at;
	bool structure;
	bool sound; /* was known to be damaged, and is not */
	char why[120];
};

struct stele_scrub_run {
	struct stele_store *s;
	struct stele_store_scrub *r;
	struct stele_op op; /* the step's work, or the pause after it */
	bool cancelled, pausing;
	uint64_t step_started_ns, step_bytes;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	/* structure: the extent as it was when its turn came */
	struct stele_extent x;
	bool has_x;
	uint32_t next_extent;
	uint64_t off;
	bool in_gap;
	/* entries */
	struct stele_key after; /* kind 0: from the start */
	uint16_t after_pool;
	bool entries_done;
	struct stele_item_at chunk[CHUNK];
	uint32_t chunk_n, chunk_at;
	uint64_t checked; /* entries in this step */
	struct victim found[FOUND_MAX];
	uint32_t nfound;
};

static void run(struct stele_scrub_run *c);

/* why NULL: sound. */
static void note(struct stele_scrub_run *c, const struct stele_item_at *at, const char *why)
{
	if (c->nfound == FOUND_MAX)
		return; /* a step ends before it comes to that */
	struct victim *v = &c->found[c->nfound++];
	v->at = *at;
	v->structure = at->key.kind == STELE_ENTRY_FOOTER;
	v->sound = !why;
	snprintf(v->why, sizeof(v->why), "%.*s", (int)sizeof(v->why) - 1, why ? why : "");
}

/* ---- structure ---- */

static void note_structure(struct stele_scrub_run *c, const char *what, uint64_t off)
{
	char why[120];
	struct stele_item_at at = {.key = {.kind = STELE_ENTRY_FOOTER}, .extent = c->x.id};
	snprintf(why, sizeof(why), "extent %08x: %s at %llu", c->x.id, what,
	         (unsigned long long)off);
	note(c, &at, why);
}

static enum stele_err ignore_item(void *ctx, const struct stele_item_at *it)
{
	(void)ctx;
	(void)it;
	return STELE_OK;
}

/* Header, and of a sealed extent trailer and footer. */
static enum stele_err check_ends(struct stele_scrub_run *c)
{
	struct stele_volume *v = &c->s->vol;
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	struct stele_extent_head h;
	struct stele_trailer t;
	enum stele_err err = stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, 0);
	if (!err && (!stele_extent_head_decode(page, &v->salt, &h) || h.cycle != c->x.cycle))
		note_structure(c, "header", 0);
	bool sealed = c->x.state == STELE_EXTENT_SEALED;
	if (!err && sealed)
		err =
		    stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, v->extent_len - STELE_PAGE);
	if (!err && sealed &&
	    !stele_trailer_decode(page, &v->salt, c->x.id, c->x.cycle, v->extent_len, &t))
		note_structure(c, "trailer", v->extent_len - STELE_PAGE);
	free(page);
	if (!err && sealed) {
		err = stele_extent_footer(v, &c->x, ignore_item, NULL);
		if (err == STELE_ERR_CORRUPT) {
			note_structure(c, "footer", c->x.trailer.footer_off);
			err = STELE_OK;
		}
	}
	c->step_bytes += 2 * STELE_PAGE;
	return err;
}

/* One batch, or one page of a gap. */
static enum stele_err check_batch(struct stele_scrub_run *c, uint8_t *page)
{
	struct stele_volume *v = &c->s->vol;
	struct stele_place place = {c->x.id, c->x.cycle, c->off};
	struct stele_batch_head h;
	STELE_TRY(stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, c->off));
	c->step_bytes += STELE_PAGE;
	if (!stele_batch_head_decode(page, &v->salt, &place, v->extent_len, &h)) {
		/* recovery zeroes the first page of what it drops */
		if (!c->in_gap && !stele_all_zero(page, STELE_PAGE))
			note_structure(c, "batch", c->off);
		c->in_gap = true;
		c->off += STELE_PAGE;
		return STELE_OK;
	}
	c->in_gap = false;
	uint8_t *area;
	STELE_TRY(stele_batch_load(v, &c->x, &h, &area));
	if (stele_crc32c(area + STELE_BATCH_HEAD, h.meta_len - STELE_BATCH_HEAD, 0) != h.meta_crc)
		note_structure(c, "batch's meta area", c->off);
	free(area);
	c->step_bytes += h.meta_len;
	c->off += h.len;
	return STELE_OK;
}

static enum stele_err step_structure(struct stele_scrub_run *c)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	enum stele_err err = STELE_OK;
	if (c->off == 0) {
		err = check_ends(c);
		c->off = STELE_PAGE;
		c->in_gap = false;
	}
	while (!err && c->off < c->x.landed && c->step_bytes < STEP_BYTES && c->nfound < FOUND_MAX)
		err = check_batch(c, page);
	free(page);
	if (err == STELE_ERR_IO || err == STELE_ERR_CORRUPT) { /* a page that cannot be read */
		note_structure(c, "unreadable page", c->off);
		c->off += STELE_PAGE;
		err = STELE_OK;
	}
	if (c->off >= c->x.landed)
		c->has_x = false;
	return err;
}

/* ---- entries ---- */

static int by_place(const void *a, const void *b)
{
	const struct stele_item_at *x = a, *y = b;
	if (x->extent != y->extent)
		return x->extent < y->extent ? -1 : 1;
	return (x->off > y->off) - (x->off < y->off);
}

static enum stele_err fill_chunk(struct stele_scrub_run *c)
{
	uint8_t from[STELE_INDEX_KEY_MAX] = {STELE_INDEX_ENTRY};
	size_t len = 1;
	if (c->after.kind) {
		len = stele_index_key(STELE_INDEX_ENTRY, &c->after, from);
		from[len++] = 0;
	}
	struct stele_kv_iter *it;
	STELE_TRY(stele_kv_iter_create(c->s->index.kv, &it));
	enum stele_err err = STELE_OK;
	c->chunk_n = c->chunk_at = 0;
	for (it->seek(it, from, len); it->valid(it) && c->chunk_n < CHUNK; it->next(it)) {
		size_t key_len, value_len;
		const uint8_t *key = it->key(it, &key_len);
		const void *value = it->value(it, &value_len);
		struct stele_item_at *at = &c->chunk[c->chunk_n];
		if (key[0] != STELE_INDEX_ENTRY)
			break;
		if (!stele_index_key_decode(key, key_len, &at->key) ||
		    !stele_index_value_decode(value, value_len, at)) {
			err = stele_fail(STELE_ERR_CORRUPT, "index: an entry does not decode");
			break;
		}
		c->after = at->key;
		c->chunk_n++;
	}
	if (!err)
		err = it->status(it);
	stele_kv_iter_destroy(it);
	c->entries_done = c->chunk_n == 0;
	qsort(c->chunk, c->chunk_n, sizeof(c->chunk[0]), by_place);
	return err;
}

/* Deep: rows against the descriptor, the descriptor against the id. */
static enum stele_err check_rows(const struct stele_entry_head *h, const uint8_t *meta,
                                 const struct stele_hash **row)
{
	struct stele_descriptor d;
	struct stele_hash id;
	size_t used;
	STELE_TRY(stele_descriptor_decode_prefix(meta, h->meta_len, &d, &used));
	stele_descriptor_id(&d, &id);
	uint32_t cells = stele_descriptor_cells(&d), roots = stele_descriptor_roots(&d);
	if (!stele_hash_equal(&id, &h->key.id) || h->key.index >= d.n || d.S != h->data_len ||
	    h->meta_len != used + 4 * cells + (uint64_t)roots * cells * STELE_HASH_LEN)
		return stele_fail(STELE_ERR_CORRUPT, "the descriptor is not this block's");
	const struct stele_hash *rows = (const struct stele_hash *)(meta + used + 4 * cells);
	*row = rows; /* its own lies first, the others follow in ascending order */
	uint32_t own = roots == 1 ? 0 : h->key.index;
	for (uint32_t i = 0, at = 1; i < roots; i++) {
		const struct stele_hash *r = i == own ? rows : rows + (uint64_t)at++ * cells;
		if (!stele_descriptor_row_ok(&d, i, r))
			return stele_fail(STELE_ERR_CORRUPT, "row %u does not match its root", i);
	}
	return STELE_OK;
}

static enum stele_err check_hashes(struct stele_scrub_run *c, const struct stele_entry_head *h,
                                   const uint8_t *meta, int fd)
{
	const struct stele_hash *row = NULL;
	STELE_TRY(check_rows(h, meta, &row));
	uint8_t *buf = stele_pages_alloc(STEP_BYTES);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	struct stele_hash leaf[STEP_BYTES / STELE_CELL_LEN];
	enum stele_err err = STELE_OK;
	for (uint64_t at = 0; !err && at < h->data_len; at += STEP_BYTES) {
		uint64_t n = h->data_len - at < STEP_BYTES ? h->data_len - at : STEP_BYTES;
		err = stele_file_pread(c->s->env, fd, buf, stele_round_up(n, STELE_PAGE),
		                       h->data_off + at);
		if (err)
			break;
		stele_sha256_cells(buf, n, leaf);
		uint64_t first = at / STELE_CELL_LEN;
		for (uint64_t i = 0; !err && i < (n + STELE_CELL_LEN - 1) / STELE_CELL_LEN; i++)
			if (!stele_hash_equal(&leaf[i], &row[first + i]))
				err = stele_fail(STELE_ERR_CORRUPT, "cell %llu fails its hash",
				                 (unsigned long long)(first + i));
	}
	free(buf);
	return err;
}

/* Deep: records and marks are named by the hash of a text within them, after its length. */
static enum stele_err check_text(const struct stele_entry_head *h, const uint8_t *meta)
{
	struct stele_hash got;
	uint32_t len = h->meta_len >= 4 ? stele_le32(meta) : 0;
	if (h->meta_len < 4 || len > h->meta_len - 4)
		return stele_fail(STELE_ERR_CORRUPT, "its text does not fit");
	stele_sha256(meta + 4, len, &got);
	if (!stele_hash_equal(&got, &h->key.sub))
		return stele_fail(STELE_ERR_CORRUPT, "its text fails its hash");
	return STELE_OK;
}

static enum stele_err check_content(struct stele_scrub_run *c, const struct stele_item_at *at)
{
	uint8_t *buf;
	struct stele_entry_head h;
	const uint8_t *meta;
	STELE_TRY(stele_store_load_entry(c->s, at, &buf, &h, &meta));
	c->step_bytes += stele_index_weight(at);
	enum stele_err err = STELE_OK;
	int fd;
	uint32_t cycle;
	bool there = stele_store_extent_fd(c->s, h.place.extent, &fd, &cycle);
	assert(there);
	(void)there;
	if (h.data_len && stele_crc32c(meta, h.hot_len, 0) != h.hot_crc)
		err = stele_fail(STELE_ERR_CORRUPT, "the front of its meta does not check");
	if (!err && h.data_len)
		err = stele_entry_check_cells(&c->s->vol, fd, &h, meta);
	if (!err && c->r->deep) {
		if (h.key.kind == STELE_ENTRY_SHARD)
			err = check_hashes(c, &h, meta, fd);
		else if (h.key.kind == STELE_ENTRY_RECORD || h.key.kind == STELE_ENTRY_MARK)
			err = check_text(&h, meta);
	}
	free(buf);
	return err;
}

static enum stele_err check_entry(struct stele_scrub_run *c, const struct stele_item_at *at)
{
	c->checked++;
	enum stele_err err = check_content(c, at);
	if (!err && at->bad)
		note(c, at, NULL); /* it could not be read once, and now it can */
	if (err == STELE_OK || err == STELE_ERR_NOT_FOUND || err == STELE_ERR_BUSY)
		return STELE_OK; /* removed or moved meanwhile */
	if (err != STELE_ERR_CORRUPT && err != STELE_ERR_IO)
		return err;
	char why[STELE_DETAIL_MAX];
	stele_detail_copy(why);
	struct stele_item_at now;
	enum stele_err again = stele_index_get(c->s->index.kv, STELE_INDEX_ENTRY, &at->key, &now);
	if (!again && now.extent == at->extent && now.off == at->off)
		note(c, at, why);
	return again == STELE_ERR_NOT_FOUND ? STELE_OK : again;
}

static enum stele_err step_entries(struct stele_scrub_run *c)
{
	if (c->chunk_at == c->chunk_n)
		STELE_TRY(fill_chunk(c));
	enum stele_err err = STELE_OK;
	while (!err && c->chunk_at < c->chunk_n && c->step_bytes < STEP_BYTES &&
	       c->nfound < FOUND_MAX)
		err = check_entry(c, &c->chunk[c->chunk_at++]);
	return err;
}

/* ---- steps ---- */

static void step_work(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	c->err = c->has_x ? step_structure(c) : step_entries(c);
	if (c->err)
		stele_detail_copy(c->detail);
}

static void end_scrub(struct stele_scrub_run *c, enum stele_err err)
{
	struct stele_store_scrub *r = c->r;
	r->err = err;
	if (err)
		stele_detail_copy(r->detail);
	c->s->scrub = NULL;
	free(c);
	r->cb(r);
}

/* Takes the next extent to be looked at; false: none is left. */
static bool next_extent(struct stele_scrub_run *c)
{
	struct stele_store *s = c->s;
	while (c->next_extent < s->extents_n) {
		struct stele_extent *x = s->extents[c->next_extent++];
		if (!x || x->state == STELE_EXTENT_PREPARED || x->landed <= STELE_PAGE)
			continue;
		c->x = *x;
		c->has_x = true;
		c->off = 0;
		return true;
	}
	return false;
}

static void paused(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	c->pausing = false;
	if (c->cancelled || op->result < 0)
		end_scrub(c, stele_fail(STELE_ERR_CANCELLED, "scrub: cancelled"));
	else
		run(c);
}

/* Hands out what the step found. */
static void report(struct stele_scrub_run *c)
{
	for (uint32_t i = 0; i < c->nfound; i++) {
		struct victim *v = &c->found[i];
		if (!v->structure && v->at.bad == v->sound)
			stele_store_mark(c->s, &v->at, !v->sound);
		if (v->sound)
			continue;
		c->r->victims++;
		if (c->r->victim)
			c->r->victim(c->r, &v->at.key, v->why);
	}
	c->nfound = 0;
}

static void step_done(struct stele_op *op)
{
	struct stele_scrub_run *c = op->ctx;
	struct stele_store *s = c->s;
	if (op->result < 0 || c->cancelled) {
		end_scrub(c, stele_fail(STELE_ERR_CANCELLED, "scrub: cancelled"));
		return;
	}
	c->r->bytes_done += c->step_bytes;
	c->r->entries += c->checked;
	report(c);
	if (c->err) {
		stele_fail(c->err, "%s", c->detail);
		if (c->err == STELE_ERR_CORRUPT || c->err == STELE_ERR_IO)
			stele_store_index_failed(s, c->err);
		end_scrub(c, stele_fail(c->err, "scrub: %s", c->detail));
		return;
	}
	if (c->entries_done) {
		end_scrub(c, STELE_OK);
		return;
	}
	uint64_t due = c->step_started_ns;
	if (c->r->bytes_per_s)
		due += c->step_bytes * UINT64_C(1000000000) / c->r->bytes_per_s;
	c->pausing = true;
	c->op = (struct stele_op){.kind = STELE_OP_TIMER, .off = due, .cb = paused, .ctx = c};
	stele_env_submit(s->env, &c->op);
}

static void run(struct stele_scrub_run *c)
{
	c->step_started_ns = stele_env_now(c->s->env);
	c->step_bytes = c->checked = 0;
	c->err = STELE_OK;
	if (!c->has_x)
		next_extent(c);
	c->op = (struct stele_op){.kind = STELE_OP_WORK,
	                          .flags = STELE_WORK_LONG,
	                          .work = step_work,
	                          .cb = step_done,
	                          .ctx = c};
	stele_env_submit(c->s->env, &c->op);
}

static void refuse_later(struct stele_later *later, bool cancelled)
{
	struct stele_store_scrub *r = later->request;
	(void)cancelled;
	r->cb(r);
}

void stele_store_scrub(struct stele_store *s, struct stele_store_scrub *r)
{
	r->err = STELE_OK;
	r->detail[0] = '\0';
	r->bytes_done = r->entries = r->victims = 0;
	r->bytes_total = s->counts.bytes;
	struct stele_scrub_run *c = NULL;
	if (s->scrub)
		r->err = stele_fail(STELE_ERR_BUSY, "%s: a scrub is under way", s->vol.dir);
	else if (!(c = calloc(1, sizeof(*c))))
		r->err = stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	if (r->err) {
		stele_detail_copy(r->detail);
		_Static_assert(sizeof(struct stele_later) <= sizeof(r->priv), "priv holds it");
		stele_store_later(s, (struct stele_later *)r->priv, refuse_later, r);
		return;
	}
	c->s = s;
	c->r = r;
	s->scrub = c;
	run(c);
}

void stele_store_scrub_cancel(struct stele_store *s)
{
	if (!s->scrub)
		return;
	s->scrub->cancelled = true;
	if (s->scrub->pausing)
		stele_env_cancel(s->env, &s->scrub->op);
}
