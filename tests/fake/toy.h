/*
 * A toy kernel around the real balloon driver, in a guest of tests/fake/hv.h: a page allocator, one
 * process whose pages carry stamps, a page cache, a swap area, pressure and an OOM killer that only
 * counts. Its memory goes through the real second level; its hypercalls through the real dispatch.
 */
#pragma once

#include "guest-drivers/balloon/balloon.h"
#include "tests/fake/hv.h"

enum toy_state { TOY_KERNEL, TOY_FREE, TOY_BALLOON, TOY_ANON, TOY_CACHE };

#define TOY_NEW     UINT32_MAX       /* virtual page never touched */
#define TOY_SWAPPED (UINT32_MAX - 1) /* on the swap area */

struct toy {
	struct guest *g;
	struct balloon_driver driver;
	bool has_driver;
	struct aero_range ranges[AERO_RANGE_MAX];
	uint32_t page_count, free_count, cache_count, keep;
	uint8_t *state;  /* by gfn */
	bool *clean;     /* by gfn: came out of the balloon, so must read as zero */
	uint32_t *owner; /* by gfn: TOY_ANON: virtual page */
	uint64_t *bitmap;
	uint32_t *virt;  /* by virtual page: gfn, TOY_NEW or TOY_SWAPPED */
	uint32_t hand, free_hand;
	uint64_t seed;
	/* what the test asks for */
	uint32_t want;       /* pages that the process owns */
	uint32_t cache_want; /* pages that it would cache */
	uint32_t touches;    /* of its pages, a tick */
	uint32_t grow;       /* new ones, a tick */
	uint32_t swap_free;  /* pages */
	uint32_t io_a_tick;  /* pages to or from swap */
	bool refuses;        /* takes nothing for the balloon */
	/* what became of it */
	uint32_t have;      /* virtual pages in use */
	uint32_t io_debt;   /* pages of I/O still to wait for */
	bool stuck;         /* in front of a page that cannot be given */
	uint64_t stuck_ticks, oom_kills, swap_ins, swap_outs, direct;
	uint64_t pressure_ns, window_swap_ins;
	int64_t (*hypercall_hook)(struct toy *t, uint64_t number, uint64_t a, uint64_t b, uint64_t c,
		int64_t result);
};

struct toy *toy_new(struct guest *g, bool has_driver);
void toy_free(struct toy *t); /* not the guest */
/* One millisecond of its life, driver's work included. */
void toy_tick(struct toy *t);
/* Runs the driver until it has nothing to do now. */
void toy_driver_run(struct toy *t);
/* Every resident page of the process carries its stamp, books are in order. Fails the program. */
void toy_check(struct toy *t);
/* Pages of memory that its kernel has: all but the balloon. */
uint32_t toy_size(const struct toy *t);
