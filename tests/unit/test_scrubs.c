/*
 * Goal: a disk is swept weekly, and deep monthly, without anybody's doing; also one whose node is restarted every
 * day and whose sweep takes longer than that. Simulated time.
 */
#include "net/scrubs.h"
#include "storage/io/sim.h"
#include "tests/unit/store_kit.h"

#define DAY    (24 * 3600 * UINT64_C(1000000000))
#define BLOCKS 10u

struct world {
	struct kit k;
	struct stele_sim *sim;
	struct stele_slots_opts opts;
	struct stele_slots *slots;
	struct stele_scrubs *scrubs;
	uint64_t bytes_per_s;
	const char *disk;
	bool closed;
};

static bool turn(struct kit *k)
{
	while (k->waiting)
		if (!stele_sim_step(k->sim))
			return false;
	return true;
}

static void start(struct world *w)
{
	cr_assert_eq(stele_slots_open(&w->opts, &w->slots), STELE_OK, "%s", stele_detail());
	stele_slots_begin(w->slots);
	cr_assert_eq(stele_scrubs_create(w->k.env, w->slots, w->bytes_per_s, NULL, NULL, &w->scrubs),
	             STELE_OK);
	stele_scrubs_begin(w->scrubs);
}

static void on_closed(void *ctx)
{
	((struct world *)ctx)->closed = true;
}

static void stop(struct world *w)
{
	w->closed = false;
	stele_scrubs_close(w->scrubs, on_closed, w);
	while (!w->closed)
		cr_assert(stele_sim_step(w->sim));
	stele_scrubs_destroy(w->scrubs);
	w->closed = false;
	stele_slots_close(w->slots, on_closed, w);
	while (!w->closed)
		cr_assert(stele_sim_step(w->sim));
	stele_slots_destroy(w->slots);
}

static void put_shard(struct world *w, const struct kit_block *b)
{
	uint32_t len;
	uint8_t *meta = kit_meta(b, 0, &len);
	struct iovec iov = {b->shard[0], b->d.S};
	struct stele_item item = {.key = kit_key(STELE_ENTRY_SHARD, &b->id, NULL, 0),
	                          .meta = meta,
	                          .meta_len = len,
	                          .data = &iov,
	                          .ndata = 1,
	                          .data_len = b->d.S};
	struct stele_store_write put = {.item = &item, .n = 1, .cb = kit_write_cb, .ctx = &w->k};
	w->k.waiting++;
	stele_disk_write(stele_slots_disk(w->slots, 0), &put);
	kit_run(&w->k);
	cr_assert_eq(put.err, STELE_OK, "%s", put.detail);
	free(meta);
}

static void begin(struct world *w, uint64_t bytes_per_s)
{
	memset(w, 0, sizeof(*w));
	cr_assert_eq(stele_sim_create(7, &w->sim), STELE_OK);
	cr_assert_eq(stele_sim_env(w->sim, "node", &w->k.env), STELE_OK);
	w->k.turn = turn;
	w->k.sim = w->sim;
	w->bytes_per_s = bytes_per_s;
	w->disk = "/disk0";
	kit_opts(&w->k, false);
	cr_assert_eq(stele_file_mkdirs(w->k.env, "/node", 0700), STELE_OK);
	cr_assert_eq(stele_file_mkdirs(w->k.env, w->disk, 0700), STELE_OK);
	w->opts = (struct stele_slots_opts){.env = w->k.env,
	                                    .kv = w->k.kv,
	                                    .kv_world = w->k.world,
	                                    .cluster = w->k.opts.cluster,
	                                    .node_dir = "/node",
	                                    .disk = &w->disk,
	                                    .ndisks = 1,
	                                    .extent_len = STELE_EXTENT_LEN_MIN};
	start(w);
	for (uint32_t i = 0; i < BLOCKS; i++) { /* five extents */
		struct kit_block b;
		kit_block_make(&b, "rep-2", 1800000, i);
		put_shard(w, &b);
		kit_block_free(&b);
	}
}

static void end(struct world *w)
{
	stop(w);
	stele_env_destroy(w->k.env);
	stele_kv_world_destroy(w->k.world);
	stele_sim_destroy(w->sim);
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

static void days(struct world *w, uint64_t n)
{
	(void)stele_sim_run(w->sim, never, NULL, n * DAY);
}

static int64_t age_days(struct world *w, bool deep)
{
	struct stele_store_scrubbed last;
	stele_disk_scrubbed(stele_slots_disk(w->slots, 0), deep, &last);
	cr_assert_neq(last.finished, 0);
	return (stele_env_wall(w->k.env) - last.finished) / (24 * 3600);
}

Test(scrubs, weekly_and_deep_monthly)
{
	struct world w;
	begin(&w, 0);
	uint32_t ended[2] = {0};
	int64_t last[2] = {0};
	for (uint32_t day = 1; day <= 70; day++) {
		days(&w, 1);
		if (day % 3 == 0) {
			stop(&w);
			start(&w);
			days(&w, 1);
			day++;
		}
		cr_assert_leq(age_days(&w, false), 7, "day %u", day);
		cr_assert_leq(age_days(&w, true), 30, "day %u", day);
		for (int deep = 0; deep < 2; deep++) {
			struct stele_store_scrubbed now;
			stele_disk_scrubbed(stele_slots_disk(w.slots, 0), deep, &now);
			ended[deep] += now.finished != last[deep];
			last[deep] = now.finished;
		}
	}
	cr_assert(ended[1] == 3 && ended[0] >= 10 && ended[0] <= 13, "and no more often: %u, %u",
	          ended[0], ended[1]);
	end(&w);
}

/* An extent takes hours, all of them days. */
Test(scrubs, a_sweep_longer_than_a_life_ends_all_the_same)
{
	struct world w;
	begin(&w, 60);
	struct stele_store_scrubbed last = {0};
	uint32_t lives = 0;
	for (; lives < 10 && !last.finished; lives++) {
		days(&w, 1);
		stop(&w);
		start(&w);
		stele_disk_scrubbed(stele_slots_disk(w.slots, 0), true, &last);
	}
	cr_assert(last.finished && lives > 2, "%u lives", lives);
	end(&w);
}

Test(scrubs, one_that_is_asked_for_takes_the_place_of_one_in_the_background)
{
	struct world w;
	begin(&w, 100);
	days(&w, 1);
	cr_assert_eq(stele_scrubs_start(w.scrubs, true), STELE_OK, "%s", stele_detail());
	(void)stele_sim_run(w.sim, never, NULL, DAY / 24);
	struct stele_scrubs_status st;
	stele_scrubs_status(w.scrubs, &st);
	cr_assert(!st.running && st.entries >= BLOCKS && st.victims == 0);
	cr_assert_eq(age_days(&w, true), 0);
	end(&w);
}
