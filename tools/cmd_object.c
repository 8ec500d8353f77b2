/* put, get, stat, ls, verify: objects in and out. */
#include "tools/cmd_object.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "net/client/session.h"
#include "tools/json_out.h"
#include "tools/local.h"
#include "tools/open.h"

static struct stele_progress progress_start(struct stele_bar *bar, const struct stele_cli *cli,
                                            const char *label)
{
	stele_bar_start(bar, cli, label, STELE_BAR_BYTES);
	return stele_cli_progress(bar);
}

/* ---- put ---- */

static enum stele_err put_path(struct stele *s, const char *path, struct stele_put_opts *opts,
                               struct stele_put_result *out)
{
	struct stele_local file;
	STELE_TRY(stele_local_open(path, &file));
	struct stele_source src = {.read = stele_local_read, .ctx = &file, .length = file.length};
	enum stele_err err = stele_put(s, &src, opts, out);
	stele_local_close(&file);
	if (err != STELE_OK && err != STELE_ERR_DEGRADED)
		(void)stele_wrap(err, "%.200s", path);
	return err;
}

/* The deposit's text, a line "signature <hex>", and what was reached: enough to hold the archive to its word. */
static enum stele_err receipt_text(const struct stele_found *found,
                                   const struct stele_put_result *put, char **text, size_t *len)
{
	char hex[2 * STELE_SIG_LEN + 1];
	const struct stele_found_record *found_record = stele_found_deposit(found, &put->deposit);
	struct stele_record r;
	if (!found_record || !found_record->sig_ok)
		return stele_fail(STELE_ERR_NOT_FOUND, "no good copy of the deposit's record");
	struct stele_piece *piece = calloc(STELE_PIECES_MAX, sizeof(*piece));
	if (!piece)
		return stele_fail(STELE_ERR_NOMEM, "receipt: out of memory");
	enum stele_err err =
	    stele_record_decode(found_record->bytes, found_record->len, false, &r, piece);
	if (err == STELE_OK) {
		int n = asprintf(text, "%.*ssignature %s\nmargin %d\n", (int)r.text_len, r.text,
		                 stele_hex(r.sig.b, STELE_SIG_LEN, hex), put->margin);
		err = n >= 0 ? STELE_OK : stele_fail(STELE_ERR_NOMEM, "receipt: out of memory");
		*len = (size_t)n;
	}
	free(piece);
	return err;
}

static enum stele_err write_receipt(struct stele *s, const char *path,
                                    const struct stele_put_result *put)
{
	struct stele_found found;
	char *text = NULL;
	size_t len = 0;
	enum stele_err err = stele_find(s, &put->object, &found);
	if (err == STELE_OK) {
		err = receipt_text(&found, put, &text, &len);
		stele_found_finish(&found);
	}
	if (err == STELE_OK) {
		err =
		    stele_file_save(stele_session_env(stele_session_of(s)), path, text, len, 0644);
		free(text);
	}
	/* Whatever it was: the object is stored. */
	return err == STELE_OK ? err
	                       : stele_wrap(STELE_ERR_DEGRADED, "stored, but there is no receipt");
}

static json_t *put_json(const char *path, const struct stele_put_result *r, bool degraded)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:i, s:i, s:b, s:o}", "file", stele_json_text(path),
	                 "object", stele_json_id(&r->object), "deposit",
	                 stele_json_hex(r->deposit.b, STELE_HASH_LEN), "length",
	                 stele_json_u64(r->length), "blocks", (int)r->blocks, "margin", r->margin,
	                 "degraded", degraded, "bytes_sent", stele_json_u64(r->bytes_sent));
}

static enum stele_err put_one(struct stele_cli *cli, struct stele *s, const char *path,
                              const char *receipt, json_t *results, bool *degraded)
{
	struct stele_bar bar;
	struct stele_put_result r = {0};
	struct stele_put_opts opts = {.pool = stele_cli_text(cli, "pool")};
	char id[STELE_ID_TEXT];
	opts.progress = progress_start(&bar, cli, path);
	enum stele_err err = put_path(s, path, &opts, &r);
	stele_bar_finish(&bar);
	bool less = err == STELE_ERR_DEGRADED;
	if (less) {
		*degraded = true;
		stele_cli_note(cli, "%.200s: %s", path, stele_detail());
		err = STELE_OK;
	}
	if (err != STELE_OK)
		return err;
	json_array_append_new(results, put_json(path, &r, less));
	if (!cli->json) {
		fprintf(cli->out, "%s  ", stele_id_text(&r.object, id));
		stele_cli_print(cli->out, path);
		fputc('\n', cli->out);
	}
	return receipt ? write_receipt(s, receipt, &r) : STELE_OK;
}

static enum stele_err put_all(struct stele_cli *cli, struct stele *s, const char *receipt,
                              bool *degraded)
{
	json_t *results = json_array();
	enum stele_err err = STELE_OK;
	for (uint32_t i = 0; i < cli->nargs && err == STELE_OK; i++)
		err = put_one(cli, s, cli->arg[i], receipt, results, degraded);
	json_t *all = json_pack("{s:o}", "files", results);
	if (cli->json)
		return stele_json_result_of(cli, all, err);
	json_decref(all);
	return err;
}

static enum stele_err run_put(struct stele_cli *cli)
{
	struct stele *s;
	char receipt[STELE_PATH_MAX];
	bool degraded = false, with_receipt = stele_cli_given(cli, "receipt");
	if (with_receipt && cli->nargs != 1)
		return stele_cli_usage(cli, "--receipt goes with one file");
	if (with_receipt)
		STELE_TRY(stele_local_target(stele_cli_text(cli, "receipt"), receipt));
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = put_all(cli, s, with_receipt ? receipt : NULL, &degraded);
	stele_cli_close(s);
	if (err == STELE_OK && degraded)
		return stele_fail(
		    STELE_ERR_DEGRADED,
		    "stored, with less redundancy than the pool asks for; it is repaired "
		    "when disks are back");
	return err;
}

/* ---- get ---- */

static enum stele_err write_out(void *ctx, const void *bytes, size_t len)
{
	struct stele_cli *cli = ctx;
	errno = 0;
	return fwrite(bytes, 1, len, cli->out) == len ? STELE_OK : stele_cli_out_failed(cli);
}

static enum stele_err parse_range(const struct stele_cli *cli, const char *text,
                                  struct stele_get_opts *opts)
{
	const char *colon = strchr(text, ':');
	char off[32];
	if (!colon || (size_t)(colon - text) >= sizeof(off))
		return stele_cli_usage(cli,
		                       "--range is OFFSET:LENGTH, as in 4096:100 or 1MiB:64KiB");
	snprintf(off, sizeof(off), "%.*s", (int)(colon - text), text);
	if (!stele_parse_size(off, &opts->off) || !stele_parse_size(colon + 1, &opts->len))
		return stele_cli_usage(cli,
		                       "--range is OFFSET:LENGTH, as in 4096:100 or 1MiB:64KiB");
	return STELE_OK;
}

static json_t *get_json(const struct stele_hash *id, const struct stele_get_result *r)
{
	return json_pack("{s:o, s:o, s:o, s:i, s:i, s:b}", "object", stele_json_id(id), "length",
	                 stele_json_u64(r->length), "bytes", stele_json_u64(r->bytes),
	                 "blocks_degraded", (int)r->blocks_degraded, "shards_bad",
	                 (int)r->shards_bad, "whole_hash_checked", r->whole_hash_checked);
}

static enum stele_err get_to(struct stele_cli *cli, struct stele *s, const struct stele_hash *id,
                             const char *path, const struct stele_get_opts *opts,
                             struct stele_get_result *r)
{
	if (path)
		return stele_get_file(s, id, path, opts, r);
	struct stele_sink sink = {.write = write_out, .ctx = cli};
	return stele_get(s, id, opts, &sink, r);
}

static enum stele_err run_get(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_hash id;
	struct stele_bar bar;
	char target[STELE_PATH_MAX];
	struct stele_get_result r = {0};
	struct stele_get_opts opts = {.len = UINT64_MAX};
	const char *range = stele_cli_text(cli, "range"), *path = stele_cli_text(cli, "output");
	STELE_TRY(stele_id_parse(cli->arg[0], &id));
	if (range)
		STELE_TRY(parse_range(cli, range, &opts));
	if (cli->json && !path)
		return stele_cli_usage(cli, "with --json say where the bytes go: -o FILE");
	if (path)
		STELE_TRY(stele_local_target(path, target));
	STELE_TRY(stele_cli_open(cli, &s));
	opts.progress = progress_start(&bar, cli, path ? path : "get");
	enum stele_err err = get_to(cli, s, &id, path ? target : NULL, &opts, &r);
	stele_bar_finish(&bar);
	if (err == STELE_OK && cli->json)
		err = stele_json_result(cli, get_json(&id, &r));
	if (err == STELE_OK && !cli->json && r.shards_bad > 0)
		stele_cli_note(
		    cli, "%u shards were corrupt; they were read around and reported for repair",
		    r.shards_bad);
	stele_cli_close(s);
	return err;
}

/* ---- stat ---- */

static const char *type_name(enum stele_deposit_type type)
{
	static const char *const name[] = {"?", "evidence", "ledger", "index", "system"};
	return type <= STELE_DEPOSIT_SYSTEM ? name[type] : name[0];
}

static json_t *stat_json(const struct stele_hash *id, const struct stele_stat_result *r)
{
	const struct stele_deposit *d = &r->record.deposit;
	json_t *blocks = json_array();
	for (uint32_t i = 0; i < r->nblocks; i++)
		json_array_append_new(blocks,
		                      json_pack("{s:o, s:i, s:i, s:i}", "block",
		                                stele_json_hex(r->block[i].block.b, STELE_HASH_LEN),
		                                "shards", (int)r->block[i].shards, "of",
		                                (int)r->block[i].n, "margin", r->block[i].margin));
	return json_pack("{s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:i, s:i, s:i, s:s, s:o}",
	                 "object", stele_json_id(id), "deposit",
	                 stele_json_hex(r->record.deposit_hash.b, STELE_HASH_LEN), "length",
	                 stele_json_u64(d->length), "type", type_name(d->type), "pool", d->pool,
	                 "time", stele_json_u64(d->time), "depositor",
	                 stele_json_hex(d->depositor.b, STELE_KEY_LEN), "tree",
	                 stele_json_hex(d->tree.b, STELE_HASH_LEN), "record_holders",
	                 (int)r->record_holders, "record_margin", r->record_margin, "margin",
	                 r->margin, "silent", r->silent, "blocks", blocks);
}

static void print_stat(struct stele_cli *cli, const struct stele_hash *id,
                       const struct stele_stat_result *r)
{
	const struct stele_deposit *d = &r->record.deposit;
	char text[STELE_ID_TEXT], hex[STELE_HEX_LEN], size[STELE_SIZE_TEXT], when[32];
	time_t t = (time_t)d->time;
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fprintf(cli->out, "%s\n", stele_id_text(id, text));
	fprintf(cli->out, "  length    %" PRIu64 " (%s)\n", d->length,
	        stele_size_text(d->length, size));
	fprintf(cli->out, "  type      %s, pool %s\n", type_name(d->type), d->pool);
	fprintf(cli->out, "  deposit   %s, claimed %s\n",
	        stele_hash_hex(&r->record.deposit_hash, hex), when);
	fprintf(cli->out, "  record    on %u disks, margin %d\n", r->record_holders,
	        r->record_margin);
	for (uint32_t i = 0; i < r->nblocks; i++)
		fprintf(cli->out, "  block %-4u %.16s...  %u of %u shards, margin %d\n", i,
		        stele_hash_hex(&r->block[i].block, hex), r->block[i].shards, r->block[i].n,
		        r->block[i].margin);
	fprintf(cli->out, "  margin    %d\n", r->margin);
}

static enum stele_err run_stat(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_hash id;
	struct stele_stat_result r;
	STELE_TRY(stele_id_parse(cli->arg[0], &id));
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = stele_stat(s, &id, &r);
	if (err == STELE_OK) {
		if (cli->json)
			err = stele_json_result(cli, stat_json(&id, &r));
		else
			print_stat(cli, &id, &r);
		if (err == STELE_OK && r.silent[0])
			err = stele_fail(
			    STELE_ERR_DEGRADED,
			    "what disks hold that did not answer is not counted: %.400s", r.silent);
		stele_stat_finish(&r);
	}
	stele_cli_close(s);
	return err;
}

/* ---- ls ---- */

struct listing {
	struct stele_cli *cli;
	enum stele_err err;
};

static bool list_item(void *ctx, const struct stele_ls_item *item)
{
	struct listing *l = ctx;
	struct stele_cli *cli = l->cli;
	char id[STELE_ID_TEXT];
	if (item->type == STELE_DEPOSIT_SYSTEM && !stele_cli_given(cli, "all"))
		return true;
	if (cli->json)
		l->err = stele_json_item(
		    cli, json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:s}", "object",
		                   stele_json_id(&item->object), "deposit",
		                   stele_json_hex(item->deposit.b, STELE_HASH_LEN), "length",
		                   stele_json_u64(item->length), "time", stele_json_u64(item->time),
		                   "type", type_name(item->type), "pool", item->pool, "depositor",
		                   item->depositor));
	else if (fprintf(cli->out, "%s %12" PRIu64 "  %-8s  %-10s  %s\n",
	                 stele_id_text(&item->object, id), item->length, type_name(item->type),
	                 item->pool, item->depositor) < 0)
		l->err = stele_cli_out_failed(cli);
	return l->err == STELE_OK;
}

static enum stele_err run_ls(struct stele_cli *cli)
{
	struct stele *s;
	struct listing l = {.cli = cli};
	bool partial = false;
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = stele_ls(s, list_item, &l, &partial);
	stele_cli_close(s);
	if (err == STELE_OK)
		err = l.err;
	if (err == STELE_OK && partial)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "some nodes did not answer: the list may lack deposits; `stele status` names them");
	return err;
}

/* ---- verify ---- */

struct verify_all {
	struct stele_hash *id;
	size_t n, cap;
	bool failed;
};

static bool collect_id(void *ctx, const struct stele_ls_item *item)
{
	struct verify_all *v = ctx;
	if (v->n > 0 && stele_hash_equal(&v->id[v->n - 1], &item->object))
		return true;
	if (v->n == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 256;
		struct stele_hash *grown = realloc(v->id, cap * sizeof(*grown));
		if (!grown) {
			v->failed = true;
			return false;
		}
		v->id = grown;
		v->cap = cap;
	}
	v->id[v->n++] = item->object;
	return true;
}

static enum stele_err verify_one(struct stele_cli *cli, struct stele *s,
                                 const struct stele_hash *id, json_t *results)
{
	struct stele_bar bar;
	struct stele_verify_result r = {0};
	char text[STELE_ID_TEXT], why[STELE_DETAIL_MAX];
	struct stele_progress progress = progress_start(&bar, cli, stele_id_text(id, text));
	enum stele_err err = stele_verify(s, id, &progress, &r);
	stele_detail_copy(why);
	stele_bar_finish(&bar);
	if (err != STELE_OK && err != STELE_ERR_DEGRADED && err != STELE_ERR_CORRUPT)
		return stele_wrap(err, "%s", text);
	json_array_append_new(
	    results, json_pack("{s:o, s:b, s:o, s:o, s:o, s:i, s:i, s:o, s:i}", "object",
	                       stele_json_id(id), "object_ok", r.object_ok, "shards_ok",
	                       stele_json_u64(r.shards_ok), "shards_missing",
	                       stele_json_u64(r.shards_missing), "shards_bad",
	                       stele_json_u64(r.shards_bad), "record_copies", (int)r.copies_ok,
	                       "record_copies_missing", (int)r.copies_missing, "bytes",
	                       stele_json_u64(r.bytes), "margin", r.margin));
	if (!cli->json)
		fprintf(cli->out,
		        "%s  %s, %" PRIu64 " shards good, %" PRIu64 " missing, %" PRIu64
		        " bad, %u copies of its record, %u missing, margin %d\n",
		        text, r.object_ok ? "whole" : "NOT WHOLE", r.shards_ok, r.shards_missing,
		        r.shards_bad, r.copies_ok, r.copies_missing, r.margin);
	if (!r.object_ok)
		return stele_fail(STELE_ERR_CORRUPT, "%s does not read whole: %.300s", text, why);
	if (r.shards_missing > 0 || r.shards_bad > 0 || r.copies_missing > 0)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "%s is whole, with %" PRIu64 " shards missing, %" PRIu64
		                  " bad, and %u copies of its record missing: `stele repair --wait` "
		                  "restores them",
		                  text, r.shards_missing, r.shards_bad, r.copies_missing);
	return STELE_OK;
}

/* What a round over many objects ends with is the worst that was met. */
static int severity(enum stele_err err)
{
	return err == STELE_OK             ? 0
	       : err == STELE_ERR_DEGRADED ? 1
	       : err == STELE_ERR_CORRUPT  ? 3
	                                   : 2;
}

static enum stele_err verify_each(struct stele_cli *cli, struct stele *s,
                                  const struct verify_all *all, json_t *results)
{
	enum stele_err worst = STELE_OK;
	char detail[STELE_DETAIL_MAX] = "";
	for (size_t i = 0; i < all->n; i++) {
		enum stele_err err = verify_one(cli, s, &all->id[i], results);
		if (err == STELE_ERR_CANCELLED)
			return err;
		if (severity(err) > severity(worst)) {
			worst = err;
			stele_detail_copy(detail);
		}
	}
	return worst == STELE_OK ? STELE_OK : stele_fail(worst, "%s", detail);
}

static enum stele_err verify_chosen(struct stele_cli *cli, struct stele *s,
                                    const struct stele_hash *one)
{
	struct verify_all all = {0};
	bool partial = false;
	enum stele_err err = STELE_OK;
	if (one)
		collect_id(&all, &(struct stele_ls_item){.object = *one});
	else
		err = stele_ls(s, collect_id, &all, &partial);
	if (err == STELE_OK && all.failed)
		err = stele_fail(STELE_ERR_NOMEM, "verify: out of memory");
	json_t *results = json_array();
	if (err == STELE_OK)
		err = verify_each(cli, s, &all, results);
	if (err == STELE_OK && partial)
		err = stele_fail(STELE_ERR_DEGRADED,
		                 "some nodes did not answer: not every deposit was seen; `stele status` names them");
	json_t *value = json_pack("{s:o}", "objects", results);
	if (cli->json)
		err = stele_json_result_of(cli, value, err);
	else
		json_decref(value);
	free(all.id);
	return err;
}

static enum stele_err run_verify(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_hash one;
	if (stele_cli_given(cli, "all") == (cli->nargs == 1))
		return stele_cli_usage(cli, "name an ID, or say --all");
	if (cli->nargs == 1)
		STELE_TRY(stele_id_parse(cli->arg[0], &one));
	STELE_TRY(stele_cli_open(cli, &s));
	enum stele_err err = verify_chosen(cli, s, cli->nargs == 1 ? &one : NULL);
	stele_cli_close(s);
	return err;
}

/* ---- the table ---- */

static const struct stele_opt put_opts[] = {
    {"pool", 0, STELE_OPT_TEXT, "POOL", "how it is kept; evidence unless said otherwise"},
    {"receipt", 0, STELE_OPT_TEXT, "FILE", "write the signed deposit there"},
    {0}};
static const struct stele_opt get_opts[] = {
    {"output", 'o', STELE_OPT_TEXT, "FILE", "appears only once every byte is verified"},
    {"range", 0, STELE_OPT_TEXT, "OFF:LEN", "only these bytes"},
    {0}};
static const struct stele_opt ls_opts[] = {
    {"all", 0, STELE_OPT_FLAG, NULL, "the archive's own objects too"}, {0}};
static const struct stele_opt verify_opts[] = {
    {"all", 0, STELE_OPT_FLAG, NULL, "every object there is"}, {0}};

const struct stele_command stele_cmd_object[] = {
    {.name = "put",
     .args = "FILE...",
     .summary = "store files; each is known by its plain SHA-256",
     .details =
         "- is standard input. Acknowledged only when it would survive the losses its pool "
         "promises; "
         "exit 3: stored with less than that, and repaired without anybody asking; or stored, "
         "and the receipt could not be written.",
     .example = "stele put contract.pdf",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = UINT32_MAX,
     .opt = put_opts,
     .run = run_put},
    {.name = "get",
     .args = "ID",
     .summary = "fetch an object by its SHA-256",
     .details = "No byte leaves unverified: a whole object's against its SHA-256 (the last block "
                "waits for it), a "
                "range's against the hashes that its depositor signed. ID: sha256:<hex>, bare hex, "
                "a CIDv1, or "
                "ni:///sha-256;...",
     .example = "stele get sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 "
                "-o contract.pdf",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = 1,
     .opt = get_opts,
     .run = run_get},
    {.name = "stat",
     .args = "ID",
     .summary = "an object's deposit, and how many more losses it survives",
     .details = "Exit 3: some disks that may hold more of it did not answer.",
     .example =
         "stele stat sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = 1,
     .run = run_stat},
    {.name = "ls",
     .args = "",
     .summary = "every deposit; with --json an object a line",
     .example = "stele ls --json",
     .flags = STELE_CMD_CLUSTER,
     .opt = ls_opts,
     .run = run_ls},
    {.name = "verify",
     .args = "[ID]",
     .summary = "read every shard and copy of an object, and check them all",
     .details =
         "Exit 0: whole, at full width; 3: whole, shards or copies of its record missing or bad; "
         "5: not whole.",
     .example = "stele verify --all",
     .flags = STELE_CMD_CLUSTER,
     .args_max = 1,
     .opt = verify_opts,
     .run = run_verify},
    {0}};
