/* The back end alone: hostile ranges against a model, targets, notifications, reports. */
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

#include "balloon/balloon.h"

#define PAGES 8192u /* 32 MiB */
#define MIN_PAGES 1024u
#define PAGE_GFN 100u

static struct p2m p2m;
static struct balloon b;
static uint32_t notified;
static struct aero_range ranges[AERO_RANGE_MAX];
static struct p2m *const guests[] = { &p2m };

static void notify(void *ctx, uint32_t events)
{
	assert_ptr_equal(ctx, &b);
	notified |= events;
}

static int start(void **state)
{
	(void)state;
	fake_machine(PAGES + 2048);
	assert_int_equal(frame_pool_init(PAGES + 256, 512, 64), OK);
	assert_int_equal(p2m_create(&p2m, 1, PAGES, MIN_PAGES, NULL), OK);
	balloon_init(&b, &p2m, notify, &b);
	assert_int_equal(balloon_hc_setup(&b, GPA(PAGE_GFN << PAGE_SHIFT), 0, 1), 0);
	notified = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	fake_audit_clean((struct p2m **)guests, 1);
	balloon_fini(&b);
	p2m_destroy(&p2m);
	return 0;
}

static int64_t one(bool inflate, uint64_t gfn, uint32_t count, uint16_t order)
{
	ranges[0] = (struct aero_range){ .gfn = gfn, .count = count, .order = order, .done = 77, .status = 77 };
	return balloon_hc_ranges(&b, inflate, ranges, 1, 0, 5);
}

static void check_one(uint32_t done, int status)
{
	assert_int_equal(ranges[0].done, done);
	assert_int_equal(ranges[0].status, status);
}

static void test_statuses(void **state)
{
	(void)state;
	assert_int_equal(one(true, 512, 4, 9), 1);
	check_one(4, 0);
	assert_int_equal(balloon_actual_pages(&b), 2048);
	one(true, 512, 1, 9);
	check_one(0, -AERO_EEXIST);
	one(true, 510, 4, 0);
	check_one(2, -AERO_EEXIST);
	one(true, 513, 1, 9);
	check_one(0, -AERO_ERANGE);
	one(true, PAGES - 1, 2, 0);
	check_one(1, -AERO_ERANGE);
	one(true, PAGE_GFN - 1, 3, 0);
	check_one(1, -AERO_EBUSY); /* the balloon's own page is pinned */
	one(true, 0, 1, 9);
	check_one(0, -AERO_EEXIST); /* 510 is in: a block is checked whole */
	one(false, PAGE_GFN, 1, 0);
	check_one(0, -AERO_EALREADY);
	one(true, 600, 1, 3);
	check_one(0, -AERO_EINVAL);
	one(true, 600, 0, 0);
	check_one(0, -AERO_EINVAL);
	one(true, UINT64_MAX, UINT32_MAX, 9);
	check_one(0, -AERO_ERANGE);
	one(true, UINT64_MAX & ~511ull, UINT32_MAX, 9);
	check_one(0, -AERO_ERANGE);
	ranges[0] = (struct aero_range){ .gfn = 5000, .count = 1, .reserved = 1 };
	balloon_hc_ranges(&b, true, ranges, 1, 0, 5);
	check_one(0, -AERO_EINVAL);
	assert_int_equal(balloon_hc_ranges(&b, true, ranges, AERO_RANGE_MAX + 1, 0, 5), -AERO_EINVAL);
	assert_int_equal(balloon_hc_ranges(&b, true, ranges, 1, AERO_DEFLATE_URGENT, 5), -AERO_EINVAL);
	assert_int_equal(balloon_hc_ranges(&b, false, ranges, 1, 2, 5), -AERO_EINVAL);
	assert_int_equal(balloon_hc_ranges(&b, true, ranges, 0, 0, 5), 0);
}

/* One call's work is bounded, and what is left can be asked for again. */
static void test_budget(void **state)
{
	uint64_t calls = 0;

	(void)state;
	for (uint64_t gfn = 512; gfn < PAGES; calls++) {
		assert_int_equal(one(true, gfn, (uint32_t)(PAGES - gfn), 0), 1);
		assert_in_range(ranges[0].done, 1, 2048);
		assert_int_equal(ranges[0].status, gfn + ranges[0].done == PAGES ? 0 : -AERO_EBUSY);
		gfn += ranges[0].done;
	}
	assert_in_range(calls, 4, 5);
	for (uint32_t i = 0; i < AERO_RANGE_MAX; i++)
		ranges[i] = (struct aero_range){ .gfn = 0, .count = 9, .order = 7 };
	assert_int_equal(balloon_hc_ranges(&b, true, ranges, AERO_RANGE_MAX, 0, 5), AERO_RANGE_MAX);
}

static void test_targets(void **state)
{
	(void)state;
	balloon_set_target(&b, 500, 0, 10);
	assert_int_equal(notified, AERO_EVENT_BALLOON);
	assert_int_equal(b.page->target_pages, 500);
	uint64_t generation = b.page->generation;
	notified = 0;
	balloon_set_target(&b, 500, 0, 11); /* the same: no event */
	assert_int_equal(notified, 0);
	assert_int_equal(b.page->generation, generation);
	balloon_set_target(&b, UINT64_MAX, 0, 12); /* its min stays */
	assert_int_equal(b.target_pages, PAGES - MIN_PAGES);
	assert_int_equal(balloon_set_operator(&b, 1), MIN_PAGES);
	assert_int_equal(balloon_set_operator(&b, UINT64_MAX), PAGES);
}

static void test_urgent(void **state)
{
	(void)state;
	balloon_set_target(&b, 1024, 0, 10);
	assert_int_equal(one(true, 512, 2, 9), 1);
	assert_int_equal(b.reached_ns, 5);
	ranges[0] = (struct aero_range){ .gfn = 512, .count = 1, .order = 9 };
	assert_int_equal(balloon_hc_ranges(&b, false, ranges, 1, AERO_DEFLATE_URGENT, 20), 1);
	assert_int_equal(b.target_pages, 512);
	balloon_set_target(&b, 2048, 0, 21);
	assert_int_equal(b.target_pages, 512);
	balloon_set_operator(&b, 4096); /* the operator's word is newer */
	balloon_set_target(&b, 2048, 0, 22);
	assert_int_equal(b.target_pages, 2048);
}

/* The guest writes nonsense over the whole page; nothing that counts is read back from it. */
static void test_scribbled_page(void **state)
{
	(void)state;
	balloon_set_target(&b, 600, 0, 10);
	memset(b.page, 0xee, PAGE_BYTES);
	assert_int_equal(one(true, 512, 1, 9), 1);
	check_one(1, 0);
	assert_int_equal(b.target_pages, 600);
	balloon_set_target(&b, 700, 0, 11);
	assert_int_equal(b.page->target_pages, 700);
	balloon_request_stats(&b);
	assert_int_equal(balloon_hc_stats(&b, b.stats_request, 12), 0);
	assert_int_equal(b.stats_ns, 12);
}

static void test_reports(void **state)
{
	(void)state;
	assert_int_equal(balloon_hc_report(&b, 4, 0, 0, 1), -AERO_EINVAL);
	assert_int_equal(balloon_hc_report(&b, 0, AERO_REASON_COUNT, 0, 1), -AERO_EINVAL);
	assert_int_equal(balloon_hc_report(&b, AERO_BALLOON_BACKOFF, AERO_REASON_NO_SWAP, UINT64_MAX, 30), 0);
	assert_int_equal(b.short_pages, PAGES);
	assert_int_equal(b.backoff_ns, 30);
	balloon_hc_report(&b, AERO_BALLOON_BACKOFF, AERO_REASON_NO_MEMORY, 1, 40);
	assert_int_equal(b.backoff_ns, 30); /* since it began */
	balloon_hc_report(&b, AERO_BALLOON_IDLE, 0, 0, 50);
	assert_int_equal(b.backoff_ns, 0);
	assert_int_equal(balloon_hc_pressure(&b, 3, 0, 1), -AERO_EINVAL);
	assert_int_equal(balloon_hc_stats(&b, 999, 1), -AERO_EINVAL);
	for (uint32_t i = 0; i <= AERO_BALLOON_BACKOFF; i++)
		assert_string_not_equal(balloon_state_name(i), "unknown");
	for (uint32_t i = 0; i < AERO_REASON_COUNT; i++)
		assert_string_not_equal(balloon_reason_text(i), "unknown");
	assert_string_equal(balloon_state_name(99), "unknown");
	assert_string_equal(balloon_reason_text(99), "unknown");
}

/* Since its target moved it has not called; a target that moves on does not begin the time anew. */
static void test_silence(void **state)
{
	(void)state;
	assert_false(balloon_is_silent(&b, 100, 1000));
	balloon_set_target(&b, 512, 0, 1000);
	assert_false(balloon_is_silent(&b, 100, 1099));
	balloon_set_target(&b, 600, 0, 1090);
	assert_true(balloon_is_silent(&b, 100, 1100));
	assert_true(balloon_first_silence(&b, 100, 1100));
	assert_false(balloon_first_silence(&b, 100, 1200));
	assert_int_equal(balloon_hc_report(&b, AERO_BALLOON_BACKOFF, AERO_REASON_NO_MEMORY, 600, 1300), 0);
	assert_false(balloon_is_silent(&b, 100, 9999)); /* it gives nothing, but it answers */
	balloon_set_target(&b, 512, 0, 2000);
	assert_int_equal(one(true, 512, 1, 9), 1);
	balloon_set_target(&b, 0, 0, 2000);
	balloon_set_target(&b, 512, 0, 2001); /* there is nothing to do: nothing to say either */
	assert_false(balloon_is_silent(&b, 100, 9999));
	balloon_set_target(&b, 0, 0, 3000);
	assert_true(balloon_is_silent(&b, 100, 3100));
	assert_int_equal(balloon_hc_setup(&b, GPA(0), 0, 3200), 0);
	assert_false(balloon_is_silent(&b, 100, 9999)); /* there is none */
}

static void test_dead(void **state)
{
	(void)state;
	assert_int_equal(one(true, 512, 1, 9), 1);
	balloon_set_dead(&b, true);
	uint64_t generation = b.page->generation;

	balloon_set_target(&b, 1024, 0, 10);
	balloon_request_stats(&b);
	assert_int_equal(notified, 0);
	assert_int_equal(b.page->generation, generation);
	assert_int_equal(one(true, 1024, 1, 9), -AERO_EIO);
	assert_int_equal(balloon_actual_pages(&b), 512);
	assert_int_equal(balloon_hc_report(&b, AERO_BALLOON_BACKOFF, AERO_REASON_NO_SWAP, 1, 11), -AERO_EIO);
	assert_int_equal(b.state, AERO_BALLOON_IDLE);
	assert_int_equal(balloon_hc_stats(&b, b.stats_request, 11), -AERO_EIO);
	assert_int_equal(balloon_hc_pressure(&b, AERO_PRESSURE_FULL, 100, 11), -AERO_EIO);
	assert_int_equal(one(false, 520, 1, 0), 1); /* what it needs it may have */
	check_one(1, 0);
	assert_true(balloon_is_silent(&b, 100, 110));
	assert_int_equal(balloon_hc_setup(&b, GPA(PAGE_GFN << PAGE_SHIFT), 0, 12), 0);
	assert_int_equal(notified, 0);
	balloon_set_dead(&b, false);
	assert_int_equal(notified, AERO_EVENT_BALLOON | AERO_EVENT_STATS);
	assert_int_equal(b.page->target_pages, 1024);
	assert_int_equal(one(true, 1024, 1, 9), 1);
	check_one(1, 0);
	assert_false(balloon_is_silent(&b, 100, 9999));
}

/* ---- a model ---------------------------------------------------------------------------------- */

static bool in_balloon[PAGES];

static bool possible(bool inflate, uint64_t gfn, uint32_t order)
{
	uint64_t pages = 1ull << order;

	if (gfn % pages || gfn >= PAGES || PAGES - gfn < pages)
		return false;
	for (uint64_t i = gfn; i < gfn + pages; i++)
		if (in_balloon[i] == inflate || (inflate && i == PAGE_GFN))
			return false;
	return true;
}

static void check_range(bool inflate, const struct aero_range *asked, const struct aero_range *r)
{
	assert_true(r->done <= asked->count);
	for (uint32_t k = 0; k < r->done; k++) {
		uint64_t gfn = asked->gfn + ((uint64_t)k << asked->order);
		assert_true(possible(inflate, gfn, asked->order));
		memset(&in_balloon[gfn], inflate, 1ull << asked->order);
	}
	if (r->status && r->status != -AERO_EBUSY && r->status != -AERO_ENOMEM && r->status != -AERO_EINVAL)
		assert_false(possible(inflate, asked->gfn + ((uint64_t)r->done << asked->order), asked->order));
	if (!r->status)
		assert_int_equal(r->done, asked->count);
}

static uint32_t random_ranges(uint64_t *seed, struct aero_range *asked)
{
	uint32_t count = 1 + (uint32_t)(test_random(seed) % 6);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t r = test_random(seed);
		bool wild = (r & 15) == 0, block = r >> 4 & 1;
		asked[i] = (struct aero_range){
			.gfn = wild ? test_random(seed) : block ? (r >> 8 & 15) << 9 : (r >> 8) % (PAGES + 4),
			.count = wild ? (uint32_t)(r >> 32) : 1 + (uint32_t)(r >> 32) % (block ? 4 : 40),
			.order = (uint16_t)(wild ? r >> 24 : block ? 9 : 0),
			.reserved = (r >> 56) == 7,
		};
	}
	return count;
}

static void touch(uint64_t gfn)
{
	if (p2m_fault(&p2m, GPA(gfn << PAGE_SHIFT), P2M_WRITE) == P2M_FAULT_MAPPED)
		in_balloon[gfn] = false;
}

static void test_random_ranges(void **state)
{
	struct aero_range asked[8];
	uint64_t seed = 3;

	(void)state;
	memset(in_balloon, 0, sizeof(in_balloon));
	for (uint32_t k = 0; k < 60000; k++) {
		bool inflate = test_random(&seed) & 1;
		uint32_t n = random_ranges(&seed, asked);
		memcpy(ranges, asked, sizeof(asked));
		int64_t tried = balloon_hc_ranges(&b, inflate, ranges, n, 0, k);
		assert_in_range(tried, 1, n);
		for (int64_t i = 0; i < tried; i++)
			check_range(inflate, &asked[i], &ranges[i]);
		touch(test_random(&seed) % PAGES);
		if (k % 4096 == 0)
			fake_audit_clean((struct p2m **)guests, 1);
	}
	uint64_t sum = 0;
	for (uint32_t i = 0; i < PAGES; i++)
		sum += in_balloon[i];
	assert_int_equal(sum, balloon_actual_pages(&b));
	assert_true(b.inflate_pages > PAGES && b.deflate_pages > PAGES);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_statuses), TEST(test_budget), TEST(test_targets), TEST(test_urgent),
		TEST(test_scribbled_page), TEST(test_reports), TEST(test_silence), TEST(test_dead),
		TEST(test_random_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
