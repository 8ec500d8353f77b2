/*
 * The archive that a command speaks to, by its --cluster and --key; and Ctrl-C. From the opening on, SIGINT, SIGTERM and
 * SIGHUP end the call under way in good order (CANCELLED, nothing half-written left); a second one, or five seconds, end
 * the program all the same. One handle at a time.
 */
#ifndef TOOLS_OPEN_H
#define TOOLS_OPEN_H

#include "net/client/stele.h"
#include "tools/progress.h"

STELE_MUST_USE enum stele_err stele_cli_open(const struct stele_cli *cli, struct stele **out);
void stele_cli_close(struct stele *s); /* accepts NULL */
/* Whether such a signal came. Thread: any. */
bool stele_cli_interrupted(void);
/* Steps that draw the bar, and end what the archive has no part in (reading a file) when interrupted. */
struct stele_progress stele_cli_progress(struct stele_bar *bar);

#endif
