/*
 * The judge of proofs. It reads no clock, asks nobody, and believes only the policy's keys. Each
 * verdict looks at everything that bears on it, so that no field of a proof goes unchecked.
 */
#include "net/anchor/verify.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

#define READ_LEN (1u << 20)
_Static_assert(READ_LEN % STELE_CELL_LEN == 0, "reads are whole chunks");

static void STELE_PRINTF(3, 4)
    set(struct stele_verdict *v, enum stele_verdict_state state, const char *fmt, ...)
{
	va_list args;
	v->state = state;
	va_start(args, fmt);
	vsnprintf(v->text, sizeof(v->text), fmt, args);
	va_end(args);
}

/* The file's bytes */

struct digest {
	uint64_t length;
	struct stele_hash object;
	struct stele_hash *leaf; /* of each chunk; owned */
	size_t n, cap;
};

static enum stele_err reserve(struct digest *d, size_t more)
{
	if (d->cap - d->n >= more)
		return STELE_OK;
	size_t cap = 2 * d->cap + more;
	struct stele_hash *leaf = realloc(d->leaf, cap * sizeof(*leaf));
	if (!leaf)
		return stele_fail(STELE_ERR_NOMEM, "verify: no memory for the file's chunks");
	d->leaf = leaf;
	d->cap = cap;
	return STELE_OK;
}

/* Reads until cap bytes are there or the file ends. */
static enum stele_err fill(const struct stele_proof_file *file, uint8_t *buf, size_t cap,
                           size_t *len)
{
	*len = 0;
	while (*len < cap) {
		size_t got = 0;
		STELE_TRY(file->read(file->ctx, buf + *len, cap - *len, &got));
		if (got == 0)
			break;
		*len += got;
	}
	return STELE_OK;
}

/* At most `most` bytes are of interest: a longer file is not read to its end. */
static enum stele_err digest_file(const struct stele_proof_file *file, uint64_t most,
                                  struct digest *d)
{
	struct stele_sha256_stream s;
	uint8_t *buf = malloc(READ_LEN);
	size_t len = READ_LEN;
	enum stele_err err = STELE_OK;
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "verify: no memory to read the file");
	stele_sha256_init(&s);
	while (!err && len == READ_LEN && d->length <= most) {
		err = fill(file, buf, READ_LEN, &len);
		if (!err)
			err = reserve(d, READ_LEN / STELE_CELL_LEN);
		if (err)
			break;
		stele_sha256_cells_and_stream(buf, len, d->leaf + d->n, &s);
		d->n += (len + STELE_CELL_LEN - 1) / STELE_CELL_LEN;
		d->length += len;
	}
	stele_sha256_value(&s, &d->object);
	free(buf);
	return err;
}

static void judge_whole(const struct stele_proof *p, const struct digest *d,
                        struct stele_verdict *v)
{
	char id[STELE_ID_TEXT];
	struct stele_hash tree;
	if (d->length != p->deposit.length) {
		set(v, STELE_FAILED, "the file's length is not the %" PRIu64 " bytes deposited",
		    p->deposit.length);
		return;
	}
	if (!stele_hash_equal(&d->object, &p->deposit.object)) {
		set(v, STELE_FAILED, "the file is not the object that was deposited");
		return;
	}
	stele_merkle_root(d->leaf, d->n, &tree);
	if (!stele_hash_equal(&tree, &p->deposit.tree)) {
		set(v, STELE_FAILED,
		    "the deposit's tree is not the file's: the depositor signed "
		    "something untrue");
		return;
	}
	set(v, STELE_ESTABLISHED, "the file is %s, %" PRIu64 " bytes, as deposited",
	    stele_id_text(&p->deposit.object, id), d->length);
}

static void judge_range(const struct stele_proof *p, const struct digest *d,
                        struct stele_verdict *v)
{
	char id[STELE_ID_TEXT];
	uint64_t length = p->deposit.length;
	uint64_t chunks = length / STELE_CELL_LEN + (length % STELE_CELL_LEN != 0);
	uint64_t first = p->range.first, count = p->range.count;
	if (count == 0 || count > chunks || first > chunks - count) {
		set(v, STELE_FAILED, "the range lies outside the object");
		return;
	}
	uint64_t from = first * STELE_CELL_LEN;
	uint64_t to = first + count == chunks ? length : (first + count) * STELE_CELL_LEN;
	if (d->length != to - from || d->n != count) {
		set(v, STELE_FAILED, "the file's length is not the range's %" PRIu64 " bytes",
		    to - from);
		return;
	}
	if (!stele_merkle_range_ok(d->leaf, first, count, chunks, p->range.path, p->range.path_len,
	                           &p->deposit.tree)) {
		set(v, STELE_FAILED,
		    "the file is not bytes %" PRIu64 " to %" PRIu64
		    " of the tree that was deposited",
		    from, to);
		return;
	}
	set(v, STELE_ESTABLISHED,
	    "the file is bytes %" PRIu64 " to %" PRIu64 " of the deposited tree; that the tree is "
	    "%s's is the depositor's signed claim",
	    from, to, stele_id_text(&p->deposit.object, id));
}

static enum stele_err judge_bytes(const struct stele_proof *p, const struct stele_proof_file *file,
                                  struct stele_verdict *v)
{
	struct digest d = {0};
	if (!file) {
		set(v, STELE_NOT_ESTABLISHED, "no file was given");
		return STELE_OK;
	}
	enum stele_err err = digest_file(file, p->deposit.length, &d);
	if (!err && p->has_range)
		judge_range(p, &d, v);
	else if (!err)
		judge_whole(p, &d, v);
	free(d.leaf);
	return err;
}

/* Log and time */

static bool leaf_included(const struct stele_proof *p)
{
	struct stele_log_entry entry;
	struct stele_hash leaf;
	const struct stele_checkpoint *c = &p->checkpoint.checkpoint;
	stele_log_entry_make(STELE_LEAF_DEPOSIT, p->deposit_text, p->deposit_len, p->sig.b,
	                     sizeof(p->sig.b), &entry);
	stele_log_leaf(&entry, &leaf);
	return stele_merkle_path_ok(&leaf, p->leaf_index, c->size, p->leaf_path, p->leaf_path_len,
	                            &c->root);
}

static void local_line(const struct stele_proof *p, const struct stele_proof_anchor *a,
                       struct stele_anchor_line *line)
{
	memset(line, 0, sizeof(*line));
	line->number = a->local.number;
	line->previous = a->local.previous;
	memcpy(line->note, p->note, p->note_len);
	line->note_len = p->note_len;
	line->checkpoint = p->checkpoint.checkpoint;
	line->manifest = a->local.manifest;
	line->time = a->local.time;
	line->sig = a->local.sig;
}

/* What is wrong with checkpoint or anchors by the policy's log; NULL: nothing. */
static const char *log_fault(const struct stele_proof *p, const struct stele_policy *policy)
{
	struct stele_anchor_trust trust = {.cluster = p->deposit.cluster,
	                                   .nkeys = policy->nlog_keys};
	struct stele_anchor_line line;
	struct stele_hash id;
	const char *origin = p->checkpoint.checkpoint.origin;
	stele_log_id(origin, &id);
	if (!stele_hash_equal(&id, &policy->log_id))
		return "the checkpoint is of another log than the policy's";
	memcpy(trust.origin, origin, sizeof(trust.origin));
	memcpy(trust.key, policy->log_key, sizeof(trust.key));
	for (uint32_t i = 0; i < p->nanchors; i++) {
		local_line(p, &p->anchor[i], &line);
		if (stele_anchor_line_check(&line, &trust) != STELE_OK)
			return "the log's key did not sign the checkpoint and its anchor";
	}
	return NULL;
}

static void judge_log(const struct stele_proof *p, const struct stele_policy *policy,
                      struct stele_verdict *v)
{
	const struct stele_checkpoint *c = &p->checkpoint.checkpoint;
	const char *fault = NULL;
	assert(p->nanchors > 0);
	if (!leaf_included(p))
		fault = "the deposit is not the checkpoint's leaf";
	else if (policy && policy->has_cluster &&
	         !stele_hash_equal(&policy->cluster, &p->deposit.cluster))
		fault = "the deposit is of another cluster than the policy's";
	else if (policy && policy->has_log)
		fault = log_fault(p, policy);
	if (fault)
		set(v, STELE_FAILED, "%s", fault);
	else if (!policy || !policy->has_log)
		set(v, STELE_NOT_ESTABLISHED, "no policy says which log and keys to trust");
	else if (policy->anchor != STELE_ANCHOR_LOCAL)
		set(v, STELE_NOT_ESTABLISHED,
		    "the policy asks for an anchor on %s; this proof has a local one",
		    policy->chain);
	else
		set(v, STELE_ESTABLISHED,
		    "leaf %" PRIu64 " of %" PRIu64 " in %s, recorded as anchor %" PRIu64
		    ": the operator's word only",
		    p->leaf_index, c->size, c->origin, p->anchor[0].local.number);
}

static void judge_time(const struct stele_policy *policy, struct stele_verdict *v)
{
	bool local = policy && policy->anchor == STELE_ANCHOR_LOCAL;
	set(v, STELE_NOT_ESTABLISHED, "a local anchor proves no time%s",
	    local ? ", and the policy requires none" : "");
}

static void judge_depositor(const struct stele_proof *p, const struct stele_policy *policy,
                            struct stele_verdict *v)
{
	char hex[STELE_HEX_LEN];
	if (!stele_sig_ok(&p->deposit.depositor, p->deposit_text, p->deposit_len, &p->sig)) {
		set(v, STELE_FAILED, "the deposit's signature does not hold");
		return;
	}
	for (uint32_t i = 0; policy && i < policy->ndepositors; i++) {
		const struct stele_policy_depositor *d = &policy->depositor[i];
		if (stele_public_key_equal(&d->key, &p->deposit.depositor)) {
			set(v, STELE_ESTABLISHED,
			    "deposited by %s, holding the role %s (by the policy)", d->name,
			    d->role);
			return;
		}
	}
	set(v, STELE_NOT_ESTABLISHED, "signed by key %s, which no policy names",
	    stele_hex(p->deposit.depositor.b, STELE_KEY_LEN, hex));
}

enum stele_err stele_proof_verify(const struct stele_proof *p, const struct stele_policy *policy,
                                  const struct stele_proof_file *file,
                                  struct stele_proof_result *out)
{
	memset(out, 0, sizeof(*out));
	STELE_TRY(judge_bytes(p, file, &out->verdict[STELE_VERDICT_BYTES]));
	judge_time(policy, &out->verdict[STELE_VERDICT_TIME]);
	judge_log(p, policy, &out->verdict[STELE_VERDICT_LOG]);
	judge_depositor(p, policy, &out->verdict[STELE_VERDICT_DEPOSITOR]);
	for (unsigned i = 0; i < STELE_VERDICTS; i++)
		if (out->verdict[i].state == STELE_FAILED)
			return stele_fail(STELE_ERR_CORRUPT, "proof: %s", out->verdict[i].text);
	for (unsigned i = 0; i < STELE_VERDICTS; i++)
		if (policy && policy->require[i] && out->verdict[i].state != STELE_ESTABLISHED)
			return stele_fail(STELE_ERR_REFUSED,
			                  "proof: the policy requires \"%s\", not established: %s",
			                  stele_verdict_name(i), out->verdict[i].text);
	out->policy_met = true;
	return STELE_OK;
}
