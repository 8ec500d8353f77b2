/*
 * Pieces of any size in, whole units out: what lets a parser be written as "here is a unit, or tell
 * me how many bytes you need". Bytes are taken in place from the caller's piece where they can be,
 * and otherwise kept, never more than twice what the parser said it needs.
 *
 * Thread: one at a time.
 */
#ifndef STORAGE_LEDGER_FEEDER_H
#define STORAGE_LEDGER_FEEDER_H

#include "storage/base/bytes.h"

/* view: the file's bytes from feeder.offset on. Takes a unit by setting *used > 0, or leaves it 0
 * and says in *need how many bytes (more than len) it must see. When final nothing follows: the
 * step takes something or fails. */
typedef enum stele_err stele_feeder_step(void *ctx, const uint8_t *view, size_t len, bool final,
                                         size_t *used, size_t *need);

struct stele_feeder {
	stele_feeder_step *step;
	void *ctx;
	size_t need_max;    /* a step that asks for more is a bug */
	const uint8_t *key; /* 8 bytes to exclusive-or by offset; NULL: none */
	uint64_t offset;    /* in the file, of the next byte that no step has taken */
	uint8_t *buf;       /* kept: buf[at..end) */
	size_t at, end, cap;
	size_t need; /* what the last step asked for */
};

/* CORRUPT and others: what the step said. NOMEM. */
STELE_MUST_USE enum stele_err stele_feeder_feed(struct stele_feeder *f, const void *bytes,
                                                size_t len);
STELE_MUST_USE enum stele_err stele_feeder_finish(struct stele_feeder *f);
/* Frees what is kept. */
void stele_feeder_reset(struct stele_feeder *f);

#endif
