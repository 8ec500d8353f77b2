/*
 * Extents: large files that hold batches of entries (layouts: extent_format.h, FORMAT.md). Here are
 * their lives (created, prepared, sealed, recycled), the search for batches, and footers. Which extent is
 * written and when is the store's affair; what an entry means is the index's.
 *
 * Sectors go bad one at a time. What of a file cannot be read counts as zeros here, as what lies behind a file's
 * end does: damage like any other, told by what does not check. Only where nothing of it can be read is that an error (IO).
 * But what cannot be read now may be sound, and read again: nothing is thrown away because of it.
 *
 * All functions block (stele_env_call): at start-up, or on a worker. A struct stele_extent is used by
 * one thread at a time.
 */
#ifndef STORAGE_EXTENT_H
#define STORAGE_EXTENT_H

#include "storage/extent_format.h"

struct stele_volume { /* what all extents of a store share; never changes while it is open */
	struct stele_env *env;
	char dir[STELE_PATH_MAX];
	struct stele_uuid disk;
	struct stele_salt salt;
	uint64_t extent_len;
};

enum stele_extent_state {
	STELE_EXTENT_PREPARED = 1, /* a header with first_lsn 0: holds nothing */
	STELE_EXTENT_OPEN,         /* has a header with an LSN and no trailer */
	STELE_EXTENT_SEALED,       /* has a trailer */
	STELE_EXTENT_DAMAGED,      /* no readable header; cycle: of the copy in its last page, or 0 */
};

struct stele_items { /* footer items, encoded, in the order of their offsets */
	uint8_t *bytes;
	uint64_t n, cap;
};

struct stele_extent {
	uint32_t id;
	uint32_t cycle;
	int fd;
	enum stele_extent_state state;
	uint64_t first_lsn, last_lsn;
	uint64_t end;                 /* where the next batch goes */
	struct stele_trailer trailer; /* sealed */
	struct stele_items items;     /* while it is open */
	/* the store's, while it writes */
	uint32_t flying; /* batches on their way into it */
	uint64_t landed; /* the end of what is durable and in the index */
	bool retired;    /* another extent is open now: to be sealed when flying is 0 */
	uint64_t filled; /* what of it was written before it was begun the first time (stele_extent_fill) */
	bool unsure;     /* its last page cannot be read: it may be sealed */
	uint64_t
	    unread; /* offset behind the last page that could not be read in a search for batches; 0: none */
	bool reserve;    /* the file system is full but for it: only for tombstones and copies (N8) */
	uint64_t spared_until_ns; /* reclaim could not empty it, and leaves it alone until then */
};

/* Adds an item; NOMEM. */
STELE_MUST_USE enum stele_err stele_items_add(struct stele_items *items,
                                              const struct stele_item_at *it);
void stele_items_finish(struct stele_items *items);

/* "DIR/extent-0000001f"; out: STELE_PATH_MAX. */
const char *stele_extent_path(const struct stele_volume *v, uint32_t id, char *out);
/* True and the number when a file's name is an extent's. */
bool stele_extent_name(const char *name, uint32_t *id);

/* A new file, its space allocated, with a header that says it holds nothing; durable. FULL, IO. */
STELE_MUST_USE enum stele_err stele_extent_create(const struct stele_volume *v, uint32_t id,
                                                  struct stele_extent *out);
/* Writes zeros to the next len bytes (or up to the end) of an extent that holds nothing and was never
 * written, so that batches overwrite them: a durable write into space that was never written runs at 0.6 of
 * an overwrite (N5). filled says how far it came; durable. Blocks. NOMEM, IO. */
STELE_MUST_USE enum stele_err stele_extent_fill(const struct stele_volume *v,
                                                struct stele_extent *x, uint64_t len);
/* Makes an extent that holds nothing any more PREPARED for its next cycle; durable. Whatever lies in it
 * counts for nothing from then on: everything that must not be lost is elsewhere, durably, before. */
STELE_MUST_USE enum stele_err stele_extent_recycle(const struct stele_volume *v,
                                                   struct stele_extent *x);
/* Opens a file and says by its header and trailer what it is. CORRUPT: a genuine header of another
 * disk or extent. VERSION: of a newer format. Where header and file are sound but there is no trailer: OPEN, end not known. */
STELE_MUST_USE enum stele_err stele_extent_open(const struct stele_volume *v, uint32_t id,
                                                struct stele_extent *out);
void stele_extent_close(const struct stele_volume *v, struct stele_extent *x);
/* Writes the header; durable. first_lsn 0: prepared. */
STELE_MUST_USE enum stele_err stele_extent_write_head(const struct stele_volume *v,
                                                      struct stele_extent *x, uint64_t first_lsn);

struct stele_gap {       /* what of a read could not be had, and is zeros */
	uint64_t unread; /* offset behind the last page that cannot be read; 0: none */
	uint64_t beyond; /* bytes behind the file's end */
};
/* Reads whole pages. IO: nothing can be read. */
STELE_MUST_USE enum stele_err stele_extent_read(const struct stele_volume *v,
                                                const struct stele_extent *x, void *buf,
                                                uint64_t len, uint64_t off, struct stele_gap *gap);

/* Batches. */

struct stele_scan_found {
	struct stele_batch_head head;
	bool meta_ok; /* its meta area's CRC holds */
	bool unread;  /* some of its meta area cannot be read */
};
struct stele_scan_found_list { /* zeroed: empty */
	struct stele_scan_found *at;
	size_t n, cap;
	uint64_t unread; /* as in struct stele_extent, of this search */
};
void stele_scan_found_finish(struct stele_scan_found_list *list);

/* All batches of the extent's cycle up to `limit` (0: the whole extent), ascending. Holes are not the
 * end: every page is tried (N4). */
STELE_MUST_USE enum stele_err stele_extent_find(const struct stele_volume *v,
                                                const struct stele_extent *x, uint64_t limit,
                                                struct stele_scan_found_list *list);
/* For a damaged header: the highest cycle of any batch in it; 0: there is none. IO: not every page can be read. */
STELE_MUST_USE enum stele_err stele_extent_find_cycle(const struct stele_volume *v,
                                                      const struct stele_extent *x,
                                                      uint32_t *cycle);

/* A batch's meta area, malloc'ed (free), whether its CRC holds or not. */
STELE_MUST_USE enum stele_err stele_batch_load(const struct stele_volume *v,
                                               const struct stele_extent *x,
                                               const struct stele_batch_head *head, uint8_t **out);

struct stele_entry { /* one entry in a loaded meta area */
	struct stele_entry_head head;
	const uint8_t *meta;
	bool meta_ok;
};
/* Steps through a meta area: *pos starts at STELE_BATCH_HEAD. False: no more. An entry whose header does
 * not check is stepped over. */
bool stele_batch_next(const struct stele_volume *v, const struct stele_batch_head *head,
                      const uint8_t *meta_area, uint64_t *pos, struct stele_entry *out);
/* What the entry comes to in index and footer. False: a tombstone's meta is bad. */
bool stele_entry_item(const struct stele_entry *e, struct stele_item_at *out);

/* Reads the cells of a SHARD entry and checks their CRCs and the padding: CORRUPT names the cell; IO: some cannot be read.
 * hot: the front of its meta. */
STELE_MUST_USE enum stele_err stele_entry_check_cells(const struct stele_volume *v, int fd,
                                                      const struct stele_entry_head *head,
                                                      const uint8_t *hot);
/* A SHARD's meta as it was given, without the cells' CRCs: descriptor and rows. malloc'ed (free). NOMEM. */
STELE_MUST_USE enum stele_err stele_shard_meta(const struct stele_entry_head *head,
                                               const uint8_t *meta, uint8_t **out, uint32_t *len);
/* CRC of cell i, from the front of a SHARD's meta. */
uint32_t stele_hot_crc(const struct stele_entry_head *head, const uint8_t *hot, uint32_t cell);

/* Zeroes a batch's first page, durably: it was torn, never acknowledged, and must not come back. */
STELE_MUST_USE enum stele_err stele_batch_kill(const struct stele_volume *v,
                                               const struct stele_extent *x,
                                               const struct stele_batch_head *head);

/* Footers. */

/* Writes footer and trailer, durably; the extent is SEALED and its items are let go. */
STELE_MUST_USE enum stele_err stele_extent_seal(const struct stele_volume *v,
                                                struct stele_extent *x);
/* Calls item for each in ascending order of offsets. CORRUPT: the footer does not check: find instead. */
STELE_MUST_USE enum stele_err
stele_extent_footer(const struct stele_volume *v, const struct stele_extent *x,
                    enum stele_err (*item)(void *ctx, const struct stele_item_at *it), void *ctx);

/* The same, appended to items; where the footer does not check, from the batches (what of them checks). */
STELE_MUST_USE enum stele_err stele_extent_load_items(const struct stele_volume *v,
                                                      const struct stele_extent *x,
                                                      struct stele_items *items);

/* Page-aligned memory, NULL when there is none; release with free. */
void *stele_pages_alloc(uint64_t len);

#endif
