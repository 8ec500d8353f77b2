/* Writes JSON to a command's stdout. Decides nothing about what is in it. */
#include "tools/json_out.h"

#include <assert.h>

static enum stele_err dump(struct stele_cli *cli, json_t *value, size_t flags)
{
	if (!value)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	int bad = json_dumpf(value, cli->out, flags);
	json_decref(value);
	bad |= fputc('\n', cli->out) == EOF;
	if (bad || ferror(cli->out))
		return stele_fail(STELE_ERR_IO, "standard output: cannot be written");
	cli->json_written = true;
	return STELE_OK;
}

enum stele_err stele_json_result(struct stele_cli *cli, json_t *value)
{
	assert(cli->json && !cli->json_written);
	return dump(cli, value, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
}

enum stele_err stele_json_item(struct stele_cli *cli, json_t *value)
{
	assert(cli->json);
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

void stele_json_error(struct stele_cli *cli, enum stele_err err, const char *message)
{
	json_t *value = json_pack("{s:{s:s,s:i,s:s}}", "error", "code", stele_err_name(err), "exit",
	                          stele_err_exit_code(err), "message", message);
	if (!value) /* the message is not UTF-8 */
		value = json_pack("{s:{s:s,s:i,s:s}}", "error", "code", stele_err_name(err), "exit",
		                  stele_err_exit_code(err), "message", stele_err_text(err));
	/* stderr has said it already: there is nobody left to tell that stdout failed too */
	enum stele_err ignored = stele_json_result(cli, value);
	(void)ignored;
}
