/* Random deposits and marks from a seed, and a check that a text decoder is canonical: what tests
 * of signed statements share. */
#ifndef TESTS_UNIT_STATEMENTS_H
#define TESTS_UNIT_STATEMENTS_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "storage/base/deposit.h"
#include "tests/unit/guard.h"

static inline bool statement_coin(uint64_t *seed)
{
	return guard_random(seed) >> 40 & 1;
}

static inline void statement_caip2(uint64_t *seed, char out[STELE_CAIP2_MAX])
{
	static const char *const some[] = {"eip155:1", "bip122:000000000019d6689c085ae165831e93",
	                                   "abcdefgh:ABCDEFGHIJ_LMNOPQRSTUVWXYZ-12345", "a-1:x"};
	memset(out, 0, STELE_CAIP2_MAX);
	strcpy(out, some[(guard_random(seed) >> 33) % 4]);
}

/* A u64 of a random magnitude, so that every number of digits appears. */
static inline uint64_t statement_u64(uint64_t *seed)
{
	uint64_t v = guard_random(seed);
	return v >> (guard_random(seed) >> 33) % 64;
}

static inline void statement_deposit(uint64_t *seed, struct stele_deposit *d)
{
	memset(d, 0, sizeof(*d));
	guard_fill(seed, d->cluster.b, 32);
	d->type = (enum stele_deposit_type)(1 + (guard_random(seed) >> 33) % 4);
	guard_fill(seed, d->object.b, 32);
	d->length = statement_u64(seed);
	guard_fill(seed, d->tree.b, 32);
	d->has_layout = d->length > STELE_INLINE_MAX || (d->length && statement_coin(seed));
	if (d->has_layout)
		guard_fill(seed, d->layout.b, 32);
	snprintf(d->pool, sizeof(d->pool), "pool-%u", (unsigned)(guard_random(seed) >> 40));
	guard_fill(seed, d->depositor.b, 32);
	d->time = statement_u64(seed);
	d->has_after = statement_coin(seed);
	if (d->has_after) {
		statement_caip2(seed, d->after.caip2);
		d->after.height = statement_u64(seed);
		guard_fill(seed, d->after.hash.b, 32);
	}
	d->has_chain = statement_coin(seed);
	if (d->has_chain) {
		statement_caip2(seed, d->chain.caip2);
		d->chain.last = statement_u64(seed);
		d->chain.first = d->chain.last / 3;
		guard_fill(seed, d->chain.first_hash.b, 32);
		guard_fill(seed, d->chain.last_hash.b, 32);
	}
	d->has_meta = statement_coin(seed);
	if (d->has_meta)
		guard_fill(seed, d->meta.b, 32);
	d->has_plain = statement_coin(seed);
	if (d->has_plain)
		guard_fill(seed, d->plain.b, 32);
	d->has_sm3 = statement_coin(seed);
	if (d->has_sm3)
		guard_fill(seed, d->sm3.b, 32);
	guard_fill(seed, d->nonce.b, 32);
}

static inline void statement_mark(uint64_t *seed, enum stele_mark_kind kind, struct stele_mark *m)
{
	memset(m, 0, sizeof(*m));
	guard_fill(seed, m->cluster.b, 32);
	m->kind = kind;
	guard_fill(seed, m->object.b, 32);
	m->has_deposit = kind != STELE_MARK_CATALOGUE;
	if (m->has_deposit)
		guard_fill(seed, m->deposit.b, 32);
	guard_fill(seed, m->author.b, 32);
	m->time = statement_u64(seed);
	guard_fill(seed, m->nonce.b, 32);
	switch (kind) {
	case STELE_MARK_DELETE:
		break;
	case STELE_MARK_HOLD:
	case STELE_MARK_RELEASE:
		snprintf(m->u.hold.reason, STELE_NAME_MAX, "case %u, \u7b2c\u4e00\u5ba1",
		         (unsigned)(guard_random(seed) >> 40));
		break;
	case STELE_MARK_LAYOUT:
		m->u.layout.generation = 1 + (uint32_t)(guard_random(seed) >> 33);
		guard_fill(seed, m->u.layout.piece.block.b, 32);
		m->u.layout.piece.off = (uint32_t)(guard_random(seed) >> 41);
		m->u.layout.piece.len = 1 + (uint32_t)(guard_random(seed) >> 41);
		break;
	case STELE_MARK_LOGGED:
		guard_fill(seed, m->u.logged.logid.b, 32);
		m->u.logged.index = statement_u64(seed);
		break;
	case STELE_MARK_PRUNED:
		snprintf(m->u.pruned.node, STELE_NAME_MAX, "geth-%u",
		         (unsigned)(guard_random(seed) >> 40));
		statement_caip2(seed, m->u.pruned.caip2);
		m->u.pruned.height = statement_u64(seed);
		break;
	case STELE_MARK_CATALOGUE:
		statement_caip2(seed, m->u.catalogue.caip2);
		stele_catalogue_id(m->u.catalogue.caip2, &m->object);
		m->u.catalogue.last = statement_u64(seed);
		m->u.catalogue.first = m->u.catalogue.last / 2;
		m->u.catalogue.count = statement_u64(seed);
		guard_fill(seed, m->u.catalogue.first_parent.b, 32);
		guard_fill(seed, m->u.catalogue.last_hash.b, 32);
		guard_fill(seed, m->u.catalogue.segment.b, 32);
		guard_fill(seed, m->u.catalogue.index.b, 32);
		m->u.catalogue.linked = statement_coin(seed);
		break;
	}
}

/* Field by field: padding has no meaning. */
#define SAME(field) (memcmp(&a->field, &b->field, sizeof(a->field)) == 0)

static inline bool statement_deposit_same(const struct stele_deposit *a,
                                          const struct stele_deposit *b)
{
	return SAME(cluster) && SAME(type) && SAME(object) && SAME(length) && SAME(tree) &&
	       SAME(has_layout) && SAME(layout) && strcmp(a->pool, b->pool) == 0 &&
	       SAME(depositor) && SAME(time) && SAME(has_after) && SAME(after.caip2) &&
	       SAME(after.height) && SAME(after.hash) && SAME(has_chain) && SAME(chain.caip2) &&
	       SAME(chain.first) && SAME(chain.last) && SAME(chain.first_hash) &&
	       SAME(chain.last_hash) && SAME(has_meta) && SAME(meta) && SAME(has_plain) &&
	       SAME(plain) && SAME(has_sm3) && SAME(sm3) && SAME(nonce);
}

static inline bool statement_mark_same(const struct stele_mark *a, const struct stele_mark *b)
{
	if (!(SAME(cluster) && SAME(kind) && SAME(object) && SAME(has_deposit) && SAME(deposit) &&
	      SAME(author) && SAME(time) && SAME(nonce)))
		return false;
	switch (a->kind) {
	case STELE_MARK_DELETE:
		return true;
	case STELE_MARK_HOLD:
	case STELE_MARK_RELEASE:
		return SAME(u.hold.reason);
	case STELE_MARK_LAYOUT:
		return SAME(u.layout.generation) && SAME(u.layout.piece);
	case STELE_MARK_LOGGED:
		return SAME(u.logged.logid) && SAME(u.logged.index);
	case STELE_MARK_PRUNED:
		return SAME(u.pruned.node) && SAME(u.pruned.caip2) && SAME(u.pruned.height);
	case STELE_MARK_CATALOGUE:
		return SAME(u.catalogue.caip2) && SAME(u.catalogue.first) &&
		       SAME(u.catalogue.last) && SAME(u.catalogue.count) &&
		       SAME(u.catalogue.first_parent) && SAME(u.catalogue.last_hash) &&
		       SAME(u.catalogue.segment) && SAME(u.catalogue.index) &&
		       SAME(u.catalogue.linked);
	}
	return false;
}
#undef SAME

/* Decodes text and writes what it got again; returns the decoder's error. `again` has room. */
typedef enum stele_err (*statement_again)(const char *text, size_t len, char *again, size_t *alen);

static inline void statement_try(const char *text, size_t len, statement_again f, size_t *accepted)
{
	char again[STELE_MARK_MAX];
	size_t alen = 0;
	char *exact = malloc(len ? len : 1); /* so that a sanitizer sees a read behind its end */
	cr_assert_not_null(exact);
	memcpy(exact, text, len);
	enum stele_err err = f(exact, len, again, &alen);
	if (err == STELE_OK) {
		++*accepted;
		cr_assert_eq(alen, len);
		cr_assert_eq(memcmp(again, text, len), 0, "accepted a text that is not canonical");
	} else {
		cr_assert_eq(err, STELE_ERR_CORRUPT, "%s", stele_detail());
	}
	free(exact);
}

/* Every byte changed to every other value, removed, doubled, and every cut: each result is refused,
 * or is the canonical text of other fields. Returns how many were accepted. */
static inline size_t statement_mutate(const char *text, size_t len, statement_again f)
{
	char t[STELE_MARK_MAX + 2];
	size_t accepted = 0;
	cr_assert_leq(len, STELE_MARK_MAX);
	for (size_t i = 0; i < len; i++) {
		memcpy(t, text, len);
		for (unsigned v = 1; v < 256; v++) {
			t[i] = (char)(text[i] ^ (int)v);
			statement_try(t, len, f, &accepted);
		}
		memcpy(t + i, text + i + 1, len - i - 1);
		statement_try(t, len - 1, f, &accepted);
		memcpy(t, text, i + 1);
		memcpy(t + i + 1, text + i, len - i);
		statement_try(t, len + 1, f, &accepted);
		statement_try(text, i, f, &accepted);
	}
	return accepted;
}

#endif
