/* The guest kernel's device tree reader (trees made by libfdt) and its text functions. */
#include <libfdt.h>

#include "guest-drivers/kernel/fdt.h"
#include "guest-drivers/kernel/format.h"
#include "tests/unit/unit.h"

#define TREE_BYTES 2048

static void make_tree(void *tree, uint64_t base, uint64_t bytes)
{
	fdt64_t reg[2] = { cpu_to_fdt64(base), cpu_to_fdt64(bytes) };

	assert_int_equal(fdt_create(tree, TREE_BYTES), 0);
	assert_int_equal(fdt_add_reservemap_entry(tree, 0x1000, 0x1000), 0);
	fdt_finish_reservemap(tree);
	fdt_begin_node(tree, "");
	fdt_property_u32(tree, "#address-cells", 2);
	fdt_begin_node(tree, "memory@0");
	fdt_property_string(tree, "device_type", "memory");
	fdt_property(tree, "reg", reg, sizeof(reg));
	fdt_end_node(tree);
	fdt_begin_node(tree, "chosen");
	fdt_property_string(tree, "bootargs", "run=hog:8M tests");
	fdt_end_node(tree);
	fdt_begin_node(tree, "hypervisor");
	fdt_property_string(tree, "guest-name", "vm3");
	fdt_begin_node(tree, "chosen"); /* deeper: not the one */
	fdt_property_string(tree, "bootargs", "wrong");
	fdt_end_node(tree);
	fdt_end_node(tree);
	fdt_end_node(tree);
	assert_int_equal(fdt_finish(tree), 0);
}

static void test_facts(void **state)
{
	uint8_t tree[TREE_BYTES] = { 0 };
	struct fdt_facts f;

	(void)state;
	make_tree(tree, 0, 16 << 20);
	assert_null(fdt_read(tree, sizeof(tree), &f));
	assert_int_equal(f.memory_base, 0);
	assert_int_equal(f.memory_bytes, 16 << 20);
	assert_string_equal(f.bootargs, "run=hog:8M tests");
	assert_string_equal(f.name, "vm3");
	assert_int_equal(f.blob_bytes, fdt_totalsize(tree));
}

static void test_no_tree(void **state)
{
	uint8_t tree[TREE_BYTES] = { 0 };
	struct fdt_facts f;

	(void)state;
	assert_non_null(fdt_read(tree, sizeof(tree), &f));
	make_tree(tree, 0, 0);
	assert_string_equal(fdt_read(tree, sizeof(tree), &f), "no memory node");
	assert_non_null(fdt_read(tree, 39, &f));
	assert_non_null(fdt_read(tree, fdt_totalsize(tree) - 1, &f));
}

/* Each byte changed, each length cut: an answer, and no access outside (the sanitizer watches). */
static void test_damaged(void **state)
{
	uint8_t good[TREE_BYTES] = { 0 };
	struct fdt_facts f;

	(void)state;
	make_tree(good, 0, 16 << 20);
	uint32_t n = fdt_totalsize(good);

	for (uint32_t at = 0; at < n; at++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			uint8_t *copy = malloc(n);

			memcpy(copy, good, n);
			copy[at] ^= (uint8_t)(1 << bit);
			fdt_read(copy, n, &f);
			free(copy);
		}
		uint8_t *cut = malloc(at + 1);

		memcpy(cut, good, at + 1);
		if (at + 1 < n)
			assert_non_null(fdt_read(cut, at + 1, &f));
		free(cut);
	}
}

__attribute__((format(printf, 1, 2))) static const char *formatted(const char *fmt, ...)
{
	static char buf[64];
	va_list ap;

	va_start(ap, fmt);
	size_t n = format_text(buf, sizeof(buf) - 1, fmt, ap);

	va_end(ap);
	buf[n] = '\0';
	return buf;
}

static void test_format(void **state)
{
	(void)state;
	assert_string_equal(formatted("%d %u %x %c%%", -5, 7u, 0xbeefu, 'c'), "-5 7 beef c%");
	assert_string_equal(formatted("%ld|%lu", INT64_MIN, UINT64_MAX),
			    "-9223372036854775808|18446744073709551615");
	assert_string_equal(formatted("%6u|%-6s|%6s|%06x", 42u, "ab", "cd", 0x1fu),
			    "    42|ab    |    cd|00001f");
	assert_string_equal(formatted("%05d", -42), "-0042");
	assert_int_equal(strlen(formatted("%100s", "x")), 63);
}

static void test_numbers(void **state)
{
	uint64_t v;

	(void)state;
	assert_true(text_number("0", &v) && v == 0);
	assert_true(text_number("0xff", &v) && v == 255);
	assert_true(text_number("18446744073709551615", &v) && v == UINT64_MAX);
	assert_false(text_number("18446744073709551616", &v));
	assert_false(text_number("", &v));
	assert_false(text_number("0x", &v));
	assert_false(text_number("-1", &v));
	assert_false(text_number("12a", &v));
	assert_true(text_size("8M", &v) && v == 8 << 20);
	assert_true(text_size("64k", &v) && v == 65536);
	assert_true(text_size("1024g", &v) && v == 1ull << 40);
	assert_false(text_size("1025g", &v));
	assert_false(text_size("8MB", &v));
	assert_false(text_size("M", &v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_facts),  cmocka_unit_test(test_no_tree), cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_format), cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
