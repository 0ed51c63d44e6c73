/* Hypercall arguments: the rules, one by one, and random ones against first principles. */
#include "tests/unit/unit.h"
#include "vmm/hcdecode.h"

#define MEMORY MIB(16)

static int64_t check(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	return hc_check(number, (const uint64_t[HC_ARGS]){ a, b, c }, MEMORY);
}

static void numbers(void **state)
{
	(void)state;
	assert_int_equal(check(AERO_HC_NULL, 1, 2, 3), 0);
	assert_int_equal(check(AERO_HC_COUNT, 0, 0, 0), -AERO_ENOSYS);
	assert_int_equal(check(UINT64_MAX, 0, 0, 0), -AERO_ENOSYS);
	assert_int_equal(check(1ull << 32, 0, 0, 0), -AERO_ENOSYS);
	for (uint64_t n = 0; n < AERO_HC_COUNT; n++)
		assert_non_null(hc_name(n));
	assert_null(hc_name(AERO_HC_COUNT));
}

static void buffers(void **state)
{
	(void)state;
	assert_int_equal(check(AERO_HC_CONSOLE_WRITE, MEMORY - 4096, 4096, 0), 0);
	assert_int_equal(check(AERO_HC_CONSOLE_WRITE, MEMORY - 4095, 4096, 0), -AERO_EFAULT);
	assert_int_equal(check(AERO_HC_CONSOLE_WRITE, 0, 4097, 0), -AERO_ERANGE);
	assert_int_equal(check(AERO_HC_CONSOLE_WRITE, UINT64_MAX, 16, 0), -AERO_EFAULT);
	assert_int_equal(check(AERO_HC_CONSOLE_READ, UINT64_MAX - 8, 4096, 0), -AERO_EFAULT);
	assert_int_equal(check(AERO_HC_CONSOLE_READ, 0, UINT64_MAX, 0), -AERO_ERANGE);
	assert_int_equal(check(AERO_HC_BLOCK_INFO, MEMORY - 16, UINT64_MAX, 0), 0);
	assert_int_equal(check(AERO_HC_BLOCK_INFO, MEMORY - 8, 0, 0), -AERO_EFAULT);
	assert_int_equal(check(AERO_HC_BLOCK_INFO, 4, 0, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BLOCK_IO, 0, 64, 0), 0);
	assert_int_equal(check(AERO_HC_BLOCK_IO, 0, 65, 0), -AERO_ERANGE);
	assert_int_equal(check(AERO_HC_BLOCK_IO, 1, 1, 0), -AERO_EINVAL);
}

static void balloon_calls(void **state)
{
	(void)state;
	assert_int_equal(check(AERO_HC_BALLOON_INFLATE, 8, AERO_RANGE_MAX, 0), 0);
	assert_int_equal(check(AERO_HC_BALLOON_INFLATE, 8, AERO_RANGE_MAX + 1, 0), -AERO_ERANGE);
	assert_int_equal(check(AERO_HC_BALLOON_INFLATE, 8, 1, 1), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_INFLATE, 12, 1, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_INFLATE, MEMORY - 24, 2, 0), -AERO_EFAULT);
	assert_int_equal(check(AERO_HC_BALLOON_DEFLATE, 8, 1, AERO_DEFLATE_URGENT), 0);
	assert_int_equal(check(AERO_HC_BALLOON_DEFLATE, 8, 1, 2), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_SETUP, 4096, 1, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_REPORT, 4, 0, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_REPORT, 3, AERO_REASON_COUNT, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_BALLOON_REPORT, 3, 1, UINT64_MAX), 0);
	assert_int_equal(check(AERO_HC_PRESSURE, 3, 0, 0), -AERO_EINVAL);
}

static void small_values(void **state)
{
	(void)state;
	assert_int_equal(check(AERO_HC_EVENT_SETUP, 255, 0, 0), 0);
	assert_int_equal(check(AERO_HC_EVENT_SETUP, 256, 0, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_SHUTDOWN, 3, 0, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_DEBUG, 4, 0, 0), -AERO_EINVAL);
	assert_int_equal(check(AERO_HC_DEBUG, UINT64_MAX, 0, 0), -AERO_EINVAL);
}

static void block_requests(void **state)
{
	struct aero_block_req r = { .sector = 0, .gpa = 512, .sectors = 8, .op = AERO_BLOCK_READ };

	(void)state;
	assert_int_equal(hc_check_block(&r, 8, MEMORY), 0);
	assert_int_equal(hc_check_block(&r, 7, MEMORY), -AERO_ERANGE);
	r.sector = UINT64_MAX;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_ERANGE);
	r.sector = UINT64_MAX - 7;
	assert_int_equal(hc_check_block(&r, UINT64_MAX, MEMORY), -AERO_ERANGE);
	r.sector = 0;
	r.gpa = 511;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_EINVAL);
	r.gpa = MEMORY - 512;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_EFAULT);
	r.gpa = UINT64_MAX - 511;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_EFAULT);
	r.gpa = 0;
	r.sectors = 0;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_EINVAL);
	r.sectors = HC_BLOCK_SECTORS_MAX + 1;
	assert_int_equal(hc_check_block(&r, UINT64_MAX, MEMORY), -AERO_EINVAL);
	r.sectors = 1;
	r.op = 3;
	assert_int_equal(hc_check_block(&r, 100, MEMORY), -AERO_EINVAL);
	r.op = AERO_BLOCK_FLUSH;
	r.sector = UINT64_MAX; /* a flush has no place */
	assert_int_equal(hc_check_block(&r, 100, MEMORY), 0);
}

/* Whatever passes lies in memory, byte by byte, by 128-bit arithmetic. */
static void random_arguments(void **state)
{
	static const uint32_t unit[AERO_HC_COUNT] = { [AERO_HC_CONSOLE_WRITE] = 1,
		[AERO_HC_CONSOLE_READ] = 1, [AERO_HC_BLOCK_IO] = 24, [AERO_HC_BALLOON_INFLATE] = 24,
		[AERO_HC_BALLOON_DEFLATE] = 24 };
	uint64_t seed = 7, passed = 0;

	(void)state;
	for (int i = 0; i < 1000000; i++) {
		uint64_t n = test_random(&seed) % (AERO_HC_COUNT + 1);
		uint64_t a = test_random(&seed) >> (test_random(&seed) % 64);
		uint64_t b = test_random(&seed) >> (test_random(&seed) % 64);

		if (check(n, a, b, 0) != 0)
			continue;
		passed++;
		assert_true(n < AERO_HC_COUNT);
		if (unit[n])
			assert_true((unsigned __int128)a + (unsigned __int128)b * unit[n] <= MEMORY);
	}
	assert_true(passed > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(buffers),
		cmocka_unit_test(balloon_calls),
		cmocka_unit_test(small_values),
		cmocka_unit_test(block_requests),
		cmocka_unit_test(random_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
