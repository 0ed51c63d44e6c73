/* The working-set estimator, against guests whose working set is known. */
#include "balloon/activity.h"
#include "tests/unit/unit.h"

#define PAGES   4096u
#define SECOND  1000000000ull
#define PAGE_NS 5000u /* what watching one page costs here */

static uint64_t now, random_state;
static struct activity a;

/* A guest: its working set lies scattered over its memory, and is touched with some likelihood a window. */
struct toy {
	uint32_t hot;       /* pages */
	uint32_t permille;  /* of these touched in each window */
	uint64_t cost_ns;   /* of one watched page */
};

static void setup(uint32_t ppm, uint64_t seed)
{
	struct activity_config c = { .budget_ppm = ppm };

	now = 7 * SECOND;
	random_state = seed * 77 + 5;
	activity_init(&a, &c, seed, now);
}

static bool toy_touches(const struct toy *t, uint64_t page)
{
	/* 1229 is odd: a permutation of the pages. */
	return page * 1229 % PAGES < t->hot && test_random(&random_state) % 1000 < t->permille;
}

static void begin(void)
{
	assert_false(a.sampling);
	now = MAX(now, a.due_ns);
	assert_true(activity_is_due(&a, now));
	uint32_t n = activity_begin(&a, now);

	assert_in_range(n, ACTIVITY_SAMPLE_MIN, ACTIVITY_SAMPLE_MAX);
	assert_false(activity_is_due(&a, now + ACTIVITY_WINDOW_NS - 1));
}

static uint32_t touched_of(const struct toy *t, uint32_t n)
{
	uint32_t touched = 0;

	for (uint32_t i = 0; i < n; i++)
		touched += toy_touches(t, activity_pick(&a, PAGES));
	return touched;
}

static void end(uint32_t sampled, uint32_t touched, uint64_t spent)
{
	struct activity_round r = { .sampled = sampled, .touched = touched, .spent_ns = spent };

	now += ACTIVITY_WINDOW_NS;
	assert_true(activity_is_due(&a, now));
	activity_end(&a, &r, now);
}

static void one_round(const struct toy *t)
{
	begin();
	uint32_t n = a.sample;

	end(n, touched_of(t, n), t->cost_ns * n);
}

static void rounds(const struct toy *t, uint32_t count)
{
	while (count--)
		one_round(t);
}

static uint64_t estimate(void)
{
	return activity_pages(&a, PAGES);
}

static void picks_are_even(void **state)
{
	uint32_t hits[64] = { 0 }, alike = 0;
	struct activity b;
	struct activity_config c = { .budget_ppm = 1000 };

	(void)state;
	setup(10000, 1);
	activity_init(&b, &c, 2, 0);
	for (uint32_t i = 0; i < 64000; i++) {
		uint64_t p = activity_pick(&a, 64);

		assert_in_range(p, 0, 63);
		hits[p]++;
		alike += p == activity_pick(&b, 64);
	}
	for (uint32_t i = 0; i < 64; i++)
		assert_in_range(hits[i], 840, 1160); /* five standard deviations */
	assert_in_range(alike, 800, 1200); /* two guests have nothing to do with each other */
	for (uint64_t seed = 0; seed < 1000; seed++) { /* a seed may be anything */
		activity_init(&a, &c, seed, 0);
		assert_true(a.random != 0);
		assert_int_equal(activity_pick(&a, 1), 0);
		assert_true(activity_pick(&a, UINT64_MAX) != activity_pick(&a, UINT64_MAX));
	}
}

static void unknown_means_all(void **state)
{
	struct toy idle = { .hot = 0, .cost_ns = PAGE_NS };

	(void)state;
	setup(10000, 3);
	assert_int_equal(activity_confidence(&a), ACTIVITY_UNKNOWN);
	assert_int_equal(activity_permille(&a), 1000);
	assert_int_equal(estimate(), PAGES);
	one_round(&idle);
	assert_int_equal(estimate(), PAGES);
	one_round(&idle);
	assert_int_equal(activity_confidence(&a), ACTIVITY_ROUGH);
	assert_int_equal(activity_permille(&a), 0);
	rounds(&idle, 6);
	assert_int_equal(activity_confidence(&a), ACTIVITY_GOOD);
	assert_string_equal(activity_confidence_name(activity_confidence(&a)), "good");
	assert_string_equal(activity_confidence_name((enum activity_confidence)9), "?");
}

/* Over many guests and rounds: within 4% of memory on the mean, never beyond 16%. */
static void estimates_are_close(void **state)
{
	(void)state;
	for (uint32_t tenth = 0; tenth <= 10; tenth++) {
		struct toy t = { .hot = PAGES * tenth / 10, .permille = 1000, .cost_ns = PAGE_NS };
		int64_t sum = 0, count = 0;

		for (uint64_t seed = 1; seed <= 20; seed++) {
			setup(10000, seed * 1000 + tenth);
			rounds(&t, 10);
			for (uint32_t i = 0; i < 50; i++) {
				one_round(&t);
				int64_t off = (int64_t)estimate() - t.hot;

				assert_in_range(off + PAGES * 16 / 100, 0, PAGES * 32 / 100);
				sum += off;
				count++;
			}
		}
		/* The maximum of three noisy views lies a little high, on purpose. */
		assert_true(sum / count >= -(int64_t)PAGES / 100 && sum / count <= PAGES * 4 / 100);
	}
}

static void spike_is_seen_within_a_round(void **state)
{
	struct toy idle = { .hot = PAGES / 10, .permille = 1000, .cost_ns = PAGE_NS };
	struct toy busy = { .hot = PAGES * 9 / 10, .permille = 1000, .cost_ns = PAGE_NS };

	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		setup(10000, seed);
		rounds(&idle, 20);
		assert_in_range(estimate(), PAGES * 5 / 100, PAGES * 20 / 100);
		begin();
		uint32_t n = a.sample, touched = touched_of(&busy, n);
		uint64_t before = estimate();

		/* Half way: some of the sample has been touched already. */
		activity_progress(&a, n, touched / 2);
		assert_true(estimate() >= before);
		activity_progress(&a, n, touched);
		before = estimate();
		assert_in_range(before, PAGES * 42 / 100, PAGES);
		activity_progress(&a, n, 0); /* never falls within a round */
		assert_int_equal(estimate(), before);
		end(n, touched, PAGE_NS * n);
		assert_in_range(estimate(), PAGES * 42 / 100, PAGES);
		one_round(&busy);
		assert_in_range(estimate(), PAGES * 60 / 100, PAGES);
		rounds(&busy, 4);
		assert_in_range(estimate(), PAGES * 80 / 100, PAGES);
	}
}

static void decays_slowly(void **state)
{
	struct toy idle = { .hot = 0, .permille = 1000, .cost_ns = PAGE_NS };
	struct toy busy = { .hot = PAGES, .permille = 1000, .cost_ns = PAGE_NS };

	(void)state;
	setup(10000, 9);
	rounds(&busy, 20);
	assert_int_equal(activity_permille(&a), 1000);
	uint64_t before = estimate();

	for (uint32_t i = 1; i <= 60; i++) {
		one_round(&idle);
		assert_true(estimate() <= before);
		if (i == 1)
			assert_in_range(activity_permille(&a), 870, 880);
		if (i == 5)
			assert_in_range(activity_permille(&a), 500, 530);
		before = estimate();
	}
	assert_in_range(activity_permille(&a), 0, 2);
	rounds(&busy, 200); /* what is rounded does not keep it from all */
	assert_int_equal(a.slow / 1024, 999);
	assert_int_equal(activity_permille(&a), 1000);
}

/* Whatever a page costs and however that changes: 1% of the time, and one round beyond. */
static void cost_is_bounded(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		uint64_t dice = seed, worst = 0, start;
		uint32_t ppm = 1 + (uint32_t)(test_random(&dice) % (seed & 1 ? 200 : 10000));

		setup(ppm, seed);
		start = now;
		for (uint32_t i = 0; i < 300; i++) {
			struct toy t = { .hot = PAGES / 2, .permille = 1000,
				.cost_ns = test_random(&dice) % (1u << dice % 24) };

			begin();
			uint32_t n = a.sample;
			uint64_t idle = test_random(&dice) % 50 == 0 ? 3600 * SECOND : 0;

			worst = MAX(worst, n * t.cost_ns);
			end(n, touched_of(&t, n), n * t.cost_ns);
			if (test_random(&dice) % 16 == 0)
				activity_set_budget(&a, ppm, now);
			/* At any time, not only when the next is due. */
			assert_true(a.spent_ns <= (now - start) * ppm / 1000000 + 2 * worst);
			now += idle;
		}
	}
	/* An hour's peace is no credit for what comes after it, nor is a clock that goes back. */
	struct toy t = { .hot = 10, .permille = 1000, .cost_ns = 1000000 };

	setup(10000, 5);
	rounds(&t, 20);
	now += 3600 * SECOND;
	activity_set_budget(&a, 10000, now);
	activity_set_budget(&a, 10000, now - 1800 * SECOND);
	activity_set_budget(&a, 10000, now);
	uint64_t at = now, spent = a.spent_ns;

	rounds(&t, 20);
	assert_true(a.spent_ns - spent <= (now - at) / 100 + 200 * t.cost_ns);
	begin(); /* the same while a round is under way */
	for (uint32_t i = 0; i < 200; i++)
		activity_set_budget(&a, 10000, now + i % 2 * 10 * SECOND);
	uint32_t n = a.sample;

	end(n, 1, n * 300 * t.cost_ns);
	assert_true(a.due_ns - now >= 29ull * n * SECOND);
	setup(0, 1);
	assert_false(activity_is_due(&a, UINT64_MAX - 1));
	activity_set_budget(&a, 100, now);
	assert_true(activity_is_due(&a, now));
}

/* Cheap: rounds follow each other with the full sample. Dear: smaller samples first, then seldom. */
static void adapts_to_the_cost(void **state)
{
	struct toy cheap = { .hot = 100, .permille = 1000, .cost_ns = 1000 };
	struct toy dear = { .hot = 100, .permille = 1000, .cost_ns = 1000000 };
	struct toy awful = { .hot = 100, .permille = 1000, .cost_ns = 1000000000 };

	(void)state;
	setup(1000, 4);
	rounds(&cheap, 20);
	uint64_t at = now;

	rounds(&cheap, 20);
	assert_int_equal(a.sample, ACTIVITY_SAMPLE_MAX);
	assert_int_equal(now - at, 20 * ACTIVITY_WINDOW_NS);
	rounds(&dear, 5);
	at = now;
	rounds(&dear, 20);
	assert_int_equal(a.sample, 30); /* 30 s have 30 ms to give */
	assert_in_range((now - at) / 20, ACTIVITY_INTERVAL_NS * 99 / 100, ACTIVITY_INTERVAL_NS * 11 / 10);
	rounds(&awful, 2);
	at = now;
	rounds(&awful, 2);
	assert_int_equal(a.sample, ACTIVITY_SAMPLE_MIN);
	assert_in_range((now - at) / 2, 15999 * SECOND, 16100 * SECOND);
	rounds(&cheap, 60); /* and back again */
	assert_int_equal(a.sample, ACTIVITY_SAMPLE_MAX);
}

static struct activity_claim claim_of(uint64_t in_use, uint64_t cache, uint64_t written)
{
	return (struct activity_claim){ .size_pages = PAGES, .available_pages = PAGES - in_use,
		.free_pages = PAGES - in_use - cache, .written_pages = written };
}

/* Rounds until `fit` is the verdict; UINT32_MAX: not within 100. */
static uint32_t until(const struct toy *t, const struct activity_claim *c, enum activity_fit fit)
{
	for (uint32_t i = 1; i <= 100; i++) {
		one_round(t);
		if (activity_check(&a, c) == fit)
			return i;
	}
	return UINT32_MAX;
}

static void liars_are_flagged(void **state)
{
	struct toy half = { .hot = PAGES / 2, .permille = 1000, .cost_ns = PAGE_NS };
	struct toy idle = { .hot = PAGES / 50, .permille = 1000, .cost_ns = PAGE_NS };
	struct activity_claim all = claim_of(PAGES, 0, PAGES / 2), none = claim_of(PAGES / 20, 0, PAGES),
			      hoard = claim_of(PAGES, 0, PAGES), fits = claim_of(PAGES / 2, 0, PAGES);

	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		setup(10000, seed);
		assert_int_equal(activity_check(&a, &all), ACTIVITY_FIT_UNKNOWN);
		rounds(&half, 8);
		assert_int_equal(until(&half, &all, ACTIVITY_MISFIT_EMPTY), ACTIVITY_MISFIT_ROUNDS);
		assert_true(activity_is_lie(a.fit));
		assert_int_equal(until(&half, &fits, ACTIVITY_FITS), ACTIVITY_MISFIT_ROUNDS);
		assert_int_equal(until(&half, &none, ACTIVITY_MISFIT_FREE), ACTIVITY_MISFIT_ROUNDS);
		assert_true(activity_is_lie(a.fit));
		assert_true(until(&idle, &hoard, ACTIVITY_IDLE) <= 40);
		assert_false(activity_is_lie(a.fit));
		/* Another kind of misfit takes over without a gap. */
		assert_true(until(&half, &none, ACTIVITY_MISFIT_FREE) <= 12);
		assert_string_equal(activity_fit_text(a.fit), "touches far more than it says is not free");
	}
	assert_string_equal(activity_fit_text((enum activity_fit)77), "?");
}

/*
 * Honest guests of all sorts, changing what they do every few rounds: what they say follows at once
 * (freed is free, taken is in use), what is estimated lags. None is ever called a liar.
 */
static void honest_are_never_flagged(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct toy t = { .cost_ns = seed % 3 ? PAGE_NS : 100 * PAGE_NS };
		uint64_t dice = seed, used = 0, cache = 0, written = 0, steady = 0;

		setup(seed % 3 ? 10000 : 100, seed); /* every third has only the smallest samples */
		for (uint32_t i = 0; i < 200; i++) {
			if (test_random(&dice) % 10 == 0) {
				used = test_random(&dice) % PAGES;
				cache = test_random(&dice) % (PAGES - used);
				/* It touches some of what is in use, and of its cache. */
				t.hot = (uint32_t)(test_random(&dice) % (used + cache + 1));
				t.permille = 300 + (uint32_t)(test_random(&dice) % 701);
				written = MAX(written, used + cache);
				steady = 0;
			}
			steady++;
			one_round(&t);
			struct activity_claim c = claim_of(used, cache, written);

			assert_false(activity_is_lie(activity_check(&a, &c)));
			/* Touching half of what it has is not being idle. */
			if (steady > 12 && (uint64_t)t.hot * t.permille >= used * 500)
				assert_int_not_equal(a.fit, ACTIVITY_IDLE);
		}
	}
}

/* Numbers that make no sense do no harm. */
static void nonsense(void **state)
{
	uint64_t dice = 1;

	(void)state;
	setup(10000, 1);
	for (uint32_t i = 0; i < 100000; i++) {
		uint64_t x = test_random(&dice), y = test_random(&dice) >> x % 64;
		struct activity_round r = { .sampled = (uint32_t)y, .touched = (uint32_t)x, .spent_ns = y };
		struct activity_claim c = { .size_pages = y >> 12, .free_pages = x, .available_pages = x >> 3,
			.written_pages = y >> 20 };

		now = x % 8 ? now + (y >> 40) : y >> 2; /* the clock may even go back */
		switch (x >> 32 & 7) {
		case 0:
			activity_begin(&a, now);
			break;
		case 1:
			activity_progress(&a, (uint32_t)x, (uint32_t)y);
			break;
		case 2:
			activity_set_budget(&a, (uint32_t)y, now);
			break;
		case 3:
			activity_check(&a, &c);
			break;
		default:
			activity_end(&a, &r, now);
		}
		assert_in_range(activity_permille(&a), 0, 1000);
		assert_true(activity_pages(&a, y >> 12) <= y >> 12);
		assert_true(a.sample <= ACTIVITY_SAMPLE_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(picks_are_even),
		cmocka_unit_test(unknown_means_all),
		cmocka_unit_test(estimates_are_close),
		cmocka_unit_test(spike_is_seen_within_a_round),
		cmocka_unit_test(decays_slowly),
		cmocka_unit_test(cost_is_bounded),
		cmocka_unit_test(adapts_to_the_cost),
		cmocka_unit_test(liars_are_flagged),
		cmocka_unit_test(honest_are_never_flagged),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
