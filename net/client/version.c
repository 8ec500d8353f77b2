/* The library's version, and nothing else. */
#include "net/client/version.h"

const char *stele_version(void)
{
	return STELE_VERSION;
}
