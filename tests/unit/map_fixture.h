/*
 * A cluster for tests: keys from fixed seeds, so that its map is the same everywhere, and what it
 * takes to change and sign it again.
 */
#ifndef TESTS_UNIT_MAP_FIXTURE_H
#define TESTS_UNIT_MAP_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/cluster/map.h"
#include "net/cluster/place.h"

enum { FIXTURE_CLIENTS = 3 };

struct fixture {
	struct stele_map map; /* fields to compose from; not a map to use */
	struct stele_secret_key root[4], state, log;
	struct stele_pool pool[8];
	struct stele_node_entry node[STELE_NODES_MAX + 1]; /* one too many fits */
	struct stele_client_entry client[FIXTURE_CLIENTS];
	struct stele_disk_entry disk[STELE_DISKS_MAX];
};

static inline struct stele_secret_key fixture_key(uint8_t kind, uint32_t n)
{
	uint8_t seed[32] = {kind, (uint8_t)n, (uint8_t)(n >> 8)};
	struct stele_secret_key key;
	stele_key_from_seed(&key, seed);
	return key;
}

/* 1-of-1 root; node i is "nodeI" on "hostI", two hosts to a rack; disks of weight 1000. Freed by
 * the test's end. */
static inline struct fixture *fixture_create(const char *code, uint32_t nnodes, uint32_t per_node)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct stele_code_id id;
	cr_assert_not_null(f);
	cr_assert_eq(stele_code_id_parse(code, &id), STELE_OK);
	memset(f->map.cluster.b, 0xc1, STELE_HASH_LEN);
	f->map.root_epoch = f->map.state_epoch = 1;
	f->map.grace_s = 900;
	for (uint32_t i = 0; i < 4; i++)
		f->root[i] = fixture_key('r', i);
	f->state = fixture_key('s', 0);
	f->log = fixture_key('l', 0);
	f->map.threshold = f->map.nroot_keys = 1;
	f->map.root_key[0] = f->root[0].pub;
	f->map.state_key = f->state.pub;
	f->map.log_key = f->log.pub;
	strcpy(f->map.log_origin, "stele.test/00112233445566778899aabbccddeeff");
	f->map.pool = f->pool;
	f->map.npools = 4;
	stele_map_default_pools(&id, stele_code_id_t(&id), nnodes * per_node, f->pool);
	f->map.node = f->node;
	f->map.nnodes = (uint16_t)nnodes;
	f->map.disk = f->disk;
	for (uint32_t i = 0; i < nnodes; i++) {
		struct stele_node_entry *n = &f->node[i];
		n->id = (uint16_t)(i + 1);
		snprintf(n->name, sizeof(n->name), "node%u", i + 1);
		snprintf(n->host, sizeof(n->host), "host%u", i + 1);
		snprintf(n->rack, sizeof(n->rack), "rack%u", i / 2 + 1);
		snprintf(n->addr, sizeof(n->addr), "127.0.0.1:%u", 7000 + i);
		n->tls[n->ntls++] = fixture_key('n', i).pub;
		for (uint32_t s = 0; s < per_node; s++)
			f->disk[f->map.ndisks++] =
			    (struct stele_disk_entry){n->id, (uint16_t)s, 1000, false};
	}
	static const char *const names[FIXTURE_CLIENTS] = {"alice", "bob", "carol"};
	f->map.client = f->client;
	f->map.nclients = FIXTURE_CLIENTS;
	for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++) {
		struct stele_client_entry *c = &f->client[i];
		strcpy(c->name, names[i]);
		c->tls[c->ntls++] = fixture_key('c', i).pub;
		c->roles = STELE_ROLE_READER;
	}
	f->client[0].roles |= STELE_ROLE_WRITER | STELE_ROLE_ADMIN; /* alice writes */
	f->client[0].depositor = fixture_key('d', 0).pub;
	f->client[1].roles |= STELE_ROLE_WRITER; /* bob did, and is rotating his key */
	f->client[1].depositor = fixture_key('d', 1).pub;
	f->client[1].revoked = true;
	f->client[1].tls[f->client[1].ntls++] = fixture_key('e', 1).pub;
	return f;
}

/* Composes and parses; the test releases the map. */
static inline struct stele_map *fixture_map(const struct fixture *f)
{
	char *json = NULL;
	size_t len;
	struct stele_map *map = NULL;
	cr_assert_eq(stele_map_compose(&f->map, NULL, f->root, 1, &f->state, &json, &len), STELE_OK,
	             "%s", stele_detail());
	cr_assert_eq(stele_map_parse(json, len, NULL, &map), STELE_OK, "%s", stele_detail());
	free(json);
	return map;
}

#endif
