/* The pool's own state; for mm/frame*.c and the auditor only. */
#pragma once

#include "mm/buddy.h"
#include "vmm/base/bug.h"

#define FRAMES_AHEAD_ORDER 6u
#define FRAMES_AHEAD       (1u << FRAMES_AHEAD_ORDER)

struct frame_pool {
	struct spinlock lock;
	/* guarded by lock */
	struct buddy buddy;
	uint64_t by_state[FRAME_STATE_COUNT];
	uint64_t used; /* charged to accounts */
	/* limit - used - what accounts below their min are still owed. Negative (a debt) while a
	 * guest admitted later waits for what others hold beyond their min. */
	int64_t headroom;
	uint64_t min_total; /* of all open accounts */
	uint64_t scrubbed, scrubbed_idle;
	uint32_t fixed_next; /* where the next frame goes that never joins: see frame.c */
	/*
	 * Up to 64 aligned frames taken out of the buddy at once, for guests that touch pages in
	 * order: the next fault's frame is then one bit away. Nothing else sees it: whoever else
	 * comes to the buddy puts it back first (frame_settle()).
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

/* The first word of a frame that is in no list. */
static inline uint64_t frame_word(enum frame_state s, uint16_t owner)
{
	return (uint64_t)s | (uint64_t)owner << 16 | (uint64_t)FRAME_LINK_NONE << 32;
}

static inline void frame_move_one(struct frame *f, enum frame_state from, enum frame_state to)
{
	if (UNLIKELY(f->state != from || !frame_move_legal(from, to)))
		HV_BUG("frame %llu: move %s -> %s, but it is %s",
			(unsigned long long)(f - frame_table.array) + frame_table.base,
			frame_state_name(from), frame_state_name(to), frame_state_name(f->state));
	f->state = (uint8_t)to;
	frame_pool.by_state[from]--;
	frame_pool.by_state[to]++;
}

static inline struct frame *frame_at(uint32_t index)
{
	return &frame_table.array[index];
}
static inline mfn_t frame_mfn(uint32_t index)
{
	return MFN(frame_table.base + index);
}
static inline uint32_t frame_index(mfn_t mfn)
{
	return (uint32_t)(mfn.v - frame_table.base);
}

static inline uint64_t frame_owed(const struct frame_account *a)
{
	return a->min_pages > a->used_pages ? a->min_pages - a->used_pages : 0;
}

/* All of these: caller holds the lock. */

/* All free frames are in the buddy after it. */
void frame_settle(void);
/* frame_move() of `pages` frames that all have the first word `was`; they get `now`. */
void frame_move_block(struct frame *f, uint64_t pages, uint64_t was, uint64_t now);
/* Zeroes a DIRTY block that was just taken from the buddy: DIRTY -> FREE, still in no list. */
void frame_scrub_block(uint32_t index, uint32_t order);
/* HV_BUG unless all of the run has metadata. */
void frame_check_run(mfn_t first, uint64_t pages);
