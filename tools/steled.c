/*
 * The storage daemon: reads its configuration, runs one node (net/node.h) until SIGTERM or SIGINT, and
 * logs to stderr. Beside its configuration it writes `ready` ("pid address") once it serves, and
 * removes it at a clean end. Everything else is the node's.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "net/cluster/keys.h"
#include "net/node.h"
#include "storage/kv/kv.h"
#include "tools/config.h"
#include "tools/tty.h"

#define PORT_NAPS 20

struct daemon {
	const char *config_file;
	struct stele_config config;
	char ready[STELE_PATH_MAX];
	struct stele_env *env;
	struct stele_keys keys;
	struct stele_transport_factory *tls;
	struct stele_node *node;
	bool closed;
};

/* Set before signals are let in; stopping a loop is all that a handler does. */
static struct stele_env *signalled_env;
static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	if (signals++) /* the second one does not wait */
		_exit(1);
	stele_env_stop(signalled_env);
}

static void say(void *ctx, const char *line)
{
	char now[32];
	struct tm tm;
	time_t t = time(NULL);
	(void)ctx;
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	fprintf(stderr, "%s %s\n", now, line);
}

static void catch_signals(struct stele_env *env)
{
	struct sigaction stop = {.sa_handler = on_signal};
	signalled_env = env;
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
}

/* As many files as the system lets us have: sockets, extents, LevelDB's tables. */
static void raise_file_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* The file `ready` beside the configuration. */
static void name_ready(struct daemon *d, const char *config)
{
	const char *slash = strrchr(config, '/');
	snprintf(d->ready, sizeof(d->ready), "%.*sready", slash ? (int)(slash - config) + 1 : 0,
	         config);
}

static void write_ready(struct daemon *d)
{
	char text[128];
	int len =
	    snprintf(text, sizeof(text), "%ld %s\n", (long)getpid(), stele_node_addr(d->node));
	if (stele_file_save(d->env, d->ready, text, (size_t)len, 0644) != STELE_OK)
		say(NULL, stele_detail()); /* it serves all the same */
}

/* The kernel may hold the port of a daemon that was killed until its ring is taken down. A port that stays taken is for
 * the node to complain of. */
static void await_port(struct daemon *d)
{
	struct timespec nap = {.tv_nsec = 100 * 1000 * 1000};
	for (int i = 0; d->config.listen[0] && i < PORT_NAPS; i++) {
		struct stele_op op = {.kind = STELE_OP_LISTEN, .path = d->config.listen};
		int64_t fd = stele_env_call(d->env, &op);
		if (fd >= 0) {
			op = (struct stele_op){.kind = STELE_OP_CLOSE, .fd = (int)fd};
			(void)stele_env_call(d->env, &op);
		}
		if (fd != -EADDRINUSE)
			return;
		nanosleep(&nap, NULL);
	}
}

/* Where the configuration says, by now, that a slot's disk lies. */
static enum stele_err find_disk(void *ctx, uint32_t slot, char dir[STELE_PATH_MAX])
{
	const struct daemon *d = ctx;
	struct stele_config *c = calloc(1, sizeof(*c));
	if (!c)
		return stele_fail(STELE_ERR_NOMEM, "configuration: out of memory");
	enum stele_err err = stele_config_load(d->config_file, c);
	if (err == STELE_OK)
		snprintf(dir, STELE_PATH_MAX, "%s", c->disk_set[slot] ? c->disk[slot] : "");
	free(c);
	return err;
}

static enum stele_err create_node(struct daemon *d)
{
	const struct stele_config *c = &d->config;
	struct stele_node_opts opts = {
	    .env = d->env,
	    .own_loops = true,
	    .workers = c->workers,
	    .kv = &stele_kv_leveldb,
	    .transport = d->tls,
	    .id = c->id,
	    .dir = c->dir,
	    .listen = c->listen[0] ? c->listen : NULL,
	    .ndisks = c->ndisks,
	    .extent_len = c->extent_len,
	    .capacity = c->capacity,
	    .bufs = c->bufs,
	    .heal_ns = c->heal_ns,
	    .scrub_bytes_per_s = c->scrub_bytes_per_s,
	    .find_disk = find_disk,
	    .find_ctx = d,
	    .log = say,
	};
	for (uint32_t i = 0; i < c->ndisks; i++)
		opts.disk[i] = c->disk_set[i] ? c->disk[i] : NULL;
	char *map;
	enum stele_err err =
	    stele_file_load(d->env, c->cluster, STELE_MAP_MAX, &map, &opts.map_len);
	if (err != STELE_OK && err != STELE_ERR_NOMEM && err != STELE_ERR_TOO_LARGE)
		return stele_wrap(STELE_ERR_USAGE, "[node] cluster");
	STELE_TRY(err);
	opts.map_json = map;
	err = stele_node_create(&opts, &d->node);
	free(map);
	return err;
}

static enum stele_err start(struct daemon *d, const char *config)
{
	d->config_file = config;
	STELE_TRY(stele_config_load(config, &d->config));
	name_ready(d, config);
	struct stele_env_opts env = {.workers = d->config.workers};
	STELE_TRY(stele_env_create(&env, &d->env));
	enum stele_err err = stele_keys_load(d->env, d->config.key, &d->keys);
	if (err == STELE_ERR_NOT_FOUND)
		return stele_wrap(STELE_ERR_USAGE, "[node] key");
	STELE_TRY(err);
	if (!d->keys.has_tls)
		return stele_fail(STELE_ERR_USAGE, "%.400s: has no tls key", d->config.key);
	STELE_TRY(stele_tls_factory_create(&d->keys.tls, &d->tls));
	await_port(d);
	return create_node(d);
}

static void on_closed(void *ctx)
{
	struct daemon *d = ctx;
	d->closed = true;
	stele_env_stop(d->env);
}

static void serve(struct daemon *d)
{
	char line[160 + STELE_ENV_TEXT], text[STELE_ENV_TEXT];
	stele_env_describe(d->env, text);
	snprintf(line, sizeof(line), "node %u serves on %s (%s)", d->config.id,
	         stele_node_addr(d->node), text);
	catch_signals(d->env);
	say(NULL, line);
	write_ready(d);
	stele_env_run(d->env);
	say(NULL, "stopping");
	unlink(d->ready);
	stele_node_close(d->node, on_closed, d);
	while (!d->closed)
		stele_env_run(d->env);
	say(NULL, "stopped");
}

static int run(const char *config)
{
	struct daemon *d = calloc(1, sizeof(*d));
	if (!d) {
		fprintf(stderr, "steled: out of memory\n");
		return 1;
	}
	enum stele_err err = start(d, config);
	if (err)
		fprintf(stderr, "steled: %s\n", stele_detail());
	else
		serve(d);
	stele_node_destroy(d->node);
	stele_transport_factory_destroy(d->tls);
	stele_keys_wipe(&d->keys);
	stele_env_destroy(d->env);
	free(d);
	return stele_err_exit_code(err);
}

int main(int argc, char **argv)
{
	stele_tty_begin();
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		printf("steled --config FILE\n\nServes one node of a Stele cluster until SIGTERM; "
		       "logs "
		       "to stderr.\nconfig/steled.ini.example explains FILE.\n\nExample:\n"
		       "  steled --config /etc/stele/steled.ini\n");
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("steled %s\n", STELE_VERSION);
		return 0;
	}
	if (argc != 3 || strcmp(argv[1], "--config") != 0) {
		fprintf(stderr, "steled: needs --config FILE; see steled --help\n");
		return stele_err_exit_code(STELE_ERR_USAGE);
	}
	raise_file_limit();
	return run(argv[2]);
}
