/* What the files behind net/client/stele.h share. */
#ifndef NET_CLIENT_FACADE_PRIVATE_H
#define NET_CLIENT_FACADE_PRIVATE_H

#include <stdatomic.h>

#include "net/client/session.h"

struct stele {
	struct stele_env *env;
	struct stele_transport_factory *transport;
	struct stele_session *session;
	bool over;               /* what is waited for has come */
	atomic_bool interrupted; /* stays set: calls that follow end at once */
};

/* Callbacks of requests, and of whatever else ends a wait: ctx is the struct stele. */
#define STELE_STOP(name, type)                                                                     \
	static void name(struct type *req)                                                         \
	{                                                                                          \
		stele_wait_over(req->ctx);                                                         \
	}

static inline void stele_wait_over(struct stele *s)
{
	s->over = true;
	stele_env_stop(s->env);
}

/* Runs the loop until stele_wait_over; an interruption cancels the job (NULL: has none), once. */
void stele_wait(struct stele *s, struct stele_job *job);

/* The same for a request that was started, and hands on its outcome. */
#define STELE_WAIT(s, req)                                                                         \
	(stele_wait((s), &(req)->job), stele_outcome((s), (req)->err, (req)->detail))
static inline enum stele_err stele_outcome(struct stele *s, enum stele_err err, const char *detail)
{
	if (err == STELE_ERR_CANCELLED && atomic_load(&s->interrupted))
		return stele_fail(err, "interrupted");
	return err == STELE_OK ? STELE_OK : stele_fail(err, "%s", detail);
}

#endif
