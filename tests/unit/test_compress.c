/* Pages there and back, what does not fit, and input that is not what page_compress() made. */
#include <time.h>

#include "mm/compress.h"
#include "tests/fake/audit.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/fake/vector.h"
#include "tests/unit/unit.h"
#include "vmm/selfcheck.h"

#define CAP 3072u

static uint8_t page[PAGE_BYTES], small[2 * PAGE_BYTES], back[PAGE_BYTES + 64];

static void machine(void)
{
	compress_off();
	fake_machine(1024);
	assert_int_equal(compress_init(2), OK);
	fake_cpu_index = 0;
}

/* `noise` of 256 bytes are random, the rest repeats what was `distance` bytes before. */
static void fill(uint32_t noise, uint32_t distance, uint64_t *seed)
{
	for (uint32_t i = 0; i < PAGE_BYTES; i++) {
		uint64_t r = test_random(seed);

		page[i] = i < distance || (r & 255) < noise ? (uint8_t)(r >> 32) : page[i - distance];
	}
}

static status_t there(uint32_t cap, uint32_t *bytes)
{
	memset(small, 0xcd, sizeof(small));
	status_t s = page_compress(page, small, cap, bytes);

	for (uint32_t i = cap; i < sizeof(small); i++)
		assert_int_equal(small[i], 0xcd);
	return s;
}

static void pages_come_back(void **state)
{
	uint64_t seed = 4;
	uint32_t fit = 0, bytes;

	(void)state;
	machine();
	for (uint32_t step = 0; step < 20000; step++) {
		uint64_t r = test_random(&seed);

		fake_cpu_index = r >> 60 & 1;
		fill((uint32_t)(r % 257), 1 + (uint32_t)(r >> 16) % 1000, &seed);
		uint32_t cap = r >> 40 & 1 ? CAP : 1 + (uint32_t)(r >> 48) % PAGE_BYTES;

		if (there(cap, &bytes) == ERR_LIMIT)
			continue;
		assert_true(bytes <= cap);
		fit++;
		memset(back, 0xab, sizeof(back));
		assert_int_equal(page_decompress(small, bytes, back), OK);
		assert_memory_equal(back, page, PAGE_BYTES);
		for (uint32_t i = 0; i < 64; i++)
			assert_int_equal(back[PAGE_BYTES + i], 0xab);
	}
	assert_true(fit > 4000 && fit < 19000);
	assert_true(fake_vector_count >= 20000 + fit);
	fake_cpu_index = 0;
}

static void what_pays_and_what_does_not(void **state)
{
	uint64_t seed = 1;
	uint32_t bytes;

	(void)state;
	machine();
	memset(page, 0x5a, PAGE_BYTES);
	assert_int_equal(there(CAP, &bytes), OK);
	assert_true(bytes < 40);
	fill(256, 1, &seed);
	assert_int_equal(there(CAP, &bytes), ERR_LIMIT);
	assert_int_equal(there(0, &bytes), ERR_LIMIT);
	assert_int_equal(page_compress(page, small, sizeof(small), &bytes), OK); /* larger than before */
	assert_true(bytes > PAGE_BYTES);
	assert_int_equal(page_decompress(small, bytes, back), OK);
	assert_memory_equal(back, page, PAGE_BYTES);
}

static void a_cpu_without_a_state(void **state)
{
	uint32_t bytes;

	(void)state;
	machine();
	memset(page, 1, PAGE_BYTES);
	assert_int_equal(there(CAP, &bytes), OK);
	fake_cpu_index = 2;
	assert_int_equal(page_compress(page, small, CAP, &bytes), ERR_NOSYS);
	assert_int_equal(page_decompress(small, bytes, back), OK);
	fake_cpu_index = 0;
	compress_off();
	assert_int_equal(page_compress(page, small, CAP, &bytes), ERR_NOSYS);
	fake_machine(1024);
	assert_int_equal(compress_init(CPU_MAX + 5), OK);
	compress_off();
	fake_audit_clean(NULL, 0);
	assert_int_equal(compress_init(CPU_MAX), OK);
	compress_off();
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1000, 0, 0), OK); /* 23 frames for the hypervisor */
	assert_int_equal(compress_init(CPU_MAX), ERR_NOMEM);
	assert_int_equal(page_compress(page, small, CAP, &bytes), ERR_NOSYS);
	fake_audit_clean(NULL, 0); /* what was had has gone back */
}

/* Cut, changed, too long, or anything at all: refused or some page, and no byte beyond it. */
static void corrupt_input(void **state)
{
	uint64_t seed = 8;
	uint32_t bytes = 0, refused = 0;

	(void)state;
	machine();
	fill(40, 100, &seed);
	assert_int_equal(there(CAP, &bytes), OK);
	assert_int_equal(page_decompress(small, 0, back), ERR_FORMAT);
	assert_int_equal(page_decompress(small, sizeof(small) + 1, back), ERR_FORMAT);
	assert_int_equal(page_decompress(small, bytes + 1, back), ERR_FORMAT);
	for (uint32_t cut = 1; cut < bytes; cut++)
		assert_int_equal(page_decompress(small, cut, back), ERR_FORMAT);
	memset(back, 0xab, sizeof(back));
	for (uint32_t i = 0; i < 200000; i++) {
		uint64_t r = test_random(&seed);
		uint8_t *at = &small[r % bytes], was = *at;

		*at = (uint8_t)(r >> 32);
		refused += page_decompress(small, bytes, back) != OK;
		*at = was;
	}
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(back[PAGE_BYTES + i], 0xab);
	assert_true(refused > 1000);
	assert_int_equal(page_decompress(small, bytes, back), OK);
	assert_memory_equal(back, page, PAGE_BYTES);
}

static void self_check(void **state)
{
	struct selfcheck_page p[SELFCHECK_PAGES];

	(void)state;
	machine();
	assert_true(selfcheck_compress(p));
	assert_true(p[0].bytes && p[1].bytes && p[2].bytes && !p[3].bytes);
	compress_off();
	assert_false(selfcheck_compress(p));
	fake_audit_clean(NULL, 0);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Figures of this host, for orientation; the library is the one that the image has. */
static void figures(void **state)
{
	static const uint32_t noise[] = { 0, 20, 60, 256 };
	uint64_t seed = 2;

	(void)state;
	machine();
	for (uint32_t i = 0; i < ARRAY_COUNT(noise); i++) {
		uint32_t bytes = 0, rounds = 2000;
		status_t s = OK;

		fill(noise[i], 90, &seed);
		double start = now();

		for (uint32_t k = 0; k < rounds; k++)
			s = page_compress(page, small, CAP, &bytes);
		double middle = now();

		for (uint32_t k = 0; k < rounds && s == OK; k++)
			assert_int_equal(page_decompress(small, bytes, back), OK);
		print_message("compress_4k: noise %u/256: %s, %u bytes, %.0f ns; decompress_4k %.0f ns\n",
			noise[i], status_text(s), s == OK ? bytes : 0, (middle - start) / rounds,
			(now() - middle) / rounds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_pays_and_what_does_not),
		cmocka_unit_test(pages_come_back),
		cmocka_unit_test(a_cpu_without_a_state),
		cmocka_unit_test(corrupt_input),
		cmocka_unit_test(self_check),
		cmocka_unit_test(figures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
