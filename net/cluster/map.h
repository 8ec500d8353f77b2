/*
 * The cluster map (DESIGN 6): a root part (keys, roles, pools, domains, thresholds; changes rarely, by m
 * of n root keys) and a state part (addresses, disks, weights, in/out; signed by the state key). A map is
 * immutable once made, counted by reference; the count is atomic, so threads may share one.
 *
 * Bodies are text like deposits (storage/base/deposit.h): "stele.dev/root/v1", "stele.dev/state/v1", one
 * "name value..." line each in canonical order; net/cluster/README.md is their specification.
 * The cluster file is JSON: {"root":{"body":"...","signatures":[{"key":hex,"sig":hex}...]},"state":{...}}.
 */
#ifndef NET_CLUSTER_MAP_H
#define NET_CLUSTER_MAP_H

#include "net/wire/server.h" /* struct stele_who, roles */
#include "storage/base/deposit.h"
#include "storage/base/descriptor.h"

enum stele_domain {
	STELE_DOMAIN_DISK = 1,
	STELE_DOMAIN_HOST,
	STELE_DOMAIN_RACK,
};

/* Internal pools exist in every root: record (replicated, placed by object id, D6) and log. */
#define STELE_POOL_RECORD 1u /* pool ids: format */
#define STELE_POOL_LOG    2u
/* user pools: 16 and up; "ledger" and "evidence" exist from the start */

struct stele_pool {
	uint16_t id;
	char name[STELE_NAME_MAX];
	struct stele_code_id code;
	enum stele_domain domain;
	uint8_t min_margin;       /* P2 */
	uint8_t pgs_log2;         /* placement groups: a power of two */
	uint64_t collect_age_s;   /* P3 */
	uint64_t retention_s;     /* 0: none */
};

struct stele_node_entry { /* root: identity and domains; state: address */
	uint16_t id;              /* 1 ... */
	char name[STELE_NAME_MAX];
	char host[STELE_NAME_MAX]; /* failure domains */
	char rack[STELE_NAME_MAX];
	struct stele_public_key tls[2];
	uint8_t ntls;             /* two while rotating */
	char addr[80];            /* from the state part; "" when it has none */
};

struct stele_client_entry {
	char name[STELE_NAME_MAX];
	struct stele_public_key tls[2];
	uint8_t ntls;
	struct stele_public_key depositor; /* all zero: it deposits nothing */
	uint32_t roles;
	bool revoked;             /* known once, not any more: its deposits stay readable (P5) */
};

struct stele_disk_entry { /* a slot of a node: what placement names; the store in it may be replaced */
	uint16_t node;
	uint16_t slot;
	uint32_t weight_milli;    /* 1000: one unit */
	bool out;
};

struct stele_map {
	struct stele_hash cluster;
	uint64_t root_epoch, state_epoch;
	uint64_t grace_s;         /* M5: down this long is out */
	uint8_t threshold;        /* root signatures needed for the next root */
	uint8_t nroot_keys;
	struct stele_public_key root_key[8];
	struct stele_public_key state_key;
	struct stele_public_key log_key;
	char log_origin[128];     /* the checkpoint's origin line */
	uint16_t npools, nnodes, nclients;
	uint32_t ndisks;
	struct stele_pool *pool;          /* ascending by id */
	struct stele_node_entry *node;    /* ascending by id */
	struct stele_client_entry *client; /* ascending by name */
	struct stele_disk_entry *disk;    /* ascending by (node, slot) */
	struct stele_hash hash;           /* of both bodies: the same epochs with another hash are an alarm */
	/* private */
	struct stele_hash root_hash, state_hash; /* of a body each */
	int refs;
	char *file; /* the JSON it was made from */
	size_t file_len;
};

/* One number for requests and replies: both epochs fold into it (root << 32 | state). */
uint64_t stele_map_epoch(const struct stele_map *map);

/* Parses and verifies a cluster file: signatures, references, ranges. trusted (may be NULL): the map
 * held so far; the new root must be signed by its root keys when the root epoch differs, both epochs must not
 * go back (STALE), equal epochs must be equal maps (CORRUPT, alarm). CORRUPT, DENIED (signature), VERSION. */
STELE_MUST_USE enum stele_err stele_map_parse(const char *json, size_t len,
					      const struct stele_map *trusted,
					      struct stele_map **out);
struct stele_map *stele_map_ref(struct stele_map *map);
void stele_map_unref(struct stele_map *map); /* accepts NULL */
/* The JSON, for MAP_GET and the newest-map file. */
const char *stele_map_json(const struct stele_map *map, size_t *len);

const struct stele_pool *stele_map_pool(const struct stele_map *map, uint16_t id);      /* or NULL */
const struct stele_pool *stele_map_pool_named(const struct stele_map *map, const char *name);
const struct stele_node_entry *stele_map_node(const struct stele_map *map, uint16_t id); /* or NULL */
const struct stele_client_entry *stele_map_depositor(const struct stele_map *map,
						     const struct stele_public_key *key);
/* Fills who from who->tls: a node, a client, or roles 0. */
void stele_map_identify(const struct stele_map *map, struct stele_who *who);

/* ---- making maps (dev up, node and pool administration) ---- */
/* Writes the canonical bodies of a map whose fields the caller filled (file, hash, refs unused), signs them and
 * returns the cluster file (malloc'ed). With root_keys n == 0 the root envelope is taken from `from`. */
STELE_MUST_USE enum stele_err stele_map_compose(const struct stele_map *fields,
						const struct stele_map *from,
						const struct stele_secret_key *root_keys, uint32_t n,
						const struct stele_secret_key *state_key,
						char **json, size_t *len);
/* A root's usual pools for a code: record (rep-(t+1)), log, ledger, evidence; pgs by the number of disks. */
void stele_map_default_pools(const struct stele_code_id *code, uint32_t t, uint32_t ndisks,
			     struct stele_pool out[4]);

#endif
