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

#define LAMBDA_SHIFT 16
#define BUDGET_MAX   (1ull << 40) /* pages: no sum or product below overflows */

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

static uint64_t budget_less(const struct policy_pool *pool, uint64_t reserve_pages)
{
	uint64_t held_back = pool->emergency_pages + reserve_pages;

	return pool->pool_pages > held_back ? pool->pool_pages - held_back : 0;
}

/*
 * Pages that a guest needs now. With fresh statistics: what it uses, but no more than the frames it
 * holds (a guest that lies about its use pays for it with frames); else those. Plus what it asked for,
 * a step while it waits, and an eighth to move in. One that uses all it has, or is just growing, may need
 * far more than it can show: it is taken to want all it may have. Else what it is about to take would be
 * shared out among the idle, and it would page out in the midst of plenty.
 */
static uint64_t demand(const struct policy_guest *g)
{
	bool known = g->stats_fresh && g->has_driver;
	uint64_t in_use = known ? MIN(g->in_use_pages, g->used_pages) : g->used_pages;
	uint64_t need = in_use + in_use / 8 + MIN(g->wanted_pages, g->memory_pages);

	if (g->pressed || (known && (g->full || g->growing)))
		need = ceiling(g);
	if (g->waiting)
		need = MAX(need, g->used_pages + g->memory_pages / 8);
	return MAX(MIN(need, ceiling(g)), MIN(g->min_pages, ceiling(g)));
}

static uint64_t at_level(const struct policy_guest *g, const struct bounds *b, uint64_t lambda)
{
	unsigned __int128 want = (unsigned __int128)lambda * g->shares >> LAMBDA_SHIFT;

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

/* The highest water level, in 2^-LAMBDA_SHIFT pages a share, at which all parts together fit. */
static uint64_t water_level(const struct policy_guest *guests, uint32_t n, const struct bounds *b,
	uint64_t budget)
{
	uint64_t lambda = 0, bit = 1;

	while (bit >> LAMBDA_SHIFT <= MIN(budget, BUDGET_MAX)) /* at one share a guest is full by then */
		bit <<= 1;
	for (; bit; bit >>= 1)
		if (sum_at(guests, n, b, lambda | bit) <= budget)
			lambda |= bit;
	return lambda;
}

/* What no balloon can take: a guest has no driver, took its memory back a moment ago, or (if that is
 * to be lived with) has nothing to give. */
static uint64_t floor_of(const struct policy_guest *g, bool honour_backoff)
{
	uint64_t low = MIN(g->min_pages, ceiling(g)), held = MIN(g->used_pages, ceiling(g));

	if (!g->has_driver || (honour_backoff && g->backoff))
		return MAX(low, held);
	if (g->cap_pages < g->memory_pages)
		return MAX(low, MIN(g->memory_pages - g->cap_pages, held));
	return low;
}

/* Each guest's part of `budget`: first what it needs, then what is left over, by shares. Those that
 * have nothing to give keep what they hold, and the part they were given, if that is to be honoured. */
static void entitle(const struct policy_guest *guests, uint32_t n, uint64_t budget, bool honour_backoff,
	struct bounds *b, struct policy_target *out)
{
	uint64_t needs = 0;

	for (uint32_t i = 0; i < n; i++) {
		b[i].low = floor_of(&guests[i], honour_backoff);
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
		if (!honour_backoff || !guests[i].backoff)
			out[i].entitled_pages = at_level(&guests[i], &b[i], lambda);
}

/*
 * Guests that have nothing to give hold more than their part: what they owe is taken out of the memory
 * held back first, then shifted to the others. Their own targets stay, so that they give when they can.
 */
static void shift(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct bounds *b, struct policy_target *out)
{
	uint64_t owed = 0, sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		bool owes = g->backoff && g->used_pages > out[i].entitled_pages;
		owed += owes ? g->used_pages - out[i].entitled_pages : 0;
		sum += out[i].entitled_pages;
	}
	uint64_t budget = budget_less(pool, m->enter[POLICY_HARD]);
	if (owed && sum + owed > budget)
		entitle(guests, n, budget, true, b, out);
}

/* The least balloon that the operator allows: by mem-set, and by mem-max, beyond which frames are refused
 * anyhow: a guest left to believe that it may use more would wait for them for ever. */
static uint64_t operator_balloon(const struct policy_guest *g)
{
	return g->memory_pages - ceiling(g);
}

static bool is_short(const struct policy_guest *g)
{
	bool needs = g->waiting || g->pressed || (g->stats_fresh && g->full);

	return needs && g->target_pages > operator_balloon(g);
}

/* Somebody's balloon is larger than its operator wants, and it could use that memory. As long as that is
 * so, memory stays shared out by the same rule, or whoever spiked first would keep the most. */
static bool contended(const struct policy_guest *guests, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (is_short(&guests[i]))
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
	uint64_t band = MAX(g->memory_pages / 64, 16u), now = g->target_pages;
	uint64_t moved = target > now ? target - now : now - target;

	if (target < now && (g->waiting || g->pressed))
		band /= 8;
	return now < operator_balloon(g) || moved > band ? target : now;
}

/* Shares the pool out. `release_only`: nobody's balloon grows for it. */
static void share_out(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, void *scratch, bool release_only,
	struct policy_target *out)
{
	entitle(guests, n, budget_less(pool, m->enter[POLICY_SOFT]), false, scratch, out);
	shift(pool, m, guests, n, scratch, out);
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		uint64_t keep = MAX(g->target_pages, operator_balloon(g));
		uint64_t target = g->memory_pages - MIN(out[i].entitled_pages, g->memory_pages);

		out[i].balloon_target_pages = dead_band(g, release_only ? MIN(target, keep) : target);
	}
}

void policy_step(const struct policy_pool *pool, const struct policy_guest *guests,
	uint32_t guest_count, void *scratch, struct policy_plan *plan)
{
	struct policy_marks m;

	policy_marks(pool->pool_pages, &m);
	plan->level = next_level(pool, &m);
	uint64_t keep = m.leave[POLICY_SOFT];
	plan->spare_pages = pool->free_pages > keep ? (pool->free_pages - keep) / 2 : 0;
	if (plan->level == POLICY_HIGH && plan->spare_pages)
		relax(pool, &m, guests, guest_count, plan->guest);
	else
		share_out(pool, &m, guests, guest_count, scratch,
			plan->level == POLICY_HIGH && !contended(guests, guest_count), plan->guest);
}
