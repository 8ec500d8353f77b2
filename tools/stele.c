/* The command line. Commands are in cmd_<group>.c; each is built on libstele. */
#include "tools/cmd_admin.h"
#include "tools/cmd_anchor.h"
#include "tools/cmd_dev.h"
#include "tools/cmd_ledger.h"
#include "tools/cmd_object.h"
#include "tools/tty.h"

int main(int argc, char **argv)
{
	static const struct stele_command *const tables[] = {
	    stele_cmd_object, stele_cmd_admin, stele_cmd_ledger, stele_cmd_anchor, stele_cmd_dev,
	    NULL,
	};
	stele_tty_begin();
	return stele_cli_main(
	    "stele", "Stele: an archive for ledgers and evidence that proves what it returns.",
	    tables, argc, argv, stdout, stderr);
}
