/*
 * The scan for pages of equal content, in the background: a few pages at a time, as fast as mm/share_rate.h
 * allows, which is never for more than 1% of CPU 0's time. docs/reclaim.md, "Sharing". Owner: CPU 0, from the
 * scheduler's loop.
 */
#pragma once

#include "mm/merge.h"
#include "vmm/guest.h"

/* What the table of hints takes of the heap, in pages, for a pool of so many. */
uint64_t sharing_heap_pages(uint64_t pool_pages);
/* Once at boot, after the pool. */
void sharing_init(void);

void sharing_guest_came(struct guest *g); /* before its first page is RAM */
void sharing_guest_gone(uint16_t id);     /* its p2m is destroyed */

/* Each turn of CPU 0's loop: a bounded step, if it is time for one. */
void sharing_poll(uint64_t now_ns);

struct p2m *sharing_p2m_of(uint16_t owner); /* a merge_p2m_fn */

struct sharing_stats {
	uint64_t rate;                             /* pages a second */
	uint64_t result[MERGE_BUSY + 1];           /* pages looked at, by what came of it */
	uint64_t scanned, gained, spent_ns, steps; /* pages that were hashed; frames that came free by it */
	uint64_t pages, saved; /* SHARED in all guests now; and how many more they are than their frames */
};
void sharing_stats(struct sharing_stats *out);
const char *sharing_result_name(enum merge_result r);
