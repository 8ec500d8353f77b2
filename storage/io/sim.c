/*
 * The simulated world: its clock, its machines and their ends, and env_sim, which turns operations
 * into events. The queue is sim_queue.c's, what happens to bytes on a disk sim_file.c's and
 * sim_disk.c's, and sockets are sim_net.c's.
 */
#include "storage/io/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storage/io/sim_disk.h"
#include "storage/io/sim_world.h"
#include "storage/io/sys.h"

#define MICROSECOND 1000u
#define SECOND      1000000000u
#define FIRST_FD    3          /* so that a forgotten 0 is noticed */
#define WALL_START  1700000000 /* unix seconds at time 0 */

enum { OP_UNDER_WAY = 1, OP_ENDED = 2 }; /* of priv.state */

/* Handles */

struct sim_handle *stele_sim_handle_add(struct sim_env *env, enum sim_handle_kind kind)
{
	if (env->handles_n == env->handles_cap) {
		size_t cap = env->handles_cap ? 2 * env->handles_cap : 16;
		env->handles = realloc(env->handles, cap * sizeof(env->handles[0]));
		if (!env->handles)
			abort();
		env->handles_cap = cap;
	}
	struct sim_handle *handle = stele_sim_alloc(sizeof(*handle));
	handle->kind = kind;
	while (env->handles_n < FIRST_FD)
		env->handles[env->handles_n++] = NULL;
	handle->fd = (int)env->handles_n;
	env->handles[env->handles_n++] = handle;
	return handle;
}

static struct sim_handle *any_handle(struct sim_env *env, int fd)
{
	return fd >= 0 && (size_t)fd < env->handles_n ? env->handles[fd] : NULL;
}

struct sim_handle *stele_sim_handle(struct sim_env *env, int fd, enum sim_handle_kind kind)
{
	struct sim_handle *handle = any_handle(env, fd);
	return handle && handle->kind == kind ? handle : NULL;
}

static void handle_drop(struct sim_env *env, struct sim_handle *handle)
{
	if (handle->inode) {
		stele_sim_inode_unlock(handle->inode, handle);
		stele_sim_inode_release(handle->inode);
	}
	env->handles[handle->fd] = NULL;
	free(handle);
}

static void handle_close(struct sim_env *env, struct sim_handle *handle)
{
	if (handle->kind != SIM_FILE)
		stele_sim_net_close(env, handle);
	handle_drop(env, handle);
}

/* Operations as events */

static struct sim_env *env_of(struct stele_env *env)
{
	return (struct sim_env *)env;
}

static void schedule_op(struct sim_env *env, struct stele_op *op, uint64_t delay_ns,
                        void (*fire)(struct stele_sim *sim, struct sim_event *event))
{
	struct sim_event *event = stele_sim_schedule(env->sim, delay_ns, fire, op);
	event->env = env;
	op->priv.slot = event;
}

static void run_callback(struct sim_env *env, struct stele_op *op, int64_t result)
{
	stele_op_list_remove(&env->ops, op);
	stele_sim_note(env->sim, env->machine, SIM_NOTE_OP, op->kind, (uint64_t)result);
	op->priv.state = 0;
	op->priv.slot = NULL;
	op->result = result;
	op->cb(op);
}

static void fire_end(struct stele_sim *sim, struct sim_event *event)
{
	(void)sim;
	run_callback(event->env, event->owner, event->result);
}

void stele_sim_end(struct sim_env *env, struct stele_op *op, int64_t result)
{
	assert(op->priv.state == OP_UNDER_WAY && !op->priv.slot);
	op->priv.state = OP_ENDED;
	schedule_op(env, op, 0, fire_end);
	((struct sim_event *)op->priv.slot)->result = result;
}

static void fire_timer(struct stele_sim *sim, struct sim_event *event)
{
	(void)sim;
	run_callback(event->env, event->owner, 0);
}

static void fire_work(struct stele_sim *sim, struct sim_event *event)
{
	(void)sim;
	struct stele_op *op = event->owner;
	op->priv.slot = NULL;
	op->result = 0;
	op->work(op);
	run_callback(event->env, op, op->result);
}

/* A disk operation is over: a CLOSE may have waited for it. */
static void left_handle(struct sim_env *env, struct sim_handle *handle)
{
	assert(handle->pending > 0);
	if (--handle->pending > 0 || !handle->closer)
		return;
	struct stele_op *closer = handle->closer;
	handle_close(env, handle);
	stele_sim_end(env, closer, 0);
}

static void fire_disk(struct stele_sim *sim, struct sim_event *event)
{
	(void)sim;
	struct sim_env *env = event->env;
	struct stele_op *op = event->owner;
	struct sim_handle *handle = stele_sim_handle(env, op->fd, SIM_FILE);
	int64_t result = stele_sim_perform(env, handle, op);
	left_handle(env, handle);
	run_callback(env, op, result);
}

static void submit_disk(struct sim_env *env, struct stele_op *op)
{
	struct stele_sim *sim = env->sim;
	const struct stele_sim_faults *faults = &env->machine->faults;
	struct sim_handle *handle = stele_sim_handle(env, op->fd, SIM_FILE);
	if (!handle) {
		stele_sim_end(env, op, -EBADF);
		return;
	}
	handle->pending++;
	uint64_t delay = stele_sim_around(sim, faults->disk_ns);
	if (stele_prng_chance(&sim->prng, faults->stall))
		delay += SECOND + stele_prng_below(&sim->prng, 9ull * SECOND);
	schedule_op(env, op, delay, fire_disk);
}

static void submit_close(struct sim_env *env, struct stele_op *op)
{
	struct sim_handle *handle = any_handle(env, op->fd);
	if (!handle) {
		stele_sim_end(env, op, -EBADF);
	} else if (handle->pending > 0) {
		assert(!handle->closer);
		handle->closer = op;
	} else {
		handle_close(env, handle);
		stele_sim_end(env, op, 0);
	}
}

static void submit(struct stele_env *base, struct stele_op *op)
{
	struct sim_env *env = env_of(base);
	struct stele_sim *sim = env->sim;
	op->priv.state = OP_UNDER_WAY;
	op->priv.slot = NULL;
	op->priv.done = 0;
	op->result = 0;
	stele_op_list_push(&env->ops, op);
	if (env->dead) {
		stele_sim_end(env, op, -ECANCELED);
		return;
	}
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
	case STELE_OP_SYNC:
		submit_disk(env, op);
		break;
	case STELE_OP_CLOSE:
		submit_close(env, op);
		break;
	case STELE_OP_TIMER:
		schedule_op(env, op, op->off > sim->now ? op->off - sim->now : 0, fire_timer);
		break;
	case STELE_OP_WORK:
		schedule_op(env, op,
		            stele_sim_around(sim, op->flags & STELE_WORK_LONG ? 500 * MICROSECOND
		                                                              : 50 * MICROSECOND),
		            fire_work);
		break;
	default:
		stele_sim_net_submit(env, op);
	}
}

static void unschedule_op(struct sim_env *env, struct stele_op *op)
{
	stele_sim_unschedule(env->sim, op->priv.slot);
	op->priv.slot = NULL;
}

static bool is_disk(const struct stele_op *op)
{
	return op->kind == STELE_OP_READV || op->kind == STELE_OP_WRITEV ||
	       op->kind == STELE_OP_SYNC;
}

static void cancel(struct stele_env *base, struct stele_op *op)
{
	struct sim_env *env = env_of(base);
	if (op->priv.state == OP_ENDED || op->kind == STELE_OP_CLOSE)
		return;
	bool may_be_too_late = is_disk(op) || op->kind == STELE_OP_WORK;
	if (may_be_too_late && stele_prng_below(&env->sim->prng, 2) == 0)
		return;
	if (op->priv.slot)
		unschedule_op(env, op);
	else
		stele_sim_net_forget(env, op);
	if (is_disk(op))
		left_handle(env, stele_sim_handle(env, op->fd, SIM_FILE));
	stele_sim_end(env, op, -ECANCELED);
}

/* Operations by call */

static int64_t call_open(struct sim_env *env, const struct stele_op *op)
{
	struct sim_inode *inode;
	int64_t r = stele_sim_disk_open(env->machine->disk, op->path, op->flags, &inode);
	if (r < 0)
		return r;
	struct sim_handle *handle = stele_sim_handle_add(env, SIM_FILE);
	handle->inode = inode;
	handle->flags = op->flags;
	return handle->fd;
}

/* FALLOC and TRUNCATE. */
static int64_t call_resize(struct sim_env *env, struct sim_handle *handle,
                           const struct stele_op *op)
{
	if (!handle || !(handle->flags & STELE_OPEN_WRITE))
		return handle && op->kind == STELE_OP_TRUNCATE ? -EINVAL : -EBADF;
	uint64_t size = op->len;
	if (op->kind == STELE_OP_FALLOC) {
		if (stele_prng_chance(&env->sim->prng, env->machine->faults.no_space))
			return -ENOSPC;
		size = op->off + op->len;
		if (size <= stele_sim_inode_size(handle->inode))
			return 0;
	}
	stele_sim_inode_resize(handle->inode, size);
	return 0;
}

static int64_t call_stat(struct sim_env *env, const struct stele_op *op)
{
	int64_t r = stele_sim_disk_stat(env->machine->disk, op->path, op->st);
	if (r == 0)
		op->st->dev = env->machine->id;
	return r;
}

static int64_t call_alive(struct sim_env *env, struct stele_op *op)
{
	struct sim_disk *disk = env->machine->disk;
	struct sim_handle *file = stele_sim_handle(env, op->fd, SIM_FILE);
	switch (op->kind) {
	case STELE_OP_READV:
	case STELE_OP_WRITEV:
	case STELE_OP_SYNC:
		return file ? stele_sim_perform(env, file, op) : -EBADF;
	case STELE_OP_CLOSE: {
		struct sim_handle *handle = any_handle(env, op->fd);
		if (!handle)
			return -EBADF;
		assert(handle->pending == 0);
		handle_close(env, handle);
		return 0;
	}
	case STELE_OP_OPEN:
		return call_open(env, op);
	case STELE_OP_FALLOC:
	case STELE_OP_TRUNCATE:
		return call_resize(env, file, op);
	case STELE_OP_UNLINK:
		return stele_sim_disk_unlink(disk, op->path);
	case STELE_OP_RENAME:
		return stele_sim_disk_rename(disk, op->path, op->path2);
	case STELE_OP_MKDIR:
		return stele_sim_disk_mkdir(disk, op->path);
	case STELE_OP_LIST:
		return stele_sim_disk_list(disk, op->path, op->list);
	case STELE_OP_STAT:
		return call_stat(env, op);
	case STELE_OP_LOCK:
		return file ? stele_sim_inode_lock(file->inode, file) : -EBADF;
	default:
		assert(op->kind == STELE_OP_LISTEN);
		return stele_sim_net_listen(env, op);
	}
}

static int64_t call(struct stele_env *base, struct stele_op *op)
{
	struct sim_env *env = env_of(base);
	op->result = env->dead ? -ECANCELED : call_alive(env, op);
	stele_sim_note(env->sim, env->machine, SIM_NOTE_CALL, op->kind, (uint64_t)op->result);
	return op->result;
}

/* The rest of the table */

static void fire_post(struct stele_sim *sim, struct sim_event *event)
{
	struct stele_msg *msg = event->owner;
	stele_sim_note(sim, NULL, SIM_NOTE_POST, 0, 0);
	msg->run(msg);
}

static void post(struct stele_env *base, struct stele_msg *msg)
{
	stele_sim_schedule(env_of(base)->sim, 0, fire_post, msg)->env = env_of(base);
}

static uint64_t now(struct stele_env *base)
{
	return env_of(base)->sim->now;
}

static int64_t wall(struct stele_env *base)
{
	return WALL_START + (int64_t)(env_of(base)->sim->now / SECOND);
}

static void draw(struct stele_env *base, void *out, size_t len)
{
	stele_prng_fill(&env_of(base)->sim->prng, out, len);
}

static void run(struct stele_env *base)
{
	struct sim_env *env = env_of(base);
	while (!env->stop && stele_sim_step(env->sim))
		;
	env->stop = false;
}

static void stop(struct stele_env *base)
{
	env_of(base)->stop = true;
}

static void destroy(struct stele_env *base)
{
	struct sim_env *env = env_of(base);
	struct sim_env **at = &env->sim->envs;
	assert(!env->ops.head);
	for (size_t i = 0; i < env->handles_n; i++) {
		if (env->handles[i])
			handle_close(env, env->handles[i]);
	}
	while (*at != env)
		at = &(*at)->next;
	*at = env->next;
	free(env->handles);
	free(env);
}

static const struct stele_env_ops sim_ops = {
    .name = "simulated",
    .submit = submit,
    .cancel = cancel,
    .call = call,
    .post = post,
    .now = now,
    .wall = wall,
    .random = draw,
    .run = run,
    .stop = stop,
    .destroy = destroy,
};

/* Machines and their ends */

static struct sim_machine *machine_find(const struct stele_sim *sim, const char *name)
{
	struct sim_machine *machine = sim->machines;
	while (machine && strcmp(machine->name, name) != 0)
		machine = machine->next;
	return machine;
}

static struct sim_machine *machine_get(struct stele_sim *sim, const char *name)
{
	struct sim_machine *machine = machine_find(sim, name);
	if (machine)
		return machine;
	size_t len = strlen(name);
	assert(len > 0 && len < sizeof(machine->name));
	machine = stele_sim_alloc(sizeof(*machine));
	memcpy(machine->name, name, len);
	machine->id = sim->machines ? sim->machines->id + 1 : 1;
	machine->faults = sim->faults;
	machine->disk = stele_sim_disk_create(&sim->prng);
	machine->next = sim->machines;
	sim->machines = machine;
	return machine;
}

enum stele_err stele_sim_env(struct stele_sim *sim, const char *name, struct stele_env **out)
{
	struct sim_machine *machine = machine_get(sim, name);
	struct sim_env *env = stele_sim_alloc(sizeof(*env));
	env->env.ops = &sim_ops;
	env->sim = sim;
	env->machine = machine;
	struct sim_env **at = &sim->envs;
	while (*at)
		at = &(*at)->next;
	*at = env;
	*out = &env->env;
	return STELE_OK;
}

/* The process is gone in the middle of op: it has an effect, none, or half of one. */
static void abandon(struct sim_env *env, struct stele_op *op)
{
	struct sim_event *event = op->priv.slot;
	if (op->priv.state == OP_ENDED) {
		event->result = -ECANCELED;
		return;
	}
	if (is_disk(op)) {
		struct sim_handle *handle = stele_sim_handle(env, op->fd, SIM_FILE);
		uint64_t pages = stele_sys_left(op) / STELE_PAGE + 1;
		if (op->kind == STELE_OP_WRITEV && handle->flags & STELE_OPEN_WRITE &&
		    stele_prng_below(&env->sim->prng, 2) == 0)
			stele_sim_store(handle, op, op->off,
			                stele_prng_below(&env->sim->prng, pages + 1) * STELE_PAGE);
		handle->pending--;
		handle->closer = NULL; /* it is in the list like any other */
	}
	if (event)
		unschedule_op(env, op);
	else if (op->kind != STELE_OP_CLOSE)
		stele_sim_net_forget(env, op);
	stele_sim_end(env, op, -ECANCELED);
}

static void end_process(struct sim_env *env, bool power)
{
	if (env->dead)
		return;
	for (struct stele_op *op = env->ops.head; op; op = op->priv.next)
		abandon(env, op);
	if (power)
		stele_sim_net_crash(env);
	for (size_t i = 0; i < env->handles_n; i++) {
		struct sim_handle *handle = env->handles[i];
		if (handle && (handle->kind == SIM_FILE || power))
			handle_drop(env, handle);
		else if (handle)
			handle_close(env, handle);
	}
	env->dead = true;
}

static void machine_stop(struct stele_sim *sim, struct sim_machine *machine, bool stopped)
{
	if (machine->stopped == stopped)
		return;
	stele_sim_note(sim, machine, SIM_NOTE_STOP, stopped, 0);
	machine->stopped = stopped;
	if (!stopped)
		stele_sim_release(sim, machine);
}

void stele_sim_stop(struct stele_sim *sim, const char *machine, bool stopped)
{
	machine_stop(sim, machine_get(sim, machine), stopped);
}

static void end_machine(struct stele_sim *sim, const char *name, bool power)
{
	struct sim_machine *machine = machine_find(sim, name);
	if (!machine)
		return;
	machine_stop(sim, machine, false);
	stele_sim_note(sim, machine, power ? SIM_NOTE_CRASH : SIM_NOTE_KILL, 0, 0);
	for (struct sim_env *env = sim->envs; env; env = env->next) {
		if (env->machine == machine)
			end_process(env, power);
	}
	if (power)
		stele_sim_disk_crash(machine->disk);
}

void stele_sim_crash(struct stele_sim *sim, const char *machine)
{
	end_machine(sim, machine, true);
}

void stele_sim_kill(struct stele_sim *sim, const char *machine)
{
	end_machine(sim, machine, false);
}

void stele_sim_cut(struct stele_sim *sim, const char *from, const char *to, bool cut)
{
	stele_sim_note(sim, NULL, SIM_NOTE_CUT, cut, 0);
	stele_sim_net_cut(sim->net, from, to, cut);
}

void stele_sim_wipe(struct stele_sim *sim, const char *machine, const char *dir)
{
	stele_sim_disk_wipe(machine_get(sim, machine)->disk, dir);
}

bool stele_sim_flip(struct stele_sim *sim, const char *machine, const char *path, uint64_t off,
                    uint32_t bit)
{
	return stele_sim_disk_flip(machine_get(sim, machine)->disk, path, off, bit);
}

bool stele_sim_spoil(struct stele_sim *sim, const char *machine, const char *path, uint64_t off,
                     bool bad)
{
	return stele_sim_disk_spoil(machine_get(sim, machine)->disk, path, off, bad);
}

void stele_sim_set_faults(struct stele_sim *sim, const char *machine,
                          const struct stele_sim_faults *faults)
{
	if (machine) {
		machine_get(sim, machine)->faults = *faults;
		return;
	}
	sim->faults = *faults;
	for (struct sim_machine *m = sim->machines; m; m = m->next)
		m->faults = *faults;
}

/* The world */

enum stele_err stele_sim_create(uint64_t seed, struct stele_sim **out)
{
	struct stele_sim *sim = calloc(1, sizeof(*sim));
	if (!sim)
		return stele_fail(STELE_ERR_NOMEM, "simulation: out of memory");
	sim->seed = seed;
	stele_prng_init(&sim->prng, seed);
	stele_sha256_init(&sim->log);
	sim->faults.disk_ns = 100 * MICROSECOND;
	sim->faults.net_ns = 200 * MICROSECOND;
	sim->net = stele_sim_net_create(sim);
	*out = sim;
	return STELE_OK;
}

void stele_sim_destroy(struct stele_sim *sim)
{
	if (!sim)
		return;
	assert(!sim->envs);
	stele_sim_net_destroy(sim->net);
	for (uint32_t i = 0; i < sim->events_n; i++)
		free(sim->events[i]);
	free(sim->events);
	while (sim->machines) {
		struct sim_machine *machine = sim->machines;
		sim->machines = machine->next;
		stele_sim_disk_destroy(machine->disk);
		free(machine);
	}
	free(sim);
}

bool stele_sim_step(struct stele_sim *sim)
{
	struct sim_event *event = stele_sim_pop(sim);
	if (!event)
		return false;
	if (event->held) { /* only what stopped machines wait for is left */
		stele_sim_hold(sim, event);
		return false;
	}
	sim->now = event->at;
	if (event->env && event->env->machine->stopped) {
		stele_sim_hold(sim, event);
		return true;
	}
	event->fire(sim, event);
	free(event);
	return true;
}

bool stele_sim_run(struct stele_sim *sim, bool (*done)(void *ctx), void *ctx, uint64_t limit_ns)
{
	uint64_t end = limit_ns < UINT64_MAX - sim->now ? sim->now + limit_ns : UINT64_MAX;
	while (!done(ctx)) {
		if (sim->events_n == 0 || sim->events[0]->at > end) {
			sim->now = end;
			return false;
		}
		(void)stele_sim_step(sim);
	}
	return true;
}

uint64_t stele_sim_now(const struct stele_sim *sim)
{
	return sim->now;
}

uint64_t stele_sim_random(struct stele_sim *sim)
{
	return stele_prng_u64(&sim->prng);
}

uint64_t stele_sim_seed(const struct stele_sim *sim)
{
	return sim->seed;
}

void stele_sim_log_hash(const struct stele_sim *sim, struct stele_hash *out)
{
	stele_sha256_value(&sim->log, out);
}
