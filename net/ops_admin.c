/* What is not about data: hello, ping, the map, status, repair, scrub and disks. STATUS, REPAIR, SCRUB and
 * DISK speak JSON (net/PROTOCOL.md): they are for people and scripts, and grow. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/ops.h"
#include "net/scrubs.h"
#include "storage/base/text.h"

void stele_op_hello(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	const struct stele_map *map = stele_node_map(node);
	struct stele_head_hello h;
	enum stele_err err = stele_head_hello_decode(req->head, req->head_len, false, &h);
	if (err == STELE_OK && h.version != STELE_PROTOCOL_VERSION)
		err = stele_fail(STELE_ERR_VERSION, "this node speaks protocol %u, not %u",
		                 STELE_PROTOCOL_VERSION, h.version);
	if (err == STELE_OK && !stele_hash_equal(&h.cluster, &map->cluster))
		err = stele_fail(STELE_ERR_DENIED, "this node belongs to another cluster");
	if (err != STELE_OK) {
		stele_reply_error(req, err);
		return;
	}
	h.node = stele_node_id(node);
	h.root_epoch = map->root_epoch;
	h.state_epoch = map->state_epoch;
	uint8_t head[128];
	struct stele_writer w = stele_writer(head, sizeof(head));
	stele_head_hello_encode(&h, true, &w);
	stele_reply(req, head, (uint32_t)stele_written(&w), NULL, 0, NULL, NULL);
}

/* What another node remembers of our disks: one that is lower was put back to what it was earlier (N1). */
static enum stele_err judge_told(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	struct stele_slots *slots = stele_node_slots(node);
	struct stele_recall *recall = stele_node_recall(node);
	struct stele_head_ping_told told;
	STELE_TRY(stele_head_ping_told_decode(req->head, req->head_len, &told));
	for (uint16_t i = 0; i < told.n; i++) {
		const struct stele_ping_told *t = &told.disk[i];
		const struct stele_disk *disk = stele_slots_disk(slots, t->slot);
		struct stele_store_identity id;
		char reason[STELE_DETAIL_MAX];
		if (!disk)
			continue;
		stele_disk_identity(disk, &id);
		if (!stele_recall_stale(recall, &id, t))
			continue;
		snprintf(reason, sizeof(reason),
		         "a stale snapshot: node %u remembers its disk at LSN %" PRIu64
		         " (incarnation %" PRIu64 "), it is at LSN %" PRIu64
		         " (incarnation %" PRIu64 "); it removes nothing until reconciled",
		         req->who->node, t->lsn, t->incarnation, id.lsn, id.incarnation);
		stele_slots_stale(slots, t->slot, reason);
		stele_recall_took(recall, t);
	}
	return STELE_OK;
}

/* ---- what every disk says of itself, asked of their loops ---- */

struct survey {
	struct stele_request *req;
	void (*done)(struct survey *v);
	uint32_t waiting;
	bool there[STELE_SLOTS_MAX];
	struct stele_disk_status disk[STELE_SLOTS_MAX];
	struct stele_health health; /* STATUS, where it was asked for */
	json_t *groups;
};

static void survey_step(struct survey *v)
{
	if (--v->waiting == 0)
		v->done(v);
}

static void disk_answered(struct stele_disk_status *s)
{
	survey_step(s->ctx);
}

/* done replies and frees; it may be called at once. */
static void survey(struct survey *v)
{
	struct stele_slots *slots = stele_node_slots(stele_req_node(v->req));
	v->waiting = 1;
	for (uint32_t i = 0; i < stele_slots_n(slots); i++) {
		struct stele_disk *disk = stele_slots_disk(slots, i);
		v->there[i] = disk != NULL;
		if (!disk)
			continue;
		v->waiting++;
		v->disk[i].cb = disk_answered;
		v->disk[i].ctx = v;
		stele_disk_status(disk, &v->disk[i]);
	}
	survey_step(v);
}

/* NULL: replied already. */
static struct survey *survey_create(struct stele_request *req, void (*done)(struct survey *v))
{
	struct survey *v = calloc(1, sizeof(*v));
	if (!v) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "status: out of memory"));
		return NULL;
	}
	v->req = req;
	v->done = done;
	return v;
}

/* The slot's disk answered, and has not gone since. */
static bool survey_has(const struct survey *v, const struct stele_slots *slots, uint32_t i)
{
	return i < STELE_SLOTS_MAX && v->there[i] && v->disk[i].st.identity.incarnation > 0 &&
	       stele_slots_state(slots, i) != STELE_SLOT_MISSING;
}

static void ping_surveyed(struct survey *v)
{
	struct stele_node *node = stele_req_node(v->req);
	const struct stele_map *map = stele_node_map(node);
	struct stele_slots *slots = stele_node_slots(node);
	struct stele_head_ping h = {
	    .root_epoch = map->root_epoch,
	    .state_epoch = map->state_epoch,
	    .map_hash = map->hash,
	    .ndisks = (uint16_t)stele_slots_n(slots),
	};
	for (uint16_t i = 0; i < h.ndisks; i++) {
		struct stele_ping_disk *d = &h.disk[i];
		const struct stele_store_status *st = &v->disk[i].st;
		d->slot = i;
		if (!survey_has(v, slots, i))
			continue; /* zero: missing */
		d->state = (uint8_t)stele_slots_state(slots, i);
		d->uuid = st->identity.disk;
		d->incarnation = st->identity.incarnation;
		d->lsn = st->identity.lsn;
		d->capacity = st->capacity;
		d->used = st->used;
	}
	uint8_t head[4096];
	struct stele_writer w = stele_writer(head, sizeof(head));
	stele_head_ping_encode(&h, &w);
	stele_reply(v->req, head, (uint32_t)stele_written(&w), NULL, 0, NULL, NULL);
	free(v);
}

void stele_op_ping(struct stele_request *req)
{
	if (req->head_len && (req->who->roles & STELE_ROLE_NODE)) {
		enum stele_err err = judge_told(req);
		if (err != STELE_OK) {
			stele_reply_error(req, err);
			return;
		}
	}
	struct survey *v = survey_create(req, ping_surveyed);
	if (v)
		survey(v);
}

/* ---- the map ---- */

struct map_get {
	struct stele_map *map;
	struct iovec iov;
};

static void map_sent(void *ctx)
{
	struct map_get *c = ctx;
	stele_map_unref(c->map);
	free(c);
}

void stele_op_map_get(struct stele_request *req)
{
	struct map_get *c = calloc(1, sizeof(*c));
	if (!c) {
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "map: out of memory"));
		return;
	}
	c->map = stele_map_ref(stele_node_map(stele_req_node(req)));
	size_t len;
	const char *json = stele_map_json(c->map, &len);
	c->iov = (struct iovec){.iov_base = (void *)(uintptr_t)json, .iov_len = len};
	stele_reply(req, NULL, 0, &c->iov, 1, map_sent, c);
}

/* A request's body as one NUL-terminated text; NULL: out of memory. */
static char *body_text(const struct stele_request *req)
{
	char *text = malloc(req->body_len + 1);
	uint64_t at = 0;
	for (uint32_t i = 0; text && i < req->nbody; i++) {
		uint64_t left = req->body_len - at;
		uint64_t len = left < STELE_BUF_LEN ? left : STELE_BUF_LEN;
		memcpy(text + at, req->body[i]->data, len);
		at += len;
	}
	if (text)
		text[at] = '\0';
	return text;
}

void stele_op_map_put(struct stele_request *req)
{
	char *text = body_text(req);
	enum stele_err err = text ? stele_node_take_map(stele_req_node(req), text, req->body_len)
	                          : stele_fail(STELE_ERR_NOMEM, "map: out of memory");
	free(text);
	if (err == STELE_OK)
		stele_reply(req, NULL, 0, NULL, 0, NULL, NULL);
	else
		stele_reply_error(req, err);
}

/* ---- JSON replies ---- */

struct json_reply {
	char *text;
	struct iovec iov;
};

static void json_sent(void *ctx)
{
	struct json_reply *c = ctx;
	free(c->text);
	free(c);
}

static void reply_json(struct stele_request *req, json_t *json) /* takes json */
{
	struct json_reply *c = calloc(1, sizeof(*c));
	if (c)
		c->text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(json);
	if (!c || !c->text) {
		free(c);
		stele_reply_error(req, stele_fail(STELE_ERR_NOMEM, "reply: out of memory"));
		return;
	}
	c->iov = (struct iovec){.iov_base = c->text, .iov_len = strlen(c->text)};
	stele_reply(req, NULL, 0, &c->iov, 1, json_sent, c);
}

/* The request's JSON object; an empty body is an empty object. NULL: replied already. */
static json_t *request_json(struct stele_request *req)
{
	if (req->body_len == 0)
		return json_object();
	char *text = body_text(req);
	json_t *json = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	if (!json_is_object(json)) {
		json_decref(json);
		stele_ops_fail(req, STELE_ERR_INVALID, "the body is not a JSON object");
		return NULL;
	}
	return json;
}

/* Paths and what went wrong with them, which need not be UTF-8 as a reply must. */
static json_t *text_json(const char *text)
{
	char clean[3 * STELE_DETAIL_MAX];
	return json_string(stele_text_utf8(text, clean, sizeof(clean)));
}

static const char *slot_state_name(enum stele_slot_state state)
{
	static const char *const name[] = {"missing", "serving",   "full",
	                                   "fenced",  "refilling", "refilling, full"};
	return name[state];
}

/* st: NULL when there is no disk. */
static json_t *slot_json(struct stele_slots *slots, uint32_t i, const struct stele_store_status *st)
{
	enum stele_slot_state state = stele_slots_state(slots, i);
	json_t *o = json_pack("{s:i, s:s, s:o}", "slot", (int)i, "state", slot_state_name(state),
	                      "reason", text_json(stele_slots_reason(slots, i)));
	if (!st || !o)
		return o;
	char uuid[33];
	json_t *more = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
	                         "disk", stele_hex(st->identity.disk.b, 16, uuid), "capacity",
	                         (json_int_t)st->capacity, "used", (json_int_t)st->used, "live",
	                         (json_int_t)st->live, "shards", (json_int_t)st->shards, "refs",
	                         (json_int_t)st->refs, "records", (json_int_t)st->records, "marks",
	                         (json_int_t)st->marks, "bad", (json_int_t)st->bad, "incarnation",
	                         (json_int_t)st->identity.incarnation, "lsn",
	                         (json_int_t)st->identity.lsn, "fence",
	                         text_json(st->fence_reason));
	if (more)
		json_object_update(o, more);
	json_decref(more);
	return o;
}

static json_t *repair_json(const struct stele_repair *repair)
{
	struct stele_repair_status st;
	stele_repair_status(repair, &st);
	return json_pack("{s:b, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "running",
	                 st.running, "round", (json_int_t)st.round, "clean", st.clean, "todo",
	                 (json_int_t)st.todo, "shards", (json_int_t)st.shards, "copies",
	                 (json_int_t)st.copies, "failures", (json_int_t)st.failures, "bytes",
	                 (json_int_t)st.bytes, "bytes_todo", (json_int_t)st.bytes_todo,
	                 "last_failure", text_json(st.last_failure));
}

static json_t *scrub_json(const struct stele_scrubs *scrubs)
{
	struct stele_scrubs_status st;
	stele_scrubs_status(scrubs, &st);
	json_t *names = json_array();
	for (uint32_t i = 0; i < st.nvictims; i++) {
		char hex[STELE_HEX_LEN];
		const struct stele_victim *v = &st.victim[i];
		json_array_append_new(
		    names, json_pack("{s:i, s:i, s:i, s:i, s:s, s:o}", "slot", v->slot, "pool",
		                     v->key.pool, "kind", v->key.kind, "index", v->key.index, "id",
		                     stele_hash_hex(&v->key.id, hex), "why", text_json(v->why)));
	}
	return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "running", st.running,
	                 "deep", st.deep, "passes", (json_int_t)st.passes, "bytes_done",
	                 (json_int_t)st.bytes_done, "bytes_total", (json_int_t)st.bytes_total,
	                 "entries", (json_int_t)st.entries, "victims", (json_int_t)st.victims,
	                 "last_failure", text_json(st.last_failure), "named", names);
}

static json_t *status_json(const struct survey *v)
{
	struct stele_node *node = stele_req_node(v->req);
	struct stele_slots *slots = stele_node_slots(node);
	const struct stele_map *map = stele_node_map(node);
	json_t *disks = json_array();
	for (uint32_t i = 0; i < stele_slots_n(slots); i++)
		json_array_append_new(
		    disks, slot_json(slots, i, survey_has(v, slots, i) ? &v->disk[i].st : NULL));
	struct stele_collect_status collect;
	stele_collect_status(stele_node_collect(node), &collect);
	return json_pack("{s:i, s:{s:I, s:I}, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I}}", "node",
	                 (int)stele_node_id(node), "map", "root", (json_int_t)map->root_epoch,
	                 "state", (json_int_t)map->state_epoch, "slots", disks, "repair",
	                 repair_json(stele_node_repair(node)), "scrub",
	                 scrub_json(stele_node_scrubs(node)), "collect", "passes",
	                 (json_int_t)collect.passes, "shards", (json_int_t)collect.shards, "refs",
	                 (json_int_t)collect.refs, "bytes", (json_int_t)collect.bytes, "waiting",
	                 (json_int_t)collect.waiting);
}

static void status_surveyed(struct survey *v)
{
	json_t *json = status_json(v);
	if (v->groups)
		json_object_set_new(json, "health", v->groups);
	reply_json(v->req, json);
	free(v);
}

static void status_health(struct stele_health *h)
{
	struct survey *v = h->ctx;
	if (h->err != STELE_OK) {
		stele_ops_fail(v->req, h->err, "inventory did not finish");
		free(v);
		return;
	}
	v->groups = json_array();
	for (uint32_t i = 0; i < h->n; i++) {
		const struct stele_pg_health *g = &h->pg[i];
		json_array_append_new(
		    v->groups, json_pack("[i, i, i, i, i, i, i, I]", (int)g->pool, (int)g->pg,
		                         (int)g->things, (int)g->degraded, g->margin,
		                         (int)g->window, (int)g->answered, (json_int_t)g->bytes));
	}
	survey(v);
}

void stele_op_status(struct stele_request *req)
{
	json_t *ask = request_json(req);
	if (!ask)
		return;
	bool health = json_is_true(json_object_get(ask, "health"));
	json_decref(ask);
	struct survey *v = survey_create(req, status_surveyed);
	if (!v)
		return;
	v->health = (struct stele_health){.cb = status_health, .ctx = v};
	if (health)
		stele_repair_health(stele_node_repair(stele_req_node(req)), &v->health);
	else
		survey(v);
}

void stele_op_repair(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	json_t *ask = request_json(req);
	if (!ask)
		return;
	const char *action = json_string_value(json_object_get(ask, "action"));
	if (action && strcmp(action, "start") == 0)
		stele_repair_now(stele_node_repair(node));
	else if (action && strcmp(action, "stop") == 0)
		stele_repair_stop(stele_node_repair(node));
	else if (action) {
		json_decref(ask);
		stele_ops_fail(req, STELE_ERR_INVALID, "repair: action is start or stop");
		return;
	}
	json_decref(ask);
	reply_json(req, repair_json(stele_node_repair(node)));
}

void stele_op_scrub(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	json_t *ask = request_json(req);
	if (!ask)
		return;
	const char *action = json_string_value(json_object_get(ask, "action"));
	bool start = action && strcmp(action, "start") == 0;
	bool deep = json_is_true(json_object_get(ask, "deep"));
	json_decref(ask);
	if (action && !start) {
		stele_ops_fail(req, STELE_ERR_INVALID, "scrub: action is start");
		return;
	}
	if (start) {
		enum stele_err err = stele_scrubs_start(stele_node_scrubs(node), deep);
		if (err != STELE_OK) {
			stele_reply_error(req, err);
			return;
		}
	}
	reply_json(req, scrub_json(stele_node_scrubs(node)));
}

/* ---- DISK: attach, detach ---- */

struct disk_change {
	struct stele_request *req;
	bool attach;
	struct stele_slot_change change;
};

static void disk_changed(struct stele_slot_change *change)
{
	struct disk_change *c = change->ctx;
	struct stele_node *node = stele_req_node(c->req);
	struct stele_slots *slots = stele_node_slots(node);
	if (change->err != STELE_OK) {
		stele_ops_fail(c->req, change->err, change->detail);
	} else {
		if (c->attach)
			stele_node_attached(node, change->slot);
		reply_json(c->req, slot_json(slots, change->slot, NULL));
	}
	free(c);
}

void stele_op_disk(struct stele_request *req)
{
	struct stele_node *node = stele_req_node(req);
	json_t *ask = request_json(req);
	if (!ask)
		return;
	const char *action = json_string_value(json_object_get(ask, "action"));
	const json_t *slot = json_object_get(ask, "slot");
	bool attach = action && strcmp(action, "attach") == 0;
	bool detach = action && strcmp(action, "detach") == 0;
	bool sound = (attach || detach) && json_is_integer(slot) && json_integer_value(slot) >= 0 &&
	             json_integer_value(slot) <= UINT16_MAX;
	struct disk_change *c = sound ? calloc(1, sizeof(*c)) : NULL;
	if (c) {
		c->req = req;
		c->attach = attach;
		c->change =
		    (struct stele_slot_change){.slot = (uint32_t)json_integer_value(slot),
		                               .as_new = json_is_true(json_object_get(ask, "new")),
		                               .cb = disk_changed,
		                               .ctx = c};
	}
	json_decref(ask);
	if (!c) {
		stele_ops_fail(req, sound ? STELE_ERR_NOMEM : STELE_ERR_INVALID,
		               sound ? "out of memory"
		                     : "disk: action is attach or detach, slot a number");
		return;
	}
	enum stele_err err = attach ? stele_node_attach(node, &c->change)
	                            : stele_slots_detach(stele_node_slots(node), &c->change);
	if (err != STELE_OK) {
		free(c);
		stele_reply_error(req, err);
	}
}
