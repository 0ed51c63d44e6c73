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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_spikes),
		cmocka_unit_test(test_all_spike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
