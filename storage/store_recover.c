/*
 * Recovery (DESIGN N4), one function for every kind of start: after a clean close it has nothing to do,
 * after a crash it replays from the index's watermark, without an index it replays from LSN 0.
 *
 *  1. Every extent says by its header and trailer what it is. Those without a trailer are searched from
 *     end to end, holes included, for batches.
 *  2. A batch that nobody can have been told of (its LSN is above every durable_lsn on the disk) and
 *     whose bytes do not check was torn by the crash: its first page is zeroed, so that no later
 *     recovery takes it up again. A batch at or below was durable; if it does not check now, it has
 *     rotted: what is left of it is kept, and scrub names the rest. Spaces in front of batches that
 *     nobody was told of are zeroed alike.
 *  3. The index is opened, or destroyed and made anew where it is missing, corrupt, or another disk's;
 *     then every extent that holds anything above its watermark is applied to it; all of them, in passes
 *     over ranges of ids, where it is new (index_fill.h). One that is ahead of the log stays: heads of
 *     batches have rotted, and only the index knows what they held. All extents are applied to it.
 *     An index that turns out to be damaged while it is read or written here is asked for anew, and all of
 *     this begins once more.
 *  4. The log goes on in the extent where it ended, if there is room in it and nothing has rotted there; others
 *     that were open are sealed.
 *
 * Blocks; called once, before anything else runs.
 */
#include "storage/index_fill.h"
#include "storage/store_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define APPLY_GROUP 512u

struct replay { /* items on their way into the index */
	struct stele_store *s;
	struct stele_extent *x;        /* whose footer is put together; NULL: it has one */
	struct stele_index_fill *fill; /* the index is new; NULL: it is not */
	bool known;                    /* what comes is in the index: up to its watermark */
	struct stele_item_at item[APPLY_GROUP];
	size_t n;
	bool index_broke;
};

struct recovery {
	struct stele_store *s;
	struct stele_scan_found_list *found; /* by extent number; of extents that are OPEN */
	uint64_t durable_lsn;                /* the highest that any batch knew of */
	uint64_t last_lsn;                   /* the highest anywhere */
	struct stele_index_state state;
	bool clean;
	bool empty; /* the index has just been made */
	bool ahead; /* the index knows of more than is found: something of that has rotted */
	struct replay replay;
};

/* What the index said: is it to blame? */
static enum stele_err of_index(struct replay *r, enum stele_err err)
{
	r->index_broke = r->index_broke || err == STELE_ERR_CORRUPT || err == STELE_ERR_IO;
	return err;
}

static enum stele_err flush_replay(struct replay *r)
{
	enum stele_err err = of_index(r, stele_index_apply(&r->s->index, r->item, r->n));
	r->n = 0;
	return err;
}

static enum stele_err replay_item(void *ctx, const struct stele_item_at *it)
{
	struct replay *r = ctx;
	if (r->x)
		STELE_TRY(stele_items_add(&r->x->items, it));
	if (r->known)
		return STELE_OK;
	if (r->fill)
		return stele_index_fill_add(r->fill, it);
	r->item[r->n++] = *it;
	return r->n == APPLY_GROUP ? flush_replay(r) : STELE_OK;
}

/* ---- 1. what is there ---- */

/* A header that does not check: by its batches, if it has any of its last cycle, the extent is what it was. */
static enum stele_err mend_header(struct stele_store *s, struct stele_extent *x, uint32_t cycle)
{
	if (cycle < x->cycle) /* as its copy says: recycled, and not used since */
		return stele_extent_write_head(&s->vol, x, 0);
	x->cycle = cycle;
	struct stele_scan_found_list list = {0};
	enum stele_err err = stele_extent_find(&s->vol, x, 0, &list);
	if (!err && (!list.n || list.unread)) /* they were there a moment ago */
		err = stele_fail(STELE_ERR_IO, "extent %08x: its batches cannot be read again",
		                 x->id);
	if (!err)
		err = stele_extent_write_head(&s->vol, x, list.at[0].head.lsn);
	stele_scan_found_finish(&list);
	return err;
}

/* The crash came while it was being made: it never held anything. */
static enum stele_err drop_extent(struct stele_store *s, uint32_t id)
{
	char path[STELE_PATH_MAX];
	return stele_file_unlink(s->env, stele_extent_path(&s->vol, id, path));
}

static enum stele_err open_extent(struct stele_store *s, uint32_t id)
{
	struct stele_extent x;
	STELE_TRY(stele_extent_open(&s->vol, id, &x));
	enum stele_err err = STELE_OK;
	if (x.state == STELE_EXTENT_DAMAGED) {
		uint32_t cycle;
		err = stele_extent_find_cycle(&s->vol, &x, &cycle);
		bool unfinished = !err && !cycle && !x.cycle;
		if (!err && !unfinished)
			err = mend_header(s, &x, cycle);
		stele_extent_close(&s->vol, &x);
		if (unfinished)
			return drop_extent(s, id);
		if (!err) /* its trailer may be there still */
			err = stele_extent_open(&s->vol, id, &x);
	}
	struct stele_extent *slot = NULL;
	if (!err)
		err = stele_store_make_slot(s, id, &slot);
	if (err)
		stele_extent_close(&s->vol, &x);
	else
		stele_store_fill_slot(s, slot, &x);
	return err;
}

static enum stele_err open_extents(struct stele_store *s)
{
	struct stele_list names = {0};
	STELE_TRY(stele_file_list(s->env, s->vol.dir, &names));
	enum stele_err err = STELE_OK;
	for (size_t i = 0; !err && i < names.n; i++) {
		uint32_t id;
		if (stele_extent_name(names.name[i], &id) && id < STELE_EXTENTS_MAX)
			err = open_extent(s, id);
	}
	stele_list_finish(&names);
	return err;
}

static void know_lsn(struct recovery *r, uint64_t last, uint64_t durable)
{
	if (last > r->last_lsn)
		r->last_lsn = last;
	if (durable > r->durable_lsn)
		r->durable_lsn = durable;
}

static enum stele_err find_batches(struct recovery *r)
{
	struct stele_store *s = r->s;
	for (uint32_t i = 0; i < s->extents_n; i++) {
		struct stele_extent *x = s->extents[i];
		if (!x || x->state == STELE_EXTENT_PREPARED)
			continue;
		know_lsn(r, x->first_lsn - 1, 0);
		if (x->state == STELE_EXTENT_SEALED) {
			know_lsn(r, x->last_lsn, x->last_lsn);
			continue;
		}
		bool resumes = r->clean && i == r->state.open_extent;
		STELE_TRY(
		    stele_extent_find(&s->vol, x, resumes ? r->state.open_end : 0, &r->found[i]));
		x->unread = r->found[i].unread;
		uint64_t end = STELE_PAGE;
		for (size_t b = 0; b < r->found[i].n; b++) {
			const struct stele_batch_head *h = &r->found[i].at[b].head;
			know_lsn(r, h->lsn, h->durable_lsn);
			end = h->place.off + h->len;
		}
		r->ahead = r->ahead || (resumes && end < r->state.open_end);
	}
	return STELE_OK;
}

/* ---- 2. what was torn ---- */

/* Does a head lie there of which bits have changed, or did what lay there go with its sector or the end of the file? A torn
 * one was killed, or never came: a head lies in one sector. */
static enum stele_err head_rotted(const struct stele_store *s, const struct stele_extent *x,
                                  uint64_t off, bool *yes)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	struct stele_gap gap;
	enum stele_err err = stele_extent_read(&s->vol, x, page, STELE_PAGE, off, &gap);
	struct stele_place place = {x->id, x->cycle, off};
	*yes = !err && (gap.unread || gap.beyond || /* the file is too short for an extent */
	                stele_batch_head_resembles(page, &s->vol.salt, &place, s->vol.extent_len));
	free(page);
	return err;
}

static enum stele_err check_batch(struct stele_store *s, const struct stele_extent *x,
                                  const struct stele_batch_head *head)
{
	uint8_t *area;
	STELE_TRY(stele_batch_load(&s->vol, x, head, &area));
	enum stele_err err = STELE_OK;
	uint64_t pos = STELE_BATCH_HEAD;
	uint32_t n = 0;
	struct stele_entry e;
	while (!err && stele_batch_next(&s->vol, head, area, &pos, &e)) {
		n++;
		if (e.head.data_len)
			err = stele_entry_check_cells(&s->vol, x->fd, &e.head, e.meta);
	}
	if (!err && n != head->entries)
		err = stele_fail(STELE_ERR_CORRUPT, "entries are missing");
	free(area);
	return err;
}

/* The space in front of a batch that was never acknowledged held others like it, which did not make it.
 * Its first page is zeroed too: scrub takes a space that begins otherwise for a batch that has rotted, which may
 * be what it is. */
static enum stele_err kill_hole(struct stele_store *s, const struct stele_extent *x, uint64_t from,
                                uint64_t to)
{
	struct stele_batch_head hole = {.place = {x->id, x->cycle, from}};
	bool rotted = from == to;
	if (!rotted)
		STELE_TRY(head_rotted(s, x, from, &rotted));
	return rotted ? STELE_OK : stele_batch_kill(&s->vol, x, &hole);
}

static enum stele_err kill_torn(struct recovery *r)
{
	struct stele_store *s = r->s;
	for (uint32_t i = 0; i < s->extents_n; i++) {
		size_t kept = 0;
		struct stele_scan_found_list *list = &r->found[i];
		uint64_t end = STELE_PAGE;
		for (size_t b = 0; b < list->n; b++) {
			const struct stele_scan_found f = list->at[b];
			enum stele_err err = STELE_OK;
			if (f.head.lsn > r->durable_lsn)
				STELE_TRY(kill_hole(s, s->extents[i], end, f.head.place.off));
			end = f.head.place.off + f.head.len;
			if (f.head.lsn > r->durable_lsn && !f.unread)
				err = f.meta_ok ? check_batch(s, s->extents[i], &f.head)
				                : STELE_ERR_CORRUPT;
			if (err == STELE_ERR_IO) /* what cannot be read says nothing of the rest */
				err = STELE_OK;
			if (err && err != STELE_ERR_CORRUPT)
				return err;
			if (err)
				STELE_TRY(stele_batch_kill(&s->vol, s->extents[i], &f.head));
			else
				list->at[kept++] = f;
		}
		list->n = kept;
	}
	return STELE_OK;
}

/* ---- 3. the index ---- */

static void marker_path(const struct stele_store *s, char out[STELE_PATH_MAX])
{
	snprintf(out, STELE_PATH_MAX, "%.*s/%s", (int)(STELE_PATH_MAX - 32), s->vol.dir,
	         STELE_REBUILD_MARKER);
}

static bool rebuild_wanted(const struct stele_store *s)
{
	char path[STELE_PATH_MAX];
	struct stele_stat st;
	marker_path(s, path);
	struct stele_op op = {.kind = STELE_OP_STAT, .path = path, .st = &st};
	return stele_env_call(s->env, &op) == 0;
}

static enum stele_err reset_index(struct recovery *r)
{
	struct stele_store *s = r->s;
	stele_index_close(&s->index);
	STELE_TRY(stele_kv_destroy_dir(s->kv_ops, s->kv_world, s->index_dir));
	enum stele_err err =
	    stele_index_open(s->kv_ops, s->kv_world, s->index_dir, &s->index, &r->state);
	r->empty = true;
	return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
}

/* The index with its state; an empty one where it cannot be used. */
static enum stele_err open_index(struct recovery *r)
{
	struct stele_store *s = r->s;
	enum stele_err err = STELE_ERR_CORRUPT;
	if (!rebuild_wanted(s))
		err = stele_index_open(s->kv_ops, s->kv_world, s->index_dir, &s->index, &r->state);
	if (err == STELE_ERR_NOMEM)
		return err;
	if (!err && stele_uuid_equal(&r->state.disk, &s->vol.disk))
		return STELE_OK;
	return reset_index(r);
}

static enum stele_err replay_batch(struct recovery *r, const struct stele_extent *x,
                                   const struct stele_batch_head *head)
{
	struct stele_store *s = r->s;
	uint8_t *area;
	STELE_TRY(stele_batch_load(&s->vol, x, head, &area));
	uint64_t pos = STELE_BATCH_HEAD;
	enum stele_err err = STELE_OK;
	struct stele_entry e;
	struct stele_item_at it;
	r->replay.known = head->lsn <= r->state.watermark;
	while (!err && stele_batch_next(&s->vol, head, area, &pos, &e))
		if (stele_entry_item(&e, &it))
			err = replay_item(&r->replay, &it);
	r->replay.known = false;
	free(area);
	return err;
}

/* The batches of an extent that has no (good) footer. */
static enum stele_err replay_batches(struct recovery *r, struct stele_extent *x,
                                     const struct stele_scan_found_list *list)
{
	stele_items_finish(&x->items);
	r->replay.x = x;
	x->end = x->landed = STELE_PAGE;
	x->last_lsn = 0;
	for (size_t b = 0; b < list->n; b++) {
		const struct stele_batch_head *h = &list->at[b].head;
		STELE_TRY(replay_batch(r, x, h));
		x->end = x->landed = h->place.off + h->len;
		x->last_lsn = h->lsn;
	}
	return STELE_OK;
}

/* Once more what an earlier pass found. */
static enum stele_err replay_items(struct recovery *r, const struct stele_extent *x)
{
	r->replay.x = NULL;
	for (uint64_t i = 0; i < x->items.n; i++) {
		struct stele_item_at it;
		const uint8_t *b = x->items.bytes + i * STELE_FOOTER_ITEM;
		if (!stele_footer_item_decode(b, x->id, r->s->vol.extent_len, &it))
			return stele_fail(STELE_ERR_CORRUPT, "extent %08x: a bad item", x->id);
		STELE_TRY(replay_item(&r->replay, &it));
	}
	return STELE_OK;
}

static enum stele_err replay_extent(struct recovery *r, struct stele_extent *x)
{
	struct stele_store *s = r->s;
	if (x->state == STELE_EXTENT_OPEN && x->items.n)
		return replay_items(r, x);
	if (x->state == STELE_EXTENT_OPEN)
		return replay_batches(r, x, &r->found[x->id]);
	if (x->last_lsn <= r->state.watermark)
		return STELE_OK;
	r->replay.x = NULL;
	enum stele_err err = stele_extent_footer(&s->vol, x, replay_item, &r->replay);
	if (err != STELE_ERR_CORRUPT)
		return err;
	/* The footer is damaged: its extent says the same, and is sealed again. */
	struct stele_scan_found_list list = {0};
	err = stele_extent_find(&s->vol, x, x->trailer.end, &list);
	if (!err) {
		x->state = STELE_EXTENT_OPEN;
		err = replay_batches(r, x, &list);
		x->end = x->landed = x->trailer.end;
		x->last_lsn = x->trailer.last_lsn;
		x->unread = list.unread;
	}
	stele_scan_found_finish(&list);
	return err;
}

static int by_first_lsn(const void *a, const void *b)
{
	const struct stele_extent *x = *(struct stele_extent *const *)a;
	const struct stele_extent *y = *(struct stele_extent *const *)b;
	return (x->first_lsn > y->first_lsn) - (x->first_lsn < y->first_lsn);
}

static enum stele_err replay_all(struct recovery *r)
{
	struct stele_store *s = r->s;
	struct stele_extent **order = malloc((s->extents_n + 1) * sizeof(order[0]));
	if (!order)
		return stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	size_t n = 0;
	for (uint32_t i = 0; i < s->extents_n; i++)
		if (s->extents[i] && s->extents[i]->state != STELE_EXTENT_PREPARED)
			order[n++] = s->extents[i];
	qsort(order, n, sizeof(order[0]), by_first_lsn);
	enum stele_err err = STELE_OK;
	uint32_t passes = r->replay.fill ? stele_index_fill_passes(r->replay.fill) : 1;
	for (uint32_t p = 0; !err && p < passes; p++) {
		for (size_t i = 0; !err && i < n; i++)
			err = replay_extent(r, order[i]);
		if (!err)
			err = r->replay.fill ? stele_index_fill_end(r->replay.fill)
			                     : flush_replay(&r->replay);
	}
	free(order);
	return err;
}

static uint64_t count_items(const struct recovery *r)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < r->s->extents_n; i++) {
		const struct stele_extent *x = r->s->extents[i];
		if (x && x->state == STELE_EXTENT_SEALED)
			n += x->trailer.items;
		for (size_t b = 0; x && b < r->found[i].n; b++)
			n += r->found[i].at[b].head.entries;
	}
	return n;
}

static enum stele_err bring_index_up(struct recovery *r)
{
	struct stele_index *ix = &r->s->index;
	r->replay.s = r->s;
	if (r->empty)
		STELE_TRY(
		    stele_index_fill_create(ix, count_items(r), STELE_INDEX_RUN, &r->replay.fill));
	enum stele_err err = replay_all(r);
	stele_index_fill_destroy(r->replay.fill);
	r->replay.fill = NULL;
	if (err || r->empty) /* a new one has counted what came into it */
		return err;
	return of_index(&r->replay, r->clean ? stele_index_load_counts(ix) : stele_index_recount(ix));
}

/* Entries of which the file has gone are not there, whatever the index says: they are victims at once. */
static bool has_gone(void *ctx, uint32_t extent)
{
	const struct stele_store *s = ctx;
	return extent >= s->extents_n || !s->extents[extent];
}

static enum stele_err mark_gone(struct recovery *r)
{
	struct stele_store *s = r->s;
	const struct stele_index_counts *c = &s->index.counts;
	for (uint32_t i = 0; i < c->extents; i++) {
		if (!c->live[i] || !has_gone(s, i))
			continue;
		s->gone++;
		s->gone_last = i;
	}
	return s->gone ? of_index(&r->replay, stele_index_mark_gone(&s->index, has_gone, s)) : STELE_OK;
}

/* ---- 4. seals ---- */

/* Batches of which the heads have rotted may lie behind the last that counts: they were acknowledged, and the index may
 * know their entries. The first of them becomes a part of what is written, so that scrub meets it. */
static enum stele_err take_rotted(struct recovery *r, struct stele_extent *x, bool *took)
{
	struct stele_store *s = r->s;
	const struct stele_index_counts *c = &s->index.counts;
	STELE_TRY(head_rotted(s, x, x->end, took));
	/* one may have changed beyond recognition, or lie where nothing can be read */
	bool live = x->id < c->extents && c->live[x->id];
	*took = *took || x->unread > x->end || (!x->last_lsn && (live || x->unsure));
	uint64_t end = x->unread > x->end ? x->unread : x->end + STELE_PAGE;
	uint64_t most = s->vol.extent_len - stele_footer_room(x->items.n);
	end = end < most ? end : most / STELE_PAGE * STELE_PAGE;
	*took = *took && end > x->end;
	if (!*took)
		return STELE_OK;
	x->end = x->landed = end;
	x->last_lsn = x->last_lsn ? x->last_lsn : x->first_lsn;
	/* their LSNs are not given again: no more than there are pages */
	know_lsn(r, r->last_lsn + s->vol.extent_len / STELE_PAGE, 0);
	return STELE_OK;
}

/* May the log go on in this extent? Not in one that was sealed once, nor where anything may have rotted. */
static bool may_resume(const struct recovery *r, const struct stele_extent *x)
{
	uint64_t len = r->s->vol.extent_len;
	return x->state == STELE_EXTENT_OPEN && x->last_lsn && !x->trailer.end && !r->ahead &&
	       !x->unsure && !x->unread && x->end + len / 4 + stele_footer_room(x->items.n) <= len;
}

/* The newest extent without a trailer. */
static struct stele_extent *newest_open(const struct stele_store *s)
{
	struct stele_extent *best = NULL;
	for (uint32_t i = 0; i < s->extents_n; i++) {
		struct stele_extent *x = s->extents[i];
		if (x && x->state == STELE_EXTENT_OPEN && (!best || x->last_lsn > best->last_lsn))
			best = x;
	}
	return best;
}

/* Of an extent that was begun when the crash came, batches may have lasted and the header not: they were
 * not acknowledged, and must not count when the extent is used again. So what is prepared, or was
 * begun and holds nothing that lasted, goes into its next cycle. */
static enum stele_err seal_one(struct recovery *r, struct stele_extent *x)
{
	struct stele_store *s = r->s;
	bool rotted = false;
	if (x->state == STELE_EXTENT_OPEN && !x->trailer.end &&
	    (!r->clean || x->unsure || x->unread))
		STELE_TRY(take_rotted(r, x, &rotted));
	if (rotted && x == s->open)
		s->open = NULL;
	if (x->state == STELE_EXTENT_SEALED || x == s->open)
		return STELE_OK;
	if (x->state == STELE_EXTENT_OPEN && x->last_lsn)
		return stele_extent_seal(&s->vol, x);
	s->prepared += x->state == STELE_EXTENT_OPEN;
	if (x->state == STELE_EXTENT_OPEN || !r->clean)
		STELE_TRY(stele_extent_recycle(&s->vol, x));
	if (!s->spare)
		s->spare = x;
	return STELE_OK;
}

static enum stele_err seal_open(struct recovery *r)
{
	struct stele_store *s = r->s;
	struct stele_extent *newest = newest_open(s);
	s->open = newest && may_resume(r, newest) ? newest : NULL;
	for (uint32_t i = 0; i < s->extents_n; i++)
		if (s->extents[i])
			STELE_TRY(seal_one(r, s->extents[i]));
	return STELE_OK;
}

static enum stele_err recover(struct recovery *r)
{
	struct stele_store *s = r->s;
	STELE_TRY(open_index(r));
	r->clean = r->state.closed_in && r->state.closed_in == s->sb.incarnation;
	know_lsn(r, s->sb.lsn_floor, s->sb.lsn_floor);
	STELE_TRY(find_batches(r));
	r->ahead = r->ahead || r->state.watermark > r->last_lsn;
	know_lsn(r, r->state.watermark, r->state.watermark);
	if (r->ahead) { /* what it says of what is not there stays, and is named where it cannot be read */
		r->clean = false;
		r->state.watermark = 0;
	}
	STELE_TRY(kill_torn(r));
	STELE_TRY(bring_index_up(r));
	STELE_TRY(mark_gone(r));
	STELE_TRY(seal_open(r));
	s->durable_lsn = s->applied_lsn = r->last_lsn;
	s->next_lsn = r->last_lsn + 1;
	s->counts = stele_store_counts(s);
	STELE_TRY(stele_store_room_recovered(s));
	if (!r->clean)
		STELE_TRY(of_index(&r->replay, stele_store_checkpoint(s, false)));
	char path[STELE_PATH_MAX];
	marker_path(s, path);
	if (rebuild_wanted(s))
		STELE_TRY(stele_file_unlink(s->env, path));
	return STELE_OK;
}

static enum stele_err recover_once(struct stele_store *s, bool *index_broke)
{
	*index_broke = false;
	STELE_TRY(open_extents(s));
	struct recovery *r = calloc(1, sizeof(*r));
	struct stele_scan_found_list *found = calloc(s->extents_n + 1, sizeof(found[0]));
	enum stele_err err = STELE_OK;
	if (r && found) {
		r->s = s;
		r->found = found;
		err = recover(r);
		*index_broke = err && r->replay.index_broke && !r->empty;
	} else {
		err = stele_fail(STELE_ERR_NOMEM, "store: out of memory");
	}
	for (uint32_t i = 0; found && i < s->extents_n; i++)
		stele_scan_found_finish(&found[i]);
	free(found);
	free(r);
	return err;
}

enum stele_err stele_store_recover(struct stele_store *s)
{
	bool index_broke;
	enum stele_err err = recover_once(s, &index_broke);
	if (index_broke) {
		char path[STELE_PATH_MAX];
		marker_path(s, path);
		STELE_TRY(stele_file_save(s->env, path, "", 0, 0600));
		stele_store_forget(s);
		err = recover_once(s, &index_broke);
	}
	return err ? stele_wrap(err, "%s", s->vol.dir) : STELE_OK;
}

static void know_flushed(struct stele_store *s, uint64_t lsn, uint64_t drops)
{
	pthread_mutex_lock(&s->index_lock);
	if (lsn > s->flushed_lsn)
		s->flushed_lsn = lsn;
	if (drops > s->flushed_drops)
		s->flushed_drops = drops;
	pthread_mutex_unlock(&s->index_lock);
}

enum stele_err stele_store_checkpoint(struct stele_store *s, bool closing)
{
	uint8_t state[STELE_INDEX_STATE_LEN];
	struct stele_index_state st = {.disk = s->vol.disk};
	pthread_mutex_lock(&s->index_lock);
	st.watermark = s->applied_lsn;
	if (closing) {
		st.closed_in = s->sb.incarnation;
		st.open_extent = s->open ? s->open->id : 0;
		st.open_end = s->open ? s->open->end : 0;
	}
	uint64_t drops = s->drops;
	enum stele_err err = stele_index_checkpoint_begin(&s->index, &st, state);
	pthread_mutex_unlock(&s->index_lock);
	if (!err)
		err = stele_index_checkpoint_end(&s->index, state);
	if (!err)
		know_flushed(s, st.watermark, drops);
	return err;
}

enum stele_err stele_store_flush_index(struct stele_store *s, uint64_t lsn)
{
	pthread_mutex_lock(&s->index_lock);
	uint64_t applied = s->applied_lsn, drops = s->drops;
	bool flushed = lsn <= s->flushed_lsn && drops == s->flushed_drops;
	pthread_mutex_unlock(&s->index_lock);
	assert(lsn <= applied);
	if (flushed)
		return STELE_OK;
	STELE_TRY(stele_kv_flush(s->index.kv));
	know_flushed(s, applied, drops);
	return STELE_OK;
}
