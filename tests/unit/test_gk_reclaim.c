/* The guest kernel's clock and its swap bitmap. */
#include "guest-drivers/kernel/lru.h"
#include "guest-drivers/kernel/slots.h"
#include "tests/unit/unit.h"

#define PAGES 256u

static bool was_used(void *ctx, uint32_t page)
{
	bool *used = ctx, was = used[page];

	used[page] = false;
	return was;
}

static void fill(struct lru *l, struct page *pages, uint32_t n)
{
	lru_init(l);
	for (uint32_t i = 0; i < n; i++)
		lru_add(l, pages, i);
}

static void test_oldest_unused_first(void **state)
{
	struct page pages[PAGES] = { 0 };
	bool used[PAGES] = { 0 };
	struct lru l;

	(void)state;
	fill(&l, pages, 8);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(lru_victim(&l, pages, was_used, used, 64), i);
	assert_int_equal(lru_victim(&l, pages, was_used, used, 64), NO_PAGE);
	assert_int_equal(lru_count(&l), 0);
}

static void test_used_pages_stay(void **state)
{
	struct page pages[PAGES] = { 0 };
	bool used[PAGES] = { 0 };
	struct lru l;

	(void)state;
	fill(&l, pages, 64);
	for (uint32_t round = 0; round < 48; round++) {
		for (uint32_t i = 0; i < 16; i++) /* the working set */
			used[i] = true;
		uint32_t p = lru_victim(&l, pages, was_used, used, 256);

		assert_true(p >= 16 && p < 64);
	}
	assert_int_equal(lru_count(&l), 16);
}

/* All used: the marks are cleared on the way, so the next round finds one; the looks bound each call. */
static void test_all_used(void **state)
{
	struct page pages[PAGES] = { 0 };
	bool used[PAGES];
	struct lru l;

	(void)state;
	fill(&l, pages, PAGES);
	memset(used, 1, sizeof(used));
	uint32_t calls = 0;

	while (lru_victim(&l, pages, was_used, used, 64) == NO_PAGE)
		assert_true(++calls < 16);
	assert_true(calls >= 2);
	assert_int_equal(lru_count(&l), PAGES - 1);
}

static void test_removal(void **state)
{
	struct page pages[PAGES] = { 0 };
	bool used[PAGES] = { 0 }, gone[PAGES] = { 0 };
	uint64_t seed = 3;
	struct lru l;

	(void)state;
	fill(&l, pages, PAGES);
	for (uint32_t i = 0; i < PAGES; i++)
		used[i] = test_random(&seed) & 1;
	for (uint32_t left = PAGES; left; left--) {
		uint32_t p = (uint32_t)test_random(&seed) % PAGES;

		if (left & 1) {
			while (gone[p])
				p = (p + 1) % PAGES;
			lru_remove(&l, pages, p);
		} else {
			p = lru_victim(&l, pages, was_used, used, 4 * PAGES);
			assert_true(p < PAGES && !gone[p]);
		}
		gone[p] = true;
		assert_int_equal(lru_count(&l), left - 1);
	}
}

static void test_slots(void **state)
{
	enum { COUNT = 150 };
	uint64_t map[3] = { 0 };
	struct slots s;

	(void)state;
	assert_int_equal(slots_bitmap_words(COUNT), 3);
	slots_init(&s, map, COUNT);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(slots_take(&s), i);
	assert_int_equal(slots_take(&s), NO_SLOT);
	slots_give(&s, 77);
	slots_give(&s, 77); /* once is enough */
	slots_give(&s, COUNT);
	assert_int_equal(s.free, 1);
	assert_int_equal(slots_take(&s), 77);
	assert_int_equal(slots_take(&s), NO_SLOT);
	assert_true(slots_is_used(&s, 149));
	assert_false(slots_is_used(&s, 150));
}

static void test_slots_random(void **state)
{
	enum { COUNT = 1000 };
	uint64_t map[16] = { 0 };
	bool mine[COUNT] = { 0 };
	uint32_t held = 0;
	uint64_t seed = 11;
	struct slots s;

	(void)state;
	slots_init(&s, map, COUNT);
	for (int i = 0; i < 200000; i++) {
		uint64_t r = test_random(&seed);
		uint32_t slot;

		if (r & 1) {
			slot = slots_take(&s);
			assert_true((slot == NO_SLOT) == (held == COUNT));
			if (slot == NO_SLOT)
				continue;
			assert_true(slot < COUNT && !mine[slot]);
			mine[slot] = true;
			held++;
		} else {
			slot = (uint32_t)(r >> 32) % COUNT;
			held -= mine[slot];
			mine[slot] = false;
			slots_give(&s, slot);
		}
		assert_int_equal(s.free, COUNT - held);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oldest_unused_first), cmocka_unit_test(test_used_pages_stay),
		cmocka_unit_test(test_all_used),            cmocka_unit_test(test_removal),
		cmocka_unit_test(test_slots),               cmocka_unit_test(test_slots_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
