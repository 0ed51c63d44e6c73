/* The pool's own state; for mm/frame*.c and the auditor only. */
#pragma once

#include "mm/buddy.h"
#include "vmm/base/bug.h"
#include "vmm/base/cpu.h"

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
	uint64_t scrubbing; /* pages that frame_scrub() has out of the buddy now */
	struct frame_account shared; /* pays for SHARED frames; min 0, no max */
	uint32_t locked_caches; /* by frame_lock_all() */
	uint32_t fixed_next; /* where the next frame goes that never joins: see frame.c */
	struct frame_fault fault;
	/* set once at boot */
	uint64_t limit;
	uint64_t emergency;
	mfn_t zero;
};
extern struct frame_pool frame_pool;

/*
 * A CPU's frames ahead (docs/adr/0007): up to 64 aligned ones taken out of the buddy at once, for guests
 * that touch pages in order, so that the next fault's frame is one bit away and no other CPU's business.
 * Each is paid for: it counts in `used` and against `headroom` as if it had been given to somebody beyond
 * his min. What follows is what the pool has to be told when the rest is put back. Frames here are FREE or
 * DIRTY still, of order FRAME_ORDER_AWAY, so that the buddy leaves them alone.
 */
struct frame_cache {
	struct spinlock lock; /* LOCK_RANK_FRAME_CACHE */
	/* guarded by lock */
	uint64_t first;     /* index of bit 0's frame */
	uint64_t mask;	    /* those still there */
	uint64_t last;	    /* index of the last page given */
	uint64_t left;	    /* how many those are; others read it as a hint */
	uint64_t populated; /* given since, FREE -> PRIVATE */
	uint64_t scrubbed;  /* of these DIRTY before */
	uint64_t within;    /* of these within a min: headroom gets them back */
} __attribute__((aligned(64)));
extern struct frame_cache frame_caches[CPU_MAX];
extern uint32_t frame_cache_count; /* CPUs that have used theirs; atomic, only rises */

#define FRAME_ORDER_AWAY 0xffu

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

/*
 * Locks every cache and the pool, puts all frames ahead back into the buddy and tells the pool what the
 * caches have counted: all numbers are exact then. For what is seldom, and before anybody is refused.
 */
void frame_lock_all(void);
void frame_unlock_all(void);

/* All of these: caller holds the pool's lock. */

/* `used` changes by this much; others read it as a hint. */
static inline void frame_use(int64_t pages)
{
	__atomic_store_n(&frame_pool.used, frame_pool.used + (uint64_t)pages, __ATOMIC_RELAXED);
}

/* An allocation is to fail: see frame_fault_set(). Counts it. */
bool frame_fault_hit(void);
/* One cache's frames back into the buddy, its counts into the pool. Its lock is held, too. */
void frame_settle(struct frame_cache *c);
/* Marks `pages` free frames from `index` on as out of the buddy without being given, or not. */
static inline void frame_mark(uint32_t index, uint64_t pages, uint8_t order)
{
	for (uint64_t i = 0; i < pages; i++)
		frame_table.array[index + i].order = order;
}
/* frame_move() of `pages` frames that all have the first word `was`; they get `now`. */
void frame_move_block(struct frame *f, uint64_t pages, uint64_t was, uint64_t now);
/* A DIRTY block that was taken from the buddy has been zeroed: DIRTY -> FREE, still in no list. */
void frame_scrubbed(uint32_t index, uint32_t order);
/* HV_BUG unless all of the run has metadata. */
void frame_check_run(mfn_t first, uint64_t pages);
