/* What befalls nodes, disks, networks and clients. At most t disks are unwell at a time (a harsh
 * life: more may be away), and none loses what a promise still needs. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/life.h"

static uint32_t any_disk(struct life *l)
{
	return (uint32_t)life_random(l, LIFE_NODES);
}

/* May one more disk go away, or this one lose something? */
static bool may_go(const struct life *l, uint32_t i)
{
	bool unwell = life_away(l, i) || l->disk[i].lost_at || l->disk[i].lies;
	return unwell || life_unwell(l) < (l->harsh ? LIFE_T + 2 : LIFE_T);
}

static bool may_lose(const struct life *l, uint32_t i)
{
	bool unwell = life_away(l, i) || l->disk[i].lost_at || l->disk[i].lies;
	return life_may_lose(l, i) && (unwell || life_unwell(l) < LIFE_T);
}

/* ---- nodes ---- */

static void stop(struct life *l, uint32_t i)
{
	life_goes_away(l, i);
	l->disk[i].stopped = false;
	world_stop_node(&l->w, i, life_random(l, 2) == 0);
}

/* An operator's last resort for a disk that does not come up: a new one. */
static void start(struct life *l, uint32_t i)
{
	if (world_start_node(&l->w, i))
		return;
	if (l->disk[i].sick)
		return;
	if (!l->disk[i].lost_at || !life_may_lose(l, i)) {
		life_broke(l, "%s does not start: %s", l->w.node[i].machine, stele_detail());
		return;
	}
	life_loses(l, i);
	world_wipe(&l->w, i, true);
	if (!world_start_node(&l->w, i))
		life_broke(l, "%s does not start on an empty disk: %s", l->w.node[i].machine,
		           stele_detail());
}

static bool is_well(const struct life_disk *d)
{
	return !d->sick && !d->stopped && !d->cut;
}

static void maybe_back(struct life *l, uint32_t i)
{
	if (world_up(&l->w, i) && is_well(&l->disk[i]))
		life_comes_back(l, i);
}

static void stop_or_start(struct life *l, uint32_t i)
{
	if (world_up(&l->w, i)) {
		if (may_go(l, i))
			stop(l, i);
		return;
	}
	start(l, i);
	maybe_back(l, i);
}

static void wipe(struct life *l, uint32_t i)
{
	if (!may_lose(l, i))
		return;
	stop(l, i);
	life_loses(l, i);
	world_wipe(&l->w, i, life_random(l, 4) == 0);
	start(l, i);
	maybe_back(l, i);
}

static void rot(struct life *l, uint32_t i)
{
	if (may_lose(l, i) && world_up(&l->w, i) && world_flip(&l->w, i))
		life_loses(l, i);
}

static void freeze(struct life *l, uint32_t i)
{
	struct life_disk *d = &l->disk[i];
	if (!world_up(&l->w, i) || (!d->stopped && !may_go(l, i)))
		return;
	d->stopped = !d->stopped;
	if (d->stopped)
		life_goes_away(l, i);
	world_say(&l->w, "%s %s", l->w.node[i].machine, d->stopped ? "freezes" : "goes on");
	stele_sim_stop(l->w.sim, l->w.node[i].machine, d->stopped);
	maybe_back(l, i);
}

/* ---- disks ---- */

static void cure(struct life *l, uint32_t i)
{
	struct life_disk *d = &l->disk[i];
	if (!d->sick)
		return;
	world_say(&l->w, "%s: its disk is well again", l->w.node[i].machine);
	stele_sim_set_faults(l->w.sim, l->w.node[i].machine, &l->well);
	d->sick = false;
	if (d->lies)
		life_loses(l, i);
	d->lies = false;
	/* a fenced disk stays so until its node starts again */
	stop(l, i);
	start(l, i);
	maybe_back(l, i);
}

static void sicken(struct life *l, uint32_t i)
{
	struct stele_sim_faults f = l->well;
	struct life_disk *d = &l->disk[i];
	if (d->sick) {
		cure(l, i);
		return;
	}
	uint64_t kind = life_random(l, 7);
	bool lies = kind >= 4;
	static const char *const what[] = {"fails reads",  "fails writes",      "is full", "stalls",
	                                   "loses writes", "misdirects writes", "rots"};
	if (!world_up(&l->w, i) || (lies ? !may_lose(l, i) : !may_go(l, i)))
		return;
	uint32_t rate = 1000u << life_random(l, 9);
	switch (kind) {
	case 0:
		f.read_error = rate;
		break;
	case 1:
		f.write_error = rate;
		break;
	case 2:
		f.no_space = rate * 2;
		break;
	case 3:
		f.stall = rate / 4;
		break;
	case 4:
		f.lost_write = rate;
		break;
	case 5:
		f.misdirected = rate;
		break;
	default:
		f.bit_rot = rate / 4;
		break;
	}
	world_say(&l->w, "%s: its disk %s, %u in a million", l->w.node[i].machine, what[kind],
	          rate);
	life_goes_away(l, i);
	d->sick = true;
	d->lies = lies;
	if (lies)
		life_loses(l, i);
	stele_sim_set_faults(l->w.sim, l->w.node[i].machine, &f);
}

/* ---- networks ---- */

static void reconnect(struct life *l, uint32_t i)
{
	if (!l->disk[i].cut)
		return;
	world_say(&l->w, "%s: its network is whole again", l->w.node[i].machine);
	stele_sim_cut(l->w.sim, l->w.node[i].machine, NULL, false);
	stele_sim_cut(l->w.sim, NULL, l->w.node[i].machine, false);
	l->disk[i].cut = false;
	maybe_back(l, i);
}

static void cut(struct life *l, uint32_t i)
{
	const char *machine = l->w.node[i].machine;
	if (l->disk[i].cut) {
		reconnect(l, i);
		return;
	}
	if (!may_go(l, i))
		return;
	uint64_t how = life_random(l, 3);
	world_say(&l->w, "%s is cut off%s", machine,
	          how == 0   ? ""
	          : how == 1 ? ", what it sends"
	                     : ", what is sent to it");
	life_goes_away(l, i);
	l->disk[i].cut = true;
	if (how != 2)
		stele_sim_cut(l->w.sim, machine, NULL, true);
	if (how != 1)
		stele_sim_cut(l->w.sim, NULL, machine, true);
}

/* ---- clients ---- */

/* Longer than the leftovers of its puts are left alone. */
static void sleep_client(struct life *l)
{
	uint32_t c = (uint32_t)life_random(l, WORLD_CLIENTS);
	if (l->asleep[c])
		return;
	uint64_t s = life_random(l, 5 * LIFE_COLLECT_AGE_S);
	for (uint32_t i = 0; i < LIFE_OPS; i++)
		l->op[i].disturbed |= l->op[i].kind != LIFE_IDLE && l->op[i].client == c;
	world_say(&l->w, "client%u falls asleep for %u s", c, (unsigned)s);
	l->asleep[c] = life_now(l) + s * LIFE_SECOND + 1;
	stele_sim_stop(l->w.sim, l->w.client[c].machine, true);
}

void life_wake(struct life *l, bool all)
{
	for (uint32_t c = 0; c < WORLD_CLIENTS; c++) {
		if (!l->asleep[c] || (!all && l->asleep[c] > life_now(l)))
			continue;
		world_say(&l->w, "client%u wakes", c);
		l->asleep[c] = 0;
		l->woke_at[c] = life_now(l);
		stele_sim_stop(l->w.sim, l->w.client[c].machine, false);
	}
}

void life_calm(struct life *l)
{
	for (uint32_t i = 0; i < LIFE_NODES && !l->failed; i++) {
		if (l->disk[i].stopped)
			freeze(l, i);
		reconnect(l, i);
		cure(l, i);
		start(l, i);
		maybe_back(l, i);
	}
	world_sleep(&l->w, 2); /* until nobody thinks anybody down any more */
}

/* ---- */

static void repair_somewhere(struct life *l)
{
	uint32_t n = 1 + (uint32_t)life_random(l, 3);
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = any_disk(l);
		if (!world_up(&l->w, i))
			continue;
		world_say(&l->w, "%s repairs", l->w.node[i].machine);
		stele_repair_now(stele_node_repair(l->w.node[i].node));
	}
}

static void scrub_somewhere(struct life *l)
{
	uint32_t i = any_disk(l);
	if (world_up(&l->w, i) &&
	    stele_scrubs_start(stele_node_scrubs(l->w.node[i].node), life_random(l, 2)) == STELE_OK)
		world_say(&l->w, "%s scrubs", l->w.node[i].machine);
}

void life_fault(struct life *l)
{
	uint32_t i = any_disk(l);
	switch (life_random(l, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		stop_or_start(l, i);
		break;
	case 4:
		wipe(l, i);
		break;
	case 5:
		rot(l, i);
		break;
	case 6:
		freeze(l, i);
		break;
	case 7:
		sicken(l, i);
		break;
	case 8:
	case 9:
		cut(l, i);
		break;
	case 10:
	case 11:
		life_kill_client(l, (uint32_t)life_random(l, WORLD_CLIENTS));
		break;
	case 12:
	case 13:
		sleep_client(l);
		break;
	case 14:
		repair_somewhere(l);
		break;
	default:
		scrub_somewhere(l);
		break;
	}
}
