/*
 * stele-fsck: checks a disk that no daemon has open. In this order: the superblock and every extent's header
 * as they lie there; then the store is opened, which does what steled does at every start (a torn end that
 * nobody was told of is dropped, damaged headers are written anew); its scrub reads every structure and
 * every live entry; and the index is held against a second one that is made from the extents alone. What
 * scrub finds is noted in the index as damaged, so that the cluster repairs it.
 *
 * It mends nothing else: lost bytes are on other disks, and bringing them back is the cluster's affair.
 *
 * --look writes nothing at all: it reads what lies in the extents, dead or alive, and leaves out what only an open
 * store knows: which entries are alive, and whether the index agrees.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/extent.h"
#include "storage/kv/kv.h"
#include "tools/json_out.h"

static const char usage[] =
    "Usage: stele-fsck [--deep] [--rebuild-index] [--json] DIR\n"
    "       stele-fsck --look [--json] DIR\n\n"
    "Checks the disk in DIR, which no steled may have open: superblock, extents, every live\n"
    "entry's checksums, the index against the extents. Opening the disk is what a start of steled\n"
    "is after a crash: a torn end is dropped, the open extent sealed. Holds an index in memory, "
    "about 200 bytes for each entry.\n\n"
    "  --look           changes nothing: checks what lies in the extents, dead or alive; not the\n"
    "                   index. A torn end that the next start would drop is damage here\n"
    "  --deep           every cell's SHA-256 as well\n"
    "  --rebuild-index  makes the index anew from the extents first\n"
    "  --json           the result as an object\n\n"
    "Example: stele-fsck --deep /srv/disk0/stele\n\n"
    "Exit code 0: clean; 5: damage, which is named; 2: usage; 1: it could not be checked.\n";

struct fsck {
	char dir[STELE_PATH_MAX];
	bool deep, rebuild, json, look;
	uint64_t looked_at; /* entries, by --look */
	struct stele_env *env;
	struct stele_superblock sb;
	struct stele_kv_world *world; /* the second index */
	struct stele_store *store;
	struct stele_store_status status;
	struct stele_store_scrub scrub;
	bool scrubbed;
	json_t *damage; /* an array */
};

/* ---- findings ---- */

static json_t *key_json(const struct stele_key *key)
{
	static const char *const name[] = {"",     "shard", "reference", "record", "mark",
	                                   "tomb", "",      "refusal",   "keep"};
	return json_pack("{s:s, s:i, s:i, s:o, s:o}", "kind",
	                 key->kind < sizeof(name) / sizeof(name[0]) ? name[key->kind] : "", "pool",
	                 (int)key->pool, "index", (int)key->index, "id",
	                 stele_json_hex(key->id.b, sizeof(key->id.b)), "sub",
	                 stele_json_hex(key->sub.b, sizeof(key->sub.b)));
}

/* key NULL: not an entry. */
static void found(struct fsck *f, const char *where, const struct stele_key *key, const char *why)
{
	json_t *one = key ? key_json(key) : json_object();
	if (!one)
		return;
	json_object_set_new(one, "where", json_string(where));
	json_object_set_new(one, "why", stele_json_text(why));
	if (!f->json) {
		printf("%s: ", where);
		if (key) {
			char hex[2 * STELE_HASH_LEN + 1];
			printf("%s %d of %s: ", json_string_value(json_object_get(one, "kind")),
			       (int)key->index, stele_hash_hex(&key->id, hex));
		}
		stele_cli_print(stdout, why);
		putchar('\n');
	}
	json_array_append_new(f->damage, one);
}

static void found_detail(struct fsck *f, const char *where)
{
	char why[STELE_DETAIL_MAX];
	stele_detail_copy(why);
	found(f, where, NULL, why);
}

static void path_in(const struct fsck *f, const char *name, char out[STELE_PATH_MAX])
{
	snprintf(out, STELE_PATH_MAX, "%.*s/%s", (int)(STELE_PATH_MAX - 32), f->dir, name);
}

/* ---- as it lies there ---- */

static enum stele_err look_at_superblock(struct fsck *f)
{
	char path[STELE_PATH_MAX], *page;
	size_t len;
	path_in(f, "superblock", path);
	STELE_TRY(stele_file_load(f->env, path, STELE_PAGE, &page, &len));
	uint8_t whole[STELE_PAGE] = {0};
	memcpy(whole, page, len);
	free(page);
	return stele_superblock_decode(whole, &f->sb);
}

static void found_at(struct fsck *f, const struct stele_extent *x, uint64_t off,
                     const struct stele_key *key, const char *what)
{
	char why[STELE_DETAIL_MAX];
	snprintf(why, sizeof(why), "extent %08x: %s at %llu", x->id, what, (unsigned long long)off);
	found(f, key ? "entry" : "structure", key, why);
}

static enum stele_err look_at_entry(struct fsck *f, const struct stele_volume *v,
                                    const struct stele_extent *x, const struct stele_entry *e)
{
	const struct stele_entry_head *h = &e->head;
	char why[STELE_DETAIL_MAX];
	f->looked_at++;
	if (!e->meta_ok) {
		found_at(f, x, h->place.off, &h->key, "its meta does not check");
		return STELE_OK;
	}
	if (!h->data_len)
		return STELE_OK;
	enum stele_err err = stele_entry_check_cells(v, x->fd, h, e->meta);
	if (err != STELE_ERR_CORRUPT && err != STELE_ERR_IO)
		return err;
	stele_detail_copy(why);
	found_at(f, x, h->data_off, &h->key, why);
	return STELE_OK;
}

static enum stele_err look_at_batch(struct fsck *f, const struct stele_volume *v,
                                    const struct stele_extent *x, const struct stele_scan_found *b)
{
	uint8_t *area;
	uint64_t pos = STELE_BATCH_HEAD;
	uint32_t n = 0;
	struct stele_entry e;
	STELE_TRY(stele_batch_load(v, x, &b->head, &area));
	if (!b->meta_ok)
		found_at(f, x, b->head.place.off, NULL,
		         "the meta area does not check of the batch");
	enum stele_err err = STELE_OK;
	for (; !err && stele_batch_next(v, &b->head, area, &pos, &e); n++)
		err = look_at_entry(f, v, x, &e);
	if (!err && n != b->head.entries)
		found_at(f, x, b->head.place.off, NULL, "entries are missing in the batch");
	free(area);
	return err;
}

/* A page that should be zeros, or left over from an earlier cycle. */
static enum stele_err look_at_page(struct fsck *f, const struct stele_volume *v,
                                   const struct stele_extent *x, uint64_t off, const char *what)
{
	uint8_t *page = stele_pages_alloc(STELE_PAGE);
	if (!page)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	struct stele_gap gap;
	enum stele_err err = stele_extent_read(v, x, page, STELE_PAGE, off, &gap);
	if (!err && (gap.unread || !stele_all_zero(page, STELE_PAGE)))
		found_at(f, x, off, NULL, gap.unread ? "a page cannot be read" : what);
	free(page);
	return err;
}

/* Nothing lies between batches; a space there that does not begin with zeros, as what recovery drops does, was one. */
static enum stele_err look_at_gap(struct fsck *f, const struct stele_volume *v,
                                  const struct stele_extent *x, uint64_t from, uint64_t to)
{
	return from < to ? look_at_page(f, v, x, from, "the head does not check of the batch")
	                 : STELE_OK;
}

static enum stele_err no_item(void *ctx, const struct stele_item_at *it)
{
	(void)ctx;
	(void)it;
	return STELE_OK;
}

static enum stele_err look_inside(struct fsck *f, const struct stele_volume *v,
                                  const struct stele_extent *x)
{
	struct stele_scan_found_list list = {0};
	bool sealed = x->state == STELE_EXTENT_SEALED;
	if (x->state != STELE_EXTENT_OPEN && !sealed)
		return STELE_OK;
	enum stele_err err = stele_extent_find(v, x, sealed ? x->trailer.end : 0, &list);
	uint64_t end = STELE_PAGE;
	for (size_t i = 0; !err && i < list.n; i++) {
		err = look_at_gap(f, v, x, end, list.at[i].head.place.off);
		end = list.at[i].head.place.off + list.at[i].head.len;
		if (!err)
			err = look_at_batch(f, v, x, &list.at[i]);
	}
	stele_scan_found_finish(&list);
	if (!err && sealed)
		err = look_at_gap(f, v, x, end, x->trailer.end);
	if (!err && !sealed && x->cycle == 1) /* later there may be one of an earlier cycle */
		err =
		    look_at_page(f, v, x, v->extent_len - STELE_PAGE, "the trailer does not check");
	if (!err && sealed) {
		err = stele_extent_footer(v, x, no_item, NULL);
		if (err == STELE_ERR_CORRUPT) {
			found_detail(f, "structure");
			err = STELE_OK;
		}
	}
	return err;
}

/* A start makes a file whole again that was cut, and finds what is gone with it only if the index knows of it. */
static enum stele_err look_at_length(struct fsck *f, const struct stele_volume *v, uint32_t id)
{
	char path[STELE_PATH_MAX], why[STELE_DETAIL_MAX];
	struct stele_stat st;
	STELE_TRY(stele_file_stat(v->env, stele_extent_path(v, id, path), &st));
	if (st.size == v->extent_len)
		return STELE_OK;
	snprintf(why, sizeof(why), "extent %08x: the file has %llu bytes, not %llu", id,
	         (unsigned long long)st.size, (unsigned long long)v->extent_len);
	found(f, "extent", NULL, why);
	return STELE_OK;
}

static enum stele_err look_at_extent(struct fsck *f, const struct stele_volume *v, uint32_t id)
{
	STELE_TRY(look_at_length(f, v, id));
	struct stele_extent x;
	enum stele_err err = stele_extent_open(v, id, &x);
	if (err == STELE_ERR_CORRUPT)
		found_detail(f, "extent");
	if (err)
		return err == STELE_ERR_CORRUPT ? STELE_OK : err;
	if (x.state == STELE_EXTENT_DAMAGED) {
		char why[64];
		snprintf(why, sizeof(why), "extent %08x: its header does not check", id);
		found(f, "extent", NULL, why);
	}
	if (f->look)
		err = look_inside(f, v, &x);
	if (err == STELE_ERR_CORRUPT) { /* it ends early, and that was said */
		stele_wrap(err, "extent %08x", id);
		found_detail(f, "extent");
		err = STELE_OK;
	}
	f->status.extents++;
	stele_extent_close(v, &x);
	return err;
}

/* Reads only. Without a superblock that can be read *go_on is false. */
static enum stele_err look(struct fsck *f, bool *go_on)
{
	struct stele_list names = {0};
	enum stele_err err = stele_file_list(f->env, f->dir, &names);
	if (err == STELE_ERR_NOT_FOUND)
		return stele_wrap(STELE_ERR_USAGE, "there is no such disk");
	if (err)
		return err;
	uint32_t extents = 0, id;
	for (size_t i = 0; i < names.n; i++)
		extents += stele_extent_name(names.name[i], &id);
	err = look_at_superblock(f);
	*go_on = err == STELE_OK;
	if (err == STELE_ERR_NOT_FOUND && extents == 0)
		err = stele_fail(STELE_ERR_USAGE, "%.400s: there is no store", f->dir);
	if (err == STELE_ERR_NOT_FOUND || err == STELE_ERR_CORRUPT || err == STELE_ERR_TOO_LARGE) {
		found_detail(f, "superblock");
		err = STELE_OK;
	}
	struct stele_volume v = {
	    .env = f->env, .disk = f->sb.disk, .salt = f->sb.salt, .extent_len = f->sb.extent_len};
	memcpy(v.dir, f->dir, sizeof(v.dir));
	for (size_t i = 0; !err && *go_on && i < names.n; i++)
		if (stele_extent_name(names.name[i], &id))
			err = look_at_extent(f, &v, id);
	stele_list_finish(&names);
	return err;
}

/* ---- the store ---- */

static void stop(struct stele_op *op)
{
	stele_env_stop(op->ctx);
}

/* Until the store does nothing of its own any more. */
static void settle(struct fsck *f)
{
	while (stele_store_busy(f->store)) {
		struct stele_op op = {.kind = STELE_OP_TIMER,
		                      .off = stele_env_now(f->env) + 10000000,
		                      .cb = stop,
		                      .ctx = f->env};
		stele_env_submit(f->env, &op);
		while (stele_op_pending(&op))
			stele_env_run(f->env);
	}
}

static enum stele_err open_store(struct fsck *f, bool memory)
{
	struct stele_store_opts o = {.env = f->env,
	                             .kv = memory ? &stele_kv_memory : &stele_kv_leveldb,
	                             .kv_world = memory ? f->world : NULL,
	                             .dir = f->dir,
	                             .cluster = f->sb.cluster};
	return stele_store_open(&o, &f->store);
}

static void close_store(struct fsck *f)
{
	settle(f);
	stele_store_close(f->store);
	f->store = NULL;
}

static void on_victim(struct stele_store_scrub *s, const struct stele_key *key, const char *why)
{
	bool structure = key->kind == STELE_ENTRY_FOOTER;
	found(s->ctx, structure ? "structure" : "entry", structure ? NULL : key, why);
}

static void on_scrubbed(struct stele_store_scrub *s)
{
	struct fsck *f = s->ctx;
	f->scrubbed = true;
	stele_env_stop(f->env);
}

static enum stele_err scrub(struct fsck *f)
{
	f->scrub = (struct stele_store_scrub){
	    .deep = f->deep, .victim = on_victim, .cb = on_scrubbed, .ctx = f};
	stele_store_scrub(f->store, &f->scrub);
	while (!f->scrubbed)
		stele_env_run(f->env);
	return f->scrub.err ? stele_fail(f->scrub.err, "%s", f->scrub.detail) : STELE_OK;
}

/* ---- the index against the extents ---- */

struct side {
	struct stele_kv *kv;
	struct stele_kv_iter *it;
	const uint8_t *key;
	size_t key_len;
};

/* At the next key that says where an entry is, or that it is gone; key NULL: there is none. */
static enum stele_err side_at(struct side *s)
{
	s->key = NULL;
	while (s->it->valid(s->it)) {
		s->key = s->it->key(s->it, &s->key_len);
		if (s->key_len && (s->key[0] == STELE_INDEX_ENTRY || s->key[0] == STELE_INDEX_TOMB))
			return STELE_OK;
		s->key = NULL;
		s->it->next(s->it);
	}
	return s->it->status(s->it);
}

static void found_in_index(struct fsck *f, const struct side *s, const char *why)
{
	struct stele_key key;
	if (stele_index_key_decode(s->key, s->key_len, &key))
		found(f, "index", &key, why);
	else
		found(f, "index", NULL, "a key that does not decode");
}

/* The same entry, or a copy of it: scrub has looked at what the index names. */
static bool same_value(const struct side *a, const struct side *b)
{
	struct stele_item_at x = {0}, y = {0};
	size_t xl, yl;
	const void *xv = a->it->value(a->it, &xl), *yv = b->it->value(b->it, &yl);
	return stele_index_value_decode(xv, xl, &x) && stele_index_value_decode(yv, yl, &y) &&
	       x.birth_lsn == y.birth_lsn && x.meta_len == y.meta_len && x.tomb == y.tomb;
}

static int by_key(const struct side *a, const struct side *b)
{
	if (!a->key || !b->key)
		return !a->key - !b->key;
	size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
	int c = memcmp(a->key, b->key, n);
	return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static enum stele_err compare(struct fsck *f, struct side *index, struct side *extents)
{
	const uint8_t from = 0;
	index->it->seek(index->it, &from, 1);
	extents->it->seek(extents->it, &from, 1);
	for (;;) {
		STELE_TRY(side_at(index));
		STELE_TRY(side_at(extents));
		if (!index->key && !extents->key)
			return STELE_OK;
		int c = by_key(index, extents);
		if (c < 0)
			found_in_index(f, index, "the index names it, the extents do not");
		else if (c > 0)
			found_in_index(f, extents,
			               "the extents have it, the index does not: --rebuild-index");
		else if (!same_value(index, extents))
			found_in_index(f, index, "the index means another: --rebuild-index");
		if (c <= 0)
			index->it->next(index->it);
		if (c >= 0)
			extents->it->next(extents->it);
	}
}

static enum stele_err side_open(struct side *s, const struct stele_kv_ops *ops, void *world,
                                const char *dir)
{
	STELE_TRY(stele_kv_open(ops, world, dir, &s->kv));
	return stele_kv_iter_create(s->kv, &s->it);
}

static void side_close(struct side *s)
{
	stele_kv_iter_destroy(s->it);
	stele_kv_close(s->kv);
}

static enum stele_err lock_as(struct fsck *f, uint32_t flags, int *fd)
{
	char path[STELE_PATH_MAX];
	path_in(f, "lock", path);
	STELE_TRY(stele_file_open(f->env, path, STELE_OPEN_WRITE | flags, 0600, fd));
	struct stele_op op = {.kind = STELE_OP_LOCK, .fd = *fd};
	return stele_env_call(f->env, &op) < 0
	           ? stele_fail(STELE_ERR_EXISTS, "%.400s: another process has this store open",
	                        f->dir)
	           : STELE_OK;
}

static enum stele_err lock(struct fsck *f, int *fd)
{
	return lock_as(f, STELE_OPEN_CREATE, fd);
}

/* A disk that has no lock file is not in use either. */
static enum stele_err lock_there(struct fsck *f, int *fd)
{
	enum stele_err err = lock_as(f, 0, fd);
	return err == STELE_ERR_NOT_FOUND ? STELE_OK : err;
}

/* Neither store is open any more: under the lock itself. */
static enum stele_err check_index(struct fsck *f)
{
	char dir[STELE_PATH_MAX];
	struct side index = {0}, extents = {0};
	int fd = -1;
	path_in(f, "index", dir);
	enum stele_err err = lock(f, &fd);
	if (!err)
		err = side_open(&index, &stele_kv_leveldb, NULL, dir);
	if (!err)
		err = side_open(&extents, &stele_kv_memory, f->world, dir);
	if (!err)
		err = compare(f, &index, &extents);
	side_close(&index);
	side_close(&extents);
	stele_file_close(f->env, &fd);
	return err;
}

/* ---- the program ---- */

/* As a store asks for it itself. Under the lock: a daemon that runs is left alone. */
static enum stele_err ask_for_index(struct fsck *f)
{
	char marker[STELE_PATH_MAX];
	int fd = -1;
	path_in(f, "index.rebuild", marker);
	enum stele_err err = lock(f, &fd);
	if (!err)
		err = stele_file_save(f->env, marker, "", 0, 0600);
	stele_file_close(f->env, &fd);
	return err;
}

/* The whole check, once there is a superblock. */
static enum stele_err check_store(struct fsck *f)
{
	if (f->rebuild)
		STELE_TRY(ask_for_index(f));
	STELE_TRY(open_store(f, false));
	enum stele_err err = scrub(f);
	settle(f);
	stele_store_status(f->store, &f->status);
	close_store(f);
	if (err)
		return err;
	STELE_TRY(stele_kv_world_create(&f->world));
	STELE_TRY(open_store(f, true));
	close_store(f);
	return check_index(f);
}

static enum stele_err check(struct fsck *f)
{
	bool go_on = false;
	int fd = -1;
	if (f->look)
		STELE_TRY(lock_there(f, &fd));
	enum stele_err err = look(f, &go_on);
	if (err == STELE_ERR_VERSION)
		err = stele_wrap(err, "%.400s", f->dir);
	if (!err && go_on && !f->look)
		err = check_store(f);
	stele_file_close(f->env, &fd);
	if (err == STELE_ERR_CORRUPT) {
		found_detail(f, "store");
		err = STELE_OK;
	}
	return err;
}

static json_t *result(const struct fsck *f)
{
	const struct stele_store_status *s = &f->status;
	if (f->look)
		return json_pack("{s:o, s:o, s:o, s:o, s:O}", "directory", stele_json_text(f->dir),
		                 "disk", stele_json_hex(f->sb.disk.b, sizeof(f->sb.disk.b)),
		                 "extents", stele_json_u64(s->extents), "entries_read",
		                 stele_json_u64(f->looked_at), "damage", f->damage);
	return json_pack(
	    "{s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "directory",
	    stele_json_text(f->dir), "disk", stele_json_hex(f->sb.disk.b, sizeof(f->sb.disk.b)),
	    "deep", f->deep, "index_rebuilt", f->rebuild, "lsn", stele_json_u64(s->identity.lsn),
	    "extents", stele_json_u64(s->extents), "shards", stele_json_u64(s->shards),
	    "references", stele_json_u64(s->refs), "records", stele_json_u64(s->records), "marks",
	    stele_json_u64(s->marks), "entries_read", stele_json_u64(f->scrub.entries),
	    "bytes_read", stele_json_u64(f->scrub.bytes_done), "damage", f->damage);
}

static int report(struct fsck *f, enum stele_err err)
{
	size_t n = json_array_size(f->damage);
	if (err) {
		fprintf(stderr, "stele-fsck: ");
		stele_cli_print(stderr, stele_detail());
		fputc('\n', stderr);
		if (f->json) {
			json_t *e = json_pack("{s:o}", "error",
			                      stele_json_error_value(err, stele_detail()));
			json_dumpf(e, stdout, JSON_INDENT(2));
			json_decref(e);
		}
	} else if (f->json) {
		json_t *r = result(f);
		json_dumpf(r, stdout, JSON_INDENT(2));
		json_decref(r);
		putchar('\n');
	} else if (f->look) {
		printf("%llu entries in %llu extents, dead and alive: ",
		       (unsigned long long)f->looked_at, (unsigned long long)f->status.extents);
		n ? printf("%zu damaged\n", n) : printf("clean\n");
	} else {
		const struct stele_store_status *s = &f->status;
		printf("%llu shards, %llu references, %llu records, %llu marks in %llu extents: ",
		       (unsigned long long)s->shards, (unsigned long long)s->refs,
		       (unsigned long long)s->records, (unsigned long long)s->marks,
		       (unsigned long long)s->extents);
		n ? printf("%zu damaged\n", n) : printf("clean\n");
	}
	if (err == STELE_ERR_USAGE)
		return 2;
	if (fflush(stdout) != 0 || ferror(stdout) || err)
		return 1;
	return n ? stele_err_exit_code(STELE_ERR_CORRUPT) : 0;
}

/* 0, or the exit code and 1 more. */
static int parse(int argc, char **argv, struct fsck *f)
{
	static const struct option options[] = {
	    {"deep", no_argument, NULL, 'd'}, {"rebuild-index", no_argument, NULL, 'r'},
	    {"look", no_argument, NULL, 'l'}, {"json", no_argument, NULL, 'j'},
	    {"help", no_argument, NULL, 'h'}, {0}};
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		f->deep |= c == 'd';
		f->rebuild |= c == 'r';
		f->json |= c == 'j';
		f->look |= c == 'l';
		if (c == 'h')
			fputs(usage, stdout);
		if (c == 'h')
			return 1;
		if (c == '?') {
			fputs(usage, stderr);
			return 3;
		}
	}
	if (optind + 1 != argc || (f->look && (f->deep || f->rebuild)) ||
	    strlen(argv[optind]) >= STELE_PATH_MAX - 64) {
		fputs(usage, stderr);
		return 3;
	}
	snprintf(f->dir, sizeof(f->dir), "%s", argv[optind]);
	return 0;
}

int main(int argc, char **argv)
{
	struct fsck f = {0};
	int code = parse(argc, argv, &f);
	if (code)
		return code - 1;
	f.damage = json_array();
	struct stele_env_opts opts = {.workers = 2};
	enum stele_err err = f.damage ? stele_env_create(&opts, &f.env)
	                              : stele_fail(STELE_ERR_NOMEM, "out of memory");
	if (!err)
		err = check(&f);
	code = report(&f, err);
	if (f.world)
		stele_kv_world_destroy(f.world);
	stele_env_destroy(f.env);
	json_decref(f.damage);
	return code;
}
