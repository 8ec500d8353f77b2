/* Who goes next: see fair.h. */
#include "storage/fair.h"

#include <assert.h>

#define SCALE     256u               /* of tags: a byte of weight 1 */
#define LINGER_NS UINT64_C(10000000) /* a client between two requests is still there */

static const uint32_t weight[STELE_CLASSES] = {8, 3, 1};

/* A class begins another turn while it holds less. Of reads, what a disk needs to be busy (32 of a cell and their fronts,
 * and some) and no more; a piece is a twelfth of it, so that background has its share with one at a time. A write is held
 * through look-up and index, too. */
static const struct {
	uint64_t bytes;
	uint32_t turns;
} most[STELE_LANES] = {{12 * STELE_FAIR_PIECE, 128}, {16u << 20, 4096}};

void stele_fair_init(struct stele_fair *f)
{
	*f = (struct stele_fair){0};
	for (uint32_t l = 0; l < STELE_LANES; l++)
		for (uint32_t c = 0; c < STELE_CLASSES; c++)
			f->lane[l].of[c].tail = &f->lane[l].of[c].head;
}

/* Tags wrap around. */
static bool is_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return is_before(a, b) ? b : a;
}

static uint64_t cost(uint64_t bytes, enum stele_class class)
{
	return bytes * SCALE / weight[class];
}

static bool clients_there(const struct stele_fair *f, uint64_t now_ns)
{
	for (uint32_t l = 0; l < STELE_LANES; l++)
		if (f->lane[l].of[STELE_CLIENT].held || f->lane[l].of[STELE_CLIENT].head)
			return true;
	return f->client_seen && now_ns - f->client_ns < LINGER_NS;
}

static void note_client(struct stele_fair *f, const struct stele_turn *t, uint64_t now_ns)
{
	if (t->class != STELE_CLIENT)
		return;
	f->client_ns = now_ns;
	f->client_seen = true;
}

void stele_fair_add(struct stele_fair *f, struct stele_turn *t, uint64_t now_ns)
{
	assert(t->class < STELE_CLASSES && t->lane < STELE_LANES);
	struct stele_fair_lane *l = &f->lane[t->lane];
	if (!l->of[t->class].head)
		l->of[t->class].tag = later(l->of[t->class].tag, l->now);
	t->next = NULL;
	*l->of[t->class].tail = t;
	l->of[t->class].tail = &t->next;
	note_client(f, t, now_ns);
}

/* Of clients only their own turns count: others may hold large ones from before they came. */
static bool has_room(const struct stele_fair *f, int class, enum stele_lane lane)
{
	const struct stele_fair_lane *l = &f->lane[lane];
	uint64_t bytes = l->of[STELE_CLIENT].bytes;
	uint32_t held = l->of[STELE_CLIENT].held;
	for (int c = STELE_CLIENT + 1; class != STELE_CLIENT && c < STELE_CLASSES; c++) {
		bytes += l->of[c].bytes;
		held += l->of[c].held;
	}
	return bytes < most[lane].bytes && held < most[lane].turns;
}

/* The class has the least tag of those that wait. Does its turn begin now? */
static bool may_go(const struct stele_fair *f, int class, enum stele_lane lane, uint64_t now_ns)
{
	const struct stele_fair_lane *l = &f->lane[lane];
	if (f->off)
		return true;
	if (!has_room(f, class, lane))
		return false;
	if (class == STELE_CLIENT || l->of[STELE_CLIENT].head || !clients_there(f, now_ns) ||
	    (!l->of[STELE_REPAIR].held && !l->of[STELE_BACKGROUND].held))
		return true;
	/* not ahead of where a client would come in */
	return !is_before(later(l->of[STELE_CLIENT].tag, l->now), l->of[class].tag);
}

static struct stele_turn *begin(struct stele_fair_lane *l, int class)
{
	struct stele_turn *t = l->of[class].head;
	l->of[class].head = t->next;
	if (!t->next)
		l->of[class].tail = &l->of[class].head;
	l->of[class].held++;
	l->of[class].bytes += t->bytes;
	l->now = later(l->now, l->of[class].tag);
	l->of[class].tag += cost(t->bytes, t->class);
	return t;
}

struct stele_turn *stele_fair_next(struct stele_fair *f, uint64_t now_ns)
{
	for (int i = 0; i < STELE_LANES; i++) {
		struct stele_fair_lane *l = &f->lane[i];
		int least = -1;
		for (int c = 0; c < STELE_CLASSES; c++)
			if (l->of[c].head &&
			    (least < 0 || is_before(l->of[c].tag, l->of[least].tag)))
				least = c;
		if (least >= 0 && may_go(f, least, (enum stele_lane)i, now_ns))
			return begin(l, least);
	}
	return NULL;
}

void stele_fair_end(struct stele_fair *f, struct stele_turn *t, uint64_t bytes, uint64_t now_ns)
{
	struct stele_fair_lane *l = &f->lane[t->lane];
	assert(l->of[t->class].held && l->of[t->class].bytes >= t->bytes);
	l->of[t->class].held--;
	l->of[t->class].bytes -= t->bytes;
	l->of[t->class].tag += cost(bytes, t->class) - cost(t->bytes, t->class);
	note_client(f, t, now_ns);
}

uint64_t stele_fair_held(const struct stele_fair *f, enum stele_lane lane)
{
	uint64_t bytes = 0;
	for (int c = 0; c < STELE_CLASSES; c++)
		bytes += f->lane[lane].of[c].bytes;
	return bytes;
}

bool stele_fair_whole(const struct stele_fair *f, enum stele_class class, uint64_t now_ns)
{
	return f->off || class == STELE_CLIENT || !clients_there(f, now_ns);
}
