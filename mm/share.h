/*
 * Content hints: where a page that looks like this one was last seen. docs/reclaim.md.
 *
 * A table of fixed size, keyed by a salted hash of the content. An entry is a hint and may be stale at any
 * time: a page of a guest may have changed since, a frame may have died. So nothing follows one without
 * looking: a frame is handed out with a reference, which share_find() can only get while it is a SHARED frame
 * of that domain; a page (owner, gfn) is for the p2m to look up, hold, and compare in full.
 *
 * Who may share with whom: those of one domain. A guest without a group (group 0, the default) is a domain
 * of its own, so that only its own pages are ever compared; guests that name the same group in their
 * configurations are one domain. Why this is opt-in: docs/threat-model.md.
 *
 * Lock: LOCK_RANK_SHARE, taken by each function itself; the frame allocator's below it. May be called with
 * p2m locks held.
 */
#pragma once

#include "mm/frame.h"

#define SHARE_WAYS 8u /* entries of a set */

static inline uint32_t share_domain(uint16_t owner, uint16_t group)
{
	return group ? 0x10000u | group : owner;
}

/*
 * The table lies in `pages` pages at `memory`, for good; 0: no hints, and nothing is ever found. `salt`: of
 * this boot, and nothing that a guest could know. Once, before the first use.
 */
void share_init(void *memory, uint64_t pages, uint64_t salt);

/* The key of a page's content. No lock. */
uint64_t share_hash(const void *page);

enum share_found {
	SHARE_NOTHING,
	SHARE_FRAME, /* a SHARED frame; a reference to it is the caller's now */
	SHARE_PAGE,  /* a page of a guest, of the same domain when it was offered */
};
struct share_hint {
	uint64_t hash;
	uint32_t domain;
	mfn_t mfn;      /* FRAME */
	uint16_t owner; /* PAGE */
	gfn_t gfn;
};

/*
 * Looks for content like that of page `gfn` of guest `owner`; never finds that page itself. A FRAME comes before a
 * PAGE. Whatever is found is to be compared in full; if it differs, the caller says so by share_wrong().
 */
enum share_found share_find(uint64_t hash, uint16_t owner, uint16_t group, gfn_t gfn,
	struct share_hint *out);

/* The page was looked at, and has this content. Replaces an older page of like content. */
void share_offer(uint64_t hash, uint16_t owner, uint16_t group, gfn_t gfn);

/* What share_find() gave was of other content, or not there: forget it. A frame's reference is given back
 * by the caller. */
void share_wrong(enum share_found found, const struct share_hint *hint);

/* frame_share_make(), and a hint to it. */
status_t share_make(struct frame_account *a, mfn_t mfn, uint64_t hash, uint16_t group) MUST_CHECK;
/* frame_share_put(): the frame's hint goes with the frame. For the zero frame, too. */
bool share_put(mfn_t mfn);
/* frame_share_take(): the same. */
status_t share_take(struct frame_account *a, mfn_t mfn, gfn_t gfn, uint32_t flags) MUST_CHECK;

/* A guest is gone: its number may become another's. Goes through the table, a page of it a hold. */
void share_forget(uint16_t owner);

struct share_counts {
	uint64_t entries; /* of the table */
	uint64_t pages, frames; /* entries in use, by what they name */
	uint64_t finds, found_pages, found_frames;
	uint64_t stale;    /* frames that had died, found out when wanted */
	uint64_t wrong;    /* hints that the caller refuted */
	uint64_t offers, replaced; /* a hint had to go for another */
	uint64_t shared_frames;    /* in existence now, the zero frame aside */
	uint64_t made, freed, taken; /* of these since boot */
};
void share_counts(struct share_counts *out);

/* For tests and the auditor: the table's own consistency; a message, or NULL. Bounded by its size. */
const char *share_check(void);
