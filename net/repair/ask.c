/* Fans one question out over a window and counts the answers. Knows nothing of what is asked. */
#include "net/repair/ask.h"

#define ASK_NS (10ull * 1000 * 1000 * 1000)

static void answered(struct stele_call *call)
{
	struct stele_ask_one *one = call->ctx;
	struct stele_ask *ask = one->ask;
	if (call->err == STELE_OK && ask->answer(ask, one->at, call))
		ask->answered++;
	if (--ask->waiting == 0)
		ask->cb(ask);
}

void stele_ask_start(struct stele_ask *ask)
{
	ask->answered = 0;
	ask->waiting = ask->window.n;
	if (ask->window.n == 0) {
		ask->cb(ask);
		return;
	}
	for (uint32_t i = 0; i < ask->window.n; i++) {
		struct stele_ask_one *one = &ask->one[i];
		struct stele_writer w = stele_writer(one->head, sizeof(one->head));
		one->ask = ask;
		one->at = i;
		ask->head(ask, i, &w);
		one->iov = (struct iovec){.iov_base = ask->into + (size_t)i * ask->into_len,
		                          .iov_len = ask->into_len};
		one->call = (struct stele_call){
		    .op = ask->op,
		    .head = one->head,
		    .head_len = (uint32_t)stele_written(&w),
		    .into = ask->into ? &one->iov : NULL,
		    .ninto = ask->into ? 1 : 0,
		    .timeout_ns = ASK_NS,
		    .cb = answered,
		    .ctx = one,
		};
	}
	for (uint32_t i = 0; i < ask->window.n; i++)
		stele_peers_call(ask->peers, ask->window.disk[i].node, &ask->one[i].call);
}
