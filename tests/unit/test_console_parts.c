/* What the console stands on: JSON, the splitter of words, a guest's console rings. */
#include "tests/unit/unit.h"
#include "vmm/command.h"
#include "vmm/gconsole.h"
#include "vmm/json.h"

static char text[1024];

static void put(void *ctx, const char *s, size_t n)
{
	(void)ctx;
	strncat(text, s, n);
}

static void test_json(void **state)
{
	(void)state;
	struct json j;
	text[0] = 0;
	json_begin(&j, put, NULL);
	json_object(&j, NULL);
	json_string(&j, "a\"b", "x\\y\n\x7f\xc3");
	json_array(&j, "list");
	json_u64(&j, NULL, UINT64_MAX);
	json_i64(&j, NULL, -5);
	json_object(&j, NULL);
	json_object_end(&j);
	json_array_end(&j);
	json_bool(&j, "t", true);
	json_object_end(&j);
	assert_string_equal(text, "{\"a\\\"b\":\"x\\\\y\\u000a\\u007f\\u00c3\","
				  "\"list\":[18446744073709551615,-5,{}],\"t\":true}");
}

static void split(const char *line, int count, const char *expected[])
{
	char copy[200];
	const char *words[COMMAND_WORDS], *why = NULL;
	strcpy(copy, line);
	assert_int_equal(command_split(copy, words, COMMAND_WORDS, &why), count);
	if (count < 0)
		assert_string_equal(why, expected[0]);
	for (int i = 0; i < count; i++)
		assert_string_equal(words[i], expected[i]);
}

static void test_split(void **state)
{
	(void)state;
	split("", 0, NULL);
	split("  \t ", 0, NULL);
	split("list", 1, (const char *[]){ "list" });
	split("  mem-set\tvm0  8M ", 3, (const char *[]){ "mem-set", "vm0", "8M" });
	split("create x cmdline=\"a b\" y", 4, (const char *[]){ "create", "x", "cmdline=a b", "y" });
	split("a \"\" b", 3, (const char *[]){ "a", "", "b" });
	split("a \"b c", -1, (const char *[]){ "a quote (\") has no end" });
	split("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", -1, (const char *[]){ "too many words" });
}

/* Against a plain string as a model. */
static void test_rings(void **state)
{
	(void)state;
	static struct gconsole c;
	static char model[400000], in_model[400000];
	size_t head = 0, tail = 0, in_head = 0, in_tail = 0, dropped = 0;
	uint64_t seed = 3;
	gconsole_init(&c);
	for (int i = 0; i < 3000; i++) {
		char b[700];
		size_t n = test_random(&seed) % 600;
		for (size_t k = 0; k < n; k++)
			b[k] = (char)test_random(&seed);
		switch (test_random(&seed) % 4) {
		case 0:
			if (head + n > sizeof(model))
				break;
			memcpy(model + head, b, n);
			head += n;
			gconsole_put(&c, b, n);
			if (head - tail > GCONSOLE_OUT_BYTES) {
				dropped += head - tail - GCONSOLE_OUT_BYTES;
				tail = head - GCONSOLE_OUT_BYTES;
			}
			break;
		case 1: {
			size_t got = gconsole_take(&c, b, n);
			assert_int_equal(got, MIN(n, head - tail));
			assert_memory_equal(b, model + tail, got);
			tail += got;
			break;
		}
		case 2: {
			if (in_head + n > sizeof(in_model))
				break;
			size_t took = gconsole_input(&c, b, n);
			assert_int_equal(took, MIN(n, GCONSOLE_IN_BYTES - (in_head - in_tail)));
			memcpy(in_model + in_head, b, took);
			in_head += took;
			break;
		}
		default: {
			size_t got = gconsole_read(&c, b, n);
			assert_int_equal(got, MIN(n, in_head - in_tail));
			assert_memory_equal(b, in_model + in_tail, got);
			in_tail += got;
		}
		}
		assert_int_equal(c.out_dropped, dropped);
	}
	assert_true(dropped > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_rings),
	};
	return cmocka_run_group_tests_name("console_parts", tests, NULL, NULL);
}
