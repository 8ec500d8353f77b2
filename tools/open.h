/* Opens the archive a command speaks to, by its --cluster and --key. */
#ifndef TOOLS_OPEN_H
#define TOOLS_OPEN_H

#include "net/client/stele.h"
#include "tools/cli.h"

STELE_MUST_USE static inline enum stele_err stele_cli_open(const struct stele_cli *cli,
                                                           struct stele **out)
{
	struct stele_open_opts opts = {.cluster = cli->cluster, .key = cli->key};
	return stele_open(&opts, out);
}

#endif
