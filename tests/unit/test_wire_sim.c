/*
 * Goal: in a simulated network that resets, stalls and parts machines, with a server that is killed and
 * restarted and a client that cancels, every call ends once and truthfully: OK means done and the reply is
 * right; UNAVAILABLE and DENIED mean that no handler saw it; no handler ever sees a call twice. When
 * the faults stop, calls succeed again soon. The same seed gives the same events.
 */
#include <criterion/criterion.h>

#include "tests/unit/wire_raw.h"

#define CALLS 60
#if defined(__SANITIZE_THREAD__) /* one thread: it has nothing to say here */
#define SEEDS 1
#elif defined(__SANITIZE_ADDRESS__)
#define SEEDS 6
#else
#define SEEDS 12 /* 300 with STELE_TEST_FULL=1 */
#endif

static uint8_t seen[100000]; /* by the call's number: how often a handler saw it */
static uint32_t next_id;
static struct stele_hash same; /* of the seed that ran twice */

struct soak {
	struct rig rig;
	struct rig_call *call[CALLS];
	uint32_t id[CALLS];
	bool cancelled[CALLS];
	uint64_t state;
	unsigned ok, ended;
};

static uint32_t rnd(struct soak *s, uint32_t below)
{
	s->state = s->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(s->state >> 33) % below;
}

static void soak_echo(struct stele_request *req)
{
	cr_assert_geq(req->head_len, 4);
	uint32_t id = stele_le32(req->head);
	cr_assert_lt(id, next_id);
	seen[id]++;
	rig_echo(req);
}

static struct stele_op_rule soak_rules[] = {
    {STELE_OPCODE_HELLO, STELE_ROLE_ANY, 64, 0, rig_hello},
    {OP_PING, STELE_ROLE_ANY, 0, 0, rig_ping},
    {OP_ECHO, STELE_ROLE_WRITER, 64, STELE_SHARD_LEN_MAX, soak_echo},
    {OP_ADMIN, STELE_ROLE_ADMIN, 64, 1000, soak_echo},
    {0},
};

static void check_ended(struct soak *s, unsigned i)
{
	struct rig_call *c = s->call[i];
	unsigned n = seen[s->id[i]];
	cr_assert_leq(n, 1, "call %u was done twice", s->id[i]);
	switch (c->call.err) {
	case STELE_OK:
		cr_assert_eq(n, 1);
		cr_assert_eq(c->call.reply_body_len, c->out_len);
		cr_assert_eq(memcmp(c->in, c->out, c->out_len), 0);
		cr_assert_eq(stele_le32(c->reply_head), s->id[i]);
		s->ok++;
		break;
	case STELE_ERR_UNAVAILABLE:
	case STELE_ERR_DENIED:
	case STELE_ERR_BUSY:
		cr_assert_eq(n, 0, "%s, and yet it was done", c->call.detail);
		break;
	case STELE_ERR_CANCELLED:
		cr_assert(s->cancelled[i]);
		break;
	default:
		cr_assert(c->call.err == STELE_ERR_CLOSED || c->call.err == STELE_ERR_TIMEOUT,
		          "%s: %s", stele_err_name(c->call.err), c->call.detail);
	}
	s->ended++;
	rig_call_free(c);
	s->call[i] = NULL;
}

static void start_call(struct soak *s, struct stele_peer *p, unsigned i)
{
	uint32_t len = rnd(s, 6) ? rnd(s, 30000) : rnd(s, 4u << 20);
	struct rig_call *c = rig_call(rnd(s, 12) ? OP_ECHO : OP_ADMIN, len, len);
	if (c->call.op == OP_ADMIN)
		c->call.nbody = 0;
	s->call[i] = c;
	s->id[i] = next_id++;
	s->cancelled[i] = false;
	cr_assert_lt(next_id, sizeof(seen));
	stele_put_le32(c->head, s->id[i]);
	c->call.head_len = 4;
	c->call.timeout_ns = (1 + rnd(s, 4000)) * MS;
	rig_start(p, c);
}

static void listen_again(struct soak *s)
{
	struct rig *r = &s->rig;
	struct stele_server_opts opts = {.env = r->env,
	                                 .bufs = r->bufs,
	                                 .transport = r->sf,
	                                 .listen = "node:7000",
	                                 .rule = soak_rules,
	                                 .identify = rig_identify,
	                                 .epoch = rig_epoch,
	                                 .ctx = r};
	cr_assert_eq(stele_server_create(&opts, &r->server), STELE_OK, "%s", stele_detail());
	snprintf(r->addr, sizeof(r->addr), "%s", stele_server_addr(r->server));
}

/* SIGKILL and another process; what is left of the old one is taken down as ever. */
static void restart_server(struct soak *s)
{
	struct rig *r = &s->rig;
	stele_sim_kill(r->sim, "node");
	rig_close_server(r);
	rig_server_gone(r);
	stele_env_destroy(r->env);
	cr_assert_eq(stele_sim_env(r->sim, "node", &r->env), STELE_OK);
	(void)rig_run(r, NULL, rnd(s, 500));
	listen_again(s);
}

static void set_faults(struct soak *s, bool on)
{
	struct stele_sim_faults f = {.net_ns = 300000};
	if (on) {
		f.net_drop = rnd(s, 3) ? rnd(s, 3000) : 0;
		f.connect_fail = rnd(s, 200000);
		f.stall = rnd(s, 3) ? 0 : rnd(s, 2000);
		f.net_ns = 50000 + rnd(s, 2000000);
	}
	stele_sim_set_faults(s->rig.sim, NULL, &f);
}

static void collect_ended(struct soak *s)
{
	for (unsigned i = 0; i < CALLS; i++)
		if (s->call[i] && s->call[i]->done)
			check_ended(s, i);
}

static void disturb(struct soak *s, struct stele_peer *p[2])
{
	static const char *const machines[] = {"client", "node"};
	unsigned i = rnd(s, CALLS), way = rnd(s, 2);
	switch (rnd(s, 40)) {
	case 0:
		restart_server(s);
		break;
	case 1:
		set_faults(s, true);
		break;
	case 2:
		stele_sim_cut(s->rig.sim, machines[way], machines[!way], true);
		(void)rig_run(&s->rig, NULL, rnd(s, 3000));
		stele_sim_cut(s->rig.sim, NULL, NULL, false);
		break;
	case 3:
		rig_peer_end(&s->rig, p[way]);
		for (unsigned k = 0; k < CALLS;
		     k++) /* its calls are cancelled, or had ended before */
			if (s->call[k] && k % 2 == way)
				s->cancelled[k] = true;
		collect_ended(s);
		p[way] = rig_peer(&s->rig);
		break;
	case 4:
	case 5:
	case 6:
		if (s->call[i] && !s->call[i]->done) {
			s->cancelled[i] = true;
			rig_cancel(p[i % 2], s->call[i]);
		}
		break;
	default:
		(void)rig_run(&s->rig, NULL, rnd(s, 20));
	}
}

static struct soak *now;

static bool none_left(struct rig *r)
{
	(void)r;
	for (unsigned i = 0; i < CALLS; i++)
		if (now->call[i] && !now->call[i]->done)
			return false;
	return true;
}

/* One world from a seed; returns how many calls succeeded. */
static unsigned soak(uint64_t seed, struct stele_hash *log)
{
	struct soak *s = calloc(1, sizeof(*s));
	struct rig *r = &s->rig;
	struct stele_peer *p[2];
	now = s;
	s->state = seed;
	memset(seen, 0, sizeof(seen));
	next_id = 0;
	cr_assert_eq(stele_sim_create(seed, &r->sim), STELE_OK);
	cr_assert_eq(stele_sim_env(r->sim, "client", &r->cenv), STELE_OK);
	cr_assert_eq(stele_sim_env(r->sim, "node", &r->env), STELE_OK);
	rig_up(r, false, 12);
	rig_close_server(r);
	rig_server_gone(r);
	listen_again(s);
	set_faults(s, true);
	p[0] = rig_peer(r);
	p[1] = rig_peer(r);
	for (unsigned step = 0; step < 700; step++) {
		unsigned i = rnd(s, CALLS);
		if (rnd(s, 3) == 0)
			disturb(s, p);
		else if (!s->call[i])
			start_call(s, p[i % 2], i);
		collect_ended(s);
	}
	/* faults stop: what is under way ends, and within two seconds everything works again */
	set_faults(s, false);
	cr_assert(rig_run(r, none_left, 40000), "calls do not end");
	collect_ended(s);
	(void)rig_run(r, NULL, 2000);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(rig_do_op(r, p[i], OP_PING), STELE_OK, "seed %u: %s", (unsigned)seed,
		             stele_detail());
	unsigned ok = s->ok;
	rig_peer_end(r, p[0]);
	rig_peer_end(r, p[1]);
	rig_down(r);
	stele_sim_log_hash(r->sim, log);
	stele_env_destroy(r->env);
	stele_env_destroy(r->cenv);
	stele_sim_destroy(r->sim);
	free(s);
	return ok;
}

Test(wire_sim, calls_end_truthfully)
{
	const char *full = getenv("STELE_TEST_FULL");
	unsigned ok = 0, seeds = full && full[0] == '1' ? 300 : SEEDS;
	struct stele_hash log;
	for (uint64_t seed = 1; seed <= seeds; seed++)
		ok += soak(seed, &log);
	cr_assert_gt(ok, seeds * 20, "the faults leave something to test: %u", ok);
}

/* The quiet rig on a simulated network of two machines. */
static void open_quiet(struct rig *r)
{
	cr_assert_eq(stele_sim_create(3, &r->sim), STELE_OK);
	cr_assert_eq(stele_sim_env(r->sim, "client", &r->cenv), STELE_OK);
	cr_assert_eq(stele_sim_env(r->sim, "node", &r->env), STELE_OK);
	rig_up(r, false, 12);
}

static void close_quiet(struct rig *r, struct stele_peer *p)
{
	rig_peer_end(r, p);
	rig_down(r);
	stele_env_destroy(r->env);
	stele_env_destroy(r->cenv);
	stele_sim_destroy(r->sim);
}

/* Both sides notice, each by its own means, that the other is not there any more. */
Test(wire_sim, a_half_open_connection_is_given_up)
{
	struct rig r = {0};
	open_quiet(&r);
	struct stele_peer *p = rig_peer(&r);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	(void)rig_run(&r, NULL, 10000);
	stele_sim_cut(r.sim, NULL, NULL, true);
	struct rig_call *c = rig_call(OP_PING, 0, 0), *other = rig_call(OP_PING, 0, 0);
	c->call.timeout_ns = 1000 * MS;
	rig_start(p, other);
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_TIMEOUT);
	rig_wait(&r, &other, 1); /* of 30 s: not left waiting on a dead connection */
	cr_assert_eq(other->call.err, STELE_ERR_CLOSED, "%s", other->call.detail);
	rig_call_free(c);
	rig_call_free(other);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_UNAVAILABLE, "no answer to connecting");
	stele_sim_cut(r.sim, NULL, NULL, false);
	(void)rig_run(&r, NULL, 300);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK, "%s", stele_detail());
	close_quiet(&r, p);
}

Test(wire_sim, idle_connections_end)
{
	struct rig r = {.conns_max = 1};
	open_quiet(&r);
	struct stele_peer *p = rig_peer(&r), *q = rig_peer(&r);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	struct rig_call *c = rig_call(OP_HOLD, 0, 100);
	c->call.timeout_ns = 3600000 * MS;
	rig_start(p, c);
	(void)rig_run(&r, NULL, 1800000); /* half an hour with a request under way: it stays */
	rig_answer_held(&r);
	rig_wait(&r, &c, 1);
	cr_assert_eq(c->call.err, STELE_OK, "%s", c->call.detail);
	rig_call_free(c);
	cr_assert_eq(rig_do_op(&r, q, OP_PING), STELE_ERR_UNAVAILABLE, "the one place is taken");
	(void)rig_run(&r, NULL, 900000);
	cr_assert_eq(rig_do_op(&r, q, OP_PING), STELE_OK, "%s", stele_detail());
	rig_peer_end(&r, q);
	close_quiet(&r, p);
}

/* Half a request, or half a handshake, and then nothing. */
Test(wire_sim, a_silent_peer_is_dropped)
{
	struct rig r = {0};
	uint8_t bytes[512] = {0};
	open_quiet(&r);
	for (int way = 0; way < 3; way++) {
		struct stele_frame f = {
		    .op = OP_ECHO, .flags = STELE_FRAME_FIRST, .req = 2, .body_left = 12u << 20};
		size_t len = way == 0 ? 0 : raw_hello(&r, bytes);
		stele_frame_encode(&f, bytes + len);
		struct raw *w = raw_open(&r, true);
		uint64_t before = stele_env_now(r.env);
		if (way)
			cr_assert_gt(
			    raw_send(w, bytes, way == 1 ? len - 1 : len + STELE_FRAME_LEN + 9), 0);
		cr_assert(raw_ends(w, 60000));
		uint64_t took = (stele_env_now(r.env) - before) / MS;
		cr_assert(way < 2 ? took >= 4900 && took < 7000 : took >= 29900 && took < 32000,
		          "way %d: %u ms", way, (unsigned)took);
		raw_close(w);
		cr_assert_eq(stele_buf_pool_free(r.bufs), 12, "its buffers are back");
	}
	struct stele_peer *p = rig_peer(&r);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	close_quiet(&r, p);
}

Test(wire_sim, the_same_seed_gives_the_same_events)
{
	struct stele_hash other;
	(void)soak(77, &same);
	(void)soak(77, &other);
	cr_assert(stele_hash_equal(&same, &other));
	(void)soak(78, &other);
	cr_assert(!stele_hash_equal(&same, &other));
}
