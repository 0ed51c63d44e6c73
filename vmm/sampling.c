#include "vmm/sampling.h"

#include "vmm/guest.h"
#include "vmm/platform.h"

#define LOOKS        4u                /* in a window, its end included */
#define FRESH_NS     5000000000ull     /* statistics older than that are not compared */
#define NEVER        UINT64_MAX
/*
 * What the guest pays for a page that comes back, and a CPU for being kicked out of it: ticks that nobody measures when
 * they happen. In Bochs such a fault is some 400; on a processor the exit alone costs over a thousand.
 */
#define FAULT_TICKS  2000u

/* Owner: CPU 0. */
static struct {
	uint64_t next_ns; /* nothing is due before */
	uint32_t guests;  /* among whom the budget was last divided */
} state;

static uint64_t to_ns(uint64_t tsc)
{
	return platform_tsc_khz ? tsc * 1000000 / platform_tsc_khz : 0;
}

static enum sample_way way_now(void)
{
	return slat_format->accessed && hv_config.sampling != CONFIG_SAMPLING_INVALIDATE ? SAMPLE_ACCESSED :
											    SAMPLE_INVALIDATE;
}

static uint32_t budget(void)
{
	return hv_config.sampling == CONFIG_SAMPLING_OFF ? 0 : ACTIVITY_BUDGET_PPM / MAX(guest_count(), 1u);
}

void sampling_open(struct guest *g)
{
	struct activity_config c = { .budget_ppm = budget() };

	activity_init(&g->sampling.activity, &c, platform_tsc() ^ (uint64_t)g->id << 48, platform_ns());
	state.next_ns = 0;
}

uint64_t sampling_active_pages(const struct guest *g)
{
	const struct activity *a = &g->sampling.activity;

	if (activity_confidence(a) == ACTIVITY_UNKNOWN || hv_config.sampling == CONFIG_SAMPLING_OFF)
		return UINT64_MAX;
	return activity_pages(a, g->p2m.gfn_count);
}

/* ---- a round ----------------------------------------------------------------------------------- */

static void begin(struct guest *g, uint64_t now_ns)
{
	struct sampling *s = &g->sampling;

	activity_stir(&s->activity, platform_tsc());
	s->way = way_now();
	s->kicks = g->p2m.slat.kick_count;
	s->count = activity_begin(&s->activity, now_ns);
	s->look_ns = now_ns + s->activity.window_ns / LOOKS;
	for (uint32_t i = 0; i < s->count; i++)
		s->page[i].gfn = GFN(activity_pick(&s->activity, g->p2m.gfn_count));
	p2m_sample_begin(&g->p2m, s->way, s->page, s->count);
}

static void look(struct guest *g, uint64_t now_ns)
{
	struct sampling *s = &g->sampling;
	struct sample_result r = { 0 };

	p2m_sample_look(&g->p2m, s->way, s->page, s->count, &r);
	activity_progress(&s->activity, r.sampled, r.touched);
	s->look_ns = now_ns + s->activity.window_ns / LOOKS;
}

/*
 * Its statistics against what was counted. What it says is of its size, the balloon apart; the sample is of all its
 * memory, so the balloon is counted as free here.
 */
static void check(struct guest *g, uint64_t now_ns)
{
	struct sampling *s = &g->sampling;
	const struct balloon *b = &g->balloon;
	uint64_t all = g->p2m.gfn_count, ballooned = all - MIN(b->stats_size_pages, all);
	const uint64_t *has = g->p2m.pages;

	if (!b->stats_ns || b->stats_ns == s->checked_ns || now_ns - MIN(b->stats_ns, now_ns) > FRESH_NS ||
		b->stats[AERO_STAT_FREE] == AERO_STAT_UNKNOWN ||
		b->stats[AERO_STAT_AVAILABLE] == AERO_STAT_UNKNOWN)
		return;
	s->checked_ns = b->stats_ns;
	struct activity_claim claim = {
		.free_pages = MIN(b->stats[AERO_STAT_FREE] / PAGE_BYTES, all) + ballooned,
		.available_pages = MIN(b->stats[AERO_STAT_AVAILABLE] / PAGE_BYTES, all) + ballooned,
		.size_pages = all,
		.written_pages = has[P2M_RAM] + has[P2M_IN_FLIGHT] + has[P2M_SHARED] + has[P2M_COMPRESSED] +
			has[P2M_SWAPPED],
	};
	enum activity_fit before = s->activity.fit, fit = activity_check(&s->activity, &claim);

	if (fit != before && activity_is_lie(fit))
		guest_log(g, LOG_WARN, "%s", activity_fit_text(fit));
}

/* Faults that the sample caused, and CPUs that its flushes kicked out of the guest. */
static uint64_t caused(const struct guest *g, const struct sample_result *r)
{
	const struct sampling *s = &g->sampling;
	uint64_t faults = s->way == SAMPLE_INVALIDATE ? r->touched : 0;

	return (faults + (g->p2m.slat.kick_count - s->kicks)) * FAULT_TICKS;
}

static void end(struct guest *g, uint64_t now_ns)
{
	struct sampling *s = &g->sampling;
	struct sample_result r = { 0 };
	uint64_t start = platform_tsc();

	p2m_sample_end(&g->p2m, s->way, s->page, s->count, &r);
	s->spent_tsc += platform_tsc() - start + caused(g, &r);
	struct activity_round round = {
		.sampled = g->state == GUEST_RUNNING ? r.sampled : 0,
		.touched = r.touched,
		.spent_ns = to_ns(s->spent_tsc),
	};

	activity_end(&s->activity, &round, now_ns);
	s->last = r;
	s->rounds++;
	s->spent_tsc_all += s->spent_tsc;
	s->spent_tsc = 0;
	check(g, now_ns);
}

/* What is due of this guest, at most one thing. */
static void step(struct guest *g, uint64_t now_ns)
{
	struct sampling *s = &g->sampling;
	uint64_t start = platform_tsc();

	if (!s->activity.sampling) {
		/* One that stands still shows nothing. */
		if (g->state == GUEST_RUNNING)
			begin(g, now_ns);
	} else if (activity_is_due(&s->activity, now_ns)) {
		end(g, now_ns);
		return;
	} else {
		look(g, now_ns);
	}
	s->spent_tsc += platform_tsc() - start;
}

static uint64_t due_ns(const struct guest *g)
{
	const struct sampling *s = &g->sampling;

	if (s->activity.sampling)
		return MIN(s->look_ns, s->activity.due_ns);
	return g->state == GUEST_RUNNING ? s->activity.due_ns : NEVER;
}

static void divide_budget(uint64_t now_ns)
{
	if (state.guests == guest_count())
		return;
	state.guests = guest_count();
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		activity_set_budget(&g->sampling.activity, budget(), now_ns);
}

/* As paused guests are not waited for, who is let go on is found within a window. */
void sampling_poll(uint64_t now_ns)
{
	struct guest *first = NULL;

	if (LIKELY(now_ns < state.next_ns))
		return;
	divide_budget(now_ns);
	state.next_ns = now_ns + ACTIVITY_WINDOW_NS / LOOKS;
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		if (g->state == GUEST_DYING)
			continue;
		if (!first && due_ns(g) <= now_ns)
			first = g;
		else
			state.next_ns = MIN(state.next_ns, due_ns(g));
	}
	if (!first)
		return;
	step(first, now_ns);
	state.next_ns = MIN(state.next_ns, due_ns(first));
}
