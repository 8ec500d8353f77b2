/*
 * Goal: kill -9 loses nothing that was acknowledged (DESIGN 11, 1 and 3). A child writes, removes and
 * says over a pipe what it was told is durable; the parent kills it at a random moment, opens what it
 * left, and compares. STELE_KILLS sets how often (200).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store_kit.h"

#define KEYS      256u
#define DEPTH     24u
#define PER_STORE 20u /* kills before a fresh directory */

struct told { /* what the child says: one of these after each callback */
	uint32_t key;
	uint8_t tomb;
	uint8_t begun; /* 1: about to be asked for, 0: acknowledged */
	uint8_t pad[2];
};
_Static_assert(sizeof(struct told) == 8, "written in one piece");

enum state { ABSENT, PRESENT, EITHER };

/* Key n: a record (n % 4 != 0) or a shard. Everything about it follows from n. */
static struct kit_block blocks[KEYS / 4];

static uint32_t record_bytes(uint32_t n, uint8_t *out)
{
	uint32_t len = (uint32_t)(kit_mix(n) % 9000);
	memset(out, (int)(n & 0xff), len);
	return len;
}

static struct stele_key key_of(uint32_t n)
{
	if (n % 4 == 0)
		return kit_key(STELE_ENTRY_SHARD, &blocks[n / 4].id, NULL, 1);
	struct stele_hash id = kit_hash(n), sub = kit_hash(n + 100000);
	return kit_key(STELE_ENTRY_RECORD, &id, &sub, 0);
}

static void make_blocks(void)
{
	for (uint32_t i = 0; i < KEYS / 4; i++)
		kit_block_make(&blocks[i], "rs-2-1", 1 + kit_mix(i) % 300000, i);
}

/* ---- the child ---- */

struct slot {
	struct stele_store_write w;
	struct stele_item item;
	struct iovec iov;
	uint8_t *meta;
	uint32_t n;
	bool busy;
};

struct child {
	struct kit k;
	int pipe;
	uint64_t rnd;
	enum state state[KEYS];
	bool busy[KEYS];
	struct slot slot[DEPTH];
};

static void tell(struct child *c, uint32_t n, bool tomb, bool begun)
{
	struct told t = {.key = n, .tomb = tomb, .begun = begun};
	if (write(c->pipe, &t, sizeof(t)) != sizeof(t))
		_exit(1);
}

static void next_write(struct child *c, struct slot *s);

static void written(struct stele_store_write *w)
{
	struct child *c = w->ctx;
	struct slot *s = (struct slot *)((uint8_t *)w - offsetof(struct slot, w));
	if (w->err) {
		fprintf(stderr, "child: %s\n", w->detail);
		_exit(2);
	}
	tell(c, s->n, s->item.tomb, false);
	c->state[s->n] = s->item.tomb ? ABSENT : PRESENT;
	c->busy[s->n] = false;
	free(s->meta);
	next_write(c, s);
}

static void next_write(struct child *c, struct slot *s)
{
	do {
		c->rnd = kit_mix(c->rnd);
		s->n = (uint32_t)(c->rnd % KEYS);
	} while (c->busy[s->n]);
	c->busy[s->n] = true;
	s->item = (struct stele_item){.key = key_of(s->n), .tomb = c->state[s->n] == PRESENT};
	s->meta = NULL;
	if (!s->item.tomb && s->n % 4 == 0) {
		struct kit_block *b = &blocks[s->n / 4];
		s->meta = kit_meta(b, 1, &s->item.meta_len);
		s->iov = (struct iovec){b->shard[1], b->d.S};
		s->item.data = &s->iov;
		s->item.ndata = 1;
		s->item.data_len = b->d.S;
	} else if (!s->item.tomb) {
		s->meta = malloc(9000);
		s->item.meta_len = record_bytes(s->n, s->meta);
	}
	s->item.meta = s->meta;
	tell(c, s->n, s->item.tomb, true);
	s->w = (struct stele_store_write){.item = &s->item, .n = 1, .cb = written, .ctx = c};
	stele_store_write(c->k.store, &s->w);
}

static void run_child(struct kit *from, const enum state *state, int out, bool threads,
                      uint64_t rnd)
{
	static struct child c;
	c.k = *from;
	c.k.env = NULL;
	c.k.world = NULL;
	c.pipe = out;
	c.rnd = rnd;
	memcpy(c.state, state, sizeof(c.state));
	if ((threads ? stele_env_threads_create(NULL, &c.k.env)
	             : stele_env_create(NULL, &c.k.env)) != STELE_OK)
		_exit(3);
	c.k.opts.env = c.k.env;
	c.k.opts.dir = c.k.dir;
	if (stele_store_open(&c.k.opts, &c.k.store) != STELE_OK) {
		fprintf(stderr, "child: %s\n", stele_detail());
		_exit(4);
	}
	for (uint32_t i = 0; i < DEPTH; i++)
		next_write(&c, &c.slot[i]);
	stele_env_run(c.k.env);
	_exit(5);
}

/* ---- the parent ---- */

/* Follows what the child was about to do and what it was told, to the end of the pipe. */
static void follow(enum state *state, int in)
{
	enum state asked[KEYS];
	bool open[KEYS] = {false};
	struct told t;
	ssize_t n;
	while ((n = read(in, &t, sizeof(t))) > 0) {
		cr_assert_eq(n, sizeof(t));
		asked[t.key] = t.tomb ? ABSENT : PRESENT;
		open[t.key] = t.begun;
		if (!t.begun)
			state[t.key] = asked[t.key];
	}
	for (uint32_t i = 0; i < KEYS; i++)
		if (open[i])
			state[i] = EITHER;
}

static bool read_record(struct kit *k, uint32_t n)
{
	struct stele_key key = key_of(n);
	struct stele_store_list l = {.pool = 1,
	                             .first = key.id,
	                             .last = key.id,
	                             .kinds = STELE_KIND_BIT(STELE_ENTRY_RECORD),
	                             .want_meta = true};
	cr_assert_eq(kit_list(k, &l), STELE_OK, "%s", l.detail);
	cr_assert_leq(l.n, 1);
	bool there = l.n == 1;
	if (there) {
		uint8_t want[9000];
		uint32_t len = record_bytes(n, want);
		cr_assert(l.item[0].meta_len == len && memcmp(l.item[0].meta, want, len) == 0,
		          "key %u: other bytes", n);
	}
	stele_store_list_finish(&l);
	return there;
}

static void compare(struct kit *k, enum state *state)
{
	for (uint32_t n = 0; n < KEYS; n++) {
		bool there;
		if (n % 4 == 0) {
			enum stele_err err = kit_same(k, &blocks[n / 4], 1);
			cr_assert(err == STELE_OK || err == STELE_ERR_NOT_FOUND, "key %u: %s", n,
			          stele_detail());
			there = err == STELE_OK;
		} else {
			there = read_record(k, n);
		}
		if (state[n] == EITHER)
			state[n] = there ? PRESENT : ABSENT;
		cr_assert_eq(there, state[n] == PRESENT, "key %u is %s", n,
		             there ? "there and was removed" : "lost");
	}
	struct stele_store_scrub s = {.deep = false};
	cr_assert_eq(kit_scrub(k, &s), STELE_OK, "%s", s.detail);
	cr_assert_eq(s.victims, 0);
}

static void one_kill(struct kit *k, enum state *state, uint64_t rnd)
{
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		close(fds[0]);
		run_child(k, state, fds[1], rnd % 2, rnd);
	}
	close(fds[1]);
	/* from before its first write to well into its work */
	pid_t killer = fork();
	if (killer == 0) {
		usleep((useconds_t)(kit_mix(rnd) % 60000));
		kill(pid, SIGKILL);
		_exit(0);
	}
	follow(state, fds[0]);
	close(fds[0]);
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	          "the child ended by itself: %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	waitpid(killer, &status, 0);
	kit_env(k, true);
	k->opts.env = k->env;
	if (rnd % 5 == 0) { /* and the index is gone too */
		char dir[200];
		snprintf(dir, sizeof(dir), "%s/index", k->dir);
		kit_rm(dir);
	}
	enum stele_err err = STELE_ERR_EXISTS;
	for (int i = 0; i < 100 && err == STELE_ERR_EXISTS;
	     i++) { /* the kernel lets go of the lock */
		err = stele_store_open(&k->opts, &k->store);
		if (err == STELE_ERR_EXISTS)
			usleep(1000);
	}
	cr_assert_eq(err, STELE_OK, "%s", stele_detail());
	compare(k, state);
	kit_close(k);
	stele_env_destroy(k->env);
}

Test(kill, nothing_acknowledged_is_ever_missing)
{
	const char *env = getenv("STELE_KILLS");
	uint32_t kills = env ? (uint32_t)atoi(env) : 200;
	uint64_t rnd = (uint64_t)getpid() * 7919;
	struct kit k;
	memset(&k, 0, sizeof(k));
	make_blocks();
	fprintf(stderr, "seed %llu\n", (unsigned long long)rnd);
	for (uint32_t i = 0; i < kills; i += PER_STORE) {
		enum state state[KEYS] = {ABSENT};
		kit_env(&k, true);
		kit_dir(&k);
		kit_opts(&k, true);
		cr_assert_eq(stele_store_format(&k.opts, NULL), STELE_OK);
		stele_env_destroy(k.env);
		for (uint32_t j = 0; j < PER_STORE && i + j < kills; j++)
			one_kill(&k, state, rnd = kit_mix(rnd));
		kit_rm(k.dir);
	}
}
