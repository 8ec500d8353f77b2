/* Sends one request to every node and waits for all. What the JSON says is the caller's business. */
#include "net/client/admin.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/client/session.h"

#define BODY_MAX (4u << 20)

struct ask {
	struct stele_node_answer *answer;
	struct all *all;
	struct stele_call call;
	struct iovec request, reply;
};

struct all {
	struct stele_env *env;
	struct ask *ask;
	uint32_t waiting;
};

static void answered(struct stele_call *call)
{
	struct ask *a = call->ctx;
	a->answer->err = call->err;
	snprintf(a->answer->detail, sizeof(a->answer->detail), "%s", call->detail);
	if (call->err == STELE_OK)
		a->answer->body[call->reply_body_len] = '\0';
	if (--a->all->waiting == 0)
		stele_env_stop(a->all->env);
}

static bool prepare(struct ask *a, struct all *all, struct stele_node_answer *answer,
                    const struct stele_node_entry *node, uint16_t op, const char *json,
                    uint64_t timeout_ns)
{
	a->all = all;
	a->answer = answer;
	answer->node = node->id;
	memcpy(answer->name, node->name, sizeof(answer->name));
	memcpy(answer->addr, node->addr, sizeof(answer->addr));
	answer->body = malloc(BODY_MAX + 1);
	a->request = (struct iovec){.iov_base = (void *)(uintptr_t)json, .iov_len = strlen(json)};
	a->reply = (struct iovec){.iov_base = answer->body, .iov_len = BODY_MAX};
	a->call = (struct stele_call){
	    .op = op,
	    .body = &a->request,
	    .nbody = 1,
	    .into = &a->reply,
	    .ninto = 1,
	    .timeout_ns = timeout_ns,
	    .cb = answered,
	    .ctx = a,
	};
	return answer->body != NULL;
}

enum stele_err stele_ask_nodes(struct stele *s, uint16_t op, const char *json, uint64_t timeout_ns,
                               struct stele_node_answer **answers, uint32_t *n)
{
	struct stele_session *session = stele_session_of(s);
	struct stele_map *map = stele_map_ref(stele_session_map(session));
	struct all all = {.env = stele_session_env(session), .waiting = map->nnodes};
	enum stele_err err = STELE_OK;
	*n = map->nnodes;
	*answers = calloc(*n ? *n : 1, sizeof(**answers));
	all.ask = calloc(*n ? *n : 1, sizeof(*all.ask));
	if (!*answers || !all.ask)
		err = STELE_ERR_NOMEM;
	for (uint32_t i = 0; i < *n && err == STELE_OK; i++)
		if (!prepare(&all.ask[i], &all, &(*answers)[i], &map->node[i], op, json,
		             timeout_ns))
			err = STELE_ERR_NOMEM;
	if (err == STELE_OK && *n > 0) {
		for (uint32_t i = 0; i < *n; i++)
			stele_peers_call(stele_session_peers(session), map->node[i].id,
			                 &all.ask[i].call);
		stele_env_run(all.env);
	}
	for (uint32_t i = 0; err == STELE_OK && i < *n; i++)
		if ((*answers)[i].err != STELE_OK) {
			free((*answers)[i].body);
			(*answers)[i].body = NULL;
		}
	free(all.ask);
	stele_map_unref(map);
	if (err != STELE_OK) {
		stele_answers_free(*answers, *answers ? *n : 0);
		*answers = NULL;
		*n = 0;
		return stele_fail(err, "asking the nodes: out of memory");
	}
	return STELE_OK;
}

void stele_answers_free(struct stele_node_answer *answers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free(answers[i].body);
	free(answers);
}

static void woke(struct stele_op *op)
{
	stele_env_stop(op->ctx);
}

void stele_pause(struct stele *s, uint64_t ns)
{
	struct stele_env *env = stele_session_env(stele_session_of(s));
	struct stele_op timer = {
	    .kind = STELE_OP_TIMER, .off = stele_env_now(env) + ns, .cb = woke, .ctx = env};
	stele_env_submit(env, &timer);
	stele_env_run(env);
}
