/* A small table, ascending by (node, slot), and the text file that it is kept in. */
#include "net/repair/recall.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX    (4u << 20)
#define LINE_LEN    160u
#define SAVE_EVERY  60000000000ull
#define DISKS_FIRST 32u

struct recalled {
	uint16_t node, slot;
	struct stele_uuid disk;
	uint64_t incarnation, lsn;
};

struct stele_recall {
	struct stele_env *env;
	char file[STELE_PATH_MAX];
	uint16_t node;
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
	struct recalled *disk;
	uint32_t n, cap;
	bool dirty, failing;
	uint64_t saved_ns;
};

/* ---- the table ---- */

static uint32_t place_of(const struct stele_recall *r, uint16_t node, uint16_t slot)
{
	uint32_t lo = 0, hi = r->n;
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		const struct recalled *d = &r->disk[mid];
		if (d->node < node || (d->node == node && d->slot < slot))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct recalled *find(const struct stele_recall *r, uint16_t node, uint16_t slot)
{
	uint32_t at = place_of(r, node, slot);
	struct recalled *d = at < r->n ? &r->disk[at] : NULL;
	return d && d->node == node && d->slot == slot ? d : NULL;
}

/* Sets what is remembered of a disk. Without memory for it, it is not remembered. */
static void set(struct stele_recall *r, const struct recalled *d)
{
	struct recalled *known = find(r, d->node, d->slot);
	if (known) {
		*known = *d;
		return;
	}
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? 2 * r->cap : DISKS_FIRST;
		struct recalled *more = realloc(r->disk, cap * sizeof(*more));
		if (!more)
			return;
		r->disk = more;
		r->cap = cap;
	}
	uint32_t at = place_of(r, d->node, d->slot);
	memmove(&r->disk[at + 1], &r->disk[at], (r->n - at) * sizeof(*d));
	r->disk[at] = *d;
	r->n++;
}

/* ---- the file ---- */

static void say(const struct stele_recall *r, const char *line)
{
	if (r->log)
		r->log(r->log_ctx, line);
}

static bool parse_line(struct stele_recall *r, const char *line)
{
	unsigned node, slot;
	char uuid[33];
	struct recalled d;
	if (sscanf(line, "node %u slot %u disk %32[0-9a-f] incarnation %" SCNu64 " lsn %" SCNu64,
	           &node, &slot, uuid, &d.incarnation, &d.lsn) != 5 ||
	    node > UINT16_MAX || slot > UINT16_MAX ||
	    !stele_unhex(uuid, strlen(uuid), d.disk.b, sizeof(d.disk.b), true))
		return false;
	d.node = (uint16_t)node;
	d.slot = (uint16_t)slot;
	set(r, &d);
	return true;
}

static enum stele_err load(struct stele_recall *r)
{
	char *text;
	size_t len;
	enum stele_err err = stele_file_load(r->env, r->file, FILE_MAX, &text, &len);
	if (err == STELE_ERR_NOT_FOUND)
		return STELE_OK;
	if (err != STELE_OK && err != STELE_ERR_TOO_LARGE)
		return err;
	bool good = err == STELE_OK;
	char *save = NULL;
	for (char *line = good ? strtok_r(text, "\n", &save) : NULL; line && good;
	     line = strtok_r(NULL, "\n", &save))
		good = parse_line(r, line);
	if (err == STELE_OK)
		free(text);
	if (!good) {
		char line[STELE_DETAIL_MAX];
		snprintf(
		    line, sizeof(line),
		    "%.300s is damaged: what was remembered of other nodes' disks is begun anew",
		    r->file);
		say(r, line);
		r->n = 0;
	}
	return STELE_OK;
}

static void save_now(struct stele_recall *r)
{
	char *text = malloc((size_t)r->n * LINE_LEN + 1);
	size_t at = 0;
	for (uint32_t i = 0; text && i < r->n; i++) {
		const struct recalled *d = &r->disk[i];
		char uuid[33];
		at += (size_t)snprintf(
		    text + at, LINE_LEN,
		    "node %u slot %u disk %s incarnation %" PRIu64 " lsn %" PRIu64 "\n", d->node,
		    d->slot, stele_hex(d->disk.b, 16, uuid), d->incarnation, d->lsn);
	}
	enum stele_err err = text ? stele_file_save(r->env, r->file, text, at, 0644)
	                          : stele_fail(STELE_ERR_NOMEM, "%.300s: out of memory", r->file);
	free(text);
	if (err && !r->failing) { /* said once, not every minute */
		char why[STELE_DETAIL_MAX];
		stele_detail_copy(why);
		say(r, why);
	}
	r->failing = err != STELE_OK;
	r->dirty = r->failing;
	r->saved_ns = stele_env_now(r->env);
}

/* ---- life ---- */

enum stele_err stele_recall_create(struct stele_env *env, const char *node_dir, uint16_t node,
                                   void (*log)(void *ctx, const char *line), void *log_ctx,
                                   struct stele_recall **out)
{
	struct stele_recall *r = calloc(1, sizeof(*r));
	if (!r)
		return stele_fail(STELE_ERR_NOMEM, "peers: out of memory");
	r->env = env;
	r->node = node;
	r->log = log;
	r->log_ctx = log_ctx;
	r->saved_ns = stele_env_now(env);
	int len = snprintf(r->file, sizeof(r->file), "%s/peers", node_dir);
	enum stele_err err = len > 0 && (size_t)len < sizeof(r->file)
	                         ? load(r)
	                         : stele_fail(STELE_ERR_USAGE, "node directory: path too long");
	if (err) {
		free(r->disk);
		free(r);
		return err;
	}
	*out = r;
	return STELE_OK;
}

void stele_recall_destroy(struct stele_recall *r)
{
	if (!r)
		return;
	if (r->dirty)
		save_now(r);
	free(r->disk);
	free(r);
}

/* ---- others' disks ---- */

uint32_t stele_recall_tell(const struct stele_recall *r, uint16_t node,
                           uint8_t head[STELE_PING_TOLD_MAX])
{
	struct stele_head_ping_told h = {.n = 0};
	for (uint32_t i = place_of(r, node, 0);
	     i < r->n && r->disk[i].node == node && h.n < STELE_PING_DISKS; i++)
		h.disk[h.n++] = (struct stele_ping_told){.slot = r->disk[i].slot,
		                                         .uuid = r->disk[i].disk,
		                                         .incarnation = r->disk[i].incarnation,
		                                         .lsn = r->disk[i].lsn};
	struct stele_writer w = stele_writer(head, STELE_PING_TOLD_MAX);
	stele_head_ping_told_encode(&h, &w);
	return (uint32_t)stele_written(&w);
}

void stele_recall_heard(struct stele_recall *r, uint16_t node, const struct stele_head_ping *h)
{
	bool now = false;
	for (uint16_t i = 0; node != r->node && i < h->ndisks; i++) {
		const struct stele_ping_disk *d = &h->disk[i];
		const struct recalled *known = find(r, node, d->slot);
		if (d->state == STELE_SLOT_MISSING) /* it may come back */
			continue;
		bool same = known && stele_uuid_equal(&known->disk, &d->uuid);
		bool lower = same && (d->incarnation < known->incarnation || d->lsn < known->lsn);
		if (lower && d->state != STELE_SLOT_SERVING && d->state != STELE_SLOT_FULL)
			continue; /* stale, and on its way back: others shall hear of it too */
		/* lower, and it has a voice: it was told, and has made up for it */
		now |= !same || d->incarnation != known->incarnation;
		r->dirty |= now || d->lsn != known->lsn;
		set(r, &(struct recalled){node, d->slot, d->uuid, d->incarnation, d->lsn});
	}
	if (r->dirty && (now || stele_env_now(r->env) - r->saved_ns >= SAVE_EVERY))
		save_now(r);
}

/* ---- our own ---- */

bool stele_recall_stale(const struct stele_recall *r, const struct stele_store_identity *disk,
                        const struct stele_ping_told *told)
{
	if (!stele_uuid_equal(&disk->disk, &told->uuid) ||
	    (disk->incarnation >= told->incarnation && disk->lsn >= told->lsn))
		return false;
	const struct recalled *took = find(r, r->node, told->slot);
	return !took || !stele_uuid_equal(&took->disk, &told->uuid) ||
	       told->incarnation > took->incarnation || told->lsn > took->lsn;
}

void stele_recall_took(struct stele_recall *r, const struct stele_ping_told *told)
{
	struct recalled d = {r->node, told->slot, told->uuid, told->incarnation, told->lsn};
	const struct recalled *took = find(r, r->node, told->slot);
	if (took && stele_uuid_equal(&took->disk, &d.disk)) {
		d.incarnation =
		    d.incarnation > took->incarnation ? d.incarnation : took->incarnation;
		d.lsn = d.lsn > took->lsn ? d.lsn : took->lsn;
	}
	set(r, &d);
	save_now(r);
}
