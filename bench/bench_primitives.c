/*
 * What one byte costs in each primitive that a put, a get and a repair are made of, on one core, as JSON in ns per byte: the terms of
 * bench_cluster.py's ceiling. Each is the median of several runs of the real code (SHA-256 lanes, CRC, encode, TLS records through
 * the transport, both ends) or of the kernel's own (TCP over loopback, both ends; memcpy).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "erasure/code.h"
#include "net/wire/transport.h"
#include "storage/base/crc.h"
#include "storage/base/sha256.h"

#define LEN  (4u << 20)
#define RUNS 7

static uint8_t *data, *other;

static double cpu_now(void) /* of the whole process: both ends of a transfer */
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* ns of CPU per byte: the median over RUNS of at least 50 ms each. */
static double measure(void (*once)(void))
{
	double run[RUNS];
	once();
	for (int i = 0; i < RUNS; i++) {
		uint64_t n = 0;
		double start = cpu_now(), spent;
		do {
			once();
			n++;
			spent = cpu_now() - start;
		} while (spent < 0.05);
		run[i] = spent * 1e9 / ((double)n * LEN);
	}
	qsort(run, RUNS, sizeof(run[0]), ascending);
	return run[RUNS / 2];
}

static void once_sha(void)
{
	struct stele_hash leaf[LEN / STELE_CELL_LEN];
	stele_sha256_cells(data, LEN, leaf);
}

static void once_crc(void)
{
	volatile uint32_t crc = 0;
	for (uint32_t at = 0; at < LEN; at += STELE_CELL_LEN)
		crc ^= stele_crc32c(data + at, STELE_CELL_LEN, 0);
}

static void once_encode(void) /* per byte of data, rs-4-2 */
{
	static const struct stele_code *code;
	if (!code && stele_code_find_name("rs-4-2", &code) != STELE_OK)
		abort();
	const uint8_t *in[4] = {data, data + LEN / 4, data + LEN / 2, data + 3 * (LEN / 4)};
	uint8_t *out[2] = {other, other + LEN / 4};
	stele_code_encode(code, LEN / 4, in, out);
}

static void once_copy(void)
{
	memcpy(other, data, LEN);
}

/* ---- TLS: from plaintext to plaintext through both transports, in memory ---- */

static struct stele_transport *end[2];

static void pass_on(struct stele_transport *from, struct stele_transport *to)
{
	size_t len;
	for (;;) {
		const void *bytes = from->ops->drain(from, &len);
		if (len == 0)
			return;
		if (to->ops->feed(to, bytes, len) != STELE_OK)
			abort();
		from->ops->drained(from, len);
	}
}

static void tls_open(void)
{
	struct stele_secret_key key[2];
	struct stele_transport_factory *f[2];
	for (int i = 0; i < 2; i++) {
		uint8_t seed[32] = {(uint8_t)(i + 1)};
		stele_key_from_seed(&key[i], seed);
		if (stele_tls_factory_create(&key[i], &f[i]) != STELE_OK ||
		    f[i]->create(f[i], i == 1, NULL, 0, &end[i]) != STELE_OK)
			abort();
	}
	for (int i = 0; i < 20; i++) {
		uint8_t byte;
		size_t got;
		pass_on(end[0], end[1]);
		if (end[1]->ops->recv(end[1], &byte, 1, &got) != STELE_OK)
			abort();
		pass_on(end[1], end[0]);
		if (end[0]->ops->recv(end[0], &byte, 1, &got) != STELE_OK)
			abort();
	}
	if (!end[0]->ops->ready(end[0]) || !end[1]->ops->ready(end[1]))
		abort();
}

static void once_tls(void)
{
	size_t sent = 0, received = 0, n;
	while (received < LEN) {
		if (sent < LEN) {
			if (end[0]->ops->send(end[0], data + sent, LEN - sent, &n) != STELE_OK)
				abort();
			sent += n;
		}
		pass_on(end[0], end[1]);
		do {
			if (end[1]->ops->recv(end[1], other + received, LEN - received, &n) !=
			    STELE_OK)
				abort();
			received += n;
		} while (n > 0 && received < LEN);
	}
}

/* ---- TCP over loopback, both ends ---- */

static int sock[2];

static void *tcp_sink(void *arg)
{
	size_t left = LEN;
	(void)arg;
	while (left > 0) {
		ssize_t n = read(sock[1], other, left < (1u << 20) ? left : (1u << 20));
		if (n <= 0)
			abort();
		left -= (size_t)n;
	}
	return NULL;
}

static void once_tcp(void)
{
	pthread_t t;
	size_t sent = 0;
	pthread_create(&t, NULL, tcp_sink, NULL);
	while (sent < LEN) {
		ssize_t n = write(sock[0], data + sent, LEN - sent < 262144 ? LEN - sent : 262144);
		if (n <= 0)
			abort();
		sent += (size_t)n;
	}
	pthread_join(t, NULL);
}

static void tcp_open(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(l, 1) != 0 ||
	    getsockname(l, (struct sockaddr *)&sa, &len) != 0)
		abort();
	sock[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(sock[0], (struct sockaddr *)&sa, sizeof(sa)) != 0)
		abort();
	sock[1] = accept(l, NULL, NULL);
	close(l);
}

int main(void)
{
	data = aligned_alloc(4096, LEN);
	other = aligned_alloc(4096, LEN);
	if (!data || !other)
		return 1;
	for (uint32_t i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 24);
	tls_open();
	tcp_open();
	printf("{\"sha256\": %.4f, ", measure(once_sha));
	printf("\"crc32c\": %.4f, ", measure(once_crc));
	printf("\"encode\": %.4f, ", measure(once_encode));
	printf("\"memcpy\": %.4f, ", measure(once_copy));
	printf("\"tls\": %.4f, ", measure(once_tls));
	printf("\"tcp\": %.4f}\n", measure(once_tcp));
	return 0;
}
