/*
 * What a scrub does with an extent: reads it once, in the order in which it lies there, with large reads
 * into one buffer, and checks everything that counts.
 *
 * Structure: header, every batch's head and the CRC over its meta area (so every entry's header and meta and the
 * padding between them), footer, trailer. Each entry is looked up in the index. If that says that it lies
 * here, it is alive: its meta, cells and padding are checked. What is dead is skipped.
 *
 * So an entry that the index knows and that is not there is not met. That it was not shows in the bytes that the
 * index says are alive in the extent: when more are than were met, or when anything of the structure is
 * damaged, the index is walked for what it has in this extent and was not met, and each of these is loaded where the
 * index says, and checked.
 *
 * Nothing is locked. Damage of an entry counts only if the index still says that it lies there; that of
 * structure only if the extent is still in the same cycle. An extent that was recycled meanwhile is left.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"
#include "storage/base/merkle.h"
#include "storage/base/sha256.h"
#include "storage/scrub.h"

#define CELLS_AT_ONCE (STELE_SWEEP_WINDOW / STELE_CELL_LEN)
#define WALK_KEYS     4096u /* of the index, in one step */
#define WALK_WEIGHT   64u   /* bytes that one of them counts for in the throttle */

/* ---- what was found ---- */

/* why NULL: sound. */
static void note(struct stele_scrub_run *c, const struct stele_item_at *at, const char *why)
{
	assert(c->nfound < STELE_SWEEP_FOUND); /* a step ends before */
	struct stele_sweep_found *f = &c->found[c->nfound++];
	f->at = *at;
	f->structure = at->key.kind == STELE_ENTRY_FOOTER;
	f->sound = !why;
	snprintf(f->why, sizeof(f->why), "%.*s", (int)sizeof(f->why) - 1, why ? why : "");
}

void stele_sweep_leave(struct stele_scrub_run *c)
{
	free(c->area);
	c->area = NULL;
	c->has_x = c->in_cells = false;
}

/* Does the header, read again, show another cycle? Recycling begins with it. */
static bool recycled(struct stele_scrub_run *c)
{
	struct stele_volume *v = &c->s->vol;
	struct stele_extent_head h;
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	bool yes = page && stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, 0) == STELE_OK &&
	           stele_extent_head_decode(page, &v->salt, &h) && h.extent == c->x.id &&
	           h.cycle > c->x.cycle;
	free(page);
	return yes;
}

static void note_structure(struct stele_scrub_run *c, const char *what, uint64_t off)
{
	char why[120];
	struct stele_item_at at = {.key = {.kind = STELE_ENTRY_FOOTER}, .extent = c->x.id};
	if (recycled(c)) {
		stele_sweep_leave(c);
		return;
	}
	c->suspect = true;
	snprintf(why, sizeof(why), "extent %08x: %s at %llu", c->x.id, what,
	         (unsigned long long)off);
	note(c, &at, why);
}

static bool same_place(const struct stele_item_at *a, const struct stele_item_at *b)
{
	return a->extent == b->extent && a->off == b->off;
}

/* The thread's detail says why. It may have moved, or died, meanwhile. */
static enum stele_err note_entry(struct stele_scrub_run *c, const struct stele_item_at *at)
{
	char why[STELE_DETAIL_MAX];
	struct stele_item_at now;
	stele_detail_copy(why);
	enum stele_err err = stele_index_get(c->s->index.kv, STELE_INDEX_ENTRY, &at->key, &now);
	if (!err && same_place(&now, at))
		note(c, &now, why);
	return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
}

static bool is_damage(enum stele_err err)
{
	return err == STELE_ERR_CORRUPT || err == STELE_ERR_IO;
}

/* ---- reading ---- */

static enum stele_err fill_window(struct stele_scrub_run *c, uint64_t off, uint64_t len)
{
	c->window_len = 0;
	STELE_TRY(stele_file_pread(c->s->env, c->x.fd, c->window, len, off));
	c->window_off = off;
	c->window_len = len;
	c->step_bytes += len;
	return STELE_OK;
}

/* Bytes [off, off + len) of the extent, whole pages, at most a window. NULL and OK: in the next step. A
 * read that fails is made again with only these bytes. */
static enum stele_err look(struct stele_scrub_run *c, uint64_t off, uint64_t len,
                           const uint8_t **out)
{
	*out = NULL;
	assert(len <= STELE_SWEEP_WINDOW);
	if (off >= c->window_off && off + len <= c->window_off + c->window_len) {
		*out = c->window + (off - c->window_off);
		return STELE_OK;
	}
	if (c->step_bytes) {
		c->wait = true;
		return STELE_OK;
	}
	uint64_t end = off + len > c->x.landed ? off + len : c->x.landed;
	uint64_t most = c->most > len ? c->most : len, much = end - off < most ? end - off : most;
	enum stele_err err = fill_window(c, off, much);
	if (err) {
		err = fill_window(c, off, len);
		c->step_bytes += len; /* a disk that fails is not hurried either */
	}
	if (!err)
		*out = c->window;
	return err;
}

/* ---- an entry ---- */

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

/* What of an entry is in its meta; its CRC has been checked. */
static enum stele_err check_meta(struct stele_scrub_run *c)
{
	const struct stele_entry_head *h = &c->e;
	if (h->birth_lsn != c->at.birth_lsn || h->meta_len != c->at.meta_len ||
	    h->data_len != c->at.data_len || (h->data_len && h->data_off != c->at.data_off) ||
	    h->hot_len != c->at.hot_len)
		return stele_fail(STELE_ERR_CORRUPT, "the entry is not what the index says");
	if (!stele_all_zero(c->meta + h->meta_len,
	                    stele_entry_len(h->meta_len) - STELE_ENTRY_HEAD - h->meta_len))
		return stele_fail(STELE_ERR_CORRUPT, "the entry's padding is not zero");
	if (h->data_len && stele_crc32c(c->meta, h->hot_len, 0) != h->hot_crc)
		return stele_fail(STELE_ERR_CORRUPT, "the front of its meta does not check");
	if (!c->r->deep)
		return STELE_OK;
	if (h->key.kind == STELE_ENTRY_SHARD)
		return check_rows(h, c->meta, &c->row);
	if (h->key.kind == STELE_ENTRY_RECORD || h->key.kind == STELE_ENTRY_MARK)
		return check_text(h, c->meta);
	return STELE_OK;
}

/* Of `len` bytes of cells at p, from cell `first` on, padded to a page. */
static enum stele_err check_cells(struct stele_scrub_run *c, const uint8_t *p, uint64_t len,
                                  uint32_t first)
{
	struct stele_hash leaf[CELLS_AT_ONCE];
	if (c->row)
		stele_sha256_cells(p, len, leaf);
	uint32_t i = first;
	for (uint64_t at = 0; at < len; at += STELE_CELL_LEN, i++) {
		uint64_t n = len - at < STELE_CELL_LEN ? len - at : STELE_CELL_LEN;
		if (stele_crc32c(p + at, n, 0) != stele_hot_crc(&c->e, c->meta, i))
			return stele_fail(STELE_ERR_CORRUPT, "cell %u fails its CRC", i);
		if (!stele_all_zero(p + at + n, stele_round_up(n, STELE_PAGE) - n))
			return stele_fail(STELE_ERR_CORRUPT, "padding is not zero");
		if (c->row && !stele_hash_equal(&leaf[i - first], &c->row[i]))
			return stele_fail(STELE_ERR_CORRUPT, "cell %u fails its hash", i);
	}
	return STELE_OK;
}

static enum stele_err end_entry(struct stele_scrub_run *c, enum stele_err err)
{
	c->in_cells = false;
	if (is_damage(err))
		return note_entry(c, &c->at);
	if (!err && c->at.bad)
		note(c, &c->at, NULL); /* it could not be read once, and now it can */
	return err;
}

/* The cells of c->e that are in the window, whole ones. */
static enum stele_err some_cells(struct stele_scrub_run *c)
{
	uint64_t at = (uint64_t)c->cell * STELE_CELL_LEN, left = c->e.data_len - at;
	uint64_t off = c->e.data_off + at, one = left < STELE_CELL_LEN ? left : STELE_CELL_LEN;
	const uint8_t *p;
	enum stele_err err = look(c, off, stele_round_up(one, STELE_PAGE), &p);
	if (err || !p)
		return err ? end_entry(c, err) : STELE_OK;
	uint64_t have = c->window_off + c->window_len - off;
	uint64_t len = stele_round_up(left, STELE_PAGE) <= have
	                   ? left
	                   : have / STELE_CELL_LEN * STELE_CELL_LEN;
	err = check_cells(c, p, len, c->cell);
	c->cell += (uint32_t)(len / STELE_CELL_LEN);
	return err || len == left ? end_entry(c, err) : STELE_OK;
}

/* c->e, c->meta and c->at are set. */
static enum stele_err begin_entry(struct stele_scrub_run *c)
{
	c->checked++;
	c->row = NULL;
	c->cell = 0;
	enum stele_err err = check_meta(c);
	if (err || !c->e.data_len)
		return end_entry(c, err);
	c->in_cells = true;
	return STELE_OK;
}

/* ---- a batch ---- */

static void met(struct stele_scrub_run *c, const struct stele_item_at *at)
{
	uint64_t bit = at->off / STELE_ENTRY_ALIGN;
	c->met_at[bit / 8] |= (uint8_t)(1 << bit % 8);
	c->met += stele_index_weight(at);
}

static bool was_met(const struct stele_scrub_run *c, const struct stele_item_at *at)
{
	uint64_t bit = at->off / STELE_ENTRY_ALIGN;
	return c->has_file && at->off < c->s->vol.extent_len && c->met_at[bit / 8] >> bit % 8 & 1;
}

static enum stele_err next_entry(struct stele_scrub_run *c)
{
	struct stele_entry e;
	struct stele_item_at it, now;
	if (!stele_batch_next(&c->s->vol, &c->batch, c->area, &c->area_at, &e)) {
		free(c->area);
		c->area = NULL;
		c->off += c->batch.len;
		return STELE_OK;
	}
	if (!stele_entry_item(&e, &it))
		return STELE_OK; /* the meta area's CRC has told */
	it.key = stele_key_short(&it.key);
	enum stele_err err = stele_index_get(
	    c->s->index.kv, it.tomb ? STELE_INDEX_TOMB : STELE_INDEX_ENTRY, &it.key, &now);
	if (err || !same_place(&now, &it))
		return err == STELE_ERR_NOT_FOUND ? STELE_OK : err; /* dead */
	met(c, &it);
	if (it.tomb)
		return STELE_OK;
	c->e = e.head;
	c->meta = e.meta;
	c->at = now;
	if (!e.meta_ok) {
		c->checked++;
		(void)!stele_fail(STELE_ERR_CORRUPT, "the entry's meta does not check");
		return end_entry(c, STELE_ERR_CORRUPT);
	}
	return begin_entry(c);
}

/* *area: the batch's meta area; NULL and OK: in the next step. */
static enum stele_err load_area(struct stele_scrub_run *c, uint8_t **area)
{
	const struct stele_batch_head *h = &c->batch;
	*area = NULL;
	if (h->meta_len > STELE_SWEEP_WINDOW) {
		c->step_bytes += h->meta_len;
		return stele_batch_load(&c->s->vol, &c->x, h, area);
	}
	const uint8_t *p;
	STELE_TRY(look(c, h->place.off, h->meta_len, &p));
	if (!p)
		return STELE_OK;
	*area = malloc(h->meta_len);
	if (!*area)
		return stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	memcpy(*area, p, h->meta_len); /* the window moves on over the cells */
	return STELE_OK;
}

static enum stele_err unreadable(struct stele_scrub_run *c, enum stele_err err)
{
	if (!is_damage(err))
		return err;
	note_structure(c, "unreadable page", c->off);
	c->off += STELE_PAGE;
	return STELE_OK;
}

/* The next batch, or one page of a gap. */
static enum stele_err next_batch(struct stele_scrub_run *c)
{
	struct stele_volume *v = &c->s->vol;
	struct stele_place place = {c->x.id, c->x.cycle, c->off};
	const uint8_t *page;
	enum stele_err err = look(c, c->off, STELE_PAGE, &page);
	if (err || !page)
		return err ? unreadable(c, err) : STELE_OK;
	if (!stele_batch_head_decode(page, &v->salt, &place, v->extent_len, &c->batch)) {
		/* recovery zeroes the first page of what it drops */
		uint64_t off = c->off;
		bool damaged = !c->in_gap && !stele_all_zero(page, STELE_PAGE);
		c->in_gap = true;
		c->off += STELE_PAGE;
		if (damaged)
			note_structure(c, "batch", off);
		return STELE_OK;
	}
	err = load_area(c, &c->area);
	if (err || !c->area)
		return err ? unreadable(c, err) : STELE_OK;
	c->in_gap = false;
	c->entries += c->batch.entries;
	c->area_at = STELE_BATCH_HEAD;
	if (stele_crc32c(c->area + STELE_BATCH_HEAD, c->batch.meta_len - STELE_BATCH_HEAD, 0) !=
	    c->batch.meta_crc)
		note_structure(c, "batch's meta area", c->off);
	return STELE_OK;
}

/* ---- what was not met ---- */

static uint64_t live_bytes(struct stele_scrub_run *c)
{
	pthread_mutex_lock(&c->s->index_lock);
	const struct stele_index_counts *n = &c->s->index.counts;
	uint64_t live = c->x.id < n->extents ? n->live[c->x.id] : 0;
	pthread_mutex_unlock(&c->s->index_lock);
	return live;
}

static enum stele_err take_key(struct stele_scrub_run *c, struct stele_kv_iter *it)
{
	size_t key_len, value_len;
	const void *key = it->key(it, &key_len), *value = it->value(it, &value_len);
	struct stele_item_at *at = &c->chunk[c->chunk_n];
	if (!stele_index_key_decode(key, key_len, &at->key) ||
	    !stele_index_value_decode(value, value_len, at))
		return stele_fail(STELE_ERR_CORRUPT, "index: an entry does not decode");
	c->after = at->key;
	if (at->extent == c->x.id && !was_met(c, at))
		c->chunk_n++;
	return STELE_OK;
}

static enum stele_err walk(struct stele_scrub_run *c)
{
	uint8_t from[STELE_INDEX_KEY_MAX] = {STELE_INDEX_ENTRY};
	size_t len = 1, key_len;
	if (c->after.kind) {
		len = stele_index_key(STELE_INDEX_ENTRY, &c->after, from);
		from[len++] = 0;
	}
	struct stele_kv_iter *it;
	STELE_TRY(stele_kv_iter_create(c->s->index.kv, &it));
	enum stele_err err = STELE_OK;
	uint32_t n = 0;
	c->chunk_n = c->chunk_at = 0;
	for (it->seek(it, from, len); !err && n < WALK_KEYS && c->chunk_n < STELE_SWEEP_CHUNK;
	     it->next(it), n++) {
		c->walked =
		    !it->valid(it) || *(const uint8_t *)it->key(it, &key_len) != STELE_INDEX_ENTRY;
		if (c->walked)
			break;
		err = take_key(c, it);
	}
	if (!err)
		err = it->status(it);
	stele_kv_iter_destroy(it);
	c->step_bytes += (uint64_t)n * WALK_WEIGHT;
	c->wait = true;
	return err;
}

static enum stele_err next_missing(struct stele_scrub_run *c)
{
	free(c->area);
	c->area = NULL;
	if (c->chunk_at == c->chunk_n) {
		c->has_x = !c->walked;
		return c->walked ? STELE_OK : walk(c);
	}
	c->at = c->chunk[c->chunk_at++];
	enum stele_err err = stele_store_load_entry(c->s, &c->at, &c->area, &c->e, &c->meta);
	c->step_bytes += STELE_PAGE;
	if (is_damage(err)) {
		c->checked++;
		return note_entry(c, &c->at);
	}
	if (err == STELE_ERR_NOT_FOUND || err == STELE_ERR_BUSY)
		return STELE_OK; /* removed or moved meanwhile */
	if (err || c->e.place.extent != c->at.extent || c->e.place.off != c->at.off)
		return err; /* moved: it was checked on its way */
	return begin_entry(c);
}

/* ---- the extent ---- */

/* Header, and of a sealed extent trailer and footer. */
static enum stele_err check_ends(struct stele_scrub_run *c, uint8_t *page)
{
	struct stele_volume *v = &c->s->vol;
	struct stele_extent_head h;
	struct stele_trailer t;
	enum stele_err err = stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, 0);
	if (is_damage(err) ||
	    (!err && (!stele_extent_head_decode(page, &v->salt, &h) || h.cycle != c->x.cycle)))
		note_structure(c, "header", 0);
	if (c->x.state != STELE_EXTENT_SEALED || !c->has_x)
		return is_damage(err) ? STELE_OK : err;
	uint64_t last = v->extent_len - STELE_PAGE;
	err = stele_file_pread(v->env, c->x.fd, page, STELE_PAGE, last);
	if (is_damage(err) ||
	    (!err && !stele_trailer_decode(page, &v->salt, c->x.id, c->x.cycle, v->extent_len, &t)))
		note_structure(c, "trailer", last);
	return is_damage(err) ? STELE_OK : err;
}

static enum stele_err ignore_item(void *ctx, const struct stele_item_at *it)
{
	(void)ctx;
	(void)it;
	return STELE_OK;
}

static enum stele_err begin_extent(struct stele_scrub_run *c)
{
	c->begun = true;
	c->live = live_bytes(c);
	c->met = c->entries = 0;
	c->window_len = 0;
	c->suspect = c->walking = c->in_gap = false;
	if (!c->has_file)
		return STELE_OK;
	c->off = STELE_PAGE;
	memset(c->met_at, 0, c->s->vol.extent_len / STELE_ENTRY_ALIGN / 8);
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "scrub: out of memory");
	enum stele_err err = check_ends(c, page);
	free(page);
	if (err || !c->has_x || c->x.state != STELE_EXTENT_SEALED)
		return err;
	err = stele_extent_footer(&c->s->vol, &c->x, ignore_item, NULL);
	if (is_damage(err))
		note_structure(c, "footer", c->x.trailer.footer_off);
	return is_damage(err) ? STELE_OK : err;
}

/* Every batch was gone through. More may have died meanwhile, or come to life behind `landed`. */
static void end_extent(struct stele_scrub_run *c)
{
	/* a sector that could not be read when it was sealed, and can be now */
	if (c->has_file && c->x.state == STELE_EXTENT_SEALED && !c->suspect &&
	    c->entries > c->x.trailer.items) {
		note_structure(c, "a batch that is not in its footer; footer",
		               c->x.trailer.footer_off);
		if (!c->has_x)
			return;
	}
	uint64_t live = live_bytes(c);
	if (live > c->live)
		live = c->live;
	if (!c->suspect && c->met >= live) {
		stele_sweep_leave(c);
		return;
	}
	c->walking = true;
	c->walked = false;
	c->after = (struct stele_key){0};
	c->chunk_n = c->chunk_at = 0;
}

static enum stele_err go_on(struct stele_scrub_run *c)
{
	if (!c->begun)
		return begin_extent(c);
	if (c->in_cells)
		return some_cells(c);
	if (c->walking)
		return next_missing(c);
	if (c->area)
		return next_entry(c);
	if (c->has_file && c->off < c->x.landed)
		return next_batch(c);
	end_extent(c);
	return STELE_OK;
}

enum stele_err stele_sweep_step(struct stele_scrub_run *c)
{
	enum stele_err err = STELE_OK;
	c->wait = false;
	/* three: the ends of an extent, checked at once */
	while (!err && c->has_x && !c->wait && c->nfound + 3 <= STELE_SWEEP_FOUND)
		err = go_on(c);
	return err;
}

void stele_sweep_begin(struct stele_scrub_run *c)
{
	pthread_mutex_lock(&c->s->index_lock);
	const struct stele_index_counts *n = &c->s->index.counts;
	for (uint32_t i = c->ids; i < n->extents; i++)
		if (n->live[i])
			c->ids = i + 1;
	pthread_mutex_unlock(&c->s->index_lock);
}
