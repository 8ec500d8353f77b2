/*
 * FISCO BCOS 2.x binlogs: u32 version 1, then for each block u32 length, payload, u32 CRC-32
 * (big-endian; the length counts payload and CRC). The payload is what the block changed in every
 * table; the one called _sys_hash_2_block_ holds the block itself. One record a step.
 *
 * How entries say which fields they have changed over releases (nothing, a bit for each field with
 * or without the three of the system's): the first way in which a payload comes out even is taken.
 * That is safe, as the block that is found proves itself.
 */
#include <stdlib.h>
#include <zlib.h>

#include "storage/ledger/fisco.h"
#include "storage/ledger/parser.h"

#define LENGTH_LEN 4u
#define CRC_LEN    4u
#define FIELDS_MAX 1024u

enum presence {
	PRESENCE_USER_BITS, /* what the sample at hand has */
	PRESENCE_ALL_BITS,
	PRESENCE_NONE,
	PRESENCES,
};

struct fisco_file {
	struct stele_fisco_scratch scratch;
	struct stele_hash before; /* the last block's hash */
	uint64_t number;          /* and number */
};

struct span {
	const uint8_t *p;
	size_t len;
};

/* The entry that was looked for: the hash it is filed under, and the block. */
struct found {
	struct span hash, block;
	size_t count;
};

/* ---- tables ---- */

static uint32_t read_be32(struct stele_reader *r)
{
	const uint8_t *p = stele_read_span(r, 4);
	return p ? stele_be32(p) : 0;
}

static struct span read_string(struct stele_reader *r)
{
	struct span s = {.len = read_be32(r)};
	s.p = s.len <= stele_read_left(r) ? stele_read_span(r, s.len) : NULL;
	r->bad = r->bad || !s.p;
	return s;
}

static bool is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

/* A table's columns: how many there are, how many of them entries carry, and where the block is. */
struct columns {
	size_t all, user, hash, value;
};

static bool read_columns(struct span fields, struct columns *out)
{
	*out = (struct columns){.hash = SIZE_MAX, .value = SIZE_MAX};
	const uint8_t *p = fields.p, *end = fields.p + fields.len;
	while (p <= end) {
		const uint8_t *comma = p < end ? memchr(p, ',', (size_t)(end - p)) : NULL;
		struct span name = {p, (size_t)((comma ? comma : end) - p)};
		out->all++;
		if (!is(name, "_status_") && !is(name, "_num_") && !is(name, "_id_")) {
			if (is(name, "hash"))
				out->hash = out->user;
			if (is(name, "value"))
				out->value = out->user;
			out->user++;
		}
		p = comma ? comma + 1 : end + 1;
	}
	return out->all <= FIELDS_MAX;
}

static void read_entry(struct stele_reader *r, const struct columns *c, enum presence how,
                       struct found *found)
{
	stele_read_span(r, 8 + 1); /* id, status */
	size_t bits = how == PRESENCE_USER_BITS ? c->user : how == PRESENCE_ALL_BITS ? c->all : 0;
	const uint8_t *present = stele_read_span(r, (bits + 7) / 8);
	struct span hash = {0}, value = {0};
	for (size_t i = 0; i < c->user && !r->bad; i++) {
		if (bits && !(present[i / 8] & (0x80 >> i % 8)))
			continue;
		struct span field = read_string(r);
		if (i == c->hash)
			hash = field;
		if (i == c->value)
			value = field;
	}
	if (found && !r->bad) {
		found->hash = hash;
		found->block = value;
		found->count++;
	}
}

static void read_table(struct stele_reader *r, enum presence how, struct found *found)
{
	uint8_t name_len = stele_read_u8(r);
	struct span name = {stele_read_span(r, name_len), name_len}, fields = read_string(r);
	struct columns c;
	if (r->bad || !read_columns(fields, &c)) {
		r->bad = true;
		return;
	}
	bool wanted = is(name, "_sys_hash_2_block_");
	for (int list = 0; list < 2; list++) { /* changed entries, then new ones */
		uint32_t n = read_be32(r);
		for (uint32_t i = 0; i < n && !r->bad; i++)
			read_entry(r, &c, how, wanted ? found : NULL);
	}
}

/* False: the payload does not come out even this way. */
static bool read_payload(const uint8_t *payload, size_t len, enum presence how, uint64_t *number,
                         struct found *found)
{
	struct stele_reader r = stele_reader(payload, len);
	const uint8_t *p = stele_read_span(&r, 8);
	*found = (struct found){0};
	*number = p ? stele_be64(p) : 0;
	uint32_t tables = read_be32(&r);
	for (uint32_t i = 0; i < tables && !r.bad; i++)
		read_table(&r, how, found);
	return stele_read_done(&r);
}

/* ---- records ---- */

static enum stele_err find_block(const uint8_t *payload, size_t len, uint64_t *number,
                                 struct found *found)
{
	enum presence how = 0;
	while (how < PRESENCES && !read_payload(payload, len, how, number, found))
		how++;
	if (how == PRESENCES)
		return stele_fail(STELE_ERR_CORRUPT, "its tables do not come out even");
	if (found->count != 1 || !found->block.p || !found->hash.p)
		return stele_fail(STELE_ERR_CORRUPT, "it holds %zu blocks, not one", found->count);
	return STELE_OK;
}

static enum stele_err check_place(const struct stele_parser *p, const struct stele_fisco_block *b,
                                  uint64_t number, struct span key)
{
	const struct fisco_file *f = p->state;
	struct stele_hash filed;
	if (!stele_unhex((const char *)key.p, key.len, filed.b, sizeof(filed.b), false) ||
	    !stele_hash_equal(&filed, &b->hash))
		return stele_fail(STELE_ERR_CORRUPT, "it is filed under another hash");
	if (b->number != number)
		return stele_fail(STELE_ERR_CORRUPT, "it is number %llu, filed under %llu",
		                  (unsigned long long)b->number, (unsigned long long)number);
	if (p->facts.count == 0)
		return STELE_OK;
	if (!stele_hash_equal(&b->parent, &f->before))
		return stele_fail(STELE_ERR_CORRUPT, "its parent is not the block before it");
	if (b->number != f->number + 1)
		return stele_fail(STELE_ERR_CORRUPT, "number %llu follows %llu",
		                  (unsigned long long)b->number, (unsigned long long)f->number);
	return STELE_OK;
}

static enum stele_err take_record(struct stele_parser *p, const uint8_t *record, size_t len)
{
	struct fisco_file *f = p->state;
	const uint8_t *payload = record + LENGTH_LEN;
	size_t payload_len = len - LENGTH_LEN - CRC_LEN;
	struct stele_fisco_block b;
	struct found found;
	uint64_t number;
	if (crc32(0, payload, (unsigned)payload_len) != stele_be32(payload + payload_len))
		return stele_fail(STELE_ERR_CORRUPT, "it fails its CRC-32");
	STELE_TRY(find_block(payload, payload_len, &number, &found));
	STELE_TRY(stele_fisco_block_check(&f->scratch, found.block.p, found.block.len, &b));
	STELE_TRY(check_place(p, &b, number, found.hash));
	p->facts.unbound += len - found.block.len + b.signatures_len;
	f->before = b.hash;
	f->number = b.number;
	struct stele_found_block out = {
	    .height = b.number,
	    .hash = b.hash,
	    .parent = b.parent,
	    .nparts = 1,
	    .part[0] = {.offset = p->feeder.offset + (uint64_t)(found.block.p - record),
	                .length = (uint32_t)found.block.len,
	                .kind = STELE_PART_BLOCK},
	    .tx_count = b.tx_count,
	    .tx_ids = p->opts.want_tx_ids ? b.tx_ids : NULL,
	};
	return stele_parser_block(p, &out);
}

static enum stele_err fisco_step(void *ctx, const uint8_t *view, size_t len, bool final,
                                 size_t *used, size_t *need)
{
	struct stele_parser *p = ctx;
	unsigned long long at = p->feeder.offset, number = p->facts.count;
	size_t whole = 4; /* the version, or a record's length */
	if (at == 0 && len >= whole && stele_be32(view) != 1)
		return stele_fail(STELE_ERR_CORRUPT, "offset 0: not a binlog of version 1");
	if (at > 0 && len >= whole) {
		uint32_t length = stele_be32(view);
		if (length < 8 + 4 + CRC_LEN || length > STELE_FISCO_BLOCK_MAX)
			return stele_fail(
			    STELE_ERR_CORRUPT,
			    "record %llu, at offset %llu: no block of %u bytes can be", number, at,
			    length);
		whole += length;
	}
	if (len < whole) {
		*need = whole;
		return final ? stele_fail(STELE_ERR_CORRUPT, "record %llu, at offset %llu, is cut",
		                          number, at)
		             : STELE_OK;
	}
	*used = whole;
	if (at == 0)
		return STELE_OK;
	enum stele_err err = take_record(p, view, whole);
	return err == STELE_ERR_CORRUPT ? stele_wrap(err, "record %llu, at offset %llu", number, at)
	                                : err;
}

static enum stele_err fisco_open(struct stele_parser *p)
{
	p->state = calloc(1, sizeof(struct fisco_file));
	return p->state ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "a parser");
}

static enum stele_err fisco_close(struct stele_parser *p)
{
	p->facts.sealed = true;
	return STELE_OK;
}

static void fisco_destroy(struct stele_parser *p)
{
	struct fisco_file *f = p->state;
	if (f)
		stele_fisco_scratch_reset(&f->scratch);
	free(f);
}

const struct stele_parser_ops stele_fisco_parser = {
    .need_max = LENGTH_LEN + STELE_FISCO_BLOCK_MAX,
    .open = fisco_open,
    .step = fisco_step,
    .close = fisco_close,
    .destroy = fisco_destroy,
};
