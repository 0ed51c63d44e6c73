#include "vmm/overcommit.h"

#include "balloon/policy_trace.h"
#include "mm/zstore.h"
#include "vmm/base/log.h"
#include "vmm/ladder.h"
#include "vmm/platform.h"
#include "vmm/sched.h"

#define MS 1000000ull

/* Periods by what is going on; a kick shortens the wait to KICK_NS, never to nothing. */
#define CALM_NS        (100 * MS)
#define SHORT_NS       (10 * MS) /* memory is short, or somebody is short of it */
#define KICK_NS        (2 * MS)
#define STATS_CALM_NS  (2000 * MS)
#define STATS_SHORT_NS (100 * MS)
#define STATS_FRESH_NS (5000 * MS)
#define WANTED_HALF_NS (500 * MS)
#define PRESSED_NS     (1000 * MS)
#define PATIENCE_NS    (3000 * MS)

/* Owner: CPU 0, from the scheduler's loop; `kicked` and `stats.kicks` are atomic. */
static struct {
	uint64_t last_ns, due_ns, stats_ns;
	bool kicked, nudged;
	struct overcommit_stats stats;
	uint32_t trace_left; /* steps */
	struct guest *guest[GUEST_MAX];
	struct policy_guest view[GUEST_MAX];
	struct policy_target target[GUEST_MAX];
	struct policy_part scratch[GUEST_MAX];
} state;

const char *overcommit_level_name(enum policy_level level)
{
	static const char *const name[] = { "high", "soft", "hard", "low" };

	return (unsigned int)level < ARRAY_COUNT(name) ? name[level] : "unknown";
}

void overcommit_stats(struct overcommit_stats *out)
{
	*out = state.stats;
}

void overcommit_kick(struct guest *guest)
{
	(void)guest; /* gather() sees who waits */
	__atomic_store_n(&state.kicked, true, __ATOMIC_RELEASE);
	__atomic_fetch_add(&state.stats.kicks, 1, __ATOMIC_RELAXED);
	sched_poke_control();
}

void overcommit_nudge(void)
{
	state.nudged = true;
}

static bool waits(const struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		if (g->vcpu[i].wait_since_ns && !g->vcpu[i].wait_disk)
			return true;
	return false;
}

/* What it asked for loses half its weight each WANTED_HALF_NS that it does not ask again. */
static uint64_t wanted_now(const struct balloon *b, uint64_t now_ns)
{
	uint64_t halvings = (now_ns - MIN(b->pressure_ns, now_ns)) / WANTED_HALF_NS;

	return halvings < 64 ? b->wanted_pages >> halvings : 0;
}

/*
 * And for pages that it touched when they were out of RAM: it has shown that it needs them. The same decay.
 */
static uint64_t refaults_now(struct guest *g, uint64_t now_ns)
{
	uint64_t seen = g->p2m.fault_expand + g->p2m.fault_swap_in;
	uint64_t halvings = (now_ns - MIN(g->ladder.refault_ns, now_ns)) / WANTED_HALF_NS;

	if (halvings) {
		g->ladder.refault_pages = halvings < 64 ? g->ladder.refault_pages >> halvings : 0;
		g->ladder.refault_ns = now_ns;
	}
	g->ladder.refault_pages += seen - g->ladder.refault_seen;
	g->ladder.refault_seen = seen;
	return g->ladder.refault_pages;
}

/* A vCPU that waits now has waited since it began to. */
static struct stall_time time_of(const struct vcpu *v, uint64_t now_tsc)
{
	uint64_t waits = now_tsc - MIN(v->where_since_tsc, now_tsc);
	enum vcpu_state s = vcpu_state(v);
	bool idle = s == VCPU_HALTED || s == VCPU_STOPPED;
	bool stalled = s == VCPU_WAIT_MEMORY || (s == VCPU_WAIT_DISK && v->disk_reads);

	return (struct stall_time){
		.idle = v->idle_tsc + (idle ? waits : 0),
		.stalled = v->stalled_tsc + (stalled ? waits : 0),
		.ran = v->cpu_tsc - MIN(v->disk_tsc, v->cpu_tsc),
	};
}

/* Which part of the time it stands still, of late. */
static uint32_t stalled_now(struct guest *g)
{
	uint64_t now = platform_tsc(), elapsed = now - MIN(g->stall.seen_tsc, now);
	uint64_t elapsed_ns = platform_tsc_khz ? elapsed / platform_tsc_khz * 1000000 : 0;
	uint32_t part = 0;

	if (elapsed_ns < STALL_LOOK_NS)
		return stall_permille(&g->stall.average);
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		struct stall_time to = time_of(&g->vcpu[i], now);

		part += stall_part(&g->stall.seen[i], &to, elapsed, g->stall.average.fast);
		g->stall.seen[i] = to;
	}
	g->stall.seen_tsc = now;
	stall_note(&g->stall.average, part, elapsed_ns);
	return stall_permille(&g->stall.average);
}

/*
 * It will not give more, and that is to be lived with: it says why for good, or says that it has nothing
 * left and has not given a page for long. Paging out takes a while; that alone must not keep its memory.
 */
static bool cannot_give(const struct balloon *b, uint64_t now_ns)
{
	if (!b->backoff_ns)
		return false;
	return b->reason == AERO_REASON_NO_SWAP || b->reason == AERO_REASON_PINNED ||
		now_ns - MIN(MAX(b->backoff_ns, b->progress_ns), now_ns) > PATIENCE_NS;
}

static bool pressed(const struct balloon *b, uint64_t now_ns)
{
	return b->pressure != AERO_PRESSURE_NONE && now_ns - MIN(b->pressure_ns, now_ns) < PRESSED_NS;
}

/* What it says of itself, in pages: hints. Frames that it took since then are in use, too. */
static void view_stats(const struct balloon *b, uint64_t now_ns, struct policy_guest *out)
{
	uint64_t available = b->stats[AERO_STAT_AVAILABLE], size = b->stats_size_pages;

	if (!b->stats_ns || now_ns - MIN(b->stats_ns, now_ns) > STATS_FRESH_NS ||
		available == AERO_STAT_UNKNOWN)
		return;
	uint64_t since = out->used_pages - MIN(out->used_pages, b->stats_used_pages);
	available = MIN(available / PAGE_BYTES, size);
	available -= MIN(available, since);
	out->stats_fresh = true;
	out->in_use_pages = size - available;
	out->full = available < size / 16;
	out->growing = since > out->memory_pages / 64;
}

static void view_guest(struct guest *g, uint64_t now_ns, struct policy_guest *out)
{
	const struct balloon *b = &g->balloon;

	*out = (struct policy_guest){
		.memory_pages = g->p2m.gfn_count,
		.min_pages = g->p2m.account.min_pages,
		/* Its tables count there, too. */
		.max_pages = g->p2m.account.max_pages -
			MIN(g->p2m.table_count, g->p2m.account.max_pages),
		.shares = g->config.shares,
		.operator_pages = b->operator_pages,
		.used_pages = p2m_resident(&g->p2m),
		.store_pages = zstore_owner_frames(g->id),
		.balloon_pages = balloon_actual_pages(b),
		.target_pages = b->target_pages,
		.active_pages = sampling_active_pages(g),
		.stalled_permille = stalled_now(g),
		.dynamic = g->config.dynamic,
		.start_pages = g->config.dynamic ? g->config.start_bytes / PAGE_BYTES : 0,
		.deadline_ns = g->config.deadline_ms * MS,
		.swapped_pages = g->p2m.pages[P2M_SWAPPED],
		.compressed_pages = g->p2m.pages[P2M_COMPRESSED],
		.target_age_ns = now_ns - MIN(b->target_ns, now_ns),
		.over_age_ns = g->ladder.over_since_ns ?
			MAX(now_ns - MIN(g->ladder.over_since_ns, now_ns), 1u) : 0,
		.rate_pages = g->ladder.rate_pages,
		.withheld_pages = g->ladder.withheld_pages,
		.limited = g->ladder.limited,
		.has_driver = b->page && g->state == GUEST_RUNNING,
		.backoff = cannot_give(b, now_ns),
		.stuck = ladder_is_stuck(g),
		.cap_pages = now_ns < b->cap_ns ? b->cap_pages : UINT64_MAX,
		.wanted_pages = wanted_now(b, now_ns) + refaults_now(g, now_ns),
		.pressed = pressed(b, now_ns),
		.waiting = waits(g),
	};
	view_stats(b, now_ns, out);
}

/* Tables are the guests' too, but no balloon gives them back: they shrink the pool instead. What several have in
 * common is in their used_pages (p2m_resident()), the compressed store in their store_pages. */
static uint32_t gather(uint64_t now_ns, struct policy_pool *pool)
{
	struct frame_counts c;
	uint64_t tables = 0;
	uint32_t n = 0;

	for (struct guest *g = guest_next(NULL); g && n < GUEST_MAX; g = guest_next(g)) {
		if (g->state == GUEST_DYING)
			continue;
		view_guest(g, now_ns, &state.view[n]);
		state.guest[n++] = g;
		tables += g->p2m.table_count;
	}
	frame_counts(&c);
	*pool = (struct policy_pool){
		.pool_pages = c.pool_limit - MIN(tables, c.pool_limit),
		.free_pages = c.pool_free,
		.emergency_pages = c.emergency,
		.level = state.stats.level,
		.tax_percent = hv_config.tax_percent,
	};
	return n;
}

static bool ask_for_stats(uint32_t n, uint64_t now_ns, bool calm)
{
	if (now_ns - state.stats_ns < (calm ? STATS_CALM_NS : STATS_SHORT_NS))
		return false;
	state.stats_ns = now_ns;
	for (uint32_t i = 0; i < n; i++)
		if (state.guest[i]->state == GUEST_RUNNING)
			balloon_request_stats(&state.guest[i]->balloon);
	return true;
}

static bool anyone_waits(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (state.view[i].waiting)
			return true;
	return false;
}

/*
 * Memory has just become short and the samples are from calmer times: one that idles may still seem to
 * need what it freed a second ago, and one that grows would have to page out for it. There is a reserve
 * left, so the answers are worth a step's time; unless somebody waits already.
 */
static bool wait_for_stats(const struct policy_plan *plan, uint32_t n, uint64_t now_ns)
{
	return plan->level != POLICY_HIGH && state.stats.level == POLICY_HIGH && !anyone_waits(n) &&
		ask_for_stats(n, now_ns, false);
}

static void apply(const struct policy_plan *plan, uint32_t n, uint64_t now_ns)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_target *t = &state.target[i];
		struct guest *g = state.guest[i];
		uint64_t held = p2m_resident(&g->p2m), limit = t->resident_limit_pages;

		balloon_set_target(&g->balloon, t->balloon_target_pages, plan->spare_pages, now_ns);
		g->ladder.rate_pages = t->rate_pages;
		g->ladder.withheld_pages = t->withheld_pages;
		g->ladder.limited = limit != UINT64_MAX;
		g->ladder.entitled_pages = t->entitled_pages;
		g->ladder.over_since_ns = !t->over_target ? 0 : g->ladder.over_since_ns ? : now_ns;
		g->ladder.wait_over = t->wait_over_target;
		ladder_set_limit(g, t->wait_over_target ? MIN(limit, held) : limit);
	}
}

static bool anyone_needs(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (state.view[i].waiting || state.view[i].pressed)
			return true;
	return false;
}

static void trace_step(const struct policy_pool *pool, const struct policy_plan *plan, uint32_t n,
	uint64_t now_ns)
{
	char line[POLICY_TRACE_BYTES];

	policy_trace_step(line, pool, n, now_ns / MS);
	log_note("%s", line);
	for (uint32_t i = 0; i < n; i++) {
		policy_trace_guest(line, &state.view[i]);
		log_note("%s", line);
	}
	policy_trace_plan(line, plan, n);
	log_note("%s", line);
	if (!--state.trace_left)
		log_note("end of the policy's trace");
}

void overcommit_trace(uint32_t steps)
{
	state.trace_left = steps;
}

bool overcommit_driver_is_silent(const struct guest *g)
{
	uint64_t patience = g->config.deadline_ms ? g->config.deadline_ms * MS : POLICY_DEADLINE_NS;

	return g->state == GUEST_RUNNING && balloon_is_silent(&g->balloon, patience, platform_ns());
}

static void tell_silence(uint32_t n, uint64_t now_ns)
{
	for (uint32_t i = 0; i < n; i++) {
		struct guest *g = state.guest[i];
		uint64_t patience = g->config.deadline_ms ? g->config.deadline_ms * MS : POLICY_DEADLINE_NS;

		if (g->state == GUEST_RUNNING && balloon_first_silence(&g->balloon, patience, now_ns))
			log_warn("guest %s: its balloon driver does not answer; what it owes is taken from its "
				"own memory", g->config.name);
	}
}

static void step(uint64_t now_ns)
{
	struct policy_pool pool;
	struct policy_plan plan = { .guest = state.target };
	uint32_t n = gather(now_ns, &pool);

	policy_step(&pool, state.view, n, state.scratch, &plan);
	if (state.trace_left)
		trace_step(&pool, &plan, n, now_ns);
	if (!wait_for_stats(&plan, n, now_ns))
		apply(&plan, n, now_ns);
	if (plan.level != state.stats.level) {
		state.stats.level_changes++;
		log_info("memory: level %s, was %s; %lu of %lu pages free",
			overcommit_level_name(plan.level), overcommit_level_name(state.stats.level),
			pool.free_pages, pool.pool_pages);
	}
	tell_silence(n, now_ns);
	state.stats.level = plan.level;
	state.stats.steps++;
	bool calm = plan.level == POLICY_HIGH && !anyone_needs(n);
	(void)ask_for_stats(n, now_ns, calm);
	state.last_ns = now_ns;
	state.due_ns = now_ns + (calm ? CALM_NS : SHORT_NS);
}

void overcommit_poll(uint64_t now_ns)
{
	bool due = now_ns >= state.due_ns || state.nudged ||
		(__atomic_load_n(&state.kicked, __ATOMIC_ACQUIRE) && now_ns - state.last_ns >= KICK_NS);

	if (LIKELY(!due))
		return;
	__atomic_store_n(&state.kicked, false, __ATOMIC_RELEASE);
	state.nudged = false;
	step(now_ns);
}
