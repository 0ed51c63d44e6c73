#include "mm/buddy.h"
#include "tests/unit/unit.h"

#define COUNT 3000u /* not a multiple of the largest block */

static struct frame frames[COUNT];
static struct buddy buddy;

static void reset(enum frame_state s)
{
	for (uint32_t i = 0; i < COUNT; i++) {
		frames[i].word = (uint64_t)s | 0xffffull << 16 | (uint64_t)FRAME_LINK_NONE << 32;
		frames[i].u.refs = 0;
	}
	buddy_init(&buddy, frames, COUNT);
}

static uint32_t free_blocks(enum buddy_kind kind)
{
	uint32_t n = 0;

	for (uint32_t o = 0; o < BUDDY_ORDERS; o++)
		n += buddy.blocks[kind][o];
	return n;
}

static void splits_and_merges_back(void **state)
{
	(void)state;
	reset(FRAME_FREE);
	buddy_put(&buddy, 1024, 10);
	for (uint32_t order = 0; order <= 10; order++) {
		uint32_t i = buddy_take(&buddy, BUDDY_CLEAN, order);

		assert_int_equal(i, 1024);
		assert_int_equal(free_blocks(BUDDY_CLEAN), 10 - order);
		assert_int_equal(buddy.pages[BUDDY_CLEAN], 1024 - (1u << order));
		buddy_put(&buddy, i, order);
		assert_int_equal(buddy.blocks[BUDDY_CLEAN][10], 1);
		assert_int_equal(buddy.mask[BUDDY_CLEAN], 1u << 10);
	}
}

static void takes_the_smallest_that_fits(void **state)
{
	(void)state;
	reset(FRAME_FREE);
	buddy_put(&buddy, 0, 10);
	buddy_put(&buddy, 2048, 3);
	assert_int_equal(buddy_take(&buddy, BUDDY_CLEAN, 2), 2048);
	assert_int_equal(buddy_take(&buddy, BUDDY_CLEAN, 2), 2052);
	assert_int_equal(buddy_take(&buddy, BUDDY_CLEAN, 2), 0);
}

static void kinds_do_not_mix(void **state)
{
	(void)state;
	reset(FRAME_FREE);
	for (uint32_t i = 0; i < 8; i++)
		frames[i].state = FRAME_DIRTY;
	buddy_put(&buddy, 0, 3);
	buddy_put(&buddy, 8, 3);
	assert_int_equal(buddy.blocks[BUDDY_CLEAN][3], 1);
	assert_int_equal(buddy.blocks[BUDDY_DIRTY][3], 1);
	assert_int_equal(buddy_take(&buddy, BUDDY_CLEAN, 4), BUDDY_NONE);
	assert_int_equal(buddy_take(&buddy, BUDDY_DIRTY, 3), 0);
	for (uint32_t i = 0; i < 8; i++)
		frames[i].state = FRAME_FREE;
	buddy_put(&buddy, 0, 3);
	assert_int_equal(buddy_take(&buddy, BUDDY_CLEAN, 4), 0);
}

static void takes_any_wanted_frame(void **state)
{
	(void)state;
	for (uint32_t want = 0; want < 1024; want += 37) {
		reset(FRAME_FREE);
		buddy_put(&buddy, 0, 10);
		assert_true(buddy_take_at(&buddy, want, 0));
		assert_int_equal(buddy.pages[BUDDY_CLEAN], 1023);
		frames[want].state = FRAME_PRIVATE;
		assert_false(buddy_take_at(&buddy, want, 0));
		frames[want].state = FRAME_FREE;
		buddy_put(&buddy, want, 0);
		assert_int_equal(buddy.blocks[BUDDY_CLEAN][10], 1);
	}
	assert_true(buddy_take_at(&buddy, 512, 9));
	frames[512].state = FRAME_PRIVATE;
	assert_true(buddy_take_at(&buddy, 1, 0));
	frames[1].state = FRAME_PRIVATE;
	assert_false(buddy_take_at(&buddy, 0, 1)); /* half of it is gone */
	assert_false(buddy_take_at(&buddy, COUNT, 0));
}

/* A merge never reaches beyond the array, nor into frames that are not free. */
static void edges(void **state)
{
	(void)state;
	reset(FRAME_FREE);
	frames[2998].state = FRAME_HV;
	buddy_put(&buddy, 2999, 0);
	buddy_put(&buddy, 2996, 1);
	assert_int_equal(buddy.blocks[BUDDY_CLEAN][0], 1);
	assert_int_equal(buddy.blocks[BUDDY_CLEAN][1], 1);
	reset(FRAME_FREE);
	buddy_put(&buddy, 2992, 3);
	assert_int_equal(buddy.blocks[BUDDY_CLEAN][3], 1);
}

/* Random takes and puts against an array of owners; at the end all merges back. */
static void random_operations(void **state)
{
	static uint8_t order_at[COUNT]; /* order + 1 of a block that is out */
	static uint8_t out[COUNT];
	uint64_t seed = 7, held = 0;
	uint32_t blocks_whole;

	(void)state;
	reset(FRAME_FREE);
	memset(order_at, 0, sizeof(order_at));
	memset(out, 0, sizeof(out));
	for (uint32_t i = 0; i < COUNT; i++)
		buddy_put(&buddy, i, 0);
	blocks_whole = free_blocks(BUDDY_CLEAN);
	for (uint32_t step = 0; step < 200000; step++) {
		uint64_t r = test_random(&seed);
		uint32_t order = (uint32_t)(r >> 8) % 5, i = BUDDY_NONE;

		if (r & 1) {
			uint32_t at = (uint32_t)(r >> 32) % COUNT & ~((1u << order) - 1);

			if (r & 2)
				i = buddy_take(&buddy, BUDDY_CLEAN, order);
			else if (buddy_take_at(&buddy, at, order))
				i = at;
			if (i == BUDDY_NONE)
				continue;
			assert_int_equal(i & ((1u << order) - 1), 0);
			for (uint32_t j = i; j < i + (1u << order); j++) {
				assert_int_equal(out[j], 0);
				out[j] = 1;
				frames[j].state = FRAME_PRIVATE;
				frames[j].u.gfn = 0x12345678;
			}
			order_at[i] = (uint8_t)(order + 1);
			held += 1u << order;
		} else {
			i = (uint32_t)(r >> 32) % COUNT;
			if (!order_at[i])
				continue;
			order = order_at[i] - 1u;
			order_at[i] = 0;
			for (uint32_t j = i; j < i + (1u << order); j++) {
				out[j] = 0;
				frames[j].state = FRAME_FREE;
			}
			buddy_put(&buddy, i, order);
			held -= 1u << order;
		}
		assert_int_equal(buddy.pages[BUDDY_CLEAN], COUNT - held);
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		if (!order_at[i])
			continue;
		for (uint32_t j = i; j < i + (1u << (order_at[i] - 1)); j++)
			frames[j].state = FRAME_FREE;
		buddy_put(&buddy, i, order_at[i] - 1u);
	}
	assert_int_equal(buddy.pages[BUDDY_CLEAN], COUNT);
	assert_int_equal(free_blocks(BUDDY_CLEAN), blocks_whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_and_merges_back),
		cmocka_unit_test(takes_the_smallest_that_fits),
		cmocka_unit_test(kinds_do_not_mix),
		cmocka_unit_test(takes_any_wanted_frame),
		cmocka_unit_test(edges),
		cmocka_unit_test(random_operations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
