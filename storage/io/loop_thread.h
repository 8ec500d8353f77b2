/*
 * An event loop with a thread of its own (DESIGN N10): its env is created like any other (a ring of
 * its own, or threads where io_uring is refused) and runs until it is stopped. What is to happen on
 * it is posted to it.
 */
#ifndef STORAGE_IO_LOOP_THREAD_H
#define STORAGE_IO_LOOP_THREAD_H

#include "storage/io/env.h"

struct stele_loop_thread;

/* The loop runs when this returns. Signals stay with the threads that are there already. NOMEM, IO. */
STELE_MUST_USE enum stele_err stele_loop_thread_start(const struct stele_env_opts *opts,
						      struct stele_loop_thread **out);
/* Posts to it come from any thread; everything else of it belongs to the thread that runs it. */
struct stele_env *stele_loop_thread_env(const struct stele_loop_thread *t);
/* Stops the loop, waits for its thread and destroys its env. Nothing may be under way there, nor posted
 * to it. Not from its own thread. Accepts NULL. */
void stele_loop_thread_stop(struct stele_loop_thread *t);

#endif
