/*
 * Key files (M7): text, mode 0600, refused when others may read them.
 *   stele-key v1
 *   tls <seed hex>            (nodes and clients)
 *   sign <seed hex>           (depositors, root, state, log)
 * A client's file holds both, and the map binds both to one client. Secrets are wiped when released.
 */
#ifndef NET_CLUSTER_KEYS_H
#define NET_CLUSTER_KEYS_H

#include "storage/base/deposit.h"
#include "storage/io/env.h"

struct stele_keys {
	bool has_tls, has_sign;
	struct stele_secret_key tls;
	struct stele_secret_key sign;
};

void stele_keys_generate(struct stele_env *env, bool tls, bool sign, struct stele_keys *out);
STELE_MUST_USE enum stele_err stele_keys_save(struct stele_env *env, const char *path,
					      const struct stele_keys *keys);
/* NOT_FOUND, DENIED (permissions), CORRUPT (the line). */
STELE_MUST_USE enum stele_err stele_keys_load(struct stele_env *env, const char *path,
					      struct stele_keys *out);
void stele_keys_wipe(struct stele_keys *keys);

#endif
