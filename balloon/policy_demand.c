/* Pure. */
#include "balloon/policy_parts.h"

static bool is_known(const struct policy_guest *g)
{
	return g->stats_fresh && g->has_driver;
}

/* One that uses all it has, or is just growing, may need far more than it can show. */
static bool needs_unknown_more(const struct policy_guest *g)
{
	return g->pressed || (is_known(g) && (g->full || g->growing));
}

/* Memory with something in it, in frames or out of RAM. */
static uint64_t filled(const struct policy_guest *g)
{
	uint64_t all = g->memory_pages;

	return MIN(MIN(g->used_pages, all) + MIN(g->swapped_pages, all) + MIN(g->compressed_pages, all), all);
}

/*
 * With fresh statistics: what it uses, but no more than the memory it has filled (a guest that
 * lies about its use pays for it with memory); else that memory. Plus what it asked for, and
 * an eighth to move in.
 */
static uint64_t shown_need(const struct policy_guest *g)
{
	uint64_t in_use = is_known(g) ? MIN(g->in_use_pages, filled(g)) : filled(g);

	return in_use + in_use / 8 + MIN(g->wanted_pages, g->memory_pages);
}

/* A dynamic guest in the manner of Hyper-V: what it needs and a fifth more (its "memory buffer"); when it
 * is full, a quarter more than it has filled, so that it grows as fast as it fills what it gets; smaller
 * only slowly, for its need may come back. */
static uint64_t dynamic_wish(const struct policy_guest *g, uint64_t size)
{
	uint64_t need = shown_need(g);

	if (needs_unknown_more(g))
		return MAX(size, filled(g) + MAX(filled(g) / 4, MIN(g->wanted_pages, g->memory_pages)));
	if (!is_known(g))
		return MAX(g->start_pages, g->used_pages);
	need += need / 5;
	return need < size ? size - MIN((size - need) / 64 + 1, size - need) : need;
}

static uint64_t wish_of(const struct policy_guest *g, uint64_t size)
{
	uint64_t most = policy_most(g);

	return g->dynamic ? MAX(MIN(dynamic_wish(g, size), most), MIN(g->min_pages, most)) : most;
}

/*
 * One that may need far more than it can show is taken to want all it may have: else what it is about to
 * take would be shared out among the idle, and it would page out in the midst of plenty.
 */
uint64_t policy_demand(const struct policy_guest *g, const struct policy_part *p)
{
	uint64_t wish = p->wish_pages;
	uint64_t need = needs_unknown_more(g) ? wish : shown_need(g);

	if (g->waiting)
		need = MAX(need, policy_cost(g) + g->memory_pages / 8);
	return MAX(MIN(need, wish), MIN(g->min_pages, wish));
}

/*
 * What the tax spares; UINT64_MAX: all. The estimate lags. One that has just grown is busy, whatever was
 * seen of it before. One that is pressed or waits for a frame shows that it uses what it holds, and what
 * it asks for is added to that at once: were it spared the tax altogether, an idle guest that touches a page
 * now and then, or pages out for the very balloon that the tax asks for, would swing between two sizes.
 * If it takes what it is then given, it has grown.
 */
static uint64_t active_of(const struct policy_guest *g)
{
	uint64_t active = g->active_pages, wanted = MIN(g->wanted_pages, g->memory_pages);

	if (is_known(g) && g->growing)
		return UINT64_MAX;
	if (g->pressed || g->waiting)
		active = MAX(active, policy_cost(g));
	return active > UINT64_MAX - wanted ? UINT64_MAX : active + wanted;
}

/* What it was asked for, and what was withheld; but its min is its own, whoever asked before. */
static uint64_t goal_of(const struct policy_guest *g)
{
	uint64_t most = g->memory_pages - MIN(g->min_pages, g->memory_pages);
	uint64_t asked = MIN(g->target_pages, most);

	return asked + MIN(g->withheld_pages, most - asked);
}

#define WHOLE_PERMILLE 1000u

/*
 * Of the time that counts for the tax, the part in which it stood still: it could touch nothing then,
 * whatever it needs. Who has less memory stands still more, touches less, and would be taxed more: ten
 * equal guests ended with parts of 1 to 3. Half of the time is as good as all, for one that got what it
 * needs goes on and is to be measured again, and averages differ.
 */
static uint32_t unseen_permille(const struct policy_guest *g)
{
	return MIN(2 * MIN(g->stalled_permille, WHOLE_PERMILLE), WHOLE_PERMILLE);
}

/* What counts of an idle page of it, in 1 / POLICY_UNTAXED. */
static uint32_t untaxed_of(const struct policy_guest *g, uint32_t tax_percent)
{
	uint32_t untaxed = POLICY_UNTAXED * (100 - MIN(tax_percent, POLICY_TAX_MAX)) / 100;

	return untaxed + (POLICY_UNTAXED - untaxed) * unseen_permille(g) / WHOLE_PERMILLE;
}

/* It could use memory that its balloon should hold, beyond what its operator wants there. A guest whose idle
 * memory is in its balloon is full, too, or some of it out of RAM, and content: it does not wait for any. */
static bool is_short(const struct policy_guest *g, const struct policy_part *p)
{
	bool full = (g->stats_fresh && g->full) || g->swapped_pages || g->compressed_pages;
	bool busy = p->active_pages >= policy_size(g, p) / 2 || unseen_permille(g) >= WHOLE_PERMILLE / 2;

	return (g->waiting || g->pressed || (full && busy)) && policy_owed(g, p);
}

void policy_prepare(const struct policy_guest *g, uint32_t tax_percent, struct policy_part *p)
{
	*p = (struct policy_part){ .goal_pages = goal_of(g), .active_pages = active_of(g),
		.shares = g->shares, .untaxed = untaxed_of(g, tax_percent) };
	p->wish_pages = wish_of(g, policy_size(g, p));
	p->is_short = is_short(g, p);
}
