/* Pure. */
#include "balloon/policy_parts.h"

/*
 * Source: C. Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI'02), section 5.3.
 * Min-funding revocation takes a page from the guest with the lowest shares-per-page ratio
 *
 *	rho = S / (P (f + k (1 - f))),  k = 1 / (1 - tau)
 *
 * S shares, P pages, f the active fraction, tau the tax: an idle page costs k active ones. It comes to
 * rest when all rho are equal, or a guest is at a bound. That state is computed here outright: with A = f P
 * active pages and W = S / rho,
 *
 *	P (f + k (1 - f)) = A + k (P - A) = W   =>   P = A + (W - A) (1 - tau), for W > A; else P = W
 *
 * which only grows with the water level lambda = 1 / rho = W / S, in straight pieces: the highest lambda at
 * which all parts fit is found by Newton's method between bounds that close in.
 */
#define LAMBDA_SHIFT 16
#define TAX_SHIFT    7		  /* 1 / (1 - POLICY_TAX_MAX %) = 100 < 2^7 */
#define BUDGET_MAX   (1ull << 40) /* pages: no sum or product below overflows */
#define LAMBDA_MAX   (1ull << (40 + LAMBDA_SHIFT + TAX_SHIFT)) /* one of one share is full by then */
_Static_assert(100 / (100 - POLICY_TAX_MAX) < 1 << TAX_SHIFT, "any tax fits");

/* Its part at that level. *slope: the shares that its next page costs, none at a bound. */
static inline uint64_t at_level(const struct policy_part *p, uint64_t lambda, uint64_t *slope)
{
	unsigned __int128 level = (unsigned __int128)lambda * p->shares >> LAMBDA_SHIFT;
	uint64_t want = level >> 64 ? UINT64_MAX : (uint64_t)level;

	*slope = (uint64_t)p->shares * POLICY_UNTAXED;
	if (want > p->active_pages) {
		/* More than fills any guest at the highest tax is as good as that. */
		uint64_t idle = MIN(want - p->active_pages, BUDGET_MAX << TAX_SHIFT);
		want = p->active_pages + (idle * p->untaxed >> 16);
		*slope = (uint64_t)p->shares * p->untaxed;
	}
	if (want >= p->low && want < p->high)
		return want;
	*slope = 0;
	return want < p->low ? p->low : p->high;
}

static uint64_t sum_at(const struct policy_part *part, uint32_t n, uint64_t lambda, uint64_t *slopes)
{
	uint64_t sum = 0, slope;

	*slopes = 0;
	for (uint32_t i = 0; i < n; i++) {
		sum += at_level(&part[i], lambda, &slope);
		*slopes += slope;
	}
	return sum;
}

/* From `lambda`, where the sum is `off` pages short of the budget, or beyond it. */
static uint64_t next_level(uint64_t lambda, uint64_t off, uint64_t slopes, bool below)
{
	uint64_t move = slopes ? (MIN(off, BUDGET_MAX) << LAMBDA_SHIFT) / slopes : 0;

	if (!move) /* all at their bounds: somewhere else */
		return below ? lambda * 2 + 1 : lambda / 2;
	return below ? lambda + move : lambda - MIN(move, lambda);
}

/*
 * The water level, in 2^-LAMBDA_SHIFT pages a share: all parts together fit, and leave at most half a page
 * a guest, what rounding loses anyhow. Each third time the bounds are halved: so there is a most, whatever
 * the pieces look like; less than ten rounds are usual.
 */
static uint64_t water_level(const struct policy_part *part, uint32_t n, uint64_t budget)
{
	uint64_t low = 0, high = LAMBDA_MAX, slopes, shares = 1;

	for (uint32_t i = 0; i < n; i++)
		shares += part[i].shares;
	uint64_t lambda = (MIN(budget, BUDGET_MAX) << LAMBDA_SHIFT) / shares;
	for (uint32_t round = 1; high - low > 1; round++) {
		uint64_t sum = sum_at(part, n, lambda, &slopes);
		bool below = sum <= budget;
		uint64_t off = below ? budget - sum : sum - budget;
		if (below)
			low = lambda;
		else
			high = lambda;
		if (below && off <= n / 2)
			break;
		lambda = next_level(lambda, off, slopes >> 16, below);
		if (round % 3 == 0 || lambda <= low || lambda >= high)
			lambda = low + (high - low) / 2;
	}
	return low;
}

static uint64_t budget_less(const struct policy_pool *pool, uint64_t reserve_pages)
{
	uint64_t held_back = pool->emergency_pages + reserve_pages;

	return pool->pool_pages > held_back ? pool->pool_pages - held_back : 0;
}

/* What cannot be taken: a guest that nothing is enforced upon has no driver, took its memory back a moment
 * ago, or (if that is to be lived with) has nothing to give. From the others the lower rungs take it, if they can:
 * what a paused guest holds and finds no room is not to be promised to anyone. */
static uint64_t floor_of(const struct policy_guest *g, bool honour_backoff)
{
	uint64_t most = policy_most(g);
	uint64_t low = MIN(g->min_pages, most), held = MIN(policy_cost(g), most);

	if (honour_backoff && g->stuck)
		return MAX(low, held);
	if (policy_enforced(g))
		return low;
	if (!g->has_driver || (honour_backoff && g->backoff))
		return MAX(low, held);
	if (g->cap_pages < g->memory_pages)
		return MAX(low, MIN(g->memory_pages - g->cap_pages, held));
	return low;
}

static bool is_excused(const struct policy_guest *g)
{
	return g->stuck || (g->backoff && !policy_enforced(g));
}

/* Each guest's part of `budget`: first what it needs, then what is left over, by shares. Those that
 * have nothing to give keep what they hold, and the part they were given, if that is to be honoured. */
static void entitle(const struct policy_guest *guests, uint32_t n, uint64_t budget,
	bool honour_backoff, struct policy_part *part, struct policy_target *out)
{
	uint64_t needs = 0, slope;

	for (uint32_t i = 0; i < n; i++) {
		part[i].low = floor_of(&guests[i], honour_backoff);
		part[i].high = MAX(policy_demand(&guests[i], &part[i]), part[i].low);
		needs += part[i].high;
	}
	if (needs <= budget)
		for (uint32_t i = 0; i < n; i++) {
			part[i].low = part[i].high;
			part[i].high = MAX(part[i].wish_pages, part[i].low);
		}
	uint64_t lambda = water_level(part, n, budget);
	for (uint32_t i = 0; i < n; i++)
		if (!honour_backoff || !is_excused(&guests[i]))
			out[i].entitled_pages = at_level(&part[i], lambda, &slope);
}

/*
 * Guests that have nothing to give hold more than their part: what they owe is taken out of the memory
 * held back first, then shifted to the others. Their own targets stay, so that they give when they can.
 * What can be enforced is not shifted: past its deadline a guest pays itself.
 */
void policy_share(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct policy_part *part,
	struct policy_target *out)
{
	uint64_t owed = 0, sum = 0;

	entitle(guests, n, budget_less(pool, m->enter[POLICY_SOFT]), false, part, out);
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		bool owes = is_excused(g) && policy_cost(g) > out[i].entitled_pages;
		owed += owes ? policy_cost(g) - out[i].entitled_pages : 0;
		sum += out[i].entitled_pages;
	}
	uint64_t budget = budget_less(pool, m->enter[POLICY_HARD]);
	if (owed && sum + owed > budget)
		entitle(guests, n, budget, true, part, out);
}
