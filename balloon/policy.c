/* Pure. */
#include "balloon/policy.h"

/*
 * Sources: C. Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI'02): states with
 * hysteresis, min-funding by shares. The level is raised by free memory alone; as long as it is
 * worse than HIGH, each guest is entitled to a part of the pool, all parts fit together, and its
 * balloon holds the rest: nobody can then grow past its part, even if all spike at once.
 */

struct bounds {
	uint64_t low, high; /* pages */
};
_Static_assert(sizeof(struct bounds) == 16, "the contract of `scratch`");

void policy_marks(uint64_t pool_pages, struct policy_marks *out)
{
	for (uint32_t l = POLICY_HIGH; l <= POLICY_LOW; l++) {
		out->enter[l] = l == POLICY_HIGH ? UINT64_MAX : pool_pages >> (3 + l); /* 1/16, 1/32, 1/64 */
		out->leave[l] = l == POLICY_HIGH ? UINT64_MAX
			: l == POLICY_SOFT	 ? out->enter[l] + pool_pages / 24
						 : out->enter[l] + pool_pages / 128;
	}
}

/* One level up at a time is left when there is enough; entered at once, however deep. */
static enum policy_level next_level(const struct policy_pool *pool, const struct policy_marks *m)
{
	uint32_t level = pool->level;

	while (level > POLICY_HIGH && pool->free_pages > m->leave[level])
		level--;
	for (uint32_t l = POLICY_LOW; l > level; l--)
		if (pool->free_pages < m->enter[l])
			return (enum policy_level)l;
	return (enum policy_level)level;
}

static uint64_t ceiling(const struct policy_guest *g)
{
	uint64_t most = MIN(MIN(g->max_pages, g->operator_pages), g->memory_pages);

	return MAX(most, MIN(g->min_pages, g->memory_pages));
}

/* A guest's balloon cannot take what its driver will not give: it keeps what it holds. */
static bool gives(const struct policy_guest *g)
{
	return g->has_driver && !g->backoff;
}

/*
 * Pages that a guest needs now. With fresh statistics: what its kernel manages less what it says is
 * available; else what it holds. Plus what it asked for, a step while it waits, and an eighth to move
 * in. One that uses all it has may need far more than it can show: it is taken for half as much again.
 */
static uint64_t demand(const struct policy_guest *g)
{
	uint64_t managed = g->memory_pages - MIN(g->balloon_pages, g->memory_pages);
	uint64_t in_use = g->stats_fresh ? managed - MIN(g->available_pages, managed) : g->used_pages;
	uint64_t need = in_use + in_use / 8 + g->wanted_pages;

	if (in_use > managed - managed / 16)
		need = MAX(need, in_use + in_use / 2);
	if (g->waiting)
		need = MAX(need, g->used_pages + g->memory_pages / 8);
	if (!gives(g))
		need = MAX(need, g->used_pages);
	return MAX(MIN(need, ceiling(g)), MIN(g->min_pages, ceiling(g)));
}

static uint64_t at_level(const struct policy_guest *g, const struct bounds *b, uint64_t lambda)
{
	unsigned __int128 want = (unsigned __int128)lambda * g->shares >> 16;

	return want < b->low ? b->low : want > b->high ? b->high : (uint64_t)want;
}

static uint64_t sum_at(const struct policy_guest *guests, uint32_t n, const struct bounds *b,
	uint64_t lambda)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += at_level(&guests[i], &b[i], lambda);
	return sum;
}

/* The highest water level, in 2^-16 pages a share, at which all parts together fit. */
static uint64_t water_level(const struct policy_guest *guests, uint32_t n, const struct bounds *b,
	uint64_t budget)
{
	uint64_t lambda = 0;

	for (uint64_t bit = 1ull << 56; bit; bit >>= 1)
		if (sum_at(guests, n, b, lambda | bit) <= budget)
			lambda |= bit;
	return lambda;
}

static uint64_t floor_of(const struct policy_guest *g, bool honour_backoff)
{
	uint64_t low = MIN(g->min_pages, ceiling(g));

	if (!g->has_driver || (honour_backoff && g->backoff))
		low = MAX(low, MIN(g->used_pages, ceiling(g)));
	return low;
}

/* Bounds of the filling in force; returns the sum of the lower ones. */
static uint64_t set_floors(const struct policy_guest *guests, uint32_t n, struct bounds *b,
	bool honour_backoff)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		b[i].low = floor_of(&guests[i], honour_backoff);
		sum += b[i].low;
	}
	return sum;
}

/* Each guest's part of `budget`: first what it needs, then what is left over, by shares. */
static void entitle(const struct policy_guest *guests, uint32_t n, uint64_t budget,
	struct bounds *b, struct policy_target *out)
{
	uint64_t needs = 0;

	if (set_floors(guests, n, b, true) > budget)
		(void)set_floors(guests, n, b, false);
	for (uint32_t i = 0; i < n; i++) {
		b[i].high = MAX(demand(&guests[i]), b[i].low);
		needs += b[i].high;
	}
	if (needs <= budget)
		for (uint32_t i = 0; i < n; i++) {
			b[i].low = b[i].high;
			b[i].high = MAX(ceiling(&guests[i]), b[i].low);
		}
	uint64_t lambda = water_level(guests, n, b, budget);
	for (uint32_t i = 0; i < n; i++)
		out[i].entitled_pages = at_level(&guests[i], &b[i], lambda);
}

static uint64_t operator_balloon(const struct policy_guest *g)
{
	return g->memory_pages - MIN(g->operator_pages, g->memory_pages);
}

/*
 * Some balloon is larger than the operator wants: memory was short and is shared out. As long as there
 * is no plenty, it stays shared out by the same rule, or whoever spiked first would keep the most.
 */
static bool policy_holds(const struct policy_guest *guests, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (guests[i].target_pages > operator_balloon(&guests[i]))
			return true;
	return false;
}

/* Plenty: balloons go back to what the operator wants, a quarter of the spare memory a step. */
static void relax(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct policy_target *out)
{
	uint64_t keep = m->leave[POLICY_SOFT];
	uint64_t spare = pool->free_pages > keep ? (pool->free_pages - keep) / 4 : 0;
	uint64_t excess = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t low = operator_balloon(&guests[i]);
		excess += guests[i].target_pages > low ? guests[i].target_pages - low : 0;
	}
	/* Released of each excess page, in 2^-20: pages are below 2^40, so nothing overflows. */
	uint64_t ratio = excess > spare ? (spare << 20) / excess : 1ull << 20;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t low = operator_balloon(&guests[i]), target = guests[i].target_pages;
		uint64_t over = target > low ? target - low : 0, release = over * ratio >> 20;
		if (over && !release && spare)
			release = 1;
		out[i].balloon_target_pages = over ? target - release : low;
		out[i].entitled_pages = guests[i].memory_pages - out[i].balloon_target_pages;
	}
}

/* Small moves are not worth a guest's attention; the last step to an operator's wish always is. */
static uint64_t dead_band(const struct policy_guest *g, uint64_t target)
{
	uint64_t band = MAX(g->memory_pages / 128, 16u), now = g->target_pages;
	bool urgent = g->waiting || g->wanted_pages;
	uint64_t moved = target > now ? target - now : now - target;

	if (now < operator_balloon(g) || moved > band || (urgent && target < now))
		return target;
	return now;
}

void policy_step(const struct policy_pool *pool, const struct policy_guest *guests,
	uint32_t guest_count, void *scratch, struct policy_plan *plan)
{
	struct policy_marks m;

	policy_marks(pool->pool_pages, &m);
	plan->level = next_level(pool, &m);
	if (plan->level == POLICY_HIGH &&
		(pool->free_pages > m.leave[POLICY_SOFT] || !policy_holds(guests, guest_count))) {
		relax(pool, &m, guests, guest_count, plan->guest);
		return;
	}
	uint64_t held_back = pool->emergency_pages + m.enter[POLICY_SOFT];
	uint64_t budget = pool->pool_pages > held_back ? pool->pool_pages - held_back : 0;
	entitle(guests, guest_count, budget, scratch, plan->guest);
	for (uint32_t i = 0; i < guest_count; i++) {
		struct policy_target *t = &plan->guest[i];
		uint64_t target = guests[i].memory_pages - MIN(t->entitled_pages, guests[i].memory_pages);
		t->balloon_target_pages = dead_band(&guests[i], target);
	}
}
