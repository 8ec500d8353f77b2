/* Parsing and printing of object ids (D10). Only SHA-256: other multihashes are named and refused.
 */
#include "storage/base/id.h"

#include <stdio.h>

#define HEX_DIGITS (2u * STELE_HASH_LEN)

/* Multiformats: version 1, codec raw (0x55), multihash sha2-256 (0x12) of 32 bytes. */
static const uint8_t cid_head[4] = {0x01, 0x55, 0x12, 0x20};

static int base32_value(char c)
{
	if (c >= 'a' && c <= 'z')
		return c - 'a';
	if (c >= '2' && c <= '7')
		return c - '2' + 26;
	return -1;
}

static int base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	return c == '_' ? 63 : -1;
}

/* Unpadded base 2^bits (RFC 4648). False unless text is exactly len bytes, with zero bits left
 * over. */
static bool read_base(const char *text, unsigned bits, int (*value)(char), uint8_t *out, size_t len)
{
	size_t digits = (8 * len + bits - 1) / bits, at = 0;
	uint32_t acc = 0;
	unsigned have = 0;
	if (strlen(text) != digits)
		return false;
	for (size_t i = 0; i < digits; i++) {
		int v = value(text[i]);
		if (v < 0)
			return false;
		acc = (acc << bits | (uint32_t)v) & 0xffff;
		have += bits;
		if (have >= 8) {
			have -= 8;
			out[at++] = (uint8_t)(acc >> have);
		}
	}
	return at == len && (acc & ((1u << have) - 1)) == 0;
}

static enum stele_err parse_cid(const char *text, struct stele_hash *out)
{
	uint8_t raw[sizeof(cid_head) + STELE_HASH_LEN];
	if (!read_base(text + 1, 5, base32_value, raw, sizeof(raw)))
		return stele_fail(STELE_ERR_USAGE,
		                  "id \"%.80s\": not a CIDv1 in base32 (\"bafkrei\" and 52 more)",
		                  text);
	if (memcmp(raw, cid_head, sizeof(cid_head)) != 0)
		return stele_fail(STELE_ERR_USAGE,
		                  "id \"%.80s\": this CID is not raw bytes under sha2-256, which "
		                  "alone is a file's plain SHA-256",
		                  text);
	memcpy(out->b, raw + sizeof(cid_head), STELE_HASH_LEN);
	return STELE_OK;
}

enum stele_err stele_id_parse(const char *text, struct stele_hash *out)
{
	static const char ni[] = "ni:///sha-256;", prefix[] = "sha256:";
	size_t len = strlen(text);
	struct stele_hash h;

	if (strncmp(text, ni, strlen(ni)) == 0) {
		if (!read_base(text + strlen(ni), 6, base64url_value, h.b, sizeof(h.b)))
			return stele_fail(STELE_ERR_USAGE,
			                  "id \"%.80s\": expected 43 base64url digits after \"%s\"",
			                  text, ni);
		*out = h;
		return STELE_OK;
	}
	/* base32 of the head of any CIDv1: 'b', then 5 bits of the version (0) */
	if (text[0] == 'b' && text[1] == 'a' && len != HEX_DIGITS)
		return parse_cid(text, out);
	const char *hex = strncmp(text, prefix, strlen(prefix)) == 0 ? text + strlen(prefix) : text;
	if (strlen(hex) != HEX_DIGITS)
		return stele_fail(STELE_ERR_USAGE,
		                  "id \"%.80s\": expected sha256: and 64 hex digits, found %zu%s",
		                  text, strlen(hex), len ? "" : " (nothing)");
	if (!stele_unhex(hex, HEX_DIGITS, out->b, sizeof(out->b), false))
		return stele_fail(STELE_ERR_USAGE,
		                  "id \"%.80s\": something that is not a hex digit", text);
	return STELE_OK;
}

char *stele_id_text(const struct stele_hash *id, char out[STELE_ID_TEXT])
{
	char hex[STELE_HEX_LEN];
	snprintf(out, STELE_ID_TEXT, "sha256:%s", stele_hash_hex(id, hex));
	return out;
}
