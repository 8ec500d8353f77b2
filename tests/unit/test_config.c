/*
 * Goal: a node's configuration is read whole or refused by file, line, section and key; the example that
 * is shipped is a valid one.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/config.h"

#define BASE "[node]\nid = 3\nkey = node.key\ncluster = ../cluster.json\n[disk 0]\ndir = disk0\n"

static struct stele_config *config;

static void setup(void)
{
	config = malloc(sizeof(*config));
}

static void teardown(void)
{
	free(config);
}

static enum stele_err parse(const char *text)
{
	return stele_config_parse("/etc/d/steled.ini", text, strlen(text), config);
}

Test(config, smallest, .init = setup, .fini = teardown)
{
	cr_assert_eq(parse(BASE), STELE_OK, "%s", stele_detail());
	cr_assert_eq(config->id, 3);
	cr_assert_str_eq(config->key, "/etc/d/node.key");
	cr_assert_str_eq(config->cluster, "/etc/d/../cluster.json");
	cr_assert_str_eq(config->dir, "/etc/d");
	cr_assert_str_eq(config->listen, "");
	cr_assert_eq(config->ndisks, 1u);
	cr_assert(config->disk_set[0]);
	cr_assert_str_eq(config->disk[0], "/etc/d/disk0");
	cr_assert_eq(config->workers, 0u);
	cr_assert_eq(config->bufs, 0u);
	cr_assert_eq(config->extent_len, 0u);
	cr_assert_eq(config->capacity, 0u);
	cr_assert_eq(config->heal_ns, 0u);
	cr_assert_eq(config->scrub_bytes_per_s, 0u);
}

Test(config, everything, .init = setup, .fini = teardown)
{
	cr_assert_eq(parse(BASE "[disk 5]\ndir=/mnt/b\n"
	                        "[store]\nextent_size = 64MiB\ncapacity = 2GiB\n"
	                        "[upkeep]\nheal_seconds = 5\nscrub_rate = 1MiB\n"
	                        "[node]\n; a comment\n# another\nworkers = 4\nbuffers = 64\n"
	                        "listen = 127.0.0.1:0\ndir = /var/x\n"),
	             STELE_OK, "%s", stele_detail());
	cr_assert_eq(config->ndisks, 6u);
	cr_assert(!config->disk_set[1]);
	cr_assert_str_eq(config->disk[5], "/mnt/b");
	cr_assert_eq(config->extent_len, 64ull << 20);
	cr_assert_eq(config->capacity, 2ull << 30);
	cr_assert_eq(config->heal_ns, 5000000000ull);
	cr_assert_eq(config->scrub_bytes_per_s, 1ull << 20);
	cr_assert_eq(config->workers, 4u);
	cr_assert_eq(config->bufs, 64u);
	cr_assert_str_eq(config->listen, "127.0.0.1:0");
	cr_assert_str_eq(config->dir, "/var/x");
	/* a file without a directory */
	cr_assert_eq(stele_config_parse("s.ini", BASE, strlen(BASE), config), STELE_OK);
	cr_assert_str_eq(config->dir, ".");
	cr_assert_str_eq(config->key, "node.key");
}

Test(config, refused_by_name, .init = setup, .fini = teardown)
{
	static const struct {
		const char *text, *detail;
	} bad[] = {
	    {"", "[node] id is missing"},
	    {"[node]\nid=3\n", "[node] key is missing"},
	    {"[node]\nid=3\nkey=k\n", "[node] cluster is missing"},
	    {"[node]\nid=3\nkey=k\ncluster=c\n", "[disk 0] dir is missing"},
	    {BASE "[disc 1]\ndir = x\n", "line 8: [disc 1] dir: there is no such section"},
	    {BASE "id = 3\n", "line 7: [disk 0] id: there is no such key"},
	    {"id = 3\n" BASE, "line 1: [] id: there is no such section"},
	    {BASE "dir = y\n", "line 7: [disk 0] dir: is given twice"},
	    {BASE "  y\n", "line 7: [disk 0] dir: is given twice"}, /* a continuation line */
	    {BASE "[node]\nname = x\n", "line 8: [node] name: there is no such key"},
	    {"[node]\nid = 0\n" BASE, "line 2: [node] id: \"0\" is not a number from 1"},
	    {"[node]\nid = 65536\n", "line 2: [node] id"},
	    {"[node]\nid = three\n", "line 2: [node] id: \"three\""},
	    {"[node]\nid =\n", "line 2: [node] id: \"\""},
	    {"[node]\nkey =\n", "line 2: [node] key: is empty"},
	    {BASE "[node]\nlisten = 7000\n", "[node] listen: \"7000\" is not host:port"},
	    {BASE "[node]\nlisten = a:70000\n", "[node] listen"},
	    {BASE "[node]\nworkers = 65\n", "line 8: [node] workers"},
	    {BASE "[node]\nbuffers = 1\n", "line 8: [node] buffers"},
	    {BASE "[disk 16]\ndir = x\n", "line 8: [disk 16] dir: the slot is not"},
	    {BASE "[disk 01]\ndir = x\n", "line 8: [disk 01] dir: the slot is not"},
	    {BASE "[disk]\ndir = x\n", "line 8: [disk] dir: there is no such section"},
	    {BASE "[disk 1]\ndir = disk0\n", "[disk 0] and [disk 1] are the same directory"},
	    {BASE "[store]\nextent_size = 64\n",
	     "line 8: [store] extent_size: 64 is not between 4.0 MiB"},
	    {BASE "[store]\nextent_size = 2GiB\n", "[store] extent_size"},
	    {BASE "[store]\nextent_size = 5000000\n", "is not a multiple of 4096"},
	    {BASE "[store]\nextent_size = big\n", "\"big\" is no size"},
	    {BASE "[store]\ncapacity = 1MiB\n", "line 8: [store] capacity"},
	    {BASE "[upkeep]\nheal_seconds = 0\n", "line 8: [upkeep] heal_seconds"},
	    {BASE "[upkeep]\nscrub_rate = 0\n", "line 8: [upkeep] scrub_rate"},
	    {BASE "nonsense\n", "line 7: neither"},
	    {BASE "[node\n", "line 7: neither"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(parse(bad[i].text), STELE_ERR_USAGE, "%s", bad[i].text);
		cr_assert_not_null(strstr(stele_detail(), bad[i].detail), "\"%s\" lacks \"%s\"",
		                   stele_detail(), bad[i].detail);
		cr_assert_eq(strncmp(stele_detail(), "/etc/d/steled.ini: ", 19), 0);
	}
}

Test(config, lines_that_the_parser_would_cut, .init = setup, .fini = teardown)
{
	char text[512];
	for (int n = 180; n < 220; n++) {
		int len = snprintf(text, sizeof(text), BASE "[disk 1]\ndir = %0*d\n", n, 7);
		bool fits = n + 6 <= 197; /* "dir = " */
		cr_assert_eq(stele_config_parse("s.ini", text, (size_t)len, config),
		             fits ? STELE_OK : STELE_ERR_USAGE, "%d: %s", n, stele_detail());
		if (fits)
			cr_assert_eq(strlen(config->disk[1]), (size_t)n);
		else
			cr_assert_not_null(strstr(stele_detail(), "line 8: longer"));
	}
	cr_assert_eq(stele_config_parse("s.ini", "[node]\n\0", 8, config), STELE_ERR_USAGE);
	char *big = calloc(1, 70000);
	memset(big, '\n', 70000);
	cr_assert_eq(stele_config_parse("s.ini", big, 70000, config), STELE_ERR_USAGE);
	free(big);
}

Test(config, files, .init = setup, .fini = teardown)
{
	cr_assert_eq(stele_config_load(STELE_SOURCE_DIR "/config/steled.ini.example", config),
	             STELE_OK, "%s", stele_detail());
	cr_assert_eq(config->id, 3);
	cr_assert_eq(config->ndisks, 2u);
	cr_assert_str_eq(config->dir, "/var/lib/stele");
	cr_assert_eq(stele_config_load("/nonexistent/steled.ini", config), STELE_ERR_USAGE);
	cr_assert_not_null(strstr(stele_detail(), "/nonexistent/steled.ini: No such file"));
	cr_assert_eq(stele_config_load("/", config), STELE_ERR_USAGE);
}
