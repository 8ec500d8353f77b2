/* Goal: heights, stale branches, duplicates and missing parents come out right whatever the
 * order of the blocks, checked against a plain model on random trees; a forged tree is refused;
 * judging a file with gaps. */
#include "storage/ledger/chain_link.h"
#include "tests/unit/ledger_fixture.h"

#define BITS 0x207fffffu /* work 2 */

static struct stele_hash name_hash(unsigned n)
{
	struct stele_hash h;
	stele_sha256(&n, sizeof(n), &h);
	return h;
}

static struct stele_chain regtest(void)
{
	struct stele_chain c;
	cr_assert_eq(stele_chain_find("bitcoin-regtest", &c), STELE_OK);
	return c;
}

static struct stele_hash genesis(void)
{
	struct stele_chain c = regtest();
	struct stele_hash h;
	cr_assert(stele_chain_genesis(&c, &h));
	return h;
}

/* Block n whose parent is block `parent`; block 0 is the genesis. */
static struct stele_link_block block(unsigned n, unsigned parent, uint32_t bits)
{
	struct stele_link_block b = {.bits = bits, .claimed_height = STELE_HEIGHT_UNKNOWN};
	b.hash = n ? name_hash(n) : genesis();
	if (n)
		b.parent = parent ? name_hash(parent) : genesis();
	return b;
}

/* What is archived: blocks 1000 + height. */
static enum stele_err find_archived(void *ctx, const struct stele_hash *hash, uint64_t *height)
{
	for (unsigned h = 0; h < *(unsigned *)ctx; h++) {
		struct stele_hash known = name_hash(1000 + h);
		if (stele_hash_equal(&known, hash)) {
			*height = h;
			return STELE_OK;
		}
	}
	return STELE_ERR_NOT_FOUND;
}

static void link_all(struct stele_link_block *b, size_t n, unsigned archived,
                     struct stele_link_result *out)
{
	struct stele_chain chain = regtest();
	struct stele_link_opts opts = {.chain = &chain, .find = find_archived, .ctx = &archived};
	cr_assert_eq(stele_chain_link(&opts, b, n, out), STELE_OK, "%s", stele_detail());
}

Test(chain_link, a_plain_chain_backwards)
{
	struct stele_link_block b[50];
	struct stele_link_result r;
	for (unsigned i = 0; i < 50; i++)
		b[49 - i] = block(i, i - 1, BITS);
	link_all(b, 50, 0, &r);
	for (unsigned i = 0; i < 50; i++) {
		cr_assert(b[49 - i].height == i && b[49 - i].linked && !b[49 - i].stale);
	}
	struct stele_hash last = name_hash(49);
	cr_assert(r.linked == 50 && r.stale == 0 && r.unlinked_roots == 0 && r.contiguous);
	cr_assert(r.first_height == 0 && r.last_height == 49);
	cr_assert(stele_hash_equal(&r.last_hash, &last));
	cr_assert(stele_all_zero(r.first_parent.b, 32));
}

Test(chain_link, nothing_and_one)
{
	struct stele_link_result r;
	struct stele_link_block b[1] = {block(5, 4, BITS)};
	link_all(b, 0, 0, &r);
	cr_assert(r.linked == 0 && r.first_height == STELE_HEIGHT_UNKNOWN && !r.contiguous);
	link_all(b, 1, 0, &r);
	struct stele_hash parent = name_hash(4);
	cr_assert(r.linked == 0 && r.unlinked_roots == 1 && b[0].height == STELE_HEIGHT_UNKNOWN);
	cr_assert(stele_hash_equal(&r.unlinked_parent, &parent));
	b[0] = block(5, 1007, BITS);
	link_all(b, 1, 8, &r);
	cr_assert(b[0].linked && b[0].height == 8 && r.contiguous && r.first_height == 8);
}

Test(chain_link, work_decides_and_then_who_was_first)
{
	struct stele_link_result r;
	/* 0 - 1 - 2 - 3, and from 1 two other branches: 4 - 5 as long as 2 - 3 but later, 6
	 * harder */
	struct stele_link_block b[] = {block(0, 0, BITS), block(1, 0, BITS), block(2, 1, BITS),
	                               block(3, 2, BITS), block(4, 1, BITS), block(5, 4, BITS)};
	link_all(b, 6, 0, &r);
	cr_assert(!b[2].stale && !b[3].stale && b[4].stale && b[5].stale);
	cr_assert(r.stale == 2 && r.last_height == 3 && r.contiguous);
	struct stele_link_block harder[] = {
	    b[0], b[1], b[2], b[3], b[4], b[5], block(6, 1, 0x1d00ffff)};
	link_all(harder, 7, 0, &r);
	cr_assert(harder[2].stale && harder[3].stale && harder[5].stale && !harder[6].stale);
	cr_assert(r.last_height == 2 && r.stale == 4);
	/* the longer branch's third block is stale with its parents, though nobody else is that
	 * high */
	cr_assert(harder[3].stale);
}

Test(chain_link, duplicates_follow_their_first)
{
	struct stele_link_result r;
	struct stele_link_block b[] = {block(2, 1, BITS), block(1, 0, BITS), block(2, 1, BITS),
	                               block(0, 0, BITS), block(1, 0, BITS)};
	link_all(b, 5, 0, &r);
	cr_assert(!b[0].duplicate && !b[1].duplicate && b[2].duplicate && b[4].duplicate);
	cr_assert(b[2].height == 2 && b[4].height == 1 && b[2].linked && !b[2].stale);
	cr_assert(r.duplicate == 2 && r.linked == 3 && r.stale == 0 && r.contiguous);
}

/* Blocks that continue archived ones at several places: all of them count. */
Test(chain_link, several_places_among_what_is_archived)
{
	struct stele_link_result r;
	struct stele_link_block b[] = {block(1, 1009, BITS), block(2, 1, BITS),
	                               block(3, 1014, BITS), block(4, 3, BITS),
	                               block(5, 1009, BITS)};
	link_all(b, 5, 20, &r);
	cr_assert(b[0].height == 10 && b[1].height == 11 && b[2].height == 15 && b[3].height == 16);
	cr_assert(!b[0].stale && !b[1].stale && !b[2].stale && !b[3].stale && b[4].stale);
	cr_assert(r.first_height == 10 && r.last_height == 16 && !r.contiguous && r.linked == 5);
}

Test(chain_link, claimed_heights)
{
	struct stele_link_result r;
	struct stele_chain chain;
	struct stele_link_opts opts = {.chain = &chain};
	cr_assert_eq(stele_chain_find("eip155:1337", &chain), STELE_OK);
	struct stele_link_block b[3] = {
	    {.hash = name_hash(1), .claimed_height = 0},
	    {.hash = name_hash(2), .parent = name_hash(1), .claimed_height = 1},
	    {.hash = name_hash(9), .parent = name_hash(8), .claimed_height = 40},
	};
	/* block 0 of a chain whose genesis is not known: it says so and has no parent */
	cr_assert_eq(stele_chain_link(&opts, b, 3, &r), STELE_OK, "%s", stele_detail());
	cr_assert(b[1].linked && b[1].height == 1);
	cr_assert(!b[2].linked && b[2].height == 40 && r.unlinked_roots == 1);
	b[1].claimed_height = 2;
	cr_assert_eq(stele_chain_link(&opts, b, 3, &r), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "says height 2, its parents 1"), "%s", stele_detail());
}

Test(chain_link, another_chains_block_is_refused)
{
	struct stele_chain chain;
	struct stele_link_result r;
	cr_assert_eq(stele_chain_find("bitcoin", &chain), STELE_OK);
	unsigned archived = 0;
	struct stele_link_opts opts = {.chain = &chain, .find = find_archived, .ctx = &archived};
	struct stele_link_block b[1] = {block(1, 2, BITS)};
	(void)archived;
	/* an archive that has block 478,558, and Bitcoin Cash's first own block on it */
	hash_from(STELE_FAMILY_BITCOIN,
	          "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec", &b[0].hash);
	struct stele_link_block below[2] = {b[0], b[0]};
	below[0].claimed_height = 478559;
	cr_assert_eq(stele_chain_link(&opts, below, 1, &r), STELE_OK); /* unlinked: nothing known */
	cr_assert(!below[0].linked);
	archived = 1;
	below[0].parent = name_hash(1000); /* height 0, so this would be block 1 */
	cr_assert_eq(stele_chain_link(&opts, below, 1, &r), STELE_ERR_CORRUPT);
}

static enum stele_err find_fork(void *ctx, const struct stele_hash *hash, uint64_t *height)
{
	(void)ctx;
	(void)hash;
	*height = 478558;
	return STELE_OK;
}

static enum stele_err find_broken(void *ctx, const struct stele_hash *hash, uint64_t *height)
{
	(void)ctx;
	(void)hash;
	(void)height;
	return stele_fail(STELE_ERR_UNAVAILABLE, "no index");
}

Test(chain_link, forks_and_failures)
{
	struct stele_chain chain;
	struct stele_link_result r;
	cr_assert_eq(stele_chain_find("bitcoin", &chain), STELE_OK);
	struct stele_link_opts opts = {.chain = &chain, .find = find_fork};
	struct stele_link_block b[2] = {block(1, 2, BITS), block(3, 2, BITS)};
	hash_from(STELE_FAMILY_BITCOIN,
	          "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec", &b[0].hash);
	cr_assert_eq(stele_chain_link(&opts, b, 1, &r), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "Bitcoin Cash"), "%s", stele_detail());
	opts.find = find_broken;
	cr_assert_eq(stele_chain_link(&opts, b, 1, &r), STELE_ERR_UNAVAILABLE);
	/* blocks that are each other's parents */
	b[0].parent = b[1].hash;
	b[1].parent = b[0].hash;
	cr_assert_eq(stele_chain_link(&opts, b, 2, &r), STELE_ERR_CORRUPT);
	b[0].parent = b[0].hash;
	cr_assert_eq(stele_chain_link(&opts, b, 1, &r), STELE_ERR_CORRUPT);
	cr_assert(strstr(stele_detail(), "each other's parents"), "%s", stele_detail());
}

/* ---- random trees against a model that walks from each block to the genesis ---- */

struct model {
	unsigned parent[400]; /* 0: the genesis; 999: nowhere */
	size_t n;             /* blocks 1..n */
};

static uint64_t model_height(const struct model *m, unsigned i)
{
	uint64_t h = 0;
	for (; i; i = m->parent[i], h++) {
		if (i == 999)
			return STELE_HEIGHT_UNKNOWN;
	}
	return h;
}

Test(chain_link, random_trees_in_random_order)
{
	for (uint64_t seed = 1; seed < 300; seed++) {
		uint64_t random = seed;
		struct model m = {.n = 1 + guard_random(&random) % 300};
		static struct stele_link_block b[401];
		static unsigned who[401];
		struct stele_link_result r;
		for (unsigned i = 1; i <= m.n; i++) {
			uint64_t x = guard_random(&random) >> 20;
			m.parent[i] = i - 1;
			if (x % 6 == 0)
				m.parent[i] = (unsigned)(x / 6 % i);
			if (seed % 3 == 0 && x % 50 == 1)
				m.parent[i] = 999;
		}
		for (unsigned i = 0; i <= m.n; i++)
			who[i] = i;
		for (unsigned i = (unsigned)m.n; i > 0; i--) {
			unsigned k = (unsigned)(guard_random(&random) >> 20) % (i + 1), t = who[i];
			who[i] = who[k];
			who[k] = t;
		}
		for (unsigned i = 0; i <= m.n; i++)
			b[i] = block(who[i], who[i] ? m.parent[who[i]] : 0, BITS);
		link_all(b, m.n + 1, 0, &r);
		uint64_t linked = 0, highest = 0, best = 0;
		for (unsigned i = 0; i <= m.n; i++) {
			uint64_t h = model_height(&m, who[i]);
			cr_assert_eq(b[i].height, h);
			cr_assert_eq(b[i].linked, h != STELE_HEIGHT_UNKNOWN);
			linked += b[i].linked;
			if (b[i].linked && h > highest)
				highest = h;
			best += b[i].linked && !b[i].stale;
		}
		/* equal work for each block: the best branch is the highest, one block a height,
		 * each the parent of the next */
		cr_assert(r.linked == linked && r.last_height == highest && r.contiguous);
		cr_assert(best == highest + 1 && r.stale == linked - best);
		unsigned at[401] = {0};
		for (unsigned i = 0; i <= m.n; i++) {
			if (b[i].linked && !b[i].stale)
				at[b[i].height] = who[i];
		}
		for (uint64_t h = 1; h <= highest; h++)
			cr_assert_eq(m.parent[at[h]], at[h - 1]);
	}
}

Test(chain_link, judging_a_file)
{
	struct stele_file_facts facts = {.format = STELE_FORMAT_BITCOIN_BLK};
	struct stele_link_result r = {0};
	enum stele_level level;
	cr_assert_eq(stele_link_judge(&facts, &r, &level), STELE_OK);
	cr_assert_eq(level, STELE_LEVEL_LINKED);
	r.unlinked_roots = 3; /* files are not in order: their parents may be in other files */
	cr_assert_eq(stele_link_judge(&facts, &r, &level), STELE_OK);
	cr_assert_eq(level, STELE_LEVEL_BOUND);
	facts.gaps = 1;
	facts.gap_bytes = 10;
	cr_assert_eq(stele_link_judge(&facts, &r, &level), STELE_ERR_CORRUPT);
	r.unlinked_roots = 1; /* as for a file whose predecessor is not archived yet */
	cr_assert_eq(stele_link_judge(&facts, &r, &level), STELE_OK);
	cr_assert_eq(level, STELE_LEVEL_BOUND);
}
