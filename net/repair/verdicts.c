/* An open-addressing table of 12-byte names; when it has grown too large it is emptied. Asks
 * nobody: look.c does. */
#include "net/repair/verdicts.h"

#include <stdlib.h>

#define NAME      12u
#define SLOTS     256u       /* to begin with; a power of two */
#define SLOTS_MAX (1u << 21) /* half of them filled: a million deposits, 26 MB */

struct known {
	uint8_t name[NAME];
	uint8_t verdict; /* UNKNOWN: free */
};

struct stele_verdicts {
	struct known *slot;
	uint32_t slots, n;
};

enum stele_verdict stele_tally_verdict(const struct stele_tally *t, uint32_t tolerance)
{
	if (t->records > 0)
		return STELE_VERDICT_LIVE;
	if (t->n > 0 && t->refusals == t->n)
		return STELE_VERDICT_DEAD;
	return t->n - t->answered <= tolerance ? STELE_VERDICT_OPEN : STELE_VERDICT_UNKNOWN;
}

enum stele_err stele_verdicts_create(struct stele_verdicts **out)
{
	struct stele_verdicts *v = calloc(1, sizeof(*v));
	struct known *slot = calloc(SLOTS, sizeof(*slot));
	if (!v || !slot) {
		free(v);
		free(slot);
		return stele_fail(STELE_ERR_NOMEM, "verdicts: out of memory");
	}
	v->slot = slot;
	v->slots = SLOTS;
	*out = v;
	return STELE_OK;
}

void stele_verdicts_destroy(struct stele_verdicts *v)
{
	if (v)
		free(v->slot);
	free(v);
}

/* Where it is, or where it would be. Hashes need no hashing. */
static struct known *find(const struct stele_verdicts *v, const uint8_t *name)
{
	uint32_t i = stele_le32(name) & (v->slots - 1);
	while (v->slot[i].verdict && memcmp(v->slot[i].name, name, NAME) != 0)
		i = (i + 1) & (v->slots - 1);
	return &v->slot[i];
}

/* Moves what is worth keeping into a table of that size. False: no memory, nothing changed. */
static bool rebuild(struct stele_verdicts *v, uint32_t slots, bool (*keep)(const struct known *k))
{
	struct known *old = v->slot, *grown = calloc(slots, sizeof(*grown));
	uint32_t old_slots = v->slots;
	if (!grown)
		return false;
	v->slot = grown;
	v->slots = slots;
	v->n = 0;
	for (uint32_t i = 0; i < old_slots; i++)
		if (old[i].verdict && keep(&old[i])) {
			*find(v, old[i].name) = old[i];
			v->n++;
		}
	free(old);
	return true;
}

static bool any(const struct known *k)
{
	(void)k;
	return true;
}

static bool not_open(const struct known *k)
{
	return k->verdict != STELE_VERDICT_OPEN;
}

static bool dead(const struct known *k)
{
	return k->verdict == STELE_VERDICT_DEAD;
}

static void empty(struct stele_verdicts *v)
{
	memset(v->slot, 0, v->slots * sizeof(*v->slot));
	v->n = 0;
}

static bool make_room(struct stele_verdicts *v)
{
	if (2 * (v->n + 1) <= v->slots)
		return true;
	if (v->slots < SLOTS_MAX)
		return rebuild(v, 2 * v->slots, any);
	empty(v);
	return true;
}

enum stele_verdict stele_verdicts_get(const struct stele_verdicts *v,
                                      const struct stele_hash *deposit)
{
	return v ? find(v, deposit->b)->verdict : STELE_VERDICT_UNKNOWN;
}

void stele_verdicts_learn(struct stele_verdicts *v, const struct stele_hash *deposit,
                          enum stele_verdict verdict)
{
	if (verdict == STELE_VERDICT_UNKNOWN || !make_room(v))
		return;
	struct known *k = find(v, deposit->b);
	v->n += !k->verdict;
	memcpy(k->name, deposit->b, NAME);
	k->verdict = (uint8_t)verdict;
}

void stele_verdicts_forget_open(struct stele_verdicts *v)
{
	if (!rebuild(v, v->slots, not_open))
		empty(v);
}

void stele_verdicts_forget(struct stele_verdicts *v)
{
	if (!rebuild(v, v->slots, dead))
		empty(v);
}
