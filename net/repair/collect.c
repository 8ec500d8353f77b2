/* Finds leftovers on this node's disks and removes those that everybody concerned agrees are
 * leftovers. One thing at a time: collection is never urgent. A pass: roll call; every slot and
 * pool, page by page: shards without a reference, and references whose deposit is not known to
 * live, become suspects; then every suspect is judged. */
#include "net/repair/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/repair/ask.h"
#include "net/repair/look.h"
#include "net/repair/search.h"
#include "storage/extent_format.h"

#define SECOND      1000000000ull
#define PASS_MAX_NS (3600 * SECOND)
#define LIST_LEN    65536u

struct stele_collect {
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_slots *slots;
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
	struct stele_op timer;
	bool passing, closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
	struct stele_collect_status st;
	/* memory */
	struct stele_suspects suspects;
	struct stele_verdicts *verdicts;
	struct stele_uuid *uuid; /* of each disk of the map when it was last seen */
	uint32_t nuuids;
	/* the pass */
	struct stele_roll roll;
	struct stele_search search;
	/* judging */
	uint32_t at; /* the suspect */
	struct stele_look look;
	struct stele_ask ask;
	uint32_t found; /* records, or references */
	struct stele_hash found_deposit, found_object;
	uint8_t *into;
	struct stele_store_write write;
	struct stele_item write_item;
};

static void judge(struct stele_collect *c);
static void pass_end(struct stele_collect *c);

static void look(struct stele_collect *c, const struct stele_hash *deposit,
                 const struct stele_hash *object, void (*cb)(struct stele_look *))
{
	c->look = (struct stele_look){.peers = c->peers,
	                              .roll = &c->roll,
	                              .deposit = *deposit,
	                              .object = *object,
	                              .cb = cb,
	                              .ctx = c};
	stele_look_start(&c->look);
}

/* ---- judging ---- */

static struct stele_suspect *current(struct stele_collect *c)
{
	return &c->suspects.v[c->at];
}

/* It is none any more: the sweep at the end of the pass takes it. */
static void drop(struct stele_collect *c)
{
	current(c)->seen = 0;
	c->at++;
	judge(c);
}

static void postpone(struct stele_collect *c)
{
	c->at++;
	judge(c);
}

static bool old_enough(const struct stele_collect *c, const struct stele_suspect *s)
{
	const struct stele_pool *pool = stele_map_pool(c->roll.map, s->key.pool);
	return pool && stele_env_now(c->env) - s->since >= pool->collect_age_s * SECOND;
}

static void say_removed(struct stele_collect *c, const struct stele_suspect *s)
{
	char line[STELE_DETAIL_MAX], hex[STELE_HEX_LEN];
	snprintf(line, sizeof(line), "collect: slot %u: %s of block %s: no deposit needs it",
	         s->slot, s->key.kind == STELE_ENTRY_SHARD ? "shard" : "reference",
	         stele_hash_hex(&s->key.id, hex));
	if (c->log)
		c->log(c->log_ctx, line);
}

static void remove_current(struct stele_collect *c);

static void written(struct stele_store_write *w)
{
	struct stele_collect *c = w->ctx;
	const struct stele_suspect *s = current(c);
	if (w->err == STELE_ERR_NOT_FOUND && s->bad && !c->write_item.tomb) {
		remove_current(c); /* it has no shard here that it could lie beside */
		return;
	}
	if (w->err != STELE_OK) { /* REFUSED: a reference has come */
		postpone(c);
		return;
	}
	if (c->write_item.tomb) {
		c->st.shards += s->key.kind == STELE_ENTRY_SHARD;
		c->st.refs += s->key.kind == STELE_ENTRY_REF;
		c->st.bytes += s->bytes;
		say_removed(c, s);
	}
	drop(c);
}

static void write(struct stele_collect *c, const struct stele_item *item)
{
	c->write_item = *item;
	c->write = (struct stele_store_write){
	    .item = &c->write_item, .n = 1, .class = STELE_BACKGROUND, .cb = written, .ctx = c};
	struct stele_disk *disk = stele_slots_disk(c->slots, current(c)->slot);
	if (disk)
		stele_disk_write(disk, &c->write);
	else
		postpone(c); /* detached meanwhile */
}

static void remove_current(struct stele_collect *c)
{
	const struct stele_suspect *s = current(c);
	struct stele_item item = {.key = s->key, .tomb = true};
	if (s->key.kind == STELE_ENTRY_REF)
		item.key.sub = s->deposit;
	item.unless_referenced = s->key.kind == STELE_ENTRY_SHARD;
	item.only_bad = s->bad;
	write(c, &item);
}

static bool place(struct stele_collect *c, uint16_t pool_id, const struct stele_hash *id)
{
	const struct stele_pool *pool = stele_map_pool(c->roll.map, pool_id);
	struct stele_window *w = &c->ask.window;
	uint64_t fence;
	stele_place(c->roll.map, pool, stele_pg_of(pool, id), stele_window_width(&pool->code), w,
	            &fence);
	for (uint32_t i = 0; i < w->n; i++)
		if (!stele_roll_has_voice(stele_roll_disk(&c->roll, w->disk[i])))
			return false; /* not all can be asked: later */
	return true;
}

static void ask(struct stele_collect *c, uint16_t op,
                void (*head)(struct stele_ask *, uint32_t, struct stele_writer *),
                bool (*answer)(struct stele_ask *, uint32_t, const struct stele_call *),
                void (*cb)(struct stele_ask *))
{
	c->found = 0;
	c->ask.op = op;
	c->ask.head = head;
	c->ask.answer = answer;
	c->ask.cb = cb;
	stele_ask_start(&c->ask);
}

/* Shards: does anybody in the window know a reference? References that cannot be read: does anybody
 * have the same one, readable? */

static void head_list_refs(struct stele_ask *a, uint32_t at, struct stele_writer *w)
{
	struct stele_collect *c = a->ctx;
	const struct stele_suspect *s = current(c);
	struct stele_head_list h = {
	    .slot = a->window.disk[at].slot,
	    .pool = s->key.pool,
	    .first = s->key.id,
	    .last = s->key.id,
	    .kinds = STELE_KIND_BIT(STELE_ENTRY_REF),
	    .want_meta = true,
	    .max = s->bad ? 1 : 16,
	};
	if (s->bad && !stele_all_zero(s->key.sub.b, STELE_REF_SUB)) {
		h.after = s->key; /* the cursor stands just before it */
		for (int i = STELE_REF_SUB - 1; i >= 0 && h.after.sub.b[i]-- == 0; i--)
			;
	}
	stele_head_list_encode(&h, w);
}

static bool answer_refs(struct stele_ask *a, uint32_t at, const struct stele_call *call)
{
	struct stele_collect *c = a->ctx;
	const struct stele_suspect *s = current(c);
	struct stele_head_listed head;
	if (stele_head_listed_decode(call->reply_head, call->reply_head_len, &head) != STELE_OK)
		return false;
	struct stele_reader r =
	    stele_reader(c->into + (size_t)at * a->into_len, call->reply_body_len);
	for (uint32_t i = 0; i < head.n; i++) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		if (r.bad || it.meta_len != STELE_HASH_LEN)
			return false;
		if (s->bad && memcmp(it.key.sub.b, s->key.sub.b, STELE_REF_SUB) != 0)
			continue;
		c->found++;
		c->found_deposit = it.key.sub;
		memcpy(c->found_object.b, it.meta, STELE_HASH_LEN);
	}
	/* one that could not be read is a reference all the same */
	return head.n > 0 || !head.more;
}

/* A live one belongs here too. Others are their holder's to remove, or their put's to use. */
static void looked_at_found(struct stele_look *l)
{
	struct stele_collect *c = l->ctx;
	const struct stele_suspect *s = current(c);
	if (l->verdict != STELE_VERDICT_LIVE || c->closing) {
		postpone(c);
		return;
	}
	struct stele_item item = {
	    .key = {.pool = s->key.pool,
	            .kind = STELE_ENTRY_REF,
	            .id = s->key.id,
	            .sub = c->found_deposit},
	    .meta = c->found_object.b,
	    .meta_len = STELE_HASH_LEN,
	};
	write(c, &item);
}

static void refs_asked(struct stele_ask *a)
{
	struct stele_collect *c = a->ctx;
	if (c->closing)
		postpone(c);
	else if (c->found > 0)
		look(c, &c->found_deposit, &c->found_object, looked_at_found);
	else if (a->answered == a->window.n && old_enough(c, current(c)))
		remove_current(c);
	else
		postpone(c); /* somebody may know better; or its slot got another disk meanwhile */
}

/* References: when nobody has the record, does everybody refuse the deposit? */

static void head_refuse(struct stele_ask *a, uint32_t at, struct stele_writer *w)
{
	struct stele_collect *c = a->ctx;
	const struct stele_suspect *s = current(c);
	struct stele_head_refuse h = {
	    .slot = a->window.disk[at].slot, .object = s->object, .deposit = s->deposit};
	stele_head_refuse_encode(&h, w);
}

static bool answer_refuse(struct stele_ask *a, uint32_t at, const struct stele_call *call)
{
	struct stele_collect *c = a->ctx;
	(void)at;
	if (call->reply_head_len != 1)
		return false;
	c->found += call->reply_head[0] == STELE_REFUSAL_RECORD;
	return call->reply_head[0] == STELE_REFUSAL_MADE;
}

static void refuse_asked(struct stele_ask *a)
{
	struct stele_collect *c = a->ctx;
	if (c->found > 0)
		drop(c); /* a record came in: it lives after all */
	else if (c->closing || a->answered < a->window.n)
		postpone(c);
	else
		remove_current(c); /* decided, for good: a late record is refused everywhere */
}

static void looked_at_suspect(struct stele_look *l)
{
	struct stele_collect *c = l->ctx;
	const struct stele_suspect *s = current(c);
	stele_verdicts_learn(c->verdicts, &l->deposit, l->verdict);
	if (l->verdict == STELE_VERDICT_LIVE)
		drop(c);
	else if (c->closing)
		postpone(c);
	else if (l->verdict == STELE_VERDICT_DEAD)
		remove_current(c);
	else if (l->tally.answered == l->tally.n && old_enough(c, s) &&
	         place(c, STELE_POOL_RECORD, &s->object))
		ask(c, STELE_OPCODE_REFUSE, head_refuse, answer_refuse, refuse_asked);
	else
		postpone(c);
}

static void judge(struct stele_collect *c)
{
	for (; c->at < c->suspects.n && !c->closing; c->at++) {
		const struct stele_suspect *s = current(c);
		if (!stele_map_pool(c->roll.map, s->key.pool) ||
		    !stele_slots_disk(c->slots, s->slot))
			continue;
		if (s->key.kind == STELE_ENTRY_REF && !s->bad) {
			look(c, &s->deposit, &s->object, looked_at_suspect);
			return;
		}
		if (old_enough(c, s) && place(c, s->key.pool, &s->key.id)) {
			ask(c, STELE_OPCODE_LIST, head_list_refs, answer_refs, refs_asked);
			return;
		}
	}
	pass_end(c);
}

/* ---- passes ---- */

static void arm(struct stele_collect *c, uint64_t after_ns)
{
	c->timer.off = stele_env_now(c->env) + after_ns;
	stele_env_submit(c->env, &c->timer);
}

static uint64_t pause_ns(const struct stele_map *map)
{
	uint64_t wait = PASS_MAX_NS;
	for (uint32_t p = 0; p < map->npools; p++) {
		uint64_t age = map->pool[p].collect_age_s * SECOND / 4;
		if (map->pool[p].id != STELE_POOL_RECORD && age < wait)
			wait = age;
	}
	return wait < SECOND ? SECOND : wait;
}

static void pass_end(struct stele_collect *c)
{
	uint64_t wait = pause_ns(c->roll.map);
	if (!c->closing)
		stele_search_settle(&c->search);
	c->st.passes++;
	stele_suspects_sweep(&c->suspects, c->st.passes);
	c->st.waiting = c->suspects.n;
	c->passing = false;
	stele_roll_finish(&c->roll);
	if (!c->closing)
		arm(c, wait);
	else if (c->closed)
		c->closed(c->closed_ctx);
}

/* A disk that was replaced may have held the only record of a deposit that was live. */
static void notice_replaced(struct stele_collect *c)
{
	uint32_t n = c->roll.map->ndisks;
	bool same = n == c->nuuids;
	for (uint32_t i = 0; i < n && same; i++)
		same = c->roll.disk[i].state == STELE_SLOT_MISSING ||
		       stele_uuid_equal(&c->uuid[i], &c->roll.disk[i].uuid);
	if (same)
		return;
	stele_verdicts_forget(c->verdicts);
	stele_search_forget(&c->search);
	struct stele_uuid *uuid = realloc(c->uuid, (n ? n : 1) * sizeof(*uuid));
	if (uuid)
		c->uuid = uuid;
	bool resized = n != c->nuuids;
	c->nuuids = uuid ? n : 0;
	for (uint32_t i = 0; i < c->nuuids; i++)
		if (resized || c->roll.disk[i].state != STELE_SLOT_MISSING)
			c->uuid[i] = c->roll.disk[i].uuid;
}

static void searched(struct stele_search *search)
{
	struct stele_collect *c = search->ctx;
	c->at = 0;
	judge(c);
}

static void called(struct stele_roll *roll)
{
	struct stele_collect *c = roll->ctx;
	notice_replaced(c);
	stele_verdicts_forget_open(c->verdicts);
	c->search.roll = &c->roll;
	c->search.pass = c->st.passes + 1;
	c->search.stop = c->closing;
	stele_search_start(&c->search);
}

static void tick(struct stele_op *op)
{
	struct stele_collect *c = op->ctx;
	if (c->closing) {
		if (c->closed)
			c->closed(c->closed_ctx);
		return;
	}
	c->roll = (struct stele_roll){.peers = c->peers, .cb = called, .ctx = c};
	if (stele_roll_start(&c->roll) == STELE_OK)
		c->passing = true;
	else
		arm(c, PASS_MAX_NS);
}

/* ---- life ---- */

enum stele_err stele_collect_create(struct stele_env *env, struct stele_peers *peers,
                                    struct stele_slots *slots,
                                    void (*log)(void *ctx, const char *line), void *log_ctx,
                                    struct stele_collect **out)
{
	struct stele_collect *c = calloc(1, sizeof(*c));
	if (!c)
		return stele_fail(STELE_ERR_NOMEM, "collect: out of memory");
	c->env = env;
	c->peers = peers;
	c->slots = slots;
	c->log = log;
	c->log_ctx = log_ctx;
	enum stele_err err = stele_suspects_init(&c->suspects);
	if (err == STELE_OK)
		err = stele_verdicts_create(&c->verdicts);
	c->into = malloc((size_t)STELE_WINDOW_MAX * LIST_LEN);
	if (err == STELE_OK && !c->into)
		err = stele_fail(STELE_ERR_NOMEM, "collect: out of memory");
	if (err != STELE_OK) {
		stele_collect_destroy(c);
		return err;
	}
	c->search = (struct stele_search){.env = env,
	                                  .peers = peers,
	                                  .slots = slots,
	                                  .verdicts = c->verdicts,
	                                  .suspects = &c->suspects,
	                                  .cb = searched,
	                                  .ctx = c};
	c->ask =
	    (struct stele_ask){.peers = peers, .ctx = c, .into = c->into, .into_len = LIST_LEN};
	*out = c;
	return STELE_OK;
}

void stele_collect_start(struct stele_collect *c)
{
	c->timer = (struct stele_op){.kind = STELE_OP_TIMER, .cb = tick, .ctx = c};
	arm(c, SECOND);
}

void stele_collect_close(struct stele_collect *c, void (*done)(void *ctx), void *ctx)
{
	c->closing = c->search.stop = true;
	c->closed = done;
	c->closed_ctx = ctx;
	if (stele_op_pending(&c->timer))
		stele_env_cancel(c->env, &c->timer);
	else if (!c->passing)
		done(ctx);
}

void stele_collect_destroy(struct stele_collect *c)
{
	if (!c)
		return;
	stele_roll_finish(&c->roll);
	stele_suspects_finish(&c->suspects);
	stele_verdicts_destroy(c->verdicts);
	free(c->uuid);
	free(c->into);
	free(c);
}

void stele_collect_touch(struct stele_collect *c, uint16_t slot, const struct stele_key *key)
{
	struct stele_suspect *s = stele_suspects_find(&c->suspects, slot, key);
	if (s)
		s->since = stele_env_now(c->env);
}

void stele_collect_renew(struct stele_collect *c, uint16_t slot)
{
	for (uint32_t i = 0; i < c->suspects.n; i++)
		if (c->suspects.v[i].slot == slot)
			c->suspects.v[i].since = stele_env_now(c->env);
	stele_search_renew(&c->search, slot);
}

void stele_collect_status(const struct stele_collect *c, struct stele_collect_status *out)
{
	*out = c->st;
}
