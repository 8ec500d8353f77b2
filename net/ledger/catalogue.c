/* Reads and writes catalogue marks, and fetches index objects. What a block is, the lookup knows;
 * what may go into the catalogue, the import. */
#include "net/ledger/catalogue.h"

#include <stdlib.h>

#include "net/cluster/map.h"

#define INDEX_MAX (256u << 20)

static bool author_ok(struct stele *s, const struct stele_mark *m)
{
	const struct stele_client_entry *who = stele_map_depositor(stele_map_of(s), &m->author);
	return who && (who->roles & STELE_ROLE_WRITER);
}

/* A later mark of a segment replaces an earlier one when it knows more: linked after bound. */
static enum stele_err take(struct stele_catalogue *c, const struct stele_segment *seg)
{
	struct stele_segment *old = stele_catalogue_segment(c, &seg->object);
	if (old) {
		if (old->linked || !seg->linked)
			return STELE_OK;
		free(old->bytes);
		*old = *seg;
		return STELE_OK;
	}
	struct stele_segment *grown = realloc(c->segment, (c->n + 1) * sizeof(*grown));
	if (!grown)
		return stele_fail(STELE_ERR_NOMEM, "catalogue: out of memory");
	c->segment = grown;
	c->segment[c->n++] = *seg;
	return STELE_OK;
}

static int by_height(const void *a, const void *b)
{
	const struct stele_segment *x = a, *y = b;
	if (x->linked != y->linked)
		return x->linked ? -1 : 1;
	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return stele_hash_cmp(&x->object, &y->object);
}

static void sort(struct stele_catalogue *c)
{
	if (c->n > 0)
		qsort(c->segment, c->n, sizeof(*c->segment), by_height);
}

static enum stele_err take_mark(struct stele_catalogue *c, const struct stele_found_mark *found)
{
	struct stele_mark m;
	if (!found->sig_ok || stele_mark_decode(found->text, found->len, &m) != STELE_OK ||
	    m.kind != STELE_MARK_CATALOGUE || !author_ok(c->s, &m) ||
	    strcmp(m.u.catalogue.caip2, c->chain.caip2) != 0)
		return STELE_OK;
	struct stele_segment seg = {
	    .object = m.u.catalogue.segment,
	    .index = m.u.catalogue.index,
	    .first = m.u.catalogue.first,
	    .last = m.u.catalogue.last,
	    .count = m.u.catalogue.count,
	    .first_parent = m.u.catalogue.first_parent,
	    .last_hash = m.u.catalogue.last_hash,
	    .linked = m.u.catalogue.linked,
	};
	return take(c, &seg);
}

enum stele_err stele_catalogue_open(struct stele *s, const struct stele_chain *chain,
                                    struct stele_catalogue *out)
{
	struct stele_hash id;
	struct stele_found found;
	*out = (struct stele_catalogue){.s = s, .chain = *chain};
	stele_catalogue_id(chain->caip2, &id);
	enum stele_err err = stele_find(s, &id, &found);
	if (err == STELE_ERR_NOT_FOUND)
		return STELE_OK;
	if (err != STELE_OK)
		return stele_wrap(err, "catalogue of %s", chain->caip2);
	for (uint32_t i = 0; i < found.nmarks && err == STELE_OK; i++)
		err = take_mark(out, &found.mark[i]);
	stele_found_finish(&found);
	if (err != STELE_OK)
		stele_catalogue_finish(out);
	else
		sort(out);
	return err;
}

void stele_catalogue_finish(struct stele_catalogue *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		free(c->segment[i].bytes);
	free(c->segment);
	c->segment = NULL;
	c->n = 0;
}

struct stele_segment *stele_catalogue_segment(struct stele_catalogue *c,
                                              const struct stele_hash *object)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (stele_hash_equal(&c->segment[i].object, object))
			return &c->segment[i];
	return NULL;
}

static enum stele_err open_index(struct stele_catalogue *c, struct stele_segment *seg)
{
	size_t len;
	STELE_TRY(stele_get_bytes(c->s, &seg->index, INDEX_MAX, &seg->bytes, &len));
	STELE_TRY(stele_index_open(seg->bytes, len, &seg->ix));
	if (strcmp(seg->ix.head.caip2, c->chain.caip2) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "the index is of chain %s",
		                  seg->ix.head.caip2);
	return STELE_OK;
}

enum stele_err stele_catalogue_index(struct stele_catalogue *c, struct stele_segment *seg)
{
	char hex[STELE_HEX_LEN];
	if (seg->open || seg->blind)
		return STELE_OK;
	enum stele_err err = open_index(c, seg);
	seg->open = err == STELE_OK;
	if (seg->open)
		return STELE_OK;
	free(seg->bytes);
	seg->bytes = NULL;
	(void)stele_wrap(err, "index object %s", stele_hash_hex(&seg->index, hex));
	if (err == STELE_ERR_NOMEM || err == STELE_ERR_CANCELLED)
		return err;
	seg->blind = true;
	if (c->err !=
	    STELE_ERR_UNAVAILABLE) { /* what may come back outweighs what is gone for good */
		c->err = err == STELE_ERR_UNAVAILABLE ? err : STELE_ERR_CORRUPT;
		stele_detail_copy(c->why);
	}
	return STELE_OK;
}

enum stele_err stele_catalogue_height(void *catalogue, const struct stele_hash *hash,
                                      uint64_t *height)
{
	struct stele_catalogue *c = catalogue;
	struct stele_index_entry e;
	for (uint32_t i = 0; i < c->n; i++)
		if (c->segment[i].linked && stele_hash_equal(&c->segment[i].last_hash, hash)) {
			*height = c->segment[i].last;
			return STELE_OK;
		}
	for (uint32_t i = 0; i < c->n; i++) {
		if (!c->segment[i].linked)
			continue;
		STELE_TRY(stele_catalogue_index(c, &c->segment[i]));
		if (c->segment[i].open &&
		    stele_index_find_hash(&c->segment[i].ix, hash, &e) == STELE_OK && e.linked) {
			*height = e.height;
			return STELE_OK;
		}
	}
	return STELE_ERR_NOT_FOUND;
}

enum stele_err stele_catalogue_add(struct stele_catalogue *c, const struct stele_segment *seg)
{
	struct stele_mark m = {.kind = STELE_MARK_CATALOGUE};
	stele_catalogue_id(c->chain.caip2, &m.object);
	memcpy(m.u.catalogue.caip2, c->chain.caip2, sizeof(m.u.catalogue.caip2));
	m.u.catalogue.first = seg->first;
	m.u.catalogue.last = seg->last;
	m.u.catalogue.count = seg->count;
	m.u.catalogue.first_parent = seg->first_parent;
	m.u.catalogue.last_hash = seg->last_hash;
	m.u.catalogue.segment = seg->object;
	m.u.catalogue.index = seg->index;
	m.u.catalogue.linked = seg->linked;
	STELE_TRY(stele_mark_add(c->s, &m, NULL));
	STELE_TRY(take(c, seg));
	sort(c);
	return STELE_OK;
}
