/*
 * Results as JSON on stdout: one object when the command is done, or one compact object a line for
 * lists without a bound (ls). The values are jansson's; both calls take them over, and accept NULL
 * as "out of memory".
 */
#ifndef TOOLS_JSON_OUT_H
#define TOOLS_JSON_OUT_H

#include <jansson.h>

#include "tools/cli.h"

/* The command's result, indented. At most once. IO: stdout cannot be written. */
STELE_MUST_USE enum stele_err stele_json_result(struct stele_cli *cli, json_t *value);
/* The same of a command that did what the value (an object) says and then ended with err, whose detail is set: a failure
 * stands in it as "error". Returns err, else IO. */
STELE_MUST_USE enum stele_err stele_json_result_of(struct stele_cli *cli, json_t *value,
                                                   enum stele_err err);
/* An item of a list, on a line of its own. A failure after it is a line more. */
STELE_MUST_USE enum stele_err stele_json_item(struct stele_cli *cli, json_t *value);
/* Any text, of a name or a message: bytes that are no UTF-8 become U+FFFD. */
json_t *stele_json_text(const char *text);
/* "sha256:<hex>" */
json_t *stele_json_id(const struct stele_hash *id);
json_t *stele_json_hex(const void *p, size_t len);
/* Numbers are exact up to 2^63 - 1; beyond, INT64_MAX would lie: a decimal string. */
json_t *stele_json_u64(uint64_t v);
/* {"code":"NOT_FOUND","exit":4,"message":...} */
json_t *stele_json_error_value(enum stele_err err, const char *message);
/* The error object: {"error":{...}}. Used by the command line itself when a command failed and printed no result. */
void stele_json_error(struct stele_cli *cli, enum stele_err err, const char *message);

#endif
