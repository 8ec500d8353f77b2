/*
 * Goal: the session, over real nodes on simulated machines, stores and returns bytes exactly, says truthfully what it
 * could not do and why, finds, marks, lists and surveys what is there, and ends every request that is cancelled.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/columns.h"
#include "erasure/shard_meta.h"
#include "storage/base/sha256.h"
#include "tests/sim/world.h"

#define NODES 8u

struct bytes {
	uint8_t *p;
	size_t len, at;
	size_t step; /* at most so many bytes a read; 0: all */
	enum stele_err fail;
	uint32_t restarts;
};

static struct bytes bytes_random(uint64_t seed, size_t len)
{
	struct bytes b = {.p = malloc(len ? len : 1), .len = len};
	struct stele_prng rng;
	cr_assert(b.p);
	stele_prng_init(&rng, seed);
	stele_prng_fill(&rng, b.p, len);
	return b;
}

static enum stele_err read_bytes(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct bytes *b = ctx;
	*got = b->len - b->at < cap ? b->len - b->at : cap;
	if (b->step && *got > b->step)
		*got = b->step;
	if (*got == 0 && b->fail)
		return stele_fail(b->fail, "the source broke");
	memcpy(buf, b->p + b->at, *got);
	b->at += *got;
	return STELE_OK;
}

static enum stele_err write_bytes(void *ctx, const void *bytes, size_t len)
{
	struct bytes *b = ctx;
	if (b->fail)
		return stele_fail(b->fail, "the sink broke");
	cr_assert_leq(b->at + len, b->len, "more bytes than were asked for");
	memcpy(b->p + b->at, bytes, len);
	b->at += len;
	return STELE_OK;
}

/* ---- running requests ---- */

static bool done;

#define DONE(name, type)                                                                           \
	static void name(struct type *req)                                                         \
	{                                                                                          \
		(void)req;                                                                         \
		done = true;                                                                       \
	}
DONE(put_cb, stele_put_request)
DONE(get_cb, stele_get_request)
DONE(find_cb, stele_find_request)
DONE(mark_cb, stele_mark_request)
DONE(list_cb, stele_list_request)
DONE(survey_cb, stele_survey_request)

static bool is_done(void *ctx)
{
	(void)ctx;
	return done;
}

static void wait(struct world *w)
{
	cr_assert(world_run(w, is_done, NULL, 600), "a request does not end");
	done = false;
}

static enum stele_err put(struct world *w, struct bytes *b, uint64_t length,
                          struct stele_put_request *req)
{
	*req = (struct stele_put_request){.source = {read_bytes, b, length}, .cb = put_cb};
	b->at = 0;
	stele_session_put(w->session, req);
	wait(w);
	return req->err;
}

static struct stele_hash put_ok(struct world *w, struct bytes *b)
{
	struct stele_put_request req;
	struct stele_hash id;
	cr_assert_eq(put(w, b, b->len, &req), STELE_OK, "%s", req.detail);
	stele_sha256(b->p, b->len, &id);
	cr_assert(stele_hash_equal(&req.result.object, &id), "not the plain SHA-256");
	cr_assert_eq(req.result.length, b->len);
	cr_assert_eq(req.result.margin, 2);
	return id;
}

static enum stele_err get(struct world *w, const struct stele_hash *id, uint64_t off, uint64_t len,
                          struct bytes *into, struct stele_get_request *req)
{
	*req = (struct stele_get_request){
	    .id = *id, .opts = {.off = off, .len = len}, .sink = {write_bytes, into}, .cb = get_cb};
	into->at = 0;
	stele_session_get(w->session, req);
	wait(w);
	return req->err;
}

static void get_same(struct world *w, const struct stele_hash *id, const struct bytes *want,
                     struct stele_get_request *req)
{
	struct bytes have = {.p = malloc(want->len ? want->len : 1), .len = want->len};
	cr_assert_eq(get(w, id, 0, UINT64_MAX, &have, req), STELE_OK, "%s", req->detail);
	cr_assert_eq(have.at, want->len);
	cr_assert_arr_eq(have.p, want->p, want->len);
	cr_assert_eq(req->result.length, want->len);
	cr_assert(req->result.whole_hash_checked);
	free(have.p);
}

static struct world *world_new(uint64_t seed, const char *code)
{
	struct world *w = malloc(sizeof(*w));
	cr_assert(w);
	world_create(w, seed, NODES, code, 1000, false);
	/* The directories of the disks stand before anything is stored: they outlive a loss of power. */
	for (uint32_t i = 0; i < NODES; i++) {
		char dir[24];
		snprintf(dir, sizeof(dir), "/%s", w->node[i].machine);
		cr_assert_eq(stele_file_sync_dir(w->node[i].env, "/"), STELE_OK);
		cr_assert_eq(stele_file_sync_dir(w->node[i].env, dir), STELE_OK);
	}
	return w;
}

static void world_free(struct world *w)
{
	world_destroy(w);
	free(w);
}

/* ---- tests ---- */

static const size_t sizes[] = {
    0,      1,       4096,          65535,    65536,          65537,
    200000, 1 << 20, (1 << 20) + 1, 16 << 20, (16 << 20) + 1, (33 << 20) + 12345};

Test(client, put_and_get_every_size)
{
	static const char *codes[] = {"rs-4-2", "lrc-4-2-2", "rep-3"};
	for (uint32_t c = 0; c < 3; c++) {
		struct world *w = world_new(c + 1, codes[c]);
		for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct bytes b = bytes_random(i + 1, sizes[i]);
			struct stele_put_request p;
			struct stele_get_request g;
			struct stele_hash id;
			if (c == 2 &&
			    b.len > 2 << 20) { /* the model's extents are too small for it */
				free(b.p);
				continue;
			}
			b.step = i % 2 ? 50000 : 0;
			cr_assert_eq(put(w, &b, i % 3 ? b.len : UINT64_MAX, &p), STELE_OK, "%s: %s",
			             codes[c], p.detail);
			stele_sha256(b.p, b.len, &id);
			cr_assert(stele_hash_equal(&p.result.object, &id));
			cr_assert_geq(p.result.bytes_sent, b.len * 3 / 2);
			get_same(w, &id, &b, &g);
			cr_assert_eq(g.result.blocks_degraded + g.result.shards_bad, 0u);
			free(b.p);
		}
		world_free(w);
	}
}

/* A source that was said to be shorter or longer than it is. */
Test(client, wrong_length_hints)
{
	struct world *w = world_new(5, "rs-4-2");
	static const uint64_t hints[] = {0, 1, 99999, 100001, 1 << 20, 40 << 20};
	for (uint32_t i = 0; i < 6; i++) {
		struct bytes b = bytes_random(i + 70, 100000);
		struct stele_put_request p;
		struct stele_get_request g;
		cr_assert_eq(put(w, &b, hints[i], &p), STELE_OK);
		get_same(w, &p.result.object, &b, &g);
		free(b.p);
	}
	world_free(w);
}

Test(client, ranges)
{
	struct world *w = world_new(2, "rs-4-2");
	struct bytes b = bytes_random(3, (17 << 20) + 777), small = bytes_random(4, 1000);
	struct stele_hash id = put_ok(w, &b), small_id = put_ok(w, &small);
	struct bytes have = {.p = malloc(b.len), .len = b.len};
	struct stele_get_request g;
	for (uint32_t i = 0; i < 60; i++) {
		uint64_t off = stele_prng_below(&w->rng, b.len);
		uint64_t len = 1 + stele_prng_below(&w->rng, i % 2 ? 100000 : b.len - off);
		if (len > b.len - off)
			len = b.len - off;
		if (i == 30) /* degraded from here on */
			world_stop_node(w, 3, false);
		cr_assert_eq(get(w, &id, off, len, &have, &g), STELE_OK, "%s", g.detail);
		cr_assert_eq(have.at, len);
		cr_assert_arr_eq(have.p, b.p + off, len);
	}
	cr_assert_eq(get(w, &small_id, 10, 20, &have, &g), STELE_OK);
	cr_assert(have.at == 20 && memcmp(have.p, small.p + 10, 20) == 0);
	cr_assert_eq(get(w, &small_id, 0, 0, &have, &g), STELE_OK);
	cr_assert_eq(have.at, 0u);
	cr_assert_eq(get(w, &small_id, 990, 11, &have, &g), STELE_ERR_USAGE);
	cr_assert_eq(get(w, &small_id, 1001, UINT64_MAX, &have, &g), STELE_ERR_USAGE);
	free(have.p);
	free(b.p);
	free(small.p);
	world_free(w);
}

/* Two of eight gone: everything is read. A third: what is beyond tolerance is refused, and what is missing is named. */
Test(client, lost_nodes)
{
	struct world *w = world_new(3, "rs-4-2");
	struct bytes b = bytes_random(3, 5 << 20), small = bytes_random(4, 1000);
	struct bytes have = {.p = malloc(b.len), .len = b.len};
	struct stele_hash id = put_ok(w, &b), small_id = put_ok(w, &small);
	struct stele_get_request g;
	uint32_t refused = 0;
	for (uint32_t x = 0; x < NODES; x++) {
		uint32_t y = (x + 1) % NODES, z = (x + 2) % NODES;
		world_stop_node(w, x, false);
		world_stop_node(w, y, true);
		get_same(w, &id, &b, &g);
		get_same(w, &small_id, &small, &g);
		world_stop_node(w, z, false);
		enum stele_err err = get(w, &id, 0, UINT64_MAX, &have, &g);
		cr_assert(err == STELE_OK || err == STELE_ERR_UNAVAILABLE);
		if (err != STELE_OK) {
			refused++;
			cr_assert_eq(have.at, 0u);
			cr_assert(strstr(g.detail, "missing") && strstr(g.detail, "node"), "%s",
			          g.detail);
		}
		world_start_node(w, x);
		world_start_node(w, y);
		world_start_node(w, z);
		world_sleep(w, 1); /* until the client tries them again */
	}
	cr_assert(refused > 0);
	free(have.p);
	free(b.p);
	free(small.p);
	world_free(w);
}

/* P6: "not found" needs the whole window. */
Test(client, not_found_or_unavailable)
{
	struct world *w = world_new(4, "rs-4-2");
	struct stele_hash id = {{1, 2, 3}};
	struct bytes have = {.p = malloc(1), .len = 0};
	struct stele_get_request g;
	cr_assert_eq(get(w, &id, 0, UINT64_MAX, &have, &g), STELE_ERR_NOT_FOUND, "%s", g.detail);
	uint32_t unavailable = 0;
	for (uint32_t i = 0; i < NODES; i++) {
		world_stop_node(w, i, false);
		enum stele_err err = get(w, &id, 0, UINT64_MAX, &have, &g);
		if (err == STELE_ERR_UNAVAILABLE) {
			char node[16];
			snprintf(node, sizeof(node), "node %u ", w->node[i].id);
			cr_assert(strstr(g.detail, node), "%s", g.detail);
			unavailable++;
		} else {
			cr_assert_eq(err, STELE_ERR_NOT_FOUND);
		}
		world_start_node(w, i);
		world_sleep(w, 1); /* until the client tries it again */
	}
	cr_assert_eq(unavailable, 7u); /* the record pool's window: 2t + 3 disks */
	free(have.p);
	world_free(w);
}

/* Six disks left for six shards: full; five: degraded, and said so; then repaired reads are the same. */
Test(client, degraded_put)
{
	struct world *w = world_new(6, "rs-4-2");
	struct bytes b = bytes_random(9, 300000);
	struct stele_put_request p;
	struct stele_get_request g;
	world_stop_node(w, 0, false);
	world_stop_node(w, 1, false);
	put_ok(w, &b);
	world_stop_node(w, 2, false);
	b.p[0] ^= 1;
	cr_assert_eq(put(w, &b, b.len, &p), STELE_ERR_DEGRADED, "%s", p.detail);
	cr_assert_eq(p.result.margin, 1);
	get_same(w, &p.result.object, &b, &g);
	world_stop_node(w, 3, false);
	b.p[0] ^= 2;
	cr_assert_eq(put(w, &b, b.len, &p), STELE_ERR_UNAVAILABLE, "%s", p.detail);
	free(b.p);
	world_free(w);
}

/* A bit flipped on a disk: the right bytes all the same. */
Test(client, flipped_bits)
{
	struct world *w = world_new(7, "rs-4-2");
	struct bytes b = bytes_random(10, 8 << 20);
	struct stele_hash id = put_ok(w, &b);
	struct stele_get_request g;
	uint32_t bad = 0;
	for (uint32_t i = 0, n = 0; n < 2; i++) {
		cr_assert_lt(i, NODES);
		n += world_flip(w, i);
	}
	for (uint32_t k = 0; k < 3; k++) {
		get_same(w, &id, &b, &g);
		bad += g.result.shards_bad;
	}
	cr_assert(bad > 0);
	free(b.p);
	world_free(w);
}

Test(client, find_and_marks)
{
	struct world *w = world_new(8, "rs-4-2");
	struct bytes b = bytes_random(11, 100);
	struct stele_hash id = put_ok(w, &b), other;
	stele_catalogue_id("eip155:1", &other);
	put_ok(w, &b); /* a second deposit of the same object */
	struct stele_mark_request m = {.cb = mark_cb};
	m.mark.kind = STELE_MARK_CATALOGUE;
	m.mark.object = other;
	snprintf(m.mark.u.catalogue.caip2, sizeof(m.mark.u.catalogue.caip2), "eip155:1");
	m.mark.u.catalogue.count = 1;
	stele_session_mark(w->session, &m);
	wait(w);
	cr_assert_eq(m.err, STELE_OK, "%s", m.detail);
	struct stele_find_request f = {.id = id, .cb = find_cb};
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert_eq(f.err, STELE_OK, "%s", f.detail);
	cr_assert_eq(f.found.nrecords, 2u);
	cr_assert_eq(f.found.asked, f.found.answered);
	for (uint32_t i = 0; i < 2; i++)
		cr_assert(f.found.record[i].sig_ok && f.found.record[i].depositor_known &&
		          f.found.record[i].holders == 3);
	stele_found_finish(&f.found);
	f = (struct stele_find_request){.id = other, .cb = find_cb};
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert_eq(f.err, STELE_OK);
	cr_assert(f.found.nrecords == 0 && f.found.nmarks == 1 && f.found.mark[0].sig_ok);
	cr_assert(stele_hash_equal(&f.found.mark[0].id, &m.mark_id));
	stele_found_finish(&f.found);
	/* There are marks, but no object. */
	struct bytes have = {.p = b.p, .len = 0};
	struct stele_get_request g;
	cr_assert_eq(get(w, &other, 0, UINT64_MAX, &have, &g), STELE_ERR_NOT_FOUND);
	free(b.p);
	world_free(w);
}

/* P5: what a writer deposited stays readable when it is revoked; who never was one is not believed for being revoked. */
Test(client, revoked_depositors)
{
	struct world *w = world_new(33, "rs-4-2");
	struct bytes b = bytes_random(11, 100);
	struct stele_hash id = put_ok(w, &b);
	struct stele_client_entry *who = &stele_session_map(w->session)->client[0];
	cr_assert(stele_public_key_equal(&who->depositor, &w->client[0].sign.pub));
	uint32_t was = who->roles;
	for (uint32_t i = 0; i < 4; i++) {
		struct stele_find_request f = {.id = id, .cb = find_cb};
		struct stele_get_request g;
		bool writer = i % 2, revoked = i / 2;
		who->roles = writer ? was : STELE_ROLE_READER;
		who->revoked = revoked;
		stele_session_find(w->session, &f);
		wait(w);
		cr_assert_eq(f.found.nrecords, 1u);
		cr_assert_eq(f.found.record[0].depositor_known, writer);
		cr_assert_eq(f.found.record[0].depositor_revoked, revoked);
		stele_found_finish(&f.found);
		if (writer)
			get_same(w, &id, &b, &g);
		else
			cr_assert_eq(get(w, &id, 0, UINT64_MAX, &b, &g), STELE_ERR_CORRUPT);
	}
	free(b.p);
	world_free(w);
}

struct listed {
	uint32_t n;
	struct stele_hash last;
};

static bool list_each(void *ctx, const struct stele_hash *object, const struct stele_hash *deposit,
                      const uint8_t *bytes, uint32_t len)
{
	struct listed *l = ctx;
	(void)deposit;
	(void)bytes;
	cr_assert(len > 0);
	cr_assert(l->n == 0 || stele_hash_cmp(object, &l->last) >= 0, "not ascending");
	l->last = *object;
	l->n++;
	return true;
}

/* Each deposit once, ascending, whoever is down; many more than a page holds. */
Test(client, list)
{
	struct world *w = world_new(9, "rs-4-2");
	for (uint32_t i = 0; i < 60; i++) {
		struct bytes b = bytes_random(i + 500, 60000);
		put_ok(w, &b);
		free(b.p);
	}
	for (uint32_t down = 0; down < 3; down++) {
		struct listed l = {0};
		struct stele_list_request req = {.each = list_each, .each_ctx = &l, .cb = list_cb};
		stele_session_list(w->session, &req);
		wait(w);
		cr_assert_eq(req.err, STELE_OK);
		cr_assert_eq(l.n, 60u, "%u", l.n);
		cr_assert_eq(req.partial, down > 0);
		world_stop_node(w, down, false);
	}
	for (uint32_t i = 3; i < NODES; i++)
		world_stop_node(w, i, false);
	struct listed none = {0};
	struct stele_list_request req = {.each = list_each, .each_ctx = &none, .cb = list_cb};
	stele_session_list(w->session, &req);
	wait(w);
	cr_assert_eq(req.err, STELE_ERR_UNAVAILABLE);
	world_free(w);
}

Test(client, survey)
{
	struct world *w = world_new(10, "rs-4-2");
	struct bytes b = bytes_random(12, 3 << 20);
	struct stele_hash id = put_ok(w, &b);
	struct stele_find_request f = {.id = id, .cb = find_cb};
	struct stele_piece piece[STELE_PIECES_MAX];
	struct stele_record r;
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert_eq(
	    stele_record_decode(f.found.record[0].bytes, f.found.record[0].len, true, &r, piece),
	    STELE_OK);
	struct stele_survey_block block = {.block = piece[0].block};
	const struct stele_pool *pool = stele_map_pool_named(w->map, "evidence");
	for (uint32_t deep = 0; deep < 2; deep++) {
		struct stele_survey_request req = {
		    .pool = pool->id, .block = &block, .nblocks = 1, .deep = deep, .cb = survey_cb};
		stele_session_survey(w->session, &req);
		wait(w);
		cr_assert_eq(req.err, STELE_OK, "%s", req.detail);
		cr_assert_eq(block.there, 0x3fu);
		cr_assert_eq(block.bad, 0u);
		cr_assert_eq(block.bytes, deep ? b.len * 3 / 2 : 0);
	}
	world_stop_node(w, 0, false);
	struct stele_survey_request req = {
	    .pool = pool->id, .block = &block, .nblocks = 1, .cb = survey_cb};
	stele_session_survey(w->session, &req);
	wait(w);
	cr_assert_eq(__builtin_popcountll(block.silent), 1);
	cr_assert_geq(__builtin_popcountll(block.there), 5);
	stele_found_finish(&f.found);
	free(b.p);
	world_free(w);
}

/* Cancelled at every point of its life: ends once, and leaves nothing behind (ASan looks). */
Test(client, cancel)
{
	struct world *w = world_new(11, "rs-4-2");
	struct bytes b = bytes_random(13, 2 << 20);
	struct bytes have = {.p = malloc(b.len), .len = b.len};
	struct stele_hash id = put_ok(w, &b);
	uint32_t cancelled = 0;
	for (uint32_t steps = 0; steps < 240; steps += 3) {
		struct stele_put_request p = {.source = {read_bytes, &b, b.len}, .cb = put_cb};
		struct stele_get_request g = {.id = id,
		                              .opts = {.len = UINT64_MAX},
		                              .sink = {write_bytes, &have},
		                              .cb = get_cb};
		bool is_put = steps % 2;
		b.at = have.at = 0;
		b.p[0]++;
		if (is_put)
			stele_session_put(w->session, &p);
		else
			stele_session_get(w->session, &g);
		for (uint32_t i = 0; i < steps && !done; i++)
			stele_sim_step(w->sim);
		if (!done)
			stele_request_cancel(is_put ? &p.job : &g.job);
		wait(w);
		enum stele_err err = is_put ? p.err : g.err;
		cr_assert(err == STELE_OK || err == STELE_ERR_CANCELLED);
		cancelled += err == STELE_ERR_CANCELLED;
	}
	cr_assert(cancelled > 10);
	free(have.p);
	free(b.p);
	world_free(w);
}

static void called(struct stele_call *call)
{
	(void)call;
	done = true;
}

/* The record of an object's deposit, to make others of; its text and bytes are gone. */
static void record_of(struct world *w, const struct stele_hash *object, struct stele_record *r,
                      struct stele_piece *piece)
{
	struct stele_find_request f = {.id = *object, .cb = find_cb};
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert_eq(
	    stele_record_decode(f.found.record[0].bytes, f.found.record[0].len, true, r, piece),
	    STELE_OK);
	stele_found_finish(&f.found);
}

/* Signs it anew as that client's deposit. bad: the signature does not hold. */
static size_t sign_record(struct world *w, uint32_t client, bool bad, struct stele_record *r,
                          uint8_t bytes[STELE_META_MAX])
{
	char text[STELE_DEPOSIT_MAX];
	size_t len;
	r->deposit.depositor = w->client[client].sign.pub;
	cr_assert_eq(stele_deposit_encode(&r->deposit, text, &len), STELE_OK);
	stele_deposit_hash(text, len, &r->deposit_hash);
	r->text = text;
	r->text_len = (uint32_t)len;
	stele_sign(&w->client[client].sign, text, len, &r->sig);
	r->sig.b[7] ^= bad;
	cr_assert_eq(stele_record_encode(r, bytes, &len), STELE_OK);
	r->text = NULL;
	return len;
}

/* Onto the first three disks of the window, which agree. */
static enum stele_err send_record(struct world *w, uint32_t client, const struct stele_hash *object,
                                  const uint8_t *bytes, size_t len)
{
	static uint8_t head[STELE_META_MAX + 64];
	struct stele_session *s = w->client[client].session;
	struct stele_window window;
	enum stele_err err = STELE_OK;
	stele_session_window(s, stele_map_pool(w->map, STELE_POOL_RECORD), object, &window);
	for (uint32_t i = 0; i < 3; i++) {
		struct stele_writer hw = stele_writer(head, sizeof(head));
		struct stele_head_record_put put_head = {.record = bytes,
		                                         .record_len = (uint32_t)len};
		stele_head_record_put_encode(&put_head, &hw);
		struct stele_call call = {.op = STELE_OPCODE_RECORD_PUT,
		                          .head = head,
		                          .head_len = (uint32_t)stele_written(&hw),
		                          .cb = called};
		stele_peers_call(stele_session_peers(s), window.disk[i].node, &call);
		wait(w);
		cr_assert(i == 0 || call.err == err, "%s", call.detail);
		err = call.err;
	}
	return err;
}

/* A record for `object`, rightly signed, whose layout is that of another object: what a writer who lies can make. */
static void put_lie(struct world *w, const struct stele_hash *object,
                    const struct stele_hash *other)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	static uint8_t bytes[STELE_META_MAX];
	struct stele_record r;
	record_of(w, other, &r, piece);
	r.deposit.object = *object;
	size_t len = sign_record(w, 0, false, &r, bytes);
	cr_assert_eq(send_record(w, 0, object, bytes, len), STELE_OK);
}

/* A disk keeps no record whose signature does not hold, not even its depositor's own. */
Test(client, bad_signature_is_not_kept)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	static uint8_t bytes[STELE_META_MAX];
	struct world *w = world_new(31, "rs-4-2");
	struct bytes b = bytes_random(1, 300000);
	struct stele_hash id = put_ok(w, &b);
	struct stele_find_request f = {.id = id, .cb = find_cb};
	struct stele_record r;
	record_of(w, &id, &r, piece);
	r.deposit.nonce.b[0] ^= 1;
	size_t len = sign_record(w, 0, true, &r, bytes);
	cr_assert_eq(send_record(w, 0, &id, bytes, len), STELE_ERR_CORRUPT);
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert_eq(f.found.nrecords, 1u);
	stele_found_finish(&f.found);
	len = sign_record(w, 0, false, &r, bytes);
	cr_assert_eq(send_record(w, 0, &id, bytes, len), STELE_OK);
	free(b.p);
	world_free(w);
}

/* D6, P5: bytes that do not hash to the id do not go out; a true record beside the lie is found. */
Test(client, lying_record)
{
	struct world *w = world_new(30, "rs-4-2");
	struct bytes truth = bytes_random(1, 300000), lie = bytes_random(2, 300000);
	struct bytes have = {.p = malloc(truth.len), .len = truth.len};
	struct stele_get_request g;
	struct stele_hash id, lie_id = put_ok(w, &lie);
	stele_sha256(truth.p, truth.len, &id);
	put_lie(w, &id, &lie_id);
	cr_assert_eq(get(w, &id, 0, UINT64_MAX, &have, &g), STELE_ERR_CORRUPT, "%s", g.detail);
	cr_assert_eq(have.at, 0u, "wrong bytes went out");
	put_ok(w, &truth);
	for (uint32_t i = 0; i < 5; i++)
		get_same(w, &id, &truth, &g);
	free(have.p);
	free(truth.p);
	free(lie.p);
	world_free(w);
}

/* A put of b until its deposit comes late in the order of deposits, so that many can come before it. */
static struct stele_hash put_late(struct world *w, struct bytes *b, struct stele_hash *id)
{
	struct stele_put_request p;
	do
		cr_assert_eq(put(w, b, b->len, &p), STELE_OK, "%s", p.detail);
	while (p.result.deposit.b[0] < 0xc0);
	*id = p.result.object;
	return p.result.deposit;
}

/* n lies of another writer about `object`, all of which come before that deposit; their layout is that of its own object. */
static void put_lies(struct world *w, uint32_t n, const struct stele_hash *object,
                     const struct stele_hash *other, const struct stele_hash *before)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	static uint8_t bytes[STELE_META_MAX];
	struct stele_record r;
	record_of(w, other, &r, piece);
	r.deposit.object = *object;
	for (uint32_t nonce = 0, i = 0; i < n; nonce++) {
		memcpy(r.deposit.nonce.b, &nonce, sizeof(nonce));
		size_t len = sign_record(w, 1, false, &r, bytes);
		if (stele_hash_cmp(&r.deposit_hash, before) > 0)
			continue;
		cr_assert_eq(send_record(w, 1, object, bytes, len), STELE_OK);
		i++;
	}
}

/* Nobody makes another's object unreadable by lying about it often. */
Test(client, many_lying_records)
{
	struct world *w = world_new(32, "rs-4-2");
	struct bytes truth = bytes_random(1, 70000), lie = bytes_random(2, 70000);
	struct stele_get_request g;
	struct stele_hash id, lie_id = put_ok(w, &lie), deposit = put_late(w, &truth, &id);
	put_lies(w, 40, &id, &lie_id, &deposit);
	get_same(w, &id, &truth, &g);
	put_lies(w, 1030, &id, &lie_id, &deposit); /* the same 40 among them */
	struct stele_find_request f = {.id = id, .cb = find_cb};
	stele_session_find(w->session, &f);
	wait(w);
	cr_assert(f.found.cut);
	cr_assert_geq(f.found.nrecords, 1025u);
	const struct stele_found_record *r = stele_found_deposit(&f.found, &deposit);
	cr_assert(r && r->sig_ok && r->depositor_known && r->holders == 3);
	stele_found_finish(&f.found);
	get_same(w, &id, &truth, &g);
	free(truth.p);
	free(lie.p);
	world_free(w);
}

static bool stop_at_once(void *ctx, uint64_t bytes, uint64_t total)
{
	(void)ctx;
	(void)bytes;
	(void)total;
	return false;
}

Test(client, broken_sources_sinks_and_arguments)
{
	struct world *w = world_new(12, "rs-4-2");
	struct bytes b = bytes_random(14, 20 << 20);
	struct stele_put_request p;
	struct stele_get_request g;
	struct stele_hash id = put_ok(w, &b);
	b.fail = STELE_ERR_IO;
	cr_assert_eq(put(w, &b, b.len, &p), STELE_ERR_IO);
	cr_assert_str_eq(p.detail, "the source broke");
	cr_assert_eq(get(w, &id, 0, UINT64_MAX, &b, &g), STELE_ERR_IO);
	cr_assert_str_eq(g.detail, "the sink broke");
	b.fail = STELE_OK;
	b.at = 0;
	p = (struct stele_put_request){.source = {read_bytes, &b, b.len}, .cb = put_cb};
	p.opts.progress.step = stop_at_once;
	stele_session_put(w->session, &p);
	wait(w);
	cr_assert_eq(p.err, STELE_ERR_CANCELLED);
	p = (struct stele_put_request){.source = {read_bytes, &b, b.len}, .cb = put_cb};
	p.opts.pool = "cellar";
	stele_session_put(w->session, &p);
	wait(w);
	cr_assert_eq(p.err, STELE_ERR_USAGE);
	cr_assert(strstr(p.detail, "evidence"), "%s", p.detail);
	p = (struct stele_put_request){.source = {read_bytes, &b, 1ull << 40}, .cb = put_cb};
	stele_session_put(w->session, &p);
	wait(w);
	cr_assert_eq(p.err, STELE_ERR_TOO_LARGE);
	/* Of bytes that are not those expected nothing is deposited; shards are leftovers. */
	struct listed l = {0};
	struct stele_list_request list = {.each = list_each, .each_ctx = &l, .cb = list_cb};
	struct stele_hash expect = id;
	for (uint32_t i = 0; i < 2; i++) {
		b.at = 0;
		expect.b[0] ^= 1;
		p = (struct stele_put_request){.source = {read_bytes, &b, b.len}, .cb = put_cb};
		p.opts.expect = &expect;
		stele_session_put(w->session, &p);
		wait(w);
		cr_assert_eq(p.err, i ? STELE_OK : STELE_ERR_CORRUPT, "%s", p.detail);
		l.n = 0;
		stele_session_list(w->session, &list);
		wait(w);
		cr_assert_eq(l.n, 1 + i);
	}
	free(b.p);
	world_free(w);
}

/* Many at once, over nodes that come and go. */
Test(client, many_at_once)
{
	enum { N = 24 };
	struct world *w = world_new(13, "rs-4-2");
	struct bytes b[N];
	struct stele_put_request p[N];
	for (uint32_t i = 0; i < N; i++) {
		b[i] = bytes_random(900 + i, i % 3 ? 100000 + i : 500 + i);
		p[i] = (struct stele_put_request){.source = {read_bytes, &b[i], b[i].len},
		                                  .cb = put_cb};
		stele_session_put(w->session, &p[i]);
	}
	for (uint32_t k = 0; k < 200; k++)
		stele_sim_step(w->sim);
	world_stop_node(w, 5, false);
	for (uint32_t i = 0; i < N; i++) {
		done = !p[i].job.over || p[i].priv != NULL ? false : true;
		while (p[i].priv != NULL)
			cr_assert(stele_sim_step(w->sim));
		cr_assert(p[i].err == STELE_OK || p[i].err == STELE_ERR_DEGRADED, "%s",
		          p[i].detail);
	}
	done = false;
	for (uint32_t i = 0; i < N; i++) {
		struct stele_get_request g;
		get_same(w, &p[i].result.object, &b[i], &g);
		free(b[i].p);
	}
	world_free(w);
}

/* ---- the map moves on ---- */

/* The world's map, one state epoch on, with changes; signed by the world's state key, which is the second that it drew
 * from its seed. */
static void next_map(struct world *w, uint64_t seed, uint32_t epoch, uint32_t disk_out, char **json,
                     size_t *len)
{
	struct stele_map m = *w->map;
	struct stele_prng rng;
	struct stele_secret_key key[2];
	struct stele_disk_entry disk[NODES];
	uint8_t bytes[32];
	stele_prng_init(&rng, seed ^ 0x9e3779b97f4a7c15ull);
	for (int i = 0; i < 2; i++) {
		stele_prng_fill(&rng, bytes, sizeof(bytes));
		stele_key_from_seed(&key[i], bytes);
	}
	memcpy(disk, m.disk, sizeof(disk));
	m.disk = disk;
	m.state_epoch = epoch;
	if (disk_out < NODES)
		disk[disk_out].out = true;
	cr_assert_eq(stele_map_compose(&m, w->map, NULL, 0, &key[1], json, len), STELE_OK, "%s",
	             stele_detail());
}

static void give_map(struct world *w, const char *json, size_t len)
{
	for (uint32_t i = 0; i < NODES; i++)
		cr_assert_eq(stele_node_take_map(w->node[i].node, json, len), STELE_OK, "%s",
		             stele_detail());
}

Test(client, nodes_hold_a_newer_map)
{
	struct world *w = world_new(20, "rs-4-2");
	struct bytes b = bytes_random(1, 700000), big = bytes_random(2, 40 << 20);
	struct stele_get_request g;
	struct stele_put_request p;
	char *json;
	size_t len;
	struct stele_hash id = put_ok(w, &b);
	next_map(w, 20, 2, NODES, &json, &len);
	give_map(w, json, len);
	free(json);
	get_same(w, &id, &b, &g);
	b.p[0] ^= 1;
	id = put_ok(w, &b); /* refused as stale, the map fetched, then stored in full */
	cr_assert_eq(stele_session_map(w->session)->state_epoch, 2u);
	/* And once more in the middle of a put, at many points of it; one that would move what is there
	 * is refused. */
	for (uint32_t k = 0; k < 8; k++) {
		big.p[0]++;
		big.at = 0;
		p = (struct stele_put_request){.source = {read_bytes, &big, big.len}, .cb = put_cb};
		stele_session_put(w->session, &p);
		for (uint32_t i = 0; i < 150 * k && !done; i++)
			stele_sim_step(w->sim);
		next_map(w, 20, 100, k % NODES, &json, &len);
		for (uint32_t i = 0; i < NODES; i++)
			cr_assert_eq(stele_node_take_map(w->node[i].node, json, len),
			             STELE_ERR_REFUSED);
		free(json);
		next_map(w, 20, 3 + k, NODES, &json, &len);
		give_map(w, json, len);
		free(json);
		wait(w);
		cr_assert_eq(p.err, STELE_OK, "%s", p.detail);
		get_same(w, &p.result.object, &big, &g);
	}
	free(b.p);
	free(big.p);
	world_free(w);
}

/* The client is ahead: it waits a little for the nodes to learn the map. */
Test(client, nodes_are_behind)
{
	struct world *w = world_new(21, "rs-4-2");
	struct bytes b = bytes_random(1, 700000);
	struct stele_put_request p;
	struct stele_get_request g;
	struct stele_map *map;
	char *json;
	size_t len;
	next_map(w, 21, 2, NODES, &json, &len);
	cr_assert_eq(stele_map_parse(json, len, w->map, &map), STELE_OK);
	stele_peers_set_map(stele_session_peers(w->session), map);
	stele_map_unref(map);
	cr_assert_eq(put(w, &b, b.len, &p), STELE_ERR_UNAVAILABLE);
	cr_assert(strstr(p.detail, "stale"), "%s", p.detail);
	p = (struct stele_put_request){.source = {read_bytes, &b, b.len}, .cb = put_cb};
	b.at = 0;
	stele_session_put(w->session, &p);
	for (uint32_t i = 0; i < 60; i++)
		stele_sim_step(w->sim);
	give_map(w, json, len);
	wait(w);
	cr_assert_eq(p.err, STELE_OK, "%s", p.detail);
	get_same(w, &p.result.object, &b, &g);
	free(json);
	free(b.p);
	world_free(w);
}

/* ---- columns ---- */

/* Every pattern of missing and of corrupt shards of a block, whole and in the middle of it. */
Test(columns, verify_and_decode)
{
	const struct stele_code *code;
	struct bytes b = bytes_random(77, 1000000);
	struct stele_block block;
	struct stele_hash *rows;
	uint8_t meta[65536];
	cr_assert_eq(stele_code_find_name("rs-4-2", &code), STELE_OK);
	cr_assert_eq(stele_block_encode(&block, code, b.p, b.len, NULL), STELE_OK);
	struct stele_writer w = stele_writer(meta, sizeof(meta));
	struct stele_descriptor d;
	stele_shard_meta_write(&w, &block.desc, 3, block.row);
	cr_assert_eq(stele_written(&w), stele_shard_meta_len(&block.desc));
	cr_assert_eq(stele_shard_meta_read(meta, stele_written(&w), &block.id, 3, &d, &rows),
	             STELE_OK);
	for (uint32_t whole = 0; whole < 2; whole++)
		for (uint32_t missing = 0; missing < 64; missing++)
			for (uint32_t bad = 0; bad < 64; bad++) {
				struct stele_plan plan;
				struct stele_sha256_stream s, before;
				uint64_t want = 0xf & missing;
				if (bad & missing || __builtin_popcount(missing) > 2)
					continue;
				cr_assert_eq(stele_code_plan(code, 0x3f & ~missing, want, &plan),
				             STELE_OK);
				uint32_t first = whole ? 0 : 1, cells = whole ? block.cells : 2;
				uint64_t len = whole ? d.S : 2 * STELE_CELL_LEN;
				stele_sha256_init(&s);
				before = s;
				struct stele_columns c = {.desc = &d,
				                          .rows = rows,
				                          .first_cell = first,
				                          .cells = cells,
				                          .len = len,
				                          .check = 0x3f & ~missing,
				                          .missing = want,
				                          .plan = &plan,
				                          .object = whole ? &s : NULL};
				for (uint32_t i = 0; i < 6; i++) {
					c.shard[i] = malloc(len);
					memcpy(c.shard[i], block.shard[i] + first * STELE_CELL_LEN,
					       len);
					if (missing >> i & 1)
						memset(c.shard[i], 0xee, len);
					if (bad >> i & 1)
						c.shard[i][(i * 7919) % len] ^= 0x10;
				}
				stele_columns_verify(&c);
				cr_assert_eq(c.bad, bad);
				if (!bad) {
					cr_assert(c.consistent);
					for (uint32_t i = 0; i < 4; i++)
						cr_assert(
						    memcmp(c.shard[i],
						           block.shard[i] + first * STELE_CELL_LEN,
						           len) == 0);
				}
				if (whole) {
					struct stele_hash got, want_hash;
					stele_sha256_value(&s, &got);
					if (bad)
						stele_sha256_value(&before, &want_hash);
					else
						stele_sha256(b.p, b.len, &want_hash);
					cr_assert(stele_hash_equal(&got, &want_hash));
				}
				for (uint32_t i = 0; i < 6; i++)
					free(c.shard[i]);
			}
	/* Any other bit of the meta is noticed. */
	for (size_t i = 0; i < stele_written(&w); i += 97) {
		struct stele_hash *none;
		meta[i] ^= 1;
		cr_assert_neq(
		    stele_shard_meta_read(meta, stele_written(&w), &block.id, 3, &d, &none),
		    STELE_OK);
		meta[i] ^= 1;
	}
	free(rows);
	stele_block_finish(&block);
	free(b.p);
}
