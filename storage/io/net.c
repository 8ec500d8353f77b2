/* Making sockets. Moves no bytes: that differs between the envs. */
#include "storage/io/net.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

static void set_nodelay(int fd)
{
	int one = 1; /* a socket that is not TCP has none, and needs none */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

struct stele_connect *stele_connect_create(const struct stele_op *op)
{
	struct stele_connect *connect = calloc(1, sizeof(*connect));
	if (connect && stele_addr_parse(op->path, &connect->addr[0]))
		connect->n = 1;
	return connect;
}

void stele_connect_resolve(struct stele_op *op)
{
	struct stele_connect *connect = op->priv.slot;
	connect->n = stele_addr_resolve(op->path, connect->addr, STELE_CONNECT_ADDRS);
}

int stele_connect_socket(struct stele_connect *connect, int flags)
{
	if (connect->n < 0)
		return connect->n;
	if (connect->next >= connect->n)
		return -ECONNREFUSED;
	int family = connect->addr[connect->next++].sa.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	set_nodelay(fd);
	return fd;
}

const struct stele_addr *stele_connect_addr(const struct stele_connect *connect)
{
	assert(connect->next > 0);
	return &connect->addr[connect->next - 1];
}

void stele_accepted(const struct stele_op *op, int fd)
{
	set_nodelay(fd);
	if (!op->path_buf)
		return;
	struct stele_addr peer = {.len = sizeof(peer.sa)};
	if (getpeername(fd, (struct sockaddr *)&peer.sa, &peer.len) < 0)
		op->path_buf[0] = '\0'; /* it is gone already: RECV will say so */
	else
		stele_addr_format(&peer, op->path_buf);
}
