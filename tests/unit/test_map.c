/*
 * Goal: a cluster file is accepted only when it is canonical, whole, signed by those who may, and
 * not older than what was known; and everything in it comes back as it was written.
 */
#include <criterion/criterion.h>
#include <jansson.h>

#include "net/cluster/envelope.h"
#include "net/cluster/root.h"
#include "net/cluster/state.h"
#include "tests/unit/map_fixture.h"

static enum stele_err parse(const char *json, size_t len, const struct stele_map *trusted)
{
	struct stele_map *map = NULL, *untouched = map;
	enum stele_err err = stele_map_parse(json, len, trusted, &map);
	if (err)
		cr_assert_eq(map, untouched);
	stele_map_unref(map);
	return err;
}

/* The result of composing from fields, judged against a trusted map. */
static enum stele_err judge(const struct fixture *f, const struct stele_secret_key *root,
                            uint32_t n, const struct stele_map *trusted)
{
	char *json = NULL;
	size_t len;
	enum stele_err err = stele_map_compose(&f->map, NULL, root, n, &f->state, &json, &len);
	if (!err)
		err = parse(json, len, trusted);
	free(json);
	return err;
}

static void assert_detail(const char *want)
{
	cr_assert_not_null(strstr(stele_detail(), want), "\"%s\" lacks \"%s\"", stele_detail(),
	                   want);
}

Test(map, comes_back_as_written)
{
	struct fixture *f = fixture_create("rs-4-2", 8, 2);
	memset(f->node[3].addr, 0, sizeof(f->node[3].addr)); /* one without an address */
	f->disk[5].out = true;
	f->disk[7].weight_milli = 0;
	f->pool[3].retention_s = 86400 * 365ull;
	struct stele_map *map = fixture_map(f);
	cr_assert(stele_hash_equal(&map->cluster, &f->map.cluster));
	cr_assert_eq(map->grace_s, 900u);
	cr_assert_eq(map->threshold, 1);
	cr_assert_str_eq(map->log_origin, f->map.log_origin);
	cr_assert_eq(map->npools, 4);
	cr_assert_eq(memcmp(map->pool, f->pool, 4 * sizeof(f->pool[0])), 0);
	cr_assert_eq(map->nnodes, 8);
	cr_assert_eq(memcmp(map->node, f->node, 8 * sizeof(f->node[0])), 0);
	cr_assert_eq(map->nclients, FIXTURE_CLIENTS);
	cr_assert_eq(memcmp(map->client, f->client, sizeof(f->client)), 0);
	cr_assert_eq(map->ndisks, 16u);
	for (uint32_t i = 0; i < 16; i++) {
		cr_assert_eq(map->disk[i].node, f->disk[i].node);
		cr_assert_eq(map->disk[i].slot, f->disk[i].slot);
		cr_assert_eq(map->disk[i].weight_milli, f->disk[i].weight_milli);
		cr_assert_eq(map->disk[i].out, f->disk[i].out);
	}
	cr_assert_eq(stele_map_epoch(map), 1ull << 32 | 1);
	/* Written again from what was read, it is the same file. */
	char *again;
	size_t len, len_again;
	const char *json = stele_map_json(map, &len);
	cr_assert_eq(stele_map_compose(map, NULL, f->root, 1, &f->state, &again, &len_again),
	             STELE_OK);
	cr_assert_eq(len, len_again);
	cr_assert_eq(memcmp(json, again, len), 0);
	free(again);
	stele_map_unref(map);
	free(f);
}

Test(map, golden_bodies)
{
	static const char root[] =
	    "stele.dev/root/v1\n"
	    "cluster c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1\n"
	    "epoch 1\ngrace 900\nthreshold 1\n"
	    "root %s\nstate %s\n"
	    "log %s stele.test/00112233445566778899aabbccddeeff\n"
	    "pool 1 record rep-3 host 1 6 86400 0\n"
	    "pool 2 log rs-4-2 host 1 5 86400 0\n"
	    "pool 16 ledger rs-4-2 host 1 5 86400 0\n"
	    "pool 17 evidence rs-4-2 host 1 5 86400 0\n"
	    "node 1 node1 host1 rack1 %s\n"
	    "client alice active writer,reader,admin %s %s\n"
	    "client bob revoked writer,reader %s %s,%s\n"
	    "client carol active reader - %s\n";
	static const char state[] =
	    "stele.dev/state/v1\n"
	    "cluster c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1\n"
	    "epoch 1\n"
	    "addr 1 127.0.0.1:7000\n"
	    "disk 1 0 1000 in\n";
	struct fixture *f = fixture_create("rs-4-2", 1, 1);
	const struct stele_secret_key key[] = {f->root[0],
	                                       f->state,
	                                       f->log,
	                                       fixture_key('n', 0),
	                                       fixture_key('d', 0),
	                                       fixture_key('c', 0),
	                                       fixture_key('d', 1),
	                                       fixture_key('c', 1),
	                                       fixture_key('e', 1),
	                                       fixture_key('c', 2)};
	char hex[10][65], want[4096];
	for (int i = 0; i < 10; i++)
		stele_hex(key[i].pub.b, 32, hex[i]);
	snprintf(want, sizeof(want), root, hex[0], hex[1], hex[2], hex[3], hex[4], hex[5], hex[6],
	         hex[7], hex[8], hex[9]);
	struct stele_lines_out r = {0}, s = {0};
	stele_root_encode(&f->map, &r);
	stele_state_encode(&f->map, &s);
	cr_assert_eq(r.err, STELE_OK);
	cr_assert_eq(r.len, strlen(want));
	cr_assert_eq(memcmp(r.text, want, r.len), 0, "%.*s", (int)r.len, r.text);
	cr_assert_eq(s.len, strlen(state));
	cr_assert_eq(memcmp(s.text, state, s.len), 0, "%.*s", (int)s.len, s.text);
	struct stele_map *map = fixture_map(f);
	/* DO NOT CHANGE: maps that exist */
	cr_assert_str_eq(stele_hash_hex(&map->hash, hex[0]),
	                 "55741f8badc62cdc2e5dc21617d5996c75737de50be5e1a0a1559c5c633bde7b");
	stele_map_unref(map);
	free(r.text);
	free(s.text);
	free(f);
}

/* One flipped byte anywhere in the file: refused, or nothing changed by it (a blank between
 * tokens). */
Test(map, every_byte_flipped)
{
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	struct stele_map *map = fixture_map(f);
	size_t len, equal = 0;
	const char *json = stele_map_json(map, &len);
	char *copy = malloc(len);
	memcpy(copy, json, len);
	for (size_t i = 0; i < len; i++)
		for (int flip = 0; flip < 2; flip++) {
			struct stele_map *other = NULL;
			copy[i] = (char)(json[i] ^ (flip ? 0x2a : 0x01));
			if (stele_map_parse(copy, len, NULL, &other) == STELE_OK) {
				equal++;
				cr_assert(stele_hash_equal(&other->hash, &map->hash), "byte %zu",
				          i);
				stele_map_unref(other);
			}
			copy[i] = json[i];
		}
	cr_assert_lt(equal, 200u); /* 0x20 ^ 0x2a is a line feed, and the file has few blanks */
	free(copy);
	stele_map_unref(map);
	free(f);
}

Test(map, every_prefix_is_refused)
{
	struct fixture *f = fixture_create("rs-4-2", 2, 1);
	struct stele_map *map = fixture_map(f);
	size_t len;
	const char *json = stele_map_json(map, &len);
	while (json[len - 1] != '}')
		len--;
	for (size_t i = 0; i < len; i++) {
		char *part = malloc(i ? i : 1); /* exactly: a read beyond it is seen */
		memcpy(part, json, i);
		cr_assert_neq(parse(part, i, NULL), STELE_OK);
		free(part);
	}
	stele_map_unref(map);
	free(f);
}

/* ---- bodies: what a decoder refuses, named; signatures are not in the way here ---- */

static enum stele_err decode(const char *root, size_t root_len, const char *state, size_t state_len)
{
	struct stele_map map = {0};
	enum stele_err err = stele_root_decode(root, root_len, &map);
	if (!err && state)
		err = stele_state_decode(state, state_len, &map);
	free(map.pool);
	free(map.node);
	free(map.client);
	free(map.disk);
	return err;
}

struct edit {
	const char *find, *replace, *detail;
	enum stele_err err; /* 0: CORRUPT */
};

/* The first find in text replaced; malloc'ed. */
static char *edited(const struct stele_lines_out *text, const struct edit *e)
{
	char *at, *out = calloc(1, text->len + strlen(e->replace) + 1);
	memcpy(out, text->text, text->len);
	at = strstr(out, e->find);
	cr_assert_not_null(at, "no \"%s\"", e->find);
	size_t gone = strlen(e->find), put = strlen(e->replace);
	memmove(at + put, at + gone, strlen(at + gone) + 1);
	memcpy(at, e->replace, put);
	return out;
}

Test(map, root_lines_are_refused_by_name)
{
	static const struct edit edits[] = {
	    {"root/v1", "root/v2", "version 2", STELE_ERR_VERSION},
	    {"root/v1", "root/v11", "version 11", STELE_ERR_VERSION},
	    {"root/v1", "state/v1", "line 1 (version)", 0},
	    {"root/v1\n", "root/v1 \n", "version", STELE_ERR_VERSION},
	    {"cluster c1", "cluster C1", "line 2 (cluster): id is not", 0},
	    {"cluster c1", "cluster  c1", "line 2 (cluster): id is empty", 0},
	    {"cluster c1", "clustre c1", "line 2 (cluster): missing here", 0},
	    {"epoch 1", "epoch 0", "line 3 (epoch): epoch is 0", 0},
	    {"epoch 1", "epoch 01", "line 3 (epoch): epoch is not a number", 0},
	    {"epoch 1", "epoch +1", "line 3 (epoch)", 0},
	    {"epoch 1", "epoch 1 ", "line 3 (epoch): more than expected", 0},
	    {"epoch 1", "epoch 4294967296", "line 3 (epoch)", 0},
	    {"epoch 1", "epoch 18446744073709551617", "line 3 (epoch)", 0},
	    {"epoch 1\n", "epoch\n", "line 3 (epoch): missing", 0},
	    {"threshold 1", "threshold 2", "fewer than the threshold", 0},
	    {"threshold 1", "threshold 0", "line 5 (threshold)", 0},
	    {"threshold 1", "threshold 9", "line 5 (threshold)", 0},
	    {"rep-3 host", "rep-3 hosts", "line 9 (pool): domain \"hosts\"", 0},
	    {"rep-3 host", "rep-10 host", "line 9 (pool)", 0},
	    {"rep-3 host", "rs-1-2 host", "must be rep-n", 0},
	    {"rep-3 host", "rep-2 host", "survives 2 losses, records only 1", 0},
	    {"host 1 7 ", "host 3 7 ", "line 9 (pool): min_margin is 3", 0},
	    {"host 1 7 ", "host 1 17 ", "line 9 (pool): pgs_log2 is 17", 0},
	    {"pool 1 record", "pool 1 recorder", "pool 1 must be", 0},
	    {"pool 2 log", "pool 3 log", "line 10 (pool): id 3 is reserved", 0},
	    {"pool 2 log", "pool 1 log", "line 10 (pool): id 1 is not greater", 0},
	    {"pool 16 ", "pool 18 ", "line 12 (pool): id 17 is not greater", 0},
	    {"17 evidence", "17 ledger", "two pools are called \"ledger\"", 0},
	    {"node 2 node2", "node 2 node1", "two nodes are called", 0},
	    {"node 2 node2", "node 1 node2", "line 14 (node): id 1 is not greater", 0},
	    {"node 2 node2", "node 2 -", "line 14 (node): name \"-\"", 0},
	    {"node 2 node2", "node 2 no\tde2", "line 14 (node): name has a byte", 0},
	    {"host2 rack1 ", "host2 rack1 0", "line 14 (node): key", 0},
	    {"host2 rack1 ", "host2 ", "line 14 (node)", 0},
	    {"client bob", "client aaron", "line 16 (client): \"aaron\" is not in ascending", 0},
	    {"client bob", "client alice", "line 16 (client): \"alice\" is not in ascending", 0},
	    {" revoked", " gone", "line 16 (client): state \"gone\"", 0},
	    {"writer,reader,admin", "reader,writer,admin", "line 15 (client): roles", 0},
	    {"writer,reader,admin", "writer,writer,admin", "line 15 (client): roles", 0},
	    {"writer,reader,admin", "writer,,admin", "line 15 (client): roles", 0},
	    {"writer,reader,admin", "writer,reader,", "line 15 (client): roles", 0},
	    {"writer,reader,admin", "node,reader", "line 15 (client): roles", 0},
	    {"writer,reader,admin", "root", "line 15 (client): roles", 0},
	    {"writer,reader,admin", ",", "line 15 (client): roles", 0},
	    {"reader - ", "reader -- ", "line 17 (client): depositor", 0},
	    {"client carol", "clients carol", "line 17 (end)", 0},
	};
	struct fixture *f = fixture_create("rs-4-2", 2, 1);
	struct stele_lines_out text = {0};
	stele_root_encode(&f->map, &text);
	cr_assert_eq(decode(text.text, text.len, NULL, 0), STELE_OK, "%s", stele_detail());
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		char *body = edited(&text, &edits[i]);
		cr_assert_eq(decode(body, strlen(body), NULL, 0),
		             edits[i].err ? edits[i].err : STELE_ERR_CORRUPT, "%s: %s",
		             edits[i].replace, stele_detail());
		assert_detail(edits[i].detail);
		free(body);
	}
	free(text.text);
	free(f);
}

Test(map, state_lines_are_refused_by_name)
{
	static const struct edit edits[] = {
	    {"state/v1", "state/v3", "version 3", STELE_ERR_VERSION},
	    {"cluster c1", "cluster c2", "of another cluster", 0},
	    {"epoch 1", "epoch 0", "line 3 (epoch)", 0},
	    {"addr 1 ", "addr 9 ", "line 4 (addr): node 9 is not in the root", 0},
	    {"addr 2 ", "addr 1 ", "line 5 (addr): node 1 is not greater", 0},
	    {":7000", "", "line 4 (addr): \"127.0.0.1\" is not host:port", 0},
	    {"127.0.0.1:7000", ":7000", "line 4 (addr)", 0},
	    {":7000", ":07000", "line 4 (addr)", 0},
	    {":7000", ":70000", "line 4 (addr)", 0},
	    {":7000", ":0", "line 4 (addr)", 0},
	    {"disk 1 0 1000", "disk 3 0 1000", "line 6 (disk): node 3 is not in the root", 0},
	    {"disk 1 1 1000", "disk 1 0 1000", "line 7 (disk): disk 1:0 is not in ascending", 0},
	    {"disk 1 1 1000", "disk 1 64 1000", "line 7 (disk): slot is 64", 0},
	    {"disk 1 1 1000", "disk 1 1 1000000001", "line 7 (disk): weight", 0},
	    {"disk 1 1 1000 in", "disk 1 1 1000 up", "line 7 (disk): state \"up\"", 0},
	    {"disk 2 1 1000 in\n", "disk 2 1 1000 in", "line 9 (disk): cut short", 0},
	    {"disk 2 1 1000 in\n", "disk 2 1 1000 in\n\n", "line 10 (end)", 0},
	};
	struct fixture *f = fixture_create("rs-4-2", 2, 2);
	struct stele_lines_out root = {0}, text = {0};
	stele_root_encode(&f->map, &root);
	stele_state_encode(&f->map, &text);
	cr_assert_eq(decode(root.text, root.len, text.text, text.len), STELE_OK);
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		char *body = edited(&text, &edits[i]);
		cr_assert_eq(decode(root.text, root.len, body, strlen(body)),
		             edits[i].err ? edits[i].err : STELE_ERR_CORRUPT, "%s: %s",
		             edits[i].replace, stele_detail());
		assert_detail(edits[i].detail);
		free(body);
	}
	free(root.text);
	free(text.text);
	free(f);
}

/* Whatever a mutated body decodes to, it is written back as the same bytes: one map, one spelling.
 */
Test(map, bodies_are_canonical)
{
	struct fixture *f = fixture_create("lrc-12-2-3", 3, 2);
	struct stele_lines_out root = {0};
	stele_root_encode(&f->map, &root);
	uint32_t seed = 12345, accepted = 0;
	char *body = malloc(root.len);
	for (uint32_t i = 0; i < 60000; i++) {
		struct stele_map map = {0};
		memcpy(body, root.text, root.len);
		for (uint32_t k = 0; k <= i % 3; k++) {
			/* a byte of the body goes somewhere else: mostly plausible characters */
			seed = seed * 1664525u + 1013904223u;
			size_t from = (seed >> 8) % root.len;
			seed = seed * 1664525u + 1013904223u;
			body[(seed >> 8) % root.len] = root.text[from];
		}
		if (stele_root_decode(body, root.len, &map) == STELE_OK) {
			struct stele_lines_out again = {0};
			stele_root_encode(&map, &again);
			cr_assert_eq(again.err, STELE_OK);
			cr_assert_eq(again.len, root.len);
			cr_assert_eq(memcmp(again.text, body, root.len), 0, "%.*s", (int)root.len,
			             body);
			free(again.text);
			accepted++;
		}
		free(map.pool);
		free(map.node);
		free(map.client);
	}
	cr_assert_gt(accepted, 1000u); /* the property was tried */
	free(body);
	free(root.text);
	free(f);
}

Test(map, a_key_stands_for_one_thing)
{
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	struct stele_public_key *place[] = {
	    &f->map.root_key[0],  &f->map.state_key,       &f->map.log_key,
	    &f->node[0].tls[0],   &f->node[2].tls[0],      &f->client[0].tls[0],
	    &f->client[1].tls[1], &f->client[0].depositor, &f->client[1].depositor};
	for (size_t i = 0; i < 9; i++)
		for (size_t k = 0; k < 9; k++) {
			if (i == k)
				continue;
			struct stele_public_key was = *place[i];
			*place[i] = *place[k];
			struct stele_lines_out text = {0};
			stele_root_encode(&f->map, &text);
			cr_assert_eq(decode(text.text, text.len, NULL, 0), STELE_ERR_CORRUPT);
			assert_detail("is used twice");
			free(text.text);
			*place[i] = was;
		}
	free(f);
}

/* ---- who signed ---- */

/* A 2-of-3 root. */
static struct fixture *three_keys(void)
{
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	f->map.threshold = 2;
	f->map.nroot_keys = 3;
	for (int i = 0; i < 3; i++)
		f->map.root_key[i] = f->root[i].pub;
	return f;
}

Test(map, thresholds)
{
	struct fixture *f = three_keys();
	struct stele_secret_key twice[2] = {f->root[0], f->root[0]};
	struct stele_secret_key stranger[2] = {f->root[0], f->root[3]};
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_DENIED);
	assert_detail("1 signed, 2 must");
	cr_assert_eq(judge(f, twice, 2, NULL), STELE_ERR_INVALID); /* composing says what it made */
	assert_detail("signed twice");
	cr_assert_eq(judge(f, stranger, 2, NULL), STELE_ERR_DENIED);
	cr_assert_eq(judge(f, f->root, 2, NULL), STELE_OK);
	cr_assert_eq(judge(f, f->root + 1, 2, NULL), STELE_OK);
	cr_assert_eq(judge(f, f->root, 3, NULL), STELE_OK);
	cr_assert_eq(judge(f, f->root, 4, NULL), STELE_OK); /* one more, and it holds */
	f->state = fixture_key('s', 1);
	cr_assert_eq(judge(f, f->root, 2, NULL), STELE_ERR_DENIED);
	assert_detail("state part: the state key");
	free(f);
}

Test(map, root_keys_change)
{
	struct fixture *f = three_keys();
	char *json;
	size_t len;
	struct stele_map *held;
	cr_assert_eq(stele_map_compose(&f->map, NULL, f->root, 2, &f->state, &json, &len),
	             STELE_OK);
	cr_assert_eq(stele_map_parse(json, len, NULL, &held), STELE_OK);
	free(json);
	/* Epoch 2 replaces key 0 by key 3. */
	f->map.root_epoch = 2;
	f->map.root_key[0] = f->root[3].pub;
	struct stele_secret_key fresh[2] = {f->root[3], f->root[1]};
	cr_assert_eq(judge(f, fresh, 2, NULL), STELE_OK); /* a stranger may believe it */
	cr_assert_eq(judge(f, fresh, 2, held), STELE_ERR_DENIED);
	assert_detail("keys of the root before it: 1 signed, 2 must");
	cr_assert_eq(judge(f, f->root, 2, held), STELE_ERR_DENIED); /* new root's own: only key 1 */
	assert_detail("its own keys: 1 signed, 2 must");
	cr_assert_eq(judge(f, f->root + 1, 2, held), STELE_OK); /* 1 and 2 are in both */
	cr_assert_eq(judge(f, f->root, 4, held), STELE_OK);
	/* Wholly new keys with a lower threshold are signed by two old ones and one new one. */
	f->map.threshold = f->map.nroot_keys = 1;
	f->map.root_key[0] = f->root[3].pub;
	cr_assert_eq(judge(f, f->root + 3, 1, held), STELE_ERR_DENIED);
	cr_assert_eq(judge(f, f->root + 2, 2, held), STELE_ERR_DENIED);
	cr_assert_eq(judge(f, f->root + 1, 3, held), STELE_OK);
	stele_map_unref(held);
	free(f);
}

Test(map, epochs_never_go_back)
{
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	f->map.root_epoch = 5;
	f->map.state_epoch = 7;
	struct stele_map *held = fixture_map(f);
	cr_assert_eq(judge(f, f->root, 1, held), STELE_OK); /* the same again */
	f->map.root_epoch = 4;
	f->map.state_epoch = 8;
	cr_assert_eq(judge(f, f->root, 1, held), STELE_ERR_STALE);
	assert_detail("root part is of epoch 4, epoch 5 is known");
	f->map.root_epoch = 6;
	f->map.state_epoch = 6;
	cr_assert_eq(judge(f, f->root, 1, held), STELE_ERR_STALE);
	assert_detail("state part is of epoch 6, epoch 7 is known");
	f->map.state_epoch = 7; /* a new root, the same state */
	cr_assert_eq(judge(f, f->root, 1, held), STELE_OK);
	f->map.root_epoch = 5;
	f->map.state_epoch = 8;
	f->disk[0].weight_milli = 0;
	cr_assert_eq(judge(f, f->root, 1, held), STELE_OK);
	stele_map_unref(held);
	free(f);
}

Test(map, same_epoch_with_another_hash_alarms)
{
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	struct stele_map *held = fixture_map(f);
	f->disk[0].weight_milli = 2000;
	cr_assert_eq(judge(f, f->root, 1, held), STELE_ERR_CORRUPT);
	assert_detail("ALARM");
	assert_detail("two different state parts of epoch 1");
	f->disk[0].weight_milli = 1000;
	f->map.grace_s = 1;
	cr_assert_eq(judge(f, f->root, 1, held), STELE_ERR_CORRUPT);
	assert_detail("two different root parts of epoch 1");
	/* Whoever lacks the keys cannot raise the alarm. */
	f->map.root_key[0] = f->root[1].pub;
	cr_assert_eq(judge(f, f->root + 1, 1, held), STELE_ERR_DENIED);
	f->map.cluster.b[0] ^= 1;
	cr_assert_eq(judge(f, f->root + 1, 1, held), STELE_ERR_DENIED);
	assert_detail("of another cluster");
	stele_map_unref(held);
	free(f);
}

/* ---- the file's form ---- */

Test(map, json_is_bounded_before_it_is_parsed)
{
	char *big = malloc(STELE_MAP_MAX + 2);
	memset(big, ' ', STELE_MAP_MAX + 2);
	cr_assert_eq(parse(big, STELE_MAP_MAX + 1, NULL), STELE_ERR_TOO_LARGE);
	memset(big, '[', 100);
	cr_assert_eq(parse(big, 100, NULL), STELE_ERR_CORRUPT);
	assert_detail("more structure");
	big[0] = '[';
	for (size_t i = 1; i < 100000; i++)
		big[i] = i % 2 ? '1' : ',';
	cr_assert_eq(parse(big, 100000, NULL), STELE_ERR_CORRUPT);
	assert_detail("more structure");
	free(big);
}

/* What bounds the structure is not confused by what stands in strings: colons, brackets, quotes. */
Test(map, a_large_map_with_odd_names)
{
	struct fixture *f = fixture_create("rs-4-2", STELE_NODES_MAX, 16);
	for (uint32_t i = 0; i < STELE_NODES_MAX; i++)
		snprintf(f->node[i].name, sizeof(f->node[i].name), "n\\\"[[[{{{%u,:\"\\", i);
	struct stele_map *map = fixture_map(f);
	cr_assert_eq(map->nnodes, STELE_NODES_MAX);
	cr_assert_eq(map->ndisks, STELE_DISKS_MAX);
	cr_assert_eq(memcmp(map->node, f->node, STELE_NODES_MAX * sizeof(f->node[0])), 0);
	stele_map_unref(map);
	f->map.nnodes++;
	f->node[STELE_NODES_MAX] = f->node[0];
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID);
	assert_detail("1025 lines \"node\", at most 1024");
	free(f);
}

Test(map, json_of_another_form)
{
	static const char *const bad[] = {
	    "",
	    " ",
	    "null",
	    "[]",
	    "{}",
	    "\"root\"",
	    "{\"root\":{},\"state\":{}}",
	    "{\"root\":1,\"state\":2}",
	    "{\"root\":{\"body\":\"x\",\"signatures\":{}},\"state\":{}}",
	    "{\"root\":{\"body\":\"x\",\"signatures\":[1]},\"state\":{}}",
	    "{\"root\":{\"body\":\"x\",\"signatures\":[{\"key\":\"00\",\"sig\":\"00\"}]},\"state\":"
	    "{}}",
	    "{\"root\":{\"body\":\"\",\"signatures\":[]},\"state\":{\"body\":\"\",\"signatures\":[]"
	    "}}",
	    "{\"root\":{\"body\":\"\\u0000\",\"signatures\":[]},\"state\":{}}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(parse(bad[i], strlen(bad[i]), NULL), STELE_ERR_CORRUPT, "%s", bad[i]);
	/* A good file with one thing more is refused: nothing is carried that nobody checks. */
	struct fixture *f = fixture_create("rs-4-2", 2, 1);
	struct stele_map *map = fixture_map(f);
	size_t len;
	const char *json = stele_map_json(map, &len);
	for (int where = 0; where < 4; where++) {
		json_t *file = json_loadb(json, len, 0, NULL);
		json_t *root = json_object_get(file, "root");
		json_t *sigs = json_object_get(root, "signatures");
		if (where == 0)
			json_object_set_new(file, "x", json_integer(1));
		else if (where == 1)
			json_object_set_new(root, "x", json_integer(1));
		else if (where == 2)
			json_object_set_new(json_array_get(sigs, 0), "x", json_integer(1));
		else
			for (int i = 0; i < 16; i++)
				json_array_append(sigs, json_array_get(sigs, 0));
		char *text = json_dumps(file, 0);
		cr_assert_eq(parse(text, strlen(text), NULL), STELE_ERR_CORRUPT);
		free(text);
		json_decref(file);
	}
	stele_map_unref(map);
	free(f);
}

/* ---- looking up ---- */

Test(map, who_is_who)
{
	struct fixture *f = fixture_create("rs-4-2", 5, 1);
	struct stele_map *map = fixture_map(f);
	struct stele_who who = {.tls = fixture_key('n', 3).pub, .roles = 99, .node = 99};
	stele_map_identify(map, &who);
	cr_assert_eq(who.roles, (uint32_t)STELE_ROLE_NODE);
	cr_assert_eq(who.node, 4u);
	cr_assert_str_eq(who.name, "node4");
	who.tls = fixture_key('c', 0).pub;
	stele_map_identify(map, &who);
	cr_assert_eq(who.roles,
	             (uint32_t)(STELE_ROLE_WRITER | STELE_ROLE_READER | STELE_ROLE_ADMIN));
	cr_assert_eq(who.node, 0u);
	cr_assert_str_eq(who.name, "alice");
	cr_assert(stele_public_key_equal(&who.depositor, &f->client[0].depositor));
	for (int i = 0; i < 2; i++) { /* revoked, by either key */
		who.tls = fixture_key(i ? 'e' : 'c', 1).pub;
		stele_map_identify(map, &who);
		cr_assert_eq(who.roles, 0u);
		cr_assert_str_eq(who.name, "bob");
	}
	who.tls = fixture_key('d', 0).pub; /* a depositor's key is no TLS key */
	stele_map_identify(map, &who);
	cr_assert_eq(who.roles, 0u);
	cr_assert_str_eq(who.name, "");
	cr_assert(stele_all_zero(who.depositor.b, STELE_KEY_LEN));
	memset(&who.tls, 0, sizeof(who.tls)); /* the unused second key of everybody */
	stele_map_identify(map, &who);
	cr_assert_eq(who.roles, 0u);

	struct stele_public_key key = fixture_key('d', 1).pub, none = {0};
	cr_assert_str_eq(stele_map_depositor(map, &key)->name, "bob");
	cr_assert_null(stele_map_depositor(map, &none));
	key = fixture_key('c', 1).pub;
	cr_assert_null(stele_map_depositor(map, &key));

	cr_assert_eq(stele_map_pool(map, 17), &map->pool[3]);
	cr_assert_null(stele_map_pool(map, 15));
	cr_assert_eq(stele_map_pool_named(map, "ledger"), &map->pool[2]);
	cr_assert_null(stele_map_pool_named(map, "ledge"));
	for (uint16_t id = 0; id < 8; id++)
		cr_assert_eq(stele_map_node(map, id),
		             id >= 1 && id <= 5 ? &map->node[id - 1] : NULL);
	stele_map_unref(map);
	stele_map_unref(NULL);
	free(f);
}

Test(map, references_keep_it)
{
	struct fixture *f = fixture_create("rs-4-2", 2, 1);
	struct stele_map *map = fixture_map(f);
	cr_assert_eq(stele_map_ref(map), map);
	stele_map_unref(map);
	cr_assert_str_eq(map->node[1].name, "node2"); /* still there */
	stele_map_unref(map);
	free(f);
}

/* ---- making ---- */

Test(map, default_pools_give_slots)
{
	static const struct {
		const char *code;
		uint32_t disks, log2, record_log2;
	} cases[] = {{"rs-4-2", 8, 8, 9},      {"rs-4-2", 1, 5, 6}, {"rs-4-2", 6, 7, 8},
	             {"rs-10-4", 100, 10, 11}, {"rep-3", 3, 7, 7},  {"rs-4-2", 16384, 16, 16},
	             {"lrc-12-2-3", 17, 7, 9}, {"rep-1", 1, 7, 7}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stele_code_id code;
		struct stele_pool pool[4];
		cr_assert_eq(stele_code_id_parse(cases[i].code, &code), STELE_OK);
		stele_map_default_pools(&code, stele_code_id_t(&code), cases[i].disks, pool);
		cr_assert_eq(pool[3].pgs_log2, cases[i].log2, "%s", cases[i].code);
		cr_assert_eq(pool[0].pgs_log2, cases[i].record_log2, "%s %u", cases[i].code,
		             pool[0].pgs_log2);
		for (int p = 0; p < 4; p++) {
			uint64_t n = pool[p].code.k + pool[p].code.m;
			cr_assert(pool[p].pgs_log2 == 16 ||
			          (n << pool[p].pgs_log2) >= 100ull * cases[i].disks);
		}
		cr_assert_eq(pool[0].code.family, STELE_CODE_REP);
		cr_assert_eq(stele_code_id_t(&pool[0].code), stele_code_id_t(&code));
	}
}

Test(map, composing_refuses_what_could_not_be_read_back)
{
	static const struct {
		size_t at;
		const char *text;
	} bad[] = {
	    {offsetof(struct fixture, node[1].name), "two words"},
	    {offsetof(struct fixture, node[1].name), ""},
	    {offsetof(struct fixture, node[1].host), "-"},
	    {offsetof(struct fixture, node[1].rack), "r\nnode 9 x x x"},
	    {offsetof(struct fixture, node[1].addr), "1.2.3.4:5\ndisk 1 9 1 in"},
	    {offsetof(struct fixture, node[1].addr), "nowhere"},
	    {offsetof(struct fixture, client[1].name), "b b"},
	    {offsetof(struct fixture, client[1].name), "zoe"}, /* order */
	    {offsetof(struct fixture, pool[3].name), "a\tb"},
	    {offsetof(struct fixture, map.log_origin), "x\npool 18 more rs-4-2 host 1 5 1 0"},
	    {offsetof(struct fixture, map.log_origin), ""},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture *f = fixture_create("rs-4-2", 3, 1);
		strcpy((char *)f + bad[i].at, bad[i].text);
		cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID, "%s: %s", bad[i].text,
		             stele_detail());
		free(f);
	}
	struct fixture *f = fixture_create("rs-4-2", 3, 1);
	f->client[0].roles = STELE_ROLE_NODE;
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID);
	f->client[0].roles = 1 << 8;
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID);
	f->client[0].roles = 0;
	f->client[0].ntls = 3;
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID);
	f->client[0].ntls = 1;
	f->pool[0].domain = 0;
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_INVALID);
	free(f);
}

Test(map, state_alone_keeps_the_root)
{
	struct fixture *f = three_keys();
	char *json, *next;
	size_t len;
	struct stele_map *held, *after;
	cr_assert_eq(stele_map_compose(&f->map, NULL, f->root, 2, &f->state, &json, &len),
	             STELE_OK);
	cr_assert_eq(stele_map_parse(json, len, NULL, &held), STELE_OK);
	f->map.state_epoch = 2;
	f->disk[2].out = true;
	cr_assert_eq(stele_map_compose(&f->map, held, NULL, 0, &f->state, &next, &len), STELE_OK);
	cr_assert_eq(stele_map_parse(next, len, held, &after), STELE_OK, "%s", stele_detail());
	cr_assert(after->disk[2].out);
	cr_assert_eq(after->root_epoch, 1u);
	free(next);
	/* Without root keys the root part cannot change. */
	f->map.grace_s++;
	cr_assert_eq(stele_map_compose(&f->map, held, NULL, 0, &f->state, &next, &len),
	             STELE_ERR_INVALID);
	assert_detail("root keys must sign it");
	/* Nor can a state that `from` would refuse be made. */
	f->map.grace_s--;
	f->map.state_epoch = 1;
	cr_assert_eq(stele_map_compose(&f->map, after, NULL, 0, &f->state, &next, &len),
	             STELE_ERR_STALE);
	free(json);
	stele_map_unref(held);
	stele_map_unref(after);
	free(f);
}

/* M3: a state key that was stolen can take out one failure domain, not the cluster. */
Test(map, one_domain_out)
{
	struct fixture *f = fixture_create("rs-4-2", 4, 2);
	f->disk[2].out = f->disk[3].out = true; /* node 2 */
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_OK);
	f->disk[4].out = true; /* node 3 */
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_DENIED);
	assert_detail("one failure domain");
	f->disk[4].out = false;
	f->disk[0].out = true; /* node 1, of node 2's rack */
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_DENIED);
	for (int i = 0; i < 4; i++)
		f->pool[i].domain = STELE_DOMAIN_RACK;
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_OK);
	f->disk[4].out = true; /* another rack */
	cr_assert_eq(judge(f, f->root, 1, NULL), STELE_ERR_DENIED);
	free(f);
}
