/* Text to socket addresses and back. Opens no sockets. */
#include "storage/io/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

/* Cuts "host:port" at its last colon, dropping the brackets of an IPv6 host. */
static bool split(const char *text, char host[STELE_PATH_MAX], uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	if (!colon || colon[1] == '\0')
		return false;
	uint32_t n = 0;
	for (const char *p = colon + 1; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		n = n * 10 + (uint32_t)(*p - '0');
		if (n > 65535)
			return false;
	}
	size_t len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= STELE_PATH_MAX)
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	*port = (uint16_t)n;
	return true;
}

static bool numeric(const char *host, uint16_t port, struct stele_addr *out)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	memset(out, 0, sizeof(*out));
	if (host[0] == '\0' || strcmp(host, "*") == 0 ||
	    inet_pton(AF_INET, host, &in.sin_addr) == 1) {
		memcpy(&out->sa, &in, sizeof(in));
		out->len = sizeof(in);
		return true;
	}
	if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
		memcpy(&out->sa, &in6, sizeof(in6));
		out->len = sizeof(in6);
		return true;
	}
	return false;
}

bool stele_addr_parse(const char *text, struct stele_addr *out)
{
	char host[STELE_PATH_MAX];
	uint16_t port;
	return split(text, host, &port) && numeric(host, port, out);
}

int stele_addr_resolve(const char *text, struct stele_addr *out, int max)
{
	char host[STELE_PATH_MAX];
	char service[8];
	uint16_t port;
	if (!split(text, host, &port))
		return -EINVAL;
	if (numeric(host, port, out))
		return 1;
	snprintf(service, sizeof(service), "%u", port);
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int e = getaddrinfo(host, service, &hints, &list);
	if (e != 0)
		return e == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
	int n = 0;
	for (struct addrinfo *ai = list; ai && n < max; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof(out[n].sa))
			continue;
		memset(&out[n], 0, sizeof(out[n]));
		memcpy(&out[n].sa, ai->ai_addr, ai->ai_addrlen);
		out[n].len = ai->ai_addrlen;
		n++;
	}
	freeaddrinfo(list);
	return n > 0 ? n : -EHOSTUNREACH;
}

void stele_addr_format(const struct stele_addr *addr, char *out)
{
	char host[INET6_ADDRSTRLEN];
	out[0] = '\0';
	if (addr->sa.ss_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, &addr->sa, sizeof(in));
		if (inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host)))
			snprintf(out, STELE_ADDR_MAX, "%s:%u", host, ntohs(in.sin_port));
	} else if (addr->sa.ss_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, &addr->sa, sizeof(in6));
		if (inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host)))
			snprintf(out, STELE_ADDR_MAX, "[%s]:%u", host, ntohs(in6.sin6_port));
	}
}
