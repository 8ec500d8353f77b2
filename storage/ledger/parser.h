/*
 * Inside storage/ledger only: what each format's parser is to format.c, which owns the public
 * interface (format.h). A format is one constant stele_parser_ops.
 */
#ifndef STORAGE_LEDGER_PARSER_H
#define STORAGE_LEDGER_PARSER_H

#include "storage/ledger/feeder.h"
#include "storage/ledger/format.h"
#include "storage/ledger/gunzip.h"

struct stele_parser;

struct stele_parser_ops {
	size_t need_max; /* of the feeder */
	bool gzip;       /* the file is inflated first; the feeder's offsets count inflated bytes */
	/* Makes p->state. */
	enum stele_err (*open)(struct stele_parser *p);
	stele_feeder_step *step; /* ctx is the parser */
	/* After the last step: checks of the whole file, and the format's own facts. */
	enum stele_err (*close)(struct stele_parser *p);
	void (*destroy)(struct stele_parser *p); /* state may be NULL or half made */
};

struct stele_parser {
	struct stele_parser_opts opts;
	const struct stele_parser_ops *ops;
	struct stele_gunzip gunzip; /* in front of the feeder, when ops->gzip */
	struct stele_feeder feeder;
	uint64_t fed; /* bytes of the file */
	struct stele_file_facts
	    facts; /* count, first, last and gaps are kept by the two calls below */
	void *state;
	bool ended; /* by an error or by finish */
};

extern const struct stele_parser_ops stele_bitcoin_blk_parser;
extern const struct stele_parser_ops stele_era1_parser;
extern const struct stele_parser_ops stele_rlp_parser;
extern const struct stele_parser_ops stele_rlp_gzip_parser;
extern const struct stele_parser_ops stele_fabric_parser;
extern const struct stele_parser_ops stele_fisco_parser;
extern const struct stele_parser_ops stele_bitcoin_raw_parser;

/* Counts the block, holds it against the chain's pins, and hands it to the caller. */
STELE_MUST_USE enum stele_err stele_parser_block(struct stele_parser *p,
                                                 const struct stele_found_block *block);
STELE_MUST_USE enum stele_err stele_parser_gap(struct stele_parser *p, enum stele_gap_kind kind,
                                               uint64_t offset, uint64_t length);
/* The file says that it is of `found`: INVALID when the caller said another chain. */
STELE_MUST_USE enum stele_err stele_parser_chain(struct stele_parser *p,
                                                 const struct stele_chain *found, const char *how);
/* The file says that its chain is prefix + name; kept where that is a CAIP-2 name. */
void stele_parser_named(struct stele_parser *p, const char *prefix, const char *name);

#endif
