/*
 * The state part's codec. Does not look at signatures (envelope.c), nor at what came before
 * (map.c).
 */
#include "net/cluster/state.h"

#include <stdlib.h>

#include "storage/base/text.h"

#define WEIGHT_MAX 1000000000u
#define SLOT_MAX   63u /* a PING lists up to 64 disks */

static const char *const disk_words[] = {"in", "out"};

/* "host:port" without blanks, the port a decimal of 1 to 65535 */
static bool addr_ok(const char *addr)
{
	const char *colon = strrchr(addr, ':');
	uint64_t port;
	for (const char *c = addr; *c; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	return colon && colon != addr &&
	       stele_text_u64(colon + 1, strlen(colon + 1), 65535, &port) && port > 0;
}

static void read_addr(struct stele_lines *l, struct stele_map *map, uint32_t *after)
{
	uint32_t id = (uint32_t)stele_lines_u64(l, "node", 1, UINT16_MAX);
	/* found in the map's own array, which is not const here */
	const struct stele_node_entry *found = stele_map_node(map, (uint16_t)id);
	char addr[sizeof(found->addr)];
	stele_lines_word(l, "address", addr, sizeof(addr));
	stele_lines_done(l);
	if (l->err)
		return;
	if (!found)
		stele_lines_fail(l, "node %u is not in the root part", id);
	else if (id <= *after)
		stele_lines_fail(l, "node %u is not greater than %u before it", id, *after);
	else if (!addr_ok(addr))
		stele_lines_fail(l, "\"%s\" is not host:port", addr);
	else
		strcpy(map->node[found - map->node].addr, addr);
	*after = id;
}

static void read_disk(struct stele_lines *l, const struct stele_map *map,
                      struct stele_disk_entry *d, const struct stele_disk_entry *before)
{
	d->node = (uint16_t)stele_lines_u64(l, "node", 1, UINT16_MAX);
	d->slot = (uint16_t)stele_lines_u64(l, "slot", 0, SLOT_MAX);
	d->weight_milli = (uint32_t)stele_lines_u64(l, "weight", 0, WEIGHT_MAX);
	d->out = stele_lines_choice(l, "state", disk_words, 2) == 1;
	stele_lines_done(l);
	if (l->err)
		return;
	if (!stele_map_node(map, d->node))
		stele_lines_fail(l, "node %u is not in the root part", d->node);
	else if (before &&
	         (d->node < before->node || (d->node == before->node && d->slot <= before->slot)))
		stele_lines_fail(l, "disk %u:%u is not in ascending order", d->node, d->slot);
}

/* M3: the state key alone can declare one failure domain out: a host, or a rack where every pool is
 * placed by racks. */
static enum stele_err check_out(const struct stele_map *map)
{
	enum stele_domain level = STELE_DOMAIN_RACK;
	for (uint32_t i = 0; i < map->npools; i++)
		if (map->pool[i].domain < STELE_DOMAIN_RACK)
			level = STELE_DOMAIN_HOST;
	const char *first = NULL;
	for (uint32_t i = 0; i < map->ndisks; i++) {
		const struct stele_node_entry *n = stele_map_node(map, map->disk[i].node);
		const char *domain = level == STELE_DOMAIN_RACK ? n->rack : n->host;
		if (!map->disk[i].out)
			continue;
		if (first && strcmp(first, domain) != 0)
			return stele_fail(
			    STELE_ERR_DENIED,
			    "state part: disks of \"%s\" and of \"%s\" are out: the state "
			    "key may declare one failure domain out, remove the other "
			    "from the root part",
			    first, domain);
		first = domain;
	}
	return STELE_OK;
}

enum stele_err stele_state_decode(const char *body, size_t len, struct stele_map *map)
{
	struct stele_lines l = stele_lines_read("state part", body, len);
	struct stele_hash cluster;
	uint32_t after = 0;
	stele_lines_kind(&l, "state");
	stele_lines_need(&l, "cluster");
	stele_lines_hex(&l, "id", cluster.b, STELE_HASH_LEN);
	stele_lines_done(&l);
	if (!l.err && !stele_hash_equal(&cluster, &map->cluster))
		stele_lines_fail(&l, "is of another cluster than the root part");
	stele_lines_need(&l, "epoch");
	map->state_epoch = stele_lines_u64(&l, "epoch", 1, UINT32_MAX);
	stele_lines_done(&l);
	while (stele_lines_take(&l, "addr"))
		read_addr(&l, map, &after);
	STELE_TRY(l.err);
	uint32_t count = stele_lines_count(l.p, (size_t)(l.end - l.p), "disk");
	if (count > STELE_DISKS_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "state part: %u disks, at most %u", count,
		                  STELE_DISKS_MAX);
	map->disk = calloc(count ? count : 1, sizeof(*map->disk));
	if (!map->disk)
		return stele_fail(STELE_ERR_NOMEM, "state part: out of memory");
	while (map->ndisks < count && stele_lines_take(&l, "disk")) {
		struct stele_disk_entry *d = &map->disk[map->ndisks];
		read_disk(&l, map, d, map->ndisks ? d - 1 : NULL);
		map->ndisks++;
	}
	STELE_TRY(stele_lines_finish(&l));
	return check_out(map);
}

void stele_state_encode(const struct stele_map *map, struct stele_lines_out *o)
{
	stele_lines_add(o, "stele.dev/state/v1\n");
	stele_lines_add_hex(o, "cluster ", map->cluster.b, STELE_HASH_LEN);
	stele_lines_add(o, "\nepoch %llu\n", (unsigned long long)map->state_epoch);
	for (uint32_t i = 0; i < map->nnodes; i++) {
		if (!map->node[i].addr[0])
			continue;
		if (!o->err && !addr_ok(map->node[i].addr))
			o->err =
			    stele_fail(STELE_ERR_INVALID, "node %u: \"%.79s\" is not host:port",
			               map->node[i].id, map->node[i].addr);
		stele_lines_add(o, "addr %u %s\n", map->node[i].id, map->node[i].addr);
	}
	for (uint32_t i = 0; i < map->ndisks; i++)
		stele_lines_add(o, "disk %u %u %u %s\n", map->disk[i].node, map->disk[i].slot,
		                map->disk[i].weight_milli, disk_words[map->disk[i].out]);
}
