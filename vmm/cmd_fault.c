/* alloc-fault, driver-fault: what goes wrong on request. disk-fault is in cmd_disk.c. */
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"

#define NTH_MAX   1000000000u
#define COUNT_MAX 1000000u

/* ---- alloc-fault ------------------------------------------------------------------------------- */

static void show(void)
{
	struct frame_fault f;

	frame_fault_get(&f);
	if (f.left)
		console_printf("alloc-fault: armed: after %lu more frame allocations %lu fail; %lu failed so far\n",
			f.skip, f.left, f.failed);
	else
		console_printf("alloc-fault: off; %lu frame allocations failed so far\n", f.failed);
}

static bool number(const char *word, const char *what, uint32_t max, uint64_t *out)
{
	if (parse_u64(word, max, out) == OK && *out)
		return true;
	command_error("alloc-fault: %s \"%.20s\": use a number from 1 to %u", what, word, max);
	return false;
}

void cmd_alloc_fault(const struct command_args *a)
{
	uint64_t nth = 0, count = 1;

	if (a->count == 1 && !strcmp(a->word[0], "off")) {
		frame_fault_set(0, 0);
	} else if (a->count) {
		if (!number(a->word[0], "which", NTH_MAX, &nth))
			return;
		if (a->count == 2 && !number(a->word[1], "how many", COUNT_MAX, &count))
			return;
		frame_fault_set(nth, count);
	}
	show();
}

/* ---- driver-fault ------------------------------------------------------------------------------ */

void cmd_driver_fault(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);
	bool dead = !strcmp(a->word[1], "dead");

	if (!g)
		return;
	if (!dead && strcmp(a->word[1], "off")) {
		command_error("driver-fault: unknown \"%.20s\"; use: dead, off", a->word[1]);
		return;
	}
	balloon_set_dead(&g->balloon, dead);
	console_printf(dead ? "%s: its balloon driver hears nothing any more, and is not listened to\n" :
			      "%s: its balloon driver hears again\n",
		g->config.name);
}
