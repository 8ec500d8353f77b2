/*
 * Goal: a proof is made, written and read as specified, byte for byte the golden one; both
 * verifiers give the verdicts of tests/golden/proof/cases.json; and no byte of a proof can be
 * changed unnoticed (tests/unit/test_stele_verify.py says the same of the second verifier, over the
 * same files). STELE_GOLDEN_WRITE=1 in the environment writes the golden files anew.
 */
#include <jansson.h>

#include "net/anchor/verify.h"
#include "tests/unit/log_world.h"

#define GOLDEN STELE_SOURCE_DIR "/tests/golden/proof/"

struct bytes {
	uint8_t *p;
	size_t len;
	size_t at;   /* of the reader */
	size_t step; /* bytes that a read gives at most; 0: all */
};

static struct bytes load(const char *name)
{
	char path[512];
	struct bytes b = {.p = malloc(1 << 20)};
	snprintf(path, sizeof(path), GOLDEN "%s", name);
	FILE *f = fopen(path, "rb");
	cr_assert(f && b.p, "%s", path);
	b.len = fread(b.p, 1, 1 << 20, f);
	fclose(f);
	return b;
}

static void expect_golden(const char *name, const void *bytes, size_t len)
{
	char path[512];
	snprintf(path, sizeof(path), GOLDEN "%s", name);
	if (getenv("STELE_GOLDEN_WRITE")) {
		FILE *f = fopen(path, "wb");
		cr_assert_not_null(f);
		cr_assert_eq(fwrite(bytes, 1, len, f), len);
		cr_assert_eq(fclose(f), 0);
	}
	struct bytes b = load(name);
	cr_assert_eq(b.len, len, "%s", name);
	cr_assert_eq(memcmp(b.p, bytes, len), 0, "%s differs", name);
	free(b.p);
}

static enum stele_err read_bytes(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct bytes *b = ctx;
	size_t n = b->len - b->at;
	if (n > cap)
		n = cap;
	if (b->step && n > b->step)
		n = b->step;
	memcpy(buf, b->p + b->at, n);
	b->at += n;
	*got = n;
	return STELE_OK;
}

/* The golden world: eleven deposits, anchored after the eighth and the last. */
#define SMALL_LEN 200u
#define LARGE_LEN (2u * STELE_CELL_LEN + 100u)

struct fixture {
	struct world *w;
	struct stele_manifest *m;
	struct stele_manifest_source source;
	uint8_t small[SMALL_LEN];
	uint8_t large[LARGE_LEN];
	struct stele_proof *p;
};

static struct fixture *fixture_create(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct stele_sequencer_result r;
	cr_assert_not_null(f);
	f->w = world_create();
	f->m = malloc(sizeof(*f->m));
	f->p = malloc(sizeof(*f->p));
	cr_assert(f->m && f->p);
	for (size_t i = 0; i < LARGE_LEN; i++)
		f->large[i] = (uint8_t)(i * 31 + i / 251);
	memcpy(f->small, f->large, SMALL_LEN);
	world_put_some(f->w, 5);
	world_put(f->w, f->small, SMALL_LEN);
	world_put_some(f->w, 1);
	world_put(f->w, f->large, LARGE_LEN);
	cr_assert_eq(world_sequence(f->w, 0, &r), STELE_OK, "%s", stele_detail());
	world_put_some(f->w, 3);
	cr_assert_eq(world_sequence(f->w, 0, &r), STELE_OK, "%s", stele_detail());
	world_manifest(f->w, f->m);
	f->source = (struct stele_manifest_source){f->m, world_get_object, f->w};
	return f;
}

static void fixture_destroy(struct fixture *f)
{
	world_destroy(f->w);
	free(f->m);
	free(f->p);
	free(f);
}

static void build(struct fixture *f, unsigned deposit, unsigned line)
{
	struct world_deposit *d = &f->w->deposit[deposit];
	cr_assert_eq(stele_proof_build(d->text, d->len, &d->sig, d->index, &f->w->line[line],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_OK, "%s", stele_detail());
}

static void set_range(struct fixture *f, uint64_t first, uint64_t count)
{
	struct stele_hash leaf[3];
	stele_sha256_cells(f->large, LARGE_LEN, leaf);
	cr_assert_eq(stele_proof_set_range(f->p, first, count, leaf, 3), STELE_OK, "%s",
	             stele_detail());
}

static char *policy_text(struct fixture *f, const char *require, const char *depositor_name)
{
	char cluster[STELE_HEX_LEN], id[STELE_HEX_LEN], log_key[STELE_HEX_LEN],
	    depositor[STELE_HEX_LEN];
	struct stele_hash log_id;
	char *out = malloc(2048);
	cr_assert_not_null(out);
	stele_log_id(WORLD_ORIGIN, &log_id);
	snprintf(out, 2048,
	         "{\n \"format\": \"stele.dev/policy/v1\",\n \"anchor\": \"local\",\n"
	         " \"cluster\": \"%s\",\n \"log\": {\"id\": \"%s\", \"keys\": [\"%s\"]},\n"
	         " \"depositors\": [{\"key\": \"%s\", \"name\": \"%s\", \"role\": \"writer\"}],\n"
	         " \"require\": [%s]\n}\n",
	         stele_hash_hex(&f->w->cluster, cluster), stele_hash_hex(&log_id, id),
	         stele_hex(f->w->log_key.pub.b, 32, log_key),
	         stele_hex(f->w->depositor.pub.b, 32, depositor), depositor_name, require);
	return out;
}

Test(proof, golden_files)
{
	struct fixture *f = fixture_create();
	char *json, *policy;
	size_t len;
	build(f, 5, 1);
	cr_assert_eq(stele_proof_encode(f->p, &json, &len), STELE_OK);
	expect_golden("whole.json", json, len);
	expect_golden("whole.bin", f->small, SMALL_LEN);
	free(json);
	build(f, 7, 1);
	set_range(f, 2, 1);
	cr_assert_eq(stele_proof_encode(f->p, &json, &len), STELE_OK);
	expect_golden("range.json", json, len);
	expect_golden("range.bin", f->large + 2 * STELE_CELL_LEN, 100);
	free(json);
	policy = policy_text(f, "\"bytes\", \"log\", \"depositor\"", "alice");
	expect_golden("policy.json", policy, strlen(policy));
	free(policy);
	/* another log, other depositors: the first key is the depositor's, not the log's */
	struct stele_secret_key key = f->w->log_key;
	f->w->log_key = f->w->depositor;
	policy = policy_text(f, "\"log\"", "mallory");
	expect_golden("other_log_key.json", policy, strlen(policy));
	free(policy);
	f->w->log_key = key;
	f->w->depositor = key;
	policy = policy_text(f, "\"depositor\"", "mallory");
	expect_golden("other_depositor.json", policy, strlen(policy));
	free(policy);
	f->w->cluster.b[0] ^= 1;
	policy = policy_text(f, "", "mallory");
	expect_golden("other_cluster.json", policy, strlen(policy));
	free(policy);
	fixture_destroy(f);
}

static const char *const state_names[] = {"not established", "established", "failed"};

static void run_case(const json_t *c)
{
	const char *name = json_string_value(json_object_get(c, "name"));
	const char *file = json_string_value(json_object_get(c, "file"));
	const char *policy_file = json_string_value(json_object_get(c, "policy"));
	struct bytes proof = load(json_string_value(json_object_get(c, "proof"))), data = {0};
	struct stele_proof *p = malloc(sizeof(*p));
	struct stele_policy policy = {0};
	struct stele_proof_result r;
	struct stele_proof_file in = {read_bytes, &data};
	cr_assert_eq(stele_proof_decode((char *)proof.p, proof.len, p), STELE_OK, "%s: %s", name,
	             stele_detail());
	if (policy_file) {
		struct bytes text = load(policy_file);
		cr_assert_eq(stele_policy_parse((char *)text.p, text.len, &policy), STELE_OK,
		             "%s: %s", name, stele_detail());
		free(text.p);
	}
	if (file)
		data = load(file);
	for (data.step = 0; data.step < 3; data.step++) {
		data.at = 0;
		enum stele_err err =
		    stele_proof_verify(p, policy_file ? &policy : NULL, file ? &in : NULL, &r);
		int code = err == STELE_OK ? 0 : err == STELE_ERR_CORRUPT ? 5 : 1;
		cr_assert(code != 1 || err == STELE_ERR_REFUSED, "%s: %s", name, stele_detail());
		cr_assert_eq(code, json_integer_value(json_object_get(c, "exit")), "%s: exit %d",
		             name, code);
		cr_assert_eq(r.policy_met, code == 0);
		for (unsigned i = 0; i < STELE_VERDICTS; i++) {
			cr_assert_str_eq(
			    state_names[r.verdict[i].state],
			    json_string_value(json_object_get(c, stele_verdict_name(i))),
			    "%s: %s: %s", name, stele_verdict_name(i), r.verdict[i].text);
			cr_assert_gt(strlen(r.verdict[i].text), 10u);
		}
	}
	stele_policy_finish(&policy);
	free(proof.p);
	free(data.p);
	free(p);
}

Test(proof, cases_of_both_verifiers)
{
	struct bytes b = load("cases.json");
	json_error_t e;
	json_t *cases = json_loadb((char *)b.p, b.len, 0, &e);
	cr_assert_gt(json_array_size(cases), 10u, "%s", e.text);
	for (size_t i = 0; i < json_array_size(cases); i++)
		run_case(json_array_get(cases, i));
	json_decref(cases);
	free(b.p);
}

/* No change of a byte leaves a proof that decodes and verifies. Bit flips of every byte, and every
 * other value at the bytes of one stretch that has all kinds of characters. */
static void change_everything(const char *name, const char *file)
{
	struct bytes proof = load(name), data = load(file), policy_bytes = load("policy.json");
	struct stele_policy policy;
	struct stele_proof *p = malloc(sizeof(*p));
	struct stele_proof_result r;
	struct stele_proof_file in = {read_bytes, &data};
	unsigned decoded = 0;
	cr_assert_eq(stele_policy_parse((char *)policy_bytes.p, policy_bytes.len, &policy),
	             STELE_OK);
	cr_assert_eq(stele_proof_decode((char *)proof.p, proof.len, p), STELE_OK);
	cr_assert_eq(stele_proof_verify(p, &policy, &in, &r), STELE_OK, "%s", stele_detail());
	for (size_t i = 0; i < proof.len; i++)
		for (unsigned v = 1; v < 256; v = i % 16 == 0 ? v + 1 : 2 * v) {
			proof.p[i] ^= (uint8_t)v;
			data.at = 0;
			enum stele_err err = stele_proof_decode((char *)proof.p, proof.len, p);
			if (err == STELE_OK) {
				decoded++;
				err = stele_proof_verify(p, &policy, &in, &r);
				cr_assert_eq(err, STELE_ERR_CORRUPT, "%s: byte %zu ^ %u: %s", name,
				             i, v, stele_detail());
			} else {
				cr_assert(err == STELE_ERR_CORRUPT || err == STELE_ERR_VERSION,
				          "%s: byte %zu ^ %u: %s", name, i, v, stele_detail());
			}
			proof.p[i] ^= (uint8_t)v;
		}
	cr_assert_gt(decoded, 1000u);
	for (size_t cut = 0; cut < proof.len; cut++)
		cr_assert_eq(stele_proof_decode((char *)proof.p, cut, p), STELE_ERR_CORRUPT);
	stele_policy_finish(&policy);
	free(policy_bytes.p);
	free(proof.p);
	free(data.p);
	free(p);
}

Test(proof, no_changed_byte_verifies, .timeout = 60)
{
	change_everything("whole.json", "whole.bin");
}

Test(proof, no_changed_byte_of_a_range_verifies, .timeout = 60)
{
	change_everything("range.json", "range.bin");
}

Test(proof, no_changed_byte_of_a_file_verifies)
{
	struct fixture *f = fixture_create();
	struct stele_proof_result r;
	struct bytes data = {.p = f->large, .len = LARGE_LEN};
	struct stele_proof_file in = {read_bytes, &data};
	build(f, 7, 1);
	cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_OK, "%s", stele_detail());
	cr_assert_eq(r.verdict[STELE_VERDICT_BYTES].state, STELE_ESTABLISHED);
	for (size_t i = 0; i < LARGE_LEN; i += 1009) {
		f->large[i] ^= 4;
		data.at = 0;
		cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_ERR_CORRUPT);
		f->large[i] ^= 4;
	}
	data.at = 1; /* a byte short, at the beginning and at the end */
	cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_ERR_CORRUPT);
	data.at = 0;
	data.len--;
	cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_ERR_CORRUPT);
	fixture_destroy(f);
}

Test(proof, an_untrue_tree_is_named)
{
	struct fixture *f = fixture_create();
	struct stele_sequencer_result r;
	struct stele_proof_result out;
	struct bytes data = {.p = f->small, .len = SMALL_LEN};
	struct stele_proof_file in = {read_bytes, &data};
	struct world_deposit *d = world_put(f->w, f->small, SMALL_LEN);
	struct stele_deposit fields;
	char text[STELE_DEPOSIT_MAX];
	cr_assert_eq(stele_deposit_decode(d->text, d->len, &fields), STELE_OK);
	fields.tree.b[0] ^= 1;
	cr_assert_eq(stele_deposit_encode(&fields, text, &d->len), STELE_OK);
	memcpy(d->text, text, d->len);
	stele_sign(&f->w->depositor, d->text, d->len, &d->sig);
	stele_deposit_hash(d->text, d->len, &d->hash);
	cr_assert_eq(world_sequence(f->w, 0, &r), STELE_OK);
	world_manifest(f->w, f->m);
	build(f, 11, 2);
	cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &out), STELE_ERR_CORRUPT);
	cr_assert_not_null(strstr(stele_detail(), "untrue"));
	fixture_destroy(f);
}

Test(proof, other_spellings_are_refused)
{
	static const char *const spelling[][2] = {
	    {"{\"anchors\"", " {\"anchors\""},
	    {"{\"anchors\"", "{ \"anchors\""},
	    {"\"index\":5", "\"index\": 5"},
	    {"\"index\":5", "\"index\":5.0"},
	    {"\"index\":5", "\"index\":-5"},
	    {"\"index\":5", "\"index\":true"},
	    {"\"index\":5", "\"index\":\"5\""},
	    {"\u2014", "\\u2014"},
	    {"stele.dev/deposit", "stele.dev\\/deposit"},
	    {"evidence", "\\u0065vidence"},
	    {"\"format\"", "\"extra\":1,\"format\""},
	    {"\"format\"", "\"format\":\"stele.dev/proof/v1\",\"format\""},
	    {"\"kind\":\"local\",", ""},
	    {"\"kind\":\"local\",", "\"extra\":0,\"kind\":\"local\","},
	};
	struct bytes b = load("whole.json");
	struct stele_proof *p = malloc(sizeof(*p));
	char text[8192];
	b.p[b.len] = '\0';
	for (size_t i = 0; i < sizeof(spelling) / sizeof(spelling[0]); i++) {
		const char *whole = (char *)b.p, *at = strstr(whole, spelling[i][0]);
		cr_assert_not_null(at, "%s", spelling[i][0]);
		int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - whole), whole,
		                   spelling[i][1], at + strlen(spelling[i][0]));
		cr_assert_eq(stele_proof_decode(text, (size_t)len, p), STELE_ERR_CORRUPT, "%s",
		             spelling[i][1]);
	}
	int len = snprintf(text, sizeof(text), "%s\n", (char *)b.p);
	cr_assert_eq(stele_proof_decode(text, (size_t)len, p), STELE_ERR_CORRUPT);
	memset(text, '[', sizeof(text));
	cr_assert_eq(stele_proof_decode(text, sizeof(text), p), STELE_ERR_CORRUPT);
	free(b.p);
	free(p);
}

Test(proof, every_range_of_an_object)
{
	struct fixture *f = fixture_create();
	struct stele_proof_result r;
	struct stele_hash leaf[3];
	char *json;
	size_t len;
	for (uint64_t first = 0; first < 3; first++)
		for (uint64_t count = 1; first + count <= 3; count++) {
			size_t from = first * STELE_CELL_LEN;
			size_t to =
			    first + count == 3 ? LARGE_LEN : (first + count) * STELE_CELL_LEN;
			struct bytes data = {.p = f->large + from, .len = to - from};
			struct stele_proof_file in = {read_bytes, &data};
			build(f, 7, 1);
			set_range(f, first, count);
			cr_assert_eq(stele_proof_encode(f->p, &json, &len), STELE_OK);
			cr_assert_eq(stele_proof_decode(json, len, f->p), STELE_OK, "%s",
			             stele_detail());
			free(json);
			cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_OK, "%s",
			             stele_detail());
			cr_assert_not_null(strstr(r.verdict[STELE_VERDICT_BYTES].text,
			                          "depositor's signed claim"));
			data.at = 0;
			data.len--;
			cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_ERR_CORRUPT);
		}
	stele_sha256_cells(f->large, LARGE_LEN, leaf);
	cr_assert_eq(stele_proof_set_range(f->p, 3, 1, leaf, 3), STELE_ERR_INVALID);
	cr_assert_eq(stele_proof_set_range(f->p, 0, 0, leaf, 3), STELE_ERR_INVALID);
	cr_assert_eq(stele_proof_set_range(f->p, 1, UINT64_MAX, leaf, 3), STELE_ERR_INVALID);
	cr_assert_eq(stele_proof_set_range(f->p, 0, 1, leaf, 2), STELE_ERR_INVALID);
	leaf[1].b[0] ^= 1;
	cr_assert_eq(stele_proof_set_range(f->p, 0, 1, leaf, 3), STELE_ERR_CORRUPT);
	fixture_destroy(f);
}

Test(proof, hostile_ranges_are_refused)
{
	static const uint64_t bad[][2] = {{0, 0},
	                                  {3, 1},
	                                  {0, 4},
	                                  {1, (1ull << 53) - 1},
	                                  {(1ull << 53) - 1, 1},
	                                  {(1ull << 53) - 1, (1ull << 53) - 1}};
	struct fixture *f = fixture_create();
	struct stele_proof_result r;
	build(f, 7, 1);
	set_range(f, 2, 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bytes data = {.p = f->large, .len = LARGE_LEN};
		struct stele_proof_file in = {read_bytes, &data};
		f->p->range.first = bad[i][0];
		f->p->range.count = bad[i][1];
		cr_assert_eq(stele_proof_verify(f->p, NULL, &in, &r), STELE_ERR_CORRUPT);
	}
	fixture_destroy(f);
}

Test(proof, building_refuses_what_would_not_verify)
{
	struct fixture *f = fixture_create();
	struct world_deposit *d = &f->w->deposit[5];
	/* a leaf that the line does not cover; a wrong index; a wrong signature; tiles of another
	 * log */
	cr_assert_eq(stele_proof_build(d->text, d->len, &d->sig, 8, &f->w->line[0],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_ERR_INVALID);
	cr_assert_eq(stele_proof_build(d->text, d->len, &d->sig, 4, &f->w->line[0],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_ERR_CORRUPT);
	struct stele_sig sig = d->sig;
	sig.b[0] ^= 1;
	cr_assert_eq(stele_proof_build(d->text, d->len, &sig, 5, &f->w->line[0],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_ERR_CORRUPT);
	cr_assert_eq(stele_proof_build(d->text, d->len - 1, &d->sig, 5, &f->w->line[0],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_ERR_CORRUPT);
	f->m->tree.edge[0][4].b[0] ^= 1;
	cr_assert_eq(stele_proof_build(d->text, d->len, &d->sig, 5, &f->w->line[0],
	                               stele_manifest_fetch, &f->source, f->p),
	             STELE_ERR_CORRUPT);
	fixture_destroy(f);
}

Test(proof, older_anchors_prove_as_well)
{
	struct fixture *f = fixture_create();
	struct bytes data = {.p = f->small, .len = SMALL_LEN};
	struct stele_proof_file in = {read_bytes, &data};
	struct stele_proof_result r;
	struct stele_policy policy;
	char *text = policy_text(f, "\"bytes\", \"log\", \"depositor\"", "alice");
	cr_assert_eq(stele_policy_parse(text, strlen(text), &policy), STELE_OK, "%s",
	             stele_detail());
	for (unsigned line = 0; line < 2; line++) {
		data.at = 0;
		build(f, 5, line);
		cr_assert_eq(stele_proof_verify(f->p, &policy, &in, &r), STELE_OK, "%s",
		             stele_detail());
		cr_assert_not_null(
		    strstr(r.verdict[STELE_VERDICT_LOG].text, "the operator's word only"));
	}
	stele_policy_finish(&policy);
	free(text);
	fixture_destroy(f);
}

static void policy_refused(struct fixture *f, const char *from, const char *to)
{
	struct stele_policy policy = {0};
	char text[4096];
	char *whole = policy_text(f, "\"log\"", "alice");
	const char *at = strstr(whole, from);
	cr_assert_not_null(at, "%s", from);
	int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - whole), whole, to,
	                   at + strlen(from));
	cr_assert_eq(stele_policy_parse(text, (size_t)len, &policy), STELE_ERR_USAGE, "%s", text);
	cr_assert_eq(strncmp(stele_detail(), "policy: ", 8), 0, "%s", stele_detail());
	free(whole);
}

Test(policy, refusals)
{
	struct fixture *f = fixture_create();
	policy_refused(f, "policy/v1", "policy/v2");
	policy_refused(f, "\"anchor\": \"local\"", "\"anchor\": \"lokal\"");
	policy_refused(f, "\"anchor\": \"local\"", "\"anchor\": \"evm\"");
	policy_refused(f, "\"local\",", "\"local\", \"chain\": \"eip155:1\",");
	policy_refused(f, "\"local\",", "\"evm\", \"chain\": \"eip155:1\",");
	policy_refused(f, "\"local\",",
	               "\"evm\", \"chain\": \"eip155:1\", \"contract\": "
	               "\"0xABCDEF0123456789abcdef0123456789abcdef01\",");
	policy_refused(f, "\"cluster\": \"c1", "\"cluster\": \"C1");
	policy_refused(f, "\"cluster\"", "\"klaster\"");
	policy_refused(f, "\"keys\": [\"", "\"keys\": [], \"x\": [\"");
	policy_refused(f, "\"role\"", "\"rolle\"");
	policy_refused(f, "\"alice\"", "\"al ice\"");
	policy_refused(f, "[\"log\"]", "[\"lok\"]");
	policy_refused(f, "[\"log\"]", "[\"log\", 1]");
	policy_refused(f, "[\"log\"]", "\"log\"");
	policy_refused(f, "[\"log\"]", "[\"time\"]");
	policy_refused(f, "[\"log\"]\n}", "[\"log\"]");
	policy_refused(f, "\"require\"", "\"format\": \"x\", \"require\"");
	fixture_destroy(f);
}
