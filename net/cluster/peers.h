/*
 * Connections to the nodes of a map: one peer per node, made when first asked for, remade when the map gives a
 * node another address or keys. Used by clients and by nodes alike. One loop.
 */
#ifndef NET_CLUSTER_PEERS_H
#define NET_CLUSTER_PEERS_H

#include "net/cluster/map.h"
#include "net/wire/peer.h"

struct stele_peers;
struct stele_recall;

STELE_MUST_USE enum stele_err stele_peers_create(struct stele_env *env,
						 struct stele_transport_factory *transport,
						 struct stele_map *map, struct stele_peers **out);
/* Takes a reference to the new map; connections to nodes that are gone or whose keys changed are closed. */
void stele_peers_set_map(struct stele_peers *p, struct stele_map *map);
struct stele_map *stele_peers_map(struct stele_peers *p); /* borrowed */
/* What roll calls tell and remember (net/repair/recall.h); the caller's, outlives p. NULL: nothing, as from the start. */
void stele_peers_set_recall(struct stele_peers *p, struct stele_recall *recall);
struct stele_recall *stele_peers_recall(const struct stele_peers *p);
/* Calls the node; epoch is filled from the map. An unknown node or one without an address: UNAVAILABLE, by callback. */
void stele_peers_call(struct stele_peers *p, uint16_t node, struct stele_call *call);
void stele_peers_cancel(struct stele_peers *p, uint16_t node, struct stele_call *call);
void stele_peers_close(struct stele_peers *p, void (*done)(void *ctx), void *ctx);
void stele_peers_destroy(struct stele_peers *p);

#endif
