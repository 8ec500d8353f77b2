/* status, repair, scrub. */
#ifndef TOOLS_CMD_ADMIN_H
#define TOOLS_CMD_ADMIN_H

#include "tools/cli.h"

extern const struct stele_command stele_cmd_admin[];

#endif
