/* Pure. Between the files of the policy; others include balloon/policy.h. */
#pragma once

#include "balloon/policy.h"

/* ---- policy_demand.c: one guest's bounds ---- */
/* The most it may have by its configuration and its operator; never below its min. */
uint64_t policy_most(const struct policy_guest *g);
/* The size it has if nobody else needs memory: the most, or what a dynamic guest has a use for. */
uint64_t policy_wish(const struct policy_guest *g);
uint64_t policy_demand(const struct policy_guest *g); /* what it needs now; at least its min */
uint64_t policy_active(const struct policy_guest *g); /* what the tax spares; UINT64_MAX: all */
bool policy_enforced(const struct policy_guest *g);   /* lower rungs take what its balloon does not */

/* The least balloon that the operator allows: by mem-set, and by mem-max, beyond which frames are refused
 * anyhow: a guest left to believe that it may use more would wait for them for ever. */
static inline uint64_t policy_least_balloon(const struct policy_guest *g)
{
	return g->memory_pages - policy_wish(g);
}

/* The balloon that the step before meant it to come to have: what it was asked for, and what was withheld;
 * but its min is its own, whoever asked before. */
static inline uint64_t policy_goal(const struct policy_guest *g)
{
	uint64_t most = g->memory_pages - MIN(g->min_pages, g->memory_pages);
	uint64_t asked = MIN(g->target_pages, most);

	return asked + MIN(g->withheld_pages, most - asked);
}

/* ---- policy_share.c: all guests' parts of the pool, into out[].entitled_pages ---- */
void policy_share(const struct policy_pool *pool, const struct policy_marks *m,
	const struct policy_guest *guests, uint32_t n, struct policy_part *part,
	struct policy_target *out);

/* ---- policy_limit.c: how fast a target moves, and what binds a guest that does not follow ---- */
/* Completes *t from the balloon that it should come to have, t->balloon_target_pages. */
void policy_limit(const struct policy_guest *g, enum policy_level level, struct policy_target *t);
