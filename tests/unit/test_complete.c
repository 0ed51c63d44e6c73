/* Tab: places in a line, and the words that a command's help allows there. */
#include "tests/unit/unit.h"
#include "vmm/complete.h"

static struct complete_place place;
static struct complete_match match;
static char offered[400];

static void offer(void *ctx, const struct complete_offer *o)
{
	static const char *const names[] = { "vm0", "vm1", "web" };

	(void)ctx;
	if (!o->kind) {
		if (complete_match(&match, o))
			snprintf(offered + strlen(offered), sizeof(offered) - strlen(offered), "%.*s ", (int)o->bytes,
				o->word);
		return;
	}
	if ((o->bytes != 5 || strncmp(o->word, "GUEST", 5)) && (o->bytes != 4 || strncmp(o->word, "NAME", 4)))
		return;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		struct complete_offer name = { names[i], 3, o->skip, false };

		offer(ctx, &name);
	}
}

/* Completes the end of `line`, whose command takes `arguments`. */
static const char *words(const char *arguments, const char *line)
{
	complete_find(line, strlen(line), &place);
	match = (struct complete_match){ .place = &place };
	offered[0] = '\0';
	complete_words(arguments, &place, offer, NULL);
	return offered;
}

static void at(const char *line, size_t cursor, const char *word, const char *command, uint32_t n)
{
	complete_find(line, cursor, &place);
	assert_int_equal(place.bytes, strlen(word));
	assert_memory_equal(place.word, word, place.bytes);
	assert_int_equal(!place.command, !command);
	if (command) {
		assert_int_equal(place.command_bytes, strlen(command));
		assert_memory_equal(place.command, command, place.command_bytes);
	}
	assert_int_equal(place.at, n);
}

static void places(void **state)
{
	(void)state;
	at("", 0, "", NULL, 0);
	at("   ", 3, "", NULL, 0);
	at("li", 2, "li", NULL, 0);
	at("list vm0", 2, "li", NULL, 0);
	at("list vm0", 5, "", "list", 0);
	at("  list  vm0", 11, "vm0", "list", 0);
	at("mem-set vm0 ", 12, "", "mem-set", 1);
	at("list -j vm", 10, "vm", "list", 0); /* an option is no word of the command's */
	at("list -", 6, "-", "list", 0);
}

static void alternatives(void **state)
{
	(void)state;
	assert_string_equal(words("GUEST|all SIZE", "mem-set "), "vm0 vm1 web all ");
	assert_string_equal(words("GUEST|all SIZE", "mem-set a"), "all ");
	assert_string_equal(words("GUEST|all SIZE", "mem-set v"), "vm0 vm1 ");
	assert_int_equal(match.common, 2);
	assert_string_equal(words("GUEST|all SIZE", "mem-set vm0 "), "");
	assert_string_equal(words("[GUEST]", "list w"), "web ");
	assert_string_equal(words("[GUEST [SHARES]]", "sched "), "vm0 vm1 web ");
	assert_string_equal(words("[on|off]", "swap o"), "on off ");
	assert_int_equal(match.common, 1);
	assert_string_equal(words("DISK read|write|off [N [MS]]", "disk-fault 0 "), "read write off ");
	assert_string_equal(words("DISK read|write|off [N [MS]]", "disk-fault 0 read "), "");
	assert_string_equal(words("GUEST VCPU|all CPUS|all", "vcpu-pin vm0 0 "), "all ");
	assert_string_equal(words("", "info "), "");
	assert_string_equal(words("", "info"), "");
	assert_string_equal(words("[GUEST]", "list x=v"), ""); /* no key of its own */
}

static void keys(void **state)
{
	static const char *const create = "NAME [like=NAME] [memory= min= max=]";

	(void)state;
	assert_string_equal(words(create, "create v"), "vm0 vm1 ");
	assert_string_equal(words(create, "create x "), "like= memory= min= max= ");
	assert_string_equal(words(create, "create x min=4M m"), "memory= min= max= ");
	assert_int_equal(match.common, 1);
	assert_string_equal(words(create, "create x like=v"), "vm0 vm1 ");
	assert_int_equal(match.typed, 1);
	assert_int_equal(match.common, 2);
	assert_string_equal(words(create, "create x max=8M like="), "vm0 vm1 web ");
	assert_string_equal(words(create, "create x memory="), "");
	assert_string_equal(words(create, "create x like"), "like= ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places),
		cmocka_unit_test(alternatives),
		cmocka_unit_test(keys),
	};
	return cmocka_run_group_tests_name("complete", tests, NULL, NULL);
}
