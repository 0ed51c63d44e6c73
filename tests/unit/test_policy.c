/* The policy: what each step promises, for chosen and for random inputs. */
#include "balloon/policy.h"
#include "tests/unit/unit.h"

#define MAX_GUESTS 32u
#define MEMORY 4096u
#define POOL 30720u
#define EMERGENCY 256u

static struct policy_guest g[MAX_GUESTS];
static struct policy_target target[MAX_GUESTS];
static struct policy_part scratch[MAX_GUESTS];
static struct policy_plan plan = { .guest = target };
static struct policy_pool pool;
static uint32_t n;

/* `count` guests that use `in_use` of their 16 MiB and say so. */
static void setup(uint32_t count, uint64_t in_use)
{
	n = count;
	for (uint32_t i = 0; i < n; i++)
		g[i] = (struct policy_guest){ .memory_pages = MEMORY, .min_pages = 1024,
			.max_pages = MEMORY, .shares = 1000, .operator_pages = MEMORY,
			.used_pages = in_use, .has_driver = true, .stats_fresh = true,
			.in_use_pages = in_use, .cap_pages = UINT64_MAX };
	pool = (struct policy_pool){ .pool_pages = POOL, .free_pages = 0, .emergency_pages = EMERGENCY };
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

static uint64_t sizes(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += size_of(i);
	return sum;
}

/* Each guest does what it is told. */
static void obey(void)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		g[i].target_pages = g[i].balloon_pages = target[i].balloon_target_pages;
		g[i].used_pages = MIN(g[i].used_pages, size_of(i));
		g[i].in_use_pages = MIN(g[i].in_use_pages, g[i].used_pages);
		used += g[i].used_pages;
	}
	pool.free_pages = used < POOL ? POOL - used : 0;
}

static void everyone_full(void)
{
	for (uint32_t i = 0; i < n; i++)
		g[i].full = g[i].pressed = true;
}

static void test_marks_are_in_order(void **state)
{
	struct policy_marks m;

	(void)state;
	for (uint64_t pages = 4096; pages < 1ull << 36; pages *= 3) {
		policy_marks(pages, &m);
		for (uint32_t l = POLICY_SOFT; l <= POLICY_LOW; l++) {
			assert_true(m.enter[l] < m.leave[l]);
			assert_true(m.enter[l] < m.enter[l - 1]);
			assert_true(m.leave[l] < m.leave[l - 1]);
		}
	}
}

static void test_levels_have_hysteresis(void **state)
{
	struct policy_marks m;

	(void)state;
	setup(4, 1000);
	policy_marks(POOL, &m);
	pool.free_pages = m.enter[POLICY_SOFT];
	step();
	assert_int_equal(plan.level, POLICY_HIGH);
	pool.free_pages = m.enter[POLICY_SOFT] - 1;
	step();
	assert_int_equal(plan.level, POLICY_SOFT);
	pool.free_pages = m.leave[POLICY_SOFT];
	step();
	assert_int_equal(plan.level, POLICY_SOFT);
	pool.free_pages = m.leave[POLICY_SOFT] + 1;
	step();
	assert_int_equal(plan.level, POLICY_HIGH);
	pool.free_pages = 0;
	step();
	assert_int_equal(plan.level, POLICY_LOW);
	pool.free_pages = POOL;
	step();
	assert_int_equal(plan.level, POLICY_HIGH);
}

static void test_plenty_leaves_everyone_alone(void **state)
{
	(void)state;
	setup(10, 1000);
	g[4].operator_pages = 2048;
	pool.free_pages = POOL / 2;
	step();
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(size_of(i), i == 4 ? 2048 : MEMORY);
}

static void test_equal_shares_equal_parts(void **state)
{
	(void)state;
	setup(10, 3000);
	everyone_full();
	step();
	assert_true(sizes() <= POOL - EMERGENCY - POOL / 16);
	assert_true(sizes() >= (POOL - EMERGENCY - POOL / 16) * 99 / 100);
	for (uint32_t i = 1; i < n; i++)
		assert_int_equal(size_of(i), size_of(0));
}

static void test_whoever_came_first_keeps_no_more(void **state)
{
	(void)state;
	setup(10, 3500);
	everyone_full();
	for (uint32_t i = 7; i < 10; i++) {
		g[i].used_pages = g[i].in_use_pages = 1050;
		g[i].target_pages = g[i].balloon_pages = MEMORY - 1100;
	}
	pool.free_pages = POOL / 12; /* between the marks */
	pool.level = POLICY_HIGH;
	step();
	for (uint32_t i = 1; i < n; i++)
		assert_in_range(size_of(i) * 100, size_of(0) * 95, size_of(0) * 105);
}

static void test_shares_two_to_one(void **state)
{
	(void)state;
	setup(10, 3000);
	everyone_full();
	for (uint32_t i = 0; i < n; i++)
		g[i].min_pages = 256, g[i].shares = i < 5 ? 500 : 250;
	pool.pool_pages = 16384;
	step();
	for (uint32_t i = 5; i < n; i++)
		assert_in_range(size_of(0) * 100, size_of(i) * 198, size_of(i) * 202);
}

static void test_one_spikes_and_gets_it(void **state)
{
	(void)state;
	setup(10, 1200);
	for (uint32_t i = 0; i < n; i++)
		g[i].used_pages = 3000; /* they touched it once; most is free again */
	g[3].in_use_pages = g[3].used_pages = 3900;
	g[3].full = true;
	step();
	assert_int_equal(size_of(3), MEMORY);
	assert_true(sizes() <= POOL - EMERGENCY - POOL / 16);
	for (uint32_t i = 0; i < n; i++)
		assert_true(size_of(i) >= 1200); /* nobody pages out for it */
}

/* It has taken 10 MiB and is on its way to 15, the others idle at 4: it is not cut short on the way, and
 * two that grow at once get the same. */
static void test_one_that_grows_is_not_cut_short(void **state)
{
	(void)state;
	setup(10, 1024);
	g[0].used_pages = g[0].in_use_pages = 2560;
	g[0].growing = true;
	step();
	assert_true(plan.level != POLICY_HIGH);
	assert_true(size_of(0) > 3840);
	g[1] = g[0];
	step();
	assert_int_equal(size_of(0), size_of(1));
	assert_true(size_of(0) > 3840);
	for (uint32_t i = 0; i < n; i++) {
		g[i].growing = true;
		g[i].used_pages = g[i].in_use_pages = 2800;
	}
	step();
	assert_in_range(sizes(), 0, POOL);
	for (uint32_t i = 1; i < n; i++)
		assert_int_equal(size_of(i), size_of(0));
}

static void test_liar_gets_no_more_than_its_share(void **state)
{
	(void)state;
	setup(10, 3000);
	everyone_full();
	g[0].in_use_pages = UINT64_MAX / 2;
	g[0].wanted_pages = UINT64_MAX / 2;
	g[0].waiting = true;
	step();
	assert_in_range(size_of(0), 0, size_of(1) + 1);
}

static void test_backoff_is_shifted_and_still_asked(void **state)
{
	(void)state;
	setup(10, 3000);
	everyone_full();
	step();
	uint64_t fair = size_of(0);
	obey();
	g[0].backoff = true;
	g[0].used_pages = g[0].in_use_pages = MEMORY;
	g[0].balloon_pages = 0;
	pool.free_pages = POOL / 64;
	step();
	assert_int_equal(target[0].entitled_pages, fair); /* its own target stays */
	uint64_t sum = MEMORY;
	for (uint32_t i = 1; i < n; i++) {
		assert_true(size_of(i) >= g[i].min_pages);
		sum += size_of(i);
	}
	assert_true(sum <= POOL - EMERGENCY - POOL / 32 + n * MEMORY / 64);
}

static void test_urgent_give_back_is_not_taken_back(void **state)
{
	(void)state;
	setup(10, 3500);
	everyone_full();
	g[2].cap_pages = 100;
	step();
	assert_true(target[2].entitled_pages >= 3500);
	assert_true(sizes() <= POOL - EMERGENCY - POOL / 16);
}

static void test_no_driver_is_lived_with(void **state)
{
	(void)state;
	setup(10, 3000);
	everyone_full();
	g[9].has_driver = false;
	g[9].used_pages = 4000;
	step();
	assert_true(target[9].entitled_pages >= 4000);
	assert_true(sizes() <= POOL - EMERGENCY - POOL / 16);
}

static void test_small_moves_are_not_made(void **state)
{
	(void)state;
	setup(10, 2500);
	step();
	obey();
	pool.free_pages = 0;
	uint64_t before[MAX_GUESTS];
	for (uint32_t i = 0; i < n; i++) {
		before[i] = target[i].balloon_target_pages;
		g[i].in_use_pages += i; /* flutter */
	}
	step();
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(target[i].balloon_target_pages, before[i]);
}

static void test_balloons_go_back_in_plenty(void **state)
{
	(void)state;
	setup(10, 1000);
	g[1].operator_pages = 3000;
	for (uint32_t i = 0; i < n; i++)
		g[i].target_pages = g[i].balloon_pages = 2000;
	pool.free_pages = POOL / 2;
	for (uint32_t k = 0; k < 40; k++) {
		step();
		obey();
		pool.free_pages = POOL / 2;
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(size_of(i), i == 1 ? 3000 : MEMORY);
}

/* mem-set down and up again: it comes back to its part though memory is neither plenty nor short. */
static void test_operator_takes_back_his_word(void **state)
{
	(void)state;
	setup(10, 2600);
	g[0].target_pages = g[0].balloon_pages = MEMORY - 1500;
	g[0].used_pages = g[0].in_use_pages = 1400;
	pool.free_pages = POOL / 12;
	step();
	assert_true(size_of(0) >= 2000); /* what is left over by shares; it does not need more */
	for (uint32_t i = 1; i < n; i++)
		assert_int_equal(size_of(i), MEMORY); /* nobody is made smaller for it */
}

static void randomise(uint64_t *seed)
{
	n = 1 + (uint32_t)(test_random(seed) % MAX_GUESTS);
	uint64_t mins = 0;
	pool = (struct policy_pool){ .pool_pages = 8192 + test_random(seed) % 200000,
		.emergency_pages = 64, .level = (enum policy_level)(test_random(seed) % 4) };
	uint64_t room = pool.pool_pages - 64;
	for (uint32_t i = 0; i < n; i++) {
		struct policy_guest *q = &g[i];
		uint64_t r = test_random(seed);
		q->memory_pages = 512 + test_random(seed) % 32768;
		q->min_pages = MIN(test_random(seed) % q->memory_pages, (room - mins) / 2);
		mins += q->min_pages;
		q->max_pages = q->min_pages + test_random(seed) % (q->memory_pages - q->min_pages + 1);
		q->operator_pages = q->min_pages + test_random(seed) % (q->memory_pages - q->min_pages + 1);
		q->shares = 1 + (uint32_t)(r >> 8) % 5000;
		q->used_pages = test_random(seed) % (q->memory_pages + 1);
		q->balloon_pages = test_random(seed) % (q->memory_pages - q->used_pages + 1);
		q->target_pages = test_random(seed) % (q->memory_pages - q->min_pages + 1);
		q->in_use_pages = r & 1 ? test_random(seed) : test_random(seed) % q->memory_pages;
		q->has_driver = r & 6;
		q->stats_fresh = r & 8;
		q->backoff = (r & 0x30) == 0;
		q->full = (r & 0xc0) == 0;
		q->stuck = (r >> 46 & 15) == 0;
		q->waiting = (r >> 32 & 7) == 0;
		q->pressed = (r >> 36 & 3) == 0;
		q->growing = (r >> 62 & 3) == 0;
		q->active_pages = r >> 44 & 1 ? test_random(seed) % q->memory_pages : UINT64_MAX;
		q->stalled_permille = r >> 45 & 1 ? (uint32_t)(test_random(seed) % 1001) : 0;
		q->wanted_pages = r >> 40 & 1 ? test_random(seed) : 0;
		q->cap_pages = (r >> 42 & 7) == 0 ? test_random(seed) % q->memory_pages : UINT64_MAX;
	}
	pool.free_pages = test_random(seed) % pool.pool_pages;
}

/* At worst: floors are kept by whoever cannot give, everyone has its min, the rest fits the pool. */
static void check_promises(void)
{
	uint64_t floors = 0, parts = 0;
	struct policy_marks m;

	policy_marks(pool.pool_pages, &m);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t most = MIN(MIN(g[i].max_pages, g[i].operator_pages), g[i].memory_pages);
		uint64_t low = MIN(g[i].min_pages, g[i].memory_pages);
		assert_true(target[i].balloon_target_pages <= g[i].memory_pages - low);
		assert_true(target[i].balloon_target_pages >=
			g[i].memory_pages - MAX(g[i].operator_pages, low));
		bool stays = !g[i].has_driver || g[i].backoff || g[i].stuck || g[i].cap_pages != UINT64_MAX;
		floors += stays ? MAX(low, MIN(g[i].used_pages, MAX(most, low))) : low;
		parts += MIN(target[i].entitled_pages, g[i].memory_pages);
	}
	uint64_t budget = pool.pool_pages - pool.emergency_pages - m.enter[POLICY_HARD];
	if (plan.level != POLICY_HIGH)
		assert_true(parts <= MAX(budget, floors));
}

static void test_random_inputs(void **state)
{
	uint64_t seed = 20261121;

	(void)state;
	for (uint32_t k = 0; k < 30000; k++) {
		struct policy_target first[MAX_GUESTS];
		randomise(&seed);
		enum policy_level before = pool.level;
		step();
		check_promises();
		memcpy(first, target, sizeof(first[0]) * n);
		pool.level = before;
		step(); /* the same inputs give the same plan */
		assert_memory_equal(first, target, sizeof(first[0]) * n);
	}
}

static void test_more_shares_never_give_less(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (uint32_t k = 0; k < 5000; k++) {
		randomise(&seed);
		for (uint32_t i = 0; i < n; i++)
			g[i].backoff = g[i].stuck = false;
		pool.free_pages = 0;
		pool.level = POLICY_LOW;
		step();
		uint64_t before = target[0].entitled_pages;
		g[0].shares += 1 + (uint32_t)(test_random(&seed) % 3000);
		step();
		assert_true(target[0].entitled_pages + n >= before);
	}
}

/* Left alone, with guests that do as told, it comes to rest: no target moves any more. */
static void test_comes_to_rest(void **state)
{
	uint64_t seed = 99;

	(void)state;
	for (uint32_t k = 0; k < 300; k++) {
		setup(10, 0);
		for (uint32_t i = 0; i < n; i++) {
			g[i].shares = 100 + (uint32_t)(test_random(&seed) % 1000);
			g[i].used_pages = g[i].in_use_pages = 500 + test_random(&seed) % 3500;
			g[i].full = g[i].pressed = g[i].in_use_pages > 3700;
		}
		uint32_t moves = 0, last_move = 0;
		for (uint32_t t = 1; t <= 1000; t++) {
			step();
			for (uint32_t i = 0; i < n; i++)
				if (target[i].balloon_target_pages != g[i].target_pages)
					moves++, last_move = t;
			obey();
		}
		assert_true(last_move < 500);
		assert_true(moves < 500 * n);
	}
}

static void test_huge_numbers(void **state)
{
	(void)state;
	setup(3, 1ull << 33);
	for (uint32_t i = 0; i < n; i++) {
		g[i].memory_pages = g[i].max_pages = g[i].operator_pages = 1ull << 34;
		g[i].min_pages = 1ull << 30;
		g[i].shares = i ? UINT32_MAX : 0;
		g[i].pressed = true;
	}
	pool.pool_pages = 1ull << 34;
	step();
	assert_int_equal(size_of(0), 1ull << 30); /* no shares: its min, no more */
	assert_int_equal(size_of(1), size_of(2));
	assert_true(sizes() <= 1ull << 34);
}

/* mem-max without need: what it may never hold is in the balloon, or it would wait for it for ever. */
static void test_max_binds_in_a_roomy_pool(void **state)
{
	(void)state;
	setup(2, 3000);
	pool.free_pages = POOL - 6000;
	g[1].max_pages = 2048;
	for (int i = 0; i < 5; i++) {
		step();
		assert_int_equal(target[0].balloon_target_pages, 0);
		assert_int_equal(target[1].balloon_target_pages, MEMORY - 2048);
		obey();
	}
	g[1].pressed = g[1].waiting = g[1].full = true;
	for (int i = 0; i < 5; i++) {
		step();
		assert_int_equal(target[1].balloon_target_pages, MEMORY - 2048);
		obey();
	}
	g[1].max_pages = MEMORY;
	for (int i = 0; i < 50; i++)
		step(), obey();
	assert_int_equal(target[1].balloon_target_pages, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_binds_in_a_roomy_pool),
		cmocka_unit_test(test_marks_are_in_order),
		cmocka_unit_test(test_levels_have_hysteresis),
		cmocka_unit_test(test_plenty_leaves_everyone_alone),
		cmocka_unit_test(test_equal_shares_equal_parts),
		cmocka_unit_test(test_whoever_came_first_keeps_no_more),
		cmocka_unit_test(test_shares_two_to_one),
		cmocka_unit_test(test_one_spikes_and_gets_it),
		cmocka_unit_test(test_one_that_grows_is_not_cut_short),
		cmocka_unit_test(test_liar_gets_no_more_than_its_share),
		cmocka_unit_test(test_backoff_is_shifted_and_still_asked),
		cmocka_unit_test(test_urgent_give_back_is_not_taken_back),
		cmocka_unit_test(test_no_driver_is_lived_with),
		cmocka_unit_test(test_small_moves_are_not_made),
		cmocka_unit_test(test_balloons_go_back_in_plenty),
		cmocka_unit_test(test_operator_takes_back_his_word),
		cmocka_unit_test(test_random_inputs),
		cmocka_unit_test(test_more_shares_never_give_less),
		cmocka_unit_test(test_comes_to_rest),
		cmocka_unit_test(test_huge_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
