/* Goal: every name finds its chain; Bitcoin's genesis hashes follow from their headers; a hash
 * is shown and read as its family does; a fork's block is refused with the fork's name. */
#include "storage/ledger/bitcoin_block.h"
#include "tests/unit/ledger_fixture.h"

Test(chain, alias_and_caip2_name_are_one)
{
	for (size_t i = 0; stele_chain_at(i); i++) {
		const struct stele_chain *known = stele_chain_at(i);
		struct stele_chain a, b;
		struct stele_hash genesis;
		cr_assert_eq(stele_chain_find(known->alias, &a), STELE_OK);
		cr_assert_eq(stele_chain_find(known->caip2, &b), STELE_OK);
		cr_assert_str_eq(a.caip2, b.caip2);
		cr_assert(stele_chain_genesis(known, &genesis));
		cr_assert_eq(stele_chain_by_genesis(known->family, &genesis), known);
		cr_assert_eq(stele_chain_check(known, 0, &genesis), STELE_OK);
		if (known->family == STELE_FAMILY_BITCOIN) { /* CAIP-4 */
			cr_assert_eq(strncmp(known->caip2, "bip122:", 7), 0);
			cr_assert_eq(strncmp(known->caip2 + 7, known->genesis, 32), 0);
			cr_assert_eq(strlen(known->caip2), 39u);
			cr_assert_eq(stele_chain_by_magic(known->magic), known);
		} else {
			cr_assert_eq(
			    stele_chain_by_era_name(known->era_name, strlen(known->era_name)),
			    known);
		}
	}
}

Test(chain, bitcoin_genesis_hashes_follow_from_their_headers)
{
	static const struct {
		const char *alias, *root;
		uint32_t time, bits, nonce;
	} genesis[] = {
	    {"bitcoin", "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
	     1231006505, 0x1d00ffff, 2083236893},
	    {"bitcoin-testnet3", "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
	     1296688602, 0x1d00ffff, 414098458},
	    {"bitcoin-testnet4", "7aa0a7ae1e223414cb807e40cd57e667b718e42aaf9306db9102fe28912b7b4e",
	     1714777860, 0x1d00ffff, 393743547},
	    {"bitcoin-signet", "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
	     1598918400, 0x1e0377ae, 52613770},
	    {"bitcoin-regtest", "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
	     1296688602, 0x207fffff, 2},
	};
	for (size_t i = 0; i < sizeof(genesis) / sizeof(genesis[0]); i++) {
		struct stele_chain chain;
		struct stele_hash root, want;
		uint8_t header[80];
		struct stele_writer w = stele_writer(header, sizeof(header));
		hash_from(STELE_FAMILY_BITCOIN, genesis[i].root, &root);
		stele_write_le32(&w, 1);
		stele_write_zero(&w, 32);
		stele_write_hash(&w, &root);
		stele_write_le32(&w, genesis[i].time);
		stele_write_le32(&w, genesis[i].bits);
		stele_write_le32(&w, genesis[i].nonce);
		cr_assert_eq(stele_chain_find(genesis[i].alias, &chain), STELE_OK);
		struct stele_bitcoin_block b;
		cr_assert_eq(stele_bitcoin_header_check(header, &chain, &b), STELE_OK, "%s: %s",
		             genesis[i].alias, stele_detail());
		stele_chain_genesis(&chain, &want);
		cr_assert(stele_hash_equal(&b.hash, &want), "%s", genesis[i].alias);
		/* all but testnet4's hold the same coinbase */
		cr_assert_eq(chain.pow_limit_bits, genesis[i].bits);
	}
}

Test(chain, other_names_are_chains_or_usage_errors)
{
	static const char *const good[] = {"eip155:61", "fabric:channel-1", "fisco:group0"};
	static const char *const bad[] = {"",
	                                  "Bitcoin",
	                                  "eip155:",
	                                  "eip155:01",
	                                  "eip155:1x",
	                                  "eip155:0",
	                                  "bip122:0011223344556677889900112233445566",
	                                  "fabric:",
	                                  "fabric:a b",
	                                  "fisco:0123456789012345678901234567890123"};
	struct stele_chain chain;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(stele_chain_find(good[i], &chain), STELE_OK, "%s", good[i]);
		cr_assert_str_eq(chain.caip2, good[i]);
		struct stele_hash any = {{1}};
		cr_assert_not(stele_chain_genesis(&chain, &any));
		cr_assert_eq(stele_chain_check(&chain, 0, &any), STELE_OK);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(stele_chain_find(bad[i], &chain), STELE_ERR_USAGE, "%s", bad[i]);
		cr_assert(strstr(stele_detail(), "bitcoin-regtest"));
	}
}

Test(chain, hashes_are_shown_as_their_family_does)
{
	const char *text = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
	struct stele_hash h;
	char out[STELE_HEX_LEN];
	hash_from(STELE_FAMILY_BITCOIN, text, &h);
	cr_assert_eq(h.b[0], 0x6f);
	cr_assert_str_eq(stele_chain_hash_text(STELE_FAMILY_BITCOIN, &h, out), text);
	hash_from(STELE_FAMILY_EVM, text, &h);
	cr_assert_eq(h.b[31], 0x6f);
	cr_assert_str_eq(stele_chain_hash_text(STELE_FAMILY_EVM, &h, out), text);
	hash_from(STELE_FAMILY_EVM,
	          "0xD4E56740F876AEF8C010B86A40D5F56745A118D0906A34E69AEC8C0DB1CB8FA3", &h);
	cr_assert_eq(h.b[0], 0xd4);
	cr_assert_eq(stele_chain_hash_parse(STELE_FAMILY_EVM, "0x12", &h), STELE_ERR_USAGE);
	cr_assert_eq(stele_chain_hash_parse(STELE_FAMILY_EVM, "", &h), STELE_ERR_USAGE);
}

Test(chain, forks_are_told_apart)
{
	static const struct {
		const char *chain, *hash, *rival, *name;
		uint64_t height;
	} forks[] = {
	    {"bitcoin", "00000000000000000019f112ec0a9982926f1258cdcc558dd7c3b7e5dc7fa148",
	     "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec", "Bitcoin Cash",
	     478559},
	    {"ethereum", "4985f5ca3d2afbec36529aa96f74de3cc10a2a4a6c44f2157a57d2c6059a11bb",
	     "94365e3a8c0b35089c1d1195081fe7489b528a84b22199c916180db8b28ade7f", "Ethereum Classic",
	     1920000},
	};
	for (size_t i = 0; i < 2; i++) {
		struct stele_chain chain;
		struct stele_hash h;
		cr_assert_eq(stele_chain_find(forks[i].chain, &chain), STELE_OK);
		hash_from(chain.family, forks[i].hash, &h);
		cr_assert_eq(stele_chain_check(&chain, forks[i].height, &h), STELE_OK);
		hash_from(chain.family, forks[i].rival, &h);
		cr_assert_eq(stele_chain_check(&chain, forks[i].height, &h), STELE_ERR_CORRUPT);
		cr_assert(strstr(stele_detail(), forks[i].name), "%s", stele_detail());
		cr_assert_eq(stele_chain_check(&chain, forks[i].height + 1, &h), STELE_OK);
		cr_assert_eq(stele_chain_check(&chain, 0, &h), STELE_ERR_CORRUPT);
	}
}
