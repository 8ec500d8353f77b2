/* Finds leftovers on this node's disks and removes those that everybody concerned agrees are
 * leftovers. One thing at a time: collection is never urgent. Pass: for each slot and pool, list;
 * for each suspect, judge. */
#include "net/repair/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/repair/ask.h"

#define SECOND      1000000000ull
#define PASS_MAX_NS (3600 * SECOND)
#define PAGE_ITEMS  1024u
#define LIST_LEN    65536u
#define SUSPECTS    65536u /* remembered at a time; others wait for a later pass */

/* Something that looked like a leftover, and since when. */
struct suspect {
	struct stele_key key; /* SHARD: the block (index of one of them); REF: with its deposit */
	uint16_t slot;
	struct stele_hash object; /* REF */
	uint64_t since;           /* of the env's clock; a restart forgets, which only delays */
	uint64_t seen;            /* pass in which it was seen last */
	uint64_t bytes;
};

struct recorded { /* deposits whose record was seen: a small direct-mapped memory */
	uint8_t sub[12];
};
#define RECORDED_SLOTS 16384u

struct stele_collect {
	struct stele_env *env;
	struct stele_peers *peers;
	struct stele_slots *slots;
	uint16_t node;
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
	struct stele_op timer;
	bool passing, closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
	/* the pass */
	struct stele_map *map;
	uint32_t slot, pool_at;
	struct stele_store_list list;
	struct stele_key
	    shard[4]; /* of the block whose entries are being read (others of it: later passes) */
	uint64_t shard_bytes;
	uint32_t nshards;
	bool block_ref;
	bool listing;
	uint32_t next_suspect;
	/* memory */
	struct suspect *suspect;
	uint32_t nsuspects, suspects_cap;
	struct recorded *recorded;
	/* judging */
	struct stele_ask ask;
	uint32_t yes; /* disks that have the record, or a reference */
	struct stele_hash found_deposit, found_object;
	uint8_t *into;
	struct stele_store_write write;
	struct stele_item item;
	struct stele_collect_status st;
};

static void scan(struct stele_collect *c);
static void judge_next(struct stele_collect *c);

/* ---- memory of suspects ---- */

static bool same_thing(const struct suspect *s, const struct stele_key *k, uint16_t slot)
{
	return s->slot == slot && s->key.kind == k->kind && s->key.pool == k->pool &&
	       stele_hash_equal(&s->key.id, &k->id) &&
	       (k->kind == STELE_ENTRY_SHARD ? s->key.index == k->index
	                                     : stele_hash_equal(&s->key.sub, &k->sub));
}

static void suspect_it(struct stele_collect *c, const struct stele_key *key,
                       const struct stele_hash *object, uint64_t bytes)
{
	for (uint32_t i = 0; i < c->nsuspects; i++)
		if (same_thing(&c->suspect[i], key, (uint16_t)c->slot)) {
			c->suspect[i].seen = c->st.passes;
			return;
		}
	if (c->nsuspects == c->suspects_cap) {
		uint32_t cap = c->suspects_cap ? 2 * c->suspects_cap : 64;
		struct suspect *grown =
		    cap <= SUSPECTS ? realloc(c->suspect, cap * sizeof(*grown)) : NULL;
		if (!grown)
			return;
		c->suspect = grown;
		c->suspects_cap = cap;
	}
	c->suspect[c->nsuspects++] = (struct suspect){
	    .key = *key,
	    .slot = (uint16_t)c->slot,
	    .object = object ? *object : (struct stele_hash){{0}},
	    .since = stele_env_now(c->env),
	    .seen = c->st.passes,
	    .bytes = bytes,
	};
}

static void forget(struct stele_collect *c, uint32_t i)
{
	c->suspect[i] = c->suspect[--c->nsuspects];
}

static struct recorded *recorded_slot(struct stele_collect *c, const struct stele_hash *deposit)
{
	return &c->recorded[stele_le32(deposit->b) % RECORDED_SLOTS];
}

static bool is_recorded(struct stele_collect *c, const struct stele_hash *deposit)
{
	return memcmp(recorded_slot(c, deposit)->sub, deposit->b, 12) == 0;
}

/* ---- the pass: what is on this slot ---- */

static void block_end(struct stele_collect *c)
{
	for (uint32_t i = 0; i < c->nshards && !c->block_ref; i++)
		suspect_it(c, &c->shard[i], NULL, c->shard_bytes);
	c->nshards = 0;
	c->block_ref = false;
}

static void look_at(struct stele_collect *c, const struct stele_listed *it)
{
	if (c->nshards > 0 && !stele_hash_equal(&c->shard[0].id, &it->key.id))
		block_end(c);
	if (it->key.kind == STELE_ENTRY_SHARD) {
		if (c->nshards < 4)
			c->shard[c->nshards++] = it->key;
		c->shard_bytes = it->data_len;
	} else if (it->key.kind == STELE_ENTRY_REF) {
		struct stele_hash object;
		c->block_ref = true;
		if (it->meta_len != STELE_HASH_LEN || is_recorded(c, &it->key.sub))
			return;
		memcpy(object.b, it->meta, STELE_HASH_LEN);
		suspect_it(c, &it->key, &object, 0);
	}
}

static void listed(struct stele_store_list *l)
{
	struct stele_collect *c = l->ctx;
	c->listing = false;
	for (uint32_t i = 0; l->err == STELE_OK && i < l->n; i++)
		look_at(c, &l->item[i]);
	bool more = l->err == STELE_OK && l->more && l->n > 0 && !c->closing;
	if (more)
		c->list.after = l->item[l->n - 1].key;
	stele_store_list_finish(l);
	if (!more) {
		block_end(c);
		c->pool_at++;
		c->list.after = (struct stele_key){0};
	}
	scan(c);
}

/* Where the next page is; when all have been read, judging begins. */
static void scan(struct stele_collect *c)
{
	for (; !c->closing && c->slot < stele_slots_n(c->slots); c->slot++, c->pool_at = 0) {
		struct stele_store *store = stele_slots_store(c->slots, c->slot);
		if (!store || stele_slots_state(c->slots, c->slot) == STELE_SLOT_REFILLING)
			continue;
		while (c->pool_at < c->map->npools &&
		       c->map->pool[c->pool_at].id == STELE_POOL_RECORD)
			c->pool_at++;
		if (c->pool_at == c->map->npools)
			continue;
		c->list = (struct stele_store_list){
		    .pool = c->map->pool[c->pool_at].id,
		    .kinds = STELE_KIND_BIT(STELE_ENTRY_SHARD) | STELE_KIND_BIT(STELE_ENTRY_REF),
		    .want_meta = true,
		    .after = c->list.after,
		    .max = PAGE_ITEMS,
		    .cb = listed,
		    .ctx = c,
		};
		memset(c->list.last.b, 0xff, STELE_HASH_LEN);
		c->listing = true;
		stele_store_list(store, &c->list);
		return;
	}
	c->next_suspect = 0;
	judge_next(c);
}

/* ---- judging ---- */

static const struct stele_pool *pool_of(const struct stele_collect *c, const struct suspect *s)
{
	return stele_map_pool(c->map, s->key.pool);
}

static void place_for(struct stele_collect *c, uint16_t pool_id, const struct stele_hash *id)
{
	const struct stele_pool *pool = stele_map_pool(c->map, pool_id);
	uint64_t fence;
	stele_place(c->map, pool, stele_pg_of(pool, id), stele_window_width(&pool->code),
	            &c->ask.window, &fence);
}

static struct suspect *current(struct stele_collect *c)
{
	return &c->suspect[c->next_suspect];
}

static void drop_current(struct stele_collect *c)
{
	forget(c, c->next_suspect); /* another takes its place */
	judge_next(c);
}

static void pass_current(struct stele_collect *c)
{
	c->next_suspect++;
	judge_next(c);
}

static void removed(struct stele_store_write *w)
{
	struct stele_collect *c = w->ctx;
	struct suspect *s = current(c);
	char line[STELE_DETAIL_MAX], hex[STELE_HEX_LEN];
	c->listing = false;
	if (w->err == STELE_OK && c->item.tomb) {
		bool shard = s->key.kind == STELE_ENTRY_SHARD;
		c->st.shards += shard;
		c->st.refs += !shard;
		c->st.bytes += s->bytes;
		snprintf(line, sizeof(line),
		         "collect: slot %u: %s of block %s: no deposit needs it", s->slot,
		         shard ? "shard" : "reference", stele_hash_hex(&s->key.id, hex));
		if (c->log)
			c->log(c->log_ctx, line);
	}
	drop_current(c);
}

static void write_item(struct stele_collect *c)
{
	struct stele_store *store = stele_slots_store(c->slots, current(c)->slot);
	c->listing = true;
	c->write = (struct stele_store_write){.item = &c->item, .n = 1, .cb = removed, .ctx = c};
	stele_store_write(store, &c->write);
}

static void remove_current(struct stele_collect *c)
{
	c->item =
	    (struct stele_item){.key = current(c)->key, .tomb = true, .unless_referenced = true};
	write_item(c);
}

/* A reference that another holder knows: it belongs here too. */
static void adopt_ref(struct stele_collect *c)
{
	const struct suspect *s = current(c);
	c->item = (struct stele_item){
	    .key = {.pool = s->key.pool,
	            .kind = STELE_ENTRY_REF,
	            .id = s->key.id,
	            .sub = c->found_deposit},
	    .meta = c->found_object.b,
	    .meta_len = STELE_HASH_LEN,
	};
	write_item(c);
}

/* Shards: does anybody in the window know a reference? */

static void head_list_refs(struct stele_ask *ask, uint32_t at, struct stele_writer *w)
{
	struct stele_collect *c = ask->ctx;
	const struct suspect *s = current(c);
	struct stele_head_list h = {
	    .slot = ask->window.disk[at].slot,
	    .pool = s->key.pool,
	    .first = s->key.id,
	    .last = s->key.id,
	    .kinds = STELE_KIND_BIT(STELE_ENTRY_REF),
	    .want_meta = true,
	    .max = 16,
	};
	stele_head_list_encode(&h, w);
}

static bool answer_refs(struct stele_ask *ask, uint32_t at, const struct stele_call *call)
{
	struct stele_collect *c = ask->ctx;
	struct stele_head_listed head;
	if (stele_head_listed_decode(call->reply_head, call->reply_head_len, &head) != STELE_OK)
		return false;
	struct stele_reader r =
	    stele_reader(c->into + (size_t)at * ask->into_len, call->reply_body_len);
	for (uint32_t i = 0; i < head.n; i++) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		if (r.bad || it.meta_len != STELE_HASH_LEN)
			return false;
		c->yes++;
		c->found_deposit = it.key.sub;
		memcpy(c->found_object.b, it.meta, STELE_HASH_LEN);
	}
	return true;
}

static void refs_asked(struct stele_ask *ask)
{
	struct stele_collect *c = ask->ctx;
	if (c->closing || ask->answered < ask->window.n)
		pass_current(c); /* somebody may know better: later */
	else if (c->yes > 0)
		adopt_ref(c);
	else
		remove_current(c);
}

/* References: is there a record anywhere? Then: does everybody refuse the deposit? */

static void head_have_record(struct stele_ask *ask, uint32_t at, struct stele_writer *w)
{
	struct stele_collect *c = ask->ctx;
	const struct suspect *s = current(c);
	struct stele_key key = {.pool = STELE_POOL_RECORD,
	                        .kind = STELE_ENTRY_RECORD,
	                        .id = s->object,
	                        .sub = s->key.sub};
	stele_write_le16(w, ask->window.disk[at].slot);
	stele_write_le16(w, 1);
	stele_write_key(w, &key);
}

static bool answer_have(struct stele_ask *ask, uint32_t at, const struct stele_call *call)
{
	struct stele_collect *c = ask->ctx;
	(void)at;
	if (call->reply_head_len != 1)
		return false;
	c->yes += call->reply_head[0] == 1;
	return true;
}

static void head_refuse(struct stele_ask *ask, uint32_t at, struct stele_writer *w)
{
	struct stele_collect *c = ask->ctx;
	const struct suspect *s = current(c);
	struct stele_head_refuse h = {
	    .slot = ask->window.disk[at].slot, .object = s->object, .deposit = s->key.sub};
	stele_head_refuse_encode(&h, w);
}

static void refuse_asked(struct stele_ask *ask)
{
	struct stele_collect *c = ask->ctx;
	if (c->yes > 0)
		drop_current(c); /* a record came in: it is recorded after all */
	else if (c->closing || ask->answered < ask->window.n)
		pass_current(c);
	else
		remove_current(c); /* decided for good: a late record is refused everywhere */
}

static bool old_enough(const struct stele_collect *c, const struct suspect *s)
{
	const struct stele_pool *pool = pool_of(c, s);
	return pool && stele_env_now(c->env) - s->since >= pool->collect_age_s * SECOND;
}

static void ask_window(struct stele_collect *c, uint16_t op,
                       void (*head)(struct stele_ask *, uint32_t, struct stele_writer *),
                       bool (*answer)(struct stele_ask *, uint32_t, const struct stele_call *),
                       void (*cb)(struct stele_ask *))
{
	c->yes = 0;
	c->ask.op = op;
	c->ask.head = head;
	c->ask.answer = answer;
	c->ask.cb = cb;
	stele_ask_start(&c->ask);
}

static void record_asked(struct stele_ask *ask)
{
	struct stele_collect *c = ask->ctx;
	struct suspect *s = current(c);
	if (c->yes > 0) {
		memcpy(recorded_slot(c, &s->key.sub)->sub, s->key.sub.b, 12);
		drop_current(c);
	} else if (!c->closing && ask->answered == ask->window.n && old_enough(c, s)) {
		ask_window(c, STELE_OPCODE_REFUSE, head_refuse, answer_have, refuse_asked);
	} else {
		pass_current(c);
	}
}

static void pass_end(struct stele_collect *c)
{
	uint64_t wait = PASS_MAX_NS;
	for (uint32_t p = 0; p < c->map->npools; p++) {
		uint64_t age = c->map->pool[p].collect_age_s * SECOND / 4;
		if (c->map->pool[p].id != STELE_POOL_RECORD && age < wait)
			wait = age;
	}
	c->st.passes++;
	c->st.waiting = c->nsuspects;
	c->passing = false;
	stele_map_unref(c->map);
	c->map = NULL;
	if (c->closing) {
		if (c->closed)
			c->closed(c->closed_ctx);
		return;
	}
	c->timer.off = stele_env_now(c->env) + (wait < SECOND ? SECOND : wait);
	stele_env_submit(c->env, &c->timer);
}

static void judge_next(struct stele_collect *c)
{
	while (c->next_suspect < c->nsuspects && !c->closing) {
		struct suspect *s = current(c);
		if (s->seen != c->st.passes) { /* not there any more, or not a leftover any more */
			forget(c, c->next_suspect);
			continue;
		}
		if (!pool_of(c, s) || !stele_slots_store(c->slots, s->slot)) {
			c->next_suspect++;
			continue;
		}
		if (s->key.kind == STELE_ENTRY_REF) {
			place_for(c, STELE_POOL_RECORD, &s->object);
			ask_window(c, STELE_OPCODE_HAVE, head_have_record, answer_have,
			           record_asked);
			return;
		}
		if (old_enough(c, s)) {
			place_for(c, s->key.pool, &s->key.id);
			ask_window(c, STELE_OPCODE_LIST, head_list_refs, answer_refs, refs_asked);
			return;
		}
		c->next_suspect++;
	}
	pass_end(c);
}

/* ---- life ---- */

static void tick(struct stele_op *op)
{
	struct stele_collect *c = op->ctx;
	if (c->closing) {
		if (c->closed)
			c->closed(c->closed_ctx);
		return;
	}
	c->passing = true;
	c->map = stele_map_ref(stele_peers_map(c->peers));
	c->slot = c->pool_at = 0;
	c->list = (struct stele_store_list){0};
	c->nshards = 0;
	c->block_ref = false;
	scan(c);
}

enum stele_err stele_collect_create(struct stele_env *env, struct stele_peers *peers,
                                    struct stele_slots *slots, uint16_t node,
                                    void (*log)(void *ctx, const char *line), void *log_ctx,
                                    struct stele_collect **out)
{
	struct stele_collect *c = calloc(1, sizeof(*c));
	if (!c)
		return stele_fail(STELE_ERR_NOMEM, "collect: out of memory");
	c->recorded = calloc(RECORDED_SLOTS, sizeof(*c->recorded));
	c->into = malloc((size_t)STELE_WINDOW_MAX * LIST_LEN);
	if (!c->recorded || !c->into) {
		stele_collect_destroy(c);
		return stele_fail(STELE_ERR_NOMEM, "collect: out of memory");
	}
	c->env = env;
	c->peers = peers;
	c->slots = slots;
	c->node = node;
	c->log = log;
	c->log_ctx = log_ctx;
	c->ask =
	    (struct stele_ask){.peers = peers, .ctx = c, .into = c->into, .into_len = LIST_LEN};
	*out = c;
	return STELE_OK;
}

void stele_collect_start(struct stele_collect *c)
{
	c->timer = (struct stele_op){
	    .kind = STELE_OP_TIMER, .off = stele_env_now(c->env) + SECOND, .cb = tick, .ctx = c};
	stele_env_submit(c->env, &c->timer);
}

void stele_collect_close(struct stele_collect *c, void (*done)(void *ctx), void *ctx)
{
	c->closing = true;
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
	stele_map_unref(c->map);
	free(c->suspect);
	free(c->recorded);
	free(c->into);
	free(c);
}

void stele_collect_status(const struct stele_collect *c, struct stele_collect_status *out)
{
	*out = c->st;
}
