/* The pool's own state; for mm/frame.c, mm/frame_account.c and the auditor only. */
#pragma once

#include "mm/buddy.h"

struct frame_pool {
	struct spinlock lock;
	/* guarded by lock */
	struct buddy buddy;
	uint64_t by_state[FRAME_STATE_COUNT];
	uint64_t used;     /* charged to accounts */
	/* limit - used - what accounts below their min are still owed. Negative (a debt) while a guest
	 * admitted later waits for what others hold beyond their min. */
	int64_t headroom;
	uint64_t min_total; /* of all open accounts */
	uint64_t scrubbed, scrubbed_idle;
	uint32_t fixed_next; /* where the next frame goes that never joins: see frame.c */
	/*
	 * 64 aligned frames taken out of the buddy at once, FREE, for guests that touch pages in order:
	 * the next fault's frame is then one bit away. Nothing else sees it: whoever else comes to the
	 * buddy puts it back first (frame_settle()).
	 */
	struct {
		uint64_t first; /* index of bit 0's frame */
		uint64_t mask;  /* those still there */
		uint64_t last;  /* index of the last page given */
	} ahead;
	/* set once at boot */
	uint64_t limit;
	uint64_t emergency;
	mfn_t zero;
};
extern struct frame_pool frame_pool;

void frame_settle(void); /* caller holds the lock: all free frames are in the buddy after it */
