/* The closed loop: real policy, overcommit, hypercalls, back end and driver; toy kernels. */
#include "tests/fake/toy.h"
#include "tests/unit/unit.h"
#include "vmm/overcommit.h"

#define GUESTS 10u
#define MIB_PAGES 256u
#define POOL (120u * MIB_PAGES)

static struct toy *toys[GUESTS];
static uint32_t toy_count;

static void start(uint32_t count)
{
	fake_hv_destroy_all(); /* of a test that failed */
	fake_tsc_step = 0;
	fake_hv_start(POOL);
	for (uint32_t i = 0; i < count; i++) {
		char name[16];
		snprintf(name, sizeof(name), "vm%u", i);
		toys[i] = toy_new(fake_hv_guest(name, 16), true);
	}
	toy_count = count;
}

static void end(void)
{
	assert_int_equal(fake_hv_audit(), 0);
	fake_hv_destroy_all();
	for (uint32_t i = 0; i < toy_count; i++)
		toy_free(toys[i]);
}

static void trace(uint32_t ms)
{
	if (!getenv("TRACE"))
		return;
	struct overcommit_stats s;
	overcommit_stats(&s);
	fprintf(stderr, "%6u %-4s free %5.1f |", ms, overcommit_level_name(s.level),
		(double)frame_pool_free() / MIB_PAGES);
	for (uint32_t i = 0; i < toy_count; i++)
		fprintf(stderr, " %4.1f/%4.1f%s%s", (double)toy_size(toys[i]) / MIB_PAGES,
			(double)(toys[i]->page_count - toys[i]->g->balloon.target_pages) / MIB_PAGES,
			toys[i]->stuck ? "w" : "", toys[i]->driver.state == 3 ? "b" : "");
	fprintf(stderr, "\n");
}

static void run(uint32_t ms)
{
	for (uint32_t t = 0; t < ms; t++) {
		fake_tsc += 100000;
		if (t % 250 == 0)
			trace(t);
		for (uint32_t i = 0; i < toy_count; i++)
			toy_tick(toys[i]);
		overcommit_poll(platform_ns());
	}
	for (uint32_t i = 0; i < toy_count; i++) {
		toy_check(toys[i]);
		assert_int_equal(toys[i]->oom_kills, 0);
	}
	trace(ms);
}

static void want_all(uint32_t mib)
{
	for (uint32_t i = 0; i < toy_count; i++)
		toys[i]->want = mib * MIB_PAGES;
}

static void test_one_spikes(void **state)
{
	(void)state;
	start(GUESTS);
	want_all(2);
	run(1000);
	toys[3]->want = 13 * MIB_PAGES;
	run(2000);
	assert_int_equal(toys[3]->have, 13 * MIB_PAGES);
	assert_int_equal(toy_size(toys[3]), 16 * MIB_PAGES);
	end();
}

static void test_all_spike(void **state)
{
	(void)state;
	start(GUESTS);
	want_all(2);
	run(500);
	want_all(12);
	run(10000);
	uint32_t least = UINT32_MAX, most = 0;
	for (uint32_t i = 0; i < GUESTS; i++) {
		assert_int_equal(toys[i]->have, 12 * MIB_PAGES);
		least = MIN(least, toy_size(toys[i]));
		most = MAX(most, toy_size(toys[i]));
	}
	assert_in_range((most - least) * 20, 0, most);
	end();
}

/* Whoever is late gets its part from those that spiked first. */
static void test_late_ones_get_their_part(void **state)
{
	(void)state;
	start(GUESTS);
	want_all(2);
	run(300);
	for (uint32_t i = 0; i < 8; i++)
		toys[i]->want = 13 * MIB_PAGES;
	run(3000);
	toys[8]->want = toys[9]->want = 13 * MIB_PAGES;
	run(6000);
	for (uint32_t i = 0; i < GUESTS; i++)
		assert_in_range(toy_size(toys[i]) * 100ull, toy_size(toys[0]) * 90ull, toy_size(toys[0]) * 110ull);
	end();
}

/* Mem-set down and up on one while all of them need more than there is. */
static void test_operator_under_load(void **state)
{
	(void)state;
	start(GUESTS);
	want_all(12);
	run(3000);
	balloon_set_operator(&toys[0]->g->balloon, 6 * MIB_PAGES);
	overcommit_nudge();
	run(4000);
	assert_int_equal(toy_size(toys[0]), 6 * MIB_PAGES);
	balloon_set_operator(&toys[0]->g->balloon, 16 * MIB_PAGES);
	overcommit_nudge();
	run(4000);
	assert_in_range(toy_size(toys[0]) * 100ull, toy_size(toys[1]) * 90ull, toy_size(toys[1]) * 110ull);
	end();
}

static void test_spike_then_idle(void **state)
{
	(void)state;
	start(GUESTS);
	want_all(12);
	run(3000);
	want_all(2);
	run(3000); /* the frames stay with the guests: only balloons bring them back */
	toys[5]->want = 13 * MIB_PAGES;
	run(3000);
	assert_int_equal(toys[5]->have, 13 * MIB_PAGES);
	assert_true(toy_size(toys[5]) >= 15 * MIB_PAGES);
	uint64_t before = toys[5]->swap_ins;
	run(1000);
	assert_int_equal(toys[5]->swap_ins, before); /* all of it in memory */
	end();
}

/* Nine hold frames that they freed this moment; one spikes. It is not the one that has to give. */
static void test_idle_frames_go_to_the_spike(void **state)
{
	(void)state;
	start(GUESTS);
	for (uint32_t i = 1; i < GUESTS; i++)
		toys[i]->want = 9 * MIB_PAGES;
	run(1000);
	want_all(2);
	toys[0]->grow = 16;
	toys[0]->want = 13 * MIB_PAGES;
	run(2000);
	assert_int_equal(toys[0]->have, 13 * MIB_PAGES);
	assert_in_range(toys[0]->swap_outs, 0, 64);
	assert_int_equal(toy_size(toys[0]), 16 * MIB_PAGES);
	end();
}

static void test_no_swap(void **state)
{
	(void)state;
	start(GUESTS);
	toys[0]->swap_free = 0;
	want_all(12);
	toys[0]->want = 13 * MIB_PAGES; /* first, and it cannot page out */
	toys[0]->grow = 2000;
	run(8000);
	assert_int_equal(toys[0]->have, 13 * MIB_PAGES);
	for (uint32_t i = 1; i < GUESTS; i++) {
		assert_int_equal(toys[i]->have, 12 * MIB_PAGES);
		assert_in_range(toy_size(toys[i]) * 100ull, toy_size(toys[1]) * 90ull,
			toy_size(toys[1]) * 110ull);
	}
	assert_true(toys[0]->driver.backoffs < 120); /* it was not asked ten times a second */
	end();
}

static void test_no_driver(void **state)
{
	(void)state;
	start(GUESTS);
	toy_free(toys[9]);
	guest_destroy(guest_find("vm9"));
	toys[9] = toy_new(fake_hv_guest("none", 16), false);
	want_all(12);
	toys[9]->want = 13 * MIB_PAGES;
	run(10000);
	for (uint32_t i = 0; i < GUESTS; i++)
		assert_int_equal(toys[i]->have, toys[i]->want);
	end();
}

/* One that takes what it can and gives nothing: the others share the rest, and it gets no more. */
static void test_one_refuses(void **state)
{
	(void)state;
	start(GUESTS);
	toys[4]->refuses = true;
	toys[4]->grow = 2000;
	want_all(13);
	run(10000);
	for (uint32_t i = 0; i < GUESTS; i++)
		assert_int_equal(toys[i]->have, 13 * MIB_PAGES);
	end();
}

/* At rest nothing moves: no target of any guest changes in the last seconds. */
static void test_rests(void **state)
{
	uint64_t generation[GUESTS];
	uint64_t moves = 0;

	(void)state;
	start(GUESTS);
	want_all(12);
	run(4000);
	for (uint32_t i = 0; i < GUESTS; i++)
		generation[i] = toys[i]->g->balloon.generation;
	run(3000);
	for (uint32_t i = 0; i < GUESTS; i++)
		moves += toys[i]->g->balloon.generation - generation[i];
	assert_in_range(moves, 0, GUESTS);
	end();
}

/* Nobody waits for a frame longer than a few periods and what paging takes. */
static void test_waiters_are_served(void **state)
{
	(void)state;
	start(GUESTS);
	for (uint32_t i = 0; i < GUESTS; i++)
		toys[i]->grow = 200; /* faster than balloons */
	want_all(12);
	run(5000);
	for (uint32_t i = 0; i < GUESTS; i++) {
		assert_int_equal(toys[i]->have, 12 * MIB_PAGES);
		assert_true(toys[i]->stuck_ticks < 2000);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_spikes),
		cmocka_unit_test(test_all_spike),
		cmocka_unit_test(test_late_ones_get_their_part),
		cmocka_unit_test(test_operator_under_load),
		cmocka_unit_test(test_spike_then_idle),
		cmocka_unit_test(test_idle_frames_go_to_the_spike),
		cmocka_unit_test(test_no_swap),
		cmocka_unit_test(test_no_driver),
		cmocka_unit_test(test_one_refuses),
		cmocka_unit_test(test_rests),
		cmocka_unit_test(test_waiters_are_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
