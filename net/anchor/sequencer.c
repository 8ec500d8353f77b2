/*
 * The sequencer's steps, in the order that makes every crash harmless (sequencer.h). It keeps no
 * state of its own but what it read from head and manifest.
 */
#include "net/anchor/sequencer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/sha256.h"

#define BATCH_DEFAULT 4096u

struct entered {
	struct stele_log_item item;
	uint64_t index;
};

struct stele_sequencer {
	const struct stele_sequencer_ops *ops;
	void *ctx;
	struct stele_sequencer_config config;
	struct stele_hash log_id;
	struct stele_log_head head;
	struct stele_manifest *manifest;
	bool anchored;
	struct stele_anchor_line line; /* the newest */
	struct stele_log_item *item;   /* batch_max each */
	struct entered *entered;
	bool failed;
	uint64_t unpublished;
	char publish_error[STELE_DETAIL_MAX];
};

/* Steps 3 and 4: from a head that moved to an anchor that is announced */

static enum stele_err announce(struct stele_sequencer *s)
{
	char bytes[STELE_ANCHOR_LINE_MAX];
	struct stele_hash id;
	struct stele_mark mark;
	size_t len;
	if (!s->ops->announce)
		return STELE_OK;
	STELE_TRY(stele_anchor_line_encode(&s->line, bytes, &len));
	stele_sha256(bytes, len, &id);
	STELE_TRY(s->ops->put(s->ctx, &id, bytes, len));
	stele_announce_mark(&s->config.cluster, &s->line, &id, &mark);
	return s->ops->announce(s->ctx, &mark);
}

static enum stele_err anchor(struct stele_sequencer *s)
{
	char note[STELE_NOTE_MAX];
	struct stele_checkpoint c = {.size = s->head.size, .root = s->head.root};
	size_t len;
	memcpy(c.origin, s->config.origin, sizeof(c.origin));
	STELE_TRY(stele_note_sign(&c, s->config.key, note, &len));
	if (s->ops->publish && s->ops->publish(s->ctx, note, len) != STELE_OK) {
		s->unpublished++;
		stele_detail_copy(s->publish_error);
	}
	STELE_TRY(s->ops->anchor(s->ctx, note, len, &s->head.manifest, &s->line));
	if (s->line.checkpoint.size != s->head.size ||
	    !stele_hash_equal(&s->line.checkpoint.root, &s->head.root))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "the anchor's line is not the checkpoint's, of %" PRIu64
		                  " leaves",
		                  s->head.size);
	s->anchored = true;
	return announce(s);
}

/* Taking up */

static enum stele_err load_manifest(struct stele_sequencer *s)
{
	size_t len;
	stele_manifest_init(s->manifest, &s->log_id);
	if (s->head.size == 0)
		return STELE_OK;
	uint8_t *bytes = malloc(STELE_MANIFEST_MAX);
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "no memory for the manifest");
	enum stele_err err =
	    s->ops->get(s->ctx, &s->head.manifest, bytes, STELE_MANIFEST_MAX, &len);
	if (!err)
		err = stele_manifest_decode(bytes, len, &s->log_id, &s->head.size, &s->head.root,
		                            s->manifest);
	free(bytes);
	return err;
}

/* The head must extend the newest anchor: nothing is written before this is sure. */
static enum stele_err check_extends(struct stele_sequencer *s)
{
	struct stele_manifest_source source = {s->manifest, s->ops->get, s->ctx};
	struct stele_hash path[STELE_MERKLE_PATH_MAX];
	const struct stele_checkpoint *old = &s->line.checkpoint;
	size_t len;
	if (!s->anchored)
		return STELE_OK;
	if (s->head.size < old->size)
		return stele_fail(STELE_ERR_REFUSED,
		                  "the log's head (log.head) is at %" PRIu64
		                  " leaves, behind anchor %" PRIu64 " of %" PRIu64
		                  ": it is gone or from the past, put the newest copy back",
		                  s->head.size, s->line.number, old->size);
	STELE_TRY(stele_log_consistency(stele_manifest_fetch, &source, old->size, s->head.size,
	                                path, &len));
	if (!stele_merkle_consistency_ok(old->size, s->head.size, path, len, &old->root,
	                                 &s->head.root))
		return stele_fail(STELE_ERR_REFUSED,
		                  "the head of %" PRIu64 " leaves does not extend anchor %" PRIu64
		                  " of %" PRIu64 ": the log was rewritten",
		                  s->head.size, s->line.number, old->size);
	return STELE_OK;
}

static enum stele_err take_up(struct stele_sequencer *s)
{
	enum stele_err err = s->ops->head_load(s->ctx, &s->head);
	if (err == STELE_ERR_NOT_FOUND) {
		s->head = (struct stele_log_head){0};
		err = STELE_OK;
	}
	if (err)
		return err;
	err = s->ops->anchored(s->ctx, &s->line);
	s->anchored = err == STELE_OK;
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	STELE_TRY(load_manifest(s));
	STELE_TRY(check_extends(s));
	if (s->head.size > (s->anchored ? s->line.checkpoint.size : 0))
		return anchor(s); /* an earlier run ended behind its step 2 */
	return s->anchored ? announce(s) : STELE_OK;
}

enum stele_err stele_sequencer_create(const struct stele_sequencer_ops *ops, void *ctx,
                                      const struct stele_sequencer_config *config,
                                      struct stele_sequencer **out)
{
	if (!stele_origin_ok(config->origin))
		return stele_fail(STELE_ERR_INVALID, "sequencer: the log's origin has no text");
	struct stele_sequencer *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "sequencer: no memory");
	s->ops = ops;
	s->ctx = ctx;
	s->config = *config;
	if (s->config.batch_max == 0)
		s->config.batch_max = BATCH_DEFAULT;
	stele_log_id(config->origin, &s->log_id);
	s->manifest = malloc(sizeof(*s->manifest));
	s->item = calloc(s->config.batch_max, sizeof(*s->item));
	s->entered = calloc(s->config.batch_max, sizeof(*s->entered));
	enum stele_err err = STELE_OK;
	if (!s->manifest || !s->item || !s->entered)
		err = stele_fail(STELE_ERR_NOMEM, "no memory");
	else
		err = take_up(s);
	if (err) {
		stele_sequencer_destroy(s);
		return stele_wrap(err, "sequencer");
	}
	*out = s;
	return STELE_OK;
}

void stele_sequencer_destroy(struct stele_sequencer *s)
{
	if (!s)
		return;
	free(s->manifest);
	free(s->item);
	free(s->entered);
	free(s);
}

/* A batch */

/* NULL: the log takes it; else why not. */
static const char *fault(const struct stele_log_item *item)
{
	struct stele_deposit d;
	struct stele_sig sig;
	struct stele_hash hash;
	if (item->type < STELE_LEAF_DEPOSIT || item->type > STELE_LEAF_SUCCESSION)
		return "not a kind of leaf";
	stele_sha256(item->body, item->len, &hash);
	if (!stele_hash_equal(&hash, &item->hash))
		return "its body does not hash to its name";
	if (item->type != STELE_LEAF_DEPOSIT)
		return NULL;
	if (item->sig_len != sizeof(sig.b) ||
	    stele_deposit_decode(item->body, item->len, &d) != STELE_OK)
		return "its form is bad";
	if (d.type == STELE_DEPOSIT_SYSTEM)
		return "the log's own objects are not leaves";
	memcpy(sig.b, item->sig, sizeof(sig.b));
	if (!stele_sig_ok(&d.depositor, item->body, item->len, &sig))
		return "its depositor's signature does not hold";
	return NULL;
}

/* Steps 1 and 2. */
static enum stele_err store_and_move(struct stele_sequencer *s)
{
	struct stele_log_head to = {.size = s->manifest->tree.n};
	size_t len;
	uint8_t *bytes = malloc(STELE_MANIFEST_MAX);
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "no memory for the manifest");
	stele_log_tree_root(&s->manifest->tree, &to.root);
	stele_manifest_encode(s->manifest, bytes, &len);
	stele_sha256(bytes, len, &to.manifest);
	enum stele_err err = s->ops->put(s->ctx, &to.manifest, bytes, len);
	free(bytes);
	if (!err)
		err = s->ops->head_move(s->ctx, &s->head, &to);
	if (!err)
		s->head = to;
	return err;
}

/* *more: the batch was full, so there may be another. */
static enum stele_err run_batch(struct stele_sequencer *s, struct stele_sequencer_result *out,
                                bool *more)
{
	uint32_t n = 0, entered = 0;
	STELE_TRY(s->ops->next(s->ctx, s->item, s->config.batch_max, &n));
	assert(n <= s->config.batch_max);
	*more = n == s->config.batch_max;
	for (uint32_t i = 0; i < n; i++) {
		struct stele_log_item *item = &s->item[i];
		struct stele_log_entry entry;
		const char *why = fault(item);
		if (why) {
			s->ops->reject(s->ctx, item, why);
			out->rejected++;
			continue;
		}
		s->entered[entered++] = (struct entered){*item, s->manifest->tree.n};
		stele_log_entry_make(item->type, item->body, item->len, item->sig, item->sig_len,
		                     &entry);
		STELE_TRY(stele_manifest_add(s->manifest, &entry, s->ops->put, s->ctx));
	}
	if (entered == 0)
		return STELE_OK;
	STELE_TRY(store_and_move(s));
	STELE_TRY(anchor(s));
	for (uint32_t i = 0; i < entered; i++)
		STELE_TRY(s->ops->mark(s->ctx, &s->entered[i].item, s->entered[i].index));
	out->entered += entered;
	return STELE_OK;
}

enum stele_err stele_sequencer_run(struct stele_sequencer *s, struct stele_sequencer_result *out)
{
	bool more = true;
	assert(!s->failed);
	memset(out, 0, sizeof(*out));
	while (more) {
		enum stele_err err = run_batch(s, out, &more);
		if (err) {
			s->failed = true;
			return stele_wrap(err, "sequencer");
		}
	}
	out->unpublished = s->unpublished;
	memcpy(out->publish_error, s->publish_error, sizeof(out->publish_error));
	s->unpublished = 0;
	out->head = s->head;
	out->anchored = s->anchored;
	out->line = s->line;
	return STELE_OK;
}
