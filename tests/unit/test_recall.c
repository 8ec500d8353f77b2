/*
 * Goal: a node remembers the highest incarnation and LSN of each disk of its peers, over restarts, tells them, and a disk
 * that is lower than somebody remembers is a stale snapshot until it has made up for it: said once, never forgotten
 * early, never held against a disk that is another or that has been reconciled.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "net/repair/recall.h"
#include "storage/io/sim.h"

static struct stele_sim *sim;
static struct stele_env *env;
static struct stele_recall *r;
static char said[STELE_DETAIL_MAX];

static void say(void *ctx, const char *line)
{
	(void)ctx;
	snprintf(said, sizeof(said), "%s", line);
}

static void begin(void)
{
	said[0] = '\0';
	cr_assert_eq(stele_recall_create(env, "/node", 1, say, NULL, &r), STELE_OK, "%s",
	             stele_detail());
}

static void again(void)
{
	stele_recall_destroy(r);
	begin();
}

static void init(void)
{
	cr_assert_eq(stele_sim_create(1, &sim), STELE_OK);
	cr_assert_eq(stele_sim_env(sim, "m", &env), STELE_OK);
	cr_assert_eq(stele_file_mkdirs(env, "/node", 0700), STELE_OK);
	cr_assert_eq(stele_file_sync_dir(env, "/"), STELE_OK);
	begin();
}

static void fini(void)
{
	stele_recall_destroy(r);
	stele_env_destroy(env);
	stele_sim_destroy(sim);
}

static struct stele_uuid uuid(uint8_t n)
{
	return (struct stele_uuid){.b = {n, 0xee}};
}

static void hear(uint16_t node, uint16_t slot, uint8_t state, uint8_t disk, uint64_t incarnation,
                 uint64_t lsn)
{
	struct stele_head_ping h = {.ndisks = 1};
	h.disk[0] = (struct stele_ping_disk){.slot = slot,
	                                     .state = state,
	                                     .uuid = uuid(disk),
	                                     .incarnation = incarnation,
	                                     .lsn = lsn};
	stele_recall_heard(r, node, &h);
}

/* What that node is told of its slot; NULL: nothing. */
static const struct stele_ping_told *told(uint16_t node, uint16_t slot)
{
	static struct stele_head_ping_told h;
	uint8_t head[STELE_PING_TOLD_MAX];
	uint32_t len = stele_recall_tell(r, node, head);
	cr_assert_eq(stele_head_ping_told_decode(head, len, &h), STELE_OK);
	for (uint16_t i = 0; i < h.n; i++)
		if (h.disk[i].slot == slot)
			return &h.disk[i];
	return NULL;
}

static void tells(uint16_t node, uint16_t slot, uint8_t disk, uint64_t incarnation, uint64_t lsn)
{
	const struct stele_ping_told *t = told(node, slot);
	struct stele_uuid want = uuid(disk);
	cr_assert_not_null(t);
	cr_assert(stele_uuid_equal(&t->uuid, &want) && t->incarnation == incarnation &&
	              t->lsn == lsn,
	          "disk %u, incarnation %u, lsn %u", t->uuid.b[0], (unsigned)t->incarnation,
	          (unsigned)t->lsn);
}

TestSuite(recall, .init = init, .fini = fini);

Test(recall, the_highest_is_told_and_kept)
{
	cr_assert_null(told(2, 0));
	hear(2, 0, STELE_SLOT_SERVING, 20, 1, 100);
	hear(2, 3, STELE_SLOT_REFILLING, 23, 1, 0);
	hear(3, 0, STELE_SLOT_FULL, 30, 7, 5);
	hear(2, 0, STELE_SLOT_FENCED, 20, 1, 250);
	for (int life = 0; life < 2; life++) {
		tells(2, 0, 20, 1, 250);
		tells(2, 3, 23, 1, 0);
		tells(3, 0, 30, 7, 5);
		cr_assert_null(told(2, 1));
		cr_assert_null(told(4, 0));
		again();
	}
	hear(2, 0, STELE_SLOT_MISSING, 0, 0, 0);
	tells(2, 0, 20, 1, 250);
	hear(2, 0, STELE_SLOT_SERVING, 20, 2, 250);
	tells(2, 0, 20, 2, 250);
	cr_assert_str_eq(said, "");
}

Test(recall, a_crash_loses_at_most_a_minute)
{
	hear(2, 0, STELE_SLOT_SERVING, 20, 1, 100); /* a disk that is new is kept at once */
	hear(2, 0, STELE_SLOT_SERVING, 20, 1, 200);
	hear(2, 0, STELE_SLOT_SERVING, 20, 2, 300); /* and one that was opened anew */
	hear(2, 0, STELE_SLOT_SERVING, 20, 2, 400);
	stele_sim_crash(sim, "m");
	stele_recall_destroy(r);
	stele_env_destroy(env);
	cr_assert_eq(stele_sim_env(sim, "m", &env), STELE_OK);
	begin();
	tells(2, 0, 20, 2, 300);
}

Test(recall, a_stale_disk_is_told_until_it_is_reconciled)
{
	hear(2, 0, STELE_SLOT_SERVING, 20, 3, 100);
	hear(2, 0, STELE_SLOT_REFILLING, 20, 2, 60);
	tells(2, 0, 20, 3, 100);
	hear(2, 0, STELE_SLOT_REFILLING_FULL, 20, 4, 70);
	hear(2, 0, STELE_SLOT_FENCED, 20, 4, 70);
	tells(2, 0, 20, 3, 100);
	again();
	tells(2, 0, 20, 3, 100);
	hear(2, 0, STELE_SLOT_SERVING, 20, 4, 80); /* it knows, and has all again */
	tells(2, 0, 20, 4, 80);
	hear(2, 0, STELE_SLOT_REFILLING, 21, 1, 0); /* emptied: another disk */
	tells(2, 0, 21, 1, 0);
}

Test(recall, ours_is_stale_once_for_each_that_is_remembered)
{
	struct stele_store_identity id = {.disk = uuid(10), .incarnation = 4, .lsn = 80};
	struct stele_ping_told t = {.slot = 2, .uuid = uuid(10), .incarnation = 4, .lsn = 80};
	cr_assert_not(stele_recall_stale(r, &id, &t));
	t.lsn = 81;
	cr_assert(stele_recall_stale(r, &id, &t), "its LSN is lower");
	t = (struct stele_ping_told){.slot = 2, .uuid = uuid(10), .incarnation = 5, .lsn = 1};
	cr_assert(stele_recall_stale(r, &id, &t), "its incarnation is lower");
	stele_recall_took(r, &t);
	for (int life = 0; life < 2; life++) {
		cr_assert_not(stele_recall_stale(r, &id, &t), "taken in already");
		again();
	}
	t.incarnation = 4;
	t.lsn = 90;
	cr_assert(stele_recall_stale(r, &id, &t), "another peer remembers more");
	stele_recall_took(r, &t);
	cr_assert_not(stele_recall_stale(r, &id, &t));
	t.uuid = uuid(11);
	cr_assert_not(stele_recall_stale(r, &id, &t), "that disk is gone");
	t = (struct stele_ping_told){.slot = 1, .uuid = uuid(10), .incarnation = 5, .lsn = 1};
	cr_assert(stele_recall_stale(r, &id, &t), "of another slot nothing was taken in");
	hear(1, 2, STELE_SLOT_SERVING, 10, 4, 80); /* its own answer changes nothing */
	t = (struct stele_ping_told){.slot = 2, .uuid = uuid(10), .incarnation = 5, .lsn = 90};
	cr_assert_not(stele_recall_stale(r, &id, &t));
}

Test(recall, a_damaged_file_is_said_and_begun_anew)
{
	static const char *const bad[] = {"node 2 slot 0 disk 00 incarnation 1 lsn 1\n",
	                                  "node 70000 slot 0 disk "
	                                  "000102030405060708090a0b0c0d0e0f incarnation 1 lsn 1\n",
	                                  "what\n"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		hear(2, 0, STELE_SLOT_SERVING, 20, 1, 100);
		stele_recall_destroy(r);
		cr_assert_eq(stele_file_save(env, "/node/peers", bad[i], strlen(bad[i]), 0600),
		             STELE_OK);
		begin();
		cr_assert(strstr(said, "/node/peers is damaged"), "%s", said);
		cr_assert_null(told(2, 0));
	}
}
