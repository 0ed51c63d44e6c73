/* Every command over the real guests, memory and balloon, typed at the console: what it says. */
#include "tests/unit/unit.h"

#include "tests/fake/hv.h"
#include "tests/fake/toy.h"
#include "vmm/base/log.h"
#include "vmm/console.h"
#include "vmm/overcommit.h"

static jmp_buf ended;

/* Types a line and gives what was printed after its echo, up to the next prompt. */
static const char *cmd(const char *line)
{
	static char text[FAKE_SERIAL_BYTES];
	size_t n = 0;

	fake_serial_clear();
	fake_serial_type(line);
	fake_serial_type("\r");
	while (console_poll())
		;
	const char *from = strstr(fake_serial_out, "\r\n");
	assert_non_null(from);
	for (from += 2; *from; from++)
		if (*from != '\r')
			text[n++] = *from;
	text[n] = 0;
	char *prompt = strstr(text, "aerostat> ");
	if (prompt)
		*prompt = 0;
	return text;
}

static void says(const char *line, const char *what)
{
	const char *text = cmd(line);

	if (!strstr(text, what))
		fail_msg("`%s` should say \"%s\" and said \"%s\"", line, what, text);
}

static void error(const char *line, const char *what)
{
	const char *text = cmd(line);

	if (strncmp(text, "error: ", 7) || !strstr(text, what) || strchr(text, '\n')[1])
		fail_msg("`%s` should say in one line \"%s\" and said \"%s\"", line, what, text);
}

static int setup(void **state)
{
	(void)state;
	fake_serial_clear();
	fake_hv_start(8192);
	hv_config.guest_count = 2;
	hv_config.guest[0] = fake_hv_config("vm0", 16);
	hv_config.guest[1] = fake_hv_config("late", 8);
	(void)fake_hv_guest("vm0", 16);
	(void)fake_hv_guest("vm1", 16);
	console_init();
	while (console_poll())
		;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void mistakes(void **state)
{
	static const char *const t[][2] = {
		{ "lst", "unknown command \"lst\"; did you mean \"list\"?" },
		{ "frobnicate", "unknown command \"frobnicate\"; `help` lists them" },
		{ "help frob", "unknown command \"frob\"" },
		{ "list vm12", "no guest \"vm12\"; guests are vm0 .. vm1" },
		{ "xl list", "unknown command \"xl\"; type what follows it" },
		{ "exit", "did you mean \"shutdown\"?" },
		{ "?", "did you mean \"help\"?" },
		{ "vcpu", "did you mean \"vcpu-list\"?" },
		{ "ls", "did you mean \"list\"?" },
		{ "q", "`help` lists them" },
		{ "list -x", "no such option; use: list [GUEST] [-j]" },
		{ "list a b", "too many words; use: list" },
		{ "pause", "too few words; use: pause GUEST" },
		{ "pause \"vm0", "a quote (\") has no end" },
		{ "unpause vm0", "vm0 is running, not paused" },
		{ "mem-set vm0", "too few words; use: mem-set GUEST|all SIZE" },
		{ "mem-set vm0 12Q", "\"12Q\" is not a size; write 16M" },
		{ "mem-set vm0 -8M", "\"-8M\" is not a size" },
		{ "mem-set vm0 99999T", "\"99999T\" is too large" },
		{ "mem-set vm0 0", "0 is less than a page, 4K; write 8M" },
		{ "mem-set vm9 8M", "no guest \"vm9\"" },
		{ "mem-max vm0 1M", "vm0 takes 4M (its min) to 16M (its memory)" },
		{ "mem-max vm0 17M", "vm0 takes 4M (its min) to 16M (its memory)" },
		{ "create vm0", "vm0 exists" },
		{ "create x", "no guest \"x\" here or in the configuration; add like=vm0" },
		{ "create x like=y", "no guest \"y\"" },
		{ "create 9x like=vm0", "a name is letters, digits, - and _, a letter first" },
		{ "create all like=vm0", "not \"all\"" },
		{ "create x like=vm0 max=17M", "max is 17M, more than memory, 16M" },
		{ "create x like=vm0 max=4M min=5M", "min is 5M, more than max, 4M" },
		{ "create x like=vm0 memory=3M", "memory is 3M; should be 4M to 64G" },
		{ "create x like=vm0 memory=16", "memory is 16K; should be" },
		{ "create x like=vm0 min=lots", "\"lots\" is not a size" },
		{ "create x like=vm0 shares=0", "shares=0; 1 to 100000" },
		{ "create x like=vm0 colour=red", "unknown \"colour=\"" },
		{ "create x like=vm0 colour", "\"colour\"; use memory=" },
		{ "create x like=vm0 mem=8M", "unknown \"mem=\"; did you mean \"memory=\"?" },
		{ "create x like=vm0 share=8", "unknown \"share=\"; did you mean \"shares=\"?" },
		{ "create x like=vm0 like=vm1", "\"like=vm1\" is given twice; keep one" },
		{ "create x like=vm0 min=4M max=8M min=5M", "\"min=5M\" is given twice" },
		{ "mem-why", "too few words; use: mem-why GUEST|all [-j]" },
		{ "info now", "info: too many words; use: info [-j]\n" },
		{ "shutdown vm0", "shutdown: too many words; use: shutdown\n" },
		{ "debug", "debug: not in this configuration" },
		{ "create x like=vm0 memory=64M min=40M", "its min of 40M cannot be guaranteed" },
		{ "vcpu-list vm9", "no guest \"vm9\"" },
		{ "vcpu-pin vm0 0", "too few words; use: vcpu-pin GUEST VCPU|all CPUS|all" },
		{ "vcpu-pin vm0 9 0", "vm0 has no vCPU \"9\"; it has 0 to 0, or all" },
		{ "vcpu-pin vm0 -1 0", "vm0 has no vCPU \"-1\"" },
		{ "vcpu-pin vm0 all 0,", "\"0,\" is no list of CPUs; use all, 0, 0-3 or 0-1,3" },
		{ "vcpu-pin vm0 0 3", "none of 3 runs; there is 0 to 0" },
		{ "sched vm0 lots", "cpu-shares \"lots\"; 1 to 100000" },
		{ "sched vm0 100001", "1 to 100000" },
		{ "cpus vm0", "too many words; use: cpus" },
		{ "debug scrub", "write debug; at its top level" },
		{ "alloc-fault 3", "alloc-fault: not in this configuration; write debug; at its top level" },
		{ "driver-fault vm0 dead", "driver-fault: not in this configuration" },
		{ "destroy 77", "no guest \"77\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(t); i++)
		error(t[i][0], t[i][1]);
	assert_int_equal(guest_count(), 2);
	says("", "");
	says("   ", "");
}

/* Of a line with -j a mistake is an object, too, whatever the command. */
static void json_mistakes(void **state)
{
	static const char *const t[][2] = {
		{ "lst -j", "{\"error\":\"unknown command \\\"lst\\\"; did you mean \\\"list\\\"?\"}\n" },
		{ "-j list", "{\"error\":\"unknown command \\\"-j\\\"; `help` lists them\"}\n" },
		{ "list vm9 -j", "{\"error\":\"no guest \\\"vm9\\\"; guests are vm0 .. vm1 (`list`)\"}\n" },
		{ "list -j a b", "{\"error\":\"list: too many words; use: list [GUEST] [-j]\"}\n" },
		{ "stats vm9 -j", "{\"error\":\"no guest \\\"vm9\\\"; guests are vm0 .. vm1 (`list`)\"}\n" },
		{ "balloon vm9 -j", "{\"error\":\"no guest \\\"vm9\\\"; guests are vm0 .. vm1 (`list`)\"}\n" },
		{ "vcpu-list vm9 -j", "{\"error\":\"no guest \\\"vm9\\\"; guests are vm0 .. vm1 (`list`)\"}\n" },
		{ "sched vm0 0 -j", "{\"error\":\"sched: cpu-shares \\\"0\\\"; 1 to 100000\"}\n" },
		{ "mem-why -j", "{\"error\":\"mem-why: too few words; use: mem-why GUEST|all [-j]\"}\n" },
		{ "mem-why vm9 -j", "{\"error\":\"no guest \\\"vm9\\\"; guests are vm0 .. vm1 (`list`)\"}\n" },
		{ "pause vm0 -j", "{\"error\":\"pause: it takes no -j; use: pause GUEST\"}\n" },
		{ "create x like=vm0 -j", "{\"error\":\"create: it takes no -j; use: create NAME" },
		{ "debug scrub -j", "{\"error\":\"debug: not in this configuration;" },
		{ "list \"vm0 -j", "{\"error\":\"a quote (\\\") has no end\"}\n" },
		{ "-j 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "{\"error\":\"too many words\"}\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		const char *text = cmd(t[i][0]);

		if (strncmp(text, t[i][1], strlen(t[i][1])) || strchr(text, '\n')[1])
			fail_msg("`%s` should say %s and said %s", t[i][0], t[i][1], text);
	}
	assert_int_equal(guest_find("vm0")->state, GUEST_RUNNING);
	error("list vm9", "no guest"); /* the next line is for people again */
}

/* The braces, brackets and quotes of one line agree; Python's parser checks the rest in the machine. */
static void is_json(const char *line)
{
	const char *text = cmd(line);
	int depth = 0;
	bool quoted = false;

	assert_int_equal(text[0], '{');
	for (const char *s = text; *s != '\n'; s++) {
		assert_true(*s >= ' ' && *s <= '~');
		if (*s == '"')
			quoted = !quoted;
		else if (quoted && *s == '\\')
			s++;
		else if (!quoted && (*s == '{' || *s == '['))
			depth++;
		else if (!quoted && (*s == '}' || *s == ']'))
			assert_true(--depth > 0 || s[1] == '\n');
	}
	assert_int_equal(depth, 0);
	assert_false(quoted);
	assert_string_equal(strchr(text, '\n'), "\n");
}

static void listings(void **state)
{
	static const char *const t[] = { "list", "list vm1", "info", "stats", "stats vm0", "balloon",
		"balloon vm1", "mem-audit", "uptime", "cpus", "vcpu-list", "vcpu-list vm1", "sched", "sched vm0",
		"mem-why vm0", "mem-why all", "mem-state", "disks" };
	char line[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		snprintf(line, sizeof(line), "%s -j", t[i]);
		is_json(line);
		const char *text = cmd(t[i]);
		assert_true(*text && strncmp(text, "error", 5));
		for (const char *end; (end = strchr(text, '\n')); text = end + 1)
			if (end - text > 100 || (end > text && end[-1] == ' '))
				fail_msg("`%s` has a line of %td columns, or blanks at its end", t[i], end - text);
	}
	says("list", "Name               ID    Mem  VCPUs State     Time(s)   Target  Balloon     Used\nvm0 ");
	says("mem-audit", "audit: clean (");
	says("policy-trace 3", "the next 3 steps of the policy");
	says("policy-trace 0", "the next 0 steps");
	says("policy-trace 10001", "error: policy-trace: should be a number of steps, 0 to 10000");
	says("policy-trace soon", "error: policy-trace: should be");
	log_warn("a \"word\"");
	cmd("");
	is_json("dmesg -j");
	says("dmesg -j", "warning: a \\\"word\\\"\"]}\n");
	says("sched vm0 700 -j", "\"cpu_shares\":700");
	assert_string_equal(cmd("sched vm0 1000"), "");
	says("uptime", "up ");
	cmd("dmesg");
}

/* A line a guest, the columns under their names; -j has what `mem-why GUEST -j` has of each. */
static void why_of_all(void **state)
{
	(void)state;
	says("mem-why all", "Name              Mem-set   Should    Holds  Reached  Because\n"
			    "vm0                   16M      16M ");
	says("mem-why all", "\nvm1                   16M      16M ");
	says("mem-why all -j", "{\"guests\":[{\"name\":\"vm0\",\"memory_kib\":16384,");
	says("mem-why all -j", "},{\"name\":\"vm1\",");
	says("mem-why vm1 -j", "{\"name\":\"vm1\",\"memory_kib\":16384,");
}

/* Names up to the longest that may be keep the columns where their headings are. */
static void long_names(void **state)
{
	static const char *const t[] = { "list", "balloon", "vcpu-list", "sched", "mem-why all" };

	(void)state;
	cmd("create a-name-of-23-letters-ok like=vm1");
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		const char *text = cmd(t[i]), *head = strstr(text, "Name   ");

		assert_non_null(head);
		const char *row = strstr(text, "\na-name-of-23-letters-ok ");

		assert_non_null(row);
		size_t column = strspn(head + 4, " ") + 4; /* of the second heading, which stands right */
		column += strcspn(head + column, " ");
		assert_true(row[column] != ' ' && (row[1 + column] == ' '));
	}
	assert_string_equal(cmd("destroy a-name-of-23-letters-ok"), "");
}

static void help(void **state)
{
	(void)state;
	says("help", "Guests\n  list [GUEST]              guests: memory,");
	says("help", "\nMemory\n  mem-set GUEST|all SIZE    set a guest's memory");
	says("help", "\n  vcpu-pin GUEST VCPU|all CPUS|all\n                            which processors");
	says("help pause", "pause GUEST\n    stop a guest's processors\n");
	says("help info", "info [-j]\n");
	says("pause -h", "pause GUEST\n    stop");
	says("list vm9 --help", "list [GUEST] [-j]\n");
	says("help debug", "; needs debug; in the configuration\n");
	const char *text = cmd("help");
	for (const char *end; (end = strchr(text, '\n')); text = end + 1)
		if (end - text > 79)
			fail_msg("help has a line of %td columns: %.*s", end - text, (int)(end - text), text);
}

static void life(void **state)
{
	(void)state;
	assert_string_equal(cmd("pause vm1"), "");
	assert_int_equal(guest_find("vm1")->state, GUEST_PAUSED);
	error("pause vm1", "vm1 is paused; only a running guest can be paused");
	assert_string_equal(cmd("unpause vm1"), "");
	says("create late", "late: id ");
	says("create tiny like=vm1 memory=4M cmdline=\"a b\" shares=7 disk=0", "tiny: id ");
	const struct config_guest *c = &guest_find("tiny")->config;
	assert_true(c->memory_bytes == MIB(4) && c->max_bytes == MIB(4) && c->min_bytes == MIB(4));
	assert_true(c->shares == 7 && c->disk_bytes == 0);
	assert_string_equal(c->cmdline, "a b");
	assert_string_equal(cmd("destroy late"), "");
	assert_string_equal(cmd("destroy tiny"), "");
	assert_int_equal(guest_count(), 2);
	fake_hv_destroy_all();
	error("list vm0", "there are none (`create` starts one)");
	says("list", "total");
}

static void memory(void **state)
{
	(void)state;
	struct guest *g = guest_find("vm0");
	uint32_t deadline = g->config.deadline_ms;

	says("mem-set vm0 16M", "vm0: 16M; it has no balloon driver, and holds only ");
	for (uint64_t gfn = 0; gfn < 2050; gfn++)
		(void)fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_WRITE);
	g->config.deadline_ms = 2000;
	says("mem-set vm0 8M", "vm0: 8M; it has no balloon driver: its own pages are taken");
	says("mem-set vm0 9M", "vm0: 9M; it has no balloon driver, and holds only 8");
	g->config.deadline_ms = 0;
	says("mem-set vm0 8M", "vm0: 8M; it has no balloon driver: by its deadline, 0, nothing is taken");
	g->config.deadline_ms = deadline;
	struct toy *toy = toy_new(g, true);
	assert_string_equal(cmd("mem-set vm0 6144"), "vm0: 6M\n");
	says("mem-set vm0 1M", "vm0: 4M (its min; 1M was asked)");
	says("mem-set vm0 1G", "vm0: 16M (all it has; 1G was asked)");
	says("mem-set all 8M", "vm0: 8M\nvm1: 8M; it has no balloon driver");
	assert_int_equal(g->balloon.operator_pages, 2048);
	cmd("pause vm0");
	says("mem-set vm0 9M", "vm0: 9M; it does not run: its balloon cannot move now");
	cmd("unpause vm0");
	says("mem-why vm1", "vm1 should hold ");
	says("mem-why vm0 -j", "\"limit\":\"");
	says("mem-state", "Rung ");
	says("mem-state -j", "{\"name\":\"compress\",\"pages\":0,\"ticks\":0}");
	error("swap off", "swap: there is none");
	says("mem-max vm0 8M", "vm0: never more than 8M; it holds ");
	toy_free(toy);
	hv_config.debug_commands = true;
	says("debug scrub", " frames scrubbed");
	says("alloc-fault 1000 2", "armed: after 999 more frame allocations 2 fail; 0 failed so far");
	says("alloc-fault", "armed: after 999");
	says("alloc-fault off", "alloc-fault: off; 0 frame");
	error("alloc-fault 0", "which \"0\": use a number from 1 to");
	error("alloc-fault 1 0", "how many \"0\": use a number from 1 to");
	says("driver-fault vm0 dead", "vm0: its balloon driver hears nothing any more");
	assert_true(g->balloon.dead);
	error("driver-fault vm0 ill", "unknown \"ill\"; use: dead, off");
	says("driver-fault vm0 off", "hears again");
	error("debug fill", "unknown \"fill\"; there is: scrub, compress, disk DISK");
}

static void guest_console(void **state)
{
	struct guest *g = guest_find("vm0");
	char got[64];

	(void)state;
	gconsole_put(&g->console, "before\n", 7);
	says("console vm0", "-- vm0: Ctrl-] returns --\nbefore\n");
	fake_serial_clear();
	fake_serial_type("ls -l\r\x1d");
	while (console_poll())
		;
	assert_int_equal(gconsole_read(&g->console, got, sizeof(got)), 6);
	assert_memory_equal(got, "ls -l\r", 6);
	assert_non_null(strstr(fake_serial_out, "back at the hypervisor --\r\naerostat> "));
	/* A log line takes a guest's unfinished line away and draws it again; a very long one it leaves alone. */
	cmd("console vm0");
	gconsole_put(&g->console, "done\nhalf", 9);
	while (console_poll())
		;
	fake_serial_clear();
	log_warn("amid");
	while (console_poll())
		;
	assert_non_null(strstr(fake_serial_out, "\r\x1b[K["));
	assert_non_null(strstr(fake_serial_out, "warning: amid\r\nhalf"));
	for (int i = 0; i < 20; i++)
		gconsole_put(&g->console, "12345", 5);
	while (console_poll())
		;
	fake_serial_clear();
	log_warn("amid");
	while (console_poll())
		;
	assert_memory_equal(fake_serial_out, "\r\n[", 3);
	assert_string_equal(strstr(fake_serial_out, "warning"), "warning: amid\r\n");
	fake_serial_type("\x1d");
	while (console_poll())
		;
	cmd("console vm1");
	guest_destroy(guest_find("vm1"));
	fake_serial_clear();
	while (console_poll())
		;
	assert_non_null(strstr(fake_serial_out, "the guest is gone --\r\naerostat> "));
}

/* A port that takes little at a time, and a paste longer than what it holds: nothing is lost. */
static void slow_port(void **state)
{
	(void)state;
	fake_serial_clear();
	fake_serial_room = 10;
	for (int i = 0; i < 20; i++)
		fake_serial_type("stats vm0\r");
	for (int i = 0; i < 200000; i++) {
		if (!console_poll())
			break;
		fake_serial_room = 10;
	}
	uint32_t listings_seen = 0;
	for (const char *s = fake_serial_out; (s = strstr(s, "spurious")); s++)
		listings_seen++;
	assert_true(fake_serial_out_bytes > 2 * 16384);
	assert_int_equal(listings_seen, 20);
	assert_null(strstr(fake_serial_out, "error:"));
}

static void completion(void **state)
{
	(void)state;
	says("upt\t", "up ");
	assert_non_null(strstr(fake_serial_out, "uptime "));
	says("list v\t1", "vm1 ");
	says("list \t\t", "vm0  vm1  \n"); /* no `all` here */
	says("mem-\t", "mem-set  mem-max  mem-why  mem-state  mem-audit  \n");
	says("help unp\t", "unpause GUEST");
	says("mem-why a\t", "Name "); /* all */
	says("mem-set \t", "vm0  vm1  all  \n");
	says("vcpu-pin vm0 a\ta\t", ""); /* all all */
	assert_non_null(strstr(fake_serial_out, "vcpu-pin vm0 all all "));
	says("swap o\t", "on  off  \n");
	says("driver-fault vm0 \t", "dead  off  \n");
	says("disk-fault 0 \t", "read  write  corrupt  delay  off  \n");
	says("create \t", ": id "); /* late: what is not here */
	says("create x \t", "like=  memory=  min=  max=  shares=  disk=  cmdline=  \n");
	says("create x like=\t", "vm0  vm1  late  \n");
	error("create x like=vm1 me\t3M", "memory is 3M");
	error("create x like=l\tcolour", "\"colour\"; use memory=");
	says("list -\t", "{\"guests\":");
	error("pause -\t", "no guest \"-\""); /* takes no -j */
	says("help \t", "\n"); /* more than a row of them */
	for (const char *s = strstr(fake_serial_out, "list"), *end; (end = strstr(s, "\r\n")); s = end + 2)
		assert_true(end - s < 80);
}

static void the_end(void **state)
{
	(void)state;
	fake_shutdown_return = &ended;
	if (!setjmp(ended))
		cmd("shutdown");
	assert_int_equal(fake_shutdown_code, 0);
	assert_non_null(strstr(fake_serial_out, "shutting down\r\n"));
	fake_shutdown_return = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(json_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(listings, setup, teardown),
		cmocka_unit_test_setup_teardown(why_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(long_names, setup, teardown),
		cmocka_unit_test_setup_teardown(help, setup, teardown),
		cmocka_unit_test_setup_teardown(life, setup, teardown),
		cmocka_unit_test_setup_teardown(memory, setup, teardown),
		cmocka_unit_test_setup_teardown(guest_console, setup, teardown),
		cmocka_unit_test_setup_teardown(slow_port, setup, teardown),
		cmocka_unit_test_setup_teardown(completion, setup, teardown),
		cmocka_unit_test_setup_teardown(the_end, setup, teardown),
	};
	return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
