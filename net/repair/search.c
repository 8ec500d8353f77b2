/* Reads what lies on this node's disks and notes what looks like a leftover. Removes nothing: what
 * becomes of a suspect is collect.c's to judge. */
#include "net/repair/search.h"

#define PAGE_ITEMS 1024u

static void list_page(struct stele_search *f, bool metas);
static void read_page(struct stele_search *f);
static void scan(struct stele_search *f);

/* ---- reading a page ---- */

/* A reference without a shard beside it is a block too: what is known of one says nothing of the
 * next. */
static void block_end(struct stele_search *f)
{
	const struct stele_block_seen *b = &f->block;
	for (uint32_t i = 0; i < b->nshards && !b->referenced; i++) {
		struct stele_suspect s = {.key = b->shard[i],
		                          .slot = (uint16_t)f->slot,
		                          .bytes = b->shard_bytes,
		                          .since = stele_env_now(f->env),
		                          .seen = f->pass};
		stele_suspects_see(f->suspects, &s);
	}
	f->block = (struct stele_block_seen){0};
}

/* References that were settled earlier, and those of deposits known to live, need no look; one that
 * could not be read and now can be does. */
static bool needs_look(const struct stele_search *f, const struct stele_listed *it)
{
	if (it->key.kind != STELE_ENTRY_REF || it->bad ||
	    stele_verdicts_get(f->verdicts, &it->key.sub) == STELE_VERDICT_LIVE)
		return false;
	const struct stele_suspect *known =
	    stele_suspects_find(f->suspects, (uint16_t)f->slot, &it->key);
	return known ? known->bad : it->lsn > f->settled[f->slot];
}

static void suspect_ref(struct stele_search *f, const struct stele_listed *it)
{
	struct stele_suspect s = {.key = it->key,
	                          .slot = (uint16_t)f->slot,
	                          .since = stele_env_now(f->env),
	                          .seen = f->pass};
	struct stele_suspect *x = stele_suspects_see(f->suspects, &s);
	if (!x)
		return;
	x->bad = it->bad;
	x->deposit = it->key.sub; /* of a bad one, 12 bytes of it */
	if (!it->bad)
		memcpy(x->object.b, it->meta, STELE_HASH_LEN);
}

static void look(struct stele_search *f, const struct stele_hash *deposit,
                 const struct stele_hash *object, void (*cb)(struct stele_look *))
{
	f->look = (struct stele_look){.peers = f->peers,
	                              .roll = f->roll,
	                              .deposit = *deposit,
	                              .object = *object,
	                              .cb = cb,
	                              .ctx = f};
	stele_look_start(&f->look);
}

static void looked_at_ref(struct stele_look *l)
{
	struct stele_search *f = l->ctx;
	stele_verdicts_learn(f->verdicts, &l->deposit, l->verdict);
	if (l->verdict != STELE_VERDICT_LIVE)
		suspect_ref(f, &f->list.item[f->item]);
	f->item++;
	read_page(f);
}

static void page_end(struct stele_search *f)
{
	bool more = f->list.err == STELE_OK && f->list.more && f->list.n > 0;
	struct stele_key after = more ? f->list.item[f->list.n - 1].key : (struct stele_key){0};
	if (f->list.err != STELE_OK)
		f->complete[f->slot] = false;
	stele_store_list_finish(&f->list);
	f->list = (struct stele_store_list){.after = after};
	if (!more) {
		block_end(f);
		f->pool_at++;
	}
	scan(f);
}

static void note_shard(struct stele_search *f, const struct stele_listed *it)
{
	struct stele_block_seen *b = &f->block;
	if (b->nshards < STELE_SEARCH_BESIDE)
		b->shard[b->nshards++] = it->key;
	b->shard_bytes = it->data_len;
}

/* From f->item on; a look interrupts, and its end goes on here. */
static void read_page(struct stele_search *f)
{
	for (; f->item < f->list.n && !f->stop; f->item++) {
		const struct stele_listed *it = &f->list.item[f->item];
		struct stele_suspect *known;
		if (!stele_hash_equal(&f->block.id, &it->key.id)) {
			block_end(f);
			f->block.id = it->key.id;
		}
		if (it->key.kind == STELE_ENTRY_SHARD) {
			note_shard(f, it);
			continue;
		}
		if (it->bad)
			continue; /* it is a suspect already, and until it is good again none of these */
		f->block.referenced = true;
		if (needs_look(f, it) && it->meta_len == STELE_HASH_LEN) {
			struct stele_hash object;
			memcpy(object.b, it->meta, STELE_HASH_LEN);
			look(f, &it->key.sub, &object, looked_at_ref);
			return;
		}
		known = stele_suspects_find(f->suspects, (uint16_t)f->slot, &it->key);
		if (known && !known->bad)
			known->seen = f->pass;
	}
	page_end(f);
}

static void listed(struct stele_store_list *l)
{
	struct stele_search *f = l->ctx;
	bool metas = l->want_meta;
	for (uint32_t i = 0; i < l->n && l->err == STELE_OK && !metas; i++)
		if (l->item[i].bad && l->item[i].key.kind == STELE_ENTRY_REF)
			suspect_ref(f, &l->item[i]); /* with metas it would not be listed */
	for (uint32_t i = 0; i < l->n && l->err == STELE_OK && !metas; i++)
		if (needs_look(f, &l->item[i])) { /* which object it belongs to is in its meta */
			stele_store_list_finish(l);
			list_page(f, true);
			return;
		}
	f->item = 0;
	if (l->err != STELE_OK)
		l->n = 0;
	read_page(f);
}

static void list_page(struct stele_search *f, bool metas)
{
	f->list = (struct stele_store_list){
	    .pool = f->roll->map->pool[f->pool_at].id,
	    .kinds = STELE_KIND_BIT(STELE_ENTRY_SHARD) | STELE_KIND_BIT(STELE_ENTRY_REF),
	    .want_meta = metas,
	    .after = f->list.after,
	    .max = PAGE_ITEMS,
	    .cb = listed,
	    .ctx = f,
	};
	memset(f->list.last.b, 0xff, STELE_HASH_LEN);
	struct stele_disk *disk = stele_slots_disk(f->slots, f->slot);
	if (disk) {
		stele_disk_list(disk, &f->list);
		return;
	}
	f->list.err = STELE_ERR_UNAVAILABLE; /* detached while it was read */
	page_end(f);
}

/* Where the next page is. */
static void scan(struct stele_search *f)
{
	for (; !f->stop && f->slot < stele_slots_n(f->slots); f->slot++, f->pool_at = 0) {
		if (!stele_slots_disk(f->slots, f->slot) ||
		    stele_slots_refilling(f->slots, f->slot))
			continue;
		while (f->pool_at < f->roll->map->npools &&
		       f->roll->map->pool[f->pool_at].id == STELE_POOL_RECORD)
			f->pool_at++;
		if (f->pool_at == f->roll->map->npools)
			continue;
		list_page(f, false);
		return;
	}
	f->overflow = f->suspects->full;
	stele_suspects_sweep(f->suspects, f->pass); /* what is not there any more */
	f->cb(f);
}

/* ---- life ---- */

void stele_search_start(struct stele_search *f)
{
	for (uint32_t i = 0; i < stele_slots_n(f->slots); i++) {
		struct stele_store_identity id = {0};
		if (stele_slots_disk(f->slots, i))
			stele_disk_identity(stele_slots_disk(f->slots, i), &id);
		f->lsn[i] = id.lsn;
		f->complete[i] = !stele_slots_refilling(f->slots, i);
	}
	f->slot = f->pool_at = 0;
	f->list = (struct stele_store_list){0};
	f->block = (struct stele_block_seen){0};
	scan(f);
}

void stele_search_settle(struct stele_search *f)
{
	for (uint32_t i = 0; i < stele_slots_n(f->slots); i++)
		if (f->complete[i] && !f->overflow)
			f->settled[i] = f->lsn[i];
}

void stele_search_renew(struct stele_search *f, uint16_t slot)
{
	f->settled[slot] = 0;
	f->complete[slot] = false; /* of a search under way */
}

void stele_search_forget(struct stele_search *f)
{
	memset(f->settled, 0, sizeof(f->settled));
}
