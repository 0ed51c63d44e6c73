/*
 * A small explicit-state model checker: every interleaving of a few processes, breadth first over
 * states, each seen once. A state is a struct without padding or pointers. An action is one step
 * of one process; a step that cannot be made now (a lock that is held, a wait) is refused.
 *
 * Memory is x86's (Intel SDM volume 3, "Memory Ordering"; Sewell et al., x86-TSO, CACM 2010): each
 * process has a FIFO of its stores, which it reads back itself and which reach memory any time later;
 * a fence or a locked instruction waits until it is empty.
 */
#pragma once

#include "tests/unit/unit.h"

#include <stdbool.h>

struct model {
	size_t bytes;
	unsigned actions;
	bool (*step)(void *state, unsigned action); /* false: not enabled */
	const char *(*wrong)(const void *state);    /* NULL: all is well */
	const char *(*stuck)(const void *state);    /* nothing is enabled: NULL if that is right */
};

struct verdict {
	uint64_t states;
	const char *error; /* NULL: none */
};

struct state_set {
	uint8_t *all;   /* the states in the order found; the search's stack indexes it */
	uint32_t *slot; /* open addressing: index + 1 */
	uint64_t count, room, slots;
};

static inline uint64_t state_hash(const uint8_t *s, size_t bytes)
{
	uint64_t h = 0xcbf29ce484222325ull, word;

	for (size_t i = 0; i < bytes; i += 8) {
		word = 0;
		memcpy(&word, s + i, bytes - i < 8 ? bytes - i : 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	return h;
}

/* True if it is new. */
static inline bool state_add(struct state_set *set, const uint8_t *s, size_t bytes)
{
	uint64_t at = state_hash(s, bytes) & (set->slots - 1);

	for (; set->slot[at]; at = (at + 1) & (set->slots - 1))
		if (!memcmp(set->all + (set->slot[at] - 1) * bytes, s, bytes))
			return false;
	assert_true(set->count < set->room); /* else: the model is too large */
	memcpy(set->all + set->count * bytes, s, bytes);
	set->slot[at] = (uint32_t)++set->count;
	return true;
}

static inline struct verdict model_check(const struct model *m, const void *start)
{
	enum { SLOTS = 1 << 23 };
	struct state_set set = { .slots = SLOTS, .room = SLOTS / 2 };
	struct verdict v = { 0 };
	uint8_t now[256], next[256];

	assert_true(m->bytes <= sizeof(now));
	set.slot = calloc(set.slots, sizeof(*set.slot));
	set.all = malloc(set.room * m->bytes);
	assert_true(set.slot && set.all);
	state_add(&set, start, m->bytes);
	/* breadth first: what is found is in `all` already, so that is the queue */
	for (uint64_t done = 0; done < set.count && !v.error; done++) {
		bool moved = false;

		memcpy(now, set.all + done * m->bytes, m->bytes);
		v.error = m->wrong(now);
		for (unsigned a = 0; a < m->actions && !v.error; a++) {
			memcpy(next, now, m->bytes);
			if (!m->step(next, a))
				continue;
			moved = true;
			state_add(&set, next, m->bytes);
		}
		if (!moved && !v.error)
			v.error = m->stuck(now);
	}
	v.states = set.count;
	free(set.all);
	free(set.slot);
	return v;
}

#define TSO_PROCESSES 4u
#define TSO_DEPTH     4u
#define TSO_WORDS     24u

struct tso {
	uint8_t mem[TSO_WORDS];
	struct {
		uint8_t count, address[TSO_DEPTH], value[TSO_DEPTH];
	} buffer[TSO_PROCESSES];
};

static inline uint8_t tso_load(const struct tso *t, unsigned p, unsigned address)
{
	for (unsigned i = t->buffer[p].count; i-- > 0;)
		if (t->buffer[p].address[i] == address)
			return t->buffer[p].value[i];
	return t->mem[address];
}

/* False: no room, the oldest must drain first. */
static inline bool tso_store(struct tso *t, unsigned p, unsigned address, unsigned value)
{
	unsigned n = t->buffer[p].count;

	if (n == TSO_DEPTH)
		return false;
	t->buffer[p].address[n] = (uint8_t)address;
	t->buffer[p].value[n] = (uint8_t)value;
	t->buffer[p].count++;
	return true;
}

/* May a fence or locked instruction complete? */
static inline bool tso_fence(const struct tso *t, unsigned p)
{
	return t->buffer[p].count == 0;
}

/* The oldest store reaches memory; what is vacated is zeroed, so that equal states are equal bytes. */
static inline bool tso_drain(struct tso *t, unsigned p)
{
	unsigned n = t->buffer[p].count;

	if (n == 0)
		return false;
	t->mem[t->buffer[p].address[0]] = t->buffer[p].value[0];
	memmove(t->buffer[p].address, t->buffer[p].address + 1, TSO_DEPTH - 1);
	memmove(t->buffer[p].value, t->buffer[p].value + 1, TSO_DEPTH - 1);
	t->buffer[p].address[TSO_DEPTH - 1] = t->buffer[p].value[TSO_DEPTH - 1] = 0;
	t->buffer[p].count--;
	return true;
}
