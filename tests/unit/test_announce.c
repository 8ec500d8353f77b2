/* Goal: an anchor line's announcement is a mark that encodes, says what the line says, and the
 * newest is found with few look-ups. */
#include "net/anchor/announce.h"
#include "tests/unit/log_world.h"

Test(announce, mark_encodes_and_is_recognised)
{
	struct world *w = world_create();
	struct stele_sequencer_result r;
	struct stele_hash log_id, id = {{0x11}};
	struct stele_mark mark, back;
	char text[STELE_MARK_MAX], chain[STELE_CAIP2_MAX];
	size_t len;
	world_put_some(w, 4);
	cr_assert_eq(world_sequence(w, 0, &r), STELE_OK);
	stele_log_id(WORLD_ORIGIN, &log_id);
	stele_announce_mark(&w->cluster, &r.line, &id, &mark);
	cr_assert_eq(stele_mark_encode(&mark, text, &len), STELE_OK, "%s", stele_detail());
	cr_assert_eq(stele_mark_decode(text, len, &back), STELE_OK);
	cr_assert_eq(stele_announce_check(&back, &log_id, 0), STELE_OK);
	cr_assert_eq(stele_announce_check(&back, &log_id, 1), STELE_ERR_CORRUPT);
	cr_assert_eq(back.u.catalogue.last, 3u);
	cr_assert(stele_hash_equal(&back.u.catalogue.segment, &r.line.manifest));
	log_id.b[0] ^= 1;
	cr_assert_eq(stele_announce_check(&back, &log_id, 0), STELE_ERR_CORRUPT);
	/* the longest number still is a chain's name */
	stele_announce_chain(&log_id, ((uint64_t)1 << 53) - 1, chain);
	cr_assert(stele_caip2_ok(chain, strlen(chain)), "%s", chain);
	world_destroy(w);
}

struct looked {
	uint64_t count;
	unsigned lookups;
	unsigned fail_at;
};

static enum stele_err lookup(void *ctx, uint64_t number, bool *found)
{
	struct looked *l = ctx;
	if (++l->lookups == l->fail_at)
		return stele_fail(STELE_ERR_UNAVAILABLE, "no answer");
	*found = number < l->count;
	return STELE_OK;
}

Test(announce, newest_is_found)
{
	uint64_t number = 0;
	struct looked none = {0};
	cr_assert_eq(stele_announce_newest(lookup, &none, &number), STELE_ERR_NOT_FOUND);
	for (uint64_t count = 1; count < 3000; count++) {
		struct looked l = {.count = count};
		cr_assert_eq(stele_announce_newest(lookup, &l, &number), STELE_OK);
		cr_assert_eq(number, count - 1);
		cr_assert_leq(l.lookups, 26u);
	}
	struct looked much = {.count = 123456789}, fails = {.count = 1000, .fail_at = 7};
	cr_assert_eq(stele_announce_newest(lookup, &much, &number), STELE_OK);
	cr_assert_eq(number, 123456788u);
	cr_assert_leq(much.lookups, 60u);
	cr_assert_eq(stele_announce_newest(lookup, &fails, &number), STELE_ERR_UNAVAILABLE);
	struct looked liar = {.count = UINT64_MAX};
	cr_assert_eq(stele_announce_newest(lookup, &liar, &number), STELE_ERR_CORRUPT);
}
