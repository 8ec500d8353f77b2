/* Merges the nodes' inventories: a group counts once, by the worst that any primary says of it. Prints nothing. */
#include "tools/health.h"

#include <stdlib.h>

#include "net/cluster/place.h"
#include "net/wire/ops_format.h"

#define STATUS_NS (60ull * 1000 * 1000 * 1000)

struct group { /* what is known of one placement group */
	bool seen;
	uint32_t silent; /* disks of its window that do not answer */
	int margin;
	uint64_t things, degraded, bytes;
};

static void merge_row(struct group *g, const json_t *row)
{
	json_int_t margin = json_integer_value(json_array_get(row, 4));
	uint64_t things = (uint64_t)json_integer_value(json_array_get(row, 2));
	uint32_t silent = (uint32_t)(json_integer_value(json_array_get(row, 5)) -
	                             json_integer_value(json_array_get(row, 6)));
	/* Two primaries at once (R1): believe the one that sees more, and the worse margin. */
	if (!g->seen || things > g->things) {
		g->things = things;
		g->degraded = (uint64_t)json_integer_value(json_array_get(row, 3));
		g->bytes = (uint64_t)json_integer_value(json_array_get(row, 7));
	}
	if (!g->seen || margin < g->margin)
		g->margin = (int)margin;
	if (!g->seen || silent < g->silent)
		g->silent = silent;
	g->seen = true;
}

static void merge_pool(struct stele_health_report *r, const struct stele_pool *pool,
                       struct group *group, struct stele_pool_health *out)
{
	uint32_t n = (uint32_t)pool->code.k + pool->code.m;
	out->groups = 1u << pool->pgs_log2;
	out->t = stele_code_id_t(&pool->code);
	out->margin = STELE_MARGIN_NONE;
	memcpy(out->name, pool->name, sizeof(out->name));
	memset(group, 0, out->groups * sizeof(*group));
	for (uint32_t i = 0; i < r->nnodes; i++) {
		size_t at;
		json_t *row;
		json_array_foreach(json_object_get(r->json[i], "health"), at, row)
		{
			json_int_t pg = json_integer_value(json_array_get(row, 1));
			if (json_integer_value(json_array_get(row, 0)) == pool->id && pg >= 0 &&
			    pg < (json_int_t)out->groups)
				merge_row(&group[pg], row);
		}
	}
	for (uint32_t i = 0; i < out->groups; i++) {
		/* What nobody lists does not exist for its primary: it may be whole on the silent. */
		out->groups_blind += group[i].seen && group[i].silent >= n;
		out->groups_unseen += !group[i].seen;
		out->things += group[i].things;
		out->degraded += group[i].degraded;
		out->bytes += group[i].bytes;
		if (group[i].seen && group[i].margin < out->margin)
			out->margin = group[i].margin;
	}
}

static enum stele_err merge(struct stele_health_report *r, const struct stele_map *map)
{
	struct group *group = calloc(STELE_PGS_MAX, sizeof(*group));
	r->pool = calloc(map->npools ? map->npools : 1, sizeof(*r->pool));
	if (!group || !r->pool) {
		free(group);
		return stele_fail(STELE_ERR_NOMEM, "status: out of memory");
	}
	r->npools = map->npools;
	r->margin = STELE_MARGIN_NONE;
	for (uint32_t i = 0; i < map->npools; i++) {
		struct stele_pool_health *p = &r->pool[i];
		merge_pool(r, &map->pool[i], group, p);
		r->things += p->things;
		r->degraded += p->degraded;
		r->blind += p->groups_unseen + p->groups_blind;
		if (p->margin < r->margin)
			r->margin = p->margin;
	}
	free(group);
	return STELE_OK;
}

enum stele_err stele_health_ask(struct stele *s, struct stele_health_report *out)
{
	*out = (struct stele_health_report){0};
	STELE_TRY(stele_ask_nodes(s, STELE_OPCODE_STATUS, "{\"health\":true}", STATUS_NS,
	                          &out->answer, &out->nnodes));
	out->json = calloc(out->nnodes ? out->nnodes : 1, sizeof(json_t *));
	if (!out->json) {
		stele_health_finish(out);
		return stele_fail(STELE_ERR_NOMEM, "status: out of memory");
	}
	for (uint32_t i = 0; i < out->nnodes; i++) {
		struct stele_node_answer *a = &out->answer[i];
		if (a->err != STELE_OK)
			continue;
		out->json[i] = a->body ? json_loads(a->body, 0, NULL) : NULL;
		if (out->json[i])
			out->up++;
	}
	enum stele_err err = STELE_OK;
	if (out->up == 0 && out->nnodes && out->answer[0].err == STELE_ERR_DENIED)
		err = stele_fail(STELE_ERR_DENIED, "%s", out->answer[0].detail);
	else if (out->up == 0)
		err = stele_fail(STELE_ERR_UNAVAILABLE,
		                 "none of %u nodes answers; the first: %s (%s): %.200s",
		                 out->nnodes, out->nnodes ? out->answer[0].name : "-",
		                 out->nnodes ? out->answer[0].addr : "-",
		                 out->nnodes ? out->answer[0].detail : "the map has no nodes");
	if (err == STELE_OK)
		err = merge(out, stele_map_of(s));
	if (err != STELE_OK)
		stele_health_finish(out);
	return err;
}

void stele_health_finish(struct stele_health_report *r)
{
	for (uint32_t i = 0; r->json && i < r->nnodes; i++)
		json_decref(r->json[i]);
	free(r->json);
	free(r->pool);
	stele_answers_free(r->answer, r->nnodes);
	*r = (struct stele_health_report){0};
}

const char *stele_health_word(const struct stele_health_report *r)
{
	if (r->margin < 0)
		return "unrecoverable";
	if (r->blind > 0)
		return "unknown";
	if (r->degraded > 0)
		return "degraded";
	return r->things == 0 ? "empty" : "ok";
}
