/* Writes JSON to a command's stdout. Decides nothing about what is in it. */
#include "tools/json_out.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/text.h"

static enum stele_err dump(struct stele_cli *cli, json_t *value, size_t flags)
{
	if (!value)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	errno = 0;
	int bad = json_dumpf(value, cli->out, flags);
	json_decref(value);
	bad |= fputc('\n', cli->out) == EOF;
	return bad || ferror(cli->out) ? stele_cli_out_failed(cli) : STELE_OK;
}

enum stele_err stele_json_result(struct stele_cli *cli, json_t *value)
{
	assert(cli->json && !cli->json_written);
	enum stele_err err = dump(cli, value, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	cli->json_written = err == STELE_OK;
	return err;
}

enum stele_err stele_json_result_of(struct stele_cli *cli, json_t *value, enum stele_err err)
{
	char detail[STELE_DETAIL_MAX];
	stele_detail_copy(detail);
	if (err != STELE_OK && err != STELE_ERR_DEGRADED)
		json_object_set_new(value, "error", stele_json_error_value(err, detail));
	enum stele_err out = stele_json_result(cli, value);
	return err == STELE_OK ? out : stele_fail(err, "%s", detail);
}

enum stele_err stele_json_item(struct stele_cli *cli, json_t *value)
{
	assert(cli->json);
	cli->json_lines = true;
	return dump(cli, value, JSON_COMPACT | JSON_PRESERVE_ORDER);
}

json_t *stele_json_id(const struct stele_hash *id)
{
	char hex[STELE_HEX_LEN];
	return json_sprintf("sha256:%s", stele_hash_hex(id, hex));
}

json_t *stele_json_hex(const void *p, size_t len)
{
	char hex[129];
	assert(len <= 64);
	return json_string(stele_hex(p, len, hex));
}

json_t *stele_json_u64(uint64_t v)
{
	return v <= INT64_MAX ? json_integer((json_int_t)v)
	                      : json_sprintf("%llu", (unsigned long long)v);
}

json_t *stele_json_text(const char *text)
{
	if (!text)
		return NULL;
	size_t cap = 3 * strlen(text) + 1;
	char *clean = malloc(cap);
	json_t *value = clean ? json_string(stele_text_utf8(text, clean, cap)) : NULL;
	free(clean);
	return value;
}

json_t *stele_json_error_value(enum stele_err err, const char *message)
{
	return json_pack("{s:s,s:i,s:o}", "code", stele_err_name(err), "exit",
	                 stele_err_exit_code(err), "message", stele_json_text(message));
}

void stele_json_error(struct stele_cli *cli, enum stele_err err, const char *message)
{
	json_t *value = json_pack("{s:o}", "error", stele_json_error_value(err, message));
	/* stderr has said it already: there is nobody left to tell that stdout failed too */
	enum stele_err ignored =
	    cli->json_lines ? stele_json_item(cli, value) : stele_json_result(cli, value);
	(void)ignored;
}
