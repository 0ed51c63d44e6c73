/* The line editor, key by key; and that no bytes whatever break its line. */
#include "tests/unit/unit.h"
#include "vmm/lineedit.h"

static struct lineedit e;
static char shown[65536];

static void out(void *ctx, const char *s, size_t n)
{
	(void)ctx;
	size_t at = strlen(shown);
	if (at + n < sizeof(shown)) {
		memcpy(shown + at, s, n);
		shown[at + n] = 0;
	}
}

static size_t complete(void *ctx, const char *line, size_t cursor, char *insert, size_t room, bool *was)
{
	(void)ctx;
	(void)room;
	if (cursor == 2 && !strncmp(line, "li", 2)) {
		memcpy(insert, "st ", 3);
		return 3;
	}
	*was = cursor == 1;
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	shown[0] = 0;
	lineedit_init(&e, "> ", out, complete, NULL);
	lineedit_start(&e);
	return 0;
}

/* Types all; returns how many lines were completed. */
static int type(const char *keys)
{
	int lines = 0;
	for (; *keys; keys++)
		if (lineedit_key(&e, *keys)) {
			lines++;
			if (keys[1])
				lineedit_start(&e);
		}
	return lines;
}

static void test_keys(void **state)
{
	(void)state;
	static const struct {
		const char *keys, *line;
	} t[] = { { "abc\r", "abc" }, { "abx\x7f" "c\r", "abc" }, { "abx\bc\r", "abc" },
		{ "bc\x01" "a\r", "abc" }, { "bc\x1b[Ha\x1b[F!\r", "abc!" }, { "bc\x1b[1~a\x1b[4~!\r", "abc!" },
		{ "ac\x1b[Db\r", "abc" }, { "ac\x02" "b\x06" "d\r", "abcd" }, { "ac\x1bODb\r", "abc" },
		{ "xabc\x01\x04\r", "abc" }, { "xabc\x01\x1b[3~\r", "abc" }, { "abcxyz\x02\x02\x02\x0b\r", "abc" },
		{ "junk\x15" "abc\r", "abc" }, { "abc junk  \x17\x7f\r", "abc" }, { "junk\x03" "abc\r", "abc" },
		{ "a\x1b[1;5Cb\r", "ab" }, { "\x7f\x1b[D\x1b[C\x04\x17\x0b\x15\r", "" }, { "li\t\r", "list " },
		{ "caf\xc3\xa9\r", "caf" }, { "ab\x1b\r", "ab" },
		{ "b\x1b\x1b[Da\r", "ab" }, { "a\x1b[?25hb\r", "ab" }, { "a\x0c" "b\r", "ab" } };
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		fresh(NULL);
		assert_int_equal(type(t[i].keys), 1);
		assert_string_equal(e.line, t[i].line);
	}
}

static void test_cr_lf_is_one_key(void **state)
{
	(void)state;
	assert_int_equal(type("a\r\nb\nc\r"), 3);
	assert_string_equal(e.line, "c");
}

static void test_history(void **state)
{
	(void)state;
	type("one\rtwo\rtwo\rthree");
	type("\x1b[A\r"); /* "two" was stored once */
	assert_string_equal(e.line, "two");
	lineedit_start(&e);
	type("typed\x1b[A\x1b[A\x1b[B\x1b[B\r");
	assert_string_equal(e.line, "typed");
	lineedit_start(&e);
	for (int i = 0; i < 40; i++) {
		char line[16];
		snprintf(line, sizeof(line), "n%d\r", i);
		type(line);
		lineedit_start(&e);
	}
	for (int i = 0; i < 99; i++)
		type("\x10");
	type("\r");
	assert_string_equal(e.line, "n24"); /* the oldest of the last 16 */
}

static void test_too_long_rings(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++)
		lineedit_key(&e, 'x');
	assert_int_equal(e.length, LINEEDIT_BYTES - 1);
	assert_non_null(strchr(shown, '\a'));
}

static void test_list_is_shown_then_the_line(void **state)
{
	(void)state;
	type("l");
	shown[0] = 0;
	type("\t");
	assert_string_equal(shown, "> l");
	type("zzz");
	shown[0] = 0;
	type("\t");
	assert_string_equal(shown, "\a");
}

/* What a terminal of 80 columns shows after `keys`; fails if it would have to wrap or scroll. */
static char row[81];
static void screen(const char *s)
{
	unsigned int at = 0;
	memset(row, ' ', 80);
	for (; *s; s++) {
		int n = 0;
		if (*s == '\r') {
			at = 0;
		} else if (*s == '\b') {
			at -= at > 0;
		} else if (*s == '\x1b') {
			for (s += 2; *s >= '0' && *s <= '9'; s++)
				n = n * 10 + *s - '0';
			if (*s == 'D')
				at -= (unsigned int)n;
			else if (*s == 'K')
				memset(row + at, ' ', 80 - at);
			else
				fail_msg("unexpected escape %c", *s);
		} else if (*s != '\a') {
			assert_true(at < 79);
			row[at++] = *s;
		}
		assert_true(at < 80);
	}
	assert_int_equal(at, 2 + e.cursor - e.first);
	for (int i = 79; i >= 0 && row[i] == ' '; i--)
		row[i] = 0;
}

static void test_long_line_stays_in_its_row(void **state)
{
	(void)state;
	char whole[LINEEDIT_BYTES] = "";
	uint64_t seed = 5;
	for (int i = 0; i < 150; i++) {
		char c[2] = { (char)('a' + i % 26), 0 };
		strcat(whole, c);
		lineedit_key(&e, *c);
	}
	assert_string_equal(e.line, whole);
	screen(shown);
	assert_memory_equal(row, "> ", 2);
	assert_memory_equal(row + 2, whole + e.first, strlen(row) - 2);
	assert_string_equal(row + 2 + strlen(row) - 2, "");
	type("\x01");
	screen(shown);
	assert_int_equal(e.first, 0);
	assert_memory_equal(row + 2, whole, strlen(row) - 2);
	for (int i = 0; i < 3000; i++) {
		static const char *const keys[] = { "\x1b[D", "\x1b[C", "x", "\x7f", "\x05", "\x17", "\x10" };
		uint64_t r = test_random(&seed) % 60;
		if (!(i % 50))
			shown[0] = 0, type("\x01\x05");
		type(keys[r < ARRAY_COUNT(keys) ? r : r % 3]);
		screen(shown);
		assert_true(e.first <= e.cursor);
		assert_memory_equal(row + 2, e.line + e.first, strlen(row) - MIN(strlen(row), 2u));
	}
}

static void test_any_bytes(void **state)
{
	(void)state;
	static const char keys[] = "ab \x01\x02\x04\x05\x06\x0b\x0c\x0e\x10\x15\x17\x1b[ABCDHF3~\t\x7f\b\r\n";
	uint64_t seed = 7;
	for (int i = 0; i < 400000; i++) {
		uint64_t r = test_random(&seed);
		char c = r & 0x100 ? (char)r : keys[(r >> 16) % (sizeof(keys) - 1)];
		if (!(i % 1000))
			shown[0] = 0;
		if (lineedit_key(&e, c))
			lineedit_start(&e);
		assert_true(e.length < LINEEDIT_BYTES && e.cursor <= e.length && !e.line[e.length]);
		assert_int_equal(strlen(e.line), e.length);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_keys, fresh),
		cmocka_unit_test_setup(test_cr_lf_is_one_key, fresh),
		cmocka_unit_test_setup(test_history, fresh),
		cmocka_unit_test_setup(test_too_long_rings, fresh),
		cmocka_unit_test_setup(test_list_is_shown_then_the_line, fresh),
		cmocka_unit_test_setup(test_long_line_stays_in_its_row, fresh),
		cmocka_unit_test_setup(test_any_bytes, fresh),
	};
	return cmocka_run_group_tests_name("lineedit", tests, NULL, NULL);
}
