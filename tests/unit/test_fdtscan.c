/* boot/fdtscan.c: the names of the guests' images, out of trees good and bad. */
#include "tests/unit/unit.h"

#include <libfdt.h>

#include "boot/fdtscan.h"

#define ROOM 16384

static uint8_t tree[ROOM];
static struct fdtscan got;
static const char *why;

static void put(const char *name, const char *text)
{
	assert_int_equal(fdt_property(tree, name, text, (int)strlen(text) + 1), 0);
}

/* A config with one guest per kernel in `kernels`; NULL ends the list. */
static uint64_t build(const char *const *kernels)
{
	char name[16];

	assert_int_equal(fdt_create(tree, ROOM), 0);
	assert_int_equal(fdt_finish_reservemap(tree), 0);
	assert_int_equal(fdt_begin_node(tree, ""), 0);
	put("kernel", "not-a-guest");
	assert_int_equal(fdt_begin_node(tree, "guests"), 0);
	for (int i = 0; kernels[i]; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		assert_int_equal(fdt_begin_node(tree, name), 0);
		put("memory", "16M");
		put("kernel", kernels[i]);
		assert_int_equal(fdt_end_node(tree), 0);
	}
	assert_int_equal(fdt_end_node(tree), 0);
	assert_int_equal(fdt_begin_node(tree, "other"), 0);
	put("kernel", "elsewhere");
	assert_int_equal(fdt_end_node(tree), 0);
	assert_int_equal(fdt_end_node(tree), 0);
	assert_int_equal(fdt_finish(tree), 0);
	return fdt_totalsize(tree);
}

static void names_each_kernel_once_with_its_node(void **state)
{
	const char *const kernels[] = { "guest.elf", "other-1_x.elf", "guest.elf", NULL };

	(void)state;
	assert_int_equal(fdtscan(tree, build(kernels), &got, &why), OK);
	assert_int_equal(got.kernel_count, 2);
	assert_string_equal(got.kernel[0], "guest.elf");
	assert_string_equal(got.node[0], "g0");
	assert_string_equal(got.kernel[1], "other-1_x.elf");
	assert_string_equal(got.node[1], "g1");
}

static void refuses_names_that_are_no_file_names(void **state)
{
	const char *const bad[] = { "", "a/b", "..", ".hidden", "a\\b", "sp ace",
		"0123456789012345678901234567890123456789012345678901234567890123" };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		const char *const kernels[] = { "fine.elf", bad[i], NULL };

		assert_int_equal(fdtscan(tree, build(kernels), &got, &why), ERR_FORMAT);
		assert_string_equal(got.node[0], "g1");
	}
}

static void refuses_a_seventeenth_kernel(void **state)
{
	static char names[HANDOFF_MODULE_MAX + 1][16];
	const char *kernels[HANDOFF_MODULE_MAX + 2] = { NULL };

	(void)state;
	for (int i = 0; i <= HANDOFF_MODULE_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "k%d", i);
		kernels[i] = names[i];
	}
	assert_int_equal(fdtscan(tree, build(kernels), &got, &why), ERR_LIMIT);
	kernels[HANDOFF_MODULE_MAX] = NULL;
	assert_int_equal(fdtscan(tree, build(kernels), &got, &why), OK);
	assert_int_equal(got.kernel_count, HANDOFF_MODULE_MAX);
}

static void refuses_what_is_no_tree(void **state)
{
	const char *const kernels[] = { "guest.elf", NULL };
	uint64_t bytes = build(kernels);

	(void)state;
	assert_int_equal(fdtscan("hello", 5, &got, &why), ERR_FORMAT);
	assert_int_equal(fdtscan(tree, bytes - 1, &got, &why), ERR_FORMAT);
	assert_int_equal(fdtscan(tree, 39, &got, &why), ERR_FORMAT);
	tree[0] ^= 1;
	assert_int_equal(fdtscan(tree, bytes, &got, &why), ERR_FORMAT);
	assert_non_null(strstr(why, "not a compiled device tree"));
}

/* Cut or changed anywhere: an answer, and (with ASan) no byte read outside the allocation. */
static void property_survives_damage(void **state)
{
	const char *const kernels[] = { "guest.elf", "b.elf", NULL };
	uint64_t bytes = build(kernels), seed = 0x66647473;

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		uint64_t keep = round % 4 ? bytes : test_random(&seed) % (bytes + 1);
		uint8_t *copy = malloc(keep ? keep : 1);

		memcpy(copy, tree, keep);
		for (uint64_t n = test_random(&seed) % 4; n && keep; n--)
			copy[test_random(&seed) % keep] = (uint8_t)test_random(&seed);
		if (fdtscan(copy, keep, &got, &why) == OK)
			assert_true(got.total_bytes <= keep);
		else
			assert_non_null(why);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_each_kernel_once_with_its_node),
		cmocka_unit_test(refuses_names_that_are_no_file_names),
		cmocka_unit_test(refuses_a_seventeenth_kernel),
		cmocka_unit_test(refuses_what_is_no_tree),
		cmocka_unit_test(property_survives_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
