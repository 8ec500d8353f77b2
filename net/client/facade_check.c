/* libstele's stat and verify: what is there of an object, by looking, and by reading all of it. */
#include <stdio.h>
#include <stdlib.h>

#include "net/client/facade_private.h"
#include "erasure/code.h"

#define SILENT_MAX 64u /* more than are named */

/* What a stat result points into. */
struct stat_memory {
	struct stele_found found;
	struct stele_piece piece[STELE_PIECES_MAX];
	struct stele_survey_block *survey;
	uint32_t nsurvey;
	const struct stele_code *code;
	struct stele_window_disk silent[SILENT_MAX];
	uint32_t nsilent;
};

STELE_STOP(find_done, stele_find_request)
STELE_STOP(survey_done, stele_survey_request)
STELE_STOP(get_done, stele_get_request)

/* The record that most disks hold, of those that may be believed. */
static const struct stele_found_record *best_record(const struct stele_found *f)
{
	const struct stele_found_record *best = NULL;
	for (uint32_t i = 0; i < f->nrecords; i++) {
		const struct stele_found_record *r = &f->record[i];
		if (r->sig_ok && r->depositor_known && (!best || r->holders > best->holders))
			best = r;
	}
	return best;
}

static enum stele_err find_best(struct stele *s, const struct stele_hash *id, struct stat_memory *m,
                                struct stele_stat_result *out)
{
	struct stele_find_request req = {.id = *id, .cb = find_done, .ctx = s};
	stele_session_find(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	m->found = req.found;
	if (err != STELE_OK)
		return err;
	const struct stele_found_record *best = best_record(&m->found);
	if (!best && m->found.answered < m->found.asked)
		return stele_fail(STELE_ERR_UNAVAILABLE, "%s", req.detail);
	if (!best && m->found.nrecords == 0)
		return stele_fail(STELE_ERR_NOT_FOUND, "not found: every disk that could know of it was asked");
	if (!best)
		return stele_fail(
		    STELE_ERR_CORRUPT,
		    "its records are not signed by a depositor that this cluster knows");
	out->record_holders = best->holders;
	out->record_margin = (int)best->holders - 1;
	return stele_record_decode(best->bytes, best->len, true, &out->record, m->piece);
}

/* Names the disks of a window that did not answer, each once. */
static void name_silent(struct stele *s, const struct stele_pool *pool, const struct stele_hash *id,
                        uint64_t silent, struct stat_memory *m, struct stele_stat_result *out)
{
	struct stele_window win;
	size_t at = strlen(out->silent);
	stele_session_window(s->session, pool, id, &win);
	for (uint32_t i = 0; i < win.n && m->nsilent < SILENT_MAX; i++) {
		struct stele_window_disk d = win.disk[i];
		uint32_t k = 0;
		while (k < m->nsilent &&
		       (m->silent[k].node != d.node || m->silent[k].slot != d.slot))
			k++;
		if (!(silent >> i & 1) || k < m->nsilent || at >= sizeof(out->silent))
			continue;
		m->silent[m->nsilent++] = d;
		at += (size_t)snprintf(out->silent + at, sizeof(out->silent) - at,
		                       "%snode %u disk %u", at ? ", " : "", d.node, d.slot);
	}
}

/* The distinct blocks of a record, in the order of their first use. */
static enum stele_err list_blocks(struct stat_memory *m, const struct stele_layout *layout)
{
	m->survey = calloc(layout->npieces ? layout->npieces : 1, sizeof(*m->survey));
	if (!m->survey)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	for (uint32_t i = 0; i < layout->npieces; i++) {
		uint32_t b = 0;
		while (b < m->nsurvey &&
		       !stele_hash_equal(&m->survey[b].block, &layout->piece[i].block))
			b++;
		m->survey[b].block = layout->piece[i].block;
		m->nsurvey += b == m->nsurvey;
	}
	return STELE_OK;
}

static enum stele_err survey(struct stele *s, struct stat_memory *m, const struct stele_record *r,
                             bool deep, const struct stele_progress *progress)
{
	const struct stele_pool *pool = stele_map_pool_named(stele_map_of(s), r->deposit.pool);
	STELE_TRY(list_blocks(m, &r->layout));
	if (!pool)
		return stele_fail(STELE_ERR_CORRUPT, "its pool %s is not in the cluster map",
		                  r->deposit.pool);
	STELE_TRY(stele_code_find(&pool->code, &m->code));
	struct stele_survey_request req = {.pool = pool->id,
	                                   .block = m->survey,
	                                   .nblocks = m->nsurvey,
	                                   .deep = deep,
	                                   .cb = survey_done,
	                                   .ctx = s};
	if (progress)
		req.progress = *progress;
	stele_session_survey(s->session, &req);
	return STELE_WAIT(s, &req);
}

static enum stele_err health(struct stat_memory *m, struct stele_stat_result *out)
{
	out->block = calloc(m->nsurvey ? m->nsurvey : 1, sizeof(*out->block));
	if (!out->block)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	out->nblocks = m->nsurvey;
	out->margin = out->record_margin;
	for (uint32_t i = 0; i < m->nsurvey; i++) {
		uint64_t good = m->survey[i].there & ~m->survey[i].bad;
		out->block[i] =
		    (struct stele_block_health){.block = m->survey[i].block,
		                                .shards = (uint32_t)__builtin_popcountll(good),
		                                .n = stele_code_n(m->code),
		                                .margin = stele_code_margin(m->code, good)};
		if (out->block[i].margin < out->margin)
			out->margin = out->block[i].margin;
	}
	return STELE_OK;
}

static void all_silent(struct stele *s, const struct stele_hash *id, struct stat_memory *m,
                       struct stele_stat_result *out)
{
	const struct stele_map *map = stele_map_of(s);
	const struct stele_pool *pool = stele_map_pool(map, STELE_POOL_RECORD);
	if (pool)
		name_silent(s, pool, id, m->found.silent, m, out);
	pool = stele_map_pool_named(map, out->record.deposit.pool);
	for (uint32_t i = 0; pool && i < m->nsurvey; i++)
		name_silent(s, pool, &m->survey[i].block, m->survey[i].silent, m, out);
}

static enum stele_err look(struct stele *s, const struct stele_hash *id, bool deep,
                           const struct stele_progress *progress, struct stele_stat_result *out)
{
	char detail[STELE_DETAIL_MAX];
	struct stat_memory *m = calloc(1, sizeof(*m));
	*out = (struct stele_stat_result){.memory = m};
	if (!m)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	enum stele_err err = find_best(s, id, m, out);
	if (err == STELE_OK)
		err = survey(s, m, &out->record, deep, progress);
	if (err == STELE_OK)
		err = health(m, out);
	if (err == STELE_OK)
		all_silent(s, id, m, out);
	if (err == STELE_OK)
		return STELE_OK;
	stele_detail_copy(detail);
	stele_stat_finish(out);
	return stele_fail(err, "%s", detail);
}

enum stele_err stele_stat(struct stele *s, const struct stele_hash *id,
                          struct stele_stat_result *out)
{
	return look(s, id, false, NULL, out);
}

void stele_stat_finish(struct stele_stat_result *r)
{
	struct stat_memory *m = r->memory;
	if (m) {
		stele_found_finish(&m->found);
		free(m->survey);
		free(m);
	}
	free(r->block);
	*r = (struct stele_stat_result){0};
}

/* ---- verify ---- */

/* One bar over both passes: the shards, then the object. */
struct verify_progress {
	const struct stele_progress *to;
	uint64_t before;
	uint64_t done;
};

static bool verify_step(void *ctx, uint64_t done, uint64_t total)
{
	struct verify_progress *p = ctx;
	(void)total;
	p->done = p->before + done;
	return !p->to || !p->to->step || p->to->step(p->to->ctx, p->done, 0);
}

static void count_shards(const struct stele_stat_result *st, struct stele_verify_result *out)
{
	const struct stat_memory *m = st->memory;
	for (uint32_t i = 0; i < m->nsurvey; i++) {
		const struct stele_survey_block *b = &m->survey[i];
		uint32_t there = (uint32_t)__builtin_popcountll(b->there);
		uint32_t bad = (uint32_t)__builtin_popcountll(b->bad);
		out->shards_ok += there - bad;
		out->shards_bad += bad;
		out->shards_missing += stele_code_n(m->code) - there;
		out->bytes += b->bytes;
	}
	out->margin = st->margin;
}

static void count_copies(struct stele *s, const struct stele_stat_result *st,
                         struct stele_verify_result *out)
{
	const struct stele_pool *pool = stele_map_pool(stele_map_of(s), STELE_POOL_RECORD);
	uint32_t want = pool ? (uint32_t)pool->code.k + pool->code.m : 0;
	out->copies_ok = st->record_holders;
	out->copies_missing = want > out->copies_ok ? want - out->copies_ok : 0;
}

enum stele_err stele_verify(struct stele *s, const struct stele_hash *id,
                            const struct stele_progress *progress, struct stele_verify_result *out)
{
	struct verify_progress p = {.to = progress};
	struct stele_progress step = {verify_step, &p};
	struct stele_stat_result st;
	*out = (struct stele_verify_result){0};
	STELE_TRY(look(s, id, true, &step, &st));
	count_shards(&st, out);
	count_copies(s, &st, out);
	stele_stat_finish(&st);
	p.before = p.done;
	struct stele_get_request req = {
	    .id = *id, .opts = {.len = UINT64_MAX, .progress = step}, .cb = get_done, .ctx = s};
	stele_session_get(s->session, &req);
	STELE_TRY(STELE_WAIT(s, &req));
	out->object_ok = req.result.whole_hash_checked;
	if (out->shards_bad > 0)
		return stele_fail(
		    STELE_ERR_CORRUPT,
		    "%llu shards are corrupt; the object is whole: `stele repair --wait` "
		    "replaces them",
		    (unsigned long long)out->shards_bad);
	if (out->shards_missing > 0 || out->copies_missing > 0)
		return stele_fail(
		    STELE_ERR_DEGRADED,
		    "%llu shards and %u copies of its record are missing; the object is whole: "
		    "`stele repair --wait` restores them",
		    (unsigned long long)out->shards_missing, out->copies_missing);
	return STELE_OK;
}
