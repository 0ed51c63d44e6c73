/* Rounds of sampling over a hosted guest: vmm/sampling.h with the real p2m and estimator. */
#include "tests/unit/unit.h"

#include "tests/fake/hv.h"
#include "vmm/sampling.h"

#define PAGES  4096u /* of the guest */
#define SECOND 1000000000ull

static struct guest *g;
static uint64_t worked_tsc; /* by sampling_poll(), by the clock that runs on in it */

static int setup(void **state)
{
	fake_hv_start(8192);
	hv_config.sampling = (uint32_t)(uintptr_t)*state;
	fake_tsc_step = 100; /* each look at the clock */
	g = fake_hv_guest("vm0", 16);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(fake_hv_audit(), 0);
	fake_hv_destroy_all();
	fake_tsc_step = 0;
	return 0;
}

/* `ms` go by; in each tenth of a second the guest writes to its first `pages`. */
static void live(uint32_t ms, uint64_t pages)
{
	for (uint32_t t = 0; t < ms; t += 10) {
		fake_tsc += 1000000;
		uint64_t before = fake_tsc;

		sampling_poll(platform_ns());
		worked_tsc += fake_tsc - before;
		for (uint64_t i = 0; t % 100 == 0 && i < pages; i++)
			assert_non_null(fake_hv_touch(g, i * PAGE_BYTES, P2M_WRITE));
	}
}

static uint64_t estimate(void)
{
	return sampling_active_pages(g);
}

static void it_follows_what_is_touched(void **state)
{
	(void)state;
	assert_true(estimate() == UINT64_MAX);
	live(30000, PAGES / 4);
	assert_in_range(estimate(), PAGES * 18 / 100, PAGES * 33 / 100);
	live(3000, PAGES * 3 / 4); /* up within a window */
	assert_true(estimate() > PAGES * 45 / 100);
	live(60000, PAGES / 16); /* down slowly */
	assert_true(estimate() < PAGES / 5);
	assert_true(g->sampling.rounds > 30);
	assert_int_equal(p2m_resident(&g->p2m), PAGES * 3 / 4);
}

static void a_guest_that_stands_still_is_not_sampled(void **state)
{
	(void)state;
	live(20000, PAGES / 2);
	uint64_t before = estimate();

	assert_int_equal(guest_pause(g), OK);
	live(60000, 0);
	assert_in_range(estimate(), before * 8 / 10, before * 12 / 10);
	assert_int_equal(g->p2m.pages[P2M_IN_FLIGHT], 0);
	assert_int_equal(guest_unpause(g), OK);
	live(60000, 1);
	assert_true(estimate() < PAGES / 5); /* a 2 MiB leaf counts whole */
}

static void all_together_cost_no_more_than_one_percent(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < 6; i++)
		(void)fake_hv_guest((const char *[]){ "a", "b", "c", "d", "e" }[i - 1], 4);
	fake_tsc_step = 20000; /* a slow machine: 0.2 ms for each look at the clock */
	worked_tsc = 0;
	uint64_t start = fake_tsc;

	live(120000, 16);
	fake_tsc_step = 0;
	uint64_t spent = 0;

	for (struct guest *i = guest_next(NULL); i; i = guest_next(i)) {
		assert_true(i->sampling.rounds >= 2);
		spent += i->sampling.spent_tsc_all;
	}
	assert_true(spent <= (fake_tsc - start) / 90);
}

static void off_is_off(void **state)
{
	(void)state;
	live(20000, PAGES / 2);
	assert_true(estimate() == UINT64_MAX);
	assert_int_equal(g->sampling.rounds, 0);
}

/* It says that next to nothing is free, and never wrote to most of it. */
static void who_claims_too_much_is_flagged(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 40; i++) {
		live(1000, PAGES / 8);
		g->balloon.stats_ns = platform_ns();
		g->balloon.stats_size_pages = PAGES;
		g->balloon.stats[AERO_STAT_FREE] = g->balloon.stats[AERO_STAT_AVAILABLE] = MIB(1);
	}
	assert_int_equal(g->sampling.activity.fit, ACTIVITY_MISFIT_EMPTY);
	for (uint32_t i = 0; i < 40; i++) {
		live(1000, PAGES / 8);
		g->balloon.stats_ns = platform_ns();
		g->balloon.stats[AERO_STAT_FREE] = g->balloon.stats[AERO_STAT_AVAILABLE] = MIB(14);
	}
	assert_int_equal(g->sampling.activity.fit, ACTIVITY_FITS);
}

/* Numbers no guest could have: nothing overflows. */
static void absurd_statistics(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 30; i++) {
		live(1000, 16);
		g->balloon.stats_ns = platform_ns();
		g->balloon.stats_size_pages = i % 3 ? UINT64_MAX : 0;
		g->balloon.stats[AERO_STAT_FREE] = UINT64_MAX - 1 - i;
		g->balloon.stats[AERO_STAT_AVAILABLE] = UINT64_MAX - 2;
	}
	assert_true(estimate() <= PAGES);
}

#define WAY(f, way) cmocka_unit_test_prestate_setup_teardown(f, setup, teardown, (void *)(uintptr_t)(way))

int main(void)
{
	const struct CMUnitTest tests[] = {
		WAY(it_follows_what_is_touched, CONFIG_SAMPLING_ACCESSED),
		WAY(it_follows_what_is_touched, CONFIG_SAMPLING_INVALIDATE),
		WAY(a_guest_that_stands_still_is_not_sampled, CONFIG_SAMPLING_ACCESSED),
		WAY(a_guest_that_stands_still_is_not_sampled, CONFIG_SAMPLING_INVALIDATE),
		WAY(all_together_cost_no_more_than_one_percent, CONFIG_SAMPLING_ACCESSED),
		WAY(off_is_off, CONFIG_SAMPLING_OFF),
		WAY(who_claims_too_much_is_flagged, CONFIG_SAMPLING_ACCESSED),
		WAY(absurd_statistics, CONFIG_SAMPLING_INVALIDATE),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
