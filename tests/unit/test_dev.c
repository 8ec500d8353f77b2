/*
 * Goal: `stele dev` makes, starts, kills, stops and deletes a local cluster, may be repeated at every
 * point, touches nothing that is not its own, and says what is wrong. The daemon is a stand-in script
 * here: what steled itself does is tested end to end.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/cluster/keys.h"
#include "net/cluster/map.h"
#include "tools/cmd_dev.h"
#include "tools/config.h"
#include "tools/daemon.h"
#include "tools/dev_make.h"

static const char script[] =
    "#!/bin/sh\n"
    "dir=$(dirname \"$2\")\n"
    "if [ -e \"$dir/fail\" ]; then echo first >&2; echo 'port in use: 127.0.0.1:1' >&2; exit 1; "
    "fi\n"
    "trap '' HUP\n"
    "trap 'rm -f \"$dir/ready\"; exit 0' TERM\n"
    "echo \"$$ $(sed -n 's/^listen = //p' \"$2\")\" > \"$dir/ready.new\"\n"
    "mv \"$dir/ready.new\" \"$dir/ready\"\n"
    "while [ -d \"$dir\" ]; do sleep 1 & wait $!; done\n";

static char top[64], dir[80], steled[80];
static char *out_text, *err_text;

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f, "%s", path);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static const char *in_dir(const char *name)
{
	static char path[4][160];
	static int at;
	at = (at + 1) % 4;
	snprintf(path[at], sizeof(path[0]), "%s/%s", dir, name);
	return path[at];
}

static bool exists(const char *name)
{
	return access(in_dir(name), F_OK) == 0;
}

/* Runs "stele <line>" with --dir. */
static int stele_in(const char *where, const char *line)
{
	static const struct stele_command *const tables[] = {stele_cmd_dev, NULL};
	char copy[256], *argv[32] = {"stele"}, *save = NULL;
	int argc = 1;
	size_t n;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc++] = "--dir";
	argv[argc++] = (char *)where;
	free(out_text);
	free(err_text);
	FILE *out = open_memstream(&out_text, &n), *err = open_memstream(&err_text, &n);
	int code = stele_cli_main("stele", "", tables, argc, argv, out, err);
	fclose(out);
	fclose(err);
	return code;
}

static int stele(const char *line)
{
	return stele_in(dir, line);
}

static void assert_err(const char *want)
{
	cr_assert_not_null(strstr(err_text, want), "\"%s\" lacks \"%s\"", err_text, want);
}

static struct stele_daemon look(uint32_t node)
{
	struct stele_daemon d = {.node = node};
	snprintf(d.dir, sizeof(d.dir), "%s/node%u", dir, node);
	stele_daemon_look(&d);
	return d;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static void setup(void)
{
	strcpy(top, "/tmp/stele-dev-XXXXXX");
	cr_assert_not_null(mkdtemp(top));
	snprintf(dir, sizeof(dir), "%s/d", top);
	snprintf(steled, sizeof(steled), "%s/steled", top);
	write_file(steled, script, 0755);
	setenv("STELE_STELED", steled, 1);
	cr_assert_eq(mkdir(dir, 0755), 0);
}

static void teardown(void)
{
	for (uint32_t i = 1; i <= 9; i++) {
		struct stele_daemon d = look(i);
		if (stele_daemon_signal(&d, SIGKILL))
			stele_daemon_wait_gone(&d, stele_daemon_now() + 5000000000ull);
	}
	nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define DEV(name) Test(dev, name, .init = setup, .fini = teardown)

DEV(up_makes_what_a_node_needs)
{
	struct stele_env *env;
	struct stele_map *map;
	struct stele_keys keys;
	struct stele_config *config = malloc(sizeof(*config));
	char *json;
	size_t len;
	cr_assert_eq(stele("dev up --nodes 7 --code rs-4-2 --capacity 192MiB"), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, "7 nodes serve"));
	cr_assert_not_null(strstr(out_text, "/d/cluster.json"));
	cr_assert_eq(stele_env_threads_create(&(struct stele_env_opts){0}, &env), STELE_OK);
	cr_assert_eq(stele_file_load(env, in_dir("cluster.json"), STELE_MAP_MAX, &json, &len),
	             STELE_OK);
	cr_assert_eq(stele_map_parse(json, len, NULL, &map), STELE_OK, "%s", stele_detail());
	cr_assert_eq(map->nnodes, 7);
	cr_assert_eq(map->ndisks, 7u);
	cr_assert_str_eq(stele_map_pool_named(map, "evidence")->name, "evidence");
	/* keys: private, and the ones that the map names */
	static const char *const names[] = {"client.key", "root.key", "state.key", "log.key"};
	const struct stele_public_key *want[] = {&map->client[0].depositor, &map->root_key[0],
	                                         &map->state_key, &map->log_key};
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(stele_keys_load(env, in_dir(names[i]), &keys), STELE_OK, "%s",
		             stele_detail());
		cr_assert(stele_public_key_equal(&keys.sign.pub, want[i]));
		cr_assert_eq(keys.has_tls, i == 0);
	}
	for (uint32_t i = 0; i < 7; i++) {
		char name[64];
		struct stele_daemon d = look(i + 1);
		snprintf(name, sizeof(name), "node%u/steled.ini", i + 1);
		cr_assert_eq(stele_config_load(in_dir(name), config), STELE_OK, "%s",
		             stele_detail());
		cr_assert_eq(config->id, i + 1);
		cr_assert_eq(config->extent_len, STELE_EXTENT_LEN_DEV);
		cr_assert_eq(config->capacity, 192ull << 20);
		cr_assert_str_eq(config->listen, map->node[i].addr);
		cr_assert_str_eq(d.addr, map->node[i].addr);
		for (uint32_t k = 0; k < i; k++)
			cr_assert_str_neq(map->node[k].addr, map->node[i].addr);
		cr_assert_eq(stele_keys_load(env, config->key, &keys), STELE_OK);
		cr_assert(stele_public_key_equal(&keys.tls.pub, &map->node[i].tls[0]));
		snprintf(name, sizeof(name), "node%u/disk0", i + 1);
		cr_assert(exists(name));
		cr_assert_gt(d.pid, 0);
		cr_assert_eq(getsid(d.pid), d.pid); /* detached */
	}
	cr_assert(!exists("dev.unfinished"));
	cr_assert_eq(stele("dev down"), 0);
	stele_map_unref(map);
	stele_env_destroy(env);
	free(json);
	free(config);
}

DEV(everything_may_be_repeated)
{
	cr_assert_eq(stele("dev up --nodes 3 --code rep-3"), 0, "%s", err_text);
	pid_t first = look(1).pid, second = look(2).pid;
	cr_assert_eq(stele("dev up"), 0, "%s", err_text);
	cr_assert_eq(stele("dev up --nodes 3 --code rep-3 --json"), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, "\"node\": 3"));
	cr_assert_eq(look(1).pid, first); /* nobody was started twice */
	cr_assert_eq(stele("dev kill 2 3"), 0, "%s", err_text);
	cr_assert_str_eq(out_text, "nodes 2 3 killed\n");
	cr_assert_eq(look(2).pid, 0);
	cr_assert_eq(look(3).pid, 0);
	cr_assert_eq(look(1).pid, first);
	cr_assert_eq(stele("dev kill 2"), 0);
	assert_err("node 2 was not running");
	cr_assert_eq(stele("dev start 2"), 0, "%s", err_text);
	cr_assert_neq(look(2).pid, second);
	cr_assert_eq(look(3).pid, 0);
	cr_assert_eq(stele("dev start"), 0);
	cr_assert_gt(look(3).pid, 0);
	cr_assert_eq(look(1).pid, first);
	cr_assert_eq(stele("dev down"), 0);
	cr_assert_str_eq(out_text, "3 nodes stopped\n");
	cr_assert(!exists("node1/ready") && !exists("node1/pid"));
	cr_assert_eq(stele("dev down"), 0);
	cr_assert_str_eq(out_text, "0 nodes stopped\n");
	cr_assert_eq(stele("dev up"), 0); /* the same cluster, started again */
	cr_assert_gt(look(3).pid, 0);
	cr_assert_eq(stele("dev down --delete"), 0);
	cr_assert(!exists("cluster.json") && !exists("node1") && !exists("client.key"));
	cr_assert_eq(stele("dev down --delete --json"), 0);
	cr_assert_not_null(strstr(out_text, "\"stopped\": 0"));
	cr_assert_eq(rmdir(dir), 0); /* nothing was left */
	cr_assert_eq(stele("dev up --nodes 3 --code rep-3"), 0, "%s", err_text); /* makes DIR */
	cr_assert_eq(stele("dev down --delete"), 0);
}

/* What it was made with may be said again; anything else is refused, not ignored. */
DEV(a_cluster_keeps_what_it_was_made_with)
{
	static const char made[] = "dev up --nodes 2 --code rep-2 --disks 3 --capacity 192MiB "
	                           "--heal 7 --collect-age 60";
	static const struct {
		const char *line, *message;
	} other[] = {
	    {"dev up --disks 1", "made with --disks 3 already: leave --disks away"},
	    {"dev up --disks 0", "made with --disks 3"},
	    {"dev up --capacity 1GiB", "made with --capacity 201326592"},
	    {"dev up --heal 8", "made with --heal 7"},
	    {"dev up --collect-age 61", "made with --collect-age 60"},
	};
	cr_assert_eq(stele(made), 0, "%s", err_text);
	cr_assert_eq(stele(made), 0, "%s", err_text);
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		cr_assert_eq(stele(other[i].line), 2, "%s", other[i].line);
		assert_err(other[i].message);
	}
	cr_assert_eq(stele("dev down --delete"), 0);
	cr_assert_eq(stele("dev up --nodes 2 --code rep-2"), 0, "%s", err_text);
	cr_assert_eq(stele("dev up --disks 1"), 0, "%s", err_text);
	cr_assert_eq(stele("dev up --capacity 1GiB"), 2);
	assert_err("has a cluster made without --capacity already");
	cr_assert_eq(stele("dev up --heal 8"), 2);
	assert_err("has a cluster made without --heal already");
	cr_assert_eq(stele("dev down"), 0);
}

DEV(files_of_others_are_left_alone)
{
	write_file(in_dir("notes.txt"), "mine", 0644);
	cr_assert_eq(mkdir(in_dir("node99"), 0755), 0);
	cr_assert_eq(stele("dev up --nodes 1 --code rep-1"), 0, "%s", err_text);
	write_file(in_dir("node99/precious"), "mine",
	           0644); /* a link is removed, not what it names */
	cr_assert_eq(symlink(in_dir("node99"), in_dir("node1/link")), 0);
	cr_assert_eq(stele("dev down --delete"), 0, "%s", err_text);
	cr_assert(exists("notes.txt") && exists("node99/precious"));
	cr_assert(!exists("node1"));
	/* what has our names and is not ours */
	static const char *const names[] = {"cluster.json", "client.key", "node2"};
	for (int i = 1; i < 3; i++) {
		write_file(in_dir(names[i]), "mine", 0644);
		cr_assert_eq(stele("dev up --nodes 3 --code rep-3"), 1);
		assert_err("is in the way");
		assert_err(names[i]);
		cr_assert(!exists("node1") && !exists("cluster.json"));
		unlink(in_dir(names[i]));
	}
	write_file(in_dir(names[0]), "mine", 0644);
	cr_assert_eq(stele("dev up"), 5);
	assert_err("cluster.json");
}

DEV(an_interrupted_up_begins_anew)
{
	write_file(in_dir("dev.unfinished"), "nodes 3\n", 0644);
	write_file(in_dir("client.key"), "half", 0644);
	write_file(in_dir("cluster.json"), "half", 0644);
	cr_assert_eq(mkdir(in_dir("node1"), 0755), 0);
	cr_assert_eq(mkdir(in_dir("node3"), 0755), 0);
	cr_assert_eq(stele("dev start"), 2);
	cr_assert_eq(stele("dev up --nodes 2 --code rep-2"), 0, "%s", err_text);
	cr_assert(!exists("node3") && !exists("dev.unfinished"));
	cr_assert_eq(stele("dev down --delete"), 0);
}

DEV(a_daemon_that_ends_is_reported)
{
	cr_assert_eq(stele("dev up --nodes 3 --code rep-3"), 0, "%s", err_text);
	cr_assert_eq(stele("dev kill 2"), 0);
	write_file(in_dir("node2/fail"), "", 0644);
	cr_assert_eq(stele("dev start 2"), 7);
	assert_err("node 2 ended before it served: port in use: 127.0.0.1:1 (");
	assert_err("node2/log)");
	cr_assert_eq(look(2).pid, 0);
	cr_assert_eq(stele("dev kill 1"), 0);
	write_file(in_dir("node1/fail"), "", 0644);
	cr_assert_eq(stele("dev up"), 7);
	assert_err("node 1 ended before it served");
	assert_err("nor do 1 others serve");
	cr_assert_gt(look(3).pid, 0); /* the others serve */
	unlink(in_dir("node1/fail"));
	unlink(in_dir("node2/fail"));
	cr_assert_eq(stele("dev up"), 0, "%s", err_text);
	cr_assert_eq(stele("dev down"), 0);
}

/* A pid file may be older than the process that has its number now. */
DEV(only_steled_is_signalled)
{
	char pid[32];
	cr_assert_eq(stele("dev up --nodes 1 --code rep-1"), 0, "%s", err_text);
	cr_assert_eq(stele("dev kill 1"), 0);
	snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	write_file(in_dir("node1/pid"), pid, 0644);
	write_file(in_dir("node1/ready"), "1 127.0.0.1:1\n", 0644);
	cr_assert_eq(stele("dev kill 1"), 0); /* we are still here */
	assert_err("node 1 was not running");
	static const char *const odd[] = {"", "-1", "0", "x", "99999999999999999999", "4194304"};
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		write_file(in_dir("node1/pid"), odd[i], 0644);
		cr_assert_eq(look(1).pid, 0);
	}
	/* another directory's daemon is not this one's */
	cr_assert_eq(stele("dev start"), 0);
	struct stele_daemon d = look(1), other = {.node = 1};
	cr_assert_gt(d.pid, 0);
	snprintf(other.dir, sizeof(other.dir), "%s/node2", dir);
	cr_assert_eq(mkdir(other.dir, 0755), 0);
	snprintf(pid, sizeof(pid), "%ld\n", (long)d.pid);
	write_file(in_dir("node2/pid"), pid, 0644);
	stele_daemon_look(&other);
	cr_assert_eq(other.pid, 0);
	/* the pid file lost: the daemon's own word is enough */
	unlink(in_dir("node1/pid"));
	cr_assert_eq(look(1).pid, d.pid);
	cr_assert_eq(stele("dev down"), 0);
	cr_assert_str_eq(out_text, "1 nodes stopped\n");
}

DEV(wrong_use)
{
	static const struct {
		const char *line, *message;
		int code;
	} bad[] = {
	    {"dev kill", "needs NODE...", 2},
	    {"dev kill 1", "has no cluster", 2},
	    {"dev start", "has no cluster", 2},
	    {"dev up --nodes 5", "rs-4-2 puts 6 shards on 6 nodes: --nodes 6 or more", 2},
	    {"dev up --nodes 65", "--nodes 65: 1 to 64", 2},
	    {"dev up --nodes 0", "--nodes 0", 2},
	    {"dev up --code rs-4", "--code", 2},
	    {"dev up --capacity 100MiB", "--capacity: at least", 2},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(stele(bad[i].line), bad[i].code, "%s: %s", bad[i].line, err_text);
		assert_err(bad[i].message);
		cr_assert_eq(rmdir(dir), 0, "%s left something", bad[i].line);
		cr_assert_eq(mkdir(dir, 0755), 0);
	}
	cr_assert_eq(stele_in("", "dev up"), 2);
	assert_err("needs --dir DIR");
	cr_assert_eq(stele_in("/nonexistent/d", "dev down"), 2);
	assert_err("/nonexistent/d: No such file");
	cr_assert_eq(stele("dev up --nodes 2 --code rep-2"), 0, "%s", err_text);
	cr_assert_eq(stele("dev up --nodes 4"), 2);
	assert_err("has a cluster made with --nodes 2 already");
	cr_assert_eq(stele("dev up --code rs-4-2"), 2);
	assert_err("has a cluster made with --code rep-2 already");
	cr_assert_eq(stele("dev kill 3"), 2);
	assert_err("\"3\" is none of the nodes");
	cr_assert_eq(stele("dev kill 1 x"), 2);
	cr_assert_gt(look(1).pid, 0);
	int fd = open(dir, O_RDONLY);
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_assert_eq(stele("dev down"), 7);
	assert_err("another stele dev is at work");
	close(fd);
	cr_assert_eq(stele("dev down"), 0);
	setenv("STELE_STELED", "/nonexistent/steled", 1);
	cr_assert_eq(stele("dev up"), 2);
	assert_err("/nonexistent/steled");
	unsetenv("STELE_STELED"); /* beside this test there is none */
	cr_assert_eq(stele("dev up"), 2);
	assert_err("/steled: No such file");
}
