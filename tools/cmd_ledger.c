/* ledger import, ls, get: chain files into the archive, chain blocks out of it. */
#include "tools/cmd_ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/client/session.h"
#include "net/ledger/import.h"
#include "net/ledger/lookup.h"
#include "tools/json_out.h"
#include "tools/local.h"
#include "tools/open.h"

/* ---- a local file as an import wants it ---- */

struct local_file {
	struct stele_local local;
	struct stele_segment_file file;
	char name[256];
	uint8_t xor_key[STELE_XOR_KEY_LEN];
};

static enum stele_err read_at(void *ctx, uint64_t off, void *buf, size_t cap, size_t *got)
{
	struct local_file *l = ctx;
	return stele_local_read_at(&l->local, off, buf, cap, got);
}

/* bitcoind keeps the key of its block files beside them, since version 28. */
static enum stele_err load_xor(struct local_file *l, const char *path)
{
	char copy[STELE_PATH_MAX], xor_path[STELE_PATH_MAX + 16];
	uint8_t key[STELE_XOR_KEY_LEN + 1];
	struct stele_local x;
	size_t got;
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(xor_path, sizeof(xor_path), "%s/xor.dat", dirname(copy));
	if (access(xor_path, F_OK) != 0)
		return STELE_OK;
	STELE_TRY(stele_local_open_regular(xor_path, &x));
	enum stele_err err = stele_local_read_at(&x, 0, key, sizeof(key), &got);
	stele_local_close(&x);
	if (err == STELE_OK && got != STELE_XOR_KEY_LEN)
		err = stele_fail(STELE_ERR_CORRUPT, "%.350s is not 8 bytes long", xor_path);
	memcpy(l->xor_key, key, STELE_XOR_KEY_LEN);
	l->file.xor_key = l->xor_key;
	return err;
}

static enum stele_err local_open(struct local_file *l, const char *path)
{
	char copy[STELE_PATH_MAX];
	*l = (struct local_file){0};
	if (strlen(path) >= sizeof(copy))
		return stele_fail(STELE_ERR_USAGE, "%.80s...: the path is too long", path);
	STELE_TRY(stele_local_open_regular(path, &l->local));
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(l->name, sizeof(l->name), "%s", basename(copy));
	l->file = (struct stele_segment_file){
	    .name = l->name, .length = l->local.length, .read_at = read_at, .ctx = l};
	return load_xor(l, path);
}

static void local_close(struct local_file *l)
{
	stele_local_close(&l->local);
}

/* ---- import ---- */

static json_t *height_json(uint64_t height)
{
	return height == STELE_HEIGHT_UNKNOWN ? json_null() : stele_json_u64(height);
}

static json_t *chain_hash_json(const struct stele_chain *chain, const struct stele_hash *hash)
{
	char text[STELE_HEX_LEN];
	return json_string(stele_chain_hash_text(chain->family, hash, text));
}

static json_t *import_json(const char *path, const struct stele_chain *chain,
                           const struct stele_import_result *r)
{
	return json_pack(
	    "{s:o, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "file",
	    stele_json_text(path), "chain", chain->caip2, "format",
	    stele_format_name(r->facts.format), "level", stele_level_name(r->level), "already",
	    r->already, "object", stele_json_id(&r->segment.object), "index",
	    stele_json_id(&r->segment.index), "length", stele_json_u64(r->facts.length), "blocks",
	    stele_json_u64(r->facts.count), "stale", stele_json_u64(r->links.stale), "gaps",
	    stele_json_u64(r->facts.gaps), "first", height_json(r->segment.first), "last",
	    height_json(r->segment.last), "first_hash",
	    chain_hash_json(chain, &r->facts.first_hash), "last_hash",
	    chain_hash_json(chain, &r->facts.last_hash));
}

static void print_import(struct stele_cli *cli, const char *path, const struct stele_chain *chain,
                         const struct stele_import_result *r)
{
	char size[STELE_SIZE_TEXT], id[STELE_ID_TEXT], hash[STELE_HEX_LEN];
	stele_cli_print(cli->out, path);
	fprintf(cli->out, ": %s, %s, %" PRIu64 " blocks", stele_format_name(r->facts.format),
	        stele_size_text(r->facts.length, size), r->facts.count);
	if (r->segment.first != STELE_HEIGHT_UNKNOWN)
		fprintf(cli->out, ", heights %" PRIu64 " to %" PRIu64, r->segment.first,
		        r->segment.last);
	fprintf(cli->out, "\n  %s%s: %s\n", stele_level_name(r->level),
	        r->already ? ", archived already" : "", stele_id_text(&r->segment.object, id));
	if (r->level < STELE_LEVEL_LINKED)
		fprintf(cli->out,
		        "  its first parent, %s, is not archived yet: import the file that holds "
		        "it, and "
		        "this one is linked\n",
		        stele_chain_hash_text(chain->family, &r->links.unlinked_parent, hash));
	if (r->facts.gaps > 0)
		fprintf(cli->out, "  gaps: %" PRIu64 ", %" PRIu64 " bytes that belong to no block\n",
		        r->facts.gaps, r->facts.gap_bytes);
}

static enum stele_err import_one(struct stele_cli *cli, struct stele_catalogue *c, const char *path,
                                 json_t *results, bool *degraded)
{
	struct local_file l;
	struct stele_bar bar;
	struct stele_import_result r;
	enum stele_err err = local_open(&l, path);
	if (err == STELE_OK) {
		stele_bar_start(&bar, cli, l.name, STELE_BAR_BYTES);
		struct stele_progress progress = stele_cli_progress(&bar);
		err = stele_ledger_import(c, &l.file, &progress, &r);
		stele_bar_finish(&bar);
		if (err != STELE_OK)
			(void)stele_wrap(err, "%.200s", path);
	}
	local_close(&l);
	if (err == STELE_ERR_DEGRADED) {
		*degraded = true;
		stele_cli_note(cli, "%s", stele_detail());
		err = STELE_OK;
	}
	if (err != STELE_OK)
		return err;
	json_array_append_new(results, import_json(path, &c->chain, &r));
	if (!cli->json)
		print_import(cli, path, &c->chain, &r);
	return STELE_OK;
}

/* What may be archived already is worth knowing, but no reason to refuse a file: `blind` goes on without. */
static enum stele_err open_catalogue(struct stele_cli *cli, bool blind, struct stele **s,
                                     struct stele_catalogue *c)
{
	struct stele_chain chain;
	const char *name = stele_cli_text(cli, "chain");
	if (!name)
		return stele_cli_usage(cli,
		                       "--chain says which chain: bitcoin, ethereum, eip155:1");
	STELE_TRY(stele_chain_find(name, &chain));
	STELE_TRY(stele_cli_open(cli, s));
	enum stele_err err = stele_catalogue_open(*s, &chain, c);
	if (err == STELE_ERR_UNAVAILABLE && blind) {
		stele_cli_note(cli, "%s; files are archived without it, and linked later",
		               stele_detail());
		err = STELE_OK;
	}
	if (err != STELE_OK)
		stele_cli_close(*s);
	return err;
}

/* One refused file does not keep the others out; the first failure is the command's. */
static enum stele_err import_each(struct stele_cli *cli, struct stele_catalogue *c, json_t *results,
                                  bool *degraded)
{
	enum stele_err first = STELE_OK;
	char detail[STELE_DETAIL_MAX] = "";
	for (uint32_t i = 0; i < cli->nargs && first != STELE_ERR_CANCELLED; i++) {
		enum stele_err err = import_one(cli, c, cli->arg[i], results, degraded);
		if (err != STELE_OK && first == STELE_OK) {
			first = err;
			stele_detail_copy(detail);
		} else if (err != STELE_OK) {
			stele_cli_note(cli, "%s", stele_detail());
		}
	}
	return first == STELE_OK ? STELE_OK : stele_fail(first, "%s", detail);
}

static enum stele_err import_all(struct stele_cli *cli, struct stele_catalogue *c)
{
	bool degraded = false;
	uint32_t linked = 0;
	char detail[STELE_DETAIL_MAX];
	json_t *results = json_array();
	enum stele_err err = import_each(cli, c, results, &degraded);
	stele_detail_copy(detail);
	enum stele_err relinked =
	    json_array_size(results) > 0 ? stele_ledger_relink(c, &linked) : STELE_OK;
	if (err == STELE_OK)
		err = relinked;
	else
		(void)stele_fail(err, "%s", detail);
	if (c->err != STELE_OK)
		stele_cli_note(cli, "%s; files are archived without it, and linked later", c->why);
	if (linked > 0 && !cli->json)
		fprintf(cli->out, "%u earlier segments are linked now\n", linked);
	json_t *value = json_pack("{s:o, s:i}", "files", results, "linked_now", (int)linked);
	if (cli->json)
		err = stele_json_result_of(cli, value, err);
	else
		json_decref(value);
	if (err == STELE_OK && degraded)
		return stele_fail(STELE_ERR_DEGRADED,
		                  "archived with less redundancy than the pool asks "
		                  "for: it is repaired when disks are back");
	return err;
}

static enum stele_err run_import(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_catalogue c;
	STELE_TRY(open_catalogue(cli, true, &s, &c));
	enum stele_err err = import_all(cli, &c);
	stele_catalogue_finish(&c);
	stele_cli_close(s);
	return err;
}

/* ---- ls ---- */

static enum stele_err run_ls(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_catalogue c;
	STELE_TRY(open_catalogue(cli, false, &s, &c));
	json_t *list = json_array();
	for (uint32_t i = 0; i < c.n; i++) {
		const struct stele_segment *seg = &c.segment[i];
		char id[STELE_ID_TEXT];
		json_array_append_new(
		    list,
		    json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "object",
		              stele_json_id(&seg->object), "index", stele_json_id(&seg->index),
		              "first", height_json(seg->first), "last", height_json(seg->last),
		              "blocks", stele_json_u64(seg->count), "level",
		              seg->linked ? "linked" : "bound", "first_parent",
		              chain_hash_json(&c.chain, &seg->first_parent), "last_hash",
		              chain_hash_json(&c.chain, &seg->last_hash)));
		if (cli->json)
			continue;
		if (seg->first == STELE_HEIGHT_UNKNOWN)
			fprintf(cli->out, "%21s", "heights not known yet");
		else
			fprintf(cli->out, "%10" PRIu64 " %10" PRIu64, seg->first, seg->last);
		fprintf(cli->out, "  %6" PRIu64 " blocks  %-6s  %s\n", seg->count,
		        seg->linked ? "linked" : "bound", stele_id_text(&seg->object, id));
	}
	enum stele_err err = STELE_OK;
	if (cli->json)
		err = stele_json_result(
		    cli, json_pack("{s:s, s:O}", "chain", c.chain.caip2, "segments", list));
	else if (c.n == 0)
		fprintf(cli->out, "nothing is archived of %s\n", c.chain.caip2);
	json_decref(list);
	stele_catalogue_finish(&c);
	stele_cli_close(s);
	return err;
}

/* ---- get ---- */

static json_t *answer_json(const struct stele_chain *chain, const struct stele_chain_block *b,
                           bool found)
{
	json_t *o =
	    json_pack("{s:s, s:s}", "chain", chain->caip2, "state", stele_answer_name(b->answer));
	if (found) {
		json_object_set_new(o, "height", height_json(b->height));
		json_object_set_new(o, "hash", chain_hash_json(chain, &b->hash));
		json_object_set_new(o, "level", json_string(stele_level_name(b->level)));
		json_object_set_new(o, "segment", stele_json_id(&b->segment));
		json_object_set_new(o, "length", stele_json_u64(b->len));
	} else {
		json_object_set_new(o, "first", height_json(b->first));
		json_object_set_new(o, "last", height_json(b->last));
	}
	return o;
}

static enum stele_err deliver(struct stele_cli *cli, const struct stele_catalogue *c,
                              const struct stele_chain_block *b, const char *path)
{
	if (path) /* whole or not at all */
		STELE_TRY(stele_file_save(stele_session_env(stele_session_of(c->s)), path, b->bytes,
		                          b->len, 0644));
	if (cli->json)
		return stele_json_result(cli, answer_json(&c->chain, b, true));
	if (!path && fwrite(b->bytes, 1, b->len, cli->out) != b->len)
		return stele_cli_out_failed(cli);
	if (path) {
		char hash[STELE_HEX_LEN];
		stele_cli_print(cli->out, stele_cli_text(cli, "output"));
		fprintf(cli->out, ": block ");
		if (b->height != STELE_HEIGHT_UNKNOWN)
			fprintf(cli->out, "%" PRIu64 ", ", b->height);
		fprintf(cli->out, "%s, %zu bytes, %s, %s\n",
		        stele_chain_hash_text(c->chain.family, &b->hash, hash), b->len,
		        stele_answer_name(b->answer), stele_level_name(b->level));
	}
	return STELE_OK;
}

static enum stele_err run_get(struct stele_cli *cli)
{
	struct stele *s;
	struct stele_catalogue c;
	struct stele_chain_block b = {0};
	struct stele_hash hash;
	bool by_height = stele_cli_given(cli, "height");
	const char *text = stele_cli_text(cli, "hash"), *path = stele_cli_text(cli, "output");
	char target[STELE_PATH_MAX];
	if (by_height == (text != NULL))
		return stele_cli_usage(cli, "say one of --height H and --hash X");
	if (cli->json && !path)
		return stele_cli_usage(cli, "with --json say where the bytes go: -o FILE");
	if (path)
		STELE_TRY(stele_local_target(path, target));
	STELE_TRY(open_catalogue(cli, false, &s, &c));
	enum stele_err err = STELE_OK;
	if (text)
		err = stele_chain_hash_parse(c.chain.family, text, &hash);
	if (err == STELE_OK)
		err = by_height ? stele_ledger_by_height(&c, stele_cli_number(cli, "height", 0), &b)
		                : stele_ledger_by_hash(&c, &hash, &b);
	if (err == STELE_OK) {
		err = deliver(cli, &c, &b, path ? target : NULL);
	} else if (err == STELE_ERR_NOT_FOUND && cli->json && b.answer) {
		err = stele_json_result_of(cli, answer_json(&c.chain, &b, false), err);
	}
	free(b.bytes);
	stele_catalogue_finish(&c);
	stele_cli_close(s);
	return err;
}

/* ---- identify ---- */

static const struct stele_chain *infer_chain(const struct local_file *l, enum stele_format format,
                                             const uint8_t *front, size_t len)
{
	if (format == STELE_FORMAT_BITCOIN_BLK && len >= 4) {
		uint8_t magic[4];
		for (int i = 0; i < 4; i++)
			magic[i] = front[i] ^ (l->file.xor_key ? l->file.xor_key[i] : 0);
		return stele_chain_by_magic(magic);
	}
	const char *dash = strchr(l->name, '-');
	if (stele_format_family(format) == STELE_FAMILY_EVM && dash)
		return stele_chain_by_era_name(l->name, (size_t)(dash - l->name));
	return NULL;
}

static enum stele_err run_identify(struct stele_cli *cli)
{
	struct local_file l;
	uint8_t front[STELE_DETECT_LEN];
	size_t len = 0;
	enum stele_err err = local_open(&l, cli->arg[0]);
	if (err == STELE_OK)
		err = read_at(&l, 0, front, sizeof(front), &len);
	if (err != STELE_OK) {
		local_close(&l);
		return err;
	}
	enum stele_format format = stele_format_detect(front, len, l.name, l.file.xor_key);
	const struct stele_chain *chain = infer_chain(&l, format, front, len);
	const char *name = !chain ? NULL : chain->alias ? chain->alias : chain->caip2;
	local_close(&l);
	if (format == STELE_FORMAT_UNKNOWN)
		return stele_fail(STELE_ERR_NOT_FOUND, "%s is no ledger file that this build knows",
		                  cli->arg[0]);
	if (cli->json)
		return stele_json_result(
		    cli, json_pack("{s:s, s:s?, s:b}", "format", stele_format_name(format), "chain",
		                   name, "supported", stele_format_supported(format)));
	fprintf(cli->out, "%s%s%s%s\n", stele_format_name(format), name ? " of " : "",
	        name ? name : "", stele_format_supported(format) ? "" : " (not supported)");
	return STELE_OK;
}

/* ---- the table ---- */

#define CHAIN                                                                                      \
	{                                                                                          \
		"chain", 0, STELE_OPT_TEXT, "CHAIN",                                               \
		    "bitcoin, bitcoin-regtest, ethereum, sepolia, or a CAIP-2 name"                \
	}
static const struct stele_opt import_opts[] = {CHAIN, {0}};
static const struct stele_opt ls_opts[] = {CHAIN, {0}};
static const struct stele_opt get_opts[] = {
    CHAIN,
    {"height", 0, STELE_OPT_NUMBER, "H", "the best chain's block at this height"},
    {"hash", 0, STELE_OPT_TEXT, "X", "the block with this hash, also a stale one"},
    {"output", 'o', STELE_OPT_TEXT, "FILE", "write it there instead of standard output"},
    {0}};

const struct stele_command stele_cmd_ledger[] = {
    {.name = "ledger import",
     .args = "FILE...",
     .summary = "archive a chain node's block files, byte for byte",
     .details =
         "Bitcoin blk*.dat (xor.dat beside them is used) and Ethereum era1. Every hash that the "
         "format can bind is recomputed before anything is stored; of a file that does not hold, "
         "nothing is kept (exit 5). A file whose parents are not archived yet is kept as `bound`.",
     .example = "stele ledger import --chain bitcoin ~/.bitcoin/blocks/blk00000.dat",
     .flags = STELE_CMD_CLUSTER,
     .args_min = 1,
     .args_max = UINT32_MAX,
     .opt = import_opts,
     .run = run_import},
    {.name = "ledger ls",
     .args = "",
     .summary = "what is archived of a chain",
     .example = "stele ledger ls --chain ethereum",
     .flags = STELE_CMD_CLUSTER,
     .opt = ls_opts,
     .run = run_ls},
    {.name = "ledger get",
     .args = "",
     .summary = "one chain block, checked against its hash",
     .details = "Bitcoin: the bytes of `getblock 0`; EVM chains: the block's RLP. With --json the "
                "answer's "
                "state: archived, stale, gap, not-yet, unknown-hash.",
     .example = "stele ledger get --chain bitcoin --height 170 -o block-170.bin",
     .flags = STELE_CMD_CLUSTER,
     .opt = get_opts,
     .run = run_get},
    {.name = "ledger identify",
     .args = "FILE",
     .summary = "what a file is, and of which chain, by its first bytes and its name",
     .details = "Exit 4: not a ledger file. Speaks to no node.",
     .example = "stele ledger identify blk00000.dat",
     .args_min = 1,
     .args_max = 1,
     .run = run_identify},
    {0}};
