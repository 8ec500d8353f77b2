/* One deposit, one window, one disk after another. What is done about the verdict is the
 * caller's. */
#include "net/repair/look.h"

#define LOOK_NS 3000000000ull

static void ask_next(struct stele_look *look);

static void end(struct stele_look *look)
{
	const struct stele_pool *pool = stele_map_pool(look->roll->map, STELE_POOL_RECORD);
	look->verdict = stele_tally_verdict(&look->tally, stele_code_id_t(&pool->code));
	look->cb(look);
}

static void answered(struct stele_call *call)
{
	struct stele_look *look = call->ctx;
	if (call->err == STELE_OK && call->reply_head_len == 1) {
		look->tally.answered++;
		look->tally.records += call->reply_head[0] == STELE_REFUSAL_RECORD;
		look->tally.refusals += call->reply_head[0] == STELE_REFUSAL_MADE;
	}
	look->at++;
	ask_next(look);
}

static void ask(struct stele_look *look)
{
	const struct stele_window_disk *d = &look->window.disk[look->at];
	struct stele_head_refuse h = {
	    .slot = d->slot, .object = look->object, .deposit = look->deposit, .look = true};
	struct stele_writer w = stele_writer(look->head, sizeof(look->head));
	stele_head_refuse_encode(&h, &w);
	look->call = (struct stele_call){.op = STELE_OPCODE_REFUSE,
	                                 .head = look->head,
	                                 .head_len = (uint32_t)stele_written(&w),
	                                 .timeout_ns = LOOK_NS,
	                                 .cb = answered,
	                                 .ctx = look};
	stele_peers_call(look->peers, d->node, &look->call);
}

/* The first question is asked even of a silent disk, so that no callback comes inside a call. */
static void ask_next(struct stele_look *look)
{
	while (look->at > 0 && look->at < look->window.n &&
	       !stele_roll_serves(stele_roll_disk(look->roll, look->window.disk[look->at])))
		look->at++;
	if (look->at == look->window.n || look->tally.records > 0)
		end(look);
	else
		ask(look);
}

void stele_look_start(struct stele_look *look)
{
	const struct stele_pool *pool = stele_map_pool(look->roll->map, STELE_POOL_RECORD);
	uint64_t fence;
	stele_place(look->roll->map, pool, stele_pg_of(pool, &look->object),
	            stele_window_width(&pool->code), &look->window, &fence);
	look->tally = (struct stele_tally){.n = look->window.n};
	look->at = 0;
	ask_next(look);
}
