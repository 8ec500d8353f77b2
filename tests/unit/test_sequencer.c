/* Goal: whatever call of a sequencer's world a crash hits, before or after its effect, the next run
 * finishes the work: every deposit is in the log and proven, no anchored checkpoint is ever
 * contradicted, and a head from the past, or of a rewritten log, stops it. */
#include "net/anchor/verify.h"
#include "tests/unit/log_world.h"

/* Everything that must hold once a run ended well. */
static void check_world(struct world *w)
{
	struct stele_manifest *m = malloc(sizeof(*m));
	struct stele_proof *p = malloc(sizeof(*p));
	cr_assert(m && p);
	w->crash_at = 0;
	world_manifest(w, m);
	struct stele_manifest_source source = {m, world_get_object, w};
	const struct stele_anchor_line *last = &w->line[w->nlines - 1];
	cr_assert_eq(last->checkpoint.size, w->head.size);
	cr_assert_eq(w->announced, w->nlines);
	for (uint32_t i = 0; i < w->nlines; i++) {
		struct stele_hash path[STELE_MERKLE_PATH_MAX];
		const struct stele_checkpoint *c = &w->line[i].checkpoint;
		size_t len;
		cr_assert_eq(stele_anchor_line_check(&w->line[i], &w->trust), STELE_OK);
		cr_assert_eq(stele_log_consistency(stele_manifest_fetch, &source, c->size,
		                                   last->checkpoint.size, path, &len),
		             STELE_OK);
		cr_assert(stele_merkle_consistency_ok(c->size, last->checkpoint.size, path, len,
		                                      &c->root, &last->checkpoint.root));
	}
	for (uint32_t i = 0; i < w->ndeposits; i++) {
		struct world_deposit *d = &w->deposit[i];
		cr_assert_eq(d->rejected, d->bad);
		if (d->bad)
			continue;
		cr_assert_geq(d->marks, 1u, "deposit %u is not marked", i);
		cr_assert_eq(stele_proof_build(d->text, d->len, &d->sig, d->index, last,
		                               stele_manifest_fetch, &source, p),
		             STELE_OK, "deposit %u: %s", i, stele_detail());
	}
	free(m);
	free(p);
}

Test(sequencer, empty_log_and_first_leaves)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK, "%s", stele_detail());
	cr_assert(!r.anchored);
	cr_assert_eq(w->nobjects, 0u);
	world_put_some(w, 3);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK, "%s", stele_detail());
	cr_assert_eq(r.entered, 3u);
	cr_assert_eq(r.head.size, 3u);
	cr_assert_eq(r.line.number, 0u);
	cr_assert_eq(w->published, 3u);
	check_world(w);
	/* nothing waits: nothing new is written */
	uint32_t objects = w->nobjects;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK, "%s", stele_detail());
	cr_assert_eq(r.entered, 0u);
	cr_assert(r.anchored);
	cr_assert_eq(r.line.number, 0u);
	cr_assert_eq(w->nobjects, objects);
	world_destroy(w);
}

Test(sequencer, batches_across_tiles)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	static const unsigned steps[] = {1, 254, 1, 1, 300, 511, 700};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		world_put_some(w, steps[i]);
		cr_assert_eq(world_sequence(w, i % 2 ? 100 : 0, &r), STELE_OK, "%s",
		             stele_detail());
		cr_assert_eq(r.entered, steps[i]);
	}
	cr_assert_eq(w->head.size, 1768u);
	check_world(w);
	world_destroy(w);
}

Test(sequencer, a_full_batch_is_followed_by_another)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 30);
	cr_assert_eq(world_sequence(w, 10, &r), STELE_OK);
	cr_assert_eq(r.entered, 30u);
	cr_assert_eq(w->nlines, 3u);
	check_world(w);
	world_destroy(w);
}

Test(sequencer, bad_items_are_rejected_and_the_rest_goes_on)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 5);
	w->deposit[1].sig.b[3] ^= 1;
	w->deposit[1].bad = true;
	w->deposit[3].text[30] ^= 1; /* no longer what its hash says */
	w->deposit[3].bad = true;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK, "%s", stele_detail());
	cr_assert_eq(r.entered, 3u);
	cr_assert_eq(r.rejected, 2u);
	check_world(w);
	world_destroy(w);
}

Test(sequencer, system_deposits_are_no_leaves)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 1);
	struct world_deposit *d = &w->deposit[0];
	struct stele_deposit f;
	char text[STELE_DEPOSIT_MAX];
	cr_assert_eq(stele_deposit_decode(d->text, d->len, &f), STELE_OK);
	f.type = STELE_DEPOSIT_SYSTEM;
	cr_assert_eq(stele_deposit_encode(&f, text, &d->len), STELE_OK);
	memcpy(d->text, text, d->len);
	stele_sign(&w->depositor, d->text, d->len, &d->sig);
	stele_deposit_hash(d->text, d->len, &d->hash);
	d->bad = true;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	cr_assert_eq(r.rejected, 1u);
	cr_assert_eq(w->head.size, 0u);
	world_destroy(w);
}

Test(sequencer, unreachable_nodes_do_not_stop_it)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	w->publish_fails = true;
	world_put_some(w, 2);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	cr_assert_eq(r.unpublished, 1u);
	cr_assert_not_null(strstr(r.publish_error, "no node answers"));
	check_world(w);
	world_destroy(w);
}

/* Sizes chosen so that the batch in which the crash happens finishes tiles of two levels' making.
 */
static void crash_everywhere(unsigned before, unsigned during, uint32_t batch_max)
{
	for (unsigned late = 0; late < 2; late++)
		for (unsigned at = 1;; at++) {
			struct world *w = world_create();
			struct stele_sequencer_result r;
			if (before) {
				world_put_some(w, before);
				cr_assert_eq(world_sequence(w, batch_max, &r), STELE_OK);
			}
			world_put_some(w, during);
			w->calls = 0;
			w->crash_at = at;
			w->crash_late = late;
			enum stele_err err = world_sequence(w, batch_max, &r);
			bool crashed = w->calls >= at;
			/* a crash in publish is a node that does not answer */
			cr_assert(err == STELE_OK || err == STELE_ERR_CANCELLED, "%s",
			          stele_detail());
			cr_assert(!err || crashed);
			w->crash_at = 0;
			world_put_some(w, 1);
			cr_assert_eq(world_sequence(w, batch_max, &r), STELE_OK,
			             "after a crash at call %u: %s", at, stele_detail());
			check_world(w);
			/* at most one batch can have been entered twice */
			cr_assert_leq(w->head.size,
			              before + during + 1 + (batch_max ? batch_max : during));
			world_destroy(w);
			if (!crashed)
				break;
		}
}

Test(sequencer, every_crash_point_of_a_new_log)
{
	crash_everywhere(0, 5, 0);
}

Test(sequencer, every_crash_point_of_several_batches)
{
	crash_everywhere(3, 12, 4);
}

Test(sequencer, every_crash_point_where_tiles_are_finished, .timeout = 60)
{
	crash_everywhere(250, 12, 0);
}

/* The last run ended between head and anchor, and its items were marked by hand: nothing waits, and
 * the head is anchored all the same. */
Test(sequencer, a_moved_head_is_anchored_even_if_nothing_waits)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 3);
	do { /* find the call whose crash leaves a moved head and no anchor */
		memset(&w->head, 0, sizeof(w->head));
		w->has_head = false;
		w->nlines = 0;
		w->announced = 0;
		w->published = 0;
		for (uint32_t i = 0; i < w->ndeposits; i++)
			w->deposit[i].marks = 0;
		w->calls = 0;
		w->crash_at++;
		w->crash_late = true;
		cr_assert_lt(w->crash_at, 50u);
	} while (world_sequence(w, 0, &r) != STELE_ERR_CANCELLED || !w->has_head || w->nlines);
	w->crash_at = 0;
	for (uint32_t i = 0; i < w->ndeposits; i++)
		w->deposit[i].marks = 1;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK, "%s", stele_detail());
	cr_assert_eq(r.entered, 0u);
	cr_assert(r.anchored);
	cr_assert_eq(r.line.checkpoint.size, 3u);
	cr_assert_eq(w->published, 3u);
	cr_assert_eq(w->announced, 1u);
	world_destroy(w);
}

/* Crash after crash, at random calls, while deposits go on arriving. */
Test(sequencer, crash_upon_crash)
{
	uint64_t seed = 17;
	struct world *w = world_create();
	struct stele_sequencer_result r;
	unsigned crashes = 0;
	for (int i = 0; i < 150; i++) {
		world_put_some(w, (unsigned)(guard_random(&seed) >> 33) % 9);
		w->calls = 0;
		w->crash_at = 1 + (unsigned)(guard_random(&seed) >> 33) % 40;
		w->crash_late = guard_random(&seed) >> 40 & 1;
		enum stele_err err = world_sequence(w, 5, &r);
		cr_assert(err == STELE_OK || err == STELE_ERR_CANCELLED, "%s", stele_detail());
		crashes += err != STELE_OK;
	}
	cr_assert_gt(crashes, 50u);
	w->crash_at = 0;
	cr_assert_eq(world_sequence(w, 5, &r), STELE_OK, "%s", stele_detail());
	check_world(w);
	world_destroy(w);
}

Test(sequencer, a_head_from_the_past_stops_it)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 5);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	struct stele_log_head old = w->head;
	world_put_some(w, 5);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	w->head = old;
	uint32_t objects = w->nobjects, lines = w->nlines;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_ERR_REFUSED);
	cr_assert_not_null(strstr(stele_detail(), "from the past"));
	w->has_head = false;
	memset(&w->head, 0, sizeof(w->head));
	cr_assert_eq(world_sequence(w, 0, &r), STELE_ERR_REFUSED);
	cr_assert_eq(w->nobjects, objects);
	cr_assert_eq(w->nlines, lines);
	world_destroy(w);
}

Test(sequencer, a_rewritten_log_stops_it)
{
	/* the same sizes, other leaves: as if somebody had made the log anew */
	struct world *w = world_create(), *other = world_create();
	struct stele_sequencer_result r;
	other->seed = 1234;
	for (unsigned more = 0; more < 2; more++) {
		world_put_some(w, 5);
		world_put_some(other, 5 + more);
		cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
		cr_assert_eq(world_sequence(other, 0, &r), STELE_OK);
		struct stele_log_head mine = w->head;
		w->head = other->head;
		for (uint32_t i = 0; i < other->nobjects; i++)
			cr_assert_eq(world_put_object(w, &other->object[i].id,
			                              other->object[i].bytes, other->object[i].len),
			             STELE_OK);
		cr_assert_eq(world_sequence(w, 0, &r), STELE_ERR_REFUSED);
		cr_assert_not_null(strstr(stele_detail(), "rewritten"));
		w->head = mine;
	}
	world_destroy(w);
	world_destroy(other);
}

Test(sequencer, a_lost_or_spoilt_manifest_is_named)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	world_put_some(w, 5);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	for (uint32_t i = 0; i < w->nobjects; i++)
		if (stele_hash_equal(&w->object[i].id, &w->head.manifest))
			w->object[i].bytes[90] ^= 1;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_ERR_CORRUPT);
	w->head.manifest.b[0] ^= 1;
	cr_assert_eq(world_sequence(w, 0, &r), STELE_ERR_NOT_FOUND);
	world_destroy(w);
}

Test(sequencer, another_sequencer_moved_the_head)
{
	struct world *w = world_create();
	struct stele_sequencer_config config = {
	    .cluster = w->cluster, .origin = WORLD_ORIGIN, .key = &w->log_key};
	struct stele_sequencer *s;
	struct stele_sequencer_result r;
	world_put_some(w, 2);
	cr_assert_eq(stele_sequencer_create(&world_ops, w, &config, &s), STELE_OK);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	world_put_some(w, 1);
	cr_assert_eq(stele_sequencer_run(s, &r), STELE_ERR_STALE);
	stele_sequencer_destroy(s);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	check_world(w);
	world_destroy(w);
}
