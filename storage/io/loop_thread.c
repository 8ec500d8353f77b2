/* A thread that runs an event loop. */
#include "storage/io/loop_thread.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct stele_loop_thread {
	struct stele_env *env;
	pthread_t thread;
};

static void *run(void *arg)
{
	struct stele_loop_thread *t = arg;
	stele_env_run(t->env);
	return NULL;
}

/* The new thread inherits the mask: a signal is for the program's own loop to be woken by. */
static int create_masked(struct stele_loop_thread *t)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&t->thread, NULL, run, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

enum stele_err stele_loop_thread_start(const struct stele_env_opts *opts,
                                       struct stele_loop_thread **out)
{
	struct stele_loop_thread *t = calloc(1, sizeof(*t));
	if (!t)
		return stele_fail(STELE_ERR_NOMEM, "loop thread: out of memory");
	enum stele_err err = stele_env_create(opts, &t->env);
	if (err != STELE_OK) {
		free(t);
		return err;
	}
	int r = create_masked(t);
	if (r != 0) {
		stele_env_destroy(t->env);
		free(t);
		return stele_fail_errno(r, "loop thread");
	}
	*out = t;
	return STELE_OK;
}

struct stele_env *stele_loop_thread_env(const struct stele_loop_thread *t)
{
	return t->env;
}

void stele_loop_thread_stop(struct stele_loop_thread *t)
{
	if (!t)
		return;
	assert(!pthread_equal(t->thread, pthread_self()));
	stele_env_stop(t->env);
	pthread_join(t->thread, NULL);
	stele_env_destroy(t->env);
	free(t);
}
