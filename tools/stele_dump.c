/*
 * stele-dump: every structure in an extent or a superblock (storage/FORMAT.md), a line each: where it
 * lies, what it says, and whether it checks. For people who look at a disk by hand. It reads one
 * file, trusts nothing in it, changes nothing, and judges nothing beyond the structure itself: what is
 * alive, and whether cells hash to their block, is stele-fsck's business.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/crc.h"
#include "storage/base/deposit.h"
#include "storage/extent.h"
#include "tools/json_out.h"

static const char usage[] =
    "Usage: stele-dump [--json] FILE\n\n"
    "Lists every structure in FILE, an extent or a superblock of a disk's directory: where it\n"
    "lies, what it says, whether it checks. With --json one object a line.\n"
    "An extent whose header is damaged is read with the salt of the superblock beside it.\n\n"
    "Example: stele-dump /srv/disk0/stele/extent-00000001\n\n"
    "Exit code 0: everything checks; 5: something does not; 2: usage; 1: it could not be read.\n";

struct dump {
	const char *path;
	int fd;
	uint64_t size; /* of the file, at most what an extent may have */
	bool json;
	struct stele_volume vol; /* salt and length; it has no env: only what is pure is used */
	uint32_t id, cycle;
	uint64_t structures, damaged;
	bool in_gap;
	uint8_t page[STELE_PAGE];
	uint8_t chunk[STELE_FOOTER_CHUNK];
};

/* ---- output ---- */

/* Prints a structure; takes `fields` (an object, NULL: out of memory). why NULL: it checks. */
static void show(struct dump *d, uint64_t off, const char *what, const char *why, json_t *fields)
{
	d->structures++;
	d->damaged += why != NULL;
	json_t *line = json_pack("{s:s, s:o, s:b}", "what", what, "offset", stele_json_u64(off),
	                         "checks", why == NULL);
	if (line && why)
		json_object_set_new(line, "why", stele_json_text(why));
	if (line && fields)
		json_object_update(line, fields);
	json_decref(fields);
	if (d->json) {
		json_dumpf(line, stdout, JSON_COMPACT);
	} else {
		const char *key;
		json_t *value;
		printf("%12llu  %-10s %s", (unsigned long long)off, what,
		       why ? "DAMAGED" : "ok     ");
		json_object_foreach(line, key, value)
		{
			if (strcmp(key, "what") == 0 || strcmp(key, "offset") == 0 ||
			    strcmp(key, "checks") == 0)
				continue;
			printf("  %s ", key);
			json_dumpf(value, stdout,
			           JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
		}
	}
	putchar('\n');
	json_decref(line);
}

/* ---- input ---- */

/* len bytes at off; zeros beyond the end. False: the file cannot be read there. */
static bool read_at(struct dump *d, void *buf, size_t len, uint64_t off)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(d->fd, (uint8_t *)buf + got, len - got, (off_t)(off + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			char why[128];
			snprintf(why, sizeof(why), "cannot be read: %s", strerror(errno));
			show(d, off, "page", why, json_object());
			return false;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	memset((uint8_t *)buf + got, 0, len - got);
	return true;
}

/* ---- superblock ---- */

static json_t *superblock_fields(const struct stele_superblock *s)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
	                 (json_int_t)s->version, "features", (json_int_t)s->features, "disk",
	                 stele_json_hex(s->disk.b, sizeof(s->disk.b)), "cluster",
	                 stele_json_hex(s->cluster.b, sizeof(s->cluster.b)), "salt",
	                 stele_json_hex(s->salt.b, sizeof(s->salt.b)), "incarnation",
	                 stele_json_u64(s->incarnation), "extent_len",
	                 stele_json_u64(s->extent_len), "lsn_floor", stele_json_u64(s->lsn_floor));
}

static void dump_superblock(struct dump *d)
{
	struct stele_superblock s;
	char why[STELE_DETAIL_MAX];
	if (d->size != STELE_PAGE) {
		snprintf(why, sizeof(why), "%llu bytes, not %u", (unsigned long long)d->size,
		         STELE_PAGE);
		show(d, 0, "superblock", why, json_object());
	} else if (stele_superblock_decode(d->page, &s) != STELE_OK) {
		stele_detail_copy(why);
		show(d, 0, "superblock", why, json_object());
	} else {
		show(d, 0, "superblock", NULL, superblock_fields(&s));
	}
}

/* The salt of the superblock in the same directory. */
static bool salt_beside(struct dump *d)
{
	char path[STELE_PATH_MAX];
	const char *slash = strrchr(d->path, '/');
	int dir = slash ? (int)(slash - d->path) + 1 : 0;
	int n = snprintf(path, sizeof(path), "%.*ssuperblock", dir, d->path);
	if (n < 0 || (size_t)n >= sizeof(path))
		return false;
	FILE *f = fopen(path, "rb");
	if (!f)
		return false;
	uint8_t page[STELE_PAGE];
	struct stele_superblock s;
	bool ok =
	    fread(page, sizeof(page), 1, f) == 1 && stele_superblock_decode(page, &s) == STELE_OK;
	fclose(f);
	if (ok)
		d->vol.salt = s.salt;
	return ok;
}

/* ---- entries ---- */

static const char *kind_name(uint8_t kind)
{
	static const char *const name[] = {
	    [STELE_ENTRY_SHARD] = "shard",   [STELE_ENTRY_REF] = "ref",
	    [STELE_ENTRY_RECORD] = "record", [STELE_ENTRY_MARK] = "mark",
	    [STELE_ENTRY_TOMB] = "tomb",     [STELE_ENTRY_FOOTER] = "footer",
	    [STELE_ENTRY_REFUSE] = "refuse", [STELE_ENTRY_KEEP] = "keep",
	};
	return kind < sizeof(name) / sizeof(name[0]) && name[kind] ? name[kind] : "unknown";
}

static json_t *key_fields(const struct stele_key *key)
{
	return json_pack("{s:s, s:i, s:i, s:o, s:o}", "kind", kind_name(key->kind), "pool",
	                 (int)key->pool, "index", (int)key->index, "id",
	                 stele_json_hex(key->id.b, sizeof(key->id.b)), "sub",
	                 stele_json_hex(key->sub.b, sizeof(key->sub.b)));
}

/* Cells' CRCs and the padding after the last. False: why says which. */
static bool check_cells(struct dump *d, const struct stele_entry *e, char why[128])
{
	uint32_t cells = (e->head.data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	uint8_t *cell = malloc(STELE_CELL_LEN);
	bool ok =
	    cell && (uint64_t)cells * 4 <= e->head.hot_len && e->head.hot_len <= e->head.meta_len;
	snprintf(why, 128, "%s", cell ? "no room for its cells' CRCs" : "out of memory");
	for (uint32_t i = 0; ok && i < cells; i++) {
		uint64_t at = (uint64_t)i * STELE_CELL_LEN, left = e->head.data_len - at;
		uint32_t n = left < STELE_CELL_LEN ? (uint32_t)left : STELE_CELL_LEN;
		uint32_t padded = (uint32_t)stele_round_up(n, STELE_PAGE);
		ok = read_at(d, cell, padded, e->head.data_off + at);
		bool crc = ok && stele_crc32c(cell, n, 0) == stele_hot_crc(&e->head, e->meta, i);
		bool zero = ok && stele_all_zero(cell + n, padded - n);
		ok = crc && zero;
		snprintf(why, 128, "cell %u %s", i,
		         crc ? "is followed by bytes that are not zero" : "fails its CRC");
	}
	free(cell);
	return ok;
}

/* What a meta says, by kind. False: it does not decode; why says so. */
static bool meta_fields(const struct stele_entry *e, json_t *fields, char why[STELE_DETAIL_MAX])
{
	enum stele_err err = STELE_OK;
	uint32_t len = e->head.meta_len;
	switch (e->head.key.kind) {
	case STELE_ENTRY_SHARD: {
		struct stele_descriptor desc;
		size_t used;
		char name[STELE_NAME_MAX];
		err = stele_descriptor_decode_prefix(e->meta, len, &desc, &used);
		if (err)
			break;
		json_object_set_new(fields, "code",
		                    json_string(stele_code_id_name(&desc.code, name)));
		json_object_set_new(fields, "block_len", stele_json_u64(desc.length));
		break;
	}
	case STELE_ENTRY_REF:
		if (len != STELE_HASH_LEN)
			err = stele_fail(STELE_ERR_CORRUPT, "a reference of %u bytes", len);
		else
			json_object_set_new(fields, "object", stele_json_hex(e->meta, len));
		break;
	case STELE_ENTRY_RECORD: {
		struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
		struct stele_record r;
		err = piece ? stele_record_decode(e->meta, len, true, &r, piece)
		            : stele_fail(STELE_ERR_NOMEM, "out of memory");
		if (!err) {
			json_object_set_new(fields, "length", stele_json_u64(r.deposit.length));
			json_object_set_new(fields, "pieces", stele_json_u64(r.layout.npieces));
			json_object_set_new(fields, "inline", stele_json_u64(r.inline_len));
			json_object_set_new(fields, "name_of_pool",
			                    stele_json_text(r.deposit.pool));
		}
		free(piece);
		break;
	}
	case STELE_ENTRY_MARK: {
		uint32_t text = len >= 4 ? stele_le32(e->meta) : 0;
		if (len < 4 || text > len - 4)
			err = stele_fail(STELE_ERR_CORRUPT, "its text does not fit");
		else
			json_object_set_new(fields, "text_len", stele_json_u64(text));
		break;
	}
	case STELE_ENTRY_TOMB: {
		struct stele_tomb_meta t;
		if (!stele_tomb_meta_decode(e->meta, len, &t)) {
			err = stele_fail(STELE_ERR_CORRUPT, "it names no victim");
			break;
		}
		json_object_set_new(fields, "victim_kind", json_string(kind_name(t.kind)));
		json_object_set_new(fields, "victim_lsn", stele_json_u64(t.victim_lsn));
		if (t.only)
			json_object_set_new(fields, "victim_extent", stele_json_u64(t.only));
		break;
	}
	default:
		break;
	}
	if (err)
		stele_detail_copy(why);
	return !err;
}

static void dump_entry(struct dump *d, const struct stele_entry *e)
{
	const struct stele_entry_head *h = &e->head;
	json_t *fields = key_fields(&h->key);
	char why[STELE_DETAIL_MAX] = "", cells[128];
	if (fields) {
		json_object_set_new(fields, "birth_lsn", stele_json_u64(h->birth_lsn));
		json_object_set_new(fields, "meta_len", stele_json_u64(h->meta_len));
		if (h->data_len) {
			json_object_set_new(fields, "data_len", stele_json_u64(h->data_len));
			json_object_set_new(fields, "data_offset", stele_json_u64(h->data_off));
		}
	}
	if (!e->meta_ok)
		snprintf(why, sizeof(why), "its meta fails its CRC");
	else if (h->hot_len &&
	         (h->hot_len > h->meta_len || stele_crc32c(e->meta, h->hot_len, 0) != h->hot_crc))
		snprintf(why, sizeof(why), "the front of its meta fails its CRC");
	else if (fields && meta_fields(e, fields, why) && h->data_len && !check_cells(d, e, cells))
		snprintf(why, sizeof(why), "%s", cells);
	show(d, h->place.off, "entry", why[0] ? why : NULL, fields);
}

/* ---- batches ---- */

static void dump_entries(struct dump *d, const struct stele_batch_head *head, const uint8_t *area)
{
	uint64_t pos = STELE_BATCH_HEAD, before = pos;
	uint32_t n = 0;
	struct stele_entry e;
	for (bool more = true; more; before = pos) {
		more = stele_batch_next(&d->vol, head, area, &pos, &e);
		uint64_t to = more ? e.head.place.off - head->place.off : head->meta_len;
		for (uint64_t at = before; at < to; at += STELE_ENTRY_ALIGN)
			if (memcmp(area + at, "STLE", 4) == 0)
				show(d, head->place.off + at, "entry", "its header does not check",
				     json_object());
		if (more) {
			dump_entry(d, &e);
			n++;
		}
	}
	if (n != head->entries) {
		char why[64];
		snprintf(why, sizeof(why), "%u entries, not %u", n, head->entries);
		show(d, head->place.off, "batch", why, json_object());
	}
}

/* The batch at off, of the cycle it claims; d->page holds its first page. Returns how far to go on. */
static uint64_t dump_batch(struct dump *d, uint64_t off)
{
	struct stele_place place = {d->id, stele_le32(d->page + 20), off};
	struct stele_batch_head h;
	if (!stele_batch_head_decode(d->page, &d->vol.salt, &place, d->vol.extent_len, &h)) {
		show(d, off, "batch", "its head does not check", json_object());
		return STELE_PAGE;
	}
	json_t *fields = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "lsn", stele_json_u64(h.lsn),
	                           "durable_lsn", stele_json_u64(h.durable_lsn), "len",
	                           (json_int_t)h.len, "meta_len", (json_int_t)h.meta_len, "entries",
	                           (json_int_t)h.entries, "cycle", (json_int_t)place.cycle);
	if (d->cycle &&
	    place.cycle != d->cycle) { /* says nothing any more, and need not be whole */
		show(d, off, "left-over", NULL, fields);
		return STELE_PAGE;
	}
	uint8_t *area = off + h.len <= d->size ? malloc(h.meta_len) : NULL;
	if (!area || !read_at(d, area, h.meta_len, off)) {
		show(d, off, "batch",
		     area ? "unreadable" : "reaches beyond the file, or out of memory", fields);
		free(area);
		return STELE_PAGE;
	}
	bool ok =
	    stele_crc32c(area + STELE_BATCH_HEAD, h.meta_len - STELE_BATCH_HEAD, 0) == h.meta_crc;
	show(d, off, "batch", ok ? NULL : "its meta area fails its CRC", fields);
	dump_entries(d, &h, area);
	free(area);
	return h.len;
}

/* ---- footer, trailer ---- */

static uint64_t dump_footer(struct dump *d, uint64_t off)
{
	struct stele_place place = {d->id, d->cycle, off};
	struct stele_footer_head h;
	uint8_t *chunk = d->chunk;
	if (!stele_footer_head_decode(d->page, &d->vol.salt, &place, d->vol.extent_len, &h) ||
	    h.len > sizeof(d->chunk) || h.len < STELE_PAGE || !read_at(d, chunk, h.len, off)) {
		place.cycle = stele_le32(d->page + 12);
		bool old =
		    place.cycle != d->cycle &&
		    stele_footer_head_decode(d->page, &d->vol.salt, &place, d->vol.extent_len, &h);
		show(d, off, old ? "left-over" : "footer", old ? NULL : "its head does not check",
		     json_object());
		return STELE_PAGE;
	}
	json_t *fields = json_pack("{s:I, s:I, s:I}", "chunk", (json_int_t)h.chunk, "items",
	                           (json_int_t)h.n, "len", (json_int_t)h.len);
	const char *why = NULL;
	if (stele_crc32c(chunk + STELE_FOOTER_HEAD, h.len - STELE_FOOTER_HEAD, 0) != h.crc)
		why = "it fails its CRC";
	for (uint32_t i = 0; !why && i < h.n && i < STELE_FOOTER_ITEMS; i++) {
		struct stele_item_at it;
		if (!stele_footer_item_decode(chunk + STELE_FOOTER_HEAD + i * STELE_FOOTER_ITEM,
		                              d->id, d->vol.extent_len, &it))
			why = "an item is out of range";
	}
	show(d, off, "footer", why, fields);
	return h.len;
}

static void dump_trailer(struct dump *d, uint64_t off)
{
	struct stele_trailer t;
	if (!stele_trailer_decode(d->page, &d->vol.salt, d->id, d->cycle, d->vol.extent_len, &t)) {
		uint32_t cycle = stele_le32(d->page + 12);
		bool old = cycle != d->cycle && stele_trailer_decode(d->page, &d->vol.salt, d->id,
		                                                     cycle, d->vol.extent_len, &t);
		show(d, off, old ? "left-over" : "trailer", old ? NULL : "it does not check",
		     json_object());
		return;
	}
	show(d, off, "trailer", NULL,
	     json_pack("{s:o, s:o, s:o, s:o, s:I, s:o}", "first_lsn", stele_json_u64(t.first_lsn),
	               "last_lsn", stele_json_u64(t.last_lsn), "end", stele_json_u64(t.end),
	               "footer_offset", stele_json_u64(t.footer_off), "chunks",
	               (json_int_t)t.chunks, "items", stele_json_u64(t.items)));
}

/* ---- extents ---- */

/* Without a header: the cycle is the highest that any batch has under its own. */
static void guess_cycle(struct dump *d)
{
	for (uint64_t off = STELE_PAGE; off + STELE_PAGE <= d->size; off += STELE_PAGE) {
		if (!read_at(d, d->page, STELE_PAGE, off))
			continue;
		struct stele_place place = {d->id, stele_le32(d->page + 20), off};
		struct stele_batch_head h;
		if (place.cycle > d->cycle &&
		    stele_batch_head_decode(d->page, &d->vol.salt, &place, d->vol.extent_len, &h))
			d->cycle = place.cycle;
	}
}

/* False: nothing in it can be checked. */
static bool dump_head(struct dump *d)
{
	struct stele_extent_head h;
	const char *slash = strrchr(d->path, '/');
	bool named = stele_extent_name(slash ? slash + 1 : d->path, &d->id);
	d->vol.extent_len = d->size;
	if (stele_extent_head_decode(d->page, NULL, &h)) {
		const char *why = NULL;
		if (named && h.extent != d->id)
			why = "it is another extent's";
		else if (h.extent_len != d->size)
			why = "the file's length is another";
		d->id = h.extent;
		d->cycle = h.cycle;
		d->vol.salt = h.salt;
		d->vol.extent_len = h.extent_len;
		show(d, 0, "header", why,
		     json_pack(
		         "{s:I, s:I, s:o, s:o, s:o, s:o}", "extent", (json_int_t)h.extent, "cycle",
		         (json_int_t)h.cycle, "disk", stele_json_hex(h.disk.b, sizeof(h.disk.b)),
		         "salt", stele_json_hex(h.salt.b, sizeof(h.salt.b)), "first_lsn",
		         stele_json_u64(h.first_lsn), "extent_len", stele_json_u64(h.extent_len)));
		return true;
	}
	uint32_t version;
	if (stele_extent_head_newer(d->page, &version)) {
		char why[96];
		snprintf(why, sizeof(why),
		         "disk format %u is newer than this program's %u: use the programs of a "
		         "newer release",
		         version, STELE_DISK_VERSION);
		show(d, 0, "header", why, json_object());
		return false;
	}
	bool salted = named && salt_beside(d);
	show(d, 0, "header",
	     salted ? "it does not check; the superblock's salt is used"
	            : "it does not check; without its salt nothing else can be checked",
	     json_object());
	if (salted)
		guess_cycle(d);
	return salted;
}

/* A page that begins no structure. Recovery zeroes the first page of what it drops; what is there instead
 * in an extent that was used before may be left over from then. */
static void dump_gap(struct dump *d, uint64_t off)
{
	if (!d->in_gap && !stele_all_zero(d->page, STELE_PAGE))
		show(d, off, d->cycle > 1 ? "left-over" : "unknown",
		     d->cycle > 1 ? NULL : "neither a structure nor zeros", json_object());
	d->in_gap = true;
}

static void dump_extent(struct dump *d)
{
	if (!dump_head(d))
		return;
	for (uint64_t off = STELE_PAGE, step; off < d->size; off += step) {
		step = STELE_PAGE;
		if (!read_at(d, d->page, STELE_PAGE, off))
			continue;
		bool gap = d->in_gap;
		d->in_gap = false;
		if (memcmp(d->page, "STLB", 4) == 0) {
			step = dump_batch(d, off);
		} else if (memcmp(d->page, "STLF", 4) == 0) {
			step = dump_footer(d, off);
		} else if (memcmp(d->page, "STLT", 4) == 0) {
			dump_trailer(d, off);
		} else {
			d->in_gap = gap;
			dump_gap(d, off);
		}
	}
}

/* ---- the program ---- */

static int fail(const struct dump *d, const char *what)
{
	fprintf(stderr, "stele-dump: %s: %s\n", d->path, what);
	return 1;
}

static int dump(struct dump *d)
{
	struct stat st;
	d->fd = open(d->path, O_RDONLY | O_CLOEXEC);
	if (d->fd < 0 || fstat(d->fd, &st) != 0)
		return fail(d, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(d, "not a file; name an extent or a superblock in a disk's directory");
	d->size = (uint64_t)st.st_size;
	if (d->size > UINT32_MAX)
		d->size = UINT32_MAX - UINT32_MAX % STELE_PAGE; /* no extent is longer */
	if (read_at(d, d->page, STELE_PAGE, 0)) {
		const char *slash = strrchr(d->path, '/');
		bool super = memcmp(d->page, "STLSUPER", 8) == 0 ||
		             strcmp(slash ? slash + 1 : d->path, "superblock") == 0;
		super ? dump_superblock(d) : dump_extent(d);
	}
	if (!d->json)
		printf("%llu structures, %llu damaged\n", (unsigned long long)d->structures,
		       (unsigned long long)d->damaged);
	if (fflush(stdout) != 0 || ferror(stdout))
		return fail(d, "standard output cannot be written");
	return d->damaged ? stele_err_exit_code(STELE_ERR_CORRUPT) : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct dump d = {.fd = -1};
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		if (c == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (c != 'j') {
			fputs(usage, stderr);
			return 2;
		}
		d.json = true;
	}
	if (optind + 1 != argc) {
		fputs(usage, stderr);
		return 2;
	}
	d.path = argv[optind];
	int code = dump(&d);
	if (d.fd >= 0)
		close(d.fd);
	return code;
}
