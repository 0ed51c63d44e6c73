/* What a misspelt word may have meant. */
#include "tests/unit/unit.h"
#include "vmm/base/nearest.h"

static const char *of(const char *word)
{
	static const char *const known[] = { "list", "min", "max", "memory", "tax", "vcpu-list", "vcpu-pin",
		"a-name-of-more-than-fifteen" };
	struct nearest n;

	nearest_begin(&n, word);
	for (size_t i = 0; i < ARRAY_COUNT(known); i++)
		nearest_try(&n, known[i]);
	return n.best;
}

static void edits(void **state)
{
	(void)state;
	assert_string_equal(of("list"), "list");
	assert_string_equal(of("lst"), "list");
	assert_string_equal(of("lisst"), "list");
	assert_string_equal(of("lsit"), "list");
	assert_string_equal(of("ls"), "list");
	assert_string_equal(of("mox"), "max");
	assert_string_equal(of("memroy"), "memory");
	assert_null(of("xyzzy"));
	assert_null(of(""));
	assert_null(of("x")); /* everything short is two edits from it */
	assert_string_equal(of("mi"), "min");
}

static void beginnings(void **state)
{
	(void)state;
	assert_string_equal(of("mem"), "memory"); /* min is two edits away, and not meant */
	assert_string_equal(of("vcp"), "vcpu-list");
	assert_string_equal(of("vcpu-p"), "vcpu-pin");
	assert_string_equal(of("a-name"), "a-name-of-more-than-fifteen");
}

static void long_words(void **state)
{
	static char line[5000];

	(void)state;
	memset(line, 'm', sizeof(line) - 1);
	assert_null(of(line));
	assert_null(of("a-name-of-more-than-fifteeen"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edits),
		cmocka_unit_test(beginnings),
		cmocka_unit_test(long_words),
	};
	return cmocka_run_group_tests_name("nearest", tests, NULL, NULL);
}
