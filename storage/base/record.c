/*
 * The codec of records: a deposit's exact bytes, its signature, the layout that it commits to, and
 * the bytes of a small object. It checks everything that hashes can check, and no signature unless
 * asked; blocks are not looked at.
 */
#include "storage/base/deposit.h"

#include "storage/base/sha256.h"

enum stele_err stele_record_encode(const struct stele_record *r, uint8_t *out, size_t *len)
{
	if (r->text_len == 0 || r->text_len > STELE_DEPOSIT_MAX)
		return stele_fail(STELE_ERR_INVALID, "record: a deposit of %u bytes, not 1 to %u",
		                  r->text_len, STELE_DEPOSIT_MAX);
	if (r->layout.npieces > STELE_PIECES_MAX)
		return stele_fail(STELE_ERR_INVALID, "record: %u pieces, at most %u",
		                  r->layout.npieces, STELE_PIECES_MAX);
	if (r->inline_len > STELE_INLINE_MAX)
		return stele_fail(STELE_ERR_INVALID, "record: %u inline bytes, at most %u",
		                  r->inline_len, STELE_INLINE_MAX);
	struct stele_writer w = stele_writer(out, STELE_META_MAX);
	stele_write_le32(&w, r->text_len);
	stele_write_bytes(&w, r->text, r->text_len);
	stele_write_bytes(&w, r->sig.b, sizeof(r->sig.b));
	w.p += stele_layout_encode(&r->layout, w.p); /* limits.h: it fits */
	stele_write_le32(&w, r->inline_len);
	stele_write_bytes(&w, r->inline_bytes, r->inline_len);
	*len = stele_written(&w);
	return STELE_OK;
}

static enum stele_err check_layout(const struct stele_record *r)
{
	struct stele_hash hash;
	if (r->layout.npieces == 0)
		return stele_fail(STELE_ERR_CORRUPT, "the deposit has a layout, the record none");
	stele_layout_hash(&r->layout, &hash);
	if (!stele_hash_equal(&hash, &r->deposit.layout))
		return stele_fail(STELE_ERR_CORRUPT, "its layout is not the deposit's");
	if (stele_layout_total(&r->layout) != r->deposit.length)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "its pieces do not add up to the object's length");
	if (r->inline_len != 0)
		return stele_fail(STELE_ERR_CORRUPT, "inline bytes beside a layout");
	return STELE_OK;
}

static enum stele_err check_inline_bytes(const struct stele_record *r, bool hashes)
{
	if (r->layout.npieces != 0 || r->layout.generation != 0)
		return stele_fail(STELE_ERR_CORRUPT, "a layout where the deposit has none");
	if (r->inline_len != r->deposit.length)
		return stele_fail(STELE_ERR_CORRUPT, "%u inline bytes where the deposit says %llu",
		                  r->inline_len, (unsigned long long)r->deposit.length);
	if (!hashes)
		return STELE_OK;
	/* one chunk at most, so the tree is its leaf hash, or that of no leaves: SHA-256("") */
	struct stele_sha256_stream s;
	struct stele_hash object, tree;
	stele_sha256_init(&s);
	stele_sha256_cells_and_stream(r->inline_bytes, r->inline_len, &tree, &s);
	stele_sha256_value(&s, &object);
	if (r->inline_len == 0)
		tree = object;
	if (!stele_hash_equal(&object, &r->deposit.object))
		return stele_fail(STELE_ERR_CORRUPT, "inline bytes do not hash to the object");
	if (!stele_hash_equal(&tree, &r->deposit.tree))
		return stele_fail(STELE_ERR_CORRUPT, "inline bytes do not hash to the tree");
	return STELE_OK;
}
_Static_assert(STELE_INLINE_MAX <= STELE_CELL_LEN, "an inline object is one chunk");

static enum stele_err decode(struct stele_reader *in, bool check_inline, struct stele_record *r,
                             struct stele_piece *piece)
{
	size_t used;
	r->text_len = stele_read_le32(in);
	if (in->bad || r->text_len > STELE_DEPOSIT_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "its deposit's length is out of bounds");
	r->text = (const char *)stele_read_span(in, r->text_len);
	const uint8_t *sig = stele_read_span(in, STELE_SIG_LEN);
	if (!sig)
		return stele_fail(STELE_ERR_CORRUPT, "cut short");
	memcpy(r->sig.b, sig, sizeof(r->sig.b));
	STELE_TRY(stele_deposit_decode(r->text, r->text_len, &r->deposit));
	STELE_TRY(stele_layout_decode(in->p, stele_read_left(in), &r->layout, piece,
	                              STELE_PIECES_MAX, &used));
	in->p += used;
	r->inline_len = stele_read_le32(in);
	r->inline_bytes = stele_read_span(in, r->inline_len);
	if (!stele_read_done(in))
		return stele_fail(STELE_ERR_CORRUPT, "its lengths do not add up");
	if (r->deposit.has_layout)
		STELE_TRY(check_layout(r));
	else
		STELE_TRY(check_inline_bytes(r, check_inline));
	stele_deposit_hash(r->text, r->text_len, &r->deposit_hash);
	return STELE_OK;
}

enum stele_err stele_record_decode(const void *bytes, size_t len, bool check_inline,
                                   struct stele_record *out, struct stele_piece *piece)
{
	struct stele_reader in = stele_reader(bytes, len);
	struct stele_record r = {0};
	if (len > STELE_META_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "record: %zu bytes, at most %u", len,
		                  STELE_META_MAX);
	enum stele_err err = decode(&in, check_inline, &r, piece);
	if (err == STELE_ERR_TOO_LARGE)
		err = STELE_ERR_CORRUPT; /* no record of this version has so many pieces */
	if (err)
		return stele_wrap(err, "record");
	*out = r;
	return STELE_OK;
}

enum stele_err stele_record_check_sig(const struct stele_record *r)
{
	if (!stele_sig_ok(&r->deposit.depositor, r->text, r->text_len, &r->sig))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "record: the depositor's signature does not hold");
	return STELE_OK;
}
