/* The hypervisor's first steps: hand-over check, memory map, own page tables. */
#include "tests/unit/unit.h"

#include "arch/x86/handoff_check.h"
#include "arch/x86/hostpt.h"
#include "arch/x86/physmap.h"

static struct handoff good_handoff(void)
{
	return (struct handoff){
		.magic = HANDOFF_MAGIC, .version = HANDOFF_VERSION, .bytes = sizeof(struct handoff),
		.segment_count = 2,
		.segments = { { HANDOFF_HV_BASE, 0x200000, 0x3000, 5, 0 },
			{ HANDOFF_HV_BASE + 0x3000, 0x203000, 0x1000, 6, 0 } },
	};
}

static void handoff_good(void **state)
{
	(void)state;
	char why[HANDOFF_CHECK_BYTES];
	struct handoff h = good_handoff();

	assert_int_equal(handoff_check(&h, why), OK);
}

static void expect_refused(const struct handoff *h, const char *words)
{
	char why[HANDOFF_CHECK_BYTES] = "";

	assert_int_equal(handoff_check(h, why), ERR_FORMAT);
	assert_non_null(strstr(why, words));
}

static void handoff_bad(void **state)
{
	(void)state;
	struct handoff h = good_handoff();

	h.magic++;
	expect_refused(&h, "magic");
	h = good_handoff();
	h.version = 7;
	expect_refused(&h, "version 7");
	h = good_handoff();
	h.bytes -= 8;
	expect_refused(&h, "install both");
	h = good_handoff();
	h.module_count = HANDOFF_MODULE_MAX + 1;
	expect_refused(&h, "modules");
	h = good_handoff();
	h.segment_count = 0;
	expect_refused(&h, "0 image segments");
	h.segment_count = HANDOFF_SEGMENT_MAX + 1;
	expect_refused(&h, "image segments");
	h = good_handoff();
	h.segments[1].flags = 7;
	expect_refused(&h, "segment 1 is both writable and executable");
	h = good_handoff();
	h.segments[1].pa += 8;
	expect_refused(&h, "segment 1 is not page aligned");
}

static const struct handoff_mem firmware[] = {
	{ 0, 0xa0000, HANDOFF_MEM_USABLE, 0 },
	{ 0x100000, 0x700000, HANDOFF_MEM_USABLE, 0 },
	{ 0x800000, 0x100000, HANDOFF_MEM_LOADER, 0 },
	{ 0x900000, 0x100000, HANDOFF_MEM_ACPI, 0 },
	{ 0xa00000, 0x40000, HANDOFF_MEM_USABLE, 0 },
	{ 0xe0000000, 0x1000000, HANDOFF_MEM_MMIO, 0 },
};

static struct physmap load_good(void)
{
	struct physmap m;
	const char *why;

	assert_int_equal(physmap_load(&m, firmware, ARRAY_COUNT(firmware), &why), OK);
	return m;
}

static void physmap_basics(void **state)
{
	(void)state;
	struct physmap m = load_good();

	assert_int_equal(m.count, ARRAY_COUNT(firmware));
	assert_int_equal(physmap_ram_top(&m), 0xa40000);
	assert_int_equal(physmap_ram_bytes(&m), 0xa0000 + 0x700000 + 0x100000 + 0x40000);
	assert_int_equal(physmap_find(&m, HPA(0x8fffff))->type, HANDOFF_MEM_LOADER);
	assert_null(physmap_find(&m, HPA(0xa0000)));
	physmap_retype(&m, HANDOFF_MEM_LOADER, HANDOFF_MEM_USABLE);
	assert_int_equal(m.count, ARRAY_COUNT(firmware) - 1);
	assert_int_equal(m.run[1].bytes, 0x800000);
}

static void physmap_refuses(void **state)
{
	(void)state;
	static struct handoff_mem many[PHYSMAP_MAX + 1];
	struct physmap m;
	const char *why;
	struct handoff_mem bad[2] = { { 0x1000, 0x2000, 1, 0 }, { 0x2000, 0x1000, 1, 0 } };

	assert_int_equal(physmap_load(&m, bad, 2, &why), ERR_FORMAT);
	assert_non_null(strstr(why, "overlaps"));
	bad[1].base = 0x3010;
	assert_int_equal(physmap_load(&m, bad, 2, &why), ERR_FORMAT);
	assert_non_null(strstr(why, "aligned"));
	bad[1] = (struct handoff_mem){ 0xfffffffffffff000ull, 0x2000, 1, 0 };
	assert_int_equal(physmap_load(&m, bad, 2, &why), ERR_FORMAT);
	assert_int_equal(physmap_load(&m, many, PHYSMAP_MAX + 1, &why), ERR_LIMIT);
	assert_int_equal(physmap_load(&m, bad, 0, &why), ERR_FORMAT);
	assert_non_null(strstr(why, "no usable"));
}

static void physmap_takes_smallest(void **state)
{
	(void)state;
	struct physmap m = load_good();
	hpa_t at;

	assert_int_equal(physmap_take(&m, 0x10000, 0x100000, GIB(4), &at), OK);
	assert_int_equal(at.v, 0xa30000);
	assert_int_equal(physmap_find(&m, at)->type, HANDOFF_MEM_HV_IMAGE);
	/* The second joins the first. */
	assert_int_equal(physmap_take(&m, 0x10000, 0x100000, GIB(4), &at), OK);
	assert_int_equal(at.v, 0xa20000);
	assert_int_equal(physmap_find(&m, at)->bytes, 0x20000);
	/* Half of it back: usable, and the next to be taken. */
	physmap_give(&m, HPA(0xa28000), 0x18000);
	assert_int_equal(physmap_find(&m, HPA(0xa27000))->type, HANDOFF_MEM_HV_IMAGE);
	assert_int_equal(physmap_find(&m, HPA(0xa28000))->type, HANDOFF_MEM_USABLE);
	physmap_give(&m, HPA(0x100000), 0x1000);
	physmap_give(&m, HPA(0xa20000), 0x9000);
	assert_int_equal(physmap_find(&m, at)->type, HANDOFF_MEM_HV_IMAGE);
	/* Too big for the small run; bounds keep out of the low one and cut the large one. */
	assert_int_equal(physmap_take(&m, 0x50000, 0x100000, 0x300000, &at), OK);
	assert_int_equal(at.v, 0x300000 - 0x50000);
	assert_int_equal(physmap_find(&m, HPA(0x300000))->type, HANDOFF_MEM_USABLE);
	assert_int_equal(physmap_take(&m, 0x800000, 0, GIB(4), &at), ERR_NOMEM);
}

/* Taking at random keeps the map sorted, whole, and hands nothing out twice. */
static void physmap_take_random(void **state)
{
	(void)state;
	uint64_t seed = 1, before;
	struct physmap m = load_good();
	uint64_t taken = 0;

	before = physmap_ram_bytes(&m);
	for (int i = 0; i < 2000; i++) {
		uint64_t bytes = (test_random(&seed) % 32 + 1) * PAGE_BYTES;
		hpa_t at;
		struct physmap old = m;

		if (physmap_take(&m, bytes, 0, GIB(4), &at))
			continue;
		taken += bytes;
		for (uint64_t p = 0; p < bytes; p += PAGE_BYTES)
			assert_int_equal(physmap_find(&old, HPA(at.v + p))->type,
				HANDOFF_MEM_USABLE);
		for (uint32_t r = 1; r < m.count; r++)
			assert_true(m.run[r - 1].base + m.run[r - 1].bytes <= m.run[r].base);
	}
	uint64_t image = 0;
	for (uint32_t r = 0; r < m.count; r++)
		if (m.run[r].type == HANDOFF_MEM_HV_IMAGE)
			image += m.run[r].bytes;
	assert_int_equal(image, taken);
	assert_int_equal(physmap_ram_bytes(&m), before);
}

#define TABLE_PAGES 64
static uint8_t memory[(TABLE_PAGES + 1) * PAGE_BYTES] __attribute__((aligned(4096)));

static struct hostpt tables_new(uint64_t pages, bool page_1g)
{
	directmap_offset = (uintptr_t)memory;
	struct hostpt t = { .next = HPA(PAGE_BYTES), .end = HPA((pages + 1) * PAGE_BYTES),
		.page_1g = page_1g };

	assert_int_equal(hostpt_init(&t), OK);
	return t;
}

static void hostpt_sizes(void **state)
{
	(void)state;
	struct hostpt t = tables_new(TABLE_PAGES, true);
	uint32_t shift;

	/* 4 KiB up to 2 MiB, 2 MiB up to 1 GiB, 1 GiB, 2 MiB, 4 KiB. */
	assert_int_equal(hostpt_map(&t, HANDOFF_DIRECTMAP + 0x1ff000, HPA(0x1ff000),
		GIB(2) + 0x401000 - 0x1ff000, PT_WRITE | PT_NX), OK);
	static const struct {
		uint64_t pa;
		uint32_t shift;
	} want[] = { { 0x1ff000, 12 }, { 0x200000, 21 }, { GIB(1) - 1, 21 }, { GIB(1), 30 },
		{ GIB(2), 21 }, { GIB(2) + 0x3fffff, 21 }, { GIB(2) + 0x400000, 12 } };
	for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
		uint64_t e = hostpt_walk(&t, HANDOFF_DIRECTMAP + want[i].pa, &shift);

		assert_int_equal(shift, want[i].shift);
		assert_int_equal(e & PT_ADDRESS, ALIGN_DOWN(want[i].pa, 1ull << shift));
		assert_true(e & PT_NX && e & PT_WRITE);
	}
	assert_int_equal(hostpt_walk(&t, HANDOFF_DIRECTMAP, &shift), 0);
	assert_int_equal(hostpt_walk(&t, HANDOFF_DIRECTMAP + GIB(2) + 0x401000, &shift), 0);
	assert_int_equal(hostpt_walk(&t, GIB(1), &shift), 0);
}

static void hostpt_refuses(void **state)
{
	(void)state;
	struct hostpt t = tables_new(TABLE_PAGES, false);
	uint32_t shift;

	assert_int_equal(hostpt_map(&t, GIB(1), HPA(GIB(1)), GIB(1), 0), OK);
	(void)hostpt_walk(&t, GIB(1), &shift);
	assert_int_equal(shift, 21);
	assert_int_equal(hostpt_map(&t, GIB(1) + 0x5000, HPA(0), 0x1000, 0), ERR_EXIST);
	assert_int_equal(hostpt_map(&t, GIB(1) + 0x200000, HPA(0), 0x200000, 0), ERR_EXIST);
	t = tables_new(3, false);
	assert_int_equal(hostpt_map(&t, 0, HPA(0), 0x1000, 0), ERR_NOMEM);
}

/* No map of ragged ranges needs more than hostpt_pages_needed() says. */
static void hostpt_need_is_enough(void **state)
{
	(void)state;
	uint64_t seed = 2;

	for (int round = 0; round < 300; round++) {
		bool page_1g = round & 1;
		uint64_t runs = test_random(&seed) % 8 + 1, at = 0;
		struct hostpt t = tables_new(TABLE_PAGES, page_1g);

		for (uint64_t i = 0; i < runs; i++) {
			uint64_t bytes = (test_random(&seed) % 300000 + 1) * PAGE_BYTES;

			at += (test_random(&seed) % 5000 + 1) * PAGE_BYTES;
			uint64_t va = HANDOFF_DIRECTMAP + at;

			assert_int_equal(hostpt_map(&t, va, HPA(at), bytes, PT_NX), OK);
			at += bytes;
		}
		assert_true((t.next.v >> PAGE_SHIFT) - 1 <= hostpt_pages_needed(at, runs, page_1g));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handoff_good), cmocka_unit_test(handoff_bad),
		cmocka_unit_test(physmap_basics), cmocka_unit_test(physmap_refuses),
		cmocka_unit_test(physmap_takes_smallest), cmocka_unit_test(physmap_take_random),
		cmocka_unit_test(hostpt_sizes), cmocka_unit_test(hostpt_refuses),
		cmocka_unit_test(hostpt_need_is_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
