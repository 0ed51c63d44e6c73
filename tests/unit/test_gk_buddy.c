/* The guest kernel's page allocator against a simple model. */
#include "guest-drivers/kernel/buddy.h"
#include "tests/unit/unit.h"

#define PAGES 4096u
#define STEPS 300000u
#define HELD_MAX 600u

struct world {
	struct page pages[PAGES];
	struct buddy b;
	bool held[PAGES];    /* by the model */
	bool touched[PAGES]; /* ever handed out and not given back as untouched */
	struct {
		uint32_t first;
		unsigned int order;
	} list[HELD_MAX];
	uint32_t count, held_pages;
};

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	buddy_init(&w->b, w->pages, PAGES);
	return w;
}

static void take(struct world *w, unsigned int order, bool for_balloon)
{
	bool zero = false;
	uint32_t p = for_balloon ? buddy_take(&w->b, order) : buddy_alloc(&w->b, order, &zero);

	if (p == NO_PAGE) {
		assert_true(w->b.free_pages < PAGES / 2 || order > 0);
		return;
	}
	assert_int_equal(p & ((1u << order) - 1), 0);
	assert_true(p + (1u << order) <= PAGES);
	for (uint32_t i = p; i < p + (1u << order); i++) {
		assert_false(w->held[i]);
		if (!for_balloon && zero)
			assert_false(w->touched[i]);
		w->held[i] = true;
		if (!for_balloon)
			w->touched[i] = true;
	}
	w->list[w->count].first = p;
	w->list[w->count++].order = order;
	w->held_pages += 1u << order;
}

static void give(struct world *w, uint32_t at, bool untouched)
{
	uint32_t p = w->list[at].first;
	unsigned int order = w->list[at].order;

	w->list[at] = w->list[--w->count];
	for (uint32_t i = p; i < p + (1u << order); i++) {
		w->held[i] = false;
		if (untouched)
			w->touched[i] = false;
	}
	w->held_pages -= 1u << order;
	if (untouched)
		buddy_free_untouched(&w->b, p, order);
	else
		buddy_free(&w->b, p, order);
}

static void test_random_operations(void **state)
{
	struct world *w = world_new();
	uint64_t seed = 7;

	(void)state;
	buddy_add(&w->b, 0, PAGES, false);
	for (uint32_t i = 0; i < STEPS; i++) {
		uint64_t r = test_random(&seed);
		static const unsigned int orders[] = { 0, 0, 0, 0, 0, 1, 3, 9 };

		if (w->count < HELD_MAX && (r & 1 || !w->count))
			take(w, orders[r >> 8 & 7], r >> 16 & 1);
		else if (w->count)
			give(w, (uint32_t)(r >> 32) % w->count, r >> 17 & 1);
		assert_int_equal(w->b.free_pages, PAGES - w->held_pages);
	}
	while (w->count)
		give(w, 0, false);
	buddy_drain(&w->b);
	assert_int_equal(w->b.free[ORDER_MAX].count, PAGES >> ORDER_MAX);
	free(w);
}

static void test_ragged_range(void **state)
{
	struct world *w = world_new();
	uint32_t n = 0;

	(void)state;
	buddy_add(&w->b, 16, 240, false);
	buddy_add(&w->b, 333, 1000, true);
	assert_int_equal(w->b.free_pages, 1240);
	while (buddy_alloc(&w->b, 0, NULL) != NO_PAGE)
		n++;
	assert_int_equal(n, 1240);
	free(w);
}

/* The page freed last has a frame of the host's: it is used first. */
static void test_hot_first(void **state)
{
	struct world *w = world_new();
	bool zero = true;

	(void)state;
	buddy_add(&w->b, 0, PAGES, false);
	uint32_t a = buddy_alloc(&w->b, 0, NULL), b = buddy_alloc(&w->b, 0, NULL);

	buddy_free(&w->b, a, 0);
	buddy_free(&w->b, b, 0);
	assert_int_equal(buddy_alloc(&w->b, 0, &zero), b);
	assert_false(zero);
	assert_int_equal(buddy_alloc(&w->b, 0, NULL), a);
	free(w);
}

/* A block that comes back page by page while its neighbours stay away must not be merged over them. */
static void test_block_back_in_pages(void **state)
{
	struct world *w = world_new();

	(void)state;
	buddy_add(&w->b, 0, 1024, false);
	uint32_t block = buddy_take(&w->b, ORDER_MAX);

	buddy_free_untouched(&w->b, block + 6, 0);
	assert_int_equal(w->b.free[0].count, 1);
	buddy_free_untouched(&w->b, block + 7, 0);
	assert_int_equal(w->b.free[0].count, 0);
	assert_int_equal(w->b.free[1].count, 1);
	assert_int_equal(w->b.free_pages, 514);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_ragged_range),
		cmocka_unit_test(test_hot_first),
		cmocka_unit_test(test_block_back_in_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
