/* Pure. */
#include "balloon/policy_parts.h"

/*
 * Source: C. Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI'02): states with
 * hysteresis. The level is raised by free memory alone; as long as it is worse than HIGH, each guest is
 * entitled to a part of the pool (policy_share.c), all parts fit together, and its balloon holds the
 * rest: nobody can then grow past its part, even if all spike at once.
 */
void policy_marks(uint64_t pool_pages, struct policy_marks *out)
{
	for (uint32_t l = POLICY_HIGH; l <= POLICY_LOW; l++) {
		out->enter[l] = l == POLICY_HIGH ? UINT64_MAX : pool_pages >> (3 + l); /* 1/16, 1/32, 1/64 */
		out->leave[l] = l == POLICY_HIGH ? UINT64_MAX
			: l == POLICY_SOFT	 ? out->enter[l] + pool_pages / 24
						 : out->enter[l] + pool_pages / 128;
	}
}

/* The emergency frames are nobody's: in a small pool, guests wait long before free memory is down to the
 * marks, which are then those of what is free beyond the emergency frames, a quarter as high. What a plan
 * leaves free (policy_share.c) is never plenty. */
static void marks_for(const struct policy_pool *pool, struct policy_marks *m)
{
	policy_marks(pool->pool_pages, m);
	for (uint32_t l = POLICY_SOFT; l <= POLICY_LOW; l++) {
		uint64_t quarter = m->enter[l] / 4;
		m->enter[l] = MAX(m->enter[l], pool->emergency_pages + quarter);
		m->leave[l] = MAX(m->leave[l], pool->emergency_pages + m->enter[l] + quarter);
	}
}

/* One level up at a time is left when there is enough; entered at once, however deep. */
static enum policy_level next_level(const struct policy_pool *pool, const struct policy_marks *m)
{
	uint32_t level = MIN((uint32_t)pool->level, (uint32_t)POLICY_LOW);

	while (level > POLICY_HIGH && pool->free_pages > m->leave[level])
		level--;
	for (uint32_t l = POLICY_LOW; l > level; l--)
		if (pool->free_pages < m->enter[l])
			return (enum policy_level)l;
	return (enum policy_level)level;
}

#define SETTLED_NS 1000000000ull

static uint64_t fine_band(const struct policy_guest *g)
{
	return MAX(g->memory_pages / 1024, 16u);
}

/* Small moves are not worth a guest's attention until nothing has moved it for a while: so it comes to rest
 * at what it is due. */
static uint64_t band_of(const struct policy_guest *g)
{
	return g->target_age_ns >= SETTLED_NS ? fine_band(g) : MAX(g->memory_pages / 64, fine_band(g));
}

/* The last step to an operator's wish always is worth it. Idle memory is cheap to give: the tax on it is
 * taken almost to the page, or what an estimate that falls slowly leaves behind would add up. */
static uint64_t dead_band(const struct policy_guest *g, const struct policy_part *p, uint64_t target)
{
	uint64_t band = band_of(g), now = p->goal_pages;
	uint64_t moved = target > now ? target - now : now - target;

	if (target < now && (g->waiting || g->pressed))
		band /= 8;
	if (target > now && p->untaxed < POLICY_UNTAXED && p->active_pages < policy_size(g, p))
		band = fine_band(g);
	return now < policy_least_balloon(g, p) || moved > band ? target : now;
}

static bool anyone_short(const struct policy_part *part, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (part[i].is_short)
			return true;
	return false;
}

/* What those that are short were given and will take, but have not taken yet: not to be given twice. */
static uint64_t promised(const struct policy_guest *guests, const struct policy_part *part, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t size = policy_size(&guests[i], &part[i]);
		if (part[i].is_short)
			sum += size - MIN(policy_cost(&guests[i]), size);
	}
	return sum;
}

#define LEAST_RELEASE 16u /* pages; fewer are not worth a notification */

static uint64_t weight_of(const struct policy_guest *g, const struct policy_part *p, bool short_only)
{
	if (!short_only)
		return policy_owed(g, p);
	return p->is_short ? g->shares : 0;
}

/* Balloons go back to what the operator wants, `spare` pages a step: by shares to those that are short, or
 * by how much they are owed to all. */
static void relax(const struct policy_guest *guests, const struct policy_part *part, uint32_t n,
	uint64_t spare, bool short_only, struct policy_target *out)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < n; i++)
		all += weight_of(&guests[i], &part[i], short_only);
	/* For each of `all`, in 2^-20 pages: pages are below 2^40, so the shift loses nothing. */
	uint64_t ratio = all ? (spare << 20) / all : 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		const struct policy_part *p = &part[i];
		uint64_t weight = weight_of(g, p, short_only), over = policy_owed(g, p), release = 0;
		if (weight) {
			unsigned __int128 mine = (unsigned __int128)weight * ratio >> 20;
			release = mine < over ? MAX((uint64_t)mine, MIN(over, LEAST_RELEASE)) : over;
		}
		out[i].balloon_target_pages = over ? p->goal_pages - release : policy_least_balloon(g, p);
		out[i].entitled_pages = g->memory_pages - out[i].balloon_target_pages;
		policy_limit(g, p, POLICY_HIGH, &out[i]);
	}
}

/* Plenty: a quarter of what is to spare goes back, to those that are short first. False: too little. */
static bool relaxed(const struct policy_guest *guests, const struct policy_part *part, uint32_t n,
	uint64_t spare, struct policy_target *out)
{
	bool short_only = anyone_short(part, n);

	if (short_only)
		spare -= MIN(spare, promised(guests, part, n));
	if (spare < (uint64_t)LEAST_RELEASE * n)
		return false;
	relax(guests, part, n, spare / 4, short_only, out);
	return true;
}

/* Somebody is short and has less than its part. As long as that is so, memory stays shared out by the
 * same rule, or whoever spiked first would keep the most. If all that are short have their part, what
 * others were given in plenty is not taken back: it would only come again. */
static bool contended(const struct policy_guest *guests, const struct policy_part *part, uint32_t n,
	const struct policy_target *out)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		if (part[i].is_short && out[i].entitled_pages > policy_size(g, &part[i]) + band_of(g))
			return true;
	}
	return false;
}

/* Shares the pool out. In HIGH, if nobody lacks his part, no balloon grows for it. */
static void share_out(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct policy_part *part,
	struct policy_plan *plan)
{
	policy_share(pool, m, guests, n, part, plan->guest);
	bool release_only = plan->level == POLICY_HIGH && !contended(guests, part, n, plan->guest);
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		const struct policy_part *p = &part[i];
		struct policy_target *t = &plan->guest[i];
		uint64_t keep = MAX(p->goal_pages, policy_least_balloon(g, p));
		uint64_t target = g->memory_pages - MIN(t->entitled_pages, g->memory_pages);

		t->balloon_target_pages = dead_band(g, p, release_only ? MIN(target, keep) : target);
		policy_limit(g, p, plan->level, t);
	}
}

void policy_step(const struct policy_pool *pool, const struct policy_guest *guests,
	uint32_t guest_count, struct policy_part *scratch, struct policy_plan *plan)
{
	struct policy_marks m;

	marks_for(pool, &m);
	plan->level = next_level(pool, &m);
	uint64_t keep = m.leave[POLICY_SOFT];
	uint64_t spare = pool->free_pages > keep ? pool->free_pages - keep : 0;
	plan->spare_pages = spare / 2;
	for (uint32_t i = 0; i < guest_count; i++)
		policy_prepare(&guests[i], pool->tax_percent, &scratch[i]);
	if (plan->level != POLICY_HIGH || !relaxed(guests, scratch, guest_count, spare, plan->guest))
		share_out(pool, &m, guests, guest_count, scratch, plan);
}
