/*
 * The commands of a local cluster. What is laid out is dev_make.c's, processes are daemon.c's; here
 * is what they add up to: up and down may be repeated, and say what they found.
 */
#include "tools/cmd_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "net/cluster/map.h"
#include "tools/config.h"
#include "tools/daemon.h"
#include "tools/dev_make.h"
#include "tools/json_out.h"

#define NODES_DEFAULT 8u
#define READY_NS      (60ull * 1000000000)
#define STOP_NS       (30ull * 1000000000)
#define KILL_NS       (10ull * 1000000000)

/* A directory under a lock, and its daemons. Too large for the stack. */
struct dev {
	struct stele_cli *cli;
	struct stele_env *env;
	char dir[STELE_PATH_MAX]; /* absolute, without links */
	int lock;
	struct stele_daemon daemon[STELE_DEV_NODES_MAX];
	uint32_t n;
};

/* ---- opening ---- */

/* The lock is on the directory itself: nothing is left behind, and the daemons do not inherit it. */
static enum stele_err take_lock(struct dev *dev)
{
	dev->lock = open(dev->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dev->lock < 0)
		return stele_fail_errno(errno, "%s", dev->dir);
	if (flock(dev->lock, LOCK_EX | LOCK_NB) != 0)
		return stele_fail(
		    STELE_ERR_UNAVAILABLE,
		    "%s: another stele dev is at work there: try again when it is done", dev->dir);
	return STELE_OK;
}

/* What is wrong with a directory's name is wrong use. */
static enum stele_err made(enum stele_err err)
{
	bool name =
	    err == STELE_ERR_NOT_FOUND || err == STELE_ERR_DENIED || err == STELE_ERR_EXISTS;
	return name ? stele_wrap(STELE_ERR_USAGE, "--dir") : err;
}

static enum stele_err open_dir(struct dev *dev, bool create)
{
	const char *dir = stele_cli_text(dev->cli, "dir");
	if (!dir || !*dir)
		return stele_cli_usage(dev->cli, "needs --dir DIR");
	if (create)
		STELE_TRY(made(stele_file_mkdirs(dev->env, dir, 0755)));
	char *real = realpath(dir, NULL);
	if (!real)
		return stele_fail(STELE_ERR_USAGE, "--dir %s: %s", dir, strerror(errno));
	/* room for the longest name below it */
	int n = snprintf(dev->dir, sizeof(dev->dir) - 64, "%s", real);
	free(real);
	if (n < 0 || n >= (int)sizeof(dev->dir) - 64)
		return stele_fail(STELE_ERR_USAGE, "--dir: the path is too long");
	return take_lock(dev);
}

static enum stele_err find_daemons(struct dev *dev)
{
	uint32_t node[STELE_DEV_NODES_MAX];
	STELE_TRY(stele_dev_nodes(dev->dir, node, &dev->n));
	for (uint32_t i = 0; i < dev->n; i++) {
		struct stele_daemon *d = &dev->daemon[i];
		d->node = node[i];
		int n = snprintf(d->dir, sizeof(d->dir), "%s/node%u", dev->dir, node[i]);
		if (n < 0 || n >= (int)sizeof(d->dir))
			return stele_fail(STELE_ERR_USAGE, "--dir: the path is too long");
		stele_daemon_look(d);
	}
	return STELE_OK;
}

static void dev_close(struct dev *dev)
{
	if (!dev)
		return;
	if (dev->lock >= 0)
		close(dev->lock);
	stele_env_destroy(dev->env);
	free(dev);
}

/* On failure *out is what must be closed all the same, or NULL. */
static enum stele_err dev_open(struct stele_cli *cli, bool create, struct dev **out)
{
	struct stele_env_opts opts = {.workers = 1, .depth = 8};
	struct dev *dev = calloc(1, sizeof(*dev));
	*out = dev;
	if (!dev)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	dev->cli = cli;
	dev->lock = -1;
	STELE_TRY(stele_env_threads_create(&opts, &dev->env));
	STELE_TRY(open_dir(dev, create));
	return find_daemons(dev);
}

/* ---- starting and stopping ---- */

/* All at once, then waits for each. */
static enum stele_err start_all(struct dev *dev, struct stele_daemon *const *d, uint32_t n)
{
	char program[STELE_PATH_MAX];
	STELE_TRY(stele_daemon_program(program));
	for (uint32_t i = 0; i < n; i++)
		STELE_TRY(stele_daemon_start(d[i], program));
	uint64_t deadline = stele_daemon_now() + READY_NS;
	enum stele_err err = STELE_OK;
	char detail[STELE_DETAIL_MAX];
	uint32_t bad = 0;
	for (uint32_t i = 0; i < n; i++) {
		enum stele_err one = stele_daemon_wait_ready(d[i], deadline);
		if (one && !bad++) {
			err = one;
			stele_detail_copy(detail);
		}
	}
	if (bad == 1)
		return stele_fail(err, "%s", detail);
	if (bad)
		return stele_fail(err, "%s; nor do %u others serve", detail, bad - 1);
	(void)dev;
	return STELE_OK;
}

/* The daemons that the arguments name; all of them when there are none. */
static enum stele_err chosen(struct dev *dev, struct stele_daemon *out[STELE_DEV_NODES_MAX],
                             uint32_t *n)
{
	struct stele_cli *cli = dev->cli;
	*n = 0;
	if (dev->n == 0)
		return stele_fail(STELE_ERR_USAGE,
		                  "%s has no cluster: stele dev up --dir %s makes one", dev->dir,
		                  dev->dir);
	for (uint32_t i = 0; i < dev->n; i++) {
		bool want = cli->nargs == 0;
		for (uint32_t k = 0; k < cli->nargs; k++) {
			uint64_t v;
			want |= stele_parse_number(cli->arg[k], &v) && v == dev->daemon[i].node;
		}
		if (want)
			out[(*n)++] = &dev->daemon[i];
	}
	for (uint32_t k = 0; k < cli->nargs; k++) {
		uint64_t v;
		bool there = false;
		for (uint32_t i = 0; i < *n && stele_parse_number(cli->arg[k], &v); i++)
			there |= v == out[i]->node;
		if (!there)
			return stele_fail(STELE_ERR_USAGE,
			                  "\"%.20s\" is none of the nodes of %s: %u to %u",
			                  cli->arg[k], dev->dir, dev->daemon[0].node,
			                  dev->daemon[dev->n - 1].node);
	}
	return STELE_OK;
}

/* ---- results ---- */

static json_t *daemons_json(struct stele_daemon *const *d, uint32_t n)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:i,s:i,s:s}", "node", (int)d[i]->node,
		                                      "pid", (int)d[i]->pid, "addr", d[i]->addr));
	return list;
}

static enum stele_err print_up(struct dev *dev, struct stele_daemon *const *d)
{
	struct stele_cli *cli = dev->cli;
	char cluster[STELE_PATH_MAX];
	snprintf(cluster, sizeof(cluster), "%.4000s/cluster.json", dev->dir);
	if (cli->json)
		return stele_json_result(cli, json_pack("{s:s,s:s,s:o}", "dir", dev->dir, "cluster",
		                                        cluster, "nodes", daemons_json(d, dev->n)));
	fprintf(cli->out, "%u nodes serve. To speak to them:\n  export STELE_CLUSTER=%s\n", dev->n,
	        cluster);
	return STELE_OK;
}

static void print_nodes(struct stele_cli *cli, struct stele_daemon *const *d, uint32_t n,
                        const char *what)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(cli->out, "%s%u", i ? " " : n > 1 ? "nodes " : "node ", d[i]->node);
	fprintf(cli->out, " %s\n", what);
}

/* ---- up ---- */

/* A cluster that is there already must be the one that is asked for. have: what it was made with, 0: without the option. */
static enum stele_err same(struct dev *dev, const char *option, uint64_t have)
{
	char with[24] = "";
	if (stele_cli_number(dev->cli, option, have) == have)
		return STELE_OK;
	if (have)
		snprintf(with, sizeof(with), " %" PRIu64, have);
	return stele_fail(STELE_ERR_USAGE,
	                  "%s has a cluster made with%s --%s%s already: leave --%s away, or stele dev "
	                  "down --delete",
	                  dev->dir, have ? "" : "out", option, with, option);
}

/* What only the nodes' own files say. */
static enum stele_err check_nodes(struct dev *dev)
{
	enum stele_err err = STELE_OK;
	struct stele_config *config = malloc(sizeof(*config));
	if (!config)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	for (uint32_t i = 0; i < dev->n && err == STELE_OK; i++) {
		char ini[STELE_PATH_MAX];
		snprintf(ini, sizeof(ini), "%.4000s/steled.ini", dev->daemon[i].dir);
		err = stele_config_load(ini, config);
		if (err == STELE_OK)
			err = same(dev, "capacity", config->capacity);
		if (err == STELE_OK)
			err = same(dev, "heal", config->heal_ns / 1000000000);
	}
	free(config);
	return err;
}

static enum stele_err check_same(struct dev *dev, const struct stele_map *map)
{
	const char *code = stele_cli_text(dev->cli, "code");
	const struct stele_pool *pool = stele_map_pool_named(map, "evidence");
	char name[STELE_NAME_MAX] = "";
	if (pool)
		stele_code_id_name(&pool->code, name);
	STELE_TRY(same(dev, "nodes", map->nnodes));
	STELE_TRY(same(dev, "disks", map->nnodes ? map->ndisks / map->nnodes : 0));
	if (pool)
		STELE_TRY(same(dev, "collect-age", pool->collect_age_s));
	if (code && strcmp(code, name) != 0)
		return stele_fail(STELE_ERR_USAGE,
		                  "%s has a cluster made with --code %s already: leave --code away, "
		                  "or stele dev down --delete",
		                  dev->dir, name);
	return check_nodes(dev);
}

static enum stele_err check_existing(struct dev *dev, const char *file)
{
	struct stele_map *map;
	char *json;
	size_t len;
	STELE_TRY(stele_file_load(dev->env, file, STELE_MAP_MAX, &json, &len));
	enum stele_err err = stele_map_parse(json, len, NULL, &map);
	free(json);
	if (err)
		return stele_wrap(err, "%s", file);
	err = check_same(dev, map);
	stele_map_unref(map);
	return err;
}

static enum stele_err make(struct dev *dev)
{
	const char *code = stele_cli_text(dev->cli, "code");
	uint64_t nodes = stele_cli_number(dev->cli, "nodes", NODES_DEFAULT);
	uint64_t disks = stele_cli_number(dev->cli, "disks", 1);
	struct stele_dev_plan plan = {
	    .dir = dev->dir, .nodes = (uint32_t)nodes, .disks = (uint32_t)disks};
	if (nodes < 1 || nodes > STELE_DEV_NODES_MAX)
		return stele_cli_usage(dev->cli, "--nodes %" PRIu64 ": 1 to %u", nodes,
		                       STELE_DEV_NODES_MAX);
	if (disks < 1 || disks > STELE_SLOTS_MAX)
		return stele_cli_usage(dev->cli, "--disks %" PRIu64 ": 1 to %u", disks,
		                       STELE_SLOTS_MAX);
	plan.collect_age_s = stele_cli_number(dev->cli, "collect-age", 0);
	plan.heal_s = stele_cli_number(dev->cli, "heal", 0);
	plan.capacity = stele_cli_number(dev->cli, "capacity", 0);
	if (stele_cli_given(dev->cli, "capacity") && plan.capacity < STELE_DEV_CAPACITY_MIN)
		return stele_cli_usage(dev->cli, "--capacity: at least 128MiB");
	if (stele_code_id_parse(code ? code : "rs-4-2", &plan.code) != STELE_OK)
		return stele_wrap(STELE_ERR_USAGE, "--code");
	STELE_TRY(stele_dev_make(dev->env, &plan));
	return find_daemons(dev);
}

static enum stele_err up(struct dev *dev)
{
	char file[STELE_PATH_MAX];
	struct stele_daemon *all[STELE_DEV_NODES_MAX];
	snprintf(file, sizeof(file), "%.4000s/cluster.json", dev->dir);
	if (access(file, F_OK) == 0 && !stele_dev_unfinished(dev->dir))
		STELE_TRY(check_existing(dev, file));
	else
		STELE_TRY(make(dev));
	for (uint32_t i = 0; i < dev->n; i++)
		all[i] = &dev->daemon[i];
	STELE_TRY(start_all(dev, all, dev->n));
	return print_up(dev, all);
}

static enum stele_err run_up(struct stele_cli *cli)
{
	struct dev *dev;
	enum stele_err err = dev_open(cli, true, &dev);
	if (!err)
		err = up(dev);
	dev_close(dev);
	return err;
}

/* ---- kill ---- */

static enum stele_err kill_chosen(struct dev *dev)
{
	struct stele_daemon *d[STELE_DEV_NODES_MAX];
	struct stele_cli *cli = dev->cli;
	uint32_t n, killed = 0;
	STELE_TRY(chosen(dev, d, &n));
	for (uint32_t i = 0; i < n; i++) {
		if (stele_daemon_signal(d[i], SIGKILL))
			d[killed++] = d[i];
		else if (d[i]->pid)
			return stele_fail_errno(errno, "node %u (pid %ld): kill", d[i]->node,
			                        (long)d[i]->pid);
		else
			stele_cli_note(cli, "node %u was not running", d[i]->node);
	}
	uint64_t deadline = stele_daemon_now() + KILL_NS;
	for (uint32_t i = 0; i < killed; i++)
		if (!stele_daemon_wait_gone(d[i], deadline))
			return stele_fail(STELE_ERR_TIMEOUT,
			                  "node %u (pid %ld) was killed and is not gone",
			                  d[i]->node, (long)d[i]->pid);
	if (cli->json)
		return stele_json_result(cli, json_pack("{s:i,s:o}", "killed", (int)killed, "nodes",
		                                        daemons_json(d, killed)));
	if (killed)
		print_nodes(cli, d, killed, "killed");
	return STELE_OK;
}

static enum stele_err run_kill(struct stele_cli *cli)
{
	struct dev *dev;
	enum stele_err err = dev_open(cli, false, &dev);
	if (!err)
		err = kill_chosen(dev);
	dev_close(dev);
	return err;
}

/* ---- start ---- */

static enum stele_err start_chosen(struct dev *dev)
{
	struct stele_daemon *d[STELE_DEV_NODES_MAX];
	uint32_t n;
	STELE_TRY(chosen(dev, d, &n));
	if (stele_dev_unfinished(dev->dir))
		return stele_fail(STELE_ERR_USAGE, "%s: dev up was interrupted: run it again",
		                  dev->dir);
	STELE_TRY(start_all(dev, d, n));
	if (dev->cli->json)
		return stele_json_result(dev->cli, json_pack("{s:o}", "nodes", daemons_json(d, n)));
	print_nodes(dev->cli, d, n, "serving");
	return STELE_OK;
}

static enum stele_err run_start(struct stele_cli *cli)
{
	struct dev *dev;
	enum stele_err err = dev_open(cli, false, &dev);
	if (!err)
		err = start_chosen(dev);
	dev_close(dev);
	return err;
}

/* ---- down ---- */

static enum stele_err stop_all(struct dev *dev, uint32_t *stopped)
{
	*stopped = 0;
	for (uint32_t i = 0; i < dev->n; i++)
		*stopped += stele_daemon_signal(&dev->daemon[i], SIGTERM);
	uint64_t deadline = stele_daemon_now() + STOP_NS;
	for (uint32_t i = 0; i < dev->n; i++) {
		struct stele_daemon *d = &dev->daemon[i];
		if (stele_daemon_wait_gone(d, deadline))
			continue;
		stele_cli_note(dev->cli, "node %u did not stop in 30 s: it is killed", d->node);
		stele_daemon_signal(d, SIGKILL);
		if (!stele_daemon_wait_gone(d, stele_daemon_now() + KILL_NS))
			return stele_fail(STELE_ERR_TIMEOUT,
			                  "node %u (pid %ld) was killed and is not gone", d->node,
			                  (long)d->pid);
	}
	return STELE_OK;
}

static enum stele_err down(struct dev *dev)
{
	struct stele_cli *cli = dev->cli;
	bool remove = stele_cli_given(cli, "delete");
	uint32_t stopped;
	STELE_TRY(stop_all(dev, &stopped));
	if (remove)
		STELE_TRY(stele_dev_remove(dev->dir));
	if (cli->json)
		return stele_json_result(
		    cli, json_pack("{s:i,s:b}", "stopped", (int)stopped, "deleted", (int)remove));
	fprintf(cli->out, "%u nodes stopped%s\n", stopped, remove ? ", their data deleted" : "");
	return STELE_OK;
}

static enum stele_err run_down(struct stele_cli *cli)
{
	struct dev *dev;
	enum stele_err err = dev_open(cli, false, &dev);
	if (!err)
		err = down(dev);
	dev_close(dev);
	return err;
}

/* ---- the table ---- */

static const struct stele_opt up_opts[] = {
    {"dir", 0, STELE_OPT_TEXT, "DIR", "where everything lies; made if missing"},
    {"nodes", 0, STELE_OPT_NUMBER, "N", "how many nodes (8)"},
    {"disks", 0, STELE_OPT_NUMBER, "N", "how many disks each node has (1)"},
    {"code", 0, STELE_OPT_TEXT, "CODE", "how blocks are coded: rs-K-M, lrc-K-L-G, rep-N (rs-4-2)"},
    {"collect-age", 0, STELE_OPT_NUMBER, "SECONDS",
     "how old leftovers of dead puts must be to be removed (86400)"},
    {"heal", 0, STELE_OPT_NUMBER, "SECONDS", "between rounds of self-healing (30)"},
    {"capacity", 0, STELE_OPT_SIZE, "SIZE", "how much of each disk may be used (all)"},
    {0}};
static const struct stele_opt dir_opts[] = {
    {"dir", 0, STELE_OPT_TEXT, "DIR", "what dev up was given"}, {0}};
static const struct stele_opt down_opts[] = {
    {"dir", 0, STELE_OPT_TEXT, "DIR", "what dev up was given"},
    {"delete", 0, STELE_OPT_FLAG, NULL, "delete keys and data too; other files in DIR stay"},
    {0}};

const struct stele_command stele_cmd_dev[] = {
    {.name = "dev up",
     .args = "",
     .summary = "start a local cluster of real daemons on loopback; returns when it serves",
     .details =
         "Makes keys, map and nodes 1...N in DIR the first time; later it starts those that do "
         "not run,\nand refuses options that say otherwise. Every node counts as a host of its own. Files of others in DIR are left "
         "alone.",
     .example = "stele dev up --dir /tmp/dev --nodes 8 --code rs-4-2",
     .opt = up_opts,
     .run = run_up},
    {.name = "dev kill",
     .args = "NODE...",
     .summary = "kill nodes at once (SIGKILL), as a crash would",
     .example = "stele dev kill --dir /tmp/dev 3 5",
     .args_min = 1,
     .args_max = STELE_DEV_NODES_MAX,
     .opt = dir_opts,
     .run = run_kill},
    {.name = "dev start",
     .args = "[NODE...]",
     .summary = "start nodes again, all that are down if none is named",
     .example = "stele dev start --dir /tmp/dev 3 5",
     .args_max = STELE_DEV_NODES_MAX,
     .opt = dir_opts,
     .run = run_start},
    {.name = "dev down",
     .args = "",
     .summary = "stop the cluster; keeps the data unless --delete",
     .example = "stele dev down --dir /tmp/dev --delete",
     .opt = down_opts,
     .run = run_down},
    {0}};
