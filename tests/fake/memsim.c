#include "tests/fake/memsim.h"

#define SAMPLE_STEPS   10u  /* statistics are from so long ago at most */
#define PRESSED_STEPS  100u
#define PRESSED_MISSES 6u   /* in a step, and it says so */
#define HALF_STEPS     50u
#define PATIENCE_STEPS 300u

void memsim_init(struct memsim *s)
{
	s->touch_rate = 256;
	s->balloon_rate = 512;
	s->evict_rate = 128;
	s->page_rate = 32;
	s->plan.guest = s->target;
	s->pool.free_pages = s->pool.pool_pages;
	for (uint32_t i = 0; i < s->count; i++) {
		struct memsim_guest *g = &s->guest[i];
		s->pool.free_pages -= g->frames;
		s->target[i] = (struct policy_target){ .resident_limit_pages = UINT64_MAX };
		g->view.cap_pages = g->view.active_pages = UINT64_MAX;
		g->view.has_driver = g->driver != MEMSIM_ABSENT;
	}
}

static uint64_t per_step(const struct memsim_guest *g, uint64_t rate)
{
	return MAX(rate * g->view.memory_pages / 4096, 1u);
}

static uint64_t garbage(const struct memsim_guest *g)
{
	return g->frames - (g->in_use - g->swapped);
}

static uint64_t room(const struct memsim_guest *g)
{
	return memsim_size(g) - g->in_use;
}

/* Frames for up to `n` pages; fewer if it must wait. */
static uint64_t take_frames(struct memsim *s, uint32_t i, uint64_t n)
{
	struct memsim_guest *g = &s->guest[i];
	uint64_t usable = s->pool.free_pages - MIN(s->pool.emergency_pages, s->pool.free_pages);
	uint64_t got = s->target[i].wait_over_target ? 0 : MIN(n, usable);

	if (g->view.max_pages > g->frames)
		got = MIN(got, g->view.max_pages - g->frames);
	else
		got = 0;
	uint64_t limit = s->target[i].resident_limit_pages;
	uint64_t below = limit > g->frames ? limit - g->frames : 0;
	g->waits |= got < MIN(n, below);
	got = MIN(got, below);
	g->frames += got;
	s->pool.free_pages -= got;
	return got;
}

/* At its limit it goes on, at the speed of the lower rungs: each page it touches costs it another. */
static uint64_t exchange(const struct memsim *s, uint32_t i, uint64_t n)
{
	struct memsim_guest *g = &s->guest[i];

	if (g->frames < s->target[i].resident_limit_pages || !g->frames)
		return 0;
	n = MIN(n, per_step(g, s->evict_rate));
	g->taken_pages += n;
	g->refaults += n;
	return n;
}

/* Pages that are hot and out of RAM. At its limit, garbage makes room first, then what is as hot. */
static void bring_back(struct memsim *s, uint32_t i, uint64_t n)
{
	struct memsim_guest *g = &s->guest[i];
	uint64_t back = take_frames(s, i, n);

	if (g->frames >= s->target[i].resident_limit_pages) {
		uint64_t freed = MIN(n - back, garbage(g) - MIN(back, garbage(g)));
		g->taken_pages += freed;
		back += freed;
	}
	g->swapped -= back;
	g->refaults += back;
	g->brought_pages += back + exchange(s, i, n - back);
}

static uint64_t hot_pages(const struct memsim_guest *g)
{
	return MIN(g->filled * g->hot_percent / 100, g->filled);
}

/* Of what is hot, on its own disk. */
static uint64_t lacking(const struct memsim_guest *g)
{
	return hot_pages(g) - MIN(hot_pages(g), g->in_use);
}

/* It goes round in what is hot, and comes as far as its part of the disk brings it: the pages that it gets. */
static uint64_t go_round(struct memsim *s, struct memsim_guest *g)
{
	uint64_t all = per_step(g, s->touch_rate), hot = hot_pages(g), lack = lacking(g), visits = all;

	if (lack)
		visits = MIN(all, MAX(s->disk_rate * hot / (MAX(s->in_line, 1u) * lack), 1u));
	g->visits += visits;
	g->missed_visits += all - visits;
	g->misses = hot ? visits * lack / hot : 0;
	return lack ? MAX(g->misses, 1u) : 0;
}

static void run_programs(struct memsim *s, uint32_t i)
{
	struct memsim_guest *g = &s->guest[i];

	if (g->want_pages < g->filled) {
		g->filled = g->want_pages;
		g->in_use = MIN(g->in_use, g->filled);
		g->swapped = MIN(g->swapped, g->in_use);
	}
	/* Touched for the first time, or paged in again because it is hot. */
	uint64_t hot = hot_pages(g), new = g->want_pages - g->filled, back_in = lacking(g);
	if (s->disk_rate)
		back_in = MIN(back_in, go_round(s, g));
	uint64_t more = MIN(new + back_in, per_step(g, s->touch_rate));
	if (more > room(g)) {
		if (!s->disk_rate || g->misses > PRESSED_MISSES)
			g->pressed_steps = PRESSED_STEPS;
		g->wanted = more - room(g);
		/* Something else goes to its own disk for what is new. */
		uint64_t out = MIN(MIN(new, g->wanted), per_step(g, s->page_rate));
		g->filled += out;
		g->paged_pages += out;
		new -= out;
		more = room(g);
	}
	uint64_t reused = MIN(more, garbage(g));
	uint64_t before = g->in_use;
	g->in_use += reused;
	/* What never had a frame: of room(g) pages, those that are neither frames nor swapped. */
	more -= reused;
	uint64_t got = take_frames(s, i, more), swapped = exchange(s, i, more - got);
	g->in_use += got + swapped;
	g->swapped += swapped;
	g->filled = MAX(g->in_use, g->filled + MIN(new, g->in_use - before));
	uint64_t cold = g->in_use - MIN(hot, g->in_use);
	if (g->swapped > cold)
		bring_back(s, i, MIN(g->swapped - cold, per_step(g, s->evict_rate)));
}

static void lose_frames(struct memsim *s, struct memsim_guest *g, uint64_t n)
{
	g->frames -= n;
	s->pool.free_pages += n;
}

/* Into the balloon goes what is free; for more it pages out to its own disk, which is slow. */
static void run_balloon(struct memsim *s, struct memsim_guest *g)
{
	uint64_t speed = per_step(g, s->balloon_rate), target = g->view.target_pages;

	if (g->driver >= MEMSIM_LIAR && target > g->balloon)
		return;
	if (g->driver == MEMSIM_SLOW)
		speed = MAX(speed / 10, 1u);
	if (target <= g->balloon) {
		g->balloon -= MIN(g->balloon - target, per_step(g, s->balloon_rate));
		return;
	}
	uint64_t n = MIN(target - g->balloon, speed), free = room(g);
	if (n > free) {
		uint64_t out = MIN(MIN(n - free, per_step(g, s->page_rate)), g->in_use);
		uint64_t gone = MIN(out, g->swapped); /* to its disk as it is */
		g->swapped -= gone;
		g->in_use -= out;
		g->paged_pages += out;
		n = free + out;
	}
	/* Its kernel does not know which of its free pages have frames; the touched ones go first. */
	lose_frames(s, g, MIN(n, garbage(g)));
	g->balloon += n;
}

static void enforce(struct memsim *s, uint32_t i)
{
	struct memsim_guest *g = &s->guest[i];
	uint64_t limit = s->target[i].resident_limit_pages;

	if (g->frames <= limit)
		return;
	uint64_t n = MIN(g->frames - limit, per_step(g, s->evict_rate));
	uint64_t content = n - MIN(n, garbage(g));
	g->taken_pages += n;
	g->swapped += content;
	lose_frames(s, g, n);
}

/* What is seen of it over windows of time, and how long it stood still. The estimate falls slowly. */
static void observe(struct memsim *s, uint32_t i)
{
	struct memsim_guest *g = &s->guest[i];
	uint64_t hot = MIN(g->in_use - g->swapped, hot_pages(g)), all = per_step(g, s->touch_rate) * MEMSIM_LOOK;

	if (s->step % MEMSIM_LOOK == 0) {
		stall_note(&g->stall, (uint32_t)(g->missed_visits * STALL_ONE / all), MEMSIM_LOOK * MEMSIM_STEP_NS);
		g->missed_visits = 0;
	}
	if ((s->step + i) % MEMSIM_WINDOW == 0) {
		uint64_t touched = MIN(g->visits, hot);
		g->active = MAX(touched, (7 * g->active + touched) / 8);
		g->visits = 0;
	}
	g->view.active_pages = MIN(g->active, hot);
	g->view.stalled_permille = stall_permille(&g->stall);
}

/* What it has out of RAM changed: so does what holds it. */
static void keep_store(struct memsim *s, struct memsim_guest *g)
{
	uint64_t want = (g->swapped * s->store_percent + 99) / 100;

	want = MIN(want, g->store + s->pool.free_pages);
	s->pool.free_pages += g->store;
	s->pool.free_pages -= want;
	g->store = want;
}

static void view(struct memsim *s, uint32_t i, struct policy_guest *out)
{
	struct memsim_guest *g = &s->guest[i];
	struct policy_guest *v = &g->view;
	uint64_t target = s->target[i].balloon_target_pages;

	if (s->step) {
		v->target_age_ns = v->target_pages == target ? v->target_age_ns + MEMSIM_STEP_NS : 0;
		g->moves += v->target_pages != target;
		v->target_pages = target;
		v->over_age_ns = s->target[i].over_target ? v->over_age_ns + MEMSIM_STEP_NS : 0;
		v->rate_pages = s->target[i].rate_pages;
		v->withheld_pages = s->target[i].withheld_pages;
		v->limited = s->target[i].resident_limit_pages != UINT64_MAX;
	}
	if ((s->step + i) % SAMPLE_STEPS == 0) {
		v->stats_fresh = v->has_driver;
		v->in_use_pages = g->in_use;
		v->full = room(g) < memsim_size(g) / 16;
		g->sampled_frames = g->frames;
		v->active_pages = MIN(g->in_use - g->swapped, hot_pages(g));
	}
	if (s->disk_rate)
		observe(s, i);
	v->growing = g->frames > g->sampled_frames + v->memory_pages / 64;
	v->used_pages = g->frames;
	v->balloon_pages = g->balloon;
	v->swapped_pages = s->store_percent ? 0 : g->swapped;
	v->compressed_pages = g->swapped - v->swapped_pages;
	v->store_pages = g->store;
	v->pressed = g->pressed_steps != 0;
	v->wanted_pages = (g->pressed_steps ? g->wanted : 0) + g->refaults;
	if (s->step % HALF_STEPS == 0)
		g->refaults /= 2;
	v->waiting = g->waits;
	v->backoff = v->target_pages > g->balloon &&
		(g->driver == MEMSIM_REFUSES || (g->driver == MEMSIM_LIAR &&
			v->over_age_ns > PATIENCE_STEPS * MEMSIM_STEP_NS));
	g->wait_steps += g->waits;
	g->pressed_steps -= g->pressed_steps != 0;
	g->waits = false;
	*out = *v;
}

void memsim_step(struct memsim *s)
{
	s->in_line = 0;
	for (uint32_t i = 0; i < s->count; i++)
		s->in_line += lacking(&s->guest[i]) != 0;
	for (uint32_t k = 0; k < s->count; k++) {
		uint32_t i = (uint32_t)((s->step + k) % s->count); /* nobody is always first */
		run_balloon(s, &s->guest[i]);
		enforce(s, i);
		run_programs(s, i);
		keep_store(s, &s->guest[i]);
	}
	for (uint32_t i = 0; i < s->count; i++)
		view(s, i, &s->view[i]);
	enum policy_level before = s->pool.level;
	policy_step(&s->pool, s->view, s->count, s->scratch, &s->plan);
	s->pool.level = s->plan.level;
	s->level_changes += before != s->plan.level;
	s->step++;
}

const char *memsim_check(const struct memsim *s)
{
	uint64_t sum = s->pool.free_pages;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct memsim_guest *g = &s->guest[i];
		sum += g->frames + g->store;
		if (g->balloon + g->in_use > g->view.memory_pages)
			return "a guest uses what is in its balloon";
		if (g->swapped > g->in_use || g->in_use - g->swapped > g->frames)
			return "a guest uses a page that is nowhere";
		if (g->frames > g->view.memory_pages - g->balloon - g->swapped)
			return "a guest holds more frames than it has pages for";
	}
	return sum == s->pool.pool_pages ? NULL : "frames are not conserved";
}
