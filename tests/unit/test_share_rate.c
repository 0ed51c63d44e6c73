/* The rate of scanning: follows the yield, and never costs more than it may. */
#include "mm/share_rate.h"
#include "tests/unit/unit.h"

#define MS     1000000ull
#define SECOND 1000000000ull

static struct share_rate r;
static uint64_t now, dice;

static void setup(uint32_t ppm, uint64_t pages)
{
	now = 3 * SECOND;
	dice = 11;
	share_rate_init(&r, ppm, pages, now);
}

/* Steps of `step_ns` for `ns`, at `page_ns` a page, of which `permille` are gained. Returns how many were scanned. */
static uint64_t run(uint64_t ns, uint64_t step_ns, uint64_t page_ns, uint32_t permille)
{
	uint64_t scanned = 0;

	for (uint64_t end = now + ns; now < end; now += step_ns) {
		uint32_t n = share_rate_due(&r, now), gained = 0;

		assert_true(n <= SHARE_RATE_STEP);
		for (uint32_t i = 0; i < n; i++)
			gained += test_random(&dice) % 1000 < permille;
		share_rate_done(&r, n, gained, n * page_ns);
		scanned += n;
		assert_in_range(r.rate, SHARE_RATE_MIN, SHARE_RATE_MAX);
	}
	return scanned;
}

static void follows_the_yield(void **state)
{
	(void)state;
	setup(10000, 4096);
	/* A first pass in 4 s, whether it finds anything or not. */
	assert_in_range(run(4 * SECOND, 10 * MS, 100, 0), 4000, 4100);
	assert_int_equal(r.rate, SHARE_RATE_FIRST);
	/* Nothing to gain: down to the least, which goes on. */
	run(600 * SECOND, 10 * MS, 100, 0);
	assert_int_equal(r.rate, SHARE_RATE_MIN);
	assert_in_range(run(100 * SECOND, 10 * MS, 100, 0), 1590, 1610);
	/* A guest begins to repeat itself. */
	run(60 * SECOND, 10 * MS, 100, 300);
	assert_true(r.rate > 1000);
	run(20 * SECOND, MS, 100, 300);
	assert_int_equal(r.rate, SHARE_RATE_MAX);
	assert_in_range(run(SECOND, MS, 100, 300), 63000, 64000); /* a step a millisecond */
	/* A little is enough to go on. */
	run(20 * SECOND, MS, 100, 15);
	assert_true(r.rate > SHARE_RATE_FIRST);
	/* Another guest. */
	run(600 * SECOND, 10 * MS, 100, 0);
	assert_int_equal(r.rate, SHARE_RATE_MIN);
	share_rate_more(&r, 4096);
	assert_in_range(run(4 * SECOND, 10 * MS, 100, 0), 4000, 4100);
	share_rate_more(&r, UINT64_MAX);
	share_rate_more(&r, UINT64_MAX);
	assert_int_equal(r.first_pass, UINT64_MAX);
}

/* However much it finds: what it spends is bounded, and what is to spend is spent. */
static void cost_is_bounded(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		uint64_t worst = 0, start, which = seed;
		uint32_t ppm = 1 + (uint32_t)(test_random(&which) % 20000);

		setup(ppm, 100000);
		start = now;
		for (uint32_t i = 0; i < 2000; i++) {
			uint64_t page_ns = test_random(&which) % (1ull << which % 28);
			uint32_t n = share_rate_due(&r, now);

			worst = MAX(worst, n * page_ns);
			share_rate_done(&r, n, n / 2, n * page_ns);
			/* The credit, and one step whose cost was not foreseen. */
			assert_true(r.spent_ns <= (now - start) * ppm / 1000000 + worst + 1);
			now += test_random(&which) % 100 == 0 ? 100 * SECOND : test_random(&which) % (20 * MS);
		}
	}
	/* Dear pages, much to gain: nearly all of the budget is used. */
	setup(10000, 0);
	run(20 * SECOND, MS, 20000, 500);
	uint64_t spent = r.spent_ns;

	run(20 * SECOND, MS, 20000, 500);
	assert_in_range(r.spent_ns - spent, 190 * MS, 200 * MS);
	/* After an hour's peace no more than a step at once. */
	now += 3600 * SECOND;
	assert_int_equal(share_rate_due(&r, now), SHARE_RATE_STEP);
	share_rate_done(&r, SHARE_RATE_STEP, 0, SHARE_RATE_STEP * 20000);
	assert_int_equal(share_rate_due(&r, now), 0);
	/* A clock that goes back credits nothing twice. */
	share_rate_done(&r, SHARE_RATE_STEP, 0, 10 * SECOND);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(share_rate_due(&r, now - i % 2 * 10 * SECOND), 0);
	setup(0, 100);
	assert_int_equal(share_rate_due(&r, UINT64_MAX), 0);
}

static void nonsense(void **state)
{
	uint64_t x = 1;

	(void)state;
	setup(10000, 100);
	for (uint32_t i = 0; i < 100000; i++) {
		uint64_t v = test_random(&x);

		now = v % 8 ? now + (v >> 44) : v >> v % 64;
		if (v & 1)
			assert_true(share_rate_due(&r, now) <= SHARE_RATE_STEP);
		else
			share_rate_done(&r, (uint32_t)(v >> 32), (uint32_t)v, test_random(&x));
		assert_in_range(r.rate, SHARE_RATE_MIN, SHARE_RATE_MAX);
	}
	/* The clock went back: no time is credited twice, nothing overflows. */
	share_rate_due(&r, 0);
	share_rate_due(&r, UINT64_MAX);
	share_rate_due(&r, UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follows_the_yield),
		cmocka_unit_test(cost_is_bounded),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
