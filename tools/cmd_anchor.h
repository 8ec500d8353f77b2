/* anchor now, anchor status, proof, proof verify. */
#ifndef TOOLS_CMD_ANCHOR_H
#define TOOLS_CMD_ANCHOR_H

#include "tools/cli.h"

extern const struct stele_command stele_cmd_anchor[];

#endif
