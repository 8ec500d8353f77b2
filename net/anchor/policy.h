/*
 * What a verifier trusts and asks for: JSON, made by hand or from a cluster's map.
 *
 *   {"format":"stele.dev/policy/v1",
 *    "anchor":"local" | "evm",
 *    "chain":<caip2>, "contract":"0x<40 hex>",                     evm alone
 *    "cluster":<64 hex>,                                           optional
 *    "log":{"id":<64 hex>,"keys":[<64 hex> ...]},                  optional
 *    "depositors":[{"key":<64 hex>,"name":...,"role":...} ...],    optional
 *    "require":["bytes","time","log","depositor"]}                 any of these
 *
 * Names that are not in this list are refused. "local" cannot require "time": a local anchor proves
 * none. Pure. Thread: any.
 */
#ifndef NET_ANCHOR_POLICY_H
#define NET_ANCHOR_POLICY_H

#include "net/anchor/line.h"
#include "storage/base/text.h"

enum stele_anchor_kind {
	STELE_ANCHOR_LOCAL = 1,
	STELE_ANCHOR_EVM,
};

/* The four questions that a proof may answer. */
enum stele_verdict_id {
	STELE_VERDICT_BYTES = 0, /* the file's bytes match the deposit */
	STELE_VERDICT_TIME,      /* it existed before chain block B */
	STELE_VERDICT_LOG,       /* it is in this operator's append-only log */
	STELE_VERDICT_DEPOSITOR, /* deposited by K, holding role R */
};
#define STELE_VERDICTS 4u
/* "bytes", "time", "log", "depositor" */
const char *stele_verdict_name(enum stele_verdict_id id);

struct stele_policy_depositor {
	struct stele_public_key key;
	char name[STELE_NAME_MAX];
	char role[STELE_NAME_MAX];
};

struct stele_policy {
	enum stele_anchor_kind anchor;
	char chain[STELE_CAIP2_MAX]; /* evm */
	uint8_t contract[20];
	bool has_cluster, has_log;
	struct stele_hash cluster;
	struct stele_hash log_id;
	struct stele_public_key log_key[STELE_LOG_KEYS_MAX];
	uint32_t nlog_keys;
	struct stele_policy_depositor *depositor; /* owned */
	uint32_t ndepositors;
	bool require[STELE_VERDICTS];
};

/* USAGE names what is wrong. NOMEM. */
STELE_MUST_USE enum stele_err stele_policy_parse(const char *json, size_t len,
                                                 struct stele_policy *out);
void stele_policy_finish(struct stele_policy *p); /* accepts a zeroed one */

#endif
