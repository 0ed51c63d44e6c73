/* mem-set, mem-max, mem-audit. */
#include "mm/audit.h"
#include "vmm/base/parse.h"
#include "vmm/command.h"
#include "vmm/base/string.h"
#include "vmm/console.h"
#include "vmm/overcommit.h"
#include "vmm/sched.h"

/* What becomes of a guest that no balloon makes smaller, or larger. */
static void say_no_driver(const struct guest *g, uint64_t pages)
{
	char holds[16];

	if (p2m_resident(&g->p2m) > pages)
		console_printf("; it has no balloon driver: %s", g->config.deadline_ms ? "its own pages are taken" :
			"by its deadline, 0, nothing is taken from it");
	else
		console_printf("; it has no balloon driver, and holds only %s",
			format_size(holds, sizeof(holds), p2m_resident(&g->p2m) * PAGE_BYTES));
}

static void set_one(struct guest *g, uint64_t bytes)
{
	char wanted[16], got[16];
	uint64_t pages = bytes / PAGE_BYTES;
	uint64_t size = balloon_set_operator(&g->balloon, pages);

	format_size(wanted, sizeof(wanted), bytes);
	format_size(got, sizeof(got), size * PAGE_BYTES);
	console_printf("%s: %s", g->config.name, got);
	if (size > pages)
		console_printf(" (its min; %s was asked)", wanted);
	else if (size < pages)
		console_printf(" (all it has; %s was asked)", wanted);
	if (!g->balloon.page)
		say_no_driver(g, size);
	else if (g->state != GUEST_RUNNING)
		console_printf("; it does not run: its balloon cannot move now");
	console_printf("\n");
}

void cmd_mem_set(const struct command_args *a)
{
	struct guest *g = NULL;
	uint64_t bytes;
	bool all = !strcmp(a->word[0], "all");

	if (!all && !(g = command_guest(a->word[0])))
		return;
	if (!command_size(a->word[1], &bytes))
		return;
	if (bytes < PAGE_BYTES) {
		command_error("mem-set: %.20s is less than a page, 4K; write 8M for 8 MiB", a->word[1]);
		return;
	}
	if (all)
		for (g = guest_next(NULL); g; g = guest_next(g))
			set_one(g, bytes);
	else
		set_one(g, bytes);
	overcommit_nudge();
}

void cmd_mem_max(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);
	uint64_t bytes;
	char low[16], high[16];

	if (!g || !command_size(a->word[1], &bytes))
		return;
	if (bytes < g->config.min_bytes || bytes > g->config.memory_bytes) {
		command_error("mem-max: %s takes %s (its min) to %s (its memory)", g->config.name,
			format_size(low, sizeof(low), g->config.min_bytes),
			format_size(high, sizeof(high), g->config.memory_bytes));
		return;
	}
	guest_set_max(g, bytes);
	console_printf("%s: never more than %s; it holds %s\n", g->config.name,
		format_size(high, sizeof(high), bytes),
		format_size(low, sizeof(low), g->p2m.account.used_pages * PAGE_BYTES));
	overcommit_nudge();
}

/* The auditor counts from 0 on, in order: one step a call. */
static struct p2m *p2m_at(void *ctx, uint32_t i)
{
	struct guest **g = ctx;

	*g = guest_next(i ? *g : NULL);
	return *g ? &(*g)->p2m : NULL;
}

/* Constant size, too large for the stack; CPU 0's only. */
static struct audit_report report;

void cmd_mem_audit(const struct command_args *a)
{
	struct guest *g = NULL;
	struct json j;

	sched_park_others();
	audit_run(p2m_at, &g, true, &report);
	sched_unpark();
	uint32_t shown = (uint32_t)MIN(report.problems, (uint64_t)AUDIT_MESSAGE_MAX);
	if (a->json) {
		command_json_begin(&j);
		json_u64(&j, "problems", report.problems);
		json_u64(&j, "frames", report.frames_checked);
		json_u64(&j, "guest_pages", report.gfns_checked);
		json_array(&j, "messages");
		for (uint32_t i = 0; i < shown; i++)
			json_string(&j, NULL, report.message[i]);
		json_array_end(&j);
		command_json_end(&j);
		return;
	}
	for (uint32_t i = 0; i < shown; i++)
		console_printf("  %s\n", report.message[i]);
	if (report.problems)
		console_printf("audit: %lu problems in %lu frames, %lu guest pages\n", report.problems,
			report.frames_checked, report.gfns_checked);
	else
		console_printf("audit: clean (%lu frames, %lu guest pages)\n", report.frames_checked,
			report.gfns_checked);
}
