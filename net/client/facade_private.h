/* What the files behind net/client/stele.h share. */
#ifndef NET_CLIENT_FACADE_PRIVATE_H
#define NET_CLIENT_FACADE_PRIVATE_H

#include "net/client/session.h"

struct stele {
	struct stele_env *env;
	struct stele_transport_factory *transport;
	struct stele_session *session;
};

/* Callbacks of requests, and of whatever else ends a wait: ctx is the struct stele. */
#define STELE_STOP(name, type)                                                                     \
	static void name(struct type *req)                                                         \
	{                                                                                          \
		struct stele *s = req->ctx;                                                        \
		stele_env_stop(s->env);                                                            \
	}

/* Runs the loop until the request's callback has stopped it, and hands on its outcome. */
#define STELE_WAIT(s, req) (stele_env_run((s)->env), stele_outcome((req)->err, (req)->detail))
static inline enum stele_err stele_outcome(enum stele_err err, const char *detail)
{
	return err == STELE_OK ? STELE_OK : stele_fail(err, "%s", detail);
}

#endif
