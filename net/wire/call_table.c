/* Lists of calls and the table of request ids. Sends nothing and calls nobody back. */
#include "net/wire/call_table.h"

#include <assert.h>
#include <stdlib.h>

void stele_call_append(struct stele_call_list *l, struct stele_call *call,
                       enum stele_call_state state)
{
	call->priv.state = state;
	call->priv.next = NULL;
	call->priv.prev = l->last;
	if (l->last)
		l->last->priv.next = call;
	else
		l->first = call;
	l->last = call;
}

void stele_call_remove(struct stele_call_list *l, struct stele_call *call)
{
	if (call->priv.prev)
		call->priv.prev->priv.next = call->priv.next;
	else
		l->first = call->priv.next;
	if (call->priv.next)
		call->priv.next->priv.prev = call->priv.prev;
	else
		l->last = call->priv.prev;
	call->priv.next = call->priv.prev = NULL;
	call->priv.state = STELE_CALL_IDLE;
}

struct stele_call_slot *stele_call_slot_take(struct stele_call_table *t)
{
	struct stele_call_slot *s = t->free;
	if (s) {
		t->free = s->next_free;
	} else {
		if (t->n == STELE_WIRE_INFLIGHT)
			return NULL;
		s = calloc(1, sizeof(*s));
		if (!s)
			return NULL;
		s->index = t->n;
		t->slot[t->n++] = s;
	}
	s->next_free = NULL;
	s->req = ++t->count << STELE_CALL_SLOT_BITS | s->index;
	return s;
}

void stele_call_slot_free(struct stele_call_table *t, struct stele_call_slot *s)
{
	assert(s->req && !s->out);
	free(s->head);
	*s = (struct stele_call_slot){.index = s->index, .next_free = t->free};
	t->free = s;
}

struct stele_call_slot *stele_call_slot_find(const struct stele_call_table *t, uint64_t req)
{
	uint32_t index = (uint32_t)(req & (STELE_WIRE_INFLIGHT - 1));
	struct stele_call_slot *s = index < t->n ? t->slot[index] : NULL;
	return s && s->req == req && req ? s : NULL;
}

void stele_call_table_finish(struct stele_call_table *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		assert(!t->slot[i]->req);
		free(t->slot[i]);
	}
	*t = (struct stele_call_table){0};
}
