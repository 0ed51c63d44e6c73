/* The ELF reader: a good image, and each way to be bad. */
#include "tests/unit/unit.h"
#include "vmm/base/elf.h"

static uint8_t image[4096];

static void put(size_t at, uint64_t v, int n)
{
	for (int i = 0; i < n; i++)
		image[at + (size_t)i] = (uint8_t)(v >> (8 * i));
}

static void put_segment(int index, uint32_t flags, uint64_t offset, uint64_t va, uint64_t file,
	uint64_t mem)
{
	size_t p = 64 + (size_t)index * 56;
	put(p, 1, 4);
	put(p + 4, flags, 4);
	put(p + 8, offset, 8);
	put(p + 16, va, 8);
	put(p + 24, va, 8);
	put(p + 32, file, 8);
	put(p + 40, mem, 8);
}

static int good_image(void **state)
{
	(void)state;
	memset(image, 0, sizeof(image));
	memcpy(image, "\177ELF\2\1\1", 7);
	put(16, 2, 2);
	put(18, 62, 2);
	put(24, 0x100010, 8);
	put(32, 64, 8);
	put(54, 56, 2);
	put(56, 2, 2);
	put_segment(0, 5, 512, 0x100000, 256, 256);
	put_segment(1, 6, 1024, 0x101000, 100, 5000);
	return 0;
}

static status_t parse(const char **why, struct elf_image *out)
{
	/* An exact heap copy: ASan sees any read past the end. */
	void *copy = malloc(sizeof(image));
	memcpy(copy, image, sizeof(image));
	status_t s = elf_parse(copy, sizeof(image), out, why);
	free(copy);
	return s;
}

static void bad(const char *expected)
{
	const char *why;
	struct elf_image e;
	assert_int_equal(parse(&why, &e), ERR_FORMAT);
	assert_non_null(strstr(why, expected));
	good_image(NULL);
}

static void test_good(void **state)
{
	(void)state;
	const char *why;
	struct elf_image e;
	assert_int_equal(parse(&why, &e), OK);
	assert_int_equal(e.segment_count, 2);
	assert_int_equal(e.entry, 0x100010);
	assert_int_equal(e.segment[1].mem_bytes, 5000);
	assert_int_equal(e.segment[1].flags, 6);
}

static void test_bad(void **state)
{
	(void)state;
	image[0] = 0, bad("not an ELF");
	image[4] = 1, bad("64-bit");
	put(18, 3, 2), bad("x86-64");
	put(16, 3, 2), bad("ET_EXEC");
	put(54, 32, 2), bad("program headers");
	put(32, UINT64_MAX - 10, 8), bad("outside the file");
	put(56, 65535, 2), bad("outside the file");
	put_segment(0, 5, 4000, 0x100000, 256, 256), bad("outside the file");
	put_segment(0, 5, UINT64_MAX, 0x100000, 256, 256), bad("outside the file");
	put_segment(0, 5, 512, 0x100000, 256, 255), bad("larger in the file");
	put_segment(0, 5, 512, UINT64_MAX - 100, 256, 256), bad("wraps");
	put_segment(1, 6, 512, 0x1000ff, 256, 256), bad("overlap");
	put(24, 0x100100, 8), bad("entry point");
	put(24, 0x101000, 8), bad("entry point"); /* not executable */
	put(56, 0, 2), bad("nothing to load");
}

static void test_truncated(void **state)
{
	(void)state;
	for (size_t n = 0; n < 1124; n++) {
		uint8_t *copy = malloc(n ? n : 1);
		memcpy(copy, image, n);
		const char *why;
		struct elf_image e;
		assert_int_equal(elf_parse(copy, n, &e, &why), ERR_FORMAT);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_good, good_image),
		cmocka_unit_test_setup(test_bad, good_image),
		cmocka_unit_test_setup(test_truncated, good_image),
	};
	return cmocka_run_group_tests_name("elf", tests, NULL, NULL);
}
