/* The worker threads of an env. Knows nothing of what an operation does: run() is its owner's. */
#include "storage/io/workers.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "storage/io/op_list.h"

struct stele_workers {
	void (*run)(void *ctx, struct stele_op *op);
	void *ctx;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct stele_op_list queue; /* under lock; priv.heap is 1 while an op is in it */
	uint32_t queued;
	uint32_t idle;
	bool quit;
	uint32_t threads_n;
	uint32_t threads_max;
	pthread_t threads[];
};

static void *worker_main(void *arg)
{
	struct stele_workers *w = arg;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct stele_op *op = stele_op_list_pop(&w->queue);
		if (op) {
			w->queued--;
			op->priv.heap = 0;
			pthread_mutex_unlock(&w->lock);
			w->run(w->ctx, op);
			pthread_mutex_lock(&w->lock);
			continue;
		}
		if (w->quit)
			break;
		w->idle++;
		pthread_cond_wait(&w->wake, &w->lock);
		w->idle--;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Under lock, or before anybody else knows w. Signals are for the loops, not for workers. */
static int start_thread(struct stele_workers *w)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int e = pthread_create(&w->threads[w->threads_n], NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e == 0) {
		pthread_setname_np(w->threads[w->threads_n], "stele-worker");
		w->threads_n++;
	}
	return e;
}

enum stele_err stele_workers_create(uint32_t threads_max,
                                    void (*run)(void *ctx, struct stele_op *op), void *ctx,
                                    struct stele_workers **out)
{
	assert(threads_max > 0 && run);
	struct stele_workers *w = calloc(1, sizeof(*w) + threads_max * sizeof(w->threads[0]));
	if (!w)
		return stele_fail(STELE_ERR_NOMEM, "workers: out of memory");
	w->run = run;
	w->ctx = ctx;
	w->threads_max = threads_max;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	/* The first thread exists from the start, so that adding work can never fail. */
	int e = start_thread(w);
	if (e) {
		pthread_cond_destroy(&w->wake);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return stele_fail_errno(e, "workers: cannot start a thread");
	}
	*out = w;
	return STELE_OK;
}

void stele_workers_destroy(struct stele_workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	assert(!w->queue.head);
	w->quit = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (uint32_t i = 0; i < w->threads_n; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void stele_workers_add(struct stele_workers *w, struct stele_op *op)
{
	pthread_mutex_lock(&w->lock);
	assert(!w->quit);
	op->priv.heap = 1;
	stele_op_list_push(&w->queue, op);
	w->queued++;
	/* A failure to start one more is not an error: those that run will get to it. */
	if (w->queued > w->idle && w->threads_n < w->threads_max)
		(void)start_thread(w);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_signal(&w->wake); /* after the lock, which the thread that wakes wants next */
}

bool stele_workers_remove(struct stele_workers *w, struct stele_op *op)
{
	pthread_mutex_lock(&w->lock);
	bool queued = op->priv.heap == 1;
	if (queued) {
		op->priv.heap = 0;
		stele_op_list_remove(&w->queue, op);
		w->queued--;
	}
	pthread_mutex_unlock(&w->lock);
	return queued;
}
