/* Pure. Between the files of the policy; others include balloon/policy.h. */
#pragma once

#include "balloon/policy.h"

/* ---- policy_demand.c: one guest's bounds ---- */
/* The most it may have by its configuration and its operator; never below its min. */
static inline uint64_t policy_most(const struct policy_guest *g)
{
	uint64_t most = MIN(MIN(g->max_pages, g->operator_pages), g->memory_pages);

	return MAX(most, MIN(g->min_pages, g->memory_pages));
}

/* What it costs the host: its frames, and what holds the content of those that are out of RAM, but not on the
 * disk. Parts are parts of that: else who has much compressed would have it at the others' expense. */
static inline uint64_t policy_cost(const struct policy_guest *g)
{
	return MIN(g->used_pages, g->memory_pages) + MIN(g->store_pages, g->memory_pages);
}

/* Lower rungs take what its balloon does not. */
static inline bool policy_enforced(const struct policy_guest *g)
{
	return g->deadline_ns != 0;
}

/* All of *p but low and high. */
void policy_prepare(const struct policy_guest *g, uint32_t tax_percent, struct policy_part *p);
/* What it needs now; at least its min. */
uint64_t policy_demand(const struct policy_guest *g, const struct policy_part *p);

/* The least balloon that the operator allows: by mem-set, and by mem-max, beyond which frames are refused
 * anyhow: a guest left to believe that it may use more would wait for them for ever. */
static inline uint64_t policy_least_balloon(const struct policy_guest *g, const struct policy_part *p)
{
	return g->memory_pages - p->wish_pages;
}

/* Its balloon, above that. */
static inline uint64_t policy_owed(const struct policy_guest *g, const struct policy_part *p)
{
	uint64_t least = policy_least_balloon(g, p);

	return p->goal_pages > least ? p->goal_pages - least : 0;
}

/* The size that it was to come to have so far. */
static inline uint64_t policy_size(const struct policy_guest *g, const struct policy_part *p)
{
	return g->memory_pages - p->goal_pages;
}

/* ---- policy_share.c: all guests' parts of the pool, into out[].entitled_pages ---- */
void policy_share(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct policy_part *part,
	struct policy_target *out);

/* ---- policy_limit.c: how fast a target moves, and what binds a guest that does not follow ---- */
/* Completes *t from the balloon that it should come to have, t->balloon_target_pages. */
void policy_limit(const struct policy_guest *g, const struct policy_part *p, enum policy_level level,
	struct policy_target *t);
