/*
 * A model of a host and its guests for the policy: pages are only counted. Each step is MEMSIM_STEP_NS
 * long: guests touch and free memory, their balloons follow, the lower rungs take what is enforced, and the
 * real policy_step() makes the next plan. One thing is simplified in favour of clarity: a guest's garbage
 * (frames of pages that it has freed) is the first to go, to the balloon as to the lower rungs.
 */
#pragma once

#include "balloon/policy.h"
#include "balloon/stall.h"

#define MEMSIM_STEP_NS 10000000ull
#define MEMSIM_WINDOW  200u /* steps */
#define MEMSIM_LOOK    25u  /* the same, at how long it stood still */

enum memsim_driver {
	MEMSIM_GOOD,
	MEMSIM_SLOW,   /* a tenth of the speed */
	MEMSIM_LIAR,   /* says that it tries, gives nothing */
	MEMSIM_REFUSES, /* says that it has nothing to give */
	MEMSIM_ABSENT,
};

struct memsim_guest {
	struct policy_guest view; /* configuration: set by the caller; the rest by each step */
	enum memsim_driver driver;
	uint64_t want_pages;   /* what its programs want, now */
	uint64_t hot_percent;  /* of what they have: touched all the time; the rest is idle */
	/* the state */
	uint64_t filled;       /* what its programs have: in_use, and what it paged out to its own disk */
	uint64_t in_use;       /* in its memory */
	uint64_t frames;       /* held; also of pages that it has freed */
	uint64_t swapped;      /* by the lower rungs, of in_use */
	uint64_t store;        /* frames that hold what is swapped, if it is compressed */
	uint64_t balloon;
	uint64_t pressed_steps, wanted, refaults, sampled_frames;
	bool waits;
	/* with one disk for all: */
	uint64_t misses;        /* in this step, of pages that are on its own disk */
	uint64_t visits;        /* of its pages, in this window of the estimator */
	uint64_t missed_visits; /* in this look: those that it stood still instead of */
	uint64_t active;        /* estimate */
	struct stall stall;
	/* counted */
	uint64_t wait_steps, taken_pages, brought_pages, paged_pages, moves;
};

struct memsim {
	struct policy_pool pool;
	struct memsim_guest *guest; /* the caller's, `count` of each */
	struct policy_guest *view;
	struct policy_target *target;
	struct policy_part *scratch;
	uint32_t count;
	uint64_t step;
	struct policy_plan plan;
	uint64_t level_changes;
	/*
	 * If not 0: all guests have their disks on one, which serves so many pages a step, and who misses a
	 * page stands still until it is served. A guest goes round and round in what is hot; what it touches
	 * is all that is seen of its activity, over windows of MEMSIM_WINDOW steps, and it says that it is
	 * pressed only while pages come fast. If 0, all that is hot counts as active, and a guest that lacks
	 * some of it always says so.
	 */
	uint64_t disk_rate, in_line; /* in_line: guests that share it in this step */
	uint64_t store_percent; /* what the lower rungs take is compressed to so much; 0: it goes to a disk */
	/* Speed of one guest, pages a step, for 4096 pages of memory: 100 MiB/s to touch, and so on. */
	uint64_t touch_rate, balloon_rate, evict_rate, page_rate;
};

/* Empty guests, all balloons empty: sets the rates, the guests' derived state and the free pages. */
void memsim_init(struct memsim *s);
void memsim_step(struct memsim *s);
/* Frames conserved, each guest's pages add up; returns NULL, or what is wrong. */
const char *memsim_check(const struct memsim *s);

static inline uint64_t memsim_size(const struct memsim_guest *g)
{
	return g->view.memory_pages - g->balloon;
}
