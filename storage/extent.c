/* Extent files: their headers, the search for batches, seals and footers. Blocks; decides nothing. */
#include "storage/extent.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc.h"

#define WINDOW_MIN                                                                                 \
	(64u << 10)           /* how much is read to look for a batch header: little where one is */
#define WINDOW_MAX (1u << 20) /* expected, more while crossing a hole */
#define FILL_STEP  (1u << 20)

void *stele_pages_alloc(uint64_t len)
{
	return aligned_alloc(STELE_PAGE, stele_round_up(len ? len : 1, STELE_PAGE));
}

enum stele_err stele_items_add(struct stele_items *items, const struct stele_item_at *it)
{
	if (items->n == items->cap) {
		uint64_t cap = items->cap ? 2 * items->cap : 64;
		uint8_t *more = realloc(items->bytes, cap * STELE_FOOTER_ITEM);
		if (!more)
			return stele_fail(STELE_ERR_NOMEM, "extent: out of memory for its footer");
		items->bytes = more;
		items->cap = cap;
	}
	stele_footer_item_encode(it, items->bytes + items->n++ * STELE_FOOTER_ITEM);
	return STELE_OK;
}

void stele_items_finish(struct stele_items *items)
{
	free(items->bytes);
	*items = (struct stele_items){0};
}

const char *stele_extent_path(const struct stele_volume *v, uint32_t id, char *out)
{
	snprintf(out, STELE_PATH_MAX, "%.*s/extent-%08x", (int)(STELE_PATH_MAX - 32), v->dir, id);
	return out;
}

bool stele_extent_name(const char *name, uint32_t *id)
{
	unsigned v;
	int end = 0;
	char again[32];
	if (sscanf(name, "extent-%8x%n", &v, &end) != 1 || name[end])
		return false;
	snprintf(again, sizeof(again), "extent-%08x", v);
	if (strcmp(again, name) != 0)
		return false;
	*id = v;
	return true;
}

static enum stele_err open_file(const struct stele_volume *v, uint32_t id, uint32_t flags, int *fd)
{
	char path[STELE_PATH_MAX];
	return stele_file_open(v->env, stele_extent_path(v, id, path),
	                       STELE_OPEN_WRITE | STELE_OPEN_DIRECT | flags, 0600, fd);
}

static int64_t read_once(const struct stele_volume *v, const struct stele_extent *x, void *buf,
                         uint64_t len, uint64_t off)
{
	struct iovec iov = {buf, len};
	struct stele_op op = {
	    .kind = STELE_OP_READV, .fd = x->fd, .iov = &iov, .niov = 1, .off = off};
	return stele_env_call(v->env, &op);
}

/* What a device says of a sector: not of the file, nor of the process. */
static bool is_bad_sector(int64_t r)
{
	return r == -EIO || r == -ENODATA || r == -EILSEQ;
}

/* Page by page, each tried twice. *any: one of them at least could be read. 0, or an error that is not a sector's. */
static int64_t read_pages(const struct stele_volume *v, const struct stele_extent *x, uint8_t *buf,
                          uint64_t len, uint64_t off, struct stele_gap *gap, bool *any)
{
	*any = false;
	for (uint64_t at = 0; at < len; at += STELE_PAGE) {
		int64_t n = read_once(v, x, buf + at, STELE_PAGE, off + at);
		if (is_bad_sector(n))
			n = read_once(v, x, buf + at, STELE_PAGE, off + at);
		if (n < 0 && !is_bad_sector(n))
			return n;
		if (n < 0) {
			gap->unread = off + at + STELE_PAGE;
			memset(buf + at, 0, STELE_PAGE);
			continue;
		}
		*any = true;
		gap->beyond += STELE_PAGE - (uint64_t)n;
		memset(buf + at + n, 0, STELE_PAGE - (uint64_t)n);
	}
	return 0;
}

/* Some page elsewhere can be read: the disk is there. */
static bool answers(const struct stele_volume *v, const struct stele_extent *x)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	uint64_t probe[] = {0, v->extent_len / 2, v->extent_len - STELE_PAGE};
	bool yes = false;
	for (int i = 0; page && !yes && i < 3; i++)
		yes = read_once(v, x, page, STELE_PAGE, probe[i] / STELE_PAGE * STELE_PAGE) >= 0;
	free(page);
	return yes;
}

enum stele_err stele_extent_read(const struct stele_volume *v, const struct stele_extent *x,
                                 void *buf, uint64_t len, uint64_t off, struct stele_gap *gap)
{
	*gap = (struct stele_gap){0};
	int64_t n = read_once(v, x, buf, len, off);
	if (n >= 0) {
		memset((uint8_t *)buf + n, 0, len - (uint64_t)n);
		gap->beyond = len - (uint64_t)n;
		return STELE_OK;
	}
	bool any = false;
	int64_t r = is_bad_sector(n) ? read_pages(v, x, buf, len, off, gap, &any) : n;
	if (r == 0 && (any || answers(v, x)))
		return STELE_OK;
	return stele_fail_errno((int)(r ? -r : -n), "extent %08x: read at %llu", x->id,
	                        (unsigned long long)off);
}

static enum stele_err read_at(const struct stele_volume *v, const struct stele_extent *x, void *buf,
                              uint64_t len, uint64_t off)
{
	struct stele_gap gap;
	return stele_extent_read(v, x, buf, len, off, &gap);
}

/* The page at off; *unread: it cannot be read. */
static enum stele_err read_page(const struct stele_volume *v, const struct stele_extent *x,
                                void *page, uint64_t off, bool *unread)
{
	struct stele_gap gap;
	STELE_TRY(stele_extent_read(v, x, page, STELE_PAGE, off, &gap));
	*unread = gap.unread > 0;
	return STELE_OK;
}

/* Of what this was cannot be told, and nothing is to be guessed. */
static enum stele_err say_unread(const struct stele_extent *x)
{
	return stele_fail(STELE_ERR_IO,
	                  "extent %08x: its header does not check, and pages that tell what it was "
	                  "cannot be read: replace the disk",
	                  x->id);
}

static enum stele_err write_at(const struct stele_volume *v, const struct stele_extent *x,
                               const void *buf, uint64_t len, uint64_t off)
{
	return stele_file_pwrite(v->env, x->fd, buf, len, off, STELE_WRITE_DSYNC);
}

static enum stele_err write_head_at(const struct stele_volume *v, const struct stele_extent *x,
                                    uint64_t first_lsn, uint64_t off)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	struct stele_extent_head h = {.extent = x->id,
	                              .cycle = x->cycle,
	                              .disk = v->disk,
	                              .salt = v->salt,
	                              .first_lsn = first_lsn,
	                              .extent_len = v->extent_len};
	stele_extent_head_encode(&h, page);
	enum stele_err err = write_at(v, x, page, STELE_PAGE, off);
	free(page);
	return err;
}

enum stele_err stele_extent_write_head(const struct stele_volume *v, struct stele_extent *x,
                                       uint64_t first_lsn)
{
	STELE_TRY(write_head_at(v, x, first_lsn, 0));
	x->first_lsn = first_lsn;
	x->state = first_lsn ? STELE_EXTENT_OPEN : STELE_EXTENT_PREPARED;
	return STELE_OK;
}

static void init(struct stele_extent *x, uint32_t id, int fd)
{
	*x = (struct stele_extent){.id = id, .fd = fd, .end = STELE_PAGE, .filled = STELE_PAGE};
}

static enum stele_err sync_file(const struct stele_volume *v, const struct stele_extent *x)
{
	struct stele_op op = {.kind = STELE_OP_SYNC, .fd = x->fd};
	int64_t r = stele_env_call(v->env, &op);
	return r < 0 ? stele_fail_errno((int)-r, "extent %08x: sync", x->id) : STELE_OK;
}

enum stele_err stele_extent_fill(const struct stele_volume *v, struct stele_extent *x, uint64_t len)
{
	uint8_t *zeros = stele_pages_alloc(FILL_STEP);
	if (!zeros)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	memset(zeros, 0, FILL_STEP);
	enum stele_err err = STELE_OK;
	uint64_t end = len < v->extent_len - x->filled ? x->filled + len : v->extent_len;
	while (!err && x->filled < end) {
		uint64_t n = end - x->filled < FILL_STEP ? end - x->filled : FILL_STEP;
		err = stele_file_pwrite(v->env, x->fd, zeros, n, x->filled, 0);
		x->filled += n;
	}
	free(zeros);
	return err ? err : sync_file(v, x);
}

static enum stele_err allocate(const struct stele_volume *v, struct stele_extent *x)
{
	struct stele_op op = {.kind = STELE_OP_FALLOC, .fd = x->fd, .len = v->extent_len};
	int64_t r = stele_env_call(v->env, &op);
	if (r < 0)
		return stele_fail_errno((int)-r, "extent %08x: allocate %llu bytes", x->id,
		                        (unsigned long long)v->extent_len);
	STELE_TRY(stele_extent_write_head(v, x, 0));
	STELE_TRY(sync_file(v, x));
	return stele_file_sync_dir(v->env, v->dir);
}

enum stele_err stele_extent_create(const struct stele_volume *v, uint32_t id,
                                   struct stele_extent *out)
{
	int fd = -1;
	STELE_TRY(open_file(v, id, STELE_OPEN_CREATE | STELE_OPEN_EXCL, &fd));
	struct stele_extent x;
	init(&x, id, fd);
	x.cycle = 1;
	enum stele_err err = allocate(v, &x);
	if (err) {
		char path[STELE_PATH_MAX], why[STELE_DETAIL_MAX];
		stele_detail_copy(why);
		stele_file_close(v->env, &x.fd);
		/* what is left of it would be found, and used, at the next start */
		(void)!stele_file_unlink(v->env, stele_extent_path(v, id, path));
		return stele_fail(err, "%s", why);
	}
	*out = x;
	return STELE_OK;
}

/* The copy in the last page outlives a header that rots: without it the highest cycle of any batch
 * would count, which is one that is over. It takes the place of the old trailer. */
enum stele_err stele_extent_recycle(const struct stele_volume *v, struct stele_extent *x)
{
	x->cycle++;
	STELE_TRY(stele_extent_write_head(v, x, 0));
	STELE_TRY(write_head_at(v, x, 0, v->extent_len - STELE_PAGE));
	x->last_lsn = 0;
	x->end = x->landed = STELE_PAGE;
	return STELE_OK;
}

static bool is_ours(const struct stele_volume *v, const struct stele_extent *x,
                    const struct stele_extent_head *h)
{
	return stele_uuid_equal(&h->disk, &v->disk) && h->extent == x->id &&
	       h->extent_len == v->extent_len &&
	       memcmp(h->salt.b, v->salt.b, sizeof(h->salt.b)) == 0;
}

static enum stele_err classify(const struct stele_volume *v, struct stele_extent *x, uint8_t *page)
{
	struct stele_extent_head h;
	uint32_t version;
	STELE_TRY(read_at(v, x, page, STELE_PAGE, 0));
	if (stele_extent_head_newer(page, &version))
		return stele_fail(STELE_ERR_VERSION,
		                  "extent %08x: disk format %u is newer than this program's %u: "
		                  "use the programs of a newer release",
		                  x->id, version, STELE_DISK_VERSION);
	if (!stele_extent_head_decode(page, NULL, &h)) {
		x->state = STELE_EXTENT_DAMAGED;
		STELE_TRY(read_at(v, x, page, STELE_PAGE, v->extent_len - STELE_PAGE));
		if (stele_extent_head_decode(page, NULL, &h) && is_ours(v, x, &h))
			x->cycle = h.cycle;
		return STELE_OK;
	}
	if (!is_ours(v, x, &h))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "extent %08x: its header belongs to another disk or extent: "
		                  "were files of two disks mixed?",
		                  x->id);
	x->cycle = h.cycle;
	x->first_lsn = h.first_lsn;
	x->state = h.first_lsn ? STELE_EXTENT_OPEN : STELE_EXTENT_PREPARED;
	if (x->state == STELE_EXTENT_PREPARED)
		return STELE_OK;
	STELE_TRY(read_page(v, x, page, v->extent_len - STELE_PAGE, &x->unsure));
	if (stele_trailer_decode(page, &v->salt, x->id, x->cycle, v->extent_len, &x->trailer)) {
		x->state = STELE_EXTENT_SEALED;
		x->last_lsn = x->trailer.last_lsn;
		x->end = x->landed = x->trailer.end;
	}
	return STELE_OK;
}

enum stele_err stele_extent_open(const struct stele_volume *v, uint32_t id,
                                 struct stele_extent *out)
{
	int fd = -1;
	STELE_TRY(open_file(v, id, 0, &fd));
	struct stele_extent x;
	init(&x, id, fd);
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	enum stele_err err =
	    page ? classify(v, &x, page) : stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	free(page);
	if (err)
		stele_file_close(v->env, &x.fd);
	else
		*out = x;
	return err;
}

void stele_extent_close(const struct stele_volume *v, struct stele_extent *x)
{
	stele_file_close(v->env, &x->fd);
	stele_items_finish(&x->items);
}

/* ---- finding batches ---- */

void stele_scan_found_finish(struct stele_scan_found_list *list)
{
	free(list->at);
	*list = (struct stele_scan_found_list){0};
}

static enum stele_err found_add(struct stele_scan_found_list *list,
                                const struct stele_scan_found *f)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 64;
		struct stele_scan_found *more = realloc(list->at, cap * sizeof(more[0]));
		if (!more)
			return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
		list->at = more;
		list->cap = cap;
	}
	list->at[list->n++] = *f;
	return STELE_OK;
}

static enum stele_err load(const struct stele_volume *v, const struct stele_extent *x,
                           const struct stele_batch_head *head, uint8_t **out,
                           struct stele_gap *gap)
{
	uint8_t *meta = stele_pages_alloc(head->meta_len);
	if (!meta)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	enum stele_err err = stele_extent_read(v, x, meta, head->meta_len, head->place.off, gap);
	if (err)
		free(meta);
	else
		*out = meta;
	return err;
}

enum stele_err stele_batch_load(const struct stele_volume *v, const struct stele_extent *x,
                                const struct stele_batch_head *head, uint8_t **out)
{
	struct stele_gap gap;
	return load(v, x, head, out, &gap);
}

static bool meta_crc_ok(const struct stele_batch_head *head, const uint8_t *meta)
{
	return stele_crc32c(meta + STELE_BATCH_HEAD, head->meta_len - STELE_BATCH_HEAD, 0) ==
	       head->meta_crc;
}

/* A window over the extent that moves forward. */
struct window {
	uint8_t *buf;
	uint64_t off, len; /* what buf holds */
	uint64_t want;     /* how much to read next */
	uint64_t limit;
	struct stele_gap gap; /* of what buf holds */
	uint64_t unread;      /* of all so far */
};

static enum stele_err window_at(const struct stele_volume *v, const struct stele_extent *x,
                                struct window *w, uint64_t off, const uint8_t **page)
{
	if (off < w->off || off + STELE_PAGE > w->off + w->len) {
		w->off = off;
		w->len = w->want < w->limit - off ? w->want : w->limit - off;
		STELE_TRY(stele_extent_read(v, x, w->buf, w->len, off, &w->gap));
		w->unread = w->gap.unread > w->unread ? w->gap.unread : w->unread;
	}
	*page = w->buf + (off - w->off);
	return STELE_OK;
}

static enum stele_err check_meta(const struct stele_volume *v, const struct stele_extent *x,
                                 struct window *w, struct stele_scan_found *f)
{
	const struct stele_batch_head *h = &f->head;
	if (!w->gap.unread && h->place.off + h->meta_len <= w->off + w->len) {
		f->meta_ok = meta_crc_ok(h, w->buf + (h->place.off - w->off));
		return STELE_OK;
	}
	struct stele_gap gap;
	uint8_t *meta = NULL;
	STELE_TRY(load(v, x, h, &meta, &gap));
	f->meta_ok = meta_crc_ok(h, meta);
	f->unread = gap.unread > 0;
	w->unread = gap.unread > w->unread ? gap.unread : w->unread;
	free(meta);
	return STELE_OK;
}

static enum stele_err find(const struct stele_volume *v, const struct stele_extent *x,
                           struct window *w, struct stele_scan_found_list *list)
{
	uint64_t off = STELE_PAGE;
	w->want = WINDOW_MIN;
	while (off < w->limit) {
		const uint8_t *page;
		STELE_TRY(window_at(v, x, w, off, &page));
		struct stele_place place = {x->id, x->cycle, off};
		struct stele_scan_found f = {0};
		if (!stele_batch_head_decode(page, &v->salt, &place, v->extent_len, &f.head)) {
			off += STELE_PAGE;
			if (off == w->off + w->len && w->want < WINDOW_MAX)
				w->want *= 2;
			continue;
		}
		STELE_TRY(check_meta(v, x, w, &f));
		STELE_TRY(found_add(list, &f));
		off += f.head.len;
		w->want = WINDOW_MIN;
	}
	return STELE_OK;
}

enum stele_err stele_extent_find(const struct stele_volume *v, const struct stele_extent *x,
                                 uint64_t limit, struct stele_scan_found_list *list)
{
	struct window w = {.buf = stele_pages_alloc(WINDOW_MAX),
	                   .limit = limit ? limit : v->extent_len - STELE_PAGE};
	if (!w.buf)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	enum stele_err err = find(v, x, &w, list);
	list->unread = w.unread;
	free(w.buf);
	return err;
}

enum stele_err stele_extent_find_cycle(const struct stele_volume *v, const struct stele_extent *x,
                                       uint32_t *cycle)
{
	struct window w = {
	    .buf = stele_pages_alloc(WINDOW_MAX), .want = WINDOW_MAX, .limit = v->extent_len};
	if (!w.buf)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	enum stele_err err = STELE_OK;
	*cycle = 0;
	for (uint64_t off = STELE_PAGE; !err && off < w.limit; off += STELE_PAGE) {
		const uint8_t *page;
		err = window_at(v, x, &w, off, &page);
		if (!err && w.unread)
			err = say_unread(x);
		if (err)
			break;
		/* the check covers whatever cycle the header claims */
		struct stele_place place = {x->id, stele_le32(page + 20), off};
		struct stele_batch_head h;
		if (place.cycle > *cycle &&
		    stele_batch_head_decode(page, &v->salt, &place, v->extent_len, &h))
			*cycle = place.cycle;
	}
	free(w.buf);
	return err;
}

bool stele_batch_next(const struct stele_volume *v, const struct stele_batch_head *head,
                      const uint8_t *area, uint64_t *pos, struct stele_entry *out)
{
	for (; *pos + STELE_ENTRY_HEAD <= head->meta_len; *pos += STELE_ENTRY_ALIGN) {
		struct stele_place place = {head->place.extent, head->place.cycle,
		                            head->place.off + *pos};
		if (!stele_entry_head_decode(area + *pos, &v->salt, &place, v->extent_len,
		                             &out->head))
			continue;
		uint64_t after = *pos + stele_entry_len(out->head.meta_len);
		if (after > head->meta_len)
			continue;
		out->meta = area + *pos + STELE_ENTRY_HEAD;
		out->meta_ok = stele_crc32c(out->meta, out->head.meta_len, 0) == out->head.meta_crc;
		*pos = after;
		return true;
	}
	return false;
}

bool stele_entry_item(const struct stele_entry *e, struct stele_item_at *out)
{
	struct stele_item_at it = {
	    .key = e->head.key,
	    .birth_lsn = e->head.birth_lsn,
	    .extent = e->head.place.extent,
	    .off = e->head.place.off,
	    .data_off = e->head.data_off,
	    .data_len = e->head.data_len,
	    .meta_len = e->head.meta_len,
	    .hot_len = e->head.hot_len,
	};
	if (e->head.key.kind == STELE_ENTRY_TOMB) {
		struct stele_tomb_meta t;
		if (!stele_tomb_meta_decode(e->meta, e->head.meta_len, &t))
			return false;
		it.key.kind = t.kind;
		it.key.index = t.index;
		it.tomb = true;
		it.victim_lsn = t.victim_lsn;
		it.only = t.only;
	}
	*out = it;
	return true;
}

enum stele_err stele_shard_meta(const struct stele_entry_head *head, const uint8_t *meta,
                                uint8_t **out, uint32_t *len)
{
	uint32_t crcs = 4 * ((head->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN);
	assert(crcs <= head->hot_len);
	uint32_t front = head->hot_len - crcs;
	*len = head->meta_len - crcs;
	*out = malloc(*len);
	if (!*out)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	memcpy(*out, meta, front);
	memcpy(*out + front, meta + head->hot_len, head->meta_len - head->hot_len);
	return STELE_OK;
}

uint32_t stele_hot_crc(const struct stele_entry_head *head, const uint8_t *hot, uint32_t cell)
{
	uint32_t cells = (head->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	assert(cell < cells && 4 * cells <= head->hot_len);
	return stele_le32(hot + head->hot_len - 4 * (cells - cell));
}

enum stele_err stele_entry_check_cells(const struct stele_volume *v, int fd,
                                       const struct stele_entry_head *head, const uint8_t *hot)
{
	uint8_t *buf = stele_pages_alloc(WINDOW_MAX);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	struct stele_extent x = {.id = head->place.extent, .fd = fd};
	uint64_t padded = stele_round_up(head->data_len, STELE_PAGE);
	enum stele_err err = STELE_OK;
	for (uint64_t at = 0; !err && at < padded; at += WINDOW_MAX) {
		uint64_t len = padded - at < WINDOW_MAX ? padded - at : WINDOW_MAX;
		struct stele_gap gap;
		err = stele_extent_read(v, &x, buf, len, head->data_off + at, &gap);
		if (!err && gap.unread)
			err = stele_fail(STELE_ERR_IO, "cells cannot be read");
		for (uint64_t i = 0; !err && i < len; i += STELE_CELL_LEN) {
			uint64_t left = head->data_len - (at + i);
			uint32_t n = left < STELE_CELL_LEN ? (uint32_t)left : STELE_CELL_LEN;
			uint32_t cell = (uint32_t)((at + i) / STELE_CELL_LEN);
			if (stele_crc32c(buf + i, n, 0) != stele_hot_crc(head, hot, cell))
				err = stele_fail(STELE_ERR_CORRUPT, "cell %u fails its CRC", cell);
			else if (n < STELE_CELL_LEN && !stele_all_zero(buf + i + n, len - i - n))
				err = stele_fail(STELE_ERR_CORRUPT, "padding is not zero");
		}
	}
	free(buf);
	return err;
}

enum stele_err stele_batch_kill(const struct stele_volume *v, const struct stele_extent *x,
                                const struct stele_batch_head *head)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	memset(page, 0, STELE_PAGE);
	enum stele_err err = write_at(v, x, page, STELE_PAGE, head->place.off);
	free(page);
	return err;
}

/* ---- footers ---- */

static enum stele_err write_chunks(const struct stele_volume *v, const struct stele_extent *x,
                                   uint8_t *buf, struct stele_trailer *t)
{
	uint64_t off = t->footer_off;
	for (uint64_t done = 0; done < x->items.n; t->chunks++) {
		uint64_t n = x->items.n - done;
		if (n > STELE_FOOTER_ITEMS)
			n = STELE_FOOTER_ITEMS;
		uint64_t used = STELE_FOOTER_HEAD + n * STELE_FOOTER_ITEM;
		struct stele_footer_head h = {.place = {x->id, x->cycle, off},
		                              .chunk = t->chunks,
		                              .n = (uint32_t)n,
		                              .len = (uint32_t)stele_round_up(used, STELE_PAGE)};
		memcpy(buf + STELE_FOOTER_HEAD, x->items.bytes + done * STELE_FOOTER_ITEM,
		       n * STELE_FOOTER_ITEM);
		memset(buf + used, 0, h.len - used);
		h.crc = stele_crc32c(buf + STELE_FOOTER_HEAD, h.len - STELE_FOOTER_HEAD, 0);
		stele_footer_head_encode(&h, &v->salt, buf);
		STELE_TRY(write_at(v, x, buf, h.len, off));
		off += h.len;
		done += n;
	}
	return STELE_OK;
}

enum stele_err stele_extent_seal(const struct stele_volume *v, struct stele_extent *x)
{
	assert(x->state == STELE_EXTENT_OPEN);
	if (x->end + stele_footer_room(x->items.n) > v->extent_len)
		return stele_fail(STELE_ERR_CORRUPT, "extent %08x: no room for its footer", x->id);
	/* The footer as far back as it fits: behind `end` may lie a batch whose head has rotted, and the index
	 * may know what is in it. */
	struct stele_trailer t = {.extent = x->id,
	                          .cycle = x->cycle,
	                          .first_lsn = x->first_lsn,
	                          .last_lsn = x->last_lsn,
	                          .end = x->end,
	                          .footer_off = v->extent_len - stele_footer_room(x->items.n),
	                          .items = x->items.n};
	uint8_t *buf = stele_pages_alloc(STELE_FOOTER_CHUNK);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	enum stele_err err = write_chunks(v, x, buf, &t);
	if (!err) { /* only now: a trailer says that all of the footer is there */
		stele_trailer_encode(&t, &v->salt, buf);
		err = write_at(v, x, buf, STELE_PAGE, v->extent_len - STELE_PAGE);
	}
	free(buf);
	if (err)
		return stele_wrap(err, "extent %08x: seal", x->id);
	x->state = STELE_EXTENT_SEALED;
	x->trailer = t;
	stele_items_finish(&x->items);
	return STELE_OK;
}

struct footer_window { /* a piece of the file, read at once: chunks are small */
	uint8_t *buf;
	uint64_t off, len;
};

/* The chunk at off, in the window. */
static enum stele_err read_chunk(const struct stele_volume *v, const struct stele_extent *x,
                                 struct footer_window *w, uint64_t off, uint32_t chunk,
                                 struct stele_footer_head *h, const uint8_t **out)
{
	uint64_t len = v->extent_len - STELE_PAGE - off;
	if (off < w->off ||
	    off + (len < STELE_FOOTER_CHUNK ? len : STELE_FOOTER_CHUNK) > w->off + w->len) {
		w->off = off;
		uint64_t rest = (uint64_t)(x->trailer.chunks - chunk) * STELE_FOOTER_CHUNK;
		w->len = rest < WINDOW_MAX ? rest : WINDOW_MAX;
		w->len = len < w->len ? len : w->len;
		STELE_TRY(read_at(v, x, w->buf, w->len, off));
	}
	const uint8_t *buf = *out = w->buf + (off - w->off);
	struct stele_place place = {x->id, x->cycle, off};
	if (len < STELE_PAGE ||
	    !stele_footer_head_decode(buf, &v->salt, &place, v->extent_len, h) || h->len > len ||
	    h->chunk != chunk ||
	    stele_crc32c(buf + STELE_FOOTER_HEAD, h->len - STELE_FOOTER_HEAD, 0) != h->crc)
		return stele_fail(STELE_ERR_CORRUPT, "extent %08x: footer: chunk %u does not check",
		                  x->id, chunk);
	return STELE_OK;
}

enum stele_err
stele_extent_footer(const struct stele_volume *v, const struct stele_extent *x,
                    enum stele_err (*item)(void *ctx, const struct stele_item_at *it), void *ctx)
{
	assert(x->state == STELE_EXTENT_SEALED);
	struct footer_window w = {.buf = stele_pages_alloc(WINDOW_MAX)};
	if (!w.buf)
		return stele_fail(STELE_ERR_NOMEM, "extent: out of memory");
	uint64_t off = x->trailer.footer_off, items = 0;
	enum stele_err err = STELE_OK;
	for (uint32_t chunk = 0; !err && chunk < x->trailer.chunks; chunk++) {
		struct stele_footer_head h;
		const uint8_t *buf;
		err = read_chunk(v, x, &w, off, chunk, &h, &buf);
		for (uint32_t i = 0; !err && i < h.n; i++) {
			struct stele_item_at it;
			const uint8_t *b = buf + STELE_FOOTER_HEAD + i * STELE_FOOTER_ITEM;
			if (!stele_footer_item_decode(b, x->id, v->extent_len, &it))
				err = stele_fail(STELE_ERR_CORRUPT,
				                 "extent %08x: footer: a bad item", x->id);
			else
				err = item(ctx, &it);
		}
		if (!err) {
			off += h.len;
			items += h.n;
		}
	}
	if (!err && items != x->trailer.items)
		err = stele_fail(STELE_ERR_CORRUPT, "extent %08x: footer: %llu items, not %llu",
		                 x->id, (unsigned long long)items,
		                 (unsigned long long)x->trailer.items);
	free(w.buf);
	return err;
}

static enum stele_err add_item(void *ctx, const struct stele_item_at *it)
{
	return stele_items_add(ctx, it);
}

static enum stele_err add_batch(const struct stele_volume *v, const struct stele_extent *x,
                                const struct stele_batch_head *head, struct stele_items *items)
{
	uint8_t *area;
	STELE_TRY(stele_batch_load(v, x, head, &area));
	uint64_t pos = STELE_BATCH_HEAD;
	enum stele_err err = STELE_OK;
	struct stele_entry e;
	struct stele_item_at it;
	while (!err && stele_batch_next(v, head, area, &pos, &e))
		if (stele_entry_item(&e, &it))
			err = stele_items_add(items, &it);
	free(area);
	return err;
}

enum stele_err stele_extent_load_items(const struct stele_volume *v, const struct stele_extent *x,
                                       struct stele_items *items)
{
	uint64_t before = items->n;
	enum stele_err err = stele_extent_footer(v, x, add_item, items);
	if (err != STELE_ERR_CORRUPT)
		return err;
	items->n = before;
	struct stele_scan_found_list list = {0};
	err = stele_extent_find(v, x, x->trailer.end, &list);
	for (size_t i = 0; !err && i < list.n; i++)
		err = add_batch(v, x, &list.at[i].head, items);
	stele_scan_found_finish(&list);
	return err;
}
