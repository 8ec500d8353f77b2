/* Which libstele this is. */
#ifndef NET_CLIENT_VERSION_H
#define NET_CLIENT_VERSION_H

/* "0.1.0"; constant. */
const char *stele_version(void);

#endif
