/* Making, writing and reading proofs. A proof that was read is well formed and nothing more:
 * whether it is true is verify.c's. */
#include "net/anchor/proof.h"

#include <assert.h>
#include <inttypes.h>

#include "net/anchor/canon.h"

/* Decodes what the texts say. CORRUPT. */
static enum stele_err decode_texts(struct stele_proof *p)
{
	STELE_TRY(stele_deposit_decode(p->deposit_text, p->deposit_len, &p->deposit));
	STELE_TRY(stele_note_read(p->note, p->note_len, &p->checkpoint));
	if (p->checkpoint.nsigs != 1)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "checkpoint: %u signatures, of which only the log's is checked",
		                  p->checkpoint.nsigs);
	return STELE_OK;
}

/* Building */

enum stele_err stele_proof_build(const char *deposit_text, size_t deposit_len,
                                 const struct stele_sig *sig, uint64_t index,
                                 const struct stele_anchor_line *line, stele_log_fetch *fetch,
                                 void *fetch_ctx, struct stele_proof *out)
{
	struct stele_log_entry entry;
	struct stele_hash leaf;
	const struct stele_checkpoint *c = &line->checkpoint;
	if (index >= c->size)
		return stele_fail(STELE_ERR_INVALID,
		                  "proof: leaf %" PRIu64 " is not in a log of %" PRIu64, index,
		                  c->size);
	if (deposit_len > sizeof(out->deposit_text))
		return stele_fail(STELE_ERR_CORRUPT, "proof: a deposit of %zu bytes", deposit_len);
	memset(out, 0, sizeof(*out));
	memcpy(out->deposit_text, deposit_text, deposit_len);
	out->deposit_len = deposit_len;
	out->sig = *sig;
	memcpy(out->note, line->note, line->note_len);
	out->note_len = line->note_len;
	out->leaf_index = index;
	out->nanchors = 1;
	out->anchor[0].kind = STELE_ANCHOR_LOCAL;
	out->anchor[0].local.number = line->number;
	out->anchor[0].local.previous = line->previous;
	out->anchor[0].local.manifest = line->manifest;
	out->anchor[0].local.time = line->time;
	out->anchor[0].local.sig = line->sig;
	enum stele_err err = decode_texts(out);
	if (!err)
		err = stele_log_inclusion(fetch, fetch_ctx, c->size, index, out->leaf_path,
		                          &out->leaf_path_len);
	if (err)
		return stele_wrap(err, "proof");
	stele_log_entry_make(STELE_LEAF_DEPOSIT, deposit_text, deposit_len, sig->b, sizeof(sig->b),
	                     &entry);
	stele_log_leaf(&entry, &leaf);
	if (!stele_merkle_path_ok(&leaf, index, c->size, out->leaf_path, out->leaf_path_len,
	                          &c->root))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "proof: the log's tiles do not lead from leaf %" PRIu64
		                  " to its checkpoint",
		                  index);
	return STELE_OK;
}

enum stele_err stele_proof_set_range(struct stele_proof *p, uint64_t first, uint64_t count,
                                     const struct stele_hash *leaf, size_t n)
{
	uint64_t chunks = (p->deposit.length + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
	struct stele_hash root;
	if (n != chunks || count == 0 || count > chunks || first > chunks - count)
		return stele_fail(STELE_ERR_INVALID,
		                  "proof: chunks %" PRIu64 "+%" PRIu64 " of an object of %" PRIu64,
		                  first, count, chunks);
	stele_merkle_root(leaf, n, &root);
	if (!stele_hash_equal(&root, &p->deposit.tree))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "proof: the chunks do not lead to the deposit's tree");
	p->range.first = first;
	p->range.count = count;
	p->range.path_len =
	    stele_merkle_range_path(leaf, n, (size_t)first, (size_t)count, p->range.path);
	p->has_range = true;
	return STELE_OK;
}

/* Writing: keys in ascending order, asserted by the writer */

static void write_path(struct stele_canon *j, const struct stele_hash *path, size_t n)
{
	stele_canon_array(j, "path");
	for (size_t i = 0; i < n; i++)
		stele_canon_hex(j, NULL, path[i].b, sizeof(path[i].b));
	stele_canon_close(j, ']');
}

static void write_anchor(struct stele_canon *j, const struct stele_proof_anchor *a)
{
	assert(a->kind == STELE_ANCHOR_LOCAL);
	stele_canon_object(j, NULL);
	stele_canon_string(j, "kind", "local", 5);
	stele_canon_hex(j, "manifest", a->local.manifest.b, sizeof(a->local.manifest.b));
	stele_canon_number(j, "number", a->local.number);
	stele_canon_hex(j, "previous", a->local.previous.b, sizeof(a->local.previous.b));
	stele_canon_hex(j, "signature", a->local.sig.b, sizeof(a->local.sig.b));
	stele_canon_number(j, "time", a->local.time);
	stele_canon_close(j, '}');
}

static void write_proof(struct stele_canon *j, const struct stele_proof *p)
{
	stele_canon_object(j, NULL);
	stele_canon_array(j, "anchors");
	for (uint32_t i = 0; i < p->nanchors; i++)
		write_anchor(j, &p->anchor[i]);
	stele_canon_close(j, ']');
	stele_canon_string(j, "checkpoint", p->note, p->note_len);
	stele_canon_string(j, "deposit", p->deposit_text, p->deposit_len);
	stele_canon_string(j, "format", STELE_PROOF_FORMAT, strlen(STELE_PROOF_FORMAT));
	stele_canon_object(j, "leaf");
	stele_canon_number(j, "index", p->leaf_index);
	write_path(j, p->leaf_path, p->leaf_path_len);
	stele_canon_close(j, '}');
	if (p->has_range) {
		stele_canon_object(j, "range");
		stele_canon_number(j, "count", p->range.count);
		stele_canon_number(j, "first", p->range.first);
		write_path(j, p->range.path, p->range.path_len);
		stele_canon_close(j, '}');
	}
	stele_canon_hex(j, "signature", p->sig.b, sizeof(p->sig.b));
	stele_canon_close(j, '}');
}

enum stele_err stele_proof_encode(const struct stele_proof *p, char **json, size_t *len)
{
	struct stele_canon j = {0};
	write_proof(&j, p);
	if (j.failed) {
		stele_canon_finish(&j);
		return stele_fail(STELE_ERR_NOMEM, "proof: no memory to write it");
	}
	*json = j.text;
	*len = j.len;
	return STELE_OK;
}

/* Reading */

static enum stele_err bad(const char *what)
{
	return stele_fail(STELE_ERR_CORRUPT, "%s: missing, unknown or malformed", what);
}

static enum stele_err read_anchor(const json_t *o, struct stele_proof_anchor *a)
{
	static const char *const keys[] = {"kind",      "manifest", "number", "previous",
	                                   "signature", "time",     NULL};
	const char *kind = json_string_value(json_object_get(o, "kind"));
	if (kind && strcmp(kind, "local") != 0)
		return stele_fail(STELE_ERR_VERSION,
		                  "an anchor of kind \"%.20s\", which this version cannot check",
		                  kind);
	if (!kind || !stele_canon_only(o, keys) ||
	    !stele_canon_get_hex(o, "manifest", a->local.manifest.b, STELE_HASH_LEN) ||
	    !stele_canon_get_number(o, "number", STELE_CANON_NUMBER_MAX, &a->local.number) ||
	    !stele_canon_get_hex(o, "previous", a->local.previous.b, STELE_HASH_LEN) ||
	    !stele_canon_get_hex(o, "signature", a->local.sig.b, STELE_SIG_LEN) ||
	    !stele_canon_get_number(o, "time", STELE_CANON_NUMBER_MAX, &a->local.time))
		return bad("anchors");
	a->kind = STELE_ANCHOR_LOCAL;
	return STELE_OK;
}

static enum stele_err read_anchors(const json_t *o, struct stele_proof *p)
{
	const json_t *list = json_object_get(o, "anchors");
	size_t n = json_array_size(list);
	if (n == 0 || n > STELE_PROOF_ANCHORS_MAX)
		return bad("anchors");
	for (size_t i = 0; i < n; i++)
		STELE_TRY(read_anchor(json_array_get(list, i), &p->anchor[i]));
	p->nanchors = (uint32_t)n;
	return STELE_OK;
}

static enum stele_err read_range(const json_t *o, struct stele_proof *p)
{
	static const char *const keys[] = {"count", "first", "path", NULL};
	const json_t *range = json_object_get(o, "range");
	if (!range)
		return STELE_OK;
	if (!stele_canon_only(range, keys) ||
	    !stele_canon_get_number(range, "count", STELE_CANON_NUMBER_MAX, &p->range.count) ||
	    !stele_canon_get_number(range, "first", STELE_CANON_NUMBER_MAX, &p->range.first) ||
	    !stele_canon_get_hashes(range, "path", p->range.path, 2u * STELE_MERKLE_PATH_MAX,
	                            &p->range.path_len))
		return bad("range");
	p->has_range = true;
	return STELE_OK;
}

static enum stele_err read_proof(const json_t *o, struct stele_proof *p)
{
	static const char *const keys[] = {"anchors", "checkpoint", "deposit",   "format",
	                                   "leaf",    "range",      "signature", NULL};
	static const char *const leaf_keys[] = {"index", "path", NULL};
	const char *format = json_string_value(json_object_get(o, "format"));
	const json_t *leaf = json_object_get(o, "leaf");
	if (!format || strncmp(format, "stele.dev/proof/", 16) != 0)
		return bad("format");
	if (strcmp(format, STELE_PROOF_FORMAT) != 0)
		return stele_fail(STELE_ERR_VERSION, "format %.40s is not known", format);
	if (!stele_canon_only(o, keys))
		return stele_fail(STELE_ERR_CORRUPT, "a field that this version cannot check");
	STELE_TRY(read_anchors(o, p));
	if (!stele_canon_get_string(o, "checkpoint", p->note, sizeof(p->note), &p->note_len))
		return bad("checkpoint");
	if (!stele_canon_get_string(o, "deposit", p->deposit_text, sizeof(p->deposit_text),
	                            &p->deposit_len))
		return bad("deposit");
	if (!stele_canon_get_hex(o, "signature", p->sig.b, sizeof(p->sig.b)))
		return bad("signature");
	if (!stele_canon_only(leaf, leaf_keys) ||
	    !stele_canon_get_number(leaf, "index", STELE_LOG_SIZE_MAX, &p->leaf_index) ||
	    !stele_canon_get_hashes(leaf, "path", p->leaf_path, STELE_MERKLE_PATH_MAX,
	                            &p->leaf_path_len))
		return bad("leaf");
	STELE_TRY(read_range(o, p));
	return decode_texts(p);
}

enum stele_err stele_proof_decode(const char *json, size_t len, struct stele_proof *out)
{
	struct stele_canon again = {0};
	json_t *o;
	if (len > STELE_PROOF_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "proof: %zu bytes, at most %u", len,
		                  STELE_PROOF_MAX);
	enum stele_err err = stele_canon_parse(json, len, &o);
	if (err)
		return stele_wrap(err, "proof");
	memset(out, 0, sizeof(*out));
	err = read_proof(o, out);
	json_decref(o);
	if (err)
		return stele_wrap(err, "proof");
	write_proof(&again, out);
	if (again.failed)
		err = stele_fail(STELE_ERR_NOMEM, "proof: no memory to read it");
	else if (!stele_canon_is(&again, json, len))
		err = stele_fail(STELE_ERR_CORRUPT, "proof: not in canonical form");
	stele_canon_finish(&again);
	return err;
}
