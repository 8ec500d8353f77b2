/* Questions to all nodes at once, or to one. What they mean is the asker's business; replies are handed on as they come. */
#include "net/client/admin.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/client/facade_private.h"
#include "net/client/session_private.h"

#define REPLY_MAX STELE_MAP_MAX

struct ask {
	struct stele_job job;
	struct stele *stele;
	struct stele_job_timer timer; /* of a pause */
	const char *json;
	uint64_t timeout_ns;
	struct stele_node_answer *answer;
	uint32_t n, waiting;
};

static void over(struct stele_job *job)
{
	stele_wait_over(((struct ask *)job)->stele);
}

static void cancel(struct stele_job *job)
{
	stele_job_over(job);
}

static void answer_done(struct ask *a)
{
	if (--a->waiting == 0)
		stele_job_over(&a->job);
}

static void answered(struct stele_job_call *c)
{
	struct ask *a = (struct ask *)c->job;
	struct stele_node_answer *answer = &a->answer[c->at];
	answer->err = c->call.err;
	snprintf(answer->detail, sizeof(answer->detail), "%s", c->call.detail);
	if (c->call.err == STELE_OK) {
		answer->body = malloc(c->call.reply_body_len + 1);
		if (answer->body) {
			memcpy(answer->body, c->reply, c->call.reply_body_len);
			answer->body[c->call.reply_body_len] = '\0';
		} else {
			answer->err = STELE_ERR_NOMEM;
			snprintf(answer->detail, sizeof(answer->detail), "out of memory");
		}
	}
	answer_done(a);
}

static void ask_node(struct ask *a, uint32_t i, uint16_t op)
{
	struct stele_node_answer *answer = &a->answer[i];
	struct stele_job_call *c = stele_job_call_new(&a->job, answer->node, op, 0, REPLY_MAX);
	if (!c) {
		answer->err = STELE_ERR_NOMEM;
		snprintf(answer->detail, sizeof(answer->detail), "out of memory");
		answer_done(a);
		return;
	}
	c->at = i;
	if (a->json)
		c->body = (struct iovec){.iov_base = (void *)a->json, .iov_len = strlen(a->json)};
	stele_job_call_send(c, a->timeout_ns, 0, answered);
}

/* The nodes to be asked; only: one of them, by its number, 0: all. False: out of memory. */
static bool choose(struct ask *a, const struct stele_map *map, uint16_t only)
{
	a->answer = calloc(map->nnodes ? map->nnodes : 1, sizeof(*a->answer));
	if (!a->answer)
		return false;
	for (uint32_t i = 0; i < map->nnodes; i++) {
		const struct stele_node_entry *node = &map->node[i];
		struct stele_node_answer *answer = &a->answer[a->n];
		if (only && node->id != only)
			continue;
		answer->node = node->id;
		memcpy(answer->name, node->name, sizeof(answer->name));
		memcpy(answer->addr, node->addr, sizeof(answer->addr));
		a->n++;
	}
	return true;
}

static enum stele_err ask(struct ask *a, uint16_t only, uint16_t op)
{
	struct stele *s = a->stele;
	if (!choose(a, stele_map_of(s), only))
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	stele_job_start(&a->job, s->session, cancel, over);
	a->waiting = a->n + 1; /* one for this loop */
	for (uint32_t i = 0; i < a->n; i++)
		ask_node(a, i, op);
	answer_done(a);
	stele_wait(s, &a->job);
	if (atomic_load(&s->interrupted)) {
		stele_answers_free(a->answer, a->n);
		return stele_fail(STELE_ERR_CANCELLED, "interrupted");
	}
	return STELE_OK;
}

enum stele_err stele_ask_nodes(struct stele *s, uint16_t op, const char *json, uint64_t timeout_ns,
                               struct stele_node_answer **answers, uint32_t *n)
{
	struct ask a = {.stele = s, .json = json, .timeout_ns = timeout_ns};
	STELE_TRY(ask(&a, 0, op));
	*answers = a.answer;
	*n = a.n;
	return STELE_OK;
}

enum stele_err stele_ask_node(struct stele *s, uint16_t node, uint16_t op, const char *json,
                              uint64_t timeout_ns, struct stele_node_answer **answer)
{
	struct ask a = {.stele = s, .json = json, .timeout_ns = timeout_ns};
	if (!node || !stele_map_node(stele_map_of(s), node))
		return stele_fail(STELE_ERR_USAGE, "the cluster map has no node %u", node);
	STELE_TRY(ask(&a, node, op));
	*answer = a.answer;
	return STELE_OK;
}

void stele_answers_free(struct stele_node_answer *answers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free(answers[i].body);
	free(answers);
}

static void pause_over(struct stele_job_timer *t)
{
	stele_job_over(t->job);
}

void stele_pause(struct stele *s, uint64_t ns)
{
	struct ask a = {.stele = s};
	stele_job_start(&a.job, s->session, cancel, over);
	stele_job_timer_set(&a.timer, &a.job, stele_env_now(s->env) + ns, pause_over);
	stele_wait(s, &a.job);
}
