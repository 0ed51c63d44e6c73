/* boot/pagetable.c: what the loader's first tables map, read as the processor reads them. */
#include "tests/unit/unit.h"

#include "boot/handoff.h"
#include "boot/pagetable.h"

#define POOL_PA    0x7000000ull
#define POOL_PAGES 64u

static uint64_t pool[POOL_PAGES * 512];
static struct pagetable t;

static int setup(void **state)
{
	(void)state;
	memset(pool, 0xff, sizeof(pool)); /* tables must be cleared before use */
	pagetable_init(&t, pool, POOL_PA, POOL_PAGES);
	return 0;
}

struct found {
	bool mapped;
	uint64_t pa, size;
	bool write, nx;
};

static struct found look(uint64_t va)
{
	struct found f = { .write = true };
	const uint64_t *table = pool;

	for (uint32_t shift = 39;; shift -= 9) {
		uint64_t e = table[(va >> shift) % 512];

		if (!(e & PT_PRESENT))
			return (struct found){ 0 };
		f.write = f.write && (e & PT_WRITE);
		f.nx = f.nx || (e & PT_NX);
		if (shift == 12 || (e & PT_LARGE)) {
			f.mapped = true;
			f.size = 1ull << shift;
			f.pa = (e & 0x000ffffffffff000ull) + (va & (f.size - 1));
			return f;
		}
		table = pool + ((e & 0x000ffffffffff000ull) - POOL_PA) / 8;
	}
}

static void direct_map_uses_the_largest_pages(void **state)
{
	const uint64_t sizes[] = { GIB(1), MIB(2) };

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		setup(state);
		assert_int_equal(pagetable_map(&t, HANDOFF_DIRECTMAP, 0, GIB(4), PT_WRITE | PT_NX,
					 sizes[i]), OK);
		assert_int_equal(t.used, 1 + pagetable_pages_for(GIB(4), sizes[i]));
		for (uint64_t pa = 0x1234; pa < GIB(4); pa += MIB(333)) {
			struct found f = look(HANDOFF_DIRECTMAP + pa);

			assert_true(f.mapped && f.write && f.nx);
			assert_int_equal(f.pa, pa);
			assert_int_equal(f.size, sizes[i]);
		}
		assert_false(look(HANDOFF_DIRECTMAP + GIB(4)).mapped);
		assert_false(look(0).mapped);
	}
}

static void segments_keep_their_own_rights(void **state)
{
	const uint64_t va = HANDOFF_HV_BASE;

	(void)state;
	assert_int_equal(pagetable_map(&t, va, 0x5000, 0x3000, 0, PAGE_BYTES), OK);
	assert_int_equal(pagetable_map(&t, va + 0x3000, 0x9000, 0x1000, PT_NX, PAGE_BYTES), OK);
	assert_int_equal(pagetable_map(&t, va + 0x4000, 0x20000, 0x2000, PT_NX | PT_WRITE, PAGE_BYTES),
		OK);
	struct found text = look(va + 0x2fff), rodata = look(va + 0x3000), data = look(va + 0x5008);

	assert_true(text.mapped && !text.write && !text.nx && text.pa == 0x7fff);
	assert_true(rodata.mapped && !rodata.write && rodata.nx && rodata.pa == 0x9000);
	assert_true(data.mapped && data.write && data.nx && data.pa == 0x21008);
	assert_false(look(va + 0x6000).mapped);
	assert_false(look(va - 1).mapped);
}

static void odd_ends_take_small_pages(void **state)
{
	(void)state;
	assert_int_equal(pagetable_map(&t, MIB(2) - PAGE_BYTES, MIB(2) - PAGE_BYTES,
				 MIB(4) + 2 * PAGE_BYTES, 0, GIB(1)), OK);
	assert_int_equal(look(MIB(2) - 1).size, PAGE_BYTES);
	assert_int_equal(look(MIB(2)).size, MIB(2));
	assert_int_equal(look(MIB(6)).size, PAGE_BYTES);
	assert_int_equal(look(MIB(6)).pa, MIB(6));
	assert_false(look(MIB(6) + PAGE_BYTES).mapped);
}

static void says_when_it_cannot(void **state)
{
	(void)state;
	assert_int_equal(pagetable_map(&t, 0, 0, MIB(2), 0, MIB(2)), OK);
	assert_int_equal(pagetable_map(&t, 0x1000, 0, 0x1000, 0, PAGE_BYTES), ERR_EXIST);
	assert_int_equal(pagetable_map(&t, 0, 0, MIB(2), 0, MIB(2)), ERR_EXIST);
	pagetable_init(&t, pool, POOL_PA, 3);
	assert_int_equal(pagetable_map(&t, 0, 0, PAGE_BYTES, 0, PAGE_BYTES), ERR_NOMEM);
	assert_int_equal(t.used, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(direct_map_uses_the_largest_pages, setup),
		cmocka_unit_test_setup(segments_keep_their_own_rights, setup),
		cmocka_unit_test_setup(odd_ends_take_small_pages, setup),
		cmocka_unit_test_setup(says_when_it_cannot, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
