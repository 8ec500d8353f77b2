/*
 * TLS 1.3 (RFC 8446) by OpenSSL, on a BIO of our own that reads straight from the bytes last
 * received and writes into the send buffer: OpenSSL's own copy of each record is the only one. Does
 * no I/O and trusts no name, date or chain: a certificate is the envelope of an Ed25519 key (RFC
 * 8410), and the key is what counts (M7).
 *
 * Sessions are never resumed, tickets never issued, early data never taken: each would let a
 * connection outlive the revocation of its key.
 */
#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "net/wire/outbuf.h"
#include "net/wire/transport.h"

#define RECORD_MAX    16384u               /* plaintext of a record */
#define RECORD_EXTRA  (5u + 1u + 16u)      /* header, type, tag */
#define SEND_RECORDS  16u                  /* 256 KiB of plaintext a send */
#define RESERVE       4096u                /* for handshakes, alerts, key updates */
#define REKEY_DEFAULT ((uint64_t)64 << 30) /* bytes under one key */
#define CERT_LIST_MAX 8192                 /* bytes of certificates from a peer */
#define OUT_CAP       (stele_round_up(SEND_RECORDS * (RECORD_MAX + RECORD_EXTRA) + RESERVE, STELE_PAGE))

struct tls_factory {
	struct stele_transport_factory base;
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	uint64_t rekey;
};

struct tls {
	struct stele_transport base;
	SSL *ssl;
	const uint8_t *in; /* fed, not yet read by OpenSSL */
	size_t in_len;
	struct stele_outbuf out;
	uint64_t rekey;
	uint64_t since_rekey;
	struct stele_public_key expect[STELE_EXPECT_MAX];
	uint32_t nexpect;
	struct stele_public_key peer;
	bool ready;
	char denied[64]; /* why the peer's key was refused */
};

static struct tls *tls_of(struct stele_transport *t)
{
	return (struct tls *)t;
}

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *into, size_t cap, size_t *got)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	*got = t->in_len < cap ? t->in_len : cap;
	if (*got == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	memcpy(into, t->in, *got);
	t->in += *got;
	t->in_len -= *got;
	return 1;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *took)
{
	struct tls *t = BIO_get_data(bio);
	size_t room = stele_outbuf_room(&t->out);
	BIO_clear_retry_flags(bio);
	*took = len < room ? len : room;
	if (*took == 0) {
		BIO_set_retry_write(bio);
		return 0;
	}
	stele_outbuf_add(&t->out, bytes, *took);
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return cmd == BIO_CTRL_FLUSH; /* what was written is in the send buffer */
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* ---- the peer's key ---- */

static bool key_of(X509 *cert, struct stele_public_key *out)
{
	EVP_PKEY *key = cert ? X509_get0_pubkey(cert) : NULL;
	size_t len = sizeof(out->b);
	return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 &&
	       EVP_PKEY_get_raw_public_key(key, out->b, &len) == 1 && len == sizeof(out->b);
}

static bool expected(const struct tls *t)
{
	for (uint32_t i = 0; i < t->nexpect; i++)
		if (stele_public_key_equal(&t->expect[i], &t->peer))
			return true;
	return t->nexpect == 0;
}

/* Stands in for the whole of OpenSSL's chain verification. That the peer holds the secret half is
 * proven by its CertificateVerify message, later in the handshake. */
static int judge_peer(X509_STORE_CTX *store, void *arg)
{
	(void)arg;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);
	char shown[9], wanted[9];
	if (!key_of(X509_STORE_CTX_get0_cert(store), &t->peer)) {
		snprintf(t->denied, sizeof(t->denied), "shows a certificate that is not Ed25519");
	} else if (!expected(t)) {
		snprintf(t->denied, sizeof(t->denied), "shows key %s, expected %s",
		         stele_hex(t->peer.b, 4, shown), stele_hex(t->expect[0].b, 4, wanted));
	} else {
		return 1;
	}
	X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

/* ---- the transport ---- */

/* Why an SSL_* call did not succeed: OK when it only waits for more bytes. */
static enum stele_err judge_failure(struct tls *t, int ret)
{
	switch (SSL_get_error(t->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return STELE_OK;
	case SSL_ERROR_ZERO_RETURN:
		return stele_fail(STELE_ERR_CLOSED, "TLS: closed by the peer");
	case SSL_ERROR_WANT_WRITE:
		return stele_fail(STELE_ERR_PROTOCOL, "TLS: the peer asks and does not read");
	default:
		break;
	}
	const char *why = ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	if (t->denied[0])
		return stele_fail(STELE_ERR_DENIED, "%s", t->denied);
	return stele_fail(STELE_ERR_PROTOCOL, "TLS: %s", why ? why : "failed");
}

static enum stele_err shake_hands(struct tls *t)
{
	ERR_clear_error();
	int ret = SSL_do_handshake(t->ssl);
	if (ret != 1)
		return judge_failure(t, ret);
	assert(SSL_version(t->ssl) == TLS1_3_VERSION);
	t->ready = true;
	return STELE_OK;
}

static enum stele_err feed(struct stele_transport *base, const void *bytes, size_t len)
{
	struct tls *t = tls_of(base);
	assert(t->in_len == 0);
	t->in = bytes;
	t->in_len = len;
	return t->ready ? STELE_OK : shake_hands(t);
}

static const void *drain(struct stele_transport *base, size_t *len)
{
	return stele_outbuf_drain(&tls_of(base)->out, len);
}

static void drained(struct stele_transport *base, size_t len)
{
	stele_outbuf_drained(&tls_of(base)->out, len);
}

static enum stele_err receive(struct stele_transport *base, void *into, size_t cap, size_t *got)
{
	struct tls *t = tls_of(base);
	*got = 0;
	if (!t->ready) {
		assert(t->in_len == 0); /* the handshake read it all */
		return STELE_OK;
	}
	ERR_clear_error();
	int ret = SSL_read_ex(t->ssl, into, cap, got);
	return ret == 1 ? STELE_OK : judge_failure(t, ret);
}

/* Writes one record; there is room for it. */
static enum stele_err write_record(struct tls *t, const uint8_t *bytes, size_t len)
{
	size_t took;
	ERR_clear_error();
	if (t->since_rekey >= t->rekey) {
		if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
			return stele_fail(STELE_ERR_PROTOCOL, "TLS: the keys cannot be updated");
		t->since_rekey = 0;
	}
	int ret = SSL_write_ex(t->ssl, bytes, len, &took);
	if (ret != 1) {
		enum stele_err err = judge_failure(t, ret);
		return err != STELE_OK ? err : stele_fail(STELE_ERR_PROTOCOL, "TLS: not writable");
	}
	assert(took == len);
	t->since_rekey += len;
	return STELE_OK;
}

static enum stele_err transmit(struct stele_transport *base, const void *bytes, size_t len,
                               size_t *took)
{
	struct tls *t = tls_of(base);
	*took = 0;
	if (!t->ready)
		return STELE_OK;
	while (*took < len) {
		size_t n = len - *took < RECORD_MAX ? len - *took : RECORD_MAX;
		if (stele_outbuf_room(&t->out) < n + RECORD_EXTRA + RESERVE / 2)
			break;
		STELE_TRY(write_record(t, (const uint8_t *)bytes + *took, n));
		*took += n;
	}
	return STELE_OK;
}

static bool ready(const struct stele_transport *base)
{
	return ((const struct tls *)base)->ready;
}

static const struct stele_public_key *peer_key(const struct stele_transport *base)
{
	assert(ready(base));
	return &((const struct tls *)base)->peer;
}

static void destroy(struct stele_transport *base)
{
	struct tls *t = tls_of(base);
	SSL_free(t->ssl);
	stele_outbuf_finish(&t->out);
	free(t);
}

static const struct stele_transport_ops tls_ops = {
    .feed = feed,
    .drain = drain,
    .drained = drained,
    .recv = receive,
    .send = transmit,
    .ready = ready,
    .peer_key = peer_key,
    .destroy = destroy,
};

static enum stele_err create(struct stele_transport_factory *f, bool server,
                             const struct stele_public_key *expect, uint32_t nexpect,
                             struct stele_transport **out)
{
	struct tls_factory *factory = (struct tls_factory *)f;
	assert(nexpect <= STELE_EXPECT_MAX && (!server || nexpect == 0));
	struct tls *t = calloc(1, sizeof(*t));
	if (!t)
		return stele_fail(STELE_ERR_NOMEM, "connection: out of memory");
	t->base.ops = &tls_ops;
	t->rekey = factory->rekey;
	t->nexpect = nexpect;
	for (uint32_t i = 0; i < nexpect; i++)
		t->expect[i] = expect[i];
	enum stele_err err = stele_outbuf_init(&t->out, OUT_CAP);
	if (err != STELE_OK)
		goto err_alloc;
	BIO *bio = BIO_new(factory->bio);
	t->ssl = SSL_new(factory->ctx);
	if (!bio || !t->ssl) {
		BIO_free(bio);
		err = stele_fail(STELE_ERR_NOMEM, "TLS: out of memory");
		goto err_ssl;
	}
	BIO_set_data(bio, t);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, t);
	if (server) {
		SSL_set_accept_state(t->ssl);
	} else {
		SSL_set_connect_state(t->ssl);
		err = shake_hands(t); /* the first flight is ready to be drained */
		if (err != STELE_OK)
			goto err_ssl;
	}
	*out = &t->base;
	return STELE_OK;
err_ssl:
	SSL_free(t->ssl);
err_alloc:
	stele_outbuf_finish(&t->out);
	free(t);
	return err;
}

/* ---- the factory: this side's identity ---- */

/* A certificate that says nothing but the key. */
static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	if (!cert)
		return NULL;
	X509_NAME *name = X509_get_subject_name(cert);
	if (X509_set_version(cert, X509_VERSION_3) == 1 &&
	    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1 &&
	    ASN1_TIME_set_string(X509_getm_notBefore(cert), "19700101000000Z") == 1 &&
	    ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") == 1 &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"stele", -1,
	                               -1, 0) == 1 &&
	    X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
	    X509_sign(cert, key, NULL) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static bool use_identity(SSL_CTX *ctx, const struct stele_secret_key *secret)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret->seed,
	                                             sizeof(secret->seed));
	X509 *cert = key ? make_certificate(key) : NULL;
	struct stele_public_key pub;
	bool ok = cert && key_of(cert, &pub) && stele_public_key_equal(&pub, &secret->pub) &&
	          SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1;
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

/* AES where the CPU has instructions for it; 128 bits are what X25519 and Ed25519 offer too. */
static const char *cipher_order(void)
{
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("aes"))
		return "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
#endif
	return "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
}

static bool set_rules(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
	                             SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(ctx, CERT_LIST_MAX);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, judge_peer, NULL);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1 &&
	       SSL_CTX_set_recv_max_early_data(ctx, 0) == 1 &&
	       SSL_CTX_set_ciphersuites(ctx, cipher_order()) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, "X25519") == 1 &&
	       SSL_CTX_set1_sigalgs_list(ctx, "ed25519") == 1 &&
	       SSL_CTX_set1_client_sigalgs_list(ctx, "ed25519") == 1;
}

static BIO_METHOD *make_bio(void)
{
	/* No index of its own: those are few in a process, and nobody looks for this one by type. */
	BIO_METHOD *bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stele");
	if (bio && BIO_meth_set_read_ex(bio, bio_read) == 1 &&
	    BIO_meth_set_write_ex(bio, bio_write) == 1 && BIO_meth_set_ctrl(bio, bio_ctrl) == 1 &&
	    BIO_meth_set_create(bio, bio_create) == 1)
		return bio;
	BIO_meth_free(bio);
	return NULL;
}

static void factory_destroy(struct stele_transport_factory *f)
{
	struct tls_factory *factory = (struct tls_factory *)f;
	SSL_CTX_free(factory->ctx);
	BIO_meth_free(factory->bio);
	free(factory);
}

enum stele_err stele_tls_factory_create(const struct stele_secret_key *key,
                                        struct stele_transport_factory **out)
{
	struct tls_factory *factory = calloc(1, sizeof(*factory));
	if (!factory)
		return stele_fail(STELE_ERR_NOMEM, "TLS: out of memory");
	factory->base.create = create;
	factory->base.destroy = factory_destroy;
	factory->rekey = REKEY_DEFAULT;
	factory->bio = make_bio();
	factory->ctx = SSL_CTX_new(TLS_method());
	if (factory->bio && factory->ctx && set_rules(factory->ctx) &&
	    use_identity(factory->ctx, key)) {
		*out = &factory->base;
		return STELE_OK;
	}
	const char *why = ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	factory_destroy(&factory->base);
	return stele_fail(STELE_ERR_INVALID, "TLS: identity cannot be used: %s",
	                  why ? why : "public key and seed do not belong together");
}

void stele_tls_factory_set_rekey(struct stele_transport_factory *f, uint64_t bytes)
{
	((struct tls_factory *)f)->rekey = bytes ? bytes : REKEY_DEFAULT;
}

void stele_transport_factory_destroy(struct stele_transport_factory *f)
{
	if (f)
		f->destroy(f);
}
