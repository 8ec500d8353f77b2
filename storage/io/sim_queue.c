/* The simulator's queue of events, a binary heap, and the log that its events are folded into. */
#include <stdlib.h>

#include "storage/io/sim_world.h"

void *stele_sim_alloc(size_t len)
{
	void *p = calloc(1, len);
	if (!p)
		abort();
	return p;
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void put(struct stele_sim *sim, uint32_t i, struct sim_event *event)
{
	sim->events[i] = event;
	event->heap = i;
}

/* Moves the event at i to where it belongs. */
static void settle(struct stele_sim *sim, uint32_t i)
{
	struct sim_event *event = sim->events[i];
	while (i > 0 && before(event, sim->events[(i - 1) / 2])) {
		put(sim, i, sim->events[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child + 1 < sim->events_n && before(sim->events[child + 1], sim->events[child]))
			child++;
		if (child >= sim->events_n || !before(sim->events[child], event))
			break;
		put(sim, i, sim->events[child]);
		i = child;
	}
	put(sim, i, event);
}

static void enqueue(struct stele_sim *sim, struct sim_event *event)
{
	if (sim->events_n == sim->events_cap) {
		uint32_t cap = sim->events_cap ? 2 * sim->events_cap : 64;
		sim->events = realloc(sim->events, cap * sizeof(sim->events[0]));
		if (!sim->events)
			abort();
		sim->events_cap = cap;
	}
	put(sim, sim->events_n++, event);
	settle(sim, event->heap);
}

struct sim_event *stele_sim_schedule(struct stele_sim *sim, uint64_t delay_ns,
                                     void (*fire)(struct stele_sim *sim, struct sim_event *event),
                                     void *owner)
{
	struct sim_event *event = stele_sim_alloc(sizeof(*event));
	event->at = delay_ns < UINT64_MAX - sim->now ? sim->now + delay_ns : UINT64_MAX;
	event->seq = sim->seq++;
	event->fire = fire;
	event->owner = owner;
	enqueue(sim, event);
	return event;
}

static void dequeue(struct stele_sim *sim, struct sim_event *event)
{
	uint32_t i = event->heap;
	struct sim_event *last = sim->events[--sim->events_n];
	if (last == event)
		return;
	put(sim, i, last);
	settle(sim, i);
}

struct sim_event *stele_sim_pop(struct stele_sim *sim)
{
	if (sim->events_n == 0)
		return NULL;
	struct sim_event *event = sim->events[0];
	dequeue(sim, event);
	return event;
}

void stele_sim_unschedule(struct stele_sim *sim, struct sim_event *event)
{
	dequeue(sim, event);
	free(event);
}

/* Numbered anew, so that held events keep the order in which they came up. */
void stele_sim_hold(struct stele_sim *sim, struct sim_event *event)
{
	if (!event->held)
		event->seq = sim->seq++;
	event->at = UINT64_MAX;
	event->held = true;
	enqueue(sim, event);
}

void stele_sim_release(struct stele_sim *sim, const struct sim_machine *machine)
{
	/* An event that is moved up changes places only with such as are above it, which were
	 * looked at before. */
	for (uint32_t i = 0; i < sim->events_n; i++) {
		struct sim_event *event = sim->events[i];
		if (!event->held || event->env->machine != machine)
			continue;
		event->held = false;
		event->at = sim->now;
		settle(sim, i);
	}
}

void stele_sim_note(struct stele_sim *sim, const struct sim_machine *machine, enum sim_note note,
                    uint64_t a, uint64_t b)
{
	uint8_t line[40];
	struct stele_writer w = stele_writer(line, sizeof(line));
	stele_write_le32(&w, note);
	stele_write_le32(&w, machine ? machine->id : 0);
	stele_write_le64(&w, sim->now);
	stele_write_le64(&w, a);
	stele_write_le64(&w, b);
	stele_sha256_update(&sim->log, line, stele_written(&w));
}

uint64_t stele_sim_around(struct stele_sim *sim, uint64_t mean)
{
	return mean / 10 + (mean ? stele_prng_below(&sim->prng, mean / 5 * 9 + 1) : 0);
}
