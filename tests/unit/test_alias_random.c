/* Pages that lie on their guest's own disk: a guest at random against a model of its memory and its disk. */
#include "tests/unit/alias.h"

#define STEPS 1000000u

static void random_write(void)
{
	uint32_t page = (uint32_t)dice(PAGES), offset = dice(3) ? 0 : (uint32_t)dice(PAGE_BYTES);
	uint8_t content[PAGE_BYTES];
	uint32_t bytes = offset ? 1 + (uint32_t)dice(PAGE_BYTES - offset) : (uint32_t)PAGE_BYTES;

	fill(content, dice(12));
	assert_int_equal(copy(true, page, offset, bytes, content), OK);
	memcpy(memory[page] + offset, content, bytes);
}

static void random_block(uint16_t op)
{
	bool even = dice(4) != 0;
	uint32_t pages = 1 + (uint32_t)dice(8), page = (uint32_t)dice(PAGES - pages);
	uint32_t block = (uint32_t)dice(48 - pages), offset = even ? 0 : (uint32_t)dice(8) * 512;
	uint32_t sectors = even ? pages * 8 : 1 + (uint32_t)dice(pages * 8 - offset / 512);
	uint32_t skip = even ? 0 : (uint32_t)dice(8);

	sectors = MIN(sectors, pages * 8 - MIN(skip, pages * 8 - 1));
	uint8_t *mem = memory[page] + offset, *dsk = disk[block] + skip * 512;

	assert_int_equal(request(op, block * 8 + skip, sectors, (uint64_t)(FIRST + page) * PAGE_BYTES + offset), 0);
	if (op == AERO_BLOCK_WRITE)
		memcpy(dsk, mem, sectors * 512);
	else
		memcpy(mem, dsk, sectors * 512);
}

static void check_page(uint32_t page)
{
	uint8_t have[PAGE_BYTES];

	assert_int_equal(copy(false, page, 0, PAGE_BYTES, have), OK);
	if (memcmp(have, memory[page], PAGE_BYTES))
		fail_msg("page %u is not what was written", page);
}

static void leave_and_return(void)
{
	uint32_t page = (uint32_t)dice(PAGES);
	struct frame_batch batch;

	p2m_batch_begin(&guest->p2m, &batch);
	assert_int_equal(p2m_inflate(&guest->p2m, GFN(FIRST + page), ORDER_4K, &batch), OK);
	p2m_batch_finish(&guest->p2m, &batch);
	p2m_batch_begin(&guest->p2m, &batch);
	assert_int_equal(p2m_deflate(&guest->p2m, GFN(FIRST + page), ORDER_4K), OK);
	p2m_batch_finish(&guest->p2m, &batch);
	memset(memory[page], 0, PAGE_BYTES);
}

static void random_steps(void **state)
{
	struct alias_counts n;

	(void)state;
	for (uint32_t i = 0; i < STEPS; i++) {
		fake_disk_hold = dice(8) ? 0 : (uint32_t)dice(3);
		switch (dice(8)) {
		case 0:
			random_write();
			break;
		case 1:
			random_block(AERO_BLOCK_WRITE);
			break;
		case 2:
		case 3:
			random_block(AERO_BLOCK_READ);
			break;
		case 4:
			if (dice(4) == 0)
				leave_and_return();
			else
				(void)platform_disk_poll();
			break;
		case 5:
			check_page((uint32_t)dice(PAGES));
			break;
		default:
			reclaim((uint32_t)dice(PAGES) & ~15u);
			break;
		}
		if (i % 1000 == 0)
			assert_int_equal(fake_hv_audit(), 0);
	}
	for (uint32_t p = 0; p < PAGES; p++)
		check_page(p);
	for (uint32_t b = 0; b < 48; b++)
		assert_memory_equal(fake_disk_data(1) + guest->disk.first_sector * 512 + b * PAGE_BYTES, disk[b],
			PAGE_BYTES);
	alias_counts(&n);
	assert_true(n.taken > STEPS / 100);
	assert_true(n.broken > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_steps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
