/* Puts, gets and marks of several clients at once, and what must hold of each of them. */
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/sha256.h"
#include "tests/sim/life.h"

/* ---- bytes ---- */

static void fill(const struct life_object *o, uint8_t *out)
{
	struct stele_prng rng;
	stele_prng_init(&rng, o->seed);
	stele_prng_fill(&rng, out, o->len);
}

static enum stele_err source_read(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct life_op *op = ctx;
	*got = op->len - op->at < cap ? op->len - op->at : cap;
	memcpy(buf, op->bytes + op->at, *got);
	op->at += *got;
	return STELE_OK;
}

static enum stele_err sink_write(void *ctx, const void *bytes, size_t len)
{
	struct life_op *op = ctx;
	if (len > op->len - op->at)
		return stele_fail(STELE_ERR_TOO_LARGE, "more bytes than the object has");
	memcpy(op->bytes + op->at, bytes, len);
	op->at += len;
	return STELE_OK;
}

static enum stele_err sink_restart(void *ctx)
{
	struct life_op *op = ctx;
	op->at = 0;
	return STELE_OK;
}

static size_t random_len(struct life *l)
{
	switch (life_random(l, 8)) {
	case 0:
		return life_random(l, 3);
	case 1:
		return 65535 + life_random(l, 3);
	case 2:
	case 3:
		return life_random(l, 65536);
	case 4: /* a few cells to a shard */
		return 1 + life_random(l, 3u << 20);
	default:
		return 65537 + life_random(l, 600000);
	}
}

/* ---- life of an op ---- */

static struct life_op *op_begin(struct life *l, enum life_op_kind kind, uint32_t client)
{
	struct life_op *op = l->op;
	while (op->kind != LIFE_IDLE)
		op++;
	*op = (struct life_op){.l = l, .kind = kind, .client = client, .since = life_now(l)};
	op->req = calloc(1, sizeof(*op->req));
	if (!op->req)
		abort();
	for (uint32_t i = 0; i < LIFE_NODES; i++)
		op->fault |= life_away(l, i) || l->disk[i].cut;
	/* what it was about to connect to when it fell asleep has timed out */
	op->disturbed = l->woke_at[client] && life_now(l) - l->woke_at[client] < 2 * LIFE_SECOND;
	return op;
}

static void op_end(struct life_op *op)
{
	free(op->bytes);
	free(op->req);
	*op = (struct life_op){0};
}

bool life_idle(const struct life *l, uint32_t client)
{
	uint32_t busy = 0;
	for (uint32_t i = 0; i < LIFE_OPS; i++)
		busy += l->op[i].kind != LIFE_IDLE;
	return busy < LIFE_OPS && !l->asleep[client] && l->w.client[client].session;
}

/* ---- put ---- */

static void put_over(struct stele_put_request *req)
{
	struct life_op *op = req->ctx;
	struct life *l = op->l;
	const struct life_object *o = &l->object[op->object];
	char hex[STELE_HEX_LEN];
	op->over = true;
	world_say(&l->w, "client%u: put %.12s, %zu bytes: %s %s, margin %d", op->client,
	          stele_hash_hex(&o->id, hex), o->len, stele_err_name(req->err), req->detail,
	          req->result.margin);
	if (req->err != STELE_OK && req->err != STELE_ERR_DEGRADED) {
		l->refused++;
		if (!op->fault && !op->disturbed)
			life_broke(l, "a put failed with nothing amiss: %s: %s",
			           stele_err_name(req->err), req->detail);
		return;
	}
	l->acked++;
	if (!stele_hash_equal(&o->id, &req->result.object))
		life_broke(l, "a put returned another id");
	if (req->err == STELE_OK && req->result.margin < (int)LIFE_T)
		life_broke(l, "a put was acknowledged in full with margin %d", req->result.margin);
	if (req->err == STELE_ERR_DEGRADED && !op->fault && !op->disturbed)
		life_broke(l, "a put was acknowledged degraded with nothing amiss");
	if (req->result.margin < 1)
		life_broke(l, "a put was acknowledged with margin %d", req->result.margin);
	life_promise(l, op, req->result.margin);
}

void life_put(struct life *l, uint32_t client)
{
	uint32_t again = l->nobjects;
	if (l->nobjects > 0 && life_random(l, 5) == 0) /* the same bytes once more */
		again = (uint32_t)life_random(l, l->nobjects);
	if (again == LIFE_OBJECTS || (again < l->nobjects && l->object[again].is_mark))
		return;
	struct life_op *op = op_begin(l, LIFE_PUT, client);
	struct life_object *o = &l->object[again];
	if (again == l->nobjects)
		*o = (struct life_object){.seed = stele_prng_u64(&l->w.rng), .len = random_len(l)};
	uint32_t pool = (uint32_t)(o->seed + (life_random(l, 8) == 0)) % 2;
	o->pools |= 1u << pool;
	op->object = again;
	op->len = o->len;
	op->bytes = malloc(o->len ? o->len : 1);
	fill(o, op->bytes);
	stele_sha256(op->bytes, o->len, &o->id);
	l->nobjects += again == l->nobjects;
	op->req->put = (struct stele_put_request){
	    .cb = put_over,
	    .ctx = op,
	    .source = {.read = source_read, .ctx = op, .length = o->len},
	    .opts = {.pool = pool ? "evidence" : "ledger"},
	};
	stele_session_put(l->w.client[client].session, &op->req->put);
}

/* ---- get ---- */

static void get_over(struct stele_get_request *req)
{
	struct life_op *op = req->ctx;
	struct life *l = op->l;
	const struct life_object *o = &l->object[op->object];
	char hex[STELE_HEX_LEN];
	op->over = true;
	stele_hash_hex(&o->id, hex);
	world_say(&l->w, "client%u: get %.12s [%zu, +%zu]: %s %s", op->client, hex, op->off,
	          op->len, stele_err_name(req->err), req->detail);
	uint8_t *want = malloc(o->len ? o->len : 1);
	fill(o, want);
	if (memcmp(op->bytes, want + op->off, op->at) != 0)
		life_broke(l, "wrong bytes were given out of %s", hex);
	free(want);
	if (req->err == STELE_OK && op->at != op->len)
		life_broke(l, "a get of %s succeeded short", hex);
	bool must = op->promised && !op->disturbed && __builtin_popcountll(op->hit) <= op->margin;
	if (must && req->err != STELE_OK)
		life_broke(l, "%s was acknowledged and cannot be read: %s: %s", hex,
		           stele_err_name(req->err), req->detail);
	l->unread += req->err != STELE_OK;
}

void life_get(struct life *l, uint32_t client, uint32_t object, bool whole)
{
	const struct life_object *o = &l->object[object];
	const struct life_promise *p = life_promise_of(l, object);
	if (o->is_mark)
		return;
	struct life_op *op = op_begin(l, LIFE_GET, client);
	op->object = object;
	op->off = whole || o->len == 0 ? 0 : life_random(l, o->len);
	op->len = whole || o->len == 0 ? o->len : 1 + life_random(l, o->len - op->off);
	op->bytes = malloc(op->len ? op->len : 1);
	op->promised = p != NULL;
	op->margin = p ? p->margin : 0;
	op->hit = p ? life_losses(l, p->since) : 0;
	op->req->get = (struct stele_get_request){
	    .cb = get_over,
	    .ctx = op,
	    .id = o->id,
	    .opts = {.off = op->off, .len = whole ? UINT64_MAX : op->len},
	    .sink = {.write = sink_write, .ctx = op},
	    .restart = whole ? sink_restart : NULL,
	};
	stele_session_get(l->w.client[client].session, &op->req->get);
}

/* ---- marks ---- */

static void mark_over(struct stele_mark_request *req)
{
	struct life_op *op = req->ctx;
	struct life *l = op->l;
	op->over = true;
	world_say(&l->w, "client%u: mark: %s %s", op->client, stele_err_name(req->err),
	          req->detail);
	if (req->err == STELE_OK) {
		l->object[op->object].mark = req->mark_id;
		life_promise(l, op, 1); /* min_margin + 1 disks at least */
	} else if (!op->fault && !op->disturbed) {
		life_broke(l, "a mark failed with nothing amiss: %s: %s", stele_err_name(req->err),
		           req->detail);
	}
}

/* A segment in a chain's catalogue, or a hold on an object. */
void life_mark(struct life *l, uint32_t client)
{
	if (l->nobjects == LIFE_OBJECTS)
		return;
	bool hold = l->nobjects > 0 && life_random(l, 2);
	uint32_t held = hold ? (uint32_t)life_random(l, l->nobjects) : 0;
	struct life_op *op = op_begin(l, LIFE_MARK, client);
	struct life_object *o = &l->object[l->nobjects];
	*o = (struct life_object){.is_mark = true};
	op->object = l->nobjects++;
	struct stele_mark_request *req = &op->req->mark;
	*req = (struct stele_mark_request){.cb = mark_over, .ctx = op};
	if (hold) {
		req->mark.kind = STELE_MARK_HOLD;
		req->mark.has_deposit = true;
		stele_prng_fill(&l->w.rng, req->mark.deposit.b, STELE_HASH_LEN);
		snprintf(req->mark.u.hold.reason, sizeof(req->mark.u.hold.reason), "a case");
		o->id = l->object[held].id;
	} else {
		req->mark.kind = STELE_MARK_CATALOGUE;
		req->mark.u.catalogue.first = life_random(l, 1000000);
		req->mark.u.catalogue.last = req->mark.u.catalogue.first + 9;
		req->mark.u.catalogue.count = 10;
		snprintf(req->mark.u.catalogue.caip2, sizeof(req->mark.u.catalogue.caip2),
		         "eip155:%u", (unsigned)life_random(l, 4) + 1);
		stele_catalogue_id(req->mark.u.catalogue.caip2, &o->id);
	}
	req->mark.object = o->id;
	stele_session_mark(l->w.client[client].session, req);
}

struct finding {
	struct stele_find_request req;
	bool over;
};

static void find_over(struct stele_find_request *req)
{
	((struct finding *)req->ctx)->over = true;
}

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

static void find_mark(struct life *l, uint32_t object)
{
	const struct life_object *o = &l->object[object];
	const struct life_promise *p = life_promise_of(l, object);
	struct finding f = {.req = {.id = o->id, .cb = find_over, .ctx = &f}};
	if (!p || __builtin_popcountll(life_losses(l, p->since)) > p->margin)
		return;
	stele_session_find(l->w.client[0].session, &f.req);
	if (!world_run(&l->w, is_true, &f.over, 600)) {
		life_broke(l, "a find does not end");
		exit(1);
	}
	bool found = false;
	for (uint32_t i = 0; i < f.req.found.nmarks; i++)
		found |= stele_hash_equal(&f.req.found.mark[i].id, &o->mark);
	if (!found)
		life_broke(l, "a mark was acknowledged and is gone: %s", f.req.detail);
	stele_found_finish(&f.req.found);
}

/* ---- time ---- */

static void reap(struct life *l)
{
	for (uint32_t i = 0; i < LIFE_OPS; i++)
		if (l->op[i].over)
			op_end(&l->op[i]);
}

struct waiting {
	struct life *l;
	uint32_t client;
};

static bool ops_over(void *ctx)
{
	struct waiting *w = ctx;
	for (uint32_t i = 0; i < LIFE_OPS; i++) {
		const struct life_op *op = &w->l->op[i];
		bool mine = w->client == WORLD_CLIENTS ? !w->l->asleep[op->client]
		                                       : op->client == w->client;
		if (op->kind != LIFE_IDLE && !op->over && mine)
			return false;
	}
	return true;
}

void life_finish_ops(struct life *l, uint32_t client)
{
	struct waiting w = {l, client};
	if (!world_run(&l->w, ops_over, &w, 600)) {
		life_broke(l, "an operation does not end");
		exit(1);
	}
	reap(l);
}

void life_drift(struct life *l)
{
	static const uint64_t most_ns[] = {1, 300000, 2000000, 20000000, 100000000, 1000000000};
	struct waiting w = {l, WORLD_CLIENTS};
	uint64_t which = life_random(l, 8);
	if (which >= sizeof(most_ns) / sizeof(most_ns[0]))
		life_finish_ops(l, WORLD_CLIENTS);
	else
		(void)stele_sim_run(l->w.sim, ops_over, &w, life_random(l, most_ns[which]));
	reap(l);
}

void life_kill_client(struct life *l, uint32_t client)
{
	for (uint32_t i = 0; i < LIFE_OPS; i++)
		l->op[i].disturbed |= l->op[i].kind != LIFE_IDLE && l->op[i].client == client;
	world_say(&l->w, "client%u dies", client);
	l->asleep[client] = 0;
	stele_sim_kill(l->w.sim, l->w.client[client].machine);
	life_finish_ops(l, client);
	world_stop_client(&l->w, client);
	world_start_client(&l->w, client);
}

void life_read_all(struct life *l)
{
	for (uint32_t i = 0; i < l->nobjects && !l->failed; i++) {
		if (l->object[i].is_mark)
			find_mark(l, i);
		else
			life_get(l, 0, i, true);
		life_finish_ops(l, 0);
	}
}
