/*
 * A doubly linked list of operations through their priv.next and priv.prev. Plain memory: whoever
 * shares one between threads locks it. A zeroed list is empty.
 */
#ifndef STORAGE_IO_OP_LIST_H
#define STORAGE_IO_OP_LIST_H

#include "storage/io/env.h"

struct stele_op_list {
	struct stele_op *head;
	struct stele_op *tail;
};

static inline void stele_op_list_push(struct stele_op_list *list, struct stele_op *op)
{
	op->priv.next = NULL;
	op->priv.prev = list->tail;
	if (list->tail)
		list->tail->priv.next = op;
	else
		list->head = op;
	list->tail = op;
}

static inline void stele_op_list_remove(struct stele_op_list *list, struct stele_op *op)
{
	if (op->priv.prev)
		op->priv.prev->priv.next = op->priv.next;
	else
		list->head = op->priv.next;
	if (op->priv.next)
		op->priv.next->priv.prev = op->priv.prev;
	else
		list->tail = op->priv.prev;
	op->priv.next = op->priv.prev = NULL;
}

/* NULL when the list is empty. */
static inline struct stele_op *stele_op_list_pop(struct stele_op_list *list)
{
	struct stele_op *op = list->head;
	if (op)
		stele_op_list_remove(list, op);
	return op;
}

#endif
