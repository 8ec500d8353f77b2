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

/* What opening a slot finds; filled on the disk's loop, which may not look at anything else that changes. */
struct probe {
	struct stele_disk_open open;
	struct stele_slots *s;
	uint32_t slot;
	struct known
	    before[STELE_SLOTS_MAX]; /* what is known of all slots, as it was when this began */
	struct known known;          /* out: of this slot, from now on */
	bool opened, emptied, stale;
	uint64_t incarnation;
	uint64_t bad; /* entries that cannot be read, where files of extents have gone */
	uint32_t extents_gone;
	char reason[STELE_DETAIL_MAX]; /* out: why the disk cannot be used; "" */
};

struct slot {
	struct stele_slots *s;
	uint32_t number;
	struct stele_disk *disk; /* in use */
	struct known known;
	char dir[STELE_PATH_MAX]; /* "": not configured */
	char reason[STELE_DETAIL_MAX];
	struct probe *probe;       /* while it is being opened */
	struct stele_disk *coming; /* what is being opened, or closed */
	struct stele_slot_change *change;
};

struct stele_slots {
	struct stele_slots_opts opts;
	char file[STELE_PATH_MAX];
	uint32_t n;
	struct slot slot[STELE_SLOTS_MAX];
	struct stele_disk **gone; /* whoever kept one may still call it */
	uint32_t ngone, gone_cap;
	uint64_t changes;
	bool watching;
	uint32_t closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
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

/* ---- opening: on the disk's loop ---- */

static struct stele_store_opts store_opts(const struct stele_slots *s, const char *dir,
                                          struct stele_env *env)
{
	return (struct stele_store_opts){
	    .env = env,
	    .kv = s->opts.kv,
	    .kv_world = s->opts.kv_world,
	    .dir = dir,
	    .cluster = s->opts.cluster,
	    .extent_len = s->opts.extent_len,
	    .capacity = s->opts.capacity,
	};
}

STELE_PRINTF(2, 3) static void refuse(struct probe *p, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(p->reason, sizeof(p->reason), "slot %u: ", p->slot);
	va_start(ap, fmt);
	vsnprintf(p->reason + n, sizeof(p->reason) - (size_t)n, fmt, ap);
	va_end(ap);
}

/* slot may be NULL */
static bool of_another_slot(const struct probe *p, const struct stele_uuid *disk, uint32_t *slot)
{
	for (uint32_t j = 0; j < STELE_SLOTS_MAX; j++)
		if (j != p->slot && p->before[j].present &&
		    stele_uuid_equal(&p->before[j].disk, disk)) {
			if (slot)
				*slot = j;
			return true;
		}
	return false;
}

/* The store that was opened: is it the disk that belongs here? */
static void judge_found(struct probe *p, const char *dir, struct stele_store *store, uint64_t fs)
{
	struct stele_store_identity id;
	stele_store_identity(store, &id);
	bool other = p->known.present && !stele_uuid_equal(&p->known.disk, &id.disk);
	if (other && id.lsn == 0 && p->known.fs == fs && !of_another_slot(p, &id.disk, NULL)) {
		/* Nothing was ever written to it: formatted by a start that did not live to remember it. */
		p->emptied = true;
		p->known = (struct known){0};
	} else if (other) {
		uint32_t j;
		char want[33], have[33];
		refuse(p,
		       "%s holds disk %s, but disk %s was here before: swapped? Put the disks "
		       "back, or attach this one "
		       "with --new to give the old one up",
		       dir, stele_hex(id.disk.b, 16, have), stele_hex(p->known.disk.b, 16, want));
		if (of_another_slot(p, &id.disk, &j))
			refuse(p, "%s holds the disk of slot %u: swapped. Put the disks back", dir,
			       j);
		return;
	}
	struct stele_store_status st;
	stele_store_status(store, &st);
	p->extents_gone = st.extents_gone;
	p->bad = st.bad;
	p->stale = p->known.present && id.incarnation <= p->known.incarnation;
	p->incarnation = id.incarnation;
	p->known = (struct known){.present = true,
	                          .disk = id.disk,
	                          .fs = fs,
	                          .incarnation = id.incarnation,
	                          /* what is not known to have been here may lack anything (P3) */
	                          .refilling = !p->known.present || p->known.refilling || p->stale};
}

static struct stele_store *format_empty(struct probe *p, const struct stele_store_opts *opts,
                                        uint64_t fs)
{
	struct stele_uuid disk;
	struct stele_store *store = NULL;
	bool again = p->known.present;
	if (again && p->known.fs != fs) {
		refuse(p,
		       "%s is empty and lies on another file system than before: not mounted? "
		       "Mount it, or attach it with "
		       "--new to start it empty",
		       opts->dir);
		return NULL;
	}
	enum stele_err err = stele_store_format(opts, &disk);
	if (err == STELE_OK)
		err = stele_store_open(opts, &store);
	if (err != STELE_OK) {
		refuse(p, "%s", stele_detail());
		return NULL;
	}
	p->emptied = again;
	p->known = (struct known){0};
	judge_found(p, opts->dir, store, fs);
	return store;
}

static struct stele_store *open_there(struct stele_disk_open *o, struct stele_env *env)
{
	struct probe *p = o->ctx;
	const char *dir = p->s->slot[p->slot].dir;
	struct stele_store_opts opts = store_opts(p->s, dir, env);
	struct stele_stat st;
	struct stele_store *store = NULL;
	enum stele_err err = stele_file_stat(env, dir, &st);
	if (err != STELE_OK || !st.is_dir) {
		refuse(p,
		       "%s is not a directory: not mounted? Mount it or create it, then attach the "
		       "slot or start the "
		       "node again",
		       dir);
		return NULL;
	}
	err = stele_store_open(&opts, &store);
	if (err == STELE_OK)
		judge_found(p, dir, store, st.dev);
	else if (err == STELE_ERR_NOT_FOUND)
		store = format_empty(p, &opts, st.dev);
	else
		refuse(p, "%s", stele_detail());
	p->opened = store != NULL;
	return store;
}

/* ---- opening: on the node's loop ---- */

static void disk_fenced(void *ctx, const char *reason)
{
	const struct slot *slot = ctx;
	say(slot->s, "slot %u: fenced: %s. The node goes on without it", slot->number, reason);
}

/* Begins to open the slot's directory: the disk is `coming` from now on. cb NULL: to be awaited. */
static enum stele_err open_begin(struct slot *slot, bool as_new,
                                 void (*cb)(struct stele_disk_open *o))
{
	struct stele_slots *s = slot->s;
	/* Room for all that may still go, each slot's disk with this one, so that going cannot fail. */
	if (s->gone_cap - s->ngone < STELE_SLOTS_MAX) {
		uint32_t cap = s->ngone + 2 * STELE_SLOTS_MAX;
		struct stele_disk **more = realloc(s->gone, cap * sizeof(more[0]));
		if (!more)
			return stele_fail(STELE_ERR_NOMEM, "slot %u: out of memory", slot->number);
		s->gone = more;
		s->gone_cap = cap;
	}
	struct probe *p = calloc(1, sizeof(*p));
	if (!p)
		return stele_fail(STELE_ERR_NOMEM, "slot %u: out of memory", slot->number);
	struct stele_disk_opts opts = {.env = s->opts.env,
	                               .own_loop = s->opts.own_loops && s->n > 1,
	                               .workers = s->opts.workers,
	                               .bufs = s->opts.bufs,
	                               .fenced = disk_fenced,
	                               .ctx = slot};
	enum stele_err err = stele_disk_create(&opts, &slot->coming);
	if (err != STELE_OK) {
		free(p);
		return stele_wrap(err, "slot %u", slot->number);
	}
	p->s = s;
	p->slot = slot->number;
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++)
		p->before[i] = s->slot[i].known;
	if (!as_new) /* whatever a new one holds, it is not all that the slot held */
		p->known = slot->known;
	p->open = (struct stele_disk_open){.open = open_there, .cb = cb, .ctx = p};
	slot->probe = p;
	stele_disk_open(slot->coming, &p->open);
	return STELE_OK;
}

/* What was found is the slot's from now on, or (false) has to be closed: slot->reason says why. */
static bool open_end(struct slot *slot)
{
	struct stele_slots *s = slot->s;
	struct probe *p = slot->probe;
	bool good = p->opened && !p->reason[0];
	slot->probe = NULL;
	snprintf(slot->reason, sizeof(slot->reason), "%s", p->reason);
	if (good) {
		if (p->emptied)
			say(s,
			    "slot %u: %s was emptied: formatted anew under the node's old "
			    "identity, to be "
			    "refilled",
			    slot->number, slot->dir);
		if (p->extents_gone)
			say(s,
			    "slot %u: %s: files of %u extents are missing; %" PRIu64
			    " entries cannot be read and are to be repaired",
			    slot->number, slot->dir, p->extents_gone, p->bad);
		if (p->stale) {
			snprintf(
			    slot->reason, sizeof(slot->reason),
			    "slot %u: %.300s is older than when last seen (incarnation %" PRIu64
			    ", was %" PRIu64
			    "): a stale snapshot; it removes nothing until reconciled",
			    slot->number, slot->dir, p->incarnation, slot->known.incarnation);
			say(s, "%s", slot->reason);
		}
		slot->known = p->known;
		slot->disk = slot->coming;
		slot->coming = NULL;
		s->changes++;
	}
	free(p);
	return good;
}

static void start_slot(struct slot *slot)
{
	if (slot->dir[0] && open_begin(slot, false, NULL) != STELE_OK)
		snprintf(slot->reason, sizeof(slot->reason), "%s", stele_detail());
}

static bool started_slot(struct slot *slot)
{
	if (slot->probe) {
		stele_disk_await_open(slot->coming, &slot->probe->open);
		if (open_end(slot))
			return true;
		stele_disk_destroy(slot->coming);
		slot->coming = NULL;
	}
	if (slot->dir[0])
		say(slot->s, "%s", slot->reason);
	return false;
}

static enum stele_err open_all(struct stele_slots *s, const struct stele_slots_opts *opts)
{
	int len = snprintf(s->file, sizeof(s->file), "%s/slots", opts->node_dir);
	if (len < 0 || (size_t)len >= sizeof(s->file))
		return stele_fail(STELE_ERR_USAGE, "node directory: path too long");
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++) {
		struct slot *slot = &s->slot[i];
		const char *dir = i < s->n ? opts->disk[i] : NULL;
		slot->s = s;
		slot->number = i;
		if (dir && strlen(dir) >= sizeof(slot->dir))
			return stele_fail(STELE_ERR_USAGE, "slot %u: path too long", i);
		snprintf(slot->dir, sizeof(slot->dir), "%s", dir ? dir : "");
		snprintf(slot->reason, sizeof(slot->reason), "slot %u: not configured", i);
	}
	STELE_TRY(load(s));
	for (uint32_t i = 0; i < s->n; i++)
		start_slot(&s->slot[i]);
	uint32_t open = 0;
	for (uint32_t i = 0; i < s->n; i++)
		open += started_slot(&s->slot[i]);
	if (!open)
		return stele_fail(STELE_ERR_USAGE, "no disk can be used: %s", s->slot[0].reason);
	return save(s);
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
	s->opts.disk = NULL; /* copied */
	s->opts.node_dir = NULL;
	s->n = opts->ndisks;
	enum stele_err err = open_all(s, opts);
	if (err != STELE_OK) {
		stele_slots_destroy(s);
		return err;
	}
	*out = s;
	return STELE_OK;
}

void stele_slots_begin(struct stele_slots *s)
{
	s->watching = true;
	for (uint32_t i = 0; i < s->n; i++)
		if (s->slot[i].disk)
			stele_disk_watch(s->slot[i].disk);
}

void stele_slots_destroy(struct stele_slots *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < STELE_SLOTS_MAX; i++)
		stele_disk_destroy(s->slot[i].disk);
	for (uint32_t i = 0; i < s->ngone; i++)
		stele_disk_destroy(s->gone[i]);
	free(s->gone);
	free(s);
}

/* ---- closing ---- */

/* The slot is missing from now on; cb when its store is closed. */
static void retire(struct slot *slot, struct stele_disk *disk, void (*cb)(void *ctx))
{
	struct stele_slots *s = slot->s;
	if (slot->disk == disk) {
		slot->disk = NULL;
		s->changes++;
	}
	slot->coming = NULL;
	assert(s->ngone < s->gone_cap);
	s->gone[s->ngone++] = disk;
	stele_disk_close(disk, cb, slot);
}

static void slot_closed(void *ctx)
{
	struct stele_slots *s = ((struct slot *)ctx)->s;
	if (--s->closing == 0)
		s->closed(s->closed_ctx);
}

void stele_slots_close(struct stele_slots *s, void (*done)(void *ctx), void *ctx)
{
	s->closed = done;
	s->closed_ctx = ctx;
	s->closing = 1; /* ours, until all have been told */
	for (uint32_t i = 0; i < s->n; i++) {
		assert(!s->slot[i].change && !s->slot[i].coming);
		if (!s->slot[i].disk)
			continue;
		s->closing++;
		retire(&s->slot[i], s->slot[i].disk, slot_closed);
	}
	slot_closed(&s->slot[0]);
}

/* ---- attaching and detaching ---- */

static enum stele_err change_begin(struct stele_slots *s, struct stele_slot_change *c)
{
	if (c->slot >= STELE_SLOTS_MAX)
		return stele_fail(STELE_ERR_USAGE, "slot %u: a node has slots 0 to %u", c->slot,
		                  STELE_SLOTS_MAX - 1);
	if (s->slot[c->slot].change)
		return stele_fail(STELE_ERR_BUSY, "slot %u is being attached or detached", c->slot);
	c->err = STELE_OK;
	c->detail[0] = '\0';
	return STELE_OK;
}

static void change_end(struct slot *slot, enum stele_err err, const char *detail)
{
	struct stele_slot_change *c = slot->change;
	slot->change = NULL;
	c->err = err;
	snprintf(c->detail, sizeof(c->detail), "%s", detail);
	say(slot->s, "slot %u: %s", slot->number, detail);
	c->cb(c);
}

static void refused_closed(void *ctx)
{
	struct slot *slot = ctx;
	change_end(slot, STELE_ERR_UNAVAILABLE, slot->reason);
}

static void attach_opened(struct stele_disk_open *o)
{
	const struct probe *p = o->ctx;
	struct slot *slot = &p->s->slot[p->slot];
	struct stele_slots *s = slot->s;
	if (!open_end(slot)) {
		retire(slot, slot->coming, refused_closed);
		return;
	}
	if (s->watching)
		stele_disk_watch(slot->disk);
	if (save(s) !=
	    STELE_OK) /* not remembered: the next start finds it under what it knew before */
		say(s, "slot %u: %s", slot->number, stele_detail());
	change_end(slot, STELE_OK, slot->known.refilling ? "attached, to be refilled" : "attached");
}

/* The fenced disk that was here is closed. */
static void attach_open(void *ctx)
{
	struct slot *slot = ctx;
	if (open_begin(slot, slot->change->as_new, attach_opened) == STELE_OK)
		return;
	snprintf(slot->reason, sizeof(slot->reason), "%s", stele_detail());
	change_end(slot, STELE_ERR_UNAVAILABLE, slot->reason);
}

enum stele_err stele_slots_attach(struct stele_slots *s, struct stele_slot_change *c)
{
	STELE_TRY(change_begin(s, c));
	struct slot *slot = &s->slot[c->slot];
	if (slot->disk && !stele_disk_is_fenced(slot->disk))
		return stele_fail(STELE_ERR_EXISTS, "slot %u serves %s already", c->slot,
		                  slot->dir);
	if (!c->dir || !c->dir[0])
		return stele_fail(STELE_ERR_USAGE,
		                  "slot %u has no directory: give it a [disk %u] in the node's "
		                  "configuration file",
		                  c->slot, c->slot);
	if (strlen(c->dir) >= sizeof(slot->dir))
		return stele_fail(STELE_ERR_USAGE, "slot %u: path too long", c->slot);
	snprintf(slot->dir, sizeof(slot->dir), "%s", c->dir);
	if (s->n <= c->slot)
		s->n = c->slot + 1;
	if (!slot->disk)
		STELE_TRY(open_begin(slot, c->as_new, attach_opened));
	slot->change = c;
	snprintf(slot->reason, sizeof(slot->reason), "slot %u: is being attached", c->slot);
	if (slot->disk)
		retire(slot, slot->disk, attach_open);
	return STELE_OK;
}

static void detach_closed(void *ctx)
{
	change_end(ctx, STELE_OK, "detached");
}

enum stele_err stele_slots_detach(struct stele_slots *s, struct stele_slot_change *c)
{
	STELE_TRY(change_begin(s, c));
	struct slot *slot = &s->slot[c->slot];
	if (!slot->disk)
		return stele_fail(STELE_ERR_NOT_FOUND, "slot %u has no disk: %s", c->slot,
		                  stele_slots_reason(s, c->slot));
	slot->change = c;
	snprintf(slot->reason, sizeof(slot->reason), "slot %u: detached on request", c->slot);
	retire(slot, slot->disk, detach_closed);
	return STELE_OK;
}

/* ---- what others ask ---- */

uint32_t stele_slots_n(const struct stele_slots *s)
{
	return s->n;
}

struct stele_disk *stele_slots_disk(const struct stele_slots *s, uint32_t slot)
{
	return slot < s->n ? s->slot[slot].disk : NULL;
}

enum stele_slot_state stele_slots_state(const struct stele_slots *s, uint32_t slot)
{
	const struct stele_disk *disk = stele_slots_disk(s, slot);
	if (!disk)
		return STELE_SLOT_MISSING;
	if (stele_disk_is_fenced(disk))
		return STELE_SLOT_FENCED;
	bool full = stele_disk_full(disk);
	if (s->slot[slot].known.refilling)
		return full ? STELE_SLOT_REFILLING_FULL : STELE_SLOT_REFILLING;
	return full ? STELE_SLOT_FULL : STELE_SLOT_SERVING;
}

bool stele_slots_refilling(const struct stele_slots *s, uint32_t slot)
{
	return slot < s->n && s->slot[slot].known.refilling;
}

const char *stele_slots_reason(const struct stele_slots *s, uint32_t slot)
{
	if (slot >= s->n)
		return "no such slot";
	const struct stele_disk *disk = s->slot[slot].disk;
	return disk && stele_disk_is_fenced(disk) ? stele_disk_fence_reason(disk)
	                                         : s->slot[slot].reason;
}

uint64_t stele_slots_changes(const struct stele_slots *s)
{
	return s->changes;
}

void stele_slots_stale(struct stele_slots *s, uint32_t slot, const char *reason)
{
	snprintf(s->slot[slot].reason, sizeof(s->slot[slot].reason), "%s", reason);
	say(s, "slot %u: %s", slot, reason);
	s->slot[slot].known.refilling = true;
	s->changes++; /* an inventory under way may have left out groups of a disk that was whole */
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
