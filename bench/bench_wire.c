/*
 * What a byte costs on its way from one node to another: requests with bodies of a shard's size over
 * TLS on loopback, beside its parts measured in the same run: TCP alone (256 KiB a call) and
 * AES-128-GCM records sealed and opened. Two threads, a loop each, as two processes would have; CPU
 * time is that of the whole process, both ends.
 *
 *   bench_wire [--turns N] [--ms N] [--only PUT|GET|PING]
 */
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/pair.h"
#include "net/wire/peer.h"
#include "net/wire/server.h"

#define BODY      1398144u /* a shard of a 16 MiB block at 12+m */
#define INFLIGHT  12u
#define RECORD    16384u
#define CHUNK     (256u << 10)
#define TURNS_MAX 100

static int turns = 7;
static double turn_s = 0.25;
static const char *only;

static void die(const char *what)
{
	fprintf(stderr, "bench_wire: %s: %s\n", what, stele_detail());
	exit(1);
}

static void try(enum stele_err err, const char *what)
{
	if (err != STELE_OK)
		die(what);
}

static double cpu_now(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* ---- the far end: takes bodies, gives bodies ---- */

struct far {
	pthread_t thread;
	struct stele_env *env;
	struct stele_server *server;
	struct stele_buf_pool *bufs;
	struct stele_msg stop;
};

static uint8_t *shard;

static void on_hello(struct stele_request *req)
{
	uint8_t head[64];
	struct stele_head_hello h = {.version = STELE_PROTOCOL_VERSION};
	struct stele_writer w = stele_writer(head, sizeof(head));
	stele_head_hello_encode(&h, true, &w);
	stele_reply(req, head, (uint32_t)stele_written(&w), NULL, 0, NULL, NULL);
}

static void on_put(struct stele_request *req)
{
	stele_reply(req, NULL, 0, NULL, 0, NULL, NULL);
}

static void on_get(struct stele_request *req)
{
	struct iovec iov = {shard, BODY};
	stele_reply(req, NULL, 0, &iov, 1, NULL, NULL);
}

static const struct stele_op_rule rules[] = {
    {STELE_OPCODE_HELLO, STELE_ROLE_ANY, 64, 0, on_hello},
    {STELE_OPCODE_PING, STELE_ROLE_ANY, 0, 0, on_put},
    {STELE_OPCODE_SHARD_PUT, STELE_ROLE_ANY, STELE_FRAME_HEAD_MAX, STELE_SHARD_LEN_MAX, on_put},
    {STELE_OPCODE_SHARD_GET, STELE_ROLE_ANY, 0, 0, on_get},
    {0},
};

static void anybody(void *ctx, struct stele_who *who)
{
	(void)ctx;
	who->roles = STELE_ROLE_READER;
}

static void far_closed(void *ctx)
{
	stele_env_stop(((struct far *)ctx)->env);
}

static void far_stop(struct stele_msg *msg)
{
	struct far *f = (struct far *)((uint8_t *)msg - offsetof(struct far, stop));
	stele_server_close(f->server, far_closed, f);
}

static void *far_run(void *arg)
{
	stele_env_run(((struct far *)arg)->env);
	return NULL;
}

/* ---- the near end: keeps calls in flight for a while ---- */

struct near {
	struct stele_env *env;
	struct stele_peer *peer;
	struct stele_call call[64];
	struct iovec body[64], into[64];
	uint8_t *space;
	uint8_t head[12900]; /* metadata as a SHARD_PUT carries it */
	unsigned running;
	double until;
	uint64_t done;
};

static void on_reply(struct stele_call *call)
{
	struct near *n = call->ctx;
	if (call->err != STELE_OK) {
		fprintf(stderr, "bench_wire: %s\n", call->detail);
		exit(1);
	}
	n->done++;
	if (bench_now() < n->until)
		stele_peer_call(n->peer, call);
	else if (--n->running == 0)
		stele_env_stop(n->env);
}

struct cost {
	double rate;   /* bytes, or calls, per second */
	double cpu_ns; /* per byte, or call */
};

static struct cost run_calls(struct near *n, uint16_t op, unsigned inflight, uint64_t unit)
{
	bool put = op == STELE_OPCODE_SHARD_PUT, get = op == STELE_OPCODE_SHARD_GET;
	double start = bench_now(), cpu = cpu_now();
	n->until = start + turn_s;
	n->done = 0;
	n->running = inflight;
	for (unsigned i = 0; i < inflight; i++) {
		n->body[i] = (struct iovec){shard, BODY};
		n->into[i] = (struct iovec){n->space + (size_t)i * BODY, BODY};
		n->call[i] = (struct stele_call){.op = op,
		                                 .head = n->head,
		                                 .head_len = put ? sizeof(n->head) : 0,
		                                 .body = &n->body[i],
		                                 .nbody = put,
		                                 .into = &n->into[i],
		                                 .ninto = get,
		                                 .cb = on_reply,
		                                 .ctx = n};
		stele_peer_call(n->peer, &n->call[i]);
	}
	stele_env_run(n->env);
	double total = (double)n->done * (double)unit;
	return (struct cost){total / (bench_now() - start), (cpu_now() - cpu) * 1e9 / total};
}

/* ---- the parts ---- */

static void *tcp_sink(void *arg)
{
	static uint8_t buf[CHUNK];
	while (recv(*(int *)arg, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

static struct cost run_tcp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	pthread_t thread;
	int l = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&a, len) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&a, &len) || connect(out, (struct sockaddr *)&a, len))
		die("loopback TCP");
	int in = accept(l, NULL, NULL);
	double start = bench_now(), cpu = cpu_now(), total = 0;
	pthread_create(&thread, NULL, tcp_sink, &in);
	while (bench_now() < start + turn_s)
		total += (double)send(out, shard, CHUNK, 0);
	close(out);
	pthread_join(thread, NULL);
	struct cost c = {total / (bench_now() - start), (cpu_now() - cpu) * 1e9 / total};
	close(in);
	close(l);
	return c;
}

static struct cost run_records(void)
{
	static uint8_t sealed[RECORD], opened[RECORD];
	uint8_t key[16] = {1}, nonce[12] = {2}, aad[5] = {23, 3, 3, 64, 17}, tag[16];
	EVP_CIPHER_CTX *e = EVP_CIPHER_CTX_new(), *d = EVP_CIPHER_CTX_new();
	int n;
	EVP_EncryptInit_ex(e, EVP_aes_128_gcm(), NULL, key, nonce);
	EVP_DecryptInit_ex(d, EVP_aes_128_gcm(), NULL, key, nonce);
	double start = bench_now(), cpu = cpu_now(), total = 0;
	while (bench_now() < start + turn_s)
		for (size_t at = 0; at + RECORD <= BODY; at += RECORD) {
			EVP_EncryptInit_ex(e, NULL, NULL, NULL, nonce);
			EVP_EncryptUpdate(e, NULL, &n, aad, sizeof(aad));
			EVP_EncryptUpdate(e, sealed, &n, shard + at, RECORD);
			EVP_EncryptFinal_ex(e, sealed + n, &n);
			EVP_CIPHER_CTX_ctrl(e, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag);
			EVP_DecryptInit_ex(d, NULL, NULL, NULL, nonce);
			EVP_DecryptUpdate(d, NULL, &n, aad, sizeof(aad));
			EVP_DecryptUpdate(d, opened, &n, sealed, RECORD);
			EVP_CIPHER_CTX_ctrl(d, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag);
			if (EVP_DecryptFinal_ex(d, opened + n, &n) != 1)
				die("AES-GCM");
			total += RECORD;
		}
	struct cost c = {total / (bench_now() - start), (cpu_now() - cpu) * 1e9 / total};
	EVP_CIPHER_CTX_free(e);
	EVP_CIPHER_CTX_free(d);
	return c;
}

/* Both ends of a TLS transport in one thread, no socket between them. */
static struct cost run_transport(struct stele_transport_factory *f)
{
	static uint8_t into[CHUNK];
	struct stele_transport *end[2];
	size_t len, took, got;
	try(f->create(f, false, NULL, 0, &end[0]), "TLS");
	try(f->create(f, true, NULL, 0, &end[1]), "TLS");
	double start = bench_now(), cpu = cpu_now(), total = 0;
	for (int from = 0; bench_now() < start + turn_s; from = !from) {
		struct stele_transport *a = end[from], *b = end[!from];
		if (a->ops->ready(a) && b->ops->ready(b)) {
			from = 0;
			a = end[0];
			b = end[1];
			try(a->ops->send(a, shard, CHUNK, &took), "TLS");
		}
		const void *bytes = a->ops->drain(a, &len);
		try(b->ops->feed(b, bytes, len), "TLS");
		do {
			try(b->ops->recv(b, into, sizeof(into), &got), "TLS");
			total += (double)got;
		} while (got);
		a->ops->drained(a, len);
	}
	struct cost c = {total / (bench_now() - start), (cpu_now() - cpu) * 1e9 / total};
	end[0]->ops->destroy(end[0]);
	end[1]->ops->destroy(end[1]);
	return c;
}

/* ---- the table ---- */

enum row { TCP, RECORDS, TRANSPORT, PUT, GET, PING_1, PING_64, ROWS };
static const char *const names[ROWS] = {
    "TCP alone, MB/s",
    "AES-128-GCM records, sealed and opened, MB/s",
    "TLS transport, both ends, no socket, MB/s",
    "requests with a shard, TLS, MB/s",
    "replies with a shard, TLS, MB/s",
    "PING, one at a time, calls/s",
    "PING, 64 in flight, calls/s",
};

static void print_table(struct cost cost[ROWS][TURNS_MAX])
{
	double rate[TURNS_MAX], ns[TURNS_MAX], sum[TURNS_MAX];
	printf("%-48s %12s %22s\n", "", "rate", "CPU ns, both ends");
	for (int r = 0; r < ROWS; r++) {
		if (cost[r][0].rate == 0)
			continue; /* not asked for */
		double unit = r < PING_1 ? 1e6 : 1;
		for (int t = 0; t < turns; t++) {
			rate[t] = cost[r][t].rate / unit;
			ns[t] = cost[r][t].cpu_ns;
			sum[t] =
			    cost[r][t].cpu_ns / (cost[TCP][t].cpu_ns + cost[RECORDS][t].cpu_ns);
		}
		printf("%-48s %12.0f %15.2f per %s", names[r], bench_spread_of(rate, turns).median,
		       bench_spread_of(ns, turns).median, r < PING_1 ? "byte" : "call");
		struct bench_spread s = bench_spread_of(sum, turns);
		if (r == PUT || r == GET)
			printf("  = %.2f (%.2f ... %.2f) x TCP + records", s.median, s.min, s.max);
		printf("\n");
	}
}

static void options(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--turns") == 0)
			turns = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--ms") == 0)
			turn_s = atof(argv[i + 1]) / 1000;
		else if (strcmp(argv[i], "--only") == 0)
			only = argv[i + 1];
	}
	if (turns < 1 || turns > TURNS_MAX || turn_s <= 0) {
		fprintf(stderr,
		        "usage: bench_wire [--turns 1...%d] [--ms N] [--only PUT|GET|PING]\n",
		        TURNS_MAX);
		exit(2);
	}
}

static bool wanted(const char *row)
{
	return !only || strcmp(row, only) == 0;
}

static void run_turn(struct near *n, struct stele_transport_factory *tls,
                     struct cost cost[ROWS][TURNS_MAX], int t)
{
	cost[TCP][t] = run_tcp();
	cost[RECORDS][t] = run_records();
	cost[TRANSPORT][t] = run_transport(tls);
	if (wanted("PUT"))
		cost[PUT][t] = run_calls(n, STELE_OPCODE_SHARD_PUT, INFLIGHT, BODY);
	if (wanted("GET"))
		cost[GET][t] = run_calls(n, STELE_OPCODE_SHARD_GET, INFLIGHT, BODY);
	if (wanted("PING")) {
		cost[PING_1][t] = run_calls(n, STELE_OPCODE_PING, 1, 1);
		cost[PING_64][t] = run_calls(n, STELE_OPCODE_PING, 64, 1);
	}
}

static void near_closed(void *ctx)
{
	stele_env_stop(ctx);
}

int main(int argc, char **argv)
{
	static struct cost cost[ROWS][TURNS_MAX];
	static struct near near;
	struct far far = {.stop.run = far_stop};
	struct stele_secret_key key;
	struct stele_transport_factory *tf, *tn;
	const uint8_t seed[32] = {7};
	options(argc, argv);
	stele_key_from_seed(&key, seed);
	shard = aligned_alloc(STELE_PAGE, stele_round_up(BODY, STELE_PAGE));
	near.space = malloc((size_t)INFLIGHT * BODY);
	if (!shard || !near.space)
		die("memory");
	memset(shard, 0x5a, BODY);
	memset(near.space, 0, (size_t)INFLIGHT * BODY);
	try(stele_tls_factory_create(&key, &tf), "TLS");
	try(stele_tls_factory_create(&key, &tn), "TLS");
	try(stele_env_create(NULL, &far.env), "env");
	try(stele_env_create(NULL, &near.env), "env");
	try(stele_buf_pool_create(2 * INFLIGHT, &far.bufs), "buffers");
	struct stele_server_opts so = {.env = far.env,
	                               .bufs = far.bufs,
	                               .transport = tf,
	                               .listen = "127.0.0.1:0",
	                               .rule = rules,
	                               .identify = anybody};
	try(stele_server_create(&so, &far.server), "server");
	struct stele_peer_opts po = {.env = near.env,
	                             .transport = tn,
	                             .addr = stele_server_addr(far.server),
	                             .expect = {key.pub},
	                             .nexpect = 1};
	try(stele_peer_create(&po, &near.peer), "peer");
	pthread_create(&far.thread, NULL, far_run, &far);
	printf("%s, bodies of %u bytes, %u in flight, %d turns of %.2f s\n", near.env->ops->name,
	       BODY, INFLIGHT, turns, turn_s);
	(void)run_calls(&near, STELE_OPCODE_SHARD_PUT, INFLIGHT, BODY); /* connect, touch memory */
	for (int t = 0; t < turns; t++)
		run_turn(&near, tn, cost, t);
	print_table(cost);
	stele_peer_close(near.peer, near_closed, near.env);
	stele_env_run(near.env);
	stele_env_post(far.env, &far.stop);
	pthread_join(far.thread, NULL);
	stele_peer_destroy(near.peer);
	stele_server_destroy(far.server);
	stele_buf_pool_destroy(far.bufs);
	stele_transport_factory_destroy(tf);
	stele_transport_factory_destroy(tn);
	stele_env_destroy(near.env);
	stele_env_destroy(far.env);
	free(near.space);
	free(shard);
	return 0;
}
