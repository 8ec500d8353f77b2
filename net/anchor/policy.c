/* Reading a policy. It trusts nobody by itself: what is not named is not established. */
#include "net/anchor/policy.h"

#include <stdlib.h>

#include "net/anchor/canon.h"
#include "storage/base/log.h"

#define FORMAT         "stele.dev/policy/v1"
#define DEPOSITORS_MAX STELE_CLIENTS_MAX

static const char *const verdict_names[STELE_VERDICTS] = {
    [STELE_VERDICT_BYTES] = "bytes",
    [STELE_VERDICT_TIME] = "time",
    [STELE_VERDICT_LOG] = "log",
    [STELE_VERDICT_DEPOSITOR] = "depositor",
};

const char *stele_verdict_name(enum stele_verdict_id id)
{
	return (unsigned)id < STELE_VERDICTS ? verdict_names[id] : "?";
}

static enum stele_err bad(const char *what)
{
	return stele_fail(STELE_ERR_USAGE, "policy: %s", what);
}

static enum stele_err read_anchor(const json_t *o, struct stele_policy *p)
{
	char contract[43];
	size_t len;
	const char *kind = json_string_value(json_object_get(o, "anchor"));
	bool chain = json_object_get(o, "chain"), has_contract = json_object_get(o, "contract");
	if (kind && strcmp(kind, "local") == 0) {
		p->anchor = STELE_ANCHOR_LOCAL;
		return chain || has_contract ? bad("a local anchor has no chain and no contract")
		                             : STELE_OK;
	}
	if (!kind || strcmp(kind, "evm") != 0)
		return bad("\"anchor\" is \"local\" or \"evm\"");
	p->anchor = STELE_ANCHOR_EVM;
	if (!stele_canon_get_string(o, "chain", p->chain, sizeof(p->chain), &len) ||
	    !stele_caip2_ok(p->chain, len))
		return bad("\"chain\" is a chain's CAIP-2 name, such as eip155:1");
	if (!stele_canon_get_string(o, "contract", contract, sizeof(contract), &len) || len != 42 ||
	    memcmp(contract, "0x", 2) != 0 ||
	    !stele_unhex(contract + 2, 40, p->contract, sizeof(p->contract), true))
		return bad("\"contract\" is 0x and 40 lower-case hex digits");
	return STELE_OK;
}

static enum stele_err read_log(const json_t *o, struct stele_policy *p)
{
	static const char *const keys[] = {"id", "keys", NULL};
	struct stele_hash key[STELE_LOG_KEYS_MAX];
	size_t n;
	const json_t *log = json_object_get(o, "log");
	if (!log)
		return STELE_OK;
	if (!stele_canon_only(log, keys) ||
	    !stele_canon_get_hex(log, "id", p->log_id.b, sizeof(p->log_id.b)) ||
	    !stele_canon_get_hashes(log, "keys", key, STELE_LOG_KEYS_MAX, &n) || n == 0)
		return bad("\"log\" is {\"id\":<64 hex>,\"keys\":[1 to 4 x <64 hex>]}");
	for (size_t i = 0; i < n; i++)
		memcpy(p->log_key[i].b, key[i].b, sizeof(key[i].b));
	p->nlog_keys = (uint32_t)n;
	p->has_log = true;
	return STELE_OK;
}

static enum stele_err read_depositors(const json_t *o, struct stele_policy *p)
{
	static const char *const keys[] = {"key", "name", "role", NULL};
	const json_t *list = json_object_get(o, "depositors");
	size_t n = json_array_size(list), len;
	if (!list)
		return STELE_OK;
	if (!json_is_array(list) || n > DEPOSITORS_MAX)
		return bad("\"depositors\" is a list of at most 1024");
	p->depositor = calloc(n ? n : 1, sizeof(*p->depositor));
	if (!p->depositor)
		return stele_fail(STELE_ERR_NOMEM, "policy: no memory for its depositors");
	for (size_t i = 0; i < n; i++) {
		struct stele_policy_depositor *d = &p->depositor[i];
		const json_t *v = json_array_get(list, i);
		if (!stele_canon_only(v, keys) ||
		    !stele_canon_get_hex(v, "key", d->key.b, sizeof(d->key.b)) ||
		    !stele_canon_get_string(v, "name", d->name, sizeof(d->name), &len) ||
		    !stele_name_ok(d->name, len) ||
		    !stele_canon_get_string(v, "role", d->role, sizeof(d->role), &len) ||
		    !stele_name_ok(d->role, len))
			return bad("a depositor is {\"key\":<64 hex>,\"name\":...,\"role\":...}");
		p->ndepositors++;
	}
	return STELE_OK;
}

static enum stele_err read_require(const json_t *o, struct stele_policy *p)
{
	const json_t *list = json_object_get(o, "require"), *v;
	size_t i;
	if (!json_is_array(list))
		return bad("\"require\" is a list of \"bytes\", \"time\", \"log\", \"depositor\"");
	json_array_foreach(list, i, v)
	{
		unsigned id = 0;
		while (id < STELE_VERDICTS &&
		       (!json_is_string(v) || strcmp(json_string_value(v), verdict_names[id]) != 0))
			id++;
		if (id == STELE_VERDICTS)
			return bad("\"require\" names only \"bytes\", \"time\", \"log\", "
			           "\"depositor\"");
		p->require[id] = true;
	}
	if (p->anchor == STELE_ANCHOR_LOCAL && p->require[STELE_VERDICT_TIME])
		return bad("a local anchor proves no time: \"time\" cannot be required of it");
	return STELE_OK;
}

static enum stele_err read_policy(const json_t *o, struct stele_policy *p)
{
	static const char *const keys[] = {"anchor",     "chain", "cluster", "contract", "format",
	                                   "depositors", "log",   "require", NULL};
	const char *format = json_string_value(json_object_get(o, "format"));
	if (!format || strcmp(format, FORMAT) != 0)
		return bad("\"format\" is not \"" FORMAT "\"");
	if (!stele_canon_only(o, keys))
		return bad("it has a field that this version does not know");
	STELE_TRY(read_anchor(o, p));
	if (json_object_get(o, "cluster")) {
		if (!stele_canon_get_hex(o, "cluster", p->cluster.b, sizeof(p->cluster.b)))
			return bad("\"cluster\" is 64 lower-case hex digits");
		p->has_cluster = true;
	}
	STELE_TRY(read_log(o, p));
	STELE_TRY(read_depositors(o, p));
	return read_require(o, p);
}

enum stele_err stele_policy_parse(const char *json, size_t len, struct stele_policy *out)
{
	struct stele_policy p = {0};
	json_t *o;
	enum stele_err err = stele_canon_parse(json, len, &o);
	if (err)
		return stele_wrap(err == STELE_ERR_CORRUPT ? STELE_ERR_USAGE : err, "policy");
	err = read_policy(o, &p);
	json_decref(o);
	if (err) {
		stele_policy_finish(&p);
		return err;
	}
	*out = p;
	return STELE_OK;
}

void stele_policy_finish(struct stele_policy *p)
{
	free(p->depositor);
	*p = (struct stele_policy){0};
}
