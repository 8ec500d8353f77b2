/*
 * The simulated disk. Knows nothing of time, faults or handles: only of bytes, names, and what a
 * crash may leave of them.
 */
#include "storage/io/sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storage/io/sim_world.h"

#define SECTOR     512u
#define DISK_TOTAL (1ull << 40)

enum page_state {
	PAGE_CLEAN, /* what is stored is `now` */
	PAGE_DIRTY, /* what is stored is `old`; the next sync stores `now` */
	PAGE_LOST,  /* a sync failed: no later one will store `now` */
};

struct page { /* NULL bytes: zeros */
	uint8_t *now;
	uint8_t *old;
	enum page_state state;
	bool spoiled; /* cannot be read until it is written again */
};

struct name { /* an entry of a directory, which holds its inode */
	char *name;
	struct sim_inode *inode;
};

struct names { /* in ascending order */
	struct name *v;
	size_t n;
	size_t cap;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

struct change { /* of a directory, not durable yet */
	enum change_kind kind;
	char *name;
	char *to;                /* RENAME */
	struct sim_inode *inode; /* LINK: held */
};

struct sim_inode {
	struct sim_disk *disk;
	uint64_t ino;
	uint32_t holds;
	bool is_dir;
	/* a file */
	uint64_t size;
	uint64_t size_old; /* what is stored */
	struct page *pages;
	size_t pages_n;
	size_t dirty_from; /* pages that may be unsynced: [dirty_from, dirty_to) */
	size_t dirty_to;
	const void *locker;
	/* a directory */
	struct names now;
	struct names old;
	struct change *changes;
	size_t changes_n;
	size_t changes_cap;
	/* all inodes of the disk, in the order of creation */
	struct sim_inode *next;
	struct sim_inode *prev;
};

struct sim_disk {
	struct stele_prng *prng;
	struct sim_inode *first;
	struct sim_inode *last;
	struct sim_inode *root;
	uint64_t inos;
	uint64_t pages_used;
};

/* Inodes */

static struct sim_inode *inode_create(struct sim_disk *disk, bool is_dir)
{
	struct sim_inode *inode = stele_sim_alloc(sizeof(*inode));
	inode->disk = disk;
	inode->ino = ++disk->inos;
	inode->is_dir = is_dir;
	inode->holds = 1;
	inode->prev = disk->last;
	if (disk->last)
		disk->last->next = inode;
	else
		disk->first = inode;
	disk->last = inode;
	return inode;
}

static struct sim_inode *hold(struct sim_inode *inode)
{
	inode->holds++;
	return inode;
}

static void names_clear(struct names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		free(names->v[i].name);
		stele_sim_inode_release(names->v[i].inode);
	}
	free(names->v);
	*names = (struct names){0};
}

static void changes_clear(struct sim_inode *dir)
{
	for (size_t i = 0; i < dir->changes_n; i++) {
		free(dir->changes[i].name);
		free(dir->changes[i].to);
		if (dir->changes[i].inode)
			stele_sim_inode_release(dir->changes[i].inode);
	}
	dir->changes_n = 0;
}

static void bytes_free(struct sim_disk *disk, uint8_t *bytes)
{
	if (bytes)
		disk->pages_used--;
	free(bytes);
}

/* Directories lie in directories, so this calls itself as deep as paths are. */
void stele_sim_inode_release(struct sim_inode *inode)
{
	assert(inode->holds > 0);
	if (--inode->holds > 0)
		return;
	struct sim_disk *disk = inode->disk;
	for (size_t i = 0; i < inode->pages_n; i++) {
		bytes_free(disk, inode->pages[i].now);
		bytes_free(disk, inode->pages[i].old);
	}
	free(inode->pages);
	names_clear(&inode->now);
	names_clear(&inode->old);
	changes_clear(inode);
	free(inode->changes);
	if (inode->prev)
		inode->prev->next = inode->next;
	else
		disk->first = inode->next;
	if (inode->next)
		inode->next->prev = inode->prev;
	else
		disk->last = inode->prev;
	free(inode);
}

bool stele_sim_inode_is_dir(const struct sim_inode *inode)
{
	return inode->is_dir;
}

uint64_t stele_sim_inode_size(const struct sim_inode *inode)
{
	return inode->size;
}

int64_t stele_sim_inode_lock(struct sim_inode *inode, const void *holder)
{
	if (inode->locker && inode->locker != holder)
		return -EWOULDBLOCK;
	inode->locker = holder;
	return 0;
}

void stele_sim_inode_unlock(struct sim_inode *inode, const void *holder)
{
	if (inode->locker == holder)
		inode->locker = NULL;
}

/* Pages */

static uint8_t *bytes_copy(struct sim_disk *disk, const uint8_t *bytes)
{
	if (!bytes)
		return NULL;
	uint8_t *copy = stele_sim_alloc(STELE_PAGE);
	memcpy(copy, bytes, STELE_PAGE);
	disk->pages_used++;
	return copy;
}

/* NULL: never written, zeros. */
static struct page *page_find(const struct sim_inode *inode, uint64_t i)
{
	return i < inode->pages_n ? &inode->pages[i] : NULL;
}

static struct page *page_at(struct sim_inode *inode, uint64_t i)
{
	if (i >= inode->pages_n) {
		size_t n = inode->pages_n ? inode->pages_n : 16;
		while (n <= i)
			n *= 2;
		struct page *more = stele_sim_alloc(n * sizeof(more[0]));
		if (inode->pages_n)
			memcpy(more, inode->pages, inode->pages_n * sizeof(more[0]));
		free(inode->pages);
		inode->pages = more;
		inode->pages_n = n;
	}
	return &inode->pages[i];
}

/* What is stored from now on is `now`. */
static void page_store(struct sim_disk *disk, struct page *page)
{
	bytes_free(disk, page->old);
	page->old = NULL;
	page->state = PAGE_CLEAN;
}

/* Replaces part of a page; NULL bytes mean zeros. */
static void page_write(struct sim_inode *inode, uint64_t i, size_t at, const uint8_t *bytes,
                       size_t len)
{
	struct sim_disk *disk = inode->disk;
	struct page *page = page_at(inode, i);
	page->spoiled = false;
	if (page->state == PAGE_DIRTY && stele_prng_below(disk->prng, 4) == 0)
		page_store(disk, page); /* written back by itself, some time before this */
	uint8_t *next = len < STELE_PAGE ? bytes_copy(disk, page->now) : NULL;
	bool zeros = !bytes || stele_all_zero(bytes, len);
	if (!next && !zeros) {
		next = stele_sim_alloc(STELE_PAGE);
		disk->pages_used++;
	}
	if (next && zeros)
		memset(next + at, 0, len);
	else if (next)
		memcpy(next + at, bytes, len);
	if (page->state == PAGE_CLEAN)
		page->old = page->now;
	else
		bytes_free(disk, page->now);
	page->now = next;
	page->state = PAGE_DIRTY;
	if (inode->dirty_from == inode->dirty_to) {
		inode->dirty_from = i;
		inode->dirty_to = i + 1;
	} else if (i < inode->dirty_from) {
		inode->dirty_from = i;
	} else if (i >= inode->dirty_to) {
		inode->dirty_to = i + 1;
	}
}

static void write_range(struct sim_inode *inode, uint64_t off, const uint8_t *bytes, uint64_t len)
{
	while (len > 0) {
		size_t at = off % STELE_PAGE;
		size_t n = STELE_PAGE - at < len ? STELE_PAGE - at : (size_t)len;
		page_write(inode, off / STELE_PAGE, at, bytes, n);
		bytes = bytes ? bytes + n : NULL;
		off += n;
		len -= n;
	}
}

void stele_sim_inode_resize(struct sim_inode *inode, uint64_t size)
{
	if (size < inode->size) {
		/* what lies beyond the end reads as zeros when the file grows again */
		uint64_t end = (uint64_t)inode->pages_n * STELE_PAGE;
		if (end > inode->size)
			end = inode->size;
		if (end > size)
			write_range(inode, size, NULL, end - size);
	} else if (inode->size != inode->size_old && stele_prng_below(inode->disk->prng, 4) == 0) {
		inode->size_old = inode->size; /* an earlier change reached the disk by itself */
	}
	inode->size = size;
}

size_t stele_sim_inode_read(struct sim_inode *inode, uint64_t off, void *out, size_t len)
{
	if (off >= inode->size)
		return 0;
	if (len > inode->size - off)
		len = (size_t)(inode->size - off);
	uint8_t *to = out;
	for (size_t left = len; left > 0;) {
		size_t at = off % STELE_PAGE;
		size_t n = STELE_PAGE - at < left ? STELE_PAGE - at : left;
		const struct page *page = page_find(inode, off / STELE_PAGE);
		if (page && page->now)
			memcpy(to, page->now + at, n);
		else
			memset(to, 0, n);
		to += n;
		off += n;
		left -= n;
	}
	return len;
}

void stele_sim_inode_write(struct sim_inode *inode, uint64_t off, const void *bytes, size_t len)
{
	if (off + len > inode->size)
		stele_sim_inode_resize(inode, off + len);
	write_range(inode, off, bytes, len);
}

void stele_sim_inode_sync_range(struct sim_inode *inode, uint64_t off, uint64_t len)
{
	uint64_t end = stele_round_up(off + len, STELE_PAGE) / STELE_PAGE;
	for (uint64_t i = off / STELE_PAGE; i < end && i < inode->pages_n; i++) {
		if (inode->pages[i].state == PAGE_DIRTY)
			page_store(inode->disk, &inode->pages[i]);
	}
	if (inode->size < inode->size_old)
		inode->size_old = inode->size;
	else if (inode->size_old < off + len)
		inode->size_old = off + len; /* no more of it than these bytes need */
}

static void names_copy(struct names *to, const struct names *from)
{
	names_clear(to);
	to->v = stele_sim_alloc(from->n * sizeof(to->v[0]) + 1);
	to->n = to->cap = from->n;
	for (size_t i = 0; i < from->n; i++) {
		to->v[i].name = strdup(from->v[i].name);
		assert(to->v[i].name);
		to->v[i].inode = hold(from->v[i].inode);
	}
}

void stele_sim_inode_sync(struct sim_inode *inode)
{
	if (inode->is_dir) {
		if (inode->changes_n == 0)
			return;
		names_copy(&inode->old, &inode->now);
		changes_clear(inode);
		return;
	}
	size_t lost = inode->dirty_to;
	for (size_t i = inode->dirty_from; i < inode->dirty_to; i++) {
		if (inode->pages[i].state == PAGE_DIRTY)
			page_store(inode->disk, &inode->pages[i]);
		else if (inode->pages[i].state == PAGE_LOST && i < lost)
			lost = i;
	}
	inode->dirty_from = lost;
	inode->size_old = inode->size;
}

void stele_sim_inode_sync_failed(struct sim_inode *inode)
{
	for (size_t i = inode->dirty_from; i < inode->dirty_to; i++) {
		struct page *page = &inode->pages[i];
		if (page->state == PAGE_DIRTY && stele_prng_below(inode->disk->prng, 2) == 0)
			page_store(inode->disk, page); /* this one had made it */
		else if (page->state == PAGE_DIRTY)
			page->state = PAGE_LOST;
	}
}

bool stele_sim_inode_flip(struct sim_inode *inode, uint64_t off, uint32_t bit)
{
	if (inode->is_dir || off >= inode->size)
		return false;
	struct page *page = page_at(inode, off / STELE_PAGE);
	if (!page->now) {
		page->now = stele_sim_alloc(STELE_PAGE);
		inode->disk->pages_used++;
	}
	page->now[off % STELE_PAGE] ^= (uint8_t)(1u << (bit % 8));
	return true;
}

bool stele_sim_inode_readable(const struct sim_inode *inode, uint64_t off, uint64_t len)
{
	uint64_t end = stele_round_up(off + len, STELE_PAGE) / STELE_PAGE;
	for (uint64_t i = off / STELE_PAGE; i < end && i < inode->pages_n; i++)
		if (inode->pages[i].spoiled)
			return false;
	return true;
}

/* A crash, for one file. Pages of which nothing is certain become old, new, or a mix of both. */
static void file_crash(struct sim_inode *inode)
{
	struct stele_prng *prng = inode->disk->prng;
	for (size_t i = inode->dirty_from; i < inode->dirty_to; i++) {
		struct page *page = &inode->pages[i];
		if (page->state == PAGE_CLEAN)
			continue;
		uint64_t fate = page->state == PAGE_LOST ? 0 : stele_prng_below(prng, 3);
		uint64_t keep = fate == 0 ? 0 : fate == 1 ? UINT64_MAX : stele_prng_u64(prng);
		for (size_t s = 0; s < STELE_PAGE / SECTOR && keep != UINT64_MAX; s++) {
			if (keep >> s & 1)
				continue;
			if (!page->now && !page->old)
				break;
			if (!page->now) {
				page->now = stele_sim_alloc(STELE_PAGE);
				inode->disk->pages_used++;
			}
			if (page->old)
				memcpy(page->now + s * SECTOR, page->old + s * SECTOR, SECTOR);
			else
				memset(page->now + s * SECTOR, 0, SECTOR);
		}
		page_store(inode->disk, page);
	}
	inode->dirty_from = inode->dirty_to = 0;
	if (inode->size != inode->size_old && stele_prng_below(prng, 2) == 0)
		inode->size = inode->size_old;
	/* beyond the end there is nothing, whatever was stored there */
	uint64_t end = (uint64_t)inode->pages_n * STELE_PAGE;
	if (end > inode->size)
		write_range(inode, inode->size, NULL, end - inode->size);
	stele_sim_inode_sync(inode);
	inode->locker = NULL;
}

/* Directories */

/* Where a name is, or would be. */
static bool names_find(const struct names *names, const char *name, size_t *at)
{
	size_t low = 0, high = names->n;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int c = strcmp(names->v[middle].name, name);
		if (c == 0) {
			*at = middle;
			return true;
		}
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*at = low;
	return false;
}

/* Takes over one hold of the inode. */
static void names_set(struct names *names, const char *name, struct sim_inode *inode)
{
	size_t at;
	if (names_find(names, name, &at)) {
		stele_sim_inode_release(names->v[at].inode);
		names->v[at].inode = inode;
		return;
	}
	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 8;
		struct name *more = stele_sim_alloc(cap * sizeof(more[0]));
		if (names->n)
			memcpy(more, names->v, names->n * sizeof(more[0]));
		free(names->v);
		names->v = more;
		names->cap = cap;
	}
	memmove(&names->v[at + 1], &names->v[at], (names->n - at) * sizeof(names->v[0]));
	names->v[at].name = strdup(name);
	assert(names->v[at].name);
	names->v[at].inode = inode;
	names->n++;
}

/* Hands the name's hold of its inode to the caller; the name is there. */
static struct sim_inode *names_take(struct names *names, const char *name)
{
	size_t at = 0;
	bool found = names_find(names, name, &at);
	assert(found);
	struct sim_inode *inode = names->v[at].inode;
	free(names->v[at].name);
	names->n--;
	memmove(&names->v[at], &names->v[at + 1], (names->n - at) * sizeof(names->v[0]));
	return inode;
}

static void change_apply(struct names *names, const struct change *change)
{
	switch (change->kind) {
	case CHANGE_LINK:
		names_set(names, change->name, hold(change->inode));
		break;
	case CHANGE_UNLINK:
		stele_sim_inode_release(names_take(names, change->name));
		break;
	case CHANGE_RENAME:
		names_set(names, change->to, names_take(names, change->name));
		break;
	}
}

static char *copy_of(const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	assert(copy || !text);
	return copy;
}

static void dir_change(struct sim_inode *dir, enum change_kind kind, const char *name,
                       const char *to, struct sim_inode *inode)
{
	if (dir->changes_n == dir->changes_cap) {
		size_t cap = dir->changes_cap ? 2 * dir->changes_cap : 8;
		struct change *more = stele_sim_alloc(cap * sizeof(more[0]));
		if (dir->changes_n)
			memcpy(more, dir->changes, dir->changes_n * sizeof(more[0]));
		free(dir->changes);
		dir->changes = more;
		dir->changes_cap = cap;
	}
	struct change *change = &dir->changes[dir->changes_n++];
	*change =
	    (struct change){.kind = kind, .name = copy_of(name), .to = copy_of(to), .inode = inode};
	if (inode)
		hold(inode);
	change_apply(&dir->now, change);
}

static void dir_crash(struct sim_inode *dir)
{
	size_t kept = (size_t)stele_prng_below(dir->disk->prng, dir->changes_n + 1);
	for (size_t i = 0; i < kept; i++)
		change_apply(&dir->old, &dir->changes[i]);
	names_copy(&dir->now, &dir->old);
	changes_clear(dir);
}

struct sim_disk *stele_sim_disk_create(struct stele_prng *prng)
{
	struct sim_disk *disk = stele_sim_alloc(sizeof(*disk));
	disk->prng = prng;
	disk->root = inode_create(disk, true);
	return disk;
}

void stele_sim_disk_destroy(struct sim_disk *disk)
{
	stele_sim_inode_release(disk->root);
	assert(!disk->first);
	free(disk);
}

void stele_sim_disk_crash(struct sim_disk *disk)
{
	/* Held over the loop, so that none goes while its neighbour is looked at. */
	for (struct sim_inode *inode = disk->first; inode; inode = inode->next)
		hold(inode);
	for (struct sim_inode *inode = disk->first; inode; inode = inode->next) {
		if (inode->is_dir)
			dir_crash(inode);
		else
			file_crash(inode);
	}
	for (struct sim_inode *inode = disk->first, *next; inode; inode = next) {
		next = inode->next;
		/* Releasing a directory may release what follows it, but never what is held. */
		stele_sim_inode_release(inode);
	}
}

/* Paths */

/* The inode at a path (not held), or NULL and a negative errno. With `parent`: the directory that
 * holds the last part, which need not exist, and that part in `part`. */
static struct sim_inode *walk(struct sim_disk *disk, const char *path, struct sim_inode **parent,
                              char part[STELE_PATH_MAX], int64_t *error)
{
	struct sim_inode *at = disk->root;
	if (parent)
		*parent = NULL;
	*error = 0;
	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/");
		if (len == 0 || (len == 1 && *p == '.')) {
			p += len + (p[len] == '/');
			continue;
		}
		if (!at || !at->is_dir || len >= STELE_PATH_MAX) {
			*error = !at ? -ENOENT : !at->is_dir ? -ENOTDIR : -ENAMETOOLONG;
			if (parent)
				*parent = NULL;
			return NULL;
		}
		assert(!(len == 2 && p[0] == '.' && p[1] == '.'));
		memcpy(part, p, len);
		part[len] = '\0';
		if (parent)
			*parent = at;
		size_t i;
		at = names_find(&at->now, part, &i) ? at->now.v[i].inode : NULL;
		p += len + (p[len] == '/');
	}
	if (!at)
		*error = -ENOENT;
	return at;
}

int64_t stele_sim_disk_open(struct sim_disk *disk, const char *path, uint32_t flags,
                            struct sim_inode **out)
{
	char part[STELE_PATH_MAX];
	struct sim_inode *parent;
	int64_t error;
	struct sim_inode *inode = walk(disk, path, &parent, part, &error);
	if (inode && flags & STELE_OPEN_CREATE && flags & STELE_OPEN_EXCL)
		return -EEXIST;
	if (!inode && (!parent || !(flags & STELE_OPEN_CREATE)))
		return error;
	if (inode && inode->is_dir && flags & (STELE_OPEN_WRITE | STELE_OPEN_CREATE))
		return -EISDIR;
	if (inode && !inode->is_dir && flags & STELE_OPEN_DIR)
		return -ENOTDIR;
	if (inode) {
		*out = hold(inode);
		return 0;
	}
	inode = inode_create(disk, false);
	dir_change(parent, CHANGE_LINK, part, NULL, inode);
	*out = inode;
	return 0;
}

int64_t stele_sim_disk_mkdir(struct sim_disk *disk, const char *path)
{
	char part[STELE_PATH_MAX];
	struct sim_inode *parent;
	int64_t error;
	if (walk(disk, path, &parent, part, &error))
		return -EEXIST;
	if (!parent)
		return error;
	struct sim_inode *inode = inode_create(disk, true);
	dir_change(parent, CHANGE_LINK, part, NULL, inode);
	stele_sim_inode_release(inode);
	return 0;
}

int64_t stele_sim_disk_unlink(struct sim_disk *disk, const char *path)
{
	char part[STELE_PATH_MAX];
	struct sim_inode *parent;
	int64_t error;
	struct sim_inode *inode = walk(disk, path, &parent, part, &error);
	if (!inode)
		return error;
	if (inode->is_dir)
		return -EISDIR;
	dir_change(parent, CHANGE_UNLINK, part, NULL, NULL);
	return 0;
}

int64_t stele_sim_disk_rename(struct sim_disk *disk, const char *from, const char *to)
{
	char part[STELE_PATH_MAX], part_to[STELE_PATH_MAX];
	struct sim_inode *parent, *parent_to;
	int64_t error, error_to;
	struct sim_inode *inode = walk(disk, from, &parent, part, &error);
	struct sim_inode *victim = walk(disk, to, &parent_to, part_to, &error_to);
	if (!inode)
		return error;
	if (!parent_to)
		return victim ? -EBUSY : error_to; /* the root, or no such directory */
	if (parent != parent_to)
		return -EXDEV;
	if (victim == inode)
		return 0;
	if (victim && victim->is_dir)
		return inode->is_dir ? -ENOTEMPTY : -EISDIR;
	if (victim && inode->is_dir)
		return -ENOTDIR;
	dir_change(parent, CHANGE_RENAME, part, part_to, NULL);
	return 0;
}

int64_t stele_sim_disk_list(struct sim_disk *disk, const char *path, struct stele_list *list)
{
	char part[STELE_PATH_MAX];
	int64_t error;
	struct sim_inode *dir = walk(disk, path, NULL, part, &error);
	if (!dir)
		return error;
	if (!dir->is_dir)
		return -ENOTDIR;
	for (size_t i = 0; i < dir->now.n; i++) {
		if (!stele_list_add(list, dir->now.v[i].name))
			return -ENOMEM;
	}
	return 0;
}

int64_t stele_sim_disk_stat(struct sim_disk *disk, const char *path, struct stele_stat *st)
{
	char part[STELE_PATH_MAX];
	int64_t error;
	struct sim_inode *inode = walk(disk, path, NULL, part, &error);
	if (!inode)
		return error;
	*st = (struct stele_stat){
	    .size = inode->size,
	    .ino = inode->ino,
	    .disk_free = DISK_TOTAL - disk->pages_used * STELE_PAGE,
	    .disk_total = DISK_TOTAL,
	    .is_dir = inode->is_dir,
	};
	return 0;
}

void stele_sim_disk_wipe(struct sim_disk *disk, const char *path)
{
	char part[STELE_PATH_MAX];
	int64_t error;
	struct sim_inode *dir = walk(disk, path, NULL, part, &error);
	if (!dir || !dir->is_dir)
		return;
	names_clear(&dir->now);
	names_clear(&dir->old);
	changes_clear(dir);
}

bool stele_sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t off, uint32_t bit)
{
	char part[STELE_PATH_MAX];
	int64_t error;
	struct sim_inode *inode = walk(disk, path, NULL, part, &error);
	return inode && stele_sim_inode_flip(inode, off, bit);
}

bool stele_sim_disk_spoil(struct sim_disk *disk, const char *path, uint64_t off, bool bad)
{
	char part[STELE_PATH_MAX];
	int64_t error;
	struct sim_inode *inode = walk(disk, path, NULL, part, &error);
	if (!inode || inode->is_dir || off >= inode->size)
		return false;
	page_at(inode, off / STELE_PAGE)->spoiled = bad;
	return true;
}
