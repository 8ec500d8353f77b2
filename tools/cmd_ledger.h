/* ledger import, ledger ls, ledger get. */
#ifndef TOOLS_CMD_LEDGER_H
#define TOOLS_CMD_LEDGER_H

#include "tools/cli.h"

extern const struct stele_command stele_cmd_ledger[];

#endif
