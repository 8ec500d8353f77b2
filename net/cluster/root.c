/*
 * The root part's codec. Does not look at signatures (envelope.c), nor at what came before (map.c).
 */
#include "net/cluster/root.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/cluster/place.h"

#define ROOT_KEYS_MAX 8u
#define SECONDS_MAX   (1ull << 40)

static const char *const domain_words[] = {"disk", "host", "rack"}; /* enum stele_domain - 1 */
static const char *const client_words[] = {"active", "revoked"};
/* By bit of enum stele_role. A node's role is its line, never a client's. */
static const char *const role_words[] = {"node",  "writer",  "reader",    "auditor",
                                         "admin", "officer", "sequencer", "submitter"};
#define ROLES      (sizeof(role_words) / sizeof(role_words[0]))
#define ROLES_TEXT 80u

/* ---- decoding ---- */

/* Allocates the array that the lines of that name will fill. */
static void *array_for(struct stele_lines *l, const char *name, uint32_t max, size_t item,
                       uint32_t *n)
{
	*n = 0;
	if (l->err)
		return NULL;
	uint32_t count = stele_lines_count(l->p, (size_t)(l->end - l->p), name);
	if (count > max) {
		l->err = stele_fail(STELE_ERR_CORRUPT, "%s: %u lines \"%s\", at most %u", l->part,
		                    count, name, max);
		return NULL;
	}
	void *array = calloc(count ? count : 1, item);
	if (!array)
		l->err = stele_fail(STELE_ERR_NOMEM, "%s: out of memory", l->part);
	else
		*n = count;
	return array;
}

/* "hex" or "hex,hex" */
static void read_keys(struct stele_lines *l, struct stele_public_key key[2], uint8_t *n)
{
	char word[2 * 64 + 2];
	stele_lines_word(l, "key", word, sizeof(word));
	size_t len = strlen(word);
	*n = len > 64 ? 2 : 1;
	if (l->err)
		return;
	if (!stele_unhex(word, len > 64 ? 64 : len, key[0].b, STELE_KEY_LEN, true) ||
	    (*n == 2 &&
	     (word[64] != ',' || !stele_unhex(word + 65, len - 65, key[1].b, STELE_KEY_LEN, true))))
		stele_lines_fail(l,
		                 "key is not 64 lower-case hex digits, or two such with a comma");
}

/* "-", or words in the order of their bits with commas; false: bits that no client may have. */
static bool roles_text(uint32_t roles, char out[ROLES_TEXT])
{
	size_t len = 0;
	if (roles & (1u | ~((1u << ROLES) - 1)))
		return false;
	for (uint32_t bit = 1; bit < ROLES; bit++)
		if (roles >> bit & 1)
			len += (size_t)snprintf(out + len, ROLES_TEXT - len, "%s%s", len ? "," : "",
			                        role_words[bit]);
	if (!len)
		strcpy(out, "-");
	return true;
}

static uint32_t read_roles(struct stele_lines *l)
{
	char word[ROLES_TEXT], again[ROLES_TEXT];
	uint32_t roles = 0;
	stele_lines_word(l, "roles", word, sizeof(word));
	for (const char *w = word; *w && !l->err;) {
		size_t len = strcspn(w, ",");
		for (uint32_t bit = 1; bit < ROLES; bit++)
			if (strlen(role_words[bit]) == len && memcmp(w, role_words[bit], len) == 0)
				roles |= 1u << bit;
		w += len + (w[len] == ',');
	}
	if (!l->err && (!roles_text(roles, again) || strcmp(word, again) != 0))
		stele_lines_fail(l, "roles \"%s\": not known, or not in their order", word);
	return roles;
}

static void read_pool(struct stele_lines *l, struct stele_pool *p, uint32_t after)
{
	char code[STELE_NAME_MAX];
	p->id = (uint16_t)stele_lines_u64(l, "id", 1, UINT16_MAX);
	stele_lines_name(l, "name", p->name);
	stele_lines_word(l, "code", code, sizeof(code));
	if (!l->err && stele_code_id_parse(code, &p->code) != STELE_OK)
		stele_lines_fail(l, "%s", stele_detail());
	p->domain = (enum stele_domain)(1 + stele_lines_choice(l, "domain", domain_words, 3));
	uint32_t t = l->err ? 0 : stele_code_id_t(&p->code);
	p->min_margin = (uint8_t)stele_lines_u64(l, "min_margin", 0, t);
	p->pgs_log2 = (uint8_t)stele_lines_u64(l, "pgs_log2", 0, 16);
	p->collect_age_s = stele_lines_u64(l, "collect_age", 0, SECONDS_MAX);
	p->retention_s = stele_lines_u64(l, "retention", 0, SECONDS_MAX);
	stele_lines_done(l);
	if (!l->err && p->id <= after)
		stele_lines_fail(l, "id %u is not greater than %u before it", p->id, after);
	if (!l->err && p->id < 16 && p->id != STELE_POOL_RECORD && p->id != STELE_POOL_LOG)
		stele_lines_fail(l, "id %u is reserved: pools of users start at 16", p->id);
}

static void read_node(struct stele_lines *l, struct stele_node_entry *n, uint32_t after)
{
	n->id = (uint16_t)stele_lines_u64(l, "id", 1, UINT16_MAX);
	stele_lines_name(l, "name", n->name);
	stele_lines_name(l, "host", n->host);
	stele_lines_name(l, "rack", n->rack);
	read_keys(l, n->tls, &n->ntls);
	stele_lines_done(l);
	if (!l->err && n->id <= after)
		stele_lines_fail(l, "id %u is not greater than %u before it", n->id, after);
}

static void read_client(struct stele_lines *l, struct stele_client_entry *c, const char *after)
{
	char depositor[2 * STELE_KEY_LEN + 1];
	stele_lines_name(l, "name", c->name);
	c->revoked = stele_lines_choice(l, "state", client_words, 2) == 1;
	c->roles = read_roles(l);
	stele_lines_word(l, "depositor", depositor, sizeof(depositor));
	if (!l->err && strcmp(depositor, "-") != 0 &&
	    (!stele_unhex(depositor, strlen(depositor), c->depositor.b, STELE_KEY_LEN, true) ||
	     stele_all_zero(c->depositor.b, STELE_KEY_LEN)))
		stele_lines_fail(l, "depositor is neither a key nor \"-\"");
	read_keys(l, c->tls, &c->ntls);
	stele_lines_done(l);
	if (!l->err && strcmp(c->name, after) <= 0)
		stele_lines_fail(l, "\"%s\" is not in ascending order", c->name);
}

/* ---- what must hold between lines ---- */

static int compare_keys(const void *a, const void *b)
{
	const struct stele_public_key *const *x = a, *const *y = b;
	return memcmp((*x)->b, (*y)->b, STELE_KEY_LEN);
}

/* No key stands for two things: TLS, depositors, log, state and root are separate (M7). */
static enum stele_err check_keys(const struct stele_map *map)
{
	size_t n = 0, max = 2 + ROOT_KEYS_MAX + 2u * map->nnodes + 3u * map->nclients;
	const struct stele_public_key **key = calloc(max, sizeof(*key));
	if (!key)
		return stele_fail(STELE_ERR_NOMEM, "root part: out of memory");
	key[n++] = &map->state_key;
	key[n++] = &map->log_key;
	for (uint32_t i = 0; i < map->nroot_keys; i++)
		key[n++] = &map->root_key[i];
	for (uint32_t i = 0; i < map->nnodes; i++)
		for (uint32_t k = 0; k < map->node[i].ntls; k++)
			key[n++] = &map->node[i].tls[k];
	for (uint32_t i = 0; i < map->nclients; i++) {
		const struct stele_client_entry *c = &map->client[i];
		for (uint32_t k = 0; k < c->ntls; k++)
			key[n++] = &c->tls[k];
		if (!stele_all_zero(c->depositor.b, STELE_KEY_LEN))
			key[n++] = &c->depositor;
	}
	qsort(key, n, sizeof(*key), compare_keys);
	enum stele_err err = STELE_OK;
	for (size_t i = 1; i < n && !err; i++) {
		char hex[2 * STELE_KEY_LEN + 1];
		if (compare_keys(&key[i - 1], &key[i]) == 0)
			err = stele_fail(STELE_ERR_CORRUPT, "root part: key %.16s... is used twice",
			                 stele_hex(key[i]->b, STELE_KEY_LEN, hex));
	}
	free(key);
	return err;
}

static enum stele_err check_pools(const struct stele_map *map)
{
	const struct stele_pool *record = stele_map_pool(map, STELE_POOL_RECORD);
	const struct stele_pool *log = stele_map_pool(map, STELE_POOL_LOG);
	if (!record || strcmp(record->name, "record") != 0 || !log || strcmp(log->name, "log") != 0)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "root part: pool 1 must be \"record\" and pool 2 \"log\"");
	if (record->code.family != STELE_CODE_REP)
		return stele_fail(STELE_ERR_CORRUPT, "root part: pool record must be rep-n");
	for (uint32_t i = 0; i < map->npools; i++) {
		const struct stele_pool *p = &map->pool[i];
		/* D6: a record survives whatever the blocks it leads to survive. */
		if (stele_code_id_t(&p->code) > stele_code_id_t(&record->code))
			return stele_fail(STELE_ERR_CORRUPT,
			                  "root part: pool %s survives %u losses, records only %u",
			                  p->name, stele_code_id_t(&p->code),
			                  stele_code_id_t(&record->code));
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(p->name, map->pool[k].name) == 0)
				return stele_fail(STELE_ERR_CORRUPT,
				                  "root part: two pools are called \"%s\"",
				                  p->name);
	}
	return STELE_OK;
}

static int compare_names(const void *a, const void *b)
{
	const struct stele_node_entry *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

static enum stele_err check_nodes(const struct stele_map *map)
{
	const struct stele_node_entry **node = calloc(map->nnodes + 1u, sizeof(*node));
	if (!node)
		return stele_fail(STELE_ERR_NOMEM, "root part: out of memory");
	for (uint32_t i = 0; i < map->nnodes; i++)
		node[i] = &map->node[i];
	qsort(node, map->nnodes, sizeof(*node), compare_names);
	enum stele_err err = STELE_OK;
	for (uint32_t i = 1; i < map->nnodes && !err; i++)
		if (compare_names(&node[i - 1], &node[i]) == 0)
			err = stele_fail(STELE_ERR_CORRUPT,
			                 "root part: two nodes are called \"%s\"", node[i]->name);
	free(node);
	return err;
}

static void read_trust(struct stele_lines *l, struct stele_map *map)
{
	stele_lines_need(l, "threshold");
	map->threshold = (uint8_t)stele_lines_u64(l, "threshold", 1, ROOT_KEYS_MAX);
	stele_lines_done(l);
	while (stele_lines_take(l, "root")) {
		if (map->nroot_keys == ROOT_KEYS_MAX) {
			stele_lines_fail(l, "more than %u root keys", ROOT_KEYS_MAX);
			return;
		}
		stele_lines_hex(l, "key", map->root_key[map->nroot_keys++].b, STELE_KEY_LEN);
		stele_lines_done(l);
	}
	if (!l->err && map->nroot_keys < map->threshold)
		stele_lines_fail(l, "%u root keys, fewer than the threshold %u", map->nroot_keys,
		                 map->threshold);
	stele_lines_need(l, "state");
	stele_lines_hex(l, "key", map->state_key.b, STELE_KEY_LEN);
	stele_lines_done(l);
	stele_lines_need(l, "log");
	stele_lines_hex(l, "key", map->log_key.b, STELE_KEY_LEN);
	stele_lines_word(l, "origin", map->log_origin, sizeof(map->log_origin));
	stele_lines_done(l);
}

enum stele_err stele_root_decode(const char *body, size_t len, struct stele_map *map)
{
	struct stele_lines l = stele_lines_read("root part", body, len);
	uint32_t n;
	stele_lines_kind(&l, "root");
	stele_lines_need(&l, "cluster");
	stele_lines_hex(&l, "id", map->cluster.b, STELE_HASH_LEN);
	stele_lines_done(&l);
	stele_lines_need(&l, "epoch");
	map->root_epoch = stele_lines_u64(&l, "epoch", 1, UINT32_MAX);
	stele_lines_done(&l);
	stele_lines_need(&l, "grace");
	map->grace_s = stele_lines_u64(&l, "grace", 0, SECONDS_MAX);
	stele_lines_done(&l);
	read_trust(&l, map);
	map->pool = array_for(&l, "pool", STELE_POOLS_MAX, sizeof(*map->pool), &n);
	while (map->npools < n && stele_lines_take(&l, "pool")) {
		uint32_t after = map->npools ? map->pool[map->npools - 1].id : 0;
		read_pool(&l, &map->pool[map->npools++], after);
	}
	map->node = array_for(&l, "node", STELE_NODES_MAX, sizeof(*map->node), &n);
	while (map->nnodes < n && stele_lines_take(&l, "node")) {
		uint32_t after = map->nnodes ? map->node[map->nnodes - 1].id : 0;
		read_node(&l, &map->node[map->nnodes++], after);
	}
	map->client = array_for(&l, "client", STELE_CLIENTS_MAX, sizeof(*map->client), &n);
	while (map->nclients < n && stele_lines_take(&l, "client")) {
		const char *after = map->nclients ? map->client[map->nclients - 1].name : "";
		read_client(&l, &map->client[map->nclients++], after);
	}
	STELE_TRY(stele_lines_finish(&l));
	STELE_TRY(check_pools(map));
	STELE_TRY(check_nodes(map));
	return check_keys(map);
}

/* ---- encoding ---- */

static void write_keys(struct stele_lines_out *o, const struct stele_public_key *key, uint32_t n)
{
	if (!o->err && (n < 1 || n > 2))
		o->err = stele_fail(STELE_ERR_INVALID, "an identity with %u keys, not 1 or 2", n);
	for (uint32_t i = 0; i < n && !o->err; i++)
		stele_lines_add_hex(o, i ? "," : " ", key[i].b, STELE_KEY_LEN);
}

static void write_client(struct stele_lines_out *o, const struct stele_client_entry *c)
{
	char roles[ROLES_TEXT];
	stele_lines_add(o, "client");
	stele_lines_add_name(o, "client", c->name);
	if (!o->err && !roles_text(c->roles, roles))
		o->err = stele_fail(STELE_ERR_INVALID, "client \"%s\": roles %#x are not known",
		                    c->name, c->roles);
	if (o->err)
		return;
	stele_lines_add(o, " %s %s", client_words[c->revoked], roles);
	if (stele_all_zero(c->depositor.b, STELE_KEY_LEN))
		stele_lines_add(o, " -");
	else
		write_keys(o, &c->depositor, 1);
	write_keys(o, c->tls, c->ntls);
	stele_lines_add(o, "\n");
}

static void write_pool(struct stele_lines_out *o, const struct stele_pool *p)
{
	char code[STELE_NAME_MAX];
	if (!o->err && (p->domain < STELE_DOMAIN_DISK || p->domain > STELE_DOMAIN_RACK))
		o->err = stele_fail(STELE_ERR_INVALID, "pool \"%s\": domain %d is not known",
		                    p->name, p->domain);
	if (o->err)
		return;
	stele_lines_add(o, "pool %u", p->id);
	stele_lines_add_name(o, "pool", p->name);
	stele_lines_add(o, " %s %s %u %u %llu %llu\n", stele_code_id_name(&p->code, code),
	                domain_words[p->domain - 1], p->min_margin, p->pgs_log2,
	                (unsigned long long)p->collect_age_s, (unsigned long long)p->retention_s);
}

static void write_trust(struct stele_lines_out *o, const struct stele_map *map)
{
	size_t n = strnlen(map->log_origin, sizeof(map->log_origin));
	if (!o->err && map->nroot_keys > ROOT_KEYS_MAX)
		o->err = stele_fail(STELE_ERR_INVALID, "more than %u root keys", ROOT_KEYS_MAX);
	for (size_t i = 0; i < n && !o->err; i++)
		if (n == sizeof(map->log_origin) || map->log_origin[i] <= ' ' ||
		    map->log_origin[i] > '~')
			o->err = stele_fail(STELE_ERR_INVALID,
			                    "the log's origin is not printable without blanks");
	stele_lines_add(o, "threshold %u\n", map->threshold);
	for (uint32_t i = 0; i < map->nroot_keys && !o->err; i++) {
		stele_lines_add_hex(o, "root ", map->root_key[i].b, STELE_KEY_LEN);
		stele_lines_add(o, "\n");
	}
	stele_lines_add_hex(o, "state ", map->state_key.b, STELE_KEY_LEN);
	stele_lines_add_hex(o, "\nlog ", map->log_key.b, STELE_KEY_LEN);
	stele_lines_add(o, " %s\n", map->log_origin);
}

void stele_root_encode(const struct stele_map *map, struct stele_lines_out *o)
{
	stele_lines_add(o, "stele.dev/root/v1\n");
	stele_lines_add_hex(o, "cluster ", map->cluster.b, STELE_HASH_LEN);
	stele_lines_add(o, "\nepoch %llu\ngrace %llu\n", (unsigned long long)map->root_epoch,
	                (unsigned long long)map->grace_s);
	write_trust(o, map);
	for (uint32_t i = 0; i < map->npools; i++)
		write_pool(o, &map->pool[i]);
	for (uint32_t i = 0; i < map->nnodes; i++) {
		const struct stele_node_entry *n = &map->node[i];
		stele_lines_add(o, "node %u", n->id);
		stele_lines_add_name(o, "node", n->name);
		stele_lines_add_name(o, "host", n->host);
		stele_lines_add_name(o, "rack", n->rack);
		write_keys(o, n->tls, n->ntls);
		stele_lines_add(o, "\n");
	}
	for (uint32_t i = 0; i < map->nclients; i++)
		write_client(o, &map->client[i]);
}
