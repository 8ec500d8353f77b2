/*
 * What is archived of a chain (DESIGN D11): the catalogue marks under the chain's catalogue id, and
 * the segments' index objects, fetched when a question needs them and kept while the catalogue is
 * open. Over libstele: blocking, one thread.
 */
#ifndef NET_LEDGER_CATALOGUE_H
#define NET_LEDGER_CATALOGUE_H

#include "net/client/stele.h"
#include "storage/ledger/segment_index.h"

struct stele_segment {
	struct stele_hash object; /* the file's id */
	struct stele_hash index;  /* the index object's id */
	uint64_t first, last; /* heights of the best branch; STELE_HEIGHT_UNKNOWN: not linked yet */
	uint64_t count;       /* chain blocks, stale ones too */
	struct stele_hash first_parent, last_hash;
	bool linked; /* else bound */
	/* loaded when needed */
	bool open, blind; /* blind: its index cannot be had */
	struct stele_index ix;
	uint8_t *bytes;
};

struct stele_catalogue {
	struct stele *s;
	struct stele_chain chain;
	struct stele_segment *segment; /* linked ones ascending by first height, then bound ones */
	uint32_t n;
	enum stele_err
	    err; /* why a segment is blind: UNAVAILABLE, or CORRUPT for good; OK: none is so far */
	char why[STELE_DETAIL_MAX];
};

/* Marks whose signature or author does not hold are left out. An empty catalogue is no error.
 * UNAVAILABLE: *out is empty and usable, but there may be more. */
STELE_MUST_USE enum stele_err stele_catalogue_open(struct stele *s, const struct stele_chain *chain,
                                                   struct stele_catalogue *out);
void stele_catalogue_finish(struct stele_catalogue *c); /* accepts a zeroed one */

/* The segment of an object, or NULL. */
struct stele_segment *stele_catalogue_segment(struct stele_catalogue *c,
                                              const struct stele_hash *object);
/* Fetches and opens the segment's index, once. OK also when it cannot be had: then the segment is blind, not open, and has
 * no say in what is asked; c->err and c->why tell. NOMEM, CANCELLED. */
STELE_MUST_USE enum stele_err stele_catalogue_index(struct stele_catalogue *c,
                                                    struct stele_segment *seg);
/* The height of a linked archived block: for stele_chain_link's find. NOT_FOUND, also when a blind segment may hold it. */
enum stele_err stele_catalogue_height(void *catalogue, const struct stele_hash *hash,
                                      uint64_t *height);
/* Signs and stores the mark of a segment, and takes it into this catalogue. */
STELE_MUST_USE enum stele_err stele_catalogue_add(struct stele_catalogue *c,
                                                  const struct stele_segment *seg);

#endif
