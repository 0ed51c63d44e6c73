/* The policy: deadlines, waiting, rates, the tax to the page, dynamic guests; one guest and one step at a time. */
#include "balloon/policy.h"
#include "tests/unit/unit.h"

#define MEMORY 4096u
#define POOL   16384u
#define MS     1000000ull

static struct policy_guest g[8];
static struct policy_target target[8];
static struct policy_part scratch[8];
static struct policy_plan plan = { .guest = target };
static struct policy_pool pool;
static uint32_t n;

/* `count` guests that hold `used` frames, say that all is in use, and may be forced. */
static void setup(uint32_t count, uint64_t used)
{
	n = count;
	for (uint32_t i = 0; i < n; i++)
		g[i] = (struct policy_guest){ .memory_pages = MEMORY, .min_pages = 512,
			.max_pages = MEMORY, .shares = 1000, .operator_pages = MEMORY,
			.deadline_ns = POLICY_DEADLINE_NS, .used_pages = used, .in_use_pages = used,
			.active_pages = UINT64_MAX, .cap_pages = UINT64_MAX, .has_driver = true,
			.stats_fresh = true, .full = true };
	pool = (struct policy_pool){ .pool_pages = POOL, .emergency_pages = 256 };
}

/* Four that hold four times what there is, with a tax on what is idle. */
static void setup_taxed(void)
{
	setup(4, 4096);
	for (uint32_t i = 0; i < n; i++)
		g[i].memory_pages = g[i].max_pages = g[i].operator_pages = g[i].used_pages =
			g[i].in_use_pages = 16384;
	pool.tax_percent = 75;
}

static void step(void)
{
	policy_step(&pool, g, n, scratch, &plan);
	pool.level = plan.level;
}

static uint64_t size_of(uint32_t i)
{
	return g[i].memory_pages - target[i].balloon_target_pages;
}

/* The guest's part of the next step's input, as the caller keeps it; it does as it is told if `obeys`. */
static void carry(uint32_t i, uint64_t passed_ns, bool obeys)
{
	bool moved = g[i].target_pages != target[i].balloon_target_pages;

	g[i].target_age_ns = moved ? 0 : g[i].target_age_ns + passed_ns;
	g[i].over_age_ns = target[i].over_target ? g[i].over_age_ns + passed_ns : 0;
	g[i].target_pages = target[i].balloon_target_pages;
	g[i].rate_pages = target[i].rate_pages;
	g[i].withheld_pages = target[i].withheld_pages;
	g[i].limited = target[i].resident_limit_pages != UINT64_MAX;
	if (obeys) {
		g[i].balloon_pages = g[i].target_pages;
		g[i].used_pages = MIN(g[i].used_pages, MEMORY - g[i].balloon_pages);
	}
}

/* `free_pages` make the state, the state the grace. */
static void check_deadline(uint64_t free_pages, enum policy_level level, uint32_t grace_ms)
{
	setup(6, 2700);
	for (uint32_t ms = 0; ms < 2 * grace_ms; ms += 10) {
		pool.free_pages = free_pages;
		step();
		assert_int_equal(plan.level, level);
		/* Guest 0 gives nothing; the others do as they are told. */
		assert_true(target[0].over_target);
		if (ms < grace_ms)
			assert_int_equal(target[0].resident_limit_pages, UINT64_MAX);
		else
			assert_int_equal(target[0].resident_limit_pages, size_of(0));
		for (uint32_t i = 1; i < n; i++)
			assert_int_equal(target[i].resident_limit_pages, UINT64_MAX);
		for (uint32_t i = 0; i < n; i++)
			carry(i, 10 * MS, i != 0);
	}
	/* Brought down, it stays under its limit; with its balloon in order it is let go. */
	g[0].used_pages = size_of(0);
	step();
	assert_int_equal(target[0].resident_limit_pages, size_of(0));
	carry(0, 10 * MS, true);
	step();
	assert_false(target[0].over_target);
	carry(0, 10 * MS, true);
	step();
	assert_int_equal(target[0].resident_limit_pages, UINT64_MAX);
}

static void test_deadline(void **state)
{
	(void)state;
	check_deadline(900, POLICY_SOFT, 2000);
	check_deadline(450, POLICY_HARD, 500);
	check_deadline(0, POLICY_LOW, 250);
}

/* Limited in LOW it stays limited when that has helped; another as late, but not limited then, is not. */
static void test_stays_limited_until_it_gave(void **state)
{
	(void)state;
	check_deadline(0, POLICY_LOW, 250);
	pool.free_pages = 900;
	pool.level = POLICY_SOFT;
	g[0].used_pages = MEMORY - target[0].balloon_target_pages;
	g[0].balloon_pages = 0;
	g[1].balloon_pages = 0;
	g[1].over_age_ns = g[0].over_age_ns = 400 * MS;
	step();
	assert_int_equal(plan.level, POLICY_SOFT);
	assert_int_equal(target[0].resident_limit_pages, size_of(0));
	assert_int_equal(target[1].resident_limit_pages, UINT64_MAX);
}

static void test_deadline_is_the_guests_own(void **state)
{
	(void)state;
	setup(6, 2700);
	g[0].deadline_ns = 400 * MS; /* in LOW an eighth */
	g[1].deadline_ns = 0;
	g[2].has_driver = false; /* nothing to wait for */
	for (uint32_t i = 0; i < 3; i++)
		g[i].over_age_ns = i < 2 ? 60 * MS : 0;
	step();
	assert_int_equal(target[0].resident_limit_pages, target[0].entitled_pages);
	assert_int_equal(target[1].resident_limit_pages, UINT64_MAX);
	assert_int_equal(target[2].resident_limit_pages, target[2].entitled_pages);
	assert_int_equal(target[3].resident_limit_pages, UINT64_MAX);
}

/* mem-set in the midst of plenty arrives, too. */
static void test_operators_word_is_enforced(void **state)
{
	(void)state;
	setup(2, 3000);
	pool.free_pages = POOL - 6000;
	g[0].operator_pages = 1000;
	g[0].over_age_ns = POLICY_DEADLINE_NS;
	g[0].backoff = true;
	g[0].rate_pages = 16;
	step();
	assert_int_equal(plan.level, POLICY_HIGH);
	assert_int_equal(target[0].balloon_target_pages, MEMORY - 1000); /* no rate holds it up */
	assert_int_equal(target[0].resident_limit_pages, 1000);
	assert_int_equal(target[1].resident_limit_pages, UINT64_MAX);
}

static void test_who_waits_in_the_low_state(void **state)
{
	(void)state;
	setup(6, 3100);
	g[5].used_pages = g[5].in_use_pages = 600;
	g[5].full = false;
	pool.free_pages = 350;
	pool.level = POLICY_HARD;
	step();
	assert_int_equal(plan.level, POLICY_HARD);
	for (uint32_t i = 0; i < n; i++)
		assert_false(target[i].wait_over_target);
	pool.free_pages = 200;
	step();
	assert_int_equal(plan.level, POLICY_LOW);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(target[i].wait_over_target, g[i].used_pages > size_of(i));
	assert_true(target[0].wait_over_target);
	assert_false(target[5].wait_over_target);
}

static void test_rate_follows_the_guest(void **state)
{
	uint64_t rate = MEMORY;

	(void)state;
	setup(6, 2700);
	step();
	carry(0, 10 * MS, false);
	uint64_t goal = target[0].balloon_target_pages;
	assert_true(goal > 1000);
	g[0].target_pages = 0; /* not asked yet */
	g[0].backoff = true;
	for (uint32_t k = 0; k < 10; k++) {
		step();
		rate = MAX(rate / 2, 16u);
		assert_int_equal(target[0].rate_pages, rate);
		assert_true(target[0].balloon_target_pages <= MAX(rate, g[0].target_pages));
		assert_int_equal(target[0].balloon_target_pages + target[0].withheld_pages, goal);
		g[0].rate_pages = rate;
	}
	/* It gives again: twice as far each time. */
	g[0].backoff = false;
	g[0].target_pages = g[0].balloon_pages = 16;
	g[0].withheld_pages = goal - 16;
	for (uint32_t k = 0; k < 12; k++) {
		step();
		rate = MIN(rate * 2, (uint64_t)MEMORY);
		assert_int_equal(target[0].rate_pages, rate);
		assert_int_equal(target[0].balloon_target_pages, MIN(g[0].balloon_pages + rate, goal));
		carry(0, 10 * MS, true);
	}
	assert_int_equal(g[0].balloon_pages, goal);
}

static void test_release_is_immediate(void **state)
{
	(void)state;
	setup(6, 2000);
	for (uint32_t i = 0; i < n; i++) {
		g[i].balloon_pages = g[i].target_pages = MEMORY - 2000;
		g[i].rate_pages = 16;
	}
	for (uint32_t i = 1; i < n; i++)
		g[i].in_use_pages = 800, g[i].full = false;
	g[0].pressed = true;
	g[0].wanted_pages = 2000;
	pool.free_pages = 1000;
	step();
	assert_int_equal(size_of(0), MEMORY); /* whole, in one step */
	assert_int_equal(target[0].rate_pages, MEMORY);
}

/* A + (W - A) (1 - tau): the formula, by hand. Budget 16384 - 256 - 1024 = 15104. */
static void test_tax_by_hand(void **state)
{
	(void)state;
	setup(4, 4096);
	for (uint32_t i = 0; i < n; i++) {
		g[i].memory_pages = g[i].max_pages = g[i].operator_pages = g[i].used_pages =
			g[i].in_use_pages = 16384;
		g[i].active_pages = UINT64_MAX;
	}
	pool.tax_percent = 75;
	step();
	for (uint32_t i = 0; i < n; i++)
		assert_in_range(target[i].entitled_pages, 3774, 3776);
	g[0].active_pages = 1000; /* 3 W + 1000 + (W - 1000) / 4 = 15104: W = 4416 */
	step();
	assert_in_range(target[0].entitled_pages, 1852, 1854);
	assert_in_range(target[1].entitled_pages, 4415, 4416);
	pool.tax_percent = 99; /* 3 W + 1000 + (W - 1000) / 100 = 15104: W = 4689 */
	step();
	assert_in_range(target[0].entitled_pages, 1034, 1037);
	assert_in_range(target[1].entitled_pages, 4688, 4689);
	pool.tax_percent = 0;
	step();
	for (uint32_t i = 0; i < n; i++)
		assert_in_range(target[i].entitled_pages, 3774, 3776);
	/* Growing: busy, whatever was seen. Wanted: spared, on top of what is active. */
	pool.tax_percent = 75;
	g[0].growing = true;
	step();
	assert_in_range(target[0].entitled_pages, 3774, 3776);
	g[0].growing = false;
	g[0].wanted_pages = 500;
	step(); /* 3 W + 1500 + (W - 1500) / 4 = 15104 */
	assert_in_range(target[0].entitled_pages, 2198, 2201);
}

/* A paused guest is taxed as idle, but what it holds finds no room: nobody is promised what it does not give. */
static void test_stuck_memory_is_not_promised(void **state)
{
	uint64_t budget, others;

	(void)state;
	for (uint32_t stuck = 0; stuck < 2; stuck++) {
		setup(4, 4096);
		pool.tax_percent = 75;
		pool.pool_pages = 13000;
		for (uint32_t i = 0; i < n; i++)
			g[i].used_pages = g[i].in_use_pages = 3700;
		g[0].active_pages = 100;
		g[0].has_driver = false; /* none that runs */
		g[0].stuck = stuck;
		step();
		others = target[1].entitled_pages + target[2].entitled_pages + target[3].entitled_pages;
		budget = pool.pool_pages - pool.emergency_pages;
		assert_int_equal(others + g[0].used_pages <= budget, stuck);
		assert_true(target[0].entitled_pages < 2500); /* and it owes it, all the same */
		assert_int_equal(target[0].resident_limit_pages, target[0].entitled_pages);
	}
}

/* Its part of the store counts against what the policy takes from it, not against its operator's word; half of its
 * part, and its min, it may hold in any case. */
static void test_store_counts(void **state)
{
	(void)state;
	setup(4, 4096);
	pool.pool_pages = 10000;
	g[0].has_driver = false;
	step();
	uint64_t part = target[0].resident_limit_pages;
	assert_int_equal(part, target[0].entitled_pages);
	g[0].store_pages = 300;
	step();
	assert_in_range(target[0].resident_limit_pages, part - 300, part - 298);
	g[0].store_pages = 3000;
	g[0].min_pages = 0;
	step();
	assert_in_range(target[0].resident_limit_pages, part / 2, part / 2 + 1);
	g[0].min_pages = part - 100;
	step();
	assert_int_equal(target[0].resident_limit_pages, g[0].min_pages);
	g[0].min_pages = 0;
	g[0].operator_pages = 1000;
	step();
	assert_int_equal(target[0].resident_limit_pages, 1000);
}

/* Time in which it stands still is no idleness: all of the tax is spared from half of the time on. */
static void test_who_stands_still_is_not_taxed(void **state)
{
	(void)state;
	setup_taxed();
	g[0].active_pages = 1000;
	g[0].stalled_permille = 250; /* 3 W + 1000 + (W - 1000) (1/4 + 3/8) = 15104 */
	step();
	assert_in_range(target[0].entitled_pages, 2912, 2916);
	for (uint32_t k = 0; k < 4; k++) {
		g[0].stalled_permille = (const uint32_t[]){ 500, 750, 1000, UINT32_MAX }[k];
		step();
		for (uint32_t i = 0; i < n; i++)
			assert_in_range(target[i].entitled_pages, 3774, 3776);
	}
}

/* HIGH, with `spare` pages above the mark; all balloons at 2000. */
static void setup_plenty(uint32_t count, uint64_t used, uint64_t spare)
{
	setup(count, used);
	for (uint32_t i = 0; i < n; i++) {
		g[i].target_pages = g[i].balloon_pages = 2000;
		g[i].full = false;
	}
	pool.free_pages = POOL / 16 + POOL / 24 + spare; /* the mark to leave SOFT, at this size of pool */
}

/* What a guest that is short was given, and did not take yet, is not given twice. */
static void test_what_is_promised_is_not_to_spare(void **state)
{
	(void)state;
	setup_plenty(2, 1000, 1000);
	g[0].pressed = true; /* may take 1096 more as it is */
	g[0].shares = 1;
	g[1].memory_pages = g[1].max_pages = g[1].operator_pages = POOL; /* and is due no more beside this one */
	g[1].used_pages = g[1].in_use_pages = 14000;
	g[1].target_pages = g[1].balloon_pages = 0;
	g[1].shares = 100000;
	step();
	assert_int_equal(plan.level, POLICY_HIGH);
	assert_int_equal(size_of(0), 2096);
	g[0].used_pages = g[0].in_use_pages = 2096;
	step();
	assert_in_range(size_of(0), 2096 + 240, 2096 + 260); /* a quarter of it */
}

static void test_spare_goes_by_shares(void **state)
{
	(void)state;
	setup_plenty(3, 2096, 1200);
	g[0].pressed = g[1].pressed = true;
	g[0].shares = 2000;
	step();
	assert_in_range(size_of(0), 2096 + 190, 2096 + 210);
	assert_in_range(size_of(1), 2096 + 95, 2096 + 105);
	assert_int_equal(size_of(2), 2096);
}

/* Full, or with memory out of RAM, but idle: it lacks nothing. */
static void test_idle_guest_is_not_short(void **state)
{
	(void)state;
	setup_plenty(3, 2096, 1200);
	for (uint32_t i = 0; i < n; i++)
		g[i].full = true;
	g[1].active_pages = 200;
	g[2].active_pages = 200;
	g[2].full = false;
	g[2].swapped_pages = 500;
	step();
	assert_true(size_of(0) > 2096);
	assert_int_equal(size_of(1), 2096);
	assert_int_equal(size_of(2), 2096);
	g[2].active_pages = 2000;
	step();
	assert_true(size_of(2) > 2096);
}

/* Pressed: what it holds counts as active, whatever was seen of it. 3 W + 3000 + (W - 3000) / 4 = 15104. */
static void test_pressure_lifts_the_tax(void **state)
{
	(void)state;
	setup_taxed();
	g[0].active_pages = 0;
	g[0].used_pages = g[0].in_use_pages = 3000;
	step();
	assert_in_range(target[0].entitled_pages, 1160, 1163);
	g[0].pressed = true;
	step();
	assert_in_range(target[0].entitled_pages, 3236, 3240);
}

/* A step of the tax too small for the dead band is still made, one for another reason is not. */
static void test_tax_is_taken_in_small_steps(void **state)
{
	(void)state;
	setup(4, 4096);
	pool.pool_pages = 13000;
	pool.tax_percent = 75;
	g[0].active_pages = 2000;
	step();
	for (uint32_t i = 0; i < n; i++)
		carry(i, 10 * MS, true), g[i].in_use_pages = g[i].used_pages;
	uint64_t before = size_of(0), other = size_of(1);
	g[0].active_pages = 1950;
	g[0].used_pages = g[0].in_use_pages = before;
	step();
	assert_in_range(size_of(0), before - 45, before - 20);
	assert_int_equal(size_of(1), other);
}

/* Nothing is enforced on it and it has nothing to give: what it owes is shifted to the others. */
static void test_owed_is_shifted(void **state)
{
	(void)state;
	setup(6, 2700);
	g[0].deadline_ns = 0;
	step();
	uint64_t part = target[0].entitled_pages, others = 0;
	g[0].backoff = true;
	g[0].used_pages = g[0].in_use_pages = MEMORY;
	step();
	assert_int_equal(target[0].entitled_pages, part);
	for (uint32_t i = 1; i < n; i++)
		others += target[i].entitled_pages;
	assert_in_range(others, POOL - 256 - POOL / 32 - MEMORY - n, POOL - 256 - POOL / 32 - MEMORY);
	g[0].deadline_ns = POLICY_DEADLINE_NS; /* it will pay itself */
	step();
	assert_int_equal(target[1].entitled_pages, part);
}

static void test_memory_out_of_ram_counts(void **state)
{
	(void)state;
	setup(2, 1000);
	g[0].full = g[1].full = false;
	g[1].full = true;
	g[1].used_pages = g[1].in_use_pages = 4096;
	g[0].in_use_pages = 3000;
	g[0].swapped_pages = 1200;
	g[0].compressed_pages = 800;
	pool.pool_pages = 6000;
	step();
	uint64_t with = target[0].entitled_pages;
	g[0].swapped_pages = g[0].compressed_pages = 0; /* a lie: it cannot use what it has not filled */
	step();
	assert_true(with > target[0].entitled_pages + 1000);
	g[0].swapped_pages = g[0].compressed_pages = UINT64_MAX / 2;
	step();
	assert_true(target[0].entitled_pages <= MEMORY);
}

static void test_dynamic_guest(void **state)
{
	(void)state;
	setup(1, 600);
	g[0].dynamic = true;
	g[0].start_pages = 1024;
	g[0].min_pages = 512;
	g[0].has_driver = g[0].stats_fresh = g[0].full = false;
	pool.free_pages = POOL - 600;
	step();
	assert_int_equal(size_of(0), 1024);
	assert_int_equal(target[0].resident_limit_pages, 1024);
	carry(0, 10 * MS, true);
	/* It fills what it gets: to its max within twenty steps. */
	g[0].has_driver = g[0].stats_fresh = true;
	for (uint32_t k = 0; k < 20; k++) {
		g[0].used_pages = g[0].in_use_pages = size_of(0);
		g[0].full = true;
		step();
		carry(0, 10 * MS, true);
	}
	assert_int_equal(size_of(0), MEMORY);
	/* It frees most: it shrinks, slowly, to its need and a buffer, though nobody else wants it. */
	g[0].full = false;
	g[0].in_use_pages = 900;
	for (uint32_t k = 0; k < 1000; k++) {
		uint64_t before = size_of(0);
		step();
		carry(0, 10 * MS, true);
		assert_true(before - size_of(0) <= MEMORY / 64 + 1);
	}
	assert_in_range(size_of(0), 900, 1300);
	g[0].in_use_pages = 10;
	for (uint32_t k = 0; k < 1000; k++)
		step(), carry(0, 10 * MS, true);
	assert_in_range(size_of(0), 512, 512 + 64);
	/* The operator's word is above its demand. */
	g[0].operator_pages = 800;
	g[0].pressed = g[0].full = true;
	for (uint32_t k = 0; k < 50; k++) {
		g[0].used_pages = g[0].in_use_pages = size_of(0);
		step();
		carry(0, 10 * MS, true);
	}
	assert_int_equal(size_of(0), 800);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_stays_limited_until_it_gave),
		cmocka_unit_test(test_deadline_is_the_guests_own),
		cmocka_unit_test(test_operators_word_is_enforced),
		cmocka_unit_test(test_who_waits_in_the_low_state),
		cmocka_unit_test(test_rate_follows_the_guest),
		cmocka_unit_test(test_release_is_immediate),
		cmocka_unit_test(test_tax_by_hand),
		cmocka_unit_test(test_stuck_memory_is_not_promised),
		cmocka_unit_test(test_store_counts),
		cmocka_unit_test(test_who_stands_still_is_not_taxed),
		cmocka_unit_test(test_what_is_promised_is_not_to_spare),
		cmocka_unit_test(test_spare_goes_by_shares),
		cmocka_unit_test(test_idle_guest_is_not_short),
		cmocka_unit_test(test_pressure_lifts_the_tax),
		cmocka_unit_test(test_tax_is_taken_in_small_steps),
		cmocka_unit_test(test_owed_is_shifted),
		cmocka_unit_test(test_memory_out_of_ram_counts),
		cmocka_unit_test(test_dynamic_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
