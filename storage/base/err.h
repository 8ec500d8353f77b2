/*
 * Errors: one enum for the whole project, and a bounded line of detail beside it.
 *
 * A fallible function returns enum stele_err; STELE_OK (0) is the only success. Where it fails, it
 * leaves one line in the calling thread's detail ("what, where, what to do"), which callers may wrap
 * outward ("put: shard 3: ..."). The detail is valid until the thread's next failure. Code that
 * carries a failure to another thread, or stores it, copies the detail with stele_detail_copy and
 * puts it back with stele_fail.
 *
 * Libraries return errors; only tools and daemons print. Bugs are asserted, never returned.
 */
#ifndef STELE_BASE_ERR_H
#define STELE_BASE_ERR_H

#include <stddef.h>

/* X(name, wire code, text). Wire codes go over the network: DO NOT CHANGE THESE VALUES. */
#define STELE_ERR_MAP(X)                                                                           \
	X(OK, 0, "success")                                                                        \
	X(NOMEM, 1, "out of memory")                                                               \
	X(INVALID, 2, "invalid argument")            /* the caller's argument, or its bytes */         \
	X(USAGE, 3, "usage")                         /* a person's command line or configuration */   \
	X(CORRUPT, 4, "corrupt")                     /* bytes that fail a check they must pass */      \
	X(NOT_FOUND, 5, "not found")                 /* looked everywhere it could be: it is not */    \
	X(IO, 6, "input/output error")               /* the system failed us; the disk is fenced */    \
	X(BUSY, 7, "busy")                           /* a bounded pool is full; try again */           \
	X(FULL, 8, "no space")                       /* a disk refuses writes, and still reads */      \
	X(CANCELLED, 9, "cancelled")                                                               \
	X(TIMEOUT, 10, "timed out")                                                                \
	X(UNAVAILABLE, 11, "unavailable")            /* may exist: who could say did not answer */     \
	X(DENIED, 12, "not authorised")              /* identity or role does not allow it */          \
	X(STALE, 13, "stale epoch")                  /* the map moved on: read it again */             \
	X(REFUSED, 14, "refused")                    /* a durable refusal or a rule of the archive */  \
	X(PROTOCOL, 15, "protocol error")            /* the peer broke the wire's rules */             \
	X(VERSION, 16, "unsupported version")        /* a newer format, opcode or feature */           \
	X(CLOSED, 17, "connection closed")                                                         \
	X(DEGRADED, 18, "degraded")                  /* done, with less redundancy than asked */       \
	X(EXISTS, 19, "already exists")                                                            \
	X(TOO_LARGE, 20, "too large")                                                              \
	X(FENCED, 21, "disk fenced")                 /* this disk is out of service after an error */

enum stele_err {
#define X(name, code, text) STELE_ERR_##name = code,
	STELE_ERR_MAP(X)
#undef X
};
#define STELE_OK STELE_ERR_OK

#define STELE_DETAIL_MAX 512 /* bytes, with the terminating NUL */

#define STELE_MUST_USE       __attribute__((warn_unused_result))
#define STELE_PRINTF(f, a)   __attribute__((format(printf, f, a)))

/* "NOT_FOUND"; never NULL, also for numbers that are no error of ours. */
const char *stele_err_name(enum stele_err err);
/* "not found"; never NULL. */
const char *stele_err_text(enum stele_err err);
/* Maps a number from the wire to an error; unknown numbers become STELE_ERR_PROTOCOL. */
enum stele_err stele_err_from_wire(unsigned code);

/* Sets the thread's detail and returns err, so that `return stele_fail(...)` is one statement. */
enum stele_err stele_fail(enum stele_err err, const char *fmt, ...) STELE_PRINTF(2, 3);
/* Puts "fmt: " before the thread's detail and returns err unchanged. */
enum stele_err stele_wrap(enum stele_err err, const char *fmt, ...) STELE_PRINTF(2, 3);
/* For a failed system call: classifies errnum (ENOSPC -> FULL, ENOMEM -> NOMEM, ...; the rest IO)
 * and sets the detail to "fmt: strerror". */
enum stele_err stele_fail_errno(int errnum, const char *fmt, ...) STELE_PRINTF(2, 3);

/* The detail of this thread's last failure; "" if there was none. */
const char *stele_detail(void);
void stele_detail_copy(char out[STELE_DETAIL_MAX]);
void stele_detail_clear(void);

/* The exit code that a command ends with (DESIGN 12): 0 done, 1 failed, 2 usage, 3 partial or
 * degraded, 4 not found, 5 integrity, 6 not authorised, 7 unavailable. */
int stele_err_exit_code(enum stele_err err);

#define STELE_TRY(expr)                                                                            \
	do {                                                                                       \
		enum stele_err stele_try_err_ = (expr);                                            \
		if (stele_try_err_ != STELE_OK)                                                    \
			return stele_try_err_;                                                     \
	} while (0)

#endif
