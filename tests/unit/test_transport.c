/*
 * Goal: whatever is put in at one end comes out at the other, byte for byte, however the ciphertext is cut on
 * its way; whoever does not hold the expected key gets nothing; a byte changed or lost on the way
 * ends the connection and yields no plaintext beyond it; TLS 1.2, other key types and clients
 * without a certificate are refused.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "net/wire/transport.h"

static uint64_t state = 1;

static uint64_t rnd(uint64_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % below;
}

static struct stele_secret_key key(uint8_t fill)
{
	struct stele_secret_key k;
	uint8_t seed[32];
	memset(seed, fill, sizeof(seed));
	stele_key_from_seed(&k, seed);
	return k;
}

/* One end and what lies between it and the other one. */
struct end {
	struct stele_transport_factory *factory;
	struct stele_transport *t;
	uint8_t fed[300000]; /* stays put while the transport reads from it */
	enum stele_err err;
	char detail[STELE_DETAIL_MAX]; /* of err */
	uint8_t *got;                  /* plaintext so far */
	size_t got_len, got_cap;
	uint64_t wire; /* ciphertext bytes it sent */
};

struct pair {
	struct end client, server;
	uint64_t flip_at; /* flip a bit in this byte that the client sends; UINT64_MAX: none */
};

static struct stele_transport_factory *make_factory(bool tls, const struct stele_secret_key *k)
{
	struct stele_transport_factory *f;
	enum stele_err err =
	    tls ? stele_tls_factory_create(k, &f) : stele_plain_factory_create(&k->pub, &f);
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	return f;
}

static struct pair *make_pair(bool tls, uint8_t expect)
{
	struct stele_secret_key ck = key(1), sk = key(2), ek = key(expect);
	struct pair *p = calloc(1, sizeof(*p));
	p->flip_at = UINT64_MAX;
	p->client.factory = make_factory(tls, &ck);
	p->server.factory = make_factory(tls, &sk);
	cr_assert_eq(p->client.factory->create(p->client.factory, false, &ek.pub, expect ? 1 : 0,
	                                       &p->client.t),
	             STELE_OK);
	cr_assert_eq(p->server.factory->create(p->server.factory, true, NULL, 0, &p->server.t),
	             STELE_OK);
	return p;
}

static void free_pair(struct pair *p)
{
	struct end *e[2] = {&p->client, &p->server};
	for (int i = 0; i < 2; i++) {
		e[i]->t->ops->destroy(e[i]->t);
		stele_transport_factory_destroy(e[i]->factory);
		free(e[i]->got);
	}
	free(p);
}

/* Everything readable out of e, in reads of odd lengths. */
static void read_all(struct end *e)
{
	size_t got;
	do {
		if (e->got_cap - e->got_len < 70000) {
			e->got_cap = 2 * e->got_cap + 140000;
			e->got = realloc(e->got, e->got_cap);
		}
		e->err = e->t->ops->recv(e->t, e->got + e->got_len, 1 + rnd(69999), &got);
		e->got_len += got;
	} while (e->err == STELE_OK && got > 0);
}

/* Carries some of what `from` wants sent over to `to`; true if there was any. */
static bool carry(struct pair *p, struct end *from, struct end *to)
{
	size_t len;
	const uint8_t *bytes = from->t->ops->drain(from->t, &len);
	if (len == 0 || to->err != STELE_OK)
		return false;
	if (len > sizeof(to->fed))
		len = sizeof(to->fed);
	if (rnd(2))
		len = 1 + rnd(rnd(4) ? len : (len < 40 ? len : 40));
	memcpy(to->fed, bytes, len);
	if (from == &p->client && p->flip_at >= from->wire && p->flip_at < from->wire + len)
		to->fed[p->flip_at - from->wire] ^= (uint8_t)(1 << rnd(8));
	from->wire += len;
	from->t->ops->drained(from->t, len);
	to->err = to->t->ops->feed(to->t, to->fed, len);
	if (to->err == STELE_OK)
		read_all(to);
	if (to->err != STELE_OK)
		stele_detail_copy(to->detail);
	memset(to->fed, 0xa5, sizeof(to->fed)); /* nobody may still read from it */
	return true;
}

static void exchange(struct pair *p)
{
	while (carry(p, &p->client, &p->server) | carry(p, &p->server, &p->client))
		;
}

static void transfer(struct pair *p, struct end *from, struct end *to, size_t total)
{
	uint8_t *bytes = malloc(total);
	size_t at = 0, before = to->got_len;
	for (size_t i = 0; i < total; i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 9));
	while (at < total || to->got_len - before < total) {
		size_t took = 0, len = total - at;
		if (len > 1 && rnd(3))
			len = 1 + rnd(len < 100000 ? len : 100000);
		if (len)
			cr_assert_eq(from->t->ops->send(from->t, bytes + at, len, &took), STELE_OK);
		cr_assert_leq(took, len);
		at += took;
		if (took == 0 || !rnd(3))
			cr_assert(carry(p, from, to), "full, and yet nothing to send");
		cr_assert_eq(to->err, STELE_OK, "%s", stele_detail());
	}
	cr_assert_eq(to->got_len - before, total);
	cr_assert_eq(memcmp(to->got + before, bytes, total), 0);
	free(bytes);
}

static void both_ways(bool tls)
{
	for (int round = 0; round < 4; round++) {
		struct pair *p = make_pair(tls, 2);
		cr_assert(!p->client.t->ops->ready(p->client.t));
		exchange(p);
		cr_assert(p->client.t->ops->ready(p->client.t));
		cr_assert(p->server.t->ops->ready(p->server.t));
		struct stele_secret_key ck = key(1), sk = key(2);
		cr_assert(stele_public_key_equal(p->client.t->ops->peer_key(p->client.t), &sk.pub));
		cr_assert(stele_public_key_equal(p->server.t->ops->peer_key(p->server.t), &ck.pub));
		transfer(p, &p->client, &p->server, 3000000);
		transfer(p, &p->server, &p->client, 1);
		transfer(p, &p->server, &p->client, 2000000);
		transfer(p, &p->client, &p->server, 16384);
		free_pair(p);
	}
}

Test(transport, tls_both_ways)
{
	both_ways(true);
}

Test(transport, plain_both_ways)
{
	both_ways(false);
}

Test(transport, sends_are_large)
{
	struct pair *p = make_pair(true, 2);
	uint8_t *bytes = calloc(1, 1u << 20);
	size_t took, len;
	exchange(p);
	cr_assert_eq(p->client.t->ops->send(p->client.t, bytes, 1u << 20, &took), STELE_OK);
	cr_assert_eq(took, 256u << 10);
	p->client.t->ops->drain(p->client.t, &len);
	cr_assert_geq(len, 256u << 10);
	/* while that is on its way, as much again */
	cr_assert_eq(p->client.t->ops->send(p->client.t, bytes, 1u << 20, &took), STELE_OK);
	cr_assert_eq(took, 256u << 10);
	cr_assert_eq(p->client.t->ops->send(p->client.t, bytes, 1u << 20, &took), STELE_OK);
	cr_assert_eq(took, 0, "bounded");
	free(bytes);
	free_pair(p);
}

static void wrong_key(bool tls)
{
	struct pair *p = make_pair(tls, 3); /* the client expects another server */
	exchange(p);
	cr_assert_eq(p->client.err, STELE_ERR_DENIED);
	struct stele_secret_key sk = key(2), ek = key(3);
	char shown[9], wanted[9];
	cr_assert_not_null(strstr(p->client.detail, stele_hex(sk.pub.b, 4, shown)), "%s",
	                   p->client.detail);
	cr_assert_not_null(strstr(p->client.detail, stele_hex(ek.pub.b, 4, wanted)));
	cr_assert(!p->client.t->ops->ready(p->client.t));
	if (tls) /* the client told nothing of itself */
		cr_assert(!p->server.t->ops->ready(p->server.t));
	free_pair(p);
}

Test(transport, tls_wrong_key)
{
	wrong_key(true);
}

Test(transport, plain_wrong_key)
{
	wrong_key(false);
}

Test(transport, either_of_two_keys_and_any)
{
	struct stele_secret_key ck = key(1), sk = key(2);
	struct stele_public_key two[2] = {key(3).pub, key(2).pub};
	for (uint32_t n = 0; n <= 2; n += 2) {
		struct pair *p = calloc(1, sizeof(*p));
		p->flip_at = UINT64_MAX;
		p->client.factory = make_factory(true, &ck);
		p->server.factory = make_factory(true, &sk);
		cr_assert_eq(
		    p->client.factory->create(p->client.factory, false, two, n, &p->client.t),
		    STELE_OK);
		cr_assert_eq(
		    p->server.factory->create(p->server.factory, true, NULL, 0, &p->server.t),
		    STELE_OK);
		exchange(p);
		cr_assert(p->client.t->ops->ready(p->client.t));
		free_pair(p);
	}
}

/* One bit, anywhere in what the client sends: the server stops there. */
Test(transport, flipped_bits_are_found)
{
	static const char secret[] = "sixteen and some bytes of plaintext";
	struct pair *clean = make_pair(true, 2);
	size_t took;
	exchange(clean);
	uint64_t handshake = clean->client.wire;
	free_pair(clean);
	for (uint64_t at = 0; at < handshake + 200; at += at < handshake ? 7 : 1) {
		struct pair *p = make_pair(true, 2);
		p->flip_at = at;
		exchange(p);
		if (p->client.t->ops->ready(p->client.t) && p->client.err == STELE_OK)
			for (int i = 0; i < 4; i++) {
				(void)p->client.t->ops->send(p->client.t, secret, sizeof(secret),
				                             &took);
				exchange(p);
			}
		size_t whole =
		    at < handshake ? 0 : (at - handshake) / (sizeof(secret) + 22) * sizeof(secret);
		/* some bits of the first hello's record header are not protected: then all is as it should
		 * be */
		if (p->server.err == STELE_OK)
			cr_assert(p->server.got_len % sizeof(secret) == 0);
		else
			cr_assert_leq(p->server.got_len, whole, "byte %u", (unsigned)at);
		/* a record made longer may still wait for its end; nothing of it, or behind it, is given out */
		if (at >= handshake && p->client.wire > at)
			cr_assert_leq(p->server.got_len, whole, "byte %u", (unsigned)at);
		for (size_t i = 0; i < p->server.got_len; i++)
			cr_assert_eq(p->server.got[i], (uint8_t)secret[i % sizeof(secret)]);
		free_pair(p);
	}
}

Test(transport, garbage_is_refused)
{
	for (int round = 0; round < 300; round++) {
		struct pair *p = make_pair(true, 2);
		struct end *e = round % 2 ? &p->client : &p->server;
		size_t len = 1 + rnd(2000);
		for (size_t i = 0; i < len; i++)
			e->fed[i] = (uint8_t)rnd(256);
		if (round % 3 == 0)
			memcpy(e->fed, "\x16\x03\x03\x01\x00", 5); /* a handshake record */
		e->err = e->t->ops->feed(e->t, e->fed, len);
		cr_assert(e->err == STELE_OK || e->err == STELE_ERR_PROTOCOL ||
		          e->err == STELE_ERR_DENIED);
		cr_assert(!e->t->ops->ready(e->t));
		free_pair(p);
	}
}

/* Ciphertext bytes of 1 MiB sent in whole records, with the keys changed after every `rekey` bytes. */
static uint64_t cost(uint64_t rekey)
{
	struct pair *p = make_pair(true, 2);
	struct stele_public_key expect = key(2).pub;
	static uint8_t record[16384];
	size_t took;
	p->client.t->ops->destroy(p->client.t);
	stele_tls_factory_set_rekey(p->client.factory, rekey);
	cr_assert_eq(p->client.factory->create(p->client.factory, false, &expect, 1, &p->client.t),
	             STELE_OK);
	exchange(p);
	uint64_t before = p->client.wire;
	for (int i = 0; i < 64; i++) {
		memset(record, i, sizeof(record));
		cr_assert_eq(p->client.t->ops->send(p->client.t, record, sizeof(record), &took),
		             STELE_OK);
		cr_assert_eq(took, sizeof(record));
		exchange(p);
		cr_assert_eq(p->server.got_len, (size_t)(i + 1) * sizeof(record), "%s",
		             p->server.detail);
		cr_assert_eq(p->server.got[p->server.got_len - 1], i);
	}
	uint64_t wire = p->client.wire - before;
	transfer(p, &p->server, &p->client, 100000); /* the other direction has keys of its own */
	free_pair(p);
	return wire;
}

Test(transport, keys_change_under_way)
{
	uint64_t plain = cost(0), rekeyed = cost(4 * 16384);
	cr_assert_eq(plain, 64u * (16384 + 22));
	cr_assert_eq(rekeyed - plain,
	             15u * (5 + 5 + 17)); /* a KeyUpdate record before the 5th, 9th... */
}

/* ---- a client made of OpenSSL alone, as another implementation would be ---- */

struct foreign {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
};

static X509 *certificate(EVP_PKEY *k)
{
	X509 *cert = X509_new();
	X509_set_version(cert, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(cert), -100000); /* long over, and nobody minds */
	X509_gmtime_adj(X509_getm_notAfter(cert), -1000);
	X509_set_pubkey(cert, k);
	cr_assert_gt(
	    X509_sign(cert, k, EVP_PKEY_get_id(k) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()), 0);
	return cert;
}

static struct foreign make_foreign(const char *key_type, int version)
{
	struct foreign f = {.ctx = SSL_CTX_new(TLS_client_method())};
	SSL_CTX_set_max_proto_version(f.ctx, version);
	if (key_type) {
		EVP_PKEY *k = strcmp(key_type, "EC") == 0
		                  ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
		                  : EVP_PKEY_Q_keygen(NULL, NULL, key_type);
		X509 *cert = certificate(k);
		cr_assert_eq(SSL_CTX_use_certificate(f.ctx, cert), 1);
		cr_assert_eq(SSL_CTX_use_PrivateKey(f.ctx, k), 1);
		X509_free(cert);
		EVP_PKEY_free(k);
	}
	f.ssl = SSL_new(f.ctx);
	f.in = BIO_new(BIO_s_mem());
	f.out = BIO_new(BIO_s_mem());
	SSL_set_bio(f.ssl, f.in, f.out);
	SSL_set_connect_state(f.ssl);
	return f;
}

static void free_foreign(struct foreign *f)
{
	SSL_free(f->ssl);
	SSL_CTX_free(f->ctx);
}

/* Moves bytes between a foreign client and our server end until nothing moves. */
static void foreign_exchange(struct foreign *f, struct end *e)
{
	bool moved = true;
	while (moved) {
		char buf[4096];
		size_t len;
		moved = false;
		(void)SSL_do_handshake(f->ssl);
		int n = BIO_read(f->out, buf, sizeof(buf));
		if (n > 0 && e->err == STELE_OK) {
			moved = true;
			memcpy(e->fed, buf, (size_t)n);
			e->err = e->t->ops->feed(e->t, e->fed, (size_t)n);
			if (e->err == STELE_OK)
				read_all(e);
		}
		const void *bytes = e->t->ops->drain(e->t, &len);
		if (len) {
			moved = true;
			BIO_write(f->in, bytes, (int)len);
			e->t->ops->drained(e->t, len);
		}
	}
}

static struct end *make_server_end(void)
{
	struct stele_secret_key sk = key(2);
	struct end *e = calloc(1, sizeof(*e));
	e->factory = make_factory(true, &sk);
	cr_assert_eq(e->factory->create(e->factory, true, NULL, 0, &e->t), STELE_OK);
	return e;
}

static void free_end(struct end *e)
{
	e->t->ops->destroy(e->t);
	stele_transport_factory_destroy(e->factory);
	free(e->got);
	free(e);
}

Test(transport, another_implementation_is_understood)
{
	struct foreign f = make_foreign("ED25519", TLS1_3_VERSION);
	struct end *e = make_server_end();
	size_t wrote;
	char back[16];
	foreign_exchange(&f, e);
	cr_assert(e->t->ops->ready(e->t), "%s", stele_detail());
	cr_assert_eq(SSL_version(f.ssl), TLS1_3_VERSION);
	cr_assert_eq(SSL_write_ex(f.ssl, "hello", 5, &wrote), 1);
	foreign_exchange(&f, e);
	cr_assert_eq(e->got_len, 5);
	cr_assert_eq(memcmp(e->got, "hello", 5), 0);
	cr_assert_eq(e->t->ops->send(e->t, "answer", 6, &wrote), STELE_OK);
	foreign_exchange(&f, e);
	cr_assert_eq(SSL_read(f.ssl, back, sizeof(back)), 6);
	cr_assert_eq(SSL_SESSION_is_resumable(SSL_get_session(f.ssl)), 0, "no ticket was issued");
	SSL_shutdown(f.ssl);
	foreign_exchange(&f, e);
	cr_assert_eq(e->err, STELE_ERR_CLOSED);
	free_foreign(&f);
	free_end(e);
}

static void refused(const char *key_type, int version)
{
	struct foreign f = make_foreign(key_type, version);
	struct end *e = make_server_end();
	foreign_exchange(&f, e);
	cr_assert_neq(e->err, STELE_OK);
	cr_assert(!e->t->ops->ready(e->t));
	free_foreign(&f);
	free_end(e);
}

Test(transport, strangers_are_refused)
{
	refused("ED25519", TLS1_2_VERSION);
	refused("EC", TLS1_3_VERSION);
	refused(NULL, TLS1_3_VERSION);
}

Test(transport, a_key_that_is_not_the_seeds_is_refused)
{
	struct stele_transport_factory *f;
	struct stele_secret_key k = key(1);
	k.pub.b[0] ^= 1;
	cr_assert_eq(stele_tls_factory_create(&k, &f), STELE_ERR_INVALID);
}

Test(transport, many_factories)
{
	struct stele_secret_key k = key(1);
	for (int i = 0; i < 300; i++)
		stele_transport_factory_destroy(make_factory(true, &k));
}
