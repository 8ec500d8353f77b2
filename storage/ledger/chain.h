/*
 * Which chain: names, genesis hashes, pinned fork blocks, file magic, and how hashes are shown.
 *
 * A name is an alias ("bitcoin") or a CAIP-2 name ("bip122:000000000019d6689c085ae165831e93",
 * "eip155:1"; CAIP-2, CAIP-4, EIP-155). A genesis hash does not tell a chain from its forks
 * (Bitcoin Cash shares Bitcoin's, Ethereum Classic Ethereum's), so blocks after a fork are pinned.
 *
 * Hashes are kept as they are hashed. Bitcoin shows them reversed; EVM chains as they are.
 *
 * Pure and constant. Thread: any.
 */
#ifndef STORAGE_LEDGER_CHAIN_H
#define STORAGE_LEDGER_CHAIN_H

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/text.h"

/* format (a segment's index): DO NOT CHANGE THESE VALUES */
enum stele_chain_family {
	STELE_FAMILY_BITCOIN = 1,
	STELE_FAMILY_EVM = 2,
	STELE_FAMILY_FABRIC = 3,
	STELE_FAMILY_FISCO = 4,
};

/* A block that a chain is known by, and what another chain has at the same height. */
struct stele_chain_pin {
	uint64_t height;
	const char *hash;     /* as shown */
	const char *rival;    /* as shown; NULL: none is known */
	const char *rival_of; /* the other chain's name */
};

#define STELE_CHAIN_PINS_MAX 4u
#define STELE_HEIGHT_UNKNOWN UINT64_MAX

struct stele_chain {
	enum stele_chain_family family;
	char caip2[STELE_CAIP2_MAX]; /* "bip122:0f9188f13cb7b2c71f2a335e3a4fc328" */
	const char *alias;           /* "bitcoin-regtest"; NULL: it has none */
	const char *era_name;        /* EVM: the network part of .era1 and .ere names; or NULL */
	const char *genesis;         /* hash of block 0, as shown; NULL: not known to this build */
	struct stele_chain_pin pin[STELE_CHAIN_PINS_MAX]; /* those with a hash */
	/* Bitcoin only */
	uint8_t magic[4];
	uint32_t pow_limit_bits; /* the easiest target, in nBits form */
	uint32_t segwit_height;  /* from here a committed witness must be there */
};

/* By alias or CAIP-2 name. Besides the chains that this build knows, any "eip155:<id>",
 * "fabric:<channel>" and "fisco:<group>" is a chain, without genesis and pins. USAGE lists the
 * names. The strings that *out points to are constant. */
STELE_MUST_USE enum stele_err stele_chain_find(const char *name, struct stele_chain *out);
/* A known chain by genesis hash, magic, or the network part of an era file's name; NULL: none. */
const struct stele_chain *stele_chain_by_genesis(enum stele_chain_family family,
                                                 const struct stele_hash *genesis);
const struct stele_chain *stele_chain_by_magic(const uint8_t magic[4]);
const struct stele_chain *stele_chain_by_era_name(const char *name, size_t len);
/* The chains that this build knows, in order; NULL after the last. */
const struct stele_chain *stele_chain_at(size_t i);

/* False: not known. */
bool stele_chain_genesis(const struct stele_chain *chain, struct stele_hash *out);

/* CORRUPT when the chain is known to have another block at this height (block 0, a pin); names the
 * chain that the block belongs to where that is known. */
STELE_MUST_USE enum stele_err stele_chain_check(const struct stele_chain *chain, uint64_t height,
                                                const struct stele_hash *hash);

/* A hash as the family shows it: 64 hex digits, Bitcoin's reversed. Returns out. */
char *stele_chain_hash_text(enum stele_chain_family family, const struct stele_hash *hash,
                            char out[STELE_HEX_LEN]);
/* The opposite; any case, with or without "0x". USAGE: not a hash. */
STELE_MUST_USE enum stele_err stele_chain_hash_parse(enum stele_chain_family family,
                                                     const char *text, struct stele_hash *out);

#endif
