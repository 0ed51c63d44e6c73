/* boot/memmap.c: what the loader hands over as the memory map. */
#include "tests/unit/unit.h"

#include "boot/memmap.h"

#define MAX_IN 48

static uint64_t edges[2 * MAX_IN];
static struct handoff_mem result[MEMMAP_OUT_MAX(MAX_IN)];
static uint32_t result_count;

static void normalise(const struct handoff_mem *in, uint32_t count)
{
	assert_int_equal(memmap_normalise(in, count, edges, result, MEMMAP_OUT_MAX(count),
				 &result_count), OK);
}

static void expect(uint32_t i, uint64_t base, uint64_t bytes, uint32_t type)
{
	assert_true(i < result_count);
	assert_int_equal(result[i].base, base);
	assert_int_equal(result[i].bytes, bytes);
	assert_int_equal(result[i].type, type);
}

static void sorts_and_merges(void **state)
{
	const struct handoff_mem in[] = {
		{ 0x3000, 0x1000, HANDOFF_MEM_USABLE, 0 },
		{ 0x1000, 0x2000, HANDOFF_MEM_USABLE, 0 },
		{ 0x8000, 0x1000, HANDOFF_MEM_ACPI, 0 },
		{ 0x4000, 0x1000, HANDOFF_MEM_RESERVED, 0 },
	};

	(void)state;
	normalise(in, 4);
	assert_int_equal(result_count, 3);
	expect(0, 0x1000, 0x3000, HANDOFF_MEM_USABLE);
	expect(1, 0x4000, 0x1000, HANDOFF_MEM_RESERVED);
	expect(2, 0x8000, 0x1000, HANDOFF_MEM_ACPI);
}

static void placed_ranges_cut_the_firmwares(void **state)
{
	const struct handoff_mem in[] = {
		{ 0x100000, 0x10000, HANDOFF_MEM_LOADER, 0 },
		{ 0x104000, 0x2000, HANDOFF_MEM_HV_IMAGE, 0 },
		{ 0x108000, 0x1000, HANDOFF_MEM_MODULE, 0 },
	};

	(void)state;
	normalise(in, 3);
	assert_int_equal(result_count, 5);
	expect(1, 0x104000, 0x2000, HANDOFF_MEM_HV_IMAGE);
	expect(2, 0x106000, 0x2000, HANDOFF_MEM_LOADER);
	expect(3, 0x108000, 0x1000, HANDOFF_MEM_MODULE);
}

static void usable_shrinks_and_reserved_grows_to_pages(void **state)
{
	const struct handoff_mem in[] = {
		{ 0x1800, 0x3000, HANDOFF_MEM_USABLE, 0 },
		{ 0x9fff, 2, HANDOFF_MEM_RESERVED, 0 },
		{ 0x20100, 0x200, HANDOFF_MEM_USABLE, 0 },
		{ 0x30000, 0, HANDOFF_MEM_RESERVED, 0 },
	};

	(void)state;
	normalise(in, 4);
	assert_int_equal(result_count, 2);
	expect(0, 0x2000, 0x2000, HANDOFF_MEM_USABLE);
	expect(1, 0x9000, 0x2000, HANDOFF_MEM_RESERVED);
}

static void unknown_types_become_reserved(void **state)
{
	const struct handoff_mem in[] = { { 0, 0x2000, 77, 0 }, { 0x2000, 0x1000, 6, 0 } };

	(void)state;
	normalise(in, 2);
	assert_int_equal(result_count, 1);
	expect(0, 0, 0x3000, HANDOFF_MEM_RESERVED);
	assert_int_equal(memmap_from_efi(0x80000000u), HANDOFF_MEM_RESERVED);
	assert_int_equal(memmap_from_efi(15), HANDOFF_MEM_RESERVED); /* unaccepted */
	assert_int_equal(memmap_from_efi(7), HANDOFF_MEM_USABLE);
	assert_int_equal(memmap_from_efi(6), HANDOFF_MEM_RESERVED); /* runtime services */
}

static void refuses_impossible_addresses_and_full_output(void **state)
{
	const struct handoff_mem far = { UINT64_MAX - 0xfff, 0x1000, HANDOFF_MEM_USABLE, 0 };
	const struct handoff_mem huge = { 0x1000, UINT64_MAX, HANDOFF_MEM_USABLE, 0 };
	const struct handoff_mem two[] = { { 0, 0x1000, 1, 0 }, { 0x4000, 0x1000, 6, 0 } };

	(void)state;
	assert_int_equal(memmap_normalise(&far, 1, edges, result, 2, &result_count), ERR_RANGE);
	assert_int_equal(memmap_normalise(&huge, 1, edges, result, 2, &result_count), ERR_RANGE);
	assert_int_equal(memmap_normalise(two, 2, edges, result, 1, &result_count), ERR_LIMIT);
}

static void top_and_sums(void **state)
{
	const struct handoff_mem in[] = {
		{ 0, 0x100000, HANDOFF_MEM_USABLE, 0 },
		{ GIB(4), GIB(1), HANDOFF_MEM_USABLE, 0 },
		{ GIB(1012), GIB(12), HANDOFF_MEM_RESERVED, 0 },
	};

	(void)state;
	assert_int_equal(memmap_top(in, 3), GIB(5));
	assert_int_equal(memmap_bytes(in, 3, HANDOFF_MEM_USABLE), GIB(1) + 0x100000);
}

/* The strictest type that a page of the input has, by looking at every range: 0 for none. */
static uint32_t model_type(const struct handoff_mem *in, uint32_t count, uint64_t page)
{
	static const uint32_t by_strictness[] = { HANDOFF_MEM_USABLE, HANDOFF_MEM_LOADER,
		HANDOFF_MEM_MODULE, HANDOFF_MEM_HV_IMAGE, HANDOFF_MEM_ACPI, HANDOFF_MEM_MMIO,
		HANDOFF_MEM_RESERVED };
	uint32_t best = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t start = in[i].base, end = start + in[i].bytes;
		bool inside = in[i].type == HANDOFF_MEM_USABLE ?
			page >= start && page + PAGE_BYTES <= end :
			page + PAGE_BYTES > start && page < end;

		if (!inside || in[i].bytes == 0)
			continue;
		for (uint32_t k = 0; k < ARRAY_COUNT(by_strictness); k++)
			if (by_strictness[k] == in[i].type && k + 1 > best)
				best = k + 1;
	}
	return best ? by_strictness[best - 1] : 0;
}

static uint32_t result_type(uint64_t page)
{
	for (uint32_t i = 0; i < result_count; i++)
		if (page >= result[i].base && page < result[i].base + result[i].bytes)
			return result[i].type;
	return 0;
}

/* Random overlapping ranges in 64 pages: every page has the type that the model gives it. */
static void property_each_page_has_its_strictest_type(void **state)
{
	uint64_t seed = 0x6d656d6d;

	(void)state;
	for (uint32_t round = 0; round < 3000; round++) {
		struct handoff_mem in[MAX_IN];
		uint32_t count = (uint32_t)(test_random(&seed) % MAX_IN);

		for (uint32_t i = 0; i < count; i++) {
			in[i] = (struct handoff_mem){ .base = test_random(&seed) % 0x3c000,
				.bytes = test_random(&seed) % 0x8000,
				.type = (uint32_t)(test_random(&seed) % 7 + 1) };
			if (test_random(&seed) % 2) { /* mostly whole pages, as firmware does */
				in[i].base &= ~PAGE_OFFSET_MASK;
				in[i].bytes &= ~PAGE_OFFSET_MASK;
			}
		}
		normalise(in, count);
		for (uint64_t page = 0; page < 0x48000; page += PAGE_BYTES)
			assert_int_equal(result_type(page), model_type(in, count, page));
		for (uint32_t i = 1; i < result_count; i++) {
			uint64_t end = result[i - 1].base + result[i - 1].bytes;

			assert_true(end <= result[i].base);
			assert_true(end < result[i].base || result[i - 1].type != result[i].type);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sorts_and_merges),
		cmocka_unit_test(placed_ranges_cut_the_firmwares),
		cmocka_unit_test(usable_shrinks_and_reserved_grows_to_pages),
		cmocka_unit_test(unknown_types_become_reserved),
		cmocka_unit_test(refuses_impossible_addresses_and_full_output),
		cmocka_unit_test(top_and_sums),
		cmocka_unit_test(property_each_page_has_its_strictest_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
