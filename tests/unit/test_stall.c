/* How long a guest stands still: parts of its vCPUs' time, and the average over them. */
#include "balloon/stall.h"
#include "tests/unit/unit.h"

#define MS 1000000ull

static uint32_t part(struct stall_time t, uint64_t elapsed, uint32_t before)
{
	struct stall_time from = { 1000, 2000, 3000 };
	struct stall_time to = { from.idle + t.idle, from.stalled + t.stalled, from.ran + t.ran };

	return stall_part(&from, &to, elapsed, before) / (STALL_ONE / 1000);
}

static void test_parts(void **state)
{
	(void)state;
	assert_int_equal(part((struct stall_time){ .stalled = 100 }, 100, 0), 1000);
	assert_int_equal(part((struct stall_time){ .ran = 100 }, 100, STALL_ONE), 0);
	assert_int_equal(part((struct stall_time){ .idle = 100 }, 100, STALL_ONE), 0);
	assert_int_equal(part((struct stall_time){ .stalled = 30, .ran = 10, .idle = 60 }, 100, 0), 300);
	/* Of 100 it stood 60 in line for a processor; when it had one it stood still for nine tenths of its time. */
	assert_int_equal(part((struct stall_time){ .stalled = 36, .ran = 4 }, 100, 0), 900);
	assert_int_equal(part((struct stall_time){ .stalled = 18, .ran = 2, .idle = 50 }, 100, 0), 450);
	/* It never had one: as before. */
	assert_int_equal(part((struct stall_time){ 0 }, 100, STALL_ONE / 2), 500);
	assert_int_equal(part((struct stall_time){ .idle = 80 }, 100, STALL_ONE / 2), 100);
	assert_int_equal(part((struct stall_time){ 0 }, 100, UINT32_MAX), 1000);
	assert_int_equal(part((struct stall_time){ .stalled = 5 }, 0, STALL_ONE), 0);
}

/* Whatever the counters are, also when they run backwards or ahead of the clock. */
static void test_any_numbers(void **state)
{
	uint64_t random = 11;

	(void)state;
	for (uint32_t k = 0; k < 100000; k++) {
		uint64_t n[8];
		for (uint32_t i = 0; i < 8; i++)
			n[i] = test_random(&random) >> (test_random(&random) % 64);
		struct stall_time from = { n[0], n[1], n[2] }, to = { n[3], n[4], n[5] };
		assert_true(stall_part(&from, &to, n[6], (uint32_t)n[7]) <= STALL_ONE);
	}
}

static void test_average_rises_and_falls(void **state)
{
	struct stall s = { 0 };
	uint32_t before = 0, steps = 0;

	(void)state;
	for (; stall_permille(&s) < 500; steps++)
		stall_note(&s, STALL_ONE, 250 * MS);
	assert_in_range(steps, 2, 5); /* about a second */
	for (uint32_t k = 0; k < 100; k++) {
		stall_note(&s, STALL_ONE, 250 * MS);
		assert_true(stall_permille(&s) >= before && stall_permille(&s) <= 1000);
		before = stall_permille(&s);
	}
	assert_in_range(before, 990, 1000);
	for (steps = 0; stall_permille(&s) > 500; steps++)
		stall_note(&s, 0, 250 * MS);
	assert_in_range(steps, 24, 36); /* 7 s: the sample has seen the memory that it came to touch by then */
	for (uint32_t k = 0; k < 400; k++)
		stall_note(&s, 0, 250 * MS);
	assert_int_equal(stall_permille(&s), 0);
	/* Of several vCPUs, the sum; and a long silence counts once. */
	stall_note(&s, 8 * STALL_ONE, UINT64_MAX);
	assert_in_range(stall_permille(&s), 900, 1000);
}

/* A short wait now and then, as of an idle guest that touches a page: next to nothing. */
static void test_rare_waits_are_nothing(void **state)
{
	struct stall s = { 0 };

	(void)state;
	for (uint32_t k = 0; k < 1000; k++) {
		stall_note(&s, k % 4 ? 0 : STALL_ONE / 25, 250 * MS); /* 10 ms in each second */
		assert_true(stall_permille(&s) < 30);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_any_numbers),
		cmocka_unit_test(test_average_rises_and_falls),
		cmocka_unit_test(test_rare_waits_are_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
