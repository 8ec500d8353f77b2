/* First reading: parse, hash, link. Second reading: put. Then index and catalogue mark. Nothing is
 * stored of a file that does not hold. */
#include "net/ledger/import.h"

#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

#define READ_LEN (1u << 20)
#define POOL     "ledger"

struct import {
	struct stele_catalogue *c;
	const struct stele_segment_file *file;
	const struct stele_progress *progress;
	struct stele_import_result *out;
	uint64_t done; /* bytes over both readings */
	/* first reading */
	struct stele_index_entry *entry;
	struct stele_link_block *link;
	size_t n, cap;
	struct stele_hash object;
	/* second reading */
	uint64_t at;
};

static enum stele_err step(struct import *im, uint64_t bytes)
{
	im->done += bytes;
	if (im->progress && im->progress->step &&
	    !im->progress->step(im->progress->ctx, im->done, 2 * im->file->length))
		return stele_fail(STELE_ERR_CANCELLED, "interrupted");
	return STELE_OK;
}

/* ---- first reading ---- */

static enum stele_err on_block(void *ctx, const struct stele_found_block *b)
{
	struct import *im = ctx;
	if (im->n == STELE_INDEX_BLOCKS_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "more than %u blocks in one file",
		                  STELE_INDEX_BLOCKS_MAX);
	if (im->n == im->cap) {
		size_t cap = im->cap ? 2 * im->cap : 1024;
		struct stele_index_entry *entry = realloc(im->entry, cap * sizeof(*entry));
		if (entry)
			im->entry = entry;
		struct stele_link_block *link = realloc(im->link, cap * sizeof(*link));
		if (link)
			im->link = link;
		if (!entry || !link)
			return stele_fail(STELE_ERR_NOMEM, "import: out of memory");
		im->cap = cap;
	}
	struct stele_index_entry *e = &im->entry[im->n];
	*e = (struct stele_index_entry){
	    .hash = b->hash, .parent = b->parent, .height = b->height, .nparts = b->nparts};
	memcpy(e->part, b->part, sizeof(e->part));
	im->link[im->n++] = (struct stele_link_block){
	    .hash = b->hash, .parent = b->parent, .bits = b->bits, .claimed_height = b->height};
	return STELE_OK;
}

static enum stele_err detect(struct import *im, enum stele_format *format)
{
	uint8_t front[STELE_DETECT_LEN];
	size_t got;
	STELE_TRY(im->file->read_at(im->file->ctx, 0, front, sizeof(front), &got));
	*format = stele_format_detect(front, got, im->file->name, im->file->xor_key);
	if (*format == STELE_FORMAT_UNKNOWN)
		return stele_fail(STELE_ERR_INVALID,
		                  "not a ledger file that this build knows; archive it as evidence "
		                  "with `stele put`");
	if (*format == STELE_FORMAT_RLP_GZIP)
		return stele_fail(STELE_ERR_INVALID,
				  "a gzipped export cannot be read in places: gunzip it first, so that "
				  "single blocks can be fetched");
	if (!stele_format_supported(*format))
		return stele_fail(STELE_ERR_INVALID, "%s files are not supported",
		                  stele_format_name(*format));
	if (stele_format_family(*format) != im->c->chain.family)
		return stele_fail(STELE_ERR_INVALID, "%s files are not of chain %s",
		                  stele_format_name(*format), im->c->chain.caip2);
	return STELE_OK;
}

static enum stele_err parse(struct import *im)
{
	enum stele_format format;
	struct stele_parser *parser;
	struct stele_sha256_stream sha;
	uint64_t at = 0;
	size_t got;
	STELE_TRY(detect(im, &format));
	struct stele_parser_opts opts = {
	    .format = format,
	    .chain = &im->c->chain,
	    .name = im->file->name,
	    .xor_key = im->file->xor_key,
	    .on_block = on_block,
	    .ctx = im,
	};
	uint8_t *buf = malloc(READ_LEN);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "import: out of memory");
	enum stele_err err = stele_parser_create(&opts, &parser);
	if (err != STELE_OK) {
		free(buf);
		return err;
	}
	stele_sha256_init(&sha);
	do {
		err = im->file->read_at(im->file->ctx, at, buf, READ_LEN, &got);
		if (err != STELE_OK)
			break;
		stele_sha256_update(&sha, buf, got);
		err = stele_parser_feed(parser, buf, got);
		at += got;
		if (err == STELE_OK)
			err = step(im, got);
	} while (err == STELE_OK && got > 0);
	if (err == STELE_OK)
		err = stele_parser_finish(parser, &im->out->facts);
	stele_parser_destroy(parser);
	free(buf);
	stele_sha256_value(&sha, &im->object);
	return err;
}

/* ---- linking ---- */

static enum stele_err link_entries(struct import *im)
{
	struct stele_import_result *out = im->out;
	struct stele_link_opts opts = {
	    .chain = &im->c->chain, .find = stele_catalogue_height, .ctx = im->c};
	STELE_TRY(stele_chain_link(&opts, im->link, im->n, &out->links));
	STELE_TRY(stele_link_judge(&out->facts, &out->links, &out->level));
	for (size_t i = 0; i < im->n; i++) {
		im->entry[i].height = im->link[i].height;
		im->entry[i].linked = im->link[i].linked;
		im->entry[i].stale = im->link[i].stale;
	}
	bool linked = out->level >= STELE_LEVEL_LINKED;
	out->segment = (struct stele_segment){
	    .object = im->object,
	    .count = im->n,
	    .linked = linked,
	    .first = linked ? out->links.first_height : out->facts.first_height,
	    .last = linked ? out->links.last_height : out->facts.last_height,
	    .first_parent = linked ? out->links.first_parent : out->facts.first_parent,
	    .last_hash = linked ? out->links.last_hash : out->facts.last_hash,
	};
	return STELE_OK;
}

/* ---- storing ---- */

static enum stele_err store_index(struct stele_catalogue *c, const struct stele_index_head *head,
                                  const struct stele_hash *object,
                                  const struct stele_index_entry *entry, size_t n,
                                  struct stele_hash *id, bool *degraded)
{
	uint8_t *bytes;
	size_t len;
	struct stele_put_result put;
	struct stele_put_opts opts = {.pool = POOL, .type = STELE_DEPOSIT_INDEX};
	STELE_TRY(stele_index_encode(head, object, entry, n, &bytes, &len));
	enum stele_err err = stele_put_bytes(c->s, bytes, len, &opts, &put);
	free(bytes);
	if (err == STELE_ERR_DEGRADED)
		*degraded = true;
	else if (err != STELE_OK)
		return stele_wrap(err, "index");
	*id = put.object;
	return STELE_OK;
}

static enum stele_err source_read(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct import *im = ctx;
	STELE_TRY(im->file->read_at(im->file->ctx, im->at, buf, cap, got));
	im->at += *got;
	return step(im, *got);
}

static struct stele_deposit chain_facts(const struct import *im)
{
	const struct stele_segment *seg = &im->out->segment;
	struct stele_deposit d = {0};
	if (seg->first == STELE_HEIGHT_UNKNOWN)
		return d;
	d.has_chain = true;
	memcpy(d.chain.caip2, im->c->chain.caip2, sizeof(d.chain.caip2));
	d.chain.first = seg->first;
	d.chain.last = seg->last;
	d.chain.last_hash = seg->last_hash;
	for (size_t i = 0; i < im->n; i++)
		if (im->link[i].height == seg->first && !im->link[i].stale)
			d.chain.first_hash = im->link[i].hash;
	return d;
}

static enum stele_err store(struct import *im)
{
	struct stele_segment *seg = &im->out->segment;
	struct stele_deposit facts = chain_facts(im);
	struct stele_source src = {.read = source_read, .ctx = im, .length = im->file->length};
	struct stele_put_opts opts = {
	    .pool = POOL, .type = STELE_DEPOSIT_LEDGER, .expect = &im->object, .template_ = &facts};
	bool degraded = false;
	enum stele_err err = stele_put(im->c->s, &src, &opts, &im->out->put);
	if (err == STELE_ERR_DEGRADED)
		degraded = true;
	else if (err != STELE_OK)
		return err;
	struct stele_index_head head = {
	    .family = im->c->chain.family,
	    .format = im->out->facts.format,
	    .level = im->out->level,
	    .first_height = seg->linked ? seg->first : STELE_HEIGHT_UNKNOWN,
	    .last_height = seg->linked ? seg->last : STELE_HEIGHT_UNKNOWN,
	    .has_xor = im->out->facts.has_xor,
	    .nobjects = 1,
	};
	memcpy(head.caip2, im->c->chain.caip2, sizeof(head.caip2));
	memcpy(head.xor_key, im->out->facts.xor_key, sizeof(head.xor_key));
	STELE_TRY(store_index(im->c, &head, &im->object, im->entry, im->n, &seg->index, &degraded));
	STELE_TRY(stele_catalogue_add(im->c, seg));
	if (degraded)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "archived with less redundancy than the pool asks for; it is "
		                  "repaired when the disks are back");
	return STELE_OK;
}

enum stele_err stele_ledger_import(struct stele_catalogue *c, const struct stele_segment_file *file,
                                   const struct stele_progress *progress,
                                   struct stele_import_result *out)
{
	struct import im = {.c = c, .file = file, .progress = progress, .out = out};
	memset(out, 0, sizeof(*out));
	enum stele_err err = parse(&im);
	if (err == STELE_OK)
		err = link_entries(&im);
	if (err == STELE_OK) {
		struct stele_segment *old = stele_catalogue_segment(c, &im.object);
		if (old && (old->linked || !out->segment.linked)) {
			out->already = true;
			out->segment.index = old->index;
			out->put.object = im.object;
			out->put.length = file->length;
		} else {
			err = store(&im);
		}
	}
	free(im.entry);
	free(im.link);
	return err;
}

/* ---- bound segments whose parents have come ---- */

static enum stele_err relink_one(struct stele_catalogue *c, const struct stele_segment *seg,
                                 bool *linked)
{
	uint32_t n = seg->ix.count;
	struct stele_link_result result;
	struct stele_link_opts opts = {
	    .chain = &c->chain, .find = stele_catalogue_height, .ctx = c};
	struct stele_link_block *link = calloc(n ? n : 1, sizeof(*link));
	struct stele_index_entry *entry = calloc(n ? n : 1, sizeof(*entry));
	enum stele_err err =
	    link && entry ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "relink: out of memory");
	for (uint32_t i = 0; i < n && err == STELE_OK; i++) {
		stele_index_entry(&seg->ix, i, &entry[i]);
		link[i] = (struct stele_link_block){.hash = entry[i].hash,
		                                    .parent = entry[i].parent,
		                                    .claimed_height = entry[i].height};
	}
	if (err == STELE_OK)
		err = stele_chain_link(&opts, link, n, &result);
	*linked = err == STELE_OK && result.linked == n;
	if (*linked) {
		struct stele_segment now = *seg;
		struct stele_index_head head = seg->ix.head;
		bool degraded = false;
		for (uint32_t i = 0; i < n; i++) {
			entry[i].height = link[i].height;
			entry[i].linked = true;
			entry[i].stale = link[i].stale;
		}
		now.open = false;
		now.bytes = NULL;
		now.linked = true;
		now.first = head.first_height = result.first_height;
		now.last = head.last_height = result.last_height;
		now.first_parent = result.first_parent;
		now.last_hash = result.last_hash;
		head.level = STELE_LEVEL_LINKED;
		err = store_index(c, &head, &seg->object, entry, n, &now.index, &degraded);
		if (err == STELE_OK)
			err = stele_catalogue_add(c, &now);
	}
	free(link);
	free(entry);
	return err;
}

enum stele_err stele_ledger_relink(struct stele_catalogue *c, uint32_t *linked)
{
	*linked = 0;
	bool progress = true;
	while (progress) {
		progress = false;
		for (uint32_t i = 0; i < c->n && !progress; i++) {
			if (c->segment[i].linked)
				continue;
			STELE_TRY(stele_catalogue_index(c, &c->segment[i]));
			if (c->segment[i].open)
				STELE_TRY(relink_one(c, &c->segment[i], &progress));
		}
		*linked += progress;
	}
	return STELE_OK;
}
