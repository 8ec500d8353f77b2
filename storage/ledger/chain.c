/* The table of known chains, and names, hashes and pins looked up in it. Reads no file and parses
 * no block. */
#include "storage/ledger/chain.h"

#include <stdio.h>

/* clang-format off */
static const struct stele_chain known[] = {
	{
		.family = STELE_FAMILY_BITCOIN,
		.caip2 = "bip122:000000000019d6689c085ae165831e93",
		.alias = "bitcoin",
		.genesis = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
		.pin = {{478559, "00000000000000000019f112ec0a9982926f1258cdcc558dd7c3b7e5dc7fa148",
			 "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec", "Bitcoin Cash"}},
		.magic = {0xf9, 0xbe, 0xb4, 0xd9},
		.pow_limit_bits = 0x1d00ffff,
		.segwit_height = 481824,
	}, {
		.family = STELE_FAMILY_BITCOIN,
		.caip2 = "bip122:000000000933ea01ad0ee984209779ba",
		.alias = "bitcoin-testnet3",
		.genesis = "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
		.magic = {0x0b, 0x11, 0x09, 0x07},
		.pow_limit_bits = 0x1d00ffff,
		.segwit_height = 834624,
	}, {
		.family = STELE_FAMILY_BITCOIN,
		.caip2 = "bip122:00000000da84f2bafbbc53dee25a72ae",
		.alias = "bitcoin-testnet4",
		.genesis = "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
		.magic = {0x1c, 0x16, 0x3f, 0x28},
		.pow_limit_bits = 0x1d00ffff,
		.segwit_height = 1,
	}, {
		.family = STELE_FAMILY_BITCOIN,
		.caip2 = "bip122:00000008819873e925422c1ff0f99f7c",
		.alias = "bitcoin-signet",
		.genesis = "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
		.magic = {0x0a, 0x03, 0xcf, 0x40},
		.pow_limit_bits = 0x1e0377ae,
		.segwit_height = 1,
	}, {
		.family = STELE_FAMILY_BITCOIN,
		.caip2 = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328",
		.alias = "bitcoin-regtest",
		.genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
		.magic = {0xfa, 0xbf, 0xb5, 0xda},
		.pow_limit_bits = 0x207fffff,
		.segwit_height = 1,
	}, {
		.family = STELE_FAMILY_EVM,
		.caip2 = "eip155:1",
		.alias = "ethereum",
		.era_name = "mainnet",
		.genesis = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
		.pin = {{1920000, "4985f5ca3d2afbec36529aa96f74de3cc10a2a4a6c44f2157a57d2c6059a11bb",
			 "94365e3a8c0b35089c1d1195081fe7489b528a84b22199c916180db8b28ade7f", "Ethereum Classic"}},
	}, {
		.family = STELE_FAMILY_EVM,
		.caip2 = "eip155:11155111",
		.alias = "sepolia",
		.era_name = "sepolia",
		.genesis = "25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9",
	},
};
/* clang-format on */
#define KNOWN (sizeof(known) / sizeof(known[0]))

static void hash_of(enum stele_chain_family family, const char *text, struct stele_hash *out)
{
	enum stele_err err = stele_chain_hash_parse(family, text, out);
	if (err != STELE_OK)
		memset(out, 0,
		       sizeof(*out)); /* the table's hashes are well-formed: see the tests */
}

/* The part after "<namespace>:" when it is a CAIP-2 reference, else NULL. */
static const char *reference(const char *name, const char *prefix)
{
	size_t len = strlen(prefix);
	if (strncmp(name, prefix, len) != 0)
		return NULL;
	const char *ref = name + len;
	size_t n = strspn(ref, "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
	return n > 0 && n <= 32 && ref[n] == '\0' ? ref : NULL;
}

static enum stele_chain_family family_of_name(const char *name)
{
	const char *ref = reference(name, "eip155:");
	if (ref)
		return strspn(ref, "0123456789") == strlen(ref) && ref[0] != '0' ? STELE_FAMILY_EVM
		                                                                 : 0;
	if (reference(name, "fabric:"))
		return STELE_FAMILY_FABRIC;
	if (reference(name, "fisco:"))
		return STELE_FAMILY_FISCO;
	return 0;
}

enum stele_err stele_chain_find(const char *name, struct stele_chain *out)
{
	for (size_t i = 0; i < KNOWN; i++) {
		if (strcmp(name, known[i].alias) == 0 || strcmp(name, known[i].caip2) == 0) {
			*out = known[i];
			return STELE_OK;
		}
	}
	enum stele_chain_family family = family_of_name(name);
	if (family) {
		*out = (struct stele_chain){.family = family};
		snprintf(out->caip2, sizeof(out->caip2), "%s", name);
		return STELE_OK;
	}
	return stele_fail(STELE_ERR_USAGE,
	                  "chain \"%.64s\" is not known: use bitcoin, bitcoin-testnet3, "
	                  "bitcoin-testnet4, bitcoin-signet, bitcoin-regtest, ethereum, sepolia, "
	                  "their CAIP-2 names, eip155:<id>, fabric:<channel> or fisco:<group>",
	                  name);
}

const struct stele_chain *stele_chain_by_genesis(enum stele_chain_family family,
                                                 const struct stele_hash *genesis)
{
	for (size_t i = 0; i < KNOWN; i++) {
		struct stele_hash h;
		if (known[i].family == family && stele_chain_genesis(&known[i], &h) &&
		    stele_hash_equal(&h, genesis))
			return &known[i];
	}
	return NULL;
}

const struct stele_chain *stele_chain_by_magic(const uint8_t magic[4])
{
	for (size_t i = 0; i < KNOWN; i++) {
		if (known[i].family == STELE_FAMILY_BITCOIN &&
		    memcmp(known[i].magic, magic, 4) == 0)
			return &known[i];
	}
	return NULL;
}

const struct stele_chain *stele_chain_by_era_name(const char *name, size_t len)
{
	for (size_t i = 0; i < KNOWN; i++) {
		const char *era = known[i].era_name;
		if (era && strlen(era) == len && memcmp(era, name, len) == 0)
			return &known[i];
	}
	return NULL;
}

const struct stele_chain *stele_chain_at(size_t i)
{
	return i < KNOWN ? &known[i] : NULL;
}

bool stele_chain_genesis(const struct stele_chain *chain, struct stele_hash *out)
{
	if (!chain->genesis)
		return false;
	hash_of(chain->family, chain->genesis, out);
	return true;
}

enum stele_err stele_chain_check(const struct stele_chain *chain, uint64_t height,
                                 const struct stele_hash *hash)
{
	const char *want = height == 0 ? chain->genesis : NULL;
	const struct stele_chain_pin *pin = NULL;
	for (size_t i = 0; i < STELE_CHAIN_PINS_MAX && chain->pin[i].hash; i++) {
		if (chain->pin[i].height == height) {
			pin = &chain->pin[i];
			want = pin->hash;
		}
	}
	if (!want)
		return STELE_OK;
	char got[STELE_HEX_LEN];
	stele_chain_hash_text(chain->family, hash, got);
	if (strcmp(got, want) == 0)
		return STELE_OK;
	if (pin && pin->rival && strcmp(got, pin->rival) == 0)
		return stele_fail(STELE_ERR_CORRUPT, "block %llu is %s's, not %s's (%s)",
		                  (unsigned long long)height, pin->rival_of,
		                  chain->alias ? chain->alias : chain->caip2, got);
	return stele_fail(STELE_ERR_CORRUPT, "block %llu of %s is %s, not %s",
	                  (unsigned long long)height, chain->alias ? chain->alias : chain->caip2,
	                  want, got);
}

static void reverse(uint8_t b[STELE_HASH_LEN])
{
	for (size_t i = 0; i < STELE_HASH_LEN / 2; i++) {
		uint8_t t = b[i];
		b[i] = b[STELE_HASH_LEN - 1 - i];
		b[STELE_HASH_LEN - 1 - i] = t;
	}
}

char *stele_chain_hash_text(enum stele_chain_family family, const struct stele_hash *hash,
                            char out[STELE_HEX_LEN])
{
	struct stele_hash h = *hash;
	if (family == STELE_FAMILY_BITCOIN)
		reverse(h.b);
	return stele_hash_hex(&h, out);
}

enum stele_err stele_chain_hash_parse(enum stele_chain_family family, const char *text,
                                      struct stele_hash *out)
{
	const char *hex = text;
	if (hex[0] == '0' && (hex[1] == 'x' || hex[1] == 'X'))
		hex += 2;
	struct stele_hash h;
	if (!stele_unhex(hex, strlen(hex), h.b, sizeof(h.b), false))
		return stele_fail(STELE_ERR_USAGE, "\"%.80s\" is not a block hash (64 hex digits)",
		                  text);
	if (family == STELE_FAMILY_BITCOIN)
		reverse(h.b);
	*out = h;
	return STELE_OK;
}
