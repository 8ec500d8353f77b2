/*
 * Goal: a call ends in exactly one callback with what the handler replied, or with an error that says
 * truthfully whether it may have been done: whatever the sizes, with a hundred in flight, under
 * refusals, timeouts, cancels, a server that dies, one that comes back, and peers that send
 * anything at all. Nothing is kept for those who may not ask, and every buffer comes back.
 * On both real envs with TLS, and with plain bytes on a real and on the simulated env.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/unit/wire_raw.h"

static int worlds[] = {0, 1, 2,
#ifndef __SANITIZE_THREAD__ /* one thread: it has nothing to say there */
                       3
#endif
};

/* Each test runs on threads and on io_uring with TLS, on threads with plain bytes, and simulated. */
#define WIRE_TEST(name)                                                                            \
	ParameterizedTestParameters(wire, name)                                                    \
	{                                                                                          \
		return cr_make_param_array(int, worlds, sizeof(worlds) / sizeof(worlds[0]));       \
	}                                                                                          \
	ParameterizedTest(int *world, wire, name)

static void open_world(struct rig *r, int world, uint32_t bufs)
{
	enum stele_err err;
	if (world == 3) {
		cr_assert_eq(stele_sim_create(1, &r->sim), STELE_OK);
		cr_assert_eq(stele_sim_env(r->sim, "client", &r->cenv), STELE_OK);
		err = stele_sim_env(r->sim, "node", &r->env);
	} else {
		err = world == 1 ? stele_env_uring_create(NULL, &r->env)
		                 : stele_env_threads_create(NULL, &r->env);
	}
	if (err != STELE_OK && world == 1)
		cr_skip_test("io_uring is refused here: %s", stele_detail());
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	rig_up(r, world < 2, bufs);
}

static void close_world(struct rig *r)
{
	rig_down(r);
	if (r->cenv != r->env)
		stele_env_destroy(r->cenv);
	stele_env_destroy(r->env);
	stele_sim_destroy(r->sim);
}

static void set_head(struct rig_call *c, const void *bytes, uint32_t len)
{
	memcpy(c->head, bytes, len);
	c->call.head_len = len;
}

static void expect_echo(const struct rig_call *c)
{
	cr_assert_eq(c->call.err, STELE_OK, "%s", c->call.detail);
	cr_assert_eq(c->call.reply_body_len, c->out_len);
	cr_assert_eq(memcmp(c->in, c->out, c->out_len), 0, "%zu bytes", c->out_len);
	cr_assert_eq(c->in[c->in_cap], 0x99);
	cr_assert_eq(c->call.reply_epoch, 77);
}

WIRE_TEST(bodies_of_any_size)
{
	static const size_t sizes[] = {0,       1,       4095,    16384,           1048575,
	                               1048576, 1048577, 5000001, (16u << 20) - 1, 16u << 20};
	struct rig r = {0};
	open_world(&r, *world, 16);
	struct stele_peer *p = rig_peer(&r);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_call *c = rig_call(OP_ECHO, sizes[i], sizes[i] + i % 2);
		set_head(c, "0123456789", (uint32_t)i);
		cr_assert_eq(rig_do(&r, p, c), STELE_OK, "%s", c->call.detail);
		expect_echo(c);
		cr_assert_eq(c->call.reply_head_len, i);
		cr_assert_eq(memcmp(c->reply_head, "0123456789", i), 0);
		rig_call_free(c);
	}
	uint64_t sent, received;
	stele_peer_traffic(p, &sent, &received);
	cr_assert_gt(sent, 40000000);
	cr_assert_gt(received, 40000000);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_hundred_in_flight)
{
	struct rig r = {0};
	open_world(&r, *world, 200);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c[100];
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < 100; i++) {
			size_t len = i % 10 == 3 ? 2000000 + i : i * 700;
			c[i] = rig_call(OP_ECHO, len, len);
			rig_start(p, c[i]);
		}
		rig_wait(&r, c, 100);
		for (size_t i = 0; i < 100; i++) {
			expect_echo(c[i]);
			rig_call_free(c[i]);
		}
	}
	cr_assert_eq(r.handled, 200);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(more_calls_than_the_protocol_allows_wait)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c[700];
	for (size_t i = 0; i < 700; i++) {
		c[i] = rig_call(OP_PING, 0, 0);
		rig_start(p, c[i]);
	}
	rig_wait(&r, c, 700);
	for (size_t i = 0; i < 700; i++) {
		cr_assert_eq(c[i]->call.err, STELE_OK, "%s", c[i]->call.detail);
		rig_call_free(c[i]);
	}
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(short_calls_pass_long_ones)
{
	struct rig r = {0};
	open_world(&r, *world, 64);
	struct stele_peer *p = rig_peer(&r);
	unsigned order = 0;
	struct rig_call *c[4];
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	for (size_t i = 0; i < 4; i++) {
		c[i] = i < 3 ? rig_call(OP_ECHO, 16u << 20, 16u << 20) : rig_call(OP_PING, 0, 0);
		c[i]->order = &order;
		rig_start(p, c[i]);
	}
	rig_wait(&r, c, 4);
	cr_assert_eq(c[3]->place, 1, "the ping came back as number %u", c[3]->place);
	for (size_t i = 0; i < 4; i++)
		rig_call_free(c[i]);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(refusals)
{
	struct rig r = {0};
	open_world(&r, *world, 16);
	struct stele_peer *p = rig_peer(&r);
	/* the role is missing: nothing of the body is kept */
	struct rig_call *c = rig_call(OP_ADMIN, 1000, 0);
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_DENIED);
	cr_assert_not_null(strstr(c->call.detail, "STATUS"));
	cr_assert_not_null(strstr(c->call.detail, "alice"));
	cr_assert_eq(c->call.reply_epoch, 77, "errors carry the epoch too");
	rig_call_free(c);
	/* too large, by its body and by its head; ten frames of it are dropped */
	c = rig_call(OP_ECHO, (16u << 20) + 1, 0);
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_TOO_LARGE, "%s", c->call.detail);
	rig_call_free(c);
	c = rig_call(OP_PING, 0, 0);
	set_head(c, "x", 1);
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_TOO_LARGE);
	rig_call_free(c);
	cr_assert_eq(rig_do_op(&r, p, STELE_OPCODE_CHALLENGE), STELE_ERR_VERSION);
	cr_assert_eq(rig_do_op(&r, p, 60000), STELE_ERR_VERSION);
	cr_assert_eq(r.handled, 0, "no handler saw any of them");
	/* the handler's own errors arrive as they are */
	for (uint8_t err = 1; err <= STELE_ERR_FENCED; err++) {
		c = rig_call(OP_FAIL, 0, 0);
		set_head(c, &err, 1);
		cr_assert_eq(rig_do(&r, p, c), (enum stele_err)err);
		cr_assert_not_null(strstr(c->call.detail, "as was asked by alice"));
		cr_assert_not_null(strstr(c->call.detail, r.addr), "%s", c->call.detail);
		rig_call_free(c);
	}
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK, "the connection is as good as new");
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_reply_longer_than_asked_for)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_peer *p = rig_peer(&r);
	uint8_t len[4];
	struct rig_call *c = rig_call(OP_MAKE, 0, 2999999);
	stele_put_le32(len, 3000000);
	set_head(c, len, 4);
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_PROTOCOL);
	for (size_t i = 0; i < c->in_cap; i++)
		cr_assert_eq(c->in[i], 0x99);
	rig_call_free(c);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_full_pool_answers_busy)
{
	struct rig r = {0};
	open_world(&r, *world, 6);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *hold = rig_call(OP_HOLD, 4000000, 100);
	rig_start(p, hold);
	struct rig_call *c = rig_call(OP_ECHO, 3000000, 0); /* 3 buffers where 2 are free */
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_BUSY, "%s", c->call.detail);
	rig_call_free(c);
	c = rig_call(OP_ECHO, 2000000, 2000000);
	cr_assert_eq(rig_do(&r, p, c), STELE_OK, "%s", c->call.detail);
	expect_echo(c);
	rig_call_free(c);
	rig_answer_held(&r);
	rig_wait(&r, &hold, 1);
	cr_assert_eq(hold->call.err, STELE_OK);
	rig_call_free(hold);
	c = rig_call(OP_ECHO, 6u << 20, 6u << 20);
	cr_assert_eq(rig_do(&r, p, c), STELE_OK, "every buffer is back: %s", c->call.detail);
	rig_call_free(c);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(too_many_under_way_answers_busy)
{
	struct rig r = {.inflight_max = 5};
	open_world(&r, *world, 6);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c[6];
	for (size_t i = 0; i < 6; i++) {
		c[i] = rig_call(OP_HOLD, 0, 0);
		rig_start(p, c[i]);
	}
	rig_wait(&r, c + 5, 1);
	cr_assert_eq(c[5]->call.err, STELE_ERR_BUSY);
	rig_answer_held(&r);
	rig_wait(&r, c, 6);
	for (size_t i = 0; i < 6; i++) {
		cr_assert(i == 5 || c[i]->call.err == STELE_OK);
		rig_call_free(c[i]);
	}
	rig_peer_end(&r, p);
	close_world(&r);
}

static bool all_are_held(struct rig *r)
{
	return r->nheld == STELE_WIRE_INFLIGHT;
}

/* The server still counts them: their successors wait, and are not answered BUSY. */
WIRE_TEST(withdrawn_calls_keep_their_place)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c[STELE_WIRE_INFLIGHT];
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < STELE_WIRE_INFLIGHT; i++) {
			c[i] = rig_call(round ? OP_PING : OP_HOLD, 0, 0);
			rig_start(p, c[i]);
		}
		if (round == 0) {
			cr_assert(rig_run(&r, all_are_held, 5000));
			for (size_t i = 0; i < STELE_WIRE_INFLIGHT; i++)
				rig_cancel(p, c[i]);
		} else {
			(void)rig_run(&r, NULL, 30);
			rig_answer_held(&r);
		}
		rig_wait(&r, c, STELE_WIRE_INFLIGHT);
		for (size_t i = 0; i < STELE_WIRE_INFLIGHT; i++) {
			cr_assert_eq(c[i]->call.err, round ? STELE_OK : STELE_ERR_CANCELLED, "%s",
			             c[i]->call.detail);
			rig_call_free(c[i]);
		}
	}
	rig_peer_end(&r, p);
	close_world(&r);
}

static bool one_is_held(struct rig *r)
{
	return r->nheld == 1;
}

WIRE_TEST(timeouts)
{
	struct rig r = {0};
	open_world(&r, *world, 6);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c = rig_call(OP_HOLD, 0, 64), *patient = rig_call(OP_HOLD, 0, 64);
	c->call.timeout_ns = 60 * MS;
	uint64_t before = stele_env_now(r.env);
	rig_start(p, patient); /* of 30 s: the timer must not wait for it */
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_TIMEOUT);
	cr_assert_geq(stele_env_now(r.env) - before, 60 * MS);
	cr_assert_not_null(strstr(c->call.detail, "60 ms"), "%s", c->call.detail);
	rig_call_free(c);
	cr_assert_eq(r.nheld, 2);
	rig_answer_held(&r); /* the late reply is for nobody */
	rig_wait(&r, &patient, 1);
	cr_assert_eq(patient->call.err, STELE_OK);
	rig_call_free(patient);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	rig_peer_end(&r, p);
	close_world(&r);
}

/* Cancels at every moment of a call's life; afterwards its memory is gone at once (ASan looks). */
WIRE_TEST(cancel)
{
	struct rig r = {0};
	open_world(&r, *world, 64);
	struct stele_peer *p = rig_peer(&r);
	unsigned cancelled = 0, completed = 0;
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	for (unsigned delay = 0; delay < 14; delay++) {
		struct rig_call *c = rig_call(OP_ECHO, 8u << 20, 8u << 20);
		struct rig_call *other = rig_call(OP_ECHO, 3u << 20, 3u << 20);
		rig_start(p, c);
		rig_start(p, other);
		if (delay)
			(void)rig_run(&r, NULL, delay);
		rig_cancel(p, c);
		if (!c->done) { /* only the call itself still counts */
			free(c->out);
			free(c->in);
			c->in = c->out = NULL;
			memset(c->body, 0xff, sizeof(c->body));
			memset(c->into, 0xff, sizeof(c->into));
		}
		rig_cancel(p, c); /* twice is no harm */
		rig_wait(&r, &c, 1);
		cancelled += c->call.err == STELE_ERR_CANCELLED;
		completed += c->call.err == STELE_OK;
		cr_assert_eq(cancelled + completed, delay + 1);
		rig_call_free(c);
		rig_wait(&r, &other, 1);
		expect_echo(other);
		rig_call_free(other);
	}
	cr_assert_gt(cancelled, 0);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(cancel_before_there_is_a_connection)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c = rig_call(OP_PING, 0, 0);
	rig_start(p, c);
	rig_cancel(p, c);
	rig_wait(&r, &c, 1);
	cr_assert_eq(c->call.err, STELE_ERR_CANCELLED);
	rig_call_free(c);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	cr_assert_eq(r.handled, 1);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(closing_a_peer_cancels_its_calls)
{
	struct rig r = {0};
	open_world(&r, *world, 64);
	for (unsigned delay = 0; delay < 8; delay++) {
		struct stele_peer *p = rig_peer(&r);
		struct rig_call *c[5];
		for (size_t i = 0; i < 5; i++) {
			c[i] = rig_call(i ? OP_ECHO : OP_HOLD, i ? 5u << 20 : 0, 5u << 20);
			rig_start(p, c[i]);
		}
		if (delay)
			(void)rig_run(&r, NULL, delay);
		rig_peer_end(&r, p);
		for (size_t i = 0; i < 5; i++) {
			cr_assert(c[i]->call.err == STELE_ERR_CANCELLED ||
			          (i && c[i]->call.err == STELE_OK));
			rig_call_free(c[i]);
		}
		rig_answer_held(&r); /* to a connection that is gone */
	}
	close_world(&r);
}

WIRE_TEST(the_server_dies_in_the_middle)
{
	struct rig r = {0};
	open_world(&r, *world, 64);
	char addr[STELE_ADDR_MAX];
	snprintf(addr, sizeof(addr), "%s", r.addr);
	struct stele_peer *p = rig_peer(&r);
	for (unsigned round = 0; round < 8; round++) {
		struct rig_call *c[10];
		for (size_t i = 0; i < 10; i++) {
			c[i] = rig_call(i % 2 ? OP_ECHO : OP_HOLD, i % 2 ? 3u << 20 : 10, 3u << 20);
			rig_start(p, c[i]);
		}
		(void)rig_run(&r, NULL, 1 + 3 * round);
		rig_close_server(&r);
		rig_wait(&r, c, 10);
		for (size_t i = 0; i < 10; i++) {
			enum stele_err err = c[i]->call.err;
			cr_assert(err == STELE_ERR_CLOSED || err == STELE_ERR_UNAVAILABLE ||
			              (i % 2 && err == STELE_OK),
			          "%s", stele_err_name(err));
			cr_assert(err != STELE_OK ||
			          memcmp(c[i]->in, c[i]->out, c[i]->out_len) == 0);
			rig_call_free(c[i]);
		}
		cr_assert(!r.nheld || !r.closed, "held requests are waited for");
		rig_answer_held(&r); /* after the connection's death */
		rig_server_gone(&r);
		/* dead: said at once */
		uint64_t before = stele_env_now(r.env);
		cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_UNAVAILABLE);
		cr_assert_not_null(strstr(stele_detail(), addr), "%s", stele_detail());
		cr_assert_lt(stele_env_now(r.env) - before, 900 * MS);
		/* and back: reached again soon, without anybody's help */
		rig_listen(&r, addr);
		unsigned tries = 0;
		while (rig_do_op(&r, p, OP_PING) != STELE_OK) {
			cr_assert_lt(++tries, 300, "%s", stele_detail());
			(void)rig_run(&r, NULL, 2);
		}
	}
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_restart_that_nobody_noticed)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	char addr[STELE_ADDR_MAX];
	snprintf(addr, sizeof(addr), "%s", r.addr);
	struct stele_peer *p = rig_peer(&r);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK);
	rig_close_server(&r);
	rig_server_gone(&r);
	rig_listen(&r, addr);
	enum stele_err err = rig_do_op(&r, p, OP_PING);
	if (r.sim &&
	    err == STELE_ERR_CLOSED) /* sent before the news of the old server's end came */
		err = rig_do_op(&r, p, OP_PING);
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_wrong_key)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_secret_key other;
	char shown[9], wanted[9];
	rig_key(&other, 9);
	struct stele_peer_opts opts = {.env = r.cenv,
	                               .transport = r.cf,
	                               .addr = r.addr,
	                               .expect = {other.pub},
	                               .nexpect = 1,
	                               .cluster = r.cluster};
	struct stele_peer *p;
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	for (int i = 0; i < 2; i++) { /* the second time it is too early to try again */
		cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_DENIED);
		cr_assert_not_null(strstr(stele_detail(), r.addr), "%s", stele_detail());
		cr_assert_not_null(strstr(stele_detail(), stele_hex(r.skey.pub.b, 4, shown)));
		cr_assert_not_null(strstr(stele_detail(), stele_hex(other.pub.b, 4, wanted)));
		cr_assert_null(strchr(stele_detail(), '\n'));
	}
	rig_peer_end(&r, p);
	/* either of two keys will do */
	opts.expect[1] = r.skey.pub;
	opts.nexpect = 2;
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK, "%s", stele_detail());
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_stranger)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	char key[9];
	struct stele_secret_key known = r.ckey;
	rig_key(&r.ckey, 8); /* the server knows this one alone */
	struct stele_peer *p = rig_peer(&r);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_DENIED);
	cr_assert_not_null(strstr(stele_detail(), stele_hex(known.pub.b, 4, key)), "%s",
	                   stele_detail());
	cr_assert_eq(r.handled, 0);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(another_cluster)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_hash ours = r.cluster;
	r.cluster.b[0] ^= 1;
	struct stele_peer *p = rig_peer(&r);
	r.cluster = ours;
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_DENIED);
	cr_assert_not_null(strstr(stele_detail(), "another cluster"), "%s", stele_detail());
	cr_assert_eq(r.handled, 0, "what was sent behind HELLO was not done");
	rig_peer_end(&r, p);
	close_world(&r);
}

static bool hello_has_come(struct rig *r)
{
	return r->hello;
}

WIRE_TEST(nothing_is_done_before_hello_is_answered)
{
	for (int refuse = 0; refuse < 2; refuse++) {
		struct rig r = {.slow_hello = true};
		open_world(&r, *world, 4);
		struct stele_peer *p = rig_peer(&r);
		struct rig_call *c[3];
		for (size_t i = 0; i < 3; i++) {
			c[i] = rig_call(i ? OP_PING : OP_ECHO, i ? 0 : 3u << 20, 3u << 20);
			rig_start(p, c[i]);
		}
		cr_assert(rig_run(&r, hello_has_come, 5000));
		(void)rig_run(&r, NULL, 40);
		cr_assert_eq(r.handled, 0);
		if (refuse)
			r.cluster.b[0] ^= 1;
		rig_answer_hello(&r, r.hello);
		rig_wait(&r, c, 3);
		for (size_t i = 0; i < 3; i++) {
			cr_assert_eq(c[i]->call.err, refuse ? STELE_ERR_DENIED : STELE_OK, "%s",
			             c[i]->call.detail);
			rig_call_free(c[i]);
		}
		cr_assert_eq(r.handled, refuse ? 0 : 3);
		rig_peer_end(&r, p);
		close_world(&r);
	}
}

WIRE_TEST(a_revoked_key_is_cut_off)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_peer *p = rig_peer(&r);
	struct rig_call *c = rig_call(OP_HOLD, 0, 0);
	rig_start(p, c);
	cr_assert(rig_run(&r, one_is_held, 5000));
	stele_server_recheck(r.server);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_OK, "nothing changed for it");
	r.roles = 0;
	stele_server_recheck(r.server);
	rig_wait(&r, &c, 1);
	cr_assert_eq(c->call.err, STELE_ERR_CLOSED);
	rig_call_free(c);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_DENIED);
	rig_answer_held(&r);
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(nobody_there_and_nobody_answering)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	/* a socket that listens and never says anything */
	char silent[STELE_ADDR_MAX];
	struct stele_op listen = {
	    .kind = STELE_OP_LISTEN, .path = "127.0.0.1:0", .path_buf = silent};
	int fd = (int)stele_env_call(r.env, &listen);
	cr_assert_geq(fd, 0);
	struct stele_peer_opts opts = {.env = r.cenv,
	                               .transport = r.cf,
	                               .addr = silent,
	                               .connect_timeout_ns = 80 * MS,
	                               .cluster = r.cluster};
	struct stele_peer *p;
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	uint64_t before = stele_env_now(r.env);
	cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_UNAVAILABLE, "%s", stele_detail());
	cr_assert_geq(stele_env_now(r.env) - before, 80 * MS);
	rig_peer_end(&r, p);
	/* a call's own deadline covers connecting */
	opts.connect_timeout_ns = 0;
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	struct rig_call *c = rig_call(OP_PING, 0, 0);
	c->call.timeout_ns = 50 * MS;
	cr_assert_eq(rig_do(&r, p, c), STELE_ERR_TIMEOUT);
	rig_call_free(c);
	rig_peer_end(&r, p);
	stele_file_close(r.env, &fd);
	/* nobody listens: refused, at once, also while it is too early to try again */
	cr_assert_eq(stele_peer_create(&opts, &p), STELE_OK);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(rig_do_op(&r, p, OP_PING), STELE_ERR_UNAVAILABLE);
		cr_assert_not_null(strstr(stele_detail(), "refused"), "%s", stele_detail());
	}
	rig_peer_end(&r, p);
	close_world(&r);
}

WIRE_TEST(a_port_in_use_is_named)
{
	struct rig r = {0};
	open_world(&r, *world, 4);
	struct stele_server *second;
	struct stele_server_opts opts = {.env = r.env,
	                                 .bufs = r.bufs,
	                                 .transport = r.sf,
	                                 .listen = r.addr,
	                                 .rule = rig_rules,
	                                 .identify = rig_identify,
	                                 .ctx = &r};
	cr_assert_eq(stele_server_create(&opts, &second), STELE_ERR_UNAVAILABLE);
	cr_assert_not_null(strstr(stele_detail(), r.addr));
	cr_assert_not_null(strstr(stele_detail(), "this port"), "%s", stele_detail());
	close_world(&r);
}

WIRE_TEST(connections_beyond_the_bound_wait)
{
	struct rig r = {.conns_max = 3};
	open_world(&r, *world, 4);
	struct stele_peer *p[4];
	struct rig_call *last = rig_call(OP_PING, 0, 0);
	for (int i = 0; i < 4; i++)
		p[i] = rig_peer(&r);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(rig_do_op(&r, p[i], OP_PING), STELE_OK);
	rig_start(p[3], last);
	(void)rig_run(&r, NULL, 100);
	cr_assert_eq(last->done, 0);
	rig_peer_end(&r, p[0]);
	rig_wait(&r, &last, 1);
	cr_assert_eq(last->call.err, STELE_OK, "%s", last->call.detail);
	rig_call_free(last);
	for (int i = 1; i < 4; i++)
		rig_peer_end(&r, p[i]);
	close_world(&r);
}

/* ---- bytes that no peer of ours sends: plain ones, or TLS would keep them out ---- */

/* The first error reply for a request id in what came (after the claim of 36 bytes); OK: none. */
static enum stele_err raw_error(const struct raw *w, uint64_t req)
{
	size_t at = 36;
	struct stele_frame f;
	while (at + STELE_FRAME_LEN <= w->got_len) {
		cr_assert_eq(stele_frame_decode(w->got + at, &f), STELE_OK);
		at += STELE_FRAME_LEN;
		if (at + f.head_len > w->got_len)
			break;
		if (f.req == req && f.flags & STELE_FRAME_ERR)
			return stele_wire_error_decode(w->got + at, f.head_len);
		at += f.head_len + stele_frame_body(&f);
	}
	return STELE_OK;
}

static void open_hostile(struct rig *r)
{
	open_world(r, 2, 8);
}

/* The server is none the worse: a well-behaved peer is served, and every buffer is back. */
static void close_hostile(struct rig *r)
{
	struct stele_peer *p = rig_peer(r);
	struct rig_call *c = rig_call(OP_ECHO, 8u << 20, 8u << 20);
	cr_assert_eq(rig_do(r, p, c), STELE_OK, "%s", c->call.detail);
	expect_echo(c);
	rig_call_free(c);
	rig_peer_end(r, p);
	close_world(r);
}

static uint64_t state = 5;

static uint32_t rnd(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33) % below;
}

static bool raw_is_told(struct rig *r)
{
	(void)r;
	return raw_error(raw_now, STELE_FRAME_REQ_CONN) == STELE_ERR_PROTOCOL;
}

Test(hostile, garbage)
{
	struct rig r = {0};
	open_hostile(&r);
	for (int round = 0; round < 60; round++) {
		uint8_t bytes[3000];
		size_t len = raw_hello(&r, bytes);
		size_t from = round % 3 == 0 ? 0 : round % 3 == 1 ? 36 : len;
		for (size_t i = from; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)rnd(256);
		struct raw *w = raw_open(&r, true);
		cr_assert_gt(raw_send(w, bytes, sizeof(bytes)), 0);
		raw_now = w;
		cr_assert(round % 3 == 0 || rig_run(&r, raw_is_told, 3000), "it is told why");
		raw_close(w);
	}
	cr_assert_eq(r.handled, 0);
	close_hostile(&r);
}

/* A second frame that does not continue the first, in each way. */
Test(hostile, frames_out_of_order)
{
	static uint8_t bytes[2500000];
	const struct stele_frame first = {
	    .op = OP_ECHO, .flags = STELE_FRAME_FIRST, .req = 2, .body_left = 3000000};
	const struct stele_frame good = {.op = OP_ECHO, .req = 2, .body_left = 3000000 - 1048576};
	struct rig r = {0};
	open_hostile(&r);
	for (int way = 0; way < 6; way++) {
		struct stele_frame f = good;
		f.op = way == 1 ? OP_MAKE : f.op;
		f.body_left += way == 2 ? 1 : way == 3 ? 2000000 : way == 4 ? (uint32_t)-800000 : 0;
		f.flags = way == 5 ? STELE_FRAME_FIRST : 0;
		size_t len = raw_hello(&r, bytes);
		stele_frame_encode(&first, bytes + len);
		len += STELE_FRAME_LEN + 1048576;
		stele_frame_encode(&f, bytes + len);
		struct raw *w = raw_open(&r, true);
		cr_assert_gt(raw_send(w, bytes, len + STELE_FRAME_LEN), 0);
		raw_now = w;
		cr_assert_eq(rig_run(&r, raw_is_told, 150), way > 0, "way %d", way);
		raw_close(w);
	}
	close_hostile(&r);
}

/* What the server says to one frame (and so many bytes behind it) after HELLO; OK: it does not end. */
static enum stele_err after_hello(struct rig *r, struct stele_frame f, size_t more, bool *ended)
{
	uint8_t bytes[8192] = {0};
	size_t len = raw_hello(r, bytes);
	stele_frame_encode(&f, bytes + len);
	struct raw *w = raw_open(r, true);
	cr_assert_gt(raw_send(w, bytes, len + STELE_FRAME_LEN + more), 0);
	(void)raw_ends(w, 60);
	*ended =
	    raw_error(w, STELE_FRAME_REQ_CONN) != STELE_OK; /* it lingers, for us to read that */
	cr_assert_geq(w->got_len, 36 + 2 * STELE_FRAME_LEN, "claim, HELLO's reply, and something");
	enum stele_err err = raw_error(w, *ended ? STELE_FRAME_REQ_CONN : f.req);
	raw_close(w);
	return err;
}

Test(hostile, frames)
{
	const uint16_t whole = STELE_FRAME_FIRST | STELE_FRAME_END;
	struct rig r = {0};
	bool ended;
	open_hostile(&r);
	/* beyond the protocol's bounds: told, and cut off, before anything is allocated */
	struct stele_frame f = {.op = OP_ECHO, .flags = whole, .req = 2, .head_len = UINT32_MAX};
	cr_assert_eq(after_hello(&r, f, 0, &ended), STELE_ERR_PROTOCOL);
	cr_assert(ended);
	f = (struct stele_frame){
	    .op = OP_ECHO, .flags = STELE_FRAME_FIRST, .req = 2, .body_left = UINT32_MAX};
	cr_assert_eq(after_hello(&r, f, 0, &ended), STELE_ERR_PROTOCOL);
	cr_assert(ended);
	f = (struct stele_frame){.op = OP_PING, .flags = whole | STELE_FRAME_REPLY, .req = 2};
	cr_assert_eq(after_hello(&r, f, 0, &ended), STELE_ERR_PROTOCOL);
	cr_assert(ended);
	f = (struct stele_frame){.op = OP_PING, .flags = whole, .req = 0};
	cr_assert_eq(after_hello(&r, f, 0, &ended), STELE_ERR_PROTOCOL);
	cr_assert(ended);
	/* within them and beyond the op's: answered, and the body would be dropped */
	f = (struct stele_frame){
	    .op = OP_ECHO, .flags = STELE_FRAME_FIRST, .req = 2, .body_left = 64u << 20};
	cr_assert_eq(after_hello(&r, f, 5000, &ended), STELE_ERR_TOO_LARGE);
	cr_assert(!ended);
	f = (struct stele_frame){.op = OP_ECHO, .flags = whole, .req = 2, .body_left = 1000};
	cr_assert_eq(after_hello(&r, f, 1000, &ended), STELE_OK);
	cr_assert(!ended);
	cr_assert_eq(r.handled, 1);
	close_hostile(&r);
}

Test(hostile, no_hello)
{
	struct rig r = {0};
	uint8_t bytes[256];
	open_hostile(&r);
	size_t len = raw_hello(&r, bytes);
	stele_put_le16(bytes + 36 + 4, OP_PING);
	struct raw *w = raw_open(&r, true);
	cr_assert_gt(raw_send(w, bytes, len), 0);
	cr_assert(raw_ends(w, 3000));
	cr_assert_eq(raw_error(w, STELE_FRAME_REQ_CONN), STELE_ERR_PROTOCOL);
	cr_assert_not_null(strstr(stele_detail(), "PING before HELLO"), "%s", stele_detail());
	raw_close(w);
	cr_assert_eq(r.handled, 0);
	close_hostile(&r);
}

Test(hostile, frames_cut_off_anywhere)
{
	struct rig r = {0};
	uint8_t bytes[512] = {0};
	open_hostile(&r);
	size_t len = raw_hello(&r, bytes);
	struct stele_frame f = {.op = OP_ECHO,
	                        .flags = STELE_FRAME_FIRST | STELE_FRAME_END,
	                        .req = 2,
	                        .head_len = 20,
	                        .body_left = 60};
	stele_frame_encode(&f, bytes + len);
	len += STELE_FRAME_LEN + 80;
	for (size_t cut = 0; cut < len; cut += cut < 30 ? 7 : 1) {
		struct raw *w = raw_open(&r, false);
		if (cut)
			cr_assert_gt(raw_send(w, bytes, cut), 0);
		raw_close(w);
	}
	cr_assert_eq(r.handled, 0);
	close_hostile(&r);
}

/* Random sequences of lawful and unlawful frames, with bodies in frames that alternate. */
Test(hostile, random_frames)
{
	static const uint16_t ops[] = {1, OP_PING, OP_ECHO, OP_MAKE, OP_ADMIN, 99};
	static uint8_t bytes[5 << 20];
	struct rig r = {0};
	open_hostile(&r);
	for (int round = 0; round < 80; round++) {
		size_t len = raw_hello(&r, bytes);
		while (len < (3u << 20)) {
			struct stele_frame f = {.op = ops[rnd(6)],
			                        .flags =
			                            (uint16_t)(rnd(8) ? 8 + 2 * rnd(2) : rnd(32)),
			                        .req = 2 + rnd(3),
			                        .head_len = rnd(4) ? 4 * rnd(2) : rnd(400),
			                        .body_left = rnd(3) ? 0 : rnd(3u << 20)};
			if (rnd(3)) /* as it should be */
				f.flags =
				    (uint16_t)((f.flags & ~2u) | (f.body_left <= 1048576 ? 2 : 0));
			stele_frame_encode(&f, bytes + len);
			memset(bytes + len + STELE_FRAME_LEN, 0, f.head_len);
			len += STELE_FRAME_LEN + f.head_len + stele_frame_body(&f);
			if (rnd(3))
				break;
		}
		struct raw *w = raw_open(&r, rnd(2));
		(void)raw_send(w, bytes, len);
		(void)rig_run(&r, NULL, rnd(3));
		raw_close(w);
	}
	close_hostile(&r);
}

static bool settled;
static unsigned last_made;

/* Nothing was made since the last look. */
static bool made_settles(struct rig *r)
{
	settled = r->made == last_made;
	last_made = r->made;
	return settled && r->made > 0;
}

Test(hostile, a_client_that_does_not_read)
{
	struct rig r = {0};
	static uint8_t bytes[100000];
	open_hostile(&r);
	size_t len = raw_hello(&r, bytes);
	struct raw *w = raw_open(&r, false);
	cr_assert_gt(raw_send(w, bytes, len), 0);
	bool stopped = false;
	for (uint64_t round = 0; round < 3000 && !stopped; round++) { /* each asks for 100 MiB */
		len = 0;
		for (uint64_t i = 0; i < 100; i++) {
			struct stele_frame f = {.op = OP_MAKE,
			                        .flags = STELE_FRAME_FIRST | STELE_FRAME_END,
			                        .req = 2 + round * 100 + i,
			                        .head_len = 4};
			stele_frame_encode(&f, bytes + len);
			stele_put_le32(bytes + len + STELE_FRAME_LEN, 1u << 20);
			len += STELE_FRAME_LEN + 4;
		}
		w->iov = (struct iovec){bytes, len};
		w->op = (struct stele_op){.kind = STELE_OP_SEND,
		                          .fd = w->fd,
		                          .iov = &w->iov,
		                          .niov = 1,
		                          .cb = raw_done,
		                          .ctx = w};
		w->busy = true;
		raw_now = w;
		stele_env_submit(r.cenv, &w->op);
		stopped = !rig_run(&r, raw_idle, 300);
	}
	cr_assert(stopped, "the server goes on reading");
	cr_assert(rig_run(&r, made_settles, 5000));
	cr_assert_lt(r.made - r.sent, 20, "%u replies wait", r.made - r.sent);
	raw_close(w);
	close_hostile(&r);
}

Test(hostile, a_flood_of_empty_refusals_that_nobody_reads)
{
	struct rig r = {0};
	static uint8_t bytes[2048 * STELE_FRAME_LEN];
	open_hostile(&r);
	size_t len = raw_hello(&r, bytes);
	struct raw *w = raw_open(&r, false);
	cr_assert_gt(raw_send(w, bytes, len), 0);
	uint64_t req = 2;
	bool stopped = false;
	for (int round = 0; round < 600 && !stopped; round++) {
		for (int i = 0; i < 2048; i++) {
			struct stele_frame f = {
			    .op = 999, .flags = STELE_FRAME_FIRST | STELE_FRAME_END, .req = req++};
			stele_frame_encode(&f, bytes + i * STELE_FRAME_LEN);
		}
		w->iov = (struct iovec){bytes, sizeof(bytes)};
		w->op = (struct stele_op){.kind = STELE_OP_SEND,
		                          .fd = w->fd,
		                          .iov = &w->iov,
		                          .niov = 1,
		                          .cb = raw_done,
		                          .ctx = w};
		w->busy = true;
		raw_now = w;
		stele_env_submit(r.cenv, &w->op);
		stopped = !rig_run(&r, raw_idle, 300);
	}
	cr_assert(stopped, "it goes on reading");
	raw_close(w);
	close_hostile(&r);
}

/* A server that breaks the rules: the peer does not crash and says so. */
static int fake_fd;
static struct stele_op fake_op;
static int64_t fake_accepted;
static bool fake_done;

static void on_fake(struct stele_op *op)
{
	fake_accepted = op->result;
	fake_done = true;
}

static bool fake_is_done(struct rig *r)
{
	(void)r;
	return fake_done;
}

static void fake_do(struct rig *r, struct stele_op op)
{
	fake_op = op;
	fake_op.cb = on_fake;
	fake_done = false;
	stele_env_submit(r->env, &fake_op);
	cr_assert(rig_run(r, fake_is_done, 5000));
}

Test(hostile, a_server_that_says_anything)
{
	struct rig r = {0};
	uint8_t bytes[4096], in[4096];
	open_hostile(&r);
	struct stele_op listen = {
	    .kind = STELE_OP_LISTEN, .path = "127.0.0.1:0", .path_buf = r.addr};
	fake_fd = (int)stele_env_call(r.env, &listen);
	for (int round = 0; round < 60; round++) {
		struct stele_peer *p = rig_peer(&r);
		struct rig_call *c = rig_call(OP_MAKE, 0, 100);
		rig_start(p, c);
		fake_do(&r, (struct stele_op){.kind = STELE_OP_ACCEPT, .fd = fake_fd});
		int fd = (int)fake_accepted;
		cr_assert_geq(fd, 0);
		/* its claim; then, in some rounds, HELLO's reply as it should be; then nonsense */
		memcpy(bytes, "SPL1", 4);
		memcpy(bytes + 4, r.skey.pub.b, 32);
		size_t len = 36;
		struct stele_head_hello h = {.version = 1};
		struct stele_writer hw = stele_writer(bytes + len + STELE_FRAME_LEN, 100);
		stele_head_hello_encode(&h, true, &hw);
		struct stele_frame f = {.op = 1,
		                        .flags =
		                            STELE_FRAME_REPLY | STELE_FRAME_FIRST | STELE_FRAME_END,
		                        .req = 1u << 8,
		                        .head_len = (uint32_t)stele_written(&hw)};
		stele_frame_encode(&f, bytes + len);
		if (round % 2)
			len += STELE_FRAME_LEN + stele_written(&hw);
		for (size_t i = len; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)rnd(256);
		if (round % 3 == 0) { /* a lawful frame of the wrong kind */
			f = (struct stele_frame){.op = (uint16_t)(round % 4 ? OP_MAKE : OP_PING),
			                         .flags = (uint16_t)(rnd(2) ? 1 : 9),
			                         .req = (2u << 8) + 1,
			                         .body_left = 2u << 20};
			stele_frame_encode(&f, bytes + len);
		}
		struct iovec iov = {bytes, sizeof(bytes)};
		fake_do(&r,
		        (struct stele_op){.kind = STELE_OP_SEND, .fd = fd, .iov = &iov, .niov = 1});
		iov = (struct iovec){in, sizeof(in)};
		fake_do(&r,
		        (struct stele_op){.kind = STELE_OP_RECV, .fd = fd, .iov = &iov, .niov = 1});
		fake_do(&r, (struct stele_op){.kind = STELE_OP_CLOSE, .fd = fd});
		rig_wait(&r, &c, 1);
		cr_assert(c->call.err == STELE_ERR_PROTOCOL || c->call.err == STELE_ERR_CLOSED ||
		              c->call.err == STELE_ERR_UNAVAILABLE,
		          "round %d: %s: %s", round, stele_err_name(c->call.err), c->call.detail);
		cr_assert_eq(c->in[c->in_cap], 0x99);
		rig_call_free(c);
		rig_peer_end(&r, p);
	}
	stele_file_close(r.env, &fake_fd);
	snprintf(r.addr, sizeof(r.addr), "%s", stele_server_addr(r.server));
	close_hostile(&r);
}
