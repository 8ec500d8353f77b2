/*
 * Lays out and removes a local cluster's directory. Starts nothing: that is daemon.c; the commands
 * are dev.c's.
 */
#include "tools/dev_make.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/cluster/keys.h"
#include "net/cluster/map.h"
#include "net/cluster/place.h"
#include "storage/base/text.h"

#define GRACE_S     900u
#define PORT_MIN    10240u
#define PORT_MAX    60999u
#define WEIGHT      1000u
#define CLIENT_NAME "dev"    /* client.key: every role */
#define READER_NAME "reader" /* reader.key: looks, stores nothing */

static const char unfinished[] = "dev.unfinished";
/* Beside the nodes: what is made here, and what the log and its anchors keep. */
static const char *const own_files[] = {unfinished,   "cluster.json",  "client.key",
                                        "root.key",   "state.key",     "log.key",
                                        "reader.key", "anchors.local", "log.head"};
#define OWN_FILES (sizeof(own_files) / sizeof(own_files[0]))

static enum stele_err join(char out[STELE_PATH_MAX], const char *dir, const char *name)
{
	int n = snprintf(out, STELE_PATH_MAX, "%s/%s", dir, name);
	if (n < 0 || n >= (int)STELE_PATH_MAX)
		return stele_fail(STELE_ERR_USAGE, "%.64s...: the path is too long", dir);
	return STELE_OK;
}

/* "node12" -> 12; 0: not the name of a node's directory. */
static uint32_t node_number(const char *name)
{
	uint64_t v;
	if (strncmp(name, "node", 4) != 0 ||
	    !stele_text_u64(name + 4, strlen(name + 4), UINT16_MAX, &v))
		return 0;
	return (uint32_t)v;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

enum stele_err stele_dev_nodes(const char *dir, uint32_t out[STELE_DEV_NODES_MAX], uint32_t *n)
{
	DIR *d = opendir(dir);
	*n = 0;
	if (!d)
		return stele_fail_errno(errno, "%s", dir);
	for (struct dirent *e = readdir(d); e && *n < STELE_DEV_NODES_MAX; e = readdir(d)) {
		char ini[STELE_PATH_MAX];
		uint32_t node = node_number(e->d_name);
		int len = snprintf(ini, sizeof(ini), "%s/%s/steled.ini", dir, e->d_name);
		if (node && len > 0 && len < (int)sizeof(ini) && access(ini, F_OK) == 0)
			out[(*n)++] = node;
	}
	closedir(d);
	qsort(out, *n, sizeof(*out), compare_u32);
	return STELE_OK;
}

/* ---- removing ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) != 0 ? -1 : 0;
}

/* A directory tree, links themselves and not what they lead to. */
static enum stele_err remove_tree(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		return stele_fail_errno(errno, "remove %s", path);
	return STELE_OK;
}

static enum stele_err remove_node(const char *dir, uint32_t node)
{
	char path[STELE_PATH_MAX], name[16];
	snprintf(name, sizeof(name), "node%u", node);
	STELE_TRY(join(path, dir, name));
	return remove_tree(path);
}

/* The cluster file and the mark of an unfinished run go last: until then the directory is known. */
static enum stele_err remove_files(const char *dir)
{
	char path[STELE_PATH_MAX];
	for (size_t i = OWN_FILES; i-- > 0;) {
		STELE_TRY(join(path, dir, own_files[i]));
		if (unlink(path) != 0 && errno != ENOENT)
			return stele_fail_errno(errno, "remove %s", path);
	}
	return STELE_OK;
}

enum stele_err stele_dev_remove(const char *dir)
{
	uint32_t node[STELE_DEV_NODES_MAX], n;
	STELE_TRY(stele_dev_nodes(dir, node, &n));
	for (uint32_t i = 0; i < n; i++)
		STELE_TRY(remove_node(dir, node[i]));
	return remove_files(dir);
}

/* ---- making ---- */

bool stele_dev_unfinished(const char *dir)
{
	char path[STELE_PATH_MAX];
	return join(path, dir, unfinished) == STELE_OK && access(path, F_OK) == 0;
}

/* Removes what an unfinished run left; its mark says how many nodes it was to make, and it began
 * only when none of their names was taken. */
static enum stele_err clear_unfinished(const char *dir)
{
	char path[STELE_PATH_MAX];
	unsigned nodes = 0;
	STELE_TRY(join(path, dir, unfinished));
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "nodes %u", &nodes) != 1)
		nodes = 0;
	if (f)
		fclose(f);
	for (uint32_t i = 1; i <= nodes && i <= STELE_DEV_NODES_MAX; i++)
		STELE_TRY(remove_node(dir, i));
	return remove_files(dir);
}

static enum stele_err not_there(const char *dir, const char *name)
{
	char path[STELE_PATH_MAX];
	STELE_TRY(join(path, dir, name));
	if (access(path, F_OK) == 0)
		return stele_fail(STELE_ERR_EXISTS,
		                  "%s is in the way: move it, or give another --dir", path);
	return STELE_OK;
}

/* Nothing of the names that will be used is there but what an unfinished run left. */
static enum stele_err clear_the_way(const char *dir, uint32_t nodes)
{
	char name[16];
	if (stele_dev_unfinished(dir))
		STELE_TRY(clear_unfinished(dir));
	for (size_t i = 0; i < OWN_FILES; i++)
		STELE_TRY(not_there(dir, own_files[i]));
	for (uint32_t i = 1; i <= nodes; i++) {
		snprintf(name, sizeof(name), "node%u", i);
		STELE_TRY(not_there(dir, name));
	}
	return STELE_OK;
}

static bool port_is_free(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons(port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool ok = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 1) == 0;
	close(fd);
	return ok;
}

/* Where the kernel takes the ports of outgoing connections from: a daemon that is down must not find
 * its port taken by one of those. */
static uint32_t port_limit(void)
{
	unsigned low = 0;
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	if (f && fscanf(f, "%u", &low) != 1)
		low = 0;
	if (f)
		fclose(f);
	return low > PORT_MIN + 4 * STELE_DEV_NODES_MAX ? low : PORT_MAX;
}

static enum stele_err choose_ports(struct stele_env *env, uint32_t n, uint16_t *port)
{
	uint32_t span = port_limit() - PORT_MIN;
	uint32_t at = (uint32_t)(stele_env_random_u64(env) % span), found = 0;
	for (uint32_t i = 0; i < span && found < n; i++) {
		uint16_t p = (uint16_t)(PORT_MIN + (at + i) % span);
		if (port_is_free(p))
			port[found++] = p;
	}
	if (found < n)
		return stele_fail(STELE_ERR_UNAVAILABLE,
		                  "127.0.0.1: only %u free ports for %u nodes", found, n);
	return STELE_OK;
}

struct making {
	struct stele_env *env;
	const struct stele_dev_plan *plan;
	uint16_t port[STELE_DEV_NODES_MAX];
	struct stele_keys client, reader, root, state, log;
	struct stele_map map; /* fields to compose from */
	struct stele_pool pool[4];
	struct stele_node_entry node[STELE_DEV_NODES_MAX];
	struct stele_disk_entry disk[STELE_DEV_NODES_MAX * STELE_SLOTS_MAX];
	uint32_t ndisks;
	struct stele_client_entry entry[2];
};

static enum stele_err save_keys(struct making *m, const char *name, bool tls, bool sign,
                                struct stele_keys *out)
{
	char path[STELE_PATH_MAX];
	STELE_TRY(join(path, m->plan->dir, name));
	stele_keys_generate(m->env, tls, sign, out);
	return stele_keys_save(m->env, path, out);
}

static enum stele_err save_text(struct making *m, const char *dir, const char *name,
                                const char *text, size_t len)
{
	char path[STELE_PATH_MAX];
	STELE_TRY(join(path, dir, name));
	return stele_file_save(m->env, path, text, len, 0644);
}

/* Its sections of the configuration, and its line in the map. */
static enum stele_err make_disk(struct making *m, const struct stele_node_entry *n, const char *dir,
                                uint32_t slot, char *ini, size_t cap, int *len)
{
	char path[STELE_PATH_MAX], name[16];
	snprintf(name, sizeof(name), "disk%u", slot);
	STELE_TRY(join(path, dir, name));
	STELE_TRY(stele_file_mkdirs(m->env, path, 0755));
	*len += snprintf(ini + *len, cap - (size_t)*len, "[disk %u]\ndir = %s\n\n", slot, name);
	m->disk[m->ndisks++] = (struct stele_disk_entry){n->id, (uint16_t)slot, WEIGHT, false};
	return STELE_OK;
}

/* node<N>/{steled.ini, node.key, disk0/, ...}, and its line in the map. */
static enum stele_err make_node(struct making *m, uint32_t i)
{
	struct stele_node_entry *n = &m->node[i];
	struct stele_keys keys;
	char dir[STELE_PATH_MAX], path[STELE_PATH_MAX], ini[512 + 64 * STELE_SLOTS_MAX];
	n->id = (uint16_t)(i + 1);
	snprintf(n->name, sizeof(n->name), "node%u", n->id);
	snprintf(n->host, sizeof(n->host), "node%u", n->id); /* every node is a host of its own */
	snprintf(n->rack, sizeof(n->rack), "dev");
	snprintf(n->addr, sizeof(n->addr), "127.0.0.1:%u", m->port[i]);
	STELE_TRY(join(dir, m->plan->dir, n->name));
	STELE_TRY(stele_file_mkdirs(m->env, dir, 0755));
	STELE_TRY(join(path, dir, "node.key"));
	stele_keys_generate(m->env, true, false, &keys);
	n->tls[n->ntls++] = keys.tls.pub;
	enum stele_err err = stele_keys_save(m->env, path, &keys);
	stele_keys_wipe(&keys);
	STELE_TRY(err);
	int len = snprintf(ini, sizeof(ini),
	                   "# made by stele dev up; config/steled.ini.example explains the keys\n"
	                   "[node]\nid = %u\nkey = node.key\ncluster = ../cluster.json\n"
	                   "listen = %s\nbuffers = 64\n\n",
	                   n->id, n->addr);
	for (uint32_t slot = 0; slot < m->plan->disks; slot++)
		STELE_TRY(make_disk(m, n, dir, slot, ini, sizeof(ini), &len));
	len += snprintf(ini + len, sizeof(ini) - (size_t)len, "[store]\nextent_size = %u\n",
	                STELE_EXTENT_LEN_DEV);
	if (m->plan->capacity)
		len += snprintf(ini + len, sizeof(ini) - (size_t)len, "capacity = %" PRIu64 "\n",
		                m->plan->capacity);
	if (m->plan->heal_s)
		len += snprintf(ini + len, sizeof(ini) - (size_t)len,
		                "[upkeep]\nheal_seconds = %" PRIu64 "\n", m->plan->heal_s);
	STELE_TRY(save_text(m, dir, "steled.ini", ini, (size_t)len));
	return STELE_OK;
}

static void make_client(struct stele_client_entry *e, const char *name,
                        const struct stele_keys *keys, uint32_t roles)
{
	strcpy(e->name, name);
	e->tls[e->ntls++] = keys->tls.pub;
	e->depositor = keys->sign.pub;
	e->roles = roles;
}

static enum stele_err make_map(struct making *m)
{
	struct stele_map *map = &m->map;
	uint8_t random[16];
	char hex[33], *json = NULL;
	size_t len;
	stele_env_random(m->env, map->cluster.b, sizeof(map->cluster.b));
	stele_env_random(m->env, random, sizeof(random));
	snprintf(map->log_origin, sizeof(map->log_origin), "dev.stele.dev/%s",
	         stele_hex(random, sizeof(random), hex));
	map->root_epoch = map->state_epoch = 1;
	map->grace_s = GRACE_S;
	map->threshold = map->nroot_keys = 1;
	map->root_key[0] = m->root.sign.pub;
	map->state_key = m->state.sign.pub;
	map->log_key = m->log.sign.pub;
	stele_map_default_pools(&m->plan->code, stele_code_id_t(&m->plan->code), m->ndisks,
	                        m->pool);
	for (size_t i = 0; m->plan->collect_age_s && i < sizeof(m->pool) / sizeof(m->pool[0]); i++)
		m->pool[i].collect_age_s = m->plan->collect_age_s;
	map->pool = m->pool;
	map->npools = 4;
	map->node = m->node;
	map->nnodes = (uint16_t)m->plan->nodes;
	map->disk = m->disk;
	map->ndisks = m->ndisks;
	make_client(&m->entry[0], CLIENT_NAME, &m->client,
	            STELE_ROLE_WRITER | STELE_ROLE_READER | STELE_ROLE_AUDITOR | STELE_ROLE_ADMIN |
	                STELE_ROLE_OFFICER | STELE_ROLE_SEQUENCER | STELE_ROLE_SUBMITTER);
	make_client(&m->entry[1], READER_NAME, &m->reader, STELE_ROLE_READER);
	map->client = m->entry;
	map->nclients = 2;
	STELE_TRY(stele_map_compose(map, NULL, &m->root.sign, 1, &m->state.sign, &json, &len));
	enum stele_err err = save_text(m, m->plan->dir, "cluster.json", json, len);
	free(json);
	return err;
}

static enum stele_err make(struct making *m)
{
	char path[STELE_PATH_MAX], mark[32];
	STELE_TRY(clear_the_way(m->plan->dir, m->plan->nodes));
	int len = snprintf(mark, sizeof(mark), "nodes %u\n", m->plan->nodes);
	STELE_TRY(save_text(m, m->plan->dir, unfinished, mark, (size_t)len));
	STELE_TRY(choose_ports(m->env, m->plan->nodes, m->port));
	STELE_TRY(save_keys(m, "client.key", true, true, &m->client));
	STELE_TRY(save_keys(m, "reader.key", true, true, &m->reader));
	STELE_TRY(save_keys(m, "root.key", false, true, &m->root));
	STELE_TRY(save_keys(m, "state.key", false, true, &m->state));
	STELE_TRY(save_keys(m, "log.key", false, true, &m->log));
	for (uint32_t i = 0; i < m->plan->nodes; i++)
		STELE_TRY(make_node(m, i));
	STELE_TRY(make_map(m));
	STELE_TRY(join(path, m->plan->dir, unfinished));
	return stele_file_unlink(m->env, path);
}

enum stele_err stele_dev_make(struct stele_env *env, const struct stele_dev_plan *plan)
{
	char code[STELE_NAME_MAX];
	uint32_t n = plan->code.k + plan->code.m;
	if (plan->nodes < n)
		return stele_fail(STELE_ERR_USAGE,
		                  "%s puts %u shards on %u nodes: --nodes %u or more",
		                  stele_code_id_name(&plan->code, code), n, n, n);
	struct making *m = calloc(1, sizeof(*m));
	if (!m)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	m->env = env;
	m->plan = plan;
	enum stele_err err = make(m);
	stele_keys_wipe(&m->client);
	stele_keys_wipe(&m->reader);
	stele_keys_wipe(&m->root);
	stele_keys_wipe(&m->state);
	stele_keys_wipe(&m->log);
	free(m);
	return err;
}
