/* A million random steps of modelled guests under the real policy: frames conserved, floors kept, all parts
 * fit, the same inputs give the same plan; and when nobody changes his mind any more, all are served. */
#include "tests/fake/memsim.h"
#include "tests/unit/unit.h"

#define MAX_GUESTS 6u
#define STEPS      1000000u
#define CALM       1500u /* steps without a change, every EVERY */
#define EVERY      20000u

static struct memsim_guest guest[MAX_GUESTS];
static struct policy_guest view[MAX_GUESTS];
static struct policy_target target[MAX_GUESTS], again[MAX_GUESTS];
static struct policy_part scratch[MAX_GUESTS];
static struct memsim s;
static uint64_t seed;

static uint64_t roll(uint64_t below)
{
	return test_random(&seed) % below;
}

/* Its configuration; mins together leave room for the reserve, as config.c sees to. */
static void configure(struct policy_guest *v)
{
	v->memory_pages = 256 + roll(8192);
	v->min_pages = MIN(v->memory_pages, s.pool.pool_pages / (2 * s.count)) * roll(100) / 100;
	v->max_pages = v->operator_pages = v->memory_pages;
	v->shares = 1 + (uint32_t)roll(3000);
	v->dynamic = roll(4) == 0;
	v->start_pages = v->min_pages + roll(v->memory_pages - v->min_pages + 1);
	v->deadline_ns = roll(3) ? POLICY_DEADLINE_NS : roll(5) * MEMSIM_STEP_NS;
}

static void build(void)
{
	s = (struct memsim){ .guest = guest, .view = view, .target = target, .scratch = scratch,
		.count = 1 + (uint32_t)roll(MAX_GUESTS) };
	s.pool = (struct policy_pool){ .pool_pages = 2048 + roll(16384), .emergency_pages = roll(300),
		.tax_percent = (uint32_t)roll(POLICY_TAX_MAX + 1) };
	for (uint32_t i = 0; i < s.count; i++) {
		guest[i] = (struct memsim_guest){ .driver = (enum memsim_driver)roll(5) };
		configure(&guest[i].view);
		guest[i].hot_percent = roll(101);
	}
	memsim_init(&s);
}

static void change(struct memsim_guest *g)
{
	struct policy_guest *v = &g->view;

	switch (roll(6)) {
	case 0:
		v->operator_pages = v->min_pages + roll(v->memory_pages - v->min_pages + 1);
		break;
	case 1:
		v->max_pages = v->min_pages + roll(v->memory_pages - v->min_pages + 1);
		break;
	case 2:
		v->shares = 1 + (uint32_t)roll(3000);
		break;
	case 3:
		g->hot_percent = roll(101);
		break;
	case 4:
		v->cap_pages = roll(2) ? roll(v->memory_pages) : UINT64_MAX;
		break;
	default:
		g->want_pages = roll(v->memory_pages + 1);
	}
}

static uint64_t most_of(const struct policy_guest *v)
{
	return MAX(MIN(MIN(v->max_pages, v->operator_pages), v->memory_pages), v->min_pages);
}

static void check_plan(void)
{
	uint64_t parts = 0, floors = 0;
	struct policy_marks m;

	policy_marks(s.pool.pool_pages, &m);
	for (uint32_t i = 0; i < s.count; i++) {
		const struct policy_guest *v = &view[i];
		const struct policy_target *t = &target[i];
		uint64_t goal = t->balloon_target_pages + t->withheld_pages;
		assert_true(goal <= v->memory_pages - v->min_pages);
		assert_true(goal >= v->memory_pages - most_of(v));
		assert_true(t->balloon_target_pages >= v->memory_pages - most_of(v));
		assert_true(t->entitled_pages >= v->min_pages);
		assert_true(t->resident_limit_pages >= v->min_pages);
		assert_in_range(t->rate_pages, 1, v->memory_pages);
		assert_true(!t->wait_over_target || s.plan.level == POLICY_LOW);
		if (!v->deadline_ns)
			assert_int_equal(t->resident_limit_pages, UINT64_MAX);
		bool stays = !v->deadline_ns &&
			(!v->has_driver || v->backoff || v->cap_pages != UINT64_MAX);
		floors += MAX(v->min_pages, stays ? MIN(v->used_pages, most_of(v)) : 0);
		parts += t->entitled_pages;
	}
	uint64_t budget = s.pool.pool_pages - s.pool.emergency_pages - m.enter[POLICY_HARD];
	if (s.plan.level != POLICY_HIGH)
		assert_true(parts <= MAX(budget, floors));
}

static void check_same_again(enum policy_level before)
{
	struct policy_pool pool = s.pool;
	struct policy_plan plan = { .guest = again };

	pool.level = before;
	memset(again, 0x5a, sizeof(again)); /* nothing of it may be an input */
	policy_step(&pool, view, s.count, scratch, &plan);
	assert_int_equal(plan.level, s.plan.level);
	assert_int_equal(plan.spare_pages, s.plan.spare_pages);
	for (uint32_t i = 0; i < s.count; i++) {
		assert_int_equal(again[i].balloon_target_pages, target[i].balloon_target_pages);
		assert_int_equal(again[i].resident_limit_pages, target[i].resident_limit_pages);
		assert_int_equal(again[i].wait_over_target, target[i].wait_over_target);
	}
}

/* Nobody waits for ever; whoever can be held to his part is. */
static void check_calm(uint64_t *waited)
{
	for (uint32_t i = 0; i < s.count; i++) {
		assert_true(guest[i].frames <= target[i].resident_limit_pages);
		/* All can be enforced, so all that is promised is there. */
		if (guest[i].wait_steps != waited[i])
			fail_msg("guest %u still waits", i);
	}
}

static bool all_enforced(void)
{
	for (uint32_t i = 0; i < s.count; i++)
		if (!guest[i].view.deadline_ns)
			return false;
	return true;
}

static void test_a_million_random_steps(void **state)
{
	uint64_t waited[MAX_GUESTS] = { 0 };
	uint32_t calm = 0;

	(void)state;
	seed = 20261121;
	for (uint32_t k = 0; k < STEPS; k++) {
		uint32_t phase = k % EVERY;
		if (!phase)
			build();
		if (phase < EVERY - CALM && roll(20) == 0)
			change(&guest[roll(s.count)]);
		if (phase == EVERY - CALM / 3)
			for (uint32_t i = 0; i < s.count; i++)
				waited[i] = guest[i].wait_steps;
		enum policy_level before = s.pool.level;
		memsim_step(&s);
		const char *wrong = memsim_check(&s);
		if (wrong)
			fail_msg("step %u: %s", k, wrong);
		check_plan();
		if (k % 16 == 0)
			check_same_again(before);
		if (phase == EVERY - 1 && all_enforced())
			check_calm(waited), calm++;
	}
	assert_true(calm > STEPS / EVERY / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_million_random_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
