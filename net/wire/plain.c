/*
 * Plain bytes with a claimed identity: each side first sends "SPL1" and 32 bytes that it says are
 * its key. No secrecy, no proof: for tests and the simulator, in a target of its own that programs
 * do not link.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/wire/outbuf.h"
#include "net/wire/transport.h"

#define CLAIM_LEN (4u + STELE_KEY_LEN)
#define OUT_CAP   (256u << 10)

struct plain {
	struct stele_transport base;
	const uint8_t *in; /* fed, not yet taken */
	size_t in_len;
	struct stele_outbuf out;
	uint8_t claim[CLAIM_LEN];
	size_t claim_len;
	bool ready;
	struct stele_public_key expect[STELE_EXPECT_MAX];
	uint32_t nexpect;
	struct stele_public_key peer;
};

struct plain_factory {
	struct stele_transport_factory base;
	struct stele_public_key claim;
};

static struct plain *plain_of(struct stele_transport *t)
{
	return (struct plain *)t;
}

static enum stele_err judge_claim(struct plain *p)
{
	char shown[9], wanted[9];
	if (memcmp(p->claim, "SPL1", 4) != 0)
		return stele_fail(STELE_ERR_PROTOCOL, "not the plain transport");
	memcpy(p->peer.b, p->claim + 4, STELE_KEY_LEN);
	p->ready = p->nexpect == 0;
	for (uint32_t i = 0; i < p->nexpect; i++)
		p->ready |= stele_public_key_equal(&p->expect[i], &p->peer);
	if (!p->ready)
		return stele_fail(STELE_ERR_DENIED, "shows key %s, expected %s",
		                  stele_hex(p->peer.b, 4, shown),
		                  stele_hex(p->expect[0].b, 4, wanted));
	return STELE_OK;
}

static enum stele_err feed(struct stele_transport *t, const void *bytes, size_t len)
{
	struct plain *p = plain_of(t);
	assert(p->in_len == 0);
	p->in = bytes;
	p->in_len = len;
	if (p->ready)
		return STELE_OK;
	size_t n = CLAIM_LEN - p->claim_len < len ? CLAIM_LEN - p->claim_len : len;
	memcpy(p->claim + p->claim_len, bytes, n);
	p->claim_len += n;
	p->in += n;
	p->in_len -= n;
	return p->claim_len == CLAIM_LEN ? judge_claim(p) : STELE_OK;
}

static const void *drain(struct stele_transport *t, size_t *len)
{
	return stele_outbuf_drain(&plain_of(t)->out, len);
}

static void drained(struct stele_transport *t, size_t len)
{
	stele_outbuf_drained(&plain_of(t)->out, len);
}

static enum stele_err receive(struct stele_transport *t, void *into, size_t cap, size_t *got)
{
	struct plain *p = plain_of(t);
	*got = p->in_len < cap ? p->in_len : cap;
	if (*got)
		memcpy(into, p->in, *got);
	p->in += *got;
	p->in_len -= *got;
	return STELE_OK;
}

static enum stele_err transmit(struct stele_transport *t, const void *bytes, size_t len,
                               size_t *took)
{
	struct plain *p = plain_of(t);
	size_t room = stele_outbuf_room(&p->out);
	*took = len < room ? len : room;
	stele_outbuf_add(&p->out, bytes, *took);
	return STELE_OK;
}

static bool ready(const struct stele_transport *t)
{
	return ((const struct plain *)t)->ready;
}

static const struct stele_public_key *peer_key(const struct stele_transport *t)
{
	assert(ready(t));
	return &((const struct plain *)t)->peer;
}

static void destroy(struct stele_transport *t)
{
	struct plain *p = plain_of(t);
	stele_outbuf_finish(&p->out);
	free(p);
}

static const struct stele_transport_ops plain_ops = {
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
	const struct plain_factory *factory = (const struct plain_factory *)f;
	assert(nexpect <= STELE_EXPECT_MAX && (!server || nexpect == 0));
	struct plain *p = calloc(1, sizeof(*p));
	if (!p)
		return stele_fail(STELE_ERR_NOMEM, "connection: out of memory");
	enum stele_err err = stele_outbuf_init(&p->out, OUT_CAP);
	if (err != STELE_OK) {
		free(p);
		return err;
	}
	p->base.ops = &plain_ops;
	p->nexpect = nexpect;
	for (uint32_t i = 0; i < nexpect; i++)
		p->expect[i] = expect[i];
	stele_outbuf_add(&p->out, "SPL1", 4);
	stele_outbuf_add(&p->out, factory->claim.b, STELE_KEY_LEN);
	*out = &p->base;
	return STELE_OK;
}

static void factory_destroy(struct stele_transport_factory *f)
{
	free(f);
}

enum stele_err stele_plain_factory_create(const struct stele_public_key *claim,
                                          struct stele_transport_factory **out)
{
	struct plain_factory *factory = calloc(1, sizeof(*factory));
	if (!factory)
		return stele_fail(STELE_ERR_NOMEM, "plain transport: out of memory");
	factory->base.create = create;
	factory->base.destroy = factory_destroy;
	factory->claim = *claim;
	*out = &factory->base;
	return STELE_OK;
}
