/* Where the sequencer meets the cluster. What a log is, the files beside this one say; here are only puts, gets and finds. */
#include "net/anchor/archive.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/cluster/map.h"
#include "storage/base/mark.h"

#define BATCH 256u

struct waiting { /* a deposit that may not be in the log yet */
	struct stele_hash object, deposit;
};

struct run {
	struct stele *s;
	struct stele_env *env;
	const struct stele_log_paths *paths;
	const struct stele_secret_key *key;
	struct stele_hash log_id;
	struct stele_anchor_local *local;
	struct waiting *waiting;
	uint32_t n, cap, next;
	bool failed; /* collecting ran out of memory */
	/* what was found of the batch's objects: nfound that items point into, and behind them the
	 * one that is looked at */
	struct stele_found found[BATCH];
	uint32_t nfound;
	struct stele_hash object;
	bool looking, taken; /* at object; an item of it was taken */
	uint64_t marked, left_out;
	const struct stele_progress *progress;
};

/* ---- deposits and their `logged` marks ---- */

static bool is_sequencer(const struct stele_map *map, const struct stele_public_key *author)
{
	const struct stele_client_entry *who = stele_map_depositor(map, author);
	return who && (who->roles & STELE_ROLE_SEQUENCER);
}

static bool logged_at(const struct stele_map *map, const struct stele_found *found,
                      const struct stele_hash *log_id, const struct stele_hash *deposit,
                      uint64_t *index)
{
	bool any = false;
	for (uint32_t i = 0; i < found->nmarks; i++) {
		struct stele_mark m;
		if (!found->mark[i].sig_ok ||
		    stele_mark_decode(found->mark[i].text, found->mark[i].len, &m) != STELE_OK ||
		    m.kind != STELE_MARK_LOGGED || !m.has_deposit ||
		    !is_sequencer(map, &m.author) || !stele_hash_equal(&m.deposit, deposit) ||
		    !stele_hash_equal(&m.u.logged.logid, log_id))
			continue;
		if (!any || m.u.logged.index < *index)
			*index = m.u.logged.index;
		any = true;
	}
	return any;
}

enum stele_err stele_anchor_deposits(struct stele *s, const struct stele_hash *id,
                                     struct stele_deposit_state **state, uint32_t *n)
{
	struct stele_found found;
	struct stele_hash log_id;
	const struct stele_map *map = stele_map_of(s);
	stele_log_id(map->log_origin, &log_id);
	STELE_TRY(stele_find(s, id, &found));
	*n = 0;
	*state = calloc(found.nrecords ? found.nrecords : 1, sizeof(**state));
	if (!*state) {
		stele_found_finish(&found);
		return stele_fail(STELE_ERR_NOMEM, "deposits: out of memory");
	}
	map = stele_map_of(s);
	for (uint32_t i = 0; i < found.nrecords; i++) {
		if (!found.record[i].sig_ok || !found.record[i].depositor_known)
			continue;
		struct stele_deposit_state *d = &(*state)[(*n)++];
		d->deposit = found.record[i].deposit;
		d->logged = logged_at(map, &found, &log_id, &d->deposit, &d->index);
	}
	stele_found_finish(&found);
	if (*n == 0) {
		free(*state);
		return stele_fail(STELE_ERR_NOT_FOUND, "no deposit of that id");
	}
	return STELE_OK;
}

/* ---- the sequencer's callbacks ---- */

static bool collect(void *ctx, const struct stele_ls_item *item)
{
	struct run *r = ctx;
	if (item->type == STELE_DEPOSIT_SYSTEM)
		return true;
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? 2 * r->cap : 256;
		struct waiting *grown = realloc(r->waiting, cap * sizeof(*grown));
		if (!grown) {
			r->failed = true;
			return false;
		}
		r->waiting = grown;
		r->cap = cap;
	}
	r->waiting[r->n++] = (struct waiting){item->object, item->deposit};
	return true;
}

static void forget_found(struct run *r)
{
	for (uint32_t i = 0; i < BATCH; i++)
		stele_found_finish(&r->found[i]);
	r->nfound = 0;
	r->looking = r->taken = false;
}

/* Finds an object once for all its deposits, which follow each other. Nothing found: an empty one. */
static enum stele_err find_once(struct run *r, const struct stele_hash *object,
                                const struct stele_found **out)
{
	if (!r->looking || !stele_hash_equal(&r->object, object)) {
		if (r->taken)
			r->nfound++;
		else
			stele_found_finish(&r->found[r->nfound]);
		assert(r->nfound < BATCH); /* a batch has fewer items so far */
		r->looking = r->taken = false;
		enum stele_err err = stele_find(r->s, object, &r->found[r->nfound]);
		if (err != STELE_OK && err != STELE_ERR_NOT_FOUND)
			return err;
		r->object = *object;
		r->looking = true;
	}
	*out = &r->found[r->nfound];
	return STELE_OK;
}

static enum stele_err fill_item(struct run *r, const struct waiting *w, struct stele_log_item *item,
                                bool *take)
{
	const struct stele_found *found;
	struct stele_record record;
	uint64_t index;
	*take = false;
	STELE_TRY(find_once(r, &w->object, &found));
	if (logged_at(stele_map_of(r->s), found, &r->log_id, &w->deposit, &index))
		return STELE_OK;
	const struct stele_found_record *rec = stele_found_deposit(found, &w->deposit);
	if (!rec) {
		r->left_out += found->cut;
		return STELE_OK;
	}
	struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
	if (!piece)
		return stele_fail(STELE_ERR_NOMEM, "deposits: out of memory");
	if (stele_record_decode(rec->bytes, rec->len, false, &record, piece) == STELE_OK) {
		/* text points into the found record's bytes; the signature follows it there */
		*item = (struct stele_log_item){
		    .type = STELE_LEAF_DEPOSIT,
		    .body = record.text,
		    .len = record.text_len,
		    .sig = (const uint8_t *)record.text + record.text_len,
		    .sig_len = STELE_SIG_LEN,
		    .hash = w->deposit,
		    .tag = (void *)(uintptr_t)w,
		};
		r->taken = *take = true; /* found is kept until the next batch */
	}
	free(piece);
	return STELE_OK;
}

static enum stele_err seq_next(void *ctx, struct stele_log_item *item, uint32_t max, uint32_t *n)
{
	struct run *r = ctx;
	forget_found(r);
	*n = 0;
	while (r->next < r->n && *n < max) {
		bool take;
		STELE_TRY(fill_item(r, &r->waiting[r->next++], &item[*n], &take));
		*n += take;
	}
	return STELE_OK;
}

static void seq_reject(void *ctx, const struct stele_log_item *item, const char *why)
{
	/* It stays unlogged; whoever asks for its proof is told that it is not anchored. */
	(void)ctx;
	(void)item;
	(void)why;
}

static enum stele_err seq_put(void *ctx, const struct stele_hash *id, const void *bytes, size_t len)
{
	struct run *r = ctx;
	struct stele_put_result put;
	struct stele_put_opts opts = {.pool = "log", .type = STELE_DEPOSIT_SYSTEM};
	enum stele_err err = stele_put_bytes(r->s, bytes, len, &opts, &put);
	(void)id;
	return err == STELE_ERR_DEGRADED ? STELE_OK : err;
}

static enum stele_err get_object(void *ctx, const struct stele_hash *id, uint8_t *out, size_t cap,
                                 size_t *len)
{
	struct stele *s = ctx;
	uint8_t *bytes;
	STELE_TRY(stele_get_bytes(s, id, cap, &bytes, len));
	memcpy(out, bytes, *len);
	free(bytes);
	return STELE_OK;
}

static enum stele_err seq_get(void *ctx, const struct stele_hash *id, uint8_t *out, size_t cap,
                              size_t *len)
{
	struct run *r = ctx;
	return get_object(r->s, id, out, cap, len);
}

static enum stele_err seq_head_load(void *ctx, struct stele_log_head *out)
{
	struct run *r = ctx;
	return stele_log_head_load(r->env, r->paths->head, &stele_map_of(r->s)->cluster, &r->log_id,
	                           out);
}

static enum stele_err seq_head_move(void *ctx, const struct stele_log_head *from,
                                    const struct stele_log_head *to)
{
	struct run *r = ctx;
	return stele_log_head_move(r->env, r->paths->head, &stele_map_of(r->s)->cluster, &r->log_id,
	                           from, to);
}

static enum stele_err seq_anchored(void *ctx, struct stele_anchor_line *out)
{
	struct run *r = ctx;
	uint64_t n = stele_anchor_local_count(r->local);
	if (n == 0)
		return STELE_ERR_NOT_FOUND;
	return stele_anchor_local_line(r->local, n - 1, out);
}

static enum stele_err seq_anchor(void *ctx, const char *note, size_t len,
                                 const struct stele_hash *manifest, struct stele_anchor_line *out)
{
	struct run *r = ctx;
	return stele_anchor_local_append(r->local, r->key, note, len, manifest,
	                                 (uint64_t)stele_env_wall(r->env), out);
}

static enum stele_err seq_announce(void *ctx, const struct stele_mark *mark)
{
	struct run *r = ctx;
	struct stele_found found;
	struct stele_mark m = *mark;
	enum stele_err err = stele_find(r->s, &mark->object, &found);
	if (err == STELE_OK) {
		bool there = found.nmarks > 0;
		stele_found_finish(&found);
		if (there)
			return STELE_OK;
	} else if (err != STELE_ERR_NOT_FOUND) {
		return err;
	}
	return stele_mark_add(r->s, &m, NULL);
}

static enum stele_err seq_mark(void *ctx, const struct stele_log_item *item, uint64_t index)
{
	struct run *r = ctx;
	const struct waiting *w = item->tag;
	struct stele_mark m = {.kind = STELE_MARK_LOGGED,
	                       .object = w->object,
	                       .has_deposit = true,
	                       .deposit = w->deposit};
	m.u.logged.logid = r->log_id;
	m.u.logged.index = index;
	STELE_TRY(stele_mark_add(r->s, &m, NULL));
	r->marked++;
	if (r->progress && r->progress->step &&
	    !r->progress->step(r->progress->ctx, r->marked, r->n))
		return stele_fail(STELE_ERR_CANCELLED, "interrupted; `stele anchor now` goes on");
	return STELE_OK;
}

void stele_anchor_trust_of(const struct stele_map *map, struct stele_anchor_trust *out)
{
	*out = (struct stele_anchor_trust){.cluster = map->cluster, .nkeys = 1};
	memcpy(out->origin, map->log_origin, sizeof(out->origin));
	out->key[0] = map->log_key;
}

/* Marks follow anchors: where one is, an anchor has been, and a new first one would be a second log's. */
static enum stele_err check_lines(struct run *r)
{
	struct stele_log_head head;
	uint64_t index;
	if (stele_anchor_local_count(r->local) > 0)
		return STELE_OK;
	enum stele_err err = seq_head_load(r, &head);
	if (err == STELE_ERR_NOT_FOUND || (err == STELE_OK && head.size == 0))
		return STELE_OK;
	for (uint32_t i = 0; i < r->n && err == STELE_OK; i++) {
		const struct waiting *w = &r->waiting[i];
		const struct stele_found *found;
		err = find_once(r, &w->object, &found);
		if (err == STELE_OK &&
		    logged_at(stele_map_of(r->s), found, &r->log_id, &w->deposit, &index))
			err = stele_fail(STELE_ERR_REFUSED,
			                 "%.300s is gone or empty, and deposits are in the log "
			                 "already: put its newest copy back",
			                 r->paths->anchors);
	}
	return err;
}

static enum stele_err sequence(struct run *r, struct stele_sequencer_result *out)
{
	static const struct stele_sequencer_ops ops = {
	    .next = seq_next,
	    .reject = seq_reject,
	    .put = seq_put,
	    .get = seq_get,
	    .head_load = seq_head_load,
	    .head_move = seq_head_move,
	    .anchored = seq_anchored,
	    .anchor = seq_anchor,
	    .announce = seq_announce,
	    .mark = seq_mark,
	};
	struct stele_sequencer *seq;
	struct stele_sequencer_config config = {.key = r->key, .batch_max = BATCH};
	bool partial = false;
	config.cluster = stele_map_of(r->s)->cluster;
	memcpy(config.origin, stele_map_of(r->s)->log_origin, sizeof(config.origin));
	STELE_TRY(stele_ls(r->s, collect, r, &partial));
	if (r->failed)
		return stele_fail(STELE_ERR_NOMEM, "deposits: out of memory");
	if (partial)
		return stele_fail(
		    STELE_ERR_UNAVAILABLE,
		    "too few nodes answer to see every deposit: `stele status` names those that are "
		    "down; start them, then anchor");
	STELE_TRY(check_lines(r));
	STELE_TRY(stele_sequencer_create(&ops, r, &config, &seq));
	enum stele_err err = stele_sequencer_run(seq, out);
	stele_sequencer_destroy(seq);
	return err;
}

enum stele_err stele_anchor_now(struct stele *s, struct stele_env *env,
                                const struct stele_secret_key *log_key,
                                const struct stele_log_paths *paths,
                                const struct stele_progress *progress,
                                struct stele_sequencer_result *out)
{
	struct stele_anchor_trust trust;
	struct run *r = calloc(1, sizeof(*r));
	if (!r)
		return stele_fail(STELE_ERR_NOMEM, "anchor: out of memory");
	r->s = s;
	r->env = env;
	r->paths = paths;
	r->key = log_key;
	r->progress = progress;
	stele_log_id(stele_map_of(s)->log_origin, &r->log_id);
	stele_anchor_trust_of(stele_map_of(s), &trust);
	enum stele_err err = stele_anchor_local_open(env, paths->anchors, &trust, true, &r->local);
	if (err == STELE_OK)
		err = sequence(r, out);
	if (err == STELE_OK && r->left_out > 0)
		err = stele_fail(
		    STELE_ERR_DEGRADED,
		    "%" PRIu64 " deposits did not enter the log: of an object's deposits the first "
		    "1,024 of a depositor are looked at, and there are more",
		    r->left_out);
	forget_found(r);
	stele_anchor_local_close(r->local);
	free(r->waiting);
	free(r);
	return err;
}

/* ---- the policy that a map amounts to ---- */

enum stele_err stele_anchor_policy_of(const struct stele_map *map, struct stele_policy *out)
{
	*out = (struct stele_policy){.anchor = STELE_ANCHOR_LOCAL,
	                             .has_cluster = true,
	                             .has_log = true,
	                             .cluster = map->cluster,
	                             .nlog_keys = 1};
	stele_log_id(map->log_origin, &out->log_id);
	out->log_key[0] = map->log_key;
	out->depositor = calloc(map->nclients ? map->nclients : 1, sizeof(*out->depositor));
	if (!out->depositor)
		return stele_fail(STELE_ERR_NOMEM, "policy: out of memory");
	for (uint32_t i = 0; i < map->nclients; i++) {
		const struct stele_client_entry *c = &map->client[i];
		if (!(c->roles & STELE_ROLE_WRITER))
			continue;
		struct stele_policy_depositor *d = &out->depositor[out->ndepositors++];
		d->key = c->depositor;
		memcpy(d->name, c->name, sizeof(d->name));
		snprintf(d->role, sizeof(d->role), "writer%s",
		         c->revoked ? " (revoked since)" : "");
	}
	out->require[STELE_VERDICT_BYTES] = true;
	out->require[STELE_VERDICT_LOG] = true;
	out->require[STELE_VERDICT_DEPOSITOR] = true;
	return STELE_OK;
}

/* ---- proofs ---- */

static enum stele_err build_proof(struct stele *s, const struct stele_found *found,
                                  const struct stele_deposit_state *d,
                                  const struct stele_anchor_line *line, struct stele_proof *out)
{
	struct stele_hash log_id;
	struct stele_record record;
	const struct stele_found_record *rec = stele_found_deposit(found, &d->deposit);
	if (!rec)
		return stele_fail(STELE_ERR_NOT_FOUND, "the deposit's record is gone");
	stele_log_id(line->checkpoint.origin, &log_id);
	size_t len;
	uint8_t *bytes = NULL;
	struct stele_manifest *m = calloc(1, sizeof(*m));
	struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
	enum stele_err err =
	    m && piece ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "proof: out of memory");
	if (err == STELE_OK)
		err = stele_record_decode(rec->bytes, rec->len, false, &record, piece);
	if (err == STELE_OK)
		err = stele_get_bytes(s, &line->manifest, STELE_MANIFEST_MAX, &bytes, &len);
	if (err == STELE_OK)
		err = stele_manifest_decode(bytes, len, &log_id, &line->checkpoint.size,
		                            &line->checkpoint.root, m);
	struct stele_manifest_source source = {.m = m, .get = get_object, .ctx = s};
	if (err == STELE_OK)
		err = stele_proof_build(record.text, record.text_len, &record.sig, d->index, line,
		                        stele_manifest_fetch, &source, out);
	free(bytes);
	free(piece);
	free(m);
	return err;
}

enum stele_err stele_anchor_proof(struct stele *s, struct stele_env *env, const char *anchors,
                                  const struct stele_hash *id, const struct stele_hash *deposit,
                                  struct stele_proof *out)
{
	struct stele_anchor_trust trust;
	struct stele_anchor_local *local = NULL;
	struct stele_deposit_state *state;
	struct stele_anchor_line *line = NULL;
	struct stele_found found;
	uint32_t n;
	STELE_TRY(stele_anchor_deposits(s, id, &state, &n));
	const struct stele_deposit_state *chosen = NULL;
	for (uint32_t i = 0; i < n; i++)
		if ((!deposit || stele_hash_equal(&state[i].deposit, deposit)) && state[i].logged &&
		    (!chosen || state[i].index < chosen->index))
			chosen = &state[i];
	enum stele_err err =
	    chosen ? STELE_OK
	           : stele_fail(STELE_ERR_REFUSED,
	                        "not anchored yet: run `stele anchor now`, then ask again");
	stele_anchor_trust_of(stele_map_of(s), &trust);
	if (err == STELE_OK)
		err = stele_anchor_local_open(env, anchors, &trust, false, &local);
	if (err == STELE_OK) {
		line = malloc(sizeof(*line));
		err = line ? stele_anchor_local_covering(local, chosen->index, line)
		           : stele_fail(STELE_ERR_NOMEM, "proof: out of memory");
	}
	if (chosen && err == STELE_ERR_NOT_FOUND) /* the deposit was found; this is not about it */
		err = stele_fail(STELE_ERR_REFUSED,
		                 "the deposit is anchored, but not by what %.300s holds: bring the "
		                 "newest copy from where `stele anchor now` runs",
		                 anchors);
	if (err == STELE_OK)
		err = stele_find(s, id, &found);
	if (err == STELE_OK) {
		err = build_proof(s, &found, chosen, line, out);
		stele_found_finish(&found);
	}
	stele_anchor_local_close(local);
	free(line);
	free(state);
	return err;
}
