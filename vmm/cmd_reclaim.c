/* mem-why, mem-state, swap: where memory stands, and what stands in its way. */
#include "mm/reclaim.h"
#include "mm/alias.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/ladder.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

#define KIB_PAGE (PAGE_BYTES / 1024)

/* ---- mem-why ----------------------------------------------------------------------------------- */

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

static void why_json(const struct why *w)
{
	const struct guest *g = w->g;
	struct json j;

	command_json_begin(&j);
	json_string(&j, "name", g->config.name);
	json_u64(&j, "memory_kib", g->p2m.gfn_count * KIB_PAGE);
	json_u64(&j, "requested_kib", w->requested * KIB_PAGE);
	json_u64(&j, "actual_kib", (g->p2m.gfn_count - balloon_actual_pages(&g->balloon)) * KIB_PAGE);
	json_u64(&j, "resident_kib", w->resident * KIB_PAGE);
	json_u64(&j, "compressed_kib", g->p2m.pages[P2M_COMPRESSED] * KIB_PAGE);
	json_u64(&j, "store_kib", zstore_owner_frames(g->id) * KIB_PAGE);
	json_u64(&j, "swapped_kib", (g->p2m.pages[P2M_SWAPPED] - g->p2m.on_own_disk) * KIB_PAGE);
	json_u64(&j, "dropped_kib", g->p2m.on_own_disk * KIB_PAGE);
	json_u64(&j, "shared_kib", g->p2m.pages[P2M_SHARED] * KIB_PAGE);
	json_u64(&j, "floor_kib", g->p2m.account.min_pages * KIB_PAGE);
	json_u64(&j, "entitled_kib", g->ladder.entitled_pages * KIB_PAGE);
	json_u64(&j, "active_kib", MIN(sampling_active_pages(g), g->p2m.gfn_count) * KIB_PAGE);
	json_string(&j, "active_estimate", activity_confidence_name(activity_confidence(&g->sampling.activity)));
	json_string(&j, "claim", activity_fit_text(g->sampling.activity.fit));
	json_bool(&j, "reached", w->reached);
	json_bool(&j, "enforced", w->enforced);
	json_string(&j, "limit", w->limit);
	json_u64(&j, "deadline_ms", w->deadline_ms);
	json_i64(&j, "eta_ms", w->eta_ms == UINT64_MAX ? -1 : (int64_t)w->eta_ms);
	json_array(&j, "rungs");
	for (uint32_t r = 0; r < RECLAIM_RUNGS; r++) {
		json_object(&j, NULL);
		json_string(&j, "name", reclaim_rung_name((enum reclaim_rung)r));
		json_u64(&j, "pages", g->ladder.reclaim.n.pages[r]);
		json_object_end(&j);
	}
	json_object(&j, NULL);
	json_string(&j, "name", "balloon");
	json_u64(&j, "pages", g->balloon.inflate_pages);
	json_object_end(&j);
	json_array_end(&j);
	command_json_end(&j);
}

static const char *size(uint32_t slot, uint64_t pages)
{
	static char text[8][16];

	return format_size(text[slot], sizeof(text[0]), pages * PAGE_BYTES);
}

static void why_text(const struct why *w)
{
	const struct guest *g = w->g;
	const struct reclaim_counts *n = &g->ladder.reclaim.n;

	console_printf("%s should hold %s of its %s, and holds %s: %s\n", g->config.name,
		size(0, w->requested), size(1, g->p2m.gfn_count), size(2, w->resident),
		w->reached ? "reached" : "not yet");
	if (w->limit[0])
		console_printf("  because   %s\n", w->limit);
	if (w->deadline_ms)
		console_printf("  deadline  in %lu ms its own pages are taken for what is missing\n",
			w->deadline_ms);
	if (!w->reached && w->eta_ms != UINT64_MAX)
		console_printf("  done      in about %lu ms, as things go\n", w->eta_ms);
	console_printf("  operator  %s; guaranteed %s; its part of the pool %s\n",
		size(0, g->balloon.operator_pages), size(1, g->p2m.account.min_pages),
		size(2, g->ladder.entitled_pages));
	console_printf("  balloon   %s of %s\n", size(0, balloon_actual_pages(&g->balloon)),
		size(1, w->balloon_target));
	console_printf("  out       %s compressed in %s, %s on swap, %s dropped (its own disk has them); %s shared\n",
		size(0, g->p2m.pages[P2M_COMPRESSED]), size(1, zstore_owner_frames(g->id)),
		size(2, g->p2m.pages[P2M_SWAPPED] - g->p2m.on_own_disk), size(3, g->p2m.on_own_disk),
		size(4, g->p2m.pages[P2M_SHARED]));
	if (sampling_active_pages(g) != UINT64_MAX)
		console_printf("  active    %s, by samples; its word: %s\n", size(0, sampling_active_pages(g)),
			activity_fit_text(g->sampling.activity.fit));
	console_printf("  gave      balloon %s, zero %s, drop %s, share %s, compress %s, swap %s\n",
		size(0, g->balloon.inflate_pages), size(1, n->pages[RECLAIM_ZERO]),
		size(2, n->pages[RECLAIM_DROP]), size(3, n->pages[RECLAIM_SHARE]),
		size(4, n->pages[RECLAIM_COMPRESS]), size(5, n->pages[RECLAIM_SWAP]));
}

void cmd_mem_why(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);
	struct why w;

	if (!g)
		return;
	find_out(g, &w);
	if (a->json)
		why_json(&w);
	else
		why_text(&w);
}

/* ---- mem-state --------------------------------------------------------------------------------- */

struct rung {
	const char *name;
	uint64_t pages, ticks;
};
#define RUNGS (RECLAIM_RUNGS + 2u)

/* Cheapest first. */
static void list_rungs(struct rung out[RUNGS])
{
	struct rung untouched = { .name = "untouched" }, balloon = { .name = "balloon" };
	uint32_t n = 0;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		untouched.pages += g->p2m.pages[P2M_EMPTY];
		balloon.pages += g->balloon.inflate_pages;
		balloon.ticks += g->balloon.inflate_ticks;
	}
	out[n++] = untouched;
	for (uint32_t r = 0; r < RECLAIM_RUNGS; r++) {
		out[n++] = (struct rung){ reclaim_rung_name((enum reclaim_rung)r), reclaim_total.pages[r],
			reclaim_total.ticks[r] };
		if (r == RECLAIM_ZERO)
			out[n++] = balloon;
	}
}

static void state_json(const struct frame_counts *f, const char *level, const struct rung *rungs,
	const struct swap_counts *s, const struct zstore_counts *z)
{
	struct alias_counts d;
	struct json j;

	alias_counts(&d);
	command_json_begin(&j);
	json_string(&j, "level", level);
	json_u64(&j, "pool_kib", f->pool_limit * KIB_PAGE);
	json_u64(&j, "free_kib", f->pool_free * KIB_PAGE);
	json_u64(&j, "promised_kib", f->promised * KIB_PAGE);
	json_array(&j, "rungs");
	for (uint32_t i = 0; i < RUNGS; i++) {
		json_object(&j, NULL);
		json_string(&j, "name", rungs[i].name);
		json_u64(&j, "pages", rungs[i].pages);
		json_u64(&j, "ticks", rungs[i].ticks);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_u64(&j, "held", reclaim_total.held);
	json_u64(&j, "wanted_back", reclaim_total.wanted_back);
	json_u64(&j, "split_2m", reclaim_total.split);
	json_object(&j, "compressed");
	json_u64(&j, "pages", z->use.objects);
	json_u64(&j, "frames", z->data_frames + z->table_frames);
	json_u64(&j, "max_frames", z->max_frames);
	json_u64(&j, "bytes", z->use.bytes);
	json_object_end(&j);
	json_object(&j, "swap");
	json_u64(&j, "slots", s->slots);
	json_u64(&j, "used", s->used);
	json_bool(&j, "on", s->on);
	json_bool(&j, "failed", s->failed);
	json_u64(&j, "writes", s->writes);
	json_u64(&j, "written_pages", s->written_pages);
	json_u64(&j, "reads", s->reads);
	json_u64(&j, "read_pages", s->read_pages);
	json_u64(&j, "from_buffer", s->from_buffer);
	json_u64(&j, "unwritten", s->unwritten);
	json_u64(&j, "write_errors", s->write_errors);
	json_u64(&j, "read_errors", s->read_errors);
	json_u64(&j, "checksum_errors", s->checksum_errors);
	json_object_end(&j);
	json_object(&j, "own_disks");
	json_u64(&j, "known", d.known);
	json_u64(&j, "dropped", d.used);
	json_u64(&j, "broken", d.broken);
	json_u64(&j, "reads", d.reads);
	json_u64(&j, "read_pages", d.read_pages);
	json_u64(&j, "read_errors", d.errors);
	json_u64(&j, "checksum_errors", d.wrong);
	json_object_end(&j);
	command_json_end(&j);
}

static const char *swap_word(const struct swap_counts *s)
{
	return !s->slots ? "none" : s->failed ? "failed: writing it went wrong; swap on tries again" :
		!s->on	 ? "off"  :
		s->used == s->slots ? "full" : "on";
}

static void state_text(const struct frame_counts *f, const char *level, const struct rung *rungs,
	const struct swap_counts *s, const struct zstore_counts *z)
{
	struct alias_counts d;

	alias_counts(&d);
	console_printf("state %s: %s of the pool's %s are free, %s of them promised\n", level,
		size(0, f->pool_free), size(1, f->pool_limit), size(2, f->promised));
	console_printf("%-10s %12s %14s %12s\n", "rung", "gave", "ticks", "a page");
	for (uint32_t i = 0; i < RUNGS; i++)
		console_printf("%-10s %12s %14lu %12lu\n", rungs[i].name, size(0, rungs[i].pages),
			rungs[i].ticks, rungs[i].pages ? rungs[i].ticks / rungs[i].pages : 0);
	console_printf("compressed %s in %s, of at most %s\n", size(0, z->use.objects),
		size(1, z->data_frames + z->table_frames), size(2, z->max_frames));
	console_printf("swap       %s; %s of %s used, %lu writes, %lu reads, %lu errors\n", swap_word(s),
		size(0, s->used), size(1, s->slots), s->writes, s->reads,
		s->write_errors + s->read_errors + s->checksum_errors);
	console_printf("own disks  %s dropped, %s more known; %lu reads, %lu errors\n", size(0, d.used), size(1, d.known),
		d.reads, d.errors + d.wrong);
	console_printf("victims    %s held, %s of them wanted back before they went\n",
		size(0, reclaim_total.held), size(1, reclaim_total.wanted_back));
}

void cmd_mem_state(const struct command_args *a)
{
	struct overcommit_stats o;
	struct rung rungs[RUNGS];
	struct zstore_counts z;
	struct frame_counts f;
	struct swap_counts s;

	overcommit_stats(&o);
	frame_counts(&f);
	swap_counts(&s);
	zstore_counts(&z);
	list_rungs(rungs);
	(a->json ? state_json : state_text)(&f, overcommit_level_name(o.level), rungs, &s, &z);
}

/* ---- swap -------------------------------------------------------------------------------------- */

void cmd_swap(const struct command_args *a)
{
	struct swap_counts s;

	swap_counts(&s);
	if (!s.slots) {
		command_error("swap: there is none; the configuration has no swap = \"64M\", or its disk has no "
			"room for it (dmesg)");
		return;
	}
	if (strcmp(a->word[0], "on") && strcmp(a->word[0], "off")) {
		command_error("swap: \"%.20s\"; on, or off: nothing more goes out, what is there stays readable",
			a->word[0]);
		return;
	}
	swap_set_on(!strcmp(a->word[0], "on"));
	swap_counts(&s);
	console_printf("swap: %s, %s of %s used\n", swap_word(&s), size(0, s.used), size(1, s.slots));
}
