/* Goal: every spelling of an id means the same 32 bytes, printed one way; anything else is refused
 * with a reason; Ed25519 gives RFC 8032's bytes and refuses what no honest signer makes. */
#include "storage/base/sha256.h"
#include "tests/unit/statements.h"

/* SHA-256 of no bytes, in four spellings. CID and ni made with another implementation. */
static const char hex[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char cid[] = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
static const char ni[] = "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

Test(id, spellings)
{
	struct stele_hash empty, h;
	char text[STELE_ID_TEXT], upper[80];
	stele_sha256("", 0, &empty);
	snprintf(upper, sizeof(upper), "%s", hex);
	for (char *c = upper; *c; c++)
		*c = (char)(*c >= 'a' ? *c - 32 : *c);
	const char *good[] = {hex, cid, ni, stele_id_text(&empty, text), upper};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		memset(&h, 0, sizeof(h));
		cr_assert_eq(stele_id_parse(good[i], &h), STELE_OK, "%s: %s", good[i],
		             stele_detail());
		cr_assert(stele_hash_equal(&h, &empty), "%s", good[i]);
	}
	cr_assert_eq(strlen(text), STELE_ID_TEXT - 1);
	cr_assert_eq(strncmp(text, "sha256:", 7), 0);
	cr_assert_str_eq(text + 7, hex);
}

Test(id, refusals)
{
	const char *bad[] = {
	    "", "sha256:", "e3b0",
	    "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85g",
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
	    /* a dag-pb CID, a CIDv0, a cut one, one whose spare bits are set */
	    "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
	    "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
	    "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyk",
	    "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvykv",
	    "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
	    "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFV",
	    "ni:///sha-256;47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
	    "ni:///sha-256-128;47DEQpj8HBSa-_TImW-5JA"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stele_hash h = {{0x5a}};
		cr_assert_eq(stele_id_parse(bad[i], &h), STELE_ERR_USAGE, "%s", bad[i]);
		cr_assert_eq(h.b[0], 0x5a, "out was touched by %s", bad[i]);
		cr_assert_gt(strlen(stele_detail()), 10u);
	}
}

Test(id, changed_characters_never_mean_the_same_id)
{
	struct stele_hash right, h;
	char t[80];
	cr_assert_eq(stele_id_parse(cid, &right), STELE_OK);
	const char *forms[] = {cid, ni};
	for (size_t f = 0; f < 2; f++)
		for (size_t i = 0; i < strlen(forms[f]); i++)
			for (int v = 1; v < 128; v++) {
				strcpy(t, forms[f]);
				if (t[i] == (char)v)
					continue;
				t[i] = (char)v;
				cr_assert(stele_id_parse(t, &h) != STELE_OK ||
				          !stele_hash_equal(&h, &right));
			}
}

/* RFC 8032, 7.1, tests 1 and 3 */
static const struct {
	const char *seed, *pub, *msg, *sig;
} rfc8032[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b"
     "46b"
     "d25bf5f0595bbe24655141438e7a100b"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc"
     "659"
     "4a7c15e9716ed28dc027beceea1ec40a"},
};

Test(sign, rfc8032)
{
	for (size_t i = 0; i < sizeof(rfc8032) / sizeof(rfc8032[0]); i++) {
		uint8_t seed[32], msg[16];
		struct stele_secret_key key;
		struct stele_sig sig;
		char text[2 * STELE_SIG_LEN + 1];
		size_t len = strlen(rfc8032[i].msg) / 2;
		cr_assert(stele_unhex(rfc8032[i].seed, 64, seed, 32, true));
		cr_assert(stele_unhex(rfc8032[i].msg, 2 * len, msg, len, true));
		stele_key_from_seed(&key, seed);
		cr_assert_str_eq(stele_hex(key.pub.b, 32, text), rfc8032[i].pub);
		stele_sign(&key, msg, len, &sig);
		cr_assert_str_eq(stele_hex(sig.b, 64, text), rfc8032[i].sig);
		cr_assert(stele_sig_ok(&key.pub, msg, len, &sig));
	}
}

Test(sign, any_changed_bit_is_refused)
{
	uint64_t state = 3;
	uint8_t seed[32], msg[40];
	struct stele_secret_key key;
	struct stele_sig sig;
	guard_fill(&state, seed, sizeof(seed));
	guard_fill(&state, msg, sizeof(msg));
	stele_key_from_seed(&key, seed);
	stele_sign(&key, msg, sizeof(msg), &sig);
	for (size_t bit = 0; bit < 8 * STELE_SIG_LEN; bit++) {
		sig.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert(!stele_sig_ok(&key.pub, msg, sizeof(msg), &sig), "signature bit %zu",
		          bit);
		sig.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(msg); bit++) {
		msg[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert(!stele_sig_ok(&key.pub, msg, sizeof(msg), &sig), "message bit %zu", bit);
		msg[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * STELE_KEY_LEN; bit++) {
		key.pub.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert(!stele_sig_ok(&key.pub, msg, sizeof(msg), &sig), "key bit %zu", bit);
		key.pub.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	cr_assert(!stele_sig_ok(&key.pub, msg, sizeof(msg) - 1, &sig));
}

Test(sign, malleable_and_small_order_are_refused)
{
	/* S + L is the same scalar; RFC 8032 wants it refused */
	static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a,       0x63,
	                                  0x12, 0x58, 0xd6, 0x9c, 0xf7,       0xa2,
	                                  0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
	uint8_t seed[32] = {7};
	struct stele_secret_key key;
	struct stele_sig sig;
	stele_key_from_seed(&key, seed);
	stele_sign(&key, "x", 1, &sig);
	unsigned carry = 0;
	for (size_t i = 0; i < 32; i++) {
		carry += sig.b[32 + i] + order[i];
		sig.b[32 + i] = (uint8_t)carry;
		carry >>= 8;
	}
	cr_assert(!stele_sig_ok(&key.pub, "x", 1, &sig));
	/* the neutral element as key and commitment, S = 0: holds for every message in a lax
	 * verifier */
	struct stele_public_key neutral = {{1}};
	struct stele_sig zero = {{1}};
	cr_assert(!stele_sig_ok(&neutral, "x", 1, &zero));
}
