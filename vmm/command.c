#include "vmm/command.h"

#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/console.h"

static void cmd_help(const struct command_args *a);

const struct command command_table[] = {
	{ "list", "[GUEST]", "guests: memory, balloon, state, time", cmd_list, 0, 1, WORD_GUEST, true },
	{ "info", "", "machine, pool, hypervisor's own memory", cmd_info, 0, 0, WORD_NONE, true },
	{ "stats", "[GUEST]", "exits, faults, hypercalls, waits; or the pool", cmd_stats, 0, 1,
		WORD_GUEST, true },
	{ "balloon", "[GUEST]", "balloons: target, actual, what the driver says", cmd_balloon, 0, 1,
		WORD_GUEST, true },
	{ "vcpu-list", "[GUEST]", "virtual CPUs: where each is, state, time, affinity", cmd_vcpu_list, 0, 1,
		WORD_GUEST, true },
	{ "vcpu-pin", "GUEST VCPU|all CPUS|all", "which processors a virtual CPU may run on (0-1,3)",
		cmd_vcpu_pin, 3, 3, WORD_GUEST, false },
	{ "cpus", "", "processors: time in guests, idle, switches, who runs", cmd_cpus, 0, 0,
		WORD_NONE, true },
	{ "sched", "[GUEST [SHARES]]", "guests' shares of the processors; set one's", cmd_sched, 0, 2,
		WORD_GUEST, true },
	{ "mem-set", "GUEST|all SIZE", "set a guest's memory by its balloon (16M, 8192 = KiB)",
		cmd_mem_set, 2, 2, WORD_GUEST, false },
	{ "mem-max", "GUEST SIZE", "set the most a guest may ever hold", cmd_mem_max, 2, 2, WORD_GUEST,
		false },
	{ "mem-audit", "", "prove where each page is", cmd_mem_audit, 0, 0, WORD_NONE, true },
	{ "policy-trace", "[STEPS]", "print what the policy is given, to be made again on a host",
		cmd_policy_trace, 0, 1, WORD_NONE, false },
	{ "mem-why", "GUEST", "what a guest should hold, holds, and what stands between", cmd_mem_why, 1, 1,
		WORD_GUEST, true },
	{ "mem-state", "", "the pool's state, and what each way of reclaiming gave and cost", cmd_mem_state,
		0, 0, WORD_NONE, true },
	{ "swap", "on|off", "let pages go out to the host's swap, or not", cmd_swap, 1, 1, WORD_NONE, false },
	{ "pause", "GUEST", "stop a guest's processors", cmd_pause, 1, 1, WORD_GUEST, false },
	{ "unpause", "GUEST", "let them go on", cmd_unpause, 1, 1, WORD_GUEST, false },
	{ "create", "NAME [like=NODE] [memory= min= max= shares= disk= cmdline=]",
		"start a guest of the configuration, or one like it", cmd_create, 1, 8, WORD_NODE, false },
	{ "destroy", "GUEST", "end a guest at once, take all it held", cmd_destroy, 1, 1, WORD_GUEST,
		false },
	{ "console", "GUEST", "to a guest's console; Ctrl-] comes back", cmd_console, 1, 1, WORD_GUEST,
		false },
	{ "dmesg", "", "the hypervisor's log", cmd_dmesg, 0, 0, WORD_NONE, false },
	{ "uptime", "", "time since boot, and how idle", cmd_uptime, 0, 0, WORD_NONE, true },
	{ "disks", "", "the host's disks: driver, requests, errors", cmd_disks, 0, 0, WORD_NONE, true },
	{ "disk-fault", "DISK read N|write N|corrupt N|delay N MS|off",
		"the next N requests fail, read a wrong bit, or are late (needs debug; in the config)", cmd_disk_fault, 2, 4,
		WORD_NONE, false },
	{ "alloc-fault", "[N [COUNT]|off]",
		"the N-th frame allocation from now on fails, COUNT in a row (needs debug; in the config)",
		cmd_alloc_fault, 0, 2, WORD_NONE, false },
	{ "driver-fault", "GUEST dead|off", "a guest's balloon driver is cut off (needs debug; in the config)",
		cmd_driver_fault, 2, 2, WORD_GUEST, false },
	{ "debug", "scrub|compress|disk DISK|share GUEST|reclaim ...|latency ...|paging ...",
		"scrub free frames; try compression, a disk, sharing; for benchmarks (needs debug; in the config)",
		cmd_debug, 1, 5, WORD_NONE, false },
	{ "shutdown", "", "end the machine", cmd_shutdown, 0, 0, WORD_NONE, false },
	{ "reboot", "", "reset the machine", cmd_reboot, 0, 0, WORD_NONE, false },
	{ "help", "[COMMAND]", "this list, or one command", cmd_help, 0, 1, WORD_COMMAND, false },
};
const uint32_t command_count = ARRAY_COUNT(command_table);

void command_error(const char *fmt, ...)
{
	char line[240];
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	console_printf("error: %s\n", line);
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

static const struct command *find(const char *name)
{
	for (uint32_t i = 0; i < command_count; i++)
		if (!strcmp(command_table[i].name, name))
			return &command_table[i];
	return NULL;
}

/* Edits (insert, delete, replace) between two short words; large beyond 15 characters. */
static uint32_t distance(const char *a, const char *b)
{
	uint32_t row[17], n = (uint32_t)strlen(b);

	if (n > 15 || strlen(a) > 15)
		return 99;
	for (uint32_t j = 0; j <= n; j++)
		row[j] = j;
	for (uint32_t i = 1; a[i - 1]; i++) {
		uint32_t diagonal = row[0];
		row[0] = i;
		for (uint32_t j = 1; j <= n; j++) {
			uint32_t above = row[j];
			uint32_t cost = diagonal + (a[i - 1] != b[j - 1]);
			row[j] = MIN(cost, MIN(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[n];
}

static void unknown_command(const char *name)
{
	const char *best = NULL;
	uint32_t least = 3;

	for (uint32_t i = 0; i < command_count; i++) {
		uint32_t d = distance(name, command_table[i].name);
		if (d < least) {
			least = d;
			best = command_table[i].name;
		}
	}
	if (best)
		command_error("unknown command \"%.40s\"; did you mean \"%s\"?", name, best);
	else
		command_error("unknown command \"%.40s\"; `help` lists them", name);
}

static void usage(const struct command *c, const char *what)
{
	command_error("%s: %s; use: %s %s%s", c->name, what, c->name, c->arguments,
		c->json ? " [-j]" : "");
}

void command_run(char *line)
{
	const char *words[COMMAND_WORDS], *why;
	struct command_args a = { 0 };
	int n = command_split(line, words, COMMAND_WORDS, &why);

	if (n < 0) {
		command_error("%s", why);
		return;
	}
	if (n == 0)
		return;
	const struct command *c = find(words[0]);
	if (!c) {
		unknown_command(words[0]);
		return;
	}
	for (int i = 1; i < n; i++) {
		if (c->json && !strcmp(words[i], "-j"))
			a.json = true;
		else
			a.word[a.count++] = words[i];
	}
	if (a.count && a.word[0][0] == '-' && a.word[0][1])
		usage(c, "no such option");
	else if (a.count < c->min)
		usage(c, "too few words");
	else if (a.count > c->max)
		usage(c, "too many words");
	else
		c->run(&a);
}

static void cmd_help(const struct command_args *a)
{
	if (a->count) {
		const struct command *c = find(a->word[0]);
		if (c)
			console_printf("%s %s%s\n    %s\n", c->name, c->arguments, c->json ? " [-j]" : "",
				c->help);
		else
			unknown_command(a->word[0]);
		return;
	}
	for (uint32_t i = 0; i < command_count; i++) {
		const struct command *c = &command_table[i];
		char head[40];
		fmt_snprintf(head, sizeof(head), "%s %s", c->name,
			strlen(c->arguments) < 20 ? c->arguments : "NAME ...");
		console_printf("  %-26s %s\n", head, c->help);
	}
	console_printf("Listings take -j: one JSON object. Sizes: 16M, 512K, 1G; a bare number is KiB.\n"
		       "Keys: arrows, Tab, ^A ^E ^K ^U ^W ^L; Ctrl-] leaves a guest's console.\n");
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

/* ---- completion ------------------------------------------------------------------------------- */

/* The i-th candidate of a kind, or NULL after the last. */
static const char *candidate(enum command_word kind, uint32_t i)
{
	struct guest *g = NULL;

	switch (kind) {
	case WORD_COMMAND:
		return i < command_count ? command_table[i].name : NULL;
	case WORD_NODE:
		return i < hv_config.guest_count ? hv_config.guest[i].name : NULL;
	case WORD_GUEST:
		for (g = guest_next(NULL); g && i; i--)
			g = guest_next(g);
		return g ? g->config.name : NULL;
	default:
		return NULL;
	}
}

static enum command_word kind_at(const char *line, size_t start)
{
	char name[16];
	size_t n = 0, at = 0;

	while (line[at] == ' ')
		at++;
	if (at == start)
		return WORD_COMMAND;
	while (n < sizeof(name) - 1 && at < start && line[at] != ' ')
		name[n++] = line[at++];
	name[n] = '\0';
	while (at < start && line[at] == ' ')
		at++;
	const struct command *c = find(name);
	return c && at == start ? (enum command_word)c->first : WORD_NONE;
}

size_t command_complete(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
	bool *shown)
{
	size_t start = cursor, common = 0, matches = 0;
	const char *first = NULL, *c;

	(void)ctx;
	while (start && line[start - 1] != ' ')
		start--;
	size_t typed = cursor - start;
	enum command_word kind = kind_at(line, start);
	for (uint32_t i = 0; (c = candidate(kind, i)); i++) {
		if (strncmp(c, line + start, typed))
			continue;
		if (!matches++) {
			first = c;
			common = strlen(c);
		}
		size_t same = 0;
		while (same < common && c[same] == first[same])
			same++;
		common = same;
	}
	if (!matches)
		return 0;
	size_t n = MIN(common - typed, room - 1);
	memcpy(insert, first + typed, n);
	if (matches == 1)
		insert[n++] = ' ';
	else if (!n) {
		console_write("\n", 1);
		for (uint32_t i = 0; (c = candidate(kind, i)); i++)
			if (!strncmp(c, line + start, typed))
				console_printf("%s  ", c);
		console_write("\n", 1);
		*shown = true;
	}
	return n;
}
