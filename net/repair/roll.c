/* Asks all nodes at once what their disks are, and gathers the answers. What follows from them is
 * the caller's. */
#include "net/repair/roll.h"

#include <stdlib.h>

#include "net/repair/recall.h"

#define PING_NS 1000000000ull

struct stele_roll_ping {
	struct stele_roll *roll;
	struct stele_call call;
	uint8_t told[STELE_PING_TOLD_MAX];
};

static void answer(struct stele_roll *roll, uint16_t node, const struct stele_head_ping *h)
{
	for (uint32_t i = 0; i < roll->map->ndisks; i++) {
		const struct stele_disk_entry *e = &roll->map->disk[i];
		for (uint32_t d = 0; e->node == node && d < h->ndisks; d++)
			if (h->disk[d].slot == e->slot)
				roll->disk[i] = (struct stele_roll_disk){
				    (enum stele_slot_state)h->disk[d].state, h->disk[d].uuid};
	}
}

static void pong(struct stele_call *call)
{
	struct stele_roll_ping *p = call->ctx;
	struct stele_roll *roll = p->roll;
	uint16_t node = roll->map->node[p - roll->ping].id;
	struct stele_recall *recall = stele_peers_recall(roll->peers);
	struct stele_head_ping *h = malloc(sizeof(*h));
	if (h && call->err == STELE_OK &&
	    stele_head_ping_decode(call->reply_head, call->reply_head_len, h) == STELE_OK) {
		answer(roll, node, h);
		if (recall)
			stele_recall_heard(recall, node, h);
	}
	free(h);
	if (--roll->waiting == 0)
		roll->cb(roll);
}

enum stele_err stele_roll_start(struct stele_roll *roll)
{
	struct stele_map *map = stele_peers_map(roll->peers);
	if (map->nnodes == 0)
		return stele_fail(STELE_ERR_USAGE, "the cluster map has no nodes");
	roll->disk = calloc(map->ndisks ? map->ndisks : 1, sizeof(*roll->disk));
	roll->ping = calloc(map->nnodes, sizeof(*roll->ping));
	if (!roll->disk || !roll->ping) {
		free(roll->disk);
		free(roll->ping);
		roll->disk = NULL;
		roll->ping = NULL;
		return stele_fail(STELE_ERR_NOMEM, "roll call: out of memory");
	}
	struct stele_recall *recall = stele_peers_recall(roll->peers);
	roll->map = stele_map_ref(map);
	roll->waiting = map->nnodes;
	for (uint32_t i = 0; i < map->nnodes; i++) {
		struct stele_roll_ping *p = &roll->ping[i];
		p->roll = roll;
		p->call = (struct stele_call){
		    .op = STELE_OPCODE_PING, .timeout_ns = PING_NS, .cb = pong, .ctx = p};
		if (recall) {
			p->call.head = p->told;
			p->call.head_len = stele_recall_tell(recall, map->node[i].id, p->told);
		}
		stele_peers_call(roll->peers, map->node[i].id, &p->call);
	}
	return STELE_OK;
}

void stele_roll_finish(struct stele_roll *roll)
{
	stele_map_unref(roll->map);
	free(roll->disk);
	free(roll->ping);
	roll->map = NULL;
	roll->disk = NULL;
	roll->ping = NULL;
}

uint32_t stele_roll_index(const struct stele_map *map, struct stele_window_disk d)
{
	uint32_t lo = 0, hi = map->ndisks;
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		const struct stele_disk_entry *e = &map->disk[mid];
		if (e->node < d.node || (e->node == d.node && e->slot < d.slot))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct stele_roll_disk *stele_roll_disk(const struct stele_roll *roll,
                                              struct stele_window_disk disk)
{
	uint32_t i = stele_roll_index(roll->map, disk);
	const struct stele_disk_entry *e = i < roll->map->ndisks ? &roll->map->disk[i] : NULL;
	return e && e->node == disk.node && e->slot == disk.slot ? &roll->disk[i] : NULL;
}
