/*
 * One peer per node of the map, made at the first call to it. Knows the map's addresses and keys;
 * connecting, deadlines and frames are net/wire/peer.c's.
 */
#include "net/cluster/peers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* A connection; from being replaced to being closed it belongs to nobody's table. */
struct link {
	struct stele_peers *peers;
	struct stele_peer *peer;
};

struct stele_peers {
	struct stele_env *env;
	struct stele_transport_factory *transport;
	struct stele_map *map;
	struct stele_recall *recall;
	struct link **link;        /* of each node of the map, in its order; NULL: not called yet */
	struct stele_call *failed; /* wait for their callback */
	struct stele_op soon;
	uint32_t busy; /* links being closed, calls waiting to fail, and one while close runs */
	void (*done)(void *ctx);
	void *ctx;
};

static struct link **links_alloc(const struct stele_map *map)
{
	return calloc(map->nnodes ? map->nnodes : 1, sizeof(struct link *));
}

enum stele_err stele_peers_create(struct stele_env *env, struct stele_transport_factory *transport,
                                  struct stele_map *map, struct stele_peers **out)
{
	struct stele_peers *p = calloc(1, sizeof(*p));
	struct link **link = links_alloc(map);
	if (!p || !link) {
		free(p);
		free(link);
		return stele_fail(STELE_ERR_NOMEM, "peers: out of memory");
	}
	*p = (struct stele_peers){
	    .env = env, .transport = transport, .map = stele_map_ref(map), .link = link};
	*out = p;
	return STELE_OK;
}

struct stele_map *stele_peers_map(struct stele_peers *p)
{
	return p->map;
}

void stele_peers_set_recall(struct stele_peers *p, struct stele_recall *recall)
{
	p->recall = recall;
}

struct stele_recall *stele_peers_recall(const struct stele_peers *p)
{
	return p->recall;
}

/* ---- closing ---- */

static void release(struct stele_peers *p)
{
	assert(p->busy > 0);
	if (--p->busy == 0 && p->done)
		p->done(p->ctx); /* p may be gone now */
}

static void link_closed(void *ctx)
{
	struct link *link = ctx;
	struct stele_peers *p = link->peers;
	stele_peer_destroy(link->peer);
	free(link);
	release(p);
}

static void link_close(struct stele_peers *p, struct link *link)
{
	if (!link)
		return;
	p->busy++;
	stele_peer_close(link->peer, link_closed, link);
}

void stele_peers_close(struct stele_peers *p, void (*done)(void *ctx), void *ctx)
{
	assert(!p->done);
	p->done = done;
	p->ctx = ctx;
	p->busy++;
	for (uint32_t i = 0; i < p->map->nnodes; i++) {
		link_close(p, p->link[i]);
		p->link[i] = NULL;
	}
	release(p);
}

void stele_peers_destroy(struct stele_peers *p)
{
	assert(p->busy == 0);
	for (uint32_t i = 0; i < p->map->nnodes; i++)
		assert(!p->link[i]);
	stele_map_unref(p->map);
	free(p->link);
	free(p);
}

/* ---- the map ---- */

static bool same_address(const struct stele_node_entry *a, const struct stele_node_entry *b)
{
	if (strcmp(a->addr, b->addr) != 0 || a->ntls != b->ntls)
		return false;
	for (uint32_t i = 0; i < a->ntls; i++)
		if (!stele_public_key_equal(&a->tls[i], &b->tls[i]))
			return false;
	return true;
}

void stele_peers_set_map(struct stele_peers *p, struct stele_map *map)
{
	struct link **link = links_alloc(map);
	if (!link)
		return; /* the old map stays; whoever is called under it says "stale" */
	for (uint32_t i = 0; i < p->map->nnodes; i++) {
		const struct stele_node_entry *now = stele_map_node(map, p->map->node[i].id);
		if (now && same_address(&p->map->node[i], now))
			link[now - map->node] = p->link[i];
		else
			link_close(p, p->link[i]);
	}
	free(p->link);
	p->link = link;
	stele_map_ref(map);
	stele_map_unref(p->map);
	p->map = map;
}

/* ---- calls ---- */

static void call_failed(struct stele_op *op)
{
	struct stele_peers *p = op->ctx;
	struct stele_call *call = p->failed, *next;
	p->failed = NULL;
	for (; call; call = next) {
		next = call->priv.next;
		call->cb(call);
		release(p);
	}
}

/* For calls that no peer takes; the detail says why. */
static void fail_call(struct stele_peers *p, struct stele_call *call, enum stele_err err)
{
	call->err = err;
	stele_detail_copy(call->detail);
	call->reply_head = NULL;
	call->reply_head_len = 0;
	call->reply_body_len = 0;
	call->reply_epoch = 0;
	memset(&call->priv, 0, sizeof(call->priv)); /* not under way: cancel leaves it alone */
	call->priv.next = p->failed;
	p->failed = call;
	p->busy++;
	if (stele_op_pending(&p->soon))
		return;
	p->soon = (struct stele_op){.kind = STELE_OP_TIMER, .cb = call_failed, .ctx = p};
	stele_env_submit(p->env, &p->soon);
}

static enum stele_err link_open(struct stele_peers *p, const struct stele_node_entry *node,
                                struct link **out)
{
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return stele_fail(STELE_ERR_NOMEM, "node %u: out of memory", node->id);
	struct stele_peer_opts opts = {.env = p->env,
	                               .transport = p->transport,
	                               .addr = node->addr,
	                               .nexpect = node->ntls,
	                               .cluster = p->map->cluster};
	memcpy(opts.expect, node->tls, sizeof(opts.expect));
	link->peers = p;
	enum stele_err err = stele_peer_create(&opts, &link->peer);
	if (err != STELE_OK) {
		free(link);
		return stele_wrap(err, "node %u", node->id);
	}
	*out = link;
	return STELE_OK;
}

static struct link **slot_of(const struct stele_peers *p, uint16_t node)
{
	const struct stele_node_entry *entry = stele_map_node(p->map, node);
	return entry ? &p->link[entry - p->map->node] : NULL;
}

void stele_peers_call(struct stele_peers *p, uint16_t node, struct stele_call *call)
{
	struct link **link = slot_of(p, node);
	const struct stele_node_entry *entry = stele_map_node(p->map, node);
	enum stele_err err = STELE_OK;
	if (p->done)
		err = stele_fail(STELE_ERR_CANCELLED, "node %u: closing", node);
	else if (!entry || entry->ntls == 0)
		err = stele_fail(STELE_ERR_UNAVAILABLE, "node %u: the cluster map has no such node",
		                 node);
	else if (entry->addr[0] == '\0')
		err = stele_fail(STELE_ERR_UNAVAILABLE,
		                 "node %u (%s): the cluster map has no address", node, entry->name);
	else if (!*link)
		err = link_open(p, entry, link);
	if (err != STELE_OK) {
		fail_call(p, call, err);
		return;
	}
	call->epoch = stele_map_epoch(p->map);
	stele_peer_call((*link)->peer, call);
}

void stele_peers_cancel(struct stele_peers *p, uint16_t node, struct stele_call *call)
{
	struct link **link = slot_of(p, node);
	/* A call whose link was replaced, or that has none, is ending by itself. */
	if (link && *link)
		stele_peer_cancel((*link)->peer, call);
}
