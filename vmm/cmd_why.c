/* mem-why: what a guest should hold, holds, and what stands between. */
#include "mm/reclaim.h"
#include "mm/zstore.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/ladder.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

#define KIB_PAGE (PAGE_BYTES / 1024)

/* What is to be said of a guest; all in pages of 4 KiB. */
struct why {
	struct guest *g;
	uint64_t requested; /* frames it should hold in the end */
	uint64_t resident;
	uint64_t balloon_target;
	bool reached, enforced;
	uint64_t deadline_ms; /* until the ladder takes what is missing; 0: now, or never */
	uint64_t eta_ms;      /* until it is reached, as things go; UINT64_MAX: cannot be told */
	char limit[120];
};

static uint64_t since_ms(uint64_t then_ns)
{
	return (platform_ns() - MIN(then_ns, platform_ns())) / 1000000;
}

static void say(struct why *w, const char *fmt, ...) PRINTF(2, 3);
static void say(struct why *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(w->limit, sizeof(w->limit), fmt, ap);
	va_end(ap);
}

/* NULL: as far as is known it would answer. */
static const char *driver_trouble(const struct guest *g)
{
	if (!g->balloon.page || g->state != GUEST_RUNNING)
		return NULL;
	if (g->balloon.dead)
		return "its balloon driver is dead (driver-fault)";
	return overcommit_driver_is_silent(g) ? "its balloon driver does not answer" : NULL;
}

/* Not reached, and the ladder does not take it yet: why its balloon is not there. */
static void say_balloon(struct why *w)
{
	const struct balloon *b = &w->g->balloon;

	if (w->g->state != GUEST_RUNNING)
		say(w, "it does not run, so its balloon cannot move");
	else if (!b->page)
		say(w, "it has no balloon driver");
	else if (driver_trouble(w->g))
		say(w, "%s", driver_trouble(w->g));
	else if (b->state == AERO_BALLOON_BACKOFF)
		say(w, "%s", balloon_reason_text(b->reason));
	else if (platform_ns() < b->cap_ns)
		say(w, "it took memory back at once, and keeps it for %lu ms more",
			(b->cap_ns - platform_ns()) / 1000000);
	else if (balloon_actual_pages(b) >= b->target_pages)
		say(w, "its balloon is asked step by step, as fast as it follows");
	else
		say(w, "its balloon is growing");
}

static void say_limit(struct why *w)
{
	struct overcommit_stats o;
	const struct guest *g = w->g;

	overcommit_stats(&o);
	if (w->enforced && driver_trouble(g))
		say(w, "%s: %s", driver_trouble(g), w->reached ? "its own pages were taken instead" :
								 ladder_obstacle(g));
	else if (!w->reached && w->enforced)
		say(w, "%s", ladder_obstacle(g));
	else if (w->enforced && g->ladder.obstacle == RECLAIM_FULL && *ladder_obstacle(g))
		say(w, "it would have more, and what it holds finds no room: %s", ladder_obstacle(g));
	else if (!w->reached)
		say_balloon(w);
	else if (w->balloon_target > g->p2m.gfn_count - MIN(g->balloon.operator_pages, g->p2m.gfn_count))
		say(w, "memory is shared out (state %s): this is its part",
			overcommit_level_name(o.level));
}

static void find_out(struct guest *g, struct why *w)
{
	const struct balloon *b = &g->balloon;
	uint64_t memory = g->p2m.gfn_count;
	uint64_t deadline = g->config.deadline_ms, over = g->ladder.over_since_ns;

	*w = (struct why){ .g = g, .resident = p2m_resident(&g->p2m), .eta_ms = UINT64_MAX };
	w->balloon_target = MIN(b->target_pages + g->ladder.withheld_pages, memory);
	w->requested = memory - w->balloon_target;
	w->enforced = g->ladder.limit_pages != UINT64_MAX;
	if (w->enforced) /* less, for its part of the compressed store */
		w->requested = MIN(w->requested, g->ladder.limit_pages);
	w->reached = w->resident <= w->requested;
	if (!w->reached && !w->enforced && deadline && over)
		w->deadline_ms = deadline - MIN(since_ms(over), deadline);
	if (w->reached)
		w->eta_ms = 0;
	else if (ladder_rate(g))
		w->eta_ms = (w->resident - w->requested) * 1000 / ladder_rate(g) + w->deadline_ms;
	say_limit(w);
}

/* The members of an object that the caller began. */
static void why_json(struct json *j, const struct why *w)
{
	const struct guest *g = w->g;

	json_string(j, "name", g->config.name);
	json_u64(j, "memory_kib", g->p2m.gfn_count * KIB_PAGE);
	json_u64(j, "requested_kib", w->requested * KIB_PAGE);
	json_u64(j, "actual_kib", (g->p2m.gfn_count - balloon_actual_pages(&g->balloon)) * KIB_PAGE);
	json_u64(j, "resident_kib", w->resident * KIB_PAGE);
	json_u64(j, "compressed_kib", g->p2m.pages[P2M_COMPRESSED] * KIB_PAGE);
	json_u64(j, "store_kib", zstore_owner_frames(g->id) * KIB_PAGE);
	json_u64(j, "swapped_kib", (g->p2m.pages[P2M_SWAPPED] - g->p2m.on_own_disk) * KIB_PAGE);
	json_u64(j, "dropped_kib", g->p2m.on_own_disk * KIB_PAGE);
	json_u64(j, "shared_kib", g->p2m.pages[P2M_SHARED] * KIB_PAGE);
	json_u64(j, "floor_kib", g->p2m.account.min_pages * KIB_PAGE);
	json_u64(j, "entitled_kib", g->ladder.entitled_pages * KIB_PAGE);
	json_u64(j, "active_kib", MIN(sampling_active_pages(g), g->p2m.gfn_count) * KIB_PAGE);
	json_string(j, "active_estimate", activity_confidence_name(activity_confidence(&g->sampling.activity)));
	json_string(j, "claim", activity_fit_text(g->sampling.activity.fit));
	json_bool(j, "reached", w->reached);
	json_bool(j, "enforced", w->enforced);
	json_string(j, "limit", w->limit);
	json_u64(j, "deadline_ms", w->deadline_ms);
	json_i64(j, "eta_ms", w->eta_ms == UINT64_MAX ? -1 : (int64_t)w->eta_ms);
	json_array(j, "rungs");
	for (uint32_t r = 0; r < RECLAIM_RUNGS; r++) {
		json_object(j, NULL);
		json_string(j, "name", reclaim_rung_name((enum reclaim_rung)r));
		json_u64(j, "pages", g->ladder.reclaim.n.pages[r]);
		json_object_end(j);
	}
	json_object(j, NULL);
	json_string(j, "name", "balloon");
	json_u64(j, "pages", g->balloon.inflate_pages);
	json_object_end(j);
	json_array_end(j);
}

static void why_text(const struct why *w)
{
	const struct guest *g = w->g;
	const struct reclaim_counts *n = &g->ladder.reclaim.n;

	console_printf("%s should hold %s of its %s, and holds %s: %s\n", g->config.name,
		command_pages(0, w->requested), command_pages(1, g->p2m.gfn_count), command_pages(2, w->resident),
		w->reached ? "reached" : "not yet");
	if (w->limit[0])
		console_printf("  because   %s\n", w->limit);
	if (w->deadline_ms)
		console_printf("  deadline  in %lu ms its own pages are taken for what is missing\n",
			w->deadline_ms);
	if (!w->reached && w->eta_ms != UINT64_MAX)
		console_printf("  done      in about %lu ms, as things go\n", w->eta_ms);
	console_printf("  operator  %s; guaranteed %s; its part of the pool %s\n",
		command_pages(0, g->balloon.operator_pages), command_pages(1, g->p2m.account.min_pages),
		command_pages(2, g->ladder.entitled_pages));
	console_printf("  balloon   %s of %s\n", command_pages(0, balloon_actual_pages(&g->balloon)),
		command_pages(1, w->balloon_target));
	console_printf("  out       %s compressed in %s, %s on swap, %s dropped (its own disk has them); %s shared\n",
		command_pages(0, g->p2m.pages[P2M_COMPRESSED]), command_pages(1, zstore_owner_frames(g->id)),
		command_pages(2, g->p2m.pages[P2M_SWAPPED] - g->p2m.on_own_disk), command_pages(3, g->p2m.on_own_disk),
		command_pages(4, g->p2m.pages[P2M_SHARED]));
	if (sampling_active_pages(g) != UINT64_MAX)
		console_printf("  active    %s, by samples; its word: %s\n", command_pages(0, sampling_active_pages(g)),
			activity_fit_text(g->sampling.activity.fit));
	console_printf("  gave      balloon %s, zero %s, drop %s, share %s, compress %s, swap %s\n",
		command_pages(0, g->balloon.inflate_pages), command_pages(1, n->pages[RECLAIM_ZERO]),
		command_pages(2, n->pages[RECLAIM_DROP]), command_pages(3, n->pages[RECLAIM_SHARE]),
		command_pages(4, n->pages[RECLAIM_COMPRESS]), command_pages(5, n->pages[RECLAIM_SWAP]));
}

/* A line a guest. */
static void why_all(void)
{
	struct why w;

	console_printf("%-*s %8s %8s %8s  %-7s  %s\n", command_name_columns(), "Name", "Mem-set", "Should", "Holds",
		"Reached", "Because");
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		find_out(g, &w);
		console_printf("%-*s %8s %8s %8s  %*s%s%s\n", command_name_columns(), g->config.name,
			command_pages(0, g->balloon.operator_pages), command_pages(1, w.requested),
			command_pages(2, w.resident), w.limit[0] ? -7 : 0, w.reached ? "yes" : "not yet",
			w.limit[0] ? "  " : "", w.limit);
	}
}

static void why_all_json(void)
{
	struct json j;
	struct why w;

	command_json_begin(&j);
	json_array(&j, "guests");
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		find_out(g, &w);
		json_object(&j, NULL);
		why_json(&j, &w);
		json_object_end(&j);
	}
	json_array_end(&j);
	command_json_end(&j);
}

static void why_one(struct guest *g, bool as_json)
{
	struct json j;
	struct why w;

	find_out(g, &w);
	if (!as_json) {
		why_text(&w);
		return;
	}
	command_json_begin(&j);
	why_json(&j, &w);
	command_json_end(&j);
}

void cmd_mem_why(const struct command_args *a)
{
	bool all = !strcmp(a->word[0], "all");
	struct guest *g = all ? NULL : command_guest(a->word[0]);

	if (all && a->json)
		why_all_json();
	else if (all)
		why_all();
	else if (g)
		why_one(g, a->json);
}
