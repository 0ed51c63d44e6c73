/* fmt, parse, log, lists, status. */
#include "tests/unit/unit.h"
#include "vmm/base/fmt.h"
#include "vmm/base/list.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"

static void same_as_libc(const char *fmt, uint64_t v)
{
	char ours[128], theirs[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int a = fmt_snprintf(ours, sizeof(ours), fmt, v);
	int b = snprintf(theirs, sizeof(theirs), fmt, v);
#pragma GCC diagnostic pop
	if (a != b || strcmp(ours, theirs))
		fail_msg("%s of %#lx: \"%s\" should be \"%s\"", fmt, v, ours, theirs);
}

static void test_fmt_like_libc(void **state)
{
	(void)state;
	static const char flags[] = "-0+ #", kind[] = "dixXu";
	uint64_t seed = 1;
	for (int i = 0; i < 100000; i++) {
		char fmt[32] = "[%";
		size_t n = 2;
		uint64_t r = test_random(&seed);
		char k = kind[(r >> 8) % 5];
		bool is_signed = k == 'd' || k == 'i', is_hex = k == 'x' || k == 'X';
		for (int f = 0; f < 5; f++) {
			bool undefined = (flags[f] == '#' && !is_hex) ||
				((flags[f] == '+' || flags[f] == ' ') && !is_signed);
			if ((r >> f & 1) && !undefined)
				fmt[n++] = flags[f];
		}
		if (r >> 16 & 1)
			n += (size_t)sprintf(fmt + n, "%d", (int)(1 + (r >> 20 & 31)));
		if (r >> 17 & 1)
			n += (size_t)sprintf(fmt + n, ".%d", (int)(r >> 28 & 15));
		fmt[n++] = 'l';
		fmt[n++] = k;
		fmt[n++] = ']';
		uint64_t v = test_random(&seed) >> (r >> 40 & 63);
		same_as_libc(fmt, r >> 50 & 1 ? -v : v);
	}
}

static void test_fmt_text(void **state)
{
	(void)state;
	char b[32];
	assert_int_equal(fmt_snprintf(b, sizeof(b), "%-5s|%5s|%.2s|%c%%", "ab", "cd", "efg", 'x'), 17);
	assert_string_equal(b, "ab   |   cd|ef|x%");
	assert_int_equal(fmt_snprintf(b, 4, "%s", "abcdef"), 6);
	assert_string_equal(b, "abc");
	assert_int_equal(fmt_snprintf(NULL, 0, "%d", 123), 3);
	fmt_snprintf(b, sizeof(b), "%*d|%hhu|%d", 4, 7, 300 & 0xff, -1);
	assert_string_equal(b, "   7|44|-1");
}

static void test_parse_cpus(void **state)
{
	static const struct {
		const char *text;
		status_t status;
		uint64_t mask;
		const char *back; /* with 8 CPUs */
	} t[] = {
		{ "0", OK, 1, "0" }, { "7", OK, 0x80, "7" }, { "0-3", OK, 0xf, "0-3" },
		{ "0-1,3,5-6", OK, 0x6b, "0-1,3,5-6" }, { "3,0,3", OK, 9, "0,3" }, { "0-63", OK, UINT64_MAX, "all" },
		{ "63", OK, 1ull << 63, "none" }, { "0-7", OK, 0xff, "all" }, { "64", ERR_RANGE, 0, NULL },
		{ "3-1", ERR_RANGE, 0, NULL }, { "99999999999", ERR_RANGE, 0, NULL }, { "", ERR_FORMAT, 0, NULL },
		{ "a", ERR_FORMAT, 0, NULL }, { "1,", ERR_FORMAT, 0, NULL }, { "1-", ERR_FORMAT, 0, NULL },
		{ "1 2", ERR_FORMAT, 0, NULL }, { ",1", ERR_FORMAT, 0, NULL }, { "-1", ERR_FORMAT, 0, NULL },
	};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		uint64_t mask = 0;

		assert_int_equal(parse_cpus(t[i].text, &mask), t[i].status);
		if (t[i].status != OK)
			continue;
		assert_int_equal(mask, t[i].mask);
		assert_string_equal(format_cpus(buf, sizeof(buf), mask, 8), t[i].back);
	}
	assert_string_equal(format_cpus(buf, 12, 0x5555, 16), "0,2,4,6,8..");
	assert_string_equal(format_cpus(buf, sizeof(buf), 1, 1), "all");
}

static void test_parse_size(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		status_t status;
		uint64_t bytes;
	} t[] = { { "16M", OK, 16 << 20 }, { "16m", OK, 16 << 20 }, { "4096", OK, 4096 << 10 },
		{ "0", OK, 0 }, { "7b", OK, 7 }, { "2g", OK, 2ull << 30 }, { "1T", OK, 1ull << 40 },
		{ "", ERR_FORMAT, 0 }, { "M", ERR_FORMAT, 0 }, { "16MB", ERR_FORMAT, 0 },
		{ "-1", ERR_FORMAT, 0 }, { "1 M", ERR_FORMAT, 0 }, { "0x10", ERR_FORMAT, 0 },
		{ "99999999999999999999", ERR_RANGE, 0 }, { "5000T", ERR_RANGE, 0 },
		{ "18446744073709551616", ERR_RANGE, 0 } };
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		uint64_t bytes = 0;
		assert_int_equal(parse_size(t[i].text, 1024, &bytes), t[i].status);
		assert_int_equal(bytes, t[i].bytes);
	}
}

static void test_parse_u64(void **state)
{
	(void)state;
	uint64_t v = 0;
	assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &v), OK);
	assert_true(v == UINT64_MAX);
	assert_int_equal(parse_u64("0xfF", 255, &v), OK);
	assert_int_equal(v, 255);
	assert_int_equal(parse_u64("256", 255, &v), ERR_RANGE);
	assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &v), ERR_RANGE);
	assert_int_equal(parse_u64("12x", 255, &v), ERR_FORMAT);
	assert_int_equal(parse_u64("0x", 255, &v), ERR_FORMAT);
	assert_int_equal(v, 255);
}

static void test_format_size(void **state)
{
	(void)state;
	char b[16];
	assert_string_equal(format_size(b, sizeof(b), 0), "0B");
	assert_string_equal(format_size(b, sizeof(b), 1023), "1023B");
	assert_string_equal(format_size(b, sizeof(b), 16 << 20), "16M");
	assert_string_equal(format_size(b, sizeof(b), 1536), "1.5K");
	assert_string_equal(format_size(b, sizeof(b), (2 << 20) - 1), "2M");
}

static char replayed[LOG_RING_BYTES + 4096];

static void collect(void *ctx, const char *line, size_t n)
{
	size_t *lines = ctx;
	strncat(replayed, line, n);
	++*lines;
	assert_int_equal(line[n - 1], '\n');
}

static void test_log_ring(void **state)
{
	(void)state;
	size_t lines = 0;
	log_warn("a\nb");
	replayed[0] = 0;
	log_replay(collect, &lines);
	assert_non_null(strstr(replayed, "warning: a?b\n"));
	for (int i = 0; i < 5000; i++)
		log_info("line %d", i);
	lines = 0;
	replayed[0] = 0;
	log_replay(collect, &lines);
	assert_non_null(strstr(replayed, "older lines were overwritten"));
	assert_non_null(strstr(replayed, "line 4999\n"));
	assert_null(strstr(replayed, "line 0\n"));
	char longest[1000];
	memset(longest, 'x', sizeof(longest));
	longest[999] = 0;
	log_info("%s", longest); /* truncated, still one line */
	replayed[0] = 0;
	log_replay(collect, &lines);
}

static void test_list(void **state)
{
	(void)state;
	struct node {
		struct list link;
		int v;
	} n[3] = { { .v = 0 }, { .v = 1 }, { .v = 2 } };
	struct list head;
	list_init(&head);
	assert_true(list_empty(&head));
	list_push_back(&head, &n[1].link);
	list_push_back(&head, &n[2].link);
	list_push_front(&head, &n[0].link);
	int expect = 0;
	list_for_each(it, &head)
		assert_int_equal(list_entry(it, struct node, link)->v, expect++);
	list_for_each_safe(it, next, &head)
		list_remove(it);
	assert_true(list_empty(&head));
}

static void test_status_and_copy(void **state)
{
	(void)state;
	char b[4];
	for (int s = 0; s < STATUS_COUNT; s++)
		assert_true(strlen(status_text((status_t)s)) > 1);
	assert_string_equal(status_text((status_t)999), "unknown status");
	assert_true(str_copy(b, sizeof(b), "abc"));
	assert_false(str_copy(b, sizeof(b), "abcd"));
	assert_string_equal(b, "abc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fmt_like_libc),
		cmocka_unit_test(test_fmt_text),
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_parse_cpus),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_format_size),
		cmocka_unit_test(test_log_ring),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_status_and_copy),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
