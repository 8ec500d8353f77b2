/*
 * Goal: a slot says what its disk is: new or emptied ones have no voice (P3) until they are said to be refilled, full or not,
 * and a restart remembers that. Slots say what lies in them, at the start and while the node runs: a disk is detached and attached, a
 * missing one comes later, a fenced one is replaced by an empty one and is to be refilled; a wrong one is refused by name.
 * All of it with a loop for each disk and with one loop. Runs under TSan too.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "net/slots.h"
#include "tests/unit/store_kit.h"

struct rig {
	struct kit k; /* its env is the node's loop, its directory the node's; disks lie below it */
	struct stele_slots *slots;
	char dir[3][160];
	bool own_loops;
	uint64_t capacity;
	bool closed;
};

static void no_log(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static void shell(struct rig *r, const char *fmt, const char *a, const char *b)
{
	char cmd[600];
	(void)r;
	snprintf(cmd, sizeof(cmd), fmt, a, b);
	cr_assert_eq(system(cmd), 0, "%s", cmd);
}

/* With the first n of three directories configured. */
static void rig_open(struct rig *r, uint32_t n)
{
	const char *disk[3] = {r->dir[0], r->dir[1], r->dir[2]};
	struct stele_slots_opts opts = {.env = r->k.env,
	                                .own_loops = r->own_loops,
	                                .kv = &stele_kv_leveldb,
	                                .cluster = r->k.opts.cluster,
	                                .node_dir = r->k.dir,
	                                .disk = disk,
	                                .ndisks = n,
	                                .extent_len = STELE_EXTENT_LEN_MIN,
	                                .capacity = r->capacity,
	                                .log = no_log};
	cr_assert_eq(stele_slots_open(&opts, &r->slots), STELE_OK, "%s", stele_detail());
	stele_slots_begin(r->slots);
	r->closed = false;
}

static void rig_start(struct rig *r, bool own_loops, uint32_t n)
{
	memset(r, 0, sizeof(*r));
	r->own_loops = own_loops;
	kit_env(&r->k, true);
	kit_dir(&r->k);
	kit_opts(&r->k, true);
	for (int i = 0; i < 3; i++) {
		snprintf(r->dir[i], sizeof(r->dir[i]), "%s/d%d", r->k.dir, i);
		cr_assert_eq(mkdir(r->dir[i], 0755), 0);
	}
	rig_open(r, n);
}

static void on_closed(void *ctx)
{
	struct rig *r = ctx;
	r->closed = true;
	kit_woken(&r->k);
}

static void rig_close(struct rig *r)
{
	r->k.waiting++;
	stele_slots_close(r->slots, on_closed, r);
	kit_run(&r->k);
	cr_assert(r->closed);
	stele_slots_destroy(r->slots);
}

static void rig_end(struct rig *r)
{
	rig_close(r);
	kit_end(&r->k);
}

static void changed(struct stele_slot_change *c)
{
	struct rig *r = c->ctx;
	kit_woken(&r->k);
}

static enum stele_err attach(struct rig *r, uint32_t slot, bool as_new,
                             char detail[STELE_DETAIL_MAX])
{
	struct stele_slot_change c = {
	    .slot = slot, .dir = r->dir[slot], .as_new = as_new, .cb = changed, .ctx = r};
	uint64_t before = stele_slots_changes(r->slots);
	enum stele_err err = stele_slots_attach(r->slots, &c);
	if (err != STELE_OK) {
		stele_detail_copy(detail);
		return err;
	}
	cr_assert_eq(stele_slots_state(r->slots, slot), STELE_SLOT_MISSING, "not yet");
	r->k.waiting++;
	kit_run(&r->k);
	if (c.err == STELE_OK)
		cr_assert_neq(stele_slots_changes(r->slots), before);
	else
		cr_assert_str_eq(stele_slots_reason(r->slots, slot), c.detail);
	strcpy(detail, c.detail);
	return c.err;
}

static enum stele_err detach(struct rig *r, uint32_t slot)
{
	struct stele_slot_change c = {.slot = slot, .cb = changed, .ctx = r};
	STELE_TRY(stele_slots_detach(r->slots, &c));
	cr_assert_null(stele_slots_disk(r->slots, slot), "missing at once");
	r->k.waiting++;
	kit_run(&r->k);
	return c.err;
}

static enum stele_slot_state state(const struct rig *r, uint32_t slot)
{
	return stele_slots_state(r->slots, slot);
}

struct put {
	struct rig *r;
	struct stele_item item;
	struct stele_store_write w;
};

static void put_over(struct stele_store_write *w)
{
	struct put *p = w->ctx;
	kit_woken(&p->r->k);
}

static enum stele_err put(struct rig *r, struct stele_disk *disk, uint64_t n)
{
	struct stele_hash id = kit_hash(n), sub = kit_hash(n + 1000000);
	struct put p = {.r = r,
	                .item = {.key = kit_key(STELE_ENTRY_RECORD, &id, &sub, 0),
	                         .meta = "some record",
	                         .meta_len = 11}};
	p.w = (struct stele_store_write){.item = &p.item, .n = 1, .cb = put_over, .ctx = &p};
	r->k.waiting++;
	stele_disk_write(disk, &p.w);
	kit_run(&r->k);
	return p.w.err;
}

/* ---- voices ---- */

static enum stele_err put_shard(struct rig *r, uint32_t slot, uint64_t seed)
{
	struct kit_block b;
	uint32_t len;
	kit_block_make(&b, "rs-4-2", 4u << 20, seed);
	uint8_t *meta = kit_meta(&b, 0, &len);
	struct iovec iov = {b.shard[0], b.d.S};
	struct put p = {.r = r,
	                .item = {.key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0),
	                         .meta = meta,
	                         .meta_len = len,
	                         .data = &iov,
	                         .ndata = 1,
	                         .data_len = b.d.S}};
	p.w = (struct stele_store_write){.item = &p.item, .n = 1, .cb = put_over, .ctx = &p};
	r->k.waiting++;
	stele_disk_write(stele_slots_disk(r->slots, slot), &p.w);
	kit_run(&r->k);
	free(meta);
	kit_block_free(&b);
	return p.w.err;
}

/* Writes until there is no room. */
static void fill(struct rig *r, uint32_t slot)
{
	enum stele_err err = STELE_OK;
	for (uint64_t n = 0; n < 100 && err == STELE_OK; n++)
		err = put_shard(r, slot, n);
	cr_assert_eq(err, STELE_ERR_FULL, "%s", stele_err_name(err));
}

static void is(const struct rig *r, enum stele_slot_state want, bool refilling)
{
	cr_assert_eq(state(r, 0), want, "%d", state(r, 0));
	cr_assert_eq(stele_slots_refilling(r->slots, 0), refilling);
}

static void voices(bool own_loops)
{
	static struct rig r;
	rig_start(&r, own_loops, 2);
	rig_close(&r);
	r.capacity = 4ull * STELE_EXTENT_LEN_MIN;
	rig_open(&r, 2);
	is(&r, STELE_SLOT_REFILLING, true);
	fill(&r, 0);
	is(&r, STELE_SLOT_REFILLING_FULL, true);
	rig_close(&r);
	rig_open(&r, 2); /* whether it is full shows with the next write */
	is(&r, STELE_SLOT_REFILLING, true);
	fill(&r, 0);
	stele_slots_refilled(r.slots, 0);
	is(&r, STELE_SLOT_FULL, false);
	rig_close(&r);
	rig_open(&r, 2);
	is(&r, STELE_SLOT_SERVING, false);
	/* emptied under the node's old identity */
	rig_close(&r);
	kit_rm(r.dir[0]);
	cr_assert_eq(mkdir(r.dir[0], 0700), 0);
	rig_open(&r, 2);
	is(&r, STELE_SLOT_REFILLING, true);
	rig_end(&r);
}

Test(slots, a_disk_that_is_being_refilled_has_no_voice_when_it_is_full_either)
{
	voices(true);
}

Test(slots, voices_on_one_loop)
{
	voices(false);
}

/* ---- room that comes back ---- */

/* All at once: what is told with the answer is of before anything was reclaimed. */
static void remove_shards(struct rig *r, uint32_t slot, uint32_t n)
{
	struct stele_item item[16] = {0};
	struct put p = {.r = r};
	cr_assert_leq(n, 16);
	for (uint32_t i = 0; i < n; i++) {
		struct kit_block b;
		kit_block_make(&b, "rs-4-2", 4u << 20, i);
		item[i] = (struct stele_item){.key = kit_key(STELE_ENTRY_SHARD, &b.id, NULL, 0),
		                              .tomb = true};
		kit_block_free(&b);
	}
	p.w = (struct stele_store_write){.item = item, .n = n, .cb = put_over, .ctx = &p};
	r->k.waiting++;
	stele_disk_write(stele_slots_disk(r->slots, slot), &p.w);
	kit_run(&r->k);
	cr_assert_eq(p.w.err, STELE_OK, "%s", p.w.detail);
}

/* Nobody writes to a full disk, or even asks it anything: that reclaim has made room shows by itself. */
Test(slots, a_full_disk_that_gets_room_is_full_no_more)
{
	static struct rig r;
	uint32_t n = 0;
	rig_start(&r, true, 2);
	rig_close(&r);
	r.capacity = 4ull * STELE_EXTENT_LEN_MIN;
	rig_open(&r, 2);
	stele_slots_refilled(r.slots, 0);
	while (put_shard(&r, 0, n) == STELE_OK)
		n++;
	is(&r, STELE_SLOT_FULL, false);
	remove_shards(&r, 0, n);
	while (state(&r, 0) == STELE_SLOT_FULL)
		usleep(20000);
	cr_assert_eq(put_shard(&r, 0, n), STELE_OK);
	rig_end(&r);
}

/* ---- coming and going ---- */

static void come_and_go(bool own_loops)
{
	static struct rig r;
	char why[STELE_DETAIL_MAX];
	rig_start(&r, own_loops, 2);
	cr_assert(state(&r, 0) == STELE_SLOT_REFILLING && state(&r, 1) == STELE_SLOT_REFILLING);
	stele_slots_refilled(r.slots, 0);
	stele_slots_refilled(r.slots, 1);
	struct stele_disk *old = stele_slots_disk(r.slots, 1);
	cr_assert_eq(put(&r, old, 1), STELE_OK);
	cr_assert_eq(attach(&r, 1, false, why), STELE_ERR_EXISTS, "it serves");
	cr_assert_eq(detach(&r, 1), STELE_OK);
	cr_assert_eq(state(&r, 1), STELE_SLOT_MISSING);
	cr_assert(strstr(stele_slots_reason(r.slots, 1), "detached"));
	cr_assert_eq(put(&r, old, 2), STELE_ERR_UNAVAILABLE, "whoever kept it");
	cr_assert_eq(state(&r, 0), STELE_SLOT_SERVING, "the other one goes on");
	cr_assert_eq(put(&r, stele_slots_disk(r.slots, 0), 3), STELE_OK);
	cr_assert_eq(detach(&r, 1), STELE_ERR_NOT_FOUND);
	cr_assert_eq(detach(&r, STELE_SLOTS_MAX), STELE_ERR_USAGE);

	/* The same disk again: whole, as it was. */
	cr_assert_eq(attach(&r, 1, false, why), STELE_OK, "%s", why);
	cr_assert_eq(state(&r, 1), STELE_SLOT_SERVING);
	cr_assert_eq(put(&r, stele_slots_disk(r.slots, 1), 2), STELE_OK);
	cr_assert_eq(put(&r, old, 4), STELE_ERR_UNAVAILABLE, "the old one is not the new one");
	struct stele_store_identity id;
	stele_disk_identity(stele_slots_disk(r.slots, 1), &id);
	cr_assert_eq(id.incarnation, 2);

	/* A slot that was not configured when the node started. */
	cr_assert_eq(stele_slots_n(r.slots), 2);
	cr_assert_eq(attach(&r, 2, false, why), STELE_OK, "%s", why);
	cr_assert_eq(stele_slots_n(r.slots), 3);
	cr_assert_eq(state(&r, 2), STELE_SLOT_REFILLING);

	/* All of it is remembered. */
	rig_close(&r);
	rig_open(&r, 3);
	cr_assert(state(&r, 0) == STELE_SLOT_SERVING && state(&r, 1) == STELE_SLOT_SERVING &&
	          state(&r, 2) == STELE_SLOT_REFILLING);
	rig_end(&r);
}

Test(slots, disks_come_and_go)
{
	come_and_go(true);
}

Test(slots, disks_come_and_go_on_one_loop)
{
	come_and_go(false);
}

static void replaced(bool own_loops)
{
	static struct rig r;
	char why[STELE_DETAIL_MAX], away[200];
	rig_start(&r, own_loops, 2);
	stele_slots_refilled(r.slots, 1);
	struct stele_store_identity before, after;
	stele_disk_identity(stele_slots_disk(r.slots, 1), &before);
	snprintf(away, sizeof(away), "%s-away", r.dir[1]);
	shell(&r, "mv '%s' '%s'", r.dir[1], away);
	for (uint64_t n = 0; state(&r, 1) != STELE_SLOT_FENCED; n++) /* until it is noticed */
		(void)put(&r, stele_slots_disk(r.slots, 1), n);
	cr_assert(strstr(stele_slots_reason(r.slots, 1), r.dir[1]));
	cr_assert_eq(put(&r, stele_slots_disk(r.slots, 1), 1u << 30), STELE_ERR_FENCED);
	cr_assert_eq(state(&r, 0), STELE_SLOT_REFILLING, "the other one is not concerned");

	/* Nothing there yet: the fenced one is gone now, and the reason says what to do. */
	cr_assert_eq(attach(&r, 1, false, why), STELE_ERR_UNAVAILABLE);
	cr_assert(strstr(why, "not a directory"), "%s", why);
	cr_assert_eq(state(&r, 1), STELE_SLOT_MISSING);
	/* An empty directory on the same file system: formatted, to be refilled. */
	shell(&r, "mkdir '%s'%s", r.dir[1], "");
	cr_assert_eq(attach(&r, 1, false, why), STELE_OK, "%s", why);
	cr_assert_eq(state(&r, 1), STELE_SLOT_REFILLING);
	stele_disk_identity(stele_slots_disk(r.slots, 1), &after);
	cr_assert(!stele_uuid_equal(&before.disk, &after.disk));

	rig_end(&r);
}

static void swapped(bool own_loops)
{
	static struct rig r;
	char why[STELE_DETAIL_MAX], away[200];
	rig_start(&r, own_loops, 3);
	struct stele_store_identity one, two;
	stele_slots_refilled(r.slots, 1);
	stele_slots_refilled(r.slots, 2);
	stele_disk_identity(stele_slots_disk(r.slots, 1), &one);
	cr_assert_eq(detach(&r, 1), STELE_OK);
	cr_assert_eq(detach(&r, 2), STELE_OK);
	snprintf(away, sizeof(away), "%s-away", r.dir[1]);
	shell(&r, "mv '%s' '%s'", r.dir[1], away);
	shell(&r, "mv '%s' '%s'", r.dir[2], r.dir[1]);
	cr_assert_eq(attach(&r, 1, false, why), STELE_ERR_UNAVAILABLE);
	cr_assert(strstr(why, "slot 2: swapped"), "%s", why);
	shell(&r, "rm -rf '%s'%s", r.dir[1], "");
	shell(&r, "mkdir '%s'%s", r.dir[2], "");
	cr_assert_eq(attach(&r, 2, false, why), STELE_OK, "%s", why); /* another disk now */
	cr_assert_eq(detach(&r, 2), STELE_OK);
	shell(&r, "mv '%s' '%s'", r.dir[2], r.dir[1]);
	shell(&r, "rm -f '%s/slots'%s", r.k.dir, ""); /* not read again while it runs */
	cr_assert_eq(attach(&r, 1, false, why), STELE_ERR_UNAVAILABLE);
	cr_assert_eq(attach(&r, 1, true, why), STELE_OK, "%s", why);
	cr_assert_eq(state(&r, 1), STELE_SLOT_REFILLING, "it is not the one that was given up");
	stele_disk_identity(stele_slots_disk(r.slots, 1), &two);
	cr_assert(!stele_uuid_equal(&one.disk, &two.disk));
	rig_end(&r);
}

/* Power was lost when the disk was formatted anew, and the slots file was not written yet. */
static void formatted_and_forgotten(bool own_loops)
{
	static struct rig r;
	for (int used = 0; used < 2; used++) {
		rig_start(&r, own_loops, 2);
		stele_slots_refilled(r.slots, 1);
		rig_close(&r);
		shell(&r, "cp '%s/slots' '%s/before'", r.k.dir, r.k.dir);
		shell(&r, "rm -rf '%s'/*%s", r.dir[1], "");
		rig_open(&r, 2);
		if (used)
			cr_assert_eq(put(&r, stele_slots_disk(r.slots, 1), 1), STELE_OK);
		rig_close(&r);
		shell(&r, "mv '%s/before' '%s/slots'", r.k.dir, r.k.dir);
		rig_open(&r, 2);
		if (used) {
			cr_assert_eq(state(&r, 1), STELE_SLOT_MISSING, "it has something: whose?");
			cr_assert(strstr(stele_slots_reason(r.slots, 1), "swapped"));
		} else {
			cr_assert_eq(state(&r, 1), STELE_SLOT_REFILLING, "%s",
			             stele_slots_reason(r.slots, 1));
		}
		rig_end(&r);
	}
}

Test(slots, one_that_was_emptied_and_formatted_by_a_start_that_died)
{
	formatted_and_forgotten(true);
}

Test(slots, one_that_was_emptied_on_one_loop)
{
	formatted_and_forgotten(false);
}

/* It may have been here, and gone, and a record may have come meanwhile. */
Test(slots, a_disk_that_the_slots_file_does_not_know_has_no_voice)
{
	static struct rig r;
	rig_start(&r, true, 2);
	stele_slots_refilled(r.slots, 1);
	rig_close(&r);
	shell(&r, "sed -i '/^slot 1 /d' '%s/slots'%s", r.k.dir, "");
	rig_open(&r, 2);
	cr_assert_eq(state(&r, 1), STELE_SLOT_REFILLING);
	rig_end(&r);
}

Test(slots, a_fenced_one_is_replaced_and_to_be_refilled)
{
	replaced(true);
}

Test(slots, a_fenced_one_is_replaced_on_one_loop)
{
	replaced(false);
}

Test(slots, a_wrong_disk_is_refused_by_name_unless_taken_as_new)
{
	swapped(true);
}

Test(slots, a_wrong_disk_on_one_loop)
{
	swapped(false);
}

Test(slots, those_between_say_that_they_are_not_configured)
{
	static struct rig r;
	char why[STELE_DETAIL_MAX];
	rig_start(&r, true, 1);
	cr_assert_eq(attach(&r, 2, false, why), STELE_OK, "%s", why);
	cr_assert_eq(state(&r, 1), STELE_SLOT_MISSING);
	cr_assert_str_eq(stele_slots_reason(r.slots, 1), "slot 1: not configured");
	rig_end(&r);
}

/* Every disk that ever came is kept until the end, and there is room for those that are left by then. */
static void often(bool own_loops)
{
	static struct rig r;
	char why[STELE_DETAIL_MAX];
	rig_start(&r, own_loops, 2);
	for (uint32_t i = 0; i < STELE_SLOTS_MAX - 1; i++) {
		cr_assert_eq(detach(&r, 1), STELE_OK);
		cr_assert_eq(attach(&r, 1, false, why), STELE_OK, "%s", why);
	}
	rig_end(&r);
}

Test(slots, however_often_a_disk_came_and_went_all_are_closed)
{
	often(true);
}

Test(slots, often_on_one_loop)
{
	often(false);
}

Test(slots, two_changes_of_a_slot_at_a_time_are_one_too_many)
{
	static struct rig r;
	rig_start(&r, true, 2);
	struct stele_slot_change one = {.slot = 1, .cb = changed, .ctx = &r}, two = one;
	cr_assert_eq(stele_slots_detach(r.slots, &one), STELE_OK);
	cr_assert_eq(stele_slots_detach(r.slots, &two), STELE_ERR_BUSY);
	two.dir = r.dir[1];
	cr_assert_eq(stele_slots_attach(r.slots, &two), STELE_ERR_BUSY);
	r.k.waiting++;
	kit_run(&r.k);
	cr_assert_eq(one.err, STELE_OK);
	rig_end(&r);
}

Test(slots, a_node_without_any_disk_does_not_start)
{
	static struct rig r;
	rig_start(&r, true, 2);
	rig_close(&r);
	const char *disk[2] = {"/nonexistent/a", r.dir[0]};
	struct stele_slots_opts opts = {.env = r.k.env,
	                                .own_loops = true,
	                                .kv = &stele_kv_leveldb,
	                                .cluster = r.k.opts.cluster,
	                                .node_dir = r.k.dir,
	                                .disk = disk,
	                                .ndisks = 1,
	                                .log = no_log};
	cr_assert_eq(stele_slots_open(&opts, &r.slots), STELE_ERR_USAGE);
	cr_assert(strstr(stele_detail(), "/nonexistent/a"), "%s", stele_detail());
	/* Two: the second one holds the disk of slot 0, and is closed again without a loop of ours. */
	opts.ndisks = 2;
	cr_assert_eq(stele_slots_open(&opts, &r.slots), STELE_ERR_USAGE);
	rig_open(&r, 2);
	rig_end(&r);
}
