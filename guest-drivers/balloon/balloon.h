/*
 * The balloon driver: portable C, no kernel headers. The kernel it lives in supplies a short list
 * of callbacks, some memory, and a thread (or tasklet) to work in. Wire format: vmm/abi/aerostat.h;
 * how to port it: docs/abi.md.
 *
 * Locks: the kernel calls one function at a time for a driver (its own lock or a single CPU);
 * callbacks are made with that lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/abi/aerostat.h"

#define BALLOON_NO_PAGE UINT64_MAX

struct balloon_ops {
	/*
	 * Takes a naturally aligned block of 2^order pages (order 0 or 9) out of the kernel's use and
	 * returns its gfn, or BALLOON_NO_PAGE. Order 9: never reclaims, only what is free. Order 0 with
	 * may_reclaim: the kernel may drop caches and page out, but never kills; *why (enum
	 * aero_balloon_reason) says why not when it fails.
	 */
	uint64_t (*take)(void *ctx, unsigned int order, bool may_reclaim, uint32_t *why);
	/* Gives a block back to the kernel. */
	void (*put)(void *ctx, uint64_t gfn, unsigned int order);
	/* Free pages of the kernel now; the driver leaves `keep_free_pages` of them. */
	uint64_t (*free_pages)(void *ctx);
	/* Fills what the kernel knows; the driver preset all to AERO_STAT_UNKNOWN. */
	void (*fill_stats)(void *ctx, uint64_t stats[AERO_STAT_COUNT]);
	int64_t (*hypercall)(uint64_t number, uint64_t a, uint64_t b, uint64_t c);
	uint64_t (*now_ns)(void *ctx);
};

struct balloon_setup {
	const struct balloon_ops *ops;
	void *ctx;
	struct aero_balloon_page *page; /* zeroed, page aligned, never paged out */
	uint64_t page_gpa;
	struct aero_range *ranges; /* scratch for one call: AERO_RANGE_MAX entries */
	uint64_t ranges_gpa;
	uint64_t *bitmap; /* zeroed; one bit a gfn: which are in the balloon */
	uint64_t gfn_count;
	uint64_t keep_free_pages;
};

struct balloon_driver {
	struct balloon_setup s;
	uint64_t actual_pages;
	uint64_t hint_gfn;     /* where the next search of the bitmap starts */
	uint32_t state, reason; /* as last reported */
	uint64_t retry_ns;     /* backoff: not before this */
	uint64_t backoff_ns;
	/* counters */
	uint64_t inflated_pages, inflated_2m, deflated_pages, urgent_pages, backoffs, refused;
};

/* 0, or the hypercall's error: no balloon then, the kernel goes on without. */
int64_t balloon_driver_init(struct balloon_driver *d, const struct balloon_setup *setup);

/*
 * One bounded step (at most 512 blocks) towards the target, and answers a request for statistics.
 * Call from a thread after AERO_EVENT_BALLOON or AERO_EVENT_STATS and while it returns true.
 */
bool balloon_driver_work(struct balloon_driver *d);

/* When to call balloon_driver_work() again without an event: ns, UINT64_MAX for never. */
uint64_t balloon_driver_next_ns(const struct balloon_driver *d);

/*
 * The kernel is about to kill something: gives up to `pages` back at once and lowers the target in
 * the same step (AERO_DEFLATE_URGENT). Never allocates. Returns pages given back to the kernel.
 */
uint64_t balloon_driver_give_back(struct balloon_driver *d, uint64_t pages);

/* Tells the hypervisor of pressure: see AERO_HC_PRESSURE. Takes what it grants at once. */
void balloon_driver_pressure(struct balloon_driver *d, enum aero_pressure level, uint64_t pages);
