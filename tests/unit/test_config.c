/* The configuration: a good one, and each mistake named with its node and property. */
#include <libfdt.h>

#include "tests/unit/unit.h"
#include "vmm/config.h"
#include "vmm/virt.h"

static char blob[16384];
static struct config c;
static char error[CONFIG_ERROR_BYTES];

#define TEXT(name, value) fdt_property_string(blob, name, value)
#define CELL(name, value) fdt_property_u32(blob, name, value)
#define FLAG(name)	  fdt_property(blob, name, NULL, 0)
#define NODE(name)	  fdt_begin_node(blob, name)
#define END		  fdt_end_node(blob)

static void begin(void)
{
	fdt_create(blob, sizeof(blob));
	fdt_finish_reservemap(blob);
	NODE("");
	TEXT("compatible", "aerostat,config-1");
}

/* The whole of an exact heap copy is parsed: ASan sees a read past its end. */
static status_t finish(void)
{
	END;
	assert_int_equal(fdt_finish(blob), 0);
	size_t n = fdt_totalsize(blob);
	void *copy = malloc(n);
	memcpy(copy, blob, n);
	status_t s = config_parse(copy, n, &c, error);
	free(copy);
	return s;
}

static void bad(const char *first, const char *second)
{
	assert_int_equal(finish(), ERR_FORMAT);
	if (!strstr(error, first) || !strstr(error, second))
		fail_msg("\"%s\" should name \"%s\" and say \"%s\"", error, first, second);
}

/* A configuration with one guest, whose last property is the caller's. */
static void guest(const char *name)
{
	begin();
	NODE("guests");
	NODE(name);
	TEXT("kernel", "guest.elf");
}

static void bad_guest(const char *first, const char *second)
{
	END;
	END;
	bad(first, second);
}

static void test_demo(void **state)
{
	(void)state;
	begin();
	TEXT("pool", "120M");
	TEXT("reserve", "2M");
	FLAG("no-scrub-idle");
	FLAG("debug");
	CELL("alloc-fault", 7);
	TEXT("disk-fault", "delay 10  200");
	NODE("disk");
	CELL("index", 1);
	END;
	NODE("guests");
	NODE("vm");
	CELL("count", 10);
	TEXT("memory", "16M");
	CELL("min", 4 << 20);
	CELL("shares", 2000);
	TEXT("kernel", "guest.elf");
	TEXT("disk", "32M");
	TEXT("cmdline", "run=hog:4M tests");
	END;
	NODE("late");
	fdt_property_u64(blob, "memory", 1ull << 32);
	TEXT("kernel", "other.elf");
	FLAG("noauto");
	FLAG("huge");
	FLAG("debug");
	END;
	END;
	assert_int_equal(finish(), OK);
	assert_true(c.pool_bytes == MIB(120) && c.reserve_bytes == MIB(2) && !c.scrub_idle);
	assert_int_equal(c.alloc_fault, 7);
	assert_int_equal(c.disk_fault.fault, DISK_FAULT_DELAY);
	assert_int_equal(c.disk_fault.count, 10);
	assert_int_equal(c.disk_fault.delay_ms, 200);
	assert_true(c.debug_commands && c.disk_index == 1 && c.guest_count == 11);
	assert_string_equal(c.guest[0].name, "vm0");
	assert_string_equal(c.guest[9].name, "vm9");
	assert_string_equal(c.guest[9].cmdline, "run=hog:4M tests");
	assert_true(c.guest[3].memory_bytes == MIB(16) && c.guest[3].min_bytes == MIB(4));
	assert_true(c.guest[3].max_bytes == MIB(16) && c.guest[3].shares == 2000);
	assert_true(c.guest[3].autostart && !c.guest[3].huge && c.guest[3].disk_bytes == MIB(32));
	const struct config_guest *g = &c.guest[10];
	assert_string_equal(g->name, "late");
	assert_true(g->memory_bytes == GIB(4) && g->min_bytes == GIB(1) && g->shares == 1000);
	assert_true(!g->autostart && g->huge && g->debug && !g->disk_bytes);
}

/* A guest of 8 MiB that is to share so; NULL: it does not say. */
static void sharer(const char *name, const char *share, uint32_t count)
{
	NODE(name);
	TEXT("memory", "8M");
	TEXT("kernel", "k");
	if (count)
		CELL("count", count);
	if (share)
		assert_int_equal(fdt_property(blob, "share", share, (int)strlen(share) + 1), 0);
	END;
}

static void root_property(const char *name, const char *text, uint32_t cell)
{
	begin();
	if (text)
		assert_int_equal(fdt_property(blob, name, text, (int)strlen(text) + 1), 0);
	else
		assert_int_equal(CELL(name, cell), 0);
}

static void bad_disk_fault(const char *value, const char *why)
{
	root_property("disk-fault", value, 0);
	bad("disk-fault", why);
}

static void test_tax_and_sampling(void **state)
{
	static const char *const ways[] = { "accessed", "invalidate", "off" };

	(void)state;
	begin();
	assert_int_equal(finish(), OK);
	assert_true(c.tax_percent == 0 && c.sampling == CONFIG_SAMPLING_ACCESSED);
	for (uint32_t tax = 0; tax < 100; tax += 33) {
		root_property("tax", NULL, tax);
		assert_int_equal(finish(), OK);
		assert_true(c.tax_percent == tax);
	}
	bad_disk_fault("read 5", "needs a disk");
	bad_disk_fault("melt 5", "unknown \"melt\"; there are: read, write, corrupt");
	bad_disk_fault("delay 5", "use: read N");
	bad_disk_fault("read 5 6 7 8", "use: read N");
	bad_disk_fault(" ", "use: read N");
	bad_disk_fault("write 1000001", "use a number up to 1000000");
	bad_disk_fault("delay 5 60001", "use a number up to 60000");
	bad_disk_fault("read 1                                                   ", "is longer than 47");
	root_property("tax", NULL, 100);
	bad("tax", "is 100; should be 0 to 99");
	for (uint32_t way = 0; way < 3; way++) {
		root_property("sampling", ways[way], 0);
		assert_int_equal(finish(), OK);
		assert_int_equal(c.sampling, way);
	}
	root_property("sampling", "dirty", 0);
	bad("sampling", "\"invalidate\"");
}

static void test_mitigations(void **state)
{
	static const char *const modes[] = { "auto", "off", "force" };

	(void)state;
	begin();
	assert_int_equal(finish(), OK);
	assert_int_equal(c.mitigations, VIRT_MITIGATIONS_AUTO);
	for (uint32_t i = 0; i < 3; i++) {
		root_property("mitigations", modes[i], 0);
		assert_int_equal(finish(), OK);
		assert_int_equal(c.mitigations, i);
	}
	root_property("mitigations", "on", 0);
	bad("mitigations", "is \"on\"; should be \"auto\", \"off\" or \"force\"");
	root_property("mitigations", NULL, 1);
	bad("mitigations", "");
}

static void sizes(const char *memory, const char *min, const char *max, bool dynamic)
{
	guest("grows");
	assert_int_equal(fdt_property(blob, "memory", memory, (int)strlen(memory) + 1), 0);
	if (min)
		assert_int_equal(fdt_property(blob, "min", min, (int)strlen(min) + 1), 0);
	if (max)
		assert_int_equal(fdt_property(blob, "max", max, (int)strlen(max) + 1), 0);
	if (dynamic)
		FLAG("dynamic");
}

static void test_dynamic(void **state)
{
	const struct config_guest *g = &c.guest[0];

	(void)state;
	sizes("16M", "4M", "64M", true);
	END;
	END;
	assert_int_equal(finish(), OK);
	assert_true(g->dynamic && g->start_bytes == MIB(16) && g->memory_bytes == MIB(64));
	assert_true(g->max_bytes == MIB(64) && g->min_bytes == MIB(4));
	sizes("16M", NULL, NULL, true);
	END;
	END;
	assert_int_equal(finish(), OK);
	assert_true(g->start_bytes == MIB(16) && g->memory_bytes == MIB(16) && g->min_bytes == MIB(4));
	sizes("16M", NULL, NULL, false);
	END;
	END;
	assert_int_equal(finish(), OK);
	assert_true(!g->dynamic && g->start_bytes == MIB(16));
	sizes("16M", "4M", "64M", false);
	bad_guest("max", "write dynamic;");
	sizes("16M", "4M", "8M", true);
	bad_guest("max", "a dynamic guest's is its memory");
	sizes("16M", "4M", "65M", true);
	bad_guest("max", "multiple of 2M");
	sizes("16M", "20M", "64M", true);
	bad_guest("min", "with which it starts");
}

static void test_share(void **state)
{
	(void)state;
	begin();
	NODE("guests");
	sharer("a", NULL, 0);
	sharer("b", "web", 2);
	sharer("c", "none", 0);
	sharer("d", "db", 0);
	sharer("e", "web", 0);
	sharer("f", "own", 0);
	sharer("g", "db", 0);
	END;
	assert_int_equal(finish(), OK);
	static const uint16_t group[] = { 0, 2, 2, 0, 5, 2, 0, 5 };

	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(c.guest[i].share_group, group[i]);
		assert_int_equal(c.guest[i].share_none, i == 3);
	}
}

static void test_bad_top(void **state)
{
	(void)state;
	begin(), TEXT("pol", "1M"), bad("pol", "unknown property; did you mean \"pool\"?");
	begin(), TEXT("colour", "red"), bad("colour", "unknown property; known: compatible pool");
	begin(), TEXT("memory", "16M"), bad("node /, memory", "belongs in a guest's node");
	begin(), TEXT("disk", "16M"), bad("node /, disk", "belongs in a guest's node");
	begin(), CELL("index", 1), bad("node /, index", "belongs in the disk node");
	begin(), TEXT("pool", "much"), bad("pool", "not a size");
	begin(), TEXT("pool", "9999999T"), bad("pool", "too large");
	begin(), TEXT("pool", "1M"), bad("pool", "less than twice the reserve");
	begin(), fdt_property(blob, "pool", "12", 2), bad("pool", "should be one string");
	begin(), TEXT("debug", "yes"), bad("debug", "takes no value");
	begin(), NODE("gests"), END, bad("gests", "unknown node; did you mean \"guests\"?");
	begin(), NODE("memory"), END, bad("memory", "unknown node; / holds disk and guests");
	begin(), NODE("guests"), TEXT("memory", "16M"), END,
		bad("node guests, memory", "belongs in a guest's node");
	begin(), NODE("guests"), CELL("colour", 1), END,
		bad("node guests, colour", "unknown property; known: none");
	begin(), NODE("disk"), CELL("idx", 1), END, bad("disk, idx", "did you mean \"index\"?");
	begin(), NODE("disk"), CELL("index", 8), END, bad("disk, index", "should be 0 to 7");
	begin(), NODE("disk"), TEXT("index", "first"), END, bad("disk, index", "one number");
	fdt_create(blob, sizeof(blob));
	fdt_finish_reservemap(blob);
	NODE("");
	bad("compatible", "is missing");
	fdt_create(blob, sizeof(blob));
	fdt_finish_reservemap(blob);
	NODE("");
	TEXT("compatible", "aerostat,config-9");
	bad("compatible", "aerostat,config-1");
}

static void test_bad_guest(void **state)
{
	(void)state;
	guest("g"), bad_guest("node g, memory", "is missing");
	guest("g"), TEXT("memory", "3M"), bad_guest("node g, memory", "multiple of 2M");
	guest("g"), TEXT("memory", "128G"), bad_guest("node g, memory", "4M to 64G");
	guest("g"), TEXT("memory", "8M"), TEXT("max", "9M"), bad_guest("max", "more than memory, 8M");
	guest("g"), TEXT("memory", "8M"), TEXT("max", "4M"), TEXT("min", "5M"),
		bad_guest("min", "more than max, 4M");
	guest("g"), TEXT("memory", "8M"), CELL("shares", 0), bad_guest("shares", "1 to 100000");
	guest("g"), TEXT("memory", "8M"), CELL("cpu-shares", 100001), bad_guest("cpu-shares", "1 to 100000");
	guest("g"), TEXT("memory", "8M"), CELL("vcpus", 0), bad_guest("vcpus", "1 to 8");
	guest("g"), TEXT("memory", "8M"), CELL("vcpus", 9), bad_guest("vcpus", "1 to 8");
	guest("g"), TEXT("memory", "8M"), TEXT("cpus", "0-"), bad_guest("cpus", "is not a list of CPUs");
	guest("g"), TEXT("memory", "8M"), TEXT("cpus", "70"), bad_guest("cpus", "names a CPU above 63");
	guest("g"), TEXT("memory", "8M"), TEXT("share", ""), bad_guest("share", "or a group's name");
	guest("g"), TEXT("memory", "8M"), TEXT("share", "two words"), bad_guest("share", "letters, digits");
	guest("g"), TEXT("memory", "8M"), TEXT("share", "sixteen-letters-"), bad_guest("share", "at most 15");
	guest("g"), TEXT("memory", "8M"), CELL("share", 1), bad_guest("share", "one string");
	guest("g"), TEXT("memory", "8M"), CELL("count", 0), bad_guest("count", "1 to 64");
	guest("g"), TEXT("memory", "8M"), CELL("count", 65), bad_guest("count", "1 to 64");
	guest("g"), TEXT("memory", "8M"), TEXT("mem", "8M"), bad_guest("node g, mem", "did you mean \"memory\"?");
	guest("g"), TEXT("memory", "8M"), CELL("cpu-share", 8),
		bad_guest("node g, cpu-share", "did you mean \"cpu-shares\"?");
	guest("g"), TEXT("memory", "8M"), FLAG("no-auto"), bad_guest("node g, no-auto", "did you mean \"noauto\"?");
	guest("g"), TEXT("swap", "8M"), bad_guest("node g, swap", "belongs in /, the top level");
	guest("g"), TEXT("colour", "red"), bad_guest("node g, colour", "unknown property; known: count memory");
	guest("g"), TEXT("memory", "8M"), NODE("sub"), END, bad_guest("node g", "no nodes below");
	guest("9"), TEXT("memory", "8M"), bad_guest("node 9", "not a digit first");
	guest("-j"), TEXT("memory", "8M"), bad_guest("node -j", "nor -");
	guest("all"), TEXT("memory", "8M"), bad_guest("node all", "nor \"all\"");
	guest("vm"), TEXT("memory", "8M"), TEXT("memory", "9M"), bad_guest("node vm, memory", "is given twice");
	guest("a.b"), TEXT("memory", "8M"), bad_guest("node a.b", "letters, digits");
	guest("a-very-long-name-for-one"), TEXT("memory", "8M"), bad_guest("a-very", "at most");
	guest("g"), TEXT("memory", "8M"), TEXT("disk", "8M"), bad_guest("guest g", "there is no disk");
	begin(), NODE("guests"), NODE("g"), TEXT("memory", "8M"), bad_guest("kernel", "is missing");
	guest("g"), TEXT("memory", "8M"), fdt_property(blob, "cmdline", "a\nb", 4),
		bad_guest("cmdline", "not plain ASCII");
}

static void test_names_and_numbers_of_guests(void **state)
{
	(void)state;
	guest("vm"), TEXT("memory", "8M"), CELL("count", 2), END;
	NODE("vm1"), TEXT("kernel", "k"), TEXT("memory", "8M");
	bad_guest("vm1", "already");
	guest("a"), TEXT("memory", "8M"), CELL("count", 60), END;
	NODE("b"), TEXT("kernel", "k"), TEXT("memory", "8M"), CELL("count", 5);
	bad_guest("node b", "more than 64 guests");
}

static void test_truncated(void **state)
{
	(void)state;
	guest("g"), TEXT("memory", "8M"), END, END;
	assert_int_equal(finish(), OK);
	size_t n = fdt_totalsize(blob);
	for (size_t i = 0; i < n; i++) {
		char *copy = malloc(i ? i : 1);
		memcpy(copy, blob, i);
		assert_int_equal(config_parse(copy, i, &c, error), ERR_FORMAT);
		assert_non_null(strstr(error, "not a whole device tree"));
		free(copy);
	}
	assert_int_equal(config_parse(NULL, 0, &c, error), ERR_FORMAT);
}

/* libfdt 1.6.1 itself crashes on a tree of an old version without a slash in the root's name. */
static void test_old_version(void **state)
{
	(void)state;
	for (uint32_t version = 0; version < 40; version++) {
		guest("g"), TEXT("memory", "8M"), END, END;
		assert_int_equal(finish(), OK);
		fdt_set_version(blob, version);
		fdt_set_last_comp_version(blob, MIN(version, 16u));
		status_t s = config_parse(blob, fdt_totalsize(blob), &c, error);
		if (version < 16)
			assert_int_equal(s, ERR_FORMAT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demo),
		cmocka_unit_test(test_tax_and_sampling),
		cmocka_unit_test(test_mitigations),
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_bad_top),
		cmocka_unit_test(test_bad_guest),
		cmocka_unit_test(test_names_and_numbers_of_guests),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_old_version),
	};
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
