/* put, get, stat, ls, verify. */
#ifndef TOOLS_CMD_OBJECT_H
#define TOOLS_CMD_OBJECT_H

#include "tools/cli.h"

extern const struct stele_command stele_cmd_object[];

#endif
