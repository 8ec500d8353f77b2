/*
 * steled processes of a local cluster: starting them detached, telling whether they run, stopping them.
 * A node's directory holds steled.ini, pid (written here), ready (written by steled once it serves:
 * "pid address", removed at a clean exit) and log (its stderr). Only a process whose command line is
 * steled with this node's steled.ini is ever signalled. Linux (/proc). Blocks; one thread.
 */
#ifndef TOOLS_DAEMON_H
#define TOOLS_DAEMON_H

#include <sys/types.h>

#include "storage/base/bytes.h"

struct stele_daemon {
	uint32_t node;
	char dir[STELE_PATH_MAX]; /* absolute, without links */
	pid_t pid;                /* 0: does not run */
	char addr[80];            /* where it serves; "" until ready */
};

/* The daemon's program: $STELE_STELED, else steled beside this program. USAGE names the place. */
STELE_MUST_USE enum stele_err stele_daemon_program(char out[STELE_PATH_MAX]);
/* Looks whether it runs: fills pid (0: no) and, if it serves, addr. */
void stele_daemon_look(struct stele_daemon *d);
/* Starts it, detached, in a session of its own; does nothing when it runs. Fills pid. */
STELE_MUST_USE enum stele_err stele_daemon_start(struct stele_daemon *d, const char *program);
/* Waits until it serves. UNAVAILABLE: it ended (with the last line of its log), or the time is over. */
STELE_MUST_USE enum stele_err stele_daemon_wait_ready(struct stele_daemon *d, uint64_t deadline_ns);
/* Signals it if it runs. True: it did. */
bool stele_daemon_signal(struct stele_daemon *d, int sig);
/* Waits until it is gone and removes its pid and ready files. False: the time is over. */
bool stele_daemon_wait_gone(struct stele_daemon *d, uint64_t deadline_ns);
/* Monotonic nanoseconds, for deadlines. */
uint64_t stele_daemon_now(void);

#endif
