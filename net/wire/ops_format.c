/*
 * Codecs of the heads of requests and replies. They judge form only: lengths, counts, flags,
 * nothing left over. What a head asks for, and whether it may, is judged by the handlers
 * (net/ops.c).
 */
#include "net/wire/ops_format.h"

#include <assert.h>

const char *stele_opcode_name(unsigned op)
{
	switch (op) {
#define X(name, code)                                                                              \
	case code:                                                                                 \
		return #name;
		STELE_OPCODE_MAP(X)
#undef X
	}
	return "?";
}

/* ---- pieces ---- */

void stele_write_key(struct stele_writer *w, const struct stele_key *k)
{
	stele_write_le16(w, k->pool);
	stele_write_u8(w, k->kind);
	stele_write_u8(w, k->index);
	stele_write_hash(w, &k->id);
	stele_write_hash(w, &k->sub);
}

void stele_read_key(struct stele_reader *r, struct stele_key *k)
{
	k->pool = stele_read_le16(r);
	k->kind = stele_read_u8(r);
	k->index = stele_read_u8(r);
	stele_read_hash(r, &k->id);
	stele_read_hash(r, &k->sub);
}

/* A byte that is 0 or 1; anything else makes the cursor bad. */
static bool read_bool(struct stele_reader *r)
{
	uint8_t v = stele_read_u8(r);
	if (v > 1)
		r->bad = true;
	return v == 1;
}

/* len4 and as many bytes, in place; more than max makes the cursor bad. */
static const uint8_t *read_bytes(struct stele_reader *r, uint32_t max, uint32_t *len)
{
	*len = stele_read_le32(r);
	if (*len > max)
		r->bad = true;
	return stele_read_span(r, *len);
}

static void write_bytes(struct stele_writer *w, const uint8_t *bytes, uint32_t len)
{
	stele_write_le32(w, len);
	stele_write_bytes(w, bytes, len);
}

/* The one end of every decoder. */
static enum stele_err read_end(const struct stele_reader *r, const char *what, size_t len)
{
	if (!stele_read_done(r))
		return stele_fail(STELE_ERR_PROTOCOL, "%s: a malformed head of %zu bytes", what,
		                  len);
	return STELE_OK;
}

/* ---- HELLO, PING ---- */

void stele_head_hello_encode(const struct stele_head_hello *h, bool reply, struct stele_writer *w)
{
	stele_write_le32(w, h->version);
	if (!reply) {
		stele_write_hash(w, &h->cluster);
		return;
	}
	stele_write_le32(w, h->node);
	stele_write_le64(w, h->root_epoch);
	stele_write_le64(w, h->state_epoch);
}

enum stele_err stele_head_hello_decode(const void *bytes, size_t len, bool reply,
                                       struct stele_head_hello *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	*out = (struct stele_head_hello){.version = stele_read_le32(&r)};
	if (reply) {
		out->node = stele_read_le32(&r);
		out->root_epoch = stele_read_le64(&r);
		out->state_epoch = stele_read_le64(&r);
	} else {
		stele_read_hash(&r, &out->cluster);
	}
	return read_end(&r, "HELLO", len);
}

void stele_head_ping_encode(const struct stele_head_ping *h, struct stele_writer *w)
{
	assert(h->ndisks <= STELE_PING_DISKS);
	stele_write_le64(w, h->root_epoch);
	stele_write_le64(w, h->state_epoch);
	stele_write_hash(w, &h->map_hash);
	stele_write_le16(w, h->ndisks);
	for (uint16_t i = 0; i < h->ndisks; i++) {
		const struct stele_ping_disk *d = &h->disk[i];
		stele_write_le16(w, d->slot);
		stele_write_u8(w, d->state);
		stele_write_uuid(w, &d->uuid);
		stele_write_le64(w, d->incarnation);
		stele_write_le64(w, d->lsn);
		stele_write_le64(w, d->capacity);
		stele_write_le64(w, d->used);
	}
}

enum stele_err stele_head_ping_decode(const void *bytes, size_t len, struct stele_head_ping *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->root_epoch = stele_read_le64(&r);
	out->state_epoch = stele_read_le64(&r);
	stele_read_hash(&r, &out->map_hash);
	out->ndisks = stele_read_le16(&r);
	if (out->ndisks > STELE_PING_DISKS)
		return stele_fail(STELE_ERR_PROTOCOL, "PING: %u disks", out->ndisks);
	for (uint16_t i = 0; i < out->ndisks; i++) {
		struct stele_ping_disk *d = &out->disk[i];
		d->slot = stele_read_le16(&r);
		d->state = stele_read_u8(&r);
		stele_read_uuid(&r, &d->uuid);
		d->incarnation = stele_read_le64(&r);
		d->lsn = stele_read_le64(&r);
		d->capacity = stele_read_le64(&r);
		d->used = stele_read_le64(&r);
	}
	return read_end(&r, "PING", len);
}

void stele_head_ping_told_encode(const struct stele_head_ping_told *h, struct stele_writer *w)
{
	assert(h->n <= STELE_PING_DISKS);
	stele_write_le16(w, h->n);
	for (uint16_t i = 0; i < h->n; i++) {
		const struct stele_ping_told *d = &h->disk[i];
		stele_write_le16(w, d->slot);
		stele_write_uuid(w, &d->uuid);
		stele_write_le64(w, d->incarnation);
		stele_write_le64(w, d->lsn);
	}
}

enum stele_err stele_head_ping_told_decode(const void *bytes, size_t len,
                                           struct stele_head_ping_told *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->n = stele_read_le16(&r);
	if (out->n > STELE_PING_DISKS)
		return stele_fail(STELE_ERR_PROTOCOL, "PING: %u disks", out->n);
	for (uint16_t i = 0; i < out->n; i++) {
		struct stele_ping_told *d = &out->disk[i];
		d->slot = stele_read_le16(&r);
		stele_read_uuid(&r, &d->uuid);
		d->incarnation = stele_read_le64(&r);
		d->lsn = stele_read_le64(&r);
	}
	return read_end(&r, "PING", len);
}

/* ---- shards and references ---- */

void stele_head_shard_put_encode(const struct stele_head_shard_put *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_u8(w, h->index);
	stele_write_u8(w, h->has_ref);
	if (h->has_ref) {
		stele_write_hash(w, &h->deposit);
		stele_write_hash(w, &h->object);
	}
	write_bytes(w, h->meta, h->meta_len);
}

enum stele_err stele_head_shard_put_decode(const void *bytes, size_t len,
                                           struct stele_head_shard_put *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->index = stele_read_u8(&r);
	out->has_ref = read_bool(&r);
	if (out->has_ref) {
		stele_read_hash(&r, &out->deposit);
		stele_read_hash(&r, &out->object);
	}
	out->meta = read_bytes(&r, STELE_META_MAX, &out->meta_len);
	return read_end(&r, "SHARD_PUT", len);
}

void stele_head_shard_get_encode(const struct stele_head_shard_get *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_u8(w, h->index);
	stele_write_u8(w, h->want_meta);
	stele_write_hash(w, &h->block);
	stele_write_le32(w, h->first_cell);
	stele_write_le32(w, h->cells);
}

enum stele_err stele_head_shard_get_decode(const void *bytes, size_t len,
                                           struct stele_head_shard_get *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->index = stele_read_u8(&r);
	out->want_meta = read_bool(&r);
	stele_read_hash(&r, &out->block);
	out->first_cell = stele_read_le32(&r);
	out->cells = stele_read_le32(&r);
	STELE_TRY(read_end(&r, "SHARD_GET", len));
	if (out->first_cell > STELE_SHARD_CELLS_MAX ||
	    out->cells > STELE_SHARD_CELLS_MAX - out->first_cell)
		return stele_fail(STELE_ERR_PROTOCOL, "SHARD_GET: %u cells from cell %u",
		                  out->cells, out->first_cell);
	return STELE_OK;
}

#define REF_LEN (3u * STELE_HASH_LEN)
_Static_assert(10 + STELE_REFS_MAX * REF_LEN <= STELE_FRAME_HEAD_MAX, "references fit a head");
_Static_assert(10 + STELE_HAVE_MAX * STELE_WIRE_KEY_LEN <= STELE_FRAME_HEAD_MAX,
               "keys of HAVE fit a head");

void stele_head_ref_add_encode(const struct stele_head_ref_add *h, struct stele_writer *w)
{
	assert(h->n <= STELE_REFS_MAX);
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_le16(w, h->n);
	stele_write_bytes(w, h->refs, (size_t)h->n * REF_LEN);
}

enum stele_err stele_head_ref_add_decode(const void *bytes, size_t len,
                                         struct stele_head_ref_add *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->n = stele_read_le16(&r);
	if (out->n > STELE_REFS_MAX)
		return stele_fail(STELE_ERR_PROTOCOL, "REF_ADD: %u references", out->n);
	out->refs = stele_read_span(&r, (size_t)out->n * REF_LEN);
	return read_end(&r, "REF_ADD", len);
}

void stele_wire_ref_at(const struct stele_head_ref_add *h, uint32_t i, struct stele_wire_ref *out)
{
	assert(i < h->n);
	const uint8_t *at = h->refs + (size_t)i * REF_LEN;
	memcpy(out->block.b, at, STELE_HASH_LEN);
	memcpy(out->deposit.b, at + STELE_HASH_LEN, STELE_HASH_LEN);
	memcpy(out->object.b, at + 2u * STELE_HASH_LEN, STELE_HASH_LEN);
}

/* ---- records, marks, refusals ---- */

void stele_head_record_put_encode(const struct stele_head_record_put *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	write_bytes(w, h->record, h->record_len);
}

enum stele_err stele_head_record_put_decode(const void *bytes, size_t len,
                                            struct stele_head_record_put *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->record = read_bytes(&r, STELE_META_MAX, &out->record_len);
	return read_end(&r, "RECORD_PUT", len);
}

void stele_head_record_get_encode(const struct stele_head_record_get *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_hash(w, &h->id);
	stele_write_key(w, &h->after);
}

enum stele_err stele_head_record_get_decode(const void *bytes, size_t len,
                                            struct stele_head_record_get *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	stele_read_hash(&r, &out->id);
	stele_read_key(&r, &out->after);
	return read_end(&r, "RECORD_GET", len);
}

void stele_head_mark_add_encode(const struct stele_head_mark_add *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	write_bytes(w, h->mark, h->mark_len);
}

enum stele_err stele_head_mark_add_decode(const void *bytes, size_t len,
                                          struct stele_head_mark_add *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->mark = read_bytes(&r, STELE_META_MAX, &out->mark_len);
	return read_end(&r, "MARK_ADD", len);
}

void stele_head_refuse_encode(const struct stele_head_refuse *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_hash(w, &h->object);
	stele_write_hash(w, &h->deposit);
	stele_write_u8(w, h->look);
}

enum stele_err stele_head_refuse_decode(const void *bytes, size_t len,
                                        struct stele_head_refuse *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	stele_read_hash(&r, &out->object);
	stele_read_hash(&r, &out->deposit);
	out->look = read_bool(&r);
	return read_end(&r, "REFUSE", len);
}

/* ---- lists ---- */

void stele_head_list_encode(const struct stele_head_list *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_hash(w, &h->first);
	stele_write_hash(w, &h->last);
	stele_write_le32(w, h->kinds);
	stele_write_u8(w, h->want_meta);
	stele_write_key(w, &h->after);
	stele_write_le32(w, h->max);
}

enum stele_err stele_head_list_decode(const void *bytes, size_t len, struct stele_head_list *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	stele_read_hash(&r, &out->first);
	stele_read_hash(&r, &out->last);
	out->kinds = stele_read_le32(&r);
	out->want_meta = read_bool(&r);
	stele_read_key(&r, &out->after);
	out->max = stele_read_le32(&r);
	return read_end(&r, "LIST", len);
}

void stele_head_listed_encode(const struct stele_head_listed *h, struct stele_writer *w)
{
	stele_write_le32(w, h->n);
	stele_write_u8(w, h->more);
}

enum stele_err stele_head_listed_decode(const void *bytes, size_t len,
                                        struct stele_head_listed *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->n = stele_read_le32(&r);
	out->more = read_bool(&r);
	return read_end(&r, "listed", len);
}

#define LISTED_LEN (STELE_WIRE_KEY_LEN + 8u + 8u + 1u + 4u) /* of an item, before its meta */

size_t stele_listed_len(const struct stele_listed *it)
{
	return LISTED_LEN + it->meta_len;
}

void stele_write_listed(struct stele_writer *w, const struct stele_listed *it)
{
	stele_write_key(w, &it->key);
	stele_write_le64(w, it->lsn);
	stele_write_le64(w, it->data_len);
	stele_write_u8(w, it->bad);
	write_bytes(w, it->meta, it->meta_len);
}

void stele_read_listed(struct stele_reader *r, struct stele_listed *it)
{
	stele_read_key(r, &it->key);
	it->lsn = stele_read_le64(r);
	it->data_len = stele_read_le64(r);
	it->bad = read_bool(r);
	it->meta = read_bytes(r, STELE_META_MAX, &it->meta_len);
}

void stele_head_feed_encode(const struct stele_head_feed *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_le64(w, h->after_lsn);
	stele_write_le32(w, h->max);
	stele_write_u8(w, h->want_meta);
}

enum stele_err stele_head_feed_decode(const void *bytes, size_t len, struct stele_head_feed *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->after_lsn = stele_read_le64(&r);
	out->max = stele_read_le32(&r);
	out->want_meta = read_bool(&r);
	return read_end(&r, "FEED", len);
}

_Static_assert(10 + STELE_DIGEST_PGS_MAX * 4 <= STELE_FRAME_HEAD_MAX, "groups fit a head");
_Static_assert(STELE_DIGEST_PGS_MAX *STELE_DIGEST_LEN <= STELE_FRAME_HEAD_MAX,
               "digests fit a head");

void stele_head_pg_digest_encode(const struct stele_head_pg_digest *h, struct stele_writer *w)
{
	assert(h->n <= STELE_DIGEST_PGS_MAX);
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_le32(w, h->kinds);
	stele_write_le16(w, h->n);
	stele_write_bytes(w, h->pgs, (size_t)h->n * 4);
}

enum stele_err stele_head_pg_digest_decode(const void *bytes, size_t len,
                                           struct stele_head_pg_digest *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->kinds = stele_read_le32(&r);
	out->n = stele_read_le16(&r);
	if (out->n > STELE_DIGEST_PGS_MAX)
		return stele_fail(STELE_ERR_PROTOCOL, "PG_DIGEST: %u groups", out->n);
	out->pgs = stele_read_span(&r, (size_t)out->n * 4);
	STELE_TRY(read_end(&r, "PG_DIGEST", len));
	for (uint32_t i = 1; i < out->n; i++)
		if (stele_le32(out->pgs + 4 * i) <= stele_le32(out->pgs + 4 * (i - 1)))
			return stele_fail(STELE_ERR_PROTOCOL, "PG_DIGEST: groups do not ascend");
	return STELE_OK;
}

void stele_write_digest(struct stele_writer *w, const struct stele_wire_digest *d)
{
	stele_write_hash(w, &d->digest);
	stele_write_le64(w, d->keys);
	stele_write_le64(w, d->bytes);
}

void stele_read_digest(struct stele_reader *r, struct stele_wire_digest *d)
{
	stele_read_hash(r, &d->digest);
	d->keys = stele_read_le64(r);
	d->bytes = stele_read_le64(r);
}

/* ---- repair ---- */

void stele_head_rebuild_encode(const struct stele_head_rebuild *h, struct stele_writer *w)
{
	assert(h->nhelpers <= STELE_CODE_N_MAX);
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_u8(w, h->index);
	stele_write_hash(w, &h->block);
	stele_write_u8(w, h->nhelpers);
	for (uint8_t i = 0; i < h->nhelpers; i++) {
		stele_write_le16(w, h->helper[i].node);
		stele_write_le16(w, h->helper[i].slot);
		stele_write_u8(w, h->helper[i].index);
	}
}

enum stele_err stele_head_rebuild_decode(const void *bytes, size_t len,
                                         struct stele_head_rebuild *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->index = stele_read_u8(&r);
	stele_read_hash(&r, &out->block);
	out->nhelpers = stele_read_u8(&r);
	if (out->nhelpers > STELE_CODE_N_MAX)
		return stele_fail(STELE_ERR_PROTOCOL, "REBUILD: %u helpers", out->nhelpers);
	for (uint8_t i = 0; i < out->nhelpers; i++) {
		out->helper[i].node = stele_read_le16(&r);
		out->helper[i].slot = stele_read_le16(&r);
		out->helper[i].index = stele_read_u8(&r);
		if (out->helper[i].index >= STELE_CODE_N_MAX) /* sets of shards are bits */
			return stele_fail(STELE_ERR_PROTOCOL, "REBUILD: a helper with shard %u",
			                  out->helper[i].index);
	}
	return read_end(&r, "REBUILD", len);
}

void stele_head_keep_encode(const struct stele_head_keep *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_le16(w, h->pool);
	stele_write_u8(w, h->index);
	stele_write_hash(w, &h->block);
	stele_write_le64(w, h->epoch);
}

enum stele_err stele_head_keep_decode(const void *bytes, size_t len, struct stele_head_keep *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	out->pool = stele_read_le16(&r);
	out->index = stele_read_u8(&r);
	stele_read_hash(&r, &out->block);
	out->epoch = stele_read_le64(&r);
	return read_end(&r, "KEEP", len);
}

void stele_head_report_bad_encode(const struct stele_head_report_bad *h, struct stele_writer *w)
{
	stele_write_le16(w, h->slot);
	stele_write_key(w, &h->key);
}

enum stele_err stele_head_report_bad_decode(const void *bytes, size_t len,
                                            struct stele_head_report_bad *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	memset(out, 0, sizeof(*out));
	out->slot = stele_read_le16(&r);
	stele_read_key(&r, &out->key);
	return read_end(&r, "REPORT_BAD", len);
}
