/* Writes and reads a segment's index object. Knows no format of chain files, and does no I/O. */
#include "storage/ledger/segment_index.h"

#include <assert.h>
#include <stdlib.h>

#define INDEX_VERSION '1' /* the last byte of the magic */
#define ENTRY_FIXED   48u
#define PART_LEN      16u
#define FLAG_STALE    1u
#define FLAG_LINKED   2u

static const char magic[8] = {'S', 'T', 'E', 'L', 'E', 'I', 'X', INDEX_VERSION};

static size_t entry_len(unsigned columns)
{
	return ENTRY_FIXED + (size_t)PART_LEN * columns;
}

/* ---- encoding ---- */

struct sorter {
	const struct stele_index_entry *entry;
	uint32_t *order;   /* numbers of entries, best first at a height */
	uint32_t *by_hash; /* places in order */
	struct stele_hash *outside;
	size_t n, outsides;
};

static int by_hash_then_place(const void *a, const void *b, void *ctx)
{
	const struct stele_index_entry *e = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = stele_hash_cmp(&e[x].hash, &e[y].hash);
	return c ? c : (x < y ? -1 : x > y);
}

static int by_height(const void *a, const void *b, void *ctx)
{
	const struct stele_index_entry *e = ctx;
	const struct stele_index_entry *x = &e[*(const uint32_t *)a], *y = &e[*(const uint32_t *)b];
	if (x->height != y->height)
		return x->height < y->height ? -1 : 1;
	if (x->stale != y->stale)
		return x->stale ? 1 : -1;
	return stele_hash_cmp(&x->hash, &y->hash);
}

static int by_placed_hash(const void *a, const void *b, void *ctx)
{
	const struct sorter *s = ctx;
	return stele_hash_cmp(&s->entry[s->order[*(const uint32_t *)a]].hash,
	                      &s->entry[s->order[*(const uint32_t *)b]].hash);
}

static int by_value(const void *a, const void *b)
{
	return stele_hash_cmp(a, b);
}

/* The place of a hash among the entries, or n. */
static uint32_t place_of(const struct sorter *s, const struct stele_hash *hash)
{
	size_t low = 0, high = s->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = stele_hash_cmp(&s->entry[s->order[s->by_hash[mid]]].hash, hash);
		if (c == 0)
			return s->by_hash[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return (uint32_t)s->n;
}

static uint32_t outside_of(const struct sorter *s, const struct stele_hash *hash)
{
	const struct stele_hash *at =
	    bsearch(hash, s->outside, s->outsides, sizeof(*s->outside), by_value);
	assert(at);
	return (uint32_t)(s->n + (size_t)(at - s->outside));
}

static void sort_all(struct sorter *s, size_t given)
{
	for (uint32_t i = 0; i < given; i++)
		s->order[i] = i;
	/* drop later ones of equal hashes */
	qsort_r(s->order, given, sizeof(*s->order), by_hash_then_place, (void *)s->entry);
	s->n = 0;
	for (size_t i = 0; i < given; i++) {
		if (s->n == 0 || !stele_hash_equal(&s->entry[s->order[s->n - 1]].hash,
		                                   &s->entry[s->order[i]].hash))
			s->order[s->n++] = s->order[i];
	}
	qsort_r(s->order, s->n, sizeof(*s->order), by_height, (void *)s->entry);
	for (uint32_t i = 0; i < s->n; i++)
		s->by_hash[i] = i;
	qsort_r(s->by_hash, s->n, sizeof(*s->by_hash), by_placed_hash, s);
	s->outsides = 0;
	for (size_t i = 0; i < s->n; i++) {
		const struct stele_hash *parent = &s->entry[s->order[i]].parent;
		if (place_of(s, parent) == s->n)
			s->outside[s->outsides++] = *parent;
	}
	qsort(s->outside, s->outsides, sizeof(*s->outside), by_value);
	size_t kept = 0;
	for (size_t i = 0; i < s->outsides; i++) {
		if (kept == 0 || !stele_hash_equal(&s->outside[kept - 1], &s->outside[i]))
			s->outside[kept++] = s->outside[i];
	}
	s->outsides = kept;
}

static enum stele_err check_given(const struct stele_index_head *head,
                                  const struct stele_index_entry *entries, size_t n,
                                  unsigned *columns)
{
	size_t name = strnlen(head->caip2, sizeof(head->caip2));
	if (n == 0 || n > STELE_INDEX_BLOCKS_MAX)
		return stele_fail(STELE_ERR_INVALID, "an index of %zu blocks (1 to %u)", n,
		                  STELE_INDEX_BLOCKS_MAX);
	if (head->nobjects == 0 || head->nobjects > STELE_INDEX_OBJECTS_MAX)
		return stele_fail(STELE_ERR_INVALID, "an index of %u objects (1 to %u)",
		                  head->nobjects, STELE_INDEX_OBJECTS_MAX);
	if (name == 0 || name == sizeof(head->caip2))
		return stele_fail(STELE_ERR_INVALID, "an index without a chain's name");
	*columns = 1;
	for (size_t i = 0; i < n; i++) {
		const struct stele_index_entry *e = &entries[i];
		if (e->nparts == 0 || e->nparts > STELE_PARTS_MAX)
			return stele_fail(STELE_ERR_INVALID, "block %zu has %u parts", i,
			                  e->nparts);
		for (size_t k = 0; k < e->nparts; k++) {
			if (e->part[k].object >= head->nobjects)
				return stele_fail(STELE_ERR_INVALID, "block %zu: no object %u", i,
				                  e->part[k].object);
		}
		if (e->nparts > *columns)
			*columns = e->nparts;
	}
	return STELE_OK;
}

static void write_head(struct stele_writer *w, const struct stele_index_head *head,
                       const struct sorter *s, unsigned columns)
{
	char name[STELE_CAIP2_MAX] = {0};
	uint64_t first = STELE_HEIGHT_UNKNOWN, last = STELE_HEIGHT_UNKNOWN;
	for (size_t i = 0; i < s->n; i++) {
		const struct stele_index_entry *e = &s->entry[s->order[i]];
		if (e->height == STELE_HEIGHT_UNKNOWN || e->stale)
			continue;
		first = first == STELE_HEIGHT_UNKNOWN ? e->height : first;
		last = e->height;
	}
	memcpy(name, head->caip2, strlen(head->caip2));
	stele_write_bytes(w, magic, sizeof(magic));
	stele_write_u8(w, (uint8_t)head->family);
	stele_write_u8(w, (uint8_t)head->format);
	stele_write_u8(w, (uint8_t)head->level);
	stele_write_u8(w, (uint8_t)columns);
	stele_write_le16(w, head->nobjects);
	stele_write_le16(w, head->has_xor);
	stele_write_le32(w, (uint32_t)s->n);
	stele_write_le32(w, (uint32_t)s->outsides);
	if (head->has_xor)
		stele_write_bytes(w, head->xor_key, STELE_XOR_KEY_LEN);
	else
		stele_write_zero(w, STELE_XOR_KEY_LEN);
	stele_write_le64(w, first);
	stele_write_le64(w, last);
	stele_write_bytes(w, name, sizeof(name));
	stele_write_zero(w, STELE_INDEX_HEADER - stele_written(w));
}

static void write_entry(struct stele_writer *w, const struct sorter *s, size_t i, unsigned columns)
{
	const struct stele_index_entry *e = &s->entry[s->order[i]];
	uint32_t parent = place_of(s, &e->parent);
	stele_write_hash(w, &e->hash);
	stele_write_le64(w, e->height);
	stele_write_le32(w, parent < s->n ? parent : outside_of(s, &e->parent));
	stele_write_u8(w, (uint8_t)((e->stale ? FLAG_STALE : 0) | (e->linked ? FLAG_LINKED : 0)));
	stele_write_u8(w, e->nparts);
	stele_write_zero(w, 2);
	for (size_t k = 0; k < e->nparts; k++) {
		const struct stele_part *p = &e->part[k];
		stele_write_le64(w, p->offset);
		stele_write_le32(w, p->length);
		stele_write_le16(w, p->object);
		stele_write_u8(w, p->kind);
		stele_write_u8(w, p->encoding);
	}
	stele_write_zero(w, (size_t)PART_LEN * (columns - e->nparts));
}

static enum stele_err encode(const struct stele_index_head *head, const struct stele_hash *objects,
                             const struct sorter *s, unsigned columns, uint8_t **out,
                             size_t *out_len)
{
	size_t len = STELE_INDEX_HEADER + (size_t)head->nobjects * STELE_HASH_LEN +
	             s->n * (entry_len(columns) + 4) + s->outsides * STELE_HASH_LEN;
	uint8_t *bytes = malloc(len);
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "an index of %zu bytes", len);
	struct stele_writer w = stele_writer(bytes, len);
	write_head(&w, head, s, columns);
	for (size_t i = 0; i < head->nobjects; i++)
		stele_write_hash(&w, &objects[i]);
	for (size_t i = 0; i < s->n; i++)
		write_entry(&w, s, i, columns);
	for (size_t i = 0; i < s->n; i++)
		stele_write_le32(&w, s->by_hash[i]);
	for (size_t i = 0; i < s->outsides; i++)
		stele_write_hash(&w, &s->outside[i]);
	assert(!w.bad && stele_written(&w) == len);
	*out = bytes;
	*out_len = len;
	return STELE_OK;
}

enum stele_err stele_index_encode(const struct stele_index_head *head,
                                  const struct stele_hash *objects,
                                  const struct stele_index_entry *entries, size_t n, uint8_t **out,
                                  size_t *out_len)
{
	unsigned columns = 0;
	STELE_TRY(check_given(head, entries, n, &columns));
	struct sorter s = {.entry = entries};
	s.order = malloc(n * sizeof(*s.order));
	s.by_hash = malloc(n * sizeof(*s.by_hash));
	s.outside = malloc(n * sizeof(*s.outside));
	enum stele_err err = stele_fail(STELE_ERR_NOMEM, "an index of %zu blocks", n);
	if (s.order && s.by_hash && s.outside) {
		sort_all(&s, n);
		err = encode(head, objects, &s, columns, out, out_len);
	}
	free(s.order);
	free(s.by_hash);
	free(s.outside);
	return err;
}

/* ---- reading ---- */

static const uint8_t *entry_at(const struct stele_index *ix, uint32_t i)
{
	return ix->entries + (size_t)i * entry_len(ix->columns);
}

static struct stele_hash hash_at(const uint8_t *p)
{
	struct stele_hash h;
	memcpy(h.b, p, sizeof(h.b));
	return h;
}

static enum stele_err open_head(struct stele_reader *r, struct stele_index *ix)
{
	const uint8_t *m = stele_read_span(r, sizeof(magic));
	if (!m || memcmp(m, magic, 7) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "not a segment's index");
	if (m[7] != INDEX_VERSION)
		return stele_fail(STELE_ERR_VERSION, "a segment's index of version %c", m[7]);
	struct stele_index_head *h = &ix->head;
	h->family = stele_read_u8(r);
	h->format = stele_read_u8(r);
	h->level = stele_read_u8(r);
	ix->columns = stele_read_u8(r);
	h->nobjects = stele_read_le16(r);
	uint16_t flags = stele_read_le16(r);
	ix->count = stele_read_le32(r);
	ix->outside = stele_read_le32(r);
	const uint8_t *key = stele_read_span(r, STELE_XOR_KEY_LEN);
	h->first_height = stele_read_le64(r);
	h->last_height = stele_read_le64(r);
	const uint8_t *name = stele_read_span(r, STELE_CAIP2_MAX);
	const uint8_t *rest = stele_read_span(r, STELE_INDEX_HEADER - 96);
	if (r->bad)
		return stele_fail(STELE_ERR_CORRUPT, "index header is cut");
	size_t n = strnlen((const char *)name, STELE_CAIP2_MAX);
	bool fits = ix->columns >= 1 && ix->columns <= STELE_PARTS_MAX && h->nobjects >= 1 &&
	            h->nobjects <= STELE_INDEX_OBJECTS_MAX && ix->count >= 1 &&
	            ix->count <= STELE_INDEX_BLOCKS_MAX && ix->outside <= ix->count && flags <= 1 &&
	            n > 0 && n < STELE_CAIP2_MAX;
	if (!fits || !stele_all_zero(name + n, STELE_CAIP2_MAX - n) ||
	    !stele_all_zero(rest, STELE_INDEX_HEADER - 96) ||
	    (!flags && !stele_all_zero(key, STELE_XOR_KEY_LEN)))
		return stele_fail(STELE_ERR_CORRUPT, "index header has impossible values");
	h->has_xor = flags == 1;
	memcpy(h->xor_key, key, STELE_XOR_KEY_LEN);
	memcpy(h->caip2, name, STELE_CAIP2_MAX);
	return STELE_OK;
}

static enum stele_err check_entry(const struct stele_index *ix, uint32_t i)
{
	const uint8_t *e = entry_at(ix, i);
	unsigned flags = e[44], nparts = e[45];
	if (stele_le32(e + 40) >= ix->count + ix->outside || flags > 3 || nparts == 0 ||
	    nparts > ix->columns || stele_le16(e + 46) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "index entry %u has impossible values", i);
	for (unsigned k = 0; k < ix->columns; k++) {
		const uint8_t *p = e + ENTRY_FIXED + (size_t)PART_LEN * k;
		if (k >= nparts ? !stele_all_zero(p, PART_LEN)
		                : stele_le16(p + 12) >= ix->head.nobjects)
			return stele_fail(STELE_ERR_CORRUPT, "index entry %u: part %u", i, k);
	}
	if (i == 0)
		return STELE_OK;
	/* ascending by height, stale last, hash: so that halving finds what is there */
	const uint8_t *before = entry_at(ix, i - 1);
	uint64_t a = stele_le64(before + 32), b = stele_le64(e + 32);
	int stale = (int)(before[44] & FLAG_STALE) - (int)(e[44] & FLAG_STALE);
	if (a > b || (a == b && (stale > 0 || (stale == 0 && memcmp(before, e, 32) >= 0))))
		return stele_fail(STELE_ERR_CORRUPT, "index entry %u is out of order", i);
	return STELE_OK;
}

static enum stele_err check_tables(const struct stele_index *ix)
{
	for (uint32_t i = 0; i < ix->count; i++)
		STELE_TRY(check_entry(ix, i));
	for (uint32_t i = 0; i < ix->count; i++) {
		uint32_t at = stele_le32(ix->by_hash + 4 * (size_t)i);
		if (at >= ix->count ||
		    (i > 0 && memcmp(entry_at(ix, stele_le32(ix->by_hash + 4 * (size_t)(i - 1))),
		                     entry_at(ix, at), STELE_HASH_LEN) >= 0))
			return stele_fail(STELE_ERR_CORRUPT, "index by hash: %u is out of order",
			                  i);
	}
	for (uint32_t i = 1; i < ix->outside; i++) {
		const uint8_t *p = ix->outside_parents + (size_t)STELE_HASH_LEN * i;
		if (memcmp(p - STELE_HASH_LEN, p, STELE_HASH_LEN) >= 0)
			return stele_fail(STELE_ERR_CORRUPT,
			                  "index's outside parent %u is out of order", i);
	}
	return STELE_OK;
}

enum stele_err stele_index_open(const void *bytes, size_t len, struct stele_index *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	struct stele_index ix = {0};
	STELE_TRY(open_head(&r, &ix));
	ix.objects = stele_read_span(&r, (size_t)ix.head.nobjects * STELE_HASH_LEN);
	ix.entries = stele_read_span(&r, ix.count * entry_len(ix.columns));
	ix.by_hash = stele_read_span(&r, (size_t)ix.count * 4);
	ix.outside_parents = stele_read_span(&r, (size_t)ix.outside * STELE_HASH_LEN);
	if (!stele_read_done(&r))
		return stele_fail(STELE_ERR_CORRUPT,
		                  "index of %u blocks has a wrong length (%zu bytes)", ix.count,
		                  len);
	STELE_TRY(check_tables(&ix));
	*out = ix;
	return STELE_OK;
}

void stele_index_object(const struct stele_index *ix, uint16_t i, struct stele_hash *out)
{
	assert(i < ix->head.nobjects);
	*out = hash_at(ix->objects + (size_t)STELE_HASH_LEN * i);
}

void stele_index_entry(const struct stele_index *ix, uint32_t i, struct stele_index_entry *out)
{
	assert(i < ix->count);
	const uint8_t *e = entry_at(ix, i);
	uint32_t parent = stele_le32(e + 40);
	*out = (struct stele_index_entry){
	    .hash = hash_at(e),
	    .parent = parent < ix->count ? hash_at(entry_at(ix, parent))
	                                 : hash_at(ix->outside_parents +
	                                           (size_t)STELE_HASH_LEN * (parent - ix->count)),
	    .height = stele_le64(e + 32),
	    .linked = e[44] & FLAG_LINKED,
	    .stale = e[44] & FLAG_STALE,
	    .nparts = e[45],
	};
	for (unsigned k = 0; k < out->nparts; k++) {
		const uint8_t *p = e + ENTRY_FIXED + (size_t)PART_LEN * k;
		out->part[k] = (struct stele_part){.offset = stele_le64(p),
		                                   .length = stele_le32(p + 8),
		                                   .object = stele_le16(p + 12),
		                                   .kind = p[14],
		                                   .encoding = p[15]};
	}
}

enum stele_err stele_index_find_height(const struct stele_index *ix, uint64_t height,
                                       struct stele_index_entry *out)
{
	uint32_t low = 0, high = ix->count;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (stele_le64(entry_at(ix, mid) + 32) < height)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == ix->count || height == STELE_HEIGHT_UNKNOWN ||
	    stele_le64(entry_at(ix, low) + 32) != height || (entry_at(ix, low)[44] & FLAG_STALE))
		return STELE_ERR_NOT_FOUND;
	stele_index_entry(ix, low, out);
	return STELE_OK;
}

enum stele_err stele_index_find_hash(const struct stele_index *ix, const struct stele_hash *hash,
                                     struct stele_index_entry *out)
{
	uint32_t low = 0, high = ix->count;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		uint32_t at = stele_le32(ix->by_hash + 4 * (size_t)mid);
		int c = memcmp(entry_at(ix, at), hash->b, STELE_HASH_LEN);
		if (c == 0) {
			stele_index_entry(ix, at, out);
			return STELE_OK;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return STELE_ERR_NOT_FOUND;
}
