/* dev up, dev kill, dev start, dev down: a local cluster of real daemons on loopback. */
#ifndef TOOLS_CMD_DEV_H
#define TOOLS_CMD_DEV_H

#include "tools/cli.h"

extern const struct stele_command stele_cmd_dev[];

#endif
