/* Pure. */
#include "balloon/policy_parts.h"

uint64_t policy_most(const struct policy_guest *g)
{
	uint64_t most = MIN(MIN(g->max_pages, g->operator_pages), g->memory_pages);

	return MAX(most, MIN(g->min_pages, g->memory_pages));
}

bool policy_enforced(const struct policy_guest *g)
{
	return g->deadline_ns != 0;
}

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
static uint64_t dynamic_wish(const struct policy_guest *g)
{
	uint64_t size = g->memory_pages - policy_goal(g);
	uint64_t need = shown_need(g);

	if (needs_unknown_more(g))
		return MAX(size, filled(g) + MAX(filled(g) / 4, MIN(g->wanted_pages, g->memory_pages)));
	if (!is_known(g))
		return MAX(g->start_pages, g->used_pages);
	need += need / 5;
	return need < size ? size - MIN((size - need) / 64 + 1, size - need) : need;
}

uint64_t policy_wish(const struct policy_guest *g)
{
	uint64_t most = policy_most(g);

	if (!g->dynamic)
		return most;
	return MAX(MIN(dynamic_wish(g), most), MIN(g->min_pages, most));
}

/*
 * One that may need far more than it can show is taken to want all it may have: else what it is about to
 * take would be shared out among the idle, and it would page out in the midst of plenty.
 */
uint64_t policy_demand(const struct policy_guest *g)
{
	uint64_t wish = policy_wish(g);
	uint64_t need = needs_unknown_more(g) ? wish : shown_need(g);

	if (g->waiting)
		need = MAX(need, MIN(g->used_pages, g->memory_pages) + g->memory_pages / 8);
	return MAX(MIN(need, wish), MIN(g->min_pages, wish));
}

/*
 * The estimate lags. One that has just grown is busy, whatever was seen of it before. One that is pressed
 * or waits for a frame shows that it uses what it holds, and what it asks for is added to that at
 * once: were it spared the tax altogether, an idle guest that touches a page now and then, or pages out for
 * the very balloon that the tax asks for, would swing between two sizes. If it takes what it is then
 * given, it has grown.
 */
uint64_t policy_active(const struct policy_guest *g)
{
	uint64_t active = g->active_pages, wanted = MIN(g->wanted_pages, g->memory_pages);

	if (is_known(g) && g->growing)
		return UINT64_MAX;
	if (g->pressed || g->waiting)
		active = MAX(active, g->used_pages);
	return active > UINT64_MAX - wanted ? UINT64_MAX : active + wanted;
}
