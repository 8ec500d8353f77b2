/* Goal: a slot says what its disk is: new or emptied ones have no voice (P3) until they are said to
 * be refilled, full or not, and a restart remembers that. */
#include "net/slots.h"

#include <sys/stat.h>

#include "tests/unit/store_kit.h"

struct one {
	struct kit k;
	char path[160];
	const char *disk;
	struct stele_slots_opts opts;
	struct stele_slots *slots;
};

static void open_slots(struct one *o)
{
	cr_assert_eq(stele_slots_open(&o->opts, &o->slots), STELE_OK, "%s", stele_detail());
	o->k.store = stele_slots_store(o->slots, 0);
	cr_assert_not_null(o->k.store);
}

static void close_slots(struct one *o)
{
	kit_settle(&o->k);
	o->k.store = NULL;
	stele_slots_close(o->slots);
}

static void begin(struct one *o)
{
	memset(o, 0, sizeof(*o));
	kit_env(&o->k, true);
	kit_dir(&o->k);
	kit_opts(&o->k, true);
	snprintf(o->path, sizeof(o->path), "%s/disk0", o->k.dir);
	cr_assert_eq(mkdir(o->path, 0700), 0);
	o->disk = o->path;
	o->opts = (struct stele_slots_opts){.env = o->k.env,
	                                    .kv = o->k.kv,
	                                    .cluster = o->k.opts.cluster,
	                                    .node_dir = o->k.dir,
	                                    .disk = &o->disk,
	                                    .ndisks = 1,
	                                    .extent_len = STELE_EXTENT_LEN_MIN,
	                                    .capacity = 4ull * STELE_EXTENT_LEN_MIN};
	open_slots(o);
}

static void end(struct one *o)
{
	close_slots(o);
	kit_end(&o->k);
}

/* Writes until there is no room. */
static void fill(struct one *o)
{
	enum stele_err err = STELE_OK;
	for (uint64_t n = 0; n < 100 && err == STELE_OK; n++) {
		struct kit_block b;
		kit_block_make(&b, "rs-4-2", 4u << 20, n);
		err = kit_put(&o->k, &b, 0, NULL);
		kit_block_free(&b);
	}
	cr_assert_eq(err, STELE_ERR_FULL, "%s", stele_err_name(err));
}

static void is(const struct one *o, enum stele_slot_state state, bool refilling)
{
	cr_assert_eq(stele_slots_state(o->slots, 0), state, "%d", stele_slots_state(o->slots, 0));
	cr_assert_eq(stele_slots_refilling(o->slots, 0), refilling);
}

Test(slots, a_disk_that_is_being_refilled_has_no_voice_when_it_is_full_either)
{
	struct one o;
	begin(&o);
	is(&o, STELE_SLOT_REFILLING, true);
	fill(&o);
	is(&o, STELE_SLOT_REFILLING_FULL, true);
	close_slots(&o);
	open_slots(&o); /* whether it is full shows with the next write */
	is(&o, STELE_SLOT_REFILLING, true);
	fill(&o);
	stele_slots_refilled(o.slots, 0);
	is(&o, STELE_SLOT_FULL, false);
	close_slots(&o);
	open_slots(&o);
	is(&o, STELE_SLOT_SERVING, false);
	/* emptied under the node's old identity */
	close_slots(&o);
	kit_rm(o.path);
	cr_assert_eq(mkdir(o.path, 0700), 0);
	open_slots(&o);
	is(&o, STELE_SLOT_REFILLING, true);
	end(&o);
}
