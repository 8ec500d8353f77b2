/*
 * Proofs, policies, anchor lines, manifests and tiles' paths. Whatever is accepted is written back
 * byte for byte, and a proof that decodes can be judged, whatever it says.
 *
 * Input: a letter for the kind, then the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "net/anchor/manifest.h"
#include "net/anchor/verify.h"
#include "storage/base/sha256.h"
#include "tests/fuzz/fuzz.h"

#define ORIGIN "log.example/0"

static const char policy_text[] =
    "{\"anchor\":\"local\",\"cluster\":"
    "\"0000000000000000000000000000000000000000000000000000000000000000\",\"depositors\":[{\"key\":"
    "\"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\",\"name\":\"alice\","
    "\"role\":\"writer\"}],\"format\":\"stele.dev/policy/v1\",\"log\":{\"id\":"
    "\"0000000000000000000000000000000000000000000000000000000000000000\",\"keys\":["
    "\"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\"]},"
    "\"require\":[\"bytes\",\"log\"]}";
static const char evm_text[] =
    "{\"anchor\":\"evm\",\"chain\":\"eip155:1\",\"contract\":"
    "\"0x00000000000000000000000000000000000000aa\",\"format\":\"stele.dev/policy/v1\","
    "\"require\":[\"time\"]}";

static struct stele_secret_key the_key(void)
{
	struct stele_secret_key key;
	uint8_t seed[32] = {1};
	stele_key_from_seed(&key, seed);
	return key;
}

static void make_line(unsigned i, struct stele_anchor_line *line)
{
	struct stele_secret_key key = the_key();
	struct stele_hash cluster = {{0}};
	char body[STELE_DEPOSIT_MAX];
	size_t len;
	memset(line, 0, sizeof(*line));
	strcpy(line->checkpoint.origin, ORIGIN);
	line->checkpoint.size = 8 + i;
	stele_sha256(&i, sizeof(i), &line->checkpoint.root);
	FUZZ_CHECK(stele_note_sign(&line->checkpoint, &key, line->note, &line->note_len) ==
	           STELE_OK);
	line->number = i;
	line->time = 1700000000 + i;
	stele_anchor_line_body(line, &cluster, body, &len);
	stele_sign(&key, body, len, &line->sig);
}

static size_t seed_line(unsigned i, uint8_t *out)
{
	static struct stele_anchor_line line;
	size_t len;
	make_line(i, &line);
	FUZZ_CHECK(stele_anchor_line_encode(&line, (char *)out, &len) == STELE_OK);
	return len;
}

static size_t seed_proof(unsigned i, uint8_t *out)
{
	static struct stele_proof p;
	static struct stele_anchor_line line;
	struct stele_secret_key key = the_key();
	struct stele_deposit d = {.type = STELE_DEPOSIT_EVIDENCE,
	                          .length = 1000,
	                          .pool = "evidence",
	                          .depositor = key.pub};
	char *json;
	size_t len;
	make_line(i, &line);
	memset(&p, 0, sizeof(p));
	FUZZ_CHECK(stele_deposit_encode(&d, p.deposit_text, &p.deposit_len) == STELE_OK);
	stele_sign(&key, p.deposit_text, p.deposit_len, &p.sig);
	memcpy(p.note, line.note, line.note_len);
	p.note_len = line.note_len;
	p.leaf_index = i;
	p.leaf_path_len = 3 + i % 2;
	p.nanchors = 1 + i % 3;
	for (uint32_t a = 0; a < p.nanchors; a++) {
		p.anchor[a].kind = STELE_ANCHOR_LOCAL;
		p.anchor[a].local.number = line.number;
		p.anchor[a].local.time = line.time;
		p.anchor[a].local.sig = line.sig;
	}
	p.has_range = i & 1;
	p.range.count = 1;
	p.range.path_len = i % 4;
	FUZZ_CHECK(stele_proof_encode(&p, &json, &len) == STELE_OK);
	memcpy(out, json, len);
	free(json);
	return len;
}

static enum stele_err drop(void *ctx, const struct stele_hash *id, const void *bytes, size_t len)
{
	(void)ctx, (void)id, (void)bytes, (void)len;
	return STELE_OK;
}

static size_t seed_manifest(unsigned i, uint8_t *out)
{
	static struct stele_manifest m;
	struct stele_hash log_id = {{0}};
	struct stele_log_entry e;
	size_t len;
	stele_manifest_init(&m, &log_id);
	for (unsigned n = 0; n < (i % 8) * 37; n++) {
		stele_log_entry_make(STELE_LEAF_DEPOSIT, &n, sizeof(n), "", 0, &e);
		FUZZ_CHECK(stele_manifest_add(&m, &e, drop, NULL) == STELE_OK);
	}
	stele_manifest_encode(&m, out, &len);
	return len;
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	struct stele_log_tile tile = {.width = 1 + i * 7 % 256, .index = (uint64_t)i * i * i};
	const char *text = i & 1 ? evm_text : policy_text;
	if (i >= 5 * 16)
		return 0;
	out[0] = (uint8_t) "pyamt"[i % 5];
	switch (i % 5) {
	case 0:
		return 1 + seed_proof(i / 5, out + 1);
	case 1:
		memcpy(out + 1, text, strlen(text));
		return 1 + strlen(text);
	case 2:
		return 1 + seed_line(i / 5, out + 1);
	case 3:
		return 1 + seed_manifest(i / 5, out + 1);
	default:
		stele_log_tile_path(&tile, (char *)out + 1);
		return 1 + strlen((char *)out + 1);
	}
}

static void same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	FUZZ_CHECK(a_len == b_len && memcmp(a, b, a_len) == 0);
}

struct bytes {
	const uint8_t *p;
	size_t len;
};

static enum stele_err read_bytes(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct bytes *b = ctx;
	*got = b->len < cap ? b->len : cap;
	memcpy(buf, b->p, *got);
	b->p += *got;
	b->len -= *got;
	return STELE_OK;
}

static void try_proof(const uint8_t *p, size_t size)
{
	static struct stele_proof proof;
	static struct stele_proof_result result;
	struct stele_policy policy;
	struct bytes data = {p, size};
	struct stele_proof_file file = {read_bytes, &data};
	char *json;
	size_t len;
	if (stele_proof_decode((const char *)p, size, &proof) != STELE_OK)
		return;
	FUZZ_CHECK(stele_proof_encode(&proof, &json, &len) == STELE_OK);
	same(p, size, json, len);
	free(json);
	FUZZ_CHECK(stele_policy_parse(policy_text, strlen(policy_text), &policy) == STELE_OK);
	/* no input of ours has a path that leads anywhere, so none may be believed */
	FUZZ_CHECK(stele_proof_verify(&proof, &policy, &file, &result) == STELE_ERR_CORRUPT);
	FUZZ_CHECK(!result.policy_met);
	FUZZ_CHECK(result.verdict[STELE_VERDICT_TIME].state == STELE_NOT_ESTABLISHED);
	stele_policy_finish(&policy);
}

static void try_line(const uint8_t *p, size_t size)
{
	static struct stele_anchor_line line;
	static char again[STELE_ANCHOR_LINE_MAX];
	size_t len;
	if (stele_anchor_line_decode((const char *)p, size, &line) != STELE_OK)
		return;
	FUZZ_CHECK(stele_anchor_line_encode(&line, again, &len) == STELE_OK);
	same(p, size, again, len);
}

static void try_manifest(const uint8_t *p, size_t size)
{
	static struct stele_manifest m;
	static uint8_t again[STELE_MANIFEST_MAX];
	struct stele_hash log_id = {{0}};
	size_t len;
	if (stele_manifest_decode(p, size, &log_id, NULL, NULL, &m) != STELE_OK)
		return;
	stele_manifest_encode(&m, again, &len);
	same(p, size, again, len);
}

static void try_path(const uint8_t *p, size_t size)
{
	char text[200], again[STELE_LOG_PATH_MAX];
	struct stele_log_tile tile;
	size = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
	memcpy(text, p, size);
	text[size] = '\0';
	if (stele_log_tile_parse(text, &tile) != STELE_OK)
		return;
	FUZZ_CHECK(tile.width >= 1 && tile.width <= STELE_LOG_WIDTH);
	FUZZ_CHECK(strcmp(stele_log_tile_path(&tile, again), text) == 0);
}

static void try_policy(const uint8_t *p, size_t size)
{
	struct stele_policy policy = {0};
	if (stele_policy_parse((const char *)p, size, &policy) != STELE_OK)
		return;
	FUZZ_CHECK(policy.anchor == STELE_ANCHOR_EVM || !policy.require[STELE_VERDICT_TIME]);
	FUZZ_CHECK(!policy.has_log || policy.nlog_keys > 0);
	stele_policy_finish(&policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	switch (*data) {
	case 'p':
		try_proof(data + 1, size - 1);
		break;
	case 'y':
		try_policy(data + 1, size - 1);
		break;
	case 'a':
		try_line(data + 1, size - 1);
		break;
	case 'm':
		try_manifest(data + 1, size - 1);
		break;
	case 't':
		try_path(data + 1, size - 1);
		break;
	}
	return 0;
}
