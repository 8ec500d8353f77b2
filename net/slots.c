/* Opens a node's slots and judges what it finds in them; remembers each disk between lives. It
 * never removes anything: a slot whose contents are not what was expected is left out and said. */
#include "net/slots.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct known { /* a line of the slots file */
	bool present;
	struct stele_uuid disk;
	uint64_t fs;
	uint64_t incarnation;
	bool refilling;
};

struct slot {
	struct stele_store *store;
	struct known known;
	char reason[STELE_DETAIL_MAX];
};

struct stele_slots {
	struct stele_slots_opts opts;
	char file[STELE_PATH_MAX];
	uint32_t n;
	struct slot slot[STELE_SLOTS_MAX];
};

STELE_PRINTF(2, 3) static void say(const struct stele_slots *s, const char *fmt, ...)
{
	char line[STELE_DETAIL_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (s->opts.log)
		s->opts.log(s->opts.log_ctx, line);
}

/* ---- the slots file ---- */

static enum stele_err parse_line(struct stele_slots *s, const char *line)
{
	unsigned slot, refilling;
	char uuid[33];
	struct known k = {.present = true};
	if (sscanf(line,
	           "slot %u disk %32[0-9a-f] fs %" SCNu64 " incarnation %" SCNu64 " refilling %u",
	           &slot, uuid, &k.fs, &k.incarnation, &refilling) != 5 ||
	    slot >= STELE_SLOTS_MAX || refilling > 1 ||
	    !stele_unhex(uuid, strlen(uuid), k.disk.b, sizeof(k.disk.b), true))
		return stele_fail(STELE_ERR_CORRUPT, "%s: line not understood: %.80s", s->file,
		                  line);
	k.refilling = refilling == 1;
	s->slot[slot].known = k;
	return STELE_OK;
}

static enum stele_err load(struct stele_slots *s)
{
	char *text;
	size_t len;
	enum stele_err err = stele_file_load(s->opts.env, s->file, 65536, &text, &len);
	if (err == STELE_ERR_NOT_FOUND)
		return STELE_OK;
	if (err != STELE_OK)
		return err;
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line && err == STELE_OK;
	     line = strtok_r(NULL, "\n", &save))
		err = parse_line(s, line);
	free(text);
	return err;
}

static enum stele_err save(struct stele_slots *s)
{
	char text[STELE_SLOTS_MAX * 160];
	size_t at = 0;
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++) {
		const struct known *k = &s->slot[i].known;
		char uuid[33];
		if (!k->present)
			continue;
		at += (size_t)snprintf(text + at, sizeof(text) - at,
		                       "slot %u disk %s fs %" PRIu64 " incarnation %" PRIu64
		                       " refilling %d\n",
		                       i, stele_hex(k->disk.b, sizeof(k->disk.b), uuid), k->fs,
		                       k->incarnation, k->refilling);
	}
	assert(at < sizeof(text));
	return stele_file_save(s->opts.env, s->file, text, at, 0644);
}

/* ---- opening ---- */

static struct stele_store_opts store_opts(const struct stele_slots *s, uint32_t i)
{
	return (struct stele_store_opts){
	    .env = s->opts.env,
	    .kv = s->opts.kv,
	    .kv_world = s->opts.kv_world,
	    .dir = s->opts.disk[i],
	    .cluster = s->opts.cluster,
	    .extent_len = s->opts.extent_len,
	    .capacity = s->opts.capacity,
	};
}

/* The store that was opened: is it the disk that belongs here? */
static void judge_found(struct stele_slots *s, uint32_t i, struct stele_store *store, uint64_t fs)
{
	struct slot *slot = &s->slot[i];
	struct stele_store_identity id;
	stele_store_identity(store, &id);
	if (slot->known.present && !stele_uuid_equal(&slot->known.disk, &id.disk)) {
		char want[33], have[33];
		snprintf(slot->reason, sizeof(slot->reason),
		         "slot %u: %s holds disk %s, but disk %s was here before: swapped? Put the "
		         "disks back, or remove the slot's line from %s to accept this one",
		         i, s->opts.disk[i], stele_hex(id.disk.b, 16, have),
		         stele_hex(slot->known.disk.b, 16, want), s->file);
		for (uint32_t j = 0; j < STELE_SLOTS_MAX; j++)
			if (j != i && s->slot[j].known.present &&
			    stele_uuid_equal(&s->slot[j].known.disk, &id.disk))
				snprintf(slot->reason, sizeof(slot->reason),
				         "slot %u: %s holds the disk of slot %u: swapped. Put the "
				         "disks back",
				         i, s->opts.disk[i], j);
		stele_store_close(store);
		return;
	}
	if (slot->known.present && id.incarnation <= slot->known.incarnation) {
		say(s,
		    "slot %u: %s is older than when last seen (incarnation %" PRIu64
		    ", was %" PRIu64 "): a stale snapshot; it removes nothing until reconciled",
		    i, s->opts.disk[i], id.incarnation, slot->known.incarnation);
		slot->known.refilling = true;
	}
	slot->known.present = true;
	slot->known.disk = id.disk;
	slot->known.fs = fs;
	slot->known.incarnation = id.incarnation;
	slot->store = store;
}

static void format_empty(struct stele_slots *s, uint32_t i, uint64_t fs)
{
	struct slot *slot = &s->slot[i];
	struct stele_store_opts opts = store_opts(s, i);
	struct stele_uuid disk;
	struct stele_store *store;
	bool again = slot->known.present;
	if (again && slot->known.fs != fs) {
		snprintf(slot->reason, sizeof(slot->reason),
		         "slot %u: %s is empty and lies on another file system than before: not "
		         "mounted? Mount it, or remove the slot's line from %s to start it empty",
		         i, s->opts.disk[i], s->file);
		return;
	}
	enum stele_err err = stele_store_format(&opts, &disk);
	if (err == STELE_OK)
		err = stele_store_open(&opts, &store);
	if (err != STELE_OK) {
		snprintf(slot->reason, sizeof(slot->reason), "slot %u: %s", i, stele_detail());
		return;
	}
	if (again)
		say(s,
		    "slot %u: %s was emptied: formatted anew under the node's old identity, to be "
		    "refilled",
		    i, s->opts.disk[i]);
	slot->known = (struct known){.present = false, .refilling = true};
	judge_found(s, i, store, fs);
}

static void open_slot(struct stele_slots *s, uint32_t i)
{
	struct slot *slot = &s->slot[i];
	struct stele_store_opts opts = store_opts(s, i);
	struct stele_stat st;
	struct stele_store *store;
	enum stele_err err = stele_file_stat(s->opts.env, s->opts.disk[i], &st);
	if (err != STELE_OK || !st.is_dir) {
		snprintf(slot->reason, sizeof(slot->reason),
		         "slot %u: %s is not a directory: not mounted? Mount it or create it, then "
		         "start the node again",
		         i, s->opts.disk[i]);
		return;
	}
	err = stele_store_open(&opts, &store);
	if (err == STELE_OK)
		judge_found(s, i, store, st.dev);
	else if (err == STELE_ERR_NOT_FOUND)
		format_empty(s, i, st.dev);
	else
		snprintf(slot->reason, sizeof(slot->reason), "slot %u: %s", i, stele_detail());
}

enum stele_err stele_slots_open(const struct stele_slots_opts *opts, struct stele_slots **out)
{
	if (opts->ndisks == 0 || opts->ndisks > STELE_SLOTS_MAX)
		return stele_fail(STELE_ERR_USAGE, "a node has 1 to %u disks, not %u",
		                  STELE_SLOTS_MAX, opts->ndisks);
	struct stele_slots *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "slots: out of memory");
	s->opts = *opts;
	s->n = opts->ndisks;
	int len = snprintf(s->file, sizeof(s->file), "%s/slots", opts->node_dir);
	enum stele_err err = len > 0 && (size_t)len < sizeof(s->file)
	                         ? load(s)
	                         : stele_fail(STELE_ERR_USAGE, "node directory: path too long");
	if (err != STELE_OK)
		goto fail;
	uint32_t open = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		if (opts->disk[i])
			open_slot(s, i);
		else
			snprintf(s->slot[i].reason, sizeof(s->slot[i].reason),
			         "slot %u: not configured", i);
		if (s->slot[i].store)
			open++;
		else if (opts->disk[i])
			say(s, "%s", s->slot[i].reason);
	}
	if (!open) {
		err = stele_fail(STELE_ERR_USAGE, "no disk can be used: %s", s->slot[0].reason);
		goto fail;
	}
	err = save(s);
	if (err != STELE_OK)
		goto fail;
	*out = s;
	return STELE_OK;
fail:
	stele_slots_close(s);
	return err;
}

void stele_slots_close(struct stele_slots *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n; i++)
		stele_store_close(s->slot[i].store);
	free(s);
}

uint32_t stele_slots_n(const struct stele_slots *s)
{
	return s->n;
}

struct stele_store *stele_slots_store(const struct stele_slots *s, uint32_t slot)
{
	return slot < s->n ? s->slot[slot].store : NULL;
}

enum stele_slot_state stele_slots_state(const struct stele_slots *s, uint32_t slot)
{
	struct stele_store *store = stele_slots_store(s, slot);
	if (!store)
		return STELE_SLOT_MISSING;
	struct stele_store_status st;
	stele_store_status(store, &st);
	if (st.fenced)
		return STELE_SLOT_FENCED;
	if (s->slot[slot].known.refilling)
		return st.full ? STELE_SLOT_REFILLING_FULL : STELE_SLOT_REFILLING;
	return st.full ? STELE_SLOT_FULL : STELE_SLOT_SERVING;
}

bool stele_slots_refilling(const struct stele_slots *s, uint32_t slot)
{
	return slot < s->n && s->slot[slot].known.refilling;
}

const char *stele_slots_reason(const struct stele_slots *s, uint32_t slot)
{
	return slot < s->n ? s->slot[slot].reason : "no such slot";
}

void stele_slots_stale(struct stele_slots *s, uint32_t slot, const char *reason)
{
	snprintf(s->slot[slot].reason, sizeof(s->slot[slot].reason), "%s", reason);
	say(s, "slot %u: %s", slot, reason);
	s->slot[slot].known.refilling = true;
	if (save(s) != STELE_OK) /* after a restart whoever remembers tells it again */
		say(s, "slot %u: %s", slot, stele_detail());
}

void stele_slots_refilled(struct stele_slots *s, uint32_t slot)
{
	if (!s->slot[slot].known.refilling)
		return;
	s->slot[slot].known.refilling = false;
	s->slot[slot].reason[0] = '\0';
	if (save(s) != STELE_OK) {
		/* Not remembered: after a restart it is refilling again, which only delays. */
		say(s, "slot %u: %s", slot, stele_detail());
		return;
	}
	say(s, "slot %u: refilled", slot);
}
