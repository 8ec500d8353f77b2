/*
 * Goal: wherever memory runs out in net/wire, once or from then on, nothing crashes, leaks or waits for
 * ever: every call ends once, every `sent` comes once, every buffer is back, and when there is
 * memory again calls succeed. The wire's sources are built into this test with allocators that fail
 * when told to; the simulated world's are left alone.
 */
#undef malloc
#undef calloc
#undef aligned_alloc
#include "tests/unit/wire_rig.h"

static long countdown = -1; /* allocations until one fails; -1: none will */
static bool sticky;
static bool hit;

static bool fails(void)
{
	if (countdown < 0)
		return false;
	if (countdown > 0) {
		countdown--;
		return false;
	}
	hit = true;
	if (!sticky)
		countdown = -1;
	return true;
}

void *faulty_malloc(size_t len);
void *faulty_calloc(size_t n, size_t len);
void *faulty_aligned_alloc(size_t align, size_t len);

void *faulty_malloc(size_t len)
{
	return fails() ? NULL : malloc(len);
}

void *faulty_calloc(size_t n, size_t len)
{
	return fails() ? NULL : calloc(n, len);
}

void *faulty_aligned_alloc(size_t align, size_t len)
{
	return fails() ? NULL : aligned_alloc(align, len);
}

#define CALLS 8

static void start_calls(struct rig *r, struct stele_peer *p, struct rig_call *c[CALLS])
{
	for (size_t i = 0; i < CALLS; i++) {
		size_t len = i == 3 ? 3u << 20 : i * 1000;
		c[i] = rig_call(i == 5 ? OP_ADMIN : OP_ECHO, i == 5 ? 0 : len, len);
		c[i]->call.timeout_ns = 2000 * MS;
		rig_start(p, c[i]);
	}
	(void)rig_run(r, NULL,
	              2); /* one is withdrawn in the middle of a frame, one before it began */
	rig_cancel(p, c[3]);
	rig_cancel(p, c[7]);
}

/* True when the allocation that was to fail was reached. */
static bool scenario(long n, bool for_good)
{
	struct rig r = {0};
	struct rig_call *c[CALLS];
	cr_assert_eq(stele_sim_create(1, &r.sim), STELE_OK);
	cr_assert_eq(stele_sim_env(r.sim, "client", &r.cenv), STELE_OK);
	cr_assert_eq(stele_sim_env(r.sim, "node", &r.env), STELE_OK);
	rig_up(&r, false, 8);
	struct stele_peer *p = rig_peer(&r);
	countdown = n;
	sticky = for_good;
	hit = false;
	start_calls(&r, p, c);
	rig_wait(&r, c, CALLS);
	bool reached = hit;
	for (size_t i = 0; i < CALLS; i++) {
		enum stele_err err = c[i]->call.err;
		cr_assert(reached || err == (i == 3 || i == 7 ? STELE_ERR_CANCELLED
		                             : i == 5         ? STELE_ERR_DENIED
		                                              : STELE_OK),
		          "call %zu: %s: %s", i, stele_err_name(err), c[i]->call.detail);
		cr_assert(err != STELE_OK || memcmp(c[i]->in, c[i]->out, c[i]->out_len) == 0);
		rig_call_free(c[i]);
	}
	countdown = -1;
	(void)rig_run(&r, NULL, 1500); /* the server tries to accept again */
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK, "after %ld: %s", n, stele_detail());
	rig_peer_end(&r, p);
	rig_down(&r);
	stele_env_destroy(r.env);
	stele_env_destroy(r.cenv);
	stele_sim_destroy(r.sim);
	return reached;
}

Test(wire_nomem, each_allocation_fails_once)
{
	long n = 0;
	while (scenario(n, false))
		n++;
	cr_assert_gt(n, 30);
}

Test(wire_nomem, each_allocation_and_all_after_it_fail)
{
	long n = 0;
	while (scenario(n, true))
		n++;
	cr_assert_gt(n, 30);
}

Test(wire_nomem, nothing_can_be_made)
{
	struct rig r = {0};
	struct stele_peer *p;
	struct stele_server *s;
	struct stele_transport_factory *f;
	struct stele_peer_opts po = {.addr = "node:1"};
	struct stele_server_opts so = {
	    .listen = "node:1", .rule = rig_rules, .identify = rig_identify, .ctx = &r};
	sticky = true;
	countdown = 0;
	cr_assert_eq(stele_peer_create(&po, &p), STELE_ERR_NOMEM);
	cr_assert_eq(stele_server_create(&so, &s), STELE_ERR_NOMEM);
	cr_assert_eq(stele_plain_factory_create(&r.skey.pub, &f), STELE_ERR_NOMEM);
	cr_assert_eq(stele_tls_factory_create(&r.skey, &f), STELE_ERR_NOMEM);
}
