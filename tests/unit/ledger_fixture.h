/*
 * What tests of chain files share: real files from STELE_TEST_DATA (absent: the test says so and is
 * skipped), files mined on the spot, and one parse that remembers all that was reported.
 */
#ifndef TESTS_UNIT_LEDGER_FIXTURE_H
#define TESTS_UNIT_LEDGER_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/sha256.h"
#include "storage/ledger/format.h"
#include "tests/unit/mined.h"
#include "tests/unit/guard.h"

static inline struct blob data_file(const char *name)
{
	char path[4096];
	struct blob b = {0};
	const char *dir = getenv("STELE_TEST_DATA");
	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "", name);
	FILE *f = dir ? fopen(path, "rb") : NULL;
	if (!f)
		cr_skip_test("no %s: set STELE_TEST_DATA to the folder with real chain data", name);
	uint8_t piece[65536];
	size_t n;
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		blob_add(&b, piece, n);
	fclose(f);
	return b;
}

/* All that a parse reported. */
struct seen {
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	struct stele_file_facts facts;
	struct stele_found_block *block; /* tx_ids are cleared: see `digest` */
	size_t blocks, blocks_cap;
	struct stele_gap gap[64];
	size_t gaps;
	struct stele_sha256_stream stream; /* over every field of every event */
	struct stele_hash digest;
};

static inline enum stele_err seen_block(void *ctx, const struct stele_found_block *b)
{
	struct seen *s = ctx;
	if (s->blocks == s->blocks_cap) {
		s->blocks_cap = 2 * s->blocks_cap + 16;
		s->block = realloc(s->block, s->blocks_cap * sizeof(*s->block));
		cr_assert(s->block);
	}
	s->block[s->blocks] = *b;
	s->block[s->blocks++].tx_ids = NULL;
	stele_sha256_update(&s->stream, b->hash.b, 32);
	stele_sha256_update(&s->stream, b->parent.b, 32);
	stele_sha256_update(&s->stream, &b->height, 8);
	for (size_t i = 0; i < b->nparts; i++) {
		stele_sha256_update(&s->stream, &b->part[i].offset, 8);
		stele_sha256_update(&s->stream, &b->part[i].length, 4);
		stele_sha256_update(&s->stream, &b->part[i].kind, 1);
		stele_sha256_update(&s->stream, &b->part[i].encoding, 1);
	}
	stele_sha256_update(&s->stream, &b->tx_count, 4);
	if (b->tx_ids)
		stele_sha256_update(&s->stream, b->tx_ids, 32 * (size_t)b->tx_count);
	return STELE_OK;
}

static inline enum stele_err seen_gap(void *ctx, const struct stele_gap *g)
{
	struct seen *s = ctx;
	if (s->gaps < 64)
		s->gap[s->gaps] = *g;
	s->gaps++;
	stele_sha256_update(&s->stream, &g->offset, 8);
	stele_sha256_update(&s->stream, &g->length, 8);
	return STELE_OK;
}

/* Parses bytes; pieces 0: in one piece, else of random sizes up to about that many bytes. */
static inline void seen_parse(struct seen *s, struct stele_parser_opts opts, const void *bytes,
                              size_t len, size_t pieces, uint64_t seed)
{
	struct stele_parser *p;
	const uint8_t *at = bytes;
	*s = (struct seen){0};
	stele_sha256_init(&s->stream);
	opts.on_block = seen_block;
	opts.on_gap = seen_gap;
	opts.ctx = s;
	opts.want_tx_ids = true;
	s->err = stele_parser_create(&opts, &p);
	if (s->err != STELE_OK) {
		stele_detail_copy(s->detail);
		return;
	}
	uint64_t random = seed | 1;
	while (len && s->err == STELE_OK) {
		size_t n = pieces ? 1 + (size_t)(guard_random(&random) >> 20) % pieces : len;
		n = n < len ? n : len;
		/* memory of its own, so that a parser that keeps a pointer is found out */
		uint8_t *piece = pieces ? malloc(n) : NULL;
		if (piece)
			memcpy(piece, at, n);
		s->err = stele_parser_feed(p, piece ? piece : at, n);
		free(piece);
		at += n;
		len -= n;
	}
	if (s->err == STELE_OK)
		s->err = stele_parser_finish(p, &s->facts);
	if (s->err != STELE_OK)
		stele_detail_copy(s->detail);
	stele_parser_destroy(p);
	stele_sha256_value(&s->stream, &s->digest);
}

static inline void seen_free(struct seen *s)
{
	free(s->block);
	s->block = NULL;
}

static inline void hash_from(enum stele_chain_family family, const char *text,
                             struct stele_hash *out)
{
	cr_assert_eq(stele_chain_hash_parse(family, text, out), STELE_OK);
}

static inline bool hash_is(enum stele_chain_family family, const struct stele_hash *hash,
                           const char *text)
{
	char hex[STELE_HEX_LEN];
	stele_chain_hash_text(family, hash, hex);
	return strncmp(hex, text, strlen(text)) == 0;
}

#endif
