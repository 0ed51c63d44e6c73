/* The policy's steps as text: what was written is read to the same, and gives the same plan. */
#include "balloon/policy_trace.h"
#include "tests/fake/memsim.h"
#include "tests/unit/unit.h"

static enum policy_trace_kind parse(const char *line, struct policy_trace *t)
{
	return policy_trace_parse(line, strlen(line), t);
}

static void test_reads_what_it_should(void **state)
{
	struct policy_trace t;

	(void)state;
	assert_int_equal(parse("[ 1.2] policy: step @64 p1000 f20 e10 l3 t4b n2\r\n", &t), POLICY_TRACE_STEP);
	assert_int_equal(t.time_ms, 100);
	assert_int_equal(t.pool.pool_pages, 0x1000);
	assert_int_equal(t.pool.level, POLICY_LOW);
	assert_int_equal(t.pool.tax_percent, 75);
	assert_int_equal(t.guest_count, 2);
	assert_int_equal(parse("policy: guest Fdy c40 v3e8 m1000 s1", &t), POLICY_TRACE_GUEST);
	assert_int_equal(t.guest.max_pages, 0x1000);
	assert_int_equal(t.guest.operator_pages, 0x1000);
	assert_int_equal(t.guest.active_pages, UINT64_MAX);
	assert_int_equal(t.guest.cap_pages, 0x40);
	assert_int_equal(t.guest.stalled_permille, 1000);
	assert_true(t.guest.has_driver && t.guest.dynamic && !t.guest.full && !t.guest.waiting);
	assert_int_equal(parse("policy: plan hffffffffffffffff", &t), POLICY_TRACE_PLAN);
	assert_int_equal(t.hash, UINT64_MAX);
}

static void test_refuses_the_rest(void **state)
{
	static const char *const none[] = { "", "\n", "memory: level low, was high", "policy:", "policy: ste",
		"policy guest m1000" };
	static const char *const bad[] = { "policy: guest ", "policy: guest m", "policy: guest m1000 m1000",
		"policy: guest g1", "policy: guest v3e9", "policy: guestm1", "policy: guest m1  n1",
		"policy: guest m1000G",
		"policy: guest Fdd", "policy: guest F", "policy: guest Fd Fs", "policy: guest Fq",
		"policy: guest m10000000001", "policy: guest d00000000000000001", "policy: step l4",
		"policy: step t64", "policy: step Fd", "policy: plan h1 h1", "policy: guest s100000000" };
	struct policy_trace t;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(none); i++)
		assert_int_equal(parse(none[i], &t), POLICY_TRACE_NONE);
	for (uint32_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (parse(bad[i], &t) != POLICY_TRACE_BAD)
			fail_msg("not refused: %s", bad[i]);
}

static void test_longest_line(void **state)
{
	struct policy_guest g;
	struct policy_trace t;
	char line[POLICY_TRACE_BYTES];

	(void)state;
	memset(&g, 0xff, sizeof(g));
	g.dynamic = g.has_driver = g.stats_fresh = g.full = g.growing = g.backoff = g.pressed = g.waiting = true;
	g.limited = g.stuck = true;
	g.active_pages = g.cap_pages = UINT64_MAX - 1;
	assert_true(policy_trace_guest(line, &g) < sizeof(line));
	assert_int_equal(parse(line, &t), POLICY_TRACE_BAD); /* no machine has so much */
}

/* Every step of a modelled run, printed and read again, gives the plan that was made. */
static void test_replay_gives_the_same_plan(void **state)
{
	struct memsim_guest guest[5];
	struct policy_guest view[5], read[5];
	struct policy_target target[5], again[5];
	struct policy_part scratch[5];
	struct memsim s = { .guest = guest, .view = view, .target = target, .scratch = scratch, .count = 5,
		.pool = { .pool_pages = 12000, .emergency_pages = 200, .tax_percent = 60 } };
	uint64_t seed = 3;
	size_t longest = 0;

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		guest[i] = (struct memsim_guest){ .driver = (enum memsim_driver)i, .hot_percent = 50,
			.view = { .memory_pages = 4096, .min_pages = 300, .max_pages = 4096 - i,
			.operator_pages = 4096, .shares = 1000 + i, .deadline_ns = POLICY_DEADLINE_NS } };
	memsim_init(&s);
	for (uint32_t k = 0; k < 2000; k++) {
		char line[POLICY_TRACE_BYTES];
		struct policy_trace t;
		struct policy_plan plan = { .guest = again };
		if (k % 50 == 0)
			guest[k / 50 % 5].want_pages = test_random(&seed) % 4096;
		struct policy_pool before = s.pool;
		memsim_step(&s);
		before.free_pages = s.pool.free_pages;
		for (uint32_t i = 0; i < 5; i++) {
			longest = MAX(longest, policy_trace_guest(line, &view[i]));
			assert_int_equal(parse(line, &t), POLICY_TRACE_GUEST);
			read[i] = t.guest;
		}
		policy_trace_step(line, &before, 5, k);
		assert_int_equal(parse(line, &t), POLICY_TRACE_STEP);
		policy_step(&t.pool, read, 5, scratch, &plan);
		policy_trace_plan(line, &s.plan, 5);
		assert_int_equal(parse(line, &t), POLICY_TRACE_PLAN);
		assert_int_equal(t.level, plan.level);
		assert_int_equal(t.spare_pages, plan.spare_pages);
		assert_int_equal(t.hash, policy_trace_hash(&plan, 5));
		again[0].entitled_pages ^= 1; /* and no other */
		assert_int_not_equal(t.hash, policy_trace_hash(&plan, 5));
	}
	assert_true(longest < 200); /* a line of the log has 256 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_it_should),
		cmocka_unit_test(test_refuses_the_rest),
		cmocka_unit_test(test_longest_line),
		cmocka_unit_test(test_replay_gives_the_same_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
