/*
 * The cluster file and its two bodies. What a body decodes to is written back as the same bytes, and
 * every pool's windows can be computed; a file that parses keeps its bytes, and follows itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/cluster/place.h"
#include "net/cluster/root.h"
#include "net/cluster/state.h"
#include "tests/fuzz/fuzz.h"

enum { NODES = 3 };

struct world {
	struct stele_map map; /* fields to compose from */
	struct stele_secret_key root[2], state, log;
	struct stele_pool pool[4];
	struct stele_node_entry node[NODES];
	struct stele_disk_entry disk[2 * NODES];
	struct stele_client_entry client[2];
};

static struct stele_secret_key key(uint8_t n)
{
	uint8_t seed[32] = {n};
	struct stele_secret_key k;
	stele_key_from_seed(&k, seed);
	return k;
}

static void fill(struct world *w)
{
	static const struct stele_code_id code = {STELE_CODE_LRC, 12, 5, 2};
	for (uint8_t i = 0; i < 2; i++) {
		w->root[i] = key((uint8_t)(1 + i));
		w->map.root_key[w->map.nroot_keys++] = w->root[i].pub;
	}
	w->state = key(3);
	w->log = key(4);
	w->map.threshold = 2;
	w->map.state_key = w->state.pub;
	w->map.log_key = w->log.pub;
	w->map.root_epoch = 7;
	w->map.state_epoch = 19;
	strcpy(w->map.log_origin, "stele.test/00");
	stele_map_default_pools(&code, 4, NODES, w->pool);
	w->map.pool = w->pool;
	w->map.npools = 4;
	w->map.node = w->node;
	w->map.disk = w->disk;
	for (uint16_t i = 0; i < NODES; i++) {
		struct stele_node_entry *n = &w->node[w->map.nnodes++];
		n->id = (uint16_t)(i + 1);
		snprintf(n->name, sizeof(n->name), "n%u", i);
		snprintf(n->host, sizeof(n->host), "h%u", i);
		snprintf(n->rack, sizeof(n->rack), "r");
		snprintf(n->addr, sizeof(n->addr), "[::1]:%u", 7000 + i);
		n->tls[n->ntls++] = key((uint8_t)(10 + i)).pub;
		for (uint16_t s = 0; s < 2; s++)
			w->disk[w->map.ndisks++] =
			    (struct stele_disk_entry){n->id, s, 1000u * s + 1, i == 1};
	}
	w->map.client = w->client;
	for (uint8_t i = 0; i < 2; i++) {
		struct stele_client_entry *c = &w->client[w->map.nclients++];
		snprintf(c->name, sizeof(c->name), "c%u", i);
		c->tls[c->ntls++] = key((uint8_t)(20 + i)).pub;
		c->tls[c->ntls++] = key((uint8_t)(30 + i)).pub;
		c->depositor = key((uint8_t)(40 + i)).pub;
		c->roles = i ? 0 : STELE_ROLE_WRITER | STELE_ROLE_SUBMITTER;
		c->revoked = i;
	}
}

/* Made once: a key takes longer than an input. */
static const struct world *world(void)
{
	static struct world w;
	if (!w.map.root_epoch)
		fill(&w);
	return &w;
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	const struct world *w = world();
	struct stele_lines_out body = {0};
	char *json;
	size_t len = 0;
	if (i == 0) {
		FUZZ_CHECK(stele_map_compose(&w->map, NULL, w->root, 2, &w->state, &json, &len) ==
		           STELE_OK);
		memcpy(out, json, len);
		free(json);
	} else if (i < 3) {
		if (i == 1)
			stele_root_encode(&w->map, &body);
		else
			stele_state_encode(&w->map, &body);
		FUZZ_CHECK(body.err == STELE_OK);
		len = body.len;
		memcpy(out, body.text, len);
		free(body.text);
	}
	return len;
}

static void check_windows(const struct stele_map *map)
{
	for (uint32_t i = 0; i < map->npools; i++) {
		struct stele_window w;
		uint64_t fence;
		uint32_t width = stele_window_width(&map->pool[i].code);
		FUZZ_CHECK(width <= STELE_WINDOW_MAX);
		stele_place(map, &map->pool[i], 0, width, &w, &fence);
		FUZZ_CHECK(w.n <= width && w.n <= map->ndisks);
	}
}

static void release(struct stele_map *map)
{
	free(map->pool);
	free(map->node);
	free(map->client);
	free(map->disk);
}

static void check_root(const uint8_t *data, size_t size)
{
	struct stele_map map = {0};
	struct stele_lines_out again = {0};
	enum stele_err err = stele_root_decode((const char *)data, size, &map);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_CORRUPT || err == STELE_ERR_VERSION);
	if (err == STELE_OK) {
		stele_root_encode(&map, &again);
		FUZZ_CHECK(again.err == STELE_OK && again.len == size);
		FUZZ_CHECK(memcmp(again.text, data, size) == 0);
		check_windows(&map);
	}
	free(again.text);
	release(&map);
}

static void check_state(const uint8_t *data, size_t size)
{
	const struct world *w = world();
	struct stele_node_entry node[NODES];
	struct stele_lines_out again = {0};
	struct stele_map map = w->map; /* its root part; the state part is decoded into it */
	memcpy(node, w->node, sizeof(node));
	for (uint32_t i = 0; i < NODES; i++)
		memset(node[i].addr, 0, sizeof(node[i].addr));
	map.node = node;
	map.disk = NULL;
	map.ndisks = 0;
	enum stele_err err = stele_state_decode((const char *)data, size, &map);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_CORRUPT || err == STELE_ERR_VERSION ||
	           err == STELE_ERR_DENIED);
	if (err == STELE_OK) {
		stele_state_encode(&map, &again);
		FUZZ_CHECK(again.err == STELE_OK && again.len == size);
		FUZZ_CHECK(memcmp(again.text, data, size) == 0);
		check_windows(&map);
	}
	free(again.text);
	free(map.disk);
}

static void check_file(const uint8_t *data, size_t size)
{
	struct stele_map *map, *again;
	size_t len;
	enum stele_err err = stele_map_parse((const char *)data, size, NULL, &map);
	FUZZ_CHECK(err == STELE_OK || err == STELE_ERR_CORRUPT || err == STELE_ERR_VERSION ||
	           err == STELE_ERR_DENIED);
	if (err != STELE_OK)
		return;
	const char *json = stele_map_json(map, &len);
	FUZZ_CHECK(len == size && memcmp(json, data, size) == 0);
	FUZZ_CHECK(stele_map_parse(json, len, map, &again) == STELE_OK);
	FUZZ_CHECK(stele_hash_equal(&again->hash, &map->hash));
	check_windows(map);
	stele_map_unref(again);
	stele_map_unref(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_root(data, size);
	check_state(data, size);
	check_file(data, size);
	return 0;
}
