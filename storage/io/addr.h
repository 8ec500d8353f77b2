/*
 * Addresses as text: "127.0.0.1:7000", "[::1]:7000", "host.name:7000"; an empty host or "*" means
 * any (to listen on). Names are resolved with getaddrinfo, which blocks.
 */
#ifndef STORAGE_IO_ADDR_H
#define STORAGE_IO_ADDR_H

#include <sys/socket.h>

#include "storage/io/env.h"

struct stele_addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* True when the text holds a numeric host: no resolver is needed. */
bool stele_addr_parse(const char *text, struct stele_addr *out);
/* Up to max addresses of a name, in the resolver's order; returns their number, or a negative errno
 * (-EINVAL: no "host:port"; -EHOSTUNREACH: no such name). Blocks; thread: any. */
int stele_addr_resolve(const char *text, struct stele_addr *out, int max);
/* out: STELE_ADDR_MAX bytes; "" for a family that is neither IPv4 nor IPv6. */
void stele_addr_format(const struct stele_addr *addr, char *out);

#endif
