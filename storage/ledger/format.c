/* The public face of all parsers: names, detection by first bytes, and dispatch. Parses nothing
 * itself. */
#include "storage/ledger/format.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/fabric.h"
#include "storage/ledger/fisco.h"
#include "storage/ledger/parser.h"
#include "storage/ledger/rlp.h"

static const struct {
	const char *name;
	enum stele_chain_family family;
	const struct stele_parser_ops *ops; /* NULL: recognised, not parsed by this build */
} formats[] = {
    [STELE_FORMAT_UNKNOWN] = {"unknown"},
    [STELE_FORMAT_BITCOIN_BLK] = {"bitcoin blk*.dat", STELE_FAMILY_BITCOIN,
                                  &stele_bitcoin_blk_parser},
    [STELE_FORMAT_BITCOIN_RAW] = {"bitcoin block", STELE_FAMILY_BITCOIN, &stele_bitcoin_raw_parser},
    [STELE_FORMAT_ERA1] = {"era1", STELE_FAMILY_EVM, &stele_era1_parser},
    [STELE_FORMAT_ERE] = {"ere", STELE_FAMILY_EVM},
    [STELE_FORMAT_RLP] = {"rlp export", STELE_FAMILY_EVM, &stele_rlp_parser},
    [STELE_FORMAT_RLP_GZIP] = {"gzipped rlp export", STELE_FAMILY_EVM, &stele_rlp_gzip_parser},
    [STELE_FORMAT_GETH_FREEZER] = {"geth freezer table", STELE_FAMILY_EVM},
    [STELE_FORMAT_FABRIC] = {"fabric block file", STELE_FAMILY_FABRIC, &stele_fabric_parser},
    [STELE_FORMAT_FISCO] = {"fisco binlog", STELE_FAMILY_FISCO, &stele_fisco_parser},
    [STELE_FORMAT_CHAINMAKER] = {"chainmaker fdb", 0},
    [STELE_FORMAT_ERA] = {"era (consensus layer)", 0},
};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

const char *stele_format_name(enum stele_format format)
{
	return (size_t)format < FORMATS ? formats[format].name : "unknown";
}

bool stele_format_supported(enum stele_format format)
{
	return (size_t)format < FORMATS && formats[format].ops;
}

enum stele_chain_family stele_format_family(enum stele_format format)
{
	return (size_t)format < FORMATS ? formats[format].family : 0;
}

const char *stele_level_name(enum stele_level level)
{
	switch (level) {
	case STELE_LEVEL_FRAMED:
		return "framed";
	case STELE_LEVEL_BOUND:
		return "bound";
	case STELE_LEVEL_LINKED:
		return "linked";
	case STELE_LEVEL_TRUSTED:
		return "trusted";
	}
	return "none";
}

static bool starts(const uint8_t *p, size_t len, const void *what, size_t n)
{
	return len >= n && memcmp(p, what, n) == 0;
}

static bool name_ends(const char *name, const char *ending)
{
	size_t n = name ? strlen(name) : 0, e = strlen(ending);
	return n >= e && memcmp(name + n - e, ending, e) == 0;
}

/* A frame of bitcoind's: known magic, a length that a block can have, a version and a parent that
 * is either zero or ends in zeros as hashes with work do (regtest's need not). */
static bool is_bitcoin_blk(const uint8_t *p, size_t len, const uint8_t *xor_key)
{
	uint8_t head[8];
	if (len < sizeof(head))
		return false;
	for (size_t i = 0; i < sizeof(head); i++)
		head[i] = p[i] ^ (xor_key ? xor_key[i] : 0);
	uint32_t n = stele_le32(head + 4);
	return stele_chain_by_magic(head) && n > STELE_BITCOIN_HEADER &&
	       n <= STELE_BITCOIN_BLOCK_MAX;
}

/* e2store: a version record first. The second record's type tells the kinds apart. */
static enum stele_format detect_e2store(const uint8_t *p, size_t len, const char *name)
{
	uint16_t second = len >= 10 ? (uint16_t)(p[8] << 8 | p[9]) : 0;
	if (name_ends(name, ".ere") || name_ends(name, ".erae"))
		return STELE_FORMAT_ERE;
	if (name_ends(name, ".era") || second == 0x0100 || second == 0x0200)
		return STELE_FORMAT_ERA;
	if (name_ends(name, ".era1"))
		return STELE_FORMAT_ERA1;
	if (second != 0x0300 || len < 16)
		return STELE_FORMAT_UNKNOWN;
	/* era1 has a body after the first header, ere another header (or a body when it holds one
	 * block: the name must tell then) */
	uint64_t third = 16 + (uint64_t)stele_le32(p + 10);
	if (third + 2 <= len && p[third] == 0x03)
		return STELE_FORMAT_ERE;
	return STELE_FORMAT_ERA1;
}

/* A block as RLP begins with a header, and that with two hashes and an address. */
static bool is_rlp_block(const uint8_t *p, size_t len)
{
	size_t head, at = 0;
	uint64_t total;
	bool list;
	for (int depth = 0; depth < 2; depth++) {
		if (at >= len || !stele_rlp_peek(p + at, len - at, &head, &total, &list) || !list ||
		    total < 55)
			return false;
		at += head;
	}
	return at + 67 <= len && p[at] == 0xa0 && p[at + 33] == 0xa0 && p[at + 66] == 0x94;
}

static bool is_rlp_gzip(const uint8_t *p, size_t len)
{
	uint8_t front[128];
	if (!starts(p, len, "\x1f\x8b\x08", 3))
		return false;
	return is_rlp_block(front, stele_gunzip_peek(p, len, front, sizeof(front)));
}

/* A Fabric block: length, number, DataHash, PreviousHash (none in block 0), envelopes that begin
 * with a payload. */
static bool is_fabric(const uint8_t *p, size_t len)
{
	struct stele_reader r = stele_reader(p, len);
	uint64_t total, number, hash, n, envelope;
	if (!stele_uvarint_read(&r, &total) || !stele_uvarint_read(&r, &number) ||
	    !stele_uvarint_read(&r, &hash) || hash != STELE_HASH_LEN)
		return false;
	stele_read_span(&r, STELE_HASH_LEN);
	if (!stele_uvarint_read(&r, &hash) || hash != (number ? STELE_HASH_LEN : 0))
		return false;
	stele_read_span(&r, (size_t)hash);
	return stele_uvarint_read(&r, &n) && stele_uvarint_read(&r, &envelope) && n > 0 &&
	       n <= STELE_FABRIC_TXS_MAX && envelope < total && stele_read_u8(&r) == 0x0a && !r.bad;
}

/* A FISCO BCOS binlog: version 1, and a record that begins with a table whose columns end in the
 * system's. */
static bool is_fisco(const uint8_t *p, size_t len)
{
	if (len < 21 || stele_be32(p) != 1 || stele_be32(p + 4) > STELE_FISCO_BLOCK_MAX)
		return false;
	size_t fields = 21u + p[20];
	if (len < fields + 4)
		return false;
	size_t n = stele_be32(p + fields);
	static const char system[] = "_status_,_num_,_id_";
	return n >= sizeof(system) && n <= len - fields - 4 &&
	       memcmp(p + fields + 4 + n - (sizeof(system) - 1), system, sizeof(system) - 1) == 0;
}

/* A Bitcoin header with work that nobody does by chance: at least signet's, or regtest's own
 * nBits. */
static bool is_bitcoin_raw(const uint8_t *p, size_t len)
{
	const uint32_t signet = 0x1e0377ae, regtest = 0x207fffff;
	struct stele_bitcoin_block b;
	return len > STELE_BITCOIN_HEADER && stele_bitcoin_header_check(p, NULL, &b) == STELE_OK &&
	       (b.bits == regtest || stele_bitcoin_work(b.bits) >= stele_bitcoin_work(signet));
}

enum stele_format stele_format_detect(const void *front, size_t len, const char *name,
                                      const uint8_t xor_key[STELE_XOR_KEY_LEN])
{
	static const uint8_t e2store[8] = {0x65, 0x32};
	const uint8_t *p = front;
	if (len == 0) /* front may be NULL then */
		return STELE_FORMAT_UNKNOWN;
	if (is_bitcoin_blk(p, len, xor_key))
		return STELE_FORMAT_BITCOIN_BLK;
	if (starts(p, len, e2store, sizeof(e2store)))
		return detect_e2store(p, len, name);
	if (is_rlp_block(p, len))
		return STELE_FORMAT_RLP;
	if (is_rlp_gzip(p, len))
		return STELE_FORMAT_RLP_GZIP;
	if (is_fabric(p, len))
		return STELE_FORMAT_FABRIC;
	if (is_fisco(p, len))
		return STELE_FORMAT_FISCO;
	if (is_bitcoin_raw(p, len))
		return STELE_FORMAT_BITCOIN_RAW;
	return STELE_FORMAT_UNKNOWN;
}

static enum stele_err feed_inflated(void *ctx, const void *bytes, size_t len)
{
	struct stele_parser *p = ctx;
	return stele_feeder_feed(&p->feeder, bytes, len);
}

enum stele_err stele_parser_create(const struct stele_parser_opts *opts, struct stele_parser **out)
{
	assert(opts->on_block);
	if (!stele_format_supported(opts->format))
		return stele_fail(STELE_ERR_INVALID, "%s files are not read by this version",
		                  stele_format_name(opts->format));
	if (opts->chain && opts->chain->family != stele_format_family(opts->format))
		return stele_fail(STELE_ERR_INVALID, "a %s file does not hold blocks of %s",
		                  stele_format_name(opts->format), opts->chain->caip2);
	struct stele_parser *p = calloc(1, sizeof(*p));
	if (!p)
		return stele_fail(STELE_ERR_NOMEM, "a parser");
	p->opts = *opts;
	p->opts.name = NULL;
	p->ops = formats[opts->format].ops;
	p->facts = (struct stele_file_facts){
	    .format = opts->format,
	    .chain = opts->chain,
	    .first_height = STELE_HEIGHT_UNKNOWN,
	    .last_height = STELE_HEIGHT_UNKNOWN,
	};
	if (opts->format == STELE_FORMAT_BITCOIN_BLK && opts->xor_key &&
	    !stele_all_zero(opts->xor_key, STELE_XOR_KEY_LEN)) {
		p->facts.has_xor = true;
		memcpy(p->facts.xor_key, opts->xor_key, STELE_XOR_KEY_LEN);
	}
	p->feeder = (struct stele_feeder){
	    .step = p->ops->step,
	    .ctx = p,
	    .need_max = p->ops->need_max,
	    .key = p->facts.has_xor ? p->facts.xor_key : NULL,
	};
	p->opts.xor_key = p->feeder.key;
	p->opts.name = opts->name; /* valid while opening only */
	enum stele_err err = p->ops->open(p);
	if (err == STELE_OK && p->ops->gzip)
		err = stele_gunzip_init(&p->gunzip, feed_inflated, p);
	p->opts.name = NULL;
	if (err != STELE_OK) {
		stele_parser_destroy(p);
		return err;
	}
	*out = p;
	return STELE_OK;
}

enum stele_err stele_parser_feed(struct stele_parser *p, const void *bytes, size_t len)
{
	assert(!p->ended);
	p->fed += len;
	enum stele_err err = p->ops->gzip ? stele_gunzip_feed(&p->gunzip, bytes, len)
	                                  : stele_feeder_feed(&p->feeder, bytes, len);
	p->ended = err != STELE_OK;
	return err;
}

enum stele_err stele_parser_finish(struct stele_parser *p, struct stele_file_facts *facts)
{
	assert(!p->ended);
	p->ended = true;
	STELE_TRY(stele_gunzip_finish(&p->gunzip));
	STELE_TRY(stele_feeder_finish(&p->feeder));
	p->facts.length = p->fed;
	p->facts.level = STELE_LEVEL_BOUND;
	if (p->facts.chain)
		memcpy(p->facts.caip2, p->facts.chain->caip2, sizeof(p->facts.caip2));
	STELE_TRY(p->ops->close(p));
	if (p->facts.count == 0)
		return stele_fail(STELE_ERR_CORRUPT, "the file holds no block");
	*facts = p->facts;
	return STELE_OK;
}

void stele_parser_destroy(struct stele_parser *p)
{
	if (!p)
		return;
	p->ops->destroy(p);
	stele_gunzip_reset(&p->gunzip);
	stele_feeder_reset(&p->feeder);
	free(p);
}

/* ---- for the formats ---- */

enum stele_err stele_parser_block(struct stele_parser *p, const struct stele_found_block *block)
{
	struct stele_file_facts *f = &p->facts;
	if (f->chain && block->height != STELE_HEIGHT_UNKNOWN)
		STELE_TRY(stele_chain_check(f->chain, block->height, &block->hash));
	if (f->count++ == 0) {
		f->first_height = block->height;
		f->first_hash = block->hash;
		f->first_parent = block->parent;
	}
	f->last_height = block->height;
	f->last_hash = block->hash;
	return p->opts.on_block(p->opts.ctx, block);
}

enum stele_err stele_parser_gap(struct stele_parser *p, enum stele_gap_kind kind, uint64_t offset,
                                uint64_t length)
{
	if (length == 0)
		return STELE_OK;
	if (kind == STELE_GAP_PADDING) {
		p->facts.padding += length;
	} else if (kind != STELE_GAP_SKIPPED) {
		p->facts.gaps++;
		p->facts.gap_bytes += length;
		p->facts.torn += kind == STELE_GAP_TORN;
	}
	if (!p->opts.on_gap)
		return STELE_OK;
	struct stele_gap gap = {.kind = kind, .offset = offset, .length = length};
	return p->opts.on_gap(p->opts.ctx, &gap);
}

enum stele_err stele_parser_chain(struct stele_parser *p, const struct stele_chain *found,
                                  const char *how)
{
	const struct stele_chain *said = p->facts.chain;
	if (said && found && strcmp(said->caip2, found->caip2) != 0)
		return stele_fail(STELE_ERR_INVALID, "the file is of %s by its %s, not of %s",
		                  found->alias, how, said->alias ? said->alias : said->caip2);
	if (!said)
		p->facts.chain = found;
	return STELE_OK;
}

void stele_parser_named(struct stele_parser *p, const char *prefix, const char *name)
{
	char text[STELE_CAIP2_MAX];
	struct stele_chain chain;
	int n = snprintf(text, sizeof(text), "%s%s", prefix, name);
	if (n > 0 && (size_t)n < sizeof(text) && stele_chain_find(text, &chain) == STELE_OK)
		memcpy(p->facts.caip2, text, sizeof(text));
}
