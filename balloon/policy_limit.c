/* Pure. */
#include "balloon/policy_parts.h"

/*
 * How far its target may run ahead of its balloon: half as far each step that it says to have nothing to
 * give, so that it is not made to page out for a target that it cannot meet; twice as far when it met
 * what it was asked for; any distance again when it gets memory back.
 */
static uint64_t next_rate(const struct policy_guest *g, uint64_t target)
{
	uint64_t all = g->memory_pages, least = MIN(MAX(all / 256, 16u), all);
	uint64_t rate = MIN(g->rate_pages, all);

	if (!rate || target < g->balloon_pages)
		return all;
	if (g->backoff)
		return MAX(rate / 2, least);
	return g->balloon_pages >= g->target_pages ? MIN(MAX(rate, least) * 2, all) : rate;
}

/* Down at once; up no farther than the guest follows, except by the operator's word. */
static uint64_t limit_rate(const struct policy_guest *g, const struct policy_part *p, uint64_t target,
	uint64_t rate)
{
	uint64_t ahead = MAX(MIN(g->balloon_pages, g->memory_pages) + rate, g->target_pages);

	return g->has_driver ? MIN(target, MAX(ahead, policy_least_balloon(g, p))) : target;
}

/* After an urgent give-back no balloon asks for that memory, though the lower rungs may take it. */
static uint64_t honour_cap(const struct policy_guest *g, const struct policy_part *p, uint64_t target)
{
	return MIN(target, MAX(g->cap_pages, policy_least_balloon(g, p)));
}

/* Nobody waits for a balloon that does not exist; and the shorter memory is, the less for one that does, but
 * always so long that it can do its part, which is the cheaper way. Once limited it stays so until it has
 * done it: not even if the state gets better, or it would at once get worse again. */
static bool is_overdue(const struct policy_guest *g, enum policy_level level)
{
	uint64_t grace = level == POLICY_LOW ? g->deadline_ns / 8
		: level == POLICY_HARD	     ? g->deadline_ns / 4
					     : g->deadline_ns;

	return policy_enforced(g) && (!g->has_driver || g->over_age_ns >= grace || (g->limited && g->over_age_ns));
}

/*
 * Of the size that it may have, what it may hold in frames: less its part of the store, as far as it is the policy
 * that takes from it; the operator's word is of its size alone. Half of it and its min it may hold in any
 * case: who only ever expands pages gets nowhere.
 */
static uint64_t frames_of(const struct policy_guest *g, const struct policy_part *p, uint64_t allowed)
{
	uint64_t most = g->memory_pages - policy_least_balloon(g, p);
	uint64_t withheld = most > allowed ? most - allowed : 0;

	return MAX(allowed - MIN(MIN(g->store_pages, withheld), allowed / 2), MIN(g->min_pages, allowed));
}

/*
 * A guest that does not follow is held to what it would have if it did, neither less nor more: in every
 * state, also while its balloon is to shrink again. Whether it is over is judged by its balloon: one that
 * was brought down to its limit by the lower rungs stays under it.
 */
void policy_limit(const struct policy_guest *g, const struct policy_part *p, enum policy_level level,
	struct policy_target *t)
{
	uint64_t goal = t->balloon_target_pages, frames = frames_of(g, p, g->memory_pages - goal);
	uint64_t asked = policy_enforced(g) ? honour_cap(g, p, goal) : goal;

	t->rate_pages = next_rate(g, asked);
	asked = limit_rate(g, p, asked, t->rate_pages);
	t->balloon_target_pages = asked;
	t->withheld_pages = goal - asked;
	t->over_target = g->balloon_pages < goal;
	t->wait_over_target = g->used_pages > frames && level == POLICY_LOW;
	t->resident_limit_pages = is_overdue(g, level) ? frames : UINT64_MAX;
}
