/*
 * Pages on their way out and back in: what the reclaim ladder does to a p2m. docs/reclaim.md.
 *
 * One CPU at a time holds and settles pages of a p2m; faults, copies and the balloon come from all.
 */
#pragma once

#include "mm/p2m.h"

#define EVICT_WINDOW 16u /* neighbouring pages that are held together */

/* A page that p2m_hold() has unmapped. */
struct evict_page {
	gfn_t gfn;
	mfn_t mfn; /* where its content is, as long as the entry says so */
	/* for p2m_settle(): EMPTY, COMPRESSED, SWAPPED with its payload; SHARED with the mfn of a frame of the
	 * same content, a reference to which goes to the entry; RAM: mapped again as it was, or, with a payload,
	 * in that frame of the guest's, which has its content now */
	enum p2m_state to;
	uint64_t payload;
	/* It is a SHARED page: still mapped, for nobody can change it; another's is its frame */
	bool shared;
	bool gone; /* out of p2m_settle(): it is in that state now, and its frame is free */
};

/* What a window has to offer. */
enum evict_found {
	EVICT_PAGES, /* some were held, or there are none to hold */
	EVICT_HUGE,  /* it lies in a 2 MiB leaf, which nobody has split */
	EVICT_NONE,  /* nothing of the 2 MiB that it lies in is RAM */
};

/*
 * Unmaps those of the `count` (<= EVICT_WINDOW) pages from `first` on that are RAM, not pinned and not part of
 * a 2 MiB leaf: RAM -> IN_FLIGHT, and one flush. `out` has room for all; *held gets how many.
 */
enum evict_found p2m_hold(struct p2m *p, gfn_t first, uint32_t count, struct evict_page *out,
	uint32_t *held);

/*
 * The SHARED pages among these, for p2m_settle(): nothing is unmapped, as nobody can change them. Only the control
 * plane's CPU makes pages SHARED, so that one that still maps the frame has mapped it all along.
 */
uint32_t p2m_hold_shared(struct p2m *p, gfn_t first, uint32_t count, struct evict_page *out);

/*
 * A held page becomes SHARED where it lies (share_make(), with its hint). *mfn: its frame, with a reference that
 * is the caller's. ERR_NOENT: it is not held any more; ERR_LIMIT: it has to stay private (frame_share_make()).
 */
status_t p2m_share_held(struct p2m *p, const struct evict_page *page, uint64_t hash, mfn_t *mfn) MUST_CHECK;
/* A SHARED page that nobody shares any more becomes RAM again. False: it is not one. */
bool p2m_take_back(struct p2m *p, gfn_t gfn);

/* Is it still held? Without that its frame may be anybody's: what was read of it is worth nothing. */
bool p2m_held(struct p2m *p, const struct evict_page *page);

/*
 * Those that are still held get their new states and `gone`, and their frames are freed in one round. Of the
 * others the caller drops what it had put away, and gives the reference back. Returns how many went.
 */
uint32_t p2m_settle(struct p2m *p, struct evict_page *pages, uint32_t count);

/* A copy of the object of a COMPRESSED page, by handle; it stays. False: it is no longer there. */
bool p2m_take_compressed(struct p2m *p, gfn_t gfn, uint64_t handle, void *buf, uint32_t *bytes);
/*
 * COMPRESSED, by handle: becomes SWAPPED in `slot`. False: it is no longer there; the caller drops the
 * slot. True: the object has been freed.
 */
bool p2m_restore_to_swap(struct p2m *p, gfn_t gfn, uint64_t handle, uint64_t slot);

/*
 * For measurements only: every copy brings a page in as a guest's own access would, so that what a guest pages out
 * itself is read from swap first, and what it is about to overwrite too (VSwapper's findings, unheeded).
 */
extern bool p2m_naive;

/*
 * The 2 MiB around `gfn` becomes one leaf again: all of its pages are RAM, and are moved to an aligned block,
 * 16 at a time; those that are touched meanwhile stay where they are, and it is left for another time. Takes as
 * long as 512 copies. ERR_BUSY: not all RAM, pinned, one leaf already, or touched; ERR_NOMEM: there is no block, or
 * the account's bound forbids 512 pages more for that while.
 */
status_t p2m_gather(struct p2m *p, gfn_t gfn) MUST_CHECK;

/* What faults and copies need for pages that are out: two pages for each of `cpus` CPUs, from the heap. Once, at boot.
 * ERR_NOMEM. */
status_t p2m_scratch_init(uint32_t cpus) MUST_CHECK;
