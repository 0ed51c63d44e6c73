/*
 * Pure. Who gets how much: from what each guest holds and wants, and what the pool has, to a
 * balloon target for each guest, and what it may hold if it does not meet it. Deterministic: the same
 * inputs give the same plan. All in pages of 4 KiB. docs/policy.md has the formula and its limits.
 *
 * The state from one step to the next is the caller's: `level`, and per guest target_pages,
 * target_age_ns, over_age_ns, rate_pages, withheld_pages and limited, come from the step before. So a step
 * can be printed as one text (balloon/policy_trace.h) and made again elsewhere.
 */
#pragma once

#include "vmm/base/types.h"

#define POLICY_TAX_PERCENT 75u		 /* ESX's default */
#define POLICY_TAX_MAX	   99u
#define POLICY_DEADLINE_NS 2000000000ull /* default of deadline_ns */

struct policy_guest {
	/* configuration */
	uint64_t memory_pages; /* what it believes it has; of a dynamic guest: the most it may come to have */
	uint64_t min_pages, max_pages;
	uint32_t shares;
	bool dynamic;          /* its size follows its demand, between min and max, from start_pages on */
	uint64_t start_pages;  /* of a dynamic guest: its size until it is known what it needs */
	/* So long it may stay over what it is entitled to; in HARD a quarter, in LOW an eighth. 0: for ever. */
	uint64_t deadline_ns;
	/* operator: the guest's size set by mem-set (memory_pages if never set) */
	uint64_t operator_pages;
	/* as counted by the hypervisor */
	uint64_t used_pages;    /* frames held */
	uint64_t store_pages;   /* and its part of the frames of the compressed store */
	uint64_t balloon_pages; /* in the balloon */
	uint64_t target_pages;  /* balloon target in force */
	uint64_t active_pages;  /* estimate: touched of late; UINT64_MAX: unknown, taken as all */
	uint32_t stalled_permille; /* of its time of late in which it stood still (balloon/stall.h): 0 .. 1000 */
	/* its memory that is not in RAM: on the swap, in the compressed store. It may want it back. */
	uint64_t swapped_pages, compressed_pages;
	uint64_t target_age_ns; /* since target_pages last changed */
	uint64_t over_age_ns;   /* since the plan first said over_target, without a pause; 0: it does not */
	/* of the plan of the step before; 0 if there was none */
	uint64_t rate_pages, withheld_pages;
	bool limited; /* resident_limit_pages was set */
	/* from the guest: hints */
	bool has_driver;
	bool stats_fresh;
	uint64_t in_use_pages; /* of its memory, neither free nor droppable; valid if stats_fresh */
	bool full;             /* when it said so, next to nothing was left; valid if stats_fresh */
	bool growing;          /* it has taken many frames since it said so */
	bool backoff;          /* it was asked, and has nothing to give */
	bool stuck;            /* by the hypervisor: it does not run, and the lower rungs cannot take anything of it */
	uint64_t cap_pages;    /* no larger balloon now (an urgent give-back); UINT64_MAX: no cap */
	/* need */
	/* Pages it asked for by AERO_HC_PRESSURE, and those that it touched when they were out of RAM; decaying.
	 * Without the latter a guest without a balloon, all of its frames active, could not show that it
	 * needs more of them. */
	uint64_t wanted_pages;
	bool pressed;          /* it says that it is under pressure */
	bool waiting;          /* one of its vCPUs waits for a frame */
};

enum policy_level { POLICY_HIGH, POLICY_SOFT, POLICY_HARD, POLICY_LOW };

struct policy_pool {
	uint64_t pool_pages, free_pages, emergency_pages;
	enum policy_level level; /* in force before this step */
	uint32_t tax_percent;    /* on idle memory: 0 (none) .. POLICY_TAX_MAX */
};

struct policy_target {
	uint64_t balloon_target_pages; /* to set from now on */
	uint64_t entitled_pages;       /* its part of the pool: what it may hold in the end */
	/* frames it may hold, now, the store apart: take the rest from it; UINT64_MAX: all */
	uint64_t resident_limit_pages;
	uint64_t rate_pages;     /* how far its target may run ahead of its balloon */
	uint64_t withheld_pages; /* its balloon should be so much larger than it is asked for now */
	bool over_target;        /* its balloon is smaller than it should be: keep since when */
	bool wait_over_target;   /* state LOW: it holds too much, its next frame waits until it does not */
};

struct policy_plan {
	enum policy_level level;
	uint64_t spare_pages; /* beyond the plan, for whoever asks first before the next step */
	struct policy_target *guest; /* caller's array, guest_count entries */
};

#define POLICY_UNTAXED (1u << 16)

/* What a step has worked out of a guest, once: the solver runs over these. */
struct policy_part {
	uint64_t low, high;    /* its part lies between */
	uint64_t active_pages; /* not taxed */
	uint32_t shares;
	uint32_t untaxed;      /* of an idle page, in 1 / POLICY_UNTAXED */
	uint64_t wish_pages;   /* its size, if nobody else needed memory */
	uint64_t goal_pages;   /* the balloon that it was to come to have so far */
	bool is_short;         /* it could use what is in there */
};

/* Thresholds in pages of free memory for a pool: enter a worse level below, leave above. */
struct policy_marks {
	uint64_t enter[4], leave[4]; /* by enum policy_level; [POLICY_HIGH] unused */
};
void policy_marks(uint64_t pool_pages, struct policy_marks *out);

/* O(guests). `scratch` has guest_count entries. */
void policy_step(const struct policy_pool *pool, const struct policy_guest *guests,
	uint32_t guest_count, struct policy_part *scratch, struct policy_plan *plan);
