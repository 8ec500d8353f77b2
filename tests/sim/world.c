/* Builds, breaks and mends a simulated cluster. What must hold is judged in stele_sim.c. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND     1000000000ull
#define EXTENT_LEN (8u << 20)

static void must(enum stele_err err, const char *what)
{
	if (err == STELE_OK)
		return;
	fprintf(stderr, "simulation: %s: %s: %s\n", what, stele_err_name(err), stele_detail());
	abort();
}

void world_say(struct world *w, const char *fmt, ...)
{
	va_list ap;
	if (!w->verbose)
		return;
	printf("%12.6f  ", (double)stele_sim_now(w->sim) / 1e9);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

bool world_run(struct world *w, bool (*done)(void *ctx), void *ctx, uint64_t limit_s)
{
	return stele_sim_run(w->sim, done, ctx, limit_s * SECOND);
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

void world_sleep(struct world *w, uint64_t seconds)
{
	stele_sim_run(w->sim, never, NULL, seconds * SECOND);
}

/* ---- keys and map ---- */

static void make_key(struct world *w, struct stele_secret_key *out)
{
	uint8_t seed[32];
	stele_prng_fill(&w->rng, seed, sizeof(seed));
	stele_key_from_seed(out, seed);
}

static void make_clients(struct world *w, struct stele_client_entry *entry)
{
	memset(entry, 0, WORLD_CLIENTS * sizeof(*entry));
	for (uint32_t i = 0; i < WORLD_CLIENTS; i++) {
		struct world_client *c = &w->client[i];
		snprintf(c->machine, sizeof(c->machine), "client%u", i);
		make_key(w, &c->tls);
		make_key(w, &c->sign);
		snprintf(entry[i].name, sizeof(entry[i].name), "%s", c->machine);
		entry[i].ntls = 1;
		entry[i].tls[0] = c->tls.pub;
		entry[i].depositor = c->sign.pub;
		entry[i].roles =
		    STELE_ROLE_WRITER | STELE_ROLE_READER | STELE_ROLE_ADMIN | STELE_ROLE_OFFICER;
	}
}

static void make_map(struct world *w, const char *code, uint64_t collect_age_s)
{
	struct stele_secret_key root, state, log;
	struct stele_pool pool[4];
	struct stele_node_entry node[WORLD_NODES_MAX];
	struct stele_disk_entry disk[WORLD_NODES_MAX];
	struct stele_client_entry client[WORLD_CLIENTS];
	struct stele_code_id id;
	struct stele_map m = {.root_epoch = 1, .state_epoch = 1, .grace_s = 60, .threshold = 1};
	memset(node, 0, sizeof(node));
	must(stele_code_id_parse(code, &id), "code");
	make_key(w, &root);
	make_key(w, &state);
	make_key(w, &log);
	make_clients(w, client);
	stele_prng_fill(&w->rng, m.cluster.b, sizeof(m.cluster.b));
	m.nroot_keys = 1;
	m.root_key[0] = root.pub;
	m.state_key = state.pub;
	m.log_key = log.pub;
	snprintf(m.log_origin, sizeof(m.log_origin), "sim.stele.dev/%032d", 1);
	stele_map_default_pools(&id, stele_code_id_t(&id), w->nnodes, pool);
	for (uint32_t i = 0; i < 4; i++) {
		pool[i].pgs_log2 = 4; /* few groups: rounds stay short */
		pool[i].collect_age_s = collect_age_s;
	}
	for (uint32_t i = 0; i < w->nnodes; i++) {
		struct world_node *n = &w->node[i];
		n->id = (uint16_t)(i + 1);
		snprintf(n->machine, sizeof(n->machine), "n%u", n->id);
		make_key(w, &n->tls);
		node[i].id = n->id;
		snprintf(node[i].name, sizeof(node[i].name), "%s", n->machine);
		snprintf(node[i].host, sizeof(node[i].host), "%s", n->machine);
		snprintf(node[i].rack, sizeof(node[i].rack), "r");
		snprintf(node[i].addr, sizeof(node[i].addr), "%s:7000", n->machine);
		node[i].ntls = 1;
		node[i].tls[0] = n->tls.pub;
		disk[i] = (struct stele_disk_entry){n->id, 0, 1000, false};
	}
	m.pool = pool;
	m.npools = 4;
	m.node = node;
	m.nnodes = (uint16_t)w->nnodes;
	m.client = client;
	m.nclients = WORLD_CLIENTS;
	m.disk = disk;
	m.ndisks = w->nnodes;
	must(stele_map_compose(&m, NULL, &root, 1, &state, &w->map_json, &w->map_len), "map");
	must(stele_map_parse(w->map_json, w->map_len, NULL, &w->map), "map");
}

/* ---- nodes ---- */

static void log_line(void *ctx, const char *line)
{
	struct world *w = ctx;
	world_say(w, "        %s", line);
}

bool world_up(const struct world *w, uint32_t i)
{
	return w->node[i].node != NULL;
}

uint32_t world_nup(const struct world *w)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < w->nnodes; i++)
		n += world_up(w, i);
	return n;
}

static void paths(const struct world_node *n, char dir[64], char disk[64])
{
	snprintf(dir, 64, "/%s", n->machine);
	snprintf(disk, 64, "/%s/disk0", n->machine);
}

/* What a failed start has begun ends by itself. */
static void env_end(struct world *w, const char *machine, struct stele_env **env)
{
	stele_sim_kill(w->sim, machine);
	world_sleep(w, 1);
	stele_env_destroy(*env);
	*env = NULL;
}

bool world_start_node(struct world *w, uint32_t i)
{
	struct world_node *n = &w->node[i];
	char dir[64], disk[64];
	if (n->node)
		return true;
	paths(n, dir, disk);
	must(stele_sim_env(w->sim, n->machine, &n->env), "env");
	if (stele_file_mkdirs(n->env, disk, 0) != STELE_OK ||
	    stele_file_sync_dir(n->env, "/") != STELE_OK ||
	    stele_file_sync_dir(n->env, dir) != STELE_OK) {
		env_end(w, n->machine, &n->env);
		return false;
	}
	struct stele_node_opts opts = {
	    .env = n->env,
	    .kv = &stele_kv_memory,
	    .kv_world = w->kv,
	    .transport = n->transport,
	    .id = n->id,
	    .dir = dir,
	    .map_json = w->map_json,
	    .map_len = w->map_len,
	    .disk = {disk},
	    .ndisks = 1,
	    .extent_len = EXTENT_LEN,
	    .capacity = 64 * EXTENT_LEN,
	    .bufs = 64,
	    .heal_ns = 5 * SECOND,
	    .log = log_line,
	    .log_ctx = w,
	};
	if (stele_node_create(&opts, &n->node) != STELE_OK) {
		char detail[STELE_DETAIL_MAX];
		stele_detail_copy(detail);
		world_say(w, "%s does not start: %s", n->machine, detail);
		n->node = NULL;
		env_end(w, n->machine, &n->env);
		stele_fail(STELE_ERR_UNAVAILABLE, "%s", detail);
		return false;
	}
	world_say(w, "%s starts", n->machine);
	return true;
}

static void node_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static bool flag(void *ctx)
{
	return *(bool *)ctx;
}

void world_stop_node(struct world *w, uint32_t i, bool power_loss)
{
	struct world_node *n = &w->node[i];
	char dir[64], disk[64];
	if (!n->node)
		return;
	world_say(w, "%s %s", n->machine, power_loss ? "loses power" : "is killed");
	paths(n, dir, disk);
	if (power_loss)
		stele_sim_crash(w->sim, n->machine);
	else
		stele_sim_kill(w->sim, n->machine);
	n->closed = false;
	stele_node_close(n->node, node_closed, &n->closed);
	if (!world_run(w, flag, &n->closed, 600)) {
		fprintf(stderr, "simulation: %s does not close\n", n->machine);
		abort();
	}
	stele_node_destroy(n->node);
	stele_env_destroy(n->env);
	n->node = NULL;
	n->env = NULL;
	/* What was not flushed of the index may be gone, or more of it may have survived. */
	if (power_loss)
		stele_kv_world_crash(w->kv, disk, stele_prng_u64(&w->rng), 8);
}

void world_wipe(struct world *w, uint32_t i, bool whole)
{
	char dir[64], disk[64], index[80];
	paths(&w->node[i], dir, disk);
	world_say(w, "%s: its disk is emptied%s", w->node[i].machine,
	          whole ? ", and it knows nothing of it" : "");
	stele_sim_wipe(w->sim, w->node[i].machine, whole ? dir : disk);
	snprintf(index, sizeof(index), "%s/index", disk);
	must(stele_kv_destroy_dir(&stele_kv_memory, w->kv, index), "kv");
}

bool world_flip(struct world *w, uint32_t i)
{
	struct world_node *n = &w->node[i];
	char dir[64], disk[64], path[400];
	struct stele_list list = {0};
	bool done = false;
	paths(n, dir, disk);
	if (!n->env || stele_file_list(n->env, disk, &list) != STELE_OK)
		return false;
	for (size_t k = 0; k < list.n && !done; k++) {
		struct stele_stat st;
		snprintf(path, sizeof(path), "%s/%s", disk, list.name[k]);
		if (stele_file_stat(n->env, path, &st) != STELE_OK || st.is_dir || st.size < 65536)
			continue;
		uint64_t off = 4096 + stele_prng_below(&w->rng, st.size / 8);
		done = stele_sim_flip(w->sim, n->machine, path, off,
		                      (uint32_t)stele_prng_below(&w->rng, 8));
		if (done)
			world_say(w, "%s: a bit rots at %" PRIu64 " of %s", n->machine, off, path);
	}
	stele_list_finish(&list);
	return done;
}

/* ---- the client ---- */

void world_start_client(struct world *w, uint32_t i)
{
	struct world_client *c = &w->client[i];
	must(stele_sim_env(w->sim, c->machine, &c->env), "client env");
	struct stele_session_opts opts = {
	    .env = c->env, .transport = c->transport, .map = w->map, .sign = &c->sign};
	must(stele_session_create(&opts, &c->session), "session");
	w->session = w->client[0].session;
}

void world_stop_client(struct world *w, uint32_t i)
{
	struct world_client *c = &w->client[i];
	c->closed = false;
	stele_session_close(c->session, node_closed, &c->closed);
	if (!world_run(w, flag, &c->closed, 600)) {
		fprintf(stderr, "simulation: the session does not close\n");
		abort();
	}
	stele_session_destroy(c->session);
	stele_env_destroy(c->env);
	c->session = NULL;
	w->session = w->client[0].session;
}

/* ---- all of it ---- */

void world_create(struct world *w, uint64_t seed, uint32_t nodes, const char *code,
                  uint64_t collect_age_s, bool verbose)
{
	memset(w, 0, sizeof(*w));
	w->nnodes = nodes;
	w->verbose = verbose;
	stele_prng_init(&w->rng, seed ^ 0x9e3779b97f4a7c15ull);
	must(stele_sim_create(seed, &w->sim), "sim");
	must(stele_kv_world_create(&w->kv), "kv");
	make_map(w, code, collect_age_s);
	for (uint32_t i = 0; i < nodes; i++) {
		must(stele_plain_factory_create(&w->node[i].tls.pub, &w->node[i].transport),
		     "transport");
		if (!world_start_node(w, i))
			must(STELE_ERR_UNAVAILABLE, "a node does not start");
	}
	for (uint32_t i = 0; i < WORLD_CLIENTS; i++) {
		struct world_client *c = &w->client[i];
		must(stele_plain_factory_create(&c->tls.pub, &c->transport), "transport");
		world_start_client(w, i);
	}
}

void world_destroy(struct world *w)
{
	for (uint32_t i = 0; i < WORLD_CLIENTS; i++) {
		if (w->client[i].session)
			world_stop_client(w, i);
		stele_transport_factory_destroy(w->client[i].transport);
	}
	for (uint32_t i = 0; i < w->nnodes; i++) {
		world_stop_node(w, i, false);
		stele_transport_factory_destroy(w->node[i].transport);
	}
	stele_map_unref(w->map);
	free(w->map_json);
	stele_kv_world_destroy(w->kv);
	stele_sim_destroy(w->sim);
}

static bool repair_idle(void *ctx)
{
	struct world *w = ctx;
	for (uint32_t i = 0; i < w->nnodes; i++) {
		struct stele_repair_status st;
		if (!world_up(w, i))
			continue;
		stele_repair_status(stele_node_repair(w->node[i].node), &st);
		if (st.running)
			return false;
	}
	return true;
}

bool world_repair(struct world *w, uint64_t limit_s)
{
	for (uint32_t i = 0; i < w->nnodes; i++)
		if (world_up(w, i))
			stele_repair_now(stele_node_repair(w->node[i].node));
	bool ok = world_run(w, repair_idle, w, limit_s);
	world_say(w, "repair %s", ok ? "ended" : "did not end");
	return ok;
}
