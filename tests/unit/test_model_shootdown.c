/*
 * The shoot-down of second-level translations (docs/shootdown.md), in every interleaving: up to three
 * CPUs run guests in one or two address spaces and take pages from them. A guest never leaves guest
 * mode for good reason of its own unless its CPU has something else to do, so a kick that is lost
 * shows as a deadlock. Each fence, and each rule, is left out once: the model must then fail.
 */
#include "tests/unit/interleave.h"

#define CPUS   3u
#define SPACES 2u
#define PAGES  2u

/* Words of memory. */
#define RUNNING(c)  (c) /* space + 1; 0: not in guest mode, nor about to be */
#define GEN(s)	    (CPUS + (s))
#define SEEN(c, s)  (CPUS + SPACES + (c) * SPACES + (s))
#define TABLE(s, p) (CPUS + SPACES + CPUS * SPACES + (s) * PAGES + (p))

enum at { NEXT, ENTER, ENTER_FENCE, ENTER_LOAD, ENTER_SEEN, IN_GUEST, LEAVE, BUMP, BUMP_STORE, LOOK, WAIT };

/* What a CPU does, one after the other: RUN a space, FLUSH a page of one; it stays in its last. */
struct op {
	uint8_t kind, space, page;
};
enum { STOP, RUN, FLUSH };
#define OPS 4u
#define BIT(s, p) (1u << ((s) * PAGES + (p)))

static struct {
	struct op ops[CPUS][OPS];
	unsigned cpus;
	/* what is left out, or done wrong */
	bool no_entry_fence, no_flush_fence, load_first, no_kick, no_seen, kick_dropped, no_wait,
		seen_only;
} plan;

enum { NO_KICK, KICK_SENT, KICK_HERE }; /* an IPI takes its time */

struct state {
	struct tso t;
	struct {
		uint8_t at, op, gen, other, cached, kicked;
	} cpu[CPUS];
	uint8_t freed, bad;
};

static const struct op *op_of(const struct state *s, unsigned c)
{
	return &plan.ops[c][s->cpu[c].op];
}

static bool load_generation(struct state *s, unsigned c)
{
	unsigned space = op_of(s, c)->space;

	s->cpu[c].gen = tso_load(&s->t, c, GEN(space));
	if (s->cpu[c].gen != tso_load(&s->t, c, SEEN(c, space))) {
		s->cpu[c].cached &= (uint8_t)~(BIT(space, 0) | BIT(space, 1)); /* INVEPT: its own */
		s->cpu[c].at = ENTER_SEEN;
	} else {
		s->cpu[c].at = IN_GUEST;
	}
	return true;
}

static bool enter(struct state *s, unsigned c)
{
	unsigned space = op_of(s, c)->space;

	switch (s->cpu[c].at) {
	case ENTER:
		if (!tso_store(&s->t, c, RUNNING(c), space + 1))
			return false;
		s->cpu[c].at = ENTER_FENCE;
		return true;
	case ENTER_FENCE:
		if (!plan.no_entry_fence && !tso_fence(&s->t, c))
			return false;
		s->cpu[c].at = plan.load_first ? IN_GUEST : ENTER_LOAD;
		return true;
	case ENTER_LOAD:
		return load_generation(s, c);
	default: /* ENTER_SEEN */
		if (!tso_store(&s->t, c, SEEN(c, space), s->cpu[c].gen))
			return false;
		s->cpu[c].at = IN_GUEST;
		if (plan.kick_dropped && s->cpu[c].kicked == KICK_HERE)
			s->cpu[c].kicked = NO_KICK;
		return true;
	}
}

/* The guest's own steps: any page of its space is cached from the table, or used from the cache. */
static bool guest_touch(struct state *s, unsigned c, unsigned page)
{
	unsigned space = op_of(s, c)->space;
	unsigned bit = BIT(space, page);

	if (s->cpu[c].at != IN_GUEST || s->cpu[c].kicked == KICK_HERE || page >= PAGES)
		return false;
	if (s->cpu[c].cached & bit) {
		if (!(s->freed & bit))
			return false; /* a good use changes nothing */
		s->bad = 1;
		return true;
	}
	if (!s->t.mem[TABLE(space, page)])
		return false;
	s->cpu[c].cached |= (uint8_t)bit;
	return true;
}

/* Kicked, or its CPU has more to do: the latter is enabled any time. */
static bool leave(struct state *s, unsigned c)
{
	bool last = op_of(s, c)[1].kind == STOP;

	if (s->cpu[c].at == IN_GUEST) {
		if (s->cpu[c].kicked != KICK_HERE && last)
			return false;
		s->cpu[c].at = LEAVE;
		return true;
	}
	if (!tso_store(&s->t, c, RUNNING(c), 0))
		return false;
	/* interrupts are on for a moment: a kick is taken here */
	s->cpu[c].op += !last;
	if (s->cpu[c].kicked == KICK_HERE)
		s->cpu[c].kicked = NO_KICK;
	s->cpu[c].at = NEXT;
	s->cpu[c].gen = 0;
	return true;
}

/* To the next other CPU, or done. */
static bool next_other(struct state *s, unsigned c)
{
	s->cpu[c].other++;
	s->cpu[c].at = LOOK;
	return true;
}

static bool flush(struct state *s, unsigned c)
{
	const struct op *op = op_of(s, c);
	unsigned o = s->cpu[c].other;

	switch (s->cpu[c].at) {
	case BUMP:
		if (plan.no_flush_fence) { /* a plain load and store */
			s->cpu[c].gen = (uint8_t)(tso_load(&s->t, c, GEN(op->space)) + 1);
			s->cpu[c].at = LOOK;
			return tso_store(&s->t, c, GEN(op->space), s->cpu[c].gen);
		}
		if (!tso_fence(&s->t, c))
			return false;
		s->cpu[c].gen = ++s->t.mem[GEN(op->space)];
		s->cpu[c].at = LOOK;
		return true;
	case LOOK:
		if (o == plan.cpus) {
			s->freed |= (uint8_t)BIT(op->space, op->page);
			s->cpu[c].at = NEXT;
			s->cpu[c].op++;
			s->cpu[c].other = s->cpu[c].gen = 0;
			return true;
		}
		if (o == c || tso_load(&s->t, c, RUNNING(o)) != op->space + 1u)
			return next_other(s, c);
		if (!plan.no_kick && s->cpu[o].kicked == NO_KICK)
			s->cpu[o].kicked = KICK_SENT;
		s->cpu[c].at = WAIT;
		return true;
	default: { /* WAIT */
		bool out = tso_load(&s->t, c, RUNNING(o)) != op->space + 1u && !plan.seen_only;
		bool seen = tso_load(&s->t, c, SEEN(o, op->space)) >= s->cpu[c].gen && !plan.no_seen;

		return (out || seen || plan.no_wait) && next_other(s, c);
	}
	}
}

static bool cpu_step(struct state *s, unsigned c)
{
	const struct op *op = op_of(s, c);

	if (s->cpu[c].at == NEXT && op->kind == RUN) {
		s->cpu[c].at = ENTER;
		if (plan.load_first && load_generation(s, c)) {
			if (s->cpu[c].at == ENTER_SEEN)
				tso_store(&s->t, c, SEEN(c, op->space), s->cpu[c].gen);
			s->cpu[c].at = ENTER;
		}
		return true;
	}
	if (s->cpu[c].at == NEXT && op->kind == FLUSH) {
		s->cpu[c].at = BUMP;
		return tso_store(&s->t, c, TABLE(op->space, op->page), 0);
	}
	if (s->cpu[c].at == NEXT)
		return false;
	if (s->cpu[c].at == IN_GUEST || s->cpu[c].at == LEAVE)
		return leave(s, c);
	return s->cpu[c].at >= BUMP ? flush(s, c) : enter(s, c);
}

static bool step(void *state, unsigned action)
{
	unsigned c = action % CPUS, what = action / CPUS;

	if (c >= plan.cpus)
		return false;
	if (what == 0)
		return cpu_step(state, c);
	if (what == 1)
		return tso_drain(&((struct state *)state)->t, c);
	if (what < 2 + PAGES)
		return guest_touch(state, c, what - 2);
	if (((struct state *)state)->cpu[c].kicked != KICK_SENT)
		return false;
	((struct state *)state)->cpu[c].kicked = KICK_HERE;
	return true;
}

static const char *wrong(const void *state)
{
	return ((const struct state *)state)->bad ? "a guest used a page that was taken" : NULL;
}

static const char *stuck(const void *state)
{
	const struct state *s = state;

	for (unsigned c = 0; c < plan.cpus; c++)
		if (s->cpu[c].at != IN_GUEST && op_of(s, c)->kind != STOP)
			return "deadlock";
	return NULL;
}

static struct verdict check_plan(void)
{
	const struct model m = { sizeof(struct state), CPUS * (3 + PAGES), step, wrong, stuck };
	struct state s;

	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < SPACES; i++)
		for (unsigned p = 0; p < PAGES; p++)
			s.t.mem[TABLE(i, p)] = 1;
	return model_check(&m, &s);
}

/* Two take pages of one space at once, and run in it before and after; a third only runs. */
static const struct op one_space[CPUS][OPS] = {
	{ { RUN, 0, 0 }, { FLUSH, 0, 0 }, { RUN, 0, 0 } },
	{ { RUN, 0, 0 }, { FLUSH, 0, 1 }, { RUN, 0, 0 } },
	{ { RUN, 0, 0 } },
};
/* Each takes a page of the space that the other runs, and one of its own. */
static const struct op crossed[CPUS][OPS] = {
	{ { RUN, 0, 0 }, { FLUSH, 1, 0 }, { RUN, 1, 0 } },
	{ { RUN, 1, 0 }, { FLUSH, 0, 0 }, { RUN, 0, 0 } },
};
/* One leaves and comes back again and again while pages are taken: the wait must end. */
static const struct op coming_back[CPUS][OPS] = {
	{ { FLUSH, 0, 0 }, { FLUSH, 0, 1 }, { RUN, 0, 0 } },
	{ { RUN, 0, 0 }, { RUN, 0, 0 }, { RUN, 0, 0 } },
};
/* One leaves guest mode for good, just as it is waited for. */
static const struct op going[CPUS][OPS] = {
	{ { FLUSH, 0, 0 } },
	{ { RUN, 0, 0 }, { FLUSH, 1, 0 } },
};

static void set_ops(const struct op ops[CPUS][OPS], unsigned cpus)
{
	memset(&plan, 0, sizeof(plan));
	memcpy(plan.ops, ops, sizeof(plan.ops));
	plan.cpus = cpus;
}

static void expect(const char *name, const char *error)
{
	struct verdict v = check_plan();

	printf("shoot-down, %s: %llu states, %s\n", name, (unsigned long long)v.states,
		v.error ? v.error : "right");
	if (error)
		assert_non_null(v.error);
	if (error)
		assert_string_equal(v.error, error);
	else
		assert_null(v.error);
}

#define BROKEN	 "a guest used a page that was taken"
#define DEADLOCK "deadlock"

static void right(void **state)
{
	(void)state;
	set_ops(one_space, 3);
	expect("three CPUs in one space", NULL);
	set_ops(crossed, 2);
	expect("two spaces crossed", NULL);
	set_ops(coming_back, 2);
	expect("coming back", NULL);
	set_ops(going, 2);
	expect("going", NULL);
}

static void fences_are_needed(void **state)
{
	(void)state;
	set_ops(coming_back, 2);
	plan.no_entry_fence = true;
	expect("no fence at entry", BROKEN);
	set_ops(coming_back, 2);
	plan.no_flush_fence = true;
	expect("generation not locked", BROKEN);
}

static void rules_are_needed(void **state)
{
	(void)state;
	set_ops(coming_back, 2);
	plan.load_first = true;
	expect("generation read before running is set", BROKEN);
	set_ops(coming_back, 2);
	plan.no_wait = true;
	expect("no wait", BROKEN);
	set_ops(coming_back, 2);
	plan.no_kick = true;
	expect("no kick", DEADLOCK);
	set_ops(coming_back, 2);
	plan.no_seen = true;
	expect("waits for running only", DEADLOCK);
	set_ops(coming_back, 2);
	plan.kick_dropped = true;
	expect("kick dropped before the entry", DEADLOCK);
	set_ops(going, 2);
	plan.seen_only = true;
	expect("waits for seen only", DEADLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right),
		cmocka_unit_test(fences_are_needed),
		cmocka_unit_test(rules_are_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
