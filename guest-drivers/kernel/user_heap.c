/*
 * heap: a program that manages its own memory. Cells on lists, a copying collector between two
 * halves: a collection checks every cell of its half, dead or alive, moves the live ones over and
 * gives the old half back. Under pressure it collects earlier, so it needs less. Ring 3.
 */
#include "guest-drivers/kernel/user.h"

#define LISTS 16u
#define CELL_WORDS 8u
#define LIVE_DIVISOR 8u /* live cells: an eighth of a half */
#define HALF_MIN 65536u

struct cell {
	struct cell *next;
	uint64_t id;
	uint64_t data[CELL_WORDS - 2];
};
_Static_assert(sizeof(struct cell) == 64, "one line");

struct heap {
	struct cell *half[2];
	unsigned int in;      /* which half is in use */
	uint64_t used, limit, room; /* cells */
	struct cell *roots[LISTS];
	uint64_t length[LISTS];
	uint64_t errors, id;
};

static void check(struct heap *h, struct cell *c)
{
	for (unsigned int i = 0; i < CELL_WORDS - 2; i++)
		if (c->data[i] != user_pattern(c->id, i))
			user_corrupt(&h->errors, &c->data[i], user_pattern(c->id, i), c->data[i]);
}

static void collect(struct heap *h)
{
	struct cell *from = h->half[h->in], *to = h->half[!h->in];
	uint64_t n = 0;

	for (uint64_t i = 0; i < h->used; i++)
		check(h, from + i);
	for (unsigned int l = 0; l < LISTS; l++) {
		struct cell **link = &h->roots[l];
		uint64_t length = 0;

		for (struct cell *c = *link; c; c = c->next, length++) {
			struct cell *copy = to + n++;

			*copy = *c;
			*link = copy;
			link = &copy->next;
		}
		*link = NULL;
		if (length != h->length[l])
			user_corrupt(&h->errors, &h->roots[l], h->length[l], length);
	}
	user_call(SYS_RELEASE, (uint64_t)from, h->room * sizeof(struct cell), 0);
	h->in = !h->in;
	h->used = n;
}

/* Half of what it is under pressure, a quarter more when there is none; never below twice what lives. */
static void adapt(struct heap *h)
{
	if (user_call(SYS_PRESSURE, 0, 0, 0) != AERO_PRESSURE_NONE)
		h->limit /= 2;
	else
		h->limit += h->limit / 4;
	h->limit = MAX(h->limit, h->used * 2);
	h->limit = MAX(h->limit, HALF_MIN / sizeof(struct cell));
	h->limit = MIN(h->limit, h->room);
}

static void allocate(struct heap *h, uint64_t *state)
{
	struct cell *c = h->half[h->in] + h->used++;
	uint64_t r = user_random(state);
	unsigned int l = r >> 20 & (LISTS - 1);

	c->id = h->id++;
	for (unsigned int i = 0; i < CELL_WORDS - 2; i++)
		c->data[i] = user_pattern(c->id, i);
	if (h->length[l] >= h->room / LIVE_DIVISOR / LISTS) { /* the list dies, a new one begins */
		h->roots[l] = NULL;
		h->length[l] = 0;
	}
	if (r >> 40 & 1) { /* the others are garbage at once */
		c->next = h->roots[l];
		h->roots[l] = c;
		h->length[l]++;
	} else {
		c->next = NULL;
	}
}

void user_heap(uint64_t size, uint64_t second, uint64_t third, uint64_t seed);
void user_heap(uint64_t size, uint64_t second, uint64_t third, uint64_t seed)
{
	struct heap h = { 0 };
	uint64_t half = MAX(ALIGN_DOWN(size / 2, PAGE_BYTES), (uint64_t)HALF_MIN);
	uint64_t state = seed * 0x9e3779b97f4a7c15ull | 1;

	(void)second, (void)third;
	h.half[0] = user_grow(half);
	h.half[1] = user_grow(half);
	h.room = half / sizeof(struct cell);
	h.limit = h.room;
	for (uint64_t pass = 1;; pass++) {
		while (h.used < h.limit)
			allocate(&h, &state);
		collect(&h);
		adapt(&h);
		user_call(SYS_PROGRESS, pass, h.errors, 0);
	}
}
