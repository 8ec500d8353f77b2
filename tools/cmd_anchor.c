/* anchor now|status and proof|proof verify: the log, its anchors, and the one file that convinces somebody else. */
#include "tools/cmd_anchor.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "net/anchor/archive.h"
#include "net/anchor/verify.h"
#include "net/cluster/keys.h"
#include "net/cluster/map.h"
#include "tools/json_out.h"
#include "tools/local.h"
#include "tools/open.h"
#include "tools/tty.h"

#define POLICY_MAX (1u << 20)

/* ---- files beside the cluster file ---- */

struct paths {
	char cluster[STELE_PATH_MAX];
	char key[STELE_PATH_MAX];
	char head[STELE_PATH_MAX];
	char anchors[STELE_PATH_MAX];
};

static enum stele_err beside(const char *cluster, const char *name, char out[STELE_PATH_MAX])
{
	char copy[STELE_PATH_MAX];
	snprintf(copy, sizeof(copy), "%s", cluster);
	int n = snprintf(out, STELE_PATH_MAX, "%s/%s", dirname(copy), name);
	if (n < 0 || (size_t)n >= STELE_PATH_MAX)
		return stele_fail(STELE_ERR_USAGE, "%.80s...: path too long", cluster);
	return STELE_OK;
}

static enum stele_err find_paths(const struct stele_cli *cli, struct paths *p)
{
	const char *cluster = stele_cluster_file(cli->cluster, NULL);
	int n = snprintf(p->cluster, sizeof(p->cluster), "%s", cluster);
	if (n < 0 || (size_t)n >= sizeof(p->cluster))
		return stele_fail(STELE_ERR_USAGE, "%.80s...: path too long", cluster);
	STELE_TRY(beside(cluster, "log.key", p->key));
	STELE_TRY(beside(cluster, "log.head", p->head));
	return beside(cluster, "anchors.local", p->anchors);
}

/* ---- anchor now ---- */

static json_t *line_json(const struct stele_anchor_line *line)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "backend", "local", "state", "recorded",
	                 "number", stele_json_u64(line->number), "size",
	                 stele_json_u64(line->checkpoint.size), "root",
	                 stele_json_hex(line->checkpoint.root.b, STELE_HASH_LEN), "time",
	                 stele_json_u64(line->time));
}

static void print_line(FILE *out, const struct stele_anchor_line *line)
{
	char root[STELE_HEX_LEN], when[32];
	time_t t = (time_t)line->time;
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fprintf(out, "anchor %" PRIu64 ": %" PRIu64 " %s, root %s\n", line->number,
	        line->checkpoint.size, line->checkpoint.size == 1 ? "deposit" : "deposits",
	        stele_hash_hex(&line->checkpoint.root, root));
	fprintf(out, "state: recorded (local: the operator's word, no proof of time), %s\n", when);
}

static enum stele_err check_key(struct stele *s, const struct paths *p,
                                const struct stele_keys *keys)
{
	if (memcmp(&stele_map_of(s)->log_key, &keys->sign.pub, sizeof(keys->sign.pub)) != 0)
		return stele_fail(
		    STELE_ERR_DENIED,
		    "%.300s is not the key of this cluster's log: name it with --log-key", p->key);
	return STELE_OK;
}

static enum stele_err anchor_with(struct stele_cli *cli, const struct paths *p,
                                  struct stele_env *env, const struct stele_keys *keys)
{
	struct stele *s;
	struct stele_bar bar;
	char why[STELE_DETAIL_MAX];
	struct stele_log_paths files = {.head = p->head, .anchors = p->anchors};
	struct stele_sequencer_result *r = calloc(1, sizeof(*r));
	if (!r)
		return stele_fail(STELE_ERR_NOMEM, "anchor: out of memory");
	enum stele_err err = stele_cli_open(cli, &s);
	if (err != STELE_OK) {
		free(r);
		return err;
	}
	stele_bar_start(&bar, cli, "anchor", STELE_BAR_ITEMS);
	struct stele_progress progress = stele_cli_progress(&bar);
	err = check_key(s, p, keys);
	if (err == STELE_OK)
		err = stele_anchor_now(s, env, &keys->sign, &files, &progress, r);
	stele_bar_finish(&bar);
	bool partial = err == STELE_ERR_DEGRADED;
	if (partial) {
		stele_detail_copy(why);
		err = STELE_OK;
	}
	if (err == STELE_OK && cli->json)
		err = stele_json_result(
		    cli, json_pack("{s:o, s:o, s:o}", "entered", stele_json_u64(r->entered),
		                   "rejected", stele_json_u64(r->rejected), "anchor",
		                   r->anchored ? line_json(&r->line) : json_null()));
	else if (err == STELE_OK && !r->anchored)
		fprintf(cli->out, "nothing has been deposited yet\n");
	else if (err == STELE_OK) {
		fprintf(cli->out, "%" PRIu64 " %s entered\n", r->entered,
		        r->entered == 1 ? "deposit" : "deposits");
		print_line(cli->out, &r->line);
	}
	if (err == STELE_OK && r->rejected > 0)
		err = stele_fail(STELE_ERR_CORRUPT,
		                 "%" PRIu64 " deposits do not verify and were not entered",
		                 r->rejected);
	else if (err == STELE_OK && partial)
		err = stele_fail(STELE_ERR_DEGRADED, "%s", why);
	stele_cli_close(s);
	free(r);
	return err;
}

static enum stele_err run_now(struct stele_cli *cli)
{
	struct paths p;
	struct stele_env *env;
	struct stele_keys keys;
	STELE_TRY(find_paths(cli, &p));
	if (stele_cli_given(cli, "log-key"))
		snprintf(p.key, sizeof(p.key), "%s", stele_cli_text(cli, "log-key"));
	STELE_TRY(stele_env_create(NULL, &env));
	enum stele_err err = stele_keys_load(env, p.key, &keys);
	if (err == STELE_ERR_NOT_FOUND)
		err = STELE_ERR_USAGE;
	if (err == STELE_OK) {
		if (!keys.has_sign)
			err = stele_fail(STELE_ERR_USAGE, "%s holds no sign key", p.key);
		else
			err = anchor_with(cli, &p, env, &keys);
		stele_keys_wipe(&keys);
	} else {
		(void)stele_wrap(err, "the log's key (--log-key)");
	}
	stele_env_destroy(env);
	return err;
}

/* ---- anchor status ---- */

static enum stele_err load_map(struct stele_env *env, const char *path, struct stele_map **map)
{
	char *json;
	size_t len;
	enum stele_err err =
	    stele_local_usage(stele_file_load(env, path, STELE_MAP_MAX, &json, &len));
	if (err != STELE_OK)
		return stele_wrap(err, "the cluster file (--cluster FILE or $STELE_CLUSTER)");
	err = stele_map_parse(json, len, NULL, map);
	free(json);
	return err == STELE_OK ? err : stele_wrap(err, "%s", path);
}

static enum stele_err show_status(struct stele_cli *cli, struct stele_env *env,
                                  const struct paths *p, const struct stele_map *map)
{
	struct stele_anchor_trust trust;
	struct stele_anchor_local *local;
	stele_anchor_trust_of(map, &trust);
	enum stele_err err = stele_anchor_local_open(env, p->anchors, &trust, false, &local);
	uint64_t n = 0;
	if (err == STELE_ERR_NOT_FOUND)
		local = NULL;
	else if (err != STELE_OK)
		return err;
	else
		n = stele_anchor_local_count(local);
	err = STELE_OK;
	struct stele_anchor_line *line = calloc(1, sizeof(*line));
	if (!line)
		err = stele_fail(STELE_ERR_NOMEM, "anchor: out of memory");
	else if (n > 0)
		err = stele_anchor_local_line(local, n - 1, line);
	if (err == STELE_OK && cli->json)
		err = stele_json_result(cli, json_pack("{s:s, s:o, s:o}", "origin", map->log_origin,
		                                       "anchors", stele_json_u64(n), "newest",
		                                       n > 0 ? line_json(line) : json_null()));
	else if (err == STELE_OK && n == 0)
		fprintf(cli->out, "log %s: nothing is anchored yet\n", map->log_origin);
	else if (err == STELE_OK) {
		fprintf(cli->out, "log %s\n", map->log_origin);
		print_line(cli->out, line);
	}
	free(line);
	stele_anchor_local_close(local);
	return err;
}

static enum stele_err run_status(struct stele_cli *cli)
{
	struct paths p;
	struct stele_env *env;
	struct stele_map *map;
	STELE_TRY(find_paths(cli, &p));
	STELE_TRY(stele_env_create(NULL, &env));
	enum stele_err err = load_map(env, p.cluster, &map);
	if (err == STELE_OK) {
		err = show_status(cli, env, &p, map);
		stele_map_unref(map);
	}
	stele_env_destroy(env);
	return err;
}

/* ---- proof ---- */

static enum stele_err write_proof(struct stele_cli *cli, struct stele_env *env,
                                  const struct stele_hash *id, const struct stele_proof *proof,
                                  const char *target)
{
	const char *path = stele_cli_text(cli, "output");
	char *json;
	size_t len;
	STELE_TRY(stele_proof_encode(proof, &json, &len));
	enum stele_err err = STELE_OK;
	if (path)
		err = stele_file_save(env, target, json, len, 0644);
	else if (!cli->json && fwrite(json, 1, len, cli->out) != len)
		err = stele_cli_out_failed(cli);
	if (err == STELE_OK && cli->json)
		err = stele_json_result(
		    cli, json_pack("{s:o, s:o, s:o, s:o}", "object", stele_json_id(id), "leaf",
		                   stele_json_u64(proof->leaf_index), "size",
		                   stele_json_u64(proof->checkpoint.checkpoint.size), "file",
		                   stele_json_text(path)));
	else if (err == STELE_OK && path) {
		stele_cli_print(cli->out, path);
		fprintf(cli->out, ": leaf %" PRIu64 " of %" PRIu64 ", %zu bytes\n",
		        proof->leaf_index, proof->checkpoint.checkpoint.size, len);
	}
	free(json);
	return err;
}

static enum stele_err run_proof(struct stele_cli *cli)
{
	struct paths p;
	struct stele_env *env;
	struct stele *s;
	struct stele_hash id;
	char target[STELE_PATH_MAX];
	STELE_TRY(find_paths(cli, &p));
	STELE_TRY(stele_id_parse(cli->arg[0], &id));
	if (cli->json && !stele_cli_given(cli, "output"))
		return stele_cli_usage(cli, "with --json say where the proof goes: -o FILE");
	if (stele_cli_given(cli, "output"))
		STELE_TRY(stele_local_target(stele_cli_text(cli, "output"), target));
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = stele_env_create(NULL, &env);
	if (err == STELE_OK) {
		struct stele_proof *proof = calloc(1, sizeof(*proof));
		err = proof ? stele_anchor_proof(s, env, p.anchors, &id, NULL, proof)
		            : stele_fail(STELE_ERR_NOMEM, "proof: out of memory");
		if (err == STELE_OK)
			err = write_proof(cli, env, &id, proof, target);
		free(proof);
		stele_env_destroy(env);
	}
	stele_cli_close(s);
	return err;
}

/* ---- proof verify ---- */

static enum stele_err load_policy(struct stele_cli *cli, struct stele_env *env,
                                  struct stele_policy *policy, bool *has)
{
	const char *path = stele_cli_text(cli, "policy");
	struct stele_map *map;
	enum stele_err err;
	*has = true;
	if (path) {
		char *json;
		size_t len;
		STELE_TRY(stele_local_usage(stele_file_load(env, path, POLICY_MAX, &json, &len)));
		err = stele_policy_parse(json, len, policy);
		free(json);
		return err == STELE_OK ? err : stele_wrap(err, "%s", path);
	}
	bool named;
	const char *cluster = stele_cluster_file(cli->cluster, &named);
	if (!named && access(cluster, F_OK) != 0 && errno == ENOENT) { /* offline, anywhere */
		*has = false;
		return STELE_OK;
	}
	STELE_TRY(load_map(env, cluster, &map));
	err = stele_anchor_policy_of(map, policy);
	stele_map_unref(map);
	return err;
}

static const char *verdict_word(enum stele_verdict_state state)
{
	return state == STELE_ESTABLISHED ? "established"
	       : state == STELE_FAILED    ? "FAILED"
	                                  : "not established";
}

static enum stele_err report(struct stele_cli *cli, const struct stele_proof_result *r,
                             enum stele_err err)
{
	if (cli->json) {
		char detail[STELE_DETAIL_MAX];
		stele_detail_copy(detail);
		json_t *o = json_object();
		for (uint32_t i = 0; i < STELE_VERDICTS; i++)
			json_object_set_new(o, stele_verdict_name(i),
			                    json_pack("{s:s, s:s}", "verdict",
			                              verdict_word(r->verdict[i].state), "text",
			                              r->verdict[i].text));
		json_object_set_new(o, "policy_met", json_boolean(r->policy_met));
		enum stele_err out = stele_json_result(cli, o);
		return err == STELE_OK ? out : stele_fail(err, "%s", detail);
	}
	for (uint32_t i = 0; i < STELE_VERDICTS; i++) {
		enum stele_verdict_state state = r->verdict[i].state;
		enum stele_tty_style style = state == STELE_ESTABLISHED ? STELE_TTY_GREEN
		                             : state == STELE_FAILED    ? STELE_TTY_RED
		                                                        : STELE_TTY_YELLOW;
		fprintf(cli->out, "%-10s %s%-15s%s %s\n", stele_verdict_name(i),
		        stele_tty_style(cli->out, style), verdict_word(state),
		        stele_tty_style(cli->out, STELE_TTY_PLAIN), r->verdict[i].text);
	}
	return err;
}

static enum stele_err verify(struct stele_cli *cli, struct stele_env *env,
                             struct stele_local *bytes)
{
	struct stele_policy policy = {0};
	struct stele_proof_result result;
	bool has_policy;
	char *json;
	size_t len;
	STELE_TRY(
	    stele_local_usage(stele_file_load(env, cli->arg[0], STELE_PROOF_MAX, &json, &len)));
	struct stele_proof *proof = calloc(1, sizeof(*proof));
	enum stele_err err = proof ? stele_proof_decode(json, len, proof)
	                           : stele_fail(STELE_ERR_NOMEM, "proof: out of memory");
	if (err != STELE_OK)
		(void)stele_wrap(err, "%.200s", cli->arg[0]);
	if (err == STELE_OK)
		err = load_policy(cli, env, &policy, &has_policy);
	if (err == STELE_OK) {
		struct stele_proof_file file = {.read = stele_local_read, .ctx = bytes};
		memset(&result, 0, sizeof(result));
		err = stele_proof_verify(proof, has_policy ? &policy : NULL, bytes ? &file : NULL,
		                         &result);
		if (err == STELE_OK && !has_policy && !bytes)
			err = stele_fail(STELE_ERR_REFUSED,
			                 "nothing is established: name the bytes with --file, and "
			                 "with --policy whom to trust");
		if (err == STELE_OK || err == STELE_ERR_CORRUPT || err == STELE_ERR_REFUSED)
			err = report(cli, &result, err);
	}
	stele_policy_finish(&policy);
	free(proof);
	free(json);
	return err;
}

static enum stele_err run_verify(struct stele_cli *cli)
{
	struct stele_env *env;
	struct stele_local bytes = {0};
	const char *path = stele_cli_text(cli, "file");
	if (path)
		STELE_TRY(stele_local_open(path, &bytes));
	enum stele_err err = stele_env_create(NULL, &env);
	if (err == STELE_OK) {
		err = verify(cli, env, path ? &bytes : NULL);
		stele_env_destroy(env);
	}
	stele_local_close(&bytes);
	return err;
}

/* ---- the table ---- */

static const struct stele_opt now_opts[] = {
    {"log-key", 0, STELE_OPT_TEXT, "FILE", "the log's key; log.key beside the cluster file"}, {0}};
static const struct stele_opt proof_opts[] = {
    {"output", 'o', STELE_OPT_TEXT, "FILE", "write it there instead of standard output"}, {0}};
static const struct stele_opt verify_opts[] = {
    {"file", 0, STELE_OPT_TEXT, "FILE", "the bytes that the proof is about"},
    {"policy", 0, STELE_OPT_TEXT, "FILE",
     "whom to trust and what to require; otherwise the cluster file says, if there is one"},
    {0}};

const struct stele_command stele_cmd_anchor[] = {
    {.name = "anchor now",
     .args = "",
     .summary = "enter every deposit into the log, and anchor its root",
     .details =
         "Covers every put that was acknowledged before. Uses log.key, log.head and anchors.local "
         "beside the cluster file. The client's key needs the role sequencer. Exit 3: done, but of an "
         "object that one depositor deposited more than 1,024 times some are not in the log.",
     .example = "stele anchor now --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .opt = now_opts,
     .run = run_now},
    {.name = "anchor status",
     .args = "",
     .summary = "the newest anchor of the log",
     .example = "stele anchor status --cluster dev/cluster.json",
     .flags = STELE_CMD_CLUSTER,
     .run = run_status},
    {.name = "proof",
     .args = "ID",
     .summary = "one file that proves a deposit to somebody else",
     .example = "stele proof sha256:9f86d0...0a08 -o contract.proof",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = 1,
     .opt = proof_opts,
     .run = run_proof},
    {.name = "proof verify",
     .args = "PROOF",
     .summary = "judge a proof, offline",
     .details =
         "Prints what is established: that the bytes match the deposit, that they existed before a "
         "chain block, that the deposit is in the operator's append-only log, who deposited. Exit "
         "0 "
         "only when all that the policy requires is established; 5 when something is false.",
     .example = "stele proof verify contract.proof --file contract.pdf",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = 1,
     .opt = verify_opts,
     .run = run_verify},
    {0}};
