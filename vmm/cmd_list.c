/* Listings of guests: list, balloon. */
#include "mm/zstore.h"
#include "vmm/base/parse.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/platform.h"

static uint64_t cpu_ms(const struct guest *g)
{
	uint64_t tsc = 0;

	for (uint32_t i = 0; i < g->vcpu_count; i++)
		tsc += g->vcpu[i].cpu_tsc;
	return platform_tsc_khz ? tsc / platform_tsc_khz : 0;
}

static const char *pages_text(char buf[16], uint64_t pages)
{
	return format_size(buf, 16, pages * PAGE_BYTES);
}

static uint64_t held_pages(const struct guest *g)
{
	return g->p2m.account.used_pages;
}

/* Now: memory less what is in the balloon. */
static uint64_t size_pages(const struct guest *g)
{
	return g->p2m.gfn_count - balloon_actual_pages(&g->balloon);
}

static uint64_t target_size(const struct guest *g)
{
	return g->p2m.gfn_count - g->balloon.target_pages;
}

static void list_row(const struct guest *g)
{
	char letters[7], m[16], t[16], b[16], u[16];
	uint64_t ms = cpu_ms(g);

	guest_state_letters(g, letters);
	console_printf("%-*s %4u %6s %6u %-6s %8lu.%lu %8s %8s %8s", command_name_columns(), g->config.name, g->id,
		pages_text(m, size_pages(g)), g->vcpu_count, letters, ms / 1000, ms % 1000 / 100,
		pages_text(t, target_size(g)), pages_text(b, balloon_actual_pages(&g->balloon)),
		pages_text(u, held_pages(g)));
	if (g->reason[0] && g->state != GUEST_RUNNING)
		console_printf("\n    %s", g->reason); /* below: the row is 80 columns wide */
	console_printf("\n");
}

static void list_json(struct json *j, const struct guest *g)
{
	char letters[7];

	guest_state_letters(g, letters);
	json_object(j, NULL);
	json_string(j, "name", g->config.name);
	json_u64(j, "id", g->id);
	json_string(j, "state", guest_state_name(g->state));
	json_string(j, "letters", letters);
	json_string(j, "reason", g->reason);
	json_u64(j, "vcpus", g->vcpu_count);
	json_u64(j, "memory_pages", g->p2m.gfn_count);
	json_u64(j, "size_pages", size_pages(g));
	json_u64(j, "target_pages", target_size(g));
	json_u64(j, "balloon_pages", balloon_actual_pages(&g->balloon));
	json_u64(j, "used_pages", held_pages(g));
	json_u64(j, "store_pages", zstore_owner_frames(g->id));
	json_u64(j, "cost_pages", p2m_resident(&g->p2m) + zstore_owner_frames(g->id));
	json_u64(j, "min_pages", g->p2m.account.min_pages);
	json_u64(j, "shares", g->config.shares);
	json_u64(j, "cpu_ms", cpu_ms(g));
	json_object_end(j);
}

/* Calls `row` for the guest named, or all. False: there is no such guest, and that was said. */
static bool each(const struct command_args *a, void (*row)(void *ctx, struct guest *g), void *ctx)
{
	struct guest *g = a->count ? command_guest(a->word[0]) : guest_next(NULL);

	if (a->count && !g)
		return false;
	for (; g; g = a->count ? NULL : guest_next(g))
		row(ctx, g);
	return true;
}

struct totals {
	uint64_t memory, target, balloon, used;
	struct json *json;
};

static void list_one(void *ctx, struct guest *g)
{
	struct totals *t = ctx;

	t->memory += size_pages(g);
	t->target += target_size(g);
	t->balloon += balloon_actual_pages(&g->balloon);
	t->used += held_pages(g);
	if (t->json)
		list_json(t->json, g);
	else
		list_row(g);
}

void cmd_list(const struct command_args *a)
{
	struct totals t = { 0 };
	struct json j;
	char m[16], g[16], b[16], u[16];

	if (a->count && !command_guest(a->word[0]))
		return;
	if (a->json) {
		command_json_begin(&j);
		json_array(&j, "guests");
		t.json = &j;
		(void)each(a, list_one, &t);
		json_array_end(&j);
		command_json_end(&j);
		return;
	}
	console_printf("%-*s %4s %6s %6s %-6s %10s %8s %8s %8s\n", command_name_columns(), "Name", "ID",
		"Mem", "VCPUs", "State", "Time(s)", "Target", "Balloon", "Used");
	(void)each(a, list_one, &t);
	if (!a->count)
		console_printf("%-*s %4u %6s %6s %-6s %10s %8s %8s %8s\n", command_name_columns(), "total",
			guest_count(), pages_text(m, t.memory), "", "", "", pages_text(g, t.target),
			pages_text(b, t.balloon), pages_text(u, t.used));
}

/* ---- balloon -------------------------------------------------------------------------------- */

static const char *driver_says(const struct balloon *b)
{
	return b->page ? balloon_state_name(b->state) : "no driver";
}

static void balloon_row(const struct guest *g)
{
	const struct balloon *b = &g->balloon;
	char t[16], a[16], o[16], v[16], c[16];
	uint64_t now = platform_ns(), active = sampling_active_pages(g), available = b->stats[AERO_STAT_AVAILABLE];

	console_printf("%-*s %8s %8s %8s %8s %-10s %8s", command_name_columns(), g->config.name,
		pages_text(o, b->operator_pages), pages_text(t, b->target_pages),
		pages_text(a, balloon_actual_pages(b)),
		active == UINT64_MAX ? "-" : pages_text(c, active), driver_says(b),
		b->stats_ns && available != AERO_STAT_UNKNOWN ? format_size(v, sizeof(v), available) : "-");
	if (b->stats_ns)
		console_printf(" %4lu.%lus ago", (now - b->stats_ns) / 1000000000,
			(now - b->stats_ns) % 1000000000 / 100000000);
	if (b->reason)
		console_printf("  %s, short of %s", balloon_reason_text(b->reason),
			pages_text(t, b->short_pages));
	console_printf("\n");
}

static void balloon_json(struct json *j, const struct guest *g)
{
	const struct balloon *b = &g->balloon;
	uint64_t now = platform_ns();

	json_object(j, NULL);
	json_string(j, "name", g->config.name);
	json_bool(j, "driver", b->page != NULL);
	json_u64(j, "operator_pages", b->operator_pages);
	json_u64(j, "target_pages", b->target_pages);
	json_u64(j, "actual_pages", balloon_actual_pages(b));
	json_i64(j, "active_pages", (int64_t)sampling_active_pages(g)); /* -1: not known */
	json_string(j, "claim", activity_fit_text(g->sampling.activity.fit));
	json_bool(j, "reached", balloon_actual_pages(b) == b->target_pages);
	json_string(j, "state", driver_says(b));
	json_string(j, "reason", balloon_reason_text(b->reason));
	json_u64(j, "short_pages", b->short_pages);
	json_u64(j, "wanted_pages", b->wanted_pages);
	json_i64(j, "stats_age_ms", b->stats_ns ? (int64_t)((now - b->stats_ns) / 1000000) : -1);
	json_array(j, "stats"); /* by tag; -1 for unsupported, as QEMU has it */
	for (uint32_t i = 0; i < AERO_STAT_COUNT; i++)
		json_i64(j, NULL, (int64_t)b->stats[i]);
	json_array_end(j);
	json_object_end(j);
}

static void balloon_one(void *ctx, struct guest *g)
{
	if (ctx)
		balloon_json(ctx, g);
	else
		balloon_row(g);
}

void cmd_balloon(const struct command_args *a)
{
	struct json j;

	if (a->count && !command_guest(a->word[0]))
		return;
	if (a->json) {
		command_json_begin(&j);
		json_array(&j, "guests");
		(void)each(a, balloon_one, &j);
		json_array_end(&j);
		command_json_end(&j);
		return;
	}
	console_printf("%-*s %8s %8s %8s %8s %-10s %8s %9s\n", command_name_columns(), "Name", "Mem-set", "Target",
		"Actual", "Active", "Driver", "Avail", "Stats");
	(void)each(a, balloon_one, NULL);
}
