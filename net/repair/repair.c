/* Rounds of inventory and jobs: by the clock (with grace), at once when asked, and inventories
 * alone for whoever asks after health. What a group needs is plan.c's to say; how a shard is
 * rebuilt rebuild.c's. */
#include "net/repair/repair.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/repair/inventory.h"

#define SECOND       1000000000ull
#define JOBS_AT_ONCE 4u
#define JOB_NS       (120 * SECOND)
#define JOBS_MAX     65536u /* of one round; the rest is the next round's */
#define RETRY_NS     (1 * SECOND)
#define SOON_NS      (3 * SECOND)

struct runner { /* one job under way */
	struct stele_repair *r;
	struct stele_job *job; /* NULL: free */
	struct stele_call call;
	uint16_t node; /* whom it asks */
	struct iovec iov;
	uint8_t *head;
	uint8_t *into;          /* 1 MiB: a list reply */
	struct stele_key after; /* REFS: how far the source has been read; kind 0: from the start */
	bool more;
	/* COPY: which of the job's helpers is asked; those whose copies were not taken */
	uint32_t helper, next_report;
	uint64_t spoilt;
};

struct stele_repair {
	struct stele_repair_opts opts;
	struct stele_inventory *inv;
	struct stele_inventory_run run;
	uint64_t slots;     /* stele_slots_changes when it began */
	bool run_for_round; /* the inventory under way is a round's, else for `serving` */
	struct stele_health *waiting, *serving; /* chained through priv[0] */
	struct stele_op timer;
	uint64_t wake_at;
	bool due;    /* a round should begin */
	bool forced; /* until a round is clean or cannot get further */
	bool asked;  /* for a forced round, and none has begun since */
	bool in_round;
	uint32_t fruitless; /* forced rounds in a row that did nothing */
	struct stele_job *job;
	uint32_t njobs, jobs_cap, next_job, under_way;
	struct runner runner[JOBS_AT_ONCE];
	struct stele_repair_status st;
	uint64_t done_in_round;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void next_step(struct stele_repair *r);
static void pump(struct stele_repair *r);

/* ---- life ---- */

enum stele_err stele_repair_create(const struct stele_repair_opts *opts, struct stele_repair **out)
{
	struct stele_repair *r = calloc(1, sizeof(*r));
	if (!r)
		return stele_fail(STELE_ERR_NOMEM, "repair: out of memory");
	r->opts = *opts;
	enum stele_err err =
	    stele_inventory_create(opts->env, opts->peers, opts->slots, opts->node, &r->inv);
	for (uint32_t i = 0; err == STELE_OK && i < JOBS_AT_ONCE; i++) {
		r->runner[i].r = r;
		r->runner[i].head = malloc(STELE_FRAME_HEAD_MAX);
		r->runner[i].into = malloc(STELE_BUF_LEN);
		if (!r->runner[i].head || !r->runner[i].into)
			err = stele_fail(STELE_ERR_NOMEM, "repair: out of memory");
	}
	if (err != STELE_OK) {
		stele_repair_destroy(r);
		return err;
	}
	*out = r;
	return STELE_OK;
}

void stele_repair_destroy(struct stele_repair *r)
{
	if (!r)
		return;
	stele_inventory_destroy(r->inv);
	for (uint32_t i = 0; i < JOBS_AT_ONCE; i++) {
		free(r->runner[i].head);
		free(r->runner[i].into);
	}
	free(r->job);
	free(r);
}

static void arm(struct stele_repair *r, uint64_t after_ns)
{
	r->wake_at = stele_env_now(r->opts.env) + after_ns;
	if (stele_op_pending(&r->timer)) {
		stele_env_cancel(r->opts.env, &r->timer); /* tick sets it again, to wake_at */
	} else if (!r->closing) {
		r->timer.off = r->wake_at;
		stele_env_submit(r->opts.env, &r->timer);
	}
}

static void tick(struct stele_op *op)
{
	struct stele_repair *r = op->ctx;
	if (op->result >= 0) {
		r->due = true;
	} else if (!r->closing) {
		r->timer.off = r->wake_at;
		stele_env_submit(r->opts.env, &r->timer);
	}
	next_step(r);
}

void stele_repair_start(struct stele_repair *r)
{
	uint64_t first = r->opts.heal_ns;
	r->timer = (struct stele_op){.kind = STELE_OP_TIMER, .cb = tick, .ctx = r};
	for (uint32_t i = 0; i < stele_slots_n(r->opts.slots); i++)
		if (stele_slots_refilling(r->opts.slots, i) && first > SOON_NS)
			first = SOON_NS; /* until it is whole it has no voice (P3) */
	arm(r, first);
}

static void maybe_closed(struct stele_repair *r)
{
	if (!r->closed || r->under_way || stele_inventory_running(r->inv) ||
	    stele_op_pending(&r->timer))
		return;
	void (*closed)(void *) = r->closed;
	r->closed = NULL;
	closed(r->closed_ctx);
}

void stele_repair_close(struct stele_repair *r, void (*done)(void *ctx), void *ctx)
{
	r->closing = true;
	r->closed = done;
	r->closed_ctx = ctx;
	if (stele_op_pending(&r->timer))
		stele_env_cancel(r->opts.env, &r->timer);
	stele_inventory_cancel(r->inv);
	for (uint32_t i = 0; i < JOBS_AT_ONCE; i++) /* a node that hangs would hold up the end */
		if (r->runner[i].job)
			stele_peers_cancel(r->opts.peers, r->runner[i].node, &r->runner[i].call);
	next_step(r);
}

/* ---- jobs ---- */

static int by_urgency(const void *a, const void *b)
{
	const struct stele_job *x = a, *y = b;
	if (x->margin != y->margin)
		return x->margin < y->margin ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return stele_hash_cmp(&x->id, &y->id);
}

static bool collect_job(void *ctx, const struct stele_job *job)
{
	struct stele_repair *r = ctx;
	if (r->njobs == r->jobs_cap) {
		uint32_t cap = r->jobs_cap ? 2 * r->jobs_cap : 64;
		struct stele_job *grown =
		    cap <= JOBS_MAX ? realloc(r->job, cap * sizeof(*grown)) : NULL;
		if (!grown)
			return false;
		r->job = grown;
		r->jobs_cap = cap;
	}
	r->job[r->njobs++] = *job;
	r->st.bytes_todo += job->bytes;
	return true;
}

static bool plan_group(void *ctx, const struct stele_pg_view *view)
{
	stele_plan_jobs(view, collect_job, ctx);
	return true;
}

static void job_done(struct runner *run, enum stele_err err, const char *detail)
{
	struct stele_repair *r = run->r;
	struct stele_job *job = run->job;
	static const char *const what[] = {"rebuild", "references", "copy"};
	if (err == STELE_OK) {
		r->done_in_round++;
		if (job->kind == STELE_JOB_REBUILD) {
			r->st.shards++;
			r->st.bytes += job->bytes;
		} else {
			r->st.copies++;
		}
	} else {
		char hex[STELE_HEX_LEN];
		r->st.failures++;
		snprintf(r->st.last_failure, sizeof(r->st.last_failure),
		         "%s of %.16s... onto node %u slot %u: %s: %.200s", what[job->kind],
		         stele_hash_hex(&job->id, hex), job->target.node, job->target.slot,
		         stele_err_text(err), detail);
	}
	stele_inventory_forget(r->inv, job->pool, job->pg);
	r->st.todo--;
	r->st.bytes_todo -= job->bytes;
	run->job = NULL;
	r->under_way--;
	pump(r);
}

static void call_node(struct runner *run, uint16_t node, uint16_t op, size_t head_len,
                      void (*cb)(struct stele_call *call))
{
	if (run->r->closing) {
		job_done(run, STELE_ERR_CANCELLED, "the node is stopping");
		return;
	}
	run->node = node;
	run->iov = (struct iovec){.iov_base = run->into, .iov_len = STELE_BUF_LEN};
	run->call = (struct stele_call){
	    .op = op,
	    .head = run->head,
	    .head_len = (uint32_t)head_len,
	    .into = &run->iov,
	    .ninto = 1,
	    .timeout_ns = JOB_NS,
	    .cb = cb,
	    .ctx = run,
	};
	stele_peers_call(run->r->opts.peers, node, &run->call);
}

static void last_call(struct stele_call *call)
{
	job_done(call->ctx, call->err, call->detail);
}

static void start_rebuild(struct runner *run)
{
	const struct stele_job *job = run->job;
	struct stele_head_rebuild h = {.slot = job->target.slot,
	                               .pool = job->pool,
	                               .index = job->index,
	                               .block = job->id,
	                               .nhelpers = job->nhelpers};
	memcpy(h.helper, job->helper, sizeof(h.helper));
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_rebuild_encode(&h, &w);
	call_node(run, job->target.node, STELE_OPCODE_REBUILD, stele_written(&w), last_call);
}

/* The reply's list, where it is one. */
static bool open_list(struct runner *run, struct stele_head_listed *head, struct stele_reader *r)
{
	const struct stele_call *call = &run->call;
	if (call->err != STELE_OK ||
	    stele_head_listed_decode(call->reply_head, call->reply_head_len, head) != STELE_OK) {
		job_done(run, call->err != STELE_OK ? call->err : STELE_ERR_PROTOCOL, call->detail);
		return false;
	}
	*r = stele_reader(run->into, call->reply_body_len);
	return true;
}

static void list_refs(struct runner *run);

/* Each reference has an answer of its own; the first that is no success is the job's. */
static void refs_added(struct stele_call *call)
{
	struct runner *run = call->ctx;
	enum stele_err err = call->err;
	for (uint32_t i = 0; i < call->reply_head_len && err == STELE_OK; i++)
		err = stele_err_from_wire(call->reply_head[i]);
	if (err == STELE_OK && run->more)
		list_refs(run);
	else
		job_done(run, err, call->detail);
}

static void refs_got(struct stele_call *call)
{
	struct runner *run = call->ctx;
	const struct stele_job *job = run->job;
	struct stele_head_listed listed;
	struct stele_reader r;
	if (!open_list(run, &listed, &r))
		return;
	run->more = listed.more && listed.n > 0;
	uint8_t *refs = malloc(STELE_REFS_MAX * (size_t)96);
	if (!refs) {
		job_done(run, STELE_ERR_NOMEM, "references");
		return;
	}
	struct stele_writer rw = stele_writer(refs, STELE_REFS_MAX * (size_t)96);
	uint16_t n = 0;
	for (uint32_t i = 0; i < listed.n && n < STELE_REFS_MAX; i++) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		if (r.bad) { /* n is only what the source says of them */
			free(refs);
			job_done(run, STELE_ERR_PROTOCOL, "a list that ends early");
			return;
		}
		run->after = it.key;
		if (it.meta_len != STELE_HASH_LEN ||
		    stele_verdicts_get(stele_inventory_verdicts(run->r->inv), &it.key.sub) ==
		        STELE_VERDICT_DEAD)
			continue;
		stele_write_hash(&rw, &job->id);
		stele_write_hash(&rw, &it.key.sub);
		stele_write_bytes(&rw, it.meta, STELE_HASH_LEN);
		n++;
	}
	struct stele_head_ref_add h = {
	    .slot = job->target.slot, .pool = job->pool, .n = n, .refs = refs};
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_ref_add_encode(&h, &w);
	free(refs);
	call_node(run, job->target.node, STELE_OPCODE_REF_ADD, stele_written(&w), refs_added);
}

static void list_refs(struct runner *run)
{
	const struct stele_job *job = run->job;
	struct stele_head_list h = {.slot = job->source.slot,
	                            .pool = job->pool,
	                            .first = job->id,
	                            .last = job->id,
	                            .kinds = STELE_KIND_BIT(STELE_ENTRY_REF),
	                            .want_meta = true,
	                            .after = run->after,
	                            .max = STELE_REFS_MAX};
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_list_encode(&h, &w);
	call_node(run, job->source.node, STELE_OPCODE_LIST, stele_written(&w), refs_got);
}

static void ask_helper(struct runner *run);

static bool next_helper(struct runner *run)
{
	if (run->helper + 1 >= run->job->nhelpers)
		return false;
	run->helper++;
	ask_helper(run);
	return true;
}

static void report_next(struct runner *run);

static void reported(struct stele_call *call)
{
	report_next(call->ctx); /* one that does not hear it now is told when it is next a source */
}

/* There is a good copy now: who has another in its place is told, and counts as bad from then on. */
static void report_next(struct runner *run)
{
	const struct stele_job *job = run->job;
	while (run->next_report < run->helper && !(run->spoilt >> run->next_report & 1))
		run->next_report++;
	if (run->next_report == run->helper) {
		job_done(run, STELE_OK, "");
		return;
	}
	const struct stele_wire_helper *who = &job->helper[run->next_report++];
	struct stele_head_report_bad h = {
	    .slot = who->slot,
	    .key = {.pool = job->pool, .kind = job->entry_kind, .id = job->id, .sub = job->sub}};
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_report_bad_encode(&h, &w);
	call_node(run, who->node, STELE_OPCODE_REPORT_BAD, stele_written(&w), reported);
}

/* A signature that does not hold is the copy's fault: others may have a good one. */
static void copied(struct stele_call *call)
{
	struct runner *run = call->ctx;
	if (call->err == STELE_OK) {
		report_next(run);
		return;
	}
	bool spoilt = call->err == STELE_ERR_CORRUPT || call->err == STELE_ERR_DENIED;
	run->spoilt |= (uint64_t)(call->err == STELE_ERR_CORRUPT) << run->helper;
	if (!spoilt || !next_helper(run))
		job_done(run, call->err, call->detail);
}

static void record_got(struct stele_call *call)
{
	struct runner *run = call->ctx;
	const struct stele_job *job = run->job;
	struct stele_head_listed listed;
	struct stele_listed it = {0};
	struct stele_reader r;
	if (call->err != STELE_OK && next_helper(run))
		return;
	if (!open_list(run, &listed, &r))
		return;
	bool found = false;
	for (uint32_t i = 0; i < listed.n && !found; i++) {
		stele_read_listed(&r, &it);
		if (r.bad)
			break;
		found = it.key.kind == job->entry_kind && stele_hash_equal(&it.key.sub, &job->sub);
	}
	if (!found) {
		if (!next_helper(run))
			job_done(run, STELE_ERR_NOT_FOUND, "the source has it no more");
		return;
	}
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	bool record = job->entry_kind == STELE_ENTRY_RECORD;
	if (record) {
		struct stele_head_record_put h = {
		    .slot = job->target.slot, .record = it.meta, .record_len = it.meta_len};
		stele_head_record_put_encode(&h, &w);
	} else {
		struct stele_head_mark_add h = {
		    .slot = job->target.slot, .mark = it.meta, .mark_len = it.meta_len};
		stele_head_mark_add_encode(&h, &w);
	}
	call_node(run, job->target.node, record ? STELE_OPCODE_RECORD_PUT : STELE_OPCODE_MARK_ADD,
	          stele_written(&w), copied);
}

/* A disk that was away, or lost its contents, refuses again what it, or others, refused. */
static void start_refusal(struct runner *run)
{
	const struct stele_job *job = run->job;
	struct stele_head_refuse h = {
	    .slot = job->target.slot, .object = job->id, .deposit = job->sub};
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_refuse_encode(&h, &w);
	call_node(run, job->target.node, STELE_OPCODE_REFUSE, stele_written(&w), last_call);
}

static void ask_helper(struct runner *run)
{
	const struct stele_job *job = run->job;
	const struct stele_wire_helper *from = &job->helper[run->helper];
	/* The cursor stands just before the entry, so the first one listed is it. */
	struct stele_head_record_get h = {.slot = from->slot, .id = job->id};
	struct stele_hash before = job->sub;
	if (stele_hash_back(&before))
		h.after = (struct stele_key){.pool = STELE_POOL_RECORD,
		                             .kind = job->entry_kind,
		                             .id = job->id,
		                             .sub = before};
	struct stele_writer w = stele_writer(run->head, STELE_FRAME_HEAD_MAX);
	stele_head_record_get_encode(&h, &w);
	call_node(run, from->node, STELE_OPCODE_RECORD_GET, stele_written(&w), record_got);
}

static void start_job(struct runner *run)
{
	switch (run->job->kind) {
	case STELE_JOB_REBUILD:
		start_rebuild(run);
		break;
	case STELE_JOB_REFS:
		run->after = (struct stele_key){0};
		list_refs(run);
		break;
	case STELE_JOB_COPY:
		run->helper = run->next_report = 0;
		run->spoilt = 0;
		if (run->job->entry_kind == STELE_ENTRY_REFUSE)
			start_refusal(run);
		else
			ask_helper(run);
		break;
	}
}

static void pump(struct stele_repair *r)
{
	for (uint32_t i = 0; i < JOBS_AT_ONCE && r->next_job < r->njobs && !r->closing; i++) {
		struct runner *run = &r->runner[i];
		if (run->job)
			continue;
		run->job = &r->job[r->next_job++];
		r->under_way++;
		start_job(run);
	}
	if (r->under_way == 0 && r->in_round && (r->next_job == r->njobs || r->closing))
		next_step(r);
}

/* ---- rounds ---- */

static void judge_slots(struct stele_repair *r)
{
	if (r->slots != stele_slots_changes(r->opts.slots))
		return; /* what was found whole may have been another disk, or not looked at whole */
	for (uint16_t i = 0; i < stele_slots_n(r->opts.slots); i++)
		if (stele_slots_refilling(r->opts.slots, i) &&
		    stele_inventory_slot_whole(r->inv, i))
			stele_slots_refilled(r->opts.slots, i);
}

static void round_begin(struct stele_repair *r)
{
	r->njobs = r->next_job = 0;
	r->st.bytes_todo = 0;
	r->done_in_round = 0;
	stele_inventory_each(r->inv, plan_group, r);
	judge_slots(r);
	if (r->njobs > 0)
		qsort(r->job, r->njobs, sizeof(*r->job), by_urgency);
	r->st.todo = r->njobs;
	r->in_round = true;
	pump(r);
}

static void round_end(struct stele_repair *r)
{
	r->in_round = false;
	r->st.round++;
	r->st.clean = r->njobs == 0;
	r->fruitless = r->done_in_round ? 0 : r->fruitless + 1;
	/* A forced repair goes on while it gets anywhere, and gives a round that got nowhere a
	 * second chance. What was found before it was asked for is not its answer. */
	if (r->forced && (r->asked || (r->njobs > 0 && r->fruitless < 2)))
		r->due = true;
	else
		r->forced = r->st.running = false;
	arm(r, r->forced && r->fruitless ? RETRY_NS : r->opts.heal_ns);
	if (r->forced && r->fruitless)
		r->due = false; /* after the pause */
}

static struct stele_health *next_health(struct stele_health *h)
{
	return h->priv[0];
}

static void serve_health(struct stele_repair *r, enum stele_err err);

static void inventory_done(struct stele_inventory_run *run)
{
	struct stele_repair *r = run->ctx;
	bool for_round = r->run_for_round;
	r->run_for_round = false;
	if (!for_round)
		serve_health(r, run->err);
	else if (run->err == STELE_OK && !r->closing)
		round_begin(r);
	else
		arm(r, r->opts.heal_ns);
	next_step(r);
}

static void take_inventory(struct stele_repair *r, bool for_round)
{
	r->run_for_round = for_round;
	r->slots = stele_slots_changes(r->opts.slots);
	r->run = (struct stele_inventory_run){.cb = inventory_done, .ctx = r};
	if (for_round && r->forced)
		r->asked = false;
	else if (for_round)
		r->run.grace_ns = stele_peers_map(r->opts.peers)->grace_s * SECOND;
	stele_inventory_start(r->inv, &r->run);
}

/* The one place that decides what happens next. */
static void next_step(struct stele_repair *r)
{
	if (r->in_round && r->under_way == 0 && (r->next_job == r->njobs || r->closing))
		round_end(r);
	if (stele_inventory_running(r->inv))
		return;
	if (r->closing) {
		r->serving = r->waiting;
		r->waiting = NULL;
		serve_health(r, STELE_ERR_CANCELLED);
		maybe_closed(r);
	} else if (r->waiting) {
		r->serving = r->waiting;
		r->waiting = NULL;
		take_inventory(r, false);
	} else if (r->due && !r->in_round) {
		r->due = false;
		take_inventory(r, true);
	}
}

/* ---- what others ask ---- */

struct health_list {
	struct stele_pg_health *pg;
	uint32_t n, cap;
	bool failed;
};

static bool health_group(void *ctx, const struct stele_pg_view *view)
{
	struct health_list *l = ctx;
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 64;
		struct stele_pg_health *pg = realloc(l->pg, cap * sizeof(*pg));
		if (!pg) {
			l->failed = true;
			return false;
		}
		l->pg = pg;
		l->cap = cap;
	}
	stele_plan_health(view, &l->pg[l->n++]);
	return true;
}

static void serve_health(struct stele_repair *r, enum stele_err err)
{
	struct health_list l = {0};
	struct stele_health *h = r->serving;
	r->serving = NULL;
	if (!h)
		return;
	if (err == STELE_OK)
		stele_inventory_each(r->inv, health_group, &l);
	while (h) {
		struct stele_health *next = next_health(h);
		h->err = l.failed ? STELE_ERR_NOMEM : err;
		h->pg = l.pg;
		h->n = l.n;
		h->cb(h);
		h = next;
	}
	free(l.pg);
}

void stele_repair_health(struct stele_repair *r, struct stele_health *h)
{
	h->priv[0] = r->waiting;
	r->waiting = h;
	next_step(r);
}

void stele_repair_now(struct stele_repair *r)
{
	if (!r->st.running)
		r->st.shards = r->st.copies = r->st.failures = r->st.bytes = 0;
	r->st.last_failure[0] = '\0';
	r->st.running = r->forced = r->asked = r->due = true;
	r->fruitless = 0;
	next_step(r);
}

void stele_repair_soon(struct stele_repair *r)
{
	if (r->opts.heal_ns > SOON_NS && !r->closing && stele_op_pending(&r->timer))
		arm(r, SOON_NS);
}

void stele_repair_stop(struct stele_repair *r)
{
	r->forced = r->asked = r->due = r->st.running = false;
	/* Jobs under way end; the rest is not begun. */
	r->st.todo -= r->njobs - r->next_job;
	for (uint32_t i = r->next_job; i < r->njobs; i++)
		r->st.bytes_todo -= r->job[i].bytes;
	r->njobs = r->next_job;
	next_step(r);
}

void stele_repair_status(const struct stele_repair *r, struct stele_repair_status *out)
{
	*out = r->st;
}
