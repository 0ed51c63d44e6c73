/* The real driver against the real back end over the real p2m, with a toy kernel as its callbacks. */
#include "tests/fake/toy.h"
#include "tests/unit/unit.h"

#define MIB_PAGES 256u

static struct toy *t;
static uint64_t calls[AERO_HC_COUNT];

static int64_t count_calls(struct toy *toy, uint64_t number, uint64_t a, uint64_t b, uint64_t c,
	int64_t result)
{
	(void)toy, (void)a, (void)b, (void)c;
	calls[number]++;
	return result;
}

static void start(uint64_t mib, uint64_t pool_mib)
{
	fake_hv_destroy_all(); /* of a test that failed */
	fake_tsc_step = 0;
	fake_hv_start(pool_mib * MIB_PAGES);
	t = toy_new(fake_hv_guest("vm", mib), true);
	t->hypercall_hook = count_calls;
	memset(calls, 0, sizeof(calls));
}

static void end(void)
{
	toy_check(t);
	assert_int_equal(fake_hv_audit(), 0);
	fake_hv_destroy_all();
	toy_free(t);
}

static void wait_ms(uint32_t ms)
{
	fake_tsc += ms * 100000ull;
}

static void set_target(uint64_t pages)
{
	balloon_set_target(&t->g->balloon, pages, 0, platform_ns());
}

static void inflate_to(uint64_t pages)
{
	set_target(pages);
	toy_driver_run(t);
	assert_int_equal(balloon_actual_pages(&t->g->balloon), pages);
}

static void test_blocks_first(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(4 * 512 + 100);
	assert_int_equal(t->driver.inflated_2m, 4);
	assert_int_equal(t->g->balloon.inflate_2m, 4);
	assert_true(calls[AERO_HC_BALLOON_INFLATE] <= 2); /* neighbours share ranges */
	assert_int_equal(t->g->balloon.state, AERO_BALLOON_IDLE);
	assert_true(t->g->balloon.reached_ns != 0);
	end();
}

static void test_deflates_at_once_and_whole(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(4 * 512 + 100);
	set_target(2 * 512 + 100);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 2 * 512 + 100);
	uint32_t whole = 0; /* the loose pages are still the loose ones */
	for (uint32_t block = 0; block < t->page_count / 512; block++) {
		bool all = true;
		for (uint32_t w = 0; w < 8; w++)
			all &= t->bitmap[block * 8 + w] == UINT64_MAX;
		whole += all;
	}
	assert_int_equal(whole, 2);
	set_target(0);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 0);
	end();
}

static void test_a_piece_of_a_block(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(2 * 512);
	set_target(2 * 512 - 7);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 2 * 512 - 7);
	end();
}

static void test_backs_off_once_and_grows_patient(void **state)
{
	(void)state;
	start(16, 64);
	t->refuses = true;
	set_target(2000);
	uint32_t tries = 0;
	for (uint32_t ms = 0; ms < 60000; ms += 10) {
		wait_ms(10);
		if (platform_ns() < balloon_driver_next_ns(&t->driver) && ms)
			continue;
		toy_driver_run(t);
		tries++;
	}
	assert_int_equal(calls[AERO_HC_BALLOON_REPORT], 1); /* not ten times a second */
	assert_in_range(tries, 10, 25);                      /* 100 ms doubling to 5 s, for a minute */
	assert_int_equal(calls[AERO_HC_BALLOON_INFLATE], 0);
	assert_int_equal(t->g->balloon.state, AERO_BALLOON_BACKOFF);
	assert_int_equal(t->g->balloon.reason, AERO_REASON_NO_MEMORY);
	assert_int_equal(t->g->balloon.short_pages, 2000);
	t->refuses = false;
	wait_ms(5000);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 2000);
	assert_int_equal(t->g->balloon.state, AERO_BALLOON_IDLE);
	end();
}

static void test_new_target_is_tried_soon(void **state)
{
	(void)state;
	start(16, 64);
	t->refuses = true;
	set_target(2000);
	for (uint32_t i = 0; i < 10; i++) {
		wait_ms(5000);
		toy_driver_run(t);
	}
	t->refuses = false;
	set_target(1000);
	toy_driver_run(t);
	assert_true(balloon_driver_next_ns(&t->driver) <= platform_ns() + 100000000ull);
	wait_ms(100);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 1000);
	end();
}

static void test_floor_is_kept(void **state)
{
	(void)state;
	start(16, 64);
	t->swap_free = 0;
	t->want = 600;
	t->grow = 1000;
	toy_tick(t);
	set_target(3072);
	toy_driver_run(t);
	assert_in_range(t->free_count, t->keep, t->keep);
	end();
}

static void test_no_swap_says_so(void **state)
{
	(void)state;
	start(16, 64);
	t->swap_free = 0;
	t->want = 2000;
	t->grow = 4000;
	toy_tick(t);
	assert_int_equal(t->have, 2000);
	set_target(3000);
	toy_driver_run(t);
	assert_int_equal(t->g->balloon.reason, AERO_REASON_NO_SWAP);
	assert_int_equal(t->oom_kills, 0);
	end();
}

static void test_give_back_lowers_the_target(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(2000);
	assert_int_equal(balloon_driver_give_back(&t->driver, 300), 300);
	assert_int_equal(t->g->balloon.target_pages, 1700);
	assert_int_equal(t->driver.actual_pages, 1700);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 1700); /* it does not fight itself */
	set_target(2500);                               /* nor does the policy fight it, for a while */
	toy_driver_run(t);
	assert_int_equal(t->g->balloon.target_pages, 1700);
	wait_ms(BALLOON_CAP_NS / 1000000 + 1);
	inflate_to(2500);
	end();
}

static void test_pressure_takes_what_is_granted(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(2000);
	balloon_set_target(&t->g->balloon, 2000, 150, platform_ns());
	balloon_driver_pressure(&t->driver, AERO_PRESSURE_SOME, 500);
	assert_int_equal(t->driver.actual_pages, 1850);
	balloon_driver_pressure(&t->driver, AERO_PRESSURE_FULL, 500); /* the spare is gone */
	assert_int_equal(t->driver.actual_pages, 1850);
	end();
}

static void test_pressure_leaves_the_operators_word(void **state)
{
	(void)state;
	start(16, 64);
	balloon_set_operator(&t->g->balloon, 4096 - 2000);
	inflate_to(2000);
	balloon_set_target(&t->g->balloon, 2000, 4096, platform_ns());
	balloon_driver_pressure(&t->driver, AERO_PRESSURE_FULL, 500);
	assert_int_equal(t->driver.actual_pages, 2000);
	end();
}

static void test_stats_are_fresh(void **state)
{
	(void)state;
	start(16, 64);
	struct balloon *b = &t->g->balloon;
	assert_int_equal(b->stats_ns, 0);
	wait_ms(5);
	balloon_request_stats(b);
	toy_driver_run(t);
	assert_int_equal(b->stats_ns, platform_ns());
	assert_int_equal(b->stats[AERO_STAT_FREE], t->free_count * PAGE_BYTES);
	assert_true(b->stats[AERO_STAT_HUGETLB_FAIL] == AERO_STAT_UNKNOWN);
	assert_int_equal(fake_hv_call(t->g, AERO_HC_STATS_REPORT, b->stats_request - 1, 0, 0), -AERO_EINVAL);
	toy_driver_run(t);
	assert_int_equal(b->stats_count, 1);
	end();
}

/* The hypervisor refuses a page in the middle of a batch: it goes back to the kernel, once. */
static void test_refused_page_goes_back(void **state)
{
	(void)state;
	start(16, 64);
	void *va;
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(p2m_pin(&t->g->p2m, GFN(700 + 40 * i), &va), OK);
	set_target(600);
	toy_driver_run(t);
	uint64_t calls_then = calls[AERO_HC_BALLOON_INFLATE];
	assert_true(calls_then < 16); /* no storm */
	toy_check(t);
	for (uint32_t i = 0; i < 4; i++)
		p2m_unpin(&t->g->p2m, GFN(700 + 40 * i));
	wait_ms(6000);
	toy_driver_run(t);
	assert_int_equal(t->driver.actual_pages, 600);
	end();
}

static void test_setup_again_and_end(void **state)
{
	(void)state;
	start(16, 64);
	inflate_to(1000);
	uint64_t page = t->driver.s.page_gpa;
	assert_int_equal(fake_hv_call(t->g, AERO_HC_BALLOON_SETUP, page, 0, 0), 0); /* the same again */
	assert_int_equal(fake_hv_call(t->g, AERO_HC_BALLOON_SETUP, 1ull << 40, 0, 0), -AERO_EFAULT);
	assert_ptr_equal(t->g->balloon.page, t->driver.s.page); /* still the old one */
	assert_int_equal(fake_hv_call(t->g, AERO_HC_BALLOON_SETUP, page + 8, 0, 0), -AERO_EINVAL);
	assert_int_equal(fake_hv_call(t->g, AERO_HC_BALLOON_SETUP, 0, 0, 0), 0);
	assert_int_equal(balloon_actual_pages(&t->g->balloon), 0);
	assert_int_equal(fake_hv_call(t->g, AERO_HC_BALLOON_INFLATE, page, 1, 0), -AERO_ENOENT);
	assert_int_equal(fake_hv_audit(), 0);
	fake_hv_destroy_all();
	toy_free(t);
}

static void random_target(uint64_t *seed)
{
	uint64_t pages = test_random(seed) % 3072;

	set_target(test_random(seed) & 1 ? pages : pages & ~511ull);
}

static void test_a_long_life(void **state)
{
	uint64_t seed = 42;

	(void)state;
	start(16, 24);
	t->io_a_tick = 4096;
	for (uint32_t i = 0; i < 20000; i++) {
		uint64_t r = test_random(&seed);
		wait_ms(1 + (uint32_t)(r % 3));
		switch (r >> 8 & 15) {
		case 0: random_target(&seed); break;
		case 1: t->want = (uint32_t)(test_random(&seed) % 2600); break;
		case 2: t->cache_want = (uint32_t)(test_random(&seed) % 1000); break;
		case 3: balloon_driver_give_back(&t->driver, r >> 16 & 255); break;
		case 4: balloon_driver_pressure(&t->driver, (enum aero_pressure)(r >> 16 & 1), r >> 20 & 255); break;
		case 5: balloon_request_stats(&t->g->balloon); break;
		case 6: t->refuses = (r >> 16 & 3) == 0; break;
		case 7: t->g->balloon.cap_ns = 0; break;
		default: break;
		}
		toy_tick(t);
		if (i % 500 == 0)
			toy_check(t);
	}
	assert_true(t->driver.inflated_pages > 100000);
	assert_true(t->driver.deflated_pages > 100000);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_first),
		cmocka_unit_test(test_deflates_at_once_and_whole),
		cmocka_unit_test(test_a_piece_of_a_block),
		cmocka_unit_test(test_backs_off_once_and_grows_patient),
		cmocka_unit_test(test_new_target_is_tried_soon),
		cmocka_unit_test(test_floor_is_kept),
		cmocka_unit_test(test_no_swap_says_so),
		cmocka_unit_test(test_give_back_lowers_the_target),
		cmocka_unit_test(test_pressure_takes_what_is_granted),
		cmocka_unit_test(test_pressure_leaves_the_operators_word),
		cmocka_unit_test(test_stats_are_fresh),
		cmocka_unit_test(test_refused_page_goes_back),
		cmocka_unit_test(test_setup_again_and_end),
		cmocka_unit_test(test_a_long_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
