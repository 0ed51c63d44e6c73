#include "mm/heap.h"
#include "tests/fake/audit.h"
#include "tests/fake/bug.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

static void machine(uint64_t frames)
{
	fake_machine(frames);
	assert_int_equal(frame_pool_init(100, frames - 200, 0), OK);
}

static bool all(const uint8_t *p, size_t n, uint8_t value)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != value)
			return false;
	return true;
}

static void zeroed_and_aligned(void **state)
{
	const size_t sizes[] = { 1, 15, 16, 17, 48, 1000, 2047, 2048, 2049, 4095, 4096, 4097, 20000,
		1 << 20, 2 << 20 };

	(void)state;
	machine(4096);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
			uint8_t *p = heap_alloc(sizes[i]);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p & (sizes[i] >= 4096 ? 4095 : 15), 0);
			assert_true(all(p, sizes[i], 0));
			memset(p, 0xee, sizes[i]);
			heap_free(p, sizes[i]);
		}
	}
	assert_int_equal(heap_used_bytes(), 0);
	fake_audit_clean(NULL, 0);
}

static void odd_sizes_and_exhaustion(void **state)
{
	void *p;
	uint64_t n;
	static void *got[5000];

	(void)state;
	machine(1024);
	assert_null(heap_alloc(0));
	assert_null(heap_alloc((2 << 20) + 1));
	assert_null(heap_alloc(SIZE_MAX));
	heap_free(NULL, 16);
	p = heap_alloc(5 * 4096); /* no more than five frames of eight */
	assert_int_equal(heap_used_bytes(), 5 * 4096);
	heap_free(p, 5 * 4096);
	for (n = 0; n < 5000 && (got[n] = heap_alloc(1024)); n++)
		;
	assert_int_equal(n, (1024 - 1 - 100) * 4);
	while (n)
		heap_free(got[--n], 1024);
	assert_int_equal(heap_used_bytes(), 0);
}

static void random_objects(void **state)
{
	static struct {
		uint8_t *p;
		size_t bytes;
		uint8_t fill;
	} o[300];
	uint64_t seed = 11;

	(void)state;
	machine(8192);
	for (uint32_t step = 0; step < 100000; step++) {
		uint64_t r = test_random(&seed);
		uint32_t i = (uint32_t)(r % 300);

		if (o[i].p) {
			assert_true(all(o[i].p, o[i].bytes, o[i].fill));
			heap_free(o[i].p, o[i].bytes);
			o[i].p = NULL;
			continue;
		}
		o[i].bytes = (r >> 20) % (r & 1 << 16 ? 2048 : 256) + 1;
		if ((r >> 40) % 50 == 0)
			o[i].bytes = (r >> 20) % 40000 + 1;
		o[i].p = heap_alloc(o[i].bytes);
		assert_non_null(o[i].p);
		assert_true(all(o[i].p, o[i].bytes, 0));
		o[i].fill = (uint8_t)(r >> 50);
		memset(o[i].p, o[i].fill, o[i].bytes);
		if (step % 10000 == 0)
			fake_audit_clean(NULL, 0);
	}
	for (uint32_t i = 0; i < 300; i++)
		heap_free(o[i].p, o[i].bytes);
	assert_int_equal(heap_used_bytes(), 0);
	fake_audit_clean(NULL, 0);
}

static void wrong_frees_are_found(void **state)
{
	char *p;
	void *q;

	(void)state;
	machine(1024);
	p = heap_alloc(64);
	q = heap_alloc(8192);
	assert_true(FAKE_BUG_REACHED(heap_free(p, 128)));
	assert_true(FAKE_BUG_REACHED(heap_free(p + 8, 64)));
	assert_true(FAKE_BUG_REACHED(heap_free((char *)q + 16, 8192)));
	heap_free(p, 64);
	heap_free(q, 8192);
	assert_true(FAKE_BUG_REACHED(heap_free(q, 8192)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_and_aligned),
		cmocka_unit_test(odd_sizes_and_exhaustion),
		cmocka_unit_test(random_objects),
		cmocka_unit_test(wrong_frees_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
