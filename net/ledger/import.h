/*
 * Archives chain files byte for byte (docs: README.md here): a file is read twice, first parsed and
 * linked, and only when it holds is anything stored: the file as a deposit of type ledger, its
 * index as one of type index, and the catalogue mark that makes both findable. Importing a file
 * again changes nothing. Over libstele: blocking, one thread.
 */
#ifndef NET_LEDGER_IMPORT_H
#define NET_LEDGER_IMPORT_H

#include "net/ledger/catalogue.h"

struct stele_segment_file {
	const char *name;       /* without directories */
	const uint8_t *xor_key; /* blocks/xor.dat beside it, or NULL */
	uint64_t length;
	/* Fills buf from off; *got less than cap only at the end. */
	enum stele_err (*read_at)(void *ctx, uint64_t off, void *buf, size_t cap, size_t *got);
	void *ctx;
};

struct stele_import_result {
	bool already; /* archived before, and nothing new is known of it */
	enum stele_level level;
	struct stele_file_facts facts;
	struct stele_link_result links;
	struct stele_segment segment;
	struct stele_put_result put;
};

/* CORRUPT: refused, nothing kept; the detail names block and offset. INVALID: not a ledger file of
 * this chain. DEGRADED: archived, with less redundancy. progress: bytes of the file, over both
 * readings. */
STELE_MUST_USE enum stele_err stele_ledger_import(struct stele_catalogue *c,
                                                  const struct stele_segment_file *file,
                                                  const struct stele_progress *progress,
                                                  struct stele_import_result *out);
/* Links bound segments whose parents have been archived since, blind ones apart. *linked counts them. */
STELE_MUST_USE enum stele_err stele_ledger_relink(struct stele_catalogue *c, uint32_t *linked);

#endif
