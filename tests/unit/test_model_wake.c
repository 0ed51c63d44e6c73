/*
 * How a vCPU goes to sleep and is woken (docs/scheduling.md), in every interleaving: two vCPUs, two
 * CPUs that run, steal, idle and halt, two wakers that raise events. One kind of guest halts when it
 * has nothing to do, the other never leaves guest mode unless it is kicked. A wake-up that is lost shows
 * as a state where nothing moves and an event is pending. Each fence and rule is left out once.
 */
#include "tests/unit/interleave.h"

#define CPUS   2u
#define VCPUS  2u
#define WAKERS 2u
#define NONE   0xff

/* Words of memory. */
#define LOCK(c)	   (c)
#define IDLE(c)	   (CPUS + (c))
#define PENDING(v) (2 * CPUS + (v))
#define WHERE(v)   (2 * CPUS + VCPUS + (v)) /* state and CPU in one word */
#define ON(v)	   (2 * CPUS + 2 * VCPUS + (v)) /* the queue it waits on + 1; 0: none */

enum { HALTED, RUNNABLE, RUNNING };
#define AT(state, c) ((unsigned)(state) << 4 | (c))

enum { NO_KICK, KICK_SENT, KICK_HERE };

enum cpu_at {
	PICK, PICKED, RUN_UNLOCK, RUN_FENCE, CHECK, IN_GUEST, TAKE, /* running one */
	HALT_LOCK, HALT_MARK, HALT_FENCE, HALT_CHECK, HALT_STAY, HALT_UNLOCK, /* it sleeps */
	NOBODY, STEAL_FIRST, STEAL_SECOND, STEAL_LOOK, STEAL_SET, STEAL_UNLOCK, STEAL_UNLOCK2,
	IDLE_SET, IDLE_FENCE, IDLE_CHECK, IDLE_HALT, IDLE_CLEAR
};
enum waker_at { RAISE, LOOK, LOCK_IT, AGAIN, QUEUE, GIVE_BACK, CLAIM, CLAIM_OTHER, UNLOCK_RETRY, DONE };

static struct {
	bool spins[VCPUS]; /* never halts of itself */
	bool ready[VCPUS]; /* waits to run at the start, without an event */
	uint8_t wakes[WAKERS][4];
	/* what is left out */
	bool no_run_fence, no_halt_recheck, no_halt_fence, no_idle_fence, no_idle_recheck,
		no_wake_fence, no_kick_running, no_wake_recheck, own_idle_only;
} plan;

struct state {
	struct tso t;
	struct {
		uint8_t at, v, kicked;
	} cpu[CPUS];
	struct {
		uint8_t at, op, seen;
	} waker[WAKERS];
	uint8_t twice;
};

static bool take_lock(struct state *s, unsigned p, unsigned c)
{
	if (!tso_fence(&s->t, p) || s->t.mem[LOCK(c)])
		return false;
	s->t.mem[LOCK(c)] = 1;
	return true;
}

static void kick(struct state *s, unsigned c)
{
	if (s->cpu[c].kicked == NO_KICK)
		s->cpu[c].kicked = KICK_SENT;
}

static bool take_kick(struct state *s, unsigned c)
{
	if (s->cpu[c].kicked != KICK_HERE)
		return false;
	s->cpu[c].kicked = NO_KICK;
	return true;
}

static bool go(uint8_t *at, unsigned to, bool ok)
{
	if (ok)
		*at = (uint8_t)to;
	return ok;
}

static bool store(struct state *s, unsigned p, unsigned address, unsigned value)
{
	return tso_store(&s->t, p, address, value);
}

/* Somebody waiting on queue c, or NONE. */
static uint8_t on_queue(const struct state *s, unsigned p, unsigned c)
{
	for (uint8_t v = 0; v < VCPUS; v++)
		if (tso_load(&s->t, p, ON(v)) == c + 1)
			return v;
	return NONE;
}

static bool run(struct state *s, unsigned c)
{
	uint8_t *at = &s->cpu[c].at, v = s->cpu[c].v;

	switch (*at) {
	case PICK:
		if (!take_lock(s, c, c))
			return false;
		s->cpu[c].v = on_queue(s, c, c);
		*at = s->cpu[c].v == NONE ? NOBODY : PICKED;
		return true;
	case PICKED:
		return store(s, c, ON(v), 0) &&
			go(at, RUN_UNLOCK, store(s, c, WHERE(v), AT(RUNNING, c)));
	case RUN_UNLOCK:
		return go(at, RUN_FENCE, store(s, c, LOCK(c), 0));
	case RUN_FENCE:
		return go(at, CHECK, plan.no_run_fence || tso_fence(&s->t, c));
	case CHECK: /* interrupts off from here on */
		*at = tso_load(&s->t, c, PENDING(v)) ? TAKE : IN_GUEST;
		return true;
	case TAKE:
		if (!tso_fence(&s->t, c))
			return false;
		s->t.mem[PENDING(v)] = 0;
		*at = CHECK;
		return true;
	default: /* IN_GUEST */
		if (take_kick(s, c))
			*at = CHECK;
		else if (!plan.spins[v])
			*at = HALT_LOCK;
		else
			return false;
		return true;
	}
}

static bool halt(struct state *s, unsigned c)
{
	uint8_t *at = &s->cpu[c].at, v = s->cpu[c].v;

	switch (*at) {
	case HALT_LOCK:
		return go(at, HALT_MARK, take_lock(s, c, c));
	case HALT_MARK:
		return go(at, HALT_FENCE, store(s, c, WHERE(v), AT(HALTED, c)));
	case HALT_FENCE:
		return go(at, HALT_CHECK, plan.no_halt_fence || tso_fence(&s->t, c));
	case HALT_CHECK:
		*at = tso_load(&s->t, c, PENDING(v)) && !plan.no_halt_recheck ? HALT_STAY :
										HALT_UNLOCK;
		return true;
	case HALT_STAY:
		return go(at, RUN_UNLOCK, store(s, c, WHERE(v), AT(RUNNING, c)));
	default: /* HALT_UNLOCK */
		if (!store(s, c, LOCK(c), 0))
			return false;
		s->cpu[c].v = NONE;
		*at = PICK;
		return true;
	}
}

static bool steal(struct state *s, unsigned c)
{
	uint8_t *at = &s->cpu[c].at;
	unsigned other = 1 - c;

	switch (*at) {
	case NOBODY: /* give the lock back; then look at the other queue without it */
		return go(at, on_queue(s, c, other) == NONE ? IDLE_SET : STEAL_FIRST,
			store(s, c, LOCK(c), 0));
	case STEAL_FIRST: /* in the order of CPU numbers */
		return go(at, STEAL_SECOND, take_lock(s, c, 0));
	case STEAL_SECOND:
		return go(at, STEAL_LOOK, take_lock(s, c, 1));
	case STEAL_LOOK:
		s->cpu[c].v = on_queue(s, c, other);
		*at = s->cpu[c].v == NONE ? STEAL_UNLOCK : STEAL_SET;
		return true;
	case STEAL_SET:
		return store(s, c, ON(s->cpu[c].v), c + 1) &&
			go(at, STEAL_UNLOCK,
				store(s, c, WHERE(s->cpu[c].v), AT(RUNNABLE, c)));
	case STEAL_UNLOCK:
		s->cpu[c].v = NONE;
		return go(at, STEAL_UNLOCK2, store(s, c, LOCK(1), 0));
	default:
		return go(at, PICK, store(s, c, LOCK(0), 0));
	}
}

static bool idle(struct state *s, unsigned c)
{
	uint8_t *at = &s->cpu[c].at;

	switch (*at) {
	case IDLE_SET:
		return go(at, IDLE_FENCE, store(s, c, IDLE(c), 1));
	case IDLE_FENCE:
		return go(at, IDLE_CHECK, plan.no_idle_fence || tso_fence(&s->t, c));
	case IDLE_CHECK: /* every queue it may take from; interrupts off until the HLT */
		*at = plan.no_idle_recheck ||
				(on_queue(s, c, c) == NONE && on_queue(s, c, 1 - c) == NONE) ?
			IDLE_HALT :
			IDLE_CLEAR;
		return true;
	case IDLE_HALT:
		return go(at, IDLE_CLEAR, take_kick(s, c));
	default:
		return go(at, PICK, store(s, c, IDLE(c), 0));
	}
}

static bool claim(struct state *s, unsigned p, unsigned c)
{
	if (!plan.no_wake_fence) { /* xchg: fence and claim in one */
		if (s->t.mem[IDLE(c)])
			kick(s, c);
		else
			return false;
		s->t.mem[IDLE(c)] = 0;
		return true;
	}
	if (!tso_load(&s->t, p, IDLE(c)))
		return false;
	kick(s, c);
	return true;
}

static bool look(struct state *s, unsigned w, unsigned v)
{
	uint8_t seen = tso_load(&s->t, CPUS + w, WHERE(v));

	s->waker[w].seen = seen & 15;
	s->waker[w].at = seen >> 4 == HALTED ? LOCK_IT : DONE;
	if (seen >> 4 == RUNNING && !plan.no_kick_running)
		kick(s, seen & 15);
	return true;
}

static bool wake(struct state *s, unsigned w)
{
	unsigned p = CPUS + w, c = s->waker[w].seen;
	uint8_t *at = &s->waker[w].at, named = plan.wakes[w][s->waker[w].op];
	unsigned v = named - 1u;

	if (named == 0)
		return false;
	switch (*at) {
	case RAISE:
		if (!tso_fence(&s->t, p))
			return false;
		s->t.mem[PENDING(v)] = 1;
		*at = LOOK;
		return true;
	case LOOK:
		return look(s, w, v);
	case LOCK_IT:
		return go(at, AGAIN, take_lock(s, p, c));
	case AGAIN:
		*at = tso_load(&s->t, p, WHERE(v)) == AT(HALTED, c) || plan.no_wake_recheck ?
			QUEUE :
			UNLOCK_RETRY;
		return true;
	case UNLOCK_RETRY:
		return go(at, LOOK, store(s, p, LOCK(c), 0));
	case QUEUE:
		if (tso_load(&s->t, p, ON(v)) || tso_load(&s->t, p, WHERE(v)) >> 4 != HALTED)
			s->twice = 1;
		return store(s, p, WHERE(v), AT(RUNNABLE, c)) &&
			go(at, GIVE_BACK, store(s, p, ON(v), c + 1));
	case GIVE_BACK:
		return go(at, CLAIM, store(s, p, LOCK(c), 0));
	case CLAIM:
		if (!plan.no_wake_fence && !tso_fence(&s->t, p))
			return false;
		*at = claim(s, p, c) || plan.own_idle_only ? DONE : CLAIM_OTHER;
		return true;
	case CLAIM_OTHER:
		if (!plan.no_wake_fence && !tso_fence(&s->t, p))
			return false;
		claim(s, p, 1 - c);
		*at = DONE;
		return true;
	default: /* DONE: the next one */
		s->waker[w].seen = 0;
		s->waker[w].op++;
		*at = RAISE;
		return true;
	}
}

static bool cpu_step(struct state *s, unsigned c)
{
	uint8_t at = s->cpu[c].at;

	return at >= IDLE_SET	? idle(s, c) :
		at >= NOBODY	? steal(s, c) :
		at >= HALT_LOCK ? halt(s, c) :
				  run(s, c);
}

/*
 * Steps that nobody else can see or hinder: a store into the own buffer, a fence with nothing to wait
 * for. They are made at once with the step before, which leaves out no order that matters.
 */
static bool is_private(const struct state *s, unsigned p)
{
	static const bool of_cpu[] = {
		[PICKED] = true, [RUN_UNLOCK] = true, [RUN_FENCE] = true, [HALT_MARK] = true,
		[HALT_FENCE] = true, [HALT_STAY] = true, [HALT_UNLOCK] = true, [STEAL_SET] = true,
		[STEAL_UNLOCK] = true, [STEAL_UNLOCK2] = true, [IDLE_SET] = true,
		[IDLE_FENCE] = true, [IDLE_CLEAR] = true,
	};
	static const bool of_waker[] = { [UNLOCK_RETRY] = true, [GIVE_BACK] = true, [DONE] = true };

	return p < CPUS ? of_cpu[s->cpu[p].at] : of_waker[s->waker[p - CPUS].at];
}

static bool process_step(struct state *s, unsigned p)
{
	return p < CPUS ? cpu_step(s, p) : wake(s, p - CPUS);
}

static bool step(void *state, unsigned action)
{
	struct state *s = state;
	unsigned p = action % (CPUS + WAKERS), what = action / (CPUS + WAKERS);

	if (what == 2) { /* the IPI arrives */
		if (p >= CPUS || s->cpu[p].kicked != KICK_SENT)
			return false;
		s->cpu[p].kicked = KICK_HERE;
		return true;
	}
	if (what == 0 ? !process_step(s, p) : !tso_drain(&s->t, p))
		return false;
	for (bool more = true; more && is_private(s, p);) {
		struct state before = *s;

		more = process_step(s, p);
		if (!more)
			*s = before;
	}
	return true;
}

static const char *wrong(const void *state)
{
	const struct state *s = state;

	if (s->twice)
		return "queued twice";
	if (s->cpu[0].at <= HALT_STAY && s->cpu[0].v != NONE && s->cpu[0].v == s->cpu[1].v &&
		s->cpu[1].at <= HALT_STAY)
		return "runs twice";
	return NULL;
}

/* The wakers are through, and nothing moves: nobody may have an event pending or wait to run. */
static const char *stuck(const void *state)
{
	const struct state *s = state;

	for (unsigned w = 0; w < WAKERS; w++)
		if (plan.wakes[w][s->waker[w].op])
			return "deadlock";
	for (unsigned v = 0; v < VCPUS; v++) {
		if (s->t.mem[PENDING(v)])
			return "lost wake-up";
		if (s->t.mem[ON(v)])
			return "waits while a CPU idles";
	}
	for (unsigned c = 0; c < CPUS; c++)
		if (s->cpu[c].at != IN_GUEST && s->cpu[c].at != IDLE_HALT)
			return "deadlock";
	return NULL;
}

static const uint8_t apart[WAKERS][4] = { { 1 }, { 2 } }, same[WAKERS][4] = { { 1 }, { 1 } },
		     crossed[WAKERS][4] = { { 1, 2 }, { 2, 1 } }, again[WAKERS][4] = { { 1, 1, 1 } };

/* Who wakes whom: the number of the vCPU, from 1. */
static void set_plan(const uint8_t wakes[WAKERS][4], bool spin0, bool spin1)
{
	memset(&plan, 0, sizeof(plan));
	plan.spins[0] = spin0;
	plan.spins[1] = spin1;
	memcpy(plan.wakes, wakes, sizeof(plan.wakes));
}

/* Both asleep, or waiting, on CPU 0; both CPUs look for work. */
static void expect(const char *name, const char *error)
{
	const struct model m = { sizeof(struct state), 3 * (CPUS + WAKERS), step, wrong, stuck };
	struct state s;

	memset(&s, 0, sizeof(s));
	for (unsigned v = 0; v < VCPUS; v++) {
		s.t.mem[WHERE(v)] = (uint8_t)AT(plan.ready[v] ? RUNNABLE : HALTED, 0);
		s.t.mem[ON(v)] = plan.ready[v];
	}
	for (unsigned c = 0; c < CPUS; c++)
		s.cpu[c].v = NONE;
	struct verdict v = model_check(&m, &s);

	printf("wake, %s: %llu states, %s\n", name, (unsigned long long)v.states,
		v.error ? v.error : "right");
	if (error) {
		assert_non_null(v.error);
		assert_string_equal(v.error, error);
	} else {
		assert_null(v.error);
	}
}

static void right(void **state)
{
	(void)state;
	set_plan(same, false, false);
	expect("one woken twice at once, halts", NULL);
	set_plan(same, true, false);
	expect("one woken twice at once, spins", NULL);
	set_plan(again, false, false);
	expect("one woken three times, halts", NULL);
	set_plan(again, true, false);
	expect("one woken three times, spins", NULL);
	set_plan(apart, false, false);
	expect("two, both halt", NULL);
	set_plan(apart, true, true);
	expect("two, both spin", NULL);
	set_plan(crossed, true, false);
	expect("two, crossed, one spins", NULL);
	set_plan(same, true, false);
	plan.ready[0] = true;
	expect("one in its queue, woken twice at once, spins", NULL);
	set_plan(crossed, false, true);
	plan.ready[1] = true;
	expect("two, crossed, one in its queue spins", NULL);
}

#define LOST "lost wake-up"

static void fences_are_needed(void **state)
{
	(void)state;
	set_plan(same, true, false);
	plan.ready[0] = plan.no_run_fence = true;
	expect("no fence between RUNNING and the look at events", LOST);
	set_plan(same, false, false);
	plan.no_halt_fence = true;
	expect("no fence between HALTED and the look at events", LOST);
	set_plan(same, false, false);
	plan.no_idle_fence = true;
	expect("no fence between idle and the look at queues", LOST);
	set_plan(same, false, false);
	plan.no_wake_fence = true;
	expect("no fence between the queue and the look at idle", LOST);
}

static void rules_are_needed(void **state)
{
	(void)state;
	set_plan(same, false, false);
	plan.no_halt_recheck = true;
	expect("events not looked at once HALTED", LOST);
	set_plan(same, false, false);
	plan.no_idle_recheck = true;
	expect("queues not looked at once idle", LOST);
	set_plan(again, true, false);
	plan.no_kick_running = true;
	expect("no kick of who runs", LOST);
	set_plan(same, false, false);
	plan.no_wake_recheck = true;
	expect("state not looked at again with the lock", "queued twice");
	set_plan(apart, true, true);
	plan.own_idle_only = true;
	expect("only the queue's own CPU is kicked", LOST);
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
