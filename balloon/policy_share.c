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
 * which only grows with the water level lambda = 1 / rho = W / S: the highest lambda at which all
 * parts fit is found bit by bit.
 */
#define LAMBDA_SHIFT 16
#define TAX_SHIFT    7		  /* 1 / (1 - POLICY_TAX_MAX %) = 100 < 2^7 */
#define BUDGET_MAX   (1ull << 40) /* pages: no sum or product below overflows */
_Static_assert(LAMBDA_SHIFT + TAX_SHIFT + 40 < 64, "a level fits");
_Static_assert(100 / (100 - POLICY_TAX_MAX) < 1 << TAX_SHIFT, "any tax fits");

static uint64_t at_level(const struct policy_part *p, uint64_t lambda)
{
	unsigned __int128 want = (unsigned __int128)lambda * p->shares >> LAMBDA_SHIFT;

	if (want > p->active_pages) {
		/* More than fills any guest at the highest tax is as good as that: no 128-bit division. */
		unsigned __int128 idle = MIN(want - p->active_pages, BUDGET_MAX << TAX_SHIFT);
		want = p->active_pages + (uint64_t)idle * p->untaxed_percent / 100;
	}
	return want < p->low ? p->low : want > p->high ? p->high : (uint64_t)want;
}

/* Stops adding when it no longer fits. */
static bool fits(const struct policy_part *part, uint32_t n, uint64_t lambda, uint64_t budget)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n && sum <= budget; i++)
		sum += at_level(&part[i], lambda);
	return sum <= budget;
}

/* The highest water level, in 2^-LAMBDA_SHIFT pages a share, at which all parts together fit. */
static uint64_t water_level(const struct policy_part *part, uint32_t n, uint64_t budget, uint32_t tax)
{
	uint32_t shift = LAMBDA_SHIFT + (tax ? TAX_SHIFT : 0);
	uint64_t lambda = 0, bit = 1;

	while (bit >> shift < MIN(budget, BUDGET_MAX)) /* at one share a guest is full by then */
		bit <<= 1;
	for (; bit; bit >>= 1)
		if (fits(part, n, lambda | bit, budget))
			lambda |= bit;
	return lambda;
}

static uint64_t budget_less(const struct policy_pool *pool, uint64_t reserve_pages)
{
	uint64_t held_back = pool->emergency_pages + reserve_pages;

	return pool->pool_pages > held_back ? pool->pool_pages - held_back : 0;
}

/* What cannot be taken: a guest that nothing is enforced upon has no driver, took its memory back a moment
 * ago, or (if that is to be lived with) has nothing to give. From the others the lower rungs take it. */
static uint64_t floor_of(const struct policy_guest *g, bool honour_backoff)
{
	uint64_t most = policy_most(g);
	uint64_t low = MIN(g->min_pages, most), held = MIN(g->used_pages, most);

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
	return g->backoff && !policy_enforced(g);
}

/* Each guest's part of `budget`: first what it needs, then what is left over, by shares. Those that
 * have nothing to give keep what they hold, and the part they were given, if that is to be honoured. */
static void entitle(const struct policy_pool *pool, const struct policy_guest *guests, uint32_t n,
	uint64_t budget, bool honour_backoff, struct policy_part *part, struct policy_target *out)
{
	uint32_t tax = MIN(pool->tax_percent, POLICY_TAX_MAX);
	uint64_t needs = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t low = floor_of(&guests[i], honour_backoff);
		part[i] = (struct policy_part){ .low = low, .high = MAX(policy_demand(&guests[i]), low),
			.active_pages = policy_active(&guests[i]), .shares = guests[i].shares,
			.untaxed_percent = 100 - tax };
		needs += part[i].high;
	}
	if (needs <= budget)
		for (uint32_t i = 0; i < n; i++) {
			part[i].low = part[i].high;
			part[i].high = MAX(policy_wish(&guests[i]), part[i].low);
		}
	uint64_t lambda = water_level(part, n, budget, tax);
	for (uint32_t i = 0; i < n; i++)
		if (!honour_backoff || !is_excused(&guests[i]))
			out[i].entitled_pages = at_level(&part[i], lambda);
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

	entitle(pool, guests, n, budget_less(pool, m->enter[POLICY_SOFT]), false, part, out);
	for (uint32_t i = 0; i < n; i++) {
		const struct policy_guest *g = &guests[i];
		bool owes = is_excused(g) && g->used_pages > out[i].entitled_pages;
		owed += owes ? g->used_pages - out[i].entitled_pages : 0;
		sum += out[i].entitled_pages;
	}
	uint64_t budget = budget_less(pool, m->enter[POLICY_HARD]);
	if (owed && sum + owed > budget)
		entitle(pool, guests, n, budget, true, part, out);
}
