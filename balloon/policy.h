/*
 * Pure. Who gets how much: from what each guest holds and wants, and what the pool has, to a
 * balloon target for each guest. Deterministic: the same inputs give the same plan.
 * All in pages of 4 KiB. First form (foundation): min-guaranteed, share-weighted water-filling with
 * hysteresis; the full ladder's policy replaces the body, not the contract.
 */
#pragma once

#include "vmm/base/types.h"

struct policy_guest {
	/* configuration */
	uint64_t memory_pages, min_pages, max_pages;
	uint32_t shares;
	/* operator: the guest's size set by mem-set (memory_pages if never set) */
	uint64_t operator_pages;
	/* as counted by the hypervisor */
	uint64_t used_pages;    /* frames held */
	uint64_t balloon_pages; /* in the balloon */
	uint64_t target_pages;  /* balloon target in force */
	/* from the guest: hints */
	bool has_driver;
	bool stats_fresh;
	uint64_t in_use_pages; /* of its memory, neither free nor droppable; valid if stats_fresh */
	bool full;             /* when it said so, next to nothing was left; valid if stats_fresh */
	bool growing;          /* it has taken many frames since it said so */
	bool backoff;          /* it was asked, and has nothing to give */
	uint64_t cap_pages;    /* no larger balloon now (an urgent give-back); UINT64_MAX: no cap */
	/* need */
	uint64_t wanted_pages; /* pages it asked for by AERO_HC_PRESSURE, decaying */
	bool pressed;          /* it says that it is under pressure */
	bool waiting;          /* one of its vCPUs waits for a frame */
};

enum policy_level { POLICY_HIGH, POLICY_SOFT, POLICY_HARD, POLICY_LOW };

struct policy_pool {
	uint64_t pool_pages, free_pages, emergency_pages;
	enum policy_level level; /* in force before this step */
};

struct policy_plan {
	enum policy_level level;
	uint64_t spare_pages; /* beyond the plan, for whoever asks first before the next step */
	/* per guest: balloon target to set from now on; limit in pages it is entitled to */
	struct policy_target {
		uint64_t balloon_target_pages;
		uint64_t entitled_pages;
	} *guest; /* caller's array, guest_count entries */
};

/* Thresholds in pages of free memory for a pool: enter a worse level below, leave above. */
struct policy_marks {
	uint64_t enter[4], leave[4]; /* by enum policy_level; [POLICY_HIGH] unused */
};
void policy_marks(uint64_t pool_pages, struct policy_marks *out);

/* O(guests). `scratch` has guest_count entries of 16 bytes for the solver. */
void policy_step(const struct policy_pool *pool, const struct policy_guest *guests,
	uint32_t guest_count, void *scratch, struct policy_plan *plan);
