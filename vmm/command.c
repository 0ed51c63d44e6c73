#include "vmm/command.h"

#include "vmm/base/fmt.h"
#include "vmm/base/nearest.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/console.h"

static void cmd_help(const struct command_args *a);

#define HELP_COLUMN 28 /* where the words about a command begin */

static const char *const group_name[GROUP_COUNT] = {
	[GROUP_GUESTS] = "Guests", [GROUP_MEMORY] = "Memory", [GROUP_CPUS] = "Processors",
	[GROUP_MACHINE] = "The machine",
	[GROUP_DEBUG] = "Faults and benchmarks (with debug; at the configuration's top level)",
};

/* By group, in the order of `help`. */
const struct command command_table[] = {
	{ "list", "[GUEST]", "guests: memory, balloon, state, time", cmd_list, 0, 1, GROUP_GUESTS, true },
	{ "create", "NAME [like=NAME] [memory= min= max= shares= disk= cmdline=]",
		"start a guest of the configuration, or one like it", cmd_create, 1, 8, GROUP_GUESTS, false },
	{ "destroy", "GUEST", "end a guest at once, take all it held", cmd_destroy, 1, 1, GROUP_GUESTS, false },
	{ "pause", "GUEST", "stop a guest's processors", cmd_pause, 1, 1, GROUP_GUESTS, false },
	{ "unpause", "GUEST", "let them go on", cmd_unpause, 1, 1, GROUP_GUESTS, false },
	{ "console", "GUEST", "to a guest's console; Ctrl-] comes back", cmd_console, 1, 1, GROUP_GUESTS, false },

	{ "mem-set", "GUEST|all SIZE", "set a guest's memory, by its balloon", cmd_mem_set, 2, 2,
		GROUP_MEMORY, false },
	{ "mem-max", "GUEST SIZE", "set the most a guest may ever hold", cmd_mem_max, 2, 2, GROUP_MEMORY, false },
	{ "mem-why", "GUEST|all", "what it should hold, holds, and what is between", cmd_mem_why, 1, 1,
		GROUP_MEMORY, true },
	{ "mem-state", "", "the pool; what each way of reclaiming gave, cost", cmd_mem_state, 0, 0,
		GROUP_MEMORY, true },
	{ "mem-audit", "", "prove where each page is", cmd_mem_audit, 0, 0, GROUP_MEMORY, true },
	{ "balloon", "[GUEST]", "balloons: target, actual, what the driver says", cmd_balloon, 0, 1,
		GROUP_MEMORY, true },
	{ "swap", "on|off", "let pages go out to the host's swap, or not", cmd_swap, 1, 1, GROUP_MEMORY, false },
	{ "policy-trace", "[STEPS]", "print what the policy is given (docs/policy.md)", cmd_policy_trace, 0, 1,
		GROUP_MEMORY, false },

	{ "cpus", "", "time in guests, idle, switches, who runs", cmd_cpus, 0, 0, GROUP_CPUS, true },
	{ "vcpu-list", "[GUEST]", "virtual CPUs: where, state, time, affinity", cmd_vcpu_list, 0, 1,
		GROUP_CPUS, true },
	{ "vcpu-pin", "GUEST VCPU|all CPUS|all", "which processors one may run on (0-1,3)", cmd_vcpu_pin, 3, 3,
		GROUP_CPUS, false },
	{ "sched", "[GUEST [SHARES]]", "guests' shares of the processors; set one's", cmd_sched, 0, 2,
		GROUP_CPUS, true },

	{ "info", "", "machine, pool, hypervisor's own memory", cmd_info, 0, 0, GROUP_MACHINE, true },
	{ "stats", "[GUEST]", "of a guest: exits, faults, waits; or of the pool", cmd_stats, 0, 1,
		GROUP_MACHINE, true },
	{ "disks", "", "the host's disks: driver, requests, errors", cmd_disks, 0, 0, GROUP_MACHINE, true },
	{ "dmesg", "", "the hypervisor's log", cmd_dmesg, 0, 0, GROUP_MACHINE, true },
	{ "uptime", "", "time since boot, and how idle", cmd_uptime, 0, 0, GROUP_MACHINE, true },
	{ "shutdown", "", "end the machine", cmd_shutdown, 0, 0, GROUP_MACHINE, false },
	{ "reboot", "", "reset the machine", cmd_reboot, 0, 0, GROUP_MACHINE, false },
	{ "help", "[COMMAND]", "this list, or one command", cmd_help, 0, 1, GROUP_MACHINE, false },

	{ "disk-fault", "DISK read|write|corrupt|delay|off [N [MS]]",
		"the next N requests fail, are wrong, or are late", cmd_disk_fault, 2, 4, GROUP_DEBUG, false },
	{ "alloc-fault", "[N|off [COUNT]]", "the N-th frame allocation fails, COUNT in a row", cmd_alloc_fault,
		0, 2, GROUP_DEBUG, false },
	{ "driver-fault", "GUEST dead|off", "a guest's balloon driver is cut off", cmd_driver_fault, 2, 2,
		GROUP_DEBUG, false },
	{ "debug", "scrub|compress|disk|share|reclaim|latency|paging [GUEST|DISK ...]",
		"scrub free frames; try compression, a disk, sharing", cmd_debug, 1, 5, GROUP_DEBUG, false },
};
const uint32_t command_count = ARRAY_COUNT(command_table);

/* CPU 0's: the line being run has -j. */
static bool errors_as_json;

void command_error(const char *fmt, ...)
{
	char line[240];
	struct json j;
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (!errors_as_json) {
		console_printf("error: %s\n", line);
		return;
	}
	command_json_begin(&j);
	json_string(&j, "error", line);
	command_json_end(&j);
}

/* ---- words --------------------------------------------------------------------------------- */

int command_split(char *line, const char *words[], uint32_t max, const char **why)
{
	uint32_t n = 0;
	char *s = line;

	for (;;) {
		while (*s == ' ' || *s == '\t')
			s++;
		if (!*s)
			return (int)n;
		if (n == max) {
			*why = "too many words";
			return -1;
		}
		char *to = s;
		bool quoted = false;
		words[n++] = to;
		for (; *s && (quoted || (*s != ' ' && *s != '\t')); s++) {
			if (*s == '"')
				quoted = !quoted;
			else
				*to++ = *s;
		}
		if (quoted) {
			*why = "a quote (\") has no end";
			return -1;
		}
		if (*s)
			s++;
		*to = '\0';
	}
}

const struct command *command_find(const char *name, size_t bytes)
{
	for (uint32_t i = 0; i < command_count; i++)
		if (strlen(command_table[i].name) == bytes && !strncmp(command_table[i].name, name, bytes))
			return &command_table[i];
	return NULL;
}

/* What others call it: xl, and shells. */
static const char *known_elsewhere(const char *name)
{
	static const char *const words[][2] = {
		{ "?", "help" }, { "exit", "shutdown" }, { "quit", "shutdown" }, { "halt", "shutdown" },
		{ "poweroff", "shutdown" }, { "start", "create" }, { "stop", "destroy" }, { "resume", "unpause" },
		{ "top", "stats" }, { "sched-credit", "sched" }, { "sched-credit2", "sched" }, { "vm-list", "list" },
		{ "free", "mem-state" }, { "log", "dmesg" }, { "version", "info" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (!strcmp(words[i][0], name))
			return words[i][1];
	return NULL;
}

static void unknown_command(const char *name)
{
	struct nearest n;

	nearest_begin(&n, name);
	for (uint32_t i = 0; i < command_count; i++)
		nearest_try(&n, command_table[i].name);
	const char *meant = known_elsewhere(name);

	meant = meant ? meant : n.best;
	if (!strcmp(name, "xl"))
		command_error("unknown command \"xl\"; type what follows it, as in `list`");
	else if (meant)
		command_error("unknown command \"%.40s\"; did you mean \"%s\"?", name, meant);
	else
		command_error("unknown command \"%.40s\"; `help` lists them", name);
}

/* "mem-why GUEST|all [-j]" */
static void synopsis(const struct command *c, char *buf, size_t bytes)
{
	fmt_snprintf(buf, bytes, "%s%s%s%s", c->name, *c->arguments ? " " : "", c->arguments,
		c->json ? " [-j]" : "");
}

static void usage(const struct command *c, const char *what)
{
	char text[120];

	synopsis(c, text, sizeof(text));
	command_error("%s: %s; use: %s", c->name, what, text);
}

static void help_one(const struct command *c)
{
	char text[120];

	synopsis(c, text, sizeof(text));
	console_printf("%s\n    %s%s\n", text, c->help,
		c->group == GROUP_DEBUG ? "; needs debug; in the configuration" : "");
}

/* A line that cannot be taken apart may have -j all the same. */
static bool has_json_option(const char *line)
{
	for (const char *s = line; *s; s++)
		if ((s == line || s[-1] == ' ') && s[0] == '-' && s[1] == 'j' && (!s[2] || s[2] == ' '))
			return true;
	return false;
}

static void run_words(const char *const words[], uint32_t n)
{
	const struct command *c = command_find(words[0], strlen(words[0]));
	struct command_args a = { .json = !strcmp(words[0], "-j") };
	bool help = false;

	for (uint32_t i = 1; i < n; i++) {
		if (!strcmp(words[i], "-j"))
			a.json = true;
		else if (!strcmp(words[i], "-h") || !strcmp(words[i], "--help"))
			help = true;
		else
			a.word[a.count++] = words[i];
	}
	errors_as_json = a.json;
	if (!c)
		unknown_command(words[0]);
	else if (help)
		help_one(c);
	else if (c->group == GROUP_DEBUG && !hv_config.debug_commands)
		command_error("%s: not in this configuration; write debug; at its top level", c->name);
	else if (a.json && !c->json)
		usage(c, "it takes no -j");
	else if (a.count && a.word[0][0] == '-' && a.word[0][1])
		usage(c, "no such option");
	else if (a.count < c->min)
		usage(c, "too few words");
	else if (a.count > c->max)
		usage(c, "too many words");
	else
		c->run(&a);
}

void command_run(char *line)
{
	const char *words[COMMAND_WORDS], *why;
	bool json = has_json_option(line);
	int n = command_split(line, words, COMMAND_WORDS, &why);

	errors_as_json = json;
	if (n < 0)
		command_error("%s", why);
	else if (n > 0)
		run_words(words, (uint32_t)n);
	errors_as_json = false;
}

static void help_all(void)
{
	for (uint32_t i = 0; i < command_count; i++) {
		const struct command *c = &command_table[i];
		char head[100];

		if (!i || c->group != c[-1].group)
			console_printf("%s\n", group_name[c->group]);
		int n = fmt_snprintf(head, sizeof(head), "  %s %s", c->name, c->arguments);

		if (n + 1 < HELP_COLUMN)
			console_printf("%-*s%s\n", HELP_COLUMN, head, c->help);
		else
			console_printf("%s\n%-*s%s\n", head, HELP_COLUMN, "", c->help);
	}
	console_printf("Listings take -j: one JSON object, {\"error\": ...} if something is wrong.\n"
		       "Sizes: 16M, 512K, 1G; a bare number is KiB. `COMMAND -h` is `help COMMAND`.\n"
		       "Keys: arrows, Tab, ^A ^E ^K ^U ^W ^L; Ctrl-] leaves a guest's console.\n");
}

static void cmd_help(const struct command_args *a)
{
	const struct command *c = a->count ? command_find(a->word[0], strlen(a->word[0])) : NULL;

	if (!a->count)
		help_all();
	else if (c)
		help_one(c);
	else
		unknown_command(a->word[0]);
}

/* ---- arguments ------------------------------------------------------------------------------ */

struct guest *command_guest(const char *word)
{
	struct guest *g = guest_find(word), *first = guest_next(NULL), *last = first;

	if (g)
		return g;
	for (struct guest *i = first; i; i = guest_next(i))
		last = i;
	if (!first)
		command_error("no guest \"%.40s\"; there are none (`create` starts one)", word);
	else if (first == last)
		command_error("no guest \"%.40s\"; there is only %s", word, first->config.name);
	else
		command_error("no guest \"%.40s\"; guests are %s .. %s (`list`)", word,
			first->config.name, last->config.name);
	return NULL;
}

int command_name_columns(void)
{
	size_t columns = 16;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		columns = MAX(columns, strlen(g->config.name));
	return (int)columns;
}

const char *command_pages(uint32_t slot, uint64_t pages)
{
	static char text[8][16]; /* CPU 0's */

	return format_size(text[slot], sizeof(text[0]), pages * PAGE_BYTES);
}

bool command_size(const char *word, uint64_t *bytes)
{
	status_t s = parse_size(word, KIB(1), bytes);

	if (s == OK)
		return true;
	command_error("\"%.40s\" is %s; write 16M, 512K, 1G, or a number of KiB", word,
		s == ERR_RANGE ? "too large" : "not a size");
	return false;
}

static void put_json(void *ctx, const char *s, size_t n)
{
	(void)ctx;
	console_write(s, n);
}

void command_json_begin(struct json *j)
{
	json_begin(j, put_json, NULL);
	json_object(j, NULL);
}

void command_json_end(struct json *j)
{
	json_object_end(j);
	console_write("\n", 1);
}
