/* doubt -> LIST of the block's references at one disk -> a look for each deposit that is not known
 * -> the next doubt. */
#include "net/repair/judge.h"

#include <stdlib.h>

#define LIST_NS   (10ull * 1000 * 1000 * 1000)
#define REFS_MAX  64u /* references of one block that are read, */
#define LOOKS_MAX 16u /* and of these are looked after: the rest stays unknown, which keeps it */
#define INTO_LEN  (REFS_MAX * 160u)

struct stele_judge_one {
	struct stele_judge *judge;
	const struct stele_doubt *doubt; /* NULL: idle */
	struct stele_call call;
	struct iovec iov;
	uint8_t head[256];
	uint8_t into[INTO_LEN];
	struct {
		struct stele_hash deposit, object;
	} ref[LOOKS_MAX];
	uint32_t n, at;
	struct stele_look look;
};

static void pump(struct stele_judge *j);

enum stele_err stele_judge_add(struct stele_judge *j, const struct stele_doubt *doubt)
{
	if (j->n == j->cap) {
		uint32_t cap = j->cap ? 2 * j->cap : 64;
		struct stele_doubt *grown = realloc(j->doubt, cap * sizeof(*grown));
		if (!grown)
			return stele_fail(STELE_ERR_NOMEM, "judge: out of memory");
		j->doubt = grown;
		j->cap = cap;
	}
	j->doubt[j->n++] = *doubt;
	return STELE_OK;
}

static void look_next(struct stele_judge_one *one);

static void looked(struct stele_look *look)
{
	struct stele_judge_one *one = look->ctx;
	stele_verdicts_learn(one->judge->verdicts, &look->deposit, look->verdict);
	one->at++;
	look_next(one);
}

static void look_next(struct stele_judge_one *one)
{
	struct stele_judge *j = one->judge;
	/* another doubt may have had the same deposit meanwhile */
	while (one->at < one->n && stele_verdicts_get(j->verdicts, &one->ref[one->at].deposit))
		one->at++;
	if (one->at == one->n) {
		one->doubt = NULL;
		j->busy--;
		pump(j);
		return;
	}
	one->look = (struct stele_look){.peers = j->peers,
	                                .roll = j->roll,
	                                .deposit = one->ref[one->at].deposit,
	                                .object = one->ref[one->at].object,
	                                .cb = looked,
	                                .ctx = one};
	stele_look_start(&one->look);
}

static void listed(struct stele_call *call)
{
	struct stele_judge_one *one = call->ctx;
	struct stele_head_listed head = {0};
	one->n = one->at = 0;
	if (call->err != STELE_OK ||
	    stele_head_listed_decode(call->reply_head, call->reply_head_len, &head) != STELE_OK)
		head.n = 0;
	struct stele_reader r = stele_reader(one->into, head.n ? call->reply_body_len : 0);
	for (uint32_t i = 0; i < head.n && one->n < LOOKS_MAX; i++) {
		struct stele_listed it;
		stele_read_listed(&r, &it);
		if (r.bad)
			break;
		if (it.key.kind != STELE_ENTRY_REF || it.meta_len != STELE_HASH_LEN ||
		    stele_verdicts_get(one->judge->verdicts, &it.key.sub))
			continue;
		one->ref[one->n].deposit = it.key.sub;
		memcpy(one->ref[one->n++].object.b, it.meta, STELE_HASH_LEN);
	}
	look_next(one);
}

static void list(struct stele_judge_one *one)
{
	const struct stele_doubt *d = one->doubt;
	struct stele_head_list h = {.slot = d->source.slot,
	                            .pool = d->pool,
	                            .first = d->block,
	                            .last = d->block,
	                            .kinds = STELE_KIND_BIT(STELE_ENTRY_REF),
	                            .want_meta = true,
	                            .max = REFS_MAX};
	struct stele_writer w = stele_writer(one->head, sizeof(one->head));
	stele_head_list_encode(&h, &w);
	one->iov = (struct iovec){.iov_base = one->into, .iov_len = sizeof(one->into)};
	one->call = (struct stele_call){.op = STELE_OPCODE_LIST,
	                                .head = one->head,
	                                .head_len = (uint32_t)stele_written(&w),
	                                .into = &one->iov,
	                                .ninto = 1,
	                                .timeout_ns = LIST_NS,
	                                .cb = listed,
	                                .ctx = one};
	stele_peers_call(one->judge->peers, d->source.node, &one->call);
}

static void pump(struct stele_judge *j)
{
	for (uint32_t i = 0; i < STELE_JUDGES && j->next < j->n; i++) {
		if (j->one[i].doubt)
			continue;
		j->one[i].doubt = &j->doubt[j->next++];
		j->busy++;
		list(&j->one[i]);
	}
	if (j->busy > 0)
		return;
	j->n = j->next = 0;
	free(j->one);
	j->one = NULL;
	j->cb(j);
}

enum stele_err stele_judge_start(struct stele_judge *j)
{
	j->one = calloc(STELE_JUDGES, sizeof(*j->one));
	if (!j->one) {
		j->n = 0;
		return stele_fail(STELE_ERR_NOMEM, "judge: out of memory");
	}
	for (uint32_t i = 0; i < STELE_JUDGES; i++)
		j->one[i].judge = j;
	j->next = j->busy = 0;
	pump(j);
	return STELE_OK;
}

void stele_judge_finish(struct stele_judge *j)
{
	free(j->doubt);
	j->doubt = NULL;
	j->n = j->cap = 0;
}
