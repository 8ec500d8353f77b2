/*
 * The log's head: its size and root, and where its tiles are found; what only compare-and-set
 * changes. With etcd it is a key; for clusters whose map is signed files it is a file, kept here:
 * text, replaced atomically and durably: stele.dev/head/v1 cluster <32 bytes> logid <hash> size
 * <leaves> root <hash> manifest sha256:<hex> It is not signed: a checkpoint says the same in
 * public. The lock on anchors.local keeps other processes away from it. Blocks.
 */
#ifndef NET_ANCHOR_HEAD_H
#define NET_ANCHOR_HEAD_H

#include "storage/io/env.h"

struct stele_log_head {
	uint64_t size; /* 0: a new log, the rest is zero */
	struct stele_hash root;
	struct stele_hash manifest; /* object id (net/anchor/manifest.h) */
};

/* NOT_FOUND: no head yet. CORRUPT names the line; another cluster's or log's head is CORRUPT, too.
 */
STELE_MUST_USE enum stele_err stele_log_head_load(struct stele_env *env, const char *path,
                                                  const struct stele_hash *cluster,
                                                  const struct stele_hash *log_id,
                                                  struct stele_log_head *out);
/* STALE unless the file's head is `from` (size 0: no file). Durable when it returns OK. */
STELE_MUST_USE enum stele_err stele_log_head_move(struct stele_env *env, const char *path,
                                                  const struct stele_hash *cluster,
                                                  const struct stele_hash *log_id,
                                                  const struct stele_log_head *from,
                                                  const struct stele_log_head *to);

#endif
