/*
 * A write between its call and its callback: shared by store_write.c, which admits and looks up, and
 * store_batch.c, which makes it durable. Nothing else includes this. The loop's, except that the
 * worker under way (CRCs, look-up) owns what it fills in.
 */
#ifndef STORAGE_STORE_WRITING_H
#define STORAGE_STORE_WRITING_H

#include "storage/store_private.h"

struct stele_pend {              /* on its way into the index: the overlay */
	struct stele_pend *next; /* newest first */
	struct stele_key key;    /* as in the index */
	bool tomb;
	uint64_t lsn;
};

struct stele_witem {
	struct stele_pend pend;
	const struct stele_item *in;
	uint32_t desc_len; /* of SHARD */
	uint32_t *crc;     /* of its cells, ours or the caller's */
	bool crc_given;
	/* from the lookup */
	enum stele_err found;
	struct stele_item_at old;
	bool opposite;   /* RECORD: refused; REFUSE: there is the record; conditional tomb: a REF */
	uint64_t shards; /* REF: a bit per shard of its block */
	/* from resolve */
	bool skip;  /* nothing to write */
	bool pends; /* is in the overlay */
	struct stele_item_at at;
	uint64_t meta_off, data_off; /* in the batch: of the entry; in its data area */
};

struct stele_wreq {
	struct stele_wreq *next;
	struct stele_store *s;
	struct stele_store_write *w;
	struct stele_turn turn;
	struct stele_op op; /* CRCs */
	uint64_t bytes;
	uint64_t most;      /* bytes in a batch of its own, at the worst alignment */
	uint64_t crc_bytes; /* still to be computed */
	enum stele_room_use use;
	bool placed, twice;
	uint32_t n;
	struct stele_witem item[];
};

static inline uint32_t stele_item_cells(const struct stele_item *it)
{
	return (uint32_t)((it->data_len + STELE_CELL_LEN - 1) / STELE_CELL_LEN);
}

/* ---- store_write.c ---- */

/* The newest of this key that is on its way; NULL: none. */
struct stele_pend *stele_write_pending(struct stele_store *s, const struct stele_key *key);
void stele_write_add_pending(struct stele_store *s, struct stele_pend *p);
/* Calls back and lets the request go. With an error, the thread's detail goes along. */
void stele_write_end(struct stele_wreq *q, enum stele_err err, uint64_t lsn);
/* FENCED, with the reason as the detail. */
enum stele_err stele_write_say_fenced(const struct stele_store *s);

/* ---- store_batch.c ---- */

/* Puts a resolved write into the batch that grows, which fixes its LSN. NOMEM. */
STELE_MUST_USE enum stele_err stele_batch_place(struct stele_wreq *q);

#endif
