/*
 * Pages of equal content come to lie in one frame: who finds them, compares them and makes them SHARED.
 * mm/share.h has the hints, mm/evict.h what happens to an entry. docs/reclaim.md, "Sharing".
 *
 * Control plane's CPU only, as all that holds and settles. No lock is held.
 */
#pragma once

#include "mm/evict.h"

typedef struct p2m *(*merge_p2m_fn)(uint16_t owner); /* a guest's p2m; NULL: gone */

/*
 * A frame of the same content as `content`, which is that of page `gfn` of `p`, compared in full; a reference
 * to it is the caller's. A page that is found is made SHARED first. MFN_NONE: there is none. `content` may be in a held
 * page: then what is said of it is true only if it is settled.
 */
mfn_t merge_find(struct p2m *p, gfn_t gfn, const void *content, merge_p2m_fn p2m_of);

enum merge_result {
	MERGE_SKIPPED, /* no page of 4 KiB that could be shared is there; nothing was looked at */
	MERGE_UNIQUE,  /* nothing equal is known; the next one that is will find it */
	MERGE_SHARED,  /* it maps another's frame now, and its own is free */
	MERGE_ZERO,    /* it was all zero: EMPTY, its frame is free */
	MERGE_TAKEN,   /* it was SHARED, and nobody else was left: it is RAM again */
	MERGE_BUSY,    /* it looked like another, but differs, or was touched meanwhile */
};
/*
 * Looks at one page. While it is hashed it may change: what comes of that is a hint and no more. `large`:
 * pages in 2 MiB leaves, too; the leaf is broken if an equal page is found. *next: where to look next.
 */
enum merge_result merge_page(struct p2m *p, gfn_t gfn, bool large, merge_p2m_fn p2m_of, gfn_t *next);
