/*
 * The map: parsing a cluster file against what was trusted before, looking things up, and making
 * new ones. The bodies' spelling is root.c's and state.c's, signatures are envelope.c's, windows
 * place.c's.
 */
#include "net/cluster/map.h"

#include <assert.h>
#include <stdlib.h>

#include "net/cluster/envelope.h"
#include "net/cluster/place.h"
#include "net/cluster/root.h"
#include "net/cluster/state.h"
#include "storage/base/sha256.h"

#define PG_SLOTS_PER_DISK 100u
#define COLLECT_AGE_S     86400u

uint64_t stele_map_epoch(const struct stele_map *map)
{
	return map->root_epoch << 32 | map->state_epoch;
}

/* ---- parsing ---- */

static void hash_bodies(struct stele_map *map, const struct stele_envelopes *file)
{
	static const char domain[] = "stele.dev/map/v1\n";
	struct stele_sha256_stream s;
	stele_sha256(file->root.body, file->root.len, &map->root_hash);
	stele_sha256(file->state.body, file->state.len, &map->state_hash);
	stele_sha256_init(&s);
	stele_sha256_update(&s, domain, sizeof(domain) - 1);
	stele_sha256_update(&s, map->root_hash.b, STELE_HASH_LEN);
	stele_sha256_update(&s, map->state_hash.b, STELE_HASH_LEN);
	stele_sha256_value(&s, &map->hash);
}

static enum stele_err stale(const char *part, uint64_t epoch, uint64_t held)
{
	return stele_fail(STELE_ERR_STALE,
	                  "cluster file: the %s part is of epoch %llu, epoch %llu is known already",
	                  part, (unsigned long long)epoch, (unsigned long long)held);
}

static enum stele_err equivocation(const char *part, uint64_t epoch)
{
	return stele_fail(
	    STELE_ERR_CORRUPT,
	    "ALARM: cluster file: there are two different %s parts of epoch %llu, both "
	    "signed: keep both files and find out who signed them",
	    part, (unsigned long long)epoch);
}

/* What may follow a map that is held: nothing older, nothing of the same epochs that differs, and a
 * root part signed by the held root's keys. An unsigned claim is refused before it can alarm
 * anybody. */
static enum stele_err check_after(const struct stele_map *map, const struct stele_map *held,
                                  const struct stele_envelope *root)
{
	if (!stele_hash_equal(&map->cluster, &held->cluster))
		return stele_fail(STELE_ERR_DENIED, "cluster file: of another cluster");
	if (map->root_epoch < held->root_epoch)
		return stale("root", map->root_epoch, held->root_epoch);
	if (!stele_hash_equal(&map->root_hash, &held->root_hash)) {
		STELE_TRY(stele_envelope_signed_by(root, held->root_key, held->nroot_keys,
		                                   held->threshold,
		                                   "root part: keys of the root before it"));
		if (map->root_epoch == held->root_epoch)
			return equivocation("root", map->root_epoch);
	}
	if (map->state_epoch < held->state_epoch)
		return stale("state", map->state_epoch, held->state_epoch);
	if (map->state_epoch == held->state_epoch &&
	    !stele_hash_equal(&map->state_hash, &held->state_hash))
		return equivocation("state", map->state_epoch);
	return STELE_OK;
}

static enum stele_err fill(struct stele_map *map, const struct stele_envelopes *file,
                           const struct stele_map *trusted)
{
	STELE_TRY(stele_root_decode(file->root.body, file->root.len, map));
	STELE_TRY(stele_envelope_signed_by(&file->root, map->root_key, map->nroot_keys,
	                                   map->threshold, "root part: its own keys"));
	STELE_TRY(stele_state_decode(file->state.body, file->state.len, map));
	STELE_TRY(stele_envelope_signed_by(&file->state, &map->state_key, 1, 1,
	                                   "state part: the state key"));
	hash_bodies(map, file);
	return trusted ? check_after(map, trusted, &file->root) : STELE_OK;
}

static void destroy(struct stele_map *map)
{
	free(map->pool);
	free(map->node);
	free(map->client);
	free(map->disk);
	free(map->file);
	free(map);
}

enum stele_err stele_map_parse(const char *json, size_t len, const struct stele_map *trusted,
                               struct stele_map **out)
{
	struct stele_envelopes file;
	struct stele_map *map = NULL;
	enum stele_err err = stele_envelopes_parse(json, len, &file);
	if (err)
		goto out;
	map = calloc(1, sizeof(*map));
	if (map)
		map->file = malloc(len + 1);
	if (!map || !map->file) {
		err = stele_fail(STELE_ERR_NOMEM, "cluster file: out of memory");
		goto out;
	}
	memcpy(map->file, json, len);
	map->file[len] = '\0';
	map->file_len = len;
	map->refs = 1;
	err = fill(map, &file, trusted);
	if (err)
		goto out;
	*out = map;
	map = NULL;
out:
	if (map)
		destroy(map);
	stele_envelopes_finish(&file);
	return err;
}

struct stele_map *stele_map_ref(struct stele_map *map)
{
	__atomic_add_fetch(&map->refs, 1, __ATOMIC_RELAXED);
	return map;
}

void stele_map_unref(struct stele_map *map)
{
	if (!map)
		return;
	int left = __atomic_sub_fetch(&map->refs, 1, __ATOMIC_ACQ_REL);
	assert(left >= 0);
	if (left == 0)
		destroy(map);
}

const char *stele_map_json(const struct stele_map *map, size_t *len)
{
	*len = map->file_len;
	return map->file;
}

/* ---- looking up ---- */

static int compare_pool(const void *id, const void *pool)
{
	return (int)*(const uint16_t *)id - ((const struct stele_pool *)pool)->id;
}

static int compare_node(const void *id, const void *node)
{
	return (int)*(const uint16_t *)id - ((const struct stele_node_entry *)node)->id;
}

const struct stele_pool *stele_map_pool(const struct stele_map *map, uint16_t id)
{
	if (!map->npools)
		return NULL;
	return bsearch(&id, map->pool, map->npools, sizeof(*map->pool), compare_pool);
}

const struct stele_pool *stele_map_pool_named(const struct stele_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->npools; i++)
		if (strcmp(map->pool[i].name, name) == 0)
			return &map->pool[i];
	return NULL;
}

const struct stele_node_entry *stele_map_node(const struct stele_map *map, uint16_t id)
{
	if (!map->nnodes)
		return NULL;
	return bsearch(&id, map->node, map->nnodes, sizeof(*map->node), compare_node);
}

const struct stele_client_entry *stele_map_depositor(const struct stele_map *map,
                                                     const struct stele_public_key *key)
{
	if (stele_all_zero(key->b, STELE_KEY_LEN)) /* a client without one */
		return NULL;
	for (uint32_t i = 0; i < map->nclients; i++)
		if (stele_public_key_equal(&map->client[i].depositor, key))
			return &map->client[i];
	return NULL;
}

static bool has_key(const struct stele_public_key tls[2], uint32_t n,
                    const struct stele_public_key *key)
{
	return (n > 0 && stele_public_key_equal(&tls[0], key)) ||
	       (n > 1 && stele_public_key_equal(&tls[1], key));
}

void stele_map_identify(const struct stele_map *map, struct stele_who *who)
{
	memset(&who->depositor, 0, sizeof(who->depositor));
	who->roles = 0;
	who->node = 0;
	who->name[0] = '\0';
	for (uint32_t i = 0; i < map->nnodes; i++) {
		const struct stele_node_entry *n = &map->node[i];
		if (!has_key(n->tls, n->ntls, &who->tls))
			continue;
		who->roles = STELE_ROLE_NODE;
		who->node = n->id;
		memcpy(who->name, n->name, sizeof(who->name));
		return;
	}
	for (uint32_t i = 0; i < map->nclients; i++) {
		const struct stele_client_entry *c = &map->client[i];
		if (!has_key(c->tls, c->ntls, &who->tls))
			continue;
		who->roles = c->revoked ? 0 : c->roles;
		who->depositor = c->depositor;
		memcpy(who->name, c->name, sizeof(who->name));
		return;
	}
}

/* ---- making ---- */

/* The root envelope: signed anew, or the one that `from` has, which must say the same. */
static enum stele_err root_envelope(const struct stele_map *fields, const struct stele_map *from,
                                    const struct stele_secret_key *key, uint32_t n, json_t **out)
{
	struct stele_lines_out body = {0};
	struct stele_envelopes file = {0};
	enum stele_err err;
	stele_root_encode(fields, &body);
	err = body.err;
	if (!err && n > 0) {
		*out = stele_envelope_sign(body.text, body.len, key, n);
		if (!*out)
			err = stele_fail(STELE_ERR_NOMEM, "cluster map: out of memory");
	} else if (!err) {
		err = stele_envelopes_parse(from->file, from->file_len, &file);
		if (!err &&
		    (file.root.len != body.len || memcmp(file.root.body, body.text, body.len) != 0))
			err = stele_fail(
			    STELE_ERR_INVALID,
			    "cluster map: the root part changes: root keys must sign it");
		if (!err)
			*out = json_incref(file.root.json);
	}
	stele_envelopes_finish(&file);
	free(body.text);
	return err;
}

static enum stele_err state_envelope(const struct stele_map *fields,
                                     const struct stele_secret_key *key, json_t **out)
{
	struct stele_lines_out body = {0};
	stele_state_encode(fields, &body);
	enum stele_err err = body.err;
	if (!err) {
		*out = stele_envelope_sign(body.text, body.len, key, 1);
		if (!*out)
			err = stele_fail(STELE_ERR_NOMEM, "cluster map: out of memory");
	}
	free(body.text);
	return err;
}

/* Writes the file and reads it back: whatever fields were filled wrongly shows here, as it would
 * to everybody else. */
static enum stele_err finish_file(json_t *root, json_t *state, const struct stele_map *from,
                                  char **text, size_t *text_len)
{
	json_t *file = json_object();
	int bad = json_object_set(file, "root", root);
	bad |= json_object_set(file, "state", state);
	char *json = bad ? NULL : json_dumps(file, JSON_INDENT(1));
	json_decref(file);
	if (!json)
		return stele_fail(STELE_ERR_NOMEM, "cluster map: out of memory");
	struct stele_map *back = NULL;
	enum stele_err err = stele_map_parse(json, strlen(json), from, &back);
	stele_map_unref(back);
	if (err) {
		free(json);
		return err == STELE_ERR_CORRUPT ? stele_wrap(STELE_ERR_INVALID, "cluster map")
		                                : err;
	}
	*text = json;
	*text_len = strlen(json);
	return STELE_OK;
}

enum stele_err stele_map_compose(const struct stele_map *fields, const struct stele_map *from,
                                 const struct stele_secret_key *root_keys, uint32_t n,
                                 const struct stele_secret_key *state_key, char **json, size_t *len)
{
	json_t *root = NULL, *state = NULL;
	assert(n > 0 || from);
	if (n > STELE_ENVELOPE_SIGS_MAX)
		return stele_fail(STELE_ERR_INVALID, "cluster map: more than %u signatures",
		                  STELE_ENVELOPE_SIGS_MAX);
	enum stele_err err = root_envelope(fields, from, root_keys, n, &root);
	if (!err)
		err = state_envelope(fields, state_key, &state);
	if (!err)
		err = finish_file(root, state, from, json, len);
	json_decref(root);
	json_decref(state);
	return err;
}

/* The smallest power of two that gives every disk its slots. */
static uint8_t pgs_log2_for(const struct stele_code_id *code, uint32_t ndisks)
{
	uint64_t n = (uint64_t)code->k + code->m;
	uint8_t log2 = 0;
	while ((1u << log2) < STELE_PGS_MAX && (n << log2) < (uint64_t)PG_SLOTS_PER_DISK * ndisks)
		log2++;
	return log2;
}

void stele_map_default_pools(const struct stele_code_id *code, uint32_t t, uint32_t ndisks,
                             struct stele_pool out[4])
{
	static const struct {
		uint16_t id;
		const char *name;
	} pools[4] = {{STELE_POOL_RECORD, "record"},
	              {STELE_POOL_LOG, "log"},
	              {16, "ledger"},
	              {17, "evidence"}};
	for (int i = 0; i < 4; i++) {
		struct stele_pool *p = &out[i];
		memset(p, 0, sizeof(*p));
		p->id = pools[i].id;
		strcpy(p->name, pools[i].name);
		p->code = *code;
		if (p->id == STELE_POOL_RECORD)
			p->code = (struct stele_code_id){STELE_CODE_REP, 1, (uint8_t)t, 0};
		p->domain = STELE_DOMAIN_HOST;
		p->min_margin = t > 0;
		p->pgs_log2 = pgs_log2_for(&p->code, ndisks);
		p->collect_age_s = COLLECT_AGE_S;
	}
}
